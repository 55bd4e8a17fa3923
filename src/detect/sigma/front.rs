//! Rule text to documents: the one place that calls `rsigma-parser`, so that it can be replaced.

use std::borrow::Cow;
use std::collections::HashMap;

use rsigma_parser::{
    CorrelationRule, FilterRule, SigmaCollection, SigmaParserError, SigmaRule, parse_sigma_yaml,
};

use super::reason::Reason;
use super::shape::{self, Passed};
use super::terms::{self, Terms, Threshold, Wrong};
use super::{meta, operators, plain, wording};

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
    /// Its first line, from 1; of one that cannot be read the line at fault.
    pub line: u32,
    /// What it says, from its first line on.
    pub text: &'a str,
    /// Its title, as far as it has one.
    pub title: Option<String>,
    /// Its id, as far as it has one.
    pub id: Option<String>,
    /// What the parser took offence at without giving the rule up.
    pub notes: Vec<String>,
    /// What the parser passes over, a misspelt level for example.
    pub passed: Vec<Passed>,
    /// What is in it.
    pub body: Result<Body, Reason>,
}

impl Document<'_> {
    /// Its id, or what it is known by without one; of filters, which need none, nothing.
    pub(super) fn known_by(&self) -> Option<String> {
        match (&self.id, &self.title, &self.body) {
            (Some(id), ..) => Some(id.clone()),
            (None, _, Ok(Body::Filter(_))) => None,
            (None, title, _) => title.as_deref().map(meta::title_id),
        }
    }
}

/// The kinds of documents.
#[derive(Debug)]
pub(super) enum Body {
    /// A rule over single flows.
    Rule(Box<SigmaRule>),
    /// A correlation of rules, and the numbers of its condition as written; none if they stand in
    /// another document of the collection.
    Correlation(Box<CorrelationRule>, Vec<Threshold>),
    /// A condition that is added to other rules.
    Filter(Box<FilterRule>),
}

/// The text of one document, and its first line.
#[derive(Clone, Copy, Debug)]
struct Chunk<'a> {
    line: u32,
    text: &'a str,
}

impl<'a> Chunk<'a> {
    /// It cannot be read because of something on `line`.
    fn broken(self, reason: Reason, line: u32) -> Document<'a> {
        let text = self.text;
        let (title, id) = (top_level(text, "title"), top_level(text, "id"));
        let (notes, passed) = (Vec::new(), Vec::new());
        Document { line, text, title, id, notes, passed, body: Err(reason) }
    }

    /// A term of its correlation, or of its filter, is wrong.
    fn wrong(self, wrong: Wrong) -> Document<'a> {
        if has_key(self.text, "correlation") {
            let line = line_of_word(self.text, self.line, wrong.key);
            return self.broken(Reason::Correlation(wrong.why), line);
        }
        let line = line_of_key(self.text, self.line, wrong.key);
        let slips = self.slips();
        let line = line_of_slip(&slips, wrong.key).unwrap_or(line);
        self.broken(Reason::Filter(with(wrong.why, &slips)), line)
    }

    /// It cannot be read for a reason that the parser gives, of a text that begins at the line
    /// `begins`.
    fn broken_by(self, error: &str, begins: u32) -> Document<'a> {
        let said = wording::of(error, self.text);
        let (words, in_yaml) = in_file(&said.words, begins);
        // A key that is missing may be there, misspelt.
        let slips = if error.starts_with("Missing") { self.slips() } else { Vec::new() };
        let by_slip = slips.first().map(|slip| slip.line);
        let by_key = said.key.map(|key| line_of_key(self.text, self.line, &key));
        let line = by_slip.or(in_yaml).or(by_key).unwrap_or(self.line);
        self.broken(syntax(with(words, &slips), error, self.text), line)
    }

    /// It has a merge key, which the parser would take for a field, or pass over.
    fn merging(self) -> Option<Document<'a>> {
        let is_there = self.text.contains("<<") && shape::has_key(self.text, "<<");
        let words = "YAML 1.2 has no merge keys (`<<`): write the items out, or name both selections in \
                     the condition";
        let line = line_of_key(self.text, self.line, "<<");
        is_there.then(|| self.broken(Reason::Syntax(words.to_owned()), line))
    }

    /// The keys that are slips of others.
    fn slips(self) -> Vec<Passed> {
        let mut passed = shape::read(self.text, self.line).0;
        passed.retain(|passed| passed.text.contains("did you mean"));
        passed
    }
}

