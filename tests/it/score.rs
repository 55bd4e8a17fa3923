//! `weir score`: every pair of a file has its row, in the columns that evaluation reads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::sequence::sha256;
use crate::system::Bench;

pub(crate) const COLUMNS: &str = "scenario,src_ip,dest_ip,dest_port,protocol,first,last,flows,class,p_benign,\
                       p_c2,p_exfil,p_scan,p_bruteforce,p_dos,score";

pub(crate) fn rows(ndjson: &str) -> Vec<Value> {
    ndjson.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What holds of every row: the score is that of the probabilities, and these sum to 1.
pub(crate) fn check(row: &Value) {
    let of = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
    let names = ["p_benign", "p_c2", "p_exfil", "p_scan", "p_bruteforce", "p_dos"];
    let sum: f64 = names.into_iter().map(of).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{row}");
    assert!((of("p_c2") + of("p_exfil") - of("score")).abs() < 1e-6, "{row}");
    assert!(of("first") <= of("last") && (1.0..=32.0).contains(&of("flows")), "{row}");
}

/// Ten hours of a beacon of one host, and one flow each to fifty others, in DeepMITRE's columns.
fn deepmitre() -> String {
    let mut text = "timestamp,flow_dur,src_ip,dest_ip,src_port,dest_port,fwd_bytes,bwd_bytes,\
                    total_fwd_pkts,total_bwd_pkts,label\n"
        .to_owned();
    for beat in 0..120 {
        let (hour, minute) = (8 + beat / 12, beat % 12 * 5);
        let port = 40_000 + beat;
        let stamp = format!("2026-03-02 {hour:02}:{minute:02}:07");
        writeln!(text, "{stamp},0.21,10.0.0.5,203.0.113.9,{port},443,1540,2200,12,10,1")
            .expect("text");
    }
    for host in 1..=50 {
        let stamp = format!("2026-03-02 09:{host:02}:00");
        writeln!(text, "{stamp},1.5,10.0.0.5,198.51.100.{host},{host},80,800,9000,8,9,0")
            .expect("text");
    }
    text
}

#[test]
fn every_pair_of_deepmitres_columns_has_a_row() {
    let bench = Bench::new();
    bench.write("flows.csv", deepmitre());
    let found = rows(&bench.weir("--quiet score flows.csv -o -", 0).out);
    found.iter().for_each(check);
    let pairs: BTreeSet<&str> = found.iter().filter_map(|row| row["dest_ip"].as_str()).collect();
    assert_eq!(pairs.len(), 51, "every pair, gate or no gate");
    let of = |to: &str| found.iter().filter(|row| row["dest_ip"] == *to).collect::<Vec<_>>();
    let beacon = of("203.0.113.9");
    assert_eq!(beacon.len(), 4, "three windows of 32, and one that ends with the last");
    assert!(beacon.iter().all(|row| row["flows"] == 32 && row["dest_port"] == 443));
    assert_eq!(beacon[0]["protocol"], 6, "by the port, as no column tells");
    assert!(beacon[0].get("scenario").is_none(), "there is no such column");
    let score = |row: &Value| row["score"].as_f64().expect("a score");
    let highest = |rows: &[&Value]| rows.iter().map(|row| score(row)).fold(0.0, f64::max);
    for host in 1..=50 {
        let other = highest(&of(&format!("198.51.100.{host}")));
        assert!(other < highest(&beacon), "198.51.100.{host}: {other}");
    }
}

/// A sensor's replay sees in these columns what scoring sees, of which none is the protocol.
#[test]
fn a_replay_takes_deepmitres_columns_as_scoring_does() {
    let bench = Bench::new();
    bench.write("flows.csv", deepmitre());
    bench.write(
        "weir.toml",
        "[rules]\ndirectories = []\n[model]\nalerts_per_1000_hosts_day = 9e4\n",
    );
    let scored = rows(&bench.weir("--quiet score -c weir.toml flows.csv -o -", 0).out);
    let called = scored.iter().filter(|row| row["class"] == "c2");
    assert!(called.clone().count() > 0 && called.clone().all(|row| row["dest_port"] == 443));
    bench.weir("--quiet replay -c weir.toml flows.csv -o s.ndjson --alerts alerts.ndjson", 0);
    let alerts = rows(&bench.read("alerts.ndjson"));
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&alert["rule"]["id"], &alert["protocol"]), (&"weir-model-c2".into(), &6.into()));
    assert_eq!((&alert["dest_ip"], &alert["dest_port"]), (&"203.0.113.9".into(), &443.into()));
    let tells = |evidence: &Value| evidence["value"].as_str().is_some_and(|v| v.ends_with("; tls"));
    assert!(alert["evidence"].as_array().is_some_and(|all| all.iter().any(tells)), "{alert}");
}

