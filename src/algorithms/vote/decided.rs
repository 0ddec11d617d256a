//! Whether a vote is decided before every candidate is in.

use super::election::{Class, Fallback, Voter, classes_at};

/// What is still to come: how many candidates, and the lowest index among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub count: usize,
    pub first: usize,
}

/// Whether the class that leads among these voters leads whatever else is voted, at every level of the keys.
///
/// Each pending candidate may join any class, found a new one or stay away, at every level anew. A fallback to
/// fields must be out of reach too.
pub(super) fn is_settled(voters: &[Voter<'_>], fallback: Fallback, pending: Pending) -> bool {
    let levels = voters.first().map_or(0, |voter| voter.key.levels.len());
    let mut left: Class<'_> = voters.to_vec();
    for level in 0..levels {
        let mut classes = classes_at(&left, level);
        let Some(leading) = settled_leader(&classes, pending) else { return false };
        let safe = match fallback {
            Fallback::Never => true,
            Fallback::AllDiffer => level + 1 < levels || classes[leading].len() > 1,
            Fallback::NoMajority => classes[leading].len() * 2 > left.len() + pending.count,
        };
        if !safe {
            return false;
        }
        left = classes.swap_remove(leading);
    }
    levels > 0
}

/// The position of the class that no pending candidate can overtake.
///
/// A rival that draws level wins the tie if it is likelier, or, unless all log-probabilities are known, if it
/// holds the lower index. So a lead that equals the number pending suffices only where a member of the leading
/// class has no log-probability, and the class holds an index below every rival's and every pending one.
fn settled_leader(classes: &[Class<'_>], pending: Pending) -> Option<usize> {
    let leading = (0..classes.len()).max_by_key(|&position| (classes[position].len(), std::cmp::Reverse(position)))?;
    let leader = &classes[leading];
    let rivals = || classes.iter().enumerate().filter(|(position, _)| *position != leading).map(|(_, class)| class);
    let reachable = rivals().map(Vec::len).max().unwrap_or(0) + pending.count;
    if leader.len() > reachable {
        return Some(leading);
    }
    let by_index = leader.iter().any(|voter| voter.logprob.is_none());
    let lowest = leader.first()?.index;
    let before_rivals =
        rivals().filter(|rival| rival.len() + pending.count >= leader.len()).all(|rival| lowest < rival[0].index);
    (leader.len() == reachable && by_index && lowest < pending.first && before_rivals).then_some(leading)
}
