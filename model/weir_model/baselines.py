"""What the model is compared with: RITA's beacon score, exact, and plain rules."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .features import STAT_NAMES
from .flows import Flows


def _middle(x: np.ndarray) -> float:
    return float(np.median(x)) if len(x) else 0.0


def _stat(values: np.ndarray, default: float) -> float:
    """RITA v5, analysis/beacons.go: skew and median absolute deviation, rounded to three places."""
    x = np.sort(values)
    half = len(x) // 2
    q1, q2, q3 = _middle(x[:half]), _middle(x), _middle(x[len(x) - half :])
    skew = (q1 + q3 - 2 * q2) / (q3 - q1) if q3 - q1 >= 10 and q2 not in (q1, q3) else 0.0
    mad = _middle(np.abs(x - q2))
    mad_score = (q2 - mad) / q2 if q2 >= 1 else default
    return round((max(1 - abs(skew), 0) + max(mad_score, 0)) / 2, 3)


def rita(seconds: np.ndarray, octets: np.ndarray, first: int, last: int) -> float:
    """RITA v5's beacon score of one source and destination: `seconds` and source `octets` of its connections, in a data
    set that spans [first, last] seconds. 0 with fewer than four different seconds."""
    t = np.unique(seconds)
    if len(t) < 4 or len(octets) < 3:
        return 0.0
    deltas = np.diff(t)
    ts = _stat(deltas, 1.0) if len(deltas) >= 3 else 0.0
    ds = _stat(octets.astype(float), 0.0)
    width = max(last - first, 1)
    bins = np.bincount(np.minimum((t - first) * 24 // width, 23), minlength=24)
    cv = bins.std() / bins.mean()
    hist = round(1 - cv, 3) if cv <= 1 else 0.0
    bars = int((bins > 0).sum())
    if bars >= 11:
        size = int(np.ceil(bins.max() * 0.05))
        counts = np.sort(np.unique(bins[bins > 0] // size, return_counts=True)[1])[::-1]
        hist = max(hist, min(counts[:2].sum() / max(bars - 1, 1), 1.0))
    dur = 0.0
    if bars >= 6:
        run = longest = 0
        for b in np.concatenate([bins, bins]):
            run = run + 1 if b > 0 else 0
            longest = max(longest, run)
        ceil3 = lambda v: min(np.ceil(v * 1000) / 1000, 1.0)
        dur = max(ceil3((t[-1] - t[0]) / width), ceil3(min(longest, 24) / 12))
    return round(0.25 * (ts + ds + dur + hist), 3)


def rita_pairs(flows: Flows, pairs: pd.DataFrame) -> np.ndarray:
    """RITA's score of each pair: the larger of its two directions; the data set is the capture."""
    second = flows.t // 1_000_000
    scenario = pairs.scenario.reindex(flows.seq).to_numpy()
    span = pd.DataFrame({"s": scenario, "t": second}).groupby("s").t.agg(["min", "max"])
    out = np.zeros(len(pairs))
    key = flows.seq * 2 + flows.low
    order = np.argsort(key, kind="stable")
    head = np.flatnonzero(np.append(True, np.diff(key[order]) != 0))
    for rows in np.split(order, head[1:]):
        if len(rows) >= 4:
            seq = flows.seq[rows[0]]
            low, high = span.loc[pairs.scenario[seq]]
            out[seq] = max(out[seq], rita(second[rows], flows.fb[rows], int(low), int(high)))
    return out


def rules(stats: np.ndarray) -> np.ndarray:
    """What an analyst would write down, as a score: exfiltration by volume and ratio, tunnels in DNS, clocks that are not known ones."""
    s = {name: stats[:, i] for i, name in enumerate(STAT_NAMES)}
    out = 0.3 * s["rita_score"]
    raise_to = lambda mask, value: np.where(mask, np.maximum(out, value), out)
    out = raise_to(
        (s["rita_score"] >= 0.7) & (s["log_count"] >= np.log(9)) & (s["infra_share"] < 0.5), 0.4 + 0.3 * s["rita_score"]
    )
    out = raise_to((s["dns_share"] > 0.5) & (s["up_per_packet"] * 1500 > 110) & (s["log_up_total"] > np.log(1e5)), 0.8)
    return raise_to((s["log_up_total"] >= np.log(1e6)) & (s["up_down_ratio"] >= np.log(10.0)), 0.9)
