//! What is started, when, and where each stop rule ends a run.

use proptest::prelude::*;

use super::scripted::{Ending, Scripted, answers, answers_likely};
use super::*;
use crate::algorithms::StopReason;
use crate::config::run::{AlgorithmName, StopRule, VoteOn, VoteWeight, Wave};
use crate::generator::Generator;

fn settings(stop_rule: StopRule, wave: Wave, budget: usize) -> RunSettings {
    RunSettings { stop_rule, wave, budget, vote_on: VoteOn::Answer, ..RunSettings::default() }
}

fn alike(count: usize) -> Vec<Ending> {
    vec![answers("The answer is 42."); count]
}

/// Runs to the end and tells the waves, why it stopped, and how many candidates completed.
async fn run_alike(settings: &RunSettings) -> (Vec<usize>, StopReason, usize) {
    let generator = Scripted::new(alike(settings.budget));
    let outcome = ask(settings, &generator).await.unwrap();
    (generator.waves(), outcome.stop.reason, outcome.counts().0)
}

#[tokio::test]
async fn each_rule_starts_as_many_as_it_needs_and_no_more() {
    for (rule, waves, reason, completed) in [
        (StopRule::None, vec![40], StopReason::Completed, 40),
        (StopRule::Decided, vec![40], StopReason::Decided, 20),
        (StopRule::Beta, vec![4], StopReason::Beta, 4),
        (StopRule::Window, vec![5], StopReason::Window, 5),
        (StopRule::Threshold, vec![2], StopReason::Threshold, 2),
    ] {
        assert_eq!(run_alike(&settings(rule, Wave::Auto, 40)).await, (waves, reason, completed), "{rule:?}");
    }
}

#[tokio::test]
async fn waves_grow_as_each_rule_says_while_answers_differ() {
    let differ: Vec<Ending> = (0..20).map(|number| answers(&format!("The answer is {number}."))).collect();
    for (rule, waves) in [
        (StopRule::Beta, vec![4, 2, 2, 2, 2, 2, 2, 2, 2]),
        (StopRule::Window, vec![5, 5, 5, 5]),
        (StopRule::Threshold, vec![2, 2, 4, 8, 4]),
    ] {
        let generator = Scripted::new(differ.clone());
        let outcome = ask(&settings(rule, Wave::Auto, 20), &generator).await.unwrap();
        assert_eq!((generator.waves(), outcome.stop.reason), (waves, StopReason::Completed), "{rule:?}");
        assert_eq!(outcome.selected(), Some(0));
    }
}

#[tokio::test]
async fn what_no_outcome_can_avoid_is_said_to_be_needed() {
    let differ: Vec<Ending> = (0..20).map(|number| answers(&format!("The answer is {number}."))).collect();
    for (rule, wave, answers, needed) in [
        (StopRule::None, Wave::Auto, 1, vec![20]),
        (StopRule::None, Wave::Of(8), 1, vec![8, 8, 4]),
        (StopRule::Decided, Wave::Auto, 1, vec![11]),
        (StopRule::Decided, Wave::Of(6), 1, vec![6, 5, 1, 1]),
        (StopRule::Decided, Wave::Auto, 2, vec![20]),
        (StopRule::Decided, Wave::Prime, 1, vec![1, 10]),
        // Four of one mind stay so with 0.97; after four that differ, one to one, it takes more than the next wave has.
        (StopRule::Beta, Wave::Auto, 1, vec![4, 2, 2, 2, 2, 2, 2, 2, 2]),
        (StopRule::Window, Wave::Auto, 1, vec![5, 5, 5, 5]),
        (StopRule::Window, Wave::Of(8), 1, vec![5, 2, 4]),
        (StopRule::Threshold, Wave::Auto, 1, vec![2, 2, 4, 8, 4]),
        (StopRule::Threshold, Wave::Auto, 5, vec![2, 2, 4, 8, 4]),
        (StopRule::Threshold, Wave::Of(10), 1, vec![2, 10]),
    ] {
        let generator = Scripted::new(differ.clone());
        let scope = Arc::new(Run::new(Some(1)));
        ask_for(answers, &settings(rule, wave, 20), &generator, &scope).await.unwrap();
        assert_eq!(generator.needed(), needed, "{rule:?} {wave:?} {answers}");
    }
    // What cannot be decided is needed whole.
    let generator = Scripted::new(alike(8));
    let similar = RunSettings { vote_on: VoteOn::Similarity, ..settings(StopRule::Decided, Wave::Auto, 8) };
    ask(&similar, &generator).await.unwrap();
    assert_eq!(generator.needed(), [8]);
}

