//! The templates of all exporters: defined, redefined, withdrawn, expired, inherited, bounded.
//!
//! A template belongs to (exporter address, port, version, domain, id). A port that has not sent
//! a template of its own uses what another port of its address defined last, so that an exporter
//! that restarts with a new port is understood at once. Two ports that are both alive and define
//! an id differently stay apart: then nobody inherits it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::lru::Lru;
use super::plan::Plan;
use super::wire::{Template, Version};
use crate::net::Addr;
use crate::time::Micros;

/// A template of one exporter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct TemplateKey {
    pub(super) version: Version,
    pub(super) domain: u32,
    pub(super) id: u16,
}

/// What happened to templates, over all exporters.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct TemplateCounts {
    /// New ids.
    pub defined: u64,
    /// Ids whose fields changed.
    pub redefined: u64,
    /// Withdrawn by the exporter.
    pub withdrawn: u64,
    /// Not sent again within their lifetime.
    pub expired: u64,
    /// Dropped for want of room, the least recently used first.
    pub evicted: u64,
    /// Not taken for want of room: an unproven exporter evicts no proven one's.
    pub refused: u64,
    /// Data sets decoded by another port's template.
    pub inherited_sets: u64,
    /// Data sets decoded by a template from before a restart.
    pub unconfirmed_sets: u64,
}

/// Bounds on templates.
#[derive(Clone, Copy, Debug)]
pub(super) struct TemplateLimits {
    pub(super) per_exporter: usize,
    pub(super) all: usize,
    pub(super) lifetime_us: i64,
}

/// One template as held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) plan: Arc<Plan>,
    /// When it was last sent.
    pub(super) sent: Micros,
    /// From before a restart of the exporter or of Weir, and not seen since.
    pub(super) unconfirmed: bool,
    used: u64,
    /// `sent` as the state file may have it.
    saved: Micros,
}

/// Templates of one exporter.
#[derive(Debug, Default)]
struct Own {
    address: Addr,
    proven: bool,
    held: HashMap<TemplateKey, Held>,
    lru: Lru<TemplateKey>,
}

/// What the ports of an address agree on.
#[derive(Debug)]
struct Shared {
    plan: Arc<Plan>,
    sent: Micros,
    definer: u32,
    /// Another port that defined the id differently before.
    rival: Option<u32>,
    /// When it was last seen that two living ports differ.
    conflict: Option<Micros>,
}

/// What became of a template that an exporter sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Defined {
    /// As it was known.
    Same,
    /// New, or with other fields than before.
    Changed,
    /// Not taken for want of room.
    Refused,
}

/// Templates by exporter index.
#[derive(Debug)]
pub(super) struct TemplateStore {
    limits: TemplateLimits,
    own: Vec<Own>,
    shared: HashMap<(Addr, TemplateKey), Shared>,
    /// Of all templates: of unproven exporters, and of proven ones.
    lru: [Lru<(u32, TemplateKey)>; 2],
    total: usize,
    pub(super) counts: TemplateCounts,
    /// Moves when what is worth saving changed.
    pub(super) generation: u64,
}

impl TemplateStore {
    pub(super) fn new(limits: TemplateLimits) -> Self {
        Self {
            limits,
            own: Vec::new(),
            shared: HashMap::new(),
            lru: Default::default(),
            total: 0,
            counts: TemplateCounts::default(),
            generation: 0,
        }
    }

    /// Makes room for the exporter of this index.
    pub(super) fn admit(&mut self, exporter: u32, address: Addr) {
        let index = exporter as usize;
        if self.own.len() <= index {
            self.own.resize_with(index + 1, Own::default);
        }
        self.own[index] = Own { address, ..Own::default() };
    }

    /// The exporter decoded a record: its templates are no longer the first to go.
    pub(super) fn prove(&mut self, exporter: u32) {
        self.own[exporter as usize].proven = true;
    }

    pub(super) const fn set_limits(&mut self, limits: TemplateLimits) {
        self.limits = limits;
    }

    /// Templates held.
    pub(super) const fn len(&self) -> usize {
        self.total
    }

    /// The templates of one exporter, in the order of their keys.
    pub(super) fn of(&self, exporter: u32) -> Vec<(TemplateKey, &Held)> {
        let own = &self.own[exporter as usize];
        let mut list: Vec<_> = own.held.iter().map(|(&key, held)| (key, held)).collect();
        list.sort_unstable_by_key(|&(key, _)| key);
        list
    }

