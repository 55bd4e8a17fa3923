//! The topics of a group of detectors: there, and of the right form.

use super::session::SessionError;
use crate::config::detect;
use crate::output::remote::kafka::{client, topics};

/// A topic: its key in the configuration, its name, partitions, settings.
type Wanted<'a> = (&'a str, &'a String, i32, &'a [(&'a str, &'a str)]);

/// Makes sure that all topics of `settings` are there and of the right form. Returns how many
/// partitions the input has.
///
/// # Errors
/// [`SessionError`].
pub fn prepare(settings: &detect::Engine) -> Result<i32, SessionError> {
    let config = client::config(settings.access(), "weir-detect-topics")?;
    let topic = |message: String| SessionError::Topic(message);
    let token = settings.sasl.as_ref().and_then(|sasl| sasl.token.as_ref());
    let partitions = |name: &str| topics::partitions(&config, token, name).map_err(topic);
    let Some(count) = partitions(&settings.input)? else {
        let (input, brokers) = (&settings.input, settings.brokers.join(","));
        return Err(topic(format!(
            "detect.engine.input: there is no topic `{input}` at {brokers}"
        )));
    };
    let retention = (u64::from(settings.matches_s) * 1_000).to_string();
    let wanted: [Wanted<'_>; 4] = [
        ("slices", &settings.slices, count, &[]),
        ("alerts", &settings.alerts, count, &[]),
        ("states", &settings.states, count, &[("cleanup.policy", "compact")]),
        ("matches", &settings.matches, 1, &[("retention.ms", &retention)]),
    ];
    for (key, name, want, more) in wanted {
        match partitions(name)? {
            None if settings.create_topics => {
                let made = topics::create(&config, name, want, settings.replication, more);
                made.map_err(topic)?;
                tracing::info!(topic = name, partitions = want, "topic created");
            }
            None => {
                let message = format!(
                    "detect.engine.{key}: there is no topic `{name}`: create it with {want} \
                     partitions, or set create_topics"
                );
                return Err(topic(message));
            }
            Some(found) if found != want && ["states", "matches"].contains(&key) => {
                let message = format!(
                    "detect.engine.{key}: topic `{name}` has {found} partitions; expected {want}"
                );
                return Err(topic(message));
            }
            Some(_) => {}
        }
    }
    Ok(count)
}
