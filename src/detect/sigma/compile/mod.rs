//! A parsed rule to a condition over typed fields.

mod item;
mod keyword;
mod transform;
mod value;
mod work;

use rsigma_parser::{
    ConditionExpr, Detection, Detections, LogSource, Quantifier, SelectorPattern, SigmaRule,
};

use super::contradictions;
use super::expr::Expr;
use super::fields::FieldSet;
use super::lines;
use super::names;
use super::near;
use super::reason::Reason;
use super::ruleset::Options;
use super::text::{Glyph, Pattern};
use work::{Taken, Work};

/// Why a rule is rejected, and the key in it that is at fault.
#[derive(Debug)]
pub(super) struct Fault {
    pub reason: Reason,
    pub key: Option<String>,
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { reason, key: None }
    }
}

impl Fault {
    /// The line at fault of the document `text`, which begins at the line `from`: where its key stands
    /// with the value at fault, else where its key stands first.
    pub(super) fn line(&self, text: &str, from: u32) -> u32 {
        let key = match &self.reason {
            Reason::Logsource(_) => Some("logsource"),
            Reason::Identifier { .. } | Reason::Quantifier(_) | Reason::EveryFlow => {
                Some("condition")
            }
            Reason::Duplicate(_) | Reason::Standing(_) => Some("id"),
            Reason::Titled(_) => Some("title"),
            _ => None,
        };
        let value = match &self.reason {
            Reason::Value { value, .. } => Some(value.as_str()),
            Reason::Regex { pattern, .. } => Some(pattern.as_str()),
            Reason::Placeholder { placeholder, .. } => Some(placeholder.as_str()),
            _ => None,
        };
        let Some(key) = self.key.as_deref().or(key) else { return from };
        value
            .and_then(|value| lines::line_of_value(text, from, key, value))
            .unwrap_or_else(|| lines::line_of_key(text, from, key))
    }
}

/// A condition, and what should be said of it although it loads.
pub(super) struct Compiled {
    pub expr: Expr,
    /// Whether it is the same for every flow: true.
    pub always: bool,
    pub warnings: Vec<String>,
}

/// Compiles the conditions of a rule set, which are bounded one by one and together.
#[derive(Debug)]
pub(super) struct Compiler<'a> {
    pub options: &'a Options,
    taken: Taken,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self { options, taken: Taken::default() }
    }

    /// Compiles one rule, without the filters that name it.
    pub(super) fn rule(&self, rule: &SigmaRule, id: &str) -> Result<Compiled, Fault> {
        if !is_of_flows(&rule.logsource, self.options) {
            return Err(Reason::Logsource(describe(&rule.logsource)).into());
        }
        let mut compiled = self.condition(&rule.detection, id)?;
        if compiled.always {
            compiled.warnings.insert(0, "matches every flow".to_owned());
        }
        Ok(compiled)
    }

    /// Compiles a detection section: of a rule, a filter or an exclusion with this id.
    pub(super) fn condition(&self, detection: &Detections, id: &str) -> Result<Compiled, Fault> {
        let work = Work::new(self.options);
        let compiled = condition(detection, id, &work)?;
        work.done(&self.taken)?;
        Ok(compiled)
    }
}

fn condition(detection: &Detections, id: &str, work: &Work<'_>) -> Result<Compiled, Fault> {
    let options = work.options;
    let mut parts = Vec::new();
    for condition in &detection.conditions {
        parts.push(expression(detection, condition, work)?);
    }
    let expr = Expr::Or(parts);
    let mut unknown = Vec::new();
    expr.unknown(&mut unknown);
    let enabled = options.enable.iter().any(|enabled| enabled.eq_ignore_ascii_case(id));
    if let Some((field, _)) = unknown.iter().find(|(_, negated)| *negated)
        && !enabled
    {
        let (key, near) = (Some((*field).to_owned()), names::hint(field));
        let field = (*field).to_owned();
        return Err(Fault { reason: Reason::UnknownUnderNot { field, near }, key });
    }
    let mut unknown: Vec<&str> = unknown.into_iter().map(|(name, _)| name).collect();
    unknown.sort_unstable();
    unknown.dedup();
    let mut warnings = work.notes();
    let always = is_always(&expr, &unknown, &warnings)?;
    if !unknown.is_empty() {
        let names = quoted(&unknown);
        warnings.push(format!("items on {names} are false: flows never have such field(s)"));
    }
    warnings.extend(unread(detection));
    if detection.timeframe.is_some() {
        warnings.push("`timeframe` has no effect without a correlation".to_owned());
    }
    hints(detection.named.values(), &mut warnings);
    Ok(Compiled { expr: expr.fold(FieldSet::ALL), always, warnings })
}

