//! AWS Bedrock, by its Converse API.
//!
//! The SDK finds credentials, signs, and reads the frames of streams; the connections, the limits and the attempts are
//! those of every other provider. What is asked and what is answered is JSON of our own writing and reading: the SDK's
//! types for it are maps without an order, so that tools would reach the model in another order each time, which no
//! prompt cache survives, and a run's candidates could not share one text.

mod address;
mod asked;
mod client;
mod credentials;
mod draft;
mod error;
mod fault;
mod intercept;
mod probe;
mod profiles;
mod request;
mod response;
mod said;
mod stream;
mod strike;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::Stream;
use serde_json::{Map, Value};

pub use self::address::usual_address;
pub use self::credentials::{Aws, Credentials, Keys};
pub use self::profiles::{ProfileFiles, ProfileSays};
pub use self::request::PreparedRequest;
pub(super) use self::request::knows;

use self::client::Server;
use super::attempts::{Attempt, Attempts};
use super::fit;
use super::gate::Pulse;
use super::members::Pool;
use super::shared::Shared;
use super::spec::{ProviderError, ProviderSpec};
use super::streamed;
use crate::completion::{Completion, Prompt, StepEvent};
use crate::config::capabilities::{Capabilities, CapabilityTable};
use crate::failure::Failure;
use crate::metrics::UpstreamMetrics;

/// Bedrock's runtime in one region, or a pool of addresses that lead to it.
pub struct Provider {
    pool: Arc<Pool<Server>>,
    extra: Map<String, Value>,
    capabilities: CapabilityTable,
}

impl Provider {
    /// Makes the provider at this place in AWS, whose calls are counted in `metrics`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the address, the key or a header cannot be used, and for an `https` address on a machine whose
    /// certificates cannot be read.
    pub(super) fn metered(
        spec: ProviderSpec,
        aws: &Aws,
        shared: &Shared,
        metrics: Arc<UpstreamMetrics>,
    ) -> Result<Self, ProviderError> {
        /// What the SDK writes of a signature.
        const OF_THE_SIGNATURE: [&str; 3] = ["authorization", "x-amz-date", "x-amz-security-token"];
        spec.check()?;
        let is_of_signature = |name: &str| OF_THE_SIGNATURE.iter().any(|own| own.eq_ignore_ascii_case(name));
        if let Some((name, _)) = spec.headers.iter().find(|(name, _)| is_of_signature(name)) {
            return Err(ProviderError::HeaderOfSignature(name.clone()));
        }
        // One for all members: whoever is asked for credentials is asked once.
        let signer = aws.signer(shared)?;
        let server = |member| Server::new(member, &spec, aws, &signer, shared).map(Arc::new);
        let members = spec.members.iter().map(server);
        let members = members.collect::<Result<_, _>>()?;
        let ProviderSpec { name, body, capabilities, calls, .. } = spec;
        Ok(Self { pool: Arc::new(Pool { name, members, calls, metrics }), extra: body, capabilities })
    }

    pub(super) fn name(&self) -> &str {
        &self.pool.name
    }

    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.pool.origins()
    }

    pub(super) fn take_effect(&self) {
        self.pool.take_effect();
    }

    pub(super) fn capabilities(&self, model: &str) -> Capabilities {
        self.capabilities.of(model)
    }

    /// As [`super::Provider::fit`].
    pub(super) fn fit(&self, prompt: &mut Prompt) -> Result<Vec<String>, Failure> {
        let row = &self.capabilities(&prompt.model);
        request::before_fitting(prompt, row)?;
        let mut warnings = fit::fit(prompt, &fit::Target { provider: &self.pool.name, row, configured: &self.extra })?;
        // What the API has no words for is refused before anything is spent.
        warnings.extend(request::told(prompt, &self.extra, row)?);
        Ok(warnings)
    }

    /// Writes what the candidates of a run share. What cannot be written fails when it is sent.
    pub(super) fn prepare(&self, prompt: &Prompt) -> PreparedRequest {
        PreparedRequest::new(prompt, &self.extra, &self.capabilities(&prompt.model))
    }

    /// Asks for one candidate and returns it whole. `told` hears of every attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub(super) async fn complete(
        &self,
        request: &PreparedRequest,
        told: impl FnMut(Attempt) + Send,
    ) -> Result<Completion, Failure> {
        let body = request.body().map_err(Failure::clone)?;
        let mut told = self.pool.counted(told);
        let mut attempts = Attempts::new(&self.pool, request.caller().clone(), request.model());
        let once = |server: Arc<Server>, _: Pulse| async move {
            let began = Instant::now();
            let answer = server.converse(&request.model(), body).await?;
            self.pool.metrics.first_token(began.elapsed());
            response::read(&answer, &server.upstream)
        };
        let (completion, turn) = attempts.make(&self.pool, &mut told, once).await?;
        attempts.answered(turn);
        told(Attempt::Answered(completion.usage));
        Ok(completion)
    }

    /// Asks for one candidate as a stream: deltas, then exactly one `Finished` or `Failed`.
    ///
    /// # Errors
    ///
    /// When the request cannot be written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream closes the upstream connection at once, or leaves the queue.
    pub(super) fn stream<F: FnMut(Attempt) + Send + 'static>(
        &self,
        request: PreparedRequest,
        told: F,
    ) -> Result<impl Stream<Item = StepEvent> + Send + use<F>, Failure> {
        let body = request.body().map_err(Failure::clone)?.clone();
        let attempts = Attempts::new(&self.pool, request.caller().clone(), request.model());
        let open = move |server: Arc<Server>| {
            let (model, body) = (request.model(), body.clone());
            async move { stream::Events::open(server, &model, &body).await }
        };
        Ok(streamed::events(Arc::clone(&self.pool), attempts, open, self.pool.counted(told)))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Configured body fields may hold what a log must not.
        let origins: Vec<&str> = self.origins().collect();
        formatter
            .debug_struct("Provider")
            .field("name", &self.pool.name)
            .field("origins", &origins)
            .finish_non_exhaustive()
    }
}
