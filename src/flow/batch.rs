//! Many records at once: while one is merged, the memory that the next ones need is on its way.

use super::owner::closes;
use super::record::{FIN, RST};
use super::table::Prepared;
use super::{FlowRecord, FlowSink, FlowTable, PacketRecord};
use crate::metrics::ledger::Ledgers;
use crate::net::{SHARDS, pair_hash, shard_of};

/// Records whose keys are hashed, whose entries are asked for, and which are merged in a row. Long
/// enough rows for the processor to look several addresses up at once, and for memory to answer
/// meanwhile; short enough that the caches still hold what it answered.
const ROW: usize = 16;

/// What a table merges.
pub trait Mergeable {
    /// The shard that owns it.
    fn shard(&self) -> usize;

    /// Hashes the key, for `table`.
    fn prepare(&self, table: &FlowTable) -> Prepared;

    /// Whether it may bring the end of its flow nearer.
    fn closes(&self) -> bool;

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

    fn closes(&self) -> bool {
        closes(self)
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

    fn closes(&self) -> bool {
        self.tcp.is_some_and(|tcp| tcp.flags & (FIN | RST) != 0)
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

/// A record's table, and what that prepared.
type Planned = (usize, Prepared);

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
    let mut rows = [[(0, Prepared::default()); ROW]; 3];
    // The row that is hashed; the one before it is fetched, and the one before that merged.
    for row in 0..items.len().div_ceil(ROW) + 2 {
        let [hashed, fetched, merged] =
            rows.get_disjoint_mut([row % 3, (row + 2) % 3, (row + 1) % 3]).expect("three rows");
        prepare(row_of(items, row), tables, places, hashed);
        if let Some(row) = row.checked_sub(1) {
            fetch(row_of(items, row), tables, fetched);
        }
        let Some(row) = row.checked_sub(2) else { continue };
        fetch_parts(row_of(items, row), tables, merged);
        let planned = row_of(items, row).iter().zip(merged.iter());
        for (at, (item, (place, prepared))) in (row * ROW..).zip(planned) {
            before(at, sink);
            item.merge(&mut tables[*place], prepared, ledgers, sink);
        }
    }
}

/// Row `row` of `items`; past the last one it is empty.
fn row_of<T>(items: &[T], row: usize) -> &[T] {
    items.chunks(ROW).nth(row).unwrap_or_default()
}

/// Hashes the keys of a row.
#[inline]
fn prepare<T: Mergeable>(
    items: &[T],
    tables: &[FlowTable],
    places: &Places,
    row: &mut [Planned; ROW],
) {
    for (item, planned) in items.iter().zip(row) {
        let place = usize::from(places[item.shard()]);
        *planned = (place, item.prepare(&tables[place]));
    }
}

/// Asks for the entries of a row.
#[inline]
fn fetch<T: Mergeable>(items: &[T], tables: &[FlowTable], row: &mut [Planned; ROW]) {
    for (item, (place, prepared)) in items.iter().zip(row) {
        tables[*place].fetch(prepared, item.closes());
    }
}

/// Asks for what the entries of a row lead to.
#[inline]
fn fetch_parts<T>(items: &[T], tables: &[FlowTable], row: &[Planned; ROW]) {
    for (place, prepared) in &row[..items.len()] {
        tables[*place].fetch_parts(prepared);
    }
}
