//! Templates of the common families against the texts that Python's `transformers` makes of them.
//! `scripts/render_templates` makes the texts anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value as Json;
use serde_json::value::RawValue;
use time::macros::datetime;

use super::ChatTemplate;
use crate::llama::reply::{Piece, Reading, ReplyReader};
use crate::llama::tool_calls::OfferedTool;

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

/// Templates of the corpus that write no calls.
const WITHOUT_CALLS: &[&str] = &["features", "gemma", "phi-3", "qwen3-thinking"];

#[test]
fn a_call_is_read_as_the_template_itself_writes_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates");
    let expected = serde_json::json!({ "city": "Zürich", "days": 3 });
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_template = path.extension().is_some_and(|extension| extension == "jinja");
        if !is_template || WITHOUT_CALLS.contains(&name) {
            continue;
        }
        let template = ChatTemplate::new(&fs::read_to_string(&path).unwrap()).unwrap();
        let texts: Json = serde_json::from_str(&fs::read_to_string(path.with_extension("json")).unwrap()).unwrap();
        let text = texts["tool called"].as_str().unwrap();
        let answer = text.rsplit_once("Weather in Zürich?").unwrap().1;
        // A call without a mark stands at the beginning, after the marks of the turn.
        let answer = if name == "llama3" { &answer[answer.find('{').unwrap()..] } else { answer };
        let tools = vec![OfferedTool {
            name: "weather".into(),
            parameters: Some(serde_json::json!({ "properties": { "days": { "type": "integer" } } })),
        }];
        let mut reader = ReplyReader::new(Some(&Reading {
            tools: Some((template.tool_format().clone(), tools.into())),
            marks: template.thought_marks(),
            is_thought_opened: false,
            separates_thoughts: false,
        }));
        let mut pieces = reader.push(answer);
        pieces.extend(reader.finish());
        let called: Vec<&Piece> =
            pieces.iter().filter(|piece| matches!(piece, Piece::Call(_) | Piece::Arguments(_))).collect();
        let [Piece::Call(called), Piece::Arguments(arguments)] = called.as_slice() else {
            panic!("{name}: {answer}\n{pieces:?}");
        };
        assert_eq!(called, "weather", "{name}");
        assert_eq!(serde_json::from_str::<Json>(arguments).unwrap(), expected, "{name}");
        count += 1;
    }
    assert!(count >= 9, "the corpus was not found");
}
