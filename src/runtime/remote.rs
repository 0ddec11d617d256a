//! What a remote provider is made of: address, key, headers, from the configuration, the environment and the
//! provider's defaults.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::active::ActiveSettings;
use crate::config::endpoint::{ChosenBy, Endpoint, OutboundPolicy, base_url};
use crate::config::extra_args::BodyValue;
use crate::config::provider::{ProviderName, RemoteDefaults};
use crate::config::{Environment, SettingsError};
use crate::providers::openai::ProviderSpec;

/// Settles where a configuration's calls go and with what. Also says what the reader might not expect.
///
/// # Errors
///
/// When a reference leads nowhere, the provider has no address, or the outbound policy forbids it.
pub fn provider_spec(
    settings: &ActiveSettings,
    provider: ProviderName,
    environment: &Environment,
    policy: &OutboundPolicy,
) -> Result<(ProviderSpec, Vec<String>), SettingsError> {
    let defaults = provider.remote_defaults().expect("only remote providers are called");
    let mut warnings = Vec::new();
    let (base_url, chosen_by) = address(settings, &defaults, environment)?;
    policy.check("endpoint", &base_url, chosen_by)?;
    let api_key = match &settings.api_key {
        Some(source) => Some(source.resolve("api_key", environment)?),
        None => usual_key(&base_url, chosen_by, &defaults, environment, &mut warnings),
    };
    let mut headers = Vec::new();
    for (name, source) in &settings.extra_args.headers {
        headers.push((name.clone(), source.resolve(&format!("extra_args.headers.{name}"), environment)?));
    }
    let mut body = Map::new();
    for (name, value) in &settings.extra_args.body {
        let value = match value {
            BodyValue::Plain(value) => value.clone(),
            BodyValue::Secret(source) => {
                let secret = source.resolve(&format!("extra_args.{name}"), environment)?;
                Value::from(secret.expose_secret())
            }
        };
        body.insert(name.clone(), value);
    }
    let spec = ProviderSpec {
        name: provider.as_str().to_owned(),
        base_url,
        api_key,
        headers,
        body,
        n_parallel: settings.n_parallel,
        timeout: settings.timeout,
        max_retries: settings.max_retries,
    };
    Ok((spec, warnings))
}

/// What makes two providers one and the same: everything in the specification, secrets included, hashed so
/// that the registry holds no copy of them.
pub fn identity(spec: &ProviderSpec) -> [u8; 32] {
    let ProviderSpec { name, base_url, api_key, headers, body, n_parallel, timeout, max_retries } = spec;
    let secret = |secret: &SecretString| secret.expose_secret().to_owned();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name, secret(value))).collect();
    let body: BTreeMap<_, _> = body.iter().collect();
    let whole = serde_json::to_vec(&(
        name,
        base_url.as_str(),
        api_key.as_ref().map(secret),
        headers,
        body,
        n_parallel,
        timeout.as_millis(),
        max_retries,
    ))
    .expect("strings and numbers serialise");
    Sha256::digest(whole).into()
}

fn address(
    settings: &ActiveSettings,
    defaults: &RemoteDefaults,
    environment: &Environment,
) -> Result<(Url, ChosenBy), SettingsError> {
    if let Endpoint::Url(url) = &settings.endpoint {
        return Ok((url.clone(), ChosenBy::Request));
    }
    let by_operator = defaults.base_url_variable.and_then(|name| Some((name, environment.var(name)?)));
    if let Some((name, text)) = by_operator {
        let url = base_url(name, text.trim()).map_err(|error| {
            SettingsError::invalid("endpoint", format!("`endpoint` is `auto`, and {}", error.message))
        })?;
        return Ok((url, ChosenBy::Operator));
    }
    match defaults.base_url {
        Some(text) => Ok((base_url("endpoint", text).expect("the built-in addresses are URLs"), ChosenBy::Operator)),
        None => Err(SettingsError::missing("endpoint", "`endpoint` is missing, and this provider has no usual one")),
    }
}

/// The key of the provider's usual variable. It is bound to the provider's own address and to one that the
/// operator chose: whoever may set an endpoint must not be able to have the operator's key sent there.
fn usual_key(
    base_url: &Url,
    chosen_by: ChosenBy,
    defaults: &RemoteDefaults,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<SecretString> {
    let (name, key) = defaults.key_variables.iter().find_map(|name| Some((*name, environment.var(name)?)))?;
    let own_origin = defaults.base_url.and_then(|own| Url::parse(own).ok()).map(|own| own.origin());
    if chosen_by == ChosenBy::Operator || own_origin == Some(base_url.origin()) {
        return Some(SecretString::from(key.trim()));
    }
    warnings.push(format!(
        "no key is sent to {}: {name} is only for the provider's own address; name it as `api_key` (`env:{name}`) to send it",
        base_url.origin().ascii_serialization()
    ));
    None
}
