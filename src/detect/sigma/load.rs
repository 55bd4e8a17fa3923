//! Documents to rules, filters and exclusions, and the report of what became of each.

use std::collections::HashMap;
use std::sync::Arc;

use rsigma_parser::{CorrelationRule, FilterRule, LogSource, SigmaRule};

use super::compile::{Compiled, Compiler, Fault};
use super::correlate::{Correlation, Fate, Linker};
use super::exclusions::{self, Exclusion};
use super::feed::{Feed, FeedRule};
use super::filters::{Filters, Target};
use super::front::{self, Body, Document};
use super::ids::Ids;
use super::meta;
use super::reason::Reason;
use super::report::{LoadReport, Note, Rejected};
use super::ruleset::{Interner, Named, Options, Rule, Source};
use super::terms::Threshold;
use crate::detect::RuleMeta;

/// What came of all documents.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The rules, in the order of their sources, with their filters.
    pub rules: Vec<Rule>,
    /// The correlations of rules.
    pub correlations: Vec<Arc<Correlation>>,
    /// The exclusions.
    pub exclusions: Vec<Exclusion>,
    /// The filters.
    pub filters: Vec<Named>,
    /// What was loaded, and what was not and why.
    pub report: LoadReport,
}

/// Loads `sources`, and the exclusions of `options`. What cannot be loaded is in the report with
/// file, line and reason; it does not keep others from loading.
pub(super) fn load(sources: &[Source], options: &Options, interner: &mut Interner) -> Loaded {
    let mut wanted = Wanted::of(options);
    let feeds: Vec<String> = options.feeds.iter().map(|feed| feed.file()).collect();
    let files = sources.iter().map(|source| &*source.file).chain(feeds.iter().map(|file| &**file));
    let mut loader = Loader {
        options,
        compiler: Compiler::new(options),
        interner,
        ids: Ids::new(&options.in_force.rules, files),
        owner: None,
        filters: Filters::default(),
        targets: Vec::new(),
        linker: Linker::default(),
        loaded: Loaded::default(),
    };
    loader.loaded.report.rejected.clone_from(&options.unreadable);
    let mut waiting = Vec::new();
    for source in sources {
        let documents = front::documents(&source.text);
        if documents.is_empty() {
            loader.loaded.report.empty(&source.file);
        }
        for document in documents {
            document.id.iter().for_each(|id| wanted.see(id));
            match loader.ids.owner(&document, &source.file) {
                Some(owner) => waiting.push((source, document, owner)),
                None => loader.add(source, document, &mut wanted),
            }
        }
    }
    for feed in &options.feeds {
        loader.feed(feed, &mut wanted);
    }
    for (source, document, owner) in waiting {
        loader.owner = Some(owner);
        loader.add(source, document, &mut wanted);
    }
    loader.finish(wanted)
}

struct Loader<'a> {
    options: &'a Options,
    compiler: Compiler<'a>,
    interner: &'a mut Interner,
    ids: Ids<'a>,
    /// The file of the document that is in force, where the one at hand waited for it.
    owner: Option<&'a str>,
    filters: Filters,
    /// What filters look at, of each loaded rule.
    targets: Vec<Target>,
    /// The correlations, until all that they may name is known.
    linker: Linker<'a>,
    loaded: Loaded,
}

impl<'a> Loader<'a> {
    fn add(&mut self, source: &'a Source, document: Document<'a>, wanted: &mut Wanted<'_>) {
        let known_by = document.body.is_err().then(|| document.known_by()).flatten();
        let Document { line, text, title, id, notes, passed, body } = document;
        let place = Place { source, line, text, title: title.unwrap_or_default() };
        let disabled = self.loaded.report.disabled;
        let made = match body {
            // What is broken can be turned off like the rest.
            Err(_) if known_by.is_some_and(|id| self.is_disabled(&id)) => {
                self.linker.rule(id.as_deref().unwrap_or_default(), None, Fate::Disabled);
                Ok(())
            }
            Err(reason) => {
                self.linker.rule(id.as_deref().unwrap_or_default(), None, Fate::Rejected);
                Err(reason.into())
            }
            Ok(Body::Correlation(rule, thresholds)) => {
                if rule.id.is_none() {
                    wanted.see(&meta::correlation_id(&rule));
                }
                self.correlation((rule, thresholds), &place, notes)
            }
            Ok(Body::Filter(filter)) => self.filter(*filter, &place, notes),
            Ok(Body::Rule(rule)) => {
                if rule.id.is_none() {
                    wanted.see(&meta::id(&rule));
                }
                self.rule(*rule, &place, notes)
            }
        };
        if self.loaded.report.disabled == disabled {
            let passed = passed.into_iter().map(|passed| Note {
                file: source.file.clone(),
                line: passed.line,
                title: place.title.clone(),
                text: passed.text,
            });
            self.loaded.report.warnings.extend(passed);
        }
        if let Err(fault) = made {
            let at = fault.line(text, line);
            let reason = fault.reason;
            let (file, id) = (source.file.clone(), id.unwrap_or_default());
            let rejected = Rejected { file, line: at, title: place.title, id, reason };
            self.loaded.report.rejected.push(rejected);
        }
    }

