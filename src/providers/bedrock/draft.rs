//! An answer of Bedrock's model being put together, be it from the blocks of a whole one or from the events of a stream:
//! both ways make the same message of it, in OpenAI's shape.
//!
//! What the model thought is told as LiteLLM tells it: its text in `reasoning_content`, and in `thinking_blocks` what a
//! client gives back, since a model takes up its own thoughts only with their signatures.

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::completion::{Completion, FinishReason, Reply, Usage};
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::Upstream;

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: Option<String>,
    thoughts: Vec<Thought>,
    calls: Vec<Call>,
    fields: Option<Box<RawValue>>,
}

/// What stands in `provider_specific_fields`, where LiteLLM's clients look for what OpenAI's API has no place for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Specific<'a> {
    additional_model_response_fields: &'a RawValue,
}

/// A block of reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub(super) enum Thought {
    #[serde(rename = "thinking")]
    Told {
        thinking: String,
        /// Proof of who thought it. Without one the thought is no use to the model.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// What nobody may read, in base64.
    #[serde(rename = "redacted_thinking")]
    Redacted { data: String },
}

#[derive(Debug, Serialize)]
pub(super) struct Call {
    pub id: String,
    r#type: &'static str,
    pub function: Function,
}

#[derive(Debug, Serialize)]
pub(super) struct Function {
    pub name: String,
    /// JSON, or what was meant to be.
    #[serde(serialize_with = "arguments")]
    pub arguments: String,
}

/// A tool that takes nothing may be called without any input, where OpenAI's clients read JSON.
pub(super) const NO_ARGUMENTS: &str = "{}";

fn arguments<S: Serializer>(arguments: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if arguments.is_empty() { NO_ARGUMENTS } else { arguments })
}

impl Call {
    pub fn has_no_arguments(&self) -> bool {
        self.function.arguments.is_empty()
    }
}

impl Draft {
    /// Adds to the text. Blocks follow each other without a break, as citations divide sentences.
    pub fn say(&mut self, text: &str) {
        self.text.get_or_insert_default().push_str(text);
    }

    /// Begins a block of reasoning, and returns its number.
    pub fn think(&mut self, thought: Thought) -> usize {
        self.thoughts.push(thought);
        self.thoughts.len() - 1
    }

    /// Begins a call, and returns its number.
    pub fn call(&mut self, id: impl Into<String>, name: impl Into<String>, arguments: impl Into<String>) -> usize {
        let function = Function { name: name.into(), arguments: arguments.into() };
        self.calls.push(Call { id: id.into(), r#type: "function", function });
        self.calls.len() - 1
    }

    pub fn thought_at(&mut self, number: usize) -> Option<&mut Thought> {
        self.thoughts.get_mut(number)
    }

    pub fn call_at(&mut self, number: usize) -> Option<&mut Call> {
        self.calls.get_mut(number)
    }

    /// Takes in fields of the model's own, which `additionalModelResponseFieldPaths` has asked for.
    pub fn add_fields(&mut self, fields: Box<RawValue>) {
        self.fields = Some(fields);
    }

    pub fn specific(&self) -> Option<Specific<'_>> {
        self.fields.as_deref().map(|fields| Specific { additional_model_response_fields: fields })
    }

    /// The blocks of reasoning so far.
    pub fn thoughts(&self) -> &[Thought] {
        &self.thoughts
    }

    /// The whole answer of a model that has stopped for this reason.
    ///
    /// # Errors
    ///
    /// When the model came to no answer that could be read. With another seed it may.
    pub fn finish(self, stop_reason: &str, usage: Usage, upstream: &Upstream) -> Result<Completion, AttemptFailure> {
        #[derive(Serialize)]
        struct Message<'a> {
            role: &'static str,
            content: Option<&'a str>,
            refusal: Option<&'a str>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            tool_calls: &'a [Call],
            #[serde(skip_serializing_if = "Option::is_none")]
            reasoning_content: Option<String>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            thinking_blocks: &'a [Thought],
            #[serde(skip_serializing_if = "Option::is_none")]
            provider_specific_fields: Option<Specific<'a>>,
        }
        let finish_reason = finish_reason(stop_reason, !self.calls.is_empty(), upstream)
            .map_err(|attempt| AttemptFailure { spent: Some(Box::new(usage)), ..attempt })?;
        let is_silent = self.calls.is_empty() && self.thoughts.is_empty();
        let told = self.thoughts.iter().filter_map(|thought| match thought {
            Thought::Told { thinking, .. } => Some(thinking.as_str()),
            Thought::Redacted { .. } => None,
        });
        let reasoning: String = told.collect();
        let message = Message {
            role: "assistant",
            // Null and not empty beside calls, as OpenAI has it: Bedrock refuses empty texts when they come back.
            content: match self.text.as_deref() {
                None | Some("") if !is_silent => None,
                text => Some(text.unwrap_or_default()),
            },
            refusal: None,
            tool_calls: &self.calls,
            reasoning_content: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
            thinking_blocks: &self.thoughts,
            provider_specific_fields: self.specific(),
        };
        let reply = to_raw_value(&message).and_then(Reply::parse).expect("a message put together from parsed parts");
        Ok(Completion { reply, finish_reason, logprobs: None, mean_logprob: None, tokens: None, usage })
    }
}

