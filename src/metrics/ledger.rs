//! The ledgers: every datagram, packet, data set, record, slice and match is accounted for.

use std::collections::BTreeMap;

use serde::Serialize;

/// A count per reason. Reasons are a closed set of constants, so this stays small.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts one more for `reason`.
    pub fn one(&mut self, reason: &'static str) {
        self.add(reason, 1);
    }

    /// Counts `n` more for `reason`; nothing if `n` is 0.
    pub fn add(&mut self, reason: &'static str, n: u64) {
        if n > 0 {
            *self.0.entry(reason).or_default() += n;
        }
    }

    /// The count of `reason`.
    #[must_use]
    pub fn of(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Reasons and counts, in the order of the reasons' names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(&reason, &n)| (reason, n))
    }

    fn merge(&mut self, other: &Self) {
        for (reason, n) in other.iter() {
            self.add(reason, n);
        }
    }
}

/// `received = decoded + rejected`. A datagram is decoded if its header was read and every set in
/// it was accounted for; kernel drops never reached us and stand beside.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Datagrams {
    pub received: u64,
    pub decoded: u64,
    pub rejected: Counts,
    pub kernel_drops: u64,
}

/// `read = metered + excepted`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Packets {
    pub read: u64,
    pub metered: u64,
    pub excepted: Counts,
    pub kernel_drops: u64,
    /// Of those metered, larger than any frame on a wire: receive offload (GRO, LRO) joined
    /// several, so that packet counts are too low.
    pub giants: u64,
}

/// `seen = decoded + waiting + dropped`, in sets and in octets. Template and options template sets
/// are not data sets. v5 and v7 carry no sets and do not count here.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct DataSets {
    pub seen: u64,
    pub decoded: u64,
    /// Held now, for want of a template; falls when they are decoded or dropped.
    pub waiting: u64,
    pub dropped: Counts,
    pub seen_octets: u64,
    pub decoded_octets: u64,
    pub waiting_octets: u64,
    pub dropped_octets: Counts,
}

/// `decoded = merged + duplicate + not_a_flow + dropped`. A metered packet is one record.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Records {
    pub decoded: u64,
    /// Merged into a flow.
    pub merged: u64,
    /// Seen by an observation point that does not own the direction.
    pub duplicate: u64,
    /// Options and events, by kind.
    pub not_a_flow: Counts,
    pub dropped: Counts,
}

/// `opened = shipped + held`; `records`, of shipped and held slices together, is
/// [`Records::merged`].
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Slices {
    pub opened: u64,
    /// Cut and handed to the output.
    pub shipped: u64,
    /// Open now.
    pub held: u64,
    /// Records merged into shipped slices.
    pub shipped_records: u64,
    /// Records merged into open slices.
    pub held_records: u64,
    /// Flows of a retro-hunt that were taken for complete before their last slice, to make room.
    pub early: u64,
    /// Flows that were ended for another to have room: the table was full.
    pub evicted: u64,
}

/// Per sink: `selected = acknowledged + spooled + shed`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Sink {
    pub selected: u64,
    pub acknowledged: u64,
    /// Accepted, not yet acknowledged.
    pub spooled: u64,
    pub shed: Counts,
}

/// `sent = handled + waiting + shed`: matches of the base rules of correlations, and alerts of rules
/// under suppression.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledger's lines")]
pub struct Exchange {
    pub sent: u64,
    /// Correlated, or put before suppression.
    pub handled: u64,
    /// For their turn in the order of time.
    pub waiting: u64,
    pub shed: Counts,
}

/// What one correlation did since it was loaded with its present definition, and what it holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Correlated {
    /// Matches of its bases that it counted.
    pub matches: u64,
    /// Matches that had no value to count.
    pub without_value: u64,
    /// How often its condition became true.
    pub found: u64,
    /// Groups that were dropped for lack of memory while something was in their windows.
    pub evicted: u64,
    /// Groups now.
    pub groups: u64,
    /// Octets of memory now.
    pub bytes: u64,
}

/// What detection counts: not a ledger, as nothing has to balance, but counted beside them.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Detections {
    /// Alerts that left, by level.
    pub alerts: Counts,
    /// Alerts that suppression held back, by the rule's id; of rules beyond a bound as `other`.
    pub suppressed: BTreeMap<String, u64>,
    /// Groups that suppression keeps now.
    pub suppression_groups: u64,
    /// Groups of suppression that made room for others.
    pub suppression_evicted: u64,
    /// Correlations, by the rule's id; those beyond a bound summed up as `other`.
    pub correlations: BTreeMap<String, Correlated>,
    /// Flows that exclusions kept from rules, by the exclusion's interned id; written as a sum.
    #[serde(serialize_with = "sum")]
    pub excluded: Vec<u64>,
    /// Matches of rules on flows that remember as many as they can: such a rule does not fire, and
    /// is counted again at the flow's next look.
    pub passed_over: u64,
}

