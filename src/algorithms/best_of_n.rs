//! Best-of-N: many candidates, a scorer, and the one that it likes best.
//!
//! Stiennon et al., "Learning to Summarize from Human Feedback" (2020), with the scorer left open. Candidates that say
//! the same are scored once, and those that are invalid or cut off only if there is nothing better. A scorer that fails
//! decides nothing by accident: what decides instead is configured and told.

use std::collections::HashMap;
use std::sync::Arc;

use crate::answer::Json;
use crate::completion::{CallKind, Completion, Prompt};
use crate::config::run::{JudgeFallback, JudgeMode, Select};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Generator, Run};
use crate::scorers::{Scorer, Scores};

use super::Observer;
use super::outcome::{Answer, Candidate, Outcome, RunError, Stop, fewer_answers, is_limit};
use super::plan::{BestOfN, Plan};
use super::sampling::Sampling;
use super::selection::{Entrant, select};
use super::vote::{Ballot, Pool, Validity, Verdict};

pub(super) async fn run(
    settings: &BestOfN,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let planned = plan.budget;
    let validity = Arc::new(Validity::of(&prompt));
    let mut ballot = Ballot::new(Arc::clone(&settings.rules), Arc::clone(&validity), planned);
    let mut sampling = Sampling::new(generator, Arc::clone(&prompt), run, planned).at_most(plan.max_candidates);
    let mut reason = sampling.hear_all(observer, |candidate, completion| ballot.record(candidate, completion)).await;
    let candidates = sampling.finish();
    let Some(pool) = ballot.pool() else { return Err(RunError::of(candidates, reason)) };

    let distinct = Distinct::of(&pool, &candidates);
    let mut scores = vec![None; planned];
    let verdict = match score(&settings.scorer, &prompt, &distinct, run).await {
        Ok(scored) => {
            distinct.spread(&scored.values, &mut scores);
            choose(settings.select, &pool, &distinct, &scores, scored)
        }
        Err(failure) => {
            reason = reason.after_failed_scores(&failure, run);
            fall_back(settings, &ballot, &pool, failure)?
        }
    };
    let mut order = verdict.ranking.clone();
    order.truncate(plan.answers);
    let few = fewer_answers(plan.answers, order.len());
    // Only the schemas that a candidate needed were compiled, so their warnings are known by now.
    let warnings = validity.warnings().iter().chain(&verdict.notes).cloned().chain(few).collect();
    Ok(Outcome {
        answer: Answer::Chosen(order),
        candidates,
        verdict: Some(verdict),
        scores: Some(scores),
        searched: None,
        stop: Stop { reason, planned },
        warnings,
    })
}

/// The members of a pool, those that say the same taken together.
struct Distinct<'a> {
    /// One completion of each thing said, in the order of lowest index.
    completions: Vec<&'a Completion>,
    /// For each member of the pool, its index and the position of its like in `completions`.
    members: Vec<(usize, usize)>,
}

impl<'a> Distinct<'a> {
    fn of(pool: &Pool, candidates: &'a [Candidate]) -> Self {
        let mut positions: HashMap<String, usize> = HashMap::new();
        let mut distinct = Self { completions: Vec::new(), members: Vec::new() };
        for member in &pool.members {
            let completion = candidates[member.candidate].completion().expect("the pool holds completed candidates");
            let position = *positions.entry(what_it_says(completion)).or_insert(distinct.completions.len());
            if position == distinct.completions.len() {
                distinct.completions.push(completion);
            }
            distinct.members.push((member.candidate, position));
        }
        distinct
    }

    /// Gives every member the score of its like.
    fn spread(&self, values: &[Option<f64>], scores: &mut [Option<f64>]) {
        for (candidate, position) in &self.members {
            scores[*candidate] = values.get(*position).copied().flatten().filter(|score| score.is_finite());
        }
    }
}

