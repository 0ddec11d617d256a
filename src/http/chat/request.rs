//! The chat request on the wire, parsed once into what the run needs.
//!
//! Every OpenAI parameter is accepted: typed where itsd acts on it, forwarded as it came otherwise. The
//! extensions (`budget`, `alg`, votes, `tts_*` …) are taken out, so that no provider ever sees them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::completion::{ENGINE_FIELDS, Logprobs, MaxTokens, MaxTokensName, OPENAI_FIELDS, Prompt, Sampling, Tool};
use crate::config::active::is_configuration_field;
use crate::config::field::{self, suggestion, wrong_type};
use crate::config::provider::ProviderName;
use crate::config::run::{RunField, RunSettings, is_run_field};
use crate::http::destination::take_provider;
use crate::http::error::ApiError;
use crate::http::fields::{self, Fields, value_of};
use crate::http::json_text;
use crate::http::openapi;

use super::tts::Tts;

/// A parsed chat request. The prompt's `model` is the client's name until it is routed.
#[derive(Debug)]
pub struct ChatRequest {
    pub prompt: Prompt,
    /// Overrides of the configuration's run settings.
    pub overrides: Fields,
    /// What was said in the words of the `tts_*` family, where any was.
    pub tts: Option<Tts>,
    /// Answers to return, the best of the run; at least 1.
    pub n: usize,
    pub stream: bool,
    pub stream_options: StreamOptions,
    pub with_metadata: bool,
    /// The provider that is to answer, if the client chooses one.
    pub provider: Option<ProviderName>,
    /// Fields that nobody knows, which go upstream unless the target refuses such.
    pub unknown_fields: Vec<String>,
    pub warnings: Vec<String>,
}

/// What a stream holds beside the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamOptions {
    pub include_usage: bool,
    /// Whether a user interface hears how far the run has come.
    pub include_progress: bool,
}

/// More answers than the largest budget cannot be.
const MOST_ANSWERS: i64 = 1000;

/// Defaults of a request whose `tts_strategy` or path chose its run.
const CHOSEN_TEMPERATURE: f64 = 0.7;
const CHOSEN_MAX_TOKENS: MaxTokens = MaxTokens { tokens: 4096, name: MaxTokensName::MaxTokens };

impl ChatRequest {
    /// Parses a request body. With `strict`, a field that nobody knows is refused instead of forwarded.
    ///
    /// # Errors
    ///
    /// A 400 that names the parameter.
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let mut fields = fields::read(body)?;
        json_text::check(&fields)?;
        // An explicit null says the same as leaving the field out.
        fields.retain(|_, value| value.get() != "null");

        let model = fields::model(&mut fields)?;
        let messages = fields.remove("messages").ok_or_else(|| ApiError::missing_field("messages"))?;
        check_messages(&messages)?;
        let n = fields::whole(&mut fields, "n", 1..=MOST_ANSWERS)?.map_or(1, |n| n as usize);

        let stream = fields::flag(&mut fields, "stream")?.unwrap_or(false);
        let (stream_options, unknown) = stream_options(&mut fields, stream, strict)?;
        let response_only = fields::flag(&mut fields, "return_response_only")?.unwrap_or(true);
        let sampling = sampling(&mut fields)?;
        let logprobs = logprobs(&mut fields)?;
        let tools = tools(&mut fields)?;
        let tool_choice = fields.remove("tool_choice");
        let response_format = fields.remove("response_format");
        let provider = take_provider(&mut fields)?;
        let mut tts = Tts::take(&mut fields)?;
        let (overrides, passthrough, unknown_fields) = sort_out(fields, strict)?;
        let mut warnings = Vec::new();
        warnings.extend(unknown.into_iter().map(|member| format!("unknown field `{member}` has no effect")));
        let mut with_metadata = !response_only;
        if let Some(tts) = &mut tts {
            warnings.append(&mut tts.warnings);
            with_metadata |= tts.verbose;
        }

        let prompt = Prompt {
            model,
            messages,
            tools,
            tool_choice,
            response_format,
            sampling,
            logprobs,
            signals: None,
            passthrough,
        };
        Ok(Self {
            prompt,
            overrides,
            tts,
            n,
            stream,
            stream_options,
            with_metadata,
            provider,
            unknown_fields,
            warnings,
        })
    }

    /// Fills in what the configuration gives and the request leaves open, and last, where a strategy or a path chose
    /// the run, what the service gave from which these come.
    pub fn apply_defaults(&mut self, settings: &RunSettings, chosen: bool) {
        let sampling = &mut self.prompt.sampling;
        sampling.temperature = sampling.temperature.or(settings.temperature);
        sampling.top_p = sampling.top_p.or(settings.top_p);
        sampling.top_k = sampling.top_k.or(settings.top_k);
        sampling.seed = sampling.seed.or(settings.seed);
        sampling.max_tokens = sampling.max_tokens.or(settings.max_tokens);
        if sampling.stop.is_empty() {
            sampling.stop.clone_from(&settings.stop);
        }
        if chosen {
            sampling.temperature = sampling.temperature.or(Some(CHOSEN_TEMPERATURE));
            sampling.max_tokens = sampling.max_tokens.or(Some(CHOSEN_MAX_TOKENS));
        }
    }
}

