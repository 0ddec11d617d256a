//! One address of Bedrock's runtime, and an attempt's exchange with it through the SDK.
//!
//! The SDK tries once: whether to try again, and how long to wait for what, is decided where it is for all providers.

use std::fmt;
use std::sync::Arc;

use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::http::HttpRequest;
use aws_sdk_bedrockruntime::config::retry::RetryConfig;
use aws_sdk_bedrockruntime::config::timeout::TimeoutConfig;
use aws_sdk_bedrockruntime::config::{AppName, BehaviorVersion, Config, Region, StalledStreamProtectionConfig, Token};
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
use super::error;
use super::intercept::{EventsOnly, KeptAnswer};
use super::transport::Transport;
use crate::config::calls::CallSettings;
use crate::config::endpoint;
use crate::providers::gate::Gate;
use crate::providers::http_client;
use crate::providers::members::{Member, terms};
use crate::providers::retry::AttemptFailure;
use crate::providers::shared::Shared;
use crate::providers::spec::{Brought, Dialect, ProviderError, ProviderSpec};
use crate::providers::upstream::{Upstream, malformed};

/// A member of a provider's pool, with all that it takes to call it.
pub(super) struct Server {
    client: Client,
    /// What the configuration has sent along.
    headers: HeaderMap,
    calls: CallSettings,
    pub upstream: Arc<Upstream>,
    weight: f64,
    gate: Arc<Gate>,
}

impl Server {
    pub fn new(member: &endpoint::Member, spec: &ProviderSpec, shared: &Shared) -> Result<Self, ProviderError> {
        let Dialect::Bedrock(aws) = &spec.dialect else { return Err(ProviderError::NotHttp) };
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
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let config = match &spec.api_key {
            Some(key) => config
                .bearer_token(Token::new(key.expose_secret(), None))
                .auth_scheme_preference([HTTP_BEARER_AUTH_SCHEME_ID]),
            None => config.credentials_provider(aws.provider(shared)?),
        };
        let client = Client::from_conf(config.build());
        Ok(Self { client, headers, calls, upstream, weight: member.weight, gate })
    }

    /// Asks for a whole answer, which is returned as it came.
    pub async fn converse(&self, model: &str, body: &Bytes) -> Result<Bytes, AttemptFailure> {
        let answer = KeptAnswer::default();
        let call = self
            .client
            .converse()
            .model_id(model)
            .customize()
            .mutate_request(self.writing(body))
            .interceptor(answer.clone())
            .send();
        self.in_time(call).await?.map_err(|error| error::of_call(error, self))?;
        answer.take().ok_or_else(|| malformed(&self.upstream, "no body"))
    }

    /// Asks for a stream and waits until its head is here.
    pub async fn converse_stream(&self, model: &str, body: &Bytes) -> Result<ConverseStreamOutput, AttemptFailure> {
        let call = self
            .client
            .converse_stream()
            .model_id(model)
            .customize()
            .mutate_request(self.writing(body))
            .interceptor(EventsOnly { upstream: Arc::clone(&self.upstream) })
            .send();
        self.in_time(call).await?.map_err(|error| error::of_call(error, self))
    }

    /// The limits of an exchange hold from its first byte on; that credentials are waited for is within these.
    async fn in_time<T>(&self, call: impl Future<Output = T>) -> Result<T, AttemptFailure> {
        let deadline = Instant::now() + self.calls.timeout;
        timeout_at(deadline, unlogged(call)).await.map_err(|_| self.upstream.out_of_time(&self.calls))
    }

    /// Puts our body and the configuration's headers into a request that is still to be signed.
    fn writing(&self, body: &Bytes) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static + use<> {
        let (body, headers) = (body.clone(), self.headers.clone());
        move |request| {
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
