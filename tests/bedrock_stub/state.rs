//! What the connections of one stub share: scripts, rules, callers, gates, counters, and what was seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::access::{Callers, Credentials};
use super::counters::{ClosedEarly, Counters};
use super::rules::ModelRules;
use super::script::{Control, Script, Step};
use super::service_model::ServiceModel;
use super::wire::Request;

/// How long a counter is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The keys that a stub knows unless told otherwise; the first is that of AWS's documents.
pub const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET_ACCESS_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Of temporary credentials, which have the same secret.
pub const TEMPORARY_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SESSION_TOKEN: &str = "stub-session-token//8Kd+w==";
pub const BEARER_KEY: &str = "bedrock-api-key-c3R1Yg==";
pub const REGION: &str = "us-east-1";

/// A request for a model that was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// In order of arrival, from 0.
    pub number: u64,
    /// As it was before the path encoded it.
    pub model_id: String,
    pub is_stream: bool,
    /// The ID of the key that signed, which is no secret, or the first characters of one that was borne; of those too who
    /// were refused.
    pub key_id: Option<String>,
    /// What it was refused with, where the stub did so by itself.
    pub refused: Option<String>,
    pub request: Request,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.request.body).expect("a request is JSON")
    }

    fn report(&self) -> Value {
        let headers: HashMap<&str, &str> = self
            .request
            .headers
            .iter()
            .filter(|(name, _)| name != "authorization" && name != "x-amz-security-token")
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        json!({
            "number": self.number,
            "method": self.request.method,
            "path": self.request.target,
            "model_id": self.model_id,
            "is_stream": self.is_stream,
            "key_id": self.key_id,
            "refused": self.refused,
            "headers": headers,
            "body": serde_json::from_slice(&self.request.body).unwrap_or(Value::Null),
        })
    }
}

/// A function that answers requests which no step is left for.
pub type AnswerFn = Box<dyn Fn(&Seen) -> Step + Send + Sync>;

pub struct Shared {
    pub counters: watch::Sender<Counters>,
    state: Mutex<State>,
    pub model: Arc<ServiceModel>,
    pub began: Instant,
}

pub struct State {
    pub scripts: HashMap<Option<String>, Script>,
    pub answer: Option<AnswerFn>,
    pub rules: HashMap<String, ModelRules>,
    pub callers: Callers,
    pub clock_ahead_s: i64,
    gates: HashMap<String, watch::Sender<bool>>,
    pub seen: Vec<Seen>,
    pub closed_early: Vec<ClosedEarly>,
    /// Counts the resets: what began before the last one is not counted after it.
    pub generation: u64,
}

impl Shared {
    pub fn new(model: Arc<ServiceModel>) -> Self {
        Self { counters: watch::Sender::default(), state: Mutex::new(State::new(0)), model, began: Instant::now() }
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
            *state = State::new(state.generation + 1);
            self.counters.send_replace(Counters::default());
        }
        if let Some(steps) = control.steps {
            state.scripts.insert(control.model, Script::new(steps, control.cycle));
        }
        state.rules.extend(control.rules.into_iter().flatten());
        if let Some(credentials) = control.credentials {
            state.callers.credentials = credentials;
        }
        if let Some(keys) = control.bearer_keys {
            state.callers.bearer_keys = keys;
        }
        if let Some(region) = control.region {
            state.callers.region = region;
        }
        state.clock_ahead_s = control.clock_ahead_s.unwrap_or(state.clock_ahead_s);
        for name in control.open {
            state.gate(&name).send_replace(true);
        }
    }

    /// What `GET /control` answers.
    pub fn report(&self) -> Value {
        let state = self.state();
        json!({
            "counters": *self.counters.borrow(),
            "now_us": u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "closed_early": state.closed_early,
        })
    }

    /// What `GET /_stub/requests` answers: what was seen, without what callers prove themselves with.
    pub fn requests(&self) -> Value {
        self.state().seen.iter().map(Seen::report).collect()
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
    fn new(generation: u64) -> Self {
        let temporary = Credentials::new(TEMPORARY_KEY_ID, SECRET_ACCESS_KEY).with_session_token(SESSION_TOKEN);
        Self {
            scripts: HashMap::new(),
            answer: None,
            rules: HashMap::new(),
            callers: Callers {
                credentials: vec![Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY), temporary],
                bearer_keys: vec![BEARER_KEY.to_owned()],
                region: REGION.to_owned(),
            },
            clock_ahead_s: 0,
            gates: HashMap::new(),
            seen: Vec::new(),
            closed_early: Vec::new(),
            generation,
        }
    }

    pub fn gate(&mut self, name: &str) -> &watch::Sender<bool> {
        self.gates.entry(name.to_owned()).or_default()
    }

    pub fn rules_of(&self, model_id: &str) -> ModelRules {
        self.rules.get(model_id).or_else(|| self.rules.get("*")).cloned().unwrap_or_default()
    }

    /// The stub's clock, in seconds since 1970.
    pub fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_ahead_s)
    }

    /// How a request is answered.
    pub fn step(&mut self, seen: &Seen) -> Step {
        let own = self.scripts.get_mut(&Some(seen.model_id.clone()));
        let step = own.and_then(Script::next).or_else(|| self.scripts.get_mut(&None)?.next());
        step.or_else(|| self.answer.as_ref().map(|answer| answer(seen))).unwrap_or_default()
    }
}
