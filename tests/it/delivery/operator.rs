//! `weir spool`: beside a running sensor and without one.

use serde_json::Value;

use super::receivers::ready_for;
use super::storage::Storage;
use super::world::{FEW, World};
use crate::system::Ended;

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).expect(&ended.out)
}

fn sink<'a>(survey: &'a Value, name: &str) -> &'a Value {
    let sinks = survey["sinks"].as_array().expect("sinks");
    sinks.iter().find(|sink| sink["sink"] == name).expect(name)
}

#[test]
fn the_operator_sees_what_waits_and_moves_cursors() {
    let storage = Storage::folder();
    let mut receivers = ready_for(&storage, |_| true);
    let mut world = World::new(FEW, storage.path().join("spool"), &mut receivers);
    world.receivers["hec"].proxy.refuse(true);
    world.start();
    world.sends();
    let waiting = "weir_output_records_spooled{sink=\"hec\"}";
    world.sensor().reaches(waiting, 900.0);
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);

    // Beside the sensor: seen, and not touched.
    let spool = storage.path().join("spool");
    let place = format!("--directory {}", spool.display());
    let survey = json(&world.bench.weir(&format!("spool list {place} --format json"), 0));
    assert_eq!(survey["running"], true);
    assert_eq!(sink(&survey, "hec")["waiting"], 900);
    assert_eq!(sink(&survey, "elastic")["waiting"], 0);
    let text = world.bench.weir(&format!("spool list {place}"), 0).out;
    assert!(text.contains("a sensor runs on it") && text.contains("hec"), "{text}");
    for refused in ["replay elastic --segment 0", "drop hec --all"] {
        let ended = world.bench.weir(&format!("spool {refused} {place}"), 3);
        assert!(ended.err.contains("in use by a running weir"), "{}", ended.err);
    }
    world.stop();

    // Without it: frames and records are read, cursors moved.
    let frames = json(&world.bench.weir(&format!("spool inspect {place} --format json"), 0));
    let frames = frames.as_array().expect("frames");
    assert!(frames.iter().all(|frame| frame["whole"] == true), "{frames:?}");
    let records: u64 = frames.iter().map(|frame| frame["records"].as_u64().expect("a count")).sum();
    assert_eq!(records, 900);
    let lines = world.bench.weir(&format!("spool inspect --records slices {place}"), 0).lines();
    assert_eq!(lines.len(), 900);
    let survey = json(&world.bench.weir(&format!("spool list {place} --format json"), 0));
    assert_eq!(survey["running"], false);
    let first = &survey["segments"][0];
    let again = format!("spool replay elastic --segment {} {place} --format json", first["number"]);
    let moved = json(&world.bench.weir(&again, 0));
    assert_eq!(moved["records"], 900);
    let ended = world.bench.weir(&again, 3);
    assert!(ended.err.contains("the cursor stands there"), "{}", ended.err);
    let ended =
        world.bench.weir(&format!("spool replay hec --since 2100-01-01T00:00:00Z {place}"), 3);
    assert!(ended.err.contains("the cursor stands there"), "{}", ended.err);
    let dropped = world.bench.weir(&format!("spool drop hec --all {place}"), 0).out;
    assert!(dropped.contains("900 records dropped"), "{dropped}");
    for (wrong, message) in [
        (
            "drop nobody --all",
            "no sink `nobody` has a cursor here, only: elastic, files, hec, ipfix, syslog",
        ),
        ("replay hec --segment 77", "there is no segment 77"),
    ] {
        let ended = world.bench.weir(&format!("spool {wrong} {place}"), 3);
        assert!(ended.err.contains(message), "{}", ended.err);
    }
    let ended = world.bench.weir("spool list --directory /nowhere", 3);
    assert!(ended.err.contains("/nowhere: no spool is here"), "{}", ended.err);

    // What was set back is delivered again, and what was dropped is counted.
    world.receivers["hec"].proxy.refuse(false);
    world.start();
    let sensor = world.sensor();
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);
    let shed = "weir_output_records_shed_total{sink=\"hec\",reason=\"dropped_by_operator\"}";
    sensor.reaches(shed, 900.0);
    assert_eq!(sensor.metric(waiting), Some(0.0));
    world.stop();
    assert!(world.receivers["hec"].tally().is_empty());
    assert_eq!(world.receivers["elastic"].tally().len(), 900);
}

