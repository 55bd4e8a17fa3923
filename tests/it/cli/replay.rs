//! `weir replay`.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::Value;

use crate::captures::{CLIENT, SERVER, START_US, connection, conversations, exports, pcap, pcapng};
use crate::netflow::build::{FLOW, Format, fixed, fixed_record, flow, iana, set};
use crate::system::{Bench, balances, json_lines, weir};

use super::rules::TELNET;

/// What [`conversations`] are, as slices: ports, then octets and packets out and back.
const WANT: [[u64; 6]; 2] = [[40_000, 23, 480, 1_440, 8, 6], [5_000, 53, 60, 90, 1, 1]];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("a.pcap", pcap(&conversations())).write("rules/telnet.yml", TELNET);
    bench
}

fn numbers(slice: &Value) -> [u64; 6] {
    ["src_port", "dest_port", "fwd_bytes", "bwd_bytes", "fwd_pkts", "bwd_pkts"]
        .map(|key| slice[key].as_u64().unwrap_or_else(|| panic!("{key}: {slice}")))
}

#[track_caller]
fn check(slices: &[Value]) {
    let mut found: Vec<_> = slices.iter().map(numbers).collect();
    found.sort_by_key(|slice| std::cmp::Reverse(slice[0]));
    assert_eq!(found, WANT);
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(octets).expect("in memory");
    writer.finish().expect("in memory")
}

#[test]
fn every_form_of_a_capture_gives_the_same_slices() {
    let bench = bench();
    let (plain, ng) = (pcap(&conversations()), pcapng(&conversations()));
    let want = bench.weir("replay a.pcap -o - --sorted", 0);
    check(&want.lines());
    for (name, octets) in [
        ("a.pcapng", ng.clone()),
        ("a.pcap.gz", gzip(&plain)),
        ("a.pcapng.gz", gzip(&ng)),
        ("a.pcap.zst", zstd::encode_all(&plain[..], 1).expect("in memory")),
        ("misnamed", zstd::encode_all(&ng[..], 1).expect("in memory")),
    ] {
        let found = bench.write(name, &octets).weir(&format!("replay {name} -o - --sorted"), 0);
        assert_eq!(found.out, want.out, "{name}");
        let piped = bench.piped("replay - -o - --sorted", octets, 0);
        assert_eq!(piped.out, want.out, "{name} on standard input");
    }
    for workers in [2, 3, 64] {
        let found = bench.weir(&format!("replay a.pcap -o - --sorted --workers {workers}"), 0);
        assert_eq!(found.out, want.out, "{workers} workers");
    }
}

#[test]
fn several_files_are_one_input() {
    let bench = bench();
    let packets = conversations();
    bench.write("b.pcap", pcap(&packets[..5])).write("c.pcapng", pcapng(&packets[5..]));
    check(&bench.weir("replay b.pcap c.pcapng -o -", 0).lines());
}

#[test]
fn without_an_output_a_report_is_printed() {
    let report = bench().weir("replay a.pcap --rules rules", 0).out;
    for says in [
        "FLOWS  2 slices, 1 tagged",
        "10.0.0.1:40000 -> 10.0.0.2:23",
        "DETECTIONS  1 alerts of 1 rules",
        "[medium] Telnet  x1",
        "because ",
        "THROUGHPUT ",
        "LEDGERS  all balance",
        "packets    read 16 = metered 16 + excepted 0",
    ] {
        assert!(report.contains(says), "{says}: {report}");
    }
}

#[test]
fn the_output_holds_the_fields_that_are_asked_for() {
    let bench = bench();
    let csv = bench.weir("replay a.pcap -o - --format csv --fields dest_port,src_ip", 0).out;
    assert_eq!(csv.lines().next(), Some("src_ip,dest_port,schema"));
    bench.weir("replay a.pcap -o out.parquet --fields src_ip,dest_port", 0);
    for (args, says) in [
        ("--format csv --fields src_ip,no_such", "no_such is no field"),
        ("--format cef --fields src_ip", "has no meaning with --format cef"),
    ] {
        let failed = bench.weir(&format!("replay a.pcap -o - {args}"), 3);
        assert!(failed.err.contains(says), "{}", failed.err);
    }
}

