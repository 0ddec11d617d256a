//! The body of a Converse request, written once for a whole run.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::completion::Prompt;
use crate::config::capabilities::Capabilities;
use crate::failure::{Failure, FailureKind};
use crate::providers::limiter::Caller;

/// A Converse request. Cloning it shares the text, and the clones' calls take their turns as one run.
#[derive(Debug, Clone)]
pub struct PreparedRequest {
    /// A whole JSON object without the model, which stands in the path; or why there is none.
    body: Result<Bytes, Failure>,
    model: Arc<str>,
    caller: Caller,
}

impl PreparedRequest {
    /// Writes `prompt`, and those `extra` fields of the configuration that the prompt does not name itself.
    pub(super) fn new(prompt: &Prompt, extra: &Map<String, Value>, row: &Capabilities) -> Self {
        let body = write(prompt, extra, row).map(|body| Bytes::from(body.to_string()));
        Self { body, model: prompt.model.as_str().into(), caller: Caller::default() }
    }

    /// The same on behalf of a request, whose calls take their turns as one.
    #[must_use]
    pub(in crate::providers) fn for_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// # Errors
    ///
    /// What of the prompt the API has no words for.
    pub(super) fn body(&self) -> Result<&Bytes, &Failure> {
        self.body.as_ref()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn model(&self) -> Arc<str> {
        Arc::clone(&self.model)
    }
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
}

fn write(prompt: &Prompt, extra: &Map<String, Value>, _: &Capabilities) -> Result<Value, Failure> {
    if !prompt.tools.is_empty() {
        return Err(Failure::new(FailureKind::NotSupported, "tools are not supported on Bedrock yet by this version"));
    }
    let mut system: Vec<Value> = Vec::new();
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    let all: Vec<Message> = serde_json::from_str(prompt.messages.get())
        .map_err(|error| Failure::invalid_param("messages", format!("`messages` cannot be read: {error}")))?;
    for (at, message) in all.into_iter().enumerate() {
        let blocks = blocks(message.content).ok_or_else(|| {
            let param = format!("messages[{at}].content");
            let why = format!("`{param}` holds what is not supported on Bedrock yet by this version: only texts are");
            Failure { param: Some(param), ..Failure::new(FailureKind::NotSupported, why) }
        })?;
        let role = match message.role.as_str() {
            "system" | "developer" => {
                system.extend(blocks);
                continue;
            }
            "assistant" => "assistant",
            "user" => "user",
            other => {
                let message =
                    format!("messages of the role `{other}` are not supported on Bedrock yet by this version");
                return Err(Failure::new(FailureKind::NotSupported, message));
            }
        };
        match messages.last_mut() {
            // Turns must alternate.
            Some((last, turn)) if *last == role => turn.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let messages: Vec<Value> =
        messages.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let mut body = json!({ "messages": messages });
    if !system.is_empty() {
        body["system"] = system.into();
    }
    let inference = inference(prompt);
    if !inference.is_empty() {
        body["inferenceConfig"] = inference.into();
    }
    let mut additional = extra.clone();
    for (name, value) in &prompt.passthrough {
        additional.insert(name.clone(), value_of(value));
    }
    if !additional.is_empty() {
        body["additionalModelRequestFields"] = additional.into();
    }
    Ok(body)
}

fn inference(prompt: &Prompt) -> Map<String, Value> {
    let sampling = &prompt.sampling;
    let mut fields = Map::new();
    let mut field = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    field("maxTokens", sampling.max_tokens.map(|limit| limit.tokens.into()));
    field("temperature", sampling.temperature.map(Value::from));
    field("topP", sampling.top_p.map(Value::from));
    field("stopSequences", (!sampling.stop.is_empty()).then(|| sampling.stop.clone().into()));
    fields
}

/// The blocks of a message's texts; `None` for a message that holds anything else.
fn blocks(content: Option<Content>) -> Option<Vec<Value>> {
    match content? {
        Content::Text(text) => Some(vec![json!({ "text": text })]),
        Content::Parts(parts) => {
            parts.into_iter().map(|part| Some(json!({"text": part.text.filter(|_| part.r#type == "text")?}))).collect()
        }
    }
}

fn value_of(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}
