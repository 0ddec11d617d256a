//! How a run ended: the answer, every candidate, and why it stopped.

use crate::completion::Completion;
use crate::failure::{Failure, FailureKind};

use super::vote::Verdict;

/// A run that found an answer.
#[derive(Debug)]
pub struct Outcome {
    /// Index of the answer among `candidates`, where it is [`Candidate::Completed`].
    pub selected: usize,
    pub candidates: Vec<Candidate>,
    /// The vote, where there was one.
    pub verdict: Option<Verdict>,
    pub stop: Stop,
    /// What the client should know about how the answer came to be.
    pub warnings: Vec<String>,
}

/// One candidate, as far as it came.
#[derive(Debug)]
pub enum Candidate {
    Completed(Completion),
    Failed(Failure),
    /// Still running when the run stopped, or never started.
    Cancelled,
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
}

impl StopReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Decided => "decided",
        }
    }
}

impl Outcome {
    /// The answer.
    pub fn winner(&self) -> &Completion {
        match &self.candidates[self.selected] {
            Candidate::Completed(completion) => completion,
            Candidate::Failed(_) | Candidate::Cancelled => {
                unreachable!("a run ends with an outcome only when it selected a completed candidate")
            }
        }
    }

    /// How many candidates ended in each way: completed, failed, cancelled.
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
}

/// A run without an answer: every candidate failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.explain())]
pub struct RunError {
    /// In order of arrival; never empty.
    pub failures: Vec<(usize, Failure)>,
}

impl RunError {
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
        FailureKind::Malformed => 9,
        FailureKind::Internal => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_single_failure_speaks_for_itself() {
        let error = RunError { failures: vec![(0, Failure::new(FailureKind::Timeout, "no answer within 5 s"))] };
        assert_eq!(error.to_string(), "no answer within 5 s");
    }
}
