"""Sends the export datagrams of a capture to a collector, from one port, so that it sees one exporter.

Prints how many datagrams went out.
"""
import argparse
import socket
import time

import capture
import exports


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("capture")
    parser.add_argument("collector", help="HOST:PORT")
    parser.add_argument("--rate", type=float, default=1000.0, help="datagrams per second")
    parser.add_argument("--source-port", type=int, default=9995)
    args = parser.parse_args()
    host, port = args.collector.rsplit(":", 1)
    payloads = [exports.payload_of(packet) for packet in capture.read(args.capture)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
        exporter.bind(("", args.source_port))
        start = time.monotonic()
        for number, payload in enumerate(payloads):
            time.sleep(max(0.0, start + number / args.rate - time.monotonic()))
            exporter.sendto(payload, (host, int(port)))
    print(len(payloads))


if __name__ == "__main__":
    main()
