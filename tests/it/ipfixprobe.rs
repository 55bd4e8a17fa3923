//! Biflows of another meter over the same captures.

use std::collections::BTreeMap;
use std::path::Path;

use weir::config::Config;
use weir::flow::{Biflow, Side};
use weir::net::Addr;

use crate::harness::Run;
use crate::support;

/// Capture, output, rows: every biflow of the capture is there.
const WHOLE: [(&str, &str, usize); 11] = [
    ("mixed", "basic", 48),
    ("http", "basicplus", 9),
    ("http", "http", 9),
    ("mqtt", "mqtt", 5),
    ("dnssd", "dnssd", 8),
    ("idpcontent", "idpcontent", 1),
    ("quic_initial-sample", "quic", 1),
    ("ssdp", "ssdp", 19),
    ("vlan", "vlan", 3),
    ("mixed", "phists", 48),
    ("mixed", "pstats", 48),
];

/// Capture, output: the biflows for which a plugin had something to say.
const PART: [(&str, &str); 6] = [
    ("bstats", "bstats"),
    ("mixed", "nettisa"),
    ("ovpn", "ovpn"),
    ("ovpn", "ssadetector"),
    ("smtp", "smtp"),
    ("tls", "tls"),
];

/// VLAN where it is shown, protocol, initiator and port, responder and port.
type Ends = (Option<u16>, u8, Addr, u16, Addr, u16);
/// Forward and backward packets, forward and backward octets.
type Counts = [u64; 4];
/// First and last time in microseconds, TCP flags each way.
type Rest = (i64, i64, u16, u16);
type Row = (Ends, Counts, Rest);

/// The rows of an output: comma-separated, and its last line names the columns.
fn theirs(path: &Path) -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true).from_path(path);
    let mut records: Vec<_> =
        reader.expect("an output").records().map(|record| record.expect("a row")).collect();
    let header = records.pop().expect("a last line");
    let names: BTreeMap<&str, usize> = header
        .iter()
        .enumerate()
        .map(|(column, name)| (name.split(' ').next_back().expect("a name"), column))
        .collect();
    records
        .iter()
        .map(|record| {
            let text = |name: &str| &record[names[name]];
            let number = |name: &str| text(name).parse::<u64>().expect("a number");
            let small = |name: &str| u16::try_from(number(name)).expect("16 bits");
            let address = |name: &str| text(name).parse::<Addr>().expect("an address");
            let time = |name: &str| {
                let time = format!("{}Z", text(name)).parse::<jiff::Timestamp>();
                time.expect("a time").as_microsecond()
            };
            let vlan = names.contains_key("VLAN_ID").then(|| small("VLAN_ID"));
            let protocol = u8::try_from(small("PROTOCOL")).expect("8 bits");
            let (src, dst) = (address("SRC_IP"), address("DST_IP"));
            let ends = (vlan, protocol, src, small("SRC_PORT"), dst, small("DST_PORT"));
            let counts = ["PACKETS", "PACKETS_REV", "BYTES", "BYTES_REV"].map(number);
            let flags = (small("TCP_FLAGS"), small("TCP_FLAGS_REV"));
            (ends, counts, (time("TIME_FIRST"), time("TIME_LAST"), flags.0, flags.1))
        })
        .collect()
}

/// Our slices as rows of such an output, with the timeouts and the key of that meter.
fn ours(path: &Path, with_vlan: bool) -> Vec<Row> {
    let mut config = Config::default();
    let timeouts = &mut config.flow.packets;
    (timeouts.idle_timeout_s, timeouts.active_timeout_s) = (30, 300);
    config.flow.linger_s = 30;
    config.flow.vlan_in_key = true;
    config.flow.tunnels = false;
    let replayed = Run { config, ..Run::default() }.whole(path);
    let row = |flow: &Biflow| {
        let icmp = matches!(flow.protocol, 1 | 58);
        let port = |port: u16| if icmp { 0 } else { port };
        let vlan = with_vlan.then(|| flow.vlan.unwrap_or(0));
        let (src_port, dst_port) = (port(flow.src_port), port(flow.dst_port));
        // Theirs are the eight flags of one octet.
        let flags = |side: &Side| side.tcp_flags.unwrap_or(0) & 0xff;
        let (fwd, bwd) = (&flow.fwd, &flow.bwd);
        (
            (vlan, flow.protocol, flow.src, src_port, flow.dst, dst_port),
            [fwd.packets, bwd.packets, fwd.octets, bwd.octets],
            (flow.first.0, flow.last.0, flags(fwd), flags(bwd)),
        )
    };
    replayed.slices.iter().map(|tagged| row(&tagged.slice.flow)).collect()
}

