//! Exact rational numbers as people and models write them.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Longer numbers are left as text: nothing that is counted on needs more, and division is quadratic.
const MAX_BYTES: usize = 400;

/// Exponents beyond this are not expanded.
const MAX_EXPONENT: i64 = 400;

/// Powers of an integer beyond so many bits are not expanded.
const MAX_POWER_BITS: u64 = 2048;

/// A denominator that needs more decimals than this is written as a fraction.
const MAX_DECIMALS: u32 = 12;

/// Reads a number that is the whole of `text`: an integer, a decimal, thousands separators, a fraction
/// (`1/2`, `\frac{1}{2}`, `\frac12`), a mixed number (`1 1/2`, `1\frac12`) or a power of ten
/// (`1e5`, `3×10^{5}`). `None` for anything else, for a denominator of zero and for oversized numbers.
pub(super) fn rational(text: &str) -> Option<BigRational> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = unsigned(text)?;
    Some(if negative { -value } else { value })
}

/// The one way a number is written as a class label: an integer, a short decimal, or a reduced fraction.
pub(super) fn label(value: &BigRational) -> String {
    if value.is_integer() {
        return value.numer().to_string();
    }
    match decimals(value.denom()) {
        Some(places) => {
            let scale = BigInt::from(10).pow(places);
            let scaled = (value * &scale).to_integer();
            let digits = format!("{:0>1$}", scaled.abs().to_string(), places as usize + 1);
            let (whole, fraction) = digits.split_at(digits.len() - places as usize);
            let sign = if scaled.is_negative() { "-" } else { "" };
            format!("{sign}{whole}.{fraction}")
        }
        None => format!("{}/{}", value.numer(), value.denom()),
    }
}

/// How many decimals a reduced fraction with this denominator has, where they end soon.
fn decimals(denominator: &BigInt) -> Option<u32> {
    let mut rest = denominator.to_u64()?;
    let (mut twos, mut fives) = (0, 0);
    while rest.is_multiple_of(2) {
        rest /= 2;
        twos += 1;
    }
    while rest.is_multiple_of(5) {
        rest /= 5;
        fives += 1;
    }
    let places = twos.max(fives);
    (rest == 1 && places <= MAX_DECIMALS).then_some(places)
}

fn unsigned(text: &str) -> Option<BigRational> {
    if let Some(at) = text.find("\\frac") {
        let fraction = latex_fraction(&text[at..])?;
        let whole = text[..at].trim();
        return if whole.is_empty() { Some(fraction) } else { Some(digits(whole)? + proper(fraction)?) };
    }
    if let Some((numerator, denominator)) = text.split_once('/') {
        let denominator = decimal(denominator.trim())?;
        let numerator = numerator.trim();
        if denominator.is_zero() {
            return None;
        }
        // A mixed number is digits, white space, then a proper fraction.
        return match numerator.split_once(' ') {
            None => Some(decimal(numerator)? / denominator),
            Some((whole, numerator)) => Some(digits(whole)? + proper(digits(numerator.trim_start())? / denominator)?),
        };
    }
    if let Some((mantissa, power)) = text.split_once(['×', '*']) {
        let exponent = power.trim().strip_prefix("10^")?;
        let exponent = exponent.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(exponent);
        return Some(decimal(mantissa.trim())? * power_of_ten(exponent.trim().parse().ok()?)?);
    }
    if let Some((base, power)) = text.split_once('^') {
        return integer_power(base.trim(), power.trim());
    }
    decimal(text)
}

/// `2^10` or `10^{-3}`.
fn integer_power(base: &str, power: &str) -> Option<BigRational> {
    let power = power.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(power).trim();
    let exponent: i32 = power.parse().ok().filter(|_| !power.starts_with('+'))?;
    let base = digits(base)?;
    let long = base.numer().bits().saturating_mul(u64::from(exponent.unsigned_abs())) > MAX_POWER_BITS;
    // Zero has no reciprocal, and nought to the nought is left as it is written.
    (!long && (exponent > 0 || !base.is_zero())).then(|| base.pow(exponent))
}

