//! Replays as a whole: the same bytes and times give the same records, and nothing is lost.

use std::io::Write;
use std::path::{Path, PathBuf};

use weir::config::Config;
use weir::pipeline::replay::{Exports, FLUSH_EVERY};

use crate::harness::{Frame, Run, captures, files, frames};
use crate::{support, truth};

/// Workers, packets between two flushes, and whether shards move between the workers all the while;
/// the first is what the others must equal.
const WAYS: [(usize, u64, bool); 8] = [
    (1, FLUSH_EVERY, false),
    (2, FLUSH_EVERY, false),
    (4, FLUSH_EVERY, false),
    (1, 1, false),
    (2, 7, true),
    (3, 100, false),
    (4, 50, true),
    (4, u64::MAX, false),
];

/// Rules shipped with the sensor, so that there are alerts to compare.
fn settings() -> Config {
    let mut config = Config::default();
    config.rules.directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rules")];
    config
}

/// The ordinary settings, and some under which much happens: short timeouts, a table so small
/// that flows are evicted all the time.
fn all_settings() -> [(&'static str, Config); 3] {
    let mut hasty = settings();
    hasty.flow.linger_s = 1;
    (hasty.flow.packets.idle_timeout_s, hasty.flow.packets.active_timeout_s) = (1, 2);
    (hasty.flow.netflow.idle_timeout_s, hasty.flow.netflow.active_timeout_s) = (1, 2);
    let mut tight = settings();
    tight.flow.entries_max = 128;
    tight.flow.fragments_max = 64;
    tight.flow.reserve = true;
    [("ordinary", settings()), ("hasty", hasty), ("tight", tight)]
}

/// Captures recorded for this project, where they are present.
fn own_captures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    if folder.is_dir() { captures(&folder) } else { Vec::new() }
}

/// Replays `path` in all ways; returns how many slices and alerts there were, and shards that moved.
fn check_ways(path: &Path, name: &str, config: &Config, exports: Exports) -> (usize, usize, u64) {
    let files = [path.to_owned()];
    let mut want = None;
    let mut counts = (0, 0, 0);
    for (workers, flush_every, moves) in WAYS {
        let run = Run { config: config.clone(), workers, flush_every, exports, moves };
        let replayed = run.replay(&files);
        let got = replayed.ndjson(config);
        let want = want.get_or_insert_with(|| got.clone());
        assert!(
            got == *want,
            "{}, {name} settings: {workers} workers, flushed every {flush_every} packets, \
             shards that move: {moves}: give other records",
            path.display()
        );
        let moved = counts.2 + replayed.moved;
        counts = (replayed.slices.len(), replayed.alerts.len(), moved);
    }
    counts
}

#[test]
fn any_number_of_workers_gives_the_same_records() {
    let Some(folder) = support::vectors("packets") else { return };
    let synth = truth::synth(5_000);
    let mut paths = [captures(&folder.join("ipfixprobe")), own_captures()].concat();
    paths.extend(captures(&folder.join("community-id")));
    paths.extend(synth.iter().map(|synth| synth.capture.clone()));
    let (mut slices, mut alerts, mut moved) = (0, 0, 0);
    for path in &paths {
        for (name, config) in &all_settings() {
            let counts = check_ways(path, name, config, Exports::No);
            (slices, alerts, moved) = (slices + counts.0, alerts + counts.1, moved + counts.2);
        }
    }
    eprintln!(
        "{} captures, 3 settings, {} ways: {slices} slices and {alerts} alerts the same; {moved} \
         shards moved",
        paths.len(),
        WAYS.len()
    );
    assert!(paths.len() > 20 && alerts > 0 && moved > 1_000);
}

/// Every file of export datagrams below `folder` as a datagram to port 2055, each from an address of
/// its own, a second apart, all of them twice.
fn datagrams(folder: &Path) -> Vec<Frame> {
    let payloads = files(folder).into_iter().filter(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("dat" | "bin"))
    });
    let payloads = payloads.map(|path| std::fs::read(path).expect("readable"));
    let payloads: Vec<_> = payloads.filter(|payload| payload.len() < 65_000).collect();
    let frame = |pass: usize, index: usize, payload: &[u8]| {
        let octets = |n: usize| u16::try_from(n).expect("a datagram").to_be_bytes();
        let [high, low] = octets(index);
        let (total, length) = (octets(payload.len() + 28), octets(payload.len() + 8));
        let ip = [&[0x45, 0][..], &total, &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
        let ends = [10, 9, high, low, 10, 0, 0, 1];
        let udp = [octets(4_000), octets(2_055), length, [0; 2]].concat();
        let data = [&ip[..], &ends, &udp, payload].concat();
        let seconds = i64::try_from(pass * payloads.len() + index).expect("small");
        let wire_len = u32::try_from(data.len()).expect("small");
        (101, (1_700_000_000 + seconds) * 1_000_000, wire_len, data)
    };
    let pass = |pass| payloads.iter().enumerate().map(move |(i, payload)| (pass, i, payload));
    (0..2).flat_map(pass).map(|(pass, i, payload)| frame(pass, i, payload)).collect()
}

#[test]
fn any_number_of_workers_gives_the_same_records_of_exports() {
    let Some(folder) = support::vectors("netflow") else { return };
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let made = temporary.path().join("datagrams.pcap");
    let frames = datagrams(&folder);
    std::fs::write(&made, nanosecond(&frames).expect("one link type")).expect("room");
    let (mut slices, mut alerts, mut moved) = (0, 0, 0);
    let paths = [captures(&folder), own_captures(), vec![made]].concat();
    for path in &paths {
        for (name, config) in &all_settings() {
            let counts = check_ways(path, name, config, Exports::Any);
            (slices, alerts, moved) = (slices + counts.0, alerts + counts.1, moved + counts.2);
        }
    }
    eprintln!(
        "{} captures, one of {} datagrams, 3 settings, {} ways: {slices} slices and {alerts} \
         alerts the same; {moved} shards moved",
        paths.len(),
        frames.len(),
        WAYS.len()
    );
    assert!(slices > 100 && moved > 1_000);
}

