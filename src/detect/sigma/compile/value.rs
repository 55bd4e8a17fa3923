//! One value of a detection item: to a set of integers, to a text matcher, to flag bits.

use rsigma_parser::{SigmaString, SigmaValue, SpecialChar, StringPart};

use super::item::{Item, looks_like_a_placeholder};
use super::transform::Step;
use crate::detect::sigma::fields::{Kind, words};
use crate::detect::sigma::interval::IntervalSet;
use crate::detect::sigma::names::TCP_FLAGS;
use crate::detect::sigma::number::{Decimal, Place, instant};
use crate::detect::sigma::predicate::Reference;
use crate::detect::sigma::reason::Reason;
use crate::detect::sigma::text::{Glyph, Matcher, Pattern, TextBuf};
use crate::net::{Addr, Cidr};

/// What an item does with its values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Op {
    Equal,
    Contains,
    StartsWith,
    EndsWith,
    Regex { ignore_case: bool, multi_line: bool, dot_all: bool },
    Cidr,
    Compare(Compare),
    Exists,
    Reference(Reference),
}

/// An order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compare {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Op {
    /// The modifier's name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equality",
            Self::Contains => "contains",
            Self::StartsWith => "startswith",
            Self::EndsWith => "endswith",
            Self::Regex { .. } => "re",
            Self::Cidr => "cidr",
            Self::Compare(Compare::Less) => "lt",
            Self::Compare(Compare::LessOrEqual) => "lte",
            Self::Compare(Compare::Greater) => "gt",
            Self::Compare(Compare::GreaterOrEqual) => "gte",
            Self::Exists => "exists",
            Self::Reference(_) => "fieldref",
        }
    }

    const fn is_textual(self) -> bool {
        matches!(self, Self::Contains | Self::StartsWith | Self::EndsWith | Self::Regex { .. })
    }
}

/// Domains up to this size are enumerated at load, so that a text match becomes a set.
const ENUMERATED_MAX: u128 = 0xffff;

/// Whether the item has to look at text while it runs: free text does always; addresses and large
/// integers if a value has wildcards that are no prefix of an IPv4 address.
pub(super) fn is_text(item: &Item<'_>, values: &[SigmaValue]) -> bool {
    match item.field.kind() {
        Kind::Text => !matches!(item.op, Op::Cidr | Op::Compare(_)),
        Kind::Time { .. } => false,
        _ if item.field.max() <= ENUMERATED_MAX => false,
        _ if item.op.is_textual() => !values.iter().all(|v| v4_prefix(item, v).is_some()),
        _ => item.op == Op::Equal && values.iter().any(|v| needs_text(item, v)),
    }
}

fn needs_text(item: &Item<'_>, value: &SigmaValue) -> bool {
    let wild = matches!(value, SigmaValue::String(text) if text.contains_wildcards());
    wild && v4_prefix(item, value).is_none()
}

/// The value as a set over the field's domain.
pub(super) fn set(item: &Item<'_>, value: &SigmaValue) -> Result<IntervalSet, Reason> {
    let max = item.field.max();
    match (item.field.kind(), item.op) {
        (Kind::Address, Op::Cidr) => {
            let cidr: Cidr = plain(value)
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| item.value(value, "a network such as 192.0.2.0/24"))?;
            Ok(network(cidr))
        }
        (_, Op::Cidr) => Err(item.modifier("the field is no address")),
        (Kind::Address, Op::Compare(_)) => Err(item.modifier("addresses have no order: use cidr")),
        (Kind::Address, _) => address(item, value),
        (Kind::Time { .. }, op) if op.is_textual() => {
            Err(item.modifier("times are compared as numbers"))
        }
        (Kind::Integer { .. } | Kind::Time { .. } | Kind::Protocol, Op::Compare(how)) => {
            let place = place(item, value).ok_or_else(|| item.value(value, expected(item)))?;
            Ok(compared(place, how, max))
        }
        (_, Op::Compare(_)) => Err(item.modifier("the field is no number")),
        (Kind::Integer { .. }, op) if op.is_textual() || is_wild(value) => {
            let matcher = matcher(item, value)?;
            let matches = |v: u128| matcher.matches(TextBuf::of(v).as_str());
            Ok(IntervalSet::where_true(max, matches))
        }
        (Kind::Integer { .. } | Kind::Time { .. }, _) => {
            let place = place(item, value).ok_or_else(|| {
                let range = plain(value).is_some_and(|text| is_range(&text));
                let range =
                    range.then_some("a decimal number: a range is written with `gte` and `lte`");
                item.value(value, range.unwrap_or(expected(item)))
            })?;
            Ok(match place {
                Place::At(v) if v <= max => IntervalSet::one(v),
                _ => IntervalSet::EMPTY,
            })
        }
        (Kind::Site, _) => sites(item, value),
        (Kind::Named(_) | Kind::Protocol, _) => named(item, value),
        (Kind::Text | Kind::FlagNames, _) => Err(item.modifier("the field is text")),
    }
}

