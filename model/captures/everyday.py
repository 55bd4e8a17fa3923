"""The benign clients of a recording: what a network does all day, and what resembles beacons and uploads most."""

from __future__ import annotations

import os
import struct
import time

from clients import LIMIT_S, TLS, Actor, imaplib, send


def updates(a: Actor) -> None:
    """A package manager: an index that is mostly unchanged, and packages now and then."""
    for _ in a.beats(a.pick(30, 60, 90), 0.1):
        for _ in range(a.rng.randrange(1, 4)):
            a.curl(f"http://{a.there}/dists/InRelease?{int(a.log(200, 5e3))}", "-A", "Debian APT-HTTP/1.3")
        if a.rng.random() < 0.4:
            a.curl(f"http://{a.there}/pool/package.deb?{int(a.log(5e4, 5e6))}", "-A", "Debian APT-HTTP/1.3")


def ntp(a: Actor) -> None:
    with a.datagrams() as sock:
        for _ in a.beats(a.pick(16, 16, 32), 0.02):
            sock.sendto(struct.pack("!BBbb44x", 0x23, 0, 4, -20), (a.there, 123))
            sock.recv(512)


def health(a: Actor) -> None:
    """A load balancer's check."""
    port, down = a.pick(80, 8080, 443), a.log(20, 900)
    for _ in a.beats(a.pick(2, 5, 10, 15), a.pick(0, 0.02)):
        a.once(port, port == 443, 0, down)


def scrape(a: Actor) -> None:
    """Prometheus and a node exporter: mostly over one kept connection, some without."""
    period, down, kept = a.pick(5, 15, 30), a.log(8e3, 1.5e5), a.rng.random() < 0.5
    connection = a.web(9100, False)
    for _ in a.beats(period, 0):
        a.ask(connection, 0, down * a.rng.uniform(0.98, 1.02), "Prometheus/2.53")
        if not kept:
            connection.close()


def probe(a: Actor) -> None:
    """Reachability: opened and closed."""
    for _ in a.beats(a.pick(5, 10, 30), a.pick(0, 0.02)):
        a.connect(a.pick(443, 80)).close()


def backup(a: Actor) -> None:
    """rsync over SSH: much at first, then what changed."""
    folder = f"{os.environ['WORK']}/{a.here}"
    os.makedirs(folder, exist_ok=True)
    for number in range(6):
        change(folder, number, a.log(1e5, 3e6))
    shell = " ".join(["ssh", *a.ssh_options()])
    for _ in a.beats(a.pick(30, 60, 90), 0.05):
        a.run("rsync", "-a", "-e", shell, f"{folder}/", f"root@{a.there}:{folder}.copy/")
        change(folder, a.rng.randrange(6), a.log(1e3, 1e6))


def change(folder: str, number: int, size: float) -> None:
    with open(f"{folder}/{number}", "wb") as file:
        file.write(os.urandom(int(size)))


def sync(a: Actor) -> None:
    """A cloud drive: polls for changes by the clock, uploads when its user saved something."""
    next_save = a.log(20, 120)
    for _ in a.beats(a.pick(10, 20, 30), 0.1):
        a.once(443, True, a.log(300, 900), a.log(200, 900))
        next_save -= 20
        if next_save < 0:
            next_save = a.log(30, 200)
            for _ in range(a.rng.randrange(1, 5)):
                a.once(443, True, a.log(1e4, 2e6), a.log(300, 1200))


def call(a: Actor) -> None:
    """Video: datagrams both ways, 30 to 60 a second."""
    while a.left() > 0:
        with a.datagrams() as sock:
            sock.settimeout(0.05)
            size, rate, end = int(a.log(200, 1000)), a.rng.uniform(30, 60), time.monotonic() + a.log(20, 120)
            while time.monotonic() < end and a.sleep(1 / rate):
                length = int(size * a.rng.uniform(0.6, 1.1))
                sock.sendto(struct.pack("!H", int(size * a.rng.uniform(0.6, 1.1))) + os.urandom(length), (a.there, 3478))
                try:
                    sock.recv(2048)
                except TimeoutError:
                    pass
        a.sleep(a.log(5, 90))


class Mailbox(imaplib.IMAP4_SSL):
    """imaplib with an address to call from."""

    def __init__(self, actor: Actor):
        self.actor = actor
        super().__init__(actor.there, 993, ssl_context=TLS, timeout=LIMIT_S)

    def _create_socket(self, timeout):
        return self.actor.connect(993, tls=True)


def mail_poll(a: Actor) -> None:
    for _ in a.beats(a.pick(15, 30, 60), 0.05):
        box = Mailbox(a)
        box.login("user", "secret")
        box.select()
        if a.rng.random() < 0.3:
            box.fetch(str(int(a.log(2, 60))), "(BODY[])")
        box.logout()


