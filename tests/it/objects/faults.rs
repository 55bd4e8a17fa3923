//! Whatever goes wrong between the spool and the store: nothing is lost, nothing is there twice,
//! and it is told.

use std::time::Duration;

use super::{Lake, all, batch, ids, listed, server};
use crate::servers::proxy::Proxy;
use crate::servers::s3::{ACCESS_KEY, Kind, S3, SECRET_KEY};
use crate::system::wait_for;

const KINDS: [Kind; 2] = [Kind::Moto, Kind::S3sFs];

#[test]
fn a_store_that_fails_in_many_ways_gets_each_record_once() {
    for kind in KINDS {
        let Some(s3) = server(kind) else { return };
        let proxy = Proxy::new();
        proxy.to(s3.address());
        let mut lake = Lake::new(&format!("http://{}", proxy.address()), "timeout_s = 1");
        type Act = fn(&Proxy, bool);
        let faults: [(&str, Act, &str); 6] = [
            ("500", |p, on| p.answer(on.then_some(500)), "500"),
            ("503", |p, on| p.answer(on.then_some(503)), "503"),
            ("nobody", |p, on| p.refuse(on), ""),
            ("slow", |p, on| p.stall(on), ""),
            (
                "cut",
                |p, on| {
                    if on {
                        p.cut_after(600);
                    }
                },
                "",
            ),
            ("unanswered", |p, on| p.mute(on), ""),
        ];
        for (number, (name, act, told)) in faults.into_iter().enumerate() {
            let (first, end) = (number * 100, (number + 1) * 100);
            let errors = lake.delivery().errors.total();
            act(&proxy, true);
            lake.give(batch(first..end));
            // An idle connection that was cut may be the first to fail.
            let object = "s3://lake/streaming/north/";
            let of_it = |fault: &String| fault.contains(told) && fault.contains(object);
            wait_for(name, || lake.fault().filter(of_it));
            assert!(lake.delivery().errors.total() > errors, "{kind:?} {name}");
            act(&proxy, false);
            lake.acknowledges(end as u64);
            wait_for("the end of the fault", || lake.fault().is_none().then_some(()));
        }
        assert!(lake.delivery().retries >= 6, "{kind:?}: {:?}", lake.delivery());
        lake.stop();
        let listed = listed(&s3);
        assert_eq!(all(&listed), ids(0..600), "{kind:?}");
        assert_eq!(listed.objects.len(), 6, "{kind:?}: one object a segment");
    }
}

/// The store has the object and its answer was lost: what comes again is refused there, and taken
/// for delivered here.
#[test]
fn an_object_whose_answer_was_lost_stays_as_it_is() {
    for kind in KINDS {
        let Some(s3) = server(kind) else { return };
        let proxy = Proxy::new();
        proxy.to(s3.address());
        let lake = Lake::new(&format!("http://{}", proxy.address()), "");
        lake.give(batch(10..20));
        lake.acknowledges(10);
        proxy.mute(true);
        lake.give(batch(0..10));
        wait_for("a fault", || lake.fault());
        let before = listed(&s3);
        assert_eq!(all(&before), ids(0..20), "{kind:?}: it is there");
        // A later write would show.
        std::thread::sleep(Duration::from_millis(1_100));
        proxy.mute(false);
        lake.acknowledges(20);
        let after = listed(&s3);
        assert_eq!(after.objects.len(), 2, "{kind:?}");
        for (after, before) in after.objects.iter().zip(&before.objects) {
            assert_eq!(after.modified, before.modified, "{kind:?}");
        }
    }
}

#[test]
fn wrong_credentials_are_told_and_records_wait_for_right_ones() {
    let Some(s3) = server(Kind::S3sFs) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("credentials");
    let write = |key: &str, secret: &str| {
        let text = format!("[lake]\naws_access_key_id={key}\naws_secret_access_key={secret}\n");
        std::fs::write(&path, text).expect("room");
    };
    write(ACCESS_KEY, "another-secret");
    let table = format!("credentials_file = \"{}\"\nprofile = \"lake\"", path.display());
    let mut lake = Lake::new(&s3.endpoint(), &table);
    lake.give(batch(0..10));
    let fault = wait_for("a fault", || lake.fault());
    assert!(fault.contains("the credentials are refused"), "{fault}");
    assert!(!fault.contains("another-secret"), "{fault}");
    assert!(lake.delivery().errors.of("credentials") > 0, "{:?}", lake.delivery());
    let ledger = lake.ledger();
    assert_eq!((ledger.spooled, ledger.acknowledged), (10, 0), "they wait");
    // Over a restart, too; and the file is read again for each request.
    lake.stop();
    lake.start();
    wait_for("a fault", || lake.fault());
    write(ACCESS_KEY, SECRET_KEY);
    lake.acknowledges(10);
    assert_eq!(all(&listed(&s3)), ids(0..10));
}

#[test]
fn a_bucket_that_is_missing_is_told_and_records_wait_for_it() {
    let Some(s3) = S3::start(Kind::Moto) else { return };
    let lake = Lake::new(&s3.endpoint(), "");
    lake.give(batch(0..10));
    let fault = wait_for("a fault", || lake.fault());
    assert!(fault.contains("the bucket is not there"), "{fault}");
    assert!(fault.starts_with("s3://lake/"), "{fault}");
    assert!(lake.delivery().errors.of("missing") > 0, "{:?}", lake.delivery());
    s3.bucket("lake");
    lake.acknowledges(10);
    assert_eq!(all(&listed(&s3)), ids(0..10));
}

/// Stopped in the middle of an object of several parts, which the next start aborts.
#[test]
fn an_upload_that_was_left_behind_is_aborted_at_the_next_start() {
    let Some(s3) = server(Kind::Moto) else { return };
    let proxy = Proxy::new();
    proxy.to(s3.address());
    let parts = "compression = \"none\"\npart_bytes = 5242880";
    let mut lake = Lake::new(&format!("http://{}", proxy.address()), parts);
    // In the second part.
    proxy.cut_after(8 << 20);
    lake.give(batch(0..30_000));
    wait_for("the cut", || (proxy.cuts() > 0).then_some(()));
    proxy.refuse(true);
    wait_for("a fault", || lake.fault());
    assert_eq!(lake.stop().spooled, 30_000);
    let left = listed(&s3);
    assert_eq!((left.objects.len(), left.uploads.len()), (0, 1), "{left:?}");
    proxy.refuse(false);
    lake.start();
    lake.acknowledges(30_000);
    let whole = listed(&s3);
    assert_eq!(whole.uploads, Vec::<String>::new());
    assert_eq!(all(&whole), ids(0..30_000));
    assert_eq!(whole.objects.len(), 1);
    let note = lake.folder.path().join("spool/lake.upload");
    assert!(!note.exists(), "nothing is noted any more");
}

#[test]
fn an_object_in_parts_passes_through_a_cut() {
    for kind in KINDS {
        let Some(s3) = server(kind) else { return };
        let proxy = Proxy::new();
        proxy.to(s3.address());
        let parts = "compression = \"none\"\npart_bytes = 5242880";
        let lake = Lake::new(&format!("http://{}", proxy.address()), parts);
        proxy.cut_after(8 << 20);
        lake.give(batch(0..30_000));
        lake.acknowledges(30_000);
        assert_eq!(proxy.cuts(), 1, "{kind:?}");
        let listed = listed(&s3);
        assert_eq!(all(&listed), ids(0..30_000), "{kind:?}");
        assert_eq!((listed.objects.len(), listed.uploads.len()), (1, 0), "{kind:?}");
    }
}
