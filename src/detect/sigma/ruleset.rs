//! The loaded rules, and the plain scan over them: the slow twin that any index must equal.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::already::Already;
use super::breadth;
use super::correlate::{Correlation, Taps};
use super::costs::Costs;
use super::exclusions::{Exclusion, ExclusionMeta};
use super::expr::Expr;
use super::feed::{Feed, Indicators};
use super::fields::{Counter, Record};
use super::ids::InForce;
use super::index::{Filing, Index, Place, Traffic, WakeIndex};
use super::load::{self, Loaded};
use super::placeholders::Placeholders;
use super::predicate::{Class, Predicate, Test, missing, show};
use super::report::{LoadReport, Note, Rejected};
use crate::config::{Logsource, Written};
use crate::detect::suppress::Limits;
use crate::detect::{Evidence, RuleMeta};
use crate::flow::{Biflow, Wake};

/// A rule that matches more than one of so many sampled flows is warned of, and so is an exclusion.
const FREQUENT: usize = 10;

/// Hits that are searched for one that comes again.
const FEW_HITS: usize = 32;

/// A file of rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Its name, for messages.
    pub file: String,
    /// What is in it: one or more YAML documents.
    pub text: String,
}

/// How rules are loaded.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Log sources that count as flows besides those of the specification.
    pub logsources: Vec<Logsource>,
    /// Ids of rules that load although an item under `not` names a field that flows lack.
    pub enable: Vec<String>,
    /// Ids of rules that are left out.
    pub disable: Vec<String>,
    /// Ids that the configuration names otherwise, each with its key.
    pub named: Vec<(String, String)>,
    /// Where the configuration's keys are written.
    pub written: Written,
    /// Names of the sites, by the index that flows carry.
    pub sites: Vec<String>,
    /// A sample of recent flows, by which the index files rules.
    pub traffic: Option<Arc<Traffic>>,
    /// Indicator feeds, each of which becomes one rule or more.
    pub feeds: Vec<Arc<Feed>>,
    /// Of which rules not every alert leaves.
    pub limits: Limits,
    /// What `|expand` puts in the place of names.
    pub placeholders: Placeholders,
    /// Files of exclusions.
    pub exclusions: Vec<Source>,
    /// Files that could not be read as text; they go into the report.
    pub unreadable: Vec<Rejected>,
    /// At a reload, where what is in force stands: it keeps its ids.
    pub in_force: Arc<InForce>,
}

/// Gives every rule id a number that stays the same over reloads.
///
/// It grows with the number of different ids ever loaded, and never forgets one. Ids in other case are
/// the same.
#[derive(Debug, Default)]
pub struct Interner {
    rules: HashMap<String, u32>,
    exclusions: HashMap<String, u16>,
}

impl Interner {
    /// The number of `id`; a new one if it was never seen.
    pub fn uid(&mut self, id: &str) -> u32 {
        let next = u32::try_from(self.rules.len()).expect("fewer than 2^32 rules");
        *self.rules.entry(id.to_lowercase()).or_insert(next)
    }

    /// The number of the exclusion `id`, of a count of its own; `None` after 65,535 different ones.
    pub fn exclusion(&mut self, id: &str) -> Option<u16> {
        let id = id.to_lowercase();
        if let Some(&uid) = self.exclusions.get(&id) {
            return Some(uid);
        }
        let uid = u16::try_from(self.exclusions.len()).ok().filter(|&uid| uid < u16::MAX)?;
        self.exclusions.insert(id, uid);
        Some(uid)
    }
}

/// A rule's place in its [`RuleSet`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RuleIndex(pub u32);