/// The sequence model. `slices = events + joined + passed_over`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Sequences {
    /// Slices that the model was shown.
    pub slices: u64,
    /// Those that became an event of their own in their pair's window.
    pub events: u64,
    /// Those that went on with a connection, and so with its event.
    pub joined: u64,
    /// Those that it has no use for: `not_unicast`, `allowed` by the configuration, `empty`.
    pub passed_over: Counts,
    /// Events that were older than everything in a full window.
    pub late: u64,
    /// Windows that were scored, by what came of it.
    pub scored: Counts,
    /// Alerts, by class; `volume` are those on a host's octets out.
    pub alerts: Counts,
    /// How often a pair's turn was put off by a second, as the budget was spent.
    pub put_off: u64,
    /// Windows that the model failed on.
    pub failed: u64,
    /// Pairs that are ready to be scored now.
    pub waiting: u64,
    /// Pairs now.
    pub pairs: u64,
    /// Pairs that made room for others.
    pub pairs_evicted: u64,
    /// Connections now that may go on.
    pub connections: u64,
    /// Connections that made room for others while they could have gone on.
    pub connections_evicted: u64,
    /// Hosts now whose hours of octets out are kept.
    pub hosts: u64,
    /// Hosts that made room for others.
    pub hosts_evicted: u64,
}

impl Sequences {
    /// Adds `other`, line by line.
    pub fn merge(&mut self, other: &Self) {
        self.slices += other.slices;
        self.events += other.events;
        self.joined += other.joined;
        self.passed_over.merge(&other.passed_over);
        self.late += other.late;
        self.scored.merge(&other.scored);
        self.alerts.merge(&other.alerts);
        self.put_off += other.put_off;
        self.failed += other.failed;
        self.waiting += other.waiting;
        self.pairs += other.pairs;
        self.pairs_evicted += other.pairs_evicted;
        self.connections += other.connections;
        self.connections_evicted += other.connections_evicted;
        self.hosts += other.hosts;
        self.hosts_evicted += other.hosts_evicted;
    }
}

fn sum<S: serde::Serializer>(counts: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(counts.iter().sum())
}

/// All ledgers of one thread, or the sum of several.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names are the ledgers'")]
pub struct Ledgers {
    pub datagrams: Datagrams,
    pub packets: Packets,
    pub data_sets: DataSets,
    pub records: Records,
    pub slices: Slices,
    pub exchange: Exchange,
    pub detections: Detections,
    pub sequences: Sequences,
    pub sinks: BTreeMap<String, Sink>,
}

impl Correlated {
    /// Adds `other`, line by line.
    pub fn add(&mut self, other: &Self) {
        self.matches += other.matches;
        self.without_value += other.without_value;
        self.found += other.found;
        self.evicted += other.evicted;
        self.groups += other.groups;
        self.bytes += other.bytes;
    }
}

impl Detections {
    fn merge(&mut self, other: &Self) {
        self.alerts.merge(&other.alerts);
        let len = self.excluded.len().max(other.excluded.len());
        self.excluded.resize(len, 0);
        self.excluded.iter_mut().zip(&other.excluded).for_each(|(sum, n)| *sum += n);
        for (rule, n) in &other.suppressed {
            *self.suppressed.entry(rule.clone()).or_default() += n;
        }
        self.passed_over += other.passed_over;
        self.suppression_groups += other.suppression_groups;
        self.suppression_evicted += other.suppression_evicted;
        for (rule, o) in &other.correlations {
            self.correlations.entry(rule.clone()).or_default().add(o);
        }
    }
}

/// What is open in a flow table: slices, and the records in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// Open slices.
    pub slices: u64,
    /// Records that were merged into them.
    pub records: u64,
}

impl Ledgers {
    /// What a table holds is another thread's from now on, as if it had been from its start.
    pub fn hand_over(&mut self, held: Held) {
        let Held { slices, records } = held;
        self.slices.opened -= slices;
        self.slices.held -= slices;
        self.slices.held_records -= records;
        self.records.merged -= records;
        self.records.decoded -= records;
    }

    /// What another thread handed over is this one's.
    pub fn take_over(&mut self, held: Held) {
        let Held { slices, records } = held;
        self.slices.opened += slices;
        self.slices.held += slices;
        self.slices.held_records += records;
        self.records.merged += records;
        self.records.decoded += records;
    }

