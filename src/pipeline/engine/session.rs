//! A detector's part in its group: read, detect, write, in transactions.
//!
//! Slices that were read, what came of them, the states that changed and the offsets are committed
//! together or not at all. After anything else than a commit the session ends: the next one begins at
//! the committed offsets with the committed states.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::back::Back;
use super::{Engine, Out, Raised, To};
use crate::config::detect;
use crate::config::output::Secret;
use crate::output::remote::kafka::client::{self, Told};
use crate::output::schema::VERSION;

/// How long one call to the brokers may take.
pub(super) const CALL: Duration = Duration::from_secs(30);
/// How long an idle detector waits for a slice between two looks.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// A pause before a session begins again.
const PAUSE: Duration = Duration::from_millis(500);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Kafka refuses, is away, or another detector took the place.
    #[error("{what}: {error}")]
    Kafka {
        /// What was tried.
        what: &'static str,
        /// What came back.
        error: KafkaError,
    },
    /// A topic is missing, or not of the right form.
    #[error("{0}")]
    Topic(String),
    /// A secret cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A state cannot be read.
    #[error("states of partition {partition}: {error}")]
    State {
        /// Of which partition.
        partition: i32,
        /// Why.
        error: super::codec::CodecError,
    },
}

pub(super) fn failed(what: &'static str) -> impl FnOnce(KafkaError) -> SessionError {
    move |error| SessionError::Kafka { what, error }
}

/// What librdkafka's threads tell.
#[derive(Debug, Default)]
pub(super) struct Calls {
    told: Told,
    token: Option<Secret>,
    /// Whether the partitions changed since it was looked at.
    rebalanced: AtomicBool,
    /// Why a record was not written.
    refused: Mutex<Option<KafkaError>>,
}

