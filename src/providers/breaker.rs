//! When a target that fails is left alone, and when it is asked again: a state machine without a clock.
//!
//! It opens when the share of failures within a window is too large, or when as many failures in a row have come as the
//! window must hold; after a while one call is let through to see. A rate limit that says for how long
//! it holds cools the target for that long and says nothing of its health.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::window::Window;
use crate::config::calls::BreakerSettings;
use crate::failure::FailureKind;

/// A rate limit is believed for this long at most.
const LONGEST_COOLING: Duration = Duration::from_secs(600);
/// After this many failures in a row a target ranks behind its peers, although it is not left alone yet.
const SUSPICIOUS: u32 = 3;

const ANSWERS: usize = 0;
const FAILURES: usize = 1;

/// What an attempt says of its target's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It has answered, if only with a refusal of what was asked.
    Answered,
    Failed,
    /// Nothing.
    Unknown,
}

/// Whether a target may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Fit,
    /// Its last attempts have failed, but too few to leave it alone.
    Suspect,
    /// One call may find out whether it is well again.
    Due,
    /// It wants to be left alone for so long.
    Cooling(Duration),
    /// It fails too often, and is asked again after so long; meanwhile it has answered some calls.
    Failing(Duration),
    /// It answers nothing, and is asked again after so long.
    Dead(Duration),
    /// It answered nothing, and one call is finding out whether it does again; after so long another may.
    Probed(Duration),
}

/// The state by its usual name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// One call is let through to see.
    HalfOpen,
    /// It is left alone.
    Open,
}

impl BreakerState {
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word for it in metrics, as it is written elsewhere too.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// The breaker of one target.
#[derive(Debug)]
pub(super) struct Breaker {
    window: Window,
    state: State,
    failures_in_a_row: u32,
    last_failure: Option<Instant>,
    cools_until: Option<Instant>,
    /// When it was last asked for.
    cools_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Until then; what is later is due for a probe.
    Open(Instant),
    /// A probe is under way since then. One that takes long does not keep the target shut: when it is as old as the
    /// cool-down, another is due.
    Probing(Instant),
}

impl Health {
    pub fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unavailable | FailureKind::Timeout | FailureKind::Malformed => Self::Failed,
            FailureKind::InvalidRequest
            | FailureKind::NotSupported
            | FailureKind::ContextLength
            | FailureKind::ContentPolicy
            | FailureKind::Auth
            | FailureKind::NotFound => Self::Answered,
            FailureKind::RateLimited
            | FailureKind::Overloaded
            | FailureKind::LeftAlone
            | FailureKind::Deadline
            | FailureKind::Limit
            | FailureKind::JudgeFailed
            | FailureKind::Cancelled
            | FailureKind::Internal => Self::Unknown,
        }
    }
}

impl Breaker {
    pub fn new(now: Instant) -> Self {
        Self {
            window: Window::new(now),
            state: State::Closed,
            failures_in_a_row: 0,
            last_failure: None,
            cools_until: None,
            cools_since: None,
        }
    }

    pub fn standing(&mut self, now: Instant, settings: &BreakerSettings) -> Standing {
        let Some(due) = self.due(settings) else { return self.standing_while_closed(now, settings) };
        if due <= now {
            return Standing::Due;
        }
        let [answers, _] = self.window.counts(now, settings.window);
        let is_dead = answers == 0 || self.failures_in_a_row >= settings.min_calls;
        match self.state {
            _ if !is_dead => Standing::Failing(due - now),
            State::Probing(_) => Standing::Probed(due - now),
            _ => Standing::Dead(due - now),
        }
    }

    /// When the next probe may be sent; `None` while it is closed.
    fn due(&self, settings: &BreakerSettings) -> Option<Instant> {
        match self.state {
            State::Closed => None,
            State::Open(until) => Some(until),
            State::Probing(since) => Some(since + settings.cool_down),
        }
    }

