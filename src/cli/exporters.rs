//! `weir exporters`: who exports, and how well.

use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::Value;

use super::Failure;
use super::args::{Exporters, LogFormat};
use crate::api;

pub(super) fn run(args: &Exporters) -> Result<(), Failure> {
    let address = super::admin_address(args.admin, &args.config)?;
    let text = fetch(address)?;
    match args.format {
        LogFormat::Json => super::print(format!("{}\n", text.trim_end()).as_bytes()),
        LogFormat::Text => {
            let reports: Value = serde_json::from_str(&text).map_err(|error| {
                Failure::Invalid(format!("what answers at {address} is no sensor: {error}"))
            })?;
            super::print(table(&reports).as_bytes())
        }
    }
}

fn fetch(address: SocketAddr) -> Result<String, Failure> {
    api::fetch(address, "/exporters").map_err(|error| {
        Failure::Invalid(format!("no running sensor answers at {address}: {error}"))
    })
}

/// One paragraph for each exporter, of lines that have something to say.
fn table(reports: &Value) -> String {
    let reports = list(reports);
    if reports.is_empty() {
        return "no exporter has sent anything yet\n".to_owned();
    }
    let mut text = String::new();
    for report in reports {
        paragraph(&mut text, report).expect("a string takes all");
    }
    text
}

fn paragraph(text: &mut String, report: &Value) -> std::fmt::Result {
    let get = |key: &str| plain(&report[key]);
    let name = report["name"].as_str().map(|name| format!("  {name}")).unwrap_or_default();
    let versions: Vec<String> = list(&report["versions"]).iter().map(plain).collect();
    let (address, port, site) = (get("address"), get("port"), get("site"));
    writeln!(text, "{address} port {port}{name}  site {site}  version {}", versions.join(", "))?;
    let (since, last) = (instant(&report["since"]), instant(&report["last_seen"]));
    writeln!(text, "  seen       since {since}, last {last}")?;
    let rate = |key: &str| report[key].as_f64().unwrap_or_default();
    writeln!(
        text,
        "  received   {} datagrams ({:.0}/s), {} records ({:.0}/s): {} flows, {} options",
        get("datagrams"),
        rate("datagrams_per_s"),
        get("records"),
        rate("records_per_s"),
        get("flows"),
        get("options_records"),
    )?;
    for template in list(&report["templates"]) {
        writeln!(text, "  template   {}", template_line(template))?;
    }
    for waiting in list(&report["waiting"]) {
        let get = |key: &str| plain(&waiting[key]);
        writeln!(
            text,
            "  waiting    for template {} of domain {} since {}: {} sets, {} octets held",
            get("id"),
            get("domain"),
            instant(&waiting["since"]),
            get("sets"),
            get("octets"),
        )?;
    }
    for domain in list(&report["domains"]) {
        sampling_lines(text, domain)?;
    }
    for (key, place) in [
        ("header_sampling", "in the header"),
        ("record_sampling", "in the record"),
        ("configured_sampling", "configured, where none is told"),
    ] {
        if report[key].is_u64() {
            writeln!(text, "  sampling   1 in {} {place}", get(key))?;
        }
    }
    if report["sampling_unknown"].as_u64() > Some(0) {
        writeln!(text, "  sampling   unknown of {} flow records", get("sampling_unknown"))?;
    }
    let sequence = &report["sequence"];
    let of = |key: &str| plain(&sequence[key]);
    writeln!(
        text,
        "  sequence   {} lost, {} late, {} twice, {} restarts, {} resyncs",
        of("lost"),
        of("reordered"),
        of("duplicates"),
        of("restarts"),
        of("resyncs"),
    )?;
    for (key, word) in [("errors", "errors"), ("dropped_sets", "dropped")] {
        let counts = report[key].as_object().into_iter().flatten();
        let counts: Vec<String> = counts.map(|(reason, n)| format!("{reason} {n}")).collect();
        if !counts.is_empty() {
            writeln!(text, "  {word:<10} {}", counts.join(", "))?;
        }
    }
    let skew = report["clock_skew_us"].as_f64().map(|us| format!("skew {:.3} s", us / 1e6));
    let active = report["active_timeout_s"].as_i64().map(|s| format!("active timeout {s} s"));
    let clamped = Some(format!("{} times clamped", get("times_clamped")));
    let clock: Vec<String> = [skew, active, clamped].into_iter().flatten().collect();
    writeln!(text, "  clock      {}\n", clock.join(", "))
}

fn template_line(template: &Value) -> String {
    let get = |key: &str| plain(&template[key]);
    let kind = if template["options"] == true { " (options)" } else { "" };
    let unconfirmed =
        if template["unconfirmed"] == true { ", not seen since the restart" } else { "" };
    let (id, domain, fields, age) = (get("id"), get("domain"), get("fields"), get("age_s"));
    format!("{id}{kind} of domain {domain}: {fields} fields, sent {age} s ago{unconfirmed}")
}

fn sampling_lines(text: &mut String, domain: &Value) -> std::fmt::Result {
    let one = |sampling: &Value| {
        format!("1 in {} ({})", plain(&sampling["interval"]), plain(&sampling["algorithm"]))
    };
    let id = plain(&domain["domain"]);
    if domain["sampling"].is_object() {
        writeln!(text, "  sampling   domain {id}: {}", one(&domain["sampling"]))?;
    }
    for (key, word) in [("samplers", "sampler"), ("interface_sampling", "interface")] {
        for sampler in list(&domain[key]) {
            let number = plain(&sampler["id"]);
            writeln!(text, "  sampling   domain {id}, {word} {number}: {}", one(sampler))?;
        }
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Microseconds since the epoch as UTC, to the second.
fn instant(value: &Value) -> String {
    let time = value.as_i64().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(|| plain(value), |time| format!("{time:.0}"))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::decode::netflow::Collector;
    use crate::metrics::Ledgers;
    use crate::net::Addr;
    use crate::time::Micros;

    #[test]
    fn an_exporter_whose_template_is_missing_is_told_of() {
        let mut collector = Collector::new(&Config::default());
        let mut message = vec![0, 10, 0, 24, 0, 0, 0, 9, 0, 0, 0, 7, 0, 0, 0, 3];
        message.extend([1, 44, 0, 8, 1, 2, 3, 4]);
        let source = (Addr::v4(0xc000_0201), 4_739);
        let now = Micros::from_secs(1_700_000_000);
        collector.datagram(source, now, &message, &mut Vec::new(), &mut Ledgers::default());
        let text = table(&serde_json::to_value(collector.report(now)).expect("JSON"));
        assert!(text.starts_with("192.0.2.1 port 4739  site default  version 10\n"), "{text}");
        let waiting = "waiting    for template 300 of domain 3 since 2023-11-14T22:13:20Z: 1 sets";
        assert!(text.contains(waiting), "{text}");
        let sequence = "  sequence   0 lost, 0 late, 0 twice, 0 restarts, 1 resyncs\n";
        assert!(text.contains(sequence), "{text}");
        assert!(!text.contains("sampling"), "{text}");
        assert_eq!(table(&serde_json::json!([])), "no exporter has sent anything yet\n");
    }

    #[test]
    fn every_source_of_a_sampling_interval_has_its_line() {
        let report = serde_json::json!({
            "header_sampling": 100, "record_sampling": 64, "configured_sampling": 1_000,
        });
        let mut text = String::new();
        paragraph(&mut text, &report).expect("a string takes all");
        for line in [
            "  sampling   1 in 100 in the header\n",
            "  sampling   1 in 64 in the record\n",
            "  sampling   1 in 1000 configured, where none is told\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
