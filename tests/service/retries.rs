//! What is tried again, how often, and what the client is told when it was not.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::json;

use crate::app::spawn_app_for;
use crate::upstream::{Point, Step, Upstream};

#[tokio::test]
async fn an_attempt_that_hangs_is_made_again_wherever_it_hangs() {
    for point in [Point::Request, Point::Head, Point::Body] {
        for is_streamed in [false, true] {
            // A stream that has brought content stays with it.
            if is_streamed && point == Point::Body {
                continue;
            }
            let upstream = Upstream::start().await;
            upstream.push(Step::hang_at(point));
            upstream.answer_with(|_| Step::content("at last"));
            let app = spawn_app_for(&upstream, json!({"timeout_ms": 1000, "max_retries": 9, "budget": 1})).await;
            let answer = app.chat(json!({"stream": is_streamed})).await;
            assert_eq!(answer.status, 200, "{point:?}: {}", answer.text);
            assert!(answer.text.contains("last"), "{}", answer.text);
            assert!(upstream.counters().requests >= 2);
        }
    }
}

#[tokio::test]
async fn retries_are_held_to_their_share_of_the_calls() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(503, "").header("retry-after-ms", "1"));
    let fields = json!({"max_retries": 3, "retry_budget": 0.1, "breaker": {"enabled": false}, "stop_rule": "none"});
    let app = spawn_app_for(&upstream, fields).await;
    let answer = app.chat(json!({"budget": 100})).await;
    let error = answer.error(502);
    assert_eq!(error["code"], "upstream_unavailable");
    // One for each of the first 32 calls, which is more than a tenth of a hundred, and ten that are free: a storm would
    // have been four hundred.
    let requests = upstream.counters().requests;
    assert!((100..=142).contains(&requests), "{requests}");
    let alone = app.chat(json!({"budget": 1})).await.error(502);
    assert!(alone["message"].as_str().unwrap().contains("`retry_budget`"), "{alone}");
}

#[tokio::test]
async fn candidates_that_are_told_when_to_come_back_all_do() {
    let upstream = Upstream::start().await;
    for _ in 0..64 {
        upstream.push(Step::status(429, "").header("retry-after-ms", "100"));
    }
    let app =
        spawn_app_for(&upstream, json!({"max_retries": 1, "retry_budget": 0, "stop_rule": "none", "use_n": "never"}))
            .await;
    let answer = app.chat(json!({"budget": 64})).await;
    assert_eq!((answer.status, answer.header("x-its-candidates")), (200, Some("64")), "{}", answer.text);
    assert_eq!(upstream.counters().requests, 128);
}

#[tokio::test]
async fn a_bad_moment_costs_a_quiet_daemon_no_candidate() {
    let upstream = Upstream::start().await;
    // Every candidate, which is known by its seed, fails twice.
    let times = Mutex::new(HashMap::new());
    upstream.answer_with(move |seen| {
        let mut times = times.lock().unwrap();
        let count: &mut u32 = times.entry(seen.json()["seed"].as_i64().unwrap()).or_default();
        *count += 1;
        if *count > 2 { Step::content("42") } else { Step::status(500, "").header("retry-after-ms", "1") }
    });
    let app = spawn_app_for(&upstream, json!({"max_retries": 3, "stop_rule": "none", "use_n": "never"})).await;
    let answer = app.chat(json!({"budget": 8, "seed": 7})).await;
    assert_eq!((answer.status, answer.header("x-its-candidates")), (200, Some("8")), "{}", answer.text);
    assert_eq!(upstream.counters().requests, 24);
}

#[tokio::test]
async fn a_lone_request_may_make_all_of_its_retries() {
    let upstream = Upstream::start().await;
    for _ in 0..5 {
        upstream.push(Step::status(503, "").header("retry-after-ms", "1"));
    }
    let app = spawn_app_for(&upstream, json!({"max_retries": 5, "retry_budget": 0, "budget": 1})).await;
    app.chat(json!({})).await.ok();
    assert_eq!(upstream.counters().requests, 6);
}

#[tokio::test]
async fn what_went_wrong_is_told_at_once_when_the_pause_would_outlast_the_deadline() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(429, "").header("retry-after", "50"));
    let app = spawn_app_for(&upstream, json!({"max_retries": 3, "budget": 2})).await;
    for is_streamed in [false, true] {
        let fields = json!({"stream": is_streamed, "limits": {"deadline_ms": 25_000}});
        let answer = app.chat(fields).await;
        assert_eq!(answer.error(429)["code"], "rate_limit_exceeded", "not a 504 after the deadline");
        assert_eq!(answer.header("retry-after"), Some("50"));
    }
    assert_eq!(upstream.counters().requests, 4);
}

#[tokio::test]
async fn raw_texts_go_by_the_same_rules() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"max_retries": 1})).await;
    for is_streamed in [false, true] {
        upstream.push(Step::status(503, "").header("retry-after-ms", "1"));
        let request = json!({"model": "scripted", "prompt": "Once", "stream": is_streamed});
        let answer = app.post("/v1/completions", &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(upstream.counters().requests, 4);
}
