//! Limits end a run with the best answer so far, or say why there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::scripted::{Ending, Scripted, answers, answers_at};
use super::*;
use crate::algorithms::StopReason;
use crate::config::prices::Price;
use crate::config::run::{AlgorithmName, Limits, RewardName, StopRule, VoteWeight, Wave};
use crate::failure::{Failure, FailureKind};
use crate::generator::{Bounds, Phase};

fn settings(stop_rule: StopRule, budget: usize) -> RunSettings {
    RunSettings { stop_rule, budget, ..RunSettings::default() }
}

fn alike(count: usize) -> Vec<Ending> {
    vec![answers("The answer is 42."); count]
}

fn within(bounds: Bounds) -> Arc<Run> {
    Arc::new(Run { bounds, ..Run::new(Some(1)) })
}

fn soon(after: Duration) -> Bounds {
    Bounds { deadline: Some(Instant::now() + after), ..Bounds::default() }
}

#[tokio::test]
async fn the_deadline_leaves_the_best_answer_so_far() {
    let mut endings = vec![Ending::Hangs; 5];
    endings[1] = answers("The answer is 42.");
    endings[3] = answers("The answer is 42.");
    let generator = Scripted::new(endings);
    let outcome =
        ask_for(1, &settings(StopRule::Decided, 5), &generator, &within(soon(Duration::from_secs(1)))).await.unwrap();
    assert_eq!((outcome.stop.reason, outcome.selected()), (StopReason::Deadline, Some(1)));
    assert_eq!(outcome.counts(), (2, 0, 3));
}

#[tokio::test]
async fn a_deadline_without_an_answer_says_what_to_raise() {
    for (endings, algorithm) in
        [(vec![Ending::Hangs; 3], AlgorithmName::SelfConsistency), (vec![Ending::Hangs; 3], AlgorithmName::None)]
    {
        let settings = RunSettings { algorithm, ..settings(StopRule::None, 3) };
        let error =
            ask_for(3, &settings, &Scripted::new(endings), &within(soon(Duration::from_millis(10)))).await.unwrap_err();
        assert_eq!(error.telling().kind, FailureKind::Deadline);
        assert!(error.to_string().contains("limits.deadline_ms"), "{error}");
    }
    let past = Bounds { deadline: Some(Instant::now()), ..Bounds::default() };
    let generator = Scripted::new(alike(3));
    let error = ask_for(1, &settings(StopRule::None, 3), &generator, &within(past)).await.unwrap_err();
    assert_eq!((error.telling().kind, generator.waves()), (FailureKind::Deadline, vec![]));
}

#[tokio::test]
async fn tokens_and_money_are_spent_up_to_their_limit() {
    let price = Price { prompt: 1e6, cached_prompt: 1e6, cache_write_prompt: 1e6, completion: 1e6 };
    for (bounds, reason) in [
        (Bounds { max_total_tokens: Some(30), ..Bounds::default() }, StopReason::MaxTotalTokens),
        (Bounds { max_cost_usd: Some(30.0), ..Bounds::default() }, StopReason::MaxCost),
    ] {
        let run = Run { bounds, prices: BTreeMap::from([(Phase::Generate, price)]), ..Run::new(Some(1)) };
        let settings = RunSettings { wave: Wave::Of(2), ..settings(StopRule::None, 8) };
        let generator = Scripted::new(alike(8));
        // Eleven tokens, at a dollar each, for every answer: there is never room for two more, and the third passes the
        // limit.
        let outcome = ask_for(1, &settings, &generator, &Arc::new(run)).await.unwrap();
        assert_eq!((outcome.stop.reason, outcome.counts()), (reason, (3, 0, 5)));
        assert_eq!(generator.waves(), [1, 1, 1]);
    }
}

