//! Asking a model on Bedrock itself what it can do: two small questions, each asked again without what it refuses.
//!
//! Converse has one shape for all models, and refuses what a model does not have by its name.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::client::Server;
use super::{PreparedRequest, Provider, response};
use crate::completion::{Completion, FinishReason, MaxTokens, MaxTokensName, Prompt, Sampling, Tool};
use crate::config::capabilities::{Capabilities, ForcedTool, Support};
use crate::failure::{Failure, FailureKind};
use crate::providers::findings::{self, Findings, MAX_ALL};

/// What a model may generate for a word, and for a call.
const TOKENS_OF_A_WORD: u32 = 16;
const TOKENS_OF_A_CALL: u32 = 256;

/// The ways to make a model call a tool, from the most exact to none.
const FORCES: [(ForcedTool, Option<&str>); 3] = [
    (ForcedTool::Named, Some(r#"{"type":"function","function":{"name":"note_two"}}"#)),
    (ForcedTool::Required, Some(r#""required""#)),
    (ForcedTool::Never, None),
];

/// Fields that shape an answer: what a model does when it thinks, samples in another way or keeps to a schema is not
/// what is asked, and thinking takes more tokens than a question has.
const SHAPING: [&str; 16] = [
    "reasoning_effort",
    "thinking",
    "reasoning",
    "reasoningConfig",
    "reasoning_config",
    "output_config",
    "outputConfig",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
    "inferenceConfig",
];

/// The fields without those that shape an answer.
fn unshaped(extra: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = extra.clone();
    let is_kept = |name: &String| !SHAPING.contains(&name.as_str());
    if let Some(fields) = kept.get_mut("additionalModelRequestFields").and_then(Value::as_object_mut) {
        fields.retain(|name, _| is_kept(name));
    }
    kept.retain(|name, _| is_kept(name));
    kept
}

impl Provider {
    /// As [`crate::providers::Provider::probe`].
    pub(in crate::providers) async fn probe(&self, model: &str) -> Result<Findings, Failure> {
        let first = self.pool.members.first().expect("a provider has at least one member");
        // Whether the model takes these is what is asked.
        let row = Capabilities {
            sampling: Support::Yes,
            tools: Support::Yes,
            forced_tool: ForcedTool::Named,
            ..self.capabilities(model)
        };
        let extra = unshaped(&self.extra);
        let asker = Asker { extra, server: first, model, row, deadline: Instant::now() + MAX_ALL };
        let mut findings = Findings::default();
        asker.about_sampling(&mut findings).await?;
        if let Err(failure) = asker.about_tools(&mut findings).await {
            findings.notes.push(format!("nothing was learnt of tools: {failure}"));
        }
        if self.pool.members.len() > 1 {
            findings.notes.push(format!("only {} was asked, the first of the endpoints", first.upstream.origin));
        }
        Ok(findings)
    }
}

/// Asks one question after the other.
struct Asker<'a> {
    /// The fields of the configuration, without those that shape an answer.
    extra: Map<String, Value>,
    server: &'a Arc<Server>,
    model: &'a str,
    row: Capabilities,
    /// When all of it has to be done.
    deadline: Instant,
}

impl Asker<'_> {
    async fn about_sampling(&self, findings: &mut Findings) -> Result<(), Failure> {
        for temperature in [Some(0.5), None] {
            findings.calls += 1;
            let prompt = self.prompt(TOKENS_OF_A_WORD, temperature, Vec::new(), None);
            match self.ask(&prompt).await {
                Ok(_) => {
                    findings.cells.insert("sampling".to_owned(), temperature.is_some().into());
                    return Ok(());
                }
                Err(failure) if temperature.is_some() && names(&failure, "temperature") => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn about_tools(&self, findings: &mut Findings) -> Result<(), Failure> {
        for (force, choice) in FORCES {
            findings.calls += 1;
            let prompt = self.prompt(TOKENS_OF_A_CALL, None, vec![tool("note_one"), tool("note_two")], choice);
            let answer = match self.ask(&prompt).await {
                Ok(answer) => answer,
                Err(failure) if choice.is_some() && names(&failure, "toolchoice") => continue,
                Err(failure) if names(&failure, "tool") => {
                    findings.cells.insert("tools".to_owned(), false.into());
                    return Ok(());
                }
                Err(failure) => return Err(failure),
            };
            let called = answer.reply.tool_calls().first().map(|call| call.name.as_str());
            let is_forced = match force {
                ForcedTool::Named => called == Some("note_two"),
                _ => called.is_some(),
            };
            if called.is_some() {
                findings.cells.insert("tools".to_owned(), true.into());
            }
            if choice.is_some() && !is_forced && answer.finish_reason == FinishReason::Length {
                findings.notes.push("whether a tool can be forced was not learnt: the answer was cut off".to_owned());
                return Ok(());
            }
            // What was taken and had no effect is none.
            let force = if is_forced { force } else { ForcedTool::Never };
            findings.cells.insert("forced_tool".to_owned(), force.as_str().into());
            return Ok(());
        }
        Ok(())
    }

    fn prompt(&self, tokens: u32, temperature: Option<f64>, tools: Vec<Tool>, choice: Option<&str>) -> Prompt {
        let messages = json!([{"role": "user", "content": "Say hello in one word."}]);
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("it is JSON");
        Prompt {
            model: self.model.to_owned(),
            messages: to_raw_value(&messages).expect("JSON values serialise"),
            tools,
            tool_choice: choice.map(raw),
            response_format: None,
            sampling: Sampling {
                temperature,
                max_tokens: Some(MaxTokens { tokens, name: MaxTokensName::MaxTokens }),
                ..Sampling::default()
            },
            logprobs: None,
            signals: None,
            passthrough: Default::default(),
        }
    }

    async fn ask(&self, prompt: &Prompt) -> Result<Completion, Failure> {
        let request = PreparedRequest::new(prompt, &self.extra, &self.row);
        let body = request.body().map_err(Failure::clone)?;
        let asked = async {
            let answer = self.server.converse(self.model, body).await?;
            response::read(&answer, &self.server.upstream)
        };
        findings::in_time(self.deadline, &self.server.upstream, asked).await
    }
}

fn tool(name: &str) -> Tool {
    let parameters = json!({"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]});
    let definition: Value = json!({
        "type": "function",
        "function": {"name": name, "description": "Takes a note.", "parameters": parameters}
    });
    Tool {
        definition: to_raw_value(&definition).expect("JSON values serialise"),
        name: Some(name.to_owned()),
        parameters: Some(parameters),
    }
}

/// Whether a refusal speaks of a member of the request, which AWS spells in several ways.
fn names(failure: &Failure, name: &str) -> bool {
    let said = failure.message.to_lowercase().replace([' ', '_'], "");
    failure.kind == FailureKind::InvalidRequest && said.contains(name)
}
