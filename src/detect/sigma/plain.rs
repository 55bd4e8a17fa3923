//! The YAML that most rules are written in, read fast.
//!
//! A rule of plain keys, scalars on one line and lists of them becomes the same [`SigmaRule`] that
//! `rsigma-parser` makes of it, some ten times faster. Whatever is outside that subset, and whatever
//! is wrong in it, is left to the parser (`None`): this reader never decides that a text is no rule.

use std::collections::HashMap;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, LogSource, Modifier, Quantifier,
    SelectorPattern, SigmaRule, SigmaString, SigmaValue, parse_field_spec,
};

/// Parentheses and `not`s that a condition may nest here; deeper ones are left to the parser.
const NESTING_MAX: usize = 16;
/// Keys of a mapping: each is compared with those before it.
const KEYS_MAX: usize = 512;

/// The rule in `text`, one document, if it is written plainly.
pub(super) fn rule(text: &str) -> Option<SigmaRule> {
    let mut lines = Lines::of(text)?;
    let top = lines.mapping(0)?;
    if lines.next < lines.lines.len() {
        return None;
    }
    let mut fields = Fields(top);
    let rule = SigmaRule {
        title: fields.text("title")??,
        logsource: match fields.take("logsource") {
            Some(Node::Map(entries)) => logsource(entries)?,
            Some(_) => return None,
            None => LogSource::default(),
        },
        detection: match fields.take("detection")? {
            Node::Map(entries) => detections(entries)?,
            Node::Scalar(_) | Node::List(_) => return None,
        },
        sigma_version: None,
        id: fields.text("id")?,
        name: fields.text("name")?,
        related: Vec::new(),
        taxonomy: fields.text("taxonomy")?,
        status: fields.word("status")?,
        description: fields.text("description")?,
        license: fields.text("license")?,
        author: fields.text("author")?,
        references: fields.texts("references")?,
        date: fields.text("date")?,
        modified: fields.text("modified")?,
        fields: fields.texts("fields")?,
        falsepositives: fields.texts("falsepositives")?,
        level: fields.word("level")?,
        tags: fields.texts("tags")?,
        scope: fields.texts("scope")?,
        custom_attributes: HashMap::new(),
    };
    // Any other key has a meaning that this reader does not know.
    fields.0.is_empty().then_some(rule)
}

/// A value of a mapping.
enum Node<'a> {
    Scalar(Scalar<'a>),
    List(Vec<Scalar<'a>>),
    Map(Vec<(&'a str, Node<'a>)>),
}

/// A value on one line.
enum Scalar<'a> {
    Text(&'a str),
    /// A text with doubled single quotes.
    Quoted(String),
    Integer(i64),
    Bool(bool),
}

impl Scalar<'_> {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Quoted(text) => Some(text),
            Self::Integer(_) | Self::Bool(_) => None,
        }
    }

    fn value(&self, raw: bool) -> SigmaValue {
        match self {
            Self::Integer(n) => SigmaValue::Integer(*n),
            Self::Bool(b) => SigmaValue::Bool(*b),
            Self::Text(_) | Self::Quoted(_) => {
                let text = self.text().unwrap_or_default();
                let has_special = text.contains(['*', '?', '\\']);
                let whole = raw || !has_special;
                let string =
                    if whole { SigmaString::from_raw(text) } else { SigmaString::new(text) };
                SigmaValue::String(string)
            }
        }
    }
}

/// The keys of a rule that are still to be read.
struct Fields<'a>(Vec<(&'a str, Node<'a>)>);

