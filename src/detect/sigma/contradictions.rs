//! Predicates of a condition that exclude one another, so that no flow can satisfy it.
//!
//! What is known of a field is what all predicates that must hold leave of it: a set of integers,
//! parts of a time, TCP flags, texts. Each of several alternatives is followed by itself; one that is
//! left alone has to hold, too. Of fields that are compared with one another there are totals and their parts
//! only (`sums`). So what is found is surely never true, and what is not found may still be.

mod sums;

use super::expr::Expr;
use super::fields::Field;
use super::interval::IntervalSet;
use super::predicate::{Predicate, Test, TimePart};
use super::text::{Matcher, Pattern};

/// Predicates and intervals looked at until a condition is taken to be satisfiable: rules that people
/// write need a few dozen.
const STEPS_MAX: usize = 1 << 16;
/// Intervals of a set that is compared with others: larger ones are feeds.
const INTERVALS_MAX: usize = 1 << 13;
/// Texts of a predicate that are tried one by one, and predicates on texts, flags and other fields that
/// one is compared with.
const TEXTS_MAX: usize = 64;

/// Why a condition is never true.
pub(super) struct Contradiction {
    /// What excludes what.
    pub in_words: String,
    /// The field, as the rule names it last.
    pub field: String,
}

/// Why no flow can satisfy `expr`, if that is so. It has no constants below its root.
pub(super) fn found(expr: &Expr) -> Option<Contradiction> {
    let mut search = Search { steps: 0 };
    let clash = search.refute(expr, Known::default())?;
    let field = clash.last().map(|leaf| leaf.name.clone()).unwrap_or_default();
    Some(Contradiction { in_words: in_words(&clash), field })
}

/// Whether every flow satisfies `expr`, as the opposite of it would contradict itself.
pub(super) fn always(expr: &Expr) -> bool {
    match expr {
        Expr::Const(value) => *value,
        Expr::Or(parts) => ask_twice(parts) && found(&expr.clone().negate()).is_some(),
        Expr::And(parts) => parts.iter().all(always),
        Expr::Leaf(_) | Expr::Unknown { .. } => false,
    }
}

/// Whether two of the alternatives ask for one field: else each can fail by itself.
fn ask_twice(parts: &[Expr]) -> bool {
    let mut seen: Vec<Field> = Vec::new();
    for part in parts {
        let before = seen.len();
        let mut twice = false;
        part.leaves(&mut |leaf| {
            twice |= seen[..before].contains(&leaf.field);
            seen.push(leaf.field);
        });
        if twice {
            return true;
        }
    }
    false
}

fn in_words(clash: &[&Predicate]) -> String {
    let words = |p: &&Predicate| match p.negated {
        false => format!("`{}` {}", p.name, p.words),
        true => format!("not (`{}` {})", p.name, p.words),
    };
    let all: Vec<String> = clash.iter().map(words).collect();
    match &all[..] {
        [rest @ .., last] if !rest.is_empty() => {
            format!("{} and {last} exclude one another", rest.join(", "))
        }
        _ => format!("{} excludes itself", all.concat()),
    }
}

/// Predicates that cannot hold together.
type Clash<'a> = Vec<&'a Predicate>;

struct Search {
    steps: usize,
}

