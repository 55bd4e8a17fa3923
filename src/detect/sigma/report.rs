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
    /// Its file, or the key of the configuration that is meant.
    pub file: String,
    /// Its first line, from 1; 0 if there is none.
    pub line: u32,
    /// Its title; empty if there is none.
    pub title: String,
    /// What.
    pub text: String,
}

/// What came of loading rules. Its `Display` is one line for each rejected rule, each warning and each silent
/// rule in the form `file:line: title (id): text`, then a sum.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LoadReport {
    /// Rules loaded.
    pub loaded: usize,
    /// Correlations loaded.
    pub correlations: usize,
    /// Rules, filters and exclusions that `rules.disable` names.
    pub disabled: usize,
    /// Their ids, in lower case.
    pub off: Vec<String>,
    /// Filters loaded.
    pub filters: usize,
    /// Exclusions loaded.
    pub exclusions: usize,
    /// Placeholders that have values.
    pub placeholders: usize,
    /// Files without a document.
    pub empty: Vec<String>,
    /// Rules not loaded.
    pub rejected: Vec<Rejected>,
    /// What to know of loaded ones.
    pub warnings: Vec<Note>,
    /// Rules and correlations that raise no alert, each with the correlations that it feeds.
    pub silent: Vec<Silent>,
}

/// A rule, or a correlation, that only feeds correlations.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Silent {
    /// Its file.
    pub file: String,
    /// Its first line, from 1.
    pub line: u32,
    /// Its title.
    pub title: String,
    /// The titles of the correlations.
    pub feeds: Vec<String>,
}

impl LoadReport {
    /// Takes note of a file without a document.
    pub(super) fn empty(&mut self, file: &str) {
        let text = "it holds no rule";
        self.empty.push(file.to_owned());
        let (file, title, text) = (file.to_owned(), String::new(), text.to_owned());
        self.warnings.push(Note { file, line: 0, title, text });
    }

    /// What to say where there is no rule and no correlation.
    #[must_use]
    pub const fn no_rule(&self) -> Option<&'static str> {
        match self.loaded + self.correlations {
            0 => Some("no rule is loaded: nothing is matched"),
            _ => None,
        }
    }
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
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.title.is_empty() {
            write!(f, ": {}", self.title)?;
        }
        write!(f, ": warning: {}", self.text)
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, title, feeds } = self;
        let feeds = feeds.join(", ");
        write!(f, "{file}:{line}: {title}: raises no alert of its own, it only feeds {feeds}")
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
        for silent in &self.silent {
            writeln!(f, "{silent}")?;
        }
        let (loaded, rejected, disabled) = (self.loaded, self.rejected.len(), self.disabled);
        write!(f, "{loaded} rules loaded, {rejected} rejected, {disabled} disabled")?;
        let others = [
            (self.correlations, "correlations"),
            (self.silent.len(), "only feed correlations"),
            (self.filters, "filters"),
            (self.exclusions, "exclusions"),
            (self.placeholders, "placeholders"),
        ];
        others.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, what)| write!(f, "; {n} {what}"))
    }
}
