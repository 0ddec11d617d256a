//! The active configuration as `/configure` and the file's `[active]` table describe it.
//!
//! Reading it makes no network call and opens no file: whether a key can be found or a model loaded is for
//! whoever prepares it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::calls::{self, CallSettings};
use super::capabilities::CapabilityTable;
use super::endpoint::Endpoint;
use super::extra_args::ExtraArgs;
use super::field::{self, SettingsError};
use super::fields::{self, FIELDS, LATER, Scope};
use super::prices::Prices;
use super::provider::ProviderName;
use super::run::{RewardName, RunSettings, VoteWeight, not_supported_yet};
use super::secret::SecretSource;

/// What a configuration says, every field read and in range.
#[derive(Debug, Clone)]
pub struct ActiveSettings {
    pub provider: ProviderName,
    pub endpoint: Endpoint,
    /// `None` means the provider's usual variable, or no key.
    pub api_key: Option<SecretSource>,
    /// The name that requests use.
    pub model: String,
    /// Public name to the upstream's name.
    pub model_mapping: BTreeMap<String, String>,
    pub allow_any_model: bool,
    /// Whether a request may bring its own endpoint and upstream key.
    pub allow_request_endpoint: bool,
    pub run: RunSettings,
    /// Who judges; `None` where the configuration says nothing of it.
    pub judge: Option<JudgeSource>,
    pub prices: Prices,
    pub calls: CallSettings,
    pub extra_args: ExtraArgs,
    /// What of `extra_args` goes nowhere, and why.
    pub left_out: Vec<String>,
}

/// Where the judge is.
#[derive(Debug, Clone)]
pub struct JudgeSource {
    /// `None` means the model that answers.
    pub model: Option<String>,
    /// [`Endpoint::Auto`] means by the prefix of `model` under `litellm`, else where the model that answers is.
    pub endpoint: Endpoint,
    pub api_key: Option<SecretSource>,
    /// `None` means those of the model that answers, where the judge is at the same address.
    pub extra_args: Option<ExtraArgs>,
}

/// Whether a field belongs to `/configure` alone, so that a request must not bring it.
pub fn is_configuration_field(name: &str) -> bool {
    fields::find(name).is_some_and(|field| field.scope == Scope::Configuration)
}

impl ActiveSettings {
    /// Reads a `/configure` document. A null stands for a field that was left out.
    ///
    /// # Errors
    ///
    /// The first field that is unknown, of a feature this version does not have, of the wrong type or out of
    /// range, and `model` when it is missing.
    pub fn parse(document: &Map<String, Value>) -> Result<Self, SettingsError> {
        let known = || FIELDS.iter().flat_map(|field| std::iter::once(field.name).chain(field.aliases.iter().copied()));
        let mut named: BTreeMap<&str, &Value> = BTreeMap::new();
        for (name, value) in document {
            if fields::find(name).is_some() {
                if !value.is_null() {
                    named.insert(name, value);
                }
            } else if !LATER.contains(&name.as_str()) {
                return Err(SettingsError::unknown(name, known()));
            } else if !value.is_null() {
                return Err(not_supported_yet(name));
            }
        }

        let provider =
            named.get("provider").map_or(Ok(ProviderName::OpenAi), |value| ProviderName::parse("provider", value))?;
        let Some(model) = named.get("model") else {
            return Err(SettingsError::missing("model", "`model` is missing: name the model that answers"));
        };
        let model = field::text("model", model)?;
        // Refuses prefixes of providers that cannot be reached, as early as the name is known.
        provider.resolve(&model)?;
        let mut settings = Self {
            provider,
            endpoint: named
                .get("endpoint")
                .map_or(Ok(Endpoint::Auto), |value| Endpoint::parse_pool("endpoint", value))?,
            api_key: secret(&named, "api_key")?,
            model_mapping: named.get("model_mapping").map_or(Ok(BTreeMap::new()), |value| model_mapping(value))?,
            allow_any_model: named
                .get("allow_any_model")
                .map_or(Ok(false), |value| field::boolean("allow_any_model", value))?,
            allow_request_endpoint: named
                .get("allow_request_endpoint")
                .map_or(Ok(false), |value| field::boolean("allow_request_endpoint", value))?,
            run: run_settings(&named)?,
            judge: judge(&named)?,
            prices: named.get("prices").map_or(Ok(Prices::default()), |value| Prices::parse(value))?,
            calls: CallSettings::parse(&named)?,
            extra_args: extra_args(&named, "extra_args")?.unwrap_or_default(),
            left_out: Vec::new(),
            model,
        };
        settings.check_together(&named)?;
        // A LiteLLM proxy, which reads them of a request, may be what is compatible.
        if provider != ProviderName::OpenAiCompatible {
            let judges = settings.judge.iter_mut().filter_map(|judge| judge.extra_args.as_mut());
            let all = std::iter::once(&mut settings.extra_args).chain(judges);
            settings.left_out = all.flat_map(ExtraArgs::leave_out_litellms).collect();
        }
        Ok(settings)
    }

