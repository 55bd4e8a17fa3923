//! Flow records in Parquet files of labelled captures: the columns of `data/flows`, which evaluation
//! of the sequence model reads (`weir score`).

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;

use super::parquet::{CodecError, check_codecs, whole_number};
use crate::detect::sequence::Record;
use crate::detect::sequence::table::{Row, Scenarios};
use crate::flow::key::TCP;
use crate::net::Addr;
use crate::time::Micros;

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8_192;

/// Milliseconds that a flow may last: 100 years, as in CSV.
const DURATION_MS_MAX: f64 = 3_153_600_000_000.0;
/// What must stand where octets and packets are counted.
const COUNT: &str = "a whole number, 0 or more";
/// What must stand in `ts_start`.
const START: &str = "microseconds since the epoch, 0 or more";
/// What must stand in `duration_ms`.
const DURATION: &str = "a number of milliseconds, 0 to 3153600000000";

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FlowsError {
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
    /// A column is missing or of another type.
    #[error("column `{column}` is {found}, expected {expected}")]
    Column {
        /// Which.
        column: &'static str,
        /// Its type, or that there is none.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A cell has no meaning.
    #[error("row {row}: `{column}` is `{value}`, expected {expected}")]
    Value {
        /// From 1.
        row: u64,
        /// Which column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What must stand there.
        expected: &'static str,
    },
}

/// Whether the file at `path` has the columns of slices that Weir wrote. Any other is one of labelled
/// flows, or none that is known.
///
/// # Errors
/// If it cannot be read or is no Parquet.
pub fn is_of_slices(path: &Path) -> Result<bool, FlowsError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    Ok(builder.schema().column_with_name("flow_id").is_some())
}

/// Reads the rows of one file.
pub struct Flows {
    batches: ParquetRecordBatchReader,
    scenarios: Scenarios,
    row: u64,
}

impl Flows {
    /// Opens `path`.
    ///
    /// # Errors
    /// If it cannot be read or is no Parquet.
    pub fn open(path: &Path) -> Result<Self, FlowsError> {
        // Types as Parquet has them: no dictionaries.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let file = File::open(path)?;
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
        check_codecs(builder.metadata())?;
        let batches = builder.with_batch_size(BATCH_ROWS).build()?;
        Ok(Self { batches, scenarios: Scenarios::default(), row: 0 })
    }

    /// Hands the next rows to `take`. Returns whether there were any.
    ///
    /// # Errors
    /// If the file is damaged there, or is not of these columns.
    pub fn next_rows(&mut self, mut take: impl FnMut(Row)) -> Result<bool, FlowsError> {
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let columns = Columns::of(&batch?, self.row)?;
        for at in 0..columns.len {
            self.row += 1;
            let named = columns.scenario.as_ref().filter(|names| names.is_valid(at));
            let scenario = named.map(|names| names.value(at)).filter(|name| !name.is_empty());
            let scenario = scenario.map(|name| self.scenarios.of(name));
            take(columns.row(at, self.row, scenario)?);
        }
        Ok(true)
    }
}

/// The columns of one batch, as whole numbers and texts.
struct Columns {
    len: usize,
    ts_start: Vec<i64>,
    duration_us: Vec<i64>,
    src_ip: StringArray,
    dst_ip: StringArray,
    src_port: Vec<i64>,
    dst_port: Vec<i64>,
    proto: Vec<i64>,
    /// Octets and packets, forward and backward.
    counters: [Vec<i64>; 4],
    tcp_flags: Vec<i64>,
    cont: Option<Vec<i64>>,
    scenario: Option<StringArray>,
}

