//! Elasticsearch: `_bulk` against a strict server that keeps documents by `_id`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use weir::config::{Elasticsearch, Http, Secret, Tls};
use weir::output::Stream;
use weir::output::remote::http::elasticsearch;
use weir::output::spool::Target;

use super::server::{Answer, Fault, Request, Server};
use super::tls::Certificates;
use super::{alerts, deliver, fails, layout, slices};

/// Documents by index and id, and statuses that items are answered with instead.
#[derive(Default)]
struct Store {
    documents: BTreeMap<(String, String), Value>,
    /// For the next documents of these ids: the status, and the error's type.
    refuses: BTreeMap<String, (u16, &'static str)>,
}

fn bulk(store: &Mutex<Store>, request: &Request) -> Answer {
    let refused = |status, kind: &str| {
        Answer::new(status, json!({"error": {"type": kind}, "status": status}).to_string())
    };
    if request.path != "/_bulk" {
        return refused(405, "method");
    }
    if request.headers.get("authorization").map(String::as_str) != Some("ApiKey a2V5") {
        return refused(401, "security_exception");
    }
    if request.headers.get("content-type").map(String::as_str) != Some("application/x-ndjson") {
        return refused(406, "content_type");
    }
    if !request.body.ends_with('\n') {
        return refused(400, "illegal_argument_exception");
    }
    let mut store = store.lock().expect("no panic");
    let (mut items, mut errors) = (Vec::new(), false);
    let lines: Vec<&str> = request.body.lines().collect();
    for pair in lines.chunks(2) {
        let action: Value = serde_json::from_str(pair[0]).expect("an action");
        let document: Value = serde_json::from_str(pair[1]).expect("a document");
        let text = |key: &str| action["create"][key].as_str().expect(key).to_owned();
        let key = (text("_index"), text("_id"));
        let (status, kind) = if let Some(refused) = store.refuses.remove(&key.1) {
            refused
        } else if store.documents.contains_key(&key) {
            (409, "version_conflict_engine_exception")
        } else {
            store.documents.insert(key.clone(), document);
            (201, "")
        };
        let mut item = json!({"_index": key.0, "_id": key.1, "status": status});
        if status >= 300 {
            errors = true;
            item["error"] = json!({"type": kind, "reason": "said so"});
        }
        items.push(json!({ "create": item }));
    }
    Answer::new(200, json!({"took": 1, "errors": errors, "items": items}).to_string())
}

struct Bench {
    store: Arc<Mutex<Store>>,
    server: Server,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(Mutex::new(Store::default()));
        let shared = Arc::clone(&store);
        let server = Server::new(move |request| bulk(&shared, request));
        let folder = tempfile::TempDir::new().expect("a directory");
        std::fs::write(folder.path().join("key"), "a2V5\n").expect("room");
        Self { store, server, folder }
    }

    fn sink(&self) -> Elasticsearch {
        Elasticsearch {
            url: self.server.url(),
            api_key: Some(Secret::File(self.folder.path().join("key"))),
            http: Http { batch_records_max: 64, timeout_s: 2, ..Http::default() },
            ..Elasticsearch::default()
        }
    }

    fn target(&self, stream: Stream) -> Box<dyn Target> {
        elasticsearch(&self.sink(), &layout(stream), "s1").expect("a sink")
    }

    fn count(&self) -> usize {
        self.store.lock().expect("no panic").documents.len()
    }
}

