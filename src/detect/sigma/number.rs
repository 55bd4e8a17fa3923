//! Exact decimal numbers of rules and events. No integer passes through a float.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Digits that a number may have, before and after the point together.
const DIGITS_MAX: usize = 29;

/// A decimal number: `digits / 10^scale`, with a sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Decimal {
    negative: bool,
    /// Below 10^29.
    digits: u128,
    scale: u32,
}

/// Digits after the point that a threshold may have: what keeps comparisons of averages exact.
const SCALE_MAX: u32 = 12;

/// How a dialect's number relates to a field's integer: `number = integer * mul / div`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Unit {
    /// At most 10^6.
    pub mul: u32,
    /// At most 10^6.
    pub div: u32,
}

impl Unit {
    /// The number is the integer.
    pub const ONE: Self = Self { mul: 1, div: 1 };
    /// The field counts microseconds, the dialect seconds.
    pub const SECONDS: Self = Self { mul: 1, div: 1_000_000 };
    /// The field counts microseconds, the dialect milliseconds.
    pub const MILLISECONDS: Self = Self { mul: 1, div: 1_000 };
    /// The field counts microseconds, the dialect nanoseconds.
    pub const NANOSECONDS: Self = Self { mul: 1_000, div: 1 };
}

/// Where a decimal stands among the integers of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Below zero.
    Negative,
    /// At this integer.
    At(u128),
    /// Between this integer and the next.
    After(u128),
}

/// Where a time as ISO 8601 writes it, with `T` or a blank in the middle, stands among microseconds since
/// 1970. Without an offset it is in UTC; a date alone is its first instant.
#[must_use]
pub fn instant(text: &str) -> Option<Place> {
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    let nanos = instant.as_nanosecond();
    Some(match u128::try_from(nanos) {
        Err(_) => Place::Negative,
        Ok(nanos) if nanos % 1_000 == 0 => Place::At(nanos / 1_000),
        Ok(nanos) => Place::After(nanos / 1_000),
    })
}

impl Decimal {
    /// From an integer.
    #[must_use]
    pub const fn integer(value: i64) -> Self {
        Self { negative: value < 0, digits: value.unsigned_abs() as u128, scale: 0 }
    }

    /// From text: an optional sign, digits, optionally a point and digits. At most 29 digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match unsigned.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (unsigned, ""),
        };
        let all_digits = whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits || whole.len() + fraction.len() > DIGITS_MAX {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes());
        let digits = digits.fold(0, |sum, b| sum * 10 + u128::from(b - b'0'));
        let scale = u32::try_from(fraction.len()).expect("at most 29");
        Some(Self { negative: negative && digits > 0, digits, scale })
    }

    /// From a float's shortest decimal form, which is what a rule's author wrote; `None` if it is
    /// not finite or an integer that a float cannot tell from its neighbours (2^53 and above).
    #[must_use]
    pub fn float(value: f64) -> Option<Self> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.abs() < EXACT { Self::parse(&value.to_string()) } else { None }
    }

    /// Whether averages can be compared with it: not negative, and at most 12 digits after the point.
    #[must_use]
    pub const fn is_threshold(self) -> bool {
        !self.negative && self.scale <= SCALE_MAX
    }

    /// A threshold as the field's integers and a rest: `whole + rest / under`, where `rest < under`
    /// and `under` is at most 10^18.
    #[must_use]
    pub const fn split(self, unit: Unit) -> (u128, u64, u64) {
        let over = self.digits * unit.div as u128;
        let under = 10_u64.pow(self.scale) * unit.mul as u64;
        #[expect(clippy::cast_possible_truncation, reason = "the rest is below `under`")]
        (over / under as u128, (over % under as u128) as u64, under)
    }

    /// Where the number stands among integers that `unit` relates to it.
    #[must_use]
    pub const fn place(self, unit: Unit) -> Place {
        if self.negative {
            return Place::Negative;
        }
        // At most 10^29 * 10^6, below 2^117; the divisor at most 10^29 * 10^6.
        let over = self.digits * unit.div as u128;
        let under = 10_u128.pow(self.scale) * unit.mul as u128;
        if over.is_multiple_of(under) {
            Place::At(over / under)
        } else {
            Place::After(over / under)
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u128.pow(self.scale);
        let (whole, fraction) = (self.digits / one, self.digits % one);
        write!(f, "{}{whole}", if self.negative { "-" } else { "" })?;
        if fraction > 0 {
            let digits = format!("{fraction:0width$}", width = self.scale as usize);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, unit: Unit, want: Option<Place>) {
        assert_eq!(Decimal::parse(text).map(|d| d.place(unit)), want, "{text}");
    }

    #[test]
    fn decimals_are_exact() {
        check("443", Unit::ONE, Some(Place::At(443)));
        check("443.0", Unit::ONE, Some(Place::At(443)));
        check("443.5", Unit::ONE, Some(Place::After(443)));
        check("-1", Unit::ONE, Some(Place::Negative));
        check("-0", Unit::ONE, Some(Place::At(0)));
        check("0.1", Unit::SECONDS, Some(Place::At(100_000)));
        check("0.1234567", Unit::SECONDS, Some(Place::After(123_456)));
        check("1500", Unit::NANOSECONDS, Some(Place::After(1)));
        check("18446744073709551615", Unit::ONE, Some(Place::At(u128::from(u64::MAX))));
        let last = 99_999_999_999_999_999_999_999_999_999;
        check("99999999999999999999999999999", Unit::SECONDS, Some(Place::At(last * 1_000_000)));
        for bad in ["", "-", ".5", "5.", "1e3", "0x17", "+1", " 1", "１", "1_000"] {
            check(bad, Unit::ONE, None);
        }
        check("999999999999999999999999999999", Unit::ONE, None);
    }

    #[test]
    fn floats_are_what_was_written() {
        assert_eq!(Decimal::float(0.1), Decimal::parse("0.1"));
        assert_eq!(Decimal::float(1e15), Decimal::parse("1000000000000000"));
        assert_eq!(Decimal::float(-2.5), Decimal::parse("-2.5"));
        for bad in [f64::NAN, f64::INFINITY, 9_007_199_254_740_992.0, 1.8e19] {
            assert_eq!(Decimal::float(bad), None, "{bad}");
        }
    }
}
