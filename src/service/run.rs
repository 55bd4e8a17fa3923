//! `weir run`: the sensor from start to stop.

use std::fs::{File, TryLockError};
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::load::{self, LoadError};
use super::reload::{Keeper, Reloader, Reloads, Trigger};
use super::sockets;
use super::status::SensorStatus;
use super::systemd::{Notifier, passed_sockets};
use crate::api::{Server, Status};
use crate::config::{Config, Durability};
use crate::decode::netflow::Collector;
use crate::flow::params::Params;
#[cfg(feature = "capture")]
use crate::input::capture::{CaptureError, Listener, port::Share};
use crate::input::steer::reader_of;
use crate::input::udp::{Bound, Receiver};
use crate::metrics::Ledgers;
use crate::output::tee::{self, Tee};
use crate::output::{Context, FilesSink, Sink};
use crate::pipeline::balance::Balancer;
use crate::pipeline::clock::wall;
use crate::pipeline::collect::Collect;
use crate::pipeline::exporters::ExporterBoard;
use crate::pipeline::pace::Pace;
use crate::pipeline::sequences::Models;
use crate::pipeline::worker::Shared;
use crate::pipeline::{self, Outputs, Router, Rules, affinity, post, state};

/// How often it is looked whether all threads run, at the start.
const SETTLE_LOOK: Duration = Duration::from_millis(20);
/// What the service manager is asked to grant the start, again and again,
const EXTEND: Duration = Duration::from_secs(30);
/// but no longer than this: then it is to judge.
const SETTLE_MAX: Duration = Duration::from_secs(600);

/// There is nothing to open without the feature.
#[cfg(not(feature = "capture"))]
enum Share {}

/// Why the sensor cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Configuration or rules.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A socket, a file, a thread.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What a detector needs is not configured.
    #[error("{0}")]
    Detect(String),
    /// A live interface.
    #[error("{0}")]
    Capture(String),
    /// Nothing to read from.
    #[error("no input: input.netflow.listen is empty, and there is no [input.capture]")]
    NoInput,
}

/// Starts the sensor from the configuration in `path`, runs it until SIGTERM or SIGINT, and stops
/// it with everything flushed. Returns the final ledgers.
///
/// # Errors
/// If it cannot start, or an input fails for good.
pub fn run(path: &Path) -> Result<Ledgers, RunError> {
    // Before any descriptor of our own could have the number of one that should have been passed.
    let passed = passed_sockets()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // As soon as can be: a signal during the start is kept until it can be heeded.
    let mut signals = {
        let _entered = runtime.enter();
        Signals::install()?
    };
    let config = load::sensor(path)?;
    load::preflight(path, &config, true)?;
    let notifier = Notifier::from_environment();
    let mut sensor = Sensor::start(path, config, passed)?;
    runtime.block_on(sensor.attend(&mut signals, &notifier))?;
    notifier.stopping();
    // The flush holds this thread; the process ends with it, so the watcher is never joined.
    let watcher = std::thread::Builder::new().name("weir-signals".into());
    watcher.spawn(move || runtime.block_on(exit_on_second_signal()))?;
    sensor.stop()
}

/// A second signal during the flush ends the process at once.
async fn exit_on_second_signal() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    tracing::error!("a second signal: ending at once, open flows are lost");
    std::process::exit(130);
}

/// The signals that the sensor heeds.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Without a meaning here, but deadly where nobody takes them.
    others: [Signal; 2],
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            others: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }
}

/// A running sensor.
struct Sensor {
    path: PathBuf,
    config: Config,
    shared: Arc<Shared>,
    status: Arc<SensorStatus>,
    reloader: Reloader,
    server: Option<Server>,
    readers: Vec<JoinHandle<Result<(), RunError>>>,
    workers: Vec<JoinHandle<()>>,
    balancer: Balancer,
    stop: Arc<AtomicBool>,
    /// Held while the state directory is ours.
    state_lock: Option<File>,
    /// The state directory, and how many readers keep theirs in it.
    state: Option<(PathBuf, usize)>,
}

