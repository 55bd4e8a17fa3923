//! Fields of the operator's own, after those of the schema: the same value on every record.

use std::sync::Arc;

use super::{Stream, Value};
use crate::config::{Config, FieldValue, Problem};

/// Names and values, in the order in which they are written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fields(Arc<[(String, FieldValue)]>);

impl Fields {
    /// Those of `fields`. Names are unique and none of the schema's ([`check`]).
    #[must_use]
    pub fn new(fields: impl IntoIterator<Item = (String, FieldValue)>) -> Self {
        Self(fields.into_iter().collect())
    }

    /// These and then those of `more`; where both have a name, the value of `more` is taken.
    #[must_use]
    pub fn and(&self, more: &Self) -> Self {
        let kept = self.0.iter().filter(|(name, _)| more.0.iter().all(|(other, _)| other != name));
        Self(kept.chain(more.0.iter()).cloned().collect())
    }

    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let value = |value| match value {
            &FieldValue::Bool(value) => Value::Bool(value),
            &FieldValue::Integer(value) => Value::Int(value),
            FieldValue::Text(text) => Value::Text(text),
        };
        self.0.iter().map(move |(name, of)| (name.as_str(), value(of)))
    }
}

/// What is wrong with the names in `[sensor.fields]` for the schema: those that it has itself.
#[must_use]
pub fn check(config: &Config) -> Vec<Problem> {
    let taken = |name: &str| {
        let fields = [Stream::Slices, Stream::Alerts].into_iter().flat_map(Stream::fields);
        fields.map(|field| field.name.split('.').next().unwrap_or(field.name)).any(|n| n == name)
    };
    let names = config.sensor.fields.keys().filter(|name| taken(name));
    let problem = |name: &String| Problem {
        file: String::new(),
        line: None,
        key: format!("sensor.fields.{name}"),
        message: "records have a field of that name (docs/schema.md)".to_owned(),
    };
    names.map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_schema_are_refused() {
        let mut config = Config::default();
        let mut put = |name: &str| {
            config.sensor.fields.insert(name.to_owned(), FieldValue::Bool(true));
        };
        ["tenant", "src_ip", "rule", "evidence", "excluded", "level"]
            .into_iter()
            .for_each(&mut put);
        let keys: Vec<String> = check(&config).into_iter().map(|problem| problem.key).collect();
        let want = ["evidence", "excluded", "rule", "src_ip"];
        assert_eq!(keys, want.map(|name| format!("sensor.fields.{name}")));
    }

    #[test]
    fn a_sink_adds_its_own() {
        let text = |text: &str| FieldValue::Text(text.to_owned());
        let all = Fields::new([("a".to_owned(), text("x")), ("b".to_owned(), text("y"))]);
        let more = Fields::new([("a".to_owned(), FieldValue::Integer(-1))]);
        let both = all.and(&more);
        let found: Vec<_> = both.iter().collect();
        assert_eq!(found, [("b", Value::Text("y")), ("a", Value::Int(-1))]);
    }
}
