//! Correlations: groups of matches over time, in the order of input time.
//!
//! A worker that sees a base rule fire sends a [`Match`]. Whoever owns the [`Correlator`] puts the
//! matches of all workers into one order, (time, flow id, rule), and calls it with each; so what
//! comes out does not depend on the number of workers.
//!
//! `link` turns documents into [`Correlation`]s, [`plan`] says what they are; [`groups`] keeps the
//! groups of one, each with the state ([`state`]) that its type needs: [`times`] and [`distinct`]
//! for counts, [`parts`] for sums, averages and percentiles, [`seen`] for the temporal types.
//! Memory is bounded by [`Limits`]; a match costs the same whatever the timespan.

use std::collections::HashMap;
use std::sync::Arc;

use super::fields::Record;
use super::ruleset::RuleSet;
use crate::detect::Alert;
use crate::flow::{Biflow, FlowId};
use crate::time::Micros;

mod alert;
mod compile;
mod condition;
mod distinct;
mod groups;
mod hash;
mod link;
mod logic;
mod parts;
mod plan;
mod rehearsal;
mod ring;
mod seen;
mod state;
mod times;
mod values;

pub use plan::Correlation;
pub use rehearsal::Rehearsal;

pub(super) use link::{Fate, Linker};

use distinct::Distinct;
use groups::{Groups, Store};
use parts::{Parts, Ranks, Sum};
use plan::{Kind, Plan};
use seen::{Ordered, Seen};
use state::{EXACT_MAX, Item};
use times::Times;
use values::Occasion;

/// A flow that a base rule of some correlation fired on, or a flow's end after it fired.
#[derive(Clone, Debug)]
pub struct Match {
    /// The input clock when everything that is told here was final.
    pub time: Micros,
    /// Interned id of the base rule.
    pub rule: u32,
    /// Whether correlations that use fields which are final only at the flow's end are meant;
    /// else those that use only what is final when the rule fires.
    pub at_end: bool,
    /// The flow's identity.
    pub flow_id: FlowId,
    /// The flow so far, counters cumulated.
    pub flow: Arc<Biflow>,
    /// On live input: when the bytes that made the rule fire arrived, by the kernel's clock.
    pub arrived: Option<Micros>,
}

/// When a rule's matches have to be sent to the correlations that it is a base of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taps {
    /// At once, when the rule fires.
    pub on_fire: bool,
    /// When the flow on which it fired ends.
    pub at_end: bool,
}

/// How much memory the groups may take, in octets. What is over is evicted, the group that was not
/// touched for the longest time first.
///
/// Counted is what the groups take on the heap, with an allocator's rounding. Growing tables may
/// take a little more for the moment in which they are copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Of all correlations; over it, the one that takes most gives way. Default: 512 MiB.
    pub bytes_total: usize,
    /// Of each correlation. Default: 256 MiB.
    pub bytes_per_rule: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes_total: 512 << 20, bytes_per_rule: 256 << 20 }
    }
}

/// What a correlation did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Matches of its bases that it counted.
    pub matches: u64,
    /// Matches without a value to count, sum or sort: left out.
    pub without_value: u64,
    /// How often its condition became true: alerts, or of a silent one what it fed to others.
    pub alerts: u64,
    /// Groups dropped for lack of memory while something was in their windows.
    pub evicted: u64,
    /// Groups now.
    pub groups: u64,
    /// Octets of memory now.
    pub bytes: u64,
}

/// A correlation and its counts.
#[derive(Clone, Debug)]
pub struct RuleStats {
    /// The correlation.
    pub rule: Arc<Correlation>,
    /// Since it was adopted with the definition that it has.
    pub counts: Counts,
}

/// The groups of all correlations of a rule set.
#[derive(Debug, Default)]
pub struct Correlator {
    limits: Limits,
    tracked: Vec<Tracked>,
    /// Where the matches of a base go, by its interned id.
    routes: HashMap<u32, Box<[Route]>>,
    bytes: usize,
    now: Option<Micros>,
}

#[derive(Debug)]
struct Tracked {
    rule: Arc<Correlation>,
    groups: Box<dyn Store>,
    counts: Counts,
    bytes: usize,
}

/// A correlation, and which of its bases.
#[derive(Clone, Copy, Debug)]
struct Route {
    correlation: usize,
    base: u32,
}

/// Groups in whose windows nothing is left, dropped at each match of their correlation at most.
const FORGET_MAX: usize = 4;

impl Correlator {
    /// A correlator without correlations.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Changes how much memory the groups may take; what is over goes with the next match.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes over the correlations of `set`. Those that are the same as before keep their groups.
    pub fn adopt(&mut self, set: &RuleSet) {
        let mut before: HashMap<String, Tracked> =
            self.tracked.drain(..).map(|t| (t.rule.meta.id.clone(), t)).collect();
        let mut routes: HashMap<u32, Vec<Route>> = HashMap::new();
        for (correlation, rule) in set.correlations().iter().enumerate() {
            for (base, uid) in (0..).zip(rule.base_uids()) {
                routes.entry(uid).or_default().push(Route { correlation, base });
            }
            let rule = Arc::clone(rule);
            let kept = before.remove(&rule.meta.id).filter(|old| rule.continues(&old.rule));
            self.tracked.push(match kept {
                Some(old) => Tracked { rule, ..old },
                None => {
                    let groups = store(&rule.plan);
                    let bytes = groups.octets();
                    Tracked { rule, groups, counts: Counts::default(), bytes }
                }
            });
        }
        self.routes = routes.into_iter().map(|(uid, routes)| (uid, routes.into())).collect();
        self.bytes = self.tracked.iter().map(|tracked| tracked.bytes).sum();
    }

