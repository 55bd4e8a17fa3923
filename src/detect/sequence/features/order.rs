//! Order statistics of up to 32 values.

use super::WINDOW;

/// Values in rising order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ordered {
    values: [f64; WINDOW],
    n: usize,
}

impl Ordered {
    /// Sorts `values`, which are finite and at most [`WINDOW`].
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut ordered = Self { values: [0.0; WINDOW], n: 0 };
        for value in values {
            ordered.values[ordered.n] = value;
            ordered.n += 1;
        }
        ordered.values[..ordered.n].sort_unstable_by(f64::total_cmp);
        ordered
    }

    pub(super) fn values(&self) -> &[f64] {
        &self.values[..self.n]
    }

    /// The order statistic at `p`/`q` of the way: the value of index (n − 1)·p div q; 0 if empty.
    pub(super) fn pick(&self, p: usize, q: usize) -> f64 {
        if self.n == 0 { 0.0 } else { self.values[(self.n - 1) * p / q] }
    }

    /// The lower median.
    pub(super) fn median(&self) -> f64 {
        self.pick(1, 2)
    }

    /// Median absolute deviation from `median`, over it or over `floor` if that is more; at most 4.
    pub(super) fn spread(&self, median: f64, floor: f64) -> f64 {
        let deviations = Self::of(self.values().iter().map(|x| (x - median).abs()));
        (deviations.median() / median.max(floor)).min(4.0)
    }

    /// How many different values there are, and how often the most frequent occurs.
    pub(super) fn runs(&self) -> (usize, usize) {
        let runs = self.values().chunk_by(|a, b| a == b);
        runs.fold((0, 0), |(count, longest), run| (count + 1, longest.max(run.len())))
    }

    /// The mean of the middle two of `n` values from index `from` on; 0 if `n` is 0.
    pub(super) fn middle(&self, from: usize, n: usize) -> f64 {
        if n == 0 {
            return 0.0;
        }
        (self.values[from + (n - 1) / 2] + self.values[from + n / 2]) / 2.0
    }
}
