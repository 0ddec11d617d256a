//! The providers that can be named, as data: where they are and which variable holds their key.

use super::field::SettingsError;
use super::word::words;

words! {
    /// Who answers: the model engine in this process, a service that speaks OpenAI's protocol, or AWS Bedrock.
    pub enum ProviderName {
        OpenAi = "openai",
        /// Chooses the provider by the prefix of the model's name.
        LiteLlm = "litellm",
        /// Any service at an address of its own.
        OpenAiCompatible = "openai-compatible",
        Llama = "llama",
        Vllm = "vllm",
        LlamaServer = "llama-server",
        Ollama = "ollama",
        LmStudio = "lmstudio",
        TextGenerationWebui = "text-generation-webui",
        OpenRouter = "openrouter",
        DeepInfra = "deepinfra",
        Groq = "groq",
        Together = "together",
        /// Azure OpenAI, whose models are the deployments of a resource.
        Azure = "azure",
        /// AWS Bedrock, by its Converse API.
        Bedrock = "bedrock",
    }
}

/// The prefixes by which `litellm` chooses, LiteLLM's several spellings of one server beside each other.
const PREFIXES: [(&str, ProviderName); 16] = [
    ("openai", ProviderName::OpenAi),
    ("openrouter", ProviderName::OpenRouter),
    ("deepinfra", ProviderName::DeepInfra),
    ("groq", ProviderName::Groq),
    ("together_ai", ProviderName::Together),
    ("azure", ProviderName::Azure),
    (BEDROCK, ProviderName::Bedrock),
    ("ollama", ProviderName::Ollama),
    ("ollama_chat", ProviderName::Ollama),
    ("lm_studio", ProviderName::LmStudio),
    ("hosted_vllm", ProviderName::Vllm),
    ("vllm", ProviderName::Vllm),
    ("llamafile", ProviderName::LlamaServer),
    ("oobabooga", ProviderName::TextGenerationWebui),
    ("openai_like", ProviderName::OpenAiCompatible),
    ("custom_openai", ProviderName::OpenAiCompatible),
];

/// What LiteLLM takes off an Azure model's name after the prefix: it tells it the family of the model behind a
/// deployment, and is no part of the deployment's name.
const AZURE_FAMILIES: [&str; 2] = ["o_series/", "gpt5_series/"];

/// The prefix of Bedrock's models, which is also taken where the provider has been named already: no model's own name
/// begins so.
const BEDROCK: &str = "bedrock";

/// What LiteLLM takes off a Bedrock model's name after the prefix: it tells it by which API to call, which here is
/// always Converse.
const BEDROCK_ROUTES: [&str; 2] = ["converse/", "invoke/"];

/// Prefixes that choose a provider in LiteLLM and are part of the name here. Those that are the name of a well-known
/// publisher of models too, such as `nvidia`, are left out.
const ELSEWHERE: [&str; 31] = [
    "ai21",
    "anthropic",
    "anyscale",
    "azure_ai",
    "azure_text",
    "cerebras",
    "cloudflare",
    "codestral",
    "cohere",
    "cohere_chat",
    "databricks",
    "deepseek",
    "fireworks_ai",
    "gemini",
    "github",
    "huggingface",
    "litellm_proxy",
    "mistral",
    "moonshot",
    "nvidia_nim",
    "perplexity",
    "replicate",
    "sagemaker",
    "sagemaker_chat",
    "sambanova",
    "text-completion-openai",
    "vertex_ai",
    "vertex_ai_beta",
    "voyage",
    "watsonx",
    "xai",
];

/// The variables that name an address of Bedrock's runtime, LiteLLM's after AWS's own for the service.
pub const AWS_ENDPOINT_VARIABLES: &[&str] =
    &["AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "AWS_BEDROCK_RUNTIME_ENDPOINT", "AWS_ENDPOINT_URL"];

/// What a remote provider's name stands for.
#[derive(Debug, Clone, Copy)]
pub struct RemoteDefaults {
    /// The address when `endpoint` is `auto`; `None` where only the client knows it.
    pub base_url: Option<&'static str>,
    /// The variables that replace `base_url`: the first of them that the operator has set.
    pub base_url_variables: &'static [&'static str],
    /// The variables that may hold the key, in the order in which they are looked at.
    pub key_variables: &'static [&'static str],
}