/// The line of the slip of `key`.
fn line_of_slip(slips: &[Passed], key: &str) -> Option<u32> {
    let of = format!("did you mean `{key}`?");
    slips.iter().find(|slip| slip.text.contains(&of)).map(|slip| slip.line)
}

/// What is wrong, and what was passed over.
fn with(words: String, passed: &[Passed]) -> String {
    passed.iter().fold(words, |words, passed| format!("{words}; {}", passed.text))
}

/// Splits `text` into its documents and parses each. Documents that hold no rule of their own
/// (empty ones, `action: global`) are not in the result.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let chunks = chunks(text);
    if chunks.iter().any(|chunk| top_level(chunk.text, "action").is_some()) {
        return parse(text, &chunks);
    }
    chunks.iter().flat_map(|&chunk| parse(chunk.text, &[chunk])).collect()
}

/// The line on which `key` is used as a mapping key in `text`, which begins at the line `from`; else
/// `from`. A key that begins a line goes before one within braces.
pub(super) fn line_of_key(text: &str, from: u32, key: &str) -> u32 {
    let begins = text.lines().position(|line| begins_with_key(line, key));
    let found = begins.or_else(|| text.lines().position(|line| has_key_within(line, key)));
    found.map_or(from, |at| from + u32::try_from(at).unwrap_or(0))
}

/// What follows a key.
fn ends_key(rest: &str) -> bool {
    rest.starts_with([':', '|', '\'', '"'])
}

fn begins_with_key(line: &str, key: &str) -> bool {
    let rest = line.trim_start().trim_start_matches("- ").trim_start_matches(['\'', '"']);
    rest.strip_prefix(key).is_some_and(ends_key)
}

/// Whether the line has the key in braces.
fn has_key_within(line: &str, key: &str) -> bool {
    line.match_indices(key).any(|(at, _)| {
        let before = line[..at].trim_end_matches(['\'', '"']).trim_end();
        before.ends_with(['{', ',', '[']) && ends_key(&line[at + key.len()..])
    })
}

/// The line on which `value` stands below `key`, or beside it, in `text`, which begins at the line
/// `from`.
pub(super) fn line_of_value(text: &str, from: u32, key: &str, value: &str) -> Option<u32> {
    let mut below = false;
    for (number, line) in (from..).zip(text.lines()) {
        if begins_with_key(line, key) || has_key_within(line, key) {
            below = true;
        } else if !line.trim_start().starts_with("- ") {
            below = false;
        }
        if below && line.contains(value) {
            return Some(number);
        }
    }
    None
}

/// The first line of a correlation, which begins at `from`, that has `word`; else `from`.
pub(super) fn line_of_word(text: &str, from: u32, word: &str) -> u32 {
    let in_word = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let has_it = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + word.len()..]);
            !before.ends_with(in_word) && !after.starts_with(in_word)
        })
    };
    let lines = (from..).zip(text.lines());
    let mut body = lines.skip_while(|(_, line)| !line.starts_with("correlation"));
    body.find(|(_, line)| has_it(line)).map_or(from, |(number, _)| number)
}

/// The documents as text, each with its first line. `---` at the start of a line ends a document
/// wherever it stands, also inside a block scalar (YAML 1.2 §9.1.4).
fn chunks(text: &str) -> Vec<Chunk<'_>> {
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
fn trimmed(line: u32, chunk: &str) -> Option<Chunk<'_>> {
    let idle = |l: &&str| {
        let l = l.trim();
        l.is_empty() || l.starts_with('#') || l == "---" || l == "..."
    };
    let (mut skipped, mut octets) = (0, 0);
    for line in chunk.split_inclusive('\n').take_while(idle) {
        (skipped, octets) = (skipped + 1, octets + line.len());
    }
    (octets < chunk.len()).then(|| Chunk { line: line + skipped, text: &chunk[octets..] })
}

