//! Placeholders: names that stand for values of the site (`%Servers%`), filled in by `|expand`.

use std::collections::BTreeMap;

use yaml_serde::Value;

/// Values by name, without the percent signs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placeholders(BTreeMap<String, Vec<String>>);

/// Why a file is no file of placeholders.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlaceholderError {
    /// No YAML, or no mapping.
    #[error("not a mapping of names to lists of values: {0}")]
    Syntax(String),
    /// A name of none of the allowed forms.
    #[error("`{0}` is no name of a placeholder: letters, digits, `_`, `-` and `.`")]
    Name(String),
    /// No value, or one that is not plain.
    #[error("`{0}` has to have a text, a number, or a list of at least one of them")]
    Values(String),
}

impl Placeholders {
    /// Reads a YAML mapping from names, with or without percent signs, to a value or a list of
    /// values.
    ///
    /// # Errors
    /// [`PlaceholderError`], which names the entry at fault.
    pub fn parse(text: &str) -> Result<Self, PlaceholderError> {
        let syntax = |error: String| PlaceholderError::Syntax(error);
        let value: Value = yaml_serde::from_str(text).map_err(|e| syntax(e.to_string()))?;
        let mapping = match value {
            Value::Null => return Ok(Self::default()),
            Value::Mapping(mapping) => mapping,
            _ => return Err(syntax("found something else".to_owned())),
        };
        let mut all = Self::default();
        for (name, values) in mapping {
            let written = plain(&name).unwrap_or_else(|| format!("{name:?}"));
            let name = written.trim_matches('%').to_owned();
            let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
            if name.is_empty() || !name.chars().all(is_name) || all.0.contains_key(&name) {
                return Err(PlaceholderError::Name(written));
            }
            let values: Option<Vec<String>> = match &values {
                Value::Sequence(values) => values.iter().map(plain).collect(),
                one => plain(one).map(|value| vec![value]),
            };
            let values = values.filter(|values| !values.is_empty());
            let values = values.ok_or(PlaceholderError::Values(written))?;
            all.0.insert(name, values);
        }
        Ok(all)
    }

    /// Gives `name` these values.
    pub fn insert<T: Into<String>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        self.0.insert(name.to_owned(), values.into_iter().map(Into::into).collect());
    }

    /// The values of `name`; `None` if nothing gives it any.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_give_names_one_value_or_several() {
        let text = "Servers: [10.0.0.1, 10.0.1.0/24]\n'%Ports%': 443\nnames:\n  - a*\n  - 'b'\n";
        let all = Placeholders::parse(text).expect("a good file");
        assert_eq!(all.get("Servers"), Some(&["10.0.0.1".to_owned(), "10.0.1.0/24".into()][..]));
        assert_eq!(all.get("Ports"), Some(&["443".to_owned()][..]));
        assert_eq!((all.get("names").map(<[String]>::len), all.get("ports")), (Some(2), None));
        assert_eq!(Placeholders::parse("# nothing\n"), Ok(Placeholders::default()));
        for (bad, word) in [
            ("- a\n", "mapping"),
            ("a: [\n", "mapping"),
            ("a b: x\n", "`a b` is no name"),
            ("a: []\n", "`a` has to have"),
            ("a: null\n", "`a` has to have"),
            ("a: [[x]]\n", "`a` has to have"),
            ("a: 1\n'%a%': 2\n", "`%a%` is no name"),
        ] {
            let error = Placeholders::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
