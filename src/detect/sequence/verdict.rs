//! What a score comes to: the class of a pair with hysteresis, and what goes on its slices.

use std::fmt;
use std::sync::Arc;

use super::event::{Service, Transport};
use super::features::Columns;
use super::labels::{Class, Probabilities, log_odds, score};
use super::pairs::{Pair, flag};
use crate::net::Addr;

/// A pair that is alerted on stays so until its score's log odds are this far below the threshold.
const RELEASE: f64 = 1.0;
/// An alerted pair changes between command and control and exfiltration only where the other is so
/// many times as probable.
const TURN: f32 = 2.0;

/// What the model says of the pair of a slice, or of an alert's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The class; none before the pair's first score, which no alert's is.
    pub class: Option<Class>,
    /// The probability of command and control or exfiltration: 0 to 1; 0 before the first score.
    pub score: f64,
    /// ATT&CK tactic and technique; none where the class is benign, or there is none.
    pub attack: Option<Attack>,
    /// The sequence that was under way when the slice was cut, or the alert's pair scored.
    pub sequence: Sequence,
}

/// Ids of an ATT&CK tactic and of one of its techniques.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attack {
    /// For example `TA0011`.
    pub tactic: Arc<str>,
    /// For example `T1071.001`.
    pub technique: Arc<str>,
}

/// A run of up to 32 flows of one pair, in DeepTempo's form: when it began, and its number among
/// the pair's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sequence {
    /// Start of its first flow, in milliseconds since the epoch.
    pub start_ms: i64,
    /// From 0.
    pub ordinal: u32,
}

impl Sequence {
    /// The id, of the sequence of the pair `a`, `b`: `<lower>_<higher>_<start>_c<ordinal>`.
    #[must_use]
    pub fn id(self, a: Addr, b: Addr) -> impl fmt::Display {
        struct Id(Sequence, Addr, Addr);
        impl fmt::Display for Id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self(Sequence { start_ms, ordinal }, low, high) = self;
                write!(f, "{low}_{high}_{start_ms}_c{ordinal}")
            }
        }
        Id(self, a.min(b), a.max(b))
    }
}

/// What most of a window is: its service, and whether it is ICMP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prevailing {
    /// The service of most flows; the first of several.
    pub service: Service,
    /// Whether more than half of the flows are ICMP.
    pub icmp: bool,
}

impl Prevailing {
    /// Of a window.
    #[must_use]
    pub fn of(columns: &Columns) -> Self {
        let mut counts = [0_usize; Service::COUNT];
        columns.events().iter().for_each(|event| counts[event.service() as usize] += 1);
        let is_icmp = |event: &&super::Event| event.transport() == Transport::Icmp;
        let icmp = columns.events().iter().filter(is_icmp).count();
        let most = Service::ALL.into_iter().rev().max_by_key(|&service| counts[service as usize]);
        Self { service: most.unwrap_or(Service::None), icmp: 2 * icmp > columns.n }
    }

    /// As one octet.
    #[must_use]
    pub const fn pack(self) -> u8 {
        self.service as u8 | (self.icmp as u8) << 7
    }

    /// Back from [`Prevailing::pack`].
    #[must_use]
    pub const fn unpack(packed: u8) -> Self {
        let index = (packed & 0x7f) as usize;
        let index = if index < Service::COUNT { index } else { Service::COUNT - 1 };
        Self { service: Service::ALL[index], icmp: packed & 0x80 != 0 }
    }
}

/// Takes a window's probabilities over into its pair's state. Returns whether they are worth an
/// alert: the pair was not alerted on, or as another class.
pub fn apply(pair: &mut Pair, probabilities: &Probabilities, threshold: f64) -> bool {
    let score = score(probabilities);
    pair.score = score as f32;
    pair.set(flag::SCORED, true);
    let was = pair.has(flag::ALERTED).then_some(pair.class);
    let of = |class: Class| probabilities[class as usize];
    if score >= threshold {
        let (c2, exfil) = (of(Class::C2), of(Class::Exfil));
        let class = match was {
            Some(Class::C2) if exfil < TURN * c2 => Class::C2,
            Some(Class::Exfil) if c2 < TURN * exfil => Class::Exfil,
            _ if exfil > c2 => Class::Exfil,
            _ => Class::C2,
        };
        pair.class = class;
        pair.set(flag::ALERTED, true);
        return was != Some(class);
    }
    if was.is_some() && log_odds(score) >= log_odds(threshold) - RELEASE {
        return false;
    }
    pair.set(flag::ALERTED, false);
    pair.class = classify(probabilities, threshold);
    false
}

/// The class of one window by itself: from `threshold` on the likelier of command and control and
/// exfiltration; below it the likeliest of all others, benign if that is neither of them.
#[must_use]
pub fn classify(probabilities: &Probabilities, threshold: f64) -> Class {
    let of = |class: Class| probabilities[class as usize];
    let (c2, exfil) = (of(Class::C2), of(Class::Exfil));
    if score(probabilities) >= threshold {
        return if exfil > c2 { Class::Exfil } else { Class::C2 };
    }
    let likeliest = Class::ALL.into_iter().max_by(|&a, &b| of(a).total_cmp(&of(b)));
    likeliest.filter(|class| !matches!(class, Class::C2 | Class::Exfil)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probabilities(c2: f32, exfil: f32, scan: f32) -> Probabilities {
        [1.0 - c2 - exfil - scan, c2, exfil, scan, 0.0, 0.0]
    }

    #[test]
    fn an_alert_comes_once_for_a_change_of_state() {
        let mut pairs = super::super::pairs::Pairs::new(1);
        let at = pairs.of(7, 0, Addr::v4(1), Addr::v4(2));
        let pair = pairs.get_mut(at);
        for (step, c2, exfil, scan, class, alerts) in [
            ("calm", 0.1, 0.0, 0.0, Class::Benign, false),
            ("over the threshold", 0.4, 0.1, 0.0, Class::C2, true),
            ("still", 0.6, 0.1, 0.0, Class::C2, false),
            ("a little below", 0.2, 0.0, 0.0, Class::C2, false),
            ("and over again", 0.5, 0.0, 0.0, Class::C2, false),
            ("not enough to turn", 0.3, 0.5, 0.0, Class::C2, false),
            ("another class", 0.1, 0.8, 0.0, Class::Exfil, true),
            ("far below", 0.05, 0.0, 0.0, Class::Benign, false),
            ("over the threshold", 0.6, 0.0, 0.0, Class::C2, true),
            ("a scan", 0.0, 0.0, 0.9, Class::Scan, false),
        ] {
            let raised = apply(pair, &probabilities(c2, exfil, scan), 0.3);
            assert_eq!((pair.class, raised), (class, alerts), "{step}");
        }
    }

    #[test]
    fn a_sequence_is_named_the_same_from_both_ends() {
        let (a, b) = (Addr::v4(0x0a00_0002), Addr::v4(0x0a00_0001));
        let sequence = Sequence { start_ms: 1_785_000_000_000, ordinal: 3 };
        let id = sequence.id(a, b).to_string();
        assert_eq!(id, "10.0.0.1_10.0.0.2_1785000000000_c3");
        assert_eq!(id, sequence.id(b, a).to_string());
    }

    #[test]
    fn what_prevails_fits_into_an_octet() {
        for service in Service::ALL {
            for icmp in [false, true] {
                let prevailing = Prevailing { service, icmp };
                assert_eq!(Prevailing::unpack(prevailing.pack()), prevailing);
            }
        }
    }
}
