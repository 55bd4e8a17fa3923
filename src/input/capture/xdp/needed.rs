//! Interfaces that the host itself needs: what AF_XDP takes never reaches it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

use crate::input::capture::Listener;

/// Why the host needs `interface`, or what stands on it (a bond, a bridge, a VLAN); `None` if it does
/// not.
pub(super) fn why(interface: &str, listeners: &[Listener]) -> Option<String> {
    let routes = [
        ("/proc/net/route", default_of_v4 as fn(&str) -> Option<&str>),
        ("/proc/net/ipv6_route", default_of_v6),
    ];
    let mut defaults = Vec::new();
    for (file, default_of) in routes {
        let table = fs::read_to_string(file).unwrap_or_default();
        defaults.extend(table.lines().filter_map(default_of).map(str::to_owned));
    }
    let mut above = vec![interface.to_owned()];
    let mut next = 0;
    while let Some(name) = above.get(next).cloned() {
        let found = reason(&name, &defaults, &addresses(&name), listeners);
        if let Some(reason) = found {
            let what =
                if next == 0 { "it".into() } else { format!("`{name}`, which stands on it,") };
            return Some(format!(
                "{what} {reason}, and af_xdp would take every packet from the host: use a port that \
                 only receives, or backend = \"af_packet\""
            ));
        }
        above.extend(
            uppers(&name).into_iter().filter(|upper| !above.contains(upper)).collect::<Vec<_>>(),
        );
        next += 1;
    }
    None
}

/// Why the host needs the interface `name`, which has `addresses`.
fn reason(
    name: &str,
    defaults: &[String],
    addresses: &[IpAddr],
    listeners: &[Listener],
) -> Option<String> {
    if defaults.iter().any(|device| device == name) {
        return Some("carries the default route".into());
    }
    listeners.iter().find_map(|&Listener { what, at, alone }| {
        // Of several addresses any may be the one that is used; only one for sure where it is the only.
        let all = alone && at.ip().is_unspecified();
        let reached = |address: &&IpAddr| all && !is_link_local(address) || **address == at.ip();
        let address = addresses.iter().find(reached)?;
        Some(format!("has the address {address}, at which {what} (port {})", at.port()))
    })
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// The device of a line of `/proc/net/route` that is a default route.
fn default_of_v4(line: &str) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (&device, destination, mask) = (fields.first()?, fields.get(1)?, fields.get(7)?);
    // The words are in the host's order; a half of all, as tunnels set it, is as good as all.
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    let (destination, mask) = (word(destination)?, word(mask)?);
    (destination & !(1 << 31) == 0 && mask & !(1 << 31) == 0).then_some(device)
}

/// The device of a line of `/proc/net/ipv6_route` that is a default route, and not one that rejects.
fn default_of_v6(line: &str) -> Option<&str> {
    const REJECT: u32 = 0x200;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [destination, length, .., flags, device] = fields[..] else { return None };
    let zeros = |digits: &str| digits.bytes().all(|digit| digit == b'0');
    let all = match length {
        "00" => zeros(destination),
        "01" => zeros(destination) || destination.strip_prefix('8').is_some_and(zeros),
        _ => false,
    };
    let rejects = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT != 0);
    (all && !rejects).then_some(device)
}

/// Interfaces that stand on `name`.
fn uppers(name: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/sys/class/net/{name}")) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|entry| Some(entry.strip_prefix("upper_")?.to_owned())).collect()
}

/// Addresses of the interface `name`.
fn addresses(name: &str) -> Vec<IpAddr> {
    let mut list = ptr::null_mut();
    // SAFETY: on success `list` is a list that is ours until it is freed.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: `next` is null or an entry of the list, which is not freed yet; the family says what
    // an address is, and names end with a zero octet.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: as above.
        let ours =
            unsafe { std::ffi::CStr::from_ptr(entry.ifa_name) }.to_bytes() == name.as_bytes();
        if !ours || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: as above; entries may be unaligned for these types.
        unsafe {
            match i32::from((*entry.ifa_addr).sa_family) {
                libc::AF_INET => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                    let octets = address.sin_addr.s_addr.to_ne_bytes();
                    found.push(IpAddr::V4(Ipv4Addr::from(octets)));
                }
                libc::AF_INET6 => {
                    let address = entry.ifa_addr.cast::<libc::sockaddr_in6>().read_unaligned();
                    found.push(IpAddr::V6(Ipv6Addr::from(address.sin6_addr.s6_addr)));
                }
                _ => {}
            }
        }
    }
    // SAFETY: the list that was made above, once.
    unsafe { libc::freeifaddrs(list) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found_in_the_kernels_tables() {
        let v4 = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        assert_eq!(default_of_v4(v4), Some("eth0"));
        let network = "eth1\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0";
        assert_eq!(default_of_v4(network), None);
        for half in ["00000000", "00000080"] {
            let line = format!("tun0\t{half}\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0");
            assert_eq!(default_of_v4(&line), Some("tun0"), "half of all");
        }
        let host = "eth1\t00000000\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\t0\t0";
        assert_eq!(default_of_v4(host), None);
        assert_eq!(default_of_v4("Iface\tDestination\tGateway"), None);
        let (zero, one) = ("0".repeat(32), format!("{}1", "0".repeat(31)));
        let v6 = |to: &str, length, flags, device| {
            format!("{to} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {device}")
        };
        assert_eq!(default_of_v6(&v6(&zero, "00", "00450003", "eth0")), Some("eth0"));
        assert_eq!(default_of_v6(&v6(&zero, "00", "00200200", "lo")), None, "it rejects");
        assert_eq!(default_of_v6(&v6(&one, "80", "80200001", "lo")), None);
        let upper = format!("8{}", "0".repeat(31));
        assert_eq!(default_of_v6(&v6(&zero, "01", "00450003", "tun0")), Some("tun0"));
        assert_eq!(default_of_v6(&v6(&upper, "01", "00450003", "tun0")), Some("tun0"));
        assert_eq!(default_of_v6(&v6(&upper, "10", "00450003", "eth0")), None);
    }

    #[test]
    fn an_interface_is_needed_for_its_route_and_for_the_admin_address() {
        let defaults = ["eth0".to_owned()];
        let host: IpAddr = "192.0.2.7".parse().expect("an address");
        let local: IpAddr = "fe80::1".parse().expect("an address");
        for (name, addresses, admin, want) in [
            ("eth0", &[][..], None, "carries the default route"),
            ("eth1", &[host], Some("192.0.2.7:9477"), "has the address 192.0.2.7"),
            ("eth1", &[host], Some("0.0.0.0:9477"), "has the address 192.0.2.7"),
            ("eth1", &[host], Some("127.0.0.1:9477"), ""),
            ("eth1", &[host], None, ""),
            ("eth1", &[local], Some("[::]:9477"), ""),
        ] {
            let admin: Option<&str> = admin;
            let admin = admin.map(|admin| Listener::admin(admin.parse().expect("an address")));
            let listeners: Vec<Listener> = admin.into_iter().collect();
            let why = reason(name, &defaults, addresses, &listeners).unwrap_or_default();
            assert!(why.starts_with(want) && why.is_empty() == want.is_empty(), "{name}: {why}");
        }
        for (listen, needed) in [("192.0.2.7:2055", true), ("0.0.0.0:2055", false)] {
            let listener = Listener::netflow(listen.parse().expect("an address"));
            assert_eq!(reason("eth1", &[], &[host], &[listener]).is_some(), needed, "{listen}");
        }
        assert!(addresses("lo").contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