impl<'a> Fields<'a> {
    fn take(&mut self, key: &str) -> Option<Node<'a>> {
        let at = self.0.iter().position(|(have, _)| *have == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// `None`: not for this reader. `Some(None)`: there is no such key, or no text under it.
    fn text(&mut self, key: &str) -> Option<Option<String>> {
        match self.take(key) {
            None => Some(None),
            Some(Node::Scalar(scalar)) => Some(scalar.text().map(str::to_owned)),
            Some(_) => None,
        }
    }

    fn word<T: std::str::FromStr>(&mut self, key: &str) -> Option<Option<T>> {
        match self.text(key)? {
            None => Some(None),
            Some(word) => word.parse().ok().map(Some),
        }
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let texts =
            |of: &[Scalar<'_>]| of.iter().filter_map(|s| Some(s.text()?.to_owned())).collect();
        match self.take(key) {
            None => Some(Vec::new()),
            Some(Node::Scalar(scalar)) => Some(texts(&[scalar])),
            Some(Node::List(scalars)) => Some(texts(&scalars)),
            Some(Node::Map(_)) => None,
        }
    }
}

fn logsource(entries: Vec<(&str, Node<'_>)>) -> Option<LogSource> {
    let mut fields = Fields(entries);
    let source = LogSource {
        category: fields.text("category")?,
        product: fields.text("product")?,
        service: fields.text("service")?,
        definition: fields.text("definition")?,
        custom: HashMap::new(),
    };
    fields.0.is_empty().then_some(source)
}

fn detections(entries: Vec<(&str, Node<'_>)>) -> Option<Detections> {
    let mut named = HashMap::with_capacity(entries.len());
    let mut condition = None;
    for (key, node) in entries {
        match (key, node) {
            ("timeframe", _) => return None,
            ("condition", Node::Scalar(scalar)) => condition = Some(scalar.text()?.to_owned()),
            (_, Node::Map(items)) => {
                let items: Option<Vec<DetectionItem>> = items.into_iter().map(item).collect();
                named.insert(key.to_owned(), Detection::AllOf(items?));
            }
            _ => return None,
        }
    }
    let condition = condition?;
    let parsed = Condition::parse(&condition)?;
    Some(Detections {
        named,
        conditions: vec![parsed],
        condition_strings: vec![condition],
        timeframe: None,
    })
}

fn item((key, node): (&str, Node<'_>)) -> Option<DetectionItem> {
    let field = parse_field_spec(key).ok()?;
    let raw = field.has_modifier(Modifier::Re);
    let values = match node {
        Node::Scalar(scalar) => vec![scalar.value(raw)],
        Node::List(scalars) => scalars.iter().map(|scalar| scalar.value(raw)).collect(),
        Node::Map(_) => return None,
    };
    Some(DetectionItem { field, values })
}

/// The lines that hold something: each with its indentation.
struct Lines<'a> {
    lines: Vec<(usize, &'a str)>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let plain = |b: &u8| *b == b'\n' || (0x20..0x7f).contains(b);
        if !text.as_bytes().iter().all(plain) {
            return None;
        }
        let mut lines = Vec::with_capacity(32);
        for line in text.split('\n') {
            let content = line.trim_start_matches(' ');
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if line.starts_with("---") {
                if lines.is_empty() && line.trim_end() == "---" {
                    continue;
                }
                return None;
            }
            lines.push((line.len() - content.len(), content.trim_end_matches(' ')));
        }
        Some(Self { lines, next: 0 })
    }

    /// The mapping that begins at the next line, which is indented by `indent`.
    fn mapping(&mut self, indent: usize) -> Option<Vec<(&'a str, Node<'a>)>> {
        let mut entries: Vec<(&str, Node<'_>)> = Vec::new();
        while let Some(&(at, line)) = self.lines.get(self.next) {
            if at < indent {
                break;
            }
            if at > indent {
                return None;
            }
            self.next += 1;
            let (key, rest) = line.split_once(':')?;
            let known = entries.len() == KEYS_MAX || entries.iter().any(|(known, _)| *known == key);
            if !is_plain_key(key) || known {
                return None;
            }
            let node = match rest.strip_prefix(' ') {
                Some(value) => Node::Scalar(self.scalar(value.trim_start_matches(' '), indent)?),
                None if rest.is_empty() => self.block(indent)?,
                None => return None,
            };
            entries.push((key, node));
        }
        (!entries.is_empty()).then_some(entries)
    }

    /// What stands below a key that is indented by `indent`.
    fn block(&mut self, indent: usize) -> Option<Node<'a>> {
        let &(at, line) = self.lines.get(self.next)?;
        if line.starts_with("- ") && at >= indent {
            let mut items = Vec::new();
            while let Some(&(here, line)) =
                self.lines.get(self.next).filter(|(here, _)| *here >= at)
            {
                let value = line.strip_prefix("- ").filter(|_| here == at);
                if value.is_none() && here == at && at == indent {
                    break;
                }
                self.next += 1;
                items.push(self.scalar(value?.trim_start_matches(' '), at)?);
            }
            return Some(Node::List(items));
        }
        if at <= indent { None } else { Some(Node::Map(self.mapping(at)?)) }
    }

    /// A scalar that is not continued on the next line.
    fn scalar(&self, value: &'a str, indent: usize) -> Option<Scalar<'a>> {
        let continues = self.lines.get(self.next).is_some_and(|(next, _)| *next > indent);
        if continues { None } else { scalar(value) }
    }
}

/// Letters, digits and what field names and modifiers are written with, beginning with a letter;
/// no word that YAML reads as something else.
fn is_plain_key(key: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'|' | b'-' | b'@');
    key.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && key.bytes().all(fits)
        && !is_special_word(key)
}

fn is_special_word(word: &str) -> bool {
    ["null", "true", "false", "inf", "nan", "infinity", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|special| word.eq_ignore_ascii_case(special))
}

fn scalar(value: &str) -> Option<Scalar<'_>> {
    match value.as_bytes() {
        [b'\'', inner @ .., b'\''] => {
            let inner = std::str::from_utf8(inner).ok()?;
            if !inner.contains('\'') {
                return Some(Scalar::Text(inner));
            }
            // What is left after doubled quotes are taken out must have none.
            let rest = inner.replace("''", "");
            (!rest.contains('\'')).then(|| Scalar::Quoted(inner.replace("''", "'")))
        }
        [b'"', inner @ .., b'"'] => {
            let inner = std::str::from_utf8(inner).ok()?;
            (!inner.contains(['"', '\\'])).then_some(Scalar::Text(inner))
        }
        [first, ..] if first.is_ascii_alphanumeric() => plain_scalar(value),
        _ => None,
    }
}

fn plain_scalar(value: &str) -> Option<Scalar<'_>> {
    if value.contains(": ") || value.contains(" #") || value.ends_with(':') {
        return None;
    }
    match value {
        "true" => return Some(Scalar::Bool(true)),
        "false" => return Some(Scalar::Bool(false)),
        _ if is_special_word(value) => return None,
        _ => {}
    }
    if value.as_bytes()[0].is_ascii_alphabetic() {
        return Some(Scalar::Text(value));
    }
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    if digits && value.len() <= 18 && (value == "0" || !value.starts_with('0')) {
        return value.parse().ok().map(Scalar::Integer);
    }
    let like_a_number = digits
        || ["0x", "0o", "0b"].iter().any(|radix| value.starts_with(radix))
        || value.parse::<f64>().is_ok();
    (!like_a_number).then_some(Scalar::Text(value))
}

/// A condition, read by descent: `or` binds least, then `and`, then `not`.
struct Condition<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Condition<'a> {
    fn parse(text: &'a str) -> Option<ConditionExpr> {
        let mut condition = Self { words: words(text)?, next: 0 };
        let expr = condition.or(0)?;
        (condition.next == condition.words.len()).then_some(expr)
    }

    fn word(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        self.next += usize::from(found);
        found
    }

    fn or(&mut self, depth: usize) -> Option<ConditionExpr> {
        self.joined("or", depth, Self::and, |parts, next| match next {
            ConditionExpr::Or(inner) => parts.extend(inner),
            next => parts.push(next),
        })
        .map(|mut parts| if parts.len() == 1 { parts.remove(0) } else { ConditionExpr::Or(parts) })
    }

    fn and(&mut self, depth: usize) -> Option<ConditionExpr> {
        self.joined("and", depth, Self::unary, |parts, next| match next {
            ConditionExpr::And(inner) => parts.extend(inner),
            next => parts.push(next),
        })
        .map(|mut parts| if parts.len() == 1 { parts.remove(0) } else { ConditionExpr::And(parts) })
    }

    fn joined(
        &mut self,
        word: &str,
        depth: usize,
        part: fn(&mut Self, usize) -> Option<ConditionExpr>,
        add: fn(&mut Vec<ConditionExpr>, ConditionExpr),
    ) -> Option<Vec<ConditionExpr>> {
        let first = part(self, depth)?;
        if self.word() != Some(word) {
            return Some(vec![first]);
        }
        let mut parts = Vec::new();
        add(&mut parts, first);
        while self.take(word) {
            add(&mut parts, part(self, depth)?);
        }
        Some(parts)
    }

    fn unary(&mut self, depth: usize) -> Option<ConditionExpr> {
        if depth > NESTING_MAX {
            return None;
        }
        if self.take("not") {
            return Some(ConditionExpr::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return self.take(")").then_some(inner);
        }
        let word = self.word()?;
        self.next += 1;
        let quantifier = match word {
            "1" | "any" => Some(Quantifier::Any),
            "all" => Some(Quantifier::All),
            _ => None,
        };
        if let Some(quantifier) = quantifier.filter(|_| self.word() == Some("of")) {
            self.next += 1;
            let target = self.word()?;
            self.next += 1;
            let pattern = match target {
                "them" => SelectorPattern::Them,
                "(" | ")" => return None,
                _ => SelectorPattern::Pattern(target.to_owned()),
            };
            return Some(ConditionExpr::Selector { quantifier, pattern });
        }
        // An identifier may not be a word of the language, and a number is none here.
        let reserved = ["and", "or", "not", "all", "any", "of", "them", ")", "1"];
        let plain = !reserved.contains(&word) && !word.contains('*');
        plain.then(|| ConditionExpr::Identifier(word.to_owned()))
    }
}

/// Words and parentheses; `None` if there is anything else.
fn words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::with_capacity(8);
    let mut start = None;
    for (at, b) in text.bytes().enumerate() {
        let in_word = b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'*');
        match (in_word, start) {
            (true, None) => start = Some(at),
            (true, Some(_)) => {}
            (false, _) => {
                words.extend(start.take().map(|from| &text[from..at]));
                match b {
                    b'(' | b')' => words.push(&text[at..=at]),
                    b' ' => {}
                    _ => return None,
                }
            }
        }
    }
    words.extend(start.map(|from| &text[from..]));
    Some(words)
}

