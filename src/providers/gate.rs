//! The gate before one upstream: places among the calls in flight, the budget of retries, and for each model a breaker,
//! to which every attempt tells how it ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::breaker::{Breaker, Health, Standing};
use super::limiter::{Limiter, Limits, Traffic};
use super::retry::AttemptFailure;
use super::retry_budget::RetryBudget;
use super::shared::{ModelState, UpstreamState};
use crate::config::calls::BreakerSettings;
use crate::failure::FailureKind;

/// A gate remembers so many models. Clients may be free to name any.
const MOST_MODELS: usize = 256;

/// What a configuration says of a gate. Of several at one gate, the one that took effect last counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub limits: Limits,
    /// What breakers look back on. Were it each call's own, calls under two configurations would have the counts begin
    /// anew by turns.
    pub window: Duration,
}

/// Where calls to one address with one key come by.
#[derive(Debug)]
pub(super) struct Gate {
    origin: String,
    pub limiter: Arc<Limiter>,
    window: Mutex<Duration>,
    probe_ended: Notify,
    /// Calls of new requests that wait for the end of a probe.
    standing_by: AtomicUsize,
    retries: Mutex<RetryBudget>,
    models: Mutex<HashMap<Arc<str>, Watched>>,
    /// What a configuration calls the provider, once one names it.
    listed_as: OnceLock<String>,
}

/// A model that is called.
#[derive(Debug)]
struct Watched {
    breaker: Breaker,
    /// How the last call failed that says something of the model's health, in words of ours alone: an upstream's may
    /// quote a request, which others must not read.
    trouble: Option<String>,
}

impl Gate {
    pub fn new(origin: &str, terms: Terms) -> Self {
        Self {
            origin: origin.to_owned(),
            limiter: Arc::new(Limiter::new(terms.limits)),
            window: Mutex::new(terms.window),
            probe_ended: Notify::new(),
            standing_by: AtomicUsize::new(0),
            retries: Mutex::new(RetryBudget::new(Instant::now())),
            models: Mutex::default(),
            listed_as: OnceLock::new(),
        }
    }

    /// Has its state told of from now on, under the name that came first.
    pub fn list(&self, provider: &str) {
        self.listed_as.get_or_init(|| provider.to_owned());
    }

    /// Holds to other terms from now on.
    pub fn hold_to(&self, terms: Terms) {
        self.limiter.limit(terms.limits);
        *self.window.lock() = terms.window;
    }

