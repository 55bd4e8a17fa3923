//! Rule text to documents: the one place that calls `rsigma-parser`, so that it can be replaced.

use std::borrow::Cow;

use rsigma_parser::{
    CorrelationRule, FilterRule, SigmaCollection, SigmaParserError, SigmaRule, parse_sigma_yaml,
};

use super::collection::{self, Inherited};
use super::lines::{line_of_key, line_of_word};
use super::reason::Reason;
use super::shape::{self, Passed};
use super::terms::{self, Terms, Threshold, Wrong};
use super::{meta, operators, plain, wording};

/// Parentheses or `not`s that a condition may nest; what the parser itself allows, checked
/// beforehand because it recurses before it counts.
const NESTING_MAX: usize = 64;
/// Octets of one document.
const DOCUMENT_MAX: usize = 1 << 20;

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

/// A document as text.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// Its first line, from 1.
    pub line: u32,
    /// What it says itself.
    pub text: &'a str,
    /// That with what it inherits from others of its collection.
    pub whole: Cow<'a, str>,
    /// What was passed over of what it inherits first.
    pub passed: Vec<Passed>,
}

impl<'a> Part<'a> {
    /// A document that inherits nothing.
    pub(super) const fn alone(line: u32, text: &'a str) -> Self {
        Self { line, text, whole: Cow::Borrowed(text), passed: Vec::new() }
    }

    /// It cannot be read because of something on `line`.
    pub(super) fn broken(&self, reason: Reason, line: u32) -> Document<'a> {
        let (text, passed) = (self.text, self.passed.clone());
        let read = |key| match reason {
            Reason::TooLarge { .. } => None,
            _ => shape::text_of(&self.whole, key),
        };
        let name = |key| read(key).or_else(|| top_level(text, key));
        let (title, id, notes) = (name("title"), name("id"), Vec::new());
        Document { line, text, title, id, notes, passed, body: Err(reason) }
    }

    /// A term of its correlation, or of its filter, is wrong.
    fn wrong(&self, wrong: Wrong) -> Document<'a> {
        if has_key(&self.whole, "correlation") {
            let line = line_of_word(self.text, self.line, wrong.key);
            return self.broken(Reason::Correlation(wrong.why), line);
        }
        let line = line_of_key(self.text, self.line, wrong.key);
        let slips = self.slips();
        let line = line_of_slip(&slips, wrong.key).unwrap_or(line);
        self.broken(Reason::Filter(with(wrong.why, &slips)), line)
    }

    /// It cannot be read for a reason that the parser gives.
    pub(super) fn broken_by(&self, error: &str) -> Document<'a> {
        let said = wording::of(error, &self.whole);
        let (words, in_yaml) = in_file(&said.words, self.line);
        // A key that is missing may be there, misspelt.
        let slips = if error.starts_with("Missing") { self.slips() } else { Vec::new() };
        let by_slip = slips.first().map(|slip| slip.line);
        let by_key = said.key.map(|key| line_of_key(self.text, self.line, &key));
        let line = by_slip.or(in_yaml).or(by_key).unwrap_or(self.line);
        self.broken(syntax(with(words, &slips), error, &self.whole), line)
    }

    /// Whether it has a merge key, which the parser would take for a field, or pass over.
    fn merges(&self) -> bool {
        self.whole.contains("<<") && shape::has_key(&self.whole, "<<")
    }

    /// The keys that are slips of others.
    fn slips(&self) -> Vec<Passed> {
        let mut passed = shape::read(self.text, self.line);
        passed.retain(|passed| passed.text.contains("did you mean"));
        passed
    }

    /// The terms, if it is a correlation or a filter.
    fn terms(&self) -> Result<Terms, Wrong> {
        match (has_key(&self.whole, "correlation"), has_key(&self.whole, "filter")) {
            (true, _) => terms::read(&self.whole),
            (_, true) => terms::read_filter(&self.whole),
            _ => Ok(Terms::default()),
        }
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
    let parts = parts(text);
    if !parts.iter().any(|part| top_level(part.text, "action").is_some()) {
        return parts.into_iter().filter_map(parse).collect();
    }
    let limits = within_limits(text).and_then(|()| collection::shares_little(text, &parts));
    if let Err(reason) = limits {
        return vec![parts[0].broken(reason, parts[0].line)];
    }
    let mut inherited = Inherited::default();
    let whole = parts.into_iter().filter_map(|part| match inherited.complete(part) {
        Ok(part) => parse(part?),
        Err(broken) => Some(*broken),
    });
    whole.collect()
}

