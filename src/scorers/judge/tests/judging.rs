//! How often the judge is asked, and what is made of its answers.

use super::*;

#[tokio::test]
async fn a_tournament_finds_the_candidate_that_the_judge_prefers_wherever_it_stands() {
    for (count, calls) in [(2, 1), (8, 1), (9, 3), (64, 9), (65, 12)] {
        for best in [0, count / 2, count - 1] {
            let mut texts = texts(count);
            texts[best] = "it is 42".to_owned();
            let judged =
                judge(settings(JudgeMode::Groupwise), &texts, |_, prompt| Shown::read(prompt).prefers("it is 42"))
                    .await;
            assert_eq!(judged.picked(), [best], "of {count}");
            assert!(judged.values().iter().all(Option::is_some));
            assert_eq!(judged.seen.len(), calls, "of {count}");
            for prompt in &judged.seen {
                assert!((2..=8).contains(&Shown::read(prompt).candidates.len()));
            }
        }
    }
}

#[tokio::test]
async fn no_question_is_asked_where_everybody_would_be_picked() {
    let judged = judge(settings(JudgeMode::Groupwise), &texts(1), |_, _| unreachable!()).await;
    assert_eq!((judged.picked(), judged.notes().len()), (vec![0], 0));
    let three = JudgeSettings { top_n: 3, ..settings(JudgeMode::Groupwise) };
    let judged = judge(three, &texts(3), |_, _| unreachable!()).await;
    assert_eq!(judged.picked(), [0, 1, 2]);
    assert!(judged.notes()[0].contains("judge_top_n"), "{:?}", judged.notes());
}

#[tokio::test]
async fn several_winners_come_through_a_tournament() {
    for count in [4, 9, 16, 17, 65] {
        for top_n in [2, 3, 8] {
            let good: Vec<usize> = (0..count).filter(|number| number % 5 == 1).take(top_n).collect();
            let mut texts = texts(count);
            good.iter().for_each(|index| texts[*index] = format!("42 ({index})"));
            let settings = JudgeSettings { top_n, ..settings(JudgeMode::Groupwise) };
            let judged = judge(settings, &texts, |_, prompt| {
                let shown = Shown::read(prompt);
                let mut places: Vec<usize> = (0..shown.candidates.len()).collect();
                places.sort_by_key(|place| !shown.candidates[*place]["content"].as_str().unwrap().contains("42 ("));
                json!({"selected_indices": places}).to_string()
            })
            .await;
            let picked = judged.picked();
            assert_eq!(picked.len(), top_n.min(count), "{top_n} of {count}");
            // Of each group half may go on, so that two always come through, wherever they meet.
            if top_n == 2 || count <= 8 {
                assert!(good.iter().all(|index| picked.contains(index)), "{top_n} of {count}: {picked:?}");
            }
        }
    }
}

