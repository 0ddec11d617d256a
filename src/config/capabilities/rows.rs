//! The rows of the table, as the providers' documentation has them. What it leaves open, or leaves to the model, is
//! unknown.

use super::columns::Support::{No, Unknown, Yes};
use super::columns::{Capabilities, ForcedTool, LengthLimit, Prefill};
use super::{bedrock, bedrock_names};
use crate::completion::Logprobs;
use crate::config::provider::ProviderName;

/// What the models of these names can do at this provider.
pub struct Row {
    pub provider: ProviderName,
    /// Names, or beginnings of names before a `*`.
    pub models: &'static [&'static str],
    pub capabilities: Capabilities,
}

impl Row {
    /// Whether a model of this name is one of the row's. A fine-tuned model of OpenAI's, `ft:NAME:…`, is what it was
    /// made of, and on Bedrock a profile is the model that it leads to.
    pub fn is_of(&self, model: &str) -> bool {
        let model = match self.provider {
            ProviderName::Bedrock => bedrock_names::foundation_model(model),
            _ => model.strip_prefix("ft:").map_or(model, |tuned| tuned.split(':').next().unwrap_or(tuned)),
        };
        self.models.iter().any(|name| match name.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == *name,
        })
    }
}

/// Any server that speaks the protocol: whatever a client asks for is asked of it.
pub(super) const ANY: Capabilities = Capabilities {
    n: Unknown,
    max_n: None,
    sampling: Unknown,
    temperature_with_top_p: Unknown,
    top_k: Unknown,
    logit_bias: Unknown,
    seed: Unknown,
    max_stop: None,
    length_limit: LengthLimit::Either,
    explicit_sampling: No,
    logprobs: Unknown,
    max_top_logprobs: Logprobs::MOST,
    tools: Unknown,
    parallel_tools: Unknown,
    forced_tool: ForcedTool::Unknown,
    json_object: Unknown,
    json_schema: Unknown,
    developer_role: Unknown,
    prefill: Prefill::Unknown,
    refuses_unknown_fields: Unknown,
    stream_usage: Unknown,
    stops_billing: Unknown,
    prompt_caching: Unknown,
    own_fields: &[],
};

const OPENAI: Capabilities = Capabilities {
    n: Yes,
    max_n: Some(128),
    sampling: Yes,
    top_k: No,
    logit_bias: Yes,
    seed: Yes,
    max_stop: Some(4),
    logprobs: Yes,
    tools: Yes,
    parallel_tools: Yes,
    forced_tool: ForcedTool::Named,
    json_object: Yes,
    json_schema: Yes,
    developer_role: Yes,
    prefill: Prefill::NewTurn,
    // It refuses them, but makes new ones all the time: which it does not know, it knows best.
    refuses_unknown_fields: Unknown,
    stream_usage: Yes,
    prompt_caching: Yes,
    ..ANY
};

/// Models from before JSON schemas and prompt caching.
const OPENAI_OLD: Capabilities = Capabilities { json_schema: No, prompt_caching: No, ..OPENAI };

/// Models that reason before they answer sample in a way of their own.
const OPENAI_REASONING: Capabilities = Capabilities {
    n: Unknown,
    sampling: No,
    logit_bias: No,
    seed: Unknown,
    max_stop: Some(0),
    length_limit: LengthLimit::MaxCompletionTokens,
    logprobs: No,
    ..OPENAI
};

/// The first of them call one tool at a time.
const OPENAI_O: Capabilities = Capabilities { parallel_tools: No, ..OPENAI_REASONING };

/// Models that reason only where they are told to, and take what the others take as long as they do not.
const OPENAI_HYBRID: Capabilities =
    Capabilities { sampling: Unknown, logit_bias: Unknown, logprobs: Unknown, ..OPENAI_REASONING };

