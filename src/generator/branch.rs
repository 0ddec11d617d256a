//! Partial answers that are extended step by step: what search is made of.
//!
//! A [`Branch`] is one path of a search. It is owned: dropping it prunes it, and whatever it held alone is free again. A
//! fork goes on from where its parent stands and repeats nothing that the parent has computed. Which branches are
//! extended, forked and kept is decided in `algorithms`.

use futures_util::future::BoxFuture;

use crate::completion::Completion;
use crate::failure::Failure;

pub use crate::completion::{Step, StepRule, TemperatureSwitch};

/// A path that is extended step by step.
///
/// # Cancel safety
///
/// Dropping the branch, or the future of an advance, ends what is being computed for it. A branch whose advance was
/// dropped is good for nothing but to be dropped.
pub trait Branch: Send {
    /// Extends the path by one step. Not to be called again once a step has told the path's end.
    ///
    /// # Errors
    ///
    /// Why it cannot go on; the path is then lost.
    fn advance(&mut self) -> BoxFuture<'_, Result<Step, Failure>>;

    /// A path that goes on from here by itself, with random numbers of its own: they follow from this path's, from where it
    /// stands, and from how many forks it has had there. The fork of a path that has ended has ended too.
    fn fork(&mut self) -> Box<dyn Branch>;

    /// The answer as far as the path has come, with the finish reason `length` unless it has ended by itself.
    ///
    /// # Errors
    ///
    /// Why it is lost.
    fn into_answer(self: Box<Self>) -> BoxFuture<'static, Result<Completion, Failure>>;
}