/// The algorithms that sample in parallel, with what they need.
fn sampling_algorithms(budget: usize) -> [RunSettings; 4] {
    use AlgorithmName::{BestOfN, MixtureOfN, None, SelfConsistency};
    [SelfConsistency, BestOfN, MixtureOfN, None].map(|algorithm| RunSettings {
        algorithm,
        rm_name: Some(RewardName::LlmJudge),
        ..settings(StopRule::None, budget)
    })
}

#[tokio::test]
async fn with_a_limit_only_so_many_are_started_as_it_has_room_for() {
    let bounds = Bounds { max_total_tokens: Some(60), ..Bounds::default() };
    for settings in sampling_algorithms(8) {
        let n = if settings.algorithm == AlgorithmName::None { 8 } else { 1 };
        let generator = Scripted::new(alike(8));
        let scope = within(bounds);
        let outcome = ask_for(n, &settings, &generator, &scope).await.unwrap();
        // 11 are spent, and 49 have room for four more; after these there are 5, and one more passes the limit.
        assert_eq!(generator.waves(), [1, 4, 1], "{:?}", settings.algorithm);
        assert_eq!((outcome.stop.reason, outcome.counts()), (StopReason::MaxTotalTokens, (6, 0, 2)));
        assert_eq!(scope.ledger.total().total_tokens(), 66);

        let generator = Scripted::new(alike(8));
        ask_for(n, &settings, &generator, &within(Bounds::default())).await.unwrap();
        assert_eq!(generator.waves()[0], 8, "without a limit all of them start at once");
    }
}

#[tokio::test]
async fn a_stop_rule_starts_no_more_for_a_limit_that_has_room() {
    let bounds = Bounds { max_total_tokens: Some(1000), ..Bounds::default() };
    let differ: Vec<Ending> = (0..10).map(|number| answers(&format!("The answer is {number}."))).collect();
    let generator = Scripted::new(differ);
    let outcome = ask_for(1, &settings(StopRule::Beta, 10), &generator, &within(bounds)).await.unwrap();
    assert_eq!((generator.waves(), outcome.stop.reason), (vec![1, 2, 2, 2, 2, 1], StopReason::Completed));
    // The first is heard out before there is room for others.
    let prime = RunSettings { wave: Wave::Prime, ..settings(StopRule::None, 4) };
    let generator = Scripted::new(alike(4));
    ask_for(1, &prime, &generator, &within(bounds)).await.unwrap();
    assert_eq!(generator.waves(), [1, 3]);
}

#[tokio::test]
async fn what_has_ended_when_a_limit_is_reached_is_heard() {
    // The second wave is dearer than the first let expect: it is over the limit before one of it is heard.
    let bounds = Bounds { max_total_tokens: Some(100), ..Bounds::default() };
    let mut endings = vec![answers_at("The answer is 42.", 50); 8];
    endings[0] = answers_at("The answer is 41.", 10);
    for settings in sampling_algorithms(8) {
        let n = if settings.algorithm == AlgorithmName::None { 8 } else { 1 };
        let generator = Scripted::at_once(endings.clone());
        let outcome = ask_for(n, &settings, &generator, &within(bounds)).await.unwrap();
        assert_eq!((generator.waves(), outcome.counts()), (vec![1, 7], (8, 0, 0)), "{:?}", settings.algorithm);
        match settings.algorithm {
            // What comes after the candidates is beyond the limit.
            AlgorithmName::BestOfN | AlgorithmName::MixtureOfN => {
                assert_eq!((outcome.stop.reason, outcome.selected()), (StopReason::MaxTotalTokens, Some(1)));
            }
            _ => assert_eq!(outcome.stop.reason, StopReason::Completed),
        }
    }
    endings[7] = Ending::Hangs;
    let generator = Scripted::at_once(endings);
    let outcome = ask_for(1, &settings(StopRule::None, 8), &generator, &within(bounds)).await.unwrap();
    assert_eq!((outcome.stop.reason, outcome.counts()), (StopReason::MaxTotalTokens, (7, 0, 1)));
    assert_eq!(outcome.selected(), Some(1));
}