#[cfg(test)]
mod tests {
    use rsigma_parser::parse_sigma_yaml;

    use super::*;

    const RULE: &str = "title: A rule\nid: a-1\nstatus: test\nlogsource:\n    category: firewall\n\
                        detection:\n    sel:\n        dst_port: 443\n    condition: sel\nlevel: low\n";

    /// What this reader makes of a text is what the parser makes of it.
    #[track_caller]
    fn check(text: &str, plain: bool) {
        let ours = rule(text);
        assert_eq!(ours.is_some(), plain, "{text}");
        let Some(ours) = ours else { return };
        let theirs = parse_sigma_yaml(text).expect(text);
        assert_eq!(theirs.errors, Vec::<String>::new(), "{text}");
        assert_eq!(theirs.rules, [ours], "{text}");
    }

    #[test]
    fn plain_rules_are_read_as_the_parser_reads_them() {
        check(RULE, true);
        check(&format!("# a comment\n---\n{RULE}\n# the end\n"), true);
        for value in [
            "10.0.0.0/8",
            "'10.*'",
            "\"it''s\"",
            "'it''s \\* so'",
            "a b  c",
            "0",
            "443",
            "a:b",
            "123456789012345678",
            "1a",
            "10.0.0.1",
            "true",
            "'true'",
            "''",
            "ends'",
            "2026-01-01",
            "00000000-0000-4000-8000-000000000001",
            "a#b",
            "1.2.3",
            "1_000",
            "e5",
            "5e",
            "x*y?\\z",
        ] {
            check(&RULE.replace("443", value), true);
            let list = format!("\n            - {value}\n            - 5");
            check(&RULE.replace(" 443", &list), true);
            check(
                &RULE.replace("A rule", value),
                matches!(value, "0" | "443" | "true" | "123456789012345678") ^ true,
            );
            check(&RULE.replace("dst_port:", "dst_port|re:").replace("443", value), true);
        }
        for tags in ["tags:\n    - attack.t1071\n    - x\n", "tags:\n- a\n- 5\n", "tags: one\n"] {
            check(&format!("{RULE}{tags}"), true);
            check(&format!("{tags}{RULE}"), true);
        }
    }

