//! When a run has heard enough: the stop rules, as pure functions of how candidates ended.
//!
//! `beta`, `window` and `threshold` look at the candidates in the order of their indices, never of their arrival:
//! after each prefix of ended candidates anew, and the first prefix that suffices ends the run and alone decides
//! it. So short answers get no advantage, and the same candidates give the same decision however they arrive and
//! however many were started at a time.

use crate::config::run::{RunSettings, StopRule, Wave};

use super::outcome::StopReason;
use super::vote::{Ballot, Tally};

/// A stop rule with what it is set to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stopping {
    /// Every sample is in.
    Never,
    /// No ending of the unfinished candidates can change the winning class.
    Decided,
    /// The majority stays with this probability: Aggarwal et al., "Let's Sample Step by Step: Adaptive-Consistency
    /// for Efficient Reasoning and Coding with LLMs" (2023).
    Beta { confidence: f64 },
    /// One window of so many candidates is unanimous: Li et al., "Escape Sky-high Cost: Early-stopping
    /// Self-Consistency for Multi-step Reasoning" (2024). Windows lie side by side and do not overlap.
    Window { size: usize },
    /// The leading class has this share of the valid and finished candidates, and at least two votes: one vote
    /// alone always has all of them.
    Threshold { share: f64 },
}

/// Where a stop rule ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    pub reason: StopReason,
    /// The number of candidates, from the first on, that suffice; `None` where whatever is in counts.
    pub after: Option<usize>,
}

/// A stop rule at work on one run.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    stopping: Stopping,
    /// Answers that the run must have before it may stop.
    answers: usize,
    /// The prefix that was looked at last.
    considered: usize,
}

/// Votes without which [`Stopping::Threshold`] does not stop.
const MIN_THRESHOLD_VOTES: usize = 2;

/// What rounding may take from a probability or a share.
const ROUNDING: f64 = 1e-9;

impl Stopping {
    /// The rule `rule` with its settings.
    pub fn of(rule: StopRule, settings: &RunSettings) -> Self {
        match rule {
            StopRule::None => Self::Never,
            StopRule::Decided => Self::Decided,
            StopRule::Beta => Self::Beta { confidence: settings.confidence },
            StopRule::Window => Self::Window { size: settings.window },
            StopRule::Threshold => Self::Threshold { share: settings.threshold },
        }
    }

    /// How many candidates to start when `started` have been and all of them have ended. With [`Wave::Prime`] the
    /// rest is not to wait for the end of the first, only for its first token.
    pub fn wave(self, wave: Wave, started: usize) -> usize {
        match (wave, self) {
            (Wave::Of(count), _) => count.max(1),
            (Wave::Prime, _) => {
                if started == 0 {
                    1
                } else {
                    usize::MAX
                }
            }
            (Wave::Auto, Self::Never | Self::Decided) => usize::MAX,
            (Wave::Auto, Self::Beta { .. }) => {
                if started == 0 {
                    4
                } else {
                    2
                }
            }
            (Wave::Auto, Self::Window { size }) => size.max(1),
            // 2, 2, 4, 8 and so on: as many again as have been.
            (Wave::Auto, Self::Threshold { .. }) => started.max(2),
        }
    }

    /// Whether the first `count` candidates suffice, which all have ended.
    fn suffices(self, ballot: &Ballot, count: usize) -> bool {
        match self {
            Self::Never | Self::Decided => false,
            Self::Beta { confidence } => ballot.tally(count).is_some_and(|tally| stays(&tally, confidence)),
            Self::Window { size } => {
                let is_whole = size > 0 && count > 0 && count.is_multiple_of(size);
                is_whole && ballot.is_unanimous(count - size..count) && ballot.tally(count).is_some()
            }
            Self::Threshold { share } => ballot.tally(count).is_some_and(|tally| holds(&tally, share)),
        }
    }

