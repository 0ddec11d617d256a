//! What a run has spent: calls and tokens, by phase, kept also for calls that were cancelled or failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use crate::completion::Usage;

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
    phases: Mutex<BTreeMap<Phase, Account>>,
}

/// One phase's sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Calls begun, whether or not they came to anything. However often a call is made again, it is one, and so it is
    /// however many candidates it asks for.
    pub calls: u64,
    /// Candidates begun with them.
    #[serde(skip)]
    pub candidates: u64,
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
    /// Notes that a call begins with its first attempt. Its usage is entered with `OpenCall::settle`; a call
    /// that is dropped during an attempt (cancelled, failed without a count) is entered as one of unknown usage.
    pub fn begin(self: &Arc<Self>, phase: Phase) -> OpenCall {
        self.begin_for(phase, 1)
    }

    /// The same for a call with which so many candidates begin: none, where it asks for what others left out.
    pub fn begin_for(self: &Arc<Self>, phase: Phase, candidates: u64) -> OpenCall {
        let mut phases = self.phases.lock();
        let account = phases.entry(phase).or_default();
        account.calls += 1;
        account.candidates += candidates;
        account.open += 1;
        OpenCall { ledger: Arc::clone(self), phase, candidates, is_open: true }
    }

    /// Calls begun in a phase so far.
    pub fn calls(&self, phase: Phase) -> u64 {
        self.phases.lock().get(&phase).map_or(0, |account| account.calls)
    }

    /// The sums so far; attempts under way count as of unknown usage.
    pub fn by_phase(&self) -> BTreeMap<Phase, Account> {
        self.phases.lock().iter().map(|(phase, account)| (*phase, account.so_far())).collect()
    }

    /// Tokens over all phases.
    pub fn total(&self) -> Usage {
        let mut total = Usage::default();
        for account in self.phases.lock().values() {
            total += account.so_far().usage;
        }
        total
    }
}

/// A call whose usage is not entered yet.
#[derive(Debug)]
pub struct OpenCall {
    ledger: Arc<Ledger>,
    phase: Phase,
    /// How many begin with it.
    candidates: u64,
    /// An attempt is being made whose cost is not entered yet.
    is_open: bool,
}

impl OpenCall {
    /// Enters what the call spent.
    pub fn settle(mut self, usage: Usage) {
        let candidates = self.candidates;
        self.close(|account| {
            account.usage += usage;
            match usage.unknown_calls {
                0 => {
                    account.counted += 1;
                    account.counted_candidates += candidates;
                }
                _ => account.uncounted += 1,
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

    /// Another attempt is made.
    pub fn again(&mut self) {
        self.lost();
        self.is_open = true;
        self.ledger.phases.lock().entry(self.phase).or_default().open += 1;
    }

    /// Takes the call back: it turned out that its turn never came.
    pub fn withdraw(mut self) {
        let candidates = self.candidates;
        self.close(|account| {
            account.calls -= 1;
            account.candidates -= candidates;
        });
    }

    /// Ends the attempt under way, if there is one, with what it comes to.
    fn close(&mut self, enter: impl FnOnce(&mut Account)) {
        if std::mem::take(&mut self.is_open) {
            let mut phases = self.ledger.phases.lock();
            let account = phases.entry(self.phase).or_default();
            account.open -= 1;
            enter(account);
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
    fn a_call_for_several_candidates_is_one_call_and_what_tops_it_up_begins_none() {
        let ledger = Arc::new(Ledger::default());
        ledger.begin_for(Phase::Generate, 4).settle(Usage { completion_tokens: 3, ..Usage::default() });
        ledger.begin_for(Phase::Generate, 0).settle(Usage { completion_tokens: 1, ..Usage::default() });
        let _cancelled = ledger.begin(Phase::Generate);
        let account = ledger.by_phase()[&Phase::Generate];
        assert_eq!((account.calls, account.candidates, account.usage.unknown_calls), (3, 5, 1));
        assert_eq!((account.counted, account.counted_candidates), (2, 4));
    }
}
