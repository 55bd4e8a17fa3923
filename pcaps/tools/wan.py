"""A wide-area link between two network namespaces: carries IP packets with a delay.

Each end is a TUN device that exists already in its namespace. Packets leave in the order in which they came. Needs
nothing from the kernel but TUN, so that the recording does not depend on a queueing discipline being built in.
"""
import argparse
import collections
import ctypes
import fcntl
import os
import random
import select
import struct
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
PACKET_MAX, QUEUE_MAX = 65_536, 4_096


def open_tun(end):
    """Opens the TUN device of `end` ("namespace:device") from inside its namespace."""
    namespace, device = end.split(":")
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/var/run/netns/{namespace}", "rb") as handle:
        if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    return tun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("left", help="namespace:device")
    parser.add_argument("right", help="namespace:device")
    parser.add_argument("--delay-ms", type=float, required=True, help="one way")
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="added at random, from 0 to this")
    args = parser.parse_args()
    left, right = open_tun(args.left), open_tun(args.right)
    # Per sending side: the other side, and what is under way to it as (time due, packet).
    lines = {left: (right, collections.deque()), right: (left, collections.deque())}
    while True:
        due = [queue[0][0] for _, queue in lines.values() if queue]
        wait = max(0.0, min(due) - time.monotonic()) if due else None
        for tun in select.select([left, right], [], [], wait)[0]:
            _, queue = lines[tun]
            try:
                while packet := os.read(tun, PACKET_MAX):
                    arrival = time.monotonic() + (args.delay_ms + random.random() * args.jitter_ms) / 1e3
                    if len(queue) < QUEUE_MAX:
                        queue.append((max(arrival, queue[-1][0] if queue else 0.0), packet))
            except BlockingIOError:
                pass
        now = time.monotonic()
        for out, queue in lines.values():
            while queue and queue[0][0] <= now:
                os.write(out, queue.popleft()[1])


if __name__ == "__main__":
    main()
