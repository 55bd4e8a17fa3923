//! A flow of the table as the outside sees it.

use super::entry::{Owner, Totals, flag, side_flag};
use super::key::{CanonicalSide, TCP, is_icmp};
use super::orient;
use super::params::Params;
use super::store::Store;
use super::tcp::Tcp;
use super::view::{Biflow, Side};

/// Which part of a flow is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Span {
    /// All of its life.
    Flow,
    /// The open slice.
    Slice,
}

impl Store {
    /// Writes counters and times of `span` of entry `i` into `view`, oriented.
    pub(super) fn show_counters(&self, i: u32, span: Span, view: &mut Biflow) {
        let entry = &self.entries[i];
        let tcp = entry.tcp();
        let forward = entry.initiator();
        view.fwd = self.show_side(i, span, forward, &tcp);
        view.bwd = self.show_side(i, span, 1 - forward, &tcp);
        (view.first, view.last) = match span {
            Span::Slice if entry.records > 0 => (entry.first, entry.last),
            Span::Slice => (self.span(i).1, self.span(i).1),
            Span::Flow => self.span(i),
        };
    }

    fn show_side(&self, i: u32, span: Span, s: CanonicalSide, tcp: &Tcp) -> Side {
        let entry = &self.entries[i];
        let whole = self.total(i, s);
        let past = self.past(i).filter(|_| span == Span::Slice);
        let (totals, tcp_flags, retransmits): (Totals, _, _) = match past {
            Some(past) => (
                whole.minus(&past.base[s]),
                past.tcp_flags[s],
                tcp.retransmits[s] - past.base_retransmits[s],
            ),
            None => (whole, entry.tcp_flags[s], tcp.retransmits[s]),
        };
        let metered = entry.has(flag::PACKETS);
        let of_tcp = entry.key.protocol() == TCP;
        let metered_tcp = metered && of_tcp;
        let knows = |flag| entry.side_has(s, flag);
        Side {
            octets: totals.octets,
            packets: totals.packets,
            octets_l2: (metered || knows(side_flag::KNOWS_L2)).then_some(totals.octets_l2),
            payload: (metered || knows(side_flag::KNOWS_PAYLOAD)).then_some(totals.payload),
            tcp_flags: (metered_tcp || knows(side_flag::KNOWS_FLAGS)).then_some(tcp_flags),
            first_flags: (of_tcp && knows(side_flag::MARK)).then_some(entry.mark[s]),
            retransmits: metered_tcp.then_some(retransmits),
            ttl: knows(side_flag::TTL).then_some(entry.ttl[s]),
        }
    }

    /// Writes the whole of entry `i` into `view`, with counters of `span`. Allocates only where
    /// the flow has more exporters than `view` ever had.
    pub(super) fn show(&self, i: u32, span: Span, params: &Params, view: &mut Biflow) {
        let entry = &self.entries[i];
        let (forward, reverse) = (entry.initiator(), 1 - entry.initiator());
        let key = self.key(i);
        let ((src, src_port), (dst, dst_port)) = (key.endpoint(forward), key.endpoint(reverse));
        (view.site, view.vrf, view.protocol) = (key.site, key.vrf, key.protocol);
        (view.src, view.dst) = (src, dst);
        (view.src_port, view.dst_port) = (src_port, dst_port);
        if is_icmp(key.protocol) {
            let marked = |s| entry.side_has(s, side_flag::MARK).then(|| entry.mark[s]);
            let [kind, code] = marked(forward).or(marked(reverse)).unwrap_or(0).to_be_bytes();
            (view.src_port, view.dst_port) = (kind.into(), code.into());
        }
        self.show_observation(i, forward, view);
        let exported = self.exported(i);
        let labels = &self.labels[exported.labels];
        view.vrf_name.clone_from(&labels.vrf);
        view.application.clone_from(&labels.application);
        let asn = |side: CanonicalSide| Some(exported.asn[side]).filter(|&asn| asn > 0);
        (view.src_asn, view.dst_asn) = (asn(forward), asn(reverse));
        view.vlan = entry.has(flag::VLAN).then_some(entry.vlan);
        view.tos = entry.has(flag::TOS).then_some(entry.tos);
        let tcp = entry.tcp();
        (view.tcp_state, view.rtt_us) = (None, tcp.rtt_us);
        if entry.has(flag::PACKETS) && key.protocol == TCP {
            let totals = [0, 1].map(|side| self.total(i, side));
            let packets = totals.map(|totals| totals.packets > 0);
            view.tcp_state = tcp.state(packets, totals.map(|totals| totals.payload > 0));
        }
        view.direction = orient::direction(&params.home, src, dst);
        view.direction_by = entry.direction_by();
        view.tunnel = self.extra(i).and_then(|extra| extra.tunnel);
        self.show_counters(i, span, view);
    }

    fn show_observation(&self, i: u32, forward: CanonicalSide, view: &mut Biflow) {
        // Where only the reverse direction was reported, its interfaces are shown the other way
        // round.
        let turned = self.entries[i].owner(forward) == Owner::None;
        let known = if turned { 1 - forward } else { forward };
        let seen = self.observation(i, known);
        let (interfaces, names) = (seen.interfaces(), seen.names());
        let (into, out) = if turned { (1, 0) } else { (0, 1) };
        (view.in_if, view.out_if) = (interfaces[into], interfaces[out]);
        view.in_if_name = names[into].cloned();
        view.out_if_name = names[out].cloned();
        view.point = seen.point();
        view.sampling_interval = Some(seen.sampling_interval).filter(|&interval| interval > 0);
        view.exporters.clear();
        match self.extra(i).and_then(|extra| extra.exporters.as_ref()) {
            Some(exporters) => view.exporters.extend_from_slice(exporters),
            None => view.exporters.extend(self.sole_exporter(i)),
        }
    }
}
