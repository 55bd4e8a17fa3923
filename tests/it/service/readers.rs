//! Several readers of UDP: each exporter has one, and nobody outside can tell.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use serde_json::Value;
use weir::input::udp::bind_all;

use super::systemd::spawn_with_all;
use super::{HTTPS, QUICK, data, message, template, v5};
use crate::netflow::build::Format;
use crate::system::{Bench, Sensor, free_ports, records, wait_for, weir};

const HOSTS: u8 = 12;

/// An exporter with an address of its own.
fn exporter(host: u8) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::new(127, 0, 7, host), 0))
        .expect("an address of the loopback network")
}

fn configure(bench: &Bench, readers: usize, ports: (u16, u16)) {
    bench.write("rules/https.yml", HTTPS);
    Sensor::configure(bench, QUICK, ports);
    let more = format!("[input.netflow]\nreaders = {readers}\n");
    bench.write("weir.toml", bench.read("weir.toml").replace("[input.netflow]\n", &more));
}

/// What each exporter sent, as its report says: datagrams, flows, templates, and what was dropped.
fn reported(sensor: &Sensor) -> BTreeMap<String, [u64; 4]> {
    let report = sensor.exporters();
    let of = |exporter: &Value| {
        let number = |key: &str| exporter[key].as_u64().expect(key);
        let templates = exporter["templates"].as_array().expect("templates").len() as u64;
        let dropped = exporter["dropped_sets"].as_object().expect("counts").len() as u64;
        let address = exporter["address"].as_str().expect("an address").to_owned();
        (address, [number("datagrams"), number("flows"), templates, dropped])
    };
    let exporters = report.as_array().expect("exporters");
    let by_address: BTreeMap<_, _> = exporters.iter().map(of).collect();
    assert_eq!(by_address.len(), exporters.len(), "each is reported once: {report}");
    by_address
}

/// Slices by port and exporter, once `count` are written.
fn slices(bench: &Bench, count: usize) -> BTreeMap<(u64, String), (u64, String)> {
    wait_for("slices", || (records(&bench.path("flows")).len() == count).then_some(()));
    let of = |slice: Value| {
        let exporter = slice["exporter"].as_str().expect("an exporter").to_owned();
        let rules = slice["sigma_rule_ids"].to_string();
        let octets = slice["fwd_bytes"].as_u64().expect("octets");
        ((slice["src_port"].as_u64().expect("a port"), exporter), (octets, rules))
    };
    records(&bench.path("flows")).into_iter().map(of).collect()
}

#[test]
fn several_readers_are_as_one() {
    let mut runs = Vec::new();
    for readers in [1, 2, 5] {
        let bench = Bench::new();
        let ports = free_ports();
        configure(&bench, readers, ports);
        let sensor = Sensor::spawn(weir(), &bench, ports).ready();
        for host in 1..=HOSTS {
            let from = exporter(host);
            let format = if host % 2 == 0 { Format::V9 } else { Format::Ipfix };
            for number in 0..4 {
                let body = data(1_000 + u16::from(host) * 4 + number);
                let sets = if number == 0 { vec![template(format), body] } else { vec![body] };
                // v9 counts datagrams, IPFIX records.
                sensor.send(&from, &message(format, u32::from(number), &sets));
            }
        }
        let flows = usize::from(HOSTS) * 4;
        sensor.reaches("weir_flow_records_merged_total", flows as f64);
        let seen = (slices(&bench, flows), reported(&sensor));
        assert_eq!(sensor.metric("weir_exporters"), Some(f64::from(HOSTS)));
        assert_eq!(sensor.metric("weir_exporter_templates"), Some(f64::from(HOSTS)));
        let (_, metrics) = sensor.get("/metrics");
        let sockets = metrics.lines().filter(|l| l.starts_with("weir_input_socket_drops_total{"));
        assert_eq!(sockets.count(), readers, "{metrics}");
        let (ledgers, log) = sensor.stop();
        assert_eq!(ledgers["datagrams"]["received"], flows, "{log}");
        runs.push(seen);
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0], runs[2]);
    assert!(runs[0].1.values().all(|&report| report == [4, 4, 1, 0]), "{:?}", runs[0].1);
}

