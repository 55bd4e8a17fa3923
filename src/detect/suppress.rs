//! Suppression: of each group of a rule's alerts, at most so many leave in a window.
//!
//! The window slides: an alert leaves if fewer than [`Limit::alerts`] of its group left in
//! `(t − window, t]`. The others are counted, and the next that leaves says how many they were.
//! Whoever calls [`Suppressor::admit`] sees to the order of the alerts; the result follows from it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::Alert;
use super::sigma::number::Unit;
use super::sigma::predicate::show;
use super::sigma::{Field, Record, correlate, names};
use crate::config::{Problem, Rules};
use crate::time::{Micros, SECOND};

/// Rules whose suppressed alerts are counted by id; those of further ones are counted together.
const RULES_COUNTED_MAX: usize = 256;
/// The name under which they are.
const OTHER_RULES: &str = "other";
/// The entry for every rule that has none of its own.
const ANY_RULE: &str = "*";

/// How many alerts of a group leave.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Fields whose values make a group.
    pub by: Vec<(Field, Unit)>,
    /// Alerts that leave in a window.
    pub alerts: usize,
    /// Length of the window in microseconds.
    pub window_us: i64,
}

/// The limits of all rules that have one, and of what waits for its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// By the rule's id in lower case.
    by_id: HashMap<String, Arc<Limit>>,
    any: Option<Arc<Limit>>,
    groups_max: usize,
    /// Matches and alerts that wait for their turn, at most.
    pub waiting_max: usize,
    /// Memory of the groups of correlations.
    pub correlations: correlate::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&Rules::default())
    }
}

/// Fields of `[[rules.suppress]]` that no dialect has; without file and line.
#[must_use]
pub fn check(rules: &Rules) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, suppress) in rules.suppress.iter().enumerate() {
        for (at, name) in suppress.by.iter().enumerate() {
            if names::look_up(name).is_some() {
                continue;
            }
            let near = names::near(name).map(|near| format!("; is `{near}` meant?"));
            let near = near.unwrap_or_default();
            problems.push(Problem {
                file: String::new(),
                line: None,
                key: format!("rules.suppress[{index}].by[{at}]"),
                message: format!("`{name}` is no field of a flow{near}"),
            });
        }
    }
    problems
}

impl Limits {
    /// What `rules` says. Names that [`check`] refuses make no group.
    #[must_use]
    pub fn of(rules: &Rules) -> Self {
        let mut limits = Self {
            by_id: HashMap::new(),
            any: None,
            groups_max: rules.suppress_groups_max,
            waiting_max: rules.waiting_max,
            correlations: correlate::Limits {
                bytes_total: rules.correlation_bytes_max,
                bytes_per_rule: rules.correlation_rule_bytes_max,
            },
        };
        for suppress in &rules.suppress {
            let limit = Arc::new(Limit {
                by: suppress.by.iter().filter_map(|name| names::look_up(name)).collect(),
                alerts: suppress.alerts as usize,
                window_us: i64::from(suppress.window_s) * SECOND,
            });
            if suppress.rule == ANY_RULE {
                limits.any = Some(limit);
            } else {
                limits.by_id.insert(suppress.rule.to_ascii_lowercase(), limit);
            }
        }
        limits
    }

    /// The limit of the rule with this id, if it has one.
    #[must_use]
    pub fn limit(&self, rule: &str) -> Option<&Arc<Limit>> {
        let own = || self.by_id.get(&rule.to_ascii_lowercase());
        if self.by_id.is_empty() { self.any.as_ref() } else { own().or(self.any.as_ref()) }
    }
}

/// What a rule's group of alerts is known by: the rule, and the values of the fields.
type Key = (u32, Box<str>);

/// The alerts of one group.
#[derive(Clone, Debug)]
struct Group {
    limit: Arc<Limit>,
    /// When those left that are still in the window; at most [`Limit::alerts`].
    left: VecDeque<Micros>,
    /// Held back since the last that left.
    held: u64,
    /// Its place in the order of use.
    used: u64,
}

/// The groups of all rules under suppression.
///
/// Bounded by `rules.suppress_groups_max`: the group idle for longest makes room, and with it goes
/// what it held back; that is counted.
#[derive(Clone, Debug, Default)]
pub struct Suppressor {
    limits: Limits,
    groups: HashMap<Key, Group>,
    /// Groups by their last use.
    order: BTreeMap<u64, Key>,
    uses: u64,
    suppressed: BTreeMap<String, u64>,
    evicted: u64,
}

