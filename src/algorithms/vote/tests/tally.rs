//! How votes stand among the first candidates.

use super::*;
use crate::algorithms::vote::{Lead, Tally};

fn recorded(settings: RunSettings, prompt: &Prompt, candidates: &[Option<Completion>]) -> Ballot {
    let mut ballot = ballot(settings, prompt, candidates.len() + 1);
    for (index, candidate) in candidates.iter().enumerate().rev() {
        ballot.record(index, candidate.as_ref());
    }
    ballot
}

fn lead(leading: f64, runner_up: f64) -> Lead {
    Lead { leading, runner_up }
}

#[test]
fn the_two_largest_classes_stand_against_each_other() {
    let answers = ["1", "2", "1", "3", "1"].map(|answer| Some(text(answer)));
    let ballot = recorded(on_text(VoteOn::Number), &prompt(vec![], None), &answers);
    assert_eq!(ballot.tally(5), Some(Tally { leads: vec![lead(3.0, 1.0)], votes: 3, share: 0.6 }));
    assert_eq!(ballot.tally(1), Some(Tally { leads: vec![lead(1.0, 0.0)], votes: 1, share: 1.0 }));
    assert_eq!(ballot.tally(0), None);
    assert_eq!((ballot.ended_prefix(), ballot.completed_among(3)), (5, 3));
}

#[test]
fn abstentions_count_towards_the_whole_and_failed_invalid_and_cut_off_candidates_do_not() {
    let candidates =
        [Some(text("1")), Some(text("nothing")), None, Some(cut_off(text("2"))), Some(text("1")), Some(text(""))];
    let ballot = recorded(on_text(VoteOn::Number), &prompt(vec![], None), &candidates);
    assert_eq!(ballot.tally(6), Some(Tally { leads: vec![lead(2.0, 0.0)], votes: 2, share: 2.0 / 3.0 }));
}

#[test]
fn the_other_side_is_a_rival() {
    let f = || Some(call("f", r#"{"x":1}"#));
    let candidates = [f(), f(), f(), Some(text("5")), Some(text("6"))];
    let ballot = recorded(RunSettings::default(), &prompt(tools(), None), &candidates);
    // The two texts stand against the name, not against the arguments.
    let leads = vec![lead(3.0, 2.0), lead(3.0, 0.0)];
    assert_eq!(ballot.tally(5), Some(Tally { leads, votes: 3, share: 0.6 }));
}

#[test]
fn weights_stand_in_multiples_of_their_mean() {
    let logprobs = [0.0, -std::f64::consts::LN_2, 0.0];
    let mut ballot =
        ballot(on_text(VoteOn::Number), &prompt(vec![], None), 3).weighted(Weighting::Confidence { temperature: 1.0 });
    for (index, (answer, logprob)) in ["1", "2", "1"].into_iter().zip(logprobs).enumerate() {
        ballot.record(index, Some(&likely(text(answer), logprob)));
    }
    let tally = ballot.tally(3).unwrap();
    // 2 and 0.5 of 2.5 for three votes.
    assert!((tally.leads[0].leading - 2.4).abs() < 1e-12 && (tally.leads[0].runner_up - 0.6).abs() < 1e-12);
    assert!((tally.share - 0.8).abs() < 1e-12);
}

#[test]
fn what_no_class_has_won_has_no_tally() {
    let same = || vec![Some(text("one and the same")); 3];
    assert_eq!(recorded(on_text(VoteOn::Similarity), &prompt(vec![], None), &same()).tally(3), None);
    let cut = vec![Some(cut_off(text("1"))); 3];
    assert_eq!(recorded(on_text(VoteOn::Number), &prompt(vec![], None), &cut).tally(3), None);
    let differ = [r#"{"a":1}"#, r#"{"a":2}"#].map(|json| Some(text(json)));
    assert_eq!(recorded(on_text(VoteOn::Json), &prompt(vec![], None), &differ).tally(2), None);
    assert_eq!(recorded(on_text(VoteOn::Number), &prompt(vec![], None), &[None, None]).tally(2), None);
}

#[test]
fn whatever_is_no_valid_vote_breaks_unanimity() {
    let is_unanimous = |third: Option<Completion>| {
        let candidates = [Some(text("2")), Some(text("1")), third, Some(text("1.0"))];
        recorded(on_text(VoteOn::Number), &prompt(tools(), None), &candidates).is_unanimous(1..4)
    };
    assert!(is_unanimous(Some(text("1"))));
    for third in [None, Some(text("2")), Some(text("nothing")), Some(cut_off(text("1"))), Some(call("g", "{}"))] {
        assert!(!is_unanimous(third.clone()), "{third:?}");
    }
    let ballot = recorded(on_text(VoteOn::Similarity), &prompt(vec![], None), &vec![Some(text("1")); 3]);
    assert!(!ballot.is_unanimous(0..3) && !ballot.is_unanimous(0..0));
}
