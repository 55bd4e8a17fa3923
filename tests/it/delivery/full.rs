//! A disk that is full when the sensor starts, and sinks that lose records: told as what they are.

use super::receivers::ready_for;
use super::storage::Storage;
use super::world::{FEW, Feed, World};
use crate::system::{Bench, Sensor, free_ports, wait_for};

fn ready(sensor: &Sensor) {
    wait_for("a sensor that is ready", || (sensor.get("/readyz").0 == 200).then_some(()));
}

#[test]
fn a_full_disk_keeps_no_sensor_from_starting() {
    let Some(storage) = Storage::small(64 << 20) else { return };
    // Files would want the disk, too.
    let mut receivers = ready_for(&storage, |name| !["files", "queue"].contains(&name));
    let mut world = World::new(FEW, storage.path().join("spool"), &mut receivers);
    world.receivers["hec"].proxy.refuse(true);
    world.start();
    world.sends();
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);
    world.stop();

    // The operator needs no room to move cursors, and none to look.
    storage.fill();
    let place = format!("--directory {}", world.spool.display());
    let again = format!("spool replay elastic --since 2000-01-01T00:00:00Z {place}");
    assert!(world.bench.weir(&again, 0).out.contains("900 records will be delivered again"));
    let dropped = world.bench.weir(&format!("spool drop syslog --all {place}"), 0).out;
    assert!(dropped.contains("nothing to do"), "{dropped}");
    let list = world.bench.weir(&format!("spool list --verify {place}"), 0).out;
    assert!(list.contains("900"), "{list}");

    // The sensor starts, says what is wrong, and delivers what the spool holds.
    world.start();
    world.not_ready("output spool: ");
    world.receivers["hec"].proxy.refuse(false);
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"hec\"}", 900.0);
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);
    // What comes waits in memory until there is room.
    world.sends();
    let appended = "weir_spool_records_appended_total";
    assert_eq!(world.sensor().metric(appended), Some(0.0));
    storage.free();
    world.sensor().reaches(appended, 900.0);
    for sink in ["hec", "elastic", "syslog"] {
        let acknowledged = format!("weir_output_records_acknowledged_total{{sink=\"{sink}\"}}");
        world.sensor().reaches(&acknowledged, if sink == "syslog" { 900.0 } else { 1_800.0 });
    }
    ready(world.sensor());

    // A stop while it is full again costs what waits, which is told with the ledger.
    storage.fill();
    world.sends();
    world.not_ready("output spool: ");
    let log = world.stop_and_read();
    for sink in ["hec", "elastic", "syslog"] {
        let told = log.lines().any(|line| {
            line.contains("lost by the stop") && line.contains(sink) && line.contains("records=900")
        });
        assert!(told, "{sink}: {log}");
    }
}

/// Also a spool that is not there yet, by a sink that is new.
#[test]
fn a_full_disk_keeps_no_new_spool_from_waiting_for_room() {
    let Some(storage) = Storage::small(16 << 20) else { return };
    let mut receivers = ready_for(&storage, |name| name == "hec");
    let mut world = World::new(FEW, storage.path().join("spool"), &mut receivers);
    storage.fill();
    world.start();
    world.not_ready("output spool: ");
    world.sends();
    storage.free();
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"hec\"}", 900.0);
    ready(world.sensor());
    // What it could not note then it has noted: a kill leaves nothing without a cursor.
    world.kill();
    let place = format!("--directory {}", world.spool.display());
    let list = world.bench.weir(&format!("spool list {place}"), 0).out;
    assert!(list.contains("hec"), "{list}");
}

/// Nor is room for its folders, which come with the room.
#[test]
fn a_disk_without_room_for_a_folder_keeps_no_sensor_from_starting() {
    let Some(storage) = Storage::without_names() else { return };
    let mut receivers = ready_for(&storage, |name| name == "hec");
    let mut world = World::new(FEW, storage.path().join("deep/spool"), &mut receivers);
    world.start();
    world.not_ready("output spool: ");
    world.not_ready("records wait in memory");
    world.sends();
    assert_eq!(world.sensor().metric("weir_spool_records_appended_total"), Some(0.0));
    storage.free_names();
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"hec\"}", 900.0);
    ready(world.sensor());
    // It is ours by then, and known after a kill.
    let place = format!("--directory {}", world.spool.display());
    let list = world.bench.weir(&format!("spool list {place}"), 0).out;
    assert!(list.contains("a sensor runs on it") && list.contains("hec"), "{list}");
    world.kill();
    let list = world.bench.weir(&format!("spool list {place} --verify"), 0).out;
    assert!(list.contains("hec") && !list.contains("a sensor runs on it"), "{list}");
    world.start();
    ready(world.sensor());
    world.stop();
}

#[test]
fn whoever_loses_records_is_named_by_readyz_and_once_in_the_log() {
    let bench = Bench::new();
    let (netflow, admin) = free_ports();
    let (_, nobody) = free_ports();
    bench.write("secret", "s").write("rules/.keep", "");
    let sink = |name: &str, more: &str| {
        format!(
            "[[output.hec]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{nobody}\"\n\
             token = {{ file = \"secret\" }}\n{more}"
        )
    };
    let config = format!(
        "[flow.netflow]\nidle_timeout_s = 1\n[spool]\ndirectory = \"spool\"\nbytes_max = 262144\n\
         segment_bytes = 65536\nmemory_records_max = 1024\nstop_s = 0\n{}{}",
        sink("late", ""),
        sink("hasty", "durability = \"memory\"\n"),
    );
    Sensor::configure(&bench, &config, (netflow, admin));
    let sensor = Sensor::spawn(crate::system::weir(), &bench, (netflow, admin)).ready();
    let feed = Feed::start(netflow, 20_000, u32::MAX);
    for (sink, reason) in [("late", "spool_full"), ("hasty", "queue_full")] {
        wait_for(reason, || {
            let (status, body) = sensor.get("/readyz");
            let begin = format!("output {sink}: sheds records: ");
            let told = body.contains(&begin) && body.contains(&format!(" for {reason} in "));
            (status == 503 && told).then_some(())
        });
    }
    drop(feed);
    // What is told comes down a pipe.
    sensor.says(
        "records are shed: counted by reason on /metrics sink=\"late\" reason=\"spool_full\"",
    );
    sensor.says(
        "records are shed: counted by reason on /metrics sink=\"hasty\" reason=\"queue_full\"",
    );
    let log = sensor.log();
    for (sink, reason) in [("late", "spool_full"), ("hasty", "queue_full")] {
        let what = format!("sink=\"{sink}\" reason=\"{reason}\"");
        let told = |line: &&str| line.contains("records are shed") && line.contains(&what);
        let told = log.lines().filter(told);
        assert_eq!(told.count(), 1, "{sink}: {log}");
    }
    sensor.stop();
}
