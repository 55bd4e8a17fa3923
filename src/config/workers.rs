//! How many workers there are, and on which cores.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::check::Report;

/// Workers, and so cores, that a sensor may have: there are as many shards.
const WORKERS_MAX: usize = 64;

/// `sensor.workers`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Workers {
    /// `"auto"`: one for each core that the process may use but one, at least one.
    #[default]
    Auto,
    /// So many, 1 to 64.
    Count(usize),
    /// One on each of these cores, by the numbers of the operating system; 1 to 64 of them.
    Cores(Vec<usize>),
}

impl Workers {
    pub(super) fn check(&self, pin: bool, report: &mut Report) {
        const KEY: &str = "sensor.workers";
        match self {
            Self::Auto => {}
            Self::Count(count) => report.within(KEY, *count, 1..=WORKERS_MAX),
            Self::Cores(cores) => {
                if !(1..=WORKERS_MAX).contains(&cores.len()) {
                    let message = format!("{} cores are not 1 to {WORKERS_MAX}", cores.len());
                    report.add(KEY, message);
                }
                let mut seen = BTreeSet::new();
                if let Some(core) = cores.iter().find(|core| !seen.insert(**core)) {
                    report.add(KEY, format!("core {core} is named twice"));
                }
                if !pin {
                    report.add(KEY, "names cores, so sensor.pin must be true".into());
                }
            }
        }
    }
}

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => count.serialize(serializer),
            Self::Cores(cores) => cores.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "\"auto\", a number of threads from 1 to 64, or a list of cores")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Workers, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                (text == "auto").then_some(Workers::Auto).ok_or_else(wrong)
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Workers, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(number), &self);
                usize::try_from(number).map(Workers::Count).map_err(wrong)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Workers, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                usize::try_from(number).map(Workers::Count).map_err(wrong)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Workers, A::Error> {
                let mut cores = Vec::new();
                while let Some(core) = list.next_element()? {
                    cores.push(core);
                }
                Ok(Workers::Cores(cores))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
