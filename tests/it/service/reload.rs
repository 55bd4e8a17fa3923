//! SIGHUP: all or nothing.

use super::{HTTPS, QUICK, exporter, v5};
#[cfg(feature = "model")]
use crate::sequence::sha256;
use crate::system::{Bench, Sensor, kill, records, wait_for};

const BAD: &str = "title: Bad\ndetection: [\n";

/// Sends SIGHUP and waits until the sensor said `text` once more.
#[track_caller]
fn reload(sensor: &Sensor, text: &str) {
    let count = |sensor: &Sensor| sensor.log().matches(text).count();
    let before = count(sensor);
    kill(&sensor.process, libc::SIGHUP);
    wait_for(text, || (count(sensor) > before).then_some(()));
}

/// Whether the flow from `port` raised an alert, once its slice is there.
#[track_caller]
fn fires(bench: &Bench, sensor: &Sensor, port: u16) -> bool {
    sensor.send(&exporter(), &v5(1, port));
    let slice = wait_for("the slice", || {
        let mut slices = records(&bench.path("flows"));
        slices.retain(|slice| slice["src_port"] == port);
        slices.pop()
    });
    slice["sigma_rule_ids"].as_array().is_some_and(|ids| !ids.is_empty())
}

#[test]
fn a_reload_takes_everything_or_nothing() {
    let bench = Bench::new();
    let sensor = Sensor::start(&bench, QUICK);
    assert!(!fires(&bench, &sensor, 1_001));

    bench.write("rules/https.yml", HTTPS);
    reload(&sensor, "INFO reloaded");
    assert!(fires(&bench, &sensor, 1_002), "a rule that was added");

    // A file without rules takes nothing away.
    bench.write("rules/https.yml", BAD);
    reload(&sensor, "reload failed, nothing is changed");
    assert!(
        sensor.log().contains("https.yml:3: Bad: rejected: not a Sigma rule"),
        "{}",
        sensor.log()
    );
    assert!(fires(&bench, &sensor, 1_003), "the set in force stays");
    // Neither does a version that is rejected take away the one in force.
    bench.write("rules/https.yml", HTTPS.replace("443", "70000"));
    reload(&sensor, "reload failed, nothing is changed");
    let log = sensor.log();
    let last = log.lines().rfind(|line| line.contains("reload failed")).unwrap_or_default();
    assert!(last.contains("it can never match a flow"), "{log}");
    assert!(last.contains("; its version in force stays"), "{log}");
    assert!(fires(&bench, &sensor, 1_006), "the version in force stays");

    // What never loaded holds nothing back.
    bench.write("rules/https.yml", HTTPS).write("rules/new.yml", BAD);
    std::os::unix::fs::symlink("nowhere", bench.path("rules/link.yml")).expect("a link");
    reload(&sensor, "INFO reloaded");
    for says in
        ["new.yml:3: Bad: rejected: not a Sigma rule", "link.yml:1: rejected: cannot be read"]
    {
        assert!(sensor.log().contains(says), "{says}: {}", sensor.log());
    }
    // And what was said of it is not said again.
    reload(&sensor, "said_before=2");
    assert_eq!(sensor.log().matches("new.yml:3: Bad: rejected").count(), 1, "{}", sensor.log());

    let config = bench.read("weir.toml");
    bench.write("rules/https.yml", HTTPS.replace("443", "80"));
    for (name, broken, says) in [
        ("syntax", format!("{config}[flow\n"), "weir.toml:"),
        ("a key", format!("{config}\n[netflow]\nnone = 1\n"), "netflow.none: unknown field"),
        (
            "a key that needs a restart",
            format!("{config}\n[networks]\nhome = [\"192.0.2.0/24\"]\n"),
            "networks.home: only a restart changes these keys; the configuration in force stays",
        ),
        (
            "rules that are not there",
            config.replace("[\"rules\"]", "[\"none\"]"),
            "none: No such file or directory",
        ),
    ] {
        bench.write("weir.toml", broken);
        reload(&sensor, "reload failed, nothing is changed");
        let log = sensor.log();
        let last = log.lines().rfind(|line| line.contains("reload failed"));
        assert!(last.is_some_and(|line| line.contains(says)), "{name}: {says}\n{log}");
    }
    assert!(fires(&bench, &sensor, 1_004), "the set in force stays");
    sensor.reaches("weir_config_reloads_total{result=\"failure\"}", 6.0);
    sensor.reaches("weir_config_reloads_total{result=\"success\"}", 3.0);

    bench.write("weir.toml", config);
    reload(&sensor, "INFO reloaded");
    assert!(!fires(&bench, &sensor, 1_005), "a rule that was changed");
    let (ledgers, _) = sensor.stop();
    assert_eq!(ledgers["detections"]["alerts"]["high"], 4);
}

