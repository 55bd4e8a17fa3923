//! An entry of the table: three cache lines, of which an ordinary update touches two or three.
//!
//! Counters lie by canonical side. They are those of the flow's life in 32 bits each; what does not
//! fit, and what a flow needs once a slice was cut, lies in [`Past`], which few flows have. What
//! fewer still have (several exporters, a tunnel, exporters beside a capture) lies in [`Extra`].

use super::intern::Words;
use super::key::{CanonicalSide, PackedKey, is_icmp};
use super::record::{Counters, FlowRecord, Name, TcpFlags, Tunnel};
use super::tcp::Tcp;
use super::view::DirectionBy;
use crate::net::Addr;
use crate::time::{MILLISECOND, Micros};

/// Exporters that a flow remembers, at most.
pub const EXPORTERS_MAX: usize = 8;
/// No number: the entry has no such part.
pub(super) const NONE: u32 = u32::MAX;

/// What kind of observation point owns a side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Owner {
    /// None yet: the side was not reported.
    #[default]
    None,
    /// This sensor's own capture.
    Packets,
    /// An exporter's: [`Observation`](super::observation::Observation).
    Exporter,
}

/// Cumulated counters of one side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    pub(super) octets: u64,
    pub(super) packets: u64,
    pub(super) octets_l2: u64,
    pub(super) payload: u64,
}

impl Totals {
    fn plus(&self, more: &Self) -> Self {
        Self {
            octets: self.octets.saturating_add(more.octets),
            packets: self.packets.saturating_add(more.packets),
            octets_l2: self.octets_l2.saturating_add(more.octets_l2),
            payload: self.payload.saturating_add(more.payload),
        }
    }

    pub(super) const fn minus(&self, base: &Self) -> Self {
        Self {
            octets: self.octets - base.octets,
            packets: self.packets - base.packets,
            octets_l2: self.octets_l2 - base.octets_l2,
            payload: self.payload - base.payload,
        }
    }
}

/// Truths about a flow.
pub(super) mod flag {
    /// The higher endpoint is the initiator.
    pub const INITIATOR: u16 = 1;
    /// Any packet was merged: then every optional counter is known.
    pub const PACKETS: u16 = 1 << 4;
    /// The wake-up values are worth a look.
    pub const WATCHED: u16 = 1 << 5;
    /// The flow was closed or reset: `opened` holds when it ends, linger included.
    pub const ENDING: u16 = 1 << 6;
    /// The latest record was a packet: its timeouts hold.
    pub const BY_PACKET: u16 = 1 << 7;
    /// There was a packet before: the idle timeout of packets is the least.
    pub const PACKET_IDLE: u16 = 1 << 8;
    /// The entry is in use.
    pub const LIVE: u16 = 1 << 9;
    /// `tos` is known.
    pub const TOS: u16 = 1 << 10;
    /// `vlan` is known.
    pub const VLAN: u16 = 1 << 11;
    /// `part` is of TCP, else of an exporter.
    pub const TCP: u16 = 1 << 12;
    /// There is an [`Extra`](super::Extra).
    pub const EXTRA: u16 = 1 << 13;
}

/// [`DirectionBy`] lies in three bits of the flags.
const BY_SHIFT: u32 = 1;
const BY_BITS: u16 = 7 << BY_SHIFT;
/// By the number in those bits; stronger ones come first.
const DIRECTIONS_BY: [DirectionBy; 5] = [
    DirectionBy::Exporter,
    DirectionBy::Syn,
    DirectionBy::Start,
    DirectionBy::Port,
    DirectionBy::First,
];

/// Truths about one side; the two lowest bits are its [`Owner`].
pub(super) mod side_flag {
    pub const OWNER: u8 = 3;
    /// The side's sender reported its end (IE 136 = 3, or FIN or RST in its flags).
    pub const ENDED: u8 = 1 << 2;
    /// Layer-2 octets were reported.
    pub const KNOWS_L2: u8 = 1 << 3;
    /// Payload octets were reported.
    pub const KNOWS_PAYLOAD: u8 = 1 << 4;
    /// TCP flags were reported.
    pub const KNOWS_FLAGS: u8 = 1 << 5;
    /// A packet was owned: `ttl` is that of the first.
    pub const TTL: u8 = 1 << 6;
    /// `mark` is known: of TCP the flags of the first packet, of ICMP type and code.
    pub const MARK: u8 = 1 << 7;
}