    /// What there is to know of the models' names: see [`ProviderName::warning_of`]. An upstream that has an address of
    /// its own, where there may be any name, gives no warning.
    pub fn warnings_of_names(&self) -> Vec<String> {
        let is_usual = |endpoint: &Endpoint| *endpoint == Endpoint::Auto;
        let mut names: Vec<(String, &str)> = Vec::new();
        if is_usual(&self.endpoint) {
            if !self.model_mapping.contains_key(&self.model) {
                names.push(("model".to_owned(), &self.model));
            }
            let mapped = self.model_mapping.iter();
            names.extend(mapped.map(|(public, upstream)| (format!("model_mapping.{public}"), upstream.as_str())));
        }
        if let Some(JudgeSource { model: Some(model), endpoint, .. }) = &self.judge
            && is_usual(endpoint)
            && is_usual(&self.endpoint)
            && !self.model_mapping.contains_key(model)
        {
            names.push(("judge_model".to_owned(), model));
        }
        names.into_iter().filter_map(|(param, name)| self.provider.warning_of(&param, name)).collect()
    }

    /// What is known of the models before the environment has been asked where they are.
    fn capabilities(&self, provider: ProviderName) -> CapabilityTable {
        let table = match &self.endpoint {
            Endpoint::Auto => CapabilityTable::new(provider),
            endpoint => CapabilityTable::at(provider, endpoint.urls()),
        };
        table.with(self.extra_args.capabilities.clone())
    }

    /// Whether the provider can tell what a scorer or a weight would read in its tokens.
    fn check_token_signals(&self) -> Result<(), SettingsError> {
        let (provider, model) = self.provider.resolve(&self.model)?;
        let reads_tokens = self.run.rm_name.is_some_and(RewardName::reads_tokens);
        let refused = |param: &str, word: &str, what: &str| {
            let message = format!("`{param}` `{word}` needs {what}; choose another `{param}`");
            Err(SettingsError::invalid(param, message))
        };
        let most = self.capabilities(provider).of(model).top_logprobs();
        if let (Some(0), Some(name)) = (most, self.run.rm_name.filter(|name| name.reads_alternatives())) {
            let what = format!("the alternatives of each token, which `{}` does not tell", provider.as_str());
            return refused("rm_name", name.as_str(), &what);
        }
        if most.is_none() {
            let what = format!("log-probabilities, which `{}` does not tell", provider.as_str());
            if let Some(name) = self.run.rm_name.filter(|_| reads_tokens) {
                return refused("rm_name", name.as_str(), &what);
            }
            if self.run.vote_weight == VoteWeight::Confidence {
                return refused("vote_weight", self.run.vote_weight.as_str(), &what);
            }
        }
        match self.run.rm_name {
            Some(name @ RewardName::SelfCertainty) if provider != ProviderName::Llama => {
                let what = "the probabilities of the whole vocabulary, which only models in this process tell";
                refused("rm_name", name.as_str(), what)
            }
            _ => Ok(()),
        }
    }

    /// The rules that concern more than one field.
    fn check_together(&self, named: &BTreeMap<&str, &Value>) -> Result<(), SettingsError> {
        if self.run.limits.max_cost_usd.is_some() {
            self.check_prices()?;
        }
        self.check_token_signals()?;
        match self.provider {
            ProviderName::Llama => {
                if self.endpoint != Endpoint::Auto {
                    return Err(SettingsError::invalid(
                        "endpoint",
                        "`endpoint` must be `auto` for the provider `llama`, which runs in this process",
                    ));
                }
                // Read and ignored would be worse than refused.
                for field in ["api_key", "allow_any_model"].iter().chain(calls::FIELDS) {
                    if named.get(field).is_some_and(|value| **value != Value::Bool(false)) {
                        return Err(SettingsError::invalid(
                            *field,
                            format!(
                                "`{field}` has no meaning for the provider `llama`, which runs in this process; leave it out"
                            ),
                        ));
                    }
                }
                if !self.extra_args.is_empty() {
                    return Err(SettingsError::later(
                        "extra_args",
                        "load options in `extra_args` are not supported yet by this version; the file's `[llama]` table has them",
                    ));
                }
                Ok(())
            }
            ProviderName::OpenAiCompatible if self.endpoint == Endpoint::Auto => Err(SettingsError::missing(
                "endpoint",
                "`endpoint` is missing: the provider `openai-compatible` has no address of its own",
            )),
            _ => Ok(()),
        }
    }
}

