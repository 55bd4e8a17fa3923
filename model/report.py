"""`make eval`: every table of MODEL_CARD.md from the data, the shipped model and the out-of-fold scores of the last `make model`.

python model/report.py [--card]      # --card writes the tables and the curves into the card
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np
import pandas as pd

from weir_model import augment, baselines, chunks, data, evaluate, folds, malicious
from weir_model.export import fuse
from weir_model.features import STAT_NAMES, features, scoring_windows
from weir_model.flows import CLASSES, Flows, stitch
from weir_model.generate import to_flows
from weir_model.shipped import Model
from weir_model.trees import fit as fit_trees
from weir_model.sets import weights


def table(rows: list[dict]) -> str:
    frame = pd.DataFrame(rows)
    show = lambda v: f"{v:.3f}" if isinstance(v, float) else str(v)
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    return "\n".join(lines + ["| " + " | ".join(show(v) for v in row) + " |" for row in frame.itertuples(index=False)])


def write(tables: dict[str, str]) -> None:
    """Puts each text into its place in the card."""
    card = (HERE / "MODEL_CARD.md").read_text()
    for name, text in tables.items():
        place = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        assert re.search(place, card, flags=re.S), f"MODEL_CARD.md has no place for {name}"
        card = re.sub(place, lambda m: m[1] + text + "\n" + m[2], card, flags=re.S)
    (HERE / "MODEL_CARD.md").write_text(card)


def load():
    corpus = data.load()
    path = HERE / "work" / "scored.npz"
    if not path.is_file():
        sys.exit("model/work/scored.npz is missing: it holds the out-of-fold scores. Run `make model` first.")
    z = np.load(path)
    w = scoring_windows(corpus.flows)
    _, stats = features(corpus.flows, w)
    if z["trees"].shape[1] != len(w):
        sys.exit("model/work/scored.npz is of other data. Run `make model` again.")
    return corpus, folds.Scored(
        w, stats, evaluate.folds(corpus.pairs), list(z["trees"]), *(list(z[name]) for name in ("real_trees", "net", "chunk_trees", "chunk_net"))
    )


def methods(corpus, s) -> dict[str, list[np.ndarray]]:
    """Per method the pairs' scores in each fold."""
    n = len(corpus.pairs)
    fused = folds.fused(s)
    at_once = [folds.mixed(a, b) for a, b in zip(s.trees, s.net)]
    rules = baselines.rules(s.stats)
    with_rules = [z + 1.0 * (rules >= 0.8) for z in fused]
    of = lambda values: folds.by_pair(s, values, n)
    five = lambda v: [v] * len(s.folds)
    return {
        "RITA's score, exact": five(baselines.rita_pairs(corpus.flows, corpus.pairs)),
        "rules only": of(five(rules)),
        "boosting on pair statistics, real pairs only": of(s.real_trees),
        "boosting on pair statistics, with generated pairs": of(s.trees),
        "network only": of([folds.odds(p) for p in s.net]),
        "boosting and network, a window at a time": of(at_once),
        "shipped: boosting, network, persistence": of(fused),
        "shipped and rules": of(with_rules),
    }


def folds_table(corpus, s) -> str:
    pairs, out = corpus.pairs, []
    every = methods(corpus, s)
    for title, keep in (
        ("All unicast pairs", None),
        ("Pairs of four records or more", (pairs.records >= 4).to_numpy()),
    ):
        rows = []
        for name, scores in every.items():
            means = evaluate.summary(evaluate.measure(pairs, s.folds, scores, keep))
            spread = evaluate.bootstrap(pairs, s.folds, scores, keep)
            rows.append(
                {"method": name} | {k: f"{v:.3f} [{spread[k][0]:.3f}, {spread[k][1]:.3f}]" for k, v in means.items()}
            )
        out.append(f"{title}, macro average by family, 95 % bootstrap intervals:\n\n" + table(rows))
    t = evaluate.measure(pairs, s.folds, every["shipped: boosting, network, persistence"])
    by_fold = [
        {
            "fold": f.name,
            "families": int((t.fold == f.name).sum()),
            "positives": int(f.positive.sum()),
            "benign": int(f.negative.sum()),
            **{k: float(v) for k, v in t[t.fold == f.name][["auc", *evaluate.RATES]].mean().items()},
        }
        for f in s.folds
    ]
    families = (
        t.groupby("family")
        .agg(
            sources=("source", lambda x: ", ".join(sorted(set(x)))),
            pairs=("pairs", "sum"),
            **{k: (k, "mean") for k in ("auc", *evaluate.RATES)},
        )
        .reset_index()
    )
    out.append("The shipped method by fold:\n\n" + table(by_fold))
    out.append("The shipped method by family:\n\n" + table(families.to_dict("records")))
    return "\n\n".join(out)


