//! The rule set in force, swapped by pointer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::config::Config;
use crate::detect::RuleMeta;
use crate::detect::sigma::correlate::{Correlation, Taps};
use crate::detect::sigma::{
    Costs, Exclusion, ExclusionMeta, Interner, LoadReport, Named, Options, Placeholders, Reason,
    Rejected, RuleIndex, RuleSet, Source, Traffic, changes,
};
use crate::detect::suppress::Limits;
use crate::flow::Biflow;
use crate::metrics::ledger::Correlated;

/// Folders below a rule directory, at most.
const DEPTH_MAX: usize = 16;
/// Octets of a file of rules, at most.
const FILE_OCTETS_MAX: u64 = 256 << 20;

/// An immutable snapshot: the rules, and the identity of every rule that ever fired.
#[derive(Debug, Default)]
pub struct RuleBook {
    /// The compiled rules.
    pub set: RuleSet,
    /// Which load of the rules this is, from 1.
    pub generation: u32,
    /// Of which rules not every alert leaves.
    pub limits: Limits,
    known: Vec<Option<Known>>,
    /// Every exclusion that was in force once, by its interned id.
    exclusions: Vec<Option<Arc<ExclusionMeta>>>,
    /// Whether any rule's matches are sent when its flow ends.
    taps_ends: bool,
    /// What rules cost, by worker.
    costs: Mutex<Vec<Arc<Costs>>>,
}

/// What a rule cost since its set is in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RuleCost {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// When its truth is final: `immutable`, `monotone` or `final`.
    pub class: String,
    /// Whether it only feeds correlations: it raises no alert.
    pub silent: bool,
    /// Under what the index has filed it.
    pub filed: String,
    /// On how many looks at a flow it was verified.
    pub verified: u64,
    /// How often it matched.
    pub matched: u64,
}

/// A correlation in force, and what it did since it was loaded with its present definition.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CorrelationReport {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What it measures: `event_count`, `value_count of dst_port`.
    pub measure: String,
    /// Titles of the rules and correlations that it counts, as many as are shown of anything.
    pub rules: Vec<String>,
    /// Whether it only feeds other correlations: it raises no alert.
    pub silent: bool,
    /// Its counts; none before the first.
    #[serde(flatten)]
    pub counts: Correlated,
}

/// A filter in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FilterReport {
    /// Its id; empty if it has none.
    pub id: String,
    /// Its title.
    pub title: String,
    /// File and line.
    pub place: String,
    /// Of how many rules it is a part.
    pub rules: usize,
}

/// An exclusion in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ExclusionReport {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// File and line.
    pub place: String,
    /// Flows that it kept from rules.
    pub flows: u64,
}

/// A rule in force that a set would lose, as it rejects what stands in its place now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused(pub Rejected);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; its version in force stays", self.0)
    }
}

/// What is known of a rule that ever loaded.
#[derive(Clone, Debug)]
struct Known {
    meta: Arc<RuleMeta>,
    silent: bool,
    /// Of a rule that is gone: none.
    taps: Taps,
}

impl RuleBook {
    /// The rules with these interned ids that tag flows; also those that are gone since.
    pub fn metas<'a>(&'a self, fired: &'a [u32]) -> impl Iterator<Item = Arc<RuleMeta>> + 'a {
        let known = fired.iter().filter_map(|&uid| self.known(uid));
        known.filter(|known| !known.silent).map(|known| Arc::clone(&known.meta))
    }

    /// Whether a rule with one of these interned ids tags flows.
    #[must_use]
    pub fn tags(&self, fired: &[u32]) -> bool {
        fired.iter().filter_map(|&uid| self.known(uid)).any(|known| !known.silent)
    }

