//! Topics: whether they are there, and making them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaErrorCode;

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

/// How many partitions `topic` has; `None` if it is not there.
///
/// # Errors
/// If the brokers do not say; as text.
pub fn partitions(config: &ClientConfig, topic: &str) -> Result<Option<i32>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("topic `{topic}`: {error}");
    let client: BaseConsumer = config.create().map_err(|error| failed(&error))?;
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
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| failed(&error))?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in settings {
        new = new.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(METADATA));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let created = runtime.block_on(admin.create_topics([&new], &options));
    match created.map_err(|error| failed(&error))?.pop() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(failed(&code)),
        _ => Ok(()),
    }
}
