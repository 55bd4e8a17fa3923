//! `tls` of a sink: whom it trusts, and who it is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Report;

/// TLS of a connection that a sink opens. The server's certificate is verified against the system's
/// authorities unless `verify` says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A file of certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Own certificate and its chain (PEM), for servers that ask for one.
    pub certificate_file: Option<PathBuf>,
    /// Its private key (PEM, not encrypted).
    pub key_file: Option<PathBuf>,
    /// Whether the server's certificate and name are verified. Without, anybody can read along:
    /// warned of at start.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca_file: None, certificate_file: None, key_file: None, verify: true }
    }
}

impl Tls {
    pub(super) fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            let message = "certificate_file and key_file go together";
            report.add(&key("tls.certificate_file"), message.into());
        }
    }

    pub(super) fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        let files = [&mut self.ca_file, &mut self.certificate_file, &mut self.key_file];
        files.into_iter().flatten().for_each(absolute);
    }
}
