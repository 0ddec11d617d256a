//! The one fan-out engine under every algorithm: paths are opened for a prompt and extended, and the
//! algorithm hears about each as it goes.
//!
//! A whole answer is a path extended until its end, so sampling and step-wise search share one shape, and so
//! do remote providers and the in-process engine. What a path needs (a connection, a sequence in the KV
//! cache) lives in the stream that extends it: dropping the stream aborts every call in flight, upstream
//! included. Which candidates to ask for and when to stop is not decided here but in `algorithms`.

mod ledger;
#[cfg(feature = "llama")]
mod local;
mod remote;
mod run;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;

use crate::completion::{Prompt, StepEvent};
use crate::failure::Failure;

pub use ledger::{Ledger, Phase};
pub use run::{Run, RunSeed};

/// A source of candidates: a remote provider or the in-process engine.
pub trait Generator: Send + Sync {
    /// Refuses a prompt that this source cannot honour, before anything is spent on it.
    ///
    /// # Errors
    ///
    /// An [`InvalidRequest`](crate::failure::FailureKind::InvalidRequest) that names the parameter, or
    /// [`ContextLength`](crate::failure::FailureKind::ContextLength).
    fn check(&self, prompt: &Prompt) -> Result<(), Failure>;

    /// Extends every path and yields `(candidate, event)` as things happen, in order of arrival.
    ///
    /// Each path ends with exactly one `Finished` or `Failed`; the stream ends after the last of them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the stream ends every unfinished path at once: connections are closed, sequences freed.
    fn extend(&self, paths: Vec<Path>, until: Until, delivery: Delivery) -> StepEvents;
}

/// What is heard of the paths being extended: the candidate's index and what happened to it.
pub type StepEvents = Pin<Box<dyn Stream<Item = (usize, StepEvent)> + Send>>;

/// A partial answer that can be extended. It is owned by whoever extends it.
#[derive(Debug, Clone)]
pub struct Path {
    /// Index of the candidate within its run, from 0.
    pub candidate: usize,
    pub prompt: Arc<Prompt>,
    pub run: Arc<Run>,
}

/// Where an extension ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At the end of the response.
    End,
}

/// How an extension is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Only how each path ended.
    Whole,
    /// Deltas as they are generated, then how the path ended.
    Live,
}

/// Opens `count` paths, numbered from 0, that all begin with `prompt`.
pub fn open(prompt: &Arc<Prompt>, count: usize, run: &Arc<Run>) -> Vec<Path> {
    (0..count).map(|candidate| Path { candidate, prompt: Arc::clone(prompt), run: Arc::clone(run) }).collect()
}

/// Candidates from an OpenAI-compatible provider.
pub fn remote(provider: Arc<crate::providers::openai::Provider>) -> Arc<dyn Generator> {
    Arc::new(remote::Remote::new(provider))
}

/// Candidates from the in-process engine.
#[cfg(feature = "llama")]
pub fn local(engine: crate::llama::Engine) -> Arc<dyn Generator> {
    Arc::new(local::Local::new(engine))
}
