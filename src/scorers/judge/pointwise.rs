//! Each candidate judged by itself.

use futures_util::{StreamExt, stream};

use super::ask::{Bench, Question};
use super::case::Wanted;
use super::verdict;
use crate::failure::{Failure, FailureKind};
use crate::scorers::Scores;

/// Questions under way at a time: what the judge's provider takes at once is its own bound, and is usually lower.
const AT_A_TIME: usize = 32;

/// Asks about each of `count` candidates, all at once. Those whose verdicts cannot be read have no score.
pub(super) async fn score(bench: &Bench<'_>, count: usize) -> Result<Scores, Failure> {
    let judged: Vec<Result<f64, Failure>> = stream::iter(0..count)
        .map(|candidate| async move {
            let question = Question { number: candidate, shown: vec![candidate], wanted: Wanted::Score };
            bench.ask(&question, verdict::score).await
        })
        .buffered(AT_A_TIME)
        .collect()
        .await;
    let mut values = Vec::with_capacity(count);
    let mut failures = Vec::new();
    for result in judged {
        values.push(result.as_ref().ok().copied());
        failures.extend(result.err());
    }
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
    Ok(Scores { values, notes })
}
