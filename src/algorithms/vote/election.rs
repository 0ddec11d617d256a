//! Counting votes: classes, ties, and the member of a class that speaks for it.

use std::collections::HashMap;

use super::fields;
use super::key::NumberedKey;

/// A candidate that votes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voter<'a> {
    pub index: usize,
    /// Mean log-probability of its tokens, finite where it is known.
    pub logprob: Option<f64>,
    /// What its vote weighs among these voters, 0 or more.
    pub weight: f64,
    /// The same on the scale of all votes, in [0, 1] or down to 0 by rounding, where votes are weighed by confidence
    /// and that of this one is known.
    pub confidence: Option<f64>,
    /// What members of one class are preferred by, higher first, finite where it is known: the score where
    /// candidates are scored, else the log-probability.
    pub merit: Option<f64>,
    pub key: &'a NumberedKey,
}

/// Voters of one class, lowest index first; never empty.
pub(super) type Class<'a> = Vec<Voter<'a>>;

/// Classes whose weights differ by no more than this, relative to the heaviest, are tied: sums of the same weights
/// differ by so much when rounded.
pub(super) const TIE: f64 = 1e-9;

/// Who wins when no class is heavy enough to speak for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    Never,
    /// When all candidates left at the last level differ.
    AllDiffer,
    /// When the heaviest class holds no more than half of the weight.
    NoMajority,
}

/// The winning class, and whether it was found field by field.
pub(super) fn elect<'a>(mut voters: Class<'a>, fallback: Fallback) -> (Class<'a>, bool) {
    let levels = voters.first().map_or(0, |voter| voter.key.levels.len());
    for level in 0..levels {
        let mut classes = classes_at(&voters, level);
        let leading = leader(&classes);
        let splintered = match fallback {
            Fallback::Never => false,
            Fallback::AllDiffer => level + 1 == levels && voters.len() > 1 && classes.len() == voters.len(),
            Fallback::NoMajority => weight(&classes[leading]) * 2.0 <= weight(&voters) * (1.0 + TIE),
        };
        if splintered {
            let best = most_agreeing(&voters);
            voters.retain(|voter| voter.key.levels == best.key.levels);
            return (voters, true);
        }
        voters = classes.swap_remove(leading);
    }
    (voters, false)
}

/// The classes among voters by one level of their keys, in the order of their lowest index.
pub(super) fn classes_at<'a>(voters: &[Voter<'a>], level: usize) -> Vec<Class<'a>> {
    group(voters, |voter| &voter.key.levels[level..=level])
}

/// The classes among voters by their whole keys, in the order of their lowest index.
pub(super) fn classes<'a>(voters: &[Voter<'a>]) -> Vec<Class<'a>> {
    group(voters, |voter| &voter.key.levels)
}

/// What the votes of a class weigh together.
pub(super) fn weight(class: &[Voter<'_>]) -> f64 {
    class.iter().map(|voter| voter.weight).sum()
}

/// The position of the winning class: the heaviest; of equals the one with the higher mean log-probability where
/// every member of each is known, else the one that holds the lowest index.
pub(super) fn leader(classes: &[Class<'_>]) -> usize {
    let weights: Vec<f64> = classes.iter().map(|class| weight(class)).collect();
    let heaviest = weights.iter().copied().fold(0.0, f64::max);
    let tied: Vec<usize> = (0..classes.len()).filter(|&at| weights[at] >= heaviest * (1.0 - TIE)).collect();
    let means: Option<Vec<f64>> = tied.iter().map(|&position| mean_logprob(&classes[position])).collect();
    let best = means.map_or(0, |means| first_maximum(&means));
    tied.get(best).copied().unwrap_or(0)
}

/// The member that speaks for a class: the one of the highest merit where that of all is known, else the first.
pub(super) fn spokesman<'a>(class: &[Voter<'a>]) -> Voter<'a> {
    by_merit(class)[0]
}