impl Calls {
    pub(super) fn with(token: Option<Secret>) -> Self {
        Self { token, ..Self::default() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Context(pub(super) Arc<Calls>);

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Told::log(level, facility, message);
    }

    fn stats(&self, statistics: rdkafka::Statistics) {
        self.0.told.take(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.told.error(&error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        client::token(self.0.token.as_ref())
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.rebalanced.store(true, Ordering::Relaxed);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get_or_insert_with(|| error.clone());
        }
    }
}

/// A detector: sessions one after another, until it is told to stop.
pub struct Detector {
    settings: detect::Engine,
    instance: String,
    engine: Engine,
    raised: Arc<Raised>,
    stop: Arc<AtomicBool>,
}

impl Detector {
    /// The detector `instance`, whose `engine` leaves alerts in `raised`.
    #[must_use]
    pub fn new(
        settings: detect::Engine,
        instance: String,
        engine: Engine,
        raised: Arc<Raised>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self { settings, instance, engine, raised, stop }
    }

    /// Runs until it is told to stop. What may pass is waited for, and told as the fault of `raised`.
    pub fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.engine.clear();
            match self.session() {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!("the session ended: {error}");
                    self.raised.set_fault(Some(error.to_string()));
                    self.engine.beat();
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn session(&mut self) -> Result<(), SessionError> {
        let mut session =
            Session::open(&self.settings, &self.instance, &self.engine, &self.raised)?;
        self.raised.set_watch(session.calls.told.watch());
        while !self.stop.load(Ordering::Relaxed) {
            let moved = session.turn(&mut self.engine)?;
            self.engine.beat();
            if moved || session.is_assigned() {
                self.raised.set_fault(None);
            }
        }
        Ok(())
    }
}

/// Consumer and producer of one detector.
struct Session<'a> {
    settings: &'a detect::Engine,
    raised: &'a Raised,
    config: ClientConfig,
    calls: Arc<Calls>,
    consumer: BaseConsumer<Context>,
    producer: ThreadedProducer<Context>,
    headers: HashMap<Arc<str>, OwnedHeaders>,
    names: HashMap<Vec<u8>, Arc<str>>,
    /// Partitions of the input that were given to us.
    heard: HashMap<i32, Heard>,
    /// The transaction that is open.
    open: Option<Transaction>,
}

/// A partition of the input.
struct Heard {
    /// When a slice came last, or it was seen that more are waiting.
    since: Instant,
    /// Whether it was told to be silent since.
    told: bool,
    /// The offset after the last slice; -1 before the first.
    next: i64,
}

impl Heard {
    fn now(next: i64) -> Self {
        Self { since: Instant::now(), told: false, next }
    }
}

struct Transaction {
    since: Instant,
    records: usize,
    /// Of each topic and partition the offset after what was read.
    next: HashMap<(bool, i32), i64>,
}

impl<'a> Session<'a> {
    fn open(
        settings: &'a detect::Engine,
        instance: &str,
        engine: &Engine,
        raised: &'a Raised,
    ) -> Result<Self, SessionError> {
        let config = client::config(settings.access(), &format!("weir-detect-{instance}"))?;
        let token = settings.sasl.as_ref().and_then(|sasl| sasl.token.clone());
        let calls = Arc::new(Calls::with(token));
        let mut producing = config.clone();
        producing
            .set("transactional.id", format!("{}-{instance}", settings.group))
            .set("transaction.timeout.ms", settings.transaction_timeout_ms.to_string())
            .set("partitioner", "murmur2_random")
            .set("compression.codec", settings.compression.as_str())
            .set("linger.ms", "5")
            .set("batch.num.messages", "100000")
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "262144");
        let context = Context(Arc::clone(&calls));
        let producer: ThreadedProducer<Context> =
            producing.create_with_context(context.clone()).map_err(failed("the producer"))?;
        // Fences what a former self left open, and aborts it.
        producer.init_transactions(CALL).map_err(failed("a place for transactions"))?;
        let mut consuming = config.clone();
        consuming
            .set("group.id", &settings.group)
            .set("group.instance.id", instance)
            .set("session.timeout.ms", settings.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (settings.session_timeout_ms / 3).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer<Context> =
            consuming.create_with_context(context).map_err(failed("the consumer"))?;
        let mut topics = vec![settings.input.as_str()];
        if engine.needs_matches() {
            topics.push(&settings.matches);
        }
        consumer.subscribe(&topics).map_err(failed("a place in the group"))?;
        Ok(Self {
            settings,
            raised,
            config,
            calls,
            consumer,
            producer,
            headers: HashMap::new(),
            names: HashMap::new(),
            heard: HashMap::new(),
            open: None,
        })
    }

    fn is_assigned(&self) -> bool {
        !self.heard.is_empty()
    }

    /// One transaction, if there is anything to do. Whether there was.
    fn turn(&mut self, engine: &mut Engine) -> Result<bool, SessionError> {
        let batch = Duration::from_millis(self.settings.batch_ms.into());
        let mut outs = Vec::new();
        loop {
            let wait = self
                .open
                .as_ref()
                .map_or(LOOK, |open| batch.saturating_sub(open.since.elapsed()).min(LOOK));
            let read = self.read(wait, engine, &mut outs)?;
            self.send(&mut outs)?;
            match &self.open {
                None if !read => break,
                None => {}
                Some(open) => {
                    let full = open.records >= self.settings.batch_records;
                    if full || open.since.elapsed() >= batch {
                        break;
                    }
                }
            }
        }
        let silent = if engine.needs_matches() { self.silent()? } else { Vec::new() };
        if self.open.is_none() && silent.is_empty() {
            return Ok(false);
        }
        self.begin()?;
        engine.settle(&silent, &mut outs);
        self.send(&mut outs)?;
        self.commit()?;
        Ok(true)
    }

    /// Reads one record, if one comes in time.
    fn read(
        &mut self,
        wait: Duration,
        engine: &mut Engine,
        outs: &mut Vec<Out>,
    ) -> Result<bool, SessionError> {
        let message = self.consumer.poll(wait);
        if self.calls.rebalanced.swap(false, Ordering::Relaxed) {
            drop(message);
            return self.rebalanced(engine).map(|()| false);
        }
        let Some(message) = message else { return Ok(false) };
        let message = message.map_err(failed("reading"))?;
        let (partition, offset) = (message.partition(), message.offset());
        let input = message.topic() == self.settings.input;
        let value = message.payload().unwrap_or_default().to_vec();
        let sensor = message.headers().and_then(|headers| {
            let header = headers.iter().find(|header| header.key == "sensor")?;
            Some(header.value?.to_vec())
        });
        drop(message);
        self.begin()?;
        if input {
            let sensor = self.name(sensor.unwrap_or_default());
            engine.slice(partition, &sensor, &value, outs);
            self.heard.insert(partition, Heard::now(offset + 1));
        } else {
            engine.matched(&value, outs);
        }
        if let Some(open) = &mut self.open {
            open.records += 1;
            open.next.insert((input, partition), offset + 1);
        }
        Ok(true)
    }

    /// The partitions are others: what was not committed is given up, and what was is read back. No
    /// transaction is open meanwhile, so it may take its time.
    fn rebalanced(&mut self, engine: &mut Engine) -> Result<(), SessionError> {
        if self.open.take().is_some() {
            self.producer.abort_transaction(CALL).map_err(failed("giving a transaction up"))?;
            // Its records come back as refused: that is no news.
            self.calls.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        engine.clear();
        let assigned = self.consumer.assignment().map_err(failed("the assignment"))?;
        let ours = assigned.elements_for_topic(&self.settings.input);
        self.heard = ours.iter().map(|e| (e.partition(), Heard::now(-1))).collect();
        tracing::info!(partitions = ours.len(), all = assigned.count(), "partitions were assigned");
        if assigned.count() > 0 {
            // Positions may be ahead of what was committed, by what was given up.
            let committed = self.consumer.committed_offsets(assigned, CALL);
            let committed = committed.map_err(failed("the committed offsets"))?;
            let mut from = TopicPartitionList::new();
            let mut matched = None;
            for element in committed.elements() {
                let offset = match element.offset() {
                    Offset::Offset(offset) => Offset::Offset(offset),
                    _ => Offset::Beginning,
                };
                if element.topic() == self.settings.input {
                    let next = offset.to_raw().filter(|&offset| offset >= 0).unwrap_or(0);
                    self.heard.insert(element.partition(), Heard::now(next));
                } else {
                    matched = Some(offset.to_raw().filter(|&offset| offset >= 0).unwrap_or(0));
                }
                let added = from.add_partition_offset(element.topic(), element.partition(), offset);
                added.map_err(failed("an offset"))?;
            }
            let mut partitions: Vec<i32> = self.heard.keys().copied().collect();
            partitions.sort_unstable();
            let (settings, config) = (self.settings, &self.config);
            let back = Back { settings, config, token: self.calls.token.as_ref() };
            back.states(&partitions, engine)?;
            if let Some(end) = matched {
                back.matches(end, engine)?;
            }
            self.consumer.assign(&from).map_err(failed("the assignment"))?;
        }
        Ok(())
    }

    /// Partitions of ours that are silent for so long that nobody need wait for them, each once. One
    /// whose slices only wait for their turn is not.
    fn silent(&mut self) -> Result<Vec<i32>, SessionError> {
        let idle = Duration::from_secs(self.settings.idle_s.into());
        let mut silent = Vec::new();
        for (&partition, heard) in &mut self.heard {
            if heard.told || heard.since.elapsed() < idle {
                continue;
            }
            let marks = self.consumer.fetch_watermarks(&self.settings.input, partition, CALL);
            let (_, end) = marks.map_err(failed("the end of the input"))?;
            if heard.next < end {
                heard.since = Instant::now();
            } else {
                heard.told = true;
                silent.push(partition);
            }
        }
        silent.sort_unstable();
        Ok(silent)
    }

    fn begin(&mut self) -> Result<(), SessionError> {
        if self.open.is_none() {
            self.producer.begin_transaction().map_err(failed("a transaction"))?;
            let (since, next) = (Instant::now(), HashMap::new());
            self.open = Some(Transaction { since, records: 0, next });
        }
        Ok(())
    }

    fn send(&mut self, outs: &mut Vec<Out>) -> Result<(), SessionError> {
        for out in outs.drain(..) {
            let (topic, partition) = match out.to {
                To::Slices => (&self.settings.slices, None),
                To::Alerts => (&self.settings.alerts, None),
                To::States(partition) => (&self.settings.states, Some(partition)),
                To::Matches => (&self.settings.matches, Some(0)),
            };
            let mut record = BaseRecord::to(topic).key(&out.key);
            if let Some(value) = &out.value {
                record = record.payload(value);
            }
            if let Some(partition) = partition {
                record = record.partition(partition);
            } else {
                let headers = self.headers.entry(Arc::clone(&out.sensor));
                record = record.headers(headers.or_insert_with(|| of_sensor(&out.sensor)).clone());
            }
            while let Err((error, back)) = self.producer.send(record) {
                let code = error.rdkafka_error_code();
                if code == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                    let octets = out.value.as_ref().map_or(0, Vec::len);
                    self.raised.lose();
                    tracing::error!(octets, topic, "a record is too large for Kafka, and is lost");
                    break;
                }
                if code != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(SessionError::Kafka { what: "writing", error });
                }
                std::thread::sleep(Duration::from_millis(1));
                record = back;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SessionError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let mut offsets = TopicPartitionList::new();
        for ((input, partition), next) in open.next {
            let topic = if input { &self.settings.input } else { &self.settings.matches };
            let added = offsets.add_partition_offset(topic, partition, Offset::Offset(next));
            added.map_err(failed("an offset"))?;
        }
        if offsets.count() > 0 {
            let group = self.consumer.group_metadata();
            let group = group.ok_or_else(|| SessionError::Topic("no group any more".to_owned()))?;
            let sent = self.producer.send_offsets_to_transaction(&offsets, &group, CALL);
            sent.map_err(failed("offsets"))?;
        }
        let committed = self.producer.commit_transaction(CALL);
        if let Some(error) =
            self.calls.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(SessionError::Kafka { what: "writing", error });
        }
        committed.map_err(failed("the commit"))
    }

    fn name(&mut self, sensor: Vec<u8>) -> Arc<str> {
        let name = |sensor: &Vec<u8>| Arc::from(String::from_utf8_lossy(sensor));
        let named = self.names.get(&sensor).cloned().unwrap_or_else(|| name(&sensor));
        self.names.entry(sensor).or_insert_with(|| Arc::clone(&named));
        named
    }
}

fn of_sensor(sensor: &str) -> OwnedHeaders {
    let version = VERSION.to_string();
    let header = |key, value| Header { key, value: Some(value) };
    OwnedHeaders::new_with_capacity(3)
        .insert(header("schema", version.as_str()))
        .insert(header("sensor", sensor))
        .insert(header("content-type", "application/json"))
}