    fn standing_while_closed(&self, now: Instant, settings: &BreakerSettings) -> Standing {
        if let Some(left) = self.cools_until.and_then(|until| until.checked_duration_since(now))
            && !left.is_zero()
        {
            return Standing::Cooling(left);
        }
        let is_recent = self.last_failure.is_some_and(|at| now.saturating_duration_since(at) < settings.cool_down);
        if self.failures_in_a_row >= SUSPICIOUS && is_recent { Standing::Suspect } else { Standing::Fit }
    }

    /// Notes that an attempt begins, and returns whether it is the probe.
    pub fn begin(&mut self, now: Instant, settings: &BreakerSettings) -> bool {
        let is_probe = self.due(settings).is_some_and(|due| due <= now);
        if is_probe {
            self.state = State::Probing(now);
        }
        is_probe
    }

    /// Notes that a probe is being answered: nobody needs to wait for the answer's end, which may be minutes away.
    /// Returns whether that has closed it.
    pub fn probe_is_answered(&mut self) -> bool {
        let was_closed = self.is_closed();
        if !was_closed {
            self.state = State::Closed;
            self.failures_in_a_row = 0;
            self.window.clear();
        }
        !was_closed
    }

    /// Notes how an attempt has ended; one that was given up says [`Health::Unknown`].
    pub fn end(&mut self, health: Health, is_probe: bool, now: Instant, settings: &BreakerSettings) {
        match health {
            Health::Answered => {
                self.failures_in_a_row = 0;
                self.window.count(ANSWERS, now, settings.window);
            }
            Health::Failed => {
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                self.last_failure = Some(now);
                self.window.count(FAILURES, now, settings.window);
            }
            Health::Unknown => {}
        }
        match (self.state, health) {
            // Also when a younger probe is under way, or has failed meanwhile: it was answered all the same.
            (_, Health::Answered) if is_probe => {
                self.probe_is_answered();
            }
            (State::Probing(_), Health::Failed) if is_probe => self.state = State::Open(now + settings.cool_down),
            // The next one is the probe.
            (State::Probing(_), Health::Unknown) if is_probe => self.state = State::Open(now),
            (State::Closed, Health::Failed) if self.is_too_much(now, settings) => {
                self.state = State::Open(now + settings.cool_down);
            }
            _ => {}
        }
    }

    /// Leaves the target alone for as long as it has asked for.
    pub fn cool(&mut self, pause: Duration, now: Instant) {
        let until = now + pause.min(LONGEST_COOLING);
        self.cools_until = self.cools_until.max(Some(until));
        self.cools_since = Some(now);
    }

