//! A small strict HTTP server: one request after the other on each connection, gzip opened, faults on
//! demand.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::read::GzDecoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request, its body opened.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }
}

/// What the server does instead of its work, for the next requests.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Answers so.
    Answers(Answer),
    /// Closes the connection after so many octets of the request's body.
    CutsAfter(usize),
    /// Does its work, and closes before it answers.
    ForgetsToAnswer,
    /// Waits before it answers.
    Waits(Duration),
}

type Handler = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// The server; it ends with the test.
pub(crate) struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether anything but POST is a fault of the client.
    posts: bool,
    handler: Handler,
    tls: Option<Arc<ServerConfig>>,
    faults: Mutex<Vec<Fault>>,
    requests: AtomicU64,
    ended: AtomicBool,
}

impl Server {
    /// Listens on a free port and has `handler` answer.
    pub(crate) fn new(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::with(listener, None, Arc::new(handler), true)
    }

    /// The same for requests of every method.
    pub(crate) fn any(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::with(listener, None, Arc::new(handler), false)
    }

    /// The same by TLS.
    pub(crate) fn tls(
        tls: Arc<ServerConfig>,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::with(listener, Some(tls), Arc::new(handler), true)
    }

    /// The same on a port that was free before.
    pub(crate) fn at(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        Self::with(listener, None, Arc::new(handler), true)
    }

    fn with(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        handler: Handler,
        posts: bool,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        let (faults, requests) = (Mutex::default(), AtomicU64::default());
        let ended = AtomicBool::default();
        let shared = Arc::new(Shared { posts, handler, tls, faults, requests, ended });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if server.ended.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), server) = (client, Arc::clone(&server)) else { continue };
                std::thread::spawn(move || drop(server.serve(client)));
            }
        });
        Self { address, shared }
    }

    /// `http://ADDRESS` or `https://localhost:PORT`.
    pub(crate) fn url(&self) -> String {
        match self.shared.tls {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    /// The next requests meet these faults, in this order.
    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.shared.faults.lock().expect("no panic") = faults.into_iter().collect();
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Shared {
    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        let stream: Box<dyn Both> = match &self.tls {
            None => Box::new(client),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls)).expect("a configuration");
                Box::new(StreamOwned::new(connection, client))
            }
        };
        let mut stream = BufReader::new(stream);
        while self.one(&mut stream)? {
            if self.ended.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    }

    /// Whether the connection goes on.
    fn one(&self, stream: &mut BufReader<Box<dyn Both>>) -> std::io::Result<bool> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        if self.ended.load(Ordering::Relaxed) {
            return Ok(false);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = words.next().zip(words.next()).expect("a request line");
        assert!(!self.posts || method == "POST", "not a POST: {line}");
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|value| value.parse().ok());
        let none = (!self.posts).then_some(0);
        let length: usize = length.or(none).unwrap_or_else(|| panic!("no length: {headers:?}"));
        let mut faults = self.faults.lock().expect("no panic");
        let fault = if faults.is_empty() { None } else { Some(faults.remove(0)) };
        drop(faults);
        if let Some(Fault::CutsAfter(octets)) = fault {
            stream.read_exact(&mut vec![0; octets.min(length)])?;
            return Ok(false);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let mut text = String::new();
        match headers.get("content-encoding").map(String::as_str) {
            Some("gzip") => drop(GzDecoder::new(&*body).read_to_string(&mut text)?),
            None => text = String::from_utf8(body).expect("UTF-8"),
            Some(other) => panic!("content-encoding {other}"),
        }
        let request = Request { method, path, headers, body: text };
        let answer = match fault {
            Some(Fault::Answers(answer)) => answer,
            Some(Fault::ForgetsToAnswer) => {
                (self.handler)(&request);
                return Ok(false);
            }
            Some(Fault::Waits(time)) => {
                std::thread::sleep(time);
                (self.handler)(&request)
            }
            _ => (self.handler)(&request),
        };
        let Answer { status, headers, body } = answer;
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let stream = stream.get_mut();
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        stream.flush()?;
        Ok(true)
    }
}
