//! What tells good candidates from bad ones. Scores are higher for better candidates, whoever gives them.
//!
//! A [`Scorer`] is handed a conversation and finished candidates, and returns one score for each of them. A [`StepScorer`]
//! goes along with paths that are still being written. Neither knows why they are scored: which of them are worth it, and
//! what is made of the scores, is decided in `algorithms`.

pub mod confidence;
pub mod judge;
mod steps;

use std::sync::Arc;

use crate::completion::{Completion, Prompt};
use crate::failure::Failure;
#[cfg(doc)]
use crate::failure::FailureKind;
use crate::generator::Run;

pub use confidence::{Confidence, StepConfidence};
pub use judge::{Judge, JudgeTarget, Lessons};
pub use steps::{PathScorer, StepScorer};

/// What gives scores.
#[derive(Debug, Clone)]
pub enum Scorer {
    /// A model that is asked for its opinion.
    Judge(Judge),
    /// What the model that wrote them thought of their tokens.
    Confidence(Confidence),
}

/// What a scorer says of the candidates that it was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// In the order in which the candidates were given, finite, higher for better ones; `None` for a candidate that
    /// could not be scored. At least one is scored.
    pub values: Vec<Option<f64>>,
    /// In the same order, what the scorer put first among candidates of equal score: the lower rank is the better one.
    /// Empty where it has no more to say than the scores.
    pub ranks: Vec<usize>,
    /// What a reader should know about how the scores came to be, in sentences without a full stop.
    pub notes: Vec<String>,
}

impl Scorer {
    /// Scores candidates, which all answer `prompt`. Calls that are made for it belong to `run`.
    ///
    /// # Errors
    ///
    /// When not one candidate could be scored, or the run reached a bound ([`FailureKind::Deadline`],
    /// [`FailureKind::Limit`]) before every one was asked about.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends every call in flight.
    pub async fn score(
        &self,
        prompt: &Arc<Prompt>,
        candidates: &[&Completion],
        run: &Arc<Run>,
    ) -> Result<Scores, Failure> {
        match self {
            Self::Judge(judge) => judge.score(prompt, candidates, run).await,
            Self::Confidence(confidence) => confidence.score(candidates),
        }
    }

    /// What warnings and errors call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Judge(_) => "the judge",
            Self::Confidence(confidence) => confidence.name(),
        }
    }
}
