//! What a rule's values become before they are compared: `expand`, `windash`, `utf16*`, `base64*`.
//!
//! Each value becomes a group of alternatives, so that `all` asks for one of each group. Modifiers
//! act in the order in which they are written (specification, appendix on modifiers).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};

use super::value::Op;
use super::work::Work;
use crate::detect::sigma::placeholders::Placeholders;
use crate::detect::sigma::reason::Reason;

/// Ways to write the dashes of one value, at most: five dashes have 5^5.
const WAYS_MAX: usize = 4_096;
/// Values that modifiers make of one, at most.
const VALUES_MAX: usize = 1 << 18;
/// What `windash` takes for each other.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Expand,
    Windash,
    Utf16Le,
    Utf16Be,
    /// With a byte order mark, little endian.
    Utf16,
    Base64,
    Base64Offset,
}

impl Step {
    pub(super) const fn of(modifier: Modifier) -> Option<Self> {
        Some(match modifier {
            Modifier::Expand => Self::Expand,
            Modifier::WindAsh => Self::Windash,
            Modifier::Wide => Self::Utf16Le,
            Modifier::Utf16be => Self::Utf16Be,
            Modifier::Utf16 => Self::Utf16,
            Modifier::Base64 => Self::Base64,
            Modifier::Base64Offset => Self::Base64Offset,
            _ => return None,
        })
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Windash => "windash",
            Self::Utf16Le => "utf16le",
            Self::Utf16Be => "utf16be",
            Self::Utf16 => "utf16",
            Self::Base64 => "base64",
            Self::Base64Offset => "base64offset",
        }
    }

    const fn is_utf16(self) -> bool {
        matches!(self, Self::Utf16Le | Self::Utf16Be | Self::Utf16)
    }

    const fn is_base64(self) -> bool {
        matches!(self, Self::Base64 | Self::Base64Offset)
    }
}

/// Checks that `steps` can follow each other and go with `op`.
///
/// # Errors
/// The step at fault, and why.
pub(super) fn check(steps: &[Step], op: Op) -> Result<(), (Step, &'static str)> {
    let textual = matches!(op, Op::Equal | Op::Contains | Op::StartsWith | Op::EndsWith);
    let mut wide = false;
    for (at, &step) in steps.iter().enumerate() {
        let next = steps.get(at + 1).copied();
        let why = match step {
            Step::Expand if matches!(op, Op::Exists | Op::Reference(_)) => {
                Some("a placeholder stands for values")
            }
            Step::Expand => None,
            _ if !textual => Some("it goes with equality, contains, startswith and endswith only"),
            _ if step.is_base64() && next.is_some() => Some("nothing can follow it"),
            _ if step.is_utf16() && std::mem::replace(&mut wide, true) => {
                Some("it excludes another modifier of the item")
            }
            _ if step.is_utf16() && !next.is_some_and(Step::is_base64) => {
                Some("the texts of a flow are UTF-8: base64 or base64offset has to follow it")
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err((step, why));
        }
    }
    Ok(())
}

/// The alternatives of each of `values`, in their order.
pub(super) fn groups<'a>(
    field: &str,
    values: &'a [SigmaValue],
    steps: &[Step],
    op: Op,
    work: &Work<'_>,
) -> Result<Vec<Cow<'a, [SigmaValue]>>, Reason> {
    let mut groups = Vec::with_capacity(values.len());
    for value in values {
        let mut group = Cow::Borrowed(std::slice::from_ref(value));
        // Of octets: the text is gone once it is UTF-16.
        let mut octets: Option<Vec<Vec<u8>>> = None;
        for &step in steps {
            match step {
                Step::Expand => {
                    group = each(&group, |v| expand(field, v, op, &work.options.placeholders))?;
                }
                Step::Windash => group = each(&group, |v| windash(field, v))?,
                Step::Base64 | Step::Base64Offset => {
                    let plain = match octets.take() {
                        Some(octets) => octets,
                        None => texts(field, &group, step)?.map(String::into_bytes).collect(),
                    };
                    let encode = |octets: &Vec<u8>| match step {
                        Step::Base64 => vec![STANDARD.encode(octets)],
                        _ => base64_offsets(octets),
                    };
                    let encoded = plain.iter().flat_map(encode);
                    let encoded = encoded.map(|text| SigmaValue::from_raw_string(&text));
                    group = Cow::Owned(encoded.collect());
                }
                _ => octets = Some(texts(field, &group, step)?.map(|t| utf16(&t, step)).collect()),
            }
        }
        work.values(group.len())?;
        groups.push(group);
    }
    Ok(groups)
}

