use super::*;

fn plan() -> SamplingPlan {
    SamplingPlan {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        typical_p: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition: Repetition::NONE,
        logit_bias: Vec::new(),
    }
}

/// Logits whose softmax gives these probabilities.
fn logits(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|probability| probability.ln()).collect()
}

fn sampler(seed: u64, plan: &SamplingPlan) -> Sampler {
    Sampler::new(seed, plan, [].into_iter())
}

/// A token and what the model itself thought of it.
#[derive(Debug, PartialEq)]
struct Drawn {
    token: u32,
    logprob: f64,
}

fn draw(row: &[f32], plan: &SamplingPlan) -> Result<Drawn, SamplingError> {
    let token = sampler(1, plan).draw(row, plan, None, &mut Vec::new())?;
    Ok(Drawn { token, logprob: Distribution::of(row)?.logprob(token).unwrap() })
}

const DRAWS: u32 = 10_000;

/// How often each token is drawn first by many paths.
fn counts(row: &[f32], plan: &SamplingPlan) -> Vec<u32> {
    let mut counts = vec![0; row.len()];
    let mut scratch = Vec::new();
    for seed in 0..DRAWS {
        counts[sampler(seed.into(), plan).draw(row, plan, None, &mut scratch).unwrap() as usize] += 1;
    }
    counts
}

/// Pearson's test: a distribution that is the expected one fails it once in 10,000 times, and here never, since the
/// seeds are fixed.
fn assert_distributed(counts: &[u32], expected: &[f64]) {
    /// What χ² exceeds with a probability of 0.0001, by degrees of freedom from 1 on.
    const CRITICAL: [f64; 7] = [15.137, 18.421, 21.108, 23.513, 25.745, 27.856, 29.878];
    assert_eq!(counts.len(), expected.len());
    let (mut chi_square, mut possible) = (0.0, 0);
    for (count, share) in counts.iter().zip(expected) {
        if *share == 0.0 {
            assert_eq!(*count, 0, "a token without a chance was drawn");
            continue;
        }
        let mean = share * f64::from(DRAWS);
        chi_square += (f64::from(*count) - mean).powi(2) / mean;
        possible += 1;
    }
    if possible > 1 {
        assert!(chi_square < CRITICAL[possible - 2], "χ² is {chi_square}: {counts:?} of {expected:?}");
    }
}

#[test]
fn tokens_are_drawn_as_often_as_the_model_says() {
    assert_distributed(&counts(&logits(&[0.5, 0.3, 0.2]), &plan()), &[0.5, 0.3, 0.2]);
}

#[test]
fn temperature_sharpens_and_flattens() {
    // Squared and normalised: 0.25, 0.09, 0.04 of 0.38.
    let cold = SamplingPlan { temperature: 0.5, ..plan() };
    assert_distributed(&counts(&logits(&[0.5, 0.3, 0.2]), &cold), &[0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38]);
    // Square roots: 0.8, 0.6 of 1.4.
    let hot = SamplingPlan { temperature: 2.0, ..plan() };
    assert_distributed(&counts(&logits(&[0.64, 0.36]), &hot), &[4.0 / 7.0, 3.0 / 7.0]);
}

