"""Writes down what the captures hold: truth.csv, and the two tables in README.md; or, with --check, compares.

Everything but the labels is counted in the captures themselves. A label follows from who talks to whom, because the
recording gave every address one part to play.
"""
import argparse
import collections
import csv
import hashlib
import io
import os
import re
import statistics
import sys

import capture
import exports

C2, DROP, PROBER, SCANNER = "203.0.113.10", "203.0.113.66", "203.0.113.99", "10.20.0.14"
TECHNIQUE = {"beacon": "T1071.001", "exfiltration": "T1048.002", "scan": "T1046"}
BY_PORT = {(17, 53): "dns", (6, 53): "dns", (17, 123): "ntp", (6, 22): "ssh", (6, 23): "telnet", (6, 80): "web",
           (6, 443): "web"}
PROTOCOL = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
PAUSE_NS = 250_000_000
GAPS_MIN = 3  # fewer gaps between beats than this give no period
COLUMNS = ["file", "label", "technique", "initiator", "responder", "protocol", "port", "conversations", "packets",
           "first_s", "last_s", "octets_out", "octets_in", "period_s", "jitter"]

WHAT = {
    "mixed": "two and a half hours of all below, recorded in two minutes and stretched 75 times (see above)",
    "web": "pages over HTTP and HTTPS (TLS 1.2 and 1.3, HTTP/2), IPv4, whole packets",
    "ipv6": "pages over HTTP and HTTPS, and pings, on IPv6, whole packets",
    "dns": "queries over UDP and TCP: A, AAAA, MX, TXT, PTR, and names that do not exist",
    "ssh": "logins with a key that run a command",
    "cleartext": "telnet logins, and HTTP with basic authentication, inside the network",
    "scan": "half-open scans of 200 ports from inside and from outside",
    "beacon": "HTTPS requests every 2 s, jitter 20 %, at recorded speed",
    "upload": "one slow chunked HTTPS upload at recorded speed; frames cut",
    "ntp-ping.nano": "NTP and ping, nanosecond times",
    "two-interfaces": "dns and ntp-ping.nano as two interfaces of one pcapng, micro- and nanoseconds",
    "exports-v5": "mixed as NetFlow v5 (IPv4 only: the format has no room for IPv6)",
    "exports-v9": "mixed as NetFlow v9",
    "exports-ipfix": "mixed as IPFIX",
}


def label(initiator, responder, protocol, port):
    if C2 in (initiator, responder):
        return "beacon"
    if DROP in (initiator, responder):
        return "exfiltration"
    if initiator in (PROBER, SCANNER) and protocol == capture.TCP:
        return "scan"
    if protocol in (capture.ICMP, capture.ICMP6):
        return "ping"
    if responder == "198.51.100.90":
        return "update"
    return BY_PORT.get((protocol, port), "other")


def conversations(packets):
    """Each conversation (unordered 5-tuple): its first packet's headers, times, packets, octets both ways, beats.

    A beat is the start of a burst, after a pause of more than a quarter of a second.
    """
    live, done = {}, []
    for packet in packets:
        found = capture.headers(packet.frame)
        if found is None:
            continue
        key = capture.conversation(found)
        entry = live.get(key)
        if entry is None:
            entry = live[key] = {"from": found, "first": packet.time_ns, "packets": 0, "octets": [0, 0], "beats": []}
            done.append(entry)
        forward = (found.source, found.source_port) == (entry["from"].source, entry["from"].source_port)
        if found.protocol in (capture.ICMP, capture.ICMP6):
            forward = found.source == entry["from"].source
        if not entry["packets"] or packet.time_ns - entry["last"] > PAUSE_NS:
            entry["beats"].append(packet.time_ns)
        entry["last"] = packet.time_ns
        entry["packets"] += 1
        entry["octets"][not forward] += found.octets
    return done


