//! Two counts over the last while, kept in ten parts of it, so that old ones fade out a tenth at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const PARTS: u32 = 10;

/// Two counts, for example of answers and failures, over a span of time that moves along.
#[derive(Debug)]
pub(super) struct Window {
    /// What the numbers of the parts count from.
    begin: Instant,
    span: Duration,
    /// The parts in which something was counted, oldest first, by their number.
    parts: VecDeque<(u128, [u32; 2])>,
}

impl Window {
    pub fn new(now: Instant) -> Self {
        Self { begin: now, span: Duration::ZERO, parts: VecDeque::new() }
    }

    /// Counts one of the kind `which` (0 or 1).
    pub fn count(&mut self, which: usize, now: Instant, span: Duration) {
        let part = self.advance(now, span);
        match self.parts.back_mut().filter(|(newest, _)| *newest >= part) {
            Some((_, counts)) => counts[which] = counts[which].saturating_add(1),
            None => {
                let mut counts = [0; 2];
                counts[which] = 1;
                self.parts.push_back((part, counts));
            }
        }
    }

    /// Both counts over the last `span`.
    pub fn counts(&mut self, now: Instant, span: Duration) -> [u32; 2] {
        self.advance(now, span);
        self.parts
            .iter()
            .fold([0; 2], |sum, (_, counts)| [sum[0].saturating_add(counts[0]), sum[1].saturating_add(counts[1])])
    }

    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// Lets go of what has become too old, and returns the number of the part that `now` is in. A span of another
    /// length begins anew, since its parts are others.
    fn advance(&mut self, now: Instant, span: Duration) -> u128 {
        if span != self.span {
            self.span = span;
            self.parts.clear();
        }
        let length = (span.as_nanos() / u128::from(PARTS)).max(1);
        let part = now.saturating_duration_since(self.begin).as_nanos() / length;
        while self.parts.front().is_some_and(|(oldest, _)| oldest + u128::from(PARTS) <= part) {
            self.parts.pop_front();
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_span_fades_out_by_tenths() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut window = Window::new(begin);
        assert_eq!(window.counts(begin, SPAN), [0, 0]);
        window.count(0, at(0), SPAN);
        window.count(1, at(0), SPAN);
        window.count(1, at(5), SPAN);
        assert_eq!(window.counts(at(9), SPAN), [1, 2]);
        assert_eq!(window.counts(at(10), SPAN), [0, 1]);
        assert_eq!(window.counts(at(15), SPAN), [0, 0]);
    }

    #[test]
    fn another_span_begins_anew_and_a_clock_that_stands_still_does_no_harm() {
        let begin = Instant::now();
        let mut window = Window::new(begin);
        window.count(0, begin, SPAN);
        window.count(0, begin, Duration::from_nanos(1));
        assert_eq!(window.counts(begin, Duration::from_nanos(1)), [1, 0]);
        let mut window = Window::new(begin + SPAN);
        window.count(1, begin, SPAN);
        window.count(1, begin + SPAN, SPAN);
        assert_eq!(window.counts(begin, SPAN), [0, 2]);
        window.clear();
        assert_eq!(window.counts(begin, SPAN), [0, 0]);
    }
}
