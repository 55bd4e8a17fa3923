//! `weir replay`: files through the pipeline.

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::Replay as ReplayArgs;
use super::report::Report;
use super::{Failure, load};
use crate::config::{Config, Format, Select};
use crate::decode::netflow::Collector;
use crate::detect::sigma::LoadReport;
use crate::flow::params::Params;
use crate::metrics::{Ledgers, ledger};
use crate::output::schema::Stream;
use crate::output::stdout::{Sorted, StreamSink};
use crate::output::{self, Batch, Context, Sink};
use crate::pipeline::replay::{Exports, FLUSH_EVERY, Replay};
use crate::pipeline::sequences::Models;
use crate::pipeline::worker::Shared;
use crate::pipeline::{self, Outputs, Rules, feeds, rules};
use crate::service::trial;

pub(super) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let config = settings(args)?;
    let rules = Rules::default();
    let (sources, mut options) = rules::gather(&config)?;
    let feeds = feeds::read(&config.rules.feed);
    options.feeds = feeds.map_err(|error| Failure::Invalid(error.to_string()))?;
    let book = rules.load(&sources, &options);
    if !args.rules.is_empty() || args.config.is_some() {
        tell_rules(book.set.report());
    }
    let book = trial::book(&config).map_err(|error| Failure::Invalid(error.to_string()))?;
    let models = Models::with(&config, book);
    // An output is only begun, and an older one only lost, when the input is there.
    for path in args.files.iter().filter(|path| path.as_os_str() != "-") {
        fs::metadata(path).map_err(|error| named(path, &error))?;
    }
    let targets =
        [("--output", &args.output), ("--alerts", &args.alerts), ("--summary", &args.summary)];
    distinct(&args.files, &targets.map(|(name, path)| (name, path.as_deref())))?;
    let ends = Ends::default();
    end_on_signal(&ends.stop, "what was read so far is flushed")?;
    let mut sinks: Vec<Arc<dyn Sink>> = Vec::new();
    let report = args.output.is_none().then(|| Arc::new(Report::default()));
    if let Some(path) = &args.output {
        let what = (args.select, &args.fields[..]);
        sinks.push(stream("output", path, args, what, &config, &ends)?);
    }
    if let Some(path) = &args.alerts {
        sinks.push(stream("alerts", path, args, (Select::Alerts, &[]), &config, &ends)?);
    }
    if let Some(report) = &report {
        sinks.push(Arc::clone(report) as _);
    }
    let workers = usize::from(args.workers);
    let outputs = Outputs::waiting(sinks);
    let shared = Arc::new(Shared {
        rules: Arc::new(rules),
        models: Arc::new(models),
        outputs,
        board: pipeline::board(workers, 1),
    });
    let began = Instant::now();
    let result = drive(args, &config, &shared, &ends.stop);
    let cut = result.is_err() || !shared.outputs.faults().is_empty();
    ends.cut.store(cut, Ordering::Relaxed);
    let took = began.elapsed();
    let mut ledgers = shared.board.ledgers();
    ledgers.sinks = shared.outputs.close();
    if let Some(path) = &args.summary {
        summary(path, &ledgers)?;
    }
    // Of an input that cannot be read at all there is nothing to report.
    if let Some(report) = report.filter(|_| result.is_ok() || read_any(&ledgers)) {
        super::print(report.text(&ledgers, took, &Context::of(&config)).as_bytes())?;
    }
    stream_error(&shared.outputs)?;
    result?;
    let imbalances = ledgers.imbalances();
    if !imbalances.is_empty() {
        let text = format!("ledgers do not balance: {}", imbalances.join("; "));
        return Err(io::Error::other(text).into());
    }
    if let Some(why) = unusable(args.netflow, &ledgers) {
        return Err(Failure::Invalid(why));
    }
    match args.fail_on_alert && ledgers.detections.alerts.total() > 0 {
        true => Err(Failure::Findings),
        false => Ok(()),
    }
}

/// Names the rules that are not there; how many is said whatever `--quiet` hides.
fn tell_rules(report: &LoadReport) {
    for rejected in &report.rejected {
        tracing::warn!("{rejected}");
    }
    if !tracing::enabled!(tracing::Level::WARN) && !report.rejected.is_empty() {
        let (rejected, loaded) = (report.rejected.len(), report.loaded + report.correlations);
        tracing::error!(rejected, loaded, "rules are rejected: `weir rules check` names them");
    }
    if let Some(none) = report.no_rule() {
        tracing::warn!("{none}");
    }
}