#[test]
fn top_k_top_p_and_min_p_cut_where_they_should() {
    let row = logits(&[0.1, 0.4, 0.3, 0.2]);
    let top_k = SamplingPlan { top_k: 2, ..plan() };
    assert_distributed(&counts(&row, &top_k), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
    // 0.4 + 0.3 is short of 0.75, so the third one belongs to the nucleus.
    let top_p = SamplingPlan { top_p: 0.75, ..plan() };
    assert_distributed(&counts(&row, &top_p), &[0.0, 4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0]);
    // A token needs 0.6 × 0.4 = 0.24.
    let min_p = SamplingPlan { min_p: 0.6, ..plan() };
    assert_distributed(&counts(&row, &min_p), &[0.0, 4.0 / 7.0, 3.0 / 7.0, 0.0]);
    // Of what top-k leaves (4/7 and 3/7), top-p 0.5 keeps one.
    let both = SamplingPlan { top_k: 2, top_p: 0.5, ..plan() };
    assert_distributed(&counts(&row, &both), &[0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn a_nucleus_wider_than_the_first_sorting_is_complete() {
    let row = vec![0.0; 1000];
    let mut even: Vec<(u32, f64)> = (0..1000).map(|token| (token, 0.0)).collect();
    keep_nucleus(&mut even, 0.9);
    assert_eq!(even.len(), 900);
    assert_eq!(Distribution::of(&row).unwrap().leaders(3).iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn greedy_takes_the_best_and_of_equals_the_first() {
    let greedy = SamplingPlan { temperature: 0.0, ..plan() };
    let drawn = draw(&[1.0, 3.0, 3.0], &greedy).unwrap();
    assert_eq!(drawn.token, 1);
    let tiny = SamplingPlan { temperature: 1e-300, ..plan() };
    assert_eq!(draw(&[1.0, 3.0, 2.0], &tiny).unwrap().token, 1);
}

#[test]
fn bias_and_penalties_move_the_choice_but_not_the_reported_probability() {
    let row = logits(&[0.6, 0.4]);
    let biased = SamplingPlan { temperature: 0.0, logit_bias: vec![(1, 100.0)], ..plan() };
    let drawn = draw(&row, &biased).unwrap();
    assert_eq!(drawn.token, 1);
    assert!((drawn.logprob - 0.4_f64.ln()).abs() < 1e-6);

    // ln(0.6/0.4) = 0.405: one presence penalty of 0.5 turns the choice, and turns it back when both
    // were drawn.
    let presence = SamplingPlan { temperature: 0.0, presence_penalty: 0.5, ..plan() };
    let mut one = sampler(1, &plan());
    let tokens: Vec<u32> = (0..4).map(|_| one.draw(&row, &presence, None, &mut Vec::new()).unwrap()).collect();
    assert_eq!(tokens, [0, 1, 0, 0]);

    // With 0.3 a draw: 0 leads by 0.405, then 0.105, then trails by 0.195, and so on.
    let frequency = SamplingPlan { temperature: 0.0, frequency_penalty: 0.3, ..plan() };
    let mut one = sampler(1, &plan());
    let tokens: Vec<u32> = (0..4).map(|_| one.draw(&row, &frequency, None, &mut Vec::new()).unwrap()).collect();
    assert_eq!(tokens, [0, 0, 1, 0]);
}

#[test]
fn the_same_seed_draws_the_same_tokens_and_another_one_does_not() {
    let row = vec![0.0; 100];
    let draws = |seed| {
        let mut one = sampler(seed, &plan());
        (0..20).map(|_| one.draw(&row, &plan(), None, &mut Vec::new()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(draws(7), draws(7));
    assert_ne!(draws(7), draws(8));
}

#[test]
fn rows_without_meaning_are_errors() {
    let draw = |row: &[f32]| draw(row, &plan());
    assert_eq!(draw(&[]), Err(SamplingError::Empty));
    assert_eq!(draw(&[0.0, f32::NAN]), Err(SamplingError::NotFinite));
    assert_eq!(draw(&[0.0, f32::INFINITY]), Err(SamplingError::NotFinite));
    assert_eq!(draw(&[f32::NEG_INFINITY; 2]), Err(SamplingError::NotFinite));
    assert_eq!(draw(&[f32::NEG_INFINITY, -3.0]), Ok(Drawn { token: 1, logprob: 0.0 }));
}

#[test]
fn penalties_without_measure_are_an_error_and_no_panic() {
    let absurd = SamplingPlan { presence_penalty: f64::MAX, frequency_penalty: f64::MAX, ..plan() };
    let mut one = sampler(1, &plan());
    assert!(one.draw(&[0.0], &absurd, None, &mut Vec::new()).is_ok());
    assert_eq!(one.draw(&[0.0], &absurd, None, &mut Vec::new()), Err(SamplingError::NoneLeft));
}

#[test]
fn self_certainty_is_the_distance_from_an_even_distribution() {
    let certainty = |row: &[f32]| Distribution::of(row).unwrap().self_certainty();
    assert!(certainty(&[2.0; 7]).abs() < 1e-9, "an even distribution has none");
    // −(ln(2 × 0.9) + ln(2 × 0.1)) / 2 = −(0.587787 − 1.609438) / 2.
    assert!((certainty(&logits(&[0.9, 0.1])) - 0.510_826).abs() < 1e-5);
    // A token without a chance counts with a probability of e^−9999: (9999 + 0) / 2 − ln 2.
    assert!((certainty(&[0.0, f32::NEG_INFINITY]) - 4_998.806_853).abs() < 1e-5);
}

#[test]
fn log_probabilities_sum_to_one() {
    let row = [1.0, -2.0, 0.5, 30.0];
    let distribution = Distribution::of(&row).unwrap();
    let sum: f64 = distribution.leaders(4).iter().map(|(_, logprob)| logprob.exp()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!(distribution.leaders(0), []);
    assert_eq!(distribution.leaders(9).len(), 4);
}

#[test]
fn even_logits_are_drawn_evenly_over_paths_and_over_positions() {
    let row = [-7.5; 8];
    assert_distributed(&counts(&row, &plan()), &[0.125; 8]);
    let mut one = sampler(3, &plan());
    let mut along = vec![0; 8];
    for _ in 0..DRAWS {
        along[one.draw(&row, &plan(), None, &mut Vec::new()).unwrap() as usize] += 1;
    }
    assert_distributed(&along, &[0.125; 8]);
    // All in one: of 8 even tokens top-k leaves 4, and the nucleus of 0.7 three of them.
    let cut = SamplingPlan { top_k: 4, top_p: 0.7, ..plan() };
    let third = 1.0 / 3.0;
    assert_distributed(&counts(&row, &cut), &[third, third, third, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn temperature_comes_last_and_does_not_change_who_is_left() {
    let row = logits(&[0.5, 0.3, 0.2]);
    // 0.5 + 0.3 reaches 0.75. Flattened first, the shares would be 0.415, 0.322 and 0.263, and all three be left.
    let hot = SamplingPlan { temperature: 2.0, top_p: 0.75, ..plan() };
    let (first, second) = (0.5_f64.sqrt(), 0.3_f64.sqrt());
    assert_distributed(&counts(&row, &hot), &[first / (first + second), second / (first + second), 0.0]);
    // 0.2 / 0.5 is less than 0.5, whatever the temperature.
    let hot = SamplingPlan { temperature: 2.0, min_p: 0.5, ..plan() };
    assert_distributed(&counts(&row, &hot), &[first / (first + second), second / (first + second), 0.0]);
}

#[test]
fn typical_sampling_keeps_what_is_as_surprising_as_expected() {
    // Information of 1, 2, 3 and 3 bits; 1.75 are expected, so that the order is second, first, third, fourth.
    let row = logits(&[0.5, 0.25, 0.125, 0.125]);
    let typical = |typical_p| SamplingPlan { typical_p, ..plan() };
    assert_distributed(&counts(&row, &typical(0.2)), &[0.0, 1.0, 0.0, 0.0]);
    assert_distributed(&counts(&row, &typical(0.0)), &[0.0, 1.0, 0.0, 0.0]);
    assert_distributed(&counts(&row, &typical(0.3)), &[2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
    assert_distributed(&counts(&row, &typical(0.8)), &[4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0, 0.0]);
    // The most probable token is not among those that are left.
    assert_eq!(draw(&row, &SamplingPlan { temperature: 0.0, ..typical(0.2) }).unwrap().token, 1);
    // Least of the best that is left: 0.125 / 0.25.
    let both = SamplingPlan { min_p: 0.6, top_k: 3, ..typical(0.2) };
    assert_eq!(draw(&row, &both).unwrap().token, 1);
    let certain = [0.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    assert_eq!(draw(&certain, &typical(0.5)).unwrap(), Drawn { token: 0, logprob: 0.0 });
}

#[test]
fn repeated_tokens_of_prompt_and_answer_lose_logit_once_and_only_within_the_window() {
    let greedy =
        |penalty, window| SamplingPlan { temperature: 0.0, repetition: Repetition { penalty, window }, ..plan() };
    let tokens = |row: &[f32], plan: &SamplingPlan, prompt: &[u32]| {
        let mut sampler = Sampler::new(1, plan, prompt.iter().copied());
        let mut draw = || sampler.draw(row, plan, None, &mut Vec::new()).unwrap();
        [draw(), draw(), draw()]
    };
    // 2.0 halved is 1.0, and 1.9 is 0.95: halved once, however often they come.
    assert_eq!(tokens(&[2.0, -1.0, 1.9], &greedy(2.0, usize::MAX), &[0, 0, 7]), [2, 0, 0]);
    assert_eq!(tokens(&[2.0, -1.0, 1.9], &greedy(2.0, 1), &[0]), [2, 0, 2]);
    assert_eq!(tokens(&[2.0, -1.0, 1.9], &greedy(2.0, 1), &[0, 1]), [0, 2, 0], "the prompt's last token is another");
    assert_eq!(tokens(&[2.0, -1.0, 1.9], &greedy(2.0, 0), &[0]), [0, 0, 0]);
    assert_eq!(tokens(&[2.0, -1.0, 1.9], &greedy(1.0, 64), &[0]), [0, 0, 0]);
    // Negative logits are multiplied: −1 becomes −2.
    assert_eq!(tokens(&[-1.0, -1.5], &greedy(2.0, 64), &[0])[0], 1);
    // Less than 1 favours what was said: 0.5 becomes 1.
    assert_eq!(tokens(&[0.8, 0.5], &greedy(0.5, 64), &[1])[0], 1);
}

#[test]
fn a_bias_of_minus_100_bans_whatever_the_logit_and_all_banned_is_an_error() {
    let biased = |logit_bias| SamplingPlan { logit_bias, ..plan() };
    let row = [1000.0, 0.0];
    assert_eq!(draw(&row, &biased(vec![(0, -100.0)])).unwrap().token, 1);
    assert_eq!(draw(&row, &biased(vec![(0, -99.0)])).unwrap().token, 0, "anything above is only added");
    assert_eq!(draw(&row, &biased(vec![(0, -100.0), (1, -100.0)])), Err(SamplingError::NoneLeft));
    assert_eq!(draw(&[0.0, 30.0, 40.0], &biased(vec![(0, 100.0)])).unwrap().token, 0);
    assert_eq!(
        draw(&[0.0, 1.0], &biased(vec![(9, 5.0)])).unwrap().logprob,
        draw(&[0.0, 1.0], &plan()).unwrap().logprob
    );
}

#[test]
fn only_what_is_allowed_is_drawn() {
    let row = logits(&[0.4, 0.3, 0.2, 0.1]);
    let mut allowed = Allowed::alloc(4);
    let among =
        |allowed: &Allowed, plan: &SamplingPlan| sampler(1, plan).draw(&row, plan, Some(allowed), &mut Vec::new());
    assert_eq!(among(&allowed, &plan()), Err(SamplingError::NoneLeft));
    allowed.allow_token(3);
    for plan in [plan(), SamplingPlan { temperature: 0.0, ..plan() }, SamplingPlan { top_k: 1, ..plan() }] {
        assert_eq!(among(&allowed, &plan), Ok(3), "filters count among what is allowed");
    }
    let banned = SamplingPlan { logit_bias: vec![(3, -100.0)], ..plan() };
    assert_eq!(among(&allowed, &banned), Err(SamplingError::NoneLeft));
    allowed.allow_token(1);
    let greedy = SamplingPlan { temperature: 0.0, ..plan() };
    assert_eq!(among(&allowed, &greedy), Ok(1));
}

#[test]
fn a_single_candidate_and_extreme_settings_are_drawn_without_fuss() {
    for plan in [
        plan(),
        SamplingPlan { temperature: 0.0, ..plan() },
        SamplingPlan { top_k: 1, ..plan() },
        SamplingPlan { top_k: usize::MAX, typical_p: 0.0, top_p: 0.0, min_p: 1.0, ..plan() },
        SamplingPlan { temperature: f64::MIN_POSITIVE, ..plan() },
        SamplingPlan { temperature: 1e300, ..plan() },
    ] {
        assert_eq!(draw(&[-3.0], &plan), Ok(Drawn { token: 0, logprob: 0.0 }), "{plan:?}");
        let drawn = draw(&[f32::MIN, f32::MAX, f32::NEG_INFINITY], &plan).unwrap();
        assert!(drawn.token < 2, "{plan:?}");
    }
    let best = draw(&[f32::MIN, f32::MAX], &SamplingPlan { temperature: 1e-9, ..plan() }).unwrap();
    assert_eq!(best.token, 1);
    let one = SamplingPlan { top_p: 0.0, ..plan() };
    assert_eq!(draw(&logits(&[0.2, 0.5, 0.3]), &one).unwrap().token, 1);
}

#[test]
fn a_random_number_belongs_to_its_seed_and_position_and_to_nothing_else() {
    let even = vec![0.0; 1000];
    let mut whole = sampler(7, &plan());
    let tokens: Vec<u32> = (0..40).map(|_| whole.draw(&even, &plan(), None, &mut Vec::new()).unwrap()).collect();
    // Another way to the same position, in which nothing random was drawn, goes on in the same way.
    let mut replayed = sampler(7, &plan());
    let greedy = SamplingPlan { temperature: 0.0, ..plan() };
    for (position, expected) in tokens.iter().enumerate() {
        let plan = if position < 30 { &greedy } else { &plan() };
        let token = replayed.draw(&even, plan, None, &mut Vec::new()).unwrap();
        assert!(position < 30 || token == *expected, "position {position}");
    }
}

#[test]
fn forks_have_seeds_of_their_own_that_follow_from_their_lineage() {
    let mut seeds = std::collections::HashSet::new();
    for parent in [0, 1, u64::MAX] {
        seeds.insert(parent);
        for position in [0, 1, 2, 1000, u64::MAX] {
            for branch in [0, 1, 2, 191] {
                let seed = forked_seed(parent, position, branch);
                assert_eq!(seed, forked_seed(parent, position, branch));
                assert!(seeds.insert(seed));
                assert!(seeds.insert(forked_seed(seed, position, branch)), "a fork of the fork");
            }
        }
    }
}

/// Which token is drawn when every token is looked at and all of them are sorted.
fn plainly_drawn(sampler: &Sampler, row: &[f32], plan: &SamplingPlan, allowed: Option<&Allowed>) -> Option<u32> {
    let mut left: Vec<(u32, f64)> = (0..).zip(row.iter().map(|logit| f64::from(*logit))).collect();
    for (token, logit) in &mut left {
        for (_, bias) in plan.logit_bias.iter().filter(|(biased, _)| biased == token) {
            *logit += if *bias <= BAN { f64::NEG_INFINITY } else { *bias };
        }
        if sampler.recent.counts.contains_key(token) {
            let penalty = plan.repetition.penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        if let Some(count) = sampler.drawn.get(token) {
            *logit -= plan.presence_penalty + plan.frequency_penalty * f64::from(*count);
        }
    }
    left.retain(|(token, _)| allowed.is_none_or(|allowed| allowed.is_allowed(*token)));
    let mut sorted = left.clone();
    sorted.sort_by(order);
    let best = sorted.first()?.1;
    if (1..row.len()).contains(&plan.top_k) {
        sorted.truncate(plan.top_k);
        left = sorted;
    }
    left.iter_mut().for_each(|(_, logit)| *logit -= best);
    filter(plan, &mut left);
    if plan.temperature == 0.0 {
        return most_probable(&left);
    }
    let weights: Vec<f64> = left.iter().map(|(_, logit)| (logit / plan.temperature).exp()).collect();
    let mut rng = sampler.rng.clone();
    rng.set_word_pos(2 * u128::from(sampler.position));
    let mut rest = rng.random::<f64>() * weights.iter().sum::<f64>();
    let place = weights.iter().position(|weight| {
        rest -= weight;
        rest < 0.0
    });
    place.map(|place| left[place].0)
}

#[test]
fn shortcuts_draw_what_looking_at_every_token_would() {
    let mut random = ChaCha12Rng::seed_from_u64(5);
    for turn in 0..200 {
        let size = [3, 50, 300, 900][turn % 4];
        let row: Vec<f32> = (0..size).map(|_| (random.random::<f32>() - 0.5) * 16.0).collect();
        let mut one_of = |values: &[f64]| values[random.random_range(0..values.len())];
        let plan = SamplingPlan {
            temperature: one_of(&[0.0, 0.5, 1.0, 1.5]),
            top_k: one_of(&[0.0, 1.0, 40.0, 200.0]) as usize,
            typical_p: one_of(&[1.0, 1.0, 0.7]),
            top_p: one_of(&[1.0, 1.0, 0.95, 0.5]),
            min_p: one_of(&[0.0, 0.0, 0.05]),
            presence_penalty: one_of(&[0.0, 0.0, 1.0]),
            frequency_penalty: one_of(&[0.0, 0.0, -0.5]),
            repetition: Repetition { penalty: one_of(&[1.0, 1.0, 1.3]), window: 20 },
            logit_bias: [vec![], vec![(2, -100.0), (1, 20.0), (1, -3.0), (999_999, 1.0)]][turn % 2].clone(),
        };
        let mut allowed = Allowed::alloc(size);
        (0..size).filter(|token| token % 3 != 1).for_each(|token| allowed.allow_token(token as u32));
        let allowed = (turn % 5 == 0).then_some(&allowed);
        let mut sampler = Sampler::new(turn as u64, &plan, [0, 1, 1].into_iter());
        let mut scratch = Vec::new();
        for _ in 0..6 {
            let expected = plainly_drawn(&sampler, &row, &plan, allowed);
            let drawn = sampler.draw(&row, &plan, allowed, &mut scratch).ok();
            assert_eq!(drawn, expected, "{plan:?}");
        }
    }
}
