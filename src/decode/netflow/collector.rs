//! Datagrams to flow records: exporters, in the order in which their datagrams came.

use std::collections::HashMap;
use std::sync::Arc;

use super::assemble::Context;
use super::exporter::{Exporter, Learnt, Source};
use super::lru::Lru;
use super::options::Options;
use super::sequence::{Arrival, SequenceCounts};
use super::settings::Settings;
use super::template::TemplateStore;
use super::time::MessageTime;
use super::v5;
use super::waiting::{Dropped, WaitingRoom};
use super::wire::{self, DecodeError, Header, Version};
use crate::config::Config;
use crate::flow::FlowRecord;
use crate::metrics::Ledgers;
use crate::net::Addr;
use crate::time::Micros;

/// An address, over all its ports.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) ports: u32,
    /// The port that changed its options tables last: a new port starts with them.
    pub(super) options_from: Option<u32>,
    /// The tables of such a port that is gone.
    pub(super) options_left: Arc<Options>,
    /// Moves when one of its ports defines a template.
    pub(super) generation: u64,
}

/// What was counted of exporters that are gone.
#[derive(Debug, Default)]
pub(super) struct Retired {
    pub(super) sequence: SequenceCounts,
    pub(super) times_clamped: u64,
    pub(super) sampling_unknown: u64,
    pub(super) options_full: u64,
}

/// Decodes export datagrams of any number of exporters into flow records.
///
/// Pure: the stamp of the input clock comes in with each datagram, and results depend on nothing
/// else. All state is bounded by `[netflow]` of the configuration.
#[derive(Debug)]
pub struct Collector {
    pub(super) settings: Settings,
    pub(super) exporters: Vec<Option<Box<Exporter>>>,
    pub(super) free: Vec<u32>,
    pub(super) by_source: HashMap<Source, u32>,
    pub(super) addresses: HashMap<Addr, Address>,
    /// Of unproven exporters.
    pub(super) unproven: Lru<u32>,
    pub(super) unproven_count: usize,
    pub(super) templates: TemplateStore,
    pub(super) waiting: WaitingRoom,
    /// Counts datagrams: the order of uses.
    pub(super) used: u64,
    pub(super) swept: Micros,
    pub(super) evicted: u64,
    pub(super) expired: u64,
    pub(super) retired: Retired,
    pub(super) options_generation: u64,
    /// Reused: sets that made room.
    pub(super) dropped: Vec<Dropped>,
}

/// One datagram on its way through.
pub(super) struct Message<'m> {
    pub(super) exporter: u32,
    pub(super) header: &'m Header,
    /// Whose records are decoded: the header's, or that of sets that waited.
    pub(super) domain: u32,
    pub(super) time: MessageTime,
    pub(super) stamp: Micros,
    /// Data records so far; `None` once a set could not be counted.
    pub(super) units: Option<u32>,
    pub(super) records: u64,
}

