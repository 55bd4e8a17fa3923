//! IPFIX export: read back by Weir itself, by tshark and by nfcapd.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weir::config::{Carrier, Ipfix};
use weir::net::Addr;
use weir::output::remote::ipfix::ipfix;
use weir::output::spool::Target;

use super::{Given, deliver, fails, slices, there};
use crate::captures::{exports, pcap};
use crate::system::{Bench, free_ports, kill, reap, wait_for};

/// Slices of IPv4 and IPv6, TCP and ICMP, some of one direction only.
fn traffic(count: usize) -> Given {
    let mut given = slices(count);
    for (number, tagged) in given.batch.slices.iter_mut().enumerate() {
        let flow = &mut tagged.slice.flow;
        if number % 4 == 1 {
            flow.src = Addr(0x2001_0db8 << 96 | number as u128);
            flow.dst = Addr(0x2001_0db8 << 96 | 0xffff);
        }
        if number % 5 == 2 {
            (flow.protocol, flow.src_port, flow.dst_port) = (1, 8, 0);
            (flow.fwd.tcp_flags, flow.bwd.tcp_flags) = (None, None);
            if !flow.src.is_v4() {
                (flow.protocol, flow.src_port) = (58, 128);
            }
        }
        if number % 7 == 3 {
            flow.bwd = weir::flow::Side::default();
        }
        (flow.in_if, flow.out_if) = (Some(3), Some(4));
    }
    given
}

/// What a record tells: addresses, ports, protocol, octets and packets of both directions.
type Told = (String, String, u64, u64, u64, [u64; 4]);

fn told(given: &Given) -> BTreeSet<Told> {
    let slices = given.batch.slices.iter().map(|tagged| &tagged.slice.flow);
    let one = |flow: &weir::flow::Biflow| {
        let counts = [flow.fwd.octets, flow.bwd.octets, flow.fwd.packets, flow.bwd.packets];
        let (src, dst) = (flow.src.to_string(), flow.dst.to_string());
        (src, dst, flow.src_port.into(), flow.dst_port.into(), flow.protocol.into(), counts)
    };
    slices.map(one).collect()
}

/// What `weir replay --netflow` reads of `messages`.
fn read_back(bench: &Bench, messages: &[Vec<u8>]) -> BTreeSet<Told> {
    bench.write("e.pcap", pcap(&exports(messages, 4_739)));
    let ended = bench.weir("replay e.pcap --netflow -o -", 0);
    let one = |slice: &Value| {
        let number = |key: &str| slice[key].as_u64().expect(key);
        let text = |key: &str| slice[key].as_str().expect(key).to_owned();
        let counts = ["fwd_bytes", "bwd_bytes", "fwd_pkts", "bwd_pkts"].map(number);
        let ends = (text("src_ip"), text("dest_ip"));
        (ends.0, ends.1, number("src_port"), number("dest_port"), number("protocol"), counts)
    };
    ended.lines().iter().map(one).collect()
}

fn udp(port: u16) -> Ipfix {
    let address = format!("127.0.0.1:{port}");
    Ipfix { address, transport: Carrier::Udp, domain: 77, ..Ipfix::default() }
}

/// All datagrams that wait.
fn datagrams(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let (mut messages, mut buffer) = (Vec::new(), vec![0; 65_536]);
    while let Ok(octets) = socket.recv(&mut buffer) {
        messages.push(buffer[..octets].to_vec());
    }
    messages
}

/// The whole messages of a stream.
fn messages(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut found) = (stream, Vec::new());
    while rest.len() >= 16 {
        assert_eq!(rest[..2], [0, 10], "a header");
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        found.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    assert!(rest.is_empty(), "whole messages");
    found
}

/// Export of `units` over UDP to a socket.
fn exported(sink: impl FnOnce(u16) -> Ipfix, units: &[&Given]) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut target = ipfix(&sink(socket.local_addr().expect("bound").port()));
    let mut all = Vec::new();
    for unit in units {
        deliver(&mut *target, unit);
        all.extend(datagrams(&socket));
    }
    all
}

fn word(message: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(message[at..at + 4].try_into().expect("four octets"))
}

#[test]
fn weir_reads_back_what_it_exports_over_udp() {
    let (bench, given) = (Bench::new(), traffic(300));
    let sent = exported(udp, &[&given]);
    assert!(sent.iter().all(|message| message.len() <= 1_400), "as the path takes them");
    assert_eq!(read_back(&bench, &sent), told(&given));
}

