//! Scoring a table of flows: every pair, whatever the gate says, and every window of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::event::Event;
use super::features::{Columns, WINDOW};
use super::labels::{Class, Probabilities, score};
use super::record::{JOIN_TCP_US, Record, join_all};
use super::verdict::classify;
use super::{Scorer, Settings, Windows};
use crate::net::Addr;
use crate::time::{Micros, SECOND};

/// Windows that are scored at once.
const BATCH: usize = 1_024;
/// By how much a continuation may begin before the end of what it continues, in microseconds.
const OVERLAP_US: i64 = 2 * SECOND;

/// The names of scenarios, each held once.
#[derive(Debug, Default)]
pub struct Scenarios(HashSet<Arc<str>>);

impl Scenarios {
    /// The one of this name.
    pub fn of(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        new
    }
}

/// One flow record of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What flows of different scenarios have in common is nothing.
    pub scenario: Option<Arc<str>>,
    /// The initiator.
    pub src: Addr,
    /// The responder.
    pub dst: Addr,
    /// What it says; `initiator_low` is set by [`Table::push`].
    pub record: Record,
    /// Whether it is marked as the continuation of a record that an active timeout cut.
    pub continues: bool,
}

/// One window of a pair, and what the model says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The scenario of its flows.
    pub scenario: Option<Arc<str>>,
    /// The client: the end that initiated most of the flows.
    pub src: Addr,
    /// The other end.
    pub dst: Addr,
    /// The responder's port, if it is the same of all flows.
    pub dest_port: Option<u16>,
    /// The protocol, if it is the same of all flows.
    pub protocol: Option<u8>,
    /// Start of the first flow.
    pub first: Micros,
    /// End of the last.
    pub last: Micros,
    /// How many flows.
    pub flows: usize,
    /// The class.
    pub class: Class,
    /// By class.
    pub probabilities: Probabilities,
    /// The probability of command and control or exfiltration.
    pub score: f64,
}

type Pair = (Option<Arc<str>>, Addr, Addr);

/// Flow records, by pair.
#[derive(Debug, Default)]
pub struct Table {
    places: HashMap<Pair, usize>,
    pairs: Vec<(Pair, Vec<(Record, bool)>)>,
}

impl Table {
    /// Adds a record, in any order.
    pub fn push(&mut self, row: Row) {
        let low = row.src <= row.dst;
        let (a, b) = if low { (row.src, row.dst) } else { (row.dst, row.src) };
        let pair = (row.scenario, a, b);
        let at = *self.places.entry(pair.clone()).or_insert(self.pairs.len());
        if at == self.pairs.len() {
            self.pairs.push((pair, Vec::new()));
        }
        self.pairs[at].1.push((Record { initiator_low: low, ..row.record }, row.continues));
    }

    /// Pairs of it.
    #[must_use]
    pub const fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Scores every window: one after every 32nd flow of a pair, and one that ends with its last.
    /// Hands each to `take`, pair by pair in the order of their first records. Returns false if the
    /// model failed; then not all were handed over.
    pub fn score<E>(
        self,
        settings: &Settings,
        scorer: &mut impl Scorer,
        mut take: impl FnMut(Scored) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut batch = Batch::default();
        for (pair, records) in self.pairs {
            let joined = join_all(continued(records));
            for (number, end) in
                (1..).zip((WINDOW..joined.len()).step_by(WINDOW).chain([joined.len()]))
            {
                let window = &joined[end.saturating_sub(WINDOW)..end];
                let events: Vec<Event> = window.iter().map(Event::of).collect();
                let columns = Columns::of(&events);
                batch.windows.push(&columns, &columns.stats());
                batch.scored.push((number, unscored(&pair, window, columns.client_low)));
                if batch.scored.len() == BATCH && !batch.hand(settings, scorer, &mut take)? {
                    return Ok(false);
                }
            }
        }
        batch.hand(settings, scorer, &mut take)
    }
}

#[derive(Default)]
struct Batch {
    windows: Windows,
    /// With the number of each among its pair's, from 1.
    scored: Vec<(u32, Scored)>,
}

impl Batch {
    fn hand<E>(
        &mut self,
        settings: &Settings,
        scorer: &mut impl Scorer,
        take: &mut impl FnMut(Scored) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut found = Vec::with_capacity(self.scored.len());
        let succeeded = scorer.score(&self.windows, &mut found);
        self.windows.clear();
        for ((number, mut scored), probabilities) in self.scored.drain(..).zip(found) {
            let probabilities = settings.labels.persisted(&probabilities, number);
            scored.probabilities = probabilities;
            scored.score = score(&probabilities);
            scored.class = classify(&probabilities, settings.threshold);
            take(scored)?;
        }
        Ok(succeeded)
    }
}

fn unscored((scenario, low, high): &Pair, window: &[Record], client_low: bool) -> Scored {
    let (src, dst) = if client_low { (*low, *high) } else { (*high, *low) };
    let of_all = |same: bool| same.then_some(());
    let newest = window[window.len() - 1];
    let one_port = window.iter().all(|record| record.responder_port == newest.responder_port);
    let one_protocol = window.iter().all(|record| record.protocol == newest.protocol);
    Scored {
        scenario: scenario.clone(),
        src,
        dst,
        dest_port: of_all(one_port).map(|()| newest.responder_port),
        protocol: of_all(one_protocol).map(|()| newest.protocol),
        first: window[0].first,
        last: window.iter().map(|record| record.last).max().unwrap_or(newest.last),
        flows: window.len(),
        class: Class::Benign,
        probabilities: Probabilities::default(),
        score: 0.0,
    }
}

/// Records in which a continuation carries the initiator's port of what it continues, as some
/// meters give every record a port of its own: that of the latest record of its protocol,
/// responder's port and direction that ended at most 130 s before, unless its own connection has
/// a record already.
fn continued(mut records: Vec<(Record, bool)>) -> Vec<Record> {
    if records.iter().any(|(_, continues)| *continues) {
        let group =
            |record: &Record| (record.protocol, record.responder_port, record.initiator_low);
        records.sort_by_key(|(record, _)| (group(record), record.first));
        let mut ports: Vec<u16> = Vec::new();
        let mut before: Option<Record> = None;
        for (record, continues) in &mut records {
            let same = before.filter(|before| group(before) == group(record));
            if same.is_none() {
                ports.clear();
            }
            if let Some(before) = same
                && *continues
                && !ports.contains(&record.initiator_port)
                && (-OVERLAP_US..=JOIN_TCP_US).contains(&record.first.since(before.last))
            {
                record.initiator_port = before.initiator_port;
            }
            ports.push(record.initiator_port);
            before = Some(*record);
        }
    }
    records.into_iter().map(|(record, _)| record).collect()
}
