//! The other sides: each keeps how often it took which record, and can be made to fail.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::servers::proxy::Proxy;
use crate::siem::server::{Answer, Request, Server};

/// What tells a slice apart: the flow's id and the slice's number.
pub(crate) type Identity = (u128, u32);

/// How often each slice came.
pub(crate) type Tally = HashMap<Identity, u32>;

/// The secret that servers want at first, and the one that the sensor has.
pub(crate) const SECRET: &str = "c2VjcmV0";

/// The identities of slices in NDJSON, or in whatever else has these fields in this order.
pub(crate) fn identities(text: &str) -> impl Iterator<Item = Identity> {
    text.match_indices("\"flow_id\":\"").map(|(at, name)| {
        let rest = &text[at + name.len()..];
        let id = u128::from_str_radix(&rest[..32], 16).expect("32 hexadecimal digits");
        let (_, number) = rest.split_once("\"slice\":").expect("the slice's number");
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        (id, number[..digits].parse().expect("a number"))
    })
}

fn add(tally: &Mutex<Tally>, identities: impl Iterator<Item = Identity>) {
    let mut tally = tally.lock().expect("no panic");
    identities.for_each(|identity| *tally.entry(identity).or_default() += 1);
}

/// What a server of HTTP is told to do.
#[derive(Debug)]
pub(crate) struct Mood {
    /// The secret that it takes.
    secret: String,
    /// Whether what records are put into is there.
    index: bool,
}

/// A receiver behind a proxy.
pub(crate) struct Receiver {
    pub(crate) proxy: Proxy,
    pub(crate) tally: Arc<Mutex<Tally>>,
    mood: Arc<Mutex<Mood>>,
    /// Ends with it.
    _server: Option<Server>,
}

impl Receiver {
    fn new(
        handle: impl Fn(&Mood, &Mutex<Tally>, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (proxy, tally) = (Proxy::new(), Arc::<Mutex<Tally>>::default());
        let mood = Arc::new(Mutex::new(Mood { secret: SECRET.into(), index: true }));
        let (kept, told) = (Arc::clone(&tally), Arc::clone(&mood));
        let server =
            Server::new(move |request| handle(&told.lock().expect("no panic"), &kept, request));
        proxy.to(server.address);
        Self { proxy, tally, mood, _server: Some(server) }
    }

    /// Elasticsearch: keeps documents by `_id`.
    pub(crate) fn elastic() -> Self {
        Self::new(bulk)
    }

    /// Splunk's event collector: keeps whatever comes.
    pub(crate) fn splunk() -> Self {
        Self::new(events)
    }

    /// A syslog server that counts octets (RFC 6587).
    pub(crate) fn syslog() -> Self {
        let (proxy, tally) = (Proxy::new(), Arc::<Mutex<Tally>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        proxy.to(listener.local_addr().expect("bound"));
        let kept = Arc::clone(&tally);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), kept) = (client, Arc::clone(&kept)) else { return };
                std::thread::spawn(move || messages(client, &kept));
            }
        });
        let mood = Mutex::new(Mood { secret: String::new(), index: true });
        Self { proxy, tally, mood: Arc::new(mood), _server: None }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Takes another secret than the sensor's, or the sensor's.
    pub(crate) fn wants(&self, secret: &str) {
        self.mood.lock().expect("no panic").secret = secret.to_owned();
    }

    /// Has what records are put into, or not.
    pub(crate) fn has_index(&self, there: bool) {
        self.mood.lock().expect("no panic").index = there;
    }
}

fn bulk(mood: &Mood, tally: &Mutex<Tally>, request: &Request) -> Answer {
    let refused = |status, kind: &str| {
        Answer::new(status, json!({"error": {"type": kind}, "status": status}).to_string())
    };
    if request.headers.get("authorization") != Some(&format!("ApiKey {}", mood.secret)) {
        return refused(401, "security_exception");
    }
    let mut tally = tally.lock().expect("no panic");
    let (mut items, mut errors) = (Vec::new(), false);
    for action in request.body.lines().step_by(2) {
        let (_, id) = action.split_once("\"_id\":\"").expect("an id");
        let id = id.split('"').next().expect("an id");
        let (flow, number) = id.split_once('-').expect("flow and number");
        let flow = u128::from_str_radix(flow, 16).expect("a flow id");
        let identity = (flow, number.parse().expect("a number"));
        let status = if !mood.index {
            404
        } else if let Entry::Vacant(place) = tally.entry(identity) {
            place.insert(1);
            201
        } else {
            409
        };
        let mut item = json!({"_id": id, "status": status});
        if status >= 300 {
            errors = true;
            let kind = match status {
                404 => "index_not_found_exception",
                _ => "version_conflict_engine_exception",
            };
            item["error"] = json!({"type": kind, "reason": "said so"});
        }
        items.push(json!({ "create": item }));
    }
    Answer::new(200, json!({"took": 1, "errors": errors, "items": items}).to_string())
}

fn events(mood: &Mood, tally: &Mutex<Tally>, request: &Request) -> Answer {
    let said = |status, code: u32, text: &str| {
        Answer::new(status, json!({"text": text, "code": code}).to_string())
    };
    if request.headers.get("authorization") != Some(&format!("Splunk {}", mood.secret)) {
        return said(403, 4, "Invalid token");
    }
    if !mood.index {
        let body = json!({"text": "Incorrect index", "code": 7, "invalid-event-number": 0});
        return Answer::new(400, body.to_string());
    }
    add(tally, identities(&request.body));
    said(200, 0, "Success")
}

/// Takes whole messages until the end of the stream.
fn messages(mut client: TcpStream, tally: &Mutex<Tally>) {
    let (mut held, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(octets @ 1..) = client.read(&mut chunk) {
        held.extend(&chunk[..octets]);
        let mut at = 0;
        while let Some(space) = held[at..].iter().position(|&octet| octet == b' ') {
            let length = std::str::from_utf8(&held[at..at + space]).expect("digits");
            let length: usize = length.parse().expect("a length");
            let from = at + space + 1;
            let Some(message) = held.get(from..from + length) else { break };
            add(tally, identities(&String::from_utf8_lossy(message)));
            at = from + length;
        }
        held.drain(..at);
    }
}
