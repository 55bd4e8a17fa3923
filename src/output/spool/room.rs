//! Waiting for room in a queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a batch waits for room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// As long as it takes.
    Ever,
    /// As long as the queue moves.
    Moving,
}

/// Whether the queue stood still for so long that nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Patience {
    time: Duration,
    over: AtomicBool,
}

impl Patience {
    /// A queue that has not moved for `time`, or for a second, stands still.
    pub(super) fn new(time: Duration) -> Self {
        Self { time: time.max(Duration::from_secs(1)), over: AtomicBool::default() }
    }

    /// Waits on `changed` while `full`, as `wait` says; `queued` tells whether the queue moves.
    pub(super) fn wait<'a, T>(
        &self,
        wait: Wait,
        changed: &Condvar,
        mut state: MutexGuard<'a, T>,
        full: impl Fn(&T) -> bool,
        queued: impl Fn(&T) -> usize,
    ) -> MutexGuard<'a, T> {
        match wait {
            Wait::No => state,
            Wait::Ever => {
                let waited = changed.wait_while(state, |state| full(state));
                waited.unwrap_or_else(PoisonError::into_inner)
            }
            Wait::Moving => {
                let (mut before, mut since) = (queued(&state), Instant::now());
                while full(&state) && !self.over.load(Ordering::Relaxed) {
                    let waited =
                        changed.wait_timeout(state, self.time - since.elapsed().min(self.time));
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                    let now = queued(&state);
                    if now != before {
                        (before, since) = (now, Instant::now());
                    } else if since.elapsed() >= self.time {
                        self.over.store(true, Ordering::Relaxed);
                        tracing::warn!(
                            "a queue has not moved for {:?}: the stop waits for it no longer",
                            self.time
                        );
                    }
                }
                state
            }
        }
    }
}
