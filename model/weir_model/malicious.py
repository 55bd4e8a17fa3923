"""Generated command and control, and exfiltration: flow sequences, disclosed as synthetic wherever a figure rests on them.

Sleep, jitter and transport defaults are those that the frameworks publish in their own documentation; a third of the draws
keeps the default, the others are what operators change it to.
"""

from __future__ import annotations

import numpy as np

from .flows import ICMP
from .timing import beats, loguniform, observation, outages, poisson, working_hours
from .transport import Path, Rng, Seq, merge_socket, tcp, tls, udp, unanswered

CAP = 96  # flows of a sequence: three windows

# name: (sleep s, jitter share, where the jitter goes)
FRAMEWORKS = {
    "cobalt-strike": (60, 0.0, "below"),
    "sliver": (60, 0.5, "above"),
    "empire": (5, 0.0, "around"),
    "covenant": (5, 0.1, "around"),
    "mythic": (10, 0.23, "around"),
    "havoc": (2, 0.15, "around"),
    "poshc2": (5, 0.2, "around"),
    "merlin": (30, 0.1, "above"),
    "metasploit-http": (5, 0.6, "above"),
    "brute-ratel": (60, 0.2, "below"),
    "koadic": (60, 0.0, "around"),
    "nimplant": (10, 0.2, "around"),
    "deimos": (10, 0.1, "around"),
    "trevorc2": (10, 0.5, "above"),
    "bot-http": (300, 0.1, "above"),
    "bot-slow": (3600, 0.1, "around"),
}


def schedule(rng: Rng, cap: int = CAP, sleep=None, jitter=None, missed=None) -> np.ndarray:
    """Times of the calls of one implant; arguments fix what would be drawn."""
    name = list(FRAMEWORKS)[rng.integers(len(FRAMEWORKS))]
    base, share, style = FRAMEWORKS[name]
    if rng.random() > 0.35:
        base = (
            loguniform(rng, 1, 14400)
            if rng.random() < 0.6
            else rng.choice([5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 900, 1800, 3600])
        )
        share = rng.choice([0, 0.05, 0.1, 0.2, 0.3, 0.37, 0.5, 0.7])
    base = base if sleep is None else sleep
    share = share if jitter is None else jitter
    span = max(observation(rng), base * rng.uniform(4, 40))
    lost = rng.choice([0, 0, 0.05, 0.1, 0.2, 0.3]) if missed is None else missed
    t = beats(rng, float(base), float(share), style, span, cap, float(lost))
    if sleep is None and rng.random() < 0.12:
        t = working_hours(rng, t)
    if sleep is None and rng.random() < 0.15:
        t = outages(rng, t)
    return t


def web_port(rng: Rng, encrypted: bool) -> int:
    if encrypted:
        return int(
            rng.choice(
                [443, 8443, 4443, 444, 2083, 2087, rng.integers(1024, 65535)],
                p=[0.68, 0.08, 0.03, 0.02, 0.03, 0.02, 0.14],
            )
        )
    return int(
        rng.choice([80, 8080, 8000, 8888, 81, rng.integers(1024, 65535)], p=[0.55, 0.15, 0.05, 0.04, 0.03, 0.18])
    )


def tasks(rng: Rng, t: np.ndarray, up: np.ndarray, down: np.ndarray):
    """Now and then the operator works: larger answers, results sent back, extra calls in quick succession."""
    if rng.random() < 0.45 or len(t) < 4:
        return t, up, down
    up, down = up.copy(), down.copy()
    hit = rng.random(len(t)) < rng.uniform(0.01, 0.15)
    down = down + hit * loguniform(rng, 50, 3e5, len(t))
    up = up + np.roll(hit, 1) * loguniform(rng, 100, 2e5, len(t))
    extra_t, extra_u, extra_d = [], [], []
    for i in np.flatnonzero(hit)[:4]:
        k = int(rng.integers(1, 6))
        extra_t.append(t[i] + np.cumsum(rng.exponential(1.5, k)))
        extra_u.append(up[0] + loguniform(rng, 50, 5e4, k))
        extra_d.append(down[0] + loguniform(rng, 20, 5e3, k))
    if extra_t:
        t, up, down = (np.concatenate([a, *b]) for a, b in ((t, extra_t), (up, extra_u), (down, extra_d)))
        order = np.argsort(t, kind="stable")
        t, up, down = t[order], up[order], down[order]
    return t, up, down


