//! Reads a whole (not streamed) answer of Converse.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::completion::{Completion, FinishReason, Reply, ToolCall, Usage};
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{Upstream, malformed};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    output: Option<Output<'a>>,
    #[serde(default)]
    stop_reason: String,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Vec<Block<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    tool_use_id: String,
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

/// What a call cost, as Bedrock tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    pub input_tokens: u64,
    pub output_tokens: u64,
    #[serde(default)]
    pub cache_read_input_tokens: u64,
    #[serde(default)]
    pub cache_write_input_tokens: u64,
}

/// Reads the body of a successful answer.
///
/// # Errors
///
/// A malformed answer: not JSON, no message.
pub(super) fn read(body: &[u8], upstream: &Upstream) -> Result<Completion, AttemptFailure> {
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|error| malformed(upstream, &format!("JSON that cannot be read ({error})")))?;
    let Some(message) = answer.output.and_then(|output| output.message) else {
        return Err(malformed(upstream, "an answer without a message"));
    };
    let mut text: Option<String> = None;
    let mut calls = Vec::new();
    for block in message.content {
        if let Some(said) = block.text {
            text.get_or_insert_default().push_str(&said);
        }
        if let Some(call) = block.tool_use {
            let arguments = call.input.map_or("{}", RawValue::get);
            calls.push(ToolCall::function(call.tool_use_id, call.name, arguments));
        }
    }
    Ok(Completion {
        reply: Reply::new(text, calls),
        finish_reason: finish_reason(&answer.stop_reason),
        logprobs: None,
        mean_logprob: None,
        tokens: None,
        usage: usage(answer.usage),
    })
}

/// Why the model stopped, in OpenAI's words.
pub(super) fn finish_reason(stop_reason: &str) -> FinishReason {
    match stop_reason {
        "end_turn" | "stop_sequence" | "" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        other => FinishReason::Other(other.to_owned()),
    }
}

/// What a call cost. Bedrock counts what is read from a cache, or written to it, apart from the rest of the prompt.
pub(super) fn usage(tokens: Option<Tokens>) -> Usage {
    let Some(tokens) = tokens else { return Usage { unknown_calls: 1, ..Usage::default() } };
    let cached = tokens.cache_read_input_tokens;
    let prompt_tokens = tokens.input_tokens.saturating_add(cached).saturating_add(tokens.cache_write_input_tokens);
    Usage {
        prompt_tokens,
        completion_tokens: tokens.output_tokens,
        cached_tokens: cached,
        reasoning_tokens: 0,
        unknown_calls: 0,
    }
}
