//! What a run has spent: calls and tokens, by phase, kept also for calls that were cancelled or failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::busy::{Busy, Interval};
use crate::completion::Usage;
use crate::config::prices::Price;
use crate::failure::FailureKind;
use crate::metrics::{Metrics, PhaseMetrics, Tokens};

/// What a call was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Candidates and steps.
    Generate,
    /// The one call that makes an answer of several candidates.
    Synthesize,
    /// Calls to the judge.
    Judge,
}

/// The account of one run. Cheap to share; every entry is counted once.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    meter: Option<Meter>,
}

#[derive(Debug, Default)]
struct State {
    phases: BTreeMap<Phase, Account>,
    busy: Busy,
}

/// Where the daemon's own counters hear of what is entered, and what it costs where that is known.
#[derive(Debug)]
struct Meter {
    metrics: Arc<Metrics>,
    prices: BTreeMap<Phase, Price>,
}

/// What a run has spent, as it stood at one moment.
#[derive(Debug, Clone, Default)]
pub struct Spent {
    /// The sums; attempts under way count as of unknown usage.
    pub by_phase: BTreeMap<Phase, Account>,
    /// The time in which at least one attempt was under way that somebody waited for; `None` where none was made.
    pub busy: Option<Duration>,
}

impl Spent {
    /// The sum of a phase.
    pub fn of_phase(&self, phase: Phase) -> Account {
        self.by_phase.get(&phase).copied().unwrap_or_default()
    }

    /// Tokens over all phases.
    pub fn total(&self) -> Usage {
        let mut total = Usage::default();
        for account in self.by_phase.values() {
            total += account.usage;
        }
        total
    }
}

/// One phase's sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Calls begun, whether or not they came to anything. However often a call is made again, it is one, and so it is
    /// however many candidates it asks for.
    pub calls: u64,
    /// Candidates begun with them. One that a call left out, or was refused with, begins with the call that asks for it
    /// again.
    #[serde(skip)]
    pub candidates: u64,
    /// Attempts that were made for them.
    #[serde(skip)]
    pub attempts: u64,
    /// What all attempts cost. An attempt that an upstream refused, or that never reached one, is free; one that
    /// was cancelled, broke off or came back unreadable counts as an unknown call, so that with retries there
    /// can be more of these than candidates.
    #[serde(flatten)]
    pub usage: Usage,
    /// Calls that were answered with a count of what they cost.
    #[serde(skip)]
    pub counted: u64,
    /// Candidates that began with those calls.
    #[serde(skip)]
    pub counted_candidates: u64,
    /// Calls that were answered without one, which no limit can hold.
    #[serde(skip)]
    pub uncounted: u64,
    /// Candidates that began with those.
    #[serde(skip)]
    pub uncounted_candidates: u64,
    /// Attempts under way, whose cost nobody knows yet.
    #[serde(skip)]
    open: u64,
}

impl Account {
    /// The sum as it stands: what is under way counts as unknown.
    fn so_far(mut self) -> Self {
        self.usage.unknown_calls = self.usage.unknown_calls.saturating_add(self.open);
        self
    }
}

impl Ledger {
    /// A ledger whose entries are counted by the daemon too, at these prices.
    pub fn metered(metrics: Arc<Metrics>, prices: BTreeMap<Phase, Price>) -> Self {
        Self { state: Mutex::default(), meter: Some(Meter { metrics, prices }) }
    }

    /// Notes that a call begins with its first attempt. Its usage is entered with `OpenCall::settle`; a call
    /// that is dropped during an attempt (cancelled, failed without a count) is entered as one of unknown usage.
    pub fn begin(self: &Arc<Self>, phase: Phase) -> OpenCall {
        self.begin_for(phase, 1)
    }

    /// The same for a call with which so many candidates begin.
    pub fn begin_for(self: &Arc<Self>, phase: Phase, candidates: u64) -> OpenCall {
        let open = self.open(phase, |account| {
            account.calls += 1;
            account.candidates += candidates;
        });
        OpenCall { ledger: Arc::clone(self), phase, candidates, open: Some(open) }
    }

    /// Notes that candidates which began with a call that was refused are to begin anew, with other calls.
    pub fn hand_over(&self, phase: Phase, candidates: u64) {
        if let Some(account) = self.state.lock().phases.get_mut(&phase) {
            account.candidates = account.candidates.saturating_sub(candidates);
        }
    }