/// Splits what is left into our overrides and what goes upstream, and says what nobody knows.
fn sort_out(fields: Fields, strict: bool) -> Result<(Fields, Fields, Vec<String>), ApiError> {
    let (mut overrides, mut passthrough, mut unknown) = (Fields::new(), Fields::new(), Vec::new());
    for (name, value) in fields {
        match is_run_field(&name) {
            RunField::Known => {
                value_of(&name, &value)?;
                overrides.insert(name, value);
            }
            RunField::Later => {
                return Err(ApiError::not_supported_yet(&name, format!("`{name}` is not supported yet; leave it out")));
            }
            // OpenRouter's own `provider` is an object and is passed on; a name has been taken out.
            RunField::No if name != "provider" && is_configuration_field(&name) => {
                let message = format!("`{name}` is set by POST /configure, not by a request; leave it out");
                return Err(ApiError::invalid_value(&name, message));
            }
            RunField::No => {
                fields::check_not_of_aws(&name)?;
                // An object `provider` is OpenRouter's.
                let is_known = [OPENAI_FIELDS, ENGINE_FIELDS].iter().any(|names| names.contains(&name.as_str()));
                if !is_known && name != "provider" {
                    if strict {
                        let hint = suggestion(&name, openapi::chat_fields().iter().map(String::as_str));
                        let message = format!("unknown field `{name}`{hint}; leave it out, or do without ?strict=true");
                        return Err(ApiError::bad_request(Some(&name), "unknown_field", message));
                    }
                    unknown.push(name.clone());
                }
                passthrough.insert(name, value);
            }
        }
    }
    Ok((overrides, passthrough, unknown))
}

fn check_messages(messages: &RawValue) -> Result<(), ApiError> {
    let messages = fields::list("messages", messages)?;
    if messages.is_empty() {
        return Err(ApiError::invalid_value("messages", "`messages` is empty; send at least one message"));
    }
    for (index, message) in messages.into_iter().enumerate() {
        let param = format!("messages[{index}]");
        let mut members = fields::members(&param, message)?;
        let content = members.remove("content");
        let role = member_text(&param, &mut members, "role")?;
        if !matches!(role.as_str(), "system" | "developer" | "user" | "assistant" | "tool" | "function") {
            let message = format!(
                "`{param}.role` is `{}`; it must be one of system, developer, user, assistant, tool",
                fields::shown(&role)
            );
            return Err(ApiError::invalid_value(&format!("{param}.role"), message));
        }
        let fits = match content.as_deref().map(|content| content.get().as_bytes()[0]) {
            Some(b'"' | b'[') => true,
            // Turns that carry only tool calls have no text.
            None => matches!(role.as_str(), "assistant" | "tool" | "function"),
            Some(_) => false,
        };
        if !fits {
            let message = format!("`{param}.content` must be a string or an array of content parts");
            return Err(ApiError::invalid_value(&format!("{param}.content"), message));
        }
    }
    Ok(())
}

/// A text that an object must hold, named by its place in the request where it is wrong.
fn member_text(param: &str, members: &mut Fields, name: &str) -> Result<String, ApiError> {
    let place = format!("{param}.{name}");
    match members.remove(name).map(|raw| value_of(&place, &raw)).transpose()? {
        None => Err(ApiError::missing_field(&place)),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(&place, "a string", &other).into()),
    }
}

/// Takes out what a stream is to hold, and with it the names of those members that nobody knows, which `strict`
/// refuses.
pub(in crate::http) fn stream_options(
    fields: &mut Fields,
    stream: bool,
    strict: bool,
) -> Result<(StreamOptions, Vec<String>), ApiError> {
    const NAME: &str = "stream_options";
    let Some(raw) = fields.remove(NAME) else { return Ok((StreamOptions::default(), Vec::new())) };
    let members = fields::members(NAME, &raw)?;
    if !stream {
        return Err(ApiError::invalid_value(NAME, "`stream_options` is only for `stream: true`"));
    }
    let (mut options, mut unknown) = (StreamOptions::default(), Vec::new());
    for (name, value) in members {
        let param = format!("{NAME}.{name}");
        let option = match name.as_str() {
            "include_usage" => &mut options.include_usage,
            "include_progress" => &mut options.include_progress,
            _ if strict => {
                let message = format!("unknown field `{param}`; leave it out, or do without ?strict=true");
                return Err(ApiError::bad_request(Some(&param), "unknown_field", message));
            }
            _ => {
                unknown.push(param);
                continue;
            }
        };
        *option = field::boolean(&param, &value_of(&param, &value)?)?;
    }
    Ok((options, unknown))
}

