//! Pieces of an answer: where they end, and what is told of one.

use std::sync::Arc;

use super::{Completion, TokenSignals};

/// Where a step ends, and where with it the whole path.
///
/// A step ends at the first token boundary at or after its marker, so that the steps of a path, one after the other, are
/// byte for byte what one uninterrupted generation of that path gives.
#[derive(Debug, Clone, PartialEq)]
pub struct StepRule {
    /// Text that ends a step, of which it is a part; `None`: steps end by their length alone. Not empty.
    pub step_token: Option<Arc<str>>,
    /// The most tokens of a step, at least 1; `None`: only the text says where it ends.
    pub tokens_per_step: Option<u32>,
    /// Text that ends the whole path when a step has it in it; the path's text keeps it. Not empty.
    pub stop_token: Option<Arc<str>>,
    /// Whether a path ends with the step that closes a balanced `\boxed{}`.
    pub ends_when_boxed: bool,
    pub temperature_switch: Option<TemperatureSwitch>,
}

/// Another temperature for what stands between two markers, neither of which is empty.
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
    /// Those of its text, where [`Prompt::signals`](super::Prompt) asked for them.
    pub signals: Vec<TokenSignals>,
    /// The whole answer, where the path has ended with this step.
    pub end: Option<Completion>,
}
