use super::*;
use crate::completion::{MaxTokens, MaxTokensName};

/// A conversation of so many turns.
fn conversation(turns: usize) -> Prompt {
    let mut question = sum("1 + 2");
    let messages: Vec<serde_json::Value> = (0..turns)
        .map(|turn| {
            let role = if turn % 2 == 0 { "user" } else { "assistant" };
            serde_json::json!({"role": role, "content": format!("What is {turn} + 2?")})
        })
        .collect();
    question.messages = serde_json::value::to_raw_value(&messages).unwrap();
    question.sampling.max_tokens = Some(MaxTokens { tokens: 4, name: MaxTokensName::MaxTokens });
    question
}

#[test]
fn requests_that_come_together_with_one_prompt_evaluate_it_once() {
    let engine = Engine::load(&small_spec()).unwrap();
    let question = conversation(9);
    let receivers: Vec<_> = (0..8).map(|seed| engine.generate(job(&question, [seed])).unwrap()).collect();
    let mut usage = Usage::default();
    for receiver in receivers {
        usage += ends(receiver).remove(&0).unwrap().unwrap().usage;
    }
    let length = prompt_tokens(&engine, &question);
    let stats = engine.stats();
    assert_eq!(stats.prompt_tokens, length);
    assert_eq!(stats.shared_tokens, 7 * length);
    assert_eq!((usage.prompt_tokens, usage.cached_tokens), (8 * length, 7 * length));
}

#[test]
fn a_prompt_shares_what_it_has_in_common_with_one_that_is_still_being_read() {
    let engine = Engine::load(&small_spec()).unwrap();
    let (short, long) = (conversation(5), conversation(9));
    let receivers = [&long, &short, &long].map(|question| engine.generate(job(question, [1])).unwrap());
    for receiver in receivers {
        assert!(ends(receiver).remove(&0).unwrap().is_ok());
    }
    let (short, long) = (prompt_tokens(&engine, &short), prompt_tokens(&engine, &long));
    let evaluated = engine.stats().prompt_tokens;
    assert!(evaluated < long + short / 2, "{evaluated} of {long} and {short}");
}

#[test]
fn a_prompt_that_was_given_up_half_way_is_a_beginning_for_the_next() {
    let engine = Engine::load(&ModelSpec { batch_tokens: 256, ..small_spec() }).unwrap();
    let question = conversation(9);
    drop(engine.generate(job(&question, [1])).unwrap());
    drop(engine.generate(job(&question, [2])).unwrap());
    assert!(ends(engine.generate(job(&question, [3])).unwrap()).remove(&0).unwrap().is_ok());
    let stats = engine.stats();
    assert!(stats.prompt_tokens <= prompt_tokens(&engine, &question));
    assert_eq!((stats.live_sequences, stats.reserved_tokens, stats.waiting_jobs), (0, 0, 0));
}

#[test]
fn a_text_goes_on_from_the_answer_before() {
    let engine = Engine::load(&small_spec()).unwrap();
    let mut question = sum("23 + 48");
    question.sampling.temperature = Some(0.0);
    let ask = |text: &str| {
        let events = engine.continue_text(text, &job(&question, [1])).unwrap();
        ends(events).remove(&0).unwrap().unwrap()
    };
    let Inner { template, vocabulary, .. } = &*engine.0;
    let begun = template.render(question.messages.get(), &[], vocabulary).unwrap();
    let answer = ask(&begun);
    let before = engine.stats();
    let longer = format!("{begun}{}{}{begun}", text(&answer), vocabulary.eos_text());
    let second = ask(&longer);
    let evaluated = engine.stats().prompt_tokens - before.prompt_tokens;
    assert_eq!(second.usage.prompt_tokens, vocabulary.tokenize(&longer).len() as u64);
    assert_eq!(second.usage.cached_tokens, second.usage.prompt_tokens - evaluated);
    let answered = answer.usage.completion_tokens;
    assert!(answered > 20, "{answer:?}");
    assert!(second.usage.cached_tokens >= before.prompt_tokens + answered - 2, "{:?}, {answered}", second.usage);
}

