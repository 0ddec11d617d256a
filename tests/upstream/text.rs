//! Legacy text completions as OpenAI's server answers them.

use serde_json::{Value, json};

use super::chat::Chat;
use super::completion::{Answer, Piece, usage, words};
use super::script::Step;

/// The answer that `step` describes, else a fixed continuation.
pub fn answer(chat: &Chat, step: &Step, number: u64, choices: usize) -> Answer {
    let prompts = match &chat.body["prompt"] {
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_array()) => items.len(),
        _ => 1,
    };
    let choices = prompts * choices;
    let text = step.content.clone().unwrap_or_else(|| "and so on.".to_owned());
    let finish_reason = step.finish_reason.as_deref().unwrap_or("stop");
    let usage = usage(step, &json!({ "content": text }), choices);
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
    if !chat.stream {
        let all = (0..choices).map(|index| choice(index, &text, json!(finish_reason))).collect();
        let mut body = object(all);
        body["usage"] = usage.clone();
        if let Some(error) = &step.error {
            body = json!({ "error": error });
        }
        let pieces = vec![Piece::new(body.to_string(), true)];
        return Answer { content_type: "application/json", pieces, choices, usage, tells_usage: step.error.is_none() };
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut push = |chunk: Value, is_token: bool| pieces.push(Piece::new(format!("data: {chunk}\n\n"), is_token));
    for index in 0..choices {
        for word in words(&text) {
            push(object(json!([choice(index, word, Value::Null)])), true);
        }
        push(object(json!([choice(index, "", json!(finish_reason))])), false);
    }
    if chat.include_usage {
        let mut last = object(json!([]));
        last["usage"] = usage.clone();
        push(last, false);
    }
    pieces.push(Piece::new("data: [DONE]\n\n", false));
    if let Some(error) = &step.error {
        pieces.truncate(pieces.len() / 2);
        pieces.push(Piece::new(format!("data: {}\n\n", json!({ "error": error })), false));
    }
    let tells_usage = chat.include_usage && step.error.is_none();
    Answer { content_type: "text/event-stream", pieces, choices, usage, tells_usage }
}
