//! The sequence model in the workers: the model in force, each worker's shards, and what scoring may
//! cost.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::config::Config;
#[cfg(feature = "model")]
use crate::detect::sequence::Model;
#[cfg(feature = "model")]
use crate::detect::sequence::ModelError;
use crate::detect::sequence::{Allow, Settings, Shard, Verdict, take_all};
#[cfg(not(feature = "model"))]
use crate::detect::sequence::{Probabilities, Scorer, Windows};
use crate::detect::volume::{Sent, VolumeLimits};
use crate::detect::{Alert, TaggedSlice};
use crate::flow::Slice;
use crate::flow::batch::Places;
use crate::flow::params::Params;
use crate::metrics::ledger;
use crate::metrics::stages::thread_cpu;
use crate::net::{SHARDS, pair_hash, shard_of};
use crate::output::OVERLOAD;
use crate::time::{Micros, SECOND};

/// Without the feature nothing makes one.
#[cfg(not(feature = "model"))]
#[derive(Clone, Debug)]
pub struct Model(());

#[cfg(not(feature = "model"))]
impl Scorer for Model {
    fn score(&mut self, _: &Windows, _: &mut Vec<Probabilities>) -> bool {
        false
    }
}

/// What a window is reckoned to cost before any was scored, in seconds.
const COST_S: f64 = 150e-6;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadModelError {
    /// A file cannot be read.
    #[error("model.file: {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what is expected.
    #[cfg(feature = "model")]
    #[error("model.file: {}: {error}", path.display())]
    Model {
        /// Which.
        path: PathBuf,
        /// Why.
        error: ModelError,
    },
    /// It cannot even be tried.
    #[error("model.file: {}: cannot be run: {error}", path.display())]
    Fatal {
        /// The ONNX file.
        path: PathBuf,
        /// What came of it.
        error: String,
    },
    /// The JSON beside it is of another file.
    #[cfg(feature = "model")]
    #[error(
        "model.file: the sha256 of {} is {found}, and {} is of {expected}",
        path.display(), beside.display()
    )]
    Other {
        /// The ONNX file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// The JSON.
        beside: PathBuf,
        /// The hash that it names.
        expected: String,
    },
}

/// The model in force, and what the configuration wants of it.
#[derive(Clone, Debug)]
pub struct Book {
    model: Model,
    settings: Settings,
    /// Share of a core that a worker may spend on scoring live input.
    cpu_share: f64,
}

impl Book {
    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }
}

/// The model in force; none where it is not enabled. Readers never wait.
#[derive(Debug, Default)]
pub struct Models {
    /// What all workers may hold; a restart only changes it.
    pub limits: SequenceLimits,
    book: ArcSwapOption<Book>,
}

impl Models {
    /// None yet, and what `config` lets workers hold.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { limits: SequenceLimits::of(config), book: ArcSwapOption::empty() }
    }

    /// `book`, and what `config` lets workers hold.
    #[must_use]
    pub fn with(config: &Config, book: Option<Book>) -> Self {
        let models = Self::new(config);
        models.put(book);
        models
    }

    /// The snapshot in force.
    #[must_use]
    pub fn book(&self) -> Option<Arc<Book>> {
        self.book.load_full()
    }

    /// Puts another in force.
    pub fn put(&self, book: Option<Book>) {
        self.book.store(book.map(Arc::new));
    }
}

