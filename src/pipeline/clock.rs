//! The wall clock, and sleeps that end when they should.

#![expect(unsafe_code, reason = "prctl has no safe form in std")]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Micros;

/// The wall clock, in microseconds.
#[must_use]
pub fn wall() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Lets the calling thread be woken when its sleep ends, not up to 50 µs later.
pub fn wake_in_time() {
    const SLACK_NS: libc::c_ulong = 1_000;
    // SAFETY: no memory is involved. Where it is refused, sleeps are a little longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
}