#[test]
fn alerts_end_with_1_only_if_that_is_wanted() {
    let bench = bench();
    bench.weir("replay a.pcap --rules rules", 0);
    bench.weir("replay a.pcap --rules rules --fail-on-alert", 1);
    bench.weir("replay a.pcap --fail-on-alert", 0);
    let args = "replay a.pcap --rules rules -o - --alerts alerts.ndjson --sorted";
    let slices = bench.weir(args, 0).lines();
    let tagged: Vec<bool> =
        slices.iter().map(|slice| slice["sigma_rule_ids"][0] == "telnet").collect();
    assert_eq!(tagged.iter().filter(|&&tagged| tagged).count(), 1, "{slices:?}");
    let alerts = json_lines(&bench.read("alerts.ndjson"));
    assert_eq!(alerts.len(), 1);
    let alert = alerts[0].to_string();
    assert!(alert.contains("Telnet") && alert.contains("dst_port"), "{alert}");
    let only = bench.weir("replay a.pcap --rules rules -o - --select tagged", 0).lines();
    assert_eq!(only.iter().map(numbers).collect::<Vec<_>>(), WANT[..1]);
    let only = bench.weir("replay a.pcap --rules rules -o - --select alerts", 0).lines();
    assert_eq!(only.len(), 1);
}

#[test]
fn the_summary_is_the_five_ledgers_by_their_names() {
    let bench = bench();
    bench.weir("replay a.pcap -o out.ndjson --summary summary.json", 0);
    check(&json_lines(&bench.read("out.ndjson")));
    let summary: Value = serde_json::from_str(&bench.read("summary.json")).expect("JSON");
    balances(&summary);
    for name in ["datagrams", "packets", "data_sets", "records", "slices"] {
        assert!(summary[name].is_object(), "{name}: {summary}");
    }
    assert_eq!(summary["packets"]["metered"], 16);
    assert_eq!(summary["records"]["merged"], 16);
    assert_eq!(summary["slices"]["shipped"], 2);
    assert_eq!(summary["sinks"]["output"]["acknowledged"], 2);
    let printed = bench.weir("replay a.pcap -o out.ndjson --summary -", 0).out;
    assert_eq!(serde_json::from_str::<Value>(&printed).expect(&printed), summary);
}

#[test]
fn formats_follow_the_name_or_the_option() {
    let bench = bench();
    for (args, file, first) in [
        ("-o a.ndjson", "a.ndjson", &b"{"[..]),
        ("-o a.csv", "a.csv", b"timestamp,"),
        ("-o a.out --format csv", "a.out", b"timestamp,"),
        #[cfg(feature = "parquet")]
        ("-o a.parquet", "a.parquet", b"PAR1"),
        #[cfg(feature = "parquet")]
        ("-o a.csv --format parquet", "a.csv", b"PAR1"),
        ("-o a.parquet --format ndjson", "a.parquet", b"{"),
    ] {
        bench.weir(&format!("replay a.pcap {args}"), 0);
        let octets = std::fs::read(bench.path(file)).expect(file);
        assert!(octets.starts_with(first), "{args}: {:?}", &octets[..first.len()]);
    }
    // What it writes as CSV it reads as CSV.
    bench.weir("replay a.pcap -o again.csv", 0);
    check(&bench.weir("replay again.csv -o -", 0).lines());
}

#[test]
fn rows_in_the_columns_of_deepmitre_are_flows() {
    let rows = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,fwd_bytes,bwd_bytes,\
                total_fwd_pkts,total_bwd_pkts\n\
                2017-03-07 08:55:58,0.5,10.0.0.1,10.0.0.2,40000,23,480,1440,8,6\n\
                2017-03-07T08:55:59,1,10.0.0.1,10.0.0.3,5000,53,60,90,1,1\n";
    let bench = Bench::new();
    bench.write("rows.csv", rows);
    let slices = bench.weir("replay rows.csv -o - --sorted", 0).lines();
    check(&slices);
    assert_eq!(slices[0]["timestamp"], 1_488_876_958_000_000_i64);
    assert_eq!(slices[0]["flow_dur"], 0.5);
    check(&bench.piped("replay - -o -", rows, 0).lines());

    bench.write("bad.csv", format!("{rows}never,1,x,10.0.0.3,5000,53,60,90,1,1\n"));
    let ended = bench.weir("replay bad.csv -o - --summary s.json", 0);
    check(&ended.lines());
    assert!(ended.err.contains("bad.csv: line 4"), "{}", ended.err);
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
    balances(&summary);
    assert_eq!(summary["records"]["dropped"]["bad_value"], 1);
    let ended = bench.write("no.csv", "a,b\n1,2\n").weir("replay no.csv -o -", 3);
    assert!(
        ended.err.contains("weir: no.csv: ") && ended.err.contains("timestamp"),
        "{}",
        ended.err
    );
}