impl ActiveSettings {
    /// Whether everything that the configured run calls has a price.
    fn check_prices(&self) -> Result<(), SettingsError> {
        let upstream = self.model_mapping.get(&self.model).unwrap_or(&self.model);
        let own = [self.model.as_str(), self.provider.resolve(upstream)?.1];
        self.prices.require(&own)?;
        if !self.run.is_judged() {
            return Ok(());
        }
        match self.judge.as_ref().and_then(|judge| judge.model.as_deref()) {
            Some(judge) => self.prices.require(&[judge, self.provider.resolve(judge)?.1]),
            None => Ok(()),
        }
    }
}

fn run_settings(named: &BTreeMap<&str, &Value>) -> Result<RunSettings, SettingsError> {
    let of_the_run = named
        .iter()
        .filter(|(name, _)| !is_configuration_field(name))
        .map(|(name, value)| (*name, (*value).clone()))
        .collect();
    let mut run = RunSettings::default();
    run.apply(&of_the_run)?;
    Ok(run)
}

fn judge(named: &BTreeMap<&str, &Value>) -> Result<Option<JudgeSource>, SettingsError> {
    if !["judge_model", "judge_base_url", "judge_api_key", "judge_extra_args"]
        .iter()
        .any(|name| named.contains_key(name))
    {
        return Ok(None);
    }
    Ok(Some(JudgeSource {
        model: named.get("judge_model").map(|value| field::text("judge_model", value)).transpose()?,
        endpoint: endpoint(named, "judge_base_url")?,
        api_key: secret(named, "judge_api_key")?,
        extra_args: extra_args(named, "judge_extra_args")?,
    }))
}

fn endpoint(named: &BTreeMap<&str, &Value>, name: &str) -> Result<Endpoint, SettingsError> {
    named.get(name).map_or(Ok(Endpoint::Auto), |value| Endpoint::parse(name, value))
}

fn extra_args(named: &BTreeMap<&str, &Value>, name: &str) -> Result<Option<ExtraArgs>, SettingsError> {
    named.get(name).map(|value| ExtraArgs::parse(name, value)).transpose()
}

fn secret(named: &BTreeMap<&str, &Value>, name: &str) -> Result<Option<SecretSource>, SettingsError> {
    named.get(name).map(|value| SecretSource::of_field(name, value)).transpose()
}