impl Collector {
    /// A collector without any exporter.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let settings = Settings::new(config);
        let (each, all) = settings.waiting;
        Self {
            templates: TemplateStore::new(settings.limits),
            waiting: WaitingRoom::new(each, all, settings.template_lifetime_us),
            settings,
            exporters: Vec::new(),
            free: Vec::new(),
            by_source: HashMap::new(),
            addresses: HashMap::new(),
            unproven: Lru::default(),
            unproven_count: 0,
            used: 0,
            swept: Micros::MIN,
            evicted: 0,
            expired: 0,
            retired: Retired::default(),
            options_generation: 0,
            dropped: Vec::new(),
        }
    }

    /// Takes a changed configuration in place: bounds, allow-list, sites and what is known of
    /// exporters. State stays; bounds that shrank apply to what comes next.
    pub fn reconfigure(&mut self, config: &Config) {
        self.settings = Settings::new(config);
        let (each, all) = self.settings.waiting;
        self.templates.set_limits(self.settings.limits);
        self.waiting.set_limits(each, all, self.settings.template_lifetime_us);
        for exporter in self.exporters.iter_mut().flatten() {
            exporter.site = self.settings.site(exporter.source.0);
            exporter.known = self.settings.known(exporter.source.0);
        }
    }

    /// Decodes one UDP `payload` that `source` (address, port) sent and that arrived at `stamp`,
    /// which must not run backwards. Flow records are appended to `out`.
    ///
    /// In `ledgers`, which must be the same from call to call, it counts the datagram, its data
    /// sets, and the records that are no flows. The records in `out` are for the flow table to
    /// count, as decoded and as what became of them. A datagram whose header can be read counts
    /// as decoded, also if a set in it cannot: that set is dropped with its reason, what follows
    /// it in the datagram cannot be found and is counted with the exporter's errors, and what
    /// came before it stands.
    ///
    /// Records of a set that waited for its template get `stamp`, as theirs would run backwards;
    /// their times come from their own datagram.
    pub fn datagram(
        &mut self,
        source: (Addr, u16),
        stamp: Micros,
        payload: &[u8],
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) {
        ledgers.datagrams.received += 1;
        match self.decode(source, stamp, payload, out, ledgers) {
            Ok(()) => ledgers.datagrams.decoded += 1,
            Err(reason) => ledgers.datagrams.rejected.one(reason),
        }
    }

    fn decode(
        &mut self,
        source: Source,
        stamp: Micros,
        payload: &[u8],
        out: &mut Vec<FlowRecord>,
        ledgers: &mut Ledgers,
    ) -> Result<(), &'static str> {
        if !self.settings.is_allowed(source.0) {
            return Err("not_allowed");
        }
        let header = self.header(source, payload)?;
        let exporter = self.admit(source, stamp, ledgers).ok_or("exporters_full")?;
        self.used += 1;
        let state = self.exporters[exporter as usize].as_mut().expect("an admitted exporter");
        state.see(header.version, stamp, self.used);
        let window = self.settings.reorder_window;
        let domain = state.domain(header.version, header.domain, self.settings.domains_max);
        let arrival = domain.sequence.arrive(header.sequence, header.uptime_ms, window);
        let export = match (header.version, header.uptime_ms) {
            (Version::V9, Some(uptime_ms)) => domain.boot.refine(header.export_time, uptime_ms),
            _ => header.export_time,
        };
        state.compare_clocks(export);
        if arrival == Arrival::Restart {
            self.templates.doubt(exporter, header.version, header.domain);
        }
        let time = MessageTime {
            arrival: stamp,
            export,
            uptime_ms: header.uptime_ms,
            boot: state.options.boot(header.domain),
            window_us: self.settings.window_us,
        };
        let mut message = Message {
            exporter,
            header: &header,
            domain: header.domain,
            time,
            stamp,
            units: Some(0),
            records: 0,
        };
        match header.version {
            Version::V5 | Version::V7 => self.fixed(&mut message, payload, out),
            Version::V9 | Version::Ipfix => self.sets(&mut message, payload, out, ledgers),
        }
        let units = match header.version {
            Version::V5 | Version::V7 => Some(u32::from(header.count)),
            Version::V9 => Some(1),
            Version::Ipfix => message.units,
        };
        let state = self.state(exporter);
        let domain = state.domains.get_mut(&(header.version, header.domain)).expect("just seen");
        domain.sequence.units(header.sequence, units, window);
        state.count_records(header.version, header.domain, message.records);
        Ok(())
    }

    /// Reads the header; an exporter that is known already has its error counted.
    fn header(&mut self, source: Source, payload: &[u8]) -> Result<Header, &'static str> {
        let header = wire::header(payload).and_then(|header| match header.version {
            Version::V5 | Version::V7 => match v5::records_of(payload, &header) {
                (_, 0, count) => Err(DecodeError::Count { count, fit: 0 }),
                _ => Ok(header),
            },
            Version::V9 | Version::Ipfix => Ok(header),
        });
        header.map_err(|error| {
            if let Some(&exporter) = self.by_source.get(&source) {
                self.error(exporter, error.reason());
            }
            error.reason()
        })
    }

    /// v5 and v7. Of a datagram that is cut short the whole records count; the error counter has
    /// it, and the sequence takes the others as sent.
    fn fixed(&mut self, message: &mut Message<'_>, payload: &[u8], out: &mut Vec<FlowRecord>) {
        let (records, fit, count) = v5::records_of(payload, message.header);
        if fit < count {
            self.error(message.exporter, "bad_count");
        }
        let (context, learnt) = context(&self.settings, &mut self.exporters, message);
        let interval = v5::sampling_interval(message.header);
        if interval != 0 {
            learnt.header_sampling = Some(interval);
        }
        for record in records.chunks_exact(message.header.version.record_octets()) {
            out.push(v5::flow(record, interval, &context, learnt));
        }
        self.count_flows(message, u64::from(fit));
    }

    pub(super) fn count_flows(&mut self, message: &mut Message<'_>, flows: u64) {
        message.records += flows;
        self.state(message.exporter).flows += flows;
        if flows > 0 {
            self.prove(message.exporter);
        }
    }

    /// The state of an exporter, by an index that [`Collector::admit`] gave and nobody released.
    pub(super) fn state(&mut self, exporter: u32) -> &mut Exporter {
        self.exporters[exporter as usize].as_mut().expect("an admitted exporter")
    }

    pub(super) fn boot(&self, exporter: u32, domain: u32) -> Option<Micros> {
        let state = self.exporters[exporter as usize].as_ref().expect("an admitted exporter");
        state.options.boot(domain)
    }

    pub(super) fn source(&self, exporter: u32) -> Source {
        self.exporters[exporter as usize].as_ref().expect("an admitted exporter").source
    }

    pub(super) fn error(&mut self, exporter: u32, reason: &'static str) {
        self.state(exporter).errors.one(reason);
    }
}

/// The context of a set's records, beside what they may change.
pub(super) fn context<'c>(
    settings: &Settings,
    exporters: &'c mut [Option<Box<Exporter>>],
    message: &Message<'_>,
) -> (Context<'c>, &'c mut Learnt) {
    let state = exporters[message.exporter as usize].as_mut().expect("an admitted exporter");
    let state = &mut **state;
    let context = Context {
        stamp: message.stamp,
        time: message.time,
        address: state.source.0,
        domain: message.domain,
        site: state.site,
        known: &state.known,
        options: &state.options,
        idle_us: settings.idle_us,
        totals_max: settings.totals_max,
        names_max: settings.options_max,
    };
    (context, &mut state.learnt)
}