/// Loads the model that `config` wants. An ONNX file of the user's goes to `trial` first, whose error is
/// what came of it.
///
/// # Errors
/// [`LoadModelError`]: what is wrong with the file that the configuration names.
#[cfg(feature = "model")]
pub fn book(
    config: &Config,
    trial: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<Option<Book>, LoadModelError> {
    let wanted = &config.model;
    if !wanted.enabled {
        return Ok(None);
    }
    let model = match &wanted.file {
        None => Model::shipped(),
        Some(path) => read(path, trial)?,
    };
    let (labels, allow) = (Arc::clone(model.labels()), Allow::new(wanted.allow.clone()));
    let (budget, home) = (wanted.alerts_per_1000_hosts_day, config.networks.home.clone());
    let within_home = wanted.alert_within_home;
    let settings = Settings { within_home, ..Settings::new(labels, budget, allow, home) };
    Ok(Some(Book { model, settings, cpu_share: wanted.cpu_share }))
}

/// Loads nothing: this build has no feature `model`.
///
/// # Errors
/// None.
#[cfg(not(feature = "model"))]
pub fn book(
    config: &Config,
    trial: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<Option<Book>, LoadModelError> {
    let _ = (config, trial, Allow::new, fs::read::<&Path>);
    Ok(None)
}

/// Reads the ONNX file at `path` and the JSON of the same name beside it.
#[cfg(feature = "model")]
fn read(
    path: &Path,
    trial: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<Model, LoadModelError> {
    let named = |path: &Path, error| LoadModelError::Read { path: path.to_owned(), error };
    let beside = path.with_extension("json");
    let onnx = fs::read(path).map_err(|error| named(path, error))?;
    let labels = fs::read_to_string(&beside).map_err(|error| named(&beside, error))?;
    let owned = || path.to_owned();
    if beside == path {
        let error = "it is the JSON that lies beside an ONNX file: name that one".to_owned();
        return Err(LoadModelError::Fatal { path: beside, error });
    }
    Model::check(&onnx, &labels).map_err(|error| match error {
        ModelError::Other { found, expected } => {
            LoadModelError::Other { path: owned(), found, beside, expected }
        }
        error => LoadModelError::Model { path: beside, error },
    })?;
    trial(&onnx).map_err(|error| LoadModelError::Fatal { path: owned(), error })?;
    Model::parse(&onnx, &labels).map_err(|error| LoadModelError::Model { path: owned(), error })
}

/// Slices that wait to be taken at once, at most: what was just made is still in the caches.
const WAITING_MAX: usize = 64;

/// A slice that waits: where it stands, its pair's hash, when it was cut, and when what brought that
/// arrived.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: usize,
    hash: u64,
    now: Micros,
    arrived: Option<Micros>,
}

/// The shards of one worker.
#[derive(Debug)]
pub struct Sequences {
    book: Arc<Book>,
    scorer: Model,
    shards: Vec<Shard>,
    /// Which of them is a shard's.
    places: Places,
    limits: SequenceLimits,
    budget: Budget,
    thinned: Thinned,
    /// Slices that were not made, for overload.
    missed: u64,
    /// Slices that were cut and not yet taken, so that several are taken at once.
    waiting: Vec<Waiting>,
    /// On live input: when what it is told now arrived, by the kernel's clock.
    pub arrived: Option<Micros>,
    /// Those raised since they were last taken.
    pub alerts: Vec<Alert>,
    /// What hosts sent out since it was last taken.
    pub sent: Vec<Sent>,
    /// CPU time of scoring since it was last taken.
    pub scored_for: Duration,
}

impl Sequences {
    /// Of a worker that owns `shards`. `live` says that scoring has a budget.
    #[must_use]
    pub fn new(book: Arc<Book>, limits: &SequenceLimits, shards: &[usize], live: bool) -> Self {
        let (scorer, budget) = (book.model.clone(), Budget::new(book.cpu_share, live));
        let mut sequences = Self {
            book,
            scorer,
            shards: Vec::new(),
            places: [u8::MAX; SHARDS],
            limits: *limits,
            budget,
            thinned: Thinned::default(),
            missed: 0,
            waiting: Vec::new(),
            arrived: None,
            alerts: Vec::new(),
            sent: Vec::new(),
            scored_for: Duration::ZERO,
        };
        shards.iter().for_each(|&shard| sequences.join(shard, None));
        sequences
    }

    /// Takes `shard` in: with the windows that another worker had of it, or without any.
    pub fn join(&mut self, shard: usize, windows: Option<Shard>) {
        let each = |all: usize| (all / SHARDS).max(1);
        let SequenceLimits { pairs_max, joins_max, silence_us, .. } = self.limits;
        // Not all shards score at the same moment.
        let phase_us = SECOND * shard as i64 / SHARDS as i64;
        let empty = || Shard::new(each(pairs_max), each(joins_max), silence_us, phase_us);
        self.places[shard] = self.shards.len() as u8;
        self.shards.push(windows.unwrap_or_else(empty));
    }

    /// Takes `shard` out, which must be one of these.
    pub fn part(&mut self, shard: usize) -> Shard {
        let place = mem::replace(&mut self.places[shard], u8::MAX);
        let last = self.shards.len() as u8 - 1;
        let moved = self.places.iter_mut().find(|at| **at == last);
        moved.into_iter().for_each(|at| *at = place);
        self.shards.swap_remove(place.into())
    }

    /// Of one partition of `count`, whose changes are told of: no budget holds it back.
    #[must_use]
    pub fn tracked(book: Arc<Book>, limits: &SequenceLimits, count: i32) -> Self {
        let each = |all: usize| (all / usize::try_from(count).unwrap_or(1).max(1)).max(1);
        let (pairs, joins) = (each(limits.pairs_max), each(limits.joins_max));
        let mut one = Self::new(book, limits, &[], false);
        one.shards = vec![Shard::new(pairs, joins, limits.silence_us, 0).tracked()];
        // All pairs of the partition are its.
        one.places = [0; SHARDS];
        one
    }

    /// As [`Shard::take_changes`], of a partition.
    pub fn take_changes(&mut self, each: impl FnMut(&[u8], Option<Vec<u8>>)) {
        self.shards[0].take_changes(each);
    }

    /// As [`Shard::restore`], of a partition.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn restore<'a>(
        &mut self,
        state: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), &'static str> {
        self.shards[0].restore(state)
    }

    /// Takes another model over; windows stay.
    pub fn adopt(&mut self, book: &Arc<Book>) {
        if !Arc::ptr_eq(&self.book, book) {
            self.scorer = book.model.clone();
            self.budget.share = book.cpu_share;
            self.book = Arc::clone(book);
        }
    }

    /// Takes a slice that was cut at `now`. Returns what the model last said of its pair.
    pub fn slice(&mut self, slice: &Slice, now: Micros) -> Option<Verdict> {
        let flow = &slice.flow;
        self.take(slice, pair_hash(flow.site, flow.src, flow.dst), now)
    }

    fn take(&mut self, slice: &Slice, hash: u64, now: Micros) -> Option<Verdict> {
        let at = usize::from(self.places[shard_of(hash)]);
        self.advance_one(at, now);
        let shard = &mut self.shards[at];
        shard.arrived = self.arrived;
        let verdict = shard.slice(slice, hash, now, &self.book.settings);
        self.sent.append(&mut shard.sent);
        verdict
    }

    /// Notes that `slice`, which will stand at `place` in the list of [`Sequences::judge`], was cut at
    /// `now`; what brought that arrived at `arrived`. Returns whether enough wait.
    pub fn wait(
        &mut self,
        (place, slice): (usize, &Slice),
        now: Micros,
        arrived: Option<Micros>,
    ) -> bool {
        let flow = &slice.flow;
        let hash = pair_hash(flow.site, flow.src, flow.dst);
        self.waiting.push(Waiting { place, hash, now, arrived });
        self.waiting.len() >= WAITING_MAX
    }

    /// Whether slices wait for [`Sequences::judge`].
    #[must_use]
    pub const fn awaits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the slices that wait, each as of its moment, and puts on it what the model last said of
    /// its pair.
    pub fn judge(&mut self, slices: &mut [TaggedSlice]) {
        let mut waiting = mem::take(&mut self.waiting);
        take_all(
            self,
            waiting.len(),
            |all, at| {
                let hash = waiting[at].hash;
                (&all.shards[usize::from(all.places[shard_of(hash)])], hash)
            },
            |all, at| {
                let Waiting { place, hash, now, arrived } = waiting[at];
                all.arrived = arrived.or(all.arrived);
                let tagged = &mut slices[place];
                tagged.verdict = all.take(&tagged.slice, hash, now);
            },
        );
        waiting.clear();
        self.waiting = waiting;
    }

    /// Whether scoring gives way to overload for now.
    pub fn hold(&mut self, held: bool) {
        self.budget.held = held;
    }

    /// Counts a slice that was not made, for overload.
    pub fn miss_slice(&mut self) {
        self.missed += 1;
    }

    /// Passes `now` on all shards.
    pub fn advance(&mut self, now: Micros) {
        (0..self.shards.len()).for_each(|at| self.advance_one(at, now));
    }

    fn advance_one(&mut self, at: usize, now: Micros) {
        let shard = &mut self.shards[at];
        if !shard.is_due(now) {
            return;
        }
        let (began, allowed) = (thread_cpu(), self.budget.windows());
        let mut left = allowed;
        let settings = &self.book.settings;
        shard.arrived = self.arrived;
        shard.advance(now, settings, &mut self.scorer, &mut left, &mut self.alerts);
        let took = thread_cpu().saturating_sub(began);
        self.scored_for += took;
        self.budget.spent(allowed - left, took);
        // While overload holds it back, that is said instead.
        let thins = left == 0 && !self.budget.held && self.shards[at].ledger().waiting > 0;
        if thins && self.thinned.tells(Instant::now()) {
            let waiting: u64 = self.shards.iter().map(|shard| shard.ledger().waiting).sum();
            tracing::warn!(
                waiting,
                "the sequence model does not keep up: model.cpu_share is spent, and pairs wait to be scored"
            );
        }
    }

    /// The end of the input: scores all that changed. Of live input as much as a second takes, as
    /// whoever stops a sensor waits for it; the rest is counted as put off.
    pub fn finish(&mut self) {
        let began = thread_cpu();
        let mut left = self.budget.last_windows();
        for shard in &mut self.shards {
            let settings = &self.book.settings;
            shard.finish(settings, &mut self.scorer, &mut left, &mut self.alerts);
        }
        self.scored_for += thread_cpu().saturating_sub(began);
    }

    /// Tells what the shards did and hold, in `ledger`.
    pub fn tell(&self, ledger: &mut ledger::Sequences) {
        let mut sum = ledger::Sequences::default();
        for shard in &self.shards {
            sum.merge(&shard.ledger());
        }
        sum.slices += self.missed;
        sum.passed_over.add(OVERLOAD, self.missed);
        *ledger = sum;
    }
}

