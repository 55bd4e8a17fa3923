//! `[[output.s3]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Durability, FieldValue, Format, Place, Report, Secret, Select, Table, Taking};

/// Names that `key` may hold in braces.
const KEY_NAMES: [&str; 11] = [
    "tenant",
    "sensor",
    "sink",
    "select",
    "yyyy",
    "mm",
    "dd",
    "hh",
    "created_ms",
    "segment",
    "extension",
];

/// `[[output.s3]]`: one object for each segment of the spool.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Name of the sink, in metrics, ledgers and cursors; unique.
    pub name: String,
    /// Where objects go: `s3://BUCKET`, `gs://BUCKET` or `az://CONTAINER`.
    /// Required.
    pub url: String,
    /// Name of an object: a text with `{tenant}`, `{sensor}`, `{sink}`, `{select}`, `{yyyy}`,
    /// `{mm}`, `{dd}`, `{hh}` and `{created_ms}` of the segment's creation (UTC), `{segment}`, which
    /// names the segment and is required, and `{extension}`.
    pub key: String,
    /// What `{tenant}` stands for: no `/`, no control character, not `.` or `..`.
    pub tenant: String,
    /// What is written.
    pub select: Select,
    /// Fields that are written, by name; empty: all.
    pub fields: Vec<String>,
    /// How it is written.
    pub format: Format,
    /// Compression of the object; Parquet has its own.
    pub compression: Compression,
    /// Region of Amazon S3.
    pub region: String,
    /// Another server that speaks S3, as `https://minio.example:9000`; empty: Amazon's.
    pub endpoint: String,
    /// Name the bucket in the host name, not in the path.
    pub virtual_hosts: bool,
    /// Access key of S3, account of Azure; empty: from `credentials_file` or the instance.
    pub access_key_id: String,
    /// Secret key of S3, account key of Azure.
    pub secret_access_key: Option<Secret>,
    /// Session token of S3.
    pub session_token: Option<Secret>,
    /// Amazon's credentials file (profile `profile`), or the JSON of a service account of Google.
    pub credentials_file: Option<PathBuf>,
    /// Profile in `credentials_file`.
    pub profile: String,
    /// Encryption by the server.
    pub encryption: Encryption,
    /// Key of `encryption = "kms"`; empty: the account's.
    pub kms_key: String,
    /// A file of certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Octets of a part; objects that are larger go in parts: 5 MiB to 1 GiB.
    pub part_bytes: usize,
    /// Seconds that one request may take: 1 to 3,600.
    pub timeout_s: u32,
    /// Fields of your own on every record of this sink, as in `[sensor.fields]`.
    pub add: BTreeMap<String, FieldValue>,
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            name: "s3".into(),
            url: String::new(),
            key: "streaming/{tenant}/{yyyy}/{mm}/{dd}/{sensor}-{created_ms}-{segment}.{sink}.{extension}"
                .into(),
            tenant: "default".into(),
            select: Select::Slices,
            fields: Vec::new(),
            format: Format::Ndjson,
            compression: Compression::Gzip,
            region: "us-east-1".into(),
            endpoint: String::new(),
            virtual_hosts: false,
            access_key_id: String::new(),
            secret_access_key: None,
            session_token: None,
            credentials_file: None,
            profile: "default".into(),
            encryption: Encryption::None,
            kms_key: String::new(),
            ca_file: None,
            part_bytes: 8 << 20,
            timeout_s: 60,
            add: BTreeMap::new(),
        }
    }
}

/// Compression of objects.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952.
    #[default]
    Gzip,
    /// RFC 8878.
    Zstd,
    /// None.
    None,
}

/// Encryption by the server, as the headers of S3 ask for it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// What the bucket does by itself.
    #[default]
    None,
    /// With keys of S3's (SSE-S3).
    Aes256,
    /// With a key of the key management service (SSE-KMS).
    Kms,
}

