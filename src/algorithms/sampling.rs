//! Candidates of one run as they are sampled: started in waves, heard in order of arrival, ended together.
//!
//! What algorithms over whole answers share. The bounds of the run end it here, whatever the algorithm.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};

use crate::completion::{Completion, Prompt, StepEvent};
use crate::generator::{self, Bound, Delivery, Extension, Generator, Phase, Run, Until};

use super::outcome::Candidate;

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
    started: usize,
    ended: usize,
}

/// What was heard of the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The candidate of this index completed or failed.
    Ended(usize),
    /// The run must not spend more.
    Bound(Bound),
    /// Every candidate that was started has ended.
    Idle,
}

impl<'a> Sampling<'a> {
    pub fn new(generator: &'a dyn Generator, prompt: Arc<Prompt>, run: &'a Arc<Run>, planned: usize) -> Self {
        let candidates = (0..planned).map(|_| Candidate::Cancelled).collect();
        Self { generator, prompt, run, extensions: Vec::new(), candidates, started: 0, ended: 0 }
    }

    /// Starts the next `count` candidates, as far as there are so many left.
    pub async fn start(&mut self, count: usize) {
        let numbers = self.started..self.candidates.len().min(self.started.saturating_add(count));
        if numbers.is_empty() {
            return;
        }
        self.started = numbers.end;
        let paths = generator::open(&self.prompt, numbers, Phase::Generate, self.run);
        let extension = self.generator.extend(paths, Until::End, Delivery::Whole).await;
        self.extensions.push(extension);
    }

    /// Waits for the next candidate to end, but not beyond the run's bounds.
    pub async fn next(&mut self) -> Heard {
        if let Some(bound) = self.run.exhausted() {
            return Heard::Bound(bound);
        }
        let Ok(event) = self.run.until_deadline(next_event(&mut self.extensions)).await else {
            return Heard::Bound(Bound::Deadline);
        };
        match event {
            Some((candidate, event)) => {
                self.hear(candidate, event);
                Heard::Ended(candidate)
            }
            None => Heard::Idle,
        }
    }

    /// Takes in what is here already, without waiting, and returns whom it was of.
    pub fn take_arrived(&mut self) -> Vec<usize> {
        let mut heard = Vec::new();
        // Calls that still wait for their turn must not get it by being asked.
        if self.run.ledger.calls(Phase::Generate) < self.started as u64 {
            return heard;
        }
        while let Some(Some((candidate, event))) = next_event(&mut self.extensions).now_or_never() {
            self.hear(candidate, event);
            heard.push(candidate);
        }
        heard
    }

    /// Ends what is still running and returns every candidate as far as it came.
    pub async fn finish(self) -> Vec<Candidate> {
        // What nobody will read is not paid for.
        for extension in self.extensions {
            extension.cancel().await;
        }
        self.candidates
    }

    /// The completion of a candidate that has completed.
    pub fn completion(&self, candidate: usize) -> Option<&Completion> {
        self.candidates[candidate].completion()
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

/// The next end of a candidate in any of the extensions; those that are over are taken out.
async fn next_event(extensions: &mut Vec<Box<dyn Extension>>) -> Option<(usize, StepEvent)> {
    loop {
        match extensions.as_mut_slice() {
            [] => return None,
            [only] => match only.next().await {
                Some((_, StepEvent::Delta(_))) => {}
                Some(event) => return Some(event),
                None => extensions.clear(),
            },
            several => {
                let next = futures_util::future::select_all(several.iter_mut().map(StreamExt::next));
                match next.await {
                    (Some((_, StepEvent::Delta(_))), _, _) => {}
                    (Some(event), _, _) => return Some(event),
                    (None, over, _) => drop(extensions.swap_remove(over)),
                }
            }
        }
    }
}
