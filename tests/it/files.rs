//! The files sink: rotation, recovery, faults, and a ledger that always balances.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir::config::{Files, Format, Full, Select};
use weir::detect::{Alert, RuleMeta, TaggedSlice};
use weir::flow::{Biflow, FlowId, Slice};
use weir::metrics::ledger;
use weir::output::{Batch, Context, FilesSink, Sink};
use weir::time::Micros;

/// Slices `from..to`; every tenth is tagged and has an alert.
fn batch(from: u32, to: u32) -> Arc<Batch> {
    let rule =
        Arc::new(RuleMeta { id: "r-1".into(), title: "A rule".into(), ..RuleMeta::default() });
    let mut batch = Batch::default();
    for number in from..to {
        let flow = Biflow { first: Micros(i64::from(number)), ..Biflow::default() };
        let flow_id = FlowId(u128::from(number));
        let tagged = number % 10 == 0;
        if tagged {
            batch.alerts.push(Alert {
                id: u128::from(number),
                time: flow.first,
                rule: rule.clone(),
                evidence: Vec::new(),
                flow_id,
                flow: flow.clone(),
                suppressed: 0,
                arrived: None,
                verdict: None,
            });
        }
        let slice = Slice { flow_id, number, flow, ..Slice::default() };
        let rules = if tagged { vec![rule.clone()] } else { Vec::new() };
        batch.slices.push(TaggedSlice { slice, rules, excluded: None, verdict: None });
    }
    Arc::new(batch)
}

fn config(directory: &Path) -> Files {
    Files { directory: directory.to_owned(), ..Files::default() }
}

fn spawn(config: Files) -> FilesSink {
    let context = Context { sensor: "probe/1".into(), ..Context::default() };
    FilesSink::spawn(config, context).expect("a thread can be started")
}

/// Names in `directory`, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let name = |e: std::io::Result<fs::DirEntry>| e.expect("readable").file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Slice numbers in all finished NDJSON files, sorted.
fn numbers(directory: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for name in names(directory).iter().filter(|name| name.ends_with(".ndjson")) {
        let text = fs::read_to_string(directory.join(name)).expect("readable");
        assert!(text.ends_with('\n'), "{name} is whole");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect(line);
            numbers.push(line["slice"].as_u64().expect("a slice number"));
        }
    }
    numbers.sort_unstable();
    numbers
}

fn balances(ledger: &ledger::Sink) -> bool {
    ledger.selected == ledger.acknowledged + ledger.spooled + ledger.shed.total()
}

#[track_caller]
fn check_ledger(ledger: &ledger::Sink, selected: u64, acknowledged: u64, shed: u64) {
    assert!(balances(ledger), "{ledger:?}");
    let got = (ledger.selected, ledger.acknowledged, ledger.shed.total(), ledger.spooled);
    assert_eq!(got, (selected, acknowledged, shed, 0), "{ledger:?}");
}

/// Waits until `condition` holds; gives up after ten seconds.
#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_closed_sink_has_written_all_of_it_under_final_names() {
    for format in [Format::Ndjson, Format::Csv, Format::Parquet] {
        if format == Format::Parquet && cfg!(not(feature = "parquet")) {
            continue;
        }
        let directory = TempDir::new().expect("a directory");
        let place = directory.path().join("made/by/it");
        let sink = spawn(Files { format, ..config(&place) });
        for from in (0..2_000).step_by(100) {
            sink.offer_blocking(&batch(from, from + 100));
        }
        check_ledger(&sink.close(), 2_000, 2_000, 0);
        let names = names(&place);
        assert_eq!(names.len(), 1, "{names:?}");
        let rest = names[0].strip_prefix("files-probe_1-").expect("sink and sensor");
        assert_eq!(rest.len(), "20260101T000000Z-0.".len() + format.extension().len(), "{rest}");
        assert!(rest.ends_with(&format!("Z-0.{}", format.extension())), "{rest}");
        if format == Format::Ndjson {
            assert_eq!(numbers(&place), (0..2_000).collect::<Vec<_>>());
        }
        let status = sink.status();
        assert_eq!((status.files, status.fault), (1, None));
        assert_eq!(status.octets, fs::metadata(place.join(&names[0])).expect("there").len());
        sink.offer(&batch(0, 3));
        assert_eq!(sink.ledger().shed.of("closed"), 3, "nothing is taken after the close");
        assert!(balances(&sink.ledger()));
    }
}

