//! The ONNX file, run by tract.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use tract_onnx::prelude::{
    Datum, DatumExt, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable,
    IntoTValue, OutletId, TValue, Tensor, TractError, TractResult, TypedSimplePlan, tvec,
};

use tract_onnx::tract_hir::infer::Factoid;

use super::event::Event;
use super::features::{Columns, STATS, STEP, STEPS, WINDOW};
use super::labels::{Class, Labels, LabelsError, Probabilities};
use super::{Record, Scorer, Windows};
use crate::time::Micros;

/// Windows of one run of the graph, each with a plan of its own: what is scored together is cut
/// into these. A run by itself costs what some three windows cost (`make bench-model`), so a few
/// places may stay empty.
const BATCHES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// The file that the sensor works with unless it is pointed at another.
const SHIPPED: (&[u8], &str) =
    (include_bytes!("../../../model/weir.onnx"), include_str!("../../../model/weir.json"));

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not an ONNX file, or one with operators that are not known here.
    #[error("not a model that can be run: {0}")]
    Onnx(String),
    /// Inputs or outputs are others than expected.
    #[error(
        "{found}; expected the inputs `steps` [batch, 32, 26] and `stats` [batch, 62] and the \
             output `probabilities` [batch, 6], all float32"
    )]
    Shapes {
        /// What was found.
        found: String,
    },
    /// It runs, and what comes of it has no meaning.
    #[error("`probabilities` of a trial are {found:?}, expected six from 0 to 1 with the sum 1")]
    Values {
        /// Of one window.
        found: Probabilities,
    },
    /// What stands beside it cannot be used.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// What stands beside it is of another file.
    #[error("its sha256 is {found}, and the JSON beside it is of {expected}")]
    Other {
        /// That of the ONNX file.
        found: String,
        /// What the JSON says.
        expected: String,
    },
}

/// A model that can be run. Its plans are shared by all threads that hold a copy.
#[derive(Clone)]
pub struct Model {
    labels: Arc<Labels>,
    plans: Vec<Plan>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("sha256", &self.labels.sha256).finish_non_exhaustive()
    }
}

impl Model {
    /// Of the octets of an ONNX file and the text of the JSON beside it, which must name its SHA-256:
    /// thresholds of one model mean nothing to another.
    ///
    /// # Errors
    /// [`ModelError`]: what was found, and what was expected.
    pub fn parse(onnx: &[u8], labels: &str) -> Result<Self, ModelError> {
        let labels = Arc::new(Self::check(onnx, labels)?);
        let plans = plans(onnx)?;
        try_out(&plans)?;
        Ok(Self { labels, plans })
    }

    /// Whether `onnx` is the file that `labels`, the text of the JSON beside it, is of.
    ///
    /// # Errors
    /// [`ModelError::Labels`], [`ModelError::Other`].
    pub fn check(onnx: &[u8], labels: &str) -> Result<Labels, ModelError> {
        let labels = Labels::parse(labels)?;
        let found: String = Sha256::digest(onnx).iter().map(|o| format!("{o:02x}")).collect();
        if !found.eq_ignore_ascii_case(&labels.sha256) {
            return Err(ModelError::Other { found, expected: labels.sha256 });
        }
        Ok(labels)
    }

    /// Loads the graph of an ONNX file and scores windows by it, for whoever wants to know whether
    /// that can be done.
    ///
    /// # Errors
    /// As [`Model::parse`], without what concerns the JSON.
    pub fn attempt(onnx: &[u8]) -> Result<(), ModelError> {
        try_out(&plans(onnx)?)
    }

    /// The model that Weir ships.
    ///
    /// # Panics
    /// Never: a test loads it.
    #[must_use]
    pub fn shipped() -> Self {
        static LOADED: OnceLock<Model> = OnceLock::new();
        let (onnx, labels) = SHIPPED;
        let load = || Self::parse(onnx, labels).expect("the shipped model can be run");
        LOADED.get_or_init(load).clone()
    }

    /// What its numbers mean.
    #[must_use]
    pub const fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }
}

