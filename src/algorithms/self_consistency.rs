//! Self-consistency: many candidates, one vote, and an end as soon as the vote is decided.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::completion::{Prompt, StepEvent};
use crate::config::run::StopRule;
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
    let warnings = validity.warnings().to_vec();
    let mut ballot = Ballot::new(Arc::clone(&settings.rules), validity, planned);
    let mut candidates: Vec<Candidate> = (0..planned).map(|_| Candidate::Cancelled).collect();
    let mut reason = StopReason::Completed;
    let mut ended = 0;

    let mut events = generator.extend(generator::open(&prompt, planned, run), Until::End, Delivery::Whole);
    while let Some((candidate, event)) = events.next().await {
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
    // What nobody will read is not paid for: this closes the calls still in flight.
    drop(events);

    let Some(verdict) = ballot.verdict() else {
        let failures = candidates.into_iter().enumerate().filter_map(|(candidate, end)| match end {
            Candidate::Failed(failure) => Some((candidate, failure)),
            Candidate::Completed(_) | Candidate::Cancelled => None,
        });
        return Err(RunError { failures: failures.collect() });
    };
    Ok(Outcome {
        selected: verdict.selected,
        candidates,
        verdict: Some(verdict),
        stop: Stop { reason, planned },
        warnings,
    })
}
