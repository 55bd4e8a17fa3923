//! What files, objects and Kafka hold, read by pandas, pyarrow, DuckDB and a client of Kafka that is
//! not ours: the same records, under DeepTempo's canonical names and types.

use std::fs;
use std::sync::Arc;

use weir::config::{self, Files, Format};
use weir::output::{Batch, Context, FilesSink, remote};

use super::server;
use crate::kafka;
use crate::servers::kafka::Kafka;
use crate::servers::s3::{ACCESS_KEY, Kind, SECRET_KEY};
use crate::servers::script;
use crate::siem;
use crate::system::files;

#[test]
fn files_objects_and_kafka_hold_the_same_records_for_readers_of_others() {
    let (Some(s3), Some(broker)) = (server(Kind::S3sFs), Kafka::shared()) else { return };
    broker.topic("read-back", 3, &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    fs::write(place("secret"), SECRET_KEY).expect("room");
    let mut config = format!(
        "[spool]\ndirectory = \"{}\"\nstop_s = 60\n\
         [[output.kafka]]\nname = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"read-back\"\n",
        place("spool").display(),
        broker.brokers()
    );
    for format in ["ndjson", "parquet"] {
        config += &format!(
            "[[output.s3]]\nname = \"s3-{format}\"\nurl = \"s3://lake\"\nformat = \"{format}\"\n\
             endpoint = \"{}\"\naccess_key_id = \"{ACCESS_KEY}\"\n\
             secret_access_key = {{ file = \"{}\" }}\n",
            s3.endpoint(),
            place("secret").display()
        );
    }
    let config = config::parse("test", &config).unwrap_or_else(|problems| panic!("{problems:?}"));
    let context = Context { sensor: "probe".into(), ..Context::of(&config) };
    let mut sinks = remote::start(&config, &context).expect("sinks");
    for format in [Format::Ndjson, Format::Parquet] {
        let name = format!("files-{}", format.as_str());
        let settings = Files { name, directory: place("files"), format, ..Files::default() };
        sinks.push(Arc::new(FilesSink::spawn(settings, context.clone()).expect("a thread")));
    }
    let mut batch = Batch { slices: kafka::slices(), alerts: Vec::new() };
    for tagged in batch.slices.iter_mut().step_by(10) {
        tagged.rules = vec![siem::rule()];
    }
    let count = batch.slices.len() as u64;
    let batch = Arc::new(batch);
    sinks.iter().for_each(|sink| sink.offer_blocking(&batch));
    for sink in &sinks {
        for (name, ledger) in sink.close() {
            assert_eq!((ledger.acknowledged, ledger.selected), (count, count), "{name}");
        }
    }

    let together = tempfile::tempdir().expect("a folder");
    let [written] = &*files(&place("files"), "ndjson") else { panic!("one file of NDJSON") };
    fs::copy(written, together.path().join("reference.ndjson")).expect("room");
    fs::copy(written, together.path().join("file.ndjson")).expect("room");
    let [written] = &*files(&place("files"), "parquet") else { panic!("one file of Parquet") };
    fs::copy(written, together.path().join("file.parquet")).expect("room");
    let values = broker.read("read-back").into_iter().map(|read| read.value.expect("a value"));
    let text = values.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(together.path().join("kafka.ndjson"), text).expect("room");
    let told = together.path().display().to_string();
    let read = script("read_back.py", &[&told, &s3.endpoint(), "lake"]);
    let read: Vec<_> = read.lines().collect();
    assert_eq!(read.len(), 5, "{read:?}");
    assert!(read.iter().all(|line| line.ends_with(&format!(" {count}"))), "{read:?}");
}
