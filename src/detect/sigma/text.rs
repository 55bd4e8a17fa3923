//! Matching on text: Sigma's wildcards and regular expressions.

use std::fmt;
use std::str::Chars;

use regex::Regex;

/// One place of a wildcard pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Glyph {
    /// This character.
    Char(char),
    /// `?`: any one character.
    One,
    /// `*`: any number of characters.
    Many,
}

/// A wildcard pattern over a whole text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    glyphs: Vec<Glyph>,
    cased: bool,
}

impl Pattern {
    /// A pattern that compares case unless not `cased`.
    #[must_use]
    pub fn new(glyphs: Vec<Glyph>, cased: bool) -> Self {
        Self { glyphs, cased }
    }

    /// Whether it compares case.
    #[must_use]
    pub const fn is_cased(&self) -> bool {
        self.cased
    }

    /// Whether every text of two characters or more matches.
    #[must_use]
    pub fn takes_any(&self) -> bool {
        let ones = self.glyphs.iter().filter(|glyph| **glyph == Glyph::One).count();
        let many = self.glyphs.iter().filter(|glyph| **glyph == Glyph::Many).count();
        many > 0 && ones <= 2 && ones + many == self.glyphs.len()
    }

    /// Whether, as far as it shows, no address matches as addresses are written (RFC 5952): small letters,
    /// groups without leading zeros, `::` for the longest run of zeros, IPv4 in points only.
    #[must_use]
    pub fn is_no_address(&self) -> bool {
        let mut text = String::new();
        for glyph in &self.glyphs {
            match *glyph {
                Glyph::Char(c) if self.cased => text.push(c),
                Glyph::Char(c) => text.push(c.to_ascii_lowercase()),
                Glyph::One | Glyph::Many => text.push('*'),
            }
        }
        let is_wild = |part: &str| part.contains('*');
        let leading =
            |part: &str| part.starts_with('0') && part.len() > 1 && !part.starts_with("0*");
        let octet = |part: &str| part.parse::<u32>().is_ok_and(|octet| octet <= 0xff);
        let (colon, dot) = (text.contains(':'), text.contains('.'));
        let parts: Vec<&str> = text.split([':', '.']).collect();
        !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b':' | b'.' | b'*'))
            || colon && dot
            || text.contains(":0:*")
            || parts.iter().any(|part| leading(part))
            || dot && parts.iter().any(|part| !part.is_empty() && !is_wild(part) && !octet(part))
            || colon && parts.iter().any(|part| !is_wild(part) && part.len() > 4)
    }

    /// The text itself, if there is no wildcard.
    #[must_use]
    pub fn literal(&self) -> Option<String> {
        let chars = self.glyphs.iter().map(|glyph| match glyph {
            Glyph::Char(c) => Some(*c),
            Glyph::One | Glyph::Many => None,
        });
        chars.collect()
    }

    /// The text before the only wildcard, a trailing `*`.
    #[must_use]
    pub fn prefix(&self) -> Option<String> {
        let (last, rest) = self.glyphs.split_last()?;
        let rest = Self { glyphs: rest.to_vec(), cased: self.cased };
        if *last == Glyph::Many { rest.literal() } else { None }
    }

    /// The longest run of ASCII characters: it stands in every ASCII text that matches. Others may
    /// have letters in its place that are equal without regard to case.
    #[must_use]
    pub fn longest_literal(&self) -> String {
        let runs = self.glyphs.split(|glyph| !matches!(glyph, Glyph::Char(c) if c.is_ascii()));
        let run = runs.max_by_key(|run| run.len()).unwrap_or_default();
        let chars = run.iter().filter_map(|glyph| match glyph {
            Glyph::Char(c) => Some(*c),
            Glyph::One | Glyph::Many => None,
        });
        chars.collect()
    }

    /// Whether the whole of `text` matches. O(pattern * text), without allocation.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut at = 0;
        let mut rest = text.chars();
        // Where to go on if what follows the last `*` fails: the `*` takes one character more.
        let mut again: Option<(usize, Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (self.glyphs.get(at), ahead.next()) {
                (None, None) => return true,
                (Some(Glyph::Many), _) => {
                    at += 1;
                    again = Some((at, rest.clone()));
                    continue;
                }
                (Some(Glyph::One), Some(_)) => {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
                (Some(&Glyph::Char(want)), Some(found)) if self.same(want, found) => {
                    (at, rest) = (at + 1, ahead);
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = &mut again else { return false };
            if from.next().is_none() {
                return false;
            }
            (at, rest) = (*after, from.clone());
        }
    }

    fn same(&self, a: char, b: char) -> bool {
        a == b || !self.cased && fold_eq(a, b)
    }
}

fn fold_eq(a: char, b: char) -> bool {
    if a.is_ascii() && b.is_ascii() {
        a.eq_ignore_ascii_case(&b)
    } else {
        a.to_lowercase().eq(b.to_lowercase())
    }
}

/// Whether two texts are equal without regard to case.
#[must_use]
pub fn same_text(a: &str, b: &str) -> bool {
    let mut b = b.chars();
    a.chars().all(|x| b.next().is_some_and(|y| fold_eq(x, y))) && b.next().is_none()
}

/// What a text is matched against.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// Sigma's wildcards.
    Glob(Pattern),
    /// A regular expression, searched for anywhere.
    Regex(Regex),
}

