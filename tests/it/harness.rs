//! The whole pipeline in memory: files in, slices, alerts and ledgers out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use weir::config::{Config, Format, Select};
use weir::decode::netflow::Collector;
use weir::detect::{Alert, TaggedSlice};
use weir::flow::Biflow;
use weir::flow::params::Params;
use weir::input::pcap::{is_capture, open};
use weir::metrics::{Ledgers, ledger};
use weir::output::stdout::{Sorted, StreamSink};
use weir::output::{self, Batch, Context, Sink};
use weir::pipeline::balance::Balance;
use weir::pipeline::replay::{Exports, FLUSH_EVERY, Replay, ReplayError};
use weir::pipeline::sequences::{self, Models};
use weir::pipeline::worker::Shared;
use weir::pipeline::{self, Outputs, Rules, rules};

/// Every file below `folder`, sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("readable").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Every capture below `folder`: by its first octets, or by its name where it is compressed or
/// broken.
pub(crate) fn captures(folder: &Path) -> Vec<PathBuf> {
    let named = |path: &Path| {
        let name = path.to_string_lossy();
        [".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz", ".pcap.zst"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let begins = |path: &Path| std::fs::read(path).is_ok_and(|file| is_capture(&file));
    files(folder).into_iter().filter(|path| named(path) || begins(path)).collect()
}

/// How files are replayed.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) config: Config,
    pub(crate) workers: usize,
    pub(crate) flush_every: u64,
    pub(crate) exports: Exports,
    /// Whether shards move between workers all the time.
    pub(crate) moves: bool,
}

impl Default for Run {
    fn default() -> Self {
        let mut config = Config::default();
        config.model.enabled = false;
        Self { config, workers: 1, flush_every: FLUSH_EVERY, exports: Exports::No, moves: false }
    }
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// In the order of `--sorted`.
    pub(crate) slices: Vec<TaggedSlice>,
    /// In the order of `--sorted`.
    pub(crate) alerts: Vec<Alert>,
    /// The final ledgers, sinks included.
    pub(crate) ledgers: Ledgers,
    /// How the input ended.
    pub(crate) result: Result<(), ReplayError>,
    /// Shards that went from one worker to another.
    pub(crate) moved: u64,
}

/// Takes everything, in memory.
#[derive(Default)]
struct Memory(Mutex<(Sorted, ledger::Sink)>);

impl Sink for Memory {
    fn offer(&self, batch: &Arc<Batch>) {
        let mut state = self.0.lock().expect("not poisoned");
        state.0.add(Batch::clone(batch));
        let count = (batch.slices.len() + batch.alerts.len()) as u64;
        state.1.selected += count;
        state.1.acknowledged += count;
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.offer(batch);
    }

    fn ledgers(&self) -> output::Ledgers {
        [("memory".to_owned(), self.0.lock().expect("not poisoned").1.clone())].into()
    }

    fn set_context(&self, _context: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> output::Ledgers {
        self.ledgers()
    }
}

/// Deals all shards out anew among the workers, again and again, for as long as it lives.
struct Mover(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Mover {
    fn start(balance: &Arc<Balance>, shared: &Arc<Shared>, workers: usize) -> Self {
        let (balance, shared) = (Arc::clone(balance), Arc::clone(shared));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seed = 1_u64;
            while !stopped.load(Ordering::Relaxed) {
                let owners = std::array::from_fn(|_| {
                    seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    ((seed >> 33) as usize % workers) as u8
                });
                if balance.propose(owners) {
                    // Whoever looks meanwhile sees no record twice, and none missing.
                    assert_eq!(shared.board.ledgers().imbalances(), Vec::<String>::new());
                }
                std::thread::yield_now();
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let ended = self.1.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()), "the ledgers did not balance");
    }
}

impl Run {
    /// Sends `files` through the pipeline. The ledgers balance, whatever the files hold.
    pub(crate) fn replay(&self, files: &[PathBuf]) -> Replayed {
        let sink = Arc::new(Memory::default());
        let rules = Rules::default();
        let (sources, options) = rules::gather(&self.config).expect("readable rules");
        rules.load(&sources, &options);
        let book = sequences::book(&self.config, |_| Ok(())).expect("a model that can be run");
        let models = Models::with(&self.config, book);
        let outputs = Outputs::waiting(vec![Arc::clone(&sink) as Arc<dyn Sink>]);
        let shared = Arc::new(Shared {
            rules: Arc::new(rules),
            models: Arc::new(models),
            outputs,
            board: pipeline::board(self.workers, 1),
        });
        let params = Arc::new(Params::from_config(&self.config));
        let started = pipeline::start(&shared, &params, &vec![None; self.workers], 1);
        let mut started = started.expect("threads");
        let replay = Replay {
            exports: self.exports,
            options: (&self.config.flow).into(),
            flush_every: self.flush_every,
            speed: None,
            #[cfg(feature = "capture")]
            filter: None,
            collector: Collector::new(&self.config),
            router: started.routers.pop().expect("one router"),
            slot: self.workers,
            shared: Arc::clone(&shared),
            sites: Context::of(&self.config).sites,
            progress: Arc::new(AtomicU64::new(0)),
            stop: Arc::new(AtomicBool::new(false)),
        };
        let mover = self.moves.then(|| Mover::start(&started.balance, &shared, self.workers));
        let (_, result) = replay.run(files);
        for thread in started.threads {
            thread.join().expect("a worker that does not panic");
        }
        drop(mover);
        let mut ledgers = shared.board.ledgers();
        ledgers.sinks = shared.outputs.close();
        assert_eq!(ledgers.imbalances(), Vec::<String>::new(), "{files:?}");
        assert_eq!(ledgers.slices.held, 0, "{files:?}: flows are left in the table");
        let sorted = std::mem::take(&mut sink.0.lock().expect("not poisoned").0);
        let Batch { slices, alerts } = sorted.finish();
        Replayed { slices, alerts, ledgers, result, moved: shared.board.moved() }
    }

    /// As [`replay`](Self::replay), of a capture that can be read to its end.
    pub(crate) fn whole(&self, file: &Path) -> Replayed {
        let replayed = self.replay(&[file.to_owned()]);
        assert!(replayed.result.is_ok(), "{}: {:?}", file.display(), replayed.result);
        replayed
    }
}

impl Replayed {
    /// Slices and alerts as they are written to files, in order.
    pub(crate) fn ndjson(&self, config: &Config) -> (Vec<u8>, Vec<u8>) {
        let batch = Batch { slices: self.slices.clone(), alerts: self.alerts.clone() };
        let stream = |select| {
            let stream = StreamSink::new(Format::Ndjson, select, Context::of(config), Vec::new());
            let mut stream = stream.expect("memory");
            stream.write(&batch).expect("memory");
            stream.finish().expect("memory")
        };
        (stream(Select::Slices), stream(Select::Alerts))
    }

    /// Packets of all slices, both ways.
    pub(crate) fn packets(&self) -> u64 {
        let packets = |flow: &Biflow| flow.fwd.packets + flow.bwd.packets;
        self.slices.iter().map(|tagged| packets(&tagged.slice.flow)).sum()
    }
}

/// A packet of a capture: link type, time in microseconds, octets on the wire, what was captured.
pub(crate) type Frame = (u16, i64, u32, Vec<u8>);

/// The packets of a capture that can be read to its end.
pub(crate) fn frames(path: &Path) -> Option<Vec<Frame>> {
    let mut reader = open(path).ok()?;
    let mut frames = Vec::new();
    while let Some(p) = reader.next().ok()? {
        frames.push((p.link.0, p.time.0, p.wire_len, p.data.to_vec()));
    }
    Some(frames)
}
