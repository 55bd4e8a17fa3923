//! Every example of `config/examples` that is here is run: a flow goes in, and comes out at the
//! receiver that the example names. Names of hosts become addresses of this machine, and files of
//! secrets and certificates stand beside the configuration.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::server::{Answer, Request, Server};
use super::tls::Certificates;
use crate::netflow::build::{fixed, fixed_record};
use crate::system::{Bench, Sensor, files, wait_for};

pub(crate) const RULE: &str = "\
title: HTTPS
id: https
logsource:
    category: network_connection
detection:
    selection:
        dst_port: 443
    condition: selection
level: high
";

/// What has idle flows out after a second, and waits for nobody.
const QUICK: &str = "[flow.netflow]\nidle_timeout_s = 1\n[spool]\ndirectory = \"spool\"\nsegment_idle_s = 1\n\
     stop_s = 1\n";

pub(crate) fn example(name: &str, replace: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let mut text = std::fs::read_to_string(path).expect(name);
    for (from, to) in replace {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    QUICK.to_owned() + &text
}

/// A sensor on that configuration, which has had one flow to port 443.
pub(crate) fn run(bench: &Bench, config: &str) -> Sensor {
    bench.write("rules/https.yml", RULE);
    let sensor = Sensor::start(bench, config);
    send(&sensor);
    sensor
}

/// Sends it one flow to port 443.
pub(crate) fn send(sensor: &Sensor) {
    let mut record = fixed_record();
    record[34..36].copy_from_slice(&443_u16.to_be_bytes());
    let exporter = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sensor.send(&exporter, &fixed(5, 1, 1, 0, &[record]));
}

type Requests = Arc<Mutex<Vec<Request>>>;

/// A server that takes everything and answers `body`.
fn taking(certificates: Option<&Certificates>, body: &'static str) -> (Requests, Server) {
    let requests = Requests::default();
    let shared = Arc::clone(&requests);
    let handler = move |request: &Request| {
        shared.lock().expect("no panic").push(request.clone());
        Answer::new(200, body)
    };
    let server = match certificates {
        Some(certificates) => Server::tls(certificates.server(false), handler),
        None => Server::new(handler),
    };
    (requests, server)
}

#[track_caller]
fn wait_until(requests: &Requests, what: &str, holds: impl Fn(&Request) -> bool) {
    wait_for(what, || requests.lock().expect("no panic").iter().any(&holds).then_some(()));
}

fn secrets(bench: &Bench, certificates: &Certificates) {
    let authority = std::fs::read(certificates.path("ca.pem")).expect("made");
    bench.write("ca.pem", authority).write("hec.token", "hunter2").write("elastic.key", "a2V5");
}

#[test]
fn splunk() {
    let Some(certificates) = Certificates::new() else { return };
    let (requests, server) = taking(Some(&certificates), r#"{"text":"Success","code":0}"#);
    let bench = Bench::new();
    secrets(&bench, &certificates);
    let config = example("splunk.toml", &[("https://splunk.example:8088", &server.url())]);
    let sensor = run(&bench, &config);
    wait_until(&requests, "an alert", |r| r.body.contains("\"sourcetype\":\"weir:alert\""));
    wait_until(&requests, "a tagged slice", |r| r.body.contains("\"sourcetype\":\"weir:slice\""));
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"splunk-flows\"}", 1.0);
    let (_, log) = sensor.stop();
    assert!(!log.contains("hunter2"), "{log}");
}

#[test]
fn elasticsearch() {
    let Some(certificates) = Certificates::new() else { return };
    let (requests, server) = taking(Some(&certificates), r#"{"errors":false,"items":[]}"#);
    let bench = Bench::new();
    secrets(&bench, &certificates);
    let config = example("elasticsearch.toml", &[("https://elastic.example:9200", &server.url())]);
    let sensor = run(&bench, &config);
    wait_until(&requests, "a document", |request| request.body.contains("\"weir-slice-"));
    sensor.stop();
}

#[test]
fn webhook() {
    let (requests, server) = taking(None, "ok");
    let bench = Bench::new();
    bench.write("chat.url", server.url() + "/services/secret");
    let sensor = run(&bench, &example("webhook.toml", &[]));
    wait_until(&requests, "a text", |request| {
        request.body == r#"{"text": "[high] HTTPS: 10.0.0.1 -> 10.0.0.2:443"}"#
    });
    sensor.stop();
}

#[test]
fn syslog() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let bench = Bench::new();
    let sensor = run(&bench, &example("syslog.toml", &[("syslog.example:601", &address)]));
    let (mut session, _) = listener.accept().expect("a session");
    let mut text = String::new();
    let mut chunk = [0; 4_096];
    while !text.contains("|https|HTTPS|8|") {
        let octets = std::io::Read::read(&mut session, &mut chunk).expect("readable");
        assert!(octets > 0, "closed after {text}");
        text += &String::from_utf8_lossy(&chunk[..octets]);
    }
    sensor.stop();
}

#[test]
fn ipfix() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(crate::system::PATIENCE)).expect("a timeout");
    let address: SocketAddr = socket.local_addr().expect("bound");
    let bench = Bench::new();
    let replaced = [("collector.example:4739", &*address.to_string())];
    let sensor = run(&bench, &example("ipfix.toml", &replaced));
    let mut message = [0; 2_048];
    for set in [2, 256_u16] {
        socket.recv(&mut message).expect("a message");
        assert_eq!(message[..2], [0, 10]);
        assert_eq!(message[16..18], set.to_be_bytes(), "templates, then data");
    }
    sensor.stop();
}

#[test]
fn tee() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(crate::system::PATIENCE)).expect("a timeout");
    let address = socket.local_addr().expect("bound").to_string();
    let bench = Bench::new();
    let sensor = run(&bench, &example("tee.toml", &[("192.0.2.9:2055", &address)]));
    let mut datagram = [0; 2_048];
    let octets = socket.recv(&mut datagram).expect("a datagram");
    assert_eq!((octets, &datagram[..2]), (24 + 48, &[0, 5][..]));
    sensor.stop();
}

#[test]
fn files_behind_the_spool() {
    let bench = Bench::new();
    // A machine of tests may have less than that.
    let sensor =
        run(&bench, &example("files.toml", &[("free_bytes = 10737418240", "free_bytes = 0")]));
    for (folder, extension) in [("flows", "parquet"), ("alerts", "ndjson")] {
        wait_for(folder, || (!files(&bench.path(folder), extension).is_empty()).then_some(()));
    }
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"flows\"}", 1.0);
    sensor.reaches("weir_output_files_total{sink=\"alerts\"}", 1.0);
    sensor.stop();
    for folder in ["flows", "alerts"] {
        assert!(
            files(&bench.path(folder), "next").is_empty(),
            "{folder}: nothing is left unfinished"
        );
    }
    assert_eq!(crate::system::records(&bench.path("alerts")).len(), 1);
}

#[test]
fn formats() {
    let bench = Bench::new();
    let sensor = run(&bench, &example("formats.toml", &[]));
    for (format, extension) in [("ocsf", "ndjson"), ("detectflow", "ndjson"), ("protobuf", "pb")] {
        wait_for(format, || (!files(&bench.path(format), extension).is_empty()).then_some(()));
    }
    sensor.stop();
}