/// Sockets that outlive the sensor hold what came between two runs, for as many readers as there
/// were; the templates of the last run are with the readers of this one.
#[test]
fn a_restart_with_another_number_of_readers_misses_nothing() {
    let bench = Bench::new();
    let (_, admin) = free_ports();
    let address = "127.0.0.1:0".parse().expect("an address");
    let sockets = bind_all(address, 1 << 20, 3).expect("bound");
    let port = sockets[0].socket.local_addr().expect("bound").port();
    let exporters: Vec<UdpSocket> = (1..=HOSTS).map(exporter).collect();
    let send = |from: &UdpSocket, sequence, sets: &[Vec<u8>]| {
        let datagram = message(Format::V9, sequence, sets);
        from.send_to(&datagram, ("127.0.0.1", port)).expect("sent");
    };
    for (run, readers) in (0_u16..).zip([3, 1, 2, 3]) {
        for (host, from) in (0_u16..).zip(&exporters) {
            let body = data(1_000 + run * 100 + host);
            let sets = if run == 0 { vec![template(Format::V9), body] } else { vec![body] };
            send(from, run.into(), &sets);
        }
        configure(&bench, readers, (port, admin));
        let fds: Vec<_> = sockets.iter().map(|bound| bound.socket.as_raw_fd()).collect();
        let sensor = spawn_with_all(&fds, &bench, (port, admin)).ready();
        sensor.reaches("weir_flow_records_merged_total", f64::from(HOSTS));
        let report = reported(&sensor);
        assert_eq!(report.len(), usize::from(HOSTS), "{readers} readers: {report:?}");
        assert!(report.values().all(|&[_, flows, _, dropped]| (flows, dropped) == (1, 0)));
        sensor.stop();
        assert_eq!(bench.path("state/exporters-2.json").exists(), readers == 3);
    }
    assert_eq!(slices(&bench, usize::from(HOSTS) * 4).len(), usize::from(HOSTS) * 4);
}

/// More sockets than readers: said, and each counter of a reader and address is there once.
#[test]
fn more_passed_sockets_than_readers_are_read_and_counted_once() {
    let bench = Bench::new();
    let (_, admin) = free_ports();
    let shared = |port: u16| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let socket = socket.expect("a socket");
        socket.set_reuse_port(true).expect("set");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).expect("bound");
        UdpSocket::from(socket)
    };
    let first = shared(0);
    let port = first.local_addr().expect("bound").port();
    let sockets = [first, shared(port)];
    let fds = sockets.each_ref().map(AsRawFd::as_raw_fd);
    configure(&bench, 1, (port, admin));
    let sensor = spawn_with_all(&fds, &bench, (port, admin)).ready();
    sensor.says("more sockets are passed than input.netflow.readers");
    let (_, metrics) = sensor.get("/metrics");
    let drops = metrics.lines().filter(|line| line.starts_with("weir_input_socket_drops_total{"));
    assert_eq!(drops.count(), 1, "{metrics}");
    for host in 1..=8 {
        exporter(host).send_to(&v5(1, 1_000), ("127.0.0.1", port)).expect("sent");
    }
    sensor.reaches("weir_flow_records_total", 8.0);
    let busy = "weir_thread_busy_microseconds_total{thread=\"reader-0\"}";
    sensor.reaches(busy, 1.0);
    sensor.stop();
}

/// Fewer sockets than readers: said, and as many readers as there are sockets.
#[test]
fn one_passed_socket_is_one_reader() {
    let bench = Bench::new();
    let (_, admin) = free_ports();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let port = socket.local_addr().expect("bound").port();
    configure(&bench, 4, (port, admin));
    let sensor = spawn_with_all(&[socket.as_raw_fd()], &bench, (port, admin)).ready();
    sensor.says("fewer sockets are passed than input.netflow.readers");
    let (_, metrics) = sensor.get("/metrics");
    let drops =
        format!("weir_input_socket_drops_total{{reader=\"0\",address=\"127.0.0.1:{port}\"}}");
    assert!(metrics.contains(&drops), "{metrics}");
    sensor.stop();
}
