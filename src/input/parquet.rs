//! Slices in Parquet files that Weir wrote: row groups to rows of [`Columns`].
//!
//! Other programs filter, join and write such files again, and change types on the way: pandas makes
//! doubles of whole numbers once one is absent, and columns of no type where all are. What the
//! column says is still what Weir wrote, so these are read, too.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, BooleanArray, Float64Array, Int32Array, Int64Array};
use arrow_array::{ListArray, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};

use crate::decode::slices::{Cells, Columns, Kind, NAMES, Text};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 4_096;

/// Why a Parquet file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SlicesError {
    /// It cannot be opened.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its footer is damaged, or not there.
    #[error("cut short or no Parquet: {0}")]
    Parquet(#[from] ParquetError),
    /// Its columns are compressed in a way that is not read here.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// A row group is damaged.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// It holds something else.
    #[error("no column `flow_id`, expected slices that Weir wrote (docs/schema.md){0}")]
    Other(&'static str),
    /// A column of the canonical schema has another type there.
    #[error("column `{column}` is {found}, expected what Weir writes (docs/schema.md)")]
    Column {
        /// Which.
        column: &'static str,
        /// Its type.
        found: DataType,
    },
}

/// Columns that are compressed in a way that is not read here.
#[derive(Debug, thiserror::Error)]
#[error(
    "columns are compressed by {0}, expected zstd, snappy, gzip, lz4 or none: write it with compression=\"zstd\""
)]
pub struct CodecError(String);

/// Whether the columns of a file can be read: what this build was given codecs for, which is what
/// pandas, Spark, DuckDB and ClickHouse write unless told otherwise.
pub(super) fn check_codecs(metadata: &ParquetMetaData) -> Result<(), CodecError> {
    let mut columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    let unreadable = |codec| matches!(codec, Compression::BROTLI(_) | Compression::LZO);
    let other = columns.find(|column| unreadable(column.compression()));
    let name = |codec: Compression| {
        let name = codec.to_string().to_lowercase();
        name.split('(').next().unwrap_or_default().to_owned()
    };
    other.map_or(Ok(()), |column| Err(CodecError(name(column.compression()))))
}

/// Reads the rows of one file.
pub struct Slices {
    batches: ParquetRecordBatchReader,
}

impl Slices {
    /// Opens `path`. Only the columns that are needed are read.
    ///
    /// # Errors
    /// If it cannot be read or is no Parquet.
    pub fn open(path: &Path) -> Result<Self, SlicesError> {
        // Types as Parquet has them: no dictionaries, and one type for texts of any length.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let file = File::open(path)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
        check_codecs(builder.metadata())?;
        let has = |name: &str| builder.schema().column_with_name(name).is_some();
        if !has("flow_id") {
            let labelled = has("ts_start") && has("duration_ms");
            let hint = if labelled { "; weir score reads labelled flows as these" } else { "" };
            return Err(SlicesError::Other(hint));
        }
        let wanted = |name: &str| NAMES.iter().any(|(known, _)| *known == name);
        let fields = builder.schema().fields().iter().enumerate();
        let roots: Vec<usize> = fields.filter(|(_, f)| wanted(f.name())).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let batches = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
        Ok(Self { batches })
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// If the file is damaged there, or a column is of another type than Weir writes.
    pub fn next_rows(&mut self) -> Result<Option<Rows>, SlicesError> {
        let Some(batch) = self.batches.next() else { return Ok(None) };
        Rows::of(&batch?).map(Some)
    }
}

/// Rows in columns, in the order of [`NAMES`].
pub struct Rows {
    columns: Vec<Option<Column>>,
    rows: usize,
}

enum Column {
    Text(StringArray),
    Texts(ListArray, StringArray),
    Int32(Int32Array),
    Int64(Int64Array),
    Float(Float64Array),
    Bool(BooleanArray),
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Self, SlicesError> {
        let column = |&(name, kind): &(&'static str, Kind)| {
            let Some(array) = batch.column_by_name(name) else { return Ok(None) };
            if is_empty(array.data_type()) {
                return Ok(None);
            }
            let column = Column::of(array.as_ref(), kind);
            let found = || SlicesError::Column { column: name, found: array.data_type().clone() };
            column.ok_or_else(found).map(Some)
        };
        let columns = NAMES.iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: batch.num_rows() })
    }

    /// How many they are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The row at `row`, which is below [`Self::len`].
    #[must_use]
    pub fn row(&self, row: usize) -> Columns<'_> {
        Columns::of(&Row { columns: &self.columns, row })
    }
}

