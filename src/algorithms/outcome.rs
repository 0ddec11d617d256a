//! How a run ended: the answer, every candidate, and why it stopped.

use crate::completion::Completion;
use crate::failure::{Failure, FailureKind};
use crate::generator::{Account, Bound, Run};

use super::search::Searched;
use super::vote::Verdict;

/// A run that found an answer.
#[derive(Debug)]
pub struct Outcome {
    pub answer: Answer,
    pub candidates: Vec<Candidate>,
    /// The vote, where there was one.
    pub verdict: Option<Verdict>,
    /// The scores in candidate order, where candidates were scored; `None` for those that were not.
    pub scores: Option<Vec<Option<f64>>>,
    /// How a search went.
    pub searched: Option<Searched>,
    pub stop: Stop,
    /// What the client should know about how the answer came to be.
    pub warnings: Vec<String>,
}

/// What is returned to the client.
#[derive(Debug)]
pub enum Answer {
    /// Candidates by their index, the best first: as many as were asked for, at least one, each
    /// [`Candidate::Completed`].
    Chosen(Vec<usize>),
    /// Made of several candidates.
    Composed(Box<Completion>),
}

/// One candidate, as far as it came.
#[derive(Debug)]
pub enum Candidate {
    Completed(Completion),
    Failed(Failure),
    /// Still running when the run stopped, or never started.
    Cancelled,
}

impl Candidate {
    pub fn completion(&self) -> Option<&Completion> {
        match self {
            Self::Completed(completion) => Some(completion),
            Self::Failed(_) | Self::Cancelled => None,
        }
    }
}

/// Why and when the run stopped, in numbers of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    pub reason: StopReason,
    pub planned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Every candidate ended.
    Completed,
    /// No unfinished candidate could change the winner.
    Decided,
    /// The stop rule of this name was content.
    Beta,
    Window,
    Threshold,
    /// A search took all the steps that it may, and not every path had ended.
    MaxSteps,
    /// A limit was reached, and the best answer so far won.
    Deadline,
    MaxTotalTokens,
    MaxCost,
    MaxCandidates,
}

impl StopReason {
    /// The failure of a run that ended for this reason before it had any answer.
    pub fn without_answer(self) -> Failure {
        let (kind, message) = match self {
            Self::Deadline => (
                FailureKind::Deadline,
                "no candidate was complete at the deadline; raise `limits.deadline_ms`, or ask for shorter answers",
            ),
            Self::MaxTotalTokens => {
                (FailureKind::Limit, "no candidate was complete within `limits.max_total_tokens`; raise it")
            }
            Self::MaxCost => (FailureKind::Limit, "no candidate was complete within `limits.max_cost_usd`; raise it"),
            Self::Completed
            | Self::Decided
            | Self::Beta
            | Self::Window
            | Self::Threshold
            | Self::MaxSteps
            | Self::MaxCandidates => (FailureKind::Internal, "no candidate came to an end"),
        };
        Failure::new(kind, message)
    }
}

impl StopReason {
    /// The failure of a scorer that was not asked, because the run had ended for this reason.
    pub(super) fn without_scores(self) -> Failure {
        let kind = self.without_answer().kind;
        Failure::new(kind, format!("the run had reached its limit `{}` before candidates were scored", self.as_str()))
    }
}

impl StopReason {
    /// Why a run of this reason ended whose scorer failed so: for the limit that left no room for scores, where that is
    /// why it failed, and not for one that happens to be reached.
    pub(super) fn after_failed_scores(self, failure: &Failure, run: &Run) -> Self {
        run.exhausted().filter(|_| is_limit(failure)).map_or(self, Self::from)
    }
}

/// Whether a call or a scorer failed because the run may not go on.
pub(super) fn is_limit(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Deadline | FailureKind::Limit)
}

impl From<Bound> for StopReason {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::Deadline => Self::Deadline,
            Bound::TotalTokens => Self::MaxTotalTokens,
            Bound::Cost => Self::MaxCost,
        }
    }
}

