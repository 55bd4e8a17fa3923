//! Splunk's event collector, against a strict server that keeps events and answers with its codes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weir::config::{Hec, Http, Secret};
use weir::output::Stream;
use weir::output::remote::http::hec;
use weir::output::spool::Target;

use super::server::{Answer, Fault, Request, Server};
use super::{deliver, fails, layout, slices};

#[derive(Default)]
struct Collector {
    events: Vec<Value>,
    /// A source address whose event is refused as invalid.
    invalid: Option<&'static str>,
    /// Batches that the indexers have not acknowledged yet, and how often they were asked for.
    acks: BTreeSet<u64>,
    asked: u64,
    acknowledges: bool,
}

fn said(status: u16, code: i64, text: &str) -> Answer {
    Answer::new(status, json!({"text": text, "code": code}).to_string())
}

fn collect(state: &Mutex<Collector>, request: &Request) -> Answer {
    match request.headers.get("authorization").map(String::as_str) {
        None => return said(401, 2, "Token is required"),
        Some("Splunk hunter2") => {}
        Some(_) => return said(403, 4, "Invalid token"),
    }
    let mut state = state.lock().expect("no panic");
    let channel = request.headers.get("x-splunk-request-channel").cloned();
    if state.acknowledges && channel.is_none() {
        return said(400, 10, "Data channel is missing");
    }
    if let Some(asked) = request.path.strip_prefix("/services/collector/ack?channel=") {
        assert_eq!(Some(asked), channel.as_deref());
        let question: Value = serde_json::from_str(&request.body).expect("JSON");
        let id = question["acks"][0].as_u64().expect("an id");
        // The first question comes too early.
        state.asked += 1;
        let done = state.asked > 1 && state.acks.contains(&id);
        return Answer::new(200, json!({"acks": {id.to_string(): done}}).to_string());
    }
    if request.path != "/services/collector/event" {
        return said(404, 404, "The requested URL was not found on this server.");
    }
    let events = serde_json::Deserializer::from_str(&request.body).into_iter::<Value>();
    let events: Vec<Value> = events.map(|event| event.expect("JSON")).collect();
    if events.is_empty() {
        return said(400, 5, "No data");
    }
    for (number, event) in events.iter().enumerate() {
        if event["event"].is_null() {
            let body = json!({
                "text": "Event field is required", "code": 12, "invalid-event-number": number,
            });
            return Answer::new(400, body.to_string());
        }
        if event["index"].as_str().is_some_and(|index| index != "netflow") {
            let body =
                json!({"text": "Incorrect index", "code": 7, "invalid-event-number": number});
            return Answer::new(400, body.to_string());
        }
        if state.invalid.is_some_and(|src| event["event"]["src_ip"] == src) {
            let body =
                json!({"text": "Invalid data format", "code": 6, "invalid-event-number": number});
            return Answer::new(400, body.to_string());
        }
    }
    state.events.extend(events);
    let mut answer = json!({"text": "Success", "code": 0});
    if state.acknowledges {
        let id = state.acks.len() as u64;
        state.acks.insert(id);
        answer["ackId"] = json!(id);
    }
    Answer::new(200, answer.to_string())
}

struct Bench {
    state: Arc<Mutex<Collector>>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(state: Collector) -> Self {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::new(move |request| collect(&shared, request));
        let folder = tempfile::TempDir::new().expect("a directory");
        std::fs::write(folder.path().join("token"), "hunter2\n").expect("room");
        Self { state, server, folder }
    }

    fn sink(&self) -> Hec {
        Hec {
            url: self.server.url() + "/",
            token: Some(Secret::File(self.folder.path().join("token"))),
            http: Http { batch_records_max: 8, timeout_s: 2, ..Http::default() },
            ..Hec::default()
        }
    }

    fn target(&self, sink: &Hec) -> Box<dyn Target> {
        hec(sink, &layout(Stream::Slices), "s1").expect("a sink")
    }

    fn sources(&self) -> Vec<String> {
        let state = self.state.lock().expect("no panic");
        let source = |event: &Value| event["event"]["src_ip"].as_str().expect("text").to_owned();
        state.events.iter().map(source).collect()
    }
}

