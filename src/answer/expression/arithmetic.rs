//! Exact arithmetic on sums of terms: a rational times powers of atoms. Two equal sums of rationals, surds, π and
//! variables are one and the same map, since products of primes to powers between 0 and 1 are independent over the
//! rationals (Besicovitch 1940).

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::surd;
use super::{MAX_BITS, Steps};

/// A sum of more terms is not multiplied out.
const MAX_TERMS: usize = 120;

/// The highest power of a sum of several terms that is multiplied out.
const MAX_EXPANDED_POWER: u32 = 12;

/// What a term is made of besides its rational number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Atom {
    /// A prime number (or a large one that was not factored), to a power between 0 and 1.
    Prime(BigInt),
    Symbol(String),
    /// A function's value or a power that is no number, by its printed form.
    Opaque(String),
    /// A sum of several terms below a root or a line.
    Nested(Sum),
}

/// The atoms of a term with their powers, none of which is zero.
pub(super) type Monomial = BTreeMap<Atom, BigRational>;

/// Terms by their atoms, none of whose rationals is zero. The empty sum is zero.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Sum(pub BTreeMap<Monomial, BigRational>);

impl Sum {
    pub fn number(value: BigRational) -> Self {
        Self::term(value, Monomial::new())
    }

    pub fn atom(atom: Atom) -> Self {
        Self::term(BigRational::one(), Monomial::from([(atom, BigRational::one())]))
    }

    pub fn term(value: BigRational, atoms: Monomial) -> Self {
        let mut sum = Self::default();
        sum.add_term(value, atoms);
        sum
    }

    /// The rational that the sum is, where it is one.
    pub fn rational(&self) -> Option<BigRational> {
        match self.0.len() {
            0 => Some(BigRational::zero()),
            1 => self.0.get(&Monomial::new()).cloned(),
            _ => None,
        }
    }

    pub fn single(&self) -> Option<(&Monomial, &BigRational)> {
        self.0.iter().next().filter(|_| self.0.len() == 1)
    }

    fn add_term(&mut self, value: BigRational, atoms: Monomial) {
        let total = self.0.remove(&atoms).unwrap_or_else(BigRational::zero) + value;
        if !total.is_zero() {
            self.0.insert(atoms, total);
        }
    }

    pub fn scaled(mut self, factor: &BigRational) -> Self {
        self.0.values_mut().for_each(|value| *value *= factor);
        if factor.is_zero() { Self::default() } else { self }
    }

    pub fn plus(mut self, other: Self, steps: &mut Steps) -> Option<Self> {
        steps.take(other.0.len() + 1)?;
        for (atoms, value) in other.0 {
            self.add_term(value, atoms);
        }
        self.bounded()
    }

    pub fn times(&self, other: &Self, steps: &mut Steps) -> Option<Self> {
        // A whole sum cancels against itself below the line.
        for (one, two) in [(self, other), (other, self)] {
            if let Some(quotient) = one.cancelled(two, steps) {
                return Some(quotient);
            }
        }
        let mut product = Self::default();
        for (atoms, value) in &self.0 {
            for (more_atoms, more_value) in &other.0 {
                steps.take(1 + atoms.len() + more_atoms.len())?;
                for (atoms, value) in merged(value * more_value, atoms, more_atoms, steps)?.0 {
                    product.add_term(value, atoms);
                }
                if product.0.len() > MAX_TERMS {
                    return None;
                }
            }
        }
        product.bounded()
    }

    /// `sum · 1/sum`, where `other` is one term that holds this sum below the line.
    fn cancelled(&self, other: &Self, steps: &mut Steps) -> Option<Self> {
        let (atoms, value) = other.single().filter(|_| self.0.len() > 1)?;
        steps.take(self.0.len())?;
        let (content, primitive) = self.primitive(true)?;
        let atom = Atom::Nested(primitive);
        let power = atoms.get(&atom).filter(|power| power <= &&-BigRational::one())? + BigRational::one();
        let mut rest = atoms.clone();
        rest.remove(&atom);
        if !power.is_zero() {
            rest.insert(atom, power);
        }
        Some(Self::term(value * content, rest))
    }

    fn bounded(self) -> Option<Self> {
        let small = |value: &BigRational| value.numer().bits() <= MAX_BITS && value.denom().bits() <= MAX_BITS;
        (self.0.len() <= MAX_TERMS && self.0.values().all(small)).then_some(self)
    }