/// Rows of `tls` that are two flows of ours each. Its capture holds the traffic of 2015 twice, with
/// that of 2020 in between. To the other meter, which goes by the packets' own times, the second
/// pass falls into the flows of the first. Our input clock never runs backwards: when the second
/// pass comes, the flows of the first have been idle for years.
const JOINED: (&str, usize) = ("tls", 6);

/// How an output compares.
#[derive(Debug, Default)]
struct Compared {
    /// Rows whose ends and counts are equal.
    equal: usize,
    /// Of those: rows whose times and flags are, too.
    exact: usize,
    /// Rows that are the sum of several flows of ours.
    joined: usize,
    missing: Vec<Row>,
    /// Flows of ours that are not in the output.
    besides: Vec<Row>,
}

fn compare(theirs: Vec<Row>, ours: Vec<Row>) -> Compared {
    let mut compared = Compared { besides: ours, ..Compared::default() };
    for row in theirs {
        let left = &mut compared.besides;
        let exact = left.iter().position(|our| *our == row);
        let close = || left.iter().position(|our| (our.0, our.1) == (row.0, row.1));
        if let Some(at) = exact.or_else(close) {
            compared.equal += 1;
            compared.exact += usize::from(exact.is_some());
            left.remove(at);
            continue;
        }
        let (parts, others): (Vec<_>, Vec<_>) = left.drain(..).partition(|our| our.0 == row.0);
        let mut sum = [0; 4];
        for (of, part) in parts.iter().flat_map(|part| part.1.iter().enumerate()) {
            sum[of] += part;
        }
        if parts.len() > 1 && sum == row.1 {
            compared.joined += 1;
            *left = others;
        } else {
            *left = [parts, others].concat();
            compared.missing.push(row);
        }
    }
    compared
}

#[test]
fn biflows_equal_those_of_ipfixprobe() {
    let Some(folder) = support::vectors("packets/ipfixprobe") else { return };
    let whole = WHOLE.map(|(capture, output, rows)| (capture, output, Some(rows)));
    let part = PART.map(|(capture, output)| (capture, output, None));
    let (mut rows, mut bad) = (0, Vec::new());
    for (capture, output, complete) in whole.into_iter().chain(part) {
        let theirs = theirs(&folder.join("outputs").join(output));
        let count = theirs.len();
        rows += count;
        assert!(count > 0 && complete.is_none_or(|rows| rows == count), "{output}: {count} rows");
        let with_vlan = theirs[0].0.0.is_some();
        let ours = ours(&folder.join(format!("inputs/{capture}.pcap")), with_vlan);
        let Compared { equal, exact, joined, missing, besides } = compare(theirs, ours);
        eprintln!(
            "{output}: {equal} of {count} rows equal, {exact} of them in times and flags too; \
             {joined} explained; {} flows besides",
            besides.len()
        );
        let explained = if output == JOINED.0 { JOINED.1 } else { 0 };
        let besides = if complete.is_some() { besides } else { Vec::new() };
        if !missing.is_empty() || !besides.is_empty() || joined != explained || exact != equal {
            bad.push(format!(
                "{output}: {joined} joined, missing {missing:?}, besides {besides:?}"
            ));
        }
    }
    eprintln!("{rows} rows of 17 outputs");
    assert_eq!(bad, Vec::<String>::new());
}