    /// What is spent so far, and how long it took.
    pub fn spent(&self) -> Spent {
        let state = self.state.lock();
        Spent { by_phase: state.by_phase(), busy: state.busy() }
    }

    /// Calls begun in a phase so far.
    pub fn calls(&self, phase: Phase) -> u64 {
        self.state.lock().phases.get(&phase).map_or(0, |account| account.calls)
    }

    /// The sum of a phase so far; attempts under way count as of unknown usage.
    pub fn of_phase(&self, phase: Phase) -> Account {
        self.state.lock().phases.get(&phase).copied().unwrap_or_default().so_far()
    }

    /// The sums so far; attempts under way count as of unknown usage.
    pub fn by_phase(&self) -> BTreeMap<Phase, Account> {
        self.state.lock().by_phase()
    }

    /// Attempts over all phases, and those of them that were made again.
    pub fn attempts_and_retries(&self) -> (u64, u64) {
        let state = self.state.lock();
        let attempts = state.phases.values().map(|account| account.attempts).sum();
        let calls: u64 = state.phases.values().map(|account| account.calls).sum();
        (attempts, attempts.saturating_sub(calls))
    }

    /// Tokens over all phases.
    pub fn total(&self) -> Usage {
        self.spent().total()
    }

    /// The time in which at least one attempt was under way that somebody waited for; `None` where none was made.
    pub fn busy(&self) -> Option<Duration> {
        self.state.lock().busy()
    }

    /// Nobody waits any more for the attempts that are under way.
    pub fn give_up(&self) {
        self.state.lock().busy.give_up(Instant::now());
    }

    /// The daemon's counters hear that a judgement came to nothing.
    pub fn judge_failed(&self, kind: FailureKind) {
        if let Some(meter) = &self.meter {
            meter.metrics.runs.judge_failed(kind);
        }
    }

    /// Begins an attempt.
    fn open(&self, phase: Phase, enter: impl FnOnce(&mut Account)) -> Interval {
        let mut state = self.state.lock();
        let account = state.phases.entry(phase).or_default();
        account.open += 1;
        account.attempts += 1;
        enter(account);
        state.busy.begin(Instant::now())
    }

    /// Ends an attempt with what it comes to.
    fn close(&self, phase: Phase, interval: Interval, enter: impl FnOnce(&mut Account)) {
        let mut state = self.state.lock();
        state.busy.end(interval, Instant::now());
        let account = state.phases.entry(phase).or_default();
        account.open -= 1;
        let before = account.usage;
        enter(account);
        let after = account.usage;
        drop(state);
        if let Some(meter) = &self.meter {
            meter.count(phase, &before, &after);
        }
    }
}

impl State {
    fn by_phase(&self) -> BTreeMap<Phase, Account> {
        self.phases.iter().map(|(phase, account)| (*phase, account.so_far())).collect()
    }

    fn busy(&self) -> Option<Duration> {
        (!self.phases.is_empty()).then(|| self.busy.until(Instant::now()))
    }
}

impl Meter {
    /// Counts what an entry has added to the sum of a phase.
    fn count(&self, phase: Phase, before: &Usage, after: &Usage) {
        let added = |of: fn(&Usage) -> u64| of(after).saturating_sub(of(before));
        let usage = Usage {
            prompt_tokens: added(|usage| usage.prompt_tokens),
            completion_tokens: added(|usage| usage.completion_tokens),
            cached_tokens: added(|usage| usage.cached_tokens),
            cache_write_tokens: added(|usage| usage.cache_write_tokens),
            reasoning_tokens: added(|usage| usage.reasoning_tokens),
            unknown_calls: added(|usage| usage.unknown_calls),
        };
        self.phase(phase).spent(&Tokens {
            prompt: usage.prompt_tokens,
            completion: usage.completion_tokens,
            cached: usage.cached_tokens,
            reasoning: usage.reasoning_tokens,
            unknown_calls: usage.unknown_calls,
            cost_usd: self.prices.get(&phase).map_or(0.0, |price| price.cost_usd(&usage)),
        });
    }

