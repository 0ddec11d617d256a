use super::*;
use crate::completion::FinishReason;

/// A job that would run for a long time: nothing ends its turns.
fn endless(candidates: u64) -> Job {
    let mut question = sum("23 + 48");
    let vocabulary = &ENGINE.0.vocabulary;
    question.sampling.logit_bias =
        (0..vocabulary.size()).filter(|token| vocabulary.ends_turn(*token)).map(|token| (token, -1000.0)).collect();
    Job { live: true, ..job(&question, 0..candidates) }
}

#[test]
fn jobs_beside_each_other_all_come_to_their_end() {
    let receivers: Vec<_> =
        (1..6).map(|n| ENGINE.generate(job(&sum(&format!("{n} + 11 + 20")), 0..n)).unwrap()).collect();
    for (receiver, count) in receivers.into_iter().zip(1..) {
        let ends = ends(receiver);
        assert_eq!(ends.len(), count);
        assert!(ends.values().all(Result::is_ok));
    }
}

#[test]
fn a_dropped_receiver_frees_everything_for_the_next_job() {
    let engine = Engine::load(&small_spec()).unwrap();
    let mut receiver = engine.generate(endless(50)).unwrap();
    receiver.blocking_recv().unwrap();
    drop(receiver);
    assert_eq!(completions(&engine, job(&sum("1 + 2"), 0..8)).len(), 8);
    let stats = engine.stats();
    assert_eq!((stats.live_sequences, stats.reserved_tokens, stats.waiting_jobs), (0, 0, 0));
}

#[test]
fn who_closes_and_reads_on_hears_what_every_candidate_has_cost() {
    let engine = Engine::load(&small_spec()).unwrap();
    let running = endless(50);
    let prompt_tokens = prompt_tokens(&engine, &running.prompt);
    let mut receiver = engine.generate(running).unwrap();
    receiver.blocking_recv().unwrap();
    receiver.close();
    let ends: Vec<Completion> = ends(receiver).into_values().map(Result::unwrap).collect();
    assert_eq!(ends.len(), 50);
    let usage = total(&ends);
    assert_eq!(usage.prompt_tokens, prompt_tokens);
    assert_eq!(usage.completion_tokens, engine.stats().generated_tokens);
    assert!(ends.iter().any(|end| end.finish_reason == FinishReason::Other(CANCELLED.into())));
    assert_eq!(engine.stats().live_sequences, 0);
}

#[test]
fn dropping_the_engine_tells_everyone_who_waits() {
    let engine = Engine::load(&small_spec()).unwrap();
    let mut running = engine.generate(endless(50)).unwrap();
    running.blocking_recv().unwrap();
    let waiting: Vec<_> = (0..30).map(|_| engine.generate(endless(1)).unwrap()).collect();
    drop(engine);
    for receiver in waiting.into_iter().chain([running]) {
        for end in ends(receiver).into_values() {
            assert!(end.is_ok() || end.is_err_and(|failure| failure.kind == FailureKind::Unavailable));
        }
    }
}

#[test]
fn a_full_line_refuses_at_once() {
    let engine = Engine::load(&small_spec()).unwrap();
    let mut receivers = Vec::new();
    let failure = loop {
        match engine.generate(endless(8)) {
            Ok(receiver) => receivers.push(receiver),
            Err(failure) => break failure,
        }
        assert!(receivers.len() < 1000, "the line has no end");
    };
    assert_eq!(failure.kind, FailureKind::Overloaded);
    // A job that is given up before it began has cost nothing.
    let mut last = receivers.pop().unwrap();
    last.close();
    for end in ends(last).into_values() {
        let end = end.unwrap();
        assert_eq!(end.finish_reason, FinishReason::Other(CANCELLED.into()));
        assert_eq!(end.usage, Usage::default());
        assert_eq!(end.mean_logprob, None);
    }
    // Those who went away make room in the line.
    receivers.clear();
    assert_eq!(completions(&engine, job(&sum("1 + 2"), [1])).len(), 1);
}

#[test]
fn what_can_never_fit_is_refused_before_it_is_queued() {
    let endless_text = "1 + ".repeat(ENGINE.info().context_length as usize);
    for prompt in [sum(&endless_text), sum(&endless_text.repeat(1000))] {
        let failure = ENGINE.generate(job(&prompt, [1])).unwrap_err();
        assert_eq!(failure.kind, FailureKind::ContextLength);
        assert!(failure.message.starts_with("Input exceeds maximum context length"), "{}", failure.message);
    }
}

#[test]
fn a_limit_beyond_the_context_is_no_error() {
    let mut generous = sum("1 + 2");
    generous.sampling.max_tokens =
        Some(crate::completion::MaxTokens { tokens: u32::MAX, name: crate::completion::MaxTokensName::MaxTokens });
    assert_eq!(completions(&ENGINE, job(&generous, [1])).len(), 1);
}

#[test]
fn a_job_without_candidates_is_refused() {
    assert_eq!(ENGINE.generate(job(&sum("1 + 2"), [])).unwrap_err().kind, FailureKind::InvalidRequest);
}

#[test]
fn answers_that_together_outgrow_the_cache_all_come_to_their_full_length() {
    let context = ENGINE.info().context_length;
    let spec = ModelSpec { max_sequences: 8, context_tokens: Some(context), ..spec() };
    let engine = Engine::load(&spec).unwrap();
    let unlimited = Job { live: false, ..endless(8) };
    let room = u64::from(engine.info().context_length) - prompt_tokens(&engine, &unlimited.prompt);
    let first = engine.generate(Job { live: false, ..endless(8) }).unwrap();
    let second = engine.generate(unlimited).unwrap();
    for end in ends(first).into_values().chain(ends(second).into_values()) {
        let end = end.unwrap();
        assert_eq!(end.finish_reason, FinishReason::Length);
        assert_eq!(end.usage.completion_tokens, room);
    }
    let stats = engine.stats();
    assert_eq!(stats.generated_tokens, 16 * room, "tokens that are evaluated again are not counted again");
    assert_eq!((stats.live_sequences, stats.reserved_tokens), (0, 0));
}

#[test]
fn without_a_limit_several_candidates_run_at_the_same_time() {
    let context = ENGINE.info().context_length;
    let engine = Engine::load(&ModelSpec { max_sequences: 8, context_tokens: Some(context), ..spec() }).unwrap();
    let mut receiver = engine.generate(endless(8)).unwrap();
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 4 {
        let (candidate, event) = receiver.blocking_recv().unwrap();
        assert!(matches!(event, StepEvent::Delta(_)), "nobody ends before others have begun");
        seen.insert(candidate);
    }
}

#[test]
fn heads_of_their_own_width_count_towards_the_cache() {
    // Four layers, two heads of keys of 128 and values of 64 numbers, two bytes each.
    assert_eq!(cache_bytes_per_token(4, 2, 128, 64), 4 * 2 * (128 + 64) * 2);
}
