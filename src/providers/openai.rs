//! Any server that speaks OpenAI's chat completions over HTTP.
//!
//! One call is one candidate, or several where the server honours `n` (`together.rs`). The request is
//! serialised once for a run and shared by its candidates; the answer's message stays as the upstream wrote
//! it. Everything that can go wrong comes back as a [`Failure`] that never holds a key.

mod address;
mod chunks;
mod error;
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
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

pub use self::request::PreparedRequest;
pub use self::text::{Members, TextCall};
pub use self::together::{NoneCame, Refusal};

use self::address::Address;
use self::server::Server;
use super::attempts::{Attempt, Attempts};
use super::fit;
use super::gate::Pulse;
use super::http_client::{Target, Transport};
use super::members::{Pool, terms};
use super::shared::Shared;
use super::spec::{Brought, Dialect, ProviderError, ProviderSpec};
use super::upstream::MAX_BODY_BYTES;
use crate::completion::{Completion, Prompt, StepEvent};
use crate::config::capabilities::{Capabilities, CapabilityTable};
use crate::config::endpoint::Member;
use crate::failure::Failure;
use crate::metrics::UpstreamMetrics;

/// An OpenAI-compatible upstream, or a pool of them.
pub struct Provider {
    pool: Arc<Pool<Server>>,
    extra: Map<String, Value>,
    capabilities: CapabilityTable,
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
        spec.check()?;
        let headers = headers(&spec)?;
        let members = spec.members.iter().map(|member| server(member, &spec, &headers, shared).map(Arc::new));
        let members = members.collect::<Result<_, _>>()?;
        let ProviderSpec { name, body, capabilities, calls, .. } = spec;
        Ok(Self { pool: Arc::new(Pool { name, members, calls, metrics }), extra: body, capabilities })
    }

    /// Holds the upstreams to this provider's limits: its configuration is the one that is in effect. Calls that are
    /// under way, or wait, stay.
    pub fn take_effect(&self) {
        self.pool.take_effect();
    }

    /// Whether connections to its members cost next to nothing: they are neither secured nor shared by several calls.
    pub fn is_near(&self) -> bool {
        self.pool.members.iter().all(|server| server.is_near)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.pool.name
    }

    /// Scheme, host and port of each member.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.pool.origins()
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
        fit::fit(prompt, &fit::Target { provider: &self.pool.name, row, configured: &self.extra })
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
        let mut told = self.pool.counted(told);
        let mut attempts =
            Attempts::new(&self.pool, request.caller().clone(), request.model()).seeded(request.sends(seed));
        let once = |server: Arc<Server>, pulse: Pulse| async move {
            let began = Instant::now();
            let target = server.address.chat(&request.model());
            let mut answer = server.send(&target, request.whole(seed)).await?;
            self.pool.metrics.first_token(began.elapsed());
            pulse.felt();
            let body = answer.body(MAX_BODY_BYTES).await?.ok_or_else(|| server.upstream.too_large("body"))?;
            response::read(&body, answer.content_type(), request.readers(), &server.upstream)
        };
        let (completion, turn) = attempts.make(&self.pool, &mut told, once).await?;
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
        &self,
        request: PreparedRequest,
        seed: Option<i64>,
        told: F,
    ) -> impl Stream<Item = StepEvent> + Send + use<F> {
        stream::events(self, request, seed, self.pool.counted(told))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configured body fields and an address's query may hold what a log must not.
        let origins: Vec<&str> = self.origins().collect();
        formatter
            .debug_struct("Provider")
            .field("name", &self.pool.name)
            .field("origins", &origins)
            .finish_non_exhaustive()
    }
}

fn server(member: &Member, spec: &ProviderSpec, headers: &HeaderMap, shared: &Shared) -> Result<Server, ProviderError> {
    let calls = spec.calls;
    let address = Address::new(&member.url, &spec.dialect)?;
    let transport = Transport::to(&member.url, calls.http2, calls.connect_timeout);
    let client = shared.clients.client(transport).map_err(ProviderError::Tls)?;
    let is_near = transport.is_cheap();
    let origin = address.origin();
    let gate = shared.gate(&origin, address.path(), spec.key(), terms(&calls));
    if spec.brought == Brought::Nothing {
        gate.list(&spec.name);
    }
    let habits = shared.habits(&origin);
    let upstream = spec.upstream(origin);
    let (mut headers, weight) = (headers.clone(), member.weight);
    client.dress(&mut headers, &Target::new(member.url.clone()));
    Ok(Server { client, is_near, address, headers, calls, upstream, weight, gate, habits })
}

fn headers(spec: &ProviderSpec) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A token in place of the key would be doubted beside it.
    let is_authorized = spec.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
    if let Some(key) = spec.api_key.as_ref().filter(|_| !is_authorized) {
        let (name, value) = if let Dialect::Azure { .. } = spec.dialect {
            (HeaderName::from_static("api-key"), key.expose_secret().to_owned())
        } else {
            (AUTHORIZATION, format!("Bearer {}", key.expose_secret()))
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| ProviderError::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.extend(spec.own_headers()?);
    Ok(headers)
}
