//! One type over all formats: what a sink writes records with.

use std::io::{self, Write};

use super::format;
use super::schema::{Context, Layout, Record, Row, Shown, Stream};
use crate::config::Format;
use crate::detect::{Alert, TaggedSlice};

/// Encodes the records of one stream into `W`: one file, one object, or one pipe.
///
/// All but Parquet reach `W` by the end of each call; Parquet when a row group is full and at
/// [`finish`](Self::finish). After an error nothing more may be written, and what reached `W` of
/// the failing call is not whole.
pub struct Encoder<W: Write + Send> {
    stream: Stream,
    form: Form<W>,
}

enum Form<W: Write + Send> {
    Lines(Box<Lines<W>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<super::parquet::Writer<W>>),
}

struct Lines<W> {
    format: format::Writer,
    /// What the format begins with has been written.
    begun: bool,
    buffer: Vec<u8>,
    writer: W,
    octets: u64,
}

impl<W: Write + Send> Encoder<W> {
    /// An encoder of `layout` in `format`. Writes nothing yet, but for the magic of Parquet.
    ///
    /// # Errors
    /// Of `writer`; [`io::ErrorKind::Unsupported`] for Parquet in a build without it, and for
    /// protobuf of alerts.
    pub fn new(format: Format, layout: &Layout, writer: W) -> io::Result<Self> {
        let stream = layout.stream();
        let unsupported = |message: String| io::Error::new(io::ErrorKind::Unsupported, message);
        if format == Format::Parquet {
            #[cfg(feature = "parquet")]
            {
                let writer = Box::new(super::parquet::Writer::new(layout, writer)?);
                return Ok(Self { stream, form: Form::Parquet(writer) });
            }
            #[cfg(not(feature = "parquet"))]
            return Err(unsupported("this build has no feature `parquet`".to_owned()));
        }
        let format = format::Writer::new(format, layout);
        let format = format.map_err(|error| unsupported(error.to_string()))?;
        let form = Lines { format, begun: false, buffer: Vec::new(), writer, octets: 0 };
        let form = Form::Lines(Box::new(form));
        Ok(Self { stream, form })
    }

    /// Writes `records`, which must be of this encoder's stream.
    ///
    /// # Errors
    /// Of the writer.
    pub fn records<R: Record>(&mut self, records: impl Iterator<Item = R>) -> io::Result<()> {
        match &mut self.form {
            Form::Lines(lines) => lines.records(records),
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.records(records),
        }
    }

    /// Writes `rows` as `context` names things.
    ///
    /// # Errors
    /// Of the writer.
    pub fn rows<'a>(
        &mut self,
        rows: impl Iterator<Item = Row<'a>>,
        context: &Context,
    ) -> io::Result<()> {
        self.records(rows.map(|row| Shown::new(row, context)))
    }

    /// Writes `slices`.
    ///
    /// # Errors
    /// Of the writer.
    pub fn slices(&mut self, slices: &[TaggedSlice], context: &Context) -> io::Result<()> {
        debug_assert_eq!(self.stream, Stream::Slices);
        self.rows(slices.iter().map(Row::from), context)
    }

    /// Writes `alerts`.
    ///
    /// # Errors
    /// Of the writer.
    pub fn alerts(&mut self, alerts: &[Alert], context: &Context) -> io::Result<()> {
        debug_assert_eq!(self.stream, Stream::Alerts);
        self.rows(alerts.iter().map(Row::from), context)
    }

    /// Octets written, and for Parquet also the estimate of those that wait for their row group.
    #[must_use]
    pub fn octets(&self) -> u64 {
        match &self.form {
            Form::Lines(lines) => lines.octets,
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.octets(),
        }
    }

    /// Hands what was encoded on: through to `W`'s own flush.
    ///
    /// # Errors
    /// Of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Lines(lines) => lines.writer.flush(),
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.flush(),
        }
    }

    /// Writes what the format ends with and returns the writer, flushed. A CSV of no records still
    /// has its header, a Parquet file its schema.
    ///
    /// # Errors
    /// Of the writer.
    pub fn finish(self) -> io::Result<W> {
        let mut writer = match self.form {
            Form::Lines(mut lines) => {
                lines.records(std::iter::empty::<Shown<'_>>())?;
                lines.writer
            }
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.finish()?,
        };
        writer.flush()?;
        Ok(writer)
    }
}

impl<W: Write> Lines<W> {
    /// One `write_all` a call, so that a torn call is the only thing that can be half there.
    fn records<R: Record>(&mut self, records: impl Iterator<Item = R>) -> io::Result<()> {
        self.buffer.clear();
        if !std::mem::replace(&mut self.begun, true) {
            self.format.header(&mut self.buffer);
        }
        records.for_each(|record| self.format.line(&mut self.buffer, &record));
        self.writer.write_all(&self.buffer)?;
        self.octets += self.buffer.len() as u64;
        Ok(())
    }
}
