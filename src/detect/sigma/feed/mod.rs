//! Indicator feeds: lists of addresses, networks, ports and names that become rules.
//!
//! A feed is a rule without a YAML file: a flow matches if its initiator or its responder is in
//! the feed's set of addresses, or its responder's port in its set of ports. Names are looked for
//! in what exporters tell of a flow; as that may change over the flow's life, they make a rule of
//! their own. docs/sigma.md has the decisions.

pub(super) mod cover;
mod reader;
mod value;

use std::fmt;
use std::sync::Arc;

use sha1::{Digest, Sha1};

pub use reader::Reader;
pub use value::Fault;

use super::expr::Expr;
use super::fields::{Field, Record};
use super::interval::IntervalSet;
use super::meta;
use super::number::Unit;
use super::predicate::{Predicate, Test};
use super::report::Note;
use super::text::{Glyph, Matcher, Pattern};
use crate::config::{self, Severity};
use crate::detect::{Level, RuleMeta};
use crate::net::{Addr, Cidr};

/// Networks that are looked through for the one that an address lies in; beyond, the merged
/// interval is named instead.
const LOOK_BACK_MAX: usize = 4_096;

/// A feed, read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Feed {
    /// What the configuration says of it.
    pub spec: config::Feed,
    /// Its indicators, by title, level and tags; never empty.
    groups: Vec<Group>,
    /// What was in the file.
    pub tally: Tally,
    /// The first bad lines.
    pub bad: Vec<BadLine>,
    /// The first lines with a level that is none, and that level.
    pub unknown_levels: Vec<(u64, String)>,
}

/// Counts over a feed's file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Tally {
    /// Lines, all of them.
    pub lines: u64,
    /// Single addresses.
    pub addresses: u64,
    /// Networks and ranges of more than one address.
    pub networks: u64,
    /// Ports and ranges of ports.
    pub ports: u64,
    /// Names.
    pub names: u64,
    /// Lines that are no indicator, no comment and not blank.
    pub bad: u64,
    /// Rows that joined the feed's own rule, as there were too many titles.
    pub ungrouped: u64,
    /// Rows whose level is none: they have the feed's.
    pub unknown_levels: u64,
}

/// A line that is no indicator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadLine {
    /// From 1.
    pub line: u64,
    /// Its first 80 characters.
    pub text: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Why a feed cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FeedError {
    /// No line is an indicator.
    #[error("no indicator in {lines} lines{}", first.as_ref().map(said).unwrap_or_default())]
    Empty {
        /// Lines that were read.
        lines: u64,
        /// The first that is bad.
        first: Option<BadLine>,
    },
    /// No header names the columns.
    #[error(
        "no column is called {}: {}",
        quoted(wanted, "or"),
        if header.is_empty() { "the file has no row".to_owned() } else { format!("the first row has {}", quoted(header, "and")) }
    )]
    Column {
        /// Columns that the configuration names and the header has not.
        wanted: Vec<String>,
        /// The first row.
        header: Vec<String>,
    },
    /// Over the limit.
    #[error("over the limit of {0} indicators")]
    TooLarge(u64),
    /// Its networks leave nothing out.
    #[error("its networks together hold {0}: it would match nearly every flow")]
    Everything(String),
}

