//! `weir decode`: what an exporter really sends, line by line.

use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Failure;
use super::args::Decode;
use crate::config;
use crate::decode::netflow::inspect::{Inspector, Line, payloads};
use crate::input::pcap::Reader;
use crate::input::source::{Kind, Source};
use crate::pipeline::replay::{Exports, export_payload};

/// A file of raw payloads is read whole; it may have at most so many octets.
const RAW_OCTETS_MAX: u64 = 1 << 30;

pub(super) fn run(args: &Decode) -> Result<(), Failure> {
    let mut out = Lines { out: BufWriter::new(io::stdout().lock()), error: None };
    let mut inspector = Inspector::new(config::Netflow::default());
    for path in &args.files {
        let mut source = Source::open(path, Arc::new(AtomicU64::new(0)))?;
        match source.kind()? {
            Kind::Capture => capture(args, path, source, &mut inspector, &mut out)?,
            Kind::Empty => {
                let what = "is empty, expected a capture or export datagrams";
                let message = format!("{}: {what}", path.display());
                // One among others is what a rotation leaves.
                if args.files.len() == 1 {
                    return Err(Failure::Invalid(message));
                }
                tracing::warn!("{message}");
            }
            _ => raw(args, path, source, &mut inspector, &mut out)?,
        }
        out.check()?;
    }
    inspector.finish(&mut |line| out.line(&line));
    out.check()?;
    Ok(out.out.flush()?)
}

/// Lines to standard output. The inspector cannot be stopped by an error: it is kept.
struct Lines<W: Write> {
    out: W,
    error: Option<io::Error>,
}

impl<W: Write> Lines<W> {
    fn line(&mut self, line: &Line) {
        if self.error.is_none() {
            let written = serde_json::to_writer(&mut self.out, line).map_err(io::Error::from);
            self.error = written.and_then(|()| self.out.write_all(b"\n")).err();
        }
    }

    fn check(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}

fn capture(
    args: &Decode,
    path: &Path,
    source: Source,
    inspector: &mut Inspector,
    out: &mut Lines<impl Write>,
) -> Result<(), Failure> {
    let broken = |error| Failure::Invalid(format!("{}: {error}", path.display()));
    let mut reader = Reader::new(source).map_err(broken)?;
    let exports = args.port.map_or(Exports::Any, Exports::Port);
    let mut found = 0_u64;
    while let Some(packet) = reader.next().map_err(broken)? {
        let Some(((address, port), payload)) = export_payload(packet.link, packet.data, exports)
        else {
            continue;
        };
        found += 1;
        inspector.datagram(address, port, packet.offset, payload, &mut |line| out.line(&line));
        out.check()?;
    }
    if found == 0 {
        tracing::warn!("{}: no UDP datagram looks like an export", path.display());
    }
    Ok(())
}

fn raw(
    args: &Decode,
    path: &Path,
    source: Source,
    inspector: &mut Inspector,
    out: &mut Lines<impl Write>,
) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    source.take(RAW_OCTETS_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > RAW_OCTETS_MAX {
        let message = format!("{}: over {RAW_OCTETS_MAX} octets of raw payloads", path.display());
        return Err(Failure::Invalid(message));
    }
    for (offset, payload) in payloads(&bytes) {
        inspector.datagram(args.exporter, 0, offset, payload, &mut |line| out.line(&line));
        out.check()?;
    }
    Ok(())
}
