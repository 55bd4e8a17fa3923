//! `[[output.s3]]` behind its spool, against two S3 servers that disagree, and through faults.
//!
//! What they stored is read by clients of others (tests/servers/read_objects.py).

mod faults;
#[cfg(feature = "parquet")]
mod read_back;
mod schemes;
mod sensor;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Deserialize;
use tempfile::TempDir;

use weir::config;
use weir::metrics::{Delivery, ledger};
use weir::output::{Batch, Context, Sink, remote};

use crate::servers::s3::{ACCESS_KEY, Kind, S3, SECRET_KEY};
use crate::servers::script;
use crate::siem;
use crate::system::wait_for;

/// One sink behind a spool in a folder that outlives it.
struct Lake {
    folder: TempDir,
    table: String,
    sink: Option<Arc<dyn Sink>>,
}

impl Lake {
    /// A sink with `table` added to what all have, writing to `endpoint`.
    fn new(endpoint: &str, table: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("secret"), SECRET_KEY).expect("room");
        let keys = if table.contains("credentials_file") || table.contains("access_key_id") {
            String::new()
        } else {
            format!(
                "access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key = {{ file = \"{}\" }}\n",
                folder.path().join("secret").display()
            )
        };
        let table = format!(
            "[spool]\ndirectory = \"{}\"\nsegment_idle_s = 1\nstop_s = 20\n\
             [[output.s3]]\nname = \"lake\"\ntenant = \"north\"\nendpoint = \"{endpoint}\"\n\
             {keys}{table}\n",
            folder.path().join("spool").display()
        );
        let mut lake = Self { folder, table, sink: None };
        lake.start();
        lake
    }

    #[track_caller]
    fn start(&mut self) {
        let url = if self.table.contains("url = ") { "" } else { "url = \"s3://lake\"\n" };
        let config = config::parse("test", &(self.table.clone() + url));
        let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
        let context = Context { sensor: "s1".into(), ..Context::default() };
        let sinks = remote::start(&config, &context).expect("a sink");
        self.sink = sinks.into_iter().next();
    }

    fn sink(&self) -> &dyn Sink {
        self.sink.as_deref().expect("started")
    }

    fn give(&self, batch: Batch) {
        self.sink().offer(&Arc::new(batch));
    }

    fn ledger(&self) -> ledger::Sink {
        self.sink().ledgers()["lake"].clone()
    }

    fn delivery(&self) -> Delivery {
        self.sink().deliveries()["lake"].clone()
    }

    fn fault(&self) -> Option<String> {
        self.sink().faults().into_iter().map(|(_, fault)| fault).next()
    }

    /// Waits until `records` are acknowledged.
    #[track_caller]
    fn acknowledges(&self, records: u64) {
        wait_for(&format!("{records} records"), || {
            (self.ledger().acknowledged >= records).then_some(())
        });
        assert_eq!(self.ledger().spooled, 0, "{:?}", self.ledger());
    }

    /// Stops it with what it holds.
    fn stop(&mut self) -> ledger::Sink {
        let sink = self.sink.take().expect("started");
        sink.close()["lake"].clone()
    }
}