impl Table for S3 {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn taking(&self) -> Taking<'_> {
        let Self { name, select, fields, add, .. } = self;
        Taking { name, select: *select, fields, add, durability: Some(Durability::Disk) }
    }

    fn check(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        if cfg!(not(feature = "s3")) {
            report.add(&key("name"), "this build has no feature `s3`".into());
        }
        let bucket = ["s3://", "gs://", "az://"].iter().find_map(|s| self.url.strip_prefix(s));
        let named = |bucket: &str| !bucket.is_empty() && !bucket.contains(['/', '?', '#', '@']);
        if !bucket.is_some_and(|bucket| named(bucket.trim_end_matches('/'))) {
            let message = "must be s3://BUCKET, gs://BUCKET or az://CONTAINER; folders go into key";
            report.add(&key("url"), message.into());
        }
        self.check_key(key, report);
        if let Some((name, message)) = self.format.fault(self, Place::Files) {
            report.add(&key(name), message);
        }
        let http = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        if !self.endpoint.is_empty() && !http {
            report.add(&key("endpoint"), "must begin with https:// or http://".into());
        }
        if self.access_key_id.is_empty() != self.secret_access_key.is_none() {
            let message = "access_key_id and secret_access_key go together";
            report.add(&key("secret_access_key"), message.into());
        }
        if self.encryption != Encryption::Kms && !self.kms_key.is_empty() {
            report.add(&key("kms_key"), "has a meaning with encryption = \"kms\" only".into());
        }
        report.within(&key("part_bytes"), self.part_bytes, 5 << 20..=1 << 30);
        report.within(&key("timeout_s"), self.timeout_s, 1..=3_600);
    }

    fn paths(&mut self, absolute: &mut dyn FnMut(&mut PathBuf)) {
        self.credentials_file.iter_mut().for_each(&mut *absolute);
        self.ca_file.iter_mut().for_each(&mut *absolute);
        for secret in [&mut self.secret_access_key, &mut self.session_token].into_iter().flatten() {
            secret.paths(absolute);
        }
    }

    fn secrets(&self) -> Vec<(&'static str, &Secret)> {
        super::set([
            ("secret_access_key", &self.secret_access_key),
            ("session_token", &self.session_token),
        ])
    }
}

impl S3 {
    /// What an object's name ends with: `json.gz`, for example.
    #[must_use]
    pub fn extension(&self) -> String {
        let format = if self.format.json() { "json" } else { self.format.extension() };
        let compression = match self.compression {
            _ if self.format == Format::Parquet => "",
            Compression::Gzip => ".gz",
            Compression::Zstd => ".zst",
            Compression::None => "",
        };
        format!("{format}{compression}")
    }

    /// Where objects go, but for their segments: what no two sinks may have in common, or the
    /// objects of one would be taken for those of the other.
    pub(super) fn place(&self) -> String {
        let key = self.key.replace("{tenant}", &self.tenant).replace("{sink}", &self.name);
        let key = key.replace("{select}", self.select.as_str());
        let key = key.replace("{extension}", &self.extension());
        format!("{}{}/{key}", self.endpoint, self.url.trim_end_matches('/'))
    }

    fn check_key(&self, key: &dyn Fn(&str) -> String, report: &mut Report) {
        let tenant = &self.tenant;
        let odd = |c: char| c == '/' || c == '\\' || c.is_control();
        if tenant.is_empty() || tenant == "." || tenant == ".." || tenant.contains(odd) {
            let message =
                "must be a name without `/`, `\\` and control characters, not `.` or `..`";
            report.add(&key("tenant"), message.into());
        }
        for name in self.key.split('{').skip(1) {
            let name = name.split_once('}').map(|(name, _)| name);
            if !name.is_some_and(|name| KEY_NAMES.contains(&name)) {
                let name = name.unwrap_or("a brace that is not closed");
                let message = format!("`{name}` is none of {}", KEY_NAMES.join(", "));
                report.add(&key("key"), message);
            }
        }
        if !self.key.contains("{segment}") {
            report.add(&key("key"), "must hold {segment}, or objects overwrite each other".into());
        }
        if self.key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            report.add(&key("key"), "must have no empty part, `.` or `..` between its `/`".into());
        }
    }
}
