"""The clients of a recording (`record.py`): one thread an actor, each with an address and a server of its own.

Programs and libraries are real (http.client, curl, ssh, scp, rsync, ftplib, smtplib, imaplib, ping); what an implant or a
daemon says with them, and when, is drawn from the actor's seed. Clocks are not stretched: what sleeps does sleep, so
periods are of 1 to 60 seconds.
"""

from __future__ import annotations

import ftplib
import http.client
import imaplib
import io
import os
import random
import smtplib
import socket
import ssl
import struct
import subprocess
import time

TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
LIMIT_S = 30
# What a call may end with that its server or its link did.
FAILURES = (OSError, EOFError, http.client.HTTPException, imaplib.IMAP4.error, smtplib.SMTPException, ftplib.Error)


class Actor:
    """Where it calls from and to, until when, and its own randomness."""

    def __init__(self, kind: str, here: str, there: str, until: float, seed: int):
        self.kind, self.here, self.there, self.until = kind, here, there, until
        self.rng = random.Random(seed)

    def left(self) -> float:
        return self.until - time.monotonic()

    def sleep(self, seconds: float) -> bool:
        """Sleeps; false once the recording is over."""
        time.sleep(max(0.0, min(seconds, self.left())))
        return self.left() > 0

    def beats(self, period: float, jitter: float, missed: float = 0.0):
        """Once a beat: each sleep is drawn from `period` (1 ± jitter) and begins after the work, as implants do it."""
        while self.left() > 0:
            if self.rng.random() >= missed:
                yield
            if not self.sleep(period * (1 + self.rng.uniform(-jitter, jitter))):
                return

    def log(self, low: float, high: float) -> float:
        """A draw whose logarithm is uniform."""
        return low * (high / low) ** self.rng.random()

    def pick(self, *values):
        return self.rng.choice(values)

    def connect(self, port: int, tls: bool = False) -> socket.socket:
        raw = socket.create_connection((self.there, port), LIMIT_S, (self.here, 0))
        return TLS.wrap_socket(raw) if tls else raw

    def web(self, port: int, tls: bool) -> http.client.HTTPConnection:
        make, more = (http.client.HTTPSConnection, {"context": TLS}) if tls else (http.client.HTTPConnection, {})
        return make(self.there, port, timeout=LIMIT_S, source_address=(self.here, 0), **more)

    def ask(self, connection, up: float, down: float, agent: str = "Mozilla/5.0") -> None:
        """One request of about `up` octets of body, answered with `down`."""
        body = os.urandom(int(up)) if up >= 1 else None
        headers = {"User-Agent": agent, "Accept": "*/*"}
        connection.request("POST" if body else "GET", f"/{self.kind}?{int(down)}", body, headers)
        connection.getresponse().read()

    def once(self, port: int, tls: bool, up: float, down: float) -> None:
        connection = self.web(port, tls)
        try:
            self.ask(connection, up, down)
        finally:
            connection.close()

    def run(self, *command: str, source: bytes | None = None) -> None:
        limit = max(1.0, min(120.0, self.left() + 5))
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run(command, input=source, timeout=limit, check=False, **quiet)
        except subprocess.TimeoutExpired:
            pass

    def curl(self, url: str, *more: str, source: bytes | None = None) -> None:
        self.run("curl", "-q", "-sSk", "--interface", self.here, "--max-time", "100", "-o", "/dev/null", *more, url, source=source)

    def ssh_options(self) -> list[str]:
        pairs = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", f"BindAddress={self.here}")
        return ["-F", "none", "-i", os.environ["SSH_KEY"], *(word for pair in pairs for word in ("-o", pair))]

    def say(self, connection: socket.socket, up: float, down: float) -> None:
        """One message over a kept connection."""
        up, down = int(up), int(down)
        connection.sendall(struct.pack("!II", up, down) + os.urandom(up))
        while down > 0:
            down -= len(connection.recv(min(down, 1 << 16))) or down

    def dns(self, sock: socket.socket, name: bytes, kind: int) -> None:
        """One question; an answer that does not come is not waited for."""
        labels = b"".join(bytes([len(part)]) + part for part in name.split(b".") if part)
        head = struct.pack("!HHHHHH", self.rng.randrange(1 << 16), 0x0100, 1, 0, 0, 0)
        sock.sendto(head + labels + b"\0" + struct.pack("!HH", kind, 1), (self.there, 53))
        try:
            sock.recv(2048)
        except TimeoutError:
            pass

    def datagrams(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.here, 0))
        sock.settimeout(2)
        return sock


