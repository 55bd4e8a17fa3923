//! Meta filters: conditions that are added to rules, as written (specification, meta filters).
//!
//! A rule that filters name becomes `({condition}) and ({filter's condition})`; to exclude, a
//! filter says `not selection`. The specification's own example leaves the `not` out, and would
//! narrow the rule to what it means to exclude; so a filter without `not` is warned of.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_parser::{ConditionExpr, FilterRule, FilterRuleTarget, LogSource};

use super::breadth;
use super::compile::{Compiled, Compiler, Fault};
use super::contradictions;
use super::expr::Expr;
use super::fields::{FieldSet, Record};
use super::index::Traffic;
use super::near;
use super::predicate::Class;
use super::reason::Reason;
use super::report::{Note, Rejected};

/// Items that filters add to all rules, at most: a rule has those of each of its filters.
const ADDED_MAX: usize = 1 << 22;

/// Items of the filters of a rule that are compared with its own: people write a few.
const COMPARED_MAX: usize = 1_024;
/// A filter that lets less than one of so many sampled flows pass is warned of.
const FEW: usize = 10;
/// Rules that a filter silences and that are named.
const NAMED_MAX: usize = 3;

/// What a filter looks at to decide whether it is meant for a rule.
#[derive(Debug)]
pub(super) struct Target {
    /// The rule's id.
    pub id: String,
    /// The rule's title.
    pub title: String,
    /// The rule's name, if it has one.
    pub name: Option<String>,
    /// The rule's log source.
    pub logsource: LogSource,
}

/// The filters of a rule set while it is put together.
#[derive(Debug, Default)]
pub(super) struct Filters {
    filters: Vec<Filter>,
    /// Those that name rules, by reference: filter, reference.
    by_name: HashMap<String, Vec<(usize, usize)>>,
    /// The same in lower case: of ids case does not count.
    by_id: HashMap<String, Vec<(usize, usize)>>,
    /// Those that name none: they are for any rule.
    any: Vec<usize>,
    /// Items added so far.
    added: usize,
}

#[derive(Debug)]
struct Filter {
    file: Arc<str>,
    line: u32,
    title: String,
    id: String,
    logsource: Option<LogSource>,
    expr: Expr,
    /// Items of its condition.
    items: usize,
    /// What it names, and whether a rule of that id or name was met.
    references: Vec<(String, bool)>,
    applied: usize,
    /// Rules that can never fire with it, and why.
    silenced: Vec<(String, String)>,
    /// Whether it was too much for a rule.
    refused: bool,
}

impl Filters {
    /// Takes in a filter; returns what should be said of it.
    ///
    /// # Errors
    /// Why it cannot be applied; nothing is changed then.
    pub(super) fn add(
        &mut self,
        filter: FilterRule,
        (file, line): (&Arc<str>, u32),
        compiler: &Compiler<'_>,
    ) -> Result<Vec<String>, Fault> {
        let id = filter.id.as_deref().unwrap_or_default();
        let Compiled { expr, always, mut warnings } =
            compiler.condition(&filter.detection, id).map_err(|mut fault| {
                if let Reason::NeverMatches(why) = &fault.reason {
                    fault.reason = Reason::Silencing(why.clone());
                }
                fault
            })?;
        if always {
            warnings.push("every flow satisfies it, so it changes no rule".to_owned());
        } else if let Some(text) = narrows(&filter.detection.conditions, &expr) {
            warnings.push(text.to_owned());
        }
        let at = self.filters.len();
        let references = match filter.rules {
            FilterRuleTarget::Any => {
                self.any.push(at);
                Vec::new()
            }
            FilterRuleTarget::Specific(references) => references,
        };
        for (n, reference) in references.iter().enumerate() {
            self.by_name.entry(reference.clone()).or_default().push((at, n));
            self.by_id.entry(reference.to_lowercase()).or_default().push((at, n));
        }
        let mut items = 0;
        expr.leaves(&mut |_| items += 1);
        self.filters.push(Filter {
            file: Arc::clone(file),
            line,
            title: filter.title,
            id: filter.id.unwrap_or_default(),
            logsource: filter.logsource,
            expr,
            items,
            references: references.into_iter().map(|reference| (reference, false)).collect(),
            applied: 0,
            silenced: Vec::new(),
            refused: false,
        });
        Ok(warnings)
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.filters.len()
    }

    /// The rule's condition with those of the filters that are meant for it.
    pub(super) fn apply(&mut self, rule: &Target, expr: Expr) -> Expr {
        let mut meant = self.any.clone();
        let by_id = self.by_id.get(&rule.id.to_lowercase());
        let by_name = rule.name.as_ref().and_then(|name| self.by_name.get(name));
        for &(at, n) in by_id.into_iter().chain(by_name).flatten() {
            self.filters[at].references[n].1 = true;
            meant.push(at);
        }
        meant.sort_unstable();
        meant.dedup();
        let (mut parts, mut added) = (vec![expr], Vec::new());
        for at in meant {
            let filter = &mut self.filters[at];
            if filter.logsource.as_ref().is_some_and(|wide| !covers(wide, &rule.logsource)) {
                continue;
            }
            filter.applied += 1;
            filter.refused |= self.added + filter.items > ADDED_MAX;
            if !filter.refused {
                self.added += filter.items;
                parts.push(filter.expr.clone());
                added.push(at);
            }
        }
        let items: usize = added.iter().map(|&at| self.filters[at].items).sum();
        if items <= COMPARED_MAX
            && let Some((last, why)) = silencing(&parts)
        {
            self.filters[added[last]].silenced.push((rule.title.clone(), why));
        }
        match parts.len() {
            1 => parts.pop().expect("the rule's own"),
            _ => Expr::And(parts).fold(FieldSet::ALL),
        }
    }

