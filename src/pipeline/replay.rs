//! The reader of files: captures, captures of export datagrams, CSV, slices. The same loop as live
//! traffic; only the input and its clock differ.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::router::Router;
use super::worker::Shared;
use crate::decode::netflow::{Collector, wire};
use crate::decode::packet::{LinkType, Options, is_giant, parse, udp_payload};
use crate::decode::text::{CsvDecoder, HeaderError, RowError};
use crate::flow::FlowRecord;
#[cfg(feature = "capture")]
use crate::input::capture::{CaptureError, Filter};
use crate::input::pcap::{Packet, PcapError, Reader};
use crate::input::source::{Kind, Source};
use crate::metrics::Ledgers;
use crate::time::{InputClock, Micros};

/// Packets or rows between two flushes of the router, unless asked otherwise. It changes when
/// records come out, never what they hold.
pub const FLUSH_EVERY: u64 = 4_096;
/// Octets of text read at once.
const CHUNK_OCTETS: usize = 64 << 10;
/// Bad rows that are named one by one; all are counted.
const ROWS_WARNED_MAX: u64 = 10;
/// Ahead of time by less than this, a paced replay does not sleep.
const PACE_STEP: Duration = Duration::from_millis(2);

/// Why a replay ended early.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A capture is damaged.
    #[error("{}: {error}", path.display())]
    Capture {
        /// Which.
        path: PathBuf,
        /// How.
        error: PcapError,
    },
    /// A table of rows is not what is expected.
    #[error("{}: {error}", path.display())]
    Rows {
        /// Which.
        path: PathBuf,
        /// How.
        error: HeaderError,
    },
    /// A file of slices ends within a row; all rows before it count.
    #[error("{}: cut short: it ends within row {row}", path.display())]
    CutShort {
        /// Which.
        path: PathBuf,
        /// From 1.
        row: u64,
    },
    /// No file holds anything.
    #[error("{}: {}", path.display(), EMPTY)]
    Empty {
        /// The first.
        path: PathBuf,
    },
    /// The filter has no meaning on a link type of the capture.
    #[cfg(feature = "capture")]
    #[error("{}: {error}", path.display())]
    Filter {
        /// Which capture.
        path: PathBuf,
        /// How.
        error: CaptureError,
    },
    /// A Parquet file is damaged, or not what Weir writes.
    #[cfg(feature = "parquet")]
    #[error("{}: {error}", path.display())]
    Parquet {
        /// Which.
        path: PathBuf,
        /// How.
        error: crate::input::parquet::SlicesError,
    },
    /// Parquet that cannot be read here.
    #[error("{}: Parquet {why}", path.display())]
    NoParquet {
        /// Which file.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Neither a capture nor text nor Parquet.
    #[error("{}: not a pcap or pcapng capture, not CSV or NDJSON text (plain, gzip or zstd), and \
             not Parquet", path.display())]
    Unknown {
        /// Which.
        path: PathBuf,
    },
}

/// What is said of a file without an octet.
const EMPTY: &str = "is empty: it holds no flow";

/// Packets of a capture that are looked at for export datagrams, before a hint is given.
const LOOKED_AT_MAX: u32 = 1_000;

/// Which packets of a capture are export datagrams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exports {
    /// None: packets are metered.
    No,
    /// UDP to this port.
    Port(u16),
    /// UDP whose payload begins with the header of an export.
    Any,
}

impl Exports {
    /// As `--netflow` says: not given, given alone (0), or with a port.
    #[must_use]
    pub const fn of(port: Option<u16>) -> Self {
        match port {
            None => Self::No,
            Some(0) => Self::Any,
            Some(port) => Self::Port(port),
        }
    }
}

/// The reader of files.
pub struct Replay {
    /// Which packets are export datagrams.
    pub exports: Exports,
    /// What is opened on the way in.
    pub options: Options,
    /// Packets or rows between two flushes of the router; 0 counts as 1.
    pub flush_every: u64,
    /// Real time times this; `None`: as fast as it goes.
    pub speed: Option<f64>,
    /// Only packets that this BPF program takes.
    #[cfg(feature = "capture")]
    pub filter: Option<Filter>,
    /// Exporters' state.
    pub collector: Collector,
    /// To the workers.
    pub router: Router,
    /// The board's slot of this reader.
    pub slot: usize,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Octets read so far, of all files.
    pub progress: Arc<AtomicU64>,
    /// Names of the sites, by the index that flows carry.
    pub sites: Vec<String>,
    /// Set when the replay shall end early.
    pub stop: Arc<AtomicBool>,
}

