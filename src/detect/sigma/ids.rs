//! Whose an id is: of documents with one id the first that loads has it; at a reload that is the one in
//! force, wherever its file stands among the others. Ids are compared without regard to case, as UUIDs
//! are (RFC 9562 §4).

use std::collections::HashMap;

use super::front::Document;
use super::meta;
use super::reason::Reason;
use super::report::Rejected;

/// Where what is in force stands: the file of each id.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Of rules, correlations and filters.
    pub rules: Files,
    /// Of exclusions, whose ids are their own.
    pub exclusions: Files,
}

/// Files by id, in lower case.
pub type Files = HashMap<String, String>;

/// The ids of the documents of a load.
#[derive(Debug)]
pub(super) struct Ids<'a> {
    in_force: &'a Files,
    /// The place of each file in the order in which they are read.
    order: HashMap<&'a str, usize>,
    /// Where each id was met first, by id in lower case.
    taken: HashMap<String, String>,
}

impl<'a> Ids<'a> {
    /// Of `files` in the order in which they are read.
    pub(super) fn new(in_force: &'a Files, files: impl Iterator<Item = &'a str>) -> Self {
        let mut order = HashMap::new();
        if !in_force.is_empty() {
            for (at, file) in files.enumerate() {
                order.entry(file).or_insert(at);
            }
        }
        Self { in_force, order, taken: HashMap::new() }
    }

    /// The file that the document's id is in force from, if that is another than `file`: its document goes
    /// first.
    pub(super) fn owner(&self, document: &Document<'_>, file: &str) -> Option<&'a str> {
        if self.in_force.is_empty() {
            return None;
        }
        let owner = self.in_force.get(&document.known_by()?.to_lowercase())?;
        (owner != file && self.order.contains_key(&**owner)).then_some(owner)
    }

    /// # Errors
    /// If a document before has the id.
    pub(super) fn is_free(&self, id: &str) -> Result<(), Reason> {
        match self.taken.get(&id.to_lowercase()) {
            None => Ok(()),
            Some(place) => Err(Reason::Duplicate(place.clone())),
        }
    }

    /// As [`Self::is_free`], of a document of `file` that waited for that of `owner`. Where that was
    /// `rejected`, its id is not free either: else this one would be taken for its new version. What is too
    /// broken to have a name may be it.
    ///
    /// # Errors
    /// If the document of `owner` is still there.
    pub(super) fn is_left(
        &self,
        id: &str,
        (owner, file): (&str, &str),
        rejected: &[Rejected],
    ) -> Result<(), Reason> {
        let has_it = |r: &Rejected| match r.id.is_empty() {
            true => r.title.is_empty() || meta::title_id(&r.title) == id,
            false => r.id.eq_ignore_ascii_case(id),
        };
        let is_it = |r: &&Rejected| r.file == owner && has_it(r);
        let broken = || rejected.iter().find(is_it).map(|r| format!("{}:{}", r.file, r.line));
        match self.taken.get(&id.to_lowercase()).cloned().or_else(broken) {
            None => Ok(()),
            Some(place) if self.order.get(owner) < self.order.get(file) => {
                Err(Reason::Duplicate(place))
            }
            Some(place) => Err(Reason::Standing(place)),
        }
    }

    /// Where the document with the id stands.
    pub(super) fn place(&self, id: &str) -> Option<&str> {
        self.taken.get(&id.to_lowercase()).map(String::as_str)
    }

    /// The document at `place` has the id.
    pub(super) fn take(&mut self, id: &str, place: String) {
        self.taken.insert(id.to_lowercase(), place);
    }
}