/// A pcap file with nanoseconds, big-endian. `None` where the format cannot hold the packets: link
/// types that differ, times before 1970 or after 2106.
fn nanosecond(frames: &[Frame]) -> Option<Vec<u8>> {
    let link = frames.first()?.0;
    let mut file = Vec::new();
    for word in [0xa1b2_3c4d, 0x0002_0004, 0, 0, 262_144, u32::from(link)] {
        file.extend(u32::to_be_bytes(word));
    }
    for (of, time, wire_len, data) in frames {
        let seconds = u32::try_from(time.div_euclid(1_000_000)).ok()?;
        let nanos = u32::try_from(time.rem_euclid(1_000_000) * 1_000 + 999).ok()?;
        if *of != link {
            return None;
        }
        for word in [seconds, nanos, u32::try_from(data.len()).ok()?, *wire_len] {
            file.extend(word.to_be_bytes());
        }
        file.extend(data);
    }
    Some(file)
}

/// A pcapng file with an interface for each link type, in microseconds.
fn pcapng(frames: &[Frame]) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let mut block = |kind: u32, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).expect("small").to_le_bytes();
        file.extend(kind.to_le_bytes());
        file.extend(length);
        file.extend(body);
        file.extend(length);
    };
    let version = [1, 0, 0, 0];
    block(0x0a0d_0d0a, [&0x1a2b_3c4d_u32.to_le_bytes()[..], &version, &[0xff; 8]].concat());
    let mut links = Vec::new();
    for (link, time, wire_len, data) in frames {
        let known = links.iter().position(|known| known == link);
        let interface = known.unwrap_or_else(|| {
            block(1, [&link.to_le_bytes()[..], &[0; 6]].concat());
            links.push(*link);
            links.len() - 1
        });
        let ticks = u64::try_from(*time).ok()?;
        let (high, low) = (ticks >> 32, ticks & 0xffff_ffff);
        let words = [interface as u64, high, low, data.len() as u64, u64::from(*wire_len)];
        let mut body: Vec<u8> =
            words.iter().flat_map(|&word| (word as u32).to_le_bytes()).collect();
        body.extend(data);
        block(6, body);
    }
    Some(file)
}

fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(file).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn any_capture_format_gives_the_same_records() {
    let Some(folder) = support::vectors("packets") else { return };
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let copy = temporary.path().join("copy");
    let config = settings();
    let run = Run { config: config.clone(), ..Run::default() };
    let mut compared = 0;
    for path in &[captures(&folder.join("ipfixprobe")), own_captures()].concat() {
        let frames = frames(path).expect("a sound capture");
        let want = run.whole(path).ndjson(&config);
        let classic = nanosecond(&frames).expect("one link type");
        let ng = pcapng(&frames).expect("times after 1970");
        let zstd = zstd::encode_all(&classic[..], 1).expect("memory");
        let copies =
            [("pcap", classic), ("pcapng.gz", gzip(&ng)), ("pcapng", ng), ("pcap.zst", zstd)];
        for (name, octets) in copies {
            std::fs::write(&copy, octets).expect("room");
            let got = run.whole(&copy).ndjson(&config);
            assert!(got == want, "{}: other records as {name}", path.display());
            compared += 1;
        }
    }
    eprintln!("{compared} converted copies give the same records");
}

#[test]
fn every_replay_balances_its_ledgers() {
    let Some(folder) = support::vectors("packets") else { return };
    let paths = [captures(&folder), own_captures()].concat();
    let (mut packets, mut metered, mut slices, mut broken) = (0, 0, 0, 0);
    let mut tunnels = Config::default();
    tunnels.flow.tunnels = false;
    tunnels.flow.vlan_in_key = true;
    for path in &paths {
        for (config, workers) in [(Config::default(), 1), (tunnels.clone(), 2)] {
            // The harness asserts that the ledgers balance and that no slice is held.
            let replayed =
                Run { config, workers, ..Run::default() }.replay(std::slice::from_ref(path));
            let ledgers = &replayed.ledgers;
            let name = path.display();
            assert_eq!(replayed.packets(), ledgers.packets.metered, "{name}");
            assert_eq!(ledgers.records.merged, ledgers.packets.metered, "{name}");
            assert_eq!(ledgers.slices.shipped, replayed.slices.len() as u64, "{name}");
            packets += ledgers.packets.read;
            metered += ledgers.packets.metered;
            slices += replayed.slices.len();
            broken += usize::from(replayed.result.is_err());
        }
    }
    eprintln!(
        "{} captures twice: {packets} packets, {metered} metered in {slices} slices; \
         {broken} replays end in an error",
        paths.len()
    );
}

/// The capture holds its traffic twice, so slices that are equal but for their counters come out in the
/// order in which they were cut, whoever owns their shard meanwhile.
#[test]
fn shards_that_move_keep_the_order_of_their_records() {
    let Some(folder) = support::vectors("packets") else { return };
    let (path, config) = (folder.join("ipfixprobe/inputs/tls.pcap"), settings());
    let replay = |run: Run| Run { config: config.clone(), ..run }.whole(&path).ndjson(&config);
    let want = replay(Run::default());
    for _ in 0..40 {
        let run = Run { workers: 2, flush_every: 7, moves: true, ..Run::default() };
        assert!(replay(run) == want, "in another order");
    }
}
