//! CSV as RFC 4180 has it, but with `\n` as line end: a header line, then one line a record.
//!
//! Absent fields are empty. Lists are JSON arrays as text, so that no value can be mistaken for
//! two.

use super::ndjson::{plain, write_value};
use super::schema::{Field, Layout, Record, Value};

/// Writes the records of one stream.
#[derive(Clone, Debug)]
pub struct Writer {
    fields: Vec<(usize, &'static Field)>,
    cell: Vec<u8>,
    /// Cells that are the same in every line, and their names, each after a comma.
    constant: Vec<u8>,
    names: Vec<u8>,
}

impl Writer {
    /// A writer of the fields of `layout`, the operator's own as last columns.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let (mut constant, mut names) = (Vec::new(), Vec::new());
        for (name, value) in layout.own().iter() {
            names.push(b',');
            names.extend_from_slice(name.as_bytes());
            constant.push(b',');
            match value {
                Value::Text(text) => quoted(&mut constant, text.as_bytes()),
                value => plain(&mut constant, &value),
            }
        }
        Self { fields: layout.fields().collect(), cell: Vec::new(), constant, names }
    }

    /// Appends the header line.
    pub fn header(&self, out: &mut Vec<u8>) {
        for (column, (_, field)) in self.fields.iter().enumerate() {
            if column > 0 {
                out.push(b',');
            }
            out.extend_from_slice(field.name.as_bytes());
        }
        out.extend_from_slice(&self.names);
        out.push(b'\n');
    }

    /// Appends `record` as one line.
    pub fn line<R: Record + ?Sized>(&mut self, out: &mut Vec<u8>, record: &R) {
        for (column, &(index, _)) in self.fields.iter().enumerate() {
            if column > 0 {
                out.push(b',');
            }
            match record.value(index) {
                Value::Text(text) => quoted(out, text.as_bytes()),
                Value::Made(text) => quoted(out, text.as_bytes()),
                value @ (Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Seconds(_)
                | Value::Float(_)
                | Value::Address(_)
                | Value::Hex(_)) => plain(out, &value),
                list => {
                    self.cell.clear();
                    write_value(&mut self.cell, &list);
                    quoted(out, &self.cell);
                }
            }
        }
        out.extend_from_slice(&self.constant);
        out.push(b'\n');
    }
}

/// `cell`, in quotes if it holds a comma, a quote or a line break (RFC 4180 §2.6, 2.7).
fn quoted(out: &mut Vec<u8>, cell: &[u8]) {
    if !cell.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        out.extend_from_slice(cell);
        return;
    }
    out.push(b'"');
    for &byte in cell {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::decode::text::CsvDecoder;
    use crate::detect::TaggedSlice;
    use crate::output::schema::Shown;
    use crate::output::{Row, Stream, sample};
    use crate::time::Micros;

    /// A slice of a time whose unit can be told from its magnitude.
    fn datable() -> impl Strategy<Value = TaggedSlice> {
        let times = (100_000_000_000_000_i64..9_000_000_000_000_000, 0..3_000_000_000_000_000_i64);
        (sample::slice(), times).prop_map(|(mut tagged, (first, duration))| {
            let flow = &mut tagged.slice.flow;
            flow.first = Micros(first);
            flow.last = Micros(first + duration);
            if matches!(flow.protocol, 1 | 58) {
                (flow.src_port, flow.dst_port) = (flow.src_port % 256, flow.dst_port % 256);
            }
            tagged
        })
    }

    proptest! {
        #[test]
        fn the_csv_decoder_reads_what_is_written(slices in vec(datable(), 0..5)) {
            let (mut writer, mut text) = (Writer::new(&Layout::all(Stream::Slices)), Vec::new());
            writer.header(&mut text);
            for slice in &slices {
                writer.line(&mut text, &Shown::new(Row::from(slice), &sample::context()));
            }
            let (mut decoder, mut records) = (CsvDecoder::default(), Vec::new());
            let mut take = |row| records.push(row);
            decoder.push(&text, &mut take).expect("the header has all columns");
            decoder.finish(&mut take).expect("the header has all columns");
            prop_assert_eq!(records.len(), slices.len());
            for (record, tagged) in records.into_iter().zip(&slices) {
                let (record, flow) = (record.expect("a good row"), &tagged.slice.flow);
                prop_assert_eq!((record.src, record.dst), (flow.src, flow.dst));
                let icmp = matches!(flow.protocol, 1 | 58);
                let packed = (0, flow.src_port << 8 | flow.dst_port);
                let ports = if icmp { packed } else { (flow.src_port, flow.dst_port) };
                prop_assert_eq!((record.src_port, record.dst_port), ports);
                prop_assert_eq!(record.protocol, flow.protocol);
                prop_assert_eq!((record.first, record.last), (flow.first, flow.last));
                let bwd = record.bwd.expect("there are columns for it");
                let bounded = |counter: u64| counter.min(i64::MAX as u64);
                prop_assert_eq!(record.fwd.octets, bounded(flow.fwd.octets));
                prop_assert_eq!(record.fwd.packets, bounded(flow.fwd.packets));
                prop_assert_eq!(bwd.octets, bounded(flow.bwd.octets));
                prop_assert_eq!(bwd.packets, bounded(flow.bwd.packets));
            }
        }
    }
}
