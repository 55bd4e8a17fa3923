//! CSV (RFC 4180) in chunks of any size.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::columns::Columns;
use super::error::{HeaderError, RowError, RowFault};
use super::row::{self, Cells};
use crate::flow::FlowRecord;

/// Octets of a row, and of a header line, at most.
const ROW_OCTETS_MAX: usize = 64 << 10;
/// Cells of a row, at most.
const CELLS_MAX: usize = 1_024;

/// Decodes a CSV of flows.
///
/// Feed it all octets with [`push`](Self::push), then call [`finish`](Self::finish). The delimiter
/// is the one of comma, semicolon and tab that the header has most of. Cells may be quoted; a byte
/// order mark and empty lines are skipped; line ends are LF, CR LF or CR. Memory is fixed: a row
/// beyond the bounds is an error, and its octets are skipped.
///
/// A record's `stamp` is the end of its row: the caller's input clock makes it a running maximum.
/// What CSV does not say is not known: the sampling interval, the exporter, TCP flags. If there is
/// a column for the way back, the row is a biflow whose source is the initiator.
#[derive(Debug)]
pub struct CsvDecoder {
    state: State,
    reader: Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    text_used: usize,
    cells: usize,
    /// The row at hand did not fit.
    overflow: bool,
    /// Line feeds in what was dropped of it.
    lines_dropped: u64,
}

/// Takes rows as they end, each with its scenario.
pub trait Emit: FnMut(Result<FlowRecord, RowError>, Option<&str>) {}

impl<F: FnMut(Result<FlowRecord, RowError>, Option<&str>)> Emit for F {}

#[derive(Debug)]
enum State {
    /// Gathering the header line.
    Header(Vec<u8>),
    /// The header line is in the reader.
    Columns,
    Rows(Columns),
}

impl Default for CsvDecoder {
    fn default() -> Self {
        Self {
            state: State::Header(Vec::new()),
            reader: Reader::new(),
            text: vec![0; ROW_OCTETS_MAX],
            ends: vec![0; CELLS_MAX],
            text_used: 0,
            cells: 0,
            overflow: false,
            lines_dropped: 0,
        }
    }
}

impl CsvDecoder {
    /// Takes the next octets of the file; every row that ends in them goes to `emit`.
    ///
    /// # Errors
    /// [`HeaderError`]: nothing can be decoded, and nothing more may be pushed.
    pub fn push(
        &mut self,
        chunk: &[u8],
        mut emit: impl FnMut(Result<FlowRecord, RowError>),
    ) -> Result<(), HeaderError> {
        self.push_named(chunk, |row, _| emit(row))
    }

    /// As [`push`](Self::push); with each row its scenario, where there is such a column and the cell
    /// is not empty.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_named(&mut self, chunk: &[u8], mut emit: impl Emit) -> Result<(), HeaderError> {
        let State::Header(line) = &mut self.state else {
            return self.feed(chunk, &mut emit);
        };
        // Empty lines before the header.
        let blank = if line.is_empty() {
            chunk.iter().take_while(|b| matches!(b, b'\n' | b'\r')).count()
        } else {
            0
        };
        let chunk = &chunk[blank..];
        let end = chunk.iter().position(|b| matches!(b, b'\n' | b'\r')).map(|i| i + 1);
        let (header, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        if line.len() + header.len() > ROW_OCTETS_MAX {
            return Err(HeaderError::TooLong { octets_max: ROW_OCTETS_MAX });
        }
        line.extend_from_slice(header);
        if end.is_none() {
            return Ok(());
        }
        self.begin(&mut emit)?;
        self.feed(rest, &mut emit)
    }

    /// The end of the file: the last row need not end with a line end.
    ///
    /// # Errors
    /// [`HeaderError`] if there was no header, or only a bad one without a line end.
    pub fn finish(
        self,
        mut emit: impl FnMut(Result<FlowRecord, RowError>),
    ) -> Result<(), HeaderError> {
        self.finish_named(|row, _| emit(row))
    }