#[test]
fn weir_reads_back_what_it_exports_over_tcp() {
    let (bench, given) = (Bench::new(), traffic(3_000));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let reader = std::thread::spawn(move || {
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let (mut session, _) = listener.accept().expect("a session");
            let mut octets = Vec::new();
            session.read_to_end(&mut octets).expect("readable");
            sessions.push(octets);
        }
        sessions
    });
    let sink = Ipfix { address, ..Ipfix::default() };
    for _ in 0..2 {
        deliver(&mut *ipfix(&sink), &given);
    }
    for session in reader.join().expect("no panic") {
        let messages = messages(&session);
        assert_eq!(word(&messages[0], 8), 0, "a session begins with 0");
        assert_eq!(read_back(&bench, &messages), told(&given));
    }
}

/// A collector that ends with octets that it has not read: they come again down the next session,
/// which counts them from 0 on.
#[test]
fn what_a_collector_may_not_have_read_goes_again() {
    let (bench, given) = (Bench::new(), traffic(600));
    let mut more = Given { offset: 9, ..traffic(650) };
    more.batch.slices.drain(..600);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let reads = |mut session: std::net::TcpStream| {
        let mut octets = Vec::new();
        session.read_to_end(&mut octets).expect("readable");
        messages(&octets)
    };
    for resend_bytes in [8 << 20, 0] {
        let sink = Ipfix { address: address.clone(), resend_bytes, ..Ipfix::default() };
        let mut target = ipfix(&sink);
        deliver(&mut *target, &given);
        // All of it is in this side's kernel, and goes with it.
        let (session, _) = listener.accept().expect("a session");
        drop(session);
        let reader = std::thread::scope(|scope| {
            let reader = scope.spawn(|| reads(listener.accept().expect("a session").0));
            deliver(&mut *target, &more);
            drop(target);
            reader.join().expect("no panic")
        });
        let mut want = told(&more);
        if resend_bytes > 0 {
            want.extend(told(&given));
        }
        assert!(read_back(&bench, &reader) == want, "resend_bytes {resend_bytes}");
        let mut records = 0;
        for message in &reader {
            assert_eq!(word(message, 8), records, "the sequence of this session");
            records +=
                u32::try_from(read_back(&bench, &[reader[0].clone(), message.clone()]).len())
                    .expect("few");
        }
        assert_eq!(records as usize, if resend_bytes > 0 { 650 } else { 50 });
    }
}

#[test]
fn the_sequence_counts_records_and_templates_come_again() {
    let (one, two) = (traffic(100), traffic(50));
    let sink = |port| Ipfix { template_refresh_s: 1, ..udp(port) };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut target = ipfix(&sink(socket.local_addr().expect("bound").port()));
    let templates =
        |messages: &[Vec<u8>]| messages.iter().filter(|message| message[16..18] == [0, 2]).count();
    deliver(&mut *target, &one);
    let first = datagrams(&socket);
    deliver(&mut *target, &two);
    let second = datagrams(&socket);
    assert_eq!((templates(&first), templates(&second)), (1, 0));
    assert_eq!(word(&second[0], 8), 100, "the records before");
    assert!(first.iter().all(|message| word(message, 12) == 77), "one domain");
    std::thread::sleep(Duration::from_millis(1_100));
    deliver(&mut *target, &two);
    let third = datagrams(&socket);
    assert_eq!((templates(&third), word(&third[0], 8)), (1, 150));
}

#[test]
fn tshark_reads_every_field_and_finds_no_fault() {
    if !there("tshark") {
        return;
    }
    let (bench, given) = (Bench::new(), traffic(40));
    let sent = exported(udp, &[&given]);
    bench.write("e.pcap", pcap(&exports(&sent, 4_739)));
    let fields = ["cflow.octets", "cflow.packets", "cflow.sequence", "_ws.expert.message"];
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(bench.path("e.pcap")).args(["-d", "udp.port==4739,cflow", "-T", "fields"]);
    tshark.args(fields.iter().flat_map(|field| ["-e", field]));
    let output = tshark.output().expect("tshark");
    let text = String::from_utf8(output.stdout).expect("text");
    let (mut octets, mut packets) = (0, 0);
    for line in text.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let sum = |cell: &str| -> u64 {
            cell.split(',').filter(|n| !n.is_empty()).map(|n| n.parse::<u64>().expect(n)).sum()
        };
        (octets, packets) = (octets + sum(cells[0]), packets + sum(cells[1]));
        assert_eq!(cells.get(3).copied().unwrap_or(""), "", "{line}");
    }
    let want = told(&given).iter().fold((0, 0), |sum, told| {
        let [fwd, bwd, fwd_packets, bwd_packets] = told.5;
        (sum.0 + fwd + bwd, sum.1 + fwd_packets + bwd_packets)
    });
    assert_eq!((octets, packets), want, "{text}");
}

