//! Other programs as exporters: what they send adds up to what `replay` finds in their input.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::captures::{Packet, START_US, connection, exports, pcap};
use crate::frames::{eth, ipv4_of, ipv6, udp};
use crate::netflow::build::{fixed, fixed_record};
use crate::system::{Bench, Sensor, free_ports, has, kill, reap, records, wait_for};

const FLOWS: &str = "[[output.files]]\nname = \"flows\"\ndirectory = \"flows\"\n";

/// Source, destination, ports, protocol.
type Tuple = (String, String, u64, u64, u64);

/// Packets and octets of each direction of each 5-tuple, over all slices.
#[track_caller]
fn sums(slices: &[Value]) -> BTreeMap<Tuple, [u64; 2]> {
    let mut sums = BTreeMap::new();
    for slice in slices {
        let text = |key: &str| slice[key].as_str().expect(key).to_owned();
        let number = |key: &str| slice[key].as_u64().expect(key);
        let [src, dst] = ["src_ip", "dest_ip"].map(text);
        let [from, to, protocol] = ["src_port", "dest_port", "protocol"].map(number);
        let there = (src.clone(), dst.clone(), from, to, protocol);
        let back = (dst, src, to, from, protocol);
        for (tuple, side) in [(there, "fwd"), (back, "bwd")] {
            let counts = ["pkts", "bytes"].map(|what| number(&format!("{side}_{what}")));
            if counts != [0, 0] {
                let sum = sums.entry(tuple).or_insert([0; 2]);
                *sum = [sum[0] + counts[0], sum[1] + counts[1]];
            }
        }
    }
    sums
}

/// 400 connections and queries between many hosts, with 40 of IPv6 if wanted. No fragments, no
/// tunnels.
fn traffic(v6: bool) -> Vec<Packet> {
    let mut packets = Vec::new();
    for number in 0..400_u16 {
        let start = START_US + u64::from(number) * 700;
        let hosts = [[10, 0, (number % 7) as u8, 1], [10, 1, 0, (number % 11) as u8]];
        let ports = [20_000 + number, [80, 443, 22, 8_080][usize::from(number % 4)]];
        if number % 3 == 0 {
            let size = usize::from(number % 900);
            let there = ipv4_of(hosts, 17, &udp(ports[0], 53, &vec![1; size]));
            packets.push((start, eth(0x0800, &there)));
            let back = ipv4_of([hosts[1], hosts[0]], 17, &udp(53, ports[0], &vec![2; size / 2]));
            packets.push((start + 300, eth(0x0800, &back)));
        } else {
            packets.extend(connection(hosts, ports, u32::from(number % 13), start));
        }
        if v6 && number % 10 == 0 {
            let query = udp(ports[0], 53, &[3; 50]);
            packets.push((start, eth(0x86dd, &ipv6(17, &query))));
        }
    }
    packets.sort_by_key(|packet| packet.0);
    packets
}

/// A program that the test started; ended with it.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs `command` to its end, with what it says in `log`.
#[track_caller]
fn finish(mut command: Command, bench: &Bench, log: &str) {
    let file = File::create(bench.path(log)).expect("a log");
    command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
    let mut program = Program(command.spawn().expect("spawned"));
    let status = reap(&mut program.0);
    assert!(status.success(), "{status:?}\n{}", bench.read(log));
}

/// The sums of what a sensor made of `send`, once it merged as many records as `want` has
/// directions.
#[track_caller]
fn collected(want: usize, send: impl FnOnce(&Bench, &Sensor)) -> BTreeMap<Tuple, [u64; 2]> {
    let bench = Bench::new();
    let sensor = Sensor::start(&bench, FLOWS);
    send(&bench, &sensor);
    sensor.reaches("weir_flow_records_merged_total", want as f64);
    let (ledgers, log) = sensor.stop();
    assert_eq!(ledgers["datagrams"]["rejected"], Value::Object(Default::default()), "{log}");
    assert_eq!(ledgers["records"]["duplicate"], 0, "{log}");
    sums(&records(&bench.path("flows")))
}

