//! Stop, restart and crash: what is kept.

use std::process::Command;

use serde_json::Value;

use super::{HTTPS, QUICK, data, exporter, message, now, ports, template, v5};
use crate::netflow::build::{Format, fixed, fixed_record};
use crate::system::{Bench, Sensor, files, free_ports, kill, reap, records, wait_for, weir};

/// Nothing ends or rotates by itself.
const SLOW: &str = "[[output.files]]\nname = \"flows\"\ndirectory = \"flows\"\n\
                    [[output.files]]\nname = \"alerts\"\ndirectory = \"alerts\"\n\
                    select = \"alerts\"\n";

/// A record of version 5 of a flow from `source`.
fn record_from(source: u32) -> Vec<u8> {
    let mut record = fixed_record();
    record[..4].copy_from_slice(&source.to_be_bytes());
    record
}

#[test]
fn sigterm_flushes_open_flows_and_balances() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let sensor = Sensor::start(&bench, SLOW);
    let from = exporter();
    for number in 0..50 {
        sensor.send(&from, &v5(number, 1_000 + number as u16));
    }
    sensor.reaches("weir_flow_records_merged_total", 50.0);
    assert_eq!(sensor.metric("weir_flow_slices_shipped_total"), Some(0.0));
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["slices"]["shipped"], 50, "{log}");
    assert_eq!(ledgers["slices"]["held"], 0);
    let slices = records(&bench.path("flows"));
    assert_eq!(ports(&slices, "src_port"), (1_000..1_050).collect::<Vec<u64>>());
    assert_eq!(records(&bench.path("alerts")).len(), 50);
}

#[test]
fn a_stop_sheds_nothing_of_more_flows_than_the_sink_has_room_for() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let ports = free_ports();
    let more =
        "[[output.files]]\nname = \"flows\"\ndirectory = \"flows\"\nqueue_records_max = 1024\n";
    Sensor::configure(&bench, more, ports);
    // Every worker flushes its own flows.
    bench.write("weir.toml", bench.read("weir.toml").replace("workers = 2", "workers = 4"));
    let sensor = Sensor::spawn(weir(), &bench, ports).ready();
    let from = exporter();
    let (flows, of_a_datagram) = (12_000_u32, 30);
    for first in (0..flows).step_by(of_a_datagram) {
        let sources = (first..).take(of_a_datagram).map(|number| 0x0a01_0000 + number);
        let records: Vec<Vec<u8>> = sources.map(record_from).collect();
        sensor.send(&from, &now(fixed(5, of_a_datagram as u16, first, 0, &records), 8));
        let sent = f64::from(first) + of_a_datagram as f64;
        if first % 3_000 == 0 {
            sensor.reaches("weir_flow_records_merged_total", sent);
        }
    }
    sensor.reaches("weir_flow_records_merged_total", f64::from(flows));
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["sinks"]["flows"]["acknowledged"], flows, "{log}");
    assert_eq!(records(&bench.path("flows")).len(), flows as usize);
}

#[test]
fn what_is_queued_at_sigterm_is_still_taken() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let sensor = Sensor::start(&bench, SLOW);
    let from = exporter();
    kill(&sensor.process, libc::SIGSTOP);
    for number in 0..500 {
        sensor.send(&from, &v5(number, 1_000 + number as u16));
    }
    // Stopped as it is, it meets the signal and the datagrams together.
    kill(&sensor.process, libc::SIGTERM);
    kill(&sensor.process, libc::SIGCONT);
    let (ledgers, log) = sensor.finish();
    assert_eq!(ledgers["records"]["merged"], 500, "{log}");
}

