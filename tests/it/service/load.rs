//! More than is comfortable: templates that change under full load, and overload.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{HTTPS, QUICK, exporter, message, now};
use crate::netflow::build::{Format, fixed, fixed_record, iana, record, set};
use crate::system::{Bench, Sensor, records};

/// Records that are under way, at most: the sensor always has some to work on, and its buffer
/// holds them.
const AHEAD_MAX: u64 = 4_096;
const RECORDS: u32 = 24;

/// Two layouts of one template id: order and widths differ.
const LAYOUTS: [&[(u16, u16)]; 2] = [
    &[(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4)],
    &[(2, 8), (1, 8), (4, 1), (11, 2), (7, 2), (12, 4), (8, 4)],
];

/// What flow `n` carries: octets and packets.
fn counts(n: u32) -> (u128, u128) {
    (1_000 + u128::from(n % 251), 1 + u128::from(n % 7))
}

/// The record of flow `n`, from 10.x.x.x:40000 to 192.0.2.1:443.
fn of_flow(n: u32, layout: usize) -> Vec<u8> {
    let (octets, packets) = counts(n);
    let (from, to) = ((0x0a00_0000 + u128::from(n), 4), (0xc000_0201, 4));
    let (from_port, to_port, tcp) = ((40_000, 2), (443, 2), (6, 1));
    match layout {
        0 => record(&[from, to, from_port, to_port, tcp, (octets, 4), (packets, 4)]),
        _ => record(&[(packets, 8), (octets, 8), tcp, to_port, from_port, to, from]),
    }
}

#[test]
fn a_template_redefined_under_full_load_misreads_nothing() {
    let bench = Bench::new();
    let sensor = Sensor::start(&bench, QUICK);
    let from = exporter();
    let merged = || sensor.metric("weir_flow_records_merged_total").unwrap_or_default() as u64;
    let (mut flows, mut sequence, mut redefined) = (0, 0, 0);
    let mut seen = 0;
    while flows < 40_000 {
        let layout = redefined % 2;
        redefined += 1;
        let template = Format::Ipfix.template(256, &iana(LAYOUTS[layout]));
        sensor.send(&from, &message(Format::Ipfix, sequence, &[template]));
        for _ in 0..3 {
            while u64::from(flows) > seen + AHEAD_MAX {
                seen = merged();
            }
            let body: Vec<u8> = (flows..flows + RECORDS).flat_map(|n| of_flow(n, layout)).collect();
            sensor.send(&from, &message(Format::Ipfix, sequence, &[set(256, &body)]));
            (flows, sequence) = (flows + RECORDS, sequence + RECORDS);
        }
    }
    sensor.reaches("weir_flow_records_merged_total", f64::from(flows));
    // Told once a second.
    sensor.reaches(
        "weir_exporter_template_events_total{event=\"redefined\"}",
        f64::from(redefined as u32 - 1),
    );
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["records"]["merged"], flows, "{log}");

    let mut got: Vec<(u32, u128, u128)> =
        records(&bench.path("flows")).iter().map(carried).collect();
    got.sort_unstable();
    assert_eq!(got.len(), flows as usize);
    for (n, (address, octets, packets)) in (0..).zip(got) {
        let (want_octets, want_packets) = counts(n);
        assert_eq!((address, octets, packets), (0x0a00_0000 + n, want_octets, want_packets));
    }
}

/// Source address, octets and packets of a slice.
fn carried(slice: &Value) -> (u32, u128, u128) {
    let address: std::net::Ipv4Addr =
        slice["src_ip"].as_str().and_then(|text| text.parse().ok()).expect("IPv4");
    let count = |key: &str| u128::from(slice[key].as_u64().expect("a count"));
    (address.into(), count("fwd_bytes"), count("fwd_pkts"))
}

/// Sends datagrams of 30 flows each as fast as the kernel takes them, until `enough`. The first
/// flow of each is to port 443.
fn flood(to: u16, from: &UdpSocket, enough: impl Fn() -> bool) -> u32 {
    let mut sent = 0_u32;
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        for _ in 0..512 {
            let of = |n: u32| {
                let mut record = fixed_record();
                record[1..4].copy_from_slice(&sent.to_be_bytes()[1..]);
                record[32..34].copy_from_slice(&(0x8000 | n as u16).to_be_bytes());
                let port: u16 = if n == 0 { 443 } else { 8_443 };
                record[34..36].copy_from_slice(&port.to_be_bytes());
                record
            };
            let datagram =
                fixed(5, 30, sent.wrapping_mul(30), 0, &(0..30).map(of).collect::<Vec<_>>());
            from.send_to(&now(datagram, 8), ("127.0.0.1", to)).expect("sent");
            sent += 1;
        }
        if enough() {
            return sent;
        }
    }
    panic!("nothing gave way within a minute");
}

#[test]
fn overload_gives_up_untagged_slices_before_datagrams_and_no_tag() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let more = "[flow]\nentries_max = 20000\n[[output.files]]\nname = \"flows\"\n\
                directory = \"flows\"\nqueue_records_max = 10000000\n";
    let sensor = Sensor::start(&bench, more);
    let from = exporter();
    let shed = "weir_output_records_shed_total{sink=\"flows\",reason=\"overload\"}";
    let sent = flood(sensor.netflow, &from, || sensor.metric(shed).unwrap_or_default() > 1_000.0);
    assert!(sensor.log().contains("overload: slices without a tag are not made"));
    // And it comes back.
    crate::system::wait_for("the end of overload", || {
        (sensor.metric("weir_overload_stage") == Some(0.0)).then_some(())
    });
    let (ledgers, log) = sensor.stop();
    let count = |path: &str| ledgers.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let received = count("/datagrams/received") + count("/datagrams/kernel_drops");
    assert_eq!(received, u64::from(sent), "{log}");
    let sheds = count("/sinks/flows/shed/overload");
    let kept = records(&bench.path("flows"));
    assert_eq!(count("/sinks/flows/selected"), count("/slices/shipped"));
    assert_eq!(kept.len() as u64 + sheds, count("/slices/shipped"));
    // Each flow to port 443 raised an alert, and its slice is there.
    let tagged = kept.iter().filter(|slice| slice["dest_port"] == 443).count() as u64;
    assert_eq!(tagged, count("/detections/alerts/high"));
    println!("{sent} datagrams, {sheds} slices shed, {} kept, {tagged} tagged", kept.len());
}
