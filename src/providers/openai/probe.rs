//! Asking a server itself what it can do: three small questions, each asked again without what it refuses.
//!
//! Only what an answer shows, or a refusal names, is found: a server that takes a parameter and ignores it is told
//! from one that honours it, and what remains open stays as it was known.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Provider;
use super::chunks::{Answer, Event};
use super::logprobs::Readers;
use super::response::{Several, read_several};
use super::server::Server;
use crate::completion::{Completion, FinishReason};
use crate::config::capabilities::{Capabilities, LengthLimit, Support};
use crate::failure::{Failure, FailureKind};
use crate::providers::findings::{self, Findings, MAX_ALL};
use crate::providers::retry::AttemptFailure;
use crate::providers::sse;
use crate::providers::upstream::{MAX_BODY_BYTES, Upstream, malformed};

/// A question is asked again this often at most, each time without what was refused.
const MAX_AGAIN: usize = 4;
/// What a model may generate for a word, and for a call or a line of JSON.
const TOKENS_OF_A_WORD: u32 = 16;
const TOKENS: u32 = 256;
/// The same for a model that reasons before it answers.
const TOKENS_WITH_REASONING: u32 = 2048;

/// The answer to a question, read as that to any call.
struct Answered {
    first: Completion,
    /// How many choices came, of two at most.
    choices: usize,
    is_stream: bool,
}

impl Answered {
    /// The most alternatives that its log-probabilities tell of a token.
    fn most_top(&self) -> Option<usize> {
        let told: Value = serde_json::from_str(self.first.logprobs.as_ref()?.get()).ok()?;
        told["content"].as_array()?.iter().filter_map(|token| Some(token["top_logprobs"].as_array()?.len())).max()
    }

    fn is_cut_off(&self) -> bool {
        self.first.finish_reason == FinishReason::Length
    }
}

impl Provider {
    /// Asks the server what it can do with a model. Nothing is retried.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, does not answer the first question in time, refuses the key or does not know the model.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections.
    pub async fn probe(&self, model: &str) -> Result<Findings, Failure> {
        let mut findings = Findings::default();
        let first = self.pool.members.first().expect("a provider has at least one member");
        let mut asker = Asker::new(first, &self.extra, model, &self.capabilities(model));
        ask_for_choices(&mut asker, &mut findings).await?;
        let (mut of_tools, mut of_formats) = (asker.next(), asker.next());
        let (mut with_tools, mut with_formats) = (Findings::default(), Findings::default());
        let (tools, formats) = tokio::join!(
            ask_for_tools(&mut of_tools, &mut with_tools),
            ask_for_formats(&mut of_formats, &mut with_formats)
        );
        for (what, asked, asker, found) in
            [("tools", tools, of_tools, with_tools), ("formats", formats, of_formats, with_formats)]
        {
            findings.cells.extend(found.cells);
            findings.notes.extend(found.notes);
            findings.calls += asker.calls;
            if let Err(failure) = asked {
                findings.notes.push(format!("nothing was learnt of {what}: {failure}"));
            }
        }
        findings.calls += asker.calls;
        if self.pool.members.len() > 1 {
            findings.notes.push(format!("only {} was asked, the first of the endpoints", first.upstream.origin));
        }
        match findings.notes.first() {
            // Whatever is asked there is refused.
            Some(why) if findings.cells.is_empty() => Err(Failure::new(FailureKind::InvalidRequest, why.clone())),
            _ => Ok(findings),
        }
    }
}

