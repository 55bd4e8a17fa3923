//! NetFlow v5, v7, v9 and IPFIX.
//!
//! [`wire`] reads the formats without state: headers, sets, template records. [`Collector`]
//! remembers exporters and turns their datagrams into flow records: templates are compiled into
//! plans, options data gives sampling and names, sequence numbers tell what was lost.

pub mod elements;
pub mod inspect;
pub mod record;
pub mod value;
pub mod wire;

mod assemble;
mod boot;
mod collector;
mod direct;
mod exporter;
mod field;
mod lru;
mod options;
mod plan;
mod registry;
mod report;
mod sequence;
mod sets;
mod settings;
mod state;
mod template;
mod time;
mod timeout;
mod totals;
mod v5;
mod waiting;

pub use collector::Collector;
pub use options::{Algorithm, Sampling, SavedOptions};
pub use report::{
    CollectorTotals, DomainReport, ExporterReport, SamplerReport, TemplateReport, WaitingReport,
};
pub use sequence::SequenceCounts;
pub use state::{SavedExporter, SavedTemplate, State};
pub use template::TemplateCounts;
