//! Cells to values. Each returns `None` for what it does not take; none allocates.

use crate::time::{Micros, SECOND};

/// Longest duration that is believed: a hundred years, in microseconds.
const DURATION_MAX_US: i64 = 100 * 365 * 86_400 * SECOND;
/// Digits after the point that can matter; the rest is rounding noise.
const FRACTION_DIGITS: usize = 12;

/// Whether a cell says that there is no value: empty, or one of the words that tools write then.
pub(super) fn absent(text: &str) -> bool {
    let words = ["nan", "null", "none", "na", "n/a", "-", "\\n"];
    text.is_empty() || words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A whole number, 0 to [`i64::MAX`]: what every output can hold. `508.0` and `1.2e3` are whole.
pub(super) fn count(text: &str) -> Option<u64> {
    number(text).filter(|&value| i64::try_from(value).is_ok())
}

fn number(text: &str) -> Option<u64> {
    if let Ok(value) = text.parse() {
        // `parse` takes a sign; a count has none, but `+5` does no harm.
        return Some(value);
    }
    if let Some((whole, fraction)) = text.split_once('.')
        && fraction.bytes().all(|b| b == b'0')
    {
        return if whole.starts_with('+') { None } else { whole.parse().ok() };
    }
    if !text.contains(['e', 'E']) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    (value.fract() == 0.0 && (0.0..1.8e19).contains(&value)).then_some(value as u64)
}

/// A port: a whole number up to 65,535.
pub(super) fn port(text: &str) -> Option<u16> {
    u16::try_from(count(text)?).ok()
}

/// An IP protocol by number or by name.
pub(super) fn protocol(text: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 14] = [
        ("tcp", 6),
        ("udp", 17),
        ("icmp", 1),
        ("icmpv6", 58),
        ("icmp6", 58),
        ("ipv6-icmp", 58),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("igmp", 2),
        ("ipip", 4),
        ("ospf", 89),
        ("pim", 103),
        ("sctp", 132),
    ];
    let named = NAMES.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
    named.map(|&(_, number)| number).or_else(|| u8::try_from(count(text)?).ok())
}

/// A duration in microseconds, 0 to a hundred years, of a decimal number whose unit is 10 to the
/// `exponent` microseconds. Rounds to the nearest.
pub(super) fn duration(text: &str, exponent: i32) -> Option<i64> {
    let micros = match text.strip_prefix('-') {
        Some(rest) => scaled(rest, exponent).filter(|&micros| micros == 0),
        None => scaled(text, exponent),
    };
    micros.filter(|&micros| micros <= DURATION_MAX_US)
}

/// An instant: `YYYY-MM-DD` or `YYYY/MM/DD`, a blank or `T`, `HH:MM:SS`, then optionally a fraction
/// and `Z` or an offset (RFC 3339); without one it is UTC. Or a number since the epoch, whose unit
/// follows from its magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17
/// microseconds, else nanoseconds.
pub(super) fn timestamp(text: &str) -> Option<Micros> {
    let calendar = text.as_bytes().get(4).is_some_and(|b| matches!(b, b'-' | b'/'));
    if calendar { civil(text.as_bytes()) } else { epoch(text) }
}

fn epoch(text: &str) -> Option<Micros> {
    let value: f64 = text.parse().ok()?;
    let exponent = match value {
        v if v.is_nan() || v < 0.0 => return None,
        v if v < 1e11 => 6,
        v if v < 1e14 => 3,
        v if v < 1e17 => 0,
        v if v < 1e20 => -3,
        _ => return None,
    };
    scaled(text, exponent).map(Micros)
}

/// A decimal number of at least 0 times 10 to the `exponent`, rounded to a whole number. Exact up
/// to [`FRACTION_DIGITS`] digits after the point.
fn scaled(text: &str, exponent: i32) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return scientific(text, exponent);
    }
    if whole.is_empty() && fraction.is_empty() || whole.len() > 20 {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let all = whole.bytes().chain(fraction.bytes());
    let mantissa = all.fold(0_u128, |sum, b| sum * 10 + u128::from(b - b'0'));
    let scale = exponent - i32::try_from(fraction.len()).expect("at most twelve");
    let power = 10_u128.pow(scale.unsigned_abs());
    let value = if scale >= 0 { mantissa * power } else { (mantissa + power / 2) / power };
    i64::try_from(value).ok()
}

fn scientific(text: &str, exponent: i32) -> Option<i64> {
    if !text.contains(['e', 'E']) {
        return None;
    }
    let value = text.parse::<f64>().ok()? * 10_f64.powi(exponent);
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    (0.0..9.2e18).contains(&value).then_some(value.round() as i64)
}

fn civil(text: &[u8]) -> Option<Micros> {
    let (date, rest) = text.split_at_checked(10)?;
    let (separator, rest) = rest.split_first()?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let shape = date[4] == date[7]
        && matches!(separator, b' ' | b'T' | b't')
        && clock[2] == b':'
        && clock[5] == b':';
    if !shape {
        return None;
    }
    let (year, month, day) = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let (hour, minute) = (digits(&clock[..2])?, digits(&clock[3..5])?);
    // 60 is a leap second: the next second.
    let second = digits(&clock[6..])?;
    let valid = (1..=12).contains(&month)
        && (1..=days_of_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !valid {
        return None;
    }
    let (micros, rest) = fraction(rest)?;
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Micros::from_secs(seconds - offset(rest)?).plus(micros))
}

