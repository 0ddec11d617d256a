//! Candidates from an OpenAI-compatible provider: one call each, all at once within the provider's bound.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, poll_fn};
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt, poll_fn as poll_fn_stream, select_all};
use futures_util::{FutureExt, Stream};
use tokio::task::unconstrained;
use tokio::time::timeout;

use crate::completion::{Prompt, StepEvent};
use crate::failure::Failure;
use crate::providers::openai::{Attempt, Provider};

use super::ledger::OpenCall;
use super::{Delivery, Extension, Generator, Path, Phase, Run, SignalSupport, TextAnswer, TextRequest, Until};

/// How long a cancelled call may still take before its connection is closed. Reading an answer that is all but here
/// costs less than closing the connection and making another.
const ALMOST_DONE: Duration = Duration::from_millis(5);

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

    fn continue_texts(&self, request: TextRequest, run: Arc<Run>) -> BoxFuture<'_, Result<TextAnswer, Failure>> {
        let call = self.provider.prepare_text(&request.model, &request.fields).for_caller(run.caller());
        let account = account(&run, Phase::Generate, Arc::default());
        async move {
            if request.stream {
                let chunks = self.provider.stream_text(&call, account).await?;
                return Ok(TextAnswer::Stream(chunks.boxed()));
            }
            self.provider.complete_text(&call, account).await.map(TextAnswer::Whole)
        }
        .boxed()
    }

    fn take_effect(&self) {
        self.provider.take_effect();
    }

    fn fit(&self, prompt: &mut Prompt) -> Result<Vec<String>, Failure> {
        self.provider.fit(prompt)
    }

    fn signals(&self, model: &str) -> SignalSupport {
        SignalSupport { max_top: self.provider.capabilities(model).top_logprobs(), self_certainty: false }
    }
}

impl Remote {
    fn call(&self, paths: Vec<Path>, delivery: Delivery) -> Box<dyn Extension> {
        let Some(prepared) =
            paths.first().map(|path| self.provider.prepare(&path.prompt).for_caller(path.run.caller()))
        else {
            return Box::new(Calls { calls: futures_util::stream::empty().boxed(), closing: Arc::default() });
        };
        let closing = Arc::new(AtomicBool::new(false));
        let calls = match delivery {
            Delivery::Whole => paths
                .into_iter()
                .map(|path| {
                    let (provider, prepared) = (Arc::clone(&self.provider), prepared.clone());
                    let (begun, closing) = (Arc::new(AtomicBool::new(false)), Arc::clone(&closing));
                    let account = account(&path.run, path.phase, Arc::clone(&begun));
                    let mut call = Box::pin(async move {
                        let seed = path.upstream_seed();
                        let event = match provider.complete(&prepared, seed, account).await {
                            Ok(completion) => StepEvent::Finished(completion),
                            Err(failure) => StepEvent::Failed(failure),
                        };
                        (path.candidate, event)
                    });
                    poll_fn(move |context| {
                        if came_too_late(&closing, &begun) {
                            return Poll::Ready(None);
                        }
                        call.as_mut().poll(context).map(Some)
                    })
                })
                .collect::<FuturesUnordered<_>>()
                .filter_map(std::future::ready)
                .boxed(),
            Delivery::Live => select_all(paths.into_iter().map(|path| {
                let seed = path.upstream_seed();
                let (begun, closing) = (Arc::new(AtomicBool::new(false)), Arc::clone(&closing));
                let account = account(&path.run, path.phase, Arc::clone(&begun));
                let mut events = self.provider.stream(prepared.clone(), seed, account).boxed();
                let events = poll_fn_stream(move |context| {
                    if came_too_late(&closing, &begun) {
                        return Poll::Ready(None);
                    }
                    events.poll_next_unpin(context)
                });
                events.map(move |event| (path.candidate, event)).boxed()
            }))
            .boxed(),
        };
        Box::new(Calls { calls, closing })
    }
}

/// Whether a call still waited for its turn when all were cancelled.
fn came_too_late(closing: &AtomicBool, begun: &AtomicBool) -> bool {
    closing.load(Ordering::Relaxed) && !begun.load(Ordering::Relaxed)
}

/// Enters a candidate's attempts into the ledger of its run. The entry is begun with the first of them: a
/// candidate whose turn never came is not a call.
fn account(run: &Run, phase: Phase, begun: Arc<AtomicBool>) -> impl FnMut(Attempt) + Send + use<> {
    let ledger = Arc::clone(&run.ledger);
    let mut call: Option<OpenCall> = None;
    move |attempt| match (attempt, &mut call) {
        (Attempt::Begun, None) => {
            begun.store(true, Ordering::Relaxed);
            call = Some(ledger.begin(phase));
        }
        (Attempt::Begun, Some(call)) => call.again(),
        (Attempt::Refused(_), Some(call)) => call.refused(),
        (Attempt::Lost(_), Some(call)) => call.lost(),
        (Attempt::Answered(usage), call) => {
            if let Some(call) = call.take() {
                call.settle(usage);
            }
        }
        (Attempt::Refused(_) | Attempt::Lost(_), None) => {}
    }
}

/// Calls in flight or waiting for their turn.
struct Calls {
    calls: BoxStream<'static, (usize, StepEvent)>,
    /// From then on none that waits for its turn gets it.
    closing: Arc<AtomicBool>,
}

impl Stream for Calls {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.calls.poll_next_unpin(context)
    }
}

impl Extension for Calls {
    fn cancel(mut self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>> {
        self.closing.store(true, Ordering::Relaxed);
        let mut ended = Vec::new();
        // Not as far as this task's turn goes, but as far as there is something to hear.
        while let Some(Some(event)) = unconstrained(self.calls.next()).now_or_never() {
            if !matches!(event, (_, StepEvent::Delta(_))) {
                ended.push(event);
            }
        }
        // Nobody waits for the others: the ledger counts the calls as unknown.
        tokio::spawn(timeout(ALMOST_DONE, self.calls.for_each(|_| std::future::ready(()))));
        std::future::ready(ended).boxed()
    }
}
