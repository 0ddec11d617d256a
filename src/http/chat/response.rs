//! The whole-answer response: OpenAI's shape, with what itsd adds when it is asked for.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::algorithms::{Candidate, Outcome};
use crate::completion::Usage;
use crate::generator::{Account, Phase};

use super::job::Identity;

/// A finished run, ready to be written.
pub struct Finished<'a> {
    pub identity: &'a Identity,
    pub outcome: &'a Outcome,
    pub usage: Usage,
    pub by_phase: BTreeMap<Phase, Account>,
    pub elapsed_ms: f64,
    pub with_metadata: bool,
}

#[derive(Serialize)]
struct ChatCompletion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: [Choice<'a>; 1],
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

/// How the answer came to be.
#[derive(Serialize)]
pub struct Metadata<'a> {
    algorithm: &'static str,
    revision: i64,
    /// The messages in candidate order; null where a candidate failed or was cancelled.
    responses: Vec<Option<&'a RawValue>>,
    all_responses: Vec<Option<&'a RawValue>>,
    selected_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vote: Option<&'static str>,
    #[serde(serialize_with = "as_object")]
    response_counts: Vec<(&'a str, usize)>,
    /// In candidate order, where candidates were scored; null for those that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<&'a [Option<f64>]>,
    agreement: f64,
    set_aside: Vec<SetAside<'a>>,
    stop: StopObject,
    failures: Vec<FailureObject<'a>>,
    usage_by_phase: BTreeMap<Phase, Account>,
    timing_ms: Timing,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct SetAside<'a> {
    candidate: usize,
    reason: &'a str,
}

#[derive(Serialize)]
struct StopObject {
    reason: &'static str,
    planned: usize,
    started: u64,
    completed: usize,
    cancelled: usize,
    saved_tokens_estimate: u64,
}

#[derive(Serialize)]
struct FailureObject<'a> {
    candidate: usize,
    what: &'a str,
    message: &'a str,
    status: Option<u16>,
}

#[derive(Serialize)]
struct Timing {
    total: f64,
}

impl Finished<'_> {
    /// The response with its headers.
    pub fn render(&self) -> HttpResponse {
        let winner = self.outcome.winner();
        let body = ChatCompletion {
            id: &self.identity.completion_id,
            object: "chat.completion",
            created: self.identity.created,
            model: &self.identity.model,
            choices: [Choice {
                index: 0,
                message: winner.reply.raw(),
                logprobs: winner.logprobs.as_deref(),
                finish_reason: winner.finish_reason.as_str(),
            }],
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
        let agreement = HeaderValue::try_from(format!("{:.3}", self.agreement())).expect("digits are header text");
        headers.push((HeaderName::from_static("x-its-agreement"), agreement));
        headers.extend(warnings_header(&self.outcome.warnings));
        headers
    }

    /// The `metadata` object, where the client asked for it.
    pub fn metadata(&self) -> Option<Metadata<'_>> {
        if !self.with_metadata {
            return None;
        }
        let outcome = self.outcome;
        let (completed, _, cancelled) = outcome.counts();
        let spent = self.by_phase.get(&Phase::Generate).copied().unwrap_or_default();
        let responses: Vec<_> = outcome
            .candidates
            .iter()
            .map(|candidate| match candidate {
                Candidate::Completed(completion) => Some(completion.reply.raw()),
                Candidate::Failed(_) | Candidate::Cancelled => None,
            })
            .collect();
        let failures = outcome.candidates.iter().enumerate().filter_map(|(candidate, end)| match end {
            Candidate::Failed(failure) => Some(FailureObject {
                candidate,
                what: failure.kind.as_str(),
                message: &failure.message,
                status: failure.status,
            }),
            Candidate::Completed(_) | Candidate::Cancelled => None,
        });
        let verdict = outcome.verdict.as_ref();
        Some(Metadata {
            algorithm: self.identity.algorithm,
            revision: self.identity.revision,
            all_responses: responses.clone(),
            responses,
            selected_index: outcome.selected(),
            vote: verdict.map(|verdict| verdict.vote),
            response_counts: verdict
                .map(|verdict| verdict.response_counts.iter().map(|(label, count)| (label.as_str(), *count)).collect())
                .unwrap_or_default(),
            scores: outcome.scores.as_deref(),
            agreement: self.agreement(),
            set_aside: verdict
                .map(|verdict| {
                    let set_aside = verdict.set_aside.iter();
                    set_aside.map(|aside| SetAside { candidate: aside.candidate, reason: &aside.reason }).collect()
                })
                .unwrap_or_default(),
            stop: StopObject {
                reason: outcome.stop.reason.as_str(),
                planned: outcome.stop.planned,
                started: spent.calls,
                completed,
                cancelled,
                saved_tokens_estimate: outcome.saved_tokens(&spent),
            },
            failures: failures.collect(),
            usage_by_phase: self.by_phase.clone(),
            timing_ms: Timing { total: self.elapsed_ms },
            warnings: &outcome.warnings,
        })
    }

    fn agreement(&self) -> f64 {
        self.outcome.verdict.as_ref().map_or(1.0, |verdict| verdict.agreement)
    }
}

fn as_object<S: Serializer>(pairs: &[(&str, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(pairs.len()))?;
    for (label, count) in pairs {
        object.serialize_entry(label, count)?;
    }
    object.end()
}

/// The header that carries warnings, where there are any.
pub fn warnings_header(warnings: &[String]) -> Option<(HeaderName, HeaderValue)> {
    let text = (!warnings.is_empty()).then(|| warnings.join("; "))?;
    Some((HeaderName::from_static("x-its-warnings"), header_text(&text)))
}

/// Clients refuse responses with heads of more than some kilobytes; what is cut off here is in the metadata.
const MAX_HEADER_TEXT_CHARS: usize = 2048;

/// Text as a header value: whatever is not printable ASCII becomes a question mark.
fn header_text(text: &str) -> HeaderValue {
    let text: String =
        text.chars().take(MAX_HEADER_TEXT_CHARS).map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    HeaderValue::try_from(text).expect("printable ASCII is header text")
}