#[test]
fn the_same_question_again_costs_no_prompt_and_gets_the_same_answer() {
    let engine = Engine::load(&small_spec()).unwrap();
    let question = sum("23 + 48 - 17");
    let once = completions(&engine, job(&question, 0..3));
    let evaluated = engine.stats().prompt_tokens;
    let again = completions(&engine, job(&question, 0..3));
    assert_eq!(engine.stats().prompt_tokens, evaluated);
    for (one, other) in once.iter().zip(&again) {
        assert_eq!(text(one), text(other));
    }
}

#[test]
fn what_is_kept_for_nobody_is_bounded_and_makes_way() {
    let engine = Engine::load(&ModelSpec { kept_tokens: Some(100), ..small_spec() }).unwrap();
    for first in 0..20 {
        assert_eq!(completions(&engine, job(&sum(&format!("{first} + 11 + 20")), 0..2)).len(), 2);
        assert!(engine.stats().kept_tokens <= 100, "{}", engine.stats().kept_tokens);
    }
    // A cache of one context keeps prompts only as long as nobody needs the room.
    let context = ENGINE.info().context_length;
    let engine =
        Engine::load(&ModelSpec { context_tokens: Some(context), kept_tokens: Some(context), ..small_spec() }).unwrap();
    for first in 0..20 {
        assert_eq!(completions(&engine, job(&conversation(first % 11 + 1), 0..3)).len(), 3);
    }
}

/// A text of so many sentences about a number, which is its own from the first one on.
fn about(number: usize, sentences: usize) -> String {
    (0..sentences).map(|place| format!("What is {number} + {place}? ")).collect()
}

/// Four tokens that follow a text.
fn follow(engine: &Engine, text: &str) -> Completion {
    let events = engine.continue_text(text, &job(&conversation(1), [1])).unwrap();
    ends(events).remove(&0).unwrap().unwrap()
}

/// Talks with so many, in turns: the beginning with each, then how it goes on. What follows, and the prompt tokens that
/// were evaluated for how it goes on.
fn talks(engine: &Engine, count: usize) -> (Vec<Completion>, u64) {
    let mut answers: Vec<Completion> = (0..count).map(|number| follow(engine, &about(number, 16))).collect();
    let before = engine.stats().prompt_tokens;
    answers.extend((0..count).map(|number| follow(engine, &about(number, 18))));
    (answers, engine.stats().prompt_tokens - before)
}

#[test]
fn conversations_that_made_way_go_on_where_they_were() {
    let (shelving, forgetting) = (
        Engine::load(&small_spec()).unwrap(),
        Engine::load(&ModelSpec { kept_tokens: Some(0), ..small_spec() }).unwrap(),
    );
    let (answers, evaluated) = talks(&shelving, 6);
    let (expected, again) = talks(&forgetting, 6);
    assert!(again > 6 * evaluated, "{evaluated} and {again}");
    for (answer, expected) in answers.iter().zip(&expected) {
        assert_eq!(text(answer), text(expected));
    }
    let stats = shelving.stats();
    assert!(stats.shelved_bytes > 0, "{stats:?}");
    assert_eq!((stats.reserved_tokens, forgetting.stats().shelved_bytes, forgetting.stats().kept_tokens), (0, 0, 0));
}

