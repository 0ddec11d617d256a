//! The chat request on the wire, parsed once into what the run needs.
//!
//! Every OpenAI parameter is accepted: typed where itsd acts on it, forwarded as it came otherwise. The
//! extensions (`budget`, `alg`, votes, `tts_*` …) are taken out, so that no provider ever sees them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::completion::{Logprobs, MaxTokens, MaxTokensName, Prompt, Sampling, Tool};
use crate::config::active::is_configuration_field;
use crate::config::field::suggestion;
use crate::config::provider::ProviderName;
use crate::config::run::{RunField, RunSettings, is_run_field};
use crate::http::destination::take_provider;
use crate::http::error::ApiError;
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
    pub warnings: Vec<String>,
}

/// What a stream holds beside the answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct StreamOptions {
    pub include_usage: bool,
    /// Whether a user interface hears how far the run has come.
    pub include_progress: bool,
}

/// Members of a JSON object with their text as it came.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// More answers than the largest budget cannot be.
const MOST_ANSWERS: usize = 1000;

/// Defaults of a request whose `tts_strategy` or path chose its run.
const CHOSEN_TEMPERATURE: f64 = 0.7;
const CHOSEN_MAX_TOKENS: MaxTokens = MaxTokens { tokens: 4096, name: MaxTokensName::MaxTokens };

/// Parameters of OpenAI's chat API that itsd does not act on: they go upstream without a word.
const FORWARDED: &[&str] = &[
    "audio",
    "function_call",
    "functions",
    "metadata",
    "modalities",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_retention",
    "provider",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
    "web_search_options",
];

impl ChatRequest {
    /// Parses a request body. With `strict`, a field that nobody knows is refused instead of forwarded.
    ///
    /// # Errors
    ///
    /// A 400 that names the parameter.
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let mut fields: Fields = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(None, "invalid_value", format!("the body is not a JSON object: {error}"))
        })?;
        // An explicit null says the same as leaving the field out.
        fields.retain(|_, value| value.get() != "null");

        let model: String = required(&mut fields, "model")?;
        if model.is_empty() {
            return Err(ApiError::invalid_value("model", "`model` is empty; GET /v1/models lists the names"));
        }
        let messages = fields.remove("messages").ok_or_else(|| ApiError::missing_field("messages"))?;
        check_messages(&messages)?;
        let n = take::<usize>(&mut fields, "n")?.unwrap_or(1);
        if !(1..=MOST_ANSWERS).contains(&n) {
            return Err(ApiError::invalid_value("n", format!("`n` is {n}; it must be between 1 and {MOST_ANSWERS}")));
        }

        let stream = take(&mut fields, "stream")?.unwrap_or(false);
        let stream_options = stream_options(&mut fields, stream)?;
        let response_only: bool = take(&mut fields, "return_response_only")?.unwrap_or(true);
        let sampling = sampling(&mut fields)?;
        let logprobs = logprobs(&mut fields)?;
        let tools = tools(&mut fields)?;
        let tool_choice = fields.remove("tool_choice");
        let response_format = fields.remove("response_format");
        let provider = take_provider(&mut fields)?;
        let mut tts = Tts::take(&mut fields)?;
        let (overrides, passthrough, mut warnings) = sort_out(fields, strict)?;
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
        Ok(Self { prompt, overrides, tts, n, stream, stream_options, with_metadata, provider, warnings })
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
    let (mut overrides, mut passthrough, mut warnings) = (Fields::new(), Fields::new(), Vec::new());
    for (name, value) in fields {
        match is_run_field(&name) {
            RunField::Known => drop(overrides.insert(name, value)),
            RunField::Later => {
                return Err(ApiError::not_supported_yet(&name, format!("`{name}` is not supported yet; leave it out")));
            }
            // OpenRouter's own `provider` is an object and is passed on; a name has been taken out.
            RunField::No if name != "provider" && is_configuration_field(&name) => {
                let message = format!("`{name}` is set by POST /configure, not by a request; leave it out");
                return Err(ApiError::invalid_value(&name, message));
            }
            RunField::No => {
                if !FORWARDED.contains(&name.as_str()) {
                    if strict {
                        let hint = suggestion(&name, openapi::chat_fields().iter().map(String::as_str));
                        let message = format!("unknown field `{name}`{hint}; leave it out, or do without ?strict=true");
                        return Err(ApiError::bad_request(Some(&name), "unknown_field", message));
                    }
                    warnings.push(format!("unknown field `{name}` was forwarded"));
                }
                passthrough.insert(name, value);
            }
        }
    }
    Ok((overrides, passthrough, warnings))
}

