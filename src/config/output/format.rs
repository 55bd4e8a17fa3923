//! `format` of a sink: how records are written.

use serde::{Deserialize, Serialize};

use super::{Select, Table};

/// Encodings of slices and alerts; docs/formats.md says what each writes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line, in the canonical schema.
    #[default]
    Ndjson,
    /// RFC 4180 with a header line.
    Csv,
    /// Apache Parquet with zstd.
    Parquet,
    /// JSON with DetectFlow's two keys.
    Detectflow,
    /// JSON of the Elastic Common Schema.
    Ecs,
    /// JSON of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// goflow2's `FlowMessage`, a length before each; of slices only.
    Protobuf,
    /// ArcSight Common Event Format.
    Cef,
}

/// Where encoded records go: each takes some formats only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Files and objects of many records.
    Files,
    /// Messages that stand for themselves: Kafka.
    Messages,
    /// Items of a request of JSON: Splunk, Elasticsearch, webhooks.
    Json,
    /// Bodies of syslog.
    Syslog,
}

impl Format {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Detectflow => "detectflow",
            Self::Ecs => "ecs",
            Self::Ocsf => "ocsf",
            Self::Protobuf => "protobuf",
            Self::Cef => "cef",
        }
    }

    /// The usual file name extension.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Protobuf => "pb",
            Self::Cef => "cef",
            _ => "ndjson",
        }
    }

    /// The media type of one record.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Protobuf => "application/x-protobuf",
            Self::Cef => "text/plain",
            _ => "application/json",
        }
    }

    /// Whether a record is a JSON object.
    #[must_use]
    pub const fn json(self) -> bool {
        matches!(self, Self::Ndjson | Self::Detectflow | Self::Ecs | Self::Ocsf)
    }

    /// Whether `fields` of a sink chooses what is written.
    #[must_use]
    pub const fn chooses(self) -> bool {
        matches!(self, Self::Ndjson | Self::Csv | Self::Parquet | Self::Detectflow)
    }

    /// Why this format cannot write the records that `table` takes to `place`, with the key that
    /// says so.
    #[must_use]
    pub fn fault(self, table: &dyn Table, place: Place) -> Option<(&'static str, String)> {
        let fits: &[Self] = match place {
            Place::Files => &Self::ALL,
            Place::Messages => &Self::MESSAGES,
            Place::Json => &Self::JSON,
            Place::Syslog => &Self::SYSLOG,
        };
        let taking = table.taking();
        let name = self.as_str();
        if !fits.contains(&self) {
            let words: Vec<String> = fits.iter().map(|f| format!("\"{}\"", f.as_str())).collect();
            let message = format!("\"{name}\" does not go there: expected {}", words.join(", "));
            return Some(("format", message));
        }
        if self == Self::Protobuf && taking.select == Select::Alerts {
            return Some(("format", "\"protobuf\" has no form for alerts".to_owned()));
        }
        if !self.chooses() && !taking.fields.is_empty() {
            return Some(("fields", format!("has no meaning with format = \"{name}\"")));
        }
        if cfg!(not(feature = "parquet")) && self == Self::Parquet {
            return Some(("format", "this build has no feature `parquet`".to_owned()));
        }
        None
    }

    const ALL: [Self; 8] = [
        Self::Ndjson,
        Self::Csv,
        Self::Parquet,
        Self::Detectflow,
        Self::Ecs,
        Self::Ocsf,
        Self::Protobuf,
        Self::Cef,
    ];
    const MESSAGES: [Self; 6] =
        [Self::Ndjson, Self::Detectflow, Self::Ecs, Self::Ocsf, Self::Protobuf, Self::Cef];
    const JSON: [Self; 4] = [Self::Ndjson, Self::Detectflow, Self::Ecs, Self::Ocsf];
    const SYSLOG: [Self; 5] = [Self::Ndjson, Self::Detectflow, Self::Ecs, Self::Ocsf, Self::Cef];
}
