//! The threads that append: one scribe for slices, one for alerts, so that no alert waits until
//! thousands of slices are made into columns.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::columns::Builder;
use super::frame::Header;
use super::log::Log;
use super::segment::{Framer, Sums};
use super::tail::{Appended, Tail};
use super::wall;
use crate::config;
use crate::output::Batch;
use crate::output::schema::{Context, Row, Shown, Stream};

/// Records of a frame, but for those of one batch.
const FRAME_RECORDS: usize = 8_192;
/// Octets of a segment for each record of a frame, at least: where segments are small, frames are.
const RECORD_OCTETS: u64 = 256;
/// The pause between two tries to write.
const PAUSE: Duration = Duration::from_millis(250);
/// The disk is full or broken.
pub(super) const WRITE_ERROR: &str = "write_error";

/// A batch on its way, with the names of its time and when it was handed over.
pub(super) struct Handed {
    pub(super) batch: Arc<Batch>,
    pub(super) context: Arc<Context>,
    pub(super) at: Instant,
}

pub(super) enum Message {
    Batch(Handed),
    Close,
}

/// Appends the records of one stream.
pub(super) struct Scribe {
    log: Arc<Log>,
    tail: Arc<Tail>,
    stream: Stream,
    receiver: Receiver<Message>,
    frame_records: usize,
    builder: Builder,
    framer: Framer,
    frame: Vec<u8>,
}

impl Scribe {
    pub(super) fn new(
        config: &config::Spool,
        (log, tail): (&Arc<Log>, &Arc<Tail>),
        stream: Stream,
        receiver: Receiver<Message>,
    ) -> io::Result<Self> {
        let records = usize::try_from(config.segment_bytes / RECORD_OCTETS);
        Ok(Self {
            log: Arc::clone(log),
            tail: Arc::clone(tail),
            stream,
            receiver,
            frame_records: records.unwrap_or(FRAME_RECORDS).min(FRAME_RECORDS),
            builder: Builder::new(stream),
            framer: Framer::new(stream)?,
            frame: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        loop {
            // Whoever wrote last wakes up in time to seal.
            let due_at = self.tail.lock().due_at();
            let message = match due_at {
                Some(at) => self.receiver.recv_deadline(at),
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let closed = match message {
                Ok(Message::Batch(first)) => self.gather(first),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => true,
                Err(RecvTimeoutError::Timeout) => false,
            };
            self.tail.lock().tend();
            if closed {
                break;
            }
        }
        self.tail.lock().leave();
    }

    /// How many records of `batch` are this scribe's.
    fn count(&self, batch: &Batch) -> usize {
        match self.stream {
            Stream::Slices => batch.slices.len(),
            Stream::Alerts => batch.alerts.len(),
        }
    }

    /// Writes `first` and what waits after it, up to a frame's worth. Returns whether the spool
    /// was closed.
    fn gather(&mut self, first: Handed) -> bool {
        let (mut records, mut gathered) = (self.count(&first.batch), vec![first]);
        let mut closed = false;
        while records < self.frame_records {
            match self.receiver.try_recv() {
                Ok(Message::Batch(handed)) => {
                    records += self.count(&handed.batch);
                    gathered.push(handed);
                }
                Ok(Message::Close) => {
                    closed = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let written = self.write(&gathered);
        self.tell_latency(&gathered, written);
        self.log.book().queued -= records;
        self.log.room.notify_all();
        closed
    }

    /// Tells how long the append of `gathered` took.
    fn tell_latency(&self, gathered: &[Handed], written: bool) {
        let now = Instant::now();
        let mut append = self.log.append.lock().unwrap_or_else(PoisonError::into_inner);
        for handed in gathered {
            let took = now.duration_since(handed.at).as_micros();
            append.record(i64::try_from(took).unwrap_or(i64::MAX));
        }
        drop(append);
        if written && self.stream == Stream::Alerts {
            let now = wall();
            let alerts = gathered.iter().flat_map(|handed| &handed.batch.alerts);
            let arrivals = alerts.filter_map(|alert| alert.arrived);
            let mut latency = self.log.alerts.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.for_each(|arrived| latency.record(now.since(arrived)));
        }
    }

    /// Makes one frame of `gathered` and appends it. When it returns, the records are in the file,
    /// or were shed; says whether they are in the file.
    fn write(&mut self, gathered: &[Handed]) -> bool {
        let mut tagged = 0;
        for Handed { batch, context, .. } in gathered {
            match self.stream {
                Stream::Slices => {
                    for slice in &batch.slices {
                        tagged += usize::from(!slice.rules.is_empty());
                        self.builder.push(&Shown::new(Row::from(slice), context));
                    }
                }
                Stream::Alerts => {
                    for alert in &batch.alerts {
                        self.builder.push(&Shown::new(Row::from(alert), context));
                    }
                }
            }
        }
        let records = self.builder.rows() as u64;
        let sums = match self.stream {
            Stream::Slices => Sums { slices: records, tagged: tagged as u64, alerts: 0 },
            Stream::Alerts => Sums { alerts: records, ..Sums::default() },
        };
        let made = self.framer.make(&mut self.frame, &mut self.builder, tagged, wall());
        match made {
            Ok(header) => self.append(&header, sums),
            Err(error) => {
                self.log.error("write");
                tracing::error!(%error, "records cannot be written as columns");
                self.builder.clear();
                self.log.book().lose(sums, WRITE_ERROR);
                false
            }
        }
    }

    /// Appends the frame, for as long as it takes.
    fn append(&mut self, header: &Header, sums: Sums) -> bool {
        let mut stopping = false;
        loop {
            let appended = self.tail.lock().append(header, &self.frame);
            let error = match appended {
                Ok(Appended::Written) => return true,
                Ok(Appended::Full) => {
                    self.log.book().lose(sums, super::SPOOL_FULL);
                    return false;
                }
                Err(error) => error,
            };
            self.log.error("write");
            self.tail.lock().failed(&error);
            if stopping {
                // Tried once more after the stop was asked for, and lost.
                self.log.book().lose(sums, WRITE_ERROR);
                return false;
            }
            stopping = self.log.stop.wait(PAUSE);
        }
    }
}
