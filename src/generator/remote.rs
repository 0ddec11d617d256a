//! Candidates from an OpenAI-compatible provider: one call each, all at once within the provider's bound.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt, select_all};

use crate::completion::{Prompt, StepEvent};
use crate::failure::Failure;
use crate::providers::openai::Provider;

use super::ledger::{OpenCall, Phase};
use super::{Delivery, Generator, Path, StepEvents, Until};

pub struct Remote {
    provider: Arc<Provider>,
}

impl Remote {
    pub fn new(provider: Arc<Provider>) -> Self {
        Self { provider }
    }
}

impl Generator for Remote {
    fn check(&self, _: &Prompt) -> Result<(), Failure> {
        // What a provider takes is the provider's to say; its refusal is passed on.
        Ok(())
    }

    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> StepEvents {
        let Until::End = until;
        let Some(first) = paths.first() else { return futures_util::stream::empty().boxed() };
        let prepared = self.provider.prepare(&first.prompt);
        match delivery {
            Delivery::Whole => paths
                .into_iter()
                .map(|path| {
                    let (provider, prepared) = (Arc::clone(&self.provider), prepared.clone());
                    async move {
                        let call = path.run.ledger.begin(Phase::Generate);
                        let result = provider.complete(&prepared, path.run.upstream_seed(path.candidate)).await;
                        let event = match result {
                            Ok(completion) => StepEvent::Finished(completion),
                            Err(failure) => StepEvent::Failed(failure),
                        };
                        settle(call, &event);
                        (path.candidate, event)
                    }
                })
                .collect::<FuturesUnordered<_>>()
                .boxed(),
            Delivery::Live => select_all(paths.into_iter().map(|path| {
                let mut call = Some(path.run.ledger.begin(Phase::Generate));
                let events = self.provider.stream(prepared.clone(), path.run.upstream_seed(path.candidate));
                events
                    .map(move |event| {
                        if !matches!(event, StepEvent::Delta(_))
                            && let Some(call) = call.take()
                        {
                            settle(call, &event);
                        }
                        (path.candidate, event)
                    })
                    .boxed()
            }))
            .boxed(),
        }
    }
}

fn settle(call: OpenCall, event: &StepEvent) {
    if let StepEvent::Finished(completion) = event {
        call.settle(completion.usage);
    }
}
