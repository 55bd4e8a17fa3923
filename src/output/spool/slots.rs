//! A short text in a file that is replaced without any room: it stands in the file twice, and one copy is
//! overwritten in place.
//!
//! Both copies lie in blocks of their own, which are written when the file is made, so a full disk is no
//! reason not to replace the text. Each has a number, a length and a checksum, and the newest that is
//! whole counts. Only a copy is overwritten beside which the other is on disk, so a crash in mid-write,
//! also one that tears what was not synced, leaves that one. Whether a disk takes what overwrites what is
//! there while it is full is a matter of the file system: ext4, XFS and tmpfs do, those that copy on
//! write (Btrfs, ZFS) need room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::log::sync_directory;

/// Octets of a copy are a multiple of this: a block of the usual file systems.
const BLOCK: usize = 4096;
/// What a copy begins with, before number, checksum and length, each in hexadecimal.
const MAGIC: &str = "weir-slot-1";
/// `MAGIC SP NUMBER(16) SP CRC(8) SP LENGTH(8) LF`.
const HEAD: usize = MAGIC.len() + 1 + 16 + 1 + 8 + 1 + 8 + 1;

/// A copy that is whole.
struct Copy<'a> {
    number: u64,
    /// Which of both it is: 0 or 1.
    place: usize,
    text: &'a [u8],
}

/// The newest whole copy in what such a file holds; `None` if neither is.
pub(super) fn text(octets: &[u8]) -> Option<&[u8]> {
    newest(octets).map(|copy| copy.text)
}

/// Such a file, open.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    /// Octets of each copy's place.
    size: usize,
    number: u64,
    /// Where the newest copy stands: 0 or 1.
    place: usize,
    /// Whether that one is on disk; the other always is, once it was written.
    synced: bool,
    /// It, as it is to stand there, where a write or a sync of it failed: then it is written again, as what a
    /// failed sync has not written no later one does.
    again: Option<Vec<u8>>,
}

impl Slots {
    /// Opens the file at `path`, and has what stands in it on disk; `None` if there is none, or no
    /// whole copy in it.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut octets = Vec::with_capacity(2 * BLOCK + 1);
        file.read_to_end(&mut octets)?;
        let Some(Copy { number, place, .. }) = newest(&octets) else { return Ok(None) };
        file.sync_data()?;
        let size = octets.len() / 2;
        Ok(Some(Self { file, size, number, place, synced: true, again: None }))
    }

    /// Makes the file beside, with the blocks of both copies, and renames it.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn make(path: &Path, text: &[u8]) -> io::Result<Self> {
        let next = path.with_extension("cursor.next");
        // As much again, so that it grows seldom.
        let size = (2 * (HEAD + text.len())).next_multiple_of(BLOCK);
        let mut octets = encode(1, text);
        octets.resize(2 * size, 0);
        let made = File::create(&next).and_then(|mut file| {
            file.write_all(&octets)?;
            file.sync_all()?;
            Ok(file)
        });
        if made.is_err() {
            // Its octets would be in the way where the disk is full.
            drop(fs::remove_file(&next));
        }
        let file = made?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), sync_directory)?;
        Ok(Self { file, size, number: 1, place: 0, synced: true, again: None })
    }

    /// Puts `text` in the place of the older copy, or, while the newest is not on disk, in that one's:
    /// so one copy always is on disk, and untouched. False if it does not fit.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<bool> {
        if HEAD + text.len() > self.size {
            return Ok(false);
        }
        let place = if self.synced { 1 - self.place } else { self.place };
        // Whatever comes of it, that place may be torn now.
        (self.place, self.synced) = (place, false);
        self.number += 1;
        self.put(encode(self.number, text))?;
        Ok(true)
    }

    /// Has the newest copy on disk.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.synced {
            return Ok(());
        }
        if let Some(octets) = self.again.take() {
            self.put(octets)?;
        }
        if let Err(error) = self.file.sync_data() {
            let mut octets = vec![0; self.size];
            self.file.read_exact_at(&mut octets, (self.place * self.size) as u64)?;
            self.again = Some(octets);
            return Err(error);
        }
        self.synced = true;
        Ok(())
    }

    /// Writes the newest copy; one that fails is written again before it is synced.
    fn put(&mut self, octets: Vec<u8>) -> io::Result<()> {
        self.again = None;
        let written = self.file.write_all_at(&octets, (self.place * self.size) as u64);
        if written.is_err() {
            self.again = Some(octets);
        }
        written
    }
}

/// Puts `text` in the place of what `slots` hold, or makes the file at `path`.
///
/// # Errors
/// Of the file system.
pub(super) fn write(slots: &mut Option<Slots>, path: &Path, text: &[u8]) -> io::Result<()> {
    if slots.is_none() {
        *slots = Slots::open(path)?;
    }
    if let Some(open) = slots
        && open.write(text)?
    {
        return Ok(());
    }
    *slots = Some(Slots::make(path, text)?);
    Ok(())
}

fn encode(number: u64, text: &[u8]) -> Vec<u8> {
    let crc = checksum(number, text);
    let mut octets = format!("{MAGIC} {number:016x} {crc:08x} {:08x}\n", text.len()).into_bytes();
    octets.extend_from_slice(text);
    octets
}

