//! What a remote provider is made of: address, key, headers, from the configuration, the environment and the
//! provider's defaults.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use url::Url;

use crate::config::active::ActiveSettings;
use crate::config::calls::CallSettings;
use crate::config::capabilities::CapabilityTable;
use crate::config::endpoint::{ChosenBy, Endpoint, Member, OutboundPolicy, base_url};
use crate::config::field::SettingsCode;
use crate::config::first::MODEL_VARIABLE;
use crate::config::provider::{ProviderName, RemoteDefaults};
use crate::config::secret::SecretSource;
use crate::config::{Environment, SettingsError};
use crate::providers::{Brought, Dialect, ProviderSpec};

use super::aws;

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
    if provider == ProviderName::Bedrock {
        return bedrock_spec(settings, environment, policy);
    }
    if let Some(place) = settings.extra_args.aws.place().filter(|_| !is_judged_on_bedrock(settings)) {
        let message =
            format!("`{place}` is for models of Bedrock, but `{}` is called; leave it out", provider.as_str());
        return Err(SettingsError::invalid(place, message));
    }
    let defaults = provider.remote_defaults().expect("only remote providers are called");
    let mut warnings = Vec::new();
    let (members, chosen_by) = addresses(settings, &defaults, environment)?;
    hold_to(policy, &members, chosen_by)?;
    let mut body = settings.extra_args.body.resolve(environment)?;
    let dialect = dialect(provider, &mut body, environment)?;
    let api_key = match &settings.api_key {
        Some(source) => Some(source.resolve("api_key", environment)?),
        None if has_credential(settings, &dialect) => None,
        None => usual_key(&members, chosen_by, &defaults, environment, &mut warnings),
    };
    let headers = headers(settings, environment)?;
    let addresses = members.iter().map(|member| &member.url);
    let capabilities = CapabilityTable::at(provider, addresses).with(settings.extra_args.capabilities.clone());
    let spec = ProviderSpec {
        name: provider.as_str().to_owned(),
        members,
        dialect,
        api_key,
        headers,
        body,
        capabilities,
        calls: settings.calls,
        brought: Brought::Nothing,
    };
    Ok((spec, warnings))
}

/// Whether the judge is on Bedrock, which is called with what the configuration says of AWS.
fn is_judged_on_bedrock(settings: &ActiveSettings) -> bool {
    let judge = settings.judge.as_ref().filter(|judge| judge.endpoint == Endpoint::Auto);
    judge.and_then(|judge| judge.model.as_deref()).is_some_and(|judge| {
        let model = settings.model_mapping.get(judge).map_or(judge, String::as_str);
        settings.provider.resolve(model).is_ok_and(|(provider, _)| provider == ProviderName::Bedrock)
    })
}

fn bedrock_spec(
    settings: &ActiveSettings,
    environment: &Environment,
    policy: &OutboundPolicy,
) -> Result<(ProviderSpec, Vec<String>), SettingsError> {
    let aws::Found { aws, api_key, members, chosen_by, warnings } = aws::find(settings, environment)?;
    hold_to(policy, &members, chosen_by)?;
    let headers = headers(settings, environment)?;
    let capabilities = CapabilityTable::new(ProviderName::Bedrock).with(settings.extra_args.capabilities.clone());
    let spec = ProviderSpec {
        name: ProviderName::Bedrock.as_str().to_owned(),
        members,
        dialect: Dialect::Bedrock(aws),
        api_key,
        headers,
        body: settings.extra_args.body.resolve(environment)?,
        capabilities,
        calls: settings.calls,
        brought: Brought::Nothing,
    };
    Ok((spec, warnings))
}

/// The fields that a configuration leaves to the provider's usual variables and that these give, with the
/// variable.
pub fn usual_variables(settings: &ActiveSettings, environment: &Environment) -> Vec<(&'static str, &'static str)> {
    let Ok((provider, _)) = settings.provider.resolve(&settings.model) else { return Vec::new() };
    if provider == ProviderName::Bedrock {
        return aws::usual_variables(settings, environment);
    }
    let Some(defaults) = provider.remote_defaults() else { return Vec::new() };
    let Ok((members, chosen_by)) = addresses(settings, &defaults, environment) else { return Vec::new() };
    let mut variables = Vec::new();
    if let (Endpoint::Auto, Some((name, _))) = (&settings.endpoint, first_set(defaults.base_url_variables, environment))
    {
        variables.push(("endpoint", name));
    }
    let dialect = dialect(provider, &mut Map::new(), environment).unwrap_or_default();
    if settings.api_key.is_none()
        && !has_credential(settings, &dialect)
        && let Some((name, _)) = first_set(defaults.key_variables, environment)
        && usual_key(&members, chosen_by, &defaults, environment, &mut Vec::new()).is_some()
    {
        variables.push(("api_key", name));
    }
    variables
}

