//! Every vector group of `netflow/README.md`: counts, and what other programs made of them.
//!
//! Each difference from an expectation stands by name, with its reason, in a table beside the
//! check; a row of a table that is not needed any more fails the test, too.

#![allow(clippy::print_stdout, reason = "a test of vectors says what it ran")]

mod counts;
mod logstash;
mod oracle;
mod pcap;
mod schema;
mod tcpdump;
mod telegraf;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use weir::config;
use weir::decode::netflow::inspect::{Inspector, Line, payloads};
use weir::net::Addr;

/// One row of the table in the vectors' README.
#[derive(Clone)]
pub(crate) struct Row {
    /// Files, to be fed in order as one exporter.
    pub(crate) files: Vec<String>,
    /// Counts of an independent decoder.
    pub(crate) counts: BTreeMap<String, u64>,
    /// Path of the expected output; empty if there is none.
    pub(crate) golden: String,
}

impl Row {
    /// A unique name: the first file's, and how many more there are.
    pub(crate) fn name(&self) -> String {
        let stem = |file: &String| {
            let path = Path::new(file);
            let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
            let file = path.file_stem().unwrap_or_default();
            match folder.to_str() {
                Some("logstash-codec-netflow" | "hex") => file.to_string_lossy().into_owned(),
                _ => format!("{}/{}", folder.to_string_lossy(), file.to_string_lossy()),
            }
        };
        let mut name = stem(&self.files[0]);
        if self.files.len() > 1 {
            name = format!("{name}+{}", self.files.len() - 1);
        }
        name
    }
}

/// The rows of `folder`'s README.
pub(crate) fn rows(folder: &Path) -> Vec<Row> {
    let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    let rows = readme.lines().filter(|line| line.starts_with("| ") && line.contains('{'));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        Row {
            files: cells[0].split(" + ").map(str::to_owned).collect(),
            counts: serde_json::from_str(cells[4]).expect("counts are JSON"),
            golden: cells.get(5).copied().unwrap_or_default().to_owned(),
        }
    })
    .collect()
}

/// A datagram of a row: who sent it, where in its file it stands, and its octets.
pub(crate) struct Datagram {
    pub(crate) exporter: Addr,
    pub(crate) port: u16,
    pub(crate) offset: u64,
    pub(crate) payload: Vec<u8>,
}

/// The datagrams of all files of `row`.
pub(crate) fn datagrams(folder: &Path, row: &Row) -> Vec<Datagram> {
    let mut all = Vec::new();
    for file in &row.files {
        let bytes = std::fs::read(folder.join(file)).expect("a vector");
        if file.ends_with(".pcap") {
            all.extend(pcap::datagrams(&bytes));
        } else {
            let exporter = Addr::v4(0xc000_0201);
            all.extend(payloads(&bytes).map(|(offset, payload)| {
                let payload = payload.to_vec();
                Datagram { exporter, port: 2055, offset, payload }
            }));
        }
    }
    all
}

/// What the inspector says of `row`, without and with what it says at the end.
pub(crate) fn lines(folder: &Path, row: &Row) -> Vec<Line> {
    let mut inspector = Inspector::new(config::Netflow::default());
    let mut lines = Vec::new();
    for Datagram { exporter, port, offset, payload } in datagrams(folder, row) {
        inspector.datagram(exporter, port, offset, &payload, &mut |line| lines.push(line));
    }
    inspector.finish(&mut |line| lines.push(line));
    lines
}

/// Differences that were found and those that are explained must be the same.
#[track_caller]
pub(crate) fn check_explained(
    what: &str,
    groups: usize,
    found: &BTreeMap<String, Vec<String>>,
    explained: &[(&str, &str)],
) {
    let names: BTreeSet<&str> = explained.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), explained.len(), "{what}: a name is explained twice");
    for (name, differences) in found {
        if !names.contains(name.as_str()) {
            for difference in differences.iter().take(12) {
                println!("{what}: UNEXPLAINED {name}: {difference}");
            }
        }
    }
    for (name, why) in explained {
        println!("{what}: explained {name}: {why}");
    }
    let passed = groups - found.len();
    println!("{what}: {groups} groups run, {passed} passed, {} explained", explained.len());
    let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(found, names, "{what}: differences found, and differences explained");
}