#[test]
fn events_have_time_host_and_sourcetype() {
    let bench = Bench::new(Collector::default());
    let sink = Hec { index: "netflow".into(), ..bench.sink() };
    let (delivered, reasons) = deliver(&mut *bench.target(&sink), &slices(20));
    assert_eq!((delivered.dead.len(), reasons), (0, Vec::<&str>::new()));
    assert_eq!((bench.sources().len(), bench.server.requests()), (20, 3));
    let event = bench.state.lock().expect("no panic").events[0].clone();
    assert_eq!(event["time"].to_string(), "1760000000.000001");
    for (key, want) in
        [("host", "s1"), ("source", "weir"), ("sourcetype", "weir:slice"), ("index", "netflow")]
    {
        assert_eq!(event[key], want);
    }
    assert_eq!(event["event"]["sigma_rule_ids"][0], "odd");
    assert_eq!(event["event"]["tenant"], "north");
}

#[test]
fn an_event_that_is_refused_does_not_hold_back_the_others() {
    let bench = Bench::new(Collector { invalid: Some("10.0.0.12"), ..Collector::default() });
    let (delivered, reasons) = deliver(&mut *bench.target(&bench.sink()), &slices(20));
    let [(11, reason)] = &delivered.dead[..] else { panic!("{:?}", delivered.dead) };
    assert!(reason.contains("\"code\":6"), "{reason}");
    assert_eq!(reasons, Vec::<&str>::new());
    let mut sources = bench.sources();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!((sources.len(), bench.sources().len()), (19, 19), "each once");
}

#[test]
fn what_was_acknowledged_is_not_sent_again() {
    let bench = Bench::new(Collector::default());
    let mut busy = said(503, 9, "Server is busy");
    busy.headers.push(("Retry-After", "1".to_owned()));
    let mut target = bench.target(&bench.sink());
    deliver(&mut *target, &slices(1));
    // The second of three batches.
    bench.server.faults([Fault::Waits(std::time::Duration::ZERO), Fault::Answers(busy)]);
    let started = std::time::Instant::now();
    let (delivered, reasons) = deliver(&mut *target, &slices(20));
    assert!(started.elapsed() >= std::time::Duration::from_secs(1), "Retry-After");
    assert_eq!((delivered.dead.len(), reasons), (0, vec!["busy"]));
    assert_eq!(bench.sources().len(), 21, "none twice");
    bench.server.faults([Fault::CutsAfter(50)]);
    let (_, reasons) = deliver(&mut *target, &slices(3));
    assert_eq!((reasons, bench.sources().len()), (vec!["cut"], 24));
}

#[test]
fn a_wrong_token_or_index_is_told_of_and_waits() {
    let bench = Bench::new(Collector::default());
    let wrong = Hec { index: "nowhere".into(), ..bench.sink() };
    let (reason, message) = fails(&mut *bench.target(&wrong), &slices(3));
    assert_eq!(reason, "refused");
    assert!(message.contains("Incorrect index"), "{message}");
    std::fs::write(bench.folder.path().join("token"), "hunter3").expect("room");
    let (reason, message) = fails(&mut *bench.target(&bench.sink()), &slices(3));
    assert_eq!(reason, "credentials");
    assert!(message.contains("Invalid token") && !message.contains("hunter"), "{message}");
    let nowhere = Hec { url: bench.server.url() + "/elsewhere", ..bench.sink() };
    std::fs::write(bench.folder.path().join("token"), "hunter2").expect("room");
    assert_eq!(fails(&mut *bench.target(&nowhere), &slices(3)).0, "missing");
    assert!(bench.sources().is_empty());
}

#[test]
fn indexers_acknowledge_where_they_are_asked_to() {
    let bench = Bench::new(Collector { acknowledges: true, ..Collector::default() });
    let sink = Hec { ack_timeout_s: 5, ..bench.sink() };
    let (delivered, reasons) = deliver(&mut *bench.target(&sink), &slices(5));
    assert_eq!((delivered.dead.len(), reasons), (0, Vec::<&str>::new()));
    assert_eq!(bench.state.lock().expect("no panic").asked, 2, "asked until it was so");
    // A token without acknowledgement where it is waited for.
    let bench = Bench::new(Collector::default());
    let sink = Hec { ack_timeout_s: 5, ..bench.sink() };
    let (reason, message) = fails(&mut *bench.target(&sink), &slices(5));
    assert_eq!(reason, "answer");
    assert!(message.contains("no indexer acknowledgement"), "{message}");
}
