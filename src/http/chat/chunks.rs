//! The events of a stream: OpenAI's chunks, what itsd adds to them, errors and the terminator.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::completion::{Completion, Delta};
use crate::generator::Phase;
use crate::http::event_stream::write_event;

use super::job::Identity;
use super::metadata::Metadata;
use super::response::{Finished, UsageObject};
use super::tts_metadata::TtsMetadata;

/// Events being written, for one response.
pub struct Chunks<'a> {
    identity: &'a Identity,
    include_usage: bool,
    out: Vec<u8>,
}

/// How far a run has come, for a user interface.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Progress {
    /// Candidates that have ended.
    pub completed: usize,
    pub planned: usize,
    /// What calls are made for at present.
    pub phase: Phase,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "UsageField::is_absent")]
    usage: UsageField,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: &'a RawValue,
    logprobs: Option<&'a RawValue>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tts_metadata: Option<TtsMetadata<'a>>,
}

/// With `include_usage` every chunk has the field: null until the last.
#[derive(Serialize)]
#[serde(untagged)]
enum UsageField {
    Absent,
    Pending(()),
    Known(UsageObject),
}

impl UsageField {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'a> Chunks<'a> {
    pub fn new(identity: &'a Identity, include_usage: bool) -> Self {
        Self { identity, include_usage, out: Vec::new() }
    }

    pub fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// A piece of the one answer that is told live. The first must have the role, and gets it where it has none.
    pub fn live(&mut self, delta: &Delta, is_first: bool) {
        if is_first {
            let View { role, tool_calls } = View::of(&delta.fields);
            if role.is_none() {
                self.delta(0, &speaker(tool_calls.is_none()), None);
            }
        }
        self.delta(0, &delta.fields, delta.logprobs.as_deref());
    }

    /// A whole answer, as the deltas that a model would have sent.
    pub fn answer(&mut self, index: u32, answer: &Completion) {
        let mut fields: BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(answer.reply.raw().get()).unwrap_or_default();
        fields.retain(|_, value| value.get() != "null");
        fields.remove("role");
        self.delta(index, &speaker(fields.contains_key("content")), None);
        let calls = fields.remove("tool_calls");
        if !fields.is_empty() || answer.logprobs.is_some() {
            self.delta(index, &to_raw(&fields), answer.logprobs.as_deref());
        }
        let calls: Vec<BTreeMap<String, Box<RawValue>>> =
            calls.and_then(|calls| serde_json::from_str(calls.get()).ok()).unwrap_or_default();
        for (at, mut call) in calls.into_iter().enumerate() {
            call.insert("index".to_owned(), to_raw(&at));
            self.delta(index, &to_raw(&BTreeMap::from([("tool_calls", [call])])), None);
        }
    }

    /// For each answer the chunk with its finish reason, of which the first carries what is told of the run; then
    /// the usage where it was asked for, and the terminator.
    pub fn end(&mut self, run: &Finished<'_>) {
        let empty = to_raw(&BTreeMap::<&str, ()>::new());
        for (index, answer) in (0..).zip(run.outcome.answers()) {
            let choice = ChunkChoice {
                index,
                delta: &empty,
                logprobs: None,
                finish_reason: Some(answer.finish_reason.as_str()),
                tts_metadata: run.tts_metadata(index),
            };
            let metadata = if index == 0 { run.metadata() } else { None };
            self.chunk(Chunk { metadata, ..self.bare(&[choice]) });
        }
        if self.include_usage {
            self.chunk(Chunk { usage: UsageField::Known(run.usage.into()), ..self.bare(&[]) });
        }
        self.out.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// A chunk without choices, which clients that do not know of progress pass over.
    pub fn progress(&mut self, progress: Progress) {
        self.chunk(Chunk { progress: Some(progress), ..self.bare(&[]) });
    }

    /// A comment that keeps the connection alive.
    pub fn keep_alive(&mut self, completed: usize, planned: usize) {
        self.out.extend_from_slice(format!(": its {completed}/{planned} candidates\n\n").as_bytes());
    }

    fn delta(&mut self, index: u32, delta: &RawValue, logprobs: Option<&RawValue>) {
        let choice = ChunkChoice { index, delta, logprobs, finish_reason: None, tts_metadata: None };
        self.chunk(self.bare(&[choice]));
    }

    fn chunk(&mut self, chunk: Chunk<'_>) {
        write_event(&mut self.out, &chunk);
    }

    fn bare<'c>(&self, choices: &'c [ChunkChoice<'c>]) -> Chunk<'c>
    where
        'a: 'c,
    {
        let Identity { completion_id, created, model, .. } = self.identity;
        Chunk {
            id: completion_id,
            object: "chat.completion.chunk",
            created: *created,
            model,
            choices,
            usage: if self.include_usage { UsageField::Pending(()) } else { UsageField::Absent },
            metadata: None,
            progress: None,
        }
    }
}

/// What is looked for in a provider's delta.
#[derive(Default, Deserialize)]
struct View {
    role: Option<IgnoredAny>,
    tool_calls: Option<IgnoredAny>,
}

impl View {
    fn of(delta: &RawValue) -> Self {
        serde_json::from_str(delta.get()).unwrap_or_default()
    }
}

/// The delta that says who speaks. The content of what has no text is null, and stays so when it is put together.
fn speaker(has_text: bool) -> Box<RawValue> {
    let delta = match has_text {
        true => r#"{"role":"assistant","content":""}"#,
        false => r#"{"role":"assistant","content":null}"#,
    };
    RawValue::from_string(delta.to_owned()).expect("a literal is valid JSON")
}

fn to_raw(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("maps with string keys always serialise")
}
