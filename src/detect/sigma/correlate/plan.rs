//! A correlation as it is compiled: what it counts, over which window, for which groups.

use std::sync::Arc;

use super::condition::{Average, Range, Words};
use super::logic::Logic;
use crate::detect::RuleMeta;
use crate::detect::sigma::fields::Field;
use crate::detect::sigma::number::Unit;
use crate::time::Micros;

/// What a correlation measures in its window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    EventCount,
    ValueCount,
    Sum,
    Average,
    /// Of 100.
    Percentile(u8),
    Temporal,
    Ordered,
}

/// How the timespan lies on the time line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Window {
    /// `(t - timespan, t]` at each match.
    Sliding,
    /// From each multiple of the timespan since 1970 to the next.
    Tumbling,
    /// As long as no gap is longer than this, in microseconds; at most the timespan.
    Session(i64),
}

/// What a match does to the window of its group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Edge {
    /// A new window begins.
    New,
    /// What is at or before this instant is out.
    Out(Micros),
}

/// What the state of a group has to know of its correlation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub kind: Kind,
    pub window: Window,
    /// In microseconds, at least one second.
    pub timespan: i64,
    /// On what is counted, summed, or the percentile.
    pub range: Range,
    /// On an average.
    pub average: Average,
    /// On which rules were seen.
    pub logic: Logic,
    /// How many rules it has.
    pub rules: usize,
}

impl Plan {
    /// What a match at `time` does to a window that was opened and last touched when said.
    pub fn edge(&self, opened: Micros, touched: Micros, time: Micros) -> Edge {
        let none = Edge::Out(Micros::MIN);
        match self.window {
            Window::Sliding => Edge::Out(time.plus(-self.timespan)),
            Window::Tumbling => {
                let number = |at: Micros| at.0.div_euclid(self.timespan);
                if number(time) == number(touched) { none } else { Edge::New }
            }
            Window::Session(gap) => {
                let ended = time.since(touched) > gap || time.since(opened) > self.timespan;
                if ended { Edge::New } else { none }
            }
        }
    }

    /// Whether nothing that a group touched at `touched` holds can count at `now` or later.
    pub fn is_over(&self, touched: Micros, now: Micros) -> bool {
        match self.window {
            Window::Sliding | Window::Tumbling => now.since(touched) >= self.timespan,
            Window::Session(gap) => now.since(touched) > gap.min(self.timespan),
        }
    }
}

/// Where a base's match has a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Origin {
    /// In a field of its flow.
    Flow,
    /// In the group of the correlation that it is, at this place.
    Group(usize),
}

/// A value that a base's match has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slot {
    pub origin: Origin,
    /// What the value is.
    pub field: Field,
    /// Of its numbers.
    pub unit: Unit,
}

/// A rule, or a correlation, whose matches are counted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Base {
    /// Its interned id.
    pub uid: u32,
    /// The values to group by, in the order of the correlation's names.
    pub group: Vec<Slot>,
    /// The values to count, sum or sort.
    pub values: Vec<Slot>,
}

/// What is written about a correlation in its alerts, and nowhere else.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Labels {
    /// The names in `group-by`, as written.
    pub group: Vec<String>,
    /// What is measured: `event_count`, `value_count of dst_port`.
    pub measure: String,
    /// The condition's operators; empty for expressions over rules.
    pub condition: Words,
    /// The condition, if it is an expression over rules.
    pub expression: Option<String>,
    /// The timespan, as written.
    pub timespan: String,
    /// Titles of the bases.
    pub bases: Vec<String>,
    /// Of the numbers of the condition.
    pub unit: Unit,
}

/// A compiled correlation.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// What travels with its alerts.
    pub meta: Arc<RuleMeta>,
    /// Whether it only feeds other correlations: it raises no alert.
    pub silent: bool,
    /// Whether it uses fields that are final only at the flow's end.
    pub(super) at_end: bool,
    pub(super) plan: Plan,
    pub(super) bases: Vec<Base>,
    pub(super) labels: Labels,
}

impl Correlation {
    /// Whether the groups of `before` mean the same under this definition.
    pub(super) fn continues(&self, before: &Self) -> bool {
        self.meta.id == before.meta.id
            && self.at_end == before.at_end
            && self.plan == before.plan
            && self.bases == before.bases
    }

    /// Whether nothing that it counts or says is another than in `before`, apart from its metadata.
    pub(in crate::detect::sigma) fn is_same(&self, before: &Self) -> bool {
        self.continues(before) && self.silent == before.silent && self.labels == before.labels
    }

    /// What it measures, as its alerts say it: `event_count`, `value_count of dst_port`.
    #[must_use]
    pub fn measure(&self) -> &str {
        &self.labels.measure
    }

    /// The titles of the rules and correlations that it counts.
    #[must_use]
    pub fn base_titles(&self) -> &[String] {
        &self.labels.bases
    }

    /// Interned ids of the rules and correlations that it counts.
    pub fn base_uids(&self) -> impl Iterator<Item = u32> + '_ {
        self.bases.iter().map(|base| base.uid)
    }
}
