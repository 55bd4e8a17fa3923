"""Boosted trees on the statistics of a window: fitted by LightGBM, kept as arrays, evaluated and exported as tensor operations."""

from __future__ import annotations

from dataclasses import dataclass

import lightgbm
import numpy as np

LEAVES = 15
# What nested validation chooses among: the share of columns that a tree sees, and the windows that a leaf holds at least.
KINDS = {
    "forty": dict(colsample_bytree=0.4, min_child_samples=40),
    "twenty": dict(colsample_bytree=0.2, min_child_samples=100),
}
KIND = "forty"
SETTINGS = KINDS[KIND] | dict(
    num_leaves=LEAVES,
    learning_rate=0.06,
    n_estimators=200,
    subsample=0.7,
    subsample_freq=1,
    reg_lambda=5.0,
    max_bin=127,
    verbose=-1,
    extra_trees=True,
    deterministic=True,
    force_row_wise=True,
)


@dataclass
class Trees:
    """`feature` int64 and `threshold` float32 [T, N]: go left where feature <= threshold. `path` float32 [T, N, L]: 1 where
    the leaf lies left of the node, -1 right, 0 elsewhere; `lefts` [T, L] counts the ones; `value` [T, L]."""

    feature: np.ndarray
    threshold: np.ndarray
    path: np.ndarray
    lefts: np.ndarray
    value: np.ndarray

    def raw(self, stats: np.ndarray) -> np.ndarray:
        """The sum of the leaves (log odds) of each row, by the same operations as the exported graph."""
        out = np.zeros(len(stats))
        for f, t, p, l, v in zip(self.feature, self.threshold, self.path, self.lefts, self.value):
            out += np.maximum((stats[:, f] <= t).astype(np.float32) @ p - (l - 1), 0) @ v
        return out


def fit(stats: np.ndarray, positive: np.ndarray, w: np.ndarray, seed: int, threads: int = 1, **settings) -> Trees:
    """Fits log odds of `positive` on rows of positive weight."""
    used = w > 0
    model = lightgbm.LGBMClassifier(**(SETTINGS | settings), random_state=seed, n_jobs=threads)
    model.fit(stats[used], positive[used], sample_weight=w[used])
    return arrays(model.booster_)


def arrays(booster: lightgbm.Booster) -> Trees:
    trees = [t["tree_structure"] for t in booster.dump_model()["tree_info"]]
    n, l = LEAVES - 1, LEAVES
    out = Trees(
        np.zeros((len(trees), n), np.int64),
        np.full((len(trees), n), -np.inf, np.float32),
        np.zeros((len(trees), n, l), np.float32),
        np.full((len(trees), l), 64.0, np.float32),
        np.zeros((len(trees), l), np.float32),
    )
    for k, root in enumerate(trees):
        _fill(out, k, root)
    return out


def _fill(out: Trees, k: int, root: dict) -> None:
    """Tree `k` from LightGBM's nested description; nodes and leaves are numbered as they are met."""
    nodes = leaves = 0
    left_to_walk: list[tuple[dict, list[tuple[int, float]]]] = [(root, [])]
    while left_to_walk:
        node, above = left_to_walk.pop()
        if "leaf_value" in node:
            for index, side in above:
                out.path[k, index, leaves] = side
            out.lefts[k, leaves] = sum(side > 0 for _, side in above)
            out.value[k, leaves] = node["leaf_value"]
            leaves += 1
            continue
        assert node["decision_type"] == "<="
        # Rounded towards minus infinity, a float32 feature compares as it does in double precision.
        t = np.float32(node["threshold"])
        out.threshold[k, nodes] = np.nextafter(t, np.float32(-np.inf)) if float(t) > node["threshold"] else t
        out.feature[k, nodes] = node["split_feature"]
        left_to_walk.append((node["right_child"], above + [(nodes, -1.0)]))
        left_to_walk.append((node["left_child"], above + [(nodes, 1.0)]))
        nodes += 1