fn check_messages(messages: &RawValue) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Message {
        role: String,
        content: Option<Box<RawValue>>,
    }
    let messages: Vec<Message> = serde_json::from_str(messages.get()).map_err(|error| {
        ApiError::invalid_value("messages", format!("`messages` must be an array of objects with a `role`: {error}"))
    })?;
    if messages.is_empty() {
        return Err(ApiError::invalid_value("messages", "`messages` is empty; send at least one message"));
    }
    for (index, Message { role, content }) in messages.iter().enumerate() {
        let param = format!("messages[{index}]");
        if !matches!(role.as_str(), "system" | "developer" | "user" | "assistant" | "tool" | "function") {
            let message =
                format!("`{param}.role` is `{role}`; it must be one of system, developer, user, assistant, tool");
            return Err(ApiError::invalid_value(&format!("{param}.role"), message));
        }
        let fits = match content.as_deref().map(|content| content.get().as_bytes()[0]) {
            Some(b'"' | b'[') => true,
            // Turns that carry only tool calls have no text.
            Some(b'n') | None => matches!(role.as_str(), "assistant" | "tool" | "function"),
            Some(_) => false,
        };
        if !fits {
            let message = format!("`{param}.content` must be a string or an array of content parts");
            return Err(ApiError::invalid_value(&format!("{param}.content"), message));
        }
    }
    Ok(())
}

pub(in crate::http) fn stream_options(fields: &mut Fields, stream: bool) -> Result<StreamOptions, ApiError> {
    #[derive(Deserialize)]
    struct Members {
        #[serde(default)]
        include_usage: Option<bool>,
        #[serde(default)]
        include_progress: Option<bool>,
    }
    let Some(options) = take::<Members>(fields, "stream_options")? else { return Ok(StreamOptions::default()) };
    if !stream {
        return Err(ApiError::invalid_value("stream_options", "`stream_options` is only for `stream: true`"));
    }
    Ok(StreamOptions {
        include_usage: options.include_usage.unwrap_or(false),
        include_progress: options.include_progress.unwrap_or(false),
    })
}

