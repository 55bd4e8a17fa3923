//! Sigma rules over flows. Pure: rule text in, matches out.
//!
//! A file's text becomes documents (`front`), a document's items become predicates on typed
//! fields ([`fields`], [`names`], `compile`), each in a normal form: a set of integers wherever
//! the field is no free text ([`interval`], [`predicate`]). A rule is a condition over them
//! without negation ([`expr`]), of one of three classes that say when its truth is final
//! ([`predicate::Class`]). [`RuleSet`] scans them. docs/sigma.md has the decisions.

mod already;
mod breadth;
mod collection;
mod compile;
mod contradictions;
mod filters;
mod front;
mod index;
mod lines;
mod load;
mod meta;
mod near;
mod operators;
mod plain;
mod shape;
mod terms;
mod wording;

pub mod changes;
pub mod correlate;
pub mod costs;
pub mod event;
pub mod exclusions;
pub mod expr;
pub mod feed;
pub mod fields;
pub mod ids;
pub mod interval;
pub mod names;
pub mod number;
pub mod placeholders;
pub mod predicate;
pub mod reason;
pub mod report;
pub mod ruleset;
pub mod text;

pub use changes::{Change, Changes};
pub use costs::Costs;
pub use event::{Event, EventError};
pub use exclusions::{Exclusion, ExclusionMeta};
pub use feed::{Feed, FeedError};
pub use fields::{Field, Record};
pub use ids::InForce;
pub use index::Traffic;
pub use placeholders::Placeholders;
pub use predicate::Class;
pub use reason::Reason;
pub use report::{LoadReport, Note, Rejected};
pub use ruleset::{Interner, Named, Options, Phase, Rule, RuleIndex, RuleSet, Source};
