//! Many records at once: while one is merged, the memory that the next ones need is on its way.

use super::table::Prepared;
use super::{FlowRecord, FlowSink, FlowTable, PacketRecord};
use crate::metrics::ledger::Ledgers;

/// Records between the hash of a key, the fetch of its entry, and the merge: long enough for memory
/// to answer, short enough that the caches still hold what it answered.
const AHEAD: usize = 12;

/// What a table merges.
pub trait Mergeable {
    /// Hashes the key, for `table`.
    fn prepare(&self, table: &FlowTable) -> Prepared;

    /// Merges it into `table`, which prepared it.
    fn merge(
        &self,
        table: &mut FlowTable,
        prepared: &Prepared,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    );
}

impl Mergeable for FlowRecord {
    fn prepare(&self, table: &FlowTable) -> Prepared {
        table.prepare_record(self)
    }

    fn merge(
        &self,
        table: &mut FlowTable,
        prepared: &Prepared,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        table.record_prepared(self, prepared, ledgers, sink);
    }
}

impl Mergeable for PacketRecord {
    fn prepare(&self, table: &FlowTable) -> Prepared {
        table.prepare_packet(self)
    }

    fn merge(
        &self,
        table: &mut FlowTable,
        prepared: &Prepared,
        ledgers: &mut Ledgers,
        sink: &mut impl FlowSink,
    ) {
        table.packet_prepared(self, prepared, ledgers, sink);
    }
}

/// Merges `items`, each into the table of its shard, in their order: what comes out is what merging
/// one after the other gives. Shard `s` has the table `s / workers`, of a worker that owns every
/// `workers`-th shard. `before` is called with the index of each, before it is merged.
pub fn merge_all<T: Mergeable, S: FlowSink>(
    items: &[(u8, T)],
    tables: &mut [FlowTable],
    workers: usize,
    ledgers: &mut Ledgers,
    sink: &mut S,
    mut before: impl FnMut(usize, &mut S),
) {
    const RING: usize = 2 * AHEAD;
    let mut ring = [Prepared::default(); RING];
    let place = |shard: u8| usize::from(shard) / workers;
    for step in 0..items.len() + RING {
        if let Some(at) = step.checked_sub(RING) {
            let (shard, item) = &items[at];
            before(at, sink);
            item.merge(&mut tables[place(*shard)], &ring[at % RING], ledgers, sink);
        }
        if let Some((shard, _)) = step.checked_sub(AHEAD).and_then(|at| items.get(at)) {
            tables[place(*shard)].fetch(&ring[(step - AHEAD) % RING]);
        }
        if let Some((shard, item)) = items.get(step) {
            ring[step % RING] = item.prepare(&tables[place(*shard)]);
        }
    }
}
