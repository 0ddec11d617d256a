//! Several plain calls whose answers are all returned: what a client gets that asks for n choices and no algorithm.

use std::sync::Arc;

use crate::completion::Prompt;
use crate::generator::{Generator, Run};

use super::Observer;
use super::outcome::{Answer, Outcome, RunError, Stop, fewer_answers};
use super::plan::Plan;
use super::sampling::Sampling;

pub(super) async fn run(
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let mut sampling = Sampling::new(generator, prompt, run, plan.budget).at_most(plan.max_candidates);
    let reason = sampling.hear_all(observer, |_, _| {}).await;
    let candidates = sampling.finish();
    let completed = candidates.iter().enumerate().filter(|(_, end)| end.completion().is_some());
    let chosen: Vec<usize> = completed.map(|(index, _)| index).collect();
    if chosen.is_empty() {
        return Err(RunError::of(candidates, reason));
    }
    Ok(Outcome {
        warnings: fewer_answers(plan.answers, chosen.len()).into_iter().collect(),
        answer: Answer::Chosen(chosen),
        candidates,
        verdict: None,
        scores: None,
        searched: None,
        stop: Stop { reason, planned: plan.budget },
    })
}
