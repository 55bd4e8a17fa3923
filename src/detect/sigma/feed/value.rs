//! One indicator: what a text on a line of a feed stands for.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use crate::net::Addr;

/// Characters of a name, at most.
const NAME_CHARS_MAX: usize = 128;

/// What an indicator stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// These addresses, both ends included.
    Addresses(u128, u128),
    /// These ports, both ends included.
    Ports(u16, u16),
    /// This name.
    Name(String),
}

/// Why a text is no indicator.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Nothing that is known.
    #[error("not an address, network, range, port or name")]
    Unknown,
    /// `/0` and the like.
    #[error("a network that holds every IPv4 address, and so would match every flow")]
    Everything,
    /// Out of order.
    #[error("a range that ends before it begins, or mixes IPv4 and IPv6")]
    Range,
    /// A number over 65,535, or 0.
    #[error("a number that is no port (1 to 65535)")]
    Port,
    /// Flows have none.
    #[error("a domain name, or a URL with one: flows carry no domain names")]
    Domain,
    /// Flows have none.
    #[error("an e-mail address: flows carry none")]
    Mail,
    /// Flows have none.
    #[error("a hash of a file: flows carry none")]
    Hash,
    /// More than one word.
    #[error("an indicator with more behind it: expected one a line")]
    Trailing,
    /// Not what `kind` asks for.
    #[error("an indicator of another kind than the feed's")]
    Kind,
    /// No UTF-8, or over 64 KiB.
    #[error("no text in UTF-8, or over 65536 octets long")]
    Line,
    /// A row without the column.
    #[error("in a row that lacks the column, or has an open quote")]
    Row,
    /// Over the limit of names.
    #[error("one name more than the 10000 that a feed may have")]
    NamesMax,
}

/// Reads a trimmed text. The forms of addresses that nearly every line has cost no allocation.
pub(super) fn parse(text: &[u8]) -> Result<Value, Fault> {
    if let Some(v4) = ipv4(text) {
        let address = Addr::v4(v4).0;
        return Ok(Value::Addresses(address, address));
    }
    let text = std::str::from_utf8(text).map_err(|_| Fault::Line)?;
    if let Some(found) = plain(text) {
        return found;
    }
    match refanged(text) {
        Some(refanged) => plain(&refanged).unwrap_or_else(|| other(&refanged)),
        None => other(text),
    }
}

/// Four decimal numbers of at most 255 without leading zeros, which some read as octal.
fn ipv4(text: &[u8]) -> Option<u32> {
    if text.len() > 15 {
        return None;
    }
    let (mut bits, mut part, mut digits, mut dots) = (0_u32, 0_u32, 0, 0);
    for &octet in text {
        match octet {
            b'0'..=b'9' => {
                if digits > 0 && part == 0 {
                    return None;
                }
                part = part * 10 + u32::from(octet - b'0');
                digits += 1;
                if digits > 3 || part > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && dots < 3 => {
                bits = bits << 8 | part;
                (part, digits, dots) = (0, 0, dots + 1);
            }
            _ => return None,
        }
    }
    (dots == 3 && digits > 0).then_some(bits << 8 | part)
}

fn address(text: &str) -> Option<Addr> {
    if let Some(v4) = ipv4(text.as_bytes()) {
        return Some(Addr::v4(v4));
    }
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let v6: Ipv6Addr = text.parse().ok()?;
    Some(Addr::v6(v6.octets()))
}

/// Addresses, networks, ranges, ports; `None` if it looks like none of them.
fn plain(text: &str) -> Option<Result<Value, Fault>> {
    if let Some(found) = address(text) {
        return Some(Ok(Value::Addresses(found.0, found.0)));
    }
    if let Some((first, length)) = text.split_once('/')
        && let (Some(first), Ok(length)) = (address(first), length.parse::<u8>())
    {
        return Some(network(first, length));
    }
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (first.trim(), last.trim());
        if let (Some(first), Some(last)) = (address(first), address(last)) {
            let ordered = first <= last && first.is_v4() == last.is_v4();
            return Some(if ordered { addresses(first, last) } else { Err(Fault::Range) });
        }
        if is_number(first) && is_number(last) {
            return Some(ports(first, last));
        }
    }
    if is_number(text) {
        return Some(ports(text, text));
    }
    // An address with a port: the address is meant, whatever it listens on next.
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.starts_with('[');
    let host = (bracketed || !host.contains(':')).then(|| address(host)).flatten()?;
    is_number(port).then_some(Ok(Value::Addresses(host.0, host.0)))
}

