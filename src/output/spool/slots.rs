//! A short text in a file that is replaced without any room: it stands in the file twice, and the older
//! copy is overwritten in place.
//!
//! Both copies lie in blocks of their own, which are written when the file is made, so a full disk is no
//! reason not to replace the text. Each has a number, a length and a checksum, and the newest that is
//! whole counts: a crash in mid-write leaves the one before. Whether a disk takes what overwrites what is
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

/// Puts `text` in the place of what the file at `path` holds. Without room for a new file this works
/// only where one is that has room for the text.
///
/// # Errors
/// Of the file system.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    if overwrite(path, text)? { Ok(()) } else { make(path, text) }
}

/// Overwrites the older copy; false if there is no such file, or the text does not fit.
fn overwrite(path: &Path, text: &[u8]) -> io::Result<bool> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut octets = Vec::with_capacity(2 * BLOCK + 1);
    file.read_to_end(&mut octets)?;
    let size = octets.len() / 2;
    // What has no whole copy is no file of ours, or damaged: made anew.
    let Some(copy) = newest(&octets).filter(|_| HEAD + text.len() <= size) else {
        return Ok(false);
    };
    let next = encode(copy.number + 1, text);
    file.write_all_at(&next, ((1 - copy.place) * size) as u64)?;
    Ok(true)
}

/// Makes the file beside, with the blocks of both copies, and renames it.
fn make(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    // As much again, so that it grows seldom.
    let size = (2 * (HEAD + text.len())).next_multiple_of(BLOCK);
    let mut octets = encode(1, text);
    octets.resize(2 * size, 0);
    let made = File::create(&next).and_then(|mut file| {
        file.write_all(&octets)?;
        file.sync_all()
    });
    if made.is_err() {
        // Its octets would be in the way where the disk is full.
        drop(fs::remove_file(&next));
    }
    made?;
    fs::rename(&next, path)?;
    path.parent().map_or(Ok(()), sync_directory)
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
    use super::*;

    fn read(path: &Path) -> Option<Vec<u8>> {
        text(&fs::read(path).expect("there")).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_text_is_replaced_in_place_and_a_torn_copy_leaves_the_one_before() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.cursor");
        replace(&path, b"first").expect("room");
        let (size, made) = (2 * BLOCK as u64, fs::metadata(&path).expect("there"));
        assert_eq!(made.len(), size);
        for text in [&b"second"[..], b"third, which is longer", b"4th"] {
            let before = read(&path).expect("whole");
            replace(&path, text).expect("room");
            assert_eq!(read(&path).expect("whole"), text);
            let now = fs::metadata(&path).expect("there");
            assert_eq!(now.len(), size);
            use std::os::unix::fs::MetadataExt;
            assert_eq!(now.ino(), made.ino(), "the same file, not another in its place");
            // Torn at any octet of the newest copy, it is the one before.
            let whole = fs::read(&path).expect("there");
            let at = newest(&whole).expect("whole").place * BLOCK;
            for cut in 0..HEAD + text.len() {
                let mut torn = whole.clone();
                torn[at + cut] ^= 0x10;
                assert_eq!(super::text(&torn), Some(&*before), "at {cut}");
            }
        }
    }

    #[test]
    fn what_outgrows_its_file_or_is_none_gets_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.cursor");
        replace(&path, b"short").expect("room");
        let long = vec![b'x'; BLOCK];
        replace(&path, &long).expect("room");
        assert_eq!(read(&path).expect("whole"), long);
        assert_eq!(fs::metadata(&path).expect("there").len(), 6 * BLOCK as u64);
        for none in [&b""[..], b"{}", &[0; 2 * BLOCK]] {
            fs::write(&path, none).expect("room");
            assert_eq!(read(&path), None);
            replace(&path, b"anew").expect("room");
            assert_eq!(read(&path).expect("whole"), b"anew");
        }
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1, "nothing is left");
    }
}
