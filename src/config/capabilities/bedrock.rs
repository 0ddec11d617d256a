//! The rows of AWS Bedrock: what the models that it serves take by its Converse API.
//!
//! Converse asks for no more than all of its models understand: nobody draws by a seed, tells log-probabilities, or can
//! be held to just any JSON. The rest differs by family.

use super::columns::Support::{No, Yes};
use super::columns::{Capabilities, ForcedTool, LengthLimit, Prefill};
use super::rows::ANY;

/// What may be behind any other name, and behind the profiles of an application, which do not tell.
pub(super) const OTHER: Capabilities = Capabilities {
    n: No,
    sampling: Yes,
    logit_bias: No,
    seed: No,
    length_limit: LengthLimit::MaxTokens,
    logprobs: No,
    // Only schemas are known there, and an object of which nothing is said is none.
    json_object: No,
    // Both are instructions beside the conversation there.
    developer_role: Yes,
    stream_usage: Yes,
    ..ANY
};

/// Models before `outputConfig`, whose tools are the only way to a form.
const UNFORMED: Capabilities = Capabilities { json_schema: No, parallel_tools: No, prompt_caching: No, ..OTHER };

pub(super) const CLAUDE: Capabilities = Capabilities {
    temperature_with_top_p: Yes,
    top_k: Yes,
    tools: Yes,
    parallel_tools: Yes,
    forced_tool: ForcedTool::Named,
    prefill: Prefill::Continued,
    prompt_caching: Yes,
    ..UNFORMED
};

pub(super) const CLAUDE_WITHOUT_CACHE: Capabilities = Capabilities { prompt_caching: No, ..CLAUDE };
pub(super) const CLAUDE_WITHOUT_TOOLS: Capabilities =
    Capabilities { tools: No, parallel_tools: No, forced_tool: ForcedTool::Never, ..CLAUDE_WITHOUT_CACHE };
pub(super) const CLAUDE_ONE_SAMPLER: Capabilities = Capabilities { temperature_with_top_p: No, ..CLAUDE };
pub(super) const CLAUDE_WITH_SCHEMAS: Capabilities = Capabilities { json_schema: Yes, ..CLAUDE_ONE_SAMPLER };
pub(super) const CLAUDE_WITHOUT_PREFILL: Capabilities =
    Capabilities { prefill: Prefill::Refused, ..CLAUDE_WITH_SCHEMAS };
/// They reason as they see fit, and while they do, no tool can be forced.
pub(super) const CLAUDE_WITHOUT_SAMPLING: Capabilities =
    Capabilities { sampling: No, top_k: No, forced_tool: ForcedTool::Unknown, ..CLAUDE_WITHOUT_PREFILL };
/// They always reason.
pub(super) const CLAUDE_UNFORCED: Capabilities =
    Capabilities { forced_tool: ForcedTool::Never, ..CLAUDE_WITHOUT_SAMPLING };

pub(super) const CLAUDE_2: &[&str] = &["anthropic.claude-v2*", "anthropic.claude-instant-*"];
pub(super) const CLAUDE_3: &[&str] = &[
    "anthropic.claude-3-opus-*",
    "anthropic.claude-3-sonnet-*",
    "anthropic.claude-3-haiku-*",
    "anthropic.claude-3-5-sonnet-20240620-*",
];
/// 3.5, 3.7 and the first of 4.
pub(super) const CLAUDE_3_5: &[&str] =
    &["anthropic.claude-3-*", "anthropic.claude-opus-4-2025*", "anthropic.claude-sonnet-4-2025*"];
pub(super) const CLAUDE_4_1: &[&str] = &["anthropic.claude-opus-4-1-*"];
pub(super) const CLAUDE_4_5: &[&str] =
    &["anthropic.claude-opus-4-5-*", "anthropic.claude-sonnet-4-5-*", "anthropic.claude-haiku-4-5-*"];
pub(super) const CLAUDE_4_6: &[&str] = &["anthropic.claude-opus-4-6*", "anthropic.claude-sonnet-4-6*"];
pub(super) const CLAUDE_5_5: &[&str] =
    &["anthropic.claude-opus-5-5*", "anthropic.claude-sonnet-5-5*", "anthropic.claude-haiku-5-5*"];
/// From 4.7 on.
pub(super) const CLAUDE_LATER: &[&str] = &["anthropic.*"];

pub(super) const NOVA: Capabilities = Capabilities {
    temperature_with_top_p: Yes,
    top_k: Yes,
    max_stop: Some(4),
    tools: Yes,
    forced_tool: ForcedTool::Named,
    prefill: Prefill::Continued,
    prompt_caching: Yes,
    ..UNFORMED
};
pub(super) const NOVA_REASONING: Capabilities = Capabilities { prefill: Prefill::Unknown, ..NOVA };
pub(super) const NOVA_1: &[&str] =
    &["amazon.nova-micro-*", "amazon.nova-lite-*", "amazon.nova-pro-*", "amazon.nova-premier-*"];
pub(super) const NOVA_LATER: &[&str] = &["amazon.nova-*"];

