//! Rule text to documents: the one place that calls `rsigma-parser`, so that it can be replaced.

use std::collections::HashMap;

use rsigma_parser::{CorrelationRule, FilterRule, SigmaCollection, SigmaRule, parse_sigma_yaml};

use super::reason::Reason;
use super::{keys, operators, plain};

/// Parentheses or `not`s that a condition may nest; what the parser itself allows, checked
/// beforehand because it recurses before it counts.
const NESTING_MAX: usize = 64;
/// Octets of one document.
const DOCUMENT_MAX: usize = 1 << 20;
/// Octets that the documents of a collection share, times their number.
const SHARED_MAX: usize = 32 << 20;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    /// Its first line, from 1.
    pub line: u32,
    /// What it says, from that line on.
    pub text: &'a str,
    /// Its title, as far as it has one.
    pub title: Option<String>,
    /// Its id, as far as it has one.
    pub id: Option<String>,
    /// What the parser took offence at without giving the rule up, a misspelt level for example.
    pub notes: Vec<String>,
    /// What is in it.
    pub body: Result<Body, Reason>,
}

/// The kinds of documents.
#[derive(Debug)]
pub(super) enum Body {
    /// A rule over single flows.
    Rule(Box<SigmaRule>),
    /// A correlation of rules.
    Correlation(Box<CorrelationRule>),
    /// A condition that is added to other rules.
    Filter(Box<FilterRule>),
}

/// Splits `text` into its documents and parses each. Documents that hold no rule of their own
/// (empty ones, `action: global`) are not in the result.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let chunks = chunks(text);
    let collection = chunks.iter().any(|(_, chunk)| top_level(chunk, "action").is_some());
    if collection {
        return collected(text, &chunks);
    }
    chunks.iter().flat_map(|(line, chunk)| parse(*line, chunk)).collect()
}

/// The line on which `key` is used as a mapping key in `text`, which begins at the line `from`; else
/// `from`.
pub(super) fn line_of_key(text: &str, from: u32, key: &str) -> u32 {
    let found = text.lines().position(|line| {
        let rest = line.trim_start().trim_start_matches("- ").trim_start_matches(['\'', '"']);
        rest.strip_prefix(key).is_some_and(|rest| rest.starts_with([':', '|', '\'', '"']))
    });
    found.map_or(from, |at| from + u32::try_from(at).unwrap_or(0))
}

/// The documents as text, each with its first line. `---` at the start of a line ends a document
/// wherever it stands, also inside a block scalar (YAML 1.2 §9.1.4).
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    let mut first_line = 1;
    for (line, content) in (1_u32..).zip(text.split_inclusive('\n')) {
        let after = content.strip_prefix("---");
        let is_marker =
            after.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_marker && offset > start {
            chunks.push((first_line, &text[start..offset]));
            start = offset;
            first_line = line;
        }
        offset += content.len();
    }
    chunks.push((first_line, &text[start..]));
    chunks.into_iter().filter_map(|(line, chunk)| trimmed(line, chunk)).collect()
}

/// Moves the first line past comments, blank lines and the marker; `None` if nothing is left.
fn trimmed(line: u32, chunk: &str) -> Option<(u32, &str)> {
    let idle = |l: &&str| {
        let l = l.trim();
        l.is_empty() || l.starts_with('#') || l == "---" || l == "..."
    };
    let (mut skipped, mut octets) = (0, 0);
    for line in chunk.split_inclusive('\n').take_while(idle) {
        (skipped, octets) = (skipped + 1, octets + line.len());
    }
    (octets < chunk.len()).then_some((line + skipped, &chunk[octets..]))
}

fn parse(line: u32, chunk: &str) -> Vec<Document<'_>> {
    if chunk.len() <= DOCUMENT_MAX
        && let Some(rule) = plain::rule(chunk)
    {
        let (title, id) = (Some(rule.title.clone()), rule.id.clone());
        let (notes, body) = (Vec::new(), Ok(Body::Rule(Box::new(rule))));
        return vec![Document { line, text: chunk, title, id, notes, body }];
    }
    let title = top_level(chunk, "title");
    let id = top_level(chunk, "id");
    let broken = |reason| Document {
        line,
        text: chunk,
        title: title.clone(),
        id: id.clone(),
        notes: Vec::new(),
        body: Err(reason),
    };
    if let Err(reason) = within_limits(chunk) {
        return vec![broken(reason)];
    }
    match read(chunk) {
        Err(error) => vec![broken(Reason::Syntax(error.to_string()))],
        Ok(collection) => {
            let errors = collection.errors.clone();
            let mut found = listed(collection, |_, _| (line, chunk));
            match found.first_mut() {
                Some(rule) => {
                    rule.notes = errors;
                    if has_key(chunk, "correlation") {
                        rule.notes.extend(keys::unread(chunk));
                    }
                }
                None => found.extend(errors.iter().map(|error| broken(syntax(error, chunk)))),
            }
            found
        }
    }
}

