//! Who judges, where the configuration names a judge of its own: which address, with which key.
//!
//! Keys and `extra_args` belong to an address. Those of the model that answers go along only where the judge is at the
//! same one; nowhere else are they the configuration's to send.

use crate::config::active::{ActiveSettings, JudgeSource};
use crate::config::endpoint::Endpoint;
use crate::config::field::SettingsCode;
use crate::config::provider::ProviderName;
use crate::config::{Environment, SettingsError};
use crate::scorers::{JudgeTarget, Lessons};

use super::remote::provider_spec;
use super::targets::Targets;

/// Fields of the model that answers, with the judge's fields that mean the same.
const JUDGE_FIELDS: [(&str, &str); 4] = [
    ("model", "judge_model"),
    ("endpoint", "judge_base_url"),
    ("api_key", "judge_api_key"),
    ("extra_args", "judge_extra_args"),
];

impl Targets {
    /// Builds the judge that a configuration names; `None` where it names none. Makes no network call.
    ///
    /// # Errors
    ///
    /// What cannot be built, by the field to change.
    pub async fn prepare_judge(
        &self,
        settings: &ActiveSettings,
        environment: &Environment,
        warnings: &mut Vec<String>,
    ) -> Result<Option<JudgeTarget>, SettingsError> {
        let Some(source) = &settings.judge else { return Ok(None) };
        let public = source.model.as_ref().unwrap_or(&settings.model);
        let model = settings.model_mapping.get(public).unwrap_or(public);
        let target = if settings.provider == ProviderName::Llama && source.endpoint == Endpoint::Auto {
            for (field, is_named) in
                [("judge_api_key", source.api_key.is_some()), ("judge_extra_args", source.extra_args.is_some())]
            {
                if is_named {
                    let message = format!(
                        "`{field}` has no meaning for a judge in this process; leave it out, or give `judge_base_url`"
                    );
                    return Err(SettingsError::invalid(field, message));
                }
            }
            self.local_judge(model).await?
        } else {
            let (target, told) = self
                .remote_judge(settings, source, model, environment)
                .map_err(|error| in_bedrock(settings, source, model, as_of_the_judge(error)))?;
            for warning in told.iter().filter(|warning| !warnings.contains(warning)).collect::<Vec<_>>() {
                warnings.push(format!("the judge: {}", in_its_fields(warning)));
            }
            target
        };
        Ok(Some(target))
    }

    fn remote_judge(
        &self,
        settings: &ActiveSettings,
        source: &JudgeSource,
        model: &str,
        environment: &Environment,
    ) -> Result<(JudgeTarget, Vec<String>), SettingsError> {
        let (own_provider, _) = settings.provider.resolve(&settings.model)?;
        let (provider, model) = match settings.provider {
            // Any server may be at an address of the judge's own.
            ProviderName::Llama => (ProviderName::OpenAiCompatible, model),
            provider => provider.resolve(model)?,
        };
        let is_at_home = match &source.endpoint {
            Endpoint::Auto => provider == own_provider,
            Endpoint::Url(url) if own_provider != ProviderName::Llama => {
                let (own, _) = provider_spec(settings, own_provider, environment, self.outbound())?;
                own.members.iter().any(|member| member.url.origin() == url.origin())
            }
            Endpoint::Url(_) | Endpoint::Pool(_) => false,
        };
        let at_home = is_at_home.then_some(settings);
        let endpoint = match (&source.endpoint, at_home) {
            (Endpoint::Auto, Some(settings)) => settings.endpoint.clone(),
            (named, _) => named.clone(),
        };
        let mut extra_args =
            source.extra_args.clone().or_else(|| Some(at_home?.extra_args.clone())).unwrap_or_default();
        // AWS's credentials are like a key: they belong to its addresses, whatever else goes with calls there.
        let is_in_aws = provider == ProviderName::Bedrock && (source.endpoint == Endpoint::Auto || at_home.is_some());
        if is_in_aws && extra_args.aws.is_empty() {
            extra_args.aws = settings.extra_args.aws.clone();
        }
        let has_own = source.extra_args.as_ref().is_some_and(|extra| extra.aws.has_credentials());
        if source.api_key.is_some() && !has_own {
            extra_args.aws = extra_args.aws.without_credentials();
        }
        let judge = ActiveSettings {
            // A name may say in which region the model is.
            model: source.model.clone().unwrap_or_else(|| settings.model.clone()),
            endpoint,
            api_key: source.api_key.clone().or_else(|| at_home.filter(|_| !has_own)?.api_key.clone()),
            extra_args,
            ..settings.clone()
        };
        let (spec, warnings) = provider_spec(&judge, provider, environment, self.outbound())?;
        let structured_output = spec.capabilities.of(model).structured_output();
        let target = JudgeTarget {
            generator: self.remote(spec)?,
            model: model.to_owned(),
            structured_output,
            lessons: Lessons::default(),
        };
        Ok((target, warnings))
    }

