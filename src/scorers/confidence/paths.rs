//! Token confidence of paths that are still being written, as scores from 0 to 1.
//!
//! A step of uncertainty u scores exp(−u). Where u is the mean of −ln p, that is the geometric mean of the probabilities of
//! its tokens; where it is their mean entropy, exp(−H). Of the measures of whole candidates, `sequence_prob` and
//! `perplexity` are one here: the probability of a step as a whole says above all how long it is, and long ones would all
//! be at the lower end. Two measures have no upper end, and so no place between 0 and 1.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Confidence, Measure, aggregate};
use crate::completion::{Prompt, Signals};
use crate::config::run::{Aggregation, RunSettings};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Run, Step};
use crate::scorers::steps::{PathScorer, StepScorer};

/// Scores paths by what their model thought of their tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct StepConfidence(Confidence);

impl StepConfidence {
    /// The scorer that `rm_name` names; `None` where it names another or none, or one whose scores have no upper end.
    pub fn of(settings: &RunSettings) -> Option<Self> {
        let confidence = Confidence::of(settings)?;
        match confidence.measure {
            Measure::Entropy | Measure::Perplexity | Measure::SequenceProb => Some(Self(confidence)),
            Measure::SelfCertainty | Measure::TopK => None,
        }
    }
}

impl StepScorer for StepConfidence {
    fn begin(&self, _: &Arc<Prompt>, _: &Arc<Run>) -> Box<dyn PathScorer> {
        Box::new(PathConfidence { of: self.0.clone(), steps: Vec::new(), uncertainty: 0.0, tokens: 0 })
    }

    fn signals(&self) -> Option<Signals> {
        Some(self.0.signals())
    }

    fn name(&self) -> &'static str {
        self.0.name()
    }
}

/// What is kept of one path.
#[derive(Debug, Clone)]
struct PathConfidence {
    of: Confidence,
    /// The score of each step that had a token to measure, as many of the last as count.
    steps: Vec<f64>,
    /// The sum over all tokens.
    uncertainty: f64,
    tokens: usize,
}

impl PathConfidence {
    fn take(&mut self, step: &Step) -> Result<f64, Failure> {
        let of_tokens: Option<Vec<f64>> = step.signals.iter().map(|token| self.of.of_token(token)).collect();
        // With the end of a path comes what was held back of earlier steps, whose tokens were measured with those.
        let is_measured = step.text.is_empty() || step.end.is_some() && self.tokens > 0;
        let Some(of_tokens) = of_tokens.filter(|tokens| !tokens.is_empty() || is_measured) else {
            let what = match self.of.measure {
                Measure::Entropy => "the alternatives of its tokens",
                _ => "the log-probability of every token",
            };
            let message = format!("a step came without {what}; choose another model, or another `rm_name`");
            return Err(Failure::new(FailureKind::Malformed, message));
        };
        if !of_tokens.is_empty() {
            let sum: f64 = of_tokens.iter().sum();
            self.uncertainty += sum;
            self.tokens += of_tokens.len();
            self.steps.push((-sum / of_tokens.len() as f64).exp());
            if let Some(window) = self.of.window {
                self.steps.drain(..self.steps.len().saturating_sub(window));
            }
        }
        Ok(self.so_far())
    }

    /// The score of the path; 0 while it has said nothing that a model could be sure of.
    fn so_far(&self) -> f64 {
        if self.steps.is_empty() {
            return 0.0;
        }
        match self.of.aggregation {
            Aggregation::Model => (-self.uncertainty / self.tokens as f64).exp(),
            // A product too small for a number is none.
            aggregation => aggregate(&self.steps, aggregation).unwrap_or(0.0),
        }
    }
}

impl PathScorer for PathConfidence {
    fn score<'a>(&'a mut self, step: &'a Step) -> BoxFuture<'a, Result<f64, Failure>> {
        std::future::ready(self.take(step)).boxed()
    }

    fn fork(&mut self) -> Box<dyn PathScorer> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{Completion, FinishReason, Reply, TokenSignals, Usage};
    use crate::config::run::RewardName;

    fn path(name: RewardName, aggregation: Aggregation, window: Option<usize>) -> PathConfidence {
        let settings = RunSettings {
            rm_name: Some(name),
            rm_agg_method: aggregation,
            scoring_window: window,
            ..RunSettings::default()
        };
        let StepConfidence(of) = StepConfidence::of(&settings).unwrap();
        PathConfidence { of, steps: Vec::new(), uncertainty: 0.0, tokens: 0 }
    }

    /// A step of tokens of these probabilities, of which each was alone in its place but for as probable a one.
    fn step(probabilities: &[f64]) -> Step {
        let token = |p: &f64| TokenSignals {
            bytes: (*b"x").into(),
            logprob: p.ln(),
            top: [p.ln(), p.ln()].into(),
            self_certainty: None,
        };
        let signals: Vec<TokenSignals> = probabilities.iter().map(token).collect();
        Step { text: "x".repeat(signals.len()), tokens: signals.len() as u32, signals, end: None }
    }

    #[track_caller]
    fn assert_scores(path: &mut PathConfidence, steps: &[&[f64]], expected: &[f64]) {
        let scores: Vec<f64> = steps.iter().map(|probabilities| path.take(&step(probabilities)).unwrap()).collect();
        for (score, expected) in scores.iter().zip(expected) {
            assert!((score - expected).abs() < 1e-12, "{scores:?}, not {expected:?}");
        }
    }

