//! The formats on the wire, without state: message headers, sets and template records.
//!
//! Sources: Cisco NetFlow Export Datagram Format (v5, v7), RFC 3954 (v9), RFC 7011 (IPFIX).

use std::borrow::Cow;

use thiserror::Error;

use crate::time::Micros;

/// A field length that means "variable" (RFC 7011 §7).
pub const VARIABLE: u16 = 65_535;
/// The lowest id of a data template (RFC 3954 §5.2, RFC 7011 §3.4.1).
pub const TEMPLATE_ID_MIN: u16 = 256;
/// Fields of one template, at most; a bound of ours, far above any real template.
pub const TEMPLATE_FIELDS_MAX: usize = 4_096;

/// Which format a datagram speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names are the formats'")]
pub enum Version {
    V5,
    V7,
    V9,
    Ipfix,
}

impl Version {
    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::V5 => 5,
            Self::V7 => 7,
            Self::V9 => 9,
            Self::Ipfix => 10,
        }
    }

    /// Octets of the message header.
    #[must_use]
    pub const fn header_octets(self) -> usize {
        match self {
            Self::V5 | Self::V7 => 24,
            Self::V9 => 20,
            Self::Ipfix => 16,
        }
    }

    /// Octets of one record of v5 and v7; 0 for the formats with templates.
    #[must_use]
    pub const fn record_octets(self) -> usize {
        match self {
            Self::V5 => 48,
            Self::V7 => 52,
            Self::V9 | Self::Ipfix => 0,
        }
    }
}

/// Why bytes are not what their format requires. Offsets count from the start of the datagram.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DecodeError {
    /// The bytes end before something that the format requires.
    #[error("truncated at offset {offset}: need {need} octets, have {have}")]
    Truncated {
        /// Where it should begin.
        offset: usize,
        /// Octets that it needs.
        need: usize,
        /// Octets that are left.
        have: usize,
    },
    /// Not a version that is decoded.
    #[error("version {version} at offset 0: expected 5, 7, 9 or 10")]
    Version {
        /// The first two octets.
        version: u16,
    },
    /// sFlow version 5 (its first four octets are 0, 0, 0, 5), which is not decoded.
    #[error("sFlow at offset 0 is not supported: expected NetFlow 5, 7, 9 or IPFIX")]
    Sflow,
    /// A v5 or v7 record count of 0, or more than fit into the datagram.
    #[error("record count {count} at offset 2: the datagram holds {fit}")]
    Count {
        /// As the header says.
        count: u16,
        /// Whole records that are there.
        fit: u16,
    },
    /// An IPFIX message length below its header.
    #[error("message length {length} at offset 2: expected at least 16")]
    MessageLength {
        /// As the header says.
        length: u16,
    },
    /// A set length below its header of four octets.
    #[error("set length {length} at offset {offset}: expected at least 4")]
    SetLength {
        /// Of the set.
        offset: usize,
        /// As the set says.
        length: u16,
    },
    /// A set id that the version reserves.
    #[error("set id {id} at offset {offset} is reserved")]
    SetId {
        /// Of the set.
        offset: usize,
        /// As the set says.
        id: u16,
    },
    /// A template id below 256.
    #[error("template id {id} at offset {offset}: expected 256 or more")]
    TemplateId {
        /// Of the template record.
        offset: usize,
        /// As the record says.
        id: u16,
    },
    /// A template with no or too many fields, or more scope fields than fields.
    #[error("template {id} at offset {offset} has {fields} fields of which {scope} are scope")]
    TemplateFields {
        /// Of the template record.
        offset: usize,
        /// The template's id.
        id: u16,
        /// Fields, scope included.
        fields: usize,
        /// Scope fields.
        scope: usize,
    },
}

