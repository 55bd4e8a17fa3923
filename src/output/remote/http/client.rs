//! Requests and answers: `reqwest` on a runtime of the sink's own thread.

use std::error::Error as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use tokio::runtime::{Builder, Runtime};

use super::{HttpError, retry_after};
use crate::config;
use crate::output::remote::stream::Stream;
use crate::output::remote::tls;
use crate::output::spool::{Failure, Stop};

/// Octets of an answer that are read; what is told of it is shorter.
const ANSWER_OCTETS: usize = 32 << 20;
/// Characters of an answer that a message has.
const TOLD: usize = 300;
/// Between two looks whether the sensor's time is over.
const LOOK: Duration = Duration::from_millis(100);

/// How a sink is told to go without TLS.
const PLAIN: &str = "begin the URL with http://, or take the port that has TLS";

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub url: String,
    /// The URL as messages may show it.
    pub shown: String,
    pub content_type: &'static str,
    pub headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// The pause that it asks for.
    pub after: Option<Duration>,
    /// Octets of the request's body, as sent.
    pub sent: u64,
    /// Where the request went, as messages may show it.
    url: String,
}

impl Answer {
    /// Status and beginning of the answer, for a message.
    pub(super) fn told(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text.trim().chars().take(TOLD).collect();
        let text = text.replace(|c: char| c.is_control(), " ");
        format!("{} answered {}: {text}", self.url, self.status)
    }

    /// The answer as a failure that may pass.
    pub(super) fn refused(&self) -> Failure {
        let reason = match self.status {
            401 | 403 => "credentials",
            404 => "missing",
            408 | 429 | 503 => "busy",
            500.. => "server",
            _ => "refused",
        };
        Failure::Later { reason, message: self.told(), after: self.after }
    }
}

/// Makes requests.
pub(super) struct Client {
    client: reqwest::Client,
    runtime: Runtime,
    gzip: bool,
    tls: Arc<rustls::ClientConfig>,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(http: &config::Http, tls: &config::Tls) -> Result<Self, HttpError> {
        let failed = |error: &dyn std::fmt::Display| HttpError::Client(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let (tls, timeout) = (tls::client(tls)?, Duration::from_secs(http.timeout_s.into()));
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .timeout(timeout)
            .connect_timeout(Duration::from_secs(http.timeout_s.min(10).into()))
            .pool_max_idle_per_host(1)
            // A record that is sent must not end in some other place than the one configured.
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")));
        let client = client.build().map_err(|error| failed(&error))?;
        Ok(Self { client, runtime, gzip: http.gzip, tls: Arc::new(tls), timeout })
    }

    /// Tries whether a server is where `head` goes, and by TLS where it should be: without a request, as not
    /// every service has one that does nothing.
    ///
    /// # Errors
    /// [`Failure::Later`].
    pub(super) fn probe(&self, head: &Head) -> Result<(), Failure> {
        let shown = |error: &dyn std::fmt::Display| {
            Failure::later("connect", format!("{}: {error}", head.shown))
        };
        let url = reqwest::Url::parse(&head.url).map_err(|error| shown(&error))?;
        let host = url.host_str().ok_or_else(|| shown(&"expected a host"))?;
        let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        let tls = (url.scheme() == "https").then_some(&self.tls);
        Stream::connect(&address, (tls, PLAIN), self.timeout).map(drop)
    }

    /// Sends `body` and reads the answer.
    ///
    /// # Errors
    /// [`Failure::Later`] if there is none, [`Failure::Stopped`] if the sensor's time was over.
    pub(super) fn post(&self, head: &Head, body: Vec<u8>, stop: &Stop) -> Result<Answer, Failure> {
        let mut request = self.client.post(&head.url).header(CONTENT_TYPE, head.content_type);
        for (name, value) in &head.headers {
            request = request.header(name, value);
        }
        let body = if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
            let room = Vec::with_capacity(body.len() / 4);
            let mut encoder = GzEncoder::new(room, Compression::fast());
            let packed = encoder.write_all(&body).and_then(|()| encoder.finish());
            packed.expect("memory takes all")
        } else {
            body
        };
        let sent = body.len() as u64;
        let exchange = async {
            let mut response = request.body(body).send().await?;
            let status = response.status().as_u16();
            let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let after = after.and_then(|value| retry_after(value, jiff::Timestamp::now()));
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                if body.len() < ANSWER_OCTETS {
                    body.extend_from_slice(&chunk);
                }
            }
            Ok::<_, reqwest::Error>((status, after, body))
        };
        let over = async {
            while !stop.over() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let place = || head.shown.clone();
        let answered = self.runtime.block_on(async {
            tokio::select! {
                answered = exchange => Some(answered),
                () = over => None,
            }
        });
        match answered {
            None => Err(Failure::Stopped),
            Some(Ok((status, after, body))) => {
                Ok(Answer { status, body, after, sent, url: place() })
            }
            Some(Err(error)) => Err(Failure::later(reason(&error), told(error, &place()))),
        }
    }
}

fn reason(error: &reqwest::Error) -> &'static str {
    match error {
        error if error.is_timeout() => "timeout",
        error if error.is_connect() => "connect",
        _ => "cut",
    }
}

/// The error with its causes, of which the last says most; without the URL, which may be a secret.
fn told(error: reqwest::Error, place: &str) -> String {
    let error = error.without_url();
    let mut text = format!("{place}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    if let Some(hint) = tls::hint(&text, "tls.ca_file", PLAIN) {
        text += &format!(": {hint}");
    }
    text
}