impl Sensor {
    fn start(path: &Path, config: Config, passed: Vec<UdpSocket>) -> Result<Self, RunError> {
        let (rules, reloads) = (Arc::new(Rules::default()), Arc::new(Reloads::default()));
        let models = Arc::new(Models::new(&config));
        let reloaded = (Arc::clone(&rules), Arc::clone(&models), Arc::clone(&reloads));
        let keeper = Keeper::load(path.to_owned(), config.clone(), reloaded)?;
        let sockets = sockets::open(&config, passed)?;
        let shares = open_capture(&config)?;
        let readers = sockets.len() + shares.len();
        if readers == 0 {
            return Err(RunError::NoInput);
        }
        let interface = config.input.capture.as_ref().map(|capture| capture.interface.as_str());
        let near = interface.and_then(affinity::node_of);
        let cores = affinity::place(&config.sensor.workers, config.sensor.pin, near)?;
        let workers = cores.len();
        let named: Vec<usize> = cores.iter().copied().flatten().collect();
        tracing::info!(workers, cores = ?named, "workers, and the cores that they are pinned to");
        let (tees, told) =
            tee::start(&config.output.tee, &config.input.netflow.allow, sockets.len())?;
        let mut sinks = sinks(&config)?;
        if !told.is_empty() {
            sinks.push(Arc::new(told));
        }
        let shared = Arc::new(Shared {
            rules,
            models,
            outputs: Outputs::live(sinks),
            board: pipeline::board(workers, readers),
        });
        let params = Arc::new(Params::from_config(&config));
        let (flows, mebibytes) = (config.flow.entries_max, load::warn_of_memory(&config));
        tracing::info!(flows, mebibytes, "the flow table takes so much memory when it is full");
        let started = pipeline::start(&shared, &params, &cores, readers)?;
        let addresses = |bound: &Vec<Bound>| bound.iter().map(Bound::address).collect();
        let exporters = Arc::new(ExporterBoard::new(sockets.iter().map(addresses)));
        let status = SensorStatus::new(Arc::clone(&shared), Arc::clone(&exporters), reloads);
        let mut sensor = Self {
            path: path.to_owned(),
            shared,
            status: Arc::new(status),
            reloader: keeper.start()?,
            server: None,
            readers: Vec::new(),
            workers: started.threads,
            balancer: Balancer::new(started.balance),
            stop: Arc::default(),
            state_lock: None,
            state: None,
            config,
        };
        // Everything is bound and open before the first datagram is taken.
        if let Some(listen) = sensor.config.admin.listen {
            let status: Arc<dyn Status> = Arc::clone(&sensor.status) as _;
            sensor.server = Some(Server::start(listen, status)?);
        }
        // The readers of UDP first: their numbers are those of their slots.
        let mut routers = started.routers.into_iter().zip(workers..);
        if !sockets.is_empty() {
            sensor.start_collect(sockets.into_iter().zip(tees), &mut routers, &exporters)?;
        }
        for share in shares {
            let (router, slot) = routers.next().expect("a router for each reader");
            sensor.start_capture(share, router, slot)?;
        }
        Ok(sensor)
    }