/// Why nothing of what was read could be used, if so. A capture without a packet, or without one that
/// is metered, is an ordinary one.
pub(super) fn unusable(netflow: Option<u16>, ledgers: &Ledgers) -> Option<String> {
    let (records, packets) = (&ledgers.records, &ledgers.packets);
    let received = ledgers.datagrams.received;
    if netflow.is_some() && received == 0 && packets.read > 0 {
        let hint = "is --netflow meant, and the port right?";
        return Some(format!("none of {} packets is an export datagram: {hint}", packets.read));
    }
    let of_rows = packets.read == 0 && received == 0;
    unusable_rows(records).filter(|_| of_rows)
}

fn unusable_rows(records: &ledger::Records) -> Option<String> {
    let used = records.merged + records.duplicate;
    let none = records.decoded > 0 && used == 0;
    none.then(|| format!("none of {} rows tells of a flow", records.decoded))
}

fn read_any(ledgers: &Ledgers) -> bool {
    ledgers.packets.read + ledgers.datagrams.received + ledgers.records.decoded > 0
}

/// Nothing may be written over an input, or over another output.
pub(super) fn distinct(
    inputs: &[PathBuf],
    outputs: &[(&'static str, Option<&Path>)],
) -> Result<(), Failure> {
    let place = |path: &Path| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok();
        fs::canonicalize(path).ok().or(Some(parent?.join(path.file_name()?)))
    };
    let inputs = inputs.iter().map(|path| ("an input", path.as_path()));
    let outputs = outputs.iter().filter_map(|&(name, path)| Some((name, path?)));
    let mut taken: Vec<(&str, PathBuf)> = Vec::new();
    for (name, path) in inputs.chain(outputs) {
        let place = if path.as_os_str() == "-" { Some(path.to_owned()) } else { place(path) };
        // A device may be written to twice, and standard input is not standard output.
        let Some(place) = place.filter(|place| !place.starts_with("/dev")) else { continue };
        let other = taken
            .iter()
            .find(|(other, at)| *at == place && (path.as_os_str() != "-" || *other != "an input"));
        if let (Some((other, _)), true) = (other, name != "an input") {
            let message = format!("{name}: {} is {other} already", path.display());
            return Err(Failure::Invalid(message));
        }
        taken.push((name, place));
    }
    Ok(())
}

/// The first signal sets `stop` and says `what` comes of it. A second ends at once.
pub(super) fn end_on_signal(stop: &Arc<AtomicBool>, what: &'static str) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("weir-signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut term), Ok(mut int)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::warn!("interrupted: {what}");
            stop.store(true, Ordering::Relaxed);
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            std::process::exit(INTERRUPTED);
        });
    })?;
    Ok(())
}

/// As a shell reports a process that a signal ended.
const INTERRUPTED: i32 = 130;

/// The configuration's settings, changed by the arguments.
fn settings(args: &ReplayArgs) -> Result<Config, Failure> {
    let mut config = args.config.as_deref().map(load).transpose()?.unwrap_or_default();
    if !args.rules.is_empty() {
        config.rules.directories.clone_from(&args.rules);
    }
    if let Some(seconds) = args.active_timeout {
        config.flow.packets.active_timeout_s = seconds;
        config.flow.netflow.active_timeout_s = seconds;
    }
    if let Some(seconds) = args.idle_timeout {
        config.flow.packets.idle_timeout_s = seconds;
        config.flow.netflow.idle_timeout_s = seconds;
    }
    let problems = config.check();
    if problems.is_empty() {
        return Ok(config);
    }
    if args.idle_timeout > Some(config.flow.packets.active_timeout_s)
        && args.active_timeout.is_none()
    {
        let message =
            "--idle-timeout must be at most the active timeout: give --active-timeout too";
        return Err(Failure::Invalid(message.into()));
    }
    let text: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.key, p.message)).collect();
    Err(Failure::Invalid(text.join("\nweir: ")))
}

