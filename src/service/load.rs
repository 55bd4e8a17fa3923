//! Configuration and rules from files, and what changed between two of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Config, Problem};
use crate::detect::sigma::{Options, Source};
use crate::detect::suppress;
use crate::flow::params::Params;
use crate::output::schema;
use crate::pipeline::affinity;
use crate::pipeline::feeds::{FeedFileError, Feeds};
use crate::pipeline::rules::{self, Refused};
use crate::pipeline::sequences::LoadModelError;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its content is wrong; one line each.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// A directory or file of rules cannot be read.
    #[error("{0}")]
    Rules(io::Error),
    /// A feed cannot be used.
    #[error(transparent)]
    Feed(#[from] FeedFileError),
    /// The sequence model cannot be used.
    #[error(transparent)]
    Model(#[from] LoadModelError),
    /// Rules whose versions in force would be lost.
    #[error("{}", lines(.0))]
    Invalid(Vec<Refused>),
    /// A key that only a restart changes.
    #[error("{0}: only a restart changes these keys; the configuration in force stays")]
    Restart(String),
}

fn lines(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads and checks the configuration in `path`. Relative paths in it are taken from its folder.
///
/// # Errors
/// [`LoadError::Read`], [`LoadError::Problems`].
pub fn config(path: &Path) -> Result<Config, LoadError> {
    checked(path, |_| Vec::new())
}

/// As [`config`], with what only the start of a sensor on this host would find: cores that are not
/// there, and no input.
///
/// # Errors
/// As [`config`].
pub fn startable(path: &Path) -> Result<Config, LoadError> {
    checked(path, |config| {
        let mut problems = Vec::new();
        let problem = |key: &str, message: String| {
            let key = key.to_owned();
            Problem { file: String::new(), line: None, key, message }
        };
        if let Err(error) = affinity::place(&config.sensor.workers, config.sensor.pin, None) {
            let message = error.to_string();
            let message = message.strip_prefix("sensor.workers: ").unwrap_or(&message).to_owned();
            problems.push(problem("sensor.workers", message));
        }
        if let Err(message) = fits_address_space(config) {
            problems.push(problem("flow.entries_max", message));
        }
        let input = &config.input;
        let reads = !input.netflow.listen.is_empty() || input.capture.is_some();
        if !reads && config.detect.engine.is_none() {
            let message = "is empty, and there is no [input.capture]: there is nothing to read";
            problems.push(problem("input.netflow.listen", message.to_owned()));
        }
        problems
    })
}

/// A capture filter that does not compile.
fn filter(config: &Config) -> Vec<Problem> {
    #[cfg(feature = "capture")]
    if let Some(capture) = config.input.capture.as_ref().filter(|c| !c.filter.is_empty())
        && let Err(error) = crate::input::capture::Filter::new(&capture.filter)
    {
        let (key, message) = ("input.capture.filter".to_owned(), error.to_string());
        return vec![Problem { file: String::new(), line: None, key, message }];
    }
    #[cfg(not(feature = "capture"))]
    let _ = config;
    Vec::new()
}

fn checked(path: &Path, more: impl FnOnce(&Config) -> Vec<Problem>) -> Result<Config, LoadError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| LoadError::Read { path: path.to_owned(), error })?;
    let name = path.display().to_string();
    let config = config::parse_with(&name, &text, |config| {
        let known = [suppress::check(&config.rules), schema::check_fields(config), filter(config)];
        [known.concat(), more(config)].concat()
    });
    let mut config = config.map_err(LoadError::Problems)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let absolute = |place: &mut PathBuf| *place = folder.join(&*place);
    config.rules.directories.iter_mut().for_each(absolute);
    config.rules.feed.iter_mut().for_each(|feed| absolute(&mut feed.path));
    config.rules.exclusions.iter_mut().for_each(absolute);
    config.rules.placeholders.iter_mut().for_each(absolute);
    config.model.file.iter_mut().for_each(absolute);
    config.output.paths(&mut { absolute });
    config.detect.engine.iter_mut().for_each(|engine| engine.paths(&mut { absolute }));
    absolute(&mut config.spool.directory);
    absolute(&mut config.sensor.state_directory);
    Ok(config)
}