#[tokio::test]
async fn candidates_are_shuffled_by_the_seed_and_the_order_is_undone() {
    let shown = async |seed: i64| {
        let generator = Arc::new(Scripted {
            answer: Box::new(|_, _| Ok(completion(r#"{"selected_indices": [0]}"#))),
            seen: Mutex::default(),
        });
        let target = JudgeTarget {
            generator: generator.clone(),
            model: "judge".to_owned(),
            structured_output: StructuredOutput::Unsupported,
        };
        let candidates: Vec<Completion> = texts(8).iter().map(|text| completion(text)).collect();
        let candidates: Vec<&Completion> = candidates.iter().collect();
        let (judge, run) = (Judge { target, settings: settings(JudgeMode::Groupwise) }, Arc::new(Run::new(Some(seed))));
        let scores = judge.score(&Arc::new(question()), &candidates, &run).await.unwrap();
        let order: Vec<String> = Shown::read(&generator.seen.lock()[0])
            .candidates
            .iter()
            .map(|candidate| candidate["content"].as_str().unwrap().to_owned())
            .collect();
        let picked = scores.values.iter().position(|value| *value == Some(1.0)).unwrap();
        assert_eq!(order[0], format!("candidate number {picked}."));
        order
    };
    assert_eq!(shown(1).await, shown(1).await);
    let mut first: Vec<String> = Vec::new();
    for seed in 0..20 {
        first.push(shown(seed).await.swap_remove(0));
    }
    first.sort();
    first.dedup();
    assert!(first.len() > 3, "a place would be an advantage: {first:?}");
}

#[tokio::test]
async fn each_candidate_is_scored_by_itself() {
    let judged = judge(settings(JudgeMode::Pointwise), &["41".into(), "42".into(), "43".into()], |_, prompt| {
        let shown = Shown::read(prompt);
        assert_eq!(shown.candidates.len(), 1);
        shown.prefers("42")
    })
    .await;
    assert_eq!(judged.values(), [Some(2.0), Some(9.0), Some(2.0)]);
    assert_eq!(judged.notes(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_three_times_with_a_reminder() {
    let judged = judge(settings(JudgeMode::Groupwise), &texts(3), |number, prompt| {
        assert_eq!(Shown::read(prompt).task.contains("last answer"), number > 0);
        if number < 2 { "I like the first one".to_owned() } else { r#"{"selected_indices": [0]}"#.to_owned() }
    })
    .await;
    assert_eq!((judged.picked().len(), judged.seen.len()), (1, 3));
    let judged = judge(settings(JudgeMode::Groupwise), &texts(3), |_, _| r#"{"selected_indices": [3]}"#.into()).await;
    let failure = judged.scores.unwrap_err();
    assert_eq!((failure.kind, judged.seen.len()), (FailureKind::Malformed, 3));
    assert!(failure.message.contains("selected_indices"), "{failure}");
}

#[tokio::test]
async fn a_candidate_whose_verdicts_cannot_be_read_has_no_score_and_the_others_do() {
    let judged = judge(settings(JudgeMode::Pointwise), &texts(3), |_, prompt| {
        let shown = Shown::read(prompt);
        if shown.candidates[0]["content"].as_str().unwrap().contains('1') {
            "no".to_owned()
        } else {
            shown.prefers("x")
        }
    })
    .await;
    assert_eq!(judged.values(), [Some(2.0), None, Some(2.0)]);
    assert!(judged.notes()[0].contains("1 of 3"), "{:?}", judged.notes());
    assert_eq!(judged.seen.len(), 5);
    let judged = judge(settings(JudgeMode::Pointwise), &texts(3), |_, _| r#"{"score": 11}"#.into()).await;
    assert_eq!(judged.scores.unwrap_err().kind, FailureKind::Malformed);
}

#[tokio::test]
async fn one_group_that_cannot_be_judged_leaves_the_others_in_the_race() {
    let mut texts = texts(16);
    texts[3] = "poison".to_owned();
    let judged = judge(settings(JudgeMode::Groupwise), &texts, |_, prompt| {
        let shown = Shown::read(prompt);
        let poisoned = shown.candidates.iter().any(|candidate| candidate["content"] == "poison");
        if poisoned { String::new() } else { shown.prefers("x") }
    })
    .await;
    assert_eq!(judged.values().iter().filter(|value| value.is_none()).count(), 8);
    assert_eq!((judged.values()[3], judged.picked().len()), (None, 1));
    assert!(judged.notes()[0].contains("8 of the candidates"), "{:?}", judged.notes());
}

#[tokio::test]
async fn a_failed_call_is_not_made_again_here() {
    let candidates = [completion("a"), completion("b")];
    for mode in [JudgeMode::Pointwise, JudgeMode::Groupwise] {
        let refuse = |_: usize, _: &Prompt| Err(Failure::new(FailureKind::Auth, "wrong key"));
        let judged = judge_by(settings(mode), StructuredOutput::JsonSchema, question(), &candidates, refuse).await;
        assert_eq!(judged.scores.unwrap_err().kind, FailureKind::Auth);
        assert_eq!(judged.seen.len(), 1);
    }
}

#[tokio::test]
async fn a_judge_that_is_gone_for_good_is_not_asked_about_every_candidate() {
    for kind in [FailureKind::Auth, FailureKind::NotFound] {
        for mode in [JudgeMode::Pointwise, JudgeMode::Groupwise] {
            let answer = move |number: usize, prompt: &Prompt| match number {
                0 => Ok(completion(&Shown::read(prompt).prefers("x"))),
                _ => Err(Failure::new(kind, "not for you")),
            };
            let candidates: Vec<Completion> = texts(100).iter().map(|text| completion(text)).collect();
            let judged = judge_by(settings(mode), StructuredOutput::JsonSchema, question(), &candidates, answer).await;
            assert_eq!(judged.scores.unwrap_err().kind, kind, "what was judged before decides nothing");
            assert!(judged.seen.len() <= 40, "{mode:?}: {}", judged.seen.len());
        }
    }
}

#[tokio::test]
async fn those_who_are_picked_are_ranked_as_the_judge_named_them() {
    let settings = JudgeSettings { top_n: 3, ..settings(JudgeMode::Groupwise) };
    let last_first = |_: usize, prompt: &Prompt| {
        let shown = Shown::read(prompt).candidates;
        let mut places: Vec<usize> = (0..shown.len()).collect();
        places.sort_by_key(|place| std::cmp::Reverse(shown[*place]["content"].as_str().unwrap().to_owned()));
        json!({"selected_indices": places}).to_string()
    };
    let judged = judge(settings.clone(), &texts(5), last_first).await;
    assert_eq!(judged.values(), [Some(0.0), Some(0.0), Some(1.0), Some(1.0), Some(1.0)]);
    assert_eq!(judged.scores.unwrap().ranks[2..], [2, 1, 0]);
    // The last round of a tournament ranks.
    let judged = judge(settings.clone(), &texts(10), last_first).await;
    assert_eq!(judged.picked(), [7, 8, 9]);
    assert_eq!(judged.scores.unwrap().ranks[7..], [2, 1, 0]);
    // Where nobody had to be compared nobody is ranked.
    let judged = judge(settings, &texts(3), |_, _| unreachable!()).await;
    assert_eq!(judged.scores.unwrap().ranks, [0, 0, 0]);
}

#[tokio::test]
async fn parameters_that_the_judges_server_refuses_are_left_out_one_by_one() {
    let candidates = [completion("a"), completion("b")];
    let refused = |message: &str| Err(Failure::new(FailureKind::InvalidRequest, message));
    let answer = move |_: usize, prompt: &Prompt| {
        let sampling = &prompt.sampling;
        if prompt.response_format.is_some() {
            return refused("response_format is not supported");
        }
        if sampling.temperature.is_some() {
            return refused("Unsupported value: 'temperature' does not support 0 with this model");
        }
        if sampling.max_tokens.unwrap().name.as_str() == "max_tokens" {
            return refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.");
        }
        Ok(completion(r#"{"selected_indices": [1]}"#))
    };
    let groupwise = settings(JudgeMode::Groupwise);
    let judged = judge_by(groupwise.clone(), StructuredOutput::JsonSchema, question(), &candidates, answer).await;
    assert_eq!((judged.picked().len(), judged.seen.len()), (1, 4));
    assert!(judged.notes()[0].contains("judge_temperature"), "{:?}", judged.notes());

    // A server that nobody knows may refuse a schema in any words, once.
    let answer = move |_: usize, prompt: &Prompt| match prompt.response_format {
        Some(_) => refused("extra inputs are not permitted"),
        None => Ok(completion(r#"{"selected_indices": [1]}"#)),
    };
    let judged = judge_by(groupwise.clone(), StructuredOutput::Unknown, question(), &candidates, answer).await;
    assert_eq!((judged.picked().len(), judged.seen.len()), (1, 2));
    let judged = judge_by(groupwise, StructuredOutput::JsonSchema, question(), &candidates, answer).await;
    assert_eq!(judged.scores.unwrap_err().kind, FailureKind::InvalidRequest);
}

#[tokio::test]
async fn the_form_of_the_verdict_is_asked_for_as_the_server_takes_it() {
    for (structured_output, expected) in [
        (StructuredOutput::JsonSchema, json!("json_schema")),
        (StructuredOutput::Unknown, json!("json_schema")),
        (StructuredOutput::JsonObject, json!("json_object")),
        (StructuredOutput::Unsupported, Value::Null),
    ] {
        let answer = |_: usize, _: &Prompt| Ok(completion(r#"{"score": 1}"#));
        let pointwise = settings(JudgeMode::Pointwise);
        let judged = judge_by(pointwise, structured_output, question(), &[completion("a")], answer).await;
        let prompt = &judged.seen[0];
        let format = prompt.response_format.as_deref().map(RawValue::get);
        let format: Value = format.map_or(Value::Null, |format| serde_json::from_str(format).unwrap());
        assert_eq!(format["type"], expected);
        assert_eq!(prompt.model, "judge");
        assert_eq!(prompt.sampling.temperature, Some(0.0));
        assert_eq!(prompt.sampling.max_tokens.unwrap().tokens, 4096);
    }
}

#[tokio::test]
async fn nobody_is_asked_once_the_run_has_reached_a_bound() {
    let target = JudgeTarget {
        generator: Arc::new(Scripted { answer: Box::new(|_, _| unreachable!()), seen: Mutex::default() }),
        model: "judge".to_owned(),
        structured_output: StructuredOutput::Unsupported,
    };
    let (a, b) = (completion("a"), completion("b"));
    for (bounds, kind) in [
        (Bounds { deadline: Some(tokio::time::Instant::now()), ..Bounds::default() }, FailureKind::Deadline),
        (Bounds { max_total_tokens: Some(0), ..Bounds::default() }, FailureKind::Limit),
    ] {
        let run = Arc::new(Run { bounds, ..Run::new(None) });
        let judge = Judge { target: target.clone(), settings: settings(JudgeMode::Groupwise) };
        assert_eq!(judge.score(&Arc::new(question()), &[&a, &b], &run).await.unwrap_err().kind, kind);
    }
}