impl Suppressor {
    /// Takes over `limits`. Groups whose limit is the same stay; others begin anew.
    pub fn adopt(&mut self, limits: &Limits) {
        self.limits = limits.clone();
    }

    /// Whether `alert` leaves; if so, it is told how many were held back before it. O(log groups).
    pub fn admit(&mut self, alert: &mut Alert) -> bool {
        let Some(limit) = self.limits.limit(&alert.rule.id).cloned() else { return true };
        self.forget(alert.time);
        let key = (alert.rule.uid, group_of(alert, &limit));
        if !self.groups.contains_key(&key) {
            self.make_room();
        }
        self.uses += 1;
        let used = self.uses;
        let fresh = || Group { limit: Arc::clone(&limit), left: VecDeque::new(), held: 0, used };
        let group = self.groups.entry(key.clone()).or_insert_with(fresh);
        if *group.limit != *limit {
            (group.limit, group.held) = (Arc::clone(&limit), 0);
            group.left.clear();
        }
        self.order.remove(&std::mem::replace(&mut group.used, used));
        self.order.insert(used, key);
        while group.left.front().is_some_and(|&left| alert.time.since(left) >= limit.window_us) {
            group.left.pop_front();
        }
        if group.left.len() < limit.alerts {
            group.left.push_back(alert.time);
            alert.suppressed = std::mem::take(&mut group.held);
            return true;
        }
        group.held += 1;
        self.count(&alert.rule.id);
        false
    }

    /// Drops, from the longest idle on, groups that would begin anew anyhow.
    fn forget(&mut self, now: Micros) {
        // Two for each that is added: enough to keep up, and bounded.
        for _ in 0..2 {
            let Some((&used, key)) = self.order.first_key_value() else { return };
            let group = &self.groups[key];
            let last = group.left.back().copied().unwrap_or(Micros::MIN);
            if group.held > 0 || now.since(last) < group.limit.window_us {
                return;
            }
            self.groups.remove(key);
            self.order.remove(&used);
        }
    }

    fn make_room(&mut self) {
        while self.groups.len() >= self.limits.groups_max.max(1) {
            let Some((_, key)) = self.order.pop_first() else { return };
            self.groups.remove(&key);
            self.evicted += 1;
        }
    }

    fn count(&mut self, rule: &str) {
        if let Some(count) = self.suppressed.get_mut(rule) {
            *count += 1;
            return;
        }
        let rule = if self.suppressed.len() < RULES_COUNTED_MAX { rule } else { OTHER_RULES };
        *self.suppressed.entry(rule.to_owned()).or_default() += 1;
    }

    /// Alerts held back, by the rule's id; those of rules beyond the first 256 as `other`.
    #[must_use]
    pub const fn suppressed(&self) -> &BTreeMap<String, u64> {
        &self.suppressed
    }

