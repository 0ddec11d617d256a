//! Paths that stay in the cache between their steps, as their owner sees them, and what the engine's thread is told to do
//! with them.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::engine::Shared;
use super::sampling::forked_seed;
use super::scheduler::JobId;
use crate::completion::{Completion, FinishReason, Step, Usage};
use crate::failure::{Failure, FailureKind};

/// Tells paths of a search apart.
pub(super) type PathId = u64;

/// What the engine's thread is to do with a path.
#[derive(Debug)]
pub(super) enum Command {
    /// Extend it by one step.
    Advance { job: JobId, path: PathId, told: oneshot::Sender<Result<Stepped, Failure>> },
    /// Let another one go on from where it is.
    Fork { job: JobId, path: PathId, fork: PathId, seed: u64 },
    /// Say what has become of it, and forget it.
    Finish { job: JobId, path: PathId, told: oneshot::Sender<Result<Completion, Failure>> },
    /// Forget it.
    Prune { job: JobId, path: PathId },
}

/// A step that has come to its end.
#[derive(Debug)]
pub struct Stepped {
    pub step: Step,
    /// Tokens of the step; those of the prompt stand in the job's first.
    pub usage: Usage,
}

/// A search in the engine, as long as one of its paths is held.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) job: JobId,
    pub(super) shared: Weak<Shared>,
}

/// A search that waits until its paths can be extended. Dropping it gives the search up.
#[derive(Debug)]
pub struct Opening {
    pub(super) search: Arc<Search>,
    pub(super) paths: Vec<(PathId, u64)>,
    pub(super) opened: oneshot::Receiver<()>,
}

impl Opening {
    /// The paths, once there is room for them and their prompt is evaluated.
    ///
    /// # Errors
    ///
    /// When the engine has stopped.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing.
    pub async fn opened(self) -> Result<Vec<SearchPath>, Failure> {
        let Self { search, paths, opened } = self;
        opened.await.map_err(|_| Failure::new(FailureKind::Unavailable, "the in-process engine has stopped"))?;
        Ok(paths.into_iter().map(|(id, seed)| SearchPath::new(Arc::clone(&search), id, seed)).collect())
    }
}

/// A path of a search. Dropping it prunes it; dropping all of them ends the search.
#[derive(Debug)]
pub struct SearchPath {
    search: Arc<Search>,
    id: PathId,
    seed: u64,
    /// Tokens generated so far.
    position: u64,
    /// How often it was forked where it is.
    forks: u64,
    /// What it came to, once it has: the engine holds nothing of it any more.
    ended: Option<Completion>,
}

impl SearchPath {
    pub(super) fn new(search: Arc<Search>, id: PathId, seed: u64) -> Self {
        Self { search, id, seed, position: 0, forks: 0, ended: None }
    }

    /// Extends the path by one step.
    ///
    /// # Errors
    ///
    /// Why it cannot go on; it is then lost.
    ///
    /// # Cancel safety
    ///
    /// Whoever drops the future drops the path next: it cannot be told where it is.
    pub async fn advance(&mut self) -> Result<Stepped, Failure> {
        if self.ended.is_some() {
            return Err(Failure::new(FailureKind::Internal, "a path was extended that has come to its end"));
        }
        let (told, answer) = oneshot::channel();
        self.send(Command::Advance { job: self.search.job, path: self.id, told });
        let stepped = answer.await.map_err(|_| stopped())??;
        self.position += u64::from(stepped.step.tokens);
        self.forks = 0;
        self.ended.clone_from(&stepped.step.end);
        Ok(stepped)
    }

    /// Whether it has come to its end.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// A path that goes on from here with random numbers of its own; see [`forked_seed`].
    #[must_use]
    pub fn fork(&mut self) -> Self {
        let seed = forked_seed(self.seed, self.position, self.forks);
        self.forks += 1;
        let shared = self.search.shared.upgrade();
        let id = shared.as_ref().map_or(0, |shared| shared.next_id());
        if self.ended.is_none() {
            self.send(Command::Fork { job: self.search.job, path: self.id, fork: id, seed });
        }
        let Self { search, position, ended, .. } = &*self;
        Self { search: Arc::clone(search), id, seed, position: *position, forks: 0, ended: ended.clone() }
    }

    /// The answer as far as it has come, with the finish reason `length` unless it has ended by itself.
    ///
    /// # Errors
    ///
    /// When the engine has lost it.
    pub async fn into_answer(mut self) -> Result<Completion, Failure> {
        if let Some(ended) = self.ended.take() {
            return Ok(ended);
        }
        let (told, answer) = oneshot::channel();
        self.send(Command::Finish { job: self.search.job, path: self.id, told });
        answer.await.map_err(|_| stopped())?
    }

    fn send(&self, command: Command) {
        // An engine that is gone drops what it is told, and with it the way back.
        if let Some(shared) = self.search.shared.upgrade() {
            shared.command(command);
        }
    }
}

impl Drop for SearchPath {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.send(Command::Prune { job: self.search.job, path: self.id });
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        // The thread looks at who is still there only when it is awake.
        if let Some(shared) = self.shared.upgrade() {
            shared.wake();
        }
    }
}

impl Command {
    pub(super) fn job(&self) -> JobId {
        match self {
            Self::Advance { job, .. } | Self::Fork { job, .. } | Self::Finish { job, .. } | Self::Prune { job, .. } => {
                *job
            }
        }
    }
}

/// Why an answer ends that its owner did not let go on.
pub(super) const CUT_SHORT: FinishReason = FinishReason::Length;

fn stopped() -> Failure {
    Failure::new(FailureKind::Unavailable, "the engine stopped before this path was done")
}