def http_beacon(rng: Rng, **fixed) -> Seq:
    """HTTP or HTTPS beacons: a check-in with metadata, mostly empty answers."""
    path, seq = Path.draw(rng), Seq()
    t = schedule(rng, **fixed)
    encrypted = rng.random() < 0.6
    request, answer = loguniform(rng, 150, 1600), loguniform(rng, 60, 1500)
    noise = rng.choice([0, 0, 0, 0.02, 0.1, 0.5])  # data jitter: padding of random length
    n = len(t)
    up = request * (1 + noise * rng.random(n))
    down = answer * (1 + noise * rng.random(n) * rng.integers(0, 2))
    if rng.random() < 0.3:
        first = int(rng.integers(1, 3))
        down[:first] += loguniform(rng, 2e4, 1.5e6)  # the stage comes first
    t, up, down = tasks(rng, t, up, down)
    n = len(t)
    if encrypted:
        hu, hd = tls(rng, n)
        up, down = up + hu + 60, down + hd + 60
    hold = rng.choice([0, 0, 0, path.timeout_linger])
    tcp(seq, rng, path, t, up, down, web_port(rng, encrypted), hold, turns=3 if encrypted else 1)
    if rng.random() < 0.12:  # some calls find the server down
        gone = rng.random(n) < rng.uniform(0.1, 0.9)
        a = Seq()
        unanswered(a, rng, path, t[gone], int(seq.dport[0][0]), bool(rng.integers(2))) if gone.any() else None
        kept = {k: [v[0][~gone]] for k, v in vars(seq).items()}
        seq = Seq(**{k: kept[k] + getattr(a, k) for k in kept})
    return seq


def dead_beacon(rng: Rng, **fixed) -> Seq:
    """The server is gone; the implant goes on trying."""
    return unanswered(
        Seq(),
        rng,
        Path.draw(rng),
        schedule(rng, **fixed),
        web_port(rng, bool(rng.integers(2))),
        bool(rng.random() < 0.4),
    )


def kept_beacon(rng: Rng, **fixed) -> Seq:
    """Beacons inside kept connections: each lives until the server's or proxy's limit, then the next one follows."""
    path, seq = Path.draw(rng), Seq()
    sleep = loguniform(rng, 1, 60) if "sleep" not in fixed else fixed["sleep"]
    life = sleep * rng.uniform(3, 60) if rng.random() < 0.5 else float(rng.choice([60, 100, 120, 300, 600, 3600]))
    life = max(life, sleep * 2)
    k = int(np.clip(observation(rng) / life, 1, CAP))
    length = life * (1 - rng.choice([0, 0.05, 0.5]) * rng.random(k))
    t = np.cumsum(np.append(0, (length + sleep * rng.uniform(0.5, 1.2, k))[:-1]))
    calls = np.maximum(length / sleep, 1)
    request, answer = loguniform(rng, 60, 1200), loguniform(rng, 60, 1500)
    busy = rng.random(k) < rng.choice([0, 0.1, 0.4])
    up = calls * request * rng.lognormal(0, 0.02, k) + busy * loguniform(rng, 200, 3e5, k)
    down = calls * answer * rng.lognormal(0, 0.02, k) + busy * loguniform(rng, 200, 3e5, k)
    encrypted = rng.random() < 0.75
    if encrypted:
        hu, hd = tls(rng, k)
        up, down = up + hu, down + hd
    return tcp(seq, rng, path, t, up, down, web_port(rng, encrypted), length, np.minimum(calls, 5000).astype(int))


