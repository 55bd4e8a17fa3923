#!/usr/bin/env python3
"""Measures Weir beside nfcapd and softflowd, in turn, in one run, and writes a table of medians.

    NFSEND=/path/to/sender benches/compare/compare.py [--capture FILE] [--weir target/release/weir]

Collecting: the sender named by NFSEND sends v5, v9 and IPFIX over loopback, pinned to one core, the collector to the
other; the figure is CPU seconds (user and system, whole process with start and end) per million records received.
NFSEND must take --version, --port, --rate and --seconds and end with a line of JSON that has `records` and
`datagrams`. Packets: both read the capture; the figure is millions of packets per CPU second. Peers do different
work: nfcapd stores records as they come, Weir merges them into flows, runs rules and writes what ended.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

PORT = 20_999
SENDER_CORE, COLLECTOR_CORE = 0, 1
VERSIONS = {5: "v5", 9: "v9", 10: "IPFIX"}
START_S, DRAIN_S, END_MAX_S = 1.0, 1.0, 60
LOSS_MAX = 0.001  # a run that lost more than this share of the datagrams is marked

WEIR_CONFIG = """
[sensor]
workers = 1
state_directory = "{folder}/state"
[input.netflow]
listen = ["127.0.0.1:{port}"]
receive_buffer_bytes = 33554432
[[output.files]]
name = "bench"
directory = "{folder}/out"
format = "ndjson"
"""


def weir_collects(args, folder):
    for name in ("out", "state"):
        (folder / name).mkdir()
    (folder / "bench.toml").write_text(WEIR_CONFIG.format(folder=folder, port=PORT))
    return [args.weir, "run", "-c", str(folder / "bench.toml")]


def nfcapd_collects(_, folder):
    return ["nfcapd", "-w", str(folder), "-p", str(PORT), "-b", "127.0.0.1", "-B", "33554432", "-t", "3600"]


def weir_replays(args, folder):
    return [args.weir, "replay", args.capture, "-o", str(folder / "flows.ndjson"), "--format", "ndjson", "--workers", "1"]


def softflowd_replays(args, _):
    return ["softflowd", "-d", "-r", args.capture, "-n", f"127.0.0.1:{PORT}", "-v", "10", "-b", "-m", "4000000",
            "-c", "none"]


def start(command, core, log):
    return subprocess.Popen(["taskset", "-c", str(core), *command], stdout=log, stderr=log)


def end(process, limit_s):
    """Waits for the end; returns the CPU seconds of the process, all its threads and children, start to end."""
    deadline = time.monotonic() + limit_s
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise TimeoutError(f"{process.args[3]} did not end in {limit_s} s")
        time.sleep(0.01)


def dropped(port):
    """Datagrams that the kernel dropped at the socket bound to this UDP port."""
    for table in ("/proc/net/udp", "/proc/net/udp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rsplit(":", 1)[1], 16) == port:
                return int(fields[-1])
    raise ProcessLookupError(f"nothing listens on UDP port {port}")


def collect(args, command_of, version, log):
    """One run: returns (CPU seconds per million records, share of datagrams lost)."""
    with tempfile.TemporaryDirectory(prefix="compare.") as folder:
        collector = start(command_of(args, pathlib.Path(folder)), COLLECTOR_CORE, log)
        try:
            time.sleep(START_S)
            sender = ["taskset", "-c", str(SENDER_CORE), args.nfsend, "--version", str(version), "--port", str(PORT),
                      "--rate", str(args.rate), "--seconds", str(args.seconds)]
            line = subprocess.run(sender, check=True, stdout=subprocess.PIPE, timeout=args.seconds + 30).stdout
            sent = json.loads(line)
            time.sleep(DRAIN_S)
            lost = dropped(PORT) / sent["datagrams"]
        finally:
            collector.terminate()
            cpu_s = end(collector, END_MAX_S)
    return cpu_s / (sent["records"] * (1 - lost) / 1e6), lost


def replay(args, command_of, packets, log):
    """One run: returns millions of packets per CPU second."""
    with tempfile.TemporaryDirectory(prefix="compare.") as folder, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", PORT))  # never read: full at once, but no ICMP errors go back
        process = start(command_of(args, pathlib.Path(folder)), COLLECTOR_CORE, log)
        cpu_s = end(process, 600)
    if process.returncode != 0:
        raise ChildProcessError(f"{process.args[3]} ended with {process.returncode}")
    return packets / 1e6 / cpu_s


def packets_in(path):
    """Counts the records of a classic little-endian pcap."""
    count, at, size = 0, 24, os.path.getsize(path)
    with open(path, "rb", buffering=1 << 20) as file:
        if struct.unpack("<I", file.read(4))[0] not in (0xA1B2C3D4, 0xA1B23C4D):
            raise ValueError(f"{path} is not a classic little-endian pcap")
        file.seek(at)
        while at + 16 <= size:
            at += 16 + struct.unpack("<8xI4x", file.read(16))[0]
            file.seek(at)
            count += 1
    return count


def in_turn(runs, left, right):
    """Runs both `runs` times, alternating; returns their results."""
    results = [], []
    for _ in range(runs):
        results[0].append(left())
        results[1].append(right())
    return results


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def collecting(args, log):
    yield f"CPU seconds per million records received, median (least-most) of {args.runs}; {args.rate} records/s for " \
          f"{args.seconds} s:\n"
    yield "| format | weir | nfcapd | weir / nfcapd | most lost, weir / nfcapd |\n|---|--:|--:|--:|--:|"
    for version, name in VERSIONS.items():
        ours, theirs = in_turn(args.runs, lambda v=version: collect(args, weir_collects, v, log),
                               lambda v=version: collect(args, nfcapd_collects, v, log))
        costs = [[cost for cost, _ in side] for side in (ours, theirs)]
        losses = [max(lost for _, lost in side) for side in (ours, theirs)]
        mark = " **lossy**" if max(losses) > LOSS_MAX else ""
        yield f"| {name} | {spread(costs[0])} | {spread(costs[1])} | " \
              f"{statistics.median(costs[0]) / statistics.median(costs[1]):.2f} | " \
              f"{losses[0]:.2%} / {losses[1]:.2%}{mark} |"


def replaying(args, log):
    packets = packets_in(args.capture)
    yield f"\nMillions of packets per CPU second, median (least-most) of {args.runs}; {packets} packets:\n"
    yield "| weir | softflowd | weir / softflowd |\n|--:|--:|--:|"
    ours, theirs = in_turn(args.runs, lambda: replay(args, weir_replays, packets, log),
                           lambda: replay(args, softflowd_replays, packets, log))
    yield f"| {spread(ours)} | {spread(theirs)} | {statistics.median(ours) / statistics.median(theirs):.2f} |"


def machine():
    """CPU model and count, in words and as a file name; never the host's name."""
    model = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    words = "".join(letter if letter.isalnum() else " " for letter in model.lower()).split()
    return f"{model}, {os.cpu_count()} CPUs, Linux {platform.release().split('-')[0]}", f"{'-'.join(words)}-{os.cpu_count()}cpu"


