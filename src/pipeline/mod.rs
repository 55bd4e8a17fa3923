//! Assembly: readers decode and route, workers own shards, outputs take batches.
//!
//! ```text
//! reader ── Load ──▶ worker: 64/N shards, each a flow table ── Batch ──▶ sinks
//!                       └── Message ──▶ exchange: correlations, suppression ── Batch ──▶ sinks
//! ```
//!
//! A reader owns its input and does in order what needs order: headers, sequence numbers,
//! templates. It decodes into a [`Load`] for each worker and routes by the pair's shard, so a
//! shard sees its records in the order of the input, whatever the number of workers. With one
//! reader and one worker there is no ring: the reader's thread works its loads off itself.

pub mod affinity;
pub mod balance;
mod busy;
#[cfg(feature = "capture")]
pub mod capture;
pub mod clock;
pub mod collect;
mod drops;
#[cfg(feature = "kafka")]
pub mod engine;
pub mod exchange;
mod excluded;
pub mod exporters;
pub mod feeds;
mod hunt;
pub mod listing;
pub mod outputs;
pub mod overload;
pub mod pace;
pub mod post;
pub mod replay;
pub mod router;
pub mod rules;
pub mod sampler;
pub mod sequences;
pub mod shard;
pub mod state;
pub mod worker;

pub use exchange::Message;
pub use outputs::Outputs;
pub use router::{Load, Router};
pub use rules::{RuleBook, Rules};
pub use worker::Worker;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::flow::params::Params;
use crate::metrics::Board;
use balance::Balance;
use exchange::{Desk, Outbox};

/// The workers of a pipeline, started, and a router for each reader.
#[derive(Debug)]
pub struct Workers {
    /// One router for each reader.
    pub routers: Vec<Router>,
    /// Threads that end when all routers are gone; none if the reader works itself.
    pub threads: Vec<JoinHandle<()>>,
    /// Moves shards between them.
    pub balance: Arc<Balance>,
}

/// The board of a pipeline: a slot for each worker, then one for each reader, then one for the
/// exchange.
#[must_use]
pub fn board(workers: usize, readers: usize) -> Board {
    let names = (0..workers).map(|i| format!("worker-{i}"));
    let names = names.chain((0..readers).map(|i| format!("reader-{i}")));
    Board::new(names.chain(["exchange".to_owned()]))
}

/// Starts a worker for each of `cores` (where [`affinity::place`] put them) and `readers` readers.
/// The board of `shared` is [`board`]'s.
///
/// # Errors
/// If the operating system refuses a thread.
pub fn start(
    shared: &Arc<worker::Shared>,
    params: &Arc<Params>,
    cores: &[Option<usize>],
    readers: usize,
) -> io::Result<Workers> {
    let workers = cores.len();
    let balance = Arc::new(Balance::new(workers));
    // Whoever sends packets, or a capture, must not aim flows at one place of the table. It moves
    // entries, never output.
    let hash_seed = RandomState::new().build_hasher().finish();
    let params = &Arc::new(Params { hash_seed, ..Params::clone(params) });
    let worker = |index, outbox| {
        let core = cores[index];
        let of = (index, Arc::clone(&balance), readers);
        Worker::new(Arc::clone(shared), params, of, core, outbox)
    };
    let slot = workers + readers;
    if workers == 1 && readers == 1 {
        let outbox = Outbox::Inline(Box::new(Desk::new(Arc::clone(shared), slot)));
        return Ok(Workers {
            routers: vec![Router::inline(worker(0, outbox))],
            threads: Vec::new(),
            balance,
        });
    }
    let (outboxes, exchange) = exchange::spawn(shared, slot, workers)?;
    let mut seeds = Vec::new();
    let mut threads = Vec::new();
    for (index, outbox) in outboxes.into_iter().enumerate() {
        let (seed, thread) = router::spawn(worker(index, outbox), index)?;
        seeds.push(seed);
        threads.push(thread);
    }
    threads.push(exchange);
    let rings = |reader| Router::rings(&seeds, reader, Arc::clone(&balance));
    let routers = (0..readers).map(rings).collect();
    Ok(Workers { routers, threads, balance })
}
