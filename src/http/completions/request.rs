//! The request on the wire. It goes to a remote provider as it came; what it says is read for the engine in this
//! process, and so that mistakes are told alike.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::completion::Logprobs;
use crate::config::active::is_configuration_field;
use crate::config::field::{self, suggestion};
use crate::config::provider::ProviderName;
use crate::config::run::{Limits, RunField, RunSettings, is_run_field};
use crate::generator::{Members, TextRequest};
use crate::http::chat::request::{sampling, stream_options};
use crate::http::chat::tts;
use crate::http::destination::take_provider;
use crate::http::error::ApiError;
use crate::http::fields;
use crate::http::json_text;

/// A parsed request, whose model is still the client's name.
pub struct CompletionRequest {
    pub request: TextRequest,
    pub provider: Option<ProviderName>,
    pub limits: Limits,
    pub warnings: Vec<String>,
}

/// Parameters of the API, and those that servers commonly take beside them.
const KNOWN: &[&str] = &[
    "best_of",
    "echo",
    "frequency_penalty",
    "grammar",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "min_p",
    "n",
    "presence_penalty",
    "prompt",
    "provider",
    "regex",
    "repeat_last_n",
    "repeat_penalty",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "user",
];
/// Fields of itsd's own chat requests that are not settings of a run, and the chat itself.
const OF_CHAT: &[&str] = &["messages", "return_response_only"];
/// As many as OpenAI takes.
const MAX_N: i64 = 128;

impl CompletionRequest {
    /// Parses a request body, and fills in what the configuration gives and the request leaves open. With `strict`,
    /// a field that nobody knows is refused instead of forwarded.
    ///
    /// # Errors
    ///
    /// A 400 that names the parameter.
    pub fn parse(body: &[u8], strict: bool, configured: &RunSettings) -> Result<Self, ApiError> {
        let mut fields: Members = fields::read(body)?;
        json_text::check(&fields)?;
        if fields.get("model").is_some_and(|model| model.get() == "null") {
            return Err(ApiError::missing_field("model"));
        }
        let model = fields::model(&mut fields)?;
        let provider = take_provider(&mut fields)?;
        let limits = limits(fields.remove("limits"), configured)?;
        // They say nothing, and no provider is to hear of them.
        fields.retain(|name, value| value.get() != "null" || !is_of_chat(name));
        let mut warnings = check_names(&fields, strict)?;
        apply_defaults(&mut fields, configured);
        write_plainly(&mut fields)?;

        let mut others = fields.clone();
        // An explicit null says the same as leaving the field out.
        others.retain(|_, value| value.get() != "null");
        let texts = texts(&mut others)?;
        let n = fields::whole(&mut others, "n", 1..=MAX_N)?.map_or(1, |n| n as usize);
        let stream = fields::flag(&mut others, "stream")?.unwrap_or(false);
        let (options, unknown) = stream_options(&mut others, stream, strict)?;
        if options.include_progress {
            let param = "stream_options.include_progress";
            let message = format!("`{param}` has no meaning here: there is one call, and no run to tell of");
            return Err(ApiError::invalid_value(param, message));
        }
        warnings.extend(unknown.into_iter().map(|member| format!("unknown field `{member}` was forwarded")));
        let logprobs = fields::whole(&mut others, "logprobs", 0..=u8::MAX.into())?;
        let request = TextRequest {
            model,
            texts,
            n,
            echo: fields::flag(&mut others, "echo")?.unwrap_or(false),
            stream,
            include_usage: options.include_usage,
            sampling: sampling(&mut others)?,
            logprobs: logprobs.map(|top| Logprobs { top: top as u8 }),
            others,
            fields,
        };
        Ok(Self { request, provider, limits, warnings })
    }
}

/// The configured limits with the request's deadline. Its other limits would never be looked at: there is one call.
fn limits(named: Option<Box<RawValue>>, configured: &RunSettings) -> Result<Limits, ApiError> {
    const NAME: &str = "limits";
    let Some(named) = named else { return Ok(configured.limits) };
    let members: BTreeMap<String, Value> = serde_json::from_str(named.get()).unwrap_or_default();
    let limits = configured.overridden_by(&BTreeMap::from([(NAME.to_owned(), named)]))?.limits;
    match members.iter().find(|(name, value)| *name != "deadline_ms" && !value.is_null()) {
        Some((other, _)) => {
            let param = format!("{NAME}.{other}");
            let message =
                format!("`{param}` has no meaning here: there is one call; only `{NAME}.deadline_ms` holds it");
            Err(ApiError::invalid_value(&param, message))
        }
        None => Ok(limits),
    }
}

/// Whether a field is one of itsd's own for chat.
fn is_of_chat(name: &str) -> bool {
    is_run_field(name) != RunField::No || OF_CHAT.contains(&name) || tts::NAMES.contains(&name)
}

