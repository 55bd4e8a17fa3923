//! Templates, compiled: which octets of a record go where.
//!
//! A template of fixed lengths becomes a list of (offset, width, field) slots, checked once, so
//! that a record decodes without looking anything up. A template with a variable-length field
//! (RFC 7011 §7) becomes a list of steps that an interpreter walks with a running offset.

use super::direct::Direct;
use super::field::{Field, Kind, Values};
use super::wire::{Template, VARIABLE, Version};

/// A compiled template. Immutable, so a generation can be pinned to data that is decoded later or
/// elsewhere.
#[derive(Debug)]
pub struct Plan {
    /// What it was compiled from.
    template: Template,
    /// Octets of a record; of variable ones the fewest.
    record_octets: usize,
    /// The fields that every record has; of variable ones 0.
    present: u128,
    numbers: Vec<Slot>,
    others: Vec<Slot>,
    /// Of variable templates only.
    steps: Vec<Step>,
    /// Of ordinary templates only.
    direct: Option<Direct>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u32,
    width: u16,
    field: Field,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    length: u16,
    field: Option<Field>,
}

impl Plan {
    /// Compiles `template`. Of an element that comes twice the first counts (RFC 7011 §8 leaves
    /// the order to the metering process); a field of length 0 is absent. O(fields).
    pub(super) fn compile(template: Template, version: Version) -> Self {
        let mut plan = Self {
            record_octets: template.record_octets_min(),
            present: 0,
            numbers: Vec::new(),
            others: Vec::new(),
            steps: Vec::new(),
            direct: None,
            template,
        };
        let variable = plan.template.is_variable();
        let (mut offset, mut taken) = (0_u32, 0_u128);
        for (index, &spec) in plan.template.fields.iter().enumerate() {
            let scope = index < usize::from(plan.template.scope_fields);
            let field = Field::of(spec, version, scope)
                .filter(|&field| taken & field.bit() == 0 && fits(field, spec.length));
            taken |= field.map_or(0, Field::bit);
            if variable {
                plan.steps.push(Step { length: spec.length, field });
            } else if let Some(field) = field {
                let slot = Slot { offset, width: spec.length, field };
                match field.kind() {
                    Kind::Number => plan.numbers.push(slot),
                    Kind::Address4 | Kind::Address6 | Kind::Text => plan.others.push(slot),
                }
            }
            offset += u32::from(spec.length);
        }
        plan.present = if variable { 0 } else { taken };
        if !variable && !plan.template.options {
            let slots = plan.numbers.iter().chain(&plan.others);
            let places = slots.map(|slot| (slot.field, slot.offset, slot.width));
            plan.direct = Direct::compile(plan.record_octets, taken, places);
        }
        plan
    }

    /// The short way to read its flow records, if it is an ordinary template.
    pub(super) const fn direct(&self) -> Option<&Direct> {
        self.direct.as_ref()
    }

    /// What it was compiled from.
    #[must_use]
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// Whether `body` looks like records of this template: whole records, then at most
    /// seven octets of padding, all zero. For templates that nobody confirmed.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        if self.record_octets == 0 {
            return false;
        }
        let mut records = Records::new(self, body);
        let mut values = Values::default();
        let mut any = false;
        if self.steps.is_empty() {
            any = body.len() >= self.record_octets;
            records.at = body.len() - body.len() % self.record_octets;
        } else {
            while records.next(&mut values) {
                any = true;
            }
        }
        any && records.rest_is_padding(7)
    }
}

/// Whether a field of this length is read.
fn fits(field: Field, length: u16) -> bool {
    match field.kind() {
        Kind::Number | Kind::Text => length > 0,
        Kind::Address4 => length == 4,
        Kind::Address6 => length == 16,
    }
}

/// Walks the records of one data set.
#[derive(Debug)]
pub(super) struct Records<'p, 'a> {
    plan: &'p Plan,
    body: &'a [u8],
    at: usize,
}

impl<'p, 'a> Records<'p, 'a> {
    pub(super) const fn new(plan: &'p Plan, body: &'a [u8]) -> Self {
        Self { plan, body, at: 0 }
    }

    /// Decodes the next record into `values`; false at the end of the records.
    pub(super) fn next(&mut self, values: &mut Values<'a>) -> bool {
        let plan = self.plan;
        if plan.record_octets == 0 {
            return false;
        }
        if !plan.steps.is_empty() {
            return self.next_variable(values);
        }
        let Some(record) = self.body.get(self.at..self.at + plan.record_octets) else {
            return false;
        };
        self.at += plan.record_octets;
        values.present = plan.present;
        for slot in &plan.numbers {
            values.put_number(slot.field, octets_of(record, *slot));
        }
        for slot in &plan.others {
            values.put_other(slot.field, octets_of(record, *slot));
        }
        true
    }

    fn next_variable(&mut self, values: &mut Values<'a>) -> bool {
        // Padding is shorter than any record, or all zero where every field may be empty.
        let rest = &self.body[self.at..];
        if rest.len() < self.plan.record_octets || self.rest_is_padding(3) {
            return false;
        }
        values.present = 0;
        let mut at = 0;
        for step in &self.plan.steps {
            let Some((octets, after)) = field_octets(rest, at, step.length) else { return false };
            at = after;
            if let Some(field) = step.field
                && fits(field, octets.len() as u16)
            {
                values.put(field, octets);
            }
        }
        self.at += at;
        true
    }

    /// The next record and what follows it; [`Records::skip`] passes on.
    pub(super) fn peek(&self) -> Option<&'a [u8]> {
        let rest = self.rest();
        (rest.len() >= self.plan.record_octets).then_some(rest)
    }

    /// Passes the next record, of a template of fixed lengths.
    pub(super) const fn skip(&mut self) {
        self.at += self.plan.record_octets;
    }

    /// Whether what follows the records is padding: at most `longest` octets, all zero.
    pub(super) fn rest_is_padding(&self, longest: usize) -> bool {
        let rest = &self.body[self.at..];
        rest.len() <= longest && rest.iter().all(|&octet| octet == 0)
    }

    /// Octets after the last record that are too many, or not zero where a record could begin.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.body[self.at..]
    }
}

fn octets_of(record: &[u8], slot: Slot) -> &[u8] {
    &record[slot.offset as usize..slot.offset as usize + usize::from(slot.width)]
}

/// The octets of the field at `at`, and where the next begins. The length of a variable field
/// stands before it in one octet, or in two after an octet of 255 (RFC 7011 §7); 0 is legal.
fn field_octets(record: &[u8], at: usize, length: u16) -> Option<(&[u8], usize)> {
    let (begin, length) = match length {
        VARIABLE => match *record.get(at)? {
            255 => {
                let long = record.get(at + 1..at + 3)?;
                (at + 3, usize::from(u16::from_be_bytes([long[0], long[1]])))
            }
            short => (at + 1, usize::from(short)),
        },
        fixed => (at, usize::from(fixed)),
    };
    Some((record.get(begin..begin + length)?, begin + length))
}
