//! Records as Arrow columns and back: what a frame holds.
//!
//! Every field has one column of its name. Addresses and ids are 16 octets, durations whole
//! microseconds, lists the JSON that NDJSON has for them; so a value comes out as it went in.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int32Builder, Int64Builder,
    StringBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeBinaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema};

use crate::net::Addr;
use crate::output::ndjson;
use crate::output::schema::{Field, Kind, Record, Stream, Value};

/// Octets of an address or id.
const WIDE: i32 = 16;

/// The Arrow schema of a frame of `stream`.
pub(super) fn schema(stream: Stream) -> Arc<Schema> {
    let field = |f: &Field| ArrowField::new(f.name, data_type(f.kind), true);
    Arc::new(Schema::new(stream.fields().map(field).collect::<Vec<_>>()))
}

const fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Timestamp | Kind::Int64 | Kind::Seconds => DataType::Int64,
        Kind::Int32 => DataType::Int32,
        Kind::Float64 => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::Address | Kind::Hex128 => DataType::FixedSizeBinary(WIDE),
        _ => DataType::Utf8,
    }
}

/// Gathers records into columns.
pub(super) struct Builder {
    schema: Arc<Schema>,
    columns: Vec<Gather>,
    rows: usize,
    text: Vec<u8>,
}

enum Gather {
    Int64(Int64Builder),
    Int32(Int32Builder),
    Float64(Float64Builder),
    Bool(BooleanBuilder),
    Wide(FixedSizeBinaryBuilder),
    Text(StringBuilder),
}