    /// The sum to a whole power.
    pub fn to_integer(&self, power: i64, steps: &mut Steps) -> Option<Self> {
        if power < 0 {
            return self.inverse(steps)?.to_integer(power.checked_neg()?, steps);
        }
        if let Some((atoms, value)) = self.single() {
            let bits = (value.numer().bits() + value.denom().bits()).saturating_sub(2).max(1);
            if power.unsigned_abs().saturating_mul(bits) > MAX_BITS && !value.abs().is_one() {
                return None;
            }
            let factor = BigRational::from_integer(power.into());
            let raised = atoms.iter().map(|(atom, exponent)| (atom.clone(), exponent * &factor));
            let raised = raised.filter(|(_, exponent)| !exponent.is_zero()).collect();
            let value = num_traits::pow(value.clone(), usize::try_from(power).ok().filter(|power| *power <= 100_000)?);
            return merged(value, &raised, &Monomial::new(), steps);
        }
        // Nought to the nought is left as it is written.
        if self.0.is_empty() {
            return (power > 0).then(Self::default);
        }
        let power = u32::try_from(power).ok().filter(|power| *power <= MAX_EXPANDED_POWER)?;
        let mut product = Self::number(BigRational::one());
        for _ in 0..power {
            product = product.times(self, steps)?;
        }
        Some(product)
    }

    /// `None` for zero.
    fn inverse(&self, steps: &mut Steps) -> Option<Self> {
        if let Some((atoms, value)) = self.single() {
            let inverted = atoms.iter().map(|(atom, exponent)| (atom.clone(), -exponent)).collect();
            return merged(value.recip(), &inverted, &Monomial::new(), steps);
        }
        if let Some(inverse) = self.rationalised(steps) {
            return Some(inverse);
        }
        let common = self.common_symbols();
        let inverted: Monomial = common.iter().map(|(atom, exponent)| (atom.clone(), -exponent)).collect();
        let rest = self.times(&Self::term(BigRational::one(), inverted.clone()), steps)?;
        let (content, primitive) = rest.primitive(true)?;
        let below = Self::term(content.recip(), Monomial::from([(Atom::Nested(primitive), -BigRational::one())]));
        below.times(&Self::term(BigRational::one(), inverted), steps)
    }

    /// The inverse of a sum of square roots without roots below the line: each prime in turn is cleared by the
    /// conjugate in which its root has the other sign.
    fn rationalised(&self, steps: &mut Steps) -> Option<Self> {
        let half = BigRational::new(1.into(), 2.into());
        let mut below = self.clone();
        let mut above = Self::number(BigRational::one());
        for _ in 0..4 {
            let mut prime = None;
            for (atom, power) in below.0.keys().flatten() {
                if !matches!(atom, Atom::Prime(_)) || *power != half {
                    return None;
                }
                prime = Some(atom.clone());
            }
            let Some(prime) = prime else { break };
            let mut conjugate = below.clone();
            for (atoms, value) in &mut conjugate.0 {
                if atoms.contains_key(&prime) {
                    *value = -value.clone();
                }
            }
            below = below.times(&conjugate, steps)?;
            above = above.times(&conjugate, steps)?;
        }
        let below = below.rational().filter(|value| !value.is_zero())?;
        above.scaled(&below.recip()).bounded()
    }

    /// The symbols that every term has, to the power that they all have.
    fn common_symbols(&self) -> Monomial {
        let mut terms = self.0.keys();
        let mut common: Monomial = terms.next().cloned().unwrap_or_default();
        common.retain(|atom, power| matches!(atom, Atom::Symbol(_)) && power.is_integer());
        for atoms in terms {
            common.retain(|atom, _| atoms.get(atom).is_some_and(BigRational::is_integer));
            for (atom, power) in &mut common {
                *power = power.clone().min(atoms[atom].clone());
            }
        }
        common.retain(|_, power| !power.is_zero());
        common
    }

    /// The sum as a rational times a sum of coprime integers, whose last term is positive where `signed`; without it
    /// the rational is positive. `None` for zero.
    pub fn primitive(&self, signed: bool) -> Option<(BigRational, Self)> {
        let (_, last) = self.0.iter().next_back()?;
        let mut numerators = BigInt::zero();
        let mut denominators = BigInt::one();
        for value in self.0.values() {
            numerators = greatest_common_divisor(numerators, value.numer().abs());
            let shared = greatest_common_divisor(denominators.clone(), value.denom().clone());
            denominators *= value.denom() / shared;
            if denominators.bits() > MAX_BITS {
                return None;
            }
        }
        let mut content = BigRational::new(numerators, denominators);
        if signed && last.is_negative() {
            content = -content;
        }
        Some((content.clone(), self.clone().scaled(&content.recip())))
    }

