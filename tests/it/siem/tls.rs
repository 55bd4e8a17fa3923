//! Certificates for tests, by openssl: an authority, a server `localhost`, a client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// A folder with `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key`.
pub(crate) struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// Makes them; `None`, said so, where there is no openssl.
    pub(crate) fn new() -> Option<Self> {
        if !super::there("openssl") {
            return None;
        }
        let folder = tempfile::TempDir::new().expect("a directory");
        let script = "set -e
            new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \"$@\" 2>/dev/null; }
            new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
            for name in server client; do
                new -subj /CN=$name -keyout $name.key -out $name.csr
                echo 'subjectAltName=DNS:localhost' >ext
                openssl x509 -req -days 2 -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
                    -extfile ext -out $name.pem 2>/dev/null
            done";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output();
        let made = made.expect("sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Some(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server's side; with `clients`, it asks for a certificate of the authority.
    pub(crate) fn server(&self, clients: bool) -> Arc<ServerConfig> {
        let read = |path: &Path| {
            let all = CertificateDer::pem_file_iter(path).expect("certificates");
            all.collect::<Result<Vec<_>, _>>().expect("certificates")
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        let builder = if clients {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(read(&self.path("ca.pem")));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("roots"))
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a key");
        Arc::new(builder.with_single_cert(read(&self.path("server.pem")), key).expect("a pair"))
    }
}
