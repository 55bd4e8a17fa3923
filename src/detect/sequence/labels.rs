//! What stands beside the ONNX file, `weir.json`: what the model's numbers mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event::Service;
use super::features::{self, STAT_NAMES, STATS, STEP, STEP_NAMES, WINDOW};

/// The classes, in the order of the model's output.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// Nothing of what follows.
    #[default]
    Benign,
    /// Command and control.
    C2,
    /// Exfiltration.
    Exfil,
    /// A scan.
    Scan,
    /// Brute force.
    BruteForce,
    /// Denial of service.
    Dos,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 6;

    /// All, by index.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Benign, Self::C2, Self::Exfil, Self::Scan, Self::BruteForce, Self::Dos];

    /// The name in records and in the model's file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Benign => "benign",
            Self::C2 => "c2",
            Self::Exfil => "exfil",
            Self::Scan => "scan",
            Self::BruteForce => "bruteforce",
            Self::Dos => "dos",
        }
    }
}

/// Probabilities by class.
pub type Probabilities = [f32; Class::COUNT];

/// The score of a window: the probability of command and control or exfiltration.
#[must_use]
pub fn score(probabilities: &Probabilities) -> f64 {
    let of = |class: Class| f64::from(probabilities[class as usize]);
    (of(Class::C2) + of(Class::Exfil)).clamp(0.0, 1.0)
}

/// ln(p/(1 − p)), with p kept off 0 and 1.
pub(super) fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    (p / (1.0 - p)).ln()
}

/// Why the file beside a model cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LabelsError {
    /// Not the JSON that is expected.
    #[error("{0}")]
    Json(String),
    /// A list is another than this build's.
    #[error("`{key}` is {found}, expected {expected}")]
    Other {
        /// Its key.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What must stand there.
        expected: String,
    },
    /// A value that has no meaning.
    #[error("`{key}`: {message}")]
    Invalid {
        /// Its key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// The version of the file that is read here.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct File {
    version: u32,
    sha256: String,
    classes: Vec<String>,
    window: usize,
    steps: Vec<String>,
    stats: Vec<String>,
    inputs: BTreeMap<String, Vec<Dim>>,
    output: BTreeMap<String, Vec<Dim>>,
    thresholds_alerts_per_1000_hosts_day: BTreeMap<String, f64>,
    reference_stats: Vec<f32>,
    evidence_groups: BTreeMap<String, Vec<String>>,
    attack: BTreeMap<String, Attack>,
    #[serde(default)]
    persistence: Persistence,
}

/// A dimension of a tensor: any number, under a name, or this one.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Dim {
    Any(String),
    Is(u64),
}

/// What each further window of a pair adds to its score; nothing where the file does not say.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
struct Persistence {
    /// Log odds, by the logarithm of the window's number.
    log_odds: f64,
    /// The number from which on it adds no more.
    windows: u32,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Attack {
    tactic: String,
    /// By service; `""` is any other.
    technique: BTreeMap<String, String>,
}

/// Ids of a tactic and of its techniques, by service.
#[derive(Clone, Debug, PartialEq)]
struct Shared {
    tactic: Arc<str>,
    technique: BTreeMap<String, Arc<str>>,
}

impl From<Attack> for Shared {
    fn from(file: Attack) -> Self {
        let technique = file.technique.into_iter().map(|(service, id)| (service, id.into()));
        Self { tactic: file.tactic.into(), technique: technique.collect() }
    }
}

/// What the model's numbers mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// SHA-256 of the ONNX file, in hexadecimal digits.
    pub sha256: String,
    /// Logarithm of the budget, and log odds of the threshold; in rising order.
    thresholds: Vec<(f64, f64)>,
    /// Medians of benign windows.
    pub(super) reference: features::Stats,
    /// What evidence is explained by: a name, and the statistics that it stands for.
    pub(super) groups: Vec<(String, Vec<usize>)>,
    attack: BTreeMap<String, Shared>,
    persistence: Persistence,
}

