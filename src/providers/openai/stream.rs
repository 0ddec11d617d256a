//! One streamed call: its attempts, its limits, and the order of its events.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use url::Url;

use super::attempts::{Attempts, Turn};
use super::chunks::{Answer, Event};
use super::error::{Upstream, malformed};
use super::response;
use super::server::{Incoming, MAX_BODY_BYTES, MAX_ERROR_BODY_BYTES, Server};
use super::{Attempt, PreparedRequest, Provider};
use crate::completion::{Completion, Delta, StepEvent};
use crate::providers::retry::AttemptFailure;
use crate::providers::sse;

/// The events of one candidate. Dropping the stream closes its connection.
pub(super) fn events(
    provider: Arc<Provider>,
    request: PreparedRequest,
    seed: Option<i64>,
    told: impl FnMut(Attempt) + Send + 'static,
) -> impl Stream<Item = StepEvent> + Send + 'static {
    let attempts = Attempts::new(&provider, request.caller().clone(), request.model()).seeded(request.sends(seed));
    let call = StreamedCall { provider, request, seed, told, attempts, state: State::Closed };
    unfold(call, |mut call| async move { call.next().await.map(|event| (event, call)) })
}

/// One streamed candidate, over all its attempts.
struct StreamedCall<F> {
    provider: Arc<Provider>,
    request: PreparedRequest,
    seed: Option<i64>,
    told: F,
    attempts: Attempts,
    state: State,
}

enum State {
    /// Between two attempts, or before the first.
    Closed,
    Open(Box<OpenStream>, Turn),
    /// The last event is out.
    Ended,
}

