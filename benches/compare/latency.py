#!/usr/bin/env python3
"""Measures how long after its datagram the alert on the first record of a known-bad address leaves.

    NFSEND=/path/to/sender benches/compare/latency.py [--rate 500000] [--warm 25] [--seconds 25] [--many 10000] [--spool] [--json FILE]

The sender named by NFSEND sends IPFIX over loopback, pinned to the first core: 4 exporters, a million live flows of
which one record in ten opens a new one. The sensor has a feed of `--feed` addresses, and some of the servers are among
them. Times are those of weir_alert_latency_seconds, from the kernel's stamp of the datagram to where alerts are handed
on: over the first seconds, while the table fills, and after `--warm` seconds, in a steady state in which as many flows
end as begin. With `--many` there are as many rules more; after the steady state all of them change while the load goes
on, and the time from SIGHUP until the new set is active is taken. With `--spool` alerts go to an event collector (a
process of this script, on the first core) instead of a file: then they are handed on, and their time is taken, once they
are appended to the spool.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import sink_down

PORT, ADMIN, SINK = 20_998, 20_997, 20_994
FIRST_S = 5
RELOAD_S = 5
SERVERS = 1 << 17            # of the sender, from 198.18.0.0
IDLE_S = 15                  # so that a steady state comes soon
LABELS = (0.5, 0.9, 0.99, 0.999)

CONFIG = """
[sensor]
workers = {workers}
state_directory = "{folder}/state"
[input.netflow]
listen = ["127.0.0.1:{port}"]
[flow]
entries_max = 4000000
{reserve}
[flow.netflow]
idle_timeout_s = {idle}
active_timeout_s = 300
[rules]
directories = ["{rules}", "{folder}/many"]
watch_s = 0
[[rules.feed]]
path = "{folder}/feed.txt"
{extra}
{alerts}
{slices}
[admin]
listen = "127.0.0.1:{admin}"
"""
FILE = """
[[output.files]]
name = "alerts"
directory = "{folder}/alerts"
select = "alerts"
format = "ndjson"
"""
SPOOL = """
[spool]
directory = "{folder}/spool"
[[output.hec]]
name = "alerts"
url = "http://127.0.0.1:{sink}"
token = {{ file = "{folder}/token" }}
select = "alerts"
"""
SLICES = """
[[output.files]]
name = "flows"
directory = "{folder}/flows"
select = "slices"
format = "parquet"
"""


def write_feed(path, count, share):
    """So many addresses, among them this share of the sender's servers."""
    chosen = random.Random(7)
    servers = chosen.sample(range(SERVERS), int(SERVERS * share))
    first = 0xC612_0000
    addresses = {first + server for server in servers}
    while len(addresses) < count:
        address = chosen.getrandbits(32)
        if not 0x0A00_0000 <= address < 0x0B00_0000 and not first <= address < first + SERVERS:
            addresses.add(address)
    dotted = (".".join(str(a >> shift & 255) for shift in (24, 16, 8, 0)) for a in addresses)
    path.write_text("\n".join(dotted) + "\n")


