//! Reads a whole (not streamed) answer of Converse. What it does not know it passes over: guardrails leave traces, and
//! services learn new kinds of blocks.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::draft::{Draft, NO_ARGUMENTS, Thought};
use crate::completion::{Completion, Usage};
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{Upstream, malformed};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    output: Option<Output<'a>>,
    stop_reason: Option<String>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Vec<Block<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<ToolUse<'a>>,
    reasoning_content: Option<Reasoning>,
    citations_content: Option<Cited>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUse<'a> {
    #[serde(default)]
    tool_use_id: String,
    #[serde(default)]
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    /// In base64.
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    signature: Option<String>,
}

/// A text with where it is from, of which the text is the model's.
#[derive(Deserialize)]
struct Cited {
    content: Option<Vec<CitedText>>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

/// Reads the body of a successful answer.
///
/// # Errors
///
/// A malformed answer: not JSON, no message, or one that the model itself could not write.
pub(super) fn read(body: &[u8], upstream: &Upstream) -> Result<Completion, AttemptFailure> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|error| malformed(upstream, &unreadable(body, &error)))?;
    let Some(message) = answer.output.and_then(|output| output.message) else {
        return Err(malformed(upstream, "an answer without a message"));
    };
    let mut draft = Draft::default();
    for block in message.content.unwrap_or_default() {
        if let Some(text) = block.text {
            draft.say(&text);
        }
        for cited in block.citations_content.and_then(|cited| cited.content).into_iter().flatten() {
            draft.say(&cited.text.unwrap_or_default());
        }
        if let Some(call) = block.tool_use {
            draft.call(call.tool_use_id, call.name, call.input.map_or(NO_ARGUMENTS, RawValue::get));
        }
        if let Some(Reasoning { reasoning_text, redacted_content }) = block.reasoning_content {
            if let Some(ReasoningText { text, signature }) = reasoning_text {
                draft.think(Thought::Told { thinking: text, signature });
            }
            if let Some(data) = redacted_content {
                draft.think(Thought::Redacted { data });
            }
        }
    }
    if let Some(fields) = answer.additional_model_response_fields {
        draft.add_fields(fields.to_owned());
    }
    let usage = usage(answer.usage.and_then(|usage| serde_json::from_str(usage.get()).ok()));
    draft.finish(answer.stop_reason.as_deref().unwrap_or_default(), usage, upstream)
}

/// What a call cost, as Bedrock tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tokens {
    pub input_tokens: u64,
    #[serde(default)]
    pub output_tokens: u64,
    pub cache_read_input_tokens: Option<u64>,
    pub cache_write_input_tokens: Option<u64>,
}

/// More tokens than any call has: a server that tells of more does not count tokens.
const MOST_TOKENS: u64 = 1 << 40;

/// What a call cost. Bedrock counts what is read from a cache, or written to it, apart from the rest of the prompt. One
/// that is missing, cannot be read, or is beyond [`MOST_TOKENS`] is an unknown call rather than a failed one.
pub(super) fn usage(tokens: Option<Tokens>) -> Usage {
    let unknown = Usage { unknown_calls: 1, ..Usage::default() };
    let Some(tokens) = tokens else { return unknown };
    let (read, written) = (tokens.cache_read_input_tokens.unwrap_or(0), tokens.cache_write_input_tokens.unwrap_or(0));
    if [tokens.input_tokens, tokens.output_tokens, read, written].iter().any(|&count| count > MOST_TOKENS) {
        return unknown;
    }
    Usage {
        prompt_tokens: tokens.input_tokens + read + written,
        completion_tokens: tokens.output_tokens,
        cached_tokens: read,
        cache_write_tokens: written,
        reasoning_tokens: 0,
        unknown_calls: 0,
    }
}

