//! What a call asks for: the prompt's own parameters, and the configuration's where the prompt names none.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::read;
use crate::completion::{MaxTokens, MaxTokensName, Prompt, Sampling};
use crate::config::capabilities::{Capabilities, Support};
use crate::failure::Failure;

pub(super) struct Asked<'a> {
    pub sampling: Sampling,
    pub tool_choice: Option<Cow<'a, RawValue>>,
    pub response_format: Option<Cow<'a, RawValue>>,
    /// Every other field.
    pub fields: Map<String, Value>,
}

impl<'a> Asked<'a> {
    /// Puts the prompt over the `extra` fields of the configuration.
    ///
    /// # Errors
    ///
    /// A field that cannot be read, such as a number that is none here.
    pub fn new(prompt: &'a Prompt, extra: &Map<String, Value>, row: &Capabilities) -> Result<Self, Failure> {
        let mut asked = Self {
            sampling: prompt.sampling.clone(),
            tool_choice: prompt.tool_choice.as_deref().map(Cow::Borrowed),
            response_format: prompt.response_format.as_deref().map(Cow::Borrowed),
            fields: Map::new(),
        };
        for (name, value) in extra {
            asked.take(name, value, row)?;
        }
        for (name, value) in &prompt.passthrough {
            asked.fields.insert(name.clone(), read(name, value)?);
        }
        Ok(asked)
    }

    /// Takes in a field of the configuration where the prompt does not say the same itself.
    fn take(&mut self, name: &str, value: &Value, row: &Capabilities) -> Result<(), Failure> {
        let sampling = &mut self.sampling;
        let number = || value.as_f64().ok_or_else(|| wrong(name, "a number"));
        // A default never makes a request of two that are refused together.
        let is_alone = |other: Option<f64>| other.is_none() || row.temperature_with_top_p != Support::No;
        match name {
            "temperature" if sampling.temperature.is_none() && is_alone(sampling.top_p) => {
                sampling.temperature = Some(number()?);
            }
            "top_p" if sampling.top_p.is_none() && is_alone(sampling.temperature) => sampling.top_p = Some(number()?),
            "presence_penalty" if sampling.presence_penalty.is_none() => sampling.presence_penalty = Some(number()?),
            "frequency_penalty" if sampling.frequency_penalty.is_none() => {
                sampling.frequency_penalty = Some(number()?);
            }
            "min_p" if sampling.min_p.is_none() => sampling.min_p = Some(number()?),
            "top_k" if sampling.top_k.is_none() => sampling.top_k = Some(whole(name, value)?),
            "max_tokens" | "max_completion_tokens" if sampling.max_tokens.is_none() => {
                sampling.max_tokens = Some(MaxTokens { tokens: whole(name, value)?, name: MaxTokensName::MaxTokens });
            }
            "stop" if sampling.stop.is_empty() => sampling.stop = texts(name, value)?,
            "tool_choice" if self.tool_choice.is_none() => self.tool_choice = Some(raw(value)),
            "response_format" if self.response_format.is_none() => self.response_format = Some(raw(value)),
            "temperature"
            | "top_p"
            | "presence_penalty"
            | "frequency_penalty"
            | "min_p"
            | "top_k"
            | "max_tokens"
            | "max_completion_tokens"
            | "stop"
            | "tool_choice"
            | "response_format" => {}
            _ => {
                self.fields.insert(name.to_owned(), value.clone());
            }
        }
        Ok(())
    }
}

fn wrong(name: &str, wanted: &str) -> Failure {
    let place = format!("extra_args.{name}");
    Failure::invalid_param(&place, format!("`{place}` of the configuration must be {wanted}"))
}

fn whole(name: &str, value: &Value) -> Result<u32, Failure> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| wrong(name, "a whole number of at least 1"))
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let texts = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let texts = texts.filter(|texts: &Vec<String>| texts.iter().all(|text| !text.is_empty()));
    texts.ok_or_else(|| wrong(name, "a string that is not empty, or a list of such"))
}

fn raw<'a>(value: &Value) -> Cow<'a, RawValue> {
    Cow::Owned(to_raw_value(value).expect("JSON values serialise"))
}
