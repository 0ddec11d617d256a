use super::*;
use crate::completion::{FinishReason, Reply, Usage};

fn settings(rm_name: RewardName, rm_agg_method: Aggregation) -> RunSettings {
    RunSettings { rm_name: Some(rm_name), rm_agg_method, ..RunSettings::default() }
}

fn token(text: &str, logprob: f64, top: &[f64], self_certainty: Option<f64>) -> TokenSignals {
    TokenSignals { bytes: text.as_bytes().into(), logprob, top: top.into(), self_certainty }
}

fn candidate(tokens: Option<Vec<TokenSignals>>) -> Completion {
    Completion {
        reply: Reply::new(Some("x".into()), Vec::new()),
        finish_reason: FinishReason::Stop,
        logprobs: None,
        mean_logprob: None,
        tokens,
        usage: Usage::default(),
    }
}

/// Two steps: the first of the probabilities 1/2 and 1/4, the second of 1/8 alone. In the first place the model saw
/// two tokens of 1/2, in the second one of 1/4, in the third one that was certain.
fn two_steps() -> Completion {
    let ln = f64::ln;
    candidate(Some(vec![
        token("a", ln(0.5), &[ln(0.5), ln(0.5)], Some(2.0)),
        token("b\n\n", ln(0.25), &[ln(0.25)], Some(1.0)),
        token("c", ln(0.125), &[0.0], Some(4.0)),
    ]))
}

#[track_caller]
fn assert_score(settings: &RunSettings, candidate: &Completion, expected: f64) {
    let scorer = Confidence::of(settings).unwrap();
    let score = scorer.score_one(candidate).unwrap();
    assert!((score - expected).abs() < 1e-9, "{} {:?}: {score}, not {expected}", scorer.name(), scorer.aggregation);
}

const LN2: f64 = std::f64::consts::LN_2;

#[test]
fn each_measure_is_what_its_formula_says() {
    use Aggregation::Model;
    // (1 + 2 + 3) ln 2 over three tokens.
    assert_score(&settings(RewardName::SequenceProb, Model), &two_steps(), 1.0 / (1.0 + 6.0 * LN2));
    assert_score(&settings(RewardName::Perplexity, Model), &two_steps(), 1.0 / (1.0 + 2.0 * LN2));
    // −2 · ½ ln ½ = ln 2, −¼ ln ¼ = ½ ln 2, and −1 ln 1 = 0.
    assert_score(&settings(RewardName::Entropy, Model), &two_steps(), 1.0 / (1.0 + 1.5 * LN2 / 3.0));
    assert_score(&settings(RewardName::SelfCertainty, Model), &two_steps(), 7.0 / 3.0);
    // ln 2, 2 ln 2 and 0.
    assert_score(&settings(RewardName::TopKConfidence, Model), &two_steps(), LN2);
}

#[test]
fn steps_are_scored_by_themselves_and_become_one() {
    // Perplexity: 1.5 ln 2 in the first step, 3 ln 2 in the second.
    let (first, second) = (1.0 / (1.0 + 1.5 * LN2), 1.0 / (1.0 + 3.0 * LN2));
    for (aggregation, expected) in [
        (Aggregation::Last, second),
        (Aggregation::Min, second),
        (Aggregation::Max, first),
        (Aggregation::Product, first * second),
        (Aggregation::Mean, (first + second) / 2.0),
        (Aggregation::Model, 1.0 / (1.0 + 2.0 * LN2)),
    ] {
        assert_score(&settings(RewardName::Perplexity, aggregation), &two_steps(), expected);
    }
    let sequence = settings(RewardName::SequenceProb, Aggregation::Max);
    assert_score(&sequence, &two_steps(), 1.0 / (1.0 + 3.0 * LN2));
}

