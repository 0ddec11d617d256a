//! One provider, whichever protocol it speaks.

use std::sync::Arc;

use futures_util::future::Either;
use futures_util::{FutureExt, Stream};

use super::attempts::Attempt;
use super::findings::Findings;
use super::limiter::Caller;
use super::openai::{Members, NoneCame};
use super::shared::Shared;
use super::spec::{Dialect, ProviderError, ProviderSpec};
use super::{bedrock, openai};
use crate::completion::{Completion, Prompt, StepEvent};
use crate::config::capabilities::Capabilities;
use crate::failure::{Failure, FailureKind};
use crate::metrics::UpstreamMetrics;

/// A remote provider. Clones are the same one.
#[derive(Debug, Clone)]
pub enum Provider {
    OpenAi(Arc<openai::Provider>),
    Bedrock(Arc<bedrock::Provider>),
}

/// A request for chat completions that is ready to be sent, as often as it takes, by the provider that prepared it.
#[derive(Debug, Clone)]
pub enum PreparedRequest {
    OpenAi(openai::PreparedRequest),
    Bedrock(bedrock::PreparedRequest),
}

/// A request for a raw text to be continued, likewise.
#[derive(Debug, Clone)]
pub struct TextCall(Result<openai::TextCall, Failure>);

impl Provider {
    /// Makes the provider, whose calls are counted in `metrics`. Nothing is sent yet. What it has in common with others
    /// comes from `shared`, as it stands.
    ///
    /// # Errors
    ///
    /// When the address, the key or a header cannot be used, and for an `https` address on a machine whose
    /// certificates cannot be read.
    pub fn metered(spec: ProviderSpec, shared: &Shared, metrics: Arc<UpstreamMetrics>) -> Result<Self, ProviderError> {
        match &spec.dialect {
            Dialect::OpenAi | Dialect::Azure { .. } => {
                openai::Provider::metered(spec, shared, metrics).map(|it| Self::OpenAi(it.into()))
            }
            Dialect::Bedrock(aws) => {
                let aws = aws.clone();
                bedrock::Provider::metered(spec, &aws, shared, metrics).map(|it| Self::Bedrock(it.into()))
            }
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        match self {
            Self::OpenAi(provider) => provider.name(),
            Self::Bedrock(provider) => provider.name(),
        }
    }

    /// Scheme, host and port of each member.
    pub fn origins(&self) -> Vec<&str> {
        match self {
            Self::OpenAi(provider) => provider.origins().collect(),
            Self::Bedrock(provider) => provider.origins().collect(),
        }
    }

    /// What a model can do, by the name that the provider knows it by.
    pub fn capabilities(&self, model: &str) -> Capabilities {
        match self {
            Self::OpenAi(provider) => provider.capabilities(model),
            Self::Bedrock(provider) => provider.capabilities(model),
        }
    }

    /// Holds the upstreams to this provider's limits: its configuration is the one that is in effect.
    pub fn take_effect(&self) {
        match self {
            Self::OpenAi(provider) => provider.take_effect(),
            Self::Bedrock(provider) => provider.take_effect(),
        }
    }

    /// Whether connections to its members cost next to nothing: they are neither secured nor shared by several calls.
    pub fn is_near(&self) -> bool {
        match self {
            Self::OpenAi(provider) => provider.is_near(),
            // AWS is reached over TLS.
            Self::Bedrock(_) => false,
        }
    }

    /// Makes a prompt fit for the model that it names, and says of everything that is asked for in another way than it
    /// was.
    ///
    /// # Errors
    ///
    /// What the model cannot do and nothing can stand for, with the parameter to change.
    pub fn fit(&self, prompt: &mut Prompt) -> Result<Vec<String>, Failure> {
        match self {
            Self::OpenAi(provider) => provider.fit(prompt),
            Self::Bedrock(provider) => provider.fit(prompt),
        }
    }

    /// Whether a field that is none of OpenAI's is no stranger to the API of this model.
    pub fn knows(&self, model: &str, field: &str) -> bool {
        match self {
            // What is behind such an address, nobody knows.
            Self::OpenAi(_) => false,
            Self::Bedrock(_) => bedrock::knows(model, field),
        }
    }

    /// Serialises what the candidates of a run share, on behalf of a request, whose calls take their turns as one.
    pub fn prepare(&self, prompt: &Prompt, caller: Caller) -> PreparedRequest {
        match self {
            Self::OpenAi(provider) => PreparedRequest::OpenAi(provider.prepare(prompt).for_caller(caller)),
            Self::Bedrock(provider) => PreparedRequest::Bedrock(provider.prepare(prompt).for_caller(caller)),
        }
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
        match (self, request) {
            (Self::OpenAi(provider), PreparedRequest::OpenAi(request)) => provider.complete(request, seed, told).await,
            (Self::Bedrock(provider), PreparedRequest::Bedrock(request)) => {
                // A call's future is moved as often as there are calls: the larger of the two is not part of it.
                provider.complete(request, told).boxed().await
            }
            _ => Err(of_another()),
        }
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
        let failed = |failure| futures_util::stream::iter([StepEvent::Failed(failure)]);
        match (self, request) {
            (Self::OpenAi(provider), PreparedRequest::OpenAi(request)) => {
                Either::Left(Either::Left(provider.stream(request, seed, told)))
            }
            (Self::Bedrock(provider), PreparedRequest::Bedrock(request)) => match provider.stream(request, told) {
                Ok(events) => Either::Left(Either::Right(events)),
                Err(failure) => Either::Right(failed(failure)),
            },
            _ => Either::Right(failed(of_another())),
        }
    }

    /// How many candidates to ask a model for in one call; 1 where each is to be a call of its own.
    pub fn most_together(&self, model: &str) -> usize {
        match self {
            Self::OpenAi(provider) => provider.most_together(model),
            // Converse answers once.
            Self::Bedrock(_) => 1,
        }
    }

    /// Asks for `count` candidates in one call, and returns those that came: at least one, maybe fewer than were asked
    /// for, and none that was not. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete`], with the refusal where single calls may fare better. A candidate that came and cannot
    /// be read fails alone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub async fn complete_several(
        &self,
        request: &PreparedRequest,
        count: usize,
        seed: Option<i64>,
        told: impl FnMut(Attempt) + Send,
    ) -> Result<Vec<Result<Completion, Failure>>, NoneCame> {
        match (self, request) {
            (Self::OpenAi(provider), PreparedRequest::OpenAi(request)) => {
                provider.complete_several(request, count, seed, told).await
            }
            _ => match self.complete(request, seed, told).await {
                Ok(completion) => Ok(vec![Ok(completion)]),
                Err(failure) => Err(NoneCame { failure, refusal: None }),
            },
        }
    }

