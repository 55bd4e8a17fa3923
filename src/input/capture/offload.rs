//! Receive offload: the card or the kernel joins packets, or takes VLAN tags off, before they are seen.

use super::socket;

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_LRO: u32 = 1 << 15;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// What joins received packets on interface `name`; empty where nothing does, or nobody tells.
fn joining(name: &str) -> Vec<&'static str> {
    let Ok(socket) = socket::open() else { return Vec::new() };
    let says = |command| socket::ethtool(&socket, name, command).unwrap_or(0);
    let mut found = Vec::new();
    if says(ETHTOOL_GGRO) != 0 {
        found.push("gro");
    }
    if says(ETHTOOL_GFLAGS) & ETH_FLAG_LRO != 0 {
        found.push("lro");
    }
    found
}

/// Warns if received packets of interface `name` come joined: octets are right, packets too few.
pub(super) fn warn(name: &str) {
    let joining = joining(name);
    if !joining.is_empty() {
        let off: Vec<String> = joining.iter().map(|what| format!("{what} off")).collect();
        tracing::warn!(
            interface = name,
            "receive offload joins packets, so fewer are counted than came: \
             `ethtool -K {name} {}` (joined ones are counted as giants)",
            off.join(" ")
        );
    }
}

/// Warns if the card of interface `name` takes VLAN tags off: nothing tells AF_XDP of them.
pub(super) fn warn_of_tags(name: &str) {
    let flags = socket::open().and_then(|socket| socket::ethtool(&socket, name, ETHTOOL_GFLAGS));
    if flags.is_ok_and(|flags| flags & ETH_FLAG_RXVLAN != 0) {
        tracing::warn!(
            interface = name,
            "the card takes VLAN tags off, which af_xdp then cannot see: `ethtool -K {name} rxvlan off`"
        );
    }
}