def mail_idle(a: Actor) -> None:
    """IDLE, renewed before it times out."""
    while a.left() > 0:
        box = Mailbox(a)
        box.login("user", "secret")
        box.select()
        for _ in range(a.rng.randrange(1, 5)):
            box.send(b"X1 IDLE\r\n")
            box.readline()
            a.sleep(a.log(20, 110))
            box.send(b"DONE\r\n")
            box.readline()
            box.fetch(str(int(a.log(2, 40))), "(BODY[])")
        box.logout()
        a.sleep(a.log(1, 20))


def mail_send(a: Actor) -> None:
    while a.sleep(a.log(10, 150)):
        send(a, 587, a.log(1e3, 2e6))


def push(a: Actor) -> None:
    """Notifications: one kept connection with keepalives; another after the network changed."""
    port, every = a.pick(5228, 5223), a.pick(15, 25, 45)
    while a.left() > 0:
        with a.connect(port, tls=True) as connection:
            end = time.monotonic() + a.log(60, 900)
            a.say(connection, a.log(300, 2e3), a.log(300, 4e3))
            for _ in a.beats(every, 0.02):
                a.say(connection, 20, 20 + (a.rng.random() < 0.2) * a.log(200, 9e3))
                if time.monotonic() > end:
                    break


def segments(a: Actor) -> None:
    """A live stream from a CDN."""
    size = a.log(1e5, 1e6)
    for _ in a.beats(a.pick(4, 6, 10), 0.02):
        a.curl(f"https://{a.there}/live.m3u8?{int(a.log(400, 900))}", "-o", "/dev/null", f"https://{a.there}/part.ts?{int(size * a.rng.uniform(0.7, 1.3))}")


def polling(a: Actor) -> None:
    """A page that asks again."""
    up, down = a.log(200, 900), a.log(300, 2e4)
    for _ in a.beats(a.pick(3, 5, 10, 20), a.pick(0, 0.05)):
        a.once(443, True, up * a.rng.uniform(0.97, 1.03), down * a.rng.uniform(0.5, 1.5))


def telemetry(a: Actor) -> None:
    up = a.log(800, 2e4)
    for _ in a.beats(a.pick(10, 20, 60), a.pick(0.05, 0.3)):
        for _ in range(a.pick(1, 1, 1, 2, 4)):
            a.once(443, True, up * a.log(0.3, 3), a.log(100, 900))


def browse(a: Actor) -> None:
    """A person and a site."""
    while a.left() > 0:
        for _ in range(a.rng.randrange(1, 6)):
            connection = a.web(443, True)
            for _ in range(a.rng.randrange(1, 9)):
                a.ask(connection, (a.rng.random() < 0.1) * a.log(200, 5e4), a.log(500, 5e5))
            connection.close()
            a.sleep(a.rng.expovariate(1))
        a.sleep(a.log(5, 120))


def resolver(a: Actor) -> None:
    while a.left() > 0:
        for _ in range(a.rng.randrange(1, 12)):
            with a.datagrams() as sock:
                name = b"%s.%s.com" % (a.pick(b"www", b"cdn", b"api", b"img"), b"x" * a.rng.randrange(3, 16))
                a.dns(sock, name, a.pick(1, 1, 1, 28))
            a.sleep(a.rng.expovariate(4))
        a.sleep(a.log(1, 60))


def session(a: Actor) -> None:
    """A person at a remote shell."""
    while a.left() > 0:
        loops, pause = a.rng.randrange(5, 60), a.rng.uniform(0.3, 2)
        a.run("ssh", *a.ssh_options(), f"root@{a.there}", f"for i in $(seq {loops}); do seq {a.rng.randrange(200)}; sleep {pause}; done")
        a.sleep(a.log(5, 90))


def device(a: Actor) -> None:
    """A thing that tells its maker that it lives."""
    port, up, back = a.pick(10001, 6668), a.rng.randrange(20, 250), a.rng.randrange(20, 250)
    for _ in a.beats(a.pick(5, 10, 20), a.pick(0, 0.05)):
        with a.datagrams() as sock:
            sock.sendto(struct.pack("!H", back) + bytes(up), (a.there, port))
            sock.recv(512)


def lan_api(a: Actor) -> None:
    """An app that asks a device each second or two, while it is open."""
    up, down = a.log(100, 900), a.log(60, 4e3)
    while a.left() > 0:
        for _ in range(int(a.log(5, 120))):
            a.once(80, False, up * (a.rng.random() < 0.5), down)
            a.sleep(a.pick(1, 1, 2))
        a.sleep(a.log(10, 120))


def database(a: Actor) -> None:
    with a.connect(5432) as connection:
        while a.left() > 0:
            for _ in range(int(a.log(1, 40))):
                a.say(connection, a.log(60, 2e3), a.log(60, 5e4))
            a.sleep(a.rng.expovariate(0.2))


BENIGN = [
    updates, ntp, health, scrape, probe, backup, sync, call, mail_poll, mail_idle, mail_send, push, segments, polling,
    telemetry, browse, resolver, session, device, lan_api, database,
]  # fmt: skip
