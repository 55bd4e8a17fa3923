//! Documents to correlations: finds the rules that they name, and says which rules only feed them.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_parser::CorrelationRule;

use super::compile::{self, Target};
use super::plan::Correlation;
use crate::detect::RuleMeta;
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::report::{LoadReport, Note, Rejected, Silent};
use crate::detect::sigma::ruleset::{Interner, Rule, Source};
use crate::detect::sigma::terms::Threshold;
use crate::detect::sigma::{lines, meta, near};

/// Correlations that may build on one another in a row.
const DEPTH_MAX: usize = 8;
/// Rules that a correlation may name.
const NAMED_MAX: usize = 1_024;

/// What became of a document that correlations may name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::detect::sigma) enum Fate {
    /// It is the rule at this place.
    Rule(usize),
    /// It was rejected.
    Rejected,
    /// `rules.disable` names it.
    Disabled,
    /// It is the correlation that came as this number.
    Correlation(usize),
}

/// Collects documents, and links the correlations among them once all are known.
#[derive(Debug, Default)]
pub(in crate::detect::sigma) struct Linker<'a> {
    known: Vec<Known>,
    /// By id in lower case.
    ids: HashMap<String, usize>,
    /// By name; `None` if several have it.
    names: HashMap<String, Option<usize>>,
    pending: Vec<Pending<'a>>,
    linked: Vec<Correlation>,
    generate: Vec<bool>,
    hints: near::Few,
}

#[derive(Debug)]
struct Known {
    fate: Fate,
    id: String,
    name: Option<String>,
}

#[derive(Debug)]
struct Pending<'a> {
    source: &'a Source,
    line: u32,
    /// What the document says, from that line on.
    text: &'a str,
    meta: RuleMeta,
    rule: Box<CorrelationRule>,
    thresholds: Vec<Threshold>,
    notes: Vec<String>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Waiting,
    Busy,
    Linked { at: usize, depth: usize },
    Failed,
}

/// A fault, and a text on the line that is at fault.
struct Fault {
    reason: Reason,
    near: Option<String>,
}

impl<'a> Linker<'a> {
    /// Says what became of a rule.
    pub fn rule(&mut self, id: &str, name: Option<&str>, fate: Fate) {
        let at = self.known.len();
        self.known.push(Known { fate, id: id.to_owned(), name: name.map(str::to_owned) });
        let first = *self.ids.entry(id.to_lowercase()).or_insert(at);
        // One that was rejected leaves its id to others.
        if self.known[first].fate == Fate::Rejected {
            self.ids.insert(id.to_lowercase(), at);
        }
        if let Some(name) = name {
            self.names.entry(name.to_owned()).and_modify(|known| *known = None).or_insert(Some(at));
        }
    }

    /// Adds a correlation to be linked, which says `text` from a line of `source` on.
    pub fn correlation(
        &mut self,
        (source, line, text): (&'a Source, u32, &'a str),
        meta: RuleMeta,
        (rule, thresholds): (Box<CorrelationRule>, Vec<Threshold>),
        notes: Vec<String>,
    ) {
        let fate = Fate::Correlation(self.pending.len());
        self.rule(&meta.id, rule.name.as_deref(), fate);
        let progress = Progress::Waiting;
        let pending = Pending { source, line, text, meta, rule, thresholds, notes, progress };
        self.pending.push(pending);
    }

    /// Links all correlations, those that others build on before them. Rules that only feed
    /// correlations become silent, and each says when its matches are wanted.
    pub fn link(
        mut self,
        rules: &mut [Rule],
        report: &mut LoadReport,
        interner: &mut Interner,
    ) -> Vec<Arc<Correlation>> {
        for at in 0..self.pending.len() {
            self.resolve(at, rules, report, interner);
        }
        self.silence(rules, report);
        report.correlations = self.linked.len();
        self.linked.into_iter().map(Arc::new).collect()
    }

