//! Self-consistency: many candidates, one vote, and an end as soon as the vote is decided.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::sync::Arc;

use crate::completion::Prompt;
use crate::config::run::StopRule;
use crate::generator::{Generator, Run};

use super::Observer;
use super::outcome::{Answer, Outcome, RunError, Stop, StopReason};
use super::plan::SelfConsistency;
use super::sampling::{Heard, Sampling};
use super::vote::{Ballot, Validity};

pub(super) async fn run(
    settings: &SelfConsistency,
    planned: usize,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let validity = Arc::new(Validity::of(&prompt));
    let mut ballot = Ballot::new(Arc::clone(&settings.rules), Arc::clone(&validity), planned);
    let mut sampling = Sampling::new(generator, prompt, run, planned);
    sampling.start(planned).await;
    let mut reason = loop {
        match sampling.next().await {
            Heard::Ended(candidate) => {
                ballot.record(candidate, sampling.completion(candidate));
                observer.progress(sampling.ended(), planned);
                if settings.stop_rule == StopRule::Decided && sampling.ended() < planned && ballot.is_decided() {
                    // What is here already is paid for, and reading it keeps its connection usable.
                    for candidate in sampling.take_arrived() {
                        ballot.record(candidate, sampling.completion(candidate));
                    }
                    break StopReason::Decided;
                }
            }
            Heard::Bound(bound) => break bound.into(),
            Heard::Idle => break StopReason::Completed,
        }
    };
    if sampling.ended() == planned {
        reason = StopReason::Completed;
    }
    let candidates = sampling.finish().await;

    let Some(verdict) = ballot.verdict() else { return Err(RunError::of(candidates, reason)) };
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    let warnings = validity.warnings().iter().chain(&verdict.notes).cloned().collect();
    Ok(Outcome {
        answer: Answer::Chosen(vec![verdict.selected]),
        candidates,
        verdict: Some(verdict),
        scores: None,
        stop: Stop { reason, planned },
        warnings,
    })
}