impl StopReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Decided => "decided",
            Self::Beta => "beta",
            Self::Window => "window",
            Self::Threshold => "threshold",
            Self::MaxSteps => "max_steps",
            Self::Deadline => "deadline",
            Self::MaxTotalTokens => "max_total_tokens",
            Self::MaxCost => "max_cost_usd",
            Self::MaxCandidates => "max_candidates",
        }
    }
}

impl Outcome {
    /// What is returned, the best first; never empty.
    pub fn answers(&self) -> Vec<&Completion> {
        match &self.answer {
            Answer::Composed(completion) => vec![completion],
            Answer::Chosen(chosen) => {
                let completed =
                    |index: &usize| self.candidates[*index].completion().expect("only completed candidates are chosen");
                chosen.iter().map(completed).collect()
            }
        }
    }

    /// The answer.
    pub fn winner(&self) -> &Completion {
        self.answers()[0]
    }

    /// The index of the candidate that is the answer, where one of them is.
    pub fn selected(&self) -> Option<usize> {
        match &self.answer {
            Answer::Chosen(chosen) => chosen.first().copied(),
            Answer::Composed(_) => None,
        }
    }

    /// How many candidates were begun: each of them completed, failed or was cancelled. The others that were planned
    /// never began. A search, in which others take the places of paths that end or fail, may have more than were planned.
    /// `spent` is what all candidates cost.
    pub fn started(&self, spent: &Account) -> usize {
        let (completed, failed, _) = self.counts();
        completed + failed + self.cancelled(spent)
    }

    /// How many candidates were begun and given up. `spent` is what all candidates cost.
    pub fn cancelled(&self, spent: &Account) -> usize {
        let (completed, failed, unended) = self.counts();
        let begun = match &self.searched {
            // What is spent is spent on steps.
            Some(searched) => searched.opened,
            // A candidate that waited for its turn until the run was over is no call.
            None => usize::try_from(spent.candidates).unwrap_or(usize::MAX),
        };
        begun.saturating_sub(completed + failed).min(unended)
    }

    /// How many candidates completed, how many failed, and how many came to no end, begun or not.
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for candidate in &self.candidates {
            match candidate {
                Candidate::Completed(_) => counts.0 += 1,
                Candidate::Failed(_) => counts.1 += 1,
                Candidate::Cancelled => counts.2 += 1,
            }
        }
        counts
    }

    /// What the client should know where candidates failed: how many, of what, and how many are left.
    pub(super) fn failed_candidates(&self) -> Option<String> {
        let kinds = self.candidates.iter().filter_map(|candidate| match candidate {
            Candidate::Failed(failure) => Some(failure.kind.as_str()),
            Candidate::Completed(_) | Candidate::Cancelled => None,
        });
        let mut by_kind: Vec<(&str, usize)> = Vec::new();
        for kind in kinds {
            match by_kind.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => by_kind.push((kind, 1)),
            }
        }
        // The most frequent first; the sort keeps the order of equals.
        by_kind.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let (completed, failed, _) = self.counts();
        let kinds: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        (failed > 0).then(|| {
            let all = self.stop.planned.max(self.candidates.len());
            format!("{failed} of {all} candidates failed: {}; the answer rests on {completed}", kinds.join(", "))
        })
    }

    /// Completion tokens that an early end saved, taking every candidate to be as long as the mean of those that
    /// completed. `spent` is what all candidates cost, and `stops_billing` whether the provider is known to end a
    /// generation, and its bill, with the connection.
    ///
    /// Where the usage of every call is known, that is all which was planned less what was spent. Where it is
    /// not, candidates that never began count, and those that were cancelled only where that stops the bill: one that
    /// was cut short is then taken to have had as much left as a whole one, as it is where lengths have no memory.
    ///
    /// A search that gives paths up goes on with others in their place, which saves nothing.
    pub fn saved_tokens(&self, spent: &Account, stops_billing: bool) -> u64 {
        if self.searched.is_some() {
            return 0;
        }
        let completed = self.candidates.iter().filter_map(Candidate::completion);
        let (count, tokens) = completed.fold((0, 0_u64), |(count, sum), completion| {
            (count + 1, sum.saturating_add(completion.usage.completion_tokens))
        });
        let (_, failed, unended) = self.counts();
        if count == 0 || unended == 0 {
            return 0;
        }
        let planned = self.stop.planned as u64;
        if spent.usage.unknown_calls == 0 {
            let whole = tokens.saturating_mul(planned.saturating_sub(failed as u64)) / count;
            whole.saturating_sub(spent.usage.completion_tokens)
        } else {
            // A candidate may have failed without ever being a call.
            let never_began = planned.saturating_sub(spent.candidates).min(unended as u64);
            let saved = if stops_billing { never_began + self.cancelled(spent) as u64 } else { never_began };
            tokens.saturating_mul(saved) / count
        }
    }
}

