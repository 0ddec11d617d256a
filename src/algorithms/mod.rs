//! The algorithms that spend compute on a question, and the decisions they are made of.
//!
//! An algorithm asks the generator for candidates, hears how each ends, and chooses an answer. The decisions
//! (votes, stop rules) are pure; everything that waits or fails is the generator's.

mod best_of_n;
mod mixture_of_n;
mod outcome;
mod plan;
mod said;
mod sampling;
mod search;
mod selection;
mod self_consistency;
mod several;
mod signals;
mod single;
pub mod stop_rule;
pub mod vote;
mod wait;
mod without_effect;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::completion::Prompt;
use crate::generator::{Generator, Run};

pub use outcome::{Answer, Candidate, Outcome, RunError, Stop, StopReason};
pub use plan::{Algorithm, Plan, PlanError, Resources, Wanted};
pub use search::{Fate, Node, Searched, Tree};
pub use without_effect::Named;

/// What an algorithm tells while it runs, for those who stream it.
pub trait Observer: Send {
    /// A piece of the answer that is final by construction. Waits while the reader is slow.
    fn delta(&mut self, delta: crate::completion::Delta) -> impl Future<Output = ()> + Send;

    /// `completed` of `planned` candidates are in.
    fn progress(&mut self, completed: usize, planned: usize);
}

/// Nobody listens.
impl Observer for () {
    async fn delta(&mut self, _: crate::completion::Delta) {}
    fn progress(&mut self, _: usize, _: usize) {}
}

/// Runs a plan to its answer.
///
/// # Errors
///
/// [`RunError`] when not one candidate succeeded.
///
/// # Cancel safety
///
/// Dropping the future ends every call in flight.
pub async fn run(
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let ended = match &plan.algorithm {
        Algorithm::Single => single::run(plan, prompt, generator, run, observer).await,
        Algorithm::Several => several::run(plan, prompt, generator, run, observer).await,
        Algorithm::SelfConsistency(settings) => {
            self_consistency::run(settings, plan, prompt, generator, run, observer).await
        }
        Algorithm::BestOfN(settings) => best_of_n::run(settings, plan, prompt, generator, run, observer).await,
        Algorithm::MixtureOfN(rules) => mixture_of_n::run(rules, plan, prompt, generator, run, observer).await,
        Algorithm::Wait => wait::run(plan, prompt, generator, run, observer).await,
        Algorithm::BeamSearch(settings) => {
            search::run_beam_search(settings, plan, prompt, generator, run, observer).await
        }
        Algorithm::ParticleFiltering(settings) => {
            search::run_particle_filtering(settings, plan, prompt, generator, run, observer).await
        }
    };
    ended.map(|mut outcome| {
        // The rounds of a chain follow from each other, so that it tells itself what a failed one means.
        if !matches!(plan.algorithm, Algorithm::Wait) {
            outcome.warnings.extend(outcome.failed_candidates());
        }
        outcome.warnings.extend(run.notes.all());
        outcome.warnings.extend(run.unchecked_bound());
        outcome
    })
}