    /// Takes in a match; alerts that it completes are appended to `alerts`. Calls come in the order
    /// of (time, flow id, rule).
    pub fn on_match(&mut self, found: &Match, alerts: &mut Vec<Alert>) {
        self.on_record(found, &Record::of(&found.flow), alerts);
    }

    /// As [`Self::on_match`], with the fields of `record` in place of those of the match's flow:
    /// for rule-test events, in which a field may be missing that every flow has.
    pub fn on_record(&mut self, found: &Match, record: &Record<'_>, alerts: &mut Vec<Alert>) {
        debug_assert!(self.now.is_none_or(|now| now <= found.time), "matches come in order");
        self.now = Some(found.time);
        let occasion = Occasion { found, record, group: None };
        self.deliver(found.rule, &occasion, alerts);
    }

    /// Gives the match of `uid` to the correlations that it is a base of, and what they find to
    /// those that they are bases of. No correlation leads back to itself.
    fn deliver(&mut self, uid: u32, occasion: &Occasion<'_>, alerts: &mut Vec<Alert>) {
        let routes = self.routes.get(&uid).map_or(0, |routes| routes.len());
        for at in 0..routes {
            let Route { correlation, base } = self.routes[&uid][at];
            let tracked = &mut self.tracked[correlation];
            let direct = occasion.group.is_none();
            if direct && tracked.rule.at_end != occasion.found.at_end {
                continue;
            }
            let rule = Arc::clone(&tracked.rule);
            let Some(crossing) = tracked.take(&rule, base, occasion) else {
                self.settle(correlation);
                continue;
            };
            self.settle(correlation);
            let group = values::group(&rule.bases[base as usize], occasion);
            if !rule.silent {
                alerts.push(alert::of(&rule, base as usize, &group, &crossing, occasion));
            }
            let occasion = Occasion { group: Some(&group), ..*occasion };
            self.deliver(rule.meta.uid, &occasion, alerts);
        }
    }

    /// Brings the memory of `correlation`, and of all, back under the limits.
    fn settle(&mut self, correlation: usize) {
        let Limits { bytes_total, bytes_per_rule } = self.limits;
        self.account(correlation);
        while self.tracked[correlation].bytes > bytes_per_rule && self.evict(correlation) {}
        while self.bytes > bytes_total {
            let holding = self.tracked.iter().enumerate().filter(|(_, t)| t.groups.len() > 0);
            let fullest = holding.max_by_key(|(at, t)| (t.bytes, usize::MAX - at));
            let Some((fullest, _)) = fullest else { break };
            self.evict(fullest);
        }
    }

    fn account(&mut self, correlation: usize) {
        let tracked = &mut self.tracked[correlation];
        let now = tracked.groups.octets();
        self.bytes = self.bytes - tracked.bytes + now;
        tracked.bytes = now;
    }

    fn evict(&mut self, correlation: usize) -> bool {
        let tracked = &mut self.tracked[correlation];
        let Some(touched) = tracked.groups.evict() else { return false };
        let live = self.now.is_some_and(|now| !tracked.rule.plan.is_over(touched, now));
        tracked.counts.evicted += u64::from(live);
        self.account(correlation);
        true
    }

    /// Frees the memory of groups in whose windows nothing is left at `now`, up to a thousand of
    /// each correlation. Changes no result.
    pub fn forget(&mut self, now: Micros) {
        for correlation in 0..self.tracked.len() {
            let tracked = &mut self.tracked[correlation];
            tracked.groups.forget(now, &tracked.rule.plan, 1_000);
            self.account(correlation);
        }
    }

    /// Octets of memory that all groups take.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What each correlation did so far, in the order of the rule set.
    pub fn stats(&self) -> impl Iterator<Item = RuleStats> + '_ {
        self.tracked.iter().map(|tracked| RuleStats {
            rule: Arc::clone(&tracked.rule),
            counts: Counts {
                groups: tracked.groups.len() as u64,
                bytes: tracked.bytes as u64,
                ..tracked.counts
            },
        })
    }
}

impl Tracked {
    fn take(
        &mut self,
        rule: &Correlation,
        base: u32,
        occasion: &Occasion<'_>,
    ) -> Option<groups::Crossing> {
        let time = occasion.found.time;
        let slots = &rule.bases[base as usize];
        let Some(value) = values::value(slots, occasion) else {
            self.counts.without_value += 1;
            return None;
        };
        self.counts.matches += 1;
        self.groups.forget(time, &rule.plan, FORGET_MAX);
        let item = Item { base, value, flow: occasion.found.flow_id };
        let crossing = self.groups.touch(values::key(slots, occasion), time, &item, &rule.plan);
        self.counts.alerts += u64::from(crossing.is_some());
        crossing
    }
}

/// Room for the groups of a correlation.
fn store(plan: &Plan) -> Box<dyn Store> {
    match plan.kind {
        Kind::EventCount if plan.range.enough() <= EXACT_MAX as u128 => {
            Box::new(Groups::<Times>::default())
        }
        Kind::EventCount | Kind::Sum | Kind::Average => Box::new(Groups::<Parts<Sum>>::default()),
        Kind::ValueCount => Box::new(Groups::<Distinct>::default()),
        Kind::Percentile(_) => Box::new(Groups::<Parts<Ranks>>::default()),
        Kind::Temporal => Box::new(Groups::<Seen>::default()),
        Kind::Ordered => Box::new(Groups::<Ordered>::default()),
    }
}
