//! What a sink behind the spool is: somewhere that units are delivered to.

use std::time::Duration;

use crate::output::schema::{Record, Stream, Value};
use crate::time::Micros;

/// Records of one stream that are delivered and acknowledged together: what one sink selects of a
/// run of frames of the spool, in their order.
///
/// The same frames give the same unit, also after a restart: a target that names what it writes by
/// [`segment`](Self::segment) and [`first_frame`](Self::first_frame) writes it once.
pub trait Unit {
    /// The stream of all its records.
    fn stream(&self) -> Stream;
    /// Number of the segment that its frames stand in.
    fn segment(&self) -> u64;
    /// When that segment was created, by the wall clock.
    fn created(&self) -> Micros;
    /// Place of its first frame in the segment.
    fn first_frame(&self) -> u32;
    /// How many records it has; never 0.
    fn len(&self) -> usize;
    /// Whether it has none: never.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Of its record `row`, below [`len`](Self::len), the value of the field at `index` of the
    /// stream's table.
    fn value(&self, row: usize, index: usize) -> Value<'_>;
}

impl dyn Unit + '_ {
    /// Its records, in their order.
    pub fn records(&self) -> impl Iterator<Item = UnitRecord<'_>> {
        (0..self.len()).map(|row| UnitRecord { unit: self, row })
    }
}

/// One record of a unit.
#[derive(Clone, Copy)]
pub struct UnitRecord<'a> {
    unit: &'a dyn Unit,
    row: usize,
}

impl Record for UnitRecord<'_> {
    fn value(&self, index: usize) -> Value<'_> {
        self.unit.value(self.row, index)
    }
}

/// A place that units go to. Each has a thread of its own, in which it may block.
pub trait Target: Send {
    /// Delivers `unit`: returns once the other side has acknowledged it.
    ///
    /// The same unit may come again after an error or a crash. Never gives up by itself on what
    /// may pass: it returns [`Failure::Later`], and is called again after a pause.
    ///
    /// # Errors
    /// [`Failure`].
    fn deliver(&mut self, unit: &dyn Unit) -> Result<Delivered, Failure>;
}

/// What became of a delivered unit.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delivered {
    /// Octets sent, as encoded and compressed.
    pub octets: u64,
    /// Records that the other side will never take, by their place in the unit, each with a
    /// reason: they go to the dead-letter file, and the rest of the unit is acknowledged.
    pub dead: Vec<(usize, String)>,
}

/// Why a unit was not delivered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// May pass: the other side is away, slow, full, or refuses the credentials. Tried again.
    Later {
        /// Label of the metric: one of a small closed set.
        reason: &'static str,
        /// What was tried, what came back, and what was expected.
        message: String,
        /// The pause that the other side asks for.
        after: Option<Duration>,
    },
    /// The sensor is stopping and the time for it is over; the unit stays in the spool.
    Stopped,
}
