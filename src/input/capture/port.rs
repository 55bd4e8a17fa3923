//! An interface over the life of the sensor: it may be down at the start, go down, go away and come
//! back.
//!
//! Readers of one interface belong together: they share a fanout group, or the program that fills
//! their sockets. So the first that finds the interface made anew opens it for all of them, and each
//! takes its own part.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::socket::{self, Link};
use super::{CaptureError, Drops, Filter, Listener, Live};
use crate::config::{self, Backend};
use crate::input::pcap::Packet;

/// Errors in a row, with the interface up, after which a reader gives up.
const ERRORS_MAX: u32 = 3;

/// How an interface stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Up,
    /// Packets may come again at any time.
    NoCarrier,
    Down,
    /// It is not there, or another of its name is.
    Gone,
}

/// What all readers of one interface share.
#[derive(Debug)]
struct Port {
    config: config::Capture,
    listeners: Vec<Listener>,
    opened: Mutex<Opened>,
}

/// The parts of an open interface, until their readers take them.
#[derive(Debug)]
struct Opened {
    /// How often it was opened.
    generation: u64,
    /// The index of the interface; `None` of what libpcap alone knows by its name.
    index: Option<libc::c_int>,
    lives: Vec<Option<Live>>,
}

/// What one reader has of an interface: packets while it is up, patience while it is not.
#[derive(Debug)]
pub struct Share {
    port: Arc<Port>,
    reader: usize,
    generation: u64,
    index: Option<libc::c_int>,
    /// `None` before the interface is up, and when it is gone.
    live: Option<Live>,
    /// Drops of what was open before.
    before: Drops,
    /// Those of what is open, at the last look.
    last: Drops,
    errors: u32,
}

/// Opens the interface of `config` as [`Live::open`] does, one share for each reader. An interface
/// that is down is waited for.
///
/// # Errors
/// [`CaptureError`] if the interface does not exist, cannot be opened although it is up, or the
/// filter does not compile.
pub fn open(
    config: &config::Capture,
    listeners: Vec<Listener>,
) -> Result<Vec<Share>, CaptureError> {
    let readers = if config.backend == Backend::Libpcap { 1 } else { config.readers };
    let index = socket::index_of(&config.interface).ok();
    let lives = match Live::open(config, &listeners) {
        Ok(lives) => lives.into_iter().map(Some).collect(),
        Err(CaptureError::Down { .. }) => {
            if !config.filter.is_empty() {
                Filter::new(&config.filter)?;
            }
            (0..readers).map(|_| None).collect()
        }
        Err(error) => return Err(error),
    };
    let opened = Mutex::new(Opened { generation: 0, index, lives });
    let port = Arc::new(Port { config: config.clone(), listeners, opened });
    let share = |reader: usize| {
        let port = Arc::clone(&port);
        let live = port.lock().lives[reader].take();
        let (before, last) = (Drops::default(), Drops::default());
        Share { port, reader, generation: 0, index, live, before, last, errors: 0 }
    };
    Ok((0..readers).map(share).collect())
}

impl Port {
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the interface stands that had `index` when it was opened.
    fn standing(&self, index: Option<libc::c_int>) -> Standing {
        let name = &self.config.interface;
        if index.is_none() {
            return Standing::Up;
        }
        if socket::index_of(name).ok() != index {
            return Standing::Gone;
        }
        match UnixDatagram::unbound().and_then(|asking| socket::link(&asking, name)) {
            Ok(Link::Down) => Standing::Down,
            Ok(Link::NoCarrier) => Standing::NoCarrier,
            Ok(Link::Up) | Err(_) => Standing::Up,
        }
    }

