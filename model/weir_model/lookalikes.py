"""Benign traffic that calls by the clock, sends much or stays connected, and is meant to: what beacons and uploads resemble."""

from __future__ import annotations

import numpy as np

from .flows import ICMP
from .timing import beats, bursts, loguniform, observation, outages, working_hours
from .transport import Path, Rng, Seq, merge_socket, tcp, tls, udp

CAP = 96


def over_tls(seq, rng, path, t, up, down, port=443, hold=0.0, turns=3):
    hu, hd = tls(rng, len(t))
    return tcp(seq, rng, path, t, up + hu, down + hd, port, hold, turns)


def periodic(rng: Rng, sleep: float, jitter: float, cap: int = CAP) -> np.ndarray:
    t = beats(
        rng,
        sleep,
        jitter,
        str(rng.choice(["around", "above", "normal"])),
        max(observation(rng), sleep * rng.uniform(2, 30)),
        cap,
        float(rng.choice([0, 0, 0.05])),
    )
    if rng.random() < 0.2:
        t = working_hours(rng, t)
    return outages(rng, t) if rng.random() < 0.2 else t


def updates(rng: Rng) -> Seq:
    """Package, signature and operating system updates: conditional requests, now and then a download."""
    t = periodic(rng, float(loguniform(rng, 600, 86400)), float(rng.choice([0.02, 0.2, 0.5])))
    k = np.concatenate([[0]] + [np.full(int(rng.integers(1, 7)), i) for i in range(len(t))])[1:].astype(int)
    at = (t[k] + rng.exponential(0.6, len(k)).cumsum() % 20)[:CAP]
    n, path = len(at), Path.draw(rng)
    big = rng.random(n) < rng.uniform(0.02, 0.6)
    up, down = (
        loguniform(rng, 150, 900) * rng.lognormal(0, 0.25, n),
        loguniform(rng, 150, 4000, n) + big * loguniform(rng, 2e4, 5e8, n),
    )
    return tcp(Seq(), rng, path, at, up, down, 80) if rng.random() < 0.4 else over_tls(Seq(), rng, path, at, up, down)


def ntp(rng: Rng) -> Seq:
    """Polls at powers of two, 48 octets each way; some clients send bursts, some servers never answer."""
    t = beats(
        rng, float(2.0 ** rng.integers(4, 12)), float(rng.choice([0.0, 0.02, 0.1])), "around", observation(rng), CAP
    )
    quiet = (rng.random(len(t)) < rng.choice([0, 0.02, 0.3, 1.0], p=[0.6, 0.25, 0.1, 0.05])).astype(int)
    size = int(rng.choice([48, 48, 48, 68]))
    seq = udp(Seq(), rng, t, size, size, 123, 1, 1 - quiet, dur=0.03, sport=123 if rng.random() < 0.5 else None)
    return merge_socket(seq, rng) if rng.random() < 0.3 else seq


def telemetry(rng: Rng) -> Seq:
    """Products that report usage: uploads of varying size, small answers; by the clock and by event."""
    t = periodic(rng, float(loguniform(rng, 20, 7200)), float(rng.choice([0.01, 0.1, 0.3, 0.5])))
    if rng.random() < 0.6:
        t = np.sort(np.concatenate([t, bursts(rng, max(t[-1], 60), 30)]))[:CAP]
    n = len(t)
    up = loguniform(rng, 600, 3e4) * rng.lognormal(0, rng.uniform(0.15, 1.3), n)
    return over_tls(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        up,
        loguniform(rng, 150, 2500) * rng.lognormal(0, 0.25, n),
        443,
        rng.choice([0, 0, 5, 60]),
    )


def monitoring(rng: Rng) -> Seq:
    """Polls from inside: SNMP, pings, health checks, exporters' pages, agents."""
    seq, path = Seq(), Path.draw(rng)
    path.rtt = float(loguniform(rng, 0.0002, 0.02))
    t = beats(
        rng,
        float(rng.choice([5, 10, 15, 30, 60, 60, 120, 300, 300])),
        float(rng.choice([0, 0.01, 0.05])),
        "around",
        observation(rng),
        CAP,
    )
    n, kind = len(t), rng.choice(["snmp", "ping", "health", "metrics", "agent"])
    if kind == "snmp":
        k = rng.integers(1, 30)
        return udp(seq, rng, t, k * rng.integers(40, 90), k * rng.integers(45, 400), 161, k, k, dur=0.05 * k)
    if kind == "ping":
        k = rng.integers(1, 5)
        return merge_socket(
            udp(seq, rng, t, 56 * k, 56 * k, 0, k, k * int(rng.random() < 0.95), dur=k - 0.9, proto=ICMP, sport=0),
            rng,
            ICMP,
        )
    if kind == "health":
        down = loguniform(rng, 100, 3000)
        return tcp(
            seq, rng, path, t, loguniform(rng, 60, 300), down, int(rng.choice([80, 443, 8080, 8081, 3000, 9000]))
        )
    if kind == "metrics":
        return tcp(
            seq,
            rng,
            path,
            t,
            loguniform(rng, 150, 400),
            loguniform(rng, 3e3, 2e5) * rng.lognormal(0, 0.05, n),
            int(rng.choice([9090, 9100, 9182, 8080, 2112])),
        )
    return tcp(
        seq,
        rng,
        path,
        t,
        loguniform(rng, 60, 8000) * rng.lognormal(0, 0.5, n),
        loguniform(rng, 10, 300),
        int(rng.choice([10050, 10051, 5666, 1514, 8089, 9997])),
    )