    /// Starts the readers of UDP, each with its sockets and its ends of the tees, and with what the
    /// last run knew of its exporters.
    fn start_collect(
        &mut self,
        inputs: impl ExactSizeIterator<Item = (Vec<Bound>, Vec<Tee>)>,
        routers: &mut impl Iterator<Item = (Router, usize)>,
        exporters: &Arc<ExporterBoard>,
    ) -> Result<(), RunError> {
        let directory = writable_state(&self.config);
        if let Some(directory) = &directory {
            self.state_lock = Some(lock(directory)?);
        }
        let readers = inputs.len();
        let known = directory.as_deref().map(state::load).unwrap_or_default();
        let mut posts = post::offices(readers).into_iter();
        for (reader, (sockets, tees)) in inputs.enumerate() {
            let (router, slot) = routers.next().expect("a router for each reader");
            let mut collector = Collector::new(&self.config);
            let known = known.only(|exporter| reader_of(exporter, readers) == reader);
            let templates = collector.import_state(&known, wall(), &mut Ledgers::default());
            if templates > 0 {
                tracing::info!(reader, templates, "templates of the last run are taken in");
            }
            let input = &self.config.input.netflow;
            let collect = Collect {
                receivers: sockets.into_iter().map(Receiver::new).collect(),
                collector,
                router,
                slot,
                shared: Arc::clone(&self.shared),
                reader,
                exporters: Arc::clone(exporters),
                post: posts.next().filter(|_| readers > 1),
                state: directory.as_deref().map(|directory| state::file(directory, reader)),
                tees,
                pace: Pace::new(input.coalesce_us, input.busy_poll_us, Instant::now()),
                stop: Arc::clone(&self.stop),
            };
            self.reader(slot, move || collect.run().map_err(RunError::from))?;
        }
        self.state = directory.map(|directory| (directory, readers));
        Ok(())
    }

    #[cfg(feature = "capture")]
    fn start_capture(&mut self, share: Share, router: Router, slot: usize) -> Result<(), RunError> {
        let reader = pipeline::capture::Capture {
            share,
            options: (&self.config.flow).into(),
            router,
            slot,
            shared: Arc::clone(&self.shared),
            stop: Arc::clone(&self.stop),
        };
        let failed = |error: CaptureError| RunError::Capture(error.to_string());
        self.reader(slot, move || reader.run().map_err(failed))
    }

    #[cfg(not(feature = "capture"))]
    #[expect(clippy::needless_pass_by_ref_mut, reason = "the same form as with capture")]
    fn start_capture(&mut self, share: Share, _: Router, _: usize) -> Result<(), RunError> {
        match share {}
    }