impl Matcher {
    /// A part that stands, without regard to case, in every ASCII text that matches; `None` if it
    /// is not known.
    #[must_use]
    pub fn literal_part(&self) -> Option<String> {
        match self {
            Self::Glob(pattern) => Some(pattern.longest_literal()),
            Self::Regex(_) => None,
        }
    }

    /// Whether every address matches, as far as it shows: of regular expressions only the plainest.
    #[must_use]
    pub fn takes_any(&self) -> bool {
        match self {
            Self::Glob(pattern) => pattern.takes_any(),
            Self::Regex(regex) => {
                // The flags stand first, in parentheses.
                let text = regex.as_str();
                let flags = text.strip_prefix("(?").and_then(|rest| rest.split_once(')'));
                let bare = flags.map_or(text, |(_, rest)| rest);
                let bare = bare.strip_prefix('^').unwrap_or(bare);
                let (bare, ends) = bare.strip_suffix('$').map_or((bare, false), |b| (b, true));
                matches!(bare, ".*" | ".+" | ".*?" | ".+?" | "(.*)" | "(.+)")
                    || !ends && matches!(bare, "" | "." | ".?")
            }
        }
    }

    /// Whether it is written as `other` is.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Glob(a), Self::Glob(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }

    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Glob(pattern) => pattern.matches(text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A short text on the stack, for values that are formatted while matching.
pub struct TextBuf {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl TextBuf {
    /// Holds any address (45) and any 128-bit integer (39).
    const CAPACITY: usize = 64;

    /// The text of `value`, cut off after 64 octets, which no value of a flow reaches.
    pub fn of(value: impl fmt::Display) -> Self {
        let mut text = Self { bytes: [0; Self::CAPACITY], len: 0 };
        let cut_off = fmt::write(&mut text, format_args!("{value}"));
        debug_assert!(cut_off.is_ok(), "every value of a flow fits");
        text
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for TextBuf {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str, cased: bool) -> Pattern {
        let glyph = |c| match c {
            '*' => Glyph::Many,
            '?' => Glyph::One,
            c => Glyph::Char(c),
        };
        Pattern::new(text.chars().map(glyph).collect(), cased)
    }

    #[track_caller]
    fn check(text: &str, yes: &[&str], no: &[&str]) {
        for hit in yes {
            assert!(pattern(text, false).matches(hit), "{text} matches {hit}");
        }
        for miss in no {
            assert!(!pattern(text, false).matches(miss), "{text} does not match {miss}");
        }
    }

    #[test]
    fn wildcards_match_whole_texts() {
        check("tcp", &["tcp", "TCP"], &["tcpx", "xtcp", ""]);
        check("10.*", &["10.1.2.3", "10."], &["110.1.2.3", "1.10.0.1"]);
        check("*a?b*", &["a1b", "xxaabyy", "aaxb"], &["ab", "a12b"]);
        check("*.example.*.com", &["a.example.b.com", ".example..com"], &["a.example.com"]);
        check("", &[""], &["x"]);
        check("**", &["", "x"], &[]);
        check("straße*ÉTÉ", &["STRAßE-été"], &["strasse-été"]);
        assert!(!pattern("TCP", true).matches("tcp"));
        assert_eq!(pattern("10.*", false).prefix().as_deref(), Some("10."));
        assert_eq!(pattern("1?.*", false).prefix(), None);
        for (text, want) in [
            ("2001:0db8:*", true),
            ("::ffff:10.*", true),
            ("fe80:0:*", true),
            ("300.*", true),
            ("*g*", true),
            ("2001:db8:*", false),
            ("FE80::*", false),
            ("*:0", false),
            ("0*", false),
            ("10.?.0.*", false),
            ("*.0.0.1", false),
            ("*.*", false),
            ("1*", false),
        ] {
            assert_eq!(pattern(text, false).is_no_address(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn equals_a_regular_expression(p in "[ab?*]{0,8}", text in "[abAB]{0,12}") {
            let regex = format!("(?is)^{}$", p.replace('?', ".").replace('*', ".*"));
            let want = Regex::new(&regex).expect("a simple one").is_match(&text);
            prop_assert_eq!(pattern(&p, false).matches(&text), want);
        }

        #[test]
        fn same_text_equals_folding(a in "[aAbBéÉ]{0,4}", b in "[aAbBéÉ]{0,4}") {
            prop_assert_eq!(same_text(&a, &b), a.to_lowercase() == b.to_lowercase());
        }
    }
}