    /// Those of the rules that fired whose matches are sent when the flow ends.
    pub fn tapped_ends<'a>(&'a self, fired: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let fired = if self.taps_ends { fired } else { &[] };
        fired.iter().copied().filter(|&uid| self.known(uid).is_some_and(|k| k.taps.at_end))
    }

    /// Counts of the rules for one thread to write.
    #[must_use]
    pub fn new_costs(&self) -> Arc<Costs> {
        let costs = Arc::new(Costs::of(&self.set));
        self.costs.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&costs));
        costs
    }

    /// The rules that cost most, at most `limit`, in falling order.
    #[must_use]
    pub fn costs(&self, limit: usize) -> Vec<RuleCost> {
        let costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sum = |index: RuleIndex| {
            let each = costs.iter().map(|costs| costs.read(index));
            each.fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1))
        };
        let indices = (0..).map(RuleIndex).take(self.set.rules().len());
        let mut rules: Vec<((u64, u64), RuleIndex)> = indices.map(|i| (sum(i), i)).collect();
        rules.sort_unstable_by_key(|&(cost, index)| (std::cmp::Reverse(cost), index));
        rules.truncate(limit);
        let shown = |((verified, matched), index)| {
            let rule = self.set.rule(index);
            RuleCost {
                id: rule.meta.id.to_string(),
                title: rule.meta.title.to_string(),
                class: format!("{:?}", rule.class).to_lowercase(),
                silent: rule.silent,
                filed: self.set.filed(index),
                verified,
                matched,
            }
        };
        rules.into_iter().map(shown).collect()
    }

    /// The first `limit` correlations, each with its counts of `told`, by id.
    #[must_use]
    pub fn correlations(
        &self,
        limit: usize,
        told: &BTreeMap<String, Correlated>,
    ) -> Vec<CorrelationReport> {
        let shown = |of: &Arc<Correlation>| CorrelationReport {
            id: of.meta.id.clone(),
            title: of.meta.title.clone(),
            measure: of.measure().to_owned(),
            rules: of.base_titles().iter().take(limit).cloned().collect(),
            silent: of.silent,
            counts: told.get(&of.meta.id).copied().unwrap_or_default(),
        };
        self.set.correlations().iter().take(limit).map(shown).collect()
    }

    /// The first `limit` filters.
    #[must_use]
    pub fn filters(&self, limit: usize) -> Vec<FilterReport> {
        let shown = |of: &Named| FilterReport {
            id: of.id.clone(),
            title: of.title.clone(),
            place: format!("{}:{}", of.file, of.line),
            rules: of.rules,
        };
        self.set.filters().iter().take(limit).map(shown).collect()
    }

    /// The exclusions, with `counts` of flows by interned id.
    #[must_use]
    pub fn exclusions(&self, counts: &[u64]) -> Vec<ExclusionReport> {
        let shown = |of: &Exclusion| ExclusionReport {
            id: of.meta.id.clone(),
            title: of.meta.title.to_string(),
            place: format!("{}:{}", of.meta.file, of.meta.line),
            flows: counts.get(usize::from(of.meta.uid)).copied().unwrap_or(0),
        };
        self.set.exclusions().iter().map(shown).collect()
    }

    /// The title of the exclusion with this interned id; also of one that is gone since.
    #[must_use]
    pub fn exclusion(&self, uid: u16) -> Option<Arc<str>> {
        let meta = self.exclusions.get(usize::from(uid))?.as_ref()?;
        Some(Arc::clone(&meta.title))
    }

    /// From counts by interned id: each exclusion's id and count.
    pub fn excluded<'a>(&'a self, counts: &'a [u64]) -> impl Iterator<Item = (&'a str, u64)> {
        let all = self.exclusions.iter().enumerate();
        all.filter_map(|(uid, meta)| {
            Some((meta.as_ref()?.id.as_str(), counts.get(uid).copied().unwrap_or(0)))
        })
    }

    fn known(&self, uid: u32) -> Option<&Known> {
        self.known.get(uid as usize)?.as_ref()
    }
}

/// The rules in force. Readers of the snapshot never wait.
#[derive(Debug, Default)]
pub struct Rules {
    book: ArcSwap<RuleBook>,
    loader: Mutex<Loader>,
    /// Flows that workers sampled, by worker.
    sampled: Mutex<HashMap<usize, Vec<Biflow>>>,
}

