//! Reads a whole (not streamed) chat completion.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::{Upstream, malformed};
use super::logprobs::{self, Readers};
use super::shape;
use crate::completion::{Completion, Reply, Usage};
use crate::providers::retry::AttemptFailure;

/// Reads the body of a successful response. An `error` in it counts before anything else: some servers send
/// one with status 200.
///
/// # Errors
///
/// A failure by the error's own code, or a malformed answer: not JSON, no choice, no message.
pub(super) fn read(
    body: &[u8],
    content_type: Option<&str>,
    readers: Readers,
    upstream: &Upstream,
) -> Result<Completion, AttemptFailure> {
    #[derive(Deserialize)]
    struct View<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        choices: Option<Vec<Choice<'a>>>,
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        #[serde(borrow)]
        message: Option<&'a RawValue>,
        #[serde(borrow)]
        finish_reason: Option<Cow<'a, str>>,
        #[serde(borrow)]
        logprobs: Option<&'a RawValue>,
    }

    let view: View = match serde_json::from_slice(body) {
        Ok(view) => view,
        Err(error) => {
            return Err(upstream
                .error_in_success(body)
                .unwrap_or_else(|| unreadable(body, content_type, &error, upstream)));
        }
    };
    if view.error.is_some() {
        let attempt = upstream.error_in_success(body).unwrap_or_else(|| malformed(upstream, "an error without words"));
        // A model that had begun to answer is paid for.
        let was_refused = attempt.was_refused && view.choices.is_none_or(|choices| choices.is_empty());
        return Err(AttemptFailure { was_refused, ..attempt });
    }
    let Some(choice) = view.choices.and_then(|choices| choices.into_iter().next()) else {
        return Err(upstream
            .error_in_success(body)
            .unwrap_or_else(|| malformed(upstream, "a completion without choices")));
    };
    // A router whose provider broke off says so in the choice.
    if choice.error.is_some() || choice.finish_reason.as_deref() == Some("error") {
        return Err(upstream.error_in_choice(choice.error));
    }
    // The model has answered, and asking again would be paid for again: the server's shape does not change.
    let not_our_shape = |what: &str| AttemptFailure::fatal(malformed(upstream, what).failure);
    let Some(message) = choice.message else {
        return Err(not_our_shape("a choice without a message"));
    };
    let reply = Reply::parse(shape::message(message).into_owned())
        .map_err(|error| not_our_shape(&format!("a message that cannot be read ({error})")))?;
    // A few servers leave it out of whole answers, which are then taken as ended by themselves.
    let word = choice.finish_reason.as_deref().filter(|word| !word.is_empty()).unwrap_or("stop");
    let finish_reason = shape::finish_reason(word, !reply.tool_calls().is_empty());
    let told = choice.logprobs.map(|told| logprobs::in_our_shape(told, reply.content()));
    let told = told.as_deref();
    Ok(Completion {
        reply,
        finish_reason,
        mean_logprob: told.and_then(logprobs::mean),
        tokens: told.and_then(|told| readers.tokens(told)),
        logprobs: told.and_then(|told| readers.for_client(told)).map(Cow::into_owned),
        usage: usage(view.usage),
    })
}

/// More tokens than any call has: a server that tells of more does not count tokens.
const MOST_TOKENS: u64 = 1 << 40;

/// The usage object of a response. One that is missing, not of OpenAI's shape, or beyond [`MOST_TOKENS`] is an unknown
/// call rather than a failed one.
pub(super) fn usage(raw: Option<&RawValue>) -> Usage {
    #[derive(Deserialize)]
    struct View {
        prompt_tokens: u64,
        #[serde(default)]
        completion_tokens: u64,
        prompt_tokens_details: Option<PromptDetails>,
        completion_tokens_details: Option<CompletionDetails>,
    }
    #[derive(Deserialize)]
    struct PromptDetails {
        cached_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct CompletionDetails {
        reasoning_tokens: Option<u64>,
    }
    let unknown = Usage { unknown_calls: 1, ..Usage::default() };
    let Some(view) = raw.and_then(|raw| serde_json::from_str::<View>(raw.get()).ok()) else { return unknown };
    let told = Usage {
        prompt_tokens: view.prompt_tokens,
        completion_tokens: view.completion_tokens,
        cached_tokens: view.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0),
        reasoning_tokens: view.completion_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0),
        unknown_calls: 0,
    };
    let Usage { prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, .. } = told;
    match [prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens].iter().all(|&count| count <= MOST_TOKENS)
    {
        true => told,
        false => unknown,
    }
}

pub(super) fn unreadable(
    body: &[u8],
    content_type: Option<&str>,
    error: &serde_json::Error,
    upstream: &Upstream,
) -> AttemptFailure {
    let what = if body.is_empty() {
        "an empty body".to_owned()
    } else if body.trim_ascii_start().starts_with(b"<") {
        "a page of HTML instead of JSON; is `endpoint` the address of an API, usually ending in /v1?".to_owned()
    } else if error.is_eof() {
        "a body that breaks off".to_owned()
    } else {
        match content_type {
            Some(kind) if !kind.contains("json") => format!("{kind} that is not JSON"),
            _ => format!("JSON that cannot be read ({error})"),
        }
    };
    malformed(upstream, &what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_call_can_have_are_unknown() {
        let told = |text: &str| usage(Some(&RawValue::from_string(text.to_owned()).unwrap()));
        let most = told(r#"{"prompt_tokens": 1099511627776, "completion_tokens": 1}"#);
        assert_eq!((most.prompt_tokens, most.unknown_calls), (1 << 40, 0));
        for text in [
            r#"{"prompt_tokens": 1099511627777, "completion_tokens": 1}"#,
            r#"{"prompt_tokens": 1, "completion_tokens": 18446744073709551615}"#,
            r#"{"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9e18}}"#,
            r#"{"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 9000000000000000000}}"#,
            r#"{"prompt_tokens": 1e300}"#,
            r#"{"prompt_tokens": -1}"#,
        ] {
            assert_eq!(told(text), Usage { unknown_calls: 1, ..Usage::default() }, "{text}");
        }
    }
}
