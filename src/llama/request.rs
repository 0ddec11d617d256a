//! What a prompt asks of the in-process engine, checked: everything that the engine cannot do is refused by
//! name before anything is queued, nothing is dropped silently.

use std::sync::Arc;

use super::asked_form::{self, AskedForm, Choice, GRAMMAR, REGEX};
use super::grammar::Compiled;
use super::reply::Reading;
use super::sampling::{Repetition, SamplingPlan};
use crate::completion::{Logprobs, Prompt, Signals, StepRule};
use crate::failure::{Failure, FailureKind};

/// The settings of a job, the same for all its candidates.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) plan: SamplingPlan,
    pub(super) stops: Arc<[String]>,
    /// `None`: as many as the context has room for.
    pub(super) max_tokens: Option<u32>,
    /// Alternatives reported for each token, where log-probabilities are wanted.
    pub(super) top_logprobs: Option<u8>,
    /// What the run needs to know of each token besides.
    pub(super) signals: Option<Signals>,
    /// Whether the log-probabilities of what is drawn are worked out, to be told or to compare candidates by.
    pub(super) wants_logprobs: bool,
    /// Whether tools are put before the model.
    pub(super) tools_offered: bool,
    /// How the text is read; `None`: it is given as it is.
    pub(super) reading: Option<Reading>,
    /// Whether text is sent as it appears.
    pub(super) live: bool,
    /// The form that the answer must have, and once it is compiled, where each candidate begins in it.
    pub(super) form: Option<AskedForm>,
    pub(super) compiled: Option<Compiled>,
    /// Where the steps of its paths end, where it is a search.
    pub(super) steps: Option<Arc<StepRule>>,
}

impl Request {
    /// Nothing in particular is asked.
    pub(super) fn plain() -> Self {
        Self {
            plan: SamplingPlan::GREEDY,
            stops: Arc::default(),
            max_tokens: None,
            top_logprobs: None,
            signals: None,
            wants_logprobs: false,
            tools_offered: false,
            reading: None,
            live: false,
            form: None,
            compiled: None,
            steps: None,
        }
    }

    /// Whether the log-probability of each token is told.
    pub(super) fn tells_logprobs(&self) -> bool {
        self.top_logprobs.is_some() || self.signals.is_some()
    }
}

const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Fields of other servers that sample in process, beside those that ask for a form.
const REPEAT_PENALTY: &str = "repeat_penalty";
const REPEAT_LAST_N: &str = "repeat_last_n";
const REPETITION_PENALTY: &str = "repetition_penalty";
const TYPICAL_P: &str = "typical_p";
const OWN_FIELDS: [&str; 7] =
    [GRAMMAR, REGEX, REPEAT_LAST_N, REPEAT_PENALTY, REPETITION_PENALTY, "response_format", TYPICAL_P];

/// Tokens that `repeat_penalty` looks at where `repeat_last_n` does not say, as in llama.cpp.
const REPEAT_LAST_N_DEFAULT: usize = 64;

/// Fields that do not change what a local model answers, or that were acted on before the prompt came here.
const WITHOUT_EFFECT: &[&str] = &[
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "user",
];