/// What a disk that lost things left behind is told of, and nothing else goes missing for it.
#[test]
fn a_damaged_spool_is_told_of_as_it_is() {
    let storage = Storage::folder();
    let mut receivers = ready_for(&storage, |_| true);
    let mut world = World::new(FEW, storage.path().join("spool"), &mut receivers);
    world.start();
    world.sends();
    world.appends(FEW.slices);
    world.stop();
    let spool = storage.path().join("spool");
    let place = format!("--directory {}", spool.display());
    let survey = json(&world.bench.weir(&format!("spool list {place} --format json"), 0));
    let number = survey["segments"].as_array().expect("segments").len() as u64 + 7;
    let empty = spool.join("segments").join(format!("{number:020}.sealed"));
    let like = std::fs::read_dir(spool.join("segments")).expect("a folder").next();
    let like = like.expect("a segment").expect("an entry").file_name();
    assert_eq!(empty.file_name().map(std::ffi::OsStr::len), Some(like.len()), "{like:?}");
    std::fs::write(&empty, "").expect("written");
    std::fs::write(spool.join("hec.cursor"), "{\"sink\":").expect("written");

    let list = world.bench.weir(&format!("spool list {place}"), 0).out;
    assert!(list.contains("a cursor that cannot be read") && list.contains("hec.cursor"), "{list}");
    let frames = json(&world.bench.weir(&format!("spool inspect {place} --format json"), 0));
    let frames = frames.as_array().expect("frames");
    let of = |number: u64| frames.iter().filter(move |frame| frame["segment"] == number);
    assert_eq!(of(number).count(), 1, "{frames:?}");
    assert!(of(number).all(|frame| frame["kind"] == "damaged" && frame["whole"] == false));
    let records: u64 = frames.iter().filter_map(|frame| frame["records"].as_u64()).sum();
    assert_eq!(records, 900, "the others are read");
    let lines = world.bench.weir(&format!("spool inspect --records slices {place}"), 0).lines();
    assert_eq!(lines.len(), 900);

    for wrong in ["replay hec --segment 0", "drop hec --all"] {
        let ended = world.bench.weir(&format!("spool {wrong} {place}"), 3);
        let file = spool.join("hec.cursor");
        let told = format!("{}: the cursor of sink `hec`: EOF", file.display());
        assert!(ended.err.contains(&told), "{}", ended.err);
        assert!(ended.err.contains("everything in the spool to it again"), "{}", ended.err);
    }

    // The next start keeps it aside, and delivers again what no cursor tells of.
    world.start();
    world.sensor().says("a segment of the spool cannot be read; kept aside");
    world.sensor().says("a cursor cannot be read");
    world.stop();
    let survey = json(&world.bench.weir(&format!("spool list {place} --format json"), 0));
    assert_eq!(survey["broken"].as_array().map(Vec::len), Some(1), "{survey}");
    assert_eq!(survey["unreadable"].as_array().map(Vec::len), Some(0), "{survey}");

    // A sealed segment that was cut short at the end of a frame: its records are the sinks' that lack them.
    world.receivers["hec"].proxy.refuse(true);
    world.start();
    world.sends();
    world.sensor().reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);
    world.stop();
    let frames = json(&world.bench.weir(&format!("spool inspect {place} --format json"), 0));
    let last = frames.as_array().and_then(|frames| frames.last()).expect("a frame");
    let (number, offset) = (&last["segment"], last["offset"].as_u64().expect("an offset"));
    let path = spool.join("segments").join(format!("{:020}.sealed", number.as_u64().expect("one")));
    let file = std::fs::File::options().write(true).open(path).expect("sealed");
    file.set_len(offset).expect("shorter");
    let survey = json(&world.bench.weir(&format!("spool list {place} --format json"), 0));
    let lost = last["records"].as_u64().expect("a count");
    assert_eq!(
        (&sink(&survey, "hec")["lost"], &sink(&survey, "elastic")["lost"]),
        (&lost.into(), &0.into())
    );
    world.receivers["hec"].proxy.refuse(false);
    world.start();
    world.sensor().says("a segment of the spool is damaged or was cut short");
    world.sensor().says(&format!("or are gone sink=\"hec\" records={lost}"));
    world.not_ready(&format!("output hec: sheds records: {lost} for damaged in "));
    let shed = "weir_output_records_shed_total{sink=\"hec\",reason=\"damaged\"}";
    assert_eq!(world.sensor().metric(shed), Some(lost as f64));
    let told: Value = serde_json::from_str(&world.sensor().get("/readyz").1).expect("JSON");
    assert_eq!(told["delivery"]["sinks"]["hec"]["shed"]["damaged"], lost);
    world.stop();

    // A sensor that cannot begin names the file that it could not use.
    for name in ["hec.cursor", "seals"] {
        let (path, aside) = (spool.join(name), spool.join("aside"));
        std::fs::rename(&path, &aside).expect("there");
        std::fs::create_dir(&path).expect("made");
        let ended = world.bench.weir("run -c weir.toml", 3);
        assert!(
            ended.err.contains(&format!("{}: Is a directory", path.display())),
            "{}",
            ended.err
        );
        std::fs::remove_dir(&path).expect("empty");
        std::fs::rename(&aside, &path).expect("there");
    }

    // What cannot be looked at is not what is not there.
    std::fs::remove_file(spool.join("id")).expect("there");
    std::fs::create_dir(spool.join("id")).expect("made");
    let ended = world.bench.weir(&format!("spool list {place}"), 3);
    assert!(
        !ended.err.contains("no spool is here") && ended.err.contains("/id: "),
        "{}",
        ended.err
    );
    for (wrong, ways) in [
        ("replay hec", "<--segment <SEGMENT>|--since <TIME>>"),
        ("drop hec", "<--segment <SEGMENT>|--until <TIME>|--all>"),
    ] {
        let ended = world.bench.weir(&format!("spool {wrong} {place}"), 2);
        assert!(ended.err.contains(ways), "{}", ended.err);
    }
}

