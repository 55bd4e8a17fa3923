//! What can be wrong with a text of flow records.

use thiserror::Error;

/// Why a row gave no record. The row is skipped; rows after it are not affected.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line}: {fault}")]
pub struct RowError {
    /// The line on which the row starts, from 1; the header is line 1 unless empty lines stand
    /// before it.
    pub line: u64,
    /// What is wrong with it.
    pub fault: RowFault,
}

impl RowError {
    /// The metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self.fault {
            RowFault::TooLong { .. } => "row_too_long",
            RowFault::CellCount { .. } => "cell_count",
            RowFault::Missing { .. } => "missing_value",
            RowFault::Value { .. } => "bad_value",
            RowFault::UnclosedQuote { .. } => "unclosed_quote",
        }
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RowFault {
    /// It is longer than a row may be, or has far too many cells.
    #[error("the row has more than {octets_max} octets or {cells_max} cells")]
    TooLong {
        /// Octets that a row may have.
        octets_max: usize,
        /// Cells that a row may have.
        cells_max: usize,
    },
    /// It has not as many cells as the header.
    #[error("{found} cells, expected {expected} as in the header")]
    CellCount {
        /// Cells of the row.
        found: usize,
        /// Cells of the header.
        expected: usize,
    },
    /// A cell has no value that must have one: it is empty, or says so by a word such as `nan`.
    #[error("column `{}` {}, expected {expected}", printable(column), no_value(value))]
    Missing {
        /// The column's name in the header.
        column: String,
        /// The word, or nothing.
        value: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// A cell does not hold what its column must.
    #[error("column `{}` is `{}`, expected {expected}", printable(column), printable(value))]
    Value {
        /// The column's name in the header.
        column: String,
        /// Its text, cut after 64 characters.
        value: String,
        /// What it must hold.
        expected: &'static str,
    },
    /// The file ends within quotes: all rows since the quote was opened are in one cell.
    #[error("the quote opened on line {line} is not closed before the end of the file")]
    UnclosedQuote {
        /// The line on which the quote was opened. Of a row beyond the bounds, its first line.
        line: u64,
    },
}

fn no_value(word: &str) -> String {
    match word.is_empty() {
        true => "is empty".to_owned(),
        false => format!("is `{}`, which is no value", printable(word)),
    }
}

/// A text of the file as it may be shown on a terminal: what controls one is escaped.
fn printable(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Names of a header that may be anything: the first of them, each cut short.
fn names(found: &[String]) -> String {
    const NAMES: usize = 64;
    const CHARACTERS: usize = 64;
    let short = |name: &String| printable(&name.chars().take(CHARACTERS).collect::<String>());
    let mut shown = found.iter().take(NAMES).map(short).collect::<Vec<_>>().join(", ");
    if found.len() > NAMES {
        shown += &format!(" and {} more", found.len() - NAMES);
    }
    shown
}

/// Why a text holds no flow records at all.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum HeaderError {
    /// There is no header line.
    #[error("the file is empty, expected a header line")]
    Empty,
    /// The first line is longer than a header may be.
    #[error("no line end within {octets_max} octets, expected a header line")]
    TooLong {
        /// Octets that a header may have.
        octets_max: usize,
    },
    /// Columns that every flow needs are not there under any of their names.
    #[error("no column for {}; found {}", missing.join(", "), names(found))]
    Missing {
        /// The canonical names of what is missing.
        missing: Vec<&'static str>,
        /// The header's names.
        found: Vec<String>,
    },
}

impl HeaderError {
    /// The metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "header_too_long",
            Self::Missing { .. } => "missing_columns",
        }
    }
}
