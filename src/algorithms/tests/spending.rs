//! What the stop rules spend on a distribution of questions, against a run that hears every candidate out.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::scripted::{Ending, Scripted, answers};
use super::*;
use crate::config::run::{StopRule, VoteOn, Wave};

const QUESTIONS: usize = 200;
const BUDGET: usize = 40;

/// The answers to one question, of which one is given with a probability from 0.3 to 0.95 and four others share
/// the rest.
fn question(random: &mut ChaCha12Rng) -> Vec<Ending> {
    let likely = random.random_range(0.3..0.95);
    let mut answer = || {
        let is_likely = random.random_bool(likely);
        let other: u32 = random.random_range(1..5);
        answers(&format!("The answer is {}.", if is_likely { 0 } else { other }))
    };
    (0..BUDGET).map(|_| answer()).collect()
}

/// The winner of every question, and how many candidates were started and how many heard, on average.
async fn spend(stop_rule: StopRule) -> (Vec<String>, f64, f64) {
    let mut random = ChaCha12Rng::seed_from_u64(7);
    let (mut winners, mut started, mut heard) = (Vec::new(), 0, 0);
    let settings =
        RunSettings { stop_rule, wave: Wave::Auto, budget: BUDGET, vote_on: VoteOn::Answer, ..RunSettings::default() };
    for _ in 0..QUESTIONS {
        let generator = Scripted::new(question(&mut random));
        let outcome = ask(&settings, &generator).await.unwrap();
        winners.push(outcome.verdict.as_ref().unwrap().response_counts[0].0.clone());
        started += generator.waves().iter().sum::<usize>();
        heard += outcome.counts().0;
    }
    (winners, started as f64 / QUESTIONS as f64, heard as f64 / QUESTIONS as f64)
}

#[tokio::test]
async fn every_stop_rule_spends_less_and_keeps_the_winner() {
    let (whole, _, _) = spend(StopRule::None).await;
    for (rule, least_agreement, most_heard) in [
        (StopRule::Decided, 1.0, 35.0),
        (StopRule::Beta, 0.95, 20.0),
        (StopRule::Window, 0.9, 35.0),
        (StopRule::Threshold, 0.8, 20.0),
    ] {
        let (winners, started, heard) = spend(rule).await;
        let same = winners.iter().zip(&whole).filter(|(one, other)| one == other).count();
        let agreement = same as f64 / QUESTIONS as f64;
        println!(
            "{}: {started:.1} of {BUDGET} started, {heard:.1} heard, {agreement:.3} the same winner",
            rule.as_str()
        );
        assert!(agreement >= least_agreement, "{rule:?}: {agreement}");
        assert!(heard <= most_heard, "{rule:?}: {heard}");
    }
}