/// Archives that end early, by name; and input of which nothing could be used.
#[test]
fn what_cannot_be_used_is_named_and_no_success() {
    let bench = bench();
    let slices = bench.weir("replay a.pcap -o -", 0).out;
    let rows = bench.weir("replay a.pcap -o - --format csv", 0).out;
    let zstd = |octets: &[u8]| zstd::encode_all(octets, 1).expect("in memory");
    for (name, whole) in [
        ("a.ndjson.gz", gzip(slices.as_bytes())),
        ("a.ndjson.zst", zstd(slices.as_bytes())),
        ("a.csv.gz", gzip(rows.as_bytes())),
        ("a.csv.zst", zstd(rows.as_bytes())),
        ("a.pcap.gz", gzip(&pcap(&conversations()))),
        ("a.pcap.zst", zstd(&pcap(&conversations()))),
    ] {
        bench.write(name, &whole[..whole.len() - 9]);
        let ended = bench.weir(&format!("replay {name} -o -"), 3);
        let last = ended.err.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("weir: {name}: ")), "{name}: {}", ended.err);
        assert_eq!(last.matches(name).count(), 1, "{name}: {last}");
    }
    bench.write("none.ndjson", "{\"a\": 1}\n{\"b\": 2}\n");
    let ended = bench.weir("replay none.ndjson -o -", 3);
    assert!(ended.err.contains("weir: none of 2 rows tells of a flow"), "{}", ended.err);
    bench.write("empty.pcap", pcap(&[]));
    bench.weir("replay empty.pcap -o -", 0);
}

#[test]
fn a_capture_of_exports_is_hinted_at() {
    let bench = Bench::new();
    let payloads: Vec<_> = (0..4).map(|n| fixed(5, 1, n, 0, &[fixed_record()])).collect();
    bench.write("e.pcap", pcap(&exports(&payloads, 9_995)));
    let hint =
        "4 of the first 4 packets look like NetFlow or IPFIX datagrams (the last to port 9995)";
    let ended = bench.weir("replay e.pcap -o -", 0);
    assert!(ended.err.contains(hint) && ended.err.contains("--netflow"), "{}", ended.err);
    let ended = bench.weir("replay e.pcap -o - --netflow", 0);
    assert!(!ended.err.contains("look like"), "{}", ended.err);
    bench.write("mixed.pcap", pcap(&[exports(&payloads[..1], 9_995), conversations()].concat()));
    let ended = bench.weir("replay mixed.pcap -o -", 0);
    assert!(!ended.err.contains("look like"), "{}", ended.err);
}

#[test]
fn exports_in_a_capture_are_decoded() {
    // Another flow than that of the v5 record: the source port differs.
    let mut other = flow(700, 7);
    other[9] += 1;
    let v9 = [Format::V9.template(256, &iana(FLOW)), set(256, &other)];
    let payloads = [fixed(5, 1, 1, 0, &[fixed_record()]), Format::V9.message(1, 7, &v9)];
    let mut packets = exports(&payloads[..1], 2_055);
    packets.extend(exports(&payloads[1..], 9_995));
    packets.extend(conversations());
    let bench = Bench::new();
    bench.write("e.pcap", pcap(&packets)).write("2055", pcap(&packets));

    let octets = |args: &str| -> u64 {
        let slices = bench.weir(&format!("replay -o - {args}"), 0).lines();
        slices.iter().map(|slice| slice["fwd_bytes"].as_u64().expect("octets")).sum()
    };
    assert_eq!(octets("e.pcap --netflow"), 1_700);
    assert_eq!(octets("--netflow e.pcap"), 1_700);
    assert_eq!(octets("e.pcap --netflow=2055"), 1_000);
    assert_eq!(octets("e.pcap --netflow 2055"), 1_000);
    assert_eq!(octets("--netflow 9995 e.pcap"), 700);
    assert_eq!(octets("--netflow ./2055"), 1_700, "a file, as it is no number");
    assert_eq!(octets("--netflow -- 2055"), 1_700, "a file, as options ended");
    let ended = bench.weir("replay -o - e.pcap --netflow 1", 3);
    assert!(
        ended.err.contains("packets is an export datagram: is --netflow meant"),
        "{}",
        ended.err
    );

    bench.weir("replay e.pcap --netflow -o x.ndjson --summary s.json", 0);
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
    balances(&summary);
    assert_eq!(summary["datagrams"]["received"], 2);
    assert_eq!(summary["packets"]["excepted"]["export_datagram"], 2);
    assert_eq!(summary["packets"]["excepted"]["not_an_export"], 16);
}

