//! IPFIX messages out of slices: RFC 7011, biflows by RFC 5103.
//!
//! Four templates: IPv4 and IPv6, with ports and with ICMP's type and code. A biflow is one record
//! whose second half is the reverse direction, under the enterprise number that RFC 5103 has for it; in
//! the other form each direction that was seen is a record of its own.

use crate::net::Addr;
use crate::output::format::{Known, Places};
use crate::output::schema::{Record, Stream};

/// Octets of a message's header.
const HEADER: usize = 16;
/// Octets of a set's header.
const SET: usize = 4;
/// The enterprise number of reverse elements (RFC 5103 §6.1).
const REVERSE: u32 = 29_305;
/// Id of the set of templates.
const TEMPLATES: u16 = 2;
/// The first template's id; the others follow.
const FIRST: u16 = 256;

/// Which direction a record tells of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Forward,
    Back,
}

/// A field of the templates: element, length, whether it is a reverse element, and its value.
struct Element {
    id: u16,
    octets: u16,
    reverse: bool,
    get: fn(&Known<'_>, Way) -> u64,
}

const fn element(id: u16, octets: u16, get: fn(&Known<'_>, Way) -> u64) -> Element {
    Element { id, octets, reverse: false, get }
}

const fn reverse(id: u16, octets: u16, get: fn(&Known<'_>, Way) -> u64) -> Element {
    Element { id, octets, reverse: true, get }
}

/// Of every template, after addresses and ports.
const COMMON: &[Element] = &[
    // protocolIdentifier
    element(4, 1, |k, _| count(Some(k.protocol()))),
    // flowStartMilliseconds, flowEndMilliseconds
    element(152, 8, |k, _| millis(k.times().0)),
    element(153, 8, |k, _| millis(k.times().1)),
    // octetDeltaCount, packetDeltaCount
    element(1, 8, |k, way| count(k.int(of(way, k.at.fwd_bytes, k.at.bwd_bytes)))),
    element(2, 8, |k, way| count(k.int(of(way, k.at.fwd_pkts, k.at.bwd_pkts)))),
    // tcpControlBits
    element(6, 2, |k, way| count(k.int(of(way, k.at.fwd_tcp_flags, k.at.bwd_tcp_flags)))),
    // ipClassOfService, of the initiator's direction
    element(5, 1, |k, way| count(k.int(of(way, k.at.tos, None)))),
    // ingressInterface, egressInterface
    element(10, 4, |k, way| count(k.int(of(way, k.at.in_if, k.at.out_if)))),
    element(14, 4, |k, way| count(k.int(of(way, k.at.out_if, k.at.in_if)))),
    // bgpSourceAsNumber, bgpDestinationAsNumber
    element(16, 4, |k, way| count(k.int(of(way, k.at.src_asn, k.at.dst_asn)))),
    element(17, 4, |k, way| count(k.int(of(way, k.at.dst_asn, k.at.src_asn)))),
    // vlanId
    element(58, 2, |k, _| count(k.int(k.at.vlan))),
    // minimumTTL
    element(52, 1, |k, way| count(k.int(of(way, k.at.fwd_ttl, k.at.bwd_ttl)))),
    // samplingInterval; 0 is unknown
    element(34, 4, |k, _| count(k.int(k.at.sampling_interval))),
    // flowEndReason
    element(136, 1, |k, _| end_reason(k)),
    // flowId: the upper 64 bits of Weir's
    element(148, 8, |k, _| (k.bits(k.at.flow_id) >> 64) as u64),
];

/// Of biflows only: the reverse direction, and that the source is the initiator (1).
const BIFLOW: &[Element] = &[
    reverse(1, 8, |k, _| count(k.int(k.at.bwd_bytes))),
    reverse(2, 8, |k, _| count(k.int(k.at.bwd_pkts))),
    reverse(6, 2, |k, _| count(k.int(k.at.bwd_tcp_flags))),
    reverse(52, 1, |k, _| count(k.int(k.at.bwd_ttl))),
    // biflowDirection
    element(239, 1, |_, _| 1),
];

fn of(way: Way, forward: Option<usize>, back: Option<usize>) -> Option<usize> {
    if way == Way::Forward { forward } else { back }
}

/// A counter or number; absent is 0.
fn count(value: Option<i64>) -> u64 {
    value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Times before the epoch have no form: 0.
fn millis(micros: i64) -> u64 {
    count(Some(micros.div_euclid(1_000)))
}

/// IANA's numbers of element 136.
fn end_reason(known: &Known<'_>) -> u64 {
    match &*known.text(known.at.end_reason) {
        "idle" => 1,
        "active" => 2,
        "end_of_flow" => 3,
        "forced" => 4,
        _ => 5,
    }
}

/// Writes messages of one observation domain on one transport session.
#[derive(Debug)]
pub(super) struct Messages {
    domain: u32,
    biflow: bool,
    places: Places,
    /// Data records of the session so far, modulo 2^32.
    sequence: u32,
    message: Vec<u8>,
    /// Where the open set begins, and its template.
    set: Option<(usize, u16)>,
    records: u32,
}

impl Messages {
    pub(super) fn new(domain: u32, biflow: bool) -> Self {
        let places = Places::of(Stream::Slices);
        Self { domain, biflow, places, sequence: 0, message: Vec::new(), set: None, records: 0 }
    }

    /// A new transport session begins: the sequence does, too.
    pub(super) fn restart(&mut self) {
        (self.sequence, self.records, self.set) = (0, 0, None);
        self.message.clear();
    }

    /// Has `messages`, which went in an earlier session, count on in this one.
    pub(super) fn count_on(&mut self, messages: &mut [u8]) {
        let two = |octets: &[u8], at: usize| {
            usize::from(u16::from_be_bytes([octets[at], octets[at + 1]]))
        };
        let mut rest = messages;
        while rest.len() >= HEADER {
            let length = two(rest, 2);
            let (message, after) = rest.split_at_mut(length);
            message[8..12].copy_from_slice(&self.sequence.to_be_bytes());
            let mut at = HEADER;
            while at < length {
                let (set, octets) = (two(message, at), two(message, at + 2));
                if let Some(kind) = set.checked_sub(usize::from(FIRST)) {
                    let fields = self.fields(u16::try_from(kind).expect("one of four"));
                    let record: usize =
                        fields.iter().map(|&(_, octets, _)| usize::from(octets)).sum();
                    let records = u32::try_from((octets - SET) / record).expect("few");
                    self.sequence = self.sequence.wrapping_add(records);
                }
                at += octets;
            }
            rest = after;
        }
    }

    /// A message with all templates.
    pub(super) fn templates(&mut self, export_time_s: u32) -> Vec<u8> {
        debug_assert!(self.message.is_empty(), "between messages");
        let mut set = Vec::new();
        for kind in 0..4 {
            let fields = self.fields(kind);
            put(&mut set, u64::from(FIRST + kind), 2);
            put(&mut set, fields.len() as u64, 2);
            for (id, octets, reverse) in fields {
                put(&mut set, u64::from(id) | u64::from(reverse) << 15, 2);
                put(&mut set, u64::from(octets), 2);
                if reverse {
                    put(&mut set, u64::from(REVERSE), 4);
                }
            }
        }
        let mut message = vec![0; HEADER];
        put(&mut message, u64::from(TEMPLATES), 2);
        put(&mut message, (SET + set.len()) as u64, 2);
        message.extend_from_slice(&set);
        self.head(&mut message, export_time_s);
        message
    }

    /// Id, length and reverse of each field of the template `kind`.
    fn fields(&self, kind: u16) -> Vec<(u16, u16, bool)> {
        let (v6, icmp) = (kind & 1 == 1, kind & 2 == 2);
        let mut fields = if v6 {
            vec![(27, 16, false), (28, 16, false)]
        } else {
            vec![(8, 4, false), (12, 4, false)]
        };
        match (icmp, v6) {
            (false, _) => fields.extend([(7, 2, false), (11, 2, false)]),
            (true, false) => fields.push((32, 2, false)),
            (true, true) => fields.push((139, 2, false)),
        }
        let more = COMMON.iter().chain(if self.biflow { BIFLOW } else { &[] });
        fields.extend(more.map(|element| (element.id, element.octets, element.reverse)));
        fields
    }

    /// Adds `record`. Where it does not fit into `octets_max` any more, the message before it is
    /// handed to `full` first.
    ///
    /// # Errors
    /// Of `full`.
    pub(super) fn add<E>(
        &mut self,
        record: &dyn Record,
        octets_max: usize,
        export_time_s: u32,
        mut full: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let places = self.places;
        let known = Known { record, at: &places, stream: Stream::Slices };
        let seen = |place| known.int(place).is_some_and(|count| count > 0);
        let back = seen(known.at.bwd_bytes) || seen(known.at.bwd_pkts);
        let forward = !back || seen(known.at.fwd_bytes) || seen(known.at.fwd_pkts);
        let ways = match self.biflow {
            true => [Some(Way::Forward), None],
            false => [forward.then_some(Way::Forward), back.then_some(Way::Back)],
        };
        for way in ways.into_iter().flatten() {
            let mut octets = Vec::with_capacity(128);
            let kind = self.encode(&mut octets, &known, way);
            let same = self.set.is_some_and(|(_, open)| open == kind);
            let grows = octets.len() + if same { 0 } else { SET };
            if !self.message.is_empty() && self.message.len() + grows > octets_max {
                self.end(export_time_s, &mut full)?;
            }
            self.append(kind, &octets);
        }
        Ok(())
    }

    /// Appends one data record; returns its template's number.
    fn encode(&self, out: &mut Vec<u8>, known: &Known<'_>, way: Way) -> u16 {
        let ends = (known.address(known.at.src), known.address(known.at.dst));
        let (src, dst) = if way == Way::Forward { ends } else { (ends.1, ends.0) };
        let v6 = !(src.is_v4() && dst.is_v4());
        for Addr(bits) in [src, dst] {
            let octets = bits.to_be_bytes();
            out.extend_from_slice(if v6 { &octets } else { &octets[12..] });
        }
        let (src_port, dst_port) = (
            count(known.int(of(way, known.at.src_port, known.at.dst_port))),
            count(known.int(of(way, known.at.dst_port, known.at.src_port))),
        );
        // Type and code are those of the initiator's message, in either direction's record.
        let icmp = known.icmp();
        if icmp {
            let first = (known.int(known.at.src_port), known.int(known.at.dst_port));
            put(out, count(first.0) << 8 | count(first.1) & 0xff, 2);
        } else {
            put(out, src_port, 2);
            put(out, dst_port, 2);
        }
        for element in COMMON.iter().chain(if self.biflow { BIFLOW } else { &[] }) {
            put(out, (element.get)(known, way), usize::from(element.octets));
        }
        u16::from(v6) | u16::from(icmp) << 1
    }

    fn append(&mut self, kind: u16, octets: &[u8]) {
        if self.message.is_empty() {
            self.message.resize(HEADER, 0);
        }
        if self.set.is_none_or(|(_, open)| open != kind) {
            self.close();
            self.set = Some((self.message.len(), kind));
            put(&mut self.message, u64::from(FIRST + kind), 2);
            put(&mut self.message, 0, 2);
        }
        self.message.extend_from_slice(octets);
        self.records += 1;
    }

    /// Writes the open set's length.
    fn close(&mut self) {
        if let Some((at, _)) = self.set.take() {
            let length = u16::try_from(self.message.len() - at).expect("below a message's most");
            self.message[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Ends the message, if there is one, and hands it to `full`.
    ///
    /// # Errors
    /// Of `full`.
    pub(super) fn end<E>(
        &mut self,
        export_time_s: u32,
        mut full: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.message.is_empty() {
            return Ok(());
        }
        self.close();
        let mut message = std::mem::take(&mut self.message);
        self.head(&mut message, export_time_s);
        self.sequence = self.sequence.wrapping_add(std::mem::take(&mut self.records));
        full(&message)
    }

    fn head(&self, message: &mut [u8], export_time_s: u32) {
        let length = u16::try_from(message.len()).expect("below a message's most");
        message[..2].copy_from_slice(&10_u16.to_be_bytes());
        message[2..4].copy_from_slice(&length.to_be_bytes());
        message[4..8].copy_from_slice(&export_time_s.to_be_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_be_bytes());
        message[12..16].copy_from_slice(&self.domain.to_be_bytes());
    }
}

/// The lower `octets` octets of `value`, big-endian; a larger value is written as the largest.
fn put(out: &mut Vec<u8>, value: u64, octets: usize) {
    let most = if octets == 8 { u64::MAX } else { (1 << (8 * octets)) - 1 };
    out.extend_from_slice(&value.min(most).to_be_bytes()[8 - octets..]);
}