const fn too_many() -> Reason {
    Reason::TooLarge { what: "the number of values that modifiers make of one", max: VALUES_MAX }
}

fn each<'a>(
    group: &[SigmaValue],
    f: impl Fn(&SigmaValue) -> Result<Vec<SigmaValue>, Reason>,
) -> Result<Cow<'a, [SigmaValue]>, Reason> {
    let mut all = Vec::with_capacity(group.len());
    for value in group {
        all.extend(f(value)?);
        if all.len() > VALUES_MAX {
            return Err(too_many());
        }
    }
    Ok(Cow::Owned(all))
}

/// The texts of a group; encoding takes texts without wildcards only, as pySigma has it.
fn texts(
    field: &str,
    group: &[SigmaValue],
    step: Step,
) -> Result<impl Iterator<Item = String>, Reason> {
    let expected = match step {
        Step::Base64 | Step::Base64Offset => "a text without wildcards, which base64 needs",
        _ => "a text without wildcards, which UTF-16 needs",
    };
    let text = |value: &SigmaValue| match value {
        SigmaValue::String(text) => text.as_plain(),
        _ => None,
    };
    let all = group.iter().map(|value| {
        text(value).ok_or_else(|| Reason::Value {
            field: field.to_owned(),
            value: value.to_string(),
            expected: expected.into(),
        })
    });
    all.collect::<Result<Vec<String>, Reason>>().map(Vec::into_iter)
}

fn utf16(text: &str, step: Step) -> Vec<u8> {
    let octets = |unit: u16| match step {
        Step::Utf16Be => unit.to_be_bytes(),
        _ => unit.to_le_bytes(),
    };
    let mark = (step == Step::Utf16).then_some(0xfeff_u16);
    mark.into_iter().chain(text.encode_utf16()).flat_map(octets).collect()
}

/// What of the base64 of a longer text depends on `octets` alone, for each of the three places at
/// which they may stand in it. Nothing for places where that is no character.
fn base64_offsets(octets: &[u8]) -> Vec<String> {
    const FROM: [usize; 3] = [0, 2, 3];
    let part = |offset: usize| {
        let mut padded = vec![0; offset];
        padded.extend_from_slice(octets);
        let text = STANDARD.encode(&padded);
        // The last characters carry bits of what follows, or padding.
        let shared = [0, 3, 2][padded.len() % 3];
        text.get(FROM[offset]..text.len() - shared).unwrap_or_default().to_owned()
    };
    (0..3).map(part).filter(|text| !text.is_empty()).collect()
}