/// What outlives a rule set: the interned ids, and what is known of each rule that ever loaded.
#[derive(Debug, Default)]
struct Loader {
    interner: Interner,
    known: Vec<Option<Known>>,
    /// Snapshots that were in force: freed here, so that no worker has to.
    retired: Vec<Arc<RuleBook>>,
    exclusions: Vec<Option<Arc<ExclusionMeta>>>,
}

impl Rules {
    /// The snapshot in force.
    #[must_use]
    pub fn book(&self) -> Arc<RuleBook> {
        self.book.load_full()
    }

    /// Takes a worker's sample of the flows it opened; it replaces that worker's last one.
    pub fn sampled(&self, worker: usize, flows: Vec<Biflow>) {
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner).insert(worker, flows);
    }

    /// What the index learns the traffic from: the latest samples of all workers.
    fn traffic(&self) -> Option<Arc<Traffic>> {
        let sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let flows: Vec<Biflow> = sampled.values().flatten().cloned().collect();
        (!flows.is_empty()).then(|| Arc::new(Traffic::of(flows)))
    }

    /// Compiles `sources` beside the set in force, and swaps it in. Returns the new snapshot.
    pub fn load(&self, sources: &[Source], options: &Options) -> Arc<RuleBook> {
        let mut loader = self.loader();
        let options = &Options { traffic: self.traffic(), ..options.clone() };
        let set = RuleSet::compile(sources, options, &mut loader.interner);
        self.swap(set, options, &mut loader)
    }

    /// As [`Rules::load`], but a set that rejects what is in force changes nothing, and what is in force
    /// keeps its ids. What never loaded holds nothing back, whatever is wrong with it.
    ///
    /// # Errors
    /// What takes rules in force away by being rejected.
    pub fn reload(
        &self,
        sources: &[Source],
        options: &Options,
    ) -> Result<Arc<RuleBook>, Vec<Refused>> {
        let mut loader = self.loader();
        let in_force = self.book.load();
        let standing = Arc::new(in_force.set.in_force());
        let options = &Options { traffic: self.traffic(), in_force: standing, ..options.clone() };
        let set = RuleSet::compile(sources, options, &mut loader.interner);
        let lost = changes::lost(&in_force.set, &set);
        let refused: Vec<Refused> = lost.into_iter().cloned().map(Refused).collect();
        drop(in_force);
        if refused.is_empty() { Ok(self.swap(set, options, &mut loader)) } else { Err(refused) }
    }

    fn loader(&self) -> std::sync::MutexGuard<'_, Loader> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swap(&self, set: RuleSet, options: &Options, loader: &mut Loader) -> Arc<RuleBook> {
        loader.known.iter_mut().flatten().for_each(|known| known.taps = Taps::default());
        for rule in set.rules() {
            let uid = rule.meta.uid as usize;
            if loader.known.len() <= uid {
                loader.known.resize(uid + 1, None);
            }
            let (meta, silent, taps) = (Arc::clone(&rule.meta), rule.silent, rule.taps);
            loader.known[uid] = Some(Known { meta, silent, taps });
        }
        for exclusion in set.exclusions() {
            let uid = usize::from(exclusion.meta.uid);
            if loader.exclusions.len() <= uid {
                loader.exclusions.resize(uid + 1, None);
            }
            loader.exclusions[uid] = Some(Arc::clone(&exclusion.meta));
        }
        let exclusions = loader.exclusions.clone();
        let generation = self.book.load().generation + 1;
        let taps_ends = set.rules().iter().any(|rule| rule.taps.at_end);
        let (limits, known) = (options.limits.clone(), loader.known.clone());
        let book = Arc::new(RuleBook {
            set,
            generation,
            limits,
            known,
            exclusions,
            taps_ends,
            costs: Mutex::default(),
        });
        loader.retired.push(self.book.swap(Arc::clone(&book)));
        book
    }

    /// Frees the snapshots that nobody reads any more. Returns how many are left.
    pub fn sweep(&self) -> usize {
        let retired = &mut self.loader().retired;
        retired.retain(|book| Arc::strong_count(book) > 1);
        retired.len()
    }
}

