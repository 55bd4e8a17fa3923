//! The other sides: each keeps how often it took which record, and can be made to fail.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde_json::json;

use super::storage::Storage;
use crate::servers::kafka::{Doors, Kafka, create};
use crate::servers::proxy::Proxy;
use crate::servers::s3::{ACCESS_KEY, Kind, S3, SECRET_KEY};
use crate::siem::server::{Answer, Request, Server};

/// What tells a slice apart: the flow's id with the slice's number mixed in. Flow ids are hashes, so
/// two slices with one identity are as likely as two flows with one id.
pub(crate) type Identity = u128;

fn identity(flow: u128, number: u32) -> Identity {
    flow.wrapping_add(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Amazon's credentials file for the S3 servers, with `secret`.
pub(crate) fn credentials(secret: &str) -> String {
    format!("[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {secret}\n")
}

/// The secret that they take.
pub(crate) const S3_SECRET: &str = SECRET_KEY;

/// The password that the broker takes.
pub(crate) const KAFKA_SECRET: &str = "s3cret";

/// How often each slice came.
pub(crate) type Tally = HashMap<Identity, u32, BuildHasherDefault<AsItIs>>;

/// The hash of what is a hash already.
#[derive(Clone, Copy, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("identities are integers")
    }

    fn write_u128(&mut self, identity: u128) {
        self.0 = identity as u64;
    }
}

/// The secret that servers want at first, and the one that the sensor has.
pub(crate) const SECRET: &str = "c2VjcmV0";

