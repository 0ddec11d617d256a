//! The promise of the stop rule `decided`, checked on every ending of small runs.

use proptest::prelude::*;

use super::*;

/// How a candidate may end; `None` is a failure.
type Ending = Option<Completion>;

/// What all ballots of a run share.
struct Setup {
    rules: Arc<VoteRules>,
    validity: Arc<Validity>,
    weighting: Weighting,
}

fn ballot_of(setup: &Setup, state: &[Option<&Ending>]) -> Ballot {
    let ballot = Ballot::new(setup.rules.clone(), setup.validity.clone(), state.len());
    let mut ballot = ballot.weighted(setup.weighting);
    // Later indices first, so that the order of arrival is not that of the indices.
    for (index, ending) in state.iter().enumerate().rev() {
        if let Some(ending) = ending {
            ballot.record(index, ending.as_ref());
        }
    }
    ballot
}

/// The numbers of all words of `length` over an alphabet of `letters`, each as its letters.
fn words(length: usize, letters: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..letters.pow(length as u32))
        .map(move |number| (0..length as u32).map(|place| number / letters.pow(place) % letters).collect())
}

/// Walks over every state of a run, finished in part, and holds each that is decided against all its endings.
/// Returns in how many states it was decided.
fn check_every_ending(settings: &RunSettings, prompt: &Prompt, planned: usize, endings: &[Ending]) -> usize {
    check_every_weighted_ending(Weighting::Equal, settings, prompt, planned, endings)
}

fn check_every_weighted_ending(
    weighting: Weighting,
    settings: &RunSettings,
    prompt: &Prompt,
    planned: usize,
    endings: &[Ending],
) -> usize {
    let pending = endings.len();
    let (rules, validity) = (Arc::new(VoteRules::compile(settings).unwrap()), Arc::new(Validity::of(prompt)));
    let setup = Setup { rules, validity, weighting };
    let winner = |word: &[usize]| {
        let state: Vec<_> = word.iter().map(|&letter| Some(&endings[letter])).collect();
        let verdict = ballot_of(&setup, &state).verdict()?;
        Some((verdict.vote, verdict.response_counts[0].0.clone()))
    };
    let winners: Vec<_> = words(planned, endings.len()).map(|word| winner(&word)).collect();
    let number = |word: &[usize]| word.iter().rev().fold(0, |number, letter| number * endings.len() + letter);

    let mut decided = 0;
    for state in words(planned, endings.len() + 1) {
        let so_far: Vec<_> = state.iter().map(|&letter| endings.get(letter)).collect();
        if !ballot_of(&setup, &so_far).is_decided() {
            continue;
        }
        decided += 1;
        let open: Vec<usize> = (0..planned).filter(|&index| state[index] == pending).collect();
        let mut seen = None;
        for rest in words(open.len(), endings.len()) {
            let mut word = state.clone();
            open.iter().zip(rest).for_each(|(&index, letter)| word[index] = letter);
            let winner = &winners[number(&word)];
            assert_eq!(winner, *seen.get_or_insert(winner), "state {state:?}, ending {word:?}");
        }
    }
    decided
}

#[test]
fn no_ending_of_a_decided_text_vote_changes_its_winner() {
    let endings = [
        Some(text("1")),
        Some(text("2")),
        Some(likely(text("1"), -0.9)),
        Some(likely(text("2"), -0.1)),
        Some(text("nothing")),
        Some(cut_off(text("2"))),
        None,
    ];
    for vote_on in [VoteOn::Auto, VoteOn::Answer] {
        assert!(check_every_ending(&on_text(vote_on), &prompt(vec![], None), 4, &endings) > 0);
    }
    let few = [Some(text("1")), Some(text("2")), Some(likely(text("2"), -0.1)), None];
    assert!(check_every_ending(&on_text(VoteOn::Number), &prompt(vec![], None), 5, &few) > 0);
}

