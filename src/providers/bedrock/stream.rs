//! One streamed answer of ConverseStream: its events as the deltas of OpenAI's chunks, and the whole answer that they
//! make.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamOutput;
use aws_sdk_bedrockruntime::types::{
    ContentBlockDelta, ContentBlockStart, ConverseStreamOutput as Event, ReasoningContentBlockDelta, TokenUsage,
};
use aws_smithy_types::{Document, Number};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use super::client::{Server, unlogged};
use super::draft::{Draft, NO_ARGUMENTS, Thought};
use super::error;
use super::response::{self, Tokens};
use crate::completion::Delta;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;
use crate::providers::streamed::{Heard, Source};
use crate::providers::upstream::Upstream;

/// An attempt that the upstream has begun to answer. Dropping it closes its connection.
pub(super) struct Events {
    server: Arc<Server>,
    output: ConverseStreamOutput,
    reader: Reader,
    /// What an event has brought beyond what was passed on.
    waiting: VecDeque<Heard>,
}

impl Events {
    pub async fn open(server: Arc<Server>, model: &str, body: &Bytes) -> Result<Self, AttemptFailure> {
        let output = server.converse_stream(model, body).await?;
        Ok(Self { server, output, reader: Reader::default(), waiting: VecDeque::new() })
    }

    fn end(&mut self) -> Result<Heard, AttemptFailure> {
        std::mem::take(&mut self.reader).finish(&self.server.upstream)
    }
}

impl Source for Events {
    async fn next(&mut self) -> Result<Heard, AttemptFailure> {
        if let Some(heard) = self.waiting.pop_front() {
            return Ok(heard);
        }
        match unlogged(self.output.stream.recv()).await {
            Ok(Some(event)) => {
                self.waiting.extend(self.reader.take(event));
                Ok(self.waiting.pop_front().unwrap_or(Heard::Silent))
            }
            Ok(None) => self.end(),
            // The model had ended: only its usage is missing.
            Err(_) if self.reader.is_complete() => self.end(),
            Err(error) => Err(error::of_stream(error, &self.server.upstream)),
        }
    }
}

/// The answer so far.
#[derive(Debug, Default)]
struct Reader {
    draft: Draft,
    /// What the blocks are that are not text, by their index. Blocks may be written side by side.
    blocks: BTreeMap<i32, Block>,
    has_spoken: bool,
    stop_reason: Option<String>,
    usage: Option<Tokens>,
}

/// A block, with its number among those of its kind.
#[derive(Debug, Clone, Copy)]
enum Block {
    Thought(usize),
    Call(usize),
}

#[derive(Serialize)]
struct Beginning<'a> {
    tool_calls: [BeginningCall<'a>; 1],
}

#[derive(Serialize)]
struct BeginningCall<'a> {
    index: usize,
    id: &'a str,
    r#type: &'static str,
    function: BeginningFunction<'a>,
}

#[derive(Serialize)]
struct BeginningFunction<'a> {
    name: &'a str,
    arguments: &'static str,
}

impl Reader {
    /// Whether the model has said why it ended. What may still come is the usage.
    fn is_complete(&self) -> bool {
        self.stop_reason.is_some()
    }