    /// A reader's thread, which has the name that metrics have of it.
    fn reader(
        &mut self,
        slot: usize,
        run: impl FnOnce() -> Result<(), RunError> + Send + 'static,
    ) -> Result<(), RunError> {
        let name = format!("weir-{}", self.shared.board.slots()[slot].name());
        self.readers.push(std::thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Waits until all threads run, which takes a while where memory is reserved. Returns whether they
    /// do: not if the sensor is to stop.
    async fn settle(&self, signals: &mut Signals, notifier: &Notifier) -> bool {
        let began = Instant::now();
        let mut look = tokio::time::interval(SETTLE_LOOK);
        let mut extended = None;
        while let Some(why) = self.status.starting() {
            tokio::select! {
                _ = signals.terminate.recv() => return false,
                _ = signals.interrupt.recv() => return false,
                _ = look.tick() => {}
            }
            if self.readers.iter().any(JoinHandle::is_finished) {
                return true;
            }
            let due = extended.is_none_or(|at: Instant| at.elapsed() >= EXTEND / 3);
            if due && began.elapsed() < SETTLE_MAX {
                extended = Some(Instant::now());
                notifier.starting(&why, EXTEND);
            }
        }
        true
    }

    /// Waits for signals, and attends to watchdog and status meanwhile.
    async fn attend(&mut self, signals: &mut Signals, notifier: &Notifier) -> Result<(), RunError> {
        if !self.settle(signals, notifier).await {
            return Ok(());
        }
        let Signals { hangup, terminate, interrupt, others: [first, second] } = signals;
        let period = notifier.watchdog_period().unwrap_or(Duration::from_secs(1));
        let mut tick = tokio::time::interval(period.min(Duration::from_secs(1)));
        notifier.ready(&self.status.line());
        tracing::info!(config = %self.path.display(), "running");
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = first.recv() => tracing::warn!("SIGUSR1 has no meaning here"),
                _ = second.recv() => tracing::warn!("SIGUSR2 has no meaning here"),
                _ = hangup.recv() => {
                    notifier.reloading();
                    self.reloader.request();
                }
                trigger = self.reloader.ended() => {
                    if trigger == Trigger::Signal {
                        notifier.ready(&self.status.line());
                    }
                }
                _ = tick.tick() => {
                    self.balancer.look(&self.shared.board, Instant::now());
                    // Whoever sheds is told of, also where nobody asks.
                    self.status.sheds();
                    let stalled = self.status.stalled();
                    if stalled.is_empty() {
                        notifier.watchdog();
                    } else {
                        tracing::error!(?stalled, "threads stand still");
                    }
                    notifier.status(&self.status.line());
                    if self.readers.iter().any(JoinHandle::is_finished) {
                        tracing::error!("an input ended: stopping");
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Inputs first, then what they hold, then the outputs.
    fn stop(mut self) -> Result<Ledgers, RunError> {
        tracing::info!("stopping: flushing open flows");
        self.stop.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for reader in self.readers.drain(..) {
            let ended = reader.join().unwrap_or_else(|_| {
                Err(RunError::Io(io::Error::other("an input's thread panicked")))
            });
            result = result.and(ended);
        }
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                let panicked = io::Error::other("a worker's thread panicked");
                result = result.and(Err(RunError::Io(panicked)));
            }
        }
        if let Some((directory, readers)) = self.state.take() {
            state::forget(&directory, readers);
        }
        drop(self.state_lock.take());
        let mut ledgers = self.shared.board.ledgers();
        ledgers.sinks = self.shared.outputs.close();
        drop(self.server.take());
        result.map(|()| ledgers)
    }
}

/// Where the sensor itself is reached.
#[cfg(feature = "capture")]
fn listeners(config: &Config) -> Vec<Listener> {
    let netflow = config.input.netflow.listen.iter().copied().map(Listener::netflow);
    config.admin.listen.map(Listener::admin).into_iter().chain(netflow).collect()
}

/// Opens the interface that the configuration names, if it names one.
#[cfg(feature = "capture")]
fn open_capture(config: &Config) -> Result<Vec<Share>, RunError> {
    let Some(capture) = &config.input.capture else { return Ok(Vec::new()) };
    let shares = crate::input::capture::port::open(capture, listeners(config))
        .map_err(|error| RunError::Capture(error.to_string()))?;
    tracing::info!(interface = capture.interface, readers = shares.len(), "capturing");
    Ok(shares)
}

#[cfg(not(feature = "capture"))]
fn open_capture(config: &Config) -> Result<Vec<Share>, RunError> {
    let message = "input.capture: this build has no feature `capture`";
    let wanted = config.input.capture.is_some();
    if wanted { Err(RunError::Capture(message.into())) } else { Ok(Vec::new()) }
}

fn sinks(config: &Config) -> io::Result<Vec<Arc<dyn Sink>>> {
    let context = Context::of(config);
    let spawn = |files: &crate::config::Files| -> io::Result<Arc<dyn Sink>> {
        Ok(Arc::new(FilesSink::spawn(files.clone(), context.clone())?))
    };
    let queued = config.output.files.iter().filter(|files| files.durability == Durability::Memory);
    #[cfg_attr(not(feature = "spool"), expect(unused_mut, reason = "nothing is added"))]
    let mut sinks = queued.map(spawn).collect::<io::Result<Vec<_>>>()?;
    #[cfg(feature = "spool")]
    sinks.extend(crate::output::remote::start(config, &context)?);
    Ok(sinks)
}

/// Takes the state directory for this process: two sensors would overwrite each other's state.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::create(directory.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let directory = directory.display();
            let message = format!("sensor.state_directory: {directory} is in use by another weir");
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The state directory, made if it is not there; `None`, with a warning, if it cannot be.
fn writable_state(config: &Config) -> Option<PathBuf> {
    let directory = config.sensor.state_directory.clone();
    match std::fs::create_dir_all(&directory) {
        Ok(()) => Some(directory),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error,
                "no state directory: templates will not outlive a restart");
            None
        }
    }
}