fn checksum(number: u64, text: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&number.to_le_bytes());
    hash.update(text);
    hash.finalize()
}

fn newest(octets: &[u8]) -> Option<Copy<'_>> {
    let size = octets.len() / 2;
    let copies = [(0, &octets[..size]), (1, &octets[size..])];
    let whole = copies.into_iter().filter_map(|(place, octets)| {
        let (number, text) = decode(octets)?;
        Some(Copy { number, place, text })
    });
    whole.max_by_key(|copy| copy.number)
}

fn decode(octets: &[u8]) -> Option<(u64, &[u8])> {
    let head = std::str::from_utf8(octets.get(..HEAD)?).ok()?;
    let mut words = head.strip_suffix('\n')?.split(' ');
    let magic = words.next()?;
    let number = u64::from_str_radix(words.next()?, 16).ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    let length = usize::from_str_radix(words.next()?, 16).ok()?;
    let text = octets[HEAD..].get(..length)?;
    (magic == MAGIC && words.next().is_none() && crc == checksum(number, text))
        .then_some((number, text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn read(path: &Path) -> Option<Vec<u8>> {
        text(&fs::read(path).expect("there")).map(<[u8]>::to_vec)
    }

    /// Power is lost at any moment: what was not synced is torn in any octet, or not there at all.
    #[test]
    fn whatever_is_torn_the_text_that_was_synced_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.cursor");
        let mut slots = Slots::make(&path, b"made").expect("room");
        let inode = fs::metadata(&path).expect("there").ino();
        let (mut synced, mut on_disk) = (b"made".to_vec(), fs::read(&path).expect("there"));
        for step in 0_usize..12 {
            let text = vec![b'a' + u8::try_from(step).expect("few"); 1 + 700 * (step % 3)];
            assert!(slots.write(&text).expect("written"));
            assert_eq!(read(&path).expect("whole"), text, "step {step}");
            let now = fs::read(&path).expect("there");
            assert_eq!(super::text(&on_disk), Some(&*synced), "nothing of it came to the disk");
            // Of what is not on disk some octets are; of the rest, what was there before.
            let changed: Vec<usize> = (0..now.len()).filter(|&at| now[at] != on_disk[at]).collect();
            for cut in (0..changed.len()).step_by(7) {
                for (early, late) in [(&on_disk, &now), (&now, &on_disk)] {
                    let mut torn = early.clone();
                    changed[..cut].iter().for_each(|&at| torn[at] = late[at]);
                    let left = super::text(&torn).expect("one is whole");
                    assert!(left == synced || left == text, "step {step}, cut {cut}");
                }
                let mut torn = now.clone();
                changed[cut..].iter().for_each(|&at| torn[at] ^= 0x10);
                // Nothing is torn where only octets behind the text are.
                let left = super::text(&torn).expect("one is whole");
                assert!(left == synced || (left == text && cut > 0), "step {step}, torn at {cut}");
            }
            // Synced after one, two and three writes.
            if [0, 2, 5, 6, 9].contains(&step) {
                slots.sync().expect("synced");
                (synced, on_disk) = (text, now);
            }
        }
        let made = fs::metadata(&path).expect("there");
        assert_eq!((made.ino(), made.len()), (inode, 2 * BLOCK as u64), "the same file, as it was");
    }

    /// A handle that takes nothing stands for a disk that takes nothing.
    #[test]
    fn what_a_disk_did_not_take_is_written_again_before_the_other_copy_is_touched() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.cursor");
        let mut slots = Slots::make(&path, b"made").expect("room");
        assert!(slots.write(b"first").expect("room"));
        slots.sync().expect("synced");
        let deaf = File::open(&path).expect("there");
        let well = std::mem::replace(&mut slots.file, deaf);
        slots.write(b"second").expect_err("nothing is taken");
        slots.write(b"third").expect_err("nothing is taken");
        slots.sync().expect_err("nothing is taken");
        assert!(!slots.synced);
        assert_eq!(
            read(&path).expect("whole"),
            b"first",
            "the copy that is on disk is not touched"
        );
        slots.file = well;
        slots.sync().expect("synced");
        assert_eq!(read(&path).expect("whole"), b"third");
        let place = slots.place;
        assert!(slots.write(b"fourth").expect("room"));
        assert_ne!(slots.place, place);
        assert_eq!(read(&path).expect("whole"), b"fourth");
    }

    #[test]
    fn what_outgrows_its_file_or_is_none_gets_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.cursor");
        write(&mut None, &path, b"short").expect("room");
        let long = vec![b'x'; BLOCK];
        let mut slots = None;
        write(&mut slots, &path, &long).expect("room");
        assert_eq!(read(&path).expect("whole"), long);
        assert_eq!(fs::metadata(&path).expect("there").len(), 6 * BLOCK as u64);
        for none in [&b""[..], b"{}", &[0; 2 * BLOCK]] {
            fs::write(&path, none).expect("room");
            assert_eq!(read(&path), None);
            write(&mut None, &path, b"anew").expect("room");
            assert_eq!(read(&path).expect("whole"), b"anew");
        }
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing is left");
    }
}
