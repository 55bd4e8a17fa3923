use super::*;
use crate::config::{FeedFormat, FeedKind};
use crate::detect::sigma::{Interner, Options, Phase, RuleIndex, RuleSet};
use crate::flow::Biflow;

fn spec(title: &str) -> config::Feed {
    config::Feed { path: "feeds/list.txt".into(), title: title.into(), ..config::Feed::default() }
}

/// Reads `text` in chunks of each of several sizes, which must not make a difference.
#[track_caller]
fn read(spec: &config::Feed, text: &str) -> Result<Feed, FeedError> {
    let read = |size: usize| {
        let mut reader = Reader::new(spec.clone());
        text.as_bytes().chunks(size).try_for_each(|chunk| reader.push(chunk))?;
        reader.finish()
    };
    let whole = read(text.len().max(1));
    for size in [1, 2, 7, 64] {
        assert_eq!(read(size), whole, "chunks of {size}");
    }
    whole
}

fn set_of(feeds: Vec<Feed>) -> RuleSet {
    let feeds = feeds.into_iter().map(Arc::new).collect();
    let options = Options { feeds, ..Options::default() };
    RuleSet::compile(&[], &options, &mut Interner::default())
}

fn flow(src: &str, dst: &str, dst_port: u16) -> Biflow {
    let address = |text: &str| text.parse().expect(text);
    Biflow { src: address(src), dst: address(dst), dst_port, ..Biflow::default() }
}

/// What fires on `flow`: ids, each with the field and predicate of its evidence.
fn fired(set: &RuleSet, flow: &Biflow) -> Vec<String> {
    let record = Record::of(flow);
    let told = |index| {
        let evidence = set.explain(index, &record);
        let evidence = evidence.iter().map(|e| format!("{} {}", e.field, e.predicate));
        format!("{}: {}", set.rule(index).meta.id, evidence.collect::<Vec<_>>().join(" and "))
    };
    set.full_scan(&record).into_iter().map(told).collect()
}

#[test]
fn a_list_becomes_a_rule_that_tells_side_and_indicator() {
    let text = "\u{feff}# known bad\r\n\r\n; more\n192.0.2.1\r\n198.51.100.0/24 ; SBL1\n\
                198.51.100.128/25\n\"2001:db8::/32\" # quoted\n203.0.113.5-203.0.113.9\n\
                203[.]0[.]113[.]77\nhxxp://203.0.113.78/x\n6667\n192.0.2.1\n";
    let feed = read(&config::Feed { id: "bad".into(), ..spec("Bad hosts") }, text).expect("a feed");
    let tally = feed.tally;
    let counts = [tally.lines, tally.addresses, tally.networks, tally.ports, tally.bad];
    assert_eq!(counts, [12, 4, 4, 1, 0]);
    let set = set_of(vec![feed]);
    for (flow, want) in [
        (flow("192.0.2.1", "10.0.0.1", 80), "bad: src_ip 192.0.2.1 of feed Bad hosts"),
        (flow("10.0.0.1", "192.0.2.1", 80), "bad: dst_ip 192.0.2.1 of feed Bad hosts"),
        (flow("10.0.0.1", "198.51.100.1", 80), "bad: dst_ip 198.51.100.0/24 of feed Bad hosts"),
        (flow("10.0.0.1", "198.51.100.200", 80), "bad: dst_ip 198.51.100.128/25 of feed Bad hosts"),
        (flow("2001:db8::1", "10.0.0.1", 80), "bad: src_ip 2001:db8::/32 of feed Bad hosts"),
        (
            flow("10.0.0.1", "203.0.113.6", 1),
            "bad: dst_ip 203.0.113.5-203.0.113.9 of feed Bad hosts",
        ),
        (flow("10.0.0.1", "203.0.113.77", 1), "bad: dst_ip 203.0.113.77 of feed Bad hosts"),
        (flow("10.0.0.1", "203.0.113.78", 1), "bad: dst_ip 203.0.113.78 of feed Bad hosts"),
        (flow("10.0.0.1", "10.0.0.2", 6667), "bad: dst_port in feed Bad hosts"),
        (
            flow("192.0.2.1", "2001:db8::9", 1),
            "bad: src_ip 192.0.2.1 of feed Bad hosts and dst_ip 2001:db8::/32 of feed Bad hosts",
        ),
    ] {
        assert_eq!(fired(&set, &flow), [want]);
    }
    assert!(fired(&set, &flow("10.0.0.1", "192.0.2.2", 80)).is_empty());
    let meta = &set.rules()[0].meta;
    assert_eq!((meta.title.as_str(), meta.level), ("Bad hosts", Level::Medium));
}

