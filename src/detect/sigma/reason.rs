//! Why a rule is not loaded.

use std::borrow::Cow;

use thiserror::Error;

/// Why a rule is rejected. Every message says what was found and what was expected.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// Not YAML, or not a Sigma rule.
    #[error("not a Sigma rule: {0}")]
    Syntax(String),
    /// Conditions nest deeper than 64, or documents are larger than 1 MiB.
    #[error("{what} is over the limit of {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The log source is none that flows are.
    #[error(
        "its log source ({0}) is not one of flows: expected category network_connection or \
         firewall, service netflow, product zeek with service conn, or an entry in \
         rules.logsource"
    )]
    Logsource(String),
    /// A correlation that says nothing that could be counted.
    #[error("not a correlation of flows: {0}")]
    Correlation(String),
    /// A rule that a correlation names.
    #[error("its rule `{rule}` {why}")]
    Base {
        /// As the correlation names it.
        rule: String,
        /// What is wrong with it.
        why: String,
    },
    /// Bytes that are no text.
    #[error("not UTF-8: octet {0} of the file begins no character")]
    NotUtf8(usize),
    /// A file, or a folder, that is there and cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// A filter that does not say which rules it is for.
    #[error("not a filter that can be applied: {0}")]
    Filter(String),
    /// A filter that no flow satisfies.
    #[error("no flow can satisfy this filter, so the rules that it names would never fire: {0}")]
    Silencing(String),
    /// A correlation or a filter in a directory of exclusions.
    #[error("neither a correlation nor a filter is an exclusion: expected title and detection")]
    Misplaced,
    /// An exclusion that is true of every flow.
    #[error("it would exclude every flow")]
    EveryFlow,
    /// An exclusion that asks for what is not known in time.
    #[error(
        "`{0}` is not final at a flow's first record, when exclusions are decided: write a filter \
         (`not selection`) for the rules that it concerns"
    )]
    NotFinal(String),
    /// `| count() > 5`.
    #[error(
        "the aggregation after `|` in condition `{0}` was removed from Sigma; it has to be \
         rewritten as a correlation"
    )]
    Aggregation(String),
    /// `field[any]`.
    #[error("array quantifiers such as `{0}[any]` have no meaning: no field of a flow is an array")]
    Array(String),
    /// A modifier that has no meaning here.
    #[error("modifier `{modifier}` on `{field}`: {why}")]
    Modifier {
        /// The field.
        field: String,
        /// The modifier.
        modifier: String,
        /// Why not.
        why: &'static str,
    },
    /// A value that the field can never have.
    #[error("`{value}` on `{field}` is not {expected}")]
    Value {
        /// The field.
        field: String,
        /// What was found.
        value: String,
        /// What was expected.
        expected: Cow<'static, str>,
    },
    /// `[]`.
    #[error("`{0}` has an empty list of values")]
    NoValues(String),
    /// `s: {}`.
    #[error("selection `{0}` is empty: it asks for nothing, so every flow would satisfy it")]
    Empty(String),
    /// `null` beside other values.
    #[error("`{0}` has null in a list, which Sigma does not allow: use two selections")]
    NullInList(String),
    /// `all` with one value.
    #[error("`{0}` has modifier `all` and one value, which Sigma does not allow")]
    AllOfOne(String),
    /// A regular expression that is not valid, or not supported.
    #[error("regular expression `{pattern}` on `{field}`: {error}")]
    Regex {
        /// The field.
        field: String,
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
    /// A placeholder.
    #[error(
        "placeholder `{placeholder}` on `{field}` has no value: expected an entry of that name in \
         the file that rules.placeholders names"
    )]
    Placeholder {
        /// The field.
        field: String,
        /// The placeholder.
        placeholder: String,
    },
    /// A name in the condition that no detection has.
    #[error("condition names `{name}`{near}, which is not in the detection")]
    Identifier {
        /// The name.
        name: String,
        /// A hint, if it is near one that is there.
        near: String,
    },
    /// `2 of them`.
    #[error("`{0} of` is not in the Sigma specification: expected `1 of`, `any of` or `all of`")]
    Quantifier(u64),
    /// A field that flows never have, under `not`.
    #[error(
        "field `{field}`{near} is one that flows never have, and it stands under `not`: the rule \
         would match what it means to exclude; rules.enable with its id loads it all the same"
    )]
    UnknownUnderNot {
        /// The field.
        field: String,
        /// A hint, if a known name differs in case only.
        near: String,
    },
    /// No flow can satisfy it.
    #[error("it can never match a flow: {0}")]
    NeverMatches(String),
    /// Its id is taken.
    #[error("its id is that of the rule at {0}")]
    Duplicate(String),
    /// The id that is made of its title is taken.
    #[error(
        "it has no id, and its title, of which one is made, is that of the rule at {0}: give it an id of \
         its own"
    )]
    Titled(String),
    /// Its id is that of a rule in force, whose file comes later.
    #[error(
        "its id is that of the rule at {0}, which is in force and stays; at the next start this one \
         would come first: give it an id of its own"
    )]
    Standing(String),
}

impl Reason {
    /// The same of a document whose id is made of its title.
    pub(super) fn of_title(self) -> Self {
        match self {
            Self::Duplicate(place) => Self::Titled(place),
            other => other,
        }
    }

    /// A short label, for metrics and tables.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "syntax",
            Self::TooLarge { .. } => "too_large",
            Self::Logsource(_) => "logsource",
            Self::Correlation(_) => "correlation",
            Self::Base { .. } => "base_rule",
            Self::NotUtf8(_) => "not_utf8",
            Self::Unreadable(_) => "unreadable",
            Self::Filter(_) => "filter",
            Self::Silencing(_) => "silencing_filter",
            Self::Misplaced => "misplaced",
            Self::EveryFlow => "every_flow",
            Self::NotFinal(_) => "not_final",
            Self::Aggregation(_) => "aggregation",
            Self::Array(_) => "array",
            Self::Modifier { .. } => "modifier",
            Self::Value { .. } => "value",
            Self::NoValues(_) | Self::Empty(_) => "no_values",
            Self::NullInList(_) => "null_in_list",
            Self::AllOfOne(_) => "all_of_one",
            Self::Regex { .. } => "regex",
            Self::Placeholder { .. } => "placeholder",
            Self::Identifier { .. } => "identifier",
            Self::Quantifier(_) => "quantifier",
            Self::UnknownUnderNot { .. } => "unknown_under_not",
            Self::NeverMatches(_) => "never_matches",
            Self::Duplicate(_) | Self::Titled(_) | Self::Standing(_) => "duplicate_id",
        }
    }
}
