//! What `weir score` writes: one row for each window, as NDJSON, CSV or Parquet.

use std::io::{self, Write};

use serde::Serialize;

use crate::config::Format;
use crate::detect::sequence::Class;
use crate::detect::sequence::table::Scored;

/// A row as it is written. Absent values are left out of JSON, empty in CSV, null in Parquet.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    scenario: Option<&'a str>,
    src_ip: String,
    dest_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<u8>,
    /// Microseconds since the epoch.
    first: i64,
    last: i64,
    flows: usize,
    class: &'static str,
    p_benign: f32,
    p_c2: f32,
    p_exfil: f32,
    p_scan: f32,
    p_bruteforce: f32,
    p_dos: f32,
    score: f64,
}

/// The columns, in order.
pub const COLUMNS: [&str; 16] = [
    "scenario",
    "src_ip",
    "dest_ip",
    "dest_port",
    "protocol",
    "first",
    "last",
    "flows",
    "class",
    "p_benign",
    "p_c2",
    "p_exfil",
    "p_scan",
    "p_bruteforce",
    "p_dos",
    "score",
];

impl<'a> From<&'a Scored> for Row<'a> {
    fn from(scored: &'a Scored) -> Self {
        let p = |class: Class| scored.probabilities[class as usize];
        Self {
            scenario: scored.scenario.as_deref(),
            src_ip: scored.src.to_string(),
            dest_ip: scored.dst.to_string(),
            dest_port: scored.dest_port,
            protocol: scored.protocol,
            first: scored.first.0,
            last: scored.last.0,
            flows: scored.flows,
            class: scored.class.as_str(),
            p_benign: p(Class::Benign),
            p_c2: p(Class::C2),
            p_exfil: p(Class::Exfil),
            p_scan: p(Class::Scan),
            p_bruteforce: p(Class::BruteForce),
            p_dos: p(Class::Dos),
            score: scored.score,
        }
    }
}

/// Writes rows in one format.
pub struct Writer<W: Write + Send> {
    form: Form<W>,
    rows: u64,
}

