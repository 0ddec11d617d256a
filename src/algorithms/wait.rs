//! Wait: the model is asked again and again to check its reasoning, and answers with all that it thought.
//!
//! Rounds run one after the other. The text of each reply becomes an assistant turn, followed by a user turn
//! that asks for a check. The answer is the last reply, after an envelope that holds those before it:
//!
//! ```text
//! <test-time-compute>
//! {reply 1}
//! {reply 2}
//! </test-time-compute>
//!
//! {reply 3}
//! ```
//!
//! A single reply stands without an envelope. Only the text of replies goes into it: reasoning that a provider
//! tells apart from the text stays with its round, in the metadata. A round that calls tools ends the loop and is
//! the answer as it is, since what an agent runs must be what a model wrote.
//!
//! Where a round fails, or a bound is reached, the rounds until then are the run, and the last of them is the
//! answer.
//!
//! The `logprobs` of an answer are those of the last reply, without its envelope: they do not spell out the whole
//! text. The finish reason too is that of the last reply, while the usage is that of all rounds.

use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use crate::completion::{Completion, Delta, Prompt, RawObject, Reply, Usage};
use crate::failure::FailureKind;
use crate::generator::{Generator, Phase, Run};

use super::Observer;
use super::outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason};
use super::plan::Plan;
use super::said::{Said, said};
use super::single::Call;

/// What a round is followed by.
const CHECK: &str = "wait, check your reasoning";

pub(super) async fn run(
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let planned = plan.budget;
    let allowed = planned.min(plan.max_candidates);
    let mut rounds: Vec<Candidate> = Vec::with_capacity(allowed);
    let mut turns = prompt;
    let mut warnings = Vec::new();
    let mut reason = if allowed < planned { StopReason::MaxCandidates } else { StopReason::Completed };
    for number in 0..allowed {
        if let Some(bound) = run.exhausted() {
            reason = bound.into();
            break;
        }
        // Before a round that may call tools nobody can tell whether the envelope belongs before it.
        let live = plan.live && number + 1 == allowed && !offers_tools(&turns);
        let call = Call { prompt: Arc::clone(&turns), number, phase: Phase::Generate, live };
        let mut listener = AfterEnvelope { observer, envelope: envelope(&texts(&rounds)), has_begun: false };
        let result = call.make(generator, run, &mut listener).await;
        let has_begun = listener.has_begun;
        match result {
            Ok(completion) => {
                if has_begun {
                    // A reply may end without a word of text.
                    listener.send_envelope().await;
                }
                let calls_tools = !completion.reply.tool_calls().is_empty();
                if !calls_tools && number + 1 < allowed {
                    turns = Arc::new(with_check(&turns, &completion.reply));
                }
                rounds.push(Candidate::Completed(completion));
                observer.progress(rounds.len(), planned);
                if calls_tools {
                    reason = StopReason::Completed;
                    break;
                }
            }
            // What the client has read of it cannot be taken back.
            Err(failure) if has_begun => return Err(RunError { failures: vec![(number, failure)] }),
            Err(failure) if failure.kind == FailureKind::Deadline => {
                rounds.push(Candidate::Cancelled);
                reason = StopReason::Deadline;
                break;
            }
            Err(failure) => {
                warnings.push(format!(
                    "round {} of {planned} failed, so the answer is that of the round before: {failure}",
                    number + 1
                ));
                rounds.push(Candidate::Failed(failure));
                reason = StopReason::Completed;
                break;
            }
        }
    }
    let Some(answer) = answer(&rounds) else { return Err(RunError::of(rounds, reason)) };
    Ok(Outcome {
        answer,
        candidates: rounds,
        verdict: None,
        scores: None,
        searched: None,
        stop: Stop { reason, planned },
        warnings,
    })
}

