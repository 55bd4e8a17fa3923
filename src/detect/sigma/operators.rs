//! Operators of conditions in capitals (`A AND NOT B`), which rules from other engines have: the
//! specification writes them small, and so the parser reads them.

use std::borrow::Cow;

const OPERATORS: &[&str] = &["and", "or", "not", "of", "them", "all", "any"];

/// `text` with the operators of its conditions in small letters. Names of detections stay: none
/// can be called like an operator.
pub(super) fn in_small_letters(text: &str) -> Cow<'_, str> {
    if !text.contains("condition") {
        return Cow::Borrowed(text);
    }
    let mut small = String::with_capacity(text.len());
    // The indentation of the key whose value goes on over the next lines.
    let mut within = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if within.is_some_and(|key| indent < key || indent == key && !content.starts_with('-')) {
            within = None;
        }
        let value = content.trim_start_matches("- ").strip_prefix("condition:");
        if let Some(value) = value {
            within = Some(indent);
            small.push_str(&line[..line.len() - value.len()]);
            lower(value, &mut small);
        } else if within.is_some() {
            lower(line, &mut small);
        } else if let Some((before, value)) = in_a_row(line) {
            small.push_str(before);
            let (value, after) = value.split_at(value.find(['}', ',']).unwrap_or(value.len()));
            lower(value, &mut small);
            small.push_str(after);
        } else {
            small.push_str(line);
        }
    }
    Cow::Owned(small)
}

/// A condition alone, with its operators in small letters.
pub(super) fn of_condition(condition: &str) -> String {
    let mut small = String::with_capacity(condition.len());
    lower(condition, &mut small);
    small
}

/// A condition that stands in a line with others (`{s: {dst_port: 1}, condition: s}`): what is before
/// its text, and its text with what follows.
fn in_a_row(line: &str) -> Option<(&str, &str)> {
    const KEY: &str = "condition:";
    let begins = |at: &usize| line[..*at].trim_end().ends_with(['{', ',']);
    let at = line.match_indices(KEY).map(|(at, _)| at).find(begins)?;
    Some(line.split_at(at + KEY.len()))
}

/// Appends `condition` to `small`.
fn lower(condition: &str, small: &mut String) {
    let of_word = |c: char| c.is_alphanumeric() || "_-*?".contains(c);
    for part in condition.split_inclusive(|c| !of_word(c)) {
        let word = part.trim_end_matches(|c| !of_word(c));
        match OPERATORS.iter().find(|operator| word.eq_ignore_ascii_case(operator)) {
            Some(operator) => small.push_str(operator),
            None => small.push_str(word),
        }
        small.push_str(&part[word.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operators_of_conditions_change() {
        for (text, want) in [
            ("condition: A AND NOT b", "condition: A and not b"),
            ("condition: (A OR B)AND 1 OF sel_AND*\n", "condition: (A or B)and 1 of sel_AND*\n"),
            ("x: A AND B\n", "x: A AND B\n"),
            (
                "d:\n  condition:\n  - All OF Them\n  - x Or y\n  name: A AND B\n",
                "d:\n  condition:\n  - all of them\n  - x or y\n  name: A AND B\n",
            ),
            (
                "d:\n  condition: >\n    x\n    OR y\ntitle: A OR B\n",
                "d:\n  condition: >\n    x\n    or y\ntitle: A OR B\n",
            ),
            (
                "detection: {AND: {a: OR}, condition: AND AND NOT b, c: OR}\n",
                "detection: {AND: {a: OR}, condition: and and not b, c: OR}\n",
            ),
            ("detection: { condition: \"a AND b\" }\n", "detection: { condition: \"a and b\" }\n"),
            (
                "description: no condition here AND there\n",
                "description: no condition here AND there\n",
            ),
        ] {
            assert_eq!(in_small_letters(text), want);
        }
    }
}
