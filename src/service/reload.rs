//! Rules and the model while the sensor runs: on SIGHUP, and when their files change. A thread of low priority
//! reads and compiles beside the workers, which take the new set over by pointer.
//!
//! Changes are found by listing the files every few seconds: that works on network file systems
//! and over links, needs no handle for each folder, and sees a git checkout as what it is, many
//! writes that are one change. A change is taken once two listings in a row are equal.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::load::{self, LoadError};
use super::trial;
use crate::config::Config;
use crate::detect::sigma::feed::Tally;
use crate::detect::sigma::{Change, Changes, RuleSet, changes};
use crate::pipeline::clock::wall;
use crate::pipeline::feeds::Feeds;
use crate::pipeline::listing::{Listing, WorkTree};
use crate::pipeline::sequences::{Book, Models};
use crate::pipeline::{RuleBook, Rules, affinity};

/// A change is looked at again after this long at most, to see whether it goes on.
const SETTLE: Duration = Duration::from_secs(1);
/// Rules that are named in a report, of those added, removed and changed each.
const NAMED_MAX: usize = 10;

/// Why rules were loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// The sensor started.
    Start,
    /// SIGHUP: configuration and rules.
    Signal,
    /// A file changed: rules only.
    Watch,
}

impl Trigger {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Watch => "watch",
        }
    }
}

/// What came of the last load, and the rules in force.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of `GET /rules`")]
pub struct Report {
    #[serde(flatten)]
    pub in_force: InForce,
    pub last_load: Attempt,
}

/// The rules in force.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "the names are those of `GET /rules`")]
pub struct InForce {
    pub generation: u32,
    pub loaded_at_s: u64,
    pub loaded: usize,
    pub rejected: usize,
    pub disabled: usize,
    pub work_trees: Vec<WorkTree>,
    pub feeds: Vec<FeedReport>,
}

/// A feed in force.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of `GET /rules`")]
pub struct FeedReport {
    pub id: String,
    pub title: String,
    pub path: PathBuf,
    #[serde(flatten)]
    pub tally: Tally,
}

/// A load that succeeded, or failed and changed nothing.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of `GET /rules`")]
pub struct Attempt {
    pub trigger: Trigger,
    pub at_s: u64,
    pub took_ms: u64,
    /// Why it failed.
    pub error: Option<String>,
    /// How many rules were added, removed and changed, and the first of each.
    pub added: usize,
    pub removed: usize,
    pub changed: usize,
    pub first: Changes,
}

/// Counts of loads and reloads, and the last report.
#[derive(Debug, Default)]
pub struct Reloads {
    /// That succeeded.
    pub succeeded: AtomicU64,
    /// That failed and changed nothing.
    pub failed: AtomicU64,
    /// Unix seconds of the last load that succeeded.
    pub loaded_at_s: AtomicU64,
    /// Rules that reloads added, removed and changed.
    pub rules: [AtomicU64; 3],
    /// What `GET /rules` tells.
    pub report: ArcSwapOption<Report>,
}

/// The thread that loads rules. Ends with its handle.
#[derive(Debug)]
pub struct Reloader {
    requests: Sender<()>,
    outcomes: UnboundedReceiver<Trigger>,
}

impl Reloader {
    /// Reloads configuration and rules.
    pub fn request(&self) {
        if self.requests.send(()).is_err() {
            tracing::error!("the thread that loads rules is gone: nothing is reloaded");
        }
    }

    /// Waits for the next reload to end.
    pub async fn ended(&mut self) -> Trigger {
        match self.outcomes.recv().await {
            Some(trigger) => trigger,
            None => std::future::pending().await,
        }
    }
}

/// Owns what a reload needs; stands in a thread of its own.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// The configuration in force.
    config: Config,
    rules: Arc<Rules>,
    models: Arc<Models>,
    reloads: Arc<Reloads>,
    feeds: Feeds,
    /// The files of the set in force, as they were listed before they were read.
    listing: Listing,
    /// Those of the last attempt: what failed is not tried again before something changes.
    tried: Listing,
    /// What the log says of the set in force: it is not said again at a reload.
    said: HashSet<String>,
}