    /// The sum to a power that is no whole number. `None` for an even root of a negative number.
    pub fn to_fraction(&self, power: &BigRational, steps: &mut Steps) -> Option<Self> {
        if self.0.is_empty() {
            return power.is_positive().then(Self::default);
        }
        let Some((atoms, value)) = self.single() else {
            let (content, primitive) = self.primitive(false)?;
            let nested = Monomial::from([(Atom::Nested(primitive), power.clone())]);
            let nested = merged(BigRational::one(), &nested, &Monomial::new(), steps)?;
            return surd::power(&content, power, steps)?.times(&nested, steps);
        };
        let positive = |atom: &Atom| match atom {
            Atom::Prime(_) => true,
            Atom::Symbol(name) => matches!(name.as_str(), "pi" | "e"),
            Atom::Opaque(_) | Atom::Nested(_) => false,
        };
        let (outside, inside): (Monomial, Monomial) = atoms.clone().into_iter().partition(|(atom, _)| positive(atom));
        let mut result = surd::power(&value.abs(), power, steps)?;
        let raised = outside.into_iter().map(|(atom, exponent)| (atom, exponent * power)).collect();
        result = result.times(&merged(BigRational::one(), &raised, &Monomial::new(), steps)?, steps)?;
        if inside.is_empty() {
            return value.is_positive().then_some(result);
        }
        // (x^a)^b is x^(ab) on the principal branch where -1 < a <= 1.
        let one = BigRational::one();
        let mut alone = inside.iter();
        let branch = alone.next().filter(|(_, exponent)| **exponent > -&one && **exponent <= one);
        let kept = match branch.filter(|_| alone.next().is_none() && value.is_positive()) {
            Some((atom, exponent)) => Monomial::from([(atom.clone(), exponent * power)]),
            None => {
                let sign = if value.is_negative() { -one } else { one };
                Monomial::from([(Atom::Nested(Self::term(sign, inside)), power.clone())])
            }
        };
        result.times(&merged(BigRational::one(), &kept, &Monomial::new(), steps)?, steps)
    }
}

fn greatest_common_divisor(mut one: BigInt, mut other: BigInt) -> BigInt {
    while !other.is_zero() {
        (one, other) = (other.clone(), one % other);
    }
    one
}

/// The product of two terms, with whole powers of primes in the number and whole powers of sums multiplied out.
fn merged(value: BigRational, one: &Monomial, other: &Monomial, steps: &mut Steps) -> Option<Sum> {
    let mut value = value;
    let mut atoms = one.clone();
    for (atom, power) in other {
        let total = atoms.remove(atom).unwrap_or_else(BigRational::zero) + power;
        if !total.is_zero() {
            atoms.insert(atom.clone(), total);
        }
    }
    let mut whole: Vec<(Sum, i64)> = Vec::new();
    let mut kept = Monomial::new();
    for (atom, power) in atoms {
        let (floor, fraction) = (power.floor(), power.fract());
        let floor = floor.to_integer().to_i64()?;
        match &atom {
            Atom::Prime(prime) if floor != 0 => {
                if prime.bits().saturating_mul(floor.unsigned_abs()) > MAX_BITS {
                    return None;
                }
                let factor = prime.pow(u32::try_from(floor.unsigned_abs()).ok()?);
                let factor = BigRational::from_integer(factor);
                value *= if floor < 0 { factor.recip() } else { factor };
                let fraction = power - BigRational::from_integer(floor.into());
                if !fraction.is_zero() {
                    kept.insert(atom, fraction);
                }
            }
            Atom::Nested(sum) if floor > 0 => {
                whole.push((sum.clone(), floor));
                if !fraction.is_zero() {
                    kept.insert(atom, fraction);
                }
            }
            _ => {
                kept.insert(atom, power);
            }
        }
    }
    let mut result = Sum::term(value, kept).bounded()?;
    for (sum, power) in whole {
        steps.take(sum.0.len())?;
        result = result.times(&sum.to_integer(power, steps)?, steps)?;
    }
    Some(result)
}
