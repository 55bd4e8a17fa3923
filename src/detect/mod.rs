//! Detection on flows: Sigma rules, later the sequence model. Pure: rules come as text.

pub mod alert;
pub mod attack;
pub mod sigma;
pub mod suppress;

pub use alert::{Alert, Evidence, Level, RuleMeta, TaggedSlice, Technique};
