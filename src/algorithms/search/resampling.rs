//! Drawing particles anew: how many copies of each there are to be.
//!
//! Every way gives particle i of the share w_i as many of n copies as n·w_i on average (Douc, Cappé and Moulines,
//! "Comparison of Resampling Schemes for Particle Filtering", 2005); they differ in how far they stray from it.

use rand::{Rng, RngExt};

use crate::config::run::Resampling;

/// Rounding alone makes a whole multiple of a share this much too small.
const EPSILON: f64 = 1e-9;

/// How many copies there are of each particle, `copies` in all, by their shares, which sum to 1. There must be at least one
/// particle; one without a share gets none.
pub(super) fn resample(way: Resampling, shares: &[f64], copies: usize, rng: &mut impl Rng) -> Vec<usize> {
    match way {
        Resampling::Systematic => {
            let offset: f64 = rng.random();
            at_places(shares, (0..copies).map(|number| (number as f64 + offset) / copies as f64))
        }
        Resampling::Stratified => {
            at_places(shares, (0..copies).map(|number| (number as f64 + rng.random::<f64>()) / copies as f64))
        }
        Resampling::Multinomial => multinomial(shares, copies, rng),
        Resampling::Residual => residual(shares, copies, rng),
    }
}

/// Draws one particle by the shares.
pub(super) fn draw(shares: &[f64], rng: &mut impl Rng) -> usize {
    let counts = at_places(shares, std::iter::once(rng.random()));
    counts.iter().position(|count| *count == 1).expect("one place has one particle")
}

/// Counts places, which ascend, by the particle whose share holds them.
fn at_places(shares: &[f64], places: impl Iterator<Item = f64>) -> Vec<usize> {
    // Sums of shares may end a little below 1, and a place then lies beyond them.
    let last = shares.iter().rposition(|share| *share > 0.0).expect("somebody has a share");
    let mut counts = vec![0; shares.len()];
    let (mut particle, mut end) = (0, shares[0]);
    for place in places {
        while place >= end && particle < last {
            particle += 1;
            end += shares[particle];
        }
        counts[particle] += 1;
    }
    counts
}

fn multinomial(shares: &[f64], copies: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut places: Vec<f64> = (0..copies).map(|_| rng.random()).collect();
    places.sort_by(f64::total_cmp);
    at_places(shares, places.into_iter())
}

