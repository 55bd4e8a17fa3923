"""Records labelled flows of real clients and servers between network namespaces, metered live by Weir. As root.

    python model/captures/record.py -o model/captures/flows-1.parquet [--seconds 600] [--seed 1] [--weir target/release/weir]

    home (10.30.0.0/24) == router, where `weir run` captures == wide-area link == world (198.51.100.0/24)

Every actor of `clients.py` and `everyday.py` has an address of its own at home and a server of its own in the world, so a
pair of addresses is one thing and its label is certain. Clocks are not stretched. The file has the columns of the labelled
flows (source `namespaces`; scenario: the seed), so `weir_model.data` reads it like them. Needs iproute2, curl, openssh,
rsync, ping, /dev/net/tun, and the packages of requirements.txt. Leaves no namespace and no process behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import clients
import everyday
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME, WORLD = "10.30.0.", "198.51.100."
DELAY_MS, JITTER_MS = 14, 4
PAIR_FLOWS = 1000  # of a pair no more are kept: a tunnel has thousands that are alike
COPIES = {"c2": 4, "exfil": 3, "benign": 3}  # actors of each kind
CONFIG = """
[sensor]
workers = 1
pin = false
state_directory = "{work}/state"
[input.netflow]
listen = []
[input.capture]
interface = "home0"
[model]
enabled = false
[rules]
directories = []
[[output.files]]
name = "flows"
directory = "{work}/flows"
"""


class Lab:
    """Namespaces and processes, all of which end with it."""

    def __init__(self):
        self.tag = f"wm{os.getpid()}"
        self.work = Path(tempfile.mkdtemp(prefix=f"{self.tag}-"))
        self.processes: list[subprocess.Popen] = []
        self.names: list[str] = []

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.terminate()
        for name in self.names:
            pids = run("ip", "netns", "pids", name, check=False, capture_output=True, text=True).stdout.split()
            for pid in pids:  # only this run's own can be in the namespaces that it made
                run("kill", "-KILL", pid, check=False, stderr=subprocess.DEVNULL)
        for process in self.processes:
            process.wait()
        for name in self.names:
            run("ip", "netns", "del", name, check=False)
        run("rm", "-rf", str(self.work))

    def namespace(self, name: str) -> str:
        full = f"{self.tag}-{name}"
        run("ip", "netns", "add", full)
        self.names.append(full)
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def start(self, namespace: str | None, *command: str, **options) -> subprocess.Popen:
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        process = subprocess.Popen([*inside, *command], **options)
        self.processes.append(process)
        return process


def run(*command: str, check: bool = True, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, check=check, **options)


def network(lab: Lab, actors: int) -> tuple[str, str, str]:
    """The three namespaces, with an address at home and in the world for each actor."""
    home, router, world = (lab.namespace(name) for name in ("home", "router", "world"))
    ip = lambda namespace, text: run("ip", "-n", namespace, *text.split())
    ip(router, f"link add home0 type veth peer name eth0 netns {home}")
    ip(router, "link set home0 up")
    ip(home, "link set eth0 up")
    ip(router, f"address add {HOME}1/24 dev home0")
    for end, device in ((home, "eth0"), (router, "home0")):
        # Without offloads each frame is what a wire would carry.
        off = [word for name in ("tso", "gso", "gro", "tx") for word in (name, "off")]
        run("ip", "netns", "exec", end, "ethtool", "-K", device, *off, stdout=subprocess.DEVNULL)
    for namespace, device in ((router, "wan0"), (world, "wan0")):
        ip(namespace, f"tuntap add mode tun name {device}")
        ip(namespace, f"link set {device} up")
    for number in range(actors):
        ip(home, f"address add {HOME}{2 + number}/24 dev eth0")
        ip(world, f"address add {WORLD}{2 + number}/32 dev lo")
    ip(router, f"route add {WORLD}0/24 dev wan0")
    ip(world, f"route add {HOME}0/24 dev wan0")
    ip(home, f"route add default via {HOME}1")
    run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    link = [f"{router}:wan0", f"{world}:wan0", "--delay-ms", str(DELAY_MS), "--jitter-ms", str(JITTER_MS)]
    lab.start(None, sys.executable, str(ROOT / "pcaps/tools/wan.py"), *link)
    return home, router, world


def servers(lab: Lab, world: str) -> None:
    """The servers of `servers.py`, and sshd."""
    work = lab.work
    os.chmod(work, 0o755)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=server"]
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    run("openssl", "req", "-x509", *key, "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem", **quiet)
    pem = work / "server.pem"
    pem.write_text((work / "cert.pem").read_text() + (work / "key.pem").read_text())
    for name in ("user", "host"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{work}/{name}")
    keys = f"HostKey {work}/host\nAuthorizedKeysFile {work}/user.pub\n"
    rest = "StrictModes no\nPidFile none\nUseDNS no\nMaxStartups 100\nPermitRootLogin prohibit-password\nUsePAM no\n"
    (work / "sshd.conf").write_text(keys + rest + "Subsystem sftp internal-sftp\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    log = (work / "servers.log").open("w")
    lab.start(world, "/usr/sbin/sshd", "-D", "-e", "-f", f"{work}/sshd.conf", stderr=log)
    served = lab.start(world, sys.executable, str(HERE / "servers.py"), str(pem), stdout=subprocess.PIPE, stderr=log, text=True)
    assert served.stdout.readline() == "ready\n", (work / "servers.log").read_text()


def sensor(lab: Lab, router: str, weir: str) -> subprocess.Popen:
    (lab.work / "weir.toml").write_text(CONFIG.format(work=lab.work))
    for name in ("state", "flows"):
        (lab.work / name).mkdir()
    log = (lab.work / "weir.log").open("w")
    process = lab.start(router, weir, "run", "-c", f"{lab.work}/weir.toml", stderr=log)
    end = time.monotonic() + 20
    while "captur" not in (text := (lab.work / "weir.log").read_text()) and time.monotonic() < end:
        assert process.poll() is None, text
        time.sleep(0.2)
    return process


def plan(seed: int) -> list[tuple[str, Callable]]:
    """Label and routine of each actor, in an order of the seed's."""
    kinds = {"c2": clients.C2, "exfil": clients.EXFIL, "benign": everyday.BENIGN}
    actors = [(label, routine) for label, routines in kinds.items() for routine in routines for _ in range(COPIES[label])]
    random.Random(seed).shuffle(actors)
    return actors


