//! One document, and the rules that it names, to a [`Correlation`].

use std::sync::Arc;

use rsigma_parser::{
    ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, WindowMode,
};

use super::condition::{Average, Range, Share, Words};
use super::logic::{Logic, RULES_MAX};
use super::plan::{Base, Correlation, Kind, Labels, Origin, Plan, Slot, Window};
use super::values::comparable;
use crate::detect::RuleMeta;
use crate::detect::sigma::fields::{self, Change, Field};
use crate::detect::sigma::names;
use crate::detect::sigma::number::{Decimal, Place, Unit};
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::terms::Threshold;
use crate::time::SECOND;

/// A hundred years: timespans beyond have no meaning on a live sensor.
const TIMESPAN_MAX_S: u64 = 100 * 31_556_952;
/// Fields to group by, count and sum: each rule that is named has a place for each of them.
const FIELDS_MAX: usize = 64;

/// A rule or correlation that a correlation names.
pub(super) struct Target<'a> {
    /// What it may be called: as in the list, its id, its name.
    pub called: Vec<String>,
    pub meta: &'a RuleMeta,
    /// If it is a correlation.
    pub correlation: Option<&'a Correlation>,
}

/// Why not, and a text on the line that is at fault.
type Fault = (Reason, Option<String>);

fn fault<T>(why: impl Into<String>, near: Option<&str>) -> Result<T, Fault> {
    Err((Reason::Correlation(why.into()), near.map(str::to_owned)))
}