#[test]
fn a_file_is_closed_at_its_size() {
    let directory = TempDir::new().expect("a directory");
    let sink = spawn(Files { rotate_bytes: 65_536, ..config(directory.path()) });
    sink.offer_blocking(&batch(0, 3_000));
    check_ledger(&sink.close(), 3_000, 3_000, 0);
    assert_eq!(numbers(directory.path()), (0..3_000).collect::<Vec<_>>());
    let names = names(directory.path());
    assert!(names.len() > 5, "{names:?}");
    for name in &names {
        let length = fs::metadata(directory.path().join(name)).expect("there").len();
        assert!(length < 2 * 65_536, "{name} has {length} octets");
    }
}

#[test]
fn a_file_is_closed_at_its_age_without_traffic() {
    let directory = TempDir::new().expect("a directory");
    let sink = spawn(Files { rotate_s: 1, ..config(directory.path()) });
    sink.offer(&batch(0, 10));
    wait_for("the rotation", || sink.ledger().acknowledged == 10);
    assert_eq!(numbers(directory.path()), (0..10).collect::<Vec<_>>());
    sink.offer(&batch(10, 20));
    check_ledger(&sink.close(), 20, 20, 0);
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn each_selection_takes_what_it_says() {
    for (select, records) in [(Select::Slices, 100), (Select::Tagged, 10), (Select::Alerts, 10)] {
        let directory = TempDir::new().expect("a directory");
        let sink = spawn(Files { select, ..config(directory.path()) });
        sink.offer(&batch(0, 100));
        sink.offer(&batch(1, 5));
        let none = if select == Select::Slices { 4 } else { 0 };
        check_ledger(&sink.close(), records + none, records + none, 0);
        let name = &names(directory.path())[0];
        let text = fs::read_to_string(directory.path().join(name)).expect("readable");
        assert_eq!(text.lines().count() as u64, records + none);
        assert_eq!(text.contains("\"evidence\""), select == Select::Alerts);
    }
}

#[test]
fn what_does_not_fit_into_the_queue_is_shed_and_counted() {
    let directory = TempDir::new().expect("a directory");
    let sink = spawn(Files { queue_records_max: 2_048, ..config(directory.path()) });
    // Larger than the queue, so taken only while nothing waits; long enough to keep it busy.
    sink.offer(&batch(0, 50_000));
    let small = batch(50_000, 51_024);
    for _ in 0..10 {
        sink.offer(&small);
        assert!(balances(&sink.ledger()));
    }
    let ledger = sink.close();
    assert!(balances(&ledger) && ledger.spooled == 0, "{ledger:?}");
    assert_eq!(ledger.selected, 50_000 + 10 * 1_024);
    assert!(ledger.shed.of("queue_full") > 0, "{ledger:?}");
    assert_eq!(ledger.shed.of("queue_full"), ledger.shed.total());
    assert_eq!(numbers(directory.path()).len() as u64, ledger.acknowledged);
}

#[test]
fn the_ledger_balances_at_every_moment_and_blocking_offers_shed_nothing() {
    let directory = TempDir::new().expect("a directory");
    let config = Files { queue_records_max: 64, rotate_bytes: 65_536, ..config(directory.path()) };
    let (sink, done) = (spawn(config), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut looks = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let ledger = sink.ledger();
                assert!(balances(&ledger), "{ledger:?}");
                looks += 1;
            }
            looks
        });
        let producers: Vec<_> = (0..3_u32)
            .map(|producer| {
                let sink = &sink;
                scope.spawn(move || {
                    for part in 0..50 {
                        let from = producer * 1_000 + part * 20;
                        sink.offer_blocking(&batch(from, from + 20));
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|p| p.join().expect("a producer ends"));
        done.store(true, Ordering::Relaxed);
        assert!(observer.join().expect("the ledger balanced") > 0);
    });
    check_ledger(&sink.close(), 3_000, 3_000, 0);
    assert_eq!(numbers(directory.path()), (0..3_000).collect::<Vec<_>>());
}

#[test]
fn two_sinks_of_one_name_never_overwrite_each_other() {
    let directory = TempDir::new().expect("a directory");
    for from in (0..200).step_by(10) {
        let (one, two) = (spawn(config(directory.path())), spawn(config(directory.path())));
        one.offer(&batch(from, from + 5));
        two.offer(&batch(from + 5, from + 10));
        check_ledger(&one.close(), 5, 5, 0);
        check_ledger(&two.close(), 5, 5, 0);
    }
    assert_eq!(numbers(directory.path()), (0..200).collect::<Vec<_>>());
    assert_eq!(names(directory.path()).len(), 40);
}

#[test]
fn what_a_crash_left_is_recovered_to_the_last_whole_record() {
    let directory = TempDir::new().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let stem = |second: u32| format!("files-probe_1-20260101T0000{second:02}Z-0");
    let live = at(&format!("{}.ndjson.part", stem(9)));
    for (second, extension, text) in [
        (1, "ndjson", "{\"slice\":1}\n{\"slice\":2}\n{\"sli"),
        (2, "ndjson", "{\"slice\":"),
        (3, "csv", "a,b\n1,\"x\ny\"\n2,\"torn\nhere"),
        (4, "csv", "a,b\n1"),
        (5, "parquet", "PAR1 and no footer"),
        (6, "parquet", "PAR1 with footer PAR1"),
        (7, "parquet", ""),
        (9, "ndjson", "{\"slice\":9}\n"),
    ] {
        fs::write(at(&format!("{}.{extension}.part", stem(second))), text).expect("room");
    }
    let others = ["other-probe_1-20260101T000000Z-0.ndjson.part", "files-probe_1-x.ndjson.part"];
    others.iter().for_each(|name| fs::write(at(name), "{}\n").expect("room"));
    let holder = File::open(&live).expect("there");
    holder.lock().expect("the file system has locks");

    let sink = spawn(config(directory.path()));
    check_ledger(&sink.close(), 0, 0, 0);
    let status = sink.status();
    assert_eq!((status.recovered, status.broken), (3, 1));
    let mut want = vec![
        format!("{}.recovered.ndjson", stem(1)),
        format!("{}.recovered.csv", stem(3)),
        format!("{}.parquet.broken", stem(5)),
        format!("{}.recovered.parquet", stem(6)),
        format!("{}.ndjson.part", stem(9)),
    ];
    want.extend(others.map(str::to_owned));
    want.sort();
    assert_eq!(names(directory.path()), want);
    let read = |name: &str| fs::read_to_string(at(name)).expect("readable");
    assert_eq!(read(&want_of(&want, ".recovered.ndjson")), "{\"slice\":1}\n{\"slice\":2}\n");
    assert_eq!(read(&want_of(&want, ".recovered.csv")), "a,b\n1,\"x\ny\"\n");

    drop(holder);
    assert_eq!(spawn(config(directory.path())).close(), ledger::Sink::default());
    assert!(at(&format!("{}.recovered.ndjson", stem(9))).exists(), "its process is gone now");
}

/// Set in the process that [`kill_nine_leaves_a_recoverable_file`] kills: the directory.
const VICTIM: &str = "WEIR_TEST_VICTIM";

#[test]
fn kill_nine_leaves_a_recoverable_file() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let sink = spawn(config(Path::new(&directory)));
        for from in (0..50_000).step_by(100) {
            sink.offer_blocking(&batch(from, from + 100));
        }
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let directory = TempDir::new().expect("a directory");
    let itself = std::env::current_exe().expect("a path");
    let test = "files::kill_nine_leaves_a_recoverable_file";
    let mut victim = Command::new(itself)
        .args(["--exact", test])
        .env(VICTIM, directory.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("another process");
    wait_for("the victim to write", || {
        let parts = fs::read_dir(directory.path()).expect("there").flatten();
        parts.into_iter().any(|e| e.metadata().is_ok_and(|m| m.len() > 1_000_000))
    });
    let live = spawn(config(directory.path()));
    live.close();
    assert_eq!(live.status().recovered, 0, "a living process keeps its file");
    victim.kill().expect("it lives");
    victim.wait().expect("it is gone");

    let sink = spawn(config(directory.path()));
    sink.close();
    assert_eq!(sink.status().recovered, 1, "{:?}", names(directory.path()));
    let numbers = numbers(directory.path());
    assert!(numbers.len() > 1_000, "{} records", numbers.len());
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "none is missing or torn");
}

