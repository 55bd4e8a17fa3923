//! `weir run` as an operator runs it: datagrams in, files, metrics and answers out.

#[cfg(feature = "capture")]
mod capture;
mod load;
mod readers;
mod reload;
mod rules;
mod stop;
mod systemd;

use std::net::UdpSocket;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::netflow::build::{FLOW, Format, fixed, fixed_record, flow, iana, record, set};
use crate::system::{Bench, Sensor, files, json_lines, records, wait_for};

/// Slices of flows that are idle for a second, in files of a second.
const QUICK: &str = r#"
[flow.netflow]
idle_timeout_s = 1
[[output.files]]
name = "flows"
directory = "flows"
rotate_s = 1
[[output.files]]
name = "alerts"
directory = "alerts"
select = "alerts"
rotate_s = 1
"#;

const HTTPS: &str = "\
title: HTTPS
id: https
logsource:
    category: network_connection
detection:
    selection:
        dst_port: 443
    condition: selection
level: high
";

fn exporter() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a socket")
}

/// The export time, at `offset` of the header, becomes now.
fn now(mut datagram: Vec<u8>, offset: usize) -> Vec<u8> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    datagram[offset..offset + 4].copy_from_slice(&(since.as_secs() as u32).to_be_bytes());
    datagram
}

/// v5, one record from 10.0.0.1:`port` to 10.0.0.2:443 with 1,000 octets in 10 packets.
fn v5(sequence: u32, port: u16) -> Vec<u8> {
    let mut record = fixed_record();
    record[32..34].copy_from_slice(&port.to_be_bytes());
    now(fixed(5, 1, sequence, 0, &[record]), 8)
}

/// The same flow, with 700 octets in 7 packets, for the template of [`template`].
fn data(port: u16) -> Vec<u8> {
    let mut record = flow(700, 7);
    record[8..10].copy_from_slice(&port.to_be_bytes());
    set(256, &record)
}

fn template(format: Format) -> Vec<u8> {
    format.template(256, &iana(FLOW))
}

fn message(format: Format, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let offset = if format == Format::V9 { 8 } else { 4 };
    now(format.message(sequence, 7, sets), offset)
}

fn ports(records: &[Value], key: &str) -> Vec<u64> {
    let mut ports: Vec<u64> = records.iter().map(|r| r[key].as_u64().expect("a port")).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn exports_of_all_versions_become_slices_and_alerts_in_rotating_files() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let more = "[[output.files]]\nname = \"rows\"\ndirectory = \"rows\"\nformat = \"csv\"\n\
                rotate_s = 1\n[[output.files]]\nname = \"columns\"\ndirectory = \"columns\"\n\
                format = \"parquet\"\nrotate_s = 1\n";
    let columns = cfg!(feature = "parquet");
    let more = if columns {
        more
    } else {
        more.split("[[output.files]]\nname = \"col").next().expect("rows")
    };
    let sensor = Sensor::start(&bench, &format!("{QUICK}{more}"));
    let (old, nine, ipfix) = (exporter(), exporter(), exporter());
    sensor.send(&old, &v5(1, 1_001));
    sensor.send(&nine, &message(Format::V9, 1, &[template(Format::V9), data(1_002)]));
    sensor.send(&ipfix, &message(Format::Ipfix, 0, &[template(Format::Ipfix), data(1_003)]));

    wait_for("three slices", || (records(&bench.path("flows")).len() == 3).then_some(()));
    wait_for("three alerts", || (records(&bench.path("alerts")).len() == 3).then_some(()));
    let slices = records(&bench.path("flows"));
    assert_eq!(ports(&slices, "src_port"), [1_001, 1_002, 1_003]);
    let octets: u64 = slices.iter().map(|s| s["fwd_bytes"].as_u64().expect("octets")).sum();
    assert_eq!(octets, 2_400);
    for slice in &slices {
        assert_eq!(slice["sigma_rule_ids"][0], "https", "{slice}");
        assert_eq!(slice["exporter"], "127.0.0.1", "{slice}");
    }
    wait_for("rows", || {
        let rows = files(&bench.path("rows"), "csv").into_iter();
        let rows: usize =
            rows.map(|file| std::fs::read_to_string(file).expect("text").lines().count() - 1).sum();
        (rows == 3).then_some(())
    });
    if columns {
        wait_for("columns", || {
            let file = files(&bench.path("columns"), "parquet").pop()?;
            std::fs::read(file).expect("a file").ends_with(b"PAR1").then_some(())
        });
    }

    answers(&sensor);
    listing(&bench, &sensor);
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["datagrams"]["received"], 3, "{log}");
    assert_eq!(ledgers["records"]["merged"], 3);
    assert_eq!(ledgers["sinks"]["flows"]["acknowledged"], 3);
    assert_eq!(ledgers["detections"]["alerts"]["high"], 3);
    for folder in ["flows", "alerts", "rows", "columns"] {
        assert_eq!(files(&bench.path(folder), "part"), Vec::<std::path::PathBuf>::new());
    }
}