/// Compiles `rule`, whose `rules` are `targets`. The second of the result is what should be said of
/// it although it loads.
///
/// # Errors
/// Why it is rejected.
pub(super) fn correlation(
    (rule, thresholds): (&CorrelationRule, &[Threshold]),
    meta: RuleMeta,
    targets: &[Target<'_>],
) -> Result<(Correlation, Vec<String>), Fault> {
    if targets.is_empty() {
        return fault("it names no rules", Some("rules"));
    }
    let mut condition = Condition::of(rule, thresholds)?;
    if rule.group_by.len() + condition.fields.len() > FIELDS_MAX {
        let what = "the number of fields of a correlation";
        return Err((Reason::TooLarge { what, max: FIELDS_MAX }, Some("correlation".to_owned())));
    }
    let mut bases = Vec::new();
    for target in targets {
        let slots = |names: &[String]| -> Result<Vec<Slot>, Fault> {
            names.iter().map(|name| slot(rule, name, target)).collect()
        };
        let (group, values) = (slots(&rule.group_by)?, slots(&condition.fields)?);
        bases.push(Base { uid: target.meta.uid, group, values });
    }
    agree(&rule.group_by, &bases, |base| &base.group)?;
    agree(&condition.fields, &bases, |base| &base.values)?;
    let unit = bases[0].values.first().map_or(Unit::ONE, |slot| slot.unit);
    if bases.iter().any(|base| base.values.first().is_some_and(|slot| slot.unit != unit)) {
        return fault("its value has different units in its rules", Some("field"));
    }
    if condition.kind.is_numeric() {
        let (name, slot) = (&condition.fields[0], &bases[0].values[0]);
        if !matches!(
            slot.field.kind(),
            fields::Kind::Integer { .. } | fields::Kind::Time { instant: false }
        ) {
            let what = rule.correlation_type.as_str();
            return fault(format!("{what} takes numbers, and `{name}` is none"), Some("field"));
        }
    }
    let unit = if condition.kind.is_numeric() { unit } else { Unit::ONE };
    let plan = plan(rule, &condition, unit, targets)?;
    condition.notes.extend(says_something(&condition, &plan, &bases)?);
    let final_at_end =
        |slot: &Slot| slot.origin == Origin::Flow && slot.field.change() != Change::Never;
    let at_end = bases.iter().any(|base| base.group.iter().chain(&base.values).any(final_at_end));
    let labels = Labels {
        group: rule.group_by.clone(),
        measure: condition.label(rule),
        condition: Words(condition.predicates.clone()),
        expression: expression(rule, &condition),
        timespan: rule.timespan.original.clone(),
        bases: targets.iter().map(|target| target.meta.title.clone()).collect(),
        unit,
    };
    let meta = Arc::new(meta);
    let linked = Correlation { meta, silent: false, at_end, plan, bases, labels };
    Ok((linked, condition.notes))
}

impl Kind {
    const fn is_numeric(self) -> bool {
        matches!(self, Self::Sum | Self::Average | Self::Percentile(_))
    }

    const fn is_temporal(self) -> bool {
        matches!(self, Self::Temporal | Self::Ordered)
    }
}

/// A condition as the parser gives it, checked against the type.
struct Condition {
    kind: Kind,
    predicates: Vec<Threshold>,
    fields: Vec<String>,
    notes: Vec<String>,
}

impl Condition {
    fn of(rule: &CorrelationRule, thresholds: &[Threshold]) -> Result<Self, Fault> {
        let what = rule.correlation_type.as_str();
        let (predicates, fields, percentile) = match &rule.condition {
            CorrelationCondition::Threshold { predicates, field, percentile } => {
                let parsed = predicates.iter().map(|&(op, n)| (op, whole(n)));
                let exact =
                    if thresholds.is_empty() { parsed.collect() } else { thresholds.into() };
                (exact, field.clone().unwrap_or_default(), *percentile)
            }
            CorrelationCondition::Extended(_) => (Vec::new(), Vec::new(), None),
        };
        let kind = match rule.correlation_type {
            CorrelationType::EventCount => Kind::EventCount,
            CorrelationType::ValueCount => Kind::ValueCount,
            CorrelationType::Temporal => Kind::Temporal,
            CorrelationType::TemporalOrdered => Kind::Ordered,
            CorrelationType::ValueSum => Kind::Sum,
            CorrelationType::ValueAvg => Kind::Average,
            CorrelationType::ValueMedian => Kind::Percentile(50),
            CorrelationType::ValuePercentile => match percentile.unwrap_or(50) {
                percent @ 0..=100 => Kind::Percentile(percent.try_into().expect("at most 100")),
                percent => {
                    let why = format!("percentile {percent} is not between 0 and 100");
                    return fault(why, Some("percentile"));
                }
            },
        };
        if predicates.is_empty() && !kind.is_temporal() {
            return fault(
                format!("an expression over rules goes with temporal, not with {what}"),
                Some("condition:"),
            );
        }
        let not = |ok: fn(&Decimal) -> bool| predicates.iter().find(move |(_, n)| !ok(n));
        if let Some((_, number)) = not(|number| number.is_threshold()) {
            return fault(format!("its condition compares with {number}"), Some("condition:"));
        }
        let is_whole = |number: &Decimal| matches!(number.place(Unit::ONE), Place::At(_));
        if let Some((_, number)) = not(is_whole).filter(|_| !kind.is_numeric()) {
            let why = format!(
                "{what} counts, and its condition compares with {number}: expected a whole number \
                 (value_sum, value_avg and value_percentile take fractions)"
            );
            return fault(why, Some("condition:"));
        }
        let mut notes = Vec::new();
        let fields = match kind {
            Kind::EventCount | Kind::Temporal | Kind::Ordered => {
                if !fields.is_empty() {
                    notes.push(format!("the field in its condition means nothing to {what}"));
                }
                Vec::new()
            }
            Kind::ValueCount if !fields.is_empty() => fields,
            _ if fields.len() == 1 => fields,
            _ => {
                return fault(
                    format!(
                        "{what} takes one field in its condition, and {} are there",
                        fields.len()
                    ),
                    Some("condition:"),
                );
            }
        };
        Ok(Self { kind, predicates, fields, notes })
    }

    /// What it measures, in words.
    fn label(&self, rule: &CorrelationRule) -> String {
        let what = match self.kind {
            Kind::Percentile(percent)
                if rule.correlation_type == CorrelationType::ValuePercentile =>
            {
                format!("percentile {percent}")
            }
            _ => rule.correlation_type.as_str().to_owned(),
        };
        if self.fields.is_empty() { what } else { format!("{what} of {}", self.fields.join(", ")) }
    }
}

/// The value called `name` in the matches of `target`.
fn slot(rule: &CorrelationRule, name: &str, target: &Target<'_>) -> Result<Slot, Fault> {
    let title = &target.meta.title;
    let named = match rule.aliases.iter().find(|alias| alias.alias == name) {
        None => name,
        Some(alias) => {
            let field = target.called.iter().find_map(|called| alias.mapping.get(called));
            match field {
                Some(field) => field,
                None => {
                    let why = format!("alias `{name}` has no field for its rule `{title}`");
                    return fault(why, Some(name));
                }
            }
        }
    };
    let known = names::look_up(named);
    if let Some(correlation) = target.correlation {
        let slots = &correlation.bases[0].group;
        let by_name = correlation.labels.group.iter().position(|group| group == named);
        let is_it = |slot: &Slot| known.is_some_and(|(field, _)| field == slot.field);
        let Some(at) = by_name.or_else(|| slots.iter().position(is_it)) else {
            let why = format!("`{named}` is not in the group-by of its rule `{title}`");
            return fault(why, Some(name));
        };
        let unit = known.map_or(slots[at].unit, |(_, unit)| unit);
        return Ok(Slot { origin: Origin::Group(at), field: slots[at].field, unit });
    }
    match known {
        Some((field, unit)) => Ok(Slot { origin: Origin::Flow, field, unit }),
        None => {
            let near = names::hint(named);
            fault(format!("field `{named}`{near} is one that flows never have"), Some(named))
        }
    }
}

/// Checks that what goes by one name is of one kind in all rules.
fn agree(names: &[String], bases: &[Base], of: impl Fn(&Base) -> &[Slot]) -> Result<(), Fault> {
    for (at, name) in names.iter().enumerate() {
        let first = of(&bases[0])[at].field.kind();
        if bases.iter().any(|base| !comparable(of(base)[at].field.kind(), first)) {
            let why = format!("`{name}` is not of the same kind in all of its rules");
            return fault(why, Some(name));
        }
    }
    Ok(())
}

fn plan(
    rule: &CorrelationRule,
    condition: &Condition,
    unit: Unit,
    targets: &[Target<'_>],
) -> Result<Plan, Fault> {
    let micros = |seconds: u64, key: &str| {
        let micros =
            i64::try_from(seconds).ok().filter(|_| (1..=TIMESPAN_MAX_S).contains(&seconds));
        micros.map(|seconds| seconds * SECOND).ok_or_else(|| {
            let why = format!("its {key} of {seconds} s is not between a second and 100 years");
            (Reason::Correlation(why), Some(key.to_owned()))
        })
    };
    let window = match (rule.window, &rule.gap) {
        (WindowMode::Sliding, _) => Window::Sliding,
        (WindowMode::Tumbling, _) => Window::Tumbling,
        (WindowMode::Session, Some(gap)) => Window::Session(micros(gap.seconds, "gap")?),
        (WindowMode::Session, None) => return fault("window session needs a gap", Some("window")),
    };
    let range = match condition.kind {
        // An average is no integer: between two of them there are others.
        Kind::Average => Range::at_least(0),
        _ => Range::of(&condition.predicates, unit).ok_or_else(|| never(condition, "no number"))?,
    };
    let logic = match condition.kind {
        Kind::Temporal | Kind::Ordered => logic(rule, condition, targets)?,
        _ => Logic::All(Vec::new()),
    };
    Ok(Plan {
        kind: condition.kind,
        window,
        timespan: micros(rule.timespan.seconds, "timespan")?,
        range,
        average: Average::of(&condition.predicates, unit),
        logic,
        rules: targets.len(),
    })
}

/// Checks that what is measured can satisfy the condition, and warns if it cannot but do so: a group
/// is asked when it has a match, so it counts one at least.
fn says_something(
    condition: &Condition,
    plan: &Plan,
    bases: &[Base],
) -> Result<Option<String>, Fault> {
    let fields = bases.iter().filter_map(|base| Some(base.values.first()?.field));
    let max =
        |field: Field| if field.kind() == fields::Kind::Text { u128::MAX } else { field.max() };
    // The greatest value of the field, if it has one.
    let greatest = fields.map(max).max().filter(|&max| max < u128::MAX);
    let values = match condition.fields.len() {
        _ if bases.iter().all(counts_its_group) => Some(1),
        1 => greatest.map(|max| max + 1),
        _ => None,
    };
    let at_least_one = Logic::Count(Range::at_least(1));
    let (share, what) = match plan.kind {
        Kind::Ordered => return Ok(None),
        Kind::Temporal => (plan.logic.share(plan.rules), "no rules that a window may have seen"),
        Kind::EventCount => {
            (plan.range.share(1, None), "no count of matches, which is at least 1,")
        }
        Kind::ValueCount if values == Some(1) => (
            plan.range.share(1, values),
            "no count of values: it counts what it groups by, which has one value in each group, so \
             none",
        ),
        Kind::ValueCount => {
            (plan.range.share(1, values), "no count of values, which is at least 1,")
        }
        Kind::Sum => (plan.range.share(0, None), "no sum"),
        Kind::Average => (plan.average.share(greatest), "no average"),
        Kind::Percentile(_) => (plan.range.share(0, greatest), "no value of its field"),
    };
    match share {
        Share::None => Err(never(condition, what)),
        Share::Some => Ok(None),
        // Who writes `gte: 1` or `1 of them` means it so.
        Share::All if plan.range == Range::at_least(1) || plan.logic == at_least_one => Ok(None),
        Share::All => {
            let why = "its condition holds whatever it measures: it is true from a group's first match on";
            Ok(Some(why.to_owned()))
        }
    }
}

/// Whether each field whose values are counted is one to group by.
fn counts_its_group(base: &Base) -> bool {
    let same = |a: &Slot, b: &Slot| (a.origin, a.field) == (b.origin, b.field);
    !base.values.is_empty()
        && base.values.iter().all(|value| base.group.iter().any(|group| same(group, value)))
}

/// Whatever is measured, the condition is false.
fn never(condition: &Condition, what: &str) -> Fault {
    let words = Words(condition.predicates.clone());
    let condition = match condition.predicates.is_empty() {
        true => "its condition".to_owned(),
        false => format!("its condition `{words}`"),
    };
    let why = format!("{what} satisfies {condition}");
    (Reason::NeverMatches(why), Some("condition:".to_owned()))
}

/// What the parser has read, which makes 2^64 - 1 of -1.
fn whole(number: u64) -> Decimal {
    i64::try_from(number).map_or(Decimal::integer(-1), Decimal::integer)
}

/// Whether a temporal correlation says nothing on how many rules: then all are meant. The parser
/// fills in `gte: 1`.
fn says_nothing(condition: &Condition) -> bool {
    condition.predicates == [(ConditionOperator::Gte, Decimal::integer(1))]
}

fn logic(
    rule: &CorrelationRule,
    condition: &Condition,
    targets: &[Target<'_>],
) -> Result<Logic, Fault> {
    let all = targets.len() as u64;
    if targets.len() > RULES_MAX {
        let what = "the number of rules of a temporal correlation";
        return Err((Reason::TooLarge { what, max: RULES_MAX }, Some("rules".to_owned())));
    }
    if condition.kind == Kind::Ordered {
        let all_of_them = says_nothing(condition)
            || matches!(condition.predicates[..], [(ConditionOperator::Gte | ConditionOperator::Eq, n)]
                if n.place(Unit::ONE) == Place::At(all.into()));
        if !all_of_them {
            let why = "temporal_ordered needs all of its rules: expected no condition, or `gte` with \
                       their number";
            return fault(why, Some("condition:"));
        }
    }
    if let CorrelationCondition::Extended(expr) = &rule.condition {
        let names: Vec<Vec<String>> = targets.iter().map(|t| t.called.clone()).collect();
        return Logic::of(expr, &names)
            .map_err(|why| (Reason::Correlation(why), Some("condition:".to_owned())));
    }
    if says_nothing(condition) {
        return Ok(Logic::Count(Range::at_least(all.into())));
    }
    let range = Range::of(&condition.predicates, Unit::ONE);
    match range.filter(|range| range.min <= all.into()) {
        Some(range) => Ok(Logic::Count(range)),
        None => {
            let words = Words(condition.predicates.clone());
            let why = format!("no number of its {all} rules satisfies its condition `{words}`");
            Err((Reason::NeverMatches(why), Some("condition:".to_owned())))
        }
    }
}

/// The condition in words, where it is no comparison.
fn expression(rule: &CorrelationRule, condition: &Condition) -> Option<String> {
    match (&rule.condition, condition.kind) {
        (CorrelationCondition::Extended(expr), _) => Some(expr.to_string()),
        (_, Kind::Ordered) => Some("all rules in order".to_owned()),
        (_, Kind::Temporal) if says_nothing(condition) => Some("all rules".to_owned()),
        _ => None,
    }
}