    /// Notes that an attempt which began then has brought its answer: if it began since the target asked to be left
    /// alone, the reason for that has passed.
    pub fn succeeded(&mut self, begun: Instant) {
        if self.cools_since.is_some_and(|since| since < begun) {
            self.cools_until = None;
        }
    }

    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Open(until) if until > now => BreakerState::Open,
            State::Open(_) | State::Probing(_) => BreakerState::HalfOpen,
            State::Closed if self.cools_until.is_some_and(|until| until > now) => BreakerState::Open,
            State::Closed => BreakerState::Closed,
        }
    }

    /// Whether calls pass, but for those that a rate limit holds back.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_idle(&mut self, now: Instant, settings: &BreakerSettings) -> bool {
        self.standing(now, settings) == Standing::Fit && self.window.counts(now, settings.window)[FAILURES] == 0
    }

    fn is_too_much(&mut self, now: Instant, settings: &BreakerSettings) -> bool {
        if self.failures_in_a_row >= settings.min_calls {
            return true;
        }
        let [answers, failures] = self.window.counts(now, settings.window);
        let calls = f64::from(answers) + f64::from(failures);
        calls >= f64::from(settings.min_calls) && f64::from(failures) >= settings.failure_share * calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        failure_share: 0.5,
        min_calls: 4,
        window: Duration::from_secs(10),
        cool_down: Duration::from_secs(5),
    };

    /// A breaker to which attempts happen, and what time it is.
    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self { breaker: Breaker::new(now), now }
        }

        fn later(&mut self, seconds: f64) -> &mut Self {
            self.now += Duration::from_secs_f64(seconds);
            self
        }

        fn attempt(&mut self, health: Health) -> bool {
            let is_probe = self.begin();
            self.breaker.end(health, is_probe, self.now, &SETTINGS);
            is_probe
        }

        fn begin(&mut self) -> bool {
            self.breaker.begin(self.now, &SETTINGS)
        }

        fn fail(&mut self, count: usize) -> &mut Self {
            for _ in 0..count {
                self.attempt(Health::Failed);
            }
            self
        }

        fn answer(&mut self, count: usize) -> &mut Self {
            for _ in 0..count {
                self.attempt(Health::Answered);
            }
            self
        }

        fn standing(&mut self) -> Standing {
            self.breaker.standing(self.now, &SETTINGS)
        }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn it_opens_at_the_share_but_not_before_there_are_enough_calls() {
        let mut bench = Bench::new();
        assert_eq!(bench.standing(), Standing::Fit);
        bench.answer(1).fail(2);
        assert_eq!(bench.standing(), Standing::Fit, "three calls are too few");
        bench.fail(1);
        assert_eq!(bench.standing(), Standing::Failing(seconds(5.0)));
        assert_eq!(bench.breaker.state(bench.now), BreakerState::Open);

        let mut bench = Bench::new();
        bench.answer(6).fail(3);
        assert_eq!(bench.standing(), Standing::Suspect, "a third is not half");
        bench.later(5.0);
        assert_eq!(bench.standing(), Standing::Fit, "they were long ago");
    }

    #[test]
    fn failures_that_are_older_than_the_window_do_not_count() {
        let mut bench = Bench::new();
        bench.fail(3).answer(1).later(10.0).fail(1);
        assert_eq!(bench.standing(), Standing::Fit);
    }

    #[test]
    fn as_many_failures_in_a_row_as_the_window_must_hold_open_it_whatever_was_before() {
        let mut bench = Bench::new();
        bench.answer(100).fail(3);
        assert_eq!(bench.standing(), Standing::Suspect);
        bench.fail(1);
        assert_eq!(bench.standing(), Standing::Dead(seconds(5.0)));
    }

    #[test]
    fn one_probe_is_let_through_after_the_cool_down_and_closes_it_when_it_is_answered() {
        let mut bench = Bench::new();
        bench.fail(4);
        assert_eq!(bench.standing(), Standing::Dead(seconds(5.0)));
        bench.later(4.0);
        assert_eq!(bench.standing(), Standing::Dead(seconds(1.0)));
        bench.later(1.0);
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Due, BreakerState::HalfOpen));
        assert!(bench.begin());
        assert_eq!(bench.standing(), Standing::Probed(seconds(5.0)), "the probe is under way");
        assert!(!bench.begin(), "there is only one");
        bench.breaker.end(Health::Answered, true, bench.now, &SETTINGS);
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Fit, BreakerState::Closed));
        bench.fail(3);
        assert_eq!(bench.standing(), Standing::Suspect, "what was before is forgotten");
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_one_that_was_given_up_leaves_it_to_the_next() {
        let mut bench = Bench::new();
        bench.fail(4).later(5.0);
        assert!(bench.attempt(Health::Failed));
        assert_eq!(bench.standing(), Standing::Dead(seconds(5.0)));
        bench.later(5.0);
        assert!(bench.attempt(Health::Unknown));
        assert_eq!(bench.standing(), Standing::Due);
        assert!(bench.attempt(Health::Answered));
        assert_eq!(bench.standing(), Standing::Fit);
    }

    #[test]
    fn a_probe_that_takes_long_keeps_nobody_out() {
        let mut bench = Bench::new();
        bench.fail(4).later(5.0);
        assert!(bench.begin());
        bench.later(4.0);
        assert_eq!(bench.standing(), Standing::Probed(seconds(1.0)));
        bench.later(1.0);
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Due, BreakerState::HalfOpen));
        assert!(bench.begin(), "it may hang, and another may not");
        assert_eq!(bench.standing(), Standing::Probed(seconds(5.0)));
        bench.breaker.end(Health::Failed, true, bench.now, &SETTINGS);
        assert_eq!(bench.standing(), Standing::Dead(seconds(5.0)));
        bench.breaker.end(Health::Answered, true, bench.now, &SETTINGS);
        assert_eq!(bench.standing(), Standing::Fit, "the other was answered after all");
    }

    #[test]
    fn a_probe_that_is_being_answered_closes_it_before_its_end_which_counts_as_any_other() {
        let mut bench = Bench::new();
        bench.fail(4).later(5.0);
        assert!(bench.begin());
        bench.breaker.probe_is_answered();
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Fit, BreakerState::Closed));
        bench.fail(3);
        bench.breaker.end(Health::Failed, true, bench.now, &SETTINGS);
        assert_eq!(bench.standing(), Standing::Dead(seconds(5.0)), "four in a row");
    }

    #[test]
    fn an_attempt_from_before_it_opened_changes_nothing_when_it_ends() {
        let mut bench = Bench::new();
        bench.fail(4);
        bench.breaker.end(Health::Answered, false, bench.now, &SETTINGS);
        assert_eq!(bench.standing(), Standing::Failing(seconds(5.0)), "but it shows that there is life");
        bench.later(5.0);
        assert!(bench.begin());
        bench.breaker.end(Health::Failed, false, bench.now, &SETTINGS);
        assert_eq!(bench.breaker.state(bench.now), BreakerState::HalfOpen);
    }

    #[test]
    fn a_rate_limit_cools_for_as_long_as_it_says_and_no_shorter_one_ends_it() {
        let mut bench = Bench::new();
        bench.breaker.cool(seconds(7.0), bench.now);
        bench.breaker.cool(seconds(1.0), bench.now);
        assert_eq!(bench.standing(), Standing::Cooling(seconds(7.0)));
        assert_eq!(bench.breaker.state(bench.now), BreakerState::Open);
        bench.answer(1).later(7.0);
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Fit, BreakerState::Closed));
        bench.breaker.cool(Duration::MAX, bench.now);
        assert_eq!(bench.standing(), Standing::Cooling(LONGEST_COOLING));
    }

    #[test]
    fn an_answer_to_an_attempt_that_began_later_ends_the_cooling() {
        let mut bench = Bench::new();
        let before = bench.now;
        bench.later(1.0);
        bench.breaker.cool(seconds(7.0), bench.now);
        bench.breaker.succeeded(before);
        bench.breaker.succeeded(bench.now);
        assert_eq!(bench.standing(), Standing::Cooling(seconds(7.0)));
        bench.later(1.0);
        bench.breaker.succeeded(bench.now);
        assert_eq!((bench.standing(), bench.breaker.state(bench.now)), (Standing::Fit, BreakerState::Closed));
    }

    #[test]
    fn nothing_that_is_the_requests_fault_counts_against_the_target() {
        use FailureKind::*;
        for kind in [InvalidRequest, NotSupported, ContextLength, ContentPolicy, Auth, NotFound] {
            assert_eq!(Health::of(kind), Health::Answered, "{kind:?}");
        }
        for kind in [Unavailable, Timeout, Malformed] {
            assert_eq!(Health::of(kind), Health::Failed, "{kind:?}");
        }
        for kind in [RateLimited, Overloaded, LeftAlone, Deadline, Limit, JudgeFailed, Cancelled, Internal] {
            assert_eq!(Health::of(kind), Health::Unknown, "{kind:?}");
        }
    }

    #[test]
    fn one_that_has_nothing_against_it_may_be_forgotten() {
        let mut bench = Bench::new();
        bench.answer(3);
        assert!(bench.breaker.is_idle(bench.now, &SETTINGS));
        bench.fail(1);
        assert!(!bench.breaker.is_idle(bench.now, &SETTINGS));
        bench.later(10.0);
        assert!(bench.breaker.is_idle(bench.now, &SETTINGS));
        bench.fail(4).later(5.0);
        assert!(!bench.breaker.is_idle(bench.now, &SETTINGS));
    }
}
