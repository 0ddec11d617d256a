//! Token confidence: how sure the model was of the candidates that it wrote.
//!
//! A candidate is cut into steps after the fact, each step is measured over its tokens, and the steps' scores
//! become one. Nothing is asked of anybody: what is measured came with the candidate
//! ([`Prompt::signals`](crate::completion::Prompt)). All log-probabilities are natural and the model's own, whatever the
//! temperature was.
//!
//! Three measures are uncertainties u ≥ 0, told as their validity 1/(1+u), which is in (0, 1]; two are
//! confidences, at least 0 and without an upper end. Higher is better for all of them.

mod groups;
mod paths;
mod steps;

use crate::completion::{Completion, Logprobs, Signals, TokenSignals};
use crate::config::run::{Aggregation, RewardName, RunSettings};
use crate::failure::{Failure, FailureKind};

use super::Scores;
pub use paths::StepConfidence;
use steps::Boundary;

/// Tokens of a group of DeepConf (Fu et al., "Deep Think with Confidence", 2025), where none are named.
const GROUP_TOKENS: usize = 2048;

/// The least log-probability that counts, as providers report it for what has no chance at all.
const LEAST_LOGPROB: f64 = -9999.0;

/// Scores candidates by what their model thought of their tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Confidence {
    measure: Measure,
    aggregation: Aggregation,
    /// Steps, counted from the last, that count; at least 1.
    window: Option<usize>,
    boundary: Boundary,
}

/// What is measured over the tokens of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// u = mean of −Σ p ln p over the most probable tokens, in nats.
    Entropy,
    /// u = mean of −ln p.
    Perplexity,
    /// u = −Σ ln p.
    SequenceProb,
    /// Mean of −(1/V) Σ ln(V·p) over the whole vocabulary (Kang et al., 2025).
    SelfCertainty,
    /// Mean of −(1/k) Σ ln p over the k most probable tokens: DeepConf's token confidence.
    TopK,
}

impl Confidence {
    /// The scorer that `rm_name` names; `None` where it names another or none.
    pub fn of(settings: &RunSettings) -> Option<Self> {
        let measure = match settings.rm_name? {
            RewardName::Entropy => Measure::Entropy,
            RewardName::Perplexity => Measure::Perplexity,
            RewardName::SequenceProb => Measure::SequenceProb,
            RewardName::SelfCertainty => Measure::SelfCertainty,
            RewardName::TopKConfidence => Measure::TopK,
            RewardName::LlmJudge => return None,
        };
        Some(Self {
            measure,
            aggregation: settings.rm_agg_method,
            window: settings.scoring_window,
            boundary: Boundary::new(settings.step_token.as_deref(), settings.tokens_per_step),
        })
    }

    /// What candidates must bring along to be scored.
    pub fn signals(&self) -> Signals {
        match self.measure {
            Measure::Entropy | Measure::TopK => Signals { top: Logprobs::MOST, self_certainty: false },
            Measure::Perplexity | Measure::SequenceProb => Signals { top: 0, self_certainty: false },
            Measure::SelfCertainty => Signals { top: 0, self_certainty: true },
        }
    }