impl Keeper {
    /// Loads rules and model for the first time.
    ///
    /// # Errors
    /// If one of them cannot be loaded.
    pub fn load(
        path: PathBuf,
        config: Config,
        (rules, models, reloads): (Arc<Rules>, Arc<Models>, Arc<Reloads>),
    ) -> Result<Self, LoadError> {
        let (feeds, listing) = (Feeds::default(), Listing::default());
        let (tried, said) = (Listing::default(), HashSet::new());
        let mut keeper = Self { path, config, rules, models, reloads, feeds, listing, tried, said };
        keeper.attempt(Trigger::Start)?;
        Ok(keeper)
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system refuses it.
    pub fn start(self) -> io::Result<Reloader> {
        let (requests, inbox) = channel();
        let (ended, outcomes) = unbounded_channel();
        let thread = std::thread::Builder::new().name("weir-rules".into());
        thread.spawn(move || self.run(&inbox, &ended))?;
        Ok(Reloader { requests, outcomes })
    }

    fn run(mut self, requests: &Receiver<()>, ended: &UnboundedSender<Trigger>) {
        affinity::step_back();
        let mut before = None;
        loop {
            let trigger = match requests.recv_timeout(self.pause(before.is_some())) {
                Ok(()) => Trigger::Signal,
                Err(RecvTimeoutError::Timeout) => {
                    if !self.has_settled(&mut before) {
                        self.rules.sweep();
                        continue;
                    }
                    Trigger::Watch
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            before = None;
            if let Err(error) = self.attempt(trigger) {
                let trigger = trigger.as_str();
                tracing::error!(trigger, "reload failed, nothing is changed: {error}");
            }
            if ended.send(trigger).is_err() {
                return;
            }
        }
    }

    fn pause(&self, unsettled: bool) -> Duration {
        let every = Duration::from_secs(self.config.rules.watch_s.into());
        match (every.is_zero(), unsettled) {
            // Now and then, for the sets that were in force.
            (true, _) => Duration::from_secs(60),
            (false, true) => every.min(SETTLE),
            (false, false) => every,
        }
    }

    /// Whether the files are others than those of the last attempt, and no change goes on.
    fn has_settled(&self, before: &mut Option<Listing>) -> bool {
        if self.config.rules.watch_s == 0 {
            return false;
        }
        let now = Listing::of(&self.config);
        if now == self.tried || now == self.listing && self.tried == self.listing {
            *before = None;
            return false;
        }
        let settled = !now.busy && before.as_ref() == Some(&now);
        *before = Some(now);
        settled
    }

    /// Loads the rules, and on a signal the configuration. If anything is wrong, all stays.
    fn attempt(&mut self, trigger: Trigger) -> Result<(), LoadError> {
        let began = Instant::now();
        let old = self.rules.book();
        let result = self.read(trigger);
        let at_s = wall().0.unsigned_abs() / 1_000_000;
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut attempt = Attempt {
            trigger,
            at_s,
            took_ms,
            error: result.as_ref().err().map(ToString::to_string),
            added: 0,
            removed: 0,
            changed: 0,
            first: Changes::default(),
        };
        let last = self.reloads.report.load();
        let mut in_force = last.as_ref().map(|last| last.in_force.clone()).unwrap_or_default();
        if let Ok(book) = &result {
            let changes = Changes::between(&old.set, &book.set);
            let counts = [&changes.added, &changes.removed, &changes.changed].map(Vec::len);
            [attempt.added, attempt.removed, attempt.changed] = counts;
            attempt.first = first_of(&changes);
            in_force = self.in_force(book, at_s);
            self.reloads.loaded_at_s.store(at_s, Ordering::Relaxed);
            if trigger != Trigger::Start {
                self.reloads.succeeded.fetch_add(1, Ordering::Relaxed);
                for (counter, count) in self.reloads.rules.iter().zip(counts) {
                    counter.fetch_add(count as u64, Ordering::Relaxed);
                }
                say(&attempt, &in_force);
                warn_of_emptied(&old.set, &book.set);
            }
        } else {
            self.reloads.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.reloads.report.store(Some(Arc::new(Report { in_force, last_load: attempt })));
        drop(old);
        self.rules.sweep();
        result.map(|_| ())
    }

    fn read(&mut self, trigger: Trigger) -> Result<Arc<RuleBook>, LoadError> {
        let mut config = self.config.clone();
        if trigger == Trigger::Signal {
            config = load::sensor(&self.path)?;
            load::reloadable(&self.config, &config)?;
        }
        // Listed before it is read: what changes meanwhile is seen at the next look.
        self.tried = Listing::of(&config);
        let model = match trigger {
            Trigger::Watch => None,
            Trigger::Start | Trigger::Signal => Some(trial::book(&config)?),
        };
        let (sources, options) = load::rules(&config, &mut self.feeds)?;
        let book = self.rules.reload(&sources, &options).map_err(LoadError::Invalid)?;
        if let Some(model) = model {
            report_model(model.as_ref());
            self.models.put(model);
        }
        report_rules(&book, &mut self.said);
        self.config = config;
        self.listing = self.tried.clone();
        Ok(book)
    }

    fn in_force(&self, book: &RuleBook, loaded_at_s: u64) -> InForce {
        let report = book.set.report();
        let feed = |feed: &Arc<crate::detect::sigma::Feed>| FeedReport {
            id: feed.id(),
            title: feed.title(),
            path: feed.spec.path.clone(),
            tally: feed.tally,
        };
        InForce {
            generation: book.generation,
            loaded_at_s,
            loaded: report.loaded,
            rejected: report.rejected.len(),
            disabled: report.disabled,
            work_trees: self.listing.work_trees.clone(),
            feeds: self.feeds.known().map(feed).collect(),
        }
    }
}

fn first_of(changes: &Changes) -> Changes {
    let first = |list: &[Change]| list.iter().take(NAMED_MAX).cloned().collect();
    let Changes { added, removed, changed } = changes;
    Changes { added: first(added), removed: first(removed), changed: first(changed) }
}

fn say(attempt: &Attempt, in_force: &InForce) {
    let names = |list: &[Change]| {
        list.iter().take(3).map(|change| change.title.as_str()).collect::<Vec<_>>().join("; ")
    };
    let tree = |tree: &WorkTree| {
        let commit = tree.commit.as_deref().unwrap_or("unknown");
        format!("{}@{}", tree.path.display(), commit.get(..12).unwrap_or(commit))
    };
    let commits = in_force.work_trees.iter().map(tree).collect::<Vec<_>>().join(", ");
    let Attempt { trigger, took_ms, added, removed, changed, first, .. } = attempt;
    tracing::info!(
        trigger = trigger.as_str(),
        generation = in_force.generation,
        took_ms,
        added,
        removed,
        changed,
        first_added = names(&first.added),
        first_removed = names(&first.removed),
        first_changed = names(&first.changed),
        commits,
        "reloaded"
    );
}

/// A file that is there and holds nothing may have been cut short: what it held is gone all the same.
fn warn_of_emptied(old: &RuleSet, new: &RuleSet) {
    for (file, removed) in changes::emptied(old, new) {
        tracing::warn!(
            file,
            removed,
            "a file of rules holds none any more, and what it held is gone"
        );
    }
}

/// Says in the log which model is in force.
fn report_model(model: Option<&Book>) {
    let Some(model) = model else { return tracing::info!("no sequence model") };
    let settings = model.settings();
    let (sha256, threshold) = (settings.labels.sha256.as_str(), settings.threshold);
    let budget = settings.budget;
    tracing::info!(sha256, alerts_per_1000_hosts_day = budget, threshold, "sequence model loaded");
}

/// Says in the log what was loaded and what was not; not again what was `said` of the last set.
fn report_rules(book: &RuleBook, said: &mut HashSet<String>) {
    let report = book.set.report();
    let rejected = report.rejected.iter().map(ToString::to_string);
    let lines: Vec<String> =
        rejected.chain(report.warnings.iter().map(ToString::to_string)).collect();
    let new: Vec<&String> = lines.iter().filter(|line| !said.contains(*line)).collect();
    for line in &new {
        tracing::warn!("{line}");
    }
    let said_before = lines.len() - new.len();
    *said = lines.into_iter().collect();
    let (loaded, rejected) = (report.loaded, report.rejected.len());
    let (correlations, filters, exclusions) =
        (report.correlations, report.filters, report.exclusions);
    tracing::info!(
        loaded,
        correlations,
        rejected,
        filters,
        exclusions,
        said_before,
        "rules loaded"
    );
    if let Some(none) = report.no_rule() {
        tracing::warn!("{none}");
    }
}
