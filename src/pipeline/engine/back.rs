//! What was committed, read back: states of flows, and matches.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Engine;
use super::session::{CALL, Calls, Context, LOOK, SessionError, failed};
use crate::config::detect;
use crate::config::output::Secret;

/// How often the end of a topic is looked at while another's transaction holds it back.
const HELD_BACK: Duration = Duration::from_millis(100);

/// Reads back, beside the group.
pub(super) struct Back<'a> {
    pub(super) settings: &'a detect::Engine,
    pub(super) config: &'a ClientConfig,
    /// Of OAUTHBEARER.
    pub(super) token: Option<&'a Secret>,
}

impl Back<'_> {
    /// Reads the states of `partitions` of the input.
    pub(super) fn states(
        &self,
        partitions: &[i32],
        engine: &mut Engine,
    ) -> Result<(), SessionError> {
        let began = Instant::now();
        let mut states: HashMap<i32, HashMap<Vec<u8>, Vec<u8>>> =
            partitions.iter().map(|&partition| (partition, HashMap::new())).collect();
        let reader = self.reader("read_committed")?;
        self.wait_for_the_killed(&reader, partitions)?;
        replay(&reader, &self.settings.states, partitions, |message| {
            let Some(states) = states.get_mut(&message.partition()) else { return true };
            let key = message.key().unwrap_or_default();
            match message.payload() {
                Some(value) => drop(states.insert(key.to_vec(), value.to_vec())),
                None => drop(states.remove(key)),
            }
            true
        })?;
        let count: usize = states.values().map(HashMap::len).sum();
        for (partition, states) in states {
            engine
                .take_over(partition, &states)
                .map_err(|error| SessionError::State { partition, error })?;
        }
        let took_ms = began.elapsed().as_millis();
        tracing::info!(?partitions, states = count, took_ms, "states were read back");
        Ok(())
    }

    /// Reads the topic of matches up to `end`, which comes next.
    pub(super) fn matches(&self, end: i64, engine: &mut Engine) -> Result<(), SessionError> {
        let mut before: Vec<Vec<u8>> = Vec::new();
        if end > 0 {
            let reader = self.reader("read_committed")?;
            replay(&reader, &self.settings.matches, &[0], |message| {
                let ours = message.offset() < end;
                if ours {
                    before.extend(message.payload().map(<[u8]>::to_vec));
                }
                ours
            })?;
        }
        tracing::info!(matches = before.len(), "matches were read back");
        engine.take_desk_over(before.iter().map(Vec::as_slice));
        Ok(())
    }

    /// A reader outside the group.
    fn reader(&self, isolation: &str) -> Result<BaseConsumer<Context>, SessionError> {
        let mut config = self.config.clone();
        config
            .set("group.id", format!("{}-states", self.settings.group))
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", isolation);
        let calls = Arc::new(Calls::with(self.token.cloned()));
        let reader: Result<BaseConsumer<Context>, _> = config.create_with_context(Context(calls));
        let reader = reader.map_err(failed("a reader"))?;
        // Serves the question for a token, and nothing else: it has no topics yet.
        drop(reader.poll(Duration::ZERO));
        Ok(reader)
    }

    /// A transaction that a killed detector left open holds its states back until the brokers abort it.
    fn wait_for_the_killed(
        &self,
        reader: &BaseConsumer<Context>,
        partitions: &[i32],
    ) -> Result<(), SessionError> {
        let all = self.reader("read_uncommitted")?;
        let end = |reader: &BaseConsumer<Context>, partition| {
            let marks = reader.fetch_watermarks(&self.settings.states, partition, CALL);
            marks.map(|(_, end)| end).map_err(failed("the end of the states"))
        };
        for &partition in partitions {
            let written = end(&all, partition)?;
            while end(reader, partition)? < written {
                std::thread::sleep(HELD_BACK);
            }
        }
        Ok(())
    }
}

/// Calls `each` with the committed records of some partitions up to their present ends; of one only
/// until it returns false.
fn replay(
    reader: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    mut each: impl FnMut(&BorrowedMessage<'_>) -> bool,
) -> Result<(), SessionError> {
    let mut from = TopicPartitionList::new();
    for &partition in partitions {
        let added = from.add_partition_offset(topic, partition, Offset::Beginning);
        added.map_err(failed("an offset"))?;
    }
    reader.assign(&from).map_err(failed("the assignment"))?;
    let mut left: HashSet<i32> = partitions.iter().copied().collect();
    while !left.is_empty() {
        match reader.poll(LOOK) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(error)) => return Err(SessionError::Kafka { what: "reading back", error }),
            Some(Ok(message)) if each(&message) => {}
            Some(Ok(message)) => drop(left.remove(&message.partition())),
        }
    }
    Ok(())
}
