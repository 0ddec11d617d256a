//! The scope of one run: what all of its calls share.

use std::sync::Arc;

use std::collections::BTreeMap;

use tokio::time::{Instant, timeout_at};

use super::ledger::{Ledger, Phase};
use crate::config::prices::Price;
use crate::failure::{Failure, FailureKind};

/// One run of an algorithm for one request. Owned by the handler of the request.
#[derive(Debug)]
pub struct Run {
    pub seed: RunSeed,
    pub ledger: Arc<Ledger>,
    pub bounds: Bounds,
    /// What tokens of each phase cost, where that is known.
    pub prices: BTreeMap<Phase, Price>,
}

/// What a run may spend. On exhaustion the best answer so far wins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    pub deadline: Option<Instant>,
    /// Prompt and completion tokens over all calls.
    pub max_total_tokens: Option<u64>,
    pub max_cost_usd: Option<f64>,
}

/// A bound that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Deadline,
    TotalTokens,
    Cost,
}

/// Where a run's randomness comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSeed {
    /// The client or the configuration named it: upstreams are sent seeds derived from it.
    Named(i64),
    /// Drawn for this run: upstreams are sent none, the in-process engine uses it.
    Drawn(u64),
}

impl Run {
    pub fn new(seed: Option<i64>) -> Self {
        let seed = match seed {
            Some(seed) => RunSeed::Named(seed),
            None => RunSeed::Drawn(rand::random()),
        };
        Self { seed, ledger: Arc::new(Ledger::default()), bounds: Bounds::default(), prices: BTreeMap::new() }
    }

    /// US dollars spent so far in calls whose usage is known; `None` where a phase that spent has no price.
    pub fn cost_usd(&self) -> Option<f64> {
        self.ledger
            .by_phase()
            .iter()
            .filter(|(_, account)| account.usage.total_tokens() > 0)
            .map(|(phase, account)| Some(self.prices.get(phase)?.cost_usd(&account.usage)))
            .sum()
    }

    /// Waits for the future, but not beyond the deadline.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Deadline`] when its time is up.
    ///
    /// # Cancel safety
    ///
    /// As the future.
    pub async fn until_deadline<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(deadline) = self.bounds.deadline else { return Ok(future.await) };
        timeout_at(deadline, future).await.map_err(|_| {
            Failure::new(
                FailureKind::Deadline,
                "there was no answer at the deadline; raise `limits.deadline_ms`, or ask for shorter answers",
            )
        })
    }

    /// The bound that has been reached, if one has.
    pub fn exhausted(&self) -> Option<Bound> {
        let Bounds { deadline, max_total_tokens, max_cost_usd } = self.bounds;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Some(Bound::Deadline);
        }
        if max_total_tokens.is_some_and(|most| self.ledger.total().total_tokens() >= most) {
            return Some(Bound::TotalTokens);
        }
        let spent = || self.cost_usd().unwrap_or(0.0);
        max_cost_usd.is_some_and(|most| spent() >= most).then_some(Bound::Cost)
    }

    /// The seed to send upstream for a candidate: the named one for the first that is generated, derived ones in
    /// 0..2³¹ for all others (the range that every provider takes), `None` where none was named.
    pub fn upstream_seed(&self, phase: Phase, candidate: usize) -> Option<i64> {
        match self.seed {
            RunSeed::Named(seed) if candidate == 0 && phase == Phase::Generate => Some(seed),
            #[expect(clippy::cast_possible_wrap, reason = "31 bits remain")]
            RunSeed::Named(_) => Some((self.local_seed(phase, candidate) >> 33) as i64),
            RunSeed::Drawn(_) => None,
        }
    }

    /// The same run for an upstream that takes no seeds: what it spends is spent here.
    #[must_use]
    pub fn without_upstream_seeds(&self) -> Self {
        let seed = match self.seed {
            RunSeed::Named(seed) => RunSeed::Drawn(seed.cast_unsigned()),
            drawn @ RunSeed::Drawn(_) => drawn,
        };
        Self { seed, ledger: Arc::clone(&self.ledger), bounds: self.bounds, prices: self.prices.clone() }
    }

    /// The seed of a candidate in the in-process engine, and of whatever else is drawn for it.
    pub fn local_seed(&self, phase: Phase, candidate: usize) -> u64 {
        let seed = match self.seed {
            RunSeed::Named(seed) => seed.cast_unsigned(),
            RunSeed::Drawn(seed) => seed,
        };
        match phase {
            Phase::Generate => mix(seed, candidate),
            Phase::Synthesize => mix(mix(seed, usize::MAX - 2), candidate),
            Phase::Judge => mix(mix(seed, usize::MAX - 1), candidate),
        }
    }
}

/// The SplitMix64 output for the candidate's position in the stream that `seed` begins
/// (Steele, Lea and Flood, 2014): well mixed even for seeds that differ in one bit.
fn mix(seed: u64, candidate: usize) -> u64 {
    let mut z = seed.wrapping_add((candidate as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_first_candidate_gets_the_seed_that_was_named_and_the_others_differ() {
        let run = Run::new(Some(7));
        assert_eq!(run.upstream_seed(Phase::Generate, 0), Some(7));
        let seeds = [Phase::Generate, Phase::Synthesize, Phase::Judge]
            .map(|phase| (0..1000).filter_map(|i| run.upstream_seed(phase, i)).collect::<Vec<_>>());
        let seeds: HashSet<_> = seeds.concat().into_iter().collect();
        assert_eq!(seeds.len(), 3000);
        assert!(seeds.iter().all(|seed| (0..1 << 31).contains(seed)));
    }

    #[test]
    fn the_same_seed_gives_the_same_candidates() {
        let (a, b) = (Run::new(Some(-1)), Run::new(Some(-1)));
        for candidate in 0..100 {
            for phase in [Phase::Generate, Phase::Judge] {
                assert_eq!(a.upstream_seed(phase, candidate), b.upstream_seed(phase, candidate));
                assert_eq!(a.local_seed(phase, candidate), b.local_seed(phase, candidate));
            }
        }
    }

    #[test]
    fn a_run_without_upstream_seeds_spends_and_draws_as_the_run_does() {
        let run = Run::new(Some(-7));
        let other = run.without_upstream_seeds();
        assert_eq!(other.upstream_seed(Phase::Judge, 3), None);
        assert_eq!(other.local_seed(Phase::Judge, 3), run.local_seed(Phase::Judge, 3));
        assert!(Arc::ptr_eq(&other.ledger, &run.ledger));
    }

    #[test]
    fn no_seed_is_sent_upstream_when_none_was_named() {
        assert_eq!(Run::new(None).upstream_seed(Phase::Generate, 3), None);
    }
}
