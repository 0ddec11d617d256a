//! The count of requests that are being answered.

use super::{Counters, Shared};

/// Counts a request as in flight while it lives.
pub struct InFlight<'a> {
    shared: &'a Shared,
    generation: u64,
}

impl<'a> InFlight<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        let request = Self { shared, generation: shared.state().generation };
        request.count(|counters| {
            counters.requests += 1;
            counters.in_flight += 1;
            counters.peak_in_flight = counters.peak_in_flight.max(counters.in_flight);
        });
        request
    }

    /// The client has left; the connection serves no other.
    pub fn left(&self) -> bool {
        self.count(|counters| counters.closed_early += 1);
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
