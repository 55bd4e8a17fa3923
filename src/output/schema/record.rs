//! A record as formats read it, wherever its values lie.

use std::sync::LazyLock;

use super::{Context, Field, Row, Stream, Value};

/// One record of a stream: the values of its fields by their place in [`Stream::table`].
///
/// A [`Shown`] row computes them; a row of the spool reads them from columns. Formats know only
/// this, so each can be written from either.
pub trait Record {
    /// The value of the field at `index` of the stream's table, below its length.
    fn value(&self, index: usize) -> Value<'_>;
}

/// A row in memory with the names that its values need.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    row: Row<'a>,
    context: &'a Context,
    table: &'static [Field],
}

impl<'a> Shown<'a> {
    /// `row` as `context` names things.
    #[must_use]
    pub fn new(row: Row<'a>, context: &'a Context) -> Self {
        let stream = if row.alert.is_some() { Stream::Alerts } else { Stream::Slices };
        Self { row, context, table: stream.table() }
    }
}

impl Record for Shown<'_> {
    fn value(&self, index: usize) -> Value<'_> {
        (self.table[index].get)(&self.row, self.context)
    }
}

impl Stream {
    /// The fields of its records in one slice; `table()[i]` is the `i`-th of [`Stream::fields`].
    #[must_use]
    pub fn table(self) -> &'static [Field] {
        static SLICES: LazyLock<Vec<Field>> =
            LazyLock::new(|| Stream::Slices.fields().copied().collect());
        static ALERTS: LazyLock<Vec<Field>> =
            LazyLock::new(|| Stream::Alerts.fields().copied().collect());
        match self {
            Self::Slices => &SLICES,
            Self::Alerts => &ALERTS,
        }
    }

    /// The place of the field `name` in [`Stream::table`].
    #[must_use]
    pub fn index_of(self, name: &str) -> Option<usize> {
        self.table().iter().position(|field| field.name == name)
    }
}