/// What makes two providers one and the same: everything in the specification, secrets included, hashed so
/// that the registry holds no copy of them.
pub fn identity(spec: &ProviderSpec) -> [u8; 32] {
    let ProviderSpec { name, members, dialect, api_key, headers, body, capabilities, calls, brought } = spec;
    let secret = |secret: &SecretString| secret.expose_secret().to_owned();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name, secret(value))).collect();
    let body: BTreeMap<_, _> = body.iter().collect();
    let whole = serde_json::to_vec(&(
        name,
        members.iter().map(|member| (member.url.as_str(), member.weight)).collect::<Vec<_>>(),
        api_key.as_ref().map(secret),
        headers,
        body,
        match dialect {
            Dialect::Bedrock(aws) => aws.parts(),
            other => vec![format!("{other:?}")],
        },
        format!("{capabilities:?} {calls:?} {brought:?}"),
    ))
    .expect("strings and numbers serialise");
    Sha256::digest(whole).into()
}

/// The address and key of a provider where the operator has them, with nothing of a configuration but its limits
/// on calls; `None` where the operator has named neither.
///
/// # Errors
///
/// When the address that the operator gave is none, or the outbound policy forbids it.
pub fn usual_spec(
    calls: CallSettings,
    provider: ProviderName,
    environment: &Environment,
    policy: &OutboundPolicy,
) -> Option<Result<ProviderSpec, SettingsError>> {
    if provider == ProviderName::Bedrock {
        // Keys for AWS alone may be for something else: a region makes them Bedrock's.
        return aws::is_usual(environment).then(|| {
            let document = serde_json::json!({"provider": provider.as_str(), "model": provider.as_str()});
            let settings = ActiveSettings::parse(document.as_object().expect("it was just written"))?;
            bedrock_spec(&ActiveSettings { calls, ..settings }, environment, policy).map(|(spec, _)| spec)
        })
        .filter(|spec: &Result<_, SettingsError>| !matches!(spec, Err(error) if error.code == SettingsCode::MissingField));
    }
    let defaults = provider.remote_defaults()?;
    let model_variable = (provider == ProviderName::Vllm).then_some(MODEL_VARIABLE);
    let of_provider = [defaults.key_variables, defaults.base_url_variables].concat();
    of_provider.into_iter().chain(model_variable).find_map(|name| environment.var(name))?;
    if defaults.base_url.is_none() {
        // A key alone leads nowhere.
        first_set(defaults.base_url_variables, environment)?;
    }
    let spec = usual_address("provider", &defaults, environment).and_then(|base_url| {
        policy.check("provider", &base_url, ChosenBy::Operator)?;
        let spec = bare_spec(provider.as_str(), provider, base_url, calls);
        let api_key = usual_key(&spec.members, ChosenBy::Operator, &defaults, environment, &mut Vec::new());
        let dialect = dialect(provider, &mut Map::new(), environment)?;
        Ok(ProviderSpec { api_key, dialect, brought: Brought::Nothing, ..spec })
    });
    Some(spec)
}

/// A provider of which no more is known than its address: nothing that is sent there could be a secret.
pub fn bare_spec(name: &str, provider: ProviderName, base_url: Url, calls: CallSettings) -> ProviderSpec {
    let capabilities = CapabilityTable::at(provider, [&base_url]);
    ProviderSpec {
        name: name.to_owned(),
        members: vec![base_url.into()],
        dialect: Dialect::default(),
        api_key: None,
        headers: Vec::new(),
        body: Map::new(),
        capabilities,
        calls,
        brought: Brought::Endpoint,
    }
}

fn hold_to(policy: &OutboundPolicy, members: &[Member], chosen_by: ChosenBy) -> Result<(), SettingsError> {
    for (at, member) in members.iter().enumerate() {
        let param = if members.len() > 1 { format!("endpoint[{at}]") } else { "endpoint".to_owned() };
        policy.check(&param, &member.url, chosen_by)?;
    }
    Ok(())
}

fn headers(settings: &ActiveSettings, environment: &Environment) -> Result<Vec<(String, SecretString)>, SettingsError> {
    let resolved = |(name, source): &(String, SecretSource)| {
        Ok((name.clone(), source.resolve(&format!("extra_args.headers.{name}"), environment)?))
    };
    settings.extra_args.headers.iter().map(resolved).collect()
}

fn addresses(
    settings: &ActiveSettings,
    defaults: &RemoteDefaults,
    environment: &Environment,
) -> Result<(Vec<Member>, ChosenBy), SettingsError> {
    match &settings.endpoint {
        Endpoint::Url(url) => Ok((vec![url.clone().into()], ChosenBy::Request)),
        Endpoint::Pool(members) => Ok((members.clone(), ChosenBy::Request)),
        Endpoint::Auto => {
            let usual = usual_address("endpoint", defaults, environment)?;
            Ok((vec![usual.into()], ChosenBy::Operator))
        }
    }
}

