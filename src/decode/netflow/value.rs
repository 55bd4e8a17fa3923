//! The octets of a field as JSON, by the abstract data type of its element (RFC 7011 §6.1).
//!
//! | type | JSON |
//! |---|---|
//! | unsigned, signed, of any width up to 8 octets (§6.2) | number, exact to 64 bits |
//! | unsigned256 wider than 8 octets | hex |
//! | float32, float64 | number; a text (`NaN`, `inf`, `-inf`) if not finite |
//! | boolean | `true` for 1, `false` for 2 |
//! | macAddress, ipv4Address, ipv6Address | text |
//! | string | text without trailing NULs |
//! | dateTime* | integer since the Unix epoch in the unit of the name, µs and ns truncated |
//! | octetArray, and elements that are not known | lower-case hex |
//!
//! Octets that do not fit the type (an IPv4 address of five octets, a string that is not UTF-8)
//! are hex and marked malformed. No octets at all are `null`, or an empty text: exporters send
//! fields of length 0 to say that there is nothing to say.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Number, Value};

use super::elements::Type;

/// Seconds from the NTP epoch (1900) to the Unix epoch, for era 0 (RFC 7011 §6.1.9).
const NTP_TO_UNIX_S: i64 = 2_208_988_800;

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// As the table of this module says.
    pub value: Value,
    /// Whether the octets were not what the type requires.
    pub malformed: bool,
}

/// Renders `octets` as `data_type`; `None` is an element that is not known. Lists come out as hex
/// here, as they need templates.
///
/// O(length), and at most six octets of JSON for each octet.
#[must_use]
pub fn render(data_type: Option<Type>, octets: &[u8]) -> Rendered {
    let typed = match data_type {
        None => Some(Value::String(hex(octets))),
        Some(data_type) => scalar(data_type, octets),
    };
    match typed {
        Some(value) => Rendered { value, malformed: false },
        None => malformed(octets),
    }
}

/// What stands for octets that do not fit their type.
#[must_use]
pub(super) fn malformed(octets: &[u8]) -> Rendered {
    Rendered { value: Value::String(hex(octets)), malformed: true }
}

/// The value, or `None` if `octets` are not what `data_type` requires.
fn scalar(data_type: Type, octets: &[u8]) -> Option<Value> {
    use Type as T;
    if octets.is_empty() && !matches!(data_type, T::String | T::OctetArray) {
        return Some(Value::Null);
    }
    Some(match data_type {
        T::Unsigned256 if octets.len() > 8 => Value::String(hex(octets)),
        T::Unsigned8 | T::Unsigned16 | T::Unsigned32 | T::Unsigned64 | T::Unsigned256 => {
            unsigned(octets)?.into()
        }
        T::DateTimeSeconds | T::DateTimeMilliseconds => unsigned(octets)?.into(),
        T::Signed8 | T::Signed16 | T::Signed32 | T::Signed64 => signed(octets)?.into(),
        T::Float32 | T::Float64 => float(octets)?,
        T::Boolean => match octets {
            [1] => true.into(),
            [2] => false.into(),
            _ => return None,
        },
        T::MacAddress => mac(octets.try_into().ok()?).into(),
        T::Ipv4Address => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).to_string().into(),
        T::Ipv6Address => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).to_string().into(),
        T::String => text(octets)?.into(),
        T::DateTimeMicroseconds => ntp(octets.try_into().ok()?, 1_000_000).into(),
        T::DateTimeNanoseconds => ntp(octets.try_into().ok()?, 1_000_000_000).into(),
        T::OctetArray => hex(octets).into(),
        T::BasicList | T::SubTemplateList | T::SubTemplateMultiList => return None,
    })
}

/// A big-endian integer of up to 8 octets.
#[must_use]
pub fn unsigned(octets: &[u8]) -> Option<u64> {
    let mut wide = [0; 8];
    wide.get_mut(8_usize.checked_sub(octets.len())?..)?.copy_from_slice(octets);
    Some(u64::from_be_bytes(wide))
}

/// A big-endian two's complement integer of 1 to 8 octets.
fn signed(octets: &[u8]) -> Option<i64> {
    let mut wide = if octets.first()? & 0x80 == 0 { [0; 8] } else { [0xff; 8] };
    wide.get_mut(8_usize.checked_sub(octets.len())?..)?.copy_from_slice(octets);
    Some(i64::from_be_bytes(wide))
}

