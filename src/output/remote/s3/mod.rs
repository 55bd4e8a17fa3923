//! `[[output.s3]]`: one object of each sealed segment, in S3, Google's or Azure's storage.
//!
//! An object's name is made from its segment, and its octets from the segment's records, so an
//! object that is put again is the same. Where the store offers it, it is put under the condition
//! that there is none (If-None-Match): the answer that there is one means that it was delivered. A
//! large object goes in parts while it is encoded, so neither it nor its segment has to fit into
//! memory; there a look comes before it (HEAD), as uploads are completed under no condition.

mod body;
mod open;
mod upload;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AwsCredentialProvider;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload};
use tokio::runtime::Runtime;

pub use self::open::faults;

use self::body::Body;
use self::upload::Upload;
use crate::config::S3;
use crate::config::output::{Table as _, file_name};
use crate::output::Encoder;
use crate::output::remote::tls;
use crate::output::schema::{Context, Layout};
use crate::output::spool::{Delivered, Failure, ObjectTarget, Objects, Stop};

/// Between two looks whether the sensor's time is over.
const LOOK: Duration = Duration::from_millis(100);
/// Characters of a store's answer that a message has.
const TOLD: usize = 400;

/// A store that takes objects whole and in parts.
trait Parts: ObjectStore + MultipartStore {}
impl<T: ObjectStore + MultipartStore> Parts for T {}

/// Where objects of one sink go.
pub struct Store {
    config: S3,
    sensor: String,
    layout: Layout,
    place: Place,
    runtime: Runtime,
    /// The store knows If-None-Match, as far as it is known.
    conditional: bool,
    /// Names the upload in parts that is under way, for the next start.
    note: PathBuf,
}

/// A store, and what signs requests to it.
struct Place {
    store: Arc<dyn Parts>,
    /// Of Amazon's: asked before each object, so that what is missing is told as such.
    credentials: Option<AwsCredentialProvider>,
}

impl Store {
    /// The target of `config`; `directory` is the spool's. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// If a secret, a certificate or a file of credentials cannot be read.
    pub fn new(config: &S3, context: &Context, directory: &FilePath) -> io::Result<Self> {
        Self::with(config, context, directory, open::open(config)?)
    }

    fn with(
        config: &S3,
        context: &Context,
        directory: &FilePath,
        place: Place,
    ) -> io::Result<Self> {
        Ok(Self {
            config: config.clone(),
            sensor: context.sensor.clone(),
            layout: super::layout(&config.taking(), context),
            place,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            conditional: true,
            note: directory.join(format!("{}.upload", file_name(&config.name))),
        })
    }

    /// The name of the object of `objects`.
    fn key(&self, objects: &Objects<'_>) -> String {
        let created = jiff::Timestamp::from_microsecond(objects.created().0).unwrap_or_default();
        let config = &self.config;
        let values = [
            ("{tenant}", config.tenant.clone()),
            ("{sensor}", file_name(&self.sensor)),
            ("{sink}", file_name(&config.name)),
            ("{select}", config.select.as_str().to_owned()),
            ("{yyyy}", created.strftime("%Y").to_string()),
            ("{mm}", created.strftime("%m").to_string()),
            ("{dd}", created.strftime("%d").to_string()),
            ("{hh}", created.strftime("%H").to_string()),
            ("{created_ms}", created.as_millisecond().to_string()),
            // With the spool's own number: a spool that is made anew counts from 0 again.
            ("{segment}", format!("{:016x}-{}", objects.spool(), objects.segment())),
            ("{extension}", config.extension()),
        ];
        values.iter().fold(config.key.clone(), |key, (name, value)| key.replace(name, value))
    }

    /// Runs `work`, unless the sensor's time is over before.
    fn run<T>(
        &self,
        stop: &Stop,
        key: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let done = self.runtime.block_on(async {
            tokio::select! {
                done = work => Some(done),
                () = over(stop) => None,
            }
        });
        match done {
            Some(done) => done.map_err(|error| self.failure(key, &error)),
            None => Err(Failure::Stopped),
        }
    }

    fn failure(&self, key: &str, error: &Error) -> Failure {
        self.failure_or(key, error, "the store does not take the object")
    }

