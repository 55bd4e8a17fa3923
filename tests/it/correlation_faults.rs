//! Correlations that say what cannot be, and how they are told so.

use weir::detect::sigma::{Interner, Options, RuleSet, Source};

use crate::correlations::{COUNT, bases, correlation};
use crate::sigma::load;

/// Compares the reason for which `x` is rejected.
#[track_caller]
fn rejected(text: &str, line: &str, want: &str) {
    assert_eq!(rejection(text, line), want, "{text}");
}

/// Compiles `text` after the base rules. The reason for which `x` is rejected, at `line`.
#[track_caller]
fn rejection(text: &str, line: &str) -> String {
    let all = bases() + text;
    let source = Source { file: "test.yml".to_owned(), text: all.clone() };
    let options = Options { disable: vec!["ID-C".to_owned()], ..Options::default() };
    let set = RuleSet::compile(&[source], &options, &mut Interner::default());
    let why = set.report().rejected.iter().find(|r| r.id == "x" || r.title.ends_with(" x"));
    let why = why.unwrap_or_else(|| panic!("x is not rejected: {}", set.report()));
    let at = all.lines().nth(why.line as usize - 1).unwrap_or_default();
    assert!(at.contains(line), "line {}: {at}", why.line);
    assert!(set.correlations().iter().all(|c| c.meta.id != "x"));
    why.reason.to_string()
}

#[test]
fn faulty_correlations_say_why() {
    let x = |body: &str| correlation("x", body);
    let count =
        |from: &str, to: &str| x(&(COUNT.to_owned() + "condition: {gte: 3}").replace(from, to));
    let base = |rules: &str| count("[a]", rules);
    rejected(&base("[d]"), "rules: [d]", "its rule `d` is neither the id nor the name of a rule");
    rejected(&base("[a, id-c]"), "id-c", "its rule `id-c` is turned off by rules.disable");
    rejected(&base("[a, ID-A]"), "ID-A", "its rule `ID-A` is named twice");
    rejected(&base("[]"), "rules", "not a correlation of flows: it names no rules");
    let broken = bases().replace("name: a", "name: b").replace("id-", "other-");
    rejected(&(broken + &base("[b]")), "[b]", "its rule `b` is the name of several rules");
    let syntax = "title: S\nid: bad\nlogsource: {category: firewall}\ndetection:\n    \
                  s: {Image: x}\n    condition: s\n---\n";
    rejected(&(syntax.to_owned() + &base("[bad]")), "[bad]", "its rule `bad` is rejected");
    let circle = base("[y]")
        + &base("[x]")
            .replace("Correlation x", "Second")
            .replace("id: x", "id: y")
            .replace("name-x", "y");
    rejected(&circle, "[y]", "its rule `y` is rejected");
    rejected(&base("[x]"), "[x]", "its rule `x` leads back to it: Correlation x -> Correlation x");
    let field = "field `User` is one that flows never have";
    rejected(&count("src_ip", "User"), "User", &format!("not a correlation of flows: {field}"));
    let near = "field `SRC_IP` (did you mean `src_ip`?) is one that flows never have";
    rejected(&count("src_ip", "SRC_IP"), "SRC", &format!("not a correlation of flows: {near}"));
    rejected(
        &count("10s", "0s"),
        "timespan",
        "not a correlation of flows: its timespan of 0 s is not between a second and 100 years",
    );
    rejected(
        &count("gte: 3", "gt: 3, lt: 4"),
        "condition",
        "it can never match a flow: no number \
              satisfies its condition `< 4 and > 3`",
    );
    rejected(
        &count("gte: 3", "gte: -1"),
        "condition",
        "not a correlation of flows: `gte: -1` in its condition is no number from 0 on: expected one \
              such as 20, of at most 29 digits, 12 of them after the point (above 2^53 in quotes)",
    );
    rejected(
        &count("{gte: 3}", "a or b"),
        "condition",
        "not a correlation of flows: an expression \
              over rules goes with temporal, not with event_count",
    );
    rejected(
        &count("event_count", "value_count"),
        "condition",
        "not a correlation of flows: \
              value_count takes one field in its condition, and 0 are there",
    );
    let sum = |field: &str| {
        x(&(COUNT.replace("event_count", "value_sum")
            + &format!("condition: {{field: {field}, gte: 3}}")))
    };
    rejected(
        &sum("src_ip"),
        "field",
        "not a correlation of flows: value_sum takes numbers, and \
              `src_ip` is none",
    );
    let percentile = COUNT.replace("event_count", "value_percentile")
        + "condition: {field: bytes_out, percentile: 101, gte: 3}";
    rejected(
        &x(&percentile),
        "percentile",
        "not a correlation of flows: `percentile: 101` is no whole number from 0 to 100",
    );
    let ordered = "type: temporal_ordered\nrules: [a, b]\ntimespan: 1m\ncondition: {gte: 3}";
    rejected(
        &x(ordered),
        "condition",
        "not a correlation of flows: temporal_ordered needs all of \
              its rules: expected no condition, or `gte` with their number",
    );
    let temporal = ordered.replace("_ordered", "");
    rejected(
        &x(&temporal),
        "condition",
        "it can never match a flow: no number of its 2 rules \
              satisfies its condition `>= 3`",
    );
    let unknown = temporal.replace("{gte: 3}", "a and c");
    rejected(
        &x(&unknown),
        "condition",
        "not a correlation of flows: its condition names `c`, \
              which is not in its rules",
    );
    let alias = "type: temporal\nrules: [a, b]\ngroup-by: [h]\ntimespan: 1m\naliases:\n    h:\n        \
                 a: src_ip\n";
    rejected(
        &x(alias),
        "h",
        "not a correlation of flows: alias `h` has no field for its rule \
              `Rule b`",
    );
    let mixed = alias.to_owned() + "        b: dst_port\n";
    rejected(
        &x(&mixed),
        "h",
        "not a correlation of flows: `h` is not of the same kind in all of \
              its rules",
    );
    let kind = count("event_count", "magic");
    rejected(
        &kind,
        "type: magic",
        "not a correlation of flows: there is no `type: magic`: expected event_count, value_count, \
              temporal, temporal_ordered, value_sum, value_avg, value_percentile or value_median",
    );
    let inner = base("[a]").replace("Correlation x", "In").replace("id: x", "id: in");
    let outer = count("[a]", "[in]").replace("src_ip", "dst_ip");
    rejected(
        &(inner + &outer),
        "dst_ip",
        "not a correlation of flows: `dst_ip` is not in the \
              group-by of its rule `In`",
    );
}

