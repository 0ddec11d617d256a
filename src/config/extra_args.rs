//! `extra_args`: headers and body fields that go with every call to a remote provider.

use std::fmt;

use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::aws::{self, AwsArgs};
use super::capabilities::CapabilityOverrides;
use super::environment::Environment;
use super::field::{self, SettingsError};
use super::secret::{SecretSource, is_public_header, looks_secret};

/// What the client wants sent besides what itsd sends.
#[derive(Debug, Clone, Default)]
pub struct ExtraArgs {
    /// Name and value; every value is treated as a secret once it is resolved.
    pub headers: Vec<(String, SecretSource)>,
    /// What the models can do, in place of what the table says.
    pub capabilities: CapabilityOverrides,
    /// As whom Bedrock is called, and where.
    pub aws: AwsArgs,
    pub body: ExtraBody,
}

/// Fields for the request body. Strings under names that are likely to hold secrets may be references.
#[derive(Clone, Default)]
pub struct ExtraBody {
    /// The field that they are given in.
    field: String,
    fields: Map<String, Value>,
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

/// The member that says what the models can do. It goes nowhere.
pub const CAPABILITIES: &str = "capabilities";

/// What LiteLLM reads for itself and never sends, so that no model should get it from here either, with what says the
/// same here. `metadata` is not among them: it is a field of OpenAI's protocol too.
const LITELLMS_OWN: [(&str, Option<&str>); 24] = [
    ("allowed_openai_params", None),
    ("base_model", None),
    ("cache", None),
    ("caching", None),
    ("client", None),
    ("context_window_fallback_dict", None),
    ("cooldown_time", None),
    ("custom_llm_provider", Some("`provider`")),
    ("drop_params", None),
    ("fallbacks", Some("`endpoint`, which may be a list,")),
    ("force_timeout", Some("`timeout_ms`")),
    ("input_cost_per_token", Some("`prices`")),
    ("litellm_call_id", None),
    ("max_retries", Some("`max_retries`")),
    ("mock_response", None),
    ("modify_params", None),
    ("no-log", None),
    ("num_retries", Some("`max_retries`")),
    ("output_cost_per_token", Some("`prices`")),
    ("request_timeout", Some("`timeout_ms`")),
    ("retry_policy", Some("`max_retries`")),
    ("retry_strategy", Some("`max_retries`")),
    ("stream_timeout", Some("`first_byte_timeout_ms`")),
    ("timeout", Some("`timeout_ms`")),
];

/// Body fields that itsd itself sets.
const RESERVED_BODY: [&str; 5] = ["model", "messages", "stream", "stream_options", "n"];

impl ExtraArgs {
    /// Reads the field of this name, which is `extra_args` or `judge_extra_args`.
    ///
    /// # Errors
    ///
    /// What is no object, and what is not itsd's or not the client's to send.
    pub fn parse(field: &str, value: &Value) -> Result<Self, SettingsError> {
        let mut extra = Self { body: ExtraBody { field: field.to_owned(), fields: Map::new() }, ..Self::default() };
        for (name, value) in field::object(field, value)? {
            let param = format!("{field}.{name}");
            match name.as_str() {
                _ if value.is_null() => {}
                "headers" => extra.headers = headers(&param, value)?,
                CAPABILITIES => extra.capabilities = CapabilityOverrides::parse(&param, value)?,
                aws if aws.starts_with(aws::PREFIX) => extra.aws.take(field, aws, value)?,
                reserved if RESERVED_BODY.contains(&reserved) => {
                    return Err(SettingsError::invalid(&param, format!("`{param}` is set by each request itself")));
                }
                _ => {
                    extra.body.fields.insert(name.clone(), value.clone());
                }
            }
        }
        let mut refused = None;
        visit_secrets(field, &mut extra.body.fields.clone(), &mut |place, text| {
            refused = refused.take().or(SecretSource::parse(place, text).err());
        });
        refused.map_or(Ok(extra), Err)
    }