fn drive(
    args: &ReplayArgs,
    config: &Config,
    shared: &Arc<Shared>,
    stop: &Arc<AtomicBool>,
) -> Result<(), Failure> {
    let params = Arc::new(Params::from_config(config));
    let workers = usize::from(args.workers);
    let started = pipeline::start(shared, &params, &vec![None; workers], 1)?;
    let mut routers = started.routers;
    let progress = Arc::new(AtomicU64::new(0));
    let replay = Replay {
        exports: Exports::of(args.netflow),
        options: (&config.flow).into(),
        flush_every: FLUSH_EVERY,
        speed: args.speed,
        #[cfg(feature = "capture")]
        filter: filter(args)?,
        collector: Collector::new(config),
        router: routers.pop().expect("one router for one reader"),
        slot: workers,
        shared: Arc::clone(shared),
        sites: Context::of(config).sites,
        progress: Arc::clone(&progress),
        stop: Arc::clone(stop),
    };
    let bar = Bar::start(&args.files, progress);
    let (_, result) = replay.run(&args.files);
    for thread in started.threads {
        if thread.join().is_err() {
            return Err(io::Error::other("a worker's thread panicked").into());
        }
    }
    drop(bar);
    result.map_err(|error| Failure::Invalid(error.to_string()))
}

#[cfg(feature = "capture")]
fn filter(args: &ReplayArgs) -> Result<Option<crate::input::capture::Filter>, Failure> {
    let compile = |expression: &String| crate::input::capture::Filter::new(expression);
    let filter = args.filter.as_ref().map(compile).transpose();
    filter.map_err(|error| Failure::Invalid(error.to_string()))
}

fn summary(path: &Path, ledgers: &Ledgers) -> Result<(), Failure> {
    let mut text = serde_json::to_vec_pretty(ledgers).map_err(io::Error::from)?;
    text.push(b'\n');
    if path.as_os_str() == "-" {
        return super::print(&text);
    }
    fs::write(path, text).map_err(|error| named(path, &error).into())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A progress bar on a terminal; nothing elsewhere.
struct Bar {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bar {
    fn start(files: &[PathBuf], progress: Arc<AtomicU64>) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let octets: u64 = files.iter().filter_map(|f| fs::metadata(f).ok()).map(|m| m.len()).sum();
        let style = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        let style = indicatif::ProgressStyle::with_template(style).ok()?;
        let bar = indicatif::ProgressBar::new(octets).with_style(style);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("weir-progress".into());
        let thread = thread.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                bar.set_position(progress.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(100));
            }
            bar.finish_and_clear();
        });
        Some(Self { stop, thread: thread.ok() })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The bar's thread has nothing to say.
            drop(thread.join());
        }
    }
}

/// One stream of records, to a file or standard output, as a sink.
struct Out {
    name: &'static str,
    path: PathBuf,
    /// Of a file, not of pipes and devices: where it is written until it is whole, and where it
    /// stands then.
    part: Option<(PathBuf, PathBuf)>,
    select: Select,
    state: Mutex<State>,
    ends: Ends,
}

/// How the input ends.
#[derive(Clone, Default)]
struct Ends {
    /// It is to end now.
    stop: Arc<AtomicBool>,
    /// It, or an output, failed: what was written is not all.
    cut: Arc<AtomicBool>,
}

struct State {
    stream: Option<StreamSink<Box<dyn Write + Send>>>,
    sorted: Option<Sorted>,
    ledger: ledger::Sink,
    error: Option<io::Error>,
    /// Whether somebody follows the records as they come: the replay is paced.
    followed: bool,
}

fn stream(
    name: &'static str,
    path: &Path,
    args: &ReplayArgs,
    (select, fields): (Select, &[String]),
    config: &Config,
    ends: &Ends,
) -> Result<Arc<dyn Sink>, Failure> {
    let named_format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        _ => Format::Ndjson,
    };
    let format = args.format.unwrap_or(named_format);
    if cfg!(not(feature = "parquet")) && format == Format::Parquet {
        return Err(Failure::Invalid("--format: this build has no feature `parquet`".into()));
    }
    check_fields(fields, select, format)?;
    let part = part_of(path);
    let writer: Box<dyn Write + Send> = match path.as_os_str() == "-" {
        true => Box::new(BufWriter::new(io::stdout())),
        false => {
            let place = part.as_ref().map_or(path, |(part, _)| part.as_path());
            let file = fs::File::create(place).map_err(|error| named(path, &error))?;
            Box::new(BufWriter::with_capacity(256 << 10, file))
        }
    };
    let stream = StreamSink::of(format, select, fields, Context::of(config), writer)?;
    let state = State {
        stream: Some(stream),
        sorted: args.sorted.then(Sorted::default),
        ledger: ledger::Sink::default(),
        error: None,
        followed: args.speed.is_some(),
    };
    let (path, state, ends) = (path.to_owned(), Mutex::new(state), ends.clone());
    Ok(Arc::new(Out { name, path, part, select, state, ends }))
}

