//! Retro-hunt: slices that Weir wrote, read again, so that other rules can run on their flows.

use std::io::Read;
use std::path::Path;

use super::replay::{Replay, ReplayError, Run};
use crate::decode::slices::{NdjsonDecoder, SliceError};
use crate::flow::Slice;
use crate::input::source::Source;

/// Octets of text read at once.
const CHUNK_OCTETS: usize = 64 << 10;
/// Bad rows that are named one by one; all are counted.
const ROWS_WARNED_MAX: u64 = 10;

impl Replay {
    /// Reads slices as NDJSON.
    pub(super) fn ndjson(
        &mut self,
        path: &Path,
        mut source: Source,
        run: &mut Run,
    ) -> Result<(), ReplayError> {
        let mut decoder = NdjsonDecoder::new(self.sites.clone());
        let mut chunk = vec![0; CHUNK_OCTETS];
        loop {
            let octets = source.read(&mut chunk)?;
            if octets == 0 || self.stopped() {
                break;
            }
            decoder.push(&chunk[..octets], |line, row| self.slice(path, line, row, run));
        }
        decoder.finish(|line, row| self.slice(path, line, row, run));
        Ok(())
    }

    /// Reads slices as Parquet.
    #[cfg(feature = "parquet")]
    pub(super) fn parquet(&mut self, path: &Path, run: &mut Run) -> Result<(), ReplayError> {
        use crate::input::parquet::Slices;
        let failed = |error| ReplayError::Parquet { path: path.to_owned(), error };
        let mut slices = Slices::open(path).map_err(failed)?;
        let mut number = 0;
        while let Some(rows) = slices.next_rows().map_err(failed)? {
            for row in 0..rows.len() {
                number += 1;
                let slice = rows.row(row).slice(&self.sites);
                self.slice(path, number, slice, run);
            }
            if self.stopped() {
                break;
            }
        }
        Ok(())
    }

    /// Takes one row over, or counts why not. The input clock is the end of what was read.
    fn slice(&mut self, path: &Path, row: u64, slice: Result<Slice, SliceError>, run: &mut Run) {
        match slice {
            Ok(slice) => {
                let stamp = run.clock.stamp(slice.flow.last);
                self.pace(stamp, run);
                self.router.slice(slice, stamp);
                self.count_and_flush(stamp, run);
            }
            Err(error) => {
                run.ledgers.records.decoded += 1;
                run.ledgers.records.dropped.one(error.reason());
                run.rejected_rows += 1;
                if run.rejected_rows <= ROWS_WARNED_MAX {
                    tracing::warn!("{}: row {row}: {error}", path.display());
                }
            }
        }
    }
}
