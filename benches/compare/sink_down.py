#!/usr/bin/env python3
"""Measures what the path to the outputs costs while a sink is down, beside the same while it is up, in turn.

    NFSEND=/path/to/sender benches/compare/sink_down.py [--rate 150000] [--seconds 12] [--rounds 3] [--json FILE]

The sender named by NFSEND sends IPFIX over loopback, pinned to the first core. The sensor has two sinks of all slices
behind one spool: an event collector that takes everything, and one that is up or down. Times are nanoseconds of CPU a
record of the threads that read, decode, aggregate and detect (/proc/PID/task/*/schedstat), not of those that append,
deliver and answer; so they are the same for any number of cores that other threads have.
"""
import argparse
import http.server
import json
import os
import pathlib
import re
import signal
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

PORT, ADMIN = 20_996, 20_995
CONFIG = """
[sensor]
workers = 1
state_directory = "{folder}/state"
[input.netflow]
listen = ["127.0.0.1:{port}"]
[flow.netflow]
idle_timeout_s = 2
[rules]
directories = ["{rules}"]
watch_s = 0
[spool]
directory = "{folder}/spool"
bytes_max = 1073741824
stop_s = 0
[[output.hec]]
name = "up"
url = "http://127.0.0.1:{up}"
token = {{ file = "{folder}/token" }}
[[output.hec]]
name = "subject"
url = "http://127.0.0.1:{subject}"
token = {{ file = "{folder}/token" }}
[admin]
listen = "127.0.0.1:{admin}"
"""


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes whatever comes."""
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        left = int(self.headers["content-length"])
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        answer = b'{"text":"Success","code":0}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def scrape():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as page:
        return page.read().decode()


def value(page, name):
    return sum(float(v) for v in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", page, re.M))


def hot(pid):
    """Nanoseconds of CPU of the threads of the path to the outputs, and of all others."""
    spent = [0, 0]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        beside = name.startswith(("weir-spool", "sink ", "weir-admin", "tokio", "reqwest")) or task.name == str(pid)
        spent[beside] += int((task / "schedstat").read_text().split()[0])
    return spent


def one(args, sender, up, subject):
    """A run: CPU nanoseconds a record on the path and beside it, and what the sinks say."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "token").write_text("token\n")
        rules = pathlib.Path(args.rules).resolve()
        (folder / "weir.toml").write_text(CONFIG.format(
            folder=folder, port=PORT, admin=ADMIN, rules=rules, up=up, subject=subject))
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
            load = subprocess.Popen(
                ["taskset", "-c", "0", sender, "--version", "10", "--port", str(PORT), "--rate", str(args.rate), "--seconds",
                 str(args.seconds + 4), "--exporters", "4", "--flows", "100000", "--new-share", "0.1", "--reverse", "0.3"],
                stdout=subprocess.PIPE, text=True)
            time.sleep(3)
            first, before = value(scrape(), "weir_flow_records_total"), hot(sensor.pid)
            time.sleep(args.seconds)
            page, after = scrape(), hot(sensor.pid)
            records = value(page, "weir_flow_records_total") - first
            load.communicate(timeout=60)
        finally:
            sensor.send_signal(signal.SIGTERM)
            try:
                sensor.wait(60)
            except subprocess.TimeoutExpired:
                sensor.kill()
                sensor.wait()
    return {
        "records": int(records), "hot_ns": round((after[0] - before[0]) / records, 1),
        "beside_ns": round((after[1] - before[1]) / records, 1),
        "kernel_drops": int(value(page, "weir_input_kernel_drops_total")),
        "shed": int(value(page, "weir_output_records_shed_total")),
        "waiting": int(value(page, 'weir_output_records_spooled')),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--rate", type=int, default=150_000)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rules", default="config/rules")
    parser.add_argument("--json", help="write the figures there, too")
    args = parser.parse_args()
    sender = os.environ.get("NFSEND") or sys.exit("NFSEND has to name the sender")
    server = Server(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    up = server.server_address[1]
    down = 9                  # discard: nobody listens there
    runs = {"up": [], "down": []}
    for _ in range(args.rounds):
        for state, port in (("up", up), ("down", down)):
            runs[state].append(one(args, sender, up, port))
            print(state, json.dumps(runs[state][-1]), flush=True)
    median = {state: statistics.median(run["hot_ns"] for run in of) for state, of in runs.items()}
    result = {"rate": args.rate, "hot_ns": median, "down_to_up": round(median["down"] / median["up"], 3), "runs": runs}
    print(json.dumps({key: result[key] for key in ("rate", "hot_ns", "down_to_up")}))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