/// A new file takes nothing from what is in force, and a file that is emptied is told of.
#[test]
fn newcomers_are_rejected_and_emptied_files_told() {
    let bench = Bench::new();
    bench.write("rules/https.yml", HTTPS);
    let sensor = Sensor::start(&bench, QUICK);
    assert!(fires(&bench, &sensor, 1_001));
    // Its file comes first, and its id is written in other case.
    bench.write("rules/a.yml", HTTPS.replace("443", "80").replace("id: https", "id: HTTPS"));
    reload(&sensor, "INFO reloaded");
    let log = sensor.log();
    let says = "a.yml:2: HTTPS (HTTPS): rejected: its id is that of the rule at";
    assert!(log.contains(says) && log.contains("which is in force and stays"), "{log}");
    assert!(log.contains("added=0 removed=0 changed=0"), "{log}");
    sensor.reaches("weir_detect_rules{result=\"rejected\"}", 1.0);
    assert!(fires(&bench, &sensor, 1_002), "what is in force stays");

    std::fs::remove_file(bench.path("rules/a.yml")).expect("removed");
    bench.write("rules/https.yml", "# title: HTTPS\n");
    reload(&sensor, "INFO reloaded");
    let log = sensor.log();
    let warning = log.lines().find(|line| line.contains("holds none any more"));
    let warning = warning.unwrap_or_else(|| panic!("a warning: {log}"));
    assert!(warning.contains("WARN") && warning.contains("rules/https.yml"), "{warning}");
    assert!(warning.contains("removed=1"), "{warning}");
    assert!(!fires(&bench, &sensor, 1_003), "what is gone is gone");
    sensor.stop();
}