impl Column {
    fn of(array: &dyn Array, kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Text => Self::Text(array.as_string_opt::<i32>()?.clone()),
            Kind::Texts => {
                let list = array.as_list_opt::<i32>()?.clone();
                let texts = list.values().as_string_opt::<i32>()?.clone();
                Self::Texts(list, texts)
            }
            Kind::Int => match array.data_type() {
                DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>().clone()),
                DataType::Float64 => Self::Int64(whole(array.as_primitive())?),
                _ => Self::Int64(array.as_primitive_opt::<Int64Type>()?.clone()),
            },
            Kind::Float => Self::Float(array.as_primitive_opt::<Float64Type>()?.clone()),
            Kind::Bool => Self::Bool(array.as_boolean_opt()?.clone()),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Text(array) => array,
            Self::Texts(array, _) => array,
            Self::Int32(array) => array,
            Self::Int64(array) => array,
            Self::Float(array) => array,
            Self::Bool(array) => array,
        }
    }
}

/// Whether no value can stand in a column of this type.
fn is_empty(kind: &DataType) -> bool {
    match kind {
        DataType::List(element) => is_empty(element.data_type()),
        kind => kind.is_null(),
    }
}

/// Doubles that are whole numbers; `None` if one is not.
fn whole(doubles: &Float64Array) -> Option<Int64Array> {
    let whole = |value: f64| whole_number(value).map(Some);
    doubles.iter().map(|value| value.map_or(Some(None), whole)).collect()
}

/// `value`, if it is a whole number that 64 bits hold.
pub(super) fn whole_number(value: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    (value.fract() == 0.0 && (-BOUND..BOUND).contains(&value)).then_some(value as i64)
}

struct Row<'a> {
    columns: &'a [Option<Column>],
    row: usize,
}

impl<'a> Row<'a> {
    fn cell(&self, column: usize) -> Option<&'a Column> {
        self.columns[column].as_ref().filter(|column| column.array().is_valid(self.row))
    }
}

impl<'a> Cells<'a> for Row<'a> {
    fn text(&self, column: usize) -> Option<Text<'a>> {
        let Column::Text(array) = self.cell(column)? else { return None };
        Some(Text(Cow::Borrowed(array.value(self.row))))
    }

    fn texts(&self, column: usize) -> Option<Vec<Text<'a>>> {
        let Column::Texts(list, texts) = self.cell(column)? else { return None };
        let at = |row: usize| usize::try_from(list.value_offsets()[row]).unwrap_or(0);
        let range = at(self.row)..at(self.row + 1);
        Some(range.map(|at| Text(Cow::Borrowed(texts.value(at)))).collect())
    }

    fn int(&self, column: usize) -> Option<i64> {
        match self.cell(column)? {
            Column::Int32(array) => Some(array.value(self.row).into()),
            Column::Int64(array) => Some(array.value(self.row)),
            _ => None,
        }
    }

    fn float(&self, column: usize) -> Option<f64> {
        let Column::Float(array) = self.cell(column)? else { return None };
        Some(array.value(self.row))
    }

    fn bool(&self, column: usize) -> Option<bool> {
        let Column::Bool(array) = self.cell(column)? else { return None };
        Some(array.value(self.row))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData};
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    fn compressed(codec: Compression) -> ParquetMetaData {
        let schema = parse_message_type("message rows { required int32 port; }").expect("a schema");
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(schema)));
        let column = ColumnChunkMetaData::builder(schema.column(0)).set_compression(codec);
        let column = column.build().expect("a column");
        let group =
            RowGroupMetaData::builder(Arc::clone(&schema)).set_column_metadata(vec![column]);
        let group = group.build().expect("a row group");
        ParquetMetaData::new(FileMetaData::new(1, 0, None, None, schema, None), vec![group])
    }

    #[test]
    fn doubles_are_whole_numbers_or_refused() {
        let doubles = |values: &[Option<f64>]| whole(&Float64Array::from(values.to_vec()));
        let kept = doubles(&[Some(443.0), None, Some(-1.0), Some(9e18)]);
        let want =
            Int64Array::from(vec![Some(443), None, Some(-1), Some(9_000_000_000_000_000_000)]);
        assert_eq!(kept, Some(want));
        for refused in [0.5, f64::NAN, f64::INFINITY, 9.3e18, -9.3e18] {
            assert_eq!(doubles(&[Some(1.0), Some(refused)]), None, "{refused}");
        }
    }

    #[test]
    fn codecs_that_cannot_be_read_are_named() {
        for (codec, says) in [
            (Compression::UNCOMPRESSED, None),
            (Compression::ZSTD(parquet::basic::ZstdLevel::default()), None),
            (Compression::SNAPPY, None),
            (Compression::LZ4, None),
            (Compression::LZ4_RAW, None),
            (Compression::GZIP(parquet::basic::GzipLevel::default()), None),
            (Compression::BROTLI(parquet::basic::BrotliLevel::default()), Some("brotli")),
            (Compression::LZO, Some("lzo")),
        ] {
            let want = says.map(|name| {
                format!("columns are compressed by {name}, expected zstd, snappy, gzip, lz4 or none: write it with compression=\"zstd\"")
            });
            let told = check_codecs(&compressed(codec)).err().map(|error| error.to_string());
            assert_eq!(told, want, "{codec}");
        }
    }
}