    #[test]
    fn a_step_scores_the_geometric_mean_of_its_probabilities_or_what_its_entropy_leaves() {
        use Aggregation::Last;
        for name in [RewardName::Perplexity, RewardName::SequenceProb] {
            // √(1/2 · 1/8) and 1/4.
            assert_scores(&mut path(name, Last, None), &[&[0.5, 0.125], &[0.25]], &[0.25, 0.25]);
        }
        // −2 · ½ ln ½ = ln 2, −2 · ¼ ln ¼ = ln 2: exp(−ln 2) of each, and of both.
        assert_scores(&mut path(RewardName::Entropy, Last, None), &[&[0.5], &[0.25], &[0.5, 0.25]], &[0.5; 3]);
        assert_scores(&mut path(RewardName::Perplexity, Last, None), &[&[1.0]], &[1.0]);
    }

    #[test]
    fn steps_become_one_score_of_the_path() {
        use Aggregation::{Last, Max, Mean, Min, Model, Product};
        let steps: [&[f64]; 3] = [&[0.5], &[0.25, 0.25], &[0.5]];
        for (aggregation, window, expected) in [
            (Last, None, [0.5, 0.25, 0.5]),
            (Min, None, [0.5, 0.25, 0.25]),
            (Max, None, [0.5, 0.5, 0.5]),
            (Mean, None, [0.5, 0.375, 1.25 / 3.0]),
            (Product, None, [0.5, 0.125, 0.0625]),
            // ½, (½ · ¼ · ¼)^⅓, (½ · ¼ · ¼ · ½)^¼.
            (Model, None, [0.5, (1.0_f64 / 32.0).cbrt(), 0.125_f64.sqrt()]),
            (Min, Some(1), [0.5, 0.25, 0.5]),
            (Product, Some(2), [0.5, 0.125, 0.125]),
            (Model, Some(1), [0.5, (1.0_f64 / 32.0).cbrt(), 0.125_f64.sqrt()]),
        ] {
            assert_scores(&mut path(RewardName::Perplexity, aggregation, window), &steps, &expected);
        }
    }

    #[test]
    fn a_fork_goes_on_from_where_it_was_made_and_by_itself() {
        let mut path = path(RewardName::Perplexity, Aggregation::Product, None);
        path.take(&step(&[0.5])).unwrap();
        let mut fork = path.fork();
        let of_fork = |fork: &mut Box<dyn PathScorer>, p: f64| fork.score(&step(&[p])).now_or_never().unwrap().unwrap();
        assert!((of_fork(&mut fork, 0.5) - 0.25).abs() < 1e-12);
        assert!((path.take(&step(&[0.125])).unwrap() - 0.0625).abs() < 1e-12);
        assert!((of_fork(&mut fork, 0.5) - 0.125).abs() < 1e-12);
    }

    #[test]
    fn a_step_without_a_word_changes_nothing_and_one_that_cannot_be_measured_says_so() {
        let mut path = path(RewardName::Perplexity, Aggregation::Last, None);
        assert_eq!(path.take(&step(&[])).unwrap(), 0.0, "nothing was said yet");
        path.take(&step(&[0.25])).unwrap();
        assert_eq!(path.take(&step(&[])).unwrap(), 0.25);
        let mute = Step { signals: Vec::new(), ..step(&[0.5]) };
        assert!(path.take(&mute).unwrap_err().message.contains("log-probability"));
        assert!(path.take(&step(&[f64::NAN])).is_err());
        assert_eq!(path.take(&step(&[0.5])).unwrap(), 0.5, "it may go on");
    }

    #[test]
    fn an_end_that_only_releases_what_was_held_back_leaves_the_score_as_it_was() {
        let answer = Completion {
            reply: Reply::new(Some("x\n".to_owned()), Vec::new()),
            finish_reason: FinishReason::Stop,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage::default(),
        };
        let end = Step { text: "\n".to_owned(), tokens: 1, signals: Vec::new(), end: Some(answer) };
        for aggregation in [Aggregation::Last, Aggregation::Product, Aggregation::Model] {
            let mut path = path(RewardName::Perplexity, aggregation, None);
            assert!(path.take(&end).is_err(), "nothing of it was ever measured");
            let score = path.take(&step(&[0.25])).unwrap();
            assert_eq!(path.take(&end).unwrap(), score);
        }
    }

    #[test]
    fn a_product_too_small_for_a_number_is_the_least_score() {
        let mut path = path(RewardName::Perplexity, Aggregation::Product, None);
        let scores: Vec<f64> = (0..400).map(|_| path.take(&step(&[0.01])).unwrap()).collect();
        assert!(scores.is_sorted_by(|earlier, later| earlier >= later));
        assert_eq!(scores[399], 0.0);
    }

    #[test]
    fn measures_without_an_upper_end_and_judges_score_no_paths() {
        for name in [RewardName::SelfCertainty, RewardName::TopKConfidence, RewardName::LlmJudge] {
            let settings = RunSettings { rm_name: Some(name), ..RunSettings::default() };
            assert_eq!(StepConfidence::of(&settings), None, "{name:?}");
        }
    }
}
