//! The judge with a scripted model.

mod judging;
mod shown;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use parking_lot::Mutex;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{Judge, JudgeTarget, Lessons};
use crate::completion::{Completion, FinishReason, Prompt, Reply, Sampling, StepEvent, Tool, ToolCall, Usage};
use crate::config::capabilities::StructuredOutput;
use crate::config::run::{JudgeMode, JudgeSettings};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Bounds, Delivery, Extension, Generator, Path, Phase, Run, Until};
use crate::scorers::Scores;

/// A case as a judge reads it, which trusts nothing but the frame that the rules name.
struct Shown {
    conversation: Value,
    tools: Option<Value>,
    candidates: Vec<Value>,
    /// The question again, after the data.
    task: String,
}

impl Shown {
    fn read(prompt: &Prompt) -> Self {
        let messages: Vec<Value> = serde_json::from_str(prompt.messages.get()).unwrap();
        assert_eq!(messages.iter().map(|message| &message["role"]).collect::<Vec<_>>(), ["system", "user"]);
        let rules = messages[0]["content"].as_str().unwrap();
        let word = rules.split(" begin`").next().unwrap().rsplit('`').next().unwrap();
        assert_eq!(word.len(), 24, "{word}");
        let mut shown = Self { conversation: Value::Null, tools: None, candidates: Vec::new(), task: String::new() };
        let data = messages[1]["content"].as_str().unwrap();
        let mut lines = data.lines();
        while let Some(line) = lines.next() {
            let Some(frame) = line.strip_prefix(word) else {
                assert_eq!(line, "", "nothing stands outside of a frame");
                continue;
            };
            if frame == " task" {
                shown.task = lines.collect::<Vec<_>>().join("\n");
                break;
            }
            let name = frame.strip_prefix(" begin ").unwrap();
            let part: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
            assert_eq!(lines.next().unwrap(), format!("{word} end {name}"));
            match name {
                "conversation" => shown.conversation = part,
                "tools" => shown.tools = Some(part),
                "candidate" => shown.candidates.push(part),
                numbered => {
                    assert_eq!(numbered, format!("candidate {}", shown.candidates.len()));
                    shown.candidates.push(part);
                }
            }
        }
        assert_eq!(
            data.matches(word).count(),
            2 * (1 + usize::from(shown.tools.is_some()) + shown.candidates.len()) + 1
        );
        shown
    }

    /// The first candidate that says this, as a verdict in either mode.
    fn prefers(&self, text: &str) -> String {
        let likes = |candidate: &Value| candidate["content"].as_str().unwrap_or_default().contains(text);
        let place = self.candidates.iter().position(likes);
        let score = if place.is_some() { 9 } else { 2 };
        json!({"reasoning": "r", "score": score, "selected_indices": [place.unwrap_or(0)]}).to_string()
    }
}

type Answer = Box<dyn Fn(usize, &Prompt) -> Result<Completion, Failure> + Send + Sync>;

/// A model that answers the n-th call, from 0, as told.
struct Scripted {
    answer: Answer,
    seen: Mutex<Vec<Arc<Prompt>>>,
}

struct Once(Option<(usize, StepEvent)>);

impl Stream for Once {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take())
    }
}

impl Extension for Once {
    fn cancel(self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>> {
        std::future::ready(self.0.into_iter().collect()).boxed()
    }
}

impl Generator for Scripted {
    fn extend(&self, paths: Vec<Path>, _: Until, _: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        let [path] = paths.as_slice() else { panic!("a question is one call") };
        assert_eq!(path.phase, Phase::Judge);
        let number = {
            let mut seen = self.seen.lock();
            seen.push(Arc::clone(&path.prompt));
            seen.len() - 1
        };
        let event = match (self.answer)(number, &path.prompt) {
            Ok(completion) => StepEvent::Finished(completion),
            Err(failure) => StepEvent::Failed(failure),
        };
        let extension: Box<dyn Extension> = Box::new(Once(Some((path.candidate, event))));
        std::future::ready(extension).boxed()
    }
}

fn completion(text: &str) -> Completion {
    Completion {
        reply: Reply::new(Some(text.to_owned()), Vec::new()),
        finish_reason: FinishReason::Stop,
        logprobs: None,
        mean_logprob: None,
        tokens: None,
        usage: Usage::default(),
    }
}

fn question() -> Prompt {
    Prompt {
        model: "answers".to_owned(),
        messages: to_raw_value(&json!([{"role": "user", "content": "What is 6 times 7?"}])).unwrap(),
        tools: Vec::new(),
        tool_choice: None,
        response_format: None,
        sampling: Sampling::default(),
        logprobs: None,
        signals: None,
        passthrough: Default::default(),
    }
}

fn settings(mode: JudgeMode) -> JudgeSettings {
    JudgeSettings { mode, ..JudgeSettings::default() }
}

struct Judged {
    scores: Result<Scores, Failure>,
    seen: Vec<Arc<Prompt>>,
}

impl Judged {
    fn values(&self) -> &[Option<f64>] {
        &self.scores.as_ref().unwrap().values
    }

    fn notes(&self) -> &[String] {
        &self.scores.as_ref().unwrap().notes
    }

    /// Indices of those that were picked.
    fn picked(&self) -> Vec<usize> {
        let values = self.values().iter().enumerate();
        values.filter(|(_, value)| **value == Some(1.0)).map(|(index, _)| index).collect()
    }
}

async fn judge_by(
    settings: JudgeSettings,
    structured_output: StructuredOutput,
    prompt: Prompt,
    candidates: &[Completion],
    answer: impl Fn(usize, &Prompt) -> Result<Completion, Failure> + Send + Sync + 'static,
) -> Judged {
    let generator = Arc::new(Scripted { answer: Box::new(answer), seen: Mutex::default() });
    let target = JudgeTarget {
        generator: generator.clone(),
        model: "judge".to_owned(),
        structured_output,
        lessons: Lessons::default(),
    };
    let candidates: Vec<&Completion> = candidates.iter().collect();
    let run = Arc::new(Run::new(Some(7)));
    let scores = Judge { target, settings }.score(&Arc::new(prompt), &candidates, &run).await;
    let seen = generator.seen.lock().clone();
    Judged { scores, seen }
}

async fn judge(
    settings: JudgeSettings,
    texts: &[String],
    answer: impl Fn(usize, &Prompt) -> String + Send + Sync + 'static,
) -> Judged {
    let candidates: Vec<Completion> = texts.iter().map(|text| completion(text)).collect();
    let answer = move |number: usize, prompt: &Prompt| Ok(completion(&answer(number, prompt)));
    judge_by(settings, StructuredOutput::JsonSchema, question(), &candidates, answer).await
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("candidate number {number}.")).collect()
}