/// Text and tool calls in one canonical form; of a message without either, the message itself. The first word says
/// which, since a text may print what another message calls.
pub(super) fn what_it_says(completion: &Completion) -> String {
    let reply = &completion.reply;
    let text = reply.content().unwrap_or_default().trim();
    if reply.tool_calls().is_empty() {
        return if text.is_empty() { format!("message {}", reply.raw()) } else { format!("text {text}") };
    }
    let mut said: Vec<Json> = Vec::new();
    if !text.is_empty() {
        said.push(Json::Text(text.to_owned()));
    }
    for call in reply.tool_calls() {
        let as_text = || Json::Text(call.arguments.clone());
        let (what, arguments) = match call.kind {
            CallKind::Custom => ("custom", as_text()),
            CallKind::Function => match Json::parse(&call.arguments) {
                Ok(arguments) => ("function", arguments),
                Err(_) => ("unreadable", as_text()),
            },
        };
        said.push(Json::List(vec![Json::Text(what.to_owned()), Json::Text(call.name.clone()), arguments]));
    }
    format!("calls {}", Json::List(said))
}

/// Scores what differs. Where nothing does, token confidence is told all the same, and a judge would not be asked for
/// nothing: what stands alone is the best there is.
async fn score(
    scorer: &Scorer,
    prompt: &Arc<Prompt>,
    distinct: &Distinct<'_>,
    run: &Arc<Run>,
) -> Result<Scores, Failure> {
    let stands_alone = distinct.completions.len() == 1;
    if let (true, Scorer::Judge(judge)) = (stands_alone, scorer) {
        let note = "there is one answer to choose from, so the judge was not asked, and it has the highest score";
        return Ok(Scores {
            values: vec![Some(highest_score(judge.settings.mode))],
            ranks: Vec::new(),
            notes: vec![note.to_owned()],
        });
    }
    let scores = match scorer.score(prompt, &distinct.completions, run).await {
        // Nothing hangs on a score where there is one answer.
        Err(_) if stands_alone => return Ok(Scores { values: vec![None], ranks: Vec::new(), notes: Vec::new() }),
        scores => scores?,
    };
    if scores.values.iter().flatten().any(|score| score.is_finite()) {
        return Ok(scores);
    }
    Err(Failure::new(FailureKind::Malformed, "not one candidate could be scored"))
}

/// The score above which a judge gives none.
fn highest_score(mode: JudgeMode) -> f64 {
    match mode {
        JudgeMode::Pointwise => 10.0,
        JudgeMode::Groupwise => 1.0,
    }
}

/// Which candidates are of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Class<'a> {
    /// Those that vote for this.
    Voted(&'a str),
    /// Those that say the same, by their position among what is distinct: there is no vote, or they abstain from it.
    Alike(usize),
}

/// The verdict by scores.
fn choose(rule: Select, pool: &Pool, distinct: &Distinct<'_>, scores: &[Option<f64>], scored: Scores) -> Verdict {
    let by_class = rule != Select::Argmax;
    let entrants: Vec<Entrant<Class<'_>>> = pool
        .members
        .iter()
        .zip(&distinct.members)
        .map(|(member, (_, position))| Entrant {
            candidate: member.candidate,
            score: scores[member.candidate],
            rank: scored.ranks.get(*position).copied().unwrap_or_default(),
            class: member.class.as_deref().filter(|_| by_class).map_or(Class::Alike(*position), Class::Voted),
        })
        .collect();
    let chosen = select(rule, &entrants).expect("a pool is never empty");
    let agreeing = chosen.classes[0].1;
    let label = |class: Class<'_>| match class {
        Class::Voted(label) => label.to_owned(),
        Class::Alike(position) => {
            let reply = &distinct.completions[position].reply;
            let text = reply.content().unwrap_or_default().trim();
            if text.is_empty() { reply.raw().get().to_owned() } else { text.to_owned() }
        }
    };
    let counts = chosen.classes.into_iter().filter(|_| by_class).map(|(class, count)| (label(class), count)).collect();
    Verdict {
        selected: chosen.order[0],
        ranking: ranking(chosen.order, pool),
        weights: None,
        response_counts: counts,
        agreement: agreeing as f64 / entrants.len() as f64,
        vote: rule.as_str(),
        set_aside: pool.set_aside.clone(),
        notes: pool.notes.iter().cloned().chain(scored.notes).collect(),
    }
}