/// What the client should know when a run has fewer answers than were asked for.
pub(super) fn fewer_answers(wanted: usize, found: usize) -> Option<String> {
    (found < wanted).then(|| format!("{found} of the {wanted} answers that `n` asks for: no more candidates completed"))
}

/// A run without an answer: every candidate failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.explain())]
pub struct RunError {
    /// In candidate order; never empty.
    pub failures: Vec<(usize, Failure)>,
}

impl RunError {
    /// The error of a run of which no candidate completed before it ended for `reason`.
    pub fn of(candidates: Vec<Candidate>, reason: StopReason) -> Self {
        let failures = candidates.into_iter().enumerate().filter_map(|(candidate, end)| match end {
            Candidate::Failed(failure) => Some((candidate, failure)),
            Candidate::Completed(_) | Candidate::Cancelled => None,
        });
        let mut failures: Vec<_> = failures.collect();
        if failures.is_empty() {
            failures.push((0, reason.without_answer()));
        }
        Self { failures }
    }

    /// The error of a run whose candidates are there, but whose scorer, which messages call `who`, has failed. What the
    /// scorer was asked is not the client's request, so that its refusals are not the client's either.
    pub(super) fn of_scorer(who: &str, failure: Failure) -> Self {
        let kind = match failure.kind {
            FailureKind::Internal => failure.kind,
            _ => FailureKind::JudgeFailed,
        };
        let message = format!("{who} failed, and `judge_fallback` is `error`: {}", failure.message);
        Self { failures: vec![(0, Failure { kind, message, param: None, ..failure })] }
    }

    /// The failure that tells the client most: what it can change itself comes first, then what its operator
    /// can, then what will pass.
    pub fn telling(&self) -> &Failure {
        let (_, failure) = self
            .failures
            .iter()
            .min_by_key(|(_, failure)| precedence(failure.kind))
            .expect("a run fails only with at least one failed candidate");
        failure
    }

    fn explain(&self) -> String {
        let failure = self.telling();
        let count = self.failures.len();
        // What the client can mend reads better without how often it was said.
        if count == 1 || precedence(failure.kind) <= precedence(FailureKind::ContentPolicy) {
            return failure.message.clone();
        }
        format!("all {count} candidates failed: {}", failure.message)
    }
}

