//! Passes over a whole row of logits, one for each token of the vocabulary.
//!
//! A vocabulary has 150,000 tokens and more, and every token of every answer is drawn from such a row, so that these
//! loops are written for the processor to take several logits at a time. What they find is the same as what a plain
//! loop would; sums differ from its in the last digits, since they are added up in another order.

use super::{SamplingError, order};

/// Sums that are kept beside each other, so that none waits for the one before it.
const LANES: usize = 16;

/// Logits that are looked at together: when none of them is great enough, none is looked at alone.
const BLOCK: usize = 64;

/// The greatest logit.
///
/// # Errors
///
/// When the row is empty, or a logit is not a number or positive infinity, or none is finite.
pub(super) fn best(row: &[f32]) -> Result<f32, SamplingError> {
    if row.is_empty() {
        return Err(SamplingError::Empty);
    }
    let (chunks, rest) = row.as_chunks::<LANES>();
    let (mut best, mut is_nan) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
    for chunk in chunks {
        for ((best, is_nan), logit) in best.iter_mut().zip(&mut is_nan).zip(chunk) {
            *best = if *logit > *best { *logit } else { *best };
            *is_nan |= logit.is_nan();
        }
    }
    let is_nan = is_nan.contains(&true) || rest.iter().any(|logit| logit.is_nan());
    let best = greatest_of(rest).max(greatest_of(&best));
    if best.is_finite() && !is_nan { Ok(best) } else { Err(SamplingError::NotFinite) }
}

/// The logarithm of the sum of exponentials, of a row whose greatest logit is known.
pub(super) fn log_sum_exp(row: &[f32], best: f32) -> f64 {
    f64::from(best) + sum(row, |logit| exp(f64::from(logit - best))).ln()
}

/// The mean of what a function gives for each logit.
pub(super) fn mean(row: &[f32], function: impl Fn(f32) -> f64) -> f64 {
    sum(row, function) / row.len() as f64
}

/// The tokens with the `count` greatest logits, of those that may be taken, in order: see [`order`]. There are fewer
/// where fewer may be taken.
pub(super) fn greatest(row: &[f32], count: usize, may_take: impl Fn(u32) -> bool, out: &mut Vec<(u32, f64)>) {
    out.clear();
    // The greatest of them are sorted out whenever there are twice as many as are wanted. What is no greater than the
    // least of those has no place any more: among equals the first ones count, and they came before.
    let most = (2 * count).max(BLOCK);
    let mut least = None;
    for (block, logits) in row.chunks(BLOCK).enumerate() {
        if least.is_some_and(|least| !any_above(logits, least)) {
            continue;
        }
        for (place, logit) in logits.iter().enumerate() {
            let token = u32::try_from(block * BLOCK + place).expect("vocabularies have less than 2³¹ tokens");
            if least.is_some_and(|least| *logit <= least) || !may_take(token) {
                continue;
            }
            out.push((token, f64::from(*logit)));
            if out.len() == most {
                least = Some(row[keep_greatest(out, count) as usize]);
            }
        }
    }
    keep_greatest(out, count);
    out.sort_unstable_by(order);
}

/// Leaves the `count` greatest, in any order, of at least one. Gives the token of the least of them.
fn keep_greatest(tokens: &mut Vec<(u32, f64)>, count: usize) -> u32 {
    if count < tokens.len() {
        tokens.select_nth_unstable_by(count - 1, order);
        tokens.truncate(count);
    }
    tokens.last().map_or(0, |(token, _)| *token)
}

/// Draws a token as often as the softmax at this temperature says. `random` is in [0, 1).
pub(super) fn pick(row: &[f32], best: f32, temperature: f64, random: f64) -> Option<u32> {
    let weight = |logit: f32| exp((f64::from(logit) - f64::from(best)) / temperature);
    let weights: Vec<f64> = row.chunks(BLOCK).map(|logits| sum(logits, weight)).collect();
    let mut rest = random * weights.iter().sum::<f64>();
    for (block, logits) in row.chunks(BLOCK).enumerate() {
        if rest >= weights[block] {
            rest -= weights[block];
            continue;
        }
        for (place, logit) in logits.iter().enumerate() {
            rest -= weight(*logit);
            if rest < 0.0 {
                return u32::try_from(block * BLOCK + place).ok();
            }
        }
        // Rounding may leave a crumb: it belongs to the next token that has a chance.
    }
    let last = row.iter().rposition(|logit| weight(*logit) > 0.0);
    last.and_then(|position| u32::try_from(position).ok())
}

/// Whether any is greater than `least`. Without an early end, which would keep the processor from looking at several at a time.
fn any_above(numbers: &[f32], least: f32) -> bool {
    numbers.iter().fold(false, |seen, number| seen | (*number > least))
}

/// The greatest of numbers; negative infinity for none.
fn greatest_of(numbers: &[f32]) -> f32 {
    let greater = |left: f32, right: f32| if right > left { right } else { left };
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut best = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (best, number) in best.iter_mut().zip(chunk) {
            *best = greater(*best, *number);
        }
    }
    best.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, greater)
}

#[inline(always)]
fn sum(row: &[f32], function: impl Fn(f32) -> f64) -> f64 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, logit) in sums.iter_mut().zip(chunk) {
            *sum += function(*logit);
        }
    }
    sums.into_iter().chain(rest.iter().map(|logit| function(*logit))).sum()
}

