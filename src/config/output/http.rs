//! `http` of a sink: how requests are made; what the sinks over HTTP have in common.

use serde::{Deserialize, Serialize};

use super::Report;

/// Batches and bounds of requests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Records of one request, at most: 1 to 100,000.
    pub batch_records_max: usize,
    /// Octets of one request before compression, at most: 1 KiB to 256 MiB. A record that is
    /// larger goes alone.
    pub batch_bytes_max: usize,
    /// Compress requests (gzip).
    pub gzip: bool,
    /// Seconds that one request may take, its answer included: 1 to 600.
    pub timeout_s: u32,
}

impl Default for Http {
    fn default() -> Self {
        Self { batch_records_max: 2_000, batch_bytes_max: 1 << 20, gzip: true, timeout_s: 30 }
    }
}

impl Http {
    pub(super) fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        report.within(&key("http.batch_records_max"), self.batch_records_max, 1..=100_000);
        report.within(&key("http.batch_bytes_max"), self.batch_bytes_max, 1_024..=256 << 20);
        report.within(&key("http.timeout_s"), self.timeout_s, 1..=600);
    }
}

/// Reports a URL that is none, and a build that has no HTTP.
pub(super) fn check_url(url: &str, key: &dyn Fn(&str) -> String, report: &mut Report) {
    if cfg!(not(feature = "http")) {
        report.add(&key("url"), "this build has no feature `http`".into());
    }
    if let Some(fault) = url_fault(url) {
        report.add(&key("url"), fault.into());
    }
}

/// What is wrong with a URL, without the URL itself: it may be a secret.
#[must_use]
pub fn url_fault(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let port = host.strip_prefix(name).and_then(|port| port.strip_prefix(':'));
    if name.is_empty() || url.contains(char::is_whitespace) {
        return Some("must be https://HOST or http://HOST, with port and path");
    }
    if host.contains('@') {
        return Some("must hold no user or password: name the places of those in their own keys");
    }
    let good = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    // The colons of an IPv6 address stand in brackets.
    let bad = !host.ends_with(']') && port.is_some_and(|port| !good(port));
    bad.then_some("must have a port from 1 to 65535, or none")
}