def probes(corpus) -> str:
    """Shuffled labels, and only what the exporter gave or not: both must stay at chance."""
    from weir_model.sets import real_set

    s = real_set(corpus, 3, 0, 2)
    pairs, n = corpus.pairs, len(corpus.pairs)
    w = scoring_windows(corpus.flows)
    _, x = features(corpus.flows, w)
    meta = [STAT_NAMES.index("flags_share")]
    rng = np.random.default_rng(9)
    shuffled_pair = rng.permutation(n)
    rows = []
    for name in ("labels shuffled among pairs", "metadata only (flags given or not)"):
        auc = []
        for fold in evaluate.folds(pairs):
            weight = weights(s, pairs, fold.train, (0.0, 0.0))
            y = np.isin(s.y, (1, 2))
            if name.startswith("labels"):
                lookup = np.isin(pairs.label.to_numpy()[shuffled_pair], (1, 2))
                y = lookup[s.pair]
                # The scores are compared against labels shuffled the same way, else the probe could not fail.
                weight = np.where(weight > 0, 1.0, 0.0)
                z = fit_trees(s.stats, y, weight, 1, n_estimators=60).raw(x)
                score = evaluate.pair_scores(w.seq, z, n)
                test = fold.positive | fold.negative
                auc.append(evaluate.ranks_below(score[test & lookup], score[test & ~lookup]).mean())
            else:
                z = fit_trees(s.stats[:, meta], y, weight, 1, n_estimators=60).raw(x[:, meta])
                score = evaluate.pair_scores(w.seq, z, n)
                tbl = evaluate.measure(pairs, [fold], [score])
                auc.append(tbl.groupby("family").auc.mean().mean())
        rows.append(
            {
                "probe": name,
                "AUC, mean of the folds": float(np.mean(auc)),
                "smallest": float(min(auc)),
                "largest": float(max(auc)),
            }
        )
    return table(rows)


def gate(stats: np.ndarray) -> np.ndarray:
    """The cheap gate: which windows are worth scoring. The same conditions are in FEATURES.md."""
    s = lambda name: stats[:, STAT_NAMES.index(name)]
    enough = s("log_count") >= np.float32(np.log(5.0))  # four events
    heavy = s("log_up_total") >= np.float32(np.log1p(1e5))
    long = s("log_duration_max") >= np.float32(np.log1p(60e3))
    return (enough | heavy | long) & (s("answered_share") + s("tcp_share") > 0)


def gate_table(corpus, s) -> str:
    pairs, n = corpus.pairs, len(corpus.pairs)
    passed = np.zeros(n, bool)
    np.logical_or.at(passed, s.windows.seq, gate(s.stats))
    rows = []
    for name, mask in (
        ("benign", (pairs.label == 0) & pairs.unicast),
        ("c2 or exfil", pairs.label.isin((1, 2)) & pairs.unicast & ~pairs.held_out),
    ):
        rows.append({"pairs": name, "count": int(mask.sum()), "pass the gate": float(passed[mask.to_numpy()].mean())})
    by_family = (
        pd.Series(passed, pairs.index)[pairs.label.isin((1, 2)) & pairs.unicast & ~pairs.held_out]
        .groupby(pairs.family)
        .mean()
    )
    rows.append({"pairs": "families, macro", "count": len(by_family), "pass the gate": float(by_family.mean())})
    return table(rows)