# ---- Command and control ------------------------------------------------------------------------------------------------


def https_beacon(a: Actor) -> None:
    """A check-in over HTTPS a beat, and now and then a task whose result goes back."""
    port, base, answer = a.pick(443, 443, 8443), a.log(100, 900), a.log(30, 900)
    padding = a.pick(0, 0, 0.3)
    a.once(port, True, base, a.log(2e4, 3e5))  # the stage
    for _ in a.beats(a.pick(1, 2, 3, 5, 5, 8, 10), a.pick(0, 0.1, 0.2, 0.3, 0.5), a.pick(0, 0, 0.1)):
        task = a.rng.random() < 0.03
        a.once(port, True, base * (1 + padding * a.rng.random()), answer + task * a.log(200, 3e4))
        if task:
            a.once(port, True, base + a.log(500, 4e4), answer)


def http_beacon(a: Actor) -> None:
    """The same in clear text, with curl."""
    port, answer = a.pick(80, 8080), int(a.log(20, 600))
    for _ in a.beats(a.pick(2, 5, 10), a.pick(0, 0.1, 0.2, 0.5)):
        a.curl(f"http://{a.there}:{port}/submit?{answer}", "-H", f"Cookie: {'x' * int(a.log(80, 400))}")


def kept_beacon(a: Actor) -> None:
    """Check-ins inside kept connections: another follows when the server or a proxy has had enough."""
    base, answer, period = a.log(100, 900), a.log(30, 900), a.pick(1, 2, 4)
    while a.left() > 0:
        connection, begun, life = a.web(443, True), time.monotonic(), a.rng.uniform(15, 60)
        for _ in a.beats(period, 0.2):
            a.ask(connection, base, answer)
            if time.monotonic() - begun > life:
                break
        connection.close()


def raw_shell(a: Actor) -> None:
    """A remote shell over a TCP connection of its own: keepalives, bursts of commands, drops and comes back."""
    port = a.pick(4444, 1177, 6667)
    while a.left() > 0:
        with a.connect(port) as connection:
            begun, life, ping = time.monotonic(), a.log(20, 200), a.pick(2, 5, 10)
            a.say(connection, a.log(60, 900), 20)
            for _ in a.beats(ping, 0.05):
                a.say(connection, 12, 12)
                if a.rng.random() < 0.08:
                    for _ in range(a.rng.randrange(1, 6)):
                        a.say(connection, a.log(50, 2e4), a.log(10, 80))
                        a.sleep(a.rng.expovariate(1))
                if time.monotonic() - begun > life:
                    break
        a.sleep(a.rng.expovariate(0.2))


def dead_beacon(a: Actor) -> None:
    """The server is gone; the implant goes on trying."""
    port = a.pick(447, 449, 9001)
    for _ in a.beats(a.pick(3, 5, 10, 20), a.pick(0, 0.1, 0.3)):
        try:
            a.connect(port).close()
        except OSError:
            pass


def names(a: Actor, length: float) -> bytes:
    text = "".join(a.rng.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(int(length))).encode()
    return b".".join(text[i : i + 60] for i in range(0, len(text), 60))


def dns_beacon(a: Actor) -> None:
    """Polls by TXT, a socket a question."""
    length, answer = a.log(20, 120), int(a.log(8, 60))
    for _ in a.beats(a.pick(1, 2, 5), a.pick(0, 0.1, 0.3)):
        for _ in range(a.pick(1, 1, 1, 3)):
            with a.datagrams() as sock:
                a.dns(sock, b"a%d." % answer + names(a, length) + b".c.example.org", 16)