/// When in its life a flow is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// At its first record, or the first time that it meets a rule set.
    Opened,
    /// A counter reached its wake-up value, or a TCP flag was added.
    Woke,
    /// At its end: every rule that has not fired is evaluated.
    End,
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What travels with its matches.
    pub meta: Arc<RuleMeta>,
    /// When its truth is final.
    pub class: Class,
    /// Whether it only feeds correlations: it raises no alert and puts no tag on flows.
    pub silent: bool,
    /// When its matches are sent to correlations.
    pub taps: Taps,
    expr: Expr,
    /// Of a feed's rule: tells which indicator matched.
    indicators: Option<Arc<Indicators>>,
}

impl Rule {
    /// A rule that raises alerts and feeds no correlation.
    pub(super) fn new(meta: RuleMeta, expr: Expr) -> Self {
        let (class, meta) = (expr.class(), Arc::new(meta));
        Self { meta, class, silent: false, taps: Taps::default(), expr, indicators: None }
    }

    /// A rule that is a feed.
    pub(super) fn of_feed(meta: RuleMeta, expr: Expr, indicators: Option<Indicators>) -> Self {
        Self { indicators: indicators.map(Arc::new), ..Self::new(meta, expr) }
    }

    /// Puts another condition in the place of the rule's own.
    pub(super) fn change(&mut self, f: impl FnOnce(Expr) -> Expr) {
        self.expr = f(std::mem::replace(&mut self.expr, Expr::Const(false)));
        self.class = self.expr.class();
    }

    /// Whether the record satisfies it.
    #[must_use]
    pub fn holds(&self, record: &Record<'_>) -> bool {
        self.expr.holds(record)
    }

    /// Whether a flag that was not seen yet can make one of its predicates true.
    fn awaits_flags(&self, record: &Record<'_>) -> bool {
        let mut awaits = false;
        self.expr.leaves(&mut |leaf| {
            let is_flag =
                leaf.class() == Class::Monotone && matches!(leaf.test, Test::Flags { .. });
            awaits |= is_flag && !leaf.holds(record);
        });
        awaits
    }

    /// `wake`, lowered so that the flow is looked at when a threshold of the rule is crossed.
    fn wake(&self, record: &Record<'_>, mut wake: Wake) -> Wake {
        self.expr.leaves(&mut |leaf| {
            if leaf.class() == Class::Monotone && !leaf.holds(record) {
                wake = lowered(wake, leaf.missing(record), record.flow);
            }
        });
        wake
    }

    /// Its condition.
    #[must_use]
    pub const fn condition(&self) -> &Expr {
        &self.expr
    }

    /// What a feed's rule tells of its indicators; `None` of a rule that is no feed.
    pub(super) fn indicators(&self) -> Option<&Indicators> {
        self.indicators.as_deref()
    }

    /// A predicate of it that holds for the record, as a person reads it.
    fn in_words(&self, p: &Predicate, record: &Record<'_>) -> String {
        let told = self.indicators().and_then(|feed| feed.tell(p, record));
        match (told, p.negated) {
            (Some(told), _) => told,
            (None, true) => format!("not ({})", p.words),
            (None, false) => p.words.clone(),
        }
    }
}

/// The rules of all sources, compiled.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    index: Arc<Index>,
    wakes: Arc<WakeIndex>,
    correlations: Vec<Arc<Correlation>>,
    exclusions: Vec<Exclusion>,
    filters: Vec<Named>,
    report: LoadReport,
}

/// A filter of a set, which is a part of the rules that it names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Named {
    /// Its id; empty if it has none.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Where it stands.
    pub file: String,
    /// Its first line there, from 1.
    pub line: u32,
    /// Of how many rules it is a part.
    pub rules: usize,
}

impl RuleSet {
    /// Compiles every document of `sources`. A rule that cannot be loaded is in the report with
    /// file, line and reason; it does not keep others from loading.
    #[must_use]
    pub fn compile(sources: &[Source], options: &Options, interner: &mut Interner) -> Self {
        let Loaded { rules, correlations, exclusions, filters, report } =
            load::load(sources, options, interner);
        let mut set = Self { rules, correlations, exclusions, filters, report, ..Self::default() };
        set.index(options.traffic.as_deref());
        set
    }

