//! Any server that speaks OpenAI's chat completions over HTTP.
//!
//! One call is one candidate: `n` is never sent, since servers accept and ignore it. The request is
//! serialised once for a run and shared by its candidates; the answer's message stays as the upstream wrote
//! it. Everything that can go wrong comes back as a [`Failure`] that never holds a key.

mod address;
mod chunks;
mod error;
mod fit;
mod logprobs;
mod request;
mod response;
mod shape;
mod stream;
mod text;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use url::Url;

pub use self::address::Dialect;
pub use self::request::PreparedRequest;
pub use self::text::{Members, TextCall};

use self::address::Address;
use self::error::{Upstream, malformed};
use super::http_client;
use super::retry::{AttemptFailure, Retries};
use crate::completion::{Completion, Prompt, StepEvent, Usage};
use crate::config::calls::CallSettings;
use crate::config::capabilities::{Capabilities, CapabilityTable};
use crate::config::extra_args::visit_secrets;
use crate::failure::{Failure, FailureKind};
use crate::metrics::UpstreamMetrics;

/// A larger answer is taken for a broken or hostile upstream.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Of the body of a refusal, at most this much is read.
const MAX_ERROR_BODY_BYTES: usize = 64 << 10;
/// The word for an attempt that no upstream has seen, since there was no connection.
const UNREACHABLE: &str = "unreachable";
/// How long the body of a refusal is waited for.
const MAX_REFUSAL_READ: Duration = Duration::from_secs(5);

/// What makes a provider: where it is, what to send along, and its limits.
#[derive(Debug, Clone)]
pub struct ProviderSpec {
    /// What failures call it, for example `openrouter`.
    pub name: String,
    /// The address that `/chat/completions` is appended to, usually ending in `/v1`. A query stays.
    pub base_url: Url,
    pub dialect: Dialect,
    /// Sent as the dialect has it, unless `headers` has an `Authorization` of its own.
    pub api_key: Option<SecretString>,
    /// Sent with every call.
    pub headers: Vec<(String, SecretString)>,
    /// Body fields for requests that do not name them themselves.
    pub body: Map<String, Value>,
    /// What its models can do.
    pub capabilities: CapabilityTable,
    pub calls: CallSettings,
}

/// What is told of a call's attempts as they are made, so that their caller can keep an account: `Begun`, then
/// one of the others, unless the call is dropped in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// Its turn has come, and it is being sent.
    Begun,
    /// The upstream answered with an error and no word of the model's, or could not be reached: nothing was
    /// spent. The word says why, for those who count.
    Refused(&'static str),
    /// It broke off, ran out of time or came back unreadable, as the word says: what was spent on it is not known.
    Lost(&'static str),
    /// It was answered, and cost this.
    Answered(Usage),
}

impl Attempt {
    fn failed(attempt: &AttemptFailure) -> Self {
        let why = if attempt.is_unreachable { UNREACHABLE } else { attempt.failure.kind.as_str() };
        if attempt.was_refused { Self::Refused(why) } else { Self::Lost(why) }
    }
}

/// Why a provider cannot be made: always the configuration's fault.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("`endpoint` must begin with http:// or https:// and name a host")]
    NotHttp,
    #[error("`endpoint` must not hold a user name or password; use `api_key` or a header")]
    Credentials,
    #[error("the header `{0}` cannot be sent: its name or value has characters that HTTP does not allow")]
    Header(String),
    #[error("the header `{0}` belongs to the connection and cannot be set")]
    ReservedHeader(String),
    #[error(
        "`endpoint` leads too far for `azure`: give the address of the resource, such as https://NAME.openai.azure.com, \
         or one that ends in /openai/v1; the deployment's name is `model`"
    )]
    AzurePath,
    #[error("`api_key` has characters that HTTP does not allow")]
    ApiKey,
    #[error("`n_parallel` must be at least 1")]
    NoParallelCalls,
    #[error("no HTTPS client: {0}; is the system's certificate bundle (ca-certificates) installed?")]
    Tls(String),
}

/// An OpenAI-compatible upstream, with its connections and limits.
pub struct Provider {
    client: reqwest::Client,
    address: Address,
    headers: HeaderMap,
    extra: Map<String, Value>,
    permits: Arc<Semaphore>,
    capabilities: CapabilityTable,
    calls: CallSettings,
    upstream: Upstream,
    metrics: Arc<UpstreamMetrics>,
}

impl Provider {
    /// Makes the provider. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the address, the key or a header cannot be used, and for an `https` address on a machine whose
    /// certificates cannot be read.
    pub fn new(spec: ProviderSpec) -> Result<Self, ProviderError> {
        let address = Address::new(&spec.base_url, &spec.dialect)?;
        if spec.calls.n_parallel == 0 {
            return Err(ProviderError::NoParallelCalls);
        }
        let headers = headers(&spec)?;
        let client = http_client::build(&spec.base_url).map_err(ProviderError::Tls)?;
        let upstream = Upstream {
            name: spec.name,
            origin: address.origin(),
            secrets: secrets(spec.api_key, &spec.headers, &spec.body),
        };
        Ok(Self {
            client,
            address,
            headers,
            extra: spec.body,
            permits: Arc::new(Semaphore::new(spec.calls.n_parallel.min(Semaphore::MAX_PERMITS))),
            capabilities: spec.capabilities,
            calls: spec.calls,
            upstream,
            metrics: Arc::new(UpstreamMetrics::unseen()),
        })
    }

