//! Particle filtering: paths that are drawn anew after each step, by what they are worth.
//!
//! Puri et al., "A Probabilistic Inference Approach to Inference-Time Scaling of LLMs using Particle-Based Monte Carlo
//! Methods" (2025). A particle of score r has g = logit(r). With `absolute` weights, the paper's, log w is g; with
//! `incremental` ones, which are those of sequential Monte Carlo, it is what g has gained since particles were drawn anew,
//! so that they need not be after every step. A particle that has ended stays, and is drawn like the others.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use crate::algorithms::Observer;
use crate::algorithms::outcome::{Outcome, RunError, StopReason};
use crate::algorithms::plan::Plan;
use crate::completion::Prompt;
use crate::config::run::{FinalSelect, ParticleWeights, Resample};
use crate::failure::Failure;
use crate::generator::{Generator, Run};

use super::committed::Committed;
use super::ending::{Choice, Ended, conclude};
use super::path::{self, Path};
use super::plan::ParticleFiltering;
use super::resampling::resample;
use super::weights::{effective_sample_size, shares};
use super::{Tree, Unscored, in_reserve};

/// Paths and their weights.
struct Particles {
    paths: Vec<Path>,
    /// log w of each path.
    log_weights: Vec<f64>,
    tree: Tree,
}

pub(in crate::algorithms) async fn run(
    settings: &ParticleFiltering,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let search = &settings.search;
    let count = plan.held();
    let at_end = |reason| if count < plan.budget { StopReason::MaxCandidates } else { reason };
    let paths = path::open(count, search, &prompt, generator, run).await;
    let paths = paths.map_err(|failure| RunError { failures: vec![(0, failure)] })?;
    let mut particles = Particles { log_weights: vec![0.0; paths.len()], paths, tree: Tree::default() };
    let mut rng = ChaCha12Rng::seed_from_u64(run.decision_seed());
    let mut committed = Committed::new(plan, &prompt, generator);
    let mut unscored = Unscored::default();
    let mut failures: Vec<Failure> = Vec::new();
    let mut steps = 0;
    let reason = loop {
        if let Some(bound) = run.exhausted() {
            break bound.into();
        }
        let reserve = in_reserve(&mut particles.paths, run);
        let mut round = path::extend(std::mem::take(&mut particles.paths), run).await;
        failures.append(&mut round.failures);
        particles.take(std::mem::take(&mut round.paths), settings.weights);
        match round.is_cut_short {
            true => particles.fall_back(reserve),
            // What it held is for the copies.
            false => drop(reserve),
        }
        unscored.take(&mut round, &*search.scorer, particles.paths.iter())?;
        steps += 1;
        let ended = particles.paths.iter().filter(|path| path.has_ended()).count();
        observer.progress(ended, plan.budget);
        if round.is_cut_short {
            break StopReason::Deadline;
        }
        if ended == particles.paths.len() {
            break at_end(StopReason::Completed);
        }
        if steps == search.max_steps {
            break at_end(StopReason::MaxSteps);
        }
        particles.draw_anew(settings, count, &mut rng);
        let certain = committed.further(particles.paths.iter().map(|path| &*path.text));
        if let Some(delta) = certain {
            observer.delta(delta).await;
        }
    };
    let Particles { paths, log_weights, tree } = particles;
    let choice = match settings.final_select {
        FinalSelect::Argmax => Choice::Best,
        FinalSelect::Sample => Choice::Drawn(Box::new(rng)),
    };
    let warnings = unscored.warning(&*search.scorer).into_iter().collect();
    let ended = Ended { paths, log_weights: Some(log_weights), tree, failures, reason, warnings, committed };
    conclude(search, plan, &prompt, ended, choice, observer).await
}

impl Particles {
    /// Takes the paths that are left after a step, and weighs them. The lost ones weigh nothing.
    fn take(&mut self, paths: Vec<Option<Path>>, weights: ParticleWeights) {
        let before = std::mem::take(&mut self.log_weights);
        for (path, before) in paths.into_iter().zip(before) {
            let Some(path) = path else { continue };
            self.log_weights.push(match weights {
                ParticleWeights::Absolute => path.logit(),
                ParticleWeights::Incremental => before + path.gain,
            });
            self.paths.push(path);
        }
        self.tree.grow(self.paths.iter_mut());
    }

    /// Takes what was held in reserve, where a step that was cut short has left nothing that has ended.
    fn fall_back(&mut self, reserve: Option<Path>) {
        if let Some(path) = reserve.filter(|_| !self.paths.iter().any(Path::has_ended)) {
            self.log_weights.push(path.logit());
            self.paths.push(path);
        }
    }

    /// Draws as many particles anew as there are to be, where it is time.
    fn draw_anew(&mut self, settings: &ParticleFiltering, count: usize, rng: &mut ChaCha12Rng) {
        let shares = shares(&self.log_weights);
        let is_due = match settings.resample {
            Resample::Always => true,
            Resample::Ess => effective_sample_size(&shares) < shares.len() as f64 / 2.0,
        };
        if !is_due {
            return;
        }
        let copies = resample(settings.resampling, &shares, count, rng);
        let mut kept = Vec::with_capacity(shares.len());
        for (path, copies) in std::mem::take(&mut self.paths).into_iter().zip(copies) {
            match copies {
                // Dropped before others are forked, so that what it held is free for them.
                0 => self.tree.prune(path.node),
                copies => kept.push((path, copies)),
            }
        }
        for (mut path, copies) in kept {
            // A path that has ended may have copies that were not drawn.
            self.tree.keep(path.node, path.has_ended());
            let forks: Vec<Path> = (1..copies).map(|_| path.fork()).collect();
            self.paths.push(path);
            self.paths.extend(forks);
        }
        self.log_weights = vec![0.0; self.paths.len()];
    }
}
