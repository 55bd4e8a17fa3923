use std::fs;
use std::io::Read;

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};

use super::open::Profile;
use super::*;
use crate::config::{self, Durability, Format, Select};
use crate::detect::TaggedSlice;
use crate::flow::FlowId;
use crate::output::spool::{Behind, Spool};
use crate::output::{Batch, Sink};

/// A spool with one sink, which puts into memory.
fn spool(directory: &FilePath, config: &S3, memory: &Arc<InMemory>) -> Spool {
    let context = Context { sensor: "s".into(), ..Context::default() };
    let place = Place { store: Arc::clone(memory) as Arc<dyn Parts>, credentials: None };
    let store = Store::with(config, &context, directory, place).expect("a runtime");
    let settings = config::Spool { directory: directory.into(), ..config::Spool::default() };
    let place = crate::output::spool::Place::Objects(Box::new(store));
    let (select, durability) = (Select::Slices, Durability::Disk);
    let sinks = vec![Behind { name: "lake".into(), select, durability, place }];
    Spool::start(&settings, sinks, context).expect("a spool")
}

fn batch(count: u128) -> Arc<Batch> {
    let mut batch = Batch::default();
    for id in 0..count {
        let mut slice = TaggedSlice::default();
        // Nothing that compresses.
        slice.slice.flow_id = FlowId(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        batch.slices.push(slice);
    }
    Arc::new(batch)
}

/// Names and octets of all objects below `streaming`.
fn objects(memory: &InMemory) -> Vec<(String, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut objects = Vec::new();
        let day = jiff::Timestamp::now().strftime("%Y/%m/%d").to_string();
        let below = Path::from(format!("streaming/north/{day}"));
        for object in memory.list_with_delimiter(Some(&below)).await.expect("a list").objects {
            let got = memory.get(&object.location).await.expect("an object");
            let octets = got.bytes().await.expect("octets").to_vec();
            objects.push((object.location.to_string(), octets));
        }
        objects
    })
}

#[test]
fn a_segment_is_one_object_and_a_second_put_is_taken_for_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let memory = Arc::new(InMemory::new());
    let s3 = S3 { url: "s3://b".into(), tenant: "north".into(), ..S3::default() };
    let spool = spool(directory.path(), &s3, &memory);
    spool.offer(&batch(100));
    assert_eq!(spool.close()["lake"].acknowledged, 100);
    let stored = objects(&memory);
    let [(name, octets)] = &*stored else { panic!("{stored:?}") };
    assert!(name.ends_with("-0.s3.json.gz"), "{name}");
    let mut lines = String::new();
    flate2::read::GzDecoder::new(&**octets).read_to_string(&mut lines).expect("gzip");
    assert_eq!(lines.lines().count(), 100);
    let place = Place { store: Arc::clone(&memory) as Arc<dyn Parts>, credentials: None };
    let again = Store::with(&s3, &Context::default(), directory.path(), place);
    let put = again.expect("a runtime").put(&Stop::default(), &Path::from(&**name), b"x".to_vec());
    assert_eq!(put, Ok(()));
    assert_eq!(objects(&memory), stored, "nothing was overwritten");
}

/// In parts or whole, the octets are the same, and no note is left.
#[test]
fn the_octets_of_an_object_do_not_depend_on_its_parts() {
    use config::output::Compression::{Gzip, None, Zstd};
    let forms = [(Format::Ndjson, Gzip), (Format::Ndjson, Zstd), (Format::Csv, None)];
    for (format, compression) in forms.into_iter().chain([(Format::Parquet, Gzip)]) {
        if cfg!(not(feature = "parquet")) && format == Format::Parquet {
            continue;
        }
        let mut bodies = Vec::new();
        for part_bytes in [1_000, 77, 1 << 30] {
            let directory = tempfile::tempdir().expect("a directory");
            let memory = Arc::new(InMemory::new());
            let tenant = "north".to_owned();
            let fields = vec!["flow_id".to_owned(), "src_port".to_owned()];
            let s3 = S3 { tenant, fields, format, compression, part_bytes, ..S3::default() };
            let spool = spool(directory.path(), &s3, &memory);
            spool.offer(&batch(200));
            assert_eq!(spool.close()["lake"].acknowledged, 200);
            let mut stored = objects(&memory);
            assert_eq!(stored.len(), 1, "{format:?} {compression:?}");
            bodies.push(stored.remove(0).1);
            assert!(!directory.path().join("s3.upload").exists());
        }
        assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "{format:?} {compression:?}");
        assert!(bodies[0].len() > 1_000, "{format:?} {compression:?}: in parts at all");
    }
}

#[test]
fn an_upload_that_is_noted_is_aborted_before_the_next_object() {
    let directory = tempfile::tempdir().expect("a directory");
    let memory = Arc::new(InMemory::new());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let key = Path::from("streaming/north/left");
    let id = runtime.block_on(async {
        let id = memory.create_multipart(&key).await.expect("an upload");
        let part = memory.put_part(&key, &id, 0, PutPayload::from("half")).await;
        part.expect("a part");
        id
    });
    fs::write(directory.path().join("s3.upload"), format!("{id}\n{key}\n")).expect("room");
    let s3 = S3 { tenant: "north".into(), ..S3::default() };
    let spool = spool(directory.path(), &s3, &memory);
    spool.offer(&batch(1));
    assert_eq!(spool.close()["lake"].acknowledged, 1);
    let part = runtime.block_on(memory.put_part(&key, &id, 1, PutPayload::from("more")));
    part.expect_err("the upload is gone");
    assert!(!directory.path().join("s3.upload").exists());
}

#[test]
fn a_profile_is_found_in_a_credentials_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("credentials");
    let text = "# of Amazon's\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c\n\
                aws_session_token = t\n\n[x]\nregion = eu-west-1\n";
    fs::write(&path, text).expect("room");
    let profile = |name: &str| Profile { path: path.clone(), name: name.into() }.read();
    let found = profile("default").expect("keys");
    assert_eq!((&*found.key_id, &*found.secret_key), ("A", "b=c"));
    assert_eq!(found.token.as_deref(), Some("t"));
    for name in ["x", "y"] {
        let error = profile(name).expect_err("none").to_string();
        assert!(error.ends_with(&format!("in the profile {name}")), "{error}");
    }
}

#[test]
fn only_an_object_that_is_there_is_taken_for_delivered() {
    let source = |text: &str| Box::new(io::Error::other(text.to_owned()));
    let path = String::new;
    for (error, want) in [
        (Error::Precondition { path: path(), source: source("412") }, true),
        (Error::AlreadyExists { path: path(), source: source("BlobAlreadyExists") }, true),
        (
            Error::AlreadyExists { path: path(), source: source("ConditionalRequestConflict") },
            false,
        ),
        (Error::NotFound { path: path(), source: source("404") }, false),
    ] {
        assert_eq!(delivered(&error), want, "{error}");
    }
}