#[tokio::test]
async fn the_nearer_a_rule_is_to_its_end_the_fewer_are_needed() {
    // Three to none and one that abstains: one more of the same mind suffices for 0.95, though two are started.
    let mut endings = vec![answers("I do not know."), answers("The answer is 1.")];
    endings.extend(vec![answers("The answer is 1."); 6]);
    let generator = Scripted::new(endings);
    let outcome = ask(&settings(StopRule::Beta, Wave::Auto, 8), &generator).await.unwrap();
    assert_eq!((generator.waves(), generator.needed()), (vec![4, 2], vec![4, 1]));
    assert_eq!(outcome.stop.reason, StopReason::Beta);
}

#[tokio::test]
async fn a_number_is_the_size_of_a_wave_whatever_the_rule() {
    for (rule, waves, completed) in [
        (StopRule::None, vec![3, 3, 2], 8),
        // Four of eight decide: the second wave is not heard out, the third never started.
        (StopRule::Decided, vec![3, 3], 4),
        (StopRule::Beta, vec![3, 3], 4),
        (StopRule::Window, vec![3, 3], 5),
    ] {
        let ran = run_alike(&settings(rule, Wave::Of(3), 8)).await;
        assert_eq!((ran.0, ran.2), (waves, completed), "{rule:?}");
    }
    assert_eq!(run_alike(&settings(StopRule::Decided, Wave::Of(1), 8)).await.0, vec![1; 4]);
}

#[tokio::test]
async fn the_named_algorithms_are_self_consistency_with_their_rule() {
    for (algorithm, reason) in [
        (AlgorithmName::AdaptiveSelfConsistency, StopReason::Threshold),
        (AlgorithmName::BetaSelfConsistency, StopReason::Beta),
    ] {
        let settings = RunSettings { algorithm, ..settings(StopRule::None, Wave::Auto, 16) };
        assert_eq!(run_alike(&settings).await.1, reason);
    }
}

#[tokio::test]
async fn the_first_candidate_warms_the_cache_and_the_rest_follow_at_its_first_token() {
    let generator = Scripted::new(alike(6));
    let outcome = ask(&settings(StopRule::None, Wave::Prime, 6), &generator).await.unwrap();
    assert_eq!((generator.waves(), generator.live()), (vec![1, 5], vec![true, false]));
    assert_eq!(outcome.counts(), (6, 0, 0));
    // With a rule that needs but two, the rest is started all the same.
    let generator = Scripted::new(alike(6));
    let outcome = ask(&settings(StopRule::Threshold, Wave::Prime, 6), &generator).await.unwrap();
    assert_eq!((generator.waves(), outcome.stop.reason), (vec![1, 5], StopReason::Threshold));
}

#[tokio::test]
async fn a_first_candidate_that_fails_before_its_first_token_does_not_hold_up_the_rest() {
    let mut endings = alike(4);
    endings[0] = Ending::Fails;
    let generator = Scripted::new(endings);
    let outcome = ask(&settings(StopRule::None, Wave::Prime, 4), &generator).await.unwrap();
    assert_eq!((generator.waves(), outcome.counts()), (vec![1, 3], (3, 1, 0)));
}

#[tokio::test]
async fn what_was_never_started_is_saved() {
    let generator = Scripted::new(alike(40));
    let scope = Arc::new(Run::new(Some(1)));
    let outcome = ask_for(1, &settings(StopRule::Beta, Wave::Auto, 40), &generator, &scope).await.unwrap();
    let spent = scope.ledger.by_phase()[&crate::generator::Phase::Generate];
    assert_eq!((outcome.counts(), spent.calls, outcome.saved_tokens(&spent, false)), ((4, 0, 36), 4, 36));
}

#[tokio::test]
async fn a_candidate_that_came_after_those_that_suffice_does_not_vote() {
    // The last of the wave comes first: the first two, which come after it, have sufficed without it.
    let endings = vec![answers("The answer is 1."), answers("The answer is 1."), answers("The answer is 2.")];
    let generator = Scripted::arriving(endings, vec![2, 3, 1]);
    let settings = settings(StopRule::Threshold, Wave::Of(3), 3);
    let outcome = ask(&settings, &generator).await.unwrap();
    let verdict = outcome.verdict.as_ref().unwrap();
    assert_eq!((outcome.stop.reason, outcome.counts()), (StopReason::Threshold, (3, 0, 0)));
    assert_eq!(verdict.response_counts, [("1".to_owned(), 2)]);
    assert_eq!((verdict.set_aside[0].candidate, verdict.ranking.as_slice()), (2, [0, 1, 2].as_slice()));
}

