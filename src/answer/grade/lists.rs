//! Lists against lists: in other brackets, in another order, with the names of their parts or without.

use std::collections::BTreeSet;

use super::super::expression::{Brackets, Tree};
use super::reading::{Part, Parts, Read};
use super::{Rule, compare};

/// The rule by which one list is accepted for the other.
pub(super) fn accepts(reference: &Read, response: &Read) -> Option<Rule> {
    let (mut one, mut other) = (parts(reference)?, parts(response)?);
    if names_differ(&one) && names_differ(&other) {
        return matched(&one.parts, &other.parts, |left, right| left.name == right.name).then_some(Rule::AnyOrder);
    }
    let rule = in_order(&one, &other);
    let ordered = |list: &Parts| matches!(list.brackets, Brackets::Around(..)) || names_differ(list);
    if rule.is_some() || ordered(&one) || ordered(&other) {
        return rule;
    }
    // A solution that is given twice is one solution.
    for list in [&mut one, &mut other] {
        let mut seen = BTreeSet::new();
        list.parts.retain(|part| seen.insert(part.read.label.clone()));
    }
    matched(&one.parts, &other.parts, |_, _| true).then_some(Rule::AnyOrder)
}

/// Whether the parts are told apart by their names. Several values of one thing (`x = 1, x = 2`) are not.
fn names_differ(list: &Parts) -> bool {
    let first = list.parts.first().and_then(|part| part.name.as_ref());
    list.parts.iter().any(|part| part.name.as_ref() != first)
}

/// The parts of a list; those of a pair in round brackets too, which a bare list may stand for but no set.
fn parts(read: &Read) -> Option<Parts> {
    if let Some(parts) = &read.parts {
        return Some(parts.clone());
    }
    let Some(Tree::List(brackets @ Brackets::Around('(', ')'), items)) = read.tree() else { return None };
    let parts = items.iter().map(|item| Read::of_tree(item).map(|read| Part { name: None, read }));
    Some(Parts { brackets: *brackets, parts: parts.collect::<Option<_>>()? })
}

/// The most tolerant of the rules by which the parts are accepted one by one.
fn in_order(one: &Parts, other: &Parts) -> Option<Rule> {
    let shown = |list: &Parts| list.brackets == Brackets::Set { shown: true };
    let tuple = |list: &Parts| matches!(list.brackets, Brackets::Around(..));
    // A set that is meant as one is no pair.
    if one.parts.len() != other.parts.len() || shown(one) && tuple(other) || tuple(one) && shown(other) {
        return None;
    }
    let mut rule = if one.brackets == other.brackets { Rule::SameClass } else { Rule::ListBrackets };
    for (left, right) in one.parts.iter().zip(&other.parts) {
        rule = rule.max(compare::one(&left.read, &right.read)?);
        if left.name != right.name {
            rule = rule.max(Rule::NamedValue);
        }
    }
    Some(rule)
}

/// More parts than this are not tried against each other one by one.
const MAX_TRIED: usize = 8;

/// Whether every part has its own partner on the other side: first those of one class, then what is left.
fn matched(one: &[Part], other: &[Part], may: impl Fn(&Part, &Part) -> bool) -> bool {
    let mut free: Vec<&Part> = other.iter().collect();
    let mut take = |part: &Part, fits: &dyn Fn(&Part, &Part) -> bool| {
        let partner = free.iter().position(|candidate| may(part, candidate) && fits(part, candidate));
        partner.map(|at| free.swap_remove(at)).is_some()
    };
    let left: Vec<&Part> =
        one.iter().filter(|part| !take(part, &|part, candidate| part.read.label == candidate.read.label)).collect();
    one.len() == other.len()
        && left.len() <= MAX_TRIED
        && left.iter().all(|part| take(part, &|part, candidate| compare::one(&part.read, &candidate.read).is_some()))
}
