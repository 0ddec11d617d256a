//! Powers of rational numbers, in primes.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::arithmetic::{Atom, Monomial, Sum};
use super::{MAX_BITS, Steps};

/// Prime factors up to this are found by trial.
const TRIAL_LIMIT: u32 = 2_000;

/// A positive rational to a rational power: a rational times primes to powers between 0 and 1. `None` where that is not
/// worked out.
pub(super) fn power(value: &BigRational, power: &BigRational, steps: &mut Steps) -> Option<Sum> {
    if !value.is_positive() {
        return None;
    }
    let mut outside = BigRational::one();
    let mut atoms = Monomial::new();
    for (number, sign) in [(value.numer(), 1), (value.denom(), -1)] {
        for (prime, count) in factors(number, steps)? {
            let total = power * BigRational::from_integer(BigInt::from(i64::from(count) * sign));
            let total = total + atoms.remove(&Atom::Prime(prime.clone())).unwrap_or_else(BigRational::zero);
            let whole = total.floor().to_integer();
            let fraction = total - BigRational::from_integer(whole.clone());
            let exponent = whole.to_i32()?;
            if prime.bits().saturating_mul(u64::from(exponent.unsigned_abs())) > MAX_BITS {
                return None;
            }
            outside *= BigRational::from_integer(prime.clone()).pow(exponent);
            if !fraction.is_zero() {
                atoms.insert(Atom::Prime(prime), fraction);
            }
        }
    }
    Some(Sum::term(outside, atoms))
}

/// The prime factors of a positive integer with their counts. What trial division leaves of a large one stands as it
/// is, or as the root of which it is a perfect power.
fn factors(number: &BigInt, steps: &mut Steps) -> Option<Vec<(BigInt, u32)>> {
    let mut rest = number.clone();
    let mut found = Vec::new();
    let mut candidate = 2_u32;
    while candidate <= TRIAL_LIMIT && BigInt::from(candidate) * candidate <= rest {
        // A division of many digits is many steps.
        steps.take(1 + rest.bits() as usize / 64)?;
        let mut count = 0;
        while (&rest % candidate).is_zero() {
            rest /= candidate;
            count += 1;
        }
        if count > 0 {
            found.push((BigInt::from(candidate), count));
        }
        candidate += if candidate == 2 { 1 } else { 2 };
    }
    if rest.is_one() {
        return Some(found);
    }
    for degree in [2_u32, 3, 5] {
        steps.take(1 + rest.bits() as usize / 8)?;
        let root = rest.nth_root(degree);
        if root.pow(degree) == rest {
            // The root of a perfect power may be one itself, up to the bits that the number has.
            let deeper = factors(&root, steps)?;
            found.extend(deeper.into_iter().map(|(prime, count)| (prime, count * degree)));
            return Some(found);
        }
    }
    found.push((rest, 1));
    Some(found)
}