#[test]
fn templates_outlive_a_restart_unconfirmed_until_they_come_again() {
    let bench = Bench::new();
    let from = exporter();
    let sensor = Sensor::start(&bench, SLOW);
    sensor.send(&from, &message(Format::V9, 1, &[template(Format::V9), data(1_001)]));
    sensor.reaches("weir_flow_records_merged_total", 1.0);
    // At once: the state is saved at the stop, whether or not its turn had come.
    sensor.stop();

    let sensor = Sensor::start(&bench, SLOW);
    sensor.send(&from, &message(Format::V9, 2, &[data(1_002)]));
    sensor.reaches("weir_flow_records_merged_total", 1.0);
    let unconfirmed = |sensor: &Sensor| -> Option<Value> {
        let report = sensor.exporters();
        Some(report[0]["templates"][0]["unconfirmed"].clone()).filter(|value| !value.is_null())
    };
    wait_for("an unconfirmed template", || unconfirmed(&sensor).filter(|value| value == true));
    sensor.send(&from, &message(Format::V9, 3, &[template(Format::V9)]));
    wait_for("a confirmed template", || unconfirmed(&sensor).filter(|value| value == false));
    sensor.stop();
    assert_eq!(ports(&records(&bench.path("flows")), "src_port"), [1_001, 1_002]);

    // Exporters send their templates again: a state that cannot be read is no reason not to start.
    bench.write("state/exporters.json", "{\"format\":");
    let sensor = Sensor::start(&bench, SLOW);
    sensor.says("the templates of the last run are lost");
    sensor.send(&from, &message(Format::V9, 4, &[template(Format::V9), data(1_003)]));
    sensor.reaches("weir_flow_records_merged_total", 1.0);
    sensor.stop();
}

#[test]
fn what_a_kill_left_unfinished_is_recovered() {
    let bench = Bench::new();
    let long = QUICK.replace("rotate_s = 1", "rotate_s = 600");
    let mut sensor = Sensor::start(&bench, &long);
    let from = exporter();
    let mut port = 1_024_u16;
    for number in 0..100 {
        let records: Vec<Vec<u8>> = (0..30)
            .map(|_| {
                let mut record = fixed_record();
                record[32..34].copy_from_slice(&port.to_be_bytes());
                port += 1;
                record
            })
            .collect();
        sensor.send(&from, &now(fixed(5, 30, number * 30, 0, &records), 8));
        if number % 10 == 9 {
            sensor.reaches("weir_input_datagrams_total", f64::from(number + 1));
        }
    }
    sensor.reaches("weir_flow_slices_shipped_total", 3_000.0);
    let part = wait_for("a file that is written", || {
        let part = files(&bench.path("flows"), "ndjson.part").pop()?;
        (std::fs::metadata(&part).ok()?.len() > 100_000).then_some(part)
    });
    kill(&sensor.process, libc::SIGKILL);
    assert!(!reap(&mut sensor.process).success());
    let lines = std::fs::read(&part).expect("left behind").iter().filter(|&&b| b == b'\n').count();
    assert!(lines > 0 && records(&bench.path("flows")).is_empty());

    let sensor = Sensor::start(&bench, &long);
    sensor.says("recovered an unfinished file");
    let recovered = files(&bench.path("flows"), "recovered.ndjson");
    assert_eq!(recovered.len(), 1);
    assert_eq!(records(&bench.path("flows")).len(), lines, "each whole line");
    assert!(!part.exists());
    sensor.stop();
}

#[test]
fn a_signal_during_the_start_is_heeded_when_it_is_done() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let bench = Bench::new();
        bench.write("rules/https.yml", HTTPS);
        let ports = free_ports();
        Sensor::configure(&bench, SLOW, ports);
        let sensor = Sensor::spawn(weir(), &bench, ports);
        sensor.says("rules loaded");
        for early in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGHUP, signal] {
            kill(&sensor.process, early);
        }
        sensor.finish();
    }
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS).write("state/x", "");
    // Whoever writes to a pipe that nobody reads waits: so the flush hangs.
    let pipe = bench.path("state/exporters.json.part");
    assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo").success());
    let mut sensor = Sensor::start(&bench, SLOW);
    kill(&sensor.process, libc::SIGTERM);
    sensor.says("stopping: flushing open flows");
    let status = wait_for("the end", || {
        let ended = sensor.process.try_wait().expect("a child");
        if ended.is_none() {
            kill(&sensor.process, libc::SIGTERM);
        }
        ended
    });
    assert_eq!(status.code(), Some(130), "{}", sensor.ended());
}

#[test]
fn a_state_directory_belongs_to_one_sensor() {
    let bench = Bench::new();
    let first = Sensor::start(&bench, SLOW);
    let config = bench.read("weir.toml");
    let (netflow, admin) = free_ports();
    let (old_netflow, old_admin) = (first.netflow.to_string(), first.admin.to_string());
    let other = config.replace(&old_netflow, &netflow.to_string());
    bench.write("other.toml", other.replace(&old_admin, &admin.to_string()));
    let found = bench.weir("run -c other.toml", 3);
    assert!(found.err.contains("is in use by another weir"), "{}", found.err);
    first.stop();
}