fn network(first: Addr, length: u8) -> Result<Value, Fault> {
    let network = crate::net::Cidr::new(first, length).map_err(|_| Fault::Unknown)?;
    let (first, last) = network.bounds();
    addresses(first, last)
}

fn addresses(first: Addr, last: Addr) -> Result<Value, Fault> {
    let everything = first <= Addr::v4(0) && Addr::v4(u32::MAX) <= last;
    if everything { Err(Fault::Everything) } else { Ok(Value::Addresses(first.0, last.0)) }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

fn ports(first: &str, last: &str) -> Result<Value, Fault> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0).ok_or(Fault::Port);
    let (first, last) = (port(first)?, port(last)?);
    if first <= last { Ok(Value::Ports(first, last)) } else { Err(Fault::Range) }
}

/// The text with `[.]`, `(.)`, `{.}` and `[dot]` as points and `[:]` as a colon; `None` if it has
/// none of these.
fn refanged(text: &str) -> Option<String> {
    const FORMS: [(&str, &str); 6] =
        [("[.]", "."), ("(.)", "."), ("{.}", "."), ("[dot]", "."), ("[:]", ":"), ("[://]", "://")];
    let mut plain = Cow::Borrowed(text);
    for (form, meant) in FORMS {
        if plain.contains(form) {
            plain = Cow::Owned(plain.replace(form, meant));
        }
    }
    match plain {
        Cow::Owned(plain) => Some(plain),
        Cow::Borrowed(_) => None,
    }
}

/// URLs, names, and what flows never carry.
fn other(text: &str) -> Result<Value, Fault> {
    if let Some((scheme, rest)) = text.split_once("://") {
        const SCHEMES: [&str; 7] = ["http", "https", "hxxp", "hxxps", "ftp", "tcp", "udp"];
        if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return Err(Fault::Unknown);
        }
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        return match plain(host) {
            Some(Ok(Value::Addresses(first, last))) if first == last => {
                Ok(Value::Addresses(first, last))
            }
            _ => Err(Fault::Domain),
        };
    }
    if text.contains('@') {
        return Err(Fault::Mail);
    }
    let is_hex = text.bytes().all(|octet| octet.is_ascii_hexdigit());
    if is_hex && [32, 40, 64, 128].contains(&text.len()) {
        return Err(Fault::Hash);
    }
    if is_domain(text) {
        return Err(Fault::Domain);
    }
    let head = text.split_whitespace().next().filter(|head| head.len() < text.len());
    if head.and_then(plain).is_some_and(|found| found.is_ok()) {
        return Err(Fault::Trailing);
    }
    let of_name = |c: char| c.is_alphanumeric() || " _-./:+()&".contains(c);
    let is_name = text.chars().all(of_name) && text.chars().any(char::is_alphabetic);
    let starts_well = text.chars().next().is_some_and(char::is_alphanumeric);
    if is_name && starts_well && text.chars().count() <= NAME_CHARS_MAX {
        return Ok(Value::Name(text.to_owned()));
    }
    Err(Fault::Unknown)
}