/// The answer that the rounds make; `None` where not one has completed.
fn answer(rounds: &[Candidate]) -> Option<Answer> {
    let completed: Vec<(usize, &Completion)> =
        rounds.iter().enumerate().filter_map(|(number, round)| Some((number, round.completion()?))).collect();
    let ((number, last), before) = completed.split_last()?;
    if before.is_empty() || !last.reply.tool_calls().is_empty() {
        return Some(Answer::Chosen(vec![*number]));
    }
    let texts: Vec<&str> = before.iter().map(|(_, completion)| text(completion)).collect();
    let content = format!("{}{}", envelope(&texts), text(last));
    let mut usage = Usage::default();
    for (_, completion) in &completed {
        usage += completion.usage;
    }
    Some(Answer::Composed(Box::new(Completion { reply: with_content(&last.reply, content), usage, ..(*last).clone() })))
}

/// The replies before the last one, set apart from it; nothing where there are none.
fn envelope(replies: &[&str]) -> String {
    if replies.is_empty() {
        return String::new();
    }
    format!("<test-time-compute>\n{}\n</test-time-compute>\n\n", replies.join("\n"))
}

fn texts(rounds: &[Candidate]) -> Vec<&str> {
    rounds.iter().filter_map(Candidate::completion).map(text).collect()
}

fn text(completion: &Completion) -> &str {
    completion.reply.content().unwrap_or_default()
}

/// The reply with another text and everything else as the provider wrote it.
fn with_content(reply: &Reply, content: String) -> Reply {
    let replaced = RawObject::parse(reply.raw()).and_then(|mut message| {
        message.set("content", raw(&content));
        Reply::parse(message.to_raw())
    });
    replaced.unwrap_or_else(|_| Reply::new(Some(content), Vec::new()))
}

/// The prompt with the reply as an assistant turn, and the turn that asks for a check.
///
/// Of the reply only its text becomes a turn: what providers write beside it (a null refusal, annotations, the
/// model's thoughts) many of them refuse in a request.
fn with_check(prompt: &Prompt, reply: &Reply) -> Prompt {
    let text = serde_json::to_string(reply.content().unwrap_or_default()).expect("a string serialises");
    let turn = format!(r#"{{"role":"assistant","content":{text}}}"#);
    let before = prompt.messages.get().trim_end();
    let before = before.strip_suffix(']').expect("messages are a list").trim_end();
    let comma = if before.ends_with('[') { "" } else { "," };
    let check = format!(r#"{{"role":"user","content":"{CHECK}"}}"#);
    let messages = RawValue::from_string(format!("{before}{comma}{turn},{check}]"));
    Prompt { messages: messages.expect("put together from JSON"), ..prompt.clone() }
}

/// Whether a reply may call tools, under the names of today or of old.
fn offers_tools(prompt: &Prompt) -> bool {
    !prompt.tools.is_empty() || prompt.passthrough.contains_key("functions")
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).expect("strings always serialise")
}

/// Passes deltas on, and the envelope before the first that says something.
struct AfterEnvelope<'a, O> {
    observer: &'a mut O,
    /// Empty where there is none, or once it is out.
    envelope: String,
    /// Whether anything was passed on.
    has_begun: bool,
}

impl<O: Observer> AfterEnvelope<'_, O> {
    async fn send_envelope(&mut self) {
        let envelope = std::mem::take(&mut self.envelope);
        if !envelope.is_empty() {
            let fields = RawValue::from_string(format!(r#"{{"content":{}}}"#, raw(&envelope)));
            let fields = fields.expect("put together from JSON");
            self.observer.delta(Delta { fields, logprobs: None }).await;
        }
    }
}

impl<O: Observer> Observer for AfterEnvelope<'_, O> {
    async fn delta(&mut self, delta: Delta) {
        match said(&delta.fields) {
            // A round that fails before its first word is as one that never began.
            Said::Nothing if delta.logprobs.is_none() => {}
            Said::Reasoning => {
                self.has_begun = true;
                self.observer.delta(delta).await;
            }
            Said::Nothing | Said::Refusal | Said::Text => {
                self.has_begun = true;
                self.send_envelope().await;
                self.observer.delta(delta).await;
            }
        }
    }

    fn progress(&mut self, completed: usize, planned: usize) {
        self.observer.progress(completed, planned);
    }
}

#[cfg(test)]
mod tests;