/// One flow. All times and counters by canonical side; the order is that of use.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Entry {
    pub(super) key: PackedKey,
    /// Stamps of each side's owner's latest record; the later one is the flow's.
    pub(super) arrivals: [Micros; 2],
    octets: [u32; 2],
    packets: [u32; 2],
    /// Counts merges of the shard: who was merged into longest ago.
    pub(super) touched: u32,
    /// Records in the open slice; 0: none is open.
    pub(super) records: u32,

    octets_l2: [u32; 2],
    payload: [u32; 2],
    /// Of the open slice, or of the flow while none was cut.
    pub(super) first: Micros,
    pub(super) last: Micros,
    /// Stamp of the record that opened the slice; with [`flag::ENDING`] the instant of the end.
    pub(super) opened: Micros,
    /// Unions over the flow's life.
    pub(super) tcp_flags: [TcpFlags; 2],
    pub(super) side_flags: [u8; 2],
    flags: u16,
    /// Each side's [`Observation`](super::observation::Observation), by number.
    pub(super) points: [u32; 2],
    pub(super) mark: [u16; 2],
    pub(super) ttl: [u8; 2],
    pub(super) tos: u8,

    /// Start of the flow's first record: a part of its identity.
    pub(super) id_first: Micros,
    /// The deadline under which the wheel holds the entry: never after the true one.
    pub(super) queued: Micros,
    /// Counts flows of the shard: in the order of creation.
    pub(super) number: u32,
    pub(super) past: u32,
    pub(super) memory: u32,
    pub(super) vlan: u16,
    /// [`Tcp`] or [`Exported`].
    part: [u32; 8],
}

const _: () = assert!(size_of::<Entry>() == 192);

/// A counter that a record adds to, and whether what it adds fits.
fn fits(held: &mut u32, more: u64) -> bool {
    let sum = u32::try_from(more).ok().and_then(|more| held.checked_add(more));
    *held = sum.unwrap_or(*held);
    sum.is_some()
}

impl Entry {
    pub(super) const fn new(key: PackedKey, number: u32, first: Micros, sender: usize) -> Self {
        let initiator = if sender == 0 { 0 } else { flag::INITIATOR };
        Self {
            key,
            arrivals: [Micros::MIN; 2],
            octets: [0; 2],
            packets: [0; 2],
            touched: 0,
            records: 0,
            octets_l2: [0; 2],
            payload: [0; 2],
            first,
            last: first,
            opened: Micros::MIN,
            tcp_flags: [0; 2],
            side_flags: [0; 2],
            flags: flag::LIVE | initiator | (DirectionBy::First as u16) << BY_SHIFT,
            points: [0; 2],
            mark: [0; 2],
            ttl: [0; 2],
            tos: 0,
            id_first: first,
            queued: Micros::MAX,
            number,
            past: NONE,
            memory: 0,
            vlan: 0,
            part: Exported::NEW,
        }
    }