impl DecodeError {
    /// The label of the metric and of the ledger.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "truncated",
            Self::Version { .. } => "unknown_version",
            Self::Sflow => "sflow_unsupported",
            Self::Count { .. } => "bad_count",
            Self::MessageLength { .. } => "bad_message_length",
            Self::SetLength { .. } => "bad_set_length",
            Self::SetId { .. } => "reserved_set_id",
            Self::TemplateId { .. } => "bad_template_id",
            Self::TemplateFields { .. } => "bad_template",
        }
    }

    /// What the format requires in its place, in words.
    #[must_use]
    pub fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Truncated { need, .. } => format!("{need} octets").into(),
            Self::Version { .. } => "version 5, 7, 9 or 10".into(),
            Self::Sflow => "NetFlow 5, 7, 9 or IPFIX".into(),
            Self::Count { fit, .. } => format!("1 to {fit} records").into(),
            Self::MessageLength { .. } => "16 octets or more".into(),
            Self::SetLength { .. } => "4 octets or more".into(),
            Self::SetId { .. } => "a template set or an id of 256 or more".into(),
            Self::TemplateId { .. } => "an id of 256 or more".into(),
            Self::TemplateFields { .. } => {
                format!("1 to {TEMPLATE_FIELDS_MAX} fields, of which no more are scope").into()
            }
        }
    }

    /// Where in the datagram.
    #[must_use]
    pub const fn offset(&self) -> usize {
        match *self {
            Self::Truncated { offset, .. }
            | Self::SetLength { offset, .. }
            | Self::SetId { offset, .. }
            | Self::TemplateId { offset, .. }
            | Self::TemplateFields { offset, .. } => offset,
            Self::Count { .. } | Self::MessageLength { .. } => 2,
            Self::Version { .. } | Self::Sflow => 0,
        }
    }
}

/// Reads `N` octets at `offset`.
///
/// # Errors
/// [`DecodeError::Truncated`].
pub fn octets<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], DecodeError> {
    let have = bytes.len().saturating_sub(offset);
    let found = bytes.get(offset..).and_then(<[u8]>::first_chunk::<N>);
    found.copied().ok_or(DecodeError::Truncated { offset, need: N, have })
}

/// Reads a big-endian 16-bit integer at `offset`.
///
/// # Errors
/// [`DecodeError::Truncated`].
pub fn be16(bytes: &[u8], offset: usize) -> Result<u16, DecodeError> {
    octets(bytes, offset).map(u16::from_be_bytes)
}

/// Reads a big-endian 32-bit integer at `offset`.
///
/// # Errors
/// [`DecodeError::Truncated`].
pub fn be32(bytes: &[u8], offset: usize) -> Result<u32, DecodeError> {
    octets(bytes, offset).map(u32::from_be_bytes)
}

/// A message header, whatever the version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Version.
    pub version: Version,
    /// v5, v7: records; v9: records of all kinds, unreliable in practice; IPFIX: 0.
    pub count: u16,
    /// Octets of the message: IPFIX from its header, cut to what is there; else all of them.
    pub length: usize,
    /// Milliseconds since the exporter's boot; IPFIX has none.
    pub uptime_ms: Option<u32>,
    /// When the exporter sent it, by its own clock: microseconds, from seconds in v9 and IPFIX.
    pub export_time: Micros,
    /// Sequence number: v5 and v7 flows, v9 export packets, IPFIX data records, before this one.
    pub sequence: u32,
    /// Observation domain; v9 source id; v5 engine type << 8 | engine id; v7 0.
    pub domain: u32,
    /// v5's sampling field: mode in the upper two bits, interval in the lower fourteen.
    pub sampling: u16,
}

/// Reads the header of one datagram. O(1), no allocation.
///
/// An IPFIX message that claims more octets than the datagram has is read as far as it goes: its
/// last set will say `Truncated`. A v5 or v7 count that does not fit is left to the caller.
///
/// # Errors
/// [`DecodeError::Version`], [`DecodeError::Sflow`], [`DecodeError::Truncated`],
/// [`DecodeError::MessageLength`].
pub fn header(payload: &[u8]) -> Result<Header, DecodeError> {
    let version = match be16(payload, 0)? {
        5 => Version::V5,
        7 => Version::V7,
        9 => Version::V9,
        10 => Version::Ipfix,
        0 if be16(payload, 2) == Ok(5) => return Err(DecodeError::Sflow),
        version => return Err(DecodeError::Version { version }),
    };
    let need = version.header_octets();
    if payload.len() < need {
        return Err(DecodeError::Truncated { offset: 0, need, have: payload.len() });
    }
    let second = |at| be32(payload, at).map(|s| Micros::from_secs(i64::from(s)));
    let templated = |at: usize| -> Result<(u32, u32), DecodeError> {
        Ok((be32(payload, at)?, be32(payload, at + 4)?))
    };
    let mut header = Header {
        version,
        count: be16(payload, 2)?,
        length: payload.len(),
        uptime_ms: None,
        export_time: Micros(0),
        sequence: 0,
        domain: 0,
        sampling: 0,
    };
    match version {
        Version::V5 | Version::V7 => {
            header.uptime_ms = Some(be32(payload, 4)?);
            let nanos = i64::from(be32(payload, 12)?);
            header.export_time = second(8)?.plus(nanos / 1_000);
            header.sequence = be32(payload, 16)?;
            if version == Version::V5 {
                header.domain = u32::from(be16(payload, 20)?);
                header.sampling = be16(payload, 22)?;
            }
        }
        Version::V9 => {
            header.uptime_ms = Some(be32(payload, 4)?);
            header.export_time = second(8)?;
            (header.sequence, header.domain) = templated(12)?;
        }
        Version::Ipfix => {
            let length = header.count;
            if usize::from(length) < need {
                return Err(DecodeError::MessageLength { length });
            }
            header.count = 0;
            header.length = usize::from(length).min(payload.len());
            header.export_time = second(4)?;
            (header.sequence, header.domain) = templated(8)?;
        }
    }
    Ok(header)
}

