//! The model's input: a window of events as steps and as statistics (`model/FEATURES.md`, sections
//! 3 to 6). Equal to the Python that trains: `model/parity.json` holds the vectors.

mod order;
mod rita;
mod stats;

pub use stats::{STAT_NAMES, STATS, Stats, index_of};

use super::event::{Event, Service, Transport};

/// Events of a window, at most.
pub const WINDOW: usize = 32;
/// Columns of a step.
pub const STEP: usize = 15 + Service::COUNT;
/// Values of a window's steps.
pub const STEPS: usize = WINDOW * STEP;

/// Names of a step's columns, in order.
pub const STEP_NAMES: [&str; STEP] = [
    "valid",
    "log_up",
    "log_down",
    "log_up_packets",
    "log_down_packets",
    "log_duration",
    "log_gap",
    "gap_ratio",
    "by_client",
    "answered",
    "reset",
    "flags_known",
    "tcp",
    "udp",
    "icmp",
    "service_dns",
    "service_tls",
    "service_http",
    "service_mail",
    "service_remote",
    "service_infra",
    "service_industrial",
    "service_system",
    "service_registered",
    "service_dynamic",
    "service_none",
];

/// A window in columns, as both inputs need it: events oldest first, quantities from the client's
/// side. The client is the end that initiated more of the events; the newest decides a tie.
#[derive(Clone, Debug)]
pub struct Columns {
    /// How many events.
    pub n: usize,
    /// Whether the pair's lower address is the client.
    pub client_low: bool,
    /// Octets from the client.
    pub up: [f64; WINDOW],
    /// Octets to the client.
    pub down: [f64; WINDOW],
    up_packets: [f64; WINDOW],
    down_packets: [f64; WINDOW],
    /// Durations in milliseconds.
    pub duration_ms: [f64; WINDOW],
    /// Milliseconds since the event before; 0 for the first.
    pub gap_ms: [u32; WINDOW],
    by_client: [bool; WINDOW],
    events: [Event; WINDOW],
}

impl Columns {
    /// Of 1 to [`WINDOW`] events, in the order of their starts.
    ///
    /// # Panics
    /// If there are none, or more.
    #[must_use]
    pub fn of(window: &[Event]) -> Self {
        let n = window.len();
        assert!((1..=WINDOW).contains(&n), "{n} events are no window");
        let lows = window.iter().filter(|event| event.initiator_low()).count();
        let client_low = match (2 * lows).cmp(&n) {
            std::cmp::Ordering::Equal => window[n - 1].initiator_low(),
            order => order.is_gt(),
        };
        let mut columns = Self {
            n,
            client_low,
            up: [0.0; WINDOW],
            down: [0.0; WINDOW],
            up_packets: [0.0; WINDOW],
            down_packets: [0.0; WINDOW],
            duration_ms: [0.0; WINDOW],
            gap_ms: [0; WINDOW],
            by_client: [false; WINDOW],
            events: [Event::default(); WINDOW],
        };
        columns.events[..n].copy_from_slice(window);
        for (i, event) in window.iter().enumerate() {
            let by_client = event.initiator_low() == client_low;
            let ((fwd, bwd), (fwd_packets, bwd_packets)) = (event.octets(), event.packets());
            let turned = |pair: (f64, f64)| if by_client { pair } else { (pair.1, pair.0) };
            (columns.up[i], columns.down[i]) = turned((fwd, bwd));
            (columns.up_packets[i], columns.down_packets[i]) = turned((fwd_packets, bwd_packets));
            columns.duration_ms[i] = event.duration_ms();
            columns.by_client[i] = by_client;
            if i > 0 {
                columns.gap_ms[i] = event.gap_ms(&window[i - 1]);
            }
        }
        columns
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events[..self.n]
    }

    /// The gaps between events, in milliseconds: one fewer than events.
    #[must_use]
    pub fn gaps_ms(&self) -> &[u32] {
        &self.gap_ms[1..self.n]
    }

    /// Packets from the client, of each event.
    #[must_use]
    pub fn up_packets(&self) -> &[f64] {
        &self.up_packets[..self.n]
    }

    /// Packets to the client, of each event.
    #[must_use]
    pub fn down_packets(&self) -> &[f64] {
        &self.down_packets[..self.n]
    }

    /// Writes the input `steps`, `[32, 26]` row by row, oldest first and right-aligned.
    pub fn steps(&self, out: &mut [f32; STEPS]) {
        out.fill(0.0);
        let blank = WINDOW - self.n;
        let rows = out[blank * STEP..].chunks_exact_mut(STEP);
        let log_gap = |i: usize| (seconds(self.gap_ms[i]) * 1_000.0).ln_1p();
        let bit = f64::from;
        for (i, (row, event)) in rows.zip(self.events()).enumerate() {
            let transport = event.transport();
            let ratio = if i > 1 { (log_gap(i) - log_gap(i - 1)).clamp(-4.0, 4.0) } else { 0.0 };
            let columns = [
                1.0,
                self.up[i].ln_1p() / 10.0,
                self.down[i].ln_1p() / 10.0,
                self.up_packets[i].ln_1p() / 5.0,
                self.down_packets[i].ln_1p() / 5.0,
                self.duration_ms[i].ln_1p() / 10.0,
                if i > 0 { log_gap(i) / 10.0 } else { 0.0 },
                ratio / 4.0,
                bit(self.by_client[i]),
                bit(event.answered()),
                bit(event.reset()),
                bit(event.flags_known()),
                bit(transport == Transport::Tcp),
                bit(transport == Transport::Udp),
                bit(transport == Transport::Icmp),
            ];
            row.iter_mut().zip(columns).for_each(|(to, value)| *to = value as f32);
            row[columns.len() + event.service() as usize] = 1.0;
        }
    }

    /// The input `stats`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        stats::of(self)
    }
}

/// Milliseconds as seconds.
fn seconds(ms: u32) -> f64 {
    f64::from(ms) / 1_000.0
}

#[cfg(test)]
mod tests;