#[test]
fn nfcapd_collects_biflows_and_single_directions() {
    if !there("nfcapd") || !there("nfdump") {
        return;
    }
    for biflow in [true, false] {
        let bench = Bench::new();
        bench.write("nf/x", "");
        let (port, _) = free_ports();
        let log = std::fs::File::create(bench.path("nfcapd.log")).expect("a log");
        let mut nfcapd = Command::new("nfcapd");
        nfcapd.arg("-w").arg(bench.path("nf"));
        nfcapd.args(["-b", "127.0.0.1", "-p", &port.to_string()]);
        nfcapd.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let mut nfcapd = nfcapd.spawn().expect("spawned");
        wait_for("nfcapd", || bench.read("nfcapd.log").contains("Startup").then_some(()));
        let given = traffic(200);
        deliver(&mut *ipfix(&Ipfix { biflow, ..udp(port) }), &given);
        std::thread::sleep(Duration::from_millis(500));
        kill(&nfcapd, libc::SIGTERM);
        reap(&mut nfcapd);
        let mut nfdump = Command::new("nfdump");
        nfdump.arg("-R").arg(bench.path("nf")).args(["-q", "-N", "-o"]);
        nfdump.arg("fmt:%sa,%da,%sp,%dp,%pr,%byt,%pkt,%obyt,%opkt");
        let output = nfdump.output().expect("nfdump");
        let text = String::from_utf8(output.stdout).expect("text");
        let mut found: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
        for line in text.lines().filter(|line| line.contains(',')) {
            let cells: Vec<String> = line.split(',').map(|cell| cell.trim().to_owned()).collect();
            let number = |at: usize| cells[at].parse::<u64>().expect(line);
            let mut add = |src: &str, dst: &str, octets, packets| {
                let sum = found.entry((src.to_owned(), dst.to_owned())).or_default();
                *sum = [sum[0] + octets, sum[1] + packets];
            };
            add(&cells[0], &cells[1], number(5), number(6));
            if biflow && number(8) > 0 {
                add(&cells[1], &cells[0], number(7), number(8));
            }
        }
        let mut want: BTreeMap<(String, String), [u64; 2]> = BTreeMap::new();
        for (src, dst, _, _, _, [fwd, bwd, fwd_packets, bwd_packets]) in told(&given) {
            let mut add = |src: &str, dst: &str, octets, packets| {
                if packets > 0 {
                    let sum = want.entry((src.to_owned(), dst.to_owned())).or_default();
                    *sum = [sum[0] + octets, sum[1] + packets];
                }
            };
            add(&src, &dst, fwd, fwd_packets);
            add(&dst, &src, bwd, bwd_packets);
        }
        assert_eq!(
            found.len(),
            want.len(),
            "biflow {biflow}: {text}\n{}",
            bench.read("nfcapd.log")
        );
        assert_eq!(found, want, "biflow {biflow}");
    }
}

#[test]
fn a_collector_that_is_away_is_told_of() {
    let (_, port) = free_ports();
    let address = format!("127.0.0.1:{port}");
    let sink = Ipfix { address: address.clone(), ..Ipfix::default() };
    let (reason, message) = fails(&mut *ipfix(&sink), &traffic(1));
    assert_eq!(reason, "connect");
    assert!(message.starts_with(&address), "{message}");
    let (port, _) = free_ports();
    let mut target: Box<dyn Target> = ipfix(&udp(port));
    let (reason, _) = fails(&mut *target, &traffic(1));
    assert_eq!(reason, "connect", "the kernel says that nobody listens");
    let socket = UdpSocket::bind(("127.0.0.1", port)).expect("a socket");
    deliver(&mut *target, &traffic(5));
    let sent = datagrams(&socket);
    assert_eq!(sent[0][16..18], [0, 2], "templates come first again");
    assert_eq!(read_back(&Bench::new(), &sent).len(), 5);
}