    pub(super) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) const fn set(&mut self, flag: u16, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    pub(super) const fn side_has(&self, side: CanonicalSide, flag: u8) -> bool {
        self.side_flags[side] & flag != 0
    }

    pub(super) const fn owner(&self, side: CanonicalSide) -> Owner {
        match self.side_flags[side] & side_flag::OWNER {
            0 => Owner::None,
            1 => Owner::Packets,
            _ => Owner::Exporter,
        }
    }

    pub(super) const fn set_owner(&mut self, side: CanonicalSide, owner: Owner) {
        let flags = &mut self.side_flags[side];
        *flags = *flags & !side_flag::OWNER | owner as u8;
    }

    pub(super) fn initiator(&self) -> CanonicalSide {
        usize::from(self.has(flag::INITIATOR))
    }

    pub(super) const fn direction_by(&self) -> DirectionBy {
        DIRECTIONS_BY[((self.flags & BY_BITS) >> BY_SHIFT) as usize]
    }

    /// Makes `initiator` the initiator, on the evidence `by`. Returns whether the flow was turned:
    /// a matter of its label alone.
    pub(super) fn turn(&mut self, by: DirectionBy, initiator: CanonicalSide) -> bool {
        self.flags = self.flags & !BY_BITS | (by as u16) << BY_SHIFT;
        let turned = self.initiator() != initiator;
        self.set(flag::INITIATOR, initiator == 1);
        turned
    }

    /// Stamp of the latest merged record.
    pub(super) fn arrival(&self) -> Micros {
        self.arrivals[0].max(self.arrivals[1])
    }

    /// Notes what `counters` tells besides octets and packets; returns whether it holds a TCP flag
    /// that `side` had not.
    pub(super) fn note_counters(&mut self, side: CanonicalSide, counters: &Counters) -> bool {
        let known = |is: bool, flag: u8| if is { flag } else { 0 };
        self.side_flags[side] |= known(counters.octets_l2.is_some(), side_flag::KNOWS_L2)
            | known(counters.payload.is_some(), side_flag::KNOWS_PAYLOAD)
            | known(counters.tcp_flags.is_some(), side_flag::KNOWS_FLAGS);
        let flags = counters.tcp_flags.unwrap_or(0);
        let new = flags & !self.tcp_flags[side] != 0;
        self.tcp_flags[side] |= flags;
        new
    }

    /// Whether an exporter owns `side`, which has not reported its end, no packet was merged last,
    /// and what exporters told lies in the entry.
    #[inline]
    pub(super) fn is_plainly_exported(&self, side: CanonicalSide) -> bool {
        self.owner(side) == Owner::Exporter
            && !self.side_has(side, side_flag::ENDED)
            && self.flags & (flag::BY_PACKET | flag::TCP) == 0
    }

    /// Whether `r`, whose source is `side`, tells nothing of the flow as a whole that is not known.
    /// What exporters told must lie in the entry.
    #[inline]
    pub(super) fn knows(&self, side: CanonicalSide, r: &FlowRecord) -> bool {
        let exported = Exported::unpack(&self.part);
        let asn = |told: Option<u32>, side: usize| told.is_none() || exported.asn[side] != 0;
        (r.vlan.is_none() || self.has(flag::VLAN))
            && (r.tos.is_none() || self.has(flag::TOS))
            && (!is_icmp(r.protocol) || self.side_has(side, side_flag::MARK))
            && r.first >= exported.starts[side]
            && r.idle_timeout_us <= i64::from(exported.idle_ms) * MILLISECOND
            && asn(r.src_asn, side)
            && asn(r.dst_asn, 1 - side)
    }

    /// Adds octets and packets to `side`; false, and nothing is changed, if they do not fit.
    #[inline]
    pub(super) fn add_both(&mut self, side: CanonicalSide, octets: u64, packets: u64) -> bool {
        let sum = |held: u32, more: u64| u32::try_from(u64::from(held).saturating_add(more));
        let (Ok(octets), Ok(packets)) =
            (sum(self.octets[side], octets), sum(self.packets[side], packets))
        else {
            return false;
        };
        (self.octets[side], self.packets[side]) = (octets, packets);
        true
    }

    /// Keeps `mark` for `side` unless one is known.
    pub(super) const fn note_mark(&mut self, side: CanonicalSide, mark: u16) {
        if !self.side_has(side, side_flag::MARK) {
            self.mark[side] = mark;
            self.side_flags[side] |= side_flag::MARK;
        }
    }

    /// Adds counters to `side`. Returns what does not fit, for [`Past::spilled`].
    #[inline]
    pub(super) fn add(&mut self, side: CanonicalSide, counters: &Counters) -> Option<Totals> {
        let (octets_l2, payload) = (counters.octets_l2.unwrap_or(0), counters.payload.unwrap_or(0));
        let Counters { octets, packets, .. } = *counters;
        let took = [
            fits(&mut self.octets[side], octets),
            fits(&mut self.packets[side], packets),
            fits(&mut self.octets_l2[side], octets_l2),
            fits(&mut self.payload[side], payload),
        ];
        if took == [true; 4] {
            return None;
        }
        let rest = |took: bool, more| if took { 0 } else { more };
        Some(Totals {
            octets: rest(took[0], octets),
            packets: rest(took[1], packets),
            octets_l2: rest(took[2], octets_l2),
            payload: rest(took[3], payload),
        })
    }

    /// What the entry itself has counted of `side`.
    pub(super) fn held(&self, side: CanonicalSide) -> Totals {
        Totals {
            octets: self.octets[side].into(),
            packets: self.packets[side].into(),
            octets_l2: self.octets_l2[side].into(),
            payload: self.payload[side].into(),
        }
    }

    /// The TCP state, of a flow of packets.
    pub(super) fn tcp(&self) -> Tcp {
        if self.has(flag::TCP) { Tcp::unpack(&self.part) } else { Tcp::default() }
    }

    /// Puts the TCP state in place. Returns what an exporter told, if that was there before.
    pub(super) fn set_tcp(&mut self, tcp: &Tcp) -> Option<Exported> {
        let before = (!self.has(flag::TCP)).then(|| Exported::unpack(&self.part));
        self.set(flag::TCP, true);
        self.part = tcp.pack();
        before.filter(|exported| *exported != Exported::default())
    }

    /// What exporters told; `None` if it lies in the [`Extra`] or nowhere.
    pub(super) fn exported(&self) -> Option<Exported> {
        (!self.has(flag::TCP)).then(|| Exported::unpack(&self.part))
    }

    /// The first record of `side`, whose owner is an exporter, starts at `first`. What exporters told
    /// must lie in the entry.
    #[inline]
    pub(super) const fn start(&mut self, side: CanonicalSide, first: Micros) {
        let [high, low] = halves(first);
        (self.part[2 * side], self.part[2 * side + 1]) = (high, low);
    }

    /// The number of the [`Labels`] among it; 0 where it does not lie in the entry.
    #[inline]
    pub(super) const fn labels(&self) -> u32 {
        if self.has(flag::TCP) { 0 } else { self.part[7] }
    }

    /// Puts in place what exporters told. [`flag::TCP`] must not be set.
    pub(super) fn set_exported(&mut self, exported: &Exported) {
        debug_assert!(!self.has(flag::TCP), "the place is taken");
        self.part = exported.pack();
    }
}

