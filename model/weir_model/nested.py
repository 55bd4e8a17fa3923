"""Nested validation: what is chosen is chosen inside the training folds, and judged on pairs that the choice never saw.

The protocol's five folds are the outer ones. The other four groups of sources of each outer fold make its inner folds:
one of them is left out in turn, together with the outer one. So an inner model saw neither the group that judges the
choice nor the one that judges the chosen; models of the same two groups are the same and are trained once: ten a setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from . import net as network
from . import trees as forest
from .data import BENIGN_GROUPS, POSITIVE_GROUPS, Corpus
from .evaluate import POSITIVE, RATES, Fold, measure, pair_scores, summary
from .folds import SEED, odds
from .sets import GENERATED_POSITIVE, Set, weights

# What is chosen among, with the kinds of trees. Each kind and share of generated benign pairs is trained; the rest costs no
# training.
GENERATED_BENIGN = (0.1, 0.3)
MIX = (1.0, 0.8, 0.6)
PERSISTENCE = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Choice:
    """A setting of everything that is chosen."""

    trees: str
    generated_benign: float
    mix: float
    persistence: float


def choices() -> list[Choice]:
    return [Choice(*each) for each in product(forest.KINDS, GENERATED_BENIGN, MIX, PERSISTENCE)]


@dataclass
class Scored:
    """Of one model pair: the trees' log odds and the network's log odds of c2 or exfil, of every scoring window."""

    trees: np.ndarray
    net: np.ndarray

    def by_pair(self, choice: Choice, seq: np.ndarray, number: np.ndarray, pairs: int) -> np.ndarray:
        more = choice.persistence * np.log(np.minimum(number, 32))
        return pair_scores(seq, choice.mix * self.trees + (1 - choice.mix) * self.net + more, pairs)


def groups(pairs: pd.DataFrame) -> list[Fold]:
    """Of each of the five groups its test pairs; `train` is what remains without it, its families and its benign sources."""
    source, family, label = pairs.source.to_numpy(str), pairs.family.to_numpy(str), pairs.label.to_numpy()
    usable, unicast = (label >= 0) & ~pairs.held_out.to_numpy(), pairs.unicast.to_numpy()
    out = []
    for number, (positives, benign) in enumerate(zip(POSITIVE_GROUPS, BENIGN_GROUPS)):
        theirs, calm = np.isin(source, positives), np.isin(source, benign)
        positive = usable & theirs & np.isin(label, POSITIVE) & unicast
        families = np.unique(family[positive])
        unseen = (theirs & (label > 0)) | (calm & (label == 0)) | np.isin(family, families[families != ""])
        negative = usable & calm & (label == 0) & unicast
        out.append(Fold(f"{'abcde'[number]}{number + 1}", usable & ~unseen, positive, negative))
    return out


def train(s: Set, corpus: Corpus, mask: np.ndarray, steps, stats, seed: int = SEED) -> Iterator[tuple[tuple, Scored]]:
    """Scores by models that are trained on the pairs of `mask`, for every setting that is trained."""
    for share in GENERATED_BENIGN:
        w = weights(s, corpus.pairs, mask, (share, GENERATED_POSITIVE))
        net = odds(network.softmax(network.logits(network.train(s.steps, s.y, w, seed), steps)))
        for name, settings in forest.KINDS.items():
            trees = forest.fit(s.stats, np.isin(s.y, POSITIVE), w, seed, **settings).raw(stats)
            yield (name, share), Scored(trees, net)


def scores(s: Set, corpus: Corpus, steps, stats, log=print) -> dict[tuple, dict[tuple, Scored]]:
    """By the groups that were left out, one or two of them, and by setting."""
    five, out = groups(corpus.pairs), {}
    for left in [(i,) for i in range(5)] + list(combinations(range(5), 2)):
        mask = np.logical_and.reduce([five[i].train for i in left])
        out[left] = dict(train(s, corpus, mask, steps, stats))
        log(f"trained without {' and '.join(five[i].name for i in left)}")
    return out


def merit(figures: dict[str, float]) -> float:
    """What a choice is judged by: the three figures of the protocol, alike."""
    return figures["auc"] + sum(figures[rate] for rate in RATES)


def inner(corpus: Corpus, five: list[Fold], outer: int, score) -> dict[str, float]:
    """The figures of one choice on the inner folds of `outer`; `score(left)` are the pairs' scores by the model without these."""
    tables, family = [], corpus.pairs.family.to_numpy(str)
    seen = np.unique(family[five[outer].positive])
    for other in range(5):
        if other != outer:
            fold = five[other]
            mine = Fold(fold.name, fold.train, fold.positive & ~np.isin(family, seen[seen != ""]), fold.negative)
            tables.append(measure(corpus.pairs, [mine], [score(tuple(sorted((outer, other))))]))
    return summary(pd.concat(tables))


def nested(corpus: Corpus, found: dict, seq: np.ndarray, number: np.ndarray) -> tuple[list[dict], list[np.ndarray], Choice]:
    """For each outer fold the choice of its inner folds with both figures; the chosen scores by fold; and the choice of all
    inner folds together, which is the one to ship."""
    five, n = groups(corpus.pairs), len(corpus.pairs)
    of = lambda choice: lambda left: found[left][choice.trees, choice.generated_benign].by_pair(choice, seq, number, n)
    merits = {c: [merit(inner(corpus, five, outer, of(c))) for outer in range(5)] for c in choices()}
    rows, chosen = [], []
    for outer, fold in enumerate(five):
        best = max(merits, key=lambda c: merits[c][outer])
        chosen.append(of(best)((outer,)))
        figures = summary(measure(corpus.pairs, [fold], [chosen[-1]]))
        settings = {
            "fold": fold.name,
            "columns a tree": forest.KINDS[best.trees]["colsample_bytree"],
            "generated benign": best.generated_benign,
            "trees' share": best.mix,
            "persistence": best.persistence,
            "inner sum": merits[best][outer],
        }
        rows.append(settings | figures)
    return rows, chosen, max(merits, key=lambda c: np.mean(merits[c]))
