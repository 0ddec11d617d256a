//! What providers can do, as data: one row a provider, and one a family of models where they differ.
//!
//! A row says what is known of a server before it is asked. Whoever needs more than the row has is refused when a
//! configuration is set, or served another way that the response's warnings name.

use super::provider::{ProviderName, StructuredOutput};
use crate::completion::Logprobs;

/// What the models of one provider can do: the rows of the table, and what a configuration says in their place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CapabilityTable {
    provider: ProviderName,
}

/// What one model can do where it is served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capabilities {
    /// Whether `n` yields that many choices.
    pub n: Support,
    /// The most alternatives that log-probabilities tell of a token; `None` where there are none, or none in OpenAI's
    /// shape.
    pub max_top_logprobs: Option<u8>,
    pub structured_output: StructuredOutput,
    /// Whether closing the connection ends the generation and with it the bill.
    pub stops_billing: Support,
}

/// Whether a server does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Yes,
    No,
    /// It differs by model, or nobody knows.
    Unknown,
}

impl CapabilityTable {
    pub fn new(provider: ProviderName) -> Self {
        Self { provider }
    }

    /// The row of a model, by the name that the provider knows it by.
    pub fn of(&self, _model: &str) -> Capabilities {
        use ProviderName as P;
        let n = match self.provider {
            P::OpenAi | P::LiteLlm | P::Vllm | P::Together | P::DeepInfra | P::Azure => Support::Yes,
            P::Groq | P::Ollama | P::LmStudio | P::TextGenerationWebui => Support::No,
            P::OpenAiCompatible | P::Llama | P::LlamaServer | P::OpenRouter => Support::Unknown,
        };
        let max_top_logprobs = match self.provider {
            // Groq refuses the parameter, LM Studio takes it and answers null, Together has lists of its own.
            P::Groq | P::LmStudio | P::Together => None,
            _ => Some(Logprobs::MOST),
        };
        let stops_billing = match self.provider {
            P::Vllm | P::LlamaServer | P::Ollama | P::LmStudio | P::Llama => Support::Yes,
            _ => Support::Unknown,
        };
        let structured_output = self
            .provider
            .remote_defaults()
            .map_or(StructuredOutput::Unsupported, |defaults| defaults.structured_output);
        Capabilities { n, max_top_logprobs, structured_output, stops_billing }
    }
}
