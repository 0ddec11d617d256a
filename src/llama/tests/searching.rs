use std::collections::BTreeMap;

use super::*;
use crate::completion::{FinishReason, MaxTokens, MaxTokensName, Signals};

fn rule() -> StepRule {
    StepRule {
        step_token: Some("\n\n".into()),
        tokens_per_step: None,
        stop_token: None,
        ends_when_boxed: false,
        temperature_switch: None,
    }
}

/// Steps of one token each.
fn token_by_token() -> StepRule {
    StepRule { step_token: None, tokens_per_step: Some(1), ..rule() }
}

fn small() -> Engine {
    Engine::load(&small_spec()).unwrap()
}

/// Waits for a future on this thread, between waits that block.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(engine: &Engine, prompt: &Prompt, rule: StepRule, seeds: &[u64]) -> Vec<SearchPath> {
    run(engine.search(prompt, Arc::new(rule), seeds.iter().copied()).unwrap().opened()).unwrap()
}

fn advance(path: &mut SearchPath) -> Stepped {
    run(path.advance()).unwrap()
}

/// Extends a path to its end. All of its text and the answer.
fn finish(path: &mut SearchPath) -> (String, Completion) {
    let mut text = String::new();
    loop {
        let Stepped { step, .. } = advance(path);
        text.push_str(&step.text);
        if let Some(end) = step.end {
            return (text, end);
        }
    }
}

/// Waits until the engine holds nothing for anybody.
fn settled(engine: &Engine) -> EngineStats {
    loop {
        let stats = engine.stats();
        if (stats.live_sequences, stats.reserved_tokens, stats.waiting_jobs) == (0, 0, 0) {
            return stats;
        }
        std::thread::yield_now();
    }
}

#[test]
fn steps_are_byte_for_byte_one_uninterrupted_generation() {
    let engine = small();
    let mut question = sum("23 + 48 - 17 + 66");
    question.sampling.temperature = Some(1.5);
    let seeds: Vec<u64> = (0..12).collect();
    // One by one, as the paths are: batches of another shape change logits in a late digit.
    let whole: Vec<Completion> =
        seeds.iter().map(|seed| completions(&engine, job(&question, [*seed])).remove(0)).collect();
    let rules = [
        rule(),
        token_by_token(),
        StepRule { step_token: Some(" = ".into()), tokens_per_step: Some(7), ..rule() },
        StepRule { step_token: None, tokens_per_step: None, ..rule() },
    ];
    for rule in rules {
        let mut paths = open(&engine, &question, rule, &seeds);
        for (path, whole) in paths.iter_mut().zip(&whole) {
            let (text, end) = finish(path);
            assert_eq!(text, super::text(whole));
            assert_eq!(end.reply.content(), whole.reply.content());
            assert_eq!((&end.finish_reason, end.mean_logprob), (&whole.finish_reason, whole.mean_logprob));
        }
    }
}

#[test]
fn a_fork_draws_what_its_lineage_says_however_its_steps_are_cut() {
    let engine = small();
    let mut question = sum("23 + 48 - 17 + 66");
    question.sampling.temperature = Some(1.5);
    // Where the steps end: after so many tokens of each path.
    let mut by_steps = open(&engine, &question, rule(), &[7]).remove(0);
    let first = advance(&mut by_steps).step;
    let mut forks = [by_steps.fork(), by_steps.fork()];
    let mut lineages = Vec::new();
    for fork in &mut forks {
        let second = advance(fork).step;
        let mut grandchild = fork.fork();
        let (rest, _) = finish(&mut grandchild);
        lineages.push((first.tokens, second.tokens, format!("{}{}{rest}", first.text, second.text)));
    }
    assert_ne!(lineages[0].2, lineages[1].2, "forks have random numbers of their own");
    let (rest, _) = finish(&mut by_steps);
    let alone = completions(&engine, job(&question, [7])).remove(0);
    assert_eq!(format!("{}{rest}", first.text), text(&alone), "and whom they were forked from goes on with its own");

    let mut by_tokens = open(&engine, &question, token_by_token(), &[7]).remove(0);
    let mut begun = String::new();
    for _ in 0..lineages[0].0 {
        begun.push_str(&advance(&mut by_tokens).step.text);
    }
    for (_, second, whole) in &lineages {
        let mut fork = by_tokens.fork();
        let mut text = begun.clone();
        for _ in 0..*second {
            text.push_str(&advance(&mut fork).step.text);
        }
        let (rest, _) = finish(&mut fork.fork());
        assert_eq!(&(text + &rest), whole);
    }
}

