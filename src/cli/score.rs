//! `weir score`: every pair of a file, scored by the sequence model.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::args::Score as Args;
use super::replay::{distinct, end_on_signal, part_of, unusable};
use super::{Failure, load};
use crate::config::{Config, Format};
use crate::decode::netflow::Collector;
use crate::decode::text::{CsvDecoder, RowError};
use crate::detect::sequence::table::{Row, Scenarios, Table};
use crate::detect::sequence::{Record, likely_protocol};
use crate::flow::FlowRecord;
use crate::flow::key::TCP;
use crate::flow::params::Params;
#[cfg(feature = "parquet")]
use crate::input::flows;
use crate::input::source::{Kind, Source};
use crate::output::scores::Writer;
use crate::output::{Batch, Context, Ledgers, Sink};
use crate::pipeline::replay::{Exports, FLUSH_EVERY, Replay};
use crate::pipeline::sequences::{Book, Models};
use crate::pipeline::worker::Shared;
use crate::pipeline::{self, Outputs, Rules};
use crate::service::trial;

/// Octets of text read at once.
const CHUNK_OCTETS: usize = 64 << 10;
/// Bad rows that are named one by one; all are counted.
const ROWS_WARNED_MAX: u64 = 10;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
    let mut config = args.config.as_deref().map(load).transpose()?.unwrap_or_default();
    config.model.enabled = true;
    if args.model.is_some() {
        config.model.file.clone_from(&args.model);
    }
    let book = trial::book(&config).map_err(|error| invalid(&error))?;
    let book = book.ok_or_else(|| invalid(&"this build has no feature `model`"))?;
    let format = args.format.unwrap_or_else(|| named_format(&args.output));
    distinct(&args.files, &[("--output", Some(&args.output))])?;
    args.files.iter().try_for_each(|path| can_be_opened(path))?;
    let mut table = Table::default();
    let mut files = args.files.iter();
    // What was read before an input that is cut short counts, as in a replay; an output is only begun,
    // and an older one only lost, when there is something to write.
    let alone = args.files.len() == 1;
    let failure =
        files.find_map(|path| read(path, (alone, args.netflow), &config, &mut table).err());
    let unread = files.len();
    if table.pairs() > 0 || failure.is_none() {
        if failure.is_some() {
            let output = args.output.display();
            tracing::warn!(unread, "the input is cut short: {output} holds what was read before");
        }
        let (pairs, windows) = write(table, &book, format, &args.output)?;
        tracing::info!(pairs, windows, "scored");
    }
    failure.map_or(Ok(()), Err)
}

/// Whether a file is there and may be read. Pipes are left alone: what is read of one is gone.
fn can_be_opened(path: &Path) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return Ok(());
    }
    let metadata = fs::metadata(path).map_err(|error| named(path, &error))?;
    if metadata.is_file() || metadata.is_dir() {
        Source::open(path, Arc::default())?;
    }
    Ok(())
}

