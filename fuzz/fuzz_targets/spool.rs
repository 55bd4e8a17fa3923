//! A segment of a spool and a sink's cursor: what an operator's commands read of them, they read to
//! the end, every octet is accounted for, and a whole frame is found wherever it stands.
//!
//! Input: what it is (1 octet: a whole segment, what follows a segment's head, or a cursor), the rest.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use weir::config::Select;
use weir::output::spool::frame::{HEADER, Header};
use weir::output::spool::{cursor, operator};

/// A spool's directory, in memory, with the segment 0.
fn spool() -> &'static PathBuf {
    static SPOOL: OnceLock<PathBuf> = OnceLock::new();
    SPOOL.get_or_init(|| {
        let spool = PathBuf::from(format!("/dev/shm/weir-fuzz-{}", std::process::id()));
        fs::create_dir_all(spool.join("segments")).expect("made");
        fs::write(spool.join("id"), "0123456789abcdef\n").expect("written");
        fs::write(spool.join("lock"), "").expect("written");
        spool
    })
}

/// A head of segment 0, with its checksum.
fn head() -> Vec<u8> {
    let mut head = b"WeirSeg1".to_vec();
    head.resize(36, 0);
    let crc = crc32fast::hash(&head);
    head.extend(crc.to_le_bytes());
    head
}

fn segment(octets: &[u8]) {
    let spool = spool();
    fs::write(spool.join("segments/00000000000000000000.sealed"), octets).expect("written");
    let survey = operator::survey(spool, true).expect("whatever it holds");
    let report = &survey.segments[0];
    assert!(report.octets + report.unfinished <= octets.len() as u64);
    let Ok(frames) = operator::frames(spool, 0) else { return };
    let seen: u64 = frames.iter().map(|frame| frame.octets).sum();
    assert_eq!(seen + 40, octets.len() as u64, "every octet after the head is in one line");
    for select in [Select::Slices, Select::Tagged, Select::Alerts] {
        operator::records(spool, 0, select, &mut std::io::sink()).expect("whatever it holds");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&kind, rest)) = input.split_first() else { return };
    match kind % 3 {
        0 => segment(rest),
        1 => segment(&[head(), rest.to_vec()].concat()),
        _ => {
            if let Some(header) = rest.first_chunk::<HEADER>().and_then(Header::decode) {
                assert_eq!(Header::decode(&header.encode()), Some(header));
            }
            if let Ok(saved) = cursor::parse(rest) {
                let text = serde_json::to_vec(&saved).expect("JSON");
                assert_eq!(cursor::parse(&text).expect("as written"), saved);
            }
        }
    }
});
