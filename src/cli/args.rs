//! The command line: `weir --help` is its documentation.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::config::{Format, Select};
use crate::net::Addr;
#[cfg(feature = "spool")]
use crate::time::Micros;

/// A packet and flow sensor: NetFlow, IPFIX and packets to tagged flows.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The command line's definition, for man pages, completions and their tests.
#[must_use]
pub fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}

/// `--netflow PORT` as `--netflow=PORT`: the next argument is the port if it is a number. A file
/// of that name is given as `./2055`.
pub(super) fn with_ports(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut options = true;
    for argument in arguments {
        let port = argument.to_str().filter(|text| text.parse::<u16>().is_ok());
        match (joined.last_mut(), port) {
            (Some(last), Some(port)) if options && last == "--netflow" => {
                last.push("=");
                last.push(port);
            }
            _ => {
                options &= argument != "--";
                joined.push(argument);
            }
        }
    }
    joined
}

/// Options of every command.
#[derive(ClapArgs, Debug)]
pub(super) struct Global {
    /// Say more; twice: everything.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Say only what went wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// How diagnostics are written to standard error.
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Collect NetFlow and packets as the configuration says, until SIGTERM. SIGHUP reloads rules.
    Run {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
        config: PathBuf,
    },
    /// Detect behind many sensors: slices from Kafka in, tagged slices and alerts out, until SIGTERM.
    #[cfg(feature = "kafka")]
    Detect {
        /// The configuration; its table `[detect.engine]` says which topics.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
        config: PathBuf,
    },
    /// Run captures, captured exports or CSV through the same pipeline.
    Replay(Box<Replay>),
    /// Score every pair of addresses of a capture or of a table of flows by the sequence model.
    Score(Score),
    /// Show every message, template and record of export datagrams as JSON lines.
    Decode(Decode),
    /// Ask a running sensor who exports to it, and how well.
    Exporters(Exporters),
    /// Ask a running sensor whether it is alive, or ready; if not, the reasons, and exit code 1.
    Health(Health),
    /// Watch a running sensor: rates, losses, exporters, threads, talkers, rules. `q` quits.
    Top(Top),
    /// Check configuration, rules and files: everything short of binding.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
        config: PathBuf,
        /// Exit with 3 if any rule is rejected: a sensor starts without it.
        #[arg(long)]
        strict: bool,
    },
    /// Check and try Sigma rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Look at what waits on disk for sinks, and move their cursors.
    #[cfg(feature = "spool")]
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Show configurations.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual page.
    Man,
}

/// `weir replay`.
#[derive(ClapArgs, Debug)]
pub(super) struct Replay {
    /// pcap or pcapng captures, CSV, or slices that Weir wrote as NDJSON (all plain, gzip or zstd)
    /// or Parquet; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take settings from this configuration; its inputs and outputs are not used.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The captures contain export datagrams: to UDP port PORT, or to any port if it is left out.
    /// `--netflow PORT` is the same.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "0")]
    pub netflow: Option<u16>,
    /// Sigma rules: a file, or a directory that is searched; may be given again.
    #[arg(long, value_name = "DIR")]
    pub rules: Vec<PathBuf>,
    /// Write slices to FILE; `-` is standard output. Without it a report is printed. A file is written
    /// as FILE.part until it is whole.
    #[arg(short, long, value_name = "FILE", value_parser = output())]
    pub output: Option<PathBuf>,
    /// Format of the output; by default from its name, else NDJSON.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Which records go to the output.
    #[arg(long, value_name = "WHAT", default_value = "slices")]
    pub select: Select,
    /// Fields that go to the output, with commas between them; by default all (docs/schema.md).
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "output")]
    pub fields: Vec<String>,
    /// Write alerts, too, to FILE.
    #[arg(long, value_name = "FILE", value_parser = output())]
    pub alerts: Option<PathBuf>,
    /// Order records by (slice end, flow id, slice); holds all of them in memory.
    #[arg(long)]
    pub sorted: bool,
    /// Write the ledgers as JSON to FILE; `-` is standard output.
    #[arg(long, value_name = "FILE", value_parser = output())]
    pub summary: Option<PathBuf>,
    /// Worker threads: 1 to 64.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: u8,
    /// Idle timeout in seconds, instead of the configuration's.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub idle_timeout: Option<u32>,
    /// Active timeout in seconds, instead of the configuration's.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub active_timeout: Option<u32>,
    /// Replay in real time, times X; by default as fast as it goes.
    #[arg(long, value_name = "X", value_parser = speed)]
    pub speed: Option<f64>,
    /// Only packets that this BPF expression takes.
    #[cfg(feature = "capture")]
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Exit with 1 if a rule fired.
    #[arg(long)]
    pub fail_on_alert: bool,
}

