//! Detectors behind many sensors: what comes out is what one that never died writes, each once.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;
use weir::config::Config;
use weir::detect::TaggedSlice;
use weir::output::Context;
use weir::output::remote::kafka::key;

use super::{copy, json, slices};
use crate::servers::kafka::{Doors, Kafka};
use crate::system::{Bench, free_ports, kill, weir};

const PARTITIONS: i32 = 6;
/// Silence of a partition after which correlations wait for it no longer.
const IDLE_S: u64 = 5;

/// Slices of `copies` networks like that of `pcaps/mixed.pcap.zst`, in the order of their ends.
fn traffic(copies: u8) -> Vec<TaggedSlice> {
    let originals = slices();
    let copied = |number| originals.iter().map(move |slice| (slice, number));
    let mut all: Vec<TaggedSlice> =
        (0..copies).flat_map(copied).map(|(slice, number)| copy(slice, number)).collect();
    all.sort_by_key(|slice| (slice.slice.flow.last, slice.slice.flow_id, slice.slice.number));
    all
}

/// Writes what slices say to `topic`, each as its sensor does, `a_second` of them at most.
pub(super) fn produce<'a>(
    kafka: &Kafka,
    topic: &str,
    a_second: u32,
    records: impl Iterator<Item = (&'a str, &'a TaggedSlice)>,
) {
    let mut config = kafka.client();
    config.set("partitioner", "murmur2_random").set("queue.buffering.max.messages", "0");
    // As sensors do: else what is sent again comes behind what was sent later.
    config.set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().expect("a producer");
    let context = Context::of(&Config::default());
    let mut octets = Vec::new();
    let began = Instant::now();
    for (number, (sensor, slice)) in (0..).zip(records) {
        let due = Duration::from_secs(1) / a_second * number;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let named = Context { sensor: sensor.into(), ..context.clone() };
        key::write(&mut octets, "default", slice.slice.flow.src, slice.slice.flow.dst);
        let headers = OwnedHeaders::new().insert(Header { key: "sensor", value: Some(sensor) });
        let value = json(slice, &named);
        let record = BaseRecord::to(topic).key(&octets).payload(&value).headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("taken");
    }
    producer.flush(Duration::from_secs(60)).expect("acknowledged");
}

/// A group of detectors with topics of its own.
struct Group<'a> {
    kafka: &'a Kafka,
    name: &'static str,
    bench: Bench,
    /// Asks for what was committed.
    asks: BaseConsumer,
}

/// What a group wrote: slices by identity with their tags, and alerts, each as often as it came.
#[derive(Debug, Default, Eq, PartialEq)]
struct Written {
    slices: BTreeMap<(String, u64), Vec<String>>,
    /// What the sequence model last said of the pair of each.
    verdicts: BTreeMap<(String, u64), String>,
    alerts: BTreeMap<String, Vec<String>>,
}

impl<'a> Group<'a> {
    fn new(kafka: &'a Kafka, name: &'static str) -> Self {
        Self::with(kafka, name, "")
    }

    /// With `more` in its configuration.
    fn with(kafka: &'a Kafka, name: &'static str, more: &str) -> Self {
        let bench = Bench::new();
        let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules");
        let text = format!(
            "[input.netflow]\nlisten = []\n[admin]\nlisten = \"127.0.0.1:{{A}}\"\n\
             [rules]\ndirectories = [\"{}\"]\n[sensor]\nname = \"{{NAME}}\"\n\
             [detect.engine]\nbrokers = [\"{}\"]\ngroup = \"{name}\"\ninput = \"flows\"\n\
             slices = \"{name}.slices\"\nselect = \"slices\"\nalerts = \"{name}.alerts\"\n\
             states = \"{name}.states\"\nmatches = \"{name}.matches\"\ncreate_topics = true\n\
             session_timeout_ms = 6000\ntransaction_timeout_ms = 10000\nbatch_records = 300\n\
             idle_s = {IDLE_S}\n{more}",
            rules.display(),
            kafka.brokers(),
        );
        bench.write("detector.toml", text);
        let asks = kafka.client().set("group.id", name).create().expect("a client");
        Self { kafka, name, bench, asks }
    }