    /// The part of `reader` of a later generation than `known`: of one that another reader opened, or
    /// of a new one.
    fn reopen(&self, reader: usize, known: u64) -> Result<(Opened, Live), CaptureError> {
        let mut opened = self.lock();
        if opened.generation == known {
            let index = socket::index_of(&self.config.interface).ok();
            let lives = Live::open(&self.config, &self.listeners)?.into_iter().map(Some).collect();
            *opened = Opened { generation: known + 1, index, lives };
        }
        let Opened { generation, index, .. } = *opened;
        match opened.lives[reader].take() {
            Some(live) => Ok((Opened { generation, index, lives: Vec::new() }, live)),
            None => Err(CaptureError::Down { interface: self.config.interface.clone() }),
        }
    }
}

impl Share {
    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.port.config.interface
    }

    /// Whether this is the first of the interface's readers.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.reader == 0
    }

    /// See [`Live::next`]; `None` while the interface is not open.
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::should_implement_trait, reason = "the packet is lent, an iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        self.live.as_mut().map_or(Ok(None), Live::next)
    }

    /// See [`Live::wait`]; while the interface is not open, `wait` passes.
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, wait: Duration) -> Result<bool, CaptureError> {
        match &self.live {
            Some(live) => live.wait(wait),
            None => {
                std::thread::sleep(wait);
                Ok(false)
            }
        }
    }

    /// See [`Live::filled`].
    #[must_use]
    pub fn filled(&self) -> (u64, u64) {
        self.live.as_ref().map_or((0, 0), Live::filled)
    }

    /// See [`Live::seal`].
    pub fn seal(&mut self) -> bool {
        self.live.as_mut().is_some_and(Live::seal)
    }

    /// What was dropped since the start, over all that was opened. A system call: ask once a second,
    /// not per packet.
    pub fn drops(&mut self) -> Drops {
        // Of an interface that is gone the last answer holds.
        if let Some(Ok(drops)) = self.live.as_mut().map(Live::drops) {
            self.last = drops;
        }
        let Drops { kernel, interface } = self.before;
        Drops { kernel: kernel + self.last.kernel, interface: interface + self.last.interface }
    }

    /// Whether what is open will never give another packet, but those that it holds: its interface
    /// is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.live.is_some() && self.port.standing(self.index) == Standing::Gone
    }

    /// Looks after the interface, once a second and after an error: opens it where it came up or back.
    /// Returns why there are no packets, `None` if there may be.
    ///
    /// # Errors
    /// `error`, if it came again and again although the interface is up.
    pub fn look(&mut self, error: Option<CaptureError>) -> Result<Option<String>, CaptureError> {
        let standing = self.port.standing(self.index);
        if let (Some(error), Standing::Up) = (&error, standing) {
            self.errors += 1;
            if self.errors >= ERRORS_MAX {
                return Err(error.clone());
            }
        } else {
            self.errors = 0;
        }
        if standing == Standing::Gone && self.live.is_some() {
            self.before = self.drops();
            self.last = Drops::default();
            self.live = None;
        }
        let carries = |standing| match standing {
            Standing::NoCarrier => Some("it has no carrier".to_owned()),
            _ => None,
        };
        match standing {
            Standing::Down => Ok(Some("it is down".to_owned())),
            Standing::Up | Standing::NoCarrier if self.live.is_some() => Ok(carries(standing)),
            _ => Ok(self.reopen().or_else(|| carries(standing))),
        }
    }

    /// Opens the interface where that is possible; why not, else.
    fn reopen(&mut self) -> Option<String> {
        let there = socket::index_of(self.interface()).ok();
        if there.is_none() {
            return Some("it is not there".to_owned());
        }
        if !matches!(self.port.standing(there), Standing::Up | Standing::NoCarrier) {
            return Some("it is down".to_owned());
        }
        match self.port.reopen(self.reader, self.generation) {
            Ok((Opened { generation, index, .. }, live)) => {
                (self.generation, self.index, self.live) = (generation, index, Some(live));
                None
            }
            Err(CaptureError::Down { .. }) => Some("it is down".to_owned()),
            Err(CaptureError::NoInterface { .. }) => Some("it is not there".to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }
}
