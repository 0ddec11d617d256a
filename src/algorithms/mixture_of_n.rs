//! Mixture of N: several candidates, and one call that makes the answer of them.
//!
//! After Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities" (2024), with one layer whose
//! proposers and whose aggregator are the same model.
//!
//! The candidates are shown as data at the end of the last user turn, so that templates which insist on turns that
//! alternate take it. Where the winner of self-consistency's vote calls tools, the call that synthesises is offered
//! them too, and what it calls must be valid, for an agent will run it; where the winner is text, tools stay
//! in view and out of use. Whatever keeps the synthesis from being an answer (a failure, a bound, a call that
//! nobody could run) leaves that winner as the answer.
//!
//! A synthesis is told live only where its first words are final: not where it calls tools or writes JSON, which are
//! checked first. A refusal is held back until it is known to be all that there is. One that is cut off does not
//! replace a candidate that is whole, unless its first words are out.

mod question;

use std::sync::Arc;

use crate::completion::{Completion, Delta, FinishReason, Prompt};
use crate::failure::Failure;
use crate::generator::{Generator, Phase, Run};

use super::Observer;
use super::outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason};
use super::plan::Plan;
use super::said::{Said, said};
use super::sampling::Sampling;
use super::single::Call;
use super::vote::{Ballot, Pool, Validity, VoteRules};
use question::{Question, Shown};

/// What is done without a synthesis.
const INSTEAD: &str = "the answer is the candidate that wins the vote";

pub(super) async fn run(
    rules: &Arc<VoteRules>,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let planned = plan.budget;
    let validity = Arc::new(Validity::of(&prompt));
    let mut ballot = Ballot::new(Arc::clone(rules), Arc::clone(&validity), planned);
    let mut sampling = Sampling::new(generator, Arc::clone(&prompt), run, planned).at_most(plan.max_candidates);
    let mut reason = sampling.hear_all(observer, |candidate, completion| ballot.record(candidate, completion)).await;
    let candidates = sampling.finish();
    let (Some(verdict), Some(pool)) = (ballot.verdict(), ballot.pool()) else {
        return Err(RunError::of(candidates, reason));
    };
    let mut warnings = validity.warnings();
    let best = candidates[verdict.selected].completion().expect("a vote's winner has completed");
    let shown = alike(&pool, &candidates, best);
    let mut answer = None;
    if shown.len() < 2 {
        // There is nothing to be made of a single candidate.
    } else if let Some(bound) = run.exhausted() {
        reason = bound.into();
        let bound = reason.as_str();
        warnings.push(format!("the run reached `{bound}` before a synthesis, so {INSTEAD}"));
    } else {
        let Question { mut prompt, notes } = question::of(&prompt, &shown);
        warnings.extend(notes);
        let made = match generator.fit(&mut prompt) {
            Ok(fitted) => {
                warnings.extend(fitted);
                let synthesis = Synthesis { prompt: Arc::new(prompt), best, validity: &validity, live: plan.live };
                synthesis.make(generator, run, observer).await
            }
            Err(failure) => Err(Unusable::Replaced(format!("the synthesis failed ({failure})"))),
        };
        match made {
            Ok(completion) => {
                warnings.extend(cut_off(&completion).map(|by| format!("the synthesis was cut off by {by}")));
                answer = Some(Answer::Composed(Box::new(completion)));
            }
            Err(Unusable::Begun(error)) => return Err(RunError { failures: vec![(planned, error)] }),
            Err(Unusable::Replaced(why)) => {
                if run.exhausted().is_some_and(|bound| StopReason::from(bound) == StopReason::Deadline) {
                    reason = StopReason::Deadline;
                }
                warnings.push(format!("{why}, so {INSTEAD}"));
            }
        }
    }
    let is_composed = answer.is_some();
    if !is_composed {
        warnings.extend(verdict.notes.iter().cloned());
    }
    Ok(Outcome {
        answer: answer.unwrap_or(Answer::Chosen(vec![verdict.selected])),
        candidates,
        // A vote that did not choose the answer is not told.
        verdict: (!is_composed).then_some(verdict),
        scores: None,
        searched: None,
        stop: Stop { reason, planned },
        warnings,
    })
}