#[test]
fn a_search_evaluates_its_prompt_and_each_token_once() {
    let engine = small();
    let question = sum("23 + 48 - 17 + 66 - 9 + 4");
    let before = engine.stats();
    let mut paths = open(&engine, &question, rule(), &[1, 2, 3, 4]);
    let mut usage = Usage::default();
    let mut ended = 0;
    for round in 0..4 {
        let mut next = Vec::new();
        for mut path in paths.drain(..) {
            let stepped = advance(&mut path);
            usage += stepped.usage;
            // The last token of a path that has ended is not evaluated: nobody wants to know what would follow it.
            ended += u64::from(stepped.step.end.is_some());
            // Some are pruned, some go on, some are forked.
            if stepped.step.end.is_none() && (next.len() + round) % 3 != 2 {
                next.push(path.fork());
                next.push(path.fork());
                next.push(path);
            }
        }
        paths.extend(next.into_iter().take(6));
    }
    drop(paths);
    let stats = settled(&engine);
    assert_eq!(usage.prompt_tokens, prompt_tokens(&engine, &question));
    assert_eq!(stats.generated_tokens - before.generated_tokens, usage.completion_tokens);
    assert_eq!(
        stats.evaluated_tokens - before.evaluated_tokens,
        usage.prompt_tokens + usage.completion_tokens - ended,
        "nothing is evaluated twice"
    );
}

#[test]
fn a_fork_takes_no_cells_until_it_goes_its_own_way() {
    let engine = small();
    let question = sum("23 + 48 - 17");
    let mut path = open(&engine, &question, rule(), &[1]).remove(0);
    advance(&mut path);
    let held = engine.stats().reserved_tokens;
    let mut forks: Vec<SearchPath> = (0..100).map(|_| path.fork()).collect();
    // Commands are done in their order: when the last fork has gone on, all are there.
    advance(&mut forks[99]);
    let stats = engine.stats();
    assert_eq!(stats.live_sequences, 101);
    assert!(stats.reserved_tokens < held + 200, "{} and not {held} for each", stats.reserved_tokens);
    drop(forks);
    drop(path);
    settled(&engine);
}

#[test]
fn paths_that_are_dropped_free_everything_wherever_they_are() {
    let engine = small();
    let question = sum("23 + 48");
    // Not begun, resting, forked, and in the middle of a step.
    let mut paths = open(&engine, &question, rule(), &[1, 2, 3]);
    advance(&mut paths[1]);
    let fork = paths[1].fork();
    run(async {
        let mut advance = std::pin::pin!(paths[2].advance());
        let _ = futures_util::poll!(advance.as_mut());
    });
    drop(fork);
    drop(paths);
    settled(&engine);
    // Before there was room for it.
    run(async {
        let opening = engine.search(&question, Arc::new(rule()), [1].into_iter()).unwrap();
        let mut opening = Box::pin(opening.opened());
        let _ = futures_util::poll!(&mut opening);
    });
    settled(&engine);
    assert_eq!(completions(&engine, job(&question, 0..3)).len(), 3, "and the engine goes on");
}

