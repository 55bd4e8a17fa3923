//! Which exporters have state: admitted, proven, evicted, expired.

use std::sync::Arc;

use super::collector::Collector;
use super::exporter::{Exporter, Source};
use super::options::Options;
use crate::metrics::Ledgers;
use crate::time::{Micros, SECOND};

/// How often expired state is looked for.
const SWEEP_US: i64 = 10 * SECOND;

impl Collector {
    /// The index of `source`; a new one takes the place of the unproven exporter that was silent
    /// longest where there are too many. `None` if all are proven.
    pub(super) fn admit(
        &mut self,
        source: Source,
        stamp: Micros,
        ledgers: &mut Ledgers,
    ) -> Option<u32> {
        if let Some(&exporter) = self.by_source.get(&source) {
            return Some(exporter);
        }
        if self.by_source.len() >= self.settings.exporters_max {
            let all = &self.exporters;
            let used = |&index: &u32| {
                let exporter = all[index as usize].as_ref()?;
                (!exporter.proven).then_some(exporter.used)
            };
            let victim = self.unproven.oldest(used)?;
            self.evicted += 1;
            self.release(victim, "exporter_evicted", ledgers);
        }
        let mut state = Box::new(Exporter::new(
            source,
            self.settings.site(source.0),
            self.settings.known(source.0),
            stamp,
        ));
        let address = self.addresses.entry(source.0).or_default();
        address.ports += 1;
        let told = address.options_from.and_then(|port| self.exporters[port as usize].as_ref());
        state.options = told.map_or(&address.options_left, |port| &port.options).clone();
        state.used = self.used;
        let exporter = self.free.pop().unwrap_or(self.exporters.len() as u32);
        if exporter as usize == self.exporters.len() {
            self.exporters.push(None);
        }
        let used = state.used;
        self.exporters[exporter as usize] = Some(state);
        self.by_source.insert(source, exporter);
        self.templates.admit(exporter, source.0);
        self.waiting.admit(exporter);
        self.unproven.insert(exporter, used);
        self.unproven_count += 1;
        let all = &self.exporters;
        self.unproven.compact(self.unproven_count, |&index| {
            let exporter = all[index as usize].as_ref()?;
            (!exporter.proven).then_some(exporter.used)
        });
        Some(exporter)
    }

    /// Drops an exporter with all its state.
    fn release(&mut self, exporter: u32, reason: &'static str, ledgers: &mut Ledgers) {
        let Some(state) = self.exporters[exporter as usize].take() else { return };
        self.waiting.release(exporter, reason, ledgers, &mut self.dropped);
        self.count_dropped();
        self.templates.release(exporter);
        self.unproven_count -= usize::from(!state.proven);
        self.retired.sequence.add(&state.sequence());
        self.retired.times_clamped += state.learnt.times_clamped;
        self.retired.sampling_unknown += state.learnt.sampling_unknown;
        self.retired.options_full += state.options_full;
        self.by_source.remove(&state.source);
        self.free.push(exporter);
        if let Some(address) = self.addresses.get_mut(&state.source.0) {
            address.ports -= 1;
            if address.options_from == Some(exporter) {
                address.options_from = None;
                address.options_left = state.options;
            }
            if address.ports == 0 {
                self.addresses.remove(&state.source.0);
            }
        }
    }

    /// Lets time pass without a datagram: expires templates, sets that wait for one, and
    /// exporters that were silent for `netflow.exporter_lifetime_s`. Cheap to call often.
    pub fn tick(&mut self, now: Micros, ledgers: &mut Ledgers) {
        if now.since(self.swept) < SWEEP_US {
            return;
        }
        self.swept = now;
        self.waiting.expire(now, ledgers, &mut self.dropped);
        self.count_dropped();
        self.templates.expire(now);
        let lifetime_us = self.settings.exporter_lifetime_us;
        for exporter in 0..self.exporters.len() as u32 {
            let silent = self.exporters[exporter as usize]
                .as_ref()
                .is_some_and(|state| now.since(state.last_seen) > lifetime_us);
            if silent {
                self.expired += 1;
                self.release(exporter, "exporter_expired", ledgers);
            }
        }
    }

    /// Marks an exporter from a state file as proven, as only such are saved.
    pub(super) fn trust(&mut self, exporter: u32, options: Options) {
        self.prove(exporter);
        let state = self.exporters[exporter as usize].as_mut().expect("an admitted exporter");
        state.options = Arc::new(options);
        let address = self.addresses.entry(state.source.0).or_default();
        address.options_from = Some(exporter);
    }

    pub(super) fn prove(&mut self, exporter: u32) {
        let state = self.exporters[exporter as usize].as_mut().expect("an admitted exporter");
        if !state.proven {
            state.proven = true;
            self.unproven_count -= 1;
            self.templates.prove(exporter);
            self.templates.generation += 1;
        }
    }

    /// Tells the exporters which of their waiting sets were dropped.
    pub(super) fn count_dropped(&mut self) {
        for (exporter, reason) in self.dropped.drain(..) {
            if let Some(state) = &mut self.exporters[exporter as usize] {
                state.dropped_sets.one(reason);
            }
        }
    }

    pub(super) fn is_known(&self, source: Source) -> bool {
        self.by_source.contains_key(&source)
    }

    /// Exporters with state.
    #[must_use]
    pub fn exporters(&self) -> usize {
        self.by_source.len()
    }
}
