//! The key of an expression: one for all that are the same by exact arithmetic.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive};

use super::arithmetic::{Atom, Sum};
use super::tree::{Brackets, Comparison, Tree};
use super::{Steps, print, surd};

/// Factorials of greater numbers are not worked out.
const MAX_FACTORIAL: u32 = 170;

/// The key of a tree, itself an expression with that key. `None` where there is no value (`1/0`, `0^0`, the square root
/// of a negative number), where parts do not belong together, or where it takes too much work.
pub(in crate::answer) fn key(tree: &Tree) -> Option<String> {
    key_within(tree, &mut Steps::new())
}

pub(super) fn key_within(tree: &Tree, steps: &mut Steps) -> Option<String> {
    spelled(lone_value(tree).unwrap_or(tree), steps)
}

/// What a lone variable equals, whichever side it stands on. In a list (`x = 1, y = 2`) the names count.
fn lone_value(tree: &Tree) -> Option<&Tree> {
    let Tree::Relation(sides, comparisons) = tree else { return None };
    let ([left, right], [Comparison::Equal]) = (sides.as_slice(), comparisons.as_slice()) else { return None };
    let value_of = |name: &Tree, other: &Tree| matches!(name, Tree::Symbol(symbol) if !name.is_constant() && !other.mentions(symbol));
    [(left, right), (right, left)].into_iter().find(|(name, other)| value_of(name, other)).map(|(_, other)| other)
}

/// The difference of two sides in coprime integers and with one sign, so that an equation's is the same however it is
/// multiplied and arranged.
pub(in crate::answer) fn difference(left: &Tree, right: &Tree) -> Option<String> {
    let mut steps = Steps::new();
    let left = sum(left, &mut steps)?;
    let right = sum(right, &mut steps)?.scaled(&-BigRational::one());
    let difference = left.plus(right, &mut steps)?;
    difference.primitive(true).map(|(_, primitive)| print::sum(&primitive))
}

fn spelled(tree: &Tree, steps: &mut Steps) -> Option<String> {
    match tree {
        Tree::List(brackets, items) => list(*brackets, items, steps),
        Tree::Union(parts) => {
            let parts: Option<BTreeSet<String>> = parts.iter().map(|part| spelled(part, steps)).collect();
            Some(parts?.into_iter().collect::<Vec<_>>().join("\\cup "))
        }
        Tree::Relation(sides, comparisons) => relation(sides, comparisons, steps),
        Tree::PlusMinus(centre, offset) => {
            let centre = sum(centre, steps)?;
            let (content, primitive) = sum(offset, steps)?.primitive(true)?;
            let offset = print::sum(&primitive.scaled(&content.abs()));
            let centre = if centre.0.is_empty() { String::new() } else { print::sum(&centre) };
            // Without a product sign after it, the offset is one term or stands in brackets.
            let joined = offset.get(1..).is_some_and(|rest| rest.contains(['+', '-']));
            Some(if joined { format!("{centre}\\pm ({offset})") } else { format!("{centre}\\pm {offset}") })
        }
        Tree::Infinity => Some("\\infty".to_owned()),
        Tree::Product(factors) if matches!(factors.as_slice(), [Tree::Number(value), Tree::Infinity] if *value == -BigRational::one()) => {
            Some("-\\infty".to_owned())
        }
        Tree::Matrix(_) | Tree::Product(_) | Tree::Sum(_) => match value(tree, steps)? {
            Value::Sum(sum) => Some(print::sum(&sum)),
            Value::Matrix(rows) => {
                let rows: Vec<String> =
                    rows.iter().map(|row| row.iter().map(print::sum).collect::<Vec<_>>().join("&")).collect();
                Some(format!("\\begin{{matrix}}{}\\end{{matrix}}", rows.join("\\\\")))
            }
        },
        _ => sum(tree, steps).map(|sum| print::sum(&sum)),
    }
}

fn list(brackets: Brackets, items: &[Tree], steps: &mut Steps) -> Option<String> {
    let mut keys: Vec<String> = items.iter().map(|item| spelled(item, steps)).collect::<Option<_>>()?;
    Some(match brackets {
        // A comma without a space may separate thousands.
        Brackets::Bare => keys.join(", "),
        Brackets::Around(open, close) => format!("{open}{}{close}", keys.join(",")),
        Brackets::Set { .. } => {
            keys.sort();
            keys.dedup();
            if keys.is_empty() { "\\emptyset".to_owned() } else { format!("\\{{{}\\}}", keys.join(",")) }
        }
    })
}

