//! Parquet with zstd: the canonical columns in DeepTempo's types, timestamps as plain 64-bit
//! microseconds.

use std::io::{self, Write};

use arrow_schema::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::arrow::{Columns, schema};
use super::schema::{Field, Kind, Layout, Record, Stream, VERSION};

/// Rows that are handed to the column writers at once.
const BATCH_ROWS: usize = 4_096;
/// Records that are turned into columns at once: few enough that the caches hold them all the while.
const TURNED_ROWS: usize = 256;
/// Rows of a row group, at most: what bounds the memory that an open file takes.
const ROW_GROUP_ROWS: usize = 131_072;
/// Octets that a row which was not handed over yet is taken for, when a file's size is estimated.
const ROW_OCTETS: u64 = 128;
const ZSTD_LEVEL: i32 = 1;

/// Writes the records of one stream as one Parquet file.
pub struct Writer<W: Write + Send> {
    columns: Columns,
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> Writer<W> {
    /// A file of the fields of `layout`. Key-value metadata says `weir.stream` and `weir.schema`.
    ///
    /// # Errors
    /// Of `writer`.
    pub fn new(layout: &Layout, writer: W) -> io::Result<Self> {
        let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("a level that zstd has");
        let name = match layout.stream() {
            Stream::Slices => "slices",
            Stream::Alerts => "alerts",
        };
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            // Bounds of each page are worth their cost where queries ask for a time only.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![
                KeyValue::new("weir.stream".to_owned(), name.to_owned()),
                KeyValue::new("weir.schema".to_owned(), VERSION.to_string()),
            ]));
        for (_, field) in layout.fields() {
            let path = || ColumnPath::from(vec![field.name.to_owned()]);
            if is_mostly_new(field) {
                properties = properties.set_column_dictionary_enabled(path(), false);
            }
            if field.kind == Kind::Timestamp {
                let page = EnabledStatistics::Page;
                properties = properties.set_column_statistics_enabled(path(), page);
            }
        }
        let properties = Some(properties.build());
        let schema = schema(layout);
        let writer = ArrowWriter::try_new(writer, schema, properties).map_err(io_error)?;
        Ok(Self { columns: Columns::new(layout), writer })
    }

    /// Takes `records` in; they reach the writer when their row group is full.
    ///
    /// # Errors
    /// Of the writer.
    pub fn records<R: Record>(&mut self, mut records: impl Iterator<Item = R>) -> io::Result<()> {
        let mut turned = Vec::with_capacity(TURNED_ROWS);
        loop {
            turned.extend(records.by_ref().take(TURNED_ROWS));
            if turned.is_empty() {
                return Ok(());
            }
            self.columns.extend(&turned);
            turned.clear();
            if self.columns.rows() >= BATCH_ROWS {
                self.hand_over()?;
            }
        }
    }

    /// Octets written and the estimate of those that are not.
    #[must_use]
    pub fn octets(&self) -> u64 {
        let written = self.writer.bytes_written() + self.writer.in_progress_size();
        written as u64 + self.columns.rows() as u64 * ROW_OCTETS
    }

    /// Closes the row group and flushes the writer.
    ///
    /// # Errors
    /// Of the writer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.writer.flush().map_err(io_error)?;
        self.writer.sync()
    }

    /// Writes the footer and returns the writer.
    ///
    /// # Errors
    /// Of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.hand_over()?;
        self.writer.into_inner().map_err(io_error)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        if self.columns.rows() == 0 {
            return Ok(());
        }
        let batch = self.columns.take().map_err(|error: ArrowError| io::Error::other(error))?;
        self.writer.write(&batch).map_err(io_error)
    }
}

/// Whether hardly any value of `field` comes twice: a dictionary would only cost.
fn is_mostly_new(field: &Field) -> bool {
    matches!(field.kind, Kind::Hex128 | Kind::Timestamp | Kind::Seconds)
        || matches!(field.name, "community_id" | "fwd_bytes" | "bwd_bytes")
}

/// The writer's own error where there is one, so that its kind (broken pipe, disk full) survives.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
