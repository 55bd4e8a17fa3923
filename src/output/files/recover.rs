//! What a crash left behind: unfinished files of an earlier run.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::part::{PART, is_at, recovered, sync_parent, with_extension};

/// Octets that are read at once.
const BLOCK: usize = 64 << 10;
/// What every Parquet file ends with.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";
/// What names of files end with, by their format.
const EXTENSIONS: [&str; 5] = ["ndjson", "csv", "parquet", "pb", "cef"];

/// What was found, in files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Leftovers {
    pub(super) recovered: u64,
    pub(super) broken: u64,
}

/// Deals with every unfinished file of the sink that writes under `prefix` in `directory`. A file
/// that another process is writing is left alone; one that cannot be dealt with stays as it is.
pub(super) fn all(directory: &Path, prefix: &str) -> Leftovers {
    let mut leftovers = Leftovers::default();
    let Ok(entries) = fs::read_dir(directory) else { return leftovers };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().and_then(|name| final_name(name, prefix)) else { continue };
        let part = entry.path();
        let file = part.display();
        match one(&part, &directory.join(name)) {
            Ok(Outcome::InUse) => {}
            Ok(Outcome::Empty) => {
                tracing::warn!(%file, "removed an unfinished file without a whole record");
            }
            Ok(Outcome::Recovered(path)) => {
                leftovers.recovered += 1;
                let path = path.display();
                tracing::warn!(%file, %path, "recovered an unfinished file");
            }
            Ok(Outcome::Broken(path)) => {
                leftovers.broken += 1;
                let path = path.display();
                tracing::warn!(%file, %path, "an unfinished file cannot be read; kept aside");
            }
            Err(error) => tracing::warn!(%file, %error, "cannot recover an unfinished file"),
        }
    }
    leftovers
}

/// The final name of a temporary of this sink: `<prefix>-<start>-<seq>.<extension>`.
fn final_name<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let name = name.strip_suffix(PART)?.strip_suffix('.')?;
    EXTENSIONS.contains(&rest_of(name, prefix)?).then_some(name)
}

/// Whether `name` is that of a finished file of this sink: as it was committed, or recovered, or
/// kept aside as broken.
pub(super) fn is_named(name: &str, prefix: &str) -> bool {
    rest_of(name, prefix).is_some_and(|rest| {
        let rest = rest.strip_prefix("recovered.").unwrap_or(rest);
        EXTENSIONS.contains(&rest.strip_suffix(".broken").unwrap_or(rest))
    })
}

/// What follows `<prefix>-<start>-<seq>.` in `name`.
fn rest_of<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = name.strip_prefix(prefix)?.strip_prefix('-')?;
    let (start, rest) = rest.split_at_checked("yyyymmddThhmmssZ".len())?;
    let (seq, extension) = rest.strip_prefix('-')?.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (date, time) = start.split_once('T')?;
    let ours = digits(date) && digits(time.strip_suffix('Z')?) && digits(seq);
    ours.then_some(extension)
}

enum Outcome {
    InUse,
    Empty,
    Recovered(PathBuf),
    Broken(PathBuf),
}

fn one(part: &Path, name: &Path) -> io::Result<Outcome> {
    let mut file = OpenOptions::new().read(true).write(true).open(part)?;
    // Or another process dealt with it between opening and locking.
    if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) || !is_at(&file, part) {
        return Ok(Outcome::InUse);
    }
    let whole = match name.extension().and_then(|e| e.to_str()) {
        Some("ndjson" | "cef") => last_line_end(&mut file)?,
        Some("pb") => messages_end(&mut file)?,
        Some("csv") => csv_records_end(&mut file)?,
        _ if has_footer(&mut file)? => file.metadata()?.len(),
        _ if file.metadata()?.len() <= PARQUET_MAGIC.len() as u64 => 0,
        _ => {
            let broken = with_extension(name, "broken");
            fs::rename(part, &broken)?;
            sync_parent(&broken)?;
            return Ok(Outcome::Broken(broken));
        }
    };
    if whole == 0 {
        fs::remove_file(part)?;
        return Ok(Outcome::Empty);
    }
    file.set_len(whole)?;
    file.sync_all()?;
    let recovered = recovered(name);
    fs::rename(part, &recovered)?;
    sync_parent(&recovered)?;
    Ok(Outcome::Recovered(recovered))
}