/// The members of a class, the one that speaks for it first: by merit where that of all is known, else by index.
pub(super) fn by_merit<'a>(class: &[Voter<'a>]) -> Class<'a> {
    let mut members = class.to_vec();
    if members.iter().all(|voter| voter.merit.is_some()) {
        // The sort is stable, so that equals stay in the order of their index.
        members.sort_by(|a, b| b.merit.partial_cmp(&a.merit).unwrap_or(std::cmp::Ordering::Equal));
    }
    members
}

/// The voter whose fields agree most with the majority of each; ties as for classes.
fn most_agreeing<'a>(voters: &[Voter<'a>]) -> Voter<'a> {
    let subjects: Vec<_> = voters.iter().filter_map(|voter| voter.key.fields.as_ref()).collect();
    let agreement = fields::agreement(&subjects);
    let most = agreement.iter().max();
    let tied: Vec<Voter<'a>> =
        voters.iter().zip(&agreement).filter(|(_, agreed)| Some(*agreed) == most).map(|(voter, _)| *voter).collect();
    if tied.is_empty() { voters[0] } else { spokesman(&tied) }
}

fn group<'a, 'k>(voters: &'k [Voter<'a>], key: impl Fn(&'k Voter<'a>) -> &'k [u32]) -> Vec<Class<'a>> {
    let mut positions: HashMap<&[u32], usize> = HashMap::new();
    let mut classes: Vec<Class<'a>> = Vec::new();
    for voter in voters {
        let position = *positions.entry(key(voter)).or_insert(classes.len());
        if position == classes.len() {
            classes.push(Vec::new());
        }
        classes[position].push(*voter);
    }
    classes
}

