//! A flow in the table, as a sink sees it: nothing is copied out before it is asked for.

use std::cell::Cell;
use std::fmt;

use super::Memory;
use super::key::flow_id;
use super::params::Params;
use super::show::Span;
use super::store::Store;
use super::view::{Biflow, EndReason, FlowId, Slice};
use crate::time::Micros;

/// A cut: where in a flow's life its slice stands. [`LiveFlow::slice`] makes the slice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cut {
    /// 0 for the first slice of a flow.
    pub number: u32,
    /// Whether the flow ended with it.
    pub last: bool,
    /// Why it was cut.
    pub end_reason: EndReason,
    /// Records (or packets) merged into it.
    pub records: u64,
}

/// A flow in the table, as a [`FlowSink`](super::FlowSink) sees it.
pub struct LiveFlow<'a> {
    /// The stamp of the input clock at which this happened. For an end by timeout: the deadline.
    pub now: Micros,
    /// What detection remembers on the entry between calls.
    pub memory: &'a mut Memory,
    pub(super) store: &'a Store,
    pub(super) entry: u32,
    pub(super) params: &'a Params,
    /// Room for the view, until it is made.
    pub(super) room: Cell<Option<&'a mut Biflow>>,
    pub(super) view: Cell<Option<&'a Biflow>>,
}

impl<'a> LiveFlow<'a> {
    /// The flow so far: oriented initiator to responder, counters cumulated over its life. Made at
    /// the first call.
    #[must_use]
    pub fn view(&self) -> &'a Biflow {
        if let Some(view) = self.view.get() {
            return view;
        }
        let room = self.room.take().expect("the room is there until the view is made");
        self.store.show(self.entry, Span::Flow, self.params, room);
        self.view.set(Some(room));
        room
    }

    /// The flow's identity. One SHA-1.
    #[must_use]
    pub fn id(&self) -> FlowId {
        flow_id(&self.store.key(self.entry), self.store.entries[self.entry].id_first)
    }

    /// The slice of `cut`, with the rules that have fired so far.
    #[must_use]
    pub fn slice(&self, cut: Cut) -> Slice {
        let Cut { number, last, end_reason, records } = cut;
        let flow_id = self.id();
        let mut slice = Slice { flow_id, number, last, end_reason, records, ..Slice::default() };
        match self.view.get() {
            Some(view) => {
                slice.flow.clone_from(view);
                self.store.show_counters(self.entry, Span::Slice, &mut slice.flow);
            }
            None => self.store.show(self.entry, Span::Slice, self.params, &mut slice.flow),
        }
        slice.fired.extend_from_slice(&self.memory.fired);
        slice
    }
}

impl fmt::Debug for LiveFlow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveFlow")
            .field("now", &self.now)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
