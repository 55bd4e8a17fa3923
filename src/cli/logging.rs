//! Diagnostics on standard error.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::{Global, LogFormat};

/// Sets up logging: `WEIR_LOG` (as `RUST_LOG`) overrides the level.
pub(super) fn init(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    };
    let wanted = std::env::var("WEIR_LOG").ok().filter(|wanted| !wanted.is_empty());
    let parsed = wanted.as_ref().map(EnvFilter::try_new);
    let (filter, wrong) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(level), Some(error)),
        None => (EnvFilter::new(level), None),
    };
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Where standard error is closed, telling so on it would end the process.
    let log = log.log_internal_errors(false);
    let all = wanted.is_some() || global.verbose > 0;
    let first_hand = filter_fn(move |line| all || !is_told_by_name(line));
    // Another subscriber can only stand where a test set one: then that one is wanted.
    let set = match global.log_format {
        LogFormat::Text => {
            log.with_ansi(ansi).with_target(false).finish().with(first_hand).try_init()
        }
        LogFormat::Json => log.json().finish().with(first_hand).try_init(),
    };
    drop(set);
    if let Some(error) = wrong {
        tracing::warn!(wanted, %error, "WEIR_LOG is not understood and has no effect");
    }
}

/// Whether a library says, at every try and of nobody, what comes back to its caller as an error, too: the
/// sink tells of that by its own name, once.
fn is_told_by_name(line: &Metadata<'_>) -> bool {
    let of = |library: &str| line.target().split("::").next() == Some(library);
    of("rustls") || (of("rustls_platform_verifier") && *line.level() == Level::ERROR)
}
