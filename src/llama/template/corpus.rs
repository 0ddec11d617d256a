//! Templates of the common families against the texts that Python's `transformers` makes of them.
//! `scripts/render_templates` makes the texts anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use serde_json::value::RawValue;
use time::macros::datetime;

use super::ChatTemplate;

/// What `conversations.json` holds. Messages are read as they would come from a client.
#[derive(serde::Deserialize)]
struct Conversation {
    name: String,
    messages: Box<RawValue>,
    tools: Option<String>,
}

#[test]
fn every_template_gives_what_transformers_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
    let conversations: Vec<Conversation> = serde_json::from_str(&read("conversations.json")).unwrap();
    let tools: BTreeMap<String, Vec<Box<RawValue>>> = serde_json::from_str(&read("tools.json")).unwrap();

    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = fs::read_to_string(&path).unwrap();
        let template = match ChatTemplate::with_clock(&source, || datetime!(2026-03-07 09:05:01 UTC)) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: does not compile: {error}"));
                continue;
            }
        };
        let expected: Json = serde_json::from_str(&read(&format!("{name}.json"))).unwrap();
        for Conversation { name: about, messages, tools: offered } in &conversations {
            let offered: Vec<&str> = match offered {
                Some(offered) => tools[offered].iter().map(|tool| tool.get()).collect(),
                None => Vec::new(),
            };
            let text = template.render_with(messages.get(), &offered, "<s>", "</s>", &str::to_owned);
            count += 1;
            match (expected[about].as_str(), text) {
                (Some(expected), Ok(text)) if text == expected => {}
                (None, Err(_)) => {}
                (expected, text) => {
                    let text = text.unwrap_or_else(|failure| format!("refused: {}", failure.message));
                    wrong.push(format!(
                        "{name}, {about}\n--- expected\n{}\n--- rendered\n{text}",
                        expected.unwrap_or("a refusal")
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(count >= 150, "the corpus was not found");
}