    /// Of `planned` candidates, how many must have ended before the rule can be content, as far as votes tell that weigh
    /// alike: those that have ended without contenting it, and after them the fewest that all agree.
    fn least(self, ballot: &Ballot, planned: usize) -> usize {
        let ended = ballot.ended_prefix();
        let tally = || ballot.tally(ended);
        let more = |suffice: &dyn Fn(f64) -> bool| {
            let more = (1..=planned.saturating_sub(ended)).find(|&more| suffice(more as f64));
            more.map_or(planned, |more| ended + more)
        };
        match self {
            Self::Never => planned,
            Self::Decided if ballot.may_be_decided() => planned / 2 + 1,
            Self::Decided => planned,
            Self::Beta { confidence } => {
                let (leading, runner_up) =
                    tally().map_or((0.0, 0.0), |tally| (tally.leads[0].leading, tally.leads[0].runner_up));
                more(&|more| majority_stays(leading + more, runner_up) >= confidence - ROUNDING)
            }
            Self::Window { size } if size > 0 => (ended / size + 1) * size,
            Self::Window { .. } => planned,
            Self::Threshold { share } => {
                let (votes, of) = tally().map_or((0.0, 0.0), |tally| {
                    let votes = tally.votes as f64;
                    (votes, votes / tally.share)
                });
                more(&|more| {
                    votes + more >= MIN_THRESHOLD_VOTES as f64 && (votes + more) / (of + more) >= share - ROUNDING
                })
            }
        }
    }

    fn reason(self) -> StopReason {
        match self {
            Self::Never => StopReason::Completed,
            Self::Decided => StopReason::Decided,
            Self::Beta { .. } => StopReason::Beta,
            Self::Window { .. } => StopReason::Window,
            Self::Threshold { .. } => StopReason::Threshold,
        }
    }
}

impl Watch {
    /// Watches a run that wants so many answers: the rules that look at prefixes stop it with no fewer, and
    /// `decided`, which knows of the winning class alone, never stops one that wants more than one.
    pub fn new(stopping: Stopping, answers: usize) -> Self {
        Self { stopping, answers, considered: 0 }
    }

    /// How many of the candidates that are started next are needed whatever comes of them, when `started` have been.
    /// There may be fewer to start.
    pub fn needed(&self, ballot: &Ballot, started: usize) -> usize {
        let planned = ballot.planned();
        let least = match self.stopping {
            Stopping::Decided if self.answers > 1 => planned,
            stopping => stopping.least(ballot, planned).max(self.answers),
        };
        least.saturating_sub(started).max(1)
    }

    /// Whether the run may stop, now that the ballot has heard more.
    pub fn look(&mut self, ballot: &Ballot) -> Option<Stopped> {
        let reason = self.stopping.reason();
        match self.stopping {
            Stopping::Never => None,
            Stopping::Decided => (self.answers == 1 && ballot.is_decided()).then_some(Stopped { reason, after: None }),
            Stopping::Beta { .. } | Stopping::Window { .. } | Stopping::Threshold { .. } => {
                let prefixes = self.considered + 1..=ballot.ended_prefix();
                self.considered = *prefixes.end();
                let enough = |count: &usize| {
                    ballot.completed_among(*count) >= self.answers && self.stopping.suffices(ballot, *count)
                };
                let after = prefixes.into_iter().find(enough)?;
                Some(Stopped { reason, after: Some(after) })
            }
        }
    }
}

/// Whether the majority stays with at least this probability at every level of the vote.
fn stays(tally: &Tally, confidence: f64) -> bool {
    tally.leads.iter().all(|lead| majority_stays(lead.leading, lead.runner_up) >= confidence - ROUNDING)
}

/// Whether the leading class has this share, and is no single vote.
fn holds(tally: &Tally, share: f64) -> bool {
    tally.votes >= MIN_THRESHOLD_VOTES && tally.share >= share - ROUNDING
}

/// The probability that a class with `leading` votes against `runner_up` is the likelier of the two: P(p > ½) for
/// p of the distribution Beta(leading + 1, runner_up + 1), in [0, 1]. For whole numbers a and b that is
/// Σₖ₌₀ᵃ C(a+b+1, k) / 2^(a+b+1). Both are 0 or more, and need not be whole where votes are weighted.
pub fn majority_stays(leading: f64, runner_up: f64) -> f64 {
    let (a, b) = (runner_up + 1.0, leading + 1.0);
    // By symmetry 1 - I_½(b, a) is I_½(a, b); the continued fraction converges fast for x < (a + 1) / (a + b + 2).
    if 0.5 < (a + 1.0) / (a + b + 2.0) { incomplete_beta_half(a, b) } else { 1.0 - incomplete_beta_half(b, a) }
}

