//! Self-consistency: many candidates, one vote, and an end as soon as its stop rule is content.
//!
//! Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models" (2022), with the
//! vote extended to tool calls and structured output.

use std::collections::HashMap;
use std::sync::Arc;

use crate::completion::{Completion, Prompt};
use crate::config::run::{JudgeFallback, Wave};
use crate::failure::Failure;
use crate::generator::{Generator, Run};
use crate::scorers::{Scorer, Scores};

use super::Observer;
use super::best_of_n::what_it_says;
use super::outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason, fewer_answers, is_limit};
use super::plan::{Plan, SelfConsistency};
use super::sampling::{Heard, Sampling};
use super::stop_rule::{Stopped, Watch};
use super::vote::{Ballot, Validity};

pub(super) async fn run(
    settings: &SelfConsistency,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let validity = Arc::new(Validity::of(&prompt));
    let mut sampling = Sampling::new(generator, Arc::clone(&prompt), run, plan.budget).at_most(plan.max_candidates);
    let ballot = Ballot::new(Arc::clone(&settings.rules), Arc::clone(&validity), sampling.allowed());
    let mut ballot = ballot.weighted(settings.weighting);
    let mut stopped = sample(settings, plan, &mut sampling, &mut ballot, observer).await;
    let candidates = sampling.finish();

    let mut warnings = Vec::new();
    let mut scores = None;
    let mut is_first_wanted = false;
    if let Some((scorer, fallback)) = &settings.scorer {
        match score(scorer, &prompt, &candidates, &mut ballot, run).await {
            Ok(Some(given)) => {
                warnings.extend(given.notes);
                scores = Some(given.values);
            }
            Ok(None) => {}
            Err(failure) => {
                let who = scorer.name();
                let instead = match fallback {
                    JudgeFallback::Error if !is_limit(&failure) => return Err(RunError::of_scorer(who, failure)),
                    JudgeFallback::First => "the first candidate is returned",
                    JudgeFallback::Error | JudgeFallback::Vote => "all votes weigh the same",
                };
                stopped.reason = stopped.reason.after_failed_scores(&failure, run);
                is_first_wanted = *fallback == JudgeFallback::First;
                let fallback = fallback.as_str();
                warnings.push(format!("{who} failed, so {instead} (`judge_fallback` is `{fallback}`): {failure}"));
            }
        }
    }

    let verdict = ballot.verdict_of_first(stopped.after.unwrap_or(usize::MAX));
    let Some(verdict) = verdict else { return Err(RunError::of(candidates, stopped.reason)) };
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    warnings.splice(0..0, validity.warnings());
    let mut ranking = verdict.ranking.clone();
    if is_first_wanted {
        let is_aside = |index: usize| verdict.set_aside.iter().any(|aside| aside.candidate == index);
        ranking.sort_by_key(|&index| (is_aside(index), index));
    } else {
        warnings.extend(verdict.notes.iter().cloned());
    }
    ranking.truncate(plan.answers);
    warnings.extend(fewer_answers(plan.answers, ranking.len()));
    Ok(Outcome {
        answer: Answer::Chosen(ranking),
        candidates,
        verdict: (!is_first_wanted).then_some(verdict),
        scores,
        searched: None,
        stop: Stop { reason: stopped.reason, planned: plan.budget },
        warnings,
    })
}

/// Samples wave after wave until the stop rule is content, a bound is reached or every candidate has ended.
async fn sample(
    settings: &SelfConsistency,
    plan: &Plan,
    sampling: &mut Sampling<'_>,
    ballot: &mut Ballot,
    observer: &mut impl Observer,
) -> Stopped {
    let mut watch = Watch::new(settings.stopping, plan.answers);
    let mut reached = None;
    loop {
        let stopped = match sampling.next().await {
            Heard::Ended(candidate) => {
                ballot.record(candidate, sampling.completion(candidate));
                observer.progress(sampling.ended(), plan.budget);
                watch.look(ballot)
            }
            Heard::Idle if sampling.can_start() => {
                match (settings.wave, sampling.started()) {
                    (Wave::Prime, 0) => sampling.prime().await,
                    (wave, started) => {
                        let count = settings.stopping.wave(wave, started);
                        sampling.start(count, watch.needed(ballot, started)).await;
                    }
                }
                None
            }
            Heard::FirstToken => {
                sampling.start(usize::MAX, watch.needed(ballot, sampling.started())).await;
                None
            }
            Heard::Idle => Some(Stopped { reason: sampling.reason_of_end(), after: None }),
            Heard::Bound(bound) => {
                reached = Some(bound);
                Some(Stopped { reason: bound.into(), after: None })
            }
        };
        let Some(mut stopped) = stopped else { continue };
        for candidate in sampling.close().await {
            ballot.record(candidate, sampling.completion(candidate));
        }
        if let Some(bound) = reached {
            stopped.reason = sampling.reason_at(bound);
        }
        // Nothing was stopped where nothing was left.
        if sampling.ended() == plan.budget && stopped.after.is_none_or(|after| after == plan.budget) {
            stopped.reason = StopReason::Completed;
        }
        return stopped;
    }
}

/// Has the candidates scored that vote, and gives the ballot their weights. Returns the scores in candidate order;
/// `None` where there was nothing to choose between. A judge sees those that say the same once; token confidence
/// is each candidate's own.
async fn score(
    scorer: &Scorer,
    prompt: &Arc<Prompt>,
    candidates: &[Candidate],
    ballot: &mut Ballot,
    run: &Arc<Run>,
) -> Result<Option<Scores>, Failure> {
    let mut shown: Vec<&Completion> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut voting: Vec<(usize, usize)> = Vec::new();
    for index in ballot.voting() {
        let Some(completion) = candidates[index].completion() else { continue };
        let said = match scorer {
            Scorer::Judge(_) => what_it_says(completion),
            Scorer::Confidence(_) => index.to_string(),
        };
        let position = *positions.entry(said).or_insert(shown.len());
        if position == shown.len() {
            shown.push(completion);
        }
        voting.push((index, position));
    }
    if shown.len() < 2 {
        return Ok(None);
    }
    // A judge would spend what the run must not; token confidence came with the candidates.
    if let (Some(bound), Scorer::Judge(_)) = (run.exhausted(), scorer) {
        return Err(StopReason::from(bound).without_scores());
    }
    let given = scorer.score(prompt, &shown, run).await?;
    let mut values = vec![None; candidates.len()];
    for (index, position) in voting {
        values[index] = given.values.get(position).copied().flatten();
    }
    ballot.weigh(&values);
    Ok(Some(Scores { values, ..given }))
}
