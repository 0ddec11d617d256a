//! Reads a whole (not streamed) chat completion.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::logprobs::{self, Readers};
use super::shape;
use crate::completion::{Completion, Reply, Usage};
use crate::failure::Failure;
use crate::providers::retry::AttemptFailure;
use crate::providers::upstream::{Upstream, malformed};

/// Reads the body of a successful response that was to have one choice; of more, the first counts. An `error` in it
/// counts before anything else: some servers send one with status 200.
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
    let (choices, usage) = choices::<Choice>(body, content_type, upstream)?;
    let choice = choices.into_iter().next().expect("an answer without choices is a failure");
    Ok(Completion { usage, ..completion(choice, readers, upstream)? })
}

/// Several choices of one answer.
#[derive(Debug)]
pub(super) struct Several {
    /// In the order of their `index`: no more than were asked for, and maybe fewer. One that cannot be read fails
    /// alone. Only the sum of what they cost is known: the prompt is entered with the first, and the tokens of the
    /// answers in equal shares.
    pub choices: Vec<Result<Completion, Failure>>,
    /// What all of them cost, also those beyond what was asked for.
    pub usage: Usage,
}

/// Reads the body of a successful response that was to have `asked` choices.
///
/// # Errors
///
/// As [`read`], but for single choices.
pub(super) fn read_several(
    body: &[u8],
    content_type: Option<&str>,
    asked: usize,
    readers: Readers,
    upstream: &Upstream,
) -> Result<Several, AttemptFailure> {
    #[derive(Deserialize)]
    struct Numbered {
        index: u64,
    }
    let (mut choices, usage) = choices::<&RawValue>(body, content_type, upstream)?;
    // Servers that number all of them alike, or none, have written them in their order.
    choices
        .sort_by_cached_key(|choice| serde_json::from_str(choice.get()).map_or(u64::MAX, |Numbered { index }| index));
    let came = choices.len();
    let read = |(position, choice): (usize, &RawValue)| {
        let choice: Choice = serde_json::from_str(choice.get())
            .map_err(|error| malformed(upstream, &format!("a choice that cannot be read ({error})")).failure)?;
        let completion = completion(choice, readers, upstream).map_err(|attempt| attempt.failure)?;
        Ok(Completion { usage: share(usage, position, came), ..completion })
    };
    Ok(Several { choices: choices.into_iter().take(asked).enumerate().map(read).collect(), usage })
}

/// What of a usage is entered with the choice at `position` of `count`, so that all of them add up to it.
fn share(usage: Usage, position: usize, count: usize) -> Usage {
    let part = |tokens: u64| tokens / count as u64 + u64::from((position as u64) < tokens % count as u64);
    let shared = Usage {
        completion_tokens: part(usage.completion_tokens),
        reasoning_tokens: part(usage.reasoning_tokens),
        ..Usage::default()
    };
    let Usage { prompt_tokens, cached_tokens, unknown_calls, .. } = usage;
    if position == 0 { Usage { prompt_tokens, cached_tokens, unknown_calls, ..shared } } else { shared }
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

/// The choices of a response, at least one, and what they cost.
fn choices<'a, C: Deserialize<'a>>(
    body: &'a [u8],
    content_type: Option<&str>,
    upstream: &Upstream,
) -> Result<(Vec<C>, Usage), AttemptFailure> {
    #[derive(Deserialize)]
    #[serde(bound(deserialize = "C: Deserialize<'de>"))]
    struct View<'a, C> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        choices: Option<Vec<C>>,
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
    }

    let view: View<'a, C> = match serde_json::from_slice(body) {
        Ok(view) => view,
        Err(error) => {
            return Err(upstream
                .error_in_success(body)
                .unwrap_or_else(|| unreadable(body, content_type, &error, upstream)));
        }
    };
    let choices = view.choices.unwrap_or_default();
    if view.error.is_some() {
        let attempt = upstream.error_in_success(body).unwrap_or_else(|| malformed(upstream, "an error without words"));
        // A model that had begun to answer is paid for.
        let was_refused = attempt.was_refused && choices.is_empty();
        return Err(AttemptFailure { was_refused, ..attempt });
    }
    if choices.is_empty() {
        return Err(upstream
            .error_in_success(body)
            .unwrap_or_else(|| malformed(upstream, "a completion without choices")));
    }
    Ok((choices, usage(view.usage)))
}

