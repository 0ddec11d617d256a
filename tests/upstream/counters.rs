//! What the upstream counts, and the guard that counts a request while it is being answered.

use std::time::Instant;

use serde::Serialize;

use super::state::Shared;

/// What the upstream has seen happen.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counters {
    pub connections: u64,
    /// Chat requests received whole.
    pub requests: u64,
    /// Chat requests that are being answered.
    pub in_flight: u64,
    pub peak_in_flight: u64,
    /// Chat requests whose client left before the answer was out.
    pub closed_early: u64,
    /// Answers that were sent to their end, those with an error too.
    pub answered: u64,
    /// Choices in the completions that were begun: the sum of `n` where it is honoured.
    pub choices: u64,
    /// Tokens of prompts, once for each completion that was begun, however many choices it has.
    pub prompt_tokens: u64,
    /// Tokens of the choices of these completions.
    pub completion_tokens: u64,
    /// Of these, the tokens that a client was told of.
    pub told_prompt_tokens: u64,
    pub told_completion_tokens: u64,
    /// Completions whose usage a client was told.
    pub told: u64,
    /// Answers with the status 429.
    pub rate_limited: u64,
    /// Answers with a status of 500 or above.
    pub errors: u64,
    /// Connections that were reset on purpose.
    pub resets: u64,
    /// Answers that broke off on purpose, the connection closed in good order.
    pub truncated: u64,
    /// Answers that stopped on purpose and never went on.
    pub hung: u64,
}

/// A request whose client left before the answer was out. Times are in microseconds since the upstream began.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClosedEarly {
    /// In order of arrival, from 0.
    pub number: u64,
    pub received_at_us: u64,
    /// When the closed connection was noticed, which is as soon as the system tells of it.
    pub closed_at_us: u64,
}

/// Counts a request as in flight while it lives.
pub struct InFlight<'a> {
    shared: &'a Shared,
    generation: u64,
    number: u64,
    received: Instant,
}

impl<'a> InFlight<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        let generation = shared.state().generation;
        let mut request = Self { shared, generation, number: 0, received: Instant::now() };
        let mut number = 0;
        request.count(|counters| {
            number = counters.requests;
            counters.requests += 1;
            counters.in_flight += 1;
            counters.peak_in_flight = counters.peak_in_flight.max(counters.in_flight);
        });
        request.number = number;
        request
    }

    /// When the request had been received whole.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// A completion is begun, with this many choices and tokens. A script may tell of more than can be summed.
    pub fn completion(&self, choices: u64, prompt_tokens: u64, completion_tokens: u64) {
        self.count(|counters| {
            counters.choices = counters.choices.saturating_add(choices);
            counters.prompt_tokens = counters.prompt_tokens.saturating_add(prompt_tokens);
            counters.completion_tokens = counters.completion_tokens.saturating_add(completion_tokens);
        });
    }

    /// The client has been told what a completion cost.
    pub fn told(&self, prompt_tokens: u64, completion_tokens: u64) {
        self.count(|counters| {
            counters.told += 1;
            counters.told_prompt_tokens = counters.told_prompt_tokens.saturating_add(prompt_tokens);
            counters.told_completion_tokens = counters.told_completion_tokens.saturating_add(completion_tokens);
        });
    }

    /// An answer with this status begins.
    pub fn status(&self, status: u16) {
        match status {
            429 => self.count(|counters| counters.rate_limited += 1),
            500.. => self.count(|counters| counters.errors += 1),
            _ => {}
        }
    }

    pub fn reset(&self) {
        self.count(|counters| counters.resets += 1);
    }

    pub fn truncated(&self) {
        self.count(|counters| counters.truncated += 1);
    }

    pub fn hung(&self) {
        self.count(|counters| counters.hung += 1);
    }

    /// The answer is out; the connection serves another.
    pub fn answered(&self) -> bool {
        self.count(|counters| counters.answered += 1);
        true
    }

    /// The client has left; the connection serves no other.
    pub fn left(&self) -> bool {
        let since = |at: Instant| u64::try_from(at.duration_since(self.shared.began).as_micros()).unwrap_or(u64::MAX);
        let closed = ClosedEarly {
            number: self.number,
            received_at_us: since(self.received),
            closed_at_us: since(Instant::now()),
        };
        let mut state = self.shared.state();
        if state.generation == self.generation {
            state.closed_early.push(closed);
            self.shared.counters.send_modify(|counters| counters.closed_early += 1);
        }
        false
    }

    /// A request from before a reset changes nothing that is counted after it.
    fn count(&self, change: impl FnOnce(&mut Counters)) {
        // Held meanwhile, so that no reset comes in between.
        let state = self.shared.state();
        if state.generation == self.generation {
            self.shared.counters.send_modify(change);
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count(|counters| counters.in_flight -= 1);
    }
}
