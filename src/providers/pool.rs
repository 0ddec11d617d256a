//! Which member of a pool is asked: the less loaded of two that are drawn.
//!
//! Looking at two and not at all keeps many callers with the same picture of the pool from all going to the same member
//! (M. Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).

use rand::{Rng, RngExt};

/// A member as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Calls in flight or waiting.
    pub calls: usize,
    /// Above 0: how many calls it is worth beside the others.
    pub weight: f64,
}

/// The index of the member to ask: of two different ones that are drawn by their weight, the one with fewer calls for
/// its weight, and the first drawn if they are even. `None` for an empty pool.
pub(super) fn choose(members: &[Load], random: &mut impl Rng) -> Option<usize> {
    let first = draw(members, None, random)?;
    let Some(second) = draw(members, Some(first), random) else { return Some(first) };
    let load = |at: usize| members[at].calls as f64 / members[at].weight;
    Some(if load(second) < load(first) { second } else { first })
}

fn draw(members: &[Load], except: Option<usize>, random: &mut impl Rng) -> Option<usize> {
    let rest = || members.iter().enumerate().filter(|(at, _)| Some(*at) != except);
    let total: f64 = rest().map(|(_, member)| member.weight).sum();
    let mut point = random.random_range(0.0..1.0) * total;
    // Where rounding leaves a point beyond the last, the last is it.
    let mut last = None;
    for (at, member) in rest() {
        last = Some(at);
        if point < member.weight {
            break;
        }
        point -= member.weight;
    }
    last
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn shares<const N: usize>(members: [(usize, f64); N]) -> [f64; N] {
        const DRAWS: u32 = 20_000;
        let members = members.map(|(calls, weight)| Load { calls, weight });
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0u32; N];
        for _ in 0..DRAWS {
            counts[choose(&members, &mut random).unwrap()] += 1;
        }
        counts.map(|count| f64::from(count) / f64::from(DRAWS))
    }

    fn near<const N: usize>(shares: [f64; N], expected: [f64; N]) -> bool {
        shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 0.02)
    }

    #[test]
    fn an_idle_pool_is_used_by_weight() {
        assert!(near(shares([(0, 1.0), (0, 1.0)]), [0.5, 0.5]));
        assert!(near(shares([(0, 3.0), (0, 1.0)]), [0.75, 0.25]));
        assert!(near(shares([(0, 2.0), (0, 1.0), (0, 1.0)]), [0.5, 0.25, 0.25]));
    }

    #[test]
    fn the_less_loaded_of_two_is_taken_by_calls_for_weight() {
        assert_eq!(shares([(5, 1.0), (4, 1.0)]), [0.0, 1.0]);
        assert_eq!(shares([(5, 2.0), (4, 1.0)]), [1.0, 0.0]);
        // Of three, the busiest is never the better one, and the idlest wins whenever it is drawn: 2 of 3 pairs.
        let three = shares([(9, 1.0), (5, 1.0), (0, 1.0)]);
        assert!(near(three, [0.0, 1.0 / 3.0, 2.0 / 3.0]), "{three:?}");
    }

    #[test]
    fn a_pool_of_one_has_no_choice_and_an_empty_one_none_at_all() {
        assert_eq!(shares([(7, 0.1)]), [1.0]);
        assert_eq!(choose(&[], &mut ChaCha8Rng::seed_from_u64(1)), None);
    }
}