    /// The same provider, whose calls are counted here.
    #[must_use]
    pub fn metered(self, metrics: Arc<UpstreamMetrics>) -> Self {
        Self { metrics, ..self }
    }

    /// Counts the attempts of a call, and passes on what is told of them.
    fn counted<F: FnMut(Attempt) + Send>(&self, mut told: F) -> impl FnMut(Attempt) + Send + use<F> {
        let mut meter = self.metrics.call();
        move |attempt| {
            match attempt {
                Attempt::Begun => meter.begun(),
                Attempt::Refused(why) | Attempt::Lost(why) => meter.failed(why),
                Attempt::Answered(_) => meter.answered(),
            }
            told(attempt);
        }
    }

    /// What a model can do, by the name that the provider knows it by.
    pub fn capabilities(&self, model: &str) -> Capabilities {
        self.capabilities.of(model)
    }

    /// Makes a prompt fit for the model that it names, and says of everything that is asked for in another way than it
    /// was.
    ///
    /// # Errors
    ///
    /// What the model cannot do and nothing can stand for, with the parameter to change.
    pub fn fit(&self, prompt: &mut Prompt) -> Result<Vec<String>, Failure> {
        let row = &self.capabilities(&prompt.model);
        fit::fit(prompt, &fit::Target { provider: &self.upstream.name, row, configured: &self.extra })
    }

    /// Serialises what the candidates of a run share. The prompt's own seed is left out: each call brings
    /// its own.
    pub fn prepare(&self, prompt: &Prompt) -> PreparedRequest {
        PreparedRequest::new(prompt, &self.extra, &self.capabilities(&prompt.model))
    }

