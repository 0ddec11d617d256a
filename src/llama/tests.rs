//! The engine with a real model, the one that ships.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use tokio::sync::mpsc::Receiver;

use super::request::tests::{prompt, tool};
use super::*;
use crate::completion::{Completion, FinishReason, Logprobs, MaxTokens, MaxTokensName, Usage};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf");

fn spec() -> ModelSpec {
    ModelSpec { threads: Some(1), ..ModelSpec::new(MODEL) }
}

/// One engine for all tests that do not look at its figures.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::load(&spec()).unwrap());

fn job(prompt: &Prompt, seeds: &[u64]) -> Job {
    let candidates = (0..).zip(seeds).map(|(candidate, seed)| CandidateSeed { candidate, seed: *seed }).collect();
    Job { prompt: Arc::new(prompt.clone()), candidates, live: false }
}

fn wait(mut receiver: Receiver<(usize, StepEvent)>) -> BTreeMap<usize, Result<Completion, Failure>> {
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

fn texts(ends: BTreeMap<usize, Result<Completion, Failure>>) -> Vec<String> {
    ends.into_values().map(|end| end.unwrap().reply.content().unwrap_or_default().to_owned()).collect()
}

fn sum(terms: &str) -> Prompt {
    let mut prompt = prompt(&format!("What is {terms}?"));
    prompt.sampling.temperature = Some(0.8);
    prompt
}

#[test]
fn an_answer_is_worked_out_to_its_end() {
    let ends = wait(ENGINE.generate(job(&sum("23 + 48 - 17"), &[1])).unwrap());
    let completion = ends[&0].as_ref().unwrap();
    eprintln!("{:?}", completion);
    assert_eq!(completion.finish_reason, FinishReason::Stop);
    assert!(completion.reply.content().unwrap().contains("\\boxed{"));
}
