//! The same seed makes the same search, whoever was the first.

use super::scripted::Turn::{self, Ends, Says};
use super::*;
use crate::config::run::{FinalSelect, ParticleWeights, Resample, Resampling};

/// What paths say follows from their names, which follow from what was decided.
fn script(name: &str, step: usize) -> Turn {
    let hash = name.bytes().fold(step as u32 + 7, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let sure = f64::from(hash % 97) / 100.0 + 0.01;
    let text = ["a", "b", "c", "d", "e"][hash as usize % 5];
    if hash.is_multiple_of(6) && step > 0 || step == 7 { Ends(text, sure) } else { Says(text, sure) }
}

/// A run's decisions: its tree, and who won.
async fn decisions(
    settings: &RunSettings,
    seed: i64,
    pace: impl Fn(&str) -> usize + Send + Sync + 'static,
) -> Vec<String> {
    let generator = Scripted::paced(script, pace);
    let outcome = ask_within(settings, &generator, &Arc::new(Run::new(Some(seed)))).await.unwrap();
    let mut decisions = drawn(&outcome);
    decisions.push(format!("{:?} {:?}", outcome.selected(), outcome.searched.as_ref().unwrap().log_weights));
    decisions
}

fn all() -> Vec<RunSettings> {
    let mut all = vec![beams(4, SearchSettings::default())];
    for resampling in [Resampling::Systematic, Resampling::Multinomial, Resampling::Stratified, Resampling::Residual] {
        let search = SearchSettings { resampling, final_select: FinalSelect::Sample, ..SearchSettings::default() };
        all.push(particles(8, search.clone()));
        let weights = ParticleWeights::Incremental;
        all.push(particles(8, SearchSettings { weights, resample: Resample::Ess, ..search }));
    }
    all
}

#[tokio::test]
async fn a_search_is_the_same_again_in_whatever_order_steps_arrive() {
    for settings in all() {
        for seed in 0..8 {
            let first = decisions(&settings, seed, |_| 1).await;
            let other = decisions(&settings, seed, |name| name.bytes().map(usize::from).sum::<usize>() % 7).await;
            assert_eq!(first, other, "{:?} {seed}", settings.search);
            let reversed = decisions(&settings, seed, |name| 200 - usize::from(name.as_bytes()[0])).await;
            assert_eq!(first, reversed, "{:?} {seed}", settings.search);
        }
    }
}

#[tokio::test]
async fn another_seed_draws_other_particles() {
    let settings = particles(8, SearchSettings { resampling: Resampling::Multinomial, ..SearchSettings::default() });
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..8 {
        seen.insert(decisions(&settings, seed, |_| 1).await);
    }
    assert!(seen.len() > 4, "{} of 8 differ", seen.len());
}
