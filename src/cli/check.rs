//! `weir check`: everything short of binding.

use std::fs;
use std::path::Path;

use super::Failure;
use crate::config::{Config, Problem};
use crate::detect::sigma::{Interner, LoadReport, RuleSet};
use crate::pipeline::feeds::Feeds;
use crate::service;

pub(super) fn run(path: &Path, strict: bool) -> Result<(), Failure> {
    let config =
        service::load::startable(path).map_err(|error| Failure::Invalid(error.to_string()))?;
    let mut problems = Vec::new();
    let rules = match service::load::rules(&config, &mut Feeds::default()) {
        Ok((sources, options)) => {
            let set = RuleSet::compile(&sources, &options, &mut Interner::default());
            tell(set.report(), strict, &mut problems)
        }
        Err(error) => {
            problems.push(error.to_string());
            String::new()
        }
    };
    if let Err(error) = service::trial::book(&config) {
        problems.push(error.to_string());
    }
    match service::load::preflight(path, &config, false) {
        Ok(unseen) => unseen.iter().for_each(|line| tracing::warn!("{line}: not looked at")),
        Err(error) => problems.push(error.to_string()),
    }
    let mut places = Vec::new();
    directories(&config, &mut places);
    service::load::locate(path, &mut places);
    problems.extend(places.iter().map(ToString::to_string));
    service::load::warn_of_memory(&config);
    if !problems.is_empty() {
        return Err(Failure::Invalid(problems.join("\nweir: ")));
    }
    let outputs = outputs(&config);
    super::print(format!("{}: valid; {rules}, {outputs}\n", path.display()).as_bytes())
}

/// Names what is rejected, and what to know of the rest; where it is strict, what is rejected is a
/// problem: a sensor starts without it. The sums. Rejected rules are what was asked for, so `--quiet`
/// does not hide them.
fn tell(report: &LoadReport, strict: bool, problems: &mut Vec<String>) -> String {
    for rejected in &report.rejected {
        if strict {
            problems.push(rejected.to_string());
        } else {
            tracing::error!("{rejected}");
        }
    }
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(none) = report.no_rule() {
        tracing::warn!("{none}");
    }
    let mut sums = format!("{} rules", report.loaded);
    let others = [
        (report.correlations, "correlations"),
        (report.filters, "filters"),
        (report.exclusions, "exclusions"),
        (report.placeholders, "placeholders"),
        (report.rejected.len(), "rejected"),
        (report.disabled, "disabled"),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        sums += &format!(", {count} {what}");
    }
    sums
}

/// How many outputs there are, and of which kinds.
fn outputs(config: &Config) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    let tables: Vec<_> = config.output.tables().map(|(_, table)| table.kind()).collect();
    let tees = config.output.tee.iter().map(|_| "tee");
    // A detector writes to topics.
    let engine = config.detect.engine.iter().map(|_| "engine");
    for kind in tables.into_iter().chain(tees).chain(engine) {
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let all: usize = kinds.iter().map(|(_, count)| count).sum();
    let named: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    match named.is_empty() {
        true => format!("{all} outputs"),
        false => format!("{all} outputs ({})", named.join(", ")),
    }
}

/// Directories that the sensor writes to: each must exist or have a parent that takes it, and
/// take a file.
fn directories(config: &Config, problems: &mut Vec<Problem>) {
    let files = config.output.files.iter().enumerate();
    let outputs = files.map(|(i, f)| (format!("output.files[{i}].directory"), &f.directory));
    let state = ("sensor.state_directory".to_owned(), &config.sensor.state_directory);
    let spool = config.output.spooled();
    let spool = spool.then(|| ("spool.directory".to_owned(), &config.spool.directory));
    for (key, directory) in outputs.chain([state]).chain(spool) {
        let mut add = |message| {
            problems.push(Problem { file: String::new(), line: None, key: key.clone(), message });
        };
        let mut standing = directory.as_path();
        while !standing.exists() {
            match standing.parent() {
                Some(parent) if parent.as_os_str().is_empty() => standing = Path::new("."),
                Some(parent) => standing = parent,
                None => break,
            }
        }
        if !standing.is_dir() {
            let what = format!("{} is not a directory", standing.display());
            add(format!("{}: {what}", directory.display()));
        } else if let Err(error) = probe(standing) {
            add(format!("{}: {error}", standing.display()));
        } else if key == "spool.directory" {
            spool_room(config, standing);
        }
    }
}

fn probe(directory: &Path) -> std::io::Result<()> {
    let file = directory.join(format!(".weir-check-{}", std::process::id()));
    // A full disk takes a name, and no octets.
    let written = fs::write(&file, [0; 4096]);
    let removed = fs::remove_file(&file);
    written.and(removed)
}

/// Warns where the disk at `place` would be full before the spool is.
fn spool_room(config: &Config, place: &Path) {
    let Ok(free) = crate::output::files::free(place) else { return };
    let files = fs::read_dir(config.spool.directory.join("segments")).into_iter().flatten();
    let octets = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    let most = config.spool.bytes_max.saturating_sub(octets.sum());
    if free < most {
        let directory = config.spool.directory.display();
        tracing::warn!(
            "spool.bytes_max: the spool in {directory} may take {most} octets more, and {free} are free: the \
             disk is full before `spool.full` has a say"
        );
    }
}