#[test]
fn the_beginning_of_what_has_made_way_is_fetched_and_the_rest_stays() {
    let engine = Engine::load(&small_spec()).unwrap();
    let first = follow(&engine, &about(11, 18));
    for number in 12..15 {
        follow(&engine, &about(number, 18));
    }
    let before = engine.stats();
    assert!(before.shelved_bytes > 0);
    let shorter = follow(&engine, &about(11, 12));
    let evaluated = engine.stats().prompt_tokens - before.prompt_tokens;
    assert_eq!(shorter.usage.cached_tokens, shorter.usage.prompt_tokens - evaluated);
    assert!(evaluated * 8 < shorter.usage.prompt_tokens, "{evaluated} of {:?}", shorter.usage);
    // As a whole it is still there.
    let before = engine.stats().prompt_tokens;
    assert_eq!(text(&follow(&engine, &about(11, 18))), text(&first));
    assert!(engine.stats().prompt_tokens - before <= 2);
}

#[test]
fn what_texts_have_in_common_is_in_the_cache_once_also_after_they_made_way() {
    let engine = Engine::load(&small_spec()).unwrap();
    let common = about(7, 4);
    let ask = |number: usize| follow(&engine, &(common.clone() + &about(number, 12)));
    let length = engine.0.vocabulary.tokenize(&common).len() as u64;
    let first: Vec<Completion> = (21..25).map(ask).collect();
    assert!(engine.stats().shelved_bytes > 0);
    let before = engine.stats().prompt_tokens;
    // All of them at the same time.
    let receivers: Vec<_> = (21..25)
        .map(|number| {
            let text = common.clone() + &about(number, 12);
            engine.continue_text(&text, &job(&conversation(1), [1])).unwrap()
        })
        .collect();
    let again: Vec<Completion> = receivers.into_iter().map(|it| ends(it).remove(&0).unwrap().unwrap()).collect();
    assert!(engine.stats().prompt_tokens - before <= 4, "a token each, to go on from");
    for (first, again) in first.iter().zip(&again) {
        assert_eq!(text(first), text(again));
    }
    let all: u64 = again.iter().map(|answer| answer.usage.prompt_tokens + answer.usage.completion_tokens).sum();
    let kept = engine.stats().kept_tokens;
    assert!(kept + 3 * length <= all, "{kept} of {all}, of which each has {length}");
}

#[test]
fn a_prompt_makes_way_together_with_its_short_answer() {
    let engine = Engine::load(&small_spec()).unwrap();
    let first = follow(&engine, &about(41, 14));
    let kept = engine.stats().kept_tokens;
    assert_eq!(engine.stats().shelved_bytes, 0, "nobody else has come");
    follow(&engine, &about(42, 14));
    assert!(engine.stats().shelved_bytes > 0);
    assert!(engine.stats().kept_tokens <= kept + 9, "{} after {kept}", engine.stats().kept_tokens);
    let again = follow(&engine, &about(41, 14));
    assert_eq!((again.usage.cached_tokens + 1, text(&again)), (first.usage.prompt_tokens, text(&first)));
}

#[test]
fn without_memory_for_it_nothing_makes_way_before_there_is_need() {
    let engine = Engine::load(&ModelSpec { kept_bytes: 0, ..small_spec() }).unwrap();
    let first = follow(&engine, &about(31, 8));
    follow(&engine, &about(32, 8));
    assert_eq!(engine.stats().shelved_bytes, 0);
    let again = follow(&engine, &about(31, 8));
    assert!(again.usage.cached_tokens + 1 >= first.usage.prompt_tokens, "{:?}", again.usage);
}

#[test]
fn what_has_made_way_takes_no_more_memory_than_it_may() {
    let most = 1 << 20;
    let engine = Engine::load(&ModelSpec { kept_bytes: most, ..small_spec() }).unwrap();
    let mut largest = 0;
    for first in 0..30 {
        follow(&engine, &about(first, 12));
        let bytes = engine.stats().shelved_bytes;
        largest = largest.max(bytes);
        assert!(bytes <= most as u64, "{bytes}");
    }
    assert!(largest > most as u64 / 2, "{largest}");
}

