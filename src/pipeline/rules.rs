//! The rule set in force, swapped by pointer.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::config::Config;
use crate::detect::RuleMeta;
use crate::detect::sigma::correlate::Taps;
use crate::detect::sigma::{
    Costs, ExclusionMeta, Interner, LoadReport, Options, Placeholders, Reason, Rejected, RuleIndex,
    RuleSet, Source, Traffic, changes,
};
use crate::detect::suppress::Limits;
use crate::flow::Biflow;

/// Folders below a rule directory, at most: a link may lead back.
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
    /// Under what the index has filed it.
    pub filed: String,
    /// On how many looks at a flow it was verified.
    pub verified: u64,
    /// How often it matched.
    pub matched: u64,
}

/// Why a set does not take the place of the one in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// What it does not load.
    pub rejected: Rejected,
    /// Whether the set in force has it.
    pub in_force: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rejected)?;
        if self.in_force { write!(f, "; its version in force stays") } else { Ok(()) }
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
                filed: self.set.filed(index),
                verified,
                matched,
            }
        };
        rules.into_iter().map(shown).collect()
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

    /// As [`Rules::load`], but a set with files that hold no rules changes nothing, and neither does
    /// one that rejects what is in force.
    ///
    /// # Errors
    /// What is invalid or would be lost; not what has merely no meaning on flows.
    pub fn reload(
        &self,
        sources: &[Source],
        options: &Options,
    ) -> Result<Arc<RuleBook>, Vec<Refused>> {
        let mut loader = self.loader();
        let options = &Options { traffic: self.traffic(), ..options.clone() };
        let set = RuleSet::compile(sources, options, &mut loader.interner);
        let in_force = self.book.load();
        let lost = changes::lost(&in_force.set, &set);
        let also = invalid(set.report()).filter(|rejected| !lost.contains(rejected));
        let also = also.map(|rejected| Refused { rejected: rejected.clone(), in_force: false });
        let lost = lost.iter().map(|&r| Refused { rejected: r.clone(), in_force: true });
        let refused: Vec<Refused> = lost.chain(also).collect();
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
        matches!(r.reason, Reason::Syntax(_) | Reason::TooLarge { .. } | Reason::NotUtf8(_))
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
/// to be compiled. A file that is not UTF-8 is among the options' unreadable ones.
///
/// # Errors
/// The first directory or file that cannot be read, by its name, and but for rules by its key;
/// placeholders that are none.
pub fn gather(config: &Config) -> io::Result<(Vec<Source>, Options)> {
    let under =
        |key: &str, error: io::Error| io::Error::new(error.kind(), format!("{key}: {error}"));
    let rules = &config.rules;
    let mut options = options(config);
    let unreadable = &mut options.unreadable;
    let excluding = files(&rules.exclusions).map_err(|error| under("rules.exclusions", error))?;
    // A folder of exclusions may lie among rules: what is one is not the other.
    let mut ruling = files(&rules.directories)?;
    ruling.retain(|file| excluding.binary_search(file).is_err());
    let sources = read_files(ruling, unreadable)?;
    let exclusions = read_files(excluding, unreadable);
    options.exclusions = exclusions.map_err(|error| under("rules.exclusions", error))?;
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

/// Reads every `*.yml` and `*.yaml` below `directories`, in the order of their paths. Files that
/// are not UTF-8 become `unreadable`.
///
/// # Errors
/// The first directory or file that cannot be read, by name.
pub fn read(directories: &[PathBuf], unreadable: &mut Vec<Rejected>) -> io::Result<Vec<Source>> {
    read_files(files(directories)?, unreadable)
}

fn read_files(files: Vec<PathBuf>, unreadable: &mut Vec<Rejected>) -> io::Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(files.len());
    for path in files {
        let octets = octets_of(&path).map_err(|error| named(&path, &error))?;
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
    Ok(sources)
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

/// Every `*.yml` and `*.yaml` below `directories`, in order. What git keeps for itself is left out.
///
/// # Errors
/// The first directory that cannot be read, by name.
pub fn files(directories: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in directories {
        walk(directory, 0, &mut files)?;
    }
    files.sort();
    files.dedup();
    Ok(files)
}

fn walk(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > DEPTH_MAX {
        let message = format!("{}: folders nest deeper than {DEPTH_MAX}", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    for entry in fs::read_dir(path).map_err(|error| named(path, &error))? {
        let path = entry.map_err(|error| named(path, &error))?.path();
        let is_rule = path.extension().is_some_and(|e| e == "yml" || e == "yaml");
        if path.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        if path.is_dir() {
            walk(&path, depth + 1, files)?;
        } else if is_rule {
            files.push(path);
        }
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
