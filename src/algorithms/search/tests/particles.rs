//! Particle filtering against what was worked out by hand.

use super::scripted::Turn::{Ends, Says};
use super::*;
use crate::algorithms::StopReason;
use crate::config::run::{FinalSelect, ParticleWeights, Resample, Resampling};

#[track_caller]
fn assert_log_weights(outcome: &Outcome, expected: &[f64]) {
    let weights = outcome.searched.as_ref().unwrap().log_weights.clone().unwrap();
    let weights: Vec<f64> = weights.into_iter().map(Option::unwrap).collect();
    assert_eq!(weights.len(), expected.len());
    for (weight, expected) in weights.iter().zip(expected) {
        assert!((weight - expected).abs() < 1e-9, "{weights:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn particles_are_drawn_anew_by_the_odds_of_their_scores() {
    // Odds of 9 and 1/9: shares of 81/82 and 1/82, so that both copies are of the first unless the offset is above 0.975.
    let generator = Scripted::by_name(&[
        ("0", &[Says("a", 0.9), Ends("c", 0.2)]),
        ("0+1.1", &[Says("never", 0.0), Ends("d", 0.7)]),
        ("1", &[Says("b", 0.1)]),
    ]);
    let outcome = ask(&particles(2, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!(
        drawn(&outcome),
        ["0 < - a 0.900 kept", "1 < - b 0.100 pruned", "2 < 0 c 0.200 finished [0]", "3 < 0 d 0.700 finished [1]",]
    );
    assert_eq!((content(&outcome), outcome.selected()), ("ad", Some(1)));
    assert_eq!((outcome.stop.reason, outcome.stop.planned, outcome.counts()), (StopReason::Completed, 2, (2, 0, 0)));
    let scores: Vec<f64> = outcome.scores.as_ref().unwrap().iter().map(|score| score.unwrap()).collect();
    assert!((scores[0] - 0.2).abs() < 1e-12 && (scores[1] - 0.7).abs() < 1e-12, "{scores:?}");
    let ln = f64::ln;
    assert_log_weights(&outcome, &[ln(0.25), ln(7.0 / 3.0)]);
    assert_eq!(outcome.searched.as_ref().unwrap().steps_used, [Some(2), Some(2)]);
    let counts = generator.counts();
    assert_eq!((counts.opened, counts.forked, counts.steps, counts.answered), (2, 1, 4, 0));
    assert_eq!(counts.most, 2, "what is given up is dropped before others are forked");
}

#[tokio::test]
async fn particles_of_equal_scores_keep_their_own_branches() {
    for resampling in [Resampling::Systematic, Resampling::Residual] {
        let generator = Scripted::new(|_, step| if step < 3 { Says("a", 0.5) } else { Ends("b", 0.5) });
        let search = SearchSettings { resampling, ..SearchSettings::default() };
        let outcome = ask(&particles(4, search), &generator).await.unwrap();
        let counts = generator.counts();
        assert_eq!((counts.forked, counts.steps, counts.most), (0, 16, 4), "{resampling:?}");
        assert_eq!((content(&outcome), outcome.selected()), ("aaab", Some(0)), "the first of equals");
    }
}

#[tokio::test]
async fn scores_of_nothing_at_all_weigh_the_same() {
    let generator = Scripted::new(|_, step| if step < 2 { Says("a", 0.0) } else { Ends("b", 0.0) });
    let outcome = ask(&particles(3, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!((generator.counts().forked, outcome.selected()), (0, Some(0)));
    // At the lower end of what scores are clipped to.
    let low = (1e-7_f64 / (1.0 - 1e-7)).ln();
    assert_log_weights(&outcome, &[low; 3]);
}

#[tokio::test]
async fn one_particle_goes_its_way() {
    let generator = Scripted::by_name(&[("0", &[Says("a", 0.1), Says("b", 0.9), Ends("c", 0.3)])]);
    let outcome = ask(&particles(1, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!((content(&outcome), generator.counts().forked), ("abc", 0));
}

#[tokio::test]
async fn what_has_ended_stays_and_is_drawn_again_with_the_others() {
    // Path 0 ends at once, with odds that leave nothing for the other two, so that all three become it.
    let generator =
        Scripted::by_name(&[("0", &[Ends("a", 0.999)]), ("1", &[Says("b", 0.001)]), ("2", &[Says("c", 0.001)])]);
    let outcome = ask(&particles(3, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!(drawn(&outcome), ["0 < - a 0.999 finished [0]", "1 < - b 0.001 pruned", "2 < - c 0.001 pruned"]);
    assert_eq!((outcome.counts(), generator.counts().forked), ((3, 0, 0), 0), "an answer is copied without a branch");
    assert_eq!(outcome.verdict.as_ref().unwrap().agreement, 1.0);
    assert_eq!(outcome.searched.unwrap().steps_used, [Some(1); 3]);
}

#[tokio::test]
async fn an_end_may_be_given_up_too() {
    let generator = Scripted::by_name(&[
        ("0", &[Ends("a", 0.001)]),
        ("1", &[Says("b", 0.999), Ends("c", 0.5)]),
        ("1+1.1", &[Says("never", 0.0), Ends("d", 0.6)]),
    ]);
    let outcome = ask(&particles(2, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!(drawn(&outcome)[0], "0 < - a 0.001 pruned");
    assert_eq!(content(&outcome), "bd");
}

#[tokio::test]
async fn incremental_weights_add_up_until_particles_are_drawn_anew() {
    // ESS of odds 4 and 1 after the first step: shares 0.8 and 0.2, 1 / 0.68 = 1.47, no less than half of two. What a
    // particle has gained over all steps is its last g. The one that has ended gains nothing more.
    let generator =
        Scripted::by_name(&[("0", &[Says("a", 0.8), Says("b", 0.6), Ends("c", 0.75)]), ("1", &[Ends("d", 0.5)])]);
    let search =
        SearchSettings { weights: ParticleWeights::Incremental, resample: Resample::Ess, ..SearchSettings::default() };
    let outcome = ask(&particles(2, search), &generator).await.unwrap();
    let ln = f64::ln;
    assert_log_weights(&outcome, &[ln(3.0), 0.0]);
    assert_eq!((generator.counts().forked, content(&outcome)), (0, "abc"));
}

#[tokio::test]
async fn incremental_weights_begin_anew_with_the_particles() {
    // Three of four weigh nothing beside the first: the effective sample size is 1, below 2.
    let generator = Scripted::new(|name, step| match (name, step) {
        ("0", 0) => Says("a", 0.9999),
        (_, 0) => Says("b", 0.0001),
        ("0", _) => Ends("c", 0.9999),
        ("0+1.1", _) => Ends("d", 0.5),
        _ => Ends("e", 0.9999),
    });
    let search =
        SearchSettings { weights: ParticleWeights::Incremental, resample: Resample::Ess, ..SearchSettings::default() };
    let outcome = ask(&particles(4, search), &generator).await.unwrap();
    assert_eq!(generator.counts().forked, 3);
    // Each has gained what its g has since: from ln 9999 to ln 9999, or to 0.
    assert_log_weights(&outcome, &[0.0, -9999.0_f64.ln(), 0.0, 0.0]);
}

#[tokio::test]
async fn with_absolute_weights_an_end_is_weighed_by_its_score_at_every_later_step() {
    let generator = Scripted::by_name(&[("0", &[Ends("a", 0.5)]), ("1", &[Says("b", 0.5), Ends("c", 0.8)])]);
    let outcome = ask(&particles(2, SearchSettings::default()), &generator).await.unwrap();
    assert_log_weights(&outcome, &[0.0, 4.0_f64.ln()]);
    assert_eq!(content(&outcome), "bc");
}

#[tokio::test]
async fn the_answer_may_be_drawn_by_the_weights() {
    const RUNS: i64 = 600;
    let search = SearchSettings { final_select: FinalSelect::Sample, ..SearchSettings::default() };
    let mut second = 0;
    for seed in 0..RUNS {
        // Odds of 1 and 3.
        let generator = Scripted::by_name(&[("0", &[Ends("a", 0.5)]), ("1", &[Ends("b", 0.75)])]);
        let scope = Arc::new(Run::new(Some(seed)));
        let outcome = ask_within(&particles(2, search.clone()), &generator, &scope).await.unwrap();
        assert_eq!(outcome.verdict.as_ref().unwrap().vote, "sample");
        second += usize::from(outcome.selected() == Some(1));
    }
    let (mean, deviation) = (0.75 * RUNS as f64, (RUNS as f64 * 0.75 * 0.25).sqrt());
    assert!((second as f64 - mean).abs() < 4.0 * deviation, "{second} of {RUNS}");
}
