//! The book of the spool: which segments there are, how far each sink has come, and its ledger.
//!
//! Plain data under one lock; no file is touched here. So each step keeps every ledger balanced,
//! and what the threads do can be checked without them.

use std::collections::VecDeque;

use super::cursor::{Cursor, Saved};
use super::frame::Header;
use super::segment::Sums;
use crate::config::{Full, Select};
use crate::metrics::{Delivery, ledger};
use crate::output::Batch;
use crate::time::Micros;

/// The spool had no room.
pub const SPOOL_FULL: &str = "spool_full";
/// The operator had the sink pass over them: `weir spool drop`.
pub const DROPPED: &str = "dropped_by_operator";
/// A frame could not be read back.
pub const DAMAGED: &str = "damaged";
/// The other side refused the record for good; it stands in the dead-letter file.
pub const DEAD_LETTER: &str = "dead_letter";

/// A segment, as the book knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) number: u64,
    /// Octets of whole frames.
    pub(super) octets: u64,
    pub(super) sums: Sums,
    /// When its first frame of records was written.
    pub(super) first: Option<Micros>,
    /// When its last one was.
    pub(super) last: Option<Micros>,
    /// Never written again.
    pub(super) whole: bool,
    /// Synced, too.
    pub(super) sealed: bool,
}

/// A sink behind the spool.
#[derive(Debug)]
pub(super) struct Taker {
    pub(super) name: String,
    pub(super) select: Select,
    /// Takes sealed segments only.
    pub(super) whole: bool,
    pub(super) ledger: ledger::Sink,
    pub(super) cursor: Cursor,
    /// Whether a cursor of it stands on disk, with the gaps that it has.
    pub(super) noted: bool,
    /// Records that it selects of the cursor's segment and has not settled.
    pub(super) left: u64,
    /// The unit that is being delivered.
    pub(super) flight: Option<Flight>,
    pub(super) delivery: Delivery,
    pub(super) fault: Option<String>,
}

/// A unit that is being delivered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Flight {
    pub(super) segment: u64,
    pub(super) records: u64,
    /// When its first frame was written.
    pub(super) written: Micros,
    /// Why it is lost, if its segment is given up and it is not delivered.
    pub(super) lost: &'static str,
}

impl Flight {
    pub(super) const fn new(segment: u64, records: u64, written: Micros) -> Self {
        Self { segment, records, written, lost: SPOOL_FULL }
    }
}

/// What there is to read for a sink.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Work {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) end: u64,
    /// Records that it should select of the segment from `offset` on.
    pub(super) left: u64,
}

/// How a unit ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Settled {
    pub(super) segment: u64,
    /// Where it ends in the segment.
    pub(super) end: u64,
    pub(super) acknowledged: u64,
    pub(super) dead: u64,
    pub(super) octets: u64,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) segments: VecDeque<Entry>,
    /// Number of the next segment.
    pub(super) next: u64,
    pub(super) takers: Vec<Taker>,
    /// Records of batches that wait to be written.
    pub(super) queued: usize,
    /// Nothing more is taken in.
    pub(super) closed: bool,
    /// Nothing more is written.
    pub(super) finished: bool,
    /// Why nothing can be written now.
    pub(super) fault: Option<String>,
    pub(super) kept: Kept,
}

/// Which segments stay although every sink has read them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Kept {
    /// Those whose last record is no older, in microseconds,
    pub(super) for_us: i64,
    /// while all segments have no more octets.
    pub(super) octets: u64,
}

