"""Sequences in LogLM's sense, and the score of *not benign*: what IoT-23 capture 34-1 is judged by.

A sequence is up to 50 consecutive flows of a pair with gaps of at most an hour. Its score is the largest 1 - p(benign) of
its windows. The threshold is the one of the best F1 on sequences that the models out of fold never saw, benign ones
and hostile ones weighing the same, families alike: it knows nothing of the capture that it is used on.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .data import POSITIVE_GROUPS, Corpus
from .evaluate import Fold
from .features import Windows, scoring_windows
from .flows import Flows

LENGTH, GAP_US = 50, 3_600_000_000


def chunked(flows: Flows) -> Flows:
    """The same flows; `seq` numbers sequences in place of pairs."""
    head = np.append(True, (flows.seq[1:] != flows.seq[:-1]) | (flows.t[1:] - flows.t[:-1] > GAP_US))
    first = np.maximum.accumulate(np.where(head, np.arange(len(flows)), 0))
    key = np.stack([np.cumsum(head), (np.arange(len(flows)) - first) // LENGTH])
    return flows.with_(seq=np.unique(key, axis=1, return_inverse=True)[1].astype(np.int64))


def labels(chunks: Flows) -> np.ndarray:
    """1 with any hostile flow, 0 if all are benign, else -1."""
    of = lambda x: 1 if (x > 0).any() else 0 if (x == 0).all() else -1
    return pd.Series(chunks.label).groupby(chunks.seq).agg(of).to_numpy()


def scores(windows: Windows, p: np.ndarray, n: int) -> np.ndarray:
    """Of each of `n` sequences the largest 1 - p(benign)."""
    out = np.zeros(n)
    np.maximum.at(out, windows.seq, 1.0 - p[:, 0].astype(float))
    return out


def scoring(corpus: Corpus) -> tuple[Flows, Windows, np.ndarray]:
    """The corpus without the capture that is held out, as sequences; their windows; and the pair of each."""
    flows = corpus.flows.take(~corpus.pairs.held_out.to_numpy()[corpus.flows.seq])
    chunks = chunked(flows)
    pair = np.zeros(int(chunks.seq.max()) + 1, np.int64)
    pair[chunks.seq] = flows.seq
    return chunks, scoring_windows(chunks), pair


def threshold(corpus: Corpus, folds: list[Fold], probabilities: list[np.ndarray]) -> tuple[float, float]:
    """The threshold of the best F1 out of fold, and that F1; `probabilities` are those of `scoring`'s windows, by fold."""
    chunks, windows, pair = scoring(corpus)
    label = labels(chunks)
    source, family = corpus.pairs.source.to_numpy(str)[pair], corpus.pairs.family.to_numpy(str)[pair]
    kind = corpus.pairs.label.to_numpy()[pair].astype(str)
    value, truth, weight = [], [], []
    for fold, group, p in zip(folds, POSITIVE_GROUPS, probabilities):
        score = scores(windows, p, len(label))
        hostile = (label == 1) & np.isin(source, group)
        benign = (label == 0) & fold.negative[pair]
        names = pd.Series(family[hostile] + "/" + kind[hostile])
        value += [score[hostile], score[benign]]
        truth += [np.ones(hostile.sum()), np.zeros(benign.sum())]
        weight += [1 / names.map(names.value_counts()).to_numpy(), np.ones(benign.sum()) / benign.sum()]
    value, truth, weight = (np.concatenate(x) for x in (value, truth, weight))
    weight = np.where(truth > 0, weight / weight[truth > 0].sum(), weight / weight[truth == 0].sum())
    order = np.argsort(-value, kind="stable")
    hit, false = np.cumsum((weight * truth)[order]), np.cumsum((weight * (1 - truth))[order])
    f1 = 2 * hit / (hit + false + 1.0)
    best = int(f1.argmax())
    return float(value[order][best]), float(f1[best])