/// Rules that are no rules, apart from those that have no meaning on flows.
pub fn invalid(report: &LoadReport) -> impl Iterator<Item = &Rejected> {
    let broken = |r: &&Rejected| {
        use Reason::{NotUtf8, Syntax, TooLarge, Unreadable};
        matches!(r.reason, Syntax(_) | TooLarge { .. } | NotUtf8(_) | Unreadable(_))
    };
    report.rejected.iter().filter(broken)
}

/// How the configuration wants rules compiled.
#[must_use]
pub fn options(config: &Config) -> Options {
    let rules = &config.rules;
    let sites = config.site.iter().map(|site| site.name.clone());
    Options {
        logsources: rules.logsource.clone(),
        enable: rules.enable.clone(),
        disable: rules.disable.clone(),
        named: rules.named().map(|(key, id)| (key, id.to_owned())).collect(),
        written: rules.written.clone(),
        sites: std::iter::once("default".to_owned()).chain(sites).collect(),
        feeds: Vec::new(),
        limits: Limits::of(rules),
        ..Options::default()
    }
}

/// Reads the rules, exclusions and placeholders that `config` names: the sources, and how they are
/// to be compiled. What lies in a directory and cannot be read, or is not UTF-8, is among the options'
/// unreadable ones.
///
/// # Errors
/// The first directory that cannot be read, by its name, and but for rules by its key; placeholders
/// that are none.
pub fn gather(config: &Config) -> io::Result<(Vec<Source>, Options)> {
    let under =
        |key: &str, error: io::Error| io::Error::new(error.kind(), format!("{key}: {error}"));
    let rules = &config.rules;
    let mut options = options(config);
    let unreadable = &mut options.unreadable;
    let excluding = files(&rules.exclusions).map_err(|error| under("rules.exclusions", error))?;
    // A folder of exclusions may lie among rules: what is one is not the other.
    let mut ruling = files(&rules.directories)?;
    if !excluding.files.is_empty() {
        let places: HashSet<PathBuf> = excluding.files.iter().map(|file| whole(file)).collect();
        ruling.files.retain(|file| !places.contains(&whole(file)));
    }
    ruling.unreadable.retain(|one| !excluding.unreadable.contains(one));
    unreadable.extend(ruling.unreadable);
    unreadable.extend(excluding.unreadable);
    let sources = read_files(ruling.files, unreadable);
    options.exclusions = read_files(excluding.files, unreadable);
    if let Some(path) = &rules.placeholders {
        let found = placeholders(path);
        options.placeholders = found.map_err(|error| under("rules.placeholders", error))?;
    }
    Ok((sources, options))
}

fn placeholders(path: &Path) -> io::Result<Placeholders> {
    let octets = octets_of(path).map_err(|error| named(path, &error))?;
    let invalid = |error: String| named(path, &io::Error::new(io::ErrorKind::InvalidData, error));
    let text = String::from_utf8(octets).map_err(|error| invalid(error.to_string()))?;
    Placeholders::parse(&text).map_err(|error| invalid(error.to_string()))
}

/// Reads every `*.yml` and `*.yaml` below `directories`, in the order of their paths. What cannot be
/// read, or is not UTF-8, becomes `unreadable`.
///
/// # Errors
/// The first of `directories` that cannot be read, by name.
pub fn read(directories: &[PathBuf], unreadable: &mut Vec<Rejected>) -> io::Result<Vec<Source>> {
    let found = files(directories)?;
    unreadable.extend(found.unreadable);
    Ok(read_files(found.files, unreadable))
}

fn read_files(files: Vec<PathBuf>, unreadable: &mut Vec<Rejected>) -> Vec<Source> {
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        let octets = match octets_of(&path) {
            Ok(octets) => octets,
            Err(error) => {
                unreadable.push(not_read(&path, error.to_string()));
                continue;
            }
        };
        let file = path.display().to_string();
        match String::from_utf8(octets) {
            Ok(text) => sources.push(Source { file, text }),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..at];
                let breaks = before.iter().filter(|&&octet| octet == b'\n').count();
                let line = u32::try_from(breaks + 1).unwrap_or(u32::MAX);
                let (title, id, reason) = (String::new(), String::new(), Reason::NotUtf8(at));
                unreadable.push(Rejected { file, line, title, id, reason });
            }
        }
    }
    sources
}

