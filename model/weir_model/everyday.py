"""Benign traffic of every day: people, resolvers, sessions, peers, and what nobody answers."""

from __future__ import annotations

import numpy as np

from .timing import beats, bursts, loguniform, observation, poisson
from .transport import Path, Rng, Seq, merge_socket, tcp, udp, unanswered

from .lookalikes import CAP, over_tls, periodic


def browsing(rng: Rng) -> Seq:
    """A person and a site: bursts of connections, heavy tails, much comes down; uploads of forms and photographs."""
    t = bursts(rng, observation(rng), int(rng.choice([2, 6, 20, CAP])))
    n = len(t)
    up = loguniform(rng, 300, 5000, n) * rng.lognormal(0, 0.7, n) + (rng.random(n) < 0.03) * loguniform(
        rng, 1e4, 2e7, n
    )
    down = loguniform(rng, 300, 6e4, n) * rng.lognormal(0, 1.4, n)
    seq, path = Seq(), Path.draw(rng)
    if rng.random() < 0.25:  # QUIC
        pu, pd = np.ceil(up / 600) + 4, np.ceil(down / 1200) + 4
        return udp(seq, rng, t, up + 2500, down + 4500, 443, pu.astype(int), pd.astype(int), dur=rng.exponential(30, n))
    hold = rng.choice([0, 5, 15, 60, 115]) * rng.random(n)
    if rng.random() < 0.7:
        return over_tls(seq, rng, path, t, up, down, 443, hold, rng.integers(3, 12, n))
    return tcp(seq, rng, path, t, up, down, int(rng.choice([80, 80, 80, 8080])), hold, rng.integers(1, 8, n))


def resolver(rng: Rng) -> Seq:
    """A host and its resolver: short questions in bursts, answers of 60 to 500 octets, some repeated or unanswered."""
    t = bursts(rng, observation(rng), CAP)
    n = len(t)
    if rng.random() < 0.3:  # something on the host asks for one name by the clock
        t = np.sort(
            np.concatenate([t, beats(rng, float(rng.choice([5, 30, 60, 300])), 0.02, "around", max(t[-1], 60), 60)])
        )[-CAP:]
        n = len(t)
    k = rng.choice([1, 2], n, p=[0.7, 0.3])
    lost = (rng.random(n) < rng.choice([0.0, 0.02, 0.2])).astype(int)
    seq = udp(
        Seq(),
        rng,
        t,
        k * (17 + rng.gamma(6, 3.2, n)),
        k * (17 + rng.gamma(2.2, 55, n)),
        53,
        k,
        k * (1 - lost),
        dur=rng.exponential(0.03, n),
    )
    return merge_socket(seq, rng) if rng.random() < 0.1 else seq


def busy_resolver(rng: Rng) -> Seq:
    """A server, scanner or forwarder and its resolver: many lookups a second, from one socket or many; zone transfers."""
    span = float(loguniform(rng, 5, 20000))
    rate = float(loguniform(rng, 0.05, 30))
    t = poisson(rng, 1 / rate, span, 3000 if rng.random() < 0.6 else CAP)
    n = len(t)
    kind = rng.uniform(14, 45)
    up, down = 17 + kind * rng.uniform(0.5, 1.5, n), 17 + kind + rng.gamma(rng.uniform(1, 3), rng.uniform(15, 120), n)
    lost = (rng.random(n) < rng.choice([0.0, 0.02, 0.2])).astype(int)
    seq = udp(Seq(), rng, t, up, down, 53, 1, 1 - lost, dur=rng.exponential(0.03, n))
    return merge_socket(seq, rng) if rng.random() < 0.6 else seq


def sessions(rng: Rng) -> Seq:
    """Remote shells and desktops, file shares, databases, industrial polls: long connections of many small exchanges."""
    port = int(
        rng.choice(
            [
                22,
                3389,
                445,
                139,
                3306,
                5432,
                1433,
                502,
                102,
                20000,
                44818,
                1883,
                5900,
                389,
                88,
                8009,
                135,
                49152 + rng.integers(600),
            ]
        )
    )
    k = int(rng.integers(1, 10))
    length = loguniform(rng, 0.5, 30000, k)
    t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 0.2, 4000, k - 1)))
    turns = np.maximum(length * loguniform(rng, 0.02, 20), 2)
    up, down = turns * loguniform(rng, 12, 300), turns * loguniform(rng, 12, 2500)
    return tcp(Seq(), rng, Path.draw(rng), t, up + 500, down + 500, port, length, np.minimum(turns, 20000).astype(int))


