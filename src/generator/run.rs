//! The scope of one run: what all of its calls share.

use std::sync::Arc;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::ledger::{Account, Ledger, Phase};
use crate::config::prices::Price;
use crate::failure::{Failure, FailureKind};
use crate::metrics::Metrics;
use crate::providers::Caller;

/// One run of an algorithm for one request. Owned by the handler of the request.
#[derive(Debug)]
pub struct Run {
    pub seed: RunSeed,
    pub ledger: Arc<Ledger>,
    pub bounds: Bounds,
    /// What tokens of each phase cost, where that is known.
    pub prices: BTreeMap<Phase, Price>,
    /// Whom the queues before upstreams know it by; see [`Run::caller`].
    pub caller: Caller,
    pub notes: Arc<Notes>,
}

/// What the client of a run should know of how calls were made.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    /// Adds a note, unless it is there already.
    pub fn add(&self, note: String) {
        let mut notes = self.0.lock();
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// The notes so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
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
        Self {
            seed,
            ledger: Arc::new(Ledger::default()),
            bounds: Bounds::default(),
            prices: BTreeMap::new(),
            caller: Caller::default(),
            notes: Arc::default(),
        }
    }

    /// On whose behalf its calls are made: all of them take their turns as one request, and none is begun that the
    /// deadline would not let end.
    pub fn caller(&self) -> Caller {
        self.caller.until(self.bounds.deadline)
    }

    /// A run whose calls the daemon counts, at these prices.
    pub fn metered(seed: Option<i64>, metrics: Arc<Metrics>, prices: BTreeMap<Phase, Price>) -> Self {
        Self { ledger: Arc::new(Ledger::metered(metrics, prices.clone())), prices, ..Self::new(seed) }
    }

    /// US dollars spent so far; `None` where that cannot be told: nothing was called, a phase that was called has no
    /// price, or a call was answered without its usage. Calls that were cut short count as far as they are known, so
    /// that the sum is a lower bound where there are any.
    pub fn cost_usd(&self) -> Option<f64> {
        self.cost_of(&self.ledger.by_phase())
    }

    /// The same of what had been spent at some moment.
    pub fn cost_of(&self, phases: &BTreeMap<Phase, Account>) -> Option<f64> {
        if self.prices.is_empty() || phases.is_empty() || phases.values().any(|account| account.uncounted > 0) {
            return None;
        }
        let cost = |(phase, account): (&Phase, &Account)| Some(self.prices.get(phase)?.cost_usd(&account.usage));
        phases.iter().filter(|(_, account)| account.calls > 0).try_fold(0.0, |sum, phase| Some(sum + cost(phase)?))
    }

    /// US dollars that are known to be spent, which is what a limit is held against.
    fn known_cost_usd(&self) -> f64 {
        let phases = self.ledger.by_phase();
        let costs = phases.iter().filter_map(|(phase, account)| Some(self.prices.get(phase)?.cost_usd(&account.usage)));
        costs.fold(0.0, |sum, cost| sum + cost)
    }

    /// Says so where a bound could not be held, because calls were answered without their usage.
    pub fn unchecked_bound(&self) -> Option<String> {
        let names = [
            self.bounds.max_total_tokens.map(|_| "max_total_tokens"),
            self.bounds.max_cost_usd.map(|_| "max_cost_usd"),
        ];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let phases = self.ledger.by_phase();
        let (counted, uncounted) = phases
            .values()
            .fold((0, 0), |(counted, uncounted), account| (counted + account.counted, uncounted + account.uncounted));
        if names.is_empty() || uncounted == 0 {
            return None;
        }
        let of_some = if counted > 0 { format!(" of {uncounted} of its calls") } else { String::new() };
        Some(format!("{} could not be checked: the provider reports no usage{of_some}", names.join(" and ")))
    }

    /// How many more candidates may be started beside the `running` ones: as many as the rest of the bounds has room
    /// for, taking each to be as dear as the mean of those that were heard, so that a bound is passed by little more
    /// than the last wave. Until one was heard it is one alone, and it is always at least one where none is running.
    pub fn affords(&self, running: usize) -> usize {
        let Bounds { max_total_tokens, max_cost_usd, .. } = self.bounds;
        if max_total_tokens.is_none() && max_cost_usd.is_none() {
            return usize::MAX;
        }
        let least = usize::from(running == 0);
        let heard = self.ledger.by_phase().get(&Phase::Generate).copied().unwrap_or_default();
        if heard.counted_candidates == 0 {
            // Where nobody counts, nothing is learnt by waiting.
            return if heard.uncounted > 0 { usize::MAX } else { least };
        }
        let fits = |most: f64, spent: f64, of_heard: f64| {
            let room = (most - spent) / (of_heard / heard.counted_candidates as f64);
            // Free candidates leave room without end; none at all, if they are over their limit already.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            if room.is_nan() { usize::MAX } else { room.floor() as usize }
        };
        let tokens = max_total_tokens.map(|most| {
            fits(most as f64, self.ledger.total().total_tokens() as f64, heard.usage.total_tokens() as f64)
        });
        let cost = max_cost_usd.and_then(|most| {
            let of_heard = self.prices.get(&Phase::Generate)?.cost_usd(&heard.usage);
            Some(fits(most, self.known_cost_usd(), of_heard))
        });
        let fits = tokens.into_iter().chain(cost).min().unwrap_or(usize::MAX);
        fits.saturating_sub(running).max(least)
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
        max_cost_usd.is_some_and(|most| self.known_cost_usd() >= most).then_some(Bound::Cost)
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
        Self {
            seed,
            ledger: Arc::clone(&self.ledger),
            bounds: self.bounds,
            prices: self.prices.clone(),
            caller: self.caller.clone(),
            notes: Arc::clone(&self.notes),
        }
    }

    /// The seed of what an algorithm draws itself.
    pub fn decision_seed(&self) -> u64 {
        mix(self.seed_number(), usize::MAX - 3)
    }

    fn seed_number(&self) -> u64 {
        match self.seed {
            RunSeed::Named(seed) => seed.cast_unsigned(),
            RunSeed::Drawn(seed) => seed,
        }
    }

    /// The seed of a candidate in the in-process engine, and of whatever else is drawn for it.
    pub fn local_seed(&self, phase: Phase, candidate: usize) -> u64 {
        let seed = self.seed_number();
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
    use crate::completion::Usage;

    fn spending(bounds: Bounds, usages: &[Usage]) -> Run {
        let price = Price { prompt: 1e6, cached_prompt: 1e6, cache_write_prompt: 1e6, completion: 1e6 };
        let run = Run { bounds, prices: BTreeMap::from([(Phase::Generate, price)]), ..Run::new(Some(1)) };
        for usage in usages {
            run.ledger.begin(Phase::Generate).settle(*usage);
        }
        run
    }

    const TEN: Usage = Usage {
        prompt_tokens: 4,
        completion_tokens: 6,
        cached_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
        unknown_calls: 0,
    };
    const UNKNOWN: Usage = Usage { prompt_tokens: 0, completion_tokens: 0, unknown_calls: 1, ..TEN };

    #[test]
    fn what_a_run_costs_is_told_only_where_it_is_known() {
        let cost = |usages: &[Usage]| spending(Bounds::default(), usages).cost_usd();
        assert_eq!(cost(&[TEN, TEN]), Some(20.0));
        assert_eq!(cost(&[TEN, UNKNOWN]), None);
        assert_eq!(cost(&[]), None);
        let free = cost(&[Usage::default()]).unwrap();
        assert!(free == 0.0 && free.is_sign_positive());
        let cut_short = spending(Bounds::default(), &[TEN]);
        drop(cut_short.ledger.begin(Phase::Generate));
        assert_eq!(cut_short.cost_usd(), Some(10.0), "a lower bound");
        cut_short.ledger.begin(Phase::Judge).settle(TEN);
        assert_eq!(cut_short.cost_usd(), None, "the judge has no price");
    }

    #[test]
    fn candidates_are_afforded_by_the_mean_of_those_that_were_heard() {
        let tokens = |most| Bounds { max_total_tokens: Some(most), ..Bounds::default() };
        let dollars = |most| Bounds { max_cost_usd: Some(most), ..Bounds::default() };
        for bounds in [tokens(65), dollars(65.0)] {
            assert_eq!(spending(bounds, &[]).affords(0), 1, "nothing is known yet");
            assert_eq!(spending(bounds, &[]).affords(1), 0);
            // 45 are left, and 10 the mean.
            assert_eq!(spending(bounds, &[TEN, TEN]).affords(0), 4);
            assert_eq!(spending(bounds, &[TEN, TEN]).affords(3), 1);
            assert_eq!(spending(bounds, &[TEN; 6]).affords(0), 1, "less than one is left");
            assert_eq!(spending(bounds, &[TEN; 9]).affords(1), 0, "the bound is passed");
            assert_eq!(spending(bounds, &[UNKNOWN]).affords(0), usize::MAX, "nobody counts");
            assert_eq!(spending(bounds, &[Usage::default()]).affords(0), usize::MAX, "they are free");
        }
        assert_eq!(spending(Bounds { max_cost_usd: Some(65.0), ..tokens(25) }, &[TEN]).affords(0), 1);
        assert_eq!(spending(Bounds::default(), &[]).affords(0), usize::MAX);
    }

    #[test]
    fn a_bound_that_could_not_be_held_is_named() {
        let both = Bounds { max_total_tokens: Some(9), max_cost_usd: Some(9.0), ..Bounds::default() };
        assert_eq!(spending(both, &[TEN]).unchecked_bound(), None);
        assert_eq!(spending(Bounds::default(), &[UNKNOWN]).unchecked_bound(), None);
        let cost = Bounds { max_cost_usd: Some(9.0), ..Bounds::default() };
        assert_eq!(
            spending(cost, &[UNKNOWN]).unchecked_bound().unwrap(),
            "max_cost_usd could not be checked: the provider reports no usage"
        );
        assert_eq!(
            spending(both, &[TEN, UNKNOWN]).unchecked_bound().unwrap(),
            "max_total_tokens and max_cost_usd could not be checked: the provider reports no usage of 1 of its calls"
        );
    }

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
