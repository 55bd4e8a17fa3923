//! The admin listener: metrics, health, readiness, exporters and rules over HTTP on loopback.
//!
//! It knows nothing of the pipeline: whoever assembles the sensor implements [`Status`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::metrics::Snapshot;
use crate::metrics::table::open_metrics;

/// What the admin listener tells of the running sensor.
pub trait Status: Send + Sync {
    /// All that metrics are read from, gathered now.
    fn snapshot(&self) -> Snapshot;
    /// The exporters' report as JSON.
    fn exporters(&self) -> serde_json::Value;
    /// The rules in force, what came of the last load, and what rules cost, as JSON.
    fn rules(&self) -> serde_json::Value;
    /// Top talkers and the flows of each shard as JSON.
    fn activity(&self) -> serde_json::Value;
    /// Threads whose heartbeat stands still; empty if the sensor is alive.
    fn stalled(&self) -> Vec<String>;
    /// What keeps the sensor from being ready; empty if it is.
    fn unready(&self) -> Vec<String>;
    /// How the spool and each sink behind it stand, as the JSON that readiness tells.
    fn delivery(&self) -> serde_json::Value;
}

/// A running listener. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Binds `listen` and serves `status` on a thread of its own.
    ///
    /// # Errors
    /// The operating system's, with the address.
    pub fn start(listen: SocketAddr, status: Arc<dyn Status>) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot bind admin.listen {listen}: {error}"))
        };
        let listener = TcpListener::bind(listen).map_err(named)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("weir-admin".into()).spawn(move || {
            runtime.block_on(async move {
                let listener = match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => return tracing::error!(%error, "admin listener failed"),
                };
                let stopped = async move { drop(stopped.await) };
                let served = axum::serve(listener, routes(status)).with_graceful_shutdown(stopped);
                if let Err(error) = served.await {
                    tracing::error!(%error, "admin listener failed");
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens; the port is known even if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A client that holds its connection open must not hold the sensor up: the thread
            // ends with the process.
            drop(thread);
        }
    }
}

fn routes(status: Arc<dyn Status>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/exporters", get(exporters))
        .route("/rules", get(rules))
        .route("/activity", get(activity))
        .with_state(status)
}

type Shared = State<Arc<dyn Status>>;

async fn metrics(State(status): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], open_metrics(status.snapshot())).into_response()
}

#[derive(Serialize)]
struct Verdict {
    status: &'static str,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<serde_json::Value>,
}

fn verdict(reasons: Vec<String>, delivery: Option<serde_json::Value>) -> Response {
    let (code, status) = match reasons.is_empty() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    (code, axum::Json(Verdict { status, reasons, delivery })).into_response()
}

async fn healthz(State(status): Shared) -> Response {
    verdict(status.stalled(), None)
}

async fn readyz(State(status): Shared) -> Response {
    verdict(status.unready(), Some(status.delivery()))
}

async fn activity(State(status): Shared) -> Response {
    axum::Json(status.activity()).into_response()
}

async fn exporters(State(status): Shared) -> Response {
    // The answer may have to be waited for; other requests go on meanwhile.
    match tokio::task::spawn_blocking(move || status.exporters()).await {
        Ok(reports) => axum::Json(reports).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn rules(State(status): Shared) -> Response {
    match tokio::task::spawn_blocking(move || status.rules()).await {
        Ok(rules) => axum::Json(rules).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// A plain HTTP GET of `path` from the admin listener at `address`, for the commands: the body.
///
/// # Errors
/// The operating system's, or a status other than 200.
pub fn fetch(address: SocketAddr, path: &str) -> io::Result<String> {
    match ask(address, path)? {
        (200, body) => Ok(body),
        (status, body) => {
            Err(io::Error::other(format!("{address}{path} answered {status}: {body}")))
        }
    }
}

/// As [`fetch`], with whatever status the answer has.
///
/// # Errors
/// The operating system's, or an answer that is not HTTP's.
pub fn ask(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_OCTETS_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let line = head.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{address}{path} answered `{line}`"))
    })?;
    Ok((status, body.to_owned()))
}

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
const ANSWER_OCTETS_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    struct Sick;

    impl Status for Sick {
        fn snapshot(&self) -> Snapshot {
            Snapshot { entries: 3, ..Snapshot::default() }
        }
        fn exporters(&self) -> serde_json::Value {
            serde_json::json!([{"address": "192.0.2.1"}])
        }
        fn rules(&self) -> serde_json::Value {
            serde_json::json!({"loaded": 7})
        }
        fn activity(&self) -> serde_json::Value {
            serde_json::json!({"shards": [1, 2]})
        }
        fn stalled(&self) -> Vec<String> {
            Vec::new()
        }
        fn unready(&self) -> Vec<String> {
            vec!["rules: none loaded".into()]
        }
        fn delivery(&self) -> serde_json::Value {
            serde_json::json!({"sinks": {"siem": {"lag_records": 5}}})
        }
    }

    #[test]
    fn the_admin_listener_answers() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::start(any, Arc::new(Sick)).expect("bound");
        let get = |path| fetch(server.address(), path);
        assert!(get("/metrics").expect("200").contains("weir_flow_table_entries 3\n"));
        assert_eq!(get("/healthz").expect("200"), r#"{"status":"ok","reasons":[]}"#);
        assert_eq!(get("/exporters").expect("200"), r#"[{"address":"192.0.2.1"}]"#);
        assert_eq!(get("/rules").expect("200"), r#"{"loaded":7}"#);
        assert_eq!(get("/activity").expect("200"), r#"{"shards":[1,2]}"#);
        let unready = get("/readyz").expect_err("503").to_string();
        assert!(unready.contains("503") && unready.contains("none loaded"), "{unready}");
        assert!(
            unready.contains(r#""delivery":{"sinks":{"siem":{"lag_records":5}}}"#),
            "{unready}"
        );
        assert!(get("/else").expect_err("404").to_string().contains("404"));
        let taken = Server::start(server.address(), Arc::new(Sick)).expect_err("in use");
        assert!(taken.to_string().starts_with("cannot bind admin.listen 127.0.0.1:"));
    }
}