impl<F: FnMut(Attempt)> StreamedCall<F> {
    async fn next(&mut self) -> Option<StepEvent> {
        loop {
            let ended = match &mut self.state {
                State::Ended => return None,
                State::Closed => {
                    let (request, seed) = (&self.request, self.seed);
                    let open = |server, _| OpenStream::open(server, request, seed);
                    match self.attempts.make(&self.provider, &mut self.told, open).await {
                        Ok((open, turn)) => {
                            self.state = State::Open(Box::new(open), turn);
                            continue;
                        }
                        Err(failure) => {
                            self.state = State::Ended;
                            return Some(StepEvent::Failed(failure));
                        }
                    }
                }
                State::Open(open, turn) => match open.next().await {
                    Ok(event) => {
                        turn.heard(&self.provider.metrics);
                        match event {
                            StepEvent::Finished(completion) => Ok(completion),
                            event => return Some(event),
                        }
                    }
                    Err(attempt) if open.is_committed => Err(attempt.passed_on()),
                    Err(attempt) => Err(attempt),
                },
            };
            // The connection goes before the place.
            let State::Open(open, turn) = std::mem::replace(&mut self.state, State::Ended) else { return None };
            drop(open);
            match ended {
                Ok(completion) => {
                    self.attempts.answered(turn);
                    (self.told)(Attempt::Answered(completion.usage));
                    return Some(StepEvent::Finished(completion));
                }
                Err(attempt) => match self.attempts.failed(&self.provider, turn, attempt, &mut self.told) {
                    Ok(()) => self.state = State::Closed,
                    Err(failure) => return Some(StepEvent::Failed(failure)),
                },
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
    async fn open(server: Arc<Server>, request: &PreparedRequest, seed: Option<i64>) -> Result<Self, AttemptFailure> {
        let url = server.address.chat(&request.model());
        let mut source = EventSource::open(&server, url, request.streamed(seed)).await?;
        // A server that knows no streams answers whole.
        let completion = match source.is_whole {
            true => {
                let body = source.read_body().await?.ok_or_else(|| server.too_large("body"))?;
                Some(response::read(&body, source.content_type(), request.readers(), &server.upstream)?)
            }
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
    async fn next(&mut self) -> Result<StepEvent, AttemptFailure> {
        loop {
            if (self.is_committed || self.completion.is_some())
                && let Some(delta) = self.waiting.pop_front()
            {
                return Ok(StepEvent::Delta(delta));
            }
            if let Some(completion) = self.completion.take() {
                return Ok(StepEvent::Finished(completion));
            }
            match self.source.next().await {
                Ok(Some(data)) => self.take(&data).await?,
                Ok(None) => self.end(false)?,
                // The model had ended: only its usage is missing.
                Err(_) if self.answer.is_complete() => self.end(false)?,
                Err(attempt) => return Err(attempt),
            }
        }
    }

    async fn take(&mut self, data: &[u8]) -> Result<(), AttemptFailure> {
        match self.answer.take(data, self.source.upstream())? {
            Event::Delta { delta, has_content } => {
                self.waiting.push_back(delta);
                self.is_committed |= has_content;
            }
            Event::Silent => {}
            Event::Done => {
                self.source.drain().await;
                self.end(true)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, was_announced: bool) -> Result<(), AttemptFailure> {
        self.completion = Some(std::mem::take(&mut self.answer).finish(was_announced, self.source.upstream())?);
        Ok(())
    }
}

/// The events of a response, read as they arrive.
pub(super) struct EventSource {
    incoming: Incoming,
    /// The server has answered with one JSON body instead of events.
    pub is_whole: bool,
    reader: sse::Reader,
    received_bytes: usize,
    /// The body has come to its end.
    is_over: bool,
}

impl EventSource {
    /// Sends a request for a stream and waits until its head is here.
    pub async fn open(server: &Arc<Server>, url: Url, body: reqwest::Body) -> Result<Self, AttemptFailure> {
        let mut incoming = server.send(url, body).await?;
        let strange = incoming.content_type().filter(|kind| !is_event_stream(kind)).map(str::to_owned);
        let is_whole = match strange {
            None => false,
            Some(kind) if kind.contains("json") => true,
            Some(kind) => {
                let body = incoming.body(MAX_ERROR_BODY_BYTES).await?.unwrap_or_default();
                let error = server.upstream.error_in_success(&body);
                let what = format!("{kind} instead of a stream of events");
                return Err(error.unwrap_or_else(|| malformed(&server.upstream, &what)));
            }
        };
        Ok(Self { incoming, is_whole, reader: sse::Reader::default(), received_bytes: 0, is_over: false })
    }

    /// The body of a server that has answered whole; `None` when there is more of it than an answer may
    /// have.
    pub async fn read_body(&mut self) -> Result<Option<Bytes>, AttemptFailure> {
        self.incoming.body(MAX_BODY_BYTES).await
    }

    pub fn content_type(&self) -> Option<&str> {
        self.incoming.content_type()
    }

    /// Whose events these are.
    pub fn upstream(&self) -> &Upstream {
        &self.incoming.server.upstream
    }

    /// The data of the next event; `None` at the end of the body. The comments that a gateway keeps its connection
    /// alive with are no sign that the model works, so that they hold off neither limit.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, AttemptFailure> {
        self.incoming.listen();
        loop {
            if let Some(data) = self.reader.next_event().map_err(|error| self.too_large(&error))? {
                self.incoming.began();
                return Ok(Some(data));
            }
            if self.is_over {
                return Ok(None);
            }
            if !self.read().await? {
                self.is_over = true;
                return self.reader.finish().map_err(|error| self.too_large(&error));
            }
        }
    }

    /// Reads what may follow the last event, so that the connection can serve again.
    pub async fn drain(&mut self) {
        self.incoming.drain().await;
    }

    /// Reads the next piece of the body; `false` at its end.
    async fn read(&mut self) -> Result<bool, AttemptFailure> {
        let Some(piece) = self.incoming.piece().await? else { return Ok(false) };
        self.received_bytes += piece.len();
        if self.received_bytes > MAX_BODY_BYTES {
            return Err(self.incoming.server.too_large("stream"));
        }
        self.reader.push(&piece);
        Ok(true)
    }

    fn too_large(&self, error: &sse::EventTooLarge) -> AttemptFailure {
        malformed(self.upstream(), &error.to_string())
    }
}

fn is_event_stream(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("text/event-stream")
}
