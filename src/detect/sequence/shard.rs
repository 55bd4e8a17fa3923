//! One shard's sequences: slices in, verdicts and alerts out.

use std::collections::VecDeque;
use std::num::NonZeroI64;

use super::checkpoint::Changes;
use super::event::Event;
use super::evidence;
use super::features::{Columns, WINDOW};
use super::joins::Joins;
use super::labels::{Class, Probabilities};
use super::pairs::{Pair, Pairs, SILENCE_MAX_US, flag};
use super::record::{Record, is_unicast};
use super::verdict::{Attack, Prevailing, Sequence, Verdict, apply};
use super::{Scorer, Settings, Windows};
use crate::detect::Alert;
use crate::detect::volume::Sent;
use crate::flow::{Biflow, Direction, Slice};
use crate::metrics::ledger;
use crate::time::{Micros, SECOND};

/// Windows are scored at whole seconds of input time,
const TICK_US: i64 = SECOND;
/// a pair at most every so many of them.
const REST_TICKS: i64 = 60;

/// Octets of a pair that go out before its host's hour is told of them.
const TOLD_OCTETS: u64 = 64 << 10;

/// A pair's turn: at which tick, and which pair.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub(super) tick: i64,
    pub(super) place: u32,
    pub(super) serial: u32,
}

/// The pairs of one shard, their windows, and whose turn it is.
#[derive(Debug)]
pub struct Shard {
    pub(super) pairs: Pairs,
    pub(super) joins: Joins,
    /// By how much its whole seconds are early, in microseconds.
    phase_us: i64,
    /// The last whole second of input time that was passed; none before the first slice.
    pub(super) tick: Option<i64>,
    /// Pairs whose turn is at the next tick.
    pub(super) ready: VecDeque<Turn>,
    /// Pairs that were scored within the last minute, in the order of their next turn.
    pub(super) resting: VecDeque<Turn>,
    /// What is to be written of it, if it is.
    pub(super) changes: Option<Changes>,
    counts: ledger::Sequences,
    /// On live input: when what it is told now arrived, by the kernel's clock.
    pub arrived: Option<Micros>,
    /// What hosts sent out, to be taken by whoever sums it up.
    pub sent: Vec<Sent>,
    windows: Windows,
    turns: Vec<(u32, Columns)>,
    probabilities: Vec<Probabilities>,
}

impl Shard {
    /// For `pairs` pairs and `joins` connections that may go on, at most. `silence_us`: the longest
    /// from one cut of a flow to the next. `phase_us`: by how much its whole seconds are early.
    #[must_use]
    pub fn new(pairs: usize, joins: usize, silence_us: i64, phase_us: i64) -> Self {
        Self {
            pairs: Pairs::new(pairs),
            joins: Joins::new(joins, silence_us),
            tick: None,
            ready: VecDeque::new(),
            resting: VecDeque::new(),
            changes: None,
            counts: ledger::Sequences::default(),
            arrived: None,
            phase_us,
            sent: Vec::new(),
            windows: Windows::default(),
            turns: Vec::new(),
            probabilities: Vec::new(),
        }
    }

    /// What it did so far, and what it holds.
    #[must_use]
    pub fn ledger(&self) -> ledger::Sequences {
        ledger::Sequences {
            pairs: self.pairs.len() as u64,
            connections: self.joins.len() as u64,
            pairs_evicted: self.pairs.evicted,
            connections_evicted: self.joins.evicted,
            waiting: self.ready.len() as u64,
            ..self.counts.clone()
        }
    }

    fn tick_of(&self, now: Micros) -> i64 {
        now.plus(self.phase_us).0.div_euclid(TICK_US)
    }

    /// Whether [`Shard::advance`] to `now` would score anything.
    #[must_use]
    pub fn is_due(&self, now: Micros) -> bool {
        let to = self.tick_of(now);
        let passed = self.tick.is_some_and(|tick| tick < to);
        passed && (!self.ready.is_empty() || self.resting.front().is_some_and(|t| t.tick <= to))
    }

