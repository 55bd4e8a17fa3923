//! The engine behind many sensors: slices from Kafka in; tags, alerts and states out.
//!
//! A partition's state is a function of that partition in offset order: its clock is the running
//! maximum of its slices' ends, and no other. What groups by anything but the address pair goes through
//! one topic with one partition to one [`Desk`], in the order of a watermark: the least clock of all
//! partitions of the input. That state is a function of the topic of matches alone, and is made again by
//! reading it again; flows' states are read from a compacted topic. So detectors can come, go and be
//! killed; what comes out is what one that never died would have written.

mod back;
pub mod codec;
mod prepare;
pub mod session;

pub use prepare::prepare;

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use self::codec::{Codec, CodecError, RuleIds, Said};
use super::exchange::{Desk, Message};
use super::rules::RuleBook;
use super::sampler::Sampler;
use super::sequences::{Book, Sequences};
use super::shard::{Tagger, Told};
use super::worker::Shared;
use crate::config::{Config, Select};
use crate::decode::slices;
use crate::detect::sequence::checkpoint;
use crate::detect::sigma::{Costs, Phase, RuleIndex};
use crate::detect::{Alert, TaggedSlice};
use crate::flow::stitch::{Stitch, StitchParams, StitchSink, StitchedFlow};
use crate::flow::{Biflow, FlowId, Memory, Params, Slice};
use crate::metrics::{Counts, KafkaClient, KafkaWatch, Ledgers, Overload, ledger};
use crate::output::remote::kafka::key;
use crate::output::schema::{Layout, Row, Shown, Stream};
use crate::output::{self, Batch, Context, Sink, ndjson};
use crate::time::{Micros, SECOND};

/// The key of a partition's clock among its states: shorter than that of any flow.
const CLOCK: &[u8] = b"clock";

/// Which topic a record goes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum To {
    /// That of slices.
    Slices,
    /// That of alerts.
    Alerts,
    /// That of states, to this partition.
    States(i32),
    /// That of matches.
    Matches,
}

