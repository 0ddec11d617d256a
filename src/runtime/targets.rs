//! The registries of clients and local models. They are keyed by what a thing is, so that a swap to a
//! configuration that needs the same one neither resets nor doubles it, and hold it weakly, so that what no
//! configuration or request uses any more is let go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::active::ActiveSettings;
use crate::config::endpoint::OutboundPolicy;
use crate::config::provider::ProviderName;
use crate::config::{Environment, Settings, SettingsError};
use crate::generator::Generator;
use crate::metrics::{Engines, Metrics};
use crate::providers::{ProviderError, ProviderSpec, UpstreamState};
use crate::scorers::Lessons;

use super::active::{Names, Target};
use super::elsewhere::Elsewhere;
#[cfg(feature = "llama")]
use super::local::LocalModels;
use super::remote::provider_spec;
use super::remotes::Remotes;

/// Every client and local model that is in use.
pub struct Targets {
    outbound: OutboundPolicy,
    remotes: Arc<Remotes>,
    #[cfg(feature = "llama")]
    locals: Arc<LocalModels>,
}

impl Targets {
    /// Registries of which nothing is in use; their clients count what they do in `metrics`.
    pub fn new(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        Self {
            outbound: settings.outbound.clone(),
            remotes: Arc::new(Remotes::new(metrics)),
            #[cfg(feature = "llama")]
            locals: Arc::new(LocalModels::new(settings.models.dirs.clone(), settings.llama.clone())),
        }
    }

    /// Builds everything that a configuration names: clients, and the active model if it is local. Makes no
    /// network call.
    ///
    /// # Errors
    ///
    /// What cannot be built, by the field to change.
    pub async fn prepare(
        &self,
        settings: &ActiveSettings,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Names, SettingsError> {
        let names = match settings.provider.resolve(&settings.model)? {
            (ProviderName::Llama, _) => self.prepare_local(settings, environment, warnings).await?,
            (provider, _) => self.prepare_remote(settings, provider, environment, warnings)?,
        };
        #[cfg(feature = "llama")]
        let names = Names { locals: self.locals.names(), ..names };
        Ok(names)
    }

    /// The client of a specification: the one that is in use, where there is one.
    pub(super) fn remote(&self, spec: ProviderSpec) -> Result<Arc<dyn Generator>, SettingsError> {
        self.remotes.client(spec).map_err(refused)
    }

    /// How the upstreams of configurations that are in use are.
    pub(super) fn upstreams(&self) -> Vec<UpstreamState> {
        self.remotes.states()
    }

    /// How many models of a provider are in which state of their circuit breakers.
    pub(super) fn breakers(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.remotes.breakers()
    }

    pub(super) fn outbound(&self) -> &OutboundPolicy {
        &self.outbound
    }

    /// What the engines of local models are doing together.
    pub fn engines(&self) -> Engines {
        #[cfg(feature = "llama")]
        return self.locals.engines();
        #[cfg(not(feature = "llama"))]
        Engines::default()
    }

    #[cfg(feature = "llama")]
    pub(super) fn locals(&self) -> &LocalModels {
        &self.locals
    }

    fn prepare_remote(
        &self,
        settings: &ActiveSettings,
        provider: ProviderName,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Names, SettingsError> {
        let (spec, mut told) = provider_spec(settings, provider, environment, &self.outbound)?;
        warnings.append(&mut told);
        let elsewhere = self.elsewhere(settings, Some((provider, spec.clone())), environment, warnings);
        let capabilities = spec.capabilities.clone();
        let generator = self.remote(spec)?;
        let target = |upstream: &str, param: &str| {
            let (chosen, model) = settings.provider.resolve(upstream).map_err(|error| SettingsError {
                param: param.to_owned(),
                message: error.message.replace("`model`", &format!("`{param}`")),
                ..error
            })?;
            if chosen != provider {
                return Err(SettingsError::invalid(
                    param,
                    format!(
                        "`{param}` leads to `{}`, but this configuration calls `{}`",
                        chosen.as_str(),
                        provider.as_str()
                    ),
                ));
            }
            Ok(Target { generator: Arc::clone(&generator), model: model.to_owned(), lessons: Lessons::default() })
        };
        let mapped = settings
            .model_mapping
            .iter()
            .map(|(public, upstream)| Ok((public.clone(), target(upstream, &format!("model_mapping.{public}"))?)))
            .collect::<Result<BTreeMap<_, _>, SettingsError>>()?;
        Ok(Names {
            provider: settings.provider,
            model: settings.model.clone(),
            active: match mapped.get(&settings.model) {
                Some(target) => target.clone(),
                None => target(&settings.model, "model")?,
            },
            mapped,
            any: settings.allow_any_model.then_some(generator),
            capabilities: Some(capabilities),
            locals: BTreeMap::new(),
            elsewhere,
            created: 0,
        })
    }

    /// Where requests may go besides the names of the configuration, whose own provider is `own`.
    fn elsewhere(
        &self,
        settings: &ActiveSettings,
        own: Option<(ProviderName, ProviderSpec)>,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Elsewhere {
        Elsewhere::new(settings, own, environment, &self.outbound, &self.remotes, warnings)
    }

    #[cfg(feature = "llama")]
    async fn prepare_local(
        &self,
        settings: &ActiveSettings,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Names, SettingsError> {
        let target = |name: &str, param: &str| {
            let model = self.locals.find(name, param)?;
            Ok(Target { generator: model, model: name.to_owned(), lessons: Lessons::default() })
        };
        let mapped = settings
            .model_mapping
            .iter()
            .map(|(public, name)| Ok((public.clone(), target(name, &format!("model_mapping.{public}"))?)))
            .collect::<Result<BTreeMap<_, _>, SettingsError>>()?;
        let own = settings.model_mapping.get(&settings.model).unwrap_or(&settings.model);
        let active = self.locals.find(own, "model")?;
        active.load().await.map_err(|failure| SettingsError::invalid("model", failure.message))?;
        Ok(Names {
            provider: settings.provider,
            model: settings.model.clone(),
            active: Target { generator: active, model: own.clone(), lessons: Lessons::default() },
            mapped,
            any: None,
            capabilities: None,
            locals: BTreeMap::new(),
            elsewhere: self.elsewhere(settings, None, environment, warnings),
            created: 0,
        })
    }

    #[cfg(not(feature = "llama"))]
    async fn prepare_local(
        &self,
        _: &ActiveSettings,
        _: &Environment,
        _: &mut Vec<String>,
    ) -> Result<Names, SettingsError> {
        Err(SettingsError::invalid(
            "provider",
            "`provider` `llama` is not in this itsd: it was built without the feature `llama`, as by \
             `cargo build --no-default-features`; build it with the default features",
        ))
    }
}

pub(super) fn refused(error: ProviderError) -> SettingsError {
    let param = match &error {
        ProviderError::NotHttp
        | ProviderError::Credentials
        | ProviderError::AzurePath
        | ProviderError::NoMembers
        | ProviderError::Tls(_) => "endpoint".to_owned(),
        ProviderError::Header(name) | ProviderError::ReservedHeader(name) | ProviderError::HeaderOfSignature(name) => {
            format!("extra_args.headers.{name}")
        }
        ProviderError::ApiKey => "api_key".to_owned(),
        ProviderError::NoParallelCalls => "n_parallel".to_owned(),
    };
    SettingsError::invalid(param, error.to_string())
}