    /// Takes a slice that was cut at `now`, by the input clock, to which the shard has advanced.
    /// `hash` is that of its pair. Returns what the model last said of the pair; `None` of a slice that
    /// is kept from it.
    pub fn slice(
        &mut self,
        slice: &Slice,
        hash: u64,
        now: Micros,
        settings: &Settings,
    ) -> Option<Verdict> {
        let flow = &slice.flow;
        self.counts.slices += 1;
        if !is_unicast(flow.src) || !is_unicast(flow.dst) {
            self.counts.passed_over.one("not_unicast");
            return None;
        }
        if settings.allow.allows(flow) {
            self.counts.passed_over.one("allowed");
            return None;
        }
        // Nothing was due in between, whoever told the time.
        let tick = self.tick.map_or(self.tick_of(now), |tick| tick.max(self.tick_of(now)));
        self.tick = Some(tick);
        let place = self.pairs.of(hash, flow.site, flow.src, flow.dst);
        if let Some(changes) = &mut self.changes {
            changes.pair(self.pairs.get(place));
        }
        if slice.records == 0 {
            self.counts.passed_over.one("empty");
            return Some(verdict(self.pairs.get(place), settings));
        }
        let record = Record::of(flow);
        let pair = self.pairs.get_mut(place);
        if now.since(pair.seen) >= SILENCE_MAX_US {
            pair.forget();
        }
        pair.seen = now;
        self.sent.extend(sent(pair, flow, record.fwd_octets, (now, self.arrived)));
        match self.joins.take(pair.serial, &record, !slice.last, now) {
            Some((old, new)) => {
                self.counts.joined += 1;
                pair.replace(&old, new);
            }
            None => {
                self.counts.events += 1;
                let kept = pair.add(Event::of(&record), record.first);
                self.counts.late += u64::from(!kept);
            }
        }
        if let Some(changes) = &mut self.changes {
            let touched = self.joins.touched.iter_mut().flat_map(|keys| keys.drain(..));
            changes.joins(pair, touched);
        }
        if pair.has(flag::RESTING) {
            pair.set(flag::CHANGED, true);
        } else if !pair.has(flag::READY) && pair.is_worth_scoring() {
            pair.set(flag::READY, true);
            pair.arrived = stamp(self.arrived);
            self.ready.push_back(Turn { tick: tick + 1, place, serial: pair.serial });
        }
        Some(verdict(pair, settings))
    }

    /// Passes every whole second up to `now`, and scores at each whose turn it is, `allowance`
    /// windows at most in all: those beyond have their turn later. Appends alerts to `alerts`.
    pub fn advance(
        &mut self,
        now: Micros,
        settings: &Settings,
        scorer: &mut impl Scorer,
        allowance: &mut usize,
        alerts: &mut Vec<Alert>,
    ) {
        let (Some(tick), to) = (self.tick, self.tick_of(now)) else { return };
        let mut tick = tick;
        while tick < to {
            let rested = self.resting.front().map_or(to, |turn| turn.tick.min(to));
            tick = if self.ready.is_empty() { rested.max(tick + 1) } else { tick + 1 };
            self.wake(tick);
            self.score(tick, settings, scorer, allowance, alerts);
            if *allowance == 0 {
                // Nobody's turn comes before the budget allows it: the rest is one step.
                tick = to;
                self.wake(to);
            }
        }
        self.tick = Some(tick.max(self.tick.unwrap_or(tick)));
    }

    /// The end of the input: scores all that changed, `allowance` windows at most.
    pub fn finish(
        &mut self,
        settings: &Settings,
        scorer: &mut impl Scorer,
        allowance: &mut usize,
        alerts: &mut Vec<Alert>,
    ) {
        let Some(tick) = self.tick else { return };
        self.wake(i64::MAX);
        self.score(tick + 1, settings, scorer, allowance, alerts);
    }

    /// Those that have rested until `tick` are ready, if anything came meanwhile.
    fn wake(&mut self, tick: i64) {
        while let Some(turn) = self.resting.pop_front_if(|turn| turn.tick <= tick) {
            let pair = self.pairs.get_mut(turn.place);
            if pair.serial != turn.serial {
                continue;
            }
            let changed = pair.has(flag::CHANGED);
            self.changes.iter_mut().for_each(|changes| changes.pair(pair));
            pair.set(flag::RESTING | flag::CHANGED, false);
            if changed && pair.is_worth_scoring() {
                pair.set(flag::READY, true);
                pair.arrived = stamp(self.arrived);
                self.ready.push_back(turn);
            }
        }
    }