/// The candidates of the pool that answer in the way of the best one: by calls, or by text.
fn alike<'a>(pool: &'a Pool, candidates: &'a [Candidate], best: &Completion) -> Vec<Shown<'a>> {
    let calls_tools = |completion: &Completion| !completion.reply.tool_calls().is_empty();
    let members = pool.members.iter().filter_map(|member| {
        let completion = candidates[member.candidate].completion()?;
        Some(Shown { completion, class: member.class.as_deref() })
    });
    members.filter(|shown| calls_tools(shown.completion) == calls_tools(best)).collect()
}

/// What has ended a reply before its time.
fn cut_off(completion: &Completion) -> Option<&'static str> {
    match completion.finish_reason {
        FinishReason::Length => Some("the length limit"),
        FinishReason::ContentFilter => Some("the provider's content filter"),
        FinishReason::Stop | FinishReason::ToolCalls | FinishReason::Other(_) => None,
    }
}

/// The call that makes one answer of several.
struct Synthesis<'a> {
    prompt: Arc<Prompt>,
    /// The candidate that is the answer without it.
    best: &'a Completion,
    validity: &'a Validity,
    live: bool,
}

/// Why there is no synthesis.
enum Unusable {
    /// The client has read the beginning of it.
    Begun(Failure),
    /// Nobody has seen any of it; why, in words.
    Replaced(String),
}

impl Synthesis<'_> {
    async fn make(
        self,
        generator: &dyn Generator,
        run: &Arc<Run>,
        observer: &mut impl Observer,
    ) -> Result<Completion, Unusable> {
        let calls_tools = !self.best.reply.tool_calls().is_empty();
        let live = self.live && !calls_tools && !self.validity.wants_json();
        let mut listener = Listener { observer, held: Vec::new(), has_begun: false };
        let call = Call { prompt: self.prompt, number: 0, phase: Phase::Synthesize, live };
        let result = call.make(generator, run, &mut listener).await;
        let has_begun = listener.has_begun;
        let completion = match result {
            Ok(completion) => completion,
            Err(failure) if has_begun => return Err(Unusable::Begun(failure)),
            Err(failure) => return Err(Unusable::Replaced(format!("the synthesis failed ({failure})"))),
        };
        if has_begun {
            return Ok(completion);
        }
        if calls_tools && completion.reply.tool_calls().is_empty() {
            let why = "the synthesis calls no tool while the candidates do";
            return Err(Unusable::Replaced(why.to_owned()));
        }
        if let Some(fault) = self.validity.fault(&completion.reply) {
            return Err(Unusable::Replaced(format!("the synthesis is invalid ({fault})")));
        }
        match cut_off(&completion) {
            Some(by) if cut_off(self.best).is_none() => {
                Err(Unusable::Replaced(format!("the synthesis was cut off by {by}")))
            }
            _ => Ok(completion),
        }
    }
}

/// Passes deltas on from the first that says something besides a refusal, and remembers that it did.
struct Listener<'a, O> {
    observer: &'a mut O,
    /// Those that came before that one.
    held: Vec<Delta>,
    has_begun: bool,
}

impl<O: Observer> Observer for Listener<'_, O> {
    async fn delta(&mut self, delta: Delta) {
        if !self.has_begun && said(&delta.fields) <= Said::Refusal {
            self.held.push(delta);
            return;
        }
        self.has_begun = true;
        for held in self.held.drain(..) {
            self.observer.delta(held).await;
        }
        self.observer.delta(delta).await;
    }

    fn progress(&mut self, completed: usize, planned: usize) {
        self.observer.progress(completed, planned);
    }
}