fn not_read(path: &Path, why: String) -> Rejected {
    let (title, id, reason) = (String::new(), String::new(), Reason::Unreadable(why));
    Rejected { file: path.display().to_string(), line: 1, title, id, reason }
}

/// What a file of rules or placeholders holds. Pipes and devices are refused: they may never end.
fn octets_of(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !metadata.is_file() {
        return refuse("is no regular file".to_owned());
    }
    if metadata.len() > FILE_OCTETS_MAX {
        return refuse(format!("has {} octets, over {FILE_OCTETS_MAX}", metadata.len()));
    }
    fs::read(path)
}

/// Files of rules, and what lies among them and cannot be read.
#[derive(Debug, Default)]
pub struct Found {
    /// Every `*.yml` and `*.yaml`, in order.
    pub files: Vec<PathBuf>,
    /// Folders that cannot be listed, links that lead nowhere, and links that lead back.
    pub unreadable: Vec<Rejected>,
}

/// Every `*.yml` and `*.yaml` below `directories`. What git keeps for itself is left out.
///
/// # Errors
/// The first of `directories` that cannot be read, by name.
pub fn files(directories: &[PathBuf]) -> io::Result<Found> {
    let mut found = Found::default();
    for directory in directories {
        if directory.is_file() {
            found.files.push(directory.clone());
            continue;
        }
        let failed = |error: io::Error| named(directory, &error);
        if directory.exists() && !directory.is_dir() {
            let what = "neither a regular file nor a directory";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, what)));
        }
        let entries = fs::read_dir(directory).map_err(failed)?;
        // Those that it lies in too: a link to one of them leads back to it.
        let whole = directory.canonicalize().map_err(failed)?;
        let mut above: Vec<Place> = whole.ancestors().filter_map(|p| Place::of(p).ok()).collect();
        found.walk(directory, entries, (&mut above, 0));
    }
    found.files.sort();
    found.files.dedup();
    if directories.len() > 1 {
        // They may overlap, and be spelled otherwise.
        let mut places = HashSet::new();
        found.files.retain(|file| places.insert(whole(file)));
    }
    Ok(found)
}

/// The path without links and points, where it leads to something.
fn whole(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A folder, whatever path leads to it.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Place {
    device: u64,
    inode: u64,
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

impl Found {
    /// `above` are the folders that `folder` lies in, and itself, `depth` of them below the first.
    fn walk(
        &mut self,
        folder: &Path,
        entries: fs::ReadDir,
        (above, depth): (&mut Vec<Place>, usize),
    ) {
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path(), (above, depth + 1)),
                Err(error) => self.unreadable.push(not_read(folder, error.to_string())),
            }
        }
    }

    fn entry(&mut self, path: &Path, (above, depth): (&mut Vec<Place>, usize)) {
        if path.file_name().is_some_and(|name| name == ".git") {
            return;
        }
        let ends = |end: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(end));
        let is_rule = ends("yml") || ends("yaml");
        if !path.is_dir() {
            // What is no file of rules, and a link that leads nowhere, may have any other name.
            if is_rule {
                self.files.push(path.to_owned());
            }
            return;
        }
        let mut refuse = |why: String| self.unreadable.push(not_read(path, why));
        if depth > DEPTH_MAX {
            return refuse(format!("folders nest deeper than {DEPTH_MAX}"));
        }
        match (fs::read_dir(path), Place::of(path)) {
            (Ok(_), Ok(place)) if above.contains(&place) => {
                refuse("it leads back to a folder that it lies in".to_owned());
            }
            (Ok(entries), Ok(place)) => {
                above.push(place);
                self.walk(path, entries, (above, depth));
                above.pop();
            }
            (Err(error), _) | (_, Err(error)) => refuse(error.to_string()),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