#[test]
fn documents_are_there_once_in_the_index_of_their_day() {
    let bench = Bench::new();
    let (delivered, reasons) = deliver(&mut *bench.target(Stream::Slices), &slices(150));
    assert_eq!((delivered.dead.len(), reasons), (0, Vec::<&str>::new()));
    assert!(delivered.octets > 0);
    assert_eq!((bench.count(), bench.server.requests()), (150, 3));
    let (delivered, _) = deliver(&mut *bench.target(Stream::Alerts), &alerts(2));
    assert!(delivered.dead.is_empty());
    let store = bench.store.lock().expect("no panic");
    let id = format!("{:032x}-0", 1);
    let slice = &store.documents[&("weir-slice-2025.10.09".to_owned(), id)];
    assert_eq!(slice["rule"]["id"][0], "odd");
    assert_eq!(slice["labels"]["tenant"], "north");
    let alert = &store.documents[&("weir-alert-2025.10.09".to_owned(), format!("{:032x}", 2))];
    assert_eq!(alert["event"]["kind"], "alert");
}

#[test]
fn what_is_sent_again_is_not_there_twice() {
    let bench = Bench::new();
    let mut target = bench.target(Stream::Slices);
    bench.server.faults([Fault::ForgetsToAnswer, Fault::CutsAfter(100)]);
    let (delivered, reasons) = deliver(&mut *target, &slices(150));
    assert_eq!((delivered.dead.len(), reasons), (0, vec!["cut", "cut"]));
    assert_eq!(bench.count(), 150);
    // As after a crash: everything once more.
    let (delivered, reasons) = deliver(&mut *bench.target(Stream::Slices), &slices(150));
    assert_eq!((delivered.dead.len(), reasons, bench.count()), (0, Vec::new(), 150));
}

#[test]
fn items_are_judged_one_by_one() {
    let bench = Bench::new();
    {
        let mut store = bench.store.lock().expect("no panic");
        let id = |number: u32| format!("{:032x}-0", number + 1);
        store.refuses.insert(id(3), (429, "es_rejected_execution_exception"));
        store.refuses.insert(id(70), (400, "mapper_parsing_exception"));
        store.refuses.insert(id(71), (503, "unavailable_shards_exception"));
    }
    let (delivered, reasons) = deliver(&mut *bench.target(Stream::Slices), &slices(150));
    let [(70, reason)] = &delivered.dead[..] else { panic!("{:?}", delivered.dead) };
    assert_eq!(reason, "status 400, mapper_parsing_exception: said so");
    assert_eq!((bench.count(), reasons), (149, vec!["busy", "busy"]));
    assert_eq!(bench.server.requests(), 3, "what was refused goes with the next request");
}

#[test]
fn faults_of_the_server_are_waited_out() {
    let bench = Bench::new();
    let mut target = bench.target(Stream::Slices);
    let mut busy = Answer::new(429, "slow down");
    busy.headers.push(("Retry-After", "1".to_owned()));
    bench.server.faults([
        Fault::Answers(busy),
        Fault::Answers(Answer::new(503, "")),
        Fault::Answers(Answer::new(500, "")),
        Fault::Waits(Duration::from_secs(3)),
        Fault::Answers(Answer::new(200, "<html>")),
        Fault::Answers(Answer::new(301, "")),
    ]);
    let started = std::time::Instant::now();
    let (delivered, reasons) = deliver(&mut *target, &slices(10));
    assert_eq!(reasons, ["busy", "busy", "server", "timeout", "answer", "refused"]);
    assert!(started.elapsed() >= Duration::from_secs(3), "Retry-After and the timeout");
    assert_eq!((delivered.dead.len(), bench.count()), (0, 10));
}

#[test]
fn a_request_that_is_too_large_goes_in_halves() {
    let store = Arc::new(Mutex::new(Store::default()));
    let shared = Arc::clone(&store);
    let server = Server::new(move |request| {
        let count = request.body.lines().count() / 2;
        let poison = request.body.contains("\"10.0.0.6\"");
        match (count, poison) {
            (4.., _) => Answer::new(413, "too large"),
            (_, true) => Answer::new(400, "not to be read"),
            _ => bulk(&shared, request),
        }
    });
    let folder = tempfile::TempDir::new().expect("a directory");
    std::fs::write(folder.path().join("key"), "a2V5").expect("room");
    let api_key = Some(Secret::File(folder.path().join("key")));
    let sink = Elasticsearch { url: server.url(), api_key, ..Elasticsearch::default() };
    let mut target = elasticsearch(&sink, &layout(Stream::Slices), "s1").expect("a sink");
    let (delivered, reasons) = deliver(&mut *target, &slices(20));
    assert_eq!(reasons, Vec::<&str>::new());
    let [(5, reason)] = &delivered.dead[..] else { panic!("{:?}", delivered.dead) };
    assert!(reason.contains("answered 400: not to be read"), "{reason}");
    assert_eq!(store.lock().expect("no panic").documents.len(), 19);
}