fn relation(sides: &[Tree], comparisons: &[Comparison], steps: &mut Steps) -> Option<String> {
    let mut keys: Vec<String> = sides.iter().map(|side| spelled(side, steps)).collect::<Option<_>>()?;
    let mut comparisons = comparisons.to_vec();
    let greater = |comparison: &Comparison| matches!(comparison, Comparison::Greater | Comparison::GreaterOrEqual);
    if comparisons.iter().any(greater) {
        keys.reverse();
        comparisons.reverse();
        comparisons.iter_mut().for_each(|comparison| *comparison = comparison.flipped());
        // `1 < x > 0` is no chain.
        if comparisons.iter().any(greater) {
            return None;
        }
    }
    if let ([Comparison::Equal | Comparison::Unequal], [left, right]) = (comparisons.as_slice(), sides) {
        let constant = [left.is_constant(), right.is_constant()];
        if constant == [true, false] || constant[0] == constant[1] && keys[0] > keys[1] {
            keys.reverse();
        }
    }
    let mut text = keys.first()?.clone();
    for (comparison, key) in comparisons.iter().zip(&keys[1..]) {
        text.push_str(comparison.spelling());
        text.push_str(key);
    }
    Some(text)
}

enum Value {
    Sum(Sum),
    Matrix(Vec<Vec<Sum>>),
}

fn sum(tree: &Tree, steps: &mut Steps) -> Option<Sum> {
    match value(tree, steps)? {
        Value::Sum(sum) => Some(sum),
        Value::Matrix(_) => None,
    }
}

fn value(tree: &Tree, steps: &mut Steps) -> Option<Value> {
    steps.take(1)?;
    let value = match tree {
        Tree::Number(value) => Sum::number(value.clone()),
        Tree::Symbol(name) => Sum::atom(Atom::Symbol(name.clone())),
        Tree::Sum(parts) => {
            let mut total = Sum::default();
            for part in parts {
                total = total.plus(sum(part, steps)?, steps)?;
            }
            total
        }
        Tree::Product(factors) => return product(factors, steps),
        Tree::Power(base, exponent) => power(base, exponent, steps)?,
        Tree::Root(index, radicand) => {
            let radicand = sum(radicand, steps)?;
            let exponent = BigRational::new(1.into(), (*index).into());
            match radicand.rational() {
                // The real root: the cube root of -8 is -2.
                Some(value) if value.is_negative() && index % 2 == 1 => {
                    surd::power(&-value, &exponent, steps)?.scaled(&-BigRational::one())
                }
                _ => radicand.to_fraction(&exponent, steps)?,
            }
        }
        Tree::Call(name, arguments) => call(name, arguments, steps)?,
        Tree::Factorial(inner) => {
            let n = sum(inner, steps)?;
            match n.rational() {
                Some(n) => {
                    let n = n.is_integer().then(|| n.to_u32()).flatten().filter(|n| *n <= MAX_FACTORIAL)?;
                    let product = (2..=n).fold(BigInt::one(), |product, factor| product * factor);
                    Sum::number(BigRational::from_integer(product))
                }
                None => Sum::atom(Atom::Opaque(format!("({})!", print::sum(&n)))),
            }
        }
        Tree::Big(range, body) => {
            let (name, range) = range.split_once(' ')?;
            let (low, high) = range.split_once(", ").unwrap_or((range, ""));
            let high = if high.is_empty() { String::new() } else { format!("^{{{high}}}") };
            let body = print::sum(&sum(body, steps)?);
            Sum::atom(Atom::Opaque(format!("\\{name}_{{{low}}}{high}({body})")))
        }
        Tree::Matrix(rows) => {
            let rows = rows.iter().map(|row| row.iter().map(|cell| sum(cell, steps)).collect::<Option<_>>());
            return rows.collect::<Option<_>>().map(Value::Matrix);
        }
        Tree::Infinity | Tree::PlusMinus(..) | Tree::List(..) | Tree::Union(_) | Tree::Relation(..) => return None,
    };
    Some(Value::Sum(value))
}

fn product(factors: &[Tree], steps: &mut Steps) -> Option<Value> {
    let mut scalar = Sum::number(BigRational::one());
    let mut matrix: Option<Vec<Vec<Sum>>> = None;
    for factor in factors {
        match value(factor, steps)? {
            Value::Sum(sum) => scalar = scalar.times(&sum, steps)?,
            Value::Matrix(rows) => {
                matrix = Some(match matrix {
                    Some(before) => matrix_product(&before, &rows, steps)?,
                    None => rows,
                });
            }
        }
    }
    let Some(rows) = matrix else { return Some(Value::Sum(scalar)) };
    let scaled = rows.iter().map(|row| row.iter().map(|cell| cell.times(&scalar, steps)).collect::<Option<_>>());
    scaled.collect::<Option<_>>().map(Value::Matrix)
}

fn matrix_product(left: &[Vec<Sum>], right: &[Vec<Sum>], steps: &mut Steps) -> Option<Vec<Vec<Sum>>> {
    let width = right.first()?.len();
    if left.first()?.len() != right.len() {
        return None;
    }
    let cell = |row: &[Sum], column: usize, steps: &mut Steps| {
        let mut total = Sum::default();
        for (one, below) in row.iter().zip(right) {
            total = total.plus(one.times(&below[column], steps)?, steps)?;
        }
        Some(total)
    };
    left.iter().map(|row| (0..width).map(|column| cell(row, column, steps)).collect::<Option<_>>()).collect()
}

