//! When the tokens of an answer are due, in an upstream that models the latency of one.

use std::time::Duration;

use serde::Deserialize;

use super::draw::Draw;

/// How fast a model speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// From the end of the request to the first token. A whole answer waits for its last token.
    pub first_token_ms: u64,
    /// The tokens after the first. 0 (the default): all of them with the first.
    pub tokens_per_second: f64,
    /// How far each pause may be from its length, as a share of it: 0 (the default) to 1.
    pub jitter: f64,
    /// Two answers with the same seed and number are paced alike.
    pub seed: u64,
}

impl Pace {
    /// How long after the end of request `number` each token is due, without end and never backwards.
    pub fn due(self, number: u64) -> impl Iterator<Item = Duration> {
        let mut draw = Draw::new(&[self.seed, number]);
        let mut stretched = move |pause: f64| pause * (1.0 + self.jitter.clamp(0.0, 1.0) * draw.between(-1.0, 1.0));
        let between = if self.tokens_per_second > 0.0 { self.tokens_per_second.recip() } else { 0.0 };
        let mut at = stretched(self.first_token_ms as f64 / 1000.0);
        std::iter::from_fn(move || {
            let due = Duration::from_secs_f64(at);
            at += stretched(between);
            Some(due)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(pace: Pace, number: u64) -> Vec<u128> {
        pace.due(number).take(4).map(|due| due.as_millis()).collect()
    }

    #[test]
    fn the_first_token_comes_after_its_delay_and_the_others_at_their_rate() {
        let pace = Pace { first_token_ms: 50, tokens_per_second: 100.0, ..Pace::default() };
        assert_eq!(due(pace, 0), [50, 60, 70, 80]);
        assert_eq!(due(Pace { first_token_ms: 50, ..Pace::default() }, 0), [50; 4]);
        assert_eq!(due(Pace::default(), 0), [0; 4]);
    }

    #[test]
    fn jitter_differs_by_request_repeats_with_the_seed_and_stays_in_its_bounds() {
        let pace = Pace { first_token_ms: 100, tokens_per_second: 10.0, jitter: 0.5, seed: 7 };
        assert_eq!(due(pace, 3), due(pace, 3));
        assert_ne!(due(pace, 3), due(pace, 4));
        assert_ne!(due(pace, 3), due(Pace { seed: 8, ..pace }, 3));
        for number in 0..100 {
            let mut last = 0;
            for at in due(pace, number) {
                assert!((49..=151).contains(&(at - last)), "{at} after {last}");
                last = at;
            }
        }
    }
}
