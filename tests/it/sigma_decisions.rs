//! Every case that the specification of Sigma leaves open, each with what Weir does; and the
//! documentation that is generated from them.

use std::fmt::Write as _;
use std::path::Path;

use weir::detect::sigma::names::{Dialect, NAMES};

use crate::sigma::{item_rule, load, oracle, theirs, verdict};
use crate::sigma_cases::{CASES, Case};
use crate::support::vectors;

#[test]
fn open_cases_are_decided_as_documented() {
    for Case(name, item, event, want, _) in CASES {
        assert_eq!(&verdict(&load(&item_rule(item)), event), want, "case: {name}");
    }
    eprintln!("{} cases", CASES.len());
}

/// A whole rule, an event, and what Weir says.
#[track_caller]
fn check(name: &str, detection: &str, condition: &str, event: &str, want: &str) {
    let text = crate::sigma::rule("one", detection, condition);
    assert_eq!(verdict(&load(&text), event), want, "case: {name}");
}

#[test]
fn conditions_have_the_whole_language() {
    let three = "selection_a:\n    dst_port: 1\nselection_b:\n    dst_port: 2\nfilter_x:\n    \
                 src_port: 3\n_hidden:\n    dst_port: 4";
    let check =
        |condition: &str, event: &str, want| check(condition, three, condition, event, want);
    let one = r#"{"dst_port":1,"src_port":9}"#;
    let filtered = r#"{"dst_port":1,"src_port":3}"#;
    let hidden = r#"{"dst_port":4,"src_port":9}"#;
    check("selection_a or selection_b", one, "true");
    check("selection_a and selection_b", one, "rejected: never_matches");
    check("selection_a and filter_x", one, "false");
    check("1 of selection_* and not filter_x", one, "true");
    check("1 of selection_* and not filter_x", filtered, "false");
    check("any of selection_* and not 1 of filter_*", one, "true");
    check("all of selection_a* and not all of filter*", one, "true");
    check("1 of them", hidden, "false");
    check("1 of _*", hidden, "true");
    check("not (selection_a or filter_x)", hidden, "true");
    check("not (selection_a or filter_x)", one, "false");
    check("selection_a AND NOT filter_x", one, "true");
    check("1 of s*_?", one, "rejected: syntax");
    check("1 of sel*ion*a", one, "true");
    check("1 of nothing_*", one, "rejected: identifier");
    check("selection_z", one, "rejected: identifier");
    check("2 of selection_*", one, "rejected: quantifier");
    check("[selection_b, selection_a]", one, "true");
    check("'selection_a | count() > 5'", one, "rejected: aggregation");
}

