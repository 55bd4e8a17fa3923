//! The octets of a feed's file to sets: line by line, without allocation for an address.

use std::collections::HashMap;

use super::cover;
use super::value::{self, Fault, Value};
use super::{BadLine, Feed, FeedError, Group, Networks, Tally};
use crate::config::{self, FeedFormat, FeedKind};
use crate::detect::Level;
use crate::detect::sigma::interval::IntervalSet;

/// Octets of a line, at most.
const LINE_MAX: usize = 64 << 10;
/// Bad lines that are named, and columns of a header.
const NAMED_MAX: usize = 10;
/// Characters of a text that a message shows.
const CHARS_SHOWN: usize = 80;
/// Indicators of a feed, at most.
const INDICATORS_MAX: u64 = 1 << 24;
/// Names of a feed, at most: they are searched as text.
const NAMES_MAX: u64 = 10_000;
/// Groups of rows (title, level, tags) of a feed, at most; further rows join the feed's own.
const GROUPS_MAX: usize = 1_000;

/// Takes in a feed's file, chunk by chunk.
#[derive(Debug)]
pub struct Reader {
    spec: config::Feed,
    /// What came of a line that goes on in the next chunk.
    open: Vec<u8>,
    /// Whether that line is too long already.
    skips: bool,
    tally: Tally,
    bad: Vec<BadLine>,
    unknown_levels: Vec<(u64, String)>,
    groups: Vec<Pending>,
    by_key: HashMap<String, usize>,
    /// Scratch: the key of a row's group.
    key: String,
    rows: Option<Rows>,
}

/// A group in the making.
#[derive(Debug, Default)]
struct Pending {
    title: String,
    level: Option<Level>,
    tags: Vec<String>,
    addresses: Vec<(u128, u128)>,
    networks: Vec<(u128, u128)>,
    ports: Vec<(u128, u128)>,
    names: Vec<String>,
}

/// How rows of CSV are read.
#[derive(Debug)]
struct Rows {
    reader: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// Fields of the row.
    count: usize,
    /// Where the columns are: value, title, level, tags. Unknown before a header named them.
    columns: Option<[Option<usize>; 4]>,
    /// Whether no row was taken yet: the first may be a header.
    fresh: bool,
    /// The first row, as long as no row named the columns.
    first: Vec<String>,
}

impl Reader {
    /// A reader of the file that `spec` names.
    #[must_use]
    pub fn new(spec: config::Feed) -> Self {
        let rows = (spec.format == FeedFormat::Csv).then(|| Rows {
            reader: csv_core::Reader::new(),
            fields: vec![0; LINE_MAX],
            ends: vec![0; 1_024],
            count: 0,
            columns: columns(&spec, None),
            fresh: true,
            first: Vec::new(),
        });
        Self {
            spec,
            open: Vec::new(),
            skips: false,
            tally: Tally::default(),
            bad: Vec::new(),
            unknown_levels: Vec::new(),
            groups: vec![Pending::default()],
            by_key: HashMap::new(),
            key: String::new(),
            rows,
        }
    }