    /// Asks for one candidate and returns it whole. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// The last attempt's failure, when it is not one to retry or the retries are used up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub async fn complete(
        &self,
        request: &PreparedRequest,
        seed: Option<i64>,
        told: impl FnMut(Attempt) + Send,
    ) -> Result<Completion, Failure> {
        let mut told = self.counted(told);
        let once = |permit| async move {
            let completion = self.complete_once(request, seed).await;
            // Others may call while this one waits to try again.
            drop(permit);
            completion
        };
        let completion = self.attempts(request.queue(), &mut told, once).await?;
        told(Attempt::Answered(completion.usage));
        Ok(completion)
    }

    /// Makes one call as often as it takes. `queue` holds back the calls of a run, of which only one stands in line.
    async fn attempts<T, F: Future<Output = Result<T, AttemptFailure>>>(
        &self,
        queue: &Semaphore,
        told: &mut impl FnMut(Attempt),
        once: impl Fn(OwnedSemaphorePermit) -> F,
    ) -> Result<T, Failure> {
        let mut retries = Retries::new(self.calls.max_retries);
        loop {
            let permit = self.permit(queue).await;
            told(Attempt::Begun);
            match once(permit).await {
                Ok(answer) => return Ok(answer),
                Err(attempt) => {
                    told(Attempt::failed(&attempt));
                    sleep(retries.pause_after(attempt)?).await;
                }
            }
        }
    }

    /// Asks for one candidate as a stream: deltas, then exactly one `Finished` or `Failed`. An attempt that
    /// fails before the model has said anything is retried unseen. `told` hears of every attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream closes the upstream connection at once, or leaves the queue.
    pub fn stream<F: FnMut(Attempt) + Send + 'static>(
        self: &Arc<Self>,
        request: PreparedRequest,
        seed: Option<i64>,
        told: F,
    ) -> impl Stream<Item = StepEvent> + Send + use<F> {
        stream::events(Arc::clone(self), request, seed, self.counted(told))
    }

    /// Waits for a place among the calls in flight.
    ///
    /// The calls of one run queue among themselves first, so that only one of them stands in line here: a run
    /// of a thousand candidates and a run of one take turns.
    async fn permit(&self, queue: &Semaphore) -> OwnedSemaphorePermit {
        const NEVER_CLOSED: &str = "the semaphore is never closed";
        let turn = async {
            let _first_of_its_run = queue.acquire().await.expect(NEVER_CLOSED);
            Arc::clone(&self.permits).acquire_owned().await.expect(NEVER_CLOSED)
        };
        self.metrics.waiting(turn).await
    }

    async fn complete_once(&self, request: &PreparedRequest, seed: Option<i64>) -> Result<Completion, AttemptFailure> {
        let attempt = async {
            let mut response = self.send(self.address.chat(request.model()), request.whole(seed)).await?;
            self.read_whole(request, &mut response).await
        };
        timeout(self.calls.timeout, attempt).await.unwrap_or_else(|_| Err(self.out_of_time()))
    }

    /// Sends one request and waits for the head of a successful response.
    async fn send(&self, url: Url, body: reqwest::Body) -> Result<Response, AttemptFailure> {
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = self.headers.clone();
        *request.body_mut() = Some(body);
        let mut response = self.client.execute(request).await.map_err(|error| self.broken(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = read_refusal(&mut response).await;
        Err(self.upstream.refusal(response.status().as_u16(), response.headers(), &body))
    }

    async fn read_whole(
        &self,
        request: &PreparedRequest,
        response: &mut Response,
    ) -> Result<Completion, AttemptFailure> {
        let body = self.read_body(response, MAX_BODY_BYTES).await?.ok_or_else(|| self.too_large("body"))?;
        response::read(&body, content_type(response), request.readers(), &self.upstream)
    }

    /// The whole body; `None` when it is larger than `limit_bytes`.
    async fn read_body(&self, response: &mut Response, limit_bytes: usize) -> Result<Option<Bytes>, AttemptFailure> {
        let mut next = async || response.chunk().await.map_err(|error| self.broken(&error));
        let Some(first) = next().await? else { return Ok(Some(Bytes::new())) };
        // Most answers arrive in one piece, which then is not copied.
        let Some(second) = next().await? else {
            return Ok((first.len() <= limit_bytes).then_some(first));
        };
        let mut body = BytesMut::from(first);
        body.extend_from_slice(&second);
        while let Some(piece) = next().await? {
            if body.len() + piece.len() > limit_bytes {
                return Ok(None);
            }
            body.extend_from_slice(&piece);
        }
        Ok((body.len() <= limit_bytes).then(|| body.freeze()))
    }

    fn broken(&self, error: &reqwest::Error) -> AttemptFailure {
        let mut failure = http_client::describe(error, &self.upstream.origin);
        failure.message = self.upstream.clean(&failure.message);
        let attempt = AttemptFailure::from(failure);
        if error.is_connect() { attempt.unreachable() } else { attempt }
    }

    fn too_large(&self, what: &str) -> AttemptFailure {
        let what = format!("a {what} of more than {} MiB", MAX_BODY_BYTES >> 20);
        AttemptFailure::fatal(malformed(&self.upstream, &what).failure)
    }

    fn out_of_time(&self) -> AttemptFailure {
        let limit = self.calls.timeout.as_secs_f64();
        let message = format!("{} did not answer within {limit} s; `timeout_ms` sets this limit", self.upstream.name);
        Failure::new(FailureKind::Timeout, message).into()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configured body fields and an address's query may hold what a log must not.
        let Upstream { name, origin, .. } = &self.upstream;
        formatter.debug_struct("Provider").field("name", name).field("origin", origin).finish_non_exhaustive()
    }
}

/// As much of a refusal's body as comes: one that breaks off, or never ends, is still a refusal.
async fn read_refusal(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(piece)) = response.chunk().await {
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

fn content_type(response: &Response) -> Option<&str> {
    response.headers().get(CONTENT_TYPE)?.to_str().ok()
}

fn headers(spec: &ProviderSpec) -> Result<HeaderMap, ProviderError> {
    const RESERVED: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "upgrade"];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A token in place of the key would be doubted beside it.
    let is_authorized = spec.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
    if let Some(key) = spec.api_key.as_ref().filter(|_| !is_authorized) {
        let (name, value) = match spec.dialect {
            Dialect::OpenAi => (AUTHORIZATION, format!("Bearer {}", key.expose_secret())),
            Dialect::Azure { .. } => (HeaderName::from_static("api-key"), key.expose_secret().to_owned()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| ProviderError::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    for (name, value) in &spec.headers {
        let invalid = || ProviderError::Header(name.clone());
        let parsed: HeaderName = name.parse().map_err(|_| invalid())?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(ProviderError::ReservedHeader(name.clone()));
        }
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// What failures must not repeat: the key, and what headers and body fields hold in secret. A header such as `Bearer abc` is secret in its parts, where they are long
/// enough to be one; the shorter words of a title would be found in any text.
fn secrets(
    api_key: Option<SecretString>,
    headers: &[(String, SecretString)],
    body: &Map<String, Value>,
) -> Vec<SecretString> {
    const MIN_HEADER_PART_BYTES: usize = 8;
    let mut secrets: Vec<SecretString> = api_key.into_iter().collect();
    for (_, value) in headers {
        let parts = value.expose_secret().split_ascii_whitespace();
        secrets.extend(parts.filter(|part| part.len() >= MIN_HEADER_PART_BYTES).map(SecretString::from));
    }
    visit_secrets("extra_args", &mut body.clone(), &mut |_, text| secrets.push(SecretString::from(text.as_str())));
    // A secret that contains another goes first, so that nothing of it is left over.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    secrets
}
