//! The dashboard and the alert rules in `config/` speak of metrics that the sensor has.

use std::collections::BTreeSet;
use std::fs;

use regex::Regex;
use weir::metrics::table::{HISTOGRAMS, METRICS};

const DASHBOARD: &str = "config/grafana/weir.json";
const ALERTS: &str = "config/prometheus/weir.rules.yml";

/// The names that a scrape shows, suffixes included.
fn served() -> BTreeSet<String> {
    let name = |m: &weir::metrics::table::Metric| {
        if m.counter { format!("{}_total", m.name) } else { m.name.to_owned() }
    };
    let parts = HISTOGRAMS
        .iter()
        .flat_map(|h| ["bucket", "sum", "count"].map(|part| format!("{}_{part}", h.name)));
    METRICS.iter().map(name).chain(parts).collect()
}

fn named_in(path: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(path).expect("a file of the repository");
    let name = Regex::new(r"\bweir_[a-z0-9_]+").expect("a simple one");
    name.find_iter(&text).map(|found| found.as_str().to_owned()).collect()
}

#[test]
fn the_dashboard_and_the_alerts_name_only_metrics_that_exist() {
    let served = served();
    for path in [DASHBOARD, ALERTS] {
        let named = named_in(path);
        assert!(named.len() > 5, "{path} names {} metrics", named.len());
        let unknown: Vec<_> = named.difference(&served).collect();
        assert!(unknown.is_empty(), "{path} names metrics that do not exist: {unknown:?}");
    }
}

#[test]
fn every_metric_of_loss_is_on_the_dashboard() {
    let shown = named_in(DASHBOARD);
    let lossy = ["_dropped", "_rejected", "_shed", "kernel_drops", "_excepted"];
    let of_loss = |m: &&weir::metrics::table::Metric| {
        m.counter && m.labels.contains(&"reason") && lossy.iter().any(|part| m.name.contains(part))
    };
    // An exporter that falls silent is no loss of data.
    let metrics = METRICS.iter().filter(of_loss).filter(|m| m.name != "weir_exporter_dropped");
    for metric in metrics {
        let name = format!("{}_total", metric.name);
        assert!(shown.contains(&name), "{name} is not on {DASHBOARD}");
    }
}

#[test]
fn both_files_are_well_formed() {
    let dashboard = fs::read_to_string(DASHBOARD).expect("readable");
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    let alerts = fs::read_to_string(ALERTS).expect("readable");
    let alerts: serde_json::Value = yaml_serde::from_str(&alerts).expect("YAML");
    let alerts = alerts["groups"][0]["rules"].as_array().expect("rules");
    assert!(alerts.len() > 5, "{} alerts", alerts.len());
    for alert in alerts {
        let name = alert["alert"].as_str().expect("a name");
        assert!(name.starts_with("Weir"), "{name}");
        for place in
            ["/expr", "/labels/severity", "/annotations/summary", "/annotations/description"]
        {
            let text = alert.pointer(place).and_then(|text| text.as_str()).unwrap_or_default();
            assert!(!text.is_empty(), "{name} has no {place}");
        }
    }
}
