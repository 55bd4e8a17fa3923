//! Flow records as text: CSV in DeepMITRE's columns or any of flowprep's aliases.
//!
//! [`CsvDecoder`] takes octets in chunks of any size and gives one [`FlowRecord`] a row. It is
//! driven by the header: [`Columns`] says what each column means. A row that cannot be used gives
//! a typed [`RowError`] with line, column, value and what was expected; a header without the
//! columns that every flow needs ends the file.
//!
//! [`FlowRecord`]: crate::flow::FlowRecord

mod columns;
mod csv;
mod error;
mod row;
mod value;

pub use columns::{Columns, Role, Unit};
pub use csv::CsvDecoder;
pub use error::{HeaderError, RowError, RowFault};