pub(super) const PLAIN: Capabilities = Capabilities { tools: No, ..UNFORMED };
pub(super) const WITHOUT_TOOLS: &[&str] = &[
    "amazon.titan-*",
    "meta.llama3-8b-*",
    "meta.llama3-70b-*",
    "meta.llama3-2-1b-*",
    "meta.llama3-2-3b-*",
    "mistral.mistral-7b-*",
    "mistral.mixtral-*",
    "cohere.command-text-*",
    "cohere.command-light-*",
];

/// It takes at most ten stop sequences.
pub(super) const DEEPSEEK_REASONING: Capabilities = Capabilities { max_stop: Some(10), ..PLAIN };
pub(super) const DEEPSEEK_R1: &[&str] = &["deepseek.r1-*"];

/// They take tools and no word on which.
pub(super) const TOOLS_AT_WILL: Capabilities = Capabilities { tools: Yes, forced_tool: ForcedTool::Never, ..UNFORMED };
pub(super) const UNFORCED: &[&str] = &["meta.llama*", "cohere.command-*", "ai21.*"];

/// It can be made to call some tool, and takes at most ten stop sequences.
pub(super) const MISTRAL: Capabilities =
    Capabilities { tools: Yes, forced_tool: ForcedTool::Required, max_stop: Some(10), ..UNFORMED };
pub(super) const MISTRAL_LARGE: &[&str] =
    &["mistral.mistral-large-2402-*", "mistral.mistral-large-2407-*", "mistral.mistral-small-2402-*"];

pub(super) const GPT_WITHOUT_STOP: Capabilities =
    Capabilities { max_stop: Some(0), tools: Yes, parallel_tools: No, prompt_caching: No, ..OTHER };
pub(super) const GPT_OSS: &[&str] = &["openai.gpt-oss-*"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::capabilities::CapabilityTable;
    use crate::config::provider::ProviderName;

    fn of(model: &str) -> Capabilities {
        CapabilityTable::new(ProviderName::Bedrock).of(model)
    }

    #[test]
    fn claudes_are_told_apart_by_their_versions() {
        for (model, row) in [
            ("anthropic.claude-v2:1", CLAUDE_WITHOUT_TOOLS),
            ("anthropic.claude-3-haiku-20240307-v1:0", CLAUDE_WITHOUT_CACHE),
            ("anthropic.claude-3-5-sonnet-20240620-v1:0", CLAUDE_WITHOUT_CACHE),
            ("anthropic.claude-3-5-sonnet-20241022-v2:0", CLAUDE),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", CLAUDE),
            ("eu.anthropic.claude-sonnet-4-20250514-v1:0", CLAUDE),
            ("us.anthropic.claude-opus-4-20250514-v1:0", CLAUDE),
            ("us.anthropic.claude-opus-4-1-20250805-v1:0", CLAUDE_ONE_SAMPLER),
            ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", CLAUDE_WITH_SCHEMAS),
            ("us.anthropic.claude-opus-4-6-v1", CLAUDE_WITHOUT_PREFILL),
            ("anthropic.claude-sonnet-4-6", CLAUDE_WITHOUT_PREFILL),
            ("us.anthropic.claude-opus-4-7", CLAUDE_WITHOUT_SAMPLING),
            ("global.anthropic.claude-sonnet-5", CLAUDE_WITHOUT_SAMPLING),
            ("global.anthropic.claude-sonnet-5-5", CLAUDE_UNFORCED),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-1-20250805-v1:0",
                CLAUDE_ONE_SAMPLER,
            ),
        ] {
            assert_eq!(of(model), row, "{model}");
        }
    }

    #[test]
    fn the_others_are_told_apart_by_their_makers() {
        for (model, row) in [
            ("us.amazon.nova-lite-v1:0", NOVA),
            ("global.amazon.nova-2-lite-v1:0", NOVA_REASONING),
            ("amazon.titan-text-express-v1", PLAIN),
            ("us.meta.llama3-3-70b-instruct-v1:0", TOOLS_AT_WILL),
            ("us.meta.llama3-2-3b-instruct-v1:0", PLAIN),
            ("cohere.command-r-plus-v1:0", TOOLS_AT_WILL),
            ("mistral.mistral-large-2402-v1:0", MISTRAL),
            ("mistral.mistral-large-3-675b-instruct", OTHER),
            ("us.deepseek.r1-v1:0", DEEPSEEK_REASONING),
            ("deepseek.v3-v1:0", OTHER),
            ("qwen.qwen3-32b-v1:0", OTHER),
            ("openai.gpt-oss-120b-1:0", GPT_WITHOUT_STOP),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", OTHER),
        ] {
            assert_eq!(of(model), row, "{model}");
        }
    }

    #[test]
    fn nobody_there_draws_by_a_seed_or_tells_log_probabilities() {
        for row in super::super::rows::ROWS.iter().filter(|row| row.provider == ProviderName::Bedrock) {
            let row = row.capabilities;
            assert_eq!((row.n, row.seed, row.logit_bias, row.top_logprobs()), (No, No, No, None));
            assert_eq!((row.json_object, row.length_limit), (No, LengthLimit::MaxTokens));
        }
    }
}