    /// Takes in the next octets of the file, decompressed.
    ///
    /// # Errors
    /// [`FeedError::TooLarge`].
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), FeedError> {
        let mut lines = chunk.split(|&octet| octet == b'\n');
        let Some(mut line) = lines.next() else { return Ok(()) };
        for next in lines {
            if self.open.is_empty() && !self.skips && line.len() <= LINE_MAX {
                self.line(line);
            } else {
                self.hold(line);
                self.close();
            }
            line = next;
        }
        self.hold(line);
        let Tally { addresses, networks, ports, .. } = self.tally;
        let many = addresses + networks + ports > INDICATORS_MAX;
        if many { Err(FeedError::TooLarge(INDICATORS_MAX)) } else { Ok(()) }
    }

    fn hold(&mut self, part: &[u8]) {
        self.skips |= self.open.len() + part.len() > LINE_MAX;
        if self.skips {
            self.open.clear();
        } else {
            self.open.extend_from_slice(part);
        }
    }

    fn close(&mut self) {
        let mut line = std::mem::take(&mut self.open);
        if std::mem::take(&mut self.skips) {
            self.tally.lines += 1;
            self.bad(b"", Fault::Line);
        } else {
            self.line(&line);
        }
        line.clear();
        self.open = line;
    }

    /// The end of the file.
    ///
    /// # Errors
    /// If the feed holds no indicator, its header not the column, or its networks hold nearly
    /// everything.
    pub fn finish(mut self) -> Result<Feed, FeedError> {
        if !self.open.is_empty() || self.skips {
            self.close();
        }
        if let Some(rows) = self.rows.as_mut().filter(|rows| rows.columns.is_none()) {
            let header = std::mem::take(&mut rows.first);
            return Err(FeedError::Column { wanted: missing(&self.spec, &header), header });
        }
        let Tally { addresses, networks, ports, names, .. } = self.tally;
        if addresses + networks + ports + names == 0 {
            let (lines, first) = (self.tally.lines, self.bad.into_iter().next());
            return Err(FeedError::Empty { lines, first });
        }
        let groups = self.groups.into_iter().filter_map(Pending::close).collect();
        let Self { spec, tally, bad, unknown_levels, .. } = self;
        let feed = Feed { spec, groups, tally, bad, unknown_levels };
        match cover::all(feed.addresses()) {
            Some(all) => Err(FeedError::Everything(all)),
            None => Ok(feed),
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.tally.lines += 1;
        let line = if self.tally.lines == 1 {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        } else {
            line
        };
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if line[0] == b'#' || line[0] == b';' {
            self.comment(&line[1..]);
        } else if self.rows.is_some() {
            self.row(line);
        } else {
            let text = unquoted(without_comment(line));
            let found = self.parse(text);
            self.take(0, text, found);
        }
    }

    /// A header may stand in a comment.
    fn comment(&mut self, text: &[u8]) {
        let Some(rows) = self.rows.as_mut().filter(|rows| rows.columns.is_none()) else { return };
        if rows.split(text.trim_ascii()) {
            rows.columns = columns(&self.spec, Some(rows));
        }
    }

    fn row(&mut self, line: &[u8]) {
        let Some(mut rows) = self.rows.take() else { return };
        let fresh = std::mem::take(&mut rows.fresh);
        if !rows.split(line) {
            self.bad(line, Fault::Row);
        } else if let Some(columns) = rows.columns {
            self.fields(&rows, columns.map(|at| at.and_then(|at| rows.field(at))), fresh);
        } else {
            rows.columns = columns(&self.spec, Some(&rows));
            if fresh {
                rows.first = rows.named();
            }
        }
        self.rows = Some(rows);
    }

    fn fields(&mut self, rows: &Rows, columns: [Option<&[u8]>; 4], fresh: bool) {
        let [value, title, level, tags] = columns;
        let Some(value) = value else {
            return self.bad(rows.field(0).unwrap_or_default(), Fault::Row);
        };
        let found = self.parse(value);
        let is_name = matches!(found, Ok(Value::Name(_))) && self.spec.kind != FeedKind::Name;
        if fresh && (found.is_err() || is_name) {
            return;
        }
        let group = self.group([title, level, tags]);
        self.take(group, value, found);
    }

    /// The group of a row; the feed's own if it says nothing, or there are too many.
    fn group(&mut self, texts: [Option<&[u8]>; 3]) -> usize {
        let text = |at: usize| {
            let octets: Option<&[u8]> = texts[at];
            octets.and_then(|octets| std::str::from_utf8(octets).ok()).unwrap_or_default()
        };
        let (title, level, tags) = (text(0), level_of(text(1)), text(2));
        if level.is_none() && !text(1).is_empty() {
            self.tally.unknown_levels += 1;
            if self.unknown_levels.len() < NAMED_MAX {
                let level = text(1).chars().take(CHARS_SHOWN).collect();
                self.unknown_levels.push((self.tally.lines, level));
            }
        }
        if title.is_empty() && level.is_none() && tags.is_empty() {
            return 0;
        }
        self.key.clear();
        for part in [title, level.map_or("", Level::as_str), tags] {
            self.key.push_str(part);
            self.key.push('\0');
        }
        if let Some(&group) = self.by_key.get(&self.key) {
            return group;
        }
        if self.groups.len() > GROUPS_MAX {
            self.tally.ungrouped += 1;
            return 0;
        }
        let split = tags.split([' ', ',', ';', '|']).filter(|tag| !tag.is_empty());
        let tags = split.map(str::to_owned).collect();
        let group = self.groups.len();
        self.groups.push(Pending { title: title.to_owned(), level, tags, ..Pending::default() });
        self.by_key.insert(self.key.clone(), group);
        group
    }

    fn parse(&self, text: &[u8]) -> Result<Value, Fault> {
        match self.spec.kind {
            FeedKind::Name => {
                let name = std::str::from_utf8(text).map_err(|_| Fault::Line)?;
                let fits = !name.is_empty() && name.chars().count() <= 128;
                if fits { Ok(Value::Name(name.to_owned())) } else { Err(Fault::Unknown) }
            }
            kind => match (kind, value::parse(text)?) {
                (FeedKind::Address, Value::Ports(..) | Value::Name(_))
                | (FeedKind::Port, Value::Addresses(..) | Value::Name(_)) => Err(Fault::Kind),
                (_, value) => Ok(value),
            },
        }
    }

    fn take(&mut self, group: usize, text: &[u8], found: Result<Value, Fault>) {
        let (tally, group) = (&mut self.tally, &mut self.groups[group]);
        match found {
            Ok(Value::Addresses(first, last)) => {
                group.addresses.push((first, last));
                if first == last {
                    tally.addresses += 1;
                } else {
                    tally.networks += 1;
                    group.networks.push((first, last));
                }
            }
            Ok(Value::Ports(first, last)) => {
                tally.ports += 1;
                group.ports.push((first.into(), last.into()));
            }
            Ok(Value::Name(_)) if tally.names >= NAMES_MAX => self.bad(text, Fault::NamesMax),
            Ok(Value::Name(name)) => {
                tally.names += 1;
                group.names.push(name);
            }
            Err(fault) => self.bad(text, fault),
        }
    }

    fn bad(&mut self, text: impl AsRef<[u8]>, fault: Fault) {
        self.tally.bad += 1;
        if self.bad.len() < NAMED_MAX {
            let text = String::from_utf8_lossy(text.as_ref());
            let text = text.chars().take(CHARS_SHOWN).collect();
            self.bad.push(BadLine { line: self.tally.lines, text, fault });
        }
    }
}