    /// Takes away what LiteLLM keeps to itself, and says so, each field with what to set in its place.
    pub fn leave_out_litellms(&mut self) -> Vec<String> {
        let field = &self.body.field;
        let mut told = Vec::new();
        for (name, here) in LITELLMS_OWN {
            if self.body.fields.shift_remove(name).is_some() {
                let advice = here.map(|here| format!("; set {here} of the configuration in its place"));
                told.push(format!(
                    "`{field}.{name}` is a setting of LiteLLM's own, which no model gets: it is left out{}",
                    advice.unwrap_or_default()
                ));
            }
        }
        told
    }

    pub fn is_empty(&self) -> bool {
        let is_nothing_known = self.capabilities == CapabilityOverrides::default();
        self.headers.is_empty() && self.body.fields.is_empty() && self.aws.is_empty() && is_nothing_known
    }
}

impl ExtraBody {
    /// The fields with every reference replaced by its secret.
    ///
    /// # Errors
    ///
    /// When a reference leads nowhere.
    pub fn resolve(&self, environment: &Environment) -> Result<Map<String, Value>, SettingsError> {
        let mut fields = self.fields.clone();
        let mut refused = None;
        visit_secrets(&self.field, &mut fields, &mut |place, text| match SecretSource::parse(place, text)
            .and_then(|source| source.resolve(place, environment))
        {
            Ok(secret) => secret.expose_secret().clone_into(text),
            Err(error) => refused = refused.take().or(Some(error)),
        });
        refused.map_or(Ok(fields), Err)
    }
}

// Values may be secrets, so that only the names are shown.
impl fmt::Debug for ExtraBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.fields.keys()).finish()
    }
}

/// Calls `visit` with every string of an `extra_args` object that holds a secret, at any depth, and its
/// place, such as `extra_args.headers.Authorization` for the object of the field `extra_args`. The one definition of
/// which values these are: of the headers all but those that are known to be public, of the body's fields those
/// whose names say so.
pub fn visit_secrets(field: &str, extra_args: &mut Map<String, Value>, visit: &mut dyn FnMut(&str, &mut String)) {
    for (name, value) in extra_args {
        let place = format!("{field}.{name}");
        match value {
            Value::Object(_) if name == CAPABILITIES => {}
            Value::Object(headers) if name == "headers" => {
                for (name, value) in headers {
                    visit_value(&format!("{place}.{name}"), !is_public_header(name), value, visit);
                }
            }
            value => visit_value(&place, looks_secret(name), value, visit),
        }
    }
}

fn visit_value(place: &str, secret: bool, value: &mut Value, visit: &mut dyn FnMut(&str, &mut String)) {
    match value {
        Value::String(text) if secret => visit(place, text),
        Value::Object(fields) => {
            for (name, value) in fields {
                visit_value(&format!("{place}.{name}"), looks_secret(name), value, visit);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                visit_value(&format!("{place}.{index}"), secret, value, visit);
            }
        }
        _ => {}
    }
}