impl ProviderName {
    /// The provider that really answers, and the model's name there. Only `litellm` takes a prefix off; one
    /// that it does not know, such as `Qwen/`, is part of the name.
    ///
    /// # Errors
    ///
    /// When no name follows the prefix.
    pub fn resolve(self, model: &str) -> Result<(Self, &str), SettingsError> {
        let (prefix, rest) = match (self, model.split_once('/')) {
            (Self::LiteLlm, Some(parts)) => parts,
            (Self::LiteLlm, None) => return Ok((Self::OpenAi, model)),
            (Self::Bedrock, Some(parts @ (BEDROCK, _))) => parts,
            _ => return Ok((self, model)),
        };
        let Some((_, provider)) = PREFIXES.into_iter().find(|(known, _)| *known == prefix) else {
            return Ok((Self::OpenAi, model));
        };
        let routes: &[&str] = match provider {
            Self::Azure => &AZURE_FAMILIES,
            Self::Bedrock => &BEDROCK_ROUTES,
            _ => &[],
        };
        if provider == Self::Bedrock
            && let Some((region, model)) = rest.split_once('/').filter(|(region, _)| is_aws_region(region))
        {
            let message = format!(
                "`model` names the region `{region}`; name it in `extra_args.aws_region_name`, and write `{prefix}/{model}`"
            );
            return Err(SettingsError::invalid("model", message));
        }
        let rest = routes.iter().find_map(|route| rest.strip_prefix(route)).unwrap_or(rest);
        if rest.is_empty() {
            return Err(SettingsError::invalid("model", format!("`model` names no model after `{prefix}/`")));
        }
        Ok((provider, rest))
    }

    /// What the reader of a configuration should know of this model's name: that it begins as one for a provider
    /// which `litellm` stands for elsewhere and not here, so that it goes to OpenAI as it stands.
    pub fn warning_of(self, param: &str, model: &str) -> Option<String> {
        let (prefix, _) = model.split_once('/').filter(|_| self == Self::LiteLlm)?;
        ELSEWHERE.contains(&prefix).then(|| {
            format!(
                "`{param}` `{model}` goes to the provider `openai` as it stands, since `{prefix}/` chooses no provider in this \
                 version; these do: {}",
                Self::prefixes().map(|prefix| format!("`{prefix}/`")).collect::<Vec<_>>().join(", ")
            )
        })
    }