fn float(octets: &[u8]) -> Option<Value> {
    let (number, text) = match *octets {
        [a, b, c, d] => {
            let single = f32::from_be_bytes([a, b, c, d]);
            // By way of text, so that 0.1 stays 0.1.
            (single.to_string().parse().unwrap_or(f64::NAN), single.to_string())
        }
        _ => {
            let double = f64::from_be_bytes(octets.try_into().ok()?);
            (double, double.to_string())
        }
    };
    Some(Number::from_f64(number).map_or(Value::String(text), Value::Number))
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

fn text(octets: &[u8]) -> Option<&str> {
    std::str::from_utf8(octets).ok().map(|text| text.trim_end_matches('\0'))
}

/// An NTP timestamp in units of which `per_second` make a second, since the Unix epoch. Instants
/// before 1970, as an all-zero field, are negative.
fn ntp(octets: [u8; 8], per_second: u32) -> i64 {
    let fixed = u64::from_be_bytes(octets);
    let seconds = i64::try_from(fixed >> 32).expect("32 bits") - NTP_TO_UNIX_S;
    let fraction = ((fixed & 0xffff_ffff) * u64::from(per_second)) >> 32;
    seconds * i64::from(per_second) + i64::try_from(fraction).expect("below a second")
}

/// Lower-case hex, two digits for each octet.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    octets.iter().flat_map(|&octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(data_type: Type, octets: &[u8], want: &Value) {
        let want = Rendered { value: want.clone(), malformed: false };
        assert_eq!(render(Some(data_type), octets), want, "{data_type:?} {octets:?}");
    }

    #[track_caller]
    fn check_malformed(data_type: Type, octets: &[u8]) {
        let want = Rendered { value: json!(hex(octets)), malformed: true };
        assert_eq!(render(Some(data_type), octets), want, "{data_type:?} {octets:?}");
    }

    #[test]
    fn numbers() {
        check(Type::Unsigned64, &[0xff; 8], &json!(u64::MAX));
        check(Type::Unsigned64, &[1, 0, 0], &json!(65_536));
        check(Type::Unsigned8, &[0, 0, 0, 6], &json!(6));
        check(Type::Unsigned32, &[], &Value::Null);
        check(Type::Signed32, &[0xff, 0xfe], &json!(-2));
        check(Type::Signed64, &[0x80, 0, 0, 0, 0, 0, 0, 0], &json!(i64::MIN));
        check(Type::Float32, &0.1_f32.to_be_bytes(), &json!(0.1));
        check(Type::Float64, &(-2.5_f64).to_be_bytes(), &json!(-2.5));
        check(Type::Float64, &f64::INFINITY.to_be_bytes(), &json!("inf"));
        check(Type::Unsigned256, &[0, 1], &json!(1));
        check(Type::Unsigned256, &[1; 9], &json!("010101010101010101"));
        check_malformed(Type::Unsigned64, &[0; 9]);
        check_malformed(Type::Float64, &[0; 5]);
    }

    #[test]
    fn texts() {
        check(Type::Boolean, &[1], &json!(true));
        check(Type::Boolean, &[2], &json!(false));
        check(Type::MacAddress, &[0, 1, 2, 0xfe, 4, 5], &json!("00:01:02:fe:04:05"));
        check(Type::Ipv4Address, &[192, 0, 2, 1], &json!("192.0.2.1"));
        check(Type::Ipv6Address, &[0; 16], &json!("::"));
        check(Type::String, b"Gi0/0\0\0\0", &json!("Gi0/0"));
        check(Type::String, b"a\0b", &json!("a\0b"));
        check(Type::String, b"", &json!(""));
        check(Type::OctetArray, &[0, 0xab], &json!("00ab"));
        assert_eq!(render(None, &[7, 0xf0]).value, json!("07f0"));
        check_malformed(Type::Boolean, &[0]);
        check_malformed(Type::MacAddress, &[1; 5]);
        check_malformed(Type::Ipv4Address, &[1; 16]);
        check_malformed(Type::Ipv6Address, &[1; 4]);
        check_malformed(Type::String, &[0xff, 0x41]);
    }

    #[test]
    fn instants() {
        check(Type::DateTimeSeconds, &[0x5f, 0, 0, 0], &json!(1_593_835_520));
        check(Type::DateTimeMilliseconds, &[0, 0, 1, 0, 0, 0, 0, 0], &json!(1_u64 << 40));
        // 2^31 s and half a second after 1900.
        let half = [0x80, 0, 0, 0, 0x80, 0, 0, 0];
        let seconds = (1_i64 << 31) - NTP_TO_UNIX_S;
        check(Type::DateTimeMicroseconds, &half, &json!(seconds * 1_000_000 + 500_000));
        check(Type::DateTimeNanoseconds, &half, &json!(seconds * 1_000_000_000 + 500_000_000));
        check(Type::DateTimeMicroseconds, &[0; 8], &json!(-NTP_TO_UNIX_S * 1_000_000));
        check_malformed(Type::DateTimeNanoseconds, &[1; 4]);
    }

    proptest! {
        #[test]
        fn reduced_width_keeps_the_integer(value: u64, width in 1_usize..=8) {
            let value = value >> (64 - 8 * width);
            let octets = &value.to_be_bytes()[8 - width..];
            let found = render(Some(Type::Unsigned64), octets);
            prop_assert_eq!(found.value.as_u64(), Some(value));
            let shift = 64 - 8 * width;
            let signed = (value << shift).cast_signed() >> shift;
            let found = render(Some(Type::Signed64), octets);
            prop_assert_eq!(found.value.as_i64(), Some(signed));
        }

        #[test]
        fn any_octets_render(id in 0_u16..540, octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let element = super::super::elements::element(0, id);
            let found = render(element.map(|element| element.data_type), &octets);
            prop_assert!(!found.malformed || found.value == json!(hex(&octets)));
        }
    }
}
