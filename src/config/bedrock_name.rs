//! Names of models on AWS Bedrock as people write them: which are ones without a prefix, and which can be none.

use super::capabilities::foundation_model;
use super::field::SettingsError;

/// Who makes the models there: each model's id begins so.
const MAKERS: [&str; 19] = [
    "ai21",
    "amazon",
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "luma",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "moonshotai",
    "nvidia",
    "openai",
    "qwen",
    "stability",
    "twelvelabs",
    "writer",
    "zai",
];

/// Whether a name without a prefix is one of Bedrock's: a model's id, that of an inference profile, or an ARN.
pub(super) fn is_of_bedrock(name: &str) -> bool {
    if let Some(arn) = name.strip_prefix("arn:") {
        return arn.split(':').nth(1) == Some("bedrock");
    }
    let model = foundation_model(name).split_once('.');
    !name.contains('/') && model.is_some_and(|(maker, rest)| MAKERS.contains(&maker) && !rest.is_empty())
}

/// Refuses what can be no model there. `prefix` is what stood before the name, with its slash.
///
/// # Errors
///
/// Names with LiteLLM's words for an API or a family before them, and with characters that no id has, with what to
/// write.
pub(super) fn check(prefix: &str, name: &str) -> Result<(), SettingsError> {
    if let Some(other) = name.chars().find(|letter| !letter.is_ascii_alphanumeric() && !"-_.:/".contains(*letter)) {
        let message = format!("`model` `{prefix}{name}` holds {other:?}, which no name of a model on Bedrock can");
        return Err(SettingsError::invalid("model", message));
    }
    let Some((route, rest)) = name.split_once('/').filter(|_| !name.starts_with("arn:")) else { return Ok(()) };
    let advice = match route {
        "agent" | "agentcore" => "agents are not called, only models, by their ids or ARNs".to_owned(),
        _ if rest.is_empty() => "name the model by its id or ARN".to_owned(),
        _ => format!("models are called by the Converse API, whatever they are made of: write `{prefix}{rest}`"),
    };
    Err(SettingsError::invalid("model", format!("`{route}/` in `model` leads to no model of Bedrock's: {advice}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_profiles_and_arns_are_bedrocks_without_a_prefix() {
        for name in [
            "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
            "amazon.nova-lite-v1:0",
            "global.amazon.nova-2-lite-v1:0",
            "meta.llama3-70b-instruct-v1:0",
            "deepseek.r1-v1:0",
            "openai.gpt-oss-120b-1:0",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3",
            "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.nova-pro-v1:0",
        ] {
            assert!(is_of_bedrock(name), "{name}");
        }
        for name in [
            "gpt-4o-mini",
            "gpt-4.1",
            "claude-3.5-sonnet",
            "anthropic",
            "anthropic.",
            "us.gpt-4.1",
            "anthropic/claude.x",
            "meta.llama/x",
            "Qwen/Qwen2.5-7B",
            "arn:aws:iam::1:role/bedrock",
            "arn:",
            "",
        ] {
            assert!(!is_of_bedrock(name), "{name}");
        }
    }

    #[test]
    fn what_can_be_no_model_is_refused_with_what_to_write() {
        let arn = "arn:aws:bedrock:us-east-1:123456789012:imported-model/a1b2";
        for name in [arn, "us.amazon.nova-lite-v1:0", "my_model", "arn:aws:sagemaker:us-east-1:1:endpoint/mine"] {
            check("bedrock/", name).unwrap();
        }
        for (name, words) in [
            (format!("nova/{arn}"), format!("write `bedrock/{arn}`")),
            (format!("deepseek_r1/{arn}"), format!("write `bedrock/{arn}`")),
            ("invoke/amazon.nova-lite-v1:0".to_owned(), "write `bedrock/amazon.nova-lite-v1:0`".to_owned()),
            ("converse_like/x".to_owned(), "write `bedrock/x`".to_owned()),
            ("mantle/x".to_owned(), "write `bedrock/x`".to_owned()),
            ("agent/ABC/DEF".to_owned(), "agents are not called".to_owned()),
            ("invoke/".to_owned(), "name the model".to_owned()),
            ("amazon.nova lite".to_owned(), "' '".to_owned()),
            ("amazon.növa".to_owned(), "'ö'".to_owned()),
        ] {
            let error = check("bedrock/", &name).unwrap_err();
            assert_eq!(error.param, "model");
            assert!(error.message.contains(&words), "{}", error.message);
        }
        assert!(check("", "invoke/a.b").unwrap_err().message.contains("write `a.b`"));
    }
}
