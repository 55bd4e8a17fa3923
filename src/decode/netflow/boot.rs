//! When an exporter booted, from headers that tell whole seconds.
//!
//! A v9 header has the time in seconds and the uptime in milliseconds (RFC 3954, section 5.1). Taken
//! by itself, each puts the boot, and so every flow that counts from it, up to a second too early, by
//! another amount each time: the same connection would begin and end at other gaps than it did. All
//! headers together narrow it down, as the true boot lies within a second after what each of them says.

use crate::time::{Micros, SECOND};

/// What headers say that lie further apart than this is of two boots, or of a clock that was set.
const SAME_BOOT_US: i64 = 2 * SECOND;

/// The boot of one observation domain, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Boot(Option<Micros>);

impl Boot {
    /// The time of a header that says `seconds`, at `uptime_ms`: `seconds`, or up to a second later.
    pub(super) fn refine(&mut self, seconds: Micros, uptime_ms: u32) -> Micros {
        let uptime_us = i64::from(uptime_ms) * 1_000;
        let earliest = seconds.plus(-uptime_us);
        let same = |boot: &Micros| boot.since(earliest).abs() < SAME_BOOT_US;
        let boot = self.0.filter(same).unwrap_or(earliest);
        let boot = boot.clamp(earliest, earliest.plus(SECOND - 1));
        self.0 = Some(boot);
        boot.plus(uptime_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers of an exporter that booted at `boot_ms` and sends at these uptimes.
    fn headers(boot_ms: i64, uptimes: &[u32]) -> Vec<(Micros, u32)> {
        let seconds = |uptime: u32| (boot_ms + i64::from(uptime)).div_euclid(1_000);
        uptimes.iter().map(|&uptime| (Micros::from_secs(seconds(uptime)), uptime)).collect()
    }

    #[track_caller]
    fn check(what: &str, headers: &[(Micros, u32)], want_ms: &[i64]) {
        let mut boot = Boot::default();
        let times = headers.iter().map(|&(seconds, uptime)| boot.refine(seconds, uptime));
        let times: Vec<i64> = times.map(|time| time.0 / 1_000).collect();
        assert_eq!(times, want_ms, "{what}");
    }

    #[test]
    fn headers_of_one_boot_agree_on_it() {
        // Sent at 1000.2, 1001.9, 1002.5 s: each says at least how late it was.
        let sent = headers(1_000_000, &[200, 1_900, 2_500]);
        check("later ones know more", &sent, &[1_000_000, 1_001_700, 1_002_300]);
    }

    #[test]
    fn the_boot_is_never_outside_of_what_a_header_says() {
        let restart = [headers(500_000, &[900_000]), headers(1_460_300, &[0, 800])].concat();
        check("a restart", &restart, &[1_400_000, 1_460_000, 1_461_000]);
        let wrap = [(Micros::from_secs(5_000_000), u32::MAX), (Micros::from_secs(5_000_001), 900)];
        check("an uptime that wraps", &wrap, &[5_000_000_000, 5_000_001_000]);
        let stepped = [(Micros::from_secs(100), 5_000), (Micros::from_secs(90), 6_000)];
        check("a clock that is set back", &stepped, &[100_000, 90_000]);
    }

    /// A clock that is slewed by 100 parts in a million, a header each second: what is told stays within
    /// the second that the header says.
    #[test]
    fn a_slow_clock_is_followed() {
        let mut boot = Boot::default();
        for second in 0..100_000_u32 {
            let uptime = second * 1_000 + second / 10;
            let seconds = Micros::from_secs(i64::from(second) + 7);
            let told = boot.refine(seconds, uptime);
            assert!((0..SECOND).contains(&told.since(seconds)), "{told:?} at {second}");
        }
    }
}
