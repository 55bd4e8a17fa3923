//! The parser's errors in words that say what was found, and what was expected.

use rsigma_parser::parse_condition;
use yaml_serde::Value;

use super::near;
use super::operators;

/// An error of the parser.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Said {
    pub words: String,
    /// The key on whose line the fault is.
    pub key: Option<String>,
}

impl Said {
    fn at(key: &str, words: impl Into<String>) -> Self {
        Self { words: words.into(), key: Some(key.to_owned()) }
    }
}

/// Modifiers of the specification.
const MODIFIERS: &[&str] = &[
    "contains",
    "startswith",
    "endswith",
    "all",
    "exists",
    "cased",
    "neq",
    "re",
    "base64",
    "base64offset",
    "utf16le",
    "utf16be",
    "utf16",
    "wide",
    "windash",
    "lt",
    "lte",
    "gt",
    "gte",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "cidr",
    "expand",
    "fieldref",
];

/// Actions of a collection.
const ACTIONS: &[&str] = &["global", "reset", "repeat"];

/// The parser's `error` about the document `text`.
pub(super) fn of(error: &str, text: &str) -> Said {
    let quoted = |prefix: &str| error.strip_prefix(prefix)?.strip_suffix('\'');
    if error.starts_with("Condition")
        && let Some(said) = condition(text)
    {
        return said;
    }
    if let Some(key) = quoted("Missing required field '") {
        return missing(key);
    }
    if let Some(modifier) = quoted("Unknown modifier '") {
        let hint = near::hint(modifier, MODIFIERS.iter().copied());
        let expected = MODIFIERS.join(", ");
        let words = format!("there is no modifier `{modifier}`{hint}: expected one of {expected}");
        return Said { words, key: item_with(text, modifier) };
    }
    let tail = |prefix: &str| error.strip_prefix(prefix);
    if let Some(yaml) = tail("YAML parse error: ").or_else(|| tail("YAML parsing error: ")) {
        let twice = yaml.split_once("duplicate entry with key \"");
        return match twice.and_then(|(_, key)| key.split_once('"')) {
            Some((key, place)) => {
                Said::at(key, format!("its key `{key}` stands twice in one mapping{place}"))
            }
            None => {
                Said { words: format!("it is no YAML: {yaml}{}", remedy(yaml, text)), key: None }
            }
        };
    }
    if let Some(action) = tail("Unknown collection action: ") {
        let (all, hint) = (ACTIONS.join(", "), near::hint(action, ACTIONS.iter().copied()));
        return Said::at(
            "action",
            format!("there is no `action: {action}`{hint}: expected one of {all}"),
        );
    }
    for (said, key, words) in KNOWN {
        if error.contains(said) {
            return Said { words: (*words).to_owned(), key: key.map(str::to_owned) };
        }
    }
    Said { words: one_line(error), key: None }
}

/// What to do about a value that YAML takes for a part of its own language, in parentheses; empty if that is
/// not known.
fn remedy(yaml: &str, text: &str) -> String {
    let begins = |c: char| format!(" (a value that begins with `{c}` has to be quoted)");
    if yaml.contains("scanning an alias") {
        return begins('*');
    }
    if yaml.contains("unknown escape") {
        return " (a backslash is itself in single quotes only)".to_owned();
    }
    if yaml.contains("mapping values are not allowed") {
        return " (a value that holds `: ` has to be quoted)".to_owned();
    }
    match character_at(yaml, text) {
        Some('\t') => " (YAML is indented with blanks, not with tabs)".to_owned(),
        Some(c @ ('%' | '@' | '`')) => begins(c),
        _ => String::new(),
    }
}

/// The character at the first `line N column M` of an error.
fn character_at(yaml: &str, text: &str) -> Option<char> {
    let (_, place) = yaml.split_once("line ")?;
    let (line, column) = place.split_once(" column ")?;
    let digits = column.split(|c: char| !c.is_ascii_digit()).next()?;
    let (line, column): (usize, usize) = (line.parse().ok()?, digits.parse().ok()?);
    text.lines().nth(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?)
}

/// Part of an error, the key at fault, and what is said instead.
const KNOWN: &[(&str, Option<&str>, &str)] = &[
    (
        "is not a YAML mapping",
        None,
        "it is no mapping: expected keys such as title, logsource and detection",
    ),
    (
        "logsource must be a mapping",
        Some("logsource"),
        "its `logsource` is no mapping: expected `category`, `product` or `service` in it",
    ),
    (
        "Detection section must be a mapping",
        Some("detection"),
        "its `detection` is no mapping: expected selections and a `condition` in it",
    ),
    (
        "condition must be a string or list of strings",
        Some("condition"),
        "its `condition` is no text: expected names of its selections such as `selection and not filter`",
    ),
    (
        "condition list items must be strings",
        Some("condition"),
        "its `condition` has what is no text: expected names of its selections in each",
    ),
];

fn missing(key: &str) -> Said {
    let words = match key {
        "title" => "it has no `title` that is a text".to_owned(),
        "detection" => {
            "it has no `detection`: expected a mapping of selections and a `condition` (or \
                        `correlation`, or `filter`)"
                .to_owned()
        }
        "condition" => {
            "its `detection` has no `condition`: expected names of its selections such as \
                        `selection and not filter`"
                .to_owned()
        }
        "filter.selection" => "its `filter` has no selection".to_owned(),
        _ => format!("it has no `{key}`"),
    };
    let within = if key == "condition" { "detection" } else { key };
    Said::at(within, words)
}

