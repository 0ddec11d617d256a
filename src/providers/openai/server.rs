//! One server, and an attempt's exchange with it: a request out, an answer in piece by piece, and a limit to every wait.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::Address;
use crate::config::calls::CallSettings;
use crate::failure::{Failure, FailureKind};
use crate::providers::gate::Gate;
use crate::providers::habits::Habits;
use crate::providers::http_client::{Answer, Target};
use crate::providers::http_error::{self, HttpError};
use crate::providers::members::Member;
use crate::providers::payload::Payload;
use crate::providers::retry::AttemptFailure;
use crate::providers::thread_clients::ThreadClients;
use crate::providers::upstream::Upstream;

/// Of the body of a refusal, at most this much is read.
pub(super) const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// How long the body of a refusal is waited for.
const MAX_REFUSAL_READ: Duration = Duration::from_secs(5);
/// How long the end of a body may follow its `[DONE]`, so that the connection can serve again.
const MAX_BODY_END: Duration = Duration::from_millis(5);

/// A member of a provider's pool, with all that it takes to call it.
pub(super) struct Server {
    pub client: ThreadClients,
    /// Whether a connection to it costs next to nothing.
    pub is_near: bool,
    pub address: Address,
    pub headers: HeaderMap,
    pub calls: CallSettings,
    pub upstream: Upstream,
    /// How many calls it is worth beside the others.
    pub weight: f64,
    pub gate: Arc<Gate>,
    pub habits: Arc<Habits>,
}

impl Server {
    /// Sends one request and waits for the head of a successful response. The limits of the attempt run from here.
    pub async fn send(self: &Arc<Self>, target: &Target, body: Payload) -> Result<Incoming, AttemptFailure> {
        let begun = Instant::now();
        let deadline = begun + self.calls.timeout;
        let first_byte_by = self.calls.first_byte_timeout.map(|limit| begun + limit);
        let head_by = first_byte_by.map_or(deadline, |limit| limit.min(deadline));
        let asked = self.client.here().send(Method::POST, target, self.headers.clone(), body);
        let mut answer = match timeout_at(head_by, asked).await {
            Ok(answer) => answer.map_err(|error| self.unanswered(&error))?,
            Err(_) if head_by == deadline => return Err(self.upstream.out_of_time(&self.calls)),
            Err(_) => return Err(self.upstream.never_began(&self.calls)),
        };
        if answer.status.is_success() {
            let silent_until = Instant::now() + self.calls.idle_timeout;
            return Ok(Incoming { server: Arc::clone(self), answer, deadline, first_byte_by, silent_until });
        }
        let body = read_refusal(&mut answer).await;
        Err(self.upstream.refusal(answer.status.as_u16(), &answer.headers, &body))
    }

    /// The failure of an attempt that broke before the head of its answer was here.
    fn unanswered(&self, error: &HttpError) -> AttemptFailure {
        let assumes_http2 = self.calls.http2 && self.upstream.origin.starts_with("http://");
        let mut attempt = self.upstream.broken(error, self.calls.connect_timeout);
        if !assumes_http2 || attempt.is_unreachable || attempt.failure.kind != FailureKind::Unavailable {
            return attempt;
        }
        if http_error::speaks_no_http2(error) {
            let message = format!("{} does not speak HTTP/2; set `http2` to false", self.upstream.origin);
            return AttemptFailure::fatal(Failure::new(FailureKind::Unavailable, message)).refused();
        }
        // Some servers close a connection that they do not understand, as others do for reasons of their own.
        attempt.failure.message.push_str("; does it speak HTTP/2? If not, set `http2` to false");
        attempt
    }
}

impl Member for Server {
    fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn weight(&self) -> f64 {
        self.weight
    }

    fn origin(&self) -> &str {
        &self.upstream.origin
    }
}

/// An answer of which the head is here. Dropping it closes its connection.
pub(super) struct Incoming {
    pub server: Arc<Server>,
    answer: Answer,
    deadline: Instant,
    /// Until the answer has begun.
    first_byte_by: Option<Instant>,
    /// When the upstream counts as silent.
    silent_until: Instant,
}

impl Incoming {
    pub fn content_type(&self) -> Option<&str> {
        self.answer.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// The time in which the upstream must say something begins again.
    pub fn listen(&mut self) {
        self.silent_until = Instant::now() + self.server.calls.idle_timeout;
    }

    /// The upstream has begun to answer.
    pub fn began(&mut self) {
        self.first_byte_by = None;
    }

    /// The next piece of the body; `None` at its end. What it is worth is for the caller to say: of a whole answer
    /// every byte is a sign of life, of a stream an event is.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, AttemptFailure> {
        let first_byte_by = self.first_byte_by.unwrap_or(self.deadline);
        let patience = self.deadline.min(self.silent_until).min(first_byte_by);
        match timeout_at(patience, self.answer.piece()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.server.upstream.broken(&error, self.server.calls.connect_timeout)),
            Err(_) if patience == self.deadline => Err(self.server.upstream.out_of_time(&self.server.calls)),
            Err(_) if patience == self.silent_until => Err(self.server.upstream.fell_silent(&self.server.calls)),
            Err(_) => Err(self.server.upstream.never_began(&self.server.calls)),
        }
    }

    /// The whole body; `None` when it is larger than `limit_bytes`.
    pub async fn body(&mut self, limit_bytes: usize) -> Result<Option<Bytes>, AttemptFailure> {
        let Some(first) = self.next_bytes().await? else { return Ok(Some(Bytes::new())) };
        // Most answers arrive in one piece, which then is not copied.
        let Some(second) = self.next_bytes().await? else {
            return Ok((first.len() <= limit_bytes).then_some(first));
        };
        let mut body = BytesMut::from(first);
        body.extend_from_slice(&second);
        while let Some(piece) = self.next_bytes().await? {
            if body.len() + piece.len() > limit_bytes {
                return Ok(None);
            }
            body.extend_from_slice(&piece);
        }
        Ok((body.len() <= limit_bytes).then(|| body.freeze()))
    }

    async fn next_bytes(&mut self) -> Result<Option<Bytes>, AttemptFailure> {
        self.listen();
        let piece = self.piece().await?;
        self.began();
        Ok(piece)
    }

    /// Reads what may follow the last event, so that the connection can serve again.
    pub async fn drain(&mut self) {
        let rest = async { while let Ok(Some(_)) = self.answer.piece().await {} };
        let _ = timeout(MAX_BODY_END, rest).await;
    }
}

/// As much of a refusal's body as comes: one that breaks off, or never ends, is still a refusal.
async fn read_refusal(answer: &mut Answer) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = answer.piece().await {
            let room = MAX_ERROR_BODY_BYTES - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if body.len() == MAX_ERROR_BODY_BYTES {
                break;
            }
        }
    };
    // What was read in time is in `body` either way.
    let _ = timeout(MAX_REFUSAL_READ, reading).await;
    body
}