    fn rule(
        &mut self,
        rule: SigmaRule,
        place: &Place<'_>,
        mut notes: Vec<String>,
    ) -> Result<(), Fault> {
        let mut meta = meta::of(&rule, &place.source.file, place.line);
        let name = rule.name.clone();
        if self.is_disabled(&meta.id) {
            self.linker.rule(&meta.id, name.as_deref(), Fate::Disabled);
            return Ok(());
        }
        let own = rule.id.is_some();
        self.is_new(&meta.id, &place.source.file)
            .map_err(|reason| if own { reason } else { reason.of_title() })?;
        let compiled = self.compiler.rule(&rule, &meta.id);
        let fate = match &compiled {
            Ok(_) => Fate::Rule(self.loaded.rules.len()),
            Err(_) => Fate::Rejected,
        };
        self.linker.rule(&meta.id, name.as_deref(), fate);
        let Compiled { expr, warnings, .. } = compiled?;
        self.ids.take(&meta.id, place.to_string());
        meta.uid = self.interner.uid(&meta.id);
        notes.extend(warnings);
        notes.extend(meta::status_note(&rule));
        self.note(place, notes);
        let (id, title, logsource) = (meta.id.clone(), rule.title, rule.logsource);
        self.targets.push(Target { id, title, name, logsource });
        self.loaded.rules.push(Rule::new(meta, expr));
        Ok(())
    }

    /// For filters that name a log source, a feed is of category network_connection.
    fn feed(&mut self, feed: &Feed, wanted: &mut Wanted<'_>) {
        self.loaded.report.warnings.extend(feed.notes());
        for FeedRule { mut meta, expr, indicators } in feed.rules() {
            wanted.see(&meta.id);
            if self.is_disabled(&meta.id) {
                self.linker.rule(&meta.id, None, Fate::Disabled);
                continue;
            }
            if let Err(reason) = self.is_new(&meta.id, &meta.file) {
                let RuleMeta { file, line, title, id, .. } = meta;
                self.loaded.report.rejected.push(Rejected { file, line, title, id, reason });
                continue;
            }
            self.linker.rule(&meta.id, None, Fate::Rule(self.loaded.rules.len()));
            self.ids.take(&meta.id, format!("{}:{}", meta.file, meta.line));
            meta.uid = self.interner.uid(&meta.id);
            let (id, title, logsource) = (meta.id.clone(), meta.title.clone(), of_flows());
            self.targets.push(Target { id, title, name: None, logsource });
            self.loaded.rules.push(Rule::of_feed(meta, expr, indicators));
        }
    }

    fn correlation(
        &mut self,
        (rule, thresholds): (Box<CorrelationRule>, Vec<Threshold>),
        place: &Place<'a>,
        notes: Vec<String>,
    ) -> Result<(), Fault> {
        let meta = meta::of_correlation(&rule, &place.source.file, place.line);
        if self.is_disabled(&meta.id) {
            self.linker.rule(&meta.id, rule.name.as_deref(), Fate::Disabled);
            return Ok(());
        }
        let own = rule.id.is_some();
        self.is_new(&meta.id, &place.source.file)
            .map_err(|reason| if own { reason } else { reason.of_title() })?;
        self.ids.take(&meta.id, place.to_string());
        let from = (place.source, place.line, place.text);
        self.linker.correlation(from, meta, (rule, thresholds), notes);
        Ok(())
    }

    fn filter(
        &mut self,
        filter: FilterRule,
        place: &Place<'_>,
        mut notes: Vec<String>,
    ) -> Result<(), Fault> {
        let id = filter.id.clone();
        if let Some(id) = &id {
            if self.is_disabled(id) {
                return Ok(());
            }
            self.is_new(id, &place.source.file)?;
        }
        let file: Arc<str> = place.source.file.as_str().into();
        let named = Named {
            id: id.clone().unwrap_or_default(),
            title: filter.title.clone(),
            file: place.source.file.clone(),
            line: place.line,
            rules: 0,
        };
        notes.extend(self.filters.add(filter, (&file, place.line), &self.compiler)?);
        self.loaded.filters.push(named);
        if let Some(id) = id {
            self.ids.take(&id, place.to_string());
        }
        self.note(place, notes);
        Ok(())
    }

