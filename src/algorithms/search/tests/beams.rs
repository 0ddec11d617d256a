//! Beam search against what was worked out by hand.

use super::scripted::Turn::{Ends, Says};
use super::*;
use crate::algorithms::StopReason;

#[tokio::test]
async fn the_best_beams_are_kept_and_each_is_continued_in_as_many_ways() {
    let generator = Scripted::by_name(&[
        ("0", &[Says("a", 0.8), Says("e", 0.3)]),
        ("1", &[Says("b", 0.2)]),
        ("2", &[Says("c", 0.9), Says("f", 0.6), Ends("i", 0.5)]),
        ("3", &[Says("d", 0.1)]),
        ("0+1.1", &[Says("-", 0.0), Ends("g", 0.4)]),
        ("2+1.1", &[Says("-", 0.0), Says("h", 0.7), Ends("j", 0.2)]),
        ("2+2.1", &[Says("-", 0.0), Says("-", 0.0), Ends("k", 0.55)]),
        ("2+1.1+2.1", &[Says("-", 0.0), Says("-", 0.0), Ends("l", 0.3)]),
    ]);
    let outcome = ask(&beams(2, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!(
        drawn(&outcome),
        [
            "0 < - a 0.800 kept",
            "1 < - b 0.200 pruned",
            "2 < - c 0.900 kept",
            "3 < - d 0.100 pruned",
            // The better beam's continuations come first.
            "4 < 2 f 0.600 kept",
            "5 < 2 h 0.700 kept",
            "6 < 0 e 0.300 pruned",
            "7 < 0 g 0.400 finished [0]",
            "8 < 5 j 0.200 finished [1]",
            "9 < 5 l 0.300 finished [2]",
            "10 < 4 i 0.500 finished [3]",
            "11 < 4 k 0.550 finished [4]",
        ]
    );
    assert_eq!((content(&outcome), outcome.selected()), ("cfk", Some(4)));
    assert_eq!((outcome.stop.reason, outcome.counts()), (StopReason::Completed, (5, 0, 0)));
    assert_eq!(outcome.searched.as_ref().unwrap().steps_used, [2, 3, 3, 3, 3].map(Some));
    let counts = generator.counts();
    assert_eq!((counts.opened, counts.forked, counts.steps, counts.most), (4, 4, 12, 4));
}

#[tokio::test]
async fn paths_of_one_text_are_one_path_unless_that_is_not_wanted() {
    let script = |name: &str, step: usize| match (name, step) {
        ("0", 0) => Says("a", 0.5),
        ("1", 0) => Says("a", 0.9),
        ("2", 0) => Says("b", 0.3),
        (_, 0) => Says("c", 0.2),
        _ => Ends("!", 0.5),
    };
    let generator = Scripted::new(script);
    let outcome = ask(&beams(2, SearchSettings::default()), &generator).await.unwrap();
    assert_eq!(
        drawn(&outcome)[..4],
        ["0 < - a 0.500 pruned", "1 < - a 0.900 kept", "2 < - b 0.300 kept", "3 < - c 0.200 pruned"]
    );
    // Of the two ends of each beam that say the same one is left.
    assert_eq!((outcome.counts(), outcome.candidates.len()), ((2, 0, 2), 4));

    let generator = Scripted::new(script);
    let outcome =
        ask(&beams(2, SearchSettings { dedup: false, ..SearchSettings::default() }), &generator).await.unwrap();
    assert_eq!(
        drawn(&outcome)[..4],
        ["0 < - a 0.500 kept", "1 < - a 0.900 kept", "2 < - b 0.300 pruned", "3 < - c 0.200 pruned"]
    );
    assert_eq!(outcome.counts(), (4, 0, 0));
}

#[tokio::test]
async fn a_path_that_ends_leaves_its_place_to_another_and_wins_over_what_has_not_ended() {
    let generator = Scripted::by_name(&[
        ("0", &[Ends("a", 0.4)]),
        ("1", &[Says("b", 0.9), Says("e", 0.95)]),
        ("2", &[Says("c", 0.3), Says("f", 0.9)]),
        ("3", &[Says("d", 0.2)]),
        ("1+1.1", &[Says("-", 0.0), Says("g", 0.1)]),
        ("2+1.1", &[Says("-", 0.0), Says("h", 0.2)]),
    ]);
    let search = SearchSettings { max_steps: 2, ..SearchSettings::default() };
    let outcome = ask(&beams(2, search), &generator).await.unwrap();
    assert_eq!(drawn(&outcome)[2], "2 < - c 0.300 kept", "the end takes no place");
    assert_eq!((content(&outcome), outcome.stop.reason), ("a", StopReason::MaxSteps));
    let verdict = outcome.verdict.as_ref().unwrap();
    assert_eq!(verdict.ranking, [0, 1, 2]);
    assert_eq!(verdict.set_aside.iter().map(|aside| aside.candidate).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn of_equal_beams_the_first_are_kept() {
    let generator = Scripted::new(|name, step| match (name, step) {
        (_, 1) => Ends("!", 0.5),
        ("0", _) => Says("a", 0.5),
        ("1", _) => Says("b", 0.5),
        ("2", _) => Says("c", 0.5),
        _ => Says("d", 0.5),
    });
    let outcome = ask(&beams(2, SearchSettings::default()), &generator).await.unwrap();
    let kept: Vec<bool> = drawn(&outcome)[..4].iter().map(|line| line.ends_with("kept")).collect();
    assert_eq!((kept, content(&outcome)), (vec![true, true, false, false], "a!"));
}

#[tokio::test]
async fn one_beam_of_one_path_is_a_path() {
    let generator = Scripted::by_name(&[("0", &[Says("a", 0.5), Ends("b", 0.1)])]);
    let settings = RunSettings { budget: 1, ..beams(1, SearchSettings::default()) };
    assert_eq!(content(&ask(&settings, &generator).await.unwrap()), "ab");
    assert_eq!(generator.counts().forked, 0);
}