/// Scores `table` and writes the rows to `path`, which is replaced once they are whole. Returns the
/// numbers of pairs and windows.
fn write(table: Table, book: &Book, format: Format, path: &Path) -> Result<(usize, u64), Failure> {
    let Some((part, whole)) = part_of(path) else {
        return write_to(table, book, format, (path, path), &AtomicBool::new(false));
    };
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signal(&stop, "nothing is written")?;
    let written = write_to(table, book, format, (path, &part), &stop).and_then(|written| {
        fs::rename(&part, whole).map_err(|error| named(path, &error))?;
        Ok(written)
    });
    if written.is_err() {
        // There is none where it could not be made.
        drop(fs::remove_file(part));
    }
    written
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Scores `table` and writes the rows to `place`, which errors call `path`, until `stop` is set.
fn write_to(
    table: Table,
    book: &Book,
    format: Format,
    (path, place): (&Path, &Path),
    stop: &AtomicBool,
) -> Result<(usize, u64), Failure> {
    let named = |error: io::Error| named(path, &error);
    let mut writer = open(place).and_then(|file| Writer::new(format, file)).map_err(named)?;
    let pairs = table.pairs();
    let mut model = book.model().clone();
    let scored = table.score(book.settings(), &mut model, |scored| {
        let stopped = stop.load(Ordering::Relaxed);
        if stopped { Err(io::Error::other("interrupted")) } else { writer.write(&scored) }
    });
    let scored = scored.map_err(named)?;
    let windows = writer.rows();
    writer.finish().map_err(named)?;
    if !scored {
        let message = "the model failed on a window: not all pairs were scored";
        return Err(Failure::Invalid(message.to_owned()));
    }
    Ok((pairs, windows))
}

fn named_format(path: &Path) -> Format {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        _ => Format::Ndjson,
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    Ok(Box::new(BufWriter::with_capacity(256 << 10, File::create(path)?)))
}

/// Reads one file into `table`. An empty one is no failure among others.
fn read(
    path: &Path,
    (alone, netflow): (bool, Option<u16>),
    config: &Config,
    table: &mut Table,
) -> Result<(), Failure> {
    #[cfg(feature = "parquet")]
    let named =
        |error: &dyn std::fmt::Display| Failure::Invalid(format!("{}: {error}", path.display()));
    let mut source = Source::open(path, Arc::default())?;
    match source.kind()? {
        Kind::Text => rows(path, source, table),
        Kind::Empty if !alone => {
            tracing::warn!("{}: is empty: it holds no flow", path.display());
            Ok(())
        }
        #[cfg(feature = "parquet")]
        Kind::Parquet
            if path.is_file() && !flows::is_of_slices(path).map_err(|error| named(&error))? =>
        {
            let mut flows = flows::Flows::open(path).map_err(|error| named(&error))?;
            while flows.next_rows(|row| table.push(row)).map_err(|error| named(&error))? {}
            Ok(())
        }
        _ => metered(path, source, (config, netflow), table),
    }
}

/// Rows of CSV, each a flow. Where no column tells the protocol, the ports do.
fn rows(path: &Path, mut source: Source, table: &mut Table) -> Result<(), Failure> {
    let named =
        |error: &dyn std::fmt::Display| Failure::Invalid(format!("{}: {error}", path.display()));
    let mut decoder = CsvDecoder::default();
    let mut chunk = vec![0; CHUNK_OCTETS];
    let (mut taken, mut rejected) = (0_u64, 0_u64);
    let mut scenarios = Scenarios::default();
    let mut take = |row: Result<FlowRecord, RowError>, scenario: Option<&str>| match row {
        Ok(record) => {
            let scenario = scenario.map(|name| scenarios.of(name));
            table.push(Row { scenario, ..of_record(&record) });
            taken += 1;
        }
        Err(error) => {
            rejected += 1;
            if rejected <= ROWS_WARNED_MAX {
                tracing::warn!("{}: {error}", path.display());
            }
        }
    };
    loop {
        let octets = source.read(&mut chunk).map_err(|error| source.named(&error))?;
        if octets == 0 {
            break;
        }
        decoder.push_named(&chunk[..octets], &mut take).map_err(|error| named(&error))?;
    }
    decoder.finish_named(&mut take).map_err(|error| named(&error))?;
    tell_rejected(path, rejected);
    if rejected > 0 && taken == 0 {
        return Err(named(&format!("none of {rejected} rows tells of a flow")));
    }
    Ok(())
}

/// Says how many rows are skipped: not all of them are named.
fn tell_rejected(path: &Path, rejected: u64) {
    if rejected > 0 {
        tracing::warn!(rejected, "{}: rows that tell of no flow", path.display());
    }
}

fn of_record(record: &FlowRecord) -> Row {
    let bwd = record.bwd.unwrap_or_default();
    let protocol = match record.protocol {
        0 => likely_protocol(record.src_port, record.dst_port),
        known => known,
    };
    let flags = record.fwd.tcp_flags.unwrap_or(0) | bwd.tcp_flags.unwrap_or(0);
    Row {
        scenario: None,
        src: record.src,
        dst: record.dst,
        record: Record {
            first: record.first,
            last: record.last,
            fwd_octets: record.fwd.octets,
            bwd_octets: bwd.octets,
            fwd_packets: record.fwd.packets,
            bwd_packets: bwd.packets,
            initiator_port: record.src_port,
            responder_port: record.dst_port,
            protocol,
            flags: flags.to_le_bytes()[0],
            flags_known: flags != 0 || protocol != TCP,
            initiator_low: false,
        },
        continues: false,
    }
}

/// Captures, and slices that Weir wrote: through the same pipeline as a replay, for the slices.
fn metered(
    path: &Path,
    source: Source,
    (config, netflow): (&Config, Option<u16>),
    table: &mut Table,
) -> Result<(), Failure> {
    let slices = Arc::new(Slices::default());
    let shared = Arc::new(Shared {
        rules: Arc::new(Rules::default()),
        models: Arc::new(Models::default()),
        outputs: Outputs::waiting(vec![Arc::clone(&slices) as Arc<dyn Sink>]),
        board: pipeline::board(1, 1),
    });
    let params = Arc::new(Params::from_config(config));
    let started = pipeline::start(&shared, &params, &[None], 1);
    let mut started = started?;
    let replay = Replay {
        exports: Exports::of(netflow),
        options: (&config.flow).into(),
        flush_every: FLUSH_EVERY,
        speed: None,
        #[cfg(feature = "capture")]
        filter: None,
        collector: Collector::new(config),
        router: started.routers.pop().expect("one router for one reader"),
        slot: 1,
        shared: Arc::clone(&shared),
        sites: Context::of(config).sites,
        progress: Arc::new(AtomicU64::new(0)),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let (replayed, result) = replay.run_opened(path, source);
    tell_rejected(path, replayed.rejected_rows);
    shared.outputs.close();
    let taken = std::mem::take(&mut *slices.0.lock().unwrap_or_else(PoisonError::into_inner));
    taken.into_iter().for_each(|row| table.push(row));
    result.map_err(|error| Failure::Invalid(error.to_string()))?;
    match unusable(netflow, &shared.board.ledgers()) {
        Some(why) => Err(Failure::Invalid(format!("{}: {why}", path.display()))),
        None => Ok(()),
    }
}

/// Keeps what the table needs of slices.
#[derive(Default)]
struct Slices(Mutex<Vec<Row>>);

impl Sink for Slices {
    fn offer(&self, batch: &Arc<Batch>) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slices = batch.slices.iter().map(|tagged| &tagged.slice);
        rows.extend(slices.filter(|slice| slice.records > 0).map(|slice| Row {
            scenario: None,
            src: slice.flow.src,
            dst: slice.flow.dst,
            record: Record::of(&slice.flow),
            continues: false,
        }));
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.offer(batch);
    }

    fn ledgers(&self) -> Ledgers {
        Ledgers::default()
    }

    fn set_context(&self, _context: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> Ledgers {
        self.ledgers()
    }
}
