//! A CSV of flows, in chunks of any size: every row is a record or a typed error, and the chunks
//! make no difference.
//!
//! Input: how many lengths follow (1 octet), the chunks' lengths (1 each), the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decode::text::{CsvDecoder, HeaderError, RowError};
use weir::flow::FlowRecord;

type Rows = Vec<Result<FlowRecord, RowError>>;

/// Feeds `file` in chunks of `lengths`, over and over, or whole if there are none.
fn decode(mut file: &[u8], lengths: &[u8]) -> (Rows, Result<(), HeaderError>) {
    let (mut decoder, mut rows) = (CsvDecoder::default(), Vec::new());
    let mut lengths = lengths.iter().cycle();
    while !file.is_empty() {
        let length = lengths.next().map_or(file.len(), |&length| usize::from(length).max(1));
        let (chunk, rest) = file.split_at(length.min(file.len()));
        if let Err(error) = decoder.push(chunk, |row| rows.push(row)) {
            return (rows, Err(error));
        }
        file = rest;
    }
    let ended = decoder.finish(|row| rows.push(row));
    (rows, ended)
}

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (lengths, file) = rest.split_at(usize::from(count).min(rest.len()));
    let (rows, ended) = decode(file, lengths);
    assert!(rows.len() <= file.len());
    for row in &rows {
        match row {
            Ok(record) => assert!(record.first <= record.last && record.stamp == record.last),
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.reason().is_empty());
                assert!(error.line > 0);
            }
        }
    }
    let whole = decode(file, &[]);
    assert_eq!(format!("{rows:?} {ended:?}"), format!("{:?} {:?}", whole.0, whole.1));
});