    fn phase(&self, phase: Phase) -> &PhaseMetrics {
        let runs = &self.metrics.runs;
        match phase {
            Phase::Generate => &runs.generate,
            Phase::Synthesize => &runs.synthesize,
            Phase::Judge => &runs.judge,
        }
    }
}

/// A call whose usage is not entered yet.
#[derive(Debug)]
pub struct OpenCall {
    ledger: Arc<Ledger>,
    phase: Phase,
    /// How many begin with it.
    candidates: u64,
    /// The attempt that is being made, whose cost is not entered yet.
    open: Option<Interval>,
}

impl OpenCall {
    /// Enters what the call spent.
    pub fn settle(self, usage: Usage) {
        self.settle_without(0, usage);
    }

    /// The same where so many of its candidates did not come: they begin with other calls.
    pub fn settle_without(mut self, missing: u64, usage: Usage) {
        let missing = missing.min(self.candidates);
        let candidates = self.candidates - missing;
        self.close(|account| {
            account.candidates -= missing;
            account.usage += usage;
            match usage.unknown_calls {
                0 => {
                    account.counted += 1;
                    account.counted_candidates += candidates;
                }
                _ => {
                    account.uncounted += 1;
                    account.uncounted_candidates += candidates;
                }
            }
        });
    }

    /// The attempt was refused, and cost nothing.
    pub fn refused(&mut self) {
        self.close(|_| {});
    }

    /// The attempt came to nothing that could be counted: it is entered as one of unknown usage.
    pub fn lost(&mut self) {
        self.close(|account| account.usage += Usage { unknown_calls: 1, ..Usage::default() });
    }

    /// The attempt came to nothing, and cost this.
    pub fn wasted(&mut self, usage: Usage) {
        self.close(|account| account.usage += usage);
    }

    /// Another attempt is made.
    pub fn again(&mut self) {
        self.lost();
        self.open = Some(self.ledger.open(self.phase, |_| {}));
    }

    /// Takes the call back: it turned out that its turn never came.
    pub fn withdraw(mut self) {
        let candidates = self.candidates;
        self.close(|account| {
            account.calls -= 1;
            account.attempts -= 1;
            account.candidates -= candidates;
        });
    }

    /// Ends the attempt under way, if there is one, with what it comes to.
    fn close(&mut self, enter: impl FnOnce(&mut Account)) {
        if let Some(interval) = self.open.take() {
            self.ledger.close(self.phase, interval, enter);
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_calls_are_summed_dropped_ones_unknown_and_withdrawn_ones_not_counted() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin(Phase::Generate).settle(Usage { prompt_tokens: 3, completion_tokens: 4, ..Usage::default() });
        ledger.begin(Phase::Generate).settle(Usage { prompt_tokens: 3, completion_tokens: 1, ..Usage::default() });
        drop(ledger.begin(Phase::Generate));
        ledger.begin(Phase::Generate).withdraw();

        let account = ledger.by_phase()[&Phase::Generate];
        assert_eq!(account.calls, 3);
        assert_eq!(account.usage.unknown_calls, 1);
        assert_eq!(ledger.total().total_tokens(), 11);
    }

    #[test]
    fn a_candidate_is_one_call_with_every_lost_attempt_of_unknown_usage_and_refused_ones_free() {
        let ledger = Arc::new(Ledger::default());
        let mut call = ledger.begin(Phase::Generate);
        call.lost();
        call.again();
        call.refused();
        call.again();
        // Nobody said how that one ended.
        call.again();
        call.settle(Usage { completion_tokens: 4, ..Usage::default() });
        let mut refused = ledger.begin(Phase::Generate);
        refused.refused();
        drop(refused);

        let account = ledger.by_phase()[&Phase::Generate];
        assert_eq!((account.calls, account.usage.unknown_calls, account.usage.completion_tokens), (2, 2, 4));
    }

    #[test]
    fn a_call_for_several_candidates_is_one_call_and_what_it_lacks_begins_with_those_that_replace_it() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin_for(Phase::Generate, 4).settle_without(1, Usage { completion_tokens: 3, ..Usage::default() });
        let account = ledger.of_phase(Phase::Generate);
        assert_eq!((account.candidates, account.counted_candidates), (3, 3));
        ledger.begin(Phase::Generate).settle(Usage { completion_tokens: 1, ..Usage::default() });
        let _cancelled = ledger.begin(Phase::Generate);
        let account = ledger.by_phase()[&Phase::Generate];
        assert_eq!((account.calls, account.candidates, account.usage.unknown_calls), (3, 5, 1));
        assert_eq!((account.counted, account.counted_candidates), (2, 4));
    }