    /// Comes to pass when a probe of any model ends or is being answered, from when this is called.
    pub fn probe_ended(&self) -> Notified<'_> {
        self.probe_ended.notified()
    }

    /// A position among those who wait for the end of a probe, of which there are so many at most.
    pub fn stand_by(&self, most: usize) -> Option<StandBy<'_>> {
        let position = StandBy(&self.standing_by);
        (self.standing_by.fetch_add(1, Ordering::Relaxed) < most).then_some(position)
    }

    fn settings(&self, settings: &BreakerSettings) -> BreakerSettings {
        BreakerSettings { window: *self.window.lock(), ..*settings }
    }

    pub fn count_call(&self) {
        self.retries.lock().count_call(Instant::now());
    }

    /// Takes a retry from the budget, if there is one left.
    pub fn take_retry(&self, share: f64, max_retries: u32) -> bool {
        self.retries.lock().take(Instant::now(), share, max_retries)
    }

    /// Has a model ranked last for the cool-down, if anything is watched.
    pub fn set_aside(&self, model: &str, settings: Option<&BreakerSettings>) {
        if let (Some(settings), Some(watched)) = (settings, self.models.lock().get_mut(model)) {
            watched.breaker.cool(settings.cool_down, Instant::now());
        }
    }

    pub fn standing(&self, model: &str, settings: Option<&BreakerSettings>) -> Standing {
        let Some(settings) = settings.map(|settings| self.settings(settings)) else { return Standing::Fit };
        match self.models.lock().get_mut(model) {
            Some(watched) => watched.breaker.standing(Instant::now(), &settings),
            None => Standing::Fit,
        }
    }

    /// How the last call to a model failed that says something of its health.
    pub fn trouble(&self, model: &str) -> Option<String> {
        self.models.lock().get(model)?.trouble.clone()
    }

    /// Notes that an attempt begins.
    ///
    /// # Errors
    ///
    /// How the model stands, if it must not be asked now. `is_last` says that nobody else could be: then one that
    /// answers at least some calls is asked all the same.
    pub fn begin(
        self: &Arc<Self>,
        model: &Arc<str>,
        settings: Option<BreakerSettings>,
        is_last: bool,
    ) -> Result<Watch, Standing> {
        let begun = Instant::now();
        let watch = |is_probe| {
            let (gate, model) = (Arc::clone(self), Arc::clone(model));
            Watch { gate, model, settings, is_probe, begun, ended: false }
        };
        let Some(settings) = settings.map(|settings| self.settings(&settings)) else { return Ok(watch(false)) };
        let settings = &settings;
        let now = Instant::now();
        let mut models = self.models.lock();
        if models.len() >= MOST_MODELS && !models.contains_key(model) {
            models.retain(|_, watched| !watched.breaker.is_idle(now, settings));
        }
        if models.len() >= MOST_MODELS && !models.contains_key(model) {
            // More models are in trouble than are kept in mind: this one is not watched.
            return Ok(watch(false));
        }
        let new = || Watched { breaker: Breaker::new(now), trouble: None };
        let breaker = &mut models.entry(Arc::clone(model)).or_insert_with(new).breaker;
        match breaker.standing(now, settings) {
            Standing::Fit | Standing::Suspect | Standing::Due => {}
            Standing::Cooling(_) | Standing::Failing(_) if is_last => {}
            standing => return Err(standing),
        }
        let is_probe = breaker.begin(now, settings);
        drop(models);
        Ok(watch(is_probe))
    }

    /// Writes into the log that a breaker has closed. What requests bring themselves is not the operator's to mend.
    fn tell_of_closing(&self, model: &str) {
        let Some(provider) = self.listed_as.get() else { return };
        let address = &*self.origin;
        tracing::info!(provider, address, model, "an upstream answers again: its breaker has closed");
    }

    /// The same of one that has opened, with what went wrong last.
    fn tell_of_opening(&self, model: &str, settings: &BreakerSettings) {
        let Some(provider) = self.listed_as.get() else { return };
        let address = &*self.origin;
        let last_failure = self.trouble(model);
        let left_alone_s = settings.cool_down.as_secs_f64();
        tracing::warn!(
            provider,
            address,
            model,
            last_failure,
            left_alone_s,
            "an upstream fails too often and is left alone: its breaker has opened"
        );
    }

    /// `None` for what only requests have brought.
    pub fn state(&self) -> Option<UpstreamState> {
        let provider = self.listed_as.get()?.clone();
        let Traffic { in_flight, queued_calls, .. } = self.limiter.traffic();
        let now = Instant::now();
        let state = |(model, watched): (&Arc<str>, &Watched)| ModelState {
            model: model.to_string(),
            breaker: watched.breaker.state(now),
        };
        let mut models: Vec<ModelState> = self.models.lock().iter().map(state).collect();
        models.sort();
        Some(UpstreamState { provider, origin: self.origin.clone(), in_flight, queued: queued_calls, models })
    }
}

/// One who waits for the end of a probe.
#[derive(Debug)]
pub(super) struct StandBy<'a>(&'a AtomicUsize);

impl Drop for StandBy<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an attempt tells its breaker by that it is being answered. Only a probe has something to tell.
#[derive(Debug)]
pub(super) struct Pulse(Option<(Arc<Gate>, Arc<str>)>);

impl Pulse {
    /// The head of a success is here, or the first of a stream's content.
    pub fn felt(&self) {
        let Some((gate, model)) = &self.0 else { return };
        let has_closed =
            gate.models.lock().get_mut(model).is_some_and(|Watched { breaker, .. }| breaker.probe_is_answered());
        gate.probe_ended.notify_waiters();
        if has_closed {
            gate.tell_of_closing(model);
        }
    }
}