def first_line(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default=str(root / "target/release/weir"))
    parser.add_argument("--nfsend", default=os.environ.get("NFSEND"), help="the sender; without it packets only")
    parser.add_argument("--capture", help="classic pcap, plain; without it collecting only")
    parser.add_argument("--rate", type=int, default=400_000, help="records per second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", default=str(root / "benches/runs"))
    args = parser.parse_args()
    needs = [args.weir, "taskset", *(["nfcapd", args.nfsend] if args.nfsend else []),
             *(["softflowd"] if args.capture else [])]
    missing = [name for name in needs if not shutil.which(name)]
    if missing or not (args.nfsend or args.capture) or os.cpu_count() < 2:
        sys.exit(f"needs {', '.join(missing) or 'NFSEND or --capture, and two CPUs'} (see --help)")
    described, name = machine()
    today = datetime.date.today().isoformat()
    lines = [f"# Weir beside its peers, {today}", "", f"{described}; {first_line(args.weir, '--version')}, commit "
             f"{first_line('git', '-C', str(root), 'rev-parse', '--short', 'HEAD')}; {first_line('nfcapd', '-V')}. "
             "Remake: `NFSEND=... benches/compare/compare.py --capture ...`.", ""]
    with tempfile.TemporaryFile() as log:
        for part in ([collecting] if args.nfsend else []) + ([replaying] if args.capture else []):
            for line in part(args, log):
                print(line, flush=True)
                lines.append(line)
    path = pathlib.Path(args.out) / f"{today}-{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