def modules(rng: Rng, **fixed) -> Seq:
    """Trojans that fetch modules and configuration, and report now and then: much down, from ports of their own."""
    seq, path = Seq(), Path.draw(rng)
    k = int(rng.integers(1, 14))
    t = np.cumsum(np.append(0, loguniform(rng, 1, 5000, k - 1)))
    up = loguniform(rng, 300, 4000, k) + (rng.random(k) < 0.3) * loguniform(rng, 2e3, 1e5, k)
    down = loguniform(rng, 100, 2000, k) + (rng.random(k) < rng.uniform(0.2, 1)) * loguniform(rng, 2e4, 4e6, k)
    hu, hd = tls(rng, k)
    port = int(
        rng.choice(
            [443, 447, 449, 8082, 453, 3389, 4443, 990, 7080, 8443, 80, rng.integers(1024, 65535)],
            p=[0.3, 0.12, 0.1, 0.05, 0.03, 0.02, 0.06, 0.02, 0.06, 0.06, 0.08, 0.1],
        )
    )
    return tcp(seq, rng, path, t, up + hu, down + hd, port, path.timeout_linger + rng.exponential(5, k), turns=4)


def raw_tcp(rng: Rng, **fixed) -> Seq:
    """Remote access tools and shells over a connection of their own: long, with keepalives and bursts of commands; reconnects."""
    path, seq = Path.draw(rng), Seq()
    port = int(
        rng.choice(
            [4444, 1177, 5552, 6667, 1604, 3460, 7777, 443, 80, rng.integers(1024, 65535)],
            p=[0.12, 0.05, 0.05, 0.06, 0.04, 0.04, 0.04, 0.12, 0.05, 0.43],
        )
    )
    style = rng.random()
    if style < 0.55:  # a few long connections
        k = int(rng.integers(1, 7))
        length = loguniform(rng, 15, 40000, k)
        t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 0.5, 600, k - 1)))
        every = loguniform(rng, 4, 120)
        count = np.maximum(length / every, 1)
        ping_up, ping_down = rng.integers(1, 200), rng.integers(0, 120)
        up = loguniform(rng, 60, 2500) + count * ping_up + (rng.random(k) < 0.4) * loguniform(rng, 500, 5e6, k)
        down = loguniform(rng, 10, 800) + count * ping_down + (rng.random(k) < 0.4) * loguniform(rng, 50, 4e5, k)
        tcp(seq, rng, path, t, up, down, port, hold=length, turns=np.minimum(count, 5000).astype(int))
    elif style < 0.8:  # short connections at intervals
        t = schedule(rng, **fixed)
        size = loguniform(rng, 4, 600)
        t, up, down = tasks(rng, t, np.full(len(t), size), np.full(len(t), loguniform(rng, 2, 300)))
        tcp(seq, rng, path, t, up, down, port, hold=loguniform(rng, 0.05, 40))
    else:  # drops and comes back
        t = schedule(rng, **fixed)
        up = loguniform(rng, 30, 900) * rng.lognormal(0, 0.1, len(t))
        tcp(seq, rng, path, t, up, rng.integers(0, 100), port, hold=rng.exponential(loguniform(rng, 1, 60), len(t)))
    return seq


