"""Writes model/parity.json: records, windows, features and probabilities that the sensor's code must reproduce.

    python model/vectors.py

Each case is a pair's records in the order of arrival, as integers; the records are generated, with a few made by hand for
the corners. The features are float32 values printed so that they read back exactly; tolerance 1e-6 relative (absolute below 1).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np

from weir_model.events import quantise
from weir_model.features import features, scoring_windows
from weir_model.flows import Flows, concat, stitch
from weir_model.generate import generate
from weir_model.shipped import Model

COLUMNS = ["t", "dur", "sport", "dport", "proto", "fb", "bb", "fp", "bp", "flags", "has_flags", "low"]


def by_hand() -> list[Flows]:
    """Corners: one record; equal starts; a clock that steps back; wrapping milliseconds; both ends initiate; no flags; huge counters; ICMP."""

    def rows(*records):
        a = np.array(records, np.int64)
        n = len(a)
        kinds = dict(sport=np.int32, dport=np.int32, proto=np.int16, flags=np.int16, has_flags=bool, low=bool)
        return Flows(
            seq=np.zeros(n, np.int64),
            label=np.zeros(n, np.int8),
            **{k: a[:, i].astype(kinds.get(k, np.int64)) for i, k in enumerate(COLUMNS)},
        )

    base, wrap = 1_700_000_000_000_000, (1 << 32) * 1000
    beat = lambda i, **k: [
        k.get("t", base + i * 60_000_000),
        150_000,
        40000 + i,
        443,
        6,
        1200 + i,
        4800,
        9,
        8,
        27,
        1,
        1,
    ]
    return [
        rows(beat(0)),
        rows(*[beat(i, t=base) for i in range(5)]),
        rows(*[beat(i, t=wrap - 90_000_000 + i * 60_000_000) for i in range(6)]),
        rows(
            *[beat(i) for i in range(3)],
            [base + 200_000_000, 0, 443, 50000, 17, 100, 0, 1, 0, 0, 1, 0],
            [base + 210_000_000, 5_000, 53, 53, 17, 80, 200, 1, 1, 0, 1, 0],
            [base + 220_000_000, 5_000, 137, 137, 17, 80, 0, 1, 0, 0, 1, 0],
        ),
        rows([base, 3_000_000_000_000, 1, 2, 6, 1 << 45, 1 << 40, 1 << 30, 1 << 29, 0, 0, 1]),
        rows(*[[base + i * 1_000_000, 0, 0, 0, 1, 84, 84 * (i % 2), 1, i % 2, 0, 1, 1] for i in range(40)]),
        rows(
            *[
                [base + i * 60_000_000, 59_999_000, 50000, 8443, 6, 5000, 9000, 20, 18, 24 if i else 26, 1, 1]
                for i in range(4)
            ]
        ),
    ]


def main() -> None:
    flows = concat(
        by_hand() + [generate({"benign": 12, "c2": 10, "exfil": 5, "scan": 1, "bruteforce": 1, "dos": 1}, 77)]
    )
    flows = flows.take(np.arange(len(flows)) - np.searchsorted(flows.seq, flows.seq) < 70)
    stitched = stitch(flows.sorted())
    windows = scoring_windows(stitched)
    steps, stats = features(stitched, windows)
    p = Model()(steps, stats)
    cases = []
    for number in np.unique(flows.seq):
        f = flows.take(flows.seq == number)
        mine = np.flatnonzero(windows.seq == number)
        base = np.searchsorted(stitched.seq, number)
        cases.append(
            {
                "records": [[int(getattr(f, c)[i]) for c in COLUMNS] for i in range(len(f))],
                "windows": [
                    {
                        "events": [int(r - base) for r in windows.rows[w] if r >= 0],
                        "stats": [float(v) for v in stats[w]],
                        # The steps of the last event; all others follow the same rules.
                        "last_step": [float(v) for v in steps[w, -1]],
                        "steps_sum": float(steps[w].astype(np.float64).sum()),
                        "probabilities": [float(v) for v in p[w]],
                    }
                    for w in mine
                ],
            }
        )
    values = [0, 1, 15, 16, 17, 2047, 2048, 2049, 4095, 4096, 65535, 10**6, 10**9, 2**40, 2**52]
    codes = {"values": values, "q16": quantise(values, 10, 0xFFFF).tolist(), "q8": quantise(values, 3, 0xFF).tolist()}
    text = json.dumps({"columns": COLUMNS, "quantise": codes, "cases": cases}, separators=(",", ":"))
    (HERE / "parity.json").write_text(text.replace('{"records"', '\n{"records"') + "\n")
    print(f"{len(cases)} cases, {len(windows)} windows")


if __name__ == "__main__":
    main()
