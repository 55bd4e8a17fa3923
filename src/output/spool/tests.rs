//! The spool as a whole, with targets that can be told to fail.

mod lost;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::Full;
use crate::detect::{Alert, RuleMeta, TaggedSlice};
use crate::flow::FlowId;
use crate::metrics::ledger;
use crate::output::schema::{Record, Stream, Value};

/// What came out, and whether the other side is there.
#[derive(Clone, Default)]
struct Side {
    got: Arc<Mutex<Vec<u128>>>,
    /// Of objects: the name of each with its records.
    objects: Arc<Mutex<BTreeMap<u64, Vec<u128>>>>,
    away: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<u128>>>,
    /// What it is given again may be less.
    torn: Arc<AtomicBool>,
}

impl Side {
    fn got(&self) -> Vec<u128> {
        self.got.lock().expect("no panic").clone()
    }

    fn away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    fn fail(&self) -> Result<(), Failure> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(Failure::later("away", "nobody is there")) } else { Ok(()) }
    }
}

fn id<R: Record>(stream: Stream, record: &R) -> u128 {
    let name = if stream == Stream::Slices { "flow_id" } else { "id" };
    match record.value(stream.index_of(name).expect("a field")) {
        Value::Hex(id) => id,
        other => panic!("{other:?} is no id"),
    }
}

impl Target for Side {
    fn deliver(&mut self, unit: &dyn Unit, _: &Stop) -> Result<Delivered, Failure> {
        self.fail()?;
        let refused = self.refused.lock().expect("no panic");
        let (mut dead, mut got) = (Vec::new(), self.got.lock().expect("no panic"));
        for (place, record) in unit.records().enumerate() {
            let id = id(unit.stream(), &record);
            if refused.contains(&id) {
                dead.push((place, "too odd".to_owned()));
            } else {
                got.push(id);
            }
        }
        Ok(Delivered { octets: 1, dead })
    }

    fn unit_records(&self) -> usize {
        7
    }
}

impl ObjectTarget for Side {
    fn deliver(&mut self, objects: &Objects<'_>, _: &Stop) -> Result<Delivered, Failure> {
        let mut ids = Vec::new();
        for unit in objects.units() {
            ids.extend(unit.records().map(|record| id(unit.stream(), &record)));
        }
        let mut stored = self.objects.lock().expect("no panic");
        let before = stored.insert(objects.segment(), ids.clone());
        let torn = self.torn.load(Ordering::Relaxed);
        assert!(torn || before.is_none_or(|before| before == ids), "a retry overwrites the same");
        drop(stored);
        self.fail()?;
        self.got.lock().expect("no panic").extend(ids);
        Ok(Delivered { octets: 1, dead: Vec::new() })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum As {
    Stream,
    Objects,
}

/// Slices whose ids are `ids`; those that 3 divides are tagged, and have an alert of their id.
fn batch(ids: std::ops::Range<u128>) -> Arc<Batch> {
    let mut batch = Batch::default();
    for id in ids {
        let mut tagged = TaggedSlice::default();
        tagged.slice.flow_id = FlowId(id);
        if id % 3 == 0 {
            tagged.rules = vec![Arc::new(RuleMeta { id: "r".into(), ..RuleMeta::default() })];
            batch.alerts.push(Alert { id, flow_id: FlowId(id), ..Alert::default() });
        }
        batch.slices.push(tagged);
    }
    Arc::new(batch)
}

fn settings(directory: &Path) -> config::Spool {
    config::Spool {
        directory: directory.to_owned(),
        bytes_max: 1 << 30,
        segment_bytes: 20_000,
        segment_idle_s: 1,
        sync_interval_ms: 10,
        stop_s: 2,
        ..config::Spool::default()
    }
}

fn open(config: &config::Spool, sinks: &[(&str, Select, As, &Side)]) -> Spool {
    let behind = |(name, select, how, side): &(&str, Select, As, &Side)| {
        let place = match how {
            As::Stream => Place::Stream(Box::new((*side).clone())),
            As::Objects => Place::Objects(Box::new((*side).clone())),
        };
        let durability = Durability::Disk;
        Behind { name: (*name).to_owned(), select: *select, durability, place }
    };
    let sinks = sinks.iter().map(behind).collect();
    Spool::start(config, sinks, Context::default()).expect("a spool")
}

#[track_caller]
fn balanced(ledger: &ledger::Sink) {
    let right = ledger.acknowledged + ledger.spooled + ledger.shed.total();
    assert_eq!(ledger.selected, right, "{ledger:?}");
}

#[track_caller]
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn segments(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("segments")).expect("readable").count()
}

#[test]
fn every_selection_comes_out_once_and_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path());
    let sides: [Side; 4] = Default::default();
    let spool = open(
        &config,
        &[
            ("slices", Select::Slices, As::Stream, &sides[0]),
            ("tagged", Select::Tagged, As::Stream, &sides[1]),
            ("alerts", Select::Alerts, As::Stream, &sides[2]),
            ("objects", Select::Tagged, As::Objects, &sides[3]),
        ],
    );
    for start in (0..2_000).step_by(50) {
        spool.offer(&batch(start..start + 50));
        wait_for("the append", || spool.log.book().queued == 0);
    }
    let ledgers = spool.close();
    let all: Vec<u128> = (0..2_000).collect();
    let thirds: Vec<u128> = (0..2_000).step_by(3).collect();
    for (side, want) in sides.iter().zip([&all, &thirds, &thirds, &thirds]) {
        assert_eq!(&side.got(), want);
    }
    for (name, ledger) in &ledgers {
        balanced(ledger);
        assert_eq!(ledger.acknowledged, ledger.selected, "{name}");
    }
    assert!(sides[3].objects.lock().expect("no panic").len() > 1, "several segments");
    assert_eq!(segments(directory.path()), 0, "what all have passed is removed");
    let state = Sink::spool(&spool).expect("a spool");
    assert_eq!((state.appended, state.octets), (2_000 + 667, 0));
}