#[test]
fn figures_of_delivery_are_on_metrics_and_readyz() {
    let storage = Storage::folder();
    let mut receivers = ready_for(&storage, |_| true);
    let mut world = World::new(FEW, storage.path().join("spool"), &mut receivers);
    world.receivers["elastic"].proxy.answer(Some(503));
    world.start();
    world.sends();
    let sensor = world.sensor();
    sensor.reaches("weir_output_retries_total{sink=\"elastic\"}", 1.0);
    sensor.reaches("weir_output_oldest_microseconds{sink=\"elastic\"}", 1.0);
    sensor.reaches("weir_spool_records_appended_total", 900.0);
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"hec\"}", 900.0);
    let (status, body) = sensor.get("/readyz");
    assert_eq!(status, 503);
    let told: Value = serde_json::from_str(&body).expect(&body);
    let (elastic, hec) = (&told["delivery"]["sinks"]["elastic"], &told["delivery"]["sinks"]["hec"]);
    assert_eq!((&elastic["lag_records"], &hec["lag_records"]), (&900.into(), &0.into()));
    let errors = elastic["errors"].as_object().expect("reasons");
    assert!(errors.values().any(|count| count.as_u64() > Some(0)), "{body}");
    assert!(elastic["fault"].as_str().is_some_and(|fault| fault.contains("503")), "{body}");
    for (sink, name) in [(hec, "octets"), (hec, "units")] {
        assert!(sink[name].as_u64() > Some(0), "{name}: {body}");
    }
    assert_eq!(told["delivery"]["spool"]["appended"], 900);
    for name in ["weir_spool_segments", "weir_spool_bytes", "weir_spool_append_seconds_count"] {
        assert!(sensor.metric(name) > Some(0.0), "{name}");
    }
    world.receivers["elastic"].proxy.answer(None);
    sensor.reaches("weir_output_records_acknowledged_total{sink=\"elastic\"}", 900.0);
    world.stop();
}
