//! Records as one stream: to standard output, a pipe, or one file.

use std::io::{self, Write};

use super::schema::{Context, Layout, Stream};
use super::{Batch, Encoder};
use crate::config::{Format, Select};
use crate::detect::TaggedSlice;

/// Writes what it selects of batches to one writer.
///
/// Errors are the writer's, kind included: on [`io::ErrorKind::BrokenPipe`] the reader has seen
/// enough, which is no failure.
pub struct StreamSink<W: Write + Send> {
    select: Select,
    context: Context,
    encoder: Encoder<W>,
}

impl<W: Write + Send> StreamSink<W> {
    /// A sink to `writer`.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn new(format: Format, select: Select, context: Context, writer: W) -> io::Result<Self> {
        Self::of(format, select, &[], context, writer)
    }

    /// A sink of the fields `names` (none: all) to `writer`.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn of(
        format: Format,
        select: Select,
        names: &[String],
        context: Context,
        writer: W,
    ) -> io::Result<Self> {
        let layout = Layout::of(Stream::from(select), names).with(&context.fields);
        let encoder = Encoder::new(format, &layout, writer)?;
        Ok(Self { select, context, encoder })
    }

    /// Writes the records that are selected from `batch`.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write(&mut self, batch: &Batch) -> io::Result<()> {
        self.encoder.rows(batch.rows(self.select), &self.context)
    }

    /// Hands on what waits: for a reader that follows live traffic.
    ///
    /// # Errors
    /// Of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }

    /// Writes what the format ends with, flushes and returns the writer.
    ///
    /// # Errors
    /// Of the writer.
    pub fn finish(self) -> io::Result<W> {
        self.encoder.finish()
    }
}

/// Slices and alerts held back until the end of a replay, to be written in an order that does not
/// depend on the number of workers. Holds all of them in memory.
#[derive(Clone, Debug, Default)]
pub struct Sorted {
    held: Batch,
}

impl Sorted {
    /// Takes `batch` in.
    pub fn add(&mut self, batch: Batch) {
        self.held.slices.extend(batch.slices);
        self.held.alerts.extend(batch.alerts);
    }

    /// All of it in order: slices by (end, flow id, slice number), alerts by (time, id).
    #[must_use]
    pub fn finish(mut self) -> Batch {
        self.held.slices.sort_by_key(order);
        self.held.alerts.sort_by_key(|alert| (alert.time, alert.id));
        self.held
    }
}

fn order(tagged: &TaggedSlice) -> impl Ord + use<> {
    let slice = &tagged.slice;
    (slice.flow.last, slice.flow_id, slice.number)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::detect::Alert;
    use crate::flow::{FlowId, Slice};
    use crate::time::Micros;

    fn slice(last: i64, id: u128, number: u32) -> TaggedSlice {
        let mut slice = Slice { flow_id: FlowId(id), number, ..Slice::default() };
        slice.flow.last = Micros(last);
        TaggedSlice { slice, ..TaggedSlice::default() }
    }

    fn alert(time: i64, id: u128) -> Alert {
        Alert { id, time: Micros(time), ..Alert::default() }
    }

    #[test]
    fn the_order_does_not_depend_on_how_it_came() {
        let slices =
            [slice(1, 9, 0), slice(1, 9, 1), slice(2, 1, 0), slice(2, 1, 1), slice(2, 3, 0)];
        let alerts = [alert(1, 5), alert(1, 6), alert(2, 1)];
        let mut sorted = Sorted::default();
        for start in [3, 1, 4, 0, 2] {
            let slices = vec![slices[start].clone()];
            let alerts = alerts.get(start).cloned().into_iter().collect();
            sorted.add(Batch { slices, alerts });
        }
        let batch = sorted.finish();
        assert_eq!((batch.slices, batch.alerts), (slices.to_vec(), alerts.to_vec()));
    }

    /// A pipe whose reader left.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_broken_pipe_is_told_as_such() {
        for format in [Format::Ndjson, Format::Csv, Format::Parquet] {
            if format == Format::Parquet && cfg!(not(feature = "parquet")) {
                continue;
            }
            let broken = || -> io::Result<Broken> {
                let mut sink = StreamSink::new(format, Select::Slices, Context::default(), Broken)?;
                sink.write(&Batch { slices: vec![slice(1, 2, 3)], alerts: Vec::new() })?;
                sink.finish()
            };
            let error = broken().err().expect("nobody reads");
            assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{format:?}: {error}");
        }
    }
}
