//! Units out of frames.

use std::cell::Cell;

use super::columns::Block;
use super::frame::Kind;
use super::segment::{Found, Head, Segment, Sums};
use super::target::Unit;
use crate::config::Select;
use crate::output::schema::{Stream, Value};
use crate::time::Micros;

/// What a sink selects of some frames of one segment.
pub(super) struct Frames {
    stream: Stream,
    head: Head,
    offset: u64,
    blocks: Vec<Block>,
    /// Each record's block and row.
    rows: Vec<(u32, u32)>,
}

impl Frames {
    pub(super) fn new(select: Select, head: Head, offset: u64) -> Self {
        let (blocks, rows) = (Vec::new(), Vec::new());
        Self { stream: select.into(), head, offset, blocks, rows }
    }

    /// Adds what `select` takes of `block`.
    pub(super) fn add(&mut self, select: Select, block: Block) {
        let at = narrow(self.blocks.len());
        let all = (0..block.rows()).map(|row| (at, narrow(row)));
        match select {
            Select::Slices | Select::Alerts => self.rows.extend(all),
            Select::Tagged => {
                let index = self.stream.index_of("sigma_rule_ids").expect("a field of slices");
                self.rows.extend(all.filter(|&(_, row)| block.tagged(row as usize, index)));
            }
        }
        self.blocks.push(block);
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a frame has no more")
}

impl Unit for Frames {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn spool(&self) -> u64 {
        self.head.spool
    }

    fn segment(&self) -> u64 {
        self.head.number
    }

    fn created(&self) -> Micros {
        self.head.created
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn value(&self, row: usize, index: usize) -> Value<'_> {
        let (block, row) = self.rows[row];
        self.blocks[block as usize].value(row as usize, index)
    }
}

/// Whether a frame of `kind` has records for `select`.
pub(super) const fn wanted(select: Select, kind: Kind) -> bool {
    match select {
        Select::Slices | Select::Tagged => matches!(kind, Kind::Records(Stream::Slices)),
        Select::Alerts => matches!(kind, Kind::Records(Stream::Alerts)),
    }
}

/// What a sink selects of one sealed segment: the records of one object.
#[derive(Debug)]
pub struct Objects<'a> {
    segment: &'a Segment,
    select: Select,
    end: u64,
    /// Records that the last pass over [`units`](Self::units) gave.
    given: Cell<u64>,
    /// Octets that it could not read.
    damaged: Cell<u64>,
}

impl<'a> Objects<'a> {
    pub(super) const fn new(segment: &'a Segment, select: Select, end: u64) -> Self {
        Self { segment, select, end, given: Cell::new(0), damaged: Cell::new(0) }
    }

    /// The stream of all records.
    #[must_use]
    pub fn stream(&self) -> Stream {
        self.select.into()
    }

    /// The spool's own number, drawn when its directory was made.
    #[must_use]
    pub const fn spool(&self) -> u64 {
        self.segment.head.spool
    }

    /// The segment's number.
    #[must_use]
    pub const fn segment(&self) -> u64 {
        self.segment.head.number
    }

    /// When the segment was created, by the wall clock.
    #[must_use]
    pub const fn created(&self) -> Micros {
        self.segment.head.created
    }

    /// Records that the last pass over [`units`](Self::units) gave.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given.get()
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged.get()
    }

    /// The records, a frame at a time, so that a segment need not fit into memory. Each pass reads
    /// them anew and gives the same. What is damaged, or what the disk does not read, is passed over, and counted by the spool.
    pub fn units(&self) -> impl Iterator<Item = Box<dyn Unit>> {
        self.given.set(0);
        self.damaged.set(0);
        let mut at = self.segment.start;
        std::iter::from_fn(move || self.next(&mut at))
    }

    fn next(&self, at: &mut u64) -> Option<Box<dyn Unit>> {
        let lost = |octets: u64| self.damaged.set(self.damaged.get() + octets);
        while let Some(found) = self.segment.next(*at, self.end) {
            let Found { offset, header } = found;
            lost(offset - *at);
            *at = found.end();
            let some = Sums::of(&header).select(self.select) > 0;
            if !some || !wanted(self.select, header.kind) {
                continue;
            }
            let Some(block) = self.segment.block(&found) else {
                lost(header.frame());
                continue;
            };
            let mut frames = Frames::new(self.select, self.segment.head, offset);
            frames.add(self.select, block);
            if frames.len() > 0 {
                self.given.set(self.given.get() + frames.len() as u64);
                return Some(Box::new(frames));
            }
        }
        lost(self.end.saturating_sub(*at));
        *at = self.end;
        None
    }
}