/// What the loop over a file's packets or rows carries along.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) ledgers: Ledgers,
    pub(super) clock: InputClock,
    pace: Option<(Instant, Micros)>,
    since_flush: u64,
    rejected_rows: u64,
}

/// What a replay leaves behind.
#[derive(Debug)]
pub struct Replayed {
    /// The exporters' state at the end.
    pub collector: Collector,
    /// The input clock at the end.
    pub now: Micros,
    /// Rows that tell of no flow.
    pub rejected_rows: u64,
}

impl Run {
    /// Counts a row that tells of no flow, and names the first ones.
    pub(super) fn reject(&mut self, path: &Path, reason: &'static str, why: &dyn fmt::Display) {
        self.ledgers.records.decoded += 1;
        self.ledgers.records.dropped.one(reason);
        self.rejected_rows += 1;
        if self.rejected_rows <= ROWS_WARNED_MAX {
            tracing::warn!("{}: {why}", path.display());
        }
    }
}

impl Replay {
    /// Reads `files` in order and ends all flows. Workers in other threads may go on for a while.
    ///
    /// # Errors
    /// The first file that cannot be read to its end. What was read before it counts: flows are
    /// handed on in either case. What follows a file of slices that is cut short, or an empty file, is
    /// read all the same; an empty one is no error where another is not.
    pub fn run(self, files: &[PathBuf]) -> (Replayed, Result<(), ReplayError>) {
        self.read_all(files, None)
    }

    /// As [`Replay::run`], of one input whose first octets were looked at: a stream has them but once.
    /// What an early end means is for the caller to say: it knows of the other inputs.
    ///
    /// # Errors
    /// As [`Replay::run`].
    pub fn run_opened(self, path: &Path, source: Source) -> (Replayed, Result<(), ReplayError>) {
        self.read_all(&[path.to_owned()], Some(source))
    }