/// Several choices, log-probabilities, and settings of sampling.
async fn ask_for_choices(asker: &mut Asker<'_>, findings: &mut Findings) -> Result<(), Failure> {
    const MOST: u8 = crate::completion::Logprobs::MOST;
    let mut fields = json!({
        "n": 2, "temperature": 0.5, "seed": 7, "logprobs": true, "top_logprobs": MOST
    });
    let refused = |fields: &mut Map<String, Value>, findings: &mut Findings, failure: &Failure| {
        let is_there = |name: &str| fields.contains_key(name);
        let named = |name: &str| is_there(name) && names(failure, name);
        if named("top_logprobs") && failure.param.as_deref() != Some("logprobs") {
            // Many tell five where OpenAI tells twenty.
            match fields["top_logprobs"] == 5 {
                false => drop(fields.insert("top_logprobs".to_owned(), 5.into())),
                true => drop(fields.remove("top_logprobs")),
            }
        } else if named("logprobs") {
            fields.remove("logprobs");
            fields.remove("top_logprobs");
            findings.cells.insert("logprobs".to_owned(), false.into());
        } else if named("temperature") {
            fields.remove("temperature");
            findings.cells.insert("sampling".to_owned(), false.into());
        } else if named("seed") {
            fields.remove("seed");
            findings.cells.insert("seed".to_owned(), false.into());
        } else if is_there("n") && names_n(failure) {
            fields.remove("n");
            findings.cells.insert("n".to_owned(), false.into());
        } else {
            return false;
        }
        true
    };
    let Some((fields, answered)) = asker.ask(&mut fields, findings, refused).await? else { return Ok(()) };
    let mut found = |column: &str, value: Value| drop(findings.cells.insert(column.to_owned(), value));
    if fields.contains_key("n") {
        found("n", (answered.choices > 1).into());
    }
    for (field, column) in [("temperature", "sampling"), ("seed", "seed")] {
        if fields.contains_key(field) {
            found(column, true.into());
        }
    }
    if fields.contains_key("logprobs") {
        let is_told = answered.first.mean_logprob.is_some();
        found("logprobs", is_told.into());
        if let Some(most) = answered.most_top().filter(|_| is_told) {
            found("max_top_logprobs", most.min(MOST.into()).into());
        }
    }
    Ok(())
}

/// Tools, and how far a call can be forced.
async fn ask_for_tools(asker: &mut Asker<'_>, findings: &mut Findings) -> Result<(), Failure> {
    let tool = |name: &str| {
        json!({"type": "function", "function": {
            "name": name, "description": "Takes a note.",
            "parameters": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        }})
    };
    let mut fields = json!({
        "tools": [tool("note_one"), tool("note_two")],
        "tool_choice": {"type": "function", "function": {"name": "note_two"}}
    });
    let refused = |fields: &mut Map<String, Value>, findings: &mut Findings, failure: &Failure| {
        if fields.contains_key("tool_choice") && names(failure, "tool_choice") {
            match fields["tool_choice"].is_object() {
                true => drop(fields.insert("tool_choice".to_owned(), "required".into())),
                false => drop(fields.remove("tool_choice")),
            }
            return true;
        }
        if fields.contains_key("tools") && names(failure, "tool") {
            fields.remove("tools");
            fields.remove("tool_choice");
            findings.cells.insert("tools".to_owned(), false.into());
            // There is nothing left to ask for.
            return false;
        }
        false
    };
    let Some((fields, answered)) = asker.ask(&mut fields, findings, refused).await? else { return Ok(()) };
    let called = answered.first.reply.tool_calls().first().map(|call| call.name.as_str());
    let mut found = |column: &str, value: Value| drop(findings.cells.insert(column.to_owned(), value));
    if called.is_some() {
        found("tools", true.into());
    }
    match (fields.get("tool_choice"), called) {
        (Some(Value::Object(_)), Some("note_two")) => found("forced_tool", "named".into()),
        (Some(Value::String(_)), Some(_)) => found("forced_tool", "required".into()),
        (None, _) => found("forced_tool", "never".into()),
        (Some(_), None) if answered.is_cut_off() => {
            findings.notes.push("whether a tool can be forced was not learnt: the answer was cut off".to_owned());
        }
        // It was taken, and had no effect.
        (Some(_), _) => found("forced_tool", "never".into()),
    }
    Ok(())
}

