"""Octets, packets, flags and durations of generated flows, as a meter would count them.

Benign and malicious generators share this one path, so that nothing about the metering tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .flows import ACK, FIN, PSH, RST, SYN, TCP, UDP

Rng = np.random.Generator


def loguniform(rng: Rng, low: float, high: float, size=None):
    """Draws whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


@dataclass
class Path:
    """What stays the same for one pair: round-trip time (s), rates (octets/s), segment and header sizes."""

    rtt: float
    up_rate: float
    down_rate: float
    mss: int
    header: int
    timeout_linger: float

    @classmethod
    def draw(cls, rng: Rng) -> "Path":
        return cls(
            rtt=float(loguniform(rng, 0.0005, 0.35)),
            up_rate=float(loguniform(rng, 1e5, 5e7)),
            down_rate=float(loguniform(rng, 3e5, 1e8)),
            mss=int(rng.choice([1460, 1448, 1400, 1380, 1360], p=[0.35, 0.35, 0.1, 0.1, 0.1])),
            header=int(rng.choice([40, 52], p=[0.55, 0.45])),
            timeout_linger=float(rng.choice([0, 0, 0, 5, 10, 15, 30, 60, 65, 75, 120])),
        )


@dataclass
class Seq:
    """One generated sequence: parallel arrays, times in seconds from its start."""

    t: list = field(default_factory=list)
    dur: list = field(default_factory=list)
    fb: list = field(default_factory=list)
    bb: list = field(default_factory=list)
    fp: list = field(default_factory=list)
    bp: list = field(default_factory=list)
    proto: list = field(default_factory=list)
    sport: list = field(default_factory=list)
    dport: list = field(default_factory=list)
    flags: list = field(default_factory=list)

    def add(self, rng, t, dur, fb, bb, fp, bp, proto, dport, flags, sport=None) -> "Seq":
        """Appends flows; every argument is a scalar or an array of the length of `t`."""
        t = np.atleast_1d(np.asarray(t, float))
        full = lambda x: np.broadcast_to(np.asarray(x), t.shape)
        if sport is None:
            sport = (
                rng.integers(32768, 65536, len(t))
                if rng.random() < 0.5
                else 49152 + (rng.integers(0, 16384) + np.arange(len(t))) % 16384
            )
        for name, value in dict(
            t=t, dur=dur, fb=fb, bb=bb, fp=fp, bp=bp, proto=proto, dport=dport, flags=flags, sport=sport
        ).items():
            getattr(self, name).append(full(value))
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        return {k: np.concatenate(v) if v else np.zeros(0) for k, v in vars(self).items()}


def tcp(seq: Seq, rng: Rng, path: Path, t, up, down, port, hold=0.0, turns=1) -> Seq:
    """TCP connections that carry `up` and `down` octets of application data in `turns` exchanges and stay open `hold` s more."""
    t = np.atleast_1d(np.asarray(t, float))
    n = len(t)
    up, down = (
        np.maximum(np.broadcast_to(up, n), 0).astype(float),
        np.maximum(np.broadcast_to(down, n), 0).astype(float),
    )
    turns = np.broadcast_to(turns, n)
    su = np.maximum(np.ceil(up / path.mss), np.minimum(turns, up))
    sd = np.maximum(np.ceil(down / path.mss), np.minimum(turns, down))
    every = 2.0 if rng.random() < 0.6 else float(rng.uniform(1.2, 12))  # offload and stretch acknowledgements
    close = rng.choice(["fin", "fin", "fin", "rst"])
    fp = 2 + su + np.ceil(sd / every) + (2 if close == "fin" else rng.integers(0, 2, n))
    bp = 1 + sd + np.ceil(su / every) * (rng.random(n) < 0.9) + (1 if close == "fin" else rng.integers(0, 2, n))
    lost = rng.random(n) < 0.03
    fp = fp + lost * rng.integers(1, 3, n)
    fb = up + np.round(fp) * path.header + 20
    bb = down + np.round(bp) * path.header + 20
    dur = path.rtt * (1.5 + turns * rng.uniform(0.8, 1.6, n)) + up / path.up_rate + down / path.down_rate + hold
    dur = dur + rng.exponential(0.02, n)
    closed = rng.random(n) < 0.93
    flags = SYN | ACK | PSH | np.where(closed, FIN if close == "fin" else RST, 0)
    return seq.add(rng, t, dur, np.round(fb), np.round(bb), np.round(fp), np.round(bp), TCP, port, flags)


def unanswered(seq: Seq, rng: Rng, path: Path, t, port, reset: bool) -> Seq:
    """Connection attempts that nobody answers (SYN, two to six retries) or that the peer resets at once."""
    t = np.atleast_1d(np.asarray(t, float))
    n = len(t)
    syn = path.header + 20 if path.header == 52 else 48
    if reset:
        tries = np.full(n, int(rng.integers(1, 4)))
        return seq.add(
            rng, t, path.rtt + (tries - 1) * 0.5, tries * syn, tries * 40, tries, tries, TCP, port, SYN | ACK | RST
        )
    tries = np.full(n, int(rng.choice([1, 2, 3, 5, 6])))
    return seq.add(rng, t, (2.0 ** (tries - 1) - 1), tries * syn, 0, tries, 0, TCP, port, SYN)


def tls(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Octets of TLS handshakes each way: full at first, resumed later where the client does that."""
    hello, cert = rng.integers(180, 720), rng.integers(1900, 6500)
    up = np.full(n, hello + rng.integers(80, 220))
    down = np.full(n, cert + rng.integers(50, 400))
    if rng.random() < 0.4:
        resumed = rng.random(n) < 0.8
        resumed[0] = False
        up, down = np.where(resumed, hello + rng.integers(60, 250), up), np.where(resumed, rng.integers(180, 420), down)
    if rng.random() < 0.5:
        down = down + rng.integers(0, 40, n)
    return up.astype(float), down.astype(float)


def udp(seq: Seq, rng: Rng, t, up, down, port, packets_up=1, packets_down=1, dur=0.0, sport=None, proto=UDP) -> Seq:
    """Datagrams: `up`, `down` are payload octets of the whole flow; each packet has 28 octets of headers."""
    t = np.atleast_1d(np.asarray(t, float))
    pu, pd = np.broadcast_to(packets_up, len(t)), np.broadcast_to(packets_down, len(t))
    return seq.add(
        rng,
        t,
        dur,
        np.round(up + 28 * pu),
        np.round(np.where(pd > 0, down + 28 * pd, 0)),
        pu,
        pd,
        proto,
        port,
        0,
        sport,
    )


def merge_socket(seq: Seq, rng: Rng, proto=UDP) -> Seq:
    """The same datagrams from one socket: the meter sees one flow where pauses are shorter than 60 s."""
    a = seq.arrays()
    order = np.argsort(a["t"], kind="stable")
    a = {k: v[order] for k, v in a.items()}
    head = np.flatnonzero(np.append(True, np.diff(a["t"]) > 60.0))
    out = Seq()
    end = np.maximum.reduceat(a["t"] + a["dur"], head)
    total = lambda k: np.add.reduceat(a[k], head)
    return out.add(
        rng,
        a["t"][head],
        end - a["t"][head],
        total("fb"),
        total("bb"),
        total("fp"),
        total("bp"),
        proto,
        a["dport"][head],
        0,
        np.full(len(head), rng.integers(1024, 65536)),
    )
