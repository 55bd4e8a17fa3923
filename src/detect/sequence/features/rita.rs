//! RITA v5's sub-scores over a window in place of a day, not rounded to three places: a rounded
//! feature has steps that two machines may take apart.

use super::order::Ordered;
use super::{Columns, WINDOW};

/// Bins of the histogram.
const BINS: usize = 24;
/// Different whole seconds below which there is no histogram.
const SECONDS_MIN: usize = 4;
/// Bins that must hold something for a score of duration, and for two levels of activity.
const BARS_MIN: usize = 6;
const BARS_MIN_BIMODAL: usize = 11;
/// An unbroken run of so many bins is a full score.
const RUN_FULL: f64 = 12.0;

/// The four scores and their mean.
pub(super) struct Scores {
    pub(super) times: f64,
    pub(super) sizes: f64,
    pub(super) histogram: f64,
    pub(super) duration: f64,
    pub(super) mean: f64,
}

pub(super) fn scores(columns: &Columns) -> Scores {
    let mut whole = [0; WINDOW];
    let mut sum_ms = 0_u64;
    for (i, second) in whole[..columns.n].iter_mut().enumerate() {
        sum_ms += u64::from(columns.gap_ms[i]);
        *second = sum_ms / 1_000;
    }
    let whole = &whole[..columns.n];
    let deltas = whole.windows(2).map(|pair| pair[1] - pair[0]).filter(|&delta| delta > 0);
    let times = statistic(&Ordered::of(deltas.map(|delta| delta as f64)), 1.0);
    let sizes = statistic(&Ordered::of(columns.up[..columns.n].iter().copied()), 0.0);
    let fresh = whole.chunk_by(|a, b| a == b).map(|run| run[0]);
    let (mut bins, mut count) = ([0_u64; BINS], 0);
    let end = whole[columns.n - 1];
    for second in fresh {
        let bin = (second * BINS as u64).checked_div(end).unwrap_or(0);
        bins[(bin as usize).min(BINS - 1)] += 1;
        count += 1;
    }
    if count < SECONDS_MIN {
        return Scores { times, sizes, histogram: 0.0, duration: 0.0, mean: 0.0 };
    }
    let (histogram, duration) = (histogram(&bins), duration(&bins, end));
    let mean = (times + sizes + histogram + duration) / 4.0;
    Scores { times, sizes, histogram, duration, mean }
}

/// How even gaps or sizes are: skew and median absolute deviation. `otherwise` stands in for the
/// latter where the median is below 1. 0 with fewer than 3 values.
fn statistic(x: &Ordered, otherwise: f64) -> f64 {
    let n = x.values().len();
    if n < 3 {
        return 0.0;
    }
    let half = n / 2;
    let (q1, q2, q3) = (x.middle(0, half), x.middle(0, n), x.middle(n - half, half));
    let spread = q3 - q1;
    let skewed = spread >= 10.0 && q2 != q1 && q2 != q3;
    let skew = if skewed { (q1 + q3 - 2.0 * q2) / spread } else { 0.0 };
    let mad = Ordered::of(x.values().iter().map(|x| (x - q2).abs())).middle(0, n);
    let even = if q2 >= 1.0 { (q2 - mad) / q2 } else { otherwise };
    ((1.0 - skew.abs()).max(0.0) + even.max(0.0)) / 2.0
}

fn bars(bins: &[u64; BINS]) -> usize {
    bins.iter().filter(|&&bin| bin > 0).count()
}

/// How evenly the bins are filled, or filled on two levels.
fn histogram(bins: &[u64; BINS]) -> f64 {
    let mean = bins.iter().sum::<u64>() as f64 / BINS as f64;
    let squares: f64 = bins.iter().map(|&bin| (bin as f64 - mean).powi(2)).sum();
    let cv = (squares / BINS as f64).sqrt() / mean;
    let even = if cv > 1.0 { 0.0 } else { 1.0 - cv };
    let bars = bars(bins);
    if bars < BARS_MIN_BIMODAL {
        return even;
    }
    let largest = bins.iter().max().copied().unwrap_or(0);
    let size = largest.div_ceil(20).max(1);
    let mut levels = [0_usize; WINDOW];
    bins.iter().filter(|&&bin| bin > 0).for_each(|bin| levels[(bin / size) as usize] += 1);
    levels.sort_unstable();
    let top = levels[WINDOW - 1] + levels[WINDOW - 2];
    even.max((top as f64 / (bars - 1) as f64).min(1.0))
}

/// How much of the window is covered, or how long a run of bins is filled, with wrap-around.
fn duration(bins: &[u64; BINS], end: u64) -> f64 {
    if bars(bins) < BARS_MIN {
        return 0.0;
    }
    // The first event stands at 0 and the last at the end.
    let coverage = if end > 0 { 1.0 } else { 0.0 };
    let twice = [*bins, *bins].concat();
    let runs = twice.split(|&bin| bin == 0).map(<[u64]>::len);
    let longest = runs.max().unwrap_or(0).min(BINS);
    f64::max(coverage, (longest as f64 / RUN_FULL).min(1.0))
}