    /// Adds `other`, line by line.
    pub fn merge(&mut self, other: &Self) {
        let (d, o) = (&mut self.datagrams, &other.datagrams);
        d.received += o.received;
        d.decoded += o.decoded;
        d.rejected.merge(&o.rejected);
        d.kernel_drops += o.kernel_drops;
        let (p, o) = (&mut self.packets, &other.packets);
        p.read += o.read;
        p.metered += o.metered;
        p.excepted.merge(&o.excepted);
        p.kernel_drops += o.kernel_drops;
        p.giants += o.giants;
        let (s, o) = (&mut self.data_sets, &other.data_sets);
        s.seen += o.seen;
        s.decoded += o.decoded;
        s.waiting += o.waiting;
        s.dropped.merge(&o.dropped);
        s.seen_octets += o.seen_octets;
        s.decoded_octets += o.decoded_octets;
        s.waiting_octets += o.waiting_octets;
        s.dropped_octets.merge(&o.dropped_octets);
        let (r, o) = (&mut self.records, &other.records);
        r.decoded += o.decoded;
        r.merged += o.merged;
        r.duplicate += o.duplicate;
        r.not_a_flow.merge(&o.not_a_flow);
        r.dropped.merge(&o.dropped);
        let (s, o) = (&mut self.slices, &other.slices);
        s.opened += o.opened;
        s.shipped += o.shipped;
        s.held += o.held;
        s.shipped_records += o.shipped_records;
        s.held_records += o.held_records;
        s.early += o.early;
        s.evicted += o.evicted;
        let (e, o) = (&mut self.exchange, &other.exchange);
        e.sent += o.sent;
        e.handled += o.handled;
        e.waiting += o.waiting;
        e.shed.merge(&o.shed);
        self.detections.merge(&other.detections);
        self.sequences.merge(&other.sequences);
        for (name, o) in &other.sinks {
            let s = self.sinks.entry(name.clone()).or_default();
            s.selected += o.selected;
            s.acknowledged += o.acknowledged;
            s.spooled += o.spooled;
            s.shed.merge(&o.shed);
        }
    }

    /// Every equation that does not hold, as text; empty if all ledgers balance.
    #[must_use]
    pub fn imbalances(&self) -> Vec<String> {
        let (d, p, s) = (&self.datagrams, &self.packets, &self.data_sets);
        let (r, c, e, q) = (&self.records, &self.slices, &self.exchange, &self.sequences);
        let mut equations = vec![
            ("datagrams".to_owned(), d.received, d.decoded + d.rejected.total()),
            ("packets".to_owned(), p.read, p.metered + p.excepted.total()),
            ("data_sets".to_owned(), s.seen, s.decoded + s.waiting + s.dropped.total()),
            (
                "data_sets octets".to_owned(),
                s.seen_octets,
                s.decoded_octets + s.waiting_octets + s.dropped_octets.total(),
            ),
            (
                "records".to_owned(),
                r.decoded,
                r.merged + r.duplicate + r.not_a_flow.total() + r.dropped.total(),
            ),
            ("slices".to_owned(), c.opened, c.shipped + c.held),
            ("slices records".to_owned(), r.merged, c.shipped_records + c.held_records),
            ("exchange".to_owned(), e.sent, e.handled + e.waiting + e.shed.total()),
            ("sequences".to_owned(), q.slices, q.events + q.joined + q.passed_over.total()),
        ];
        for (name, sink) in &self.sinks {
            let right = sink.acknowledged + sink.spooled + sink.shed.total();
            equations.push((format!("sink {name}"), sink.selected, right));
        }
        equations.retain(|(_, left, right)| left != right);
        equations.into_iter().map(|(name, l, r)| format!("{name}: {l} is not {r}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_is_named() {
        let mut ledgers = Ledgers::default();
        assert_eq!(ledgers.imbalances(), Vec::<String>::new());
        ledgers.datagrams.received = 2;
        ledgers.datagrams.decoded = 1;
        assert_eq!(ledgers.imbalances(), ["datagrams: 2 is not 1"]);
        ledgers.datagrams.rejected.one("truncated");
        assert_eq!(ledgers.imbalances(), Vec::<String>::new());
    }

    #[test]
    fn balanced_ledgers_sum_to_balanced_ledgers() {
        let mut one = Ledgers::default();
        one.packets.read = 3;
        one.packets.metered = 2;
        one.packets.excepted.one("not_ip");
        one.sinks.insert("files".into(), Sink { selected: 1, spooled: 1, ..Sink::default() });
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!(sum.packets.excepted.of("not_ip"), 2);
        assert_eq!(sum.sinks["files"].spooled, 2);
        assert_eq!(sum.imbalances(), Vec::<String>::new());
    }
}
