//! The thread of one sink: makes units, hands them to the target, and tries again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::book::{Flight, Settled, Work};
use super::dead::DeadLetters;
use super::log::{Log, Totals};
use super::segment::{Segment, Sums};
use super::target::{Delivered, Failure, Place, Stop, Unit};
use super::unit::{Frames, Objects, wanted};
use crate::config::Select;
use crate::output::schema::Record;

/// The pause after a failed attempt doubles from the first to the second. It has no random part:
/// couriers of one sensor are few, and each has another server.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest pause that the other side can ask for.
const ASKED_MAX: Duration = Duration::from_secs(300);
/// Octets of the frames of a unit, decompressed; one frame may be larger.
const UNIT_OCTETS: u64 = 32 << 20;

/// What stops an attempt.
pub(super) struct Stopped;

/// Calls `deliver` until it succeeds, with a pause between two calls that doubles. `failed` hears
/// of every failure.
pub(super) fn persist(
    stop: &Stop,
    mut failed: impl FnMut(&'static str, &str),
    mut deliver: impl FnMut(bool) -> Result<Delivered, Failure>,
) -> Result<Delivered, Stopped> {
    let (mut pause, mut again) = (PAUSE_MIN, false);
    loop {
        let (reason, message, after) = match deliver(again) {
            Ok(delivered) => return Ok(delivered),
            Err(Failure::Stopped) => return Err(Stopped),
            Err(Failure::Later { reason, message, after }) => (reason, message, after),
        };
        failed(reason, &message);
        if stop.asked() {
            return Err(Stopped);
        }
        // A stop ends the pause, and what was not delivered is tried a last time.
        stop.wait(pause.max(after.unwrap_or_default().min(ASKED_MAX)));
        pause = (pause * 2).min(PAUSE_MAX);
        again = true;
    }
}

/// Calls `probe` until it succeeds, the sensor stops or there is `work`. `failed` hears of every failure.
/// Whether it succeeded.
pub(super) fn try_out(
    stop: &Stop,
    work: impl Fn() -> bool,
    mut failed: impl FnMut(&'static str, &str),
    mut probe: impl FnMut() -> Result<(), Failure>,
) -> bool {
    /// Between two looks for work.
    const LOOK: Duration = Duration::from_millis(50);
    let mut pause = PAUSE_MIN;
    loop {
        if stop.asked() || work() {
            return false;
        }
        match probe() {
            Ok(()) => return true,
            Err(Failure::Stopped) => return false,
            Err(Failure::Later { reason, message, .. }) => failed(reason, &message),
        }
        let again = Instant::now() + pause;
        while Instant::now() < again {
            if stop.wait(LOOK) || work() {
                return false;
            }
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

pub(super) struct Courier {
    log: Arc<Log>,
    /// Its place in the book.
    index: usize,
    select: Select,
    place: Place,
    dead: DeadLetters,
    segment: Option<Segment>,
}

impl Courier {
    pub(super) fn new(
        log: Arc<Log>,
        index: usize,
        (name, select): (&str, Select),
        place: Place,
    ) -> Self {
        let dead = DeadLetters::new(&log.directory, name, select.into());
        Self { log, index, select, place, dead, segment: None }
    }

    pub(super) fn run(mut self) {
        self.try_out();
        while let Some(work) = self.log.wait(self.index) {
            let done = match self.place {
                Place::Stream(_) => self.unit(&work),
                Place::Objects(_) => self.object(&work),
            };
            match done {
                Ok(Ok(settled)) => self.log.settle(self.index, &settled),
                Ok(Err(Stopped)) => break,
                Err(error) => {
                    self.segment = None;
                    if self.unreadable(&work, &error) {
                        break;
                    }
                }
            }
        }
        self.log.book().abandon(self.index);
    }

    /// Tells before the first record whether the other side is there.
    fn try_out(&mut self) {
        let (log, index) = (Arc::clone(&self.log), self.index);
        let there = try_out(
            &log.stop,
            || log.book().work(index).is_some(),
            |reason, message| log.failed(index, reason, message),
            || match &mut self.place {
                Place::Stream(target) => target.probe(&log.stop),
                Place::Objects(target) => target.probe(&log.stop),
            },
        );
        if there {
            log.recovered(index);
        }
    }

    /// A segment cannot be read: what is left of it is given up if it is gone, else there is
    /// another try. Returns whether to stop.
    fn unreadable(&self, work: &Work, error: &io::Error) -> bool {
        let message = format!("cannot read segment {} of the spool: {error}", work.segment);
        self.log.failed(self.index, "read", &message);
        let gone = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        );
        if gone {
            let Work { segment, end, .. } = *work;
            self.log.settle(self.index, &Settled { segment, end, ..Settled::default() });
            return false;
        }
        self.log.stop.wait(PAUSE_MIN)
    }

    fn segment(&mut self, work: &Work) -> io::Result<&Segment> {
        if self.segment.as_ref().is_none_or(|segment| segment.head.number != work.segment) {
            self.segment = Some(Segment::open(&self.log.segments(), work.segment, work.end)?);
        }
        Ok(self.segment.as_ref().expect("just opened"))
    }

    /// Delivers the next unit of `work`.
    fn unit(&mut self, work: &Work) -> io::Result<Result<Settled, Stopped>> {
        let Place::Stream(target) = &self.place else { unreachable!("asked before") };
        let records_max = target.unit_records();
        let select = self.select;
        let (log, index) = (Arc::clone(&self.log), self.index);
        let segment = self.segment(work)?;
        let mut unit: Option<Frames> = None;
        // Before its first frame are its head and schemas, which are no damage.
        let mut at = work.offset.max(segment.start);
        let (mut octets, mut written) = (0, None);
        loop {
            let Some(found) = segment.next(at, work.end) else {
                Totals::add(&log.counts.damaged_octets, work.end - at.min(work.end));
                at = work.end;
                break;
            };
            Totals::add(&log.counts.damaged_octets, found.offset - at);
            if wanted(select, found.header.kind) && Sums::of(&found.header).select(select) > 0 {
                match segment.block(&found) {
                    Some(block) => {
                        let new = || Frames::new(select, segment.head, found.offset);
                        unit.get_or_insert_with(new).add(select, block);
                        written = written.or(Some(found.header.written));
                        octets += u64::from(found.header.raw);
                    }
                    None => Totals::add(&log.counts.damaged_octets, found.header.frame()),
                }
            }
            at = found.end();
            let full = |unit: &Frames| unit.len() >= records_max || octets >= UNIT_OCTETS;
            if at >= work.end || unit.as_ref().is_some_and(full) {
                break;
            }
        }
        let mut settled = Settled { segment: work.segment, end: at, ..Settled::default() };
        let Some(unit) = unit.filter(|unit| unit.len() > 0) else { return Ok(Ok(settled)) };
        let (records, written) = (unit.len() as u64, written.expect("of the first frame"));
        if !log.fly(index, Flight::new(work.segment, records, written)) {
            return Ok(Ok(settled));
        }
        let Place::Stream(target) = &mut self.place else { unreachable!("asked before") };
        let delivered = persist(
            &log.stop,
            |reason, message| log.failed(index, reason, message),
            |again| {
                log.book().takers[index].delivery.retries += u64::from(again);
                target.deliver(&unit, &log.stop)
            },
        );
        let delivered = match delivered {
            Ok(delivered) => delivered,
            Err(stopped) => return Ok(Err(stopped)),
        };
        settled.octets = delivered.octets;
        settled.dead = delivered.dead.len() as u64;
        settled.acknowledged = records - settled.dead;
        let unit: &dyn Unit = &unit;
        let dead = delivered.dead.into_iter();
        self.bury(dead.filter_map(|(row, reason)| Some((unit.records().nth(row)?, reason))));
        Ok(Ok(settled))
    }

    /// Delivers the sealed segment of `work` as a whole.
    fn object(&mut self, work: &Work) -> io::Result<Result<Settled, Stopped>> {
        let mut settled = Settled { segment: work.segment, end: work.end, ..Settled::default() };
        if work.left == 0 {
            return Ok(Ok(settled));
        }
        let (log, index, select) = (Arc::clone(&self.log), self.index, self.select);
        let segment = Segment::open(&log.segments(), work.segment, work.end)?;
        let written = segment.next(0, work.end).map_or(segment.head.created, |f| f.header.written);
        if !log.fly(index, Flight::new(work.segment, work.left, written)) {
            return Ok(Ok(settled));
        }
        let objects = Objects::new(&segment, select, work.end);
        let Place::Objects(target) = &mut self.place else { unreachable!("asked before") };
        let delivered = persist(
            &log.stop,
            |reason, message| log.failed(index, reason, message),
            |again| {
                log.book().takers[index].delivery.retries += u64::from(again);
                target.deliver(&objects, &log.stop)
            },
        );
        let delivered = match delivered {
            Ok(delivered) => delivered,
            Err(stopped) => return Ok(Err(stopped)),
        };
        settled.octets = delivered.octets;
        // What its frames were to hold and could not be read is left, and shed as such.
        settled.acknowledged = objects.given().min(work.left);
        Totals::add(&log.counts.damaged_octets, objects.damaged());
        Ok(Ok(settled))
    }

    fn bury<R: Record>(&mut self, dead: impl Iterator<Item = (R, String)>) {
        if let Err(error) = self.dead.write(dead) {
            self.log.error("dead_letter");
            tracing::error!(%error, "cannot write the dead-letter file: its records are lost");
        }
    }
}