/// What a server holds.
#[derive(Debug, Deserialize)]
struct Listed {
    objects: Vec<Object>,
    #[serde(default)]
    uploads: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Object {
    key: String,
    octets: u64,
    modified: f64,
    #[serde(rename = "type")]
    media_type: Option<String>,
    encryption: Option<String>,
    kms_key: Option<String>,
    ids: Vec<String>,
    fields: Vec<String>,
}

fn listed(s3: &S3) -> Listed {
    let (endpoint, mut arguments) = (s3.endpoint(), Vec::new());
    arguments.extend([endpoint.as_str(), "lake"]);
    // The other one has no list of them.
    if s3.kind() == Kind::Moto {
        arguments.push("uploads");
    }
    let text = script("read_objects.py", &arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Ids of the records with these numbers, as they are written.
fn ids(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|number| format!("{:032x}", number + 1)).collect()
}

/// Every record in `listed`; none is there twice.
#[track_caller]
fn all(listed: &Listed) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for id in listed.objects.iter().flat_map(|object| &object.ids) {
        assert!(all.insert(id.clone()), "{id} is there twice");
    }
    all
}

/// A batch of slices with the numbers of `range`; every tenth number is tagged and has an alert.
fn batch(range: std::ops::Range<usize>) -> Batch {
    let mut batch = siem::slices(range.end).batch;
    batch.slices.drain(..range.start);
    batch.alerts = siem::alerts(range.end).batch.alerts.split_off(range.start);
    let mut number = range.start;
    batch.alerts.retain(|_| {
        number += 1;
        (number - 1).is_multiple_of(10)
    });
    batch
}

fn server(kind: Kind) -> Option<S3> {
    let s3 = S3::start(kind)?;
    s3.bucket("lake");
    Some(s3)
}

#[test]
fn objects_hold_what_was_selected_in_every_form() {
    let now = || jiff::Timestamp::now().strftime("%Y/%m/%d").to_string();
    for kind in [Kind::Moto, Kind::S3sFs] {
        let Some(s3) = server(kind) else { return };
        for (name, more, extension, media_type, want) in [
            ("gz", "", "json.gz", "application/gzip", ids(0..500)),
            ("zst", "compression = \"zstd\"", "json.zst", "application/zstd", ids(0..500)),
            ("bare", "compression = \"none\"", "json", "application/json", ids(0..500)),
            (
                "columns",
                "format = \"parquet\"\nselect = \"tagged\"",
                "parquet",
                "application/vnd.apache.parquet",
                ids((0..500).step_by(10)),
            ),
            (
                "told",
                "select = \"alerts\"\nfields = [\"id\", \"rule\"]\nadd = { floor = 3 }",
                "json.gz",
                "application/gzip",
                ids((0..500).step_by(10)),
            ),
        ] {
            let more = format!(
                "key = \"{name}/{{tenant}}/{{yyyy}}/{{mm}}/{{dd}}/{{sensor}}-{{segment}}.{{sink}}.{{extension}}\"\n{more}"
            );
            let (before, mut lake) = (now(), Lake::new(&s3.endpoint(), &more));
            lake.give(batch(0..200));
            lake.give(batch(200..500));
            let (ledger, after) = (lake.stop(), now());
            assert_eq!((ledger.acknowledged, ledger.spooled), (want.len() as u64, 0), "{name}");
            let mut listed = listed(&s3);
            listed.objects.retain(|object| object.key.starts_with(name));
            assert_eq!(all(&listed), want, "{kind:?} {name}");
            let [object] = &*listed.objects else { panic!("{name}: {listed:?}") };
            let days = [before, after].map(|day| format!("{name}/north/{day}/s1-"));
            assert!(days.iter().any(|day| object.key.starts_with(day)), "{object:?}");
            assert!(object.key.ends_with(&format!("-0.lake.{extension}")), "{object:?}");
            assert!(object.octets > 0, "{object:?}");
            if kind == Kind::Moto {
                assert_eq!(object.media_type.as_deref(), Some(media_type), "{name}");
            }
            if name == "told" {
                assert_eq!(object.fields, ["floor", "id", "rule", "schema"], "{object:?}");
            }
        }
    }
}

#[test]
fn the_server_is_asked_to_encrypt() {
    let Some(s3) = server(Kind::Moto) else { return };
    for (name, more, encryption, key) in [
        ("aes", "encryption = \"aes256\"", "AES256", None),
        ("kms", "encryption = \"kms\"\nkms_key = \"arn:k\"", "aws:kms", Some("arn:k")),
    ] {
        // Whole, and in parts.
        for (count, form) in [(10, "whole"), (20_000, "parts")] {
            let place = format!("{name}-{form}");
            let more = format!(
                "key = \"{place}/{{segment}}\"\ncompression = \"none\"\npart_bytes = 5242880\n{more}"
            );
            let mut lake = Lake::new(&s3.endpoint(), &more);
            lake.give(batch(0..count));
            assert_eq!(lake.stop().acknowledged, count as u64, "{place}");
            let listed = listed(&s3);
            let object = listed.objects.iter().find(|o| o.key.starts_with(&place)).expect(&place);
            assert_eq!(object.encryption.as_deref(), Some(encryption), "{place}");
            assert!(key.is_none_or(|key| object.kms_key.as_deref() == Some(key)), "{object:?}");
            assert_eq!(object.octets > 5 << 20, form == "parts", "{object:?}");
        }
    }
}