/// Why the model stopped, in OpenAI's words. A reason that is not known yet is passed on as it came.
fn finish_reason(stop_reason: &str, has_calls: bool, upstream: &Upstream) -> Result<FinishReason, AttemptFailure> {
    Ok(match stop_reason {
        // Not every model says of itself that it calls tools.
        "end_turn" | "stop_sequence" | "" if has_calls => FinishReason::ToolCalls,
        "end_turn" | "stop_sequence" | "" => FinishReason::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
        "tool_use" => FinishReason::ToolCalls,
        "guardrail_intervened" | "content_filtered" => FinishReason::ContentFilter,
        "malformed_model_output" | "malformed_tool_use" => {
            let what = if stop_reason == "malformed_tool_use" { "the use of a tool" } else { "an answer" };
            let name = &upstream.name;
            let message = format!("{name} ended with {stop_reason}: the model wrote {what} that cannot be read");
            let attempt = AttemptFailure::from(Failure::new(FailureKind::Malformed, message));
            return Err(AttemptFailure { is_verdict: true, ..attempt });
        }
        other => FinishReason::Other(other.to_owned()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::providers::upstream::Wording;

    pub(in super::super) fn upstream() -> Upstream {
        let wording = Wording { key: "the key", endpoint: "endpoint" };
        Upstream { name: "bedrock".to_owned(), origin: "http://localhost".to_owned(), secrets: Vec::new(), wording }
    }

    fn finished(draft: Draft, stop_reason: &str) -> (Value, String) {
        let completion = draft.finish(stop_reason, Usage::default(), &upstream()).unwrap();
        let message = serde_json::from_str(completion.reply.raw().get()).unwrap();
        (message, completion.finish_reason.as_str().to_owned())
    }

    #[test]
    fn reasons_to_stop_are_told_in_the_words_of_openai() {
        for (stop_reason, expected) in [
            ("end_turn", "stop"),
            ("stop_sequence", "stop"),
            ("", "stop"),
            ("max_tokens", "length"),
            ("model_context_window_exceeded", "length"),
            ("tool_use", "tool_calls"),
            ("guardrail_intervened", "content_filter"),
            ("content_filtered", "content_filter"),
            ("something_new", "something_new"),
        ] {
            let mut draft = Draft::default();
            draft.say("x");
            assert_eq!(finished(draft, stop_reason).1, expected, "{stop_reason}");
        }
        let mut draft = Draft::default();
        draft.call("a", "f", "");
        assert_eq!(finished(draft, "end_turn").1, "tool_calls", "whatever the model says of it");
        let mut draft = Draft::default();
        draft.call("a", "f", "{\"x\": ");
        assert_eq!(finished(draft, "max_tokens").1, "length", "a call that was cut off is cut off");
    }

    #[test]
    fn what_the_model_could_not_write_may_be_asked_for_again() {
        for stop_reason in ["malformed_model_output", "malformed_tool_use"] {
            let usage = Usage { prompt_tokens: 5, completion_tokens: 3, ..Usage::default() };
            let attempt = Draft::default().finish(stop_reason, usage, &upstream()).unwrap_err();
            assert_eq!(attempt.failure.kind, FailureKind::Malformed);
            assert_eq!(attempt.spent.as_deref(), Some(&usage));
            // It is paid for, and the upstream is well.
            assert!(attempt.may_retry && attempt.is_verdict && !attempt.was_refused);
            assert!(attempt.failure.message.contains(stop_reason), "{}", attempt.failure.message);
        }
    }

    #[test]
    fn content_is_null_only_where_something_else_is_said() {
        assert_eq!(finished(Draft::default(), "end_turn").0["content"], "");
        for text in [None, Some("")] {
            let mut draft = Draft::default();
            text.into_iter().for_each(|text| draft.say(text));
            draft.call("a", "f", "");
            let (message, _) = finished(draft, "tool_use");
            assert_eq!(message["content"], Value::Null);
            assert_eq!(
                message["tool_calls"],
                json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}])
            );
        }
    }

    #[test]
    fn thoughts_are_told_with_what_their_model_needs_to_take_them_up() {
        let mut draft = Draft::default();
        draft.think(Thought::Told { thinking: "Let me ".to_owned(), signature: Some("c2ln".to_owned()) });
        draft.think(Thought::Redacted { data: "aGlkZGVu".to_owned() });
        draft.think(Thought::Told { thinking: "see.".to_owned(), signature: None });
        draft.say("42");
        let (message, _) = finished(draft, "end_turn");
        let expected = json!({
            "role": "assistant", "content": "42", "refusal": null, "reasoning_content": "Let me see.",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "Let me ", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "aGlkZGVu"},
                {"type": "thinking", "thinking": "see."}
            ]
        });
        assert_eq!(message, expected);
    }
}
