//! Retro-hunt: slices that Weir wrote, read again, so that other rules can run on their flows.

use std::path::Path;

use super::replay::{Replay, ReplayError, Run};
use crate::decode::slices::{NdjsonDecoder, SliceError};
use crate::flow::Slice;
use crate::input::source::Source;

impl Replay {
    /// Reads slices as NDJSON.
    pub(super) fn ndjson(
        &mut self,
        path: &Path,
        mut source: Source,
        run: &mut Run,
    ) -> Result<(), ReplayError> {
        let mut decoder = NdjsonDecoder::new(self.sites.clone());
        self.chunks(&mut source, |replay, chunk| {
            decoder.push(chunk, |line, row| replay.slice(path, line, row, run));
            Ok(())
        })?;
        let mut cut = None;
        decoder.finish(|row, slice| {
            cut = matches!(slice, Err(SliceError::CutShort)).then_some(row);
            self.slice(path, row, slice, run);
        });
        match cut {
            Some(row) if !self.stopped() => {
                Err(ReplayError::CutShort { path: path.to_owned(), row })
            }
            _ => Ok(()),
        }
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
            Err(error) => run.reject(path, error.reason(), &format_args!("row {row}: {error}")),
        }
    }
}