/// Files with `action: global | reset | repeat`, where one document builds on another.
fn collected<'a>(text: &'a str, chunks: &[(u32, &'a str)]) -> Vec<Document<'a>> {
    let first = chunks.first().map_or((1, text), |chunk| *chunk);
    let broken = |reason| Document {
        line: first.0,
        text,
        title: None,
        id: None,
        notes: Vec::new(),
        body: Err(reason),
    };
    if let Err(reason) = within_limits(text).and_then(|()| shares_little(text, chunks)) {
        return vec![broken(reason)];
    }
    let by = |key| {
        let mut places = HashMap::new();
        for &chunk in chunks {
            if let Some(value) = top_level(chunk.1, key) {
                places.entry(value).or_insert(chunk);
            }
        }
        places
    };
    let (titles, ids) = (by("title"), by("id"));
    let place = |title: &str, id: Option<&str>| {
        let found = id.and_then(|id| ids.get(id)).or_else(|| titles.get(title));
        found.copied().unwrap_or(first)
    };
    match read(text) {
        Err(error) => vec![broken(Reason::Syntax(error.to_string()))],
        Ok(collection) => {
            let errors = collection.errors.clone();
            let mut found = listed(collection, place);
            found.extend(errors.iter().map(|error| broken(syntax(error, text))));
            found
        }
    }
}

/// Rejects a collection whose documents would multiply what they share: each of them becomes a copy
/// of what is global at its place, or, where documents repeat others, of the whole text at worst.
fn shares_little(text: &str, chunks: &[(u32, &str)]) -> Result<(), Reason> {
    let shared = chunks.iter().filter_map(|(_, chunk)| {
        Some(if top_level(chunk, "action")? == "global" { chunk.len() } else { text.len() })
    });
    if shared.max().unwrap_or(0).saturating_mul(chunks.len()) > SHARED_MAX {
        let what = "the octets that the documents of a collection share, times their number";
        return Err(Reason::TooLarge { what, max: SHARED_MAX });
    }
    Ok(())
}

/// Parses `text`; where that finds an error in a condition, once more with its operators in small
/// letters.
fn read(text: &str) -> Result<SigmaCollection, rsigma_parser::SigmaParserError> {
    let parsed = parse_sigma_yaml(text)?;
    if !parsed.errors.iter().any(|error| error.contains("Condition parse error")) {
        return Ok(parsed);
    }
    let again = parse_sigma_yaml(&operators::in_small_letters(text))?;
    Ok(if again.errors.len() < parsed.errors.len() { again } else { parsed })
}

fn listed<'a>(
    collection: SigmaCollection,
    place: impl Fn(&str, Option<&str>) -> (u32, &'a str),
) -> Vec<Document<'a>> {
    let document = |title: String, id: Option<String>, body| {
        let (line, text) = place(&title, id.as_deref());
        Document { line, text, title: Some(title), id, notes: Vec::new(), body: Ok(body) }
    };
    let rules = collection.rules.into_iter();
    let rules = rules.map(|r| document(r.title.clone(), r.id.clone(), Body::Rule(Box::new(r))));
    let correlations = collection
        .correlations
        .into_iter()
        .map(|c| document(c.title.clone(), c.id.clone(), Body::Correlation(Box::new(c))));
    let filters = collection.filters.into_iter();
    let filters =
        filters.map(|f| document(f.title.clone(), f.id.clone(), Body::Filter(Box::new(f))));
    rules.chain(correlations).chain(filters).collect()
}

/// An error of the parser as a reason; correlations, however they are written, get theirs.
fn syntax(error: &str, chunk: &str) -> Reason {
    if has_key(chunk, "correlation") {
        return Reason::Correlation(words(error));
    }
    let condition = chunk.lines().find_map(|l| l.trim_start().strip_prefix("condition:"));
    if let Some(condition) = condition
        && error.starts_with("Condition")
        && condition.contains('|')
    {
        return Reason::Aggregation(condition.trim().to_owned());
    }
    Reason::Syntax(words(error))
}

/// The parser draws the place of an error over several lines; the first says it in words.
fn words(error: &str) -> String {
    let mut lines = error.lines();
    let head = lines.next().unwrap_or_default().trim();
    let detail = lines.rfind(|l| l.trim_start().starts_with('=')).unwrap_or_default();
    format!("{head} {}", detail.trim_start_matches([' ', '='])).trim().to_owned()
}

fn has_key(chunk: &str, key: &str) -> bool {
    chunk.lines().any(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}

/// The plain value of a key at the left margin.
fn top_level(chunk: &str, key: &str) -> Option<String> {
    let value = chunk.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    let value = value.trim().trim_matches(['\'', '"']);
    (!value.is_empty()).then(|| value.to_owned())
}

/// Rejects what would make the parser recurse without bound.
fn within_limits(chunk: &str) -> Result<(), Reason> {
    if chunk.len() > DOCUMENT_MAX {
        return Err(Reason::TooLarge { what: "the document's size in octets", max: DOCUMENT_MAX });
    }
    let (mut open, mut nots, mut deepest) = (0_usize, 0_usize, 0);
    for line in chunk.lines() {
        // A key or a list item starts a new value.
        let trimmed = line.trim_start();
        if trimmed.starts_with("- ") || trimmed.split_once(':').is_some_and(|(k, _)| is_key(k)) {
            (open, nots) = (0, 0);
        }
        for word in trimmed.split_inclusive([' ', '\t', '(', ')']) {
            let bare = word.trim_end_matches([' ', '\t', '(', ')']);
            if bare.eq_ignore_ascii_case("not") {
                nots += 1;
            } else if !bare.is_empty() {
                nots = 0;
            }
            // Escaped parentheses of a double-quoted text count too.
            let escaped = word.matches("x28").count() + word.matches("0028").count();
            open += word.matches('(').count() + escaped;
            deepest = deepest.max(open + nots);
            open = open.saturating_sub(word.matches(')').count());
        }
    }
    if deepest > NESTING_MAX {
        return Err(Reason::TooLarge { what: "the nesting of a condition", max: NESTING_MAX });
    }
    Ok(())
}

fn is_key(text: &str) -> bool {
    let of_key = |c: char| c.is_alphanumeric() || "_-.|'\"@".contains(c);
    !text.is_empty() && text.chars().all(of_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str =
        "title: T\nlogsource: {category: firewall}\ndetection:\n  s: {dst_port: 1}\n";

    #[track_caller]
    fn check(name: &str, text: &str, want: &[(u32, &str)]) {
        let found = documents(text);
        let kind = |document: &Document<'_>| match &document.body {
            Ok(Body::Rule(_)) => "rule",
            Ok(Body::Correlation(_)) => "correlation",
            Ok(Body::Filter(_)) => "filter",
            Err(reason) => reason.reason(),
        };
        let found: Vec<_> = found.iter().map(|d| (d.line, kind(d))).collect();
        assert_eq!(found, want, "{name}");
    }

    #[test]
    fn documents_keep_their_lines() {
        let rule = format!("{RULE}  condition: s\n");
        check("one", &rule, &[(1, "rule")]);
        check("comment first", &format!("# c\n\n{rule}"), &[(3, "rule")]);
        check("two", &format!("{rule}---\n{rule}"), &[(1, "rule"), (7, "rule")]);
        check("trailing marker", &format!("---\n{rule}---\n# end\n"), &[(2, "rule")]);
        check("empty", "", &[]);
        check("broken second", &format!("{rule}---\na: [\n"), &[(1, "rule"), (7, "syntax")]);
        check("no mapping", "- a\n- b\n", &[(1, "syntax")]);
        let pipe = format!("{RULE}  condition: s | count() by src_ip > 5\n");
        check("aggregation", &pipe, &[(1, "aggregation")]);
        let other = "title: C\ncorrelation: {type: event_count, rules: [a], timespan: 1m,\n  \
                     group-by: [a], condition: {gt: 1}}\n---\ntitle: F\nfilter: {rules: [a], \
                     s: {dst_port: 1}, condition: not s}\n";
        check("not rules", other, &[(1, "correlation"), (5, "filter")]);
        let global = format!("action: global\n{rule}---\nid: a\n---\nid: b\n");
        check("collection", &global, &[(8, "rule"), (10, "rule")]);
    }

    #[test]
    fn deep_nesting_is_refused_before_it_recurses() {
        for condition in
            ["(".repeat(40_000) + "s" + &")".repeat(40_000), "not ".repeat(9_000) + "s"]
        {
            check("deep", &format!("{RULE}  condition: {condition}\n"), &[(1, "too_large")]);
        }
        let fine = format!("{RULE}  condition: {}s{}\n", "(".repeat(30), ")".repeat(30));
        check("thirty", &fine, &[(1, "rule")]);
        check("flow style", &"[".repeat(50_000), &[(1, "syntax")]);
    }
}
