"""Windows of 32 events and their features: a matrix of steps and a vector of statistics. Specified in FEATURES.md.

All arithmetic is float64; the results are stored as float32. A window holds its events right-aligned, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .events import SERVICES, WINDOW, Events
from .flows import Flows

STEP_NAMES = [
    "valid",
    "log_up",
    "log_down",
    "log_up_packets",
    "log_down_packets",
    "log_duration",
    "log_gap",
    "gap_ratio",
    "by_client",
    "answered",
    "reset",
    "flags_known",
    "tcp",
    "udp",
    "icmp",
] + [f"service_{s}" for s in SERVICES]

STAT_NAMES = [
    "log_count",
    "log_span",
    "log_gap_q10",
    "log_gap_median",
    "log_gap_q90",
    "gap_mad",
    "gap_cv",
    "gap_near_median",
    "gap_multiple",
    "gap_short",
    "rita_ts",
    "rita_ds",
    "rita_hist",
    "rita_dur",
    "rita_score",
    "log_up_q10",
    "log_up_median",
    "log_up_q90",
    "up_mad",
    "log_down_q10",
    "log_down_median",
    "log_down_q90",
    "down_mad",
    "up_distinct",
    "down_distinct",
    "up_mode",
    "down_mode",
    "log_up_packets_median",
    "log_down_packets_median",
    "log_duration_median",
    "log_duration_max",
    "duty",
    "up_per_packet",
    "down_per_packet",
    "log_up_total",
    "log_down_total",
    "up_down_ratio",
    "up_heavier",
    "log_up_rate",
    "log_up_max",
    "up_concentration",
    "answered_share",
    "reset_share",
    "flags_share",
    "client_share",
    "log_ports",
    "port_mode",
    "tcp_share",
    "udp_share",
    "icmp_share",
    "log_packet_rate",
] + [f"{s}_share" for s in SERVICES]


@dataclass
class Windows:
    """`rows` int64 [n, 32]: rows of the flows, right-aligned, oldest first, -1 = empty; `seq` int64 [n]."""

    rows: np.ndarray
    seq: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def windows_at(ends: np.ndarray, flows: Flows, width: int = WINDOW, start: np.ndarray | None = None) -> Windows:
    """The window that ends at each row of `ends`: the last `width` flows of the same pair (not before row `start`)."""
    first = np.searchsorted(flows.seq, flows.seq[ends], side="left")
    if start is not None:
        first = np.maximum(first, start)
    rows = ends[:, None] + np.arange(1 - WINDOW, 1)[None, :]
    keep = (rows >= first[:, None]) & (rows > ends[:, None] - width)
    return Windows(np.where(keep, rows, -1), flows.seq[ends])


def scoring_windows(flows: Flows) -> Windows:
    """Windows as `weir score` cuts them: one after every 32 flows of a pair, and one that ends with its last flow."""
    first = np.searchsorted(flows.seq, flows.seq, side="left")
    position = np.arange(len(flows)) - first
    last = np.append(flows.seq[1:] != flows.seq[:-1], True)
    return windows_at(np.flatnonzero(last | ((position + 1) % WINDOW == 0)), flows)


def ordinals(windows: Windows) -> np.ndarray:
    """Of each of `scoring_windows`, its number among its pair's, from 1."""
    order = np.argsort(windows.seq, kind="stable")
    seq = windows.seq[order]
    head = np.append(True, seq[1:] != seq[:-1])
    first = np.maximum.accumulate(np.where(head, np.arange(len(seq)), 0))
    out = np.empty(len(seq), np.int64)
    out[order] = np.arange(len(seq)) - first + 1
    return out


def _pick(ordered: np.ndarray, count: np.ndarray, num: int, den: int) -> np.ndarray:
    """The order statistic of index num * (count - 1) div den; 0 where count is 0. `ordered` has +inf at its end."""
    index = np.maximum(count - 1, 0) * num // den
    value = np.take_along_axis(ordered, index[:, None], 1)[:, 0]
    return np.where(count > 0, value, 0.0)


def _ordered(x: np.ndarray, valid: np.ndarray) -> np.ndarray:
    return np.sort(np.where(valid, x, np.inf), axis=1)