def held_out(corpus, s, model: Model, meta: dict) -> str:
    """IoT-23 34-1: sequences of up to 50 flows of a pair with gaps of at most an hour; positive = not benign."""
    f = chunks.chunked(corpus.flows.take(corpus.pairs.held_out.to_numpy()[corpus.flows.seq]))
    w = scoring_windows(f)
    label = chunks.labels(f)
    score = chunks.scores(w, model(*features(f, w)), len(label))
    fusion = (meta["fusion"]["trees"], meta["fusion"]["network"], meta["fusion"]["offset"])
    limit, trained = chunks.threshold(corpus, s.folds, [fuse(t, p, fusion) for t, p in zip(s.chunk_trees, s.chunk_net)])
    hit = score >= limit
    tp, fp, fn = ((label == 1) & hit).sum(), ((label == 0) & hit).sum(), ((label == 1) & ~hit).sum()
    precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    rows = [
        {
            "sequences": f"{(label == 1).sum()} malicious, {(label == 0).sum()} benign",
            "threshold": limit,
            "F1 out of fold": trained,
            "precision": float(precision),
            "recall": float(recall),
            "F1": float(2 * precision * recall / max(precision + recall, 1e-9)),
            "AUC": float(evaluate.ranks_below(score[label == 1], score[label == 0]).mean()),
        }
    ]
    return (
        table(rows)
        + "\n\nBeside it: LogLM's published F1 on its `malware_34_1` is 0.75, over sequences of its own converter: not the same units."
    )


def captured(model: Model, limits: dict[str, float]) -> str:
    """The recorded captures of real clients and servers, which no model was trained or chosen on."""
    corpus = data.captured()
    pairs, score = corpus.pairs, model.pairs(corpus.flows)
    hostile = pairs.label.isin(evaluate.POSITIVE).to_numpy()
    rows = []
    for (label, kind), members in pairs.groupby(["label", "kind"]).groups.items():
        mine = score[members]
        of = {"class": CLASSES[label], "kind": kind.replace("_", " "), "pairs": len(mine)}
        of |= {name: float(v) for name, v in zip(("lowest", "median", "highest"), np.quantile(mine, [0, 0.5, 1]))}
        rows.append(of | {f"above: {name}": float((mine > limit).mean()) for name, limit in limits.items()})
    positive, negative = score[hostile], score[~hostile]
    low, high = bounds(positive, negative)
    share = ", ".join(
        f"{(positive > limit).mean():.2f} of the hostile and {(negative > limit).mean():.2f} of the benign pairs score above "
        f"the threshold of {name}"
        for name, limit in limits.items()
    )
    auc = evaluate.ranks_below(positive, negative).mean()
    found = evaluate.detected(positive, negative, 1e-2).mean()
    rita = baselines.rita_pairs(corpus.flows, pairs)
    beside = evaluate.ranks_below(rita[hostile], rita[~hostile]).mean()
    rita_found = evaluate.detected(rita[hostile], rita[~hostile], 1e-2).mean()
    return (
        f"{hostile.sum()} hostile and {(~hostile).sum()} benign pairs: AUC {auc:.3f} [{low:.3f}, {high:.3f}], recall "
        f"{found:.2f} with one benign pair in a hundred above (RITA's score, exact: {beside:.3f} and {rita_found:.2f}); "
        f"{share}.\n\n{table(rows)}"
    )


def bounds(positive: np.ndarray, negative: np.ndarray, rounds: int = 200) -> tuple[float, float]:
    """95 % of the AUCs of a bootstrap over pairs."""
    rng = np.random.default_rng(6)
    draw = lambda x: rng.choice(x, len(x))
    low, high = np.percentile([evaluate.ranks_below(draw(positive), draw(negative)).mean() for _ in range(rounds)], [2.5, 97.5])
    return float(low), float(high)


def _sequences(make, count: int, seed: int) -> Flows:
    rng = np.random.default_rng(seed)
    parts = [to_flows(make(rng), i, 1, 1_700_000_000_000_000, bool(i % 2)) for i in range(count)]
    return Flows(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in vars(parts[0])}).sorted()


COUNT = 80


