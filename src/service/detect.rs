//! `weir detect`: a detector from start to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::load::{self, LoadError};
use super::reload::Reloads;
use super::run::RunError;
use super::status::SensorStatus;
use super::systemd::Notifier;
use super::trial;
use crate::api::{Server, Status};
use crate::config::Config;
use crate::metrics::{Board, Ledgers};
use crate::output::Sink;
use crate::pipeline::engine::session::{Detector, SessionError};
use crate::pipeline::engine::{Engine, Raised, prepare};
use crate::pipeline::exporters::ExporterBoard;
use crate::pipeline::feeds::Feeds;
use crate::pipeline::sequences::Models;
use crate::pipeline::worker::Shared;
use crate::pipeline::{Outputs, Rules};

/// A pause between two tries to find the topics.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a detector from the configuration in `path`, and runs it until SIGTERM or SIGINT. Returns the
/// final ledgers.
///
/// # Errors
/// If it cannot start.
pub fn run(path: &Path) -> Result<Ledgers, RunError> {
    let config = load::config(path)?;
    if config.detect.engine.is_none() {
        let message = format!("{}: detect.engine: the table is missing", path.display());
        return Err(RunError::Detect(message));
    }
    load::preflight(path, &config, true)?;
    let notifier = Notifier::from_environment();
    let (rules, stop) = (Arc::new(Rules::default()), Arc::new(AtomicBool::default()));
    let (sources, options) = load::rules(&config, &mut Feeds::default())?;
    let book = rules.reload(&sources, &options).map_err(LoadError::Invalid)?;
    tracing::info!(rules = book.set.rules().len(), "rules are loaded");
    let raised = Arc::new(Raised::default());
    let shared = Arc::new(Shared {
        rules,
        models: Arc::new(Models::with(&config, trial::book(&config).map_err(LoadError::Model)?)),
        outputs: Outputs::waiting(vec![Arc::clone(&raised) as Arc<dyn Sink>]),
        board: Board::new(["detector".to_owned(), "exchange".to_owned()]),
    });
    let status = Arc::new(SensorStatus::new(
        Arc::clone(&shared),
        Arc::new(ExporterBoard::default()),
        Arc::new(Reloads::default()),
    ));
    let told = Arc::clone(&status) as Arc<dyn Status>;
    let server = config.admin.listen.map(|listen| Server::start(listen, told)).transpose()?;
    let thread = start(&config, &shared, &raised, &stop)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    notifier.ready(&status.line());
    tracing::info!(config = %path.display(), "running");
    runtime.block_on(attend(&notifier, &status, &thread))?;
    notifier.stopping();
    stop.store(true, Ordering::Relaxed);
    thread.join().map_err(|_| std::io::Error::other("the detector's thread panicked"))?;
    drop(server);
    Ok(shared.board.ledgers())
}

/// The detector's thread: it waits until its topics are there.
fn start(
    config: &Config,
    shared: &Arc<Shared>,
    raised: &Arc<Raised>,
    stop: &Arc<AtomicBool>,
) -> std::io::Result<JoinHandle<()>> {
    let (config, stop) = (config.clone(), Arc::clone(stop));
    let (shared, raised) = (Arc::clone(shared), Arc::clone(raised));
    let settings = config.detect.engine.clone().unwrap_or_default();
    let named =
        |name: &String| if name.is_empty() { config.sensor.name.clone() } else { name.clone() };
    let instance = named(&settings.instance);
    let detect = move || {
        let mut before = None;
        while !stop.load(Ordering::Relaxed) {
            match prepare(&settings) {
                Ok(partitions) => {
                    let engine = Engine::new(&config, shared, Arc::clone(&raised), partitions);
                    return Detector::new(settings, instance, engine, raised, stop).run();
                }
                Err(error) => {
                    waits(&error, &mut before);
                    raised.set_fault(Some(error.to_string()));
                    shared.board.slots().iter().for_each(crate::metrics::Slot::beat);
                    std::thread::sleep(PAUSE);
                }
            }
        }
    };
    std::thread::Builder::new().name("weir-detect".into()).spawn(detect)
}

/// Says why the detector waits, once for each reason.
fn waits(error: &SessionError, before: &mut Option<String>) {
    let text = error.to_string();
    if before.as_ref() != Some(&text) {
        tracing::warn!("waiting: {text}");
        *before = Some(text);
    }
}

async fn attend(
    notifier: &Notifier,
    status: &SensorStatus,
    thread: &JoinHandle<()>,
) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = tick.tick() => {
                if status.stalled().is_empty() {
                    notifier.watchdog();
                }
                notifier.status(&status.line());
                if thread.is_finished() {
                    tracing::error!("the detector ended: stopping");
                    return Ok(());
                }
            }
        }
    }
}