    #[cfg(feature = "llama")]
    async fn local_judge(&self, model: &str) -> Result<JudgeTarget, SettingsError> {
        let generator = self.locals().find(model, "judge_model")?;
        generator.load().await.map_err(|failure| SettingsError::invalid("judge_model", failure.message))?;
        Ok(JudgeTarget {
            generator,
            model: model.to_owned(),
            structured_output: crate::config::capabilities::StructuredOutput::Unsupported,
            lessons: Lessons::default(),
        })
    }

    #[cfg(not(feature = "llama"))]
    async fn local_judge(&self, _: &str) -> Result<JudgeTarget, SettingsError> {
        let message = "a judge in this process needs the feature `llama`, without which this itsd was built";
        Err(SettingsError::invalid("judge_model", message))
    }
}

/// Whoever gives the judge an address of its own under `bedrock` and nothing that Bedrock needs has another service in
/// mind.
fn in_bedrock(settings: &ActiveSettings, source: &JudgeSource, model: &str, error: SettingsError) -> SettingsError {
    let is_elsewhere = settings.provider == ProviderName::Bedrock && source.endpoint != Endpoint::Auto;
    if !is_elsewhere || error.code != SettingsCode::MissingField {
        return error;
    }
    let own = settings.model.strip_prefix("bedrock/").unwrap_or(&settings.model);
    let message = format!(
        "under the provider `bedrock` the judge is on Bedrock too, and so is `judge_base_url`; for a judge elsewhere set \
         `provider` to `litellm`, `model` to `bedrock/{own}` and `judge_model` to `openai/{model}`; for one on Bedrock: {}",
        error.message
    );
    SettingsError { message, ..error }
}

/// An error about a field of the model that answers, as one about the judge's field of the same meaning.
fn as_of_the_judge(error: SettingsError) -> SettingsError {
    let renamed = JUDGE_FIELDS.iter().find_map(|(field, judges)| {
        let rest = error.param.strip_prefix(field)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{judges}{rest}"))
    });
    SettingsError { param: renamed.unwrap_or(error.param), message: in_its_fields(&error.message), ..error }
}

