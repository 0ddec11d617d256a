//! One streamed call: its attempts, its limits, and the order of its events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

use super::chunks::{Answer, Event};
use super::error::malformed;
use super::{Attempt, MAX_BODY_BYTES, MAX_ERROR_BODY_BYTES, PreparedRequest, Provider, content_type};
use crate::completion::{Completion, Delta, StepEvent};
use crate::failure::{Failure, FailureKind};
use crate::providers::retry::{AttemptFailure, Retries};
use crate::providers::sse;

/// The longest silence within a stream.
const MAX_IDLE: Duration = Duration::from_secs(120);
/// How long the end of a body may follow its `[DONE]`, so that the connection can serve again.
const MAX_BODY_END: Duration = Duration::from_millis(5);

/// The events of one candidate. Dropping the stream closes its connection.
pub(super) fn events(
    provider: Arc<Provider>,
    request: PreparedRequest,
    seed: Option<i64>,
    told: impl FnMut(Attempt) + Send + 'static,
) -> impl Stream<Item = StepEvent> + Send + 'static {
    let retries = Retries::new(provider.calls.max_retries);
    let call = StreamedCall { provider, request, seed, told, retries, state: State::Closed };
    unfold(call, |mut call| async move { call.next().await.map(|event| (event, call)) })
}

/// One streamed candidate, over all its attempts.
struct StreamedCall<F> {
    provider: Arc<Provider>,
    request: PreparedRequest,
    seed: Option<i64>,
    told: F,
    retries: Retries,
    state: State,
}

enum State {
    /// Between two attempts, or before the first.
    Closed,
    Open(Box<OpenStream>),
    /// The last event is out.
    Ended,
}

impl<F: FnMut(Attempt)> StreamedCall<F> {
    async fn next(&mut self) -> Option<StepEvent> {
        loop {
            let attempt = match &mut self.state {
                State::Ended => return None,
                State::Closed => {
                    let permit = self.provider.permit(self.request.queue()).await;
                    (self.told)(Attempt::Begun);
                    match OpenStream::open(&self.provider, &self.request, self.seed, permit).await {
                        Ok(open) => {
                            self.state = State::Open(Box::new(open));
                            continue;
                        }
                        Err(attempt) => attempt,
                    }
                }
                State::Open(open) => match open.next(&self.provider).await {
                    Ok(event) => {
                        if let StepEvent::Finished(completion) = &event {
                            (self.told)(Attempt::Answered(completion.usage));
                            self.state = State::Ended;
                        }
                        return Some(event);
                    }
                    Err(attempt) if open.is_committed => AttemptFailure::fatal(attempt.failure),
                    Err(attempt) => attempt,
                },
            };
            // The permit and the connection go before the pause.
            self.state = State::Closed;
            (self.told)(Attempt::failed(&attempt));
            match self.retries.pause_after(attempt) {
                Ok(pause) => sleep(pause).await,
                Err(failure) => {
                    self.state = State::Ended;
                    return Some(StepEvent::Failed(failure));
                }
            }
        }
    }
}

/// One attempt that the upstream has begun to answer.
struct OpenStream {
    source: EventSource,
    answer: Answer,
    /// Deltas not passed on yet. Those before the first content wait here, so that a retry can forget them.
    waiting: VecDeque<Delta>,
    /// The model has said something: this attempt is the one, and its failure is final.
    is_committed: bool,
    /// The whole answer, once the stream has ended; the deltas that still wait come before it.
    completion: Option<Completion>,
}

