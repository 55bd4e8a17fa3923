//! Arrow columns of the canonical schema: what Parquet files are made of.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, ListBuilder, StringBuilder};
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type};
use arrow_array::{ArrayRef, PrimitiveArray, RecordBatch, StringArray};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
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
    Int64(Numbers<Int64Type>),
    Int32(Numbers<Int32Type>),
    Float64(Numbers<Float64Type>),
    Bool(BooleanBuilder),
    Text(Texts),
    List(ListBuilder<StringBuilder>),
}

/// Numbers, some of them absent.
struct Numbers<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    fn push(&mut self, value: Option<T::Native>) {
        self.nulls.append(value.is_some());
        self.values.push(value.unwrap_or_default());
    }

    fn finish(&mut self) -> ArrayRef {
        let values = ScalarBuffer::from(anew(&mut self.values));
        Arc::new(PrimitiveArray::<T>::new(values, self.nulls.finish()))
    }
}

/// Texts, some of them absent; each is written where it stays.
struct Texts {
    octets: Vec<u8>,
    /// Where each begins, and where the last one ends.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Texts {
    fn new() -> Self {
        Self { octets: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0) }
    }

    fn push(&mut self, value: &Value<'_>) {
        let out = &mut self.octets;
        match value {
            Value::Null => {}
            Value::Text(value) => out.extend_from_slice(value.as_bytes()),
            Value::Made(value) => out.extend_from_slice(value.as_bytes()),
            Value::Detections(_) | Value::Techniques(_) | Value::Evidence(_) | Value::Json(_) => {
                ndjson::write_value(out, value);
            }
            _ => ndjson::plain(out, value),
        }
        let end = i32::try_from(self.octets.len()).expect("a batch holds less than 2 GiB of text");
        self.offsets.push(end);
        self.nulls.append(!matches!(value, Value::Null));
    }

    /// # Errors
    /// If what encoders wrote is not UTF-8.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(anew(&mut self.offsets)));
        self.offsets.push(0);
        let octets = Buffer::from_vec(anew(&mut self.octets));
        Ok(Arc::new(StringArray::try_new(offsets, octets, self.nulls.finish())?))
    }
}

/// Takes `values`, and leaves as much room as they took.
fn anew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
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
        let arrays = arrays.chain(own).collect::<Result<_, _>>()?;
        RecordBatch::try_new(self.schema.clone(), arrays)
    }
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int64 => Self::Int64(Numbers::new()),
            DataType::Int32 => Self::Int32(Numbers::new()),
            DataType::Float64 => Self::Float64(Numbers::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::List(_) => {
                Self::List(ListBuilder::new(StringBuilder::new()).with_field(item()))
            }
            _ => Self::Text(Texts::new()),
        }
    }

    /// Appends `values`; a value of another type than the column's is absent.
    fn extend<'v>(&mut self, values: impl Iterator<Item = Value<'v>>, text: &mut Vec<u8>) {
        match self {
            Self::Int64(numbers) => values.for_each(|value| numbers.push(whole(&value))),
            Self::Int32(numbers) => {
                let narrow = |value| whole(&value).and_then(|v| i32::try_from(v).ok());
                values.for_each(|value| numbers.push(narrow(value)));
            }
            Self::Float64(numbers) => values.for_each(|value| numbers.push(real(&value))),
            Self::Bool(builder) => values.for_each(|value| {
                builder.append_option(match value {
                    Value::Bool(value) => Some(value),
                    _ => None,
                });
            }),
            Self::Text(texts) => values.for_each(|value| texts.push(&value)),
            Self::List(builder) => values.for_each(|value| push_list(builder, &value, text)),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Int64(numbers) => numbers.finish(),
            Self::Int32(numbers) => numbers.finish(),
            Self::Float64(numbers) => numbers.finish(),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Text(texts) => texts.finish()?,
            Self::List(builder) => Arc::new(builder.finish()),
        })
    }
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
