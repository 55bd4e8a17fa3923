//! Allow-lists: flows to services that are known, as for updates and monitoring, are kept from the
//! model.

use crate::config::Allowed;
use crate::flow::Biflow;
use crate::net::Addr;

/// What the configuration allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow(Vec<Allowed>);

impl Allow {
    /// Of the entries of `[[model.allow]]`.
    #[must_use]
    pub const fn new(entries: Vec<Allowed>) -> Self {
        Self(entries)
    }

    /// Whether an entry allows `flow`: one of its ends lies in the entry's networks, the responder's
    /// port is among its ports, and its application among the entry's; what an entry does not say
    /// holds for every flow. O(entries).
    #[must_use]
    pub fn allows(&self, flow: &Biflow) -> bool {
        self.0.iter().any(|entry| allows(entry, flow))
    }
}

fn allows(entry: &Allowed, flow: &Biflow) -> bool {
    let within = |address: Addr| entry.networks.iter().any(|network| network.contains(address));
    let networks = entry.networks.is_empty() || within(flow.src) || within(flow.dst);
    let ports = entry.ports.is_empty() || entry.ports.contains(&flow.dst_port);
    let applications = entry.applications.is_empty() || {
        let is = |name: &str| entry.applications.iter().any(|one| one.eq_ignore_ascii_case(name));
        flow.application.as_deref().is_some_and(is)
    };
    networks && ports && applications
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_entry_must_hold() {
        let flow = Biflow {
            src: "10.0.0.1".parse().expect("an address"),
            dst: "192.0.2.7".parse().expect("an address"),
            dst_port: 443,
            application: Some("Windows-Update".into()),
            ..Biflow::default()
        };
        let networks = |text: &str| vec![text.parse().expect("a network")];
        let entry = Allowed::default;
        for (name, entry, want) in [
            (
                "the responder's network",
                Allowed { networks: networks("192.0.2.0/24"), ..entry() },
                true,
            ),
            ("the initiator's", Allowed { networks: networks("10.0.0.1"), ..entry() }, true),
            ("another network", Allowed { networks: networks("10.1.0.0/16"), ..entry() }, false),
            ("the port", Allowed { ports: vec![80, 443], ..entry() }, true),
            ("another port", Allowed { ports: vec![80], ..entry() }, false),
            (
                "network but not port",
                Allowed { networks: networks("10.0.0.1"), ports: vec![80], ..entry() },
                false,
            ),
            (
                "the application",
                Allowed { applications: vec!["windows-update".into()], ..entry() },
                true,
            ),
            ("another application", Allowed { applications: vec!["ntp".into()], ..entry() }, false),
        ] {
            assert_eq!(Allow::new(vec![entry]).allows(&flow), want, "{name}");
        }
        assert!(!Allow::default().allows(&flow));
    }
}
