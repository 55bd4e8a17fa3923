"""Reads and writes captures of Ethernet frames, and finds addresses, ports and lengths in them.

Reads classic pcap, micro- and nanosecond, little-endian, as tcpdump writes it here; plain, gzip or zstd (by the zstd
program). Writes the same, and pcapng with an interface for each input.
"""
import gzip
import ipaddress
import struct
import subprocess
from typing import NamedTuple

MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
ETHERNET = 1
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
SYN, ACK = 0x02, 0x10


class Packet(NamedTuple):
    """A captured frame: nanoseconds since the epoch, octets on the wire, octets kept."""
    time_ns: int
    wire: int
    frame: bytes


class Headers(NamedTuple):
    """What the IP and transport headers say; ports are 0 where there are none, ICMP's id is the source port."""
    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    octets: int
    flags: int
    payload: int


def open_bytes(path):
    """The uncompressed octets of a file."""
    if path.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    if path.endswith(".gz"):
        with gzip.open(path) as file:
            return file.read()
    with open(path, "rb") as file:
        return file.read()


def read(path):
    """The packets of a classic pcap or of a pcapng that `write_pcapng` wrote."""
    octets = open_bytes(path)
    magic, = struct.unpack_from("<I", octets)
    if magic == 0x0A0D0D0A:
        return read_pcapng(octets)
    if magic not in (MICRO, NANO):
        raise ValueError(f"{path}: magic number {magic:#x} is not that of a little-endian capture")
    unit = 1 if magic == NANO else 1_000
    packets, at = [], 24
    while at < len(octets):
        seconds, fraction, kept, wire = struct.unpack_from("<IIII", octets, at)
        packets.append(Packet(seconds * 10**9 + fraction * unit, wire, octets[at + 16:at + 16 + kept]))
        at += 16 + kept
    return packets


def write(path, packets, *, nano=False, snaplen=262_144):
    """Writes a classic pcap of Ethernet frames."""
    unit = 1 if nano else 1_000
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", NANO if nano else MICRO, 2, 4, 0, 0, snaplen, ETHERNET))
        for packet in packets:
            seconds, rest = divmod(packet.time_ns, 10**9)
            file.write(struct.pack("<IIII", seconds, rest // unit, len(packet.frame), packet.wire) + packet.frame)


def block(kind, body):
    """A pcapng block, padded, with its length before and after."""
    body += bytes(-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def write_pcapng(path, captures):
    """Writes a gzipped pcapng; `captures` is a list of (decimal digits of a second, packets), an interface each."""
    blocks = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for digits, _ in captures:
        resolution = struct.pack("<HHB3x", 9, 1, digits) + struct.pack("<HH", 0, 0)
        blocks.append(block(1, struct.pack("<HHI", ETHERNET, 0, 0) + resolution))
    everything = sorted(((packet, number) for number, (_, packets) in enumerate(captures) for packet in packets),
                        key=lambda pair: pair[0].time_ns)
    for packet, number in everything:
        ticks = packet.time_ns // 10 ** (9 - captures[number][0])
        head = struct.pack("<IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, len(packet.frame), packet.wire)
        blocks.append(block(6, head + packet.frame))
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(b"".join(blocks))


def read_pcapng(octets):
    packets, units, at = [], [], 0
    while at < len(octets):
        kind, length = struct.unpack_from("<II", octets, at)
        if kind == 1:
            units.append(10 ** (9 - octets[at + 20]))
        elif kind == 6:
            number, high, low, kept, wire = struct.unpack_from("<IIIII", octets, at + 8)
            packets.append(Packet(((high << 32) + low) * units[number], wire, octets[at + 28:at + 28 + kept]))
        at += length
    return packets


def headers(frame):
    """The headers of an IPv4 or IPv6 packet in an Ethernet frame, or None for anything else (ARP)."""
    kind, = struct.unpack_from("!H", frame, 12)
    if kind == 0x0800:
        start = 14 + (frame[14] & 15) * 4
        octets, protocol = struct.unpack_from("!H", frame, 16)[0], frame[23]
        source, destination = (str(ipaddress.IPv4Address(frame[at:at + 4])) for at in (26, 30))
    elif kind == 0x86DD:
        start = 54
        octets, protocol = struct.unpack_from("!H", frame, 18)[0] + 40, frame[20]
        source, destination = (str(ipaddress.IPv6Address(frame[at:at + 16])) for at in (22, 38))
        if protocol == 0:
            protocol, start = frame[54], 54 + (frame[55] + 1) * 8
    else:
        return None
    ports, flags, length = (0, 0), 0, 0
    if protocol in (TCP, UDP):
        ports = struct.unpack_from("!HH", frame, start)
        length = 8 if protocol == UDP else (frame[start + 12] >> 4) * 4
        flags = frame[start + 13] if protocol == TCP else 0
    elif protocol in (ICMP, ICMP6) and frame[start] in (0, 8, 128, 129):
        ports = (struct.unpack_from("!H", frame, start + 4)[0], 0)
    return Headers(source, destination, protocol, *ports, octets, flags, octets - (start - 14) - length)


def conversation(found):
    """The unordered 5-tuple of a packet."""
    if found.protocol in (ICMP, ICMP6):
        return (found.protocol, found.source_port, *sorted((found.source, found.destination)))
    return (found.protocol, *sorted(((found.source, found.source_port), (found.destination, found.destination_port))))