impl Columns {
    /// `before`: rows of the file before this batch.
    fn of(batch: &RecordBatch, before: u64) -> Result<Self, FlowsError> {
        let integers = |array, column| integers(array, column, before);
        let whole = |column| integers(required(batch, column, "a whole number")?, column);
        let text = |column| texts(required(batch, column, "text")?, column);
        let some = |column| batch.column_by_name(column).filter(|a| !a.data_type().is_null());
        let none = || vec![0; batch.num_rows()];
        let scenario = batch.column_by_name("scenario").filter(|a| !a.data_type().is_null());
        let present = |column, expected| no_null(batch, column, expected, before);
        present("ts_start", START)?;
        present("duration_ms", DURATION)?;
        present("fwd_bytes", COUNT)?;
        let counter = |column| {
            let Some(array) = some(column) else { return Ok(none()) };
            present(column, COUNT)?;
            integers(array, column)
        };
        let flags = some("tcp_flags").map(|array| integers(array, "tcp_flags"));
        Ok(Self {
            len: batch.num_rows(),
            ts_start: whole("ts_start")?,
            duration_us: micros(required(batch, "duration_ms", "a number")?, before)?,
            src_ip: text("src_ip")?,
            dst_ip: text("dst_ip")?,
            src_port: whole("src_port")?,
            dst_port: whole("dst_port")?,
            proto: whole("proto")?,
            counters: [
                whole("fwd_bytes")?,
                counter("bwd_bytes")?,
                counter("fwd_pkts")?,
                counter("bwd_pkts")?,
            ],
            tcp_flags: flags.unwrap_or_else(|| Ok(none()))?,
            cont: batch.column_by_name("cont").map(|array| integers(array, "cont")).transpose()?,
            scenario: scenario.map(|array| texts(array, "scenario")).transpose()?,
        })
    }

    fn row(&self, at: usize, row: u64, scenario: Option<Arc<str>>) -> Result<Row, FlowsError> {
        let wrong =
            |column, value: String, expected| FlowsError::Value { row, column, value, expected };
        let address = |column, texts: &StringArray| {
            let text = texts.value(at);
            let expected = "an IPv4 or IPv6 address";
            text.parse::<Addr>().map_err(|_| wrong(column, text.to_owned(), expected))
        };
        let port = |column, values: &[i64]| {
            let value = values[at];
            u16::try_from(value).map_err(|_| wrong(column, value.to_string(), "0 to 65535"))
        };
        let octet = |column, values: &[i64]| {
            let value = values[at];
            u8::try_from(value).map_err(|_| wrong(column, value.to_string(), "0 to 255"))
        };
        let count = |column, which: usize| {
            let value = self.counters[which][at];
            u64::try_from(value).map_err(|_| wrong(column, value.to_string(), COUNT))
        };
        let (protocol, flags) =
            (octet("proto", &self.proto)?, octet("tcp_flags", &self.tcp_flags)?);
        let first = Micros(self.ts_start[at]);
        if first < Micros(0) {
            return Err(wrong("ts_start", first.0.to_string(), START));
        }
        Ok(Row {
            scenario,
            src: address("src_ip", &self.src_ip)?,
            dst: address("dst_ip", &self.dst_ip)?,
            record: Record {
                first,
                last: first.plus(self.duration_us[at]),
                fwd_octets: count("fwd_bytes", 0)?,
                bwd_octets: count("bwd_bytes", 1)?,
                fwd_packets: count("fwd_pkts", 2)?,
                bwd_packets: count("bwd_pkts", 3)?,
                initiator_port: port("src_port", &self.src_port)?,
                responder_port: port("dst_port", &self.dst_port)?,
                protocol,
                flags,
                flags_known: flags != 0 || protocol != TCP,
                initiator_low: false,
            },
            continues: self.cont.as_ref().is_some_and(|cont| cont[at] != 0),
        })
    }
}

fn required<'a>(
    batch: &'a RecordBatch,
    column: &'static str,
    expected: &'static str,
) -> Result<&'a ArrayRef, FlowsError> {
    let absent = || FlowsError::Column { column, found: "not there".to_owned(), expected };
    batch.column_by_name(column).ok_or_else(absent)
}