fn headers(field: &str, value: &Value) -> Result<Vec<(String, SecretSource)>, SettingsError> {
    let mut headers = Vec::new();
    for (name, value) in field::object(field, value)? {
        let param = format!("{field}.{name}");
        if !is_header_name(name) {
            return Err(SettingsError::invalid(field, format!("{name:?} is not the name of a header")));
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
        headers.push((name.clone(), SecretSource::parse(&param, &text)?));
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
    fn references_are_resolved_wherever_a_secret_may_stand() {
        let environment = Environment::from_pairs([("OTHER_KEY", "k")]);
        let extra = ExtraArgs::parse(
            "extra_args",
            &json!({
                "headers": {"X-Title": "env:OTHER_KEY", "X-Sec": "env:OTHER_KEY"},
                "reasoning_effort": "low", "stop_token_ids": [1, 2], "user": null,
                "search": {"api_key": "env:OTHER_KEY", "name": "env:OTHER_KEY", "access_tokens": ["literal"]}
            }),
        )
        .unwrap();
        let header = |index: usize| extra.headers[index].1.resolve("", &environment).unwrap();
        assert_eq!((header(0).expose_secret(), header(1).expose_secret()), ("k", "k"));
        assert_eq!(
            Value::from(extra.body.resolve(&environment).unwrap()),
            json!({
                "reasoning_effort": "low", "stop_token_ids": [1, 2],
                "search": {"api_key": "k", "name": "env:OTHER_KEY", "access_tokens": ["literal"]}
            })
        );
        let error = extra.body.resolve(&Environment::default()).unwrap_err();
        assert_eq!(error.param, "extra_args.search.api_key");
        assert!(!format!("{extra:?}").contains("literal"));
    }

    #[test]
    fn a_header_is_a_secret_unless_its_name_is_known_and_a_body_field_if_its_name_says_so() {
        let mut extra = json!({
            "headers": {"X-Sec": "a", "cf-access-id": "b", "X-Title": "c", "user-agent": "d"},
            "sec": "e", "my_token": "f", "search": {"headers": "g", "X-Sec": "h"}
        });
        let mut places = Vec::new();
        visit_secrets("extra_args", extra.as_object_mut().unwrap(), &mut |place, _| places.push(place.to_owned()));
        assert_eq!(places, ["extra_args.headers.X-Sec", "extra_args.headers.cf-access-id", "extra_args.my_token"]);
    }

    #[test]
    fn capabilities_are_read_and_go_nowhere() {
        let mut extra = json!({"capabilities": {"n": true, "length_limit": "max_tokens"}, "top_a": 1});
        let parsed = ExtraArgs::parse("extra_args", &extra).unwrap();
        assert_ne!(parsed.capabilities, CapabilityOverrides::default());
        assert_eq!(Value::from(parsed.body.resolve(&Environment::default()).unwrap()), json!({"top_a": 1}));
        visit_secrets("extra_args", extra.as_object_mut().unwrap(), &mut |place, _| panic!("{place} is no secret"));
        let only = ExtraArgs::parse("extra_args", &json!({"capabilities": {"seed": false}})).unwrap();
        assert!(!only.is_empty());
    }

    #[test]
    fn what_litellm_keeps_to_itself_is_left_out_with_what_to_set() {
        let given = json!({"drop_params": true, "top_k": 5, "num_retries": 3, "timeout": 600, "metadata": {"a": "b"}});
        let mut extra = ExtraArgs::parse("judge_extra_args", &given).unwrap();
        let told = extra.leave_out_litellms();
        let body = Value::from(extra.body.resolve(&Environment::default()).unwrap());
        assert_eq!(body, json!({"top_k": 5, "metadata": {"a": "b"}}));
        for (told, words) in told.iter().zip([
            ["`judge_extra_args.drop_params`", "left out"],
            ["`judge_extra_args.num_retries`", "`max_retries`"],
            ["`judge_extra_args.timeout`", "`timeout_ms`"],
        ]) {
            assert!(words.iter().all(|words| told.contains(words)), "{told}");
        }
        assert_eq!(told.len(), 3);
        assert!(extra.leave_out_litellms().is_empty());
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
            (json!({"capabilities": []}), SettingsCode::InvalidValue, "extra_args.capabilities"),
            (json!({"capabilities": {"n": 1}}), SettingsCode::InvalidValue, "extra_args.capabilities.n"),
            (
                json!({"capabilities": {"jsn_schema": true}}),
                SettingsCode::UnknownField,
                "extra_args.capabilities.jsn_schema",
            ),
            (json!([]), SettingsCode::InvalidValue, "extra_args"),
        ] {
            let error = ExtraArgs::parse("extra_args", &extra).unwrap_err();
            assert_eq!((error.code, error.param.as_str()), (code, param), "{extra}");
        }
    }
}
