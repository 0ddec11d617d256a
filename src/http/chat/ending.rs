//! How the candidates of a run ended, for the daemon's counters: each that was planned is counted once. So is each path of
//! a search that ended or failed and left its place to another, so that these may be more than were planned.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::algorithms::{Candidate, Outcome, Plan, RunError};
use crate::completion::FinishReason;
use crate::failure::FailureKind;
use crate::generator::{Account, Ledger, Phase};
use crate::metrics::RunMetrics;

/// A run that has not ended yet. One that is given up, since its client has gone, is counted when this is dropped.
pub struct Ending<'a> {
    runs: &'a RunMetrics,
    algorithm: &'static str,
    planned: usize,
    /// Of these, those that may be begun.
    held: usize,
    /// Whether each call is a step of a path, and no candidate.
    is_search: bool,
    ledger: &'a Arc<Ledger>,
    is_counted: bool,
}

/// How many candidates ended in which way: a kind of failure, or
/// - `completed`: whole and fit for a choice,
/// - `invalid`: whole, but set aside since a client could do nothing with it,
/// - `truncated`: cut off at its length limit,
/// - `cancelled`: begun and given up,
/// - `not_started`: planned and never begun.
type Endings = BTreeMap<&'static str, u64>;

impl<'a> Ending<'a> {
    pub fn new(runs: &'a RunMetrics, plan: &Plan, ledger: &'a Arc<Ledger>) -> Self {
        let (planned, held) = (plan.budget, plan.held());
        let (algorithm, is_search) = (plan.algorithm_name(), plan.is_search());
        Self { runs, algorithm, planned, held, is_search, ledger, is_counted: false }
    }

    /// `spent` is what all candidates cost, and `stops_billing` says whether a call that is cancelled is paid for no
    /// further.
    pub fn ended(&mut self, result: &Result<Outcome, RunError>, spent: &Account, stops_billing: bool) {
        match result {
            Ok(outcome) => {
                self.runs.saved_tokens(outcome.saved_tokens(spent, stops_billing));
                self.count(of_outcome(outcome, &self.of_candidates(spent)));
            }
            Err(error) => {
                let spent = self.of_candidates(spent);
                self.count(of_error(&error.failures.iter().map(|(_, failure)| failure.kind), self.planned, &spent));
            }
        }
    }

    /// What was spent, with the candidates that it was spent on.
    fn of_candidates(&self, spent: &Account) -> Account {
        if self.is_search { of_paths(*spent, self.held) } else { *spent }
    }