/// Nothing stands in for a value that a column lacks. `before`: rows of the file before this batch.
fn no_null(
    batch: &RecordBatch,
    column: &'static str,
    expected: &'static str,
    before: u64,
) -> Result<(), FlowsError> {
    let Some(array) = batch.column_by_name(column) else { return Ok(()) };
    let is_null = |at: usize| array.data_type().is_null() || array.is_null(at);
    match (1..).zip(0..array.len()).find(|&(_, at)| is_null(at)) {
        None => Ok(()),
        Some((row, _)) => {
            let (row, value) = (before + row, "null".to_owned());
            Err(FlowsError::Value { row, column, value, expected })
        }
    }
}

fn other(array: &ArrayRef, column: &'static str, expected: &'static str) -> FlowsError {
    FlowsError::Column { column, found: array.data_type().to_string(), expected }
}

fn texts(array: &ArrayRef, column: &'static str) -> Result<StringArray, FlowsError> {
    let text = array.as_string_opt::<i32>().cloned();
    text.ok_or_else(|| other(array, column, "text"))
}

/// Whole numbers of any width, also as doubles, which pandas makes of a column that lacks some, and
/// truth values; null is 0. `before`: rows of the file before these.
fn integers(array: &ArrayRef, column: &'static str, before: u64) -> Result<Vec<i64>, FlowsError> {
    macro_rules! widened {
        ($kind:ty) => {
            array
                .as_primitive::<$kind>()
                .iter()
                .map(|value| value.map_or(0, |value| i64::try_from(value).unwrap_or(i64::MAX)))
                .collect()
        };
    }
    Ok(match array.data_type() {
        DataType::Int8 => widened!(Int8Type),
        DataType::Int16 => widened!(Int16Type),
        DataType::Int32 => widened!(Int32Type),
        DataType::Int64 => widened!(Int64Type),
        DataType::UInt8 => widened!(UInt8Type),
        DataType::UInt16 => widened!(UInt16Type),
        DataType::UInt32 => widened!(UInt32Type),
        DataType::UInt64 => widened!(UInt64Type),
        DataType::Boolean => {
            array.as_boolean().iter().map(|value| i64::from(value.unwrap_or(false))).collect()
        }
        DataType::Float64 => {
            let whole = |(row, value): (u64, Option<f64>)| {
                let value = value.unwrap_or(0.0);
                let (row, expected) = (before + row, "a whole number");
                let wrong =
                    || FlowsError::Value { row, column, value: value.to_string(), expected };
                whole_number(value).ok_or_else(wrong)
            };
            let values = array.as_primitive::<Float64Type>().iter();
            (1..).zip(values).map(whole).collect::<Result<_, _>>()?
        }
        // A column in which nothing stands.
        DataType::Null => vec![0; array.len()],
        _ if column == "cont" => return Err(other(array, column, "a truth value")),
        _ => return Err(other(array, column, "a whole number")),
    })
}

/// Milliseconds as whole microseconds, rounded to even. `before`: rows of the file before these.
fn micros(array: &ArrayRef, before: u64) -> Result<Vec<i64>, FlowsError> {
    let ms: Vec<f64> = match array.data_type() {
        DataType::Float32 => {
            array.as_primitive::<Float32Type>().values().iter().copied().map(f64::from).collect()
        }
        DataType::Float64 => array.as_primitive::<Float64Type>().values().to_vec(),
        _ => {
            let ms = integers(array, "duration_ms", before)?;
            ms.into_iter().map(|ms| ms as f64).collect()
        }
    };
    let us = |(row, ms): (u64, f64)| {
        if (0.0..=DURATION_MS_MAX).contains(&ms) {
            return Ok((ms * 1_000.0).round_ties_even() as i64);
        }
        let (row, value) = (before + row, ms.to_string());
        Err(FlowsError::Value { row, column: "duration_ms", value, expected: DURATION })
    };
    (1..).zip(ms).map(us).collect()
}
