//! NDJSON: one slice a line.

use super::{Columns, SliceError};
use crate::flow::Slice;

/// Octets of a line, at most.
pub const ROW_OCTETS_MAX: usize = 1 << 20;

/// Decodes lines that come in pieces. Memory is bounded by [`ROW_OCTETS_MAX`].
#[derive(Clone, Debug, Default)]
pub struct NdjsonDecoder {
    sites: Vec<String>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// The rest of a line that is too long is skipped.
    skips: bool,
    line: u64,
}

impl NdjsonDecoder {
    /// A decoder of slices whose sites have these names, by index.
    #[must_use]
    pub fn new(sites: Vec<String>) -> Self {
        Self { sites, ..Self::default() }
    }

    /// Takes the next octets in and calls `each`, with the line's number from 1, for every line that
    /// ended.
    pub fn push(&mut self, octets: &[u8], mut each: impl FnMut(u64, Result<Slice, SliceError>)) {
        let mut rest = octets;
        while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.begun.is_empty() && !self.skips {
                self.decode(line, &mut each);
            } else {
                self.append(line);
                self.end(&mut each);
            }
        }
        self.append(rest);
    }

    /// The end of the input: the last line may lack its end.
    pub fn finish(mut self, mut each: impl FnMut(u64, Result<Slice, SliceError>)) {
        if self.skips || !self.begun.is_empty() {
            self.end(&mut each);
        }
    }

    fn append(&mut self, octets: &[u8]) {
        if self.begun.len() + octets.len() > ROW_OCTETS_MAX {
            (self.skips, self.begun) = (true, Vec::new());
        } else if !self.skips {
            self.begun.extend_from_slice(octets);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(u64, Result<Slice, SliceError>)) {
        if std::mem::take(&mut self.skips) {
            self.line += 1;
            each(self.line, Err(SliceError::TooLong { octets_max: ROW_OCTETS_MAX }));
            return;
        }
        let line = std::mem::take(&mut self.begun);
        self.decode(&line, each);
        self.begun = line;
        self.begun.clear();
    }

    fn decode(&mut self, line: &[u8], each: &mut impl FnMut(u64, Result<Slice, SliceError>)) {
        self.line += 1;
        if line.len() > ROW_OCTETS_MAX || !line.trim_ascii().is_empty() {
            each(self.line, decode(line, &self.sites));
        }
    }
}

/// The slice that one JSON object tells of; `sites` are the names of the sites, by index.
///
/// # Errors
/// [`SliceError`], by the first column that does not fit.
pub fn decode(object: &[u8], sites: &[String]) -> Result<Slice, SliceError> {
    if object.len() > ROW_OCTETS_MAX {
        return Err(SliceError::TooLong { octets_max: ROW_OCTETS_MAX });
    }
    let columns: Result<Columns<'_>, _> = serde_json::from_slice(object.trim_ascii());
    let columns = columns.map_err(|error| match error.is_eof() {
        true => SliceError::CutShort,
        false => SliceError::Json { message: error.to_string() },
    })?;
    columns.slice(sites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Addr;
    use crate::time::Micros;

    const ROW: &str = r#"{"timestamp":5000000,"src_ip":"10.0.0.1","dest_ip":"2001:db8::1",
        "src_port":1,"dest_port":443,"fwd_bytes":9223372036854775807,"bwd_bytes":0,"fwd_pkts":3,
        "bwd_pkts":0,"flow_dur":1.000001,"protocol":6,
        "flow_id":"000000000000000000000000000000ff","slice":2,"last_slice":true,
        "end_reason":"end_of_flow","records":9,"direction":"outbound","direction_by":"syn",
        "sampling_unknown":true,"application":"a\"b","sigma_rule_ids":["x"],
        "sigma_detections":[{"rule_id":"x"}],"schema":1}"#;

    fn decode(text: &str, piece: usize) -> Vec<(u64, Result<Slice, SliceError>)> {
        let mut decoder = NdjsonDecoder::new(vec!["default".to_owned(), "b".to_owned()]);
        let mut rows = Vec::new();
        for octets in text.as_bytes().chunks(piece) {
            decoder.push(octets, |line, row| rows.push((line, row)));
        }
        decoder.finish(|line, row| rows.push((line, row)));
        rows
    }

    #[track_caller]
    fn check(from: &str, to: &str, reason: &str) {
        let row = ROW.replace('\n', " ").replace(from, to);
        let rows = decode(&row, row.len());
        let found = rows[0].1.as_ref().err().map_or("taken", SliceError::reason);
        assert_eq!((rows.len(), found), (1, reason), "{from} to {to}: {:?}", rows[0].1);
    }

    #[test]
    fn a_row_is_the_slice_that_was_written() {
        let row = ROW.replace('\n', " ");
        let text = format!("{row}\r\n\n{row}");
        for piece in [1, 7, 4_096] {
            let rows = decode(&text, piece);
            assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 3]);
            let slice = rows[1].1.as_ref().expect("a slice");
            assert_eq!((slice.flow_id.0, slice.number, slice.last), (255, 2, true));
            let flow = &slice.flow;
            assert_eq!((flow.first, flow.last), (Micros(5_000_000), Micros(6_000_001)));
            assert_eq!((flow.src, flow.fwd.octets), (Addr::v4(0x0a00_0001), i64::MAX as u64));
            assert_eq!((flow.application.as_deref(), flow.sampling_interval), (Some("a\"b"), None));
        }
    }

    #[test]
    fn what_is_no_slice_is_told_by_its_reason() {
        check("\"schema\":1", "\"schema\":1,\"site\":\"b\"", "taken");
        check("\"schema\":1", "\"schema\":2", "schema_version");
        check("\"schema\":1", "\"x\":1", "not_a_slice");
        check("\"slice\":2", "\"rule\":2", "not_a_slice");
        check("\"schema\":1", "\"schema\":1,\"site\":\"c\"", "unknown_site");
        check("\"src_port\":1,", "", "missing_value");
        check("\"src_port\":1,", "\"src_port\":65536,", "bad_value");
        check("10.0.0.1", "10.0.0", "bad_value");
        check("1.000001", "-1", "bad_value");
        check("outbound", "up", "bad_value");
        check("{", "[", "bad_json");
        check("\"slice\":2", "\"slice\":\"2\"", "bad_json");
        check(",\"schema\":1}", "", "cut_short");
        check("\"flow_id\":", "\"", "bad_json");
    }

    #[test]
    fn a_line_beyond_the_bound_is_skipped_alone() {
        let row = ROW.replace('\n', " ");
        let long = format!("{}\n{row}\n", "x".repeat(ROW_OCTETS_MAX + 1));
        for piece in [65_536, long.len()] {
            let rows = decode(&long, piece);
            let reasons: Vec<_> = rows
                .iter()
                .map(|(line, row)| (*line, row.as_ref().err().map(SliceError::reason)))
                .collect();
            assert_eq!(reasons, [(1, Some("row_too_long")), (2, None)]);
        }
    }
}
