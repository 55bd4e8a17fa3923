//! Segments: files of frames. One is written at a time.
//!
//! A segment that is being written is `NUMBER.open`; once it is whole and synced it is renamed to
//! `NUMBER.sealed` and never changes again. It describes itself: after its header come the Arrow
//! schemas of both streams, then frames of records.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use serde::Serialize;

use super::columns::{Block, Builder, schema};
use super::frame::{self, HEADER, Header, Kind, MAGIC, Press};
use super::recover::of;
use crate::config::Select;
use crate::output::schema::Stream;
use crate::time::Micros;

/// Octets of a segment's header.
pub(super) const HEAD: usize = 40;
const HEAD_MAGIC: [u8; 8] = *b"WeirSeg1";
/// Octets read at once when looking for the next frame.
const BLOCK: usize = 64 << 10;
const STREAMS: [Stream; 2] = [Stream::Slices, Stream::Alerts];

/// What a segment is: its name, and what objects are named by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its number; they grow by one, and none is ever used twice in one spool.
    pub number: u64,
    /// When it was created, by the wall clock.
    pub created: Micros,
    /// The spool's own number, drawn when the spool was made.
    pub spool: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(&HEAD_MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.created.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.spool.to_le_bytes());
        let crc = crc32fast::hash(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(octets: &[u8; HEAD]) -> Option<Self> {
        let word = |at: usize| <[u8; 8]>::try_from(&octets[at..at + 8]).expect("eight octets");
        let crc = u32::from_le_bytes(octets[36..].try_into().expect("four octets"));
        let good = octets[..8] == HEAD_MAGIC && crc == crc32fast::hash(&octets[..36]);
        good.then(|| Self {
            number: u64::from_le_bytes(word(8)),
            created: Micros(i64::from_le_bytes(word(16))),
            spool: u64::from_le_bytes(word(24)),
        })
    }
}

/// How many records there are, for each selection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Sums {
    /// Slices.
    pub slices: u64,
    /// Of these, tagged.
    pub tagged: u64,
    /// Alerts.
    pub alerts: u64,
}

impl Sums {
    /// Of one frame.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        let (records, tagged) = (header.records.into(), header.tagged.into());
        match header.kind {
            Kind::Records(Stream::Slices) => Self { slices: records, tagged, alerts: 0 },
            Kind::Records(Stream::Alerts) => Self { alerts: records, ..Self::default() },
            Kind::Schema(_) => Self::default(),
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: Self) {
        self.slices += other.slices;
        self.tagged += other.tagged;
        self.alerts += other.alerts;
    }

    /// All records.
    #[must_use]
    pub const fn records(self) -> u64 {
        self.slices + self.alerts
    }

    /// What `select` takes.
    #[must_use]
    pub const fn select(self, select: Select) -> u64 {
        match select {
            Select::Slices => self.slices,
            Select::Tagged => self.tagged,
            Select::Alerts => self.alerts,
        }
    }
}

fn path(directory: &Path, number: u64, state: &str) -> PathBuf {
    directory.join(format!("{number:020}.{state}"))
}

/// The path of the segment `number` while it is written.
pub(super) fn open_path(directory: &Path, number: u64) -> PathBuf {
    path(directory, number, "open")
}

/// Its path once it is sealed.
pub(super) fn sealed_path(directory: &Path, number: u64) -> PathBuf {
    path(directory, number, "sealed")
}

/// The segments in `directory`, in their order, each with whether it is sealed.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(of(directory))? {
        let name = entry?.file_name();
        let Some((number, state)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let sealed = match state {
            "sealed" => true,
            "open" => false,
            _ => continue,
        };
        if let (20, Ok(number)) = (number.len(), number.parse()) {
            found.push((number, sealed));
        }
    }
    found.sort_unstable();
    // Renaming replaces: of both names only one can be left.
    found.dedup_by_key(|(number, _)| *number);
    Ok(found)
}

/// The segment that is being written.
pub(super) struct Appender {
    pub(super) head: Head,
    pub(super) file: Arc<File>,
    /// Octets of its head and of whole frames.
    pub(super) octets: u64,
    /// Whether it has a frame of records.
    pub(super) begun: bool,
}

