//! The spool: one log on disk of all that is to be delivered, and a cursor in it for each sink.

#![allow(dead_code, reason = "the log that uses it is on its way")]

mod columns;
pub mod frame;
mod segment;
mod target;
mod unit;

pub use target::{Delivered, Failure, ObjectTarget, Place, Stop, Target, Unit, UnitRecord};
pub use unit::Objects;
