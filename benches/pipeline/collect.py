"""Rows of NetFlow over UDP: the sender on one core, the collector on another."""
import json
import pathlib
import signal
import subprocess
import time
import urllib.request

from host import Absent, Process, run, socket_state, wait_until

PORT, ADMIN = 20_555, 20_556
TRAFFIC = ["--exporters", "4", "--flows", "1000000", "--new-share", "0.1", "--reverse", "0.3"]
BUFFER = 4_000_000  # what every collector asks for; the kernel's bound is net.core.rmem_max
CONFIG = """
[sensor]
workers = 1
pin = false
state_directory = "{folder}/state"
[input.netflow]
listen = ["127.0.0.1:{port}"]
receive_buffer_bytes = {buffer}
coalesce_us = {coalesce}
[flow]
entries_max = {entries}
reserve = {reserve}
[rules]
directories = [{rules}]
[model]
enabled = false
[admin]
listen = "127.0.0.1:{admin}"
"""
PARQUET = """
[[output.files]]
name = "bench"
directory = "{folder}/out"
format = "parquet"
"""
ACTIVE = """
[flow.netflow]
idle_timeout_s = 2
active_timeout_s = 5
"""
NFACCTD = """daemonize: false
plugins: print[bench]
nfacctd_ip: 127.0.0.1
nfacctd_port: {port}
nfacctd_pipe_size: {buffer}
aggregate[bench]: src_host, dst_host, src_port, dst_port, proto
print_refresh_time[bench]: 3600
print_output_file[bench]: /dev/null
print_cache_entries[bench]: 32771
plugin_pipe_size[bench]: 268435456
plugin_buffer_size[bench]: 65536
"""


class Cost:
    """What one run cost."""

    def __init__(self, sent, dropped, cpu_s, waited_s, mib, metrics):
        datagrams = sent["datagrams"] + sent["template_datagrams"]
        self.sent, self.dropped, self.cpu_s, self.mib, self.metrics = sent, dropped, cpu_s, mib, metrics
        self.waited_s = waited_s  # for a core: what others on this machine took of it
        self.loss = dropped / max(1, datagrams)
        self.millions = sent["records"] * (1 - self.loss) / 1e6
        self.per_million = cpu_s / self.millions


def weir(bench, name, *, coalesce=500, entries=3_000_000, rules=None, parquet=False, buffer=BUFFER, reserve=True):
    """The command of the sensor, with nothing on that is not asked for."""
    folder = bench.folder(name)
    settings = {"folder": folder, "port": PORT, "admin": ADMIN, "buffer": buffer, "coalesce": coalesce,
                "entries": entries, "rules": f'"{rules}"' if rules else "", "reserve": str(reserve).lower()}
    text = CONFIG + (PARQUET + ACTIVE if parquet else "")
    (folder / "state").mkdir()
    (folder / "weir.toml").write_text(text.format(**settings))
    return [bench.weir, "run", "-c", folder / "weir.toml"]


def nfcapd(bench, name):
    return [bench.peer("nfcapd"), "-w", bench.folder(name), "-p", PORT, "-b", "127.0.0.1", "-B", BUFFER, "-t", "3600"]


def nfacctd(bench, name):
    program = bench.peer("nfacctd")
    config = bench.folder(name) / "nfacctd.conf"
    config.write_text(NFACCTD.format(port=PORT, buffer=BUFFER))
    return [program, "-f", config]


def sink(bench, _):
    return [bench.tool("sink"), PORT, "64", "600"]


def sender(bench, version, rate, seconds, more=()):
    options = [*TRAFFIC, *more]
    command = ["taskset", "-c", bench.send_core, bench.tool("nfsend"), "--version", version, "--port", PORT, "--rate",
               rate, "--seconds", seconds, *options]
    return list(map(str, command))


def send(bench, version, rate, seconds, more=()):
    return json.loads(run(sender(bench, version, rate, seconds, more), timeout=seconds + 60))


