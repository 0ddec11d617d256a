//! Any server that speaks OpenAI's chat completions over HTTP.
//!
//! One call is one candidate, or several where the server honours `n` (`together.rs`). The request is
//! serialised once for a run and shared by its candidates; the answer's message stays as the upstream wrote
//! it. Everything that can go wrong comes back as a [`Failure`] that never holds a key.

mod address;
mod attempts;
mod chunks;
mod error;
mod fit;
mod logprobs;
mod probe;
mod request;
mod response;
mod server;
mod shape;
mod stream;
mod text;
mod together;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::Stream;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

pub use self::address::Dialect;
pub use self::probe::Findings;
pub use self::request::PreparedRequest;
pub use self::text::{Members, TextCall};
pub use self::together::{NoneCame, Refusal};

use self::address::Address;
use self::attempts::Attempts;
use self::error::{Upstream, Wording};
use self::server::{MAX_BODY_BYTES, Server};
use super::http_client::Transport;
use super::limiter::Limits;
use super::retry::AttemptFailure;
use super::shared::{Pulse, Shared, Terms};
use crate::completion::{Completion, Prompt, StepEvent, Usage};
use crate::config::calls::CallSettings;
use crate::config::capabilities::{Capabilities, CapabilityTable};
use crate::config::endpoint::Member;
use crate::config::extra_args::visit_secrets;
use crate::failure::Failure;
use crate::metrics::UpstreamMetrics;

/// The word for an attempt that no upstream has seen, since there was no connection.
const UNREACHABLE: &str = "unreachable";

/// What makes a provider: where it is, what to send along, and its limits.
#[derive(Clone)]
pub struct ProviderSpec {
    /// What failures call it, for example `openrouter`.
    pub name: String,
    /// The addresses that `/chat/completions` is appended to, usually ending in `/v1`; at least one. A query stays.
    pub members: Vec<Member>,
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
    pub brought: Brought,
}

/// What of a provider a request has brought itself. Only what is all the operator's is told of to those who watch over
/// the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    Nothing,
    /// The key, to an address that is configured.
    Key,
    /// The address, and the key if there is one.
    Endpoint,
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
    /// The same, but so many of the candidates that it asked for did not come.
    AnsweredInPart { usage: Usage, missing: usize },
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
    #[error("`endpoint` must name at least one address")]
    NoMembers,
    #[error("no HTTPS client: {0}; is the system's certificate bundle (ca-certificates) installed?")]
    Tls(String),
}

/// An OpenAI-compatible upstream, or a pool of them.
pub struct Provider {
    name: String,
    members: Vec<Arc<Server>>,
    extra: Map<String, Value>,
    capabilities: CapabilityTable,
    calls: CallSettings,
    metrics: Arc<UpstreamMetrics>,
}

impl Provider {
    /// A provider that stands alone, whose calls are counted nowhere.
    ///
    /// # Errors
    ///
    /// As [`Provider::metered`].
    pub fn new(spec: ProviderSpec, shared: &Shared) -> Result<Self, ProviderError> {
        Self::metered(spec, shared, Arc::new(UpstreamMetrics::unseen()))
    }

    /// Makes the provider, whose calls are counted in `metrics`. Nothing is sent yet. What it has in common with others
    /// comes from `shared`, as it stands.
    ///
    /// # Errors
    ///
    /// When the address, the key or a header cannot be used, and for an `https` address on a machine whose
    /// certificates cannot be read.
    pub fn metered(spec: ProviderSpec, shared: &Shared, metrics: Arc<UpstreamMetrics>) -> Result<Self, ProviderError> {
        if spec.calls.n_parallel == 0 {
            return Err(ProviderError::NoParallelCalls);
        }
        if spec.members.is_empty() {
            return Err(ProviderError::NoMembers);
        }
        let headers = headers(&spec)?;
        let members = spec.members.iter().map(|member| server(member, &spec, &headers, shared).map(Arc::new));
        let members = members.collect::<Result<_, _>>()?;
        let ProviderSpec { name, body, capabilities, calls, .. } = spec;
        Ok(Self { name, members, extra: body, capabilities, calls, metrics })
    }

    /// Holds the upstreams to this provider's limits: its configuration is the one that is in effect. Calls that are
    /// under way, or wait, stay.
    pub fn take_effect(&self) {
        for server in &self.members {
            server.gate.hold_to(terms(&self.calls));
        }
    }

    /// Whether connections to its members cost next to nothing: they are neither secured nor shared by several calls.
    pub fn is_near(&self) -> bool {
        self.members.iter().all(|server| server.is_near)
    }

