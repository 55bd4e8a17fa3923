//! Exclusions: flows that no rule looks at, and that are shipped all the same.
//!
//! They are written as Sigma detections, in a folder of their own, and decided at a flow's first
//! record; so only what is final there may be asked. They are few, and evaluated one by one.

use std::sync::Arc;

use rsigma_parser::SigmaRule;

use super::breadth;
use super::compile::{self, Compiled, Compiler, Fault};
use super::expr::Expr;
use super::fields::Record;
use super::front::{self, Body, Document};
use super::ids::Ids;
use super::meta;
use super::predicate::Class;
use super::reason::Reason;
use super::report::{LoadReport, Note, Rejected};
use super::ruleset::{Interner, Source};

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
    /// Its condition.
    #[must_use]
    pub const fn condition(&self) -> &Expr {
        &self.expr
    }

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
    rules: &Ids<'_>,
    seen: &mut impl FnMut(&str),
) -> Vec<Exclusion> {
    let options = compiler.options;
    let files = options.exclusions.iter().map(|source| &*source.file);
    let ids = Ids::new(&options.in_force.exclusions, files);
    let mut loader = Loader { compiler, interner, report, rules, ids, all: Vec::new() };
    let mut waiting = Vec::new();
    for source in &options.exclusions {
        let documents = front::documents(&source.text);
        if documents.is_empty() {
            loader.report.empty(&source.file);
        }
        for document in documents {
            document.known_by().iter().for_each(|id| seen(id));
            match loader.ids.owner(&document, &source.file) {
                Some(owner) => waiting.push((source, document, owner)),
                None => loader.add(source, document, None),
            }
        }
    }
    for (source, document, owner) in waiting {
        loader.add(source, document, Some(owner));
    }
    loader.report.exclusions = loader.all.len();
    loader.all
}

struct Loader<'a> {
    compiler: &'a Compiler<'a>,
    interner: &'a mut Interner,
    report: &'a mut LoadReport,
    /// The ids of rules, correlations and filters.
    rules: &'a Ids<'a>,
    ids: Ids<'a>,
    all: Vec<Exclusion>,
}

impl Loader<'_> {
    /// Adds the exclusion in `document`, which waited for that of the file `owner`, if it did.
    fn add(&mut self, source: &Source, document: Document<'_>, owner: Option<&str>) {
        let known_by = document.known_by();
        let Document { line, text, title, id, notes, passed, body } = document;
        let (title, own_id) = (title.unwrap_or_default(), id.unwrap_or_default());
        let made = match body {
            Ok(Body::Rule(rule)) => {
                let id = meta::id(&rule);
                if self.is_disabled(&id) {
                    return;
                }
                self.made(&rule, &id, owner.map(|owner| (owner, &*source.file)))
                    .map(|(uid, compiled)| (id, uid, compiled))
            }
            Ok(Body::Correlation(..) | Body::Filter(_)) => Err(Reason::Misplaced.into()),
            Err(_) if known_by.is_some_and(|id| self.is_disabled(&id)) => return,
            Err(reason) => Err(reason.into()),
        };
        let file = source.file.clone();
        let (id, uid, compiled) = match made {
            Ok(made) => made,
            Err(fault) => {
                let line = fault.line(text, line);
                let rejected = Rejected { file, line, title, id: own_id, reason: fault.reason };
                return self.report.rejected.push(rejected);
            }
        };
        let passed = passed.into_iter().map(|passed| (passed.line, passed.text));
        let broad = "nearly every flow satisfies it, and no rule looks at these: to keep from rules what \
                     stands under `not`, leave the `not` out";
        let broad = breadth::is_broad(&compiled.expr).then(|| broad.to_owned());
        let shared = self.rules.place(&id).map(|place| {
            format!(
                "its id is also that of the rule at {place}, and `rules.disable` would turn both off: give it \
                 an id of its own"
            )
        });
        let others = notes.into_iter().chain(compiled.warnings).chain(broad).chain(shared);
        let others = others.map(|text| (line, text));
        for (line, text) in passed.chain(others) {
            let (file, title) = (file.clone(), title.clone());
            self.report.warnings.push(Note { file, line, title, text });
        }
        self.ids.take(&id, format!("{file}:{line}"));
        let meta = ExclusionMeta { uid, id, title: title.into(), file, line };
        self.all.push(Exclusion { meta: Arc::new(meta), expr: compiled.expr });
    }

    fn is_disabled(&mut self, id: &str) -> bool {
        let off = &self.compiler.options.disable;
        let disabled = off.iter().any(|off| off.eq_ignore_ascii_case(id));
        if disabled {
            self.report.disabled += 1;
            self.report.off.push(id.to_lowercase());
        }
        disabled
    }

    /// The number and the condition of the exclusion.
    fn made(
        &mut self,
        rule: &SigmaRule,
        id: &str,
        waited: Option<(&str, &str)>,
    ) -> Result<(u16, Compiled), Fault> {
        match waited {
            None => self.ids.is_free(id)?,
            Some(waited) => self.ids.is_left(id, waited, &self.report.rejected)?,
        }
        if self.all.len() == EXCLUSIONS_MAX {
            let what = "the number of exclusions";
            return Err(Reason::TooLarge { what, max: EXCLUSIONS_MAX }.into());
        }
        let compiled = expression(rule, id, self.compiler)?;
        let what = "the number of different exclusions since the start";
        let too_many = Reason::TooLarge { what, max: u16::MAX.into() };
        Ok((self.interner.exclusion(id).ok_or(too_many)?, compiled))
    }
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