    fn read_all(
        mut self,
        files: &[PathBuf],
        mut opened: Option<Source>,
    ) -> (Replayed, Result<(), ReplayError>) {
        self.router.settle();
        let mut run = Run::default();
        let told = opened.is_some();
        let (mut result, mut cut, mut empty, mut some) = (Ok(()), None, None, false);
        for (index, path) in files.iter().enumerate() {
            if self.stopped() {
                break;
            }
            result = self.file(path, opened.take(), &mut run);
            if let Err(error @ (ReplayError::CutShort { .. } | ReplayError::Empty { .. })) = result
            {
                if index + 1 < files.len() {
                    tracing::warn!("{error}");
                }
                let aside =
                    if matches!(error, ReplayError::Empty { .. }) { &mut empty } else { &mut cut };
                aside.get_or_insert(error);
                result = Ok(());
                continue;
            }
            some = true;
            if result.is_err() {
                let unread = files.len() - index - 1;
                if !told && run.clock.now() > Micros::MIN {
                    tracing::warn!(unread, "the input is cut short: what was read before counts");
                }
                break;
            }
        }
        // Among others an empty file is none; what lacks a part of a row is not all there was.
        if let Some(error) = cut.or(empty.filter(|_| !some)).filter(|_| result.is_ok()) {
            result = Err(error);
        }
        let now = run.clock.now();
        let slot = &self.shared.board.slots()[self.slot];
        slot.publish(&run.ledgers);
        self.router.finish(now);
        let rejected_rows = run.rejected_rows;
        (Replayed { collector: self.collector, now, rejected_rows }, result)
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn file(
        &mut self,
        path: &Path,
        opened: Option<Source>,
        run: &mut Run,
    ) -> Result<(), ReplayError> {
        let open = || Source::open(path, Arc::clone(&self.progress));
        let mut source = opened.map_or_else(open, Ok)?;
        match source.kind()? {
            Kind::Capture => self.capture(path, source, run),
            Kind::Text => {
                self.warn_of_rows(path);
                self.rows(path, source, run)
            }
            Kind::Ndjson => {
                self.warn_of_rows(path);
                self.ndjson(path, source, run)
            }
            Kind::Parquet => {
                self.warn_of_rows(path);
                self.parquet_file(path, run)
            }
            Kind::Empty => Err(ReplayError::Empty { path: path.to_owned() }),
            Kind::Unknown => Err(ReplayError::Unknown { path: path.to_owned() }),
        }
    }

    fn warn_of_rows(&self, path: &Path) {
        if self.exports != Exports::No || self.is_filtered() {
            let path = path.display();
            tracing::warn!("{path}: rows of flows: --netflow and --filter do not apply");
        }
    }

    #[cfg(feature = "parquet")]
    fn parquet_file(&mut self, path: &Path, run: &mut Run) -> Result<(), ReplayError> {
        if path.is_file() {
            return self.parquet(path, run);
        }
        let why = "cannot be read from a stream: give a file that is not compressed";
        Err(ReplayError::NoParquet { path: path.to_owned(), why })
    }

    #[cfg(not(feature = "parquet"))]
    #[expect(clippy::unused_self, reason = "the same form as with the feature")]
    fn parquet_file(&mut self, path: &Path, _: &mut Run) -> Result<(), ReplayError> {
        let why = "cannot be read: this build has no feature `parquet`";
        Err(ReplayError::NoParquet { path: path.to_owned(), why })
    }

    fn capture(&mut self, path: &Path, source: Source, run: &mut Run) -> Result<(), ReplayError> {
        let broken = |error| ReplayError::Capture { path: path.to_owned(), error };
        let mut reader = Reader::new(source).map_err(broken)?;
        let mut looks = Looks::default();
        while !self.stopped() {
            let Some(packet) = reader.next().map_err(broken)? else { break };
            if !self.takes(path, &packet)? {
                run.ledgers.packets.read += 1;
                run.ledgers.packets.excepted.one("filtered");
                continue;
            }
            let stamp = run.clock.stamp(packet.time);
            self.pace(stamp, run);
            if self.exports == Exports::No {
                looks.look(&packet);
                meter(&packet, stamp, &self.options, &mut self.router, &mut run.ledgers);
            } else {
                self.export(&packet, stamp, &mut run.ledgers);
            }
            self.count_and_flush(stamp, run);
        }
        looks.hint(path);
        Ok(())
    }

    #[cfg(feature = "capture")]
    fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    #[cfg(not(feature = "capture"))]
    #[expect(clippy::unused_self, reason = "the same form as with filters")]
    fn is_filtered(&self) -> bool {
        false
    }

    #[cfg(feature = "capture")]
    fn takes(&mut self, path: &Path, packet: &Packet<'_>) -> Result<bool, ReplayError> {
        let Some(filter) = &mut self.filter else { return Ok(true) };
        let failed = |error| ReplayError::Filter { path: path.to_owned(), error };
        filter.matches(packet).map_err(failed)
    }

    #[cfg(not(feature = "capture"))]
    #[expect(clippy::unused_self, reason = "the same form as with filters")]
    #[expect(clippy::unnecessary_wraps, reason = "the same form as with filters")]
    fn takes(&mut self, _: &Path, _: &Packet<'_>) -> Result<bool, ReplayError> {
        Ok(true)
    }

    /// Decodes a packet that carries an export datagram; counts one that does not.
    fn export(&mut self, packet: &Packet<'_>, stamp: Micros, ledgers: &mut Ledgers) {
        ledgers.packets.read += 1;
        let found = export_payload(packet.link, packet.data, self.exports);
        let Some((source, payload)) = found else {
            return ledgers.packets.excepted.one("not_an_export");
        };
        ledgers.packets.excepted.one("export_datagram");
        self.collector.datagram(source, stamp, payload, self.router.batch(), ledgers);
        if self.router.decoded() {
            self.router.work_off(stamp);
        }
    }

    fn rows(&mut self, path: &Path, mut source: Source, run: &mut Run) -> Result<(), ReplayError> {
        let failed = |error: HeaderError| ReplayError::Rows { path: path.to_owned(), error };
        let mut decoder = CsvDecoder::default();
        self.chunks(&mut source, |replay, chunk| {
            decoder.push(chunk, |row| replay.row(path, row, run)).map_err(failed)
        })?;
        decoder.finish(|row| self.row(path, row, run)).map_err(failed)
    }

    /// Calls `each` with what `source` holds, in pieces, until its end or until the replay shall
    /// end.
    pub(super) fn chunks(
        &mut self,
        source: &mut Source,
        mut each: impl FnMut(&mut Self, &[u8]) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        let mut chunk = vec![0; CHUNK_OCTETS];
        loop {
            let octets = source.read(&mut chunk).map_err(|error| source.named(&error))?;
            if octets == 0 || self.stopped() {
                return Ok(());
            }
            each(self, &chunk[..octets])?;
        }
    }

    fn row(&mut self, path: &Path, row: Result<FlowRecord, RowError>, run: &mut Run) {
        match row {
            Ok(mut record) => {
                let stamp = run.clock.stamp(record.stamp);
                record.stamp = stamp;
                self.pace(stamp, run);
                self.router.record(record);
                self.count_and_flush(stamp, run);
            }
            Err(error) => run.reject(path, error.reason(), &error),
        }
    }

    /// Sleeps until `stamp` is due, at the speed that was asked for.
    pub(super) fn pace(&mut self, stamp: Micros, run: &mut Run) {
        let Some(speed) = self.speed else { return };
        let (began, first) = *run.pace.get_or_insert((Instant::now(), stamp));
        let due = Duration::from_micros(stamp.since(first).max(0).unsigned_abs()).div_f64(speed);
        let ahead = due.saturating_sub(began.elapsed());
        if ahead > PACE_STEP {
            self.router.flush(stamp);
            let slot = &self.shared.board.slots()[self.slot];
            slot.publish(&run.ledgers);
            let mut left = ahead;
            while !left.is_zero() && !self.stopped() {
                let nap = left.min(Duration::from_millis(100));
                std::thread::sleep(nap);
                left -= nap;
            }
        }
    }

    pub(super) fn count_and_flush(&mut self, stamp: Micros, run: &mut Run) {
        run.since_flush += 1;
        if run.since_flush >= self.flush_every {
            run.since_flush = 0;
            self.collector.tick(stamp, &mut run.ledgers);
            self.router.flush(stamp);
            let slot = &self.shared.board.slots()[self.slot];
            slot.publish(&run.ledgers);
            slot.beat();
        }
    }
}

/// Whether a capture whose packets are metered is one of export datagrams, by its first packets.
#[derive(Debug, Default)]
struct Looks {
    packets: u32,
    exports: u32,
    port: u16,
}

impl Looks {
    fn look(&mut self, packet: &Packet<'_>) {
        if self.packets == LOOKED_AT_MAX {
            return;
        }
        self.packets += 1;
        if let Some(datagram) = udp_payload(packet.link, packet.data)
            && wire::header(datagram.payload).is_ok()
        {
            self.exports += 1;
            self.port = datagram.dst_port;
        }
    }

