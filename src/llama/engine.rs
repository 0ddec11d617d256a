//! The engine's thread: it owns the context, takes jobs from a bounded queue and generates for all of them
//! at once.
//!
//! Each turn evaluates one batch: the last token of every running candidate first, then as much of the
//! prompts that are still to be read as the batch takes. A prompt is evaluated once; its candidates share
//! its cache cells and draw their first token from its last row of logits, however much later they start.
//!
//! A candidate that cannot grow because the cache is full waits. When all of them wait, the youngest is set
//! aside: its cells are freed, and when there is room again, its tokens are evaluated anew and it goes on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llama_cpp_2::token::LlamaToken;
use parking_lot::{Condvar, Mutex};

use super::candidate::{Candidate, Next};
use super::context::{CheckedContext, ContextError, SequenceId};
use super::outlet::{Seat, Watch};
use super::request::Request;
use super::scheduler::{Demand, Room, Scheduler};
use super::vocabulary::Vocabulary;
use crate::completion::FinishReason;
use crate::failure::{Failure, FailureKind};

/// Jobs that may wait in line. Beyond it a job is refused, so that a client hears of it at once.
pub(super) const QUEUE_JOBS: usize = 256;

/// Prompt tokens evaluated in one turn beside running candidates: few, so that a long prompt does not make
/// running streams halt.
const PROMPT_TOKENS_BESIDE_CANDIDATES: usize = 128;

/// Cells by which a candidate that outgrows its part gets more.
const GROWTH_CELLS: u32 = 64;

/// A job as it waits in line.
#[derive(Debug)]
pub(super) struct QueuedJob {
    pub(super) request: Arc<Request>,
    /// The prompt; at least one token.
    pub(super) tokens: Vec<LlamaToken>,
    /// The most tokens that one candidate may have; with the prompt they fit the context.
    pub(super) tokens_per_candidate: u32,
    /// The tokens for which there must be room when a candidate starts, at most those.
    pub(super) tokens_expected: u32,
    pub(super) watch: Watch,
    /// A seat and a seed for each candidate; at least one.
    pub(super) candidates: VecDeque<(Seat, u64)>,
}

/// What the engine's thread shares with those who ask it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    line: Mutex<Line>,
    wake: Condvar,
    pub(super) gauges: Gauges,
}

#[derive(Debug, Default)]
struct Line {
    jobs: VecDeque<QueuedJob>,
    /// No more jobs are taken: the engine is to stop, or has.
    closed: bool,
}

/// Figures for logs and metrics, each true for itself at some recent time.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) live_sequences: AtomicU64,
    pub(super) cells_reserved: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) generated_tokens: AtomicU64,
}

impl Shared {
    /// Puts a job in line.
    ///
    /// # Errors
    ///
    /// When the line is full, or the engine has stopped.
    pub(super) fn enqueue(&self, job: QueuedJob) -> Result<(), Failure> {
        let mut line = self.line.lock();
        if line.closed {
            return Err(Failure::new(FailureKind::Unavailable, "the in-process engine has stopped"));
        }
        if line.jobs.len() >= QUEUE_JOBS {
            line.drop_abandoned();
        }
        if line.jobs.len() >= QUEUE_JOBS {
            let message = format!("the in-process engine already has {QUEUE_JOBS} requests waiting: try again later");
            return Err(Failure::new(FailureKind::Overloaded, message));
        }
        line.jobs.push_back(job);
        drop(line);
        self.wake.notify_one();
        Ok(())
    }

    /// Whether jobs are taken no more: the engine was dropped, or has ended by a defect.
    pub(super) fn is_closed(&self) -> bool {
        self.line.lock().closed
    }

    pub(super) fn waiting_jobs(&self) -> usize {
        self.line.lock().jobs.len()
    }

    /// Takes no more jobs and makes the thread end after its current turn.
    pub(super) fn close(&self) {
        let mut line = self.line.lock();
        line.closed = true;
        // Outside of the lock: each job tells its candidates' fate when it is dropped.
        let jobs = std::mem::take(&mut line.jobs);
        drop(line);
        drop(jobs);
        self.wake.notify_one();
    }
}

impl Line {
    /// Ends the jobs that nobody listens to any more.
    fn drop_abandoned(&mut self) {
        if self.jobs.iter().any(|job| job.watch.is_abandoned()) {
            let (abandoned, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut self.jobs).into_iter().partition(|job| job.watch.is_abandoned());
            self.jobs = kept;
            for job in abandoned {
                cancel_unstarted(job.candidates, &job.request, 0);
            }
        }
    }
}