#[test]
fn a_dead_sink_holds_back_nobody_and_gets_all_after_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path());
    let (alive, dead, objects) = (Side::default(), Side::default(), Side::default());
    dead.away(true);
    objects.away(true);
    let sinks: &[_] = &[
        ("alive", Select::Slices, As::Stream, &alive),
        ("dead", Select::Slices, As::Stream, &dead),
        ("objects", Select::Slices, As::Objects, &objects),
    ];
    let mut sent = 0;
    for _ in 0..3 {
        let spool = open(&config, sinks);
        let ledgers = spool.ledgers();
        assert_eq!(ledgers["dead"].spooled, sent, "what the last run left");
        assert_eq!(ledgers["alive"].selected, 0);
        let start = u128::from(sent);
        for part in 0..10 {
            spool.offer(&batch(start + part * 20..start + part * 20 + 20));
        }
        sent += 200;
        wait_for("delivery", || alive.got().len() as u64 == sent);
        let fault = || spool.faults().into_iter().find(|(name, _)| name == "dead");
        wait_for("the fault", || fault().is_some());
        assert!(fault().expect("a fault").1.starts_with("nobody is there"));
        let ledgers = spool.close();
        ledgers.values().for_each(balanced);
        assert_eq!((ledgers["dead"].spooled, ledgers["dead"].acknowledged), (sent, 0));
    }
    dead.away(false);
    objects.away(false);
    let spool = open(&config, sinks);
    let want: Vec<u128> = (0..u128::from(sent)).collect();
    let of = |name: &str| spool.ledgers()[name].clone();
    wait_for("the dead", || of("dead").acknowledged == sent && of("objects").acknowledged == sent);
    assert_eq!((dead.got(), alive.got(), objects.got()), (want.clone(), want.clone(), want));
    wait_for("the end of the faults", || spool.faults().is_empty());
    spool.close();
    assert_eq!(segments(directory.path()), 0);
}

