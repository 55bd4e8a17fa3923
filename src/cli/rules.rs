//! `weir rules`: check and try Sigma rules.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Failure, load};
use crate::config::Config;
use crate::decode::slices::{self, SliceError};
use crate::detect::sigma::correlate::Rehearsal;
use crate::detect::sigma::{Event, Interner, LoadReport, Reason, Rejected, RuleSet, names};
use crate::input::source::Source;
use crate::output::Context;
use crate::pipeline::{feeds, rules};

/// Lines that are no events and are named, at most.
const NAMED_MAX: usize = 10;

fn compile(directories: &[PathBuf], config: Option<&Path>) -> Result<(RuleSet, Config), Failure> {
    let mut config = config.map(load).transpose()?.unwrap_or_default();
    config.rules.directories = directories.to_vec();
    let (sources, mut options) = rules::gather(&config)?;
    if sources.is_empty() && options.unreadable.is_empty() {
        let names: Vec<String> = directories.iter().map(|d| d.display().to_string()).collect();
        let message = format!("{}: no rule files (*.yml, *.yaml)", names.join(", "));
        return Err(Failure::Invalid(message));
    }
    let feeds = feeds::read(&config.rules.feed);
    options.feeds = feeds.map_err(|error| Failure::Invalid(error.to_string()))?;
    let set = RuleSet::compile(&sources, &options, &mut Interner::default());
    Ok((set, config))
}

pub(super) fn check(directories: &[PathBuf], config: Option<&Path>) -> Result<(), Failure> {
    let (set, _) = compile(directories, config)?;
    super::print(format!("{}\n", set.report()).as_bytes())?;
    verdict(set.report().rejected.len())
}

fn verdict(rejected: usize) -> Result<(), Failure> {
    match rejected {
        0 => Ok(()),
        1 => Err(Failure::Invalid("1 rule is rejected".into())),
        more => Err(Failure::Invalid(format!("{more} rules are rejected"))),
    }
}

pub(super) fn test(
    directories: &[PathBuf],
    events: &Path,
    config: Option<&Path>,
) -> Result<(), Failure> {
    let (set, config) = compile(directories, config)?;
    for rejected in &set.report().rejected {
        tracing::error!("{rejected}");
    }
    for warning in &set.report().warnings {
        tracing::warn!("{warning}");
    }
    let source = Source::open(events, Arc::default())?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut rehearsal = Rehearsal::new(&set);
    let sites = Context::of(&config).sites;
    let (mut bad, mut told, mut excluded) = (0, HashSet::new(), 0);
    for (number, line) in BufReader::new(source).split(b'\n').enumerate() {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        // Some editors begin a file with a byte order mark.
        let line = if number == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        if line.trim().is_empty() {
            continue;
        }
        let event = match event(line, &config, &sites) {
            Ok(event) => event,
            Err(error) => {
                bad += 1;
                if bad <= NAMED_MAX {
                    tracing::error!("{}:{}: {error}", events.display(), number + 1);
                }
                out.write_all(b"null\n")?;
                continue;
            }
        };
        for key in &event.unknown {
            if let Some(near) = names::near(key).filter(|_| told.insert(key.clone())) {
                let (file, line) = (events.display(), number + 1);
                tracing::warn!("{file}:{line}: no rule sees `{key}` (did you mean `{near}`?)");
            }
        }
        if let Some(by) = set.exclusions().iter().find(|by| by.holds(&event.record())) {
            excluded += 1;
            if excluded <= NAMED_MAX {
                let (file, line, title) = (events.display(), number + 1, &by.meta.title);
                tracing::warn!("{file}:{line}: exclusion `{title}` keeps it from every rule");
            }
            out.write_all(b"[]\n")?;
            continue;
        }
        let (hits, alerts) = rehearsal.event(&event);
        let rules = hits.into_iter().map(|hit| set.rule(hit).meta.id.as_str());
        let ids: Vec<&str> = rules.chain(alerts.iter().map(|alert| &*alert.rule.id)).collect();
        serde_json::to_writer(&mut out, &ids).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    if excluded > NAMED_MAX {
        tracing::warn!("{}: exclusions keep {excluded} lines from every rule", events.display());
    }
    match bad {
        0 if let Some(none) = set.report().no_rule() => Err(Failure::Invalid(none.to_owned())),
        0 => verdict(failed(set.report())),
        1 => Err(Failure::Invalid(format!("{}: 1 line is no event", events.display()))),
        more => Err(Failure::Invalid(format!("{}: {more} lines are no events", events.display()))),
    }
}

/// Rules that are rejected for another reason than that they are none of flows, as most of a public tree.
fn failed(report: &LoadReport) -> usize {
    let fails = |rejected: &&Rejected| !matches!(rejected.reason, Reason::Logsource(_));
    report.rejected.iter().filter(fails).count()
}

/// A line that tells of a flow: a slice that Weir wrote, or an event in any of the dialects.
fn event(line: &str, config: &Config, sites: &[String]) -> Result<Event, String> {
    match slices::decode(line.as_bytes(), sites) {
        Ok(slice) => Ok(Event::of(slice.flow)),
        Err(SliceError::NotASlice | SliceError::Json { .. } | SliceError::CutShort) => {
            let event = Event::parse_with(line, &config.networks.home, sites);
            event.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}
