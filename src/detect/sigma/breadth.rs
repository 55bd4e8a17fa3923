//! Whether a condition holds for nearly every flow, told by its predicates: `not s` does for most `s`.

use super::expr::Expr;
use super::feed::cover;
use super::fields::Kind;
use super::interval::IntervalSet;
use super::predicate::{Predicate, Test};

/// Percent of a field's values from which on a predicate counts as one that nearly every flow satisfies.
const MOST_PERCENT: u128 = 75;

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
        Test::In { set, .. } => match leaf.field.kind() {
            Kind::Address => cover::holds(set, MOST_PERCENT),
            // Counts and times have no end: what leaves out a stretch in the middle lets most pass.
            Kind::Integer { max: u128::MAX } | Kind::Time { .. } => {
                set.contains(0) && set.contains(leaf.field.max())
            }
            _ => is_most(set, leaf.field.max()),
        },
        Test::Text { negated, .. }
        | Test::Flags { negated, .. }
        | Test::Part { negated, .. }
        | Test::Reference { negated, .. } => *negated,
    }
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
            let both = item.contains("0.0.0.0/1");
            let neither = item.contains("lt: 1000") || item.contains("gt: 10");
            assert_eq!(opposite, (!broad || both) && !neither, "not {item}");
        }
    }
}
