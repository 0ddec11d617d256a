//! Raw texts to be continued, as OpenAI's legacy API has it: JSON in and JSON out, with the transport, the limits
//! and the retries of every other call.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::malformed;
use super::response::{unreadable, usage};
use super::stream::EventSource;
use super::{Attempt, MAX_BODY_BYTES, Provider, content_type};
use crate::completion::Usage;
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::AttemptFailure;

/// The members of a JSON object, each as it was written.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// A request that is ready to be sent, as often as it takes.
#[derive(Debug, Clone)]
pub struct TextCall {
    model: String,
    body: Bytes,
}

impl Provider {
    /// Serialises a request for the upstream's `model`. Body fields of the configuration that it does not name join
    /// it.
    pub fn prepare_text(&self, model: &str, fields: &Members) -> TextCall {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            #[serde(flatten)]
            fields: BTreeMap<&'a str, &'a RawValue>,
        }
        let configured: Members = self
            .extra
            .iter()
            .map(|(name, value)| (name.clone(), to_raw_value(value).expect("JSON always serialises")))
            .collect();
        let mut all: BTreeMap<&str, &RawValue> = BTreeMap::new();
        for (name, value) in configured.iter().chain(fields).filter(|(name, _)| *name != "model") {
            all.insert(name, value);
        }
        let body = serde_json::to_vec(&Body { model, fields: all }).expect("raw JSON always serialises to memory");
        TextCall { model: model.to_owned(), body: body.into() }
    }

    /// Sends the request and returns the answer whole. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// The last attempt's failure, when it is not one to retry or the retries are used up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub async fn complete_text(&self, call: &TextCall, told: impl FnMut(Attempt) + Send) -> Result<Members, Failure> {
        let mut told = self.counted(told);
        let once = |permit| async move {
            let attempt = async {
                let mut response = self.send(self.address.text(&call.model), call.body.clone().into()).await?;
                let body =
                    self.read_body(&mut response, MAX_BODY_BYTES).await?.ok_or_else(|| self.too_large("body"))?;
                self.read_text(&body, content_type(&response))
            };
            let answer = timeout(self.calls.timeout, attempt).await.unwrap_or_else(|_| Err(self.out_of_time()));
            // Others may call while this one waits to try again.
            drop(permit);
            answer
        };
        let answer = self.attempts(&Semaphore::new(1), &mut told, once).await?;
        told(Attempt::Answered(usage(answer.get("usage").map(|usage| &**usage))));
        Ok(answer)
    }

    /// Sends the request and returns the chunks of the answer as they come. An attempt that fails before the first
    /// is retried unseen. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete_text`]; what goes wrong later ends the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream closes the upstream connection at once, or leaves the queue.
    pub async fn stream_text<F: FnMut(Attempt) + Send + 'static>(
        self: &Arc<Self>,
        call: &TextCall,
        told: F,
    ) -> Result<impl Stream<Item = Result<Members, Failure>> + Send + use<F>, Failure> {
        let mut told = self.counted(told);
        let once = |permit| self.open_text(call, permit);
        let (first, source) = self.attempts(&Semaphore::new(1), &mut told, once).await?;
        let stream = TextStream {
            provider: Arc::clone(self),
            told,
            is_over: source.is_whole,
            source,
            next: None,
            usage: None,
            choices: BTreeMap::new(),
        };
        let stream = stream.beginning_with(first);
        Ok(unfold(stream, |mut stream| async move { stream.next().await.map(|chunk| (chunk, stream)) }))
    }

    /// Makes one attempt at a stream, up to its first chunk.
    async fn open_text(
        &self,
        call: &TextCall,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Option<Members>, EventSource), AttemptFailure> {
        let mut source =
            EventSource::open(self, self.address.text(&call.model), call.body.clone().into(), permit).await?;
        let first = match source.is_whole {
            // A server that knows no streams answers whole, which has the shape of a single chunk.
            true => {
                let body = source.read_body(self).await?.ok_or_else(|| self.too_large("body"))?;
                Some(self.read_text(&body, source.content_type())?)
            }
            false => match source.next(self).await? {
                Some(data) => self.read_chunk(&data)?,
                None => return Err(malformed(&self.upstream, "a stream without an event")),
            },
        };
        Ok((first, source))
    }

    fn read_text(&self, body: &[u8], content_type: Option<&str>) -> Result<Members, AttemptFailure> {
        let error = || self.upstream.error_in_success(body);
        match serde_json::from_slice::<Members>(body) {
            Ok(answer) if is_there(&answer, "choices") && !is_there(&answer, "error") => Ok(answer),
            Ok(_) => Err(error().unwrap_or_else(|| malformed(&self.upstream, "a completion without choices"))),
            Err(why) => Err(error().unwrap_or_else(|| unreadable(body, content_type, &why, &self.upstream))),
        }
    }

    /// A chunk of a stream; `None` for the word that ends it.
    fn read_chunk(&self, data: &[u8]) -> Result<Option<Members>, AttemptFailure> {
        if data.trim_ascii() == b"[DONE]" {
            return Ok(None);
        }
        match serde_json::from_slice::<Members>(data) {
            Ok(chunk) if !is_there(&chunk, "error") => Ok(Some(chunk)),
            _ => Err(self
                .upstream
                .error_in_success(data)
                .unwrap_or_else(|| malformed(&self.upstream, "an event that is no chunk of a completion"))),
        }
    }
}

