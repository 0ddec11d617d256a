//! Candidates from the in-process engine: the prompt is evaluated once and its candidates share it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use tokio::sync::mpsc::Receiver;

use crate::completion::StepEvent;
use crate::failure::{Failure, FailureKind};
use crate::llama::{CANCELLED, CandidateSeed, Engine, Job};

use super::ledger::{OpenCall, Phase};
use super::{Delivery, Extension, Generator, Path, Until};

pub struct Local {
    engine: Engine,
}

impl Local {
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Generator for Local {
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        let Until::End = until;
        std::future::ready(self.generate(paths, delivery)).boxed()
    }
}

impl Local {
    fn generate(&self, paths: Vec<Path>, delivery: Delivery) -> Box<dyn Extension> {
        let Some(prompt) = paths.first().map(|path| Arc::clone(&path.prompt)) else {
            return super::refused(&[], &Failure::new(FailureKind::Internal, "no paths"));
        };
        let seed = |path: &Path| CandidateSeed { candidate: path.candidate, seed: path.run.local_seed(path.candidate) };
        let candidates = paths.iter().map(seed).collect();
        match self.engine.generate(Job { prompt, candidates, live: delivery == Delivery::Live }) {
            Ok(events) => {
                let begin = |path: Path| (path.candidate, path.run.ledger.begin(Phase::Generate));
                Box::new(Generating { events, calls: paths.into_iter().map(begin).collect() })
            }
            Err(failure) => super::refused(&paths, &failure),
        }
    }
}

/// A job that the engine took.
struct Generating {
    events: Receiver<(usize, StepEvent)>,
    calls: BTreeMap<usize, OpenCall>,
}

impl Generating {
    fn account(&mut self, candidate: usize, event: &StepEvent) {
        if let StepEvent::Finished(completion) = event
            && let Some(call) = self.calls.remove(&candidate)
        {
            match completion.usage.completion_tokens {
                // Cancelled before its first token: there was nothing to pay for.
                0 if completion.finish_reason.as_str() == CANCELLED => call.withdraw(),
                _ => call.settle(completion.usage),
            }
        }
    }
}

impl Stream for Generating {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.events.poll_recv(context));
        if let Some((candidate, event)) = &next {
            self.account(*candidate, event);
        }
        Poll::Ready(next)
    }
}

impl Extension for Generating {
    fn cancel(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        // The engine answers a closed channel with what every candidate had generated until then.
        self.events.close();
        async move {
            while let Some((candidate, event)) = self.events.recv().await {
                self.account(candidate, &event);
            }
        }
        .boxed()
    }
}
