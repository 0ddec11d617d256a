//! Choosing among scored candidates: the best one, the heaviest class, or the largest.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::Hash;

use crate::config::run::Select;

/// Sums that differ by less than this part of what they are made of are equal: rounding alone makes such differences.
const EPSILON: f64 = 1e-9;

/// A candidate to choose among.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entrant<C> {
    pub candidate: usize,
    /// Finite, higher for better ones; `None` for one that could not be scored, which is worse than any other.
    pub score: Option<f64>,
    /// Among equal scores the lower rank is the better one.
    pub rank: usize,
    /// Candidates of one class say the same.
    pub class: C,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Selection<C> {
    /// Every entrant, the chosen one first, then by score, rank and index.
    pub order: Vec<usize>,
    /// Classes and how many entrants each has: the chosen one's first, then by number, then by lowest index.
    pub classes: Vec<(C, usize)>,
}

/// Chooses among entrants, given lowest index first. `None` when there are none.
///
/// Ties go to the lower rank, then to the lower index; of classes that are equally large to the heavier one first.
pub(super) fn select<C: Copy + Eq + Hash>(select: Select, entrants: &[Entrant<C>]) -> Option<Selection<C>> {
    let mut classes = classes(entrants);
    let winning = match select {
        Select::Argmax => {
            let best = best(entrants.iter())?;
            classes.iter().position(|class| class.label == best.class)?
        }
        Select::Weighted => first_best(&classes, |one, other| one.outweighs(other))?,
        Select::Majority => first_best(&classes, |one, other| {
            one.members.len() > other.members.len() || one.members.len() == other.members.len() && one.outweighs(other)
        })?,
    };
    let chosen = best(classes[winning].members.iter().copied())?.candidate;
    let mut order: Vec<&Entrant<C>> = entrants.iter().collect();
    order.sort_by(|one, other| {
        let chosen_first = (other.candidate == chosen).cmp(&(one.candidate == chosen));
        chosen_first.then(merit(other, one)).then(one.candidate.cmp(&other.candidate))
    });
    let winner = classes.remove(winning);
    // The sort is stable, so that classes of one size stay in the order of their lowest index.
    classes.sort_by_key(|class| std::cmp::Reverse(class.members.len()));
    Some(Selection {
        order: order.into_iter().map(|entrant| entrant.candidate).collect(),
        classes: std::iter::once(&winner).chain(&classes).map(|class| (class.label, class.members.len())).collect(),
    })
}

struct Class<'a, C> {
    label: C,
    /// Lowest index first; never empty.
    members: Vec<&'a Entrant<C>>,
}

impl<C> Class<'_, C> {
    /// The sum of the scores that are known, and of their magnitudes; `None` where none is.
    fn weight(&self) -> Option<(f64, f64)> {
        let mut known: Vec<f64> = self.members.iter().filter_map(|member| member.score).collect();
        // In one order, so that equal scores make equal sums.
        known.sort_by(f64::total_cmp);
        (!known.is_empty()).then(|| (known.iter().sum(), known.iter().map(|score| score.abs()).sum()))
    }

    fn outweighs(&self, other: &Self) -> bool {
        match (self.weight(), other.weight()) {
            (Some((one, of_one)), Some((other, of_other))) => one > other + EPSILON * f64::max(of_one, of_other),
            (one, other) => one.is_some() && other.is_none(),
        }
    }
}

/// The classes of the entrants, in the order of their lowest index.
fn classes<C: Copy + Eq + Hash>(entrants: &[Entrant<C>]) -> Vec<Class<'_, C>> {
    let mut positions: HashMap<C, usize> = HashMap::new();
    let mut classes: Vec<Class<'_, C>> = Vec::new();
    for entrant in entrants {
        let position = *positions.entry(entrant.class).or_insert(classes.len());
        if position == classes.len() {
            classes.push(Class { label: entrant.class, members: Vec::new() });
        }
        classes[position].members.push(entrant);
    }
    classes
}