/// Reads a prompt for a model with a vocabulary of this size.
///
/// # Errors
///
/// The parameter at fault, by name.
pub(super) fn read(prompt: &Prompt, live: bool, vocabulary_size: u32, takes_tools: bool) -> Result<Request, Failure> {
    for (name, value) in &prompt.passthrough {
        let is_read = WITHOUT_EFFECT.contains(&name.as_str()) || OWN_FIELDS.contains(&name.as_str());
        if !is_read && value.get() != "null" {
            return Err(unsupported(name, "this parameter"));
        }
    }
    let choice = asked_form::read_choice(prompt)?;
    let form = asked_form::read(prompt, &choice)?;
    let tools_wanted = choice != Choice::Never;
    let tools_offered = tools_wanted && !prompt.tools.is_empty();
    if tools_offered && !takes_tools {
        return Err(Failure::invalid_param(
            "tools",
            "this model's chat template takes no tools: choose a model that can call them",
        ));
    }
    Ok(Request {
        plan: plan(prompt, vocabulary_size)?,
        stops: stops(prompt)?,
        max_tokens: match prompt.sampling.max_tokens {
            Some(limit) if limit.tokens == 0 => {
                return Err(Failure::invalid_param(
                    limit.name.as_str(),
                    format!("{} must be at least 1", limit.name.as_str()),
                ));
            }
            limit => limit.map(|limit| limit.tokens),
        },
        top_logprobs: match prompt.logprobs {
            Some(logprobs) if logprobs.top > Logprobs::MOST => {
                return Err(Failure::invalid_param("top_logprobs", "top_logprobs must be between 0 and 20"));
            }
            logprobs => logprobs.map(|logprobs| logprobs.top),
        },
        signals: prompt.signals,
        wants_logprobs: true,
        tools_offered,
        reading: None,
        live,
        form,
        compiled: None,
        steps: None,
    })
}

fn plan(prompt: &Prompt, vocabulary_size: u32) -> Result<SamplingPlan, Failure> {
    let sampling = &prompt.sampling;
    let number = |name: &str, value: Option<f64>, default: f64, allowed: &dyn Fn(f64) -> bool, range: &str| {
        let value = value.unwrap_or(default);
        if value.is_finite() && allowed(value) {
            Ok(value)
        } else {
            Err(Failure::invalid_param(name, format!("{name} must be {range}")))
        }
    };
    let any = |_: f64| true;
    let penalty = |value: f64| (-2.0..=2.0).contains(&value);
    for (token, bias) in &sampling.logit_bias {
        if *token >= vocabulary_size {
            let message =
                format!("logit_bias names token {token}, but the model has tokens 0 to {}", vocabulary_size - 1);
            return Err(Failure::invalid_param("logit_bias", message));
        }
        number("logit_bias", Some(*bias), 0.0, &any, "finite numbers")?;
    }
    Ok(SamplingPlan {
        temperature: number("temperature", sampling.temperature, 1.0, &|value| value >= 0.0, "0 or greater")?,
        top_p: number("top_p", sampling.top_p, 1.0, &|value| (0.0..=1.0).contains(&value), "between 0 and 1")?,
        top_k: sampling.top_k.unwrap_or(0) as usize,
        typical_p: {
            let own = own_number(prompt, TYPICAL_P)?;
            number(TYPICAL_P, own, 1.0, &|value| (0.0..=1.0).contains(&value), "between 0 and 1")?
        },
        min_p: number("min_p", sampling.min_p, 0.0, &|value| (0.0..=1.0).contains(&value), "between 0 and 1")?,
        presence_penalty: number("presence_penalty", sampling.presence_penalty, 0.0, &penalty, "between -2 and 2")?,
        frequency_penalty: number("frequency_penalty", sampling.frequency_penalty, 0.0, &penalty, "between -2 and 2")?,
        repetition: repetition(prompt)?,
        logit_bias: sampling.logit_bias.iter().map(|(token, bias)| (*token, *bias)).collect(),
    })
}

/// `repeat_penalty` is llama.cpp's, of the last `repeat_last_n` tokens (−1: all, 0: none); `repetition_penalty` is that
/// of other servers, of all tokens.
fn repetition(prompt: &Prompt) -> Result<Repetition, Failure> {
    let penalty = |name| -> Result<Option<f64>, Failure> {
        match own_number(prompt, name)? {
            Some(penalty) if !(penalty > 0.0 && penalty <= 10.0) => {
                Err(Failure::invalid_param(name, format!("{name} must be greater than 0 and at most 10")))
            }
            penalty => Ok(penalty),
        }
    };
    let window = match own_number(prompt, REPEAT_LAST_N)? {
        None => REPEAT_LAST_N_DEFAULT,
        Some(-1.0) => usize::MAX,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a whole number in range")]
        Some(last) if last >= 0.0 && last.fract() == 0.0 && last <= f64::from(i32::MAX) => last as usize,
        Some(_) => {
            let message = "repeat_last_n must be a whole number: -1 for all tokens, 0 for none, or how many";
            return Err(Failure::invalid_param(REPEAT_LAST_N, message));
        }
    };
    match (penalty(REPEAT_PENALTY)?, penalty(REPETITION_PENALTY)?) {
        (None, None) => Ok(Repetition::NONE),
        (Some(penalty), None) => Ok(Repetition { penalty, window }),
        (None, Some(penalty)) => Ok(Repetition { penalty, window: usize::MAX }),
        (Some(_), Some(_)) => {
            let message = "repeat_penalty and repetition_penalty cannot both be kept: leave out one";
            Err(Failure::invalid_param(REPEAT_PENALTY, message))
        }
    }
}

