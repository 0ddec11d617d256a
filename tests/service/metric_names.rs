//! That the dashboard, the alerts and the documentation speak of metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;

use crate::app::{TestApp, spawn_app_for};
use crate::upstream::{Step, Upstream};

/// What Prometheus itself puts to every sample.
const OF_THE_TARGET: [&str; 2] = ["instance", "job"];

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The families of a daemon that has counted something of every kind, with their types and labels.
async fn families() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| Step::content(&format!("I cannot judge {}", seen.number)));
    let fields = json!({"alg": "best-of-n", "rm_name": "llm-judge", "judge_model": "judge", "budget": 2});
    let app: TestApp = spawn_app_for(&upstream, fields).await;
    app.chat(json!({})).await.ok();
    // The chat may have been answered before it was counted, and another request has been by then.
    app.get("/health").await.ok();
    let text = app.get("/metrics").await.text;
    let mut families = BTreeMap::new();
    for (name, kind) in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let is_of_it = |line: &&str| {
            let sample = line.split(['{', ' ']).next().unwrap();
            let suffixes = if kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            sample.strip_prefix(name).is_some_and(|suffix| suffixes.contains(&suffix))
        };
        let labels = text.lines().filter(is_of_it).flat_map(labels).collect();
        families.insert(name.to_owned(), (kind.to_owned(), labels));
    }
    families
}

/// The names of the labels between the first braces.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, rest)) = sample.split_once('{') else { return Vec::new() };
    let inside = rest.split('}').next().unwrap();
    inside.split(',').map(|label| label.trim().split(['=', '!']).next().unwrap().to_owned()).collect()
}

/// Where metrics are named in a text: the name, and what follows it.
fn named(text: &str) -> Vec<(String, &str)> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
    let mut found = Vec::new();
    for prefix in ["itsd_", "process_"] {
        for (start, _) in text.match_indices(prefix) {
            if text[..start].ends_with(is_part) {
                continue;
            }
            let end = text[start..].find(|c| !is_part(c)).map_or(text.len(), |length| start + length);
            found.push((text[start..end].to_owned(), &text[end..]));
        }
    }
    found
}

/// The family that a name is of.
fn family<'a, V>(name: &'a str, families: &BTreeMap<String, V>) -> Option<&'a str> {
    let without = |suffix| name.strip_suffix(suffix).filter(|family| families.contains_key(*family));
    Some(name)
        .filter(|name| families.contains_key(*name))
        .or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(without))
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_metrics_and_labels_that_there_are() {
    let families = families().await;
    let dashboard: serde_json::Value = serde_json::from_str(&file("configs/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let mut texts: Vec<String> = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    assert!(texts.len() > 20, "the dashboard's expressions were not found");
    texts.push(file("configs/prometheus/itsd-alerts.yaml"));
    for text in &texts {
        let named = named(text);
        assert!(!named.is_empty(), "{text}");
        for (name, rest) in named {
            let family = family(&name, &families).unwrap_or_else(|| panic!("there is no {name} for {text}"));
            let (_, there) = &families[family];
            for label in if rest.starts_with('{') { labels(rest) } else { Vec::new() } {
                let is_there = there.contains(&label) || OF_THE_TARGET.contains(&&*label);
                assert!(is_there, "{name} has no label {label}, only {there:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_metric_is_documented_with_its_labels_and_none_that_is_not_there() {
    let families = families().await;
    let documentation = file("docs/operating.md");
    let (_, section) = documentation.split_once("## Metrics\n").expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    for (name, (_, labels)) in &families {
        let row = rows.iter().find(|row| row.split('|').nth(1).unwrap().contains(&format!("`{name}`")));
        let row = row.unwrap_or_else(|| panic!("{name} is not documented"));
        let documented: BTreeSet<String> =
            row.split('|').nth(2).unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let labels: BTreeSet<String> = labels.iter().filter(|label| *label != "le").cloned().collect();
        assert_eq!(documented, labels, "{name}");
    }
    for (name, _) in named(section) {
        assert!(family(&name, &families).is_some(), "{name} is documented and not there");
    }
}
