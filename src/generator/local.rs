//! Candidates from the in-process engine: the prompt is evaluated once and its candidates share it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use tokio::sync::mpsc::Receiver;

use crate::completion::{Completion, Prompt, Step, StepEvent, StepRule};
use crate::failure::{Failure, FailureKind};
use crate::llama::{CANCELLED, CandidateSeed, Engine, Job, SearchPath, Stepped, compiles_a_form};

use super::ledger::OpenCall;
use super::{
    Branch, Delivery, Extension, Generator, Path, Phase, Run, SignalSupport, TextAnswer, TextRequest, Until, text_local,
};

/// Messages and tools that together are above this size are rendered and tokenised on a thread of their own: that takes milliseconds for
/// every hundred kilobytes, and the threads here serve connections.
pub(super) const LONG_PROMPT_BYTES: usize = 64 << 10;

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
        self.generate(paths, delivery).boxed()
    }

    fn branches(
        &self,
        prompt: Arc<Prompt>,
        rule: Arc<StepRule>,
        numbers: Range<usize>,
        phase: Phase,
        run: Arc<Run>,
    ) -> BoxFuture<'_, Result<Vec<Box<dyn Branch>>, Failure>> {
        async move {
            let seeds: Vec<u64> = numbers.map(|number| run.local_seed(phase, number)).collect();
            let engine = self.engine.clone();
            let asked = Arc::clone(&prompt);
            let begin = move || engine.search(&asked, rule, seeds.into_iter());
            let opening = if takes_long(&prompt) { on_a_thread_of_its_own(begin).await? } else { begin()? };
            let branch = |path| -> Box<dyn Branch> { Box::new(LocalBranch { path, phase, run: Arc::clone(&run) }) };
            Ok(opening.opened().await?.into_iter().map(branch).collect())
        }
        .boxed()
    }

    fn continue_texts(&self, request: TextRequest, run: Arc<Run>) -> BoxFuture<'_, Result<TextAnswer, Failure>> {
        text_local::continue_texts(&self.engine, request, run).boxed()
    }

    fn stops_billing(&self, _: &str) -> bool {
        true
    }

    fn signals(&self, _: &str) -> SignalSupport {
        super::LOCAL_SIGNALS
    }
}

impl Local {
    async fn generate(&self, paths: Vec<Path>, delivery: Delivery) -> Box<dyn Extension> {
        let Some(prompt) = paths.first().map(|path| Arc::clone(&path.prompt)) else {
            return super::refused(&[], &Failure::new(FailureKind::Internal, "no paths"));
        };
        let seed = |path: &Path| CandidateSeed {
            candidate: path.candidate,
            seed: path.run.local_seed(path.phase, path.candidate),
        };
        let candidates = paths.iter().map(seed).collect();
        let is_long = takes_long(&prompt);
        let job = Job { prompt, candidates, live: delivery == Delivery::Live };
        let begun = match is_long {
            true => {
                let engine = self.engine.clone();
                on_a_thread_of_its_own(move || engine.generate(job)).await
            }
            false => self.engine.generate(job),
        };
        match begun {
            Ok(events) => {
                let begin = |path: Path| (path.candidate, path.run.ledger.begin(path.phase));
                Box::new(Generating { events, calls: paths.into_iter().map(begin).collect() })
            }
            Err(failure) => super::refused(&paths, &failure),
        }
    }
}

/// Whether reading a prompt may take longer than a thread that serves connections should be kept.
fn takes_long(prompt: &Prompt) -> bool {
    let tools = prompt.tools.iter().map(|tool| tool.definition.get().len());
    prompt.messages.get().len() + tools.sum::<usize>() > LONG_PROMPT_BYTES || compiles_a_form(prompt)
}

/// Reads a prompt where nobody else is kept waiting.
pub(super) async fn on_a_thread_of_its_own<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|panic| {
        Err(Failure::new(FailureKind::Internal, format!("reading the prompt ended early: {panic}")))
    })
}

/// A path of a search in the engine.
struct LocalBranch {
    path: SearchPath,
    phase: Phase,
    run: Arc<Run>,
}

