//! What the stub counts, and the guard that counts a request while it is being answered.

use std::time::Instant;

use serde::Serialize;

use super::state::Shared;

/// What the stub has seen happen.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Counters {
    pub connections: u64,
    /// Requests for a model that were received whole.
    pub requests: u64,
    /// Of these, the ones for a stream.
    pub streams: u64,
    pub in_flight: u64,
    pub peak_in_flight: u64,
    /// Requests whose client left before the answer was out.
    pub closed_early: u64,
    /// Of these, the ones for a stream whose first event was out.
    pub streams_closed_early: u64,
    /// Answers that were sent to their end, those with an error too.
    pub answered: u64,
    /// Requests that the stub refused by itself: who asked, or what was asked, was wrong.
    pub refused: u64,
    /// Answers with the status 429.
    pub throttled: u64,
    /// Answers with a status of 500 or above, and streams that ended in an exception.
    pub errors: u64,
    /// Connections that were reset on purpose.
    pub resets: u64,
    /// Answers that broke off on purpose, in good order otherwise.
    pub truncated: u64,
    /// Answers that stopped on purpose and never went on.
    pub hung: u64,
}

/// A request whose client left before the answer was out. Times are in microseconds since the stub began.
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
    pub number: u64,
    received: Instant,
    is_stream: bool,
}

impl<'a> InFlight<'a> {
    pub fn new(shared: &'a Shared, is_stream: bool) -> Self {
        let generation = shared.state().generation;
        let mut request = Self { shared, generation, number: 0, received: Instant::now(), is_stream };
        let mut number = 0;
        request.count(|counters| {
            number = counters.requests;
            counters.requests += 1;
            counters.streams += u64::from(is_stream);
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

    /// An answer with this status begins.
    pub fn status(&self, status: u16) {
        match status {
            429 => self.count(|counters| counters.throttled += 1),
            500.. => self.count(|counters| counters.errors += 1),
            _ => {}
        }
    }

    /// The answer is out; the connection serves another.
    pub fn answered(&self) {
        self.count(|counters| counters.answered += 1);
    }

    /// The client has left; `began` says whether an event of its stream was out.
    pub fn left(&self, began: bool) {
        let since = |at: Instant| u64::try_from(at.duration_since(self.shared.began).as_micros()).unwrap_or(u64::MAX);
        let closed = ClosedEarly {
            number: self.number,
            received_at_us: since(self.received),
            closed_at_us: since(Instant::now()),
        };
        let mut state = self.shared.state();
        if state.generation == self.generation {
            state.closed_early.push(closed);
            self.shared.counters.send_modify(|counters| {
                counters.closed_early += 1;
                counters.streams_closed_early += u64::from(self.is_stream && began);
            });
        }
    }

    /// A request from before a reset changes nothing that is counted after it.
    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
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