def period(times):
    """Median gap between starts, and half the spread of the middle 90 % as a share of it; both "" if too few."""
    gaps = sorted((later - earlier) / 1e9 for earlier, later in zip(times, times[1:]))
    if len(gaps) < GAPS_MIN:
        return "", ""
    middle = gaps[len(gaps) // 20:len(gaps) - len(gaps) // 20]
    median = statistics.median(gaps)
    return f"{median:.1f}", f"{(middle[-1] - middle[0]) / 2 / median:.2f}" if median else ""


def truth_of(name, packets):
    """Rows of truth.csv for one capture: conversations summed by label, pair, protocol and service."""
    groups = collections.defaultdict(list)
    for entry in conversations(packets):
        found = entry["from"]
        port = 0 if found.protocol in (capture.ICMP, capture.ICMP6) else found.destination_port
        kind = label(found.source, found.destination, found.protocol, port)
        groups[kind, found.source, found.destination, PROTOCOL.get(found.protocol, found.protocol),
               "" if kind == "scan" or port == 0 else port].append(entry)
    start = packets[0].time_ns
    for (kind, source, destination, protocol, port), entries in sorted(groups.items(), key=str):
        beats = sorted(time for entry in entries for time in entry["beats"])
        yield [name, kind, TECHNIQUE.get(kind, ""), source, destination, protocol, port, len(entries),
               sum(entry["packets"] for entry in entries), f"{(min(e['first'] for e in entries) - start) / 1e9:.1f}",
               f"{(max(e['last'] for e in entries) - start) / 1e9:.1f}", sum(e["octets"][0] for e in entries),
               sum(e["octets"][1] for e in entries), *(period(beats) if kind != "scan" else ("", ""))]


def stem(name):
    return re.sub(r"\.(pcap|pcapng)(\.\w+)?$", "", name)


def describe(folder):
    """Returns truth.csv and the file table as text."""
    names = [name for key in WHAT for name in sorted(os.listdir(folder))
             if stem(name) == key and re.search(r"\.pcap", name)]
    table = ["| file | what | packets | duration, s | octets | sha256 |", "|---|---|--:|--:|--:|---|"]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name in names:
        path = os.path.join(folder, name)
        packets = capture.read(path)
        what = WHAT[stem(name)]
        if name.startswith("exports-"):
            count, inside, octets = exports.totals(exports.records(packets))
            what += f"; {count} data records, in sum {inside} packets and {octets} octets"
        else:
            rows.writerows(truth_of(name, packets))
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        seconds = (packets[-1].time_ns - packets[0].time_ns) / 1e9
        table.append(f"| {name} | {what} | {len(packets)} | {seconds:.1f} | {os.path.getsize(path)} | `{digest}` |")
    return out.getvalue(), "\n".join(table)


def findings(truth):
    """The attacks in truth.csv as a table for people."""
    table = ["| file | what | from | to | port | conversations | from, to s | octets out / in | period s (jitter) |",
             "|---|---|---|---|--:|--:|--:|--:|--:|"]
    for row in csv.DictReader(io.StringIO(truth)):
        if row["label"] in TECHNIQUE:
            beat = f"{row['period_s']} ({row['jitter']})" if row["period_s"] and row["label"] == "beacon" else ""
            table.append(f"| {row['file']} | {row['label']} ({row['technique']}) | {row['initiator']} | "
                         f"{row['responder']} | {row['port']} | {row['conversations']} | {row['first_s']}, "
                         f"{row['last_s']} | {row['octets_out']} / {row['octets_in']} | {beat} |")
    return "\n".join(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="where the captures, README.md and truth.csv are")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything would change")
    args = parser.parse_args()
    truth, files = describe(args.folder)
    readme = os.path.join(args.folder, "README.md")
    with open(readme, encoding="utf-8") as file:
        text = before = file.read()
    for mark, table in (("files", files), ("attacks", findings(truth))):
        text = re.sub(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda found, table=table: found[1] + table + "\n" + found[2],
                      text, flags=re.S)
    truth_path = os.path.join(args.folder, "truth.csv")
    if args.check:
        with open(truth_path, encoding="utf-8") as file:
            same = file.read() == truth and before == text
        sys.exit(0 if same else "README.md or truth.csv does not agree with the captures: run describe.py")
    with open(truth_path, "w", encoding="utf-8") as file:
        file.write(truth)
    with open(readme, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    main()