/// Looks at what the sinks of `config`, which was read from `path`, are to be made of: secrets,
/// certificates, settings of clients. Whoever is about to run `starts`: what the service manager did not
/// hand over is missing then. Else it is given, a line each.
///
/// # Errors
/// [`LoadError::Problems`].
#[cfg(feature = "spool")]
pub fn preflight(path: &Path, config: &Config, starts: bool) -> Result<Vec<String>, LoadError> {
    let mut findings = crate::output::remote::preflight::check(config);
    if starts {
        findings.problems.append(&mut findings.unseen);
    }
    locate(path, &mut findings.problems);
    locate(path, &mut findings.unseen);
    if findings.problems.is_empty() {
        Ok(findings.unseen.iter().map(ToString::to_string).collect())
    } else {
        Err(LoadError::Problems(findings.problems))
    }
}

/// There is nothing to look at.
#[cfg(not(feature = "spool"))]
pub fn preflight(_: &Path, _: &Config, _: bool) -> Result<Vec<String>, LoadError> {
    Ok(Vec::new())
}

/// Gives `problems` the lines of their keys in the file at `path`.
pub fn locate(path: &Path, problems: &mut [Problem]) {
    // It was read just now; without it the keys stand alone.
    let text = fs::read_to_string(path).unwrap_or_default();
    config::locate(&path.display().to_string(), &text, problems);
}

/// As [`config`], for a sensor: where rules run in an engine behind it, it has none of its own.
///
/// # Errors
/// As [`config`].
pub fn sensor(path: &Path) -> Result<Config, LoadError> {
    let mut config = config(path)?;
    if config.detect.at == config::detect::At::Engine {
        config.rules = config::Rules::default();
    }
    Ok(config)
}

/// Reads the rules and feeds that `config` names, and what they are compiled with. Feeds that stand
/// as they stood are not read again.
///
/// # Errors
/// [`LoadError::Rules`], [`LoadError::Feed`].
pub fn rules(config: &Config, feeds: &mut Feeds) -> Result<(Vec<Source>, Options), LoadError> {
    let gathered = rules::gather(config).map_err(|error| match error.to_string() {
        keyed if keyed.starts_with("rules.") => LoadError::Rules(error),
        text => {
            let text = format!("rules.directories: {text}");
            LoadError::Rules(io::Error::new(error.kind(), text))
        }
    });
    let (sources, mut options) = gathered?;
    options.feeds = feeds.read(&config.rules.feed)?;
    Ok((sources, options))
}

/// Whether `new` can take the place of `old` without a restart.
///
/// # Errors
/// [`LoadError::Restart`] with the keys that cannot.
pub fn reloadable(old: &Config, new: &Config) -> Result<(), LoadError> {
    let table = |config: &Config| {
        let mut table = toml::Table::try_from(config).unwrap_or_default();
        table.remove("rules");
        // What workers may hold is made at the start.
        if let Some(toml::Value::Table(model)) = table.get_mut("model") {
            let held = |key: &str| ["pairs_max", "connections_max"].contains(&key);
            model.retain(|key, _| held(key));
        }
        toml::Value::Table(table)
    };
    let mut changed = Vec::new();
    differences(String::new(), &table(old), &table(new), &mut changed);
    if changed.is_empty() { Ok(()) } else { Err(LoadError::Restart(changed.join(", "))) }
}

fn differences(key: String, old: &toml::Value, new: &toml::Value, changed: &mut Vec<String>) {
    let (toml::Value::Table(a), toml::Value::Table(b)) = (old, new) else {
        if old != new {
            changed.push(key);
        }
        return;
    };
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        match (a.get(name), b.get(name)) {
            (Some(old), Some(new)) => differences(below, old, new, changed),
            _ => changed.push(below),
        }
    }
}