    #[test]
    fn whatever_else_is_left_to_the_parser() {
        for value in [
            "007",
            "1.5",
            "1e3",
            "0x17",
            "null",
            "~",
            "-5",
            "[1, 2]",
            "{a: b}",
            "&a 1",
            "*a",
            "!!str 1",
            "|\n            x",
            "a: b",
            "a #b",
            "True",
            "yes",
            "1234567890123456789",
            "\"a\\n\"",
            "'a",
            "a\n            b",
            "\tx",
            "é",
            "",
            ".5",
            "+5",
            "%x",
            "@x",
            "`x`",
            "? x",
            ": x",
            "'a' b",
            "inf",
        ] {
            check(&RULE.replace("443", value), false);
        }
        for line in [
            "custom: 1",
            "related:\n    - id: x",
            "level: odd",
            "correlation: x",
            "title: twice",
            "1: x",
            "a",
        ] {
            check(&format!("{RULE}{line}\n"), false);
        }
        check(&RULE.replace("        dst_port: 443", "    - a\n    - b"), false);
        check(&RULE.replace("        dst_port: 443", "        - dst_port: 443"), false);
        check(&RULE.replace("    condition: sel\n", ""), false);
        check(&RULE.replace("title: A rule\n", ""), false);
        check(&RULE.replace("dst_port", "dst[any]"), false);
        check("", false);
    }

