//! Apache Kafka: the sink, and detectors behind it. Everything runs against a real broker.

mod detect;
mod examples;
mod secure;
mod sink;

use std::sync::Arc;

use weir::config::Config;
use weir::config::output::Kafka as Settings;
use weir::detect::TaggedSlice;
use weir::output::Context;
use weir::output::remote::kafka::{KafkaTarget, Told};
use weir::output::schema::{Layout, Row, Shown, Stream, Value};
use weir::output::spool::{Delivered, Failure, Stop, Target, Unit};
use weir::time::Micros;

use crate::harness::Run;

/// Slices of `pcaps/mixed.pcap.zst`, in order.
pub(crate) fn slices() -> Vec<TaggedSlice> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/mixed.pcap.zst");
    Run::default().whole(&path).slices
}

/// Slices in memory as a unit of a spool.
pub(crate) struct Slices {
    pub(crate) slices: Vec<TaggedSlice>,
    pub(crate) context: Context,
    pub(crate) offset: u64,
}

impl Slices {
    pub(crate) fn new(slices: &[TaggedSlice], offset: u64) -> Self {
        let context = Context { sensor: "probe".into(), ..Context::of(&Config::default()) };
        Self { slices: slices.to_vec(), context, offset }
    }
}

impl Unit for Slices {
    fn stream(&self) -> Stream {
        Stream::Slices
    }
    fn spool(&self) -> u64 {
        7
    }
    fn segment(&self) -> u64 {
        1
    }
    fn created(&self) -> Micros {
        Micros(0)
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn len(&self) -> usize {
        self.slices.len()
    }
    fn value(&self, row: usize, index: usize) -> Value<'_> {
        // A value may borrow from its row, which lives as long as the unit.
        (Stream::Slices.table()[index].get)(&RowOf(self, row).row(), &self.context)
    }
}

/// A row that borrows from the unit alone.
struct RowOf<'a>(&'a Slices, usize);

impl<'a> RowOf<'a> {
    fn row(&self) -> Row<'a> {
        Row::from(&self.0.slices[self.1])
    }
}

/// A sink's target for a topic.
pub(crate) fn target(settings: &Settings) -> KafkaTarget {
    let layout = Layout::all(Stream::Slices);
    KafkaTarget::new(settings, &layout, "probe", Told::default()).expect("a target")
}

/// Delivers `unit`, again and again while that may help.
#[track_caller]
pub(crate) fn deliver(target: &mut KafkaTarget, unit: &Slices) -> Delivered {
    let stop = Stop::default();
    crate::system::wait_for("a delivery", || match target.deliver(unit, &stop) {
        Ok(delivered) => Some(delivered),
        Err(failure @ Failure::Later { .. }) => {
            eprintln!("{failure:?}");
            None
        }
        Err(Failure::Stopped) => panic!("nobody stops it"),
    })
}

/// Why `unit` cannot be delivered now.
#[track_caller]
pub(crate) fn fails(target: &mut KafkaTarget, unit: &Slices) -> (&'static str, String) {
    match target.deliver(unit, &Stop::default()) {
        Err(Failure::Later { reason, message, .. }) => (reason, message),
        other => panic!("{other:?}"),
    }
}

/// What a slice is told apart by: flow id and number.
pub(crate) fn identity(value: &str) -> (String, u64) {
    let slice: serde_json::Value = serde_json::from_str(value).expect(value);
    let id = slice["flow_id"].as_str().expect("a flow id").to_owned();
    (id, slice["slice"].as_u64().expect("a number"))
}

/// The identities of `slices`.
pub(crate) fn identities(slices: &[TaggedSlice]) -> Vec<(String, u64)> {
    slices.iter().map(|s| (s.slice.flow_id.to_string(), s.slice.number.into())).collect()
}

/// As sinks write it.
pub(crate) fn json(slice: &TaggedSlice, context: &Context) -> String {
    let mut line = Vec::new();
    let writer = weir::output::ndjson::Writer::new(&Layout::all(Stream::Slices));
    writer.line(&mut line, &Shown::new(Row::from(slice), context));
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

/// The same slice with other addresses, and an id of its own.
pub(crate) fn copy(slice: &TaggedSlice, number: u8) -> TaggedSlice {
    let mut slice = slice.clone();
    let flow = &mut slice.slice.flow;
    for address in [&mut flow.src, &mut flow.dst] {
        *address = weir::net::Addr(address.0 ^ (u128::from(number) << 16));
    }
    slice.slice.flow_id.0 ^= u128::from(number) << 120;
    slice
}

/// A text shared, as flows have them.
pub(crate) fn shared(text: &str) -> Arc<str> {
    Arc::from(text)
}
