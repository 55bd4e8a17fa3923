//! What each stage of the path costs, in CPU time of the whole process.
//!
//! Measured on a share of the batches and scaled up, so that the measuring costs nothing that shows:
//! a clock is read at the borders of a batch, never for a record.

#![expect(unsafe_code, reason = "clock_gettime has no safe form in std")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One in so many batches is measured. A prime: no rhythm of the input falls in with it.
pub const ONE_IN: u32 = 13;

/// Where CPU time goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Taking datagrams or packets from the kernel.
    Receive,
    /// Bytes to records.
    Decode,
    /// The flow tables: hash, merge, expire; and what is made of slices that were cut.
    Table,
    /// Sigma rules on flows.
    Rules,
    /// The sequence model.
    Model,
    /// Slices and alerts to text or columns.
    Encode,
    /// Handing files on: write, sync, rename.
    Write,
}

impl Stage {
    /// All of them, in the order of the path.
    pub const ALL: [Self; 7] = [
        Self::Receive,
        Self::Decode,
        Self::Table,
        Self::Rules,
        Self::Model,
        Self::Encode,
        Self::Write,
    ];

    /// The label on `/metrics`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Decode => "decode",
            Self::Table => "table",
            Self::Rules => "rules",
            Self::Model => "model",
            Self::Encode => "encode",
            Self::Write => "write",
        }
    }
}

/// Nanoseconds of each stage. One for the process: sinks and readers share no other state.
static SPENT_NS: [AtomicU64; Stage::ALL.len()] = [const { AtomicU64::new(0) }; 7];

/// Adds what a measured batch took of `stage`, scaled up to the batches that were not measured.
pub fn spend(stage: Stage, measured: Duration) {
    let nanos = u64::try_from(measured.as_nanos()).unwrap_or(u64::MAX);
    let scaled = nanos.saturating_mul(ONE_IN.into());
    SPENT_NS[stage as usize].fetch_add(scaled, Ordering::Relaxed);
}

/// CPU microseconds of each stage since the process began.
#[must_use]
pub fn spent_us() -> [(&'static str, u64); Stage::ALL.len()] {
    Stage::ALL
        .map(|stage| (stage.as_str(), SPENT_NS[stage as usize].load(Ordering::Relaxed) / 1_000))
}

/// Which batches of a thread are measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share(u32);

impl Share {
    /// Whether the next batch is.
    pub const fn next(&mut self) -> bool {
        self.0 = (self.0 + 1) % ONE_IN;
        self.0 == 0
    }
}

/// As [`spend`], of work that is always measured.
pub fn spend_whole(stage: Stage, took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    SPENT_NS[stage as usize].fetch_add(nanos, Ordering::Relaxed);
}

/// CPU time of the calling thread, user and system: what a stage costs, whoever else wants the
/// core. One system call.
#[must_use]
pub fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which is valid, and nowhere else.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Takes the CPU time of the stages of one thread's batches: of a share of them, between laps.
#[derive(Debug, Default)]
pub struct Laps {
    share: Share,
    /// CPU time at the last lap, of a batch that is measured.
    since: Option<Duration>,
}

impl Laps {
    /// A batch begins.
    pub fn begin(&mut self) {
        self.since = self.share.next().then(thread_cpu);
    }

    /// Whether this batch is measured.
    #[must_use]
    pub const fn measures(&self) -> bool {
        self.since.is_some()
    }

    /// What was done since the last lap was `stage`, but for `other`, which is another's.
    pub fn lap(&mut self, stage: Stage, other: Duration) {
        if let Some(since) = self.since {
            let now = thread_cpu();
            spend(stage, now.saturating_sub(since).saturating_sub(other));
            self.since = Some(now);
        }
    }

    /// What was done since the last lap is not this thread's to tell.
    pub fn skip(&mut self) {
        if self.since.is_some() {
            self.since = Some(thread_cpu());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_so_many_is_measured_and_scaled_up() {
        let mut share = Share::default();
        let measured = (0..ONE_IN * 10).filter(|_| share.next()).count();
        assert_eq!(measured, 10);
        let before = spent_us()[Stage::Model as usize].1;
        spend(Stage::Model, Duration::from_micros(5));
        let after = spent_us()[Stage::Model as usize].1;
        assert!(after - before >= 5 * u64::from(ONE_IN));
        assert_eq!(spent_us()[Stage::Model as usize].0, "model");
    }
}
