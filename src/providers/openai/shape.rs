//! OpenAI's shape, where a server's differs from it: what is missing in a message or in a piece of a tool call is
//! added, and the end of an answer is told in OpenAI's words. What is as it should be stays byte for byte.

use std::borrow::Cow;

use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::completion::{CallKind, FinishReason, RawObject};

/// What is put right in a piece of a tool call that a stream brings.
#[derive(Debug)]
pub(super) struct CallMend {
    /// The place of the call among those of the answer.
    pub index: usize,
    /// Id and type of a call that begins.
    pub beginning: Option<(String, CallKind)>,
    /// Its arguments, which came as something else than text or, where the call begins, not at all.
    pub arguments: Option<String>,
}

/// Why an answer ended, by the server's word for it. Several have words of their own, and say `stop` where the model
/// calls tools.
pub(super) fn finish_reason(word: &str, has_calls: bool) -> FinishReason {
    match word {
        "stop" | "eos" | "eos_token" | "end_turn" | "stop_sequence" if has_calls => FinishReason::ToolCalls,
        "eos" | "eos_token" | "end_turn" | "stop_sequence" => FinishReason::Stop,
        "max_tokens" | "max_length" | "MAX_TOKENS" => FinishReason::Length,
        "tool_call" | "tool_use" => FinishReason::ToolCalls,
        "safety" | "SAFETY" => FinishReason::ContentFilter,
        word => FinishReason::from(word),
    }
}

/// An id for a call that came without.
pub(super) fn made_id() -> String {
    format!("call_{:024x}", rand::random::<u128>() >> 32)
}

/// An assistant message with everything that OpenAI's have: a role, a content, which is null where the model says
/// nothing but calls, and of each call an id, a type and arguments that are text.
pub(super) fn message(raw: &RawValue) -> Cow<'_, RawValue> {
    #[derive(Deserialize)]
    struct View<'a> {
        role: Option<IgnoredAny>,
        #[serde(default)]
        content: Content,
        #[serde(borrow)]
        tool_calls: Option<Vec<CallView<'a>>>,
    }
    let Ok(view) = serde_json::from_str::<View>(raw.get()) else { return Cow::Borrowed(raw) };
    let calls = view.tool_calls.as_deref().unwrap_or_default();
    let are_calls_whole = calls.iter().all(CallView::is_whole);
    let is_content_whole = match view.content {
        Content::Absent => false,
        Content::Empty => calls.is_empty(),
        Content::Other => true,
    };
    if view.role.is_some() && is_content_whole && are_calls_whole {
        return Cow::Borrowed(raw);
    }
    let Ok(mut message) = RawObject::parse(raw) else { return Cow::Borrowed(raw) };
    if view.role.is_none() {
        message.set("role", to_raw(&"assistant"));
    }
    if !is_content_whole {
        message.set("content", to_raw(&()));
    }
    if !are_calls_whole {
        let written = message.get("tool_calls").and_then(|calls| serde_json::from_str(calls.get()).ok());
        let written: Vec<RawObject> = written.unwrap_or_default();
        let mend = |(mut call, view): (RawObject, &CallView)| {
            view.complete(&mut call);
            call
        };
        let calls: Vec<RawObject> = written.into_iter().zip(calls).map(mend).collect();
        message.set("tool_calls", to_raw(&calls));
    }
    Cow::Owned(message.to_raw())
}

/// A delta whose tool calls are put right: one mend for each of them, in their order.
pub(super) fn delta(fields: &RawValue, mends: Vec<CallMend>) -> Box<RawValue> {
    let written =
        |object: &RawObject| -> Option<Vec<RawObject>> { serde_json::from_str(object.get("tool_calls")?.get()).ok() };
    let Ok(mut delta) = RawObject::parse(fields) else { return fields.to_owned() };
    let Some(mut calls) = written(&delta) else { return fields.to_owned() };
    for (call, mend) in calls.iter_mut().zip(mends) {
        call.set("index", to_raw(&mend.index));
        if let Some((id, kind)) = mend.beginning {
            call.set("id", to_raw(&id));
            call.set("type", to_raw(&kind_word(kind)));
        }
        if let Some(arguments) = mend.arguments {
            set_arguments(call, &arguments);
        }
    }
    delta.set("tool_calls", to_raw(&calls));
    delta.to_raw()
}

/// The word by which a call of this kind is told.
pub(super) fn kind_word(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Function => "function",
        CallKind::Custom => "custom",
    }
}

/// What a message has for its content.
#[derive(Default)]
enum Content {
    #[default]
    Absent,
    /// A text of no characters.
    Empty,
    /// Null among them.
    Other,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(if raw.get() == "\"\"" { Self::Empty } else { Self::Other })
    }
}

