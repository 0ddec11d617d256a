//! Drawing the next token from a row of logits.
//!
//! The order is that of llama.cpp's default chain: logit bias, penalties, then what a grammar allows, top-k, typical,
//! top-p and min-p, each on what the one before has left, and temperature last, so that it does not change who is
//! left. Reported log-probabilities are those of the model itself, before any of this.

use std::collections::{HashMap, VecDeque};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::grammar::Allowed;

mod row;

/// The least log-probability that is told of a token, as OpenAI has it: JSON knows no infinity.
pub(super) const LEAST_LOGPROB: f64 = -9999.0;

/// The `logit_bias` that bans a token altogether, whatever its logit is.
const BAN: f64 = -100.0;

/// How a request wants its tokens drawn. All values are finite and in range.
#[derive(Debug, Clone)]
pub(super) struct SamplingPlan {
    /// 0 always takes the most probable token of those that are left.
    pub(super) temperature: f64,
    /// 0 keeps everything.
    pub(super) top_k: usize,
    /// In [0, 1]; 1 keeps everything. Locally typical sampling (Meister et al., 2022): tokens whose information is
    /// nearest to what is expected, until they have more than this probability.
    pub(super) typical_p: f64,
    /// In [0, 1]; 1 keeps everything, 0 one token.
    pub(super) top_p: f64,
    /// In [0, 1]; 0 keeps everything.
    pub(super) min_p: f64,
    /// Taken from the logits of tokens that the answer has.
    pub(super) presence_penalty: f64,
    /// The same, times how often it has them.
    pub(super) frequency_penalty: f64,
    pub(super) repetition: Repetition,
    /// Added to the logits of these tokens; every id is within the vocabulary. −100 and less bans a token.
    pub(super) logit_bias: Vec<(u32, f64)>,
}

impl SamplingPlan {
    /// The most probable token, whatever has come.
    pub(super) const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        typical_p: 1.0,
        top_p: 1.0,
        min_p: 0.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition: Repetition::NONE,
        logit_bias: Vec::new(),
    };

    /// Whether every token may be drawn that has a chance.
    fn keeps_everything(&self) -> bool {
        self.top_k == 0 && self.typical_p >= 1.0 && self.top_p >= 1.0 && self.min_p <= 0.0
    }

    /// How many of the most probable tokens are looked at.
    fn most_looked_at(&self, temperature: f64) -> usize {
        match self.top_k {
            // Every filter leaves the best one but locally typical sampling, which may leave another.
            _ if temperature == 0.0 && self.typical_p >= 1.0 => 1,
            0 => usize::MAX,
            count => count,
        }
    }
}

/// A penalty for tokens of prompt and answer (Keskar et al., 2019): positive logits are divided by it, others
/// multiplied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Repetition {
    /// Greater than 0; 1 changes nothing.
    pub(super) penalty: f64,
    /// How many of the last tokens are looked at; 0 changes nothing.
    pub(super) window: usize,
}

impl Repetition {
    pub(super) const NONE: Self = Self { penalty: 1.0, window: 0 };

    fn is_none(self) -> bool {
        self.penalty == 1.0 || self.window == 0
    }
}

/// What the model itself makes of each token of the vocabulary, before anything is done about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distribution<'a> {
    row: &'a [f32],
    /// The logarithm of the sum of exponentials: what a logit minus it is, is a log-probability.
    normaliser: f64,
}

/// Why no token can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SamplingError {
    #[error("the model computed no usable probabilities: its file may be damaged")]
    NotFinite,
    #[error("the model computed no probabilities at all")]
    Empty,
    #[error("no token is left to draw: logit_bias and penalties ban all that could come next")]
    NoneLeft,
}

