//! Who may know whom: the arrows between the modules point one way.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the modules that it may name. The vocabulary (`completion`, `failure`) is open to all.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("completion", &[]),
    ("failure", &[]),
    ("config", &[]),
    ("metrics", &[]),
    ("answer", &[]),
    ("providers", &["config", "metrics"]),
    ("llama", &[]),
    ("store", &[]),
    ("generator", &["config", "metrics", "answer", "providers", "llama"]),
    ("scorers", &["config", "answer", "generator"]),
    ("algorithms", &["config", "answer", "generator", "scorers"]),
    ("runtime", &["config", "metrics", "answer", "providers", "llama", "store", "generator", "scorers", "algorithms"]),
    ("http", &["config", "metrics", "answer", "generator", "scorers", "algorithms", "runtime"]),
    ("telemetry", &["config"]),
    ("port_file", &[]),
    ("app", &["config", "http", "runtime"]),
    ("reload", &["config", "runtime"]),
    ("serve", &["app", "config", "port_file", "reload", "runtime", "telemetry"]),
];
const VOCABULARY: &[&str] = &["completion", "failure"];

/// Text that only some modules may hold: the web framework, SQL, the environment.
const RESERVED: &[(&str, &[&str])] = &[
    ("actix_web", &["http", "app", "serve"]),
    ("sqlx::", &["store"]),
    ("env::var", &["config"]),
    ("llama_cpp_2", &["llama"]),
    ("llguidance", &["llama"]),
    ("reqwest::", &["providers"]),
    ("hyper::", &["providers"]),
    ("aws_sdk_", &["providers"]),
    ("aws_config::", &["providers"]),
    ("prometheus_client", &["metrics"]),
];

#[test]
fn modules_know_only_those_below_them() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: the module {module} has no place in the layering", file.display()));
            continue;
        };
        for known in named_modules(&text) {
            if known != module && !allowed.contains(&known.as_str()) && !VOCABULARY.contains(&known.as_str()) {
                wrong.push(format!("{}: {module} must not know {known}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_foreign_concern_has_one_home() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        for (concern, homes) in RESERVED {
            if text.contains(concern) && !homes.contains(&module.as_str()) {
                wrong.push(format!("{}: {concern} belongs in {}", file.display(), homes.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every source file of the library with the top-level module that it is part of.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).unwrap().with_extension("");
                let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
                if module != "lib" && module != "main" {
                    let text = fs::read_to_string(&path).unwrap();
                    files.push((module, relative, text));
                }
            }
        }
    }
    assert!(files.len() > 20, "the sources were not found");
    files
}

/// The modules of this crate that the code of a file names, comments left aside.
fn named_modules(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut named = BTreeSet::new();
    for (start, marker) in code.match_indices("crate::") {
        let rest = &code[start + marker.len()..];
        let group = rest.strip_prefix('{').map(|group| &group[..group.find('}').unwrap_or(group.len())]);
        for path in group.unwrap_or(rest).split(',').take(if group.is_some() { usize::MAX } else { 1 }) {
            let name: String = path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.chars().next().is_some_and(char::is_lowercase) {
                named.insert(name);
            }
        }
    }
    named
}
