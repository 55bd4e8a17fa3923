//! Stores that no test can start: what is asked of them, held to their documentation.

use std::sync::{Arc, Mutex};

use super::{Lake, batch};
use crate::siem::server::{Answer, Fault, Request, Server};
use crate::system::wait_for;

type Requests = Arc<Mutex<Vec<Request>>>;

/// A store that takes an object once: a second put of a name is answered with `there`.
fn store(there: u16, answer: &'static str) -> (Requests, Server) {
    let requests = Requests::default();
    let shared = Arc::clone(&requests);
    let server = Server::any(move |request| {
        // What is asked before the first record.
        if request.method == "GET" {
            shared.lock().expect("no panic").push(request.clone());
            return Answer::new(404, "<Error><Code>NoSuchKey</Code></Error>");
        }
        let mut requests = shared.lock().expect("no panic");
        let again = requests.iter().any(|before: &Request| before.path == request.path);
        requests.push(request.clone());
        let mut answer =
            Answer::new(if again { there } else { 201 }, if again { answer } else { "" });
        answer.headers.push(("etag", "\"1\"".to_owned()));
        answer.headers.push(("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT".to_owned()));
        answer
    });
    (requests, server)
}

/// The first answer is lost, and what comes again is taken for delivered.
#[track_caller]
fn check(lake: &mut Lake, server: &Server, requests: &Requests, holds: impl Fn(&Request) -> bool) {
    wait_for("the question", || requests.lock().expect("no panic").pop());
    server.faults([Fault::ForgetsToAnswer]);
    lake.give(batch(0..3));
    lake.acknowledges(3);
    lake.stop();
    let requests = requests.lock().expect("no panic");
    assert_eq!(requests.len(), 2, "{requests:?}");
    for request in requests.iter() {
        assert_eq!(request.method, "PUT", "{request:?}");
        assert!(holds(request), "{request:?}");
    }
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(requests[0].body.lines().count(), 3);
}

/// Cloud Storage, XML API: `x-goog-if-generation-match: 0` is the condition that there is none.
#[test]
fn google_is_asked_for_an_object_that_is_not_there_yet() {
    let (requests, server) = store(412, "<Error><Code>PreconditionFailed</Code></Error>");
    let folder = tempfile::tempdir().expect("a folder");
    let account = folder.path().join("account.json");
    let text = format!(
        r#"{{"gcs_base_url": "{}", "disable_oauth": true, "client_email": "", "private_key": "",
            "private_key_id": ""}}"#,
        server.url()
    );
    std::fs::write(&account, text).expect("room");
    let table = format!(
        "url = \"gs://lake\"\ncompression = \"none\"\ncredentials_file = \"{}\"\n",
        account.display()
    );
    let mut lake = Lake::new(&server.url(), &table);
    check(&mut lake, &server, &requests, |request| {
        request.path.replace("%2F", "/").starts_with("/lake/streaming/north/")
            && request.headers.get("x-goog-if-generation-match").is_some_and(|v| v == "0")
    });
}

/// Blob service, Put Blob: If-None-Match of `*`, and 409 `BlobAlreadyExists` where there is one.
#[test]
fn azure_is_asked_for_a_blob_that_is_not_there_yet() {
    let (requests, server) = store(409, "<Error><Code>BlobAlreadyExists</Code></Error>");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "a2V5").expect("room");
    let table = format!(
        "url = \"az://lake\"\ncompression = \"none\"\naccess_key_id = \"account\"\n\
         secret_access_key = {{ file = \"{}\" }}\n",
        folder.path().join("key").display()
    );
    let mut lake = Lake::new(&format!("{}/account", server.url()), &table);
    check(&mut lake, &server, &requests, |request| {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        request.path.starts_with("/account/lake/streaming/north/")
            && header("if-none-match") == Some("*")
            && header("x-ms-blob-type") == Some("BlockBlob")
            && header("authorization").is_some_and(|v| v.starts_with("SharedKey account:"))
    });
}
