//! The `metadata` of a response: how the answer came to be.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::algorithms::{Candidate, Node};
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
    /// Each class's share of the weight, where votes were weighted.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    response_weights: Vec<(&'a str, f64)>,
    /// In candidate order, where candidates were scored; null for those that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<&'a [Option<f64>]>,
    /// In candidate order, where particles were weighed.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_weights: Option<&'a [Option<f64>]>,
    /// In candidate order, where steps were searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps_used: Option<&'a [Option<usize>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<Vec<NodeObject<'a>>>,
    agreement: f64,
    set_aside: Vec<SetAside<'a>>,
    stop: StopObject,
    failures: Vec<FailureObject<'a>>,
    usage_by_phase: BTreeMap<Phase, Account>,
    /// Null where a model that was called has no price, or does not tell its usage.
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
    started: usize,
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

/// A step of a search.
#[derive(Serialize)]
struct NodeObject<'a> {
    id: usize,
    /// Null for a first step.
    parent: Option<usize>,
    text: &'a str,
    score: Option<f64>,
    state: &'static str,
    /// The first candidate that ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<usize>,
}

impl<'a> NodeObject<'a> {
    fn of((id, node): (usize, &'a Node)) -> Self {
        let Node { parent, text, score, fate, candidate } = node;
        Self { id, parent: *parent, text, score: *score, state: fate.as_str(), candidate: *candidate }
    }
}

/// Milliseconds.
#[derive(Serialize)]
struct Timing {
    total: f64,
    /// In which at least one call was under way.
    upstream: f64,
    /// The rest of the total.
    overhead: f64,
}

impl Timing {
    fn of(run: &Finished<'_>) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        let upstream = run.busy.unwrap_or_default().min(run.elapsed);
        Self { total: ms(run.elapsed), upstream: ms(upstream), overhead: ms(run.elapsed - upstream) }
    }
}

impl<'a> Metadata<'a> {
    /// Tells of a finished run.
    pub fn of(run: &'a Finished<'_>) -> Self {
        let outcome = run.outcome;
        let (completed, _, _) = outcome.counts();
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
        let searched = outcome.searched.as_ref();
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
            response_weights: verdict
                .and_then(|verdict| verdict.weights.as_ref())
                .map(|weights| weights.iter().map(|(label, share)| (label.as_str(), *share)).collect())
                .unwrap_or_default(),
            scores: outcome.scores.as_deref(),
            log_weights: searched.and_then(|searched| searched.log_weights.as_deref()),
            steps_used: searched.map(|searched| &*searched.steps_used),
            tree: searched.map(|searched| searched.tree.nodes.iter().enumerate().map(NodeObject::of).collect()),
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
                started: outcome.started(&spent),
                completed,
                cancelled: outcome.cancelled(&spent),
                saved_tokens_estimate: outcome.saved_tokens(&spent, run.stops_billing),
            },
            failures: failures.collect(),
            usage_by_phase: run.by_phase.clone(),
            cost_usd: run.cost_usd,
            timing_ms: Timing::of(run),
            warnings: &outcome.warnings,
        }
    }
}

fn as_object<T: Serialize, S: Serializer>(pairs: &[(&str, T)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(pairs.len()))?;
    for (label, value) in pairs {
        object.serialize_entry(label, value)?;
    }
    object.end()
}
