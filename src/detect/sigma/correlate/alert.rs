//! The alert of a correlation: what a person has to know of the group that crossed.

use std::fmt::Display;

use jiff::Timestamp;

use super::groups::Crossing;
use super::hash::Sip;
use super::plan::{Correlation, Kind};
use super::state::{Error, Measure};
use super::values::{self, Occasion, Value};
use crate::detect::alert::alert_id;
use crate::detect::sigma::predicate::show_integer;
use crate::detect::{Alert, Evidence};
use crate::time::Micros;

/// The alert on `group`, which the match of `occasion`, of the base at `base`, completed.
pub(super) fn of(
    rule: &Correlation,
    base: usize,
    group: &[Value<'_>],
    crossing: &Crossing,
    occasion: &Occasion<'_>,
) -> Alert {
    let found = occasion.found;
    let slots = &rule.bases[base];
    let key = values::key(slots, occasion);
    let mut evidence = Vec::new();
    for ((name, slot), value) in rule.labels.group.iter().zip(&slots.group).zip(group) {
        push(&mut evidence, name, "group-by", values::words(slot, *value));
    }
    measured(&mut evidence, rule, base, &crossing.measure);
    let span = format!("{} to {}", instant(crossing.first), instant(found.time));
    push(&mut evidence, "time", "first and last match", span);
    let flows: Vec<String> = crossing.flows.iter().map(ToString::to_string).collect();
    push(&mut evidence, "flow_id", "last matches", flows.join(", "));
    Alert {
        id: id(&rule.meta.id, key, found.time, found.flow_id.0),
        time: found.time,
        rule: rule.meta.clone(),
        evidence,
        flow_id: found.flow_id,
        flow: (*found.flow).clone(),
        suppressed: 0,
        arrived: found.arrived,
        verdict: None,
    }
}

/// Hash of (rule id, group, time, flow id): one flow may complete several groups of a rule, and a
/// group more than once.
fn id(rule: &str, group: [u64; 2], time: Micros, flow: u128) -> u128 {
    let mut sip = Sip::<1, 3>::new(0, 0);
    sip.wide(flow);
    group.into_iter().for_each(|half| sip.word(half));
    sip.word(time.0.cast_unsigned());
    let [low, high] = sip.finish();
    alert_id(rule, u128::from(high) << 64 | u128::from(low))
}

fn push(evidence: &mut Vec<Evidence>, field: &str, predicate: &str, value: String) {
    evidence.push(Evidence { field: field.to_owned(), predicate: predicate.to_owned(), value });
}

fn measured(evidence: &mut Vec<Evidence>, rule: &Correlation, base: usize, measure: &Measure) {
    let (plan, labels) = (&rule.plan, &rule.labels);
    let predicate = match &labels.expression {
        Some(expression) => format!("{expression} within {}", labels.timespan),
        None => format!("{} within {}", labels.condition, labels.timespan),
    };
    let field = rule.bases[base].values.first().map(|slot| slot.field);
    let show = |value: u128| match field {
        Some(field) => show_integer(field, labels.unit, value),
        None => value.to_string(),
    };
    let value = match measure {
        Measure::Count { number, error } => number.to_string() + &margin(error, u128::to_string),
        Measure::Sum { sum, count, error } if plan.kind == Kind::Average => {
            let average = sum / u128::from((*count).max(1));
            let over = margin(error, |over| format!("{over} values"));
            format!("{} (rounded down), {} in {count} values{over}", show(average), show(*sum))
        }
        Measure::Sum { sum, count, error } => {
            format!("{} in {count} values{}", show(*sum), margin(error, |over| show(*over)))
        }
        Measure::Percentile { value, count, error } => {
            let value = value.map_or("in range".to_owned(), show);
            let over = margin(error, |over| format!("{over} values"));
            format!("{value}, of {count} values{over}")
        }
        Measure::Seen(times) => {
            for (title, time) in labels.bases.iter().zip(times) {
                if let Some(time) = time {
                    push(evidence, "rule", "last seen", format!("{title} at {}", instant(*time)));
                }
            }
            times.iter().flatten().count().to_string() + " rules"
        }
    };
    push(evidence, &labels.measure, &predicate, value);
}

fn margin<T: Display>(error: &Error, show: impl Fn(&u128) -> T) -> String {
    match error {
        Error::None => String::new(),
        Error::Over(over) => {
            format!(" (estimated: up to {} of it from before the window)", show(over))
        }
        Error::Standard(error) => format!(" (estimated: standard error {error})"),
    }
}

fn instant(time: Micros) -> String {
    Timestamp::from_microsecond(time.0).map_or_else(|_| time.0.to_string(), |t| t.to_string())
}
