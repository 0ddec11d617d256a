//! How many of the calls to one place may be retries, over all requests.
//!
//! One call's own limit does not keep a dead upstream from a storm: a thousand calls that are each made four times are
//! four thousand. So retries are also held to a share of the calls. When there are few calls, a share of them would be
//! none at all, and one bad moment would cost a request most of its candidates; so the first of them count for more.

use std::time::{Duration, Instant};

use super::window::Window;

/// What is looked back on.
const SPAN: Duration = Duration::from_secs(10);
/// Retries within the span that are free, so that at low traffic the share does not matter.
const FREE: u32 = 10;
/// Of the calls within the span, so many give a whole retry each, if the share is less: as many as a configuration has
/// under way at once unless it says otherwise.
const WHOLE: u32 = 32;

const CALLS: usize = 0;
const RETRIES: usize = 1;

/// The retries of one place.
#[derive(Debug)]
pub(super) struct RetryBudget(Window);

impl RetryBudget {
    pub fn new(now: Instant) -> Self {
        Self(Window::new(now))
    }

    /// Counts a call whose first attempt has ended, well or not. It is counted then and not when it begins, so that
    /// the retries of calls that take long are held against those calls.
    pub fn count_call(&mut self, now: Instant) {
        self.0.count(CALLS, now, SPAN);
    }

    /// Takes one retry, if there is one left: of the calls of the last ten seconds `share` for each, or one for each of
    /// the first 32 if that is more; and ten besides, or as many as one call may make if that is more.
    pub fn take(&mut self, now: Instant, share: f64, max_retries: u32) -> bool {
        let [calls, retries] = self.0.counts(now, SPAN);
        let allowed = (f64::from(calls) * share).max(f64::from(calls.min(WHOLE))) + f64::from(FREE.max(max_retries));
        let is_allowed = f64::from(retries) + 1.0 <= allowed;
        if is_allowed {
            self.0.count(RETRIES, now, SPAN);
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut RetryBudget, now: Instant, share: f64, max_retries: u32) -> usize {
        (0..1000).take_while(|_| budget.take(now, share, max_retries)).count()
    }

    #[test]
    fn retries_are_a_share_of_the_calls_and_ten_besides() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        for _ in 0..200 {
            budget.count_call(now);
        }
        assert_eq!(taken(&mut budget, now, 0.2, 3), 50);
        assert_eq!(taken(&mut budget, now, 0.2, 3), 0);
        budget.count_call(now);
        assert_eq!(taken(&mut budget, now, 0.2, 3), 0, "a fifth of a retry is none");
        for _ in 0..4 {
            budget.count_call(now);
        }
        assert_eq!(taken(&mut budget, now, 0.2, 3), 1);
    }

    #[test]
    fn few_calls_may_all_be_made_again_but_many_may_not() {
        for (calls, retries) in [(1, 11), (8, 18), (32, 42), (33, 42), (160, 42), (165, 43), (1000, 210)] {
            let now = Instant::now();
            let mut budget = RetryBudget::new(now);
            for _ in 0..calls {
                budget.count_call(now);
            }
            assert_eq!(taken(&mut budget, now, 0.2, 3), retries, "{calls}");
        }
    }

    #[test]
    fn one_call_alone_may_make_all_of_its_own() {
        let now = Instant::now();
        assert_eq!(taken(&mut RetryBudget::new(now), now, 0.2, 3), 10);
        assert_eq!(taken(&mut RetryBudget::new(now), now, 0.0, 0), 10);
        assert_eq!(taken(&mut RetryBudget::new(now), now, 0.0, 20), 20);
    }

    #[test]
    fn what_was_used_up_comes_back_with_time() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!(taken(&mut budget, now, 0.0, 3), 10);
        assert_eq!(taken(&mut budget, now + SPAN / 2, 0.0, 3), 0);
        assert_eq!(taken(&mut budget, now + SPAN, 0.0, 3), 10);
    }

    #[test]
    fn a_share_of_twenty_allows_every_call_its_most() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        budget.count_call(now);
        assert_eq!(taken(&mut budget, now, 20.0, 20), 40);
    }
}