    /// For how many rules each is meant, in their order.
    pub(super) fn applied(&self) -> impl Iterator<Item = usize> + '_ {
        self.filters.iter().map(|filter| filter.applied)
    }

    /// Those that are not part of every rule that they are meant for.
    pub(super) fn refused(&self) -> impl Iterator<Item = Rejected> + '_ {
        let what = "the number of items that filters add to all rules";
        self.filters.iter().filter(|filter| filter.refused).map(move |filter| Rejected {
            file: filter.file.to_string(),
            line: filter.line,
            title: filter.title.clone(),
            id: filter.id.clone(),
            reason: Reason::TooLarge { what, max: ADDED_MAX },
        })
    }

    /// What is to be said once every rule was met.
    pub(super) fn notes(self, rules: &[Target], traffic: Option<&Traffic>) -> Vec<Note> {
        let (mut notes, hints) = (Vec::new(), near::Few::default());
        for filter in self.filters {
            let mut say = |text| {
                let (file, title) = (filter.file.to_string(), filter.title.clone());
                notes.push(Note { file, line: filter.line, title, text });
            };
            if let Some((passed, of)) = traffic.and_then(|traffic| passed(&filter.expr, traffic)) {
                say(format!(
                    "it lets {passed} of a sample of {of} recent flows pass: on the others no rule that it \
                     names fires"
                ));
            }
            for (reference, _) in filter.references.iter().filter(|(_, met)| !met) {
                let known = rules.iter().flat_map(|rule| [Some(&rule.id), rule.name.as_ref()]);
                let near = hints.hint(reference, known.flatten().map(String::as_str));
                say(format!("it names `{reference}`, which is no loaded rule's id or name{near}"));
            }
            for (title, why) in filter.silenced.iter().take(NAMED_MAX) {
                say(format!("with it, rule `{title}` can never fire: {why}"));
            }
            if let more @ 1.. = filter.silenced.len().saturating_sub(NAMED_MAX) {
                say(format!("with it, {more} further rules can never fire"));
            }
            let met = filter.references.iter().any(|(_, met)| *met);
            if filter.applied == 0 && (met || filter.references.is_empty()) {
                say("its log source is that of no loaded rule that it names".to_owned());
            }
        }
        notes
    }
}

/// How many of the sampled flows, and of how many, satisfy a filter that keeps rules from nine in ten. The
/// sample is of flows that had just opened, so only what is final then is judged.
fn passed(expr: &Expr, traffic: &Traffic) -> Option<(usize, usize)> {
    let flows = traffic.flows();
    if expr.class() != Class::Immutable {
        return None;
    }
    let passed = flows.iter().filter(|flow| expr.holds(&Record::of(flow))).count();
    (passed * FEW < flows.len()).then_some((passed, flows.len()))
}

/// Where no flow satisfies all of `parts`, the condition of a rule and those of filters: the first
/// filter with which it is so, and why.
fn silencing(parts: &[Expr]) -> Option<(usize, String)> {
    let never = |parts: &[Expr]| {
        let all = Expr::And(parts.to_vec()).fold(FieldSet::EMPTY);
        contradictions::found(&all).map(|clash| clash.in_words)
    };
    if parts.len() == 1 || never(parts).is_none() {
        return None;
    }
    (2..=parts.len()).find_map(|count| Some((count - 2, never(&parts[..count])?)))
}

/// Whether every part of `wide` that is given is also in `narrow`.
fn covers(wide: &LogSource, narrow: &LogSource) -> bool {
    let same = |wide: &Option<String>, narrow: &Option<String>| match (wide, narrow) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide.eq_ignore_ascii_case(narrow),
        (Some(_), None) => false,
    };
    same(&wide.category, &narrow.category)
        && same(&wide.product, &narrow.product)
        && same(&wide.service, &narrow.service)
}

/// What to say of a filter that leaves rules little. One that says `not` twice does, and one that says it
/// otherwise, as with `neq`, does not.
fn narrows(conditions: &[ConditionExpr], expr: &Expr) -> Option<&'static str> {
    let says_not = conditions.iter().any(has_not);
    if says_not && breadth::is_broad(&expr.clone().negate()) {
        return Some("hardly any flow satisfies it, so the rules that it names hardly fire");
    }
    let text = "it has no `not`: rules fire only on what it selects; to exclude that, write `not selection`";
    (!says_not && !breadth::is_broad(expr)).then_some(text)
}

fn has_not(condition: &ConditionExpr) -> bool {
    match condition {
        ConditionExpr::Not(_) => true,
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => parts.iter().any(has_not),
        ConditionExpr::Identifier(_) | ConditionExpr::Selector { .. } => false,
    }
}