impl Pending {
    fn close(mut self) -> Option<Group> {
        self.names.sort_unstable();
        self.names.dedup();
        let Self { title, level, tags, addresses, networks, ports, names } = self;
        let (addresses, ports) = (IntervalSet::of(addresses), IntervalSet::of(ports));
        let empty = addresses.is_empty() && ports.is_empty() && names.is_empty();
        let networks = Networks::new(networks);
        (!empty).then_some(Group { title, level, tags, addresses, networks, ports, names })
    }
}

impl Rows {
    /// Takes in one row; false if it has an open quote or too many fields.
    fn split(&mut self, line: &[u8]) -> bool {
        use csv_core::ReadRecordResult::{InputEmpty, Record};
        self.reader.reset();
        self.count = 0;
        let (mut written, mut count) = (0, 0);
        for input in [line, b"\n"] {
            let (fields, ends) = (&mut self.fields[written..], &mut self.ends[count..]);
            let (result, _, wrote, ended) = self.reader.read_record(input, fields, ends);
            (written, count) = (written + wrote, count + ended);
            match result {
                Record => self.count = count,
                InputEmpty => {}
                _ => return false,
            }
        }
        self.count > 0
    }

    /// The first fields as texts, for messages.
    fn named(&self) -> Vec<String> {
        let fields = (0..self.count.min(NAMED_MAX)).filter_map(|at| self.field(at));
        let shown =
            |field: &[u8]| String::from_utf8_lossy(field).chars().take(CHARS_SHOWN).collect();
        fields.map(shown).collect()
    }

    fn field(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends[..self.count].get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(self.fields[start..end].trim_ascii())
    }
}

/// Where the columns of `spec` are in `header`; without one only those given by number are known.
/// `None` if one is missing.
fn columns(spec: &config::Feed, header: Option<&Rows>) -> Option<[Option<usize>; 4]> {
    let wanted = [&spec.column, &spec.title_column, &spec.level_column, &spec.tags_column];
    let mut found = [None; 4];
    for (place, column) in found.iter_mut().zip(wanted) {
        if column.is_empty() {
            continue;
        }
        *place = Some(match column.parse::<usize>() {
            Ok(number) => number.checked_sub(1)?,
            Err(_) => {
                let header = header?;
                let named = |at: &usize| {
                    header.field(*at).is_some_and(|f| f.eq_ignore_ascii_case(column.as_bytes()))
                };
                (0..header.count).find(named)?
            }
        });
    }
    Some(found)
}

/// The columns that `spec` names and `header` has not.
fn missing(spec: &config::Feed, header: &[String]) -> Vec<String> {
    let columns = [&spec.column, &spec.title_column, &spec.level_column, &spec.tags_column];
    let named = columns.into_iter().filter(|c| !c.is_empty() && c.parse::<usize>().is_err());
    let has = |column: &String| header.iter().any(|name| name.eq_ignore_ascii_case(column));
    named.filter(|column| !has(column)).cloned().collect()
}

/// What stands before a comment at the end of a line.
fn without_comment(line: &[u8]) -> &[u8] {
    let starts =
        |pair: &[u8]| pair[0].is_ascii_whitespace() && (pair[1] == b'#' || pair[1] == b';');
    line.windows(2).position(starts).map_or(line, |at| line[..at].trim_ascii())
}

fn unquoted(text: &[u8]) -> &[u8] {
    let inner = |quote: u8| text.strip_prefix(&[quote])?.strip_suffix(&[quote]);
    inner(b'"').or_else(|| inner(b'\'')).unwrap_or(text)
}

fn level_of(text: &str) -> Option<Level> {
    use Level::{Critical, High, Informational, Low, Medium};
    [Informational, Low, Medium, High, Critical]
        .into_iter()
        .find(|level| level.as_str().eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indicators_of_every_kind_count_to_the_limit() {
        for line in ["192.0.2.1", "192.0.2.0/24", "4444"] {
            let mut reader = Reader::new(config::Feed::default());
            let tally = &mut reader.tally;
            for count in [&mut tally.addresses, &mut tally.networks, &mut tally.ports] {
                *count = INDICATORS_MAX / 3;
            }
            assert_eq!(reader.push(format!("{line}\n").as_bytes()), Ok(()), "{line}");
            let over = reader.push(format!("{line}\n").as_bytes());
            assert_eq!(over, Err(FeedError::TooLarge(INDICATORS_MAX)), "{line}");
        }
    }
}