def write_many(folder, count, salt):
    """As many rules that match nothing of what is sent, in files of a hundred."""
    folder.mkdir(exist_ok=True)
    for file in range(count // 100):
        rules = []
        for n in range(100 * file, 100 * file + 100):
            address = f"172.{16 + salt}.{n // 250 % 250}.{n % 250}"
            rules.append(
                f"title: Rule {n}\nid: rule-{n}\nlogsource: {{category: firewall}}\nlevel: low\ndetection:\n  s:\n"
                f"    dst_ip: {address}\n    dst_port: {1024 + (n * 7 + salt) % 60000}\n  condition: s\n")
        (folder / f"{file}.yml").write_text("---\n".join(rules))


def reload(sensor, folder, count):
    """Changes all of the many rules; seconds from the signal until the new set is active."""
    write_many(folder / "many", count, 1)
    asked = time.monotonic()
    sensor.send_signal(signal.SIGHUP)
    while f"changed={count}" not in (folder / "log").read_text():
        if time.monotonic() > asked + 30:
            return None
        time.sleep(0.005)
    return round(time.monotonic() - asked, 3)


def collect():
    """Takes whatever comes, on the first core."""
    os.sched_setaffinity(0, {0})
    sink_down.Server(("127.0.0.1", SINK), sink_down.Collector).serve_forever()


def scrape():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as page:
        return page.read().decode()


def buckets(page):
    found = re.findall(r'^weir_alert_latency_seconds_bucket\{le="([^"]+)"[^}]*\} (\d+)', page, re.M)
    return {float(bound.replace("+Inf", "inf")): int(count) for bound, count in found}


def value(page, name):
    return sum(float(v) for v in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", page, re.M))


def figures(before, after):
    """Shares and quantiles between two scrapes; a quantile is the bound of its bucket, and exact from `exact`."""
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = counts[float("inf")]
    quantile = lambda q: next((bound for bound, count in counts.items() if count >= q * total), float("inf"))
    shown = {f"p{100 * q:g}_us_at_most": None if total == 0 else round(1e6 * min(quantile(q), 1e9)) for q in LABELS}
    under = counts.get(0.001, 0) / total if total else None
    return {"alerts": total, "within_1_ms": under, **shown}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--rate", type=int, default=500_000)
    parser.add_argument("--warm", type=int, default=25)
    parser.add_argument("--seconds", type=int, default=25)
    parser.add_argument("--workers", default="[1]", help="as in the configuration; the sender has the first core")
    parser.add_argument("--rules", default="config/rules", help="a folder of rules beside the feed")
    parser.add_argument("--bad", type=float, default=0.02, help="share of the servers that are in the feed")
    parser.add_argument("--feed", type=int, default=1_000_000, help="addresses of the feed")
    parser.add_argument("--slices", action="store_true", help="ship flows as Parquet, too")
    parser.add_argument("--spool", action="store_true", help="alerts to an event collector, by way of the spool")
    parser.add_argument("--reserve", action="store_true", help="take the flow table's memory at the start")
    parser.add_argument("--extra", default="", help="more lines of configuration")
    parser.add_argument("--many", type=int, default=0, help="rules more, in hundreds, that change in the end")
    parser.add_argument("--json", help="write the figures there, too")
    args = parser.parse_args()
    sender = os.environ.get("NFSEND") or sys.exit("NFSEND has to name the sender")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_feed(folder / "feed.txt", args.feed, args.bad)
        write_many(folder / "many", args.many, 0)
        (folder / "token").write_text("token")
        slices = SLICES.format(folder=folder) if args.slices else ""
        alerts = (SPOOL if args.spool else FILE).format(folder=folder, sink=SINK)
        if args.spool:
            multiprocessing.Process(target=collect, daemon=True).start()
        (folder / "weir.toml").write_text(CONFIG.format(
            folder=folder, port=PORT, admin=ADMIN, idle=IDLE_S, workers=args.workers, slices=slices, alerts=alerts,
            reserve="reserve = true" if args.reserve else "",
            rules=pathlib.Path(args.rules).resolve(), extra=args.extra.replace("\\n", "\n")))
        with open(folder / "log", "w") as log:
            sensor = subprocess.Popen([args.weir, "run", "-c", folder / "weir.toml"], stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    scrape()
                    break
                except OSError:
                    time.sleep(0.1)
            else:
                sys.exit("the sensor does not start:\n" + (folder / "log").read_text())
            seconds = args.warm + args.seconds
            load = subprocess.Popen(
                ["taskset", "-c", "0", sender, "--version", "10", "--port", str(PORT), "--rate", str(args.rate), "--seconds",
                 str(seconds + 1 + (RELOAD_S if args.many else 0)), "--exporters", "4", "--flows", "1000000", "--new-share", "0.1", "--reverse", "0.3"],
                stdout=subprocess.PIPE, text=True)
            time.sleep(FIRST_S)
            first = scrape()
            time.sleep(args.warm - FIRST_S)
            warm = scrape()
            time.sleep(args.seconds)
            end = scrape()
            reload_s = reload(sensor, folder, args.many) if args.many else None
            sent = json.loads(load.communicate(timeout=60)[0].splitlines()[-1])
            time.sleep(1)
            last = scrape()
            os.kill(sensor.pid, signal.SIGTERM)
            _, _, usage = os.wait4(sensor.pid, 0)
        finally:
            sensor.poll() is None and sensor.kill()
        said = (folder / "log").read_text()
    decoded = value(last, "weir_flow_records_total")
    busy = lambda page: value(page, "weir_thread_busy_microseconds_total")
    result = {
        "rate": args.rate, "ends": "spool" if args.spool else "outputs",
        "reserved": args.reserve, "sent": sent["records"], "decoded": int(decoded),
        "kernel_drops": int(value(last, "weir_input_kernel_drops_total")),
        "cpu_s_per_million": round((usage.ru_utime + usage.ru_stime) / decoded * 1e6, 3),
        "busy": round((busy(end) - busy(warm)) / args.seconds / 1e6, 3),
        "flows": int(value(end, "weir_flow_table_entries")),
        "rules": int(value(last, "weir_detect_rules")), "reload_s": reload_s,
        "filling": figures({}, buckets(first)), "steady": figures(buckets(warm), buckets(end)),
    }
    print(json.dumps(result, indent=2))
    if "WARN" in said or "ERROR" in said:
        print("\n".join(line for line in said.splitlines() if "WARN" in line or "ERROR" in line)[:2000], file=sys.stderr)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