impl Builder {
    pub(super) fn new(stream: Stream) -> Self {
        let columns = stream.fields().map(|field| Gather::new(field.kind)).collect();
        Self { schema: schema(stream), columns, rows: 0, text: Vec::new() }
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn push<R: Record + ?Sized>(&mut self, record: &R) {
        for (index, column) in self.columns.iter_mut().enumerate() {
            column.push(&record.value(index), &mut self.text);
        }
        self.rows += 1;
    }

    /// Forgets what was gathered.
    pub(super) fn clear(&mut self) {
        if self.rows > 0 {
            drop(self.take());
        }
    }

    /// The records gathered, as one batch.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let arrays = self.columns.iter_mut().map(Gather::finish).collect();
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

impl Gather {
    fn new(kind: Kind) -> Self {
        match data_type(kind) {
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::FixedSizeBinary(_) => Self::Wide(FixedSizeBinaryBuilder::new(WIDE)),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends `value`; one of another type than the column's is absent.
    fn push(&mut self, value: &Value<'_>, text: &mut Vec<u8>) {
        match (self, value) {
            (Self::Int64(column), Value::Int(value) | Value::Seconds(value)) => {
                column.append_value(*value);
            }
            (Self::Int64(column), _) => column.append_null(),
            (Self::Int32(column), Value::Int(value)) => {
                column.append_option(i32::try_from(*value).ok());
            }
            (Self::Int32(column), _) => column.append_null(),
            (Self::Float64(column), Value::Float(value)) => column.append_value(*value),
            (Self::Float64(column), _) => column.append_null(),
            (Self::Bool(column), Value::Bool(value)) => column.append_value(*value),
            (Self::Bool(column), _) => column.append_null(),
            (Self::Wide(column), Value::Address(Addr(bits)) | Value::Hex(bits)) => {
                column.append_value(bits.to_be_bytes()).expect("16 octets");
            }
            (Self::Wide(column), _) => column.append_null(),
            (Self::Text(column), Value::Null) => column.append_null(),
            (Self::Text(column), Value::Text(value)) => column.append_value(value),
            (Self::Text(column), Value::Made(value)) => column.append_value(value),
            (Self::Text(column), list) => {
                text.clear();
                ndjson::write_value(text, list);
                column.append_value(std::str::from_utf8(text).expect("JSON is UTF-8"));
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int64(column) => Arc::new(column.finish()),
            Self::Int32(column) => Arc::new(column.finish()),
            Self::Float64(column) => Arc::new(column.finish()),
            Self::Bool(column) => Arc::new(column.finish()),
            Self::Wide(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
        }
    }
}

/// The records of one frame.
#[derive(Debug)]
pub(super) struct Block {
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Debug)]
enum Column {
    /// The frame was written by a version that has no such field.
    Missing,
    Int(Int64Array),
    Int32(Int32Array),
    Seconds(Int64Array),
    Float(Float64Array),
    Bool(BooleanArray),
    Address(FixedSizeBinaryArray),
    Hex(FixedSizeBinaryArray),
    Text(StringArray),
    Json(StringArray),
}

impl Block {
    /// The records of `batch`, found by the names of their columns. A column of another type than
    /// the field's is as if it were not there.
    pub(super) fn new(stream: Stream, batch: &RecordBatch) -> Self {
        let column = |field: &Field| {
            let column = batch.column_by_name(field.name);
            let column = column.filter(|column| *column.data_type() == data_type(field.kind));
            column.map_or(Column::Missing, |column| Column::new(field.kind, column))
        };
        Self { columns: stream.fields().map(column).collect(), rows: batch.num_rows() }
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn value(&self, row: usize, index: usize) -> Value<'_> {
        self.columns[index].value(row)
    }

    /// Whether a rule fired on the slice at `row`; `index` is the place of `sigma_rule_ids`.
    pub(super) fn tagged(&self, row: usize, index: usize) -> bool {
        !matches!(self.value(row, index), Value::Null | Value::Json("[]"))
    }
}

impl Column {
    fn new(kind: Kind, column: &ArrayRef) -> Self {
        match kind {
            Kind::Timestamp | Kind::Int64 => Self::Int(column.as_primitive::<Int64Type>().clone()),
            Kind::Seconds => Self::Seconds(column.as_primitive::<Int64Type>().clone()),
            Kind::Int32 => Self::Int32(column.as_primitive::<Int32Type>().clone()),
            Kind::Float64 => Self::Float(column.as_primitive::<Float64Type>().clone()),
            Kind::Bool => Self::Bool(column.as_boolean().clone()),
            Kind::Address => Self::Address(column.as_fixed_size_binary().clone()),
            Kind::Hex128 => Self::Hex(column.as_fixed_size_binary().clone()),
            Kind::Text | Kind::Words(_) => Self::Text(column.as_string::<i32>().clone()),
            _ => Self::Json(column.as_string::<i32>().clone()),
        }
    }

    fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Int(column) if column.is_valid(row) => Value::Int(column.value(row)),
            Self::Int32(column) if column.is_valid(row) => Value::Int(column.value(row).into()),
            Self::Seconds(column) if column.is_valid(row) => Value::Seconds(column.value(row)),
            Self::Float(column) if column.is_valid(row) => Value::Float(column.value(row)),
            Self::Bool(column) if column.is_valid(row) => Value::Bool(column.value(row)),
            Self::Address(column) if column.is_valid(row) => {
                Value::Address(Addr(wide(column.value(row))))
            }
            Self::Hex(column) if column.is_valid(row) => Value::Hex(wide(column.value(row))),
            Self::Text(column) if column.is_valid(row) => Value::Text(column.value(row)),
            Self::Json(column) if column.is_valid(row) => Value::Json(column.value(row)),
            _ => Value::Null,
        }
    }
}

fn wide(octets: &[u8]) -> u128 {
    octets.try_into().map_or(0, u128::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Format;
    use crate::output::schema::{Layout, Shown};
    use crate::output::{Encoder, Row, sample};

    struct InBlock<'a>(&'a Block, usize);

    impl Record for InBlock<'_> {
        fn value(&self, index: usize) -> Value<'_> {
            self.0.value(self.1, index)
        }
    }

    /// A record in memory and the same record out of columns encode to the same octets.
    fn same(stream: Stream, rows: &[Row<'_>]) {
        let context = sample::context();
        let mut builder = Builder::new(stream);
        rows.iter().for_each(|row| builder.push(&Shown::new(*row, &context)));
        assert_eq!(builder.rows(), rows.len());
        let block = Block::new(stream, &builder.take().expect("columns of one length"));
        assert_eq!(block.rows(), rows.len());
        for format in [Format::Ndjson, Format::Csv, Format::Parquet] {
            if format == Format::Parquet && cfg!(not(feature = "parquet")) {
                continue;
            }
            let encoder = || Encoder::new(format, &Layout::all(stream), Vec::new()).expect("one");
            let (mut plain, mut columns) = (encoder(), encoder());
            plain.rows(rows.iter().copied(), &context).expect("memory takes all");
            let records = (0..block.rows()).map(|row| InBlock(&block, row));
            columns.records(records).expect("memory takes all");
            let finish = |encoder: Encoder<Vec<u8>>| encoder.finish().expect("memory takes all");
            assert!(finish(plain) == finish(columns), "{format:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn columns_encode_to_the_octets_of_rows(
            slices in vec(sample::slice(), 0..5),
            alerts in vec(sample::alert(), 0..5),
        ) {
            same(Stream::Slices, &slices.iter().map(Row::from).collect::<Vec<_>>());
            same(Stream::Alerts, &alerts.iter().map(Row::from).collect::<Vec<_>>());
        }
    }
}