def discovery(rng: Rng) -> Seq:
    """What nobody answers and nobody minds: broadcasts to a host that left, retries to a printer or proxy that is off."""
    t = periodic(rng, float(loguniform(rng, 2, 3600)), float(rng.choice([0, 0.1])))
    if rng.random() < 0.5:
        return unanswered(
            Seq(),
            rng,
            Path.draw(rng),
            t,
            int(rng.choice([443, 80, 9100, 515, 445, 139, 8008, 8009, 7000, 62078, 5357, 3128])),
            bool(rng.integers(2)),
        )
    return udp(
        Seq(),
        rng,
        t,
        rng.integers(20, 500),
        0,
        int(rng.choice([137, 161, 1900, 3702, 5353, 5355, 9100, 8610, 54915])),
        rng.integers(1, 4),
        0,
        dur=0.5,
    )


def peers(rng: Rng) -> Seq:
    """File sharing, games and address traversal among peers: high ports, many small datagrams, some large transfers."""
    t = poisson(rng, float(loguniform(rng, 2, 900)), observation(rng), CAP)
    n, port = len(t), int(rng.integers(1024, 65535))
    packets = np.ceil(loguniform(rng, 1, 400, n)).astype(int)
    answered = (rng.random(n) < rng.uniform(0.2, 1)).astype(int)
    return udp(
        Seq(),
        rng,
        t,
        packets * rng.uniform(30, 900, n),
        packets * rng.uniform(30, 1200, n),
        port,
        packets,
        packets * answered,
        dur=packets * 0.05,
    )


def peers_tcp(rng: Rng) -> Seq:
    """File sharing, games, mining and chat over TCP, on ports of their own: from failed attempts to long connections."""
    seq, path = Seq(), Path.draw(rng)
    n = int(rng.choice([1, 1, 2, 5, 20, 40]))
    length = loguniform(rng, 1, 4000, n)
    t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 0.5, 400, n - 1)))
    up, down = (
        loguniform(rng, 100, 3e3, n) + length * loguniform(rng, 1, 3e4),
        loguniform(rng, 100, 3e3, n) + length * loguniform(rng, 1, 1e5),
    )
    quiet = rng.random(n) < 0.4
    return tcp(
        seq,
        rng,
        path,
        t,
        np.where(quiet, loguniform(rng, 60, 2e3, n), up),
        np.where(quiet, loguniform(rng, 60, 2e3, n), down),
        int(
            rng.choice(
                [3333, 4070, 8333, 9001, 25565, 6881, rng.integers(1024, 65535)],
                p=[0.04, 0.06, 0.04, 0.04, 0.03, 0.05, 0.74],
            )
        ),
        length,
        np.maximum(length / loguniform(rng, 0.5, 60), 1).astype(int),
    )


def single(rng: Rng) -> Seq:
    """One or two datagrams and no more: peer discovery, authentication, traps, logs, echo requests, probes."""
    n = int(rng.integers(1, 4))
    t = np.cumsum(rng.exponential(loguniform(rng, 0.05, 200), n))
    answered = int(rng.random() < 0.4)
    port = int(
        rng.choice(
            [1812, 1813, 514, 162, 30303, 6881, 3478, 5060, 137, 161, 33434, 53, 123, rng.integers(1024, 65535)],
            p=[0.06, 0.04, 0.06, 0.05, 0.08, 0.08, 0.06, 0.06, 0.05, 0.04, 0.04, 0.08, 0.05, 0.25],
        )
    )
    return udp(Seq(), rng, t, loguniform(rng, 12, 1300), loguniform(rng, 12, 1300), port, 1, answered, dur=0.03)


def kept(rng: Rng) -> Seq:
    """Kept connections to services: each lives until a limit, carries varied work, and another follows when there is some."""
    life = float(rng.choice([60, 65, 75, 100, 118, 120, 180, 240, 300, 600]))
    t = bursts(rng, observation(rng), int(rng.choice([1, 3, 10, CAP])))
    n = len(t)
    length = life * np.where(rng.random(n) < 0.5, 1.0, rng.random(n))
    up = loguniform(rng, 300, 6000, n) * rng.lognormal(0, 0.8, n)
    down = loguniform(rng, 300, 5e4, n) * rng.lognormal(0, 1.2, n)
    return over_tls(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        up,
        down,
        int(rng.choice([443, 443, 443, 80, 5228])),
        length,
        rng.integers(3, 20, n),
    )