/// The regularised incomplete beta function I_½(a, b) for a and b of at least 1, by the continued fraction of
/// Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.5.8.
fn incomplete_beta_half(a: f64, b: f64) -> f64 {
    const X: f64 = 0.5;
    const MOST_TERMS: u32 = 10_000;
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) - (a + b) * std::f64::consts::LN_2).exp() / a;
    // Lentz's method as Thompson and Barnett modified it (1986); no denominator is 0 where a and b are above 0.
    let (mut c, mut d) = (1.0, 1.0 / (1.0 - (a + b) * X / (a + 1.0)));
    let mut fraction = d;
    for term in 1..=MOST_TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * X / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / (1.0 + even * d);
        c = 1.0 + even / c;
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * X / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / (1.0 + odd * d);
        c = 1.0 + odd / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    (front * fraction).clamp(0.0, 1.0)
}

/// The natural logarithm of Γ(x) for x of at least 1, by Lanczos's approximation with g = 7 and nine terms.
fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const FIRST: f64 = 0.999_999_999_999_809_9;
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let series = TERMS.iter().zip(1_u32..).fold(FIRST, |sum, (term, i)| sum + term / (x + f64::from(i)));
    let t = x + G + 0.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::algorithms::vote::Lead;

    #[derive(Deserialize)]
    struct Table {
        rows: Vec<Row>,
    }

    #[derive(Deserialize)]
    struct Row {
        runner_up: u32,
        majority: u32,
        p: f64,
    }

    fn table() -> Vec<Row> {
        let text = include_str!("../../tests/data/beta_stopping.json");
        serde_json::from_str::<Table>(text).unwrap().rows
    }

    fn tally(leading: f64, runner_up: f64, votes: usize, share: f64) -> Tally {
        Tally { leads: vec![Lead { leading, runner_up }], votes, share }
    }

    #[test]
    fn beta_stops_at_the_majorities_of_the_published_rule() {
        for Row { runner_up, majority, p } in table() {
            let (a, b) = (f64::from(majority), f64::from(runner_up));
            assert!((majority_stays(a, b) - p).abs() < 1e-6, "{majority} to {runner_up}");
            assert!(stays(&tally(a, b, 1, 1.0), 0.95), "{majority} to {runner_up}");
            assert!(!stays(&tally(a - 1.0, b, 1, 1.0), 0.95), "{} to {runner_up}", majority - 1);
        }
    }

    #[test]
    fn the_probability_is_that_of_the_binomial_sum_for_whole_numbers() {
        // (1 + 2) / 2², (1 + 4 + 6) / 2⁴, and one half for a tie.
        for (a, b, p) in [(1.0, 0.0, 0.75), (2.0, 1.0, 0.6875), (0.0, 0.0, 0.5), (7.0, 7.0, 0.5), (0.0, 1.0, 0.25)] {
            assert!((majority_stays(a, b) - p).abs() < 1e-12, "{a} to {b}");
        }
        assert!((majority_stays(500.0, 500.0) - 0.5).abs() < 1e-9);
        assert_eq!(majority_stays(1000.0, 0.0), 1.0);
    }

    #[test]
    fn a_probability_or_share_that_is_just_reached_stops() {
        assert!(stays(&tally(1.0, 0.0, 1, 1.0), 0.75));
        assert!(holds(&tally(3.0, 1.0, 3, 0.75), 0.75));
        assert!(!holds(&tally(2.0, 1.0, 2, 2.0 / 3.0), 0.75));
    }

    #[test]
    fn every_level_of_a_vote_must_stay() {
        let lead = |leading, runner_up| Lead { leading, runner_up };
        let leads = vec![lead(8.0, 0.0), lead(4.0, 3.0)];
        assert!(!stays(&Tally { leads, votes: 4, share: 0.5 }, 0.95));
    }

    #[test]
    fn one_vote_alone_is_no_share() {
        assert!(!holds(&tally(1.0, 0.0, 1, 1.0), 0.75));
        assert!(holds(&tally(2.0, 0.0, 2, 1.0), 1.0));
    }

    proptest::proptest! {
        #[test]
        fn the_probability_rises_with_the_lead_and_mirrors_itself(a in 0.0..300.0f64, b in 0.0..300.0f64) {
            let p = majority_stays(a, b);
            proptest::prop_assert!((0.0..=1.0).contains(&p));
            proptest::prop_assert!((p + majority_stays(b, a) - 1.0).abs() < 1e-9);
            proptest::prop_assert!(majority_stays(a + 0.5, b) >= p - 1e-12);
        }
    }
}