/// The identities of slices in NDJSON, or in whatever else has these fields in this order.
pub(crate) fn identities(text: &str) -> impl Iterator<Item = Identity> {
    text.match_indices("\"flow_id\":\"").map(|(at, name)| {
        let rest = &text[at + name.len()..];
        let id = u128::from_str_radix(&rest[..32], 16).expect("32 hexadecimal digits");
        let (_, number) = rest.split_once("\"slice\":").expect("the slice's number");
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        identity(id, number[..digits].parse().expect("a number"))
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
    side: Side,
    /// How often it was made new: topics and buckets have it in their names.
    round: u32,
}

/// What stands behind it.
enum Side {
    /// A server of ours, over HTTP.
    Http {
        tally: Arc<Mutex<Tally>>,
        mood: Arc<Mutex<Mood>>,
        _server: Server,
    },
    Syslog {
        tally: Arc<Mutex<Tally>>,
    },
    /// Keeps of each record its `flowId`: the upper half of the flow's id.
    Ipfix {
        tally: Arc<Mutex<Tally>>,
    },
    Kafka(Kafka),
    S3(S3),
    /// Files behind the spool, in this folder.
    Files(PathBuf),
    /// Files with a queue of their own.
    Queue(PathBuf),
}

/// All of them, by the names of the sinks.
pub(crate) type Receivers = BTreeMap<&'static str, Receiver>;

/// Those that need nothing installed.
fn own() -> Receivers {
    BTreeMap::from([
        ("elastic", Receiver::http(bulk)),
        ("files", Receiver::files()),
        ("hec", Receiver::http(events)),
        ("ipfix", Receiver::ipfix()),
        ("queue", Receiver { proxy: Proxy::new(), side: Side::Queue(PathBuf::new()), round: 0 }),
        ("syslog", Receiver::syslog()),
    ])
}

/// Those that `wanted` names, on `storage` and with all that they need.
pub(crate) fn ready_for(storage: &Storage, wanted: impl Fn(&str) -> bool) -> Receivers {
    let mut receivers = own();
    receivers.retain(|name, _| wanted(name));
    receivers.values_mut().for_each(|receiver| receiver.renew(&storage.path(), true));
    receivers
}

/// All of our own, and Kafka and S3 where they are installed.
pub(crate) fn all() -> Receivers {
    let mut receivers = own();
    let proxy = Proxy::new();
    if let Some(kafka) = Kafka::start(Doors::Sasl, Some(proxy.address())) {
        proxy.to(kafka.listens());
        receivers.insert("kafka", Receiver { proxy, side: Side::Kafka(kafka), round: 0 });
    }
    for (name, kind) in [("s3-moto", Kind::Moto), ("s3-s3s", Kind::S3sFs)] {
        if let Some(s3) = S3::start(kind) {
            let proxy = Proxy::new();
            proxy.to(s3.address());
            receivers.insert(name, Receiver { proxy, side: Side::S3(s3), round: 0 });
        }
    }
    receivers
}

impl Receiver {
    fn http(
        handle: impl Fn(&Mood, &Mutex<Tally>, &Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (proxy, tally) = (Proxy::new(), Arc::<Mutex<Tally>>::default());
        let mood = Arc::new(Mutex::new(Mood { secret: SECRET.into(), index: true }));
        let (kept, told) = (Arc::clone(&tally), Arc::clone(&mood));
        let server =
            Server::new(move |request| handle(&told.lock().expect("no panic"), &kept, request));
        proxy.to(server.address);
        Self { proxy, side: Side::Http { tally, mood, _server: server }, round: 0 }
    }

    /// A folder: where is said by [`Receiver::renew`].
    fn files() -> Self {
        Self { proxy: Proxy::new(), side: Side::Files(PathBuf::new()), round: 0 }
    }

    /// A syslog server that counts octets (RFC 6587).
    fn syslog() -> Self {
        let (proxy, tally) = Self::stream(messages);
        Self { proxy, side: Side::Syslog { tally }, round: 0 }
    }

    /// A collector of IPFIX over TCP (RFC 7011 §10.4).
    fn ipfix() -> Self {
        let (proxy, tally) = Self::stream(exports);
        Self { proxy, side: Side::Ipfix { tally }, round: 0 }
    }

    /// A server that takes connections, each read by `read` in a thread of its own.
    fn stream(read: fn(TcpStream, &Mutex<Tally>)) -> (Proxy, Arc<Mutex<Tally>>) {
        let (proxy, tally) = (Proxy::new(), Arc::<Mutex<Tally>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        proxy.to(listener.local_addr().expect("bound"));
        let kept = Arc::clone(&tally);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), kept) = (client, Arc::clone(&kept)) else { return };
                std::thread::spawn(move || read(client, &kept));
            }
        });
        (proxy, tally)
    }

    /// What it keeps of `identity`.
    pub(crate) fn keeps(&self, identity: Identity) -> Identity {
        if matches!(self.side, Side::Ipfix { .. }) { identity >> 64 } else { identity }
    }

    /// Whether what was appended to the spool is due to it.
    pub(crate) fn is_behind_the_spool(&self) -> bool {
        !matches!(self.side, Side::Queue(_))
    }

    /// Empty, for the next run, which has a disk at `disk`. Without `index` what records are put into
    /// is not there yet.
    pub(crate) fn renew(&mut self, disk: &Path, index: bool) {
        self.round += 1;
        match &mut self.side {
            Side::Http { tally, .. } | Side::Syslog { tally } | Side::Ipfix { tally } => {
                tally.lock().expect("no panic").clear();
            }
            Side::Kafka(_) | Side::S3(_) => {}
            Side::Files(folder) => *folder = disk.join("files"),
            Side::Queue(folder) => *folder = disk.join("queue"),
        }
        if index {
            self.make_index();
        } else if let Side::Http { mood, .. } = &self.side {
            mood.lock().expect("no panic").index = false;
        }
    }

    /// Gives the room back that this run took on the other side.
    pub(crate) fn forget(&mut self) {
        let place = self.place();
        match &mut self.side {
            Side::Http { tally, .. } | Side::Syslog { tally } | Side::Ipfix { tally } => {
                *tally.lock().expect("no panic") = Tally::default();
            }
            Side::Kafka(kafka) => kafka.forget(&place),
            Side::S3(s3) => s3.forget(&place),
            Side::Files(_) | Side::Queue(_) => {}
        }
    }

    /// Makes what records are put into.
    pub(crate) fn make_index(&self) {
        match &self.side {
            Side::Http { mood, .. } => mood.lock().expect("no panic").index = true,
            Side::Syslog { .. } | Side::Ipfix { .. } | Side::Files(_) | Side::Queue(_) => {}
            Side::Kafka(kafka) => create(&kafka.inside(), &self.place(), 4, &[]),
            Side::S3(s3) => s3.bucket(&self.place()),
        }
    }

    /// The topic or bucket of this run.
    fn place(&self) -> String {
        format!("flows-{}", self.round)
    }

    /// The table of its sink, which is called `name` and writes `fields`; all of them if there are
    /// none.
    pub(crate) fn table(&self, name: &str, fields: &[&str]) -> String {
        let (address, place) = (self.proxy.address(), self.place());
        let named = |kind: &str, rest: &str| {
            format!("[[output.{kind}]]\nname = \"{name}\"\nfields = {fields:?}\n{rest}")
        };
        let url = format!("url = \"http://{address}\"\nhttp = {{ timeout_s = 5 }}\n");
        match &self.side {
            Side::Http { .. } if name == "hec" => {
                named("hec", &(url + "token = { file = \"secret\" }\n"))
            }
            Side::Http { .. } => {
                // ECS has all fields.
                let format = if fields.is_empty() { "ecs" } else { "ndjson" };
                let rest =
                    format!("{url}format = \"{format}\"\napi_key = {{ file = \"secret\" }}\n");
                named("elasticsearch", &rest)
            }
            Side::Syslog { .. } => named(
                "syslog",
                &format!("address = \"{address}\"\nselect = \"slices\"\nformat = \"ndjson\"\n"),
            ),
            Side::Kafka(_) => named(
                "kafka",
                &format!(
                    "brokers = [\"{address}\"]\ntopic = \"{place}\"\ntimeout_s = 5\n\
                     sasl = {{ mechanism = \"scram-sha-256\", username = \"weir\", \
                     password = {{ file = \"kafka\" }} }}\n"
                ),
            ),
            Side::Files(folder) => named(
                "files",
                &format!("directory = \"{}\"\ndurability = \"disk\"\n", folder.display()),
            ),
            Side::Queue(folder) => {
                named("files", &format!("directory = \"{}\"\nrotate_s = 1\n", folder.display()))
            }
            // It has no choice of fields.
            Side::Ipfix { .. } => {
                format!("[[output.ipfix]]\nname = \"{name}\"\naddress = \"{address}\"\n")
            }
            Side::S3(_) => named(
                "s3",
                &format!(
                    "url = \"s3://{place}\"\nendpoint = \"http://{address}\"\ntimeout_s = 5\n\
                     tenant = \"north\"\ncredentials_file = \"aws\"\n"
                ),
            ),
        }
    }

    /// Takes another secret than the sensor's, or the sensor's.
    pub(crate) fn wants(&self, secret: &str) {
        if let Side::Http { mood, .. } = &self.side {
            mood.lock().expect("no panic").secret = secret.to_owned();
        }
    }

    /// Answers every request with this status, or takes them again; where it speaks HTTP.
    pub(crate) fn answer(&self, status: Option<u16>) {
        if matches!(self.side, Side::Http { .. } | Side::S3(_)) {
            self.proxy.answer(status);
        }
    }

    /// Stops: a process of its own is killed where it keeps what it took.
    pub(crate) fn stop(&mut self) {
        match &mut self.side {
            Side::Kafka(kafka) => kafka.kill(),
            Side::S3(s3) if s3.kind() == Kind::S3sFs => s3.kill(),
            _ => self.proxy.refuse(true),
        }
    }

    /// Runs again.
    pub(crate) fn start(&mut self) {
        match &mut self.side {
            Side::Kafka(kafka) => kafka.run(),
            Side::S3(s3) if s3.kind() == Kind::S3sFs => s3.run(),
            _ => self.proxy.refuse(false),
        }
    }

    /// How often it has which slice.
    pub(crate) fn tally(&self) -> Tally {
        match &self.side {
            Side::Http { tally, .. } | Side::Syslog { tally } | Side::Ipfix { tally } => {
                tally.lock().expect("no panic").clone()
            }
            Side::Kafka(kafka) => read_topic(kafka, &self.place()),
            Side::S3(s3) => read_bucket(s3, &self.place()),
            Side::Files(folder) | Side::Queue(folder) => read_folder(folder),
        }
    }
}

