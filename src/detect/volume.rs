//! Exfiltration by volume: what a host sends out in an hour, against what it is used to send.
//!
//! By one pair's flows nothing tells an upload to a new place from a backup to one; a host that
//! suddenly sends many times what it ever sent is worth a look. So of every host at home the octets
//! that it sends out in conversations that it began are summed by hour of input time, and an hour is
//! alerted on that exceeds [`Host::limit`], a robust bound by the host's own last week. Nothing is
//! said of a host before a day of it is known.
//!
//! Sums come as [`Sent`], from whoever sees flows, in order of time; this module has no clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::alert::alert_id;
use super::sequence::Verdict;
use super::{Alert, Evidence, Level, RuleMeta, Technique, attack};
use crate::flow::{Biflow, Direction, FlowId, Side};
use crate::net::Addr;
use crate::time::{Micros, SECOND};

const HOUR_US: i64 = 3_600 * SECOND;
/// Hours that are remembered: a week.
const HISTORY: usize = 168;
/// Hours that must be known before anything is said: a day.
const HISTORY_MIN: usize = 24;
/// An hour is alerted on from so many standard deviations above the median, as the median absolute
/// deviation tells them,
const DEVIATIONS: f64 = 8.0;
/// and from so many times the highest hour that is remembered.
const TIMES_HIGHEST: f64 = 2.0;
/// What makes a standard deviation of the median absolute deviation of a normal distribution.
const NORMAL: f64 = 1.4826;
/// Destinations of an hour that are told apart; of more, the largest stay.
const PEERS: usize = 8;
/// Hosts that are looked at for the one that makes room.
const CANDIDATES: usize = 16;
/// Interned id in place of a rule's; no rule and no class of the model has it.
const UID: u32 = u32::MAX - 32;
/// The id of its alerts' rule.
pub const RULE: &str = "weir-volume-exfil";

/// Octets that a host sent to one address outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// When that was seen, by the input clock.
    pub time: Micros,
    /// Site of both.
    pub site: u16,
    /// The host, at home.
    pub host: Addr,
    /// Where to.
    pub peer: Addr,
    /// How many.
    pub octets: u64,
    /// On live input: when the last of it arrived, by the kernel's clock.
    pub arrived: Option<Micros>,
}

#[derive(Clone, Debug)]
struct Host {
    /// The present hour, since the epoch.
    hour: i64,
    /// Octets of the present hour.
    out: u64,
    /// Of these, where most went.
    peers: Vec<(Addr, u64)>,
    /// Past hours, the latest last, each cut to the limit of its time: one exfiltration does not
    /// make the next one usual.
    history: VecDeque<u64>,
    /// Whether the present hour was alerted on, or the one before and every hour since.
    alerted: bool,
}

impl Host {
    fn new(hour: i64) -> Self {
        Self { hour, out: 0, peers: Vec::new(), history: VecDeque::new(), alerted: false }
    }

    /// Ends hours until `hour` is the present one.
    fn pass(&mut self, hour: i64, floor: u64) {
        let mut silent = hour.saturating_sub(self.hour);
        if silent <= 0 {
            return;
        }
        let limit = self.limit(floor);
        self.alerted &= limit.is_some_and(|limit| self.out > limit);
        self.remember(limit.map_or(self.out, |limit| self.out.min(limit)));
        silent -= 1;
        self.alerted &= silent == 0;
        (0..silent.min(HISTORY as i64)).for_each(|_| self.remember(0));
        (self.hour, self.out) = (hour, 0);
        self.peers.clear();
    }

    fn remember(&mut self, octets: u64) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(octets);
    }

    /// The octets of an hour above which it is alerted on; none while too few hours are known.
    fn limit(&self, floor: u64) -> Option<u64> {
        if self.history.len() < HISTORY_MIN {
            return None;
        }
        let mut hours: Vec<f64> = self.history.iter().map(|&octets| octets as f64).collect();
        let highest = hours.iter().copied().fold(0.0, f64::max);
        let usual = median(&mut hours);
        hours.iter_mut().for_each(|octets| *octets = (*octets - usual).abs());
        let deviation = NORMAL * median(&mut hours);
        let limit = (usual + DEVIATIONS * deviation).max(TIMES_HIGHEST * highest);
        Some((limit as u64).max(floor))
    }

    fn count(&mut self, peer: Addr, octets: u64) {
        self.out = self.out.saturating_add(octets);
        if let Some((_, sum)) = self.peers.iter_mut().find(|(known, _)| *known == peer) {
            *sum = sum.saturating_add(octets);
        } else if self.peers.len() < PEERS {
            self.peers.push((peer, octets));
        } else if let Some(least) = self.peers.iter_mut().min_by_key(|(_, sum)| *sum)
            && least.1 < octets
        {
            *least = (peer, octets);
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[half - 1], values[half])
    } else {
        values[half]
    }
}