/// The exponential of a number that is at most 0, to the last digit or the one before it. The library's takes one number
/// at a time, and a row has many.
///
/// A number is split into a whole multiple of ln 2 and a rest of at most half of that; the rest's exponential is the
/// first terms of its series, and the multiple goes into the exponent.
#[inline(always)]
fn exp(number: f64) -> f64 {
    // Below, the result would have no full precision; e⁻⁷⁰⁸ is nothing beside 1.
    const LEAST: f64 = -708.0;
    // Added to a number of moderate size, it leaves the nearest whole number in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // Their sum is ln 2, and a whole number of up to eleven bits times the first is exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // 1/n!, from n = 13 down to 2.
    const TERMS: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    let rounded = number * std::f64::consts::LOG2_E + ROUND;
    let multiple = rounded - ROUND;
    let rest = (number - multiple * LN_2_HIGH) - multiple * LN_2_LOW;
    let tail = TERMS.iter().fold(0.0, |sum, term| sum * rest + term);
    let series = 1.0 + (rest + rest * rest * tail);
    let exponent = rounded.to_bits() << 52;
    let result = f64::from_bits(series.to_bits().wrapping_add(exponent));
    if number < LEAST { 0.0 } else { result }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn random_row(seed: u64, size: usize) -> Vec<f32> {
        let mut random = StdRng::seed_from_u64(seed);
        (0..size).map(|_| (random.random::<f32>() - 0.5) * 40.0).collect()
    }

    #[test]
    fn exponentials_are_those_of_the_library() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!((exp(f64::NEG_INFINITY), exp(-1e300), exp(-709.0)), (0.0, 0.0, 0.0));
        let mut random = StdRng::seed_from_u64(1);
        for turn in 0..100_000 {
            let number = -random.random::<f64>() * if turn % 2 == 0 { 708.0 } else { 1.0 };
            let (ours, library) = (exp(number), number.exp());
            assert!((ours / library - 1.0).abs() < 4.0 * f64::EPSILON, "{number}: {ours} instead of {library}");
        }
    }

    #[test]
    fn sums_and_means_are_those_of_a_plain_loop() {
        for size in [1, 15, 16, 17, 1000, 151_936] {
            let row = random_row(size as u64, size);
            let best = best(&row).unwrap();
            assert_eq!(best, row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let plain: f64 = row.iter().map(|logit| f64::from(*logit - best).exp()).sum();
            assert!((log_sum_exp(&row, best) - f64::from(best) - plain.ln()).abs() < 1e-12);
            let plain = row.iter().map(|logit| f64::from(*logit)).sum::<f64>() / size as f64;
            assert!((mean(&row, f64::from) - plain).abs() < 1e-9);
        }
    }

    #[test]
    fn a_row_with_one_bad_logit_anywhere_is_refused() {
        for place in [0, 5, 63, 64, 99] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut row = random_row(1, 100);
                row[place] = bad;
                assert_eq!(best(&row), Err(SamplingError::NotFinite));
            }
        }
    }

    #[test]
    fn the_greatest_are_those_of_a_sorted_row_with_the_first_of_equals() {
        for (seed, size) in [(1, 10), (2, 64), (3, 1000), (4, 5000)] {
            let mut rows = vec![random_row(seed, size)];
            // Few values, many equals; and the greatest last, so that every token displaces one.
            rows.push(rows[0].iter().map(|logit| logit.round() / 8.0).map(f32::round).collect());
            rows.push({
                let mut ascending = rows[0].clone();
                ascending.sort_by(f32::total_cmp);
                ascending
            });
            for row in &rows {
                for count in [1, 2, 40, 63, 64, 65, 500] {
                    for taken in [1, 3] {
                        let may_take = |token: u32| token.is_multiple_of(taken);
                        let mut sorted: Vec<(u32, f64)> =
                            (0..).zip(row.iter().map(|logit| f64::from(*logit))).collect();
                        sorted.retain(|(token, _)| may_take(*token));
                        sorted.sort_by(order);
                        sorted.truncate(count);
                        let mut found = Vec::new();
                        greatest(row, count, may_take, &mut found);
                        assert_eq!(found, sorted, "{count} of {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_token_is_picked_where_a_plain_sum_would_pick_it() {
        let row = random_row(9, 3000);
        let best = best(&row).unwrap();
        let mut random = StdRng::seed_from_u64(2);
        for temperature in [0.3, 1.0, 20.0] {
            let weights: Vec<f64> = row.iter().map(|logit| (f64::from(*logit - best) / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            for _ in 0..300 {
                let drawn: f64 = random.random();
                let token = pick(&row, best, temperature, drawn).unwrap() as usize;
                let before: f64 = weights[..token].iter().sum();
                // A hair's breadth for rounding.
                let (from, to) = (before - 1e-6 * total, before + weights[token] + 1e-6 * total);
                assert!((from..to).contains(&(drawn * total)), "{token} at {drawn}");
            }
        }
    }

    #[test]
    fn tokens_without_a_chance_are_never_picked() {
        let mut row = vec![f32::NEG_INFINITY; 200];
        row[100] = 3.0;
        row[150] = 3.0;
        assert_eq!(pick(&row, 3.0, 1.0, 0.0), Some(100));
        assert_eq!(pick(&row, 3.0, 1.0, 0.499), Some(100));
        assert_eq!(pick(&row, 3.0, 1.0, 0.5), Some(150));
        assert_eq!(pick(&row, 3.0, 1.0, 1.0 - f64::EPSILON), Some(150));
        assert_eq!(pick(&row, 3.0, f64::MIN_POSITIVE, 0.999), Some(150));
    }
}
