//! Sinks on other machines: what the configuration names, made into targets behind the spool.
//! Files that are to outlive a crash stand behind it, too.

#[cfg(feature = "http")]
pub mod http;
pub mod ipfix;
#[cfg(feature = "kafka")]
pub mod kafka;
mod kept;
pub mod preflight;
#[cfg(feature = "s3")]
pub mod s3;
pub mod secret;
mod stream;
pub mod syslog;
pub mod tls;

use std::io;
use std::sync::Arc;

use super::Sink;
use super::files::segments::{Counted, SegmentFiles, Told};
use super::schema::{Context, Fields, Layout, Stream};
use super::spool::{self, Behind, Target};
use crate::config::output::{Table as _, Taking};
use crate::config::{Config, Durability};

/// Starts every remote sink of `config`. None connects here: what cannot be reached is a fault
/// that is told, and records wait.
///
/// # Errors
/// If the spool cannot be opened, or a sink cannot be made: a secret or a certificate that is not
/// there, for example.
pub fn start(config: &Config, context: &Context) -> io::Result<Vec<Arc<dyn Sink>>> {
    let mut targets = targets(config, context)?;
    let files = files_targets(config, context, &mut targets);
    #[cfg(feature = "kafka")]
    let clients = kafka_targets(config, context, &mut targets)?;
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let mut sinks = spool::start(&config.spool, targets, context)?;
    sinks.push(Arc::new(files));
    #[cfg(feature = "kafka")]
    sinks.push(Arc::new(clients));
    Ok(sinks)
}

/// The one place where tables of the configuration become targets: each kind adds its own here.
fn targets(config: &Config, context: &Context) -> io::Result<Vec<Behind>> {
    let mut sinks = Vec::new();
    siem_targets(config, context, &mut sinks)?;
    #[cfg(feature = "s3")]
    for table in &config.output.s3 {
        let store = s3::Store::new(table, context, &config.spool.directory)?;
        sinks.push(behind(&table.taking(), spool::Place::Objects(Box::new(store))));
    }
    Ok(sinks)
}

/// Adds the files of `[[output.files]]` that stand behind the spool; what tells of them.
fn files_targets(config: &Config, context: &Context, targets: &mut Vec<Behind>) -> Told {
    let mut told = Told::default();
    for table in &config.output.files {
        let taking = table.taking();
        if taking.durability.is_none() {
            continue;
        }
        let counted = Counted::default();
        told.0.push((table.name.clone(), Arc::clone(&counted)));
        let layout = layout(&taking, context);
        let files = SegmentFiles::new(table, layout, &context.sensor, counted);
        targets.push(behind(&taking, spool::Place::Objects(Box::new(files))));
    }
    told
}

/// Adds the targets of `[[output.kafka]]`; what tells of their clients.
#[cfg(feature = "kafka")]
fn kafka_targets(
    config: &Config,
    context: &Context,
    targets: &mut Vec<Behind>,
) -> io::Result<kafka::Clients> {
    let mut clients = kafka::Clients::default();
    for settings in &config.output.kafka {
        let (taking, told) = (settings.taking(), kafka::Told::of(&settings.name));
        clients.0.push((settings.name.clone(), told.watch()));
        let layout = layout(&taking, context);
        let target = kafka::KafkaTarget::new(settings, &layout, &context.sensor, told)?;
        targets.push(behind(&taking, spool::Place::Stream(Box::new(target))));
    }
    Ok(clients)
}

/// Adds the targets of SIEMs: over HTTP, syslog and IPFIX.
fn siem_targets(config: &Config, context: &Context, sinks: &mut Vec<Behind>) -> io::Result<()> {
    let output = &config.output;
    let mut add = |taking: &Taking<'_>, target: Result<Box<dyn Target>, String>| {
        let named = |error| io::Error::other(format!("sink `{}`: {error}", taking.name));
        sinks.push(behind(taking, spool::Place::Stream(target.map_err(named)?)));
        io::Result::Ok(())
    };
    let sensor = &context.sensor;
    #[cfg(feature = "http")]
    {
        for sink in &output.hec {
            let layout = layout(&sink.taking(), context);
            let target = http::hec(sink, &layout, sensor).map_err(|error| error.to_string());
            add(&sink.taking(), target)?;
        }
        for sink in &output.elasticsearch {
            let layout = layout(&sink.taking(), context);
            let target = http::elasticsearch(sink, &layout, sensor);
            add(&sink.taking(), target.map_err(|error| error.to_string()))?;
        }
        for sink in &output.webhook {
            let layout = layout(&sink.taking(), context);
            let target = http::webhook(sink, &layout).map_err(|error| error.to_string());
            add(&sink.taking(), target)?;
        }
    }
    for sink in &output.syslog {
        let layout = layout(&sink.taking(), context);
        let target = syslog::syslog(sink, &layout, sensor).map_err(|error| error.to_string());
        add(&sink.taking(), target)?;
    }
    for sink in &output.ipfix {
        add(&sink.taking(), Ok(ipfix::ipfix(sink)))?;
    }
    Ok(())
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