/// A stream of which the first chunk has come.
struct TextStream<F> {
    provider: Arc<Provider>,
    told: F,
    source: EventSource,
    /// What has been read and not yet passed on.
    next: Option<Members>,
    usage: Option<Usage>,
    /// The choices that have begun, and whether each has come to its end.
    choices: BTreeMap<u64, bool>,
    /// Nothing more is to be read.
    is_over: bool,
}

impl<F: FnMut(Attempt)> TextStream<F> {
    fn beginning_with(mut self, first: Option<Members>) -> Self {
        self.is_over |= first.is_none();
        if let Some(first) = &first {
            self.look_at(first);
        }
        if self.is_over {
            self.settle();
        }
        self.next = first;
        self
    }

    async fn next(&mut self) -> Option<Result<Members, Failure>> {
        if let Some(chunk) = self.next.take() {
            return Some(Ok(chunk));
        }
        if self.is_over {
            return None;
        }
        let read = match self.source.next(&self.provider).await {
            Ok(Some(data)) => self.provider.read_chunk(&data),
            // Some servers forget the word that ends a stream.
            Ok(None) if self.has_ended() => Ok(None),
            Ok(None) => {
                let message = format!("{} broke off in the middle of its answer", self.provider.upstream.name);
                Err(Failure::new(FailureKind::Unavailable, message).into())
            }
            Err(_) if self.has_ended() => Ok(None),
            Err(attempt) => Err(attempt),
        };
        match read {
            Ok(Some(chunk)) => {
                self.look_at(&chunk);
                Some(Ok(chunk))
            }
            Ok(None) => {
                self.is_over = true;
                self.source.drain().await;
                self.settle();
                None
            }
            Err(attempt) => {
                self.is_over = true;
                // What has been said is paid for.
                (self.told)(Attempt::Lost(attempt.failure.kind.as_str()));
                Some(Err(attempt.failure))
            }
        }
    }

    fn look_at(&mut self, chunk: &Members) {
        #[derive(serde::Deserialize)]
        struct Choice {
            #[serde(default)]
            index: u64,
            finish_reason: Option<serde::de::IgnoredAny>,
        }
        if let Some(told) = chunk.get("usage").filter(|_| is_there(chunk, "usage")) {
            self.usage = Some(usage(Some(told)));
        }
        let choices = chunk.get("choices").and_then(|choices| serde_json::from_str::<Vec<Choice>>(choices.get()).ok());
        for choice in choices.unwrap_or_default() {
            *self.choices.entry(choice.index).or_default() |= choice.finish_reason.is_some();
        }
    }

    /// Whether every choice has come to its end, so that only formalities are left.
    fn has_ended(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|has_ended| *has_ended)
    }

    fn settle(&mut self) {
        (self.told)(Attempt::Answered(self.usage.unwrap_or_else(|| usage(None))));
    }
}

fn is_there(members: &Members, name: &str) -> bool {
    members.get(name).is_some_and(|value| value.get() != "null")
}