/// What a set holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the names are the formats'")]
pub enum SetKind {
    Template,
    OptionsTemplate,
    Data,
}

/// One set (v9: FlowSet): its id, and its octets without the set header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Set<'a> {
    /// What it holds.
    pub kind: SetKind,
    /// Set id; of data sets the template's.
    pub id: u16,
    /// Offset of `body` in the datagram.
    pub offset: usize,
    /// The octets after the set header.
    pub body: &'a [u8],
}

/// The sets of a v9 or IPFIX message, in order. A set with a reserved id is an error and skipped;
/// after any other error there is nothing more.
///
/// Trailing octets that are all zero, or fewer than a set header, are padding: some exporters
/// fill their datagrams up.
#[derive(Clone, Debug)]
pub struct Sets<'a> {
    payload: &'a [u8],
    at: usize,
    version: Version,
}

/// Walks the sets of `payload`, whose header was read as `header`.
#[must_use]
pub fn sets<'a>(payload: &'a [u8], header: &Header) -> Sets<'a> {
    let payload = &payload[..header.length.min(payload.len())];
    Sets { payload, at: header.version.header_octets(), version: header.version }
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.at;
        let rest = self.payload.get(offset..)?;
        if rest.len() < 4 || (rest[2..4] == [0, 0] && rest.iter().all(|&octet| octet == 0)) {
            self.at = self.payload.len();
            return None;
        }
        let set = self.set(offset, rest);
        self.at = match &set {
            Ok(set) => set.offset + set.body.len(),
            // Its length was found good, so what follows it can be read.
            Err(DecodeError::SetId { .. }) => offset + usize::from(be16(rest, 2).unwrap_or(4)),
            Err(_) => self.payload.len(),
        };
        Some(set)
    }
}

impl<'a> Sets<'a> {
    fn set(&self, offset: usize, rest: &'a [u8]) -> Result<Set<'a>, DecodeError> {
        let (id, length) = (be16(rest, 0)?, be16(rest, 2)?);
        if length < 4 {
            return Err(DecodeError::SetLength { offset, length });
        }
        let need = usize::from(length);
        let body = rest.get(4..need);
        let body = body.ok_or(DecodeError::Truncated { offset, need, have: rest.len() })?;
        let kind = match (self.version, id) {
            // In IPFIX, 0 and 1 are reserved for v9's sets: some exporters send these.
            (_, 0) | (Version::Ipfix, 2) => SetKind::Template,
            (_, 1) | (Version::Ipfix, 3) => SetKind::OptionsTemplate,
            (_, TEMPLATE_ID_MIN..) => SetKind::Data,
            _ => return Err(DecodeError::SetId { offset, id }),
        };
        Ok(Set { kind, id, offset: offset + 4, body })
    }
}

/// One field of a template: which element, and how many octets.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FieldSpec {
    /// Element id without the enterprise bit. v9 scope fields carry the scope type (RFC 3954 §6.1).
    pub element: u16,
    /// Private enterprise number; 0 for IANA's elements. 29305 is a reverse element (RFC 5103).
    pub pen: u32,
    /// Octets, or [`VARIABLE`].
    pub length: u16,
}

/// A template or options template, as it came.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Template {
    /// Its id.
    pub id: u16,
    /// How many of the first fields are scope; 0 for a data template.
    pub scope_fields: u16,
    /// Whether it came in an options template set (v9 allows one with no scope field).
    pub options: bool,
    /// The fields, in order.
    pub fields: Vec<FieldSpec>,
}

