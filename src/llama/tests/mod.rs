//! The engine with a real model, the one that ships.

mod generation;
mod jobs;
mod loading;
mod searching;
mod sharing;
mod streaming;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use tokio::sync::mpsc::Receiver;

use super::request::tests::{prompt, tool};
use super::*;
use crate::completion::{Completion, Usage};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf");

fn spec() -> ModelSpec {
    ModelSpec::new(MODEL)
}

fn small_spec() -> ModelSpec {
    ModelSpec { max_sequences: 8, context_tokens: Some(4096), ..spec() }
}

/// One engine for all tests that do not look at its figures.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::load(&spec()).unwrap());

fn job(prompt: &Prompt, seeds: impl IntoIterator<Item = u64>) -> Job {
    let candidates = (0..).zip(seeds).map(|(candidate, seed)| CandidateSeed { candidate, seed }).collect();
    Job { prompt: Arc::new(prompt.clone()), candidates, live: false }
}

/// A question that the model was made for.
fn sum(terms: &str) -> Prompt {
    let mut prompt = prompt(&format!("What is {terms}?"));
    prompt.sampling.temperature = Some(0.8);
    prompt
}

/// The ends of all candidates, by index.
fn ends(mut receiver: Receiver<(usize, StepEvent)>) -> BTreeMap<usize, Result<Completion, Failure>> {
    let mut ends = BTreeMap::new();
    while let Some((candidate, event)) = receiver.blocking_recv() {
        let end = match event {
            StepEvent::Delta(_) => continue,
            StepEvent::Finished(completion) => Ok(completion),
            StepEvent::Failed(failure) => Err(failure),
        };
        assert!(ends.insert(candidate, end).is_none(), "candidate {candidate} ended twice");
    }
    ends
}

/// The completions of a job of which nothing may fail, in the order of their candidates.
fn completions(engine: &Engine, job: Job) -> Vec<Completion> {
    let count = job.candidates.len();
    let completions: Vec<Completion> =
        ends(engine.generate(job).unwrap()).into_values().map(|end| end.unwrap()).collect();
    assert_eq!(completions.len(), count);
    completions
}

fn text(completion: &Completion) -> &str {
    completion.reply.content().unwrap()
}

fn total(completions: &[Completion]) -> Usage {
    let mut usage = Usage::default();
    for completion in completions {
        usage += completion.usage;
    }
    usage
}

/// Tokens of a prompt as the engine counts them.
fn prompt_tokens(engine: &Engine, prompt: &Prompt) -> u64 {
    let Inner { template, vocabulary, .. } = &*engine.0;
    vocabulary.tokenize(&template.render(prompt.messages.get(), &[], vocabulary).unwrap()).len() as u64
}
