//! The scope of one run: what all of its calls share.

use std::sync::Arc;

use super::ledger::Ledger;

/// One run of an algorithm for one request. Owned by the handler of the request.
#[derive(Debug)]
pub struct Run {
    pub seed: RunSeed,
    pub ledger: Arc<Ledger>,
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
        Self { seed, ledger: Arc::new(Ledger::default()) }
    }

    /// The seed to send upstream for a candidate: the named one for the first, derived ones in
    /// 0..2³¹ for the others (the range that every provider takes), `None` where none was named.
    pub fn upstream_seed(&self, candidate: usize) -> Option<i64> {
        match self.seed {
            RunSeed::Named(seed) if candidate == 0 => Some(seed),
            #[expect(clippy::cast_possible_wrap, reason = "31 bits remain")]
            RunSeed::Named(seed) => Some((mix(seed.cast_unsigned(), candidate) >> 33) as i64),
            RunSeed::Drawn(_) => None,
        }
    }

    /// The seed of a candidate in the in-process engine.
    pub fn local_seed(&self, candidate: usize) -> u64 {
        match self.seed {
            RunSeed::Named(seed) => mix(seed.cast_unsigned(), candidate),
            RunSeed::Drawn(seed) => mix(seed, candidate),
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
        assert_eq!(run.upstream_seed(0), Some(7));
        let seeds: HashSet<_> = (0..1000).filter_map(|i| run.upstream_seed(i)).collect();
        assert_eq!(seeds.len(), 1000);
        assert!(seeds.iter().all(|seed| (0..1 << 31).contains(seed)));
    }

    #[test]
    fn the_same_seed_gives_the_same_candidates() {
        let (a, b) = (Run::new(Some(-1)), Run::new(Some(-1)));
        for candidate in 0..100 {
            assert_eq!(a.upstream_seed(candidate), b.upstream_seed(candidate));
            assert_eq!(a.local_seed(candidate), b.local_seed(candidate));
        }
    }

    #[test]
    fn no_seed_is_sent_upstream_when_none_was_named() {
        assert_eq!(Run::new(None).upstream_seed(3), None);
    }
}
