//! The whole-answer response: OpenAI's shape, with what itsd adds when it is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::algorithms::Outcome;
use crate::completion::Usage;
use crate::generator::{Account, Phase};
use crate::http::error::ApiError;

use super::job::Identity;
use super::metadata::Metadata;
use super::tts_metadata::TtsMetadata;

/// A finished run, ready to be written.
pub struct Finished<'a> {
    pub identity: &'a Identity,
    pub outcome: &'a Outcome,
    pub usage: Usage,
    pub by_phase: BTreeMap<Phase, Account>,
    /// What all calls cost, where their models have prices.
    pub cost_usd: Option<f64>,
    /// Whether a call that is cancelled is paid for no further.
    pub stops_billing: bool,
    /// The time in which calls were under way; `None` where none was made.
    pub busy: Option<Duration>,
    /// Time since the request's head arrived.
    pub elapsed: Duration,
    pub with_metadata: bool,
    /// The strategy in the client's words, where a `tts_*` field or the path chose the run.
    pub strategy: Option<&'a str>,
}

#[derive(Serialize)]
struct ChatCompletion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice<'a>>,
    usage: UsageObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: &'a RawValue,
    logprobs: Option<&'a RawValue>,
    finish_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tts_metadata: Option<TtsMetadata<'a>>,
}

/// Usage in OpenAI's shape.
#[derive(Debug, Clone, Serialize)]
pub struct UsageObject {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Debug, Clone, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageObject {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.total_tokens(),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// Runs what writes a response. A defect in it is an error that the client is told, and does not take the connection
/// with it and whatever else is asked on that.
///
/// # Errors
///
/// Where it panics.
pub fn guarded<T>(write: impl FnOnce() -> T) -> Result<T, ApiError> {
    // What it leaves half done is dropped with the response.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(write)).map_err(|_| {
        tracing::error!("a response could not be written by a defect of ours");
        ApiError::internal()
    })
}

impl Finished<'_> {
    /// The response with its headers.
    pub fn render(&self) -> HttpResponse {
        let choices = self.outcome.answers().into_iter().zip(0..).map(|(answer, index)| Choice {
            index,
            message: answer.reply.raw(),
            logprobs: answer.logprobs.as_deref(),
            finish_reason: answer.finish_reason.as_str(),
            tts_metadata: self.tts_metadata(index),
        });
        let body = ChatCompletion {
            id: &self.identity.completion_id,
            object: "chat.completion",
            created: self.identity.created,
            model: &self.identity.model,
            choices: choices.collect(),
            usage: self.usage.into(),
            metadata: self.metadata(),
        };
        let mut response = HttpResponse::Ok();
        for header in self.headers() {
            response.insert_header(header);
        }
        response.json(body)
    }

    /// The headers that tell of the run.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let (completed, _, _) = self.outcome.counts();
        let mut headers = self.identity.headers();
        headers.push((HeaderName::from_static("x-its-candidates"), HeaderValue::from(completed)));
        headers
            .push((HeaderName::from_static("x-its-stop"), HeaderValue::from_static(self.outcome.stop.reason.as_str())));
        if let Some(share) = self.winning_share() {
            let share = HeaderValue::try_from(format!("{share:.3}")).expect("digits are header text");
            headers.push((HeaderName::from_static("x-its-agreement"), share));
        }
        headers.extend(warnings_header(&self.outcome.warnings));
        headers
    }

    /// The `metadata` object, where the client asked for it.
    pub fn metadata(&self) -> Option<Metadata<'_>> {
        self.with_metadata.then(|| Metadata::of(self))
    }

    /// The `tts_metadata` of a choice: of the first, where a `tts_*` field or the path chose the run.
    pub fn tts_metadata(&self, index: u32) -> Option<TtsMetadata<'_>> {
        let strategy = self.strategy.filter(|_| index == 0)?;
        Some(TtsMetadata::of(self, strategy))
    }

    /// The winner's share of the votes where classes of answers were counted, and 1 for a single call; `None` where
    /// the answer was chosen or made in another way.
    fn winning_share(&self) -> Option<f64> {
        match &self.outcome.verdict {
            Some(verdict) => verdict.has_classes().then_some(verdict.agreement),
            None => (self.identity.algorithm == "none" && self.outcome.candidates.len() == 1).then_some(1.0),
        }
    }

    /// The share of the candidates that agree with the winner; 1 where there was nothing to choose.
    pub fn agreement(&self) -> f64 {
        self.outcome.verdict.as_ref().map_or(1.0, |verdict| verdict.agreement)
    }
}

/// Clients refuse responses with heads of more than some kilobytes; what is left out here is in the metadata.
const MOST_WARNING_CHARS: usize = 2048;

/// The header that carries warnings, where there are any: as many as have room, and how many more there are.
pub fn warnings_header(warnings: &[String]) -> Option<(HeaderName, HeaderValue)> {
    let (first, rest) = warnings.split_first()?;
    // One that is too long by itself is cut.
    let mut text: String = first.chars().take(MOST_WARNING_CHARS).collect();
    let mut told = 1;
    for warning in rest {
        if text.len() + warning.len() > MOST_WARNING_CHARS {
            break;
        }
        text = format!("{text}; {warning}");
        told += 1;
    }
    if told < warnings.len() {
        text = format!("{text}; and {} more, in metadata.warnings", warnings.len() - told);
    }
    Some((HeaderName::from_static("x-its-warnings"), header_text(&text)))
}

/// Text as a header value: whatever is not printable ASCII becomes a question mark.
fn header_text(text: &str) -> HeaderValue {
    let text: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::try_from(text).expect("printable ASCII is header text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(warnings: &[&str]) -> Option<String> {
        let warnings: Vec<String> = warnings.iter().map(|warning| (*warning).to_owned()).collect();
        warnings_header(&warnings).map(|(_, value)| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_defect_in_what_writes_a_response_is_an_error_of_ours() {
        assert_eq!(guarded(|| 7).unwrap(), 7);
        let error = guarded(|| assert_eq!(told(&[]).as_deref(), Some("never"))).unwrap_err();
        assert_eq!(error.cause(), ApiError::internal().cause());
    }

    #[test]
    fn warnings_share_a_header_as_long_as_there_is_room() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&["one"]).unwrap(), "one");
        assert_eq!(told(&["one", "\u{e9}t\u{e9}\n"]).unwrap(), "one; ?t??");
        let long = "x".repeat(1500);
        assert_eq!(told(&[&long, &long, "z"]).unwrap(), format!("{long}; and 2 more, in metadata.warnings"));
        assert_eq!(told(&[&"\u{e9}".repeat(5000)]).unwrap(), "?".repeat(2048));
    }
}