/// Where `auto` leads.
fn usual_address(param: &str, defaults: &RemoteDefaults, environment: &Environment) -> Result<Url, SettingsError> {
    if let Some((name, text)) = first_set(defaults.base_url_variables, environment) {
        return base_url(name, text.trim())
            .map_err(|error| SettingsError::invalid(param, format!("`endpoint` is `auto`, and {}", error.message)));
    }
    match defaults.base_url {
        Some(text) => Ok(base_url(param, text).expect("the built-in addresses are URLs")),
        None => {
            let variable = defaults.base_url_variables.first();
            let or = variable.map(|name| format!("; name the address, or set {name}")).unwrap_or_default();
            let message = format!("`endpoint` is missing, and this provider has no usual one{or}");
            Err(SettingsError::missing(param, message))
        }
    }
}

/// The first of some variables that is set, with its value.
fn first_set<'a>(variables: &[&'static str], environment: &'a Environment) -> Option<(&'static str, &'a str)> {
    variables.iter().find_map(|name| Some((*name, environment.var(name)?)))
}

/// Whether a header of the configuration says who asks, so that no key has to.
fn has_credential(settings: &ActiveSettings, dialect: &Dialect) -> bool {
    settings.extra_args.headers.iter().any(|(name, _)| dialect.is_credential(name))
}

/// How the provider is spoken to. Of the body fields that the configuration adds it takes those that are none.
fn dialect(
    provider: ProviderName,
    body: &mut Map<String, Value>,
    environment: &Environment,
) -> Result<Dialect, SettingsError> {
    /// The newest stable version of Azure's inference API with dated versions.
    const NEWEST_STABLE: &str = "2024-10-21";
    /// As LiteLLM and OpenAI's own clients call it.
    const VARIABLES: [&str; 2] = ["AZURE_API_VERSION", "OPENAI_API_VERSION"];
    if provider != ProviderName::Azure {
        return Ok(Dialect::OpenAi);
    }
    let is_version = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let api_version = match body.remove("api_version") {
        None => None,
        Some(Value::String(text)) if is_version(&text) => Some(text),
        Some(_) => {
            let message =
                format!("`extra_args.api_version` must be a version of Azure's API, such as `{NEWEST_STABLE}`");
            return Err(SettingsError::invalid("extra_args.api_version", message));
        }
    };
    let by_operator = first_set(&VARIABLES, environment).map(|(_, text)| text.trim());
    Ok(Dialect::Azure { api_version, deployments_version: by_operator.unwrap_or(NEWEST_STABLE).to_owned() })
}