/// An attempt under way, of which the breaker wants to hear how it ended. One that is dropped was given up.
#[derive(Debug)]
pub(super) struct Watch {
    gate: Arc<Gate>,
    model: Arc<str>,
    settings: Option<BreakerSettings>,
    is_probe: bool,
    begun: Instant,
    ended: bool,
}

impl Watch {
    pub fn pulse(&self) -> Pulse {
        Pulse(self.is_probe.then(|| (Arc::clone(&self.gate), Arc::clone(&self.model))))
    }

    /// The attempt is to find out whether its target is well again.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    pub fn answered(mut self) {
        if let Some(watched) = self.gate.models.lock().get_mut(&self.model) {
            watched.breaker.succeeded(self.begun);
        }
        self.end(Health::Answered, None, None);
    }

    pub fn failed(mut self, attempt: &AttemptFailure) {
        let AttemptFailure { failure, may_retry, is_verdict, .. } = attempt;
        // An unpaid bill is no rate limit that passes.
        let pause = failure.retry_after.filter(|_| *may_retry && failure.kind == FailureKind::RateLimited);
        let is_alive = *is_verdict || failure.kind == FailureKind::RateLimited && self.is_probe;
        let health = if is_alive { Health::Answered } else { Health::of(failure.kind) };
        let trouble = (health == Health::Failed).then(|| trouble(&self.gate.origin, attempt));
        self.end(health, pause, trouble);
    }

    fn end(&mut self, health: Health, pause: Option<Duration>, trouble: Option<String>) {
        self.ended = true;
        let Some(settings) = self.settings.map(|settings| self.gate.settings(&settings)) else { return };
        let now = Instant::now();
        let mut turned = None;
        if let Some(watched) = self.gate.models.lock().get_mut(&self.model) {
            let breaker = &mut watched.breaker;
            let was_closed = breaker.is_closed();
            breaker.end(health, self.is_probe, now, &settings);
            if let Some(pause) = pause {
                breaker.cool(pause, now);
            }
            turned = Some(breaker.is_closed()).filter(|is_closed| *is_closed != was_closed);
            watched.trouble = trouble.or(watched.trouble.take());
        }
        if self.is_probe {
            self.gate.probe_ended.notify_waiters();
        }
        match turned {
            Some(true) => self.gate.tell_of_closing(&self.model),
            Some(false) => self.gate.tell_of_opening(&self.model, &settings),
            None => {}
        }
    }
}

