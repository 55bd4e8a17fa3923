//! Rules that say something else than was meant: slips in keys and names, predicates that exclude one
//! another, values that no flow has, and the words and lines that tell of them.

use weir::detect::sigma::{Interner, LoadReport, Options, Rejected, RuleSet, Source};

use crate::sigma::{load, rule};

/// Detections, a condition, and a part of the reason why no flow can satisfy them; empty: they load.
type Case = (&'static str, &'static str, &'static str);

const CONTRADICTIONS: &[Case] = &[
    ("s:\n    dst_port|gt: 100\n    dst_port|lt: 50", "s", "`dst_port` > 100 and `dst_port` < 50"),
    ("s:\n    dst_port|gte: 50\n    dst_port|lte: 50", "s", ""),
    ("s:\n    dst_port|gt: 50\n    dst_port|lt: 51", "s", "exclude one another"),
    ("s:\n    duration|gt: 50\n    duration|lt: 51", "s", ""),
    ("s:\n    duration|gt: 1\n    duration_ms|lt: 900", "s", "`duration_ms` < 900 exclude"),
    ("s:\n    dst_port: 22\n    dest_port: 23", "s", "`dst_port` is 22 and `dest_port` is 23"),
    ("s:\n    dst_port: 22\n    src_port: 23", "s", ""),
    ("s:\n    dst_port: [22, 23]\n    dest_port: [23, 24]", "s", ""),
    ("s:\n    dst_port|all: [22, 23]", "s", "`dst_port` is all of 22, 23, but"),
    ("s:\n    src_ip|cidr: 10.0.0.0/8\n    SourceIp: 192.0.2.1", "s", "`SourceIp` is 192.0.2.1"),
    ("s:\n    src_ip|cidr: 10.0.0.0/8\n    SourceIp: '10.1.*'", "s", ""),
    ("s:\n    proto: tcp\nt:\n    ip_proto: 17", "s and t", "exclude one another"),
    ("s:\n    dst_port: 1", "s and not s", "`dst_port` is 1 and not (`dst_port` is 1)"),
    ("s:\n    dst_port: 1\n    src_port: 2", "s and not s", "exclude one another"),
    ("s:\n    - dst_port: 1\n    - src_port: 2", "s and not s", "exclude one another"),
    ("s:\n    - dst_port: 1\n    - src_port: 2\nt:\n    dst_port: 1", "s and not t", ""),
    ("s:\n    application: x", "s and not s", "`application` is x and not (`application` is x)"),
    ("s:\n    application|re: '^x'", "s and not s", "exclude one another"),
    ("s:\n    application|contains: x", "s and not s", "exclude one another"),
    (
        "s:\n    application: x\nt:\n    service: Y",
        "s and t",
        "`application` is x and `service` is Y",
    ),
    ("s:\n    application: x\nt:\n    service: X", "s and t", ""),
    ("s:\n    application: x\nt:\n    service|cased: X", "s and t", ""),
    ("s:\n    application|cased: x\nt:\n    service|cased: X", "s and t", "exclude one another"),
    (
        "s:\n    application: [x, y]\nt:\n    service|startswith: z",
        "s and t",
        "exclude one another",
    ),
    ("s:\n    application: [x, zx]\nt:\n    service|startswith: z", "s and t", ""),
    ("s:\n    application|all: [x, y]", "s", "is all of x, y excludes itself"),
    ("s:\n    application: x\nt:\n    service: null", "s and t", "exclude one another"),
    ("s:\n    application: null\nt:\n    service|exists: true", "s and t", "exclude one another"),
    ("s:\n    application: null\nt:\n    service: x", "s and not t", ""),
    ("s:\n    rtt_us|gt: 5\nt:\n    rtt_us: null", "s and t", "exclude one another"),
    ("s:\n    rtt_us|gt: 5\nt:\n    rtt_us|gt: 7", "not s and t", "exclude one another"),
    ("s:\n    rtt_us|gt: 5\nt:\n    rtt_us|gt: 3", "not s and t", ""),
    ("s:\n    tcp_flag: syn\nt:\n    tcp_flag: [syn, ack]", "not t and s", "exclude one another"),
    ("s:\n    tcp_flag: syn\nt:\n    tcp_flag: [syn, ack]", "t and not s", ""),
    (
        "s:\n    timestamp|hour: 25",
        "s",
        "`timestamp` hour is 25, but that is a whole number from 0 to 23",
    ),
    ("s:\n    timestamp|hour|gt: 23", "s", "from 0 to 23"),
    ("s:\n    timestamp|month: 0", "s", "from 1 to 12"),
    ("s:\n    timestamp|hour: 3\nt:\n    ts|hour: 4", "s and t", "exclude one another"),
    ("s:\n    timestamp|hour: 3\nt:\n    ts|minute: 4", "s and t", ""),
    ("s:\n    timestamp|hour|gte: 22\nt:\n    timestamp|hour|lt: 6", "1 of them", ""),
    ("s:\n    timestamp|hour: 3", "s and not s", "exclude one another"),
    ("s:\n    src_port|fieldref: dst_port", "s and not s", "exclude one another"),
    (
        "s:\n    dst_port: 70000",
        "s",
        "`dst_port` is 70000, but it is a whole number from 0 to 65535",
    ),
    ("s:\n    dst_port|exists: false", "s", "`dst_port` exists: false, but every flow has it"),
    ("s:\n    dst_port|gte: 0", "not s", "not (`dst_port` >= 0), but every flow satisfies that"),
    ("s:\n    site: nowhere*", "s", "it is the name of a site of the configuration"),
    ("s:\n    dst_prt: 22", "s", "never have the field(s) `dst_prt` (did you mean `dst_port`?)"),
    // One alternative is left, and what it says excludes the rest.
    (
        "s:\n    - dst_port: 1\n    - src_port: 2\nt:\n    dst_port: 3\nu:\n    src_port|gt: 5",
        "s and t and u",
        "exclude one another",
    ),
    (
        "s:\n    - dst_port: 1\n    - src_port: 2\nt:\n    dst_port: 3\nu:\n    src_port|gt: 1",
        "s and t and u",
        "",
    ),
    // Of fields that are compared with one another there are totals and their parts.
    ("s:\n    bytes_out|gt: 9\n    bytes|lt: 9", "s", "`bytes_out` > 9 and `bytes` < 9 exclude"),
    ("s:\n    bytes_out|gt: 9\n    bytes|lte: 10", "s", ""),
    ("s:\n    bytes_in|lte: 9\nt:\n    bytes|lt: 9", "t and not s", "exclude one another"),
    (
        "s:\n    bytes_out|gt: 9\n    orig_bytes|lt: 20\n    bytes_in|gt: 9\n    bytes|lt: 20",
        "s",
        "exclude",
    ),
    ("s:\n    bytes_out|gt: 9\n    bytes_in|gt: 9\n    bytes|lt: 21", "s", ""),
    ("s:\n    packets_out|lt: 3\n    packets_in|lt: 3\n    packets|gt: 4", "s", "exclude"),
    ("s:\n    packets_out|lt: 3\n    packets_in|lt: 3\n    packets|gt: 3", "s", ""),
    ("s:\n    bytes_out|gt: 9\n    packets|lt: 9", "s", ""),
];

/// Loads each rule, and checks that what is `said` of it has the text that is wanted; nothing is said where
/// none is.
#[track_caller]
fn check(cases: &[Case], said: impl Fn(&LoadReport) -> Vec<String>) {
    for (detection, condition, want) in cases {
        let said = said(load(&rule("r", detection, condition)).report());
        let fits = if want.is_empty() { said.is_empty() } else { said.concat().contains(want) };
        assert!(fits, "{detection}: {condition}: wanted `{want}`: {said:?}");
    }
}

#[test]
fn predicates_that_exclude_one_another_are_named() {
    check(CONTRADICTIONS, |report| {
        let never = |rejected: &Rejected| {
            assert_eq!(rejected.reason.reason(), "never_matches", "{rejected}");
            rejected.to_string()
        };
        report.rejected.iter().map(never).collect()
    });
}

/// Detections, a condition, and a part of what is said of the rule although it loads; empty: nothing.
const WARNINGS: &[Case] = &[
    ("s:\n    dst_port: [443, 70000]", "s", "`dst_port` is 70000: no flow has that"),
    ("s:\n    dst_port: 1\nt:\n    src_port: 70000", "s and not t", "`src_port` is 70000"),
    ("s:\n    timestamp|hour: [3, 24]", "s", "`timestamp` hour is 24: no flow has that"),
    ("s:\n    src_ip: ['', 192.0.2.1]", "s", ""),
    ("s:\n    dst_port: 1\nt:\n    dst_port: 2", "s or not s", "matches every flow"),
    ("s:\n    dst_port|lt: 9\nt:\n    dst_port|gt: 5", "s or t", "matches every flow"),
    ("s:\n    dst_port|lt: 5\nt:\n    dst_port|gt: 5", "s or t", "nearly every flow satisfies it"),
    ("s:\n    dst_port: 1\nt:\n    dst_port: 2", "s", "no condition names `t`, which is ignored"),
    ("s:\n    dst_port: 1\n_t:\n    dst_port: 2", "s", ""),
    ("s:\n    dst_port: 1\nt_a:\n    dst_port: 2", "s or 1 of t*", ""),
    (
        "s:\n    dst_port|fieldref: src_ip\nt:\n    dst_port: 1",
        "t and not s",
        "one holds addresses",
    ),
    ("s:\n    dst_port|fieldref|neq: src_ip", "s", "one holds addresses"),
    ("s:\n    - 443\n    - evil", "s", "keyword `443` is a number"),
    ("s:\n    application: '%servers%'", "s", "a placeholder takes the modifier `expand`"),
    ("s:\n    application: ['%', '100%']", "s", ""),
    ("s:\n    rtt_us|neq|all: [22, 23]", "s", "`neq` without `all` means none of them"),
    ("s:\n    application|neq|all: [x, y]", "s", "no flow has all of them at once"),
    ("s:\n    application|contains|neq|all: [x, y]", "s", "nearly every flow satisfies it"),
    ("s:\n    application: 'Mapping {x}'", "s", ""),
    ("s:\n    application: ['Sequence [', 'Tagged(']", "s", ""),
    (
        "s:\n    dst_port: 1\nconditon: s",
        "s",
        "`conditon`, which is ignored (did you mean `condition`?)",
    ),
    (
        "s:\n    dst_port: 1\nt:\n    dst_prt: 2",
        "s or t",
        "`dst_prt` (did you mean `dst_port`?) are false",
    ),
];

#[test]
fn what_is_never_read_and_never_true_is_told() {
    check(WARNINGS, |report| {
        assert_eq!(report.rejected, []);
        let notes = report.warnings.iter().map(|note| note.text.clone());
        notes.filter(|note| !note.contains("selective")).collect()
    });
}

/// A document, and what the report says of it: line and a part of the text.
#[test]
fn faults_are_told_by_their_lines_in_our_words() {
    let rule = rule("r", "s:\n    dst_port: 1", "s");
    let one_line =
        "title: T\nlogsource: {category: firewall}\ndetection: {s: {ITEM}, condition: s}\n";
    for (text, line, want) in [
        (
            rule.replace("level", "levle"),
            9,
            "warning: nothing reads `levle` (did you mean `level`?)",
        ),
        (rule.replace("level: low", "level: lwo"), 9, "(did you mean `low`?): medium is taken"),
        (
            rule.replace("detection", "detecton"),
            5,
            "nothing reads `detecton` (did you mean `detection`?)",
        ),
        (rule.replace("condition:", "conditon:"), 8, "has no `condition`: expected names"),
        (rule.replace("logsource", "logsuorce"), 3, "(did you mean `logsource`?)"),
        (rule.replace("category", "catgory"), 4, "`logsource.catgory` (did you mean `category`?)"),
        (rule.replace("network_connection", "process_creation"), 3, "is not one of flows"),
        (
            rule.replace("condition: s", "condition: s aand t"),
            8,
            "has `aand` at character 3, expected",
        ),
        (rule.replace("condition: s", "condition: t"), 8, "condition names `t`, which is not"),
        (
            rule.replace("  s:", "  select:").replace("condition: s", "condition: selct"),
            8,
            "(did you mean `select`?)",
        ),
        (rule.replace("dst_port: 1", "dst_port|contians: 1"), 7, "there is no modifier `contians`"),
        (rule.replace("dst_port: 1", "dst_port: {a: 1}"), 7, "`a mapping` on `dst_port` is not"),
        (rule.replace("dst_port: 1", "application: {a: 1}"), 7, "`a mapping` on `application`"),
        (
            rule.replace("dst_port: 1", "dst_port:\n            - 1\n            - x"),
            9,
            "`x` on `dst_port`",
        ),
        (rule.replace("dst_port: 1", "dst_port|fieldref: src_ip"), 1, "one holds addresses"),
        (
            rule.replace("dst_port: 1", "dst_port: '1-1024'"),
            7,
            "a range is written with `gte` and `lte`",
        ),
        (
            rule.replace("dst_port: 1", "src_ip: 10.0.0.0/8"),
            7,
            "a network takes the modifier `cidr`",
        ),
        (
            rule.replace("dst_port: 1", "src_ip|cidr: '%Lan%'"),
            7,
            "a placeholder takes the modifier `expand`",
        ),
        (
            rule.replace("dst_port: 1", "direction: out"),
            7,
            "is not one of outbound, inbound, internal, external",
        ),
        (
            rule.replace("dst_port: 1", "a: 1\n        b: 2\n        a: 3"),
            7,
            "its key `a` stands twice",
        ),
        (rule.replace("dst_port: 1", "<<: {dst_port: 1}"), 7, "YAML 1.2 has no merge keys (`<<`)"),
        (rule.clone() + "<<: {author: x}\n", 10, "YAML 1.2 has no merge keys (`<<`)"),
        (rule.replace("dst_port: 1", "Initiated: yes"), 7, "reads yes, no, on and off as texts"),
        (rule.replace("dst_port: 1", "duration|gt: 5m"), 7, "is not a decimal number of seconds"),
        (rule.replace("dst_port: 1", "event.duration: 5m"), 7, "is not a decimal number of nano"),
        (rule.replace("dst_port: 1", "src_ip: 10.0.0.1-10.0.0.9"), 7, "as networks, with `cidr`"),
        (rule.replace("dst_port: 1", "timestamp|gt: soon"), 7, "a time such as 2026-01-31T12:"),
        (rule.replace("        dst_port: 1", "        {}"), 6, "selection `s` is empty"),
        (
            rule.replace("        dst_port: 1", "        - {}\n        - dst_port: 1"),
            6,
            "`s` is empty",
        ),
        (rule.replace("        dst_port: 1", "        []"), 6, "selection `s` is empty"),
        (rule.replace("        dst_port: 1\n", ""), 6, "`null` on `keywords` is not a text"),
        (rule.replace("dst_port: 1", "dst_port: 70000"), 7, "it can never match a flow"),
        (one_line.replace("ITEM", "src_port: foo"), 3, "`foo` on `src_port`"),
        (one_line.replace("ITEM", "src_port: 1, dst_prt: 5"), 3, "did you mean `dst_port`?"),
        (one_line.replace("{ITEM}", "[443]"), 1, "warning: keyword `443` is a number"),
        (rule.clone() + "title: again\n", 1, "its key `title` stands twice"),
        ("- a\n".to_owned(), 1, "it is no mapping: expected keys such as title"),
        (rule.replace("title: Rule r", "title: 5"), 1, "it has no `title` that is a text"),
    ] {
        let report = load(&text).report().to_string();
        let found = report.lines().find(|line| line.contains(want));
        let at = found.and_then(|found| found.split(':').nth(1));
        assert_eq!(at, Some(line.to_string().as_str()), "{want}:\n{report}{text}");
    }
    let filter = "title: F\nlogsource: {category: firewall}\nfilter:\n  ruls: [r]\n  s: {dst_port: 1}\n  \
                  condition: not s\n";
    let report = load(filter).report().to_string();
    assert!(report.starts_with("test.yml:4: F: rejected: not a filter"), "{report}");
    assert!(report.contains("nothing reads `filter.ruls` (did you mean `rules`?)"), "{report}");
}

/// In a collection, the document at fault is named, and what is no fault takes no document away.
#[test]
fn faults_of_a_collection_are_those_of_its_documents() {
    let global = "action: global\nlogsource: {category: firewall}\nlevel: hgih\n---\n";
    let part = |n: u32, condition: &str| {
        format!("title: T{n}\ndetection:\n  s: {{dst_port: {n}}}\n  condition: {condition}\n---\n")
    };
    // The words of a condition are no note of the parser's.
    let text = [global.to_owned(), part(1, "s"), part(2, "s aand unrelated_hosts")].concat();
    let report = load(&text).report().to_string();
    assert!(report.contains("test.yml:13: T2: rejected"), "{report}");
    assert!(report.ends_with("1 rules loaded, 1 rejected, 0 disabled"), "{report}");
    let nested = part(2, "s").replace("{dst_port: 2}", "{dst_port: {a: 1}}");
    let report = load(&[global, &part(1, "s"), &nested].concat()).report().to_string();
    assert!(report.contains("test.yml:12: T2: rejected: `a mapping` on `dst_port`"), "{report}");
    let text = [global.to_owned(), part(1, "s"), part(2, "s and"), part(3, "s")].concat();
    let report = load(&text).report().to_string();
    assert!(
        report.contains("test.yml:13: T2: rejected: not a Sigma rule: condition `s and`"),
        "{report}"
    );
    assert!(report.contains("test.yml:3: T1: warning: level `hgih` is none of"), "{report}");
    assert!(report.ends_with("2 rules loaded, 1 rejected, 0 disabled"), "{report}");
}

#[test]
fn filters_that_silence_a_rule_are_named_with_it() {
    let rules = [
        rule("a", "s:\n    dst_port: 22\n    proto: tcp", "s"),
        rule("b", "s:\n    dst_port: 23", "s"),
    ];
    let filter = |rules: &str, condition: &str| {
        format!(
            "title: Filter\nid: f\nlogsource: {{category: network_connection}}\nfilter:\n  rules: \
             {rules}\n  s: {{dst_port: 22}}\n  condition: {condition}\n"
        )
    };
    for (names, condition, want) in [
        (
            "[a]",
            "not s",
            &["with it, rule `Rule a` can never fire: `dst_port` is 22 and not (`dst_port` is 22)"]
                [..],
        ),
        ("[b]", "not s", &[]),
        ("any", "not s", &["with it, rule `Rule a` can never fire"]),
        (
            "any",
            "not not s",
            &["hardly any flow satisfies it", "with it, rule `Rule b` can never fire"],
        ),
    ] {
        let text = [
            rules.concat().replace("title: Rule b", "---\ntitle: Rule b"),
            filter(names, condition),
        ];
        let report = load(&text.join("---\n")).report().clone();
        let found: Vec<&str> = report.warnings.iter().map(|note| note.text.as_str()).collect();
        let fits =
            found.len() == want.len() && found.iter().zip(want).all(|(f, w)| f.starts_with(w));
        assert!(fits, "{names} {condition}: {found:?}");
        assert!(report.warnings.iter().all(|note| note.title == "Filter"), "{report}");
    }
}

#[test]
fn exclusions_of_everything_are_refused_and_of_nearly_everything_told() {
    let reason = |detections: &str, condition: &str| {
        let text = format!("title: E\ndetection:\n{detections}\n  condition: {condition}\n");
        let exclusions = vec![Source { file: "e.yml".to_owned(), text }];
        let options = Options { exclusions, ..Options::default() };
        let set = RuleSet::compile(&[], &options, &mut Interner::default());
        let report = set.report();
        let broad = "nearly every flow";
        let is_broad = report.warnings.iter().any(|note| note.text.starts_with(broad));
        let loaded = if is_broad { broad } else { "loaded" };
        report.rejected.first().map_or(loaded, |rejected| rejected.reason.reason())
    };
    let one = "  s: {dst_port: 1}";
    assert_eq!(reason(one, "s or not s"), "every_flow");
    assert_eq!(reason(one, "not s"), "nearly every flow");
    assert_eq!(reason("  s: {dst_port|neq: 1}", "s"), "nearly every flow");
    assert_eq!(reason("  s: {src_ip: 10.0.0.1}\n  t: {dst_port: 1}", "s and not t"), "loaded");
    assert_eq!(reason("  s: {}", "s"), "no_values");
    assert_eq!(reason("  s: {dst_port|lt: 9}\n  t: {dest_port|gt: 5}", "1 of them"), "every_flow");
    assert_eq!(
        reason("  s: {dst_port|lt: 5}\n  t: {dst_port|gt: 5}", "1 of them"),
        "nearly every flow"
    );
    assert_eq!(reason("  s: {in_if_name: a}", "s or not s"), "every_flow");
    assert_eq!(
        reason("  s: {in_if_name: a}\n  t: {in_if_name: null}", "not s or not t"),
        "every_flow"
    );
}