/// Captures of exports are decoded where that is asked for.
#[test]
fn exports_in_a_capture_are_scored() {
    let bench = Bench::new();
    let pcaps = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps");
    let pairs = |args: &str| {
        let found = rows(&bench.weir(&format!("--quiet score {args} -o -"), 0).out);
        found.iter().for_each(check);
        let pair = |row: &Value| (row["src_ip"].to_string(), row["dest_ip"].to_string());
        found.iter().map(pair).collect::<BTreeSet<_>>().len()
    };
    let exports = pcaps.join("exports-ipfix.pcap").display().to_string();
    assert_eq!(pairs(&exports), 1, "the exporter and its collector");
    assert!(pairs(&format!("{exports} --netflow")) > 20);
    let mixed = pcaps.join("mixed.pcap.zst").display().to_string();
    for command in ["score", "replay"] {
        let told = bench.weir(&format!("--quiet {command} {mixed} --netflow -o -"), 3).err;
        let says = " packets is an export datagram: is --netflow meant, and the port right?\n";
        assert!(told.contains("none of ") && told.ends_with(says), "{command}: {told}");
    }
}

/// Of a capture every pair that spoke IP has its row, and all formats say the same.
#[test]
fn every_pair_of_a_capture_has_a_row_in_every_format() {
    let bench = Bench::new();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/mixed.pcap.zst");
    let shown = capture.display();
    bench.weir(&format!("--quiet replay {shown} -o slices.ndjson"), 0);
    let slices = rows(&std::fs::read_to_string(bench.path("slices.ndjson")).expect("slices"));
    let pair = |row: &Value| {
        let text = |name: &str| row[name].as_str().expect("an address").to_owned();
        let (a, b) = (text("src_ip"), text("dest_ip"));
        if a <= b { (a, b) } else { (b, a) }
    };
    let wanted: BTreeSet<_> = slices.iter().map(pair).collect();
    let ndjson = bench.weir(&format!("--quiet score {shown} -o -"), 0).out;
    let found = rows(&ndjson);
    found.iter().for_each(check);
    assert_eq!(found.iter().map(pair).collect::<BTreeSet<_>>(), wanted);
    bench.weir(&format!("--quiet score {shown} -o scores.csv"), 0);
    let csv = std::fs::read_to_string(bench.path("scores.csv")).expect("scores");
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some(COLUMNS));
    for (line, row) in lines.zip(&found) {
        let cells: BTreeMap<&str, &str> = COLUMNS.split(',').zip(line.split(',')).collect();
        for (name, cell) in cells {
            let said = match &row[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => panic!("{other}"),
            };
            let near = |a: &str, b: &str| {
                let (a, b): (f64, f64) = (a.parse().expect(a), b.parse().expect(b));
                (a - b).abs() <= 1e-6 * b.abs().max(1e-6)
            };
            assert!(cell == said || near(cell, &said), "{name}: {cell}, not {said}");
        }
    }
    assert_eq!(csv.lines().count() - 1, found.len());
}