/// Every record of the finished files in `folder`.
fn read_folder(folder: &Path) -> Tally {
    let mut tally = Tally::default();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            let text = std::fs::read_to_string(path).expect("UTF-8");
            identities(&text).for_each(|slice| *tally.entry(slice).or_default() += 1);
        }
    }
    tally
}

/// Every record of a topic, by a client that reads what is committed.
fn read_topic(kafka: &Kafka, topic: &str) -> Tally {
    const PATIENCE: Duration = Duration::from_secs(30);
    let mut client = kafka.inside();
    client.set("group.id", "delivery").set("isolation.level", "read_committed");
    client.set("enable.partition.eof", "true").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = client.create().expect("a client");
    let mut partitions = TopicPartitionList::new();
    (0..4).for_each(|number| {
        partitions.add_partition_offset(topic, number, Offset::Beginning).expect("an offset");
    });
    consumer.assign(&partitions).expect("assigned");
    let (mut tally, mut ended) = (Tally::default(), 0);
    while ended < 4 {
        match consumer.poll(PATIENCE).expect("an answer of the broker") {
            Ok(message) => {
                let text = std::str::from_utf8(message.payload().expect("a value")).expect("UTF-8");
                identities(text).for_each(|slice| *tally.entry(slice).or_default() += 1);
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    tally
}

/// Every record of a bucket.
fn read_bucket(s3: &S3, bucket: &str) -> Tally {
    let mut tally = Tally::default();
    let mut count = |object: &[u8]| {
        let mut text = String::new();
        GzDecoder::new(object).read_to_string(&mut text).expect("gzip");
        identities(&text).for_each(|slice| *tally.entry(slice).or_default() += 1);
    };
    match s3.kind() {
        Kind::S3sFs => {
            let mut folders = vec![s3.place(bucket)];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).expect("a folder") {
                    let path = entry.expect("an entry").path();
                    if path.is_dir() {
                        folders.push(path);
                    } else if path.to_string_lossy().ends_with(".gz") {
                        count(&std::fs::read(path).expect("readable"));
                    }
                }
            }
        }
        Kind::Moto => {
            let list = get(s3.address(), &format!("/{bucket}?list-type=2&max-keys=1000"));
            let list = String::from_utf8(list).expect("XML");
            assert!(list.contains("<IsTruncated>false"), "more than a page: {list}");
            for part in list.split("<Key>").skip(1) {
                let key = part.split("</Key>").next().expect("a key");
                count(&get(s3.address(), &format!("/{bucket}/{key}")));
            }
        }
    }
    tally
}

/// The body of a GET from moto, which checks no signature.
fn get(address: SocketAddr, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("moto");
    let signed = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, \
                  SignedHeaders=host, Signature=0";
    let head = format!("Host: s3.amazonaws.com\r\nAuthorization: {signed}\r\n");
    write!(stream, "GET {path} HTTP/1.0\r\n{head}\r\n").expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    assert!(answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"), "{path}");
    answer.split_off(end + 4)
}

fn bulk(mood: &Mood, tally: &Mutex<Tally>, request: &Request) -> Answer {
    let refused = |status, kind: &str| {
        Answer::new(status, json!({"error": {"type": kind}, "status": status}).to_string())
    };
    if request.headers.get("authorization") != Some(&format!("ApiKey {}", mood.secret)) {
        return refused(401, "security_exception");
    }
    let mut tally = tally.lock().expect("no panic");
    let (mut items, mut errors) = (String::new(), false);
    for action in request.body.lines().step_by(2) {
        let (_, id) = action.split_once("\"_id\":\"").expect("an id");
        let id = id.split('"').next().expect("an id");
        let (flow, number) = id.split_once('-').expect("flow and number");
        let flow = u128::from_str_radix(flow, 16).expect("a flow id");
        let identity = identity(flow, number.parse().expect("a number"));
        let (status, kind) = if !mood.index {
            (404, "index_not_found_exception")
        } else if let Entry::Vacant(place) = tally.entry(identity) {
            place.insert(1);
            (201, "")
        } else {
            (409, "version_conflict_engine_exception")
        };
        let comma = if items.is_empty() { "" } else { "," };
        write!(items, r#"{comma}{{"create":{{"_id":"{id}","status":{status}"#).expect("room");
        if status >= 300 {
            errors = true;
            write!(items, r#","error":{{"type":"{kind}","reason":"said so"}}"#).expect("room");
        }
        items.push_str("}}");
    }
    Answer::new(200, format!(r#"{{"took":1,"errors":{errors},"items":[{items}]}}"#))
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

/// Takes whole messages of IPFIX until the end of the stream; each session has its templates.
fn exports(mut client: TcpStream, tally: &Mutex<Tally>) {
    // Of each template the octets of a record, and where `flowId` stands in it.
    let mut templates: HashMap<u16, (usize, usize)> = HashMap::new();
    let (mut held, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    while let Ok(octets @ 1..) = client.read(&mut chunk) {
        held.extend(&chunk[..octets]);
        let mut at = 0;
        while let Some(length) = held.get(at + 2..at + 4) {
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some(message) = held.get(at..at + length) else { break };
            flow_ids(message, &mut templates, tally);
            at += length;
        }
        held.drain(..at);
    }
}

/// Notes the templates of a message, and the flows of its records.
fn flow_ids(message: &[u8], templates: &mut HashMap<u16, (usize, usize)>, tally: &Mutex<Tally>) {
    const FLOW_ID: u16 = 148;
    let two = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let mut set = 16;
    while set < message.len() {
        let (id, end) = (two(set), set + usize::from(two(set + 2)));
        let mut at = set + 4;
        while id == 2 && at < end {
            let (template, fields) = (two(at), two(at + 2));
            let (mut record, mut place) = (0, None);
            at += 4;
            for _ in 0..fields {
                let (element, octets) = (two(at), usize::from(two(at + 2)));
                if element == FLOW_ID {
                    place = Some(record);
                }
                record += octets;
                at += if element & 0x8000 == 0 { 4 } else { 8 };
            }
            templates.insert(template, (record, place.expect("a flowId")));
        }
        if id >= 256 {
            let (record, place) = templates[&id];
            let found = (at..end).step_by(record).map(|at| {
                let id = message[at + place..at + place + 8].try_into().expect("eight octets");
                u128::from(u64::from_be_bytes(id))
            });
            add(tally, found);
        }
        set = end;
    }
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