#[test]
fn who_is_away_or_refuses_is_told_of() {
    let bench = Bench::new();
    let mut target = bench.target(Stream::Slices);
    std::fs::write(bench.folder.path().join("key"), "d3Jvbmc=").expect("room");
    let (reason, message) = fails(&mut *target, &slices(1));
    assert_eq!(reason, "credentials");
    assert!(message.contains("/_bulk answered 401"), "{message}");
    assert!(!message.contains("d3Jvbmc"), "{message}");
    std::fs::remove_file(bench.folder.path().join("key")).expect("there");
    let (reason, message) = fails(&mut *target, &slices(1));
    assert_eq!(reason, "credentials");
    assert!(message.contains("key"), "{message}");
    // A key that is put right is taken without a restart.
    std::fs::write(bench.folder.path().join("key"), "a2V5").expect("room");
    deliver(&mut *target, &slices(1));

    let address = bench.server.address;
    let store = Arc::clone(&bench.store);
    drop(bench.server);
    std::thread::sleep(Duration::from_millis(100));
    // Connections that were open end with their first request.
    let (reason, _) = fails(&mut *target, &slices(2));
    assert!(["cut", "connect"].contains(&reason), "{reason}");
    let again = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        Server::at(address, move |request| bulk(&store, request))
    });
    std::fs::write(bench.folder.path().join("key"), "a2V5").expect("room");
    let (delivered, _) = deliver(&mut *target, &slices(3));
    assert!(delivered.dead.is_empty());
    drop(again.join().expect("a server"));
}

#[test]
fn certificates_are_verified_and_shown() {
    let Some(certificates) = Certificates::new() else { return };
    let store = Arc::new(Mutex::new(Store::default()));
    let shared = Arc::clone(&store);
    let server = Server::tls(certificates.server(true), move |request| bulk(&shared, request));
    let folder = tempfile::TempDir::new().expect("a directory");
    std::fs::write(folder.path().join("key"), "a2V5").expect("room");
    let sink = |tls: Tls| {
        let api_key = Some(Secret::File(folder.path().join("key")));
        let sink = Elasticsearch { url: server.url(), api_key, tls, ..Elasticsearch::default() };
        elasticsearch(&sink, &layout(Stream::Slices), "s1").expect("a sink")
    };
    let path = |name: &str| Some(certificates.path(name));
    let (reason, message) = fails(&mut *sink(Tls::default()), &slices(1));
    assert_eq!(reason, "connect");
    assert!(message.contains("certificate"), "{message}");
    let trusting = Tls { ca_file: path("ca.pem"), ..Tls::default() };
    let (_, message) = fails(&mut *sink(trusting.clone()), &slices(1));
    assert!(message.contains("ertificate"), "the server asks for one: {message}");
    let (certificate_file, key_file) = (path("client.pem"), path("client.key"));
    let known = Tls { certificate_file, key_file, ..trusting };
    let (delivered, reasons) = deliver(&mut *sink(known.clone()), &slices(1));
    assert_eq!((delivered.dead.len(), reasons.len()), (0, 0));
    let careless = Tls { ca_file: None, verify: false, ..known };
    deliver(&mut *sink(careless), &slices(2));
    assert_eq!(store.lock().expect("no panic").documents.len(), 2);
}
