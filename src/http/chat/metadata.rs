//! The `metadata` of a response: how the answer came to be.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::algorithms::{Candidate, Outcome};
use crate::generator::{Account, Phase};

use super::response::Finished;

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
    /// Null where a model that was called has no price.
    cost_usd: Option<f64>,
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

impl<'a> Metadata<'a> {
    /// Tells of a finished run.
    pub fn of(run: &'a Finished<'_>) -> Self {
        let outcome = run.outcome;
        let (completed, _, cancelled) = outcome.counts();
        let spent = run.by_phase.get(&Phase::Generate).copied().unwrap_or_default();
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
        Self {
            algorithm: run.identity.algorithm,
            revision: run.identity.revision,
            all_responses: responses.clone(),
            responses,
            selected_index: outcome.selected(),
            vote: verdict.map(|verdict| verdict.vote),
            response_counts: verdict
                .map(|verdict| verdict.response_counts.iter().map(|(label, count)| (label.as_str(), *count)).collect())
                .unwrap_or_default(),
            scores: outcome.scores.as_deref(),
            agreement: run.agreement(),
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
                saved_tokens_estimate: saved_tokens(outcome, &spent),
            },
            failures: failures.collect(),
            usage_by_phase: run.by_phase.clone(),
            cost_usd: run.cost_usd,
            timing_ms: Timing { total: run.elapsed_ms },
            warnings: &outcome.warnings,
        }
    }
}

/// Completion tokens that the early end saved, taking every candidate to be as long as the mean of those that
/// completed.
///
/// Where the usage of every call is known, that is all which was planned less what was spent. Where it is
/// not, only candidates that never began count, since many providers bill a closed connection to the end.
fn saved_tokens(outcome: &Outcome, spent: &Account) -> u64 {
    let completed = outcome.candidates.iter().filter_map(|candidate| match candidate {
        Candidate::Completed(completion) => Some(completion.usage.completion_tokens),
        Candidate::Failed(_) | Candidate::Cancelled => None,
    });
    let (count, tokens) = completed.fold((0, 0), |(count, sum), tokens| (count + 1, sum + tokens));
    let (_, failed, cancelled) = outcome.counts();
    if count == 0 || cancelled == 0 {
        return 0;
    }
    let planned = outcome.stop.planned as u64 - failed as u64;
    if spent.usage.unknown_calls == 0 {
        (tokens * planned / count).saturating_sub(spent.usage.completion_tokens)
    } else {
        tokens * (outcome.stop.planned as u64).saturating_sub(spent.calls) / count
    }
}

fn as_object<S: Serializer>(pairs: &[(&str, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(pairs.len()))?;
    for (label, count) in pairs {
        object.serialize_entry(label, count)?;
    }
    object.end()
}