def dns_tunnel(rng: Rng, upload: float | None = None, **fixed) -> Seq:
    """DNS tunnels and beacons: long names up, TXT, CNAME, NULL or A down; a socket a query, or one for all."""
    seq = Seq()
    span = min(observation(rng), 7200)
    kind = (
        rng.choice(["poll", "stream", "beacon", "sessions"], p=[0.3, 0.25, 0.25, 0.2]) if upload is None else "stream"
    )
    name = rng.uniform(25, 230)
    if kind == "sessions":  # a socket a session: the meter sees a few long flows of many queries
        k = int(rng.integers(1, 6))
        length = loguniform(rng, 2, 3000, k)
        t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 1, 1500, k - 1)))
        count = np.maximum(length * loguniform(rng, 0.3, 250), 1).astype(int)
        if rng.random() < 0.4:
            count[0], length[0] = rng.integers(1, 6), rng.exponential(0.5)
        up, down = count * (17 + name), count * (17 + name + loguniform(rng, 10, 900))
        return udp(seq, rng, t, up, down, 53, count, (count * rng.uniform(0.9, 1, k)).astype(int), dur=length)
    if kind == "poll":
        t = beats(
            rng,
            float(loguniform(rng, 0.2, 8)),
            float(rng.choice([0, 0.05, 0.3])),
            "around",
            span,
            4000 if rng.random() < 0.5 else CAP,
        )
    elif kind == "stream":
        t = poisson(rng, float(loguniform(rng, 0.005, 0.6)), span, 4000 if rng.random() < 0.6 else CAP)
    else:
        base = schedule(rng, cap=30, **fixed)
        t = np.sort(np.concatenate([base + i * rng.uniform(0.05, 1.0) for i in range(int(rng.integers(1, 6)))]))
    n = len(t)
    up = 17 + name * rng.uniform(0.4, 1.0, n) if rng.random() < 0.6 else np.full(n, 17 + name)
    answer = rng.choice([16, 60, 150, 400, 900])
    down = up + answer * rng.uniform(0.2, 1.0, n)
    if upload is not None:
        up, down = np.full(n, 17 + max(name, 120)), np.full(n, 33 + max(name, 120))
    lost = (rng.random(n) < rng.choice([0, 0.01, 0.1])).astype(int)
    udp(seq, rng, t, up, np.where(lost, 0, down), 53, 1, 1 - lost, dur=rng.exponential(0.04, n))
    if rng.random() < (0.5 if kind != "beacon" else 0.15):
        return merge_socket(seq, rng)
    return seq


def icmp_tunnel(rng: Rng, upload: bool = False, **fixed) -> Seq:
    """Echo requests that carry data: the meter has one flow a pair; what pauses over 60 s is several."""
    t = (
        schedule(rng, **fixed)
        if rng.random() < 0.5 and not upload
        else poisson(rng, float(loguniform(rng, 0.05, 2)), min(observation(rng), 1800), 4000)
    )
    size = rng.uniform(100, 1300) if rng.random() < 0.7 else rng.uniform(40, 100)
    seq = udp(
        Seq(),
        rng,
        t,
        size * rng.uniform(0.7, 1, len(t)),
        size * (0.1 if upload else 1) * rng.uniform(0.2, 1, len(t)),
        0,
        dur=0.03,
        proto=ICMP,
        sport=0,
    )
    return merge_socket(seq, rng, ICMP)


def peer_to_peer(rng: Rng, **fixed) -> Seq:
    """Bots among each other: small datagrams or connections on high ports, often unanswered."""
    seq, path = Seq(), Path.draw(rng)
    t = poisson(rng, float(loguniform(rng, 20, 4000)), observation(rng), CAP)
    port, silent = int(rng.integers(1024, 65535)), rng.random(len(t)) < rng.choice([0.1, 0.5, 1.0], p=[0.4, 0.3, 0.3])
    if rng.random() < 0.7:
        up = rng.integers(20, 600, len(t))
        return udp(
            seq,
            rng,
            t,
            up,
            rng.integers(20, 900, len(t)),
            port,
            rng.integers(1, 4, len(t)),
            np.where(silent, 0, 1),
            dur=0.1,
        )
    if silent.any():
        unanswered(seq, rng, path, t[silent], port, bool(rng.integers(2)))
    if (~silent).any():
        tcp(
            seq,
            rng,
            path,
            t[~silent],
            loguniform(rng, 40, 2000, (~silent).sum()),
            loguniform(rng, 40, 4000, (~silent).sum()),
            port,
        )
    return seq