    fn is_disabled(&mut self, id: &str) -> bool {
        let disabled = self.options.disable.iter().any(|off| off.eq_ignore_ascii_case(id));
        if disabled {
            self.loaded.report.disabled += 1;
            self.loaded.report.off.push(id.to_lowercase());
        }
        disabled
    }

    fn is_new(&self, id: &str, file: &str) -> Result<(), Reason> {
        match self.owner {
            None => self.ids.is_free(id),
            Some(owner) => self.ids.is_left(id, (owner, file), &self.loaded.report.rejected),
        }
    }

    fn note(&mut self, place: &Place<'_>, texts: Vec<String>) {
        let note = |text| Note {
            file: place.source.file.clone(),
            line: place.line,
            title: place.title.clone(),
            text,
        };
        self.loaded.report.warnings.extend(texts.into_iter().map(note));
    }

    /// Adds to each rule the filters that are meant for it, wherever they stood.
    fn finish(mut self, mut wanted: Wanted<'_>) -> Loaded {
        let Self { options, compiler, interner, ids, mut filters, targets, linker, .. } = self;
        let Loaded { rules, correlations, exclusions, filters: named, report } = &mut self.loaded;
        if filters.len() > 0 {
            for (rule, target) in rules.iter_mut().zip(&targets) {
                rule.change(|expr| filters.apply(target, expr));
            }
            let parts = named.iter_mut().zip(filters.applied());
            parts.for_each(|(named, rules)| named.rules = rules);
        }
        *correlations = linker.link(rules, report, interner);
        report.loaded = rules.len();
        report.filters = filters.len();
        report.rejected.extend(filters.refused());
        report.placeholders = options.placeholders.len();
        report.warnings.extend(filters.notes(&targets, options.traffic.as_deref()));
        let see = &mut |id: &str| wanted.see(id);
        *exclusions = exclusions::compile(&compiler, interner, report, &ids, see);
        report.warnings.extend(wanted.notes());
        self.loaded
    }
}

fn of_flows() -> LogSource {
    LogSource { category: Some("network_connection".to_owned()), ..LogSource::default() }
}

/// Where a document stands.
struct Place<'a> {
    source: &'a Source,
    line: u32,
    /// What the document says, from that line on.
    text: &'a str,
    title: String,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.source.file, self.line)
    }
}

/// The ids that the configuration names: a slip in one would go unseen.
struct Wanted<'a> {
    options: &'a Options,
    /// Key and id.
    ids: Vec<(&'a str, &'a str)>,
    /// In lower case, and whether it was met.
    seen: HashMap<String, bool>,
}

impl<'a> Wanted<'a> {
    fn of(options: &'a Options) -> Self {
        let lists = [("rules.enable", &options.enable), ("rules.disable", &options.disable)];
        let listed =
            lists.into_iter().flat_map(|(key, ids)| ids.iter().map(move |id| (key, &**id)));
        let named = options.named.iter().map(|(key, id)| (&**key, &**id));
        // Those of a configuration are named with their places.
        let ids: Vec<_> = if options.named.is_empty() { listed.collect() } else { named.collect() };
        let seen = ids.iter().map(|(_, id)| (id.to_ascii_lowercase(), false)).collect();
        Self { options, ids, seen }
    }

    fn see(&mut self, id: &str) {
        if !self.seen.is_empty()
            && let Some(seen) = self.seen.get_mut(&id.to_ascii_lowercase())
        {
            *seen = true;
        }
    }

    fn notes(self) -> impl Iterator<Item = Note> {
        let mut missing = self.ids;
        missing.retain(|(_, id)| self.seen.get(&id.to_ascii_lowercase()) == Some(&false));
        missing.sort_unstable();
        missing.into_iter().map(move |(key, id)| {
            let text = format!("`{id}` is the id of no rule, filter or exclusion that was found");
            let title = String::new();
            match self.options.written.place(key) {
                Some((file, line)) => {
                    let text = format!("{key}: {text}");
                    Note { file: file.to_owned(), line, title, text }
                }
                None => Note { file: key.to_owned(), line: 0, title, text },
            }
        })
    }
}