#[test]
fn bad_lines_are_counted_and_ten_of_them_named() {
    let bad: String = (0..12).map(|i| format!("host{i}.example\n")).collect();
    let feed = read(&spec(""), &format!("192.0.2.1\n{bad}192.0.2.2 192.0.2.3\n")).expect("a feed");
    assert_eq!((feed.tally.bad, feed.bad.len(), feed.bad[0].line), (13, 10, 2));
    let set = set_of(vec![feed]);
    let notes = &set.report().warnings;
    assert_eq!(notes.len(), 11);
    assert_eq!(
        notes[0].to_string(),
        "feeds/list.txt:2: list.txt: warning: skipped: `host0.example` is a domain name, or a URL \
         with one: flows carry no domain names"
    );
    assert!(notes[10].to_string().ends_with("13 of 14 lines are no indicators and are skipped"));
    let hosts = read(&spec(""), "192.0.2.1 evil.example\n").expect_err("two words");
    assert_eq!(
        hosts.to_string(),
        "no indicator in 1 lines; line 1: `192.0.2.1 evil.example` is an indicator with more \
         behind it: expected one a line"
    );
    assert!(matches!(read(&spec(""), ""), Err(FeedError::Empty { lines: 0, first: None })));
    let long = format!("{}\n192.0.2.1\n", "a".repeat(70_000));
    assert_eq!(read(&spec(""), &long).expect("a feed").tally.bad, 1);
}

#[test]
fn networks_that_hold_everything_together_are_no_feed() {
    let error = read(&spec(""), "0.0.0.0/1\n128.0.0.0/1\n").expect_err("everything");
    let says =
        "its networks together hold 100 % of all IPv4 addresses: it would match nearly every flow";
    assert_eq!(error.to_string(), says);
    let set = set_of(vec![read(&spec(""), "0.0.0.0/1\n128.0.0.0/2\n").expect("a feed")]);
    let notes: Vec<String> = set.report().warnings.iter().map(|note| note.text.clone()).collect();
    assert_eq!(notes, ["its networks together hold 75 % of all IPv4 addresses"]);
}

#[test]
fn what_is_taken_for_a_name_is_told() {
    let text = "192.0.2.1\nemotet\nqakbot\n";
    let notes = |kind| {
        let feed = read(&config::Feed { kind, ..spec("") }, text).expect("a feed");
        let set = set_of(vec![feed]);
        set.report().warnings.iter().map(|note| note.text.clone()).collect::<Vec<_>>().concat()
    };
    let told = notes(FeedKind::Auto);
    assert!(told.starts_with("2 of 3 lines are taken for names"), "{told}");
    assert!(told.contains("`emotet`"), "{told}");
    assert_eq!(notes(FeedKind::Name), "");
}

#[test]
fn a_kind_takes_nothing_else() {
    let text = "192.0.2.1\n22\nssh\n";
    for (kind, counts) in [
        (FeedKind::Auto, [1, 1, 1, 0]),
        (FeedKind::Address, [1, 0, 0, 2]),
        (FeedKind::Port, [0, 1, 0, 2]),
        (FeedKind::Name, [0, 0, 3, 0]),
    ] {
        let tally = read(&config::Feed { kind, ..spec("") }, text).expect("a feed").tally;
        assert_eq!([tally.addresses, tally.ports, tally.names, tally.bad], counts, "{kind:?}");
    }
}

fn csv(column: &str, title: &str, level: &str, tags: &str) -> config::Feed {
    config::Feed {
        format: FeedFormat::Csv,
        column: column.into(),
        title_column: title.into(),
        level_column: level.into(),
        tags_column: tags.into(),
        id: "c2".into(),
        ..spec("C2")
    }
}

#[test]
fn rows_of_csv_are_found_by_name_and_by_number() {
    let rows = "2026-01-01,192.0.2.1,x\n2026-01-02,\"192.0.2.2\",\"a, b\"\n";
    for (name, column, text) in [
        ("header", "IP", format!("first_seen,ip,note\n{rows}")),
        ("header in a comment", "ip", format!("# list\n# \"first_seen\",\"ip\",note\n{rows}")),
        ("number", "2", rows.to_owned()),
        ("number and header", "2", format!("first_seen,ip,note\n{rows}")),
    ] {
        let tally = read(&csv(column, "", "", ""), &text).expect(name).tally;
        assert_eq!((tally.addresses, tally.bad), (2, 0), "{name}");
    }
    let error = read(&csv("dst", "", "", ""), &format!("first_seen,ip,note\n{rows}"));
    let error = error.expect_err("no such column").to_string();
    assert_eq!(error, "no column is called `dst`: the first row has `first_seen`, `ip` and `note`");
    let error = read(&csv("ip", "name", "severity", ""), "# none\n").expect_err("no row");
    assert_eq!(
        error.to_string(),
        "no column is called `ip`, `name` or `severity`: the file has no row"
    );
    let short = read(&csv("2", "", "", ""), "a,192.0.2.1\nb\n\"open,192.0.2.2\n").expect("a feed");
    assert_eq!((short.tally.addresses, short.tally.bad), (1, 2));
}

