//! Filters, exclusions and placeholders: what is added to rules, and what is kept from them.

use std::path::Path;
use std::sync::Arc;

use weir::config::Config;
use weir::detect::sigma::{
    Class, Event, Interner, Note, Options, Placeholders, RuleSet, Source, Traffic,
};
use weir::flow::Biflow;

use crate::harness::Run;
use crate::sigma::{home, item_rule, load, load_with, rule, verdict};

/// A filter of rule `a` with this text below `filter:`.
fn filter(body: &str) -> String {
    let body: Vec<String> = body.lines().map(|line| format!("    {line}")).collect();
    let logsource = "logsource: {category: network_connection}";
    format!("title: Filter\nid: f\n{logsource}\nfilter:\n{}\n", body.join("\n"))
}

fn ids(set: &RuleSet, event: &str) -> Vec<String> {
    let event = Event::parse(event, &home()).expect(event);
    let hits = set.full_scan(&event.record());
    hits.iter().map(|&hit| set.rule(hit).meta.id.clone()).collect()
}

/// Two rules on ports 1 and 2 and a filter: the rules that an event fires, and what the report
/// says of the filter.
#[track_caller]
fn check(name: &str, body: &str, event: &str, want: &[&str], said: &str) {
    let rules = [rule("a", "s:\n    dst_port|lt: 10", "s"), rule("b", "s:\n    proto: tcp", "s")];
    let named = rules[1].replacen("id: b", "id: b\nname: by_name", 1);
    for text in [
        [rules[0].clone(), named.clone(), filter(body)].join("---\n"),
        [filter(body), rules[0].clone(), named].join("---\n"),
    ] {
        let set = load(&text);
        let report = set.report();
        let notes = report.warnings.iter().map(|note| note.text.as_str());
        let reasons = report.rejected.iter().map(|rejected| rejected.reason.reason());
        let found: Vec<&str> = notes.chain(reasons).collect();
        let fits = if said.is_empty() { found.is_empty() } else { found.concat().contains(said) };
        assert!(fits, "case: {name}: {found:?}");
        assert_eq!(report.filters, usize::from(report.rejected.is_empty()), "case: {name}");
        assert_eq!(ids(&set, event), want, "case: {name}");
    }
}

#[test]
fn filters_are_added_as_written() {
    let inside = r#"{"dst_port":1,"proto":"tcp","src_ip":"10.0.0.1"}"#;
    let outside = r#"{"dst_port":1,"proto":"tcp","src_ip":"192.0.2.1"}"#;
    let not = "rules: [a]\ns:\n    src_ip|cidr: 10.0.0.0/8\ncondition: not s";
    check("excludes", not, inside, &["b"], "");
    check("excludes that only", not, outside, &["a", "b"], "");
    let any = not.replace("[a]", "any");
    check("any rule", &any, inside, &[], "");
    for wrong in ["ruls: [a]", "rules: []", "rules: 7"] {
        check(wrong, &not.replace("rules: [a]", wrong), inside, &["a", "b"], "filter");
    }
    check("a name", &not.replace("[a]", "[by_name]"), inside, &["a"], "");
    check("one reference", &not.replace("[a]", "a"), inside, &["b"], "");
    check("case of an id", &not.replace("[a]", "[A]"), inside, &["b"], "");
    let positive = not.replace("not s", "s");
    check("without not, inside", &positive, inside, &["a", "b"], "has no `not`");
    check("without not, outside", &positive, outside, &["b"], "has no `not`");
    let unknown = not.replace("[a]", "[a, x]");
    check(
        "names what is not there",
        &unknown,
        inside,
        &["b"],
        "names `x`, which is no loaded rule",
    );
    check(
        "a title is no reference",
        &not.replace("[a]", "[Rule a]"),
        inside,
        &["a", "b"],
        "Rule a",
    );
    let none = not.replace("rules: [a]", "rules: [x]");
    check("names nothing that is there", &none, inside, &["a", "b"], "names `x`");
    let same_name = "rules: [a]\ns:\n    src_ip|cidr: 10.0.0.0/8\nt:\n    dst_port: 1\ncondition: \
                     not all of them";
    check("names of its own", same_name, inside, &["b"], "");
    let process = "rules: [a]\ns:\n    User|startswith: adm_\ncondition: not s";
    check("a field that flows lack", process, inside, &["a", "b"], "unknown_under_not");
    let process = process.replace("not s", "s");
    check("never satisfied", &process, inside, &["a", "b"], "silencing_filter");
    let all = "rules: [a]\ns:\n    dest_ip: '*'\ncondition: not s";
    check("not any address", all, inside, &["a", "b"], "silencing_filter");
    let most = "rules: [a]\ns:\n    bytes_out|gte: 1\ncondition: not s";
    check("not any octet", most, inside, &["a", "b"], "hardly any flow satisfies it");
    let most = "rules: [a]\ns:\n    proto: [tcp, udp, icmp]\ncondition: not s";
    check("not the usual protocols", most, inside, &["b"], "hardly any flow satisfies it");
    let always = "rules: [a]\ns:\n    dst_port|gte: 0\ncondition: s";
    check("always satisfied", always, inside, &["a", "b"], "changes no rule");
    let bad = "rules: [a]\ns:\n    src_ip: x\ncondition: not s";
    check("a bad value", bad, inside, &["a", "b"], "value");
}

