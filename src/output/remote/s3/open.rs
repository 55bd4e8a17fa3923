//! The stores themselves: by scheme, with credentials, certificates and encryption.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{Certificate, ClientOptions, CredentialProvider, Error, RetryConfig};

use super::Place;
use crate::config::output::{Compression, Encryption};
use crate::config::{Format, S3, Secret};
use crate::output::remote::secret::{self, Revealed, reveal};
use crate::output::remote::tls;

/// The store that `config` names.
///
/// # Errors
/// As [`super::Store::new`].
pub(super) fn open(config: &S3) -> io::Result<Place> {
    let named = |error: Error| io::Error::other(format!("output.s3 {}: {error}", config.name));
    let client = client(config)?;
    // The spool tries again by itself, and tells of it.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let (scheme, bucket) = config.url.split_once("://").unwrap_or_default();
    let bucket = bucket.trim_end_matches('/');
    match scheme {
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            if let Some(path) = &config.credentials_file {
                builder = builder.with_service_account_path(path.display().to_string());
            }
            if !config.endpoint.is_empty() {
                builder = builder.with_base_url(&config.endpoint);
            }
            let store = builder.with_client_options(client).with_retry(retry).build();
            Ok(Place { store: Arc::new(store.map_err(named)?), credentials: None })
        }
        "az" => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            if !config.access_key_id.is_empty() {
                builder = builder.with_account(&config.access_key_id);
            }
            if let Some(key) = secret(config, config.secret_access_key.as_ref())? {
                builder = builder.with_access_key(key.expose());
            }
            if !config.endpoint.is_empty() {
                builder = builder.with_endpoint(config.endpoint.clone());
            }
            let store = builder.with_client_options(client).with_retry(retry).build();
            Ok(Place { store: Arc::new(store.map_err(named)?), credentials: None })
        }
        _ => {
            let builder = amazon(config, bucket)?.with_client_options(client).with_retry(retry);
            let store = builder.build().map_err(named)?;
            let credentials = Some(Arc::clone(store.credentials()));
            Ok(Place { store: Arc::new(store), credentials })
        }
    }
}

/// What is wrong with `config` before the store is asked, each with its key in the table.
#[must_use]
pub fn faults(config: &S3) -> Vec<(&'static str, String)> {
    let mut faults = Vec::new();
    if let Some(Err(error)) = config.ca_file.as_deref().map(tls::certificates) {
        faults.push(("ca_file", error.to_string()));
    }
    if let Some(path) = &config.credentials_file {
        let profile = Profile { path: path.clone(), name: config.profile.clone() };
        let amazon = !config.url.starts_with("gs://") && !config.url.starts_with("az://");
        let found = if amazon { profile.read().map(drop) } else { read(path).map(drop) };
        faults.extend(found.err().map(|error| ("credentials_file", error.to_string())));
    }
    if faults.is_empty() {
        let key = if config.credentials_file.is_some() { "credentials_file" } else { "url" };
        faults.extend(open(config).err().map(|error| (key, error.to_string())));
    }
    faults
}

fn amazon(config: &S3, bucket: &str) -> io::Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(config.virtual_hosts);
    if !config.endpoint.is_empty() {
        builder = builder.with_endpoint(&config.endpoint);
    }
    if let Some(path) = &config.credentials_file {
        let file = Profile { path: path.clone(), name: config.profile.clone() };
        // What is not there at the start is an error then, not a fault for hours.
        file.read()?;
        builder = builder.with_credentials(Arc::new(file));
    }
    if let Some(key) = secret(config, config.secret_access_key.as_ref())? {
        builder = builder.with_access_key_id(&config.access_key_id);
        builder = builder.with_secret_access_key(key.expose());
    }
    if let Some(token) = secret(config, config.session_token.as_ref())? {
        builder = builder.with_token(token.expose());
    }
    Ok(match (config.encryption, config.kms_key.as_str()) {
        (Encryption::None, _) => builder,
        (Encryption::Aes256, _) => encrypted(builder, "AES256"),
        (Encryption::Kms, "") => encrypted(builder, "aws:kms"),
        (Encryption::Kms, key) => builder.with_sse_kms_encryption(key),
    })
}

fn encrypted(builder: AmazonS3Builder, kind: &str) -> AmazonS3Builder {
    let key: Result<AmazonS3ConfigKey, _> = "aws_server_side_encryption".parse();
    builder.with_config(key.expect("a key that object_store has"), kind)
}

fn client(config: &S3) -> io::Result<ClientOptions> {
    let media_type = match (config.format, config.compression) {
        (Format::Parquet, _) | (_, Compression::None) => config.format.content_type(),
        (_, Compression::Gzip) => "application/gzip",
        (_, Compression::Zstd) => "application/zstd",
    };
    let mut client = ClientOptions::new()
        .with_timeout(Duration::from_secs(config.timeout_s.into()))
        .with_default_content_type(media_type)
        .with_allow_http(config.endpoint.starts_with("http://"));
    if let Some(path) = &config.ca_file {
        let bad = |error| io::Error::other(format!("{}: {error}", path.display()));
        let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(bad)?;
        client = certificates.into_iter().fold(client, ClientOptions::with_root_certificate);
    }
    Ok(client)
}

fn secret(config: &S3, secret: Option<&Secret>) -> io::Result<Option<Revealed>> {
    let revealed = secret.map(reveal).transpose();
    revealed.map_err(|error| io::Error::other(format!("output.s3 {}: {error}", config.name)))
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(named(path))
}

/// A profile in a credentials file of Amazon's. The file is read for each request: what refreshes
/// it need not tell anybody.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

impl Profile {
    /// # Errors
    /// If the file cannot be read, or has no such profile, or that no keys.
    pub(super) fn read(&self) -> io::Result<AwsCredential> {
        let text = secret::read(&self.path).map_err(named(&self.path))?;
        let text = String::from_utf8_lossy(&text);
        let header = format!("[{}]", self.name);
        let lines = text.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
        let (mut id, mut key, mut token) = (None, None, None);
        for line in lines.take_while(|line| !line.starts_with('[')) {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim().to_owned();
            match name.trim() {
                "aws_access_key_id" => id = Some(value),
                "aws_secret_access_key" => key = Some(value),
                "aws_session_token" => token = Some(value),
                _ => {}
            }
        }
        let Some((key_id, secret_key)) = id.zip(key) else {
            let (path, name) = (self.path.display(), &self.name);
            let message = format!(
                "{path}: no aws_access_key_id and aws_secret_access_key in the profile {name}"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        Ok(AwsCredential { key_id, secret_key, token })
    }
}

/// What `async_trait` makes of `async fn get_credential`.
type Got<'a> = Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'a>>;

impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    fn get_credential<'a: 'b, 'b>(&'a self) -> Got<'b>
    where
        Self: 'b,
    {
        let read = self.read().map(Arc::new);
        let failed =
            |error| Error::Unauthenticated { path: String::new(), source: Box::new(error) };
        Box::pin(std::future::ready(read.map_err(failed)))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