/// The model is reloaded as rules are: another takes over while windows stay, and one of other shapes
/// changes nothing and is told what is expected.
#[cfg(feature = "model")]
#[test]
fn a_model_is_reloaded_in_place_or_refused() {
    use std::path::Path;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("the shipped model");
    let (onnx, labels) = (read("weir.onnx"), read("weir.json"));
    let bench = Bench::new();
    let put =
        |name: &str, octets: &[u8]| std::fs::write(bench.path(name), octets).expect("written");
    put("own.onnx", &onnx);
    put("own.json", &labels);
    let budget = |alerts: f64| {
        format!("{QUICK}[model]\nfile = \"own.onnx\"\nalerts_per_1000_hosts_day = {alerts:.1}\n")
    };
    let sensor = Sensor::start(&bench, &budget(10.0));
    let loaded = "INFO sequence model loaded";
    let last = |text: &str| {
        let log = sensor.log();
        log.lines().rfind(|line| line.contains(text)).unwrap_or_default().to_owned()
    };
    let first = last(loaded);
    assert!(first.contains("alerts_per_1000_hosts_day=10"), "{first}");

    // 26 columns a step become 27, where the file's protocol buffers say so.
    let (dims, others) = ([0x0a, 2, 8, 32, 0x0a, 2, 8, 26], [0x0a, 2, 8, 32, 0x0a, 2, 8, 27]);
    let mut wider = onnx.clone();
    for at in (0..onnx.len() - dims.len()).filter(|&at| onnx[at..].starts_with(&dims)) {
        wider[at..at + dims.len()].copy_from_slice(&others);
    }
    let text = String::from_utf8(labels.clone()).expect("text");
    let own = sha256(&onnx);
    let of = |octets: &[u8]| text.replace(&own, &sha256(octets));
    let fewer = text.replace("\"window\": 32", "\"window\": 8");
    let both = format!("own.json is of {own}");
    for (name, octets, json, says) in [
        ("a step of 27", &wider[..], of(&wider), "expected the inputs `steps` [batch, 32, 26]"),
        ("not ONNX", b"nonsense", of(b"nonsense"), "own.onnx: not a model that can be run"),
        ("a window of 8", &onnx, fewer, "own.json: `window` is 8, expected 32"),
        ("another's JSON", &wider, text.clone(), &both),
        ("and its own hash", &wider, text.clone(), &format!("own.onnx is {}", sha256(&wider))),
    ] {
        put("own.onnx", octets);
        put("own.json", json.as_bytes());
        reload(&sensor, "reload failed, nothing is changed");
        let refused = last("reload failed");
        assert!(refused.contains(says), "{name}: {refused}");
        assert_eq!(last(loaded), first, "{name}: the model in force stays");
        put("own.onnx", &onnx);
        put("own.json", &labels);
    }
    sensor.reaches("weir_config_reloads_total{result=\"failure\"}", 5.0);

    bench.write("weir.toml", bench.read("weir.toml").replace("= 10.0", "= 3.0"));
    reload(&sensor, loaded);
    let second = last(loaded);
    assert!(second.contains("alerts_per_1000_hosts_day=3"), "{second}");
    assert!(!fires(&bench, &sensor, 1_001), "it goes on");
    sensor.stop();
}

/// The graph of the shipped model with an axis that there is not, at which the runtime panics.
#[cfg(feature = "model")]
fn panicking(onnx: &[u8]) -> Vec<u8> {
    let (perm, other) = (b"perm@\x00@\x02@\x01", b"perm@\x09@\x02@\x01");
    let at = (0..onnx.len()).find(|&at| onnx[at..].starts_with(perm)).expect("a transposition");
    let mut octets = onnx.to_vec();
    octets[at..at + perm.len()].copy_from_slice(other);
    octets
}

/// What a graph does to the process that loads it, it does to another: the sensor's goes on, and says
/// so at the start.
#[cfg(feature = "model")]
#[test]
fn a_model_that_ends_its_process_is_refused() {
    use std::path::Path;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
    let onnx = std::fs::read(folder.join("weir.onnx")).expect("the shipped model");
    let labels = std::fs::read_to_string(folder.join("weir.json")).expect("its labels");
    let bench = Bench::new();
    bench.write("own.onnx", &onnx).write("own.json", &labels);
    let sensor = Sensor::start(&bench, &format!("{QUICK}[model]\nfile = \"own.onnx\"\n"));
    let bad = panicking(&onnx);
    let of_bad = labels.replace(&sha256(&onnx), &sha256(&bad));
    bench.write("own.json", &of_bad).write("own.onnx", &bad);
    (0..2).for_each(|_| reload(&sensor, "reload failed, nothing is changed"));
    let says = "own.onnx: cannot be run: it ends the process that loads it (";
    let log = sensor.log();
    assert_eq!(log.lines().filter(|line| line.contains(says)).count(), 2, "{log}");
    assert!(log.contains("): index out of bounds"), "{log}");
    sensor.reaches("weir_config_reloads_total{result=\"failure\"}", 2.0);
    bench.write("own.json", &labels).write("own.onnx", &onnx);
    reload(&sensor, "INFO reloaded");
    sensor.stop();

    bench.write("own.json", &of_bad).write("own.onnx", &bad);
    for command in ["run -c weir.toml", "check -c weir.toml", "replay -c weir.toml weir.toml"] {
        let told = bench.weir(command, 3).err;
        assert!(told.contains(says), "{command}: {told}");
    }
}