/// The hosts and their hours, in bounded memory: about 1.7 kB a host.
#[derive(Debug, Default)]
pub struct Volumes {
    hosts: BTreeMap<(u16, Addr), Host>,
    /// Where the next look for one that makes room begins.
    hand: (u16, Addr),
    /// Hosts that made room for others.
    pub evicted: u64,
    /// Alerts so far.
    pub raised: u64,
}

/// What the configuration wants of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VolumeLimits {
    /// Octets of an hour that are never alerted on.
    pub floor: u64,
    /// Hosts that are kept, at most.
    pub hosts_max: usize,
}

impl Volumes {
    /// How many hosts it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Counts what was sent. Returns an alert if the host's hour has come to exceed its limit: one
    /// for each run of such hours.
    pub fn take(&mut self, sent: &Sent, limits: VolumeLimits) -> Option<Alert> {
        let hour = sent.time.0.div_euclid(HOUR_US);
        let key = (sent.site, sent.host);
        if !self.hosts.contains_key(&key) && self.hosts.len() >= limits.hosts_max.max(1) {
            self.make_room();
        }
        let host = self.hosts.entry(key).or_insert_with(|| Host::new(hour));
        host.pass(hour, limits.floor);
        host.count(sent.peer, sent.octets);
        let limit = host.limit(limits.floor)?;
        if host.alerted || host.out <= limit {
            return None;
        }
        host.alerted = true;
        let alert = alert(sent, host, limit);
        self.raised += 1;
        Some(alert)
    }

    /// Takes one of a few hosts out, the one that was silent for longest.
    fn make_room(&mut self) {
        let few = self.hosts.range(self.hand..).chain(self.hosts.range(..self.hand));
        let few: Vec<_> = few.take(CANDIDATES + 1).map(|(key, host)| (host.hour, *key)).collect();
        let (looked_at, next) = few.split_at(few.len().min(CANDIDATES));
        self.hand = next.first().map_or(self.hand, |&(_, key)| key);
        if let Some((_, key)) = looked_at.iter().min() {
            self.hosts.remove(key);
            self.evicted += 1;
        }
    }
}