fn want_of(names: &[String], end: &str) -> String {
    names.iter().find(|name| name.ends_with(end)).expect(end).clone()
}

#[test]
fn a_place_that_cannot_be_written_sheds_until_it_can() {
    let directory = TempDir::new().expect("a directory");
    let place = directory.path().join("file/below");
    fs::write(directory.path().join("file"), "in the way").expect("room");
    let sink = spawn(config(&place));
    assert!(sink.fault().is_some(), "it is known before the first record");
    sink.offer(&batch(0, 1_000));
    wait_for("the shedding", || sink.ledger().shed.of("write_error") == 1_000);
    assert!(sink.fault().expect("a fault").starts_with(&place.display().to_string()));
    assert!(balances(&sink.ledger()));

    fs::remove_file(directory.path().join("file")).expect("ours");
    wait_for("the directory to be tried again", || sink.fault().is_none());
    assert_eq!(names(&place), Vec::<String>::new(), "the trial leaves nothing");
    sink.offer(&batch(0, 10));
    check_ledger(&sink.close(), 1_010, 10, 1_000);
    assert_eq!(numbers(&place), (0..10).collect::<Vec<_>>());
    assert_eq!(sink.fault(), None);
}

#[test]
fn a_file_that_is_moved_while_open_is_finished_where_it_is() {
    for format in [Format::Ndjson, Format::Parquet] {
        if format == Format::Parquet && cfg!(not(feature = "parquet")) {
            continue;
        }
        let directory = TempDir::new().expect("a directory");
        let (place, gone) = (directory.path().join("flows"), directory.path().join("gone"));
        let sink = spawn(Files { format, ..config(&place) });
        let written = |n| sink.ledger().selected == n && names(&place).len() == 1;
        sink.offer(&batch(0, 10));
        wait_for("a file", || written(10));
        fs::rename(&place, &gone).expect("ours");
        fs::write(&place, "in the way").expect("room");
        wait_for("the fault", || sink.fault().is_some());
        wait_for("the commit", || sink.ledger().acknowledged == 10);
        assert!(names(&gone)[0].ends_with(&format!("-0.{}", format.extension())), "{format:?}");
        assert_eq!(sink.status().last_file, Some(gone.join(&names(&gone)[0])));
        wait_for("the fault of the place", || sink.fault().is_some());

        fs::remove_file(&place).expect("ours");
        wait_for("a fresh directory", || sink.fault().is_none());
        sink.offer(&batch(10, 30));
        wait_for("a file", || written(30));
        // Removed with all that is in it: this cannot be kept.
        fs::remove_dir_all(&place).expect("ours");
        wait_for("the loss", || sink.ledger().shed.of("write_error") == 20);
        wait_for("a fresh directory", || sink.fault().is_none() && place.is_dir());
        sink.offer(&batch(30, 35));
        check_ledger(&sink.close(), 35, 15, 20);
        assert_eq!((sink.fault(), names(&place).len()), (None, 1));
    }
}