/// ⌊n·w_i⌋ copies of each, and the others by what is left of the shares.
fn residual(shares: &[f64], copies: usize, rng: &mut impl Rng) -> Vec<usize> {
    let expected = |share: &f64| share * copies as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares are from 0 to 1")]
    let whole = |share: &f64| (expected(share) + EPSILON).floor() as usize;
    let mut counts: Vec<usize> = shares.iter().map(whole).collect();
    let left = copies.saturating_sub(counts.iter().sum());
    if left == 0 {
        return counts;
    }
    let rests: Vec<f64> =
        shares.iter().zip(&counts).map(|(share, count)| (expected(share) - *count as f64).max(0.0)).collect();
    let sum: f64 = rests.iter().sum();
    let rests: Vec<f64> = rests.into_iter().map(|rest| rest / sum).collect();
    for (count, more) in counts.iter_mut().zip(multinomial(&rests, left, rng)) {
        *count += more;
    }
    counts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;

    const WAYS: [Resampling; 4] =
        [Resampling::Systematic, Resampling::Multinomial, Resampling::Stratified, Resampling::Residual];

    fn seeded(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    #[test]
    fn places_are_counted_by_hand() {
        // The shares end at 0.125, 0.375, 0.375 and 1.
        let shares = [0.125, 0.25, 0.0, 0.625];
        assert_eq!(at_places(&shares, [0.0, 0.124, 0.125, 0.374, 0.375, 0.999].into_iter()), [2, 2, 0, 2]);
        // Systematic places of four copies from 0.1: 0.1, 0.35, 0.6 and 0.85.
        assert_eq!(at_places(&shares, [0.1, 0.35, 0.6, 0.85].into_iter()), [1, 1, 0, 2]);
    }

    #[test]
    fn a_place_beyond_the_sum_of_the_shares_is_the_last_that_has_one() {
        assert_eq!(at_places(&[0.3, 0.3, 0.0], [0.1, 0.9].into_iter()), [1, 1, 0]);
    }

    #[test]
    fn one_is_drawn_as_often_as_its_share_says() {
        const RUNS: u32 = 10_000;
        let mut rng = seeded(5);
        let second = (0..RUNS).filter(|_| draw(&[0.25, 0.75], &mut rng) == 1).count() as f64;
        // Five standard errors.
        assert!((second / f64::from(RUNS) - 0.75).abs() < 5.0 * (0.1875 / f64::from(RUNS)).sqrt(), "{second}");
        assert_eq!(draw(&[0.0, 1.0], &mut rng), 1);
    }

    #[test]
    fn one_particle_is_all_and_one_without_a_share_is_gone() {
        for way in WAYS {
            assert_eq!(resample(way, &[1.0], 5, &mut seeded(1)), [5]);
            assert_eq!(resample(way, &[0.0, 1.0, 0.0], 3, &mut seeded(1)), [0, 3, 0]);
            assert_eq!(resample(way, &[0.5, 0.5], 0, &mut seeded(1)), [0, 0]);
        }
    }

    #[test]
    fn equal_shares_are_each_kept_once_where_the_way_is_even() {
        for count in 1..100_u32 {
            let shares = vec![1.0 / f64::from(count); count as usize];
            for way in [Resampling::Systematic, Resampling::Stratified, Resampling::Residual] {
                let counts = resample(way, &shares, count as usize, &mut seeded(count.into()));
                // A place may lie on the seam of two strata but for rounding.
                let strays = counts.iter().filter(|count| **count != 1).count();
                assert!(strays == 0 || way == Resampling::Stratified && strays <= 2, "{way:?} {count}: {counts:?}");
            }
        }
    }

    #[test]
    fn every_way_gives_as_many_copies_as_the_shares_say_on_average() {
        const RUNS: u32 = 20_000;
        let shares = [0.05, 0.15, 0.3, 0.0, 0.5];
        for way in WAYS {
            let mut rng = seeded(7);
            let mut sums = [0_usize; 5];
            for _ in 0..RUNS {
                for (sum, count) in sums.iter_mut().zip(resample(way, &shares, 7, &mut rng)) {
                    *sum += count;
                }
            }
            for (sum, share) in sums.iter().zip(shares) {
                let (mean, expected) = (*sum as f64 / f64::from(RUNS), 7.0 * share);
                // Five standard errors of the widest of them, which is the multinomial.
                let tolerance = 5.0 * (7.0 * share * (1.0 - share) / f64::from(RUNS)).sqrt();
                assert!((mean - expected).abs() <= tolerance + 1e-12, "{way:?}: {mean}, not {expected}");
            }
        }
    }

    #[test]
    fn multinomial_copies_are_distributed_as_such() {
        // Three copies of two particles: binomial of 3 and 0.3.
        const RUNS: u32 = 40_000;
        let mut rng = seeded(3);
        let mut seen = [0_u32; 4];
        for _ in 0..RUNS {
            seen[resample(Resampling::Multinomial, &[0.3, 0.7], 3, &mut rng)[0]] += 1;
        }
        let expected = [0.343, 0.441, 0.189, 0.027].map(|p| p * f64::from(RUNS));
        let chi_squared: f64 =
            seen.iter().zip(expected).map(|(seen, expected)| (f64::from(*seen) - expected).powi(2) / expected).sum();
        // The 99.9th percentile of three degrees of freedom.
        assert!(chi_squared < 16.27, "{chi_squared}: {seen:?}");
    }

    fn some_shares() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(prop_oneof![1 => Just(0.0), 4 => 1e-6..1.0], 1..40)
            .prop_filter("somebody has a share", |weights| weights.iter().any(|weight| *weight > 0.0))
            .prop_map(|weights| {
                let sum: f64 = weights.iter().sum();
                weights.into_iter().map(|weight| weight / sum).collect()
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn there_are_as_many_copies_as_were_asked_for_and_none_strays_further_than_its_way_lets_it(
            shares in some_shares(), copies in 1_usize..64, seed: u64
        ) {
            for way in WAYS {
                let counts = resample(way, &shares, copies, &mut seeded(seed));
                prop_assert_eq!(counts.iter().sum::<usize>(), copies);
                for (count, share) in counts.iter().zip(&shares) {
                    let (count, expected) = (*count as f64, share * copies as f64);
                    prop_assert!(*share > 0.0 || count == 0.0);
                    match way {
                        Resampling::Systematic => prop_assert!((count - expected).abs() < 1.0 + EPSILON),
                        Resampling::Stratified => prop_assert!((count - expected).abs() < 2.0 + EPSILON),
                        Resampling::Residual => prop_assert!(count > expected - 1.0 - EPSILON),
                        Resampling::Multinomial => {}
                    }
                }
                prop_assert_eq!(counts, resample(way, &shares, copies, &mut seeded(seed)), "the same seed, the same copies");
            }
        }
    }
}