def check_in(rng: Rng, **fixed) -> Seq:
    """Short lives, as a sandbox sees them: a stealer's or loader's few posts, perhaps a payload down."""
    seq, path = Seq(), Path.draw(rng)
    encrypted = rng.random() < 0.4
    k = int(rng.choice([1, 2, 3, 4, 6, 10], p=[0.3, 0.2, 0.15, 0.15, 0.1, 0.1]))
    t = np.cumsum(np.append(0, loguniform(rng, 0.3, 900, k - 1)))
    up = loguniform(rng, 150, 3000) * rng.lognormal(0, rng.choice([0.0, 0.1, 0.6]), k)
    down = loguniform(rng, 80, 1500) * rng.lognormal(0, rng.choice([0.0, 0.1, 0.6]), k)
    if rng.random() < 0.3:
        down[rng.integers(k)] += loguniform(rng, 2e4, 4e6)
    if rng.random() < 0.25:
        up[-1] += loguniform(rng, 3e3, 3e5)  # what was stolen
    if encrypted:
        hu, hd = tls(rng, k)
        up, down = up + hu, down + hd
    return tcp(seq, rng, path, t, up, down, web_port(rng, encrypted), path.timeout_linger, turns=3 if encrypted else 1)


C2 = {
    http_beacon: 0.27,
    kept_beacon: 0.1,
    dead_beacon: 0.06,
    raw_tcp: 0.17,
    dns_tunnel: 0.13,
    icmp_tunnel: 0.03,
    peer_to_peer: 0.04,
    check_in: 0.14,
    modules: 0.06,
}


def c2(rng: Rng) -> Seq:
    """One sequence of command and control."""
    kinds = list(C2)
    odds = np.array(list(C2.values()))
    return kinds[rng.choice(len(kinds), p=odds / odds.sum())](rng)


def scan(rng: Rng) -> Seq:
    """Probes of one host: many ports or one, mostly unanswered or reset."""
    seq, path = Seq(), Path.draw(rng)
    n = int(rng.choice([1, 2, 3, 10, 40, CAP]))
    t = np.cumsum(rng.exponential(loguniform(rng, 0.0005, 5), n))
    ports = (
        rng.integers(1, 65535 if rng.random() < 0.5 else 1024, n)
        if rng.random() < 0.6
        else int(rng.choice([22, 23, 80, 443, 445, 3389, 2323, 8080, 5555, 37215]))
    )
    if rng.random() < 0.15:
        return udp(seq, rng, t, rng.integers(0, 60), 0, ports, 1, 0)
    return unanswered(seq, rng, path, t, ports, bool(rng.random() < 0.5))


def bruteforce(rng: Rng) -> Seq:
    """Logins tried one after another: connections of much the same size to a service that asks for a password."""
    n = int(rng.integers(5, CAP))
    t = np.cumsum(rng.exponential(loguniform(rng, 0.05, 30), n))
    port = int(rng.choice([22, 21, 23, 3389, 445, 25, 110, 143, 3306, 1433, 5900, 80]))
    up, down = (
        loguniform(rng, 200, 3000) * rng.lognormal(0, 0.08, n),
        loguniform(rng, 200, 4000) * rng.lognormal(0, 0.08, n),
    )
    return tcp(
        Seq(), rng, Path.draw(rng), t, up, down, port, hold=loguniform(rng, 0.01, 5), turns=int(rng.integers(2, 16))
    )


def dos(rng: Rng) -> Seq:
    """Floods: one giant flow or thousands of tiny ones, hardly answered."""
    seq, path = Seq(), Path.draw(rng)
    if rng.random() < 0.5:
        k, packets = int(rng.integers(1, 8)), loguniform(rng, 1e4, 1e8)
        length = loguniform(rng, 5, 3600, k)
        count = np.full(k, int(packets))
        return udp(
            seq,
            rng,
            np.cumsum(length),
            count * rng.integers(0, 1400),
            0,
            int(rng.integers(1, 65535)),
            count,
            0,
            dur=length,
        )
    t = np.cumsum(rng.exponential(loguniform(rng, 1e-5, 0.05), CAP))
    port = int(rng.choice([80, 443, 53, rng.integers(1, 65535)]))
    if rng.random() < 0.5:
        return unanswered(seq, rng, path, t, port, bool(rng.random() < 0.3))
    return tcp(seq, rng, path, t, loguniform(rng, 50, 800), loguniform(rng, 0.1, 2000) * (rng.random(CAP) < 0.5), port)


