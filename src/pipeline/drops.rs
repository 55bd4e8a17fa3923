//! What the kernel dropped, said in the log: at once, and then no more often than every ten seconds.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);

/// Of one socket or interface.
#[derive(Debug, Default)]
pub struct DropLog {
    said: Option<Instant>,
    unsaid: u64,
}

impl DropLog {
    /// Takes in what was `dropped` since the last call. Returns how many drops to tell of now.
    pub fn add(&mut self, now: Instant, dropped: u64) -> Option<u64> {
        self.unsaid += dropped;
        if self.unsaid == 0 || self.said.is_some_and(|said| now.duration_since(said) < EVERY) {
            return None;
        }
        self.said = Some(now);
        self.rest()
    }

    /// Drops that nothing was said of yet: at the end.
    pub fn rest(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.unsaid)).filter(|&unsaid| unsaid > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_said_at_once_and_then_in_sums() {
        let start = Instant::now();
        let mut log = DropLog::default();
        let said = [(0, 0), (1, 5), (2, 7), (10, 1), (11, 0), (12, 0), (30, 0), (31, 2), (32, 3)]
            .map(|(second, dropped)| log.add(start + Duration::from_secs(second), dropped));
        assert_eq!(said, [None, Some(5), None, None, Some(8), None, None, Some(2), None]);
        assert_eq!((log.rest(), log.rest()), (Some(3), None));
    }
}