/// The key of the provider's usual variable. It is bound to the provider's own address and to one that the
/// operator chose: whoever may set an endpoint must not be able to have the operator's key sent there. A pool gets it
/// only if it may go to every member.
fn usual_key(
    members: &[Member],
    chosen_by: ChosenBy,
    defaults: &RemoteDefaults,
    environment: &Environment,
    warnings: &mut Vec<String>,
) -> Option<SecretString> {
    let own_origin = defaults.base_url.and_then(|own| Url::parse(own).ok()).map(|own| own.origin());
    let is_own = |member: &Member| own_origin == Some(member.url.origin());
    let Some((name, key)) = first_set(defaults.key_variables, environment) else {
        // Services on this network often need none; a public one does.
        let is_public = |member: &Member| member.url.scheme() == "https" && (own_origin.is_none() || is_own(member));
        if let (Some(name), true) = (defaults.key_variables.first(), members.iter().any(is_public)) {
            warnings.push(format!("no key is sent: neither `api_key` nor {name} is set"));
        }
        return None;
    };
    let strange = members.iter().find(|member| chosen_by != ChosenBy::Operator && !is_own(member));
    let Some(strange) = strange else { return Some(SecretString::from(key.trim())) };
    warnings.push(format!(
        "no key is sent to {}: {name} is only for the provider's own address; name it as `api_key` (`env:{name}`) to send it",
        strange.url.origin().ascii_serialization()
    ));
    None
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(document: Value, environment: &[(&str, &str)]) -> Result<(ProviderSpec, Vec<String>), SettingsError> {
        let settings = ActiveSettings::parse(document.as_object().unwrap()).unwrap();
        let (provider, _) = settings.provider.resolve(&settings.model).unwrap();
        let environment = Environment::from_pairs(environment.iter().copied());
        provider_spec(&settings, provider, &environment, &OutboundPolicy::default())
    }

    fn key(spec: &ProviderSpec) -> Option<&str> {
        spec.api_key.as_ref().map(ExposeSecret::expose_secret)
    }

    #[test]
    fn auto_is_the_operators_address_else_the_providers_and_takes_the_usual_key() {
        let (public, _) = spec(json!({"model": "m"}), &[("OPENAI_API_KEY", "k")]).unwrap();
        assert_eq!((public.members[0].url.as_str(), key(&public)), ("https://api.openai.com/v1", Some("k")));

        // Plain http to another machine is the operator's to choose.
        let environment = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://gateway:4000/")];
        for provider in ["openai", "litellm"] {
            let (own, _) = spec(json!({"model": "m", "provider": provider}), &environment).unwrap();
            assert_eq!((own.members[0].url.as_str(), key(&own)), ("http://gateway:4000/v1", Some("k")));
        }
        let (router, _) = spec(json!({"model": "m", "provider": "openrouter"}), &environment).unwrap();
        assert_eq!((router.members[0].url.as_str(), key(&router)), ("https://openrouter.ai/api/v1", None));
        let (_, warnings) = spec(json!({"model": "m"}), &[]).unwrap();
        assert!(warnings[0].contains("OPENAI_API_KEY"), "{warnings:?}");

        let error = spec(json!({"model": "m"}), &[("OPENAI_BASE_URL", "gateway")]).unwrap_err();
        assert!(error.message.contains("OPENAI_BASE_URL"), "{}", error.message);
    }

    #[test]
    fn the_operators_key_goes_to_no_address_that_a_client_supplied() {
        let environment = [("OPENAI_API_KEY", "k")];
        let (elsewhere, warnings) =
            spec(json!({"model": "m", "endpoint": "https://evil.example"}), &environment).unwrap();
        assert_eq!(key(&elsewhere), None);
        assert!(warnings[0].contains("env:OPENAI_API_KEY"), "{warnings:?}");

        let (same, warnings) =
            spec(json!({"model": "m", "endpoint": "https://api.openai.com/v1"}), &environment).unwrap();
        assert_eq!((key(&same), warnings.len()), (Some("k"), 0));
        let named = json!({"model": "m", "endpoint": "https://proxy.example", "api_key": "env:OPENAI_API_KEY"});
        assert_eq!(key(&spec(named, &environment).unwrap().0), Some("k"));
    }

    #[test]
    fn the_operators_key_goes_to_a_pool_only_if_it_may_go_to_every_member() {
        let environment = [("OPENAI_API_KEY", "k")];
        let own = json!(["https://api.openai.com/v1", "https://api.openai.com/v2"]);
        assert_eq!(key(&spec(json!({"model": "m", "endpoint": own}), &environment).unwrap().0), Some("k"));
        let mixed = json!(["https://api.openai.com/v1", "https://evil.example"]);
        let (pool, warnings) = spec(json!({"model": "m", "endpoint": mixed}), &environment).unwrap();
        assert_eq!((key(&pool), pool.members.len()), (None, 2));
        assert!(warnings[0].contains("evil.example") && warnings[0].contains("env:OPENAI_API_KEY"), "{warnings:?}");
        let named = json!({"model": "m", "endpoint": mixed, "api_key": "env:OPENAI_API_KEY"});
        assert_eq!(key(&spec(named, &environment).unwrap().0), Some("k"));
    }

    #[test]
    fn every_member_of_a_pool_is_held_to_the_outbound_policy() {
        for (second, part) in [("http://gpu-2:8000", "outbound.allow_http"), ("http://169.254.169.254", "never called")]
        {
            let error = spec(json!({"model": "m", "endpoint": ["https://a.example", second]}), &[]).unwrap_err();
            assert_eq!(error.param, "endpoint[1]");
            assert!(error.message.contains(part), "{}", error.message);
        }
    }

    #[test]
    fn whatever_differs_makes_another_provider() {
        let of = |document: Value| identity(&spec(document, &[]).unwrap().0);
        let base = json!({"model": "m", "api_key": "k"});
        assert_eq!(of(base.clone()), of(json!({"model": "other", "api_key": "k", "budget": 3})));
        for (field, value) in [
            ("api_key", json!("l")),
            ("endpoint", json!("https://other.example")),
            ("endpoint", json!(["https://api.openai.com", "https://other.example"])),
            ("n_parallel", json!(4)),
            ("timeout_ms", json!(5)),
            ("max_retries", json!(0)),
            ("extra_args", json!({"headers": {"X-A": "b"}})),
            ("extra_args", json!({"reasoning_effort": "low"})),
            ("extra_args", json!({"capabilities": {"n": false}})),
        ] {
            let mut other = base.clone();
            other[field] = value;
            assert_ne!(of(other), of(base.clone()), "{field}");
        }
    }
}