fn power(base: &Tree, exponent: &Tree, steps: &mut Steps) -> Option<Sum> {
    let exponent = sum(exponent, steps)?;
    let Some(value) = exponent.rational() else {
        let base = sum(base, steps)?;
        // A power of nought has no value for every exponent.
        if base.0.is_empty() {
            return None;
        }
        let plain = base.rational().is_some_and(|base| base.is_integer() && base.is_positive())
            || base.single().is_some_and(|(atoms, value)| {
                value.is_one()
                    && atoms.len() == 1
                    && atoms.iter().all(|(atom, power)| matches!(atom, Atom::Symbol(_)) && power.is_one())
            });
        let (base, exponent) = (print::sum(&base), print::sum(&exponent));
        let printed = if plain { format!("{base}^({exponent})") } else { format!("({base})^({exponent})") };
        return Some(Sum::atom(Atom::Opaque(printed)));
    };
    if !value.is_integer() {
        return sum(base, steps)?.to_fraction(&value, steps);
    }
    let whole = value.to_integer().to_i64()?;
    // The factors of a product are kept apart below a line.
    if let Tree::Product(factors) = base {
        let mut product = Sum::number(BigRational::one());
        for factor in factors {
            let factor = sum(factor, steps)?.to_integer(whole, steps)?;
            product = product.times(&factor, steps)?;
        }
        return Some(product);
    }
    if let Tree::Power(inner, first) = base
        && let Tree::Number(first) = first.as_ref()
        && first.is_integer()
    {
        let inner = sum(inner, steps)?;
        let both = first.to_integer().to_i64()?.checked_mul(whole)?;
        return if inner.0.is_empty() && both <= 0 { None } else { inner.to_integer(both, steps) };
    }
    sum(base, steps)?.to_integer(whole, steps)
}

fn call(name: &str, arguments: &[Tree], steps: &mut Steps) -> Option<Sum> {
    let sums: Vec<Sum> = arguments.iter().map(|argument| sum(argument, steps)).collect::<Option<_>>()?;
    if let [only] = sums.as_slice() {
        match name {
            "abs" => {
                if let Some(value) = only.rational() {
                    return Some(Sum::number(value.abs()));
                }
                // |-2x| is 2|x|.
                let (content, primitive) = only.primitive(true)?;
                let inside = Sum::atom(Atom::Opaque(format!("abs({})", print::sum(&primitive))));
                return Some(inside.scaled(&content.abs()));
            }
            "exp" => return power(&Tree::Symbol("e".to_owned()), &arguments[0], steps),
            "ln" if only.rational().is_some_and(|value| !value.is_positive()) => return None,
            "ln" if only.rational().is_some_and(|value| value.is_one()) => return Some(Sum::default()),
            _ => {}
        }
    }
    let printed: Vec<String> = sums.iter().map(print::sum).collect();
    Some(Sum::atom(Atom::Opaque(format!("{name}({})", printed.join(",")))))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn spelled(text: &str) -> String {
        read(text).and_then(|tree| key(&tree)).unwrap_or_else(|| panic!("{text} has no key"))
    }

    #[test]
    fn keys_are_exact_and_in_one_order() {
        for (text, expected) in [
            ("\\sqrt{8}", "2*sqrt(2)"),
            ("\\frac{1}{\\sqrt{2}}", "sqrt(2)/2"),
            ("\\sqrt{10.5}", "sqrt(42)/2"),
            ("\\sqrt[3]{-16}", "-2*2^(1/3)"),
            ("\\frac{1}{1+\\sqrt{2}}", "sqrt(2)-1"),
            ("2+2\\sqrt{3}-\\sqrt{12}", "2"),
            ("3x+2-x^2", "-x^2+3*x+2"),
            ("(x-2)(x+2)", "x^2-4"),
            ("\\frac{x+2}{7}", "x/7+2/7"),
            ("\\frac{\\pi r}{h+r}", "pi*r/(h+r)"),
            ("5!", "120"),
            ("0.\\overline{3}", "1/3"),
            ("\\binom{5}{2}", "10"),
            ("3 \\pm 2\\sqrt{2}", "3\\pm 2*sqrt(2)"),
            ("5 \\ge x", "x\\le 5"),
            ("x/(x+1)*(x+1)", "x"),
            ("|{-3}|", "3"),
            ("e^{x+1}", "e^(x+1)"),
        ] {
            assert_eq!(spelled(text), expected, "{text}");
        }
    }

    #[test]
    fn what_has_no_value_has_no_key() {
        for text in
            ["1/0", "0^0", "0^{-1}", "\\sqrt{-4}", "\\frac{1}{x-x}", "(1,2)+3", "2^{100000}", "1 < x > 0", "2^{9^9}"]
        {
            assert_eq!(read(text).and_then(|tree| key(&tree)), None, "{text}");
        }
    }
}
