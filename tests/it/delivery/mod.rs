//! Delivery through faults: what was appended to the spool reaches every sink, whatever happens to
//! the sensor, its disk and the other sides.
//!
//! `make test-delivery` runs the table with a million slices for each fault and writes
//! `benches/runs/latest/delivery.json`; the test here is the same with a few thousand.

mod full;
mod log;
mod operator;
mod receivers;
mod start;
mod storage;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use receivers::{KAFKA_SECRET, Receiver, Receivers, S3_SECRET, SECRET, credentials};
use storage::Storage;
use world::{Row, SYNC_INTERVAL, Size, World};

/// What happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    None,
    Killed,
    PowerLoss,
    DiskFull,
    Refused,
    Cut,
    Answers(u16),
    Slow,
    Unauthorized,
    Missing,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::None,
        Self::Killed,
        Self::PowerLoss,
        Self::DiskFull,
        Self::Refused,
        Self::Cut,
        Self::Answers(500),
        Self::Answers(503),
        Self::Slow,
        Self::Unauthorized,
        Self::Missing,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Killed => "weir killed",
            Self::PowerLoss => "power lost",
            Self::DiskFull => "disk full",
            Self::Refused => "server stopped",
            Self::Cut => "connection cut in mid-batch",
            Self::Answers(500) => "server answers 500",
            Self::Answers(_) => "server answers 503",
            Self::Slow => "server slow",
            Self::Unauthorized => "wrong credentials",
            Self::Missing => "topic or bucket missing",
        }
    }
}

/// One run with `fault`: `None`, said so, where this machine cannot make it.
fn run(fault: Fault, size: Size, receivers: &mut Receivers) -> Option<Vec<Row>> {
    // Of a slice: a line in a file, and its part of a frame.
    let room = u64::from(size.slices) * 600;
    let mut storage = match fault {
        Fault::DiskFull => Storage::small((192 << 20) + room)?,
        Fault::PowerLoss => Storage::that_loses_power((1 << 30) + 2 * room)?,
        _ => Storage::folder(),
    };
    let disk = storage.path();
    receivers.values_mut().for_each(|receiver| receiver.renew(&disk, fault != Fault::Missing));
    let mut world = World::new(size, disk.join("spool"), receivers);
    if fault == Fault::Unauthorized {
        world.receivers.values().for_each(|receiver| receiver.wants("another"));
        world.bench.write("aws", credentials("another")).write("kafka", "another");
    }
    world.start();
    // What is sent to a dead sensor is nobody's: then it goes on until enough was appended; and while
    // the sensor is to say that something is wrong, which it notices by what comes.
    let kills = matches!(fault, Fault::Killed | Fault::PowerLoss);
    let endless = kills || matches!(fault, Fault::DiskFull | Fault::Answers(_));
    let feed = world.feed(endless);
    // In the middle of it: some is delivered, some is under way.
    world.appends(size.slices / 4);
    happen(fault, &mut world, &mut storage);
    match (endless, kills) {
        (false, _) => world.fill(&feed),
        (true, false) => world.appends(size.slices),
        (true, true) => {}
    }
    drop(feed);
    let rows = world.end(fault.name());
    // The sensor first, then what its spool lies on.
    drop(world);
    Some(rows)
}