impl Labels {
    /// Parses and checks the text of the file.
    ///
    /// # Errors
    /// [`LabelsError`]: what was found, and what was expected.
    pub fn parse(text: &str) -> Result<Self, LabelsError> {
        let file: File =
            serde_json::from_str(text).map_err(|error| LabelsError::Json(error.to_string()))?;
        if file.version != VERSION {
            let (found, expected) = (file.version.to_string(), VERSION.to_string());
            return Err(LabelsError::Other { key: "version", found, expected });
        }
        let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_hexdigit());
        if file.sha256.len() != 64 || !digits(&file.sha256) {
            let message = format!("`{}` is no SHA-256: 64 hexadecimal digits", file.sha256);
            return Err(LabelsError::Invalid { key: "sha256", message });
        }
        same("classes", &file.classes, &Class::ALL.map(Class::as_str))?;
        same("steps", &file.steps, &STEP_NAMES)?;
        same("stats", &file.stats, &STAT_NAMES)?;
        if file.window != WINDOW {
            let (found, expected) = (file.window.to_string(), WINDOW.to_string());
            return Err(LabelsError::Other { key: "window", found, expected });
        }
        shapes("inputs", &file.inputs, &INPUTS)?;
        shapes("output", &file.output, &[OUTPUT])?;
        let reference = <features::Stats>::try_from(file.reference_stats.as_slice());
        let reference = reference.map_err(|_| LabelsError::Other {
            key: "reference_stats",
            found: format!("{} values", file.reference_stats.len()),
            expected: format!("{} values", STAT_NAMES.len()),
        })?;
        let thresholds = thresholds(&file.thresholds_alerts_per_1000_hosts_day)?;
        let mut groups = Vec::new();
        for (name, members) in file.evidence_groups {
            let places: Option<Vec<usize>> =
                members.iter().map(|member| features::index_of(member)).collect();
            let places = places.ok_or_else(|| LabelsError::Invalid {
                key: "evidence_groups",
                message: format!("`{name}` names a statistic that there is not"),
            })?;
            groups.push((name, places));
        }
        if reference.iter().any(|value| !value.is_finite()) {
            let message = "a value that 32 bits do not hold".to_owned();
            return Err(LabelsError::Invalid { key: "reference_stats", message });
        }
        check_attack(&file.attack)?;
        let attack = file.attack.into_iter().map(|(class, of)| (class, of.into())).collect();
        let Persistence { log_odds, .. } = file.persistence;
        if !(0.0..=10.0).contains(&log_odds) {
            let message = format!("{log_odds} log odds, expected 0 to 10");
            return Err(LabelsError::Invalid { key: "persistence", message });
        }
        let (sha256, persistence) = (file.sha256, file.persistence);
        Ok(Self { sha256, thresholds, reference, groups, attack, persistence })
    }

    /// The score above which a pair is alerted on, so that about `budget` alerts come of 1,000 hosts
    /// a day: between the budgets of the file, and beyond them, along a line of log odds over the
    /// budget's logarithm.
    #[must_use]
    pub fn threshold(&self, budget: f64) -> f64 {
        let x = budget.max(1e-9).ln();
        let last = self.thresholds.len() - 2;
        let at = self.thresholds[1..=last].partition_point(|&(known, _)| known < x).min(last);
        let ((x0, y0), (x1, y1)) = (self.thresholds[at], self.thresholds[at + 1]);
        let y = y0 + (y1 - y0) * (x - x0) / (x1 - x0);
        1.0 / (1.0 + (-y).exp())
    }

    /// The probabilities of a pair's window of this number, from 1: what goes on is more than what
    /// happens once. FEATURES.md, section 7.
    #[must_use]
    pub fn persisted(&self, probabilities: &Probabilities, number: u32) -> Probabilities {
        let number = number.min(self.persistence.windows).max(1);
        let more = self.persistence.log_odds * f64::from(number).ln();
        if more == 0.0 {
            return *probabilities;
        }
        let score = score(probabilities).clamp(1e-6, 1.0 - 1e-6);
        let raised = 1.0 / (1.0 + (-(log_odds(score) + more)).exp());
        let (hostile, other) = (raised / score, (1.0 - raised) / (1.0 - score));
        let mut persisted = *probabilities;
        for class in Class::ALL {
            let factor = if matches!(class, Class::C2 | Class::Exfil) { hostile } else { other };
            let p = &mut persisted[class as usize];
            *p = (f64::from(*p) * factor) as f32;
        }
        persisted
    }

    /// The tactic's id and the technique's of a class other than benign, by the window's prevailing
    /// service; `icmp` says that most of the window is ICMP.
    #[must_use]
    pub fn attack(
        &self,
        class: Class,
        service: Service,
        icmp: bool,
    ) -> Option<(&Arc<str>, &Arc<str>)> {
        let attack = self.attack.get(class.as_str())?;
        let name = if icmp { "icmp" } else { service.as_str() };
        let technique = attack.technique.get(name).or_else(|| attack.technique.get(""))?;
        Some((&attack.tactic, technique))
    }
}