/// A number that is no part of OpenAI's API.
fn own_number(prompt: &Prompt, name: &str) -> Result<Option<f64>, Failure> {
    let Some(raw) = prompt.passthrough.get(name) else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| Failure::invalid_param(name, format!("{name} must be a number")))
}

fn stops(prompt: &Prompt) -> Result<Arc<[String]>, Failure> {
    if prompt.sampling.stop.iter().any(String::is_empty) {
        return Err(Failure::invalid_param("stop", "stop must not hold an empty string"));
    }
    // Every token of every candidate is searched for all of them.
    if prompt.sampling.stop.len() > MAX_STOPS || prompt.sampling.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("stop must hold at most {MAX_STOPS} strings of at most {MAX_STOP_BYTES} bytes each");
        return Err(Failure::invalid_param("stop", message));
    }
    Ok(prompt.sampling.stop.clone().into())
}

fn unsupported(param: &str, what: &str) -> Failure {
    let message = format!("{what} is not supported by the in-process engine yet: leave out {param}");
    Failure { kind: FailureKind::NotSupported, ..Failure::invalid_param(param, message) }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::completion::{MaxTokens, MaxTokensName, Sampling, Tool};

    pub(in super::super) fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    pub(in super::super) fn prompt(question: &str) -> Prompt {
        let messages = serde_json::json!([{ "role": "user", "content": question }]);
        Prompt {
            model: "local".into(),
            messages: raw(&messages.to_string()),
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            sampling: Sampling::default(),
            logprobs: None,
            signals: None,
            passthrough: Default::default(),
        }
    }

    pub(in super::super) fn tool(name: &str) -> Tool {
        let definition = format!(
            r#"{{"type":"function","function":{{"name":"{name}","description":"Works out a sum","parameters":{{"type":"object"}}}}}}"#
        );
        Tool { definition: raw(&definition), name: Some(name.into()), parameters: None }
    }

    fn fault(change: impl FnOnce(&mut Prompt)) -> String {
        let mut prompt = prompt("x");
        change(&mut prompt);
        read(&prompt, false, 100, true).unwrap_err().param.unwrap()
    }

    #[test]
    fn defaults_are_those_of_the_openai_api() {
        let request = read(&prompt("x"), false, 100, true).unwrap();
        assert_eq!((request.plan.temperature, request.plan.top_p, request.plan.min_p), (1.0, 1.0, 0.0));
        assert_eq!((request.plan.top_k, request.max_tokens, request.top_logprobs), (0, None, None));
    }

    #[test]
    fn what_would_change_the_answer_and_is_not_supported_is_refused_by_name() {
        for name in ["guided_choice", "audio", "modalities", "prediction", "reasoning_effort", "something_new"] {
            assert_eq!(fault(|prompt| prompt.passthrough = [(name.into(), raw("{}"))].into()), name);
        }
        assert_eq!(fault(|prompt| prompt.tool_choice = Some(raw(r#"{"type":"function"}"#))), "tool_choice");
    }

    #[test]
    fn what_has_no_effect_is_taken() {
        let mut prompt = prompt("x");
        for name in WITHOUT_EFFECT {
            prompt.passthrough.insert((*name).into(), raw("true"));
        }
        prompt.passthrough.insert("audio".into(), raw("null"));
        prompt.response_format = Some(raw(r#"{"type":"text"}"#));
        read(&prompt, false, 100, true).unwrap();
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        assert_eq!(fault(|prompt| prompt.sampling.temperature = Some(-0.1)), "temperature");
        assert_eq!(fault(|prompt| prompt.sampling.temperature = Some(f64::NAN)), "temperature");
        assert_eq!(fault(|prompt| prompt.sampling.top_p = Some(1.1)), "top_p");
        assert_eq!(fault(|prompt| prompt.sampling.min_p = Some(-1.0)), "min_p");
        assert_eq!(fault(|prompt| prompt.sampling.presence_penalty = Some(f64::INFINITY)), "presence_penalty");
        assert_eq!(fault(|prompt| prompt.sampling.presence_penalty = Some(2.1)), "presence_penalty");
        assert_eq!(fault(|prompt| prompt.sampling.frequency_penalty = Some(-1e308)), "frequency_penalty");
        assert_eq!(fault(|prompt| prompt.sampling.logit_bias = [(100, 1.0)].into()), "logit_bias");
        for (name, wrong) in [
            ("typical_p", "1.5"),
            ("typical_p", "\"high\""),
            ("repeat_penalty", "0"),
            ("repeat_penalty", "-1.1"),
            ("repetition_penalty", "1e9"),
            ("repeat_last_n", "-2"),
            ("repeat_last_n", "0.5"),
        ] {
            assert_eq!(fault(|prompt| drop(prompt.passthrough.insert(name.into(), raw(wrong)))), name, "{wrong}");
        }
        assert_eq!(fault(|prompt| prompt.sampling.stop = vec![String::new()]), "stop");
        let none = MaxTokens { tokens: 0, name: MaxTokensName::MaxCompletionTokens };
        assert_eq!(fault(|prompt| prompt.sampling.max_tokens = Some(none)), "max_completion_tokens");
    }

    #[test]
    fn penalties_of_repetition_are_read_under_both_names() {
        let repetition = |fields: &[(&str, &str)]| {
            let mut prompt = prompt("x");
            prompt.passthrough = fields.iter().map(|(name, value)| ((*name).into(), raw(value))).collect();
            read(&prompt, false, 100, true)
                .map(|request| (request.plan.repetition.penalty, request.plan.repetition.window))
        };
        assert_eq!(repetition(&[("repeat_penalty", "1.1")]).unwrap(), (1.1, 64));
        assert_eq!(repetition(&[("repeat_penalty", "1.1"), ("repeat_last_n", "-1")]).unwrap(), (1.1, usize::MAX));
        assert_eq!(repetition(&[("repeat_penalty", "1.1"), ("repeat_last_n", "0")]).unwrap(), (1.1, 0));
        assert_eq!(
            repetition(&[("repetition_penalty", "1.2"), ("repeat_penalty", "null")]).unwrap(),
            (1.2, usize::MAX)
        );
        assert_eq!(repetition(&[]).unwrap(), (1.0, 0));
        assert!(repetition(&[("repetition_penalty", "1.2"), ("repeat_penalty", "1.2")]).is_err());
    }

    #[test]
    fn stop_lists_are_bounded_in_number_and_length() {
        assert_eq!(fault(|prompt| prompt.sampling.stop = vec!["x".into(); 17]), "stop");
        assert_eq!(fault(|prompt| prompt.sampling.stop = vec!["x".repeat(257)]), "stop");
        let mut most = prompt("x");
        most.sampling.stop = vec!["x".repeat(256); 16];
        assert_eq!(read(&most, false, 100, true).unwrap().stops.len(), 16);
    }

    #[test]
    fn tools_are_offered_unless_the_client_says_none() {
        let mut prompt = prompt("x");
        prompt.tools = vec![tool("add")];
        assert!(read(&prompt, false, 100, true).unwrap().tools_offered);
        assert_eq!(read(&prompt, false, 100, false).unwrap_err().param.as_deref(), Some("tools"));
        prompt.tool_choice = Some(raw(r#""none""#));
        assert!(!read(&prompt, false, 100, false).unwrap().tools_offered);
    }
}