/// Whether every flow satisfies the condition, which has these `unknown` fields, and of whose values this
/// was noted.
///
/// # Errors
/// If none does.
fn is_always(expr: &Expr, unknown: &[&str], noted: &[String]) -> Result<bool, Fault> {
    let folded = expr.clone().fold(FieldSet::EMPTY);
    let mut never = Vec::new();
    expr.leaves(&mut |leaf| {
        if leaf.constant(FieldSet::EMPTY) == Some(false) {
            never.push(leaf);
        }
    });
    let (why, key) = match (&folded, unknown, &never[..]) {
        (Expr::Const(true), ..) => return Ok(true),
        (Expr::Const(false), [], [leaf, ..]) => (leaf.why_never(), Some(leaf.name.clone())),
        (Expr::Const(false), [], []) => match noted.first() {
            Some(noted) => (noted.clone(), None),
            None => ("its condition is always false".to_owned(), None),
        },
        (Expr::Const(false), [first, ..], _) => {
            let why = format!("flows never have the field(s) {}", quoted(unknown));
            (why, Some((*first).to_owned()))
        }
        _ => match contradictions::found(&folded) {
            Some(clash) => (clash.in_words, Some(clash.field)),
            None => return Ok(contradictions::always(&folded)),
        },
    };
    Err(Fault { reason: Reason::NeverMatches(why), key })
}

/// Names that no flow has, each with the one that was meant, perhaps.
fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> =
        names.iter().map(|name| format!("`{name}`{}", names::hint(name))).collect();
    quoted.join(", ")
}

/// A warning for each detection that no condition names.
fn unread(detection: &Detections) -> Vec<String> {
    // What begins with `_` is put aside on purpose.
    let names = detection.named.keys().map(String::as_str);
    let mut names: Vec<&str> = names.filter(|name| !name.starts_with('_')).collect();
    detection.conditions.iter().for_each(|condition| keep_unnamed(condition, &mut names));
    names.sort_unstable();
    let known = ["condition", "timeframe"];
    let note =
        |name| format!("no condition names `{name}`, which is ignored{}", near::hint(name, known));
    names.into_iter().map(note).collect()
}

/// Keeps those of the `names` that the condition does not name.
fn keep_unnamed(condition: &ConditionExpr, names: &mut Vec<&str>) {
    match condition {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().for_each(|part| keep_unnamed(part, names));
        }
        ConditionExpr::Not(part) => keep_unnamed(part, names),
        ConditionExpr::Identifier(named) => names.retain(|name| name != named),
        ConditionExpr::Selector { pattern, .. } => {
            names.retain(|name| !selects(pattern, name));
        }
    }
}

fn selects(pattern: &SelectorPattern, name: &str) -> bool {
    match pattern {
        SelectorPattern::Them => !name.starts_with('_'),
        SelectorPattern::Pattern(pattern) => name_pattern(pattern).matches(name),
    }
}

/// What to say of keywords.
fn hints<'a>(parts: impl IntoIterator<Item = &'a Detection>, warnings: &mut Vec<String>) {
    for part in parts {
        match part {
            Detection::Keywords(values) => warnings.extend(keyword::hint(values)),
            Detection::AnyOf(parts) | Detection::And(parts) => hints(parts, warnings),
            Detection::AllOf(items) => {
                let keywords = items.iter().filter(|item| item.field.is_keyword());
                warnings.extend(keywords.filter_map(|item| keyword::hint(&item.values)));
            }
            Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {}
        }
    }
}

/// Whether a log source is one of flows: those of the specification, then the configuration's.
pub(super) fn is_of_flows(source: &LogSource, options: &Options) -> bool {
    let is = |have: &Option<String>, want: &str| {
        have.as_ref().is_some_and(|have| have.eq_ignore_ascii_case(want))
    };
    let fits = |have: &Option<String>, want: &Option<String>| {
        want.as_ref().is_none_or(|want| is(have, want))
    };
    is(&source.category, "network_connection")
        || is(&source.category, "firewall")
        || is(&source.service, "netflow")
        || is(&source.product, "zeek") && is(&source.service, "conn")
        || options.logsources.iter().any(|entry| {
            fits(&source.category, &entry.category)
                && fits(&source.product, &entry.product)
                && fits(&source.service, &entry.service)
        })
}

