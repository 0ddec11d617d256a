//! What a client of a model in this process reads: thoughts apart from the text, and tool calls as they come.

#![cfg(feature = "llama")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{TestApp, spawn_app_with};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf");

/// A chat template that opens a thought, which the model, since it knows of none, does not close.
const THINKING: &str = "{{ '<s><|user|>' ~ messages[-1].content ~ '<|assistant|>' }}{{ '<think>' }}";

/// The model that ships under a template of the same length, padded with a comment.
fn with_template(directory: &Path, template: &str) {
    let mut file = fs::read(SHIPPED).unwrap();
    let key = b"tokenizer.chat_template";
    let start = file.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
    let length = usize::try_from(u64::from_le_bytes(file[start..start + 8].try_into().unwrap())).unwrap();
    let padding = length.checked_sub(template.len() + 4).expect("the template is shorter");
    let padded = format!("{template}{{#{}#}}", "-".repeat(padding));
    file[start + 8..start + 8 + length].copy_from_slice(padded.as_bytes());
    fs::write(directory.join("thinker.gguf"), file).unwrap();
}

async fn app_with_thinker(separate_reasoning: bool) -> (TestApp, TempDir) {
    let models = tempfile::tempdir().unwrap();
    with_template(models.path(), THINKING);
    let dir = models.path().to_owned();
    let app = spawn_app_with(|settings| {
        settings.models.dirs.push(dir);
        settings.llama.separate_reasoning = separate_reasoning;
    });
    (app.await, models)
}

fn sum(model: &str, fields: Value) -> Value {
    let mut sum = json!({
        "model": model, "temperature": 0, "max_tokens": 40,
        "messages": [{"role": "user", "content": "What is 23 + 48 - 17?"}],
    });
    sum.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    sum
}

fn calculator() -> Value {
    json!([{"type": "function", "function": {
        "name": "calculator", "description": "Works out a sum",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    }}])
}

/// Everything that the first choice's deltas say under a name, joined.
fn joined(events: &[Value], pointer: &str) -> String {
    let texts = events.iter().filter_map(|event| event.pointer(&format!("/choices/0/delta{pointer}")));
    texts.filter_map(Value::as_str).collect()
}

#[tokio::test]
async fn thoughts_are_apart_from_the_text_where_the_settings_say_so() {
    let (app, _models) = app_with_thinker(true).await;
    let answer = app.post("/v1/chat/completions", &sum("thinker", json!({"budget": 1}))).await.ok();
    let message = &answer["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().unwrap().to_owned();
    assert!(!thought.is_empty());
    assert_eq!(message["content"], "");
    let told = &answer["usage"]["completion_tokens_details"]["reasoning_tokens"];
    assert!(told.as_u64().unwrap() > 0, "{answer}");
    assert!(told.as_u64() <= answer["usage"]["completion_tokens"].as_u64());

    let streamed = app.post("/v1/chat/completions", &sum("thinker", json!({"budget": 1, "stream": true}))).await;
    let events = streamed.events();
    assert_eq!(joined(&events, "/reasoning_content"), thought);
    assert_eq!(joined(&events, "/content"), "");
    let pieces = events.iter().filter(|event| event.pointer("/choices/0/delta/reasoning_content").is_some());
    assert!(pieces.count() > 2, "thoughts come in pieces");

    // A vote hands the winner on as it is, as it does a provider's.
    let voted = app.post("/v1/chat/completions", &sum("thinker", json!({"budget": 2}))).await.ok();
    assert_eq!(voted["choices"][0]["message"]["reasoning_content"], thought.as_str());
}

#[tokio::test]
async fn thoughts_stay_in_the_text_otherwise() {
    let (app, _models) = app_with_thinker(false).await;
    let answer = app.post("/v1/chat/completions", &sum("thinker", json!({"budget": 1}))).await.ok();
    let message = &answer["choices"][0]["message"];
    assert!(!message["content"].as_str().unwrap().is_empty());
    assert_eq!(message.get("reasoning_content"), None);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
}

#[tokio::test]
async fn a_streamed_call_is_the_whole_one_its_name_first() {
    let (app, _models) = app_with_thinker(true).await;
    let fields = json!({"budget": 1, "tools": calculator(), "max_tokens": 100});
    let whole = app.post("/v1/chat/completions", &sum("arithmetic-demo", fields.clone())).await.ok();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{whole}");
    let function = &choice["message"]["tool_calls"][0]["function"];

    let mut streamed = sum("arithmetic-demo", fields);
    streamed["stream"] = true.into();
    let events = app.post("/v1/chat/completions", &streamed).await.events();
    let calls: Vec<&Value> = events.iter().filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0")).collect();
    assert_eq!(calls[0]["function"]["name"], function["name"]);
    assert_eq!(calls[0]["function"]["arguments"], "");
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    assert!(calls.len() > 2 && calls[1..].iter().all(|call| call.get("id").is_none() && call["index"] == 0));
    assert_eq!(joined(&events, "/tool_calls/0/function/arguments"), function["arguments"].as_str().unwrap());
    assert_eq!(joined(&events, "/content"), "");
}
