//! The request id, and one log line for each request when it has ended, which is also when it is counted.
//!
//! The line is written when the last byte is out or the client has gone, whichever comes first, so its
//! duration is what the client saw. It never holds prompts, completions or keys.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage};
use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use super::AppState;
use super::body::GivenUp;
use super::error::{ApiError, SHOULD_RETRY};
use crate::generator::{Ledger, Whereabouts};
use crate::metrics::{Ended, Metrics};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_MAX_CHARS: usize = 128;
/// The status in the log of a request whose client did not wait for the end: nginx's word for it.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// What a request for no known path is counted under.
const NO_ROUTE: &str = "unmatched";

/// What the log line of a request will say. Handlers fill in what they know; it is written on drop.
#[derive(Debug)]
pub struct RequestRecord {
    pub id: String,
    method: String,
    path: String,
    /// The pattern that the path matches.
    route: OnceLock<&'static str>,
    started: Instant,
    metrics: Arc<Metrics>,
    facts: Mutex<Facts>,
}

/// What a handler knows of a request.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    status: Option<u16>,
    /// The status that the error would have had which broke a stream off.
    broken_off: Option<u16>,
    pub algorithm: Option<&'static str>,
    pub revision: Option<i64>,
    pub planned: Option<usize>,
    pub completed: Option<usize>,
    /// Candidates that failed while others completed.
    pub failed: Option<usize>,
    pub stop: Option<&'static str>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    /// What all calls cost, where their models have prices.
    pub cost_usd: Option<f64>,
    /// What its calls are entered into, and how long they take.
    pub ledger: Option<Arc<Ledger>>,
    /// Whom a run asked that came to nothing.
    pub asked: Option<Asked>,
    /// What went wrong, in words of ours: a message of an upstream's may quote the request.
    pub error: Option<String>,
}

/// Whom a run asked: names of the configuration, or where the request was let to go.
#[derive(Debug, Clone)]
pub struct Asked {
    pub model: String,
    pub upstream: Option<Whereabouts>,
}

impl RequestRecord {
    /// Adds to what the line will say.
    pub fn note(&self, fill: impl FnOnce(&mut Facts)) {
        fill(&mut self.facts.lock());
    }

    /// Notes the error that ends a request, also in the middle of a stream, whose head has said 200 by then: the log
    /// and the counters tell it under the status that it would have had.
    pub fn note_broken_off(&self, error: &ApiError) {
        self.note(|facts| {
            facts.broken_off = Some(error.status.as_u16());
            facts.error.get_or_insert_with(|| error.cause());
        });
    }

    /// The pattern that the path matches.
    pub fn note_route(&self, pattern: &'static str) {
        // The first match is the one that answers.
        let _ = self.route.set(pattern);
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// When the request's head arrived.
    pub fn arrived(&self) -> Instant {
        self.started
    }

    /// Time since the request's head arrived.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let Facts {
            status,
            broken_off,
            algorithm,
            revision,
            planned,
            completed,
            failed,
            stop,
            prompt_tokens,
            completion_tokens,
            cost_usd,
            ledger,
            asked,
            error,
        } = std::mem::take(self.facts.get_mut());
        // No status means that the handler was dropped: the client went away first.
        let status = broken_off.or(status).unwrap_or(CLIENT_CLOSED_REQUEST);
        // Before the clock is read, so that a call under way is never longer than its request.
        let busy = ledger.as_ref().and_then(|ledger| ledger.busy());
        let (attempts, retries) = ledger.map(|ledger| ledger.attempts_and_retries()).unzip();
        let (model, upstream) = asked.map_or((None, None), |Asked { model, upstream }| (Some(model), upstream));
        let (provider, address) = upstream.map(|Whereabouts { provider, address }| (provider, address)).unzip();
        let duration = self.started.elapsed();
        let overhead = busy.map(|busy| duration.saturating_sub(busy));
        self.metrics.requests.ended(Ended {
            path: self.route.get().map_or(NO_ROUTE, |pattern| shown(pattern)),
            algorithm: algorithm.unwrap_or_default(),
            status,
            duration,
            overhead,
        });
        let duration_ms = rounded_ms(duration);
        let overhead_ms = overhead.map(rounded_ms);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request_id = %self.id,
                    method = %self.method,
                    path = %self.path,
                    status,
                    duration_ms,
                    overhead_ms,
                    algorithm,
                    revision,
                    planned,
                    completed,
                    failed,
                    attempts,
                    retries,
                    stop,
                    prompt_tokens,
                    completion_tokens,
                    cost_usd,
                    provider,
                    address,
                    model,
                    error,
                    "request"
                )
            };
        }
        match (self.path.as_str(), status) {
            (_, 500..) => line!(warn),
            ("/health" | "/ready" | "/metrics", _) => line!(debug),
            _ => line!(info),
        }
    }
}

/// The middleware: gives the request its id and its record.
pub async fn record_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_valid_id(id))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let state = request.app_data::<Data<AppState>>().expect("every application has its state");
    let metrics = Arc::clone(&state.metrics);
    metrics.requests.begun();
    let record = Arc::new(RequestRecord {
        method: request.method().to_string(),
        path: request.path().to_owned(),
        route: OnceLock::new(),
        started: Instant::now(),
        metrics,
        facts: Mutex::default(),
        id,
    });
    request.extensions_mut().insert(Arc::clone(&record));

    let mut response = next.call(request).await?.map_into_boxed_body();
    let value = HeaderValue::from_str(&record.id).expect("a valid id is a valid header value");
    response.headers_mut().insert(REQUEST_ID, value);
    let error = response.response().error().and_then(|error| error.as_error::<ApiError>()).map(ApiError::cause);
    let mut is_free = false;
    record.note(|facts| {
        is_free = facts.ledger.as_ref().is_some_and(|ledger| ledger.busy().is_none());
        facts.status = Some(response.status().as_u16());
        facts.error = facts.error.take().or(error);
    });
    if is_free {
        // Whatever went wrong, nobody was asked for the request yet.
        response.headers_mut().remove(SHOULD_RETRY);
    }
    let given_up = response.request().extensions_mut().remove::<GivenUp>();
    Ok(response.map_body(|_, body| Recorded { body, record, ended: false, _given_up: given_up }))
}

/// A pattern as it is documented: without the expression that a part of it must match.
fn shown(pattern: &'static str) -> &'static str {
    match pattern {
        "/v1/models/{id:.+}" => "/v1/models/{id}",
        plain => plain,
    }
}

/// In milliseconds, to the microsecond.
fn rounded_ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1000.0
}

fn is_valid_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= REQUEST_ID_MAX_CHARS
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// A response body that keeps the request's record until it is sent or abandoned.
struct Recorded {
    body: BoxBody,
    record: Arc<RequestRecord>,
    /// Whether the server has taken all of it.
    ended: bool,
    /// Kept until the response is sent.
    _given_up: Option<GivenUp>,
}

impl MessageBody for Recorded {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let chunk = Pin::new(&mut self.body).poll_next(context);
        self.ended |= matches!(chunk, Poll::Ready(None));
        chunk
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // A whole body is taken in one piece; only of a stream can the rest be left.
        if !self.ended && self.body.size() == BodySize::Stream {
            self.record.note(|facts| facts.status = Some(CLIENT_CLOSED_REQUEST));
        }
    }
}
