//! The commands.
//!
//! Data goes to standard output, diagnostics to standard error. Exit codes: 0 done; 1 findings
//! (`replay --fail-on-alert`, `health`); 2 usage; 3 configuration, rules, input or output not usable; 70 a fault of
//! ours; 130 ended at once by a second signal. A reader that closes its pipe is no failure.

mod args;
mod check;
mod decode;
mod exporters;
mod health;
mod logging;
mod man;
mod replay;
mod report;
mod rules;
mod score;
#[cfg(feature = "spool")]
mod spool;
mod top;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::service;
use args::{Args, Command, ConfigCommand, RulesCommand};

pub use args::command;

/// Done, with findings.
const FINDINGS: u8 = 1;
/// Configuration, rules, input or output are not usable.
const INVALID: u8 = 3;
/// A fault of ours.
const INTERNAL: u8 = 70;

/// How a command ends when it does not succeed.
#[derive(Debug)]
enum Failure {
    /// The user's input is wrong; the message says what, where and what was expected.
    Invalid(String),
    /// The operating system refused something.
    Io(io::Error),
    /// The command ran and has findings, which it printed.
    Findings,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Parses the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    // No command for users: what a sensor starts to try a model.
    #[cfg(feature = "model")]
    if std::env::args_os().nth(1).is_some_and(|first| first == service::trial::COMMAND) {
        return match service::trial::run() {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(refused)) => fail(&refused.to_string(), INVALID),
            Err(error) => fail(&error.to_string(), INTERNAL),
        };
    }
    let args = Args::parse_from(args::with_ports(std::env::args_os()));
    logging::init(&args.global);
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Findings) => ExitCode::from(FINDINGS),
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(error)) => fail(&error.to_string(), exit_code(&error)),
        Err(Failure::Invalid(message)) => fail(&message, INVALID),
    }
}

/// What the user can mend is invalid input; the rest is not.
fn exit_code(error: &io::Error) -> u8 {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound
        | Kind::PermissionDenied
        | Kind::InvalidInput
        | Kind::InvalidData
        | Kind::IsADirectory
        | Kind::NotADirectory
        | Kind::StorageFull
        | Kind::QuotaExceeded
        | Kind::FileTooLarge
        | Kind::ReadOnlyFilesystem
        | Kind::AddrInUse
        | Kind::AddrNotAvailable
        | Kind::ConnectionRefused => INVALID,
        _ => INTERNAL,
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // If standard error is gone, the exit code still tells.
    drop(writeln!(io::stderr(), "weir: {message}"));
    ExitCode::from(code)
}

fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Run { config } => ended(service::run::run(&config)),
        #[cfg(feature = "kafka")]
        Command::Detect { config } => ended(service::detect::run(&config)),
        Command::Replay(replay) => replay::run(&replay),
        Command::Score(score) => score::run(&score),
        Command::Decode(decode) => decode::run(&decode),
        Command::Exporters(exporters) => exporters::run(&exporters),
        Command::Health(health) => health::run(&health),
        Command::Top(top) => top::run(&top),
        Command::Check { config, strict } => check::run(&config, strict),
        Command::Rules(RulesCommand::Check { directories, config }) => {
            rules::check(&directories, config.as_deref())
        }
        Command::Rules(RulesCommand::Test { directories, events, config }) => {
            rules::test(&directories, &events, config.as_deref())
        }
        #[cfg(feature = "spool")]
        Command::Spool(command) => spool::run(&command),
        Command::Config(ConfigCommand::Default) => {
            print(include_str!("../../config/weir.toml").as_bytes())
        }
        Command::Config(ConfigCommand::Show { config }) => {
            print(load(&config)?.to_toml().as_bytes())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "weir", &mut script);
            print(&script)
        }
        Command::Man => print(&man::page(&Args::command())?),
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Where a running sensor's admin listener is: as given, else as `config` says.
fn admin_address(
    given: Option<std::net::SocketAddr>,
    config: &std::path::Path,
) -> Result<std::net::SocketAddr, Failure> {
    match given {
        Some(address) => Ok(address),
        None => load(config)?.admin.listen.ok_or_else(|| {
            Failure::Invalid(format!("{}: admin.listen is not set", config.display()))
        }),
    }
}

fn load(path: &std::path::Path) -> Result<crate::config::Config, Failure> {
    service::load::config(path).map_err(|error| Failure::Invalid(error.to_string()))
}

/// Tells the final ledgers of a service that ended.
fn ended(result: Result<crate::metrics::Ledgers, service::run::RunError>) -> Result<(), Failure> {
    use service::run::RunError;
    let ledgers = result.map_err(|error| match error {
        RunError::Io(error) => Failure::Io(error),
        other => Failure::Invalid(other.to_string()),
    })?;
    let text = serde_json::to_string(&ledgers).map_err(io::Error::from)?;
    tracing::info!(ledgers = text, "stopped");
    Ok(())
}
