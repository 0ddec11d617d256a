//! Self-consistency: many candidates, one vote, and an end as soon as its stop rule is content.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::sync::Arc;

use crate::completion::Prompt;
use crate::config::run::Wave;
use crate::generator::{Generator, Run};

use super::Observer;
use super::outcome::{Answer, Outcome, RunError, Stop, StopReason, fewer_answers};
use super::plan::{Plan, SelfConsistency};
use super::sampling::{Heard, Sampling};
use super::stop_rule::{Stopped, Watch};
use super::vote::{Ballot, Validity};

pub(super) async fn run(
    settings: &SelfConsistency,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let validity = Arc::new(Validity::of(&prompt));
    let mut sampling = Sampling::new(generator, prompt, run, plan.budget).at_most(plan.max_candidates);
    let ballot = Ballot::new(Arc::clone(&settings.rules), Arc::clone(&validity), sampling.allowed());
    let mut ballot = ballot.weighted(settings.weighting);
    let stopped = sample(settings, plan, &mut sampling, &mut ballot, observer).await;
    let candidates = sampling.finish().await;

    let verdict = ballot.verdict_of_first(stopped.after.unwrap_or(usize::MAX));
    let Some(verdict) = verdict else { return Err(RunError::of(candidates, stopped.reason)) };
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    let warnings = validity.warnings().into_iter().chain(verdict.notes.iter().cloned());
    let chosen: Vec<usize> = verdict.ranking.iter().copied().take(plan.answers).collect();
    Ok(Outcome {
        warnings: warnings.chain(fewer_answers(plan.answers, chosen.len())).collect(),
        answer: Answer::Chosen(chosen),
        candidates,
        verdict: Some(verdict),
        scores: None,
        stop: Stop { reason: stopped.reason, planned: plan.budget },
    })
}

/// Samples wave after wave until the stop rule is content, a bound is reached or every candidate has ended.
async fn sample(
    settings: &SelfConsistency,
    plan: &Plan,
    sampling: &mut Sampling<'_>,
    ballot: &mut Ballot,
    observer: &mut impl Observer,
) -> Stopped {
    let mut watch = Watch::new(settings.stopping, plan.answers);
    loop {
        let stopped = match sampling.next().await {
            Heard::Ended(candidate) => {
                ballot.record(candidate, sampling.completion(candidate));
                observer.progress(sampling.ended(), plan.budget);
                watch.look(ballot)
            }
            Heard::Idle if sampling.can_start() => {
                match (settings.wave, sampling.started()) {
                    (Wave::Prime, 0) => sampling.prime().await,
                    (wave, started) => sampling.start(settings.stopping.wave(wave, started)).await,
                }
                None
            }
            Heard::FirstToken => {
                sampling.start(usize::MAX).await;
                None
            }
            Heard::Idle => Some(Stopped { reason: sampling.reason_of_end(), after: None }),
            Heard::Bound(bound) => Some(Stopped { reason: bound.into(), after: None }),
        };
        let Some(mut stopped) = stopped else { continue };
        // What is here already is paid for, and reading it keeps its connection usable.
        for candidate in sampling.take_arrived() {
            ballot.record(candidate, sampling.completion(candidate));
        }
        // Nothing was stopped where nothing was left.
        if sampling.ended() == plan.budget && stopped.after.is_none_or(|after| after == plan.budget) {
            stopped.reason = StopReason::Completed;
        }
        return stopped;
    }
}