pub(super) fn describe(source: &LogSource) -> String {
    let parts = [
        ("category", &source.category),
        ("product", &source.product),
        ("service", &source.service),
    ];
    let given = parts.iter().filter_map(|(key, value)| Some(format!("{key} {}", value.as_ref()?)));
    let given = given.collect::<Vec<_>>().join(", ");
    if given.is_empty() { "none".to_owned() } else { given }
}

fn expression(of: &Detections, from: &ConditionExpr, work: &Work<'_>) -> Result<Expr, Fault> {
    let all = |parts: &[ConditionExpr]| -> Result<Vec<Expr>, Fault> {
        parts.iter().map(|part| expression(of, part, work)).collect()
    };
    Ok(match from {
        ConditionExpr::And(parts) => Expr::And(all(parts)?),
        ConditionExpr::Or(parts) => Expr::Or(all(parts)?),
        ConditionExpr::Not(part) => expression(of, part, work)?.negate(),
        ConditionExpr::Identifier(name) => match of.named.get(name) {
            Some(found) => selection(name, found, work)?,
            None => {
                let mut known: Vec<&str> = of.named.keys().map(String::as_str).collect();
                known.sort_unstable();
                let near = near::hint(name, known);
                return Err(Reason::Identifier { name: name.clone(), near }.into());
            }
        },
        ConditionExpr::Selector { quantifier, pattern } => {
            let parts = selected(of, pattern, work)?;
            match quantifier {
                Quantifier::Any | Quantifier::Count(1) => Expr::Or(parts),
                Quantifier::All => Expr::And(parts),
                Quantifier::Count(n) => return Err(Reason::Quantifier(*n).into()),
            }
        }
    })
}

/// The detections that a selector names, by name, so that the order is always the same.
fn selected(
    of: &Detections,
    pattern: &SelectorPattern,
    work: &Work<'_>,
) -> Result<Vec<Expr>, Fault> {
    let mut chosen: Vec<_> = of.named.iter().filter(|(name, _)| selects(pattern, name)).collect();
    if chosen.is_empty() {
        let (name, near) = (pattern.to_string(), String::new());
        return Err(Reason::Identifier { name, near }.into());
    }
    chosen.sort_unstable_by_key(|(name, _)| *name);
    chosen.into_iter().map(|(name, found)| selection(name, found, work)).collect()
}

fn selection(name: &str, from: &Detection, work: &Work<'_>) -> Result<Expr, Fault> {
    if asks_nothing(from) {
        let (reason, key) = (Reason::Empty(name.to_owned()), Some(name.to_owned()));
        return Err(Fault { reason, key });
    }
    // What has no field is told by its selection.
    let named = |fault: Fault| Fault { key: fault.key.or_else(|| Some(name.to_owned())), ..fault };
    detection(from, work).map_err(named)
}

/// Whether it, or an alternative of it, has no item.
fn asks_nothing(from: &Detection) -> bool {
    match from {
        Detection::AllOf(items) => items.is_empty(),
        Detection::AnyOf(parts) | Detection::And(parts) => {
            parts.is_empty() || parts.iter().any(asks_nothing)
        }
        Detection::Keywords(values) => values.is_empty(),
        Detection::ArrayMatch { .. } | Detection::Conditional { .. } => false,
    }
}

/// A pattern over the names of detections: `*` anywhere, case counts.
fn name_pattern(text: &str) -> Pattern {
    let glyph = |c| if c == '*' { Glyph::Many } else { Glyph::Char(c) };
    Pattern::new(text.chars().map(glyph).collect(), true)
}

fn detection(from: &Detection, work: &Work<'_>) -> Result<Expr, Fault> {
    let all = |parts: &[Detection]| -> Result<Vec<Expr>, Fault> {
        parts.iter().map(|part| detection(part, work)).collect()
    };
    match from {
        Detection::AllOf(items) => {
            let parts: Result<Vec<Expr>, Fault> =
                items.iter().map(|item| item::compile(item, work)).collect();
            Ok(Expr::And(parts?))
        }
        Detection::AnyOf(parts) => Ok(Expr::Or(all(parts)?)),
        Detection::And(parts) => Ok(Expr::And(all(parts)?)),
        Detection::Keywords(values) => Ok(keyword::compile(values, &[], work)?),
        Detection::ArrayMatch { field, .. } => Err(Reason::Array(field.clone()).into()),
        Detection::Conditional { .. } => Err(Reason::Array(String::new()).into()),
    }
}