#[test]
fn a_full_disk_keeps_what_was_written_and_counts_the_rest() {
    for format in [Format::Ndjson, Format::Csv, Format::Parquet] {
        let Some(disk) = SmallDisk::mount() else { return };
        if format == Format::Parquet && cfg!(not(feature = "parquet")) {
            continue;
        }
        let sink = spawn(Files { format, ..config(&disk.0) });
        for from in (0..200_000).step_by(1_000) {
            sink.offer_blocking(&batch(from, from + 1_000));
        }
        wait_for("the disk to be full", || {
            sink.ledger().shed.of("disk_full") > 0 || format == Format::Parquet
        });
        let ledger = sink.close();
        assert!(balances(&ledger) && ledger.spooled == 0, "{ledger:?}");
        assert_eq!(ledger.selected, 200_000);
        assert_eq!(ledger.shed.of("disk_full"), ledger.shed.total(), "{format:?}: {ledger:?}");
        assert!(ledger.shed.total() > 0, "{format:?}: {ledger:?}");
        if format == Format::Ndjson {
            assert!(ledger.acknowledged > 0, "{ledger:?}");
            assert_eq!(numbers(&disk.0).len() as u64, ledger.acknowledged, "{ledger:?}");
        }
        assert!(names(&disk.0).iter().all(|name| !name.ends_with(".part")), "{:?}", names(&disk.0));
    }
}