    /// Scores those that are ready, at `tick`.
    fn score(
        &mut self,
        tick: i64,
        settings: &Settings,
        scorer: &mut impl Scorer,
        allowance: &mut usize,
        alerts: &mut Vec<Alert>,
    ) {
        let mut room = [Event::default(); WINDOW];
        while *allowance > 0
            && let Some(turn) = self.ready.pop_front()
        {
            let pair = self.pairs.get_mut(turn.place);
            if pair.serial != turn.serial {
                continue;
            }
            *allowance -= 1;
            if let Some(next) = self.ready.front() {
                self.pairs.fetch_window(next.place);
            }
            let pair = self.pairs.get_mut(turn.place);
            self.changes.iter_mut().for_each(|changes| changes.pair(pair));
            pair.set(flag::READY, false);
            pair.set(flag::RESTING, true);
            self.resting.push_back(Turn { tick: tick + REST_TICKS, ..turn });
            let columns = Columns::of(pair.window(&mut room));
            self.windows.push(&columns, &columns.stats());
            self.turns.push((turn.place, columns));
        }
        self.counts.put_off += self.ready.len() as u64;
        if self.turns.is_empty() {
            return;
        }
        if !scorer.score(&self.windows, &mut self.probabilities) {
            self.counts.failed += (self.turns.len() - self.probabilities.len()) as u64;
        }
        let time = Micros(tick.saturating_mul(TICK_US)).plus(-self.phase_us);
        for ((place, columns), p) in self.turns.drain(..).zip(self.probabilities.drain(..)) {
            let pair = self.pairs.get_mut(place);
            let raw = p;
            let p = settings.labels.persisted(&raw, pair.ordinal() + 1);
            pair.prevailing = Prevailing::of(&columns).pack();
            let threshold = settings.threshold_of(pair.low, pair.high);
            let alerts_on = apply(pair, &p, threshold);
            self.counts.scored.one(pair.class.as_str());
            if !alerts_on {
                continue;
            }
            if pair.class == Class::Exfil && evidence::brings_in(pair, &columns, settings) {
                // What it carries off later is still to be told.
                pair.set(flag::ALERTED, false);
                continue;
            }
            let pair = self.pairs.get(place);
            self.counts.alerts.one(pair.class.as_str());
            let (verdict, p) = (verdict(pair, settings), (&p, &raw));
            let arrived = pair.arrived.map(|at| Micros(at.get()));
            let alert = evidence::alert(pair, &columns, p, verdict, time, settings, scorer);
            alerts.push(Alert { arrived, ..alert });
        }
        self.windows.clear();
    }
}

/// As a pair keeps it: no clock shows the epoch.
fn stamp(arrived: Option<Micros>) -> Option<NonZeroI64> {
    arrived.and_then(|at| NonZeroI64::new(at.0))
}

/// What a host at home sent out by `flow`, of `octets`, that it began: with what was not told before,
/// once that is worth telling.
fn sent(
    pair: &mut Pair,
    flow: &Biflow,
    octets: u64,
    (time, arrived): (Micros, Option<Micros>),
) -> Option<Sent> {
    if flow.direction != Direction::Outbound {
        return None;
    }
    let octets = octets.saturating_add(pair.unsent.into());
    let told = octets >= TOLD_OCTETS;
    pair.unsent = if told { 0 } else { octets as u32 };
    let (site, host, peer) = (flow.site, flow.src, flow.dst);
    told.then_some(Sent { time, site, host, peer, octets, arrived })
}