/// Labels of letters, digits, `-` and `_`, the last of at least two letters.
fn is_domain(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let text = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
    let Some((rest, last)) = text.rsplit_once('.') else { return false };
    let label = |label: &str| {
        let of_label = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
        !label.is_empty() && label.bytes().all(of_label)
    };
    let top = last.starts_with("xn--") || last.bytes().all(|octet| octet.is_ascii_alphabetic());
    last.len() >= 2 && top && rest.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str) -> u128 {
        text.parse::<Addr>().expect(text).0
    }

    #[track_caller]
    fn check(text: &str, want: Result<Value, Fault>) {
        assert_eq!(parse(text.as_bytes()), want, "{text}");
    }

    #[test]
    fn indicators_of_every_form() {
        let range = |a: &str, b: &str| Ok(Value::Addresses(v4(a), v4(b)));
        let one = |a: &str| range(a, a);
        check("192.0.2.1", one("192.0.2.1"));
        check("255.255.255.255", one("255.255.255.255"));
        check("2001:db8::1", one("2001:db8::1"));
        check("[2001:db8::1]", one("2001:db8::1"));
        check("::ffff:192.0.2.1", one("192.0.2.1"));
        check("192.0.2.9/24", range("192.0.2.0", "192.0.2.255"));
        check("2001:db8::/127", range("2001:db8::", "2001:db8::1"));
        check("192.0.2.1-192.0.2.9", range("192.0.2.1", "192.0.2.9"));
        check("192.0.2.1 - 192.0.2.9", range("192.0.2.1", "192.0.2.9"));
        check("192.0.2.1:8080", one("192.0.2.1"));
        check("[2001:db8::1]:443", one("2001:db8::1"));
        check("192[.]0[.]2[.]1", one("192.0.2.1"));
        check("192.0.2[.]1", one("192.0.2.1"));
        check("192[dot]0(.)2{.}1", one("192.0.2.1"));
        check("hxxp://192.0.2[.]1/a?b", one("192.0.2.1"));
        check("https://user@192.0.2.1:8443/", one("192.0.2.1"));
        check("hxxps[://][2001:db8::1]:1/x", one("2001:db8::1"));
        check("4444", Ok(Value::Ports(4444, 4444)));
        check("6660-6669", Ok(Value::Ports(6660, 6669)));
        for name in ["bittorrent", "Cisco IOS 15", "GigabitEthernet0/1", "eth0.100", "ms-office"] {
            check(name, Ok(Value::Name(name.into())));
        }
    }

    #[test]
    fn what_is_no_indicator_says_why() {
        for (text, fault) in [
            ("192.0.2", Fault::Unknown),
            ("192.0.2.256", Fault::Unknown),
            ("192.0.02.1", Fault::Unknown),
            ("192.0.2.1/33", Fault::Unknown),
            ("192.0.2.1 192.0.2.2", Fault::Trailing),
            ("0.0.0.0/0", Fault::Everything),
            ("::/0", Fault::Everything),
            ("::/8", Fault::Everything),
            ("0.0.0.0-255.255.255.255", Fault::Everything),
            ("192.0.2.9-192.0.2.1", Fault::Range),
            ("192.0.2.9-2001:db8::1", Fault::Range),
            ("9-8", Fault::Range),
            ("0", Fault::Port),
            ("65536", Fault::Port),
            ("evil.example", Fault::Domain),
            ("evil[.]example", Fault::Domain),
            ("*.evil.example.", Fault::Domain),
            ("hxxp://evil.example/x", Fault::Domain),
            ("a@evil.example", Fault::Mail),
            ("d41d8cd98f00b204e9800998ecf8427e", Fault::Hash),
            ("file://192.0.2.1", Fault::Unknown),
            ("<html>", Fault::Unknown),
            ("---", Fault::Unknown),
        ] {
            check(text, Err(fault));
        }
        assert_eq!(parse(b"\xff"), Err(Fault::Line));
    }

    #[test]
    fn the_fast_reader_of_addresses_agrees_with_the_library() {
        for text in ["1.2.3.4", "01.2.3.4", "1.2.3", "1.2.3.4.", "256.1.1.1", "0.0.0.0", "1..2.3"] {
            let library = text.parse::<std::net::Ipv4Addr>().ok().map(u32::from);
            assert_eq!(ipv4(text.as_bytes()), library, "{text}");
        }
        proptest::proptest!(|(bits: u32)| {
            let text = std::net::Ipv4Addr::from_bits(bits).to_string();
            proptest::prop_assert_eq!(ipv4(text.as_bytes()), Some(bits));
        });
    }
}
