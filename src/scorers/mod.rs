//! What tells good candidates from bad ones. Scores are higher for better candidates, whoever gives them.

use std::sync::Arc;

use crate::generator::Generator;

/// Who judges: a generator, and what it calls the judge's model.
#[derive(Clone)]
pub struct JudgeTarget {
    pub generator: Arc<dyn Generator>,
    pub model: String,
}