/// The offset after the last whole message, each of which has its length before it as a varint.
fn messages_end(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let mut reader = io::BufReader::with_capacity(BLOCK, file);
    let mut whole = 0;
    loop {
        let (mut message, mut octets) = (0_u64, 0);
        loop {
            let mut byte = [0];
            if reader.read(&mut byte)? == 0 || octets == 10 {
                return Ok(whole);
            }
            message |= u64::from(byte[0] & 0x7f).wrapping_shl(7 * octets);
            octets += 1;
            if byte[0] < 0x80 {
                break;
            }
        }
        let end = whole.saturating_add(u64::from(octets)).saturating_add(message);
        if end > length {
            return Ok(whole);
        }
        whole = end;
        reader.seek_relative(i64::try_from(message).unwrap_or(i64::MAX))?;
    }
}

/// The offset after the last line feed, 0 if there is none: read from the end.
fn last_line_end(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..usize::try_from(end - start).expect("at most a block")];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        if let Some(index) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + index as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The offset after the last line feed outside quotes; 0 if that is only the header's.
fn csv_records_end(file: &mut File) -> io::Result<u64> {
    let (mut block, mut quoted, mut offset) = (vec![0; BLOCK], false, 0);
    let (mut lines, mut end) = (0_u64, 0);
    loop {
        let length = file.read(&mut block)?;
        if length == 0 {
            return Ok(if lines > 1 { end } else { 0 });
        }
        for &byte in &block[..length] {
            offset += 1;
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => (lines, end) = (lines + 1, offset),
                _ => {}
            }
        }
    }
}

/// Whether a Parquet file is whole: the crash came between its end and its rename.
fn has_footer(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut magic = [0; 4];
    if length < 12 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut magic)?;
    Ok(&magic == PARQUET_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn protobuf_is_kept_up_to_its_last_whole_message() {
        let check = |bytes: &[u8], want: u64| {
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, bytes).expect("room");
            assert_eq!(messages_end(&mut file).expect("readable"), want, "{bytes:?}");
        };
        check(&[], 0);
        check(&[0], 1);
        check(&[2, 9, 9], 3);
        check(&[2, 9, 9, 1], 3);
        check(&[2, 9, 9, 1, 7], 5);
        check(&[1, 7, 0x82], 2);
        check(&[1, 7, 0x82, 0, 9], 2);
        check(&[0x82, 0, 9, 9], 4);
        check(&[0xff; 12], 0);
    }

    #[test]
    fn every_leftover_is_logged_by_name() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let check = |extension: &str, text: &str, message: &str| {
            let name = format!("a-b-20260101T000000Z-0.{extension}.part");
            fs::write(directory.path().join(&name), text).expect("room");
            let log = Log::default();
            let writer = log.clone();
            let subscriber =
                tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
            tracing::subscriber::with_default(subscriber.finish(), || {
                all(directory.path(), "a-b");
            });
            let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("text");
            assert!(log.contains("WARN") && log.contains(message), "{name}: {log}");
            assert!(log.contains(&name), "{name}: {log}");
            assert!(!directory.path().join(&name).exists(), "{name}");
        };
        let removed = "removed an unfinished file without a whole record";
        check("parquet", "", removed);
        check("ndjson", "{\"torn", removed);
        check("csv", "header\n", removed);
        check("parquet", "PAR1 and something", "an unfinished file cannot be read; kept aside");
        check("ndjson", "{}\n", "recovered an unfinished file");
        check("pb", "\u{3}ab", removed);
        check("pb", "\u{2}ab\u{1}", "recovered an unfinished file");
    }
}