const O_SERIES: &[&str] = &["o1", "o1-*", "o3", "o3-*", "o4-*"];
/// All of that name but `gpt-5-chat-latest`, which does not reason.
const GPT_5: &[&str] = &["gpt-5", "gpt-5-20*", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-pro*", "gpt-5-codex*"];
const GPT_5_POINT: &[&str] = &["gpt-5.*"];
const GPT_OLD: &[&str] = &["gpt-3.5*", "gpt-4", "gpt-4-*"];
const ALL: &[&str] = &["*"];

/// A server that people run themselves stops when nobody listens, and keeps the keys and values of past prompts.
const OWN_SERVER: Capabilities = Capabilities { stops_billing: Yes, prompt_caching: Yes, ..ANY };

const VLLM: Capabilities = Capabilities {
    n: Yes,
    sampling: Yes,
    top_k: Yes,
    logit_bias: Yes,
    seed: Yes,
    logprobs: Yes,
    tools: Yes,
    parallel_tools: Yes,
    forced_tool: ForcedTool::Named,
    json_object: Yes,
    json_schema: Yes,
    prefill: Prefill::ByField,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..OWN_SERVER
};

const LLAMA_SERVER: Capabilities = Capabilities {
    // Older builds refuse more than one.
    n: Unknown,
    sampling: Yes,
    top_k: Yes,
    logit_bias: Yes,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    logprobs: Yes,
    tools: Yes,
    parallel_tools: Yes,
    forced_tool: ForcedTool::Required,
    json_object: Yes,
    json_schema: Yes,
    prefill: Prefill::Continued,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..OWN_SERVER
};

const OLLAMA: Capabilities = Capabilities {
    n: No,
    sampling: Yes,
    top_k: No,
    logit_bias: No,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    tools: Yes,
    parallel_tools: No,
    forced_tool: ForcedTool::Never,
    json_object: Yes,
    json_schema: Yes,
    // Templates of models leave out roles that they do not know.
    developer_role: No,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..OWN_SERVER
};

const LM_STUDIO: Capabilities = Capabilities {
    n: No,
    sampling: Yes,
    top_k: Yes,
    logit_bias: Yes,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    // Takes the wish and answers null.
    logprobs: No,
    tools: Yes,
    // `tool_choice` is a word there, never an object.
    forced_tool: ForcedTool::Required,
    json_object: No,
    json_schema: Yes,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..OWN_SERVER
};

/// A router to models of others, which answers for what they have in common.
const OPENROUTER: Capabilities = Capabilities { stream_usage: Yes, refuses_unknown_fields: No, ..ANY };

const DEEPINFRA: Capabilities = Capabilities {
    n: Yes,
    max_n: Some(4),
    sampling: Yes,
    top_k: Yes,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    tools: Yes,
    // Only `auto` and `none`.
    forced_tool: ForcedTool::Never,
    json_object: Yes,
    json_schema: No,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..ANY
};

const GROQ: Capabilities = Capabilities {
    n: No,
    sampling: Yes,
    top_k: No,
    logit_bias: No,
    seed: Yes,
    max_stop: Some(4),
    logprobs: No,
    tools: Yes,
    parallel_tools: Yes,
    forced_tool: ForcedTool::Named,
    json_object: Yes,
    json_schema: No,
    prefill: Prefill::Continued,
    refuses_unknown_fields: Yes,
    stream_usage: Yes,
    own_fields: &[
        "citation_options",
        "compound_custom",
        "disable_tool_validation",
        "documents",
        "exclude_domains",
        "include_domains",
        "include_reasoning",
        "reasoning_format",
        "search_settings",
    ],
    ..ANY
};

/// Models that it holds to schemas.
const GROQ_SCHEMAS: Capabilities = Capabilities { json_schema: Yes, ..GROQ };
const GROQ_SCHEMA_MODELS: &[&str] = &["openai/gpt-oss-*", "moonshotai/kimi-k2-*", "meta-llama/llama-4-*"];

const TOGETHER: Capabilities = Capabilities {
    n: Yes,
    sampling: Yes,
    top_k: Yes,
    logit_bias: Yes,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    // In lists of its own, which have no alternatives but the token itself.
    logprobs: Yes,
    max_top_logprobs: 0,
    tools: Yes,
    forced_tool: ForcedTool::Named,
    refuses_unknown_fields: No,
    stream_usage: Yes,
    ..ANY
};

/// Deployments have names of their own, which need not tell what is behind them.
const AZURE: Capabilities = Capabilities { length_limit: LengthLimit::Either, max_stop: Some(4), ..OPENAI_HYBRID };
/// Names that people give to deployments of models that do not reason.
const AZURE_GPT: &[&str] = &["gpt-4o*", "gpt-4.1*"];
const AZURE_GPT_OLD: &[&str] = &["gpt-35*", "gpt-3.5*", "gpt-4", "gpt-4-*"];

const TEXT_GENERATION_WEBUI: Capabilities = Capabilities {
    n: No,
    sampling: Yes,
    top_k: Yes,
    seed: Yes,
    length_limit: LengthLimit::MaxTokens,
    // What is not sent is taken from whatever preset somebody has chosen there.
    explicit_sampling: Yes,
    refuses_unknown_fields: No,
    ..OWN_SERVER
};

/// The engine in this process.
const LLAMA: Capabilities = Capabilities {
    // Candidates share the prompt there, so that nothing would be gained.
    n: No,
    sampling: Yes,
    top_k: Yes,
    logit_bias: Yes,
    seed: Yes,
    max_stop: Some(16),
    logprobs: Yes,
    tools: Yes,
    forced_tool: ForcedTool::Never,
    json_object: No,
    json_schema: No,
    developer_role: Yes,
    refuses_unknown_fields: Yes,
    stream_usage: Yes,
    ..OWN_SERVER
};

const fn row(provider: ProviderName, models: &'static [&'static str], capabilities: Capabilities) -> Row {
    Row { provider, models, capabilities }
}

