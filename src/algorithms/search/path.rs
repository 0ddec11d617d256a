//! The paths that a search holds, extended together and decided upon in order.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::completion::{Completion, Prompt};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Branch, Generator, Phase, Run};
use crate::scorers::PathScorer;

use super::Search;
use super::weights::logit;

/// A path with what its scorer keeps of it. Dropping it prunes it.
pub(super) struct Path {
    /// All that the model wrote.
    pub text: String,
    pub steps: usize,
    /// That of the path so far, from 0 to 1; `None` where it could not be scored.
    pub score: Option<f64>,
    /// By how much its latest round has raised g: by 0 where it had ended before. A path of no steps has g = 0.
    pub gain: f64,
    /// Its latest step in the tree.
    pub node: Option<usize>,
    /// The text of the latest step, until the tree has it.
    pub latest: Option<String>,
    stage: Stage,
}

enum Stage {
    Live {
        branch: Box<dyn Branch>,
        scorer: Box<dyn PathScorer>,
    },
    /// Copies of a path that has ended share its answer.
    Ended(Arc<Completion>),
}

/// What came of extending paths by a step each.
pub(super) struct Round {
    /// In the order in which they were given; `None` for those that are lost.
    pub paths: Vec<Option<Path>>,
    /// Why some are lost, in that order.
    pub failures: Vec<Failure>,
    /// Why some could not be scored, in that order.
    pub unscored: Vec<Failure>,
    /// Whether the deadline ended it, with which those that had not come to the end of their step are lost.
    pub is_cut_short: bool,
}

/// A path that has come to the end of a step.
struct Stepped {
    path: Path,
    /// Why it could not be scored, where that is so.
    unscored: Option<Failure>,
}

/// A path that is over.
pub(super) struct Leaf {
    pub node: Option<usize>,
    pub steps: usize,
    pub score: Option<f64>,
    pub answer: Result<Completion, Failure>,
}

/// Opens so many paths.
///
/// # Errors
///
/// Why there are none, [`FailureKind::Deadline`] among the reasons.
pub(super) async fn open(
    count: usize,
    search: &Search,
    prompt: &Arc<Prompt>,
    generator: &dyn Generator,
    run: &Arc<Run>,
) -> Result<Vec<Path>, Failure> {
    let opening =
        generator.branches(Arc::clone(prompt), Arc::clone(&search.steps), 0..count, Phase::Generate, Arc::clone(run));
    let branches = run.until_deadline(opening).await??;
    let path = |branch| Path {
        text: String::new(),
        steps: 0,
        score: None,
        gain: 0.0,
        node: None,
        latest: None,
        stage: Stage::Live { branch, scorer: search.scorer.begin(prompt, run) },
    };
    Ok(branches.into_iter().map(path).collect())
}

/// Extends every path that has not ended by a step, all of them at once, but not beyond the deadline.
///
/// # Cancel safety
///
/// Dropping the future drops the paths.
pub(super) async fn extend(paths: Vec<Path>, run: &Run) -> Round {
    let mut ends: Vec<Option<Result<Stepped, Failure>>> = paths.iter().map(|_| None).collect();
    let advance = |(index, path): (usize, Path)| async move { (index, path.advance().await) };
    let mut advancing: FuturesUnordered<_> = paths.into_iter().enumerate().map(advance).collect();
    let is_cut_short = loop {
        match run.until_deadline(advancing.next()).await {
            Ok(Some((index, end))) => ends[index] = Some(end),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    drop(advancing);
    let mut round =
        Round { paths: Vec::with_capacity(ends.len()), failures: Vec::new(), unscored: Vec::new(), is_cut_short };
    for end in ends {
        match end {
            Some(Ok(Stepped { path, unscored })) => {
                round.unscored.extend(unscored);
                round.paths.push(Some(path));
            }
            Some(Err(failure)) => {
                round.failures.push(failure);
                round.paths.push(None);
            }
            None => round.paths.push(None),
        }
    }
    round
}

impl Path {
    /// Takes a step, unless the path has ended.
    async fn advance(mut self) -> Result<Stepped, Failure> {
        let before = if self.steps == 0 { 0.0 } else { self.logit() };
        self.gain = 0.0;
        let Stage::Live { branch, scorer } = &mut self.stage else {
            return Ok(Stepped { path: self, unscored: None });
        };
        let mut step = branch.advance().await?;
        let (score, unscored) = match scorer.score(&step).await {
            Ok(score) if score.is_nan() => {
                (None, Some(Failure::new(FailureKind::Malformed, "the score is not a number")))
            }
            Ok(score) => (Some(score.clamp(0.0, 1.0)), None),
            Err(failure) => (None, Some(failure)),
        };
        if let Some(mut answer) = step.end.take() {
            // Nobody reads them any more, and copies would each have their own.
            answer.tokens = None;
            self.stage = Stage::Ended(Arc::new(answer));
        }
        self.score = score;
        self.gain = self.logit() - before;
        self.steps += 1;
        self.text.push_str(&step.text);
        self.latest = Some(step.text);
        Ok(Stepped { path: self, unscored })
    }

    /// A path that goes on from here by itself.
    pub fn fork(&mut self) -> Self {
        let stage = match &mut self.stage {
            Stage::Live { branch, scorer } => Stage::Live { branch: branch.fork(), scorer: scorer.fork() },
            Stage::Ended(answer) => Stage::Ended(Arc::clone(answer)),
        };
        Self { text: self.text.clone(), latest: None, stage, ..*self }
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// g of its score.
    pub fn logit(&self) -> f64 {
        logit(self.score)
    }

    /// The answer as far as it has come. Nothing is generated for it.
    pub async fn finish(self) -> Leaf {
        let Self { node, steps, score, .. } = self;
        let answer = match self.stage {
            Stage::Live { branch, .. } => branch.into_answer().await,
            Stage::Ended(answer) => Ok(Arc::unwrap_or_clone(answer)),
        };
        Leaf { node, steps, score, answer }
    }
}
