//! Sinks of SIEMs: HTTP, syslog and IPFIX, each against what receives it, and through faults.
//!
//! Receivers of syslog and IPFIX are real programs (rsyslogd, nfcapd, tshark, and Weir itself). Of
//! Splunk and Elasticsearch nothing can be installed on a test machine from a package, so a strict
//! server stands here in their place, written from their documentation: it refuses what they refuse.

mod elasticsearch;
pub(crate) mod examples;
mod hec;
mod ipfix;
pub(crate) mod server;
mod syslog;
pub(crate) mod tls;
mod webhook;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::config::FieldValue;
use weir::detect::{Alert, Evidence, Level, RuleMeta, TaggedSlice, Technique};
use weir::flow::{Biflow, FlowId, Side, Slice};
use weir::net::Addr;
use weir::output::schema::{Fields, Layout, Value};
use weir::output::spool::{Delivered, Failure, Stop, Target, Unit};
use weir::output::{Batch, Context, Row, Stream};
use weir::time::Micros;

/// When every flow of these tests begins: 2025-10-09.
pub(crate) const START: i64 = 1_760_000_000_000_001;

/// Rows as a unit of the spool.
pub(crate) struct Given {
    pub batch: Batch,
    pub stream: Stream,
    pub context: Context,
    /// Names it, as a place in a segment would.
    pub offset: u64,
}

impl Given {
    fn row(&self, row: usize) -> Row<'_> {
        match self.stream {
            Stream::Slices => Row::from(&self.batch.slices[row]),
            Stream::Alerts => Row::from(&self.batch.alerts[row]),
        }
    }
}

impl Unit for Given {
    fn stream(&self) -> Stream {
        self.stream
    }
    fn spool(&self) -> u64 {
        1
    }
    fn segment(&self) -> u64 {
        1
    }
    fn created(&self) -> Micros {
        Micros(START)
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn len(&self) -> usize {
        self.batch.slices.len() + self.batch.alerts.len()
    }
    fn value(&self, row: usize, index: usize) -> Value<'_> {
        // A value of a row borrows from the row, not from what shows it.
        (self.stream.table()[index].get)(&self.row(row), &self.context)
    }
}

pub(crate) fn rule() -> Arc<RuleMeta> {
    let technique = Technique { id: "T1071.001".into(), name: Some("Web Protocols".into()) };
    Arc::new(RuleMeta {
        id: "odd".into(),
        title: "Odd \"port\" | é".into(),
        level: Level::High,
        techniques: vec![technique],
        ..RuleMeta::default()
    })
}

fn flow(number: usize) -> Biflow {
    let side = |octets, packets| Side { octets, packets, tcp_flags: Some(0x1b), ..Side::default() };
    Biflow {
        src: Addr::v4(0x0a00_0001 + number as u32),
        dst: Addr::v4(0xc633_640a),
        src_port: 51_000,
        dst_port: 443,
        protocol: 6,
        first: Micros(START),
        last: Micros(START + 2_500_000),
        fwd: side(1_500 + number as u64, 12),
        bwd: side(90_000, 70),
        ..Biflow::default()
    }
}

/// `count` slices, every tenth with a rule.
pub(crate) fn slices(count: usize) -> Given {
    let slice = |number: usize| {
        let flow_id = FlowId(number as u128 + 1);
        let slice = Slice { flow_id, flow: flow(number), ..Slice::default() };
        let rules = if number.is_multiple_of(10) { vec![rule()] } else { Vec::new() };
        TaggedSlice { slice, rules, excluded: None, verdict: None }
    };
    let batch = Batch { slices: (0..count).map(slice).collect(), alerts: Vec::new() };
    Given { batch, stream: Stream::Slices, context: context(), offset: 8 }
}

/// `count` alerts.
pub(crate) fn alerts(count: usize) -> Given {
    let evidence = Evidence {
        field: "dst_port".into(),
        predicate: "is one of 443, 444".into(),
        value: "443".into(),
    };
    let alert = |number: usize| Alert {
        id: number as u128 + 1,
        time: Micros(START),
        rule: rule(),
        evidence: vec![evidence.clone()],
        flow_id: FlowId(number as u128 + 1),
        flow: flow(number),
        ..Alert::default()
    };
    let batch = Batch { slices: Vec::new(), alerts: (0..count).map(alert).collect() };
    Given { batch, stream: Stream::Alerts, context: context(), offset: 8 }
}

fn context() -> Context {
    Context { sensor: "s1".into(), sites: vec!["default".into()], ..Context::default() }
}

/// All fields of `stream`, and one of the operator's own.
pub(crate) fn layout(stream: Stream) -> Layout {
    let own = [("tenant".to_owned(), FieldValue::Text("north".to_owned()))];
    Layout::all(stream).with(&Fields::new(own))
}

/// Delivers `unit` as the spool does: again after each failure that may pass, for 20 seconds. What
/// came of it, and the reasons of the failures before.
#[track_caller]
pub(crate) fn deliver(target: &mut dyn Target, unit: &Given) -> (Delivered, Vec<&'static str>) {
    let (until, stop) = (Instant::now() + Duration::from_secs(20), Stop::default());
    let mut reasons = Vec::new();
    loop {
        match target.deliver(unit, &stop) {
            Ok(delivered) => return (delivered, reasons),
            Err(Failure::Stopped) => panic!("nobody stopped it"),
            Err(Failure::Later { reason, message, after }) => {
                assert!(Instant::now() < until, "{reason}: {message}, after {reasons:?}");
                reasons.push(reason);
                std::thread::sleep(after.unwrap_or(Duration::from_millis(50)));
            }
        }
    }
}

/// The next failure of `unit`: its reason and message.
#[track_caller]
pub(crate) fn fails(target: &mut dyn Target, unit: &Given) -> (&'static str, String) {
    match target.deliver(unit, &Stop::default()) {
        Err(Failure::Later { reason, message, .. }) => (reason, message),
        other => panic!("expected a failure: {other:?}"),
    }
}

/// Whether `program` is there; says SKIPPED if not.
pub(crate) fn there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is missing (scripts/test.sh installs it)");
    }
    found
}
