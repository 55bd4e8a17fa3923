//! The loaded rules, and the plain scan over them: the slow twin that any index must equal.

use std::collections::HashMap;
use std::sync::Arc;

use super::correlate::{Correlation, Taps};
use super::exclusions::{Exclusion, ExclusionMeta};
use super::expr::Expr;
use super::fields::{Counter, Record};
use super::load::{self, Loaded};
use super::placeholders::Placeholders;
use super::predicate::{Class, show};
use super::report::{LoadReport, Rejected};
use crate::config::Logsource;
use crate::detect::suppress::Limits;
use crate::detect::{Evidence, RuleMeta};
use crate::flow::{Biflow, Wake};

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
    /// Names of the sites, by the index that flows carry.
    pub sites: Vec<String>,
    /// Of which rules not every alert leaves.
    pub limits: Limits,
    /// What `|expand` puts in the place of names.
    pub placeholders: Placeholders,
    /// Files of exclusions.
    pub exclusions: Vec<Source>,
    /// Files that could not be read as text; they go into the report.
    pub unreadable: Vec<Rejected>,
}

/// Gives every rule id a number that stays the same over reloads.
///
/// It grows with the number of different ids ever loaded, and never forgets one.
#[derive(Debug, Default)]
pub struct Interner {
    rules: HashMap<String, u32>,
    exclusions: HashMap<String, u16>,
}

impl Interner {
    /// The number of `id`; a new one if it was never seen.
    pub fn uid(&mut self, id: &str) -> u32 {
        let next = u32::try_from(self.rules.len()).expect("fewer than 2^32 rules");
        *self.rules.entry(id.to_owned()).or_insert(next)
    }

    /// The number of the exclusion `id`, of a count of its own; `None` after 65,535 different ones.
    pub fn exclusion(&mut self, id: &str) -> Option<u16> {
        if let Some(&uid) = self.exclusions.get(id) {
            return Some(uid);
        }
        let uid = u16::try_from(self.exclusions.len()).ok().filter(|&uid| uid < u16::MAX)?;
        self.exclusions.insert(id.to_owned(), uid);
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
}

impl Rule {
    /// A rule that raises alerts and feeds no correlation.
    pub(super) fn new(meta: RuleMeta, expr: Expr) -> Self {
        let (class, meta) = (expr.class(), Arc::new(meta));
        Self { meta, class, silent: false, taps: Taps::default(), expr }
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
}

/// The rules of all sources, compiled.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    immutable: Vec<RuleIndex>,
    monotone: Vec<RuleIndex>,
    correlations: Vec<Arc<Correlation>>,
    exclusions: Vec<Exclusion>,
    report: LoadReport,
}

impl RuleSet {
    /// Compiles every document of `sources`. A rule that cannot be loaded is in the report with
    /// file, line and reason; it does not keep others from loading.
    #[must_use]
    pub fn compile(sources: &[Source], options: &Options, interner: &mut Interner) -> Self {
        let Loaded { rules, correlations, exclusions, report } =
            load::load(sources, options, interner);
        let mut set = Self { correlations, exclusions, report, ..Self::default() };
        rules.into_iter().for_each(|rule| set.file(rule));
        set
    }

    fn file(&mut self, rule: Rule) {
        let index = RuleIndex(u32::try_from(self.rules.len()).expect("fewer than 2^32 rules"));
        match rule.class {
            Class::Immutable => self.immutable.push(index),
            Class::Monotone => self.monotone.push(index),
            Class::Final => {}
        }
        self.rules.push(rule);
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
    pub fn scan(&self, phase: Phase, flow: &Biflow, already: &[u32], hits: &mut Vec<RuleIndex>) {
        let record = Record::of(flow);
        let mut try_rule = |index: RuleIndex| {
            let rule = self.rule(index);
            if !already.contains(&rule.meta.uid) && rule.holds(&record) {
                hits.push(index);
            }
        };
        match phase {
            Phase::Opened => {
                self.immutable.iter().copied().for_each(&mut try_rule);
                self.monotone.iter().copied().for_each(try_rule);
            }
            Phase::Woke => self.monotone.iter().copied().for_each(try_rule),
            Phase::End => self.indices().for_each(try_rule),
        }
    }

    /// The rules that the record satisfies: every one is evaluated.
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
        let record = Record::of(flow);
        let mut wake = Wake::default();
        for &index in &self.monotone {
            let rule = self.rule(index);
            if already.contains(&rule.meta.uid) || !rule.expr.may_hold(&record) {
                continue;
            }
            rule.expr.leaves(&mut |leaf| {
                if leaf.class() == Class::Monotone
                    && !leaf.holds(&record)
                    && let Some((counter, missing)) = leaf.missing(&record)
                {
                    lower(&mut wake, counter, missing, flow);
                }
            });
        }
        wake
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
            predicate: if p.negated { format!("not ({})", p.words) } else { p.words.clone() },
            value: show(record, p.field, p.unit),
        });
        evidence.collect()
    }

    fn indices(&self) -> impl Iterator<Item = RuleIndex> {
        (0..u32::try_from(self.rules.len()).expect("fewer than 2^32 rules")).map(RuleIndex)
    }
}

fn lower(wake: &mut Wake, counter: Counter, missing: u64, flow: &Biflow) {
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
}
