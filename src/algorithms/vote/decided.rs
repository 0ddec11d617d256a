//! Whether a vote is decided before every candidate is in.

use super::election::{Class, Fallback, TIE, Voter, classes_at};

/// What is still to come: how many candidates, and the lowest index among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub count: usize,
    pub first: usize,
}

/// What is known of the weights of the votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weights {
    /// All alike, whatever is still to come.
    Equal,
    /// In [0, 1]; that of a voter without a log-probability may still become anything in there.
    UpToOne,
}

/// A lead must be larger than this part of what it is measured against, so that no rounding turns it into a tie.
const MARGIN: f64 = 10.0 * TIE;

/// Whether the class that leads among these voters leads whatever else is voted, at every level of the keys.
///
/// Each pending candidate may join any class, found a new one or stay away, at every level anew, and weigh what it
/// may. A fallback to fields must be out of reach too.
pub(super) fn is_settled(voters: &[Voter<'_>], fallback: Fallback, pending: Pending, weights: Weights) -> bool {
    let levels = voters.first().map_or(0, |voter| voter.key.levels.len());
    let mut left: Class<'_> = voters.to_vec();
    for level in 0..levels {
        let mut classes = classes_at(&left, level);
        let leading = match weights {
            Weights::Equal => settled_leader(&classes, pending),
            Weights::UpToOne => settled_heaviest(&classes, pending),
        };
        let Some(leading) = leading else { return false };
        let safe = match fallback {
            Fallback::Never => true,
            Fallback::AllDiffer => level + 1 < levels || classes[leading].len() > 1,
            Fallback::NoMajority => {
                let others: Vec<&Class<'_>> = others(&classes, leading).collect();
                match weights {
                    Weights::Equal => {
                        classes[leading].len() > others.iter().map(|class| class.len()).sum::<usize>() + pending.count
                    }
                    Weights::UpToOne => leads(&classes[leading], others.into_iter().flatten().map(most).sum(), pending),
                }
            }
        };
        if !safe {
            return false;
        }
        left = classes.swap_remove(leading);
    }
    levels > 0
}

/// The position of the class that no pending candidate can overtake, where all votes weigh the same.
///
/// A rival that draws level wins the tie if it is likelier, or, unless all log-probabilities are known, if it
/// holds the lower index. So a lead that equals the number pending suffices only where a member of the leading
/// class has no log-probability, and the class holds an index below every rival's and every pending one.
fn settled_leader(classes: &[Class<'_>], pending: Pending) -> Option<usize> {
    let leading = (0..classes.len()).max_by_key(|&position| (classes[position].len(), std::cmp::Reverse(position)))?;
    let leader = &classes[leading];
    let rivals = || others(classes, leading);
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

/// The position of the class whose lead is larger than all that pending candidates can weigh, each at most 1.
fn settled_heaviest(classes: &[Class<'_>], pending: Pending) -> Option<usize> {
    let lightest = |class: &Class<'_>| class.iter().map(least).sum::<f64>();
    let leading = (0..classes.len()).max_by(|&a, &b| lightest(&classes[a]).total_cmp(&lightest(&classes[b])))?;
    let rival = others(classes, leading).map(|class| class.iter().map(most).sum()).fold(0.0, f64::max);
    leads(&classes[leading], rival, pending).then_some(leading)
}

/// Whether the class outweighs rivals of this weight that every pending candidate joins.
fn leads(class: &Class<'_>, rivals: f64, pending: Pending) -> bool {
    let lightest: f64 = class.iter().map(least).sum();
    lightest > (rivals + pending.count as f64) * (1.0 + MARGIN)
}

fn others<'c, 'a>(classes: &'c [Class<'a>], leading: usize) -> impl Iterator<Item = &'c Class<'a>> {
    classes.iter().enumerate().filter(move |(position, _)| *position != leading).map(|(_, class)| class)
}

/// The least that a vote may come to weigh: one without a log-probability will weigh the mean of the others.
///
/// What counts is the weight on the scale of those to come, which the most confident of them reach the end of. It
/// may have been rounded down to 0, and then decides nothing.
fn least(voter: &Voter<'_>) -> f64 {
    voter.confidence.unwrap_or(0.0)
}

/// The most that a vote may come to weigh.
fn most(voter: &Voter<'_>) -> f64 {
    voter.confidence.unwrap_or(1.0)
}
