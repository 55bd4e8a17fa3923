//! Messages, templates, records and fields are as many as the independent counter says.

use std::collections::BTreeMap;

use weir::decode::netflow::inspect::{Body, Kind, Line};
use weir::decode::netflow::wire::VARIABLE;

use super::{check_explained, lines, rows};
use crate::support::vectors;

const EXPLAINED: &[(&str, &str)] = &[
    ("ipfix_test_netscaler_data+1", "data waits for the template that comes after it"),
    ("test_packet_all_iter_21", "the one template is cut short"),
    ("test_v9_template_only_iter_packets_20", "the one template is cut short"),
    ("v9_data_with_template_in_same_packet_14", "the second template is cut short"),
];

/// Counts `lines` under the names of the vectors' README.
fn count(lines: &[Line]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let mut add = |name: String, n: usize| {
        if n > 0 {
            *counts.entry(name).or_default() += n as u64;
        }
    };
    for line in lines {
        let version = match line.version {
            Some(10) => "ipfix".to_owned(),
            Some(version) => format!("v{version}"),
            None => "other".to_owned(),
        };
        match (line.kind, &line.body) {
            (Kind::Message, _) => add(format!("{version}_msgs"), 1),
            (Kind::Data, _) => add(format!("{version}_recs"), 1),
            (Kind::Options, _) => add(format!("{version}_opt_recs"), 1),
            (_, Body::Template(template)) if template.withdrawn => add("withdrawals".into(), 1),
            (kind, Body::Template(template)) => {
                let data = kind == Kind::Template;
                let of = |which: fn(u32, u16, u16) -> bool| {
                    let fields = template.fields.iter();
                    fields.filter(|field| which(field.pen, field.id, field.length)).count()
                };
                add(if data { "templates" } else { "option_templates" }.into(), 1);
                add("enterprise_fields".into(), of(|pen, _, _| pen != 0));
                if data {
                    add("biflow_reverse_fields".into(), of(|pen, _, _| pen == 29_305));
                    add("varlen_fields".into(), of(|_, _, length| length == VARIABLE));
                    let structured = of(|pen, id, _| pen == 0 && (291..=293).contains(&id));
                    add("structured_fields".into(), structured);
                }
            }
            (_, Body::Error(error)) => match error.reason {
                "unknown_version" | "sflow_unsupported" => add("other_msgs".into(), 1),
                "no_template" => add("sets_without_template".into(), 1),
                "bad_count" => add("count_mismatch".into(), 1),
                "truncated" => add("truncated".into(), 1),
                // The counter leaves a set silently at what it cannot read.
                _ => {}
            },
            _ => {}
        }
    }
    counts
}

#[test]
fn counts_equal_the_independent_counter() {
    let Some(folder) = vectors("netflow") else { return };
    let rows = rows(&folder);
    let mut found = BTreeMap::new();
    for row in &rows {
        let have = count(&lines(&folder, row));
        let names: std::collections::BTreeSet<_> = have.keys().chain(row.counts.keys()).collect();
        let of = |counts: &BTreeMap<String, u64>, name| counts.get(name).copied().unwrap_or(0);
        let differences: Vec<_> = names
            .into_iter()
            .filter(|name| of(&have, name.as_str()) != of(&row.counts, name))
            .map(|name| format!("{name}: {} for {}", of(&have, name), of(&row.counts, name)))
            .collect();
        if !differences.is_empty() {
            found.insert(row.name(), differences);
        }
    }
    check_explained("counts", rows.len(), &found, EXPLAINED);
}
