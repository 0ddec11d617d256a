//! Lists against lists: in other brackets, in another order, with the names of their parts or without.

use std::collections::BTreeSet;

use super::super::expression::{Brackets, Tree};
use super::reading::{Part, Parts, Read};
use super::{Rule, compare};

/// The rule by which one list is accepted for the other.
pub(super) fn accepts(reference: &Read, response: &Read) -> Option<Rule> {
    let (mut one, mut other) = (parts(reference)?, parts(response)?);
    let named = |list: &Parts| {
        let first = list.parts.first().and_then(|part| part.name.as_ref());
        // Several values of one thing (`x = 1, x = 2`) need no names to tell them apart.
        list.parts.iter().any(|part| part.name.as_ref() != first)
    };
    let ordered = |list: &Parts| matches!(list.brackets, Brackets::Around(..));
    let rule = match (named(&one), named(&other)) {
        (true, true) => return by_name(&one, &other).then_some(Rule::AnyOrder),
        (false, false) if !ordered(&one) && !ordered(&other) => {
            if in_order(&one, &other) {
                return Some(list_rule(&one, &other));
            }
            // A solution that is given twice is one solution.
            for list in [&mut one, &mut other] {
                let mut seen = BTreeSet::new();
                list.parts.retain(|part| seen.insert(part.read.label.clone()));
            }
            return matched(&one.parts, &other.parts, |_, _| true).then_some(Rule::AnyOrder);
        }
        (false, false) => list_rule(&one, &other),
        _ => Rule::NamedValue,
    };
    in_order(&one, &other).then_some(rule)
}

fn list_rule(one: &Parts, other: &Parts) -> Rule {
    if one.brackets == other.brackets { Rule::NamedValue } else { Rule::ListBrackets }
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

fn in_order(one: &Parts, other: &Parts) -> bool {
    let shown = |list: &Parts| list.brackets == Brackets::Set { shown: true };
    let tuple = |list: &Parts| matches!(list.brackets, Brackets::Around(..));
    // A set that is meant as one is no pair.
    let mixed = shown(one) && tuple(other) || tuple(one) && shown(other);
    !mixed && one.parts.len() == other.parts.len() && one.parts.iter().zip(&other.parts).all(|(left, right)| compare::one(&left.read, &right.read).is_some())
}

fn by_name(one: &Parts, other: &Parts) -> bool {
    matched(&one.parts, &other.parts, |left, right| left.name == right.name)
}

/// Whether every part has its own partner on the other side.
fn matched(one: &[Part], other: &[Part], may: impl Fn(&Part, &Part) -> bool) -> bool {
    let mut free: Vec<&Part> = other.iter().collect();
    one.len() == other.len() && one.iter().all(|part| {
        let partner = free.iter().position(|candidate| may(part, candidate) && compare::one(&part.read, &candidate.read).is_some());
        partner.map(|at| free.swap_remove(at)).is_some()
    })
}
