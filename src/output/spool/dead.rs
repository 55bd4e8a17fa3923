//! The dead-letter file of a sink: records that the other side refused for good.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::log::sync_directory;
use super::wall;
use crate::output::ndjson;
use crate::output::schema::{Layout, Record, Stream};

/// Octets of a dead-letter file; then it takes the place of the one before.
const OCTETS_MAX: u64 = 64 << 20;

/// Writes one JSON object a record: `{"time", "sink", "reason", "record"}`.
pub(super) struct DeadLetters {
    path: PathBuf,
    sink: String,
    writer: ndjson::Writer,
    line: Vec<u8>,
}

impl DeadLetters {
    pub(super) fn new(directory: &Path, sink: &str, stream: Stream) -> Self {
        let name = format!("{}.ndjson", crate::config::output::file_name(sink));
        Self {
            path: directory.join("dead").join(name),
            sink: sink.to_owned(),
            writer: ndjson::Writer::new(&Layout::all(stream)),
            line: Vec::new(),
        }
    }

    /// Appends `records`, each with its reason.
    pub(super) fn write<R: Record>(
        &mut self,
        records: impl Iterator<Item = (R, String)>,
    ) -> io::Result<()> {
        self.line.clear();
        for (record, reason) in records {
            let about = serde_json::json!({"time": wall(), "sink": self.sink, "reason": reason});
            let about = about.to_string();
            self.line.extend_from_slice(about.trim_end_matches('}').as_bytes());
            self.line.extend_from_slice(b",\"record\":");
            self.writer.object(&mut self.line, &record);
            self.line.extend_from_slice(b"}\n");
        }
        if self.line.is_empty() {
            return Ok(());
        }
        let mut file = self.open()?;
        let mut octets = file.metadata()?.len();
        if octets + self.line.len() as u64 > OCTETS_MAX {
            fs::rename(&self.path, self.path.with_extension("ndjson.1"))?;
            file = self.open()?;
            octets = 0;
        }
        if let Err(error) = file.write_all(&self.line) {
            // Half a line would spoil the next.
            file.set_len(octets)?;
            return Err(error);
        }
        file.sync_data()?;
        // Of one that was made just now, its name, too: the cursor that follows is synced.
        let made = octets == 0;
        self.path.parent().filter(|_| made).map_or(Ok(()), sync_directory)
    }

    fn open(&self) -> io::Result<File> {
        let open = || OpenOptions::new().create(true).append(true).open(&self.path);
        open().or_else(|error| match (error.kind(), self.path.parent()) {
            (io::ErrorKind::NotFound, Some(folder)) => {
                fs::create_dir_all(folder)?;
                open()
            }
            _ => Err(error),
        })
    }
}
