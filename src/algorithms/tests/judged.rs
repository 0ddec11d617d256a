//! What is made of a judgement: one that a limit cut short, and one that names several.

use super::scripted::{Ending, Scripted, answers};
use super::*;
use crate::algorithms::StopReason;
use crate::config::run::{AlgorithmName, JudgeFallback, JudgeMode, JudgeSettings, RewardName, VoteWeight};
use crate::generator::Bounds;

fn settings(algorithm: AlgorithmName, judge: JudgeSettings) -> RunSettings {
    RunSettings {
        algorithm,
        budget: 3,
        vote_weight: VoteWeight::Score,
        rm_name: Some(RewardName::LlmJudge),
        judge,
        ..RunSettings::default()
    }
}

fn candidates() -> Vec<Ending> {
    ["It is 1.", "It is 2.", "So it is 2."].map(answers).to_vec()
}

#[tokio::test]
async fn a_limit_in_the_middle_of_judging_lets_nobody_win_for_having_been_judged_first() {
    // Three candidates of eleven tokens each; the judge praises the first and must be asked again about the second.
    let bounds = Bounds { max_total_tokens: Some(34), ..Bounds::default() };
    for algorithm in [AlgorithmName::BestOfN, AlgorithmName::SelfConsistency] {
        for (fallback, selected) in [(JudgeFallback::Vote, 1), (JudgeFallback::Error, 1), (JudgeFallback::First, 0)] {
            let generator = Scripted::judging(candidates(), &[r#"{"score": 9}"#, "hm", r#"{"score": 1}"#]);
            let judge = JudgeSettings { mode: JudgeMode::Pointwise, fallback, ..JudgeSettings::default() };
            let scope = Arc::new(Run { bounds, ..Run::new(Some(1)) });
            let outcome = ask_for(1, &settings(algorithm, judge), &generator, &scope).await.unwrap();
            assert_eq!((outcome.selected(), outcome.stop.reason), (Some(selected), StopReason::MaxTotalTokens));
            assert!(outcome.scores.is_none_or(|scores| scores == [None; 3]));
            let verdict_notes = outcome.verdict.map(|verdict| verdict.notes).unwrap_or_default();
            let told = [outcome.warnings, verdict_notes].concat();
            assert!(told.iter().any(|warning| warning.contains("`limits.max_total_tokens` was reached")), "{told:?}");
        }
    }
}

#[tokio::test]
async fn of_several_that_the_judge_picks_the_first_that_it_names_is_the_answer() {
    let judge = || JudgeSettings { mode: JudgeMode::Groupwise, top_n: 2, ..JudgeSettings::default() };
    let mut selected = Vec::new();
    for picks in ["[0, 1]", "[1, 0]", "[2, 0]", "[2, 1]"] {
        let generator = Scripted::judging(candidates(), &[&format!(r#"{{"selected_indices": {picks}}}"#)]);
        let outcome = ask(&settings(AlgorithmName::BestOfN, judge()), &generator).await.unwrap();
        let scores = outcome.scores.as_deref().unwrap();
        assert_eq!(scores.iter().filter(|score| **score == Some(1.0)).count(), 2, "{scores:?}");
        selected.push(outcome.selected().unwrap());
    }
    // The seed shuffles them alike every time.
    assert_eq!(selected[2], selected[3]);
    selected.pop();
    selected.sort_unstable();
    assert_eq!(selected, [0, 1, 2]);
}