#[test]
fn no_ending_of_a_decided_tool_vote_changes_its_winner() {
    let endings = [
        Some(call("f", r#"{"x":1}"#)),
        Some(call("f", r#"{"x":2}"#)),
        Some(likely(call("g", "{}"), -0.1)),
        Some(call("absent", "{}")),
        Some(text("5")),
        None,
    ];
    for tool_vote in [ToolVote::ToolName, ToolVote::ToolArgs, ToolVote::ToolHierarchical, ToolVote::ToolSet] {
        let settings = RunSettings { tool_vote, ..RunSettings::default() };
        assert!(check_every_ending(&settings, &prompt(tools(), None), 4, &endings) > 0);
    }
    let few = [Some(call("f", r#"{"x":1}"#)), Some(call("f", r#"{"x":2}"#)), Some(call("g", "{}")), Some(text("5"))];
    assert!(check_every_ending(&RunSettings::default(), &prompt(tools(), None), 5, &few) > 0);
}

#[test]
fn no_ending_of_a_decided_run_turns_it_from_text_to_tools_or_from_answers_to_prose() {
    let endings = [Some(text("5")), Some(likely(text("6"), -0.1)), Some(text("nothing")), Some(call("g", "{}")), None];
    assert!(check_every_ending(&RunSettings::default(), &prompt(tools(), None), 5, &endings) > 0);
}

#[test]
fn no_ending_of_a_decided_json_or_regex_vote_changes_its_winner() {
    let object = prompt(vec![], Some(r#"{"type":"json_object"}"#));
    let endings = [
        Some(text(r#"{"a":1,"b":1}"#)),
        Some(text(r#"{"a":1,"b":2}"#)),
        Some(likely(text(r#"{"a":2,"b":2}"#), -0.1)),
        Some(text("no json")),
        None,
    ];
    assert!(check_every_ending(&RunSettings::default(), &object, 5, &endings) > 0);

    let patterns = RunSettings { regex_patterns: vec!["a(.)".into(), "b(.)".into()], ..RunSettings::default() };
    let endings = [
        Some(text("a1 b1")),
        Some(text("a1 b2")),
        Some(likely(text("a2 b1"), -0.1)),
        Some(text("b2")),
        Some(text("-")),
        None,
    ];
    assert!(check_every_ending(&patterns, &prompt(vec![], None), 4, &endings) > 0);
}

#[test]
fn the_similarity_vote_is_never_decided() {
    let endings = [Some(text("one word")), Some(text("two words")), None];
    assert_eq!(check_every_ending(&on_text(VoteOn::Similarity), &prompt(vec![], None), 4, &endings), 0);
}

const CONFIDENCE: Weighting = Weighting::Confidence { temperature: 1.0 };

/// Weights of 1, 0.5 and next to nothing, and one that is not known.
fn of_every_weight(completion: &Completion) -> Vec<Ending> {
    let known = [0.0, -std::f64::consts::LN_2, -30.0].map(|logprob| Some(likely(completion.clone(), logprob)));
    known.into_iter().chain([Some(completion.clone())]).collect()
}

#[test]
fn no_ending_of_a_decided_weighted_vote_changes_its_winner() {
    let texts = [of_every_weight(&text("1")), of_every_weight(&text("2")), vec![Some(text("nothing")), None]].concat();
    for vote_on in [VoteOn::Auto, VoteOn::Number] {
        let checked = check_every_weighted_ending(CONFIDENCE, &on_text(vote_on), &prompt(vec![], None), 4, &texts);
        assert!(checked > 0);
    }
    // A run of five with fewer weights, in which two may be pending.
    let few = [
        Some(likely(text("1"), 0.0)),
        Some(likely(text("2"), 0.0)),
        Some(likely(text("2"), -std::f64::consts::LN_2)),
        Some(text("1")),
        Some(cut_off(text("2"))),
        None,
    ];
    let settings = on_text(VoteOn::Number);
    assert!(check_every_weighted_ending(CONFIDENCE, &settings, &prompt(vec![], None), 5, &few) > 0);
}

#[test]
fn no_ending_of_a_decided_weighted_tool_or_json_vote_changes_its_winner() {
    let calls = [
        of_every_weight(&call("f", r#"{"x":1}"#)),
        vec![Some(likely(call("f", r#"{"x":2}"#), 0.0)), Some(likely(call("g", "{}"), -0.1)), Some(call("g", "{}"))],
        vec![Some(likely(text("5"), 0.0)), None],
    ];
    let (settings, tools) = (RunSettings::default(), prompt(tools(), None));
    assert!(check_every_weighted_ending(CONFIDENCE, &settings, &tools, 4, &calls.concat()) > 0);
    let objects = [of_every_weight(&text(r#"{"a":1,"b":1}"#)), of_every_weight(&text(r#"{"a":1,"b":2}"#)), vec![None]];
    let object = prompt(vec![], Some(r#"{"type":"json_object"}"#));
    assert!(check_every_weighted_ending(CONFIDENCE, &settings, &object, 4, &objects.concat()) > 0);
}

#[test]
fn no_ending_of_a_decided_vote_whose_weights_are_too_small_for_a_number_changes_its_winner() {
    let sharp = Weighting::Confidence { temperature: 0.0005 };
    // exp(-2000) is 0 in doubles, exp(-1400) next to the smallest, and exp(-2) is not.
    let endings = [
        Some(likely(text("1"), -1.0)),
        Some(likely(text("2"), -1.0)),
        Some(likely(text("2"), -0.37)),
        Some(likely(text("2"), -0.001)),
        Some(likely(text("1"), 0.0)),
        Some(text("1")),
        None,
    ];
    let settings = on_text(VoteOn::Number);
    assert!(check_every_weighted_ending(sharp, &settings, &prompt(vec![], None), 4, &endings) > 0);

    // However many they are, one that is sure outweighs them all.
    let mut ballot = ballot(settings, &prompt(vec![], None), 8).weighted(sharp);
    (0..7).for_each(|index| ballot.record(index, Some(&likely(text("1"), -1.0))));
    assert!(!ballot.is_decided());
    ballot.record(7, Some(&likely(text("2"), -0.1)));
    assert_eq!(ballot.verdict().unwrap().selected, 7);
}

#[test]
fn a_weighted_vote_is_decided_when_its_lead_is_above_all_that_the_pending_can_weigh() {
    let decided = |weighting: Weighting, logprobs: &[Option<f64>], planned: usize| {
        let mut ballot = ballot(on_text(VoteOn::Number), &prompt(vec![], None), planned).weighted(weighting);
        for (index, logprob) in logprobs.iter().enumerate() {
            ballot.record(index, Some(&Completion { mean_logprob: *logprob, ..text("1") }));
        }
        ballot.is_decided()
    };
    let (half, none) = (Some(-std::f64::consts::LN_2), None);
    // Four halves are a lead of 2: above one that is pending, not above two.
    assert!(decided(CONFIDENCE, &[half; 4], 5));
    assert!(!decided(CONFIDENCE, &[half; 4], 6));
    assert!(decided(Weighting::Equal, &[half; 4], 7));
    // Without any log-probability all votes are alike; with one the others may come to weigh anything.
    assert!(decided(CONFIDENCE, &[none; 4], 8));
    assert!(!decided(CONFIDENCE, &[half, none, none, none], 5));
    // Scores have no bound.
    assert!(!decided(Weighting::Scores, &[half; 4], 5));
}

/// After how many candidates in index order a run of `planned` is decided.
fn decided_after(settings: RunSettings, prompt: &Prompt, planned: usize, candidates: &[Completion]) -> Option<usize> {
    let mut ballot = ballot(settings, prompt, planned);
    candidates.iter().enumerate().find_map(|(index, candidate)| {
        ballot.record(index, Some(candidate));
        ballot.is_decided().then_some(index + 1)
    })
}

#[test]
fn a_unanimous_vote_is_decided_as_soon_as_the_rest_cannot_outvote_it() {
    let answers = vec![text("The answer is 42."); 8];
    // Four of eight hold the lowest index, and no log-probability can break a tie against them.
    assert_eq!(decided_after(RunSettings::default(), &prompt(vec![], None), 8, &answers), Some(4));
    let known: Vec<_> = answers.iter().cloned().map(|answer| likely(answer, -0.5)).collect();
    assert_eq!(decided_after(RunSettings::default(), &prompt(vec![], None), 8, &known), Some(5));
    let calls = vec![call("f", r#"{"x":1}"#); 8];
    assert_eq!(decided_after(RunSettings::default(), &prompt(tools(), None), 8, &calls), Some(4));
    let objects = vec![text(r#"{"a":1}"#); 8];
    assert_eq!(decided_after(on_text(VoteOn::Json), &prompt(vec![], None), 8, &objects), Some(5));
    let letters = vec![text("B"); 8];
    assert_eq!(decided_after(on_text(VoteOn::Choice), &prompt(vec![], None), 8, &letters), Some(4));
}

#[test]
fn a_run_of_one_is_never_stopped_early() {
    assert_eq!(decided_after(RunSettings::default(), &prompt(vec![], None), 1, &[text("42")]), None);
}

#[test]
fn a_lead_that_equals_the_number_pending_is_decided_only_without_log_probabilities() {
    // Five to one with four pending (a tie at five is possible), the leader at index 0 or not.
    let run = |first: Completion, second: &Completion| {
        let mut candidates = vec![first, text("2")];
        candidates.extend(vec![second.clone(); 4]);
        candidates
    };
    let settings = || on_text(VoteOn::Answer);
    let plain = run(text("1"), &text("1"));
    assert_eq!(decided_after(settings(), &prompt(vec![], None), 10, &plain), Some(6));
    let known = run(likely(text("1"), -0.5), &likely(text("1"), -0.5));
    assert_eq!(decided_after(settings(), &prompt(vec![], None), 10, &known), None);
    let late = run(text("3"), &text("1"));
    assert_eq!(decided_after(settings(), &prompt(vec![], None), 8, &late[..5]), None);
}

#[test]
fn a_truncated_or_invalid_lead_decides_nothing() {
    let cut = vec![cut_off(text("42")); 7];
    assert_eq!(decided_after(RunSettings::default(), &prompt(vec![], None), 8, &cut), None);
    let invalid = vec![call("absent", "{}"); 7];
    assert_eq!(decided_after(RunSettings::default(), &prompt(tools(), None), 8, &invalid), None);
}

proptest! {
    #[test]
    fn a_run_stopped_when_decided_has_the_winner_of_the_whole_run(
        run in prop::collection::vec((0usize..9, any::<u32>()), 2..14),
        tool_vote in prop::sample::select(vec![ToolVote::ToolName, ToolVote::ToolArgs, ToolVote::ToolHierarchical, ToolVote::ToolSet]),
        vote_on in prop::sample::select(vec![VoteOn::Auto, VoteOn::Answer, VoteOn::Number, VoteOn::Exact, VoteOn::Json]),
    ) {
        let endings: [Ending; 9] = [
            Some(text("1")),
            Some(text("1.0")),
            Some(likely(text("2"), -0.1)),
            Some(text("nothing")),
            Some(cut_off(text("2"))),
            Some(call("f", r#"{"x":1}"#)),
            Some(likely(call("f", r#"{"x":2}"#), -0.1)),
            Some(call("absent", "{}")),
            None,
        ];
        let settings = RunSettings { tool_vote, vote_on, ..RunSettings::default() };
        let mut ballot = ballot(settings, &prompt(tools(), None), run.len());
        let mut arrivals: Vec<usize> = (0..run.len()).collect();
        arrivals.sort_by_key(|&index| run[index].1);
        let winner = |ballot: &Ballot| ballot.verdict().map(|verdict| (verdict.vote, verdict.response_counts[0].0.clone()));
        let mut decided = None;
        for index in arrivals {
            ballot.record(index, endings[run[index].0].as_ref());
            if decided.is_none() && ballot.is_decided() {
                decided = Some(winner(&ballot));
            }
        }
        prop_assert!(decided.is_none_or(|early| early == winner(&ballot)));
    }
}