fn unreadable(body: &[u8], error: &serde_json::Error) -> String {
    if body.is_empty() {
        "an empty body".to_owned()
    } else if body.trim_ascii_start().starts_with(b"<") {
        "a page of HTML instead of JSON; is `endpoint` the address of Bedrock's runtime?".to_owned()
    } else if error.is_eof() {
        "a body that breaks off".to_owned()
    } else {
        format!("JSON that cannot be read ({error})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::draft::tests::upstream;
    use super::*;
    use crate::failure::FailureKind;

    fn answered(body: &str) -> Completion {
        read(body.as_bytes(), &upstream()).unwrap()
    }

    fn message(content: &str) -> Value {
        let body =
            format!(r#"{{"output":{{"message":{{"role":"assistant","content":{content}}}}},"stopReason":"end_turn"}}"#);
        serde_json::from_str(answered(&body).reply.raw().get()).unwrap()
    }

    #[test]
    fn blocks_are_joined_in_their_order_and_arguments_stay_as_they_were_written() {
        let message = message(
            r#"[{"text":"Two "},{"toolUse":{"toolUseId":"b","name":"g","input":{"z": 1.0, "a": 9007199254740993}}},
                {"text":"calls"},{"toolUse":{"toolUseId":"a","name":"f"}},{"toolUse":{"toolUseId":"c","name":"h","input":{}}}]"#,
        );
        assert_eq!(message["content"], "Two calls");
        let calls: Vec<(&str, &str, &str)> = message["tool_calls"]
            .as_array()
            .unwrap()
            .iter()
            .map(|call| (&call["id"], &call["function"]["name"], &call["function"]["arguments"]))
            .map(|(id, name, arguments)| (id.as_str().unwrap(), name.as_str().unwrap(), arguments.as_str().unwrap()))
            .collect();
        assert_eq!(calls, [("b", "g", r#"{"z": 1.0, "a": 9007199254740993}"#), ("a", "f", "{}"), ("c", "h", "{}")]);
    }

    #[test]
    fn what_is_cited_is_said_and_what_is_not_known_is_passed_over() {
        let message = message(
            r#"[{"text":"See: "},{"citationsContent":{"content":[{"text":"the sky"},{}],"citations":[{"title":"t",
                "location":{"web":{"url":"u"}}}]}},{"text":" is blue","new":7},{"image":{"format":"png","source":{}}},
                {"somethingNew":{"text":"x"}},{"guardContent":{"text":{"text":"kept out"}}},{"reasoningContent":{}}]"#,
        );
        assert_eq!(message, json!({"role": "assistant", "content": "See: the sky is blue", "refusal": null}));
    }

    #[test]
    fn an_answer_may_be_empty() {
        for content in ["[]", "null"] {
            assert_eq!(message(content)["content"], "");
        }
        let bare = answered(r#"{"output":{"message":{}}}"#);
        assert_eq!((bare.reply.content(), bare.finish_reason.as_str()), (Some(""), "stop"));
        assert_eq!(bare.usage.unknown_calls, 1);
    }

    #[test]
    fn tokens_of_caches_are_tokens_of_the_prompt() {
        let told = |usage: &str| {
            answered(&format!(r#"{{"output":{{"message":{{}}}},"usage":{usage},"trace":{{"guardrail":{{"a":1}}}}}}"#))
                .usage
        };
        let usage = told(
            r#"{"inputTokens":11,"outputTokens":3,"totalTokens":26,"cacheReadInputTokens":5,"cacheWriteInputTokens":7,
                "cacheDetails":[{"ttl":"5m","inputTokens":7}]}"#,
        );
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens), (23, 3, 5));
        assert_eq!((usage.total_tokens(), usage.cache_write_tokens, usage.unknown_calls), (26, 7, 0));
        let usage = told(r#"{"inputTokens":1099511627776,"cacheReadInputTokens":null}"#);
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.unknown_calls), (1 << 40, 0, 0));
        for absurd in [
            r#"{"inputTokens":1099511627777,"outputTokens":1}"#,
            r#"{"inputTokens":1,"outputTokens":18446744073709551615}"#,
            r#"{"inputTokens":1,"outputTokens":1e300}"#,
            r#"{"inputTokens":1,"outputTokens":1,"cacheWriteInputTokens":9223372036854775808}"#,
            r#"{"inputTokens":-1,"outputTokens":1}"#,
            r#"{"outputTokens":1}"#,
            "7",
            "null",
        ] {
            assert_eq!(told(absurd), Usage { unknown_calls: 1, ..Usage::default() }, "{absurd}");
        }
    }

    #[test]
    fn what_is_no_answer_is_malformed_and_says_what_it_is() {
        for (body, said) in [
            ("", "an empty body"),
            ("<!doctype html>", "a page of HTML"),
            (r#"{"output":{"mess"#, "a body that breaks off"),
            ("[1,2]", "JSON that cannot be read"),
            ("{}", "an answer without a message"),
            (r#"{"output":{"other":1}}"#, "an answer without a message"),
            (r#"{"output":{"message":{"content":"text"}}}"#, "JSON that cannot be read"),
        ] {
            let failure = read(body.as_bytes(), &upstream()).unwrap_err().failure;
            assert_eq!(failure.kind, FailureKind::Malformed);
            assert!(failure.message.starts_with("bedrock answered with "), "{}", failure.message);
            assert!(failure.message.contains(said), "{}", failure.message);
        }
    }
}