/// A record that leaves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Out {
    /// Where to.
    pub to: To,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` forgets the key in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// The sensor that it goes back to.
    pub sensor: Arc<str>,
}

/// Detection on the partitions of one detector. Without clock, socket or file: records in, records out.
pub struct Engine {
    shared: Arc<Shared>,
    book: Arc<RuleBook>,
    model: Option<Arc<Book>>,
    ids: RuleIds,
    codec: Codec,
    params: StitchParams,
    select: Select,
    /// Whether any rule needs the desk.
    desks: bool,
    /// Partitions of the input.
    count: i32,
    partitions: BTreeMap<i32, Partition>,
    desk: Option<Counter>,
    raised: Arc<Raised>,
    scratch: Scratch,
    ledgers: Ledgers,
    writers: Writers,
}

/// A partition of the input.
#[derive(Debug)]
struct Partition {
    stitch: Stitch,
    /// The sequence model, where it is enabled.
    sequences: Option<Sequences>,
    /// Whether it took slices since states were written last.
    moved: bool,
}

/// The partition of matches: the desk, and what its watermark is made of.
#[derive(Debug)]
struct Counter {
    desk: Desk,
    /// Of each partition of the input its clock, and whether it is silent.
    clocks: BTreeMap<i32, (Micros, bool)>,
}

#[derive(Debug, Default)]
struct Scratch {
    batch: Batch,
    alerts: Counts,
    costs: Arc<Costs>,
    sampler: Sampler,
    excluded: Vec<u64>,
    passed_over: u64,
    unmade: u64,
    hits: Vec<RuleIndex>,
    messages: Vec<Message>,
}

/// Writes slices and alerts as sinks do.
#[derive(Debug)]
struct Writers {
    slices: ndjson::Writer,
    alerts: ndjson::Writer,
    /// As each sensor names things.
    contexts: HashMap<Arc<str>, Context>,
    context: Context,
}

/// Where the desk leaves alerts.
#[derive(Debug, Default)]
pub struct Raised {
    batch: Mutex<Batch>,
    fault: Mutex<Option<String>>,
    handed: Mutex<u64>,
    /// Records that Kafka does not take.
    lost: AtomicU64,
    watch: Mutex<KafkaWatch>,
}

impl Raised {
    /// Says why the detector cannot go on now; `None` while it can.
    pub fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Says where the client's statistics are.
    pub fn set_watch(&self, watch: KafkaWatch) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = watch;
    }

    /// Counts a record that Kafka does not take: it is too large.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> Vec<Alert> {
        mem::take(&mut self.batch.lock().unwrap_or_else(PoisonError::into_inner).alerts)
    }
}

impl Sink for Raised {
    fn offer(&self, batch: &Arc<Batch>) {
        let alerts = batch.alerts.iter().cloned();
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) += batch.alerts.len() as u64;
        self.batch.lock().unwrap_or_else(PoisonError::into_inner).alerts.extend(alerts);
    }

    fn offer_blocking(&self, batch: &Arc<Batch>) {
        self.offer(batch);
    }

    fn ledgers(&self) -> output::Ledgers {
        let handed = *self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.lost.load(Ordering::Relaxed);
        let mut sink = ledger::Sink {
            selected: handed + lost,
            acknowledged: handed,
            ..ledger::Sink::default()
        };
        sink.shed.add("too_large", lost);
        [("kafka".to_owned(), sink)].into()
    }

    fn clients(&self) -> Vec<(String, KafkaClient)> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.get().map(|client| ("kafka".to_owned(), client)).into_iter().collect()
    }

    fn set_context(&self, _: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fault.map(|fault| ("kafka".to_owned(), fault)).into_iter().collect()
    }

    fn close(&self) -> output::Ledgers {
        self.ledgers()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("partitions", &self.partitions.keys())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with the rules of `shared`, whose first slot it publishes on, the desk on the second.
    /// `raised` is the only sink of `shared`; the input has `count` partitions.
    #[must_use]
    pub fn new(config: &Config, shared: Arc<Shared>, raised: Arc<Raised>, count: i32) -> Self {
        let (book, model) = (shared.rules.book(), shared.models.book());
        let engine = config.detect.engine.clone().unwrap_or_default();
        let flow = Params::from_config(config);
        let params = StitchParams {
            flows_max: engine.flows_max,
            silence_us: flow.silence_us(),
            idle_us: flow.packets.idle_us.max(flow.netflow.idle_us),
            skew_us: i64::from(engine.skew_ms) * (SECOND / 1_000),
            dedup: flow.dedup,
            vlan_in_key: flow.vlan_in_key,
        };
        // Alerts of correlations are those of the group, whichever detector holds the desk.
        let context = Context { sensor: engine.group.clone(), ..Context::of(config) };
        let needs = |rule: &crate::detect::sigma::Rule| {
            rule.taps.on_fire || rule.taps.at_end || book.limits.limit(&rule.meta.id).is_some()
        };
        let layout = |stream| Layout::all(stream).with(&context.fields);
        Self {
            ids: RuleIds::of(&book),
            codec: Codec::new(&context),
            params,
            select: engine.select,
            // The model tells the desk what hosts send out.
            desks: book.set.rules().iter().any(needs) || model.is_some(),
            model,
            count,
            partitions: BTreeMap::new(),
            desk: None,
            raised,
            scratch: Scratch { costs: book.new_costs(), ..Scratch::default() },
            ledgers: Ledgers::default(),
            writers: Writers {
                slices: ndjson::Writer::new(&layout(Stream::Slices)),
                alerts: ndjson::Writer::new(&layout(Stream::Alerts)),
                contexts: HashMap::new(),
                context,
            },
            book,
            shared,
        }
    }

    /// Whether any rule needs the topic of matches.
    #[must_use]
    pub const fn needs_matches(&self) -> bool {
        self.desks
    }

    /// Forgets all partitions: what they hold may be ahead of what was committed.
    pub fn clear(&mut self) {
        self.partitions.clear();
        self.desk = None;
        self.scratch.messages.clear();
        self.scratch.batch = Batch::default();
        drop(self.raised.take());
    }

    /// Takes a partition of the input over with the latest value of each key of its states.
    ///
    /// # Errors
    /// A state that cannot be read: of another version, or not a detector's.
    pub fn take_over(
        &mut self,
        partition: i32,
        states: &HashMap<Vec<u8>, Vec<u8>>,
    ) -> Result<(), CodecError> {
        let mut stitch = Stitch::new(self.params);
        let mut windows: Vec<(&[u8], &[u8])> = Vec::new();
        for (key, value) in states {
            if checkpoint::is_key(key) {
                windows.push((key, value));
            } else if key == CLOCK {
                let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                stitch.restore_clock(Micros(text.ok_or(CodecError::Number("clock"))?));
            } else {
                stitch.restore(self.codec.stitched(value, &self.ids)?);
            }
        }
        let limits = &self.shared.models.limits;
        let model = self.model.as_ref();
        let mut sequences =
            model.map(|model| Sequences::tracked(Arc::clone(model), limits, self.count));
        if let Some(sequences) = &mut sequences {
            sequences.restore(windows.into_iter()).map_err(CodecError::Sequence)?;
        }
        self.partitions.insert(partition, Partition { stitch, sequences, moved: false });
        Ok(())
    }

    /// Takes the topic of matches over: `before` are its records so far. What they raised was written
    /// by whoever had it before.
    pub fn take_desk_over<'a>(&mut self, before: impl Iterator<Item = &'a [u8]>) {
        let desk = Desk::new(Arc::clone(&self.shared), 1);
        self.desk = Some(Counter { desk, clocks: BTreeMap::new() });
        for record in before {
            self.tell_desk(record);
        }
        drop(self.raised.take());
    }

    /// One slice of `sensor` from a partition that was taken over.
    pub fn slice(&mut self, partition: i32, sensor: &Arc<str>, value: &[u8], outs: &mut Vec<Out>) {
        let slice = match slices::decode(value, &self.writers.context.sites) {
            Ok(slice) => slice,
            Err(error) => {
                self.ledgers.records.decoded += 1;
                self.ledgers.records.dropped.one(error.reason());
                return tracing::debug!(partition, "a record is no slice: {error}");
            }
        };
        let Some(held) = self.partitions.get_mut(&partition) else { return };
        held.moved = true;
        let Scratch {
            batch,
            alerts,
            costs,
            sampler,
            excluded,
            passed_over,
            unmade,
            hits,
            messages,
        } = &mut self.scratch;
        let tagger = Tagger {
            book: &self.book,
            batch,
            ships: true,
            alerts,
            costs,
            sampler,
            sequences: held.sequences.as_mut(),
            excluded,
            passed_over,
            hits,
            messages,
            arrived: None,
            // Kafka waits for us.
            overload: Overload::None,
            unmade,
            ended: false,
            ruled: None,
            modelled: None,
        };
        let mut telling = Telling { tagger, slices: Vec::new(), alerts: Vec::new() };
        held.stitch.slice(sensor, slice, &mut self.ledgers, &mut telling);
        let Telling { slices, alerts, .. } = telling;
        for (alert, sensor) in &alerts {
            outs.push(self.writers.alert(alert, sensor.as_ref()));
        }
        for (slice, sensor) in &slices {
            if self.select != Select::Tagged || !slice.rules.is_empty() {
                outs.push(self.writers.slice(slice, sensor));
            }
        }
        self.send_messages(outs);
    }

    fn send_messages(&mut self, outs: &mut Vec<Out>) {
        for message in self.scratch.messages.drain(..) {
            self.ledgers.exchange.sent += 1;
            self.ledgers.exchange.handled += 1;
            let value = self.codec.message(&message, &self.ids);
            outs.extend(
                value.map(|value| self.writers.plain(To::Matches, Vec::new(), Some(value))),
            );
        }
    }

    /// One record of the topic of matches, which was taken over.
    pub fn matched(&mut self, value: &[u8], outs: &mut Vec<Out>) {
        self.tell_desk(value);
        for alert in self.raised.take() {
            outs.push(self.writers.alert(&alert, None));
        }
    }

    fn tell_desk(&mut self, value: &[u8]) {
        let Some(Counter { desk, clocks }) = &mut self.desk else { return };
        match self.codec.said(value, &self.book, &self.ids) {
            Ok(Said::Message(message)) => return desk.take(&mut vec![message]),
            Ok(Said::Clock(partition, clock)) => {
                let passed = clocks.entry(partition).or_insert((clock, false));
                *passed = (passed.0.max(clock), false);
            }
            Ok(Said::Idle(partition)) => {
                clocks.entry(partition).or_insert((Micros::MIN, true)).1 = true;
            }
            Ok(Said::Unknown(rule)) => {
                return tracing::debug!(rule, "a match of a rule that is not loaded here");
            }
            Err(error) => {
                self.ledgers.exchange.sent += 1;
                self.ledgers.exchange.shed.one("unreadable");
                return tracing::warn!("a record of the topic of matches: {error}");
            }
        }
        if let Some(watermark) = watermark(clocks, self.count) {
            desk.advance(watermark);
        }
    }

    /// The end of a transaction: the states that changed, and the clocks of partitions that moved.
    /// `silent` are partitions that nobody need wait for.
    pub fn settle(&mut self, silent: &[i32], outs: &mut Vec<Out>) {
        for (&partition, held) in &mut self.partitions {
            if !mem::take(&mut held.moved) {
                continue;
            }
            let (codec, ids) = (&self.codec, &self.ids);
            held.stitch.take_changes(|key, flow| {
                let value = flow.map(|flow| codec.state(flow, ids));
                outs.push(self.writers.plain(To::States(partition), key.octets(), value));
            });
            if let Some(sequences) = &mut held.sequences {
                sequences.take_changes(|key, value| {
                    outs.push(self.writers.plain(To::States(partition), key.to_vec(), value));
                });
            }
            let clock = held.stitch.clock();
            let text = clock.0.to_string().into_bytes();
            outs.push(self.writers.plain(To::States(partition), CLOCK.to_vec(), Some(text)));
            if self.desks {
                let value = self.codec.clock(partition, clock);
                outs.push(self.writers.plain(To::Matches, Vec::new(), Some(value)));
            }
        }
        for &partition in silent {
            let value = self.codec.idle(partition);
            outs.push(self.writers.plain(To::Matches, Vec::new(), Some(value)));
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.ledgers.detections.alerts.clone_from(&self.scratch.alerts);
        self.ledgers.detections.excluded.clone_from(&self.scratch.excluded);
        self.ledgers.detections.passed_over = self.scratch.passed_over;
        let mut sequences = ledger::Sequences::default();
        for held in self.partitions.values().filter_map(|held| held.sequences.as_ref()) {
            let mut one = ledger::Sequences::default();
            held.tell(&mut one);
            sequences.merge(&one);
        }
        self.ledgers.sequences = sequences;
        let flows: usize = self.partitions.values().map(|held| held.stitch.len()).sum();
        let slot = &self.shared.board.slots()[0];
        slot.publish(&self.ledgers);
        slot.set_entries(flows as u64);
        if let Some(clock) = self.partitions.values().map(|held| held.stitch.clock()).max() {
            slot.set_clock(clock);
        }
    }

    /// Says that the threads live.
    pub fn beat(&self) {
        self.shared.board.slots().iter().for_each(crate::metrics::Slot::beat);
    }
}

/// What all partitions have passed: the least clock of those that are not silent, or if all are, the
/// greatest. `None` while one was never heard of.
fn watermark(clocks: &BTreeMap<i32, (Micros, bool)>, count: i32) -> Option<Micros> {
    if clocks.len() < usize::try_from(count).unwrap_or(0) {
        return None;
    }
    let least = clocks.values().filter(|(_, idle)| !idle).map(|&(clock, _)| clock).min();
    least.or_else(|| clocks.values().map(|&(clock, _)| clock).max())
}

impl Writers {
    fn plain(&self, to: To, key: Vec<u8>, value: Option<Vec<u8>>) -> Out {
        Out { to, key, value, sensor: self.context.sensor.as_str().into() }
    }

    fn know(&mut self, sensor: &Arc<str>) {
        let named = || Context { sensor: sensor.to_string(), ..self.context.clone() };
        self.contexts.entry(Arc::clone(sensor)).or_insert_with(named);
    }

    fn slice(&mut self, slice: &TaggedSlice, sensor: &Arc<str>) -> Out {
        self.know(sensor);
        let mut value = Vec::new();
        let shown = Shown::new(Row::from(slice), &self.contexts[sensor]);
        self.slices.line(&mut value, &shown);
        self.out(To::Slices, &slice.slice.flow, value, sensor)
    }

    fn alert(&mut self, alert: &Alert, sensor: Option<&Arc<str>>) -> Out {
        let group: Arc<str> = self.context.sensor.as_str().into();
        let sensor = sensor.unwrap_or(&group);
        self.know(sensor);
        let mut value = Vec::new();
        let shown = Shown::new(Row::from(alert), &self.contexts[sensor]);
        self.alerts.line(&mut value, &shown);
        self.out(To::Alerts, &alert.flow, value, sensor)
    }

    fn out(&self, to: To, flow: &Biflow, mut value: Vec<u8>, sensor: &Arc<str>) -> Out {
        value.pop_if(|last| *last == b'\n');
        let mut key = Vec::new();
        let site = self.context.sites.get(usize::from(flow.site)).map_or("default", String::as_str);
        key::write(&mut key, site, flow.src, flow.dst);
        Out { to, key, value: Some(value), sensor: Arc::clone(sensor) }
    }
}

/// Runs rules on what a stitch tells, and keeps what leaves.
struct Telling<'a> {
    tagger: Tagger<'a>,
    slices: Vec<(TaggedSlice, Arc<str>)>,
    /// Those of the model are of the group, as those of correlations.
    alerts: Vec<(Alert, Option<Arc<str>>)>,
}

impl Telling<'_> {
    fn detect(&mut self, flow: &mut StitchedFlow<'_>, phase: Phase) {
        self.tagger.detect(flow, phase);
        let alerts = self.tagger.batch.alerts.drain(..);
        self.alerts.extend(alerts.map(|alert| (alert, Some(Arc::clone(flow.sensor)))));
    }
}

/// The moment at which a partition's reader knew, so that matches never come before a clock that the
/// partition has passed.
impl Told for StitchedFlow<'_> {
    fn now(&self) -> Micros {
        self.now
    }
    fn id(&self) -> FlowId {
        self.id
    }
    fn view(&self) -> &Biflow {
        self.view
    }
    fn memory(&mut self) -> &mut Memory {
        self.memory
    }
    fn fired(&self) -> &[u32] {
        &self.memory.fired
    }
    fn generation(&self) -> u32 {
        self.memory.generation
    }
}

impl StitchSink for Telling<'_> {
    fn grew(&mut self, flow: &mut StitchedFlow<'_>, first: bool) {
        self.detect(flow, if first { Phase::Opened } else { Phase::Woke });
    }

    fn ended(&mut self, flow: &mut StitchedFlow<'_>) -> bool {
        let fired = flow.memory.fired.len();
        self.detect(flow, Phase::End);
        self.tagger.book.tags(&flow.memory.fired[fired..])
    }

    fn slice(&mut self, flow: &mut StitchedFlow<'_>, mut slice: Slice, sensor: &Arc<str>) {
        slice.fired.extend_from_slice(&flow.memory.fired);
        let book = self.tagger.book;
        let excluded = flow.memory.excluded.and_then(|uid| book.exclusion(uid));
        let rules = book.metas(&slice.fired).collect();
        let verdict = self.tagger.judge(&slice, flow.now, excluded.is_some());
        let found = self.tagger.batch.alerts.drain(..);
        self.alerts.extend(found.map(|alert| (alert, None)));
        self.slices.push((TaggedSlice { slice, rules, excluded, verdict }, Arc::clone(sensor)));
    }
}
