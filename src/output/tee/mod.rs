//! `[[output.tee]]`: received datagrams, octet for octet, to other collectors.
//!
//! The reader copies what is selected into parcels, a parcel for each batch that it received, and
//! hands them to a thread of the tee's own. It never waits: what does not fit into the tee's queue
//! is dropped and counted. Where the process may open raw sockets, a datagram leaves with the
//! address and port of its exporter, so that the collector behind sees exporters as if it stood in
//! Weir's place.

mod packet;
mod send;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use self::send::Way;
use super::schema::Context;
use super::{Batch, Ledgers, Sink};
use crate::config;
use crate::metrics::TeeCounts;
use crate::net::{Addr, Cidr};

/// The queue was full.
const QUEUE_FULL: &str = "queue_full";

/// Datagrams on their way to the thread that sends them.
#[derive(Debug, Default)]
struct Parcel {
    heads: Vec<Head>,
    octets: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    exporter: (Addr, u16),
    octets: usize,
}

impl Parcel {
    fn datagrams(&self) -> impl Iterator<Item = (Head, &[u8])> {
        let mut at = 0;
        self.heads.iter().map(move |&head| {
            let payload = &self.octets[at..at + head.octets];
            at += head.octets;
            (head, payload)
        })
    }

    fn clear(&mut self) {
        self.heads.clear();
        self.octets.clear();
    }
}

/// What the reader, the thread and whoever asks share.
#[derive(Debug, Default)]
struct Shared {
    /// Octets in the queue.
    queued: AtomicUsize,
    counts: Mutex<TeeCounts>,
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, TeeCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reader's end of one tee. Dropping it sends what is queued, and ends the thread.
#[derive(Debug)]
pub struct Tee {
    allow: Vec<Cidr>,
    exporters: Vec<Cidr>,
    queue_bytes: usize,
    parcel: Parcel,
    sender: Option<Sender<Parcel>>,
    /// Parcels that were sent, to be filled again.
    spent: Receiver<Parcel>,
    shared: Arc<Shared>,
    /// The last end that is dropped waits for it.
    _thread: Arc<Thread>,
}

/// The thread that sends. It ends once no reader's end is left, and is waited for.
#[derive(Debug)]
struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if self.0.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of a tee died");
        }
    }
}

impl Tee {
    /// Another reader's end of the same tee.
    fn again(&self) -> Self {
        Self {
            allow: self.allow.clone(),
            exporters: self.exporters.clone(),
            queue_bytes: self.queue_bytes,
            parcel: Parcel::default(),
            sender: self.sender.clone(),
            spent: self.spent.clone(),
            shared: Arc::clone(&self.shared),
            _thread: Arc::clone(&self._thread),
        }
    }

    /// Takes a datagram in, if it is selected.
    pub fn add(&mut self, exporter: (Addr, u16), payload: &[u8]) {
        let within = |networks: &[Cidr]| {
            networks.is_empty() || networks.iter().any(|network| network.contains(exporter.0))
        };
        if within(&self.allow) && within(&self.exporters) {
            self.parcel.heads.push(Head { exporter, octets: payload.len() });
            self.parcel.octets.extend_from_slice(payload);
        }
    }

    /// Hands on what was taken in. Never waits.
    pub fn flush(&mut self) {
        if self.parcel.heads.is_empty() {
            return;
        }
        let (count, octets) = (self.parcel.heads.len() as u64, self.parcel.octets.len());
        let mut counts = self.shared.counts();
        counts.taken += count;
        let queued = self.shared.queued.load(Ordering::Relaxed);
        let fits = queued == 0 || queued + octets <= self.queue_bytes;
        let Some(sender) = self.sender.as_ref().filter(|_| fits) else {
            counts.dropped.add(QUEUE_FULL, count);
            drop(counts);
            return self.parcel.clear();
        };
        counts.queued += count;
        drop(counts);
        self.shared.queued.fetch_add(octets, Ordering::Relaxed);
        let next = self.spent.try_recv().unwrap_or_default();
        // The thread takes parcels until the sender is gone.
        drop(sender.send(std::mem::replace(&mut self.parcel, next)));
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.flush();
        // Before the thread is let go of.
        drop(self.sender.take());
    }
}

/// Starts `tees`, of datagrams from exporters in `allow` (empty: all). Returns the ends of each of
/// `readers`, and what tells of them.
///
/// # Errors
/// If a socket cannot be opened or a thread not be started.
pub fn start(
    tees: &[config::Tee],
    allow: &[Cidr],
    readers: usize,
) -> io::Result<(Vec<Vec<Tee>>, Told)> {
    let mut told = Told::default();
    let mut started: Vec<Vec<Tee>> = (0..readers).map(|_| Vec::new()).collect();
    for config in tees {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("tee `{}`: {error}", config.name))
        };
        let way = Way::open(config).map_err(named)?;
        let tee = spawn(config, allow, way).map_err(named)?;
        told.0.push((config.name.clone(), Arc::clone(&tee.shared)));
        started.iter_mut().for_each(|ends| ends.push(tee.again()));
    }
    Ok((started, told))
}

