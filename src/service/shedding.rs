//! Which sinks lose records now: told in the log once, and by `/readyz` while it lasts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::output::files::CLOSED;
use crate::output::{Ledgers, OVERLOAD};

/// A sink that has shed nothing for this long sheds no more: at the edge of full it sheds one batch and
/// not the next.
const OVER: Duration = Duration::from_secs(30);

/// What is counted as shed and is no sink's want of room: a stop, records that were refused or dropped
/// one by one, which have their own tales, and what overload never made.
const OTHERWISE: [&str; 4] = [CLOSED, OVERLOAD, "dead_letter", "dropped_by_operator"];

/// Follows what sinks shed, by sink and reason.
#[derive(Debug, Default)]
pub(super) struct Shedding(BTreeMap<(String, &'static str), Seen>);

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    /// Since when, when last, and how many had been shed before.
    spell: Option<(Instant, Instant, u64)>,
}

impl Shedding {
    /// Takes note of `ledgers` at `now`; which sinks shed, each with a line.
    pub(super) fn look(&mut self, ledgers: &Ledgers, now: Instant) -> Vec<String> {
        for (sink, ledger) in ledgers {
            for (reason, count) in ledger.shed.iter().filter(|(name, _)| !OTHERWISE.contains(name))
            {
                let seen = self.0.entry((sink.clone(), reason)).or_default();
                if count > seen.count {
                    let (since, _, before) = seen.spell.unwrap_or_else(|| {
                        tracing::warn!(
                            sink,
                            reason,
                            "records are shed: counted by reason on /metrics"
                        );
                        (now, now, seen.count)
                    });
                    seen.spell = Some((since, now, before));
                }
                seen.count = count;
            }
        }
        let mut told = Vec::new();
        for ((sink, reason), seen) in &mut self.0 {
            let Some((since, last, before)) = seen.spell else { continue };
            let records = seen.count - before;
            if now.duration_since(last) >= OVER {
                let seconds = last.duration_since(since).as_secs();
                tracing::warn!(sink, reason, records, seconds, "no more records are shed");
                seen.spell = None;
            } else {
                let seconds = now.duration_since(since).as_secs();
                told.push(format!(
                    "output {sink}: sheds records: {records} for {reason} in {seconds} s"
                ));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ledger;

    #[test]
    fn a_spell_of_shedding_is_told_until_half_a_minute_after_its_end() {
        let start = Instant::now();
        let (mut shedding, mut sink) = (Shedding::default(), ledger::Sink::default());
        let mut look = |sink: &ledger::Sink, seconds| {
            let ledgers = Ledgers::from([("hec".to_owned(), sink.clone())]);
            shedding.look(&ledgers, start + Duration::from_secs(seconds))
        };
        for other in OTHERWISE {
            sink.shed.add(other, 7);
        }
        assert_eq!(look(&sink, 0), Vec::<String>::new());
        // At the edge of full: some, none, some.
        for (shed, at, want) in [
            (5, 1, Some("output hec: sheds records: 5 for spool_full in 0 s")),
            (0, 20, Some("output hec: sheds records: 5 for spool_full in 19 s")),
            (3, 25, Some("output hec: sheds records: 8 for spool_full in 24 s")),
            (0, 54, Some("output hec: sheds records: 8 for spool_full in 53 s")),
            (0, 55, None),
            (1, 90, Some("output hec: sheds records: 1 for spool_full in 0 s")),
        ] {
            sink.shed.add("spool_full", shed);
            assert_eq!(look(&sink, at), Vec::from_iter(want.map(str::to_owned)), "at {at}");
        }
    }
}