/// Slower, a day of traffic takes more than a year.
const SPEED_MIN: f64 = 0.001;
/// Faster, sleeping makes no difference.
const SPEED_MAX: f64 = 1_000_000.0;

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if (SPEED_MIN..=SPEED_MAX).contains(&speed) => Ok(speed),
        _ => Err(format!("expected a number from {SPEED_MIN} to {SPEED_MAX}")),
    }
}

fn format_of_scores(text: &str) -> Result<Format, String> {
    match text {
        "ndjson" => Ok(Format::Ndjson),
        "csv" => Ok(Format::Csv),
        "parquet" => Ok(Format::Parquet),
        _ => Err("expected ndjson, csv or parquet".to_owned()),
    }
}

/// `weir score`.
#[derive(ClapArgs, Debug)]
pub(super) struct Score {
    /// Captures, CSV, slices that Weir wrote, or Parquet of labelled flows (model/README.md); `-` is
    /// standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write one row for each pair and window to FILE; `-` is standard output.
    #[arg(short, long, value_name = "FILE", value_parser = output())]
    pub output: PathBuf,
    /// Format of the output, ndjson, csv or parquet; by default from its name, else NDJSON.
    #[arg(long, value_name = "FORMAT", value_parser = format_of_scores)]
    pub format: Option<Format>,
    /// The captures contain export datagrams: to UDP port PORT, or to any port if it is left out.
    /// `--netflow PORT` is the same.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true,
          default_missing_value = "0")]
    pub netflow: Option<u16>,
    /// Another ONNX file than the configuration's; the JSON of the same name lies beside it.
    #[arg(long, value_name = "FILE.onnx")]
    pub model: Option<PathBuf>,
    /// Take settings from this configuration.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `weir decode`.
#[derive(ClapArgs, Debug)]
pub(super) struct Decode {
    /// Captures, or files of raw datagram payloads back to back; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The exporter's address, for files of raw payloads.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0")]
    pub exporter: Addr,
    /// Of captures: only UDP to this port.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
}

/// `weir exporters`.
#[derive(ClapArgs, Debug)]
pub(super) struct Exporters {
    /// Where the running sensor's admin listener is, instead of the configuration's.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config", value_parser = endpoint)]
    pub admin: Option<SocketAddr>,
    /// The running sensor's configuration.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
    /// A table, or all that is known as JSON.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: LogFormat,
}

/// `weir health`.
#[derive(ClapArgs, Debug)]
pub(super) struct Health {
    /// Where the running sensor's admin listener is, instead of the configuration's.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config", value_parser = endpoint)]
    pub admin: Option<SocketAddr>,
    /// The running sensor's configuration.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
    /// Whether it is ready (inputs, rules and outputs work), not only alive (no thread stands still).
    #[arg(long)]
    pub ready: bool,
}

