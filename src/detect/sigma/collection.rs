//! Rule collections: documents of a file that build on one another (`action: global | reset | repeat`). Each
//! becomes one by itself, with what it inherits, so that what is wrong is always that of one document.

use yaml_serde::{Mapping, Value};

use super::front::{Document, Part, top_level};
use super::lines::line_of_key;
use super::reason::Reason;
use super::shape::{self, Passed};

/// Octets that the documents of a collection share, times their number.
const SHARED_MAX: usize = 32 << 20;

/// What documents inherit from those before them.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Of the global one.
    global: Origin,
    /// Of the last one, which `repeat` goes on from.
    last: Origin,
    /// What is passed over of the global one; the first that inherits it tells.
    passed: Vec<Passed>,
}

/// A document that others inherit from.
#[derive(Debug, Default)]
enum Origin {
    #[default]
    Nothing,
    Read(Mapping),
    /// It cannot be read, and begins on this line.
    Broken(u32),
}

impl Inherited {
    /// Adds to `part` what it inherits; `None` for one that is no document of its own.
    ///
    /// # Errors
    /// What is left of one that cannot be read, or that inherits from such a one.
    pub(super) fn complete<'a>(
        &mut self,
        part: Part<'a>,
    ) -> Result<Option<Part<'a>>, Box<Document<'a>>> {
        let mut own = match yaml_serde::from_str(part.text) {
            Ok(Value::Mapping(own)) => own,
            Ok(Value::Null) => return Ok(None),
            Ok(_) => return Err(Box::new(part.broken_by("Document is not a YAML mapping"))),
            Err(error) => {
                let is_global = top_level(part.text, "action").is_some_and(|word| word == "global");
                let origin = if is_global { &mut self.global } else { &mut self.last };
                *origin = Origin::Broken(part.line);
                return Err(Box::new(part.broken_by(&format!("YAML parse error: {error}"))));
            }
        };
        let from_last = match own.remove("action") {
            None => false,
            Some(Value::String(word)) if word == "repeat" => true,
            Some(Value::String(word)) if word == "global" => {
                self.passed = shape::read(part.text, part.line);
                self.global = Origin::Read(own);
                return Ok(None);
            }
            Some(Value::String(word)) if word == "reset" => {
                self.global = Origin::Nothing;
                return Ok(None);
            }
            Some(Value::String(word)) => {
                let error = format!("Unknown collection action: {word}");
                return Err(Box::new(part.broken_by(&error)));
            }
            Some(_) => return Err(Box::new(broken(&part, "its `action` is no text".to_owned()))),
        };
        let mut whole = self.global.of(&part, "inherits from")?.unwrap_or_default();
        if from_last {
            match self.last.of(&part, "repeats")? {
                Some(last) => merge(&mut whole, last),
                None => {
                    let why = "it repeats a document, and there is none before it";
                    return Err(Box::new(broken(&part, why.to_owned())));
                }
            }
        }
        merge(&mut whole, own);
        let text = yaml_serde::to_string(&whole);
        let text = text.map_err(|error| Box::new(part.broken_by(&error.to_string())))?;
        self.last = Origin::Read(whole);
        let passed = std::mem::take(&mut self.passed);
        Ok(Some(Part { whole: text.into(), passed, ..part }))
    }
}

impl Origin {
    /// What `part` gets of it.
    ///
    /// # Errors
    /// If it cannot be read.
    fn of<'a>(&self, part: &Part<'a>, how: &str) -> Result<Option<Mapping>, Box<Document<'a>>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Read(mapping) => Ok(Some(mapping.clone())),
            Self::Broken(line) => {
                let why = format!("it {how} the document on line {line}, which cannot be read");
                Err(Box::new(broken(part, why)))
            }
        }
    }
}

fn broken<'a>(part: &Part<'a>, why: String) -> Document<'a> {
    part.broken(Reason::Syntax(why), line_of_key(part.text, part.line, "action"))
}

/// Puts `from` over `onto`, mapping by mapping.
fn merge(onto: &mut Mapping, from: Mapping) {
    for (key, value) in from {
        match (onto.get_mut(&key), value) {
            (Some(Value::Mapping(onto)), Value::Mapping(from)) => merge(onto, from),
            (_, value) => {
                onto.insert(key, value);
            }
        }
    }
}

/// Rejects a collection whose documents would multiply what they share: each of them becomes a copy
/// of what is global at its place, or, where documents repeat others, of the whole text at worst.
pub(super) fn shares_little(text: &str, parts: &[Part<'_>]) -> Result<(), Reason> {
    let shared = parts.iter().filter_map(|part| {
        let is_global = top_level(part.text, "action")? == "global";
        Some(if is_global { part.text.len() } else { text.len() })
    });
    if shared.max().unwrap_or(0).saturating_mul(parts.len()) > SHARED_MAX {
        let what = "the octets that the documents of a collection share, times their number";
        return Err(Reason::TooLarge { what, max: SHARED_MAX });
    }
    Ok(())
}