/// Has `fault` happen and end.
fn happen(fault: Fault, world: &mut World<'_>, storage: &mut Storage) {
    let hold = world.size.fault;
    let wait = || std::thread::sleep(hold);
    match fault {
        Fault::None => {}
        Fault::Killed => killed(world),
        Fault::PowerLoss => power_lost(world, storage),
        Fault::DiskFull => {
            storage.fill();
            world.not_ready("output spool: ");
            wait();
            storage.free();
        }
        Fault::Refused => {
            world.receivers.values_mut().for_each(Receiver::stop);
            std::thread::sleep(world.size.stopped);
            world.receivers.values_mut().for_each(Receiver::start);
        }
        Fault::Cut => {
            for octets in [5_000, 70_000, 300] {
                let receivers = world.receivers.values();
                receivers.for_each(|receiver| receiver.proxy.cut_after(octets));
                std::thread::sleep(hold / 3);
            }
            world.receivers.values().for_each(|receiver| receiver.proxy.cut());
        }
        Fault::Answers(status) => {
            world.receivers.values().for_each(|receiver| receiver.answer(Some(status)));
            world.not_ready(&status.to_string());
            wait();
            world.receivers.values().for_each(|receiver| receiver.answer(None));
        }
        Fault::Slow => {
            let slow = Duration::from_millis(20);
            world.receivers.values().for_each(|receiver| receiver.proxy.delay(slow));
            wait();
            world.receivers.values().for_each(|receiver| receiver.proxy.delay(Duration::ZERO));
        }
        Fault::Unauthorized => {
            world.not_ready("output elastic: ");
            world.not_ready("output hec: ");
            world.not_ready("401");
            // moto takes any key.
            for sink in ["kafka", "s3-s3s"] {
                if world.receivers.contains_key(sink) {
                    world.not_ready(&format!("output {sink}: "));
                }
            }
            wait();
            let log = world.sensor().log();
            let secrets = [SECRET, S3_SECRET, KAFKA_SECRET, "another"];
            assert!(!secrets.iter().any(|secret| log.contains(secret)), "a secret is in the log");
            world.receivers.values().for_each(|receiver| receiver.wants(SECRET));
            world.bench.write("aws", credentials(S3_SECRET)).write("kafka", KAFKA_SECRET);
        }
        Fault::Missing => {
            // The other S3 server makes buckets as they come.
            for sink in ["elastic", "hec", "kafka", "s3-moto"] {
                if world.receivers.contains_key(sink) {
                    world.not_ready(&format!("output {sink}: "));
                }
            }
            wait();
            world.receivers.values().for_each(Receiver::make_index);
        }
    }
    if fault != Fault::None {
        world.recover();
    }
}

/// kill -9 at moments that nothing chose, with everything under way.
fn killed(world: &mut World<'_>) {
    use std::hash::{BuildHasher, RandomState};
    let seed = RandomState::new().hash_one(0);
    println!("killed at moments of seed {seed:016x}");
    let kills = world.size.kills;
    let life = world.size.slices / (kills + 1);
    for number in 0..kills {
        world.appends(life);
        let random = seed.rotate_left(number * 6) % 400;
        std::thread::sleep(Duration::from_millis(random));
        world.kill();
        world.start();
    }
    world.appends(life);
}

/// What had been appended a little longer than the sync interval before is still there after it.
fn power_lost(world: &mut World<'_>, storage: &mut Storage) {
    world.appends(world.size.slices / 4);
    let due = world.appended();
    std::thread::sleep(SYNC_INTERVAL * 2);
    world.kill();
    storage.copy_synced();
    let all = world.appended();
    storage.lose_power();
    let left = world.appended();
    assert!(due.keys().all(|slice| left.contains_key(slice)), "what was synced is lost");
    println!("power lost: {} slices appended, {} of them left", all.len(), left.len());
    world.due = due;
    world.known = all;
    world.start();
    world.appends(world.size.slices / 4 * 3);
}

fn check(rows: &[Row], fault: Fault, size: Size) {
    for row in rows {
        let Row { sink, sent, lost, duplicated, raw_duplicates, .. } = row;
        let of = |what: &str| format!("{what}: {row:?}");
        let least = match fault {
            Fault::Killed | Fault::PowerLoss => size.slices / 2 - size.kills,
            _ => size.slices,
        };
        // What files with a queue of their own acknowledged is what they had room for.
        let least = match (sink.as_str(), fault) {
            ("queue", Fault::Killed | Fault::PowerLoss | Fault::DiskFull) => 1,
            _ => least,
        };
        assert!(*sent >= least as usize, "{}", of("few were appended"));
        assert_eq!(*duplicated, 0, "{}", of("under another id"));
        assert_eq!(*lost, 0, "{}", of("lost"));
        // What was sent and not acknowledged when something broke: a unit of the spool, at each break;
        // and what syslog and IPFIX send again, as nothing is acknowledged there: 8 MiB. Where nothing
        // breaks, nothing comes twice.
        let unit = match sink.as_str() {
            "syslog" => 44_000,
            "ipfix" => 84_000,
            _ => 16_384,
        };
        let breaks = match fault {
            Fault::Killed => size.kills as usize,
            Fault::Cut => 12,
            // What was taken and answered otherwise is a break, too.
            Fault::PowerLoss | Fault::Refused | Fault::Answers(_) => 2,
            _ => 0,
        };
        // Of few slices a unit is no bound: of those that are acknowledged most are at any time, and those
        // that are not may come again with each break, but seldom all of them.
        let share = if ["syslog", "ipfix"].contains(&sink.as_str()) { 2 * sent } else { sent / 2 };
        let window = (breaks * unit.min(*sent)).min(share);
        assert!(*raw_duplicates <= window, "{}", of("more than the unacknowledged window"));
        if !["hec", "syslog", "kafka", "ipfix"].contains(&sink.as_str()) {
            assert_eq!(*raw_duplicates, 0, "{}", of("what has a name is there once"));
        }
    }
}