#[test]
fn terms_of_the_wrong_type_are_named_with_their_line() {
    let count = COUNT.to_owned() + "condition: {gte: 3}";
    let length = "expected a whole number and s, m, h, d, w, M or y, such as `5m`";
    for (from, to, line, want) in [
        ("timespan: 10s\n", "", "correlation:", format!("it has no `timespan`: {length}")),
        ("10s", "300", "timespan", format!("`timespan: 300` is no length of time: {length}")),
        ("10s", "0.5m", "timespan", format!("`timespan: 0.5m` is no length of time: {length}")),
        (
            "type: event_count\n",
            "",
            "correlation:",
            "it has no `type`: expected event_count".to_owned(),
        ),
        ("[a]", "[5]", "rules", "`rules` has 5, which is no text: expected".to_owned()),
        ("[src_ip]", "{a: b}", "group-by", "`group-by` has a mapping, which is no text".to_owned()),
        ("condition: {gte: 3}", "", "correlation:", "event_count needs a `condition`".to_owned()),
        ("{gte: 3}", "3", "condition", "its condition is 3: expected a mapping".to_owned()),
        ("{gte: 3}", "{field: dst_port}", "condition", "its condition has no operator".to_owned()),
        (
            "gte: 3",
            "gte: many",
            "condition",
            "`gte: many` in its condition is no number".to_owned(),
        ),
        (
            "gte: 3",
            "gte: 0.5",
            "condition",
            "event_count counts, and its condition compares with 0.5: expected a whole number"
                .to_owned(),
        ),
        (
            "gte: 3",
            "gte: 3, percentile: 99.9",
            "percentile",
            "`percentile: 99.9` is no whole number".to_owned(),
        ),
        (
            "timespan",
            "generate: 5\ntimespan",
            "generate",
            "`generate: 5` is neither true nor false".to_owned(),
        ),
    ] {
        let why = rejection(&correlation("x", &count.replace(from, to)), line);
        assert!(why.starts_with(&format!("not a correlation of flows: {want}")), "{to}: {why}");
    }
}

