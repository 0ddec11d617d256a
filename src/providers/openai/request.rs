//! The body of a chat completion request, serialised once for a whole run.
//!
//! What the client wrote as JSON goes in byte for byte. The candidates of a run share the text; only what
//! differs between calls, the seed and the wish for a stream or for several answers, is appended to it.

use std::sync::Arc;

use bytes::Bytes;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::logprobs::Readers;
use crate::completion::Prompt;
use crate::config::capabilities::{Capabilities, Support};
use crate::providers::limiter::Caller;
use crate::providers::payload::Payload;

/// A chat completion request without the fields that differ between calls. Cloning it shares the text,
/// and the clones' calls take their turns as one run.
#[derive(Debug, Clone)]
pub struct PreparedRequest {
    /// A whole JSON object, so that a call without a seed sends it as it stands.
    object: Bytes,
    readers: Readers,
    model: Arc<str>,
    caller: Caller,
    takes_seed: bool,
    /// Whether a stream can be asked for its usage.
    tells_usage: bool,
}

/// What itsd decides for each call: a client's or a configuration's value for these never goes upstream
/// beside ours, because readers differ in which of two equal keys they take.
const OWN_FIELDS: [&str; 4] = ["n", "seed", "stream", "stream_options"];

impl PreparedRequest {
    /// Serialises `prompt`, and after it those `extra` fields of the configuration that the prompt does not
    /// name itself. `sampling.seed` is left out: each call brings its own.
    pub(super) fn new(prompt: &Prompt, extra: &Map<String, Value>, row: &Capabilities) -> Self {
        let mut text = Vec::with_capacity(prompt.messages.get().len() + 512);
        write(&mut text, prompt, extra).expect("numbers, strings and raw JSON always serialise to memory");
        let model = prompt.model.as_str().into();
        Self {
            object: text.into(),
            readers: Readers::of(prompt),
            model,
            caller: Caller::default(),
            takes_seed: row.seed != Support::No,
            tells_usage: row.stream_usage != Support::No,
        }
    }

    /// The same on behalf of a request, whose calls take their turns as one. Otherwise the clones are a request of
    /// their own.
    #[must_use]
    pub fn for_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The model, by the name that the provider knows it by.
    pub(super) fn model(&self) -> Arc<str> {
        Arc::clone(&self.model)
    }

    /// Who wants which log-probabilities of the answers.
    pub(super) fn readers(&self) -> Readers {
        self.readers
    }

    /// Whether a call with this seed tells the server of it.
    pub(super) fn sends(&self, seed: Option<i64>) -> bool {
        seed.is_some() && self.takes_seed
    }

    /// The body of a call that wants the answer whole.
    pub(super) fn whole(&self, seed: Option<i64>) -> Payload {
        match seed.filter(|_| self.takes_seed) {
            None => self.object.clone().into(),
            Some(seed) => self.ending_in(format!(",\"seed\":{seed}}}").into()),
        }
    }

    /// The body of a call that wants `count` whole answers.
    pub(super) fn several(&self, count: usize, seed: Option<i64>) -> Payload {
        match seed.filter(|_| self.takes_seed) {
            None => self.ending_in(format!(",\"n\":{count}}}").into()),
            Some(seed) => self.ending_in(format!(",\"n\":{count},\"seed\":{seed}}}").into()),
        }
    }

    /// The body of a call that wants the answer as a stream, with its usage at the end where the server can tell it.
    pub(super) fn streamed(&self, seed: Option<i64>) -> Payload {
        let stream = match self.tells_usage {
            true => r#","stream":true,"stream_options":{"include_usage":true}}"#,
            false => r#","stream":true}"#,
        };
        match seed.filter(|_| self.takes_seed) {
            None => self.ending_in(Bytes::from_static(stream.as_bytes())),
            Some(seed) => self.ending_in(format!(",\"seed\":{seed}{stream}").into()),
        }
    }

    /// The shared text with another end in place of its brace.
    fn ending_in(&self, end: Bytes) -> Payload {
        let shared = self.object.slice(..self.object.len() - 1);
        Payload::new(shared, end)
    }
}

fn write(text: &mut Vec<u8>, prompt: &Prompt, extra: &Map<String, Value>) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(text);
    let mut object = serializer.serialize_map(None)?;
    object.serialize_entry("model", &prompt.model)?;
    object.serialize_entry("messages", &prompt.messages)?;
    let mut named = vec!["model", "messages"];

    macro_rules! field {
        ($name:expr, $value:expr) => {
            if let Some(value) = $value {
                object.serialize_entry($name, value)?;
                named.push($name);
            }
        };
    }
    let tools: Vec<&RawValue> = prompt.tools.iter().map(|tool| &*tool.definition).collect();
    field!("tools", (!tools.is_empty()).then_some(&tools));
    field!("tool_choice", &prompt.tool_choice);
    field!("response_format", &prompt.response_format);
    let sampling = &prompt.sampling;
    field!("temperature", &sampling.temperature);
    field!("top_p", &sampling.top_p);
    field!("top_k", &sampling.top_k);
    field!("min_p", &sampling.min_p);
    if let Some(limit) = sampling.max_tokens {
        object.serialize_entry(limit.name.as_str(), &limit.tokens)?;
        // Under either name it is one setting: a configured default must not join the client's own.
        named.extend(["max_tokens", "max_completion_tokens"]);
    }
    field!("stop", (!sampling.stop.is_empty()).then_some(&sampling.stop));
    field!("presence_penalty", &sampling.presence_penalty);
    field!("frequency_penalty", &sampling.frequency_penalty);
    field!("logit_bias", (!sampling.logit_bias.is_empty()).then_some(&sampling.logit_bias));
    if let Some(logprobs) = prompt.wanted_logprobs() {
        object.serialize_entry("logprobs", &true)?;
        named.extend(["logprobs", "top_logprobs"]);
        if logprobs.top > 0 {
            object.serialize_entry("top_logprobs", &logprobs.top)?;
        }
    }
    for (name, value) in &prompt.passthrough {
        if !OWN_FIELDS.contains(&name.as_str()) && !named.contains(&name.as_str()) {
            object.serialize_entry(name, value)?;
            named.push(name);
        }
    }
    for (name, value) in extra {
        if !OWN_FIELDS.contains(&name.as_str()) && !named.contains(&name.as_str()) {
            object.serialize_entry(name, value)?;
        }
    }
    object.end()
}