#[test]
fn timeouts_cut_and_end_flows() {
    let bench = Bench::new();
    let mut packets = connection([CLIENT, SERVER], [40_000, 80], 4, START_US);
    packets.truncate(5);
    for (index, packet) in packets.iter_mut().enumerate() {
        packet.0 = START_US + index as u64 * 10_000_000;
    }
    bench.write("slow.pcap", pcap(&packets));
    let slices = |args: &str| bench.weir(&format!("replay slow.pcap -o - {args}"), 0).lines().len();
    assert_eq!(slices(""), 1);
    assert_eq!(slices("--idle-timeout 5"), 5);
    assert_eq!(slices("--active-timeout 15 --idle-timeout 15"), 3);
    let ended = bench.weir("replay slow.pcap --idle-timeout 600", 3);
    assert!(
        ended.err.contains("--idle-timeout must be at most the active timeout"),
        "{}",
        ended.err
    );
    bench.write("weir.toml", "[flow.packets]\nidle_timeout_s = 5\n");
    assert_eq!(slices("-c weir.toml"), 5);
}

#[cfg(feature = "capture")]
#[test]
fn a_filter_takes_what_it_says_and_counts_the_rest() {
    let bench = bench();
    let args = "--filter tcp --summary s.json -o -";
    let slices = bench.weir(&format!("replay a.pcap {args}"), 0).lines();
    assert_eq!(slices.iter().map(numbers).collect::<Vec<_>>(), WANT[..1]);
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
    balances(&summary);
    assert_eq!(summary["packets"]["excepted"]["filtered"], 2);
    let ended = bench.weir("replay a.pcap --filter wat( -o -", 3);
    assert!(ended.err.contains("wat("), "{}", ended.err);
}

#[test]
fn speed_paces_and_changes_nothing() {
    let bench = bench();
    let fast = bench.weir("replay a.pcap -o - --sorted", 0);
    let began = std::time::Instant::now();
    let paced = bench.weir("replay a.pcap -o - --sorted --speed 0.2", 0);
    assert_eq!(paced.out, fast.out);
    // 60 ms of capture at a fifth of real time.
    assert!(began.elapsed() >= std::time::Duration::from_millis(250), "{:?}", began.elapsed());
}

#[test]
fn what_was_read_of_a_damaged_capture_counts() {
    let bench = bench();
    let whole = pcap(&conversations());
    bench.write("cut.pcap", &whole[..whole.len() - 3]);
    let ended = bench.weir("replay cut.pcap -o - --summary s.json --sorted", 3);
    let slices = ended.lines();
    assert_eq!(slices.len(), 2, "what was read is flushed: {}", ended.out);
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
    balances(&summary);
    assert_eq!(summary["packets"]["read"], 15);
    let last_record = whole.len() - (16 + 14 + 90);
    assert!(ended.err.contains("weir: cut.pcap: "), "{}", ended.err);
    assert!(ended.err.contains(&format!("offset {last_record}")), "{last_record}: {}", ended.err);
}

