//! Legacy text completions as OpenAI's server answers them.

use serde_json::{Value, json};

use super::chat::{Answer, Chat, words};
use super::script::Step;

/// The answer that `step` describes, else a fixed continuation.
pub fn answer(chat: &Chat, step: &Step, number: u64, choices: usize) -> Answer {
    let prompts = match &chat.body["prompt"] {
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_array()) => items.len(),
        _ => 1,
    };
    let text = step.content.clone().unwrap_or_else(|| "and so on.".to_owned());
    let finish_reason = step.finish_reason.as_deref().unwrap_or("stop");
    let usage = chat.usage(step, &json!({ "content": text }), prompts * choices);
    let object = |choices: Value| {
        json!({
            "id": format!("cmpl-{number}"),
            "object": "text_completion",
            "created": 1_700_000_000,
            "model": chat.model,
            "choices": choices,
        })
    };
    let choice = |index: usize, text: &str, finish_reason: Value| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish_reason});
    let numbers = 0..prompts * choices;
    if !chat.stream {
        let choices = numbers.map(|index| choice(index, &text, json!(finish_reason))).collect();
        let mut body = object(choices);
        body["usage"] = usage;
        if let Some(error) = &step.error {
            body = json!({ "error": error });
        }
        return Answer { content_type: "application/json", pieces: vec![body.to_string()], first_content: 1 };
    }
    let mut pieces: Vec<String> = Vec::new();
    let mut push = |chunk: Value| pieces.push(format!("data: {chunk}\n\n"));
    for index in numbers {
        for word in words(&text) {
            push(object(json!([choice(index, word, Value::Null)])));
        }
        push(object(json!([choice(index, "", json!(finish_reason))])));
    }
    if chat.include_usage {
        let mut last = object(json!([]));
        last["usage"] = usage;
        push(last);
    }
    pieces.push("data: [DONE]\n\n".to_owned());
    if let Some(error) = &step.error {
        pieces.truncate(pieces.len() / 2);
        pieces.push(format!("data: {}\n\n", json!({ "error": error })));
    }
    Answer { content_type: "text/event-stream", pieces, first_content: 1 }
}