impl Search {
    /// What makes `expr`, beside what is `known`, impossible.
    fn refute<'a>(&mut self, expr: &'a Expr, mut known: Known<'a>) -> Option<Clash<'a>> {
        // To copy what is known takes time, too.
        self.steps += known.0.iter().map(|left| left.leaves.len()).sum::<usize>();
        let mut open = Vec::new();
        let mut must = Some(expr);
        while let Some(expr) = must.take() {
            if let Some(clash) = self.take(expr, &mut known, &mut open) {
                return Some(clash);
            }
            for at in 0..open.len() {
                let alternatives: &'a [Expr] = open[at];
                let (mut left, mut clash) = (Vec::new(), None);
                for part in alternatives {
                    if self.steps > STEPS_MAX {
                        return None;
                    }
                    match self.refute(part, known.clone()) {
                        Some(excluded) => clash = clash.or(Some(excluded)),
                        None => left.push(part),
                    }
                    if left.len() > 1 {
                        break;
                    }
                }
                match left[..] {
                    [] => return clash,
                    [only] => {
                        open.swap_remove(at);
                        must = Some(only);
                        break;
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// Adds what `expr` says to what is known, and its alternatives to those that are `open`.
    fn take<'a>(
        &mut self,
        expr: &'a Expr,
        known: &mut Known<'a>,
        open: &mut Vec<&'a [Expr]>,
    ) -> Option<Clash<'a>> {
        self.steps += 1;
        match expr {
            _ if self.steps > STEPS_MAX => None,
            Expr::Leaf(leaf) => known.add(leaf, &mut self.steps),
            Expr::And(parts) => parts.iter().find_map(|part| self.take(part, known, open)),
            Expr::Or(parts) => {
                open.push(parts);
                None
            }
            Expr::Const(_) | Expr::Unknown { .. } => None,
        }
    }
}

/// What the predicates so far leave of each field.
#[derive(Clone, Default)]
struct Known<'a>(Vec<Left<'a>>);

impl<'a> Known<'a> {
    fn add(&mut self, leaf: &'a Predicate, steps: &mut usize) -> Option<Clash<'a>> {
        let at = self.0.iter().position(|left| left.leaves[0].field == leaf.field);
        let left = match at {
            Some(at) => &mut self.0[at],
            None => {
                self.0.push(Left { may_be_null: leaf.field.nullable(), ..Left::default() });
                self.0.last_mut().expect("it was pushed")
            }
        };
        let intervals = |set: &IntervalSet| set.intervals().len();
        *steps += left.set.as_ref().map_or(0, intervals);
        *steps += match &leaf.test {
            Test::In { set, .. } if left.set.is_some() => intervals(set),
            _ => 0,
        };
        left.add(leaf).or_else(|| sums::clash(self, leaf.field))
    }
}

/// What is left of one field.
#[derive(Clone, Default)]
struct Left<'a> {
    /// The predicates on it.
    leaves: Vec<&'a Predicate>,
    may_be_null: bool,
    set: Option<IntervalSet>,
    parts: Vec<(TimePart, IntervalSet)>,
    /// Those that leave it no value; null may be left.
    no_value: Option<Clash<'a>>,
}

impl<'a> Left<'a> {
    fn add(&mut self, leaf: &'a Predicate) -> Option<Clash<'a>> {
        self.leaves.push(leaf);
        self.may_be_null &= accepts_null(leaf);
        if self.no_value.is_none() {
            self.no_value = self.clash(leaf);
        }
        let mut clash = self.no_value.clone().filter(|_| !self.may_be_null)?;
        if leaf.field.nullable() && clash.iter().all(|leaf| accepts_null(leaf)) {
            clash.extend(self.leaves.iter().find(|leaf| !accepts_null(leaf)));
        }
        Some(clash)
    }

    /// Those that exclude every value together with `leaf`, which was added last.
    fn clash(&mut self, leaf: &'a Predicate) -> Option<Clash<'a>> {
        let before = &self.leaves[..self.leaves.len() - 1];
        let few = &before[..before.len().min(TEXTS_MAX)];
        match &leaf.test {
            Test::In { set, .. } => {
                let narrowed = narrowed(self.set.take(), set);
                let empty = narrowed.is_empty();
                self.set = Some(narrowed);
                empty.then(|| of_sets(before, leaf, set, in_set))
            }
            Test::Part { part, .. } => {
                let set = in_part(leaf, *part)?;
                let at = self.parts.iter().position(|(known, _)| known == part);
                let known = at.map(|at| self.parts.swap_remove(at).1);
                let narrowed = narrowed(known, &set);
                let empty = narrowed.is_empty();
                self.parts.push((*part, narrowed));
                empty.then(|| of_sets(before, leaf, &set, |leaf| in_part(leaf, *part)))
            }
            Test::Flags { .. } => of_flags(few, leaf),
            Test::Text { matchers, all, negated, .. } => {
                if matchers.is_empty() && !all && !negated {
                    return Some(vec![leaf]);
                }
                let excludes = |other: &Predicate| of_texts(leaf, other) || of_texts(other, leaf);
                if of_texts(leaf, leaf) {
                    return Some(vec![leaf]);
                }
                Some(vec![few.iter().find(|other| excludes(other))?, leaf])
            }
            Test::Reference { other, unit, how, negated, .. } => {
                let is_opposite = |before: &&&Predicate| match &before.test {
                    Test::Reference { other: o, unit: u, how: h, negated: n, .. } => {
                        (o, u, h) == (other, unit, how) && n != negated
                    }
                    _ => false,
                };
                Some(vec![few.iter().find(is_opposite)?, leaf])
            }
        }
    }
}

const fn accepts_null(leaf: &Predicate) -> bool {
    match &leaf.test {
        Test::In { null, .. }
        | Test::Text { null, .. }
        | Test::Flags { null, .. }
        | Test::Part { null, .. }
        | Test::Reference { null, .. } => *null,
    }
}

fn in_set(leaf: &Predicate) -> Option<IntervalSet> {
    match &leaf.test {
        Test::In { set, .. } => Some(set.clone()),
        _ => None,
    }
}

/// The values of the part of a time that the predicate accepts.
fn in_part(leaf: &Predicate, of: TimePart) -> Option<IntervalSet> {
    match &leaf.test {
        Test::Part { part, set, negated, .. } if *part == of => {
            let (_, most) = of.bounds();
            Some(if *negated { set.complement(most) } else { set.clone() })
        }
        _ => None,
    }
}

fn narrowed(known: Option<IntervalSet>, set: &IntervalSet) -> IntervalSet {
    match known {
        None => set.clone(),
        Some(known) if known.intervals().len().max(set.intervals().len()) > INTERVALS_MAX => known,
        Some(known) => known.intersection(set),
    }
}

/// Of predicates whose sets have nothing in common with that of the last: two, if two suffice.
fn of_sets<'a>(
    before: &[&'a Predicate],
    leaf: &'a Predicate,
    set: &IntervalSet,
    of: impl Fn(&Predicate) -> Option<IntervalSet>,
) -> Clash<'a> {
    let alike: Vec<(&Predicate, IntervalSet)> =
        before.iter().filter_map(|&leaf| Some((leaf, of(leaf)?))).collect();
    match alike.iter().find(|(_, other)| other.intersection(set).is_empty()) {
        _ if set.is_empty() => vec![leaf],
        Some((other, _)) => vec![other, leaf],
        None => alike.into_iter().map(|(leaf, _)| leaf).chain([leaf]).collect(),
    }
}

/// A predicate that wants one of some flags, and those that want none of these.
fn of_flags<'a>(before: &[&'a Predicate], last: &'a Predicate) -> Option<Clash<'a>> {
    let flags = |leaf: &Predicate| match leaf.test {
        Test::Flags { mask, negated, .. } => Some((mask, negated)),
        _ => None,
    };
    let all = || before.iter().copied().chain([last]);
    let unset = |leaf| flags(leaf).filter(|(_, negated)| *negated).map_or(0, |(mask, _)| mask);
    let none: u16 = all().map(unset).fold(0, |none, mask| none | mask);
    let is_out = |leaf: &&Predicate| flags(leaf).is_some_and(|(mask, no)| !no && mask & !none == 0);
    let wanted = all().find(is_out)?;
    let (mask, _) = flags(wanted)?;
    let unset = all().filter(|leaf| unset(leaf) & mask != 0);
    Some([wanted].into_iter().chain(unset).collect())
}

/// Whether every text that `one` accepts is one that `other` does not.
fn of_texts(one: &Predicate, other: &Predicate) -> bool {
    if one.unit != other.unit {
        return false;
    }
    let (Some(one), Some(other)) = (Texts::of(one), Texts::of(other)) else { return false };
    one.is_opposite(&other) || one.literals().is_some_and(|texts| other.rejects_each(&texts))
}

/// What a predicate asks of a text.
struct Texts<'a> {
    matchers: &'a [Matcher],
    all: bool,
    negated: bool,
}

impl<'a> Texts<'a> {
    fn of(leaf: &'a Predicate) -> Option<Self> {
        match &leaf.test {
            Test::Text { matchers, all, negated, .. } if matchers.len() <= TEXTS_MAX => {
                Some(Self { matchers, all: *all, negated: *negated })
            }
            _ => None,
        }
    }