    #[test]
    fn conditions_are_read_as_the_parser_reads_them() {
        let parts =
            ["a", "b_1", "sel-x", "1 of a*", "all of them", "any of sel_*", "not a", "(a or b)"];
        let mut count = 0;
        for x in parts {
            for y in parts {
                for text in [
                    format!("{x} and {y}"),
                    format!("{x} or {y} and not {x}"),
                    format!("not ({x} and {y}) or {x}"),
                    format!("({x})and({y} or {x} or ({y} or a))"),
                    format!("{x}  {y}"),
                    format!("{x} and"),
                    format!("not not {x} and ({y} and {x})"),
                    format!("({x} and {y}"),
                    format!("{x} {y} and"),
                ] {
                    let ours = Condition::parse(&text);
                    let theirs = rsigma_parser::parse_condition(&text).ok();
                    assert!(ours.is_none() || ours == theirs, "{text}: {ours:?} {theirs:?}");
                    count += usize::from(ours.is_some());
                }
            }
        }
        assert!(count > 250, "{count} read");
        for text in [
            "and",
            "of",
            "1",
            "2 of x",
            "a | count() > 5",
            "1 of",
            "all",
            "not",
            "()",
            "a*",
            "A AND b",
            "",
        ] {
            assert_eq!(Condition::parse(text), None, "{text}");
        }
    }
}
