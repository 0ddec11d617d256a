//! A language model as judge of candidates.
//!
//! `pointwise` asks about each candidate by itself, for a score from 0 to 10; `groupwise` shows candidates beside each
//! other and asks which are the best. What the judge is shown is data that it must not obey (`case`); what it answers
//! is read with patience but never guessed at (`verdict`). A judge that cannot be understood is a failure: nothing
//! here makes up a score.

mod ask;
mod case;
mod criterion;
mod exhibit;
mod groupwise;
mod line;
mod manner;
mod pointwise;
mod verdict;

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::completion::{Completion, Prompt};
use crate::config::capabilities::StructuredOutput;
use crate::config::run::{JudgeMode, JudgeSettings};
use crate::failure::Failure;
use crate::generator::{Generator, Run};

use super::Scores;
use ask::Bench;
use exhibit::{LeftOut, exhibit};
use line::one_line;

pub use manner::Lessons;

/// A judge: who it is, and how it judges.
#[derive(Debug, Clone)]
pub struct Judge {
    pub target: JudgeTarget,
    pub settings: JudgeSettings,
}

/// Who judges: a generator, and what it calls the judge's model.
#[derive(Clone)]
pub struct JudgeTarget {
    pub generator: Arc<dyn Generator>,
    pub model: String,
    /// How it can be held to the shape of a verdict.
    pub structured_output: StructuredOutput,
    /// What its server has taught us so far.
    pub lessons: Lessons,
}

impl Judge {
    /// Judges candidates, which all answer `prompt`: 0 to 10 each in the mode `pointwise`; in the mode `groupwise`
    /// 1 for those that are picked and 0 for the others.
    ///
    /// # Errors
    ///
    /// When not one candidate could be judged: the judge could not be reached, or its answers could not be understood.
    /// Also when the judge refuses us or is not there, and when a bound of the run is reached, whatever was judged by then.
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
        let started = Instant::now();
        let bench = Bench::new(self, prompt, candidates, run);
        let judged = match self.settings.mode {
            JudgeMode::Pointwise => pointwise::score(&bench, candidates.len()).await,
            JudgeMode::Groupwise => groupwise::score(&bench, candidates.len()).await,
        };
        if self.settings.logging {
            // Neither what was judged nor what the judge said of it belongs in a log.
            tracing::info!(
                judge = self.target.model,
                mode = self.settings.mode.as_str(),
                candidates = candidates.len(),
                calls = bench.calls(),
                scores = ?judged.as_ref().map_or(&[][..], |scores| &scores.values),
                failure = judged.as_ref().err().map(|failure| failure.kind.as_str()),
                duration_ms = started.elapsed().as_millis() as u64,
                "candidates were judged"
            );
        }
        if let Err(failure) = &judged {
            run.ledger.judge_failed(failure.kind);
        }
        judged.map(|mut scores| {
            scores.notes.extend(bench.notes());
            scores
        })
    }
}

impl fmt::Debug for JudgeTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JudgeTarget").field("model", &self.model).finish_non_exhaustive()
    }
}

/// A candidate as a judge is shown it: one line of JSON, an object. Also whether any of it is left out.
pub(crate) fn candidate_line(completion: &Completion) -> (String, bool) {
    let mut left_out = LeftOut::default();
    let line = one_line(&exhibit(completion, &mut left_out));
    (line, !left_out.notes().is_empty())
}

#[cfg(test)]
mod tests;
