//! Beam search: after each step the best paths are kept, and each of them is continued in several ways.
//!
//! Snell et al., "Scaling LLM Test-Time Compute Optimally can be More Effective than Scaling Model Parameters" (2024).
//! Paths that end go to a pool and leave their places to others. The answer is the best of the pool, or where nothing has
//! ended the best path there is. A path that its length limit cut off is in the pool, but has come to no end either.

use std::collections::HashSet;
use std::sync::Arc;

use crate::algorithms::Observer;
use crate::algorithms::outcome::{Outcome, RunError, StopReason};
use crate::algorithms::plan::Plan;
use crate::completion::Prompt;
use crate::failure::Failure;
use crate::generator::{Generator, Run};

use super::committed::Committed;
use super::ending::{Choice, Ended, conclude};
use super::path::{self, Path};
use super::plan::BeamSearch;
use super::{Tree, Unscored, in_reserve};

/// The paths of a search and those that it is done with.
#[derive(Default)]
struct Beams {
    /// Not ended; after a choice the best first.
    active: Vec<Path>,
    /// Ended, in the order in which they did.
    pool: Vec<Path>,
    tree: Tree,
}

pub(in crate::algorithms) async fn run(
    settings: &BeamSearch,
    plan: &Plan,
    prompt: Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
    observer: &mut impl Observer,
) -> Result<Outcome, RunError> {
    let search = &settings.search;
    let most = plan.held();
    let at_end = |reason| if most < plan.budget { StopReason::MaxCandidates } else { reason };
    let active = path::open(most, search, &prompt, generator, run).await;
    let active = active.map_err(|failure| RunError { failures: vec![(0, failure)] })?;
    let mut beams = Beams { active, ..Beams::default() };
    let mut committed = Committed::new(plan, &prompt, generator);
    let mut unscored = Unscored::default();
    let mut failures: Vec<Failure> = Vec::new();
    let mut steps = 0;
    let reason = loop {
        if let Some(bound) = run.exhausted() {
            break bound.into();
        }
        let reserve = if beams.pool.is_empty() { in_reserve(&mut beams.active, run) } else { None };
        let mut round = path::extend(std::mem::take(&mut beams.active), run).await;
        failures.append(&mut round.failures);
        beams.take(std::mem::take(&mut round.paths));
        // Otherwise what it held is for the continuations.
        beams.active.extend(reserve.filter(|_| round.is_cut_short && beams.pool.is_empty()));
        unscored.take(&mut round, &*search.scorer, beams.active.iter().chain(&beams.pool))?;
        if settings.dedup {
            beams.drop_alike();
        }
        beams.keep(settings.width.min(most));
        steps += 1;
        observer.progress(beams.pool.len().min(plan.budget), plan.budget);
        if round.is_cut_short {
            break StopReason::Deadline;
        }
        if beams.active.is_empty() {
            break at_end(StopReason::Completed);
        }
        if steps == search.max_steps {
            break at_end(StopReason::MaxSteps);
        }
        let certain = committed.further(beams.active.iter().chain(&beams.pool).map(|path| &*path.text));
        if let Some(delta) = certain {
            observer.delta(delta).await;
        }
        beams.spread(settings.per_beam, most);
    };
    let Beams { active, pool, tree } = beams;
    let paths = pool.into_iter().chain(active).collect();
    let warnings = unscored.warning(&*search.scorer).into_iter().collect();
    let ended = Ended { paths, log_weights: None, tree, failures, reason, warnings, committed };
    conclude(search, plan, &prompt, ended, Choice::Best, observer).await
}

impl Beams {
    /// Takes the paths that are left after a step: those that have ended go to the pool.
    fn take(&mut self, paths: Vec<Option<Path>>) {
        let mut paths: Vec<Path> = paths.into_iter().flatten().collect();
        self.tree.grow(paths.iter_mut());
        let (ended, active) = paths.into_iter().partition(Path::has_ended);
        self.active = active;
        self.pool.extend::<Vec<Path>>(ended);
    }

    /// Of paths that say the same keeps the best, the first of equals. One that has ended says something else than one that
    /// goes on. What a path holds back, a part of a character or of a text that would end it, is not told with its steps: two
    /// that differ only in that, which they will show with a later step, count as the same.
    fn drop_alike(&mut self) {
        for paths in [&mut self.active, &mut self.pool] {
            let mut by_merit: Vec<usize> = (0..paths.len()).collect();
            by_merit.sort_by(|one, other| paths[*other].logit().total_cmp(&paths[*one].logit()));
            let mut texts = HashSet::new();
            let mut is_kept = vec![false; paths.len()];
            for index in by_merit {
                is_kept[index] = texts.insert(&*paths[index].text);
            }
            let mut is_kept = is_kept.into_iter();
            paths.retain(|path| {
                let is_kept = is_kept.next().expect("one for each path");
                if !is_kept {
                    self.tree.prune(path.node);
                }
                is_kept
            });
        }
    }

    /// Keeps so many of the paths that have not ended, the best first, the first of equals before the others.
    fn keep(&mut self, width: usize) {
        self.active.sort_by(|one, other| other.logit().total_cmp(&one.logit()));
        for path in self.active.drain(self.active.len().min(width)..) {
            self.tree.prune(path.node);
        }
    }

    /// Makes so many paths of each that is kept, `most` in all: a further one of every path before the next of any.
    fn spread(&mut self, per_beam: usize, most: usize) {
        let beams = self.active.len();
        for (index, mut path) in std::mem::take(&mut self.active).into_iter().enumerate() {
            let copies = (1..per_beam).take_while(|copy| copy * beams + index < most).count();
            let forks: Vec<Path> = (0..copies).map(|_| path.fork()).collect();
            self.active.push(path);
            self.active.extend(forks);
        }
    }
}
