//! Each candidate judged by itself.

use futures_util::{StreamExt, stream};

use super::ask::{Bench, Question, ends_judging};
use super::case::Wanted;
use super::verdict;
use crate::failure::{Failure, FailureKind};
use crate::scorers::Scores;

/// Questions under way at a time: what the judge's provider takes at once is its own bound, and is usually lower.
const AT_A_TIME: usize = 32;

/// Asks about each of `count` candidates, all at once. Those whose verdicts cannot be read have no score.
///
/// What would strike every further question ends all of them: scores of those alone who happened to be asked first
/// would let the order decide.
pub(super) async fn score(bench: &Bench<'_>, count: usize) -> Result<Scores, Failure> {
    let mut judged = stream::iter(0..count)
        .map(|candidate| async move {
            let question = Question { number: candidate, shown: vec![candidate], wanted: Wanted::Score };
            (candidate, bench.ask(&question, verdict::score).await)
        })
        .buffer_unordered(AT_A_TIME);
    let mut values = vec![None; count];
    let mut failed = Vec::new();
    while let Some((candidate, result)) = judged.next().await {
        match result {
            Ok(score) => values[candidate] = Some(score),
            Err(failure) if ends_judging(failure.kind) => return Err(failure),
            Err(failure) => failed.push((candidate, failure)),
        }
    }
    failed.sort_by_key(|(candidate, _)| *candidate);
    let mut failures: Vec<Failure> = failed.into_iter().map(|(_, failure)| failure).collect();
    let notes = match failures.first() {
        None => Vec::new(),
        Some(first) if failures.len() < count => {
            vec![format!("the judge could not score {} of {count} candidates: {}", failures.len(), first.message)]
        }
        Some(_) => return Err(failures.swap_remove(0)),
    };
    if count == 0 {
        return Err(Failure::new(FailureKind::Internal, "there was nothing to judge"));
    }
    Ok(Scores { values, ranks: Vec::new(), notes })
}