    /// The name in `rm_name`.
    pub fn name(&self) -> &'static str {
        match self.measure {
            Measure::Entropy => "entropy",
            Measure::Perplexity => "perplexity",
            Measure::SequenceProb => "sequence_prob",
            Measure::SelfCertainty => "self_certainty",
            Measure::TopK => "top_k_confidence",
        }
    }

    /// Scores every candidate by itself.
    ///
    /// # Errors
    ///
    /// When not one candidate could be scored: why the first could not.
    pub fn score(&self, candidates: &[&Completion]) -> Result<Scores, Failure> {
        let mut first_failure = None;
        let mut notes = Vec::new();
        let mut values = Vec::with_capacity(candidates.len());
        for (position, candidate) in candidates.iter().enumerate() {
            let score = self.score_one(candidate);
            if let Err(failure) = &score {
                notes.push(format!("candidate {position} has no score by {}: {failure}", self.name()));
                first_failure.get_or_insert_with(|| failure.clone());
            }
            values.push(score.ok());
        }
        match first_failure {
            Some(failure) if values.iter().all(Option::is_none) => Err(failure),
            _ => Ok(Scores { values, ranks: Vec::new(), notes }),
        }
    }

    /// The score of one candidate, finite and at least 0.
    ///
    /// # Errors
    ///
    /// When the candidate came without what is measured, or without any token.
    pub fn score_one(&self, candidate: &Completion) -> Result<f64, Failure> {
        let missing = |what: &str| {
            let message =
                format!("it came without {what}; choose a model or provider that gives them, or another `rm_name`");
            Err(Failure::new(FailureKind::Malformed, message))
        };
        let Some(tokens) = candidate.tokens.as_deref() else { return missing("log-probabilities") };
        if tokens.is_empty() {
            return missing("the log-probabilities of a single token");
        }
        let Some(of_tokens) = tokens.iter().map(|token| self.of_token(token)).collect::<Option<Vec<f64>>>() else {
            return missing(match self.measure {
                Measure::Entropy | Measure::TopK => "the alternatives of its tokens",
                Measure::SelfCertainty => "the self-certainty of its tokens",
                Measure::Perplexity | Measure::SequenceProb => "the log-probability of every token",
            });
        };
        let scores = self.of_steps(tokens, &of_tokens);
        let counted = &scores[scores.len() - self.window.map_or(scores.len(), |window| window.min(scores.len()))..];
        aggregate(counted, self.aggregation).ok_or_else(|| {
            let message = format!("its score by {} is no finite number; choose another `rm_agg_method`", self.name());
            Failure::invalid_param("rm_agg_method", message)
        })
    }

    /// The scores of what is scored by itself: steps, or the groups of DeepConf, each as wide as a step may be and
    /// one token after the other.
    fn of_steps(&self, tokens: &[TokenSignals], of_tokens: &[f64]) -> Vec<f64> {
        match (self.aggregation, self.measure) {
            (Aggregation::Model, _) => vec![self.of_step(of_tokens)],
            (Aggregation::Min, Measure::TopK) => {
                groups::means(of_tokens, self.boundary.most_tokens().unwrap_or(GROUP_TOKENS))
            }
            _ => self.boundary.steps(tokens).into_iter().map(|step| self.of_step(&of_tokens[step])).collect(),
        }
    }

    /// What a token contributes; `None` where it cannot be known.
    fn of_token(&self, token: &TokenSignals) -> Option<f64> {
        let known = |logprob: f64| (!logprob.is_nan()).then(|| logprob.clamp(LEAST_LOGPROB, 0.0));
        let top = || -> Option<Vec<f64>> {
            let top: Vec<f64> = token.top.iter().map(|logprob| known(*logprob)).collect::<Option<_>>()?;
            (!top.is_empty()).then_some(top)
        };
        match self.measure {
            Measure::Entropy => Some(-top()?.iter().map(|logprob| logprob.exp() * logprob).sum::<f64>()),
            Measure::Perplexity | Measure::SequenceProb => Some(-known(token.logprob)?),
            Measure::SelfCertainty => token.self_certainty.filter(|certainty| certainty.is_finite()),
            Measure::TopK => top().map(|top| -top.iter().sum::<f64>() / top.len() as f64),
        }
    }

    /// The score of a step of at least one token, from what its tokens contribute.
    fn of_step(&self, tokens: &[f64]) -> f64 {
        let sum: f64 = tokens.iter().sum();
        let mean = sum / tokens.len() as f64;
        match self.measure {
            Measure::Entropy | Measure::Perplexity => 1.0 / (1.0 + mean),
            Measure::SequenceProb => 1.0 / (1.0 + sum),
            Measure::SelfCertainty | Measure::TopK => mean,
        }
    }
}

/// One score of at least one, none of which is negative; `None` where it is no number that could be compared.
fn aggregate(scores: &[f64], aggregation: Aggregation) -> Option<f64> {
    let score = match aggregation {
        Aggregation::Last | Aggregation::Model => scores[scores.len() - 1],
        Aggregation::Min => scores.iter().copied().fold(f64::INFINITY, f64::min),
        Aggregation::Max => scores.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Product => return product(scores),
        Aggregation::Mean => scores.iter().sum::<f64>() / scores.len() as f64,
    };
    score.is_finite().then_some(score)
}

/// The product, whatever lies between. `None` where it is too great for a number, or so small that it would be taken for
/// the zero that only a step of zero makes.
fn product(scores: &[f64]) -> Option<f64> {
    if scores.contains(&0.0) {
        return scores.iter().all(|score| score.is_finite()).then_some(0.0);
    }
    let product = scores.iter().map(|score| score.ln()).sum::<f64>().exp();
    product.is_normal().then_some(product)
}

#[cfg(test)]
mod tests;