#[test]
fn detections_have_every_form() {
    let ports = "s:\n    - dst_port: 1\n      src_port: 2\n    - dst_port: 3";
    check("list of maps", ports, "s", r#"{"dst_port":3}"#, "true");
    check("list of maps, and within", ports, "s", r#"{"dst_port":1,"src_port":3}"#, "false");
    let named = r#"{"application":"bad evil","dst_port":1}"#;
    check("keywords", "s:\n    - evil", "s", named, "true");
    check("keywords under not", "s:\n    - evil", "not s", named, "false");
    check("one keyword", "s: evil", "s", named, "true");
    let both = "s:\n    '|all':\n        - evil\n        - bad\n    dst_port: 1";
    check("keywords with all, and a field", both, "s", named, "true");
    check("a list in a list", "s:\n    - - evil\n      - good\n    - - x", "s", named, "true");
    let unknown = "s:\n    dst_port: 1\nf:\n    Image: x";
    check(
        "unknown under not",
        unknown,
        "s and not f",
        r#"{"dst_port":1}"#,
        "rejected: unknown_under_not",
    );
    check("unknown beside", unknown, "s or f", r#"{"dst_port":1}"#, "true");
    check("unknown under two nots", unknown, "s and not (not f)", "{}", "rejected: never_matches");
}

/// (name in sem.txt, what `a` and `b` stand for here, verdict).
const SEM: &[(&str, &str, &str, &str)] = &[
    ("int rule vs string event", "", "", "true"),
    ("string rule vs int event", "", "", "true"),
    ("gt vs string event", "", "", "true"),
    ("gt quoted value", "", "", "true"),
    // Octets are whole numbers.
    ("gt float event", "", "", "event refused: value"),
    ("neq present differs", "", "", "true"),
    ("neq missing field", "", "", "false"),
    ("neq list", "", "", "false"),
    ("null vs missing", "application", "", "true"),
    ("null vs json null", "application", "", "true"),
    ("null vs empty string", "application", "", "false"),
    ("empty vs empty string", "application", "", "true"),
    ("empty vs missing", "application", "", "false"),
    ("empty vs json null", "application", "", "false"),
    ("exists true + null", "application", "", "false"),
    ("exists false missing", "application", "", "true"),
    ("case-insens field value", "application", "", "true"),
    ("cased", "application", "", "false"),
    ("field NAME case", "", "", "rejected: never_matches"),
    ("cidr v4", "src_ip", "", "true"),
    ("cidr host bits set", "src_ip", "", "true"),
    ("cidr bare ip", "src_ip", "", "true"),
    ("cidr v6", "src_ip", "", "true"),
    ("cidr v4 vs v4-mapped v6", "src_ip", "", "true"),
    ("ipv6 eq textual forms", "src_ip", "", "true"),
    ("ip startswith", "src_ip", "", "true"),
    ("wildcard ip", "src_ip", "", "true"),
    ("wildcard on int event", "", "", "true"),
    ("contains on int event", "", "", "true"),
    ("escaped star", "application", "", "true"),
    ("escaped star no wildcard", "application", "", "false"),
    ("dbl backslash star", "application", "", "true"),
    ("re case sens", "application", "", "false"),
    ("re|i", "application", "", "true"),
    ("re on int event", "", "", "true"),
    ("fieldref eq", "in_if_name", "out_if_name", "true"),
    ("fieldref int", "src_port", "dst_port", "true"),
    ("fieldref neq", "src_port", "dst_port", "true"),
    // A flow has one value a field.
    ("array event any", "application", "", "event refused: value"),
    ("array event cidr", "src_ip", "", "event refused: value"),
    // `source.port` in place of `a.b`.
    ("nested dotted", "source", "port", "true"),
    ("bool rule vs bool", "initiated", "", "true"),
    ("bool rule vs string", "initiated", "", "true"),
    ("string rule vs bool", "initiated", "", "true"),
    ("all single", "application", "", "rejected: all_of_one"),
    ("int > 2^53 eq", "bytes_out", "", "false"),
    ("u64 max gt", "bytes_out", "", "true"),
    ("hex string vs int", "dst_port", "", "rejected: value"),
    ("expand placeholder", "application", "", "rejected: placeholder"),
    // The time of day of an instant, written as ISO 8601.
    ("hour", "", "", "true"),
    ("null in list", "application", "", "rejected: null_in_list"),
];

#[test]
fn measured_semantic_cases_have_our_verdicts() {
    let Some(folder) = vectors("sigma") else { return };
    let text = std::fs::read_to_string(folder.join("sem.txt")).expect("sem.txt");
    let mut ran = 0;
    for line in text.lines().filter(|line| line.contains(" | ")) {
        let columns: Vec<&str> = line.split(" | ").collect();
        let name = columns[0].trim_start_matches(['*', ' ']).trim();
        let &(_, a, b, want) =
            SEM.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("no verdict: {name}"));
        let named = |text: &str| rename(text.trim().trim_matches('`'), a, b);
        // Lists stand on one line in the table, their items eight spaces apart.
        let item = named(columns[1]).replace("        - ", "\n    - ");
        assert_eq!(verdict(&load(&item_rule(&item)), &named(columns[2])), want, "case: {name}");
        ran += 1;
    }
    eprintln!("{ran} cases of sem.txt");
    assert_eq!(ran, SEM.len());
}

/// Puts real names in place of the table's `a`, `b` and `bytes`.
fn rename(text: &str, a: &str, b: &str) -> String {
    let mut text = text.replace("\"bytes\"", "\"bytes_out\"").replace("bytes|", "bytes_out|");
    if !a.is_empty() {
        for (from, to) in [("\"a\"", format!("\"{a}\"")), ("a.b:", format!("{a}.{b}:"))] {
            text = text.replace(from, &to);
        }
        if text.starts_with("a:") || text.starts_with("a|") {
            text = format!("{a}{}", &text[1..]);
        }
    }
    if !b.is_empty() {
        text = text.replace("\"b\"", &format!("\"{b}\""));
        if text.ends_with(": b") {
            text = format!("{}{b}", &text[..text.len() - 1]);
        }
    }
    text
}

/// The part of docs/sigma.md between two markers has to be what the code says; with
/// `WEIR_BLESS=1` in the environment it is written instead.
fn fresh(part: &str, want: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sigma.md");
    let text = std::fs::read_to_string(&path).expect("docs/sigma.md");
    let (begin, end) = (format!("<!-- {part}: generated -->\n"), format!("<!-- {part}: end -->"));
    let from = text.find(&begin).expect(&begin) + begin.len();
    let to = text.find(&end).expect(&end);
    if text[from..to] == *want {
        return;
    }
    assert!(
        std::env::var_os("WEIR_BLESS").is_some(),
        "docs/sigma.md: `{part}` is stale; run the tests with WEIR_BLESS=1"
    );
    let text = format!("{}{want}{}", &text[..from], &text[to..]);
    std::fs::write(path, text).expect("docs/sigma.md");
}

#[test]
fn the_documentation_is_what_the_code_does() {
    fresh("fields", &field_table());
    fresh("decisions", &decision_table());
}

fn field_table() -> String {
    let mut fields: Vec<_> = Vec::new();
    for entry in NAMES {
        if !fields.contains(&entry.field) {
            fields.push(entry.field);
        }
    }
    let mut table = String::from("| field |");
    Dialect::ALL.iter().for_each(|d| write!(table, " {} |", d.as_str()).expect("a string"));
    table.push_str("\n|---|---|---|---|---|---|---|\n");
    for field in fields {
        write!(table, "| {field:?} |").expect("a string");
        for dialect in Dialect::ALL {
            let of = NAMES.iter().filter(|n| n.field == field && n.dialect == dialect);
            let names: Vec<String> = of.map(|n| format!("`{}`", n.name)).collect();
            write!(table, " {} |", names.join(" ")).expect("a string");
        }
        table.push('\n');
    }
    table
}

fn decision_table() -> String {
    let mut table = String::from(
        "| case | item | event | Weir | rsigma-eval 0.23 | why |\n|---|---|---|---|---|---|\n",
    );
    for Case(name, item, event, verdict, why) in CASES {
        let text = item_rule(item);
        let json = serde_json::from_str(event).expect(event);
        let collection = rsigma_parser::parse_sigma_yaml(&text).expect("YAML");
        let refused = rsigma_eval::compile_rule(&collection.rules[0]).is_err();
        let other = if refused {
            "refused".to_owned()
        } else {
            (!theirs(&oracle(&text), &json).is_empty()).to_string()
        };
        let item = item.replace("\n   ", "").replace('\n', " ").replace('|', "\\|");
        writeln!(table, "| {name} | `{item}` | `{event}` | {verdict} | {other} | {why} |")
            .expect("a string");
    }
    table
}
