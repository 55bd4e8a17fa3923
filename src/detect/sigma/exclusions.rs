//! Exclusions: flows that no rule looks at, and that are shipped all the same.
//!
//! They are written as Sigma detections, in a folder of their own, and decided at a flow's first
//! record; so only what is final there may be asked. They are few, and evaluated one by one.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_parser::SigmaRule;

use super::compile::{self, Compiled, Compiler, Fault};
use super::expr::Expr;
use super::fields::Record;
use super::front::{self, Body, Document};
use super::meta;
use super::predicate::Class;
use super::reason::Reason;
use super::report::{LoadReport, Note, Rejected};
use super::ruleset::Interner;

/// Exclusions in force, at most.
const EXCLUSIONS_MAX: usize = 1_024;

/// Identity of an exclusion.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExclusionMeta {
    /// Interned, stable over reloads within a process.
    pub uid: u16,
    /// The id; a hash of the title where it has none.
    pub id: String,
    /// The title.
    pub title: Arc<str>,
    /// Where it stands.
    pub file: String,
    /// Its first line there, from 1.
    pub line: u32,
}

/// A compiled exclusion.
#[derive(Clone, Debug)]
pub struct Exclusion {
    /// Its identity.
    pub meta: Arc<ExclusionMeta>,
    expr: Expr,
}

impl Exclusion {
    /// Whether it takes the flow away from rules.
    #[must_use]
    pub fn holds(&self, record: &Record<'_>) -> bool {
        self.expr.holds(record)
    }
}

/// Compiles every document of the options' exclusions; what cannot be loaded is in the report.
pub(super) fn compile(
    compiler: &Compiler<'_>,
    interner: &mut Interner,
    report: &mut LoadReport,
    seen: &mut impl FnMut(&str),
) -> Vec<Exclusion> {
    let mut all: Vec<Exclusion> = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    let options = compiler.options;
    for source in &options.exclusions {
        for document in front::documents(&source.text) {
            let Document { line, text, title, id, notes, passed, body } = document;
            let rejected = |line, reason| Rejected {
                file: source.file.clone(),
                line,
                title: title.clone().unwrap_or_default(),
                id: id.clone().unwrap_or_default(),
                reason,
            };
            let rule = match body {
                Ok(Body::Rule(rule)) => rule,
                Ok(Body::Correlation(..) | Body::Filter(_)) => {
                    report.rejected.push(rejected(line, Reason::Misplaced));
                    continue;
                }
                Err(reason) => {
                    report.rejected.push(rejected(line, reason));
                    continue;
                }
            };
            let id = meta::id(&rule);
            seen(&id);
            if options.disable.iter().any(|off| off.eq_ignore_ascii_case(&id)) {
                report.disabled += 1;
                report.off.push(id.to_lowercase());
                continue;
            }
            let made = match places.get(&id) {
                Some(place) => Err(Reason::Duplicate(place.clone()).into()),
                None if all.len() == EXCLUSIONS_MAX => {
                    let what = "the number of exclusions";
                    Err(Reason::TooLarge { what, max: EXCLUSIONS_MAX }.into())
                }
                None => expression(&rule, &id, compiler),
            };
            match made {
                Err(fault) => {
                    let at = fault.line(text, line);
                    report.rejected.push(rejected(at, fault.reason));
                }
                Ok(Compiled { expr, warnings, .. }) => {
                    let Some(uid) = interner.exclusion(&id) else {
                        let what = "the number of different exclusions since the start";
                        let reason = Reason::TooLarge { what, max: u16::MAX.into() };
                        report.rejected.push(rejected(line, reason));
                        continue;
                    };
                    places.insert(id.clone(), format!("{}:{line}", source.file));
                    let (file, title) = (source.file.clone(), rule.title);
                    let passed = passed.into_iter().map(|passed| (passed.line, passed.text));
                    let others = notes.into_iter().chain(warnings).map(|text| (line, text));
                    for (line, text) in passed.chain(others) {
                        let (file, title) = (file.clone(), title.clone());
                        report.warnings.push(Note { file, line, title, text });
                    }
                    let meta = ExclusionMeta { uid, id, title: title.into(), file, line };
                    all.push(Exclusion { meta: Arc::new(meta), expr });
                }
            }
        }
    }
    report.exclusions = all.len();
    all
}

fn expression(rule: &SigmaRule, id: &str, compiler: &Compiler<'_>) -> Result<Compiled, Fault> {
    let source = &rule.logsource;
    let options = compiler.options;
    let given = [&source.category, &source.product, &source.service];
    if given.into_iter().any(Option::is_some) && !compile::is_of_flows(source, options) {
        return Err(Reason::Logsource(compile::describe(source)).into());
    }
    let compiled = compiler.condition(&rule.detection, id)?;
    if compiled.always {
        return Err(Reason::EveryFlow.into());
    }
    let mut late = None;
    compiled.expr.leaves(&mut |leaf| {
        if leaf.class() != Class::Immutable {
            late.get_or_insert_with(|| leaf.name.clone());
        }
    });
    match late {
        Some(field) => {
            let key = Some(field.clone());
            Err(Fault { reason: Reason::NotFinal(field), key })
        }
        None => Ok(compiled),
    }
}
