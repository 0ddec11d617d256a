//! Parts of a message as the deltas of OpenAI's streams.

use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::reply::Piece;
use crate::completion::{Delta, ToolCall};

/// A part of a message that was not streamed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unsent {
    Reasoning(String),
    Content(String),
    /// The call of this index begins.
    Call(usize),
    /// The arguments of the call of this index go on.
    Arguments(usize, String),
}

impl Unsent {
    /// Adds a piece; `call` is the index of the last call.
    pub(super) fn add(unsent: &mut Vec<Self>, piece: Piece, call: usize) {
        match (unsent.last_mut(), piece) {
            (Some(Self::Reasoning(text)), Piece::Reasoning(more)) => text.push_str(&more),
            (Some(Self::Content(text)), Piece::Content(more)) => text.push_str(&more),
            (Some(Self::Arguments(index, text)), Piece::Arguments(more)) if *index == call => text.push_str(&more),
            (_, Piece::Reasoning(text)) => unsent.push(Self::Reasoning(text)),
            (_, Piece::Content(text)) => unsent.push(Self::Content(text)),
            (_, Piece::Call(_)) => unsent.push(Self::Call(call)),
            (_, Piece::Arguments(text)) => unsent.push(Self::Arguments(call, text)),
        }
    }

    /// The delta's fields. A call begins with its name and no arguments, as OpenAI's do.
    pub(super) fn fields(&self, calls: &[ToolCall]) -> Box<RawValue> {
        match self {
            Self::Reasoning(text) => reasoning_fields(text),
            Self::Content(text) => content_fields(text),
            Self::Call(index) => calls_fields(&[begun(*index, &calls[*index], "")]),
            Self::Arguments(index, text) => calls_fields(&[continued(*index, text)]),
        }
    }

    /// All parts in three deltas at most: what was thought, the content, the calls.
    pub(super) fn joined(unsent: Vec<Self>, calls: &[ToolCall]) -> Vec<Box<RawValue>> {
        let (mut reasoning, mut content) = (String::new(), String::new());
        let mut parts: Vec<(usize, bool, String)> = Vec::new();
        for part in unsent {
            match part {
                Self::Reasoning(text) => reasoning.push_str(&text),
                Self::Content(text) => content.push_str(&text),
                Self::Call(index) => parts.push((index, true, String::new())),
                Self::Arguments(index, text) => match parts.last_mut() {
                    Some((last, _, arguments)) if *last == index => arguments.push_str(&text),
                    _ => parts.push((index, false, text)),
                },
            }
        }
        let entries: Vec<_> = parts
            .iter()
            .map(|(index, begins, text)| match begins {
                true => begun(*index, &calls[*index], text),
                false => continued(*index, text),
            })
            .collect();
        let reasoning = (!reasoning.is_empty()).then(|| reasoning_fields(&reasoning));
        let content = (!content.is_empty()).then(|| content_fields(&content));
        let calls = (!entries.is_empty()).then(|| calls_fields(&entries));
        [reasoning, content, calls].into_iter().flatten().collect()
    }
}

pub(super) fn role_delta() -> Delta {
    let fields = RawValue::from_string(r#"{"role":"assistant","content":""}"#.to_owned()).expect("a JSON object");
    Delta { fields, logprobs: None }
}

pub(super) fn content_fields(text: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Fields<'a> {
        content: &'a str,
    }
    to_raw_value(&Fields { content: text }).expect("strings always serialise")
}

fn reasoning_fields(text: &str) -> Box<RawValue> {
    #[derive(Serialize)]
    struct Fields<'a> {
        reasoning_content: &'a str,
    }
    to_raw_value(&Fields { reasoning_content: text }).expect("strings always serialise")
}

fn calls_fields(entries: &[serde_json::Value]) -> Box<RawValue> {
    to_raw_value(&json!({ "tool_calls": entries })).expect("strings always serialise")
}

fn begun(index: usize, call: &ToolCall, arguments: &str) -> serde_json::Value {
    json!({
        "index": index,
        "id": call.id,
        "type": "function",
        "function": { "name": call.name, "arguments": arguments },
    })
}

fn continued(index: usize, arguments: &str) -> serde_json::Value {
    json!({ "index": index, "function": { "arguments": arguments } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_as_few_deltas_as_say_the_same() {
        let calls = [ToolCall::function("1", "f", "{}"), ToolCall::function("2", "g", "{\"a\":1}")];
        let mut unsent = Vec::new();
        for (piece, call) in [
            (Piece::Reasoning("a".into()), 0),
            (Piece::Reasoning("b".into()), 0),
            (Piece::Content("c".into()), 0),
            (Piece::Arguments("}".into()), 0),
            (Piece::Call("g".into()), 1),
            (Piece::Arguments("{\"a\":".into()), 1),
            (Piece::Arguments("1}".into()), 1),
            (Piece::Content("\nd".into()), 1),
        ] {
            Unsent::add(&mut unsent, piece, call);
        }
        let one_by_one: Vec<_> = unsent.iter().map(|part| part.fields(&calls).get().to_owned()).collect();
        assert_eq!(
            one_by_one,
            [
                r#"{"reasoning_content":"ab"}"#,
                r#"{"content":"c"}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}}]}"#,
                r#"{"tool_calls":[{"index":1,"id":"2","type":"function","function":{"name":"g","arguments":""}}]}"#,
                r#"{"tool_calls":[{"index":1,"function":{"arguments":"{\"a\":1}"}}]}"#,
                r#"{"content":"\nd"}"#,
            ]
        );
        let joined: Vec<_> = Unsent::joined(unsent, &calls).iter().map(|fields| fields.get().to_owned()).collect();
        assert_eq!(
            joined,
            [
                r#"{"reasoning_content":"ab"}"#,
                r#"{"content":"c\nd"}"#,
                r#"{"tool_calls":[{"index":0,"function":{"arguments":"}"}},{"index":1,"id":"2","type":"function","function":{"name":"g","arguments":"{\"a\":1}"}}]}"#,
            ]
        );
    }
}
