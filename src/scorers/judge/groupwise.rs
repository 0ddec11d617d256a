//! Candidates judged against each other: all at once where there are few, else in a tournament of groups.

use futures_util::future::join_all;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;

use super::ask::{Bench, Question, ends_judging};
use super::case::Wanted;
use super::verdict;
use crate::failure::{Failure, FailureKind};
use crate::generator::Phase;
use crate::scorers::Scores;

/// Candidates of one question: beyond that, judges lose sight of those in the middle.
const MAX_GROUP: usize = 8;

/// The number of a draw among the seeds of the judge's calls, out of the way of the calls themselves.
const SHUFFLE: usize = usize::MAX / 2;

/// Has the judge pick among `count` candidates: 1 for those picked, 0 for the others. In a tournament those of a group
/// that could not be judged have no score. Those picked are ranked as the judge named them; those that were picked out of
/// different groups are ranked by their places in them.
///
/// Every round shuffles the candidates anew, by the run's seed: judges prefer places, above all the first.
pub(super) async fn score(bench: &Bench<'_>, count: usize) -> Result<Scores, Failure> {
    if count == 0 {
        return Err(Failure::new(FailureKind::Internal, "there was nothing to judge"));
    }
    let mut values = vec![Some(0.0); count];
    let mut notes = Vec::new();
    let mut left: Vec<usize> = (0..count).collect();
    // Of the last round alone, which everybody who is picked has come through.
    let mut ranks = vec![0; count];
    let mut asked = 0;
    let wanted = bench.top_n().max(1);
    for round in 0.. {
        if left.len() <= wanted {
            break;
        }
        let seed = bench.run().local_seed(Phase::Judge, SHUFFLE + round);
        left.shuffle(&mut ChaCha12Rng::seed_from_u64(seed));
        let groups = groups(&left, wanted);
        let picked = join_all(groups.iter().enumerate().map(|(number, (group, winners))| async move {
            if group.len() <= *winners {
                return Ok(group.clone());
            }
            let (number, wanted) = (asked + number, Wanted::Picks(*winners));
            let question = Question { number, shown: group.clone(), wanted };
            let read = |answer: &str, cut_off| verdict::picks(answer, cut_off, group.len(), *winners);
            let places = bench.ask(&question, read).await?;
            Ok(places.into_iter().map(|place| group[place]).collect())
        }))
        .await;
        asked += groups.len();
        for ((group, winners), picked) in groups.iter().zip(&picked) {
            for (place, winner) in picked.iter().flatten().enumerate() {
                ranks[*winner] = if group.len() <= *winners { 0 } else { place };
            }
        }
        left = advance(&groups, picked, &mut values, &mut notes)?;
    }
    if asked == 0 && count > 1 {
        notes.push(format!("the judge was not asked: `judge_top_n` {wanted} picks all {count} candidates"));
    }
    for winner in left {
        values[winner] = Some(1.0);
    }
    Ok(Scores { values, ranks, notes })
}

/// Those who go on to the next round. The failure is returned when it struck every group, or would strike every further
/// question.
fn advance(
    groups: &[(Vec<usize>, usize)],
    picked: Vec<Result<Vec<usize>, Failure>>,
    values: &mut [Option<f64>],
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, Failure> {
    let mut left = Vec::new();
    let mut failed = None;
    for ((group, _), picked) in groups.iter().zip(picked) {
        match picked {
            Ok(winners) => left.extend(winners),
            Err(failure) if ends_judging(failure.kind) => return Err(failure),
            Err(failure) => {
                group.iter().for_each(|candidate| values[*candidate] = None);
                notes.push(format!("the judge could not compare {} of the candidates: {failure}", group.len()));
                failed = Some(failure);
            }
        }
    }
    match failed {
        Some(failure) if left.is_empty() => Err(failure),
        _ => Ok(left),
    }
}

/// Groups of at most eight and nearly equal size, each with the number of its members that go on.
///
/// Together at least `wanted` go on, and always fewer than there were: of each group `wanted`, but no more than half of
/// it, unless so few would be too few.
fn groups(left: &[usize], wanted: usize) -> Vec<(Vec<usize>, usize)> {
    let count = left.len().div_ceil(MAX_GROUP);
    if count == 1 {
        return vec![(left.to_vec(), wanted)];
    }
    let sizes: Vec<usize> =
        (0..count).map(|group| left.len() / count + usize::from(group < left.len() % count)).collect();
    let halves: usize = sizes.iter().map(|size| wanted.min(size / 2)).sum();
    let total = wanted.max(halves);
    let mut rest = left;
    let mut groups = Vec::with_capacity(count);
    for (group, size) in sizes.into_iter().enumerate() {
        let (members, others) = rest.split_at(size);
        rest = others;
        groups.push((members.to_vec(), total / count + usize::from(group < total % count)));
    }
    groups
}
