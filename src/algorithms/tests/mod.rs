//! Whole runs over a scripted generator.

mod answers;
mod judged;
mod limits;
mod scored;
mod scripted;
mod spending;
mod waves;

use std::sync::Arc;

use serde_json::value::RawValue;

use super::vote::VoteRules;
use super::{Outcome, Plan, Resources, RunError, Wanted, run};
use crate::completion::{Prompt, Sampling};
use crate::config::capabilities::StructuredOutput;
use crate::config::run::RunSettings;
use crate::generator::Run;
use crate::scorers::{JudgeTarget, Lessons};

use scripted::Scripted;

fn prompt() -> Arc<Prompt> {
    let messages = RawValue::from_string(r#"[{"role":"user","content":"6 times 7?"}]"#.to_owned()).unwrap();
    Arc::new(Prompt {
        model: "m".into(),
        messages,
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: Default::default(),
    })
}

fn plan(settings: &RunSettings, answers: usize, judge: &Arc<Scripted>) -> Plan {
    let rules = Arc::new(VoteRules::compile(settings).unwrap());
    let judge = JudgeTarget {
        generator: Arc::clone(judge) as Arc<_>,
        model: "judge".to_owned(),
        structured_output: StructuredOutput::Unknown,
        lessons: Lessons::default(),
    };
    let wanted = Wanted { answers, live: false };
    Plan::resolve(settings, Resources { rules, judge }, wanted, &mut Sampling::default()).unwrap().0
}

/// Runs these settings for one answer.
async fn ask(settings: &RunSettings, generator: &Arc<Scripted>) -> Result<Outcome, RunError> {
    ask_for(1, settings, generator, &Arc::new(Run::new(Some(1)))).await
}

/// Runs these settings for so many answers; the generator judges too.
async fn ask_for(
    answers: usize,
    settings: &RunSettings,
    generator: &Arc<Scripted>,
    scope: &Arc<Run>,
) -> Result<Outcome, RunError> {
    run(&plan(settings, answers, generator), prompt(), &**generator, scope, &mut ()).await
}
