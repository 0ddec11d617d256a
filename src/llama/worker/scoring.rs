//! What the model makes of the tokens of a prompt, while it is read.

use std::sync::Arc;

use super::{ActiveJob, Worker, internal};
use crate::completion::Usage;
use crate::llama::context::{ContextError, SequenceId};
use crate::llama::engine::{Scored, Scoring, TokenScore, Work};
use crate::llama::sampling::{Distribution, LEAST_LOGPROB, SamplingError};
use crate::llama::vocabulary::Vocabulary;

impl Worker<'_> {
    /// Takes in so many more tokens of a prompt, with the logits after each of them.
    pub(super) fn take_scores(&mut self, prompt: SequenceId, count: usize, first_row: i32) -> Result<(), ContextError> {
        let is_scored = |active: &ActiveJob| active.prompt == prompt && matches!(active.job.work, Work::Score(_));
        let position = self.jobs.iter().position(is_scored).expect("rows are wanted by a job only");
        let active = &mut self.jobs[position];
        let before = self.prefixes.evaluated_of(prompt);
        let tokens = Arc::clone(&active.job.tokens);
        let mut outcome = Ok(());
        let mut last = None;
        if let Work::Score(scoring) = &mut active.job.work {
            for (row, position) in (first_row..).zip(before..before + count) {
                let row = self.context.logits(row)?;
                match tokens.get(position + 1) {
                    Some(next) => {
                        let token = next.0.cast_unsigned();
                        outcome = outcome.and_then(|()| scoring.note(token, row, self.vocabulary));
                    }
                    None => last = Some(Arc::from(row)),
                }
            }
        }
        let is_read = last.is_some();
        self.prefixes.evaluated(prompt, count, last);
        if is_read || outcome.is_err() {
            self.end_scoring(position, outcome);
        }
        if is_read {
            self.tell_read(prompt);
        }
        Ok(())
    }

    fn end_scoring(&mut self, position: usize, outcome: Result<(), SamplingError>) {
        let active = &mut self.jobs[position];
        let job = active.job.id;
        let length = active.job.tokens.len() as u64;
        self.prefixes.is_scored(active.prompt);
        let told = match &mut active.job.work {
            Work::Score(scoring) => scoring.told.take().map(|told| (told, std::mem::take(&mut scoring.scored))),
            _ => None,
        };
        let first = active.job.tokens[0].0.cast_unsigned();
        self.retire_job(job);
        self.publish();
        if let Some((told, scored)) = told {
            let first = TokenScore { bytes: self.vocabulary.spelling(first).into(), logprob: None, top: Vec::new() };
            let usage = Usage { prompt_tokens: length, ..Usage::default() };
            let tokens = [first].into_iter().chain(scored).collect();
            // Whoever is gone wants to know no more.
            let _ = told.send(outcome.map(|()| Scored { tokens, usage }).map_err(|error| internal(&error)));
        }
    }
}

impl Scoring {
    /// Notes what the model makes of a token, by the logits before it.
    fn note(&mut self, token: u32, row: &[f32], vocabulary: &Vocabulary) -> Result<(), SamplingError> {
        let distribution = Distribution::of(row)?;
        let spelled = |token| vocabulary.spelling(token).into_boxed_slice();
        let told = |logprob: f64| logprob.max(LEAST_LOGPROB);
        let top = distribution.leaders(self.top.into()).into_iter();
        self.scored.push(TokenScore {
            bytes: spelled(token),
            logprob: distribution.logprob(token).map(told),
            top: top.map(|(token, logprob)| (spelled(token), told(logprob))).collect(),
        });
        Ok(())
    }
}
