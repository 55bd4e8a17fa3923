//! A sensor with every sink, slices that flow through it, and what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use weir::output::spool::operator;

use super::receivers::{
    Identity, KAFKA_SECRET, Receivers, S3_SECRET, SECRET, Tally, credentials, identities,
};
use crate::netflow::build::{fixed, fixed_record};
use crate::system::{Bench, PATIENCE, Sensor, free_ports, kill, reap, weir};

/// Flows of a datagram: as many as v5 has.
const FLOWS: u32 = 30;
/// Seconds until flows are idle, and their slices are cut.
const IDLE_S: u64 = 1;
const APPENDED: &str = "weir_spool_records_appended_total";
/// Slices of a run from which on records have a few fields only.
const BRIEF: u32 = 100_000;
/// `spool.sync_interval_ms`.
pub(crate) const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Slices that are sent, and so many in a second.
    pub(crate) slices: u32,
    pub(crate) per_second: u32,
    /// How long a fault lasts, and how long a server is stopped.
    pub(crate) fault: Duration,
    pub(crate) stopped: Duration,
    /// How often the sensor is killed.
    pub(crate) kills: u32,
}

/// Few slices, and no fault that takes a time.
pub(crate) const FEW: Size = Size {
    slices: 900,
    per_second: 3_000,
    fault: Duration::ZERO,
    stopped: Duration::ZERO,
    kills: 0,
};

/// One line of the table.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: String,
    pub(crate) sink: String,
    /// Slices whose append to the spool had returned.
    pub(crate) sent: usize,
    /// Of these, what the other side does not have.
    pub(crate) lost: usize,
    /// What it has after deduplication by id beyond that: the same slice under another id.
    pub(crate) duplicated: usize,
    /// What it got more than once before that.
    pub(crate) raw_duplicates: usize,
    /// From the end of the fault until all that waited then was acknowledged.
    pub(crate) recovery_s: f64,
}

