//! Values that several formats write alike.

use crate::output::ndjson::{integer, string};

/// A number as JSON and as text.
pub(super) fn put_int(out: &mut Vec<u8>, value: i64) -> bool {
    integer(out, value);
    true
}

/// A number, or nothing.
pub(super) fn put_some(out: &mut Vec<u8>, value: Option<i64>) -> bool {
    value.is_some_and(|value| put_int(out, value))
}

/// A JSON string, or nothing if it is empty.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) -> bool {
    string(out, text);
    !text.is_empty()
}

/// A JSON array of strings, or nothing if it is empty.
pub(super) fn put_texts<T: AsRef<str>>(out: &mut Vec<u8>, texts: &[T]) -> bool {
    put_list(out, texts, |out, text| string(out, text.as_ref()));
    !texts.is_empty()
}

/// A JSON array.
pub(super) fn put_list<T>(out: &mut Vec<u8>, items: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put(out, item);
    }
    out.push(b']');
}

/// Microseconds since the epoch as RFC 3339 in UTC, quoted, with six digits of fraction. Times
/// outside the years 0 to 9999, which RFC 3339 cannot write, become the nearest that it can.
pub(super) fn put_date(out: &mut Vec<u8>, micros: i64) -> bool {
    out.push(b'"');
    put_time(out, micros);
    out.push(b'"');
    true
}

/// The same without quotes.
pub(super) fn put_time(out: &mut Vec<u8>, micros: i64) {
    const FIRST: i64 = -62_167_219_200_000_000;
    const LAST: i64 = 253_402_300_799_999_999;
    let micros = micros.clamp(FIRST, LAST);
    let (second, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (day, second) = (second.div_euclid(86_400), second.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    digits::<4>(out, year);
    out.push(b'-');
    digits::<2>(out, month);
    out.push(b'-');
    digits::<2>(out, day);
    out.push(b'T');
    digits::<2>(out, second / 3_600);
    out.push(b':');
    digits::<2>(out, second / 60 % 60);
    out.push(b':');
    digits::<2>(out, second % 60);
    out.push(b'.');
    digits::<6>(out, fraction);
    out.push(b'Z');
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. The year
/// is counted from March, so that the leap day is its last.
fn civil(day: i64) -> (i64, i64, i64) {
    const DAYS_400_YEARS: i64 = 146_097;
    let since_march_0 = day + 719_468;
    let era = since_march_0.div_euclid(DAYS_400_YEARS);
    let day = since_march_0.rem_euclid(DAYS_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let (year, month) = match month {
        0..10 => (year, month + 3),
        _ => (year + 1, month - 9),
    };
    (era * 400 + year, month, day - first + 1)
}

fn digits<const N: usize>(out: &mut Vec<u8>, mut value: i64) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(value % 10).expect("a digit");
        value /= 10;
    }
    out.extend_from_slice(&text);
}

/// The keyword of an IP protocol in IANA's registry, in lower case; only of those that flows meet.
pub(super) const fn protocol_name(protocol: i64) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        2 => "igmp",
        4 => "ipv4",
        6 => "tcp",
        8 => "egp",
        17 => "udp",
        33 => "dccp",
        41 => "ipv6",
        46 => "rsvp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        88 => "eigrp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        115 => "l2tp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// A level of Sigma on CEF's scale, 0 to 10.
pub(super) fn severity_of_ten(level: &str) -> i64 {
    match level {
        "informational" => 1,
        "low" => 3,
        "high" => 8,
        "critical" => 10,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(micros: i64, want: &str) {
        let mut out = Vec::new();
        put_time(&mut out, micros);
        assert_eq!(String::from_utf8(out).expect("text"), want);
    }

    #[test]
    fn times_are_rfc_3339() {
        check(0, "1970-01-01T00:00:00.000000Z");
        check(-1, "1969-12-31T23:59:59.999999Z");
        check(951_782_400_000_001, "2000-02-29T00:00:00.000001Z");
        check(951_868_799_999_999, "2000-02-29T23:59:59.999999Z");
        check(4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z");
        check(i64::MIN, "0000-01-01T00:00:00.000000Z");
        check(i64::MAX, "9999-12-31T23:59:59.999999Z");
    }

    proptest! {
        #[test]
        fn times_are_those_of_jiff(micros in -62_135_596_800_000_000..253_402_200_000_000_000_i64) {
            let mut out = Vec::new();
            put_time(&mut out, micros);
            let text = String::from_utf8(out).expect("text");
            let parsed: jiff::Timestamp = text.parse().expect("RFC 3339");
            prop_assert_eq!(parsed.as_microsecond(), micros);
        }
    }
}