/// Refuses what belongs to scaled requests and to the configuration, and says what nobody knows.
fn check_names(fields: &Members, strict: bool) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for name in fields.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        if is_of_chat(name) {
            let message = format!("`{name}` has no meaning here: raw prompts are never scaled; use chat completions");
            return Err(ApiError::invalid_value(name, message));
        }
        if is_configuration_field(name) {
            let message = format!("`{name}` is set by POST /configure, not by a request; leave it out");
            return Err(ApiError::invalid_value(name, message));
        }
        fields::check_not_of_aws(name)?;
        if strict {
            let hint = suggestion(name, KNOWN.iter().copied());
            let message = format!("unknown field `{name}`{hint}; leave it out, or do without ?strict=true");
            return Err(ApiError::bad_request(Some(name), "unknown_field", message));
        }
        warnings.push(format!("unknown field `{name}` was forwarded"));
    }
    Ok(warnings)
}

/// Writes whole numbers as such: not every provider takes `1e3` for one.
fn write_plainly(fields: &mut Members) -> Result<(), ApiError> {
    for name in ["best_of", "logprobs", "max_tokens", "n", "seed", "top_k"] {
        let Some(raw) = fields.get_mut(name).filter(|raw| raw.get().contains(['.', 'e', 'E'])) else { continue };
        if let Ok(whole) = field::integer(name, &fields::value_of(name, raw)?, i64::MIN..=i64::MAX) {
            *raw = to_raw_value(&whole).expect("a number serialises");
        }
    }
    Ok(())
}

fn apply_defaults(fields: &mut Members, configured: &RunSettings) {
    let stop = (!configured.stop.is_empty()).then(|| Value::from(configured.stop.clone()));
    let defaults = [
        ("temperature", configured.temperature.map(Value::from)),
        ("top_p", configured.top_p.map(Value::from)),
        ("top_k", configured.top_k.map(Value::from)),
        // The API has but one name for it.
        ("max_tokens", configured.max_tokens.map(|limit| Value::from(limit.tokens))),
        ("seed", configured.seed.map(Value::from)),
        ("stop", stop),
    ];
    for (name, value) in defaults {
        if let Some(value) = value
            && fields.get(name).is_none_or(|named| named.get() == "null")
        {
            fields.insert(name.to_owned(), to_raw_value(&value).expect("JSON always serialises"));
        }
    }
}

/// The texts of `prompt`; `None` where it holds tokens.
fn texts(fields: &mut Members) -> Result<Option<Vec<String>>, ApiError> {
    let refused = || {
        let message = "`prompt` must be a string, an array of strings, or tokens, and not empty";
        Err(ApiError::invalid_value("prompt", message))
    };
    match fields::value(fields, "prompt")?.ok_or_else(|| ApiError::missing_field("prompt"))? {
        Value::String(text) => Ok(Some(vec![text])),
        Value::Array(items) if items.is_empty() => refused(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let text = |item| match item {
                Value::String(text) => Some(text),
                _ => None,
            };
            Ok(Some(items.into_iter().filter_map(text).collect()))
        }
        Value::Array(items) if items.iter().all(|item| item.is_u64() || item.is_array()) => Ok(None),
        _ => refused(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: Value) -> Result<CompletionRequest, ApiError> {
        let configured = RunSettings { temperature: Some(0.5), ..RunSettings::default() };
        CompletionRequest::parse(body.to_string().as_bytes(), false, &configured)
    }

    #[test]
    fn a_prompt_is_one_text_several_or_tokens() {
        for (prompt, texts) in [
            (json!("a"), Some(vec!["a"])),
            (json!(""), Some(vec![""])),
            (json!(["a", "b"]), Some(vec!["a", "b"])),
            (json!([1, 2]), None),
            (json!([[1], [2]]), None),
        ] {
            let request = parse(json!({"model": "m", "prompt": prompt})).unwrap().request;
            assert_eq!(request.texts, texts.map(|texts| texts.into_iter().map(str::to_owned).collect()), "{prompt}");
            assert!(!request.others.contains_key("prompt") && request.fields.contains_key("prompt"));
        }
        for prompt in [json!([]), json!({}), json!(3), json!(["a", 1]), json!([1.5]), Value::Null] {
            let error = parse(json!({"model": "m", "prompt": prompt})).err().unwrap();
            assert_eq!((error.param.as_deref(), error.status.as_u16()), (Some("prompt"), 400), "{prompt}");
        }
    }

    #[test]
    fn the_configuration_fills_in_what_the_request_leaves_open() {
        let request = parse(json!({"model": "m", "prompt": "a", "temperature": null})).unwrap().request;
        assert_eq!(request.sampling.temperature, Some(0.5));
        assert_eq!(request.fields["temperature"].get(), "0.5");
        let request = parse(json!({"model": "m", "prompt": "a", "temperature": 0})).unwrap().request;
        assert_eq!((request.sampling.temperature, request.fields["temperature"].get()), (Some(0.0), "0"));
    }

    #[test]
    fn null_says_the_same_as_leaving_a_field_out() {
        let request = parse(json!({
            "model": "m", "prompt": "a", "n": null, "stream": null, "stream_options": null, "echo": null,
            "logprobs": null, "max_tokens": null, "stop": null, "seed": null, "provider": null, "limits": null
        }))
        .unwrap()
        .request;
        assert_eq!((request.n, request.stream, request.echo), (1, false, false));
    }
}