/// What the model last said of a pair, and which of its sequences is under way.
fn verdict(pair: &Pair, settings: &Settings) -> Verdict {
    let sequence = Sequence { start_ms: pair.chunk_start_ms, ordinal: pair.ordinal() };
    if !pair.has(flag::SCORED) {
        return Verdict { sequence, ..Verdict::default() };
    }
    let Prevailing { service, icmp } = Prevailing::unpack(pair.prevailing);
    let attack = match pair.class {
        Class::Benign => None,
        class => settings.labels.attack(class, service, icmp),
    };
    let attack = attack
        .map(|(tactic, technique)| Attack { tactic: tactic.clone(), technique: technique.clone() });
    Verdict { class: Some(pair.class), score: pair.score.into(), attack, sequence }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::detect::sequence::sample::{OURS, THEIRS, connection, settings};
    use crate::detect::sequence::{Settings, join_all};
    use crate::flow::record::{ACK, FIN, RST, SYN};
    use crate::net::{Addr, pair_hash};

    /// Says of every window that it is command and control.
    struct Sure;

    impl Scorer for Sure {
        fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
            out.resize(out.len() + windows.len(), [0.05, 0.9, 0.05, 0.0, 0.0, 0.0]);
            true
        }
    }

    /// The `n`-th connection of a pair, at as many seconds, to a port.
    fn slice(n: i64, port: u16) -> Slice {
        connection(Micros::from_secs(1_700_000_000 + n), 40_000 + (n % 20_000) as u16, port)
    }

    fn told(shard: &mut Shard, slice: &Slice, settings: &Settings) {
        let flow = &slice.flow;
        shard.slice(slice, pair_hash(0, flow.src, flow.dst), flow.first, settings);
    }

    #[test]
    fn an_alert_is_timed_from_what_brought_its_turn() {
        let settings = settings(10.0);
        for (name, arrivals, want) in [
            ("a replay", [None; 6], None),
            ("that of the slice that passed the gate", [1, 2, 3, 4, 5, 6].map(Some), Some(4)),
            ("cut by the clock alone", [Some(1), Some(2), Some(3), None, Some(5), None], None),
        ] {
            let mut shard = Shard::new(8, 8, SECOND, 0);
            for (n, arrived) in (0..).zip(arrivals) {
                shard.arrived = arrived.map(Micros::from_secs);
                told(&mut shard, &slice(n, 443), &settings);
            }
            let mut alerts = Vec::new();
            shard.arrived = Some(Micros::from_secs(9));
            let now = Micros::from_secs(1_700_000_060);
            shard.advance(now, &settings, &mut Sure, &mut 100, &mut alerts);
            assert_eq!(alerts.len(), 1, "{name}");
            assert_eq!(alerts[0].arrived, want.map(Micros::from_secs), "{name}");
        }
    }

    #[test]
    fn a_pair_that_rested_is_timed_from_the_end_of_its_rest() {
        let settings = settings(10.0);
        let mut shard = Shard::new(8, 8, SECOND, 0);
        let mut alerts = Vec::new();
        (0..4).for_each(|n| told(&mut shard, &slice(n, 443), &settings));
        let at = |n: i64| Micros::from_secs(1_700_000_000 + n);
        // The first time nothing is found.
        struct Calm;
        impl Scorer for Calm {
            fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
                out.resize(out.len() + windows.len(), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
                true
            }
        }
        shard.advance(at(8), &settings, &mut Calm, &mut 100, &mut alerts);
        shard.arrived = Some(Micros::from_secs(20));
        told(&mut shard, &slice(20, 443), &settings);
        shard.arrived = Some(Micros::from_secs(70));
        shard.advance(at(70), &settings, &mut Sure, &mut 100, &mut alerts);
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].arrived, Some(Micros::from_secs(70)));
    }

    #[test]
    fn a_pair_that_was_silent_for_weeks_begins_a_new_window() {
        let settings = settings(10.0);
        for (days, kept) in [(24, 32), (25, 3), (40, 3), (60, 3)] {
            let mut shard = Shard::new(8, 8, SECOND, 0);
            (0..40).for_each(|n| told(&mut shard, &slice(n, 443), &settings));
            (0..3).for_each(|n| told(&mut shard, &slice(days * 86_400 + n, 443), &settings));
            let pair = shard.pairs.get(0);
            let mut room = [Event::default(); WINDOW];
            let window = pair.window(&mut room);
            assert_eq!((window.len(), pair.count, shard.ledger().late), (kept, 43, 0), "{days}");
            let newest = Event::of(&Record::of(&slice(days * 86_400 + 2, 443).flow));
            assert_eq!(window.last(), Some(&newest), "{days} days");
        }
    }

    #[test]
    fn turns_beyond_the_allowance_are_put_off_and_counted() {
        let settings = settings(10.0);
        let mut shard = Shard::new(8, 8, SECOND, 0);
        for n in 0..5 {
            for pair in 1..=5 {
                let mut slice = slice(n, 443);
                slice.flow.src = Addr::v4(pair);
                told(&mut shard, &slice, &settings);
            }
        }
        let mut alerts = Vec::new();
        for (second, mut allowance, scored, waiting, put_off) in
            [(5, 2, 2, 3, 3), (6, 0, 2, 3, 6), (7, 9, 5, 0, 6)]
        {
            let now = Micros::from_secs(1_700_000_000 + second);
            shard.advance(now, &settings, &mut Sure, &mut allowance, &mut alerts);
            let told = shard.ledger();
            assert_eq!(told.scored.total(), scored, "at {second} s");
            assert_eq!((told.waiting, told.put_off), (waiting, put_off), "at {second} s");
        }
        assert_eq!(alerts.len(), 5, "late, and none lost");
    }

    /// Says of every window that it is exfiltration.
    struct Leak;

    impl Scorer for Leak {
        fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
            out.resize(out.len() + windows.len(), [0.05, 0.0, 0.95, 0.0, 0.0, 0.0]);
            true
        }
    }

    #[test]
    fn what_comes_in_is_no_exfiltration() {
        let home = vec!["10.0.0.0/8".parse().expect("a network")];
        let settings = Settings { home, ..settings(10.0) };
        for (name, src, dst, up, down, alerts) in [
            ("an upload of ours", OURS, THEIRS, 9_000, 90, 1),
            ("an upload to us", THEIRS, OURS, 9_000, 90, 0),
            ("a download from us", THEIRS, OURS, 90, 9_000, 1),
        ] {
            let mut shard = Shard::new(8, 8, SECOND, 0);
            for n in 0..5 {
                let mut slice = slice(n, 443);
                (slice.flow.src, slice.flow.dst) = (src, dst);
                (slice.flow.fwd.octets, slice.flow.bwd.octets) = (up, down);
                told(&mut shard, &slice, &settings);
            }
            let mut found = Vec::new();
            shard.finish(&settings, &mut Leak, &mut 100, &mut found);
            assert_eq!(found.len(), alerts, "{name}");
            assert_eq!(shard.ledger().scored.total(), 1, "{name}: the score stays");
        }
    }

    /// A pair that was brought something and then carries it off is alerted on then, and once.
    #[test]
    fn what_came_in_hides_nothing_that_goes_out() {
        let home = vec!["10.0.0.0/8".parse().expect("a network")];
        let settings = Settings { home, ..settings(10.0) };
        let mut shard = Shard::new(8, 8, SECOND, 0);
        let mut alerts = Vec::new();
        for (minute, src, dst, want) in
            [(0, THEIRS, OURS, 0), (2, THEIRS, OURS, 0), (4, OURS, THEIRS, 1), (6, OURS, THEIRS, 1)]
        {
            for n in 0..40 {
                let mut slice = slice(60 * minute + n, 443);
                (slice.flow.src, slice.flow.dst) = (src, dst);
                (slice.flow.fwd.octets, slice.flow.bwd.octets) = (9_000, 90);
                told(&mut shard, &slice, &settings);
            }
            let now = Micros::from_secs(1_700_000_000 + 60 * minute + 100);
            shard.advance(now, &settings, &mut Leak, &mut 100, &mut alerts);
            assert_eq!(alerts.len(), want, "after {minute} min");
        }
    }

    /// How many of 12 records of one connection join it that begin `each` seconds apart, are silent
    /// for `gap` of them and are cut when the input clock is `ahead` of the next one's start.
    fn joined(each: i64, gap: i64, flow_ends: bool, ahead: i64) -> u64 {
        let settings = settings(10.0);
        let mut shard = Shard::new(64, 64, 430 * SECOND, 0);
        for n in 0..12 {
            let mut slice = slice(0, 443);
            slice.last = flow_ends;
            slice.flow.first = Micros::from_secs(1_700_000_000 + n * each);
            slice.flow.last = slice.flow.first.plus((each - gap) * SECOND);
            let now = slice.flow.first.plus((each + ahead) * SECOND);
            let (src, dst) = (slice.flow.src, slice.flow.dst);
            shard.slice(&slice, pair_hash(0, src, dst), now, &settings);
            // Of another pair, so that the latest start is not this connection's.
            let mut other = self::slice(0, 80);
            other.flow.src = Addr::v4(0x0a00_0002);
            other.flow.src_port = 50_000 + n as u16;
            other.flow.first = slice.flow.last;
            other.flow.last = slice.flow.last;
            shard.slice(&other, pair_hash(0, other.flow.src, dst), now, &settings);
        }
        shard.ledger().joined
    }

    #[test]
    fn a_connection_that_is_cut_is_one_event_whatever_the_clock_shows() {
        for (name, each, gap, flow_ends, ahead, want) in [
            ("cut after 2 min", 120, 1, false, 0, 11),
            ("after half an hour", 1_800, 1, false, 0, 11),
            ("after half an hour, before that is learnt", 1_800, 1, true, 0, 11),
            ("one long flow puts the clock ahead", 120, 1, true, 7_200, 11),
            ("silent for too long", 400, 131, true, 0, 0),
            ("that, and the clock ahead", 400, 131, true, 7_200, 0),
        ] {
            assert_eq!(joined(each, gap, flow_ends, ahead), want, "{name}");
        }
    }

    /// Records of a connection, one after the other: seconds of silence before each, its length, its TCP
    /// flags, and whether its flow goes on.
    type Parts = Vec<(i64, i64, u8, bool)>;

    fn connections() -> impl Strategy<Value = Vec<(u8, bool, Parts)>> {
        let flags = prop::sample::select(vec![0, SYN as u8, ACK as u8, FIN as u8, RST as u8]);
        let part = (0..200_i64, 0..1_800_i64, flags, any::<bool>());
        let parts = prop::collection::vec(part, 1..12);
        prop::collection::vec((0..2_u8, any::<bool>(), parts), 1..12)
    }

    /// The slices of a connection that begins at `start`. What only the flow table knows of is left to
    /// it: records without a SYN after the end, and that a flow which ended went on for much longer.
    fn slices_of(start: Micros, port: u16, (pair, tcp, parts): &(u8, bool, Parts)) -> Vec<Slice> {
        let mut end = start;
        let mut slices: Vec<Slice> = Vec::new();
        for &(gap, length, flags, goes_on) in parts {
            let first = end.plus(gap * SECOND);
            end = first.plus(length * SECOND);
            let mut slice = connection(first, port, 443);
            slice.last = !goes_on;
            slice.flow.last = end;
            slice.flow.dst = Addr::v4(THEIRS.to_v4().unwrap_or(0) + u32::from(*pair));
            slice.flow.protocol = if *tcp { 6 } else { 17 };
            slice.flow.fwd.tcp_flags = Some(flags.into());
            if let Some(before) = slices.last_mut() {
                let lasted = before.flow.last.since(before.flow.first).max(SILENCE_US);
                before.last &= length * SECOND <= lasted && flags & SYN as u8 != 0;
            }
            slices.push(slice);
        }
        slices
    }

    const SILENCE_US: i64 = 430 * SECOND;

    proptest! {
        /// Record by record, in the order of starts with a clock that long ones put ahead, or in the
        /// order of ends, as a sensor cuts them: the windows are those of all records at once.
        #[test]
        fn records_join_as_all_of_them_at_once(connections in connections(), by_end in any::<bool>()) {
            let settings = settings(10.0);
            let mut slices: Vec<Slice> = Vec::new();
            for (n, each) in (0..).zip(&connections) {
                // No two begin at the same millisecond.
                let start = Micros::from_millis(1_700_000_000_000 + i64::from(n) * 30_001);
                slices.extend(slices_of(start, 40_000 + n, each));
            }
            slices.sort_by_key(|slice| if by_end { slice.flow.last } else { slice.flow.first });
            let mut shard = Shard::new(64, 1_024, SILENCE_US, 0);
            let mut records: HashMap<Addr, Vec<Record>> = HashMap::new();
            let mut now = Micros::MIN;
            for slice in &slices {
                now = now.max(slice.flow.last);
                let hash = pair_hash(0, slice.flow.src, slice.flow.dst);
                shard.slice(slice, hash, now, &settings);
                records.entry(slice.flow.dst).or_default().push(Record::of(&slice.flow));
            }
            for (peer, records) in records {
                let joined: Vec<Event> = join_all(records).iter().map(Event::of).collect();
                let want = &joined[joined.len().saturating_sub(WINDOW)..];
                let place = shard.pairs.find((0, OURS, peer)).expect("a pair");
                let mut room = [Event::default(); WINDOW];
                prop_assert_eq!(shard.pairs.get(place).window(&mut room), want);
            }
            prop_assert_eq!(shard.ledger().connections_evicted, 0);
        }
    }

    #[test]
    fn an_alert_names_the_port_that_most_flows_have() {
        let settings = settings(10.0);
        for (ports, want, says) in [
            (vec![443; 5], 443, "443, 5 of 5; tls"),
            (vec![8_443, 443, 9_001, 443, 80], 443, "443, 2 of 5; tls"),
            (vec![9_003, 9_002, 9_001, 9_004], 9_001, "9001, 1 of 4; registered"),
        ] {
            let mut shard = Shard::new(8, 8, SECOND, 0);
            let mut alerts = Vec::new();
            for (n, &port) in (0..).zip(&ports) {
                told(&mut shard, &slice(n, port), &settings);
            }
            shard.finish(&settings, &mut Sure, &mut 100, &mut alerts);
            let alert = &alerts[0];
            assert_eq!(alert.flow.dst_port, want, "{ports:?}");
            let shown = alert.evidence.iter().find(|evidence| evidence.field == "dest_port");
            assert_eq!(shown.map(|evidence| evidence.value.as_str()), Some(says), "{ports:?}");
        }
    }
}