impl Book {
    /// Octets of all segments.
    pub(super) fn octets(&self) -> u64 {
        self.segments.iter().map(|segment| segment.octets).sum()
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        // Numbers grow by one, so the place follows from the first.
        let first = self.segments.front()?.number;
        let entry = self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?);
        entry
            .filter(|entry| entry.number == number)
            .or_else(|| self.segments.iter().find(|entry| entry.number == number))
    }

    /// What the segment `number` holds.
    pub(super) fn sums(&self, number: u64) -> Option<Sums> {
        self.entry(number).map(|entry| entry.sums)
    }

    /// What the cursor's file of the sink at `index` is to hold.
    pub(super) fn saved(&self, index: usize) -> Saved {
        let taker = &self.takers[index];
        let Taker { name, select, whole, cursor, left, .. } = taker;
        let held = self.sums(cursor.segment).map_or(0, |sums| sums.select(*select));
        // Of one that is passed over nothing is left, and nothing settled.
        let settled = if cursor.skips(cursor.segment) { 0 } else { held.saturating_sub(*left) };
        let (sink, select, whole) = (name.clone(), *select, *whole);
        Saved { sink, select, whole, cursor: cursor.clone(), settled: Some(settled), dropped: 0 }
    }

    /// Takes `batch` in.
    pub(super) fn accept(&mut self, batch: &Batch) {
        self.queued += batch.slices.len() + batch.alerts.len();
        for taker in &mut self.takers {
            let selected = batch.count(taker.select) as u64;
            taker.ledger.selected += selected;
            taker.ledger.spooled += selected;
        }
    }

    /// Takes it in and loses it.
    pub(super) fn refuse(&mut self, batch: &Batch, reason: &'static str) {
        for taker in &mut self.takers {
            let selected = batch.count(taker.select) as u64;
            taker.ledger.selected += selected;
            taker.ledger.shed.add(reason, selected);
        }
    }

    /// Counts slices without a tag that nobody made.
    pub(super) fn refuse_untagged(&mut self, slices: u64, reason: &'static str) {
        for taker in self.takers.iter_mut().filter(|taker| taker.select == Select::Slices) {
            taker.ledger.selected += slices;
            taker.ledger.shed.add(reason, slices);
        }
    }

    /// Loses records that were taken in and not written.
    pub(super) fn lose(&mut self, sums: Sums, reason: &'static str) {
        for taker in &mut self.takers {
            taker.shed(sums.select(taker.select), reason);
        }
    }

    /// Begins the next segment, of `octets` so far.
    pub(super) fn begin(&mut self, octets: u64) {
        let number = self.next;
        self.next += 1;
        self.segments.push_back(Entry { number, octets, ..Entry::default() });
    }

    /// A frame was appended to the newest segment, which has `octets` now.
    pub(super) fn appended(&mut self, header: &Header, octets: u64) {
        let entry = self.segments.back_mut().expect("a segment was begun");
        let sums = Sums::of(header);
        entry.octets = octets;
        entry.sums.add(sums);
        entry.first = entry.first.or(Some(header.written));
        entry.last = Some(header.written);
        let number = entry.number;
        for taker in &mut self.takers {
            let records = sums.select(taker.select);
            if taker.cursor.skips(number) {
                taker.shed(records, SPOOL_FULL);
            } else if taker.cursor.segment == number {
                taker.left += records;
            }
        }
    }

    /// The newest segment is never written again: sinks that have read it go on to the next, also
    /// while it waits for its seal.
    pub(super) fn end(&mut self) {
        if let Some(entry) = self.segments.back_mut() {
            entry.whole = true;
        }
        self.settle_all();
    }

    /// The file of the segment `number` is gone, and with it what sinks had not read.
    pub(super) fn vanished(&mut self, number: u64) {
        let Some(sums) = self.sums(number) else { return };
        for index in 0..self.takers.len() {
            let taker = &mut self.takers[index];
            if !taker.cursor.needs(number) {
                continue;
            }
            let stands = taker.cursor.segment == number;
            let flying = taker.flight.filter(|flight| flight.segment == number);
            let all = if stands { taker.left } else { sums.select(taker.select) };
            taker.shed(all - flying.map_or(0, |flight| flight.records), DAMAGED);
            if let Some(flight) = taker.flight.as_mut().filter(|_| flying.is_some()) {
                flight.lost = DAMAGED;
            }
            if stands {
                let mut cursor = taker.cursor.clone();
                cursor.go(number + 1);
                self.move_to(index, cursor);
            }
        }
        self.segments.retain(|entry| entry.number != number);
        self.settle_all();
    }

    /// The segment `number` is sealed.
    pub(super) fn sealed(&mut self, number: u64) {
        if let Some(entry) = self.segments.iter_mut().find(|entry| entry.number == number) {
            entry.sealed = true;
        }
    }

    /// What there is to read for the sink at `index`.
    pub(super) fn work(&self, index: usize) -> Option<Work> {
        let taker = &self.takers[index];
        let entry = self.entry(taker.cursor.segment)?;
        let ready = if taker.whole { entry.sealed } else { taker.cursor.offset < entry.octets };
        (ready && taker.cursor.needs(entry.number)).then_some(Work {
            segment: entry.number,
            offset: taker.cursor.offset,
            end: entry.octets,
            left: taker.left,
        })
    }

    /// A unit of the sink at `index` has ended; the cursor goes after it.
    pub(super) fn settle(&mut self, index: usize, settled: &Settled) {
        let taker = &mut self.takers[index];
        let flight = taker.flight.take();
        taker.fault = None;
        let records = settled.acknowledged + settled.dead;
        taker.ledger.spooled -= records;
        taker.ledger.acknowledged += settled.acknowledged;
        taker.ledger.shed.add(DEAD_LETTER, settled.dead);
        taker.delivery.octets += settled.octets;
        taker.delivery.units += u64::from(records > 0);
        // Else the segment was given up meanwhile, but for this unit.
        if taker.cursor.segment == settled.segment {
            taker.left -= records;
            taker.cursor.offset = settled.end;
            self.advance(index);
        } else if let Some(flight) = flight {
            // What of it could not be read.
            taker.shed(flight.records.saturating_sub(records), DAMAGED);
        }
    }

    /// Goes on from a segment of which all is settled, or that is passed over.
    fn advance(&mut self, index: usize) {
        loop {
            let taker = &self.takers[index];
            let (at, mut cursor) = (taker.cursor.segment, taker.cursor.clone());
            if cursor.skips(at) {
                cursor.go(at);
                if cursor.segment == at {
                    return;
                }
            } else {
                let entry = self.entry(at);
                let more = |entry: &Entry| !entry.whole || cursor.offset < entry.octets;
                if at >= self.next || entry.is_some_and(more) {
                    return;
                }
                // What its frames were to hold and nobody could read.
                let taker = &mut self.takers[index];
                let left = std::mem::take(&mut taker.left);
                taker.shed(left, DAMAGED);
                cursor.go(at + 1);
            }
            self.move_to(index, cursor);
        }
    }

    /// Moves every cursor to where there is something to read, or will be.
    pub(super) fn settle_all(&mut self) {
        for index in 0..self.takers.len() {
            self.advance(index);
        }
    }

    /// The sink at `index` stops while a unit is under way: it stays in the spool, unless its
    /// segment was given up meanwhile.
    pub(super) fn abandon(&mut self, index: usize) {
        let Some(flight) = self.takers[index].flight.take() else { return };
        if self.entry(flight.segment).is_none() {
            self.takers[index].shed(flight.records, flight.lost);
        }
    }

    fn move_to(&mut self, index: usize, cursor: Cursor) {
        let select = self.takers[index].select;
        let sums = self.entry(cursor.segment).map(|entry| entry.sums);
        let left = if cursor.skips(cursor.segment) { None } else { sums };
        let taker = &mut self.takers[index];
        taker.left = left.map_or(0, |sums| sums.select(select));
        taker.cursor = cursor;
    }

    /// Strikes out the whole segments that no sink needs and that are not kept at `now`, and says
    /// which.
    pub(super) fn clean(&mut self, now: Micros) -> Vec<u64> {
        let Kept { for_us, octets } = self.kept;
        let mut excess = self.octets().saturating_sub(octets);
        let takers = &self.takers;
        let needed = |number| takers.iter().any(|taker| taker.needs(number));
        let mut gone = Vec::new();
        self.segments.retain(|entry| {
            let young = entry.last.is_some_and(|last| now.since(last) < for_us);
            let stays = !entry.whole || needed(entry.number) || (young && excess == 0);
            if !stays {
                gone.push(entry.number);
                excess = excess.saturating_sub(entry.octets);
            }
            stays
        });
        gone
    }

    /// Whether the spool still has the segment `number`.
    pub(super) fn has(&self, number: u64) -> bool {
        self.entry(number).is_some()
    }

    /// Makes room for a segment of `need` octets below `max`, as `full` says, and gives the
    /// segments that were given up for it. No segment is being written now.
    pub(super) fn make_room(&mut self, need: u64, max: u64, full: Full, now: Micros) -> Vec<u64> {
        let mut gone = self.clean(now);
        match full {
            Full::Oldest => {
                // Also those that wait for their seal: a slow disk is no reason to fill it.
                while self.octets() + need > max && !self.segments.is_empty() {
                    gone.extend(self.give_up());
                }
            }
            // A reserve is kept for the sinks that keep up: what they read goes as it comes.
            Full::Newest => {
                let reserve = (2 * need).max(max / 8);
                // What stands on disk says so before anything is appended behind it.
                let gaps = |taker: &Taker| taker.cursor.gaps.clone();
                let before: Vec<_> = self.takers.iter().map(gaps).collect();
                self.close_gaps(need, max, reserve);
                let full = self.octets() + need > max;
                if self.octets() + need + reserve > max {
                    for index in 0..self.takers.len() {
                        let behind = full || self.lag(index) > reserve;
                        let (next, taker) = (self.next, &mut self.takers[index]);
                        if behind && !taker.cursor.gap_is_open() {
                            taker.cursor.gaps.push((next, u64::MAX));
                        }
                    }
                }
                for (taker, before) in self.takers.iter_mut().zip(before) {
                    taker.noted &= taker.cursor.gaps == before;
                }
            }
        }
        gone
    }

    /// Octets of segments that the sink at `index` has not read.
    fn lag(&self, index: usize) -> u64 {
        let taker = &self.takers[index];
        let unread = self.segments.iter().filter(|entry| taker.needs(entry.number));
        unread.map(|entry| entry.octets).sum()
    }

    /// Lets sinks take part again: all of them once a quarter of the room is free, and before that those
    /// that have caught up, as far as there is room at all.
    fn close_gaps(&mut self, segment: u64, max: u64, reserve: u64) {
        let need = self.octets() + segment;
        let Some(last) = self.next.checked_sub(1) else { return };
        for index in 0..self.takers.len() {
            let caught_up = need <= max && self.lag(index) <= reserve / 2;
            if need > max - max / 4 && !caught_up {
                continue;
            }
            let gaps = &mut self.takers[index].cursor.gaps;
            if let Some(gap) = gaps.last_mut().filter(|gap| gap.1 == u64::MAX) {
                gap.1 = last;
                if gap.0 > gap.1 {
                    gaps.pop();
                }
                self.advance(index);
            }
        }
    }

    /// Whether there is room for a segment of `need` octets below `max`, and any sink takes it.
    pub(super) fn takes(&self, need: u64, max: u64) -> bool {
        let wanted = self.takers.iter().any(|taker| !taker.cursor.gap_is_open());
        wanted && self.octets() + need <= max
    }

    /// Gives the oldest segment up, for all that need it.
    fn give_up(&mut self) -> Option<u64> {
        let number = self.segments.front()?.number;
        for index in 0..self.takers.len() {
            let taker = &mut self.takers[index];
            if taker.cursor.segment != number {
                continue;
            }
            let flying = taker.flight.filter(|flight| flight.segment == number);
            let lost = taker.left - flying.map_or(0, |flight| flight.records);
            taker.shed(lost, SPOOL_FULL);
            let mut cursor = taker.cursor.clone();
            cursor.go(number + 1);
            self.move_to(index, cursor);
        }
        self.segments.pop_front();
        Some(number)
    }

    /// How the delivery of each sink stands at `now`.
    pub(super) fn deliveries(&self, now: Micros) -> impl Iterator<Item = (String, Delivery)> {
        self.takers.iter().map(move |taker| {
            let first = self.entry(taker.cursor.segment).and_then(|entry| entry.first);
            let oldest = taker.flight.map(|flight| flight.written).or(first);
            let waits = taker.ledger.spooled > 0;
            let age = oldest.filter(|_| waits).map_or(0, |oldest| now.since(oldest).max(0));
            let oldest_us = age.unsigned_abs();
            (taker.name.clone(), Delivery { oldest_us, ..taker.delivery.clone() })
        })
    }
}

impl Taker {
    /// Whether it still reads the segment `number`.
    fn needs(&self, number: u64) -> bool {
        self.cursor.needs(number) || self.flight.is_some_and(|flight| flight.segment == number)
    }

    /// Loses records that it was to deliver.
    fn shed(&mut self, records: u64, reason: &'static str) {
        self.ledger.spooled -= records;
        self.ledger.shed.add(reason, records);
    }
}
