//! What detectors tell each other through Kafka: states of flows, matches, clocks.
//!
//! Each is a line of JSON, followed where a flow belongs to it by that flow as a canonical slice on a
//! line of its own, so that any reader of slices can read it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decode::slices::{SliceError, decode};
use crate::detect::sequence::{Attack, Class, Sequence, Verdict};
use crate::detect::sigma::correlate::Match;
use crate::detect::sigma::{Record, RuleIndex};
use crate::detect::volume::Sent;
use crate::detect::{Alert, Evidence, RuleMeta, TaggedSlice};
use crate::flow::stitch::{Source, Stitched};
use crate::flow::{Biflow, FlowId, Memory, Slice};
use crate::net::Addr;
use crate::output::ndjson;
use crate::output::schema::{Context, Row, Shown};
use crate::pipeline::{Message, RuleBook};
use crate::time::Micros;

/// Version of these forms; a detector does not read others.
const VERSION: u32 = 1;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// No JSON, or not of this form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Of another version.
    #[error("version {0}; expected {VERSION}")]
    Version(u32),
    /// The flow is none.
    #[error("the flow: {0}")]
    Slice(#[from] SliceError),
    /// A number is not hexadecimal, or the flow is missing.
    #[error("{0} is missing or no number")]
    Number(&'static str),
    /// A part of the sequence model's state.
    #[error("the sequence model's state: {0} cannot be read")]
    Sequence(&'static str),
}

/// Ids of rules to what the book has of them, and back.
#[derive(Debug, Default)]
pub struct RuleIds {
    by_id: HashMap<String, (u32, RuleIndex)>,
    by_uid: HashMap<u32, String>,
}

impl RuleIds {
    /// Those of `book`.
    #[must_use]
    pub fn of(book: &RuleBook) -> Self {
        let mut ids = Self::default();
        for (index, rule) in (0..).map(RuleIndex).zip(book.set.rules()) {
            ids.by_id.insert(rule.meta.id.clone(), (rule.meta.uid, index));
            ids.by_uid.insert(rule.meta.uid, rule.meta.id.clone());
        }
        ids
    }
}

/// The first line of a flow's state.
#[derive(Debug, Deserialize, Serialize)]
struct State {
    v: u32,
    next: u32,
    ended: bool,
    seen: i64,
    /// Sensor, its id of the flow, its latest slice, whether it said that the flow ended.
    sources: Vec<(String, String, u32, bool)>,
    /// Of each direction the owner's place among the sources, and when it was heard last.
    owners: [Option<(usize, i64)>; 2],
    fired: Vec<String>,
}

/// The first line of a match, of an alert on its way to suppression, or of a clock.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Told {
    Match { v: u32, time: i64, rule: String, at_end: bool },
    Alert { v: u32, time: i64, rule: String, id: String },
    Found { v: u32, time: i64, id: String, found: Box<Found> },
    Sent { v: u32, time: i64, site: String, host: String, peer: String, octets: u64 },
    Clock { v: u32, partition: i32, clock: i64 },
    Idle { v: u32, partition: i32 },
}

/// What the sequence model found: its rules are in no book, so they go with the alert.
#[derive(Debug, Deserialize, Serialize)]
struct Found {
    uid: u32,
    rule: RuleMeta,
    evidence: Vec<Evidence>,
    class: Class,
    /// The score's bits: what is read is what was written.
    score: u64,
    /// Tactic and technique.
    attack: Option<(Arc<str>, Arc<str>)>,
    /// Start in milliseconds, and ordinal.
    sequence: (i64, u32),
}

impl Found {
    /// What `alert`, of which `verdict` is, takes with it.
    fn of(alert: &Alert, verdict: &Verdict) -> Self {
        let Verdict { class, score, attack, sequence } = verdict.clone();
        Self {
            uid: alert.rule.uid,
            rule: RuleMeta::clone(&alert.rule),
            evidence: alert.evidence.clone(),
            class: class.unwrap_or_default(),
            score: score.to_bits(),
            attack: attack.map(|Attack { tactic, technique }| (tactic, technique)),
            sequence: (sequence.start_ms, sequence.ordinal),
        }
    }

    /// The alert again.
    fn alert(self, (id, time): (u128, Micros), slice: Slice) -> Alert {
        let Self { uid, rule, evidence, class, score, attack, sequence } = self;
        let attack = attack.map(|(tactic, technique)| Attack { tactic, technique });
        let score = f64::from_bits(score);
        let sequence = Sequence { start_ms: sequence.0, ordinal: sequence.1 };
        Alert {
            id,
            time,
            rule: Arc::new(RuleMeta { uid, ..rule }),
            evidence,
            flow_id: slice.flow_id,
            flow: slice.flow,
            suppressed: 0,
            arrived: None,
            verdict: Some(Verdict { class: Some(class), score, attack, sequence }),
        }
    }
}

/// What a record of the topic of matches says.
#[derive(Debug)]
pub enum Said {
    /// A match or an alert of a rule that is loaded.
    Message(Message),
    /// A partition of the input has passed this.
    Clock(i32, Micros),
    /// A partition of the input is silent: nobody need wait for it.
    Idle(i32),
    /// Of a rule that is not loaded here.
    Unknown(String),
}

/// Writes and reads them.
#[derive(Debug)]
pub struct Codec {
    writer: ndjson::Writer,
    context: Context,
}

impl Codec {
    /// A codec for flows whose sites `context` names.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        use crate::output::schema::{Layout, Stream};
        let context = Context { community_id: false, ..context.clone() };
        Self { writer: ndjson::Writer::new(&Layout::all(Stream::Slices)), context }
    }

    fn line(&self, head: &impl Serialize, flow: Option<(FlowId, &Biflow)>) -> Vec<u8> {
        let mut line = serde_json::to_vec(head).unwrap_or_default();
        if let Some((flow_id, flow)) = flow {
            line.push(b'\n');
            let slice = Slice { flow_id, flow: flow.clone(), ..Slice::default() };
            let tagged = TaggedSlice { slice, ..TaggedSlice::default() };
            self.writer.line(&mut line, &Shown::new(Row::from(&tagged), &self.context));
        }
        line
    }

    fn flow(&self, rest: &[u8]) -> Result<Slice, CodecError> {
        Ok(decode(rest, &self.context.sites)?)
    }

    /// A flow's state.
    #[must_use]
    pub fn state(&self, flow: &Stitched, ids: &RuleIds) -> Vec<u8> {
        let source = |source: &Source| {
            let id = source.flow_id.to_string();
            (source.sensor.to_string(), id, source.latest, source.ended)
        };
        let head = State {
            v: VERSION,
            next: flow.next,
            ended: flow.ended,
            seen: flow.seen.0,
            sources: flow.sources.iter().map(source).collect(),
            owners: flow.owners.map(|owner| owner.map(|(index, seen)| (index, seen.0))),
            fired: flow
                .memory
                .fired
                .iter()
                .filter_map(|uid| ids.by_uid.get(uid))
                .cloned()
                .collect(),
        };
        self.line(&head, Some((flow.id, &flow.whole)))
    }

    /// The flow that a state tells of. Rules that are not loaded any more are forgotten.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn stitched(&self, octets: &[u8], ids: &RuleIds) -> Result<Stitched, CodecError> {
        let (head, rest) = halves(octets);
        let state: State = serde_json::from_slice(head)?;
        version(state.v)?;
        let slice = self.flow(rest.ok_or(CodecError::Number("flow"))?)?;
        let mut memory = Memory::default();
        for (uid, _) in state.fired.iter().filter_map(|id| ids.by_id.get(id)) {
            // There were no more than fit.
            let _fits = memory.fired.push(*uid);
        }
        let source = |(sensor, id, latest, ended): (String, String, u32, bool)| {
            let flow_id =
                u128::from_str_radix(&id, 16).map_err(|_| CodecError::Number("source"))?;
            Ok(Source { sensor: sensor.into(), flow_id: FlowId(flow_id), latest, ended })
        };
        let sources: Result<Vec<Source>, CodecError> =
            state.sources.into_iter().map(source).collect();
        let sources = sources?;
        if sources.is_empty() {
            return Err(CodecError::Number("sources"));
        }
        let owned = |owner: Option<(usize, i64)>| {
            owner.filter(|&(index, _)| index < sources.len()).map(|(index, at)| (index, Micros(at)))
        };
        Ok(Stitched {
            id: slice.flow_id,
            next: state.next,
            whole: slice.flow,
            memory,
            ended: state.ended,
            seen: Micros(state.seen),
            owners: state.owners.map(owned),
            sources,
        })
    }

    /// A message on its way to the desk; `None` if its rule is not loaded any more.
    #[must_use]
    pub fn message(&self, message: &Message, ids: &RuleIds) -> Option<Vec<u8>> {
        Some(match message {
            Message::Match(found) => {
                let (time, at_end) = (found.time.0, found.at_end);
                let rule = ids.by_uid.get(&found.rule)?.clone();
                let head = Told::Match { v: VERSION, time, rule, at_end };
                self.line(&head, Some((found.flow_id, &found.flow)))
            }
            Message::Alert(alert) if alert.verdict.is_some() => {
                let found = Box::new(Found::of(alert, alert.verdict.as_ref()?));
                let (v, time, id) = (VERSION, alert.time.0, format!("{:032x}", alert.id));
                let head = Told::Found { v, time, id, found };
                self.line(&head, Some((alert.flow_id, &alert.flow)))
            }
            Message::Alert(alert) => {
                let (time, rule) = (alert.time.0, alert.rule.id.clone());
                let id = format!("{:032x}", alert.id);
                let head = Told::Alert { v: VERSION, time, rule, id };
                self.line(&head, Some((alert.flow_id, &alert.flow)))
            }
            Message::Sent(Sent { time, site, host, peer, octets, arrived: _ }) => {
                let name = self.context.sites.get(usize::from(*site)).cloned();
                let (host, peer) = (format!("{:032x}", host.0), format!("{:032x}", peer.0));
                let (v, time, octets) = (VERSION, time.0, *octets);
                let site = name.unwrap_or_default();
                self.line(&Told::Sent { v, time, site, host, peer, octets }, None)
            }
        })
    }

    /// The clock of a partition.
    #[must_use]
    pub fn clock(&self, partition: i32, clock: Micros) -> Vec<u8> {
        self.line(&Told::Clock { v: VERSION, partition, clock: clock.0 }, None)
    }

    /// That a partition is silent.
    #[must_use]
    pub fn idle(&self, partition: i32) -> Vec<u8> {
        self.line(&Told::Idle { v: VERSION, partition }, None)
    }

    /// What a record of the topic of matches says.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn said(&self, octets: &[u8], book: &RuleBook, ids: &RuleIds) -> Result<Said, CodecError> {
        let (head, rest) = halves(octets);
        let flow = || self.flow(rest.ok_or(CodecError::Number("flow"))?);
        match serde_json::from_slice(head)? {
            Told::Clock { v, partition, clock } => {
                version(v)?;
                Ok(Said::Clock(partition, Micros(clock)))
            }
            Told::Idle { v, partition } => {
                version(v)?;
                Ok(Said::Idle(partition))
            }
            Told::Sent { v, time, site, host, peer, octets } => {
                version(v)?;
                let site = self.context.sites.iter().position(|name| *name == site);
                let site = site.and_then(|site| u16::try_from(site).ok()).unwrap_or(0);
                let address = |text: &str, what| {
                    let address = u128::from_str_radix(text, 16);
                    address.map(Addr).map_err(|_| CodecError::Number(what))
                };
                let (host, peer) = (address(&host, "host")?, address(&peer, "peer")?);
                let (time, arrived) = (Micros(time), None);
                let sent = Sent { time, site, host, peer, octets, arrived };
                Ok(Said::Message(Message::Sent(sent)))
            }
            Told::Match { v, time, rule, at_end } => {
                version(v)?;
                let slice = flow()?;
                let Some(&(rule, _)) = ids.by_id.get(&rule) else { return Ok(Said::Unknown(rule)) };
                let (flow_id, flow) = (slice.flow_id, Arc::new(slice.flow));
                let (time, arrived) = (Micros(time), None);
                let found = Match { time, rule, at_end, flow_id, flow, arrived };
                Ok(Said::Message(Message::Match(found)))
            }
            Told::Found { v, time, id, found } => {
                version(v)?;
                let id = u128::from_str_radix(&id, 16).map_err(|_| CodecError::Number("id"))?;
                let alert = found.alert((id, Micros(time)), flow()?);
                Ok(Said::Message(Message::Alert(Box::new(alert))))
            }
            Told::Alert { v, time, rule, id } => {
                version(v)?;
                let slice = flow()?;
                let Some(&(_, index)) = ids.by_id.get(&rule) else {
                    return Ok(Said::Unknown(rule));
                };
                let id = u128::from_str_radix(&id, 16).map_err(|_| CodecError::Number("id"))?;
                Ok(Said::Message(Message::Alert(Box::new(Alert {
                    id,
                    time: Micros(time),
                    rule: Arc::clone(&book.set.rule(index).meta),
                    evidence: book.set.explain(index, &Record::of(&slice.flow)),
                    flow_id: slice.flow_id,
                    flow: slice.flow,
                    suppressed: 0,
                    arrived: None,
                    verdict: None,
                }))))
            }
        }
    }
}

fn halves(octets: &[u8]) -> (&[u8], Option<&[u8]>) {
    match octets.iter().position(|&octet| octet == b'\n') {
        Some(end) => (&octets[..end], Some(&octets[end + 1..])),
        None => (octets, None),
    }
}

fn version(found: u32) -> Result<(), CodecError> {
    if found == VERSION { Ok(()) } else { Err(CodecError::Version(found)) }
}
