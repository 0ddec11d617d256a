//! What tells good candidates from bad ones. Scores are higher for better candidates, whoever gives them.

pub mod confidence;

use std::sync::Arc;

use crate::generator::Generator;

/// Who judges: a generator, and what it calls the judge's model.
#[derive(Clone)]
pub struct JudgeTarget {
    pub generator: Arc<dyn Generator>,
    pub model: String,
}

/// What a scorer says of the candidates that it was shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// In the order in which the candidates were given, finite, higher for better ones; `None` for a candidate that
    /// could not be scored. At least one is scored.
    pub values: Vec<Option<f64>>,
    /// What a reader should know about how the scores came to be, in sentences without a full stop.
    pub notes: Vec<String>,
}
