"""Exporter views: the same traffic as other exporters, clocks and paths would have reported it."""

from __future__ import annotations

import numpy as np

from .flows import Flows, stitch
from .transport import Rng


def sample(f: Flows, rng: Rng, interval, scale: bool = True) -> Flows:
    """Random packet sampling, one in `interval` (a number or an array by row); counters scaled up as the sensor does."""
    n = np.broadcast_to(np.asarray(interval, np.int64), len(f))
    kf, kb = rng.binomial(f.fp, 1.0 / n), rng.binomial(f.bp, 1.0 / n)
    seen = kf + kb
    keep = seen > 0
    factor = n if scale else np.ones_like(n)
    octets = lambda b, p, k: np.round(b / np.maximum(p, 1) * k).astype(np.int64) * factor
    lead = np.where(n > 1, f.dur / (seen + 1.0), 0)
    left = np.where(n > 1, f.dur * np.maximum(seen - 1, 0) / (seen + 1.0), f.dur)
    out = f.with_(
        fb=np.where(n > 1, octets(f.fb, f.fp, kf), f.fb),
        bb=np.where(n > 1, octets(f.bb, f.bp, kb), f.bb),
        fp=kf * factor,
        bp=kb * factor,
        t=f.t + np.round(lead).astype(np.int64),
        dur=np.round(left).astype(np.int64),
    )
    return out.take(keep).sorted()


def cut(f: Flows, seconds: float) -> Flows:
    """The records of an exporter with an active timeout of `seconds`: long flows in equal parts."""
    parts = np.maximum(np.ceil(f.dur / (seconds * 1e6)), 1).astype(np.int64)
    parts = np.minimum(parts, np.maximum(f.fp, 1))
    row = np.repeat(np.arange(len(f)), parts)
    index = np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
    k = parts[row]
    split = lambda x: x[row] * (index + 1) // k - x[row] * index // k
    length = f.dur[row] // k
    return (
        f.take(row)
        .with_(
            t=f.t[row] + index * length,
            dur=length,
            fb=split(f.fb),
            bb=split(f.bb),
            fp=split(f.fp),
            bp=split(f.bp),
            flags=np.where((k > 1) & (index < k - 1), f.flags[row] & ~5, f.flags[row]),
        )
        .sorted()
    )


def one_way(f: Flows, rows: np.ndarray) -> Flows:
    """Where `rows`: only the initiator's half is exported."""
    return f.with_(bb=np.where(rows, 0, f.bb), bp=np.where(rows, 0, f.bp))


def lose(f: Flows, rng: Rng, share) -> Flows:
    """Records lost on the way, each with probability `share` (a number or an array by row)."""
    return f.take(rng.random(len(f)) >= share)


def clock(f: Flows, rng: Rng, sigma_us, unit_us) -> Flows:
    """Noisy clocks: starts with normal noise, then cut to `unit_us`. Both are numbers or arrays by row."""
    t = f.t + np.round(rng.normal(size=len(f)) * sigma_us).astype(np.int64)
    unit = np.broadcast_to(np.asarray(unit_us, np.int64), len(f))
    return f.with_(t=t // unit * unit, dur=f.dur // unit * unit).sorted()


def truncate(f: Flows, share: np.ndarray) -> Flows:
    """TCP flows of which only a part was seen (`share` by row): the capture began late or ended early."""
    part = (f.proto == 6) & (share < 1)
    less = lambda x, low: np.where(part, np.maximum(np.round(x * share).astype(np.int64), np.minimum(x, low)), x)
    fp, bp = less(f.fp, 1), less(f.bp, 0)
    octets = lambda b, p, k: np.where(part, np.round(b * (k / np.maximum(p, 1))).astype(np.int64), b)
    return f.with_(fb=octets(f.fb, f.fp, fp), bb=octets(f.bb, f.bp, bp), fp=fp, bp=bp, dur=less(f.dur, 0))


def nat(f: Flows, rng: Rng, share: float) -> Flows:
    """Two hosts behind one address: a share of the pairs takes in the flows of another pair of the same label."""
    label = np.zeros(int(f.seq.max()) + 1, np.int64)
    label[f.seq] = f.label
    seq, begin = np.unique(f.seq, return_index=True)
    start = np.zeros(len(label), np.int64)
    start[seq] = f.t[begin]
    target = np.arange(len(label))
    for value in np.unique(label[seq]):
        mine = seq[label[seq] == value]
        guests = mine[rng.random(len(mine)) < share]
        target[guests] = rng.choice(mine, len(guests))
    # A guest of a guest stays where it is.
    target = np.where(target[target] == target, target, np.arange(len(label)))
    moved = target[f.seq]
    shift = np.where(moved != f.seq, start[moved] - start[f.seq], 0)
    return f.with_(seq=moved, t=f.t + shift).sorted()


def views(f: Flows, rng: Rng, strength: float = 1.0) -> Flows:
    """A random exporter a pair: half are left as they are; the others get sampling, one-way export, loss, coarse clocks.
    The same odds for every class: the view must tell nothing."""
    n = int(f.seq.max()) + 1
    kind = rng.random(n) / max(strength, 1e-9)
    pair = f.seq
    sampled = (kind < 0.15)[pair]
    interval = np.where(sampled, np.round(np.exp(rng.uniform(np.log(10), np.log(1000), n))).astype(np.int64)[pair], 1)
    out = sample(f, rng, interval)
    out = one_way(out, ((kind >= 0.15) & (kind < 0.22))[out.seq])
    out = lose(out, rng, np.where((kind >= 0.22) & (kind < 0.34), rng.uniform(0.01, 0.3, n), 0)[out.seq])
    coarse = (kind >= 0.3) & (kind < 0.46)
    sigma = np.where(coarse, np.exp(rng.uniform(np.log(1e3), np.log(1e6), n)), 0)
    unit = np.where(coarse, rng.choice([1, 1000, 1_000_000], n), 1)
    out = clock(out, rng, sigma[out.seq], unit[out.seq])
    partial = np.where((kind >= 0.46) & (kind < 0.52), rng.random(n), 1.0)
    out = truncate(out, np.where(partial[out.seq] < 1, rng.random(len(out)), 1.0))
    blind = rng.random(n) < 0.25 * strength
    known = out.has_flags & ~(blind[out.seq] & (out.proto == 6))
    return stitch(out.with_(has_flags=known, flags=np.where(known, out.flags, 0)))
