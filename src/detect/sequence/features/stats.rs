//! The statistics of a window.

use super::order::Ordered;
use super::{Columns, rita, seconds};
use crate::detect::sequence::event::{Service, Transport};

/// How many there are.
pub const STATS: usize = 51 + Service::COUNT;

/// The statistics of one window, in the order of [`STAT_NAMES`].
pub type Stats = [f32; STATS];

/// Their names, in order.
#[rustfmt::skip]
pub const STAT_NAMES: [&str; STATS] = [
    "log_count", "log_span", "log_gap_q10", "log_gap_median", "log_gap_q90", "gap_mad", "gap_cv",
    "gap_near_median", "gap_multiple", "gap_short", "rita_ts", "rita_ds", "rita_hist", "rita_dur",
    "rita_score", "log_up_q10", "log_up_median", "log_up_q90", "up_mad", "log_down_q10",
    "log_down_median", "log_down_q90", "down_mad", "up_distinct", "down_distinct", "up_mode",
    "down_mode", "log_up_packets_median", "log_down_packets_median", "log_duration_median",
    "log_duration_max", "duty", "up_per_packet", "down_per_packet", "log_up_total",
    "log_down_total", "up_down_ratio", "up_heavier", "log_up_rate", "log_up_max",
    "up_concentration", "answered_share", "reset_share", "flags_share", "client_share",
    "log_ports", "port_mode", "tcp_share", "udp_share", "icmp_share", "log_packet_rate",
    "dns_share", "tls_share", "http_share", "mail_share", "remote_share", "infra_share",
    "industrial_share", "system_share", "registered_share", "dynamic_share", "none_share",
];

/// Where the statistic of this name stands; `None` if there is no such.
#[must_use]
pub fn index_of(name: &str) -> Option<usize> {
    STAT_NAMES.iter().position(|known| *known == name)
}

/// Takes values in order.
struct Row {
    values: Stats,
    len: usize,
}

impl Row {
    fn push<const N: usize>(&mut self, values: [f64; N]) {
        for value in values {
            self.values[self.len] = value as f32;
            self.len += 1;
        }
    }
}

pub(super) fn of(c: &Columns) -> Stats {
    let mut row = Row { values: [0.0; STATS], len: 0 };
    times(c, &mut row);
    sizes(c, &mut row);
    connections(c, &mut row);
    kinds(c, &mut row);
    debug_assert_eq!(row.len, STATS);
    row.values
}

/// Sum of the gaps, in seconds.
fn span(c: &Columns) -> f64 {
    c.gaps_ms().iter().map(|&ms| u64::from(ms)).sum::<u64>() as f64 / 1_000.0
}

/// Sum of the durations, in seconds.
fn busy(c: &Columns) -> f64 {
    total(&c.duration_ms[..c.n]) / 1_000.0
}

fn total(values: &[f64]) -> f64 {
    values.iter().sum()
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn share(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}

fn times(c: &Columns, row: &mut Row) {
    let gaps: Vec<f64> = c.gaps_ms().iter().map(|&ms| seconds(ms)).collect();
    let k = gaps.len();
    let ordered = Ordered::of(gaps.iter().copied());
    let median = ordered.median();
    let span = span(c);
    row.push([(c.n as f64).ln_1p(), span.ln_1p()]);
    row.push([ordered.pick(1, 10).ln_1p(), median.ln_1p(), ordered.pick(9, 10).ln_1p()]);
    row.push([ordered.spread(median, 0.01)]);
    let mean = span / k.max(1) as f64;
    let squares: f64 = gaps.iter().map(|gap| (gap - mean).powi(2)).sum();
    let deviation = (squares / k.max(1) as f64).sqrt();
    row.push([(deviation / mean.max(0.001)).min(8.0)]);
    let near = gaps.iter().filter(|&gap| (gap - median).abs() <= 0.1 * median).count();
    let is_multiple = |gap: &&f64| {
        let times = **gap / median.max(0.001);
        let nearest = (times + 0.5).floor();
        nearest >= 1.0 && (times - nearest).abs() <= 0.1
    };
    let multiples = gaps.iter().filter(is_multiple).count();
    let short = gaps.iter().filter(|&&gap| gap < 1.0).count();
    row.push([share(near, k), share(multiples, k), share(short, k)]);
    let rita = rita::scores(c);
    row.push([rita.times, rita.sizes, rita.histogram, rita.duration, rita.mean]);
}

fn sizes(c: &Columns, row: &mut Row) {
    let (up, down) =
        [&c.up, &c.down].map(|octets| Ordered::of(octets[..c.n].iter().copied())).into();
    let quantiles = |x: &Ordered| [x.pick(1, 10), x.median(), x.pick(9, 10)].map(f64::ln_1p);
    row.push(quantiles(&up));
    row.push([up.spread(up.median(), 1.0)]);
    row.push(quantiles(&down));
    row.push([down.spread(down.median(), 1.0)]);
    let ((up_distinct, up_mode), (down_distinct, down_mode)) = (up.runs(), down.runs());
    row.push([up_distinct, down_distinct, up_mode, down_mode].map(|count| share(count, c.n)));
}

fn connections(c: &Columns, row: &mut Row) {
    let valid = |column: &[f64; super::WINDOW]| Ordered::of(column[..c.n].iter().copied());
    row.push([valid(&c.up_packets).median().ln_1p(), valid(&c.down_packets).median().ln_1p()]);
    row.push([valid(&c.duration_ms).median().ln_1p(), max(&c.duration_ms[..c.n]).ln_1p()]);
    let (span, busy) = (span(c), busy(c));
    let newest = c.duration_ms[c.n - 1] / 1_000.0;
    row.push([(busy / (span + newest).max(0.001)).min(4.0)]);
    let [up, down, up_packets, down_packets] =
        [&c.up, &c.down, &c.up_packets, &c.down_packets].map(|column| total(&column[..c.n]));
    row.push([up / up_packets.max(1.0) / 1_500.0, down / down_packets.max(1.0) / 1_500.0]);
    row.push([up.ln_1p(), down.ln_1p(), (up.ln_1p() - down.ln_1p()).clamp(-8.0, 8.0)]);
    let heavier = c.up.iter().zip(&c.down).filter(|(up, down)| up > down).count();
    row.push([share(heavier, c.n)]);
    let largest = max(&c.up[..c.n]);
    row.push([(up / span.max(busy).max(1.0)).ln_1p(), largest.ln_1p(), largest / up.max(1.0)]);
}

fn kinds(c: &Columns, row: &mut Row) {
    let events = c.events();
    let count = |is: &dyn Fn(&super::Event) -> bool| events.iter().filter(|e| is(e)).count();
    let by_client = c.by_client.iter().filter(|&&is| is).count();
    row.push(
        [
            count(&super::Event::answered),
            count(&super::Event::reset),
            count(&super::Event::flags_known),
            by_client,
        ]
        .map(|count| share(count, c.n)),
    );
    let ports = Ordered::of(events.iter().map(|event| f64::from(event.port())));
    let (distinct, mode) = ports.runs();
    row.push([(distinct as f64).ln_1p(), share(mode, c.n)]);
    let transports = [Transport::Tcp, Transport::Udp, Transport::Icmp];
    row.push(transports.map(|of| share(count(&|event| event.transport() == of), c.n)));
    let packets = total(&c.up_packets[..c.n]) + total(&c.down_packets[..c.n]);
    row.push([(packets / busy(c).max(1.0)).ln_1p()]);
    row.push(Service::ALL.map(|of| share(count(&|event| event.service() == of), c.n)));
}
