//! The sets of v9 and IPFIX messages, and those that waited for their template.

use std::collections::HashMap;

use super::assemble::assemble;
use super::collector::{Collector, Message, context};
use super::direct::Common;
use super::field::Values;
use super::options::Options;
use super::plan::{Plan, Records};
use super::template::{Defined, TemplateKey};
use super::time::MessageTime;
use super::waiting::WaitingSet;
use super::wire::{self, DecodeError, Set, SetKind, TEMPLATE_ID_MIN, TemplateChange};
use crate::flow::FlowRecord;
use crate::metrics::Ledgers;

impl Collector {
    pub(super) fn sets(
        &mut self,
        message: &mut Message<'_>,
        payload: &[u8],
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        self.look_at_waiting(message, out, ledgers);
        for set in wire::sets(payload, message.header) {
            match set {
                Ok(set) if set.kind == SetKind::Data => {
                    self.data_set(message, &set, false, out, ledgers);
                }
                Ok(set) => self.template_set(message, &set, out, ledgers),
                Err(error) => {
                    self.error(message.exporter, error.reason());
                    message.units = None;
                    let rest = &payload[..message.header.length.min(payload.len())];
                    if let Some(set) = cut_data_set(rest, &error) {
                        self.data_set(message, &set, true, out, ledgers);
                    }
                }
            }
        }
    }

    fn template_set(
        &mut self,
        message: &mut Message<'_>,
        set: &Set<'_>,
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        let (exporter, version, domain) =
            (message.exporter, message.header.version, message.header.domain);
        for change in wire::templates(version, set) {
            match change {
                Ok((_, TemplateChange::Define(template))) => {
                    let key = TemplateKey { version, domain, id: template.id };
                    let (stamp, used) = (message.stamp, self.used);
                    let defined = self.templates.define(exporter, key, template, stamp, used);
                    if defined == Defined::Refused {
                        self.error(exporter, "templates_full");
                        continue;
                    }
                    if defined == Defined::Changed {
                        let address = self.source(exporter).0;
                        self.addresses.entry(address).or_default().generation += 1;
                    }
                    self.replay(message, Some(key), out, ledgers);
                }
                Ok((_, TemplateChange::Withdraw { id })) => {
                    self.templates.withdraw(exporter, TemplateKey { version, domain, id });
                }
                Ok((_, TemplateChange::WithdrawAll { options })) => {
                    self.templates.withdraw_all(exporter, version, domain, options);
                }
                Err(error) => self.error(exporter, error.reason()),
            }
        }
    }

    /// A data set of this datagram; `cut` if the datagram ends before it.
    fn data_set(
        &mut self,
        message: &mut Message<'_>,
        set: &Set<'_>,
        cut: bool,
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        let (version, domain) = (message.header.version, message.header.domain);
        let key = TemplateKey { version, domain, id: set.id };
        let octets = set.body.len() as u64 + 4;
        ledgers.data_sets.seen += 1;
        ledgers.data_sets.seen_octets += octets;
        let plan = self.templates.find(message.exporter, key, set.body, message.stamp, self.used);
        let outcome = match plan {
            Some(plan) => self.records(message, &plan, set.body, out, ledgers),
            None if cut => Err("truncated"),
            None => {
                message.units = None;
                let (exporter, time) = (message.exporter, message.time);
                self.waiting.hold(exporter, key, set.body, time, ledgers, &mut self.dropped);
                self.count_dropped();
                return;
            }
        };
        self.settle(message, outcome, octets, ledgers);
    }

    /// Enters what became of a data set in the ledger.
    fn settle(
        &mut self,
        message: &mut Message<'_>,
        outcome: Result<u32, &'static str>,
        octets: u64,
        ledgers: &mut Ledgers,
    ) {
        match outcome {
            Ok(records) => {
                ledgers.data_sets.decoded += 1;
                ledgers.data_sets.decoded_octets += octets;
                message.units = message.units.map(|units| units + records);
            }
            Err(reason) => {
                ledgers.data_sets.dropped.one(reason);
                ledgers.data_sets.dropped_octets.add(reason, octets);
                message.units = None;
                self.state(message.exporter).dropped_sets.one(reason);
            }
        }
    }

