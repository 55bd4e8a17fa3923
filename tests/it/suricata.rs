//! What Suricata's own tests expect of its flow and netflow events: the same of our flows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use weir::config::Config;
use weir::flow::{Biflow, Side, community_id};
use weir::net::Addr;

use crate::harness::Run;
use crate::support;

/// One filter over the events of a test's run: at least `count` must fit.
#[derive(Debug, Deserialize)]
struct Filter {
    test: String,
    pcap: PathBuf,
    count: usize,
    #[serde(rename = "match")]
    wanted: Map<String, Value>,
    args: Option<Vec<String>>,
}

/// Arguments with which the tool does something else than to meter what it reads.
const ARGUMENTS: &str = "simulate-(packet|applayer)|midstream|policy|memcap|depth=|async|bypass|\
                         flow-timeouts|use-for-tracking|decoder\\.";

/// Keys that tell of something that no flow meter knows: applications, verdicts and engine states,
/// the shape of the event; and what we do not carry: MAC addresses, the type of an ICMP answer.
const NOT_METERED: [&str; 16] = [
    "event_type",
    "app_proto",
    "flow.alerted",
    "flow.action",
    "flow.state",
    "flow.reason",
    "flow.exception_policy",
    "flow.tx_cnt",
    "tcp.state",
    "tcp.tc_max",
    "tcp.ts_max",
    "traffic",
    "metadata",
    "spi",
    "ether.",
    "response_icmp",
];

/// Seeds of community ids that tests set, by how their names begin; else 0.
const SEEDS: [(&str, u16); 4] = [
    ("nfs3-01", 1_234),
    ("community-id-ipv4", 7),
    ("community-id-ipv6", 7),
    ("community-id-sameip", 1),
];

/// In what a test's events differ from ours.
enum Differs {
    /// In these values alone; all others fit.
    In(&'static [&'static str]),
    /// A packet that was taken out of a tunnel counts in its innermost flow only (DESIGN 4). The
    /// tool has the outer flow besides: it is ours, too, where tunnels are not opened.
    Outer,
    /// There are not as many such flows.
    Flows,
}

/// Differences that are meant, by test, each with its reason.
const EXPLAINED: [(&str, Differs, &str); 13] = [
    ("bug-6402-01", Differs::Outer, "the Geneve flow around the TCP flow"),
    (
        "decode-erspan-typeII-01",
        Differs::In(&["flow.bytes_toclient", "flow.bytes_toserver", "vlan[0]"]),
        "layer-2 octets are the whole frame's, not the inner packet's; the VLAN id is that of the \
         frame's tag, not the one in the ERSPAN header",
    ),
    ("decode-nsh-type1", Differs::Flows, "NSH (RFC 8300) is not opened"),
    ("decode-nsh-type2", Differs::Flows, "NSH (RFC 8300) is not opened"),
    (
        "eve-flow-esp",
        Differs::In(&["flow.pkts_toserver", "netflow.pkts"]),
        "the SPI of ESP is not a part of the key: two associations are one flow",
    ),
    (
        "firewall/ruletype-firewall-38-ssh-vs-telnet",
        Differs::In(&["flow.pkts_toserver"]),
        "inline: packets that the engine drops are not all counted",
    ),
    (
        "firewall/ruletype-firewall-39-pre-stream",
        Differs::In(&["tcp.tcp_flags"]),
        "inline: dropped packets do not reach the engine's TCP state",
    ),
    (
        "firewall/ruletype-firewall-40-pre-stream-wscale",
        Differs::In(&["tcp.tcp_flags"]),
        "inline: dropped packets do not reach the engine's TCP state",
    ),
    (
        "firewall/ruletype-firewall-50-ruleset-vs-ping",
        Differs::In(&["flow.pkts_toserver"]),
        "inline: the packet that the engine drops is not counted",
    ),
    (
        "flow-pkt-recursion/ids-tunnel-pkt-flows-recursion-included",
        Differs::Flows,
        "the depth of the tunnel is not a part of the key: both ways of a ping are one flow",
    ),
    (
        "flow-pkt-recursion/ips-tunnel-pkt-flows-recursion-included",
        Differs::Flows,
        "the depth of the tunnel is not a part of the key: both ways of a ping are one flow",
    ),
    (
        "geneve-decoder",
        Differs::In(&["flow.bytes_toclient", "flow.bytes_toserver"]),
        "layer-2 octets are the whole frame's, not the inner packet's",
    ),
    (
        "smtp-eve",
        Differs::In(&["flow.bytes_toclient", "flow.pkts_toclient"]),
        "ICMP errors are a flow of their own, not packets of the flow that they are about",
    ),
];

