//! NDJSON of slices, in chunks of any size: every line is a slice or a typed error, the chunks make
//! no difference, and folding what came out keeps the books.
//!
//! Input: how many lengths follow (1 octet), the chunks' lengths (1 each), the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::decode::slices::{NdjsonDecoder, SliceError};
use weir::flow::{Fold, FoldSink, FoldedFlow, Slice};
use weir::metrics::Ledgers;

type Rows = Vec<(u64, Result<Slice, SliceError>)>;

/// Feeds `file` in chunks of `lengths`, over and over, or whole if there are none.
fn decode(mut file: &[u8], lengths: &[u8]) -> Rows {
    let mut decoder = NdjsonDecoder::new(vec!["default".to_owned()]);
    let mut rows = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !file.is_empty() {
        let length = lengths.next().map_or(file.len(), |&length| usize::from(length).max(1));
        let (chunk, rest) = file.split_at(length.min(file.len()));
        decoder.push(chunk, |line, row| rows.push((line, row)));
        file = rest;
    }
    decoder.finish(|line, row| rows.push((line, row)));
    rows
}

/// Counts the slices that come back.
#[derive(Default)]
struct Count(u64);

impl FoldSink for Count {
    fn grew(&mut self, flow: &mut FoldedFlow<'_>, _: bool) {
        assert!(flow.view.first <= flow.view.last);
    }

    fn completed(&mut self, _: &mut FoldedFlow<'_>, slices: Vec<Slice>) {
        assert!(slices.is_sorted_by_key(|slice| slice.number));
        self.0 += slices.len() as u64;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&count, rest)) = input.split_first() else { return };
    let (lengths, file) = rest.split_at(usize::from(count).min(rest.len()));
    let rows = decode(file, lengths);
    assert_eq!(format!("{rows:?}"), format!("{:?}", decode(file, &[])));
    let (mut fold, mut ledgers, mut sink) = (Fold::new(3, 1_000), Ledgers::default(), Count(0));
    for (line, row) in rows {
        assert!(line > 0);
        match row {
            Ok(slice) => {
                let stamp = slice.flow.last;
                fold.slice(slice, stamp, &mut ledgers, &mut sink);
            }
            Err(error) => assert!(!error.to_string().is_empty() && !error.reason().is_empty()),
        }
    }
    fold.flush(&mut ledgers, &mut sink);
    assert_eq!((ledgers.records.merged, ledgers.slices.held), (sink.0, 0));
    assert_eq!(ledgers.imbalances(), Vec::<String>::new());
});
