"""Training sets: windows of real and generated pairs, under several exporter views, with weights by pair and family."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .augment import views
from .data import Corpus
from .features import features, windows_at
from .flows import Flows
from .generate import generate, host_times


@dataclass
class Set:
    """Windows of `steps` [n, 32, F], `stats` [n, S]; class `y`; the real pair (-1 = generated); `copy` 0 = as recorded."""

    steps: np.ndarray
    stats: np.ndarray
    y: np.ndarray
    pair: np.ndarray
    copy: np.ndarray

    def take(self, rows) -> "Set":
        return Set(self.steps[rows], self.stats[rows], self.y[rows], self.pair[rows], self.copy[rows])


def join(sets: list[Set]) -> Set:
    return Set(*(np.concatenate([getattr(s, k) for s in sets]) for k in ("steps", "stats", "y", "pair", "copy")))


def sample_windows(flows: Flows, rng, per_pair: int):
    """Up to `per_pair` windows of each pair: the last one, and others that end anywhere; half of these begin late too."""
    seq, first, count = np.unique(flows.seq, return_index=True, return_counts=True)
    k = np.minimum(per_pair, count)
    owner = np.repeat(np.arange(len(seq)), k)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(k) - k, k)
    end = np.where(index == 0, count[owner] - 1, (rng.random(len(owner)) * count[owner]).astype(np.int64))
    late = (index > 0) & (rng.random(len(owner)) < 0.5)
    start = np.where(late, first[owner] + (rng.random(len(owner)) * (end + 1)).astype(np.int64), 0)
    return windows_at(first[owner] + end, flows, start=start)


def real_set(corpus: Corpus, seed: int, copies: int, per_pair: int) -> Set:
    """Windows of the usable real pairs: as recorded, and `copies` times under random views."""
    rng = np.random.default_rng(seed)
    pairs = corpus.pairs
    usable = ((pairs.label >= 0) & ~pairs.held_out).to_numpy()
    flows = corpus.flows.take(usable[corpus.flows.seq])
    label = pairs.label.to_numpy()
    out = []
    for copy in range(copies + 1):
        f = flows if copy == 0 else views(flows, rng)
        w = sample_windows(f, rng, per_pair)
        steps, stats = features(f, w)
        out.append(Set(steps, stats, label[w.seq].astype(np.int64), w.seq, np.full(len(w), copy)))
    return join(out)


def generated_set(corpus: Corpus | None, seed: int, count: dict[str, int], per_pair: int = 2) -> Set:
    """Windows of generated pairs, each pair under one random view."""
    rng = np.random.default_rng(seed + 1)
    f = views(generate(count, seed, host_times(corpus.flows, corpus.pairs) if corpus else None), rng)
    label = np.zeros(int(f.seq.max()) + 1, np.int64)
    label[f.seq] = f.label
    w = sample_windows(f, rng, per_pair)
    steps, stats = features(f, w)
    return Set(steps, stats, label[w.seq], np.full(len(w), -1), np.zeros(len(w), np.int64))


# Of the weight of benign windows, the share of generated ones; and of that of positive windows. The look-alikes are by
# design what beacons and uploads resemble: with more weight they would say that most of what is regular is benign, and
# the captures say that little of what is benign is regular. Positives are few and of few families: there the generators
# say more than the captures.
GENERATED_BENIGN, GENERATED_POSITIVE = 0.1, 0.8


def weights(
    s: Set,
    pairs: pd.DataFrame,
    train: np.ndarray,
    generated: tuple[float, float] = (GENERATED_BENIGN, GENERATED_POSITIVE),
    positive_share: float = 0.4,
) -> np.ndarray:
    """Weights that sum to the number of windows used: a (source, family) counts as the square root of its pairs; real
    and generated, positive and benign get fixed shares. `train` is a mask by real pair; `generated` the share of the
    generated ones among the benign and among the positive."""
    generated_benign, generated_positive = generated
    w = np.zeros(len(s.y))
    real = s.pair >= 0
    used = real & train[np.maximum(s.pair, 0)]
    label = pairs.label.to_numpy()
    group = (
        pairs.source
        + "/"
        + pd.Series(np.where(label > 0, pairs.family, ""), pairs.index)
        + "/"
        + pairs.label.astype(str)
    ).to_numpy()
    size = pd.Series(group[train]).value_counts()
    windows = np.bincount(s.pair[used], minlength=len(pairs))
    p = s.pair[used]
    w[used] = 1.0 / np.sqrt(size.reindex(group[p]).to_numpy()) / windows[p]
    w[~real] = 1.0
    hostile = s.y > 0
    core = np.isin(s.y, (1, 2))
    for mask, share in (
        (used & ~hostile, (1 - generated_benign) * (1 - positive_share)),
        (used & core, (1 - generated_positive) * positive_share),
        (~real & ~hostile, generated_benign * (1 - positive_share)),
        (~real & core, generated_positive * positive_share),
        (used & hostile & ~core, 0.04),
        (~real & hostile & ~core, 0.06),
    ):
        if w[mask].sum() > 0:
            w[mask] *= share / w[mask].sum()
    return w * (w > 0).sum() / w.sum()
