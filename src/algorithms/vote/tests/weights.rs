//! What votes weigh, and how all candidates rank.

use super::*;

fn weighed(weighting: Weighting, settings: RunSettings, candidates: &[Completion], scores: &[Option<f64>]) -> Verdict {
    let mut ballot = ballot(settings, &prompt(vec![], None), candidates.len()).weighted(weighting);
    for (index, completion) in candidates.iter().enumerate() {
        ballot.record(index, Some(completion));
    }
    ballot.weigh(scores);
    ballot.verdict().unwrap()
}

fn by_confidence(candidates: &[Completion]) -> Verdict {
    let mut ballot = ballot(on_text(VoteOn::Number), &prompt(vec![], None), candidates.len())
        .weighted(Weighting::Confidence { temperature: 1.0 });
    for (index, completion) in candidates.iter().enumerate() {
        ballot.record(index, Some(completion));
    }
    ballot.verdict().unwrap()
}

fn by_score(candidates: &[Completion], scores: &[Option<f64>]) -> Verdict {
    weighed(Weighting::Scores, on_text(VoteOn::Number), candidates, scores)
}

fn shares(verdict: &Verdict) -> Vec<(&str, f64)> {
    let weights = verdict.weights.as_ref().unwrap().iter();
    weights.map(|(label, share)| (label.as_str(), (share * 1000.0).round() / 1000.0)).collect()
}

#[test]
fn counts_stay_counts_and_weights_are_told_as_shares() {
    // e^-0.1 = 0.9048; 2 e^-1.2 = 0.6024; of 1.5072.
    let verdict = by_confidence(&[likely(text("1"), -1.2), likely(text("2"), -0.1), likely(text("1"), -1.2)]);
    assert_eq!(verdict.selected, 1);
    assert_eq!(counts(&verdict), [("2", 1), ("1", 2)]);
    assert_eq!(shares(&verdict), [("2", 0.6), ("1", 0.4)]);
    assert_eq!(verdict.agreement, 1.0 / 3.0);
    assert!(verdict.notes.is_empty());
    // Votes that weigh the same have no weights to tell.
    assert_eq!(super::verdict(on_text(VoteOn::Number), &prompt(vec![], None), &[text("1")]).weights, None);
}

#[test]
fn a_vote_without_log_probabilities_weighs_the_mean_of_the_others_and_the_verdict_says_so() {
    // e^-2 = 0.135 against the mean of 0.135 and 0.607, which is 0.371, and 0.607.
    let verdict = by_confidence(&[likely(text("1"), -2.0), text("2"), likely(text("3"), -0.5)]);
    assert_eq!(shares(&verdict), [("3", 0.545), ("2", 0.333), ("1", 0.122)]);
    assert_eq!(
        verdict.notes,
        ["1 of 3 votes have no log-probabilities to be weighed by and weigh the mean of the others"]
    );

    let verdict = by_confidence(&[text("1"), likely(text("2"), f64::NAN), likely(text("2"), f64::NEG_INFINITY)]);
    assert_eq!(shares(&verdict), [("2", 0.667), ("1", 0.333)]);
    assert_eq!(verdict.notes, ["no vote has log-probabilities to be weighed by, so all weigh the same"]);
}

#[test]
fn the_best_scored_member_of_the_heaviest_class_is_returned_however_likely_the_others_are() {
    let candidates = [likely(text("1"), -0.1), text("2"), likely(text("1"), -3.0), text("1")];
    let verdict = by_score(&candidates, &[Some(1.0), Some(8.0), Some(6.0), Some(4.0)]);
    assert_eq!((verdict.selected, verdict.ranking.as_slice()), (2, [2, 3, 0, 1].as_slice()));
    assert_eq!(shares(&verdict), [("1", 0.579), ("2", 0.421)]);
    let verdict = by_score(&candidates, &[Some(1.0), Some(12.0), Some(6.0), Some(4.0)]);
    assert_eq!(verdict.ranking, [1, 2, 3, 0]);
}

#[test]
fn scores_that_are_missing_or_hostile_count_as_the_mean_and_scores_of_nothing_but_zero_as_none() {
    let candidates = [text("1"), text("2"), text("2")];
    let verdict = by_score(&candidates, &[Some(3.0), Some(f64::NAN), None]);
    assert_eq!((verdict.selected, counts(&verdict)[0]), (1, ("2", 2)));
    assert!(verdict.notes[0].contains("no score"), "{:?}", verdict.notes);
    for scores in [&[][..], &[Some(0.0), Some(0.0), Some(0.0)], &[None, None, None]] {
        assert_eq!(counts(&by_score(&candidates, scores))[0], ("2", 2), "{scores:?}");
    }
}

#[test]
fn similarity_has_no_use_for_weights_and_says_so() {
    let candidates = [likely(text("a b"), -5.0), likely(text("a b c"), -0.1)];
    let confidence = Weighting::Confidence { temperature: 1.0 };
    let verdict = weighed(confidence, on_text(VoteOn::Similarity), &candidates, &[]);
    assert_eq!((verdict.vote, &verdict.weights), ("similarity", &None));
    assert_eq!(verdict.notes, ["vote_weight `confidence` was not used, since texts were compared by similarity"]);
}

#[test]
fn every_completed_candidate_has_its_rank() {
    let prompt = prompt(tools(), None);
    let candidates = [
        cut_off(text("1")),
        text("1"),
        call("absent", "{}"),
        text("nothing"),
        text("2"),
        call("f", r#"{"x":1}"#),
        text("2"),
        cut_off(call("absent", "{}")),
    ];
    let verdict = verdict(on_text(VoteOn::Number), &prompt, &candidates);
    // Two votes, one vote, abstention, the other side, cut off, invalid, both.
    assert_eq!(verdict.ranking, [4, 6, 1, 3, 5, 0, 2, 7]);
    let aside: Vec<usize> = verdict.set_aside.iter().map(|aside| aside.candidate).collect();
    assert_eq!(aside, [0, 2, 3, 5, 7]);
}

#[test]
fn the_most_typical_text_ranks_before_its_like() {
    let candidates = [text("b"), text("a b c"), text("x y"), text("a b c"), text("a")];
    let verdict = verdict(on_text(VoteOn::Similarity), &prompt(vec![], None), &candidates);
    assert_eq!(verdict.ranking, [1, 3, 0, 2, 4]);
}

#[test]
fn a_verdict_of_the_first_candidates_is_theirs_alone() {
    let mut ballot = ballot(on_text(VoteOn::Number), &prompt(vec![], None), 4);
    for (index, answer) in ["1", "2", "2", "2"].into_iter().enumerate().rev() {
        ballot.record(index, Some(&text(answer)));
    }
    let first = ballot.verdict_of_first(2).unwrap();
    assert_eq!((counts(&first), first.ranking.as_slice()), (vec![("1", 1), ("2", 1)], [0, 1, 2, 3].as_slice()));
    assert!(first.set_aside.iter().all(|aside| aside.reason.contains("settled")));
    assert_eq!(ballot.verdict_of_first(0), None);
    assert_eq!(ballot.verdict_of_first(4), ballot.verdict());
}