/// The seed of a path that forks off another.
///
/// A path's random numbers are a function of its seed and of the position of the token in its answer, and of nothing
/// else: number `p` is the `p`-th 64-bit word of ChaCha12, seeded with the path's seed as `rand` seeds it from a `u64`.
/// So a path that is evaluated again from any position draws the same tokens again. A candidate's seed comes from the
/// request's seed and the candidate's number. A branch must not go on with the seed of its parent, or it would draw
/// what its parent draws: its seed is the SplitMix64 output (Steele, Lea and Flood, 2014) for the parent's seed, mixed
/// with the position and then with the number of the branch. Paths are thus told apart by their whole lineage, and the
/// same lineage always has the same seed.
///
/// `position` counts the tokens of the answer before the fork, `branch` the branches of that fork from 0 on.
pub fn forked_seed(parent: u64, position: u64, branch: u64) -> u64 {
    let mix = |seed: u64, step: u64| {
        let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    // No candidate has this number, so that no branch has the seed of one.
    mix(mix(mix(parent, u64::MAX / 2), position), branch)
}

/// The sampling state of one candidate.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    rng: ChaCha12Rng,
    /// How often each token was drawn so far.
    drawn: HashMap<u32, u32>,
    position: u64,
    recent: Recent,
}

/// The tokens that a repetition penalty looks at.
#[derive(Debug, Clone, Default)]
struct Recent {
    window: usize,
    tokens: VecDeque<u32>,
    counts: HashMap<u32, u32>,
}

impl Recent {
    fn push(&mut self, token: u32) {
        if self.window == 0 {
            return;
        }
        if self.tokens.len() == self.window
            && let Some(oldest) = self.tokens.pop_front()
            && let Some(count) = self.counts.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
        self.tokens.push_back(token);
        *self.counts.entry(token).or_default() += 1;
    }
}

impl Sampler {
    /// The sampler of a path with this seed, which answers this prompt.
    pub(super) fn new(seed: u64, plan: &SamplingPlan, prompt: impl DoubleEndedIterator<Item = u32>) -> Self {
        let mut recent = Recent::default();
        if !plan.repetition.is_none() {
            recent.window = plan.repetition.window;
            let last: Vec<u32> = prompt.rev().take(recent.window).collect();
            for token in last.into_iter().rev() {
                recent.push(token);
            }
        }
        Self { rng: ChaCha12Rng::seed_from_u64(seed), drawn: HashMap::new(), position: 0, recent }
    }

    /// Goes on from where it is with the random numbers of another seed.
    pub(super) fn reseed(&mut self, seed: u64) {
        self.rng = ChaCha12Rng::seed_from_u64(seed);
    }

    /// Draws from a row that holds one logit for each token of the vocabulary, of those that are `allowed`. `scratch`
    /// is a buffer that is used again from draw to draw.
    ///
    /// # Errors
    ///
    /// When the row is empty, or a logit is not a number or positive infinity, or none is finite, or when
    /// bias, penalties and what is allowed leave no token that can be drawn.
    pub(super) fn draw(
        &mut self,
        row: &[f32],
        plan: &SamplingPlan,
        allowed: Option<&Allowed>,
        scratch: &mut Vec<(u32, f64)>,
    ) -> Result<u32, SamplingError> {
        self.draw_at(plan.temperature, row, plan, allowed, scratch)
    }

    /// The same at another temperature than the plan's.
    pub(super) fn draw_at(
        &mut self,
        temperature: f64,
        row: &[f32],
        plan: &SamplingPlan,
        allowed: Option<&Allowed>,
        scratch: &mut Vec<(u32, f64)>,
    ) -> Result<u32, SamplingError> {
        let best = row::best(row)?;
        let moved = self.moved(plan, row);
        let token = if temperature > 0.0 && moved.is_empty() && allowed.is_none() && plan.keeps_everything() {
            let random = self.random();
            row::pick(row, best, temperature, random)
        } else {
            let count = plan.most_looked_at(temperature);
            candidates(row, count, &moved, allowed, scratch);
            let best = scratch.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
            if !best.is_finite() {
                return Err(SamplingError::NoneLeft);
            }
            // From here on logits are distances from the best one, so that no exponential overflows.
            for (_, logit) in scratch.iter_mut() {
                *logit -= best;
            }
            filter(plan, scratch);
            if temperature == 0.0 { most_probable(scratch) } else { self.pick(temperature, scratch) }
        };
        let token = token.ok_or(SamplingError::NoneLeft)?;
        *self.drawn.entry(token).or_default() += 1;
        self.recent.push(token);
        self.position += 1;
        Ok(token)
    }

