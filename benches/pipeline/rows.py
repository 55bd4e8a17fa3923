"""The rows of the table: what is done, with whom Weir is compared, and what it has to reach.

Each row gives {work, unit, weir, peers, goal, better, ...}; a row that cannot run here says why, under `skipped`.
"""
import statistics

import collect
import packets
from host import Absent

CPU = "CPU seconds per million records"
MPPS = "million packets per CPU second"


def medians(bench, row, sides):
    """Runs the sides `runs` times in turn; returns the median of each, and notes all values on the row."""
    values = {name: [] for name in sides}
    for _ in range(bench.runs):
        for name, measure in list(sides.items()):
            try:
                values[name].append(measure())
            except Absent as lack:
                if name == "weir":
                    raise  # without the sender there is no row
                row.setdefault("absent", {})[name] = str(lack)
                del sides[name]
    row["runs"] = {name: [round(value, 4) for value in list_] for name, list_ in values.items() if list_}
    return {name: statistics.median(list_) for name, list_ in values.items() if list_}


def finish(row, found, goal, better):
    row["weir"] = round(found.pop("weir"), 4)
    row["peers"] = {name: round(value, 4) for name, value in found.items()}
    row["goal"], row["better"] = None if goal is None else round(goal, 4), better
    return row


def aggregate(bench, version, name):
    """Receive, decode, aggregate; rules, model and output off."""
    rate = 600_000 if bench.quick else 1_000_000
    seconds = 5 if bench.quick else 10
    row = {"work": f"{name}: receive, decode, aggregate at {rate:,} records/s", "unit": CPU}
    lost, waited = {}, {}

    def side(command, who):
        def once():
            cost = collect.measure(bench, command(bench, who), version, rate, seconds, stop=stops.get(who, 15))
            lost[who] = max(lost.get(who, 0), cost.loss)
            waited[who] = max(waited.get(who, 0), cost.waited_s)
            if who == "weir":
                row["ledgers"] = collect.agrees(cost)
                row["stages"] = stages(cost)
            return cost.per_million
        return once

    stops = {"nfacctd": 2}
    sides = {"weir": side(collect.weir, "weir"), "sink": side(collect.sink, "sink"),
             "nfcapd": side(collect.nfcapd, "nfcapd"), "nfacctd": side(collect.nfacctd, "nfacctd")}
    found = medians(bench, row, sides)
    row["lost"] = {who: round(share, 5) for who, share in lost.items()}
    row["waited_s"] = {who: round(seconds, 3) for who, seconds in waited.items()}
    bounds = [found["sink"] + 0.06] if "sink" in found else []
    bounds += [found["nfcapd"] / 2] if "nfcapd" in found else []
    return finish(row, found, min(bounds, default=None), "lower")


def stages(cost):
    """CPU seconds per million records of each stage, as the sensor tells them."""
    told = {}
    for name, value in cost.metrics.items():
        if name.startswith("weir_stage_cpu_microseconds_total{") and value:
            told[name.split('"')[1]] = round(value / 1e6 / cost.millions, 4)
    return told


def rules_and_parquet(bench):
    rate, seconds = (200_000, 8) if bench.quick else (300_000, 20)
    row = {"work": f"IPFIX with 10,000 rules and slices as Parquet at {rate:,} records/s", "unit": CPU}
    rules = collect.rules_of(bench, 10_000)

    def once():
        cost = collect.measure(bench, collect.weir(bench, "weir", rules=rules, parquet=True), 10, rate, seconds)
        row["lost"], row["stages"] = {"weir": round(cost.loss, 5)}, stages(cost)
        row["slices"] = cost.metrics.get("weir_flow_slices_shipped_total")
        return cost.per_million
    return finish(row, medians(bench, row, {"weir": once}), 0.25, "lower")


def lossless(bench):
    seconds, repeats = (5, 1) if bench.quick else (bench.seconds, 3)
    rates = [step * 250_000 for step in range(3, 14)]
    row = {"work": f"IPFIX, highest rate without loss in {repeats} of {repeats} runs of {seconds} s, {collect.BUFFER:,} "
                   "octets of socket buffer", "unit": "million records/s"}
    found = {}
    sides = {"weir": lambda: collect.weir(bench, "weir", buffer=collect.BUFFER),
             "nfcapd": lambda: collect.nfcapd(bench, "nfcapd")}
    for name, command in sides.items():
        try:
            best, wrong = collect.highest_lossless(bench, command, 10, seconds, repeats, rates)
            found[name] = best / 1e6
            row.setdefault("beyond", {})[name] = {f"{rate / 1e6:g} M/s": why for rate, why in wrong.items()}
        except Absent as lack:
            row.setdefault("absent", {})[name] = str(lack)
    row["sender"] = "its own highest rate is a bound of what can be seen here"
    goal = 1.5 * found["nfcapd"] if "nfcapd" in found else None
    return finish(row, found, goal, "higher")


