//! Lengths of time, as a histogram of which nothing is forgotten.

use hdrhistogram::Histogram;

/// Upper bounds of the buckets that a scrape shows, in microseconds.
const BUCKETS_US: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];
/// The longest that is told apart, in microseconds; longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// A histogram of lengths of time, exact to one percent between a microsecond and an hour.
#[derive(Clone, Debug)]
pub struct Latency {
    histogram: Histogram<u64>,
    sum_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, 2);
        Self { histogram: histogram.expect("bounds that are far enough apart"), sum_us: 0 }
    }
}

impl Latency {
    /// Takes in one length of time. Less than nothing, as when a clock was set back, is nothing.
    pub fn record(&mut self, micros: i64) {
        let micros = u64::try_from(micros).unwrap_or(0);
        self.histogram.saturating_record(micros);
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// Adds what `other` holds.
    ///
    /// # Panics
    /// Never: all have the same bounds.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("the same bounds");
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Their sum in seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a sum for people and their rates")]
    pub fn sum_s(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The length in microseconds that a share of `quantile` (0 to 1) does not exceed; 0 if it
    /// holds none.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile).min(self.histogram.max())
    }

    /// Each bucket's upper bound in seconds, and how many are in it and in none before; the last
    /// has no bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the bounds are small")]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let mut counts = [0; BUCKETS_US.len() + 1];
        for step in self.histogram.iter_recorded() {
            let value = step.value_iterated_to();
            let lowest = self.histogram.lowest_equivalent(value);
            counts[BUCKETS_US.partition_point(|&bound| bound < lowest)] += step.count_at_value();
        }
        let bounds = BUCKETS_US.iter().map(|&bound| bound as f64 / 1e6);
        bounds.chain([f64::INFINITY]).zip(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_found_in_its_bucket() {
        let mut latency = Latency::default();
        for micros in [-5, 0, 10, 11, 999, 1_000, 1_001, 7_000_000, i64::MAX] {
            latency.record(micros);
        }
        let buckets = latency.buckets();
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), latency.count());
        let of = |bound: f64| buckets.iter().find(|(le, _)| *le == bound).map(|(_, count)| *count);
        assert_eq!(of(10e-6), Some(3), "-5, 0 and 10");
        assert_eq!(of(20e-6), Some(1));
        assert_eq!(of(10.0), Some(1));
        assert_eq!(of(f64::INFINITY), Some(1));
        let mut both = latency.clone();
        both.merge(&latency);
        assert_eq!(both.count(), 18);
        assert_eq!(Latency::default().quantile_us(0.99), 0);
        let mut thousand = Latency::default();
        (1..=1_000).for_each(|micros| thousand.record(micros));
        let p99 = thousand.quantile_us(0.99);
        assert!((985..=1_000).contains(&p99), "{p99}");
        assert!((thousand.sum_s() - 0.500_5).abs() < 1e-9);
    }
}