#[test]
fn an_answer_that_is_cut_short_says_what_there_is() {
    let engine = small();
    let question = sum("23 + 48 - 17");
    let mut paths = open(&engine, &question, rule(), &[1, 2]);
    let unbegun = run(paths.pop().unwrap().into_answer()).unwrap();
    assert_eq!((unbegun.reply.content(), unbegun.finish_reason), (Some(""), FinishReason::Length));
    let mut path = paths.pop().unwrap();
    let step = advance(&mut path).step;
    let fork = path.fork();
    for path in [path, fork] {
        let answer = run(path.into_answer()).unwrap();
        assert_eq!((answer.reply.content(), &answer.finish_reason), (Some(&*step.text), &FinishReason::Length));
        assert_eq!(answer.usage.completion_tokens, u64::from(step.tokens));
    }
    settled(&engine);
}

#[test]
fn a_path_that_has_ended_and_its_forks_keep_their_answer_without_the_engine() {
    let engine = small();
    let question = sum("23 + 48");
    let mut path = open(&engine, &question, rule(), &[1]).remove(0);
    let (_, end) = finish(&mut path);
    assert_eq!(run(path.advance()).unwrap_err().kind, FailureKind::Internal);
    let fork = path.fork();
    drop(engine);
    for path in [path, fork] {
        assert_eq!(run(path.into_answer()).unwrap().reply.content(), end.reply.content());
    }
}

#[test]
fn steps_tell_their_tokens_and_these_spell_their_text() {
    let engine = small();
    let mut question = sum("23 + 48 - 17");
    question.signals = Some(Signals { top: 2, self_certainty: false });
    let mut path = open(&engine, &question, rule(), &[3]).remove(0);
    loop {
        let step = advance(&mut path).step;
        let spelled: Vec<u8> = step.signals.iter().flat_map(|token| token.bytes.to_vec()).collect();
        assert_eq!(String::from_utf8(spelled).unwrap(), step.text);
        assert!(step.signals.iter().all(|token| token.top.len() == 2));
        if let Some(end) = step.end {
            // The token that ends the turn is no part of the text.
            assert_eq!(end.usage.completion_tokens, end.tokens.unwrap().len() as u64 + 1);
            return;
        }
        assert!(step.text.ends_with("\n\n"), "{:?}", step.text);
    }
}

#[test]
fn a_closed_box_ends_a_path_and_so_does_a_length_limit() {
    let engine = small();
    let mut question = sum("23 + 48");
    question.sampling.temperature = Some(0.0);
    let boxed = StepRule { ends_when_boxed: true, ..rule() };
    let (text, end) = finish(&mut open(&engine, &question, boxed, &[1])[0]);
    assert!(text.contains("\\boxed{71}") && end.finish_reason == FinishReason::Stop, "{text}");
    question.sampling.max_tokens = Some(MaxTokens { tokens: 3, name: MaxTokensName::MaxTokens });
    let (_, end) = finish(&mut open(&engine, &question, rule(), &[1])[0]);
    assert_eq!((end.finish_reason, end.usage.completion_tokens), (FinishReason::Length, 3));
}

#[test]
fn searches_that_outgrow_the_cache_together_come_to_their_end() {
    let context = ENGINE.info().context_length;
    let engine = Engine::load(&ModelSpec { max_sequences: 4, context_tokens: Some(context), ..spec() }).unwrap();
    let mut question = sum("23 + 48");
    let vocabulary = &engine.0.vocabulary;
    question.sampling.logit_bias =
        (0..vocabulary.size()).filter(|token| vocabulary.ends_turn(*token)).map(|token| (token, -1000.0)).collect();
    let long = StepRule { step_token: None, tokens_per_step: Some(40), ..rule() };
    let mut paths = open(&engine, &question, long.clone(), &[1, 2, 3, 4, 5, 6]);
    let room = u64::from(context) - prompt_tokens(&engine, &question);
    let mut lengths = BTreeMap::new();
    while lengths.values().filter(|length| **length == room).count() < 6 {
        let steps = run(futures_util::future::join_all(paths.iter_mut().enumerate().map(async |(number, path)| {
            (number, if path.has_ended() { None } else { Some(path.advance().await.unwrap().step) })
        })));
        for (number, step) in steps {
            let Some(step) = step else { continue };
            *lengths.entry(number).or_insert(0) += u64::from(step.tokens);
            let end = step.end.map(|end| (end.usage.completion_tokens, end.finish_reason));
            assert!(end.is_none_or(|end| end == (room, FinishReason::Length)));
        }
    }
    drop(paths);
    settled(&engine);
}