/// Candidates that were not worth scoring are still answers to those who ask for many.
fn ranking(mut pool_in_order: Vec<usize>, pool: &Pool) -> Vec<usize> {
    pool_in_order.extend(pool.set_aside.iter().map(|aside| aside.candidate));
    pool_in_order
}

/// What decides when the scorer has failed. A limit that is reached makes no error of candidates that are there.
fn fall_back(settings: &BestOfN, ballot: &Ballot, pool: &Pool, failure: Failure) -> Result<Verdict, RunError> {
    let who = settings.scorer.name();
    let (mut verdict, instead) = match settings.fallback {
        JudgeFallback::Error if !is_limit(&failure) => return Err(RunError::of_scorer(who, failure)),
        JudgeFallback::Error | JudgeFallback::Vote => {
            (ballot.verdict().expect("a pool is never empty"), "the vote decided")
        }
        JudgeFallback::First => {
            let first = Verdict {
                selected: pool.members[0].candidate,
                ranking: ranking(pool.members.iter().map(|member| member.candidate).collect(), pool),
                weights: None,
                response_counts: Vec::new(),
                agreement: 1.0 / pool.members.len() as f64,
                vote: JudgeFallback::First.as_str(),
                set_aside: pool.set_aside.clone(),
                notes: pool.notes.clone(),
            };
            (first, "the first candidate is returned")
        }
    };
    let fallback = settings.fallback.as_str();
    verdict.notes.push(format!("{who} failed, so {instead} (`judge_fallback` is `{fallback}`): {failure}"));
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::completion::{FinishReason, Reply, Usage};

    fn says(message: &str) -> String {
        let reply = Reply::parse(RawValue::from_string(message.to_owned()).unwrap()).unwrap();
        what_it_says(&Completion {
            reply,
            finish_reason: FinishReason::Stop,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage::default(),
        })
    }

    fn calls(name: &str, arguments: &str) -> String {
        let arguments = serde_json::to_string(arguments).unwrap();
        says(&format!(
            r#"{{"tool_calls":[{{"id":"{}","function":{{"name":"{name}","arguments":{arguments}}}}}]}}"#,
            arguments.len()
        ))
    }

    #[test]
    fn candidates_are_the_same_by_what_they_say_and_not_by_how_it_is_written() {
        assert_eq!(says(r#"{"content": " It is 42\n"}"#), says(r#"{"role":"assistant","content":"It is 42","x":1}"#));
        assert_eq!(calls("f", r#"{"a": 1.0, "b": [2]}"#), calls("f", r#"{"b":[2],"a":1}"#));
        assert_eq!(calls("f", "{broken"), calls("f", "{broken"));
    }

    #[test]
    fn whatever_a_client_could_tell_apart_is_not_the_same() {
        let all = [
            says(r#"{"content": "It is 42"}"#),
            says(r#"{"content": "it is 42"}"#),
            says(r#"{"content": null, "refusal": "No."}"#),
            says(r#"{"content": null, "refusal": "Never."}"#),
            calls("f", "{}"),
            calls("g", "{}"),
            calls("f", "[]"),
            calls("f", r#"{"a": " x"}"#),
            calls("f", r#"{"a": "x"}"#),
            calls("f", "{broken"),
            calls("f", r#""{broken""#),
            says(r#"{"content": "calls [[\"function\",\"f\",{}]]"}"#),
            says(r#"{"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "{}"}}]}"#),
            says(r#"{"tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "{broken"}}]}"#),
            says(r#"{"content": "so", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}"#),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len(), "{all:?}");
    }
}
