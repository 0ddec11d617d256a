//! One address of Bedrock's runtime, and an attempt's exchange with it through the SDK.
//!
//! The SDK tries once: whether to try again, and how long to wait for what, is decided where it is for all providers.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::http::{HttpRequest, HttpResponse};
use aws_sdk_bedrockruntime::config::retry::RetryConfig;
use aws_sdk_bedrockruntime::config::timeout::TimeoutConfig;
use aws_sdk_bedrockruntime::config::{
    AppName, BehaviorVersion, Config, IdentityCache, Region, StalledStreamProtectionConfig, Token,
};
use aws_sdk_bedrockruntime::error::SdkError;
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamOutput;
use aws_smithy_runtime_api::client::auth::http::HTTP_BEARER_AUTH_SCHEME_ID;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::address;
use super::asked::Asked;
use super::credentials::{Aws, Signer};
use super::error;
use super::intercept::{EventsOnly, KeptAnswer};
use super::transport::Transport;
use crate::config::calls::CallSettings;
use crate::config::endpoint;
use crate::failure::FailureKind;
use crate::providers::gate::Gate;
use crate::providers::http_client;
use crate::providers::members::{Member, terms};
use crate::providers::retry::AttemptFailure;
use crate::providers::shared::Shared;
use crate::providers::spec::{Brought, ProviderError, ProviderSpec};
use crate::providers::upstream::{Upstream, malformed};

/// A member of a provider's pool, with all that it takes to call it.
pub(super) struct Server {
    client: Client,
    /// Who is asked for the credentials of its calls, if somebody is.
    asked: Option<Arc<Asked>>,
    /// What the configuration has sent along.
    headers: HeaderMap,
    calls: CallSettings,
    pub upstream: Arc<Upstream>,
    weight: f64,
    gate: Arc<Gate>,
}

impl Server {
    pub fn new(
        member: &endpoint::Member,
        spec: &ProviderSpec,
        aws: &Aws,
        signer: &Signer,
        shared: &Shared,
    ) -> Result<Self, ProviderError> {
        let calls = spec.calls;
        let headers = spec.own_headers()?;
        let base_url = address::base(&member.url);
        let origin = member.url.origin().ascii_serialization();
        let key = spec.key().map(str::to_owned).unwrap_or_else(|| aws.name());
        let gate = shared.gate(&origin, member.url.path(), Some(&key), terms(&calls));
        if spec.brought == Brought::Nothing {
            gate.list(&spec.name);
        }
        let upstream = Arc::new(spec.upstream(origin));
        let transport = http_client::Transport::to(&member.url, calls.http2, calls.connect_timeout);
        let client = shared.clients.client(transport).map_err(ProviderError::Tls)?;
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .app_name(AppName::new("itsd").expect("it is letters"))
            .region(Region::new(aws.region.clone()))
            .endpoint_url(base_url)
            .http_client(Transport::new(client, calls, Arc::clone(&upstream)))
            // Who is asked for credentials keeps them.
            .identity_cache(IdentityCache::no_cache())
            // The SDK's notion of AWS's time stays on: it heals a wrong clock. It takes an answer's date for that of the
            // middle of the call, so that after a whole answer of more than ten minutes (and less than fifteen, beyond
            // which it believes none) it signs more than five minutes ahead, which AWS does not take. That refusal
            // brings the right time again and is retried as any that is about the time.
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let config = match (&spec.api_key, signer) {
            (Some(key), _) => config
                .bearer_token(Token::new(key.expose_secret(), None))
                .auth_scheme_preference([HTTP_BEARER_AUTH_SCHEME_ID]),
            (None, Signer::Keys(keys)) => config.credentials_provider(keys.clone()),
            (None, Signer::Asked(asked)) => {
                let asked: Arc<dyn ProvideCredentials> = asked.clone();
                config.credentials_provider(SharedCredentialsProvider::from(asked))
            }
            (None, Signer::Nobody) => config,
        };
        let asked = match signer {
            Signer::Asked(asked) if spec.api_key.is_none() => Some(Arc::clone(asked)),
            _ => None,
        };
        let client = Client::from_conf(config.build());
        Ok(Self { client, asked, headers, calls, upstream, weight: member.weight, gate })
    }

    /// Asks for a whole answer, which is returned as it came.
    pub async fn converse(&self, model: &str, body: &Bytes) -> Result<Bytes, AttemptFailure> {
        let answer = KeptAnswer::default();
        let is_written = Arc::<AtomicBool>::default();
        let call = self
            .client
            .converse()
            .model_id(model)
            .customize()
            .mutate_request(self.writing(body, &is_written))
            .interceptor(answer.clone())
            .send();
        self.made(call, &is_written).await?;
        answer.take().ok_or_else(|| malformed(&self.upstream, "no body"))
    }

    /// Asks for a stream and waits until its head is here.
    pub async fn converse_stream(&self, model: &str, body: &Bytes) -> Result<ConverseStreamOutput, AttemptFailure> {
        let is_written = Arc::<AtomicBool>::default();
        let call = self
            .client
            .converse_stream()
            .model_id(model)
            .customize()
            .mutate_request(self.writing(body, &is_written))
            .interceptor(EventsOnly { upstream: Arc::clone(&self.upstream) })
            .send();
        self.made(call, &is_written).await
    }

    /// The limits of an exchange hold from its first byte on; that credentials are waited for is within these. Until it
    /// `is_written` nothing has been sent.
    async fn made<T, E: Error + 'static>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        is_written: &AtomicBool,
    ) -> Result<T, AttemptFailure> {
        let deadline = Instant::now() + self.calls.timeout;
        match timeout_at(deadline, unlogged(call)).await {
            Ok(made) => made.map_err(|error| {
                let attempt = error::of_call(error, self);
                if let Some(asked) = self.asked.as_ref().filter(|_| attempt.failure.kind == FailureKind::Auth) {
                    asked.doubt();
                }
                attempt
            }),
            Err(_) if is_written.load(Ordering::Relaxed) => Err(self.upstream.out_of_time(&self.calls)),
            Err(_) => {
                Err(error::unsigned_in_time(self.calls.timeout, "; `timeout_ms` sets this limit", &self.upstream))
            }
        }
    }

    /// Puts our body and the configuration's headers into a request that is still to be signed, with credentials that
    /// are there by now.
    fn writing(
        &self,
        body: &Bytes,
        is_written: &Arc<AtomicBool>,
    ) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static + use<> {
        let (body, headers, is_written) = (body.clone(), self.headers.clone(), Arc::clone(is_written));
        move |request| {
            is_written.store(true, Ordering::Relaxed);
            *request.body_mut() = SdkBody::from(body.clone());
            let own = request.headers_mut();
            own.insert("content-length", body.len().to_string());
            for (name, value) in &headers {
                // Whatever cannot be sent was refused when the provider was made.
                if let Ok(value) = value.to_str() {
                    own.insert(name.as_str().to_owned(), value.to_owned());
                }
            }
        }
    }
}

/// Keeps the SDK from logging: at its finest levels it quotes what AWS answers, which may quote what was signed, with a
/// session's token in it.
pub(super) async fn unlogged<T>(call: impl Future<Output = T>) -> T {
    call.with_subscriber(NoSubscriber::default()).await
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

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("origin", &self.upstream.origin).finish_non_exhaustive()
    }
}
