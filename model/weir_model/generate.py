"""Generated sequences as `Flows`: labelled pairs, grafted onto hosts and times of real benign captures."""

from __future__ import annotations

import numpy as np

from .benign import benign
from .flows import CLASS_OF, Flows, stitch
from .malicious import bruteforce, c2, dos, exfil, scan
from .transport import Seq

MAKERS = {"benign": benign, "c2": c2, "exfil": exfil, "scan": scan, "bruteforce": bruteforce, "dos": dos}


def to_flows(seq: Seq, number: int, label: int, begin_us: int, low: bool) -> Flows:
    """One sequence as the flows of pair `number`, begun at `begin_us`; `low` says which end is the client."""
    a = seq.arrays()
    order = np.argsort(a["t"], kind="stable")
    a = {k: v[order] for k, v in a.items()}
    n = len(a["t"])
    whole = lambda k, dtype: np.round(np.maximum(a[k], 0)).astype(dtype)
    offset = a["t"] - min(0.0, float(a["t"][0])) if n else a["t"]
    return Flows(
        seq=np.full(n, number, np.int64),
        t=begin_us + np.round(offset * 1e6).astype(np.int64),
        dur=np.round(np.maximum(a["dur"], 0) * 1e6).astype(np.int64),
        sport=whole("sport", np.int32),
        dport=whole("dport", np.int32),
        proto=whole("proto", np.int16),
        fb=whole("fb", np.int64),
        bb=whole("bb", np.int64),
        fp=whole("fp", np.int64),
        bp=whole("bp", np.int64),
        flags=whole("flags", np.int16),
        has_flags=np.ones(n, bool),
        low=np.full(n, low),
        label=np.full(n, label, np.int8),
    )


def generate(count: dict[str, int], seed: int, hosts: list[tuple[int, int]] | None = None, makers=None) -> Flows:
    """`count` sequences of each class, seeded. `hosts` are (first, last) times in us of real benign hosts that the
    sequences are grafted onto; without them the times begin at an arbitrary day."""
    rng = np.random.default_rng(seed)
    hosts = hosts or [(1_700_000_000_000_000, 1_700_086_400_000_000)]
    parts, number = [], 0
    for name, n in count.items():
        make = (makers or MAKERS)[name]
        for _ in range(n):
            first, last = hosts[rng.integers(len(hosts))]
            begin = int(first + rng.uniform(0, max(last - first, 1)))
            flows = to_flows(make(rng), number, CLASS_OF[name], begin, bool(rng.integers(2)))
            if len(flows):
                parts.append(flows)
                number += 1
    return stitch(Flows(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in vars(parts[0])}).sorted())


def host_times(flows: Flows, pairs) -> list[tuple[int, int]]:
    """First and last time of each benign host, by capture."""
    benign_pairs = pairs[(pairs.label == 0) & ~pairs.held_out]
    rows = np.isin(flows.seq, benign_pairs.index.to_numpy())
    key = (pairs.scenario.astype(str) + "|" + pairs.host.astype(str)).reindex(flows.seq[rows]).to_numpy()
    t = flows.t[rows]
    out: dict[str, tuple[int, int]] = {}
    order = np.argsort(key, kind="stable")
    key, t = key[order], t[order]
    head = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    for a, lo, hi in zip(key[head], np.minimum.reduceat(t, head), np.maximum.reduceat(t, head)):
        out[a] = (int(lo), int(hi))
    return [out[k] for k in sorted(out)]
