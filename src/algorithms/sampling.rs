//! Candidates of one run as they are sampled: started in waves, heard in order of arrival, ended together.
//!
//! What algorithms over whole answers share. The bounds of the run end it here, whatever the algorithm.

use std::sync::Arc;

use futures_util::StreamExt;

use serde::Deserialize;
use serde_json::Value;

use crate::completion::{Completion, Delta, Prompt, StepEvent};
use crate::generator::{self, Bound, Delivery, Extension, Generator, Phase, Run, Until};

use super::Observer;
use super::outcome::{Candidate, StopReason};

/// Candidates being sampled.
///
/// # Cancel safety
///
/// Dropping it ends every call in flight.
pub(super) struct Sampling<'a> {
    generator: &'a dyn Generator,
    prompt: Arc<Prompt>,
    run: &'a Arc<Run>,
    extensions: Vec<Box<dyn Extension>>,
    /// One for each that is planned; those not started or still running are [`Candidate::Cancelled`].
    candidates: Vec<Candidate>,
    /// How many of them may be started.
    allowed: usize,
    started: usize,
    ended: usize,
    /// Whether the first token is still waited for, which only [`Sampling::prime`] asks for.
    priming: bool,
}

/// What was heard of the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The candidate of this index completed or failed.
    Ended(usize),
    /// The candidate that was started by [`Sampling::prime`] has its first token.
    FirstToken,
    /// The run must not spend more.
    Bound(Bound),
    /// Every candidate that was started has ended, or none was started.
    Idle,
}

impl<'a> Sampling<'a> {
    pub fn new(generator: &'a dyn Generator, prompt: Arc<Prompt>, run: &'a Arc<Run>, planned: usize) -> Self {
        let candidates = (0..planned).map(|_| Candidate::Cancelled).collect();
        let (allowed, started, ended, priming) = (planned, 0, 0, false);
        Self { generator, prompt, run, extensions: Vec::new(), candidates, allowed, started, ended, priming }
    }