impl Appender {
    /// Makes the file of `head` in `directory`.
    pub(super) fn create(directory: &Path, head: Head) -> io::Result<Self> {
        let path = open_path(directory, head.number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let written = Self::begin(file, head);
        if written.is_err() {
            // What cannot be begun must not be found at the next try.
            fs::remove_file(&path)?;
        }
        written
    }

    fn begin(file: File, head: Head) -> io::Result<Self> {
        let mut press = Press::new()?;
        let mut begin = head.encode().to_vec();
        for stream in STREAMS {
            let (_, message) = messages(stream)?;
            press.frame(&mut begin, Kind::Schema(stream), &message, (0, 0), head.created)?;
        }
        (&file).write_all(&begin)?;
        Ok(Self { head, file: Arc::new(file), octets: begin.len() as u64, begun: false })
    }

    /// Writes `frame` at the end. After an error the segment is as before, and it can be tried
    /// again.
    pub(super) fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(frame, self.octets) {
            // What is behind the end is overwritten by the next frame, or cut off by the seal.
            drop(self.file.set_len(self.octets));
            return Err(error);
        }
        self.octets += frame.len() as u64;
        self.begun = true;
        Ok(())
    }
}

/// A writer of messages of `stream`, and the message with its schema.
fn messages(stream: Stream) -> io::Result<(StreamWriter<Vec<u8>>, Vec<u8>)> {
    let mut writer =
        StreamWriter::try_new(Vec::new(), &schema(stream)).map_err(io::Error::other)?;
    let schema = std::mem::take(writer.get_mut());
    Ok((writer, schema))
}

/// Makes frames of the records of one stream. A frame stands for itself under the schema that every
/// segment begins with, so it can be made before it is known where it goes.
pub(super) struct Framer {
    stream: Stream,
    writer: StreamWriter<Vec<u8>>,
    press: Press,
}

impl Framer {
    pub(super) fn new(stream: Stream) -> io::Result<Self> {
        Ok(Self { stream, writer: messages(stream)?.0, press: Press::new()? })
    }

    /// Puts the frame of the records that `builder` gathered into `frame`, and empties `builder`.
    ///
    /// # Errors
    /// If the records do not fit into a frame.
    pub(super) fn make(
        &mut self,
        frame: &mut Vec<u8>,
        builder: &mut Builder,
        tagged: usize,
        now: Micros,
    ) -> io::Result<Header> {
        let records = builder.rows();
        let batch = builder.take().map_err(io::Error::other)?;
        self.writer.write(&batch).map_err(io::Error::other)?;
        let message = self.writer.get_mut();
        frame.clear();
        let kind = Kind::Records(self.stream);
        let made = self.press.frame(frame, kind, message, (records, tagged), now);
        message.clear();
        made?;
        let header = frame[..HEADER].try_into().expect("a frame has a header");
        Ok(Header::decode(header).expect("made here"))
    }
}

/// One segment, for reading.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    pub(super) head: Head,
    /// The messages with the schemas, as found.
    schemas: HashMap<Stream, Vec<u8>>,
    /// Where the first frame of records may be.
    pub(super) start: u64,
}

