"""Loads the labelled flows (`data/flows`) into `Flows`, one sequence an address pair of a scenario.

What the data's own page forbids stays out: scenario, source, family, addresses, absolute time and host degree are
kept beside the flows for splitting and for tables, never handed to a model. `cont` is dropped: records that an
active timeout cut are stitched (`flows.stitch`).
"""

from __future__ import annotations

import ipaddress
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .flows import CLASS_OF, CLASSES, STITCH_TCP_US, Flows, stitch

# IoT-23 capture 34-1 (Mirai): a test set of its own, never trained on. It holds all `ddos` rows.
HELD_OUT = "iot23-34-1"
# The five fixed groups of benign sources (evaluation protocol).
BENIGN_GROUPS = [
    ["iotsentinel", "iot23"],
    ["stratosphere", "elcabezzonn", "korving"],
    ["ics", "icstools", "malcolm", "modbus", "otrf"],
    ["rita", "aktaion", "graphtunnel", "dataleak", "kishpud", "skripsi"],
    ["home", "nfstream", "mercury", "ja4", "arkime", "httpreplay"],
]
# Positive sources in five groups; sources that share families stand together, so that a fold's families are unseen.
POSITIVE_GROUPS = [
    ["stratosphere", "aktaion", "chad314159", "corelight"],
    ["korving", "graphtunnel", "elisaud"],
    ["c2ms", "otrf", "elcabezzonn", "modbus"],
    ["jstrosch", "unit42", "c2detect", "alamadani"],
    ["networkforensics", "trickbot-ad", "dataleak", "rita", "chrissanders"],
]


@dataclass
class Corpus:
    """Flows and, per pair (`seq`), what the protocol needs to split and to count."""

    flows: Flows
    pairs: pd.DataFrame  # index = seq: source, scenario, host, unicast, internal, records, label, family, held_out


def data_dir() -> Path:
    """Where the vectors lie: WEIR_VECTORS, or `shared/data` beside the checkout."""
    here = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("WEIR_VECTORS") or here.parent / "shared" / "data")


