//! What came of loading rules: for `weir rules check`, the log and the metrics.

use std::fmt;

use super::reason::Reason;

/// A rule that was not loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rejected {
    /// Its file.
    pub file: String,
    /// The line at fault, from 1; the document's first where the fault has none.
    pub line: u32,
    /// Its title, empty if it has none.
    pub title: String,
    /// Its id, empty if it has none.
    pub id: String,
    /// Why.
    pub reason: Reason,
}

/// Something to know of a rule that was loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Its file.
    pub file: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its title.
    pub title: String,
    /// What.
    pub text: String,
}

/// What came of loading rules. Its `Display` is one line for each rejected rule and each warning
/// in the form `file:line: title (id): text`, then a sum.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadReport {
    /// Rules loaded.
    pub loaded: usize,
    /// Rules that `rules.disable` names.
    pub disabled: usize,
    /// Rules not loaded.
    pub rejected: Vec<Rejected>,
    /// What to know of loaded ones.
    pub warnings: Vec<Note>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.title.is_empty() {
            write!(f, "{}", self.title)?;
            if !self.id.is_empty() {
                write!(f, " ({})", self.id)?;
            }
            write!(f, ": ")?;
        }
        write!(f, "rejected: {}", self.reason)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: warning: {}", self.file, self.line, self.title, self.text)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rejected in &self.rejected {
            writeln!(f, "{rejected}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "{warning}")?;
        }
        let (loaded, rejected, disabled) = (self.loaded, self.rejected.len(), self.disabled);
        write!(f, "{loaded} rules loaded, {rejected} rejected, {disabled} disabled")
    }
}