/// What the admin listener says after three datagrams of three exporters.
fn answers(sensor: &Sensor) {
    assert_eq!(sensor.get("/healthz"), (200, r#"{"status":"ok","reasons":[]}"#.into()));
    let delivery = r#""delivery":{"sinks":{},"spool":null}"#;
    let ready = format!(r#"{{"status":"ok","reasons":[],{delivery}}}"#);
    assert_eq!(sensor.get("/readyz"), (200, ready));
    assert_eq!(sensor.get("/none").0, 404);
    let (status, metrics) = sensor.get("/metrics");
    assert!(status == 200 && metrics.ends_with("# EOF\n"), "{metrics}");
    for (name, value) in [
        ("weir_input_datagrams_total", 3.0),
        ("weir_flow_records_merged_total", 3.0),
        ("weir_flow_slices_shipped_total", 3.0),
        ("weir_detect_alerts_total{level=\"high\"}", 3.0),
        ("weir_output_records_acknowledged_total{sink=\"flows\"}", 3.0),
        ("weir_exporters", 3.0),
        ("weir_exporter_templates", 2.0),
    ] {
        sensor.reaches(name, value);
        assert_eq!(sensor.metric(name), Some(value), "{name}");
    }
    let report = sensor.exporters();
    let mut versions: Vec<u64> = report
        .as_array()
        .expect("exporters")
        .iter()
        .map(|exporter| exporter["versions"][0].as_u64().expect("a version"))
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, [5, 9, 10], "{report}");
}

/// `weir exporters`, beside the sensor.
fn listing(bench: &Bench, sensor: &Sensor) {
    let json = bench.weir("exporters -c weir.toml --format json", 0);
    let report: Value = serde_json::from_str(&json.out).expect(&json.out);
    let admin =
        bench.weir(&format!("exporters --format json --admin 127.0.0.1:{}", sensor.admin), 0);
    assert_eq!(report.as_array().expect("exporters").len(), 3, "{}", admin.out);
    let picture = bench.weir("top --once -c weir.toml", 0).out;
    for words in ["3 exporters", "records", "nothing", "worker-0"] {
        assert!(picture.contains(words), "{words}\n{picture}");
    }
    let address = report[0]["address"].as_str().expect("an address");
    assert!(picture.lines().any(|line| line.contains(address)), "{address}\n{picture}");
    let text = bench.weir("exporters -c weir.toml", 0).out;
    for exporter in report.as_array().expect("exporters") {
        assert_eq!(
            (&exporter["address"], &exporter["proven"]),
            (&"127.0.0.1".into(), &true.into())
        );
        assert!(text.contains(&exporter["port"].to_string()), "{exporter}: {text}");
    }
    assert!(text.contains("127.0.0.1"), "{text}");
}

#[test]
fn a_template_that_is_missing_is_shown_until_it_comes() {
    let bench = Bench::new();
    let sensor = Sensor::start(&bench, QUICK);
    let from = exporter();
    sensor.send(&from, &message(Format::V9, 1, &[data(2_001)]));
    let waiting = wait_for("a template that is waited for", || {
        sensor.exporters()[0]["waiting"].as_array().filter(|list| !list.is_empty()).cloned()
    });
    assert_eq!(
        (&waiting[0]["version"], &waiting[0]["id"]),
        (&9.into(), &256.into()),
        "{waiting:?}"
    );
    assert_eq!(sensor.metric("weir_decode_data_sets_waiting"), Some(1.0));
    let text = bench.weir("exporters -c weir.toml", 0).out;
    assert!(text.contains("256") && text.to_lowercase().contains("waiting"), "{text}");
    sensor.send(&from, &message(Format::V9, 2, &[template(Format::V9)]));
    let slices = wait_for("the slice", || {
        Some(records(&bench.path("flows"))).filter(|slices| !slices.is_empty())
    });
    assert_eq!(ports(&slices, "src_port"), [2_001]);
    sensor.stop();
}

#[test]
fn junk_and_strangers_are_counted_and_harm_nothing() {
    let bench = Bench::new();
    let sensor = Sensor::start(&bench, QUICK);
    let from = exporter();
    for junk in
        [vec![], vec![0; 3], vec![0xff; 100], record(&[(9, 2), (9, 2)]), v5(1, 1)[..60].to_vec()]
    {
        sensor.send(&from, &junk);
    }
    sensor.send(&from, &v5(1, 3_001));
    sensor.reaches("weir_flow_records_merged_total", 1.0);
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["datagrams"]["received"], 6);
    let bench = Bench::new();
    let allow = "[input.netflow]\nallow = [\"192.0.2.0/24\"]";
    let (netflow, admin) = crate::system::free_ports();
    Sensor::configure(&bench, QUICK, (netflow, admin));
    let config = bench.read("weir.toml").replace("[input.netflow]", allow);
    bench.write("weir.toml", config).write("rules/https.yml", HTTPS);
    let sensor = Sensor::spawn(crate::system::weir(), &bench, (netflow, admin)).ready();
    sensor.send(&from, &v5(1, 3_001));
    sensor.reaches("weir_input_datagrams_total", 1.0);
    assert_eq!(sensor.exporters(), Value::Array(Vec::new()), "no state for a stranger");
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["datagrams"]["decoded"], 0, "{ledgers}");
}