    /// Asks the server what it can do with a model. Nothing is retried.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, does not answer the first question in time, refuses the key or does not know
    /// the model.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections.
    pub async fn probe(&self, model: &str) -> Result<Findings, Failure> {
        match self {
            Self::OpenAi(provider) => provider.probe(model).await,
            Self::Bedrock(provider) => provider.probe(model).await,
        }
    }

    /// Serialises a request for a raw text of the upstream's `model` to be continued.
    pub fn prepare_text(&self, model: &str, fields: &Members, caller: Caller) -> TextCall {
        TextCall(match self {
            Self::OpenAi(provider) => Ok(provider.prepare_text(model, fields).for_caller(caller)),
            Self::Bedrock(_) => {
                let message = "Bedrock's Converse API continues no raw texts; use chat completions";
                Err(Failure::new(FailureKind::NotSupported, message))
            }
        })
    }

    /// Sends the request and returns the answer whole. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete`], and where the provider continues no raw texts.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the upstream connection at once, or leaves the queue.
    pub async fn complete_text(&self, call: &TextCall, told: impl FnMut(Attempt) + Send) -> Result<Members, Failure> {
        let call = call.0.as_ref().map_err(Failure::clone)?;
        match self {
            Self::OpenAi(provider) => provider.complete_text(call, told).await,
            Self::Bedrock(_) => Err(of_another()),
        }
    }

    /// Sends the request and returns the chunks of the answer as they come. An attempt that fails before the first
    /// is retried unseen. `told` hears of every attempt.
    ///
    /// # Errors
    ///
    /// As [`Provider::complete_text`]; what goes wrong later ends the stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future or the stream closes the upstream connection at once, or leaves the queue.
    pub async fn stream_text<F: FnMut(Attempt) + Send + 'static>(
        &self,
        call: &TextCall,
        told: F,
    ) -> Result<impl Stream<Item = Result<Members, Failure>> + Send + use<F>, Failure> {
        let call = call.0.as_ref().map_err(Failure::clone)?;
        match self {
            Self::OpenAi(provider) => provider.stream_text(call, told).await,
            Self::Bedrock(_) => Err(of_another()),
        }
    }
}

impl From<Arc<openai::Provider>> for Provider {
    fn from(provider: Arc<openai::Provider>) -> Self {
        Self::OpenAi(provider)
    }
}

/// A request that another provider has prepared.
fn of_another() -> Failure {
    Failure::new(FailureKind::Internal, "the request was prepared for another protocol")
}