    /// The prefixes by which `litellm` chooses, without their slash.
    pub fn prefixes() -> impl Iterator<Item = &'static str> {
        PREFIXES.into_iter().map(|(prefix, _)| prefix)
    }

    /// Every provider that a name stands for.
    pub const ALL: [Self; 15] = [
        Self::OpenAi,
        Self::LiteLlm,
        Self::OpenAiCompatible,
        Self::Llama,
        Self::Vllm,
        Self::LlamaServer,
        Self::Ollama,
        Self::LmStudio,
        Self::TextGenerationWebui,
        Self::OpenRouter,
        Self::DeepInfra,
        Self::Groq,
        Self::Together,
        Self::Azure,
        Self::Bedrock,
    ];

    /// `None` for the engine in this process. Variables that LiteLLM reads for the same purpose come after the
    /// provider's own.
    pub fn remote_defaults(self) -> Option<RemoteDefaults> {
        let remote = |base_url, base_url_variables, key_variables| RemoteDefaults {
            base_url: Some(base_url),
            base_url_variables,
            key_variables,
        };
        let without_address =
            |base_url_variables, key_variables| RemoteDefaults { base_url: None, base_url_variables, key_variables };
        Some(match self {
            Self::OpenAi | Self::LiteLlm => {
                remote("https://api.openai.com/v1", &["OPENAI_BASE_URL", "OPENAI_API_BASE"], &["OPENAI_API_KEY"])
            }
            Self::OpenAiCompatible => without_address(&[], &[]),
            Self::Llama => return None,
            Self::Vllm => remote(
                "http://localhost:8000/v1",
                &["VLLM_BASE_URL", "HOSTED_VLLM_API_BASE"],
                &["VLLM_API_KEY", "HOSTED_VLLM_API_KEY"],
            ),
            Self::LlamaServer => remote(
                "http://localhost:8080/v1",
                &["LLAMA_SERVER_BASE_URL", "LLAMAFILE_API_BASE"],
                &["LLAMA_API_KEY", "LLAMAFILE_API_KEY"],
            ),
            Self::Ollama => {
                remote("http://localhost:11434/v1", &["OLLAMA_BASE_URL", "OLLAMA_API_BASE"], &["OLLAMA_API_KEY"])
            }
            Self::LmStudio => remote(
                "http://localhost:1234/v1",
                &["LMSTUDIO_BASE_URL", "LM_STUDIO_API_BASE"],
                &["LM_API_TOKEN", "LM_STUDIO_API_KEY"],
            ),
            Self::TextGenerationWebui => remote(
                "http://localhost:5000/v1",
                &["TEXT_GENERATION_WEBUI_BASE_URL", "OOBABOOGA_API_BASE"],
                &["TEXT_GENERATION_WEBUI_API_KEY", "OOBABOOGA_API_KEY"],
            ),
            Self::OpenRouter => remote(
                "https://openrouter.ai/api/v1",
                &["OPENROUTER_BASE_URL", "OPENROUTER_API_BASE"],
                &["OPENROUTER_API_KEY"],
            ),
            Self::DeepInfra => remote(
                "https://api.deepinfra.com/v1/openai",
                &["DEEPINFRA_BASE_URL", "DEEPINFRA_API_BASE"],
                &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"],
            ),
            Self::Groq => {
                remote("https://api.groq.com/openai/v1", &["GROQ_BASE_URL", "GROQ_API_BASE"], &["GROQ_API_KEY"])
            }
            Self::Together => remote(
                "https://api.together.xyz/v1",
                &["TOGETHER_BASE_URL", "TOGETHER_AI_API_BASE"],
                &["TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY"],
            ),
            Self::Azure => without_address(
                &["AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"],
                &["AZURE_OPENAI_API_KEY", "AZURE_API_KEY"],
            ),
            // Each region has an address of its own.
            Self::Bedrock => without_address(AWS_ENDPOINT_VARIABLES, &["AWS_BEARER_TOKEN_BEDROCK"]),
        })
    }
}

