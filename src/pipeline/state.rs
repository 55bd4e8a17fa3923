//! Templates and sampling over a restart: one JSON file for each reader in the state directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::decode::netflow::State;

/// Readers that have a file, at most: as many as the configuration allows.
const READERS_MAX: usize = 64;

/// The file of `reader` in the state directory.
#[must_use]
pub fn file(directory: &Path, reader: usize) -> PathBuf {
    directory.join(match reader {
        0 => "exporters.json".to_owned(),
        _ => format!("exporters-{reader}.json"),
    })
}

/// Reads what all readers of the last run saved, however many they were: of an exporter that
/// stands in several files, what was seen last. A file that cannot be read is told and left out.
#[must_use]
pub fn load(directory: &Path) -> State {
    let mut states = Vec::new();
    for reader in 0..READERS_MAX {
        match read(&file(directory, reader)) {
            Ok(state) => states.extend(state),
            // Exporters send their templates again: no reason not to start.
            Err(error) => tracing::warn!(%error, "the templates of the last run are lost"),
        }
    }
    State::merge(states)
}

fn read(path: &Path) -> io::Result<Option<State>> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(named)?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| named(error.into()))
}

/// Removes the files of readers that are no more: what they had is with the others.
pub fn forget(directory: &Path, readers: usize) {
    for reader in readers..READERS_MAX {
        if let Err(error) = fs::remove_file(file(directory, reader))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, reader, "cannot remove the templates of a reader that is gone");
        }
    }
}

/// Keeps the state of one run: off the hot thread, on change only, one write at a time.
#[derive(Debug)]
pub struct Saver {
    path: Option<PathBuf>,
    saved: u64,
    writing: Option<JoinHandle<()>>,
}

impl Saver {
    /// Saves in the file `path`, if there is one, what comes after `generation`.
    #[must_use]
    pub fn new(path: Option<PathBuf>, generation: u64) -> Self {
        Self { path, saved: generation, writing: None }
    }

    /// Writes the state on a thread of its own if `generation` is new. While an earlier write
    /// goes on, the next call sees to it.
    pub fn save(&mut self, generation: u64, state: impl FnOnce() -> State) {
        let busy = self.writing.as_ref().is_some_and(|thread| !thread.is_finished());
        let Some(path) = self.path.clone().filter(|_| !busy) else { return };
        if generation == self.saved {
            return;
        }
        let state = state();
        let thread = std::thread::Builder::new().name("weir-state".into());
        match thread.spawn(move || write_or_warn(&path, &state)) {
            Ok(thread) => (self.writing, self.saved) = (Some(thread), generation),
            Err(error) => tracing::warn!(%error, "cannot save templates"),
        }
    }

    /// Writes `state` and returns when it is there: the process may end thereafter.
    pub fn finish(self, state: &State) {
        if self.writing.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that saves templates panicked");
        }
        if let Some(path) = &self.path {
            write_or_warn(path, state);
        }
    }
}

fn write_or_warn(path: &Path, state: &State) {
    if let Err(error) = write(path, state) {
        tracing::warn!(path = %path.display(), %error, "cannot save templates");
    }
}

/// Beside, synced, then renamed into place.
fn write(path: &Path, state: &State) -> io::Result<()> {
    let beside = path.with_extension("json.part");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}
