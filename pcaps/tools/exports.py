"""Finishes a capture of export datagrams: gives them their exporter's time, and checks that they hold all traffic.

An exporter that reads a capture runs through hours in a moment, so all its datagrams leave at once; its headers carry
the time of the packet it had just read. That time is copied to the capture record, never backwards: a collector that
reads the file sees the exports arrive as they would have from the wire.
"""
import argparse
import struct
import sys

import capture

# Version: octets of the header; where it has the export time in seconds, and where nanoseconds, if at all.
HEADER = {5: (24, 8, 12), 9: (20, 8, None), 10: (16, 4, None)}
OCTETS, PACKETS = 1, 2
V5_RECORD, V5_PACKETS, V5_OCTETS = 48, 16, 20


def payload_of(packet):
    return packet.frame[42:]


def export_time_ns(payload):
    version, = struct.unpack_from("!H", payload)
    _, seconds_at, nanoseconds_at = HEADER[version]
    seconds, = struct.unpack_from("!I", payload, seconds_at)
    nanoseconds = struct.unpack_from("!I", payload, nanoseconds_at)[0] if nanoseconds_at else 0
    return seconds * 10**9 + nanoseconds


def retime(packets, step_ns=20_000):
    """Returns the datagrams at their export times; those of one instant follow each other by `step_ns`."""
    retimed, latest = [], 0
    for packet in packets:
        latest = max(latest + step_ns, export_time_ns(payload_of(packet)))
        retimed.append(packet._replace(time_ns=latest))
    return retimed


def read_templates(body, templates):
    """Adds the templates of a set: id to (octets of a record, place and length of the packet and octet counters)."""
    at = 0
    while at + 4 <= len(body):
        template, fields = struct.unpack_from("!HH", body, at)
        at, size, places = at + 4, 0, {}
        for _ in range(fields):
            element, length = struct.unpack_from("!HH", body, at)
            places[element] = slice(size, size + length)
            size += length
            at += 8 if element & 0x8000 else 4
        templates[template] = size, places[PACKETS], places[OCTETS]


def records(packets):
    """Yields (packets, octets) of each data record; options are passed over. Layouts: v5, RFC 3954, RFC 7011."""
    templates, options = {}, set()
    for packet in packets:
        payload = payload_of(packet)
        version, count = struct.unpack_from("!HH", payload)
        at = HEADER[version][0]
        if version == 5:
            for start in range(at, at + count * V5_RECORD, V5_RECORD):
                yield struct.unpack_from("!II", payload, start + V5_PACKETS)
            continue
        while at + 4 <= len(payload):
            kind, length = struct.unpack_from("!HH", payload, at)
            body = payload[at + 4:at + length]
            at += length
            if kind in (0, 2):
                read_templates(body, templates)
            elif kind in (1, 3):
                options.add(struct.unpack_from("!H", body)[0])
            elif kind in templates:
                size, *counters = templates[kind]
                for start in range(0, len(body) - size + 1, size):
                    record = body[start:start + size]
                    yield tuple(int.from_bytes(record[place], "big") for place in counters)
            elif kind not in options:
                raise ValueError(f"data set {kind} has no template")


def totals(counts):
    """Number of pairs, sum of the first, sum of the second."""
    counts = list(counts)
    return len(counts), sum(first for first, _ in counts), sum(second for _, second in counts)


def traffic(packets, with_ipv6):
    """Packets and IP octets of a capture, as `totals` of its exports must have them."""
    found = filter(None, (capture.headers(packet.frame) for packet in packets))
    sizes = [headers.octets for headers in found if with_ipv6 or ":" not in headers.source]
    return len(sizes), sum(sizes)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--of", required=True, metavar="CAPTURE", help="what was exported; fails if anything is missing")
    args = parser.parse_args()
    packets = capture.read(args.input)
    version, = struct.unpack_from("!H", payload_of(packets[0]))
    exported, recorded = totals(records(packets))[1:], traffic(capture.read(args.of), with_ipv6=version != 5)
    if exported != recorded:
        sys.exit(f"v{version}: {exported} packets and octets exported, {recorded} in the capture")
    capture.write(args.output, retime(packets))


if __name__ == "__main__":
    main()
