//! The sequence model: the last flows of an address pair, scored as one.
//!
//! ```text
//! slice ─▶ Shard: pair ─▶ window of 32 events ─▶ gate ─▶ batch ─▶ Scorer ─▶ verdict ─▶ slices, alerts
//! ```
//!
//! A [`Shard`] takes the slices of its pairs as they are cut. Records of one connection are joined
//! to one [`Event`] ([`record`]), a pair keeps its last 32 ([`pairs`]), and once a second of input
//! time those windows that changed, pass the gate and were not scored within the last minute are
//! scored together. What comes of it depends on the shard's own slices and on nothing else: not on
//! how they came in batches, and not on any clock but the input's.
//!
//! The model is `model/weir.onnx`; `model/FEATURES.md` is the contract that [`features`] keeps.

mod allow;
mod batch;
pub mod checkpoint;
mod event;
mod evidence;
pub mod features;
mod joins;
mod labels;
#[cfg(feature = "model")]
mod model;
pub mod pairs;
mod record;
#[cfg(test)]
mod sample;
mod shard;
pub mod table;
mod verdict;

pub use allow::Allow;
pub use batch::take_all;
pub use event::{Event, Service, Transport, narrow, wide};
pub use labels::{Class, Labels, LabelsError, Probabilities, score};
#[cfg(feature = "model")]
pub use model::{Model, ModelError};
pub use record::{Record, is_unicast, join_all, likely_protocol};
pub use shard::Shard;
pub use verdict::{Attack, Prevailing, Sequence, Verdict};

use std::sync::Arc;

use features::{STATS, STEPS};

use crate::flow::{Direction, direction};
use crate::net::{Addr, Cidr};

/// Windows that wait to be scored together, as the model's two inputs.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    /// `[len, 32, 26]`, row by row.
    pub steps: Vec<f32>,
    /// `[len, 62]`, row by row.
    pub stats: Vec<f32>,
}

impl Windows {
    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stats.len() / STATS
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stats.is_empty()
    }

    /// Adds a window; `stats` may be others than its own.
    pub fn push(&mut self, columns: &features::Columns, stats: &features::Stats) {
        let at = self.steps.len();
        self.steps.resize(at + STEPS, 0.0);
        let steps = self.steps[at..].first_chunk_mut().expect("as long as the steps");
        columns.steps(steps);
        self.stats.extend_from_slice(stats);
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.stats.clear();
    }
}

/// What scores windows.
pub trait Scorer {
    /// Appends the probabilities of each of `windows` to `out`. But for rounding, a window's do not
    /// depend on what is scored with it. Returns whether that worked; if not, `out` holds what came before.
    fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool;
}

/// What the configuration wants of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What the model's numbers mean.
    pub labels: Arc<Labels>,
    /// Alerts per 1,000 hosts a day that the threshold was chosen for.
    pub budget: f64,
    /// The score from which on a pair is alerted on.
    pub threshold: f64,
    /// The score from which on an alert's level is high.
    pub high: f64,
    /// Flows that are kept from the model.
    pub allow: Allow,
    /// Home networks.
    pub home: Vec<Cidr>,
    /// Whether pairs are alerted on whose ends both lie in home networks.
    pub within_home: bool,
}

impl Settings {
    /// For a budget of so many alerts per 1,000 hosts a day. Of them, those that would also come of
    /// a tenth of the budget are high.
    #[must_use]
    pub fn new(labels: Arc<Labels>, budget: f64, allow: Allow, home: Vec<Cidr>) -> Self {
        let (threshold, high) = (labels.threshold(budget), labels.threshold(budget / 10.0));
        Self { labels, budget, threshold, high, allow, home, within_home: true }
    }

    /// The score from which on the pair of `a` and `b` is alerted on; infinite where it never is.
    #[must_use]
    pub fn threshold_of(&self, a: Addr, b: Addr) -> f64 {
        let internal = || direction(&self.home, a, b) == Direction::Internal;
        if self.within_home || !internal() { self.threshold } else { f64::INFINITY }
    }
}