fn print(rows: &[Row]) {
    for row in rows {
        let Row { fault, sink, sent, lost, duplicated, raw_duplicates, recovery_s } = row;
        println!(
            "{fault:<28} {sink:<8} sent {sent:>8} lost {lost:>6} duplicated {duplicated:>3} \
             (raw {raw_duplicates:>6}) recovered in {recovery_s:>6.1} s"
        );
    }
}

/// Every fault, with few slices.
#[test]
fn what_was_appended_is_delivered_through_every_fault() {
    let (fault, stopped) = (Duration::from_millis(300), Duration::from_millis(300));
    let size = Size { slices: 2_400, per_second: 3_000, fault, stopped, kills: 2 };
    let mut receivers = receivers::all();
    for fault in Fault::ALL {
        let Some(rows) = run(fault, size, &mut receivers) else { continue };
        print(&rows);
        check(&rows, fault, size);
    }
}

/// The table: `make test-delivery`. Each fault's rows take the place of those of an earlier run;
/// `WEIR_DELIVERY_FAULTS` names some faults, with commas between.
#[test]
#[ignore = "takes minutes: make test-delivery runs it"]
fn the_table_of_faults() {
    let number = |name: &str, default: u32| {
        let value = std::env::var(name).ok();
        value.map_or(default, |value| value.parse().expect(name))
    };
    let seconds = |name, default| Duration::from_secs(number(name, default).into());
    let size = Size {
        slices: number("WEIR_DELIVERY_SLICES", 1_000_000),
        per_second: number("WEIR_DELIVERY_PER_SECOND", 20_000),
        fault: seconds("WEIR_DELIVERY_FAULT_S", 10),
        stopped: seconds("WEIR_DELIVERY_STOPPED_S", 60),
        kills: 10,
    };
    let out = std::env::var_os("WEIR_DELIVERY_OUT").map(PathBuf::from);
    let only = std::env::var("WEIR_DELIVERY_FAULTS").ok();
    let wanted = |fault: &Fault| {
        only.as_ref().is_none_or(|only| only.split(',').any(|name| name == fault.name()))
    };
    let mut receivers = receivers::all();
    for fault in Fault::ALL.into_iter().filter(wanted) {
        let Some(rows) = run(fault, size, &mut receivers) else { continue };
        print(&rows);
        receivers.values_mut().for_each(Receiver::forget);
        if let Some(out) = &out {
            keep(out, &rows);
        }
        check(&rows, fault, size);
    }
}

/// Puts `rows` into the table in `out`, in the place of those of their fault, in the order of faults.
fn keep(out: &Path, rows: &[Row]) {
    let text = std::fs::read_to_string(out).unwrap_or_else(|_| "[]".to_owned());
    let mut table: Vec<Row> = serde_json::from_str(&text).expect("a table of an earlier run");
    table.retain(|row| row.fault != rows[0].fault);
    table.extend_from_slice(rows);
    let place = |row: &Row| Fault::ALL.iter().position(|fault| fault.name() == row.fault);
    table.sort_by_key(place);
    let text = serde_json::to_string_pretty(&table).expect("JSON");
    std::fs::write(out, text + "\n").expect("written");
}

/// Waits until the sensor says that it is not ready, with a reason that holds `text`.
impl World<'_> {
    #[track_caller]
    fn not_ready(&self, text: &str) {
        self.wait(text, || {
            let (status, body) = self.sensor().get("/readyz");
            (status == 503 && body.contains(text)).then_some(())
        });
    }
}