    fn is_opposite(&self, other: &Self) -> bool {
        self.negated != other.negated
            && self.matchers.len() == other.matchers.len()
            && (self.all == other.all || self.matchers.len() == 1)
            && self.matchers.iter().zip(other.matchers).all(|(a, b)| a.is_same(b))
    }

    /// The only texts that it can accept, apart from case, if they are known.
    fn literals(&self) -> Option<Vec<&'a Pattern>> {
        let literal = |matcher: &'a Matcher| match matcher {
            Matcher::Glob(pattern) if pattern.literal().is_some() => Some(pattern),
            Matcher::Glob(_) | Matcher::Regex(_) => None,
        };
        match (self.negated, self.all) {
            (true, _) => None,
            (false, true) => self.matchers.iter().find_map(literal).map(|pattern| vec![pattern]),
            (false, false) => self.matchers.iter().map(literal).collect(),
        }
    }

    /// Whether it accepts none of these texts, in whatever case the flow has it.
    fn rejects_each(&self, texts: &[&Pattern]) -> bool {
        let any_case = |matcher: &Matcher| matches!(matcher, Matcher::Glob(p) if !p.is_cased());
        let sure = self.matchers.iter().all(any_case) || texts.iter().all(|text| text.is_cased());
        let accepts = |text: &&Pattern| {
            let text = text.literal().unwrap_or_default();
            let mut each = self.matchers.iter().map(|matcher| matcher.matches(&text));
            let held = if self.all { each.all(|held| held) } else { each.any(|held| held) };
            held != self.negated
        };
        sure && !texts.iter().any(accepts)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::super::fields::{FieldSet, Record};
    use super::super::number::Unit;
    use super::super::predicate::Reference;
    use super::super::text::Glyph;
    use super::*;
    use crate::flow::Biflow;
    use crate::net::Addr;

    const SOURCES: [Addr; 3] =
        [Addr::v4(0x0a00_0001), Addr::v4(0x0a00_0002), Addr::v4(0xc000_0201)];

    fn predicate(field: Field, test: Test) -> Expr {
        let (name, words) = (format!("{field:?}"), String::new());
        Expr::leaf(Predicate { field, unit: Unit::ONE, test, name, words, negated: false })
    }

    fn text(words: &[&str], all: bool, cased: bool, begins: bool) -> Test {
        let matcher = |word: &&str| {
            let many = begins.then_some(Glyph::Many);
            let glyphs = word.chars().map(Glyph::Char).chain(many).collect();
            Matcher::Glob(Pattern::new(glyphs, cased))
        };
        let matchers = words.iter().map(matcher).collect();
        Test::Text { matchers, all, negated: false, null: false }
    }

    fn leaf() -> impl Strategy<Value = Expr> {
        let range =
            (0..6_u128, 0..6_u128).prop_map(|(a, b)| IntervalSet::range(a.min(b), a.max(b)));
        let field = prop_oneof![
            Just(Field::DstPort),
            Just(Field::SrcPort),
            Just(Field::RttUs),
            proptest::sample::select(vec![Field::Octets, Field::FwdOctets, Field::BwdOctets]),
        ];
        let words = proptest::sample::subsequence(vec!["x", "X", "y", "yz"], 0..3);
        let flags = prop_oneof![Just(2_u16), Just(16), Just(18)];
        prop_oneof![
            4 => (field, range.clone(), proptest::bool::weighted(0.2))
                .prop_map(|(field, set, null)| predicate(field, Test::In { set, null })),
            2 => (words, any::<(bool, bool, bool)>()).prop_map(|(words, (all, cased, begins))| {
                predicate(Field::Application, text(&words, all, cased, begins))
            }),
            1 => flags.prop_map(|mask| {
                predicate(Field::FwdFlagNames, Test::Flags { mask, negated: false, null: false })
            }),
            1 => proptest::sample::select(vec!["^x", "(?i)y", "z$"]).prop_map(|regex| {
                let regex = Matcher::Regex(regex::Regex::new(regex).expect("an expression"));
                let (matchers, all, negated, null) = (vec![regex], false, false, false);
                predicate(Field::Application, Test::Text { matchers, all, negated, null })
            }),
            1 => proptest::sample::select(vec!["10.", "10.0.0.1", "192."]).prop_map(|begins| {
                predicate(Field::Src, text(&[begins], false, false, true))
            }),
            1 => (0..3_u128).prop_map(|n| {
                let set = IntervalSet::one(SOURCES[usize::try_from(n).unwrap_or(0)].0);
                predicate(Field::Src, Test::In { set, null: false })
            }),
            1 => any::<bool>().prop_map(|ends| {
                let how = if ends { Reference::EndsWith } else { Reference::Equal };
                let (other, unit) = (Field::SrcPort, Unit::ONE);
                let test = Test::Reference { other, unit, how, negated: false, null: false };
                predicate(Field::DstPort, test)
            }),
            1 => range.prop_map(|set| {
                let part = TimePart::Hour;
                predicate(Field::Start, Test::Part { part, set, negated: false, null: false })
            }),
        ]
    }

    fn condition() -> impl Strategy<Value = Expr> {
        leaf().prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                3 => proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
                2 => proptest::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
                2 => inner.prop_map(Expr::negate),
            ]
        })
    }

    /// A flow for each combination of values that predicates ask for, and of others.
    fn flows() -> Vec<Biflow> {
        let mut flows = Vec::new();
        for ports in 0..49_u16 {
            for rtt_us in [None, Some(0), Some(3), Some(9)] {
                for application in [None, Some("x"), Some("X"), Some("y"), Some("YZ"), Some("")] {
                    let n = flows.len();
                    let mut flow = Biflow {
                        src: SOURCES[n % 3],
                        src_port: ports % 7,
                        dst_port: ports / 7,
                        rtt_us,
                        application: application.map(Into::into),
                        first: crate::time::Micros(
                            i64::try_from(n % 7).unwrap_or(0) * 3_600_000_000,
                        ),
                        ..Biflow::default()
                    };
                    flow.fwd.octets = [0, 1, 2, 3, 5, 6, 9, 20][n % 8];
                    flow.bwd.octets = [0, 1, 2, 4, 5, 9, 20][n / 8 % 7];
                    flow.fwd.tcp_flags = [None, Some(0), Some(2), Some(16), Some(18)][n % 5];
                    flows.push(flow);
                }
            }
        }
        flows
    }

    #[test]
    fn what_is_refused_as_contradictory_never_holds() {
        let flows = flows();
        let (never, ever) = (Cell::new(0), Cell::new(0));
        let config = ProptestConfig::with_cases(3_000);
        let mut runner = proptest::test_runner::TestRunner::new(config);
        let checked = runner.run(&condition(), |expr| {
            let folded = expr.clone().fold(FieldSet::EMPTY);
            if found(&folded).is_some() {
                never.set(never.get() + 1);
                let held = flows.iter().find(|flow| expr.holds(&Record::of(flow)));
                prop_assert!(held.is_none(), "{expr:?} holds of {held:?}");
            }
            if always(&folded) {
                ever.set(ever.get() + 1);
                let missed = flows.iter().find(|flow| !expr.holds(&Record::of(flow)));
                prop_assert!(missed.is_none(), "{expr:?} does not hold of {missed:?}");
            }
            Ok(())
        });
        checked.expect("sound");
        let (never, ever) = (never.get(), ever.get());
        assert!(never > 100 && ever > 10, "{never} found that never hold, {ever} that always do");
    }
}