/// What runs so many windows.
type Plan = (usize, Arc<TypedSimplePlan>);

/// The plans of an ONNX file.
fn plans(mut onnx: &[u8]) -> Result<Vec<Plan>, ModelError> {
    let failed = |error: TractError| ModelError::Onnx(format!("{error:#}"));
    let graph = tract_onnx::onnx().model_for_read(&mut onnx).map_err(failed)?;
    let inputs = inputs(&graph)?;
    BATCHES.iter().map(|&batch| Ok((batch, plan(&graph, inputs, batch)?))).collect()
}

/// Scores a pair's first flow, a full window of nothing and one of the most that an event holds, by
/// every plan.
fn try_out(plans: &[Plan]) -> Result<(), ModelError> {
    let most = Event::of(&Record {
        last: Micros::from_secs(1 << 40),
        fwd_octets: u64::MAX,
        bwd_octets: u64::MAX,
        fwd_packets: u64::MAX,
        bwd_packets: u64::MAX,
        responder_port: u16::MAX,
        protocol: 17,
        flags: u8::MAX,
        flags_known: true,
        initiator_low: true,
        ..Record::default()
    });
    let trials: [&[Event]; 3] = [&[Event::default()], &[Event::default(); WINDOW], &[most; WINDOW]];
    for plan in plans {
        let (mut windows, mut found) = (Windows::default(), Vec::new());
        for at in 0..plan.0 {
            let columns = Columns::of(trials[at % trials.len()]);
            windows.push(&columns, &columns.stats());
        }
        let failed = |error: TractError| ModelError::Onnx(format!("{error:#}"));
        run(std::slice::from_ref(plan), &windows, &mut found).map_err(failed)?;
        if let Some(found) = found.into_iter().find(|found| !are_probabilities(found)) {
            return Err(ModelError::Values { found });
        }
    }
    Ok(())
}

/// Whether each lies in 0 to 1, and all sum to 1, but for rounding.
fn are_probabilities(values: &Probabilities) -> bool {
    const ROUNDING: f32 = 1e-3;
    let sum: f32 = values.iter().sum();
    let within = |value: &f32| (-ROUNDING..=1.0 + ROUNDING).contains(value);
    values.iter().all(within) && (sum - 1.0).abs() <= ROUNDING
}

/// Which input is `steps` and which is `stats`.
fn inputs(graph: &InferenceModel) -> Result<[usize; 2], ModelError> {
    let declared = |outlets: &[OutletId]| {
        let each = outlets.iter().map(|&outlet| {
            let fact = graph.outlet_fact(outlet).map(|fact| format!("{fact:?}"));
            let name = graph.outlet_label(outlet).unwrap_or(&graph.node(outlet.node).name);
            (name.to_owned(), fact.unwrap_or_default())
        });
        each.collect::<Vec<(String, String)>>()
    };
    let failed = |error: TractError| ModelError::Onnx(format!("{error:#}"));
    let from = declared(graph.input_outlets().map_err(failed)?);
    let to = declared(graph.output_outlets().map_err(failed)?);
    let place = |name: &str| from.iter().position(|(known, _)| known == name);
    match (place("steps"), place("stats"), from.len(), to.len()) {
        (Some(steps), Some(stats), 2, 1) => Ok([steps, stats]),
        _ => {
            let list = |list: &[(String, String)]| {
                let each = list.iter().map(|(name, fact)| format!("`{name}` [{fact}]"));
                each.collect::<Vec<_>>().join(", ")
            };
            let found = format!("the inputs are {}, the outputs {}", list(&from), list(&to));
            Err(ModelError::Shapes { found })
        }
    }
}