    fn hint(&self, path: &Path) {
        if self.exports * 2 > self.packets {
            let (path, Self { packets, exports, port }) = (path.display(), self);
            tracing::warn!(
                "{path}: {exports} of the first {packets} packets look like NetFlow or IPFIX datagrams (the \
                 last to port {port}), and were metered as packets: --netflow decodes them instead"
            );
        }
    }
}

/// The export datagram in a frame: its source, and its payload.
pub fn export_payload(
    link: LinkType,
    frame: &[u8],
    exports: Exports,
) -> Option<((crate::net::Addr, u16), &[u8])> {
    let datagram = udp_payload(link, frame)?;
    let wanted = match exports {
        Exports::No => false,
        Exports::Port(port) => datagram.dst_port == port,
        Exports::Any => wire::header(datagram.payload).is_ok(),
    };
    wanted.then_some(((datagram.src, datagram.src_port), datagram.payload))
}

/// Parses one packet and routes it, or counts why not.
pub fn meter(
    packet: &Packet<'_>,
    stamp: Micros,
    options: &Options,
    router: &mut Router,
    ledgers: &mut Ledgers,
) {
    ledgers.packets.read += 1;
    match parse(packet.link, packet.data, packet.wire_len, options) {
        Ok(mut record) => {
            ledgers.packets.metered += 1;
            ledgers.packets.giants += u64::from(is_giant(&record));
            record.stamp = stamp;
            record.time = packet.time;
            router.packet(record);
        }
        Err(exception) => ledgers.packets.excepted.one(exception.reason()),
    }
}
