//! What each server makes of OpenAI's completions: fields beside the usual ones, other chunks, other events.

use serde_json::{Value, json};

use super::chat::Chat;
use super::completion::Piece;
use super::profile::Profile;

/// What is said where nothing is scripted. A server that must be told how to sample says so when it is not.
pub fn usual_content(chat: &Chat) -> &'static str {
    let is_told = ["temperature", "top_p"].iter().all(|name| chat.body[*name].is_number());
    match chat.profile {
        Profile::TextGenerationWebUi if !is_told => "The preset of the server decided how this was sampled.",
        _ => "This is a scripted answer.",
    }
}

/// Changes the message of an answer.
pub fn reply(chat: &Chat, reply: &mut Value) {
    let reasoning = chat.quirks().reasoning;
    match chat.profile {
        // Thinking that fills the answer leaves its content empty, and so do tool calls.
        Profile::Ollama if reply["tool_calls"].is_array() => reply["content"] = json!(""),
        Profile::Vllm if reply["tool_calls"].is_null() => reply["tool_calls"] = json!([]),
        Profile::Together if reply["tool_calls"].is_null() => reply["tool_calls"] = json!([]),
        Profile::OpenRouter if reply[reasoning].is_null() => reply[reasoning] = Value::Null,
        Profile::GeminiCompatible => {
            for call in reply["tool_calls"].as_array_mut().into_iter().flatten() {
                call["extra_content"] = json!({"google": {"thought_signature": "c2lnbmF0dXJl"}});
            }
        }
        _ => {}
    }
    if chat.profile != Profile::Plain && chat.profile != Profile::OpenAi {
        reply
            .as_object_mut()
            .expect("a message is an object")
            .retain(|name, value| name != "refusal" || !value.is_null());
    }
}

/// Changes a whole answer.
pub fn whole(chat: &Chat, body: &mut Value) {
    match chat.profile {
        Profile::Azure => {
            body["prompt_filter_results"] = json!([{"prompt_index": 0, "content_filter_results": unfiltered()}]);
            each_choice(body, |choice| choice["content_filter_results"] = unfiltered());
        }
        Profile::OpenRouter => {
            body["provider"] = json!("Scripted");
            each_choice(body, |choice| choice["native_finish_reason"] = choice["finish_reason"].clone());
        }
        Profile::Groq => body["x_groq"] = json!({"id": "req_scripted"}),
        Profile::Together => {
            body["prompt"] = json!([]);
            each_choice(body, |choice| choice["seed"] = json!(1_234_567_890_123_456_789_u64));
        }
        Profile::DeepInfra => body["usage"]["estimated_cost"] = json!(1.23e-6),
        Profile::Ollama => body["system_fingerprint"] = json!("fp_ollama"),
        Profile::LmStudio => body["stats"] = json!({}),
        Profile::Vllm => {
            each_choice(body, |choice| choice["stop_reason"] = Value::Null);
            body["prompt_logprobs"] = Value::Null;
            body["kv_transfer_params"] = Value::Null;
        }
        Profile::LlamaServer | Profile::OldLlamaServer => body["timings"] = json!({"predicted_per_second": 51.5}),
        _ => {}
    }
}

