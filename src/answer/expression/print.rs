//! The one spelling of a sum, which is read back as itself.

use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

use super::super::rational::label;
use super::arithmetic::{Atom, Monomial, Sum};

/// Terms from the highest degree down, with explicit signs of multiplication: `x^2/2-4*x+sqrt(2)`.
pub(super) fn sum(sum: &Sum) -> String {
    if let Some(value) = sum.rational() {
        return label(&value);
    }
    let mut terms: Vec<(&Monomial, &BigRational)> = sum.0.iter().collect();
    terms.sort_by_cached_key(|(atoms, _)| (std::cmp::Reverse(degree(atoms)), atoms.is_empty(), (*atoms).clone()));
    let mut text = String::new();
    for (atoms, value) in terms {
        let sign = if value.is_negative() { "-" } else { "+" };
        if !(text.is_empty() && sign == "+") {
            text.push_str(sign);
        }
        text.push_str(&term(atoms, &value.abs()));
    }
    text
}

fn degree(atoms: &Monomial) -> BigRational {
    let symbols = atoms.iter().filter(|(atom, _)| !matches!(atom, Atom::Prime(_)));
    symbols.fold(BigRational::zero(), |total, (_, power)| total + power)
}

fn term(atoms: &Monomial, value: &BigRational) -> String {
    if atoms.is_empty() {
        return label(value);
    }
    let mut above = Vec::new();
    let mut below = Vec::new();
    if !value.numer().is_one() {
        above.push(value.numer().to_string());
    }
    if !value.denom().is_one() {
        below.push(value.denom().to_string());
    }
    // Primes to one power stand below one root.
    let mut roots: Vec<(BigRational, num_bigint::BigInt)> = Vec::new();
    for (atom, power) in atoms {
        match atom {
            Atom::Prime(prime) => match roots.iter_mut().find(|(other, _)| other == power) {
                Some((_, product)) => *product *= prime,
                None => roots.push((power.clone(), prime.clone())),
            },
            _ if power.is_negative() => below.push(factor(atom, &-power)),
            _ => above.push(factor(atom, power)),
        }
    }
    for (power, product) in roots {
        above.push(raised(&product.to_string(), &power, true));
    }
    let above = if above.is_empty() { "1".to_owned() } else { above.join("*") };
    match below.as_slice() {
        [] => above,
        [only] => format!("{above}/{only}"),
        _ => format!("{above}/({})", below.join("*")),
    }
}

fn factor(atom: &Atom, power: &BigRational) -> String {
    match atom {
        Atom::Prime(prime) => raised(&prime.to_string(), power, true),
        Atom::Symbol(name) => raised(name, power, false),
        Atom::Opaque(printed) if power.is_one() => printed.clone(),
        Atom::Opaque(printed) => raised(&format!("({printed})"), power, false),
        Atom::Nested(inner) if power.is_one() => format!("({})", sum(inner)),
        Atom::Nested(inner) => {
            let inner = sum(inner);
            if *power == BigRational::new(1.into(), 2.into()) {
                format!("sqrt({inner})")
            } else {
                raised(&format!("({inner})"), power, false)
            }
        }
    }
}

fn raised(base: &str, power: &BigRational, number: bool) -> String {
    if power.is_one() {
        return base.to_owned();
    }
    if number && *power == BigRational::new(1.into(), 2.into()) {
        return format!("sqrt({base})");
    }
    let printed = power.to_string();
    let digit = printed.len() == 1 && printed.bytes().all(|byte| byte.is_ascii_digit());
    if digit { format!("{base}^{printed}") } else { format!("{base}^({printed})") }
}