/// Nothing that is not whole stands under an output's name, and what stood there stays.
#[test]
fn a_failed_replay_leaves_no_output_that_looks_whole() {
    let bench = bench();
    let whole = pcap(&conversations());
    bench.write("cut.pcap", &whole[..whole.len() - 3]).write("old.ndjson", "old\n");
    let there = |name: &str| bench.path(name).exists();
    let ended = bench.weir("replay cut.pcap -o old.ndjson", 3);
    assert_eq!(bench.read("old.ndjson"), "old\n");
    assert_eq!(bench.read("old.ndjson.part").lines().count(), 2, "what was read is kept apart");
    assert!(ended.err.contains("old.ndjson.part"), "{}", ended.err);
    bench.weir("replay cut.pcap -o new.parquet --alerts new.ndjson --rules rules", 3);
    assert_eq!((there("new.parquet"), there("new.ndjson")), (false, false));
    std::os::unix::fs::symlink("old.ndjson", bench.path("link.ndjson")).expect("a link");
    bench.weir("replay a.pcap -o link.ndjson", 0);
    check(&json_lines(&bench.read("old.ndjson")));
    assert!(bench.path("link.ndjson").is_symlink() && !there("old.ndjson.part"));
}

/// An empty file among others ends no hunt, and a file that ends within a row is told of, and so is what
/// `--quiet` hides.
#[test]
fn a_hunt_goes_on_past_files_that_are_empty_or_cut_short() {
    let bench = bench();
    bench.weir("replay a.pcap -o whole.ndjson", 0);
    let whole = bench.read("whole.ndjson");
    bench.write("empty.ndjson", "").write("cut.ndjson", &whole[..whole.len() - 40]);
    let rows = whole.lines().count();
    let ended = bench.weir("replay empty.ndjson whole.ndjson -o -", 0);
    assert_eq!(ended.lines().len(), rows);
    assert!(ended.err.contains("WARN empty.ndjson: is empty: it holds no flow"), "{}", ended.err);
    let ended = bench.weir("replay cut.ndjson whole.ndjson -o -", 3);
    assert_eq!(ended.lines().len(), rows, "what follows is read");
    let says = format!("weir: cut.ndjson: cut short: it ends within row {rows}\n");
    assert!(ended.err.ends_with(&says), "{}", ended.err);
    let ended = bench.weir("replay cut.ndjson --summary s.json -o -", 3);
    assert_eq!(ended.lines().len(), rows - 1);
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
    assert_eq!(summary["records"]["dropped"]["cut_short"], 1, "{summary}");
}

#[test]
fn rejected_rules_are_counted_whatever_is_hidden() {
    let bench = bench();
    bench.write("rules/bad.yml", "title: Bad\ndetection: [\n").write("none/readme.txt", "none");
    let ended = bench.weir("replay a.pcap --rules rules -o /dev/null", 0);
    assert!(
        ended.err.contains("WARN rules/bad.yml:3: Bad: rejected: not a Sigma rule"),
        "{}",
        ended.err
    );
    let ended = bench.weir("-q replay a.pcap --rules rules -o /dev/null", 0);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    assert!(
        ended.err.contains("rules are rejected: `weir rules check` names them rejected=1 loaded=1"),
        "{}",
        ended.err
    );
    let ended = bench.weir("replay a.pcap --rules none -o /dev/null", 0);
    assert!(ended.err.contains("WARN no rule is loaded: nothing is matched"), "{}", ended.err);
}

#[test]
fn input_that_is_none_ends_with_3_and_its_name() {
    let bench = bench();
    bench.write("empty", "").write("binary", [0_u8; 64]).write("d/x", "");
    bench.write("header", &pcap(&[])[..20]);
    for (args, says) in [
        ("none.pcap", "none.pcap: No such file or directory"),
        ("d", "d: is a directory, expected a file"),
        ("empty", "empty: is empty: it holds no flow"),
        ("binary", "binary: not a pcap or pcapng capture"),
        ("header", "header: "),
        ("a.pcap --rules none", "none: No such file or directory"),
        ("a.pcap -c none.toml", "none.toml: No such file or directory"),
        ("a.pcap -o none/out.csv", "none/out.csv: No such file or directory"),
        ("a.pcap --alerts none/out.csv", "none/out.csv: No such file or directory"),
        ("a.pcap --summary none/s.json", "none/s.json: No such file or directory"),
    ] {
        let ended = bench.weir(&format!("replay {args}"), 3);
        assert!(ended.err.contains(&format!("weir: {says}")), "{args}: {}", ended.err);
    }
    let empty = bench.write("no-packets.pcap", pcap(&[])).weir("replay no-packets.pcap -o -", 0);
    assert_eq!(empty.out, "");
    if !is_root() {
        let closed = std::fs::Permissions::from_mode(0o0);
        std::fs::set_permissions(bench.path("a.pcap"), closed).expect("set");
        let ended = bench.weir("replay a.pcap", 3);
        assert!(ended.err.contains("a.pcap: Permission denied"), "{}", ended.err);
    }
}

