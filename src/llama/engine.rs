//! The engine's thread, and what it shares with those who ask it: a bounded line of jobs, commands for the paths of
//! searches, and figures.
//!
//! What the thread does with them is in [`super::worker`].

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use llama_cpp_2::token::LlamaToken;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::candidate::{Candidate, PromptUsage};
use super::context::CheckedContext;
use super::ffi::Interrupt;
use super::outlet::{Seat, Watch};
use super::pace::Gathering;
use super::paths::{Command, PathId};
use super::request::Request;
use super::scheduler::JobId;
use super::vocabulary::Vocabulary;
use super::worker::{Limits, Worker};
use crate::completion::{FinishReason, Usage};
use crate::failure::{Failure, FailureKind};

/// Jobs that may wait in line. Beyond it a job is refused, so that a client hears of it at once.
pub(super) const QUEUE_JOBS: usize = 256;

/// So long it takes at most until a job is seen to be abandoned while the thread has nothing to do.
const ABANDONED_AFTER: Duration = Duration::from_millis(50);

/// A job as it waits in line.
#[derive(Debug)]
pub(super) struct QueuedJob {
    pub(super) id: JobId,
    pub(super) request: Arc<Request>,
    /// The prompt; at least one token.
    pub(super) tokens: Arc<[LlamaToken]>,
    /// The most tokens that one candidate may have; with the prompt they fit the context.
    pub(super) tokens_per_candidate: u32,
    /// The tokens for which there must be room when a candidate starts, at most those.
    pub(super) tokens_expected: u32,
    pub(super) watch: Watch,
    pub(super) work: Work,
}

/// What is wanted of a prompt.
#[derive(Debug)]
pub(super) enum Work {
    /// A seat and a seed for each candidate; at least one.
    Answers(VecDeque<(Seat, u64)>),
    /// A search that begins with these paths and their seeds; at least one. It is told when they can be extended.
    Search { paths: Vec<(PathId, u64)>, opened: Option<oneshot::Sender<()>> },
    /// What the model makes of each token of the prompt.
    Score(Scoring),
}

/// A prompt whose tokens are scored.
#[derive(Debug)]
pub(super) struct Scoring {
    /// Alternatives told of each token.
    pub(super) top: u8,
    /// Of the tokens from the second on, as far as it has come.
    pub(super) scored: Vec<TokenScore>,
    pub(super) told: Option<oneshot::Sender<Result<Scored, Failure>>>,
}

/// Somebody who waits; dropped, the thread looks who is still there.
#[derive(Debug)]
pub(super) struct Waiting {
    here: Option<Arc<()>>,
    shared: Weak<Shared>,
}

impl Waiting {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { here: Some(Arc::new(())), shared: Arc::downgrade(shared) }
    }

    pub(super) fn watch(&self) -> Weak<()> {
        self.here.as_ref().map(Arc::downgrade).unwrap_or_default()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.here = None;
        if let Some(shared) = self.shared.upgrade() {
            shared.wake();
        }
    }
}

/// What the model makes of a text.
#[derive(Debug)]
pub struct Scored {
    /// The tokens of the text.
    pub tokens: Vec<TokenScore>,
    pub usage: Usage,
}

/// What the model makes of a token that it has not chosen. Log-probabilities are natural, and the model's own.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenScore {
    /// What it is written as; a character may be spread over several tokens.
    pub bytes: Box<[u8]>,
    /// `None` of the first token, before which there is nothing.
    pub logprob: Option<f64>,
    /// What would have been most probable in its place, the most probable first.
    pub top: Vec<(Box<[u8]>, f64)>,
}

/// What the engine's thread shares with those who ask it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    line: Mutex<Line>,
    wake: Condvar,
    pub(super) gauges: Gauges,
    ids: AtomicU64,
    pub(super) needless: Needless,
}

#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) jobs: VecDeque<QueuedJob>,
    pub(super) commands: VecDeque<Command>,
    /// No more jobs are taken: the engine is to stop, or has.
    closed: bool,
}

/// Figures for logs and metrics, each true for itself at some recent time.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) live_sequences: AtomicU64,
    /// Cells that running jobs hold or are expected to need.
    pub(super) cells_reserved: AtomicU64,
    /// Cells of prompts that nobody holds.
    pub(super) cells_kept: AtomicU64,
    /// Memory of prompts and answers that have made way in the cache.
    pub(super) shelved_bytes: AtomicU64,
    pub(super) prompt_tokens: AtomicU64,
    pub(super) shared_tokens: AtomicU64,
    pub(super) generated_tokens: AtomicU64,
    pub(super) evaluated_tokens: AtomicU64,
    /// Tokens of the last batch.
    pub(super) batch_tokens: AtomicU64,
    /// Tokens that candidates draw in a second of evaluation, of late, in thousandths.
    pub(super) milli_tokens_per_second: AtomicU64,
    /// Time spent in evaluations, in microseconds.
    pub(super) busy_us: AtomicU64,
}