def act(seconds: float, seed: int) -> None:
    """Inside `home`: all actors at once, each from a random moment of the first tenth on."""
    until = time.monotonic() + seconds

    def live(number: int, routine: Callable) -> None:
        kind, ends = routine.__name__, (f"{HOME}{2 + number}", f"{WORLD}{2 + number}")
        actor = clients.Actor(kind, *ends, until, seed * 1000 + number)
        actor.sleep(actor.rng.uniform(0, seconds / 10))
        while actor.left() > 0:
            try:
                routine(actor)
                return
            except clients.FAILURES as error:
                print(f"{kind} {number}: {error!r}", flush=True)  # it tries again, as daemons do
                actor.sleep(3)

    threads = [threading.Thread(target=live, args=(n, routine), daemon=True) for n, (_, routine) in enumerate(plan(seed))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(1.0, until + 10 - time.monotonic()))


def labelled(folder: Path, seed: int):
    """Weir's slices with the label of their actor, in the columns of the labelled flows."""
    lines = [line for path in sorted(folder.rglob("*.ndjson")) for line in path.read_text().splitlines()]
    rows = pd.DataFrame([json.loads(line) for line in lines])
    actors = plan(seed)
    number = lambda address, net: int(address[len(net) :]) - 2 if address.startswith(net) else -1
    host = rows.src_ip.map(lambda a: max(number(a, HOME), number(a, WORLD)))
    rows, host = rows[(host >= 0) & (host < len(actors))], host[(host >= 0) & (host < len(actors))]
    whole = lambda name, dtype: rows[name].fillna(0).to_numpy(dtype)
    flags = (whole("fwd_tcp_flags", np.int64) | whole("bwd_tcp_flags", np.int64)) if "fwd_tcp_flags" in rows else 0
    out = pd.DataFrame(
        {
            "actor": host.to_numpy(),
            "ts_start": whole("timestamp", np.int64),
            "duration_ms": (whole("flow_dur", float) * 1000).astype(np.float32),
            "src_ip": rows.src_ip.to_numpy(str),
            "dst_ip": rows.dest_ip.to_numpy(str),
            "src_port": whole("src_port", np.uint16),
            "dst_port": whole("dest_port", np.uint16),
            "proto": whole("protocol", np.uint8),
            "fwd_bytes": whole("fwd_bytes", np.int64),
            "bwd_bytes": whole("bwd_bytes", np.int64),
            "fwd_pkts": whole("fwd_pkts", np.int32),
            "bwd_pkts": whole("bwd_pkts", np.int32),
            "tcp_flags": (flags & 0xFF).astype(np.uint8),
            "cont": False,
            "label": [actors[i][0] for i in host],
            "source": "namespaces",
            "scenario": f"namespaces-{seed}",
            "weak": False,
            "family": [actors[i][1].__name__ for i in host],
        }
    )
    out = out.sort_values(["ts_start", "src_ip", "src_port"], kind="stable")
    return out[out.groupby("actor").cumcount() < PAIR_FLOWS].drop(columns="actor").reset_index(drop=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weir", default=str(ROOT / "target/release/weir"))
    parser.add_argument("--act", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.act:
        act(arguments.seconds, arguments.seed)
        return
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        sys.exit("record.py: must run as root, with /dev/net/tun")
    with Lab() as lab:
        home, router, world = network(lab, len(plan(arguments.seed)))
        servers(lab, world)
        weir = sensor(lab, router, arguments.weir)
        environment = os.environ | {"SSH_KEY": f"{lab.work}/user", "WORK": str(lab.work)}
        again = [sys.executable, __file__, "--act", "--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
        acting = lab.start(home, *again, env=environment)
        try:
            acting.wait(arguments.seconds + 60)
        except subprocess.TimeoutExpired:
            print("record.py: some actors did not end in time")
        time.sleep(6)  # flows linger after their end
        weir.terminate()
        weir.wait(30)
        print((lab.work / "weir.log").read_text()[-2000:])
        flows = labelled(lab.work / "flows", arguments.seed)
    flows.to_parquet(arguments.output, compression="zstd", index=False)
    print(flows.groupby(["label", "family"]).agg(pairs=("src_ip", "nunique"), flows=("proto", "size"), out=("fwd_bytes", "sum")).to_string())


if __name__ == "__main__":
    main()