def curves(model: Model, limits: dict[str, float]) -> dict[str, tuple[list, dict[str, list]]]:
    """Recall of generated sequences by one parameter each: name -> (values, {threshold's name: recalls}). Synthetic, all of it."""
    out: dict[str, tuple[list, dict[str, list]]] = {}

    def run(name, values, flows_of):
        lines = {k: [] for k in limits}
        for i, value in enumerate(values):
            score = model.pairs(flows_of(value, i))
            for k, limit in limits.items():
                lines[k].append(float((np.pad(score, (0, max(COUNT - len(score), 0)))[:COUNT] > limit).mean()))
        out[name] = (values, lines)

    beacon = lambda **fixed: (
        lambda rng: malicious.http_beacon(rng, **({"sleep": 60.0, "jitter": 0.2, "missed": 0.0} | fixed))
    )
    run("jitter", [0, 0.1, 0.3, 0.5], lambda v, i: stitch(_sequences(beacon(jitter=v), COUNT, 900)))
    run("missed beats", [0, 0.1, 0.2, 0.3], lambda v, i: stitch(_sequences(beacon(missed=v), COUNT, 901)))
    run("sleep, s", [5, 60, 600, 3600], lambda v, i: stitch(_sequences(beacon(sleep=float(v)), COUNT, 902)))
    run(
        "sampling 1:N",
        [1, 10, 100, 1000],
        lambda v, i: stitch(augment.sample(_sequences(malicious.c2, COUNT, 903), np.random.default_rng(i), v)),
    )
    run(
        "active timeout, s",
        [15, 60, 300, 1800],
        lambda v, i: stitch(augment.cut(_sequences(malicious.c2, COUNT, 904), v)),
    )
    run(
        "volume of exfiltration, octets",
        [10**6, 10**7, 10**8, 10**9, 5 * 10**9],
        lambda v, i: stitch(_sequences(lambda rng: malicious.exfil(rng, volume=float(v), channel="https"), COUNT, 905)),
    )
    run(
        "rate of exfiltration, octets/s",
        [10**2, 10**3, 10**4, 10**5, 10**6],
        lambda v, i: stitch(
            _sequences(lambda rng: malicious.exfil(rng, volume=2e7, rate=float(v), channel="https"), COUNT, 906)
        ),
    )
    return out


def draw(lines: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(12, 5), sharey=True)
    for axis, (name, (values, recalls)) in zip(axes.flat, lines.items()):
        for label, r in recalls.items():
            axis.plot(range(len(values)), r, marker="o", label=label)
        axis.set_xticks(range(len(values)), [f"{v:g}" for v in values], fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
    axes.flat[-1].axis("off")
    axes.flat[0].set_ylabel("recall")
    axes.flat[4].set_ylabel("recall")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].legend(handles, labels, loc="center", title="threshold")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--card", action="store_true", help="write the tables and pictures into MODEL_CARD.md")
    arguments = parser.parse_args()
    corpus, s = load()
    model = Model()
    meta = json.loads((HERE / "weir.json").read_text())
    f = meta["fusion"]
    slope = f["trees"] / folds.MIX
    outside = ~corpus.pairs.internal.to_numpy()
    z = [
        evaluate.pair_scores(s.windows.seq, slope * v + f["offset"], len(corpus.pairs))[fold.negative & outside]
        for fold, v in zip(s.folds, folds.fused(s))
    ]
    z = np.concatenate(z)
    benign = 1 / (1 + np.exp(-z))
    limits = {
        "1 % of benign pairs": float(np.quantile(benign, 0.99)),
        "10 alerts per 1,000 hosts a day": meta["thresholds_alerts_per_1000_hosts_day"]["10"],
    }
    lines = curves(model, limits)
    budget = [
        {
            "alerts per 1,000 hosts a day": int(k),
            "alert above": f"{v:.6f}",
            "benign pairs above, out of fold": int((benign > v).sum()),
        }
        for k, v in meta["thresholds_alerts_per_1000_hosts_day"].items()
    ]
    tables = {
        "folds": folds_table(corpus, s),
        "probes": probes(corpus),
        "held-out": held_out(corpus, s, model, meta),
        "budget": f"{len(benign)} benign pairs over {meta['benign_host_days']:.0f} host-days:\n\n"
        + table(budget)
        + f"\n\nExpected calibration error, out of fold, at a prior of {f['prior']}: {meta['calibration_error']:.4f}.",
        "gate": gate_table(corpus, s),
        "captured": captured(model, limits),
        "curves": "\n\n".join(
            table([{name: f"{v:g}", **{k: r[i] for k, r in recalls.items()}} for i, v in enumerate(values)])
            for name, (values, recalls) in lines.items()
        ),
        "file": f"`model/weir.onnx`, {(HERE / 'weir.onnx').stat().st_size} octets, sha256 `{meta['sha256']}`.",
    }
    for name, text in tables.items():
        print(f"\n## {name}\n\n{text}")
    if arguments.card:
        write(tables)
        draw(lines, HERE / "curves.png")


if __name__ == "__main__":
    main()
