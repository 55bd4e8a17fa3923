//! What the tests of sequences are made of.

use super::{Allow, Labels, Settings};
use crate::flow::{Biflow, Side, Slice};
use crate::net::Addr;
use crate::time::Micros;

/// A host of ours, and one that is not.
pub(super) const OURS: Addr = Addr::v4(0x0a00_0001);
pub(super) const THEIRS: Addr = Addr::v4(0xcb00_7109);

/// For `budget` alerts per 1,000 hosts a day, by the shipped labels, without allow-list and home.
pub(super) fn settings(budget: f64) -> Settings {
    let labels = include_str!("../../../model/weir.json");
    let labels = Labels::parse(labels).expect("the shipped labels");
    Settings::new(labels.into(), budget, Allow::default(), Vec::new())
}

/// A whole TCP connection from us to them, which is over as soon as it begins.
pub(super) fn connection(first: Micros, src_port: u16, dst_port: u16) -> Slice {
    let side = Side { octets: 900, packets: 5, ..Side::default() };
    let flow = Biflow {
        src: OURS,
        dst: THEIRS,
        src_port,
        dst_port,
        protocol: 6,
        first,
        last: first,
        fwd: side,
        bwd: side,
        ..Biflow::default()
    };
    Slice { records: 1, last: true, flow, ..Slice::default() }
}