impl Gauges {
    /// Takes into account a turn in which so many candidates drew a token.
    pub(super) fn note_speed(&self, drawn: usize, took: Duration) {
        let now = drawn as f64 / took.as_secs_f64().max(1e-6) * 1e3;
        let before = self.milli_tokens_per_second.load(Ordering::Relaxed) as f64;
        let mean = if before == 0.0 { now } else { before + (now - before) / 16.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        self.milli_tokens_per_second.store(mean as u64, Ordering::Relaxed);
    }
}

/// Says that the evaluation under way is of no use any more: nobody wants any of the jobs, or the engine is to stop.
#[derive(Debug, Default)]
pub(super) struct Needless {
    stopping: AtomicBool,
    watched: Mutex<Vec<Watch>>,
}

impl Needless {
    /// Watches these jobs from now on; none of them is watched by none.
    pub(super) fn watch(&self, jobs: Vec<Watch>) {
        *self.watched.lock() = jobs;
    }
}

/// What llama.cpp asks: the thread and its context share it.
pub(super) struct Interruption(pub(super) Arc<Shared>);

impl Interrupt for Interruption {
    fn is_wanted(&self) -> bool {
        let needless = &self.0.needless;
        if needless.stopping.load(Ordering::Relaxed) {
            return true;
        }
        let watched = needless.watched.lock();
        !watched.is_empty() && watched.iter().all(Watch::is_abandoned)
    }
}

impl Shared {
    /// A number that was not given before.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

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

    /// Tells the thread what to do with a path. Each path has at most three commands that wait, so that the line of them is
    /// bounded by the paths there are.
    pub(super) fn command(&self, command: Command) {
        let mut line = self.line.lock();
        if line.closed {
            drop(line);
            // Dropping it tells whoever waits for an answer.
            drop(command);
            return;
        }
        line.commands.push_back(command);
        drop(line);
        self.wake.notify_one();
    }

    /// Lets the thread look whether anything has changed.
    pub(super) fn wake(&self) {
        // With the lock held, so that a thread that is about to sleep has either seen the change or hears of it.
        let _line = self.line.lock();
        self.wake.notify_one();
    }

    /// Whether jobs are taken no more: the engine was dropped, or has ended by a defect.
    pub(super) fn is_closed(&self) -> bool {
        self.line.lock().closed
    }

    pub(super) fn waiting_jobs(&self) -> usize {
        self.line.lock().jobs.len()
    }

    /// Takes no more jobs and makes the thread end, in the middle of an evaluation where that is possible.
    pub(super) fn close(&self) {
        self.needless.stopping.store(true, Ordering::Relaxed);
        let mut line = self.line.lock();
        line.closed = true;
        // Outside of the lock: each job tells its candidates' fate when it is dropped.
        let (jobs, commands) = (std::mem::take(&mut line.jobs), std::mem::take(&mut line.commands));
        drop(line);
        drop((jobs, commands));
        self.wake.notify_one();
    }

    /// Hands the line to `take`, again and again while that has nothing to do and something new may have come. False: the
    /// engine is to stop.
    pub(super) fn attend(&self, mut take: impl FnMut(&mut Line) -> ToDo) -> bool {
        let mut line = self.line.lock();
        loop {
            if line.closed {
                return false;
            }
            line.drop_abandoned();
            match take(&mut line) {
                ToDo::Something => return true,
                ToDo::Nothing if line.jobs.is_empty() => self.wake.wait(&mut line),
                ToDo::Nothing | ToDo::Watch => drop(self.wake.wait_for(&mut line, ABANDONED_AFTER)),
                ToDo::Gather(Gathering { quiet, most }) => {
                    let end = Instant::now() + most;
                    while !line.closed && !self.wake.wait_until(&mut line, end.min(Instant::now() + quiet)).timed_out()
                    {
                    }
                }
            }
        }
    }
}

/// What the thread has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToDo {
    Something,
    /// To see whether somebody stops listening, who then wakes nobody.
    Watch,
    /// To see whether others come, so that they begin together.
    Gather(Gathering),
    Nothing,
}

impl Line {
    /// Ends the jobs that nobody listens to any more.
    fn drop_abandoned(&mut self) {
        if self.jobs.iter().any(|job| job.watch.is_abandoned()) {
            let (abandoned, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut self.jobs).into_iter().partition(|job| job.watch.is_abandoned());
            self.jobs = kept;
            for job in abandoned {
                if let Work::Answers(candidates) = job.work {
                    cancel_unstarted(candidates, &job.request, PromptUsage::default());
                }
            }
        }
    }
}

/// Says of candidates that never began that they were cancelled. The first accounts for the prompt.
pub(super) fn cancel_unstarted(candidates: VecDeque<(Seat, u64)>, request: &Request, mut prompt: PromptUsage) {
    for (seat, seed) in candidates {
        Candidate::new(Some(seat), seed, request, &[]).finish(cancelled(), std::mem::take(&mut prompt), request);
    }
}

pub(super) fn cancelled() -> FinishReason {
    FinishReason::Other(super::CANCELLED.to_owned())
}

/// Generates until [`Shared::close`] is called. What is under way then fails.
pub(super) fn run(shared: &Shared, context: CheckedContext<'_>, vocabulary: &Vocabulary, limits: Limits) {
    // Whatever ends the thread, nobody may go on waiting for it.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut worker = Worker::new(shared, context, vocabulary, limits);
        while worker.attend() {
            worker.work();
        }
    }));
    shared.close();
    shared.needless.watch(Vec::new());
    shared.gauges.live_sequences.store(0, Ordering::Relaxed);
    shared.gauges.cells_reserved.store(0, Ordering::Relaxed);
    shared.gauges.cells_kept.store(0, Ordering::Relaxed);
    shared.gauges.shelved_bytes.store(0, Ordering::Relaxed);
    if outcome.is_err() {
        tracing::error!("the in-process engine has ended by a defect of its own; its model must be loaded again");
    }
}