/// Schemas, and the usage of streams.
async fn ask_for_formats(asker: &mut Asker<'_>, findings: &mut Findings) -> Result<(), Failure> {
    let schema = json!({
        "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false
    });
    let mut fields = json!({
        "response_format": {"type": "json_schema", "json_schema": {"name": "probe", "strict": true, "schema": schema}},
        "stream": true, "stream_options": {"include_usage": true}
    });
    let refused = |fields: &mut Map<String, Value>, findings: &mut Findings, failure: &Failure| {
        if fields.contains_key("stream_options") && names(failure, "stream_options") {
            fields.remove("stream_options");
            findings.cells.insert("stream_usage".to_owned(), false.into());
            return true;
        }
        let is_about_format = ["response_format", "json", "schema"].iter().any(|name| names(failure, name));
        match fields.get("response_format").map(|format| format["type"] == "json_schema") {
            Some(true) if is_about_format => {
                fields.insert("response_format".to_owned(), json!({"type": "json_object"}));
                findings.cells.insert("json_schema".to_owned(), false.into());
            }
            Some(false) if is_about_format => {
                fields.remove("response_format");
                findings.cells.insert("json_object".to_owned(), false.into());
            }
            _ => return false,
        }
        true
    };
    let Some((fields, answered)) = asker.ask(&mut fields, findings, refused).await? else { return Ok(()) };
    if !answered.is_stream {
        findings.notes.push("whether streams tell their usage was not learnt: the answer came whole".to_owned());
    }
    let mut found = |column: &str, value: Value| drop(findings.cells.insert(column.to_owned(), value));
    if fields.contains_key("stream_options") && answered.is_stream {
        found("stream_usage", (answered.first.usage.unknown_calls == 0).into());
    }
    let Some(format) = fields.get("response_format") else { return Ok(()) };
    let answer: Option<Map<String, Value>> =
        answered.first.reply.content().and_then(|content| serde_json::from_str(content).ok());
    let (column, is_held) = match format["type"] == "json_schema" {
        true => ("json_schema", answer.is_some_and(|answer| answer.len() == 1 && answer.contains_key("ok"))),
        false => ("json_object", answer.is_some()),
    };
    if is_held || !answered.is_cut_off() {
        found(column, is_held.into());
    } else {
        findings.notes.push(format!("whether `{column}` is honoured was not learnt: the answer was cut off"));
    }
    Ok(())
}

/// Asks one question.
struct Asker<'a> {
    server: &'a Arc<Server>,
    /// Fields that the configuration sends along.
    extra: &'a Map<String, Value>,
    model: &'a str,
    limit: &'static str,
    tokens: u32,
    calls: usize,
    /// When all of it has to be done.
    deadline: Instant,
}

impl<'a> Asker<'a> {
    fn new(server: &'a Arc<Server>, extra: &'a Map<String, Value>, model: &'a str, row: &Capabilities) -> Self {
        let limit = match row.length_limit {
            LengthLimit::MaxTokens | LengthLimit::Either => "max_tokens",
            LengthLimit::MaxCompletionTokens => "max_completion_tokens",
        };
        let reasons = row.sampling == Support::No;
        let tokens = if reasons { TOKENS_WITH_REASONING } else { TOKENS_OF_A_WORD };
        Self { server, extra, model, limit, tokens, calls: 0, deadline: Instant::now() + MAX_ALL }
    }

    /// One for another question, for which the name of the limit holds that was learnt.
    fn next(&self) -> Self {
        Self { calls: 0, tokens: self.tokens.max(TOKENS), ..*self }
    }

