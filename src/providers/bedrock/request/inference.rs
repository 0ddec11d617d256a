//! `inferenceConfig`: the parameters that Converse has for every model, within what it takes of each.

use serde_json::Value;

use super::body::InferenceConfig;
use super::fields::Fields;
use super::{Scope, shown};
use crate::completion::Sampling;
use crate::failure::Failure;

/// The greatest number of tokens, and of stop sequences, that Converse takes.
const MOST_TOKENS: u32 = i32::MAX.unsigned_abs();
const MOST_STOPS: usize = 2500;

/// The parameters of `sampling`; `None` where there are none.
///
/// # Errors
///
/// One that is beyond what Converse takes, and room for an answer that thinking would use up.
pub(super) fn config<'a>(
    sampling: &'a Sampling,
    fields: &Fields,
    scope: &Scope,
) -> Result<Option<InferenceConfig<'a>>, Failure> {
    for (name, value) in [("temperature", sampling.temperature), ("top_p", sampling.top_p)] {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            let message = format!("`{name}` is {value}; Bedrock takes 0 to 1");
            return Err(Failure::invalid_param(name, message));
        }
    }
    let max_tokens = sampling.max_tokens.map(|limit| limit.tokens);
    if let Some(tokens) = max_tokens.filter(|tokens| *tokens > MOST_TOKENS) {
        let message = format!("`max_tokens` is {tokens}; Bedrock takes at most {MOST_TOKENS}");
        return Err(Failure::invalid_param("max_tokens", message));
    }
    let budget = fields.additional.get("thinking").and_then(|thinking| thinking["budget_tokens"].as_u64());
    // Thoughts between the calls of tools are another matter: together they may be longer than any one answer.
    let budget = budget.filter(|_| !fields.thinks_between_calls());
    if let (Some(budget), Some(tokens), true) = (budget, max_tokens, scope.family.is_claude())
        && u64::from(tokens) <= budget
    {
        let message = format!(
            "`max_tokens` is {tokens}, of which thinking alone may take {budget}; raise it above that, or lower \
             `reasoning_effort` or `thinking.budget_tokens`"
        );
        return Err(Failure::invalid_param("max_tokens", message));
    }
    let stops = &sampling.stop;
    if stops.len() > MOST_STOPS {
        let message = format!("`stop` holds {} texts; Bedrock takes at most {MOST_STOPS}", stops.len());
        return Err(Failure::invalid_param("stop", message));
    }
    if let Some(blank) = stops.iter().find(|stop| stop.trim().is_empty()).filter(|_| scope.family.is_claude()) {
        let blank = Value::from(shown(blank));
        let message = format!("`stop` holds {blank}; Claude takes no text of white space alone, so leave it out");
        return Err(Failure::invalid_param("stop", message));
    }
    let config =
        InferenceConfig { max_tokens, temperature: sampling.temperature, top_p: sampling.top_p, stop_sequences: stops };
    Ok((config != InferenceConfig::default()).then_some(config))
}
