//! One streamed call: its attempts, its limits, and the order of its events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::Response;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, timeout, timeout_at};

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
    let retries = Retries::new(provider.max_retries);
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
                    let permit = self.provider.permit(&self.request).await;
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
    response: Response,
    deadline: Instant,
    reader: sse::Reader,
    answer: Answer,
    /// Deltas not passed on yet. Those before the first content wait here, so that a retry can forget them.
    waiting: VecDeque<Delta>,
    /// The model has said something: this attempt is the one, and its failure is final.
    is_committed: bool,
    /// The whole answer, once the stream has ended; the deltas that still wait come before it.
    completion: Option<Completion>,
    received_bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl OpenStream {
    async fn open(
        provider: &Provider,
        request: &PreparedRequest,
        seed: Option<i64>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, AttemptFailure> {
        let deadline = Instant::now() + provider.timeout;
        let attempt = async {
            let mut response = provider.send(request.streamed(seed)).await?;
            let Some(kind) = content_type(&response).filter(|kind| !is_event_stream(kind)).map(str::to_owned) else {
                return Ok((response, None));
            };
            // A server that knows no streams answers whole.
            if kind.contains("json") {
                let completion = provider.read_whole(request, &mut response).await?;
                return Ok((response, Some(completion)));
            }
            let body = provider.read_body(&mut response, MAX_ERROR_BODY_BYTES).await?.unwrap_or_default();
            let error = provider.upstream.error_in_success(&body);
            let what = format!("{kind} instead of a stream of events");
            Err(error.unwrap_or_else(|| malformed(&provider.upstream, &what)))
        };
        let (response, completion) =
            timeout_at(deadline, attempt).await.unwrap_or_else(|_| Err(provider.out_of_time()))?;
        Ok(Self {
            response,
            deadline,
            reader: sse::Reader::default(),
            answer: Answer::new(request.readers()),
            waiting: VecDeque::new(),
            is_committed: false,
            completion,
            received_bytes: 0,
            _permit: permit,
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
            match self.reader.next_event() {
                Ok(Some(data)) => self.take(&data, provider).await?,
                Ok(None) => match self.read(provider).await {
                    Ok(true) => {}
                    Ok(false) => self.end_of_body(provider).await?,
                    // The model had ended: only its usage is missing.
                    Err(_) if self.answer.is_complete() => self.end(false, provider)?,
                    Err(attempt) => return Err(attempt),
                },
                Err(error) => return Err(malformed(&provider.upstream, &error.to_string())),
            }
        }
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

    async fn take(&mut self, data: &[u8], provider: &Provider) -> Result<(), AttemptFailure> {
        match self.answer.take(data, &provider.upstream)? {
            Event::Delta { delta, has_content } => {
                self.waiting.push_back(delta);
                self.is_committed |= has_content;
            }
            Event::Silent => {}
            Event::Done => {
                let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
                let _ = timeout(MAX_BODY_END, rest).await;
                self.end(true, provider)?;
            }
        }
        Ok(())
    }

    async fn end_of_body(&mut self, provider: &Provider) -> Result<(), AttemptFailure> {
        match self.reader.finish() {
            Ok(Some(data)) => self.take(&data, provider).await?,
            Ok(None) => {}
            Err(error) => return Err(malformed(&provider.upstream, &error.to_string())),
        }
        if self.completion.is_none() { self.end(false, provider) } else { Ok(()) }
    }

    fn end(&mut self, was_announced: bool, provider: &Provider) -> Result<(), AttemptFailure> {
        self.completion = Some(std::mem::take(&mut self.answer).finish(was_announced, &provider.upstream)?);
        Ok(())
    }
}

fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}