    /// Takes in a template that `exporter` sent at `stamp`; `used` orders uses.
    pub(super) fn define(
        &mut self,
        exporter: u32,
        key: TemplateKey,
        template: Template,
        stamp: Micros,
        used: u64,
    ) -> Defined {
        let lifetime_us = self.limits.lifetime_us;
        let known = self.own[exporter as usize].held.get_mut(&key);
        let mut redefined = false;
        if let Some(held) = known {
            redefined = true;
            if *held.plan.template() == template {
                let expired = stamp.since(held.sent) > lifetime_us;
                (held.sent, held.unconfirmed) = (stamp, false);
                if stamp.since(held.saved) > lifetime_us / 4 {
                    held.saved = stamp;
                    self.generation += 1;
                }
                let plan = held.plan.clone();
                self.share(exporter, key, plan, stamp);
                return if expired { Defined::Changed } else { Defined::Same };
            }
        } else if !self.make_room(exporter) {
            self.counts.refused += 1;
            return Defined::Refused;
        }
        let plan = Arc::new(Plan::compile(template, key.version));
        let held = Held { plan: plan.clone(), sent: stamp, unconfirmed: false, used, saved: stamp };
        self.insert(exporter, key, held);
        self.share(exporter, key, plan, stamp);
        if redefined {
            self.counts.redefined += 1;
        } else {
            self.counts.defined += 1;
        }
        Defined::Changed
    }

    /// Puts back a template from a state file; false if there is no room.
    pub(super) fn restore(
        &mut self,
        exporter: u32,
        key: TemplateKey,
        template: Template,
        sent: Micros,
    ) -> bool {
        if self.own[exporter as usize].held.contains_key(&key) || !self.make_room(exporter) {
            return false;
        }
        let plan = Arc::new(Plan::compile(template, key.version));
        let held = Held { plan: plan.clone(), sent, unconfirmed: true, used: 0, saved: sent };
        self.insert(exporter, key, held);
        self.share(exporter, key, plan, sent);
        true
    }

    /// The plan for a data set of `exporter`, if there is one that may be used: its own, else
    /// one of its address. One that nobody confirmed must fit the set.
    pub(super) fn find(
        &mut self,
        exporter: u32,
        key: TemplateKey,
        body: &[u8],
        stamp: Micros,
        used: u64,
    ) -> Option<Arc<Plan>> {
        let lifetime_us = self.limits.lifetime_us;
        let own = &mut self.own[exporter as usize];
        let address = own.address;
        if let Some(held) = own.held.get_mut(&key)
            && stamp.since(held.sent) <= lifetime_us
        {
            if held.unconfirmed {
                if !held.plan.fits(body) {
                    return None;
                }
                self.counts.unconfirmed_sets += 1;
            }
            held.used = used;
            return Some(held.plan.clone());
        }
        let shared = self.shared.get(&(address, key))?;
        let recent = |at: Micros| stamp.since(at) <= lifetime_us;
        let usable = recent(shared.sent) && !shared.conflict.is_some_and(recent);
        if !usable || !shared.plan.fits(body) {
            return None;
        }
        self.counts.inherited_sets += 1;
        Some(shared.plan.clone())
    }

    pub(super) fn withdraw(&mut self, exporter: u32, key: TemplateKey) {
        if self.remove(exporter, key) {
            self.counts.withdrawn += 1;
        }
    }

    /// Withdraws all data templates, or all options templates, of a domain.
    pub(super) fn withdraw_all(
        &mut self,
        exporter: u32,
        version: Version,
        domain: u32,
        options: bool,
    ) {
        let own = &self.own[exporter as usize].held;
        let meant = own.iter().filter(|(key, held)| {
            (key.version, key.domain) == (version, domain)
                && held.plan.template().options == options
        });
        let keys: Vec<_> = meant.map(|(&key, _)| key).collect();
        for key in keys {
            self.withdraw(exporter, key);
        }
    }

    /// The exporter began anew: its ids may mean something else now.
    pub(super) fn doubt(&mut self, exporter: u32, version: Version, domain: u32) {
        for (key, held) in &mut self.own[exporter as usize].held {
            held.unconfirmed |= (key.version, key.domain) == (version, domain);
        }
    }

