//! Whether one answer is accepted for another, and by which rule.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::super::expression::{self, Brackets, Closeness, Tree};
use super::reading::Read;
use super::{Rule, lists, math_string, relations};

/// The rule by which a response is accepted for a reference, the strictest that does.
pub(super) fn accepts(reference: &Read, response: &Read) -> Option<Rule> {
    one(reference, response)
        .or_else(|| lists::accepts(reference, response))
        .or_else(|| decimal_comma(reference, response))
        .or_else(|| math_string::same(&reference.text, &response.text).then_some(Rule::MathString))
}

/// The same for two answers that are no lists.
pub(super) fn one(reference: &Read, response: &Read) -> Option<Rule> {
    if reference.label == response.label {
        return Some(Rule::SameClass);
    }
    percent(reference, response)
        .or_else(|| trees(reference.tree()?, response.tree()?))
        .or_else(|| relations::accepts(reference.whole.as_ref()?, response.whole.as_ref()?))
}

fn percent(reference: &Read, response: &Read) -> Option<Rule> {
    let (percentage, number) = match (reference.percentage(), response.percentage()) {
        (Some(percentage), None) => (percentage, response.rational()?),
        (None, Some(percentage)) => (percentage, reference.rational()?),
        _ => return None,
    };
    if percentage == number {
        Some(Rule::PercentSign)
    } else if *percentage == number * BigRational::from_integer(BigInt::from(100)) {
        Some(Rule::PercentAsFraction)
    } else {
        None
    }
}

/// Compares expressions, and those within tuples and matrices one by one.
pub(super) fn trees(one: &Tree, other: &Tree) -> Option<Rule> {
    let same = || expression::key(one).is_some_and(|key| expression::key(other) == Some(key));
    match (one, other) {
        (Tree::Number(left), Tree::Number(right)) if left.is_integer() && right.is_integer() => {
            (left == right).then_some(Rule::SameClass)
        }
        (
            Tree::List(Brackets::Around(open, close), left),
            Tree::List(Brackets::Around(other_open, other_close), right),
        ) => {
            (open == other_open && close == other_close && left.len() == right.len()).then_some(())?;
            elementwise(left.iter().zip(right))
        }
        (Tree::Matrix(left), Tree::Matrix(right)) => {
            let shapes = left.len() == right.len() && left[0].len() == right[0].len();
            shapes.then_some(())?;
            elementwise(left.iter().flatten().zip(right.iter().flatten()))
        }
        // Values are cheaper than keys, and two that lie apart have no key in common.
        _ => match expression::compare(one, other) {
            Closeness::Apart => None,
            Closeness::Close => Some(if same() { Rule::SameClass } else { Rule::Numeric }),
            Closeness::Unknown => same().then_some(Rule::SameClass),
        },
    }
}

/// The most tolerant of the rules by which the elements are accepted.
fn elementwise<'a>(pairs: impl Iterator<Item = (&'a Tree, &'a Tree)>) -> Option<Rule> {
    pairs.map(|(left, right)| trees(left, right)).try_fold(Rule::SameClass, |rule, next| Some(rule.max(next?)))
}

/// `1,22` is 1.22 where a comma decides; `1,220` stays a thousand and more.
fn decimal_comma(reference: &Read, response: &Read) -> Option<Rule> {
    let with_point = |text: &str| {
        let (whole, decimals) = text.trim().trim_matches('$').split_once(',')?;
        let digits =
            |part: &str| !part.is_empty() && part.len() <= 40 && part.bytes().all(|byte| byte.is_ascii_digit());
        let decimal = digits(whole.strip_prefix('-').unwrap_or(whole)) && digits(decimals) && decimals.len() != 3;
        decimal.then(|| Read::of(&format!("{whole}.{decimals}"))).flatten()
    };
    let value = |read: &Read| with_point(&read.text).map(|read| read.label);
    let matched = value(reference).is_some_and(|label| label == response.label)
        || value(response).is_some_and(|label| label == reference.label);
    matched.then_some(Rule::DecimalComma)
}