#[test]
fn conditions_that_are_never_true_are_rejected_and_those_that_always_are_warned_of() {
    let no_count = "no count of matches, which is at least 1, satisfies its condition";
    let no_value = "no count of values, which is at least 1, satisfies its condition";
    let ports =
        COUNT.replace("event_count", "value_count") + "condition: {field: dst_port, gte: 1}";
    let with = |kind: &str, condition: &str| {
        COUNT.replace("event_count", kind) + "condition: {" + condition + "}"
    };
    let temporal = |condition: &str| {
        "type: temporal\nrules: [a, b]\ntimespan: 1m\ncondition: ".to_owned() + condition
    };
    // "" loads without a word, "always" with a warning.
    for (body, want) in [
        (with("event_count", "lt: 1"), no_count),
        (with("event_count", "eq: 0"), no_count),
        (with("event_count", "lte: 0"), no_count),
        (with("event_count", "gt: 5, lt: 5"), "no number satisfies its condition"),
        (with("event_count", "gte: 1"), ""),
        (with("event_count", "gte: 0"), "always"),
        (with("event_count", "neq: 0"), "always"),
        (with("value_count", "field: dst_port, lte: 0"), no_value),
        (with("value_count", "field: initiated, gte: 3"), no_value),
        (with("value_count", "field: [initiated, dst_port], gte: 3"), ""),
        (with("value_count", "field: application, gte: 3"), ""),
        (ports, ""),
        (
            with("value_count", "field: SourceIp, gte: 2"),
            "no count of values: it counts what it groups by, which has one value in each group",
        ),
        (with("value_count", "field: [src_ip, dst_port], gte: 2"), ""),
        (with("value_sum", "field: bytes_out, lt: 0"), "no number satisfies its condition"),
        (with("value_sum", "field: bytes_out, gte: 0"), "always"),
        (with("value_avg", "field: dst_port, gt: 5, lt: 5"), "no average satisfies its condition"),
        (with("value_avg", "field: dst_port, gt: 65535"), "no average satisfies its condition"),
        (with("value_avg", "field: dst_port, gt: 5, lt: 6"), ""),
        (with("value_avg", "field: dst_port, lte: 65535"), "always"),
        (with("value_percentile", "field: dst_port, gt: 65535"), "no value of its field satisfies"),
        (with("value_percentile", "field: bytes_out, gt: 65535"), ""),
        (temporal("{lt: 1}"), "no rules that a window may have seen satisfies its condition"),
        (temporal("{lte: 2}"), "always"),
        (temporal("{eq: 1}"), ""),
        (temporal("a and not a"), "no rules that a window may have seen satisfies its condition"),
        (temporal("a or not a"), "always"),
        (temporal("a and not b"), ""),
        (temporal("1 of them"), ""),
    ] {
        let text = correlation("x", &body);
        if !["", "always"].contains(&want) {
            let why = rejection(&text, "condition");
            assert!(
                why.starts_with(&format!("it can never match a flow: {want}")),
                "{body}: {why}"
            );
            continue;
        }
        let set = load(&(bases() + &text));
        assert_eq!(set.correlations().len(), 1, "{body}: {}", set.report());
        let warned = set.report().to_string().contains("its condition holds whatever it measures");
        assert_eq!(warned, want == "always", "{body}: {}", set.report());
    }
}