    /// The tokens whose logits bias and penalties change, by token, with what they become.
    fn moved(&self, plan: &SamplingPlan, row: &[f32]) -> Vec<(u32, f64)> {
        let has_penalties = plan.presence_penalty != 0.0 || plan.frequency_penalty != 0.0;
        let biased = plan.logit_bias.iter().map(|(token, _)| *token);
        let drawn = self.drawn.keys().copied().filter(|_| has_penalties);
        let mut tokens: Vec<u32> = biased.chain(self.recent.counts.keys().copied()).chain(drawn).collect();
        tokens.sort_unstable();
        tokens.dedup();
        let logits = tokens.into_iter().filter_map(|token| Some((token, f64::from(*row.get(token as usize)?))));
        let mut moved: Vec<(u32, f64)> = logits.collect();
        let place = |moved: &[(u32, f64)], token: u32| moved.binary_search_by_key(&token, |(token, _)| *token).ok();
        for (token, bias) in &plan.logit_bias {
            if let Some(place) = place(&moved, *token) {
                moved[place].1 += if *bias <= BAN { f64::NEG_INFINITY } else { *bias };
            }
        }
        for (token, logit) in &mut moved {
            if self.recent.counts.contains_key(token) {
                let penalty = plan.repetition.penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
            if let Some(count) = self.drawn.get(token).filter(|_| has_penalties) {
                *logit -= plan.presence_penalty + plan.frequency_penalty * f64::from(*count);
            }
        }
        moved
    }

    /// The random number of the position, in [0, 1).
    fn random(&mut self) -> f64 {
        // A number takes two words of 32 bits.
        self.rng.set_word_pos(2 * u128::from(self.position));
        self.rng.random()
    }

    /// Draws one of those that are left, at this temperature, by the random number of the position.
    fn pick(&mut self, temperature: f64, left: &mut [(u32, f64)]) -> Option<u32> {
        for (_, weight) in left.iter_mut() {
            *weight = (*weight / temperature).exp();
        }
        let total: f64 = left.iter().map(|(_, weight)| *weight).sum();
        let mut rest = self.random() * total;
        for (token, weight) in left.iter() {
            rest -= weight;
            if rest < 0.0 {
                return Some(*token);
            }
        }
        // Rounding may leave a crumb: it belongs to the last token that had a chance at all.
        left.iter().rev().find(|(_, weight)| *weight > 0.0).map(|(token, _)| *token)
    }
}

/// Collects the `count` most probable tokens of those that are allowed, in order, or all of these where there are fewer
/// tokens. What is `moved` has another logit than in the row.
fn candidates(row: &[f32], count: usize, moved: &[(u32, f64)], allowed: Option<&Allowed>, out: &mut Vec<(u32, f64)>) {
    let is_allowed = |token: u32| allowed.is_none_or(|allowed| allowed.is_allowed(token));
    let is_moved = |token: u32| moved.binary_search_by_key(&token, |(token, _)| *token).is_ok();
    if count < row.len() {
        // What is moved is added: the greatest of all are among the greatest of either.
        row::greatest(row, count, |token| is_allowed(token) && !is_moved(token), out);
        out.extend(moved.iter().filter(|(token, _)| is_allowed(*token)));
        let count = count.min(out.len());
        sort_leaders(out, count);
        out.truncate(count);
        return;
    }
    out.clear();
    out.extend((0..).zip(row.iter().map(|logit| f64::from(*logit))));
    for (token, logit) in moved {
        out[*token as usize].1 = *logit;
    }
    if allowed.is_some() {
        out.retain(|(token, _)| is_allowed(*token));
    }
}

/// Leaves of what top-k has left those that may be drawn. Logits are distances from the best, which is 0.
fn filter(plan: &SamplingPlan, logits: &mut Vec<(u32, f64)>) {
    if plan.typical_p < 1.0 {
        keep_typical(logits, plan.typical_p);
    }
    if plan.top_p < 1.0 {
        keep_nucleus(logits, plan.top_p);
    }
    if plan.min_p > 0.0 {
        // The best of those that are left, which typical sampling may have made another one.
        let best = logits.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
        let least = best + plan.min_p.ln();
        logits.retain(|(_, logit)| *logit >= least);
    }
}

impl<'a> Distribution<'a> {
    /// What this row of logits says, one for each token of the vocabulary.
    ///
    /// # Errors
    ///
    /// When the row is empty, or a logit is not a number or positive infinity, or none is finite.
    pub(super) fn of(row: &'a [f32]) -> Result<Self, SamplingError> {
        Ok(Self { row, normaliser: row::log_sum_exp(row, row::best(row)?) })
    }

