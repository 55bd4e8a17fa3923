//! Receive offload: the card or the kernel joins packets before they are seen.

use super::socket;

const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_LRO: u32 = 1 << 15;

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