#[test]
fn room_on_a_full_disk_ends_the_fault_before_the_next_file_is_finished() {
    let Some(disk) = SmallDisk::mount() else { return };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 300_000]).expect("room");
    let sink = spawn(config(&disk.0));
    let from = std::cell::Cell::new(0);
    let offer = || sink.offer_blocking(&batch(from.get(), from.replace(from.get() + 10) + 10));
    wait_for("the disk to be full", || {
        offer();
        sink.fault().is_some()
    });
    fs::remove_file(&filler).expect("ours");
    wait_for("the end of the fault", || {
        offer();
        sink.fault().is_none()
    });
    assert_eq!(sink.status().files, 1, "what was written before; the next is open");
    let ledger = sink.close();
    assert!(balances(&ledger) && ledger.shed.of("disk_full") == ledger.shed.total(), "{ledger:?}");
}

#[test]
fn a_full_disk_loses_the_oldest_files_where_that_is_wanted() {
    let Some(disk) = SmallDisk::mount() else { return };
    fs::write(disk.0.join("not-ours.ndjson"), vec![b' '; 50_000]).expect("room");
    let other = Files { name: "files-2".into(), ..config(&disk.0) };
    let other = spawn(other);
    other.offer_blocking(&batch(0, 10));
    check_ledger(&other.close(), 10, 10, 0);
    let sink = spawn(Files { rotate_bytes: 65_536, full: Full::Oldest, ..config(&disk.0) });
    for from in (0..20_000).step_by(100) {
        sink.offer_blocking(&batch(from, from + 100));
    }
    check_ledger(&sink.close(), 20_000, 20_000, 0);
    assert_eq!(sink.fault(), None);
    let status = sink.status();
    assert!(status.removed.of("disk_full") > 20, "{status:?}");
    assert_eq!(status.removed.total(), status.removed.of("disk_full"), "{status:?}");
    let names = names(&disk.0);
    let ours = names.iter().filter(|name| name.starts_with("files-probe_1-")).count() as u64;
    assert_eq!(status.files, status.removed.total() + ours, "{names:?}");
    assert!(names.iter().any(|name| name == "not-ours.ndjson"), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("files-2-")), "of another sink: {names:?}");
    fs::remove_file(disk.0.join("not-ours.ndjson")).expect("there");
    names.iter().filter(|name| name.starts_with("files-2-")).for_each(|name| {
        fs::remove_file(disk.0.join(name)).expect("there");
    });
    let numbers = numbers(&disk.0);
    let first = 20_000 - numbers.len() as u64;
    assert_eq!(numbers, (first..20_000).collect::<Vec<_>>(), "the newest, without a gap");
    assert!(first < 19_800, "{first}");
}