/// Changes the chunks of a stream.
pub fn chunks(chat: &Chat, chunks: &mut Vec<Value>, usage: &Value) {
    match chat.profile {
        Profile::Azure => {
            for chunk in &mut *chunks {
                each_choice(chunk, |choice| choice["content_filter_results"] = json!({}));
            }
            let first = json!({
                "choices": [], "created": 0, "id": "", "model": "", "object": "",
                "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": unfiltered()}],
            });
            chunks.insert(0, first);
            let last = json!({
                "choices": [{
                    "index": 0, "finish_reason": null, "content_filter_results": unfiltered(),
                    "content_filter_offsets": {"check_offset": 0, "start_offset": 0, "end_offset": 100},
                }],
                "created": 0, "id": "", "model": "", "object": "",
            });
            chunks.push(last);
        }
        Profile::OpenRouter => {
            chunks.retain(|chunk| chunk["choices"] != json!([]));
            for chunk in &mut *chunks {
                chunk["provider"] = json!("Scripted");
                each_choice(chunk, |choice| {
                    choice["native_finish_reason"] = choice["finish_reason"].clone();
                    choice["delta"]["role"] = json!("assistant");
                    if choice["delta"]["content"].is_null() {
                        choice["delta"]["content"] = json!("");
                    }
                });
            }
            if let Some(end) = chunks.last().cloned() {
                // Asked for or not.
                let mut end = end;
                each_choice(&mut end, |choice| choice["delta"] = json!({"role": "assistant", "content": ""}));
                each_choice(&mut end, |choice| choice["finish_reason"] = Value::Null);
                end["usage"] = usage.clone();
                chunks.push(end);
            }
        }
        Profile::Groq => {
            if let Some(first) = chunks.first_mut() {
                first["x_groq"] = json!({"id": "req_scripted"});
            }
            if let Some(end) = chunks.iter_mut().rfind(|chunk| !chunk["choices"][0]["finish_reason"].is_null()) {
                end["x_groq"] = json!({"id": "req_scripted", "usage": usage});
            }
        }
        Profile::Together => {
            chunks.retain(|chunk| chunk["choices"] != json!([]));
            for chunk in &mut *chunks {
                chunk["usage"] = Value::Null;
                each_choice(chunk, |choice| choice["text"] = choice["delta"]["content"].clone());
            }
            if let Some(end) = chunks.last_mut() {
                end["usage"] = usage.clone();
            }
        }
        Profile::Vllm => {
            for chunk in &mut *chunks {
                let fields = chunk.as_object_mut().expect("a chunk is an object");
                fields.retain(|name, value| name != "system_fingerprint" && (name != "usage" || !value.is_null()));
            }
        }
        Profile::Ollama => chunks.iter_mut().for_each(|chunk| chunk["system_fingerprint"] = json!("fp_ollama")),
        _ => {}
    }
}

/// Whether a stream tells of its usage.
pub fn streams_usage(chat: &Chat) -> bool {
    chat.include_usage || matches!(chat.profile, Profile::OpenRouter | Profile::Together | Profile::Groq)
}

/// The chunks as server-sent events, with what comes before and after them.
pub fn events(chat: &Chat, chunks: &[Value]) -> Vec<Piece> {
    let quirks = chat.quirks();
    let end = quirks.line_end;
    let mut pieces: Vec<Piece> = quirks.comment.iter().map(|comment| Piece::new(*comment, false)).collect();
    pieces.extend(chunks.iter().map(|chunk| Piece::new(format!("data: {chunk}{end}{end}"), says_something(chunk))));
    if quirks.ends_with_done {
        pieces.push(Piece::new(format!("data: [DONE]{end}{end}"), false));
    }
    pieces
}

/// An error in the middle of a stream.
pub fn error_event(chat: &Chat, error: &Value) -> String {
    let end = chat.quirks().line_end;
    let event = match chat.profile {
        Profile::OpenRouter => json!({
            "id": "gen-scripted", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": chat.model,
            "provider": "Scripted", "error": error,
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "error"}],
        }),
        _ => json!({ "error": error }),
    };
    // Instead of the data, a field of that name.
    let field = if chat.profile == Profile::OldLlamaServer { "error" } else { "data" };
    let event = if field == "error" { event["error"].to_string() } else { event.to_string() };
    format!("{field}: {event}{end}{end}")
}

fn says_something(chunk: &Value) -> bool {
    let delta = &chunk["choices"][0]["delta"];
    let has_text = ["content", "reasoning", "reasoning_content", "refusal"]
        .iter()
        .any(|name| delta[*name].as_str().is_some_and(|text| !text.is_empty()));
    has_text || delta["tool_calls"].is_array()
}

fn each_choice(body: &mut Value, change: impl Fn(&mut Value)) {
    body["choices"].as_array_mut().into_iter().flatten().for_each(change);
}

fn unfiltered() -> Value {
    json!({"hate": {"filtered": false, "severity": "safe"}, "violence": {"filtered": false, "severity": "safe"}})
}