    fn index(&mut self, traffic: Option<&Traffic>) {
        let filings = (0..).zip(&self.rules).map(|(rule, of)| Filing {
            rule,
            class: of.class,
            expr: &of.expr,
        });
        let filings: Vec<Filing<'_>> = filings.collect();
        self.index = Arc::new(Index::new(&filings, traffic));
        self.wakes = Arc::new(WakeIndex::new(&filings, traffic));
        self.warn_of_unselective();
        self.warn_of_broad();
        if let Some(traffic) = traffic {
            self.warn_of_frequent(traffic);
            self.warn_of_excluding(traffic);
        }
    }

    /// Notes the exclusions that keep a large share of the sample from rules.
    fn warn_of_excluding(&mut self, traffic: &Traffic) {
        let flows = traffic.flows();
        for exclusion in &self.exclusions {
            let count = flows.iter().filter(|flow| exclusion.holds(&Record::of(flow))).count();
            if count * FREQUENT <= flows.len() {
                continue;
            }
            let ExclusionMeta { file, line, title, .. } = &*exclusion.meta;
            let (file, title) = (file.clone(), title.to_string());
            let of = flows.len();
            let text = format!("it keeps {count} of a sample of {of} recent flows from rules");
            self.report.warnings.push(Note { file, line: *line, title, text });
        }
    }

    /// Notes the rules that the index cannot tell from others by any value.
    fn warn_of_unselective(&mut self) {
        let in_vectors = |rule: &RuleIndex| {
            matches!(self.index.filed(rule.0), Place::EveryFlow | Place::Vector(_))
        };
        let everywhere = self.indices().filter(in_vectors);
        // One that matches every flow was named for that.
        let asking = everywhere.filter(|&rule| {
            let expr = &self.rule(rule).expr;
            !matches!(expr, Expr::Const(_)) && !Index::can_select(expr)
        });
        let text = "no predicate of it is selective: it is looked at for every flow";
        let notes: Vec<Note> = asking.map(|rule| self.note(rule, text.to_owned())).collect();
        self.report.warnings.extend(notes);
    }

    /// Notes the rules that nearly every flow satisfies, as far as their predicates tell. Those that only
    /// feed correlations may: these count what is common. Feeds have a bound of their own.
    fn warn_of_broad(&mut self) {
        let told =
            self.report.warnings.iter().filter(|note| note.text.starts_with("matches every"));
        let told: HashSet<(&str, u32)> = told.map(|note| (note.file.as_str(), note.line)).collect();
        let broad = self.indices().filter(|&index| {
            let rule = self.rule(index);
            let told = told.contains(&(rule.meta.file.as_str(), rule.meta.line));
            !told && !rule.silent && rule.indicators.is_none() && breadth::is_broad(&rule.expr)
        });
        let text = "nearly every flow satisfies it, so it would raise an alert on nearly each";
        let notes: Vec<Note> = broad.map(|rule| self.note(rule, text.to_owned())).collect();
        self.report.warnings.extend(notes);
    }

    fn note(&self, rule: RuleIndex, text: String) -> Note {
        let meta = &self.rule(rule).meta;
        let (file, title) = (meta.file.to_string(), meta.title.to_string());
        Note { file, line: meta.line, title, text }
    }

    /// Notes the rules that match a large share of the sample.
    fn warn_of_frequent(&mut self, traffic: &Traffic) {
        let mut hits = Vec::new();
        let mut counts = vec![0_usize; self.rules.len()];
        // A few flows at a time: what matches may be every rule on each of them.
        for flows in traffic.flows().chunks(64) {
            self.scan_batch(Phase::End, flows, &mut hits);
            hits.drain(..).for_each(|(_, rule)| counts[rule.0 as usize] += 1);
        }
        let sampled = traffic.flows().len();
        let frequent = self.indices().zip(counts).filter(|(_, count)| count * FREQUENT > sampled);
        let text = |count| format!("it matches {count} of a sample of {sampled} recent flows");
        let notes: Vec<Note> = frequent.map(|(rule, count)| self.note(rule, text(count))).collect();
        self.report.warnings.extend(notes);
    }

