//! What a misspelt word was meant to be.

use std::cell::Cell;

/// The one of `known` that `word` is most likely a slip of: equal but for case and separators, else
/// within one edit for words of up to five letters, two for longer ones. An edit puts in, leaves out or
/// changes a letter, or turns two round; of up to three letters none is another's slip unless two are
/// turned round. `None` for a word that is known, or near none.
pub(super) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bare = bare(word);
    let edits_max = if bare.len() > 5 { 2 } else { 1 };
    let mut best: Option<(usize, &str)> = None;
    for other in known {
        if other == word {
            return None;
        }
        let other_bare = self::bare(other);
        let edits = edits(&bare, &other_bare, edits_max);
        let fits = bare.len() > 3 || sorted(&bare) == sorted(&other_bare);
        if fits && edits <= edits_max && best.is_none_or(|(least, _)| edits < least) {
            best = Some((edits, other));
        }
    }
    best.map(|(_, other)| other)
}

/// ` (did you mean ...?)`, or nothing.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    near(word, known).map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
}

/// Hints among words that may be many, as ids of rules are: each is compared with all, so only the first
/// few unknown words get one.
#[derive(Debug, Default)]
pub(super) struct Few(Cell<usize>);

impl Few {
    const HINTS_MAX: usize = 16;
    const WORDS_MAX: usize = 1 << 14;

    /// As [`hint`].
    pub(super) fn hint<'a>(&self, word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
        let given = self.0.replace(self.0.get() + 1);
        if given >= Self::HINTS_MAX {
            return String::new();
        }
        hint(word, known.into_iter().take(Self::WORDS_MAX))
    }
}

/// The longest word that is compared: no known one is longer.
const LENGTH_MAX: usize = 48;

/// Letters and digits in small letters. Too long a word has none.
fn bare(word: &str) -> Vec<u8> {
    let bare = word.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase());
    let bare: Vec<u8> = bare.take(LENGTH_MAX + 1).collect();
    if word.is_ascii() && bare.len() <= LENGTH_MAX { bare } else { Vec::new() }
}

fn sorted(letters: &[u8]) -> Vec<u8> {
    let mut letters = letters.to_vec();
    letters.sort_unstable();
    letters
}

/// How many edits turn `a` into `b`, where two neighbours may be turned round once (optimal string
/// alignment); more than `max` if one of them is empty or the lengths tell.
fn edits(a: &[u8], b: &[u8], max: usize) -> usize {
    if a.is_empty() || b.is_empty() || a.len().abs_diff(b.len()) > max {
        return max + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let known =
            ["level", "rules", "detection", "logsource", "src_ip", "dst_port", "title", "tos"];
        for (word, want) in [
            ("levle", Some("level")),
            ("ruls", Some("rules")),
            ("detecton", Some("detection")),
            ("detectoin", Some("detection")),
            ("Log-Source", Some("logsource")),
            ("srcip", Some("src_ip")),
            ("SRC_IP", Some("src_ip")),
            ("dst_prt", Some("dst_port")),
            ("levels", Some("level")),
            ("level", None),
            ("label", None),
            ("src", None),
            ("tls", None),
            ("tso", Some("tos")),
            ("", None),
            ("Image", None),
            ("détection", None),
            ("ruletype", None),
        ] {
            assert_eq!(near(word, known), want, "{word}");
        }
        assert_eq!(near(&"detection".repeat(1000), known), None);
        assert_eq!(hint("levle", known), " (did you mean `level`?)");
        assert_eq!(hint("x", known), "");
    }
}