/// Sends flows of its own at a rate, in a thread, until there are enough or it is dropped.
pub(crate) struct Feed {
    sent: Arc<AtomicU32>,
    enough: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    pub(crate) fn start(port: u16, per_second: u32, enough: u32) -> Self {
        let (sent, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let enough = Arc::new(AtomicU32::new(enough));
        let (told, stops, limit) = (Arc::clone(&sent), Arc::clone(&stop), Arc::clone(&enough));
        let thread = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let (mut due, mut next, mut last) = (0.0, 0, Instant::now());
            while !stops.load(Ordering::Relaxed) {
                let now = Instant::now();
                due += (now - last).as_secs_f64() * f64::from(per_second);
                due = due.min(f64::from(limit.load(Ordering::Relaxed)));
                last = now;
                while f64::from(next) < due {
                    // While the sensor is dead nobody takes it.
                    drop(socket.send_to(&datagram(next), ("127.0.0.1", port)));
                    next += FLOWS;
                }
                told.store(next, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { sent, enough, stop, thread: Some(thread) }
    }

    /// Waits until so many are sent.
    pub(crate) fn reaches(&self, flows: u32) {
        while self.sent.load(Ordering::Relaxed) < flows {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until there were enough.
    pub(crate) fn ends(&self) {
        self.reaches(self.enough.load(Ordering::Relaxed));
    }

    /// Sends so many more.
    fn more(&self, flows: u32) {
        self.enough.fetch_add(flows, Ordering::Relaxed);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("joined once").join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// The flows `first` and the following, each another.
fn datagram(first: u32) -> Vec<u8> {
    let record = |n: u32| {
        let mut record = fixed_record();
        record[..4].copy_from_slice(&(0x0a00_0000 | n & 0x00ff_ffff).to_be_bytes());
        record[32..34].copy_from_slice(&(1_024 + (n >> 24) as u16).to_be_bytes());
        record
    };
    let records: Vec<Vec<u8>> = (first..first + FLOWS).map(record).collect();
    fixed(5, FLOWS as u16, first, 0, &records)
}

pub(crate) struct World<'a> {
    pub(crate) bench: Bench,
    pub(crate) size: Size,
    pub(crate) receivers: &'a mut Receivers,
    /// What was appended and has to be there, although the spool may not have it any more; and what
    /// was appended and may be.
    pub(crate) due: Tally,
    pub(crate) known: Tally,
    pub(crate) spool: PathBuf,
    ports: (u16, u16),
    sensor: Option<Sensor>,
    /// Records in finished files of those with a queue of their own, whenever it was looked.
    finished: Tally,
    /// When the fault ended, and the seconds that each sink took from then on.
    recovered: BTreeMap<&'static str, f64>,
}

impl<'a> World<'a> {
    /// Makes everything, with the spool at `spool`; the sensor is not started.
    pub(crate) fn new(size: Size, spool: PathBuf, receivers: &'a mut Receivers) -> Self {
        let bench = Bench::new();
        bench.write("secret", format!("{SECRET}\n")).write("aws", credentials(S3_SECRET));
        bench.write("kafka", KAFKA_SECRET);
        bench.write("rules/.keep", "");
        let sync = SYNC_INTERVAL.as_millis();
        let mut config = format!(
            r#"
[flow.netflow]
idle_timeout_s = {IDLE_S}
[spool]
directory = "{}"
segment_bytes = 1048576
segment_age_s = 2
segment_idle_s = 1
sync_interval_ms = {sync}
keep_s = 86400
stop_s = 60
"#,
            spool.display(),
        );
        // A million records are as many records when they are short.
        let brief = ["flow_id", "slice", "src_ip", "dest_ip", "src_port", "dest_port"];
        let fields: &[&str] = if size.slices > BRIEF { &brief } else { &[] };
        for (name, receiver) in &*receivers {
            config += &receiver.table(name, fields);
        }
        let ports = free_ports();
        Sensor::configure(&bench, &config, ports);
        let (due, known, recovered) = (Tally::default(), Tally::default(), BTreeMap::new());
        let (sensor, finished) = (None, Tally::default());
        Self { bench, size, receivers, due, known, spool, ports, sensor, finished, recovered }
    }

    pub(crate) fn start(&mut self) {
        self.sensor = Some(Sensor::spawn(weir(), &self.bench, self.ports).ready());
    }

    /// Sends flows, each of one slice: as many as the size says, or until the feed is dropped.
    pub(crate) fn feed(&self, endless: bool) -> Feed {
        let enough = if endless { u32::MAX } else { self.size.slices };
        Feed::start(self.ports.0, self.size.per_second, enough)
    }

    /// Sends as many slices as the size says, and waits until they are cut.
    pub(crate) fn sends(&self) {
        self.feed(false).ends();
        self.calm();
    }

    /// Waits until the sensor has appended as many slices as the size says. What a socket of a busy
    /// machine had no room for is made up for.
    pub(crate) fn fill(&self, feed: &Feed) {
        loop {
            feed.ends();
            self.calm();
            let appended = self.sensor().metric(APPENDED).unwrap_or(0.0) as u32;
            match self.size.slices.checked_sub(appended) {
                None | Some(0) => return,
                Some(missing) => feed.more(missing),
            }
        }
    }

    /// Waits until no flow is open and all slices are shipped.
    pub(crate) fn calm(&self) {
        const QUIET: Duration = Duration::from_millis(300);
        let mut last = (0.0, Instant::now());
        self.wait("the last slice", || {
            let shipped = self.sensor().metric("weir_flow_slices_shipped_total").unwrap_or(0.0);
            let held = self.sensor().metric("weir_flow_slices_held").unwrap_or(1.0);
            if shipped != last.0 {
                last = (shipped, Instant::now());
            }
            (held == 0.0 && last.1.elapsed() > QUIET).then_some(())
        });
    }

    /// Waits until the sensor that runs has appended so many records.
    #[track_caller]
    pub(crate) fn appends(&self, records: u32) {
        self.wait("records in the spool", || {
            self.sensor().metric(APPENDED).filter(|&now| now >= records.into())
        });
    }

    /// Asks `poll` until it answers: for as long as so many records may take on a machine that does
    /// much else.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let patience = PATIENCE + Duration::from_millis(self.size.slices.into());
        let until = Instant::now() + patience;
        // Asking costs the sensor time, too.
        let pause = Duration::from_millis(if self.size.slices > 100_000 { 200 } else { 20 });
        loop {
            if let Some(answer) = poll() {
                return answer;
            }
            assert!(Instant::now() < until, "{what}: not within {patience:?}");
            std::thread::sleep(pause);
        }
    }

    #[track_caller]
    pub(crate) fn sensor(&self) -> &Sensor {
        self.sensor.as_ref().expect("a sensor that runs")
    }

    /// Takes note of what files with a queue of their own have acknowledged: it is in finished files, and
    /// has to stay there.
    fn note_acknowledged(&mut self) {
        let Some(queue) = self.receivers.get("queue") else { return };
        let sensor = self.sensor();
        let acknowledged = sensor.metric("weir_output_records_acknowledged_total{sink=\"queue\"}");
        let acknowledged = acknowledged.unwrap_or(0.0) as usize;
        let found = queue.tally();
        let more = found.len().saturating_sub(self.finished.len());
        assert!(more >= acknowledged, "{acknowledged} were acknowledged, {more} more are there");
        self.finished.extend(found);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.note_acknowledged();
        let mut sensor = self.sensor.take().expect("a sensor that runs");
        kill(&sensor.process, libc::SIGKILL);
        reap(&mut sensor.process);
    }

    /// SIGTERM; ends well.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.sensor.take().expect("a sensor that runs").stop();
    }

    /// The same; what it said until then.
    #[track_caller]
    pub(crate) fn stop_and_read(&mut self) -> String {
        self.sensor.take().expect("a sensor that runs").stop().1
    }

    /// What stands in the spool now: it keeps what is delivered, too.
    pub(crate) fn appended(&self) -> Tally {
        let mut inspect = weir();
        inspect.args(["spool", "inspect", "--records", "slices", "--directory"]).arg(&self.spool);
        let mut inspect = inspect.stdout(Stdio::piped()).spawn().expect("spawned");
        let lines = BufReader::new(inspect.stdout.take().expect("piped")).lines();
        let mut appended = Tally::default();
        for line in lines {
            let line = line.expect("UTF-8");
            identities(&line).for_each(|identity| *appended.entry(identity).or_default() += 1);
        }
        assert!(inspect.wait().expect("a child").success());
        appended
    }

    /// Waits until each sink has acknowledged what was selected for it when this was called, and
    /// notes how long that took.
    pub(crate) fn recover(&mut self) {
        let start = Instant::now();
        let behind = self.receivers.iter().filter(|(_, receiver)| receiver.is_behind_the_spool());
        let names: Vec<&'static str> = behind.map(|(&name, _)| name).collect();
        let of = |world: &Self, what: &str, sink: &str| {
            let name = format!("weir_output_records_{what}{{sink=\"{sink}\"}}");
            world.sensor().metric(&name).unwrap_or(0.0)
        };
        let mut due: BTreeMap<_, _> =
            names.iter().map(|&name| (name, of(self, "selected_total", name))).collect();
        let mut recovered = BTreeMap::new();
        self.wait("the sinks", || {
            let mut done = Vec::new();
            if start.elapsed() > PATIENCE {
                let ready = self.sensor().get("/readyz").1;
                eprintln!("waits for {due:?}: {ready}");
            }
            for (&name, &selected) in &due {
                if of(self, "acknowledged_total", name) >= selected {
                    done.push(name);
                }
            }
            for name in done {
                due.remove(name);
                recovered.insert(name, start.elapsed().as_secs_f64());
            }
            due.is_empty().then_some(())
        });
        self.recovered.extend(recovered);
    }

    /// Waits until all that was appended is delivered, stops the sensor, and counts.
    #[track_caller]
    pub(crate) fn end(&mut self, fault: &'static str) -> Vec<Row> {
        let names: Vec<&'static str> = self.receivers.keys().copied().collect();
        self.calm();
        for name in &names {
            let gauge = format!("weir_output_records_spooled{{sink=\"{name}\"}}");
            self.wait(name, || (self.sensor().metric(&gauge) == Some(0.0)).then_some(()));
        }
        self.note_acknowledged();
        self.stop();
        let survey = operator::survey(&self.spool, true).expect("a spool");
        let damaged: u64 = survey.segments.iter().map(|s| s.damaged + s.unfinished).sum();
        assert_eq!((damaged, survey.broken.len()), (0, 0), "{fault}: {survey:?}");
        let mut sent = self.appended();
        let twice = sent.values().filter(|&&count| count > 1).count();
        assert_eq!(twice, 0, "{fault}: appended twice");
        self.known.extend(&sent);
        sent.extend(&self.due);
        let rows = names.iter().map(|&sink| {
            let receiver = &self.receivers[sink];
            let tally = receiver.tally();
            let of = |all: &Tally| -> BTreeSet<Identity> {
                all.keys().map(|&identity| receiver.keeps(identity)).collect()
            };
            let (due, known) = (of(&sent), of(&self.known));
            let mut row = Row {
                fault: fault.to_owned(),
                sink: sink.to_owned(),
                sent: due.len(),
                lost: due.iter().filter(|identity| !tally.contains_key(identity)).count(),
                duplicated: tally.keys().filter(|identity| !known.contains(identity)).count(),
                raw_duplicates: tally.values().map(|&count| count as usize - 1).sum(),
                recovery_s: self.recovered.get(sink).copied().unwrap_or(0.0),
            };
            if !receiver.is_behind_the_spool() {
                // What it never acknowledged a kill may take, and the spool may hold what it never got.
                row.sent = self.finished.len();
                row.lost = self.finished.keys().filter(|id| !tally.contains_key(id)).count();
                row.duplicated = 0;
            } else {
                assert_eq!(due.len(), sent.len(), "{sink} tells all slices apart");
            }
            row
        });
        rows.collect()
    }
}