    /// The first exclusion that takes the flow away from rules, if any does. What they ask for is
    /// final at the flow's first record, as long as the flow is not turned round.
    #[must_use]
    pub fn excluded(&self, flow: &Biflow) -> Option<&Arc<ExclusionMeta>> {
        if self.exclusions.is_empty() {
            return None;
        }
        let record = Record::of(flow);
        self.exclusions.iter().find(|exclusion| exclusion.holds(&record)).map(|e| &e.meta)
    }

    /// The exclusions, in the order of their sources.
    #[must_use]
    pub fn exclusions(&self) -> &[Exclusion] {
        &self.exclusions
    }

    /// The filters, in the order of their sources.
    #[must_use]
    pub fn filters(&self) -> &[Named] {
        &self.filters
    }

    /// Where each id stands.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        let at = |id: &str, file: &str| (id.to_lowercase(), file.to_owned());
        let rules = self.rules.iter().map(|rule| at(&rule.meta.id, &rule.meta.file));
        let correlations = self.correlations.iter().map(|of| at(&of.meta.id, &of.meta.file));
        let filters = self.filters.iter().filter(|filter| !filter.id.is_empty());
        let filters = filters.map(|filter| at(&filter.id, &filter.file));
        let exclusions = self.exclusions.iter().map(|one| at(&one.meta.id, &one.meta.file));
        InForce {
            rules: rules.chain(correlations).chain(filters).collect(),
            exclusions: exclusions.collect(),
        }
    }

    /// What was loaded, and what was not and why.
    #[must_use]
    pub const fn report(&self) -> &LoadReport {
        &self.report
    }

    /// The rules, in the order of their sources.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The correlations of rules, those that others build on before them.
    #[must_use]
    pub fn correlations(&self) -> &[Arc<Correlation>] {
        &self.correlations
    }

    /// The rule at `index` of this set.
    ///
    /// # Panics
    /// If `index` came from another, larger set.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> &Rule {
        &self.rules[index.0 as usize]
    }

    /// Appends to `hits` the rules that fire at this point of the flow's life, in the order of the
    /// set. `already` are the uids of those that fired before; none fires again.
    ///
    /// Over a flow's life, calls at its opening, at each wake-up that [`Self::wake`] asks for and
    /// at its end fire exactly the rules that [`Self::full_scan`] of its final record finds, as
    /// long as what is called immutable (DESIGN 3.7) does not change.
    ///
    /// Allocates nothing while `hits` has room.
    pub fn scan(&self, phase: Phase, flow: &Biflow, already: &[u32], hits: &mut Vec<RuleIndex>) {
        self.scan_counted(phase, flow, already, &Costs::default(), hits);
    }

    /// As [`Self::scan`]; what is verified and what matches is counted in `costs`.
    pub fn scan_counted(
        &self,
        phase: Phase,
        flow: &Biflow,
        already: &[u32],
        costs: &Costs,
        hits: &mut Vec<RuleIndex>,
    ) {
        let record = Record::of(flow);
        let from = hits.len();
        Already::with(already, |already| {
            self.index.scan(phase, &record, |rule| {
                costs.verified(rule);
                self.verify(rule, &record, already, from, hits);
            });
        });
        in_order(hits, from);
        hits[from..].iter().for_each(|rule| costs.matched(rule.0));
    }

    /// Under what the index has filed the rule, in words.
    #[must_use]
    pub fn filed(&self, rule: RuleIndex) -> String {
        self.index.filed(rule.0).to_string()
    }

    /// As [`Self::scan`] of many flows that no rule has fired on, with their cache misses side by
    /// side. Appends to `hits` the place of a flow in `flows` with each rule that fires on it.
    pub fn scan_batch(&self, phase: Phase, flows: &[Biflow], hits: &mut Vec<(usize, RuleIndex)>) {
        let from = hits.len();
        self.index.scan_batch(phase, flows, |flow, record, rule| {
            if self.rules[rule as usize].holds(record) {
                hits.push((flow, RuleIndex(rule)));
            }
        });
        in_order(hits, from);
    }

    /// The rules that the record satisfies, by the index. As [`Self::full_scan`].
    #[must_use]
    pub fn matches(&self, record: &Record<'_>) -> Vec<RuleIndex> {
        let mut hits = Vec::new();
        Already::with(&[], |none| {
            let verify = |rule| self.verify(rule, record, none, 0, &mut hits);
            self.index.scan(Phase::End, record, verify);
        });
        in_order(&mut hits, 0);
        hits
    }

    /// How many rules the index leaves to be verified on the flow.
    #[must_use]
    pub fn candidates(&self, phase: Phase, flow: &Biflow) -> usize {
        let mut count = 0;
        self.index.scan(phase, &Record::of(flow), |_| count += 1);
        count
    }

    /// Adds a candidate to the hits if it holds and did not fire before. One that comes twice may be
    /// added twice: of many hits that is seen when they are put in order, not by searching them.
    #[inline]
    fn verify(
        &self,
        rule: u32,
        record: &Record<'_>,
        already: Already<'_>,
        from: usize,
        hits: &mut Vec<RuleIndex>,
    ) {
        let of = &self.rules[rule as usize];
        let found = &hits[from..];
        let is_known = found.len() <= FEW_HITS && found.contains(&RuleIndex(rule));
        if is_known || already.contains(of.meta.uid) || !of.holds(record) {
            return;
        }
        if hits.len() == hits.capacity() {
            // What came twice makes room.
            in_order(hits, from);
        }
        hits.push(RuleIndex(rule));
    }

    /// The rules that the record satisfies: every one is evaluated. The plain twin of the index.
    #[must_use]
    pub fn full_scan(&self, record: &Record<'_>) -> Vec<RuleIndex> {
        self.indices().filter(|&index| self.rule(index).holds(record)).collect()
    }

    /// When the flow has to be looked at again, so that no monotone rule fires late.
    ///
    /// Each value is for the *sum* of both directions of a raw counter: a side cannot grow by more
    /// than the sum does, whatever the orientation, so the first sum at which a threshold on either
    /// side may be crossed is the present sum and what is missing on that side.
    #[must_use]
    pub fn wake(&self, flow: &Biflow, already: &[u32]) -> Wake {
        Already::with(already, |already| self.wake_but(flow, already))
    }

    fn wake_but(&self, flow: &Biflow, already: Already<'_>) -> Wake {
        let record = Record::of(flow);
        let wake = Cell::new(Wake::default());
        let waits = |rule: u32| self.waits(&self.rules[rule as usize], &record, already);
        self.wakes.look_up(
            &record,
            |rule| {
                if waits(rule) {
                    wake.set(self.rules[rule as usize].wake(&record, wake.get()));
                }
            },
            |rule, for_flags| {
                waits(rule) && (!for_flags || self.rules[rule as usize].awaits_flags(&record))
            },
            |next| {
                let found = match next {
                    Some((field, threshold)) => missing(&record, field, threshold),
                    None => Some((Counter::Flags, 1)),
                };
                wake.set(lowered(wake.get(), found, flow));
            },
        );
        wake.get()
    }

    /// The plain twin of [`Self::wake`]: never earlier, and of the same rules.
    #[must_use]
    pub fn plain_wake(&self, flow: &Biflow, already: &[u32]) -> Wake {
        let record = Record::of(flow);
        let rules = self.rules.iter().filter(|rule| rule.class == Class::Monotone);
        Already::with(already, |already| {
            rules
                .filter(|rule| self.waits(rule, &record, already))
                .fold(Wake::default(), |wake, rule| rule.wake(&record, wake))
        })
    }

    /// Whether a counter's growth can still make the rule fire.
    fn waits(&self, rule: &Rule, record: &Record<'_>, already: Already<'_>) -> bool {
        !already.contains(rule.meta.uid) && rule.expr.may_hold(record)
    }

    /// The plain twin of [`Self::scan`].
    #[must_use]
    pub fn plain_scan(&self, phase: Phase, flow: &Biflow, already: &[u32]) -> Vec<RuleIndex> {
        let record = Record::of(flow);
        let of_phase = |rule: &Rule| match phase {
            Phase::Opened => rule.class != Class::Final,
            Phase::Woke => rule.class == Class::Monotone,
            Phase::End => true,
        };
        let fires = |rule: &Rule| {
            of_phase(rule) && !already.contains(&rule.meta.uid) && rule.holds(&record)
        };
        self.indices().filter(|&index| fires(self.rule(index))).collect()
    }

    /// The predicates that make the rule hold for the record, in the order of the rule; empty if
    /// it does not hold.
    #[must_use]
    pub fn explain(&self, index: RuleIndex, record: &Record<'_>) -> Vec<Evidence> {
        let rule = self.rule(index);
        let mut reasons = Vec::new();
        if rule.holds(record) {
            rule.expr.reasons(record, &mut reasons);
        }
        let evidence = reasons.into_iter().map(|p| Evidence {
            field: p.name.clone(),
            predicate: rule.in_words(p, record),
            value: show(record, p.field, p.unit),
        });
        evidence.collect()
    }

    fn indices(&self) -> impl Iterator<Item = RuleIndex> {
        (0..u32::try_from(self.rules.len()).expect("fewer than 2^32 rules")).map(RuleIndex)
    }
}