/// What is wrong with an input or an output is told once, by name, with the exit code of what a user
/// can mend.
#[test]
fn what_cannot_be_scored_is_told_by_name() {
    let bench = Bench::new();
    let good = deepmitre();
    let header = good.lines().next().expect("a header");
    bench.write("good.csv", &good).write("own.json", "{}");
    bench.write("empty.csv", "");
    bench.write("missing.csv", "timestamp,src_ip,dest_ip\n");
    bench.write("bad.csv", format!("{header}\nsoon\nlater\n"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(good.as_bytes()).expect("written");
    let gzip = gzip.finish().expect("compressed");
    bench.write("cut.csv.gz", &gzip[..60]);
    for (args, says) in [
        ("empty.csv -o -", "empty.csv: is empty: it holds no flow"),
        ("missing.csv -o -", "missing.csv: no column for src_port, dest_port, fwd_bytes, flow_dur"),
        ("bad.csv -o -", "bad.csv: none of 2 rows tells of a flow"),
        ("cut.csv.gz -o -", "cut.csv.gz: "),
        ("none.csv -o -", "none.csv: No such file or directory"),
        (". -o -", ".: is a directory, expected a file"),
        ("good.csv -o good.csv", "--output: good.csv is an input already"),
        ("good.csv -o none/scores.csv", "none/scores.csv: No such file or directory"),
        ("good.csv -o .", ".: Is a directory"),
        ("good.csv -o /dev/full", "/dev/full: No space left on device"),
        ("good.csv -o scores.csv --model none.onnx", "model.file: none.onnx: No such file"),
        (
            "good.csv -o scores.csv --model own.json",
            "model.file: own.json: cannot be run: it is the J",
        ),
        #[cfg(feature = "parquet")]
        ("good.csv -o /dev/full --format parquet", "/dev/full: No space left on device"),
    ] {
        let told = bench.weir(&format!("--quiet score {args}"), 3).err;
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("weir: {says}")), "{args}: {told}");
        let name = says.split(':').next().expect("a name");
        assert_eq!(last.matches(&format!("{name}: ")).count(), 1, "{args}: {last}");
    }
    let told = bench.weir("--quiet score good.csv -o scores.csv --format cef", 2).err;
    let says =
        "error: invalid value 'cef' for '--format <FORMAT>': expected ndjson, csv or parquet";
    assert!(told.starts_with(says), "{told}");
    let alone = bench.weir("--quiet score good.csv -o -", 0).out;
    assert_eq!(bench.weir("--quiet score empty.csv good.csv -o -", 0).out, alone);
    assert_eq!(bench.read("good.csv"), good, "the input is left alone");
    assert!(!bench.path("scores.csv").exists());
}

/// Standard input is read but once: what told its kind is not lost.
#[test]
fn standard_input_is_scored_as_the_file_is() {
    let bench = Bench::new();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/mixed.pcap.zst");
    let capture = std::fs::read(capture).expect("the capture");
    bench.write("mixed.pcap.zst", &capture);
    bench.write("mixed.pcap", zstd::decode_all(&capture[..]).expect("zstd"));
    bench.write("flows.csv", deepmitre());
    bench.weir("--quiet replay mixed.pcap -o slices.ndjson", 0);
    for name in ["mixed.pcap", "mixed.pcap.zst", "flows.csv", "slices.ndjson"] {
        let of_file = bench.weir(&format!("--quiet score {name} -o -"), 0).out;
        let input = std::fs::read(bench.path(name)).expect("the input");
        assert_eq!(bench.piped("--quiet score - -o -", input, 0).out, of_file, "{name}");
    }
    let told = bench.piped("--quiet score - -o -", "", 3).err;
    assert!(told.contains("-: is empty: it holds no flow"), "{told}");
}

/// An older result stands until the new one is whole.
#[test]
fn an_output_is_replaced_once_it_is_whole() {
    let bench = Bench::new();
    bench.write("flows.csv", deepmitre());
    bench.write("scores.csv", "an older result\n");
    std::fs::create_dir(bench.path("scores.csv.part")).expect("something in the way");
    let told = bench.weir("--quiet score flows.csv -o scores.csv", 3).err;
    assert!(told.contains("scores.csv: Is a directory"), "{told}");
    assert_eq!(bench.read("scores.csv"), "an older result\n");
    std::fs::remove_dir(bench.path("scores.csv.part")).expect("removed");
    bench.weir("--quiet score flows.csv -o scores.csv", 0);
    assert!(bench.read("scores.csv").starts_with(COLUMNS));
    assert!(!bench.path("scores.csv.part").exists());
}

/// As in a replay: what was read before the end counts.
#[test]
fn of_an_input_that_is_cut_short_what_was_read_is_scored() {
    let bench = Bench::new();
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/mixed.pcap.zst");
    let whole = std::fs::read(capture).expect("the capture");
    let whole = zstd::decode_all(&whole[..]).expect("zstd");
    bench.write("cut.pcap", &whole[..whole.len() / 2 + 1]);
    let told = bench.weir("--quiet score cut.pcap -o scores.ndjson", 3).err;
    assert!(told.contains("weir: cut.pcap: truncated at offset"), "{told}");
    let found = rows(&bench.read("scores.ndjson"));
    found.iter().for_each(check);
    assert!(found.len() > 20, "{}", found.len());
    // Of several, what was read before one that is refused or cut short; an older result stands where
    // there is nothing, or one is not there at all.
    let csv = deepmitre();
    bench.write("flows.csv", &csv).write("bad.csv", "timestamp,src_ip,dest_ip\n");
    let whole = bench.weir("--quiet score flows.csv -o -", 0).out;
    for (files, unread) in [
        ("flows.csv bad.csv flows.csv flows.csv", Some(2)),
        ("flows.csv bad.csv", Some(0)),
        ("bad.csv flows.csv", None),
        ("flows.csv none.csv", None),
        ("flows.csv .", None),
    ] {
        bench.write("out.ndjson", "older\n");
        let told = bench.weir(&format!("score {files} -o out.ndjson"), 3).err;
        let says = "WARN the input is cut short: out.ndjson holds what was read before unread=";
        let said = told.lines().find_map(|line| line.split_once(says)?.1.parse::<usize>().ok());
        assert_eq!(said, unread, "{files}: {told}");
        let want = if unread.is_some() { &whole } else { "older\n" };
        assert!(bench.read("out.ndjson") == want, "{files}");
    }
    let told = bench.weir("score cut.pcap flows.csv -o out.ndjson", 3).err;
    assert_eq!(told.matches("unread=").count(), 1, "{told}");
    assert!(told.contains("out.ndjson holds what was read before unread=1"), "{told}");
}