fn proper(fraction: BigRational) -> Option<BigRational> {
    (!fraction.is_negative() && fraction < BigRational::one()).then_some(fraction)
}

/// `\frac{a}{b}` or, with single digits, `\frac12`, and nothing after it.
fn latex_fraction(text: &str) -> Option<BigRational> {
    let rest = text.strip_prefix("\\frac")?;
    let (numerator, rest) = latex_argument(rest)?;
    let (denominator, rest) = latex_argument(rest)?;
    let (numerator, denominator) = (signed_decimal(numerator)?, signed_decimal(denominator)?);
    (rest.trim().is_empty() && !denominator.is_zero()).then(|| numerator / denominator)
}

fn latex_argument(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}').map(|(argument, rest)| (argument.trim(), rest)),
        None => text.starts_with(|first: char| first.is_ascii_digit()).then(|| text.split_at(1)),
    }
}

fn signed_decimal(text: &str) -> Option<BigRational> {
    match text.strip_prefix('-') {
        Some(rest) => decimal(rest.trim_start()).map(|value| -value),
        None => decimal(text),
    }
}

/// An unsigned decimal, with thousands separators and an exponent or without.
fn decimal(text: &str) -> Option<BigRational> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            exponent.bytes().next_back().filter(u8::is_ascii_digit)?;
            (mantissa, exponent.parse::<i64>().ok()?)
        }
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut all = without_separators(whole)?;
    all.push_str(fraction);
    let scale = power_of_ten(exponent.checked_sub(fraction.len() as i64)?)?;
    Some(BigRational::from_integer(all.parse().ok()?) * scale)
}

fn digits(text: &str) -> Option<BigRational> {
    text.parse::<BigInt>()
        .ok()
        .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
        .map(BigRational::from_integer)
}

/// Drops thousands separators, which stand before every group of three digits or nowhere.
fn without_separators(whole: &str) -> Option<String> {
    if whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(whole.to_owned());
    }
    // `10 000` and `10,000`; the point is taken for decimals.
    let mut groups = whole.split(if whole.contains(',') { ',' } else { ' ' });
    let first = groups.next()?;
    let well_formed = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=3).contains(&first.len()) || first.starts_with('0') || !well_formed(first) {
        return None;
    }
    let mut all = first.to_owned();
    for group in groups {
        if group.len() != 3 || !well_formed(group) {
            return None;
        }
        all.push_str(group);
    }
    Some(all)
}

fn power_of_ten(exponent: i64) -> Option<BigRational> {
    if exponent.abs() > MAX_EXPONENT {
        return None;
    }
    if exponent == 0 {
        return Some(BigRational::one());
    }
    let power = BigRational::from_integer(BigInt::from(10).pow(exponent.unsigned_abs() as u32));
    Some(if exponent < 0 { power.recip() } else { power })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        rational(text).map(|value| label(&value))
    }

    #[test]
    fn the_ways_of_writing_one_half_agree() {
        for text in
            ["1/2", "0.5", ".5", "0.50", "\\frac{1}{2}", "\\frac12", "2/4", "5e-1", "\\frac{ 1 }{ 2 }", "0.1/0.2"]
        {
            assert_eq!(read(text).as_deref(), Some("0.5"), "{text}");
        }
    }

    #[test]
    fn numbers_are_exact_and_reduced() {
        for (text, expected) in [
            ("1,234,567.890", "1234567.89"),
            ("-6/4", "-1.5"),
            ("10/30", "1/3"),
            ("\\frac{-7}{3}", "-7/3"),
            ("1 1/2", "1.5"),
            ("-2\\frac{1}{4}", "-2.25"),
            ("3×10^{5}", "300000"),
            ("1.5e3", "1500"),
            ("007", "7"),
            ("-0", "0"),
            ("-0.05", "-0.05"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_single_number_is_left_alone() {
        for text in [
            "",
            "-",
            "1/0",
            "\\frac{1}{0}",
            "1,2",
            "1,23,456",
            "0,123",
            "1/2/3",
            "1 3/2",
            "x",
            "1e",
            "1e9999",
            "2 3",
            "--1",
            "1/-2",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read(&"9".repeat(401)), None);
    }
}