/// Whether every class but benign has ids of ATT&CK's form, by services that there are.
fn check_attack(attack: &BTreeMap<String, Attack>) -> Result<(), LabelsError> {
    let invalid = |message: String| Err(LabelsError::Invalid { key: "attack", message });
    for class in &Class::ALL[1..] {
        let name = class.as_str();
        let Some(of) = attack.get(name).filter(|of| of.technique.contains_key("")) else {
            return invalid(format!("`{name}` has no technique for any other service (\"\")"));
        };
        if !is_id(&of.tactic, "TA") {
            return invalid(format!("`{name}`: `{}` is no tactic, as `TA0011` is", of.tactic));
        }
        for (service, id) in &of.technique {
            let known = Service::ALL.iter().any(|known| known.as_str() == service);
            if !known && !matches!(service.as_str(), "" | "icmp") {
                return invalid(format!("`{name}`: there is no service `{service}`"));
            }
            let (technique, below) = id.split_once('.').unwrap_or((id, "001"));
            let numbered = below.len() == 3 && below.bytes().all(|b| b.is_ascii_digit());
            if !is_id(technique, "T") || !numbered {
                return invalid(format!("`{name}`: `{id}` is no technique, as `T1071.001` is"));
            }
        }
    }
    Ok(())
}

/// Whether `id` is `prefix` and four digits.
fn is_id(id: &str, prefix: &str) -> bool {
    let digits = id.strip_prefix(prefix);
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn same<const N: usize>(
    key: &'static str,
    found: &[String],
    expected: &[&'static str; N],
) -> Result<(), LabelsError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.join(", "), expected.join(", "));
    Err(LabelsError::Other { key, found, expected })
}

/// A tensor's name, and its dimensions behind that of the batch.
pub(super) type Shape = (&'static str, &'static [usize]);

/// The graph's inputs.
pub(super) const INPUTS: [Shape; 2] = [("steps", &[WINDOW, STEP]), ("stats", &[STATS])];
/// Its output.
pub(super) const OUTPUT: Shape = ("probabilities", &[Class::COUNT]);

/// Whether the file names these shapes, to which the graph is held as well.
fn shapes(
    key: &'static str,
    found: &BTreeMap<String, Vec<Dim>>,
    expected: &[Shape],
) -> Result<(), LabelsError> {
    let is = |dim: &Dim, size: usize| matches!(dim, Dim::Is(dim) if *dim == size as u64);
    let alike = |(name, sizes): &Shape| {
        let dims = found.get(*name).and_then(|dims| dims.split_first());
        dims.is_some_and(|(batch, dims)| {
            let same = dims.len() == sizes.len() && dims.iter().zip(*sizes).all(|(d, s)| is(d, *s));
            matches!(batch, Dim::Any(_)) && same
        })
    };
    if found.len() == expected.len() && expected.iter().all(alike) {
        return Ok(());
    }
    let dim = |dim: &Dim| match dim {
        Dim::Any(name) => name.clone(),
        Dim::Is(size) => size.to_string(),
    };
    let list = |dims: &[Dim]| dims.iter().map(dim).collect::<Vec<_>>().join(", ");
    let each = found.iter().map(|(name, dims)| format!("`{name}` [{}]", list(dims)));
    let found = each.collect::<Vec<_>>().join(" and ");
    let sizes = |sizes: &[usize]| sizes.iter().map(|size| format!(", {size}")).collect::<String>();
    let each = expected.iter().map(|(name, of)| format!("`{name}` [batch{}]", sizes(of)));
    let expected = each.collect::<Vec<_>>().join(" and ");
    Err(LabelsError::Other { key, found, expected })
}

