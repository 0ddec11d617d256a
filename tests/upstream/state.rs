//! What the connections of one upstream share: scripts, gates, counters, and what was seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as Clock};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::chaos::{Chaos, Repetitions};
use super::counters::{ClosedEarly, Counters};
use super::instant::Instant;
use super::pace::Pace;
use super::profile::Profile;
use super::script::{Control, Script, Step};
use super::wire::Request;

/// How long a counter is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A chat request that was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In order of arrival, from 0.
    pub number: u64,
    pub request: Request,
}

impl Seen {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.request.body).expect("a chat request is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.request.body).expect("a chat request is JSON")
    }

    /// What the caller showed of itself: the value of `authorization`, else of `api-key`.
    pub fn key(&self) -> Option<&str> {
        self.request.header("authorization").or_else(|| self.request.header("api-key"))
    }
}

/// A function that answers requests which no step is left for.
pub type AnswerFn = Box<dyn Fn(&Seen) -> Step + Send + Sync>;

pub struct Shared {
    pub counters: watch::Sender<Counters>,
    state: Mutex<State>,
    pub instant: Option<Instant>,
    /// What it stands for until told otherwise, and after a reset.
    profile: Profile,
    pub began: Clock,
}

#[derive(Default)]
pub struct State {
    pub scripts: HashMap<Option<String>, Script>,
    pub answer: Option<AnswerFn>,
    gates: HashMap<String, watch::Sender<bool>>,
    pub seen: Vec<Seen>,
    pub closed_early: Vec<ClosedEarly>,
    /// Overrides the profile.
    pub honours_n: Option<bool>,
    pub profile: Profile,
    pub pace: Option<Pace>,
    pub chaos: Option<Chaos>,
    repetitions: Repetitions,
    /// Counts the resets: what began before the last one is not counted after it.
    pub generation: u64,
}

impl Shared {
    pub fn new(profile: Profile, instant: Option<Instant>) -> Self {
        Self {
            counters: watch::Sender::default(),
            state: Mutex::new(State { profile, ..State::default() }),
            instant,
            profile,
            began: Clock::now(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked in its answer function has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn gate_opened(&self, name: &str) {
        let mut gate = self.state().gate(name).subscribe();
        // A reset forgets the gate, and with it whoever waits.
        let _ = gate.wait_for(|open| *open).await;
    }

    pub fn control(&self, control: Control) {
        let mut state = self.state();
        if control.reset {
            *state = State { generation: state.generation + 1, profile: self.profile, ..State::default() };
            self.counters.send_replace(Counters::default());
        }
        if let Some(steps) = control.steps {
            state.scripts.insert(control.model, Script::new(steps, control.cycle));
        }
        state.honours_n = control.honour_n.or(state.honours_n);
        state.profile = control.profile.unwrap_or(state.profile);
        state.pace = control.pace.or(state.pace);
        state.chaos = control.chaos.or(state.chaos);
        for name in control.open {
            state.gate(&name).send_replace(true);
        }
    }

    /// What `GET /control` answers. What was seen is left out where `query` has `seen=no`.
    pub fn report(&self, query: &str) -> Value {
        let state = self.state();
        let mut report = json!({
            "counters": *self.counters.borrow(),
            "now_us": u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "closed_early": state.closed_early,
        });
        if !query.split('&').any(|pair| pair == "seen=no") {
            report["seen"] = state.seen.iter().map(seen).collect();
        }
        report
    }

    /// Waits for the counters that the query of `GET /control` names; `false` when they do not come.
    pub async fn reached(&self, query: &str) -> bool {
        let wanted: Vec<(String, u64)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        let mut counters = self.counters.subscribe();
        let reached = counters.wait_for(|counters| {
            let counters = json!(counters);
            wanted.iter().all(|(name, wanted)| match counters[name].as_u64() {
                Some(count) if name == "in_flight" => count == *wanted,
                Some(count) => count >= *wanted,
                None => false,
            })
        });
        tokio::time::timeout(PATIENCE, reached).await.is_ok()
    }
}

impl State {
    pub fn gate(&mut self, name: &str) -> &watch::Sender<bool> {
        self.gates.entry(name.to_owned()).or_default()
    }

    /// How a request is answered: as scripted, or as chaos has it.
    pub fn step(&mut self, seen: &Seen, model: &str) -> Step {
        let own = self.scripts.get_mut(&Some(model.to_owned()));
        let step = own.and_then(Script::next).or_else(|| self.scripts.get_mut(&None)?.next());
        let step = step.or_else(|| self.answer.as_ref().map(|answer| answer(seen))).unwrap_or_default();
        match self.chaos {
            Some(chaos) => {
                let earlier = self.repetitions.count(&seen.request.body);
                chaos.befall(&seen.request.body, earlier, step)
            }
            None => step,
        }
    }
}

fn seen(seen: &Seen) -> Value {
    let body = serde_json::from_slice(&seen.request.body).unwrap_or(Value::Null);
    let headers: HashMap<&str, &str> =
        seen.request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    json!({
        "number": seen.number,
        "method": seen.request.method,
        "path": seen.request.target,
        "headers": headers,
        "body": body,
    })
}