fn mean_logprob(class: &[Voter<'_>]) -> Option<f64> {
    let sum: Option<f64> = class.iter().map(|voter| voter.logprob).sum();
    sum.map(|sum| sum / class.len() as f64)
}

/// The position of the first of the largest values, 0 for none.
fn first_maximum(values: &[f64]) -> usize {
    let mut best = 0;
    for (position, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = position;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::vote::key::{Key, Numbering};
    use crate::answer::Json;

    fn numbered(keys: impl IntoIterator<Item = Key>) -> Vec<NumberedKey> {
        let mut numbering = Numbering::default();
        keys.into_iter().map(|key| numbering.number(key)).collect()
    }

    fn keys(labels: &[&str]) -> Vec<NumberedKey> {
        numbered(labels.iter().map(|&label| Key::single(label.to_owned())))
    }

    fn voters<'a>(keys: &'a [NumberedKey], logprobs: &[Option<f64>]) -> Class<'a> {
        let logprob = |index: usize| logprobs.get(index).copied().flatten();
        let voter = |(index, key)| {
            let logprob = logprob(index);
            Voter { index, logprob, weight: 1.0, confidence: None, merit: logprob, key }
        };
        keys.iter().enumerate().map(voter).collect()
    }

    fn winner(labels: &[&str], logprobs: &[Option<f64>]) -> (String, usize) {
        let keys = keys(labels);
        let (class, _) = elect(voters(&keys, logprobs), Fallback::Never);
        (class[0].key.label(), spokesman(&class).index)
    }

    #[test]
    fn the_largest_class_wins_whatever_its_place() {
        assert_eq!(winner(&["a", "b", "b"], &[]), ("b".to_owned(), 1));
        assert_eq!(winner(&["a"], &[]), ("a".to_owned(), 0));
    }

    #[test]
    fn a_tie_goes_to_the_likelier_class_where_all_are_known() {
        let known = [Some(-1.0), Some(-0.5), Some(-0.9), Some(-0.8)];
        // a: (-1.0 - 0.9) / 2 = -0.95, b: (-0.5 - 0.8) / 2 = -0.65.
        assert_eq!(winner(&["a", "b", "a", "b"], &known), ("b".to_owned(), 1));
        assert_eq!(winner(&["a", "b", "a", "b"], &[Some(-1.0), Some(-0.5), None, Some(-0.8)]), ("a".to_owned(), 0));
        assert_eq!(winner(&["a", "b"], &[Some(-0.5), Some(-0.5)]), ("a".to_owned(), 0));
        assert_eq!(winner(&["a", "b"], &[]), ("a".to_owned(), 0));
    }

    #[test]
    fn the_likeliest_member_speaks_for_its_class() {
        assert_eq!(winner(&["a", "a", "b"], &[Some(-0.9), Some(-0.2), Some(-0.1)]), ("a".to_owned(), 1));
        assert_eq!(winner(&["a", "a", "b"], &[None, Some(-0.2), Some(-0.1)]), ("a".to_owned(), 0));
    }

    #[test]
    fn levels_are_voted_in_order() {
        let key = |first: &str, second: &str| Key { levels: vec![first.into(), second.into()], fields: None };
        // "x" leads the first level by three to two, although "y 1" is the most common pair.
        let keys = numbered([key("y", "1"), key("y", "1"), key("x", "1"), key("x", "2"), key("x", "3")]);
        let (class, by_fields) = elect(voters(&keys, &[]), Fallback::Never);
        assert_eq!((class[0].index, class.len(), by_fields), (2, 1, false));
    }

    #[test]
    fn the_heaviest_class_wins_and_weights_that_differ_by_rounding_alone_are_tied() {
        let keys = keys(&["a", "b", "b", "b"]);
        let winner = |weights: [f64; 4]| {
            let mut voters = voters(&keys, &[]);
            voters.iter_mut().zip(weights).for_each(|(voter, weight)| voter.weight = weight);
            elect(voters, Fallback::Never).0[0].key.label()
        };
        assert_eq!(winner([0.9, 0.25, 0.25, 0.25]), "a");
        assert_eq!(winner([0.7, 0.25, 0.25, 0.25]), "b");
        // 0.1 + 0.1 + 0.1 is above 0.3 in floating point.
        assert_eq!(winner([0.3, 0.1, 0.1, 0.1]), "a");
        assert_eq!(winner([0.0, 0.0, 0.0, 0.0]), "a");
    }

    #[test]
    fn a_majority_is_one_of_weight() {
        let keys = json_keys(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#]);
        let by_fields = |weights: [f64; 3]| {
            let mut voters = voters(&keys, &[]);
            voters.iter_mut().zip(weights).for_each(|(voter, weight)| voter.weight = weight);
            elect(voters, Fallback::NoMajority).1
        };
        assert!(!by_fields([0.1, 0.9, 0.1]));
        assert!(by_fields([0.4, 0.2, 0.2]));
    }

    fn json_keys(texts: &[&str]) -> Vec<NumberedKey> {
        numbered(texts.iter().map(|text| Key { levels: vec![text.to_string()], fields: Json::parse(text).ok() }))
    }

    #[test]
    fn without_a_majority_the_fields_decide() {
        // a = 1 and b = 2 are the majorities; candidate 3 holds both.
        let keys = json_keys(&[r#"{"a":1,"b":1}"#, r#"{"a":3,"b":2}"#, r#"{"a":4,"b":2}"#, r#"{"a":1,"b":2}"#]);
        let (class, by_fields) = elect(voters(&keys, &[]), Fallback::NoMajority);
        assert_eq!((class[0].index, by_fields), (3, true));
        let keys = json_keys(&[r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":1}"#]);
        let (class, by_fields) = elect(voters(&keys, &[]), Fallback::NoMajority);
        assert_eq!((class.len(), by_fields), (2, false));
    }

    #[test]
    fn a_single_voter_wins_without_its_fields() {
        let keys = json_keys(&[r#"{"a":1}"#]);
        assert!(!elect(voters(&keys, &[]), Fallback::NoMajority).1);
        assert!(!elect(voters(&keys, &[]), Fallback::AllDiffer).1);
    }
}
