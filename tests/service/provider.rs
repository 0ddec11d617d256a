//! What the provider's tests share: a provider that talks to a scripted upstream, and prompts for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use itsd::completion::{Completion, Prompt, Sampling, StepEvent};
use itsd::config::calls::CallSettings;
use itsd::config::capabilities::CapabilityTable;
use itsd::config::provider::ProviderName;
use itsd::failure::Failure;
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use itsd::providers::{Brought, Dialect, ProviderSpec};
use serde_json::value::RawValue;
use url::Url;

use crate::upstream::Upstream;

/// The key that no failure may repeat.
pub const KEY: &str = "sk-scripted-0123456789abcdef";

pub fn spec(base_url: &str) -> ProviderSpec {
    ProviderSpec {
        name: "scripted".to_owned(),
        members: vec![Url::parse(base_url).unwrap().into()],
        dialect: Dialect::default(),
        api_key: Some(KEY.into()),
        headers: Vec::new(),
        body: serde_json::Map::new(),
        capabilities: CapabilityTable::new(ProviderName::OpenAiCompatible),
        calls: CallSettings { timeout: Duration::from_secs(30), max_retries: 0, ..CallSettings::default() },
        brought: Brought::Nothing,
    }
}

/// A provider for `upstream`, with the usual settings changed by `change`.
pub fn provider(upstream: &Upstream, change: impl FnOnce(&mut ProviderSpec)) -> Arc<Provider> {
    let mut spec = spec(&upstream.base_url());
    change(&mut spec);
    Arc::new(Provider::new(spec, &Shared::default()).unwrap())
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn prompt() -> Prompt {
    Prompt {
        model: "scripted".to_owned(),
        messages: raw(r#"[{"role":"user","content":"What is 6 times 7?"}]"#),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: BTreeMap::new(),
    }
}

pub async fn complete(provider: &Provider) -> Result<Completion, Failure> {
    provider.complete(&provider.prepare(&prompt()), None, |_| ()).await
}

/// The deltas of a stream as JSON text, and how it ended.
pub async fn stream(provider: &Arc<Provider>, prompt: &Prompt) -> (Vec<String>, Result<Completion, Failure>) {
    let events: Vec<StepEvent> = provider.stream(provider.prepare(prompt), None, |_| ()).collect().await;
    let mut deltas = Vec::new();
    let mut end = None;
    for event in events {
        assert!(end.is_none(), "an event came after the last one");
        match event {
            StepEvent::Delta(delta) => deltas.push(delta.fields.get().to_owned()),
            StepEvent::Finished(completion) => end = Some(Ok(completion)),
            StepEvent::Failed(failure) => end = Some(Err(failure)),
        }
    }
    (deltas, end.expect("a stream ends with Finished or Failed"))
}
