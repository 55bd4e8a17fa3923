//! What a flow keeps of its TCP headers: state, retransmissions, handshake round-trip time.

use super::key::CanonicalSide;
use super::record::{ACK, FIN, PacketRecord, RST, SYN, TcpHeader};
use super::view::TcpState;
use crate::time::Micros;

/// Where the three-way handshake stands, as far as its round-trip time needs it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Handshake {
    /// No SYN yet.
    #[default]
    Before,
    /// `side` sent one SYN at `at`.
    Syn { side: u8, at: Micros },
    /// The other side answered; its SYN/ACK is acknowledged by `acknowledged`.
    SynAck { side: u8, at: Micros, acknowledged: u32 },
    /// Measured, or not to be measured.
    After,
}

/// TCP of one flow, both canonical sides. Of packets only.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tcp {
    /// End of the highest segment of each side, once one was seen.
    highest: [Option<u32>; 2],
    /// Segments with payload that hold nothing new.
    pub(super) retransmits: [u32; 2],
    handshake: Handshake,
    /// Time from SYN to the initiator's ACK of the SYN/ACK.
    pub(super) rtt_us: Option<u32>,
    syn: bool,
    syn_ack: bool,
    fin: [bool; 2],
    /// Closed or reset, whichever came first.
    ended: Option<TcpState>,
}

/// Whether `a` lies after `b` in sequence space (RFC 9293 §3.4).
const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// Whether `flags` are those of a connection's first segment: SYN, not ACK, FIN or RST.
pub(super) const fn opens(flags: u16) -> bool {
    flags & (SYN | ACK | FIN | RST) == SYN
}

/// Whether `flags` are those of the answer to it.
pub(super) const fn answers(flags: u16) -> bool {
    flags & (SYN | ACK | FIN | RST) == SYN | ACK
}

impl Tcp {
    /// As eight words, for [`Entry`](super::entry::Entry).
    #[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits")]
    pub(super) fn pack(&self) -> [u32; 8] {
        let (state, side, at, acknowledged) = match self.handshake {
            Handshake::Before => (0, 0, 0, 0),
            Handshake::Syn { side, at } => (1, side, at.0, 0),
            Handshake::SynAck { side, at, acknowledged } => (2, side, at.0, acknowledged),
            Handshake::After => (3, 0, i64::from(self.rtt_us.unwrap_or(0)), 0),
        };
        let at = at.cast_unsigned();
        let bits = [
            self.highest[0].is_some(),
            self.highest[1].is_some(),
            self.rtt_us.is_some(),
            self.syn,
            self.syn_ack,
            self.fin[0],
            self.fin[1],
            self.ended == Some(TcpState::Closed),
            self.ended == Some(TcpState::Reset),
        ];
        let bits = bits.iter().rev().fold(0, |bits, &bit| bits << 1 | u32::from(bit));
        [
            self.highest[0].unwrap_or(0),
            self.highest[1].unwrap_or(0),
            self.retransmits[0],
            self.retransmits[1],
            (at >> 32) as u32,
            at as u32,
            acknowledged,
            bits << 3 | u32::from(side) << 2 | state,
        ]
    }

    /// Back from [`Self::pack`].
    pub(super) fn unpack(words: &[u32; 8]) -> Self {
        let [a, b, retransmits_a, retransmits_b, high, low, acknowledged, bits] = *words;
        let at = Micros((u64::from(high) << 32 | u64::from(low)).cast_signed());
        let side = u8::from(bits & 4 != 0);
        let bit = |place: u32| bits >> (place + 3) & 1 == 1;
        Self {
            highest: [bit(0).then_some(a), bit(1).then_some(b)],
            retransmits: [retransmits_a, retransmits_b],
            handshake: match bits & 3 {
                0 => Handshake::Before,
                1 => Handshake::Syn { side, at },
                2 => Handshake::SynAck { side, at, acknowledged },
                _ => Handshake::After,
            },
            rtt_us: bit(2).then_some(low),
            syn: bit(3),
            syn_ack: bit(4),
            fin: [bit(5), bit(6)],
            ended: match (bit(7), bit(8)) {
                (true, _) => Some(TcpState::Closed),
                (_, true) => Some(TcpState::Reset),
                _ => None,
            },
        }
    }

    /// Takes in the header of a packet that `side` sent.
    pub(super) fn update(&mut self, side: CanonicalSide, tcp: TcpHeader, packet: &PacketRecord) {
        self.syn |= opens(tcp.flags);
        self.syn_ack |= answers(tcp.flags);
        self.fin[side] |= tcp.flags & FIN != 0;
        if self.ended.is_none() {
            if tcp.flags & RST != 0 {
                self.ended = Some(TcpState::Reset);
            } else if self.fin[0] && self.fin[1] {
                self.ended = Some(TcpState::Closed);
            }
        }
        self.follow_handshake(side, tcp, packet.time);
        self.count_retransmission(side, tcp, packet.payload);
    }

    /// A segment with payload whose end is not past the highest end seen from its side is a
    /// retransmission; so is one that was reordered, which a single observer cannot tell apart.
    fn count_retransmission(&mut self, side: CanonicalSide, tcp: TcpHeader, payload: u32) {
        let of_flags = u32::from(tcp.flags & SYN != 0) + u32::from(tcp.flags & FIN != 0);
        let end = tcp.seq.wrapping_add(payload).wrapping_add(of_flags);
        match &mut self.highest[side] {
            // The sequence number of a reset may be anything (RFC 9293 §3.5.2).
            _ if tcp.flags & RST != 0 => {}
            Some(highest) if after(end, *highest) => *highest = end,
            Some(_) if payload > 0 => {
                self.retransmits[side] = self.retransmits[side].saturating_add(1);
            }
            Some(_) => {}
            none => *none = Some(end),
        }
    }

    /// Measures the handshake, unless the SYN was sent twice: which of them was answered cannot be
    /// told (Karn's algorithm, RFC 6298 §3).
    fn follow_handshake(&mut self, side: CanonicalSide, tcp: TcpHeader, time: Micros) {
        let this = u8::from(side == 1);
        self.handshake = match self.handshake {
            Handshake::Before if opens(tcp.flags) => Handshake::Syn { side: this, at: time },
            Handshake::Syn { .. } if opens(tcp.flags) => Handshake::After,
            Handshake::Syn { side, at } if side != this && answers(tcp.flags) => {
                Handshake::SynAck { side, at, acknowledged: tcp.seq.wrapping_add(1) }
            }
            Handshake::SynAck { side, .. } if side == this && tcp.flags & SYN != 0 => {
                Handshake::After
            }
            Handshake::SynAck { side, at, acknowledged }
                if side == this && tcp.flags & ACK != 0 && !after(acknowledged, tcp.ack) =>
            {
                self.rtt_us = u32::try_from(time.since(at)).ok();
                Handshake::After
            }
            unchanged => unchanged,
        };
    }

    /// Whether the connection has ended: FIN from both sides, or RST.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The state, given whether each side sent packets and payload. `None` where only one side of a
    /// connection was seen, and that in mid-stream.
    pub(super) fn state(&self, packets: [bool; 2], payload: [bool; 2]) -> Option<TcpState> {
        if self.ended.is_some() {
            return self.ended;
        }
        let both_ways = packets[0] && packets[1];
        let handshake = self.syn || self.syn_ack;
        if both_ways && (self.syn_ack || !handshake) || payload[0] && payload[1] {
            return Some(TcpState::Established);
        }
        handshake.then_some(TcpState::Attempt)
    }
}
