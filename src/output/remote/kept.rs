//! What the other side's kernel has taken and its program may not have read.
//!
//! Where nothing is acknowledged, octets that a kernel took are lost with the program that did not
//! read them. So the last of them are kept, and sent again down the next connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bursts of whole messages, each with the moment at which the other side's kernel had it.
#[derive(Debug)]
pub(super) struct Kept {
    bursts: VecDeque<(Instant, Vec<u8>)>,
    octets: usize,
    octets_max: usize,
    window: Duration,
}

impl Kept {
    /// Keeps `octets_max` octets at most (none: 0), and of those what went in the last `window`
    /// before the newest.
    pub(super) const fn new(octets_max: usize, window: Duration) -> Self {
        Self { bursts: VecDeque::new(), octets: 0, octets_max, window }
    }

    /// Takes note of a burst that went at `now`.
    pub(super) fn went(&mut self, burst: Vec<u8>, now: Instant) {
        self.octets += burst.len();
        self.bursts.push_back((now, burst));
        while let Some((at, burst)) = self.bursts.front() {
            if self.octets <= self.octets_max && now.duration_since(*at) <= self.window {
                break;
            }
            self.octets -= burst.len();
            self.bursts.pop_front();
        }
    }

    /// The connection ended at `now`; `read` says that it did so in order: a kernel that closes with
    /// octets that nobody read resets the connection. After a while without any, all was read then.
    pub(super) fn ended(&mut self, read: bool, now: Instant) {
        let newest = self.bursts.back().map(|(at, _)| now.duration_since(*at));
        if read && newest.is_some_and(|age| age > self.window) {
            self.bursts.clear();
            self.octets = 0;
        }
    }

    /// What is to be sent again, the oldest first.
    pub(super) fn bursts(&self) -> impl Iterator<Item = &[u8]> {
        self.bursts.iter().map(|(_, burst)| &**burst)
    }

    /// Octets of it.
    pub(super) const fn octets(&self) -> usize {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_unread_is_kept_and_no_more() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kept = Kept::new(10, Duration::from_secs(5));
        let check = |kept: &Kept, want: &[&[u8]]| {
            assert_eq!(kept.bursts().collect::<Vec<_>>(), want);
            assert_eq!(kept.octets(), want.concat().len());
        };
        kept.went(b"aaaa".into(), at(0));
        kept.went(b"bbbb".into(), at(1));
        check(&kept, &[b"aaaa", b"bbbb"]);
        kept.went(b"cc".into(), at(5));
        check(&kept, &[b"aaaa", b"bbbb", b"cc"]);
        kept.went(b"d".into(), at(6));
        check(&kept, &[b"bbbb", b"cc", b"d"]);
        // Reset, or closed while there was traffic: it may be unread, however long ago.
        kept.ended(false, at(100));
        kept.ended(true, at(11));
        check(&kept, &[b"bbbb", b"cc", b"d"]);
        // Closed in order after a while.
        kept.ended(true, at(12));
        check(&kept, &[]);
        // Larger than all that may be kept; and nothing is to be kept.
        kept.went(vec![0; 11], at(20));
        check(&kept, &[]);
        let mut none = Kept::new(0, Duration::from_secs(5));
        none.went(b"a".into(), at(0));
        check(&none, &[]);
    }
}
