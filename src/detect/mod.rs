//! Detection on flows: Sigma rules and the sequence model. Pure: rules and model come as octets.

pub mod alert;
pub mod attack;
pub mod sequence;
pub mod sigma;
pub mod suppress;
pub mod volume;

pub use alert::{Alert, Evidence, Level, RuleMeta, TaggedSlice, Technique};