/// A flow event, or one direction of a flow as a netflow event.
#[derive(Clone, Debug)]
struct Event {
    flow: Biflow,
    /// Of a netflow event: whether it is of the backward direction.
    backward: Option<bool>,
}

impl Filter {
    fn applies(&self, folder: &Path, arguments: &regex::Regex) -> bool {
        let test = folder.join("expect").join(&self.test).join("test.yaml");
        let test = std::fs::read_to_string(test).expect("the test's own file");
        let args = self.args.as_deref().unwrap_or_default().join(" ");
        !test.contains("lt-version") && self.count > 0 && !arguments.is_match(&args)
    }

    fn netflow(&self) -> bool {
        self.wanted["event_type"] == "netflow"
    }

    /// How many of `events` have the wanted value of each key that a meter knows, but for those
    /// `without`.
    fn fit(&self, events: &[Event], without: &[&str]) -> usize {
        let seed = SEEDS.iter().find(|(test, _)| self.test.starts_with(test));
        let seed = seed.map_or(0, |seed| seed.1);
        let keys = self.wanted.iter().filter(|(key, _)| {
            let unknown = NOT_METERED.iter().any(|start| key.starts_with(start));
            !unknown && !key.ends_with("has-key") && !without.contains(&key.as_str())
        });
        let keys: Vec<_> = keys.collect();
        let fits = |event: &&Event| keys.iter().all(|(key, want)| event.has(key, want, seed));
        events.iter().filter(fits).count()
    }
}

impl Event {
    fn all(flows: &[Biflow], netflow: bool) -> Vec<Self> {
        let event = |flow: &Biflow, backward| Self { flow: flow.clone(), backward };
        if !netflow {
            return flows.iter().map(|flow| event(flow, None)).collect();
        }
        let forward = flows.iter().map(|flow| event(flow, Some(false)));
        let answered = flows.iter().filter(|flow| flow.bwd.packets > 0);
        forward.chain(answered.map(|flow| event(flow, Some(true)))).collect()
    }

    fn has(&self, key: &str, want: &Value, seed: u16) -> bool {
        let flow = &self.flow;
        let backward = self.backward == Some(true);
        let ends = [(flow.src, flow.src_port), (flow.dst, flow.dst_port)];
        let (from, to) = (ends[usize::from(backward)], ends[usize::from(!backward)]);
        let sides = [&flow.fwd, &flow.bwd];
        let side = sides[usize::from(backward)];
        let both = flags(&flow.fwd) | flags(&flow.bwd);
        // Whole seconds are subtracted, as the tool does.
        let age = flow.last.0.div_euclid(1_000_000) - flow.first.0.div_euclid(1_000_000);
        let number = |value: u64| want.as_u64() == Some(value);
        let flag = |bit: u16| want.as_bool() == Some(both & bit != 0);
        let hex = |value: u16| want.as_str() == Some(&format!("{value:02x}"));
        let octets = |side: &Side| number(side.octets_l2.unwrap_or(0));
        let ttl = || number(u64::from(side.ttl.unwrap_or(0)));
        match key {
            "src_ip" => address(want) == Some(from.0),
            "dest_ip" => address(want) == Some(to.0),
            "src_port" => number(from.1.into()),
            "dest_port" => number(to.1.into()),
            "icmp_type" => number(flow.src_port.into()),
            "icmp_code" => number(flow.dst_port.into()),
            "proto" => want.as_str() == Some(&protocol(flow.protocol)),
            "ip_v" => number(if flow.src.is_v4() { 4 } else { 6 }),
            "vlan[0]" => number(flow.vlan.unwrap_or(0).into()),
            // A list as text; the outermost comes first.
            "vlan" => want.as_str().is_some_and(|list| {
                let first = list.trim_matches(['[', ']']).split(',').next();
                first.and_then(|id| id.trim().parse().ok()) == flow.vlan
            }),
            "community_id" => want.as_str() == Some(&community_id(flow, seed)),
            "flow.pkts_toserver" => number(flow.fwd.packets),
            "flow.pkts_toclient" => number(flow.bwd.packets),
            "flow.bytes_toserver" => octets(&flow.fwd),
            "flow.bytes_toclient" => octets(&flow.bwd),
            "netflow.pkts" => number(side.packets),
            "netflow.bytes" => octets(side),
            "netflow.min_ttl" | "netflow.max_ttl" => ttl(),
            "flow.age" | "netflow.age" => want.as_i64() == Some(age),
            "flow.start" | "netflow.start" => time(want) == Some(flow.first.0),
            "flow.end" | "netflow.end" => time(want) == Some(flow.last.0),
            "tcp.tcp_flags" => hex(both),
            "tcp.tcp_flags_ts" => hex(flags(&flow.fwd)),
            "tcp.tcp_flags_tc" => hex(flags(&flow.bwd)),
            "tcp.fin" => flag(1),
            "tcp.syn" => flag(2),
            "tcp.rst" => flag(4),
            "tcp.psh" => flag(8),
            "tcp.ack" => flag(16),
            other => panic!("a key that this test does not know: {other}"),
        }
    }
}