#[test]
fn new_sinks_begin_at_the_end_and_removed_ones_hold_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path());
    let (old, new) = (Side::default(), Side::default());
    old.away(true);
    let spool = open(&config, &[("old", Select::Slices, As::Stream, &old)]);
    spool.offer(&batch(0..100));
    spool.close();
    let sinks: &[_] =
        &[("old", Select::Slices, As::Stream, &old), ("new", Select::Slices, As::Stream, &new)];
    let spool = open(&config, sinks);
    spool.offer(&batch(100..150));
    spool.close();
    assert_eq!(new.got(), (100..150).collect::<Vec<_>>());
    assert!(segments(directory.path()) > 0);
    let spool = open(&config, &[("new", Select::Slices, As::Stream, &new)]);
    assert_eq!(segments(directory.path()), 0, "nobody needs them");
    assert_eq!(cursor::load(directory.path(), "old").expect("readable"), None);
    spool.close();
}

#[test]
fn frames_without_a_record_for_a_sink_cost_it_no_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        config::Spool { segment_bytes: 1 << 20, segment_idle_s: 60, ..settings(directory.path()) };
    let (slices, alerts) = (Side::default(), Side::default());
    let sinks: &[_] = &[
        ("slices", Select::Slices, As::Stream, &slices),
        ("alerts", Select::Alerts, As::Stream, &alerts),
    ];
    let spool = open(&config, sinks);
    spool.offer(&batch(1..3));
    let offset = || spool.log.book().takers[1].cursor.offset;
    wait_for("the pass over the frame", || offset() > 0);
    let saved = || cursor::load(directory.path(), "alerts").expect("readable").expect("a cursor");
    assert_eq!(saved().cursor.offset, 0);
    spool.offer(&batch(3..4));
    wait_for("the alert", || alerts.got() == [3]);
    wait_for("its cursor", || saved().cursor.offset > 0);
    spool.close();
    assert_eq!((slices.got(), alerts.got()), (vec![1, 2, 3], vec![3]));
}

#[test]
fn two_weirs_cannot_have_one_spool() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = settings(directory.path());
    let side = Side::default();
    let spool = open(&config, &[("a", Select::Slices, As::Stream, &side)]);
    let place = Place::Stream(Box::new(side));
    let (select, durability) = (Select::Slices, Durability::Disk);
    let other = vec![Behind { name: "a".into(), select, durability, place }];
    let error = Spool::start(&config, other, Context::default()).err().expect("in use");
    assert!(error.to_string().contains("in use by another weir"), "{error}");
    drop(spool);
}

#[test]
fn what_is_refused_for_good_is_kept_as_dead_letters() {
    let directory = tempfile::tempdir().expect("a directory");
    let side = Side::default();
    side.refused.lock().expect("no panic").extend([3, 11]);
    let sinks: &[_] = &[("a", Select::Slices, As::Stream, &side)];
    let spool = open(&settings(directory.path()), sinks);
    spool.offer(&batch(0..20));
    let ledger = spool.close()["a"].clone();
    assert_eq!((ledger.acknowledged, ledger.shed.of(DEAD_LETTER)), (18, 2));
    let text = std::fs::read_to_string(directory.path().join("dead/a.ndjson")).expect("letters");
    let ids: Vec<String> = text
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            assert_eq!((&line["reason"], &line["sink"]), (&"too odd".into(), &"a".into()));
            line["record"]["flow_id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids, [format!("{:032x}", 3), format!("{:032x}", 11)]);
}

/// A copy of a spool that is being written, as a kill leaves it, cut and damaged anywhere.
#[test]
fn a_crash_at_any_octet_loses_only_what_is_behind_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config::Spool { segment_bytes: 1 << 20, ..settings(directory.path()) };
    let dead = Side::default();
    dead.away(true);
    let spool = open(&config, &[("a", Select::Slices, As::Stream, &dead)]);
    for part in 0..6 {
        spool.offer(&batch(part * 10..part * 10 + 10));
        wait_for("the append", || spool.log.book().queued == 0);
    }
    let of = |name: &str| std::fs::read(directory.path().join(name)).expect(name);
    let (id, cursor) = (of("id"), of("a.cursor"));
    let open_segment = segment::open_path(Path::new("segments"), 0);
    let whole = of(open_segment.to_str().expect("text"));
    let mut lengths = std::collections::BTreeSet::new();
    for cut in (0..=whole.len()).step_by(97).chain([whole.len()]) {
        let copy = tempfile::tempdir().expect("a directory");
        recover::make(copy.path()).expect("room");
        std::fs::write(copy.path().join("id"), &id).expect("room");
        std::fs::write(copy.path().join("a.cursor"), &cursor).expect("room");
        std::fs::write(copy.path().join(&open_segment), &whole[..cut]).expect("room");
        let side = Side::default();
        let config = config::Spool { directory: copy.path().to_owned(), ..config.clone() };
        let spool = open(&config, &[("a", Select::Slices, As::Stream, &side)]);
        spool.offer(&batch(1_000..1_010));
        let ledger = spool.close()["a"].clone();
        balanced(&ledger);
        let kept = side.got().len() - 10;
        let want: Vec<u128> = (0..kept as u128).chain(1_000..1_010).collect();
        assert_eq!(side.got(), want, "cut at {cut}");
        assert_eq!(kept % 10, 0, "whole frames");
        lengths.insert(kept);
        let state = Sink::spool(&spool).expect("a spool");
        assert_eq!(ledger.selected as usize, kept + 10);
        assert!(state.torn_octets + state.damaged_octets <= cut as u64);
    }
    assert_eq!(lengths, (0..=60).step_by(10).collect());
    drop(spool);
}