/// Whom no permission stops.
fn is_root() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn a_full_disk_is_said_with_its_name() {
    let bench = bench();
    for args in ["-o /dev/full", "-o /dev/full --sorted", "--alerts /dev/full -o x --rules rules"] {
        let ended = bench.weir(&format!("replay a.pcap {args} --summary s.json"), 3);
        assert!(ended.err.contains("weir: /dev/full: No space left"), "{args}: {}", ended.err);
        let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("JSON");
        balances(&summary);
    }
    let ended = bench.weir("replay a.pcap --summary /dev/full", 3);
    assert!(ended.err.contains("/dev/full: No space left"), "{}", ended.err);
}

#[test]
fn a_reader_that_closes_its_pipe_is_no_failure() {
    let bench = Bench::new();
    let packets: Vec<_> = (0..20_000_u64)
        .flat_map(|n| {
            let port = 1_024 + (n % 60_000) as u16;
            let mut one = connection([CLIENT, SERVER], [port, 80], 0, START_US + n * 100);
            one.truncate(1);
            one
        })
        .collect();
    bench.write("many.pcap", pcap(&packets));
    for args in ["replay many.pcap -o -", "replay many.pcap -o - --sorted", "config default"] {
        let mut command = weir();
        command.current_dir(bench.path("")).args(args.split(' '));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("spawned");
        let mut first = [0; 16];
        process.stdout.take().expect("piped").read_exact(&mut first).expect("something");
        let output = process.wait_with_output().expect("ends");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args}: {err}");
        assert!(!err.contains("weir: "), "{args}: {err}");
    }
}

#[test]
fn nothing_is_written_over_an_input_or_another_output() {
    let bench = bench();
    let before = bench.path("a.pcap").metadata().expect("a capture").len();
    for (arguments, want) in [
        ("replay a.pcap -o a.pcap", "--output: a.pcap is an input already"),
        ("replay a.pcap -o ./a.pcap", "--output: ./a.pcap is an input already"),
        ("replay a.pcap -o x --alerts ./x", "--alerts: ./x is --output already"),
        ("replay a.pcap -o x --summary x", "--summary: x is --output already"),
        ("replay a.pcap -o - --summary -", "--summary: - is --output already"),
    ] {
        let found = bench.weir(arguments, 3);
        assert!(found.err.contains(want), "{arguments}: {}", found.err);
    }
    assert_eq!(bench.path("a.pcap").metadata().expect("a capture").len(), before);
    bench.weir("replay a.pcap -o /dev/null --alerts /dev/null --summary -", 0);
    // A mistyped input does not cost the result of the run before.
    bench.write("old.ndjson", "kept");
    bench.weir("replay none.pcap -o old.ndjson", 3);
    assert_eq!(bench.read("old.ndjson"), "kept");
}

/// Whether a thread of the process `id` sleeps for a time.
fn sleeps(id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return false };
    threads.flatten().any(|thread| {
        let call = std::fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|number| number.parse().ok());
        [libc::SYS_clock_nanosleep, libc::SYS_nanosleep].iter().any(|&sleep| number == Some(sleep))
    })
}

#[test]
fn a_signal_ends_the_input_and_flushes_what_was_read() {
    let bench = bench();
    let mut process = std::process::Command::new(crate::system::binary())
        .args(["replay", "a.pcap", "--speed", "0.001", "-o", "s.ndjson", "--summary", "s.json"])
        .current_dir(bench.path("."))
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process");
    // Between the first packets it sleeps, and nowhere before.
    crate::system::wait_for("a nap", || sleeps(process.id()).then_some(()));
    // SAFETY: a signal to a child that was not waited for yet.
    assert_eq!(unsafe { libc::kill(process.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(process.wait().expect("ended").code(), Some(0));
    let summary: Value = serde_json::from_str(&bench.read("s.json")).expect("a summary");
    let lines = bench.read("s.ndjson").lines().count() as u64;
    assert_eq!(summary["slices"]["shipped"], lines);
    assert!(summary["packets"]["read"].as_u64() >= Some(1), "{summary}");
}
