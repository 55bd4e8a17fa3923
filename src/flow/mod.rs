//! Flows: what decoders hand over, the per-shard table that aggregates it, and what it hands on.
//!
//! Pure: no clock, socket, file, thread or randomness. Records and the input clock's stamp go in,
//! slices come out through [`FlowSink`].

pub mod record;
pub mod view;

pub use record::{FlowRecord, ObservationPoint, PacketRecord, TcpFlags};
pub use view::{Biflow, Direction, DirectionBy, EndReason, FlowId, Side, Slice, TcpState};

/// What the table tells of a flow while it lives. The shard of `pipeline` implements it: there
/// detection happens and slices leave for the output.
pub trait FlowSink {
    /// The first record of a flow was merged: its immutable fields (addresses, ports, protocol,
    /// exporter, interfaces) are final. Called once per flow, before any other call for it.
    fn opened(&mut self, flow: &mut LiveFlow<'_>);

    /// A cumulated counter reached the wake-up value set in [`LiveFlow::wake`], or flags were
    /// added. Called after the update, at most once per update.
    fn woke(&mut self, flow: &mut LiveFlow<'_>);

    /// A slice is cut: at the active timeout, or because the flow ended (`slice.last`).
    /// `flow` holds the counters cumulated over the whole flow; `slice` those of this slice.
    fn cut(&mut self, flow: &mut LiveFlow<'_>, slice: Slice);
}

/// A flow in the table, as a [`FlowSink`] sees it.
#[derive(Debug)]
pub struct LiveFlow<'a> {
    /// The flow so far: oriented initiator to responder, counters cumulated over its life.
    pub view: &'a Biflow,
    /// The flow's identity.
    pub id: FlowId,
    /// The stamp of the input clock at which this happened. For an end by timeout: the deadline.
    pub now: crate::time::Micros,
    /// What detection remembers on the entry between calls.
    pub memory: &'a mut Memory,
}

/// What detection keeps on a flow's entry: the rules that fired and when to look again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// Interned ids of the rules that fired, in the order of firing. A rule never fires twice.
    pub fired: Vec<u32>,
    /// Generation of the rule set that last looked at this flow; 0 before the first look.
    pub generation: u32,
    /// When the table must call [`FlowSink::woke`].
    pub wake: Wake,
}

/// Wake-up values of one flow: the next threshold that any rule uses, per cumulated counter.
///
/// The table compares raw (unscaled) counters of both sides, whatever the orientation, so that an
/// ordinary update costs one compare per counter; whoever sets them divides by the sampling
/// interval, rounding down. `u64::MAX` never wakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wake {
    /// Octets of either direction, or their sum.
    pub octets: u64,
    /// Packets of either direction, or their sum.
    pub packets: u64,
    /// Payload or layer-2 octets of either direction, or their sum.
    pub other_octets: u64,
    /// Duration (last − first), in microseconds.
    pub duration_us: i64,
    /// Whether a TCP flag that was not seen before wakes the flow.
    pub on_new_flags: bool,
}

impl Default for Wake {
    fn default() -> Self {
        Self {
            octets: u64::MAX,
            packets: u64::MAX,
            other_octets: u64::MAX,
            duration_us: i64::MAX,
            on_new_flags: false,
        }
    }
}