#[test]
fn a_filter_is_for_its_log_source() {
    let text = |source: &str| {
        let filter = filter("rules: any\ns:\n    dst_port: 1\ncondition: not s");
        let own = rule("a", "s:\n    proto: tcp", "s");
        let zeek = rule("z", "s:\n    proto: tcp", "s")
            .replace("category: network_connection", "product: zeek\n    service: conn");
        let filter = filter.replace("{category: network_connection}", source);
        [own, zeek, filter].join("---\n")
    };
    let event = r#"{"dst_port":1,"proto":"tcp"}"#;
    let check = |source: &str, want: &[&str], notes: usize| {
        let set = load(&text(source));
        assert_eq!(ids(&set, event), want, "{source}");
        assert_eq!(set.report().warnings.len(), notes, "{source}: {}", set.report());
    };
    check("{category: network_connection}", &["z"], 0);
    check("{category: NETWORK_CONNECTION}", &["z"], 0);
    check("{product: zeek}", &["a"], 0);
    check("{product: zeek, service: conn}", &["a"], 0);
    check("{category: network_connection, product: windows}", &["a", "z"], 1);
    check("{category: process_creation}", &["a", "z"], 1);
}

#[test]
fn a_filter_changes_class_and_evidence() {
    let own = rule("a", "s:\n    dst_port: 1", "s");
    let text = filter("rules: [a]\ns:\n    bytes_out|lt: 100\ncondition: not s");
    let set = load(&[own, text].join("---\n"));
    assert_eq!(set.rules()[0].class, Class::Monotone);
    let event = Event::parse(r#"{"dst_port":1,"bytes_out":200}"#, &home()).expect("an event");
    let hits = set.full_scan(&event.record());
    let evidence = set.explain(hits[0], &event.record());
    let shown: Vec<String> =
        evidence.iter().map(|e| format!("{} {} [{}]", e.field, e.predicate, e.value)).collect();
    assert_eq!(shown, ["dst_port is 1 [1]", "bytes_out not (< 100) [200]"]);
    assert_eq!(set.report().to_string(), "1 rules loaded, 0 rejected, 0 disabled; 1 filters");
}

#[test]
fn filters_are_known_by_id() {
    let own = rule("a", "s:\n    dst_port: 1", "s");
    let not = filter("rules: [a]\ns:\n    dst_port: 1\ncondition: not s");
    let text = [own, not.clone(), not].join("---\n");
    let set = load(&text);
    assert_eq!(set.report().rejected[0].reason.reason(), "duplicate_id");
    assert_eq!(ids(&set, r#"{"dst_port":1}"#), Vec::<String>::new());
    let options = Options { disable: vec!["F".to_owned()], ..Options::default() };
    let set = load_with(&text, &options);
    assert_eq!((set.report().disabled, set.report().filters), (2, 0));
    assert_eq!(ids(&set, r#"{"dst_port":1}"#), ["a"]);
}

#[test]
fn ids_that_nothing_has_are_told() {
    let ids = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    let options = Options {
        enable: ids(&["A", "slip"]),
        disable: ids(&["gone", "F"]),
        exclusions: vec![exclusion("s:\n    dst_port: 1\n")],
        ..Options::default()
    };
    let broken = "title: B\nid: gone\ndetection: [\n";
    let text = [rule("a", "s:\n    dst_port: 1", "s"), broken.to_owned()].join("---\n");
    let set = load_with(&text, &options);
    let told: Vec<String> = set.report().warnings.iter().map(ToString::to_string).collect();
    let tail = "is the id of no rule, filter or exclusion that was found";
    let want = [
        format!("rules.disable: warning: `F` {tail}"),
        format!("rules.enable: warning: `slip` {tail}"),
    ];
    assert_eq!(told, want);
}

/// Of ids case does not count, of names it does; what is near is told.
#[test]
fn references_are_ids_in_any_case_or_names_as_written() {
    let rule =
        rule("Ab12", "s:\n    dst_port: 1", "s").replacen("level", "name: Web_Probe\nlevel", 1);
    let correlation = |of: &str| {
        format!(
            "title: C\nid: c\ncorrelation: {{type: event_count, rules: [{of}], timespan: 1m, \
             condition: {{gte: 2}}}}\n"
        )
    };
    let filter =
        |of: &str| filter(&format!("rules: [{of}]\ns:\n    dst_port: 9\ncondition: not s"));
    for (of, hint) in [
        ("Ab12", None),
        ("aB12", None),
        ("Web_Probe", None),
        ("web_probe", Some(" (did you mean `Web_Probe`?)")),
        ("Web_Prob", Some(" (did you mean `Web_Probe`?)")),
        ("other", Some("")),
    ] {
        let report = load(&[rule.clone(), correlation(of)].join("---\n")).report().clone();
        let said = report.rejected.first().map(|r| r.reason.to_string());
        let unknown =
            |hint: &str| format!("its rule `{of}` is neither the id nor the name of a rule{hint}");
        assert_eq!(said, hint.map(unknown), "{of}");
        let report = load(&[rule.clone(), filter(of)].join("---\n")).report().clone();
        let said = report.warnings.first().map(|note| note.text.clone());
        let unknown =
            |hint: &str| format!("it names `{of}`, which is no loaded rule's id or name{hint}");
        assert_eq!(said, hint.map(unknown), "{of}");
    }
    // One id in two cases is one id.
    let twice = [rule.clone(), rule.replace("id: Ab12", "id: aB12")].join("---\n");
    assert_eq!(load(&twice).report().rejected[0].reason.reason(), "duplicate_id");
    // One that was rejected leaves its id to the next, also for those that name it.
    let first = rule.replace("dst_port: 1", "dst_port: x").replace("name: Web_Probe\n", "");
    let report = load(&[first, rule, correlation("ab12")].join("---\n")).report().clone();
    assert_eq!((report.rejected.len(), report.correlations), (1, 1), "{report}");
}

/// What traffic says of exclusions and filters that keep most of it from rules.
#[test]
fn what_keeps_most_flows_from_rules_is_told() {
    let flow = |n: u16| Biflow { dst_port: if n < 3 { 443 } else { 53 }, ..Biflow::default() };
    let traffic = Arc::new(Traffic::of((0..40).map(flow).collect()));
    let warnings = |exclusion_of: &str, filter_of: &str| {
        let filter = filter(&format!("rules: any\ns:\n    {filter_of}\ncondition: not s"));
        let source = Source {
            file: "f.yml".to_owned(),
            text: [rule("a", "s:\n    dst_port: 1", "s"), filter].join("---\n"),
        };
        let options = Options {
            exclusions: vec![exclusion(&format!("s:\n    {exclusion_of}"))],
            traffic: Some(Arc::clone(&traffic)),
            ..Options::default()
        };
        let set = RuleSet::compile(&[source], &options, &mut Interner::default());
        let told = |note: &Note| format!("{}: {}", note.title, note.text);
        set.report().warnings.iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(warnings("dst_port: 443", "dst_port: 443"), Vec::<String>::new());
    assert_eq!(
        warnings("dst_port: 53", "dst_port: 53"),
        [
            "Filter: it lets 3 of a sample of 40 recent flows pass: on the others no rule that it names \
             fires",
            "Lab: it keeps 37 of a sample of 40 recent flows from rules",
        ]
    );
    // What is not final when flows are sampled is not judged by the sample.
    assert_eq!(warnings("dst_port: 443", "bytes_out|lt: 1000"), Vec::<String>::new());
    let narrow = |condition: &str| {
        let body = format!("rules: any\ns:\n    dst_port: 9\ncondition: {condition}");
        let text = [rule("a", "s:\n    dst_port|lt: 10", "s"), filter(&body)].join("---\n");
        load(&text).report().warnings.iter().map(|note| note.text.clone()).collect::<String>()
    };
    assert_eq!(narrow("not s"), "");
    assert!(narrow("s").starts_with("it has no `not`"), "{}", narrow("s"));
    assert!(
        narrow("not not s").starts_with("hardly any flow satisfies it"),
        "{}",
        narrow("not not s")
    );
}

/// A file with one exclusion, its detections indented as in a rule.
fn exclusion(detections: &str) -> Source {
    let lines: Vec<String> = detections.lines().map(|line| format!("    {line}")).collect();
    let text = format!("title: Lab\nid: lab\ndetection:\n{}\n    condition: s\n", lines.join("\n"));
    Source { file: "exclusion.yml".to_owned(), text }
}

fn with_exclusions(exclusions: Vec<Source>) -> RuleSet {
    let options = Options { exclusions, ..Options::default() };
    RuleSet::compile(&[], &options, &mut Interner::default())
}

#[test]
fn exclusions_ask_for_what_is_final_at_the_first_record() {
    let check = |detections: &str, want: &str| {
        let set = with_exclusions(vec![exclusion(detections)]);
        let got = match &set.report().rejected[..] {
            [] => "loaded",
            [rejected] => rejected.reason.reason(),
            more => panic!("{more:?}"),
        };
        assert_eq!(got, want, "{detections}");
        assert_eq!(set.exclusions().len(), usize::from(want == "loaded"));
    };
    for detections in [
        "s:\n    src_ip: 10.1.9.9",
        "s:\n    - src_ip|cidr: 10.0.0.0/8\n      dst_port: [80, 443]\n    - proto: icmp",
        "s:\n    exporter: 192.0.2.1\n    in_if_name|startswith: mgmt\n    direction: internal",
        "s:\n    src_port|fieldref: dst_port",
    ] {
        check(detections, "loaded");
    }
    check("s:\n    bytes_out|gt: 5", "not_final");
    check("s:\n    src_ip: 10.1.9.9\n    tcp_flag: syn", "not_final");
    check("s:\n    application: dns", "not_final");
    check("s:\n    - dns", "not_final");
    check("s:\n    dst_port|gte: 0", "every_flow");
    check("s:\n    dest_ip: '*'", "every_flow");
    check("s:\n    src_ip|contains: '*'", "every_flow");
    check("s:\n    src_ip|re: '.*'", "every_flow");
    check("s:\n    src_ip|re: '.'", "every_flow");
    check("s:\n    Image: x", "never_matches");
    check("s:\n    src_ip: x", "value");
    check("t:\n    src_ip: 10.0.0.1", "identifier");
    let others = "title: C\ncorrelation: {type: event_count, rules: [a], timespan: 1m,\n  \
                  group-by: [src_ip], condition: {gt: 1}}\n---\ntitle: F\nfilter: {rules: [a], \
                  s: {dst_port: 1}, condition: not s}\n---\ntitle: P\nlogsource: {category: \
                  process_creation}\ndetection: {s: {dst_port: 1}, condition: s}\n";
    let set = with_exclusions(vec![Source { file: "x.yml".into(), text: others.to_owned() }]);
    let reasons: Vec<&str> = set.report().rejected.iter().map(|r| r.reason.reason()).collect();
    assert_eq!(reasons, ["misplaced", "misplaced", "logsource"]);
    let twice = exclusion("s:\n    dst_port: 1");
    let set = with_exclusions(vec![twice.clone(), twice]);
    assert_eq!(set.report().rejected[0].reason.reason(), "duplicate_id");
    assert_eq!(
        set.report().to_string().lines().last(),
        Some("0 rules loaded, 1 rejected, 0 disabled; 1 exclusions")
    );
}

#[test]
fn the_first_exclusion_that_holds_is_named() {
    let one = exclusion("s:\n    dst_port: 1");
    let mut two = exclusion("s:\n    proto: tcp");
    two.text = two.text.replace("Lab", "TCP").replace("lab", "tcp");
    let set = with_exclusions(vec![one, two]);
    let named = |dst_port, protocol| {
        let flow = Biflow { dst_port, protocol, ..Biflow::default() };
        set.excluded(&flow).map(|meta| (meta.uid, meta.title.to_string()))
    };
    assert_eq!(named(1, 6), Some((0, "Lab".to_owned())));
    assert_eq!(named(2, 6), Some((1, "TCP".to_owned())));
    assert_eq!(named(2, 17), None);
}

#[test]
fn placeholders_stand_for_their_values() {
    let mut placeholders = Placeholders::default();
    placeholders.insert("Servers", ["10.1.0.0/24", "10.2.0.10"]);
    placeholders.insert("ports", ["80", "443"]);
    placeholders.insert("names", ["up*", "a.b"]);
    let options = Options { placeholders, ..Options::default() };
    let check = |item: &str, event: &str, want: &str| {
        let set = load_with(&item_rule(item), &options);
        assert_eq!(verdict(&set, event), want, "{item} {event}");
    };
    check("src_ip|expand|cidr: '%Servers%'", r#"{"src_ip":"10.1.0.9"}"#, "true");
    check("src_ip|cidr|expand: '%Servers%'", r#"{"src_ip":"10.2.0.10"}"#, "true");
    check("src_ip|cidr|expand: '%Servers%'", r#"{"src_ip":"10.2.0.11"}"#, "false");
    check("src_ip|expand: '%Servers%'", r#"{"src_ip":"10.2.0.10"}"#, "rejected: value");
    check("dst_port|expand: '%ports%'", r#"{"dst_port":443}"#, "true");
    check("dst_port|expand:\n    - '%ports%'\n    - 22", r#"{"dst_port":22}"#, "true");
    check("dst_port|neq|expand: '%ports%'", r#"{"dst_port":443}"#, "false");
    check("dst_port|gt|expand: '%ports%'", r#"{"dst_port":81}"#, "true");
    check("in_if_name|expand: '%names%'", r#"{"in_if_name":"uplink"}"#, "true");
    check("in_if_name|expand: 'x-%names%-y'", r#"{"in_if_name":"x-a.b-y"}"#, "true");
    check("in_if_name|expand|re: '^%names%$'", r#"{"in_if_name":"a.b"}"#, "true");
    check("in_if_name|expand|re: '^%names%$'", r#"{"in_if_name":"axb"}"#, "false");
    check("application|expand|base64: 'x%ports%'", r#"{"application":"eDQ0Mw=="}"#, "true");
    let all = "in_if_name|expand|contains|all:\n    - '%names%'\n    - 'x'";
    check(all, r#"{"in_if_name":"x a.b"}"#, "true");
    check(all, r#"{"in_if_name":"a.b"}"#, "false");
    check("'|expand': '%names%'", r#"{"application":"an a.b name"}"#, "true");
    check("src_ip: '%Servers%'", r#"{"src_ip":"10.1.0.9"}"#, "rejected: value");
    check("src_ip|expand: '%servers%'", r#"{"src_ip":"10.1.0.9"}"#, "rejected: placeholder");
    check("Image|expand: '%servers%'", "{}", "rejected: placeholder");
    check("src_port|fieldref|expand: '%ports%'", "{}", "rejected: modifier");
}

/// A capture with rules and an exclusion: flows that it matches are shipped without alerts.
#[test]
fn excluded_flows_are_shipped_and_not_matched() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("rules/tcp.yml", &rule("tcp", "s:\n    proto: tcp", "s"));
    write("rules/latin1.yml", "");
    std::fs::write(folder.path().join("rules/latin1.yml"), b"title: a\n# \xe9\n").expect("written");
    write("placeholders.yml", "web: [80, 8080]\n");
    let text = "title: Web\nid: web\ndetection: {s: {dst_port|expand: '%web%'}, condition: s}\n";
    write("exclusions/web.yml", text);
    let mut config = Config::default();
    config.rules.directories = vec![folder.path().join("rules")];
    config.rules.placeholders = Some(folder.path().join("placeholders.yml"));
    let capture = root.join("pcaps").join(CAPTURE);
    let plain = Run { config: config.clone(), ..Run::default() }.whole(&capture);
    config.rules.exclusions = vec![folder.path().join("exclusions")];
    let (_, options) = weir::pipeline::rules::gather(&config).expect("readable");
    let [unreadable] = &options.unreadable[..] else { panic!("{:?}", options.unreadable) };
    assert!(unreadable.file.ends_with("latin1.yml"), "{unreadable}");
    assert_eq!((unreadable.line, unreadable.reason.reason()), (2, "not_utf8"));
    for workers in [1, 4] {
        let run = Run { config: config.clone(), workers, ..Run::default() };
        let replayed = run.whole(&capture);
        assert_eq!(replayed.slices.len(), plain.slices.len());
        let is_web = |port: u16| port == 80 || port == 8080;
        let mut flows = std::collections::BTreeSet::new();
        for tagged in &replayed.slices {
            let web = is_web(tagged.slice.flow.dst_port);
            assert_eq!(tagged.excluded.as_deref(), web.then_some("Web"));
            assert_eq!(tagged.rules.is_empty(), web || tagged.slice.flow.protocol != 6);
            if web {
                flows.insert(tagged.slice.flow_id);
            }
        }
        let want = plain.alerts.iter().filter(|alert| !is_web(alert.flow.dst_port)).count();
        assert_eq!(replayed.alerts.len(), want);
        assert!(want > 0 && want < plain.alerts.len(), "the capture has both kinds of flows");
        assert_eq!(replayed.ledgers.detections.excluded, [flows.len() as u64]);
    }
}

const CAPTURE: &str = "web.pcap";