#[test]
fn what_softflowd_exports_adds_up_to_its_capture() {
    if !has("softflowd") {
        return;
    }
    let mut directions = 0;
    for version in ["5", "9", "10"] {
        // v5 has no IPv6.
        let capture = Bench::new();
        capture.write("a.pcap", pcap(&traffic(version != "5")));
        let want = sums(&capture.weir("replay a.pcap -o -", 0).lines());
        let found = collected(want.len(), |bench, sensor| {
            let mut softflowd = Command::new("softflowd");
            softflowd.arg("-r").arg(capture.path("a.pcap"));
            softflowd.args(["-d", "-c", "none", "-m", "100000", "-v", version, "-p"]);
            softflowd.arg(bench.path("softflowd.pid"));
            softflowd.args(["-n", &format!("127.0.0.1:{}", sensor.netflow)]);
            finish(softflowd, bench, "softflowd.log");
        });
        assert_eq!(found, want, "version {version}");
        directions += want.len();
    }
    println!("softflowd: 3 versions, {directions} directions of flows agree");
}

/// Octets that wait in the receive buffer of 127.0.0.1:`port`; `None` if it is not bound.
fn waiting(port: u16) -> Option<u64> {
    let sockets = fs::read_to_string("/proc/net/udp").expect("procfs");
    let address = format!("0100007F:{port:04X}");
    let line = sockets.lines().find(|line| line.split_whitespace().nth(1) == Some(&address))?;
    let queues = line.split_whitespace().nth(4)?;
    u64::from_str_radix(queues.split_once(':')?.1, 16).ok()
}

/// v5 datagrams of 30 records each, all flows different.
fn datagrams(count: u16) -> Vec<Vec<u8>> {
    let record = |number: u16| {
        let mut record = fixed_record();
        record[3] = (number % 5) as u8 + 1;
        record[16..20].copy_from_slice(&u32::from(number + 1).to_be_bytes());
        record[20..24].copy_from_slice(&(u32::from(number + 1) * 60).to_be_bytes());
        record[32..34].copy_from_slice(&(2_000 + number).to_be_bytes());
        record
    };
    let datagram = |at: u16| {
        let records: Vec<_> = (at * 30..at * 30 + 30).map(record).collect();
        fixed(5, 30, u32::from(at) * 30, 0, &records)
    };
    (0..count).map(datagram).collect()
}

#[test]
fn what_nfreplay_sends_adds_up_to_what_nfcapd_took() {
    if !has("nfcapd") || !has("nfreplay") {
        return;
    }
    let bench = Bench::new();
    let sent = datagrams(10);
    bench.write("e.pcap", pcap(&exports(&sent, 2_055))).write("nf/x", "");
    let want = sums(&bench.weir("replay e.pcap --netflow -o -", 0).lines());
    assert_eq!(want.len(), 300);

    let (port, _) = free_ports();
    let log = File::create(bench.path("nfcapd.log")).expect("a log");
    let mut nfcapd = Command::new("nfcapd");
    nfcapd.arg("-w").arg(bench.path("nf")).args(["-b", "127.0.0.1", "-p", &port.to_string()]);
    nfcapd.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    let mut nfcapd = Program(nfcapd.spawn().expect("spawned"));
    wait_for("nfcapd", || {
        assert!(nfcapd.0.try_wait().expect("a child").is_none(), "{}", bench.read("nfcapd.log"));
        bench.read("nfcapd.log").contains("Startup").then_some(())
    });
    let exporter = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for datagram in &sent {
        exporter.send_to(datagram, ("127.0.0.1", port)).expect("sent");
    }
    wait_for("nfcapd, to read", || waiting(port).filter(|&octets| octets == 0));
    kill(&nfcapd.0, libc::SIGTERM);
    reap(&mut nfcapd.0);
    let taken = fs::read_dir(bench.path("nf")).expect("a folder").map(|e| e.expect("one").path());
    let name = |path: &std::path::Path| path.file_name().expect("a name").to_owned();
    let taken: Vec<_> =
        taken.filter(|path| name(path).to_string_lossy().starts_with("nfcapd.2")).collect();
    assert_eq!(taken.len(), 1, "{}", bench.read("nfcapd.log"));

    for version in ["5", "9"] {
        let found = collected(want.len(), |bench, sensor| {
            let mut nfreplay = Command::new("nfreplay");
            nfreplay.arg("-r").arg(&taken[0]).args(["-H", "127.0.0.1", "-v", version]);
            nfreplay.args(["-p", &sensor.netflow.to_string()]);
            finish(nfreplay, bench, "nfreplay.log");
        });
        assert_eq!(found, want, "version {version}");
    }
    println!("nfreplay: 2 versions, {} directions of flows agree", want.len());
}
