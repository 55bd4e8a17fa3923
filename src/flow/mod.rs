//! Flows: what decoders hand over, the per-shard table that aggregates it, and what it hands on.
//!
//! Pure: no clock, socket, file, thread or randomness. Records and the input clock's stamp go in,
//! slices come out through [`FlowSink`].

pub mod batch;
pub mod community;
mod entry;
mod finished;
pub mod fold;
mod fragments;
mod index;
mod intern;
pub mod key;
mod live;
mod memory;
mod observation;
mod orient;
mod owner;
pub mod params;
pub mod record;
mod rings;
mod show;
mod slab;
pub mod stitch;
mod store;
pub mod table;
mod tcp;
#[cfg(test)]
mod tests;
pub mod view;
mod wheel;

pub use community::community_id;
pub use fold::{Fold, FoldSink, FoldedFlow};
pub use live::{Cut, LiveFlow};
pub use memory::{Fired, Memory, Wake};
pub use orient::direction;
pub use params::Params;
pub use record::{FlowRecord, ObservationPoint, PacketRecord, TcpFlags};
pub use table::{FlowTable, Prepared};
pub use view::{Biflow, Direction, DirectionBy, EndReason, FlowId, Side, Slice, TcpState};

/// What the table tells of a flow while it lives. The shard of `pipeline` implements it: there
/// detection happens and slices leave for the output.
pub trait FlowSink {
    /// Whether flows are looked at while they live. If not, none of [`FlowSink::opened`],
    /// [`FlowSink::woke`] and [`FlowSink::turned`] is called.
    fn watches(&self) -> bool {
        true
    }

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

    /// A slice is cut: at the active timeout, or because the flow ended (`cut.last`). `flow` holds
    /// the counters cumulated over the whole flow; [`LiveFlow::slice`] makes the slice, for a sink
    /// that wants it.
    fn cut(&mut self, flow: &mut LiveFlow<'_>, cut: Cut);
}