/// Says of candidates that never began that they were cancelled. The first accounts for the prompt's tokens.
fn cancel_unstarted(candidates: VecDeque<(Seat, u64)>, request: &Request, mut prompt_tokens: u64) {
    for (seat, seed) in candidates {
        Candidate::new(seat, seed, request, &[]).finish(cancelled(), std::mem::take(&mut prompt_tokens), request);
    }
}

fn cancelled() -> FinishReason {
    FinishReason::Other(super::CANCELLED.to_owned())
}

/// Generates until [`Shared::close`] is called. What is under way then fails.
pub(super) fn run(shared: &Shared, context: CheckedContext<'_>, vocabulary: &Vocabulary, room: Room) {
    // Whatever ends the thread, nobody may go on waiting for it.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut worker = Worker::new(shared, context, vocabulary, room);
        while worker.take_jobs() {
            worker.end_abandoned();
            worker.start_candidates();
            if let Err(error) = worker.turn() {
                worker.fail_everything(&error);
            }
            worker.publish();
        }
    }));
    shared.close();
    shared.gauges.live_sequences.store(0, Ordering::Relaxed);
    shared.gauges.cells_reserved.store(0, Ordering::Relaxed);
    if outcome.is_err() {
        tracing::error!("the in-process engine has ended by a defect of its own; its model must be loaded again");
    }
}

/// A job whose prompt holds a sequence.
struct ActiveJob {
    prompt: SequenceId,
    job: QueuedJob,
    /// Prompt tokens in the cache.
    evaluated: usize,
    /// The logits after the prompt, from which every candidate draws its first token.
    first_row: Vec<f32>,
    running: usize,
    /// Prompt tokens that no candidate has accounted for yet.
    prompt_tokens_to_report: u64,
}

impl ActiveJob {
    fn is_over(&self) -> bool {
        self.running == 0 && self.job.candidates.is_empty()
    }
}

struct Running {
    prompt: SequenceId,
    sequence: SequenceId,
    /// All that were drawn. The last one is not in the cache yet.
    tokens: Vec<LlamaToken>,
    /// How many of them are in the cache.
    evaluated: usize,
    candidate: Candidate,
}