fn alert(sent: &Sent, host: &Host, limit: u64) -> Alert {
    let (peer, most) = host.peers.iter().copied().max_by_key(|&(_, sum)| sum).unwrap_or_default();
    let technique = "T1048";
    let rule = RuleMeta {
        uid: UID,
        id: RULE.to_owned(),
        title: "Far More Sent Out Than This Host Is Used To".to_owned(),
        level: Level::Medium,
        author: Some("Weir".to_owned()),
        link: None,
        tags: vec!["attack.exfiltration".to_owned(), "attack.t1048".to_owned()],
        tactics: vec!["exfiltration".to_owned()],
        techniques: vec![Technique {
            id: technique.to_owned(),
            name: attack::technique(technique).map(str::to_owned),
        }],
        file: "model".to_owned(),
        line: 1,
    };
    let mut hours: Vec<f64> = host.history.iter().map(|&octets| octets as f64).collect();
    let (usual, highest) = (median(&mut hours), hours.last().copied().unwrap_or(0.0));
    let megabytes = |octets: f64| format!("{:.1} MB", octets / 1e6);
    let evidence = |field: &str, predicate: &str, value: String| Evidence {
        field: field.to_owned(),
        predicate: predicate.to_owned(),
        value,
    };
    let above = format!("more than {} in an hour", megabytes(limit as f64));
    let first = Micros(host.hour.saturating_mul(HOUR_US));
    let flow_id = FlowId(alert_id(RULE, sent.host.0 ^ u128::from(sent.site)));
    Alert {
        id: alert_id(RULE, flow_id.0 ^ u128::from(sent.time.0.cast_unsigned())),
        time: sent.time,
        rule: Arc::new(rule),
        evidence: vec![
            evidence("octets_out", &above, megabytes(host.out as f64)),
            evidence(
                "usual",
                &format!("median and highest that count of its last {} hours", host.history.len()),
                format!("{}, {}", megabytes(usual), megabytes(highest)),
            ),
            evidence(
                "dest_ip",
                "where the largest part went",
                format!("{peer}: {}", megabytes(most as f64)),
            ),
        ],
        flow_id,
        flow: Biflow {
            site: sent.site,
            src: sent.host,
            dst: peer,
            first,
            last: sent.time,
            fwd: Side { octets: most, ..Side::default() },
            direction: Direction::Outbound,
            sampling_interval: Some(1),
            ..Biflow::default()
        },
        suppressed: 0,
        arrived: sent.arrived,
        verdict: None::<Verdict>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: VolumeLimits = VolumeLimits { floor: 50_000_000, hosts_max: 3 };
    const MB: u64 = 1_000_000;

    fn sent(hour: i64, host: u32, octets: u64) -> Sent {
        let time = Micros(hour * HOUR_US + 60 * SECOND);
        Sent {
            time,
            site: 0,
            host: Addr::v4(host),
            peer: Addr::v4(0x0808_0808),
            octets,
            arrived: Some(time.plus(SECOND)),
        }
    }

    /// The hours of the alerts on a host that sends so many megabytes in each hour.
    fn alerted(hours: &[u64]) -> Vec<usize> {
        let mut volumes = Volumes::default();
        let raised = |hour: usize| {
            let sent = sent(hour as i64, 1, hours[hour] * MB);
            volumes.take(&sent, LIMITS).map(|_| hour)
        };
        (0..hours.len()).filter(|&hour| hours[hour] > 0).filter_map(raised).collect()
    }

    #[test]
    fn an_hour_is_alerted_on_by_what_its_host_is_used_to() {
        let day = |octets: u64| [octets; 24];
        let nightly: Vec<u64> = (0..96).map(|hour| if hour % 24 == 3 { 900 } else { 1 }).collect();
        for (name, hours, want) in [
            ("far above", [&day(10)[..], &[400]].concat(), vec![24]),
            ("too little is known of it", [&day(10)[..20], &[400]].concat(), vec![]),
            ("below the floor", [&day(1)[..], &[49]].concat(), vec![]),
            ("not twice the highest", [&day(300)[..], &[590]].concat(), vec![]),
            ("a backup each night", nightly, vec![]),
            ("one alert for one run", [&day(10)[..], &[400, 400, 10, 400]].concat(), vec![24, 27]),
            (
                "the next one is not usual",
                [&day(10)[..], &[900], &day(10), &[900]].concat(),
                vec![24, 49],
            ),
            ("silent hours count", [&[5][..], &[0; 24], &[400]].concat(), vec![25]),
        ] {
            assert_eq!(alerted(&hours), want, "{name}");
        }
    }

    #[test]
    fn an_alert_names_where_most_went() {
        let mut volumes = Volumes::default();
        (0..30).for_each(|hour| drop(volumes.take(&sent(hour, 1, MB), LIMITS)));
        for (peer, octets) in (1..20).map(|peer| (peer, u64::from(peer) * 100_000)) {
            let other = Sent { peer: Addr::v4(peer), ..sent(30, 1, octets) };
            assert!(volumes.take(&other, LIMITS).is_none(), "{peer}");
        }
        let alert = volumes.take(&sent(30, 1, 200 * MB), LIMITS).expect("an alert");
        assert_eq!((alert.flow.dst, alert.flow.fwd.octets), (Addr::v4(0x0808_0808), 200 * MB));
        assert_eq!(alert.evidence[2].value, "8.8.8.8: 200.0 MB");
        assert_eq!(alert.evidence[0].predicate, "more than 50.0 MB in an hour");
        assert_eq!(alert.arrived, Some(alert.time.plus(SECOND)), "timed from what exceeded it");
        assert_eq!(volumes.raised, 1);
    }

    #[test]
    fn hosts_are_bounded_and_the_longest_silent_goes() {
        let mut volumes = Volumes::default();
        for (hour, host) in [(1, 1), (2, 2), (3, 3), (4, 1), (5, 4)] {
            volumes.take(&sent(hour, host, MB), LIMITS);
        }
        assert_eq!((volumes.len(), volumes.evicted), (3, 1));
        assert!(!volumes.hosts.contains_key(&(0, Addr::v4(2))));
    }

    /// None is safe because of its address: wherever it stands, whoever is silent goes.
    #[test]
    fn of_many_hosts_all_that_are_silent_go() {
        let mut volumes = Volumes::default();
        let limits = VolumeLimits { hosts_max: 100, ..LIMITS };
        let mut take = |hour, host| drop(volumes.take(&sent(hour, host, MB), limits));
        (0..100).for_each(|host| take(0, host));
        for hour in 1..200 {
            // Every fourth speaks; of the others new ones come in between.
            (0..100).step_by(4).for_each(|host| take(hour, host));
            take(hour, 1_000 + hour as u32);
        }
        assert_eq!(volumes.len(), 100);
        let held = |host: u32| volumes.hosts.contains_key(&(0, Addr::v4(host)));
        assert!((0..100).filter(|host| host % 4 > 0).all(|host| !held(host)));
        assert!((0..100).step_by(4).filter(|&host| held(host)).count() > 20);
    }
}