#[tokio::test]
async fn a_failed_candidate_is_not_replaced() {
    let mut endings = alike(6);
    endings[1] = Ending::Fails;
    let generator = Scripted::new(endings);
    let outcome = ask(&settings(StopRule::Beta, Wave::Auto, 6), &generator).await.unwrap();
    // Three of four are not enough, five are.
    assert_eq!((generator.waves(), outcome.counts()), (vec![4, 2], (4, 1, 1)));
    let generator = Scripted::new(vec![Ending::Fails; 6]);
    let error = ask(&settings(StopRule::Beta, Wave::Auto, 6), &generator).await.unwrap_err();
    assert_eq!((error.failures.len(), generator.waves()), (6, vec![4, 2]));
}

#[tokio::test]
async fn a_confident_minority_outweighs_a_doubtful_majority() {
    // exp(-0.1) = 0.90 against 2 exp(-2) = 0.27.
    let endings =
        vec![answers_likely("It is 1.", -2.0), answers_likely("It is 2.", -0.1), answers_likely("It is 1.", -2.0)];
    let generator = Scripted::new(endings);
    let weighted = RunSettings { vote_weight: VoteWeight::Confidence, ..settings(StopRule::None, Wave::Auto, 3) };
    assert!(plan(&weighted, 1, &generator).signals(generator.signals("m")).unwrap().is_some());
    let outcome = ask(&weighted, &generator).await.unwrap();
    assert_eq!(outcome.selected(), Some(1));
    let verdict = outcome.verdict.unwrap();
    assert_eq!(verdict.response_counts, [("2".to_owned(), 1), ("1".to_owned(), 2)]);
    let weights = verdict.weights.unwrap();
    // 0.90484 / (0.90484 + 2 · 0.13534) = 0.769742.
    assert!((weights[0].1 - 0.769_742).abs() < 1e-5, "{weights:?}");
    assert!((weights[1].1 - 0.230_258).abs() < 1e-5, "{weights:?}");
    // A high temperature lets every vote weigh the same.
    let flat = RunSettings { weight_temperature: 1e9, ..weighted };
    assert_eq!(ask(&flat, &generator).await.unwrap().selected(), Some(0));
}

proptest! {
    /// The replay law: neither the order of arrival nor the size of the waves changes a decision.
    #[test]
    fn the_same_candidates_give_the_same_decision_however_they_arrive(
        run in prop::collection::vec((0usize..6, any::<u32>(), -3.0f64..0.0), 2..24),
        rule in prop::sample::select(vec![StopRule::Beta, StopRule::Window, StopRule::Threshold]),
        weight in prop::sample::select(vec![VoteWeight::None, VoteWeight::Confidence]),
        wave in 1usize..24,
    ) {
        let ending = |&(kind, _, logprob): &(usize, u32, f64)| match kind {
            0..=2 => answers_likely("The answer is 1.", logprob),
            3 => answers_likely("The answer is 2.", logprob),
            4 => answers("I do not know."),
            _ => Ending::Fails,
        };
        let endings: Vec<Ending> = run.iter().map(ending).collect();
        let arrival: Vec<u32> = run.iter().map(|(_, arrival, _)| *arrival).collect();
        let base = RunSettings { vote_weight: weight, window: 3, ..settings(rule, Wave::Of(1), run.len()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let decide = |wave: Wave, arrival: Vec<u32>| {
            let generator = Scripted::arriving(endings.clone(), arrival);
            let outcome = runtime.block_on(ask(&RunSettings { wave, ..base.clone() }, &generator)).ok();
            outcome.map(|outcome| {
                let verdict = outcome.verdict.as_ref().unwrap();
                (outcome.stop.reason, outcome.selected(), verdict.response_counts.clone(), verdict.weights.clone())
            })
        };
        let one_by_one = decide(Wave::Of(1), Vec::new());
        prop_assert_eq!(&decide(Wave::Of(wave), arrival.clone()), &one_by_one);
        prop_assert_eq!(&decide(Wave::Auto, arrival.clone()), &one_by_one);
        prop_assert_eq!(&decide(Wave::Of(run.len()), arrival), &one_by_one);
    }
}
