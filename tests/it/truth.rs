//! Synthetic traffic of which every flow is known: the table equals it row by row.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir::detect::TaggedSlice;
use weir::net::Addr;

use crate::harness::Run;
use crate::support;

/// Flows of the test; `WEIR_SYNTH_FLOWS` says how many instead.
const FLOWS: usize = 50_000;

/// Protocol, initiator and its port, responder and its port.
type Key = (u8, Addr, u16, Addr, u16);
/// First and last time in microseconds, then forward and backward: packets, IP octets, layer-2
/// octets, payload octets, TCP flags.
type Row = (i64, i64, [Counts; 2]);
type Counts = (u64, u64, u64, u64, u16);

/// A capture and the table of its flows, made by the generator. Made once for all tests.
pub(crate) struct Synth {
    _folder: tempfile::TempDir,
    pub(crate) capture: PathBuf,
    table: PathBuf,
    pub(crate) flows: usize,
}

/// Compiles the generator that lies beside the vectors and runs it. `None`, said, where it or a C
/// compiler is absent.
pub(crate) fn synth(flows: usize) -> Option<Synth> {
    let vectors = support::vectors("packets")?;
    let source = vectors.join("../../bench/packets/mksynth.c");
    if !source.is_file() {
        eprintln!("SKIPPED: no generator at {}", source.display());
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    let program = at("mksynth");
    let compiler = Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&source).output();
    match compiler {
        Err(error) => {
            eprintln!("SKIPPED: no C compiler: {error}");
            return None;
        }
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr)),
    }
    let (capture, table) = (at("synth.pcap"), at("synth.csv"));
    // 250 new flows a second on average.
    let seconds = (flows / 250).max(60).to_string();
    let done = Command::new(&program)
        .args([&capture, &table])
        .args([&flows.to_string(), &seconds, "7"])
        .output()
        .expect("the generator runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(Synth { _folder: folder, capture, table, flows })
}

/// The rows of the generator's table. Layer-2 octets: each frame is 14 octets longer.
fn truth(path: &Path) -> BTreeMap<Key, Row> {
    let mut reader = csv::Reader::from_path(path).expect("a table");
    let mut rows = BTreeMap::new();
    for record in reader.records() {
        let record = record.expect("a row");
        let number = |column: usize| record[column].parse::<u64>().expect("a number");
        let small = |column: usize| u16::try_from(number(column)).expect("16 bits");
        let address = |column: usize| record[column].parse::<Addr>().expect("an address");
        let time = |column: usize| i64::try_from(number(column)).expect("a time");
        let protocol = u8::try_from(number(1)).expect("8 bits");
        let key = (protocol, address(2), small(3), address(4), small(5));
        let way = |w: usize| {
            let (packets, octets) = (number(8 + w), number(10 + w));
            (packets, octets, octets + 14 * packets, number(12 + w), small(14 + w))
        };
        let double = rows.insert(key, (time(6), time(7), [way(0), way(1)]));
        assert!(double.is_none(), "the generator's flows are distinct");
    }
    rows
}

fn row(tagged: &TaggedSlice) -> (Key, Row) {
    let flow = &tagged.slice.flow;
    let key = (flow.protocol, flow.src, flow.src_port, flow.dst, flow.dst_port);
    let way = |side: &weir::flow::Side| {
        let known = "packets tell it";
        (
            side.packets,
            side.octets,
            side.octets_l2.expect(known),
            side.payload.expect(known),
            side.tcp_flags.unwrap_or(0),
        )
    };
    (key, (flow.first.0, flow.last.0, [way(&flow.fwd), way(&flow.bwd)]))
}

#[test]
fn the_flow_table_equals_the_truth_row_by_row() {
    let flows = std::env::var("WEIR_SYNTH_FLOWS").ok();
    let flows = flows.map_or(FLOWS, |flows| flows.parse().expect("WEIR_SYNTH_FLOWS: a number"));
    let Some(synth) = synth(flows) else { return };
    let want = truth(&synth.table);
    assert_eq!(want.len(), synth.flows);
    for workers in [1, 2, 4] {
        let replayed = Run { workers, ..Run::default() }.whole(&synth.capture);
        let mut got = BTreeMap::new();
        for tagged in &replayed.slices {
            let slice = &tagged.slice;
            assert!(slice.number == 0 && slice.last, "one slice a flow: {slice:?}");
            let (key, row) = row(tagged);
            assert_eq!(got.insert(key, row), None, "one flow a key: {key:?}");
        }
        let differ = |(key, row): &(&Key, &Row)| got.get(*key) != Some(*row);
        if let Some((key, row)) = want.iter().find(differ) {
            let count = want.iter().filter(differ).count();
            panic!("{workers} workers, {count} rows: {key:?}: {:?}, want {row:?}", got.get(key));
        }
        assert_eq!(got.len(), want.len(), "{workers} workers: flows that are none");
        let metered = replayed.ledgers.packets.metered;
        eprintln!("{workers} workers: {} rows equal, {metered} packets", got.len());
    }
}