    /// As [`finish`](Self::finish), with scenarios as [`push_named`](Self::push_named).
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_named(mut self, mut emit: impl Emit) -> Result<(), HeaderError> {
        if let State::Header(line) = &self.state {
            if line.is_empty() {
                return Err(HeaderError::Empty);
            }
            self.begin(&mut emit)?;
        }
        // A line end more ends the last row, unless it is text within quotes.
        self.feed(b"\n", &mut emit)?;
        if self.text_used > 0 && matches!(self.state, State::Rows(_)) {
            emit(Err(self.unclosed_quote()), None);
            return Ok(());
        }
        // An empty input tells the reader that this is the end.
        self.read(&[], &mut emit).map(drop)
    }

    /// The file ended within quotes, which are in the last cell.
    fn unclosed_quote(&self) -> RowError {
        let end = self.reader.line();
        let line = end - line_feeds(&self.text[..self.text_used]) - self.lines_dropped;
        let opened = if self.overflow {
            line
        } else {
            let start = self.cells.checked_sub(1).map_or(0, |before| self.ends[before]);
            end - line_feeds(&self.text[start..self.text_used])
        };
        RowError { line, fault: RowFault::UnclosedQuote { line: opened } }
    }

    /// The columns, once the header was seen.
    #[must_use]
    pub const fn columns(&self) -> Option<&Columns> {
        match &self.state {
            State::Rows(columns) => Some(columns),
            _ => None,
        }
    }

    /// The header line is whole: looks for the delimiter in it and reads it.
    fn begin(&mut self, emit: &mut impl Emit) -> Result<(), HeaderError> {
        let State::Header(line) = std::mem::replace(&mut self.state, State::Columns) else {
            return Ok(());
        };
        let times = |delimiter: u8| line.iter().filter(|&&b| b == delimiter).count();
        let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|&d| times(d)).unwrap_or(b',');
        self.reader = ReaderBuilder::new().delimiter(delimiter).build();
        self.feed(&line, emit)
    }

    fn feed(&mut self, mut input: &[u8], emit: &mut impl Emit) -> Result<(), HeaderError> {
        while !input.is_empty() {
            let used = self.read(input, emit)?;
            input = &input[used..];
        }
        Ok(())
    }

    /// One step of the reader; returns the octets that it used.
    fn read(&mut self, input: &[u8], emit: &mut impl Emit) -> Result<usize, HeaderError> {
        loop {
            let text = &mut self.text[self.text_used..];
            let ends = &mut self.ends[self.cells..];
            let (result, used, text_used, cells) = self.reader.read_record(input, text, ends);
            self.text_used += text_used;
            self.cells += cells;
            match result {
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(used),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    // The rest of this row overwrites what there is of it.
                    self.overflow = true;
                    self.lines_dropped += line_feeds(&self.text[..self.text_used]);
                    (self.text_used, self.cells) = (0, 0);
                    if used > 0 || !input.is_empty() {
                        return Ok(used);
                    }
                }
                ReadRecordResult::Record => {
                    let at_line_feed = used > 0 && input[used - 1] == b'\n';
                    let within = line_feeds(&self.text[..self.text_used]) + self.lines_dropped;
                    let line = self.reader.line() - u64::from(at_line_feed) - within;
                    let result = self.row(line, emit);
                    (self.text_used, self.cells, self.overflow) = (0, 0, false);
                    self.lines_dropped = 0;
                    return result.map(|()| used);
                }
            }
        }
    }

    fn row(&mut self, line: u64, emit: &mut impl Emit) -> Result<(), HeaderError> {
        let cells = Cells { text: &self.text[..self.text_used], ends: &self.ends[..self.cells] };
        let State::Rows(columns) = &self.state else {
            if self.overflow {
                return Err(HeaderError::TooLong { octets_max: ROW_OCTETS_MAX });
            }
            let names: Vec<_> =
                (0..self.cells).map(|i| String::from_utf8_lossy(cells.get(i))).collect();
            self.state = State::Rows(Columns::find(names.iter().map(|name| &**name))?);
            return Ok(());
        };
        let fault = if self.overflow {
            Err(RowFault::TooLong { octets_max: ROW_OCTETS_MAX, cells_max: CELLS_MAX })
        } else if self.cells != columns.count() {
            Err(RowFault::CellCount { found: self.cells, expected: columns.count() })
        } else {
            row::record(columns, &cells)
        };
        let scenario = columns.scenario().filter(|_| fault.is_ok()).map(|at| cells.get(at));
        let scenario = scenario.filter(|cell| !cell.is_empty()).map(String::from_utf8_lossy);
        emit(fault.map_err(|fault| RowError { line, fault }), scenario.as_deref());
        Ok(())
    }
}

