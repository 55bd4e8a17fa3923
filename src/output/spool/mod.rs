//! The spool: one log on disk of all that is to be delivered, and a cursor in it for each sink.

mod target;

pub use target::{Delivered, Failure, Target, Unit, UnitRecord};
