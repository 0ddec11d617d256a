//! Comparing two expressions by their values at a few seeded points.

use num_traits::ToPrimitive;

use super::tree::Tree;

/// The relative difference up to which two values are one.
const TOLERANCE: f64 = 1e-6;

/// How many points two expressions with variables are compared at.
const POINTS: u64 = 6;

/// What a comparison by values says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::answer) enum Closeness {
    Close,
    Apart,
    /// A value is no real number, or the function is not known.
    Unknown,
}

/// Compares two expressions at six points, which are the same in every run. Variables are real and positive there; a
/// point where either side has no real value is left out, and half of them must be left.
pub(in crate::answer) fn compare(one: &Tree, other: &Tree) -> Closeness {
    let points = if one.is_constant() && other.is_constant() { 1 } else { POINTS };
    let mut compared = 0;
    for point in 0..points {
        let (Some(left), Some(right)) = (value(one, point), value(other, point)) else { continue };
        if !left.is_finite() || !right.is_finite() {
            continue;
        }
        if (left - right).abs() > TOLERANCE * left.abs().max(right.abs()) {
            return Closeness::Apart;
        }
        compared += 1;
    }
    if compared * 2 >= points { Closeness::Close } else { Closeness::Unknown }
}

/// The value at a seeded point, `None` where it is not known how to get it.
pub(in crate::answer) fn value(tree: &Tree, point: u64) -> Option<f64> {
    let at = |tree: &Tree| value(tree, point);
    Some(match tree {
        Tree::Number(value) => value.to_f64()?,
        Tree::Symbol(name) => match name.as_str() {
            "pi" => std::f64::consts::PI,
            "e" => std::f64::consts::E,
            name => seeded(name, point),
        },
        Tree::Sum(parts) => parts.iter().map(at).sum::<Option<f64>>()?,
        Tree::Product(factors) => factors.iter().map(at).product::<Option<f64>>()?,
        Tree::Power(base, exponent) => at(base)?.powf(at(exponent)?),
        Tree::Root(index, radicand) => {
            let radicand = at(radicand)?;
            let root = radicand.abs().powf(1.0 / f64::from(*index));
            if radicand >= 0.0 {
                root
            } else if index % 2 == 1 {
                -root
            } else {
                f64::NAN
            }
        }
        Tree::Factorial(inner) => {
            let n = at(inner)?;
            if n < 0.0 || n.fract() != 0.0 || n > 170.0 {
                return None;
            }
            (2..=n as u32).fold(1.0, |product, factor| product * f64::from(factor))
        }
        Tree::Call(name, arguments) => {
            let [argument] = arguments.as_slice() else { return None };
            let x = at(argument)?;
            match name.as_str() {
                "sin" => x.sin(),
                "cos" => x.cos(),
                "tan" => x.tan(),
                "cot" => x.tan().recip(),
                "sec" => x.cos().recip(),
                "csc" => x.sin().recip(),
                "arcsin" => x.asin(),
                "arccos" => x.acos(),
                "arctan" => x.atan(),
                "sinh" => x.sinh(),
                "cosh" => x.cosh(),
                "tanh" => x.tanh(),
                "ln" => x.ln(),
                "lg" => x.log10(),
                "exp" => x.exp(),
                "abs" => x.abs(),
                name => {
                    let base: f64 = name.strip_prefix("log_{")?.strip_suffix('}')?.parse().ok()?;
                    x.ln() / base.ln()
                }
            }
        }
        _ => return None,
    })
}

/// A number from 0.5 to 2.5 that belongs to a name and a point.
fn seeded(name: &str, point: u64) -> f64 {
    // FNV-1a, then the finisher of SplitMix64.
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325 ^ point.wrapping_mul(0x9e37_79b9_7f4a_7c15), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^= state >> 31;
    0.5 + 2.0 * (state >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn compared(one: &str, other: &str) -> Closeness {
        let tree = |text: &str| read(text).unwrap_or_else(|| panic!("{text} is an expression"));
        compare(&tree(one), &tree(other))
    }

    #[test]
    fn identities_hold_at_every_point() {
        assert_eq!(compared("\\sin^2 x + \\cos^2 x", "\\frac{x}{x}"), Closeness::Close);
        assert_eq!(compared("\\ln(a*b)", "\\ln a + \\ln b"), Closeness::Close);
        assert_eq!(compared("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"), Closeness::Close);
        assert_eq!(compared("x+1", "x+2"), Closeness::Apart);
        assert_eq!(compared("x+1", "y+1"), Closeness::Apart);
        assert_eq!(compared("2\\pi", "6.2831853"), Closeness::Close);
        assert_eq!(compared("2\\pi", "6.28"), Closeness::Apart);
    }

    #[test]
    fn what_is_not_known_is_not_claimed() {
        assert_eq!(compared("2f(x)", "2f(x)+0"), Closeness::Unknown);
        assert_eq!(compared("\\sqrt{0-x}", "\\sqrt{0-x}"), Closeness::Unknown);
    }
}
