//! Whole searches over scripted paths.

mod beams;
mod bounds;
mod endings;
mod particles;
mod replay;
mod scripted;
mod streams;

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::algorithms::vote::VoteRules;
use crate::algorithms::{Algorithm, Outcome, Plan, Resources, RunError, Wanted, run};
use crate::completion::{Delta, Prompt, Sampling};
use crate::config::capabilities::StructuredOutput;
use crate::config::run::{AlgorithmName, RewardName, RunSettings, SearchSettings};
use crate::generator::Run;
use crate::scorers::{JudgeTarget, Lessons, StepScorer};

use scripted::Scripted;

/// Particles whose weight is the score of their latest step.
fn particles(budget: usize, search: SearchSettings) -> RunSettings {
    let algorithm = AlgorithmName::ParticleFiltering;
    RunSettings { algorithm, budget, rm_name: Some(RewardName::Perplexity), search, ..RunSettings::default() }
}

/// So many beams of two continuations each.
fn beams(width: usize, search: SearchSettings) -> RunSettings {
    let search = SearchSettings { beam_width: width, ..search };
    RunSettings { algorithm: AlgorithmName::BeamSearch, ..particles(2 * width, search) }
}

fn prompt() -> Prompt {
    Prompt {
        model: "m".into(),
        messages: RawValue::from_string(r#"[{"role":"user","content":"6 times 7?"}]"#.to_owned()).unwrap(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: Default::default(),
    }
}

fn plan(settings: &RunSettings, answers: usize, generator: &Arc<Scripted>) -> Plan {
    let rules = Arc::new(VoteRules::compile(settings).unwrap());
    let judge = JudgeTarget {
        generator: Arc::clone(generator) as Arc<_>,
        model: "judge".to_owned(),
        structured_output: StructuredOutput::Unknown,
        lessons: Lessons::default(),
    };
    let wanted = Wanted { answers, live: true };
    Plan::resolve(settings, Resources { rules, judge }, wanted, &mut Sampling::default()).unwrap().0
}

/// The same plan with another scorer of paths.
fn scored_by(mut plan: Plan, scorer: Arc<dyn StepScorer>) -> Plan {
    match &mut plan.algorithm {
        Algorithm::BeamSearch(settings) => settings.search.scorer = scorer,
        Algorithm::ParticleFiltering(settings) => settings.search.scorer = scorer,
        other => panic!("{other:?} is no search"),
    }
    plan
}

/// Runs these settings for one answer, with the seed 1.
async fn ask(settings: &RunSettings, generator: &Arc<Scripted>) -> Result<Outcome, RunError> {
    ask_within(settings, generator, &Arc::new(Run::new(Some(1)))).await
}

async fn ask_within(settings: &RunSettings, generator: &Arc<Scripted>, scope: &Arc<Run>) -> Result<Outcome, RunError> {
    let outcome = run(&plan(settings, 1, generator), Arc::new(prompt()), &**generator, scope, &mut ()).await;
    assert_eq!(generator.alive(), 0, "every branch is dropped in the end");
    outcome
}

/// What was told while a search went on.
#[derive(Default)]
struct Listener {
    pieces: Vec<String>,
    progress: Vec<(usize, usize)>,
}

impl crate::algorithms::Observer for Listener {
    async fn delta(&mut self, delta: Delta) {
        let fields: serde_json::Value = serde_json::from_str(delta.fields.get()).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), 1);
        self.pieces.push(fields["content"].as_str().unwrap().to_owned());
    }

    fn progress(&mut self, completed: usize, planned: usize) {
        self.progress.push((completed, planned));
    }
}

fn content(outcome: &Outcome) -> &str {
    outcome.winner().reply.content().unwrap()
}

/// The steps of the tree, a line each: `id < parent text score state [candidate]`.
fn drawn(outcome: &Outcome) -> Vec<String> {
    let tree = &outcome.searched.as_ref().unwrap().tree;
    let line = |(id, node): (usize, &crate::algorithms::Node)| {
        let parent = node.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string());
        let score = node.score.map_or_else(|| "?".to_owned(), |score| format!("{score:.3}"));
        let candidate = node.candidate.map_or_else(String::new, |candidate| format!(" [{candidate}]"));
        format!("{id} < {parent} {} {score} {}{candidate}", node.text, node.fate.as_str())
    };
    tree.nodes.iter().enumerate().map(line).collect()
}
