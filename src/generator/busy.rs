//! The time in which at least one call is under way: the union of the intervals of all calls, however they overlap.
//!
//! What is left of a request's time is the daemon's own. Calls that nobody waits for any more, since the run has its
//! answer without them, do not count from then on, although they may take a moment to end.

use std::time::{Duration, Instant};

/// The union so far. It reads no clock: its caller says when something happens, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Busy {
    /// Calls under way that are waited for.
    open: u32,
    /// Since when there has been one.
    since: Option<Instant>,
    /// What came before that.
    before: Duration,
    /// How often everything under way was given up.
    era: u32,
}

/// A call under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Interval {
    era: u32,
}

impl Busy {
    pub fn begin(&mut self, now: Instant) -> Interval {
        self.open += 1;
        self.since.get_or_insert(now);
        Interval { era: self.era }
    }

    pub fn end(&mut self, interval: Interval, now: Instant) {
        if interval.era == self.era {
            self.open -= 1;
            if self.open == 0 {
                self.pause(now);
            }
        }
    }

    /// From now on nobody waits for what is under way.
    pub fn give_up(&mut self, now: Instant) {
        self.era = self.era.wrapping_add(1);
        self.open = 0;
        self.pause(now);
    }

    /// The union of the intervals until now.
    pub fn until(&self, now: Instant) -> Duration {
        let current = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before.saturating_add(current)
    }

    fn pause(&mut self, now: Instant) {
        self.before = self.until(now);
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Begins (`+`) and ends (`-`) the calls of these letters at these milliseconds, and returns the union at `until`.
    fn union(script: &[(u64, &str)], until: u64) -> u128 {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut busy = Busy::default();
        let mut open = std::collections::HashMap::new();
        for (ms, event) in script {
            match event.split_at(1) {
                ("+", call) => drop(open.insert(call, busy.begin(at(*ms)))),
                ("-", call) => busy.end(open.remove(call).unwrap(), at(*ms)),
                _ => busy.give_up(at(*ms)),
            }
        }
        busy.until(at(until)).as_millis()
    }

    #[test]
    fn overlapping_nested_and_disjoint_calls_count_once() {
        assert_eq!(union(&[], 50), 0, "no call");
        assert_eq!(union(&[(10, "+a"), (30, "-a")], 50), 20);
        assert_eq!(union(&[(10, "+a"), (20, "+b"), (30, "-a"), (45, "-b")], 50), 35, "overlapping");
        assert_eq!(union(&[(10, "+a"), (20, "+b"), (30, "-b"), (45, "-a")], 50), 35, "nested");
        assert_eq!(union(&[(10, "+a"), (20, "-a"), (30, "+b"), (45, "-b")], 50), 25, "disjoint");
        assert_eq!(union(&[(10, "+a"), (20, "-a"), (20, "+b"), (30, "-b")], 50), 20, "one after the other");
        assert_eq!(union(&[(10, "+a"), (10, "-a")], 50), 0, "of no length");
        assert_eq!(union(&[(10, "+a"), (10, "+b"), (25, "-a"), (25, "-b")], 50), 15, "the same twice");
    }

    #[test]
    fn a_call_under_way_counts_until_now() {
        assert_eq!(union(&[(10, "+a")], 10), 0);
        assert_eq!(union(&[(10, "+a")], 50), 40);
        assert_eq!(union(&[(10, "+a"), (20, "-a"), (30, "+b"), (35, "+c"), (40, "-b")], 50), 30);
        assert_eq!(union(&[(10, "+a")], 5), 0, "a clock that was read before the call began");
    }

    #[test]
    fn calls_that_were_given_up_count_no_more_and_their_end_ends_no_other() {
        assert_eq!(union(&[(10, "+a"), (20, "+b"), (30, "give up")], 50), 20);
        assert_eq!(union(&[(10, "+a"), (30, "give up"), (40, "-a")], 50), 20);
        let judged = [(10, "+a"), (30, "give up"), (35, "+j"), (40, "-a"), (45, "-j")];
        assert_eq!(union(&judged, 50), 30, "a call of the next phase is still under way at 40");
        assert_eq!(union(&[(10, "+a"), (20, "-a"), (30, "give up")], 50), 10, "nothing was under way");
    }
}