    fn detector(&self, name: &str) -> Detector {
        let (_, admin) = free_ports();
        let text = self.bench.read("detector.toml");
        let text = text.replace("{A}", &admin.to_string()).replace("{NAME}", name);
        self.bench.write(&format!("{name}.toml"), text);
        let log = self.bench.path(&format!("{name}.log"));
        let mut command = weir();
        command.args(["detect", "-c"]).arg(self.bench.path(&format!("{name}.toml")));
        let log_file = fs::File::options().create(true).append(true).open(&log).expect("a log");
        let process = command.stderr(log_file).spawn().expect("spawned");
        Detector { process }
    }

    /// Slices that were read and committed.
    fn committed(&self) -> i64 {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range("flows", 0, PARTITIONS - 1);
        let committed = self.asks.committed_offsets(wanted, Duration::from_secs(10));
        let offsets = committed.map(|list| {
            let offset = |offset| if let Offset::Offset(offset) = offset { offset } else { 0 };
            list.elements().iter().map(|element| offset(element.offset())).sum()
        });
        offsets.unwrap_or(0)
    }

    #[track_caller]
    fn wait_committed(&self, records: usize) {
        let until = Instant::now() + Duration::from_secs(300);
        while self.committed() < records as i64 {
            assert!(Instant::now() < until, "{} of {records}\n{}", self.committed(), self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        let log = |name: &str| fs::read_to_string(self.bench.path(name)).unwrap_or_default();
        ["one.log", "two.log", "three.log"].map(log).concat()
    }

    /// Waits until correlations wait for nothing any more, and what came of it can be read: every
    /// partition of the input is said to be silent, that was read and committed, and no transaction is
    /// open on what was written. Offsets are seen to be committed before the records are.
    #[track_caller]
    fn settled(&self) {
        let matches = format!("{}.matches", self.name);
        let until = Instant::now() + Duration::from_secs(300);
        let wait = |what: &str, done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Instant::now() < until, "{what}\n{}", self.logs());
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        wait("partitions are not told to be silent", &|| {
            let mut silent = BTreeMap::new();
            for record in self.kafka.read(&matches) {
                let text = record.value.expect("a value");
                let told: Value = serde_json::from_str(text.lines().next().unwrap_or_default())
                    .expect("a line of JSON");
                if let Some(partition) = told["partition"].as_i64() {
                    silent.insert(partition, told["kind"] == "idle");
                }
            }
            silent.len() == PARTITIONS as usize && silent.values().all(|&idle| idle)
        });
        wait("matches are not read", &|| {
            let mut wanted = TopicPartitionList::new();
            wanted.add_partition(&matches, 0);
            let committed = self.asks.committed_offsets(wanted, Duration::from_secs(10));
            let committed = committed.expect("an answer").elements()[0].offset();
            // Behind the last one stand marks of transactions, which nobody reads.
            let last = self.kafka.read(&matches).last().map(|record| record.offset + 1);
            committed.to_raw() >= last
        });
        let out = ["slices", "alerts"].map(|what| format!("{}.{what}", self.name));
        wait("a transaction stays open", &|| {
            (0..PARTITIONS).all(|partition| {
                let closed = |topic: &String| {
                    let ends = [true, false].map(|any| self.kafka.end(topic, partition, any));
                    ends[0].is_some() && ends[0] == ends[1]
                };
                out.iter().all(closed)
            })
        });
    }

    /// What was written, all of it.
    fn written(&self) -> Written {
        self.settled();
        let read = self.kafka.read(&format!("{}.alerts", self.name));
        let mut written = Written::default();
        for record in self.kafka.read(&format!("{}.slices", self.name)) {
            let text = record.value.expect("a value");
            let slice: Value = serde_json::from_str(&text).expect("JSON");
            let identity = super::identity(&text);
            let tags = slice["sigma_rule_ids"].to_string();
            written.slices.entry(identity).or_default().push(tags);
            // Rounding depends on what was scored with it.
            let score = slice["model_score"].as_f64().map(|score| (score * 1e4).round());
            let verdict = format!("{:?} {score:?} {}", slice["model_class"], slice["sequence_id"]);
            written.verdicts.insert(super::identity(&text), verdict);
        }
        for record in read {
            let text = record.value.expect("a value");
            let alert: Value = serde_json::from_str(&text).expect("JSON");
            let id = alert["id"].as_str().expect("an id").to_owned();
            // Correlations speak for the group.
            let ours = format!("\"sensor\":\"{}\"", self.name);
            written.alerts.entry(id).or_default().push(text.replace(&ours, "\"sensor\":\"group\""));
        }
        written
    }
}

struct Detector {
    process: std::process::Child,
}

impl Detector {
    /// SIGTERM; wants it to end well.
    fn stop(mut self) {
        kill(&self.process, libc::SIGTERM);
        assert!(crate::system::reap(&mut self.process).success());
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[test]
fn a_killed_detector_leaves_no_gap_and_nothing_twice() {
    let Some(kafka) = Kafka::start(Doors::Open, None) else { return };
    kafka.topic("flows", PARTITIONS, &[]);
    let slices = traffic(4);
    // Each conversation by two sensors, as two routers on the way tell of it.
    let twice = || slices.iter().flat_map(|slice| [("north", slice), ("south", slice)]);
    let records = twice().count();
    // The rest is held back until detectors have come and gone: all of that is in mid-stream.
    let (early, late) = (|| twice().take(records * 2 / 3), || twice().skip(records * 2 / 3));

    let two = Group::new(&kafka, "two-group");
    let (first, mut second) = (two.detector("one"), two.detector("two"));
    let got = std::thread::scope(|scope| {
        let fed = scope.spawn(|| produce(&kafka, "flows", 900, early()));
        two.wait_committed(records / 5);
        kill(&second.process, libc::SIGKILL);
        drop(second.process.wait());
        two.wait_committed(records / 2);
        // Its successor by name, and a third that joins in the middle.
        let (again, third) = (two.detector("two"), two.detector("three"));
        fed.join().expect("fed");
        produce(&kafka, "flows", 900, late());
        two.wait_committed(records);
        let got = two.written();
        for detector in [first, again, third] {
            detector.stop();
        }
        got
    });

    let one = Group::new(&kafka, "one-group");
    let detector = one.detector("one");
    one.wait_committed(records);
    let want = one.written();
    detector.stop();

    assert_eq!(want.slices.len(), slices.len(), "one of two accounts of each slice counts");
    assert!(want.slices.values().all(|tags| tags.len() == 1), "each slice once");
    let alerts_of = |rule: &str| {
        let alerts = want.alerts.values().flatten();
        alerts.filter(|alert| alert.contains(rule)).count()
    };
    assert!(alerts_of("\"event_count\"") > 0 || want.alerts.len() > 8, "correlations raise alerts");
    let differs = |id: &String| want.alerts.get(id) != got.alerts.get(id);
    let ids: std::collections::BTreeSet<_> = want.alerts.keys().chain(got.alerts.keys()).collect();
    let differing: Vec<_> = ids.into_iter().filter(|id| differs(id)).collect();
    let shown = differing.iter().take(3).map(|id| (want.alerts.get(*id), got.alerts.get(*id)));
    let shown: Vec<_> = shown.collect();
    let (all, count) = (want.alerts.len(), differing.len());
    assert_eq!(count, 0, "{all} alerts, others differ: {shown:#?}\n{}", two.logs());
    let missing = want.slices.iter().filter(|(id, tags)| got.slices.get(*id) != Some(*tags));
    assert_eq!(missing.count(), 0, "slices with other tags\n{}", two.logs());
    assert_eq!(got.slices.len(), want.slices.len());
    let scored = want.verdicts.values().filter(|verdict| !verdict.starts_with("Null")).count();
    assert!(scored > 1_000, "the sequence model scored the pairs of {scored} slices");
    let others =
        want.verdicts.iter().filter(|(id, verdict)| got.verdicts.get(*id) != Some(*verdict));
    assert_eq!(others.count(), 0, "slices of other verdicts\n{}", two.logs());
}

#[test]
fn tags_of_the_engine_are_those_of_a_sensor() {
    let Some(kafka) = Kafka::start(Doors::Open, None) else { return };
    kafka.topic("flows", PARTITIONS, &[]);
    let slices = traffic(1);
    produce(&kafka, "flows", 1_000_000, slices.iter().map(|slice| ("north", slice)));
    let group = Group::new(&kafka, "same");
    let detector = group.detector("one");
    group.wait_committed(slices.len());
    let got = group.written();
    detector.stop();

    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut run = crate::harness::Run::default();
    run.config.rules.directories = vec![root.join("config/rules")];
    run.config.model.enabled = true;
    let sensor = run.whole(&root.join("pcaps/mixed.pcap.zst"));
    let tags = |rules: &[std::sync::Arc<weir::detect::RuleMeta>]| {
        let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        Value::from(ids)
    };
    let mut want = BTreeMap::new();
    for slice in &sensor.slices {
        let identity = (slice.slice.flow_id.to_string(), slice.slice.number.into());
        want.insert(identity, vec![tags(&slice.rules).to_string()]);
    }
    assert_eq!(got.slices, want, "{}", group.logs());
    let of_sensor: BTreeMap<&str, usize> =
        sensor.alerts.iter().fold(BTreeMap::new(), |mut counts, alert| {
            *counts.entry(alert.rule.id.as_str()).or_default() += 1;
            counts
        });
    let mut of_engine: BTreeMap<String, usize> = BTreeMap::new();
    for text in got.alerts.values().flatten() {
        let alert: Value = serde_json::from_str(text).expect("JSON");
        let rule = alert["rule"]["id"].as_str().expect("a rule").to_owned();
        *of_engine.entry(rule).or_default() += 1;
    }
    let of_engine: BTreeMap<&str, usize> =
        of_engine.iter().map(|(rule, count)| (rule.as_str(), *count)).collect();
    assert_eq!(of_engine, of_sensor);

    // Suppression holds for all of them, also for what the model finds, whose rules are in no file.
    let more = "[[rules.suppress]]\nrule = \"*\"\nalerts = 1\nwindow_s = 2592000\n";
    let held = Group::with(&kafka, "held", more);
    let detector = held.detector("one");
    held.wait_committed(slices.len());
    let left = held.written().alerts;
    detector.stop();
    let mut once: Vec<String> = Vec::new();
    for text in left.values().flatten() {
        let alert: Value = serde_json::from_str(text).expect("JSON");
        once.push(alert["rule"]["id"].as_str().expect("a rule").to_owned());
        let model = alert["model_class"].is_string();
        let found = got.alerts.values().flatten().any(|text| {
            let other: Value = serde_json::from_str(text).expect("JSON");
            other["rule"] == alert["rule"]
                && (!model
                    || (other["id"] == alert["id"] && other["evidence"] == alert["evidence"]))
        });
        assert!(found, "{text}");
    }
    once.sort();
    let rules: Vec<&str> = of_sensor.keys().copied().collect();
    assert_eq!(once, rules, "one alert of each rule\n{}", held.logs());
    let found = got.alerts.values().flatten().filter(|text| !text.contains("\"model_class\":null"));
    assert!(found.count() > 0, "the model finds something");
}
