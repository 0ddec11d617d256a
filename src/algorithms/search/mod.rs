//! Search step by step: paths are extended, scored as far as they have come, and forked or given up for it.
//!
//! Paths take their steps together and are decided upon in the order of their numbers, so that the same seed makes the
//! same decisions whoever was the first. The numbers (weights, resampling) are pure. A path that goes on alone keeps its own
//! branch, of k copies k − 1 are forks, and one that is given up is dropped at once.

mod beam_search;
mod committed;
mod ending;
mod particle_filtering;
mod path;
mod plan;
mod resampling;
mod tree;
mod weights;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::failure::{Failure, FailureKind};
use crate::generator::{Run, StepRule};
use crate::scorers::StepScorer;

use super::outcome::RunError;
use super::vote::VoteRules;
use path::{Path, Round};
pub(super) use plan::{BeamSearch, ParticleFiltering};
pub use tree::{Fate, Node, Tree};

pub(super) use beam_search::run as run_beam_search;
pub(super) use particle_filtering::run as run_particle_filtering;

/// What every search has.
#[derive(Debug, Clone)]
pub struct Search {
    /// Where steps end, and paths.
    pub steps: Arc<StepRule>,
    pub scorer: Arc<dyn StepScorer>,
    /// Steps after which it ends, at least 1.
    pub max_steps: usize,
    /// What makes answers fit for a choice.
    pub rules: Arc<VoteRules>,
}

/// What a search tells of how it went.
#[derive(Debug, Clone, PartialEq)]
pub struct Searched {
    pub tree: Tree,
    /// Paths that were opened, which are as many as it holds at a time.
    pub opened: usize,
    /// Steps of each candidate, in candidate order; `None` for those that are no answer.
    pub steps_used: Vec<Option<usize>>,
    /// The logarithm of each candidate's weight, before the last choice; of particles alone.
    pub log_weights: Option<Vec<Option<f64>>>,
}

/// Scores that could not be given, and what is told of them.
#[derive(Default)]
struct Unscored {
    count: usize,
    first: Option<Failure>,
}

impl Unscored {
    /// Takes what a round could not score. `paths` are those that are left.
    ///
    /// # Errors
    ///
    /// When not one of them has a score: whatever was decided then would be decided blindly.
    fn take<'a>(
        &mut self,
        round: &mut Round,
        scorer: &dyn StepScorer,
        mut paths: impl Iterator<Item = &'a Path>,
    ) -> Result<(), RunError> {
        let mut failures = std::mem::take(&mut round.unscored).into_iter();
        let Some(first) = failures.next() else { return Ok(()) };
        self.count += 1 + failures.count();
        if paths.all(|path| path.score.is_none()) {
            let message = format!("`{}` could not score a single path: {first}", scorer.name());
            let failure = Failure { kind: FailureKind::JudgeFailed, message, param: None, ..first };
            return Err(RunError { failures: vec![(0, failure)] });
        }
        self.first.get_or_insert(first);
        Ok(())
    }

    fn warning(&self, scorer: &dyn StepScorer) -> Option<String> {
        let first = self.first.as_ref()?;
        let (name, count) = (scorer.name(), self.count);
        Some(format!("`{name}` could not score {count} steps, whose paths counted as the worst: {first}"))
    }
}

/// A fork that takes no step, where there is a deadline: paths that it interrupts have no answer any more. It is that of the
/// best path, made after all others, so that nothing else is drawn in another way for it.
fn in_reserve(paths: &mut [Path], run: &Run) -> Option<Path> {
    run.bounds.deadline?;
    if paths.iter().any(Path::has_ended) {
        return None;
    }
    best(paths).filter(|path| path.steps > 0).map(Path::fork)
}

/// The path of the highest score, the first of equals.
fn best(paths: &mut [Path]) -> Option<&mut Path> {
    paths.iter_mut().reduce(|best, next| if next.logit() > best.logit() { next } else { best })
}
