//! How candidates and jobs end.

use std::collections::VecDeque;
use std::sync::Arc;

use llama_cpp_2::token::LlamaToken;

use super::{ActiveJob, Running, Worker, active_mut, count, internal, places, sequences, with_prompt};
use crate::completion::{FinishReason, StepEvent};
use crate::failure::Failure;
use crate::llama::candidate::PromptUsage;
use crate::llama::cells::{Cells, Span};
use crate::llama::context::{ContextError, SequenceId};
use crate::llama::engine::{Scoring, Work, cancel_unstarted, cancelled};
use crate::llama::pace::Pace;
use crate::llama::prefixes::Prefixes;
use crate::llama::scheduler::{JobId, Scheduler};
use crate::llama::shelf::Shelf;

impl Worker<'_> {
    /// Ends what nobody listens to any more. Whether there was anything.
    pub(super) fn end_abandoned(&mut self) -> bool {
        // Asked once a job: a receiver that goes away meanwhile is noticed in the next turn.
        let abandoned = self.jobs.iter().filter(|active| active.job.watch.is_abandoned());
        let abandoned: Vec<JobId> = abandoned.map(|active| active.job.id).collect();
        for job in &abandoned {
            self.cancel(*job);
        }
        !abandoned.is_empty()
    }

    fn cancel(&mut self, job: JobId) {
        let active = active_mut(&mut self.jobs, job);
        let unstarted = match &mut active.job.work {
            Work::Answers(candidates) => std::mem::take(candidates),
            Work::Search { .. } | Work::Score(_) => VecDeque::new(),
        };
        active.unstarted.clear();
        if matches!(active.job.work, Work::Score(_)) {
            self.prefixes.is_scored(active.prompt);
        }
        let request = Arc::clone(&active.job.request);
        if active.running == 0 {
            let prompt = active.tell_prompt(&self.prefixes);
            self.retire_job(job);
            self.publish();
            return cancel_unstarted(unstarted, &request, prompt);
        }
        while let Some(position) = self.running.iter().position(|running| running.job == job) {
            self.end_candidate(position, Ok(cancelled()));
        }
        // Jobs of answers went with their last one.
        if self.jobs.iter().any(|active| active.job.id == job) {
            self.retire_job(job);
        }
        cancel_unstarted(unstarted, &request, PromptUsage::default());
    }

    /// Frees what a candidate held and only then says that it ended: whoever hears it finds the room free.
    pub(super) fn end_candidate(&mut self, position: usize, end: Result<FinishReason, Failure>) {
        let Running { job, prompt: _, sequence, span, tokens, evaluated, candidate, path, told, .. } =
            self.running.remove(position);
        let active = active_mut(&mut self.jobs, job);
        active.running -= 1;
        let prompt = if end.is_ok() { active.tell_prompt(&self.prefixes) } else { PromptUsage::default() };
        let request = Arc::clone(&active.job.request);
        let is_over = active.is_over();
        let is_kept = active.has_one_answer
            && end.is_ok()
            && keep_answer(&mut self.prefixes, &active.job.tokens, &tokens[..evaluated], sequence, &span);
        self.scheduler.finished(job, (!is_kept).then_some(span));
        if !is_kept {
            self.empty([sequence]);
        }
        if is_over {
            self.retire_job(job);
        }
        self.publish();
        match (end, path) {
            (Ok(reason), None) => candidate.finish(reason, prompt, &request),
            (Err(failure), None) => candidate.fail(failure),
            (end, Some(_)) => {
                let end = end.map(|reason| with_prompt(candidate.finish_path(reason, prompt, &request), prompt));
                // Whoever has given up waiting drops the path next.
                if let Some(told) = told {
                    let _ = told.send(end);
                }
            }
        }
    }

    pub(super) fn retire_job(&mut self, job: JobId) {
        let position = self.jobs.iter().position(|active| active.job.id == job).expect("it is active");
        let active = self.jobs.remove(position);
        self.scheduler.retire(job);
        if !active.is_out {
            self.give_up_prompt(active.prompt);
        }
    }

    /// After a failed evaluation nothing in the cache can be relied on: all that runs fails, and the engine
    /// begins anew.
    pub(super) fn fail_everything(&mut self, error: &ContextError) {
        tracing::error!(%error, jobs = self.jobs.len(), candidates = self.running.len(), "the in-process engine failed");
        let failed = || internal(error);
        for mut running in self.running.drain(..) {
            running.tell(Err(failed()));
            running.candidate.fail(failed());
        }
        for active in self.jobs.drain(..) {
            for path in active.unstarted {
                if let Some(told) = path.told {
                    let _ = told.send(Err(failed()));
                }
            }
            match active.job.work {
                Work::Answers(candidates) => {
                    for (seat, _) in candidates {
                        seat.end([], StepEvent::Failed(failed()));
                    }
                }
                Work::Score(Scoring { told: Some(told), .. }) => drop(told.send(Err(failed()))),
                Work::Search { .. } | Work::Score(_) => {}
            }
        }
        self.context.reset();
        self.cells = Cells::new(self.limits.cells);
        self.free_sequences = sequences(&self.context);
        self.prefixes = Prefixes::new(super::MOST_PROMPTS, self.limits.kept_cells);
        self.shelf = Shelf::new(self.limits.shelf_bytes);
        self.scheduler = Scheduler::new(self.cells.clone(), places(self.limits));
        self.pace = Pace::new(self.limits.batch_tokens);
        self.is_crowded = false;
    }
}

impl ActiveJob {
    /// Whether nothing more can come of it. A search goes on until its paths are dropped.
    fn is_over(&self) -> bool {
        match &self.job.work {
            Work::Answers(candidates) => self.running == 0 && candidates.is_empty(),
            Work::Search { .. } | Work::Score(_) => false,
        }
    }
}

/// Keeps an answer in the cache behind its prompt, since a conversation goes on from there. False: it is not kept.
fn keep_answer(
    prefixes: &mut Prefixes,
    prompt: &[LlamaToken],
    answer: &[LlamaToken],
    sequence: SequenceId,
    span: &Span,
) -> bool {
    if answer.is_empty() {
        return false;
    }
    let tokens: Arc<[LlamaToken]> = prompt.iter().chain(answer).copied().collect();
    span.shrink(count(answer.len()));
    prefixes.keep(sequence, tokens, None, span.clone())
}
