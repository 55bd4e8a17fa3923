//! `[[rules.feed]]`: what the configuration says of a list of indicators.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[[rules.feed]]`: a file of addresses, networks, ports or names that becomes a rule.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Feed {
    /// The file: plain, gzip or zstd. Required.
    pub path: PathBuf,
    /// Id of its rule; empty: made from the title. Unique.
    pub id: String,
    /// Title of its rule; empty: the file's name.
    pub title: String,
    /// Level of its rule.
    pub level: Severity,
    /// Tags of its rule, for example `attack.t1071`.
    pub tags: Vec<String>,
    /// How the file is written.
    pub format: FeedFormat,
    /// What its indicators are.
    pub kind: FeedKind,
    /// Of CSV: the column of the indicator, by its name in the header or its number from 1.
    pub column: String,
    /// Of CSV: the column of a row's title; rows of one title, level and tags make one rule.
    pub title_column: String,
    /// Of CSV: the column of a row's level.
    pub level_column: String,
    /// Of CSV: the column of a row's tags, separated by blanks, commas, semicolons or bars.
    pub tags_column: String,
}

/// Sigma's levels.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are Sigma's")]
pub enum Severity {
    Informational,
    Low,
    #[default]
    Medium,
    High,
    Critical,
}

/// How a feed's file is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedFormat {
    /// One indicator a line.
    #[default]
    List,
    /// RFC 4180, one row a line, with or without a header.
    Csv,
}

/// What a feed's indicators are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedKind {
    /// Whatever each looks like.
    #[default]
    Auto,
    /// Addresses, networks and ranges of addresses.
    Address,
    /// Ports and ranges of ports.
    Port,
    /// Names of applications, VRFs and interfaces.
    Name,
}