def dns_tunnel(a: Actor) -> None:
    """A tunnel in use: polls while it idles, bursts of full names while it carries something, all from one socket."""
    with a.datagrams() as sock:
        while a.left() > 0:
            for _ in range(int(a.log(10, 120))):
                a.dns(sock, b"a%d." % int(a.log(60, 900)) + names(a, a.rng.uniform(60, 200)) + b".t.example.org", 16)
                a.sleep(a.rng.expovariate(30))
            for _ in range(int(a.log(3, 30))):
                a.dns(sock, b"a8." + names(a, 24) + b".t.example.org", 16)
                a.sleep(a.rng.uniform(0.8, 1.2))


def icmp_tunnel(a: Actor) -> None:
    """Echo requests that carry something, with pauses."""
    while a.left() > 0:
        count, size = int(a.log(5, 60)), int(a.log(80, 900))
        a.run("ping", "-n", "-q", "-I", a.here, "-c", str(count), "-i", str(a.pick(0.3, 1, 2)), "-s", str(size), a.there)
        a.sleep(a.log(5, 90))


# ---- Exfiltration -------------------------------------------------------------------------------------------------------


def https_bulk(a: Actor) -> None:
    """An archive at once, after a look around."""
    a.sleep(a.rng.uniform(10, 120))
    for _ in range(a.pick(1, 2)):
        a.once(443, True, a.log(3e6, 2e7), a.log(60, 900))
        a.sleep(a.log(5, 60))


def https_chunks(a: Actor) -> None:
    chunk, answer = a.log(1e5, 1.5e6), a.log(60, 600)
    for _ in a.beats(a.log(4, 20), a.pick(0, 0.2, 0.5)):
        a.once(443, True, chunk * a.rng.uniform(0.9, 1.0), answer)


def https_slow(a: Actor) -> None:
    chunk, answer = a.log(4e3, 6e4), a.log(60, 600)
    for _ in a.beats(a.log(3, 15), a.pick(0, 0.2, 0.4)):
        a.curl(f"https://{a.there}/in?{int(answer)}", "-T", "-", source=os.urandom(int(chunk * a.rng.uniform(0.6, 1.2))))


def scp_out(a: Actor) -> None:
    while a.left() > 0:
        with open(f"{os.environ['WORK']}/{a.here}.bin", "wb") as file:
            file.write(os.urandom(int(a.log(5e5, 6e6))))
        a.run("scp", "-q", *a.ssh_options(), file.name, f"root@{a.there}:/dev/null")
        a.sleep(a.log(15, 90))


def ftp_out(a: Actor) -> None:
    while a.left() > 0:
        with ftplib.FTP(timeout=LIMIT_S, source_address=(a.here, 0)) as client:
            client.connect(a.there, 21)
            client.login("user", "secret")
            for number in range(a.rng.randrange(1, 6)):
                client.storbinary(f"STOR {a.here}-{number}", io.BytesIO(os.urandom(int(a.log(5e4, 3e6)))))
                a.sleep(a.log(0.5, 10))
        a.sleep(a.log(10, 60))


def smtp_out(a: Actor) -> None:
    """Mail with attachments to one box, again and again."""
    size = a.log(5e4, 6e5)
    for _ in a.beats(a.log(8, 30), 0.3):
        send(a, 587, size * a.rng.uniform(0.7, 1.3))


def dns_out(a: Actor) -> None:
    rate = a.log(4, 40)
    for _ in a.beats(1 / rate, 0.3):
        with a.datagrams() as sock:
            a.dns(sock, names(a, 180) + b".x.example.org", 1)


def icmp_out(a: Actor) -> None:
    while a.left() > 0:
        a.run("ping", "-n", "-q", "-I", a.here, "-c", str(int(a.log(40, 300))), "-i", "0.2", "-s", "1200", a.there)
        a.sleep(a.log(2, 40))


def send(a: Actor, port: int, size: float) -> None:
    with smtplib.SMTP(a.there, port, timeout=LIMIT_S, source_address=(a.here, 0)) as client:
        text = os.urandom(int(size / 2)).hex()
        client.sendmail("a@example.org", ["b@example.org"], "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)))


C2 = [https_beacon, http_beacon, kept_beacon, raw_shell, dead_beacon, dns_beacon, dns_tunnel, icmp_tunnel]
EXFIL = [https_bulk, https_chunks, https_slow, scp_out, ftp_out, smtp_out, dns_out, icmp_out]