enum Form<W: Write + Send> {
    Ndjson(W),
    Csv(W),
    #[cfg(feature = "parquet")]
    Parquet(Box<columns::Writer<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Of `writer`; [`io::ErrorKind::Unsupported`] for other formats, and for Parquet in a build
    /// without it.
    pub fn new(format: Format, mut writer: W) -> io::Result<Self> {
        let form = match format {
            Format::Ndjson => Form::Ndjson(writer),
            Format::Csv => {
                writeln!(writer, "{}", COLUMNS.join(","))?;
                Form::Csv(writer)
            }
            #[cfg(feature = "parquet")]
            Format::Parquet => Form::Parquet(Box::new(columns::Writer::new(writer)?)),
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Self { form, rows: 0 })
    }

    /// Rows so far.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes one row.
    ///
    /// # Errors
    /// Of the writer.
    pub fn write(&mut self, scored: &Scored) -> io::Result<()> {
        self.rows += 1;
        let row = Row::from(scored);
        match &mut self.form {
            Form::Ndjson(writer) => {
                serde_json::to_writer(&mut *writer, &row)?;
                writer.write_all(b"\n")
            }
            Form::Csv(writer) => csv(&row, writer),
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.write(&row),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Of the writer.
    pub fn finish(self) -> io::Result<()> {
        match self.form {
            Form::Ndjson(mut writer) | Form::Csv(mut writer) => writer.flush(),
            #[cfg(feature = "parquet")]
            Form::Parquet(writer) => writer.finish(),
        }
    }
}

fn csv(row: &Row<'_>, writer: &mut impl Write) -> io::Result<()> {
    let scenario = row.scenario.unwrap_or_default();
    let quoted = scenario.contains(['"', ',', '\n', '\r']);
    let scenario =
        if quoted { format!("\"{}\"", scenario.replace('"', "\"\"")) } else { scenario.to_owned() };
    let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
    let (port, protocol) =
        (number(row.dest_port.map(u64::from)), number(row.protocol.map(u64::from)));
    let Row { src_ip, dest_ip, first, last, flows, class, score, .. } = row;
    write!(
        writer,
        "{scenario},{src_ip},{dest_ip},{port},{protocol},{first},{last},{flows},{class}"
    )?;
    let each = [row.p_benign, row.p_c2, row.p_exfil, row.p_scan, row.p_bruteforce, row.p_dos];
    each.iter().try_for_each(|p| write!(writer, ",{p}"))?;
    writeln!(writer, ",{score}")
}

#[cfg(feature = "parquet")]
mod columns {
    use std::io::{self, Write};
    use std::sync::Arc;

    use arrow_array::RecordBatch;
    use arrow_array::builder::{ArrayBuilder, StringBuilder};
    use arrow_array::builder::{Float32Builder, Float64Builder, Int32Builder, Int64Builder};
    use arrow_schema::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::errors::ParquetError;
    use parquet::file::properties::WriterProperties;

    use super::{COLUMNS, Row};

    /// Rows that are handed to the column writers at once.
    const BATCH_ROWS: usize = 8_192;

    #[derive(Default)]
    struct Rows {
        scenario: StringBuilder,
        addresses: [StringBuilder; 2],
        small: [Int32Builder; 2],
        wide: [Int64Builder; 3],
        class: StringBuilder,
        probabilities: [Float32Builder; 6],
        score: Float64Builder,
    }

    impl Rows {
        fn builders(&mut self) -> Vec<&mut dyn ArrayBuilder> {
            let mut all: Vec<&mut dyn ArrayBuilder> = vec![&mut self.scenario];
            all.extend(self.addresses.iter_mut().map(|b| b as &mut dyn ArrayBuilder));
            all.extend(self.small.iter_mut().map(|b| b as &mut dyn ArrayBuilder));
            all.extend(self.wide.iter_mut().map(|b| b as &mut dyn ArrayBuilder));
            all.push(&mut self.class);
            all.extend(self.probabilities.iter_mut().map(|b| b as &mut dyn ArrayBuilder));
            all.push(&mut self.score);
            all
        }
    }

    fn schema() -> Arc<Schema> {
        let kind = |name: &str| match name {
            "dest_port" | "protocol" => DataType::Int32,
            "first" | "last" | "flows" => DataType::Int64,
            "score" => DataType::Float64,
            name if name.starts_with("p_") => DataType::Float32,
            _ => DataType::Utf8,
        };
        let nullable = |name: &str| matches!(name, "scenario" | "dest_port" | "protocol");
        let fields = COLUMNS.map(|name| Field::new(name, kind(name), nullable(name)));
        Arc::new(Schema::new(fields.to_vec()))
    }

    /// The operating system's error, where it is one.
    fn system(error: ParquetError) -> io::Error {
        match error {
            ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(error) => *error,
                Err(inner) => io::Error::other(inner),
            },
            error => io::Error::other(error),
        }
    }

    /// Gathers rows into columns.
    pub(super) struct Writer<W: Write + Send> {
        rows: Rows,
        writer: ArrowWriter<W>,
    }

    impl<W: Write + Send> Writer<W> {
        pub(super) fn new(writer: W) -> io::Result<Self> {
            let zstd = Compression::ZSTD(ZstdLevel::default());
            let properties = WriterProperties::builder().set_compression(zstd).build();
            let writer = ArrowWriter::try_new(writer, schema(), Some(properties));
            Ok(Self { rows: Rows::default(), writer: writer.map_err(system)? })
        }

        pub(super) fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
            let rows = &mut self.rows;
            rows.scenario.append_option(row.scenario);
            rows.addresses[0].append_value(&row.src_ip);
            rows.addresses[1].append_value(&row.dest_ip);
            rows.small[0].append_option(row.dest_port.map(i32::from));
            rows.small[1].append_option(row.protocol.map(i32::from));
            rows.wide[0].append_value(row.first);
            rows.wide[1].append_value(row.last);
            rows.wide[2].append_value(row.flows as i64);
            rows.class.append_value(row.class);
            let each =
                [row.p_benign, row.p_c2, row.p_exfil, row.p_scan, row.p_bruteforce, row.p_dos];
            rows.probabilities.iter_mut().zip(each).for_each(|(to, p)| to.append_value(p));
            rows.score.append_value(row.score);
            if rows.score.len() >= BATCH_ROWS { self.flush() } else { Ok(()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            let columns = self.rows.builders().into_iter().map(ArrayBuilder::finish).collect();
            let batch = RecordBatch::try_new(schema(), columns).map_err(io::Error::other)?;
            self.writer.write(&batch).map_err(system)
        }

        pub(super) fn finish(mut self) -> io::Result<()> {
            self.flush()?;
            self.writer.close().map_err(system).map(drop)
        }
    }
}