    /// Links a correlation, and before it those that it builds on. However many build on one
    /// another, the stack does not grow.
    fn resolve(
        &mut self,
        from: usize,
        rules: &[Rule],
        report: &mut LoadReport,
        interner: &mut Interner,
    ) {
        let mut path = Vec::new();
        let mut next = Some(from).filter(|&at| self.is_waiting(at));
        loop {
            if let Some(at) = next {
                self.pending[at].progress = Progress::Busy;
                path.push(at);
            }
            let Some(&at) = path.last() else { return };
            next = self.waited_for(at);
            if next.is_none() {
                let done = self.compile(at, rules, interner, &path);
                self.settle(at, done, report);
                path.pop();
            }
        }
    }

    fn is_waiting(&self, at: usize) -> bool {
        matches!(self.pending[at].progress, Progress::Waiting)
    }

    /// A correlation that this one names and that nobody has looked at yet.
    fn waited_for(&self, at: usize) -> Option<usize> {
        let named = self.pending[at].rule.rules.iter().take(NAMED_MAX);
        let mut correlations = named.filter_map(|name| {
            let known = self.find(name).ok()?;
            if let Fate::Correlation(next) = self.known[known].fate { Some(next) } else { None }
        });
        correlations.find(|&next| self.is_waiting(next))
    }

    /// Takes note of what became of a correlation.
    fn settle(
        &mut self,
        at: usize,
        done: Result<(Correlation, usize, Vec<String>), Fault>,
        report: &mut LoadReport,
    ) {
        let pending = &mut self.pending[at];
        match done {
            Ok((linked, depth, notes)) => {
                pending.progress = Progress::Linked { at: self.linked.len(), depth };
                let own = pending.notes.drain(..).chain(meta::note_on(pending.rule.status));
                for text in own.chain(notes) {
                    let (file, title) = (pending.source.file.clone(), linked.meta.title.clone());
                    report.warnings.push(Note { file, line: pending.line, title, text });
                }
                self.generate.push(pending.rule.generate);
                self.linked.push(linked);
            }
            Err(fault) => {
                pending.progress = Progress::Failed;
                let line = |near: &String| lines::line_of_word(pending.text, pending.line, near);
                report.rejected.push(Rejected {
                    file: pending.source.file.clone(),
                    line: fault.near.as_ref().map_or(pending.line, line),
                    title: pending.meta.title.clone(),
                    id: pending.rule.id.clone().unwrap_or_default(),
                    reason: fault.reason,
                });
            }
        }
    }

    /// Compiles a correlation; those that it names were looked at, or are on the path to it.
    fn compile(
        &self,
        at: usize,
        rules: &[Rule],
        interner: &mut Interner,
        path: &[usize],
    ) -> Result<(Correlation, usize, Vec<String>), Fault> {
        let wanted = &self.pending[at].rule.rules;
        if wanted.len() > NAMED_MAX {
            let what = "the number of rules that a correlation names";
            let near = Some("rules".to_owned());
            return Err(Fault { reason: Reason::TooLarge { what, max: NAMED_MAX }, near });
        }
        let mut depth = 1;
        let mut found = Vec::new();
        for name in wanted {
            let fault = |why: &str| Fault {
                reason: Reason::Base { rule: name.clone(), why: why.to_owned() },
                near: Some(name.clone()),
            };
            let known = self.find(name).map_err(|why| fault(&why))?;
            if found.contains(&known) {
                return Err(fault("is named twice"));
            }
            found.push(known);
            match self.known[known].fate {
                Fate::Rule(_) => {}
                Fate::Rejected => return Err(fault("is rejected")),
                Fate::Disabled => return Err(fault("is turned off by rules.disable")),
                Fate::Correlation(next) => {
                    if let Some(start) = path.iter().position(|&on| on == next) {
                        return Err(fault(&self.circle(&path[start..])));
                    }
                    match self.pending[next].progress {
                        Progress::Linked { depth: below, .. } => depth = depth.max(below + 1),
                        _ => return Err(fault("is rejected")),
                    }
                }
            }
        }
        if depth > DEPTH_MAX {
            let what = "the number of correlations that build on one another";
            return Err(Fault { reason: Reason::TooLarge { what, max: DEPTH_MAX }, near: None });
        }
        let targets: Vec<Target<'_>> = wanted
            .iter()
            .zip(&found)
            .map(|(name, &known)| self.target(name, &self.known[known], rules))
            .collect();
        let pending = &self.pending[at];
        let mut meta = pending.meta.clone();
        meta.uid = interner.uid(&meta.id);
        let terms = (&*pending.rule, &*pending.thresholds);
        let compiled = compile::correlation(terms, meta, &targets);
        let (linked, notes) = compiled.map_err(|(reason, near)| Fault { reason, near })?;
        Ok((linked, depth, notes))
    }