    fn count(&mut self, endings: Endings) {
        self.is_counted = true;
        for (outcome, count) in endings.into_iter().filter(|(_, count)| *count > 0) {
            self.runs.candidates(self.algorithm, outcome, count);
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if !self.is_counted {
            let spent = self.of_candidates(&self.ledger.of_phase(Phase::Generate));
            self.count(of_error(&std::iter::empty(), self.planned, &spent));
        }
    }
}

/// What a search that holds so many paths has spent: they come to an answer only with the run.
fn of_paths(mut spent: Account, held: usize) -> Account {
    spent.candidates = spent.candidates.min(held as u64);
    (spent.counted_candidates, spent.uncounted_candidates) = (0, 0);
    spent
}

fn of_outcome(outcome: &Outcome, spent: &Account) -> Endings {
    let mut endings = Endings::new();
    let set_aside = outcome.verdict.as_ref().map(|verdict| &*verdict.set_aside).unwrap_or_default();
    for (index, candidate) in outcome.candidates.iter().enumerate() {
        let word = match candidate {
            Candidate::Completed(completion) if completion.finish_reason == FinishReason::Length => "truncated",
            Candidate::Completed(_) if set_aside.iter().any(|aside| aside.candidate == index && aside.is_invalid) => {
                "invalid"
            }
            Candidate::Completed(_) => "completed",
            Candidate::Failed(failure) => failure.kind.as_str(),
            Candidate::Cancelled => continue,
        };
        *endings.entry(word).or_default() += 1;
    }
    let started = outcome.started(spent);
    endings.insert("cancelled", outcome.cancelled(spent) as u64);
    endings.insert("not_started", outcome.stop.planned.saturating_sub(started) as u64);
    endings
}

/// A run without an outcome tells only of its failures; what else there was is in its account.
fn of_error(failures: &(impl Iterator<Item = FailureKind> + Clone), planned: usize, spent: &Account) -> Endings {
    let mut endings = Endings::new();
    // A limit or a judge ends a run and not a candidate.
    let is_own =
        |kind: &FailureKind| !matches!(kind, FailureKind::Deadline | FailureKind::Limit | FailureKind::JudgeFailed);
    let mut failed = 0;
    for kind in failures.clone().filter(is_own) {
        *endings.entry(kind.as_str()).or_default() += 1;
        failed += 1;
    }
    let completed = spent.counted_candidates + spent.uncounted_candidates;
    let cancelled = spent.candidates.saturating_sub(completed + failed);
    endings.insert("completed", completed);
    endings.insert("cancelled", cancelled);
    endings.insert("not_started", (planned as u64).saturating_sub(completed + failed + cancelled));
    endings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::vote::{SetAside, Verdict};
    use crate::algorithms::{Answer, Stop, StopReason};
    use crate::completion::{Completion, Reply, Usage};
    use crate::failure::Failure;

    fn spent(calls: u64, answered: u64) -> Account {
        let ledger = Arc::new(Ledger::default());
        let open: Vec<_> = (0..calls).map(|_| ledger.begin(Phase::Generate)).collect();
        for (number, call) in (0..).zip(open) {
            if number < answered {
                call.settle(Usage::default());
            }
        }
        ledger.of_phase(Phase::Generate)
    }

    fn completed(finish_reason: FinishReason) -> Candidate {
        Candidate::Completed(Completion {
            reply: Reply::new(Some("7".to_owned()), Vec::new()),
            finish_reason,
            logprobs: None,
            mean_logprob: None,
            tokens: None,
            usage: Usage::default(),
        })
    }

    #[test]
    fn every_planned_candidate_is_counted_once_by_how_it_ended() {
        let aside = |candidate, is_invalid| SetAside { candidate, reason: "why".into(), is_invalid };
        let outcome = Outcome {
            answer: Answer::Chosen(vec![0]),
            candidates: vec![
                completed(FinishReason::Stop),
                completed(FinishReason::Stop),
                completed(FinishReason::Length),
                completed(FinishReason::Stop),
                Candidate::Failed(Failure::new(FailureKind::Timeout, "late")),
                Candidate::Cancelled,
                Candidate::Cancelled,
            ],
            verdict: Some(Verdict {
                selected: 0,
                ranking: vec![0],
                response_counts: Vec::new(),
                weights: None,
                agreement: 1.0,
                vote: "answer",
                set_aside: vec![aside(1, true), aside(2, true), aside(3, false)],
                notes: Vec::new(),
            }),
            scores: None,
            searched: None,
            stop: Stop { reason: StopReason::Decided, planned: 8 },
            warnings: Vec::new(),
        };
        let expected = Endings::from([
            ("completed", 2),
            ("invalid", 1),
            ("truncated", 1),
            ("upstream_timeout", 1),
            ("cancelled", 1),
            ("not_started", 2),
        ]);
        let endings = of_outcome(&outcome, &spent(6, 4));
        assert_eq!(endings, expected);
        assert_eq!(endings.values().sum::<u64>(), 8);
    }

    #[test]
    fn a_run_without_an_answer_counts_its_failures_and_what_was_given_up() {
        let of = |failures: &[FailureKind], planned, spent: &Account| {
            let mut endings = of_error(&failures.iter().copied(), planned, spent);
            endings.retain(|_, count| *count > 0);
            endings
        };
        use FailureKind::{Deadline, JudgeFailed, RateLimited, Unavailable};
        let all_failed = of(&[Unavailable, Unavailable, RateLimited], 3, &spent(3, 0));
        assert_eq!(all_failed, Endings::from([("upstream_unavailable", 2), ("rate_limited", 1)]));
        assert_eq!(of(&[Deadline], 4, &spent(3, 0)), Endings::from([("cancelled", 3), ("not_started", 1)]));
        assert_eq!(of(&[JudgeFailed], 4, &spent(4, 4)), Endings::from([("completed", 4)]));
        let left = Endings::from([("completed", 1), ("cancelled", 2), ("not_started", 1)]);
        assert_eq!(of(&[], 4, &spent(3, 1)), left, "the client has gone");
        assert_eq!(of(&[], 0, &spent(0, 0)), Endings::new());
    }

    #[test]
    fn the_steps_of_a_search_are_no_candidates() {
        let of = |failures: &[FailureKind], spent: &Account| {
            let mut endings = of_error(&failures.iter().copied(), 4, &of_paths(*spent, 4));
            endings.retain(|_, count| *count > 0);
            endings
        };
        assert_eq!(of(&[], &spent(12, 11)), Endings::from([("cancelled", 4)]), "the client has gone");
        let mut bounded = of_error(&std::iter::empty(), 4, &of_paths(spent(12, 11), 3));
        bounded.retain(|_, count| *count > 0);
        assert_eq!(bounded, Endings::from([("cancelled", 3), ("not_started", 1)]), "no more than are held were begun");
        let lost = Endings::from([("upstream_unavailable", 1), ("cancelled", 3)]);
        assert_eq!(of(&[FailureKind::Unavailable], &spent(12, 11)), lost);
        assert_eq!(of(&[FailureKind::Deadline], &spent(0, 0)), Endings::from([("not_started", 4)]));
    }
}
