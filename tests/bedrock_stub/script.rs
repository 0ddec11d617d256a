//! What the stub is told to do: the steps of a script, as JSON or built in Rust.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};

use super::RetryAfter;
use super::access::Credentials;
use super::failure::Failure;
use super::rules::ModelRules;

/// How one request is answered. Everything left out is what a well-behaved model does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// 200 unless given; of an error its own.
    pub status: Option<u16>,
    /// Sent beside, or instead of, the usual headers.
    pub headers: BTreeMap<String, String>,
    /// The body byte for byte, whatever the request asked for: HTML, half a document.
    pub body: Option<String>,
    /// The same for bytes that are no text.
    pub bytes: Option<Vec<u8>>,
    /// The request is refused with this error, before anything is streamed.
    pub error: Option<Failure>,
    pub retry_after: Option<RetryAfter>,
    /// What the model says, in blocks; one usual sentence, or the use of a tool where one is offered, when empty.
    pub content: Vec<Block>,
    /// It says nothing at all: there are no blocks.
    pub is_silent: bool,
    /// `tool_use` where a tool is used and `end_turn` where none is, unless given.
    pub stop_reason: Option<String>,
    /// Counted in words unless given. Of members that are given, the others are as counted; null leaves one out.
    pub usage: Option<Value>,
    pub latency_ms: Option<u64>,
    /// Of a guardrail or a router.
    pub trace: Option<Value>,
    pub additional_model_response_fields: Option<Value>,
    /// A stream of these events and no others, for what a well-behaved model does not do.
    pub events: Option<Vec<Event>>,
    /// In a stream, comes after `exception_after` events, or in the middle, and ends it.
    pub exception: Option<Failure>,
    pub exception_after: Option<usize>,
    /// The event of this number, from 0, has a wrong checksum.
    pub bad_checksum_at: Option<usize>,
    /// Half of the event of this number is sent, and the body ends in good order.
    pub cut_at: Option<usize>,
    /// The request waits for this gate before it is answered.
    pub gate: Option<String>,
    /// A stream waits for this gate after its first delta.
    pub stream_gate: Option<String>,
    /// How long the answer waits before anything of it is sent.
    pub delay_ms: u64,
    /// The connection is closed in good order; what the head promised does not come.
    pub close_at: Option<Point>,
    /// The connection is reset, so that the client loses also what it has not read yet.
    pub reset_at: Option<Point>,
    /// The answer never goes on.
    pub hang_at: Option<Point>,
    /// The body is written in pieces of this many bytes, one TCP segment each, wherever events begin and end.
    pub split_bytes: Option<usize>,
    /// The pause before each event, or each such piece.
    pub drip_ms: Option<u64>,
}

/// A block of an answer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Block {
    Text(String),
    ToolUse(ToolUse),
    Reasoning {
        text: String,
        #[serde(default)]
        signature: Option<String>,
    },
    /// Reasoning that nobody may read, in base64.
    Redacted(String),
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolUse {
    pub id: Option<String>,
    pub name: String,
    pub input: Value,
    /// In a stream the input as this text, which may be no JSON.
    pub input_text: Option<String>,
}

/// An event of a stream as it is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub kind: String,
    pub payload: Value,
}

/// Where an answer breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The request has been read and nothing is answered.
    Request,
    /// Status and headers are out.
    Head,
    /// Half of the body is out: of a stream, half of its events.
    Body,
}

/// What `POST /control` takes. Every field is optional.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Forgets scripts, rules, keys, gates, counters and what was seen, before anything else.
    pub reset: bool,
    /// The steps are for requests of this model ID; without it, for every model that has no steps of its own.
    pub model: Option<String>,
    /// Replaces the steps: the first request gets the first step, and so on.
    pub steps: Option<Vec<Step>>,
    /// After the last step comes the first again, rather than the usual answer.
    pub cycle: bool,
    /// What models do not take, by model ID; `*` is for those that are not named.
    pub rules: Option<HashMap<String, ModelRules>>,
    /// The only keys that sign, instead of the usual ones.
    pub credentials: Option<Vec<Credentials>>,
    /// The only keys that are borne, instead of the usual one.
    pub bearer_keys: Option<Vec<String>>,
    pub region: Option<String>,
    /// How far the stub's clock is ahead, or behind where negative.
    pub clock_ahead_s: Option<i64>,
    /// Gates to open, for good.
    pub open: Vec<String>,
}

impl Step {
    pub fn text(text: &str) -> Self {
        Self { content: vec![Block::Text(text.to_owned())], ..Self::default() }
    }

    /// The use of one tool.
    pub fn tool_use(id: &str, name: &str, input: Value) -> Self {
        Self { content: vec![Block::tool_use(id, name, input)], ..Self::default() }
    }

    /// A refusal with the usual words.
    pub fn error(kind: &str) -> Self {
        Self { error: Some(Failure::new(kind)), ..Self::default() }
    }

    /// A stream that fails after so many events; an answer that is no stream fails at once.
    pub fn exception_after(events: usize, kind: &str) -> Self {
        Self { exception: Some(Failure::new(kind)), exception_after: Some(events), ..Self::default() }
    }

    /// A stream of these events and no others.
    pub fn events(events: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let events = events.into_iter().map(|(kind, payload)| Event { kind: kind.to_owned(), payload });
        Self { events: Some(events.collect()), ..Self::default() }
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self { status: Some(status), body: Some(body.to_owned()), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn retry_after(mut self, form: RetryAfter) -> Self {
        self.retry_after = Some(form);
        self
    }

    pub fn stop_reason(mut self, reason: &str) -> Self {
        self.stop_reason = Some(reason.to_owned());
        self
    }

    pub fn usage(mut self, input: u64, output: u64) -> Self {
        self.usage = Some(json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output}));
        self
    }

    pub fn gated(mut self, gate: &str) -> Self {
        self.gate = Some(gate.to_owned());
        self
    }

    pub fn reset_at(point: Point) -> Self {
        Self { reset_at: Some(point), ..Self::default() }
    }

    pub fn close_at(point: Point) -> Self {
        Self { close_at: Some(point), ..Self::default() }
    }

    pub fn hang_at(point: Point) -> Self {
        Self { hang_at: Some(point), ..Self::default() }
    }
}

impl Block {
    pub fn tool_use(id: &str, name: &str, input: Value) -> Self {
        Self::ToolUse(ToolUse { id: Some(id.to_owned()), name: name.to_owned(), input, input_text: None })
    }
}

/// A queue of steps.
#[derive(Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
    cycle: bool,
    taken: usize,
}

impl Script {
    pub fn new(steps: Vec<Step>, cycle: bool) -> Self {
        Self { steps, cycle, taken: 0 }
    }

    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    pub fn next(&mut self) -> Option<Step> {
        if self.cycle && !self.steps.is_empty() {
            self.taken %= self.steps.len();
        }
        let step = self.steps.get(self.taken)?.clone();
        self.taken += 1;
        Some(step)
    }
}
