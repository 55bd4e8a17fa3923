//! Which fields a sink writes.

use std::sync::Arc;

use super::{Field, Fields, Stream};

/// The fields of one stream that a sink writes, in the order of the table, and the operator's own
/// after them. `schema`, the version, is always among them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    stream: Stream,
    indices: Arc<[usize]>,
    own: Fields,
}

impl Layout {
    /// Every field of `stream`, and none of the operator's own.
    #[must_use]
    pub fn all(stream: Stream) -> Self {
        Self { stream, indices: (0..stream.table().len()).collect(), own: Fields::default() }
    }

    /// The fields `names` of `stream`, or all if there are none; with an object's name (`rule`)
    /// come all its members. Names that the stream lacks are passed over: the configuration's
    /// check refuses them.
    #[must_use]
    pub fn of(stream: Stream, names: &[String]) -> Self {
        let object = |field: &'static Field| field.name.split('.').next().unwrap_or(field.name);
        let named = |field: &'static Field| {
            let wanted = |name: &String| name == field.name || name == object(field);
            names.is_empty() || field.name == "schema" || names.iter().any(wanted)
        };
        let fields = stream.table().iter().enumerate();
        let indices = fields.filter(|(_, field)| named(field)).map(|(index, _)| index).collect();
        Self { stream, indices, own: Fields::default() }
    }

    /// The same, with `own` after the fields.
    #[must_use]
    pub fn with(self, own: &Fields) -> Self {
        Self { own: own.clone(), ..self }
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> Stream {
        self.stream
    }

    /// The fields, each with its place in the stream's table.
    pub fn fields(&self) -> impl Iterator<Item = (usize, &'static Field)> {
        self.indices.iter().map(|&index| (index, &self.stream.table()[index]))
    }

    /// The operator's own.
    #[must_use]
    pub const fn own(&self) -> &Fields {
        &self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_keeps_the_order_of_the_table_and_the_version() {
        let names = |stream, wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
            let layout = Layout::of(stream, &wanted);
            layout.fields().map(|(_, field)| field.name).collect::<Vec<_>>()
        };
        let slices = names(Stream::Slices, &["protocol", "timestamp", "no_such"]);
        assert_eq!(slices, ["timestamp", "protocol", "schema"]);
        let alerts = names(Stream::Alerts, &["rule", "id"]);
        assert_eq!(alerts[..3], ["id", "rule.id", "rule.title"]);
        assert_eq!(alerts.last(), Some(&"schema"));
        assert!(!alerts.contains(&"tactics"));
        let all = Stream::Slices.fields().count();
        assert_eq!(names(Stream::Slices, &[]).len(), all);
    }
}
