//! Why a row holds no slice.

/// Why a row holds no slice. Rows are counted under [`SliceError::reason`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SliceError {
    /// The line is longer than a row may be.
    #[error("the line has more than {octets_max} octets")]
    TooLong {
        /// Octets that a line may have.
        octets_max: usize,
    },
    /// The line is no JSON object, or a column is of another type.
    #[error("no JSON of a slice: {message}")]
    Json {
        /// What the parser says.
        message: String,
    },
    /// The line ends within its JSON object.
    #[error("the row ends within its JSON object: it was cut short")]
    CutShort,
    /// It has not the columns of a slice: an alert, or another program's record.
    #[error("no slice: `schema`, `flow_id` or `slice` is missing")]
    NotASlice,
    /// Another version of the schema.
    #[error("schema version {found}, expected {}", super::SCHEMA)]
    Schema {
        /// Its version.
        found: i64,
    },
    /// A site that the configuration does not name.
    #[error("site `{name}` is not in the configuration")]
    Site {
        /// Its name, cut after 64 characters.
        name: String,
    },
    /// A column that every slice has is absent.
    #[error("column `{column}` is absent")]
    Missing {
        /// Its name.
        column: &'static str,
    },
    /// A cell does not hold what its column must.
    #[error("column `{column}` is `{value}`, expected {expected}")]
    Value {
        /// The column's name.
        column: &'static str,
        /// Its text, cut after 64 characters.
        value: String,
        /// What it must hold.
        expected: &'static str,
    },
}

impl SliceError {
    /// The metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "row_too_long",
            Self::Json { .. } => "bad_json",
            Self::CutShort => "cut_short",
            Self::NotASlice => "not_a_slice",
            Self::Schema { .. } => "schema_version",
            Self::Site { .. } => "unknown_site",
            Self::Missing { .. } => "missing_value",
            Self::Value { .. } => "bad_value",
        }
    }
}
