"""Flow records as arrays, and the one exporter view that every record passes through.

`Flows` is a struct of arrays, one row a bidirectional record as a NetFlow collector sees it. `seq` numbers the
unordered address pair; rows of one pair stand together, in order of start. Everything that a model sees goes
`Flows -> stitch -> events (weir_model.events) -> windows (weir_model.features)`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
# A record continues the flow of the same five-tuple when it starts at most this long after that flow's end:
# TCP: the idle timeout of NetFlow input; others have no connection, so only what an active timeout cut.
STITCH_TCP_US = 130_000_000
STITCH_OTHER_US = 15_000_000


@dataclass
class Flows:
    """Flow records. `fwd` is initiator to responder; octets are IP octets; times are microseconds."""

    seq: np.ndarray  # int64, number of the address pair
    t: np.ndarray  # int64, start, us
    dur: np.ndarray  # int64, us
    sport: np.ndarray  # int32, initiator's port
    dport: np.ndarray  # int32, responder's port
    proto: np.ndarray  # int16
    fb: np.ndarray  # int64, octets initiator -> responder
    bb: np.ndarray  # int64, octets responder -> initiator
    fp: np.ndarray  # int64, packets initiator -> responder
    bp: np.ndarray  # int64, packets responder -> initiator
    flags: np.ndarray  # int16, OR of the TCP flags of both sides
    has_flags: np.ndarray  # bool, the exporter gives TCP flags (true for what is not TCP)
    low: np.ndarray  # bool, the initiator is the lower address of the pair
    label: np.ndarray  # int8, index into CLASSES, or -1 = leave out

    def __len__(self) -> int:
        return len(self.t)

    def take(self, rows: np.ndarray) -> "Flows":
        """The rows that a mask or an index selects."""
        return Flows(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def with_(self, **columns) -> "Flows":
        return replace(self, **columns)

    def sorted(self) -> "Flows":
        """By pair, then start; equal starts keep their order."""
        return self.take(np.lexsort((np.arange(len(self)), self.t, self.seq)))


CLASSES = ["benign", "c2", "exfil", "scan", "bruteforce", "dos"]
CLASS_OF = {name: i for i, name in enumerate(CLASSES)} | {"ddos": 5}


def concat(parts: list[Flows]) -> Flows:
    """One `Flows` of many; the pairs' numbers are shifted so that none meet."""
    shifted, base = [], 0
    for part in parts:
        if len(part):
            shifted.append(part.with_(seq=part.seq + base))
            base += int(part.seq.max()) + 1
    return Flows(**{f.name: np.concatenate([getattr(p, f.name) for p in shifted]) for f in fields(Flows)})


def stitch(flows: Flows) -> Flows:
    """Merges the records of one connection that an active timeout cut.

    A record joins the flow of the same pair and five-tuple if it starts at most `STITCH_TCP_US` (TCP, unless the
    flow ended with FIN or RST and the record holds a SYN) or `STITCH_OTHER_US` after that flow's end. So what the
    model sees hardly depends on the exporter's active timeout.
    """
    if not len(flows):
        return flows
    client = np.where(flows.low, flows.sport, flows.dport)
    server = np.where(flows.low, flows.dport, flows.sport)
    order = np.lexsort((np.arange(len(flows)), flows.t, server, client, flows.proto, flows.seq))
    f = flows.take(order)
    client, server = client[order], server[order]
    end = f.t + f.dur
    same = np.zeros(len(f), bool)
    same[1:] = (
        (f.seq[1:] == f.seq[:-1])
        & (f.proto[1:] == f.proto[:-1])
        & (client[1:] == client[:-1])
        & (server[1:] == server[:-1])
    )
    gap = np.zeros(len(f), np.int64)
    gap[1:] = f.t[1:] - end[:-1]
    limit = np.where(f.proto == TCP, STITCH_TCP_US, STITCH_OTHER_US)
    reopened = np.zeros(len(f), bool)
    reopened[1:] = (f.proto[1:] == TCP) & ((f.flags[:-1] & (FIN | RST)) != 0) & ((f.flags[1:] & SYN) != 0)
    joins = same & (gap <= limit) & ~reopened
    head = np.flatnonzero(~joins)
    group = np.cumsum(~joins) - 1
    turned = f.low != f.low[head][group]
    fb, bb = np.where(turned, f.bb, f.fb), np.where(turned, f.fb, f.bb)
    fp, bp = np.where(turned, f.bp, f.fp), np.where(turned, f.fp, f.bp)
    add = lambda x: np.add.reduceat(x, head)
    out = f.take(head).with_(
        dur=np.maximum.reduceat(end, head) - f.t[head],
        fb=add(fb),
        bb=add(bb),
        fp=add(fp),
        bp=add(bp),
        flags=np.bitwise_or.reduceat(f.flags, head),
        has_flags=np.logical_and.reduceat(f.has_flags, head),
        label=np.maximum.reduceat(f.label, head),
    )
    return out.sorted()
