//! What the flow table needs of the configuration, as plain numbers.

use crate::config::{Config, Dedup};
use crate::net::{Cidr, SHARDS};
use crate::time::SECOND;

/// The longest idle timeout that a record may ask for, in microseconds: a day, as in the
/// configuration.
pub const IDLE_MAX_US: i64 = 86_400 * SECOND;

/// Idle and active timeout of one kind of input, in microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Silence after which a flow ends: a record that comes exactly this late is a new flow's.
    pub idle_us: i64,
    /// Age at which a slice is cut: a record that comes exactly then opens the next slice.
    pub active_us: i64,
}

/// Parameters of one shard's [`FlowTable`](super::FlowTable).
#[derive(Clone, Debug, PartialEq)]
pub struct Params {
    /// Flows of one shard, at most; at least 1.
    pub capacity: usize,
    /// Whether the memory of so many flows is taken at the start: [`FlowTable::reserve`].
    ///
    /// [`FlowTable::reserve`]: super::FlowTable::reserve
    pub reserve: bool,
    /// Of flows whose latest record was a packet.
    pub packets: Timeouts,
    /// Of flows whose latest record was an export record or a CSV row.
    pub netflow: Timeouts,
    /// How long an ended flow takes in late records, in microseconds.
    pub linger_us: i64,
    /// What becomes of records of an observation point that does not own the direction.
    pub dedup: Dedup,
    /// Whether the VLAN id is a part of the flow key.
    pub vlan_in_key: bool,
    /// Fragmented datagrams of one shard that are remembered, at most; at least 1.
    pub fragments: usize,
    /// Home networks.
    pub home: Vec<Cidr>,
    /// Seed of the key hash. It decides where a flow lies in memory, never what comes out; the
    /// pipeline sets it to a secret, so that nobody can choose colliding keys.
    pub hash_seed: u64,
}

impl Params {
    /// One shard's part of `config`. O(home networks).
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let flow = &config.flow;
        let seconds = |s: u32| i64::from(s) * SECOND;
        Self {
            capacity: (flow.entries_max / SHARDS).max(1),
            reserve: flow.reserve,
            packets: Timeouts {
                idle_us: seconds(flow.packets.idle_timeout_s),
                active_us: seconds(flow.packets.active_timeout_s),
            },
            netflow: Timeouts {
                idle_us: seconds(flow.netflow.idle_timeout_s),
                active_us: seconds(flow.netflow.active_timeout_s),
            },
            linger_us: seconds(flow.linger_s),
            dedup: flow.dedup,
            vlan_in_key: flow.vlan_in_key,
            fragments: (flow.fragments_max / SHARDS).max(1),
            home: config.networks.home.clone(),
            hash_seed: 0,
        }
    }

    /// The longest that a flow may be silent between two slices, and the longest from a flow's
    /// start to the cut of its first slice, in microseconds.
    #[must_use]
    pub fn silence_us(&self) -> i64 {
        let sum = |timeouts: &Timeouts| timeouts.idle_us.saturating_add(timeouts.active_us);
        sum(&self.packets).max(sum(&self.netflow))
    }
}

impl Params {
    /// Octets that the tables of all shards take once each holds [`Params::capacity`] flows: entry,
    /// timer and index. Flows of IPv6 (32 octets), flows that a slice was cut of (160), flows that a
    /// rule fired on or waits for (104) and flows of several exporters or in tunnels take more.
    #[must_use]
    pub fn table_octets(&self) -> u64 {
        let shard = super::store::octets(self.capacity) + super::rings::octets(self.capacity);
        shard as u64 * SHARDS as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_flows_fit_into_two_gibibytes() {
        let mut config = Config::default();
        config.flow.entries_max = 10_000_000;
        let octets = Params::from_config(&config).table_octets();
        assert!((2_000_000_000..2 << 30).contains(&octets), "{octets}");
    }

    #[test]
    fn a_shard_gets_its_part() {
        let mut config = Config::default();
        let params = Params::from_config(&config);
        assert_eq!((params.capacity, params.fragments), (15_625, 1_024));
        assert_eq!(params.packets, Timeouts { idle_us: 60_000_000, active_us: 120_000_000 });
        assert_eq!(params.netflow, Timeouts { idle_us: 130_000_000, active_us: 300_000_000 });
        assert_eq!((params.linger_us, params.home.len()), (5_000_000, 4));
        config.flow.entries_max = 3;
        config.flow.fragments_max = 3;
        let params = Params::from_config(&config);
        assert_eq!((params.capacity, params.fragments), (1, 1));
    }
}