# The sensor's default of `networks.home`.
HOME = [ipaddress.ip_network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")]


def _at_home(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip.version == n.version and ip in n for n in HOME)


def _scope(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "unicast"
    if ip.is_multicast or ip.is_unspecified or address == "255.255.255.255":
        return "group"
    # A directed broadcast shows no netmask; .255 is what /24 networks use, and nothing else answers there.
    return "group" if ip.version == 4 and address.endswith(".255") else "unicast"


def load(directory: Path | None = None) -> Corpus:
    """All captures. Exits with a message that names the missing file if the data is not there."""
    directory = Path(directory or data_dir()) / "flows"
    names = ["flows.parquet", "flows2.parquet"]
    missing = [str(directory / n) for n in names if not (directory / n).is_file()]
    if missing:
        sys.exit(
            "The labelled flows are missing: "
            + ", ".join(missing)
            + ". Set WEIR_VECTORS to the folder that holds flows/."
        )
    frame = pd.concat([pd.read_parquet(directory / n) for n in names], ignore_index=True)
    return build(frame)


CAPTURES = Path(__file__).resolve().parents[1] / "captures"


def captured() -> Corpus:
    """The flows that `captures/record.py` recorded; `kind` of a pair is the routine of its actor."""
    frame = pd.concat([pd.read_parquet(path) for path in sorted(CAPTURES.glob("flows-*.parquet"))], ignore_index=True)
    corpus = build(frame)
    kinds = dict(zip(zip(frame.scenario, frame.src_ip), frame.family))
    corpus.pairs["kind"] = [kinds[key] for key in zip(corpus.pairs.scenario, corpus.pairs.host)]
    return corpus


def build(frame: pd.DataFrame) -> Corpus:
    """`Corpus` of rows in the schema of `data/flows/README.md`."""
    for name in ("label", "source", "scenario", "family"):
        frame[name] = frame[name].astype(str)
    src, dst = frame.src_ip.to_numpy(str), frame.dst_ip.to_numpy(str)
    low = src <= dst
    key = frame.scenario.to_numpy(str)
    pair = pd.MultiIndex.from_arrays([key, np.where(low, src, dst), np.where(low, dst, src)])
    seq, _ = pd.factorize(pair)
    label = frame.label.map(lambda x: CLASS_OF.get(x, -1)).to_numpy(np.int8)
    flows = Flows(
        seq=seq.astype(np.int64),
        t=frame.ts_start.to_numpy(np.int64),
        dur=np.round(frame.duration_ms.to_numpy(np.float64) * 1000).astype(np.int64),
        sport=frame.src_port.to_numpy(np.int32),
        dport=frame.dst_port.to_numpy(np.int32),
        proto=frame.proto.to_numpy(np.int16),
        fb=frame.fwd_bytes.to_numpy(np.int64),
        bb=frame.bwd_bytes.to_numpy(np.int64),
        fp=frame.fwd_pkts.to_numpy(np.int64),
        bp=frame.bwd_pkts.to_numpy(np.int64),
        flags=frame.tcp_flags.to_numpy(np.int16),
        has_flags=(frame.tcp_flags.to_numpy() != 0) | (frame.proto.to_numpy() != 6),
        low=low,
        label=label,
    )
    scope = {a: _scope(a) for a in np.unique(np.concatenate([src, dst]))}
    unicast = np.array([scope[a] == "unicast" and scope[b] == "unicast" for a, b in zip(src, dst)])
    home = {a: _at_home(a) for a in scope}
    rows = pd.DataFrame(
        {
            "seq": seq,
            "source": frame.source,
            "scenario": frame.scenario,
            "host": src,
            "label": label,
            "family": frame.family,
            "unicast": unicast,
            "internal": np.array([home[a] and home[b] for a, b in zip(src, dst)]),
        }
    )
    pairs = rows.groupby("seq").agg(
        source=("source", "first"),
        scenario=("scenario", "first"),
        host=("host", "first"),
        unicast=("unicast", "all"),
        internal=("internal", "all"),
        records=("label", "size"),
    )
    pairs["label"] = _pair_label(seq, label, len(pairs))
    positive = rows[rows.label.isin([CLASS_OF["c2"], CLASS_OF["exfil"]])]
    pairs["family"] = positive.groupby("seq").family.first().reindex(pairs.index).fillna("")
    held = frame.loc[frame.label == "ddos", "scenario"].unique()
    pairs["held_out"] = pairs.scenario.isin(held)
    flows = flows.with_(sport=continued_ports(flows, frame.cont.to_numpy(bool)))
    return Corpus(stitch(flows.sorted()), pairs)


def continued_ports(f: Flows, cont: np.ndarray) -> np.ndarray:
    """Initiator ports in which a row marked as a continuation carries the port of what it continues.

    Some captures give every record a port of its own. Such a continuation takes the port of the latest record of its
    pair, protocol, responder port and direction that ended at most 130 s before (2 s of overlap are allowed), unless its own five-tuple has one.
    """
    sport = f.sport.copy()
    order = np.lexsort((np.arange(len(f)), f.t, f.low, f.dport, f.proto, f.seq))
    last, current, five = None, None, set()
    for row in order[np.isin(f.seq[order], np.unique(f.seq[cont]))]:
        key = (f.seq[row], f.proto[row], f.dport[row], f.low[row])
        if last is not None and cont[row] and key == last[0] and int(sport[row]) not in five:
            if -2_000_000 <= f.t[row] - last[1] <= STITCH_TCP_US:
                sport[row] = last[2]
        last = (key, int(f.t[row] + f.dur[row]), int(sport[row]))
        if key != current:
            current, five = key, set()
        five.add(int(sport[row]))
    return sport


def _pair_label(seq: np.ndarray, label: np.ndarray, n: int) -> np.ndarray:
    """The label of a pair: exfil or c2 if any row is (the more frequent), else the most frequent attack, benign if
    every row is, -1 (left out) otherwise."""
    count = np.zeros((n, len(CLASSES) + 1), np.int64)
    np.add.at(count, (seq, np.where(label < 0, len(CLASSES), label)), 1)
    out = np.full(n, -1, np.int64)
    out[(count[:, 0] > 0) & (count[:, 1:].sum(1) == 0)] = 0
    attack = count[:, 1:6]
    out = np.where(attack.sum(1) > 0, 1 + attack.argmax(1), out)
    both = count[:, 1:3]
    return np.where(both.sum(1) > 0, 1 + both.argmax(1), out)
