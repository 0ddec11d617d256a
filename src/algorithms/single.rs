//! One plain call, told live when it is wanted so.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::completion::{Prompt, StepEvent};
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Generator, Run, Until};

use super::Observer;
use super::outcome::{Candidate, Outcome, RunError, Stop, StopReason};
use super::plan::Plan;

pub(super) async fn run(
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let delivery = if plan.live { Delivery::Live } else { Delivery::Whole };
    let mut events = generator.extend(generator::open(&prompt, 1, run), Until::End, delivery).await;
    while let Some((_, event)) = events.next().await {
        match event {
            StepEvent::Delta(delta) => observer.delta(delta).await,
            StepEvent::Finished(completion) => {
                return Ok(Outcome {
                    selected: 0,
                    candidates: vec![Candidate::Completed(completion)],
                    verdict: None,
                    stop: Stop { reason: StopReason::Completed, planned: 1 },
                    warnings: Vec::new(),
                });
            }
            StepEvent::Failed(failure) => return Err(RunError { failures: vec![(0, failure)] }),
        }
    }
    Err(RunError { failures: vec![(0, Failure::new(FailureKind::Internal, "the candidate ended without an answer"))] })
}
