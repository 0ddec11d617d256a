//! Several candidates in one call: what is asked of the upstream, what is made of what it answers, and what is
//! remembered of it.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, spawn_app, spawn_app_for};
use crate::upstream::{Seen, Step, Upstream};

/// Five candidates of which all are wanted, whatever they say.
fn five(fields: Value) -> Value {
    let mut base = json!({
        "provider": "vllm", "alg": "self-consistency", "budget": 5, "stop_rule": "none"
    });
    base.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    base
}

/// An upstream whose answers all say 42, and the daemon before it.
async fn agreeing(fields: Value) -> (Upstream, TestApp) {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("so \\boxed{42}"));
    let app = spawn_app_for(&upstream, five(fields)).await;
    (upstream, app)
}

/// Asks with these fields, and for the metadata.
async fn ask(app: &TestApp, mut fields: Value) -> Answer {
    fields["return_response_only"] = json!(false);
    app.chat(fields).await
}

/// The `n` of each call that was made, 0 where there was none.
fn asked(upstream: &Upstream) -> Vec<u64> {
    upstream.seen().iter().map(n).collect()
}

fn n(seen: &Seen) -> u64 {
    seen.json()["n"].as_u64().unwrap_or(0)
}

/// A whole answer with these choices and ten tokens of prompt.
fn choices(choices: &Value) -> Step {
    let count = choices.as_array().unwrap().len();
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 0, "model": "scripted", "choices": choices,
        "usage": {"prompt_tokens": 10, "completion_tokens": 2 * count, "total_tokens": 10 + 2 * count}
    });
    Step::body(&body.to_string())
}

fn choice(index: usize, text: &str) -> Value {
    json!({"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
}

#[track_caller]
fn generate(answer: &Answer) -> Value {
    answer.ok()["metadata"]["usage_by_phase"]["generate"].clone()
}

#[track_caller]
fn warnings(answer: &Answer) -> String {
    answer.ok()["metadata"]["warnings"].to_string()
}

#[tokio::test]
async fn one_prompt_is_paid_for_where_the_provider_honours_n() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("so \\boxed{42}"));
    let app = spawn_app().await;
    let mut seen = 0;
    for (fields, calls) in [
        (json!({"use_n": "never"}), vec![0; 5]),
        (json!({"use_n": "always"}), vec![5]),
        (json!({}), vec![5]),
        (json!({"alg": "best-of-n", "rm_name": "perplexity"}), vec![5]),
        // Nobody knows what this one does.
        (json!({"provider": "openai-compatible"}), vec![0; 5]),
        (json!({"provider": "openai-compatible", "use_n": "always"}), vec![5]),
    ] {
        app.configure(&upstream, five(fields.clone())).await;
        let answer = ask(&app, json!({})).await;
        assert_eq!(answer.content(), "so \\boxed{42}");
        assert_eq!(asked(&upstream)[seen..], calls, "{fields}");
        seen += calls.len();
        let spent = generate(&answer);
        assert_eq!(spent["calls"], calls.len(), "{fields}");
        assert_eq!(spent["prompt_tokens"], 10 * calls.len(), "{fields}");
        assert_eq!((&spent["completion_tokens"], &spent["unknown_calls"]), (&json!(10), &json!(0)), "{fields}");
        let body = answer.ok();
        let stop = &body["metadata"]["stop"];
        assert_eq!((&stop["started"], &stop["completed"], &stop["cancelled"]), (&json!(5), &json!(5), &json!(0)));
        assert_eq!(body["usage"]["prompt_tokens"], 10 * calls.len(), "{fields}");
    }
}

#[tokio::test]
async fn a_server_that_ignores_n_is_topped_up_and_remembered() {
    let (upstream, app) = agreeing(json!({})).await;
    upstream.ignore_n();
    let first = ask(&app, json!({})).await;
    assert_eq!(first.ok()["metadata"]["response_counts"], json!({"42": 5}));
    assert_eq!(asked(&upstream), [5, 0, 0, 0, 0]);
    assert!(warnings(&first).contains("answered 1 of the 5 times"), "{}", first.text);
    let spent = generate(&first);
    assert_eq!((&spent["calls"], &spent["prompt_tokens"]), (&json!(5), &json!(50)));
    assert_eq!(first.ok()["metadata"]["stop"]["started"], 5);

    let second = ask(&app, json!({})).await;
    assert_eq!(asked(&upstream)[5..], [0; 5]);
    assert_eq!(warnings(&second), "[]");
    assert_eq!(second.ok()["metadata"]["response_counts"], json!({"42": 5}));
}