    /// Groups that are kept now.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Groups that made room for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// The values of the limit's fields, as text.
fn group_of(alert: &Alert, limit: &Limit) -> Box<str> {
    let record = Record::of(&alert.flow);
    let mut text = String::new();
    for &(field, unit) in &limit.by {
        text.push_str(&show(&record, field, unit));
        text.push('\0');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Suppress;
    use crate::detect::RuleMeta;
    use crate::flow::Biflow;
    use crate::net::Addr;

    fn rules(groups_max: usize, entries: &[(&str, &[&str], u32, u32)]) -> Rules {
        let entry = |&(rule, by, alerts, window_s): &(&str, &[&str], u32, u32)| Suppress {
            rule: rule.to_owned(),
            by: by.iter().map(|&name| name.to_owned()).collect(),
            alerts,
            window_s,
        };
        let suppress = entries.iter().map(entry).collect();
        Rules { suppress_groups_max: groups_max, suppress, ..Rules::default() }
    }

    fn alert(rule: u32, time_s: i64, src: u32) -> Alert {
        let id = format!("rule-{rule}");
        Alert {
            time: Micros::from_secs(time_s),
            rule: Arc::new(RuleMeta { uid: rule, id, ..RuleMeta::default() }),
            flow: Biflow { src: Addr::v4(src), ..Biflow::default() },
            ..Alert::default()
        }
    }

    /// Sends (rule, second, source) and compares what left, as "index+held".
    #[track_caller]
    fn check(rules: &Rules, alerts: &[(u32, i64, u32)], want: &str) -> Suppressor {
        let mut suppressor = Suppressor::default();
        suppressor.adopt(&Limits::of(rules));
        let mut left = Vec::new();
        for (index, &(rule, time_s, src)) in alerts.iter().enumerate() {
            let mut alert = alert(rule, time_s, src);
            if suppressor.admit(&mut alert) {
                left.push(format!("{index}+{}", alert.suppressed));
            }
        }
        assert_eq!(left.join(" "), want, "{alerts:?}");
        suppressor
    }

    #[test]
    fn of_each_group_so_many_leave_in_a_window() {
        let two = rules(9, &[("rule-1", &["src_ip"], 2, 10)]);
        // The window is half open: what left at 0 is out of it at 10.
        check(&two, &[(1, 0, 7), (1, 1, 7), (1, 9, 7), (1, 10, 7)], "0+0 1+0 3+1");
        check(&two, &[(1, 0, 7), (1, 0, 7), (1, 0, 7), (1, 0, 8)], "0+0 1+0 3+0");
        check(&two, &[(2, 0, 7), (2, 0, 7), (2, 0, 7)], "0+0 1+0 2+0");
        // It slides: never more than two in any ten seconds.
        let every = [(1, 0, 7), (1, 9, 7), (1, 10, 7), (1, 11, 7), (1, 19, 7), (1, 20, 7)];
        check(&two, &every, "0+0 1+0 2+0 4+1 5+0");
        // Held back for longer than the window, it is still told.
        check(&two, &[(1, 0, 7), (1, 1, 7), (1, 2, 7), (1, 99, 7)], "0+0 1+0 3+1");
    }

    #[test]
    fn a_rules_own_entry_comes_before_the_one_for_all() {
        let both = rules(9, &[("*", &[], 1, 10), ("RULE-1", &[], 2, 10)]);
        let alerts = [(1, 0, 7), (1, 0, 8), (1, 0, 9), (2, 0, 7), (2, 0, 8), (3, 0, 7)];
        let suppressor = check(&both, &alerts, "0+0 1+0 3+0 5+0");
        let counted: Vec<(&str, u64)> =
            suppressor.suppressed().iter().map(|(rule, &n)| (rule.as_str(), n)).collect();
        assert_eq!(counted, [("rule-1", 1), ("rule-2", 1)]);
    }

    #[test]
    fn groups_are_bounded_and_the_longest_idle_makes_room() {
        let one = rules(2, &[("*", &["src_ip"], 1, 10)]);
        let alerts = [(1, 0, 7), (1, 0, 8), (1, 1, 7), (1, 2, 9), (1, 3, 8), (1, 3, 9)];
        let suppressor = check(&one, &alerts, "0+0 1+0 3+0 4+0");
        assert_eq!((suppressor.groups(), suppressor.evicted()), (2, 2));
        // What is out of its window and held nothing back goes without being counted.
        let suppressor =
            check(&one, &[(1, 0, 1), (1, 10, 2), (1, 20, 3), (1, 30, 4)], "0+0 1+0 2+0 3+0");
        assert_eq!((suppressor.groups(), suppressor.evicted()), (1, 0));
    }

    #[test]
    fn a_changed_limit_begins_anew_and_an_unchanged_one_goes_on() {
        let mut suppressor = Suppressor::default();
        let mut admit = |rules: &Rules, rule| {
            suppressor.adopt(&Limits::of(rules));
            suppressor.admit(&mut alert(rule, 0, 7))
        };
        let before = rules(9, &[("rule-1", &[], 1, 10), ("rule-2", &[], 1, 10)]);
        let after = rules(9, &[("rule-1", &[], 1, 20), ("rule-2", &[], 1, 10)]);
        assert!(admit(&before, 1) && admit(&before, 2));
        assert!(admit(&after, 1) && !admit(&after, 2));
    }

    #[test]
    fn a_field_that_flows_lack_is_named() {
        let unknown = rules(9, &[("*", &["SRC_IP", "shoe_size", "DestinationIp"], 1, 10)]);
        let problems: Vec<String> = check_text(&unknown);
        assert_eq!(
            problems,
            [
                "rules.suppress[0].by[0]: `SRC_IP` is no field of a flow; is `src_ip` meant?",
                "rules.suppress[0].by[1]: `shoe_size` is no field of a flow",
            ]
        );
    }

    fn check_text(rules: &Rules) -> Vec<String> {
        super::check(rules).iter().map(|p| format!("{}: {}", p.key, p.message)).collect()
    }
}
