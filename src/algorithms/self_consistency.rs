//! Self-consistency: many candidates, one vote, and an end as soon as the vote is decided.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::completion::{Prompt, StepEvent};
use crate::config::run::StopRule;
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Generator, Run, Until};

use super::Observer;
use super::outcome::{Candidate, Outcome, RunError, Stop, StopReason};
use super::plan::SelfConsistency;
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
    let mut candidates: Vec<Candidate> = (0..planned).map(|_| Candidate::Cancelled).collect();
    let mut reason = StopReason::Completed;
    let mut ended = 0;

    let mut extension = generator.extend(generator::open(&prompt, planned, run), Until::End, Delivery::Whole).await;
    while let Some((candidate, event)) = extension.next().await {
        candidates[candidate] = match event {
            StepEvent::Delta(_) => continue,
            StepEvent::Finished(completion) => {
                ballot.record(candidate, Some(&completion));
                Candidate::Completed(completion)
            }
            StepEvent::Failed(failure) => {
                ballot.record(candidate, None);
                Candidate::Failed(failure)
            }
        };
        ended += 1;
        observer.progress(ended, planned);
        if settings.stop_rule == StopRule::Decided && ended < planned && ballot.is_decided() {
            reason = StopReason::Decided;
            break;
        }
    }
    // What nobody will read is not paid for: this ends the calls still in flight.
    extension.cancel().await;

    let Some(verdict) = ballot.verdict() else {
        let mut failures: Vec<_> = candidates
            .into_iter()
            .enumerate()
            .filter_map(|(candidate, end)| match end {
                Candidate::Failed(failure) => Some((candidate, failure)),
                Candidate::Completed(_) | Candidate::Cancelled => None,
            })
            .collect();
        if failures.is_empty() {
            failures.push((0, Failure::new(FailureKind::Internal, "no candidate came to an end")));
        }
        return Err(RunError { failures });
    };
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    let warnings = validity.warnings().iter().chain(&verdict.notes).cloned().collect();
    Ok(Outcome {
        selected: verdict.selected,
        candidates,
        verdict: Some(verdict),
        stop: Stop { reason, planned },
        warnings,
    })
}
