//! Whose model it is: what Converse does not name itself, each maker has a name of its own for.

use crate::config::capabilities::foundation_model;

/// Models that understand the same additional fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Claude(Thinking),
    /// `reasons` from the second on.
    Nova {
        reasons: bool,
    },
    Cohere,
    /// Models of open weights that take `reasoning_effort` by that name.
    TakesEffort,
    /// OpenAI's own, beside those of open weights.
    Gpt,
    /// The maker is known, and has no names of its own.
    Other,
    /// The name of an application's profile, or whatever else says nothing of the model.
    Hidden,
}

/// How a Claude is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Never,
    /// By a number of tokens.
    Budget,
    /// By how hard it is to try.
    Effort,
    /// The same, and it may think without being told.
    AtWill,
}

impl Family {
    /// Of the model of this name, which may be a profile's or an ARN.
    pub fn of(model: &str) -> Self {
        let model = foundation_model(model);
        let Some((maker, name)) = model.split_once('.').filter(|_| !model.contains('/')) else { return Self::Hidden };
        let is = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
        match maker {
            "anthropic" if is(&["claude-v", "claude-instant", "claude-3-5", "claude-3-opus", "claude-3-sonnet"]) => {
                Self::Claude(Thinking::Never)
            }
            "anthropic" if is(&["claude-3-haiku"]) => Self::Claude(Thinking::Never),
            "anthropic" if is(&["claude-3-", "claude-opus-4-2025", "claude-sonnet-4-2025", "claude-opus-4-1"]) => {
                Self::Claude(Thinking::Budget)
            }
            "anthropic" if is(&["claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"]) => {
                Self::Claude(Thinking::Budget)
            }
            "anthropic" if is(&["claude-opus-4-", "claude-sonnet-4-"]) => Self::Claude(Thinking::Effort),
            "anthropic" => Self::Claude(Thinking::AtWill),
            "amazon" if name.starts_with("nova-") => {
                Self::Nova { reasons: !is(&["nova-micro", "nova-lite", "nova-pro", "nova-premier"]) }
            }
            "cohere" => Self::Cohere,
            "openai" if name.starts_with("gpt-oss") => Self::TakesEffort,
            "openai" => Self::Gpt,
            "moonshot" | "moonshotai" => Self::TakesEffort,
            _ => Self::Other,
        }
    }

    pub fn is_claude(self) -> bool {
        matches!(self, Self::Claude(_))
    }

    /// Whether the result of a tool may say that the tool failed. Where nothing is known, it is asked.
    pub fn takes_result_status(self) -> bool {
        matches!(self, Self::Claude(_) | Self::Nova { .. } | Self::Hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_family() {
        use Family::{Claude, Cohere, Gpt, Hidden, Nova, Other, TakesEffort};
        for (model, family) in [
            ("us.anthropic.claude-3-5-haiku-20241022-v1:0", Claude(Thinking::Never)),
            ("anthropic.claude-3-haiku-20240307-v1:0", Claude(Thinking::Never)),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Claude(Thinking::Budget)),
            ("us.anthropic.claude-opus-4-20250514-v1:0", Claude(Thinking::Budget)),
            ("global.anthropic.claude-haiku-4-5-20251001-v1:0", Claude(Thinking::Budget)),
            ("us.anthropic.claude-opus-4-6-v1", Claude(Thinking::Effort)),
            ("us.anthropic.claude-opus-4-8", Claude(Thinking::Effort)),
            ("us.anthropic.claude-opus-5", Claude(Thinking::AtWill)),
            ("us.amazon.nova-lite-v1:0", Nova { reasons: false }),
            ("us.amazon.nova-2-lite-v1:0", Nova { reasons: true }),
            ("amazon.titan-text-lite-v1", Other),
            ("cohere.command-r-v1:0", Cohere),
            ("openai.gpt-oss-20b-1:0", TakesEffort),
            ("moonshot.kimi-k2-thinking", TakesEffort),
            ("us.openai.gpt-5.6-terra", Gpt),
            ("qwen.qwen3-32b-v1:0", Other),
            ("my-model", Hidden),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/ab.cd", Hidden),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-pro-v1:0",
                Nova { reasons: false },
            ),
        ] {
            assert_eq!(Family::of(model), family, "{model}");
        }
    }
}