    /// The natural logarithm of a token's probability; `None` of what is no token.
    pub(super) fn logprob(&self, token: u32) -> Option<f64> {
        self.row.get(token as usize).map(|logit| f64::from(*logit) - self.normaliser)
    }

    /// The `count` most probable tokens with their log-probabilities, the best first, lower ids first among equals.
    pub(super) fn leaders(&self, count: usize) -> Vec<(u32, f64)> {
        let mut leaders = Vec::new();
        let count = count.min(self.row.len());
        if count > 0 {
            row::greatest(self.row, count, |_| true, &mut leaders);
        }
        for (_, logit) in &mut leaders {
            *logit -= self.normaliser;
        }
        leaders
    }

    /// How far it is from one in which all tokens are as probable: −(1/V) Σ log(V·p), at least 0 (Kang et al., 2025). A
    /// token without a chance counts with [`LEAST_LOGPROB`], so that the result is finite.
    pub(super) fn self_certainty(&self) -> f64 {
        let mean = row::mean(self.row, |logit| (f64::from(logit) - self.normaliser).max(LEAST_LOGPROB));
        // The rounding of an even distribution may fall below.
        (-mean - (self.row.len() as f64).ln()).max(0.0)
    }
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
fn keep_nucleus(logits: &mut Vec<(u32, f64)>, top_p: f64) {
    let wanted: f64 = logits.iter().map(|(_, logit)| logit.exp()).sum::<f64>() * top_p;
    // The nucleus is nearly always small: sort only as far as needed.
    let mut sorted = 64;
    loop {
        sorted = sorted.min(logits.len());
        sort_leaders(logits, sorted);
        let mut sum = 0.0;
        for position in 0..sorted {
            sum += logits[position].1.exp();
            if sum >= wanted {
                logits.truncate(position + 1);
                return;
            }
        }
        if sorted == logits.len() {
            return;
        }
        sorted *= 8;
    }
}

/// Keeps the tokens whose information is nearest to the entropy, until their probability exceeds `typical_p`; at
/// least one. Lower ids come first among equals.
fn keep_typical(logits: &mut Vec<(u32, f64)>, typical_p: f64) {
    let total: f64 = logits.iter().map(|(_, logit)| logit.exp()).sum();
    let logprob = |logit: f64| logit - total.ln();
    // A token without a chance adds nothing to the entropy, and 0 × −∞ is not a number.
    let share = |logit: f64| {
        if logit == f64::NEG_INFINITY { 0.0 } else { logprob(logit).exp() * -logprob(logit) }
    };
    let entropy: f64 = logits.iter().map(|(_, logit)| share(*logit)).sum();
    let distance = |logit: f64| (-logprob(logit) - entropy).abs();
    logits.sort_by(|left, right| distance(left.1).total_cmp(&distance(right.1)).then(left.0.cmp(&right.0)));
    let mut sum = 0.0;
    let kept = logits.iter().take_while(|(_, logit)| {
        let goes_on = sum <= typical_p;
        sum += logprob(*logit).exp();
        goes_on
    });
    let kept = kept.count().max(1);
    logits.truncate(kept);
}

fn most_probable(logits: &[(u32, f64)]) -> Option<u32> {
    logits.iter().min_by(|left, right| order(left, right)).map(|(token, _)| *token)
}

#[cfg(test)]
mod tests;
