//! What the owners of paths tell the thread to do.

use std::sync::Arc;

use super::{Running, Stage, StepReply, UnstartedPath, Worker, active_mut, count, internal};
use crate::completion::Completion;
use crate::failure::{Failure, FailureKind};
use crate::llama::candidate::{Candidate, PromptUsage};
use crate::llama::paths::{CUT_SHORT, Command, PathId};
use crate::llama::scheduler::JobId;

use tokio::sync::oneshot;

impl Worker<'_> {
    /// Does what a path's owner wants. What is wanted of a path that is gone is dropped, and with it the way back.
    pub(super) fn obey(&mut self, command: Command) {
        if !self.jobs.iter().any(|active| active.job.id == command.job()) {
            return;
        }
        match command {
            Command::Advance { job, path, told } => self.advance_path(job, path, told),
            Command::Fork { job, path, fork, seed } => self.fork_path(job, path, fork, seed),
            Command::Finish { job, path, told } => self.finish_path(job, path, told),
            Command::Prune { job, path } => self.prune_path(job, path),
        }
    }

    fn advance_path(&mut self, job: JobId, path: PathId, told: StepReply) {
        if let Some(unstarted) = active_mut(&mut self.jobs, job).unstarted.iter_mut().find(|one| one.id == path) {
            if unstarted.told.replace(told).is_none() {
                self.scheduler.waits_to_start(job);
            }
            return;
        }
        let active = active_mut(&mut self.jobs, job);
        if let Some(lost) = active.lost.iter().position(|(lost, _)| *lost == path) {
            let (_, failure) = active.lost.swap_remove(lost);
            let _ = told.send(Err(failure));
            return;
        }
        let Some(position) = self.position(path) else { return };
        let running = &mut self.running[position];
        let Stage::Resting(row) = &running.stage else { return };
        let row = Arc::clone(row);
        running.stage = Stage::Drawing;
        running.told = Some(told);
        self.draw(position, &row);
    }

    fn fork_path(&mut self, job: JobId, path: PathId, fork: PathId, seed: u64) {
        let active = active_mut(&mut self.jobs, job);
        if active.unstarted.iter().any(|one| one.id == path) {
            active.unstarted.push(UnstartedPath { id: fork, seed, told: None });
            return;
        }
        if let Err(failure) = self.fork_running(job, path, fork, seed) {
            // Its owner hears of it when it is to go on.
            active_mut(&mut self.jobs, job).lost.push((fork, failure));
        }
    }

    fn fork_running(&mut self, job: JobId, path: PathId, fork: PathId, seed: u64) -> Result<(), Failure> {
        let position = self.position(path).ok_or_else(gone)?;
        if !self.has_sequence() {
            return Err(no_place());
        }
        let active = active_mut(&mut self.jobs, job);
        let (request, is_ready) = (Arc::clone(&active.job.request), active.is_ready);
        let running = &mut self.running[position];
        let Stage::Resting(row) = &running.stage else { return Err(gone()) };
        let row = Arc::clone(row);
        let candidate = running.candidate.fork(seed, &request)?;
        let sequence = self.free_sequences.pop().expect("there is one");
        let length = running.tokens.len();
        let is_whole = running.evaluated == length;
        let prompt = running.prompt;
        let (span, base, evaluated) = if is_whole {
            running.span.shrink(count(length) - running.base);
            let common = running.span.clone();
            running.span = common.branch();
            running.base = count(length);
            (common.branch(), running.base, length)
        } else {
            // It was set aside, and has nothing in the cache but its prompt.
            let span = if is_ready { self.prefixes.span(prompt).branch() } else { running.span.clone() };
            (span, 0, 0)
        };
        let tokens = running.tokens.clone();
        let from = running.sequence;
        let prompt_length = super::active(&self.jobs, job).job.tokens.len();
        // Where its prompt was given up, there is nothing to share until that is back.
        if is_ready && let Err(error) = self.context.share(from, sequence, count(prompt_length + evaluated)) {
            self.free_sequences.push(sequence);
            return Err(internal(&error));
        }
        self.scheduler.forked(job);
        active_mut(&mut self.jobs, job).running += 1;
        let stage = Stage::Resting(row);
        let path = Some(fork);
        self.running.push(Running {
            job,
            prompt,
            sequence,
            span,
            base,
            tokens,
            evaluated,
            candidate,
            path,
            stage,
            told: None,
        });
        Ok(())
    }

    fn finish_path(&mut self, job: JobId, path: PathId, told: oneshot::Sender<Result<Completion, Failure>>) {
        let active = active_mut(&mut self.jobs, job);
        let request = Arc::clone(&active.job.request);
        let candidate = if let Some(unstarted) = active.take_unstarted(path) {
            if unstarted.told.is_some() {
                self.scheduler.waits_no_more(job);
            }
            Ok(Candidate::new(None, unstarted.seed, &request, &[]))
        } else if let Some(lost) = active.lost.iter().position(|(lost, _)| *lost == path) {
            Err(active.lost.swap_remove(lost).1)
        } else {
            let Some(position) = self.position(path) else { return };
            Ok(self.forget(position))
        };
        let finish = |candidate: Candidate| candidate.finish_path(CUT_SHORT, PromptUsage::default(), &request);
        let answer = candidate.and_then(|candidate| finish(candidate).step.end.ok_or_else(gone));
        // Whoever has given up waiting wants it no more.
        let _ = told.send(answer);
    }

    fn prune_path(&mut self, job: JobId, path: PathId) {
        if let Some(unstarted) = active_mut(&mut self.jobs, job).take_unstarted(path) {
            if unstarted.told.is_some() {
                self.scheduler.waits_no_more(job);
            }
        } else if let Some(position) = self.position(path) {
            self.forget(position);
        } else {
            active_mut(&mut self.jobs, job).lost.retain(|(lost, _)| *lost != path);
        }
    }

    /// Frees all that a path holds alone. What it has come to.
    fn forget(&mut self, position: usize) -> Candidate {
        let Running { job, sequence, span, candidate, .. } = self.running.remove(position);
        active_mut(&mut self.jobs, job).running -= 1;
        self.scheduler.finished(job, Some(span));
        self.empty([sequence]);
        self.publish();
        candidate
    }

    fn position(&self, path: PathId) -> Option<usize> {
        self.running.iter().position(|running| running.path == Some(path))
    }
}

impl super::ActiveJob {
    fn take_unstarted(&mut self, path: PathId) -> Option<UnstartedPath> {
        let position = self.unstarted.iter().position(|one| one.id == path)?;
        Some(self.unstarted.remove(position))
    }
}

/// Why a path is lost that is not where it should be.
fn gone() -> Failure {
    Failure::new(FailureKind::Internal, "the in-process engine has lost a path")
}

/// Why a path is lost for which there was no place.
fn no_place() -> Failure {
    let message = "a search has more paths at the same time than the in-process engine has places; lower `budget`";
    Failure::new(FailureKind::Overloaded, message)
}
