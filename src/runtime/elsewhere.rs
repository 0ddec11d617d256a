//! Where a request may go besides the names of the configuration: to another provider that the operator has
//! configured, or to an endpoint, or with a key, that it brings itself.
//!
//! A key that is stored or in the environment never goes to an address that a client supplied.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use secrecy::SecretString;

use crate::config::active::ActiveSettings;
use crate::config::calls::CallSettings;
use crate::config::capabilities::StructuredOutput;
use crate::config::endpoint::{ChosenBy, OutboundPolicy, base_url};
use crate::config::first;
use crate::config::provider::ProviderName;
use crate::config::{Environment, SettingsError};
use crate::generator::Generator;
use crate::providers::bedrock::Credentials;
use crate::providers::{Brought, Dialect, ProviderError, ProviderSpec};
use crate::scorers::Lessons;

use super::active::{ActiveConfig, Route, UnknownModel};
use super::remote::{bare_spec, usual_spec};
use super::remotes::Remotes;

/// The header with an endpoint for one request.
pub const ENDPOINT_HEADER: &str = "X-ITS-Endpoint";
/// The header with an upstream key for one request.
pub const API_KEY_HEADER: &str = "X-ITS-API-Key";

/// Where a request wants to go, as far as it says.
#[derive(Default)]
pub struct Destination {
    pub provider: Option<ProviderName>,
    /// As the client wrote it, which may hold what must not be shown.
    pub endpoint: Option<String>,
    /// The key itself: it is never taken for a reference.
    pub api_key: Option<SecretString>,
}

