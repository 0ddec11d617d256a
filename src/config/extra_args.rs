//! `extra_args`: headers and body fields that go with every call to a remote provider.

use serde_json::{Map, Value};

use super::field::{self, SettingsError};
use super::secret::{SecretSource, looks_secret};

/// What the client wants sent besides what itsd sends.
#[derive(Debug, Clone, Default)]
pub struct ExtraArgs {
    /// Name and value; every value is treated as a secret once it is resolved.
    pub headers: Vec<(String, SecretSource)>,
    /// Fields of the request body.
    pub body: Vec<(String, BodyValue)>,
}

/// The value of an extra body field.
#[derive(Debug, Clone)]
pub enum BodyValue {
    Plain(Value),
    /// A string under a name that is likely to hold a secret.
    Secret(SecretSource),
}

/// Headers that belong to the connection or to the request as itsd makes it.
const RESERVED_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept",
    "accept-encoding",
    "te",
    "upgrade",
];

/// Body fields that itsd itself sets.
const RESERVED_BODY: [&str; 5] = ["model", "messages", "stream", "stream_options", "n"];

impl ExtraArgs {
    pub fn parse(value: &Value) -> Result<Self, SettingsError> {
        let mut extra = Self::default();
        for (name, value) in field::object("extra_args", value)? {
            let param = format!("extra_args.{name}");
            match name.as_str() {
                _ if value.is_null() => {}
                "headers" => extra.headers = headers(value)?,
                "capabilities" => {
                    return Err(SettingsError::later(
                        param,
                        "`extra_args.capabilities` is not supported yet by this version",
                    ));
                }
                aws if aws.starts_with("aws_") => {
                    return Err(SettingsError::later(
                        &param,
                        format!("`{param}` belongs to Bedrock, which is not supported yet by this version"),
                    ));
                }
                reserved if RESERVED_BODY.contains(&reserved) => {
                    return Err(SettingsError::invalid(&param, format!("`{param}` is set by each request itself")));
                }
                _ => {
                    let value = match value {
                        Value::String(text) if looks_secret(name) => {
                            BodyValue::Secret(SecretSource::parse(&param, text)?)
                        }
                        other => BodyValue::Plain(other.clone()),
                    };
                    extra.body.push((name.clone(), value));
                }
            }
        }
        Ok(extra)
    }

    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.body.is_empty()
    }
}

/// Calls `visit` with every string of an `extra_args` object that holds a secret, and its place, such as
/// `extra_args.headers.Authorization`. The one definition of which values these are.
pub fn visit_secrets(extra_args: &mut Map<String, Value>, visit: &mut dyn FnMut(&str, &mut String)) {
    for (name, value) in extra_args {
        match value {
            Value::String(text) if looks_secret(name) => visit(&format!("extra_args.{name}"), text),
            Value::Object(headers) if name == "headers" => {
                for (name, value) in headers {
                    if let Value::String(text) = value
                        && looks_secret(name)
                    {
                        visit(&format!("extra_args.headers.{name}"), text);
                    }
                }
            }
            _ => {}
        }
    }
}

fn headers(value: &Value) -> Result<Vec<(String, SecretSource)>, SettingsError> {
    let mut headers = Vec::new();
    for (name, value) in field::object("extra_args.headers", value)? {
        let param = format!("extra_args.headers.{name}");
        if !is_header_name(name) {
            return Err(SettingsError::invalid("extra_args.headers", format!("{name:?} is not the name of a header")));
        }
        if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(SettingsError::invalid(&param, format!("the header `{name}` is set by itsd itself")));
        }
        let text = field::text(&param, value)?;
        if !text.chars().all(|char| char == '\t' || (' '..='~').contains(&char))
            && !super::secret::is_fingerprint(&text)
        {
            return Err(SettingsError::invalid(&param, format!("`{param}` holds characters that no header can")));
        }
        let source =
            if looks_secret(name) { SecretSource::parse(&param, &text)? } else { SecretSource::Literal(text.into()) };
        headers.push((name.clone(), source));
    }
    Ok(headers)
}

/// A token of RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::field::SettingsCode;

    #[test]
    fn headers_and_body_fields_are_told_apart_and_secrets_recognised() {
        let extra = ExtraArgs::parse(&json!({
            "headers": {"X-Title": "itsd", "X-Api-Key": "env:OTHER_KEY"},
            "reasoning_effort": "low", "session_token": "abc", "stop_token_ids": [1, 2], "user": null
        }))
        .unwrap();
        assert!(matches!(&extra.headers[1], (name, SecretSource::Env(_)) if name == "X-Api-Key"));
        let names: Vec<_> =
            extra.body.iter().map(|(name, value)| (name.as_str(), matches!(value, BodyValue::Secret(_)))).collect();
        assert_eq!(names, [("reasoning_effort", false), ("session_token", true), ("stop_token_ids", false)]);
    }

    #[test]
    fn what_itsd_sets_itself_and_what_it_cannot_do_is_refused() {
        for (extra, code, param) in [
            (json!({"headers": {"Host": "x"}}), SettingsCode::InvalidValue, "extra_args.headers.Host"),
            (json!({"headers": {"a b": "x"}}), SettingsCode::InvalidValue, "extra_args.headers"),
            (json!({"headers": {"X-A": "a\r\nX-B: c"}}), SettingsCode::InvalidValue, "extra_args.headers.X-A"),
            (json!({"headers": {"X-A": 1}}), SettingsCode::InvalidValue, "extra_args.headers.X-A"),
            (json!({"headers": ["x"]}), SettingsCode::InvalidValue, "extra_args.headers"),
            (json!({"messages": []}), SettingsCode::InvalidValue, "extra_args.messages"),
            (json!({"aws_access_key_id": "x"}), SettingsCode::NotSupportedYet, "extra_args.aws_access_key_id"),
            (json!({"capabilities": {}}), SettingsCode::NotSupportedYet, "extra_args.capabilities"),
            (json!([]), SettingsCode::InvalidValue, "extra_args"),
        ] {
            let error = ExtraArgs::parse(&extra).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{extra}");
        }
    }
}