#[test]
fn more_paths_than_the_engine_has_places_are_refused_by_the_parameter() {
    let too_many = 0..MAX_PATHS as u64 + 1;
    let seeds: Vec<u64> = too_many.collect();
    let failure = ENGINE.search(&sum("1 + 2"), Arc::new(rule()), seeds.into_iter()).unwrap_err();
    assert_eq!(failure.param.as_deref(), Some("budget"));
    assert!(failure.message.contains("128"), "{}", failure.message);
}

#[test]
fn a_fork_without_a_place_fails_alone() {
    let engine = small();
    let mut path = open(&engine, &sum("23 + 48 - 17"), rule(), &[1]).remove(0);
    advance(&mut path);
    let mut forks: Vec<SearchPath> = (0..300).map(|_| path.fork()).collect();
    let failure = run(forks[299].advance()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Overloaded);
    advance(&mut forks[0]);
    advance(&mut path);
    drop((path, forks));
    settled(&engine);
}

#[test]
fn a_path_that_has_a_form_ends_where_the_form_does() {
    let engine = small();
    let mut question = sum("23 + 48");
    let schema = serde_json::json!({"type": "json_schema", "json_schema": {"name": "a", "schema": {
        "type": "object", "properties": {"answer": {"type": "string", "enum": ["\\boxed{71} END", "END\n\n"]}},
        "required": ["answer"], "additionalProperties": false}}});
    question.response_format = Some(serde_json::value::to_raw_value(&schema).unwrap());
    let rule = StepRule { ends_when_boxed: true, stop_token: Some("END".into()), ..rule() };
    for seed in 0..6 {
        let (text, end) = finish(&mut open(&engine, &question, rule.clone(), &[seed])[0]);
        assert_eq!(end.finish_reason, FinishReason::Stop, "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    }
}

#[test]
fn a_search_and_who_waits_behind_it_both_come_to_their_end_in_a_cache_of_one_context() {
    let context = ENGINE.info().context_length;
    let engine = Engine::load(&ModelSpec { max_sequences: 4, context_tokens: Some(context), ..spec() }).unwrap();
    let question = sum("23 + 48 - 17 + 66");
    let mut paths = open(&engine, &question, rule(), &(0..12).collect::<Vec<_>>());
    let behind = engine.generate(job(&sum("1 + 2 + 3"), 0..20)).unwrap();
    while !paths.is_empty() {
        let steps =
            run(futures_util::future::join_all(paths.iter_mut().map(async |path| path.advance().await.unwrap().step)));
        let mut over = steps.iter().map(|step| step.end.is_some());
        paths.retain(|_| !over.next().unwrap());
    }
    assert!(ends(behind).values().all(Result::is_ok));
    settled(&engine);
}

#[test]
fn who_cancels_is_answered_although_everything_rests() {
    let engine = small();
    let searches: Vec<_> =
        (0..8).map(|seed| open(&engine, &sum(&format!("{seed} + 48")), rule(), &[seed; 16])).collect();
    // There is no place for another search, and whoever comes behind it needs none.
    let waiting = engine.search(&sum("5 + 5"), Arc::new(rule()), [1].into_iter()).unwrap();
    let mut answers = engine.generate(job(&sum("1 + 2"), 0..2)).unwrap();
    answers.close();
    assert_eq!(ends(answers).len(), 2);
    drop(waiting);
    drop(searches);
    settled(&engine);
}
