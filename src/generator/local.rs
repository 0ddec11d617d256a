//! Candidates from the in-process engine: the prompt is evaluated once and its candidates share it.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::completion::{Prompt, StepEvent};
use crate::failure::Failure;
use crate::llama::{CandidateSeed, Engine, Job};

use super::ledger::Phase;
use super::{Delivery, Generator, Path, StepEvents, Until};

pub struct Local {
    engine: Engine,
}

impl Local {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Generator for Local {
    fn check(&self, prompt: &Prompt) -> Result<(), Failure> {
        self.engine.check(prompt)
    }

    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> StepEvents {
        let Until::End = until;
        let Some(first) = paths.first() else { return stream::empty().boxed() };
        let run = Arc::clone(&first.run);
        let job = Job {
            prompt: Arc::clone(&first.prompt),
            candidates: paths
                .iter()
                .map(|path| CandidateSeed { candidate: path.candidate, seed: path.run.local_seed(path.candidate) })
                .collect(),
            live: delivery == Delivery::Live,
        };
        let mut calls: Vec<_> = paths.iter().map(|path| Some(path.run.ledger.begin(Phase::Generate))).collect();
        let events = match self.engine.generate(job) {
            Ok(events) => events,
            Err(failure) => {
                let failed = paths.into_iter().map(move |path| (path.candidate, StepEvent::Failed(failure.clone())));
                return stream::iter(failed).boxed();
            }
        };
        drop(run);
        stream::unfold(events, |mut events| async move { events.recv().await.map(|event| (event, events)) })
            .map(move |(candidate, event)| {
                if let StepEvent::Finished(completion) = &event
                    && let Some(call) = calls.get_mut(candidate).and_then(Option::take)
                {
                    call.settle(completion.usage);
                }
                (candidate, event)
            })
            .boxed()
    }
}