/// Sorts what was found from `from` on, and takes out doubles.
fn in_order<T: Copy + Ord>(hits: &mut Vec<T>, from: usize) {
    if hits.len() - from < 2 {
        return;
    }
    hits[from..].sort_unstable();
    let mut kept = from + 1;
    for at in from + 1..hits.len() {
        if hits[at] != hits[kept - 1] {
            hits[kept] = hits[at];
            kept += 1;
        }
    }
    hits.truncate(kept);
}

/// `wake`, lowered so that it is due when a counter has grown by what is missing.
fn lowered(mut wake: Wake, missing: Option<(Counter, u64)>, flow: &Biflow) -> Wake {
    let Some((counter, missing)) = missing else { return wake };
    let lower = |at: &mut u64, a: u64, b: u64| {
        *at = (*at).min(a.saturating_add(b).saturating_add(missing));
    };
    let (fwd, bwd) = (&flow.fwd, &flow.bwd);
    match counter {
        Counter::Octets => lower(&mut wake.octets, fwd.octets, bwd.octets),
        Counter::Packets => lower(&mut wake.packets, fwd.packets, bwd.packets),
        // Either sum reaching the shared value wakes: too early for one of them at worst.
        Counter::OctetsL2 => {
            let (a, b) = (fwd.octets_l2.unwrap_or(0), bwd.octets_l2.unwrap_or(0));
            lower(&mut wake.other_octets, a, b);
        }
        Counter::Payload => {
            let (a, b) = (fwd.payload.unwrap_or(0), bwd.payload.unwrap_or(0));
            lower(&mut wake.other_octets, a, b);
        }
        Counter::Duration => {
            let missing = i64::try_from(missing).unwrap_or(i64::MAX);
            let at = flow.duration_us().max(0).saturating_add(missing);
            wake.duration_us = wake.duration_us.min(at);
        }
        Counter::Flags => wake.on_new_flags = true,
    }
    wake
}
