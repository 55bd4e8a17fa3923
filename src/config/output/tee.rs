//! `[[output.tee]]`.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Report;
use crate::net::Cidr;

/// `[[output.tee]]`: received datagrams, as they came, to another collector.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tee {
    /// Name of the tee, in metrics; unique among tees.
    pub name: String,
    /// Address and UDP port of the collector. Required.
    pub address: SocketAddr,
    /// Networks whose exporters' datagrams go; empty: all that `input.netflow.allow` lets in.
    pub exporters: Vec<Cidr>,
    /// Send with the exporter's address and port. Needs CAP_NET_RAW; without it the collector sees
    /// one exporter, which is warned of.
    pub keep_source: bool,
    /// Octets that wait to be sent, at most: 64 KiB to 1 GiB. More are dropped.
    pub queue_bytes: usize,
}

impl Default for Tee {
    fn default() -> Self {
        Self {
            name: "tee".into(),
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            exporters: Vec::new(),
            keep_source: true,
            queue_bytes: 16 << 20,
        }
    }
}

/// Reports what is wrong with `tees` in a sensor that listens at `listen`.
pub(in crate::config) fn check(tees: &[Tee], listen: &[SocketAddr], report: &mut Report) {
    let names = tees.iter().enumerate();
    report.unique(names.map(|(i, tee)| (format!("output.tee[{i}].name"), tee.name.as_str())));
    for (index, tee) in tees.iter().enumerate() {
        let key = |name: &str| format!("output.tee[{index}].{name}");
        let (ip, port) = (tee.address.ip(), tee.address.port());
        if ip.is_unspecified() || port == 0 {
            report.add(&key("address"), "must be an address and a port of a collector".into());
        } else if listen.iter().any(|at| {
            let any = at.ip().is_unspecified() && ip.is_loopback();
            at.port() == port && (at.ip() == ip || any)
        }) {
            report.add(&key("address"), "is this sensor's own: datagrams would go round".into());
        }
        report.within(&key("queue_bytes"), tee.queue_bytes, 65_536..=1 << 30);
    }
}
