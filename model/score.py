"""Scores the flows that `weir replay FILE -o flows.ndjson` wrote: one row a pair, for a look at a capture of one's own.

    python model/score.py flows.ndjson [--truth pcaps/truth.csv --file mixed.pcap.zst]

The sensor's own `weir score` does this at speed; this is its slow twin.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np
import pandas as pd

from weir_model.features import STAT_NAMES, features, ordinals, scoring_windows
from weir_model.flows import CLASSES, Flows, stitch
from weir_model.shipped import Model


def read(path: str) -> tuple[Flows, list[tuple[str, str]]]:
    """Flows of Weir's NDJSON, and the addresses of each pair."""
    rows = pd.DataFrame([json.loads(line) for line in open(path)]).sort_values("timestamp", kind="stable")
    src, dst = rows.src_ip.to_numpy(str), rows.dest_ip.to_numpy(str)
    low = src <= dst
    keys = list(zip(np.where(low, src, dst), np.where(low, dst, src)))
    seq, names = pd.factorize(pd.MultiIndex.from_tuples(keys))
    column = lambda name, dtype: rows[name].fillna(0).to_numpy(dtype)
    fwd, bwd = column("fwd_tcp_flags", np.int16), column("bwd_tcp_flags", np.int16)
    flows = Flows(
        seq=seq.astype(np.int64),
        t=column("timestamp", np.int64),
        dur=np.round(column("flow_dur", float) * 1e6).astype(np.int64),
        sport=column("src_port", np.int32),
        dport=column("dest_port", np.int32),
        proto=column("protocol", np.int16),
        fb=column("fwd_bytes", np.int64),
        bb=column("bwd_bytes", np.int64),
        fp=column("fwd_pkts", np.int64),
        bp=column("bwd_pkts", np.int64),
        flags=fwd | bwd,
        has_flags=np.ones(len(rows), bool),
        low=low,
        label=np.zeros(len(rows), np.int8),
    )
    return stitch(flows.sorted()), [tuple(n) for n in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flows")
    parser.add_argument("--truth", help="a table like pcaps/truth.csv, whose labels are shown beside the scores")
    parser.add_argument("--file", help="the capture's name in that table")
    arguments = parser.parse_args()
    flows, names = read(arguments.flows)
    truth: dict[frozenset, set[str]] = {}
    if arguments.truth:
        table = pd.read_csv(arguments.truth)
        for row in table[table.file == arguments.file].itertuples():
            truth.setdefault(frozenset((row.initiator, row.responder)), set()).add(row.label)
    windows = scoring_windows(flows)
    steps, stats = features(flows, windows)
    model = Model()
    p = model.persisted(model(steps, stats), ordinals(windows))
    out = pd.DataFrame({"pair": windows.seq, "score": p[:, 1] + p[:, 2], "class": [CLASSES[i] for i in p.argmax(1)]})
    out["gap median, s"] = np.expm1(stats[:, STAT_NAMES.index("log_gap_median")])
    out["octets up"] = np.expm1(stats[:, STAT_NAMES.index("log_up_total")])
    out = out.sort_values("score", ascending=False).drop_duplicates("pair")
    out["flows"] = np.bincount(flows.seq)[out.pair]
    for row in out.sort_values("score", ascending=False).itertuples(index=False):
        a, b = names[row.pair]
        label = ",".join(sorted(truth.get(frozenset((a, b)), set())))
        print(
            f"{row.score:.4f} {row[2]:10} {a:24} {b:24} {row[5]:5} flows  gap {row[3]:9.1f} s  up {row[4]:10.0f}  {label}"
        )


if __name__ == "__main__":
    main()