    /// Drops all of an exporter's templates.
    pub(super) fn release(&mut self, exporter: u32) {
        let keys: Vec<_> = self.own[exporter as usize].held.keys().copied().collect();
        for key in keys {
            self.remove(exporter, key);
        }
        self.own[exporter as usize] = Own::default();
    }

    /// Drops what was not sent again within the lifetime.
    pub(super) fn expire(&mut self, stamp: Micros) {
        let lifetime_us = self.limits.lifetime_us;
        for exporter in 0..self.own.len() {
            let held = &self.own[exporter].held;
            let old = held.iter().filter(|(_, held)| stamp.since(held.sent) > lifetime_us);
            let old: Vec<_> = old.map(|(&key, _)| key).collect();
            for key in old {
                self.remove(exporter as u32, key);
                self.counts.expired += 1;
            }
        }
    }

    fn insert(&mut self, exporter: u32, key: TemplateKey, held: Held) {
        self.generation += 1;
        let own = &mut self.own[exporter as usize];
        let used = held.used;
        if own.held.insert(key, held).is_none() {
            own.lru.insert(key, used);
            self.lru[usize::from(own.proven)].insert((exporter, key), used);
            self.total += 1;
        }
    }

    fn remove(&mut self, exporter: u32, key: TemplateKey) -> bool {
        let own = &mut self.own[exporter as usize];
        if own.held.remove(&key).is_none() {
            return false;
        }
        self.total -= 1;
        self.generation += 1;
        let place = (own.address, key);
        if self.shared.get(&place).is_some_and(|shared| shared.definer == exporter) {
            self.shared.remove(&place);
        }
        let held = &own.held;
        own.lru.compact(held.len(), |key| held.get(key).map(|held| held.used));
        let all = &self.own;
        for lru in &mut self.lru {
            lru.compact(self.total, |&(exporter, key)| used_of(all, exporter, key));
        }
        true
    }

    /// Makes room for one more template of `exporter`, by dropping the least recently used: its
    /// own at its own bound; at the bound for all, first of unproven exporters.
    fn make_room(&mut self, exporter: u32) -> bool {
        let own = &mut self.own[exporter as usize];
        let proven = own.proven;
        if own.held.len() >= self.limits.per_exporter {
            let held = &own.held;
            let Some(key) = own.lru.oldest(|key| held.get(key).map(|held| held.used)) else {
                return false;
            };
            self.counts.evicted += u64::from(self.remove(exporter, key));
        }
        while self.total >= self.limits.all {
            let all = &self.own;
            let used = |&(exporter, key): &(u32, TemplateKey)| used_of(all, exporter, key);
            let victim = match self.lru[0].oldest(used) {
                Some((other, key)) if all[other as usize].proven => {
                    let used = used_of(all, other, key).unwrap_or(0);
                    self.lru[1].insert((other, key), used);
                    continue;
                }
                None if proven => self.lru[1].oldest(used),
                victim => victim,
            };
            let Some((other, key)) = victim else { return false };
            self.counts.evicted += u64::from(self.remove(other, key));
        }
        true
    }

    /// Tells the address what one of its ports defined.
    fn share(&mut self, exporter: u32, key: TemplateKey, plan: Arc<Plan>, sent: Micros) {
        let address = self.own[exporter as usize].address;
        let lifetime_us = self.limits.lifetime_us;
        let fresh = Shared { plan, sent, definer: exporter, rival: None, conflict: None };
        let Some(shared) = self.shared.get_mut(&(address, key)) else {
            self.shared.insert((address, key), fresh);
            return;
        };
        if sent.since(shared.sent) > lifetime_us {
            *shared = fresh;
            return;
        }
        let same = shared.plan.template() == fresh.plan.template();
        if !same && shared.definer != exporter {
            // Once is a restart with a new port; if the first one speaks again, both live.
            if shared.rival == Some(exporter) {
                shared.conflict = Some(sent);
            }
            shared.rival = Some(shared.definer);
        }
        shared.definer = exporter;
        shared.sent = shared.sent.max(sent);
        if !same {
            shared.plan = fresh.plan;
        }
    }
}

fn used_of(own: &[Own], exporter: u32, key: TemplateKey) -> Option<u64> {
    own.get(exporter as usize)?.held.get(&key).map(|held| held.used)
}