#[tokio::test]
async fn a_text_that_is_scored_is_evaluated_once_for_that_and_for_its_continuation() {
    let engine = Engine::load(&small_spec()).unwrap();
    let text = "What is 23 + 48 - 17? ".repeat(6);
    let (scored, again) = tokio::join!(engine.score(&text, 2), engine.score(&text, 0));
    let (scored, again) = (scored.unwrap(), again.unwrap());
    let tokens = engine.0.vocabulary.tokenize(&text).len();
    assert_eq!((scored.tokens.len(), scored.usage.prompt_tokens), (tokens, tokens as u64));
    assert_eq!(scored.tokens[0].logprob, None);
    for (one, other) in scored.tokens.iter().zip(&again.tokens).skip(1) {
        let (logprob, top) = (one.logprob.unwrap(), &one.top);
        assert!(logprob <= 0.0 && top.len() == 2 && top[0].1 >= top[1].1 && top[0].1 >= logprob - 1e-9);
        let again = other.logprob.unwrap();
        assert!((logprob - again).abs() < 1e-3 * logprob.abs().max(1.0), "{logprob} and {again}");
        assert!(other.top.is_empty());
    }
    let spelled: Vec<u8> = scored.tokens.iter().flat_map(|token| token.bytes.to_vec()).collect();
    assert!(spelled.ends_with(text.as_bytes()));
    assert_eq!(engine.stats().prompt_tokens, 2 * tokens as u64, "each evaluates all of it, for the logits");

    let mut events = engine.continue_text(&text, &job(&sum("1 + 1"), [1])).unwrap();
    while events.recv().await.is_some() {}
    assert_eq!(engine.stats().prompt_tokens, 2 * tokens as u64);
    // Given up before it has begun, in the line or out of it.
    for _ in 0..3 {
        let mut giving_up = Box::pin(engine.score(&text, 1));
        let _ = futures_util::poll!(&mut giving_up);
    }
    while engine.stats().reserved_tokens > 0 || engine.stats().waiting_jobs > 0 {
        tokio::task::yield_now().await;
    }
}

/// A question of its own whose answers end by length alone.
fn endless(engine: &Engine, first: u32) -> Prompt {
    let mut question = conversation(9);
    let text = format!("What is {first} + 2?{}", " What is 1 + 1?".repeat(8));
    let messages = serde_json::json!([{"role": "user", "content": text}]);
    question.messages = serde_json::value::to_raw_value(&messages).unwrap();
    question.sampling.max_tokens = None;
    let vocabulary = &engine.0.vocabulary;
    question.sampling.logit_bias =
        (0..vocabulary.size()).filter(|token| vocabulary.ends_turn(*token)).map(|token| (token, -1000.0)).collect();
    question
}

#[test]
fn different_prompts_without_a_limit_run_together_and_all_come_to_their_full_length() {
    let context = ENGINE.info().context_length;
    let engine = Engine::load(&ModelSpec { context_tokens: Some(context), ..small_spec() }).unwrap();
    let questions: Vec<Prompt> = (0..5).map(|first| endless(&engine, first)).collect();
    let mut live = engine.generate(Job { live: true, ..job(&questions[0], [1]) }).unwrap();
    let others: Vec<_> =
        questions[1..].iter().map(|question| engine.generate(job(question, [1, 2])).unwrap()).collect();
    let mut most = 0;
    let mut is_over = false;
    while let Some((_, event)) = live.blocking_recv() {
        most = most.max(engine.stats().live_sequences);
        is_over |= !matches!(event, StepEvent::Delta(_));
    }
    assert!(is_over && most > 1, "{most} ran at the same time");
    for (receiver, question) in others.into_iter().zip(&questions[1..]) {
        for end in ends(receiver).into_values() {
            let end = end.unwrap();
            assert_eq!(end.finish_reason, crate::completion::FinishReason::Length);
            assert_eq!(end.usage.completion_tokens, u64::from(context) - prompt_tokens(&engine, question));
        }
    }
    let stats = engine.stats();
    assert_eq!((stats.live_sequences, stats.reserved_tokens, stats.waiting_jobs), (0, 0, 0));
}