/// Warns if a full flow table would leave less than a quarter of the memory of this host, or of the
/// control group of this process. Returns the MiB that it takes.
pub fn warn_of_memory(config: &Config) -> u64 {
    let (flows, octets) = (config.flow.entries_max, Params::from_config(config).table_octets());
    let mebibytes = octets >> 20;
    if let Some(there) = memory().filter(|there| octets > there / 4 * 3) {
        let of_mebibytes = there >> 20;
        tracing::warn!(
            flows,
            mebibytes,
            of_mebibytes,
            "flow.entries_max is too much for this host: a full flow table leaves less than a quarter \
             of its memory, and the kernel would end the sensor"
        );
    }
    mebibytes
}

/// Whether the address space that this process may have, by `RLIMIT_AS`, holds the flow table: it is
/// taken at the start, and a process that gets none ends.
fn fits_address_space(config: &Config) -> Result<(), String> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let octets = Params::from_config(config).table_octets();
    let Some(limit) = address_space(&limits).filter(|&limit| limit < octets) else { return Ok(()) };
    let flows = config.flow.entries_max;
    let (takes, has) = (octets >> 20, limit >> 20);
    Err(format!(
        "is {flows}, which takes {takes} MiB of address space, expected at most the {has} MiB that \
         this process may have (RLIMIT_AS, LimitAS=)"
    ))
}

/// The limit of a process's address space that is in force, if there is one.
fn address_space(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Octets of memory that this process may have, where the kernel tells: of the host, or of its control
/// group or one around it, if that has less.
fn memory() -> Option<u64> {
    let host = fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_of_host(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    host.into_iter().chain(group_limit(Path::new("/sys/fs/cgroup"), group.unwrap_or(""))).min()
}

/// The least limit of memory of `group` and of all around it, up to `root`.
fn group_limit(root: &Path, group: &str) -> Option<u64> {
    let of = |group: &Path| -> Option<u64> {
        fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok()
    };
    Path::new(group).ancestors().filter_map(of).min()
}

fn memory_of_host(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_memory_is_read() {
        let text = "MemTotal:       24737824 kB\nMemFree:         9 kB\n";
        assert_eq!(memory_of_host(text), Some(24_737_824 << 10));
        assert_eq!(memory_of_host("MemTotal: lots"), None);
        assert!(memory().is_some_and(|octets| octets > 64 << 20), "{:?}", memory());
    }

    #[test]
    fn the_limit_of_address_space_is_read() {
        let text = |limit: &str| {
            format!(
                "Limit       Soft Limit  Hard Limit  Units\nMax address space  {limit}  unlimited  bytes\n"
            )
        };
        assert_eq!(address_space(&text("1500000000")), Some(1_500_000_000));
        assert_eq!(address_space(&text("unlimited")), None);
        assert_eq!(address_space(""), None);
    }

    #[test]
    fn the_least_limit_of_all_control_groups_holds() {
        let root = tempfile::tempdir().expect("a folder");
        let group = root.path().join("system.slice/weir.service");
        fs::create_dir_all(&group).expect("made");
        for (own, around, want) in [
            (Some("max"), Some("max"), None),
            (Some("4096"), Some("max"), Some(4_096)),
            (Some("4096"), Some("1024"), Some(1_024)),
            (None, Some("1024"), Some(1_024)),
        ] {
            for (folder, limit) in [(group.as_path(), own), (group.parent().expect("one"), around)]
            {
                let file = folder.join("memory.max");
                match limit {
                    Some(limit) => fs::write(file, format!("{limit}\n")).expect("written"),
                    None => fs::remove_file(file).expect("removed"),
                }
            }
            let found = group_limit(root.path(), "system.slice/weir.service");
            assert_eq!(found, want, "{own:?} in {around:?}");
        }
    }

    #[test]
    fn only_rules_and_model_are_reloaded() {
        let old = Config::default();
        let mut new = old.clone();
        new.rules.disable.push("x".into());
        new.model.alerts_per_1000_hosts_day = 3.0;
        assert!(reloadable(&old, &new).is_ok());
        new.flow.linger_s = 9;
        new.model.pairs_max = 64;
        new.site.push(config::Site { name: "a".into(), exporters: Vec::new() });
        let error = reloadable(&old, &new).expect_err("needs a restart").to_string();
        assert!(
            error.starts_with("flow.linger_s, model.pairs_max, site: only a restart"),
            "{error}"
        );
    }
}