    /// Counts the attempts of a call, and passes on what is told of them.
    fn counted<F: FnMut(Attempt) + Send>(&self, mut told: F) -> impl FnMut(Attempt) + Send + use<F> {
        let mut meter = self.metrics.call();
        move |attempt| {
            match attempt {
                Attempt::Begun => meter.begun(),
                Attempt::Refused(why) | Attempt::Lost(why) => meter.failed(why),
                Attempt::Answered(_) | Attempt::AnsweredInPart { .. } => meter.answered(),
            }
            told(attempt);
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scheme, host and port of each member.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|server| server.upstream.origin.as_str())
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
        fit::fit(prompt, &fit::Target { provider: &self.name, row, configured: &self.extra })
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
        let mut attempts = Attempts::new(self, request.caller().clone(), request.model()).seeded(request.sends(seed));
        let once = |server: Arc<Server>, pulse: Pulse| async move {
            let began = Instant::now();
            let mut answer = server.send(server.address.chat(&request.model()), request.whole(seed)).await?;
            self.metrics.first_token(began.elapsed());
            pulse.felt();
            let body = answer.body(MAX_BODY_BYTES).await?.ok_or_else(|| server.too_large("body"))?;
            response::read(&body, answer.content_type(), request.readers(), &server.upstream)
        };
        let (completion, turn) = attempts.make(self, &mut told, once).await?;
        attempts.answered(turn);
        told(Attempt::Answered(completion.usage));
        Ok(completion)
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
}

impl fmt::Debug for ProviderSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Body fields are resolved here, with the secrets that they refer to, and an address's query may hold one too.
        let origins: Vec<String> =
            self.members.iter().map(|member| member.url.origin().ascii_serialization()).collect();
        formatter
            .debug_struct("ProviderSpec")
            .field("name", &self.name)
            .field("origins", &origins)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configured body fields and an address's query may hold what a log must not.
        let origins: Vec<&str> = self.origins().collect();
        formatter.debug_struct("Provider").field("name", &self.name).field("origins", &origins).finish_non_exhaustive()
    }
}

fn server(member: &Member, spec: &ProviderSpec, headers: &HeaderMap, shared: &Shared) -> Result<Server, ProviderError> {
    let calls = spec.calls;
    let address = Address::new(&member.url, &spec.dialect)?;
    let transport = Transport::to(&member.url, calls.http2, calls.connect_timeout);
    let client = shared.clients.client(transport).map_err(ProviderError::Tls)?;
    let is_near = transport.is_cheap();
    let origin = address.origin();
    let gate = shared.gate(&origin, address.path(), key(spec), terms(&calls));
    if spec.brought == Brought::Nothing {
        gate.list(&spec.name);
    }
    let habits = shared.habits(&origin);
    let upstream = Upstream { name: spec.name.clone(), origin, secrets: secrets(spec), wording: wording(spec) };
    let (headers, weight) = (headers.clone(), member.weight);
    Ok(Server { client, is_near, address, headers, calls, upstream, weight, gate, habits })
}

fn terms(calls: &CallSettings) -> Terms {
    let limits = Limits { n_parallel: calls.n_parallel, max_queued: calls.max_queued };
    Terms { limits, window: calls.breaker.unwrap_or_default().window }
}

/// What the upstream knows its client by.
fn key(spec: &ProviderSpec) -> Option<&str> {
    let header = spec.headers.iter().find(|(name, _)| spec.dialect.is_credential(name)).map(|(_, value)| value);
    header.or(spec.api_key.as_ref()).map(ExposeSecret::expose_secret)
}

/// How failures speak of what the upstream may refuse, to whoever can change it.
fn wording(spec: &ProviderSpec) -> Wording {
    let by_header = spec.headers.iter().any(|(name, _)| spec.dialect.is_credential(name));
    let key = match (spec.brought, key(spec).is_some()) {
        (Brought::Nothing, true) if by_header => "the key that itsd sends (in `extra_args.headers` of /configure)",
        (Brought::Nothing, true) => "the key that itsd sends (`api_key` in /configure, or the provider's variable)",
        (Brought::Nothing, false) => "a call without a key (`api_key` in /configure would send one)",
        (_, true) => "the key that the request brought (`X-ITS-API-Key`)",
        (_, false) => "a call without a key (`X-ITS-API-Key` would send one)",
    };
    let endpoint = if spec.brought == Brought::Endpoint { "X-ITS-Endpoint" } else { "endpoint" };
    Wording { key, endpoint }
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

/// What failures must not repeat: the key, and what headers and body fields hold in secret. A header such as
/// `Bearer abc` is secret in its parts, where they are long enough to be one; the shorter words of a title would be
/// found in any text.
fn secrets(spec: &ProviderSpec) -> Vec<SecretString> {
    const MIN_HEADER_PART_BYTES: usize = 8;
    let mut secrets: Vec<SecretString> = spec.api_key.iter().cloned().collect();
    for (_, value) in &spec.headers {
        let parts = value.expose_secret().split_ascii_whitespace();
        secrets.extend(parts.filter(|part| part.len() >= MIN_HEADER_PART_BYTES).map(SecretString::from));
    }
    let mut body = spec.body.clone();
    visit_secrets("extra_args", &mut body, &mut |_, text| secrets.push(SecretString::from(text.as_str())));
    // A secret that contains another goes first, so that nothing of it is left over.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    secrets
}
