//! Chat completions as OpenAI's server answers them, whole and streamed. `dress.rs` makes those of other servers of
//! them.

use serde_json::{Value, json};

use super::chat::Chat;
use super::dress;
use super::logprobs::logprobs;
use super::profile::ToolIndex;
use super::script::Step;

/// A body, and what of it costs something.
#[derive(Debug)]
pub struct Answer {
    pub content_type: &'static str,
    /// Pieces that a stream sends one by one; a whole answer is one piece.
    pub pieces: Vec<Piece>,
    pub choices: usize,
    pub usage: Value,
    /// Whether the body tells of the usage.
    pub tells_usage: bool,
}

#[derive(Debug)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// Whether the model says something in it.
    pub is_token: bool,
}

impl Piece {
    pub fn new(text: impl Into<Vec<u8>>, is_token: bool) -> Self {
        Self { bytes: text.into(), is_token }
    }
}

/// The answer that `step` describes, in the shape that was asked for.
pub fn answer(chat: &Chat, step: &Step, number: u64, choices: usize) -> Answer {
    let reply = reply(chat, step);
    let usage = usage(step, &reply, choices);
    let (content_type, pieces, tells_usage) = if chat.stream {
        ("text/event-stream", streamed(chat, step, &reply, number, choices, &usage), dress::streams_usage(chat))
    } else {
        let text = whole(chat, step, &reply, number, choices, &usage).to_string();
        ("application/json", vec![Piece::new(text, true)], true)
    };
    Answer { content_type, pieces, choices, usage, tells_usage: tells_usage && step.error.is_none() }
}

/// What the step says of the tokens, else ten for the prompt and one for each word.
pub fn usage(step: &Step, reply: &Value, choices: usize) -> Value {
    if let Some(usage) = &step.usage {
        return usage.clone();
    }
    let completion = words(reply["content"].as_str().unwrap_or("one")).count() * choices;
    json!({
        "prompt_tokens": 10,
        "completion_tokens": completion,
        "total_tokens": 10 + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}

/// The text in words, each with the white space after it.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// The assistant message: what the step says, else a call of the tool that must be called or comes first,
/// else a fixed sentence.
fn reply(chat: &Chat, step: &Step) -> Value {
    let mut reply = json!({"role": "assistant", "content": step.content, "refusal": step.refusal});
    if let Some(reasoning) = &step.reasoning_content {
        reply[chat.quirks().reasoning] = json!(reasoning);
    }
    let call = |id: String, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    if !step.tool_calls.is_empty() {
        let calls = step.tool_calls.iter().enumerate();
        reply["tool_calls"] = calls
            .map(|(at, scripted)| {
                let id = scripted.id.clone().unwrap_or_else(|| format!("call_{at}"));
                call(id, &scripted.name, &scripted.arguments)
            })
            .collect();
    } else if step.content.is_none() && step.refusal.is_none() {
        match tool_to_call(chat) {
            Some(name) => reply["tool_calls"] = json!([call("call_0".to_owned(), name, "{}")]),
            None => reply["content"] = json!(dress::usual_content(chat)),
        }
    }
    if let (Some(size), Some(text)) = (step.content_bytes, reply["content"].as_str()) {
        let text: String = text.chars().cycle().take(size).collect();
        reply["content"] = json!(text);
    }
    dress::reply(chat, &mut reply);
    reply
}

fn tool_to_call(chat: &Chat) -> Option<&str> {
    if chat.body["tool_choice"] == "none" || chat.body["messages"].as_array()?.last()?["role"] == "tool" {
        return None;
    }
    let named = chat.body["tool_choice"]["function"]["name"].as_str();
    named.or_else(|| chat.body["tools"][0]["function"]["name"].as_str())
}

fn whole(chat: &Chat, step: &Step, reply: &Value, number: u64, choices: usize, usage: &Value) -> Value {
    if let Some(error) = &step.error {
        return json!({ "error": error });
    }
    let mut body = json!({
        "id": format!("chatcmpl-{number}"),
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": chat.model,
        "choices": (0..choices).map(|index| json!({
            "index": index,
            "message": reply,
            "logprobs": logprobs(chat, step, 0, reply["content"].as_str().unwrap_or_default()),
            "finish_reason": finish_reason(step, reply),
        })).collect::<Vec<_>>(),
        "usage": usage,
        "system_fingerprint": "fp_scripted",
    });
    dress::whole(chat, &mut body);
    body
}

fn streamed(chat: &Chat, step: &Step, reply: &Value, number: u64, choices: usize, usage: &Value) -> Vec<Piece> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{number}"),
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": chat.model,
            "system_fingerprint": "fp_scripted",
            "choices": choices,
        });
        if chat.include_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let choice = |index: usize, delta: &Value, logprobs: &Value, finish_reason: Value| json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]);
    let mut finish = finish_reason(step, reply);
    if finish == "tool_calls" {
        finish = json!(chat.quirks().streamed_tool_end);
    }
    let first =
        json!({"role": "assistant", "content": if reply["content"].is_null() { Value::Null } else { json!("") }});
    let mut deltas = vec![(first, Value::Null, Value::Null)];
    deltas.extend(tokens(chat, step, reply).into_iter().map(|(delta, logprobs)| (delta, logprobs, Value::Null)));
    deltas.push((json!({}), Value::Null, finish));
    let of = |index: usize, at: usize| {
        let (delta, logprobs, finish) = &deltas[at];
        chunk(choice(index, delta, logprobs, finish.clone()), Value::Null)
    };
    let mut chunks: Vec<Value> = if chat.quirks().interleaves {
        (0..deltas.len())
            .flat_map(|at| (0..choices).map(move |index| (index, at)))
            .map(|(index, at)| of(index, at))
            .collect()
    } else {
        (0..choices)
            .flat_map(|index| (0..deltas.len()).map(move |at| (index, at)))
            .map(|(index, at)| of(index, at))
            .collect()
    };
    if chat.include_usage {
        chunks.push(chunk(json!([]), usage.clone()));
    }
    dress::chunks(chat, &mut chunks, usage);
    let mut pieces = dress::events(chat, &chunks);
    if let Some(error) = &step.error {
        pieces.truncate(pieces.len() / 2);
        pieces.push(Piece::new(dress::error_event(chat, error), false));
    }
    pieces
}

