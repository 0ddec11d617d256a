//! Partial answers that are extended step by step: what search is made of.
//!
//! A [`Branch`] is one path of a search. It is owned: dropping it prunes it, and whatever it held alone is free again. A
//! fork goes on from where its parent stands and repeats nothing that the parent has computed. Which branches are
//! extended, forked and kept is decided in `algorithms`.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::completion::{Completion, TokenSignals};
use crate::failure::Failure;

/// Where a step ends, and where with it the whole path.
///
/// A step ends at the first token boundary at or after its marker, so that the steps of a path, one after the other, are
/// byte for byte what one uninterrupted generation of that path gives.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRule {
    /// Text that ends a step, of which it is a part; `None`: steps end by their length alone.
    pub step_token: Option<Arc<str>>,
    /// The most tokens of a step, at least 1; `None`: only the text says where it ends.
    pub tokens_per_step: Option<u32>,
    /// Text that ends the whole path when a step has it in it; the path's text keeps it.
    pub stop_token: Option<Arc<str>>,
    /// Whether a path ends with the step that closes a balanced `\boxed{}`.
    pub ends_when_boxed: bool,
    pub temperature_switch: Option<TemperatureSwitch>,
}

/// Another temperature for what stands between two markers.
#[derive(Debug, Clone, PartialEq)]
pub struct TemperatureSwitch {
    /// 0 or greater.
    pub temperature: f64,
    pub open: Arc<str>,
    pub close: Arc<str>,
}

/// One more step of a path.
#[derive(Debug, Clone)]
pub struct Step {
    /// What the step adds to the text that the model wrote, its markers included.
    pub text: String,
    /// Tokens that were generated for it, the one that ends a turn included.
    pub tokens: u32,
    /// Those of its text, where [`Prompt::signals`](crate::completion::Prompt) asked for them.
    pub signals: Vec<TokenSignals>,
    /// The whole answer, where the path has ended with this step.
    pub end: Option<Completion>,
}

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
