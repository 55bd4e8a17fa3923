//! Webhooks: arrays, lines, and one text for each alert.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use weir::config::{Body, Http, Secret, Webhook};
use weir::output::Stream;
use weir::output::remote::http::webhook;

use super::server::{Answer, Fault, Request, Server};
use super::{alerts, deliver, fails, layout};

fn server() -> (Arc<Mutex<Vec<Request>>>, Server) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&requests);
    let server = Server::new(move |request| {
        shared.lock().expect("no panic").push(request.clone());
        Answer::new(204, "")
    });
    (requests, server)
}

#[test]
fn alerts_are_an_array_or_lines() {
    let folder = tempfile::TempDir::new().expect("a directory");
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer hunter2\n").expect("room");
    for (body, gzip, media) in
        [(Body::Array, false, "application/json"), (Body::Ndjson, true, "application/x-ndjson")]
    {
        let (requests, server) = server();
        let sink = Webhook {
            url: server.url() + "/hook?x=1",
            body,
            authorization: Some(Secret::File(token.clone())),
            headers: [("X-Tenant".to_owned(), "north".to_owned())].into(),
            http: Http { batch_records_max: 2, gzip, ..Http::default() },
            ..Webhook::default()
        };
        let mut target = webhook(&sink, &layout(Stream::Alerts)).expect("a sink");
        let (delivered, reasons) = deliver(&mut *target, &alerts(3));
        assert_eq!((delivered.dead.len(), reasons), (0, Vec::<&str>::new()));
        let requests = requests.lock().expect("no panic");
        assert_eq!(requests.len(), 2);
        let of = |request: &Request| -> Vec<Value> {
            match body {
                Body::Array => serde_json::from_str(&request.body).expect("an array"),
                _ => request.body.lines().map(|l| serde_json::from_str(l).expect(l)).collect(),
            }
        };
        let found: Vec<Value> = requests.iter().flat_map(of).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[2]["rule"]["title"], "Odd \"port\" | é");
        for request in requests.iter() {
            assert_eq!(request.path, "/hook?x=1");
            for (name, want) in [
                ("authorization", "Bearer hunter2"),
                ("x-tenant", "north"),
                ("content-type", media),
            ] {
                assert_eq!(request.headers[name], want);
            }
        }
    }
}

#[test]
fn an_alert_is_a_text_for_people() {
    let (requests, server) = server();
    let folder = tempfile::TempDir::new().expect("a directory");
    let url = folder.path().join("url");
    std::fs::write(&url, server.url() + "/services/hunter2\n").expect("room");
    let sink = Webhook {
        url_secret: Some(Secret::File(url)),
        body: Body::Template,
        template: r#"{{"text": "[{rule.level}] {rule.title}: {src_ip} -> {dest_ip}:{dest_port}"}}"#
            .into(),
        ..Webhook::default()
    };
    let mut target = webhook(&sink, &layout(Stream::Alerts)).expect("a sink");
    server.faults([Fault::Answers(Answer::new(429, "slow"))]);
    let (_, message) = fails(&mut *target, &alerts(2));
    assert!(message.contains("answered 429") && !message.contains("hunter2"), "{message}");
    deliver(&mut *target, &alerts(2));
    let requests = requests.lock().expect("no panic");
    let texts: Vec<Value> =
        requests.iter().map(|r| serde_json::from_str(&r.body).expect("JSON")).collect();
    let text = |src: &str| {
        json!({
            "text": format!("[high] Odd \"port\" | é: {src} -> 198.51.100.10:443"),
        })
    };
    assert_eq!(texts, [text("10.0.0.1"), text("10.0.0.2")]);
    let sink = Webhook { template: "{no_such}".into(), ..sink };
    let error = webhook(&sink, &layout(Stream::Alerts)).err().expect("refused").to_string();
    assert!(error.contains("`{no_such}` names no field"), "{error}");
}