fn model_mapping(value: &Value) -> Result<BTreeMap<String, String>, SettingsError> {
    field::object("model_mapping", value)?
        .iter()
        .map(|(public, upstream)| {
            if public.trim().is_empty() {
                return Err(SettingsError::invalid("model_mapping", "`model_mapping` must not hold an empty name"));
            }
            Ok((public.clone(), field::text(&format!("model_mapping.{public}"), upstream)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::completion::{MaxTokens, MaxTokensName};
    use crate::config::field::SettingsCode::{self, InvalidValue, MissingField, NotSupportedYet, UnknownField};
    use crate::config::run::{AlgorithmName, StopRule, ToolVote, VoteOn};

    fn parse(document: Value) -> Result<ActiveSettings, SettingsError> {
        ActiveSettings::parse(document.as_object().unwrap())
    }

    #[test]
    fn a_model_alone_is_a_configuration_with_the_documented_defaults() {
        let settings = parse(json!({"model": "gpt-4o-mini"})).unwrap();
        assert_eq!(settings.provider, ProviderName::OpenAi);
        assert_eq!(settings.endpoint, Endpoint::Auto);
        assert!(settings.api_key.is_none());
        assert!(!settings.allow_any_model);
        assert_eq!(settings.calls, CallSettings::default());
        assert_eq!(settings.run, RunSettings::default());
        assert_eq!(settings.run.algorithm, AlgorithmName::SelfConsistency);
        assert_eq!(settings.run.budget, 8);
        assert_eq!(settings.run.tool_vote, ToolVote::ToolHierarchical);
        assert_eq!(settings.run.vote_on, VoteOn::Auto);
        assert_eq!(settings.run.stop_rule, StopRule::Decided);
    }

    #[test]
    fn what_litellm_keeps_to_itself_goes_to_no_model_but_by_a_proxy_of_its_own() {
        let parsed = |provider: &str| {
            parse(json!({
                "provider": provider, "model": "m", "endpoint": "https://x.example",
                "extra_args": {"num_retries": 3}, "judge_extra_args": {"timeout": 60}
            }))
            .unwrap()
        };
        for provider in ["openai", "litellm", "vllm"] {
            let settings = parsed(provider);
            assert!(settings.extra_args.is_empty());
            let told = settings.left_out.join("\n");
            assert!(told.contains("`extra_args.num_retries`") && told.contains("`judge_extra_args.timeout`"), "{told}");
        }
        let settings = parsed("openai-compatible");
        assert!(!settings.extra_args.is_empty() && settings.left_out.is_empty());
    }

    #[test]
    fn the_self_consistency_example_of_its_hub_is_taken_with_its_nulls() {
        let settings = parse(json!({
            "provider": "litellm", "endpoint": "auto", "api_key": "your-openai-api-key", "model": "gpt-4o-mini",
            "alg": "self-consistency", "tool_vote": "tool_hierarchical",
            "exclude_args": ["timestamp", "request_id", "id", "type"],
            "rm_name": null, "judge_model": null, "regex_patterns": null, "temperature": null, "extra_args": null
        }))
        .unwrap();
        assert_eq!(settings.provider, ProviderName::LiteLlm);
        assert_eq!(settings.run.exclude_args, ["timestamp", "request_id", "id", "type"]);
    }

    #[test]
    fn every_name_that_would_go_to_openai_by_surprise_is_warned_of_where_openai_is_called() {
        let warned = |fields: Value| parse(fields).unwrap().warnings_of_names();
        let names = json!({
            "provider": "litellm", "model": "anthropic/claude", "judge_model": "gemini/pro",
            "model_mapping": {"a": "cohere/command", "b": "Qwen/Qwen3-8B"}
        });
        let told = warned(names.clone());
        assert_eq!(told.len(), 3, "{told:?}");
        for (warning, name) in
            told.iter().zip(["`model` `anthropic/", "`model_mapping.a` `cohere/", "`judge_model` `g"])
        {
            assert!(warning.starts_with(name), "{warning}");
        }
        let mut elsewhere = names;
        elsewhere["endpoint"] = json!("https://llm.example.com/v1");
        assert_eq!(warned(elsewhere), Vec::<String>::new());
        assert_eq!(warned(json!({"model": "anthropic/claude", "provider": "openrouter"})), Vec::<String>::new());
    }

    #[test]
    fn a_limit_of_cost_needs_the_price_of_everything_that_is_called() {
        let base = json!({"model": "m", "model_mapping": {"m": "upstream"}, "limits": {"max_cost_usd": 1}});
        let with = |fields: Value| {
            let mut document = base.clone();
            document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            parse(document)
        };
        assert_eq!(with(json!({})).unwrap_err().param, "limits.max_cost_usd");
        assert_eq!(with(json!({"prices": {"other": {"prompt": 1}}})).unwrap_err().param, "limits.max_cost_usd");
        for name in ["m", "upstream"] {
            assert!(with(json!({"prices": {name: {"prompt": 1}}})).is_ok(), "{name}");
        }
        // A judge is paid for too, but only where there is one.
        let judged = json!({"prices": {"m": {"prompt": 1}}, "judge_model": "j", "alg": "best-of-n"});
        assert!(with(judged.clone()).is_ok());
        let mut judged = judged;
        judged["rm_name"] = json!("llm-judge");
        assert!(with(judged.clone()).unwrap_err().message.contains("`j`"));
        judged["prices"]["j"] = json!({"completion": 1});
        assert!(with(judged).is_ok());
    }

    #[test]
    fn every_sampling_default_is_read() {
        let run = parse(json!({
            "model": "m", "temperature": 0.7, "top_p": 0.9, "top_k": 40, "max_tokens": 100, "seed": -5, "stop": "END",
            "budget": 3
        }))
        .unwrap()
        .run;
        assert_eq!((run.temperature, run.top_p, run.top_k), (Some(0.7), Some(0.9), Some(40)));
        assert_eq!((run.seed, run.budget), (Some(-5), 3));
        assert_eq!(run.stop, ["END"]);
        assert_eq!(run.max_tokens, Some(MaxTokens { tokens: 100, name: MaxTokensName::MaxTokens }));
    }

    #[test]
    fn the_length_limit_keeps_the_name_that_the_provider_takes() {
        let run = parse(json!({"model": "o3-mini", "max_completion_tokens": 4_294_967_295_u32})).unwrap().run;
        assert_eq!(run.max_tokens, Some(MaxTokens { tokens: u32::MAX, name: MaxTokensName::MaxCompletionTokens }));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_field_named() {
        let table: [(Value, SettingsCode, &str); 33] = [
            (json!({}), MissingField, "model"),
            (json!({"model": null}), MissingField, "model"),
            (json!({"model": " "}), InvalidValue, "model"),
            (json!({"model": 4}), InvalidValue, "model"),
            (json!({"model": "m", "buget": 4}), UnknownField, "buget"),
            (json!({"model": "m", "zzz": null}), UnknownField, "zzz"),
            (json!({"model": "m", "max_tokens": 0}), InvalidValue, "max_tokens"),
            (json!({"model": "m", "max_completion_tokens": 0}), InvalidValue, "max_completion_tokens"),
            (json!({"model": "m", "max_tokens": 9, "max_completion_tokens": 9}), InvalidValue, "max_tokens"),
            (json!({"model": "m", "prices": {"m": {"prompt": -1}}}), InvalidValue, "prices.m.prompt"),
            (json!({"model": "m", "judge_base_url": "not a url"}), InvalidValue, "judge_base_url"),
            (json!({"model": "m", "judge_api_key": "a\nb"}), InvalidValue, "judge_api_key"),
            (json!({"model": "m", "judge_extra_args": {"n": 1}}), InvalidValue, "judge_extra_args.n"),
            (json!({"model": "m", "lookahead": 2}), NotSupportedYet, "lookahead"),
            (json!({"model": "m", "rm_name": "prm"}), NotSupportedYet, "rm_name"),
            (json!({"model": "m", "alg": "dvts"}), NotSupportedYet, "alg"),
            (json!({"model": "m", "provider": "nonsense"}), InvalidValue, "provider"),
            (json!({"model": "m", "provider": "openai-compatible"}), MissingField, "endpoint"),
            (json!({"model": "m", "endpoint": []}), InvalidValue, "endpoint"),
            (json!({"model": "m", "endpoint": ["https://a", "auto"]}), InvalidValue, "endpoint[1]"),
            (json!({"model": "m", "endpoint": "not a url"}), InvalidValue, "endpoint"),
            (json!({"model": "m", "api_key": 4}), InvalidValue, "api_key"),
            (json!({"model": "m", "api_key": ""}), InvalidValue, "api_key"),
            (json!({"model": "m", "api_key": "a\nb"}), InvalidValue, "api_key"),
            (json!({"model": "m", "model_mapping": {"a": 1}}), InvalidValue, "model_mapping.a"),
            (json!({"model": "m", "model_mapping": []}), InvalidValue, "model_mapping"),
            (json!({"model": "m", "allow_any_model": "yes"}), InvalidValue, "allow_any_model"),
            (json!({"model": "m", "n_parallel": 0}), InvalidValue, "n_parallel"),
            (json!({"model": "m", "timeout_ms": 0}), InvalidValue, "timeout_ms"),
            (json!({"model": "m", "max_retries": -1}), InvalidValue, "max_retries"),
            (json!({"model": "m", "provider": "llama", "endpoint": "http://localhost"}), InvalidValue, "endpoint"),
            (json!({"model": "m", "provider": "llama", "api_key": "k"}), InvalidValue, "api_key"),
            (json!({"model": "m", "provider": "llama", "extra_args": {"n_ctx": 1}}), NotSupportedYet, "extra_args"),
        ];
        for (document, code, param) in table {
            let error = parse(document.clone()).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{document}: {}", error.message);
        }
        let hint = parse(json!({"model": "m", "tool_votes": "x"})).unwrap_err();
        assert_eq!(hint.message, "unknown field `tool_votes`; did you mean `tool_vote`?");
    }

    #[test]
    fn a_null_under_the_name_of_a_later_field_is_as_good_as_nothing() {
        let mut document = Map::from_iter([("model".to_owned(), json!("m"))]);
        for name in LATER {
            document.insert((*name).to_owned(), Value::Null);
        }
        assert!(ActiveSettings::parse(&document).is_ok());
    }
}