fn spawn(config: &config::Tee, allow: &[Cidr], mut way: Way) -> io::Result<Tee> {
    let shared = Arc::new(Shared::default());
    let (sender, parcels) = crossbeam_channel::unbounded::<Parcel>();
    let (back, spent) = crossbeam_channel::bounded(16);
    let counted = Arc::clone(&shared);
    let thread = std::thread::Builder::new().name(format!("tee {}", config.name));
    let thread = thread.spawn(move || {
        for mut parcel in parcels {
            let mut counts = TeeCounts::default();
            for (Head { exporter, octets }, payload) in parcel.datagrams() {
                match way.send(exporter, payload) {
                    Ok(own) => {
                        counts.sent += 1;
                        counts.octets += octets as u64;
                        counts.own_source += u64::from(own);
                    }
                    Err(reason) => counts.dropped.one(reason),
                }
            }
            counted.queued.fetch_sub(parcel.octets.len(), Ordering::Relaxed);
            counted.counts().settle(&counts, parcel.heads.len() as u64);
            parcel.clear();
            // More than are needed are let go.
            drop(back.try_send(parcel));
        }
    })?;
    Ok(Tee {
        allow: allow.to_vec(),
        exporters: config.exporters.clone(),
        queue_bytes: config.queue_bytes,
        parcel: Parcel::default(),
        sender: Some(sender),
        spent,
        shared,
        _thread: Arc::new(Thread(Some(thread))),
    })
}

/// Stands among the sinks for the tees: takes nothing, and tells of them.
#[derive(Debug, Default)]
pub struct Told(Vec<(String, Arc<Shared>)>);

impl Told {
    /// Whether there is nothing to tell of.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Sink for Told {
    fn offer(&self, _: &Arc<Batch>) {}

    fn offer_blocking(&self, _: &Arc<Batch>) {}

    fn ledgers(&self) -> Ledgers {
        Ledgers::new()
    }

    fn tees(&self) -> BTreeMap<String, TeeCounts> {
        self.0.iter().map(|(name, shared)| (name.clone(), shared.counts().clone())).collect()
    }

    fn set_context(&self, _: Context) {}

    fn faults(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn close(&self) -> Ledgers {
        Ledgers::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    /// A tee to a socket of the test's own, without raw sockets.
    fn tee(exporters: &[&str], queue_bytes: usize) -> (UdpSocket, Vec<Tee>, Told) {
        let collector = UdpSocket::bind("127.0.0.1:0").expect("a port");
        collector.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let address = collector.local_addr().expect("bound");
        let exporters = exporters.iter().map(|text| text.parse().expect("a network")).collect();
        let config =
            config::Tee { address, exporters, keep_source: false, queue_bytes, ..<_>::default() };
        let (tees, told) =
            start(&[config], &["10.0.0.0/8".parse().expect("one")], 1).expect("a tee");
        let tees = tees.into_iter().next().expect("of one reader");
        (collector, tees, told)
    }

    fn addr(text: &str) -> Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_selected_goes_as_it_came_and_in_order() {
        let (collector, mut tees, told) = tee(&["10.1.0.0/16", "10.2.0.0/16"], 1 << 20);
        let long = vec![7; 9_000];
        for (exporter, payload) in [
            ("10.1.2.3", &b"one"[..]),
            ("10.3.0.1", b"another exporter"),
            ("192.0.2.1", b"not let in"),
            ("10.2.0.1", b""),
            ("10.2.0.1", &long),
        ] {
            tees[0].add((addr(exporter), 2_000), payload);
        }
        tees[0].flush();
        let mut got = vec![0; 65_535];
        for want in [&b"one"[..], b"", &long] {
            let octets = collector.recv(&mut got).expect("a datagram");
            assert_eq!(&got[..octets], want);
        }
        drop(tees);
        let counts = told.tees()["tee"].clone();
        assert_eq!((counts.taken, counts.sent, counts.own_source), (3, 3, 3), "{counts:?}");
        assert_eq!((counts.octets, counts.queued), (9_003, 0), "{counts:?}");
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_nothing_waits() {
        let (_collector, mut tees, told) = tee(&[], 65_536);
        let payload = vec![1; 1_400];
        for _ in 0..3_000 {
            for _ in 0..40 {
                tees[0].add((addr("10.0.0.1"), 1), &payload);
            }
            tees[0].flush();
            let counts = told.tees()["tee"].clone();
            let all = counts.sent + counts.queued + counts.dropped.total();
            assert_eq!(counts.taken, all, "{counts:?}");
        }
        drop(tees);
        let counts = told.tees()["tee"].clone();
        assert_eq!((counts.taken, counts.queued), (120_000, 0), "{counts:?}");
        assert!(counts.dropped.of(QUEUE_FULL) > 0 && counts.sent > 0, "{counts:?}");
        assert_eq!(counts.octets, counts.sent * 1_400);
    }
}