/// Parses `text`, whose documents are `chunks`: one, or the parts of a collection, where one builds
/// on another (`action: global | reset | repeat`).
fn parse<'a>(text: &'a str, chunks: &[Chunk<'a>]) -> Vec<Document<'a>> {
    let &[first, ..] = chunks else { return Vec::new() };
    let alone = chunks.len() == 1;
    if alone
        && text.len() <= DOCUMENT_MAX
        && let Some(rule) = plain::rule(text)
    {
        let (title, id) = (Some(rule.title.clone()), rule.id.clone());
        let (line, body) = (first.line, Ok(Body::Rule(Box::new(rule))));
        let (notes, passed) = (Vec::new(), Vec::new());
        return vec![Document { line, text, title, id, notes, passed, body }];
    }
    let limits = within_limits(text);
    let limits = if alone { limits } else { limits.and_then(|()| shares_little(text, chunks)) };
    if let Err(reason) = limits {
        return vec![first.broken(reason, first.line)];
    }
    if let Some(broken) = chunks.iter().find_map(|chunk| chunk.merging()) {
        return vec![broken];
    }
    let (terms, readable) = match terms_of(text, chunks) {
        Ok(terms) => terms,
        Err(broken) => return vec![*broken],
    };
    let begins = if alone { first.line } else { 1 };
    let (errors, mut found) = match read(&readable) {
        Err(error) => return vec![first.broken_by(&error.to_string(), begins)],
        Ok(collection) => {
            let errors = collection.errors.clone();
            (errors, listed(collection, chunks, &terms))
        }
    };
    let mut said_by = None;
    for error in errors {
        match found.first_mut() {
            // What the parser says of a document that it takes all the same.
            Some(document) if alone || is_note(&error) => {
                if !shape::tells(&error) {
                    document.notes.push(error);
                }
            }
            _ => {
                let said_by = said_by.get_or_insert_with(|| errors_of(chunks));
                // An empty document, which is none.
                let is_none = !alone && error.contains("is not a YAML mapping");
                if !is_none || said_by.contains_key(&error) {
                    let chunk = faulty(chunks, &error, said_by);
                    found.push(chunk.broken_by(&error, begins));
                }
            }
        }
    }
    look_over(&mut found, chunks);
    found
}

/// Tells what the parser passed over, and rejects what it took for another than it is. A level counts
/// in any case of its letters.
fn look_over(found: &mut [Document<'_>], chunks: &[Chunk<'_>]) {
    let places = found.iter().enumerate().map(|(at, document)| (document.line, at));
    let places: HashMap<u32, usize> = places.collect();
    for chunk in chunks {
        let word = top_level(chunk.text, "level");
        if let Some(level) = word.and_then(|word| word.to_lowercase().parse().ok()) {
            // What is global is every document's.
            let own = places.get(&chunk.line).map_or(0..found.len(), |&at| at..at + 1);
            for document in &mut found[own] {
                match &mut document.body {
                    Ok(Body::Rule(rule)) => rule.level = rule.level.or(Some(level)),
                    Ok(Body::Correlation(rule, _)) => rule.level = rule.level.or(Some(level)),
                    _ => {}
                }
            }
        }
        let at = places.get(&chunk.line).copied().unwrap_or(0);
        let Some(document) = found.get_mut(at).filter(|document| document.body.is_ok()) else {
            continue;
        };
        let (passed, nested) = shape::read(chunk.text, chunk.line);
        document.passed.extend(passed);
        if let Some((field, what)) = nested {
            document.line = line_of_key(chunk.text, chunk.line, &field);
            let expected = "a text, a number, true, false or null, or a list of these".into();
            document.body = Err(Reason::Value { field, value: what.to_owned(), expected });
        }
    }
}

/// Whether the parser says it of a document that it takes.
fn is_note(error: &str) -> bool {
    const NOTES: [&str; 5] = [
        "invalid level: ",
        "invalid status: ",
        "invalid sigma-version: ",
        "'related' ",
        "related[",
    ];
    NOTES.iter().any(|note| error.starts_with(note))
}

/// What the parser says of each of the documents alone, each with the first of which it says that.
fn errors_of(chunks: &[Chunk<'_>]) -> HashMap<String, usize> {
    let mut said = HashMap::new();
    for (at, chunk) in chunks.iter().enumerate() {
        for error in read(chunk.text).map_or_else(|_| Vec::new(), |found| found.errors) {
            said.entry(error).or_insert(at);
        }
    }
    said
}

/// The document of a collection that the parser means.
fn faulty<'a>(chunks: &[Chunk<'a>], error: &str, said_by: &HashMap<String, usize>) -> Chunk<'a> {
    let line = in_file(error, 1).1.filter(|_| error.starts_with("YAML"));
    let at = match line {
        Some(line) => chunks.partition_point(|chunk| chunk.line <= line).saturating_sub(1),
        None => said_by.get(error).copied().unwrap_or(0),
    };
    chunks[at]
}

