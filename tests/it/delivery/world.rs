//! A sensor with every sink, slices that flow through it, and what came of them.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use weir::config::Select;
use weir::output::spool::operator;

use super::receivers::{Receivers, S3_SECRET, SECRET, Tally, credentials, identities};
use crate::netflow::build::{fixed, fixed_record};
use crate::system::{Bench, Sensor, free_ports, kill, reap, wait_for, weir};

/// Flows of a datagram: as many as v5 has.
const FLOWS: u32 = 30;
/// Seconds until flows are idle, and their slices are cut.
const IDLE_S: u64 = 1;
/// `spool.sync_interval_ms`.
pub(crate) const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Slices that are sent, and so many in a second.
    pub(crate) slices: u32,
    pub(crate) per_second: u32,
    /// How long a fault lasts.
    pub(crate) fault: Duration,
    /// How often the sensor is killed.
    pub(crate) kills: u32,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) fault: &'static str,
    pub(crate) sink: &'static str,
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

/// Sends flows of its own at a rate, in a thread, until all are sent.
pub(crate) struct Feed {
    sent: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    fn start(port: u16, size: Size) -> Self {
        let (sent, stop) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
        let (told, stops) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let (start, mut next) = (Instant::now(), 0);
            while next < size.slices && !stops.load(Ordering::Relaxed) {
                let due = start.elapsed().as_secs_f64() * f64::from(size.per_second);
                while f64::from(next) < due && next < size.slices {
                    // While the sensor is dead nobody takes it.
                    drop(socket.send_to(&datagram(next), ("127.0.0.1", port)));
                    next += FLOWS;
                }
                told.store(next, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
            told.store(u32::MAX, Ordering::Relaxed);
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// Waits until so many are sent.
    pub(crate) fn reaches(&self, flows: u32) {
        while self.sent.load(Ordering::Relaxed) < flows {
            std::thread::sleep(Duration::from_millis(2));
        }
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
    spool: PathBuf,
    ports: (u16, u16),
    sensor: Option<Sensor>,
    /// When the fault ended, and the seconds that each sink took from then on.
    recovered: BTreeMap<&'static str, f64>,
}

impl<'a> World<'a> {
    /// Makes everything, with the spool at `spool`; the sensor is not started.
    pub(crate) fn new(size: Size, spool: PathBuf, receivers: &'a mut Receivers) -> Self {
        let bench = Bench::new();
        bench.write("secret", format!("{SECRET}\n")).write("aws", credentials(S3_SECRET));
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
        for (name, receiver) in &*receivers {
            config += &receiver.table(name);
        }
        let ports = free_ports();
        Sensor::configure(&bench, &config, ports);
        let (due, known, recovered) = (Tally::new(), Tally::new(), BTreeMap::new());
        Self { bench, size, receivers, due, known, spool, ports, sensor: None, recovered }
    }

    pub(crate) fn start(&mut self) {
        self.sensor = Some(Sensor::spawn(weir(), &self.bench, self.ports).ready());
    }

    /// Sends as many slices as the size says, or goes on until the feed is dropped.
    pub(crate) fn feed(&self, endless: bool) -> Feed {
        let slices = if endless { u32::MAX } else { self.size.slices };
        Feed::start(self.ports.0, Size { slices, ..self.size })
    }

    /// Waits until the sensor that runs has appended so many records.
    #[track_caller]
    pub(crate) fn appends(&self, records: u32) {
        self.sensor().reaches("weir_spool_records_appended_total", records.into());
    }

    #[track_caller]
    pub(crate) fn sensor(&self) -> &Sensor {
        self.sensor.as_ref().expect("a sensor that runs")
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut sensor = self.sensor.take().expect("a sensor that runs");
        kill(&sensor.process, libc::SIGKILL);
        reap(&mut sensor.process);
    }

    /// SIGTERM; ends well.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.sensor.take().expect("a sensor that runs").stop();
    }

    /// What stands in the spool now: it keeps what is delivered, too.
    pub(crate) fn appended(&self) -> Tally {
        let survey = operator::survey(&self.spool, false).expect("a spool");
        let mut appended = Tally::new();
        for segment in &survey.segments {
            let (mut text, number) = (Vec::new(), segment.number);
            operator::records(&self.spool, number, Select::Slices, &mut text).expect("readable");
            let text = String::from_utf8(text).expect("JSON is UTF-8");
            identities(&text).for_each(|identity| *appended.entry(identity).or_default() += 1);
        }
        appended
    }

    /// Waits until each sink has acknowledged what was selected for it when this was called, and
    /// notes how long that took.
    pub(crate) fn recover(&mut self) {
        let start = Instant::now();
        let names: Vec<&'static str> = self.receivers.keys().copied().collect();
        let of = |world: &Self, what: &str, sink: &str| {
            let name = format!("weir_output_records_{what}{{sink=\"{sink}\"}}");
            world.sensor().metric(&name).unwrap_or(0.0)
        };
        let mut due: BTreeMap<_, _> =
            names.iter().map(|&name| (name, of(self, "selected_total", name))).collect();
        wait_for("the sinks", || {
            let mut done = Vec::new();
            for (&name, &selected) in &due {
                if of(self, "acknowledged_total", name) >= selected {
                    done.push(name);
                }
            }
            for name in done {
                due.remove(name);
                self.recovered.insert(name, start.elapsed().as_secs_f64());
            }
            due.is_empty().then_some(())
        });
    }

    /// Waits until all that was appended is delivered, stops the sensor, and counts.
    #[track_caller]
    pub(crate) fn end(&mut self, fault: &'static str) -> Vec<Row> {
        let names: Vec<&'static str> = self.receivers.keys().copied().collect();
        let quiet = Duration::from_millis(300);
        let mut last = (0.0, Instant::now());
        wait_for("the last slice", || {
            let shipped = self.sensor().metric("weir_flow_slices_shipped_total").unwrap_or(0.0);
            let held = self.sensor().metric("weir_flow_slices_held").unwrap_or(1.0);
            if shipped != last.0 {
                last = (shipped, Instant::now());
            }
            (held == 0.0 && last.1.elapsed() > quiet).then_some(())
        });
        for name in &names {
            let gauge = format!("weir_output_records_spooled{{sink=\"{name}\"}}");
            wait_for(name, || (self.sensor().metric(&gauge) == Some(0.0)).then_some(()));
        }
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
            let tally = self.receivers[sink].tally();
            Row {
                fault,
                sink,
                sent: sent.len(),
                lost: sent.keys().filter(|identity| !tally.contains_key(identity)).count(),
                duplicated: tally
                    .keys()
                    .filter(|identity| !self.known.contains_key(identity))
                    .count(),
                raw_duplicates: tally.values().map(|&count| count as usize - 1).sum(),
                recovery_s: self.recovered.get(sink).copied().unwrap_or(0.0),
            }
        });
        rows.collect()
    }
}
