//! Whether a condition holds for nearly every flow, told by its predicates: `not s` does for most `s`.

use super::expr::Expr;
use super::feed::cover;
use super::fields::{Field, Kind};
use super::interval::IntervalSet;
use super::predicate::{Predicate, Test};
use super::text::{Matcher, TextBuf};
use crate::net::Addr;

/// Percent of a field's values from which on a predicate counts as one that nearly every flow satisfies.
const MOST_PERCENT: u128 = 75;
/// Addresses of each family that patterns are tried on.
const TRIED: u128 = 64;
/// The protocols of nearly every flow.
const TCP: u128 = 6;
const UDP: u128 = 17;

/// Whether nearly every flow satisfies `expr`, as far as its predicates tell: flows are taken to spread over
/// what a field may hold, whatever they do.
pub(super) fn is_broad(expr: &Expr) -> bool {
    match expr {
        Expr::Const(value) => *value,
        Expr::Unknown { negated, .. } => *negated,
        Expr::Leaf(leaf) => lets_most_pass(leaf),
        Expr::And(parts) => parts.iter().all(is_broad),
        Expr::Or(parts) => parts.iter().any(is_broad),
    }
}

fn lets_most_pass(leaf: &Predicate) -> bool {
    match &leaf.test {
        Test::In { set, null } => match leaf.field.kind() {
            // Flows of captures have no exporter, those of NetFlow have one.
            _ if leaf.field == Field::Exporter && *null => true,
            Kind::Address => cover::holds(set, MOST_PERCENT),
            // Counts and times have no end: what leaves out a stretch in the middle lets most pass.
            Kind::Integer { max: u128::MAX } | Kind::Time { .. } => {
                let from = if never_zero(leaf.field) { 1 } else { 0 };
                set.contains(leaf.field.max()) && (set.contains(0) || set.contains(from))
            }
            Kind::Protocol => match (set.contains(TCP), set.contains(UDP)) {
                (true, true) => true,
                (false, false) => false,
                _ => is_most(set, leaf.field.max()),
            },
            _ => is_most(set, leaf.field.max()),
        },
        Test::Text { matchers, all, negated, .. } if leaf.field.kind() == Kind::Address => {
            takes_most(matchers, *all, *negated)
        }
        Test::Text { negated, .. }
        | Test::Flags { negated, .. }
        | Test::Part { negated, .. }
        | Test::Reference { negated, .. } => *negated,
    }
}

/// Whether every flow has some of what is counted.
const fn never_zero(field: Field) -> bool {
    matches!(field, Field::FwdOctets | Field::Octets | Field::FwdPackets | Field::Packets)
}

/// Whether patterns let most addresses of a family pass, tried on addresses that are spread over it.
fn takes_most(matchers: &[Matcher], all: bool, negated: bool) -> bool {
    let passes = |address: u128| {
        let text = TextBuf::of(Addr(address));
        let any = |matcher: &Matcher| matcher.matches(text.as_str());
        negated != if all { matchers.iter().all(any) } else { matchers.iter().any(any) }
    };
    // Odd multiples of the golden ratio.
    let spread = |n: u128| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let v4 = |n: u128| Addr::v4(0).0 | spread(n) >> 96;
    let v6 = |n: u128| 1 << 125 | spread(n) >> 3;
    let most = |of: &dyn Fn(u128) -> u128| {
        let passed = (1..=TRIED).filter(|&n| passes(of(n))).count();
        passed as u128 * 100 >= TRIED * MOST_PERCENT
    };
    most(&v4) || most(&v6)
}

fn is_most(set: &IntervalSet, max: u128) -> bool {
    let sizes = set.intervals().iter().map(|(first, last)| last - first + 1);
    sizes.sum::<u128>() * 100 >= (max + 1) * MOST_PERCENT
}

#[cfg(test)]
mod tests {
    use crate::detect::sigma::{Interner, Options, RuleSet, Source};

    #[test]
    fn negations_hold_for_nearly_every_flow() {
        for (item, broad) in [
            ("src_ip: 10.0.0.1", false),
            ("src_ip|neq: 10.0.0.1", true),
            ("src_ip|cidr: 10.0.0.0/8", false),
            ("src_ip|cidr: [0.0.0.0/1, 128.0.0.0/2]", true),
            ("src_ip|startswith: '10.'", false),
            ("dst_port: [80, 443]", false),
            ("dst_port|gte: 1024", true),
            ("dst_port|lt: 1024", false),
            ("proto: tcp", false),
            ("proto|neq: tcp", true),
            ("direction: outbound", false),
            ("direction: [outbound, inbound, internal]", true),
            ("application: dns", false),
            ("application|neq: dns", true),
            ("bytes_out|gt: 10", false),
            ("bytes_out|lt: 1000", false),
            ("bytes_out|neq: 1000", true),
            ("timestamp|hour: [3, 4]", false),
            ("proto: [tcp, udp, icmp]", true),
            ("proto: [icmp, gre]", false),
            ("bytes_out|gte: 1", true),
            ("packets_out|gte: 1", true),
            ("bytes_in|gte: 2", false),
            ("src_ip: '*'", true),
            ("src_ip|contains: '*'", true),
            ("src_ip|re: '.*'", true),
            ("src_ip|re: '.'", true),
            ("src_ip|contains: '.'", true),
            ("src_ip|contains: '77'", false),
            ("exporter: null", true),
            ("exporter|exists: true", true),
        ] {
            let text = format!(
                "title: T\nlogsource: {{category: firewall}}\ndetection:\n  s: {{{item}}}\n  \
                 condition: s\n"
            );
            let source = Source { file: "t.yml".to_owned(), text };
            let set = RuleSet::compile(&[source], &Options::default(), &mut Interner::default());
            let expr = set.rules()[0].condition();
            assert_eq!(super::is_broad(expr), broad, "{item}");
            let opposite = super::is_broad(&expr.clone().negate());
            // Beyond IPv4 there is IPv6, and what a count mostly is nobody knows.
            let both = ["0.0.0.0/1", "contains: '.'", "exporter"].iter().any(|t| item.contains(t));
            let neither = ["lt: 1000", "gt: 10", "gte: 2"].iter().any(|t| item.contains(t));
            assert_eq!(opposite, (!broad || both) && !neither, "not {item}");
        }
    }
}