/// The documents as text, each with its first line. `---` at the start of a line ends a document
/// wherever it stands, also inside a block scalar, and so does `...` (YAML 1.2 §9.1.4).
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut offset = 0;
    let mut first_line = 1;
    for (line, content) in (1_u32..).zip(text.split_inclusive('\n')) {
        let after = content.strip_prefix("---").or_else(|| content.strip_prefix("..."));
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

/// Moves the first line past comments, directives, blank lines and the marker; `None` if nothing is left.
fn trimmed(line: u32, chunk: &str) -> Option<Part<'_>> {
    let idle = |l: &&str| {
        let l = l.trim();
        l.is_empty() || l.starts_with(['#', '%']) || l == "---" || l == "..."
    };
    let (mut skipped, mut octets) = (0, 0);
    for line in chunk.split_inclusive('\n').take_while(idle) {
        (skipped, octets) = (skipped + 1, octets + line.len());
    }
    (octets < chunk.len()).then(|| Part::alone(line + skipped, &chunk[octets..]))
}

/// Parses a document; `None` if it holds nothing.
fn parse(part: Part<'_>) -> Option<Document<'_>> {
    let (line, text) = (part.line, part.text);
    if matches!(part.whole, Cow::Borrowed(_))
        && text.len() <= DOCUMENT_MAX
        && let Some(rule) = plain::rule(text)
    {
        let (title, id) = (Some(rule.title.clone()), rule.id.clone());
        let (notes, passed) = (Vec::new(), Vec::new());
        let body = Ok(Body::Rule(Box::new(rule)));
        return Some(Document { line, text, title, id, notes, passed, body });
    }
    if let Err(reason) = within_limits(&part.whole) {
        return Some(part.broken(reason, line));
    }
    if part.merges() {
        let words = "YAML 1.2 has no merge keys (`<<`): write the items out, or name both selections in \
                     the condition";
        let line = line_of_key(text, line, "<<");
        return Some(part.broken(Reason::Syntax(words.to_owned()), line));
    }
    let terms = match part.terms() {
        Ok(terms) => terms,
        Err(wrong) => return Some(part.wrong(wrong)),
    };
    let readable = terms.readable.as_deref().unwrap_or(&part.whole);
    let mut found = match read(readable) {
        Err(error) => return Some(part.broken_by(&error.to_string())),
        Ok(found) => found,
    };
    let errors = std::mem::take(&mut found.errors);
    let Some(mut document) = document(&part, found, terms) else {
        // Of what it says of a broken document, notes are the least.
        let fault = errors.iter().find(|error| !is_note(error)).or(errors.first());
        return fault.map(|error| part.broken_by(error));
    };
    document.notes.extend(errors.into_iter().filter(|error| !shape::tells(error)));
    look_over(&mut document, part);
    Some(document)
}

/// What the parser found in a document.
fn document<'a>(part: &Part<'a>, found: SigmaCollection, terms: Terms) -> Option<Document<'a>> {
    let SigmaCollection { rules, correlations, filters, .. } = found;
    let rules = rules
        .into_iter()
        .map(|rule| (rule.title.clone(), rule.id.clone(), Vec::new(), Body::Rule(Box::new(rule))));
    let correlations = correlations.into_iter().map(|rule| {
        let (title, id) = (rule.title.clone(), rule.id.clone());
        let Terms { thresholds, notes, .. } = &terms;
        let body = Body::Correlation(Box::new(rule), thresholds.clone());
        (title, id, notes.clone(), body)
    });
    let filters = filters.into_iter().map(|filter| {
        (filter.title.clone(), filter.id.clone(), Vec::new(), Body::Filter(Box::new(filter)))
    });
    let (title, id, notes, body) = rules.chain(correlations).chain(filters).next()?;
    let (line, text, passed) = (part.line, part.text, Vec::new());
    Some(Document { line, text, title: Some(title), id, notes, passed, body: Ok(body) })
}

