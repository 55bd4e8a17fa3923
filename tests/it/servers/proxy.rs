//! A TCP proxy that does to connections what networks do: cuts them in mid-stream, holds them up,
//! takes no new ones, or answers in the place of an HTTP server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Octets that no budget ends.
const NO_CUT: i64 = i64::MAX;
/// How often a connection that is held up looks again.
const NAP: Duration = Duration::from_millis(10);

/// The proxy, and what it does now. It ends with the test.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Where to; none before [`Proxy::to`].
    upstream: Mutex<Option<SocketAddr>>,
    /// Both ends of each open connection.
    open: Mutex<Vec<TcpStream>>,
    refuses: AtomicBool,
    stalls: AtomicBool,
    /// Answers are lost: each connection is cut when one comes.
    mutes: AtomicBool,
    delay_ms: AtomicU64,
    /// Octets from clients until all connections are cut.
    cut_after: AtomicI64,
    /// The status that every request is answered with; 0: none, requests go through.
    answers: AtomicU16,
    /// How often connections were cut because their octets were used up.
    cuts: AtomicU64,
    ended: AtomicBool,
}

impl Proxy {
    /// Listens; a connection is taken through once [`Proxy::to`] said where.
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State {
            upstream: Mutex::default(),
            open: Mutex::default(),
            refuses: AtomicBool::default(),
            stalls: AtomicBool::default(),
            mutes: AtomicBool::default(),
            delay_ms: AtomicU64::default(),
            cut_after: AtomicI64::new(NO_CUT),
            answers: AtomicU16::default(),
            cuts: AtomicU64::default(),
            ended: AtomicBool::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    shared.take(stream);
                }
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections go to `upstream` from now on.
    pub(crate) fn to(&self, upstream: SocketAddr) {
        *self.state.upstream.lock().expect("no panic") = Some(upstream);
    }

    /// Cuts every connection now.
    pub(crate) fn cut(&self) {
        self.state.cut();
    }

    /// Cuts every connection once clients have sent so many octets more, in the middle of whatever
    /// they send then.
    pub(crate) fn cut_after(&self, octets: u32) {
        self.state.cut_after.store(i64::from(octets), Ordering::Relaxed);
    }

    /// How often [`Proxy::cut_after`] came to pass.
    pub(crate) fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::Relaxed)
    }

    /// Closes new connections at once, and those that are open; or takes them again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::Relaxed);
        if refuses {
            self.cut();
        }
    }

    /// Lets nothing through and closes nothing, either way; or goes on.
    pub(crate) fn stall(&self, stalls: bool) {
        self.state.stalls.store(stalls, Ordering::Relaxed);
    }

    /// Cuts each connection when its answer comes, before any of it went through; or goes on.
    pub(crate) fn mute(&self, mutes: bool) {
        self.state.mutes.store(mutes, Ordering::Relaxed);
    }

    /// Holds each piece of what clients send for so long.
    pub(crate) fn delay(&self, delay: Duration) {
        let delay = u64::try_from(delay.as_millis()).expect("short");
        self.state.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// Answers every HTTP request on new connections with `status`, after reading what comes; `None`
    /// lets them through.
    pub(crate) fn answer(&self, status: Option<u16>) {
        self.state.answers.store(status.unwrap_or(0), Ordering::Relaxed);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

impl State {
    fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn take(self: &Arc<Self>, client: TcpStream) {
        let status = self.answers.load(Ordering::Relaxed);
        if self.refuses.load(Ordering::Relaxed) {
            return;
        }
        if status != 0 {
            std::thread::spawn(move || answer(client, status));
            return;
        }
        let upstream = *self.upstream.lock().expect("no panic");
        let Some(Ok(server)) = upstream.map(TcpStream::connect) else { return };
        let pairs = [(&client, &server), (&server, &client)];
        for (number, (from, to)) in pairs.into_iter().enumerate() {
            let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("one"));
            let state = Arc::clone(self);
            std::thread::spawn(move || state.carry(from, to, number == 0));
        }
        self.open.lock().expect("no panic").extend([client, server]);
    }

    /// Carries octets one way until either end closes.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, upwards: bool) {
        let mut chunk = [0; 16 << 10];
        while let Ok(octets) = from.read(&mut chunk) {
            if octets == 0 {
                // One end has said all; the other may still answer.
                drop(to.shutdown(Shutdown::Write));
                return;
            }
            while self.stalls.load(Ordering::Relaxed) && !self.ended.load(Ordering::Relaxed) {
                std::thread::sleep(NAP);
            }
            if !upwards && self.mutes.load(Ordering::Relaxed) {
                break;
            }
            let mut passed = octets;
            if upwards {
                std::thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
                passed = self.spend(octets);
            }
            if to.write_all(&chunk[..passed]).is_err() {
                break;
            }
            if passed < octets {
                self.cuts.fetch_add(1, Ordering::Relaxed);
                self.cut();
                break;
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }

    /// How many of `octets` may still pass. Once they are used up, the next connections are whole.
    fn spend(&self, octets: usize) -> usize {
        let spent = |left: i64| match left {
            NO_CUT => None,
            left if left > octets as i64 => Some(left - octets as i64),
            _ => Some(NO_CUT),
        };
        let before = self.cut_after.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent);
        match before {
            Ok(left) if left <= octets as i64 => usize::try_from(left).unwrap_or(0).min(octets - 1),
            _ => octets,
        }
    }
}

/// Reads a request as far as its length says, and answers `status` to it.
fn answer(mut client: TcpStream, status: u16) {
    drop(client.set_read_timeout(Some(Duration::from_secs(5))));
    let mut request = Vec::new();
    let mut chunk = [0; 16 << 10];
    let whole = |request: &[u8]| {
        let head = request.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
        let length =
            text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        Some(request.len() >= head + 4 + length.unwrap_or(0))
    };
    while whole(&request) != Some(true) {
        match client.read(&mut chunk) {
            Ok(octets @ 1..) => request.extend(&chunk[..octets]),
            _ => break,
        }
    }
    let text =
        format!("HTTP/1.1 {status} Told So\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    drop(client.write_all(text.as_bytes()));
    drop(client.shutdown(Shutdown::Write));
}