/// Microseconds of `.ffffff`, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', rest)) = text.split_first() else { return Some((0, text)) };
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let places = rest[..length].iter().chain(std::iter::repeat(&b'0')).take(6);
    let micros = places.fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
    (length > 0).then_some((micros, &rest[length..]))
}

/// Seconds that local time is ahead of UTC: nothing, `Z`, `UTC`, `±HH:MM`, `±HHMM` or `±HH`.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii_start();
    let (sign, rest) = match text.split_first() {
        None => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        _ => {
            return (text.eq_ignore_ascii_case(b"z") || text.eq_ignore_ascii_case(b"utc"))
                .then_some(0);
        }
    };
    let (hours, minutes) = match rest {
        [_, _] => (digits(rest)?, 0),
        [h @ .., b':', m1, m2] if h.len() == 2 => (digits(h)?, digits(&[*m1, *m2])?),
        [_, _, _, _] => (digits(&rest[..2])?, digits(&rest[2..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    let number = |sum: i64, b: &u8| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'));
    text.iter().try_fold(0, number)
}

const fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar; years begin in March here, so that the leap day
/// is the last of its year.
const fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_of_every_form() {
        let check = |text: &str, want: Option<i64>| {
            assert_eq!(timestamp(text).map(|t| t.0), want, "case: {text}");
        };
        let at = 1_488_876_958_000_000;
        check("2017-03-07 08:55:58", Some(at));
        check("2017-03-07T08:55:58", Some(at));
        check("2017/03/07 08:55:58", Some(at));
        check("2017-03-07T08:55:58Z", Some(at));
        check("2017-03-07T08:55:58.134Z", Some(at + 134_000));
        check("2017-03-07T08:55:58.123456789Z", Some(at + 123_456));
        check("2017-03-07 10:55:58+02:00", Some(at));
        check("2017-03-07T03:25:58.5-0530", Some(at + 500_000));
        check("2017-03-07 09:55:58 +01", Some(at));
        check("2017-03-07 08:55:58 UTC", Some(at));
        check("1488876958", Some(at));
        check("1488876958.25", Some(at + 250_000));
        check("1488876958000", Some(at));
        check("1488876958000001", Some(at + 1));
        check("1488876958000001000", Some(at + 1));
        check("1.488876958e9", Some(at));
        check("0", Some(0));
        check("12.5", Some(12_500_000));
        for bad in [
            "",
            "x",
            "-5",
            "nan",
            "inf",
            "1e30",
            "2017-03-07",
            "2017-13-07 08:55:58",
            "2017-02-29 08:55:58",
            "2017-03-07 24:00:00",
            "2017-03-07 08:55:58.",
            "2017-03-07 08:55:58X",
            "2017-03/07 08:55:58",
            "2017-03-07 08:55:58+1",
            "2017-03-07 08:55:58+25:00",
            "07.03.2017 08:55",
            "2017-03-07é08:55:58",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn numbers_of_every_form() {
        for (text, want) in [
            ("0", Some(0)),
            ("443.0", Some(443)),
            ("508.", Some(508)),
            ("1.2e3", Some(1_200)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775807.0", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("9223372036854775808.0", None),
            ("9e18", Some(9_000_000_000_000_000_000)),
            ("9.223372036854775808e18", None),
            ("18446744073709551615", None),
            ("1e308", None),
            ("9007199254740993", Some((1 << 53) + 1)),
            ("1.5", None),
            ("-1", None),
            ("-1.0", None),
            ("1e30", None),
            ("1.25e1", None),
            ("inf", None),
            (".", None),
            ("0x10", None),
        ] {
            assert_eq!(count(text), want, "case: {text}");
        }
        assert_eq!((port("65535.0"), port("65536")), (Some(65_535), None));
        for (text, want) in
            [("TCP", Some(6)), ("17.0", Some(17)), ("ipv6-icmp", Some(58)), ("256", None)]
        {
            assert_eq!(protocol(text), want, "case: {text}");
        }
    }

    #[test]
    fn durations_are_exact_to_the_microsecond() {
        for (text, exponent, want) in [
            ("0.30000000000000004", 6, Some(300_000)),
            ("1", 6, Some(1_000_000)),
            ("2.5", 3, Some(2_500)),
            ("1499", -3, Some(1)),
            ("1500", -3, Some(2)),
            ("1e-3", 6, Some(1_000)),
            ("-0.0", 6, Some(0)),
            ("-1", 6, None),
            ("nan", 6, None),
            ("1e12", 6, None),
            ("99999999999999999999999", 6, None),
            ("", 6, None),
            (".5", 6, Some(500_000)),
        ] {
            assert_eq!(duration(text, exponent), want, "case: {text}");
        }
    }

    proptest! {
        #[test]
        fn the_calendar_is_the_librarys(seconds in -62_135_596_800_i64..253_402_300_799) {
            let civil = jiff::Timestamp::from_second(seconds).expect("in range");
            let text = civil.strftime("%Y-%m-%d %H:%M:%S").to_string();
            prop_assert_eq!(timestamp(&text), Some(Micros::from_secs(seconds)));
        }

        #[test]
        fn any_text_never_panics(text in ".{0,40}", exponent in -3..=6) {
            let _ = (timestamp(&text), count(&text), duration(&text, exponent), protocol(&text));
        }

        #[test]
        fn any_digits_never_panic(text in "[0-9:/ TZeE.+-]{0,40}", exponent in -3..=6) {
            let _ = (timestamp(&text), count(&text), duration(&text, exponent), port(&text));
        }
    }
}
