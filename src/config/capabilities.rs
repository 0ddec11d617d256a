//! What providers can do, as data: one row a provider, and one a family of models where they differ.
//!
//! A row says what is known of a server before it is asked; `extra_args.capabilities` says it better where somebody
//! knows better. Whoever needs more than the row has is refused, or served another way that a warning names.

mod bedrock;
mod bedrock_names;
mod columns;
mod overrides;
mod rows;
mod told;

use url::Url;

use super::provider::ProviderName;

pub use bedrock_names::foundation_model;
pub(super) use columns::MEMBERS;
pub use columns::{Capabilities, ForcedTool, LengthLimit, Prefill, StructuredOutput, Support};
pub use overrides::{CapabilityOverrides, MODELS};
pub use told::markdown;

use rows::ROWS;

/// What the models of one provider can do: the rows of the table, and what a configuration says in their place.
#[derive(Debug, Clone, PartialEq)]
pub struct CapabilityTable {
    provider: ProviderName,
    overrides: CapabilityOverrides,
}

impl CapabilityTable {
    /// The rows of a provider at its own address.
    pub fn new(provider: ProviderName) -> Self {
        Self { provider, overrides: CapabilityOverrides::default() }
    }

    /// The rows for calls that go to these addresses. Behind another address than a hosted provider's own there may
    /// be anything, and nothing is taken for granted; a server that people run themselves is wherever they say.
    pub fn at<'a>(provider: ProviderName, addresses: impl IntoIterator<Item = &'a Url>) -> Self {
        let own = provider.remote_defaults().and_then(|defaults| Url::parse(defaults.base_url?).ok());
        let is_hosted = own.as_ref().is_some_and(|own| own.scheme() == "https");
        let is_elsewhere = |address: &Url| own.as_ref().is_some_and(|own| own.origin() != address.origin());
        if is_hosted && addresses.into_iter().any(is_elsewhere) {
            return Self::new(ProviderName::OpenAiCompatible);
        }
        Self::new(provider)
    }

    /// The same table with other cells wherever these are given.
    pub fn with(self, overrides: CapabilityOverrides) -> Self {
        Self { overrides, ..self }
    }

    /// The same table as it is known without anybody's correction.
    pub fn uncorrected(self) -> Self {
        self.with(CapabilityOverrides::default())
    }

    /// The row of a model, by the name that the provider knows it by.
    pub fn of(&self, model: &str) -> Capabilities {
        let row = ROWS.iter().find(|row| row.provider == self.provider && row.is_of(model));
        let row = row.expect("every provider has a row for all of its models").capabilities;
        self.overrides.over(model, row)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(provider: ProviderName, model: &str) -> Capabilities {
        CapabilityTable::new(provider).of(model)
    }

    #[test]
    fn every_provider_has_one_row_for_all_models_after_those_of_its_families() {
        for provider in ProviderName::ALL {
            let rows: Vec<_> = ROWS.iter().filter(|row| row.provider == provider).collect();
            let general = rows.iter().filter(|row| row.models == ["*"]).count();
            assert_eq!(general, 1, "{}", provider.as_str());
            assert_eq!(rows.last().unwrap().models, ["*"], "{}", provider.as_str());
            // A row that says what the general one says is none of its own.
            let last = rows.last().unwrap().capabilities;
            assert!(rows[..rows.len() - 1].iter().all(|row| row.capabilities != last), "{}", provider.as_str());
        }
    }

    #[test]
    fn reasoning_models_of_openai_are_told_from_the_others_by_their_names() {
        let openai = ProviderName::OpenAi;
        for model in ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "ft:o4-mini:me::1"] {
            let row = of(openai, model);
            assert_eq!((row.sampling, row.logprobs), (Support::No, Support::No), "{model}");
            assert_eq!((row.max_stop, row.length_limit), (Some(0), LengthLimit::MaxCompletionTokens), "{model}");
            assert_eq!(row.top_logprobs(), None, "{model}");
        }
        for model in
            ["gpt-4o-mini", "gpt-4.1", "gpt-3.5-turbo", "gpt-5-chat-latest", "o", "ollama", "chatgpt-4o-latest"]
        {
            let row = of(openai, model);
            assert_eq!((row.sampling, row.top_logprobs(), row.max_stop), (Support::Yes, Some(20), Some(4)), "{model}");
        }
        // Those take a temperature as long as they do not reason.
        assert_eq!(of(openai, "gpt-5.1").sampling, Support::Unknown);
        assert_eq!(of(openai, "gpt-5.1").length_limit, LengthLimit::MaxCompletionTokens);
    }

    #[test]
    fn nothing_is_known_of_what_is_behind_an_address_of_somebody_elses() {
        let url = |text: &str| Url::parse(text).unwrap();
        let unknown = of(ProviderName::OpenAiCompatible, "m");
        let at = |provider, addresses: &[&str]| {
            let addresses: Vec<Url> = addresses.iter().map(|text| url(text)).collect();
            CapabilityTable::at(provider, &addresses).of("m")
        };
        assert_eq!(at(ProviderName::Groq, &["https://proxy.example/v1"]), unknown);
        assert_eq!(at(ProviderName::Groq, &["https://api.groq.com/openai/v1"]), of(ProviderName::Groq, "m"));
        assert_eq!(at(ProviderName::Groq, &["https://api.groq.com/v1", "https://proxy.example/v1"]), unknown);
        // These are wherever somebody runs them.
        for provider in [ProviderName::Vllm, ProviderName::LmStudio, ProviderName::Ollama, ProviderName::LlamaServer] {
            assert_eq!(at(provider, &["https://gpu.example/v1"]), of(provider, "m"));
        }
    }

    #[test]
    fn a_configuration_that_knows_better_has_its_way_cell_by_cell() {
        let overrides = json!({"n": true, "seed": false, "max_stop": 1, "forced_tool": "required", "tools": null});
        let overrides = CapabilityOverrides::parse("extra_args.capabilities", &overrides).unwrap();
        let row = of(ProviderName::Groq, "m");
        let over = CapabilityTable::new(ProviderName::Groq).with(overrides).of("m");
        let expected = Capabilities {
            n: Support::Yes,
            seed: Support::No,
            max_stop: Some(1),
            forced_tool: ForcedTool::Required,
            ..row
        };
        assert_eq!(over, expected);
        assert_eq!(over.tools, Support::Yes, "null is as the row has it");
    }

    #[test]
    fn the_shape_that_a_server_can_be_held_to_follows_from_two_cells() {
        use Support::{No, Unknown, Yes};
        let row = of(ProviderName::OpenAiCompatible, "m");
        for (json_schema, json_object, expected) in [
            (Yes, Yes, StructuredOutput::JsonSchema),
            (Yes, No, StructuredOutput::JsonSchema),
            (Unknown, Unknown, StructuredOutput::Unknown),
            (Unknown, Yes, StructuredOutput::Unknown),
            (No, Yes, StructuredOutput::JsonObject),
            (No, Unknown, StructuredOutput::JsonObject),
            (No, No, StructuredOutput::Unsupported),
        ] {
            let row = Capabilities { json_schema, json_object, ..row };
            assert_eq!(row.structured_output(), expected);
        }
    }
}
