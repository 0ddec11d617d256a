//! Tool calls in the words of the model, and which part of a reply may be streamed before it is known
//! whether it is one.
//!
//! Two families of formats are read: `<tool_call>{"name": …, "arguments": …}</tool_call>` (Hermes, Qwen and
//! many others), several times if need be, and a whole message that is `{"name": …, "parameters": …}`
//! (Llama 3), after `<|python_tag|>` or not.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::begun_marker_length;
use crate::completion::ToolCall;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const PYTHON_TAG: &str = "<|python_tag|>";

/// A reply that calls tools: what it says beside the calls, and the calls in order.
#[derive(Debug, PartialEq)]
pub(super) struct CallingReply {
    /// `None` when there is nothing but calls.
    pub(super) content: Option<String>,
    pub(super) calls: Vec<ToolCall>,
}

/// Reads the calls of a reply to which the tools of these names were offered. `None`: it calls none, or
/// not in a way that can be read, and is text as it stands. Ids are made with `fresh_id`.
pub(super) fn parse(text: &str, offered: &[String], mut fresh_id: impl FnMut() -> String) -> Option<CallingReply> {
    let (content, calls) = if text.contains(OPEN) { parse_marked(text)? } else { parse_whole(text, offered)? };
    let calls = calls.into_iter().map(|(name, arguments)| ToolCall::function(fresh_id(), name, arguments)).collect();
    Some(CallingReply { content, calls })
}

/// Bytes of `text` that are certain to be content and no part of a call, given that the first `released`
/// were said to be. Spaces at the end wait too: before a call they are not content.
pub(super) fn releasable(text: &str, released: usize) -> usize {
    let begun = text.trim_start();
    if begun.is_empty() || begun.starts_with('{') || begun.starts_with(PYTHON_TAG) || PYTHON_TAG.starts_with(begun) {
        return 0;
    }
    let rest = &text[released..];
    let end = match rest.find(OPEN) {
        Some(start) => start,
        None => rest.len() - begun_marker_length(rest, OPEN),
    };
    released + rest[..end].trim_end().len()
}

type Calls = Vec<(String, String)>;

fn parse_marked(text: &str) -> Option<(Option<String>, Calls)> {
    let (before, mut rest) = text.split_once(OPEN)?;
    let mut content = before.trim_end().to_owned();
    if content.trim().is_empty() {
        content.clear();
    }
    let mut calls = Vec::new();
    loop {
        // The end of the turn may stand for the last closing mark.
        let (body, after) = rest.split_once(CLOSE).unwrap_or((rest, ""));
        calls.push(parse_call(body.trim())?);
        let (between, next) = match after.split_once(OPEN) {
            Some((between, next)) => (between, Some(next)),
            None => (after, None),
        };
        if !between.trim().is_empty() {
            if !content.is_empty() {
                content.push('\n');
            }
            content.push_str(between.trim());
        }
        match next {
            Some(next) => rest = next,
            None => break,
        }
    }
    Some(((!content.is_empty()).then_some(content), calls))
}

/// A whole message of JSON is a call only if it names an offered tool: it may be the answer that was asked.
fn parse_whole(text: &str, offered: &[String]) -> Option<(Option<String>, Calls)> {
    let text = text.trim();
    let body = text.strip_prefix(PYTHON_TAG).unwrap_or(text).trim();
    let call = parse_call(body)?;
    offered.contains(&call.0).then(|| (None, vec![call]))
}

fn parse_call(body: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Call {
        name: String,
        #[serde(alias = "parameters")]
        arguments: Option<Box<RawValue>>,
    }
    let call: Call = serde_json::from_str(body).ok()?;
    let arguments = match call.arguments {
        // Some models write the arguments as JSON within a string, as OpenAI's own format has them.
        Some(raw) => serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
        None => "{}".to_owned(),
    };
    Some((call.name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<CallingReply> {
        let mut next = 0;
        parse(text, &["add".to_owned()], || {
            next += 1;
            format!("call_{next}")
        })
    }

    fn call(id: u32, name: &str, arguments: &str) -> ToolCall {
        ToolCall::function(format!("call_{id}"), name, arguments)
    }

    #[test]
    fn a_marked_call_keeps_its_arguments_as_the_model_wrote_them() {
        let reply =
            read("<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 1.0,  \"a\":[2]}}\n</tool_call>").unwrap();
        assert_eq!(reply, CallingReply { content: None, calls: vec![call(1, "add", "{\"b\": 1.0,  \"a\":[2]}")] });
    }

    #[test]
    fn several_calls_and_the_words_around_them_are_told_apart() {
        let reply = read(
            "Let me see. \n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call> Done.",
        )
        .unwrap();
        assert_eq!(reply.content.as_deref(), Some("Let me see.\nDone."));
        assert_eq!(reply.calls, [call(1, "f", "{}"), call(2, "g", "{}")]);
    }

    #[test]
    fn the_end_of_the_turn_closes_the_last_call() {
        let reply = read("<tool_call>{\"name\":\"f\",\"arguments\":{\"x\":1}}").unwrap();
        assert_eq!(reply.calls, [call(1, "f", "{\"x\":1}")]);
    }

    #[test]
    fn arguments_written_as_a_string_are_taken_out_of_it() {
        let reply = read(r#"<tool_call>{"name":"f","arguments":"{\"x\": 1}"}</tool_call>"#).unwrap();
        assert_eq!(reply.calls, [call(1, "f", "{\"x\": 1}")]);
    }

    #[test]
    fn a_whole_message_is_a_call_only_to_an_offered_tool() {
        let expected = Some(CallingReply { content: None, calls: vec![call(1, "add", "{\"a\": 1}")] });
        assert_eq!(read(r#" {"name": "add", "parameters": {"a": 1}} "#), expected);
        assert_eq!(read(r#"<|python_tag|>{"name": "add", "parameters": {"a": 1}}"#), expected);
        assert_eq!(read(r#"{"name": "Ada", "parameters": {"a": 1}}"#), None);
    }

    #[test]
    fn what_cannot_be_read_stays_text() {
        for text in
            ["", "plain", "<tool_call>", "<tool_call>{\"name\":}</tool_call>", "<tool_call>[]</tool_call>", "{}"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        // One broken call among good ones: better all as text than one lost.
        assert_eq!(read("<tool_call>{\"name\":\"f\"}</tool_call><tool_call>oops</tool_call>"), None);
    }

    #[test]
    fn streaming_gives_text_and_holds_everything_that_may_be_a_call() {
        assert_eq!(releasable("Hello there", 0), 11);
        assert_eq!(releasable("Hello \n", 0), 5);
        assert_eq!(releasable("Hello <tool", 5), 5);
        assert_eq!(releasable("a < b", 0), 5);
        assert_eq!(releasable("Hi\n<tool_call>{\"name\"", 2), 2);
        assert_eq!(releasable("  ", 0), 0);
        assert_eq!(releasable("{\"a\": 1", 0), 0);
        assert_eq!(releasable("<|pyth", 0), 0);
        assert_eq!(releasable("<", 0), 0);
        assert_eq!(releasable("", 0), 0);
    }

    #[test]
    fn whatever_was_streamed_is_the_beginning_of_the_final_content() {
        let text = "One < two.\n\n<tool_call>{\"name\":\"f\"}</tool_call>\n";
        let mut released = 0;
        for end in 0..=text.len() {
            released = released.max(releasable(&text[..end], released));
        }
        let content = read(text).unwrap().content.unwrap();
        assert_eq!(&text[..released], content);
    }
}
