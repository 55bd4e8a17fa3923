//! Loading: the report, options, ids, and the evidence of a match.

use weir::config::Logsource;
use weir::detect::sigma::{Class, Event, Interner, Options, RuleSet, Source};

use crate::sigma::{home, load, load_with, rule};

#[test]
fn the_report_names_file_line_rule_and_reason() {
    let text = [
        rule("a", "s:\n    dst_port: 1", "s"),
        rule("b", "s:\n    dst_port: 1\n    src_ip: 'x'", "s"),
        rule("a", "s:\n    dst_port: 2", "s"),
        rule("c", "s:\n    dst_port|gte: 0", "s").replace("level: low", "level: lwo"),
        rule("d", "s:\n    Dst_Port: 2\nt:\n    dst_port: 1", "t and not s"),
    ];
    let report = load(&text.join("---\n")).report().to_string();
    let want = [
        "test.yml:18: Rule b (b): rejected: `x` on `src_ip` is not an IPv4 or IPv6 address",
        "test.yml:23: Rule a (a): rejected: its id is that of the rule at test.yml:1",
        "test.yml:48: Rule d (d): rejected: field `Dst_Port` (did you mean `dst_port`?) is one that \
         flows never have, and it stands under `not`: the rule would match what it means to \
         exclude; rules.enable with its id loads it all the same",
        "test.yml:32: Rule c: warning: matches every flow",
        "test.yml:40: Rule c: warning: level `lwo` is none of informational, low, medium, high, critical \
         (did you mean `low`?): medium is taken",
        "2 rules loaded, 3 rejected, 0 disabled",
    ];
    assert_eq!(report.lines().collect::<Vec<_>>(), want);
}

#[test]
fn options_enable_disable_and_widen() {
    let text = rule("A1", "s:\n    dst_port: 1\nf:\n    Image: x", "s and not f");
    assert!(load(&text).rules().is_empty());
    let with = |options: Options| load_with(&text, &options);
    let set = with(Options { enable: vec!["a1".to_owned()], ..Options::default() });
    assert_eq!((set.rules().len(), set.report().warnings.len()), (1, 1));
    let set = with(Options { disable: vec!["a1".to_owned()], ..Options::default() });
    assert_eq!((set.report().disabled, set.report().rejected.len()), (1, 0));

    let other = rule("z", "s:\n    id.resp_p: 3389", "s")
        .replace("category: network_connection", "product: zeek\n    service: rdp");
    assert_eq!(load(&other).report().rejected[0].reason.reason(), "logsource");
    let rdp = Logsource {
        product: Some("zeek".to_owned()),
        service: Some("rdp".to_owned()),
        category: None,
    };
    let set = load_with(&other, &Options { logsources: vec![rdp], ..Options::default() });
    assert_eq!(set.rules().len(), 1, "{}", set.report());

    let sites = rule("s", "s:\n    site: 'branch*'", "s");
    assert_eq!(load(&sites).report().rejected[0].reason.reason(), "never_matches");
    let names = vec!["default".to_owned(), "branch-1".to_owned()];
    let set = load_with(&sites, &Options { sites: names, ..Options::default() });
    let event = Event::parse(r#"{"site":1}"#, &home()).expect("an event");
    assert_eq!(set.full_scan(&event.record()).len(), 1);
}

#[test]
fn uids_stay_the_same_over_reloads() {
    let mut interner = Interner::default();
    let mut uids = |ids: &[&str]| -> Vec<u32> {
        let source = |id: &&str| Source {
            file: format!("{id}.yml"),
            text: rule(id, "s:\n    dst_port: 1", "s"),
        };
        let sources: Vec<Source> = ids.iter().map(source).collect();
        let set = RuleSet::compile(&sources, &Options::default(), &mut interner);
        set.rules().iter().map(|rule| rule.meta.uid).collect()
    };
    assert_eq!(uids(&["a", "b"]), [0, 1]);
    assert_eq!(uids(&["c", "b", "a"]), [2, 1, 0]);
}

#[track_caller]
fn check_class(detection: &str, condition: &str, want: Class) {
    let set = load(&rule("r", detection, condition));
    assert_eq!(set.rules()[0].class, want, "{detection}: {condition}");
}

#[test]
fn classes_say_when_the_truth_is_final() {
    use Class::{Final, Immutable, Monotone};
    check_class("s:\n    dst_port: 1\n    src_ip|cidr: 10.0.0.0/8", "not s", Immutable);
    check_class("s:\n    Initiated: 'true'\n    in_if_name: null", "s", Immutable);
    check_class("s:\n    bytes_out|gt: 5\n    dst_port: 1", "s", Monotone);
    check_class("s:\n    bytes_out|lt: 5", "not s", Monotone);
    check_class("s:\n    fwd_payload|lt: 5", "not s", Final);
    check_class("s:\n    tcp_flag: rst\n    duration|gte: 5", "s", Monotone);
    check_class("s:\n    tcp_flag: rst", "not s", Final);
    check_class("s:\n    bytes_out: 5", "s", Final);
    check_class("s:\n    bytes_out|gt: 5\n    bytes_out|lt: 9", "s", Final);
    check_class("s:\n    rtt_us|gt: 5", "s", Final);
    check_class("s:\n    timestamp|hour: 5", "s", Final);
    check_class("s:\n    src_port|fieldref: dst_port", "s", Immutable);
    check_class("s:\n    src_port|fieldref: bytes_in", "s", Final);
}

#[test]
fn evidence_names_what_held() {
    let detection = "s:\n    dst_port:\n        - 23\n        - 2323\n    bytes_out|gt: 1000\n\
                     f:\n    src_ip|cidr: 10.0.0.0/8\ng:\n    proto: udp";
    let set = load(&rule("r", detection, "(s or g) and not f"));
    let event = r#"{"dst_port":23,"bytes_out":3000,"src_ip":"192.0.2.1","proto":"tcp"}"#;
    let event = Event::parse(event, &home()).expect("an event");
    let hits = set.full_scan(&event.record());
    let evidence = set.explain(hits[0], &event.record());
    let shown: Vec<String> =
        evidence.iter().map(|e| format!("{} {} [{}]", e.field, e.predicate, e.value)).collect();
    let want = [
        "dst_port is one of 23, 2323 [23]",
        "bytes_out > 1000 [3000]",
        "src_ip not (is in 10.0.0.0/8) [192.0.2.1]",
    ];
    assert_eq!(shown, want);
}

#[test]
fn metadata_travels_with_a_rule() {
    let text = "title: T\nauthor: A. N. Other\nreferences: [https://example.org/x]\ntags:\n    - \
                attack.command_and_control\n    - attack.t1071.001\n    - attack.g0001\n    - \
                cve.2024-1\nlogsource: {service: netflow}\ndetection:\n    s: {dst_port: 1}\n    \
                condition: s\n";
    let set = load(text);
    let meta = &set.rules()[0].meta;
    assert_eq!(meta.tactics, ["command-and-control"]);
    assert_eq!(meta.techniques[0].id, "T1071.001");
    assert_eq!(meta.techniques[0].name.as_deref(), Some("Web Protocols"));
    assert_eq!(meta.link.as_deref(), Some("https://example.org/x"));
    assert_eq!((meta.level.as_str(), meta.line), ("medium", 1));
    assert!(meta.id.starts_with("title-"), "{}", meta.id);
    assert_eq!(meta.tags.len(), 4);
}