#[test]
fn a_damaged_segment_costs_its_damaged_frames_counted() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config::Spool { segment_bytes: 1 << 20, ..settings(directory.path()) };
    let (a, b) = (Side::default(), Side::default());
    a.away(true);
    b.away(true);
    let sinks: &[_] =
        &[("a", Select::Slices, As::Stream, &a), ("b", Select::Slices, As::Objects, &b)];
    let spool = open(&config, sinks);
    for part in 0..5 {
        spool.offer(&batch(part * 10..part * 10 + 10));
        wait_for("the append", || spool.log.book().queued == 0);
    }
    spool.close();
    let path = directory.path().join(segment::sealed_path(Path::new("segments"), 0));
    let mut octets = std::fs::read(&path).expect("sealed");
    let middle = octets.len() * 3 / 4;
    octets[middle] ^= 1;
    std::fs::write(&path, octets).expect("room");
    a.away(false);
    b.away(false);
    b.objects.lock().expect("no panic").clear();
    let spool = open(&config, sinks);
    let ledgers = spool.close();
    for (name, side) in [("a", &a), ("b", &b)] {
        balanced(&ledgers[name]);
        assert_eq!((ledgers[name].acknowledged, ledgers[name].shed.of(DAMAGED)), (40, 10));
        assert_eq!(side.got().len(), 40);
    }
    assert!(Sink::spool(&spool).expect("a spool").damaged_octets > 0);
}

/// A sink that is dead fills the spool: with `full = "newest"` it misses what comes, and those that keep
/// up miss nothing, be they fed from frames or from sealed segments; nor after a restart.
#[test]
fn a_dead_sink_fills_the_spool_for_itself_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config::Spool {
        segment_bytes: 16_000,
        bytes_max: 160_000,
        full: Full::Newest,
        stop_s: 0,
        ..settings(directory.path())
    };
    let (dead, alive, objects) = (Side::default(), Side::default(), Side::default());
    dead.away(true);
    let sinks: &[_] = &[
        ("dead", Select::Slices, As::Stream, &dead),
        ("alive", Select::Slices, As::Stream, &alive),
        ("objects", Select::Slices, As::Objects, &objects),
    ];
    let mut sent = 0_u128;
    for _ in 0..2 {
        let spool = open(&config, sinks);
        let full = |spool: &Spool| spool.ledgers()["dead"].shed.of(SPOOL_FULL) > 2_000;
        let begun = sent;
        while !full(&spool) {
            assert!(sent < begun + 200_000, "the spool is never full");
            spool.offer(&batch(sent..sent + 50));
            sent += 50;
            // Whoever keeps up does.
            wait_for("those that keep up", || {
                let book = spool.log.book();
                let near = |index: usize| book.takers[index].cursor.segment + 1 >= book.next;
                book.queued == 0 && near(1) && near(2)
            });
        }
        let ledgers = spool.close();
        ledgers.values().for_each(balanced);
        for name in ["alive", "objects"] {
            assert_eq!(ledgers[name].shed.total(), 0, "{name}: {:?}", ledgers[name]);
        }
        assert_eq!(dead.got(), Vec::<u128>::new());
    }
    assert_eq!(alive.got(), (0..sent).collect::<Vec<_>>());
}