impl OpenStream {
    async fn open(
        provider: &Provider,
        request: &PreparedRequest,
        seed: Option<i64>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, AttemptFailure> {
        let mut source =
            EventSource::open(provider, provider.address.chat(request.model()), request.streamed(seed), permit).await?;
        // A server that knows no streams answers whole.
        let completion = match source.is_whole {
            true => Some(source.read_whole(provider, request).await?),
            false => None,
        };
        Ok(Self {
            source,
            answer: Answer::new(request.readers()),
            waiting: VecDeque::new(),
            is_committed: false,
            completion,
        })
    }

    /// The next delta, or the finished completion.
    async fn next(&mut self, provider: &Provider) -> Result<StepEvent, AttemptFailure> {
        loop {
            if (self.is_committed || self.completion.is_some())
                && let Some(delta) = self.waiting.pop_front()
            {
                return Ok(StepEvent::Delta(delta));
            }
            if let Some(completion) = self.completion.take() {
                return Ok(StepEvent::Finished(completion));
            }
            match self.source.next(provider).await {
                Ok(Some(data)) => self.take(&data, provider).await?,
                Ok(None) => self.end(false, provider)?,
                // The model had ended: only its usage is missing.
                Err(_) if self.answer.is_complete() => self.end(false, provider)?,
                Err(attempt) => return Err(attempt),
            }
        }
    }

    async fn take(&mut self, data: &[u8], provider: &Provider) -> Result<(), AttemptFailure> {
        match self.answer.take(data, &provider.upstream)? {
            Event::Delta { delta, has_content } => {
                self.waiting.push_back(delta);
                self.is_committed |= has_content;
            }
            Event::Silent => {}
            Event::Done => {
                self.source.drain().await;
                self.end(true, provider)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, was_announced: bool, provider: &Provider) -> Result<(), AttemptFailure> {
        self.completion = Some(std::mem::take(&mut self.answer).finish(was_announced, &provider.upstream)?);
        Ok(())
    }
}

/// The events of a response, read as they arrive. It holds the call's place among those in flight.
pub(super) struct EventSource {
    response: Response,
    /// The server has answered with one JSON body instead of events.
    pub is_whole: bool,
    deadline: Instant,
    reader: sse::Reader,
    received_bytes: usize,
    /// The body has come to its end.
    is_over: bool,
    _permit: OwnedSemaphorePermit,
}

impl EventSource {
    /// Sends a request for a stream and waits until its head is here.
    pub async fn open(
        provider: &Provider,
        url: Url,
        body: reqwest::Body,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, AttemptFailure> {
        let deadline = Instant::now() + provider.calls.timeout;
        let attempt = async {
            let mut response = provider.send(url, body).await?;
            let Some(kind) = content_type(&response).filter(|kind| !is_event_stream(kind)).map(str::to_owned) else {
                return Ok((response, false));
            };
            if kind.contains("json") {
                return Ok((response, true));
            }
            let body = provider.read_body(&mut response, MAX_ERROR_BODY_BYTES).await?.unwrap_or_default();
            let error = provider.upstream.error_in_success(&body);
            let what = format!("{kind} instead of a stream of events");
            Err(error.unwrap_or_else(|| malformed(&provider.upstream, &what)))
        };
        let (response, is_whole) =
            timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(provider.out_of_time()))?;
        let reader = sse::Reader::default();
        Ok(Self { response, is_whole, deadline, reader, received_bytes: 0, is_over: false, _permit: permit })
    }

    /// The completion of a server that has answered whole.
    async fn read_whole(
        &mut self,
        provider: &Provider,
        request: &PreparedRequest,
    ) -> Result<Completion, AttemptFailure> {
        let whole = provider.read_whole(request, &mut self.response);
        timeout_at(self.deadline, whole).await.unwrap_or_else(|_| Err(provider.out_of_time()))
    }

    /// The body of a server that has answered whole; `None` when there is more of it than an answer may
    /// have.
    pub async fn read_body(&mut self, provider: &Provider) -> Result<Option<Bytes>, AttemptFailure> {
        let body = provider.read_body(&mut self.response, MAX_BODY_BYTES);
        timeout_at(self.deadline, body).await.unwrap_or_else(|_| Err(provider.out_of_time()))
    }

    pub fn content_type(&self) -> Option<&str> {
        content_type(&self.response)
    }

    /// The data of the next event; `None` at the end of the body.
    pub async fn next(&mut self, provider: &Provider) -> Result<Option<Vec<u8>>, AttemptFailure> {
        let too_large = |error: sse::EventTooLarge| malformed(&provider.upstream, &error.to_string());
        loop {
            if let Some(data) = self.reader.next_event().map_err(too_large)? {
                return Ok(Some(data));
            }
            if self.is_over {
                return Ok(None);
            }
            if !self.read(provider).await? {
                self.is_over = true;
                return self.reader.finish().map_err(too_large);
            }
        }
    }

    /// Reads what may follow the last event, so that the connection can serve again.
    pub async fn drain(&mut self) {
        let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        let _ = timeout(MAX_BODY_END, rest).await;
    }

    /// Reads the next piece of the body; `false` at its end.
    async fn read(&mut self, provider: &Provider) -> Result<bool, AttemptFailure> {
        let patience = self.deadline.min(Instant::now() + MAX_IDLE);
        match timeout_at(patience, self.response.chunk()).await {
            Ok(Ok(Some(piece))) => {
                self.received_bytes += piece.len();
                if self.received_bytes > MAX_BODY_BYTES {
                    return Err(provider.too_large("stream"));
                }
                self.reader.push(&piece);
                Ok(true)
            }
            Ok(Ok(None)) => Ok(false),
            Ok(Err(error)) => Err(provider.broken(&error)),
            Err(_) if patience == self.deadline => Err(provider.out_of_time()),
            Err(_) => {
                let message =
                    format!("{} was silent for {} s within a stream", provider.upstream.name, MAX_IDLE.as_secs());
                Err(Failure::new(FailureKind::Timeout, message).into())
            }
        }
    }
}

fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}