EXFIL_PORTS = {"https": 443, "cloud": 443, "ssh": 22, "ftp": 21, "smtp": 587, "http": 80, "odd": 0}


def exfil(rng: Rng, volume: float | None = None, rate: float | None = None, channel: str | None = None) -> Seq:
    """One exfiltration of `volume` octets (1 MB to 5 GB; slow ones from 100 kB) at `rate` octets/s over `channel`."""
    channel = channel or str(
        rng.choice(
            ["https", "cloud", "dns", "ssh", "ftp", "smtp", "http", "odd", "icmp"],
            p=[0.24, 0.17, 0.15, 0.1, 0.09, 0.07, 0.06, 0.08, 0.04],
        )
    )
    seq, path = Seq(), Path.draw(rng)
    if channel == "dns":
        return dns_tunnel(rng, upload=1.0)
    if channel == "icmp":
        return icmp_tunnel(rng, upload=True)
    volume = float(loguniform(rng, 3e5, 2e9)) if volume is None else volume
    rate = float(loguniform(rng, max(volume / 2e5, 30), 2e7)) if rate is None else rate
    mode = rng.choice(["bulk", "chunked", "slow"], p=[0.3, 0.4, 0.3])
    if mode == "bulk":
        k = int(rng.integers(1, 4))
        share = rng.dirichlet(np.ones(k))
        size, t = volume * share, np.sort(rng.uniform(0, 60, k))
        hold = size / rate
    else:
        chunk = (
            float(rng.choice([65536, 262144, 1 << 20, 4 << 20, 8 << 20, 16 << 20, 50 << 20]))
            if mode == "chunked"
            else float(loguniform(rng, 1e3, 2e5))
        )
        k = int(np.clip(volume / chunk, 2, CAP))
        noise = rng.choice([0, 0.02, 0.5], p=[0.5, 0.25, 0.25])
        size = np.maximum(chunk * (1 + noise * rng.normal(size=k)), 200)
        step = max(chunk / rate, 0.05)
        t = beats(rng, step, float(rng.choice([0, 0.1, 0.5])), "around", step * k * 1.5, CAP)
        size, hold = np.resize(size, len(t)), 0.0
        path.up_rate = max(path.up_rate, chunk / max(step, 0.1))
    n = len(t)
    answer = loguniform(rng, 60, 900) * rng.lognormal(0, 0.1, n)
    port = EXFIL_PORTS[channel] or int(rng.integers(1024, 65535))
    up, down = size, answer
    if channel in ("https", "cloud"):
        hu, hd = tls(rng, n)
        up, down = up * 1.01 + hu, down + hd
    elif channel == "ssh":
        up, down = up * 1.03 + 2200, down + 2400 + size * 0.002
    elif channel == "smtp":
        up, down = up * 1.37 + 700, down + 3500
    elif channel == "ftp":
        control = np.append(t[0] - 0.4, t[1:] - 0.2) if rng.random() < 0.4 else t[:1] - 0.4
        tcp(seq, rng, path, control, rng.integers(60, 200), rng.integers(150, 700), 21, hold=1.0, turns=6)
        port = rng.integers(1024, 65535, n)
        down = np.zeros(n)
    tcp(seq, rng, path, t, up, down, port, hold, turns=3)
    if channel == "cloud" and rng.random() < 0.6:  # the calls around the upload: token, list, commit
        hu, hd = tls(rng, n)
        tcp(
            seq,
            rng,
            path,
            t + rng.uniform(0.1, 2),
            hu + loguniform(rng, 300, 2500),
            hd + loguniform(rng, 300, 6000),
            443,
            turns=4,
        )
    return seq
