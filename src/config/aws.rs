//! What `extra_args` says of AWS, under the names that LiteLLM gives it: as whom Bedrock is called, and in which region.

use serde_json::Value;

use super::endpoint::Endpoint;
use super::field::{self, SettingsError};
use super::fields::EXTRA_ARGS;
use super::secret::SecretSource;

/// What is named; the rest is found where AWS usually has it.
#[derive(Debug, Clone)]
pub struct AwsArgs {
    pub access_key_id: Option<SecretSource>,
    pub secret_access_key: Option<SecretSource>,
    pub session_token: Option<SecretSource>,
    pub region_name: Option<String>,
    pub profile_name: Option<String>,
    /// Another way to say `endpoint`.
    pub runtime_endpoint: Endpoint,
    /// The member that was read first, by its place.
    first: Option<String>,
}

/// The members that are read here begin so.
pub const PREFIX: &str = "aws_";

impl AwsArgs {
    /// Reads a member of `field`, which is `extra_args` or `judge_extra_args`.
    pub(super) fn take(&mut self, field: &str, name: &str, value: &Value) -> Result<(), SettingsError> {
        let param = format!("{field}.{name}");
        self.first.get_or_insert_with(|| param.clone());
        let text = || field::text(&param, value).map(|text| Some(text.trim().to_owned()));
        let secret = || SecretSource::of_field(&param, value).map(Some);
        match name {
            "aws_access_key_id" => self.access_key_id = secret()?,
            "aws_secret_access_key" => self.secret_access_key = secret()?,
            "aws_session_token" => self.session_token = secret()?,
            "aws_region_name" => self.region_name = text()?,
            "aws_profile_name" => self.profile_name = text()?,
            "aws_bedrock_runtime_endpoint" => self.runtime_endpoint = Endpoint::parse(&param, value)?,
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
            _ => {
                let known = EXTRA_ARGS.iter().map(|member| member.name);
                return Err(SettingsError::unknown_member(field, name, known.filter(|name| name.starts_with(PREFIX))));
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Whether they say as whom to call.
    pub fn has_credentials(&self) -> bool {
        self.access_key_id.is_some() || self.secret_access_key.is_some() || self.profile_name.is_some()
    }

    /// The same but for as whom to call.
    #[must_use]
    pub fn without_credentials(self) -> Self {
        Self { access_key_id: None, secret_access_key: None, session_token: None, profile_name: None, ..self }
    }

    /// The place of a member that was given, where there is one.
    pub fn place(&self) -> Option<&str> {
        self.first.as_deref()
    }
}

impl Default for AwsArgs {
    fn default() -> Self {
        Self {
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            region_name: None,
            profile_name: None,
            runtime_endpoint: Endpoint::Auto,
            first: None,
        }
    }
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
            (json!({"aws_region_name": ""}), InvalidValue, "e.aws_region_name"),
            (json!({"aws_access_key_id": 4}), InvalidValue, "e.aws_access_key_id"),
            (json!({"aws_session_token": "a\nb"}), InvalidValue, "e.aws_session_token"),
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