/// `weir top`.
#[derive(ClapArgs, Debug)]
pub(super) struct Top {
    /// Where the running sensor's admin listener is, instead of the configuration's.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config", value_parser = endpoint)]
    pub admin: Option<SocketAddr>,
    /// The running sensor's configuration.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
    /// Seconds between two pictures: 1 to 60.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=60))]
    pub interval: u8,
    /// Print one picture as text, after one interval.
    #[arg(long)]
    pub once: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Compile rules; name those that are rejected, and why, and those that only feed correlations. Exit code
    /// 3 if any is rejected.
    Check {
        /// Files, or directories that are searched.
        #[arg(required = true, value_name = "DIR")]
        directories: Vec<PathBuf>,
        /// Take log sources and enabled ids from this configuration.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// For each event, print a JSON array of the ids of the rules that match, and of the
    /// correlations that it completes; null for a line that is no event. Exit code 3 if there is one,
    /// if a rule is rejected for another reason than its log source, or if none is loaded.
    Test {
        /// Files, or directories that are searched.
        #[arg(required = true, value_name = "DIR")]
        directories: Vec<PathBuf>,
        /// Flows as JSON, one a line, in any dialect; `-` is standard input.
        #[arg(long, value_name = "FILE.jsonl")]
        events: PathBuf,
        /// Take log sources, enabled ids, exclusions and home networks from this configuration: no rule
        /// looks at what an exclusion matches, so that prints `[]`, and a warning names the exclusion.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// Which spool.
#[cfg(feature = "spool")]
#[derive(ClapArgs, Debug)]
pub(super) struct SpoolPlace {
    /// The spool's directory, instead of the configuration's.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub directory: Option<PathBuf>,
    /// The configuration that names it.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
}

#[cfg(feature = "spool")]
#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// Show the segments, and how far each sink has come. Also beside a running sensor.
    List {
        /// Read every payload, too, and count what is damaged. Without, only headers are read.
        #[arg(long)]
        verify: bool,
        #[command(flatten)]
        place: SpoolPlace,
        /// Tables, or JSON.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: LogFormat,
    },
    /// Read segments: every frame with its time, counts and octets, and whether it is damaged. Also
    /// beside a running sensor.
    Inspect {
        /// Numbers of segments; all of them if none is given.
        #[arg(value_name = "SEGMENT")]
        segments: Vec<u64>,
        /// Print the records of this selection as JSON lines instead of frames.
        #[arg(long, value_name = "WHAT")]
        records: Option<Select>,
        #[command(flatten)]
        place: SpoolPlace,
        /// A table, or JSON.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: LogFormat,
    },
    /// Set a sink's cursor back: what follows is delivered again once the sensor starts. Not beside a
    /// running sensor.
    #[command(group(clap::ArgGroup::new("from").required(true).args(["segment", "since"])))]
    Replay {
        /// The sink's name.
        #[arg(value_name = "SINK")]
        sink: String,
        /// Back to the start of this segment.
        #[arg(long, value_name = "SEGMENT")]
        segment: Option<u64>,
        /// Back to what was written since this time, as in 2026-11-25T14:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = super::spool::time)]
        since: Option<Micros>,
        #[command(flatten)]
        place: SpoolPlace,
        /// A line, or JSON.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: LogFormat,
    },
    /// Move a sink's cursor forward: what it passes over is never delivered to this sink, and counted
    /// as shed once the sensor starts. Not beside a running sensor.
    #[command(group(clap::ArgGroup::new("to").required(true).args(["segment", "until", "all"])))]
    Drop {
        /// The sink's name.
        #[arg(value_name = "SINK")]
        sink: String,
        /// Drop what stands before this segment.
        #[arg(long, value_name = "SEGMENT")]
        segment: Option<u64>,
        /// Drop what was written before this time, as in 2026-11-25T14:00:00Z.
        #[arg(long, value_name = "TIME", value_parser = super::spool::time)]
        until: Option<Micros>,
        /// Drop everything that waits for the sink.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        place: SpoolPlace,
        /// A line, or JSON.
        #[arg(long, value_name = "FORMAT", default_value = "text")]
        format: LogFormat,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the default configuration, with comments.
    Default,
    /// Print the effective configuration: every key, defaults filled in.
    Show {
        /// The configuration.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
        config: PathBuf,
    },
}

macro_rules! value_enum {
    ($type:ty: $($variant:ident = $name:literal),*) => {
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),*]
            }
            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                Some(clap::builder::PossibleValue::new(match self {
                    $(Self::$variant => $name),*
                }))
            }
        }
    };
}

value_enum!(
    Format: Ndjson = "ndjson",
    Csv = "csv",
    Parquet = "parquet",
    Detectflow = "detectflow",
    Ecs = "ecs",
    Ocsf = "ocsf",
    Protobuf = "protobuf",
    Cef = "cef"
);
value_enum!(Select: Slices = "slices", Tagged = "tagged", Alerts = "alerts");

/// An address and a port, or a name that has one.
fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let wrong = |error: std::io::Error| format!("{error}: expected host:port, e.g. localhost:9477");
    let all: Vec<SocketAddr> = text.to_socket_addrs().map_err(wrong)?.collect();
    // A listener of this host has an address of IPv4, by default.
    let first = all.iter().find(|address| address.is_ipv4()).or_else(|| all.first());
    first.copied().ok_or_else(|| format!("`{text}` has no address"))
}

/// Where an output goes. The names of standard output are `-`: what lies behind one is not replaced
/// as a file is.
fn output() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| {
        let names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
        if names.iter().any(|name| path.as_os_str() == *name) { PathBuf::from("-") } else { path }
    })
}