/// The terms of each chunk that is a correlation, and the text for the parser. What is not whole
/// without the other documents of a collection has none.
fn terms_of<'a>(
    text: &'a str,
    chunks: &[Chunk<'a>],
) -> Result<(Vec<Terms>, Cow<'a, str>), Box<Document<'a>>> {
    let alone = chunks.len() == 1;
    let mut all = Vec::with_capacity(chunks.len());
    for &chunk in chunks {
        let terms = match (has_key(chunk.text, "correlation"), has_key(chunk.text, "filter")) {
            (true, _) => terms::read(chunk.text),
            (_, true) => terms::read_filter(chunk.text),
            _ => Ok(Terms::default()),
        };
        match terms {
            Ok(terms) => all.push(terms),
            Err(wrong) if alone => return Err(Box::new(chunk.wrong(wrong))),
            Err(_) => all.push(Terms::default()),
        }
    }
    if all.iter().all(|terms| terms.readable.is_none()) {
        return Ok((all, Cow::Borrowed(text)));
    }
    let parts = chunks.iter().zip(&all);
    let parts = parts.map(|(chunk, terms)| terms.readable.as_deref().unwrap_or(chunk.text));
    let readable = parts.collect::<Vec<_>>().join("\n---\n");
    Ok((all, Cow::Owned(readable)))
}

/// The parser's error `text` with its `line N` as lines of the file, of which its text begins at
/// the line `begins`, and the last of them.
fn in_file(text: &str, begins: u32) -> (String, Option<u32>) {
    let mut parts = text.split("line ");
    let mut said = parts.next().unwrap_or_default().to_owned();
    let mut last = None;
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let line = part[..digits].parse::<u32>().ok().map(|line| line.saturating_add(begins - 1));
        last = line.or(last);
        said.push_str("line ");
        said.push_str(&line.map_or(String::new(), |line| line.to_string()));
        said.push_str(&part[digits..]);
    }
    (said, last)
}

/// Rejects a collection whose documents would multiply what they share: each of them becomes a copy
/// of what is global at its place, or, where documents repeat others, of the whole text at worst.
fn shares_little(text: &str, chunks: &[Chunk<'_>]) -> Result<(), Reason> {
    let shared = chunks.iter().filter_map(|chunk| {
        let is_global = top_level(chunk.text, "action")? == "global";
        Some(if is_global { chunk.text.len() } else { text.len() })
    });
    if shared.max().unwrap_or(0).saturating_mul(chunks.len()) > SHARED_MAX {
        let what = "the octets that the documents of a collection share, times their number";
        return Err(Reason::TooLarge { what, max: SHARED_MAX });
    }
    Ok(())
}

/// Parses `text`; where that finds an error in a condition, once more with its operators in small
/// letters.
fn read(text: &str) -> Result<SigmaCollection, SigmaParserError> {
    let parsed = parse_sigma_yaml(text)?;
    if !parsed.errors.iter().any(|error| error.contains("Condition parse error")) {
        return Ok(parsed);
    }
    let again = parse_sigma_yaml(&operators::in_small_letters(text))?;
    Ok(if again.errors.len() < parsed.errors.len() { again } else { parsed })
}

/// What the parser found, each at the chunk that has its id or else its title.
fn listed<'a>(
    collection: SigmaCollection,
    chunks: &[Chunk<'a>],
    terms: &[Terms],
) -> Vec<Document<'a>> {
    let by = |key| {
        let mut places = HashMap::new();
        for (at, chunk) in chunks.iter().enumerate() {
            if let Some(value) = top_level(chunk.text, key) {
                places.entry(value).or_insert(at);
            }
        }
        places
    };
    let (titles, ids) = (by("title"), by("id"));
    let place = |title: &str, id: Option<&str>| {
        let found = id.and_then(|id| ids.get(id)).or_else(|| titles.get(title));
        found.copied().unwrap_or(0)
    };
    let document = |title: String, id: Option<String>, at: usize, body| {
        let Chunk { line, text } = chunks[at];
        let (notes, passed) = (Vec::new(), Vec::new());
        Document { line, text, title: Some(title), id, notes, passed, body: Ok(body) }
    };
    let rules = collection.rules.into_iter().map(|rule| {
        let (title, id) = (rule.title.clone(), rule.id.clone());
        let at = place(&title, id.as_deref());
        document(title, id, at, Body::Rule(Box::new(rule)))
    });
    let correlations = collection.correlations.into_iter().map(|rule| {
        let (title, id) = (rule.title.clone(), rule.id.clone());
        let at = place(&title, id.as_deref());
        let Terms { thresholds, notes, .. } = &terms[at];
        let body = Body::Correlation(Box::new(rule), thresholds.clone());
        Document { notes: notes.clone(), ..document(title, id, at, body) }
    });
    let filters = collection.filters.into_iter().map(|filter| {
        let (title, id) = (filter.title.clone(), filter.id.clone());
        let at = place(&title, id.as_deref());
        document(title, id, at, Body::Filter(Box::new(filter)))
    });
    rules.chain(correlations).chain(filters).collect()
}