impl Template {
    /// The octets of each record, or the fewest if a field is variable (one length octet each).
    #[must_use]
    pub fn record_octets_min(&self) -> usize {
        let octets = |field: &FieldSpec| match field.length {
            VARIABLE => 1,
            length => usize::from(length),
        };
        self.fields.iter().map(octets).sum()
    }

    /// Whether a field's length is variable.
    #[must_use]
    pub fn is_variable(&self) -> bool {
        self.fields.iter().any(|field| field.length == VARIABLE)
    }
}

/// What a template set says of one id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TemplateChange {
    /// Defines, or redefines.
    Define(Template),
    /// Withdraws one (RFC 7011 §8.1).
    Withdraw {
        /// Which.
        id: u16,
    },
    /// Withdraws all templates, or all options templates, of the domain.
    WithdrawAll {
        /// Whether the options templates.
        options: bool,
    },
}

/// The template records of one template set, in order. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Templates<'a> {
    set: Set<'a>,
    at: usize,
    version: Version,
}

/// Walks the template records of `set`, which is a template or options template set.
#[must_use]
pub fn templates<'a>(version: Version, set: &Set<'a>) -> Templates<'a> {
    // A v9 set in an IPFIX message has v9's layout.
    let version = if set.id <= 1 { Version::V9 } else { version };
    Templates { set: *set, at: 0, version }
}

impl Iterator for Templates<'_> {
    type Item = Result<(usize, TemplateChange), DecodeError>;

    /// The next record with its offset in the datagram. Padding ends the set.
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.set.body.get(self.at..)?;
        if rest.len() < 4 || rest.iter().all(|&octet| octet == 0) {
            return None;
        }
        let offset = self.set.offset + self.at;
        let change = self.change(offset);
        if change.is_err() {
            self.at = self.set.body.len() + 1;
        }
        Some(change.map(|change| (offset, change)))
    }
}

