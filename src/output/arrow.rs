//! Arrow columns of the canonical schema: what Parquet files are made of.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema};

use super::ndjson;
use super::schema::{Field, Kind, Layout, Record, Value};

/// The Arrow schema of `layout`.
#[must_use]
pub fn schema(layout: &Layout) -> Arc<Schema> {
    let field = |(_, f): (usize, &Field)| ArrowField::new(f.name, data_type(f.kind), f.nullable);
    let own = |(name, value)| ArrowField::new(name, constant_type(&value), false);
    Arc::new(Schema::new(
        layout.fields().map(field).chain(layout.own().iter().map(own)).collect::<Vec<_>>(),
    ))
}

/// Of a field of the operator's own.
const fn constant_type(value: &Value<'_>) -> DataType {
    match value {
        Value::Bool(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int64,
        _ => DataType::Utf8,
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Timestamp | Kind::Int64 => DataType::Int64,
        Kind::Int32 => DataType::Int32,
        Kind::Seconds | Kind::Float64 => DataType::Float64,
        Kind::Bool => DataType::Boolean,
        Kind::TextList | Kind::AddressList => DataType::List(item()),
        _ => DataType::Utf8,
    }
}

/// The element of every list.
fn item() -> Arc<ArrowField> {
    Arc::new(ArrowField::new("element", DataType::Utf8, false))
}

/// Gathers rows into columns.
pub struct Columns {
    schema: Arc<Schema>,
    columns: Vec<(usize, Column)>,
    layout: Layout,
    rows: usize,
    text: Vec<u8>,
}

enum Column {
    Int64(Int64Builder),
    Int32(Int32Builder),
    Float64(Float64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
    List(ListBuilder<StringBuilder>),
}

impl Columns {
    /// Empty columns of `layout`.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let column = |(index, field): (usize, &Field)| (index, Column::new(&data_type(field.kind)));
        let columns = layout.fields().map(column).collect();
        let (schema, layout) = (schema(layout), layout.clone());
        Self { schema, columns, layout, rows: 0, text: Vec::new() }
    }

    /// Rows gathered since the last [`take`](Self::take).
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Appends `records`, a column after the other.
    pub fn extend<R: Record>(&mut self, records: &[R]) {
        for (index, column) in &mut self.columns {
            let values = records.iter().map(|record| record.value(*index));
            column.extend(values, &mut self.text);
        }
        self.rows += records.len();
    }

    /// The rows gathered, as one batch.
    ///
    /// # Errors
    /// Only if a getter of the schema's table breaks its promise on type or absence.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.columns.iter_mut().map(|(_, column)| column.finish());
        let own = self.layout.own().iter().map(|(_, value)| {
            let mut column = Column::new(&constant_type(&value));
            column.extend(repeat_n(value, rows), &mut self.text);
            column.finish()
        });
        let arrays = arrays.chain(own).collect();
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::List(_) => {
                Self::List(ListBuilder::new(StringBuilder::new()).with_field(item()))
            }
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Appends `values`; a value of another type than the column's is absent.
    fn extend<'v>(&mut self, values: impl Iterator<Item = Value<'v>>, text: &mut Vec<u8>) {
        match self {
            Self::Int64(builder) => {
                values.for_each(|value| builder.append_option(whole(&value)));
            }
            Self::Int32(builder) => {
                let narrow = |value| whole(&value).and_then(|v| i32::try_from(v).ok());
                values.for_each(|value| builder.append_option(narrow(value)));
            }
            Self::Float64(builder) => {
                values.for_each(|value| builder.append_option(real(&value)));
            }
            Self::Bool(builder) => values.for_each(|value| {
                builder.append_option(match value {
                    Value::Bool(value) => Some(value),
                    _ => None,
                });
            }),
            Self::Text(builder) => values.for_each(|value| push_text(builder, &value, text)),
            Self::List(builder) => values.for_each(|value| push_list(builder, &value, text)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::List(builder) => Arc::new(builder.finish()),
        }
    }
}

fn push_text(builder: &mut StringBuilder, value: &Value<'_>, text: &mut Vec<u8>) {
    text.clear();
    match value {
        Value::Null => return builder.append_null(),
        Value::Text(value) => return builder.append_value(value),
        Value::Made(value) => return builder.append_value(value),
        Value::Detections(_) | Value::Techniques(_) | Value::Evidence(_) | Value::Json(_) => {
            ndjson::write_value(text, value);
        }
        _ => ndjson::plain(text, value),
    }
    builder.append_value(utf8(text));
}

fn push_list(builder: &mut ListBuilder<StringBuilder>, value: &Value<'_>, text: &mut Vec<u8>) {
    let items = builder.values();
    match value {
        Value::Addresses(addresses) => {
            for &address in *addresses {
                text.clear();
                ndjson::write_address(text, address);
                items.append_value(utf8(text));
            }
        }
        Value::Null => return builder.append(false),
        _ => value.texts(|text| items.append_value(text)),
    }
    builder.append(true);
}

fn whole(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        _ => None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration over 285 years may lose microseconds")]
fn real(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Seconds(micros) => Some(*micros as f64 / 1e6),
        Value::Float(value) => Some(*value),
        _ => None,
    }
}

fn utf8(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("encoders write UTF-8")
}