def _mad_share(x: np.ndarray, valid: np.ndarray, median: np.ndarray, floor: float) -> np.ndarray:
    """Median absolute deviation over max(median, floor), at most 4."""
    count = valid.sum(1)
    deviation = _pick(_ordered(np.abs(x - median[:, None]), valid), count, 1, 2)
    return np.minimum(deviation / np.maximum(median, floor), 4.0)


def _runs(ordered: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values and the longest run of equal values, of rows sorted with +inf at the end."""
    width = ordered.shape[1]
    inside = np.arange(width)[None, :] < count[:, None]
    fresh = np.ones_like(inside)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    begin = np.maximum.accumulate(np.where(fresh, np.arange(width)[None, :], 0), axis=1)
    length = np.where(inside, np.arange(width)[None, :] - begin + 1, 0)
    return (fresh & inside).sum(1), length.max(1)


def _rita_middle(ordered: np.ndarray, lo: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The median (mean of the middle two) of `n` values from index `lo` on; 0 where n is 0."""
    take = lambda i: np.take_along_axis(ordered, np.clip(i, 0, ordered.shape[1] - 1)[:, None], 1)[:, 0]
    value = (take(lo + np.maximum(n - 1, 0) // 2) + take(lo + n // 2)) / 2.0
    return np.where(n > 0, value, 0.0)


def rita_stat(x: np.ndarray, valid: np.ndarray, default: float) -> np.ndarray:
    """RITA v5's statistic of gaps or sizes (skew and median absolute deviation), 0 with fewer than 3 values.
    Not rounded to three places as RITA does: a rounded feature has steps that two machines may take apart."""
    ordered, n = _ordered(x, valid), valid.sum(1)
    half = n // 2
    zero = np.zeros_like(n)
    q1, q2, q3 = (
        _rita_middle(ordered, zero, half),
        _rita_middle(ordered, zero, n),
        _rita_middle(ordered, n - half, half),
    )
    spread = q3 - q1
    with np.errstate(all="ignore"):
        skew = np.where(
            (spread >= 10) & (q2 != q1) & (q2 != q3), (q1 + q3 - 2 * q2) / np.where(spread == 0, 1, spread), 0.0
        )
        mad = _rita_middle(_ordered(np.abs(x - q2[:, None]), valid), zero, n)
        mad_score = np.where(q2 >= 1, (q2 - mad) / np.where(q2 >= 1, q2, 1), default)
    score = (np.maximum(1 - np.abs(skew), 0) + np.maximum(mad_score, 0)) / 2
    return np.where(n >= 3, score, 0.0)


def rita_histogram(
    seconds: np.ndarray, valid: np.ndarray, begin: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """RITA's histogram and duration scores over 24 bins of [begin, end] (seconds), for times from `begin` on."""
    n = valid.sum(1)
    width = np.maximum(end - begin, 1e-9)
    # Whole numbers times 24, divided without remainder: no bin depends on rounding.
    place = np.minimum(((seconds - begin[:, None]) * 24 // width[:, None]), 23).astype(np.int64)
    bins = np.zeros((len(n), 24), np.int64)
    r, c = np.nonzero(valid)
    np.add.at(bins, (r, np.clip(place[r, c], 0, 23)), 1)
    mean = bins.sum(1) / 24.0
    sd = np.sqrt(((bins - mean[:, None]) ** 2).sum(1) / 24.0)
    cv = np.where(mean > 0, sd / np.where(mean > 0, mean, 1), 2.0)
    cv_score = np.where(cv > 1, 0.0, 1 - cv)
    size = np.maximum((bins.max(1) + 19) // 20, 1)
    level = np.where(bins > 0, bins // size[:, None], -1)
    bars = (bins > 0).sum(1)
    counts = np.zeros((len(n), 22), np.int64)
    r, c = np.nonzero(bins)
    np.add.at(counts, (r, np.clip(level[r, c], 0, 21)), 1)
    top = np.sort(counts, axis=1)[:, -2:].sum(1)
    bimodal = np.where(bars >= 11, np.minimum(top / np.maximum(bars - 1, 1), 1.0), 0.0)
    hist = np.maximum(cv_score, bimodal)
    twice = np.concatenate([bins > 0, bins > 0], axis=1)
    longest, run = np.zeros(len(n), np.int64), np.zeros(len(n), np.int64)
    for i in range(48):
        run = np.where(twice[:, i], run + 1, 0)
        longest = np.maximum(longest, run)
    longest = np.minimum(longest, 24)
    last = np.where(valid, seconds, -np.inf).max(1)
    first = np.where(valid, seconds, np.inf).min(1)
    coverage = np.where(n > 0, np.clip((last - first) / width, 0, 1), 0.0)
    dur = np.where(bars >= 6, np.maximum(coverage, np.minimum(longest / 12.0, 1.0)), 0.0)
    return np.where(n > 0, hist, 0.0), dur


def features(flows: Flows, windows: Windows, events: Events | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Steps float32 [n, 32, len(STEP_NAMES)] and statistics float32 [n, len(STAT_NAMES)] of the windows."""
    events = events or Events(flows)
    parts = [_features(events, windows.rows[i : i + 65536]) for i in range(0, len(windows), 65536)]
    if not parts:
        return np.zeros((0, WINDOW, len(STEP_NAMES)), np.float32), np.zeros((0, len(STAT_NAMES)), np.float32)
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _features(e: Events, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    v = rows >= 0
    at = np.maximum(rows, 0)
    n = v.sum(1)
    col = lambda x: np.where(v, x[at], 0)
    low = v & e.low[at]
    # The client is the end that opened most connections; the newest one decides a tie.
    lows = low.sum(1)
    client_low = np.where(2 * lows == n, low[:, -1], 2 * lows > n)
    by_client = v & (low == client_low[:, None])
    fb, bb, fp, bp = col(e.fb), col(e.bb), col(e.fp), col(e.bp)
    up, down = np.where(by_client, fb, bb), np.where(by_client, bb, fb)
    pu, pd = np.where(by_client, fp, bp), np.where(by_client, bp, fp)
    t, dur = col(e.t), col(e.dur)
    v_gap = v[:, 1:] & v[:, :-1]
    gap_ms = np.where(v_gap, (t[:, 1:] - t[:, :-1]) & 0xFFFFFFFF, 0)
    # A record that is late by clock steps backwards; a step of over 2^31 ms is one.
    gap_ms = np.where(gap_ms >= 1 << 31, 0, gap_ms)
    g = gap_ms / 1000.0
    via, svc, port = np.where(v, e.via[at], -1), np.where(v, e.service[at], -1), np.where(v, e.port[at], -1)
    known = v & e.has_flags[at]
    reset = known & ((col(e.flags) & 4) != 0)
    answered = v & (bp > 0)
    L = np.log1p

    steps = np.zeros(rows.shape + (len(STEP_NAMES),), np.float32)
    previous = np.concatenate([np.zeros((len(n), 1)), g[:, :-1]], axis=1)
    has_previous = np.concatenate([np.zeros((len(n), 1), bool), v_gap[:, :-1]], axis=1) & v_gap
    ratio = np.where(has_previous, np.clip(L(g * 1000.0) - L(previous * 1000.0), -4, 4), 0.0)
    lead = np.zeros((len(n), 1))
    cols = [
        v,
        L(up) / 10,
        L(down) / 10,
        L(pu) / 5,
        L(pd) / 5,
        L(dur) / 10,
        np.concatenate([lead, L(g * 1000.0)], 1) / 10,
        np.concatenate([lead, ratio], 1) / 4,
        by_client,
        answered,
        reset,
        known,
        via == 0,
        via == 1,
        via == 2,
    ]
    for i, c in enumerate(cols + [svc == s for s in range(len(SERVICES))]):
        steps[:, :, i] = c

    s: dict[str, np.ndarray] = {}
    count = np.maximum(n, 1)
    share = lambda m: m.sum(1) / count
    k = v_gap.sum(1)
    kk = np.maximum(k, 1)
    og = _ordered(g, v_gap)
    med = _pick(og, k, 1, 2)
    span = gap_ms.sum(1) / 1000.0
    s["log_count"], s["log_span"] = L(n), L(span)
    s["log_gap_q10"], s["log_gap_median"], s["log_gap_q90"] = L(_pick(og, k, 1, 10)), L(med), L(_pick(og, k, 9, 10))
    s["gap_mad"] = _mad_share(g, v_gap, med, 0.01)
    mean = span / kk
    sd = np.sqrt((np.where(v_gap, g - mean[:, None], 0.0) ** 2).sum(1) / kk)
    s["gap_cv"] = np.minimum(sd / np.maximum(mean, 0.001), 8.0)
    s["gap_near_median"] = (v_gap & (np.abs(g - med[:, None]) <= 0.1 * med[:, None])).sum(1) / kk
    times = g / np.maximum(med, 0.001)[:, None]
    nearest = np.floor(times + 0.5)
    s["gap_multiple"] = (v_gap & (nearest >= 1) & (np.abs(times - nearest) <= 0.1)).sum(1) / kk
    s["gap_short"] = (v_gap & (g < 1.0)).sum(1) / kk
    whole = np.concatenate([lead, np.cumsum(gap_ms, axis=1) // 1000], axis=1).astype(np.float64)
    fresh = v.copy()
    fresh[:, 1:] &= ~(v[:, :-1] & (whole[:, 1:] == whole[:, :-1]))
    deltas = np.diff(whole, axis=1)
    s["rita_ts"] = rita_stat(deltas, v_gap & (deltas > 0), 1.0)
    s["rita_ds"] = rita_stat(up, v, 0.0)
    hist, rdur = rita_histogram(whole, fresh, np.zeros(len(n)), whole[:, -1])
    enough = fresh.sum(1) >= 4
    s["rita_hist"], s["rita_dur"] = np.where(enough, hist, 0.0), np.where(enough, rdur, 0.0)
    s["rita_score"] = np.where(enough, (s["rita_ts"] + s["rita_ds"] + s["rita_hist"] + s["rita_dur"]) / 4.0, 0.0)
    for name, x in (("up", up), ("down", down)):
        o = _ordered(x, v)
        m = _pick(o, n, 1, 2)
        s[f"log_{name}_q10"], s[f"log_{name}_median"], s[f"log_{name}_q90"] = (
            L(_pick(o, n, 1, 10)),
            L(m),
            L(_pick(o, n, 9, 10)),
        )
        s[f"{name}_mad"] = _mad_share(x, v, m, 1.0)
        distinct, run = _runs(o, n)
        s[f"{name}_distinct"], s[f"{name}_mode"] = distinct / count, run / count
    s["log_up_packets_median"] = L(_pick(_ordered(pu, v), n, 1, 2))
    s["log_down_packets_median"] = L(_pick(_ordered(pd, v), n, 1, 2))
    od = _ordered(dur, v)
    s["log_duration_median"], s["log_duration_max"] = L(_pick(od, n, 1, 2)), L(dur.max(1))
    busy = dur.sum(1) / 1000.0
    s["duty"] = np.minimum(busy / np.maximum(span + dur[:, -1] / 1000.0, 0.001), 4.0)
    ut, dt, put, pdt = up.sum(1), down.sum(1), pu.sum(1), pd.sum(1)
    s["up_per_packet"], s["down_per_packet"] = ut / np.maximum(put, 1) / 1500.0, dt / np.maximum(pdt, 1) / 1500.0
    s["log_up_total"], s["log_down_total"] = L(ut), L(dt)
    s["up_down_ratio"] = np.clip(L(ut) - L(dt), -8, 8)
    s["up_heavier"] = share(v & (up > down))
    s["log_up_rate"] = L(ut / np.maximum(np.maximum(span, busy), 1.0))
    s["log_up_max"] = L(up.max(1))
    s["up_concentration"] = up.max(1) / np.maximum(ut, 1)
    s["answered_share"], s["reset_share"], s["flags_share"] = share(answered), share(reset), share(known)
    s["client_share"] = share(by_client)
    distinct, run = _runs(_ordered(port, v), n)
    s["log_ports"], s["port_mode"] = L(distinct), run / count
    s["tcp_share"], s["udp_share"], s["icmp_share"] = share(via == 0), share(via == 1), share(via == 2)
    s["log_packet_rate"] = L((put + pdt) / np.maximum(busy, 1.0))
    for i, name in enumerate(SERVICES):
        s[f"{name}_share"] = share(svc == i)
    return steps, np.stack([s[name] for name in STAT_NAMES], axis=1).astype(np.float32)
