"""Scores out of fold: every pair is scored by models that saw neither its source, nor its family, nor its benign group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import chunks
from . import net as network
from . import trees as forest
from .data import Corpus
from .evaluate import Fold, folds, pair_scores
from .features import Windows, features, ordinals, scoring_windows
from .sets import Set, generated_set, join, real_set, weights

SEED = 20
GENERATED = {"benign": 9000, "c2": 5500, "exfil": 2500, "scan": 400, "bruteforce": 400, "dos": 400}
COPIES, PER_PAIR = 1, 4


@dataclass
class Scored:
    """The scoring windows of the corpus, and per fold the trees' log odds and the network's probabilities of each."""

    windows: Windows
    stats: np.ndarray
    folds: list[Fold]
    trees: list[np.ndarray]
    real_trees: list[np.ndarray]  # the same trees trained without generated pairs
    net: list[np.ndarray]
    chunk_trees: list[np.ndarray]  # of the windows of `chunks.scoring`
    chunk_net: list[np.ndarray]


def training_set(corpus: Corpus) -> Set:
    return join([real_set(corpus, SEED, COPIES, PER_PAIR), generated_set(corpus, SEED + 100, GENERATED)])


def fit(s: Set, corpus: Corpus, train: np.ndarray, seed: int = SEED, labels: np.ndarray | None = None):
    """Trees and network on the pairs of `train` and all generated ones; `labels` replaces the classes (shuffled)."""
    y = s.y if labels is None else labels
    w = weights(s, corpus.pairs, train)
    trees = forest.fit(s.stats, np.isin(y, (1, 2)), w, seed)
    return trees, network.train(s.steps, y, w, seed)


def out_of_fold(corpus: Corpus, s: Set, log=print) -> Scored:
    w = scoring_windows(corpus.flows)
    steps, stats = features(corpus.flows, w)
    out = Scored(w, stats, folds(corpus.pairs), [], [], [], [], [])
    flows, windows, _ = chunks.scoring(corpus)
    chunk_steps, chunk_stats = features(flows, windows)
    for fold in out.folds:
        trees, net = fit(s, corpus, fold.train)
        alone = weights(s, corpus.pairs, fold.train, (0.0, 0.0))
        alone[s.pair < 0] = 0
        out.trees.append(trees.raw(stats))
        out.real_trees.append(forest.fit(s.stats, np.isin(s.y, (1, 2)), alone, SEED).raw(stats))
        out.net.append(network.softmax(network.logits(net, steps)))
        out.chunk_trees.append(trees.raw(chunk_stats))
        out.chunk_net.append(network.softmax(network.logits(net, chunk_steps)))
        log(f"fold {fold.name} done")
    return out


def odds(p: np.ndarray) -> np.ndarray:
    """The network's log odds of c2 or exfil, bounded as in the exported graph."""
    mine = np.clip(p[:, 1] + p[:, 2], 1e-6, 1)
    return np.log(mine) - np.log(np.clip(1 - p[:, 1] - p[:, 2], 1e-6, 1))


MIX = 0.8  # the trees' share of the fused log odds, a round number, not fitted


def mixed(trees: np.ndarray, p: np.ndarray) -> np.ndarray:
    return MIX * trees + (1 - MIX) * odds(p)


# What goes on is more than what happens once: log odds that each further window of a pair adds, by the logarithm of its
# number, up to `PERSISTENCE_WINDOWS`. A round number, not fitted.
PERSISTENCE, PERSISTENCE_WINDOWS = 0.5, 32


def persistence(number: np.ndarray) -> np.ndarray:
    """What is added to the fused log odds of a pair's window of this number, from 1."""
    return PERSISTENCE * np.log(np.minimum(number, PERSISTENCE_WINDOWS))


def by_pair(scored: Scored, values: list[np.ndarray], n: int) -> list[np.ndarray]:
    return [pair_scores(scored.windows.seq, v, n) for v in values]


def fused(scored: Scored) -> list[np.ndarray]:
    """The shipped log odds of every window, out of fold, before calibration."""
    more = persistence(ordinals(scored.windows))
    return [mixed(a, b) + more for a, b in zip(scored.trees, scored.net)]


PRIOR = 0.02  # of the scored pairs that are c2 or exfil, for the calibration: a choice, stated in the card


def calibrate(
    scored: Scored, corpus: Corpus, rounds: int = 200
) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slope and offset of a logistic fit on out-of-fold pairs, families alike, positives at `PRIOR`; and the values, labels, weights and pairs."""
    pairs, n = corpus.pairs, len(corpus.pairs)
    x, y, w, pair = [], [], [], []
    for fold, z in zip(scored.folds, by_pair(scored, fused(scored), n)):
        families = pairs.family[fold.positive]
        size = families.map(families.value_counts()).to_numpy()
        x += [z[fold.positive], z[fold.negative]]
        y += [np.ones(len(size)), np.zeros(fold.negative.sum())]
        w += [1 / size, np.ones(fold.negative.sum()) / fold.negative.sum()]
        pair += [np.flatnonzero(fold.positive), np.flatnonzero(fold.negative)]
    x, y, w, pair = (np.concatenate(part) for part in (x, y, w, pair))
    w = np.where(y > 0, w * PRIOR / w[y > 0].sum(), w * (1 - PRIOR) / w[y == 0].sum())
    a, b = 1.0, 0.0
    for _ in range(rounds):  # Newton's method on two parameters
        p = 1 / (1 + np.exp(-(a * x + b)))
        gradient = np.array([(w * (p - y) * x).sum(), (w * (p - y)).sum()])
        v = w * p * (1 - p)
        hessian = np.array([[(v * x * x).sum(), (v * x).sum()], [(v * x).sum(), v.sum()]]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        a, b = a - step[0], b - step[1]
        if np.abs(step).max() < 1e-10:
            break
    return float(a), float(b), x, y, w, pair


def calibration_error(p: np.ndarray, y: np.ndarray, w: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal weight."""
    order = np.argsort(p)
    edge = np.searchsorted(np.cumsum(w[order]) / w.sum(), np.linspace(0, 1, bins + 1)[1:-1])
    return float(sum(abs((w[i] * (p[i] - y[i])).sum()) for i in np.split(order, edge)) / w.sum())