    /// The rule with this name, in which case counts, or this id, in which it does not.
    fn find(&self, name: &str) -> Result<usize, String> {
        match self.names.get(name) {
            Some(Some(known)) => Ok(*known),
            Some(None) => Err("is the name of several rules".to_owned()),
            None => self.ids.get(&name.to_lowercase()).copied().ok_or_else(|| {
                let known =
                    self.known.iter().flat_map(|known| [Some(&known.id), known.name.as_ref()]);
                let near = self.hints.hint(name, known.flatten().map(String::as_str));
                format!("is neither the id nor the name of a rule{near}")
            }),
        }
    }

    fn circle(&self, path: &[usize]) -> String {
        let titles = path.iter().chain(path.first()).map(|&at| &*self.pending[at].meta.title);
        format!("leads back to it: {}", titles.collect::<Vec<_>>().join(" -> "))
    }

    fn target<'t>(&'t self, wanted: &str, known: &Known, rules: &'t [Rule]) -> Target<'t> {
        let mut called = vec![wanted.to_owned(), known.id.clone()];
        called.extend(known.name.clone());
        let group = match known.fate {
            Fate::Correlation(at) => match self.pending[at].progress {
                Progress::Linked { at, .. } => Some(&self.linked[at]),
                _ => None,
            },
            _ => None,
        };
        let meta = match (known.fate, group) {
            (Fate::Rule(at), _) => Some(&rules[at].meta),
            (_, linked) => linked.map(|linked| &linked.meta),
        };
        let meta = meta.expect("only what is loaded becomes a base");
        Target { called, meta, correlation: group }
    }

    /// Rules and correlations that only feed others raise no alert, unless one of these generates.
    fn silence(&mut self, rules: &mut [Rule], report: &mut LoadReport) {
        let mut fed: HashMap<u32, (bool, Vec<String>)> = HashMap::new();
        for (linked, &generate) in self.linked.iter().zip(&self.generate) {
            for uid in linked.base_uids() {
                let (generates, feeds) = fed.entry(uid).or_default();
                *generates |= generate;
                feeds.push(linked.meta.title.clone());
            }
        }
        fed.retain(|_, (generates, _)| !*generates);
        let mut silent = |meta: &RuleMeta| {
            let fed = fed.get(&meta.uid);
            report.silent.extend(fed.map(|(_, feeds)| Silent {
                file: meta.file.clone(),
                line: meta.line,
                title: meta.title.clone(),
                feeds: feeds.clone(),
            }));
            fed.is_some()
        };
        let by_uid: HashMap<u32, usize> =
            rules.iter().enumerate().map(|(at, rule)| (rule.meta.uid, at)).collect();
        for rule in &mut *rules {
            rule.silent = silent(&rule.meta);
        }
        for linked in &mut self.linked {
            linked.silent = silent(&linked.meta);
        }
        for linked in &self.linked {
            for rule in linked.base_uids().filter_map(|uid| by_uid.get(&uid)) {
                rules[*rule].taps.at_end |= linked.at_end;
                rules[*rule].taps.on_fire |= !linked.at_end;
            }
        }
    }
}