/// Flags of one octet, as the tool keeps them.
fn flags(side: &Side) -> u16 {
    side.tcp_flags.unwrap_or(0) & 0xff
}

fn address(value: &Value) -> Option<Addr> {
    value.as_str()?.parse().ok()
}

fn time(value: &Value) -> Option<i64> {
    let time = jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", value.as_str()?);
    Some(time.ok()?.as_microsecond())
}

fn protocol(number: u8) -> String {
    let names = [(1, "ICMP"), (6, "TCP"), (17, "UDP"), (41, "IPv6"), (58, "IPv6-ICMP")];
    let names = names.iter().chain(&[(132, "SCTP")]);
    let mut names = names.filter(|known| known.0 == number).map(|known| known.1.to_owned());
    names.next().unwrap_or_else(|| number.to_string())
}

/// Flows of a capture; timeouts are long, as there: nothing times out within a test.
fn flows_of(path: &Path, tunnels: bool) -> Vec<Biflow> {
    let mut config = Config::default();
    let timeouts = &mut config.flow.packets;
    (timeouts.idle_timeout_s, timeouts.active_timeout_s) = (600, 86_400);
    config.flow.linger_s = 60;
    config.flow.vlan_in_key = true;
    config.flow.tunnels = tunnels;
    let replayed = Run { config, ..Run::default() }.whole(path);
    replayed.slices.into_iter().map(|tagged| tagged.slice.flow).collect()
}

#[test]
fn flows_fit_the_filters_of_suricata() {
    let Some(folder) = support::vectors("packets/suricata-verify") else { return };
    let text = std::fs::read(folder.join("flow_expect.json")).expect("the filters");
    let mut filters: Vec<Filter> = serde_json::from_slice(&text).expect("filters");
    let arguments = regex::Regex::new(ARGUMENTS).expect("an expression");
    filters.retain(|filter| filter.applies(&folder, &arguments));
    let with = |part: &str| {
        filters.iter().filter(|f| f.wanted.keys().any(|key| key.contains(part))).count()
    };
    assert_eq!((filters.len(), with("pkts"), with("bytes")), (324, 163, 77));
    let (mut met, mut explained, mut bad) = (0, BTreeMap::new(), Vec::new());
    let mut cache = BTreeMap::new();
    for filter in &filters {
        let mut events = |tunnels| {
            let path = folder.join(&filter.pcap);
            let flows = cache.entry((path, tunnels));
            let flows = flows.or_insert_with_key(|(path, tunnels)| flows_of(path, *tunnels));
            Event::all(flows, filter.netflow())
        };
        let inner = events(true);
        if filter.fit(&inner, &[]) >= filter.count {
            met += 1;
            continue;
        }
        let known = EXPLAINED.iter().find(|(test, ..)| *test == filter.test);
        let holds = known.is_some_and(|(_, differs, _)| match differs {
            Differs::In(keys) => filter.fit(&inner, keys) >= filter.count,
            Differs::Outer => {
                filter.fit(&inner, &[]) + filter.fit(&events(false), &[]) >= filter.count
            }
            Differs::Flows => true,
        });
        match known {
            Some((test, _, why)) if holds => *explained.entry((test, why)).or_insert(0) += 1,
            _ => bad.push((&filter.test, &filter.wanted, inner)),
        }
    }
    eprintln!("{} filters of {} captures: {met} met", filters.len(), captures(&filters));
    for ((test, why), count) in &explained {
        eprintln!("{test}: {count} explained: {why}");
    }
    assert!(bad.is_empty(), "{bad:#?}");
    // Each explanation is needed: else it would hide what breaks later.
    assert_eq!(explained.len(), EXPLAINED.len(), "explanations that nothing needs");
}

fn captures(filters: &[Filter]) -> usize {
    filters.iter().map(|filter| &filter.pcap).collect::<BTreeSet<_>>().len()
}
