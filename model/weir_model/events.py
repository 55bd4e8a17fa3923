"""The event: what the sensor keeps of a flow, 16 octets. FEATURES.md is the specification; this is its twin.

All quantities are small floats made by shifts alone, so that two implementations agree bit for bit.
"""

from __future__ import annotations

import numpy as np

from .flows import ICMP, ICMPV6, TCP, UDP, Flows

WINDOW = 32


def quantise(x: np.ndarray, mantissa: int, limit: int) -> np.ndarray:
    """The code of a non-negative integer: exact below 2^(mantissa+1), then `mantissa` bits after the leading one,
    rounded down; at most `limit`."""
    x = np.maximum(np.asarray(x, np.int64), 0)
    exact = 1 << (mantissa + 1)
    _, exponent = np.frexp(np.minimum(x, (1 << 52)).astype(np.float64))  # floor(log2 x) + 1, exact below 2^53
    shift = np.maximum(exponent - 1 - mantissa, 0)
    code = np.where(x < exact, x, exact + (shift - 1) * (exact >> 1) + (x >> shift) - (exact >> 1))
    return np.minimum(code, limit)


def dequantise(code: np.ndarray, mantissa: int) -> np.ndarray:
    """The lower bound of a code's interval, as float64 (exact)."""
    code = np.asarray(code, np.int64)
    exact, half = 1 << (mantissa + 1), 1 << mantissa
    shift = np.where(code < exact, 0, (code - exact) // half + 1)
    base = np.where(code < exact, code, (code - exact) % half + half)
    return np.ldexp(base.astype(np.float64), shift)


def q16(x: np.ndarray) -> np.ndarray:
    """Octets and milliseconds: ten bits of mantissa; exact below 2,048, then 0.1 %."""
    return dequantise(quantise(x, 10, 0xFFFF), 10)


def q8(x: np.ndarray) -> np.ndarray:
    """Packets: three bits of mantissa; exact below 16, then 12 %."""
    return dequantise(quantise(x, 3, 0xFF), 3)


TRANSPORT_TCP, TRANSPORT_UDP, TRANSPORT_ICMP, TRANSPORT_OTHER = range(4)


def transport(proto: np.ndarray) -> np.ndarray:
    """0 TCP, 1 UDP, 2 ICMP or ICMPv6, 3 any other."""
    return np.select([proto == TCP, proto == UDP, (proto == ICMP) | (proto == ICMPV6)], [0, 1, 2], 3).astype(np.int8)


SERVICES = ["dns", "tls", "http", "mail", "remote", "infra", "industrial", "system", "registered", "dynamic", "none"]
_PORTS = {
    "dns": [53, 853],
    "tls": [443, 8443],
    "http": [80, 3128, 8000, 8080, 8081, 8888],
    "mail": [25, 110, 143, 465, 587, 993, 995],
    "remote": [20, 21, 22, 23, 69, 115, 139, 445, 873, 989, 990, 2049, 3389, 5900, 5985, 5986],
    "infra": [
        67,
        68,
        88,
        123,
        135,
        137,
        138,
        161,
        162,
        389,
        427,
        500,
        514,
        546,
        547,
        636,
        1900,
        3478,
        3702,
        4500,
        5060,
        5222,
        5228,
        5353,
        5355,
    ],
    "industrial": [
        102,
        502,
        789,
        1433,
        1521,
        1883,
        2222,
        2404,
        3306,
        4840,
        5432,
        6379,
        8883,
        9600,
        20000,
        34962,
        34964,
        44818,
        47808,
    ],
}
_SERVICE = np.full(65536, 8, np.int8)
_SERVICE[:1024] = 7
_SERVICE[49152:] = 9
_SERVICE[0] = 10
for _name, _list in _PORTS.items():
    _SERVICE[_list] = SERVICES.index(_name)


def service(port: np.ndarray, via: np.ndarray) -> np.ndarray:
    """The class of the responder's port; `none` where the transport has no ports."""
    return np.where(via >= TRANSPORT_ICMP, 10, _SERVICE[np.asarray(port) & 0xFFFF]).astype(np.int8)


class Events:
    """Columns of events, already dequantised: `t` milliseconds (uint32 range), octets, packets, duration ms."""

    def __init__(self, f: Flows):
        self.t = (f.t // 1000) & 0xFFFFFFFF
        self.fb, self.bb, self.dur = q16(f.fb), q16(f.bb), q16(f.dur // 1000)
        self.fp, self.bp = q8(f.fp), q8(f.bp)
        self.via = transport(f.proto)
        self.port = np.where(self.via >= TRANSPORT_ICMP, 0, f.dport).astype(np.int64)
        self.service = service(self.port, self.via)
        self.low, self.has_flags = f.low, f.has_flags
        self.flags = np.where(f.has_flags, f.flags, 0)
