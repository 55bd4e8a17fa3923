//! The octets of an object, between the encoder that writes them and the parts that they go in.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression as Level;
use flate2::write::GzEncoder;

use crate::config::Format;
use crate::config::output::Compression;

/// What zstd is asked for: a third level costs half as much again for a few octets.
const ZSTD_LEVEL: i32 = 3;

/// What was encoded and not yet taken.
#[derive(Clone, Default)]
pub(super) struct Body(Arc<Mutex<Vec<u8>>>);

impl Body {
    /// A writer into it that compresses: of the same octets in the same writes come the same.
    pub(super) fn writer(&self, format: Format, compression: Compression) -> io::Result<Writer> {
        Ok(match compression {
            // Parquet compresses its pages itself.
            _ if format == Format::Parquet => Writer::Plain(self.clone()),
            Compression::None => Writer::Plain(self.clone()),
            Compression::Gzip => Writer::Gzip(GzEncoder::new(self.clone(), Level::fast())),
            Compression::Zstd => {
                Writer::Zstd(zstd::stream::Encoder::new(self.clone(), ZSTD_LEVEL)?)
            }
        })
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The first `octets`, or what there is.
    pub(super) fn take(&self, octets: usize) -> Vec<u8> {
        let mut body = self.lock();
        let octets = octets.min(body.len());
        let rest = body.split_off(octets);
        std::mem::replace(&mut *body, rest)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Body {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes into a [`Body`].
pub(super) enum Writer {
    Plain(Body),
    Gzip(GzEncoder<Body>),
    Zstd(zstd::stream::Encoder<'static, Body>),
}

impl Writer {
    /// Writes what the compression ends with.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Gzip(writer) => writer.finish().map(drop),
            Self::Zstd(writer) => writer.finish().map(drop),
        }
    }
}

impl Write for Writer {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(octets),
            Self::Gzip(writer) => writer.write(octets),
            Self::Zstd(writer) => writer.write(octets),
        }
    }

    /// Nothing: a flush in the middle would only cost compression.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
