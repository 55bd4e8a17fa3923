//! gzip and zstd, opened on the way in.

use std::io::{self, BufReader, Cursor, Read};

/// Octets of one read.
const READ: usize = 256 << 10;

/// Looks at the first octets of `source` for gzip (RFC 1952) or zstd (RFC 8878) and returns what is
/// in it; anything else as it is.
///
/// # Errors
/// Of the source.
pub fn open<'s>(mut source: impl Read + Send + 's) -> io::Result<Box<dyn Read + Send + 's>> {
    let mut first = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut first)?;
    let gzip = first.starts_with(&[0x1f, 0x8b]);
    let zstd = first == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = Cursor::new(first).chain(source);
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(READ, whole)))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(READ, whole))?)
    } else {
        Box::new(whole)
    })
}
