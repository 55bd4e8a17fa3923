//! Records to Apache Kafka, by librdkafka.
//!
//! The producer is idempotent and waits for all replicas in sync, so the brokers keep the order of
//! each partition and write each record once, through cut connections and restarts. It never gives
//! up by itself: a unit whose brokers are away stays with librdkafka, and a call that comes again
//! for it waits on. Only a new process, or a producer that librdkafka declares broken, sends what
//! was not acknowledged a second time.

pub mod client;
mod clients;
mod flight;
pub mod key;
mod topic;
pub mod topics;

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use client::PASSWORD;
pub use client::{Told, Trouble};
pub use clients::Clients;
use flight::{Context, Flight};
use topic::Topic;

use crate::config::output::{Kafka, UnknownTopic};
use crate::output::format::Writer;
use crate::output::remote::secret;
use crate::output::schema::{Layout, Record, Stream, VERSION, Value};
use crate::output::spool::{Delivered, Failure, Stop, Target, Unit, UnitRecord};

type Producer = ThreadedProducer<Context>;

/// How long a full queue is waited for between two looks.
const ROOM: Duration = Duration::from_millis(5);
/// How often a wait for acknowledgements looks whether all is well.
const LOOK: Duration = Duration::from_millis(200);

/// A sink's way to Kafka.
pub struct KafkaTarget {
    settings: Kafka,
    config: ClientConfig,
    told: Told,
    topic: Topic,
    headers: OwnedHeaders,
    writer: Writer,
    columns: Columns,
    /// Made when it is first needed, and again when librdkafka says that it is broken.
    producer: Option<Producer>,
    flight: Flight,
    /// Topics that are known to be there.
    known: HashSet<String>,
    /// Octets of a batch: as configured, or less where a topic takes less.
    batch_octets: u32,
    under_way: Option<UnderWay>,
    scratch: Scratch,
}

/// Where key and topic stand in the stream's table.
#[derive(Clone, Copy, Debug)]
struct Columns {
    site: Option<usize>,
    src: Option<usize>,
    dst: Option<usize>,
}

/// The unit that was handed over last, and is not acknowledged.
#[derive(Debug)]
struct UnderWay {
    /// Its spool, segment and offset, and how many records it has.
    place: (u64, u64, u64, usize),
    /// Records that are still to be handed over, in their order: the last comes first.
    left: Vec<usize>,
    dead: Vec<(usize, String)>,
    /// Whether each record goes alone, since a batch of them was too large for the brokers.
    alone: bool,
}

#[derive(Debug, Default)]
struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
    topic: String,
}

impl KafkaTarget {
    /// A target for the records of `layout`; `sensor` names this sensor. Connects when the first
    /// unit comes. What it tells of itself is read through `told`.
    ///
    /// # Errors
    /// If a secret cannot be read, or the format does not write records of that stream.
    pub fn new(settings: &Kafka, layout: &Layout, sensor: &str, told: Told) -> io::Result<Self> {
        let mut config = client::config(settings.access(), &format!("weir-{sensor}"))?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            // Never: whether to go on is not librdkafka's to decide.
            .set("message.timeout.ms", "0")
            .set("compression.codec", settings.compression.as_str())
            .set("linger.ms", settings.linger_ms.to_string())
            .set("batch.size", settings.batch_bytes.to_string())
            .set("batch.num.messages", "100000")
            .set("message.max.bytes", settings.record_bytes_max.to_string())
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", (settings.queue_bytes >> 10).to_string());
        let stream = layout.stream();
        let header = |key, value| Header { key, value: Some(value) };
        let version = VERSION.to_string();
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(header("schema", version.as_str()))
            .insert(header("sensor", sensor))
            .insert(header("content-type", settings.format.content_type()));
        Ok(Self {
            topic: Topic::new(&settings.topic, stream, settings.select.as_str(), sensor),
            settings: settings.clone(),
            config,
            told,
            headers,
            writer: Writer::new(settings.format, layout).map_err(io::Error::other)?,
            columns: Columns::of(stream),
            producer: None,
            flight: Flight::default(),
            known: HashSet::new(),
            batch_octets: settings.batch_bytes,
            under_way: None,
            scratch: Scratch::default(),
        })
    }

