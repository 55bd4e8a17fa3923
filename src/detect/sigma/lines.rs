//! Where in the text of a document a key, a value or a word stands.

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
