//! Scores of paths as they grow, which is what a search goes by.
//!
//! A scorer begins with the prompt, sees each step of a path once, and forks when the path does: whatever it has worked
//! out so far, such as a reward model's own cache of the path, is kept with the path and never made again.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::completion::{Prompt, Signals};
use crate::failure::Failure;
use crate::generator::{Run, Step};

/// What scores the paths of a search.
pub trait StepScorer: Debug + Send + Sync {
    /// What is kept of a path before its first step. Calls that are made for it belong to `run`.
    fn begin(&self, prompt: &Arc<Prompt>, run: &Arc<Run>) -> Box<dyn PathScorer>;

    /// What the tokens of each step must bring along; `None` where nobody looks at them.
    fn signals(&self) -> Option<Signals>;

    /// What warnings and errors call it.
    fn name(&self) -> &'static str;
}

/// What a scorer keeps of one path. Dropping it frees what it holds.
pub trait PathScorer: Send {
    /// Takes the next step of the path and scores the path as far as it has come: from 0 to 1, higher for better ones.
    ///
    /// # Errors
    ///
    /// Why it cannot be scored. The path may go on, and so may its scores.
    ///
    /// # Cancel safety
    ///
    /// Whoever drops the future has to drop this too.
    fn score<'a>(&'a mut self, step: &'a Step) -> BoxFuture<'a, Result<f64, Failure>>;

    /// The same for a path that goes on from here by itself.
    fn fork(&mut self) -> Box<dyn PathScorer>;
}