    fn producer(&mut self) -> Result<&Producer, Failure> {
        if self.producer.as_ref().is_some_and(|producer| producer.client().fatal_error().is_some())
        {
            self.break_off("librdkafka gave the producer up");
        }
        if self.producer.is_none() {
            let token = self.settings.sasl.as_ref().and_then(|sasl| sasl.token.clone());
            let (flight, told) = (self.flight.clone(), self.told.clone());
            let context = Context { flight, told, token };
            let producer = self.config.create_with_context(context);
            self.producer = Some(producer.map_err(|error| later("settings", &error))?);
        }
        Ok(self.producer.as_ref().expect("made above"))
    }

    /// After a refused login: reads the password again, which somebody may have put right.
    fn log_in_again(&mut self) {
        let refused = self.told.trouble().is_some_and(|trouble| trouble.refused);
        let sasl = self.settings.sasl.as_ref().filter(|_| refused);
        let Some(place) = sasl.and_then(|sasl| sasl.password.as_ref()) else { return };
        // One that cannot be read now is no better than the one that was refused.
        let Ok(password) = secret::reveal(place) else { return };
        if self.config.get(PASSWORD) != Some(password.expose()) {
            self.config.set(PASSWORD, password.expose());
            self.break_off("the password has changed");
            self.told.well();
        }
    }

    /// Ends the producer: what it did not get acknowledged is sent again by another.
    fn break_off(&mut self, why: &str) {
        tracing::warn!(
            sink = self.settings.name,
            "kafka: {why}: what is not acknowledged is sent again"
        );
        self.producer = None;
        self.known.clear();
        self.under_way = None;
        self.flight.begin();
    }