def metrics():
    """The sensor's metrics by name with labels; nothing if it does not answer (a peer)."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    parts = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in parts}


def start(bench, command, log):
    """Waits until the collector receives. The sensor binds its sockets first, takes the memory of its table then, and
    says when it is ready; what came before would be lost for want of a reader, and the taking be counted as cost."""
    if not wait_until(lambda: socket_state(PORT), 20) or command[0] == bench.weir and not wait_until(is_ready, 60):
        raise RuntimeError(f"{command[0]} does not listen: see {log.name}")
    time.sleep(1)


def is_ready():
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def measure(bench, command, version, rate, seconds, more=(), before=None, stop=signal.SIGTERM):
    """Starts a collector, sends to it, and says what it cost from the first datagram until its socket is empty.

    `before` are options of a first round of sending that is not measured.
    """
    with open(bench.work / "collector.log", "w") as log, Process(command, bench.collect_core, log, stop) as collector:
        start(bench, command, log)
        if before:
            send(bench, version, *before)
            wait_until(lambda: (socket_state(PORT) or (0,))[0] == 0, 20)
        cpu, waited, (_, drops) = collector.cpu_seconds(), collector.waited_seconds(), socket_state(PORT)
        sent = send(bench, version, rate, seconds, more)
        wait_until(lambda: (socket_state(PORT) or (0,))[0] == 0, 20)
        time.sleep(1)
        state = socket_state(PORT)
        if state is None:
            raise RuntimeError(f"{command[0]} ended: see {log.name}")
        cpu, waited = collector.cpu_seconds() - cpu, collector.waited_seconds() - waited
        return Cost(sent, state[1] - drops, cpu, waited, collector.peak_mib(), metrics())


def agrees(cost):
    """Whether the sensor's ledgers and the sender agree to the record."""
    told = cost.metrics
    records = told.get("weir_flow_records_total", -1)
    merged = told.get("weir_flow_records_merged_total", 0) + told.get("weir_flow_records_duplicate_total", 0)
    if cost.dropped:
        return "not compared: the kernel dropped datagrams"
    return "agree" if records == merged == cost.sent["records"] else "DISAGREE"


def loses(bench, command, version, rate, seconds):
    """Sends so long, or until the kernel drops a datagram of the collector: what went wrong, None if nothing did."""
    with open(bench.work / "collector.log", "w") as log, Process(command, bench.collect_core, log) as collector:
        start(bench, command, log)
        with subprocess.Popen(sender(bench, version, rate, seconds), stdout=subprocess.PIPE, text=True) as sending:
            while sending.poll() is None:
                time.sleep(0.2)
                if (socket_state(PORT) or (0, 1))[1]:
                    sending.kill()
                    return f"dropped, after the collector had waited {collector.waited_seconds():.3f} s for its core"
            sent = json.load(sending.stdout)
        if sent["records"] < 0.98 * rate * seconds:
            return f"the sender came to {sent['records'] / seconds:.0f} records/s"
        wait_until(lambda: (socket_state(PORT) or (0,))[0] == 0, 20)
        time.sleep(1)
        told = metrics()
        records, merged = told.get("weir_flow_records_total"), told.get("weir_flow_records_merged_total", 0)
        if told and not records == merged + told.get("weir_flow_records_duplicate_total", 0) == sent["records"]:
            return f"{sent['records']} were sent, {records} decoded, {merged} merged"
        return "dropped at the end" if (socket_state(PORT) or (0, 1))[1] else None


def highest_lossless(bench, command, version, seconds, repeats, rates):
    """The highest of `rates`, by halves, that is taken without loss in each of `repeats` runs; 0 if none is. Beside
    it, what went wrong at the rates that were too high."""
    wrong = {}

    def holds(rate):
        for _ in range(repeats):
            wrong[rate] = loses(bench, command(), version, rate, seconds)
            if wrong[rate]:
                return False
        return wrong.pop(rate) is None

    best, low, high = 0, 0, len(rates)
    while low < high:
        middle = (low + high) // 2
        if holds(rates[middle]):
            best, low = rates[middle], middle + 1
        else:
            high = middle
    return best, wrong


def rules_of(bench, count):
    """A folder of generated rules."""
    generator = bench.sources / "sigma/gen.py"
    if not generator.is_file():
        raise Absent(f"{generator.name} (WEIR_BENCH names its folder)")
    folder = bench.work / "rules"
    if not (folder / f"rules-{count}").is_dir():
        subprocess.run(["python3", generator, folder, "20261120", "1000"], check=True, stdout=subprocess.DEVNULL)
    return pathlib.Path(folder / f"rules-{count}")