def backup(rng: Rng) -> Seq:
    """Backups and file synchronisation: much goes out, by schedule or on change, with the index coming back."""
    seq, path = Seq(), Path.draw(rng)
    t = (
        periodic(rng, float(rng.choice([900, 3600, 7200, 21600, 86400])), 0.05, 12)
        if rng.random() < 0.6
        else bursts(rng, observation(rng), 40)
    )
    k = np.repeat(np.arange(len(t)), rng.integers(1, 9))
    at = np.sort(t[k] + rng.exponential(20, len(k)))[:CAP]
    n = len(at)
    size = loguniform(rng, 2e4, 1e9, n) * (rng.random(n) < rng.uniform(0.3, 1))
    port = int(rng.choice([22, 873, 445, 443, 10000, 2049, 8443], p=[0.2, 0.1, 0.2, 0.35, 0.05, 0.05, 0.05]))
    back = size * rng.uniform(0.0005, 0.05, n) + loguniform(rng, 2e3, 6e4, n)
    return tcp(seq, rng, path, at, size + loguniform(rng, 800, 2e4, n), back, port, turns=rng.integers(4, 60, n))


def calls(rng: Rng) -> Seq:
    """Voice and video: long, symmetric, many packets; the signalling beside it."""
    k = int(rng.integers(1, 6))
    length = loguniform(rng, 20, 7200, k)
    t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 60, 20000, k - 1)))
    rate = loguniform(rng, 30, 600, k)
    up, down = length * rate * rng.uniform(80, 1100, k), length * rate * rng.uniform(80, 1100, k)
    port = int(rng.choice([3478, 3479, 8801, 19305, 50000 + rng.integers(15000), 443, 5004]))
    return udp(
        Seq(),
        rng,
        t,
        up,
        down,
        port,
        np.round(length * rate).astype(int),
        np.round(length * rate * rng.uniform(0.7, 1.2, k)).astype(int),
        dur=length,
    )


def mail(rng: Rng) -> Seq:
    """IMAP polls or idle connections, submissions with attachments."""
    seq, path = Seq(), Path.draw(rng)
    kind = rng.choice(["poll", "idle", "send"], p=[0.5, 0.3, 0.2])
    if kind == "poll":
        t = periodic(rng, float(rng.choice([60, 120, 300, 600, 900, 1800])), 0.05)
        n = len(t)
        return over_tls(
            seq,
            rng,
            path,
            t,
            loguniform(rng, 250, 900) * rng.lognormal(0, 0.1, n),
            loguniform(rng, 400, 3000) + (rng.random(n) < 0.15) * loguniform(rng, 2e3, 5e6, n),
            int(rng.choice([993, 995, 143, 110])),
            0.5,
            8,
        )
    if kind == "idle":
        t = periodic(rng, float(rng.choice([540, 1500, 1740])), 0.03, 40)
        return over_tls(
            seq,
            rng,
            path,
            t,
            loguniform(rng, 300, 1500, len(t)),
            loguniform(rng, 800, 2e5, len(t)),
            993,
            float(rng.choice([500, 1500, 1700])),
            6,
        )
    t = bursts(rng, observation(rng), 30)
    return over_tls(
        seq,
        rng,
        path,
        t,
        loguniform(rng, 2e3, 8e6, len(t)),
        rng.integers(300, 900, len(t)),
        int(rng.choice([587, 465, 25])),
        0.5,
        8,
    )


