//! What a sink behind the spool is: somewhere that units are delivered to.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::unit::Objects;
use crate::output::schema::{Record, Stream, Value};
use crate::time::Micros;

/// Records of one stream that are delivered and acknowledged together: what one sink selects of a
/// run of frames of the spool, in their order.
///
/// The same frames give the same unit, also after a restart: `(spool, segment, offset)` names what
/// it begins with.
pub trait Unit {
    /// The stream of all its records.
    fn stream(&self) -> Stream;
    /// The spool's own number, drawn when its directory was made.
    fn spool(&self) -> u64;
    /// Number of the segment that its frames stand in.
    fn segment(&self) -> u64;
    /// When that segment was created, by the wall clock.
    fn created(&self) -> Micros;
    /// Where its first frame begins in the segment.
    fn offset(&self) -> u64;
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
        (0..self.len()).map(|row| self.record(row))
    }

    /// Its record `row`, below [`len`](Unit::len).
    #[must_use]
    pub fn record(&self, row: usize) -> UnitRecord<'_> {
        UnitRecord { unit: self, row }
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
    /// may pass: it returns [`Failure::Later`], and is called again after a pause. Where it waits,
    /// it looks at `stop`.
    ///
    /// # Errors
    /// [`Failure`].
    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure>;

    /// Tries whether the other side is there, as far as that can be told without a record: called before
    /// the first one, and again after a pause until it succeeds or a record comes.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        Ok(())
    }

    /// Records of a unit, at most.
    fn unit_records(&self) -> usize {
        16_384
    }
}

/// A place that takes whole segments: one object of each.
pub trait ObjectTarget: Send {
    /// Delivers what is selected of one sealed segment: returns once it is there for good.
    ///
    /// # Errors
    /// As [`Target::deliver`].
    fn deliver(&mut self, objects: &Objects<'_>, stop: &Stop) -> Result<Delivered, Failure>;

    /// As [`Target::probe`].
    ///
    /// # Errors
    /// As [`Target::deliver`].
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        Ok(())
    }
}

/// Either kind.
pub enum Place {
    /// Takes units as they come.
    Stream(Box<dyn Target>),
    /// Takes whole segments.
    Objects(Box<dyn ObjectTarget>),
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

impl Failure {
    /// [`Failure::Later`] without a pause of the other side's.
    pub fn later(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Later { reason, message: message.into(), after: None }
    }
}

/// Says when to stop.
#[derive(Debug, Default)]
pub struct Stop {
    deadline: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Stop {
    /// The sensor stops; what is spooled may still be delivered for `time`.
    pub fn within(&self, time: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
        self.changed.notify_all();
    }

    /// Whether the sensor is stopping.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether it is stopping and the time is over.
    #[must_use]
    pub fn over(&self) -> bool {
        let deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits for `time`, or until the sensor is asked to stop: then returns true.
    pub fn wait(&self, time: Duration) -> bool {
        let deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(deadline, time, |stop| stop.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.is_some()
    }
}