#[derive(Deserialize)]
struct CallView<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    r#type: Option<IgnoredAny>,
    #[serde(borrow)]
    function: Option<FunctionView<'a>>,
    custom: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct FunctionView<'a> {
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

impl CallView<'_> {
    fn has_id(&self) -> bool {
        self.id.as_ref().is_some_and(|id| !id.is_empty())
    }

    fn is_whole(&self) -> bool {
        let has_text = |function: &FunctionView| function.arguments.is_some_and(is_text);
        self.has_id() && self.r#type.is_some() && self.function.as_ref().is_none_or(has_text)
    }

    fn complete(&self, call: &mut RawObject) {
        if !self.has_id() {
            call.set("id", to_raw(&made_id()));
        }
        if self.r#type.is_none() {
            let is_custom = self.function.is_none() && self.custom.is_some();
            call.set("type", to_raw(&kind_word(if is_custom { CallKind::Custom } else { CallKind::Function })));
        }
        if let Some(function) = &self.function
            && !function.arguments.is_some_and(is_text)
        {
            set_arguments(call, function.arguments.map_or("{}", RawValue::get));
        }
    }
}

/// Whether a value is a JSON string.
pub(super) fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn set_arguments(call: &mut RawObject, arguments: &str) {
    let Some(Ok(mut function)) = call.get("function").map(RawObject::parse) else { return };
    function.set("arguments", to_raw(&arguments));
    call.set("function", function.to_raw());
}

fn to_raw(value: &(impl Serialize + ?Sized)) -> Box<RawValue> {
    to_raw_value(value).expect("strings and raw JSON always serialise")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mended(text: &str) -> Value {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        serde_json::from_str(message(&raw).get()).unwrap()
    }

    #[test]
    fn what_is_in_shape_is_left_alone() {
        for text in [
            r#"{"role":"assistant", "content":"42"}"#,
            r#"{"role":"assistant","content":"","tool_calls":[]}"#,
            r#"{"role":"assistant","content":null,"refusal":null,"tool_calls":[]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a", "type":"function","function":{"name":"f","arguments":"{\"x\": 1.0}"}}]}"#,
            r#"{"role":"assistant","content":[{"type":"text","text":"x"}]}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"custom","custom":{"name":"f","input":"x"}}]}"#,
            // Whoever reads it says what is wrong with it.
            r#""text""#,
            r#"{"tool_calls":7}"#,
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert_eq!(message(&raw).get(), text);
        }
    }

    #[test]
    fn what_a_server_leaves_out_is_added_and_the_rest_kept() {
        assert_eq!(mended(r#"{"content":"42"}"#), json!({"role": "assistant", "content": "42"}));
        assert_eq!(mended(r#"{"reasoning":"hm"}"#), json!({"role": "assistant", "content": null, "reasoning": "hm"}));
        let call = r#"[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
        let called = mended(&format!(r#"{{"role":"assistant","content":"","tool_calls":{call}}}"#));
        assert_eq!(called["content"], Value::Null);
        let calls = mended(
            r#"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"x":1}},"extra_content":{"k":2}},{"id":"","type":"function","function":{"name":"g"}},{"id":"c","custom":{"name":"h","input":"z"}}]}"#,
        );
        let calls = calls["tool_calls"].as_array().unwrap();
        assert_eq!(calls[0]["function"], json!({"name": "f", "arguments": "{\"x\":1}"}));
        assert_eq!((&calls[0]["type"], &calls[0]["extra_content"]), (&json!("function"), &json!({"k": 2})));
        assert_eq!(calls[1]["function"]["arguments"], "{}");
        assert_eq!((&calls[2]["id"], &calls[2]["type"]), (&json!("c"), &json!("custom")));
        let ids: Vec<&str> = calls[..2].iter().map(|call| call["id"].as_str().unwrap()).collect();
        assert!(ids[0] != ids[1] && ids.iter().all(|id| id.starts_with("call_") && id.len() == 29), "{ids:?}");
    }

    #[test]
    fn ends_are_told_in_the_words_of_openai() {
        use FinishReason::{ContentFilter, Length, Other, Stop, ToolCalls};
        for (word, has_calls, expected) in [
            ("stop", false, Stop),
            ("stop", true, ToolCalls),
            ("tool_calls", false, ToolCalls),
            ("eos", false, Stop),
            ("end_turn", true, ToolCalls),
            ("tool_use", true, ToolCalls),
            ("max_tokens", false, Length),
            // A call that was cut off is cut off.
            ("length", true, Length),
            ("content_filter", true, ContentFilter),
            ("SAFETY", false, ContentFilter),
            ("function_call", false, Other("function_call".to_owned())),
        ] {
            assert_eq!(finish_reason(word, has_calls), expected, "{word} {has_calls}");
        }
    }
}
