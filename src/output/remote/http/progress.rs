//! What has become of each record of the unit in hand.

use crate::output::spool::{Delivered, Unit};

/// What has become of the records of the unit in hand.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Which unit: spool, segment, offset and length.
    unit: Option<(u64, u64, u64, usize)>,
    /// Per record, whether it is there or refused for good.
    done: Vec<bool>,
    dead: Vec<(usize, String)>,
    octets: u64,
}

impl Progress {
    /// Takes `unit` up: goes on with it if it is the one in hand.
    pub(super) fn begin(&mut self, unit: &dyn Unit) {
        let name = (unit.spool(), unit.segment(), unit.offset(), unit.len());
        if self.unit != Some(name) {
            *self = Self { unit: Some(name), done: vec![false; unit.len()], ..Self::default() };
        }
    }

    /// The records that are neither there nor refused for good.
    pub(super) fn open(&self) -> Vec<usize> {
        let open = self.done.iter().enumerate().filter(|(_, done)| !**done);
        open.map(|(row, _)| row).collect()
    }

    pub(super) fn there(&mut self, rows: impl Iterator<Item = usize>) {
        rows.for_each(|row| self.done[row] = true);
    }

    pub(super) fn dead(&mut self, row: usize, reason: String) {
        self.done[row] = true;
        self.dead.push((row, reason));
    }

    /// Notes octets that were sent.
    pub(super) fn sent(&mut self, octets: u64) {
        self.octets += octets;
    }

    /// What became of the unit, once nothing of it is open.
    pub(super) fn finish(&mut self) -> Delivered {
        let Self { mut dead, octets, .. } = std::mem::take(self);
        dead.sort_unstable_by_key(|(row, _)| *row);
        Delivered { octets, dead }
    }
}