struct Worker<'a> {
    shared: &'a Shared,
    context: CheckedContext<'a>,
    vocabulary: &'a Vocabulary,
    room: Room,
    scheduler: Scheduler,
    /// In the order in which they were admitted.
    jobs: Vec<ActiveJob>,
    /// In the order in which they started.
    running: Vec<Running>,
    /// Whether a running candidate waits for cells: nobody else gets any then.
    is_crowded: bool,
    scratch: Vec<(u32, f64)>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, context: CheckedContext<'a>, vocabulary: &'a Vocabulary, room: Room) -> Self {
        Self {
            shared,
            context,
            vocabulary,
            room,
            scheduler: Scheduler::new(room),
            jobs: Vec::new(),
            running: Vec::new(),
            is_crowded: false,
            scratch: Vec::new(),
        }
    }

    /// Admits whom there is room for; waits while there is nothing to do at all. False: the engine is to stop.
    fn take_jobs(&mut self) -> bool {
        let mut line = self.shared.line.lock();
        loop {
            if line.closed {
                return false;
            }
            line.drop_abandoned();
            let is_crowded = self.is_crowded && !self.running.is_empty();
            while let Some(job) = line.jobs.front().filter(|_| !is_crowded) {
                let demand = Demand {
                    prompt_cells: u32::try_from(job.tokens.len()).unwrap_or(u32::MAX),
                    candidate_cells: job.tokens_expected,
                    limit_cells: job.tokens_per_candidate,
                    candidates: job.candidates.len(),
                };
                let Some(prompt) = self.scheduler.admit(demand) else { break };
                let job = line.jobs.pop_front().expect("it is at the front");
                self.jobs.push(ActiveJob {
                    prompt,
                    job,
                    evaluated: 0,
                    first_row: Vec::new(),
                    running: 0,
                    prompt_tokens_to_report: 0,
                });
            }
            if line.jobs.is_empty() {
                self.scheduler.line_is_empty();
            }
            if !self.jobs.is_empty() {
                return true;
            }
            self.shared.wake.wait(&mut line);
        }
    }

    /// Ends what nobody listens to any more.
    fn end_abandoned(&mut self) {
        // Asked once a job: a receiver that goes away meanwhile is noticed in the next turn.
        let abandoned: Vec<SequenceId> =
            self.jobs.iter().filter(|active| active.job.watch.is_abandoned()).map(|active| active.prompt).collect();
        for prompt in abandoned {
            self.cancel(prompt);
        }
    }

    fn cancel(&mut self, prompt: SequenceId) {
        let position = self.jobs.iter().position(|active| active.prompt == prompt).expect("it is active");
        let active = &mut self.jobs[position];
        let unstarted = std::mem::take(&mut active.job.candidates);
        let request = active.job.request.clone();
        let mut prompt_tokens = 0;
        if active.running == 0 {
            prompt_tokens = active.prompt_tokens_to_report;
            self.retire_job(position);
            self.publish();
        } else {
            // The last one takes the job with it.
            while let Some(position) = self.running.iter().position(|running| running.prompt == prompt) {
                self.end_candidate(position, Ok(cancelled()));
            }
        }
        cancel_unstarted(unstarted, &request, prompt_tokens);
    }

    /// Starts candidates as long as there is room.
    fn start_candidates(&mut self) {
        while let Some((prompt, sequence)) = self.scheduler.start_next(self.is_crowded) {
            let active =
                self.jobs.iter_mut().find(|active| active.prompt == prompt).expect("scheduled jobs are active");
            let (seat, seed) = active.job.candidates.pop_front().expect("the scheduler counts the candidates");
            active.running += 1;
            let mut candidate = Candidate::new(seat, seed, &active.job.request, &active.job.tokens);
            let shared = self.context.share(prompt, sequence);
            let next = candidate.advance(
                &active.first_row,
                active.job.tokens_per_candidate,
                &active.job.request,
                self.vocabulary,
                &mut self.scratch,
            );
            self.shared.gauges.generated_tokens.fetch_add(1, Ordering::Relaxed);
            let tokens = match &next {
                Ok(Next::Token(token)) => vec![LlamaToken(token.cast_signed())],
                _ => Vec::new(),
            };
            self.running.push(Running { prompt, sequence, tokens, evaluated: 0, candidate });
            let ended = match (shared, next) {
                (Err(error), _) => Err(internal(&error)),
                (Ok(()), Err(failure)) => Err(failure),
                (Ok(()), Ok(Next::Ended(reason))) => Ok(reason),
                (Ok(()), Ok(Next::Token(_))) => continue,
            };
            self.end_candidate(self.running.len() - 1, ended);
        }
    }

    /// Evaluates one batch and lets every candidate in it draw its next token.
    fn turn(&mut self) -> Result<(), ContextError> {
        self.context.clear_batch();
        let going = self.make_room()?;
        let mut rows = Vec::with_capacity(self.running.len());
        let mut still_to_push = going.iter().filter(|goes| **goes).count();
        for (running, goes) in self.running.iter_mut().zip(going) {
            let mut row = None;
            if goes {
                still_to_push -= 1;
                // One token, except after a candidate was set aside. The others keep a place each.
                let room = self.context.batch_room().saturating_sub(still_to_push);
                let behind = &running.tokens[running.evaluated..];
                for token in behind.iter().take(room.min(PROMPT_TOKENS_BESIDE_CANDIDATES)) {
                    running.evaluated += 1;
                    let is_last = running.evaluated == running.tokens.len();
                    let pushed = self.context.push(running.sequence, *token, is_last)?;
                    row = is_last.then_some(pushed);
                }
            }
            rows.push(row);
        }
        let drawing = rows.iter().flatten().count() as u64;
        let mut room = self.context.batch_room();
        if drawing > 0 {
            room = room.min(PROMPT_TOKENS_BESIDE_CANDIDATES);
        }
        let mut read_to_the_end = Vec::new();
        for (position, active) in self.jobs.iter_mut().enumerate() {
            let total = active.job.tokens.len();
            let chunk = room.min(total - active.evaluated);
            for index in active.evaluated..active.evaluated + chunk {
                let is_last = index + 1 == total;
                let row = self.context.push(active.prompt, active.job.tokens[index], is_last)?;
                if is_last {
                    read_to_the_end.push((position, row));
                }
            }
            active.evaluated += chunk;
            active.prompt_tokens_to_report += chunk as u64;
            self.shared.gauges.prompt_tokens.fetch_add(chunk as u64, Ordering::Relaxed);
            room -= chunk;
        }
        self.context.evaluate()?;
        for (position, row) in read_to_the_end {
            let active = &mut self.jobs[position];
            active.first_row = self.context.logits(row)?.to_vec();
            self.scheduler.prompt_is_ready(active.prompt);
        }
        let mut ended = Vec::new();
        for (position, (running, row)) in self.running.iter_mut().zip(rows).enumerate() {
            let Some(row) = row else { continue };
            let job = &self.jobs.iter().find(|active| active.prompt == running.prompt).expect("it runs").job;
            let next = running.candidate.advance(
                self.context.logits(row)?,
                job.tokens_per_candidate,
                &job.request,
                self.vocabulary,
                &mut self.scratch,
            );
            match next {
                Ok(Next::Token(token)) => running.tokens.push(LlamaToken(token.cast_signed())),
                Ok(Next::Ended(reason)) => ended.push((position, Ok(reason))),
                Err(failure) => ended.push((position, Err(failure))),
            }
        }
        self.shared.gauges.generated_tokens.fetch_add(drawing, Ordering::Relaxed);
        // From the back, because ending one moves those behind it.
        for (position, end) in ended.into_iter().rev() {
            self.end_candidate(position, end);
        }
        Ok(())
    }

    /// Tells of each running candidate whether its next tokens have room. When there is nothing else to do, at
    /// least one has.
    fn make_room(&mut self) -> Result<Vec<bool>, ContextError> {
        loop {
            let mut going = Vec::with_capacity(self.running.len());
            for running in &self.running {
                let job = &self.jobs.iter().find(|active| active.prompt == running.prompt).expect("it runs").job;
                let needed = u32::try_from(running.tokens.len()).unwrap_or(u32::MAX);
                let wanted = needed.saturating_add(GROWTH_CELLS).min(job.tokens_per_candidate);
                going.push(
                    self.scheduler.covers(running.sequence, needed) || self.scheduler.grow(running.sequence, wanted),
                );
            }
            self.is_crowded = going.contains(&false);
            let reads_prompts = self.jobs.iter().any(|active| active.evaluated < active.job.tokens.len());
            if going.is_empty() || going.contains(&true) || reads_prompts {
                return Ok(going);
            }
            if self.scheduler.take_back_spare() {
                continue;
            }
            // The oldest never makes room: so it comes to its end, and then the next one is the oldest.
            let youngest = self.running.iter_mut().skip(1).rev().find(|one| self.scheduler.set_aside(one.sequence));
            let Some(youngest) = youngest else { return Err(ContextError::NoRoom) };
            youngest.evaluated = 0;
            self.context.remove(youngest.sequence)?;
            self.context.share(youngest.prompt, youngest.sequence)?;
        }
    }

    /// Frees what a candidate held and only then says that it ended: whoever hears it finds the room free.
    fn end_candidate(&mut self, position: usize, end: Result<FinishReason, Failure>) {
        let Running { prompt, sequence, candidate, .. } = self.running.remove(position);
        self.context.remove(sequence).expect("the scheduler gives out sequences that exist");
        self.scheduler.finished(prompt, sequence);
        let position = self.jobs.iter().position(|active| active.prompt == prompt).expect("it was running");
        let active = &mut self.jobs[position];
        active.running -= 1;
        let prompt_tokens = if end.is_ok() { std::mem::take(&mut active.prompt_tokens_to_report) } else { 0 };
        let request = active.job.request.clone();
        if active.is_over() {
            self.retire_job(position);
        }
        self.publish();
        match end {
            Ok(reason) => candidate.finish(reason, prompt_tokens, &request),
            Err(failure) => candidate.fail(failure),
        }
    }

    fn retire_job(&mut self, position: usize) {
        let prompt = self.jobs.remove(position).prompt;
        self.context.remove(prompt).expect("the scheduler gives out sequences that exist");
        self.scheduler.retire(prompt);
    }

    /// After a failed evaluation nothing in the cache can be relied on: all that runs fails, and the engine
    /// begins anew.
    fn fail_everything(&mut self, error: &ContextError) {
        tracing::error!(%error, jobs = self.jobs.len(), candidates = self.running.len(), "the in-process engine failed");
        for running in self.running.drain(..) {
            running.candidate.fail(internal(error));
        }
        for active in self.jobs.drain(..) {
            for (seat, _) in active.job.candidates {
                seat.end([], crate::completion::StepEvent::Failed(internal(error)));
            }
        }
        self.context.reset();
        self.scheduler = Scheduler::new(self.room);
    }

    fn publish(&self) {
        let gauges = &self.shared.gauges;
        gauges.live_sequences.store(self.running.len() as u64, Ordering::Relaxed);
        gauges.cells_reserved.store(self.scheduler.cells_reserved().into(), Ordering::Relaxed);
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureKind::Internal, format!("the in-process engine failed: {error}"))
}