/// The names of standard output are `-`: the file that it goes to is not replaced.
#[test]
fn the_names_of_standard_output_are_standard_output() {
    let bench = Bench::new();
    bench.write("flows.csv", deepmitre());
    for command in ["score flows.csv", "replay flows.csv"] {
        for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            let mut file = std::fs::File::create(bench.path("out")).expect("a file");
            writeln!(file, "before").expect("written");
            let mut weir = crate::system::weir();
            weir.current_dir(bench.path("")).args(["--quiet"]).args(command.split(' '));
            let ended = weir.args(["-o", name]).stdout(file).status().expect("runs");
            assert!(ended.success(), "{command} -o {name}");
            let out = bench.read("out");
            assert!(out.starts_with("before\n{"), "{command} -o {name}: {out}");
            assert!(!bench.path("out.part").exists());
        }
    }
}

/// Rows that are skipped are counted, more than are named.
#[test]
fn rows_of_slices_that_tell_of_no_flow_are_totalled() {
    let bench = Bench::new();
    let mut csv = deepmitre();
    csv.push_str(&"soon\n".repeat(12));
    bench.write("flows.csv", &csv);
    bench.weir("--quiet replay flows.csv -o slices.ndjson", 0);
    let bad = "{\"flow_id\":\"none\"}\n".repeat(12);
    bench.write("rows.ndjson", bench.read("slices.ndjson") + &bad);
    for name in ["flows.csv", "rows.ndjson"] {
        let told = bench.weir(&format!("score {name} -o -"), 0).err;
        assert_eq!(told.matches(&format!("WARN {name}: ")).count(), 11, "{told}");
        let says = format!("WARN {name}: rows that tell of no flow rejected=12");
        assert!(told.contains(&says), "{told}");
    }
}

/// A model that cannot be run is told of before a sensor stops for it.
#[test]
fn a_model_that_cannot_be_run_is_refused_by_every_command() {
    let bench = Bench::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
    let onnx = std::fs::read(folder.join("weir.onnx")).expect("the model");
    let labels = std::fs::read_to_string(folder.join("weir.json")).expect("its labels");
    let (own, other) = (sha256(&onnx), sha256(b"another"));
    bench.write("weir.toml", "[model]\nfile = \"own.onnx\"\n[rules]\ndirectories = []\n");
    bench.write("good.csv", deepmitre());
    let of_another = format!("own.onnx is {own}, and ");
    for (name, onnx, json, says) in [
        ("nothing beside it", &onnx[..], None, "own.json: No such file"),
        ("no JSON", &onnx, Some("{".to_owned()), "own.json: EOF while parsing"),
        ("another's JSON", &onnx, Some(labels.replace(&own, &other)), &of_another),
        ("no ONNX", b"another", Some(labels.replace(&own, &other)), "own.onnx: not a model that"),
    ] {
        bench.write("own.onnx", onnx);
        drop(std::fs::remove_file(bench.path("own.json")));
        if let Some(text) = &json {
            bench.write("own.json", text);
        }
        for command in [
            "check -c weir.toml",
            "replay -c weir.toml good.csv",
            "score good.csv -o - --model own.onnx",
        ] {
            let told = bench.weir(command, 3).err;
            assert!(told.contains("weir: model.file: ") && told.contains(says), "{name}: {told}");
        }
    }
    bench.write("own.onnx", &onnx).write("own.json", &labels);
    bench.weir("check -c weir.toml", 0);
}
