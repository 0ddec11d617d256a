//! Bounds end a search with the best answer so far, or say why there is none.

use std::time::Duration;

use tokio::time::Instant;

use super::scripted::Turn::{self, Ends, Fails, Hangs, Mumbles, Says};
use super::*;
use crate::algorithms::StopReason;
use crate::completion::FinishReason;
use crate::config::run::Limits;
use crate::failure::FailureKind;
use crate::generator::{Bounds, Phase};

fn within(bounds: Bounds) -> Arc<Run> {
    Arc::new(Run { bounds, ..Run::new(Some(1)) })
}

fn soon() -> Arc<Run> {
    within(Bounds { deadline: Some(Instant::now() + Duration::from_secs(1)), ..Bounds::default() })
}

fn both(budget: usize, search: &SearchSettings) -> [RunSettings; 2] {
    [particles(budget, search.clone()), beams(budget / 2, search.clone())]
}

#[tokio::test]
async fn a_search_takes_as_many_steps_as_it_may_and_no_more() {
    for settings in both(4, &SearchSettings { max_steps: 3, ..SearchSettings::default() }) {
        let generator = Scripted::new(|name, _| Says("a", if name.len() > 1 { 0.4 } else { 0.6 }));
        let outcome = ask(&settings, &generator).await.unwrap();
        assert_eq!((outcome.stop.reason, content(&outcome)), (StopReason::MaxSteps, "aaa"));
        assert_eq!(outcome.winner().finish_reason, FinishReason::Length);
        let used = &outcome.searched.as_ref().unwrap().steps_used;
        assert!(used.iter().flatten().all(|steps| *steps == 3), "{used:?}");
        // One text is one beam, from the first step on.
        assert!(matches!(generator.counts().steps, 12 | 8), "{:?}", generator.counts());
    }
}

#[tokio::test]
async fn the_deadline_leaves_the_best_path_as_far_as_it_had_come() {
    for settings in both(4, &SearchSettings::default()) {
        let generator = Scripted::new(|name, step| match (name, step) {
            ("2", 0) => Says("best", 0.9),
            ("0", 0) => Says("a", 0.3),
            ("1", 0) => Says("b", 0.3),
            (_, 0) => Says("c", 0.3),
            _ => Hangs,
        });
        let outcome = ask_within(&settings, &generator, &soon()).await.unwrap();
        assert_eq!((outcome.stop.reason, content(&outcome)), (StopReason::Deadline, "best"));
        assert_eq!(outcome.winner().finish_reason, FinishReason::Length);
    }
}

#[tokio::test]
async fn what_the_deadline_leaves_without_a_score_gives_way_to_the_best_path_before_it() {
    for settings in both(4, &SearchSettings::default()) {
        let generator = Scripted::new(|name, step| match (name, step) {
            ("2", 0) => Says("best", 0.9),
            ("0", 0) => Says("a", 0.3),
            (_, 0) => Says("b", 0.2),
            ("2", 1) => Mumbles("?"),
            _ => Hangs,
        });
        let outcome = ask_within(&settings, &generator, &soon()).await.unwrap();
        assert_eq!((outcome.stop.reason, content(&outcome)), (StopReason::Deadline, "best"));
        assert!(outcome.warnings.iter().any(|warning| warning.contains("could not score")), "{:?}", outcome.warnings);
    }
}

#[tokio::test]
async fn what_has_ended_by_the_deadline_wins_over_what_has_not() {
    for settings in both(4, &SearchSettings::default()) {
        let generator = Scripted::new(|name, step| match (name, step) {
            (_, 1) => Hangs,
            ("0", _) => Ends("end", 0.5),
            ("1", _) => Says("a", 0.6),
            ("2", _) => Says("b", 0.6),
            _ => Says("c", 0.6),
        });
        let outcome = ask_within(&settings, &generator, &soon()).await.unwrap();
        assert_eq!((outcome.stop.reason, content(&outcome)), (StopReason::Deadline, "end"));
    }
}

#[tokio::test]
async fn a_deadline_before_the_first_step_says_what_to_raise() {
    for settings in both(4, &SearchSettings::default()) {
        let error = ask_within(&settings, &Scripted::new(|_, _| Hangs), &soon()).await.unwrap_err();
        assert_eq!(error.telling().kind, FailureKind::Deadline);
        assert!(error.to_string().contains("limits.deadline_ms"), "{error}");
        let past = within(Bounds { deadline: Some(Instant::now()), ..Bounds::default() });
        let generator = Scripted::new(|_, _| Fails);
        let error = ask_within(&settings, &generator, &past).await.unwrap_err();
        assert_eq!((error.telling().kind, generator.counts().steps), (FailureKind::Deadline, 0));
    }
}

#[tokio::test]
async fn a_deadline_changes_nothing_of_what_is_decided_before_it() {
    let script = |name: &str, step: usize| -> Turn {
        let r = (name.bytes().map(u32::from).sum::<u32>() as usize * 7 + step * 5) % 10;
        if step == 4 { Ends("!", r as f64 / 10.0) } else { Says(["a", "b", "c", "d"][r % 4], r as f64 / 10.0) }
    };
    for settings in both(8, &SearchSettings::default()) {
        let free = ask(&settings, &Scripted::new(script)).await.unwrap();
        let later = Instant::now() + Duration::from_secs(3600);
        let bound = within(Bounds { deadline: Some(later), ..Bounds::default() });
        let bound = ask_within(&settings, &Scripted::new(script), &bound).await.unwrap();
        assert_eq!(drawn(&free), drawn(&bound));
    }
}

#[tokio::test]
async fn tokens_are_spent_up_to_their_limit() {
    for settings in both(4, &SearchSettings::default()) {
        let generator = Scripted::new(|name, _| Says(if name.starts_with('0') { "a" } else { "b" }, 0.5));
        let bounds = Bounds { max_total_tokens: Some(6), ..Bounds::default() };
        // Four steps of a token each, and four more.
        let outcome = ask_within(&settings, &generator, &within(bounds)).await.unwrap();
        assert_eq!((outcome.stop.reason, content(&outcome)), (StopReason::MaxTotalTokens, "aa"));
        assert_eq!(generator.counts().steps, 8);
    }
}

#[tokio::test]
async fn no_more_paths_are_held_than_candidates_may_be_started() {
    for (mut settings, most) in both(4, &SearchSettings::default()).into_iter().zip([3, 3]) {
        settings.limits = Limits { max_candidates: Some(most), ..Limits::default() };
        let generator = Scripted::new(|name, step| match (name, step) {
            (_, 2) => Ends("!", 0.5),
            ("0", _) => Says("a", 0.6),
            ("1", _) => Says("b", 0.5),
            _ => Says("c", 0.4),
        });
        let scope = Arc::new(Run::new(Some(1)));
        let outcome = ask_within(&settings, &generator, &scope).await.unwrap();
        let counts = generator.counts();
        assert_eq!((counts.opened, counts.most, counts.steps), (most, most, 3 * most));
        assert_eq!((outcome.stop.reason, outcome.stop.planned), (StopReason::MaxCandidates, 4));
        let spent = scope.ledger.of_phase(Phase::Generate);
        assert!(spent.candidates > 4, "it tells of steps");
        assert_eq!(outcome.started(&spent), most, "the fourth was never opened");
    }
}