#[test]
fn a_part_of_the_disk_is_left_free() {
    for full in [Full::Oldest, Full::Newest] {
        let Some(disk) = SmallDisk::mount() else { return };
        let free_bytes = 300_000;
        let sink = spawn(Files { rotate_bytes: 65_536, free_bytes, full, ..config(&disk.0) });
        // So slowly that a look each second is enough.
        for from in (0..800).step_by(20) {
            sink.offer_blocking(&batch(from, from + 20));
            std::thread::sleep(Duration::from_millis(100));
        }
        let ledger = sink.close();
        let (free, status) = (free(&disk.0), sink.status());
        assert!(balances(&ledger) && ledger.spooled == 0, "{full:?}: {ledger:?}");
        assert!(ledger.acknowledged > 0, "{full:?}: {ledger:?}");
        if full == Full::Oldest {
            assert_eq!(ledger.shed.total(), 0, "{ledger:?}");
            assert!(status.removed.of("disk_full") > 0, "{status:?}");
        } else {
            assert!(ledger.shed.of("disk_full") > 0, "{ledger:?}");
            assert_eq!(status.removed.total(), 0, "{status:?}");
            assert!(status.fault.expect("a fault").contains("300000 are to be left"));
        }
        // A second's worth may be missing.
        assert!(free > 100_000, "{full:?}: {free}");
    }
}

fn free(place: &Path) -> u64 {
    let output = Command::new("df").args(["--output=avail", "-B1"]).arg(place).output();
    let text = String::from_utf8(output.expect("df").stdout).expect("text");
    text.lines().nth(1).expect(&text).trim().parse().expect(&text)
}

#[test]
fn finished_files_are_kept_by_size_and_age() {
    let directory = TempDir::new().expect("a directory");
    let place = directory.path();
    let limits = Files { rotate_bytes: 65_536, keep_bytes: 200_000, ..config(place) };
    let sink = spawn(limits.clone());
    sink.offer_blocking(&batch(0, 3_000));
    check_ledger(&sink.close(), 3_000, 3_000, 0);
    let status = sink.status();
    assert!(status.removed.of("size") > 10, "{status:?}");
    assert_eq!(status.removed.total(), status.removed.of("size"));
    let octets = |place: &Path| -> u64 {
        let length = |name: &String| fs::metadata(place.join(name)).expect("there").len();
        names(place).iter().map(length).sum()
    };
    assert_eq!(octets(place), status.octets - status.removed_octets);
    assert!((100_000..=200_000).contains(&octets(place)), "{}", octets(place));
    let kept = numbers(place);
    assert_eq!(kept, (3_000 - kept.len() as u64..3_000).collect::<Vec<_>>(), "the newest");
    // Of an earlier run, and without traffic.
    fs::write(place.join("notes.ndjson"), "").expect("room");
    let files = names(place).len() as u64;
    let sink = spawn(Files { keep_s: 1, keep_bytes: 0, ..limits });
    wait_for("the old files to go", || sink.status().removed.of("age") == files - 1);
    assert_eq!(names(place), ["notes.ndjson"]);
    sink.close();
}

/// A file system of 512 KiB. Needs the right to mount: says that the test was skipped without.
struct SmallDisk(PathBuf, #[expect(dead_code, reason = "removed when dropped")] TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let place = directory.path().join("disk");
        fs::create_dir(&place).expect("ours");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&place);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(place, directory));
        }
        eprintln!("SKIPPED: no right to mount a small file system");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "the small disk is unmounted");
    }
}