/// Every way to write the value's dashes.
fn windash(field: &str, value: &SigmaValue) -> Result<Vec<SigmaValue>, Reason> {
    let SigmaValue::String(text) = value else {
        let (field, value) = (field.to_owned(), value.to_string());
        return Err(Reason::Value { field, value, expected: "a text, which windash needs".into() });
    };
    let mut all = vec![Vec::with_capacity(text.parts.len())];
    for part in &text.parts {
        let StringPart::Plain(plain) = part else {
            all.iter_mut().for_each(|parts: &mut Vec<StringPart>| parts.push(part.clone()));
            continue;
        };
        let mut forms = vec![String::new()];
        for c in plain.chars() {
            if !DASHES.contains(&c) {
                forms.iter_mut().for_each(|form| form.push(c));
                continue;
            }
            let next = |form: &String| DASHES.map(|dash| format!("{form}{dash}"));
            forms = forms.iter().flat_map(next).collect();
            if forms.len() * all.len() > WAYS_MAX {
                let what = "the number of ways to write the dashes of a value";
                return Err(Reason::TooLarge { what, max: WAYS_MAX });
            }
        }
        let with = |parts: &Vec<StringPart>| {
            let parts = parts.clone();
            let longer = move |form: &String| {
                let mut parts = parts.clone();
                parts.push(StringPart::Plain(form.clone()));
                parts
            };
            forms.iter().map(longer).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(with).collect();
    }
    let string = |parts: Vec<StringPart>| {
        let original = parts.iter().map(|part| match part {
            StringPart::Plain(plain) => plain.as_str(),
            StringPart::Special(SpecialChar::WildcardMulti) => "*",
            StringPart::Special(SpecialChar::WildcardSingle) => "?",
        });
        let original = original.collect();
        SigmaValue::String(SigmaString { parts, original })
    };
    Ok(all.into_iter().map(string).collect())
}

/// The value with every value of its placeholders in their place.
fn expand(
    field: &str,
    value: &SigmaValue,
    op: Op,
    placeholders: &Placeholders,
) -> Result<Vec<SigmaValue>, Reason> {
    let SigmaValue::String(text) = value else { return Ok(vec![value.clone()]) };
    let regex = matches!(op, Op::Regex { .. });
    let mut forms = vec![String::new()];
    let mut rest = text.original.as_str();
    while let Some((before, name, after)) = next_placeholder(rest) {
        let Some(values) = placeholders.get(name) else {
            let (field, placeholder) = (field.to_owned(), format!("%{name}%"));
            return Err(Reason::Placeholder { field, placeholder });
        };
        if forms.len() * values.len() > VALUES_MAX {
            return Err(too_many());
        }
        let fill = |form: &String| {
            let form = form.clone() + &unescaped(before);
            let with = move |value: &String| match regex {
                true => format!("{form}{}", regex::escape(value)),
                false => format!("{form}{value}"),
            };
            values.iter().map(with).collect::<Vec<_>>()
        };
        forms = forms.iter().flat_map(fill).collect();
        rest = after;
    }
    let tail = unescaped(rest);
    let made = forms.into_iter().map(|form| form + &tail);
    let made = made.map(|text| match regex {
        true => SigmaValue::from_raw_string(&text),
        false => SigmaValue::String(SigmaString::new(&text)),
    });
    Ok(made.collect())
}

/// What stands before the first `%name%`, the name, and what stands after it. `\%` is no sign.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let is_name = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    let mut signs = Vec::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == '%' && !escaped {
            if let Some(&open) = signs.last() {
                let name: &str = &text[open + 1..at];
                if !name.is_empty() && name.chars().all(is_name) {
                    return Some((&text[..open], name, &text[at + 1..]));
                }
            }
            signs.push(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// `\%` is `%`; other escapes stay for whoever reads the text next.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'%') {
            continue;
        }
        plain.push(c);
        if c == '\\' {
            plain.extend(chars.next());
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::sigma::ruleset::Options;

    fn text(text: &str) -> SigmaValue {
        SigmaValue::String(SigmaString::new(text))
    }

    fn run(value: &str, steps: &[Step]) -> Result<Vec<String>, Reason> {
        let mut known = Placeholders::default();
        known.insert("srv", ["a", "b*"]);
        known.insert("net", ["10.0.0.1"]);
        let values = [text(value)];
        let options = Options { placeholders: known, ..Options::default() };
        let groups = groups("f", &values, steps, Op::Equal, &Work::new(&options))?;
        let shown = |v: &SigmaValue| match v {
            SigmaValue::String(text) => text.as_plain().unwrap_or_else(|| format!("{text} (wild)")),
            other => other.to_string(),
        };
        Ok(groups[0].iter().map(shown).collect())
    }

    #[track_caller]
    fn check(value: &str, steps: &[Step], want: &[&str]) {
        assert_eq!(run(value, steps).expect(value), want, "{value} {steps:?}");
    }

    #[test]
    fn steps_make_what_the_specification_says() {
        use Step::{Base64, Base64Offset, Expand, Utf16, Utf16Be, Utf16Le, Windash};
        check("foo", &[Base64], &["Zm9v"]);
        check("foo", &[Utf16Le, Base64], &["ZgBvAG8A"]);
        check("foo", &[Utf16Be, Base64], &["AGYAbwBv"]);
        check("foo", &[Utf16, Base64], &["//5mAG8AbwA="]);
        // The example of pySigma's documentation and of the specification.
        check("foobar", &[Base64Offset], &["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]);
        check("/bin/bash", &[Base64Offset], &["L2Jpbi9iYXNo", "9iaW4vYmFza", "vYmluL2Jhc2"]);
        check(r"a\*b", &[Base64], &["YSpi"]);
        check("a-b", &[Windash], &["a-b", "a/b", "a–b", "a—b", "a―b"]);
        check("ab", &[Windash], &["ab"]);
        check("/", &[Windash, Base64], &["LQ==", "Lw==", "4oCT", "4oCU", "4oCV"]);
        check("%srv%.x", &[Expand], &["a.x", "b*.x (wild)"]);
        check("%srv%%net%", &[Expand], &["a10.0.0.1", "b*10.0.0.1 (wild)"]);
        check(r"100\%net%", &[Expand], &["100%net%"]);
        check("100% %net%", &[Expand], &["100% 10.0.0.1"]);
        check(r"\\%net%", &[Expand], &[r"\10.0.0.1"]);
        check("%%", &[Expand], &["%%"]);
        check("%net%", &[Expand, Base64], &["MTAuMC4wLjE="]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use Step::{Base64, Expand, Utf16, Utf16Be, Utf16Le, Windash};
        let label = |value, steps: &[Step]| run(value, steps).expect_err(value).reason();
        assert_eq!(label("a*", &[Base64]), "value");
        assert_eq!(label("%x%", &[Expand]), "placeholder");
        assert_eq!(label("------", &[Windash]), "too_large");
        assert_eq!(label("a-*-----*", &[Windash]), "too_large");
        assert_eq!(label(&"%srv%".repeat(20), &[Expand]), "too_large");
        let check = super::check;
        let bad = |steps: &[Step], op| assert!(check(steps, op).is_err(), "{steps:?} {op:?}");
        bad(&[Utf16], Op::Contains);
        bad(&[Base64, Windash], Op::Contains);
        bad(&[Utf16, Utf16Be, Base64], Op::Contains);
        bad(&[Base64], Op::Cidr);
        bad(&[Expand], Op::Exists);
        assert!(check(&[Expand], Op::Cidr).is_ok());
        assert!(check(&[Windash, Utf16Le, Base64], Op::Equal).is_ok());
    }

    proptest! {
        /// Wherever a text stands in another, one of its three forms stands in the other's base64.
        #[test]
        fn base64offset_finds_the_text_at_any_place(
            before in "[a-c]{0,5}", text in "[a-cé]{3,9}", after in "[a-c]{0,5}",
        ) {
            let whole = STANDARD.encode(format!("{before}{text}{after}"));
            let parts = base64_offsets(text.as_bytes());
            prop_assert!(parts.iter().any(|part| whole.contains(part)), "{parts:?} in {whole}");
        }

        #[test]
        fn texts_without_signs_expand_to_themselves(text in "[a-c*?\\\\]{0,12}") {
            let values = [SigmaValue::String(SigmaString::new(&text))];
            let options = Options::default();
            let groups = groups("f", &values, &[Step::Expand], Op::Equal, &Work::new(&options));
            let groups = groups.expect("nothing to fill in");
            prop_assert_eq!(groups[0].as_ref(), &values);
        }
    }
}
