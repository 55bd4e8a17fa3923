"""The evaluation protocol: folds of unseen positive sources and one unseen group of benign sources, figures by family.

A fold leaves out of the training one group of positive sources, every pair of a family that these hold (whatever its
source), and one group of benign sources. Its test set is the positives of the former and the benign pairs of the
latter. Scores are compared within the fold. A figure of a family is averaged over its pairs, an aggregate over the
families (macro average); the intervals are of a bootstrap over families and, inside a family and among the negatives, over pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .data import BENIGN_GROUPS, POSITIVE_GROUPS

POSITIVE = (1, 2)  # c2, exfil


@dataclass
class Fold:
    name: str
    train: np.ndarray  # bool by pair
    positive: np.ndarray  # test positives
    negative: np.ndarray  # test negatives


def folds(pairs: pd.DataFrame, every: bool = False) -> list[Fold]:
    """Five folds (positive group i with benign group i), or all twenty-five if `every`."""
    source, family = pairs.source.to_numpy(str), pairs.family.to_numpy(str)
    label = pairs.label.to_numpy()
    usable = (label >= 0) & ~pairs.held_out.to_numpy()
    unicast = pairs.unicast.to_numpy()
    out = []
    for i, positives in enumerate(POSITIVE_GROUPS):
        for j in range(len(BENIGN_GROUPS)) if every else [i]:
            left_positive, left_benign = np.isin(source, positives), np.isin(source, BENIGN_GROUPS[j])
            positive = usable & left_positive & np.isin(label, POSITIVE) & unicast
            families = np.unique(family[positive])
            unseen = (
                (left_positive & (label > 0)) | (left_benign & (label == 0)) | np.isin(family, families[families != ""])
            )
            out.append(
                Fold(f"{'abcde'[i]}{j + 1}", usable & ~unseen, positive, usable & left_benign & (label == 0) & unicast)
            )
    return out


def pair_scores(seq: np.ndarray, score: np.ndarray, n: int) -> np.ndarray:
    """A pair's score: the largest of its windows' scores; -inf for a pair without one."""
    out = np.full(n, -np.inf)
    np.maximum.at(out, seq, score)
    return out


def ranks_below(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Of each positive, the share of negatives that score lower (ties count half): its mean is the AUC."""
    ordered = np.sort(negative)
    return (np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")) / (
        2.0 * len(ordered)
    )


def detected(positive: np.ndarray, negative: np.ndarray, rate: float) -> np.ndarray:
    """Of each positive, whether it scores above a threshold that at most `rate` of the negatives exceed."""
    ordered = np.sort(negative)[::-1]
    return positive > ordered[int(np.floor(rate * len(ordered)))]


RATES = {"recall@1e-2": 1e-2, "recall@1e-3": 1e-3}


def measure(
    pairs: pd.DataFrame, fold_list: list[Fold], scores: list[np.ndarray], keep: np.ndarray | None = None
) -> pd.DataFrame:
    """One row a (fold, family): pairs and the mean of AUC and recalls. `keep` restricts both sides (by pair)."""
    keep = np.ones(len(pairs), bool) if keep is None else keep
    rows = []
    for fold, score in zip(fold_list, scores):
        negative = score[fold.negative & keep]
        frame = pairs[fold.positive & keep]
        for (source, family), members in frame.groupby(["source", "family"]).groups.items():
            value = score[members]
            row = {
                "fold": fold.name,
                "source": source,
                "family": family,
                "pairs": len(members),
                "auc": ranks_below(value, negative).mean(),
            }
            rows.append(row | {name: detected(value, negative, rate).mean() for name, rate in RATES.items()})
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> dict[str, float]:
    """Macro average over families (a family in several folds or sources is averaged first)."""
    return table.groupby("family")[["auc", *RATES]].mean().mean().to_dict()


def bootstrap(pairs, fold_list, scores, keep=None, rounds: int = 60, seed: int = 5) -> dict[str, tuple[float, float]]:
    """95 % intervals of `summary`: families, their pairs and the negatives drawn with replacement."""
    rng = np.random.default_rng(seed)
    keep = np.ones(len(pairs), bool) if keep is None else keep
    parts = []
    for fold, score in zip(fold_list, scores):
        frame = pairs[fold.positive & keep]
        members = [(family, score[m]) for (_, family), m in frame.groupby(["source", "family"]).groups.items()]
        parts.append((score[fold.negative & keep], members))
    names = sorted({family for _, members in parts for family, _ in members})
    draws = []
    for _ in range(rounds):
        by_family: dict[str, list] = {name: [] for name in names}
        for negative, members in parts:
            drawn = rng.choice(negative, len(negative))
            for family, value in members:
                value = rng.choice(value, len(value))
                by_family[family].append(
                    [ranks_below(value, drawn).mean(), *(detected(value, drawn, r).mean() for r in RATES.values())]
                )
        means = np.array([np.mean(by_family[name], axis=0) for name in names])
        draws.append(means[rng.integers(0, len(means), len(means))].mean(0))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(["auc", *RATES], low, high)}
