//! Drawing the next token from a row of logits.
//!
//! The order is that of the OpenAI-compatible servers: logit bias, presence and frequency penalties,
//! temperature, then top-k, top-p and min-p, each on what the one before has left. Reported
//! log-probabilities are those of the model itself, before any of this.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// The least log-probability that is told of a token, as OpenAI has it: JSON knows no infinity.
pub(super) const LEAST_LOGPROB: f64 = -9999.0;

/// How a request wants its tokens drawn. All values are finite and in range.
#[derive(Debug, Clone)]
pub(super) struct SamplingPlan {
    /// 0 always takes the most probable token.
    pub(super) temperature: f64,
    /// In (0, 1]; 1 keeps everything.
    pub(super) top_p: f64,
    /// 0 keeps everything.
    pub(super) top_k: usize,
    /// In [0, 1]; 0 keeps everything.
    pub(super) min_p: f64,
    pub(super) presence_penalty: f64,
    pub(super) frequency_penalty: f64,
    /// Added to the logits of these tokens; every id is within the vocabulary.
    pub(super) logit_bias: Vec<(u32, f64)>,
}

/// A token and what the model itself thought of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drawn {
    pub(super) token: u32,
    /// Natural logarithm of the model's probability.
    pub(super) logprob: f64,
}

/// Why no token can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SamplingError {
    #[error("the model computed no usable probabilities: its file may be damaged")]
    NotFinite,
    #[error("the model computed no probabilities at all")]
    Empty,
}

/// The sampling state of one candidate.
#[derive(Debug)]
pub(super) struct Sampler {
    rng: ChaCha12Rng,
    /// How often each token was drawn so far.
    drawn: HashMap<u32, u32>,
}

impl Sampler {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: ChaCha12Rng::seed_from_u64(seed), drawn: HashMap::new() }
    }

    /// Draws from a row that holds one logit for each token of the vocabulary. `scratch` is a buffer that
    /// is used again from draw to draw.
    ///
    /// # Errors
    ///
    /// When the row is empty, or a logit is not a number or positive infinity, or none is finite, or when
    /// bias and penalties leave no token that can be drawn.
    pub(super) fn draw(
        &mut self,
        row: &[f32],
        plan: &SamplingPlan,
        scratch: &mut Vec<(u32, f64)>,
    ) -> Result<Drawn, SamplingError> {
        let normaliser = log_sum_exp(row)?;
        scratch.clear();
        scratch.extend((0..).zip(row.iter().map(|logit| f64::from(*logit))));
        for (token, bias) in &plan.logit_bias {
            if let Some((_, logit)) = scratch.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        if plan.presence_penalty != 0.0 || plan.frequency_penalty != 0.0 {
            for (token, count) in &self.drawn {
                if let Some((_, logit)) = scratch.get_mut(*token as usize) {
                    *logit -= plan.presence_penalty + plan.frequency_penalty * f64::from(*count);
                }
            }
        }
        let token = if plan.temperature == 0.0 { most_probable(scratch) } else { self.draw_tempered(plan, scratch) };
        let token = token.ok_or(SamplingError::NotFinite)?;
        *self.drawn.entry(token).or_default() += 1;
        Ok(Drawn { token, logprob: f64::from(row[token as usize]) - normaliser })
    }

    fn draw_tempered(&mut self, plan: &SamplingPlan, scratch: &mut Vec<(u32, f64)>) -> Option<u32> {
        // Dividing the distance from the best logit, not the logit, keeps tiny temperatures finite.
        let best = scratch.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
        for (_, weight) in scratch.iter_mut() {
            *weight = ((*weight - best) / plan.temperature).exp();
        }
        if plan.top_k > 0 && plan.top_k < scratch.len() {
            sort_leaders(scratch, plan.top_k);
            scratch.truncate(plan.top_k);
        }
        if plan.top_p < 1.0 {
            keep_nucleus(scratch, plan.top_p);
        }
        if plan.min_p > 0.0 {
            // The best weight is 1 by construction, and no filter removes it.
            scratch.retain(|(_, weight)| *weight >= plan.min_p);
        }
        let total: f64 = scratch.iter().map(|(_, weight)| *weight).sum();
        let mut left = self.rng.random::<f64>() * total;
        for (token, weight) in scratch.iter() {
            left -= weight;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding may leave a crumb: it belongs to the last token that had a chance at all.
        scratch.iter().rev().find(|(_, weight)| *weight > 0.0).map(|(token, _)| *token)
    }
}

/// The logarithm of the sum of exponentials: what a logit minus it is, is a log-probability.
///
/// # Errors
///
/// See [`Sampler::draw`].
pub(super) fn log_sum_exp(row: &[f32]) -> Result<f64, SamplingError> {
    if row.is_empty() {
        return Err(SamplingError::Empty);
    }
    let mut best = f32::NEG_INFINITY;
    for logit in row {
        if logit.is_nan() || *logit == f32::INFINITY {
            return Err(SamplingError::NotFinite);
        }
        best = best.max(*logit);
    }
    if best == f32::NEG_INFINITY {
        return Err(SamplingError::NotFinite);
    }
    let sum: f64 = row.iter().map(|logit| f64::from(*logit - best).exp()).sum();
    Ok(f64::from(best) + sum.ln())
}

/// The `count` most probable tokens of a row with their log-probabilities, the best first, lower ids first
/// among equals.
pub(super) fn leaders(row: &[f32], normaliser: f64, count: usize) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> = (0..).zip(row.iter().map(|logit| f64::from(*logit) - normaliser)).collect();
    let count = count.min(all.len());
    sort_leaders(&mut all, count);
    all.truncate(count);
    all
}

