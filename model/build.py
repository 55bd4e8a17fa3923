"""`make model`: from the labelled flows and the generators to model/weir.onnx and model/weir.json. Seeds are fixed.

    python model/build.py [--check]

`--check` builds again and compares with what is in the repository: weir.onnx by hash, else by the largest difference of the
probabilities on fixed windows; weir.json, thresholds and all, value by value (`TOLERANCE`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums in one order: the same file on one machine
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np
import pandas as pd
import torch

from weir_model import chunks, data, folds
from weir_model import export
from weir_model.events import SERVICES, WINDOW
from weir_model.features import STAT_NAMES, STEP_NAMES
from weir_model.flows import CLASSES

TECHNIQUES = {
    # class: tactic, and technique by the window's prevailing service ("" = any other)
    "c2": {
        "tactic": "TA0011",
        "technique": {
            "dns": "T1071.004",
            "tls": "T1071.001",
            "http": "T1071.001",
            "mail": "T1071.003",
            "remote": "T1071",
            "icmp": "T1095",
            "": "T1571",
        },
    },
    "exfil": {
        "tactic": "TA0010",
        "technique": {
            "dns": "T1048.003",
            "tls": "T1041",
            "http": "T1041",
            "mail": "T1048.003",
            "remote": "T1048.002",
            "icmp": "T1048.003",
            "": "T1041",
        },
    },
    "scan": {"tactic": "TA0007", "technique": {"": "T1046"}},
    "bruteforce": {"tactic": "TA0006", "technique": {"": "T1110"}},
    "dos": {"tactic": "TA0040", "technique": {"": "T1498"}},
}
# What evidence is explained by: a group's share is the change of the score when its statistics take the reference values.
EVIDENCE = {
    "timing": [
        n
        for n in STAT_NAMES
        if "gap" in n or n in ("rita_ts", "rita_hist", "rita_dur", "rita_score", "log_span", "log_count")
    ],
    "sizes": [
        n
        for n in STAT_NAMES
        if n.startswith(
            (
                "log_up_q",
                "log_up_med",
                "log_down_q",
                "log_down_med",
                "up_mad",
                "down_mad",
                "up_mode",
                "down_mode",
                "up_dist",
                "down_dist",
            )
        )
        or n == "rita_ds"
    ],
    "volume": ["log_up_total", "log_down_total", "log_up_rate", "log_up_max", "up_concentration"],
    "balance": ["up_down_ratio", "up_heavier", "up_per_packet", "down_per_packet"],
    "connections": [
        "log_duration_median",
        "log_duration_max",
        "duty",
        "answered_share",
        "reset_share",
        "log_packet_rate",
        "log_up_packets_median",
        "log_down_packets_median",
        "client_share",
    ],
    "service": ["log_ports", "port_mode", "tcp_share", "udp_share", "icmp_share"] + [f"{s}_share" for s in SERVICES],
}
TOLERANCE = 1e-3  # other processors and library builds round differently
BUDGETS = [1, 3, 10, 30, 100, 300]


def host_days(corpus) -> float:
    """Days in which benign hosts of the corpus were seen: the hours in which a host began a flow, over 24."""
    pairs = corpus.pairs[(corpus.pairs.label == 0) & ~corpus.pairs.held_out]
    rows = np.isin(corpus.flows.seq, pairs.index.to_numpy())
    host = pd.factorize(pairs.scenario + "|" + pairs.host)[0]
    of_pair = np.zeros(len(corpus.pairs), np.int64)
    of_pair[pairs.index.to_numpy()] = host
    hours = np.stack([of_pair[corpus.flows.seq[rows]], corpus.flows.t[rows] // 3_600_000_000])
    return np.unique(hours, axis=1).shape[1] / 24.0


TAIL = 20  # the highest benign pairs, which the tail is fitted to


def thresholds(logit: np.ndarray, days: float) -> dict[str, float]:
    """Per budget of alerts per 1,000 hosts a day, the score to alert above: the benign pairs' own order where it
    resolves the budget (five pairs or more above it), beyond that an exponential tail fitted to the highest ones."""
    ordered = np.sort(logit)[::-1]
    base = ordered[TAIL]
    scale = (ordered[:TAIL] - base).mean()
    out = {}
    for budget in BUDGETS:
        allowed = budget / 1000 * days
        z = (
            ordered[int(allowed)]
            if allowed >= 5 and allowed < len(ordered)
            else base + scale * np.log(TAIL / max(allowed, 1e-9))
        )
        out[str(budget)] = round(float(1 / (1 + np.exp(-z))), 6)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="compare with the files in the repository instead of writing them"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.time()
    log = lambda message: print(f"[{time.time() - begun:6.0f} s] {message}", flush=True)
    corpus = data.load()
    log(f"{len(corpus.flows)} flows of {len(corpus.pairs)} pairs")
    s = folds.training_set(corpus)
    log(f"{len(s.y)} training windows, {(s.pair < 0).sum()} of them generated")
    scored = folds.out_of_fold(corpus, s, log)
    a, b, x, y, w, pair = folds.calibrate(scored, corpus)
    fusion = (a * folds.MIX, a * (1 - folds.MIX), b)
    pairs = corpus.pairs
    usable = ((pairs.label >= 0) & ~pairs.held_out).to_numpy()
    trees, net = folds.fit(s, corpus, usable)
    log("trained on every fold's pairs")
    model = export.build(net, trees, fusion)
    binary = model.SerializeToString(deterministic=True)
    probability = 1 / (1 + np.exp(-(a * x + b)))
    days = host_days(corpus)
    # Pairs within the home networks are not alerted on.
    outside = (y == 0) & ~pairs.internal.to_numpy()[pair]
    reference = np.median(scored.stats[(pairs.label.to_numpy() == 0)[scored.windows.seq]], axis=0)
    meta = {
        "version": 1,
        "sha256": export.digest(binary),
        "classes": CLASSES,
        "window": WINDOW,
        "steps": STEP_NAMES,
        "stats": STAT_NAMES,
        "inputs": {"steps": ["batch", WINDOW, len(STEP_NAMES)], "stats": ["batch", len(STAT_NAMES)]},
        "output": {"probabilities": ["batch", len(CLASSES)]},
        "fusion": {"trees": fusion[0], "network": fusion[1], "offset": fusion[2], "prior": folds.PRIOR},
        "not_benign_threshold": chunks.threshold(
            corpus, scored.folds, [export.fuse(t, p, fusion) for t, p in zip(scored.chunk_trees, scored.chunk_net)]
        )[0],
        "persistence": {"log_odds": a * folds.PERSISTENCE, "windows": folds.PERSISTENCE_WINDOWS},
        "calibration_error": folds.calibration_error(probability, y, w),
        "thresholds_alerts_per_1000_hosts_day": thresholds((a * x + b)[outside], days),
        "benign_host_days": days,
        "reference_stats": [float(v) for v in reference],
        "evidence_groups": EVIDENCE,
        "attack": TECHNIQUES,
    }
    cache = HERE / "work"
    cache.mkdir(exist_ok=True)
    keep = np.random.default_rng(7).choice(len(s.y), 512, replace=False)
    np.savez_compressed(
        cache / "scored.npz",
        trees=scored.trees,
        real_trees=scored.real_trees,
        net=scored.net,
        chunk_trees=scored.chunk_trees,
        chunk_net=scored.chunk_net,
        keep_steps=s.steps[keep],
        keep_stats=s.stats[keep],
    )
    (cache / "model.onnx").write_bytes(binary)
    if arguments.check:
        check(binary, meta, s.steps[keep], s.stats[keep])
        return
    (HERE / "weir.onnx").write_bytes(binary)
    (HERE / "weir.json").write_text(json.dumps(meta, indent=1) + "\n")
    log(f"model/weir.onnx, {len(binary)} octets, sha256 {meta['sha256']}")


def check(binary: bytes, meta: dict, steps, stats) -> None:
    """Exits with 1 if the files in the repository are not what the data and the code give."""
    import onnxruntime

    run = lambda source: onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(
        None, {"steps": steps, "stats": stats}
    )[0]
    shipped = (HERE / "weir.onnx").read_bytes()
    beside = json.loads((HERE / "weir.json").read_text())
    others = [key for key in meta if not near(meta[key], beside.get(key)) and key != "sha256"]
    if others:
        print(f"weir.json differs beyond {TOLERANCE}: {', '.join(others)}")
    if shipped == binary:
        print("weir.onnx is identical to the shipped file")
        sys.exit(bool(others))
    difference = float(np.abs(run(shipped) - run(binary)).max())
    print(f"hashes differ; largest difference of a probability on 512 windows: {difference:.2e} (tolerance {TOLERANCE})")
    sys.exit(bool(others) or difference > TOLERANCE)


def near(a, b) -> bool:
    """Equal, numbers within the tolerance."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(near(x, y) for x, y in zip(a, b))
    return abs(a - b) <= TOLERANCE * max(1.0, abs(a)) if isinstance(a, float) and isinstance(b, (int, float)) else a == b


if __name__ == "__main__":
    main()