def push(rng: Rng) -> Seq:
    """Push notifications and messengers: one long connection, small keepalives, reconnects when the network changes."""
    length = loguniform(rng, 120, 86400, int(rng.integers(1, 9)))
    t = np.cumsum(np.append(0, length[:-1] + loguniform(rng, 0.5, 300, len(length) - 1)))
    every = loguniform(rng, 25, 1700)
    count = np.maximum(length / every, 1)
    up = loguniform(rng, 400, 3000) + count * rng.integers(10, 120) + loguniform(rng, 10, 3e4, len(t))
    down = loguniform(rng, 400, 6000) + count * rng.integers(10, 120) + loguniform(rng, 100, 3e5, len(t))
    port = int(rng.choice([5228, 5223, 443, 443, 443, 5222, 8883, 4070]))
    return over_tls(Seq(), rng, Path.draw(rng), t, up, down, port, length, np.minimum(count, 5000).astype(int))


def polling(rng: Rng) -> Seq:
    """Pages and players that ask again: XHR polls, live segments, feeds, prices."""
    segments = rng.random() < 0.4
    t = periodic(rng, float(loguniform(rng, 2, 300)), float(rng.choice([0, 0.02, 0.1])))
    n = len(t)
    down = (
        loguniform(rng, 2e5, 3e6) * rng.lognormal(0, 0.3, n)
        if segments
        else loguniform(rng, 300, 6e4) * rng.lognormal(0, rng.choice([0.02, 0.4]), n)
    )
    up = loguniform(rng, 300, 2500) * rng.lognormal(0, 0.05, n)
    return over_tls(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        up,
        down,
        int(rng.choice([443, 443, 443, 80, 8443])),
        rng.choice([0, 5, 15, 60, 115]),
    )


def connectivity(rng: Rng) -> Seq:
    """Checks for a captive portal, certificate status, a licence: one small request, by the clock or once."""
    t = periodic(
        rng,
        float(rng.choice([60, 300, 300, 600, 900, 1800, 3600])),
        float(rng.choice([0, 0.02, 0.3])),
        int(rng.choice([1, 2, 3, 8, CAP])),
    )
    keep = rng.random(len(t)) > rng.choice([0, 0.4])
    t = t[keep] if keep.any() else t[:1]
    up, down = (
        loguniform(rng, 80, 700),
        loguniform(rng, 80, 1500) * rng.lognormal(0, rng.choice([0, 0.03, 0.3]), len(t)),
    )
    return tcp(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        up,
        down,
        int(rng.choice([80, 80, 80, 443])),
        rng.choice([0, 0, 5, 30, 45, 60, 115]),
    )


def probe(rng: Rng) -> Seq:
    """Reachability: connections opened and closed with next to nothing said."""
    t = periodic(rng, float(loguniform(rng, 5, 7200)), float(rng.choice([0, 0.02, 0.3])))
    return tcp(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        rng.choice([0, 0, 20, 60]),
        rng.choice([0, 0, 20, 60]),
        int(rng.choice([443, 80, 53, 22, 25, 8883, 3389, rng.integers(1024, 65535)])),
        0.0,
        0,
    )


def devices(rng: Rng) -> Seq:
    """Things that call their maker's cloud: small keepalives by UDP or TCP, on ports of their own."""
    t = periodic(rng, float(loguniform(rng, 5, 3600)), float(rng.choice([0, 0.02, 0.1])))
    n, port = len(t), int(rng.choice([8883, 443, 32100, 10001, 9999, 6668, 1883, 80, 8053, rng.integers(1024, 65535)]))
    if rng.random() < 0.5:
        seq = udp(
            Seq(), rng, t, rng.integers(20, 250), rng.integers(20, 250), port, 1, int(rng.random() < 0.9), dur=0.05
        )
        return merge_socket(seq, rng) if rng.random() < 0.4 else seq
    return tcp(
        Seq(),
        rng,
        Path.draw(rng),
        t,
        loguniform(rng, 100, 1500) * rng.lognormal(0, 0.05, n),
        loguniform(rng, 60, 1500),
        port,
        0.0,
        2,
    )


def lan_api(rng: Rng) -> Seq:
    """Apps that ask a device in the house: one request each second or so, while the app is open."""
    path = Path.draw(rng)
    path.rtt = float(loguniform(rng, 0.001, 0.05))
    t = periodic(
        rng, float(loguniform(rng, 0.5, 12)), float(rng.choice([0, 0.05, 0.3])), int(rng.choice([4, 20, 50, CAP]))
    )
    n = len(t)
    up = np.where(rng.random(n) < 0.8, loguniform(rng, 120, 2500), loguniform(rng, 100, 3000, n))
    down = loguniform(rng, 60, 6000) * rng.lognormal(0, rng.choice([0.0, 0.02, 0.3]), n)
    return tcp(
        Seq(),
        rng,
        path,
        t,
        up,
        down,
        int(rng.choice([80, 80, 80, 8080, 443, 8008, 49152, 8888, 5000])),
        rng.choice([0, 0, 1]),
    )
