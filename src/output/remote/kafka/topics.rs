//! Topics: whether they are there, and making them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;

use super::client;
use crate::config::output::Secret;

/// How long brokers may take to say whether a topic is there.
pub const METADATA: Duration = Duration::from_secs(5);

/// How many partitions `metadata` tells of `topic`; `None` if it is not there.
///
/// # Errors
/// What the brokers say instead.
pub fn told(metadata: &Metadata, topic: &str) -> Result<Option<i32>, RDKafkaErrorCode> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(i32::try_from(found.partitions().len()).ok().filter(|&count| count > 0)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            Ok(None)
        }
        Some(code) => Err(code),
    }
}

/// Of clients for one question: what goes wrong comes back as its answer, and whoever asked tells of it by
/// name.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::Told::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "kafka: {reason}");
    }
}

/// Gives clients the token that they log in with.
struct Asking<'a>(Option<&'a Secret>);

impl ClientContext for Asking<'_> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }

    fn generate_oauth_token(
        &self,
        _: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        client::token(self.0)
    }
}

impl ConsumerContext for Asking<'_> {}

/// How many partitions `topic` has; `None` if it is not there. `token` is for OAUTHBEARER.
///
/// # Errors
/// If the brokers do not say; as text.
pub fn partitions(
    config: &ClientConfig,
    token: Option<&Secret>,
    topic: &str,
) -> Result<Option<i32>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("topic `{topic}`: {error}");
    let client: BaseConsumer<Asking<'_>> =
        config.create_with_context(Asking(token)).map_err(|error| failed(&error))?;
    // Serves the question for a token, and nothing else: it has no topics.
    drop(client.poll(Duration::ZERO));
    let metadata = client.fetch_metadata(Some(topic), METADATA).map_err(|error| failed(&error))?;
    told(&metadata, topic).map_err(|code| failed(&code))
}

/// Makes `topic` with so many partitions, replicas (-1: as the brokers have it) and settings. One that
/// is there by now is as good.
///
/// # Errors
/// If the brokers refuse; as text.
pub fn create(
    config: &ClientConfig,
    topic: &str,
    partitions: i32,
    replicas: i32,
    settings: &[(&str, &str)],
) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("topic `{topic}` cannot be created: {error}");
    let admin: AdminClient<Quiet> =
        config.create_with_context(Quiet).map_err(|error| failed(&error))?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(METADATA));
    let created = runtime().map_err(|error| failed(&error))?;
    let created = created.block_on(admin.create_topics([&new], &options));
    match created.map_err(|error| failed(&error))?.pop() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(failed(&code)),
        _ => Ok(()),
    }
}

/// Octets that the brokers take in one batch of `topic`: its `max.message.bytes`. `None` where they do
/// not say, as to a user who may not describe topics.
#[must_use]
pub fn batch_octets_max(config: &ClientConfig, topic: &str) -> Option<u32> {
    let admin: AdminClient<Quiet> = config.create_with_context(Quiet).ok()?;
    let options = AdminOptions::new().request_timeout(Some(METADATA));
    let topic = ResourceSpecifier::Topic(topic);
    let described = admin.describe_configs([&topic], &options);
    let told = runtime().ok()?.block_on(described).ok()?.pop()?.ok()?;
    told.get("max.message.bytes")?.value.as_ref()?.parse().ok()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}
