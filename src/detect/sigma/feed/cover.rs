//! How much of all addresses a feed's networks hold together: a list of two halves matches every flow
//! as one network of everything would.

use crate::detect::sigma::interval::IntervalSet;
use crate::net::Addr;

/// Percent of a space from which a feed is refused, and above which it is told of.
const ALL_PERCENT: u128 = 99;
const MOST_PERCENT: u128 = 50;

/// The address spaces that traffic is of: IPv4, and global unicast of IPv6 (RFC 4291 §2.4).
fn spaces() -> [(&'static str, u128, u128); 2] {
    [
        ("IPv4", Addr::v4(0).0, Addr::v4(u32::MAX).0),
        ("global IPv6", 0x2000 << 112, (0x4000 << 112) - 1),
    ]
}

/// The space of which `addresses` leave next to nothing out, in words.
pub(super) fn all(addresses: IntervalSet) -> Option<String> {
    held(&addresses, |percent| percent >= ALL_PERCENT)
}

/// The space of which `addresses` hold the most, in words.
pub(super) fn most(addresses: IntervalSet) -> Option<String> {
    held(&addresses, |percent| percent > MOST_PERCENT)
}

/// Whether `addresses` hold so many percent of a space.
pub(in crate::detect::sigma) fn holds(addresses: &IntervalSet, percent: u128) -> bool {
    held(addresses, |held| held >= percent).is_some()
}

fn held(addresses: &IntervalSet, is_it: impl Fn(u128) -> bool) -> Option<String> {
    spaces().into_iter().find_map(|(name, first, last)| {
        let within = addresses.intersection(&IntervalSet::range(first, last));
        let sizes = within.intervals().iter().map(|(first, last)| last - first + 1);
        let percent = sizes.sum::<u128>() / ((last - first + 1) / 100);
        is_it(percent).then(|| format!("{} % of all {name} addresses", percent.min(100)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Cidr;

    #[test]
    fn halves_are_a_whole() {
        for (networks, of_all, of_most) in [
            (&["0.0.0.0/1", "128.0.0.0/1"][..], true, true),
            (&["0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2"], true, true),
            (&["0.0.0.0/1", "128.0.0.0/2"], false, true),
            (&["0.0.0.0/1"], false, false),
            (&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"], false, false),
            (&["2000::/4", "3000::/4"], true, true),
            (&["2000::/4", "3000::/5"], false, true),
            (&["2001:db8::/32", "fc00::/7"], false, false),
            (&[], false, false),
        ] {
            let set = IntervalSet::of(
                networks
                    .iter()
                    .map(|text| text.parse::<Cidr>().expect(text).bounds())
                    .map(|(a, b)| (a.0, b.0))
                    .collect(),
            );
            let found = (all(set.clone()).is_some(), most(set).is_some());
            assert_eq!(found, (of_all, of_most), "{networks:?}");
        }
    }
}