#[tokio::test]
async fn a_limit_that_is_reached_with_the_last_answer_changed_nothing() {
    let bounds = Bounds { max_total_tokens: Some(33), ..Bounds::default() };
    for algorithm in [AlgorithmName::SelfConsistency, AlgorithmName::None] {
        let settings = RunSettings { algorithm, ..settings(StopRule::None, 3) };
        let outcome = ask_for(3, &settings, &Scripted::new(alike(3)), &within(bounds)).await.unwrap();
        assert_eq!((outcome.stop.reason, outcome.counts()), (StopReason::Completed, (3, 0, 0)));
    }
}

#[tokio::test]
async fn no_more_candidates_are_started_than_are_allowed() {
    let limits = Limits { max_candidates: Some(3), ..Limits::default() };
    let capped = RunSettings { limits, ..settings(StopRule::None, 8) };
    let generator = Scripted::new(alike(8));
    let outcome = ask(&capped, &generator).await.unwrap();
    assert_eq!((generator.waves(), outcome.stop.reason, outcome.stop.planned), (vec![3], StopReason::MaxCandidates, 8));
    assert_eq!(outcome.counts(), (3, 0, 5));

    // Two of the three that may start decide.
    let decided = RunSettings { stop_rule: StopRule::Decided, ..capped.clone() };
    assert_eq!(ask(&decided, &Scripted::new(alike(8))).await.unwrap().stop.reason, StopReason::Decided);
    let waves = RunSettings { wave: Wave::Of(2), ..capped.clone() };
    let generator = Scripted::new(alike(8));
    assert_eq!(ask(&waves, &generator).await.unwrap().stop.reason, StopReason::MaxCandidates);
    assert_eq!(generator.waves(), [2, 1]);

    // A limit that is not in the way is not told of.
    let wide = RunSettings { limits: Limits { max_candidates: Some(8), ..Limits::default() }, ..capped.clone() };
    assert_eq!(ask(&wide, &Scripted::new(alike(8))).await.unwrap().stop.reason, StopReason::Completed);

    let generator = Scripted::new(vec![Ending::Fails; 8]);
    assert_eq!(ask(&capped, &generator).await.unwrap_err().failures.len(), 3);
}

#[tokio::test]
async fn a_limit_is_named_only_where_it_cut_something_short() {
    let judged = RunSettings {
        algorithm: AlgorithmName::BestOfN,
        rm_name: Some(RewardName::LlmJudge),
        ..settings(StopRule::None, 2)
    };
    let weighed =
        RunSettings { vote_weight: VoteWeight::Score, algorithm: AlgorithmName::SelfConsistency, ..judged.clone() };
    let endings = || vec![answers("It is 1."), answers("It is 2.")];
    for settings in [judged, weighed] {
        // The candidates and one answer of the judge are within the limit, which is reached with the next.
        for (most, reason) in [(22, StopReason::MaxTotalTokens), (1000, StopReason::Completed)] {
            let bounds = Bounds { max_total_tokens: Some(most), ..Bounds::default() };
            let generator = Scripted::judging(endings(), &["I would not know"; 9]);
            let outcome = ask_for(1, &settings, &generator, &within(bounds)).await.unwrap();
            assert_eq!(outcome.stop.reason, reason, "{:?} {most}", settings.algorithm);
            assert!(outcome.warnings[0].contains("failed"), "{:?}", outcome.warnings);
        }
    }
}

#[test]
fn a_judge_that_answers_badly_is_no_limit() {
    let spent = within(Bounds { max_total_tokens: Some(0), ..Bounds::default() });
    let after = |kind| StopReason::Completed.after_failed_scores(&Failure::new(kind, "so it is"), &spent);
    assert_eq!(after(FailureKind::Malformed), StopReason::Completed);
    assert_eq!(after(FailureKind::Limit), StopReason::MaxTotalTokens);
}
