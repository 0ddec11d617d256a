use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::to_raw_value;

use super::*;
use crate::completion::{MaxTokens, MaxTokensName, Sampling, Tool};
use crate::config::capabilities::CapabilityTable;
use crate::config::provider::ProviderName;
use crate::failure::FailureKind;
use crate::providers::fit::{self, Target};

mod conversations;
mod parameters;
mod toolboxes;

const CLAUDE: &str = "us.anthropic.claude-3-7-sonnet-20250219-v1:0";
const CLAUDE_4_5: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_4_6: &str = "us.anthropic.claude-opus-4-6-v1";
const CLAUDE_5: &str = "global.anthropic.claude-sonnet-5";
const NOVA: &str = "us.amazon.nova-lite-v1:0";
const LLAMA: &str = "us.meta.llama3-3-70b-instruct-v1:0";
const HIDDEN: &str = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123";

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

/// A prompt for `model` with the fields of a chat request.
fn prompt(model: &str, request: &str) -> Prompt {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(request).unwrap();
    let mut take = |name: &str| fields.remove(name);
    let number = |raw: Option<Box<RawValue>>| raw.map(|raw| raw.get().parse::<f64>().unwrap());
    let whole = |raw: Option<Box<RawValue>>| raw.map(|raw| raw.get().parse::<u32>().unwrap());
    let tools: Vec<Box<RawValue>> =
        take("tools").map(|tools| serde_json::from_str(tools.get()).unwrap()).unwrap_or_default();
    let tool = |definition: Box<RawValue>| {
        let value: Value = serde_json::from_str(definition.get()).unwrap();
        Tool { definition, name: value["function"]["name"].as_str().map(str::to_owned), parameters: None }
    };
    let sampling = Sampling {
        temperature: number(take("temperature")),
        top_p: number(take("top_p")),
        top_k: whole(take("top_k")),
        min_p: number(take("min_p")),
        max_tokens: whole(take("max_tokens")).map(|tokens| MaxTokens { tokens, name: MaxTokensName::MaxTokens }),
        stop: take("stop").map(|stop| serde_json::from_str(stop.get()).unwrap()).unwrap_or_default(),
        presence_penalty: number(take("presence_penalty")),
        frequency_penalty: number(take("frequency_penalty")),
        ..Sampling::default()
    };
    let messages = take("messages").unwrap_or_else(|| raw(&json!([{"role": "user", "content": "Hi"}])));
    let (tool_choice, response_format) = (take("tool_choice"), take("response_format"));
    Prompt {
        model: model.to_owned(),
        messages,
        tools: tools.into_iter().map(tool).collect(),
        tool_choice,
        response_format,
        sampling,
        logprobs: None,
        signals: None,
        passthrough: fields,
    }
}

/// The text of the body, and what is told of it.
fn text_of(model: &str, request: &str, extra: Value) -> Result<(String, Vec<String>), Failure> {
    let mut prompt = prompt(model, request);
    let row = &CapabilityTable::new(ProviderName::Bedrock).of(model);
    let extra = extra.as_object().unwrap();
    before_fitting(&mut prompt, row)?;
    let mut warnings = fit::fit(&mut prompt, &Target { provider: "bedrock", row, configured: extra })?;
    warnings.extend(told(&mut prompt, extra, row)?);
    let prepared = PreparedRequest::new(&prompt, extra, row);
    Ok((String::from_utf8(prepared.body().unwrap().to_vec()).unwrap(), warnings))
}

fn written(model: &str, request: &Value) -> (Value, Vec<String>) {
    let (text, warnings) = text_of(model, &request.to_string(), json!({})).unwrap();
    (serde_json::from_str(&text).unwrap(), warnings)
}

/// The body of a request of which nothing has to be told.
#[track_caller]
fn body(model: &str, request: &Value) -> Value {
    let (body, warnings) = written(model, request);
    assert_eq!(warnings, [""; 0]);
    body
}

/// The body of a request of which one thing is told, in these words.
#[track_caller]
fn warned(model: &str, request: &Value, words: &str) -> Value {
    let (body, warnings) = written(model, request);
    assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
    body
}

#[track_caller]
fn refused(model: &str, request: &Value, param: &str, words: &str) {
    let failure = text_of(model, &request.to_string(), json!({})).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    assert_eq!(failure.param.as_deref(), Some(param), "{}", failure.message);
    assert!(failure.message.contains(words), "{}", failure.message);
}

/// What the body has for these messages alone.
#[track_caller]
fn turns(messages: Value) -> Value {
    body(CLAUDE, &json!({"messages": messages}))["messages"].take()
}

fn user() -> Value {
    json!([{"role": "user", "content": [{"text": "Hi"}]}])
}