    /// Hands the records of `left` over, as many as there is room for.
    fn hand_over(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<(), Failure> {
        let patience = Duration::from_secs(self.settings.timeout_s.into());
        let mut since = Instant::now();
        let mut reports = self.flight.reports();
        while let Some(place) = self.under_way().left.last().copied() {
            match self.send(unit, place)? {
                Sent::Taken => {
                    self.under_way().left.pop();
                    if self.under_way().alone {
                        return Ok(());
                    }
                }
                Sent::Dead(why) => {
                    self.under_way().left.pop();
                    self.under_way().dead.push((place, why));
                }
                Sent::Full => {
                    std::thread::sleep(ROOM);
                    let now = self.flight.reports();
                    if now != reports {
                        (reports, since) = (now, Instant::now());
                    }
                    self.refused()?;
                    if stop.over() {
                        return Err(Failure::Stopped);
                    }
                    if since.elapsed() >= patience {
                        return Err(self.away());
                    }
                }
            }
        }
        Ok(())
    }

    fn under_way(&mut self) -> &mut UnderWay {
        self.under_way.as_mut().expect("a unit is under way")
    }

    fn send(&mut self, unit: &dyn Unit, place: usize) -> Result<Sent, Failure> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let record = unit.record(place);
        self.columns.write(&record, &self.topic, &mut scratch);
        if let Err(unknown) = self.know(&scratch.topic) {
            let dead = self.settings.unknown_topic == UnknownTopic::DeadLetter;
            self.scratch = scratch;
            return match unknown {
                Unknown::Smaller => Ok(Sent::Full),
                Unknown::Failed(Failure::Later { reason: "unknown_topic", message, .. })
                    if dead =>
                {
                    Ok(Sent::Dead(message))
                }
                Unknown::Failed(failure) => Err(failure),
            };
        }
        scratch.value.clear();
        self.writer.record(&mut scratch.value, &record);
        let opaque = self.flight.leaves(place);
        let message = BaseRecord::with_opaque_to(&scratch.topic, opaque)
            .key(&scratch.key)
            .payload(&scratch.value)
            .headers(self.headers.clone());
        let producer = self.producer.as_ref().expect("made before the topic was asked for");
        let sent = producer.send(message).map_err(|(error, _)| error);
        let octets = scratch.value.len() + scratch.key.len();
        self.scratch = scratch;
        let Err(error) = sent else { return Ok(Sent::Taken) };
        self.flight.stays();
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Ok(Sent::Full),
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                let bound = self.settings.record_bytes_max;
                Ok(Sent::Dead(format!("{octets} octets are over record_bytes_max, {bound}")))
            }
            _ => Err(later("refused", &error)),
        }
    }

    /// Makes sure that `topic` is there, and takes batches of ours.
    fn know(&mut self, topic: &str) -> Result<(), Unknown> {
        if self.known.contains(topic) {
            return Ok(());
        }
        let create = self.settings.create_topics;
        if !self.is_there(topic)? {
            if !create {
                return Err(self.no_topic(topic).into());
            }
            let Kafka { partitions, replication, .. } = self.settings;
            let made = topics::create(&self.config, topic, partitions, replication, &[]);
            made.map_err(|message| later("unknown_topic", &message))?;
            tracing::info!(topic, partitions, "topic created");
        }
        self.fit(topic)?;
        self.known.insert(topic.to_owned());
        Ok(())
    }

    /// Brokers refuse a batch that is larger than its topic allows as a whole, so batches are no larger
    /// than the least that a topic allows. A record that is larger by itself then is alone in its batch.
    fn fit(&mut self, topic: &str) -> Result<(), Unknown> {
        if self.settings.sasl.as_ref().is_some_and(|sasl| sasl.token.is_some()) {
            return Ok(());
        }
        let Some(most) = topics::batch_octets_max(&self.config, topic) else { return Ok(()) };
        if most >= self.batch_octets {
            return Ok(());
        }
        if !self.flight.wait(Duration::ZERO) {
            return Err(Unknown::Smaller);
        }
        tracing::info!(topic, most, "the topic takes smaller batches than batch_bytes");
        self.batch_octets = most;
        self.config.set("batch.size", most.to_string());
        self.producer = None;
        self.producer()?;
        Ok(())
    }

    fn no_topic(&self, topic: &str) -> Failure {
        let brokers = self.settings.brokers.join(",");
        let message =
            format!("there is no topic `{topic}` at {brokers}: create it, or set create_topics");
        later("unknown_topic", &message)
    }

    /// Why the brokers did not say what was asked.
    fn no_answer(&self, error: &KafkaError) -> Failure {
        match self.told.trouble() {
            Some(trouble) => later(trouble.reason, &trouble.message),
            None => {
                let brokers = self.settings.brokers.join(",");
                let message = format!(
                    "{brokers}: {error}: no answer: look at `brokers`, and whether the listener wants `tls` \
                     or `sasl`"
                );
                later("unreachable", &message)
            }
        }
    }

    fn is_there(&mut self, topic: &str) -> Result<bool, Failure> {
        let answer = self.producer()?.client().fetch_metadata(Some(topic), topics::METADATA);
        let metadata = answer.map_err(|error| self.no_answer(&error))?;
        match topics::told(&metadata, topic) {
            Ok(partitions) => Ok(partitions.is_some()),
            Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                Err(later("not_allowed", &format!("topic `{topic}`: not authorized")))
            }
            Err(code) => Err(later("unreachable", &format!("topic `{topic}`: {code}"))),
        }
    }

    /// Waits until all that is out has come back.
    fn wait(&mut self, stop: &Stop) -> Result<(), Failure> {
        let patience = Duration::from_secs(self.settings.timeout_s.into());
        let (mut since, mut reports) = (Instant::now(), self.flight.reports());
        while !self.flight.wait(LOOK) {
            let now = self.flight.reports();
            if now != reports {
                (reports, since) = (now, Instant::now());
            }
            self.producer()?;
            if self.under_way.is_none() {
                let message = "the producer is broken: the unit is sent again".to_owned();
                return Err(Failure::Later { reason: "producer", message, after: None });
            }
            self.refused()?;
            if stop.over() {
                return Err(Failure::Stopped);
            }
            if since.elapsed() >= patience {
                return Err(self.away());
            }
        }
        Ok(())
    }

    /// A login that the brokers refuse is told at once.
    fn refused(&self) -> Result<(), Failure> {
        match self.told.trouble() {
            Some(trouble) if trouble.refused => Err(later(trouble.reason, &trouble.message)),
            _ => Ok(()),
        }
    }

    fn away(&self) -> Failure {
        match self.told.trouble() {
            Some(trouble) => later(trouble.reason, &trouble.message),
            None => {
                let seconds = self.settings.timeout_s;
                later("slow", &format!("nothing was acknowledged for {seconds} s"))
            }
        }
    }

    /// Sorts what came back: dead, or to be sent again.
    fn sort_out(&mut self) -> Result<(), Failure> {
        let failed = self.flight.take_failed();
        let (mut failure, alone) = (None, self.under_way().alone);
        for (place, code) in failed.into_iter().rev() {
            match code {
                RDKafkaErrorCode::MessageSizeTooLarge if alone => {
                    let why = "the brokers say that it is too large: max.message.bytes";
                    self.under_way().dead.push((place, why.to_owned()));
                }
                RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidMessage => {
                    let why = format!("the brokers refuse it: {code}");
                    self.under_way().dead.push((place, why));
                }
                _ => {
                    self.under_way().left.push(place);
                    match code {
                        // The batch was; which record it is shows when each goes alone.
                        RDKafkaErrorCode::MessageSizeTooLarge => self.under_way().alone = true,
                        RDKafkaErrorCode::UnknownTopic
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownPartition => self.known.clear(),
                        RDKafkaErrorCode::TopicAuthorizationFailed => {
                            self.known.clear();
                            failure = Some(later("not_allowed", &code));
                        }
                        _ => failure = Some(later("refused", &code)),
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Why a topic cannot be written to now.
enum Unknown {
    /// It takes smaller batches: once nothing is out any more.
    Smaller,
    Failed(Failure),
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

enum Sent {
    Taken,
    Full,
    Dead(String),
}

fn later(reason: &'static str, message: &(impl std::fmt::Display + ?Sized)) -> Failure {
    Failure::Later { reason, message: message.to_string(), after: None }
}

impl Columns {
    fn of(stream: Stream) -> Self {
        let at = |name| stream.index_of(name);
        Self { site: at("site"), src: at("src_ip"), dst: at("dest_ip") }
    }

    /// Writes key and topic of `record` into `scratch`.
    fn write(self, record: &UnitRecord<'_>, topic: &Topic, scratch: &mut Scratch) {
        let value = |column: Option<usize>| column.map_or(Value::Null, |at| record.value(at));
        let address = |column| match value(column) {
            Value::Address(address) => address,
            _ => crate::net::Addr::UNSPECIFIED,
        };
        let (src, dst) = (address(self.src), address(self.dst));
        let site = value(self.site);
        let site = match &site {
            Value::Text(site) => site,
            Value::Made(site) => site.as_str(),
            _ => "default",
        };
        key::write(&mut scratch.key, site, src, dst);
        topic.write(&mut scratch.topic, site);
    }
}

impl Target for KafkaTarget {
    /// Whether the brokers let us in, and have the topic where all records have one: else each is asked for
    /// with its first record.
    fn probe(&mut self, _: &Stop) -> Result<(), Failure> {
        self.log_in_again();
        let Some(topic) = self.topic.only().map(str::to_owned) else {
            let asked = self.producer()?.client().fetch_metadata(None, topics::METADATA);
            return asked.map(|_| ()).map_err(|error| self.no_answer(&error));
        };
        let there = self.is_there(&topic)? || self.settings.create_topics;
        if there { Ok(()) } else { Err(self.no_topic(&topic)) }
    }

    fn deliver(&mut self, unit: &dyn Unit, stop: &Stop) -> Result<Delivered, Failure> {
        self.log_in_again();
        self.producer()?;
        let place = (unit.spool(), unit.segment(), unit.offset(), unit.len());
        if self.under_way.as_ref().is_none_or(|under_way| under_way.place != place) {
            if self.under_way.take().is_some() {
                // The operator dropped the unit before: what is out of it may arrive or not.
                self.producer = None;
                self.producer()?;
            }
            self.flight.begin();
            self.under_way = Some(UnderWay {
                place,
                left: (0..unit.len()).rev().collect(),
                dead: Vec::new(),
                alone: false,
            });
        }
        loop {
            self.hand_over(unit, stop)?;
            self.wait(stop)?;
            self.sort_out()?;
            if self.under_way().left.is_empty() {
                break;
            }
        }
        let octets = self.flight.octets();
        let mut dead = self.under_way.take().map(|under_way| under_way.dead).unwrap_or_default();
        dead.sort_by_key(|&(place, _)| place);
        Ok(Delivered { octets, dead })
    }
}
