//! The thread that syncs at an interval, and seals segments.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::log::{Log, sync_directory};
use super::seals::Seal;
use super::segment::{open_path, sealed_path};
use super::wall;

/// What the thread is asked for.
pub(super) enum Sync {
    /// Sync the segment, cut off what is behind its end, and give it its final name. Its file is
    /// opened again for it: one that waits here and is given up meanwhile takes no room.
    Seal {
        number: u64,
        octets: u64,
    },
    Close,
}

/// Runs until it is asked to close.
pub(super) fn run(log: &Log, interval: Duration, receiver: &Receiver<Sync>) {
    let mut waiting: Vec<(u64, u64)> = Vec::new();
    let mut closed = false;
    while !closed {
        match receiver.recv_timeout(interval) {
            Ok(Sync::Seal { number, octets }) => waiting.push((number, octets)),
            Ok(Sync::Close) | Err(RecvTimeoutError::Disconnected) => closed = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        waiting.retain(|&(number, octets)| {
            let sealed = seal(log, number, octets);
            if let Err(error) = &sealed {
                failed(log, error);
            }
            sealed.is_err()
        });
        let unsynced = log.unsynced.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = unsynced {
            let synced = file.sync_data().and_then(|()| sync_directory(&log.segments()));
            if let Err(error) = synced {
                failed(log, &error);
            }
        }
        log.sync_cursors();
    }
    log.book().finished = true;
    log.notify();
}

fn failed(log: &Log, error: &io::Error) {
    log.error("sync");
    log.seldom("spool", 0, |left_out| {
        let directory = log.directory.display();
        tracing::error!(%directory, %error, left_out, "cannot sync the spool");
    });
}

/// Seals the segment `number`, unless it was given up.
fn seal(log: &Log, number: u64, octets: u64) -> io::Result<()> {
    let sealed = rename(log, number, octets);
    if !log.book().has(number) {
        // Given up, perhaps just now: whoever did so removes it, under either name.
        return Ok(());
    }
    let gone = |error: &io::Error| {
        let there = |path: &Path| path.try_exists().unwrap_or(true);
        let place = log.segments();
        error.kind() == io::ErrorKind::NotFound
            && !there(&open_path(&place, number))
            && !there(&sealed_path(&place, number))
    };
    if sealed.as_ref().is_err_and(gone) {
        log.vanished(number, octets);
        return Ok(());
    }
    sealed?;
    let mut book = log.book();
    book.sealed(number);
    let gone = book.clean(wall());
    drop(book);
    log.remove(&gone);
    log.notify();
    Ok(())
}

fn rename(log: &Log, number: u64, octets: u64) -> io::Result<()> {
    let directory = log.segments();
    let (open, sealed) = (open_path(&directory, number), sealed_path(&directory, number));
    let file = File::options().write(true).open(&open)?;
    file.set_len(octets)?;
    file.sync_all()?;
    // Before its name: so each that is sealed is known by what it held, but where the disk is full.
    if let Some(sums) = log.book().sums(number)
        && let Err(error) = log.seals().note(number, Seal { octets, sums })
    {
        failed(log, &error);
    }
    fs::rename(open, sealed)?;
    sync_directory(&directory)
}