/// The position of the first class that no other is better than.
fn first_best<C>(classes: &[Class<'_, C>], is_better: impl Fn(&Class<'_, C>, &Class<'_, C>) -> bool) -> Option<usize> {
    (0..classes.len()).reduce(|best, next| if is_better(&classes[next], &classes[best]) { next } else { best })
}

/// The entrant with the highest score, of equals the one with the lowest rank, and the first of those.
fn best<'a, C: 'a>(entrants: impl Iterator<Item = &'a Entrant<C>>) -> Option<&'a Entrant<C>> {
    entrants.reduce(|best, next| if merit(next, best).is_gt() { next } else { best })
}

/// By score and rank, the better one greater.
fn merit<C>(one: &Entrant<C>, other: &Entrant<C>) -> Ordering {
    // Adding a zero makes the two zeros one.
    let score = |entrant: &Entrant<C>| entrant.score.unwrap_or(f64::NEG_INFINITY) + 0.0;
    score(one).total_cmp(&score(other)).then(other.rank.cmp(&one.rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrants<'a>(scored: &[(f64, &'a str)]) -> Vec<Entrant<&'a str>> {
        let entrant = |(candidate, (score, class)): (usize, &(f64, &'a str))| Entrant {
            candidate,
            score: score.is_finite().then_some(*score),
            rank: 0,
            class: *class,
        };
        scored.iter().enumerate().map(entrant).collect()
    }

    fn order(rule: Select, scored: &[(f64, &str)]) -> Vec<usize> {
        select(rule, &entrants(scored)).unwrap().order
    }

    const UNSCORED: f64 = f64::NAN;

    #[test]
    fn the_highest_score_wins_and_the_first_of_equals() {
        assert_eq!(order(Select::Argmax, &[(3.0, "a"), (7.5, "b"), (7.5, "c"), (0.0, "d")]), [1, 2, 0, 3]);
        assert_eq!(order(Select::Argmax, &[(0.0, "a"), (0.0, "b")]), [0, 1]);
        assert_eq!(order(Select::Argmax, &[(-2.0, "a"), (-1.0, "b")]), [1, 0]);
    }

    #[test]
    fn of_equal_scores_the_lower_rank_wins() {
        let mut entrants = entrants(&[(1.0, "a"), (0.0, "b"), (1.0, "c"), (1.0, "d")]);
        for (entrant, rank) in entrants.iter_mut().zip([2, 0, 1, 1]) {
            entrant.rank = rank;
        }
        assert_eq!(select(Select::Argmax, &entrants).unwrap().order, [2, 3, 0, 1]);
        assert_eq!(select(Select::Argmax, &entrants).unwrap().classes[0].0, "c");
    }

    #[test]
    fn what_could_not_be_scored_is_worse_than_the_lowest_score() {
        assert_eq!(order(Select::Argmax, &[(UNSCORED, "a"), (0.0, "b")]), [1, 0]);
        assert_eq!(order(Select::Weighted, &[(UNSCORED, "a"), (UNSCORED, "a"), (0.0, "b")]), [2, 0, 1]);
        assert_eq!(order(Select::Argmax, &[(UNSCORED, "a"), (UNSCORED, "b")]), [0, 1]);
    }

    #[test]
    fn the_heaviest_class_gives_its_best_member() {
        // a: 9; b: 4 + 6 = 10; c: 5.
        let scored = [(9.0, "a"), (4.0, "b"), (5.0, "c"), (6.0, "b")];
        let chosen = select(Select::Weighted, &entrants(&scored)).unwrap();
        assert_eq!(chosen.order, [3, 0, 2, 1]);
        assert_eq!(chosen.classes, [("b", 2), ("a", 1), ("c", 1)]);
    }

    #[test]
    fn equally_heavy_classes_go_to_the_lowest_index_whatever_rounding_makes_of_the_sums() {
        // 0.1 + 0.2 is more than 0.3 in doubles.
        assert_eq!(order(Select::Weighted, &[(0.3, "a"), (0.1, "b"), (0.2, "b")])[0], 0);
        assert_eq!(order(Select::Weighted, &[(1.0, "a"), (0.5, "b"), (0.5, "b")])[0], 0);
    }

    #[test]
    fn sums_are_compared_however_small_or_large_scores_are() {
        assert_eq!(order(Select::Weighted, &[(1e-12, "a"), (3e-12, "b")])[0], 1);
        assert_eq!(order(Select::Weighted, &[(3e-300, "a"), (1e-300, "b"), (2e-300, "b")])[0], 0);
        assert_eq!(order(Select::Weighted, &[(3e-300, "a"), (2e-300, "b"), (2e-300, "b")])[0], 1);
        assert_eq!(order(Select::Weighted, &[(3e20, "a"), (1e20, "b"), (2e20, "b")])[0], 0);
        assert_eq!(order(Select::Majority, &[(1e-12, "a"), (3e-12, "b")])[0], 1);
        assert_eq!(order(Select::Weighted, &[(0.0, "a"), (0.0, "b")])[0], 0);
        assert_eq!(order(Select::Weighted, &[(0.0, "a"), (5e-324, "b")])[0], 1);
    }

    #[test]
    fn the_largest_class_gives_its_best_member_and_weight_breaks_ties() {
        assert_eq!(order(Select::Majority, &[(9.0, "a"), (1.0, "b"), (2.0, "b")])[0], 2);
        assert_eq!(order(Select::Majority, &[(1.0, "a"), (2.0, "b")])[0], 1);
        assert_eq!(order(Select::Majority, &[(2.0, "a"), (2.0, "b")])[0], 0);
    }

    #[test]
    fn one_entrant_is_chosen_and_none_is_not() {
        assert_eq!(order(Select::Weighted, &[(UNSCORED, "a")]), [0]);
        for rule in [Select::Argmax, Select::Weighted, Select::Majority] {
            assert_eq!(select::<&str>(rule, &[]), None);
        }
    }
}