/// Why a request cannot go where it wants to.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error(transparent)]
    Unknown(#[from] UnknownModel),
    /// The header of this name is not allowed by the configuration.
    #[error("`{0}` is not allowed here; the configuration's `allow_request_endpoint` would have to be true")]
    NotAllowed(&'static str),
    #[error(transparent)]
    Refused(#[from] SettingsError),
}

/// What there is besides the names of one configuration.
pub(super) struct Elsewhere {
    remotes: Arc<Remotes>,
    policy: OutboundPolicy,
    /// The configuration's own provider, if it is a remote one.
    own: Option<(ProviderName, ProviderSpec)>,
    /// Providers for which the operator has set a key or an address.
    usual: BTreeMap<ProviderName, Usual>,
    calls: CallSettings,
    /// `vllm` has the operator's GGUF file, which the engine in this process runs.
    vllm_is_local: bool,
    allows_own_endpoint: bool,
}

/// A provider at its usual address. Its client is made when a request names it first, and stays with the
/// configuration.
struct Usual {
    spec: ProviderSpec,
    client: OnceLock<Arc<dyn Generator>>,
}

impl Elsewhere {
    pub fn new(
        settings: &ActiveSettings,
        own: Option<(ProviderName, ProviderSpec)>,
        environment: &Environment,
        policy: &OutboundPolicy,
        remotes: &Arc<Remotes>,
        warnings: &mut Vec<String>,
    ) -> Self {
        let calls = settings.calls;
        let mut usual = BTreeMap::new();
        // `litellm` is a way to name the others.
        for provider in ProviderName::ALL.into_iter().filter(|provider| *provider != ProviderName::LiteLlm) {
            match usual_spec(calls, provider, environment, policy) {
                Some(Ok(spec)) => drop(usual.insert(provider, Usual { spec, client: OnceLock::new() })),
                Some(Err(error)) => {
                    warnings.push(format!("requests cannot name the provider {}: {error}", provider.as_str()));
                }
                None => {}
            }
        }
        Self {
            remotes: Arc::clone(remotes),
            policy: policy.clone(),
            own,
            usual,
            calls,
            vllm_is_local: first::model_dir(environment).is_some(),
            allows_own_endpoint: settings.allow_request_endpoint,
        }
    }
}

impl ActiveConfig {
    /// Where a requested model leads, for a request that says more than its name.
    ///
    /// # Errors
    ///
    /// When the name leads nowhere, the operator has not configured the provider, or the configuration does not
    /// let requests bring an endpoint or a key.
    pub fn route_to(&self, requested: &str, destination: Destination) -> Result<Route, RouteError> {
        let elsewhere = &self.names.elsewhere;
        let Destination { provider, endpoint, api_key } = destination;
        let headers = [(ENDPOINT_HEADER, endpoint.is_some()), (API_KEY_HEADER, api_key.is_some())];
        if let Some((header, _)) = headers.into_iter().find(|(_, is_sent)| *is_sent && !elsewhere.allows_own_endpoint) {
            return Err(RouteError::NotAllowed(header));
        }
        match (endpoint, provider) {
            (Some(_), Some(_)) => {
                let message = format!("`provider` and `{ENDPOINT_HEADER}` each say where to go; send one of them");
                Err(SettingsError::invalid("provider", message).into())
            }
            (Some(endpoint), None) => {
                let generator = elsewhere.client_at(&endpoint, api_key)?;
                // There may be anything.
                let structured_output = StructuredOutput::Unknown;
                let (model, lessons) = (requested.to_owned(), Lessons::default());
                Ok(Route { generator, model, scaled: true, structured_output, lessons })
            }
            (None, None) => self.own_route(requested, api_key),
            (None, Some(provider)) => self.route_by_provider(requested, provider, api_key),
        }
    }

    /// Where the configuration's names lead, with the request's key in place of the configured one.
    fn own_route(&self, requested: &str, api_key: Option<SecretString>) -> Result<Route, RouteError> {
        let route = self.route(requested)?;
        let Some(api_key) = api_key else { return Ok(route) };
        // What is scaled by default is the configuration's own.
        match &self.names.elsewhere.own {
            Some((_, spec)) if route.scaled => {
                let generator = self.names.elsewhere.client_with(spec.clone(), api_key)?;
                Ok(Route { generator, lessons: Lessons::default(), ..route })
            }
            _ => Err(keyless(requested).into()),
        }
    }

    fn route_by_provider(
        &self,
        requested: &str,
        provider: ProviderName,
        api_key: Option<SecretString>,
    ) -> Result<Route, RouteError> {
        let names = &self.names;
        let elsewhere = &names.elsewhere;
        let is_local = provider == ProviderName::Llama || (provider == ProviderName::Vllm && elsewhere.vllm_is_local);
        let own = elsewhere.own.as_ref().map(|(provider, _)| *provider);
        if provider == names.provider || Some(provider) == own || (is_local && own.is_none()) {
            return self.own_route(requested, api_key);
        }
        if is_local && !names.locals.is_empty() {
            let Some(open) = names.locals.get(requested) else {
                let available = names.locals.keys().cloned().collect();
                return Err(UnknownModel { name: requested.to_owned(), available }.into());
            };
            return match api_key {
                None => Ok(Route::local(open(), requested)),
                Some(_) => Err(keyless(requested).into()),
            };
        }
        let Some(usual) = elsewhere.usual.get(&provider) else { return Err(self.unavailable(provider).into()) };
        let (_, model) = provider.resolve(requested)?;
        let structured_output = usual.spec.capabilities.of(model).structured_output();
        let generator = match api_key {
            Some(api_key) => elsewhere.client_with(usual.spec.clone(), api_key)?,
            None => elsewhere.usual_client(usual)?,
        };
        let (model, lessons) = (model.to_owned(), Lessons::default());
        Ok(Route { generator, model, scaled: false, structured_output, lessons })
    }

    /// The refusal of a provider that the operator has not configured, with those that there are.
    fn unavailable(&self, provider: ProviderName) -> SettingsError {
        let names = &self.names;
        let mut available = vec![names.provider.as_str()];
        available.extend(names.elsewhere.usual.keys().map(|provider| provider.as_str()));
        if !names.locals.is_empty() {
            available.push(ProviderName::Llama.as_str());
        }
        available.sort_unstable();
        available.dedup();
        let name = provider.as_str();
        let message = format!(
            "`provider` `{name}` is not configured here: it has neither key nor address; there is: {}",
            available.join(", ")
        );
        SettingsError::invalid("provider", message)
    }
}

impl Elsewhere {
    /// A client for an address of the client's own. Nothing that is configured goes there.
    fn client_at(&self, endpoint: &str, api_key: Option<SecretString>) -> Result<Arc<dyn Generator>, SettingsError> {
        let url = base_url(ENDPOINT_HEADER, endpoint.trim())?;
        self.policy.check(ENDPOINT_HEADER, &url, ChosenBy::Request)?;
        self.client(ProviderSpec {
            api_key,
            ..bare_spec("the request's endpoint", ProviderName::OpenAiCompatible, url, self.calls)
        })
    }

    /// A client for a configured address with the request's key in place of what is configured.
    fn client_with(&self, spec: ProviderSpec, api_key: SecretString) -> Result<Arc<dyn Generator>, SettingsError> {
        let mut spec = ProviderSpec { api_key: Some(api_key), brought: Brought::Key, ..spec };
        spec.headers.retain(|(name, _)| !spec.dialect.is_credential(name));
        if let Dialect::Bedrock(aws) = &mut spec.dialect {
            aws.credentials = Credentials::Unsigned;
        }
        self.client(spec)
    }

    fn usual_client(&self, usual: &Usual) -> Result<Arc<dyn Generator>, SettingsError> {
        if let Some(client) = usual.client.get() {
            return Ok(Arc::clone(client));
        }
        let client = self.client(usual.spec.clone())?;
        Ok(Arc::clone(usual.client.get_or_init(|| client)))
    }

    fn client(&self, spec: ProviderSpec) -> Result<Arc<dyn Generator>, SettingsError> {
        let client = self.remotes.client(spec).map_err(|error| {
            let param = match error {
                ProviderError::ApiKey => API_KEY_HEADER,
                _ => ENDPOINT_HEADER,
            };
            SettingsError::invalid(param, error.to_string())
        })?;
        // It is asked for by a request of the configuration that is in effect.
        client.take_effect();
        Ok(client)
    }
}

fn keyless(model: &str) -> SettingsError {
    let message = format!("`{API_KEY_HEADER}` has no meaning for {model}, which runs in this process; leave it out");
    SettingsError::invalid(API_KEY_HEADER, message)
}
