//! An upload in parts.
//!
//! Its number is noted on disk before its first part goes, and the note is removed once it is
//! completed. So what a failure or a crash leaves behind is known, and aborted before the next
//! object: at the next attempt, or the next start. Parts that nobody completes would be paid for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path as FilePath;

use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _, PutPayload};

use super::{Store, told};
use crate::output::spool::{Failure, Stop};

/// The parts of one object.
pub(super) struct Upload<'a> {
    key: &'a Path,
    /// The object is there already: parts are passed over.
    there: bool,
    id: Option<String>,
    parts: Vec<PartId>,
    octets: u64,
}

impl<'a> Upload<'a> {
    pub(super) const fn new(key: &'a Path) -> Self {
        Self { key, there: false, id: None, parts: Vec::new(), octets: 0 }
    }

    /// Octets of the parts so far.
    pub(super) const fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether a part has gone, or was passed over.
    pub(super) const fn begun(&self) -> bool {
        self.id.is_some() || self.there
    }

    /// Puts the next part: all but the last are of one size. Before the first one looks whether the
    /// object is there, as uploads cannot be completed under a condition.
    pub(super) fn part(&mut self, to: &Store, stop: &Stop, part: Vec<u8>) -> Result<(), Failure> {
        let (store, key) = (&to.place.store, self.key);
        if !self.begun() {
            // Those who may put and not look overwrite it with the same octets.
            let found = to.run(stop, key.as_ref(), async { Ok(store.head(key).await) })?;
            self.there = found.is_ok();
        }
        if self.there {
            self.octets += part.len() as u64;
            return Ok(());
        }
        let id = match &self.id {
            Some(id) => id,
            None => {
                let id = to.run(stop, key.as_ref(), store.create_multipart(key))?;
                note(&to.note, &id, key).map_err(|error| {
                    let path = to.note.display();
                    Failure::later("note", format!("cannot note an upload in {path}: {error}"))
                })?;
                self.id.insert(id)
            }
        };
        let octets = part.len() as u64;
        let work = store.put_part(key, id, self.parts.len(), PutPayload::from(part));
        self.parts.push(to.run(stop, key.as_ref(), work)?);
        self.octets += octets;
        Ok(())
    }

    /// Puts the last part and completes the object.
    pub(super) fn finish(mut self, to: &Store, stop: &Stop, last: Vec<u8>) -> Result<(), Failure> {
        self.part(to, stop, last)?;
        if self.there {
            return Ok(());
        }
        let id = self.id.take();
        let (Self { key, parts, .. }, id) = (self, id.unwrap_or_default());
        let work = to.place.store.complete_multipart(key, &id, parts);
        to.run(stop, key.as_ref(), work)?;
        forget(&to.note);
        Ok(())
    }
}

/// Aborts the upload that is noted, if one is.
pub(super) fn abandon(from: &Store, stop: &Stop) -> Result<(), Failure> {
    let text = match fs::read_to_string(&from.note) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            tracing::warn!(path = %from.note.display(), %error, "cannot read the note of an upload");
            return Ok(());
        }
    };
    if let Some((id, key)) = text.trim_end().split_once('\n')
        && let Ok(key) = Path::parse(key)
    {
        let id = id.to_owned();
        let abort = from.place.store.abort_multipart(&key, &id);
        let (sink, key) = (&from.config.name, key.as_ref());
        match from.run(stop, key, async { Ok(abort.await) })? {
            Ok(()) => tracing::info!(sink, key, "an upload that was not completed is aborted"),
            // It was completed and only the answer lost, or somebody was faster.
            Err(Error::NotFound { .. }) => {}
            // Some may put and not abort: the bucket's own rules have to clean up then.
            Err(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => {
                tracing::warn!(sink, key, error = told(&error), "cannot abort an upload");
            }
            Err(error) => return Err(from.failure(key, &error)),
        }
    }
    forget(&from.note);
    Ok(())
}

/// Notes an upload, so that it is known after a crash.
fn note(path: &FilePath, id: &str, key: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    writeln!(file, "{id}\n{key}")?;
    file.sync_all()
}

fn forget(path: &FilePath) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the note of an upload");
        }
        _ => {}
    }
}
