//! What detection hands to the output: alerts, and slices with their tags.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sequence::Verdict;
use crate::flow::{Biflow, FlowId, Slice};
use crate::net::fold_u64;
use crate::time::Micros;

/// Sigma's `level`.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are Sigma's")]
pub enum Level {
    Informational,
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

impl Level {
    /// The word in Sigma.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// An ATT&CK technique that a rule's tags name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Technique {
    /// For example `T1071.001`.
    pub id: String,
    /// Its name where known.
    pub name: Option<String>,
}

/// What travels with every match of a rule; the licence of SigmaHQ's rules (DRL 1.1) asks for
/// author and id or link on each.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RuleMeta {
    /// Interned id, stable over reloads within a process. Not written out.
    #[serde(skip)]
    pub uid: u32,
    /// The rule's id; its title's hash where it has none.
    pub id: String,
    /// The rule's title.
    pub title: String,
    /// Its level; Sigma's default is medium.
    pub level: Level,
    /// Its author.
    pub author: Option<String>,
    /// Its first reference.
    pub link: Option<String>,
    /// Its tags, as written.
    pub tags: Vec<String>,
    /// ATT&CK tactics of its tags, for example `command-and-control`.
    pub tactics: Vec<String>,
    /// ATT&CK techniques of its tags.
    pub techniques: Vec<Technique>,
    /// Where it stands.
    pub file: String,
    /// Its first line there, from 1.
    pub line: u32,
}

/// One predicate that made a rule fire.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Evidence {
    /// The field as the rule names it.
    pub field: String,
    /// The predicate, as text: `cidr 10.0.0.0/8`, `> 1000`, `one of 23, 2323`.
    pub predicate: String,
    /// The flow's value.
    pub value: String,
}

/// A match of a rule on a flow: a record of its own in the stream `alerts`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alert {
    /// Hash of (rule id, flow id): the same input gives the same id.
    pub id: u128,
    /// The input clock when the rule's truth became final.
    pub time: Micros,
    /// The rule.
    pub rule: Arc<RuleMeta>,
    /// The predicates that held.
    pub evidence: Vec<Evidence>,
    /// The flow's identity.
    pub flow_id: FlowId,
    /// The flow so far, counters cumulated.
    pub flow: Biflow,
    /// Alerts of the same rule and group that suppression held back since the last that left.
    pub suppressed: u64,
    /// On live input: when the bytes that made the rule fire arrived, by the kernel's clock. `None`
    /// where no bytes did, as at the end of a flow. Not written out.
    pub arrived: Option<Micros>,
    /// Of an alert of the sequence model: what it says. Its flow is the sequence as one.
    pub verdict: Option<Verdict>,
}

impl Alert {
    /// Whether it is on many flows, of which [`Alert::flow`] is the sum: a sequence's, or those of an
    /// hour of a host.
    #[must_use]
    pub fn is_on_many_flows(&self) -> bool {
        self.verdict.is_some() || self.rule.id == super::volume::RULE
    }
}

/// A slice with the rules that fired over its flow so far: what sinks get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaggedSlice {
    /// The slice; its `fired` holds the same rules as interned ids, and silent ones.
    pub slice: Slice,
    /// The rules, in the order of firing.
    pub rules: Vec<Arc<RuleMeta>>,
    /// Title of the exclusion that keeps rules from the flow.
    pub excluded: Option<Arc<str>>,
    /// What the sequence model last said of the flow's pair.
    pub verdict: Option<Verdict>,
}

/// Hash of (rule id, flow id): reproducible, so that a retry gives the same id.
#[must_use]
pub fn alert_id(rule: &str, flow: u128) -> u128 {
    let (mut high, mut low) = ((flow >> 64) as u64, flow as u64);
    for chunk in rule.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56);
        high = fold_u64(high ^ word ^ 0xa076_1d64_78bd_642f, low ^ 0xe703_7ed1_a0b4_28db);
        low = fold_u64(low ^ word ^ 0x8ebc_6af0_9c88_c6e3, high ^ 0x5899_65cc_7537_4cc3);
    }
    (u128::from(high) << 64) | u128::from(low)
}