#[test]
fn in_memory_the_same_but_a_stop_loses_what_waits() {
    let directory = tempfile::tempdir().expect("a directory");
    for (full, kept) in [(Full::Newest, 0..700), (Full::Oldest, 800..1_500)] {
        let config = config::Spool {
            memory_records_max: 1_000,
            full,
            stop_s: 0,
            ..settings(directory.path())
        };
        let side = Side::default();
        side.away(true);
        // A batch of 100 slices has 33 or 34 alerts, which are held, too: seven fit.
        let target = Box::new(side.clone());
        let (name, context) = ("m".to_owned(), Context::default());
        let sink = MemorySink::start(&config, name, Select::Slices, target, context);
        let sink = sink.expect("a thread");
        sink.offer(&batch(10_000..10_001));
        wait_for("the first attempt", || !sink.faults().is_empty());
        for start in (0..1_500).step_by(100) {
            sink.offer(&batch(start..start + 100));
            balanced(&sink.ledgers()["m"]);
        }
        side.away(false);
        wait_for("delivery", || sink.ledgers()["m"].spooled == 0);
        let want: Vec<u128> = (10_000..10_001).chain(kept).collect();
        assert_eq!(side.got(), want, "{full:?}");
        side.away(true);
        sink.offer(&batch(0..5));
        let ledger = sink.close()["m"].clone();
        balanced(&ledger);
        assert_eq!(
            (ledger.spooled, ledger.shed.of(QUEUE_FULL), ledger.shed.of(CLOSED)),
            (0, 800, 5)
        );
    }
}

/// What is done to a spool.
#[derive(Clone, Debug)]
enum Step {
    Offer(u128),
    Restart,
    Away(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u128).prop_map(Step::Offer),
        1 => Just(Step::Restart),
        2 => (0..3_usize, any::<bool>()).prop_map(|(sink, away)| Step::Away(sink, away)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However sinks come and go, and the spool is stopped and started: each gets what a plain list
    /// holds for it, once, in order.
    #[test]
    fn the_spool_is_a_list_with_cursors(steps in proptest::collection::vec(step(), 1..40)) {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config::Spool {
            segment_bytes: 16_000,
            stop_s: 0,
            ..settings(directory.path())
        };
        let sides: [Side; 3] = Default::default();
        let sinks: &[_] = &[
            ("a", Select::Slices, As::Stream, &sides[0]),
            ("b", Select::Alerts, As::Stream, &sides[1]),
            ("c", Select::Tagged, As::Objects, &sides[2]),
        ];
        let mut spool = open(&config, sinks);
        let mut list = 0..0;
        for step in steps {
            match step {
                Step::Offer(count) => {
                    spool.offer(&batch(list.end..list.end + count));
                    list.end += count;
                }
                Step::Restart => {
                    let ledgers = spool.close();
                    ledgers.values().for_each(balanced);
                    spool = open(&config, sinks);
                    for (name, ledger) in spool.ledgers() {
                        let selected = ledger.selected;
                        prop_assert!(selected <= ledgers[&name].spooled, "{}", name);
                    }
                }
                Step::Away(sink, away) => sides[sink].away(away),
            }
            spool.ledgers().values().for_each(balanced);
        }
        sides.iter().for_each(|side| side.away(false));
        spool.close();
        // Whatever the last stop had no time for.
        let config = config::Spool { stop_s: 20, ..config };
        let spool = open(&config, sinks);
        for (_, ledger) in spool.close() {
            balanced(&ledger);
            prop_assert_eq!(ledger.spooled, 0);
        }
        let thirds: Vec<u128> = list.clone().filter(|id| id % 3 == 0).collect();
        prop_assert_eq!(sides[0].got(), list.collect::<Vec<_>>());
        prop_assert_eq!(sides[1].got(), thirds.clone());
        prop_assert_eq!(sides[2].got(), thirds);
        prop_assert_eq!(segments(directory.path()), 0);
    }
}
