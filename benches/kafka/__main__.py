#!/usr/bin/env python3
"""Measures the Kafka sink, its peers and detectors on a real broker on this machine, in turn.

    make bench-kafka                  all parts
    make bench-kafka PARTS="sink"     some: sink, peers, detect

`sink` spools a million slices while no broker is there, then lets the sink catch up: what is measured is reading the
spool, encoding, compressing, sending, and the acknowledgement of every record. `peers` sends the same NetFlow to Weir,
nfacctd and goflow2, each of which writes to Kafka. `detect` lets 1, 2 and 4 detectors work one topic off. The broker
shares the machine. Results go to benches/runs/latest/kafka.json.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from broker import ROOT, Broker, commit, servers, settled, threads  # noqa: E402
from host import Bench, Process, machine, run, wait_until  # noqa: E402

PORT, ADMIN = 20_593, 20_600
SENSOR = """
[sensor]
name = "bench"
workers = 1
pin = false
state_directory = "{folder}/state"
[input.netflow]
listen = ["127.0.0.1:{port}"]
receive_buffer_bytes = 67108864
[flow.netflow]
idle_timeout_s = 2
[rules]
directories = [{rules}]
[admin]
listen = "127.0.0.1:{admin}"
[spool]
directory = "{folder}/spool"
stop_s = {stop_s}
[[output.kafka]]
name = "kafka"
brokers = ["{broker}"]
topic = "{topic}"
"""
DETECTOR = """
[sensor]
name = "{name}"
state_directory = "{folder}/{name}"
[input.netflow]
listen = []
[rules]
directories = [{rules}]
[model]
enabled = {model}
[admin]
listen = "127.0.0.1:{admin}"
[detect.engine]
brokers = ["{broker}"]
group = "{group}"
input = "{topic}"
slices = "{group}.slices"
alerts = "{group}.alerts"
states = "{group}.states"
matches = "{group}.matches"
create_topics = true
"""
NFACCTD = """daemonize: false
plugins: kafka[bench]
nfacctd_ip: 127.0.0.1
nfacctd_port: {port}
nfacctd_pipe_size: 67108864
aggregate[bench]: src_host, dst_host, src_port, dst_port, proto, tcpflags, tos, in_iface, out_iface
kafka_output[bench]: json
kafka_broker_host[bench]: 127.0.0.1
kafka_broker_port[bench]: {broker_port}
kafka_topic[bench]: {topic}
kafka_refresh_time[bench]: 10
kafka_cache_entries[bench]: 2097143
kafka_config_file[bench]: {folder}/rdkafka.conf
plugin_pipe_size[bench]: 268435456
plugin_buffer_size[bench]: 65536
"""
RULES = json.dumps(str(ROOT / "config" / "rules"))


def metrics(admin):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    parts = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in parts}


def sensor(bench, folder, *, rules="", broker=Broker.ADDRESS, topic="weir.slices", more="", stop_s=1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state").mkdir(exist_ok=True)
    text = SENSOR.format(folder=folder, port=PORT, rules=rules, admin=ADMIN, broker=broker, topic=topic,
                         stop_s=stop_s) + more
    (folder / "weir.toml").write_text(text)
    return [bench.weir, "run", "-c", folder / "weir.toml"]


def send(bench, seconds, rate, flows):
    """New flows only, so that each record becomes a slice."""
    command = [bench.tool("nfsend"), "--version", "10", "--port", PORT, "--rate", rate, "--seconds", seconds,
               "--exporters", "4", "--flows", flows, "--new-share", "1.0"]
    return json.loads(run(list(map(str, command)), timeout=seconds + 60))


def everywhere():
    return f"0-{os.cpu_count() - 1}"


def acknowledged():
    return metrics(ADMIN).get('weir_output_records_acknowledged_total{sink="kafka"}', 0)


def fill(bench):
    """A spool with about a million slices that no broker took; (its folder, how many)."""
    folder = bench.folder("fill")
    command = sensor(bench, folder, broker="127.0.0.1:9")
    with open(bench.work / "fill.log", "w") as log, Process(command, everywhere(), log):
        if not wait_until(lambda: metrics(ADMIN), 20):
            raise RuntimeError("the sensor does not answer: see fill.log")
        send(bench, 1 if bench.quick else 10, 100_000, 2_000_000)
    # Open flows went to the spool when it stopped.
    told = re.search(r'"spooled\\*":(\d+)', (bench.work / "fill.log").read_text())
    return folder / "spool", int(told[1])


def drain(bench, spool, count, name, more=""):
    """Lets a copy of the spool go to the broker; what that took, once all is acknowledged."""
    folder = bench.folder(f"drain-{name}")
    shutil.copytree(spool, folder / "spool")
    topic = f"sink.{name}"
    with Broker(bench.work / "broker") as broker, open(bench.work / "drain.log", "w") as log:
        broker.topic(topic)
        before = broker.cpu_seconds()
        with Process(sensor(bench, folder, topic=topic, more=more), everywhere(), log) as weir:
            began = time.monotonic()
            if not wait_until(lambda: acknowledged() >= count, 200):
                raise RuntimeError(f"{acknowledged()} of {count} were acknowledged: see drain.log")
            took = time.monotonic() - began
            cpu, each, beside = weir.cpu_seconds(), threads(weir.process.pid), broker.cpu_seconds() - before
        held, octets = broker.held(topic), broker.octets(topic)
    millions = count / 1e6
    shutil.rmtree(folder)
    return {"what": name, "slices": count, "held": held, "slices_per_s": round(count / took),
            "cpu_s_per_million": round(cpu / millions, 2), "slices_per_s_on_2_cores": round(2 * count / cpu),
            "threads_cpu_s_per_million": {name: round(s / millions, 2) for name, s in each.items() if s > 0.05},
            "broker_cpu_s_per_million": round(beside / millions, 2), "octets_each_on_the_broker": round(octets / count)}


def sink(bench):
    spool, count = fill(bench)
    cases = [("ndjson-lz4", ""), ("ndjson-zstd", 'compression = "zstd"\n'), ("ndjson-none", 'compression = "none"\n'),
             ("detectflow-lz4", 'format = "detectflow"\n'), ("ecs-lz4", 'format = "ecs"\n'),
             ("ocsf-lz4", 'format = "ocsf"\n'), ("protobuf-lz4", 'format = "protobuf"\n'),
             ("cef-lz4", 'format = "cef"\n')]
    for name, more in cases[:2] if bench.quick else cases:
        yield drain(bench, spool, count, name, more)


def peer(bench, name, command, topic, quiet_s):
    """What one collector costs that writes what is sent to Kafka."""
    with Broker(bench.work / "broker") as broker, open(bench.work / f"{name}.log", "w") as log:
        broker.topic(topic)
        with Process(command, everywhere(), log) as collector:
            time.sleep(3)
            idle = collector.cpu_seconds()
            sent = send(bench, 2 if bench.quick else 10, 50_000, 2_000_000)
            # Weir writes the flows that are open when it stops, nfacctd its cache every 10 s, goflow2 every 5 s.
            settled(lambda: broker.held(topic), quiet=quiet_s, limit=30)
            cpu = to_the_end(collector) - idle
        held = broker.held(topic)
        octets = broker.octets(topic)
    millions = sent["records"] / 1e6
    return {"what": name, "records": sent["records"], "messages": held,
            "cpu_s_per_million": round(cpu / millions, 2), "octets_each_on_the_broker": round(octets / max(1, held))}


def to_the_end(collector):
    """Stops it; the CPU seconds that it had taken by then."""
    collector.process.terminate()
    cpu, end = 0, time.monotonic() + 60
    while collector.process.poll() is None and time.monotonic() < end:
        cpu = max(cpu, collector.cpu_seconds())
        time.sleep(0.02)
    return cpu


def peers(bench):
    yield peer(bench, "weir, no rules", sensor(bench, bench.folder("peer"), topic="weir", stop_s=50), "weir", 1)
    yield peer(bench, "weir, its own rules",
               sensor(bench, bench.folder("peer"), topic="weir", rules=RULES, stop_s=50), "weir", 1)
    folder = bench.folder("nfacctd")
    (folder / "rdkafka.conf").write_text("global, compression.codec, lz4\nglobal, linger.ms, 20\n"
                                         "global, queue.buffering.max.messages, 2000000\n")
    text = NFACCTD.format(port=PORT, broker_port=Broker.ADDRESS.rsplit(":")[1], topic="nfacctd", folder=folder)
    (folder / "nfacctd.conf").write_text(text)
    if shutil.which("nfacctd"):
        yield peer(bench, "nfacctd", ["nfacctd", "-f", folder / "nfacctd.conf"], "nfacctd", 12)
    goflow2 = shutil.which("goflow2") or str(servers() / "go" / "goflow2")
    if not pathlib.Path(goflow2).exists() and shutil.which("go"):
        run(["go", "install", "github.com/netsampler/goflow2/v2/cmd/goflow2@v2.2.6"],
            env={**os.environ, "GOBIN": str(servers() / "go")})
    for form in ("json", "bin"):
        if pathlib.Path(goflow2).exists():
            command = [goflow2, "-listen", f"netflow://127.0.0.1:{PORT}", "-transport", "kafka", "-format", form,
                       "-transport.kafka.brokers", Broker.ADDRESS, "-transport.kafka.topic", f"goflow2-{form}",
                       "-transport.kafka.compression", "lz4", "-addr", "127.0.0.1:20599"]
            yield peer(bench, f"goflow2 {form}", command, f"goflow2-{form}", 6)


def committed(broker, group, topic):
    from kafka import TopicPartition
    client = broker.client(group)
    places = [TopicPartition(topic, partition) for partition in client.partitions_for_topic(topic) or ()]
    total = sum(client.committed(place) or 0 for place in places)
    client.close()
    return total


def detectors(bench, broker, topic, count, number, rules=RULES, model=True):
    """What `number` detectors take to work a topic off."""
    folder, group = bench.folder(f"detect-{number}"), f"bench-{number}{'' if rules else '-bare'}{'' if model else '-plain'}"
    running, logs = [], []
    try:
        began = time.monotonic()
        for at in range(number):
            name = f"d{at}"
            (folder / name).mkdir()
            config = folder / f"{name}.toml"
            config.write_text(DETECTOR.format(name=name, folder=folder, rules=rules, admin=ADMIN + at,
                                              model=str(model).lower(),
                                              broker=Broker.ADDRESS, group=group, topic=topic))
            logs.append(open(bench.work / f"{name}.log", "w"))
            running.append(Process([bench.weir, "detect", "-c", config], everywhere(), logs[-1]).__enter__())
        if not wait_until(lambda: committed(broker, group, topic) > 0, 60):
            raise RuntimeError("nothing is committed: see d0.log")
        first, since, cpu = committed(broker, group, topic), time.monotonic(), cpu_of(running)
        beside = broker.cpu_seconds()
        if not wait_until(lambda: committed(broker, group, topic) >= count, 200):
            raise RuntimeError(f"{committed(broker, group, topic)} of {count} are committed: see d0.log")
        took, cpu = time.monotonic() - since, cpu_of(running) - cpu
        beside = broker.cpu_seconds() - beside
        start = since - began
    finally:
        for detector in running:
            detector.__exit__()
    done = count - first
    states = broker.octets(f"{group}.states")
    return {"what": f"{number} detectors", "rules": bool(rules), "model": model, "slices": done, "slices_per_s": round(done / took),
            "cpu_s_per_million": round(cpu / done * 1e6, 1), "broker_cpu_s_per_million": round(beside / done * 1e6, 1),
            "first_commit_s": round(start, 1), "octets_of_states_each": round(states / count)}


def cpu_of(running):
    return sum(process.cpu_seconds() for process in running)


def detect(bench):
    spool, count = fill(bench)
    folder = bench.folder("source")
    shutil.copytree(spool, folder / "spool")
    with Broker(bench.work / "broker") as broker:
        broker.topic("flows")
        with open(bench.work / "source.log", "w") as log, \
                Process(sensor(bench, folder, topic="flows"), everywhere(), log):
            if not wait_until(lambda: acknowledged() >= count, 120):
                raise RuntimeError("the topic was not filled: see source.log")
        yield detectors(bench, broker, "flows", count, 1, rules="", model=False)
        yield detectors(bench, broker, "flows", count, 1, model=False)
        for number in (1, 2) if bench.quick else (1, 2, 3, 4):
            yield detectors(bench, broker, "flows", count, number)


PARTS = {"sink": sink, "peers": peers, "detect": detect}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--weir", default=ROOT / "target/release/weir", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", default=1, type=int)
    parser.add_argument("--sources", default=os.environ.get("WEIR_BENCH", ROOT.parent / "shared/bench"))
    parser.add_argument("--vectors", default=".")
    parser.add_argument("--work", default="/tmp/weir-bench-kafka")
    options = parser.parse_args()
    bench = Bench(options)
    latest = ROOT / "benches" / "runs" / "latest" / "kafka.json"
    document = json.loads(latest.read_text()) if latest.exists() else {"parts": {}}
    for part in options.parts or PARTS:
        rows = []
        for row in PARTS[part](bench):
            print(part, json.dumps(row), flush=True)
            rows.append(row)
        document["parts"][part] = {"commit": commit(), "rows": rows}
    if not bench.quick:
        document |= {"machine": machine()[0], "command": "make bench-kafka"}
        latest.write_text(json.dumps(document, indent=1) + "\n")


main()