fn precedence(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::ContextLength => 0,
        FailureKind::InvalidRequest | FailureKind::NotSupported => 1,
        FailureKind::ContentPolicy => 2,
        FailureKind::Auth => 3,
        FailureKind::NotFound => 4,
        FailureKind::RateLimited => 5,
        FailureKind::Overloaded => 6,
        FailureKind::Timeout => 7,
        FailureKind::Unavailable => 8,
        FailureKind::Malformed | FailureKind::JudgeFailed => 9,
        FailureKind::Deadline | FailureKind::Limit | FailureKind::Cancelled => 10,
        // Others of the run may have been asked, and cost something.
        FailureKind::LeftAlone => 11,
        FailureKind::Internal => 12,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::completion::{FinishReason, Reply, Usage};
    use crate::generator::{Ledger, Phase};

    #[test]
    fn the_failure_told_is_the_one_that_the_client_can_mend() {
        let error = RunError {
            failures: vec![
                (0, Failure::new(FailureKind::Unavailable, "connection reset")),
                (1, Failure::new(FailureKind::Auth, "the provider refused the key")),
            ],
        };
        assert_eq!(error.telling().kind, FailureKind::Auth);
        assert_eq!(error.to_string(), "all 2 candidates failed: the provider refused the key");
    }

    /// A run of 8 of which three completed with 10, 20 and 30 tokens and one failed.
    fn stopped() -> Outcome {
        let completed = |completion_tokens| {
            Candidate::Completed(Completion {
                reply: Reply::new(Some("7".to_owned()), Vec::new()),
                finish_reason: FinishReason::Stop,
                logprobs: None,
                mean_logprob: None,
                tokens: None,
                usage: Usage { completion_tokens, ..Usage::default() },
            })
        };
        let failed = Candidate::Failed(Failure::new(FailureKind::Timeout, "no answer within 5 s"));
        let mut candidates = vec![completed(10), failed, completed(20), completed(30)];
        candidates.resize_with(8, || Candidate::Cancelled);
        Outcome {
            answer: Answer::Chosen(vec![0]),
            candidates,
            verdict: None,
            scores: None,
            searched: None,
            stop: Stop { reason: StopReason::Beta, planned: 8 },
            warnings: Vec::new(),
        }
    }

    fn spent(calls: u64, completion_tokens: u64, unknown_calls: u64) -> Account {
        let ledger = Arc::new(Ledger::default());
        for _ in 0..calls {
            ledger.begin(Phase::Generate).settle(Usage::default());
        }
        let mut account = ledger.by_phase().get(&Phase::Generate).copied().unwrap_or_default();
        account.usage = Usage { completion_tokens, unknown_calls, ..Usage::default() };
        account
    }

    #[test]
    fn what_was_saved_is_all_that_was_planned_less_what_was_spent_where_all_of_it_is_known() {
        // Seven that did not fail, 20 tokens each, less what the cancelled ones had come to: 140 - 60, 140 - 75.
        assert_eq!(stopped().saved_tokens(&spent(4, 60, 0), false), 80);
        assert_eq!(stopped().saved_tokens(&spent(6, 75, 0), false), 65);
        assert_eq!(stopped().saved_tokens(&spent(8, 900, 0), false), 0, "the cancelled ones had been long");
    }

    #[test]
    fn of_calls_with_unknown_usage_only_those_that_never_began_were_saved() {
        assert_eq!(stopped().saved_tokens(&spent(6, 60, 2), false), 40);
        assert_eq!(stopped().saved_tokens(&spent(8, 60, 5), false), 0);
        assert_eq!(stopped().saved_tokens(&spent(3, 60, 1), false), 80, "the one that failed was no call");
    }

    #[test]
    fn cancelled_calls_were_saved_where_that_stops_the_bill() {
        // Three completed and one failed of eight, with 20 tokens on average.
        assert_eq!(stopped().saved_tokens(&spent(6, 60, 2), true), 80, "two never began, and two were cancelled");
        assert_eq!(stopped().saved_tokens(&spent(8, 60, 4), true), 80);
        assert_eq!(stopped().saved_tokens(&spent(8, 75, 0), true), 65, "what is known need not be guessed");
    }

    #[test]
    fn a_run_that_was_not_stopped_or_has_no_answer_saved_nothing() {
        let mut whole = stopped();
        whole.candidates.truncate(4);
        whole.stop.planned = 4;
        assert_eq!(whole.saved_tokens(&spent(4, 60, 0), false), 0);
        let mut empty = stopped();
        empty.candidates.fill_with(|| Candidate::Cancelled);
        assert_eq!(empty.saved_tokens(&spent(0, 0, 0), false), 0);
    }

    #[test]
    fn candidates_that_were_begun_completed_failed_or_were_cancelled() {
        // Three completed and one failed of eight: of those that are left, only calls were begun.
        let counts = |calls| {
            let spent = spent(calls, 60, 0);
            (stopped().started(&spent), stopped().cancelled(&spent))
        };
        assert_eq!(counts(4), (4, 0));
        assert_eq!(counts(6), (6, 2));
        assert_eq!(counts(8), (8, 4));
        assert_eq!(counts(3), (4, 0), "the one that failed was no call");
        assert_eq!(counts(9), (8, 4), "no more than were planned");
    }

    #[test]
    fn a_single_failure_speaks_for_itself() {
        let error = RunError { failures: vec![(0, Failure::new(FailureKind::Timeout, "no answer within 5 s"))] };
        assert_eq!(error.to_string(), "no answer within 5 s");
    }
}
