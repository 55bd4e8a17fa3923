//! Fields of the operator's own, after those of the schema: the same value on every record.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Field, Stream, Value};
use crate::config::{Config, FieldValue, Problem};
use crate::output::format::Template;

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

/// What is wrong with names in the configuration for the schema: fields of the operator's own under
/// a name that records have, and fields of a sink that its records lack.
#[must_use]
pub fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |key: String, message: &str| {
        problems.push(Problem { file: String::new(), line: None, key, message: message.into() });
    };
    let mut own = |key: String, fields: &BTreeMap<String, FieldValue>| {
        let taken = |name: &&String| [Stream::Slices, Stream::Alerts].iter().any(|s| s.has(name));
        for name in fields.keys().filter(taken) {
            add(format!("{key}.{name}"), "records have a field of that name (docs/schema.md)");
        }
    };
    own("sensor.fields".into(), &config.sensor.fields);
    for (key, table) in config.output.tables() {
        own(format!("{key}.add"), table.taking().add);
    }
    for (key, table) in config.output.tables() {
        let stream = Stream::from(table.taking().select);
        for (index, name) in table.taking().fields.iter().enumerate() {
            if stream.index_of(name).is_none() && !stream.has(name) {
                let key = format!("{key}.fields[{index}]");
                add(key, "is no field of these records (docs/schema.md)");
            }
        }
    }
    for (index, sink) in config.output.webhook.iter().enumerate() {
        let own = Fields::new(config.sensor.fields.clone()).and(&Fields::new(sink.add.clone()));
        let template = Template::check(&sink.template, sink.select.into(), &own);
        if let Err(error) = template {
            let key = format!("output.webhook[{index}].template");
            let message = error.to_string();
            problems.push(Problem { file: String::new(), line: None, key, message });
        }
    }
    problems
}

impl Stream {
    /// Whether its records have a member `name` at the top.
    #[must_use]
    pub fn has(self, name: &str) -> bool {
        let top = |field: &Field| field.name.split('.').next() == Some(name);
        self.table().iter().any(top)
    }
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
        let mut config = Config::default();
        let mut files = crate::config::Files::default();
        files.add.insert("sensor".to_owned(), FieldValue::Bool(true));
        files.fields = ["src_ip", "rule", "rule.id"].map(str::to_owned).into();
        config.output.files = vec![files.clone(), files];
        config.output.files[1].select = crate::config::Select::Alerts;
        let keys: Vec<String> = check(&config).into_iter().map(|problem| problem.key).collect();
        let want = ["[0].add.sensor", "[1].add.sensor", "[0].fields[1]", "[0].fields[2]"];
        assert_eq!(keys, want.map(|name| format!("output.files{name}")));
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
