//! Candidates from an OpenAI-compatible provider: one call each, all at once within the provider's bound.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt, select_all};
use futures_util::{FutureExt, Stream};

use crate::completion::StepEvent;
use crate::providers::openai::{Attempt, Provider};

use super::ledger::{Ledger, OpenCall, Phase};
use super::{Delivery, Extension, Generator, Path, Until};

pub struct Remote {
    provider: Arc<Provider>,
}

impl Remote {
    pub fn new(provider: Arc<Provider>) -> Self {
        Self { provider }
    }
}

impl Generator for Remote {
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        let Until::End = until;
        std::future::ready(self.call(paths, delivery)).boxed()
    }
}

impl Remote {
    fn call(&self, paths: Vec<Path>, delivery: Delivery) -> Box<dyn Extension> {
        let Some(prepared) = paths.first().map(|path| self.provider.prepare(&path.prompt)) else {
            return Box::new(Calls(futures_util::stream::empty().boxed()));
        };
        let calls = match delivery {
            Delivery::Whole => paths
                .into_iter()
                .map(|path| {
                    let (provider, prepared) = (Arc::clone(&self.provider), prepared.clone());
                    async move {
                        let seed = path.run.upstream_seed(path.candidate);
                        let event = match provider.complete(&prepared, seed, account(&path)).await {
                            Ok(completion) => StepEvent::Finished(completion),
                            Err(failure) => StepEvent::Failed(failure),
                        };
                        (path.candidate, event)
                    }
                })
                .collect::<FuturesUnordered<_>>()
                .boxed(),
            Delivery::Live => select_all(paths.into_iter().map(|path| {
                let seed = path.run.upstream_seed(path.candidate);
                let events = self.provider.stream(prepared.clone(), seed, account(&path));
                events.map(move |event| (path.candidate, event)).boxed()
            }))
            .boxed(),
        };
        Box::new(Calls(calls))
    }
}

/// Enters a candidate's attempts into the ledger of its run. The entry is begun with the first of them: a
/// candidate whose turn never came is not a call.
fn account(path: &Path) -> impl FnMut(Attempt) + Send + 'static {
    let ledger: Arc<Ledger> = Arc::clone(&path.run.ledger);
    let mut call: Option<OpenCall> = None;
    move |attempt| match (attempt, &mut call) {
        (Attempt::Begun, None) => call = Some(ledger.begin(Phase::Generate)),
        (Attempt::Begun, Some(call)) => call.again(),
        (Attempt::Refused, Some(call)) => call.refused(),
        (Attempt::Lost, Some(call)) => call.lost(),
        (Attempt::Answered(usage), call) => {
            if let Some(call) = call.take() {
                call.settle(usage);
            }
        }
        (Attempt::Refused | Attempt::Lost, None) => {}
    }
}

/// Calls in flight or waiting for their turn.
struct Calls(BoxStream<'static, (usize, StepEvent)>);

impl Stream for Calls {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(context)
    }
}

impl Extension for Calls {
    fn cancel(self: Box<Self>) -> BoxFuture<'static, ()> {
        // A closed connection tells nobody what was spent on it: the ledger counts the calls as unknown.
        drop(self);
        std::future::ready(()).boxed()
    }
}