#[tokio::test]
async fn what_is_missing_is_asked_for_together_as_far_as_the_server_was_seen_to_answer() {
    let upstream = Upstream::start().await;
    let three = || choices(&json!([choice(0, "\\boxed{1}"), choice(1, "\\boxed{2}"), choice(2, "\\boxed{3}")]));
    let two = || choices(&json!([choice(0, "\\boxed{4}"), choice(1, "\\boxed{4}")]));
    for step in [three(), two(), three(), two(), three(), two()] {
        upstream.push(step);
    }
    let app = spawn_app_for(&upstream, five(json!({"n_parallel": 1}))).await;
    // Once may be chance.
    for calls in [[5, 2], [5, 2], [3, 2]] {
        let before = upstream.counters().requests as usize;
        let answer = ask(&app, json!({})).await;
        let body = answer.ok();
        assert_eq!(asked(&upstream)[before..], calls);
        let said: Vec<&str> = body["metadata"]["responses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["content"].as_str().unwrap())
            .collect();
        assert_eq!(said, ["\\boxed{1}", "\\boxed{2}", "\\boxed{3}", "\\boxed{4}", "\\boxed{4}"]);
        let spent = generate(&answer);
        assert_eq!((&spent["calls"], &spent["prompt_tokens"]), (&json!(2), &json!(20)));
        assert_eq!(spent["completion_tokens"], 10);
    }
}

#[tokio::test]
async fn a_server_that_refuses_n_is_asked_one_by_one_and_remembered() {
    let words = r#"{"error":{"code":500,"message":"Only one completion choice is allowed","type":"server_error"}}"#;
    let field = r#"{"error":{"message":"'n' : number must be at most 1","type":"invalid_request_error"}}"#;
    for (status, refusal) in [(400, field), (422, r#"{"detail":"n"}"#), (500, words), (501, "")] {
        let upstream = Upstream::start().await;
        upstream.answer_with(move |seen| match n(seen) {
            0 => Step::content("\\boxed{42}"),
            _ => Step::status(status, refusal),
        });
        let app = spawn_app_for(&upstream, five(json!({"use_n": "always", "max_retries": 3}))).await;
        let first = ask(&app, json!({})).await;
        assert_eq!(first.ok()["metadata"]["response_counts"], json!({"42": 5}));
        assert_eq!(asked(&upstream), [5, 0, 0, 0, 0, 0], "{status}");
        assert!(warnings(&first).contains("refused to answer several times"), "{}", first.text);
        let spent = generate(&first);
        assert_eq!((&spent["calls"], &spent["prompt_tokens"]), (&json!(6), &json!(50)), "{status}");
        assert_eq!((&spent["unknown_calls"], &first.ok()["metadata"]["failures"]), (&json!(0), &json!([])));

        let second = ask(&app, json!({})).await;
        assert_eq!(asked(&upstream)[6..], [0; 5], "{status}");
        assert_eq!(warnings(&second), "[]");
    }
}

#[tokio::test]
async fn a_request_that_is_refused_whatever_n_says_fails_without_more_calls() {
    let upstream = Upstream::start().await;
    let refusal = r#"{"error":{"message":"no such voice","type":"invalid_request_error","param":"voice"}}"#;
    upstream.answer_with(|_| Step::status(400, refusal));
    let app = spawn_app_for(&upstream, five(json!({}))).await;
    let error = ask(&app, json!({})).await.error(400);
    assert_eq!((&error["param"], asked(&upstream)), (&json!("voice"), vec![5, 0]));
    // It was not for `n`.
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    ask(&app, json!({})).await.ok();
    assert_eq!(asked(&upstream)[2..], [5]);
}

#[tokio::test]
async fn a_choice_that_cannot_be_read_fails_alone() {
    let (upstream, app) = agreeing(json!({})).await;
    let broken = json!({"index": 1, "finish_reason": "stop"});
    upstream.push(choices(&json!([
        choice(0, "\\boxed{1}"),
        broken,
        choice(2, "\\boxed{1}"),
        choice(3, "\\boxed{2}"),
        {"index": 4, "message": {"role": "assistant", "content": "\\boxed"}, "finish_reason": "length"}
    ])));
    let answer = ask(&app, json!({})).await;
    let body = answer.ok();
    let metadata = &body["metadata"];
    assert_eq!(asked(&upstream), [5], "what was answered is paid for, and not asked for again");
    assert_eq!(metadata["response_counts"], json!({"1": 2, "2": 1}));
    assert_eq!((&metadata["stop"]["started"], &metadata["stop"]["completed"]), (&json!(5), &json!(4)));
    let failures = metadata["failures"].as_array().unwrap();
    assert_eq!((failures.len(), &failures[0]["candidate"]), (1, &json!(1)), "{failures:?}");
    let aside = &metadata["set_aside"];
    assert_eq!((aside[0]["candidate"].as_u64(), aside.as_array().unwrap().len()), (Some(4), 1), "{aside}");
    assert_eq!(generate(&answer)["completion_tokens"], 10, "the failed one is paid for");
}

#[tokio::test]
async fn more_choices_than_were_asked_for_are_paid_for_and_ignored() {
    let (upstream, app) = agreeing(json!({"budget": 2})).await;
    upstream.push(choices(&json!([choice(0, "\\boxed{1}"), choice(1, "\\boxed{1}"), choice(2, "\\boxed{2}")])));
    let answer = ask(&app, json!({})).await;
    assert_eq!(asked(&upstream), [2]);
    assert_eq!(answer.ok()["metadata"]["response_counts"], json!({"1": 2}));
    assert_eq!((&generate(&answer)["completion_tokens"], warnings(&answer)), (&json!(6), "[]".to_owned()));
}

#[tokio::test]
async fn an_attempt_that_fails_is_made_again_for_all_of_its_candidates() {
    let (upstream, app) = agreeing(json!({"max_retries": 1})).await;
    upstream.push(Step::status(503, "{}").header("retry-after-ms", "1"));
    let answer = ask(&app, json!({})).await;
    assert_eq!(asked(&upstream), [5, 5]);
    assert_eq!(answer.ok()["metadata"]["response_counts"], json!({"42": 5}));
    let spent = generate(&answer);
    assert_eq!((&spent["calls"], &spent["prompt_tokens"], &spent["unknown_calls"]), (&json!(1), &json!(10), &json!(0)));
}

#[tokio::test]
async fn a_call_that_fails_for_good_fails_all_of_its_candidates() {
    let (upstream, app) = agreeing(json!({})).await;
    upstream.push(Step::status(503, r#"{"error":{"message":"out of order"}}"#));
    let error = ask(&app, json!({})).await.error(502);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("all 5 candidates failed") && message.contains("out of order"), "{message}");
    assert_eq!(asked(&upstream), [5]);
    // A rule that leaves some to calls of their own has those for an answer.
    upstream.push(Step::status(503, "{}"));
    let answer = ask(&app, json!({"stop_rule": "decided"})).await;
    let body = answer.ok();
    let failed = body["metadata"]["failures"].as_array().unwrap().len();
    assert!(matches!(failed, 1 | 3), "the call that failed was for three, or for one: {body}");
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_one_call() {
    let (upstream, app) = agreeing(json!({})).await;
    upstream.push(Step::default().gated("never"));
    let chat = app.chat_in_background(json!({"return_response_only": false}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    chat.abort();
    let counters = upstream.wait_for(|counters| counters.closed_early == 1 && counters.in_flight == 0).await;
    assert_eq!(counters.requests, 1);
}

#[tokio::test]
async fn a_stop_rule_asks_in_one_call_for_what_no_outcome_can_avoid() {
    let (upstream, app) = agreeing(json!({"budget": 8})).await;
    let mut seen = 0;
    for (fields, calls) in [
        (json!({"stop_rule": "beta"}), vec![4]),
        (json!({"stop_rule": "window", "window": 3}), vec![3]),
        (json!({"stop_rule": "threshold", "threshold": 0.5}), vec![2]),
        (json!({"stop_rule": "decided", "wave": 5}), vec![5]),
        (json!({"stop_rule": "decided", "vote_on": "similarity"}), vec![8]),
        (json!({"stop_rule": "decided", "n": 2}), vec![8]),
    ] {
        ask(&app, fields.clone()).await.ok();
        assert_eq!(asked(&upstream)[seen..], calls, "{fields}");
        seen += calls.len();
    }
}

#[tokio::test]
async fn what_a_decided_vote_may_spare_is_asked_for_beside_and_cancelled() {
    let app = spawn_app().await;
    for (provider, saved) in [("vllm", 6), ("openai-compatible", 0)] {
        let upstream = Upstream::start().await;
        upstream.answer_with(|seen| match n(seen) {
            0 => Step::default().gated("never"),
            _ => Step::content("so \\boxed{42}").gated("several"),
        });
        let configured = five(json!({"budget": 8, "provider": provider, "use_n": "always", "stop_rule": "decided"}));
        app.configure(&upstream, configured).await;
        let chat = app.chat_in_background(json!({"return_response_only": false}));
        upstream.wait_for(|counters| counters.in_flight == 4).await;
        let mut calls = asked(&upstream);
        calls.sort_unstable();
        assert_eq!(calls, [0, 0, 0, 5], "none is kept waiting for the others");
        upstream.open_gate("several");
        let answer = chat.await.unwrap();
        assert_eq!(answer.header("x-its-stop"), Some("decided"));
        upstream.wait_for(|counters| counters.closed_early == 3).await;
        let spent = generate(&answer);
        assert_eq!(
            (&spent["calls"], &spent["prompt_tokens"], &spent["unknown_calls"]),
            (&json!(4), &json!(10), &json!(3))
        );
        let stop = &answer.ok()["metadata"]["stop"];
        assert_eq!((&stop["started"], &stop["completed"], &stop["cancelled"]), (&json!(8), &json!(5), &json!(3)));
        // Two tokens each, where the provider is known to stop the bill.
        assert_eq!(stop["saved_tokens_estimate"], saved, "{provider}");
    }
}

#[tokio::test]
async fn a_call_takes_one_place_however_many_it_asks_for() {
    let (upstream, app) = agreeing(json!({"n_parallel": 1, "budget": 200})).await;
    let answer = ask(&app, json!({})).await;
    assert_eq!(asked(&upstream), [128, 72], "OpenAI takes no more at once");
    assert_eq!(
        (answer.ok()["metadata"]["stop"]["completed"].as_u64(), upstream.counters().peak_in_flight),
        (Some(200), 1)
    );
}

#[tokio::test]
async fn a_provider_that_takes_no_more_at_once_is_called_more_often() {
    let (upstream, app) = agreeing(json!({"budget": 9, "extra_args": {"capabilities": {"max_n": 4}}})).await;
    let answer = ask(&app, json!({"tts_verbose": true, "num_paths": 9})).await;
    let mut calls = asked(&upstream);
    calls.sort_unstable();
    assert_eq!(calls, [0, 4, 4]);
    assert_eq!(answer.ok()["metadata"]["response_counts"], json!({"42": 9}));
    assert_eq!((&generate(&answer)["calls"], &generate(&answer)["prompt_tokens"]), (&json!(3), &json!(30)));
    let told = &answer.ok()["choices"][0]["tts_metadata"];
    assert_eq!(told["token_stats"]["generation_count"], 9, "calls are not what is counted there: {told}");
}

#[tokio::test]
async fn a_client_that_wants_several_choices_and_no_algorithm_makes_one_call() {
    let (upstream, app) = agreeing(json!({"alg": "none", "budget": null, "stop_rule": null})).await;
    let answer = ask(&app, json!({"n": 3, "seed": 7})).await;
    assert_eq!(answer.ok()["choices"].as_array().unwrap().len(), 3);
    assert_eq!(asked(&upstream), [3]);
    assert_eq!(upstream.seen()[0].json()["seed"], 7, "the seed of the first is that of the call");
    let usage = &answer.ok()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(10), &json!(6)));
    // What is told while it is generated is a call of its own.
    ask(&app, json!({"stream": true})).await.events();
    assert_eq!(asked(&upstream)[1..], [0]);
}

#[tokio::test]
async fn limits_hold_for_calls_that_bring_several() {
    let (upstream, app) = agreeing(json!({"budget": 40})).await;
    let answer = ask(&app, json!({"limits": {"max_candidates": 6}})).await;
    assert_eq!((asked(&upstream), answer.header("x-its-stop")), (vec![6], Some("max_candidates")));
    // The first alone shows what one costs: 12 tokens of 100. Seven more are within the rest.
    let answer = ask(&app, json!({"limits": {"max_total_tokens": 100}})).await;
    assert_eq!(asked(&upstream)[1..3], [0, 7]);
    let body = answer.ok();
    let spent = body["metadata"]["usage_by_phase"]["generate"].clone();
    assert!(spent["prompt_tokens"].as_u64().unwrap() + spent["completion_tokens"].as_u64().unwrap() <= 112, "{spent}");
    assert_eq!(body["metadata"]["stop"]["reason"], "max_total_tokens");
}