    /// Asks with these fields, and again as `refused` changes them, which says whether it did; the fields that were
    /// taken, and the answer. `None` where the server has refused without saying what.
    async fn ask<'f>(
        &mut self,
        fields: &'f mut Value,
        findings: &mut Findings,
        refused: impl Fn(&mut Map<String, Value>, &mut Findings, &Failure) -> bool,
    ) -> Result<Option<(&'f Map<String, Value>, Answered)>, Failure> {
        let fields = fields.as_object_mut().expect("questions are objects");
        for again in 0..=MAX_AGAIN {
            self.calls += 1;
            let failure = match self.ask_once(fields).await {
                Ok(answered) => return Ok(Some((fields, answered))),
                Err(failure) => failure,
            };
            if failure.kind != FailureKind::InvalidRequest || is_about_model(&failure) {
                return Err(failure);
            }
            let other = match self.limit {
                "max_tokens" => ("max_completion_tokens", names(&failure, "max_completion_tokens")),
                _ => ("max_tokens", names(&failure, "max_completion_tokens")),
            };
            if other.1 && !findings.cells.contains_key("length_limit") {
                self.limit = other.0;
                findings.cells.insert("length_limit".to_owned(), other.0.into());
            } else if again == MAX_AGAIN || !refused(fields, findings, &failure) {
                findings.notes.push(failure.message);
                return Ok(None);
            }
        }
        Ok(None)
    }
}

impl Asker<'_> {
    async fn ask_once(&self, fields: &Map<String, Value>) -> Result<Answered, Failure> {
        // The word makes servers take `json_object` that want to read it in the messages.
        let messages = json!([{"role": "user", "content": "Say hello in one word. Do not answer in JSON."}]);
        let mut body = Map::from_iter([("model".to_owned(), self.model.into()), ("messages".to_owned(), messages)]);
        body.extend(fields.clone());
        body.insert(self.limit.to_owned(), self.tokens.into());
        for (name, value) in self.extra {
            // What the configuration sends along is part of how the server is asked.
            if !body.contains_key(name) && !["max_tokens", "max_completion_tokens"].contains(&name.as_str()) {
                body.insert(name.clone(), value.clone());
            }
        }
        let body = serde_json::to_vec(&body).expect("JSON values serialise");
        let server = self.server;
        let asked = async {
            let mut answer = server.send(&server.address.chat(self.model), body.into()).await?;
            let body = answer.body(MAX_BODY_BYTES).await?.ok_or_else(|| server.upstream.too_large("body"))?;
            let kind = answer.content_type();
            if kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
                return read_stream(&body, &server.upstream);
            }
            let Several { mut choices, .. } = read_several(&body, kind, 2, Readers::default(), &server.upstream)?;
            let came = choices.len();
            let first = choices.swap_remove(0).map_err(AttemptFailure::fatal)?;
            Ok(Answered { first, choices: came, is_stream: false })
        };
        findings::in_time(self.deadline, &server.upstream, asked).await
    }
}

fn read_stream(body: &[u8], upstream: &Upstream) -> Result<Answered, AttemptFailure> {
    let mut reader = sse::Reader::default();
    reader.push(body);
    let mut answer = Answer::new(Readers::default());
    let too_large = |error: sse::EventTooLarge| malformed(upstream, &error.to_string());
    let was_announced = loop {
        let data = match reader.next_event().map_err(too_large)? {
            Some(data) => data,
            None => match reader.finish().map_err(too_large)? {
                Some(data) => data,
                None => break false,
            },
        };
        if let Event::Done = answer.take(&data, upstream)? {
            break true;
        }
    };
    Ok(Answered { first: answer.finish(was_announced, upstream)?, choices: 1, is_stream: true })
}

/// Whether a refusal speaks of a parameter.
fn names(failure: &Failure, name: &str) -> bool {
    failure.param.as_deref().is_some_and(|param| param.starts_with(name)) || failure.message.contains(name)
}

/// The same for `n`, a letter of every message.
fn names_n(failure: &Failure) -> bool {
    const WORDS: [&str; 7] = ["'n'", "`n`", "\"n\"", " n ", "n must", "n > 1", "completion choice"];
    failure.param.as_deref() == Some("n") || WORDS.iter().any(|word| failure.message.contains(word))
}

/// Whether a refusal is one of the model, which some servers answer with 400.
fn is_about_model(failure: &Failure) -> bool {
    const WORDS: [&str; 5] =
        ["model not found", "not a valid model", "does not exist", "unknown model", "no such model"];
    let said = failure.message.to_lowercase();
    failure.param.as_deref() == Some("model") || WORDS.iter().any(|word| said.contains(word))
}
