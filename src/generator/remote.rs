//! Candidates from a remote provider: a call each, all at once within the provider's bound, or one for
//! several (`together.rs`).

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

use crate::completion::{Completion, Prompt, StepEvent};
use crate::config::capabilities::Support;
use crate::failure::Failure;
use crate::providers::{Attempt, PreparedRequest, Provider};

use super::ledger::OpenCall;
use super::{
    Delivery, Extension, Generator, Path, Phase, Run, SignalSupport, TextAnswer, TextRequest, Until, Whereabouts,
};

/// How long a cancelled call may still take before its connection is closed. Reading an answer that is all but here
/// costs less than closing the connection and making another.
const ALMOST_DONE: Duration = Duration::from_millis(5);

pub struct Remote {
    provider: Provider,
}

impl Remote {
    pub fn new(provider: Provider) -> Self {
        Self { provider }
    }
}

impl Generator for Remote {
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        let Until::End = until;
        std::future::ready(self.call(paths, delivery)).boxed()
    }

    fn continue_texts(&self, request: TextRequest, run: Arc<Run>) -> BoxFuture<'_, Result<TextAnswer, Failure>> {
        let call = self.provider.prepare_text(&request.model, &request.fields, run.caller());
        let account = account(&run, Phase::Generate, 1, Arc::default());
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

    fn knows(&self, model: &str, field: &str) -> bool {
        self.provider.knows(model, field)
    }

    fn stops_billing(&self, model: &str) -> bool {
        self.provider.capabilities(model).stops_billing == Support::Yes
    }

    fn is_near(&self) -> bool {
        self.provider.is_near()
    }

    fn whereabouts(&self) -> Option<Whereabouts> {
        let address = self.provider.origins().join(", ");
        Some(Whereabouts { provider: self.provider.name().to_owned(), address })
    }

    fn signals(&self, model: &str) -> SignalSupport {
        SignalSupport { max_top: self.provider.capabilities(model).top_logprobs(), self_certainty: false }
    }
}

impl Remote {
    fn call(&self, paths: Vec<Path>, delivery: Delivery) -> Box<dyn Extension> {
        let Some(prepared) = paths.first().map(|path| self.provider.prepare(&path.prompt, path.run.caller())) else {
            return Box::new(Calls { calls: futures_util::stream::empty().boxed(), closing: Arc::default() });
        };
        let closing = Arc::new(AtomicBool::new(false));
        let calling = Calling { provider: self.provider.clone(), prepared, closing: Arc::clone(&closing) };
        let calls = match delivery {
            Delivery::Whole => calling.separately(paths),
            Delivery::Together(first) => calling.together(paths, first),
            Delivery::Live => select_all(paths.into_iter().map(|path| calling.live(path))).boxed(),
        };
        Box::new(Calls { calls, closing })
    }
}

/// What the calls of one extension share.
#[derive(Clone)]
pub(super) struct Calling {
    pub provider: Provider,
    pub prepared: PreparedRequest,
    /// From then on none that waits for its turn gets it.
    pub closing: Arc<AtomicBool>,
}

impl Calling {
    /// Makes a call for each candidate.
    pub fn separately(&self, paths: Vec<Path>) -> BoxStream<'static, (usize, StepEvent)> {
        let calls = paths.into_iter().map(|path| {
            let (account, turn) = self.turn(&path, 1);
            let calling = self.clone();
            turn.of(async move {
                let end = calling.provider.complete(&calling.prepared, path.upstream_seed(), account).await;
                (path.candidate, ended(end))
            })
        });
        calls.collect::<FuturesUnordered<_>>().filter_map(std::future::ready).boxed()
    }

    fn live(&self, path: Path) -> BoxStream<'static, (usize, StepEvent)> {
        let (account, turn) = self.turn(&path, 1);
        let mut events = self.provider.stream(self.prepared.clone(), path.upstream_seed(), account).boxed();
        let events = poll_fn_stream(move |context| {
            if turn.came_too_late() {
                return Poll::Ready(None);
            }
            events.poll_next_unpin(context)
        });
        events.map(move |event| (path.candidate, event)).boxed()
    }

    /// The account of a call with which so many candidates begin, and its place in the queue. The first of them is
    /// `path`.
    pub fn turn(&self, path: &Path, candidates: u64) -> (CallAccount, Turn) {
        let begun = Arc::new(AtomicBool::new(false));
        let account = account(&path.run, path.phase, candidates, Arc::clone(&begun));
        (account, Turn { begun, closing: Arc::clone(&self.closing) })
    }
}