/// The first item (`field|modifiers`) that has the modifier.
fn item_with(text: &str, modifier: &str) -> Option<String> {
    let end = |c: char| c.is_whitespace() || ":'\"|".contains(c);
    let (at, _) = text.match_indices(modifier).find(|&(at, _)| {
        text[..at].ends_with('|') && text[at + modifier.len()..].starts_with(end)
    })?;
    let before = |c: char| c.is_whitespace() || "'\"{,".contains(c);
    let begins = text[..at].rfind(before).map_or(0, |at| at + 1);
    Some(text[begins..at + modifier.len()].to_owned())
}

/// What is wrong with the first condition of the document that has something wrong.
fn condition(text: &str) -> Option<Said> {
    let document: Value = yaml_serde::from_str(text).ok()?;
    let of =
        ["detection", "filter", "correlation"].into_iter().find_map(|key| document.get(key))?;
    let texts: Vec<&str> = match of.get("condition")? {
        Value::String(text) => vec![text],
        Value::Sequence(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    texts.into_iter().find_map(|text| {
        let small = operators::of_condition(text);
        let error = parse_condition(&small).err()?;
        let place = error.location()?;
        let line = text.lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?)?;
        Some(Said::at("condition", unexpected(line, &error.to_string(), place.col)))
    })
}

/// `condition` goes on, at the character `column` from 1, with what is not expected there.
fn unexpected(condition: &str, error: &str, column: u32) -> String {
    let place = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let rest: String = condition.chars().skip(place).collect();
    let word: String =
        rest.chars().take_while(|c| c.is_alphanumeric() || "_-*".contains(*c)).collect();
    let found = match (word.is_empty(), rest.chars().next()) {
        (false, _) => format!("`{word}`"),
        (true, Some(other)) => format!("`{other}`"),
        (true, None) => "its end".to_owned(),
    };
    let rules = error.rsplit_once("expected ").map_or("", |(_, rules)| rules);
    let mut expected: Vec<&str> = Vec::new();
    for rule in rules.split([' ', ',']).filter_map(in_words) {
        if !expected.contains(&rule) {
            expected.push(rule);
        }
    }
    let expected = match &expected[..] {
        [] => String::new(),
        [one] => format!(", expected {one}"),
        [rest @ .., last] => format!(", expected {} or {last}", rest.join(", ")),
    };
    format!("condition `{condition}` has {found} at character {column}{expected}")
}

/// What the rules of the parser's grammar stand for.
fn in_words(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "EOI" => "its end",
        "or_op" => "`or`",
        "and_op" => "`and`",
        "not_op" => "`not`",
        "ident" | "primary" | "expr" => "the name of a selection",
        "selector" | "quantifier" => "`1 of` or `all of` names",
        "selector_target" | "ident_pattern" => "a pattern of names",
        "them_kw" => "`them`",
        "of_kw_inner" => "`of`",
        _ => return None,
    })
}

/// The parser draws the place of an error over several lines; the first says it in words.
fn one_line(error: &str) -> String {
    let mut lines = error.lines();
    let head = lines.next().unwrap_or_default().trim();
    let detail = lines.rfind(|l| l.trim_start().starts_with('=')).unwrap_or_default();
    format!("{head} {}", detail.trim_start_matches([' ', '='])).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_was_found_and_expected() {
        let rule =
            |condition: &str| format!("title: T\ndetection:\n  s: 1\n  condition: {condition}\n");
        let parse = |text: &str| {
            let parsed = rsigma_parser::parse_sigma_yaml(text);
            parsed.map_or_else(|error| error.to_string(), |parsed| parsed.errors.concat())
        };
        for (text, want, key) in [
            (
                rule("s aand t"),
                "condition `s aand t` has `aand` at character 3, expected",
                "condition",
            ),
            (rule("(s"), "condition `(s` has its end at character 3", "condition"),
            (rule("s AND"), "has its end at character 6, expected", "condition"),
            (rule("s )"), "has `)` at character 3", "condition"),
            (rule("1 of"), "has its end at character 5, expected a pattern of names", "condition"),
            (rule("5"), "its `condition` is no text", "condition"),
            (rule("s").replace("  condition: s\n", ""), "has no `condition`", "detection"),
            (rule("s").replace("detection", "x"), "it has no `detection`", "detection"),
            (rule("s").replace("title: T\n", ""), "it has no `title`", "title"),
            (rule("s") + "title: U\n", "its key `title` stands twice", "title"),
            (
                rule("s").replace("s: 1", "s: {a|contians: 1}"),
                "(did you mean `contains`?)",
                "a|contians",
            ),
            (rule("s") + "logsource: firewall\n", "its `logsource` is no mapping", "logsource"),
            ("title: T\ndetection: s\n".to_owned(), "its `detection` is no mapping", "detection"),
            ("- a\n".to_owned(), "it is no mapping", ""),
            ("title: T\naction: globl\n".to_owned(), "(did you mean `global`?)", "action"),
            ("a: b: c\n".to_owned(), "it is no YAML: mapping values", ""),
            ("a: b: c\n".to_owned(), "(a value that holds `: ` has to be quoted)", ""),
            ("a: *dns*\n".to_owned(), "(a value that begins with `*` has to be quoted)", ""),
            ("a: %servers%\n".to_owned(), "(a value that begins with `%` has to be quoted)", ""),
            ("a:\n  b:\n  - @x\n".to_owned(), "(a value that begins with `@`", ""),
            ("a:\n\tb: c\n".to_owned(), "(YAML is indented with blanks, not with tabs)", ""),
            ("a: \"\\d\"\n".to_owned(), "(a backslash is itself in single quotes only)", ""),
        ] {
            let error = parse(&text);
            let said = of(&error, &text);
            assert!(said.words.contains(want), "{text}: {error}: {said:?}");
            assert_eq!(said.key.as_deref().unwrap_or_default(), key, "{text}: {said:?}");
        }
    }
}