    fn failure_or(&self, key: &str, error: &Error, otherwise: &str) -> Failure {
        let (reason, what) = match error {
            Error::NotFound { .. } => ("missing", "the bucket is not there"),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                ("credentials", "the credentials are refused")
            }
            _ => ("unavailable", otherwise),
        };
        let url = self.config.url.trim_end_matches('/');
        let mut message = format!("{url}/{key}: {what}: {}", told(error));
        let plain = "take https:// out of `endpoint`, or the port of one";
        if let Some(hint) = tls::hint(&message, "ca_file", plain) {
            message = format!("{message}: {hint}");
        }
        Failure::later(reason, message)
    }

    /// Puts an object that is not there yet.
    fn put(&mut self, stop: &Stop, key: &Path, body: Vec<u8>) -> Result<(), Failure> {
        let payload = PutPayload::from(body);
        loop {
            let mode = if self.conditional { PutMode::Create } else { PutMode::Overwrite };
            let options = PutOptions { mode, ..PutOptions::default() };
            let put = self.place.store.put_opts(key, payload.clone(), options);
            // The answer itself is wanted, not yet a failure.
            let answer = self.run(stop, key.as_ref(), async { Ok(put.await) })?;
            match answer {
                Ok(_) => return Ok(()),
                // An earlier attempt, whose answer was lost.
                Err(error) if delivered(&error) => return Ok(()),
                Err(error) if self.conditional && unknown_condition(&error) => {
                    self.conditional = false;
                }
                Err(error) => return Err(self.failure(key.as_ref(), &error)),
            }
        }
    }

    /// Whether there is something to sign with.
    fn signs(&self, stop: &Stop) -> Result<(), Failure> {
        let Some(provider) = &self.place.credentials else { return Ok(()) };
        let asked = self.run(stop, "", async { Ok(provider.get_credential().await) })?;
        asked.map(|_| ()).map_err(|error| {
            let message = format!(
                "{}: no credentials, neither configured nor from the environment or the instance: \
                 {}",
                self.config.url,
                told(&error)
            );
            Failure::later("credentials", message)
        })
    }

    /// Encodes and puts the object of `objects`; returns its octets.
    fn object(&mut self, objects: &Objects<'_>, stop: &Stop) -> Result<u64, Failure> {
        let name = self.key(objects);
        let key = Path::parse(&name)
            .map_err(|error| Failure::later("key", format!("`{name}` is no name: {error}")))?;
        let body = Body::default();
        let mut upload = Upload::new(&key);
        let writer = body.writer(self.config.format, self.config.compression);
        let mut encoder = writer
            .and_then(|writer| Encoder::new(self.config.format, &self.layout, writer))
            .map_err(unreadable)?;
        for unit in objects.units() {
            encoder.records(unit.records()).map_err(unreadable)?;
            while body.len() > self.config.part_bytes {
                upload.part(self, stop, body.take(self.config.part_bytes))?;
            }
        }
        encoder.finish().and_then(body::Writer::finish).map_err(unreadable)?;
        if objects.given() == 0 {
            return Ok(0);
        }
        while body.len() > self.config.part_bytes {
            upload.part(self, stop, body.take(self.config.part_bytes))?;
        }
        let rest = body.take(usize::MAX);
        let octets = upload.octets() + rest.len() as u64;
        if upload.begun() {
            upload.finish(self, stop, rest)?;
        } else {
            self.put(stop, &key, rest)?;
        }
        Ok(octets)
    }
}

impl ObjectTarget for Store {
    /// Asks for an object that is not there. Who may only put is refused that: then nothing is known.
    fn probe(&mut self, stop: &Stop) -> Result<(), Failure> {
        const NO_BUCKET: [&str; 3] = ["NoSuchBucket", "bucket does not exist", "ContainerNotFound"];
        const NO_LOGIN: [&str; 6] = [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "ExpiredToken",
            "RequestTimeTooSkewed",
            "AuthenticationFailed",
        ];
        self.signs(stop)?;
        upload::abandon(self, stop)?;
        let key = Path::from(format!("{}.probe", file_name(&self.config.name)));
        let get = self.place.store.get_opts(&key, GetOptions::default());
        let Err(error) = self.run(stop, key.as_ref(), async { Ok(get.await) })? else {
            return Ok(());
        };
        let text = told(&error);
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let is_fault = match &error {
            Error::NotFound { .. } => says(&NO_BUCKET),
            Error::PermissionDenied { .. } => says(&NO_LOGIN),
            _ => true,
        };
        let failure = || self.failure_or("", &error, "the store does not answer");
        if is_fault { Err(failure()) } else { Ok(()) }
    }

    fn deliver(&mut self, objects: &Objects<'_>, stop: &Stop) -> Result<Delivered, Failure> {
        self.signs(stop)?;
        upload::abandon(self, stop)?;
        let octets = self.object(objects, stop)?;
        Ok(Delivered { octets, dead: Vec::new() })
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::later("read", format!("cannot encode a segment of the spool: {error}"))
}

async fn over(stop: &Stop) {
    while !stop.over() {
        tokio::time::sleep(LOOK).await;
    }
}

/// What went wrong, and why, without line ends and without the end of a long answer.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(why) = source {
        let why_text = why.to_string();
        if !text.contains(&why_text) {
            text = format!("{text}: {why_text}");
        }
        source = why.source();
    }
    text.chars().take(TOLD).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Whether a conditional put failed because the object is there: the names of objects are ours
/// alone, so it is this one. S3's 409 is another thing: somebody else is at the same name now.
fn delivered(error: &Error) -> bool {
    match error {
        Error::Precondition { .. } => true,
        Error::AlreadyExists { source, .. } => {
            !source.to_string().contains("ConditionalRequestConflict")
        }
        _ => false,
    }
}

/// Whether the store says that it does not know If-None-Match.
fn unknown_condition(error: &Error) -> bool {
    let text = error.to_string();
    matches!(error, Error::NotImplemented { .. } | Error::NotSupported { .. })
        || text.contains("501 Not Implemented")
        || text.contains("NotImplemented")
}
