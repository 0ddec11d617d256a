//! One streamed answer of ConverseStream: its events as the deltas of chunks, and the whole answer that they make.

use std::sync::Arc;

use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamOutput;
use aws_sdk_bedrockruntime::types::{ContentBlockDelta, ConverseStreamOutput as Event, TokenUsage};
use bytes::Bytes;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::client::{Server, unlogged};
use super::error;
use super::response::{self, Tokens};
use crate::completion::{Completion, Delta, Reply};
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;
use crate::providers::streamed::{Heard, Source};

/// An attempt that the upstream has begun to answer. Dropping it closes its connection.
pub(super) struct Events {
    server: Arc<Server>,
    output: ConverseStreamOutput,
    content: Option<String>,
    stop_reason: Option<String>,
    usage: Option<Tokens>,
}

impl Events {
    pub async fn open(server: Arc<Server>, model: &str, body: &Bytes) -> Result<Self, AttemptFailure> {
        let output = server.converse_stream(model, body).await?;
        Ok(Self { server, output, content: None, stop_reason: None, usage: None })
    }

    fn take(&mut self, event: Event) -> Heard {
        match event {
            Event::MessageStart(_) => delta(&json!({"role": "assistant", "content": ""}), false),
            Event::ContentBlockDelta(event) => match event.delta {
                Some(ContentBlockDelta::Text(text)) => {
                    self.content.get_or_insert_default().push_str(&text);
                    delta(&json!({ "content": text }), !text.is_empty())
                }
                _ => Heard::Silent,
            },
            Event::MessageStop(event) => {
                self.stop_reason = Some(event.stop_reason.as_str().to_owned());
                Heard::Silent
            }
            Event::Metadata(event) => {
                self.usage = event.usage.as_ref().map(tokens);
                Heard::Silent
            }
            _ => Heard::Silent,
        }
    }

    fn end(&mut self) -> Result<Heard, AttemptFailure> {
        let Some(stop_reason) = self.stop_reason.take() else {
            let message = format!("{} broke off in the middle of its answer", self.server.upstream.name);
            return Err(Failure::new(FailureKind::Unavailable, message).into());
        };
        Ok(Heard::Finished(Completion {
            reply: Reply::new(self.content.take(), Vec::new()),
            finish_reason: response::finish_reason(&stop_reason),
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: response::usage(self.usage.take()),
        }))
    }
}

impl Source for Events {
    async fn next(&mut self) -> Result<Heard, AttemptFailure> {
        match unlogged(self.output.stream.recv()).await {
            Ok(Some(event)) => Ok(self.take(event)),
            Ok(None) => self.end(),
            // The model had ended: only its usage is missing.
            Err(_) if self.stop_reason.is_some() => self.end(),
            Err(error) => Err(error::of_stream(error, &self.server.upstream)),
        }
    }
}

fn delta(fields: &serde_json::Value, has_content: bool) -> Heard {
    let fields = to_raw_value(fields).expect("JSON values serialise");
    Heard::Delta { delta: Delta { fields, logprobs: None }, has_content }
}

fn tokens(usage: &TokenUsage) -> Tokens {
    let count = |tokens: i32| tokens.try_into().unwrap_or(0);
    Tokens {
        input_tokens: count(usage.input_tokens),
        output_tokens: count(usage.output_tokens),
        cache_read_input_tokens: usage.cache_read_input_tokens.map_or(0, count),
        cache_write_input_tokens: usage.cache_write_input_tokens.map_or(0, count),
    }
}
