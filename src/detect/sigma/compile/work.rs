//! What a condition may take, whatever its author wrote: selections that are named again and again,
//! values that modifiers multiply, and large regular expressions are no way to fill the memory.

use std::cell::{Cell, RefCell};

use regex::{Regex, RegexBuilder};

use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::ruleset::Options;

/// Items of a condition, those of a selection as often as the condition names it.
const ITEMS_MAX: usize = 1 << 14;
/// Values of all of these, after their modifiers.
const VALUES_MAX: usize = 1 << 20;
/// Octets of all compiled regular expressions of a condition.
const REGEX_OCTETS_MAX: usize = 32 << 20;
/// Octets that one regular expression is given, in turn, until they suffice.
const REGEX_OCTETS: [usize; 4] = [1 << 14, 1 << 16, 1 << 18, 1 << 20];
/// The same of all conditions of a rule set together: many that are large in no way can be so at
/// once. Ten thousand rules are far below.
const SET_ITEMS_MAX: usize = 1 << 23;
const SET_VALUES_MAX: usize = 1 << 23;
const SET_REGEX_OCTETS_MAX: usize = 256 << 20;
/// Notes on a condition.
const NOTES_MAX: usize = 10;

/// What the conditions of a rule set took so far, without those that were rejected.
#[derive(Debug, Default)]
pub(super) struct Taken {
    items: Cell<usize>,
    values: Cell<usize>,
    regex_octets: Cell<usize>,
}

/// The compilation of one condition: how, and how much it took so far.
pub(in crate::detect::sigma) struct Work<'a> {
    pub options: &'a Options,
    items: Cell<usize>,
    values: Cell<usize>,
    regex_octets: Cell<usize>,
    notes: RefCell<Vec<String>>,
}

impl<'a> Work<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        let none = || Cell::new(0);
        let notes = RefCell::default();
        Self { options, items: none(), values: none(), regex_octets: none(), notes }
    }

    /// Takes note of what should be said although the condition compiles; once, as a condition may
    /// name a selection again.
    pub(super) fn note(&self, text: String) {
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX && !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// What was taken note of.
    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.take()
    }

    /// Takes note of an item of the condition.
    pub(super) fn item(&self) -> Result<(), Reason> {
        take(&self.items, 1, ITEMS_MAX, "the number of items that a condition names")
    }

    /// Takes note of `count` values.
    pub(super) fn values(&self, count: usize) -> Result<(), Reason> {
        take(&self.values, count, VALUES_MAX, "the number of values that a condition names")
    }

    /// Compiles a regular expression into as little memory as it needs, more or less.
    ///
    /// # Errors
    /// The outer: it is one too much. The inner: what is wrong with it.
    pub(super) fn regex(&self, pattern: &str) -> Result<Result<Regex, regex::Error>, Reason> {
        let what = "the memory of a condition's regular expressions in octets";
        let mut built = Err(regex::Error::CompiledTooBig(0));
        for octets in REGEX_OCTETS {
            built = RegexBuilder::new(pattern).size_limit(octets).build();
            if !matches!(built, Err(regex::Error::CompiledTooBig(_))) {
                take(&self.regex_octets, octets, REGEX_OCTETS_MAX, what)?;
                break;
            }
        }
        Ok(built)
    }

    /// Adds what the condition took to what all of its rule set did.
    ///
    /// # Errors
    /// It is one too much: it has to be given up.
    pub(super) fn done(self, all: &Taken) -> Result<(), Reason> {
        let (items, values) = (self.items.get(), self.values.get());
        take(&all.items, items, SET_ITEMS_MAX, "the number of items of all conditions")?;
        take(&all.values, values, SET_VALUES_MAX, "the number of values of all conditions")?;
        let what = "the memory of all regular expressions in octets";
        take(&all.regex_octets, self.regex_octets.get(), SET_REGEX_OCTETS_MAX, what)
    }
}

fn take(taken: &Cell<usize>, more: usize, max: usize, what: &'static str) -> Result<(), Reason> {
    let sum = taken.get() + more;
    if sum > max {
        return Err(Reason::TooLarge { what, max });
    }
    taken.set(sum);
    Ok(())
}