impl Branch for LocalBranch {
    fn advance(&mut self) -> BoxFuture<'_, Result<Step, Failure>> {
        async {
            let call = self.run.ledger.begin(self.phase);
            let Stepped { step, usage } = self.path.advance().await?;
            call.settle(usage);
            Ok(step)
        }
        .boxed()
    }

    fn fork(&mut self) -> Box<dyn Branch> {
        Box::new(Self { path: self.path.fork(), phase: self.phase, run: Arc::clone(&self.run) })
    }

    fn into_answer(self: Box<Self>) -> BoxFuture<'static, Result<Completion, Failure>> {
        self.path.into_answer().boxed()
    }
}

/// A job that the engine took.
pub(super) struct Generating {
    events: Receiver<(usize, StepEvent)>,
    calls: BTreeMap<usize, OpenCall>,
}

impl Generating {
    pub fn new(events: Receiver<(usize, StepEvent)>, calls: BTreeMap<usize, OpenCall>) -> Self {
        Self { events, calls }
    }

    fn account(&mut self, candidate: usize, event: &StepEvent) {
        if let StepEvent::Finished(completion) = event
            && let Some(call) = self.calls.remove(&candidate)
        {
            let usage = completion.usage;
            // Cancelled before its first token: there was nothing to pay for, unless it is the candidate that
            // accounts for the prompt.
            let nothing = usage.completion_tokens == 0 && usage.prompt_tokens == 0;
            if nothing && completion.finish_reason.as_str() == CANCELLED {
                call.withdraw();
            } else {
                call.settle(usage);
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
    fn cancel(mut self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>> {
        // The engine answers a closed channel with what every candidate had generated until then.
        self.events.close();
        async move {
            let mut ended = Vec::new();
            while let Some((candidate, event)) = self.events.recv().await {
                self.account(candidate, &event);
                let is_own_end = match &event {
                    StepEvent::Delta(_) => false,
                    StepEvent::Finished(completion) => completion.finish_reason.as_str() != CANCELLED,
                    StepEvent::Failed(_) => true,
                };
                if is_own_end {
                    ended.push((candidate, event));
                }
            }
            ended
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{Completion, FinishReason, Reply, Usage};
    use crate::generator::{Ledger, Phase};

    fn completion(finish_reason: FinishReason, (prompt_tokens, completion_tokens): (u64, u64)) -> Completion {
        Completion {
            reply: Reply::new(None, Vec::new()),
            finish_reason,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage { prompt_tokens, completion_tokens, ..Usage::default() },
        }
    }

    #[tokio::test]
    async fn whoever_cancels_hears_of_those_that_had_ended_by_themselves() {
        let ledger = Arc::new(Ledger::default());
        let (sender, events) = tokio::sync::mpsc::channel(4);
        let calls = (0..3).map(|candidate| (candidate, ledger.begin(Phase::Generate))).collect();
        let finished = |finish_reason| StepEvent::Finished(completion(finish_reason, (0, 2)));
        sender.try_send((2, finished(FinishReason::Stop))).unwrap();
        sender.try_send((0, finished(FinishReason::Other(CANCELLED.to_owned())))).unwrap();
        sender.try_send((1, finished(FinishReason::Length))).unwrap();
        drop(sender);
        let ended = Box::new(Generating { events, calls }).cancel().await;
        assert_eq!(ended.iter().map(|(candidate, _)| *candidate).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(ledger.total().total_tokens(), 6, "all of them are paid for");
    }

    #[test]
    fn a_cancelled_candidate_is_withdrawn_only_if_it_cost_nothing() {
        let ledger = Arc::new(Ledger::default());
        let (_, events) = tokio::sync::mpsc::channel(1);
        let calls = (0..3).map(|candidate| (candidate, ledger.begin(Phase::Generate))).collect();
        let mut generating = Generating { events, calls };
        for (candidate, tokens) in [(7, 0), (0, 0), (0, 2)].into_iter().enumerate() {
            let completion = completion(FinishReason::Other(CANCELLED.to_owned()), tokens);
            generating.account(candidate, &StepEvent::Finished(completion));
        }
        assert_eq!(ledger.by_phase()[&Phase::Generate].calls, 2);
        assert_eq!(ledger.total().total_tokens(), 9);
    }
}
