//! Many records at once: while one is merged, the memory that the next ones need is on its way.

use super::table::Prepared;
use super::{FlowRecord, FlowSink, FlowTable, PacketRecord};
use crate::metrics::ledger::Ledgers;
use crate::net::{SHARDS, pair_hash, shard_of};

/// Records between the hash of a key, the fetch of its entry, and the merge: long enough for memory
/// to answer, short enough that the caches still hold what it answered.
const AHEAD: usize = 12;

/// What a table merges.
pub trait Mergeable {
    /// The shard that owns it.
    fn shard(&self) -> usize;

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
    fn shard(&self) -> usize {
        shard_of(pair_hash(self.site, self.src, self.dst))
    }

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
    fn shard(&self) -> usize {
        shard_of(pair_hash(self.site, self.src, self.dst))
    }

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

/// Which of a worker's tables has a shard; shards of other workers have a place that is none.
pub type Places = [u8; SHARDS];

/// Merges `items`, each into the table of its shard, in their order: what comes out is what merging
/// one after the other gives. Shard `s` has the table `places[s]`. `before` is called with the index
/// of each, before it is merged.
pub fn merge_all<T: Mergeable, S: FlowSink>(
    items: &[T],
    tables: &mut [FlowTable],
    places: &Places,
    ledgers: &mut Ledgers,
    sink: &mut S,
    mut before: impl FnMut(usize, &mut S),
) {
    const RING: usize = 2 * AHEAD;
    let mut ring = [(0, Prepared::default()); RING];
    for step in 0..items.len() + RING {
        if let Some(at) = step.checked_sub(RING) {
            let (place, prepared) = &ring[at % RING];
            before(at, sink);
            items[at].merge(&mut tables[*place], prepared, ledgers, sink);
        }
        if let Some(at) = step.checked_sub(AHEAD).filter(|&at| at < items.len()) {
            let (place, prepared) = &mut ring[at % RING];
            tables[*place].fetch(prepared);
        }
        if let Some(item) = items.get(step) {
            let place = usize::from(places[item.shard()]);
            ring[step % RING] = (place, item.prepare(&tables[place]));
        }
    }
}