/// What the choices of a stream say one after the other, each with its log-probabilities.
fn tokens(chat: &Chat, step: &Step, reply: &Value) -> Vec<(Value, Value)> {
    let mut deltas = Vec::new();
    let reasoning = chat.quirks().reasoning;
    if let Some(text) = reply[reasoning].as_str() {
        deltas.extend(words(text).map(|word| (json!({reasoning: word}), Value::Null)));
    }
    if let Some(text) = reply["content"].as_str() {
        let word = |(at, word)| (json!({"content": word}), logprobs(chat, step, at, word));
        deltas.extend(words(text).enumerate().map(word));
    }
    if let Some(text) = reply["refusal"].as_str() {
        deltas.extend(words(text).map(|word| (json!({"refusal": word}), Value::Null)));
    }
    for (at, call) in reply["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut start = call.clone();
        match chat.quirks().tool_index {
            ToolIndex::Counted => {
                start["index"] = json!(at);
                start["function"]["arguments"] = json!("");
                deltas.push((json!({"tool_calls": [start]}), Value::Null));
                let arguments: Vec<char> = call["function"]["arguments"].as_str().unwrap_or_default().chars().collect();
                deltas.extend(arguments.chunks(5).map(|piece| {
                    let piece: String = piece.iter().collect();
                    (json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}), Value::Null)
                }));
            }
            ToolIndex::Absent => deltas.push((json!({"tool_calls": [start]}), Value::Null)),
            ToolIndex::Zero => {
                start["index"] = json!(0);
                deltas.push((json!({"tool_calls": [start]}), Value::Null));
            }
        }
    }
    deltas
}

fn finish_reason(step: &Step, reply: &Value) -> Value {
    match &step.finish_reason {
        Some(reason) => json!(reason),
        None if reply["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) => json!("tool_calls"),
        None => json!("stop"),
    }
}
