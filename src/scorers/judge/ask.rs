//! Asking the judge one question until its answer can be understood.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::Judge;
use super::case::{Case, Wanted};
use super::manner::Manner;
use super::verdict::Unreadable;
use crate::completion::{Completion, FinishReason, MaxTokens, Prompt, Sampling};
use crate::config::capabilities::StructuredOutput;
use crate::failure::{Failure, FailureKind};
use crate::generator::{self, Bound, Phase, Run};

/// How often a question is asked before its answers count as unreadable.
const TRIES: usize = 3;

/// What the questions of one judgement share.
pub(super) struct Bench<'a> {
    judge: &'a Judge,
    run: &'a Arc<Run>,
    case: Case,
    /// How the judge is asked in this judgement.
    manner: Mutex<Manner>,
    /// Whether a question has been answered or has failed. Whoever holds the lock is the first.
    gone_ahead: tokio::sync::Mutex<bool>,
    calls: AtomicUsize,
    /// What was asked in another way than it would be, since the judge's model cannot do it all.
    fitted: Mutex<BTreeSet<String>>,
}

/// One question: about whom, and what for.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Its number within the judgement.
    pub number: usize,
    /// The candidates in the order in which they are shown.
    pub shown: Vec<usize>,
    pub wanted: Wanted,
}

/// Whether a failed question means that no other one needs to be asked: the judge is not there for us, or the run may not
/// spend more. Verdicts that are in by then are of some candidates only, and decide nothing.
pub(super) fn ends_judging(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::Auth | FailureKind::NotFound | FailureKind::Deadline | FailureKind::Limit)
}

impl<'a> Bench<'a> {
    pub fn new(judge: &'a Judge, prompt: &Prompt, candidates: &[&Completion], run: &'a Arc<Run>) -> Self {
        let learnt = judge.target.lessons.learnt();
        let manner = learnt.unwrap_or_else(|| Manner::with_all(judge.target.structured_output));
        Self {
            judge,
            run,
            case: Case::new(&judge.settings.criterion, prompt, candidates),
            manner: Mutex::new(manner),
            gone_ahead: tokio::sync::Mutex::new(false),
            calls: AtomicUsize::new(0),
            fitted: Mutex::default(),
        }
    }

    pub fn run(&self) -> &Run {
        self.run
    }

    /// How many candidates a groupwise judge picks.
    pub fn top_n(&self) -> usize {
        self.judge.settings.top_n
    }

    /// Calls made so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// What a reader should know about how the judge was asked.
    pub fn notes(&self) -> Vec<String> {
        if self.calls() == 0 {
            return Vec::new();
        }
        let mut notes = self.case.notes.clone();
        notes.extend(self.fitted.lock().iter().map(|note| format!("the judge: {note}")));
        let manner = *self.manner.lock();
        if manner.format != self.judge.target.structured_output {
            notes.push(
                "the judge's server does not take `response_format`, so verdicts were asked for in words".to_owned(),
            );
        }
        if !manner.with_temperature {
            notes.push("the judge's model does not take `judge_temperature`, so it was left out".to_owned());
        }
        if !manner.with_seed {
            notes.push("the judge's server does not take `seed`, so it was left out".to_owned());
        }
        notes
    }

    /// Asks until an answer can be read, at most three times.
    ///
    /// # Errors
    ///
    /// The failure of a call (providers have made it again already where that may help), or
    /// [`FailureKind::Malformed`] when no answer could be read.
    pub async fn ask<T>(
        &self,
        question: &Question,
        read: impl Fn(&str, bool) -> Result<T, Unreadable>,
    ) -> Result<T, Failure> {
        let mut why = None;
        for attempt in 0..TRIES {
            let completion = self.call(question, attempt).await?;
            let cut_off = completion.finish_reason == FinishReason::Length;
            match read(completion.reply.content().unwrap_or_default(), cut_off) {
                Ok(verdict) => return Ok(verdict),
                Err(unreadable) => why = Some(unreadable),
            }
        }
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        Err(Failure::new(FailureKind::Malformed, format!("no verdict in {TRIES} answers{why}")))
    }

