//! Votes weighed by what a judge says of them.

use super::scripted::{Ending, Scripted, answers};
use super::*;
use crate::config::run::{JudgeFallback, JudgeMode, JudgeSettings, RewardName, StopRule, VoteWeight};
use crate::failure::FailureKind;
use crate::generator::Phase;

fn judged(budget: usize, fallback: JudgeFallback) -> RunSettings {
    RunSettings {
        budget,
        vote_weight: VoteWeight::Score,
        rm_name: Some(RewardName::LlmJudge),
        judge: JudgeSettings { mode: JudgeMode::Pointwise, fallback, ..JudgeSettings::default() },
        ..RunSettings::default()
    }
}

fn says(score: f64) -> String {
    format!(r#"{{"reasoning":"so it is","score":{score}}}"#)
}

fn run_of_four() -> Vec<Ending> {
    ["It is 1.", "It is 2.", "No idea.", "So it is 1."].map(answers).to_vec()
}

#[tokio::test]
async fn the_class_with_the_highest_sum_of_scores_wins_and_its_best_member_speaks_for_it() {
    // The one that abstains is not judged: the scores are of candidates 0, 1 and 3.
    let generator = Scripted::judging(run_of_four(), &[&says(2.0), &says(6.0), &says(5.0)]);
    let outcome = ask(&judged(4, JudgeFallback::Vote), &generator).await.unwrap();
    assert_eq!((outcome.selected(), outcome.warnings.len()), (Some(3), 0));
    assert_eq!(outcome.scores, Some(vec![Some(2.0), Some(6.0), None, Some(5.0)]));
    let verdict = outcome.verdict.unwrap();
    assert_eq!(verdict.response_counts, [("1".to_owned(), 2), ("2".to_owned(), 1)]);
    let weights: Vec<f64> = verdict.weights.unwrap().into_iter().map(|(_, weight)| weight).collect();
    assert_eq!(weights, [7.0 / 13.0, 6.0 / 13.0]);

    let generator = Scripted::judging(run_of_four(), &[&says(2.0), &says(9.0), &says(5.0)]);
    assert_eq!(ask(&judged(4, JudgeFallback::Vote), &generator).await.unwrap().selected(), Some(1));
}

#[tokio::test]
async fn a_vote_that_is_weighed_by_scores_is_heard_out() {
    let endings = ["1", "It is 1.", "So it is 1.", "Then 1."].map(answers).to_vec();
    let generator = Scripted::judging(endings, &[&says(1.0), &says(3.0), &says(3.0), &says(2.0)]);
    let outcome = ask(&judged(4, JudgeFallback::Vote), &generator).await.unwrap();
    assert_eq!((outcome.counts().0, outcome.selected()), (4, Some(1)));

    let settings = RunSettings { stop_rule: StopRule::Threshold, ..judged(4, JudgeFallback::Vote) };
    assert_eq!(ask(&settings, &generator).await.unwrap().counts().0, 4);
}

#[tokio::test]
async fn without_scores_it_goes_as_the_fallback_says() {
    let endings = || vec![answers("It is 1."), answers("It is 2."), answers("It is 2.")];
    let generator = Scripted::judging(endings(), &[]);
    let vote = ask(&judged(3, JudgeFallback::Vote), &generator).await.unwrap();
    assert_eq!((vote.selected(), vote.scores), (Some(1), None));
    assert!(vote.warnings[0].starts_with("the judge failed, so all votes weigh the same"), "{:?}", vote.warnings);
    let first = ask(&judged(3, JudgeFallback::First), &generator).await.unwrap();
    assert_eq!((first.selected(), first.verdict), (Some(0), None));
    assert!(first.warnings[0].contains("the first candidate is returned"), "{:?}", first.warnings);
    let error = ask(&judged(3, JudgeFallback::Error), &generator).await.unwrap_err();
    assert_eq!(error.telling().kind, FailureKind::JudgeFailed);
}

#[tokio::test]
async fn a_run_with_one_vote_has_nothing_to_be_judged() {
    let generator = Scripted::judging(vec![answers("It is 1."), Ending::Fails], &[]);
    let scope = Arc::new(Run::new(None));
    let outcome = ask_for(1, &judged(2, JudgeFallback::Error), &generator, &scope).await.unwrap();
    assert_eq!((outcome.selected(), scope.ledger.calls(Phase::Judge)), (Some(0), 0));
    assert_eq!(outcome.warnings, ["1 of 2 candidates failed: upstream_unavailable 1; the answer rests on 1"]);
}

#[tokio::test]
async fn candidates_that_say_the_same_are_judged_once() {
    let endings = vec![answers("It is 1."), answers("It is 2."), answers("It is 1.")];
    let generator = Scripted::judging(endings, &[&says(3.0), &says(5.0)]);
    let scope = Arc::new(Run::new(None));
    let outcome = ask_for(1, &judged(3, JudgeFallback::Error), &generator, &scope).await.unwrap();
    assert_eq!((outcome.selected(), scope.ledger.calls(Phase::Judge)), (Some(0), 2));
    assert_eq!(outcome.scores, Some(vec![Some(3.0), Some(5.0), Some(3.0)]));

    let generator = Scripted::judging(vec![answers("It is 1."); 3], &[]);
    let scope = Arc::new(Run::new(None));
    let outcome = ask_for(1, &judged(3, JudgeFallback::Error), &generator, &scope).await.unwrap();
    assert_eq!((outcome.scores, scope.ledger.calls(Phase::Judge), outcome.warnings.len()), (None, 0, 0));
}