#[test]
fn rows_of_one_title_level_and_tags_make_one_rule() {
    let text = "ip,malware,severity,tags\n192.0.2.1,Emotet,high,attack.t1071 attack.t1041\n\
                192.0.2.2,Emotet,HIGH,attack.t1071 attack.t1041\n192.0.2.3,Dridex,,\n\
                192.0.2.4,,,\n";
    let feed = read(&csv("ip", "malware", "severity", "tags"), text).expect("a feed");
    let set = set_of(vec![feed]);
    let rules: Vec<_> = set.rules().iter().map(|r| (r.meta.title.as_str(), r.meta.level)).collect();
    let want = [("C2", Level::Medium), ("C2: Emotet", Level::High), ("C2: Dridex", Level::Medium)];
    assert_eq!(rules, want);
    assert_eq!(set.rules()[0].meta.id, "c2");
    assert!(set.rules()[1].meta.id.starts_with("c2."));
    assert_eq!(set.rules()[1].meta.techniques.len(), 2);
    let found = set.full_scan(&Record::of(&flow("192.0.2.2", "10.0.0.1", 1)));
    assert_eq!(set.rule(found[0]).meta.title, "C2: Emotet");
}

#[test]
fn a_level_that_is_none_is_named_and_counted() {
    let mut text = "ip,level\n192.0.2.1,severe\n192.0.2.2,HIGH\n192.0.2.3,\n".to_owned();
    (4..=15).for_each(|n| text.push_str(&format!("192.0.2.{n},8\n")));
    let feed = read(&csv("ip", "", "level", ""), &text).expect("a feed");
    assert_eq!(feed.tally.unknown_levels, 13);
    let notes: Vec<String> = feed.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes[0],
        "feeds/list.txt:2: C2: warning: level `severe` is none of informational, low, medium, high or \
         critical: it has the feed's, medium"
    );
    assert!(notes[1].starts_with("feeds/list.txt:5: C2: warning: level `8` is none"), "{notes:?}");
    assert_eq!(notes.len(), 11);
    assert!(notes[10].ends_with("13 of 16 lines have a level that is none"), "{notes:?}");
}

#[test]
fn faults_read_as_sentences() {
    for (text, want) in [
        (
            "0.0.0.0/0",
            "`0.0.0.0/0` is a network that holds every IPv4 address, and so would match every flow",
        ),
        (
            "192.0.2.9-192.0.2.1",
            "`192.0.2.9-192.0.2.1` is a range that ends before it begins, or mixes IPv4 and IPv6",
        ),
        ("192.0.2.1 x", "`192.0.2.1 x` is an indicator with more behind it: expected one a line"),
        (
            "evil.example",
            "`evil.example` is a domain name, or a URL with one: flows carry no domain names",
        ),
    ] {
        let feed = read(&spec("F"), &format!("192.0.2.1\n{text}\n")).expect("a feed");
        let said = feed.notes()[0].to_string();
        assert_eq!(said, format!("feeds/list.txt:2: F: warning: skipped: {want}"));
    }
}

#[test]
fn names_make_a_rule_of_their_own_as_they_may_come_late() {
    let feed = read(&config::Feed { id: "f".into(), ..spec("F") }, "bittorrent\n192.0.2.1\n");
    let set = set_of(vec![feed.expect("a feed")]);
    let mut named = flow("10.0.0.1", "10.0.0.2", 1);
    named.application = Some("BitTorrent".into());
    assert_eq!(fired(&set, &named), ["f.names: application in feed F"]);
    // An address of the feed fires at the first record all the same.
    let mut hits = Vec::new();
    set.scan(Phase::Opened, &flow("192.0.2.1", "10.0.0.2", 1), &[], &mut hits);
    assert_eq!(hits.len(), 1);
}

#[test]
fn feeds_are_rules_like_others() {
    let feed = |title: &str| read(&spec(title), "192.0.2.1\n").expect("a feed");
    let (one, same, other) = (feed("One"), feed("One"), feed("Other"));
    let id = other.id();
    assert!(id.starts_with("feed-") && id != one.id(), "{id}");
    let feeds = [one, same, other].map(Arc::new).to_vec();
    let options = Options { feeds, disable: vec![id.to_uppercase()], ..Options::default() };
    let mut interner = Interner::default();
    let set = RuleSet::compile(&[], &options, &mut interner);
    let report = set.report();
    assert_eq!((report.loaded, report.disabled, report.rejected.len()), (1, 1, 1));
    let again = RuleSet::compile(&[], &options, &mut interner);
    assert_eq!(again.rules()[0].meta, set.rules()[0].meta, "the same identity after a reload");
}

/// A long list costs a flow a look into a table, not a search through the list: with or without
/// traffic to judge by, which has next to none of its addresses.
#[test]
fn a_long_list_is_filed_under_its_addresses() {
    let mut text = String::new();
    for number in 0..200_000_u32 {
        let address = std::net::Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1));
        text.push_str(&format!("{address}\n"));
    }
    let mut reader = Reader::new(spec("Long"));
    reader.push(text.as_bytes()).expect("a list");
    let feeds = vec![Arc::new(reader.finish().expect("a feed"))];
    let home = flow("10.0.0.1", "10.0.0.2", 443);
    let sample = crate::detect::sigma::Traffic::of(vec![home; 1_000]);
    for traffic in [None, Some(Arc::new(sample))] {
        let options = Options { feeds: feeds.clone(), traffic, ..Options::default() };
        let set = RuleSet::compile(&[], &options, &mut Interner::default());
        let index = RuleIndex(0);
        assert!(set.filed(index).starts_with("values of "), "{}", set.filed(index));
    }
}