pub(in crate::http) fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let max_tokens = take::<u32>(fields, "max_tokens")?;
    let max_completion_tokens = take::<u32>(fields, "max_completion_tokens")?;
    if let (Some(old), Some(new)) = (max_tokens, max_completion_tokens)
        && old != new
    {
        let message = "`max_tokens` and `max_completion_tokens` are one setting; send one of them";
        return Err(ApiError::invalid_value("max_tokens", message));
    }
    let max_tokens = max_completion_tokens
        .map(|tokens| MaxTokens { tokens, name: MaxTokensName::MaxCompletionTokens })
        .or(max_tokens.map(|tokens| MaxTokens { tokens, name: MaxTokensName::MaxTokens }));
    if let Some(MaxTokens { tokens: 0, name }) = max_tokens {
        return Err(ApiError::invalid_value(name.as_str(), format!("`{}` must be at least 1", name.as_str())));
    }
    // −1 and 0 are how some servers spell "no limit".
    let top_k = take::<i64>(fields, "top_k")?.and_then(|k| u32::try_from(k).ok()).filter(|k| *k > 0);
    Ok(Sampling {
        temperature: within(fields, "temperature", 0.0, 2.0)?,
        top_p: within(fields, "top_p", 0.0, 1.0)?,
        top_k,
        min_p: within(fields, "min_p", 0.0, 1.0)?,
        max_tokens,
        seed: take(fields, "seed")?,
        stop: stop(fields)?,
        presence_penalty: within(fields, "presence_penalty", -2.0, 2.0)?,
        frequency_penalty: within(fields, "frequency_penalty", -2.0, 2.0)?,
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
    let stop = match take::<Stop>(fields, "stop") {
        Ok(None) => Vec::new(),
        Ok(Some(Stop::One(text))) => vec![text],
        Ok(Some(Stop::Several(texts))) => texts,
        Err(_) => return Err(ApiError::invalid_value("stop", "`stop` must be a string or an array of strings")),
    };
    if stop.iter().any(String::is_empty) {
        return Err(ApiError::invalid_value("stop", "`stop` holds an empty string, which would stop at once"));
    }
    Ok(stop)
}

fn logit_bias(fields: &mut Fields) -> Result<BTreeMap<u32, f64>, ApiError> {
    let biases: BTreeMap<u32, f64> = take(fields, "logit_bias")?.unwrap_or_default();
    match biases.values().find(|bias| !(-100.0..=100.0).contains(*bias)) {
        Some(bias) => Err(ApiError::invalid_value("logit_bias", format!("`logit_bias` {bias} is outside -100..100"))),
        None => Ok(biases),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<Logprobs>, ApiError> {
    let wanted = take(fields, "logprobs")?.unwrap_or(false);
    let top = take::<u8>(fields, "top_logprobs")?;
    match (wanted, top) {
        (true, Some(21..)) => Err(ApiError::invalid_value("top_logprobs", "`top_logprobs` must be between 0 and 20")),
        (true, top) => Ok(Some(Logprobs { top: top.unwrap_or(0) })),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::invalid_value("top_logprobs", "`top_logprobs` needs `logprobs: true` beside it"))
        }
    }
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>, ApiError> {
    #[derive(Deserialize)]
    struct Definition {
        r#type: String,
        function: Option<Function>,
    }
    #[derive(Deserialize)]
    struct Function {
        name: String,
        parameters: Option<serde_json::Value>,
    }
    let definitions: Vec<Box<RawValue>> = take(fields, "tools")?.unwrap_or_default();
    definitions
        .into_iter()
        .enumerate()
        .map(|(index, definition)| {
            let param = format!("tools[{index}]");
            let parsed: Definition = serde_json::from_str(definition.get()).map_err(|error| {
                let message =
                    format!("`{param}` is not a tool, which has a `type` and for a function a `name`: {error}");
                ApiError::invalid_value(&param, message)
            })?;
            let (name, parameters) = match parsed.function {
                Some(Function { name, parameters }) => (Some(name), parameters.filter(|value| !value.is_null())),
                None if parsed.r#type == "function" => {
                    let param = format!("{param}.function");
                    return Err(ApiError::missing_field(&param));
                }
                None => (None, None),
            };
            Ok(Tool { definition, name, parameters })
        })
        .collect()
}

fn within(fields: &mut Fields, name: &str, min: f64, max: f64) -> Result<Option<f64>, ApiError> {
    match take::<f64>(fields, name)? {
        Some(value) if !(min..=max).contains(&value) => {
            Err(ApiError::invalid_value(name, format!("`{name}` is {value}; it must be between {min} and {max}")))
        }
        value => Ok(value),
    }
}

pub(in crate::http) fn required<T: DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<T, ApiError> {
    take(fields, name)?.ok_or_else(|| ApiError::missing_field(name))
}

pub(in crate::http) fn take<T: DeserializeOwned>(fields: &mut Fields, name: &str) -> Result<Option<T>, ApiError> {
    let Some(raw) = fields.remove(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).map_err(|error| {
        ApiError::invalid_value(name, format!("`{name}` has the wrong type or range: {}", plain(&error)))
    })
}

/// The cause without serde_json's position, which would be within the value and mislead.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}