#[test]
fn a_window_keeps_the_last_steps() {
    let mut settings = settings(RewardName::SelfCertainty, Aggregation::Max);
    // 1.5 in the first step, 4 in the second.
    settings.rm_agg_method = Aggregation::Min;
    for (window, expected) in [(None, 1.5), (Some(1), 4.0), (Some(2), 1.5), (Some(99), 1.5)] {
        settings.scoring_window = window;
        assert_score(&settings, &two_steps(), expected);
    }
    settings.rm_agg_method = Aggregation::Model;
    settings.scoring_window = Some(1);
    assert_score(&settings, &two_steps(), 7.0 / 3.0);
}

#[test]
fn steps_end_where_the_request_says() {
    let mut settings = settings(RewardName::SelfCertainty, Aggregation::Last);
    settings.step_token = Some("a".to_owned());
    assert_score(&settings, &two_steps(), 2.5);
    settings.step_token = None;
    settings.tokens_per_step = Some(1);
    settings.rm_agg_method = Aggregation::Product;
    assert_score(&settings, &two_steps(), 8.0);
}

#[test]
fn the_least_of_deepconf_is_over_groups_that_slide() {
    let mut settings = settings(RewardName::TopKConfidence, Aggregation::Min);
    // Fewer tokens than a group has: the whole candidate.
    assert_score(&settings, &two_steps(), LN2);
    // Groups of two: (1 + 2) / 2 ln 2 and (2 + 0) / 2 ln 2. The blank line between them is no boundary.
    settings.tokens_per_step = Some(2);
    assert_score(&settings, &two_steps(), LN2);
    settings.tokens_per_step = Some(1);
    assert_score(&settings, &two_steps(), 0.0);
    settings.scoring_window = Some(2);
    assert_score(&settings, &two_steps(), 0.0);
    // The other aggregations are over steps.
    settings.rm_agg_method = Aggregation::Mean;
    (settings.tokens_per_step, settings.scoring_window) = (None, None);
    assert_score(&settings, &two_steps(), 0.75 * LN2);
}

#[test]
fn one_certain_token_is_the_best_there_is() {
    let certain = candidate(Some(vec![token("a", 0.0, &[0.0], Some(9.0))]));
    for name in [RewardName::Entropy, RewardName::Perplexity, RewardName::SequenceProb] {
        assert_score(&settings(name, Aggregation::Last), &certain, 1.0);
    }
    // Rounding of the provider's makes no probability greater than one.
    let rounded = candidate(Some(vec![token("a", 1e-7, &[1e-7], None)]));
    assert_score(&settings(RewardName::Perplexity, Aggregation::Last), &rounded, 1.0);
    assert_score(&settings(RewardName::Entropy, Aggregation::Last), &rounded, 1.0);
    assert_score(&settings(RewardName::TopKConfidence, Aggregation::Last), &rounded, 0.0);
}

#[test]
fn a_token_without_a_chance_counts_as_providers_report_it() {
    let impossible = candidate(Some(vec![token("a", f64::NEG_INFINITY, &[0.0, f64::NEG_INFINITY], None)]));
    assert_score(&settings(RewardName::Perplexity, Aggregation::Last), &impossible, 1.0 / 10_000.0);
    assert_score(&settings(RewardName::Entropy, Aggregation::Last), &impossible, 1.0);
    assert_score(&settings(RewardName::TopKConfidence, Aggregation::Last), &impossible, 9999.0 / 2.0);
}

#[test]
fn what_cannot_be_measured_is_a_failure_and_never_a_score() {
    let fails = |name, tokens: Option<Vec<TokenSignals>>| {
        let failure =
            Confidence::of(&settings(name, Aggregation::Mean)).unwrap().score_one(&candidate(tokens)).unwrap_err();
        failure.message
    };
    assert!(fails(RewardName::Perplexity, None).contains("without log-probabilities"));
    assert!(fails(RewardName::Perplexity, Some(Vec::new())).contains("single token"));
    assert!(fails(RewardName::Perplexity, Some(vec![token("a", f64::NAN, &[], None)])).contains("every token"));
    for name in [RewardName::Entropy, RewardName::TopKConfidence] {
        assert!(fails(name, Some(vec![token("a", -0.1, &[], None)])).contains("alternatives"));
        assert!(fails(name, Some(vec![token("a", -0.1, &[f64::NAN], None)])).contains("alternatives"));
    }
    for certainty in [None, Some(f64::NAN), Some(f64::INFINITY)] {
        assert!(
            fails(RewardName::SelfCertainty, Some(vec![token("a", -0.1, &[], certainty)])).contains("self-certainty")
        );
    }
    let many = vec![token("a\n\n", -0.1, &[], Some(1e10)); 40];
    let product = Confidence::of(&settings(RewardName::SelfCertainty, Aggregation::Product)).unwrap();
    assert_eq!(product.score_one(&candidate(Some(many))).unwrap_err().param.as_deref(), Some("rm_agg_method"));
}

