//! The sequence model: features equal to the Python that trains, tract equal to onnxruntime, and the
//! same scores whatever the number of workers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;
use weir::detect::TaggedSlice;
use weir::detect::sequence::features::{Columns, STAT_NAMES, STEP, STEPS, WINDOW};
use weir::detect::sequence::{
    Class, Event, Model, Record, Scorer, Verdict, Windows, join_all, narrow, wide,
};
use weir::flow::Biflow;
use weir::time::Micros;

use crate::harness::Run;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `model/parity.json`: records, windows, features and probabilities that `model/vectors.py` wrote.
fn vectors() -> Value {
    let text = std::fs::read_to_string(root().join("model/parity.json")).expect("vectors");
    serde_json::from_str(&text).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn records(case: &Value) -> Vec<Record> {
    let record = |row: &Value| {
        let at = |i: usize| row[i].as_i64().expect("a whole number");
        let count = |i: usize| at(i).unsigned_abs();
        let small = |i: usize| u16::try_from(at(i)).expect("16 bits");
        Record {
            first: Micros(at(0)),
            last: Micros(at(0) + at(1)),
            initiator_port: small(2),
            responder_port: small(3),
            protocol: u8::try_from(at(4)).expect("8 bits"),
            fwd_octets: count(5),
            bwd_octets: count(6),
            fwd_packets: count(7),
            bwd_packets: count(8),
            flags: u8::try_from(at(9)).expect("8 bits"),
            flags_known: at(10) == 1,
            initiator_low: at(11) == 1,
        }
    };
    list(&case["records"]).iter().map(record).collect()
}

fn columns(joined: &[Record], window: &Value) -> Columns {
    let at = |index: &Value| &joined[index.as_u64().expect("an index") as usize];
    let events: Vec<Event> = list(&window["events"]).iter().map(|i| Event::of(at(i))).collect();
    Columns::of(&events)
}

/// Within 1e-6, relative above 1.
fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

#[test]
fn codes_are_those_of_the_vectors() {
    let codes = &vectors()["quantise"];
    for (i, value) in list(&codes["values"]).iter().enumerate() {
        let value = value.as_u64().expect("a whole number");
        assert_eq!(Some(u64::from(wide(value))), codes["q16"][i].as_u64(), "{value}");
        assert_eq!(Some(u64::from(narrow(value))), codes["q8"][i].as_u64(), "{value}");
    }
}

#[test]
fn features_equal_those_that_the_model_was_trained_on() {
    let (mut windows, vectors) = (0, vectors());
    for (number, case) in list(&vectors["cases"]).iter().enumerate() {
        let joined = join_all(records(case));
        for window in list(&case["windows"]) {
            let columns = columns(&joined, window);
            for ((name, found), want) in
                STAT_NAMES.iter().zip(columns.stats()).zip(list(&window["stats"]))
            {
                let want = want.as_f64().expect("a number");
                assert!(is_near(found.into(), want), "case {number}: {name}: {found}, not {want}");
            }
            let mut steps = [0.0; STEPS];
            columns.steps(&mut steps);
            let last = &steps[(WINDOW - 1) * STEP..];
            for (found, want) in last.iter().zip(list(&window["last_step"])) {
                let want = want.as_f64().expect("a number");
                assert!(is_near((*found).into(), want), "case {number}: {found}, not {want}");
            }
            let sum: f64 = steps.iter().copied().map(f64::from).sum();
            assert!(is_near(sum, window["steps_sum"].as_f64().expect("a number")), "{number}");
            windows += 1;
        }
    }
    assert!(windows > 30, "{windows}");
}

#[test]
fn probabilities_equal_those_of_onnxruntime() {
    let (mut model, vectors) = (Model::shipped(), vectors());
    let (mut windows, mut want) = (Windows::default(), Vec::new());
    for case in list(&vectors["cases"]) {
        let joined = join_all(records(case));
        for window in list(&case["windows"]) {
            let columns = columns(&joined, window);
            windows.push(&columns, &columns.stats());
            want.push(&window["probabilities"]);
        }
    }
    let mut found = Vec::new();
    assert!(model.score(&windows, &mut found));
    assert_eq!(found.len(), want.len());
    for (found, want) in found.iter().zip(want) {
        for (found, want) in found.iter().zip(list(want)) {
            let want = want.as_f64().expect("a number");
            assert!((f64::from(*found) - want).abs() <= 1e-4, "{found}, not {want}");
        }
    }
}

fn any_window() -> impl Strategy<Value = Columns> {
    let event = (0..100_000_i64, 0..1_000_000_u64, 0..1_000_000_u64, 0..50_u64, any::<bool>());
    prop::collection::vec(event, 1..=WINDOW).prop_map(|events| {
        let record = |(t, fwd_octets, bwd_octets, packets, initiator_low)| Record {
            first: Micros::from_millis(t),
            last: Micros::from_millis(t + 100),
            fwd_octets,
            bwd_octets,
            fwd_packets: packets,
            bwd_packets: packets,
            responder_port: 443,
            protocol: 6,
            flags: 27,
            flags_known: true,
            initiator_low,
            ..Record::default()
        };
        let events: Vec<Event> = events.into_iter().map(|e| Event::of(&record(e))).collect();
        Columns::of(&events)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What is scored together decides nothing but the last digit, as other kernels run.
    #[test]
    fn a_score_does_not_depend_on_its_batch(
        windows in prop::collection::vec(any_window(), 1..150),
    ) {
        let mut model = Model::shipped();
        let mut together = Windows::default();
        windows.iter().for_each(|columns| together.push(columns, &columns.stats()));
        let (mut all, mut each) = (Vec::new(), Vec::new());
        prop_assert!(model.score(&together, &mut all));
        for columns in &windows {
            let mut alone = Windows::default();
            alone.push(columns, &columns.stats());
            prop_assert!(model.score(&alone, &mut each));
        }
        prop_assert_eq!(all.len(), each.len());
        for (together, alone) in all.as_flattened().iter().zip(each.as_flattened()) {
            prop_assert!((together - alone).abs() < 1e-6, "{together} {alone}");
        }
    }
}

fn with_model() -> Run {
    let mut run = Run::default();
    run.config.model.enabled = true;
    run
}

fn demo() -> PathBuf {
    root().join("pcaps/mixed.pcap.zst")
}

/// Beacon and slow upload are alerted on at the default budget; of web, names, updates and time
/// nothing is flagged, and all of it scores below.
#[test]
fn the_demonstrations_beacon_and_upload_are_found_and_nothing_else() {
    let replayed = with_model().replay(&[demo()]);
    let mut highest: BTreeMap<String, f64> = BTreeMap::new();
    for tagged in &replayed.slices {
        if let Some(verdict) = &tagged.verdict {
            let score = highest.entry(tagged.slice.flow.dst.to_string()).or_default();
            *score = score.max(verdict.score);
        }
    }
    let (hostile, others): (Vec<_>, Vec<_>) = highest
        .iter()
        .filter(|(to, _)| !to.starts_with("10."))
        .partition(|(to, _)| ["203.0.113.10", "203.0.113.66"].contains(&to.as_str()));
    assert!(hostile.len() == 2 && others.len() > 5, "{highest:?}");
    for (to, score) in &others {
        assert!(hostile.iter().all(|(_, other)| other > score), "{to}: {highest:?}");
    }
    let alerts: Vec<(String, &str)> = replayed
        .alerts
        .iter()
        .map(|alert| (alert.flow.dst.to_string(), alert.rule.id.as_str()))
        .collect();
    let want = [("203.0.113.10", "weir-model-c2"), ("203.0.113.66", "weir-model-exfil")];
    let mut found: Vec<(&str, &str)> = alerts.iter().map(|(to, rule)| (&**to, *rule)).collect();
    found.sort_unstable();
    assert_eq!(found, want, "these two, once each, and nothing else");
    let flagged = replayed.slices.iter().filter(|tagged| {
        let class = tagged.verdict.as_ref().and_then(|verdict| verdict.class);
        matches!(class, Some(Class::C2 | Class::Exfil))
    });
    for tagged in flagged {
        let to = tagged.slice.flow.dst.to_string();
        assert!(to.starts_with("203.0.113."), "{to} is flagged");
    }
    for alert in &replayed.alerts {
        let says = |field: &str| {
            let named = |evidence: &&weir::detect::Evidence| evidence.field == field;
            alert.evidence.iter().find(named).map_or("", |evidence| &evidence.value)
        };
        assert!(says("flows").contains(" so far, "), "{:?}", alert.evidence);
        assert!(says("period").contains("jitter"), "{:?}", alert.evidence);
        assert!(says("volume").contains(" out, "), "{:?}", alert.evidence);
    }
}

/// From the first flow of a pair on, whether it is ever scored or not, slices say which sequence they
/// belong to, and an alert's joins it to them.
#[test]
fn an_alerts_sequence_is_that_of_its_flows() {
    let replayed = with_model().replay(&[demo()]);
    let mut alerts = 0;
    for alert in &replayed.alerts {
        let pair = |flow: &Biflow| (flow.src.min(flow.dst), flow.src.max(flow.dst));
        let ours = || {
            let slices = replayed.slices.iter().filter(|tagged| tagged.slice.records > 0);
            slices.filter(|tagged| pair(&tagged.slice.flow) == pair(&alert.flow))
        };
        let sequence = |verdict: &Option<Verdict>| verdict.as_ref().map(|verdict| verdict.sequence);
        let of_alert = sequence(&alert.verdict).expect("an alert's");
        assert!(ours().filter(|one| sequence(&one.verdict) == Some(of_alert)).count() > 0);
        let window: Vec<_> = ours()
            .filter(|one| (alert.flow.first..=alert.flow.last).contains(&one.slice.flow.first))
            .collect();
        assert_eq!(window.len(), WINDOW, "each a flow of one slice");
        for tagged in window {
            let of_flow = sequence(&tagged.verdict).expect("a sequence");
            let before = of_flow.ordinal + 1 == of_alert.ordinal;
            assert!(of_flow == of_alert || before, "{of_flow:?}, {of_alert:?}");
        }
        let mut first: Vec<_> = ours().collect();
        first.sort_by_key(|tagged| tagged.slice.flow.first);
        let begun = sequence(&first[0].verdict).expect("a sequence");
        assert_eq!((begun.ordinal, begun.start_ms), (0, first[0].slice.flow.first.0 / 1_000));
        alerts += 1;
    }
    assert_eq!(alerts, 2);
}

fn is_scored(tagged: &&TaggedSlice) -> bool {
    tagged.verdict.as_ref().is_some_and(|verdict| verdict.class.is_some())
}

#[test]
fn any_number_of_workers_gives_the_same_scores() {
    let first = Run { workers: 1, ..with_model() }.replay(&[demo()]);
    assert!(first.slices.iter().filter(is_scored).count() > 100);
    for (workers, flush_every) in [(1, 7), (2, 4_096), (4, 100)] {
        // With four, shards move between them.
        let run = Run { workers, flush_every, moves: workers > 2, ..with_model() };
        let replayed = run.replay(&[demo()]);
        assert!(replayed.slices == first.slices, "{workers} workers");
        assert!(replayed.alerts == first.alerts, "{workers} workers");
        assert_eq!(replayed.ledgers.sequences, first.ledgers.sequences, "{workers} workers");
    }
}

/// A day and more of what three hosts send out in an hour, and an hour in which one of them sends
/// fifty times that, to twenty places.
fn volumes() -> String {
    let mut text = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,protocol,fwd_bytes,\
                    bwd_bytes,fwd_pkts,bwd_pkts\n"
        .to_owned();
    let mut port = 1_024;
    for hour in 0..32_i64 {
        for step in 0..20_i64 {
            for host in 1..=3 {
                port = 1_024 + (port + 1) % 60_000;
                let time = 1_772_000_000 + hour * 3_600 + step * 150 + host;
                let octets = if hour == 30 && host == 2 { 15_000_000 } else { 300_000 };
                let row = format!(
                    "{time},2,10.0.0.{host},203.0.113.{},{port},443,6,{octets},9000,10000,90\n",
                    1 + step
                );
                text.push_str(&row);
            }
        }
    }
    text
}

#[test]
fn any_number_of_workers_finds_the_same_volumes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("volumes.csv");
    std::fs::write(&file, volumes()).expect("written");
    let of = |workers, flush_every| {
        let replayed = Run { workers, flush_every, moves: workers > 2, ..with_model() }
            .replay(std::slice::from_ref(&file));
        assert_eq!(replayed.ledgers.sequences.hosts, 3);
        let on_volume = |alert: &weir::detect::Alert| alert.rule.id == weir::detect::volume::RULE;
        replayed.alerts.into_iter().filter(on_volume).collect::<Vec<_>>()
    };
    let first = of(1, 4_096);
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(first[0].flow.src.to_string(), "10.0.0.2");
    for (workers, flush_every) in [(1, 7), (2, 4_096), (4, 100)] {
        assert_eq!(of(workers, flush_every), first, "{workers} workers");
    }
}

pub(crate) fn sha256(octets: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn a_model_of_other_shapes_is_refused_with_what_is_expected() {
    let folder = root().join("model");
    let read = |name: &str| std::fs::read(Path::new(&folder).join(name)).expect("a file");
    let labels = String::from_utf8(read("weir.json")).expect("text");
    let shipped = read("weir.onnx");
    let (own, other) = (sha256(&shipped), sha256(b"another file"));
    // Hexadecimal digits may be upper case.
    assert!(Model::parse(&shipped, &labels.replace(&own, &own.to_uppercase())).is_ok());
    let error = Model::parse(&shipped, &labels.replace(&own, &other)).expect_err("another's");
    assert!([&own, &other].iter().all(|hash| error.to_string().contains(*hash)), "{error}");
    let edited = |from: &[u8], to: &[u8]| {
        let mut octets = shipped.clone();
        let places: Vec<usize> =
            (0..octets.len() - from.len()).filter(|&at| octets[at..].starts_with(from)).collect();
        assert!(!places.is_empty(), "{from:?} is in the file");
        places.iter().for_each(|&at| octets[at..at + from.len()].copy_from_slice(to));
        octets
    };
    // Dimensions as the file's protocol buffers write them: 32 and 26; another 26.
    let (dims, others) = ([0x0a, 2, 8, 32, 0x0a, 2, 8, 26], [0x0a, 2, 8, 32, 0x0a, 2, 8, 27]);
    let expected = "expected the inputs `steps` [batch, 32, 26] and `stats` [batch, 62] and the \
                    output `probabilities` [batch, 6], all float32";
    for (name, octets, wants) in [
        ("no ONNX", b"nonsense".to_vec(), ["not a model", ""]),
        ("cut short", shipped[..shipped.len() / 2].to_vec(), ["not a model", ""]),
        ("another input", edited(b"steps", b"stepz"), ["inputs are `stepz`", expected]),
        ("another shape", edited(&dims, &others), ["`steps` is [batch,32,27", expected]),
    ] {
        let labels = labels.replace(&own, &sha256(&octets));
        let error = Model::parse(&octets, &labels).expect_err(name).to_string();
        assert!(wants.iter().all(|want| error.contains(want)), "{name}: {error}");
    }
}

#[test]
fn the_card_and_the_labels_name_the_shipped_file() {
    let folder = root().join("model");
    let hash = sha256(&std::fs::read(folder.join("weir.onnx")).expect("the model"));
    assert_eq!(Model::shipped().labels().sha256, hash);
    let card = std::fs::read_to_string(folder.join("MODEL_CARD.md")).expect("the card");
    assert!(card.contains(&hash), "the card is of another file than {hash}");
}