impl Segment {
    /// Opens the segment `number` in `directory`, sealed or not, of which `end` octets are whole
    /// ([`u64::MAX`]: all). What stands behind them may be a frame that is being written.
    pub(super) fn open(directory: &Path, number: u64, end: u64) -> io::Result<Self> {
        let sealed = File::open(sealed_path(directory, number));
        let file = match sealed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::open(open_path(directory, number)).or_else(|_| {
                    // Or it was sealed in between.
                    File::open(sealed_path(directory, number))
                })?
            }
            other => other?,
        };
        Self::of(file, end)
    }

    /// Reads the head of `file`, of which `end` octets are whole.
    pub(super) fn of(file: File, end: u64) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "no head of a segment");
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0)?;
        let head = Head::decode(&head).ok_or_else(damaged)?;
        let mut segment = Self { file, head, schemas: HashMap::new(), start: HEAD as u64 };
        let end = segment.file.metadata()?.len().min(end);
        while let Some(found) = segment.frame(segment.start, end)? {
            let Kind::Schema(stream) = found.header.kind else { break };
            if let Some(message) = segment.payload(&found)? {
                segment.schemas.insert(stream, message);
            }
            segment.start = found.end();
        }
        Ok(segment)
    }

    /// Cuts the file at `end`, and syncs it.
    pub(super) fn cut(&self, end: u64) -> io::Result<()> {
        self.file.set_len(end)?;
        self.file.sync_all()
    }

    /// Octets of the file now.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The first frame of records that begins at `offset` or after it and ends by `end`. Octets
    /// that are no frame are stepped over; behind what a disk does not read there is none.
    pub(super) fn next(&self, offset: u64, end: u64) -> Option<Found> {
        let read = || self.frame(offset.max(self.start), end);
        read().or_else(|_| read()).unwrap_or_else(|error| self.tell_unread(offset, &error))
    }

    fn tell_unread<T>(&self, offset: u64, error: &io::Error) -> Option<T> {
        let segment = self.head.number;
        tracing::error!(segment, offset, %error, "the disk does not read this of the spool: it is damaged");
        None
    }

    /// The first frame of any kind at `at` or after it that ends by `end`.
    pub(super) fn frame(&self, mut at: u64, end: u64) -> io::Result<Option<Found>> {
        // What somebody cut off is not there, and what stands before it is.
        let end = end.min(self.len()?);
        let mut block = Vec::new();
        let mut block_at = 0;
        while at + HEADER as u64 <= end {
            let mut octets = [0; HEADER];
            self.file.read_exact_at(&mut octets, at)?;
            let found = Header::decode(&octets).map(|header| Found { offset: at, header });
            if let Some(found) = found.filter(|found| found.end() <= end) {
                return Ok(Some(found));
            }
            // The next place where the magic stands.
            at += 1;
            loop {
                if block_at + block.len() as u64 <= at + MAGIC.len() as u64 || at < block_at {
                    let len = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
                    block.resize(len, 0);
                    block_at = at;
                    self.file.read_exact_at(&mut block, at)?;
                }
                let from = usize::try_from(at - block_at).expect("within the block");
                let windows = block[from..].windows(MAGIC.len());
                if let Some(place) = windows.into_iter().position(|octets| *octets == MAGIC) {
                    at += place as u64;
                    break;
                }
                at = block_at + block.len() as u64 - (MAGIC.len() as u64 - 1);
                if at + HEADER as u64 > end {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// The payload of `found`; `None` if it is damaged.
    pub(super) fn payload(&self, found: &Found) -> io::Result<Option<Vec<u8>>> {
        let mut stored = vec![0; found.header.stored as usize];
        self.file.read_exact_at(&mut stored, found.offset + HEADER as u64)?;
        Ok(frame::payload(&found.header, &stored))
    }

    /// The records of `found`; `None` if they are damaged, or the disk does not read them.
    pub(super) fn block(&self, found: &Found) -> Option<Block> {
        let Kind::Records(stream) = found.header.kind else { return None };
        let schema = self.schemas.get(&stream)?;
        let payload = self.payload(found).or_else(|_| self.payload(found));
        let payload = payload.unwrap_or_else(|error| self.tell_unread(found.offset, &error))?;
        let batch = decode(schema.clone(), payload);
        let whole = batch.filter(|batch| batch.num_rows() == found.header.records as usize);
        whole.map(|batch| Block::new(stream, &batch))
    }
}

/// The batch of the IPC message `payload` under `schema`.
fn decode(schema: Vec<u8>, payload: Vec<u8>) -> Option<arrow_array::RecordBatch> {
    let mut decoder = StreamDecoder::new();
    decoder.decode(&mut Buffer::from_vec(schema)).ok()?;
    decoder.decode(&mut Buffer::from_vec(payload)).ok()?
}

/// A frame in a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) header: Header,
}

impl Found {
    /// The offset after it.
    pub(super) const fn end(&self) -> u64 {
        self.offset + self.header.frame()
    }
}

/// What a walk through a segment found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Walk {
    pub(super) sums: Sums,
    /// Frames of records.
    pub(super) frames: u64,
    /// When the first of them was written.
    pub(super) first: Option<Micros>,
    /// When the last of them was.
    pub(super) last: Option<Micros>,
    /// Where the last whole frame ends.
    pub(super) end: u64,
    /// Octets between frames that are none, and frames whose payload is damaged.
    pub(super) damaged: u64,
    /// Octets after the last whole frame.
    pub(super) torn: u64,
}

/// Walks through `segment` from `from` on. With `verify` payloads are checked; else only headers
/// are read.
pub(super) fn walk(segment: &Segment, from: u64, verify: bool) -> io::Result<Walk> {
    let len = segment.file.metadata()?.len();
    let mut walk = Walk { end: segment.start.max(from), ..Walk::default() };
    let mut at = walk.end;
    while let Some(found) = segment.next(at, len) {
        at = found.end();
        let whole = !verify || segment.payload(&found)?.is_some();
        if !whole {
            continue;
        }
        walk.damaged += found.offset - walk.end;
        walk.end = at;
        walk.sums.add(Sums::of(&found.header));
        if matches!(found.header.kind, Kind::Records(_)) {
            walk.frames += 1;
            walk.first = walk.first.or(Some(found.header.written));
            walk.last = Some(found.header.written);
        }
    }
    walk.torn = len.saturating_sub(walk.end);
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::TaggedSlice;
    use crate::flow::FlowId;
    use crate::output::schema::{Context, Shown};
    use crate::output::{Row, schema::Value};

    /// A segment of `frames` frames, the first with one slice, the next with two, and so on.
    fn write(directory: &Path, frames: u128) -> Appender {
        let head = Head { number: 7, created: Micros(1), spool: 9 };
        let mut segment = Appender::create(directory, head).expect("room");
        let mut builder = Builder::new(Stream::Slices);
        let (mut framer, mut octets) = (Framer::new(Stream::Slices).expect("zstd"), Vec::new());
        for frame in 1..=frames {
            for row in 0..frame {
                let mut slice = TaggedSlice::default();
                slice.slice.flow_id = FlowId(frame << 32 | row);
                builder.push(&Shown::new(Row::from(&slice), &Context::default()));
            }
            let header = framer.make(&mut octets, &mut builder, 0, Micros(5)).expect("columns");
            assert_eq!(u128::from(header.records), frame);
            segment.write(&octets).expect("room");
        }
        segment
    }

    fn ids(segment: &Segment, end: u64) -> Vec<u128> {
        let index = Stream::Slices.index_of("flow_id").expect("a field");
        let (mut at, mut ids) = (0, Vec::new());
        while let Some(found) = segment.next(at, end) {
            if let Some(block) = segment.block(&found) {
                for row in 0..block.rows() {
                    let Value::Hex(id) = block.value(row, index) else { panic!("an id") };
                    ids.push(id);
                }
            }
            at = found.end();
        }
        ids
    }

    #[test]
    fn a_segment_is_read_up_to_any_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let appender = write(directory.path(), 5);
        let segment = Segment::open(directory.path(), 7, u64::MAX).expect("a segment");
        assert_eq!(segment.head, appender.head);
        let whole = walk(&segment, 0, true).expect("readable");
        assert_eq!((whole.frames, whole.sums.slices, whole.damaged, whole.torn), (5, 15, 0, 0));
        assert_eq!(whole.end, appender.octets);
        let all = ids(&segment, appender.octets);
        assert_eq!(all.len(), 15);
        let octets = fs::read(open_path(directory.path(), 7)).expect("readable");
        let start = usize::try_from(segment.start).expect("small");
        let put = |octets: &[u8]| {
            appender.file.set_len(0).expect("a shorter file");
            appender.file.write_all_at(octets, 0).expect("room");
        };
        for cut in (start..=octets.len()).step_by(7) {
            put(&octets[..cut]);
            let walked = walk(&segment, 0, true).expect("readable");
            assert_eq!(walked.end + walked.torn, cut as u64);
            let kept = ids(&segment, cut as u64);
            assert_eq!(kept, all[..kept.len()], "cut at {cut}");
            assert_eq!(kept.len() as u64, walked.sums.slices);
            // As long as before, but zeros: what a power loss may leave.
            let mut zeroed = octets[..cut].to_vec();
            zeroed.resize(octets.len(), 0);
            put(&zeroed);
            assert_eq!(walk(&segment, 0, true).expect("readable").sums, walked.sums, "{cut}");
        }
    }

    /// A handle that nothing can be read of stands for a disk with bad sectors.
    #[test]
    fn what_the_disk_does_not_read_is_damage_and_no_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let appender = write(directory.path(), 5);
        let mut segment = Segment::open(directory.path(), 7, u64::MAX).expect("a segment");
        let found = segment.next(0, appender.octets).expect("a frame");
        assert!(segment.block(&found).is_some());
        let deaf = OpenOptions::new().write(true).open(open_path(directory.path(), 7));
        segment.file = deaf.expect("there");
        assert!(segment.block(&found).is_none() && segment.next(0, appender.octets).is_none());
        let walked = walk(&segment, 0, false).expect("its length is known");
        assert_eq!((walked.frames, walked.end + walked.torn), (0, appender.octets));
        let objects = crate::output::spool::Objects::new(&segment, Select::Slices, appender.octets);
        assert_eq!((objects.units().count(), objects.given()), (0, 0));
        assert_eq!(objects.damaged(), appender.octets - segment.start);
    }

    #[test]
    fn a_damaged_frame_costs_only_itself() {
        let directory = tempfile::tempdir().expect("a directory");
        let appender = write(directory.path(), 5);
        let segment = Segment::open(directory.path(), 7, u64::MAX).expect("a segment");
        let all = ids(&segment, appender.octets);
        let octets = fs::read(open_path(directory.path(), 7)).expect("readable");
        let start = usize::try_from(segment.start).expect("small");
        for at in (start..octets.len()).step_by(11) {
            let mut damaged = octets.clone();
            damaged[at] ^= 0x10;
            appender.file.write_all_at(&damaged, 0).expect("room");
            let kept = ids(&segment, appender.octets);
            let walked = walk(&segment, 0, true).expect("readable");
            assert_eq!(walked.frames, 4, "octet {at}");
            assert!(walked.damaged + walked.torn > 0);
            assert_eq!(kept.len() as u64, walked.sums.slices);
            assert!(kept.iter().all(|id| all.contains(id)));
        }
    }
}