/// A plan for `batch` windows at once.
fn plan(
    graph: &InferenceModel,
    [steps, stats]: [usize; 2],
    batch: usize,
) -> Result<Arc<TypedSimplePlan>, ModelError> {
    let onnx = |error: TractError| ModelError::Onnx(format!("{error:#}"));
    for (name, at, shape) in [("steps", steps, &[WINDOW, STEP][..]), ("stats", stats, &[STATS])] {
        let fact = graph.input_fact(at).map_err(onnx)?;
        if !takes(fact, shape) {
            return Err(ModelError::Shapes { found: format!("the input `{name}` is [{fact:?}]") });
        }
    }
    let build = || -> TractResult<Arc<TypedSimplePlan>> {
        let graph = graph.clone();
        let graph = graph.with_input_fact(steps, f32::fact([batch, WINDOW, STEP]).into())?;
        let graph = graph.with_input_fact(stats, f32::fact([batch, STATS]).into())?;
        graph.into_optimized()?.into_runnable()
    };
    let plan = build().map_err(onnx)?;
    let fact = plan.model().output_fact(0).map_err(onnx)?;
    let shape = fact.shape.as_concrete();
    if fact.datum_type != f32::datum_type() || shape != Some(&[batch, Class::COUNT]) {
        return Err(ModelError::Shapes { found: format!("the output is [{fact:?}]") });
    }
    Ok(plan)
}

/// Whether an input takes any number of windows of this shape.
fn takes(fact: &InferenceFact, shape: &[usize]) -> bool {
    let of_floats = fact.datum_type.concretize() == Some(f32::datum_type());
    let dims: Vec<Option<i64>> =
        fact.shape.dims().map(|dim| dim.concretize().and_then(|dim| dim.to_i64().ok())).collect();
    let wanted = shape.iter().map(|&dim| i64::try_from(dim).ok());
    of_floats && dims.len() == shape.len() + 1 && dims[0].is_none() && wanted.eq(dims[1..].to_vec())
}

fn run(plans: &[Plan], windows: &Windows, out: &mut Vec<Probabilities>) -> TractResult<()> {
    let (mut at, len) = (0, windows.len());
    while at < len {
        let left = len - at;
        let fits = |(batch, _): &&Plan| batch - batch / 4 <= left;
        let (batch, plan) = plans.iter().find(fits).unwrap_or(&plans[0]);
        let filled = left.min(*batch);
        let steps = &windows.steps[at * STEPS..(at + filled) * STEPS];
        let stats = &windows.stats[at * STATS..(at + filled) * STATS];
        let steps = tensor(&[*batch, WINDOW, STEP], steps)?;
        let stats = tensor(&[*batch, STATS], stats)?;
        let result = plan.run(tvec![steps, stats])?;
        let result = result[0].to_plain_array_view::<f32>()?;
        let rows = result.rows().into_iter().take(filled);
        out.extend(rows.map(|row| std::array::from_fn(|class| row[class])));
        at += filled;
    }
    Ok(())
}

/// A tensor that begins with `values`; what is left is 0.
fn tensor(shape: &[usize], values: &[f32]) -> TractResult<TValue> {
    let mut tensor = Tensor::zero::<f32>(shape)?;
    let mut view = tensor.to_plain_array_view_mut::<f32>()?;
    let all = view.as_slice_mut().expect("a new tensor is contiguous");
    all[..values.len()].copy_from_slice(values);
    Ok(tensor.into_tvalue())
}

impl Scorer for Model {
    fn score(&mut self, windows: &Windows, out: &mut Vec<Probabilities>) -> bool {
        run(&self.plans, windows, out).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_meaning_is_told_from_probabilities() {
        for (values, want) in [
            ([0.9, 0.1, 0.0, 0.0, 0.0, 0.0], true),
            ([0.9, 0.1, 0.0004, 0.0, -0.0004, 0.0], true),
            ([0.9, 0.2, 0.0, 0.0, 0.0, 0.0], false),
            ([1.5, -0.5, 0.0, 0.0, 0.0, 0.0], false),
            ([f32::NAN, 0.0, 0.0, 0.0, 0.0, 1.0], false),
            ([f32::INFINITY, 0.0, 0.0, 0.0, 0.0, 0.0], false),
        ] {
            assert_eq!(are_probabilities(&values), want, "{values:?}");
        }
    }
}
