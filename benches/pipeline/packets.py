"""Rows of packets: captures read to their end, and one live interface."""
import os
import re
import shutil
import socket
import subprocess
import time

from host import Absent, Process, cpu_to_the_end, run, wait_until

SINK_PORT = 20_557


def packets_of(path):
    """How many packets a classic little-endian capture holds."""
    count, at, size = 0, 24, os.path.getsize(path)
    with open(path, "rb", buffering=1 << 22) as file:
        file.seek(24)
        while at + 16 <= size:
            header = file.read(16)
            length = int.from_bytes(header[8:12], "little")
            file.seek(length, os.SEEK_CUR)
            at += 16 + length
            count += 1
    return count


def mix(bench):
    """A capture of real traffic: recorded captures, multiplied with shifted addresses."""
    packets = 300_000 if bench.quick else 3_000_000
    path = bench.work / f"mix-{packets}.pcap"
    if not path.exists():
        folder = bench.vectors / "packets"
        captures = sorted(folder.rglob("*.pcap"))
        if not captures:
            raise Absent(f"captures to multiply (WEIR_VECTORS names their folder; {folder} has none)")
        (bench.work / "list").write_text("".join(f"{capture}\n" for capture in captures))
        part = path.with_suffix(".part")
        run(list(map(str, [bench.tool("mkbig"), bench.work / "list", part, "1600000000", "600", "20260102", packets])))
        part.rename(path)
    return path


def synthetic(bench):
    """A capture of small flows, each with its own addresses and ports."""
    flows = 100_000 if bench.quick else 1_000_000
    path = bench.work / f"synth-{flows}.pcap"
    if not path.exists():
        part = path.with_suffix(".part")
        run(list(map(str, [bench.tool("mksynth"), part, path.with_suffix(".csv"), flows, "300", "20260101"])))
        part.rename(path)
    return path


CANONICAL = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,protocol,fwd_bytes,bwd_bytes,fwd_pkts,bwd_pkts"


def weir(bench, path):
    """Canonical columns as Parquet with zstd 1; rules and model off."""
    folder = bench.folder("replay")
    (folder / "weir.toml").write_text("[rules]\ndirectories = []\n[model]\nenabled = false\n")
    return [bench.weir, "replay", "-c", folder / "weir.toml", path, "-o", folder / "flows.parquet", "--format", "parquet",
            "--fields", CANONICAL, "--workers", "1", "--quiet"]


def nfpcapd(bench, path):
    return [bench.peer("nfpcapd"), "-r", path, "-w", bench.folder("nfpcapd")]


def softflowd(bench, path):
    return [bench.peer("softflowd"), "-d", "-r", path, "-n", f"127.0.0.1:{SINK_PORT}", "-v", "10", "-b", "-m",
            "4000000", "-p", bench.folder("softflowd") / "pid", "-c", "none"]


def floor(bench, path):
    return [bench.tool("floor"), "R", path]


def flowprep(bench, path):
    program = shutil.which("flowprep")
    if not program:
        raise Absent("flowprep (`cargo install flowprep`)")
    return [program, "pcap", path, bench.folder("flowprep") / "flows.parquet"]


def rate(bench, command, path, packets):
    """Millions of packets per CPU second of the whole process."""
    with open(bench.work / "replay.log", "w") as log, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        unread.bind(("127.0.0.1", SINK_PORT))  # softflowd sends to it; never read, but no ICMP errors go back
        cpu_s, mib = cpu_to_the_end(command(bench, path), bench.collect_core, log)
    return packets / 1e6 / cpu_s, mib


LIVE = """
[sensor]
workers = 1
pin = false
state_directory = "{folder}/state"
[input.netflow]
listen = []
[input.capture]
interface = "wb1"
buffer_bytes = 268435456
[flow]
entries_max = 2000000
[admin]
listen = "127.0.0.1:20556"
"""


def live(bench):
    """tcpreplay at its top speed into one end of a veth, the sensor on the other, in a namespace of its own.

    Returns (packets sent, packets read, drops, flows, flows of a replay of the same file).
    """
    if os.geteuid() != 0:
        raise Absent("root, for a network namespace")
    path = synthetic(bench)
    tcpreplay = bench.peer("tcpreplay")
    namespace = f"weir-bench-{os.getpid()}"
    inside = ["ip", "netns", "exec", namespace]
    folder = bench.folder("live")
    (folder / "weir.toml").write_text(LIVE.format(folder=folder))
    run([bench.weir, "replay", path, "--workers", "1", "--quiet", "--summary", folder / "summary.json"])
    run(["ip", "netns", "add", namespace])
    try:
        # Neighbour discovery would send packets that the capture does not hold.
        run([*inside, "sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"])
        run([*inside, "ip", "link", "set", "lo", "up"])
        run([*inside, "ip", "link", "add", "wb0", "type", "veth", "peer", "name", "wb1"])
        for end in ("wb0", "wb1"):
            run([*inside, "ip", "link", "set", end, "mtu", "9000", "up"])
        with open(folder / "log", "w") as log, Process([bench.weir, "run", "-c", folder / "weir.toml"],
                                                       bench.collect_core, log, prefix=inside):
            def told():
                done = subprocess.run([*inside, "curl", "-s", "http://127.0.0.1:20556/metrics"], stdout=subprocess.PIPE,
                                      text=True, check=False)
                return {name: float(value) for name, value in re.findall(r"^(weir_\S+) (\S+)$", done.stdout, re.MULTILINE)}
            if not wait_until(told, 20):
                raise RuntimeError(f"the sensor does not answer: see {log.name}")
            words = run([*inside, "taskset", "-c", str(bench.send_core), tcpreplay, "--topspeed", "--preload-pcap",
                         "-i", "wb0", path])
            sent = int(re.search(r"Successful packets:\s+(\d+)", words).group(1))
            read = 0
            while (now := told().get("weir_input_packets_total", 0)) != read:
                read = now
                time.sleep(1)
            counted = told()
    finally:
        run(["ip", "netns", "del", namespace])
    summary = (folder / "summary.json").read_text()
    flows = int(re.search(r'"opened":\s*(\d+)', summary).group(1))
    drops = counted.get('weir_input_kernel_drops_total{input="capture"}', 0)
    return sent, int(read), int(drops), int(counted.get("weir_flow_slices_opened_total", 0)), flows