/// What a flow needs once a slice was cut or a counter passed 32 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    /// What did not fit into the entry's counters.
    pub(super) spilled: [Totals; 2],
    /// Counters of the flow when the last slice was cut.
    pub(super) base: [Totals; 2],
    pub(super) base_retransmits: [u32; 2],
    /// Of the slices that were cut.
    pub(super) first: Micros,
    pub(super) last: Micros,
    /// Records of the open slice that did not fit.
    pub(super) records: u64,
    /// Slices that were cut.
    pub(super) slices: u32,
    /// Unions over the open slice.
    pub(super) tcp_flags: [TcpFlags; 2],
}

impl Default for Past {
    fn default() -> Self {
        Self {
            spilled: Default::default(),
            base: Default::default(),
            base_retransmits: [0; 2],
            first: Micros::MAX,
            last: Micros::MIN,
            records: 0,
            slices: 0,
            tcp_flags: [0; 2],
        }
    }
}

impl Past {
    pub(super) fn spill(&mut self, side: CanonicalSide, more: &Totals) {
        self.spilled[side] = self.spilled[side].plus(more);
    }

    pub(super) fn total(&self, side: CanonicalSide, held: &Totals) -> Totals {
        self.spilled[side].plus(held)
    }
}

/// Names that exporters give to a flow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Labels {
    pub(super) vrf: Option<Name>,
    pub(super) application: Option<Name>,
}

impl Words for Labels {
    fn words(&self) -> [u64; 3] {
        let word = |name: &Option<Name>| {
            let octets = name.as_deref().unwrap_or_default().bytes();
            octets.fold(0, |hash: u64, octet| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(octet))
        };
        [word(&self.vrf), word(&self.application), 0]
    }
}

/// What exporters told of a flow besides counters and observation points.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Exported {
    /// Earliest start of the records of each side's owners; [`Micros::MAX`]: none.
    pub(super) starts: [Micros; 2],
    /// Of the address on each side; 0 is none (RFC 7607 reserves it).
    pub(super) asn: [u32; 2],
    /// The longest idle timeout that a record asked for, in milliseconds, rounded up.
    pub(super) idle_ms: u32,
    /// [`Labels`], by number.
    pub(super) labels: u32,
}

impl Default for Exported {
    fn default() -> Self {
        Self { starts: [Micros::MAX; 2], asn: [0; 2], idle_ms: 0, labels: 0 }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits")]
const fn halves(at: Micros) -> [u32; 2] {
    let bits = at.0.cast_unsigned();
    [(bits >> 32) as u32, bits as u32]
}

fn whole(high: u32, low: u32) -> Micros {
    Micros((u64::from(high) << 32 | u64::from(low)).cast_signed())
}

impl Exported {
    /// The default, packed.
    const NEW: [u32; 8] = {
        let [high, low] = halves(Micros::MAX);
        [high, low, high, low, 0, 0, 0, 0]
    };

    fn pack(&self) -> [u32; 8] {
        let [a, b] = self.starts.map(halves);
        [a[0], a[1], b[0], b[1], self.asn[0], self.asn[1], self.idle_ms, self.labels]
    }

    fn unpack(part: &[u32; 8]) -> Self {
        let [a, b, c, d, x, y, idle_ms, labels] = *part;
        Self { starts: [whole(a, b), whole(c, d)], asn: [x, y], idle_ms, labels }
    }
}

/// What few flows have.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Every exporter that reported the flow, where they are not told by its observation points.
    pub(super) exporters: Option<Vec<Addr>>,
    /// What exporters told of a flow whose entry holds the TCP state of packets.
    pub(super) exported: Exported,
    pub(super) tunnel: Option<Tunnel>,
}
