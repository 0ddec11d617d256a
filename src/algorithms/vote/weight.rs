//! What one vote weighs.
//!
//! `confidence` is CISC: Taubenfeld et al., "Confidence Improves Self-Consistency in LLMs" (2025).

use crate::completion::Completion;

/// What the weight of a vote is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Weighting {
    /// Every vote weighs 1.
    #[default]
    Equal,
    /// exp(c/T) of the mean log-probability c ≤ 0, above 0 and up to 1.
    Confidence {
        /// T, above 0. Near 0 the most confident candidate outweighs all others, far above 1 all weigh alike.
        temperature: f64,
    },
    /// Scores of 0 or more without an upper bound, given once every candidate is in.
    Scores,
}

impl Weighting {
    /// The setting's own word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "none",
            Self::Confidence { .. } => "confidence",
            Self::Scores => "score",
        }
    }

    /// What the completion itself tells of its weight; `None` where it tells nothing.
    pub(super) fn of(self, completion: &Completion) -> Option<f64> {
        match self {
            Self::Equal | Self::Scores => None,
            Self::Confidence { temperature } => {
                let logprob = completion.mean_logprob.filter(|logprob| logprob.is_finite())?;
                // Some servers round a certain token to a hair above 0.
                Some((logprob.min(0.0) / temperature).exp())
            }
        }
    }
}

/// The weights by confidence of these mean log-probabilities, as multiples of the greatest: exp(c/T) itself is rounded
/// to 0 where c is far below −T, and would tell none of the candidates from another.
pub(super) fn relative(logprobs: &[Option<f64>], temperature: f64) -> Vec<Option<f64>> {
    let logprobs: Vec<Option<f64>> = logprobs.iter().map(|logprob| logprob.map(|logprob| logprob.min(0.0))).collect();
    let best = logprobs.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    logprobs.iter().map(|logprob| logprob.map(|logprob| ((logprob - best) / temperature).exp())).collect()
}

/// One weight for each candidate of which at most some are known.
///
/// A weight that is not known (no log-probabilities came, or the scorer failed) counts as the mean of those that
/// are, so that a gap of the provider's neither favours nor silences an answer. Where none is known, or none is
/// above 0, all weigh 1: then there is nothing to prefer a vote by.
pub(super) fn completed(known: &[Option<f64>]) -> Vec<f64> {
    let is_weight = |weight: &f64| weight.is_finite() && *weight >= 0.0;
    let known: Vec<Option<f64>> = known.iter().map(|weight| weight.filter(is_weight)).collect();
    let (count, sum) = known.iter().flatten().fold((0, 0.0), |(count, sum), weight| (count + 1, sum + weight));
    if count == 0 || sum <= 0.0 {
        return vec![1.0; known.len()];
    }
    let mean = sum / f64::from(count);
    known.iter().map(|weight| weight.unwrap_or(mean)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{FinishReason, Reply, Usage};

    fn confidence(mean_logprob: Option<f64>, temperature: f64) -> Option<f64> {
        let completion = Completion {
            reply: Reply::new(None, Vec::new()),
            finish_reason: FinishReason::Stop,
            logprobs: None,
            mean_logprob,
            tokens: None,
            usage: Usage::default(),
        };
        Weighting::Confidence { temperature }.of(&completion)
    }

    #[test]
    fn confidence_is_the_exponential_of_the_mean_log_probability() {
        assert_eq!(confidence(Some(0.0), 1.0), Some(1.0));
        // exp(-0.5) = 0.60653, exp(-0.5 / 0.5) = 0.36788.
        assert!((confidence(Some(-0.5), 1.0).unwrap() - 0.606_530_659_712_633_4).abs() < 1e-15);
        assert!((confidence(Some(-0.5), 0.5).unwrap() - 0.367_879_441_171_442_3).abs() < 1e-15);
        assert_eq!(confidence(Some(1e-7), 1.0), Some(1.0), "never above 1");
        assert_eq!(confidence(Some(-9999.0), 1.0), Some(0.0));
        for unknown in [None, Some(f64::NAN), Some(f64::NEG_INFINITY), Some(f64::INFINITY)] {
            assert_eq!(confidence(unknown, 1.0), None);
        }
    }

    #[test]
    fn confidences_too_small_for_a_number_are_told_apart_by_their_ratio() {
        // exp(-2000) is 0 in doubles; exp(-0.0005 / 0.0005) = 0.36788.
        let weights = relative(&[Some(-1.0005), Some(-1.0), None, Some(-2.0)], 0.0005);
        assert!((weights[0].unwrap() - 0.367_879_441_171_442_3).abs() < 1e-12);
        assert_eq!(weights[1..], [Some(1.0), None, Some(0.0)]);
        assert_eq!(relative(&[Some(1e-7), Some(0.0)], 1.0), [Some(1.0); 2], "never above a certain token");
        assert_eq!(relative(&[None], 1.0), [None]);
    }

    #[test]
    fn what_is_not_known_counts_as_the_mean_of_what_is() {
        assert_eq!(completed(&[Some(0.5), None, Some(1.0)]), [0.5, 0.75, 1.0]);
        assert_eq!(completed(&[Some(f64::NAN), Some(0.5), Some(-1.0), Some(f64::INFINITY)]), [0.5; 4]);
        assert_eq!(completed(&[Some(0.0), Some(4.0), None]), [0.0, 4.0, 2.0]);
    }

    #[test]
    fn where_nothing_is_known_or_nothing_weighs_all_weigh_one() {
        assert_eq!(completed(&[None, None]), [1.0, 1.0]);
        assert_eq!(completed(&[Some(0.0), None]), [1.0, 1.0]);
        assert_eq!(completed(&[Some(f64::NEG_INFINITY), Some(f64::NAN)]), [1.0, 1.0]);
        assert_eq!(completed(&[]), Vec::<f64>::new());
    }
}