fn line_feeds(text: &[u8]) -> u64 {
    text.iter().map(|&byte| u64::from(byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::Addr;
    use crate::time::Micros;

    type Rows = Vec<Result<FlowRecord, RowError>>;

    fn decode(text: &[u8], chunk: usize) -> Result<Rows, HeaderError> {
        let (mut decoder, mut rows) = (CsvDecoder::default(), Vec::new());
        for chunk in text.chunks(chunk.max(1)) {
            decoder.push(chunk, |row| rows.push(row))?;
        }
        decoder.finish(|row| rows.push(row))?;
        Ok(rows)
    }

    const DEEPMITRE: &str = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,fwd_bytes,\
                             bwd_bytes,total_fwd_pkts,total_bwd_pkts,label\n";

    #[track_caller]
    fn one(header: &str, row: &str) -> Result<FlowRecord, RowError> {
        let rows = decode(format!("{header}{row}\n").as_bytes(), 7).expect("a good header");
        assert_eq!(rows.len(), 1, "one row, one outcome: {row}");
        rows.into_iter().next().expect("just counted")
    }

    #[test]
    fn a_deepmitre_row_becomes_a_biflow_record() {
        let row = "2017-03-07 08:55:58,1.5,10.0.0.1,192.0.2.7,50000.0,443,1200.0,3400,7,9.0,1";
        let record = one(DEEPMITRE, row).expect("a good row");
        assert_eq!(record.first, Micros(1_488_876_958_000_000));
        assert_eq!(record.last, record.first.plus(1_500_000));
        assert_eq!(record.stamp, record.last);
        assert_eq!((record.src, record.dst), (Addr::v4(0x0a00_0001), Addr::v4(0xc000_0207)));
        assert_eq!((record.src_port, record.dst_port, record.protocol), (50_000, 443, 0));
        assert_eq!((record.fwd.octets, record.fwd.packets), (1_200, 7));
        assert_eq!(record.bwd.map(|side| (side.octets, side.packets)), Some((3_400, 9)));
        assert_eq!(record.biflow_direction, Some(1), "the source is the initiator");
        assert_eq!(record.sampling_interval, 0, "CSV does not say");
        assert_eq!(record.end_reason, None);
    }

    #[test]
    fn delimiters_quotes_line_ends_and_marks() {
        let head = "ts;src addr;Dst-Addr;sport;dport;bytes;duration_ms;proto";
        let row = "1488876958;10.0.0.1;2001:db8::1;1;2;3;250;udp";
        let want = one(&format!("{head}\n"), row).expect("a good row");
        assert_eq!(want.last.since(want.first), 250_000, "milliseconds by the column's name");
        assert_eq!((want.bwd, want.biflow_direction), (None, None), "no column for the way back");
        let tabs = |text: &str| text.replace(';', "\t");
        let quoted = |text: &str| format!("\"{}\"", text.replace(';', "\";\""));
        for (case, text) in [
            ("CR LF", format!("{head}\r\n{row}\r\n")),
            ("CR", format!("{head}\r{row}\r")),
            ("no line end", format!("{head}\n{row}")),
            ("empty lines", format!("\n\r\n{head}\n\n\n{row}\n\n")),
            ("byte order mark", format!("\u{feff}{head}\n{row}\n")),
            ("tabs", format!("{}\n{}\n", tabs(head), tabs(row))),
            ("quotes", format!("{}\n{}\n", quoted(head), quoted(row))),
            ("blanks", format!("{head}\n {}\n", row.replace(';', " ; "))),
        ] {
            for chunk in [1, 2, 3, 4_096] {
                let rows = decode(text.as_bytes(), chunk);
                assert_eq!(rows, Ok(vec![Ok(want.clone())]), "case: {case}, chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_bad_row_says_where_and_why() {
        let good = "0,1,10.0.0.1,10.0.0.2,1,2,3,4,5,6,0";
        let check = |row: &str, reason: &str, message: &str| {
            let text = format!("{DEEPMITRE}{good}\r\n{row}\n{good}\n");
            let rows = decode(text.as_bytes(), 11).expect("a good header");
            assert_eq!(rows.len(), 3, "case: {row}");
            assert!(rows[0].is_ok() && rows[2].is_ok(), "its neighbours are good: {row}");
            let error = rows[1].clone().expect_err(row);
            assert_eq!((error.line, error.reason()), (3, reason), "case: {row}");
            assert_eq!(error.to_string(), format!("line 3: {message}"), "case: {row}");
        };
        check("0,1,10.0.0.1", "cell_count", "3 cells, expected 11 as in the header");
        check(
            &good.replace("10.0.0.2", "host"),
            "bad_value",
            "column `dest_ip` is `host`, expected an IPv4 or IPv6 address",
        );
        check(
            &good.replace("0,1,", "soon,1,"),
            "bad_value",
            "column `timestamp` is `soon`, expected a date and time, or a number since the epoch \
             below 1e20",
        );
        check(
            &good.replace("0,1,", "0,-1,"),
            "bad_value",
            "column `flow_dur` is `-1`, expected a number of seconds, 0 to 3153600000",
        );
        check(
            &good.replace(",1,2,", ",1,65536,"),
            "bad_value",
            "column `dest_port` is `65536`, expected a port, 0 to 65535",
        );
        check(
            &good.replace(",1,2,", ",NaN,2,"),
            "missing_value",
            "column `src_port` is `NaN`, which is no value, expected a port, 0 to 65535",
        );
        check(
            &good.replace(",3,4,", ",,4,"),
            "missing_value",
            "column `fwd_bytes` is empty, expected a whole number, 0 to 9223372036854775807",
        );
        check(
            &good.replace(",3,4,", ",3,4.5,"),
            "bad_value",
            "column `bwd_bytes` is `4.5`, expected a whole number, 0 to 9223372036854775807",
        );
        let counters =
            ["fwd_bytes", "bwd_bytes", "total_fwd_pkts", "total_bwd_pkts"].into_iter().zip(6..);
        for (column, index) in counters {
            for large in ["9223372036854775808", "18446744073709551615", &"9".repeat(23), "1e308"] {
                let mut cells: Vec<_> = good.split(',').collect();
                cells[index] = large;
                let message = format!(
                    "column `{column}` is `{large}`, expected a whole number, 0 to \
                     9223372036854775807"
                );
                check(&cells.join(","), "bad_value", &message);
            }
        }
        check(
            &good.replace("0,1,", "0,1e308,"),
            "bad_value",
            "column `flow_dur` is `1e308`, expected a number of seconds, 0 to 3153600000",
        );
        let long = format!("{good}{}", "0".repeat(ROW_OCTETS_MAX));
        check(&long, "row_too_long", "the row has more than 65536 octets or 1024 cells");
        check(
            &",".repeat(3_000),
            "row_too_long",
            "the row has more than 65536 octets or 1024 cells",
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_is_an_error() {
        let good = "0,1,10.0.0.1,10.0.0.2,1,2,3,4,5,6,";
        let long = format!("{good}0\n").repeat(2 * ROW_OCTETS_MAX / good.len());
        let check = |case: &str, rows: &str, want: &[Result<(), (u64, &str)>]| {
            for chunk in [1, 7, 4_096] {
                let text = format!("{DEEPMITRE}{rows}");
                let got = decode(text.as_bytes(), chunk).expect("a good header");
                let got: Vec<_> = got.into_iter().map(|row| row.map(drop)).collect();
                let got: Vec<_> = got
                    .iter()
                    .map(|r| r.as_ref().copied().map_err(|e| (e.line, e.reason())))
                    .collect();
                assert_eq!(got, want, "case: {case}, chunks of {chunk}");
            }
        };
        let unclosed = |line| Err((line, "unclosed_quote"));
        check("first row", &format!("{good}\"x\n{good}0\n{good}0\n"), &[unclosed(2)]);
        check("last row", &format!("{good}0\n{good}\"x\n"), &[Ok(()), unclosed(3)]);
        check("no line end", &format!("{good}0\n{good}\"x"), &[Ok(()), unclosed(3)]);
        check("nothing in it", &format!("{good}0\n{good}\""), &[Ok(()), unclosed(3)]);
        check("CR LF", &format!("{good}0\r\n\r\n{good}\"x\r\n{good}0\r\n"), &[Ok(()), unclosed(4)]);
        check("an escaped quote", &format!("{good}\"x\"\"\n"), &[unclosed(2)]);
        check(
            "beyond a row's bounds",
            &format!("{good}0\n{good}\"x\n{long}"),
            &[Ok(()), unclosed(3)],
        );
        check("closed", &format!("{good}\"x\"\n{good}\"x\""), &[Ok(()), Ok(())]);
        check("closed on another line", &format!("{good}\"x\ny\"\n{good}\"\""), &[Ok(()), Ok(())]);
        check("a quote within a cell", &format!("{good}x\"\n{good}0"), &[Ok(()), Ok(())]);
        let late = format!("{good}\"x\n{long}\"\n{good}0\n");
        check("closed beyond the bounds", &late, &[Err((2, "row_too_long")), Ok(())]);

        let rows = decode(format!("{DEEPMITRE}\"a\nb\",\"c\nd\n").as_bytes(), 5);
        let error = rows.expect("a good header").remove(0).expect_err("it is not closed");
        assert_eq!(
            error.to_string(),
            "line 2: the quote opened on line 3 is not closed before the end of the file"
        );
    }

    #[test]
    fn absent_counters_of_the_way_back_are_zero() {
        let record = one(DEEPMITRE, "0,1,10.0.0.1,10.0.0.2,1,2,3,,nan,,").expect("a good row");
        assert_eq!(record.bwd, Some(crate::flow::record::Counters::default()));
        assert_eq!(record.fwd.packets, 0);
    }

    #[test]
    fn icmp_has_type_and_code_for_ports() {
        let head = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,fwd_bytes,protocol\n";
        for (row, want) in [
            ("0,0,10.0.0.1,10.0.0.2,8,0,84,icmp", (0, 0x800)),
            ("0,0,10.0.0.1,10.0.0.2,3,1,84,1", (0, 0x301)),
            ("0,0,10.0.0.1,10.0.0.2,0,2048,84,1", (0, 0x800)),
            ("0,0,10.0.0.1,10.0.0.2,,,84,47", (0, 0)),
            ("0,0,10.0.0.1,10.0.0.2,8,0,84,6", (8, 0)),
        ] {
            let record = one(head, row).expect(row);
            assert_eq!((record.src_port, record.dst_port), want, "case: {row}");
        }
    }

    #[test]
    fn a_header_without_the_columns_names_them() {
        let missing = decode(b"time,src_ip,Bytes\n1,2,3\n", 5).expect_err("columns are missing");
        assert_eq!(
            missing.to_string(),
            "no column for dest_ip, src_port, dest_port, flow_dur; found time, src_ip, Bytes"
        );
        let wild = decode(b"a\x1b[31m,b\n1,2\n", 5).expect_err("columns are missing").to_string();
        assert!(wild.ends_with("found a\\u{1b}[31m, b"), "nothing reaches a terminal raw: {wild}");
        let many = format!("{}\n", vec!["x".repeat(100); 100].join(","));
        let many = decode(many.as_bytes(), 512).expect_err("columns are missing").to_string();
        assert!(many.ends_with(" and 36 more") && many.len() < 5_000, "{many}");
        assert_eq!(decode(b"", 1), Err(HeaderError::Empty));
        assert_eq!(decode(b"\n\n", 1), Err(HeaderError::Empty));
        let endless = vec![b'a'; ROW_OCTETS_MAX + 1];
        assert_eq!(decode(&endless, 512).expect_err("endless").reason(), "header_too_long");
    }

    #[test]
    fn the_first_alias_of_the_list_wins() {
        let head = "bytes,fwd_bytes,time,duration_ns,durat,s_ip,d_ip,s_port,d_port,fwd_bytes\n";
        let record = one(head, "1,2,0,9,1,10.0.0.1,10.0.0.2,3,4,5").expect("a good row");
        assert_eq!((record.fwd.octets, record.last), (2, Micros(1_000_000)));
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_rows(
            rows in proptest::collection::vec("[0-9.:,\"x\r\n-]{0,60}", 0..20),
            sizes in 1..40_usize,
        ) {
            let text = format!("{DEEPMITRE}{}", rows.join("\n"));
            prop_assert_eq!(decode(text.as_bytes(), sizes), decode(text.as_bytes(), text.len()));
        }

        #[test]
        fn any_octets_never_panic(text in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            drop(decode(&text, 64));
            let mut file = DEEPMITRE.as_bytes().to_vec();
            file.extend(text);
            prop_assert!(decode(&file, 64).is_ok());
        }
    }
}
