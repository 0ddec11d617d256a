//! What the scripted upstream is told to do: the steps of a script, as JSON or built in Rust.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::chaos::Chaos;
use super::pace::Pace;
use super::profile::Profile;
use super::retry_after::RetryAfter;

/// How one request is answered. Everything left out is what a well-behaved server does.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// 200 unless given.
    pub status: Option<u16>,
    /// Sent beside, or instead of, the usual headers.
    pub headers: BTreeMap<String, String>,
    /// Sent after these, and may repeat them.
    pub more_headers: Vec<(String, String)>,
    /// The body byte for byte, whatever the request asked for: an error, HTML, raw server-sent events.
    pub body: Option<String>,
    /// The same for bytes that are no text, such as half a character.
    pub bytes: Option<Vec<u8>>,
    /// The request is refused with this status, in the words and the shape of the profile.
    pub refuse: Option<u16>,
    pub retry_after: Option<RetryAfter>,
    pub content: Option<String>,
    /// The content is repeated until it is this long.
    pub content_bytes: Option<usize>,
    pub reasoning_content: Option<String>,
    pub refusal: Option<String>,
    pub tool_calls: Vec<Call>,
    /// The log-probabilities of the words of the content, where they are asked for: −0.25 each unless given. With
    /// none in the list the upstream tells none, as servers do that ignore the wish.
    pub logprobs: Option<Vec<f64>>,
    pub finish_reason: Option<String>,
    pub usage: Option<Value>,
    /// An `error` member: the whole body of a plain answer, or an event in the middle of a stream.
    pub error: Option<Value>,
    /// The request waits for this gate before it is answered.
    pub gate: Option<String>,
    /// A stream waits for this gate after its first content.
    pub stream_gate: Option<String>,
    /// How long the answer waits before anything of it is sent.
    pub delay_ms: u64,
    /// When its tokens are due; without it as the upstream's pace says.
    pub pace: Option<Pace>,
    /// The connection is closed in good order; what the head promised does not come.
    pub close_at: Option<Point>,
    /// The connection is reset, so that the client loses also what it has not read yet.
    pub reset_at: Option<Point>,
    /// The answer never goes on.
    pub hang_at: Option<Point>,
    /// The body is written in pieces of this many bytes, one TCP segment each.
    pub split_bytes: Option<usize>,
    /// The pause between two such pieces, for answers that crawl.
    pub drip_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    pub id: Option<String>,
    pub name: String,
    /// JSON text, or text that only looks like it.
    pub arguments: String,
}

/// Where an answer breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The request has been read and nothing is answered.
    Request,
    /// Status and headers are out.
    Head,
    /// Half of the body is out.
    Body,
}

/// What `POST /control` takes. Every field is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// Forgets scripts, gates, counters and what was seen, before anything else.
    pub reset: bool,
    /// The steps are for requests of this model; without it, for every model that has no steps of its own.
    pub model: Option<String>,
    /// Replaces the steps: the first request gets the first step, and so on.
    pub steps: Option<Vec<Step>>,
    /// After the last step comes the first again, rather than the usual answer.
    pub cycle: bool,
    /// Whether `n` yields that many choices or, as many servers have it, one. Without it as the profile says.
    pub honour_n: Option<bool>,
    /// Which server to stand for from now on.
    pub profile: Option<Profile>,
    /// When tokens are due from now on.
    pub pace: Option<Pace>,
    /// What goes wrong from now on.
    pub chaos: Option<Chaos>,
    /// Gates to open, for good.
    pub open: Vec<String>,
}

impl Step {
    pub fn content(text: &str) -> Self {
        Self { content: Some(text.to_owned()), ..Self::default() }
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self { status: Some(status), body: Some(body.to_owned()), ..Self::default() }
    }

    /// A successful answer with this body, byte for byte.
    pub fn body(body: &str) -> Self {
        Self::status(200, body)
    }

    /// A stream with this body, byte for byte.
    pub fn events(body: &str) -> Self {
        Self::body(body).header("content-type", "text/event-stream")
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A refusal in the words and the shape of the profile.
    pub fn refused(status: u16) -> Self {
        Self { refuse: Some(status), ..Self::default() }
    }

    pub fn retry_after(mut self, form: RetryAfter) -> Self {
        self.retry_after = Some(form);
        self
    }

    pub fn delayed(mut self, delay_ms: u64) -> Self {
        self.delay_ms = delay_ms;
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

    pub fn gated(mut self, gate: &str) -> Self {
        self.gate = Some(gate.to_owned());
        self
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
