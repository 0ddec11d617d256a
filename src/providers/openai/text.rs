//! Raw texts to be continued, as OpenAI's legacy API has it: JSON in and JSON out, with the transport, the limits
//! and the retries of every other call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Provider;
use super::response::{unreadable, usage};
use super::server::Server;
use super::stream::EventSource;
use crate::completion::Usage;
use crate::failure::{Failure, FailureKind};
use crate::providers::attempts::{Attempt, Attempts, Turn};
use crate::providers::gate::Pulse;
use crate::providers::limiter::Caller;
use crate::providers::members::Pool;
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{MAX_BODY_BYTES, Upstream, malformed};

/// The members of a JSON object, each as it was written.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// A request that is ready to be sent, as often as it takes.
#[derive(Debug, Clone)]
pub struct TextCall {
    model: Arc<str>,
    body: Bytes,
    caller: Caller,
}

impl TextCall {
    /// The same on behalf of a request, whose calls take their turns as one.
    #[must_use]
    pub fn for_caller(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }
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
        TextCall { model: model.into(), body: body.into(), caller: Caller::default() }
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
        let mut told = self.pool.counted(told);
        let once = |server: Arc<Server>, pulse: Pulse| async move {
            let began = Instant::now();
            let mut answer = server.send(&server.address.text(&call.model), call.body.clone().into()).await?;
            self.pool.metrics.first_token(began.elapsed());
            pulse.felt();
            let body = answer.body(MAX_BODY_BYTES).await?.ok_or_else(|| server.upstream.too_large("body"))?;
            read_text(&body, answer.content_type(), &server.upstream)
        };
        let mut attempts = Attempts::new(&self.pool, call.caller.clone(), Arc::clone(&call.model));
        let (answer, turn) = attempts.make(&self.pool, &mut told, once).await?;
        attempts.answered(turn);
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
        &self,
        call: &TextCall,
        told: F,
    ) -> Result<impl Stream<Item = Result<Members, Failure>> + Send + use<F>, Failure> {
        let mut told = self.pool.counted(told);
        let mut attempts = Attempts::new(&self.pool, call.caller.clone(), Arc::clone(&call.model));
        let ((first, source), mut turn) =
            attempts.make(&self.pool, &mut told, |server, _| open_text(server, call)).await?;
        turn.heard(&self.pool.metrics);
        let stream = TextStream {
            pool: Arc::clone(&self.pool),
            attempts,
            turn: Some(turn),
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
}

/// Makes one attempt at a stream, up to its first chunk.
async fn open_text(server: Arc<Server>, call: &TextCall) -> Result<(Option<Members>, EventSource), AttemptFailure> {
    let target = server.address.text(&call.model);
    let mut source = EventSource::open(&server, &target, call.body.clone().into()).await?;
    let first = match source.is_whole {
        // A server that knows no streams answers whole, which has the shape of a single chunk.
        true => {
            let body = source.read_body().await?.ok_or_else(|| server.upstream.too_large("body"))?;
            Some(read_text(&body, source.content_type(), &server.upstream)?)
        }
        false => match source.next().await? {
            Some(data) => read_chunk(&data, &server.upstream)?,
            None => return Err(malformed(&server.upstream, "a stream without an event")),
        },
    };
    Ok((first, source))
}

fn read_text(body: &[u8], content_type: Option<&str>, upstream: &Upstream) -> Result<Members, AttemptFailure> {
    let error = || upstream.error_in_success(body);
    match serde_json::from_slice::<Members>(body) {
        Ok(answer) if is_there(&answer, "choices") && !is_there(&answer, "error") => Ok(answer),
        Ok(_) => Err(error().unwrap_or_else(|| malformed(upstream, "a completion without choices"))),
        Err(why) => Err(error().unwrap_or_else(|| unreadable(body, content_type, &why, upstream))),
    }
}

/// A chunk of a stream; `None` for the word that ends it.
fn read_chunk(data: &[u8], upstream: &Upstream) -> Result<Option<Members>, AttemptFailure> {
    if data.trim_ascii() == b"[DONE]" {
        return Ok(None);
    }
    match serde_json::from_slice::<Members>(data) {
        Ok(chunk) if !is_there(&chunk, "error") => Ok(Some(chunk)),
        _ => Err(upstream
            .error_in_success(data)
            .unwrap_or_else(|| malformed(upstream, "an event that is no chunk of a completion"))),
    }
}

/// A stream of which the first chunk has come.
struct TextStream<F> {
    pool: Arc<Pool<Server>>,
    attempts: Attempts<Server>,
    /// Until the stream has come to its end.
    turn: Option<Turn<Server>>,
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
        let read = match self.source.next().await {
            Ok(Some(data)) => read_chunk(&data, self.source.upstream()),
            // Some servers forget the word that ends a stream.
            Ok(None) if self.has_ended() => Ok(None),
            Ok(None) => {
                let message = format!("{} broke off in the middle of its answer", self.pool.name);
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
                // What has been said is paid for, and cannot be unsaid.
                let attempt = attempt.passed_on();
                let turn = self.turn.take()?;
                self.attempts.failed(&self.pool, turn, attempt, &mut self.told).err().map(Err)
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
        if let Some(turn) = self.turn.take() {
            self.attempts.answered(turn);
        }
        (self.told)(Attempt::Answered(self.usage.unwrap_or_else(|| usage(None))));
    }
}

fn is_there(members: &Members, name: &str) -> bool {
    members.get(name).is_some_and(|value| value.get() != "null")
}