/// What went wrong, without a word of the upstream's.
fn trouble(origin: &str, attempt: &AttemptFailure) -> String {
    let AttemptFailure { failure, is_unreachable, .. } = attempt;
    match (failure.status, failure.kind) {
        (Some(status), _) => format!("{origin} answered {status}"),
        // Nobody was there to say it: up to the advice, the words are ours.
        _ if *is_unreachable => failure.message.split("; ").next().unwrap_or_default().to_owned(),
        (None, FailureKind::Timeout) => format!("{origin} did not answer in time"),
        (None, FailureKind::Malformed) => format!("{origin} answered with what is no completion"),
        (None, _) => format!("{origin} broke off"),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Health::Unknown, None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { limits: Limits { n_parallel: 4, max_queued: 4 }, window: Duration::from_secs(10) };

    #[test]
    fn breakers_are_kept_for_so_many_models_and_those_in_trouble_longest() {
        let gate = Arc::new(Gate::new("http://a", TERMS));
        let settings = BreakerSettings { min_calls: 1, ..BreakerSettings::default() };
        let begin = |model: &str| gate.begin(&model.into(), Some(settings), false);
        let down = AttemptFailure::from(crate::failure::Failure::new(FailureKind::Unavailable, "down"));
        begin("broken").unwrap().failed(&down);
        for number in 0..1000 {
            begin(&number.to_string()).unwrap().answered();
        }
        assert!(gate.models.lock().len() <= MOST_MODELS);
        assert!(matches!(begin("broken").unwrap_err(), Standing::Dead(_)));
        assert!(gate.begin(&"broken".into(), None, false).is_ok(), "there is no breaker");
    }

    #[test]
    fn what_is_told_of_a_failure_says_where_and_how_and_never_what_the_upstream_said() {
        use crate::failure::Failure;
        let told = |failure: Failure| trouble("http://a", &AttemptFailure::from(failure));
        let said = |kind| Failure::new(kind, "they said: a secret");
        assert_eq!(told(Failure { status: Some(503), ..said(FailureKind::Unavailable) }), "http://a answered 503");
        assert_eq!(told(said(FailureKind::Timeout)), "http://a did not answer in time");
        assert_eq!(told(said(FailureKind::Malformed)), "http://a answered with what is no completion");
        assert_eq!(told(said(FailureKind::Unavailable)), "http://a broke off");
        let refused = "could not connect to http://a: connection refused; is it running?";
        let refused = AttemptFailure::from(Failure::new(FailureKind::Unavailable, refused)).unreachable();
        assert_eq!(trouble("http://a", &refused), "could not connect to http://a: connection refused");
    }

    #[test]
    fn the_last_target_is_asked_as_long_as_it_answers_anything() {
        let gate = Arc::new(Gate::new("http://a", TERMS));
        let settings = BreakerSettings { min_calls: 2, ..BreakerSettings::default() };
        let begin = |is_last| gate.begin(&"m".into(), Some(settings), is_last);
        let down = AttemptFailure::from(crate::failure::Failure::new(FailureKind::Unavailable, "down"));
        begin(false).unwrap().answered();
        begin(false).unwrap().failed(&down);
        assert!(matches!(begin(false).unwrap_err(), Standing::Failing(_)));
        begin(true).unwrap().failed(&down);
        assert!(matches!(begin(true).unwrap_err(), Standing::Dead(_)));
    }

    #[test]
    fn two_configurations_that_look_back_differently_do_not_clear_each_others_counts() {
        let gate = Arc::new(Gate::new("http://a", TERMS));
        let begin = |window_s| {
            let window = Duration::from_secs(window_s);
            let settings = BreakerSettings { min_calls: 4, window, ..BreakerSettings::default() };
            gate.begin(&"m".into(), Some(settings), false)
        };
        let down = AttemptFailure::from(crate::failure::Failure::new(FailureKind::Unavailable, "down"));
        for (window_s, is_up) in [(10, true), (60, false), (10, true), (60, false)] {
            let watch = begin(window_s).unwrap();
            if is_up { watch.answered() } else { watch.failed(&down) }
        }
        assert!(matches!(begin(10).unwrap_err(), Standing::Failing(_)));
        gate.hold_to(Terms { window: Duration::from_nanos(1), ..TERMS });
        assert!(matches!(begin(10).unwrap_err(), Standing::Dead(_)), "the new window is the shorter");
    }

    #[test]
    fn a_verdict_is_an_answer_whatever_its_kind() {
        let gate = Arc::new(Gate::new("http://a", TERMS));
        let settings = BreakerSettings { min_calls: 1, ..BreakerSettings::default() };
        let begin = || gate.begin(&"m".into(), Some(settings), false);
        let mistake = || AttemptFailure::from(crate::failure::Failure::new(FailureKind::Malformed, "no such tool"));
        for _ in 0..3 {
            begin().unwrap().failed(&AttemptFailure { is_verdict: true, ..mistake() });
        }
        begin().unwrap().failed(&mistake());
        assert!(begin().is_err(), "an answer that cannot be read is a failure");
    }

    #[test]
    fn so_many_stand_by_and_who_leaves_makes_room() {
        let gate = Gate::new("http://a", TERMS);
        let held = gate.stand_by(1).unwrap();
        assert!(gate.stand_by(1).is_none());
        drop(held);
        assert!(gate.stand_by(1).is_some());
    }
}