/// How far the model's distribution is from one in which all tokens are as probable: −(1/V) Σ log(V·p), at least 0
/// (Kang et al., 2025). `normaliser` is [`log_sum_exp`] of the row. A token without a chance counts with
/// [`LEAST_LOGPROB`], so that the result is finite.
pub(super) fn self_certainty(row: &[f32], normaliser: f64) -> f64 {
    let size = row.len() as f64;
    let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - normaliser).max(LEAST_LOGPROB)).sum();
    // The rounding of an even distribution may fall below.
    (-sum / size - size.ln()).max(0.0)
}

/// Greater weights first, lower ids first among equals.
fn order(left: &(u32, f64), right: &(u32, f64)) -> std::cmp::Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// Brings the `count` greatest to the front, in order, in time that grows with the length only linearly.
fn sort_leaders(weights: &mut [(u32, f64)], count: usize) {
    if count > 0 && count < weights.len() {
        weights.select_nth_unstable_by(count - 1, order);
    }
    weights[..count].sort_unstable_by(order);
}

/// Keeps the smallest set of most probable tokens whose probability reaches `top_p`; at least one.
fn keep_nucleus(weights: &mut Vec<(u32, f64)>, top_p: f64) {
    let wanted: f64 = weights.iter().map(|(_, weight)| *weight).sum::<f64>() * top_p;
    // The nucleus is nearly always small: sort only as far as needed.
    let mut sorted = 64;
    loop {
        sorted = sorted.min(weights.len());
        sort_leaders(weights, sorted);
        let mut sum = 0.0;
        for position in 0..sorted {
            sum += weights[position].1;
            if sum >= wanted {
                weights.truncate(position + 1);
                return;
            }
        }
        if sorted == weights.len() {
            return;
        }
        sorted *= 8;
    }
}