/// Whether records of `select` have each of `fields`, and `format` lets them be chosen.
fn check_fields(fields: &[String], select: Select, format: Format) -> Result<(), Failure> {
    let stream = Stream::from(select);
    let lacks = |name: &&String| stream.index_of(name).is_none() && !stream.has(name);
    if let Some(name) = fields.iter().find(lacks) {
        let message = format!("--fields: {name} is no field of these records (docs/schema.md)");
        return Err(Failure::Invalid(message));
    }
    if !fields.is_empty() && !format.chooses() {
        let message = format!("--fields has no meaning with --format {}", format.as_str());
        return Err(Failure::Invalid(message));
    }
    Ok(())
}

/// Where a file that is to stand at `path` is written, and where it will stand: where a link leads.
/// `None` for what is no file and has no end: standard output, pipes, devices.
pub(super) fn part_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let other = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    if other || path.as_os_str() == "-" {
        return None;
    }
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut part = whole.clone().into_os_string();
    part.push(".part");
    Some((part.into(), whole))
}

impl Out {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes `batch`, whose records are spooled. An error ends the stream: what follows has no
    /// place to go.
    fn write(&mut self, batch: &Batch) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let flush =
            |stream: &mut StreamSink<_>| if self.followed { stream.flush() } else { Ok(()) };
        if let Err(error) = stream.write(batch).and_then(|()| flush(stream)) {
            self.error = Some(error);
            self.stream = None;
        }
        self.error.is_none()
    }
}

impl Sink for Out {
    fn offer(&self, batch: &Arc<Batch>) {
        let count = batch.count(self.select) as u64;
        let mut state = self.state();
        state.ledger.selected += count;
        state.ledger.spooled += count;
        if let Some(sorted) = &mut state.sorted {
            sorted.add(batch.only(self.select));
        } else if !state.write(batch) {
            self.ends.stop.store(true, Ordering::Relaxed);
        }
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.offer(batch);
    }

    fn ledgers(&self) -> output::Ledgers {
        [(self.name.to_owned(), self.state().ledger.clone())].into()
    }

    fn set_context(&self, _context: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        let fault = |error: &io::Error| format!("{}: {error}", self.path.display());
        let state = self.state();
        state.error.iter().map(|error| (self.name.to_owned(), fault(error))).collect()
    }

    fn close(&self) -> output::Ledgers {
        let mut state = self.state();
        if let Some(sorted) = state.sorted.take() {
            state.write(&sorted.finish());
        }
        if let Some(Err(error)) = state.stream.take().map(finish) {
            state.error = Some(error);
        }
        if let Some((part, whole)) = &self.part {
            match state.error {
                // What does not fit would only fill the disk.
                Some(_) => drop(fs::remove_file(part)),
                None if self.ends.cut.load(Ordering::Relaxed) => {
                    tracing::warn!(path = %part.display(), "what was read until then is kept apart");
                }
                None => state.error = fs::rename(part, whole).err(),
            }
        }
        // Only a stream that was finished holds its records for good.
        let spooled = std::mem::take(&mut state.ledger.spooled);
        match state.error {
            None => state.ledger.acknowledged += spooled,
            Some(_) => state.ledger.shed.add("write_error", spooled),
        }
        [(self.name.to_owned(), state.ledger.clone())].into()
    }
}

fn finish(stream: StreamSink<Box<dyn Write + Send>>) -> io::Result<()> {
    stream.finish()?.flush()
}

/// What went wrong on an output, if anything. A pipe whose reader closed it is told by its kind.
fn stream_error(outputs: &Outputs) -> Result<(), Failure> {
    let mut faults = outputs.sinks().iter().flat_map(|sink| sink.faults());
    match faults.next().map(|(_, fault)| fault) {
        None => Ok(()),
        Some(fault) if fault.contains("Broken pipe") => {
            Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
        }
        Some(fault) => Err(Failure::Invalid(fault)),
    }
}