    #[test]
    fn candidates_of_a_call_that_was_refused_are_counted_with_the_calls_that_replace_it() {
        let ledger = Arc::new(Ledger::default());
        let mut refused = ledger.begin_for(Phase::Generate, 3);
        refused.refused();
        drop(refused);
        ledger.hand_over(Phase::Generate, 3);
        assert_eq!(ledger.of_phase(Phase::Generate).candidates, 0);
        let unknown = Usage { unknown_calls: 1, ..Usage::default() };
        for usage in [Usage::default(), Usage::default(), unknown] {
            ledger.begin(Phase::Generate).settle(usage);
        }
        let account = ledger.of_phase(Phase::Generate);
        assert_eq!((account.calls, account.candidates), (4, 3));
        assert_eq!((account.counted_candidates, account.uncounted_candidates), (2, 1));
    }

    #[test]
    fn what_was_spent_at_one_moment_adds_up_whatever_settles_afterwards() {
        let ledger = Arc::new(Ledger::default());
        assert_eq!(ledger.spent().busy, None, "nothing was called");
        let usage = Usage { prompt_tokens: 3, completion_tokens: 4, ..Usage::default() };
        ledger.begin(Phase::Judge).settle(usage);
        let late = ledger.begin(Phase::Generate);
        let spent = ledger.spent();
        late.settle(usage);
        assert_eq!((spent.total().total_tokens(), spent.total().unknown_calls), (7, 1));
        assert_eq!(spent.of_phase(Phase::Generate).usage.total_tokens(), 0);
        assert!(spent.busy.is_some());
        assert_eq!(ledger.total().total_tokens(), 14);
    }

    #[test]
    fn the_daemon_counts_every_entry_at_its_price() {
        let metrics = Arc::new(Metrics::new());
        let price = Price { prompt: 5e5, cached_prompt: 25e4, cache_write_prompt: 5e5, completion: 1e6 };
        let ledger = Arc::new(Ledger::metered(Arc::clone(&metrics), [(Phase::Generate, price)].into_iter().collect()));
        assert_eq!(ledger.busy(), None, "nothing was called");
        let usage = Usage { prompt_tokens: 10_000, cached_tokens: 4000, completion_tokens: 500, ..Usage::default() };
        ledger.begin(Phase::Generate).settle(usage);
        ledger.begin(Phase::Generate).settle(Usage { completion_tokens: 1, reasoning_tokens: 1, ..Usage::default() });
        ledger.begin(Phase::Judge).settle(usage);
        drop(ledger.begin(Phase::Judge));
        let mut refused = ledger.begin(Phase::Generate);
        refused.refused();
        ledger.begin(Phase::Generate).withdraw();
        ledger.judge_failed(FailureKind::Malformed);
        assert!(ledger.busy().is_some());

        let text = metrics.expose(&crate::metrics::Moment::default(), crate::metrics::Format::Prometheus);
        for sample in [
            "itsd_tokens_total{phase=\"generate\",kind=\"prompt\"} 10000",
            "itsd_tokens_total{phase=\"generate\",kind=\"cached\"} 4000",
            "itsd_tokens_total{phase=\"generate\",kind=\"completion\"} 501",
            "itsd_tokens_total{phase=\"generate\",kind=\"reasoning\"} 1",
            "itsd_tokens_total{phase=\"judge\",kind=\"prompt\"} 10000",
            "itsd_unknown_usage_calls_total{phase=\"generate\"} 0",
            "itsd_unknown_usage_calls_total{phase=\"judge\"} 1",
            // 6000 fresh, 4000 cached and 501 completion tokens: 3000 + 1000 + 501.
            "itsd_cost_usd_total{phase=\"generate\"} 4501.0",
            "itsd_cost_usd_total{phase=\"judge\"} 0.0",
            "itsd_judge_failures_total{kind=\"upstream_malformed\"} 1",
        ] {
            assert!(text.lines().any(|line| line == sample), "{sample} is not in\n{text}");
        }
    }
}
