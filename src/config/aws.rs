//! What `extra_args` says of AWS, under the names that LiteLLM gives it: as whom Bedrock is called, and in which region.

use serde_json::Value;
use url::Url;

use super::endpoint::base_url;
use super::field::{self, SettingsError};
use super::secret::SecretSource;

/// What is named; the rest is found where AWS usually has it.
#[derive(Debug, Clone, Default)]
pub struct AwsArgs {
    pub access_key_id: Option<SecretSource>,
    pub secret_access_key: Option<SecretSource>,
    pub session_token: Option<SecretSource>,
    pub region_name: Option<String>,
    pub profile_name: Option<String>,
    /// Another way to say `endpoint`.
    pub runtime_endpoint: Option<Url>,
    /// The member that was read first, by its place.
    first: Option<String>,
}

/// The members that are read here begin so.
pub const PREFIX: &str = "aws_";

const NAMES: [&str; 6] = [
    "aws_access_key_id",
    "aws_bedrock_runtime_endpoint",
    "aws_profile_name",
    "aws_region_name",
    "aws_secret_access_key",
    "aws_session_token",
];

impl AwsArgs {
    /// Reads a member of `field`, which is `extra_args` or `judge_extra_args`.
    pub(super) fn take(&mut self, field: &str, name: &str, value: &Value) -> Result<(), SettingsError> {
        let param = format!("{field}.{name}");
        self.first.get_or_insert_with(|| param.clone());
        let text = || field::text(&param, value).map(|text| text.trim().to_owned());
        let secret = || SecretSource::parse(&param, &text()?);
        match name {
            "aws_access_key_id" => self.access_key_id = Some(secret()?),
            "aws_secret_access_key" => self.secret_access_key = Some(secret()?),
            "aws_session_token" => self.session_token = Some(secret()?),
            "aws_region_name" => self.region_name = Some(region(&param, &text()?)?),
            "aws_profile_name" => self.profile_name = Some(text()?),
            "aws_bedrock_runtime_endpoint" => self.runtime_endpoint = Some(base_url(&param, &text()?)?),
            "aws_role_name"
            | "aws_session_name"
            | "aws_external_id"
            | "aws_web_identity_token"
            | "aws_sts_endpoint" => {
                let message = format!(
                    "`{param}` is not read here; name a profile that assumes the role (`role_arn` in ~/.aws/config) as \
                     `{field}.aws_profile_name`"
                );
                return Err(SettingsError::invalid(param, message));
            }
            _ => return Err(SettingsError::unknown_member(field, name, NAMES)),
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The place of a member that was given, where there is one.
    pub fn place(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

/// Checks the name of a region: one label of a host's name.
///
/// # Errors
///
/// What is none, which would lead elsewhere.
pub fn region(param: &str, text: &str) -> Result<String, SettingsError> {
    let is_label = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if text.is_empty() || !is_label || text.len() > 63 {
        return Err(SettingsError::invalid(param, format!("`{param}` must be a region of AWS, such as us-east-1")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::extra_args::ExtraArgs;
    use crate::config::field::SettingsCode::{self, InvalidValue, UnknownField};

    #[test]
    fn the_names_of_litellm_are_read_and_reach_no_body() {
        let aws = json!({
            "aws_access_key_id": "AKIA", "aws_secret_access_key": "env:KEY", "aws_session_token": null,
            "aws_region_name": "us-east-1"
        });
        let extra = ExtraArgs::parse("extra_args", &aws).unwrap();
        assert_eq!(extra.aws.region_name.as_deref(), Some("us-east-1"));
        assert!(extra.aws.access_key_id.is_some() && extra.aws.session_token.is_none());
        assert!(!extra.is_empty());
        assert!(extra.body.resolve(&crate::config::Environment::default()).unwrap().is_empty());
        assert!(!format!("{extra:?}").contains("AKIA"));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_place() {
        for (aws, code, param) in [
            (json!({"aws_region_name": "us-east-1.evil.example"}), InvalidValue, "e.aws_region_name"),
            (json!({"aws_region_name": ""}), InvalidValue, "e.aws_region_name"),
            (json!({"aws_access_key_id": 4}), InvalidValue, "e.aws_access_key_id"),
            (json!({"aws_role_name": "r"}), InvalidValue, "e.aws_role_name"),
            (json!({"aws_region": "us-east-1"}), UnknownField, "e.aws_region"),
            (json!({"aws_bedrock_runtime_endpoint": "x"}), InvalidValue, "e.aws_bedrock_runtime_endpoint"),
        ] as [(Value, SettingsCode, &str); 6]
        {
            let error = ExtraArgs::parse("e", &aws).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{aws}: {}", error.message);
        }
    }
}