#[test]
fn an_output_that_cannot_be_written_makes_it_unready_and_stops_nothing() {
    let bench = Bench::new();
    bench.write("flows", "a file where a folder should be").write("rules/https.yml", HTTPS);
    let sensor = Sensor::start(&bench, QUICK);
    sensor.send(&exporter(), &v5(1, 4_001));
    let reason = wait_for("unready", || {
        let (status, body) = sensor.get("/readyz");
        (status == 503).then_some(body)
    });
    assert!(reason.contains("output flows: "), "{reason}");
    assert_eq!(sensor.get("/healthz").0, 200);
    let admin = format!("--admin 127.0.0.1:{}", sensor.admin);
    assert_eq!(bench.weir(&format!("health {admin}"), 0).out, "alive\n");
    let unready = bench.weir(&format!("health --ready {admin}"), 1).out;
    assert!(unready.starts_with("output flows: "), "{unready}");
    wait_for("the alert", || (records(&bench.path("alerts")).len() == 1).then_some(()));
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["sinks"]["flows"]["shed"]["write_error"], 1, "{ledgers}");
    let gone = bench.weir(&format!("health {admin}"), 3).err;
    assert!(gone.contains("no running sensor answers at 127.0.0.1:"), "{gone}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let bench = Bench::new();
    let taken = exporter();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (free, admin) = crate::system::free_ports();
    let port = taken.local_addr().expect("bound").port();
    let listen = busy.local_addr().expect("bound").port();
    bench.write("rules/https.yml", HTTPS);
    Sensor::configure(&bench, "", (port, admin));
    let ended = bench.weir("run -c weir.toml", 3);
    let says = format!("weir: cannot bind UDP 127.0.0.1:{port}: Address already in use");
    assert!(ended.err.contains(&says), "{}", ended.err);
    Sensor::configure(&bench, "", (free, listen));
    let ended = bench.weir("run -c weir.toml", 3);
    let says = format!("weir: cannot bind admin.listen 127.0.0.1:{listen}: Address already in use");
    assert!(ended.err.contains(&says), "{}", ended.err);
}

#[test]
fn diagnostics_of_the_sensor_can_be_json() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let ports = crate::system::free_ports();
    Sensor::configure(&bench, "", ports);
    let mut command = crate::system::weir();
    command.args(["--log-format", "json"]);
    let mut sensor = Sensor::spawn(command, &bench, ports);
    sensor.says("\"running\"");
    crate::system::kill(&sensor.process, libc::SIGINT);
    assert!(crate::system::reap(&mut sensor.process).success());
    let lines = json_lines(&sensor.ended());
    let last = lines.last().expect("a line");
    let ledgers = last["fields"]["ledgers"].as_str().expect("ledgers");
    crate::system::balances(&serde_json::from_str(ledgers).expect(ledgers));
}