/// What the shards of all workers may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SequenceLimits {
    /// Pairs.
    pub pairs_max: usize,
    /// Connections that may go on.
    pub joins_max: usize,
    /// The longest from one cut of a flow to the next, in microseconds.
    pub silence_us: i64,
    /// Hosts whose hours are summed up, and octets of an hour that are never alerted on.
    pub volumes: VolumeLimits,
}

impl SequenceLimits {
    /// As `config` wants it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            pairs_max: config.model.pairs_max,
            joins_max: config.model.connections_max,
            silence_us: Params::from_config(config).silence_us(),
            volumes: VolumeLimits {
                floor: config.model.out_octets_min,
                hosts_max: config.model.hosts_max,
            },
        }
    }
}

impl Default for SequenceLimits {
    fn default() -> Self {
        Self::of(&Config::default())
    }
}

/// How long turns have been put off without a pause, so that it is told.
#[derive(Debug, Default)]
struct Thinned {
    since: Option<Instant>,
    latest: Option<Instant>,
    told: Option<Instant>,
}

impl Thinned {
    const PAUSE: Duration = Duration::from_secs(10);
    const LONG: Duration = Duration::from_secs(5 * 60);
    const SILENCE: Duration = Duration::from_secs(10 * 60);

    /// Turns are put off at `now`. Returns whether that has gone on for long and was not told of late.
    fn tells(&mut self, now: Instant) -> bool {
        let over = |at: Option<Instant>, span| at.is_none_or(|at| now.duration_since(at) >= span);
        if over(self.latest, Self::PAUSE) {
            self.since = Some(now);
        }
        self.latest = Some(now);
        let tells = over(self.since, Self::LONG) && over(self.told, Self::SILENCE);
        if tells {
            self.told = Some(now);
        }
        tells
    }
}

