//! One plain call, told live when it is wanted so.

use std::sync::Arc;

use futures_util::StreamExt;

use crate::completion::{Completion, Prompt, StepEvent};
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Delivery, Generator, Phase, Run, Until};

use super::Observer;
use super::outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason};
use super::plan::Plan;

pub(super) async fn run(
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let call = Call { prompt, number: 0, phase: Phase::Generate, live: plan.live };
    match call.make(generator, run, observer).await {
        Ok(completion) => Ok(Outcome {
            answer: Answer::Chosen(vec![0]),
            candidates: vec![Candidate::Completed(completion)],
            verdict: None,
            scores: None,
            searched: None,
            stop: Stop { reason: StopReason::Completed, planned: 1 },
            warnings: Vec::new(),
        }),
        Err(failure) => Err(RunError { failures: vec![(0, failure)] }),
    }
}

/// One call that may be told live: what single calls, rounds and syntheses are made of.
pub(super) struct Call {
    pub prompt: Arc<Prompt>,
    /// The number among the calls of its phase, which its seed is made of.
    pub number: usize,
    pub phase: Phase,
    /// Whether the observer hears deltas.
    pub live: bool,
}

impl Call {
    /// Makes the call and waits for its end, but not beyond the run's deadline.
    ///
    /// # Errors
    ///
    /// Why it failed; [`FailureKind::Deadline`] when its time was up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the call.
    pub async fn make(
        self,
        generator: &dyn Generator,
        run: &Arc<Run>,
        observer: &mut impl Observer,
    ) -> Result<Completion, Failure> {
        run.until_deadline(self.finish(generator, run, observer)).await?
    }

    async fn finish(
        self,
        generator: &dyn Generator,
        run: &Arc<Run>,
        observer: &mut impl Observer,
    ) -> Result<Completion, Failure> {
        let delivery = if self.live { Delivery::Live } else { Delivery::Whole };
        let paths = generator::open(&self.prompt, self.number..self.number + 1, self.phase, run);
        let mut events = generator.extend(paths, Until::End, delivery).await;
        while let Some((_, event)) = events.next().await {
            match event {
                StepEvent::Delta(delta) => observer.delta(delta).await,
                StepEvent::Finished(completion) => return Ok(completion),
                StepEvent::Failed(failure) => return Err(failure),
            }
        }
        Err(Failure::new(FailureKind::Internal, "the candidate ended without an answer"))
    }
}