pub(in crate::http) fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let max_tokens = count(fields, "max_tokens")?;
    let max_completion_tokens = count(fields, "max_completion_tokens")?;
    if let (Some(old), Some(new)) = (max_tokens, max_completion_tokens)
        && old != new
    {
        let message = "`max_tokens` and `max_completion_tokens` are one setting; send one of them";
        return Err(ApiError::invalid_value("max_tokens", message));
    }
    let max_tokens = max_completion_tokens
        .map(|tokens| MaxTokens { tokens, name: MaxTokensName::MaxCompletionTokens })
        .or(max_tokens.map(|tokens| MaxTokens { tokens, name: MaxTokensName::MaxTokens }));
    // −1 and 0 are how some servers spell "no limit".
    let top_k = fields::whole(fields, "top_k", i64::MIN..=u32::MAX.into())?
        .and_then(|k| u32::try_from(k).ok())
        .filter(|k| *k > 0);
    Ok(Sampling {
        temperature: fields::number(fields, "temperature", 0.0..=2.0)?,
        top_p: fields::number(fields, "top_p", 0.0..=1.0)?,
        top_k,
        min_p: fields::number(fields, "min_p", 0.0..=1.0)?,
        max_tokens,
        seed: fields::whole(fields, "seed", i64::MIN..=i64::MAX)?,
        stop: stop(fields)?,
        presence_penalty: fields::number(fields, "presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields::number(fields, "frequency_penalty", -2.0..=2.0)?,
        logit_bias: logit_bias(fields)?,
    })
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stop {
        One(String),
        Several(Vec<String>),
    }
    let Some(raw) = fields.remove("stop") else { return Ok(Vec::new()) };
    let stop = match serde_json::from_str(raw.get()) {
        Ok(Stop::One(text)) => vec![text],
        Ok(Stop::Several(texts)) => texts,
        Err(_) => return Err(ApiError::invalid_value("stop", "`stop` must be a string or an array of strings")),
    };
    if stop.iter().any(String::is_empty) {
        return Err(ApiError::invalid_value("stop", "`stop` holds an empty string, which would stop at once"));
    }
    Ok(stop)
}

fn logit_bias(fields: &mut Fields) -> Result<BTreeMap<u32, f64>, ApiError> {
    let Some(raw) = fields.remove("logit_bias") else { return Ok(BTreeMap::new()) };
    let biases: BTreeMap<u32, f64> = serde_json::from_str(raw.get()).map_err(|_| {
        let message = "`logit_bias` must be an object of token ids, each with a number from -100 to 100";
        ApiError::invalid_value("logit_bias", message)
    })?;
    match biases.values().find(|bias| !(-100.0..=100.0).contains(*bias)) {
        Some(bias) => Err(ApiError::invalid_value("logit_bias", format!("`logit_bias` {bias} is outside -100..100"))),
        None => Ok(biases),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<Logprobs>, ApiError> {
    let wanted = fields::flag(fields, "logprobs")?.unwrap_or(false);
    let top = fields::whole(fields, "top_logprobs", 0..=Logprobs::MOST.into())?.map(|top| top as u8);
    match (wanted, top) {
        (true, top) => Ok(Some(Logprobs { top: top.unwrap_or(0) })),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::invalid_value("top_logprobs", "`top_logprobs` needs `logprobs: true` beside it"))
        }
    }
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>, ApiError> {
    let Some(raw) = fields.remove("tools") else { return Ok(Vec::new()) };
    let definitions = fields::list("tools", &raw)?.into_iter().enumerate();
    definitions.map(|(index, definition)| tool(&format!("tools[{index}]"), definition)).collect()
}

fn tool(param: &str, definition: &RawValue) -> Result<Tool, ApiError> {
    let mut members = fields::members(param, definition)?;
    let kind = members.remove("type").map(|raw| value_of(param, &raw)).transpose()?;
    let Some(Value::String(kind)) = kind else {
        return Err(ApiError::invalid_value(param, format!("`{param}` has no `type`; a function's is `function`")));
    };
    let place = format!("{param}.function");
    let (name, parameters) = match members.remove("function") {
        Some(function) => {
            let mut function = fields::members(&place, &function)?;
            let name = member_text(&place, &mut function, "name")?;
            let place = format!("{place}.parameters");
            (Some(name), function.remove("parameters").map(|raw| value_of(&place, &raw)).transpose()?)
        }
        None if kind == "function" => return Err(ApiError::missing_field(&place)),
        None => (None, None),
    };
    Ok(Tool { definition: definition.to_owned(), name, parameters })
}

/// A number of tokens, at least 1.
fn count(fields: &mut Fields, name: &str) -> Result<Option<u32>, ApiError> {
    let count = fields::whole(fields, name, 1..=u32::MAX.into())?;
    Ok(count.and_then(|count| u32::try_from(count).ok()))
}