/// A list as a person writes it: `a`, `b` and `c`.
fn quoted(names: &[String], and: &str) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {and} {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn said(bad: &BadLine) -> String {
    format!("; {bad}")
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` is {}", self.line, self.text, self.fault)
    }
}

/// The indicators of one title, level and tags.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Group {
    /// Of its rows; empty for the feed's own.
    title: String,
    level: Option<Level>,
    tags: Vec<String>,
    addresses: IntervalSet,
    networks: Networks,
    ports: IntervalSet,
    names: Vec<String>,
}

/// The networks of a feed as they were written, for evidence: in the set they are merged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Networks(Arc<[(u128, u128)]>);

impl Networks {
    fn new(mut networks: Vec<(u128, u128)>) -> Self {
        networks.sort_unstable();
        networks.dedup();
        Self(networks.into())
    }

    /// The narrowest network that holds `value`.
    fn around(&self, value: u128) -> Around {
        let below = self.0.partition_point(|&(first, _)| first <= value);
        let near = &self.0[below.saturating_sub(LOOK_BACK_MAX)..below];
        // Networks nest or are apart, so the last to begin is the narrowest; of those that begin
        // together, the narrowest comes first.
        let holds = |&&(_, last): &&(u128, u128)| value <= last;
        let Some(&(first, _)) = near.iter().rev().find(holds) else {
            return if near.len() == below { Around::Nothing } else { Around::Unknown };
        };
        let same = near.partition_point(|&(begin, _)| begin < first);
        near[same..].iter().find(holds).map_or(Around::Unknown, |&(a, b)| Around::Network(a, b))
    }
}

/// The network that an address lies in.
enum Around {
    Network(u128, u128),
    /// None.
    Nothing,
    /// Not found among those that were looked at.
    Unknown,
}

/// What a rule that is a feed adds to evidence: which indicator matched.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Indicators {
    title: String,
    addresses: IntervalSet,
    networks: Networks,
    ports: IntervalSet,
}

impl Indicators {
    /// The indicator that made `predicate` hold, in words; `None` if it is none of the feed's.
    pub(super) fn tell(&self, predicate: &Predicate, record: &Record<'_>) -> Option<String> {
        let of_feed = matches!(predicate.field, Field::Src | Field::Dst) && !predicate.negated;
        if !of_feed || predicate.words != words(&self.title) {
            return None;
        }
        let address = record.integer(predicate.field)?;
        let intervals = self.addresses.intervals();
        let at = intervals.partition_point(|&(_, last)| last < address);
        let merged = intervals.get(at).copied().filter(|&(first, _)| first <= address)?;
        let (first, last) = match self.networks.around(address) {
            Around::Network(first, last) => (first, last),
            Around::Nothing => (address, address),
            Around::Unknown => merged,
        };
        Some(format!("{} of feed {}", shown(first, last), self.title))
    }
}

/// A range as it is usually written: address, network, or both ends.
fn shown(first: u128, last: u128) -> String {
    let (from, to) = (Addr(first), Addr(last));
    if first == last {
        return from.to_string();
    }
    let shared = (first ^ last).leading_zeros() as u8;
    let length = if from.is_v4() { shared.saturating_sub(96) } else { shared };
    match Cidr::new(from, length) {
        Ok(network) if network.bounds() == (from, to) => network.to_string(),
        _ => format!("{from}-{to}"),
    }
}

/// A feed's rule before it gets its number.
#[derive(Debug)]
pub(super) struct FeedRule {
    pub meta: RuleMeta,
    pub expr: Expr,
    pub indicators: Option<Indicators>,
}

impl Feed {
    /// The title of its rule: the configuration's, or the file's name.
    #[must_use]
    pub fn title(&self) -> String {
        title(&self.spec)
    }

    /// The id of its first rule: the configuration's, or made from the title.
    #[must_use]
    pub fn id(&self) -> String {
        match self.spec.id.is_empty() {
            true => format!("feed-{}", short_hash(&[&self.title()])),
            false => self.spec.id.clone(),
        }
    }

    /// The name of its file.
    #[must_use]
    pub fn file(&self) -> String {
        self.spec.path.display().to_string()
    }

    /// What of its file was left out: the first lines by name, then how many there were.
    pub(super) fn notes(&self) -> Vec<Note> {
        let note = |line, text| Note {
            file: self.spec.path.display().to_string(),
            line,
            title: self.title(),
            text,
        };
        let line = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let skipped = |bad: &BadLine| {
            note(line(bad.line), format!("skipped: `{}` is {}", bad.text, bad.fault))
        };
        let mut notes: Vec<Note> = self.bad.iter().map(skipped).collect();
        let own = level(self.spec.level).as_str();
        let levels = self.unknown_levels.iter().map(|(number, text)| {
            let known = "informational, low, medium, high or critical";
            note(
                line(*number),
                format!("level `{text}` is none of {known}: it has the feed's, {own}"),
            )
        });
        notes.extend(levels);
        let Tally { lines, bad, ungrouped, unknown_levels, .. } = self.tally;
        if unknown_levels > self.unknown_levels.len() as u64 {
            let text = format!("{unknown_levels} of {lines} lines have a level that is none");
            notes.push(note(1, text));
        }
        if bad > 0 {
            notes
                .push(note(1, format!("{bad} of {lines} lines are no indicators and are skipped")));
        }
        if let Some(most) = cover::most(self.addresses()) {
            notes.push(note(1, format!("its networks together hold {most}")));
        }
        if let Some(name) = self.groups.iter().find_map(|group| group.names.first())
            && self.spec.kind == config::FeedKind::Auto
        {
            let text = format!(
                "{} of {lines} lines are taken for names of applications, VRFs and interfaces, one of \
                 them `{name}`: kind = \"address\" leaves them out, kind = \"name\" says that they are meant",
                self.tally.names
            );
            notes.push(note(1, text));
        }
        if ungrouped > 0 {
            let text = format!("{ungrouped} rows join the rule of the feed: too many titles");
            notes.push(note(1, text));
        }
        notes
    }

    /// The addresses and networks of all its rules.
    fn addresses(&self) -> IntervalSet {
        IntervalSet::union_of(self.groups.iter().map(|group| group.addresses.clone()))
    }

    /// Its rules: one for the addresses and ports of each title, level and tags, and one for the
    /// names.
    pub(super) fn rules(&self) -> Vec<FeedRule> {
        self.groups.iter().flat_map(|group| self.rules_of(group)).collect()
    }

    fn rules_of(&self, group: &Group) -> impl Iterator<Item = FeedRule> {
        let mut meta = RuleMeta {
            id: self.id(),
            title: self.title(),
            level: group.level.unwrap_or_else(|| level(self.spec.level)),
            tags: self.spec.tags.iter().chain(&group.tags).cloned().collect(),
            file: self.spec.path.display().to_string(),
            line: 1,
            ..RuleMeta::default()
        };
        if !group.title.is_empty() || group.level.is_some() || !group.tags.is_empty() {
            let level = group.level.map_or("", Level::as_str);
            let key = [&[group.title.as_str(), level], &*strs(&group.tags)].concat();
            meta.id = format!("{}.{}", meta.id, short_hash(&key));
        }
        if !group.title.is_empty() {
            meta.title = format!("{}: {}", meta.title, group.title);
        }
        (meta.tactics, meta.techniques) = meta::attack_of(&meta.tags);
        let title = meta.title.clone();
        let mut parts = Vec::new();
        if !group.addresses.is_empty() {
            let set = &group.addresses;
            parts.push(within(Field::Src, "src_ip", set, &title));
            parts.push(within(Field::Dst, "dst_ip", set, &title));
        }
        if !group.ports.is_empty() {
            parts.push(within(Field::DstPort, "dst_port", &group.ports, &title));
        }
        let sets = (!parts.is_empty()).then(|| FeedRule {
            meta: meta.clone(),
            expr: any(parts),
            indicators: (!group.addresses.is_empty()).then(|| Indicators {
                title: title.clone(),
                addresses: group.addresses.clone(),
                networks: group.networks.clone(),
                ports: group.ports.clone(),
            }),
        });
        let names = (!group.names.is_empty()).then(|| {
            meta.id = format!("{}.names", meta.id);
            let places = [
                (Field::Application, "application"),
                (Field::VrfName, "vrf_name"),
                (Field::InIfName, "in_if_name"),
                (Field::OutIfName, "out_if_name"),
            ];
            let parts = places.map(|(field, name)| named(field, name, &group.names, &title));
            FeedRule { meta, expr: any(parts.into()), indicators: None }
        });
        sets.into_iter().chain(names)
    }
}

fn any(mut parts: Vec<Expr>) -> Expr {
    if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) }
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn within(field: Field, name: &str, set: &IntervalSet, title: &str) -> Expr {
    let test = Test::In { set: set.clone(), null: false };
    leaf(field, name, test, title)
}

fn named(field: Field, name: &str, names: &[String], title: &str) -> Expr {
    let matcher =
        |name: &String| Matcher::Glob(Pattern::new(name.chars().map(Glyph::Char).collect(), false));
    let matchers = names.iter().map(matcher).collect();
    let test = Test::Text { matchers, all: false, negated: false, null: false };
    leaf(field, name, test, title)
}

fn leaf(field: Field, name: &str, test: Test, title: &str) -> Expr {
    let (name, words) = (name.to_owned(), words(title));
    Expr::leaf(Predicate { field, unit: Unit::ONE, test, name, words, negated: false })
}

fn words(title: &str) -> String {
    format!("in feed {title}")
}

/// The title of the feed's rule: the configuration's, or the file's name.
fn title(spec: &config::Feed) -> String {
    if spec.title.is_empty() {
        let name = spec.path.file_name().unwrap_or(spec.path.as_os_str());
        return name.to_string_lossy().into_owned();
    }
    spec.title.clone()
}

const fn level(severity: Severity) -> Level {
    match severity {
        Severity::Informational => Level::Informational,
        Severity::Low => Level::Low,
        Severity::Medium => Level::Medium,
        Severity::High => Level::High,
        Severity::Critical => Level::Critical,
    }
}

fn short_hash(texts: &[&str]) -> String {
    let hash = Sha1::digest(texts.join("\0").as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