#[test]
fn a_product_of_many_steps_is_a_number_that_compares_or_none() {
    let scorer = Confidence::of(&settings(RewardName::SelfCertainty, Aggregation::Product)).unwrap();
    let steps = |certainties: &[f64]| {
        let tokens = certainties.iter().map(|certainty| token("a\n\n", -0.1, &[], Some(*certainty))).collect();
        scorer.score_one(&candidate(Some(tokens)))
    };
    // What lies between may be smaller or greater than any number.
    let score = steps(&[[1e-10; 40], [1e10; 40]].concat()).unwrap();
    assert!((score - 1.0).abs() < 1e-9, "{score}");
    let score = steps(&[[1e10; 40], [1e-10; 40]].concat()).unwrap();
    assert!((score - 1.0).abs() < 1e-9, "{score}");
    assert_eq!(steps(&[3.0, 0.0, 1e10]).unwrap(), 0.0);
    for too_far in [vec![1e-10; 40], vec![1e10; 40], [vec![1e-8; 40]].concat()] {
        let failure = steps(&too_far).unwrap_err();
        assert_eq!(failure.param.as_deref(), Some("rm_agg_method"));
        assert!(failure.message.contains("no finite number"), "{failure}");
    }

    // Two steps in a thousand tell candidates apart that would both have come to nothing.
    let perplexity = Confidence::of(&settings(RewardName::Perplexity, Aggregation::Product)).unwrap();
    let of = |steps: usize| candidate(Some(vec![token("a\n\n", -1.0, &[], None); steps]));
    let scores = perplexity.score(&[&of(1000), &of(1002), &of(2000)]).unwrap();
    assert!(scores.values[0] > scores.values[1] && scores.values[1].is_some());
    assert_eq!(scores.values[2], None, "worse than any score");
}

#[test]
fn candidates_without_a_score_do_not_take_the_others_with_them() {
    let scorer = Confidence::of(&settings(RewardName::Perplexity, Aggregation::Model)).unwrap();
    let (with, without) = (two_steps(), candidate(None));
    let scores = scorer.score(&[&without, &with]).unwrap();
    assert_eq!(scores.values[0], None);
    assert!((scores.values[1].unwrap() - 1.0 / (1.0 + 2.0 * LN2)).abs() < 1e-9);
    assert_eq!(scores.notes.len(), 1);
    assert!(scores.notes[0].starts_with("candidate 0 has no score by perplexity"), "{}", scores.notes[0]);
    assert_eq!(scorer.score(&[&without, &without]).unwrap_err().kind, FailureKind::Malformed);
}

#[test]
fn only_the_names_of_confidence_make_one_and_ask_for_what_they_measure() {
    let signals = |name| Confidence::of(&settings(name, Aggregation::Last)).map(|scorer| scorer.signals());
    let signal = |top, self_certainty| Some(Signals { top, self_certainty });
    assert_eq!(signals(RewardName::LlmJudge), None);
    assert_eq!(Confidence::of(&RunSettings::default()), None);
    assert_eq!(signals(RewardName::Entropy), signal(20, false));
    assert_eq!(signals(RewardName::TopKConfidence), signal(20, false));
    assert_eq!(signals(RewardName::Perplexity), signal(0, false));
    assert_eq!(signals(RewardName::SelfCertainty), signal(0, true));
}
