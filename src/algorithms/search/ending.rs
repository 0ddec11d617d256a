//! From the last paths of a search to its outcome.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use rand_chacha::ChaCha12Rng;

use crate::algorithms::Observer;
use crate::algorithms::best_of_n::what_it_says;
use crate::algorithms::outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason, fewer_answers};
use crate::algorithms::plan::Plan;
use crate::algorithms::vote::{Ballot, Pool, Validity, Verdict};
use crate::completion::Prompt;
use crate::config::run::FinalSelect;
use crate::failure::Failure;

use super::committed::Committed;
use super::path::{Leaf, Path};
use super::resampling::draw;
use super::weights::{logit, shares};
use super::{Search, Searched, Tree};

/// A search that takes no further step.
pub(super) struct Ended {
    /// Those that may be the answer, whether they have come to their own end or not.
    pub paths: Vec<Path>,
    /// Of each path, where it has one.
    pub log_weights: Option<Vec<f64>>,
    pub tree: Tree,
    /// Why other paths are lost.
    pub failures: Vec<Failure>,
    pub reason: StopReason,
    pub warnings: Vec<String>,
    pub committed: Committed,
}

/// How one of the paths is chosen.
pub(super) enum Choice {
    /// The highest score; the first of equals.
    Best,
    /// Drawn by the weights.
    Drawn(Box<ChaCha12Rng>),
}

/// What becomes of each candidate, in candidate order.
#[derive(Default)]
struct Told {
    candidates: Vec<Candidate>,
    scores: Vec<Option<f64>>,
    steps_used: Vec<Option<usize>>,
    nodes: Vec<Option<usize>>,
}

/// Asks every path for its answer and chooses among them: the valid before the invalid, the finished before those cut off,
/// and among these as `choice` says.
///
/// # Errors
///
/// When there is no answer.
pub(super) async fn conclude(
    search: &Search,
    plan: &Plan,
    prompt: &Prompt,
    ended: Ended,
    choice: Choice,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let Ended { mut paths, log_weights, mut tree, failures, reason, mut warnings, committed } = ended;
    // What has not taken a step has nothing to say.
    paths.retain(|path| path.steps > 0);
    // Nothing is generated for them, so that they are here at once also where the deadline is over.
    let leaves = join_all(paths.into_iter().map(Path::finish)).await;
    let told = Told::of(leaves, failures, plan.budget);
    let log_weights = log_weights.map(|weights| told.of_answers(&weights));

    let validity = Arc::new(Validity::of(prompt));
    let mut ballot = Ballot::new(Arc::clone(&search.rules), Arc::clone(&validity), told.candidates.len());
    for (index, candidate) in told.candidates.iter().enumerate() {
        ballot.record(index, candidate.completion());
    }
    let Some(pool) = ballot.pool() else { return Err(RunError::of(told.candidates, reason)) };
    for (index, _) in told.candidates.iter().enumerate().filter(|(_, end)| end.completion().is_some()) {
        tree.name(told.nodes[index], index);
    }
    let verdict = verdict(&pool, &told, log_weights.as_deref(), choice);
    let chosen = told.distinct(&verdict.ranking, plan.answers);
    let winner = told.candidates[verdict.selected].completion().expect("the pool holds completed candidates");
    let is_told = committed.finish(winner, observer).await;
    is_told.map_err(|failure| RunError { failures: vec![(verdict.selected, failure)] })?;
    warnings.splice(0..0, validity.warnings());
    warnings.extend(verdict.notes.iter().cloned());
    warnings.extend(fewer_answers(plan.answers, chosen.len()));
    let Told { candidates, scores, steps_used, .. } = told;
    Ok(Outcome {
        answer: Answer::Chosen(chosen),
        candidates,
        verdict: Some(verdict),
        scores: Some(scores),
        searched: Some(Searched { tree, opened: plan.held(), steps_used, log_weights }),
        stop: Stop { reason, planned: plan.budget },
        warnings,
    })
}

impl Told {
    /// The leaves, then the paths that are lost, and of those that were given up as many as there were places.
    fn of(leaves: Vec<Leaf>, failures: Vec<Failure>, places: usize) -> Self {
        let mut told = Self::default();
        for Leaf { node, steps, score, answer } in leaves {
            let is_answer = answer.is_ok();
            told.candidates.push(answer.map_or_else(Candidate::Failed, Candidate::Completed));
            told.scores.push(score.filter(|_| is_answer));
            told.steps_used.push(is_answer.then_some(steps));
            told.nodes.push(node);
        }
        told.candidates.extend(failures.into_iter().map(Candidate::Failed));
        let all = told.candidates.len().max(places);
        told.candidates.resize_with(all, || Candidate::Cancelled);
        told.scores.resize(all, None);
        told.steps_used.resize(all, None);
        told.nodes.resize(all, None);
        told
    }

    /// What belongs to each leaf, for those that are answers.
    fn of_answers(&self, values: &[f64]) -> Vec<Option<f64>> {
        let value = |(index, end): (usize, &Candidate)| end.completion().and(values.get(index).copied());
        self.candidates.iter().enumerate().map(value).collect()
    }

    /// As many of the ranking as are wanted, each path once: its copies are one answer.
    fn distinct(&self, ranking: &[usize], wanted: usize) -> Vec<usize> {
        let mut seen = HashSet::new();
        ranking.iter().copied().filter(|index| seen.insert(self.nodes[*index])).take(wanted).collect()
    }
}

fn verdict(pool: &Pool, told: &Told, log_weights: Option<&[Option<f64>]>, choice: Choice) -> Verdict {
    let mut ranking: Vec<usize> = pool.members.iter().map(|member| member.candidate).collect();
    let (rule, drawn) = match choice {
        Choice::Best => (FinalSelect::Argmax, None),
        Choice::Drawn(mut rng) => {
            let weight = |index: &usize| log_weights.and_then(|weights| weights[*index]).unwrap_or(f64::NEG_INFINITY);
            let weights: Vec<f64> = ranking.iter().map(weight).collect();
            (FinalSelect::Sample, Some(ranking[draw(&shares(&weights), &mut *rng)]))
        }
    };
    // The sort is stable: of equals the first stays first.
    ranking.sort_by(|one, other| {
        let is_drawn = |index: &usize| drawn == Some(*index);
        let by_score = logit(told.scores[*other]).total_cmp(&logit(told.scores[*one]));
        is_drawn(other).cmp(&is_drawn(one)).then(by_score)
    });
    let said = |index: usize| told.candidates[index].completion().map(what_it_says);
    let winner = said(ranking[0]);
    let agreeing = ranking.iter().filter(|index| said(**index) == winner).count();
    let agreement = agreeing as f64 / ranking.len() as f64;
    ranking.extend(pool.set_aside.iter().map(|aside| aside.candidate));
    Verdict {
        selected: ranking[0],
        ranking,
        response_counts: Vec::new(),
        weights: None,
        agreement,
        vote: rule.as_str(),
        set_aside: pool.set_aside.clone(),
        notes: pool.notes.clone(),
    }
}