/// An error of the parser in our words as a reason; correlations, however they are written, get theirs.
fn syntax(words: String, error: &str, chunk: &str) -> Reason {
    if has_key(chunk, "correlation") {
        return Reason::Correlation(words);
    }
    let condition = chunk.lines().find_map(|l| l.trim_start().strip_prefix("condition:"));
    if let Some(condition) = condition
        && error.starts_with("Condition")
        && condition.contains('|')
    {
        return Reason::Aggregation(condition.trim().to_owned());
    }
    Reason::Syntax(words)
}

fn has_key(chunk: &str, key: &str) -> bool {
    chunk.lines().any(|l| l.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')))
}

/// The plain value of a key at the left margin.
fn top_level(chunk: &str, key: &str) -> Option<String> {
    let value = chunk.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    let value = value.trim();
    let plain = !value.starts_with(['[', '{', '|', '>', '&', '*', '!']);
    let value = value.trim_matches(['\'', '"']);
    (plain && !value.is_empty()).then(|| value.to_owned())
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
            Ok(Body::Correlation(..)) => "correlation",
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
        check("a byte order mark", &format!("\u{feff}{rule}"), &[(1, "rule")]);
        check("comment first", &format!("# c\n\n{rule}"), &[(3, "rule")]);
        check("two", &format!("{rule}---\n{rule}"), &[(1, "rule"), (7, "rule")]);
        check("trailing marker", &format!("---\n{rule}---\n# end\n"), &[(2, "rule")]);
        check("empty", "", &[]);
        check("broken second", &format!("{rule}---\na: [\n"), &[(1, "rule"), (8, "syntax")]);
        check("no mapping", "- a\n- b\n", &[(1, "syntax")]);
        let pipe = format!("{RULE}  condition: s | count() by src_ip > 5\n");
        check("aggregation", &pipe, &[(5, "aggregation")]);
        let other = "title: C\ncorrelation: {type: event_count, rules: [a], timespan: 1m,\n  \
                     group-by: [a], condition: {gt: 1}}\n---\ntitle: F\nfilter: {rules: [a], \
                     s: {dst_port: 1}, condition: not s}\n";
        check("not rules", other, &[(1, "correlation"), (5, "filter")]);
        let global = format!("action: global\n{rule}---\nid: a\n---\nid: b\n");
        check("collection", &global, &[(8, "rule"), (10, "rule")]);
    }

    #[test]
    fn faults_are_told_by_the_lines_of_the_file() {
        let rule = format!("{RULE}  condition: s\n");
        let second = format!("{rule}---\n# c\ntitle: T\nx: 'a\n  b': c: d\n");
        let global = format!("action: global\nlevel: low\n---\n{rule}---\nx: [\n");
        for (name, text, line) in [
            ("alone", "title: T\nx: y: z\n".to_owned(), 2),
            ("second", second, 10),
            ("of a collection", global, 11),
            ("in a condition", format!("{rule}---\n{RULE}  condition: s and\n"), 11),
        ] {
            let documents = documents(&text);
            let broken = documents.iter().find(|d| d.body.is_err()).expect("a broken one");
            let Err(reason) = &broken.body else { unreachable!("it is broken") };
            assert_eq!(broken.line, line, "{name}: {reason}");
            let said = reason.to_string();
            let of_yaml = !name.contains("condition");
            assert_eq!(said.contains(&format!("line {line} ")), of_yaml, "{name}: {said}");
        }
        let said = in_file("at line 3 column 1, in line x", 10);
        assert_eq!(said, ("at line 12 column 1, in line x".to_owned(), Some(12)));
    }

    #[test]
    fn a_level_counts_in_any_case() {
        let rule = format!("{RULE}  condition: s\n");
        for text in [
            format!("{rule}level: High\n"),
            format!("{rule}level: \"HIGH\"\n"),
            format!("action: global\nlevel: HIGH\n---\n{rule}"),
        ] {
            let documents = documents(&text);
            let Ok(Body::Rule(rule)) = &documents[0].body else { panic!("{text}") };
            assert_eq!(rule.level, Some(rsigma_parser::Level::High), "{text}");
        }
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
