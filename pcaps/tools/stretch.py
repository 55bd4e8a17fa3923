"""Stretches a recording in time: minutes become hours, and every burst of packets keeps its own timing.

A burst is what one conversation sends with no pause longer than `--pause`. Each burst is moved as a whole to `--factor`
times its distance from the start; inside it nothing changes. So a client that calls every 0.8 s calls every minute
afterwards, while handshakes, transfers and round-trip times stay as recorded. No packet is made, dropped or changed.
"""
import argparse

import capture


def key_of(packet, together):
    found = capture.headers(packet.frame)
    if found is None:
        return packet.frame[12:14], *sorted((packet.frame[:6], packet.frame[6:12]))
    pair = tuple(sorted((found.source, found.destination)))
    return pair if pair in together else capture.conversation(found)


def stretch(packets, factor, pause_ns, together):
    """Returns the packets with new times, sorted by time."""
    start = packets[0].time_ns
    bursts = {}  # conversation: (start of its burst, its last packet), both as recorded
    moved = []
    for packet in packets:
        key = key_of(packet, together)
        burst, last = bursts.get(key, (packet.time_ns, packet.time_ns))
        if packet.time_ns - last > pause_ns:
            burst = packet.time_ns
        bursts[key] = burst, packet.time_ns
        moved.append(packet._replace(time_ns=start + round((burst - start) * factor) + packet.time_ns - burst))
    return sorted(moved, key=lambda packet: packet.time_ns)


def cut(packets, keep):
    """Cuts bulk data to `keep` octets a frame; the first data of each side (handshakes, requests) stays whole."""
    seen = set()
    for packet in packets:
        found = capture.headers(packet.frame)
        if found is not None and found.protocol == capture.TCP:
            side = found[:5]
            if found.flags & capture.SYN:
                seen.discard(side)
            if found.payload > 0 and side not in seen:
                seen.add(side)
            else:
                packet = packet._replace(frame=packet.frame[:keep])
        yield packet


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--pause", type=float, default=0.25, help="seconds, as recorded; longer ones are stretched")
    parser.add_argument("--together", action="append", default=[], metavar="A,B",
                        help="all packets between these addresses are one conversation (a scan)")
    parser.add_argument("--cut", type=int, metavar="OCTETS", help="cut bulk TCP data to this many octets a frame")
    args = parser.parse_args()
    packets = capture.read(args.input)
    if args.factor != 1.0:
        together = {tuple(sorted(pair.split(","))) for pair in args.together}
        packets = stretch(packets, args.factor, round(args.pause * 1e9), together)
    if args.cut:
        packets = list(cut(packets, args.cut))
    capture.write(args.output, packets)


if __name__ == "__main__":
    main()