fn thresholds(file: &BTreeMap<String, f64>) -> Result<Vec<(f64, f64)>, LabelsError> {
    let key = "thresholds_alerts_per_1000_hosts_day";
    let invalid = |message: String| LabelsError::Invalid { key, message };
    let mut known = Vec::new();
    for (budget, &threshold) in file {
        let budget: f64 =
            budget.parse().map_err(|_| invalid(format!("`{budget}` is not a number")))?;
        if !(budget > 0.0 && budget.is_finite() && (0.0..=1.0).contains(&threshold)) {
            return Err(invalid(format!("{budget}: {threshold} is no score from 0 to 1")));
        }
        known.push((budget.ln(), log_odds(threshold)));
    }
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    if known.len() < 2 {
        return Err(invalid(format!("{} budgets, expected two at least", known.len())));
    }
    if known.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid("a budget stands twice".to_owned()));
    }
    if known.windows(2).any(|pair| pair[1].1 > pair[0].1) {
        return Err(invalid("a larger budget has a higher threshold".to_owned()));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../model/weir.json");

    #[test]
    fn the_shipped_file_is_read() {
        let labels = Labels::parse(SHIPPED).expect("the shipped file");
        let of = |class, service, icmp| {
            labels.attack(class, service, icmp).map(|(tactic, id)| (&**tactic, &**id))
        };
        assert_eq!(of(Class::C2, Service::Tls, false), Some(("TA0011", "T1071.001")));
        assert_eq!(of(Class::C2, Service::None, true), Some(("TA0011", "T1095")));
        assert_eq!(of(Class::C2, Service::Dynamic, false), Some(("TA0011", "T1571")));
        assert_eq!(of(Class::Scan, Service::Tls, false), Some(("TA0007", "T1046")));
        assert_eq!(of(Class::Benign, Service::Tls, false), None);
        assert!(labels.groups.len() > 3);
    }

    #[test]
    fn thresholds_fall_as_the_budget_grows() {
        let json: serde_json::Value = serde_json::from_str(SHIPPED).expect("JSON");
        let labels = Labels::parse(SHIPPED).expect("the shipped file");
        for (budget, threshold) in
            json["thresholds_alerts_per_1000_hosts_day"].as_object().expect("an object")
        {
            let found = labels.threshold(budget.parse().expect("a number"));
            assert!((found - threshold.as_f64().expect("a number")).abs() < 1e-9, "{budget}");
        }
        let budgets = [0.01, 0.1, 1.0, 2.0, 3.0, 7.0, 55.0, 300.0, 1e4];
        let found = budgets.map(|budget| labels.threshold(budget));
        assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "{found:?}");
        assert!(found.iter().all(|threshold| (0.0..1.0).contains(threshold)));
    }

    #[test]
    fn what_goes_on_scores_higher() {
        let labels = Labels::parse(SHIPPED).expect("the shipped file");
        let calm = [0.90, 0.06, 0.01, 0.01, 0.01, 0.01];
        assert_eq!(labels.persisted(&calm, 1), calm, "a first window is what it is");
        let scores: Vec<f64> =
            [1, 2, 5, 32, 33].map(|number| score(&labels.persisted(&calm, number))).to_vec();
        assert!(scores[..4].windows(2).all(|pair| pair[0] < pair[1]), "{scores:?}");
        assert_eq!(scores[3].to_bits(), scores[4].to_bits(), "and no more from the bound on");
        let odds = |score: f64| log_odds(score);
        let added = odds(scores[1]) - odds(scores[0]);
        assert!((added - labels.persistence.log_odds * 2.0_f64.ln()).abs() < 1e-5);
        let sum: f32 = labels.persisted(&calm, 9).iter().sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn another_file_is_refused_with_what_is_expected() {
        let edited = |from: &str, to: &str| Labels::parse(&SHIPPED.replacen(from, to, 1));
        for (from, to, want) in [
            ("\"benign\",\n", "", "`classes` is c2, exfil"),
            ("\"window\": 32", "\"window\": 64", "`window` is 64, expected 32"),
            ("\"log_count\"", "\"count\"", "`stats` is count, log_span"),
            ("\"1\": ", "\"x\": ", "`x` is not a number"),
            ("\"1\": ", "\"3.0\": ", "a budget stands twice"),
            ("\"sha256\"", "\"sha\"", "missing field `sha256`"),
            ("\"TA0011\"", "\"TA11\"", "`c2`: `TA11` is no tactic, as `TA0011` is"),
            ("\"T1071.001\"", "\"T1071.1\"", "`c2`: `T1071.1` is no technique"),
            ("\"tls\": \"T1071", "\"ssl\": \"T1071", "`c2`: there is no service `ssl`"),
            ("\"reference_stats\": [", "\"reference_stats\": [1e308, ", "63 values, expected 62"),
            ("\n  1.0986123085021973,", "\n  1e300,", "a value that 32 bits do not hold"),
            ("\"version\": 1", "\"version\": 2", "`version` is 2, expected 1"),
            (
                "   32,\n   26\n",
                "   32,\n   27\n",
                "`inputs` is `stats` [batch, 62] and `steps` [batch, 32, 27], expected `steps` \
                 [batch, 32, 26] and `stats` [batch, 62]",
            ),
            ("   \"batch\",\n   62", "   1,\n   62", "`inputs` is `stats` [1, 62]"),
            (
                "  \"stats\": [\n   \"batch\"",
                "  \"stat\": [\n   \"batch\"",
                "`inputs` is `stat` [b",
            ),
            (
                "   6\n",
                "   7\n",
                "`output` is `probabilities` [batch, 7], expected `probabilities` [b",
            ),
            ("\"inputs\"", "\"input\"", "missing field `inputs`"),
            ("\"sha256\": \"c0", "\"sha256\": \"x", "`sha256`: `x79d7"),
        ] {
            let error = edited(from, to).expect_err(from).to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
