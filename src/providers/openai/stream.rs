//! One streamed call: its request, and the events of its answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::chunks::{Answer, Event};
use super::response;
use super::server::{Incoming, MAX_ERROR_BODY_BYTES, Server};
use super::{PreparedRequest, Provider};
use crate::completion::{Completion, StepEvent};
use crate::providers::attempts::{Attempt, Attempts};
use crate::providers::http_client::Target;
use crate::providers::payload::Payload;
use crate::providers::retry::AttemptFailure;
use crate::providers::sse;
use crate::providers::streamed::{self, Heard};
use crate::providers::upstream::{MAX_BODY_BYTES, Upstream, malformed};

/// The events of one candidate. Dropping the stream closes its connection.
pub(super) fn events<T: FnMut(Attempt) + Send + 'static>(
    provider: &Provider,
    request: PreparedRequest,
    seed: Option<i64>,
    told: T,
) -> impl Stream<Item = StepEvent> + Send + use<T> {
    let attempts = Attempts::new(&provider.pool, request.caller().clone(), request.model()).seeded(request.sends(seed));
    let open = move |server| {
        let request = request.clone();
        async move { OpenStream::open(server, &request, seed).await }
    };
    streamed::events(Arc::clone(&provider.pool), attempts, open, told)
}

/// One attempt that the upstream has begun to answer.
struct OpenStream {
    source: EventSource,
    answer: Answer,
    /// The answer of a server that knows no streams.
    whole: Option<Completion>,
}

impl OpenStream {
    async fn open(server: Arc<Server>, request: &PreparedRequest, seed: Option<i64>) -> Result<Self, AttemptFailure> {
        let target = server.address.chat(&request.model());
        let mut source = EventSource::open(&server, &target, request.streamed(seed)).await?;
        // A server that knows no streams answers whole.
        let whole = match source.is_whole {
            true => {
                let body = source.read_body().await?.ok_or_else(|| server.upstream.too_large("body"))?;
                Some(response::read(&body, source.content_type(), request.readers(), &server.upstream)?)
            }
            false => None,
        };
        Ok(Self { source, answer: Answer::new(request.readers()), whole })
    }

    fn end(&mut self, was_announced: bool) -> Result<Heard, AttemptFailure> {
        std::mem::take(&mut self.answer).finish(was_announced, self.source.upstream()).map(Heard::Finished)
    }
}

impl streamed::Source for OpenStream {
    async fn next(&mut self) -> Result<Heard, AttemptFailure> {
        if let Some(completion) = self.whole.take() {
            return Ok(Heard::Finished(completion));
        }
        let data = match self.source.next().await {
            Ok(Some(data)) => data,
            Ok(None) => return self.end(false),
            // The model had ended: only its usage is missing.
            Err(_) if self.answer.is_complete() => return self.end(false),
            Err(attempt) => return Err(attempt),
        };
        match self.answer.take(&data, self.source.upstream())? {
            Event::Delta { delta, has_content } => Ok(Heard::Delta { delta, has_content }),
            Event::Silent => Ok(Heard::Silent),
            Event::Done => {
                self.source.drain().await;
                self.end(true)
            }
        }
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
    pub async fn open(server: &Arc<Server>, target: &Target, body: Payload) -> Result<Self, AttemptFailure> {
        let mut incoming = server.send(target, body).await?;
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
            return Err(self.incoming.server.upstream.too_large("stream"));
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
