"""Quick checks of the features, the generators, the labels and the shipped file: `make model-test`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))

import numpy as np
import pytest

from weir_model import augment, baselines, benign, data, evaluate, export, generate, malicious, nested, trees
from weir_model.events import dequantise, quantise
from weir_model.features import STAT_NAMES, STEP_NAMES, features, rita_stat, scoring_windows
from weir_model.flows import CLASSES, Flows, stitch

RNG = np.random.default_rng(4)


def flows(t_s, up=1000, down=500, port=443, proto=6, dur_s=0.1, low=True, sport=None, flags=27, seq=0) -> Flows:
    n = len(t_s)
    full = lambda v, d: np.full(n, v, d) if np.isscalar(v) else np.asarray(v, d)
    return Flows(
        seq=full(seq, np.int64),
        t=np.round(np.asarray(t_s, float) * 1e6).astype(np.int64),
        dur=full(round(dur_s * 1e6), np.int64),
        sport=np.arange(40000, 40000 + n, dtype=np.int32) if sport is None else full(sport, np.int32),
        dport=full(port, np.int32),
        proto=full(proto, np.int16),
        fb=full(up, np.int64),
        bb=full(down, np.int64),
        fp=full(8, np.int64),
        bp=full(7, np.int64),
        flags=full(flags, np.int16),
        has_flags=np.ones(n, bool),
        low=full(low, bool),
        label=np.zeros(n, np.int8),
    )


def stats(f: Flows) -> dict[str, float]:
    _, x = features(f, scoring_windows(f))
    return dict(zip(STAT_NAMES, x[-1].tolist()))


@pytest.mark.parametrize("mantissa,limit", [(10, 0xFFFF), (3, 0xFF)])
def test_codes_are_exact_when_small_monotone_and_close(mantissa, limit):
    small = np.arange(1 << (mantissa + 1))
    assert (dequantise(quantise(small, mantissa, limit), mantissa) == small).all()
    large = np.unique(np.round(np.exp(RNG.uniform(0, np.log(2.0**31), 5000))).astype(np.int64))
    code = quantise(large, mantissa, limit)
    assert (np.diff(code) >= 0).all()
    inside = code < limit
    value = dequantise(code, mantissa)[inside]
    assert (value <= large[inside]).all() and (large[inside] < value * (1 + 2.0**-mantissa) + 1).all()


def test_a_regular_beacon_reads_as_one():
    s = stats(flows(np.arange(20) * 60.0))
    assert s["gap_cv"] == pytest.approx(0, abs=1e-6) and s["gap_multiple"] == 1 and s["rita_ts"] == 1
    assert s["log_gap_median"] == pytest.approx(np.log1p(60), rel=1e-6)
    missed = stats(flows(np.delete(np.arange(20), [3, 7, 8]) * 60.0))
    assert missed["gap_multiple"] == 1 and missed["gap_cv"] > 0.3


def test_features_match_a_plain_computation():
    t = np.cumsum(RNG.exponential(30, 25))
    up = RNG.integers(40, 2000, 25)
    f = flows(t, up=up)
    s = stats(f)
    ms = f.t // 1000
    g = np.sort(np.diff(ms) / 1000)
    assert s["log_gap_median"] == pytest.approx(np.log1p(g[(len(g) - 1) // 2]), rel=1e-6)
    assert s["log_gap_q90"] == pytest.approx(np.log1p(g[(len(g) - 1) * 9 // 10]), rel=1e-6)
    assert s["gap_cv"] == pytest.approx(np.diff(ms).std() / np.diff(ms).mean(), rel=1e-5)
    assert s["log_up_total"] == pytest.approx(np.log1p(up.sum()), rel=1e-6)
    assert s["up_distinct"] == pytest.approx(len(set(up.tolist())) / 25, rel=1e-6)


def test_the_absolute_time_and_the_order_of_the_addresses_tell_nothing():
    a = flows(np.arange(12) * 7.5, up=np.arange(12) * 10 + 100)
    b = a.with_(t=a.t + 123_456_789_000_000, low=~a.low, seq=a.seq + 4)
    for x, y in zip(features(a, scoring_windows(a)), features(b, scoring_windows(b))):
        assert (x == y).all()


def test_the_active_timeout_hardly_matters():
    whole = stitch(flows(np.arange(6) * 4000.0, dur_s=2500, up=500_000, down=90_000))
    for timeout in (15, 60, 1800):
        again = stitch(augment.cut(whole, timeout))
        # Ends before the last carry no FIN; octets and times come back as they were.
        assert (
            (again.t == whole.t).all() and (again.fb == whole.fb).all() and np.abs(again.dur - whole.dur).max() <= 200
        )


def test_stitching_keeps_connections_apart():
    again = flows([0, 60], sport=[5000, 5000], flags=27)
    assert len(stitch(again)) == 2
    assert len(stitch(again.with_(flags=np.array([24, 24], np.int16)))) == 1
    assert len(stitch(flows([0, 60], sport=[5000, 5000], proto=17, flags=0))) == 2
    assert len(stitch(flows([0, 10], sport=[5000, 5000], proto=17, flags=0))) == 1


def test_windows_end_every_32_flows_and_with_the_last():
    f = stitch(flows(np.arange(70) * 10.0))
    w = scoring_windows(f)
    assert [r[r >= 0][-1] for r in w.rows] == [31, 63, 69]
    assert ((w.rows >= 0).sum(1) == 32).all()


@pytest.mark.parametrize(
    "maker",
    [*malicious.C2, malicious.exfil, malicious.scan, malicious.bruteforce, malicious.dos, *benign.KINDS],
    ids=lambda m: m.__name__,
)
def test_generators_make_plausible_flows(maker):
    for _ in range(20):
        f = generate.to_flows(maker(RNG), 0, 1, 0, True)
        assert len(f) >= 1 and (f.t >= 0).all() and (np.diff(f.t) >= 0).all() and (f.dur >= 0).all()
        assert (f.fb >= 20 * f.fp).all() and (f.bb >= 20 * f.bp).all(), "a packet has a header"
        assert (f.fp + f.bp >= 1).all() and f.dport.max() <= 65535
        _, x = features(f, scoring_windows(f))
        assert np.isfinite(x).all()


def test_generation_is_reproducible():
    a, b = (generate.generate({"benign": 20, "c2": 20, "exfil": 10}, 3) for _ in range(2))
    assert all((getattr(a, k) == getattr(b, k)).all() for k in vars(a))


def test_a_view_tells_nothing_of_the_class():
    f = generate.generate({"benign": 600, "c2": 600}, 8)
    label = np.zeros(f.seq.max() + 1)
    label[f.seq] = f.label
    v = augment.views(f, np.random.default_rng(1))
    tcp = v.proto == 6
    blind = np.zeros(len(label), bool)
    blind[v.seq[tcp & ~v.has_flags]] = True
    has_tcp = np.unique(v.seq[tcp])
    share = [blind[has_tcp][label[has_tcp] == k].mean() for k in (0, 1)]
    assert abs(share[0] - share[1]) < 0.08


def test_sampling_scales_counters_back():
    f = flows(np.arange(500) * 1.0, up=1_000_000).with_(fp=np.full(500, 1000), bp=np.full(500, 500))
    s = augment.sample(f, np.random.default_rng(2), 10)
    assert s.fb.sum() == pytest.approx(f.fb.sum(), rel=0.02) and (s.t >= f.t).all()


def test_rita_by_hand():
    t = np.arange(0, 86400, 300)
    assert baselines.rita(t, np.full(len(t), 500), 0, 86399) == 1.0
    assert baselines.rita(t[:3], np.full(3, 500), 0, 86399) == 0.0
    x = np.array([[60.0] * 10 + [0.0] * 5])
    assert rita_stat(x, np.arange(15)[None, :] < 10, 1.0)[0] == 1.0


def test_folds_leave_sources_families_and_benign_groups_out():
    if not (data.data_dir() / "flows" / "flows.parquet").is_file():
        pytest.skip("the labelled flows are not here")
    corpus = data.load()
    pairs = corpus.pairs
    held = [f for g in data.POSITIVE_GROUPS for f in g]
    listed = set(held) | {f for g in data.BENIGN_GROUPS for f in g}
    assert (
        set(pairs.source[pairs.label.isin((1, 2)) & ~pairs.held_out]) <= set(held)
        and set(pairs.source[pairs.label == 0]) <= listed
    )
    for fold in evaluate.folds(pairs, every=True):
        test = fold.positive | fold.negative
        assert fold.positive.any() and fold.negative.any() and not (fold.train & test).any()
        train, seen = pairs[fold.train], pairs[fold.positive]
        assert not set(train.family[train.label.isin((1, 2))]) & set(seen.family)
        assert not set(train.source[train.label == 0]) & set(pairs.source[fold.negative])
        assert not pairs.held_out[fold.train].any()
    # `other` rows label nothing, and a pair with one malicious flow is not benign.
    assert corpus.flows.label[np.isin(corpus.flows.seq, pairs.index[pairs.label == 0])].max() == 0


def shipped() -> bytes:
    path = HERE / "weir.onnx"
    if not path.is_file():
        pytest.skip("model/weir.onnx is not built")
    return path.read_bytes()


def test_the_shipped_file_is_the_one_described():
    binary = shipped()
    meta = json.loads((HERE / "weir.json").read_text())
    assert meta["sha256"] == export.digest(binary) and meta["sha256"] in (HERE / "MODEL_CARD.md").read_text()
    assert (meta["classes"], meta["steps"], meta["stats"]) == (CLASSES, STEP_NAMES, STAT_NAMES)
    grouped = [n for names in meta["evidence_groups"].values() for n in names]
    assert len(set(grouped)) == len(grouped) and set(grouped) <= set(STAT_NAMES)


def test_the_vectors_are_those_of_the_code():
    import vectors

    shipped()
    text = json.loads((HERE / "parity.json").read_text())
    codes = text["quantise"]
    assert (
        quantise(codes["values"], 10, 0xFFFF).tolist() == codes["q16"]
        and quantise(codes["values"], 3, 0xFF).tolist() == codes["q8"]
    )
    from weir_model.shipped import Model

    model = Model()
    kinds = {"sport": np.int32, "dport": np.int32, "proto": np.int16, "flags": np.int16, "has_flags": bool, "low": bool}
    for case in text["cases"]:
        a = np.array(case["records"], np.int64)
        f = Flows(
            seq=np.zeros(len(a), np.int64),
            label=np.zeros(len(a), np.int8),
            **{k: a[:, i].astype(kinds.get(k, np.int64)) for i, k in enumerate(vectors.COLUMNS)},
        )
        f = stitch(f.sorted())
        w = scoring_windows(f)
        steps, x = features(f, w)
        assert len(w) == len(case["windows"])
        for i, want in enumerate(case["windows"]):
            np.testing.assert_allclose(x[i], want["stats"], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(steps[i, -1], want["last_step"], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(model(steps[i : i + 1], x[i : i + 1])[0], want["probabilities"], atol=1e-4)


def test_the_network_and_trees_survive_the_export():
    torch = pytest.importorskip("torch")
    import onnxruntime

    from weir_model import net, trees

    torch.manual_seed(1)
    x = RNG.normal(size=(800, len(STAT_NAMES))).astype(np.float32)
    steps = RNG.random((800, 32, len(STEP_NAMES))).astype(np.float32)
    steps[:, :9] = 0
    steps[:, 9:, 0] = 1
    forest = trees.fit(x, x[:, 0] * x[:, 1] > 0, np.ones(800), 1, n_estimators=30)
    network = net.Net().eval()
    fusion = (0.4, 0.5, -1.0)
    run = onnxruntime.InferenceSession(
        export.build(network, forest, fusion).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    got = run.run(None, {"steps": steps, "stats": x})[0]
    want = export.fuse(forest.raw(x), net.softmax(net.logits(network, steps)), fusion)
    np.testing.assert_allclose(got, want, atol=1e-5)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)


def test_the_recorded_pairs_have_one_label_each_and_are_no_training_data():
    corpus = data.captured()
    pairs = corpus.pairs
    assert set(pairs.source) == {"namespaces"} and pairs.scenario.nunique() == 2
    assert (pairs.label >= 0).all() and pairs.unicast.all()
    count = pairs.groupby("label").kind.agg(["size", "nunique"])
    assert count.loc[0].tolist() == [126, 21] and count.loc[[1, 2]].sum().tolist() == [112, 16]
    known = {name for groups in (data.POSITIVE_GROUPS, data.BENIGN_GROUPS) for group in groups for name in group}
    assert "namespaces" not in known, "they are held out"


def test_inner_folds_know_neither_the_outer_group_nor_their_own():
    if not (data.data_dir() / "flows" / "flows.parquet").is_file():
        pytest.skip("the labelled flows are not here")
    pairs = data.load().pairs
    five = nested.groups(pairs)
    for fold, outer in zip(five, evaluate.folds(pairs)):
        for name in ("train", "positive", "negative"):
            assert (getattr(fold, name) == getattr(outer, name)).all(), "the outer folds are the protocol's"
    for i, outer in enumerate(five):
        for j, inner in enumerate(five):
            train = outer.train & inner.train
            tested = outer.positive | outer.negative | inner.positive | inner.negative
            assert i == j or (train.any() and not (train & tested).any())
            assert not set(pairs.family[train & pairs.label.isin((1, 2))]) & set(pairs.family[outer.positive | inner.positive])


def test_a_choice_is_made_by_inner_folds_alone():
    """With scores that are right where one setting is inner and wrong where it is outer, the inner ones decide."""
    rng = np.random.default_rng(3)
    seq, number = np.arange(4000), np.ones(4000)
    label = (seq % 20 == 0).astype(int)
    group = rng.integers(0, 5, 4000)
    sources = np.where(label > 0, [data.POSITIVE_GROUPS[g][0] for g in group], [data.BENIGN_GROUPS[g][0] for g in group])
    pairs = data.pd.DataFrame({"source": sources, "family": np.where(label > 0, sources, ""), "label": label})
    pairs["held_out"], pairs["unicast"] = False, True
    right, noise = label * 5.0 + rng.normal(size=4000), rng.normal(size=4000)
    found = {}
    for left in [(i,) for i in range(5)] + [(i, j) for i in range(5) for j in range(i)]:
        good = ("twenty", 0.3) if len(left) == 2 else ("forty", 0.1)
        each = [(kind, share) for kind in trees.KINDS for share in nested.GENERATED_BENIGN]
        found[tuple(sorted(left))] = {s: nested.Scored(*[right if s == good else noise] * 2) for s in each}
    rows, _, best = nested.nested(data.Corpus(None, pairs), found, seq, number)
    assert (best.trees, best.generated_benign) == ("twenty", 0.3)
    assert all(row["inner sum"] > 2.5 and row["auc"] < 0.8 for row in rows), "outer figures are those of the choice"
