//! Equations and inequalities against each other, against intervals, and against the value that they give.

use super::super::expression::{self, Brackets, Comparison, Tree};
use super::{Rule, compare};

/// The rule by which one is accepted for the other, where at least one is a relation.
pub(super) fn accepts(reference: &Tree, response: &Tree) -> Option<Rule> {
    if let (Some((left, right)), Some((other_left, other_right))) = (equation(reference), equation(response)) {
        let same = expression::difference(left, right)? == expression::difference(other_left, other_right)?;
        return same.then_some(Rule::EquivalentEquation);
    }
    let intervals = (interval(reference), interval(response));
    if intervals.0.is_some() || intervals.1.is_some() {
        let one = intervals.0.as_ref().unwrap_or(reference);
        let other = intervals.1.as_ref().unwrap_or(response);
        return compare::trees(one, other).map(|_| Rule::InequalityAsInterval);
    }
    for (relation, value) in [(reference, response), (response, reference)] {
        if let Some((name, given)) = equation(relation)
            && equation(value).is_none()
            && names(name, value)
            && compare::trees(given, value).is_some()
        {
            return Some(Rule::NamedValue);
        }
    }
    None
}

fn equation(tree: &Tree) -> Option<(&Tree, &Tree)> {
    match tree {
        Tree::Relation(sides, comparisons) if *comparisons == [Comparison::Equal] => Some((&sides[0], &sides[1])),
        _ => None,
    }
}

/// Whether an expression may be the name of a quantity: `x`, `f(x)`, `|AB|`, `\frac{NO}{BO}`, and `(p, q)` for a pair.
fn names(name: &Tree, value: &Tree) -> bool {
    let segment = |tree: &Tree| matches!(tree, Tree::Symbol(name) if name.len() > 1 && name.starts_with(|c: char| c.is_ascii_uppercase()));
    let symbol = |tree: &Tree| matches!(tree, Tree::Symbol(_)) && !tree.is_constant();
    match name {
        Tree::Symbol(_) => symbol(name),
        Tree::Call(function, arguments) if function == "abs" => arguments.iter().all(segment),
        Tree::Call(function, _) => function.len() == 1,
        Tree::Product(factors) => factors.iter().all(|factor| match factor {
            Tree::Power(base, _) => segment(base),
            factor => segment(factor),
        }),
        Tree::List(Brackets::Around('(', ')'), items) => {
            items.iter().all(symbol)
                && matches!(value, Tree::List(Brackets::Around('(', ')'), values) if values.len() == items.len())
        }
        _ => false,
    }
}

/// The interval or set that a relation gives for one variable: `(1, 7)` for `1 < x < 7`, `S` for `x \in S`.
fn interval(tree: &Tree) -> Option<Tree> {
    let Tree::Relation(sides, comparisons) = tree else { return None };
    let variable = |tree: &Tree| matches!(tree, Tree::Symbol(_)) && !tree.is_constant();
    if let ([name, set], [Comparison::In]) = (sides.as_slice(), comparisons.as_slice()) {
        return variable(name).then(|| set.clone());
    }
    let mut sides: Vec<&Tree> = sides.iter().collect();
    let mut comparisons = comparisons.clone();
    if matches!(comparisons[0], Comparison::Greater | Comparison::GreaterOrEqual) {
        sides.reverse();
        comparisons = comparisons.iter().rev().map(|comparison| comparison.flipped()).collect();
    }
    let bracket = |comparison: Comparison, closed: char, open: char| match comparison {
        Comparison::LessOrEqual => Some(closed),
        Comparison::Less => Some(open),
        _ => None,
    };
    let (low, high) = match (sides.as_slice(), comparisons.as_slice()) {
        ([low, name, high], [first, second]) if variable(name) => {
            let ends = (bracket(*first, '[', '(')?, bracket(*second, ']', ')')?);
            return Some(Tree::List(Brackets::Around(ends.0, ends.1), vec![(*low).clone(), (*high).clone()]));
        }
        ([name, high], [below]) if variable(name) && high.is_constant() => {
            (('(', Tree::Infinity.negated()), (bracket(*below, ']', ')')?, (*high).clone()))
        }
        ([low, name], [below]) if variable(name) && low.is_constant() => {
            ((bracket(*below, '[', '(')?, (*low).clone()), (')', Tree::Infinity))
        }
        _ => return None,
    };
    Some(Tree::List(Brackets::Around(low.0, high.0), vec![low.1, high.1]))
}