/// How a candidate that was asked for whole has ended.
pub(super) fn ended(end: Result<Completion, Failure>) -> StepEvent {
    match end {
        Ok(completion) => StepEvent::Finished(completion),
        Err(failure) => StepEvent::Failed(failure),
    }
}

/// Whether a call has got its turn. One that was refused waits for another, and is not made again once all are cancelled.
pub(super) struct Turn {
    begun: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
}

impl Turn {
    /// Makes the call to its end; `None` if all were cancelled while it waited for its turn.
    pub fn of<F: Future + Send + 'static>(self, call: F) -> impl Future<Output = Option<F::Output>> + Send {
        let mut call = Box::pin(call);
        poll_fn(move |context| {
            if self.came_too_late() {
                return Poll::Ready(None);
            }
            call.as_mut().poll(context).map(Some)
        })
    }

    /// Whether the call still waited for its turn when all were cancelled.
    fn came_too_late(&self) -> bool {
        self.closing.load(Ordering::Relaxed) && !self.begun.load(Ordering::Relaxed)
    }
}

/// Enters the attempts of one call.
pub(super) type CallAccount = Box<dyn FnMut(Attempt) + Send>;

/// Enters a call's attempts into the ledger of its run. The entry is begun with the first of them: candidates whose
/// turn never came are no call.
fn account(run: &Run, phase: Phase, candidates: u64, begun: Arc<AtomicBool>) -> CallAccount {
    let ledger = Arc::clone(&run.ledger);
    let mut call: Option<OpenCall> = None;
    Box::new(move |attempt| match (attempt, &mut call) {
        (Attempt::Begun, known) => {
            begun.store(true, Ordering::Relaxed);
            match known {
                Some(call) => call.again(),
                None => *known = Some(ledger.begin_for(phase, candidates)),
            }
        }
        (Attempt::Refused(_), Some(call)) => {
            begun.store(false, Ordering::Relaxed);
            call.refused();
        }
        (Attempt::Lost(_), Some(call)) => {
            begun.store(false, Ordering::Relaxed);
            call.lost();
        }
        (Attempt::Wasted { usage, .. }, Some(call)) => {
            begun.store(false, Ordering::Relaxed);
            call.wasted(usage);
        }
        (Attempt::Answered(usage), call) => {
            if let Some(call) = call.take() {
                call.settle(usage);
            }
        }
        (Attempt::AnsweredInPart { usage, missing }, call) => {
            if let Some(call) = call.take() {
                call.settle_without(missing as u64, usage);
            }
        }
        (Attempt::Refused(_) | Attempt::Lost(_) | Attempt::Wasted { .. }, None) => {}
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::Usage;

    #[test]
    fn a_call_that_was_refused_waits_for_its_turn_again() {
        let (begun, closing) = (Arc::default(), Arc::new(AtomicBool::new(true)));
        let turn = Turn { begun: Arc::clone(&begun), closing };
        let mut told = account(&Run::new(None), Phase::Generate, 1, begun);
        assert!(turn.came_too_late());
        told(Attempt::Begun);
        assert!(!turn.came_too_late());
        told(Attempt::Refused("upstream_unavailable"));
        assert!(turn.came_too_late());
        told(Attempt::Begun);
        assert!(!turn.came_too_late());
        told(Attempt::Lost("upstream_timeout"));
        assert!(turn.came_too_late());
        told(Attempt::Begun);
        told(Attempt::Answered(Usage::default()));
        assert!(!turn.came_too_late(), "its answer is heard");
    }
}