fn in_its_fields(text: &str) -> String {
    JUDGE_FIELDS.iter().fold(text.to_owned(), |text, (field, judges)| {
        text.replace(&format!("`{field}`"), &format!("`{judges}`"))
            .replace(&format!("`{field}."), &format!("`{judges}."))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::config::Settings;
    use crate::config::capabilities::StructuredOutput;
    use crate::config::cli::ServeArguments;
    use crate::config::field::SettingsCode;

    async fn judge(
        document: Value,
        environment: &[(&str, &str)],
    ) -> Result<(Option<JudgeTarget>, Arc<dyn crate::generator::Generator>), SettingsError> {
        let environment = Environment::from_pairs(environment.iter().copied());
        let settings = Settings::load(&ServeArguments::default(), &environment).unwrap();
        let targets = Targets::new(&settings, Arc::default());
        let settings = ActiveSettings::parse(document.as_object().unwrap())?;
        let names = targets.prepare(&settings, &environment, &mut Vec::new()).await?;
        let judge = targets.prepare_judge(&settings, &environment, &mut Vec::new()).await?;
        Ok((judge, names.active.generator))
    }

    /// Whether the judge is reached as the model that answers is.
    async fn shares(document: Value) -> bool {
        let (judge, own) = judge(document, &[("GROQ_API_KEY", "gk"), ("OPENAI_API_KEY", "ok")]).await.unwrap();
        Arc::ptr_eq(&judge.unwrap().generator, &own)
    }

    #[tokio::test]
    async fn a_judge_at_the_same_address_with_the_same_key_is_reached_the_same_way() {
        assert!(shares(json!({"model": "a", "judge_model": "b"})).await);
        assert!(shares(json!({"model": "a", "api_key": "k", "judge_model": "b", "judge_api_key": "k"})).await);
        assert!(shares(json!({"model": "a", "api_key": "k", "judge_base_url": "https://api.openai.com"})).await);
        let custom =
            json!({"model": "openai/a", "provider": "litellm", "endpoint": "https://x.example", "judge_model": "b"});
        assert!(shares(custom).await);
        assert!(!shares(json!({"model": "a", "judge_model": "b", "judge_api_key": "other"})).await);
        assert!(!shares(json!({"model": "a", "judge_model": "b", "judge_extra_args": {"top_p": 0.5}})).await);
        assert!(!shares(json!({"model": "a", "judge_model": "groq/b", "provider": "litellm"})).await);
        assert!(!shares(json!({"model": "a", "api_key": "k", "judge_base_url": "https://y.example"})).await);
    }

    #[tokio::test]
    async fn the_prefix_of_the_judges_model_chooses_under_litellm_alone() {
        let target = async |provider: &str| {
            let document =
                json!({"model": "a", "provider": provider, "judge_model": "groq/b", "endpoint": "https://x.example"});
            judge(document, &[]).await.unwrap().0.unwrap()
        };
        let chosen = target("litellm").await;
        assert_eq!((chosen.model.as_str(), chosen.structured_output), ("b", StructuredOutput::JsonObject));
        let verbatim = target("openai").await;
        assert_eq!((verbatim.model.as_str(), verbatim.structured_output), ("groq/b", StructuredOutput::Unknown));
    }

    #[tokio::test]
    async fn a_configuration_that_names_no_judge_has_none_of_its_own() {
        assert!(judge(json!({"model": "a", "judge_criterion": "correctness"}), &[]).await.unwrap().0.is_none());
    }

    #[tokio::test]
    async fn a_judge_elsewhere_under_bedrock_is_told_how_to_be_named() {
        let elsewhere = json!({
            "provider": "bedrock", "model": "amazon.nova-lite-v1:0", "judge_model": "gpt-4o",
            "judge_base_url": "https://judge.example/v1", "judge_api_key": "k",
            "extra_args": {"aws_region_name": "us-east-1", "aws_access_key_id": "AKIA", "aws_secret_access_key": "s"}
        });
        let message = judge(elsewhere.clone(), &[]).await.err().unwrap().message;
        for words in ["on Bedrock too", "`litellm`", "`model` to `bedrock/amazon.nova-lite-v1:0`", "`openai/gpt-4o`"] {
            assert!(message.contains(words), "{message}");
        }
        let mut mended = elsewhere;
        mended["provider"] = json!("litellm");
        mended["model"] = json!("bedrock/amazon.nova-lite-v1:0");
        mended["judge_model"] = json!("openai/gpt-4o");
        assert_eq!(judge(mended, &[]).await.unwrap().0.unwrap().model, "gpt-4o");
    }

    #[tokio::test]
    async fn what_cannot_be_is_told_in_the_judges_fields() {
        use SettingsCode::{InvalidValue, MissingField};
        for (document, code, param) in [
            (json!({"model": "a", "judge_base_url": "http://gpu-1"}), InvalidValue, "judge_base_url"),
            (json!({"model": "a", "judge_base_url": "https://169.254.169.254"}), InvalidValue, "judge_base_url"),
            (json!({"model": "a", "judge_api_key": "env:NO_SUCH_KEY"}), InvalidValue, "judge_api_key"),
            (
                json!({"model": "a", "judge_extra_args": {"headers": {"X-Key": "env:NO_SUCH_KEY"}}}),
                InvalidValue,
                "judge_extra_args.headers.X-Key",
            ),
            (
                json!({"model": "a", "judge_extra_args": {"session_token": "env:NO_SUCH_KEY"}}),
                InvalidValue,
                "judge_extra_args.session_token",
            ),
            (
                json!({"model": "a", "provider": "litellm", "judge_model": "bedrock/c"}),
                MissingField,
                "judge_extra_args.aws_region_name",
            ),
        ] {
            let error = judge(document.clone(), &[]).await.err().unwrap();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{document}: {}", error.message);
            assert!(!error.message.contains("`endpoint`") && !error.message.contains("`api_key`"), "{}", error.message);
        }
    }
}