    /// Takes in an event. Those that are not known are passed over, as are traces of guardrails.
    fn take(&mut self, event: Event) -> Vec<Heard> {
        match event {
            Event::ContentBlockStart(event) => match event.start {
                Some(ContentBlockStart::ToolUse(start)) => {
                    let (id, name) = (start.tool_use_id, start.name);
                    let index = self.draft.call(&id, &name, "");
                    self.blocks.insert(event.content_block_index, Block::Call(index));
                    let function = BeginningFunction { name: &name, arguments: "" };
                    let call = BeginningCall { index, id: &id, r#type: "function", function };
                    self.said(&Beginning { tool_calls: [call] }, Value::Null)
                }
                _ => Vec::new(),
            },
            Event::ContentBlockDelta(event) => match event.delta {
                Some(ContentBlockDelta::Text(text)) => {
                    self.draft.say(&text);
                    // An empty piece says nothing yet.
                    if text.is_empty() { Vec::new() } else { self.said(&json!({ "content": text }), json!("")) }
                }
                Some(ContentBlockDelta::ToolUse(piece)) => self.take_arguments(event.content_block_index, &piece.input),
                Some(ContentBlockDelta::ReasoningContent(piece)) => self.take_thought(event.content_block_index, piece),
                _ => Vec::new(),
            },
            Event::ContentBlockStop(event) => match self.blocks.get(&event.content_block_index) {
                Some(&Block::Call(number))
                    if self.draft.call_at(number).is_some_and(|call| call.has_no_arguments()) =>
                {
                    self.take_arguments(event.content_block_index, NO_ARGUMENTS)
                }
                _ => Vec::new(),
            },
            Event::MessageStop(event) => {
                self.stop_reason = Some(event.stop_reason.as_str().to_owned());
                if let Some(fields) = &event.additional_model_response_fields {
                    self.draft.add_fields(to_raw_value(&value(fields)).expect("JSON values serialise"));
                }
                self.last_words()
            }
            Event::Metadata(event) => {
                self.usage = event.usage.as_ref().and_then(tokens);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// What is told when the model has ended. All thoughts at once: clients put together what comes in pieces by rules of
    /// their own.
    fn last_words(&mut self) -> Vec<Heard> {
        let mut last = Map::new();
        if !self.draft.thoughts().is_empty() {
            last.insert("thinking_blocks".to_owned(), json!(self.draft.thoughts()));
        }
        if let Some(fields) = self.draft.specific() {
            last.insert("provider_specific_fields".to_owned(), json!(fields));
        }
        match last.is_empty() {
            true if self.has_spoken => Vec::new(),
            true => {
                self.has_spoken = true;
                vec![delta(&speaker(json!("")), false)]
            }
            false if self.draft.thoughts().is_empty() => self.said(&last, json!("")),
            false => self.said(&last, Value::Null),
        }
    }

    fn take_arguments(&mut self, block: i32, piece: &str) -> Vec<Heard> {
        let Some(&Block::Call(index)) = self.blocks.get(&block) else { return Vec::new() };
        let Some(call) = self.draft.call_at(index) else { return Vec::new() };
        call.function.arguments.push_str(piece);
        if piece.is_empty() {
            return Vec::new();
        }
        self.said(&json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), Value::Null)
    }

    fn take_thought(&mut self, block: i32, piece: ReasoningContentBlockDelta) -> Vec<Heard> {
        if let ReasoningContentBlockDelta::RedactedContent(data) = piece {
            self.draft.think(Thought::Redacted { data: STANDARD.encode(data) });
            return Vec::new();
        }
        let number = match self.blocks.get(&block) {
            Some(&Block::Thought(number)) => number,
            _ => {
                let number = self.draft.think(Thought::Told { thinking: String::new(), signature: None });
                self.blocks.insert(block, Block::Thought(number));
                number
            }
        };
        let Some(Thought::Told { thinking, signature }) = self.draft.thought_at(number) else { return Vec::new() };
        match piece {
            ReasoningContentBlockDelta::Text(text) if !text.is_empty() => {
                thinking.push_str(&text);
                self.said(&json!({ "reasoning_content": text }), Value::Null)
            }
            ReasoningContentBlockDelta::Signature(piece) => {
                signature.get_or_insert_default().push_str(&piece);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The delta of something that the model has said; before the first comes the one that tells who speaks. Its
    /// content is not empty where tools are called: clients hand it back, and Bedrock refuses empty texts.
    fn said(&mut self, fields: &impl Serialize, first_content: Value) -> Vec<Heard> {
        let said = delta(fields, true);
        match std::mem::replace(&mut self.has_spoken, true) {
            true => vec![said],
            false => vec![delta(&speaker(first_content), false), said],
        }
    }

    /// The whole answer, at the end of the stream.
    ///
    /// # Errors
    ///
    /// When the stream ended before the model had, or the model came to no answer.
    fn finish(self, upstream: &Upstream) -> Result<Heard, AttemptFailure> {
        let Some(stop_reason) = self.stop_reason else {
            let message = format!("{} broke off its stream before the answer was complete", upstream.name);
            return Err(Failure::new(FailureKind::Unavailable, message).into());
        };
        self.draft.finish(&stop_reason, response::usage(self.usage), upstream).map(Heard::Finished)
    }
}

fn speaker(content: Value) -> Value {
    json!({"role": "assistant", "content": content})
}

fn delta(fields: &impl Serialize, has_content: bool) -> Heard {
    let fields = to_raw_value(fields).expect("JSON values serialise");
    Heard::Delta { delta: Delta { fields, logprobs: None }, has_content }
}

/// What the SDK has read as JSON. It keeps no order, so that here the names are sorted.
fn value(document: &Document) -> Value {
    match document {
        Document::Object(fields) => {
            let fields: BTreeMap<&String, Value> = fields.iter().map(|(name, field)| (name, value(field))).collect();
            fields.into_iter().map(|(name, value)| (name.clone(), value)).collect::<Map<_, _>>().into()
        }
        Document::Array(items) => items.iter().map(value).collect(),
        Document::Number(Number::PosInt(number)) => (*number).into(),
        Document::Number(Number::NegInt(number)) => (*number).into(),
        Document::Number(Number::Float(number)) => (*number).into(),
        Document::String(text) => text.as_str().into(),
        Document::Bool(truth) => (*truth).into(),
        Document::Null => Value::Null,
    }
}

/// What a call cost; none where a count is none.
fn tokens(usage: &TokenUsage) -> Option<Tokens> {
    let count = |tokens: i32| u64::try_from(tokens).ok();
    Some(Tokens {
        input_tokens: count(usage.input_tokens)?,
        output_tokens: count(usage.output_tokens)?,
        cache_read_input_tokens: usage.cache_read_input_tokens.map(count).unwrap_or(Some(0)),
        cache_write_input_tokens: usage.cache_write_input_tokens.map(count).unwrap_or(Some(0)),
    })
}