/// Where a value stands among the integers of the item's field: a number in the dialect's unit, and of
/// an instant also a time as ISO 8601 writes it.
fn place(item: &Item<'_>, value: &SigmaValue) -> Option<Place> {
    if let Some(number) = number(value) {
        return Some(number.place(item.unit));
    }
    match item.field.kind() {
        Kind::Time { instant: true } => instant(&plain(value)?),
        _ => None,
    }
}

/// What [`place`] takes.
const fn expected(item: &Item<'_>) -> &'static str {
    match item.field.kind() {
        Kind::Time { instant: true } => "a number, or a time such as 2026-01-31T12:00:00Z",
        Kind::Time { instant: false } => match (item.unit.mul, item.unit.div) {
            (1, 1_000_000) => "a decimal number of seconds",
            (1, 1_000) => "a decimal number of milliseconds",
            _ => "a decimal number of nanoseconds",
        },
        _ => "a decimal number",
    }
}

/// `192.0.2.1-192.0.2.9`, which Sigma has no values of.
fn is_address_range(text: &str) -> bool {
    let address = |part: &str| part.trim().parse::<Addr>().is_ok();
    text.split_once('-').is_some_and(|(from, to)| address(from) && address(to))
}

/// `1-1024`, which Sigma has no values of.
fn is_range(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('-').is_some_and(|(from, to)| number(from.trim()) && number(to.trim()))
}

fn compared(place: Place, how: Compare, max: u128) -> IntervalSet {
    use Compare::{Greater, GreaterOrEqual, Less, LessOrEqual};
    let above =
        |v: u128| v.checked_add(1).map_or(IntervalSet::EMPTY, |v| IntervalSet::range(v, max));
    let up_to = |v: u128| IntervalSet::range(0, v.min(max));
    match (place, how) {
        (Place::Negative, Greater | GreaterOrEqual) => IntervalSet::range(0, max),
        (Place::Negative, Less | LessOrEqual) => IntervalSet::EMPTY,
        (Place::At(v), GreaterOrEqual) => IntervalSet::range(v, max),
        (Place::At(v) | Place::After(v), Greater) | (Place::After(v), GreaterOrEqual) => above(v),
        (Place::At(v), Less) => v.checked_sub(1).map_or(IntervalSet::EMPTY, up_to),
        (Place::At(v) | Place::After(v), LessOrEqual) | (Place::After(v), Less) => up_to(v),
    }
}

/// The addresses of a network. One of IPv6 holds no IPv4 address, though their integers may lie in it.
fn network(cidr: Cidr) -> IntervalSet {
    let (first, last) = cidr.bounds();
    let (v4_first, v4_last) = (Addr::v4(0), Addr::v4(u32::MAX));
    if v4_first <= first || last < v4_last {
        return IntervalSet::range(first.0, last.0);
    }
    let below = IntervalSet::range(first.0, v4_first.0 - 1);
    below.union(&IntervalSet::range(v4_last.0 + 1, last.0))
}

fn address(item: &Item<'_>, value: &SigmaValue) -> Result<IntervalSet, Reason> {
    if let Some(set) = v4_prefix(item, value) {
        return Ok(set);
    }
    match plain(value) {
        // An address is never an empty text.
        Some(text) if text.is_empty() => Ok(IntervalSet::EMPTY),
        Some(text) => match text.parse::<Addr>() {
            Ok(address) => Ok(IntervalSet::one(address.0)),
            Err(_) if text.parse::<Cidr>().is_ok() => {
                Err(item.value(value, "a single address: a network takes the modifier `cidr`"))
            }
            Err(_) if is_address_range(&text) => {
                let expected = "a single address: a range is written as networks, with `cidr`";
                Err(item.value(value, expected))
            }
            Err(_) => Err(item.value(value, "an IPv4 or IPv6 address")),
        },
        None => Err(item.value(value, "an IPv4 or IPv6 address")),
    }
}

/// `10.*`, or `startswith: '10.'`, as the networks it stands for. Only where the text before the
/// `*` has a dot: `1*` may begin an IPv6 address, too.
fn v4_prefix(item: &Item<'_>, value: &SigmaValue) -> Option<IntervalSet> {
    let is_prefix =
        item.field.kind() == Kind::Address && matches!(item.op, Op::Equal | Op::StartsWith);
    let SigmaValue::String(text) = value else { return None };
    if !is_prefix {
        return None;
    }
    let prefix = Pattern::new(glyphs(text, item.op), true).prefix()?;
    let (octets, partial) = prefix.rsplit_once('.')?;
    let mut base = 0_u128;
    let mut known = 0;
    for octet in octets.split('.') {
        let canonical = octet == "0" || !octet.starts_with('0');
        let octet: u8 = canonical.then(|| octet.parse().ok())??;
        (base, known) = (base << 8 | u128::from(octet), known + 1);
    }
    if known > 3 || !partial.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let free = 32 - 8 * known;
    let first = Addr::v4(0).0 | base << free;
    if partial.is_empty() {
        return Some(IntervalSet::range(first, first | ((1 << free) - 1)));
    }
    let next =
        IntervalSet::where_true(0xff, |octet| TextBuf::of(octet).as_str().starts_with(partial));
    let wide = |&(a, b): &(u128, u128)| {
        IntervalSet::range(first | a << (free - 8), first | (((b + 1) << (free - 8)) - 1))
    };
    Some(IntervalSet::union_of(next.intervals().iter().map(wide)))
}

/// Protocols, directions, booleans, states: each integer by its words or its number.
fn named(item: &Item<'_>, value: &SigmaValue) -> Result<IntervalSet, Reason> {
    let kind = item.field.kind();
    let matcher = matcher(item, value)?;
    let by_number = matches!(kind, Kind::Protocol);
    let set = IntervalSet::where_true(item.field.max(), |v| {
        words(kind, v).iter().any(|word| matcher.matches(word))
            || by_number && matcher.matches(TextBuf::of(v).as_str())
    });
    if set.is_empty() && item.op == Op::Equal && !is_wild(value) && !is_empty(value) {
        return Err(item.value(
            value,
            match kind {
                Kind::Named(all) => {
                    let first: Vec<&str> = all.iter().filter_map(|w| w.first().copied()).collect();
                    format!("one of {}", first.join(", "))
                }
                _ => "the name or number of an IP protocol".to_owned(),
            },
        ));
    }
    Ok(set)
}

fn sites(item: &Item<'_>, value: &SigmaValue) -> Result<IntervalSet, Reason> {
    let matcher = matcher(item, value)?;
    let sites = item.work.options.sites.iter().zip(0_u128..);
    let found = sites.filter(|(name, _)| matcher.matches(name)).map(|(_, v)| IntervalSet::one(v));
    let set = IntervalSet::union_of(found);
    if set.is_empty() && item.op == Op::Equal && !is_wild(value) {
        return Err(item.value(value, "the name of a site of the configuration"));
    }
    Ok(set)
}

/// The bit of a TCP flag.
pub(super) fn flag(item: &Item<'_>, value: &SigmaValue) -> Result<u16, Reason> {
    let name = plain(value).unwrap_or_default();
    let found = TCP_FLAGS.iter().find(|(flag, _)| flag.eq_ignore_ascii_case(&name));
    let expected = "one of fin, syn, rst, psh, ack, urg, ece, cwr, ns";
    found.map(|(_, bit)| *bit).ok_or_else(|| item.value(value, expected))
}

/// The value as something that a text is matched against.
pub(super) fn matcher(item: &Item<'_>, value: &SigmaValue) -> Result<Matcher, Reason> {
    if let Op::Regex { ignore_case, multi_line, dot_all } = item.op {
        let SigmaValue::String(text) = value else {
            return Err(item.value(value, "a regular expression"));
        };
        // Written into the expression, so that sets of them can be made.
        let flags = [(ignore_case, 'i'), (multi_line, 'm'), (dot_all, 's')];
        let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
        let flags = if flags.is_empty() { flags } else { format!("(?{flags})") };
        let built = item.work.regex(&format!("{flags}{}", text.original));
        return built?.map(Matcher::Regex).map_err(|error| Reason::Regex {
            field: item.name.to_owned(),
            pattern: text.original.clone(),
            error: error.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        });
    }
    if let SigmaValue::String(text) = value
        && item.field.kind() == Kind::Text
        && !item.steps.contains(&Step::Expand)
        && looks_like_a_placeholder(&text.original)
    {
        let name = item.name;
        item.work.note(format!(
            "`{text}` on `{name}` is looked for as it stands: a placeholder takes the modifier `expand`"
        ));
    }
    let text = match value {
        SigmaValue::String(text) => text.clone(),
        // An integer that YAML reads as a float has lost its last digits.
        SigmaValue::Float(f) if Decimal::float(*f).is_none() => {
            return Err(item.value(value, "exact as a float: write it in quotes"));
        }
        other => SigmaString::from_raw(&other.to_string()),
    };
    Ok(Matcher::Glob(Pattern::new(glyphs(&text, item.op), item.cased)))
}

fn glyphs(text: &SigmaString, op: Op) -> Vec<Glyph> {
    let mut glyphs = Vec::new();
    if matches!(op, Op::Contains | Op::EndsWith) {
        glyphs.push(Glyph::Many);
    }
    for part in &text.parts {
        match part {
            StringPart::Plain(plain) => glyphs.extend(plain.chars().map(Glyph::Char)),
            StringPart::Special(SpecialChar::WildcardMulti) => glyphs.push(Glyph::Many),
            StringPart::Special(SpecialChar::WildcardSingle) => glyphs.push(Glyph::One),
        }
    }
    if matches!(op, Op::Contains | Op::StartsWith) {
        glyphs.push(Glyph::Many);
    }
    glyphs
}

fn is_wild(value: &SigmaValue) -> bool {
    matches!(value, SigmaValue::String(text) if text.contains_wildcards())
}

fn is_empty(value: &SigmaValue) -> bool {
    matches!(value, SigmaValue::String(text) if text.original.is_empty())
}

fn plain(value: &SigmaValue) -> Option<String> {
    match value {
        SigmaValue::String(text) => text.as_plain(),
        SigmaValue::Integer(n) => Some(n.to_string()),
        SigmaValue::Bool(b) => Some(b.to_string()),
        SigmaValue::Float(_) | SigmaValue::Null => None,
    }
}

fn number(value: &SigmaValue) -> Option<Decimal> {
    match value {
        SigmaValue::Integer(n) => Some(Decimal::integer(*n)),
        SigmaValue::Float(f) => Decimal::float(*f),
        SigmaValue::String(text) => Decimal::parse(&text.as_plain()?),
        SigmaValue::Bool(_) | SigmaValue::Null => None,
    }
}