/// Whether a word is the name of one of AWS's regions, such as `us-gov-west-1`, by its shape.
fn is_aws_region(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    let is_of = |part: &&str, letters: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|byte| letters(&byte));
    match parts.as_slice() {
        [area, directions @ .., number] if !directions.is_empty() => {
            area.len() == 2
                && is_of(area, u8::is_ascii_lowercase)
                && directions.iter().all(|part| is_of(part, u8::is_ascii_lowercase))
                && is_of(number, u8::is_ascii_digit)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::field::SettingsCode;

    #[test]
    fn only_litellm_takes_a_known_prefix_off() {
        let litellm = ProviderName::LiteLlm;
        assert_eq!(litellm.resolve("gpt-4o-mini").unwrap(), (ProviderName::OpenAi, "gpt-4o-mini"));
        assert_eq!(litellm.resolve("openai/gpt-4o").unwrap(), (ProviderName::OpenAi, "gpt-4o"));
        assert_eq!(litellm.resolve("Qwen/Qwen2.5-7B").unwrap(), (ProviderName::OpenAi, "Qwen/Qwen2.5-7B"));
        assert_eq!(litellm.resolve("openrouter/meta/llama").unwrap(), (ProviderName::OpenRouter, "meta/llama"));
        assert_eq!(ProviderName::OpenAi.resolve("openai/gpt-4o").unwrap(), (ProviderName::OpenAi, "openai/gpt-4o"));
        for (name, provider, model) in [
            ("azure/my-gpt", ProviderName::Azure, "my-gpt"),
            ("azure/o_series/my-o3", ProviderName::Azure, "my-o3"),
            ("ollama_chat/qwen3:8b", ProviderName::Ollama, "qwen3:8b"),
            ("oobabooga/any", ProviderName::TextGenerationWebui, "any"),
            (
                "bedrock/us.anthropic.claude-3-7-sonnet-20250219-v1:0",
                ProviderName::Bedrock,
                "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            ),
            ("bedrock/converse/amazon.nova-pro-v1:0", ProviderName::Bedrock, "amazon.nova-pro-v1:0"),
            (
                "bedrock/arn:aws:bedrock:us-east-1:1:inference-profile/us.x",
                ProviderName::Bedrock,
                "arn:aws:bedrock:us-east-1:1:inference-profile/us.x",
            ),
            ("openrouter/o_series/x", ProviderName::OpenRouter, "o_series/x"),
        ] {
            assert_eq!(litellm.resolve(name).unwrap(), (provider, model), "{name}");
        }
        let bedrock = ProviderName::Bedrock;
        for (name, model) in [("bedrock/a.b", "a.b"), ("a.b", "a.b"), ("arn:x/bedrock/y", "arn:x/bedrock/y")] {
            assert_eq!(bedrock.resolve(name).unwrap(), (bedrock, model), "{name}");
        }
        for (name, region, model) in [
            ("bedrock/us-west-2/anthropic.claude-v2", "us-west-2", "anthropic.claude-v2"),
            ("bedrock/us-gov-west-1/amazon.nova-pro-v1:0", "us-gov-west-1", "amazon.nova-pro-v1:0"),
        ] {
            for provider in [litellm, bedrock] {
                let error = provider.resolve(name).unwrap_err();
                assert_eq!((error.code, error.param.as_str()), (SettingsCode::InvalidValue, "model"));
                for part in [region, "`extra_args.aws_region_name`", &format!("`bedrock/{model}`")] {
                    assert!(error.message.contains(part), "{}", error.message);
                }
            }
        }
        for (name, model) in [("bedrock/my-model-2", "my-model-2"), ("bedrock/us-west/x", "us-west/x")] {
            assert_eq!(litellm.resolve(name).unwrap(), (bedrock, model), "{name}");
        }
        for nameless in ["openai/", "azure/", "azure/gpt5_series/", "bedrock/"] {
            assert_eq!(litellm.resolve(nameless).unwrap_err().code, SettingsCode::InvalidValue, "{nameless}");
        }
    }

    #[test]
    fn only_prefixes_of_providers_that_litellm_reaches_elsewhere_are_warned_of() {
        let litellm = ProviderName::LiteLlm;
        for name in ["anthropic/claude-sonnet-4", "vertex_ai/gemini-2.5-pro", "deepseek/deepseek-chat", "xai/grok-4"] {
            let warning = litellm.warning_of("model", name).unwrap();
            for part in [name, "`openai/`", "`hosted_vllm/`", "goes to the provider `openai`"] {
                assert!(warning.contains(part), "{warning}");
            }
            assert_eq!(litellm.resolve(name).unwrap(), (ProviderName::OpenAi, name));
            assert_eq!(ProviderName::OpenRouter.warning_of("model", name), None);
        }
        for name in ["Qwen/Qwen2.5-7B", "meta-llama/Llama-3.1-8B", "openai/gpt-4o", "gpt-4o", "anthropic", "groq/x"] {
            assert_eq!(litellm.warning_of("model", name), None, "{name}");
        }
    }

    #[test]
    fn every_provider_is_read_back_by_its_name() {
        assert_eq!(ProviderName::ALL.map(ProviderName::as_str), ProviderName::WORDS);
        for name in ProviderName::WORDS {
            assert_eq!(ProviderName::parse("provider", &Value::from(*name)).unwrap().as_str(), *name);
        }
        let error = ProviderName::parse("provider", &Value::from("opnai")).unwrap_err();
        assert!(error.message.contains("did you mean `openai`"), "{}", error.message);
    }
}
