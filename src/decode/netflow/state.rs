//! What outlives a restart: templates and options tables of proven exporters.
//!
//! The pure part only; whoever holds the collector writes the file, off the hot thread, when
//! [`Collector::state_generation`] moved.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::collector::Collector;
use super::options::{Options, SavedOptions};
use super::template::TemplateKey;
use super::wire::{FieldSpec, TEMPLATE_FIELDS_MAX, TEMPLATE_ID_MIN, Template, Version};
use crate::metrics::Ledgers;
use crate::net::Addr;
use crate::time::Micros;

/// The form of [`State`]; another one is not read.
const FORMAT: u32 = 1;

/// What is saved.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct State {
    /// The form, 1.
    pub format: u32,
    /// Proven exporters, by address and port.
    pub exporters: Vec<SavedExporter>,
}

/// One exporter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedExporter {
    /// Its address.
    pub address: Addr,
    /// Its UDP port.
    pub port: u16,
    /// Arrival of its last datagram.
    pub last_seen: Micros,
    /// Its templates.
    pub templates: Vec<SavedTemplate>,
    /// Its options tables.
    #[serde(default)]
    pub options: SavedOptions,
}

/// One template.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SavedTemplate {
    /// Version number, 9 or 10.
    pub version: u16,
    /// Observation domain or source id.
    pub domain: u32,
    /// Template id.
    pub id: u16,
    /// When it was last sent.
    pub sent: Micros,
    /// Whether it is an options template.
    pub options: bool,
    /// How many of the first fields are scope.
    pub scope_fields: u16,
    /// Element, enterprise number and length of each field.
    pub fields: Vec<(u16, u32, u16)>,
}

impl State {
    /// What `states` of several collectors say: of an exporter that stands in several, what was
    /// seen last.
    #[must_use]
    pub fn merge(states: impl IntoIterator<Item = Self>) -> Self {
        let known = states.into_iter().filter(|state| state.format == FORMAT);
        let mut exporters: Vec<_> = known.flat_map(|state| state.exporters).collect();
        exporters.sort_by_key(|e| (e.address, e.port, Reverse(e.last_seen)));
        exporters.dedup_by_key(|e| (e.address, e.port));
        Self { format: FORMAT, exporters }
    }

    /// The exporters that `takes` takes, by address.
    #[must_use]
    pub fn only(&self, takes: impl Fn(Addr) -> bool) -> Self {
        let exporters = self.exporters.iter().filter(|exporter| takes(exporter.address));
        Self { format: self.format, exporters: exporters.cloned().collect() }
    }
}

impl Collector {
    /// Moves when [`Collector::export_state`] would give something new that is worth a write:
    /// also when a template was sent again a quarter of its lifetime after the last time that
    /// moved it, so that its age in the file stays below its lifetime.
    #[must_use]
    pub const fn state_generation(&self) -> u64 {
        self.templates.generation + self.options_generation
    }

    /// Templates and options tables of all proven exporters.
    #[must_use]
    pub fn export_state(&self) -> State {
        let present = (0_u32..).zip(&self.exporters);
        let proven = present.filter_map(|(index, state)| {
            let state = state.as_deref().filter(|state| state.proven)?;
            let templates = self.templates.of(index).into_iter();
            Some(SavedExporter {
                address: state.source.0,
                port: state.source.1,
                last_seen: state.last_seen,
                templates: templates
                    .map(|(key, held)| saved(key, held.plan.template(), held.sent))
                    .collect(),
                options: state.options.saved(),
            })
        });
        let mut exporters: Vec<_> = proven.collect();
        exporters.sort_by_key(|exporter| (exporter.address, exporter.port));
        State { format: FORMAT, exporters }
    }

    /// Takes a saved state in, as of `now`: templates younger than the template lifetime, marked
    /// unconfirmed until they are seen again, within all bounds. Returns how many templates.
    /// Exporters that have state already keep it, and get only templates that they lack.
    pub fn import_state(&mut self, state: &State, now: Micros, ledgers: &mut Ledgers) -> usize {
        if state.format != FORMAT {
            return 0;
        }
        let lifetime_us = self.settings.template_lifetime_us;
        let mut taken = 0;
        for saved in &state.exporters {
            let source = (saved.address, saved.port);
            if !self.settings.is_allowed(source.0) {
                continue;
            }
            let last_seen = saved.last_seen.min(now);
            let fresh = !self.is_known(source);
            let Some(exporter) = self.admit(source, last_seen, ledgers) else { break };
            if fresh {
                self.trust(exporter, Options::restored(&saved.options, self.settings.options_max));
            }
            for template in &saved.templates {
                // A file from the future would give templates that never expire.
                let young = (0..=lifetime_us).contains(&now.since(template.sent));
                if let Some((key, fields)) = restored(template).filter(|_| young) {
                    taken +=
                        usize::from(self.templates.restore(exporter, key, fields, template.sent));
                }
            }
        }
        taken
    }
}

fn saved(key: TemplateKey, template: &Template, sent: Micros) -> SavedTemplate {
    SavedTemplate {
        version: key.version.number(),
        domain: key.domain,
        id: key.id,
        sent,
        options: template.options,
        scope_fields: template.scope_fields,
        fields: template.fields.iter().map(|f| (f.element, f.pen, f.length)).collect(),
    }
}

/// A template as the wire could have given it, or `None`.
fn restored(saved: &SavedTemplate) -> Option<(TemplateKey, Template)> {
    let version =
        [Version::V9, Version::Ipfix].into_iter().find(|v| v.number() == saved.version)?;
    let count = saved.fields.len();
    let plausible = saved.id >= TEMPLATE_ID_MIN
        && (1..=TEMPLATE_FIELDS_MAX).contains(&count)
        && usize::from(saved.scope_fields) <= count;
    let field = |&(element, pen, length): &(u16, u32, u16)| FieldSpec { element, pen, length };
    plausible.then(|| {
        let key = TemplateKey { version, domain: saved.domain, id: saved.id };
        let template = Template {
            id: saved.id,
            scope_fields: saved.scope_fields,
            options: saved.options,
            fields: saved.fields.iter().map(field).collect(),
        };
        (key, template)
    })
}
