//! The part of YAML that snapshots are written in: block lists and maps, plain and quoted scalars.

use serde_json::{Map, Value};

/// Parses one document.
pub(crate) fn parse(text: &str) -> Value {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<(usize, String)> =
        lines.map(|line| (line.len() - line.trim_start().len(), line.trim().to_owned())).collect();
    node(&mut lines, &mut 0)
}

fn node(lines: &mut Vec<(usize, String)>, at: &mut usize) -> Value {
    let Some((indent, text)) = lines.get(*at).cloned() else { return Value::Null };
    if text.starts_with("- ") {
        let mut list = Vec::new();
        while let Some((_, text)) =
            lines.get(*at).filter(|(i, text)| *i == indent && text.starts_with("- "))
        {
            // The item continues as if it stood on a line of its own.
            lines[*at] = (indent + 2, text[2..].to_owned());
            list.push(node(lines, at));
        }
        return list.into();
    }
    if key(&text).is_none() {
        *at += 1;
        return scalar(&text);
    }
    let mut map = Map::new();
    while let Some((_, text)) = lines.get(*at).filter(|(i, _)| *i == indent).cloned() {
        let Some((name, rest)) = key(&text) else { break };
        *at += 1;
        let nested = lines
            .get(*at)
            .is_some_and(|(i, text)| *i > indent || (*i == indent && text.starts_with("- ")));
        let value = match rest {
            "" if nested => node(lines, at),
            rest => scalar(rest),
        };
        map.insert(name.to_owned(), value);
    }
    map.into()
}

fn key(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['"', '\'']) {
        return None;
    }
    text.split_once(": ").or_else(|| text.strip_suffix(':').map(|name| (name, "")))
}

fn scalar(text: &str) -> Value {
    let single = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    match single {
        Some(single) => single.replace("''", "'").into(),
        None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}