fn most_probable(logits: &[(u32, f64)]) -> Option<u32> {
    logits.iter().min_by(|left, right| order(left, right)).map(|(token, _)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> SamplingPlan {
        SamplingPlan {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }

    /// Logits whose softmax gives these probabilities.
    fn logits(probabilities: &[f32]) -> Vec<f32> {
        probabilities.iter().map(|probability| probability.ln()).collect()
    }

    /// Shares of each token among many first draws.
    fn shares(row: &[f32], plan: &SamplingPlan) -> Vec<f64> {
        const DRAWS: u32 = 10_000;
        let mut counts = vec![0; row.len()];
        let mut scratch = Vec::new();
        for seed in 0..DRAWS {
            counts[Sampler::new(seed.into()).draw(row, plan, &mut scratch).unwrap().token as usize] += 1;
        }
        counts.into_iter().map(|count| f64::from(count) / f64::from(DRAWS)).collect()
    }

    fn assert_close(actual: &[f64], expected: &[f64]) {
        for (actual, expected) in actual.iter().zip(expected) {
            // Five standard deviations of a share of 10,000 draws.
            assert!((actual - expected).abs() < 0.025, "{actual} is not {expected}");
            assert!(*expected > 0.0 || *actual == 0.0, "a token without a chance was drawn");
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_the_model_says() {
        assert_close(&shares(&logits(&[0.5, 0.3, 0.2]), &plan()), &[0.5, 0.3, 0.2]);
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        // Squared and normalised: 0.25, 0.09, 0.04 of 0.38.
        let cold = SamplingPlan { temperature: 0.5, ..plan() };
        assert_close(&shares(&logits(&[0.5, 0.3, 0.2]), &cold), &[0.6579, 0.2368, 0.1053]);
        // Square roots: 0.8, 0.6 of 1.4.
        let hot = SamplingPlan { temperature: 2.0, ..plan() };
        assert_close(&shares(&logits(&[0.64, 0.36]), &hot), &[0.5714, 0.4286]);
    }

    #[test]
    fn top_k_top_p_and_min_p_cut_where_they_should() {
        let row = logits(&[0.1, 0.4, 0.3, 0.2]);
        let top_k = SamplingPlan { top_k: 2, ..plan() };
        assert_close(&shares(&row, &top_k), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
        // 0.4 + 0.3 is short of 0.75, so the third one belongs to the nucleus.
        let top_p = SamplingPlan { top_p: 0.75, ..plan() };
        assert_close(&shares(&row, &top_p), &[0.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0]);
        // A token needs 0.6 × 0.4 = 0.24.
        let min_p = SamplingPlan { min_p: 0.6, ..plan() };
        assert_close(&shares(&row, &min_p), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
        // Of what top-k leaves (4/7 and 3/7), top-p 0.5 keeps one.
        let both = SamplingPlan { top_k: 2, top_p: 0.5, ..plan() };
        assert_close(&shares(&row, &both), &[0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn a_nucleus_wider_than_the_first_sorting_is_complete() {
        let row = vec![0.0; 1000];
        let mut weights: Vec<(u32, f64)> = (0..1000).map(|token| (token, 1.0)).collect();
        keep_nucleus(&mut weights, 0.9);
        assert_eq!(weights.len(), 900);
        assert_eq!(leaders(&row, log_sum_exp(&row).unwrap(), 3).iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn greedy_takes_the_best_and_of_equals_the_first() {
        let greedy = SamplingPlan { temperature: 0.0, ..plan() };
        let drawn = Sampler::new(1).draw(&[1.0, 3.0, 3.0], &greedy, &mut Vec::new()).unwrap();
        assert_eq!(drawn.token, 1);
        let tiny = SamplingPlan { temperature: 1e-300, ..plan() };
        assert_eq!(Sampler::new(1).draw(&[1.0, 3.0, 2.0], &tiny, &mut Vec::new()).unwrap().token, 1);
    }

    #[test]
    fn bias_and_penalties_move_the_choice_but_not_the_reported_probability() {
        let row = logits(&[0.6, 0.4]);
        let biased = SamplingPlan { temperature: 0.0, logit_bias: vec![(1, 100.0)], ..plan() };
        let drawn = Sampler::new(1).draw(&row, &biased, &mut Vec::new()).unwrap();
        assert_eq!(drawn.token, 1);
        assert!((drawn.logprob - 0.4_f64.ln()).abs() < 1e-6);

        // ln(0.6/0.4) = 0.405: one presence penalty of 0.5 turns the choice, and turns it back when both
        // were drawn.
        let presence = SamplingPlan { temperature: 0.0, presence_penalty: 0.5, ..plan() };
        let mut sampler = Sampler::new(1);
        let tokens: Vec<u32> = (0..4).map(|_| sampler.draw(&row, &presence, &mut Vec::new()).unwrap().token).collect();
        assert_eq!(tokens, [0, 1, 0, 0]);

        // With 0.3 a draw: 0 leads by 0.405, then 0.105, then trails by 0.195, and so on.
        let frequency = SamplingPlan { temperature: 0.0, frequency_penalty: 0.3, ..plan() };
        let mut sampler = Sampler::new(1);
        let tokens: Vec<u32> = (0..4).map(|_| sampler.draw(&row, &frequency, &mut Vec::new()).unwrap().token).collect();
        assert_eq!(tokens, [0, 0, 1, 0]);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens_and_another_one_does_not() {
        let row = vec![0.0; 100];
        let draws = |seed| {
            let mut sampler = Sampler::new(seed);
            (0..20).map(|_| sampler.draw(&row, &plan(), &mut Vec::new()).unwrap().token).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn rows_without_meaning_are_errors() {
        let draw = |row: &[f32]| Sampler::new(1).draw(row, &plan(), &mut Vec::new());
        assert_eq!(draw(&[]), Err(SamplingError::Empty));
        assert_eq!(draw(&[0.0, f32::NAN]), Err(SamplingError::NotFinite));
        assert_eq!(draw(&[0.0, f32::INFINITY]), Err(SamplingError::NotFinite));
        assert_eq!(draw(&[f32::NEG_INFINITY; 2]), Err(SamplingError::NotFinite));
        assert_eq!(draw(&[f32::NEG_INFINITY, -3.0]), Ok(Drawn { token: 1, logprob: 0.0 }));
    }

    #[test]
    fn penalties_without_measure_are_an_error_and_no_panic() {
        let absurd = SamplingPlan { presence_penalty: f64::MAX, frequency_penalty: f64::MAX, ..plan() };
        let mut sampler = Sampler::new(1);
        assert!(sampler.draw(&[0.0], &absurd, &mut Vec::new()).is_ok());
        assert_eq!(sampler.draw(&[0.0], &absurd, &mut Vec::new()), Err(SamplingError::NotFinite));
    }

    #[test]
    fn self_certainty_is_the_distance_from_an_even_distribution() {
        let certainty = |row: &[f32]| self_certainty(row, log_sum_exp(row).unwrap());
        assert!(certainty(&[2.0; 7]).abs() < 1e-9, "an even distribution has none");
        // −(ln(2 × 0.9) + ln(2 × 0.1)) / 2 = −(0.587787 − 1.609438) / 2.
        assert!((certainty(&logits(&[0.9, 0.1])) - 0.510_826).abs() < 1e-5);
        // A token without a chance counts with a probability of e^−9999: (9999 + 0) / 2 − ln 2.
        assert!((certainty(&[0.0, f32::NEG_INFINITY]) - 4_998.806_853).abs() < 1e-5);
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let row = [1.0, -2.0, 0.5, 30.0];
        let normaliser = log_sum_exp(&row).unwrap();
        let sum: f64 = leaders(&row, normaliser, 4).iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert_eq!(leaders(&row, normaliser, 0), []);
        assert_eq!(leaders(&row, normaliser, 9).len(), 4);
    }
}