/// What scoring may cost on live input: a share of the time that passes, of which a second's worth
/// may be saved up.
#[derive(Debug)]
struct Budget {
    live: bool,
    /// Overload: nothing is scored, and nothing is saved up.
    held: bool,
    share: f64,
    left_s: f64,
    since: Instant,
    /// What a window cost of late, in seconds.
    cost_s: f64,
}

impl Budget {
    fn new(share: f64, live: bool) -> Self {
        Self { live, held: false, share, left_s: share, since: Instant::now(), cost_s: COST_S }
    }

    /// How many windows may be scored now.
    fn windows(&mut self) -> usize {
        if !self.live {
            return usize::MAX;
        }
        let now = Instant::now();
        let passed = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.left_s = (self.left_s + passed * self.share).min(self.share);
        if self.held {
            return 0;
        }
        // However dear a window is: one, when as much is saved up as may be.
        let least = usize::from(self.left_s >= self.share);
        ((self.left_s / self.cost_s).max(0.0) as usize).max(least)
    }

    /// How many windows may be scored at the end.
    fn last_windows(&self) -> usize {
        if self.live { (1.0 / self.cost_s) as usize } else { usize::MAX }
    }

    fn spent(&mut self, windows: usize, took: Duration) {
        let took = took.as_secs_f64();
        self.left_s -= took;
        if windows > 0 {
            self.cost_s += (took / windows as f64 - self.cost_s) / 8.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_is_told_once_it_lasts() {
        let mut thinned = Thinned::default();
        let began = Instant::now();
        let mut tells = |second| thinned.tells(began + Duration::from_secs(second));
        assert!(!(0..290).any(&mut tells), "for a while");
        let told: Vec<u64> = (400..1_700).filter(|&second| tells(second)).collect();
        assert_eq!(told, [700, 1_300], "for long, after a pause");
    }

    #[test]
    fn a_spent_budget_scores_nothing_until_time_has_passed() {
        let mut budget = Budget::new(0.1, true);
        assert!(budget.windows() > 600);
        budget.spent(100, Duration::from_millis(200));
        assert_eq!(budget.windows(), 0);
        assert!(budget.left_s < -0.09 && budget.cost_s > COST_S);
        budget.since -= Duration::from_secs(60);
        let windows = budget.windows();
        assert!(windows > 0 && budget.left_s <= 0.1, "a second's worth, and no more");
        // A window that costs more than may be saved up has its turn, and is paid off afterwards.
        let mut small = Budget::new(0.001, true);
        (small.cost_s, small.left_s) = (0.005, 0.001);
        assert_eq!(small.windows(), 1);
        small.spent(1, Duration::from_millis(5));
        assert_eq!(small.windows(), 0);
        assert_eq!(Budget::new(0.1, false).windows(), usize::MAX, "a replay has none");
        assert_eq!(Budget::new(0.1, false).last_windows(), usize::MAX);
        assert!(budget.last_windows() <= 6_667, "a stop waits for a second");
    }
}
