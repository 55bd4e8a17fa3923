//! Templates and sampling over a restart: one JSON file in the state directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::decode::netflow::State;

/// The file's name in the state directory.
pub const FILE: &str = "exporters.json";

/// Reads the state; `None` if there is none yet.
///
/// # Errors
/// If the file cannot be read or does not parse, by name.
pub fn load(directory: &Path) -> io::Result<Option<State>> {
    let path = directory.join(FILE);
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(named)?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| named(error.into()))
}

/// Keeps the state of one run: off the hot thread, on change only, one write at a time.
#[derive(Debug)]
pub struct Saver {
    directory: Option<PathBuf>,
    saved: u64,
    writing: Option<JoinHandle<()>>,
}

impl Saver {
    /// Saves in `directory`, if there is one, what comes after `generation`.
    #[must_use]
    pub fn new(directory: Option<PathBuf>, generation: u64) -> Self {
        Self { directory, saved: generation, writing: None }
    }

    /// Writes the state on a thread of its own if `generation` is new. While an earlier write
    /// goes on, the next call sees to it.
    pub fn save(&mut self, generation: u64, state: impl FnOnce() -> State) {
        let busy = self.writing.as_ref().is_some_and(|thread| !thread.is_finished());
        let Some(directory) = self.directory.clone().filter(|_| !busy) else { return };
        if generation == self.saved {
            return;
        }
        let state = state();
        let thread = std::thread::Builder::new().name("weir-state".into());
        match thread.spawn(move || write_or_warn(&directory, &state)) {
            Ok(thread) => (self.writing, self.saved) = (Some(thread), generation),
            Err(error) => tracing::warn!(%error, "cannot save templates"),
        }
    }

    /// Writes `state` and returns when it is there: the process may end thereafter.
    pub fn finish(self, state: &State) {
        if self.writing.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that saves templates panicked");
        }
        if let Some(directory) = &self.directory {
            write_or_warn(directory, state);
        }
    }
}

fn write_or_warn(directory: &Path, state: &State) {
    if let Err(error) = write(directory, state) {
        tracing::warn!(directory = %directory.display(), %error, "cannot save templates");
    }
}

/// Beside, synced, then renamed into place.
fn write(directory: &Path, state: &State) -> io::Result<()> {
    let beside = directory.join(format!("{FILE}.part"));
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(FILE))
}