    /// Decodes the records of one set. A set of which nothing could be read is dropped with the
    /// reason returned.
    fn records(
        &mut self,
        message: &mut Message<'_>,
        plan: &Plan,
        body: &[u8],
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) -> Result<u32, &'static str> {
        let mut records = Records::new(plan, body);
        let mut values = Values::default();
        let mut count = 0_u32;
        let options = plan.template().options;
        let mut flows = 0;
        if options {
            while records.next(&mut values) {
                count += 1;
                self.learn(message.exporter, message.domain, &values);
            }
            message.time.boot = self.boot(message.exporter, message.domain);
        } else {
            let (context, learnt) = context(&self.settings, &mut self.exporters, message);
            let direct = plan.direct().filter(|direct| direct.reads(&context));
            let common = Common::of(&context);
            loop {
                if let Some(direct) = direct
                    && let Some(rest) = records.peek()
                    && direct.record(rest, &common, learnt, out)
                {
                    records.skip();
                    (count, flows) = (count + 1, flows + 1);
                    continue;
                }
                if !records.next(&mut values) {
                    break;
                }
                count += 1;
                match assemble(&values, &context, learnt) {
                    Ok(record) => {
                        flows += 1;
                        out.push(record);
                    }
                    Err(kind) => ledgers.records.not_a_flow.one(kind),
                }
            }
        }
        let others = u64::from(count) - flows;
        ledgers.records.decoded += others;
        if options {
            ledgers.records.not_a_flow.add("options", others);
        }
        let state = self.state(message.exporter);
        if options {
            state.options_records += others;
        } else {
            state.other_records += others;
        }
        message.records += others;
        self.count_flows(message, flows);
        if count > 0 {
            self.prove(message.exporter);
        }
        if records.rest_is_padding(usize::MAX) {
            return Ok(count);
        }
        let reason = if plan.template().record_octets_min() == 0 {
            "empty_template"
        } else if plan.template().is_variable() || count == 0 {
            "truncated_record"
        } else {
            "trailing_octets"
        };
        if count == 0 {
            return Err(reason);
        }
        // Up to three octets of padding need not be zero for the rest to be of no interest.
        if records.rest().len() > 3 {
            self.error(message.exporter, reason);
        }
        Ok(count)
    }

    fn learn(&mut self, exporter: u32, domain: u32, values: &Values<'_>) {
        let state = self.exporters[exporter as usize].as_mut().expect("an admitted exporter");
        let max = self.settings.options_max;
        let (changed, full) = Options::learn(&mut state.options, domain, values, max);
        state.options_full += full;
        if changed {
            self.options_generation += 1;
            let address = self.addresses.entry(state.source.0).or_default();
            address.options_from = Some(exporter);
        }
    }

    /// Sets may have become readable because another port of the address sent their template.
    fn look_at_waiting(
        &mut self,
        message: &mut Message<'_>,
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        let exporter = message.exporter;
        if !self.waiting.holds(exporter) {
            return;
        }
        let generation = self.addresses.get(&self.source(exporter).0).map_or(0, |a| a.generation);
        let state = self.state(exporter);
        if state.looked_at != generation {
            state.looked_at = generation;
            self.replay(message, None, out, ledgers);
        }
    }

    /// Decodes the waiting sets, of one key or of all, that have a template now.
    fn replay(
        &mut self,
        message: &mut Message<'_>,
        key: Option<TemplateKey>,
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        let exporter = message.exporter;
        let (stamp, used) = (message.stamp, self.used);
        let templates = &mut self.templates;
        let mut plans = HashMap::new();
        let readable = |set: &WaitingSet| {
            let plan = templates.find(exporter, set.key, &set.body, stamp, used);
            plan.map(|plan| plans.insert(set.key, plan)).is_some()
        };
        let sets = self.waiting.take(exporter, key, readable, ledgers);
        for set in sets {
            // Its records belong to the message that brought them, not to this one's sequence.
            let domain = set.key.domain;
            let boot = self.boot(exporter, domain);
            let time = MessageTime { boot, ..set.time };
            let mut own = Message { domain, time, units: None, records: 0, ..*message };
            let outcome = if self.waiting.is_expired(&set, stamp) {
                Err("waiting_expired")
            } else {
                let plan = plans[&set.key].clone();
                self.records(&mut own, &plan, &set.body, out, ledgers)
            };
            self.settle(&mut own, outcome, set.octets(), ledgers);
            message.records += own.records;
        }
    }
}

/// What there is of a data set that the datagram cuts short.
fn cut_data_set<'a>(payload: &'a [u8], error: &DecodeError) -> Option<Set<'a>> {
    let DecodeError::Truncated { offset, .. } = *error else { return None };
    let id = wire::be16(payload, offset).ok()?;
    let body = payload.get(offset + 4..)?;
    let kind = SetKind::Data;
    (id >= TEMPLATE_ID_MIN).then_some(Set { kind, id, offset: offset + 4, body })
}
