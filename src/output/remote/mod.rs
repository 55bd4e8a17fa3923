//! Sinks on other machines: what the configuration names, made into targets behind the spool.

pub mod secret;

use std::io;
use std::sync::Arc;

use super::Sink;
use super::schema::{Context, Fields, Layout, Stream};
use super::spool::{self, Behind};
use crate::config::output::Taking;
use crate::config::{Config, Durability};

/// Starts every remote sink of `config`. None connects here: what cannot be reached is a fault
/// that is told, and records wait.
///
/// # Errors
/// If the spool cannot be opened, or a sink cannot be made: a secret or a certificate that is not
/// there, for example.
pub fn start(config: &Config, context: &Context) -> io::Result<Vec<Arc<dyn Sink>>> {
    let sinks = targets(config, context)?;
    if sinks.is_empty() { Ok(Vec::new()) } else { spool::start(&config.spool, sinks, context) }
}

/// The one place where tables of the configuration become targets: each kind adds its own here.
fn targets(config: &Config, context: &Context) -> io::Result<Vec<Behind>> {
    let sinks = Vec::new();
    let _ = (config, context);
    Ok(sinks)
}

/// What the sink that takes `taking` writes of each record: its choice of fields, those of
/// `[sensor.fields]`, and its own.
#[must_use]
pub fn layout(taking: &Taking<'_>, context: &Context) -> Layout {
    let own = context.fields.and(&Fields::new(taking.add.clone()));
    Layout::of(Stream::from(taking.select), taking.fields).with(&own)
}

/// The sink that takes `taking` to `place`.
#[must_use]
pub fn behind(taking: &Taking<'_>, place: spool::Place) -> Behind {
    Behind {
        name: taking.name.to_owned(),
        select: taking.select,
        durability: taking.durability.unwrap_or(Durability::Disk),
        place,
    }
}