use ProviderName as P;

/// Every row. The first one of a provider that a model belongs to is its own.
pub const ROWS: &[Row] = &[
    row(P::OpenAi, O_SERIES, OPENAI_O),
    row(P::OpenAi, GPT_5, OPENAI_REASONING),
    row(P::OpenAi, GPT_5_POINT, OPENAI_HYBRID),
    row(P::OpenAi, GPT_OLD, OPENAI_OLD),
    row(P::OpenAi, ALL, OPENAI),
    row(P::LiteLlm, ALL, ANY),
    row(P::OpenAiCompatible, ALL, ANY),
    row(P::Llama, ALL, LLAMA),
    row(P::Vllm, ALL, VLLM),
    row(P::LlamaServer, ALL, LLAMA_SERVER),
    row(P::Ollama, ALL, OLLAMA),
    row(P::LmStudio, ALL, LM_STUDIO),
    row(P::TextGenerationWebui, ALL, TEXT_GENERATION_WEBUI),
    row(P::OpenRouter, ALL, OPENROUTER),
    row(P::DeepInfra, ALL, DEEPINFRA),
    row(P::Groq, GROQ_SCHEMA_MODELS, GROQ_SCHEMAS),
    row(P::Groq, ALL, GROQ),
    row(P::Together, ALL, TOGETHER),
    row(P::Azure, O_SERIES, OPENAI_O),
    row(P::Azure, GPT_5, OPENAI_REASONING),
    row(P::Azure, AZURE_GPT, OPENAI),
    row(P::Azure, AZURE_GPT_OLD, OPENAI_OLD),
    row(P::Azure, ALL, AZURE),
    row(P::Bedrock, bedrock::CLAUDE_2, bedrock::CLAUDE_WITHOUT_TOOLS),
    row(P::Bedrock, bedrock::CLAUDE_3, bedrock::CLAUDE_WITHOUT_CACHE),
    row(P::Bedrock, bedrock::CLAUDE_3_5, bedrock::CLAUDE),
    row(P::Bedrock, bedrock::CLAUDE_4_1, bedrock::CLAUDE_ONE_SAMPLER),
    row(P::Bedrock, bedrock::CLAUDE_4_5, bedrock::CLAUDE_WITH_SCHEMAS),
    row(P::Bedrock, bedrock::CLAUDE_4_6, bedrock::CLAUDE_WITHOUT_PREFILL),
    row(P::Bedrock, bedrock::CLAUDE_5_5, bedrock::CLAUDE_UNFORCED),
    row(P::Bedrock, bedrock::CLAUDE_LATER, bedrock::CLAUDE_WITHOUT_SAMPLING),
    row(P::Bedrock, bedrock::NOVA_1, bedrock::NOVA),
    row(P::Bedrock, bedrock::NOVA_LATER, bedrock::NOVA_REASONING),
    row(P::Bedrock, bedrock::WITHOUT_TOOLS, bedrock::PLAIN),
    row(P::Bedrock, bedrock::DEEPSEEK_R1, bedrock::DEEPSEEK_REASONING),
    row(P::Bedrock, bedrock::UNFORCED, bedrock::TOOLS_AT_WILL),
    row(P::Bedrock, bedrock::MISTRAL_LARGE, bedrock::MISTRAL),
    row(P::Bedrock, bedrock::GPT_OSS, bedrock::GPT_WITHOUT_STOP),
    row(P::Bedrock, ALL, bedrock::OTHER),
];