impl Templates<'_> {
    fn change(&mut self, offset: usize) -> Result<TemplateChange, DecodeError> {
        let options = self.set.kind == SetKind::OptionsTemplate;
        let id = self.take16()?;
        let count = usize::from(self.take16()?);
        if self.version == Version::Ipfix && count == 0 {
            return Ok(if id == self.set.id {
                TemplateChange::WithdrawAll { options }
            } else {
                TemplateChange::Withdraw { id }
            });
        }
        if id < TEMPLATE_ID_MIN {
            return Err(DecodeError::TemplateId { offset, id });
        }
        let (fields, scope) = match (self.version, options) {
            (_, false) => (count, 0),
            (Version::Ipfix, true) => (count, usize::from(self.take16()?)),
            // RFC 3954 §6.1 counts octets here, four for each field.
            (_, true) => (count / 4 + usize::from(self.take16()?) / 4, count / 4),
        };
        let scope_missing = options && self.version == Version::Ipfix && scope == 0;
        if fields == 0 || fields > TEMPLATE_FIELDS_MAX || scope > fields || scope_missing {
            return Err(DecodeError::TemplateFields { offset, id, fields, scope });
        }
        let fields = (0..fields).map(|_| self.field()).collect::<Result<_, _>>()?;
        let scope_fields = u16::try_from(scope).expect("at most TEMPLATE_FIELDS_MAX");
        Ok(TemplateChange::Define(Template { id, scope_fields, options, fields }))
    }

    fn field(&mut self) -> Result<FieldSpec, DecodeError> {
        let (element, length) = (self.take16()?, self.take16()?);
        if self.version == Version::Ipfix && element & 0x8000 != 0 {
            let pen = (u32::from(self.take16()?) << 16) | u32::from(self.take16()?);
            return Ok(FieldSpec { element: element & 0x7fff, pen, length });
        }
        Ok(FieldSpec { element, pen: 0, length })
    }

    fn take16(&mut self) -> Result<u16, DecodeError> {
        let at = self.at;
        self.at += 2;
        let have = self.set.body.len().saturating_sub(at);
        let error = DecodeError::Truncated { offset: self.set.offset + at, need: 2, have };
        be16(self.set.body, at).map_err(|_| error)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An IPFIX message of `sets`, each an id and a body.
    fn ipfix(sets: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = vec![0, 10, 0, 0, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 3];
        for (id, body) in sets {
            message.extend(id.to_be_bytes());
            message.extend((body.len() as u16 + 4).to_be_bytes());
            message.extend(*body);
        }
        let length = (message.len() as u16).to_be_bytes();
        message[2..4].copy_from_slice(&length);
        message
    }

    fn changes(message: &[u8]) -> Vec<Result<TemplateChange, DecodeError>> {
        let header = header(message).expect("a header");
        let mut all = Vec::new();
        for set in sets(message, &header) {
            match set {
                Ok(set) => all.extend(
                    templates(header.version, &set).map(|change| change.map(|(_, change)| change)),
                ),
                Err(error) => all.push(Err(error)),
            }
        }
        all
    }

    #[test]
    fn headers() {
        let v5 = |edit: fn(&mut Vec<u8>)| {
            let mut v5 = vec![0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 7, 208, 0, 0, 0, 4];
            v5.extend([5, 6, 0x40, 100]);
            edit(&mut v5);
            header(&v5)
        };
        let good = v5(|_| {}).expect("a header");
        assert_eq!((good.count, good.domain, good.sampling), (1, 0x506, 0x4064));
        assert_eq!(good.export_time, Micros(2_000_002));
        let short = DecodeError::Truncated { offset: 0, need: 24, have: 23 };
        assert_eq!(v5(|h| h.truncate(23)), Err(short));
        assert_eq!(v5(|h| h[1] = 6), Err(DecodeError::Version { version: 6 }));
        assert_eq!(v5(|h| h[..4].copy_from_slice(&[0, 0, 0, 5])), Err(DecodeError::Sflow));
        let message = ipfix(&[]);
        let good = header(&message).expect("a header");
        assert_eq!((good.sequence, good.domain, good.uptime_ms), (7, 3, None));
        assert_eq!(good.export_time, Micros::from_secs(9));
        let mut short = message;
        short[3] = 15;
        assert_eq!(header(&short), Err(DecodeError::MessageLength { length: 15 }));
    }

    #[test]
    fn template_records() {
        let define = |id, scope_fields, options, fields: &[(u16, u32, u16)]| {
            let field = |&(element, pen, length)| FieldSpec { element, pen, length };
            let fields = fields.iter().map(field).collect();
            Ok(TemplateChange::Define(Template { id, scope_fields, options, fields }))
        };
        let two = [1, 0, 0, 2, 0, 8, 0, 4, 0x80, 1, 255, 255, 0, 0, 0x72, 0x79, 0, 0];
        let want = define(256, 0, false, &[(8, 0, 4), (1, 29_305, 65_535)]);
        assert_eq!(changes(&ipfix(&[(2, &two)])), [want]);
        let options = [1, 1, 0, 2, 0, 1, 0, 149, 0, 4, 0, 34, 0, 4];
        let want = define(257, 1, true, &[(149, 0, 4), (34, 0, 4)]);
        assert_eq!(changes(&ipfix(&[(3, &options)])), [want]);
        let withdraw = [1, 1, 0, 0];
        let want = Ok(TemplateChange::Withdraw { id: 257 });
        assert_eq!(changes(&ipfix(&[(2, &withdraw)])), [want]);
        let all = Ok(TemplateChange::WithdrawAll { options: true });
        assert_eq!(changes(&ipfix(&[(3, &[0, 3, 0, 0])])), [all]);
        let low = Err(DecodeError::TemplateId { offset: 20, id: 255 });
        assert_eq!(changes(&ipfix(&[(2, &[0, 255, 0, 1, 0, 8, 0, 4])])), [low]);
        let cut = Err(DecodeError::Truncated { offset: 28, need: 2, have: 0 });
        assert_eq!(changes(&ipfix(&[(2, &[1, 0, 0, 2, 0, 8, 0, 4])])), [cut]);
        let reserved = Err(DecodeError::SetId { offset: 16, id: 4 });
        assert_eq!(changes(&ipfix(&[(4, &[])])), std::slice::from_ref(&reserved));
        let withdrawn = Ok(TemplateChange::Withdraw { id: 257 });
        let skipped = ipfix(&[(4, &[9; 8]), (2, &withdraw)]);
        assert_eq!(changes(&skipped), [reserved, withdrawn], "a reserved set is skipped");
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400),
                                 version in prop::sample::select(vec![5_u8, 7, 9, 10])) {
            if bytes.len() > 1 {
                bytes[..2].copy_from_slice(&[0, version]);
            }
            if let Ok(header) = header(&bytes) {
                let mut walked = 0;
                for set in sets(&bytes, &header).flatten() {
                    walked += set.body.len() + 4;
                    prop_assert!(templates(header.version, &set).count() <= set.body.len());
                }
                prop_assert!(walked <= bytes.len());
            }
        }
    }
}