    /// Makes one call. Where nothing is known of the judge's server yet, the first one goes ahead alone, so that what the
    /// server does not take is learnt once and not by every question.
    async fn call(&self, question: &Question, attempt: usize) -> Result<Completion, Failure> {
        let ahead = match self.judge.target.lessons.learnt() {
            Some(_) => None,
            None => Some(self.gone_ahead.lock().await).filter(|gone_ahead| !**gone_ahead),
        };
        let result = self.call_humbly(question, attempt).await;
        if let Some(mut gone_ahead) = ahead {
            // Whatever came of it: a judge that does not answer is not waited for once for each question.
            *gone_ahead = true;
        }
        result
    }

    /// Makes one call; again without a parameter that the judge's server says it does not take.
    async fn call_humbly(&self, question: &Question, attempt: usize) -> Result<Completion, Failure> {
        let seed = self.run.local_seed(Phase::Judge, question.number);
        let messages = self.case.messages(question, seed, attempt > 0);
        let number = question.number * TRIES + attempt;
        let sends_seed = self.run.upstream_seed(Phase::Judge, number).is_some();
        loop {
            self.check_bounds()?;
            let manner = *self.manner.lock();
            let mut prompt = self.prompt(messages.clone(), manner, question);
            self.fitted.lock().extend(self.judge.target.generator.fit(&mut prompt)?);
            let prompt = Arc::new(prompt);
            let run = if manner.with_seed { Arc::clone(self.run) } else { Arc::new(self.run.without_upstream_seeds()) };
            let path = generator::open(&prompt, number..number + 1, Phase::Judge, &run).swap_remove(0);
            self.calls.fetch_add(1, Ordering::Relaxed);
            match generator::complete(&*self.judge.target.generator, path).await {
                Ok(completion) => {
                    self.judge.target.lessons.keep(manner);
                    return Ok(completion);
                }
                Err(failure) => {
                    let Some(humbler) = manner.without_what_is_refused(&failure, sends_seed) else {
                        return Err(failure);
                    };
                    let mut shared = self.manner.lock();
                    *shared = shared.and(humbler);
                }
            }
        }
    }

    fn prompt(&self, messages: Box<RawValue>, manner: Manner, question: &Question) -> Prompt {
        let settings = &self.judge.settings;
        Prompt {
            model: self.judge.target.model.clone(),
            messages,
            tools: Vec::new(),
            tool_choice: None,
            response_format: response_format(manner.format, question.wanted),
            sampling: Sampling {
                temperature: manner.with_temperature.then_some(settings.temperature),
                max_tokens: Some(MaxTokens { tokens: settings.max_tokens, name: manner.limit }),
                ..Sampling::default()
            },
            logprobs: None,
            signals: None,
            passthrough: Default::default(),
        }
    }

    /// What the run may spend is spent on candidates and judge alike.
    fn check_bounds(&self) -> Result<(), Failure> {
        let (kind, field) = match self.run.exhausted() {
            None => return Ok(()),
            Some(Bound::Deadline) => (FailureKind::Deadline, "deadline_ms"),
            Some(Bound::TotalTokens) => (FailureKind::Limit, "max_total_tokens"),
            Some(Bound::Cost) => (FailureKind::Limit, "max_cost_usd"),
        };
        Err(Failure::new(kind, format!("`limits.{field}` was reached before the judge was done; raise it")))
    }
}

/// The `response_format` that holds the judge to its form. The prompt asks for it in any case.
fn response_format(format: StructuredOutput, wanted: Wanted) -> Option<Box<RawValue>> {
    let (name, field) = match wanted {
        Wanted::Score => ("score", json!({"type": "number"})),
        Wanted::Picks(_) => ("selected_indices", json!({"type": "array", "items": {"type": "integer"}})),
    };
    let format = match format {
        StructuredOutput::Unsupported => return None,
        StructuredOutput::JsonObject => json!({"type": "json_object"}),
        StructuredOutput::JsonSchema | StructuredOutput::Unknown => {
            // The reasoning comes first, so that the verdict follows from it.
            let mut properties = json!({"reasoning": {"type": "string"}});
            properties[name] = field;
            let schema = json!({
                "type": "object", "properties": properties, "required": ["reasoning", name], "additionalProperties": false
            });
            json!({"type": "json_schema", "json_schema": {"name": "verdict", "strict": true, "schema": schema}})
        }
    };
    Some(to_raw_value::<Value>(&format).expect("JSON values serialise"))
}
