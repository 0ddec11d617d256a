//! Self-consistency: many candidates, one vote, and an end as soon as the vote is decided.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};

use crate::completion::{Prompt, StepEvent};
use crate::config::run::StopRule;
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Generator, Phase, Run, Until};

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
    let ballot = Ballot::new(Arc::clone(&settings.rules), Arc::clone(&validity), planned);
    let mut poll = Poll { ballot, candidates: (0..planned).map(|_| Candidate::Cancelled).collect(), ended: 0 };

    let paths = generator::open(&prompt, planned, run);
    let mut extension = generator.extend(paths, Until::End, Delivery::Whole).await;
    while let Some((candidate, event)) = extension.next().await {
        poll.hear(candidate, event);
        observer.progress(poll.ended, planned);
        if settings.stop_rule == StopRule::Decided && poll.ended < planned && poll.ballot.is_decided() {
            // What is here already is paid for, and reading it keeps its connection usable. Calls that still
            // wait for their turn must not get it by being asked.
            if run.ledger.calls(Phase::Generate) == planned as u64 {
                while let Some(Some((candidate, event))) = extension.next().now_or_never() {
                    poll.hear(candidate, event);
                }
            }
            break;
        }
    }
    // What nobody will read is not paid for: this ends the calls still in flight.
    extension.cancel().await;

    let reason = if poll.ended < planned { StopReason::Decided } else { StopReason::Completed };
    let Some(verdict) = poll.ballot.verdict() else { return Err(poll.into_error()) };
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    let warnings = validity.warnings().iter().chain(&verdict.notes).cloned().collect();
    Ok(Outcome {
        selected: verdict.selected,
        candidates: poll.candidates,
        verdict: Some(verdict),
        stop: Stop { reason, planned },
        warnings,
    })
}

/// The candidates as far as they are heard, and the ballot that they cast.
struct Poll {
    ballot: Ballot,
    candidates: Vec<Candidate>,
    ended: usize,
}

impl Poll {
    fn hear(&mut self, candidate: usize, event: StepEvent) {
        self.candidates[candidate] = match event {
            StepEvent::Delta(_) => return,
            StepEvent::Finished(completion) => {
                self.ballot.record(candidate, Some(&completion));
                Candidate::Completed(completion)
            }
            StepEvent::Failed(failure) => {
                self.ballot.record(candidate, None);
                Candidate::Failed(failure)
            }
        };
        self.ended += 1;
    }

    /// For a run in which nobody completed.
    fn into_error(self) -> RunError {
        let failures = self.candidates.into_iter().enumerate().filter_map(|(candidate, end)| match end {
            Candidate::Failed(failure) => Some((candidate, failure)),
            Candidate::Completed(_) | Candidate::Cancelled => None,
        });
        let mut failures: Vec<_> = failures.collect();
        if failures.is_empty() {
            failures.push((0, Failure::new(FailureKind::Internal, "no candidate came to an end")));
        }
        RunError { failures }
    }
}