/// A choice as a completion, without what it cost.
fn completion(choice: Choice<'_>, readers: Readers, upstream: &Upstream) -> Result<Completion, AttemptFailure> {
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
        usage: Usage::default(),
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
        ..Usage::default()
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
    use crate::providers::upstream::Wording;

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

    fn upstream() -> Upstream {
        let wording = Wording { key: "the key", endpoint: "endpoint" };
        Upstream { name: "test".to_owned(), origin: "http://localhost".to_owned(), secrets: Vec::new(), wording }
    }

    fn several(asked: usize, body: &str) -> Result<Several, AttemptFailure> {
        read_several(body.as_bytes(), None, asked, Readers::default(), &upstream())
    }

    fn said(several: &Several) -> Vec<&str> {
        several.choices.iter().map(|choice| choice.as_ref().unwrap().reply.content().unwrap()).collect()
    }

    #[test]
    fn choices_come_in_the_order_of_their_numbers_and_no_more_than_were_asked_for() {
        let choice = |index: &str, text: &str| format!(r#"{{{index}"message":{{"content":"{text}"}}}}"#);
        let body = |choices: [String; 3]| format!(r#"{{"choices":[{}]}}"#, choices.join(","));
        let numbered = ["\"index\":2,", "\"index\":0,", "\"index\":1,"];
        let [a, b, c] = ["a", "b", "c"];
        let out_of_order = body([choice(numbered[0], a), choice(numbered[1], b), choice(numbered[2], c)]);
        assert_eq!(said(&several(3, &out_of_order).unwrap()), ["b", "c", "a"]);
        assert_eq!(said(&several(2, &out_of_order).unwrap()), ["b", "c"]);
        assert_eq!(said(&several(5, &out_of_order).unwrap()), ["b", "c", "a"], "what is missing is not made up");
        let all_alike = body([choice(numbered[1], a), choice(numbered[1], b), choice(numbered[1], c)]);
        assert_eq!(said(&several(3, &all_alike).unwrap()), ["a", "b", "c"]);
        assert_eq!(said(&several(3, &body([choice("", a), choice("", b), choice("", c)])).unwrap()), ["a", "b", "c"]);
    }

    #[test]
    fn a_choice_that_cannot_be_read_fails_alone() {
        let body = r#"{"choices":[
            {"index":0,"message":{"content":"a"},"finish_reason":"length"}, {"index":1}, null,
            {"index":2,"message":{"content":"b"},"finish_reason":7}, {"index":3,"message":{"content":"c"}}
        ]}"#;
        let several = several(5, body).unwrap();
        let ends: Vec<Option<&str>> =
            several.choices.iter().map(|end| end.as_ref().ok().map(|it| it.finish_reason.as_str())).collect();
        assert_eq!(ends, [Some("length"), None, None, Some("stop"), None]);
        assert_eq!(several.usage.unknown_calls, 1);
        assert!(read_several(br#"{"choices":[]}"#, None, 2, Readers::default(), &upstream()).is_err());
    }

    #[test]
    fn the_shares_of_the_choices_add_up_to_what_the_call_cost() {
        let body = r#"{"choices":[{"message":{"content":"a"}},{"message":{"content":"b"}},{"message":{"content":"c"}}],
            "usage":{"prompt_tokens":9,"completion_tokens":11,"completion_tokens_details":{"reasoning_tokens":4}}}"#;
        let several = several(3, body).unwrap();
        let usages: Vec<Usage> = several.choices.iter().map(|choice| choice.as_ref().unwrap().usage).collect();
        let told = |usage: &Usage| [usage.prompt_tokens, usage.completion_tokens, usage.reasoning_tokens];
        assert_eq!(usages.iter().map(told).collect::<Vec<_>>(), [[9, 4, 2], [0, 4, 1], [0, 3, 1]]);
        assert_eq!(told(&several.usage), [9, 11, 4]);
    }
}