/// Tells what the parser passed over, and rejects what it took for another than it is. A level counts
/// in any case of its letters.
fn look_over(document: &mut Document<'_>, part: Part<'_>) {
    let (passed, facts) = match &part.whole {
        Cow::Borrowed(text) => shape::both(text, part.line),
        Cow::Owned(whole) => (shape::read(part.text, part.line), shape::facts(whole)),
    };
    let level = facts.level.and_then(|word| word.to_lowercase().parse().ok());
    match &mut document.body {
        Ok(Body::Rule(rule)) => rule.level = rule.level.or(level),
        Ok(Body::Correlation(rule, _)) => rule.level = rule.level.or(level),
        _ => {}
    }
    document.passed.extend(part.passed);
    document.passed.extend(passed);
    if let Some((field, what)) = facts.nested {
        document.line = line_of_key(part.text, part.line, &field);
        let expected = "a text, a number, true, false or null, or a list of these".into();
        document.body = Err(Reason::Value { field, value: what.to_owned(), expected });
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

/// The plain value of a key at the left margin, where the document is no YAML or has not to be read for it.
pub(super) fn top_level(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let quoted = |quote| line.strip_prefix(quote)?.strip_prefix(key)?.strip_prefix(quote);
        let rest = line.strip_prefix(key).or_else(|| quoted('"')).or_else(|| quoted('\''))?;
        let value = rest.trim_start_matches(' ').strip_prefix(':')?;
        value.is_empty().then_some(value).or_else(|| value.strip_prefix([' ', '\t', '\r']))
    })?;
    let value = value.trim();
    let value = match value.chars().next()? {
        '[' | '{' | '|' | '>' | '&' | '*' | '!' | '#' => return None,
        quote @ ('"' | '\'') => value[1..].split(quote).next()?,
        // A comment is no part of it.
        _ => value.split(" #").next()?.trim_end(),
    };
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
        check("a directive", &format!("%YAML 1.2\n---\n{rule}"), &[(3, "rule")]);
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
        use rsigma_parser::Level::{High, Low};
        let rule = |level: &str| format!("{RULE}  condition: s\n{level}\n");
        let row = "{title: T, logsource: {category: firewall}, level: High, detection: {s: {dst_port: \
                   1}, condition: s}}\n";
        for (text, want) in [
            (rule("level: High"), vec![High]),
            (rule("level: \"HIGH\""), vec![High]),
            (rule("level: High # urgent"), vec![High]),
            (rule("level : High"), vec![High]),
            (rule("\"level\": High"), vec![High]),
            (row.to_owned(), vec![High]),
            (format!("action: global\nlevel: HIGH\n---\n{}", rule("")), vec![High]),
            (format!("action: global\nlevel: HIGH\n---\n{}", rule("level: Low")), vec![Low]),
            (format!("{}---\naction: repeat\ntitle: U\n", rule("level: HIGH")), vec![High, High]),
            (format!("{}---\naction: repeat\nlevel: Low\n", rule("level: HIGH")), vec![High, Low]),
        ] {
            let level = |document: &Document<'_>| match &document.body {
                Ok(Body::Rule(rule)) => rule.level.expect("a level"),
                other => panic!("{text}: {other:?}"),
            };
            assert_eq!(documents(&text).iter().map(level).collect::<Vec<_>>(), want, "{text}");
        }
    }

    /// What cannot be read takes no other document away, and each is told by its own line.
    #[test]
    fn each_document_is_broken_by_itself() {
        let rule = |id: &str| format!("{RULE}  condition: s\nid: {id}\n");
        let global = "action: global\nlevel: low\n---\n";
        let broken = "title: N\nid: n # new\nx: [\n";
        let slip = |id: &str| rule(id).replace("condition: s", "condition: s and");
        let nested = "action: global\ndetection: {s: {src_port: {a: 1}}}\n---\n";
        for (name, text, want) in [
            ("first", format!("{global}{broken}---\n{}", rule("a")), [(7, "syntax"), (8, "rule")]),
            (
                "a global one",
                format!("action: global\nx: [\n---\n{}", rule("a")),
                [(3, "syntax"), (4, "syntax")],
            ),
            (
                "repeated",
                format!("{broken}---\naction: repeat\nid: b\n"),
                [(4, "syntax"), (5, "syntax")],
            ),
            (
                "the same twice",
                format!("{global}{}---\n{}", slip("a"), slip("b")),
                [(8, "syntax"), (15, "syntax")],
            ),
            (
                "nested",
                format!("{nested}{}---\n{}", rule("a"), rule("b")),
                [(4, "value"), (11, "value")],
            ),
            (
                "ended by points",
                format!("{}...\n{broken}", rule("a")),
                [(1, "rule"), (11, "syntax")],
            ),
        ] {
            check(name, &text, &want);
        }
        let nested =
            rule("a").replace("  s:", "  rules:").replace("{dst_port: 1}", "{dst_port: {a: 1}}");
        check("called like a key of filters", &nested, &[(4, "value")]);
        let both = slip("a") + "sigma-version: x\n";
        let Err(reason) = &documents(&both)[0].body else { panic!("{both}") };
        assert!(reason.to_string().contains("condition `s and` has its end"), "{reason}");
    }

    #[test]
    fn what_is_broken_is_known_by_its_id() {
        let broken = "title: T\ndetection: [\n";
        let wrong =
            "title: T\nlogsource: {category: firewall}\ndetection: {s: {x: 1}, condition: t and}\n";
        for (text, want) in [
            (format!("{broken}id: a-b # keep\n"), "a-b"),
            (format!("id: 'a-b' # keep\n{broken}"), "a-b"),
            (format!("id : a-b\n{broken}"), "a-b"),
            (format!("\"id\": a-b\n{broken}"), "a-b"),
            (format!("id: a#b\n{broken}"), "a#b"),
            (format!("{wrong}id: a-b # keep\n"), "a-b"),
            ("{title: T, id: a-b, detection: {s: {x: 1}, condition: t and}}".to_owned(), "a-b"),
            (format!("identity: x\n{broken}"), ""),
            (format!("id: # none\n{broken}"), ""),
        ] {
            let documents = documents(&text);
            assert!(documents[0].body.is_err(), "{text}");
            assert_eq!(documents[0].id.as_deref().unwrap_or_default(), want, "{text}");
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