    /// The same with no more than `most` candidates to be started, whatever is planned.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        self.allowed = self.candidates.len().min(most);
        self
    }

    /// Starts the next `count` candidates, as far as there are so many left and the run's bounds have room for them. The
    /// first `needed` of them are waited for whatever comes of the others, so that they may share a call.
    pub async fn start(&mut self, count: usize, needed: usize) {
        let running = self.started - self.ended;
        self.begin(count.min(self.run.affords(running)), Delivery::Together(needed)).await;
    }

    /// Starts one candidate and listens for its first token.
    pub async fn prime(&mut self) {
        self.priming = true;
        self.begin(1, Delivery::Live).await;
    }

    async fn begin(&mut self, count: usize, delivery: Delivery) {
        let numbers = self.started..self.allowed.min(self.started.saturating_add(count));
        if numbers.is_empty() {
            return;
        }
        self.started = numbers.end;
        let paths = generator::open(&self.prompt, numbers, Phase::Generate, self.run);
        // A model may have to be loaded first; whoever waits next hears of a deadline that passes meanwhile.
        let begun = self.run.until_deadline(self.generator.extend(paths, Until::End, delivery)).await;
        self.extensions.extend(begun);
    }

    /// Waits for the next candidate to end, but not beyond the run's bounds.
    pub async fn next(&mut self) -> Heard {
        if let Some(bound) = self.run.exhausted() {
            return Heard::Bound(bound);
        }
        let heard = async {
            loop {
                match next_event(&mut self.extensions).await {
                    Some((_, StepEvent::Delta(delta))) if self.priming && has_token(&delta) => break None,
                    Some((_, StepEvent::Delta(_))) => {}
                    end => break Some(end),
                }
            }
        };
        match self.run.until_deadline(heard).await {
            Ok(Some(Some((candidate, event)))) => {
                self.hear(candidate, event);
                Heard::Ended(candidate)
            }
            Ok(Some(None)) => Heard::Idle,
            Ok(None) => {
                self.priming = false;
                Heard::FirstToken
            }
            Err(_) => Heard::Bound(Bound::Deadline),
        }
    }

    /// Starts every candidate, as many at once as the run's bounds have room for, all of them in one call where the
    /// provider can, and hears them to their end, or as far as the bounds let them come. `ended` is told the number and the completion of each, `None` for one that failed.
    pub async fn hear_all(
        &mut self,
        observer: &mut impl Observer,
        mut ended: impl FnMut(usize, Option<&Completion>),
    ) -> StopReason {
        self.start(usize::MAX, usize::MAX).await;
        loop {
            match self.next().await {
                Heard::Ended(candidate) => {
                    ended(candidate, self.completion(candidate));
                    observer.progress(self.ended, self.candidates.len());
                }
                Heard::FirstToken => {}
                Heard::Bound(bound) => {
                    for candidate in self.close().await {
                        ended(candidate, self.completion(candidate));
                    }
                    return self.reason_at(bound);
                }
                Heard::Idle if self.can_start() => self.start(usize::MAX, usize::MAX).await,
                Heard::Idle => return self.reason_of_end(),
            }
        }
    }

    /// Ends what is still running, and returns who had ended by then without having been heard: what is here already is
    /// paid for, and decides with the rest.
    pub async fn close(&mut self) -> Vec<usize> {
        let mut heard = Vec::new();
        // What nobody will read is not paid for.
        for extension in std::mem::take(&mut self.extensions) {
            for (candidate, event) in extension.cancel().await {
                self.hear(candidate, event);
                heard.push(candidate);
            }
        }
        self.run.ledger.give_up();
        heard
    }

    /// Every candidate as far as it came; nothing is running any more.
    pub fn finish(self) -> Vec<Candidate> {
        debug_assert!(self.extensions.is_empty(), "what runs is closed first, so that its end is heard");
        self.candidates
    }

    /// The completion of a candidate that has completed.
    pub fn completion(&self, candidate: usize) -> Option<&Completion> {
        self.candidates[candidate].completion()
    }

    /// How many may be started.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// How many have been started.
    pub fn started(&self) -> usize {
        self.started
    }

    /// Whether there are candidates left that may be started.
    pub fn can_start(&self) -> bool {
        self.started < self.allowed
    }

    /// Why a run ended when it reached this bound: it changed nothing if every candidate that may be started had ended.
    pub fn reason_at(&self, bound: Bound) -> StopReason {
        if self.ended == self.allowed { self.reason_of_end() } else { bound.into() }
    }

    /// Why a run ended of which every candidate that could be started has ended.
    pub fn reason_of_end(&self) -> StopReason {
        if self.allowed < self.candidates.len() { StopReason::MaxCandidates } else { StopReason::Completed }
    }

    /// How many have completed or failed.
    pub fn ended(&self) -> usize {
        self.ended
    }

    fn hear(&mut self, candidate: usize, event: StepEvent) {
        self.candidates[candidate] = match event {
            StepEvent::Delta(_) => return,
            StepEvent::Finished(completion) => Candidate::Completed(completion),
            StepEvent::Failed(failure) => Candidate::Failed(failure),
        };
        self.ended += 1;
    }
}

/// The next event of a candidate in any of the extensions; those that are over are taken out.
async fn next_event(extensions: &mut Vec<Box<dyn Extension>>) -> Option<(usize, StepEvent)> {
    loop {
        match extensions.as_mut_slice() {
            [] => return None,
            [only] => match only.next().await {
                Some(event) => return Some(event),
                None => extensions.clear(),
            },
            several => {
                let next = futures_util::future::select_all(several.iter_mut().map(StreamExt::next));
                match next.await {
                    (Some(event), _, _) => return Some(event),
                    (None, over, _) => drop(extensions.swap_remove(over)),
                }
            }
        }
    }
}

/// Whether a piece carries something that was generated: many servers say first who speaks, before they have read
/// the prompt.
fn has_token(delta: &Delta) -> bool {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "role")]
        _role: Option<Value>,
        #[serde(flatten)]
        rest: serde_json::Map<String, Value>,
    }
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    serde_json::from_str::<View>(delta.fields.get()).is_ok_and(|view| view.rest.values().any(is_something))
}
