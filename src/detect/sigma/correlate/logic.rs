//! Conditions over which rules were seen, for temporal correlations.

use rsigma_parser::{ConditionExpr, Quantifier, SelectorPattern};

use super::condition::{Range, Share};

/// Rules that a temporal correlation may have: one bit each.
pub(super) const RULES_MAX: usize = 64;

/// Rules whose sets are all tried out, to see whether a condition says anything.
const TRIED_MAX: usize = 12;

/// A condition over the set of rules that were seen in the window.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Logic {
    /// How many of them.
    Count(Range),
    /// This one.
    Rule(u32),
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
}

impl Logic {
    /// From a condition over rule names; `names` are all that a rule of the list may be called.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(expr: &ConditionExpr, names: &[Vec<String>]) -> Result<Self, String> {
        let all = |parts: &[ConditionExpr]| -> Result<Vec<Self>, String> {
            parts.iter().map(|part| Self::of(part, names)).collect()
        };
        Ok(match expr {
            ConditionExpr::And(parts) => Self::All(all(parts)?),
            ConditionExpr::Or(parts) => Self::Any(all(parts)?),
            ConditionExpr::Not(part) => Self::Not(Box::new(Self::of(part, names)?)),
            ConditionExpr::Identifier(name) => {
                let at = names.iter().position(|names| names.contains(name));
                let at = at.ok_or_else(|| {
                    format!("its condition names `{name}`, which is not in its rules")
                })?;
                Self::Rule(u32::try_from(at).expect("at most 64 rules"))
            }
            ConditionExpr::Selector { quantifier, pattern } => {
                if !matches!(pattern, SelectorPattern::Them) {
                    return Err("its condition selects rules by a pattern: expected names of \
                                rules, or `them`"
                        .to_owned());
                }
                Self::Count(Range::at_least(match quantifier {
                    Quantifier::Any => 1,
                    Quantifier::All => names.len() as u128,
                    Quantifier::Count(count) => u128::from(*count),
                }))
            }
        })
    }

    /// How many of the sets of `rules` rules satisfy it, of those with at least one; more than
    /// [`TRIED_MAX`] rules are not tried out.
    pub fn share(&self, rules: usize) -> Share {
        match self {
            Self::Count(range) => range.share(1, Some(rules as u128)),
            _ if rules > TRIED_MAX => Share::Some,
            _ => {
                let sets = (1_u64 << rules) - 1;
                match (1..=sets).filter(|&seen| self.holds(seen)).count() as u64 {
                    0 => Share::None,
                    all if all == sets => Share::All,
                    _ => Share::Some,
                }
            }
        }
    }

    /// Whether the set satisfies it, a bit a rule.
    pub fn holds(&self, seen: u64) -> bool {
        match self {
            Self::Count(range) => range.holds(seen.count_ones().into()),
            Self::Rule(at) => seen >> at & 1 == 1,
            Self::All(parts) => parts.iter().all(|part| part.holds(seen)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(seen)),
            Self::Not(part) => !part.holds(seen),
        }
    }
}
