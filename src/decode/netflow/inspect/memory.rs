//! What the inspector remembers: templates, and data sets that wait for theirs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::record::Layout;
use super::super::wire::{SetKind, Version};
use super::Origin;
use crate::config;
use crate::net::Addr;

/// A template's version, domain and id; the exporter's address is around it.
type Key = (Version, u32, u16);

/// A data set that waits for its template.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The message that it came in.
    pub(super) origin: Origin,
    /// Template that it needs.
    pub(super) id: u16,
    /// Offset of `body` in its datagram.
    pub(super) offset: usize,
    /// The octets after the set header.
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct Exporter {
    /// By key, what each port of the address defined, the latest last.
    templates: BTreeMap<Key, Vec<(u16, Arc<Layout>)>>,
    templates_held: usize,
    waiting: BTreeMap<Key, Vec<Waiting>>,
    waiting_octets: usize,
}

/// Templates and waiting data sets of all exporters, bounded by the configuration.
#[derive(Debug)]
pub(super) struct Memory {
    bounds: config::Netflow,
    exporters: BTreeMap<Addr, Exporter>,
    templates_held: usize,
    waiting_octets: usize,
}

/// There is no room left; nothing was kept.
#[derive(Debug)]
pub(super) struct Full;

impl Memory {
    pub(super) const fn new(bounds: config::Netflow) -> Self {
        Self { bounds, exporters: BTreeMap::new(), templates_held: 0, waiting_octets: 0 }
    }

    /// The template `id` of `origin`: what its port defined, else the latest that its address
    /// did, as an exporter that restarts sends from a new port.
    pub(super) fn template(&self, origin: &Origin, id: u16) -> Option<Arc<Layout>> {
        let exporter = self.exporters.get(&origin.exporter)?;
        let ports = exporter.templates.get(&(origin.version, origin.domain, id))?;
        let own = ports.iter().find(|(port, _)| *port == origin.port);
        own.or(ports.last()).map(|(_, layout)| Arc::clone(layout))
    }

    /// Keeps `layout`; returns whether it replaces a different one.
    pub(super) fn define(&mut self, origin: &Origin, layout: Arc<Layout>) -> Result<bool, Full> {
        let bounds = &self.bounds;
        let (templates_max, each_max) = (bounds.templates_max, bounds.templates_per_exporter_max);
        let templates_held = self.templates_held;
        let exporter = self.exporter(origin.exporter)?;
        let full = templates_held >= templates_max || exporter.templates_held >= each_max;
        let key = (origin.version, origin.domain, layout.template.id);
        let ports = exporter.templates.entry(key).or_default();
        if let Some(at) = ports.iter().position(|(port, _)| *port == origin.port) {
            let (_, before) = ports.remove(at);
            let redefined = before != layout;
            ports.push((origin.port, layout));
            return Ok(redefined);
        }
        if full {
            if ports.is_empty() {
                exporter.templates.remove(&key);
            }
            return Err(Full);
        }
        ports.push((origin.port, layout));
        exporter.templates_held += 1;
        self.templates_held += 1;
        Ok(false)
    }

    /// Forgets the template `id` of `origin`'s port.
    pub(super) fn withdraw(&mut self, origin: &Origin, id: u16) {
        self.forget(origin, |key, _| key.2 == id);
    }

    /// Forgets all templates, or all options templates, of `origin`'s port and domain.
    pub(super) fn withdraw_all(&mut self, origin: &Origin, kind: SetKind) {
        let options = kind == SetKind::OptionsTemplate;
        self.forget(origin, |_, layout| layout.template.options == options);
    }

    fn forget(&mut self, origin: &Origin, which: impl Fn(&Key, &Layout) -> bool) {
        let Some(exporter) = self.exporters.get_mut(&origin.exporter) else { return };
        let mut forgotten = 0;
        exporter.templates.retain(|key, ports| {
            let before = ports.len();
            let domain = (key.0, key.1) == (origin.version, origin.domain);
            ports.retain(|(port, layout)| !(domain && *port == origin.port && which(key, layout)));
            forgotten += before - ports.len();
            !ports.is_empty()
        });
        exporter.templates_held -= forgotten;
        self.templates_held -= forgotten;
    }

    /// Lets a data set wait.
    pub(super) fn wait(&mut self, set: Waiting) -> Result<(), Full> {
        let (all_max, each_max) =
            (self.bounds.waiting_bytes_max, self.bounds.waiting_per_exporter_bytes_max);
        let all = self.waiting_octets;
        let exporter = self.exporter(set.origin.exporter)?;
        // An empty set costs its bookkeeping, too.
        let octets = set.body.len() + size_of::<Waiting>();
        if all + octets > all_max || exporter.waiting_octets + octets > each_max {
            return Err(Full);
        }
        exporter.waiting_octets += octets;
        let key = (set.origin.version, set.origin.domain, set.id);
        exporter.waiting.entry(key).or_default().push(set);
        self.waiting_octets += octets;
        Ok(())
    }

    /// The data sets that waited for template `id` of `origin`'s address, in order of arrival.
    pub(super) fn release(&mut self, origin: &Origin, id: u16) -> Vec<Waiting> {
        let Some(exporter) = self.exporters.get_mut(&origin.exporter) else { return Vec::new() };
        let key = (origin.version, origin.domain, id);
        let released = exporter.waiting.remove(&key).unwrap_or_default();
        let octets: usize = released.iter().map(|set| set.body.len() + size_of::<Waiting>()).sum();
        exporter.waiting_octets -= octets;
        self.waiting_octets -= octets;
        released
    }

    /// Takes out whatever still waits, in order of arrival.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        let mut left = Vec::new();
        for exporter in self.exporters.values_mut() {
            left.extend(std::mem::take(&mut exporter.waiting).into_values().flatten());
            exporter.waiting_octets = 0;
        }
        self.waiting_octets = 0;
        left.sort_by_key(|set| (set.origin.offset, set.offset));
        left
    }

    fn exporter(&mut self, address: Addr) -> Result<&mut Exporter, Full> {
        if self.exporters.len() >= self.bounds.exporters_max
            && !self.exporters.contains_key(&address)
        {
            return Err(Full);
        }
        Ok(self.exporters.entry(address).or_default())
    }
}
