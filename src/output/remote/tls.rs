//! TLS of connections that sinks open, by rustls: the system's authorities, others where the
//! configuration names them, and a certificate of one's own.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use crate::config::Tls;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has not what it should.
    #[error("{file}: {error}: expected {expected} in PEM")]
    File {
        /// Which.
        file: String,
        /// What was expected.
        expected: &'static str,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or the system has no authorities.
    #[error("TLS: {0}")]
    Refused(#[from] rustls::Error),
}

/// A client's side of TLS as `tls` has it. Without `tls.verify` every certificate is taken.
///
/// # Errors
/// [`TlsError`].
pub fn client(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if tls.verify {
        let extra = tls.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        Arc::new(Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?)
    } else {
        Arc::new(Anyone(Arc::clone(&provider)))
    };
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let (Some(certificate), Some(key)) = (&tls.certificate_file, &tls.key_file) else {
        return Ok(client.with_no_client_auth());
    };
    let chain = certificates(certificate)?;
    Ok(client.with_client_auth_cert(chain, private_key(key)?)?)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let key = regular(file).and_then(|()| PrivateKeyDer::from_pem_file(file));
    key.map_err(|error| wrong(file, "a private key that is not encrypted", error))
}

/// What is wrong with the files of `tls`, each with its key in the sink's table.
#[must_use]
pub fn faults(tls: &Tls) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    let files = [
        ("tls.ca_file", tls.ca_file.as_deref()),
        ("tls.certificate_file", tls.certificate_file.as_deref()),
    ];
    for (key, file) in files {
        if let Some(Err(error)) = file.map(certificates) {
            faults.push((key, error.to_string()));
        }
    }
    if let Some(file) = &tls.key_file
        && let Err(error) = private_key(file)
    {
        faults.push(("tls.key_file", error.to_string()));
    }
    // That they do not fit, or that the system trusts nobody.
    if faults.is_empty()
        && let Err(error) = client(tls)
    {
        let key = if tls.key_file.is_some() { "tls.key_file" } else { "tls" };
        faults.push((key, error.to_string()));
    }
    faults
}

/// What to set where TLS failed with the message `text`, as rustls has it: `authority` is the key that
/// names whom to trust, `plain` how the sink is told to go without TLS.
#[must_use]
pub fn hint(text: &str, authority: &str, plain: &str) -> Option<String> {
    let has = |part: &str| text.contains(part);
    let certificate = has("invalid peer certificate");
    Some(match () {
        () if certificate && has("UnknownIssuer") => format!(
            "expected a certificate of an authority that is trusted: set {authority} to the file (PEM) \
             of the one that issued it"
        ),
        () if certificate && (has("not valid for") || has("NotValidForName")) => {
            "expected a certificate that has this host's name: name the host as its certificate does"
                .to_owned()
        }
        () if certificate && (has("xpired") || has("NotValidYet")) => {
            "expected a certificate that is valid now: look at its dates and at this host's clock"
                .to_owned()
        }
        () if certificate && has("CaUsedAsEndEntity") => {
            "expected a certificate of a server, and this is one of an authority (CA:TRUE): have it issued \
             without that"
                .to_owned()
        }
        () if has("InvalidContentType") || has("wrong version number") => {
            format!("expected a server that speaks TLS, and this one does not: {plain}")
        }
        () if has("CertificateRequired") || has("HandshakeFailure") || has("BadCertificate") => {
            "the server wants a certificate of ours: set tls.certificate_file and tls.key_file"
                .to_owned()
        }
        () => return None,
    })
}

/// Reads the certificates in `file`.
///
/// # Errors
/// [`TlsError::File`].
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| wrong(file, "certificates", error);
    regular(file).map_err(wrong)?;
    let found = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if found.is_empty() {
        return Err(wrong(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// What is no file may keep whoever reads it waiting, or have no end.
fn regular(file: &Path) -> Result<(), rustls::pki_types::pem::Error> {
    match std::fs::metadata(file) {
        Ok(about) if !about.is_file() => {
            let error = std::io::Error::other("it is no regular file");
            Err(rustls::pki_types::pem::Error::Io(error))
        }
        _ => Ok(()),
    }
}

fn wrong(file: &Path, expected: &'static str, error: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::File { file: file.display().to_string(), expected, error }
}

/// Takes every certificate: what `tls.verify = false` asks for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
