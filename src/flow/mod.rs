//! Flows: what decoders hand over, the per-shard table that aggregates it, and what it hands on.
//!
//! Pure: no clock, socket, file, thread or randomness. Records and the input clock's stamp go in,
//! slices come out through [`FlowSink`].

pub mod community;
mod entry;
mod fragments;
mod index;
pub mod key;
mod orient;
mod owner;
pub mod params;
pub mod record;
mod rings;
mod store;
pub mod table;
mod tcp;
#[cfg(test)]
mod tests;
pub mod view;
mod wheel;

pub use community::community_id;
pub use params::Params;
pub use record::{FlowRecord, ObservationPoint, PacketRecord, TcpFlags};
pub use table::FlowTable;
pub use view::{Biflow, Direction, DirectionBy, EndReason, FlowId, Side, Slice, TcpState};

/// What the table tells of a flow while it lives. The shard of `pipeline` implements it: there
/// detection happens and slices leave for the output.
pub trait FlowSink {
    /// The first record of a flow was merged: its immutable fields (addresses, ports, protocol,
    /// exporter, interfaces) are final, unless the flow is turned. Called once per flow, before any
    /// other call for it. If it sets wake-up values that are reached already, [`FlowSink::woke`]
    /// follows at once.
    fn opened(&mut self, flow: &mut LiveFlow<'_>);

    /// A cumulated counter reached the wake-up value set in [`Memory::wake`], or flags were
    /// added. Called after the update, at most once per update.
    fn woke(&mut self, flow: &mut LiveFlow<'_>);

    /// Stronger evidence turned the flow round before its first slice was cut: initiator and
    /// responder changed places, and with them everything that [`FlowSink::opened`] called final.
    /// Called after the update, in place of [`FlowSink::woke`].
    fn turned(&mut self, flow: &mut LiveFlow<'_>) {
        self.woke(flow);
    }

    /// The flow ended, and nothing was merged into it since its last slice was cut. Returns whether
    /// an empty last slice shall be cut all the same, as for tags that came with the end.
    fn ended(&mut self, _flow: &mut LiveFlow<'_>) -> bool {
        true
    }

    /// A slice is cut: at the active timeout, or because the flow ended (`slice.last`).
    /// `flow` holds the counters cumulated over the whole flow; `slice` those of this slice, and
    /// the rules that had fired before this call.
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
/// The table compares the sum of both sides' raw (unscaled) counters, whatever the orientation, so
/// that an ordinary update costs one compare per counter: due is what has reached its value.
/// Whoever sets them divides by the sampling interval and makes sure that no threshold on one side
/// can be crossed before the sum gets there. `u64::MAX` never wakes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wake {
    /// Sum of the octets of both directions.
    pub octets: u64,
    /// Sum of the packets of both directions.
    pub packets: u64,
    /// Sum of the payload octets, or of the layer-2 octets, of both directions.
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
