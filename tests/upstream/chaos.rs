//! An upstream that fails by chance, and by the same chance again: what becomes of an attempt follows from a seed and
//! from the attempt, so that a failure found once can be looked at.

use std::collections::HashMap;

use serde::Deserialize;

use super::draw::Draw;
use super::retry_after::RetryAfter;
use super::script::{Point, Step};

/// The environment variable that names the seed.
pub const SEED_VARIABLE: &str = "UPSTREAM_CHAOS_SEED";

/// How often what goes wrong: shares of the attempts, together at most 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chaos {
    pub seed: u64,
    /// The connection is reset, before the head, after it or within the body.
    pub resets: f64,
    /// 429, with every short form of `Retry-After` and without any.
    pub rate_limits: f64,
    /// 500, 502 or 503, before the model has begun.
    pub errors: f64,
    /// The answer stops at some point and never goes on.
    pub hangs: f64,
    /// The body breaks off in the middle, with the connection closed in good order.
    pub truncated: f64,
}

impl Chaos {
    /// The same with the seed from the environment, if it names one.
    ///
    /// # Panics
    ///
    /// When what it names is no number.
    pub fn or_seed_of_environment(self) -> Self {
        match std::env::var(SEED_VARIABLE) {
            Ok(seed) => {
                Self { seed: seed.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE} is no number: {seed}")), ..self }
            }
            Err(_) => self,
        }
    }

    /// What becomes of the attempt with this body, which has been seen `earlier` times before: `step`, or a failure.
    pub fn befall(&self, body: &[u8], earlier: u64, step: Step) -> Step {
        let mut draw = Draw::of_text(self.seed ^ earlier.wrapping_mul(0x9e37_79b9_7f4a_7c15), body);
        let mut left = draw.between(0.0, 1.0);
        let mut falls = |share: f64| {
            let falls = (0.0..share).contains(&left);
            left -= share;
            falls
        };
        const POINTS: [Point; 3] = [Point::Request, Point::Head, Point::Body];
        if falls(self.resets) {
            return Step { reset_at: Some(draw.one_of(&POINTS)), ..step };
        }
        if falls(self.rate_limits) {
            let retry_after = draw.one_of(&[
                None,
                Some(RetryAfter::Seconds(0)),
                Some(RetryAfter::Fraction(0.02)),
                Some(RetryAfter::PastDate),
                Some(RetryAfter::Milliseconds(10)),
                Some(RetryAfter::Both(15)),
                Some(RetryAfter::Nonsense),
            ]);
            return Step { retry_after, ..Step::refused(429) };
        }
        if falls(self.errors) {
            return Step::refused(draw.one_of(&[500, 502, 503]));
        }
        if falls(self.hangs) {
            return Step { hang_at: Some(draw.one_of(&POINTS)), ..step };
        }
        if falls(self.truncated) {
            return Step { close_at: Some(Point::Body), ..step };
        }
        step
    }
}

/// How often each body has been seen.
#[derive(Debug, Default)]
pub struct Repetitions(HashMap<Vec<u8>, u64>);

impl Repetitions {
    /// How often it was seen before; it counts from now on.
    pub fn count(&mut self, body: &[u8]) -> u64 {
        match self.0.get_mut(body) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                self.0.insert(body.to_vec(), 0);
                0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAOS: Chaos = Chaos { seed: 7, resets: 0.1, rate_limits: 0.1, errors: 0.1, hangs: 0.05, truncated: 0.05 };

    fn fates(chaos: Chaos, body: &[u8]) -> Vec<String> {
        (0..10_000).map(|earlier| format!("{:?}", chaos.befall(body, earlier, Step::content("42")))).collect()
    }

    #[test]
    fn fates_repeat_with_the_seed_and_differ_by_seed_and_body() {
        assert_eq!(fates(CHAOS, b"a"), fates(CHAOS, b"a"));
        assert_ne!(fates(CHAOS, b"a"), fates(CHAOS, b"b"));
        assert_ne!(fates(CHAOS, b"a"), fates(Chaos { seed: 8, ..CHAOS }, b"a"));
    }

    #[test]
    fn each_failure_comes_as_often_as_it_was_ordered() {
        let steps: Vec<Step> = (0..10_000).map(|at| CHAOS.befall(b"{}", at, Step::content("42"))).collect();
        let count = |is: fn(&Step) -> bool| steps.iter().filter(|step| is(step)).count();
        for (found, expected) in [
            (count(|step| step.reset_at.is_some()), 1000),
            (count(|step| step.refuse == Some(429)), 1000),
            (count(|step| step.refuse.is_some_and(|status| status >= 500)), 1000),
            (count(|step| step.hang_at.is_some()), 500),
            (count(|step| step.close_at.is_some()), 500),
        ] {
            assert!(found.abs_diff(expected) < 120, "{found} of {expected}");
        }
        assert_eq!(fates(Chaos::default(), b"{}"), vec![format!("{:?}", Step::content("42")); 10_000]);
    }

    #[test]
    fn a_body_is_told_how_often_it_came() {
        let mut seen = Repetitions::default();
        assert_eq!([seen.count(b"a"), seen.count(b"b"), seen.count(b"a"), seen.count(b"a")], [0, 0, 1, 2]);
    }
}
