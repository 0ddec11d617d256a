//! A generator whose candidates end as a script says, in the order that it says.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream};
use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::completion::{Completion, Delta, FinishReason, Reply, StepEvent, Usage};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Delivery, Extension, Generator, Path, Phase, Until};

/// How a candidate ends.
#[derive(Debug, Clone)]
pub enum Ending {
    Completes(Completion),
    Fails,
    /// Never.
    Hangs,
}

/// Numbers that the judge keeps for each of its questions, so that it can ask again.
const JUDGE_TRIES: usize = 3;

/// Ten prompt tokens and one token of completion for each candidate that completes.
pub struct Scripted {
    endings: Vec<Ending>,
    /// Candidates of one wave end in the order of these.
    arrival: Vec<u32>,
    /// What the judge says of the candidates, in the order in which it is asked.
    judgements: Vec<String>,
    /// Whether candidates are over and paid for as soon as they are asked for, although each is heard in its turn.
    at_once: bool,
    /// The waves as they were asked for.
    waves: Mutex<Vec<(Range<usize>, Delivery)>>,
}

impl Scripted {
    /// Candidates that end so, the first first.
    pub fn new(endings: Vec<Ending>) -> Arc<Self> {
        Self::arriving(endings, Vec::new())
    }

    /// Candidates that end so, in the order of these numbers.
    pub fn arriving(endings: Vec<Ending>, arrival: Vec<u32>) -> Arc<Self> {
        Arc::new(Self { endings, arrival, judgements: Vec::new(), at_once: false, waves: Mutex::default() })
    }

    /// The same, all of them over and paid for before the first of a wave is heard.
    pub fn at_once(endings: Vec<Ending>) -> Arc<Self> {
        Arc::new(Self { endings, arrival: Vec::new(), judgements: Vec::new(), at_once: true, waves: Mutex::default() })
    }

    /// The same with a judge that gives these scores.
    pub fn judging(endings: Vec<Ending>, judgements: &[&str]) -> Arc<Self> {
        let judgements = judgements.iter().map(|text| (*text).to_owned()).collect();
        Arc::new(Self { endings, arrival: Vec::new(), judgements, at_once: false, waves: Mutex::default() })
    }

    /// How many candidates each wave had.
    pub fn waves(&self) -> Vec<usize> {
        self.waves.lock().iter().map(|(numbers, _)| numbers.len()).collect()
    }

    /// How many candidates of each wave were said to be needed.
    pub fn needed(&self) -> Vec<usize> {
        let needed = |(numbers, delivery): &(Range<usize>, Delivery)| match delivery {
            Delivery::Together(needed) => numbers.len().min(*needed),
            Delivery::Whole | Delivery::Live => 1,
        };
        self.waves.lock().iter().map(needed).collect()
    }

    /// Whether the candidates of each wave were told live.
    pub fn live(&self) -> Vec<bool> {
        self.waves.lock().iter().map(|(_, delivery)| *delivery == Delivery::Live).collect()
    }

    fn ending(&self, path: &Path) -> Ending {
        match path.phase {
            Phase::Generate => self.endings[path.candidate].clone(),
            Phase::Judge | Phase::Synthesize => {
                self.judgements.get(path.candidate / JUDGE_TRIES).map_or(Ending::Fails, |text| answers(text))
            }
        }
    }
}

/// A candidate that answers this.
pub fn answers(text: &str) -> Ending {
    Ending::Completes(Completion {
        reply: Reply::new(Some(text.to_owned()), Vec::new()),
        finish_reason: FinishReason::Stop,
        logprobs: None,
        mean_logprob: None,
        tokens: None,
        usage: Usage { prompt_tokens: 10, completion_tokens: 1, ..Usage::default() },
    })
}

/// A candidate that answers this at the price of so many tokens.
pub fn answers_at(text: &str, tokens: u64) -> Ending {
    let Ending::Completes(completion) = answers(text) else { unreachable!("an answer completes") };
    Ending::Completes(Completion { usage: Usage { completion_tokens: tokens, ..Usage::default() }, ..completion })
}

/// A candidate that answers this with this mean log-probability.
pub fn answers_likely(text: &str, mean_logprob: f64) -> Ending {
    let Ending::Completes(completion) = answers(text) else { unreachable!("an answer completes") };
    Ending::Completes(Completion { mean_logprob: Some(mean_logprob), ..completion })
}

impl Generator for Scripted {
    fn extend(&self, paths: Vec<Path>, _: Until, delivery: Delivery) -> BoxFuture<'_, Box<dyn Extension>> {
        if let Some(Path { phase: Phase::Generate, candidate: first, .. }) = paths.first() {
            self.waves.lock().push((*first..first + paths.len(), delivery));
        }
        let mut calls: BTreeMap<usize, Settle> = BTreeMap::new();
        let mut ends = Vec::new();
        let mut hangs = false;
        for path in &paths {
            let call = path.run.ledger.begin(path.phase);
            calls.insert(path.candidate, Box::new(move |usage| call.settle(usage)));
            match self.ending(path) {
                Ending::Completes(completion) => ends.push((path.candidate, StepEvent::Finished(completion))),
                Ending::Fails => {
                    let failure = Failure::new(FailureKind::Unavailable, "connection reset");
                    ends.push((path.candidate, StepEvent::Failed(failure)));
                }
                Ending::Hangs => hangs = true,
            }
        }
        ends.sort_by_key(|(candidate, _)| self.arrival.get(*candidate).copied().unwrap_or_default());
        let mut events = VecDeque::new();
        if delivery == Delivery::Live {
            let delta = |fields: &str| {
                let fields = RawValue::from_string(fields.to_owned()).unwrap();
                StepEvent::Delta(Delta { fields, logprobs: None })
            };
            for path in &paths {
                events.push_back((path.candidate, delta(r#"{"role":"assistant","content":""}"#)));
                events.push_back((path.candidate, delta(r#"{"content":"4"}"#)));
            }
        }
        events.extend(ends);
        let mut scene = Scene { events, calls, hangs, is_due: false, at_once: self.at_once };
        if self.at_once {
            scene.settle_all();
        }
        let scene: Box<dyn Extension> = Box::new(scene);
        std::future::ready(scene).boxed()
    }
}

type Settle = Box<dyn FnOnce(Usage) + Send>;

/// Candidates of one wave. Nothing is here at once: each event takes a turn of the executor.
struct Scene {
    events: VecDeque<(usize, StepEvent)>,
    calls: BTreeMap<usize, Settle>,
    hangs: bool,
    is_due: bool,
    at_once: bool,
}

impl Scene {
    fn settle_all(&mut self) {
        for (candidate, event) in &self.events {
            if let StepEvent::Finished(completion) = event
                && let Some(settle) = self.calls.remove(candidate)
            {
                settle(completion.usage);
            }
        }
    }
}

impl Stream for Scene {
    type Item = (usize, StepEvent);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.events.is_empty() {
            return if self.hangs { Poll::Pending } else { Poll::Ready(None) };
        }
        self.is_due = !self.is_due;
        if self.is_due {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.events.pop_front();
        if let Some((candidate, StepEvent::Finished(completion))) = &next
            && let Some(settle) = self.calls.remove(candidate)
        {
            settle(completion.usage);
        }
        Poll::Ready(next)
    }
}

impl Extension for Scene {
    fn cancel(self: Box<Self>) -> BoxFuture<'static, Vec<(usize, StepEvent)>> {
        let over = if self.at_once { self.events.into() } else { Vec::new() };
        std::future::ready(over).boxed()
    }
}
