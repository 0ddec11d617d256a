//! Names of models on AWS Bedrock: which model one means, by whatever way it is called.

/// The places that stand before the name of a model in that of an inference profile.
const PLACES: [&str; 12] = ["us", "us-gov", "eu", "apac", "global", "au", "jp", "ca", "sa", "in", "uk", "me"];

/// The model behind a name, without the version of the place that serves it: of an inference profile, the model that
/// it leads to, and of a fine-tuned model the one that it was made of. What hides the model (an application's own
/// profile, a provisioned model) stays as it is, less what every ARN begins with.
///
/// `arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0` is `amazon.nova-lite-v1:0`.
pub fn foundation_model(name: &str) -> &str {
    // arn:PARTITION:bedrock:REGION:ACCOUNT:RESOURCE, and the resource may hold colons of its own.
    let resource = match name.starts_with("arn:") {
        true => name.splitn(6, ':').nth(5).unwrap_or(name),
        false => name,
    };
    let model = match resource.split_once('/') {
        Some(("foundation-model" | "inference-profile", model)) => model,
        // custom-model/BASE.MODEL/ID
        Some(("custom-model", model)) => model.split('/').next().unwrap_or(model),
        _ => resource,
    };
    match model.split_once('.') {
        Some((place, rest)) if PLACES.contains(&place) => rest,
        _ => model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_arns_are_the_model_that_they_lead_to() {
        let claude = "anthropic.claude-3-7-sonnet-20250219-v1:0";
        for name in [
            claude,
            "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "eu.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "apac.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "global.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "us-gov.anthropic.claude-3-7-sonnet-20250219-v1:0",
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-7-sonnet-20250219-v1:0",
            "arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.anthropic.claude-3-7-sonnet-20250219-v1:0",
        ] {
            assert_eq!(foundation_model(name), claude, "{name}");
        }
        let tuned = "arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.nova-lite-v1:0:300k/abcdef123456";
        assert_eq!(foundation_model(tuned), "amazon.nova-lite-v1:0:300k");
    }

    #[test]
    fn what_hides_the_model_is_nobodys() {
        let hidden = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/us.anthropic";
        assert_eq!(foundation_model(hidden), "application-inference-profile/us.anthropic");
        // The beginning is a maker's, not a place.
        assert_eq!(foundation_model("deepseek.r1-v1:0"), "deepseek.r1-v1:0");
        for name in ["", "arn:", "arn:aws:bedrock", ".", "us", "a/b"] {
            assert_eq!(foundation_model(name), name);
        }
        assert_eq!(foundation_model("us."), "");
    }
}