def mix(bench):
    path = packets.mix(bench)
    return capture(bench, path, "real mix to Parquet", {"softflowd": packets.softflowd, "nfpcapd": packets.nfpcapd},
                   lambda found: 4 * max(found.values(), default=0) or None)


def synth(bench):
    path = packets.synthetic(bench)
    return capture(bench, path, "many small flows to Parquet", {"nfpcapd": packets.nfpcapd}, lambda _: 5.0)


def flowprep(bench):
    path = packets.mix(bench)
    peers = {"flowprep": packets.flowprep}
    return capture(bench, path, "real mix to Parquet, beside flowprep", peers,
                   lambda found: 5 * found["flowprep"] if "flowprep" in found else None, floor=False)


def capture(bench, path, what, peers, goal_of, floor=True):
    count = packets.packets_of(path)
    row = {"work": f"{what}: {count / 1e6:.1f} million packets", "unit": MPPS}

    def side(command):
        return lambda: packets.rate(bench, command, path, count)[0]
    sides = {"weir": side(packets.weir), **{name: side(command) for name, command in peers.items()}}
    found = medians(bench, row, sides)
    goal = goal_of({name: value for name, value in found.items() if name != "weir"})
    if floor:
        found |= medians(bench, {}, {"floor": side(packets.floor)})
    return finish(row, found, goal, "higher")


def live(bench):
    row = {"work": "live on a veth, tcpreplay at its top speed", "unit": "packets dropped"}
    sent, read, drops, flows, offline = packets.live(bench)
    row.update({"sent": sent, "read": read, "flows": flows, "flows_offline": offline,
                "flow_counts": "equal" if flows == offline else "DIFFER"})
    return finish(row, {"weir": float(drops + max(0, sent - read - drops))}, 0, "lower")


def many_flows(bench):
    """What an update costs in a table of ten million live flows, more than in one of ten thousand."""
    flows, rate = (2_000_000, 500_000) if bench.quick else (10_000_000, 1_000_000)
    fill_s, seconds = (20, 5) if bench.quick else (70, 10)
    row = {"work": f"{flows / 1e6:.0f} million live flows beside 10,000", "unit": f"more {CPU}"}
    cost = {}
    for name, count, fill in (("few", 10_000, 2), ("many", flows, fill_s)):
        more = ["--flows", str(count), "--new-share", "0", "--seed", "7"]
        # Only what flows take shall be there: places without one would count, too.
        command = collect.weir(bench, "weir", entries=flows + flows // 10, reserve=False)
        cost[name] = collect.measure(bench, command, 10, rate, seconds, more, before=(rate, fill, more))
    row.update({"flows": cost["many"].metrics.get("weir_flow_table_entries"), "peak_mib": round(cost["many"].mib),
                "peak_mib_goal": 2048, "cpu_few": round(cost["few"].per_million, 4),
                "cpu_many": round(cost["many"].per_million, 4),
                "lost": {name: round(one.loss, 5) for name, one in cost.items()}})
    more = cost["many"].per_million - cost["few"].per_million
    return finish(row, {"weir": more}, 0.05, "lower")


def latency(bench):
    """From a datagram's arrival in the kernel to the end of detection on its last record."""
    rate, seconds = 500_000, 5 if bench.quick else 15
    row = {"work": "latency at 500,000 records/s: datagram received to detection done on its last record",
           "unit": "ms, 99th percentile"}
    p99, p50, cpu = [], [], []
    for _ in range(bench.runs):
        rules = collect.rules_of(bench, 1_000)
        command = collect.weir(bench, "weir", coalesce=200, rules=rules)
        cost = collect.measure(bench, command, 10, rate, seconds, before=(rate, 4))
        of = 'weir_detection_latency_quantile_microseconds{{quantile="{}"}}'
        p50.append(cost.metrics.get(of.format("0.5"), float("nan")) / 1e3)
        p99.append(cost.metrics.get(of.format("0.99"), float("nan")) / 1e3)
        cpu.append(cost.per_million)
    row["p50_ms"], row["p50_goal_ms"] = round(statistics.median(p50), 3), 0.3
    row["cpu_s_per_million"] = round(statistics.median(cpu), 4)
    row["runs"] = {"weir": [round(value, 3) for value in p99]}
    return finish(row, {"weir": statistics.median(p99)}, 1.0, "lower")


ROWS = {
    "ipfix": lambda bench: aggregate(bench, 10, "IPFIX"),
    "v5": lambda bench: aggregate(bench, 5, "NetFlow v5"),
    "rules": rules_and_parquet,
    "lossless": lossless,
    "mix": mix,
    "synth": synth,
    "flowprep": flowprep,
    "live": live,
    "flows": many_flows,
    "latency": latency,
}
