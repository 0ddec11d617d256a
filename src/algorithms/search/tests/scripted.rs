//! A generator whose paths do as a script says, and which counts what becomes of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::completion::{Completion, FinishReason, Prompt, Reply, TokenSignals, Usage};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Branch, Delivery, Extension, Generator, Path, PathSupport, Phase, Run, Step, StepRule, Until};

/// What a path does next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// Says this, of which its model was so sure.
    Says(&'static str, f64),
    /// The same, and ends with it.
    Ends(&'static str, f64),
    /// Says this of one token that nobody knows the probability of.
    Mumbles(&'static str),
    Fails,
    /// For good.
    Hangs,
}

/// Says what a path does next: the path's name, and the steps that it has taken. The first paths are named `0`, `1` and so
/// on, and the first fork of `0` after two steps `0+2.1`.
pub type Script = dyn Fn(&str, usize) -> Turn + Send + Sync;

/// How often each thing was done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    pub opened: usize,
    pub forked: usize,
    /// Steps that were asked for.
    pub steps: usize,
    /// Paths that were asked for their answer.
    pub answered: usize,
    /// Paths that there are now.
    pub alive: usize,
    /// The most that there were at any time.
    pub most: usize,
}

pub struct Scripted {
    script: Arc<Script>,
    /// How many turns of the executor a path takes for its step, by its name.
    pace: Arc<dyn Fn(&str) -> usize + Send + Sync>,
    counts: Arc<Mutex<Counts>>,
}

impl Scripted {
    pub fn new(script: impl Fn(&str, usize) -> Turn + Send + Sync + 'static) -> Arc<Self> {
        Self::paced(script, |_| 1)
    }

    pub fn paced(
        script: impl Fn(&str, usize) -> Turn + Send + Sync + 'static,
        pace: impl Fn(&str) -> usize + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { script: Arc::new(script), pace: Arc::new(pace), counts: Arc::default() })
    }

    /// Paths that do these things by their name, one after the other.
    pub fn by_name(paths: &[(&'static str, &[Turn])]) -> Arc<Self> {
        let paths: BTreeMap<&'static str, Vec<Turn>> =
            paths.iter().map(|(name, turns)| (*name, turns.to_vec())).collect();
        Self::new(move |name, step| {
            let turns = paths.get(name).unwrap_or_else(|| panic!("there is no path {name}"));
            *turns.get(step).unwrap_or_else(|| panic!("path {name} takes no step {step}"))
        })
    }

    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }

    pub fn alive(&self) -> usize {
        self.counts.lock().alive
    }
}

struct ScriptedBranch {
    script: Arc<Script>,
    pace: Arc<dyn Fn(&str) -> usize + Send + Sync>,
    counts: Arc<Mutex<Counts>>,
    run: Arc<Run>,
    phase: Phase,
    name: String,
    steps: usize,
    forks: usize,
    text: String,
}

impl ScriptedBranch {
    fn born(self) -> Box<dyn Branch> {
        let mut counts = self.counts.lock();
        counts.alive += 1;
        counts.most = counts.most.max(counts.alive);
        drop(counts);
        Box::new(self)
    }

    fn answer(&self, finish_reason: FinishReason) -> Completion {
        Completion {
            reply: Reply::new(Some(self.text.clone()), Vec::new()),
            finish_reason,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage { completion_tokens: self.steps as u64, ..Usage::default() },
        }
    }
}

impl Drop for ScriptedBranch {
    fn drop(&mut self) {
        self.counts.lock().alive -= 1;
    }
}

impl Branch for ScriptedBranch {
    fn advance(&mut self) -> BoxFuture<'_, Result<Step, Failure>> {
        async move {
            self.counts.lock().steps += 1;
            let call = self.run.ledger.begin(self.phase);
            for _ in 0..(self.pace)(&self.name) {
                tokio::task::yield_now().await;
            }
            let turn = (self.script)(&self.name, self.steps);
            let (text, probability) = match turn {
                Turn::Says(text, probability) | Turn::Ends(text, probability) => (text, probability),
                Turn::Mumbles(text) => (text, f64::NAN),
                Turn::Fails => return Err(Failure::new(FailureKind::Unavailable, format!("{} fell", self.name))),
                Turn::Hangs => std::future::pending().await,
            };
            call.settle(Usage { completion_tokens: 1, ..Usage::default() });
            (self.steps, self.forks) = (self.steps + 1, 0);
            self.text.push_str(text);
            let token = TokenSignals {
                bytes: text.as_bytes().into(),
                logprob: probability.ln(),
                top: Box::default(),
                self_certainty: None,
            };
            let end = matches!(turn, Turn::Ends(..)).then(|| self.answer(FinishReason::Stop));
            Ok(Step { text: text.to_owned(), tokens: 1, signals: vec![token], end })
        }
        .boxed()
    }

    fn fork(&mut self) -> Box<dyn Branch> {
        self.counts.lock().forked += 1;
        self.forks += 1;
        Self {
            script: Arc::clone(&self.script),
            pace: Arc::clone(&self.pace),
            counts: Arc::clone(&self.counts),
            run: Arc::clone(&self.run),
            name: format!("{}+{}.{}", self.name, self.steps, self.forks),
            forks: 0,
            text: self.text.clone(),
            ..*self
        }
        .born()
    }

    fn into_answer(self: Box<Self>) -> BoxFuture<'static, Result<Completion, Failure>> {
        self.counts.lock().answered += 1;
        std::future::ready(Ok(self.answer(FinishReason::Length))).boxed()
    }
}

impl Generator for Scripted {
    fn extend(&self, _: Vec<Path>, _: Until, _: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        unreachable!("a search goes step by step")
    }

    fn branches(
        &self,
        _: Arc<Prompt>,
        _: Arc<StepRule>,
        numbers: Range<usize>,
        phase: Phase,
        run: Arc<Run>,
    ) -> BoxFuture<'_, Result<Vec<Box<dyn Branch>>, Failure>> {
        self.counts.lock().opened += numbers.len();
        let branch = |number: usize| {
            ScriptedBranch {
                script: Arc::clone(&self.script),
                pace: Arc::clone(&self.pace),
                counts: Arc::clone(&self.counts),
                run: Arc::clone(&run),
                phase,
                name: number.to_string(),
                steps: 0,
                forks: 0,
                text: String::new(),
            }
            .born()
        };
        std::future::ready(Ok(numbers.map(branch).collect())).boxed()
    }

    fn paths(&self, _: &str) -> Option<PathSupport> {
        Some(PathSupport { text_is_content: true, most: 1000 })
    }
}
