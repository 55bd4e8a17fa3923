//! What of the configuration decoding needs, in the form in which it is looked up.

use std::collections::HashMap;
use std::sync::Arc;

use super::exporter::Known;
use super::template::TemplateLimits;
use crate::config::Config;
use crate::net::{Addr, Cidr};
use crate::time::SECOND;

/// What of the configuration decoding needs.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) allow: Vec<Cidr>,
    /// Networks and their site's index, the most specific first.
    sites: Vec<(Cidr, u16)>,
    pub(super) site_names: Vec<String>,
    pub(super) known: HashMap<Addr, Arc<Known>>,
    pub(super) unknown: Arc<Known>,
    pub(super) exporters_max: usize,
    pub(super) domains_max: usize,
    pub(super) options_max: usize,
    pub(super) totals_max: usize,
    pub(super) exporter_lifetime_us: i64,
    pub(super) template_lifetime_us: i64,
    pub(super) reorder_window: u32,
    pub(super) window_us: i64,
    pub(super) idle_us: i64,
    pub(super) limits: TemplateLimits,
    pub(super) waiting: (usize, usize),
}

impl Settings {
    pub(super) fn new(config: &Config) -> Self {
        let n = &config.netflow;
        let mut sites: Vec<(Cidr, u16)> = Vec::new();
        for (index, site) in (1_u16..).zip(&config.site) {
            sites.extend(site.exporters.iter().map(|&network| (network, index)));
        }
        // Stable: of two equal networks the first in the configuration wins.
        sites.sort_by_key(|(network, _)| std::cmp::Reverse(network.specificity()));
        let names = config.site.iter().map(|site| site.name.clone());
        let template_lifetime_us = i64::from(n.template_lifetime_s) * SECOND;
        Self {
            allow: config.input.netflow.allow.clone(),
            sites,
            site_names: std::iter::once("default".to_owned()).chain(names).collect(),
            known: Known::all(config),
            unknown: Arc::default(),
            exporters_max: n.exporters_max,
            domains_max: n.domains_per_exporter_max,
            options_max: n.options_per_exporter_max,
            totals_max: n.totals_per_exporter_max,
            exporter_lifetime_us: i64::from(n.exporter_lifetime_s) * SECOND,
            template_lifetime_us,
            reorder_window: n.reorder_window,
            window_us: i64::from(n.time_window_s) * SECOND,
            idle_us: i64::from(config.flow.netflow.idle_timeout_s) * SECOND,
            limits: TemplateLimits {
                per_exporter: n.templates_per_exporter_max,
                all: n.templates_max,
                lifetime_us: template_lifetime_us,
            },
            waiting: (n.waiting_per_exporter_bytes_max, n.waiting_bytes_max),
        }
    }

    pub(super) fn is_allowed(&self, address: Addr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(address))
    }

    pub(super) fn site(&self, address: Addr) -> u16 {
        let found = self.sites.iter().find(|(network, _)| network.contains(address));
        found.map_or(0, |&(_, site)| site)
    }

    pub(super) fn known(&self, address: Addr) -> Arc<Known> {
        self.known.get(&address).unwrap_or(&self.unknown).clone()
    }
}
