//! Several servers behind one configuration.

use std::sync::Arc;

use serde_json::json;
use tempfile::tempdir;

use crate::app::{spawn_app, spawn_app_in};
use crate::upstream::{Step, Upstream};

#[tokio::test]
async fn calls_are_shared_and_nobody_notices_that_a_member_dies() {
    let upstreams = [Upstream::start().await, Upstream::start().await, Upstream::start().await];
    let endpoint: Vec<String> = upstreams.iter().map(Upstream::base_url).collect();
    let app = spawn_app().await;
    app.configure(&upstreams[0], json!({"endpoint": endpoint, "max_retries": 3, "stop_rule": "none"})).await;
    for _ in 0..4 {
        assert_eq!(app.chat(json!({"budget": 8})).await.header("x-its-candidates"), Some("8"));
    }
    let shares = upstreams.each_ref().map(|upstream| upstream.counters().requests);
    assert_eq!(shares.iter().sum::<u64>(), 32);
    assert!(shares.iter().all(|share| *share >= 2), "{shares:?}");

    let [dies, left, right] = upstreams;
    drop(dies);
    for _ in 0..4 {
        assert_eq!(app.chat(json!({"budget": 8})).await.header("x-its-candidates"), Some("8"));
    }
    assert_eq!(left.counters().requests + right.counters().requests + shares[0], 64);
}

#[tokio::test]
async fn a_call_that_failed_is_made_again_elsewhere() {
    let (broken, whole) = (Upstream::start().await, Upstream::start().await);
    broken.answer_with(|_| Step::status(500, ""));
    let app = spawn_app().await;
    let endpoint = json!([broken.base_url(), {"url": whole.base_url(), "weight": 0.01}]);
    let fields = json!({"endpoint": endpoint, "max_retries": 1, "budget": 1, "breaker": {"enabled": false}});
    app.configure(&whole, fields).await;
    for is_streamed in [false, true] {
        for _ in 0..3 {
            let answer = app.chat(json!({"stream": is_streamed})).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
    assert_eq!(whole.counters().requests, 6);
    assert!(broken.counters().requests > 0);
}

#[tokio::test]
async fn a_member_that_takes_no_call_is_passed_over() {
    for status in [401, 403, 404] {
        let (refuses, answers) = (Upstream::start().await, Upstream::start().await);
        refuses.answer_with(move |_| Step::status(status, r#"{"error":{"message":"not here"}}"#));
        let app = spawn_app().await;
        let endpoint = json!([{"url": refuses.base_url(), "weight": 1000}, answers.base_url()]);
        let fields = json!({
            "endpoint": endpoint, "max_retries": 0, "retry_budget": 0, "budget": 1, "breaker": {"cool_down_ms": 600_000}
        });
        app.configure(&answers, fields).await;
        for number in 0..20 {
            let answer = app.chat(json!({"stream": number % 2 == 0})).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
        assert_eq!(answers.counters().requests, 20);
        assert_eq!(refuses.counters().requests, 1, "it is set aside");
    }
}

#[tokio::test]
async fn what_no_member_takes_is_refused_once_by_each() {
    let upstreams = [Upstream::start().await, Upstream::start().await];
    for upstream in &upstreams {
        upstream.answer_with(|_| Step::status(401, r#"{"error":{"message":"no such key"}}"#));
    }
    let app = spawn_app().await;
    let endpoint = upstreams.each_ref().map(Upstream::base_url);
    app.configure(&upstreams[0], json!({"endpoint": endpoint, "max_retries": 3, "budget": 1})).await;
    for round in 1..=3 {
        let answer = app.chat(json!({})).await;
        assert!(answer.text.contains("no such key"), "{}", answer.text);
        assert_eq!(upstreams.each_ref().map(|upstream| upstream.counters().requests), [round; 2]);
    }
}

#[tokio::test]
async fn the_less_loaded_member_is_asked() {
    let (busy, idle) = (Upstream::start().await, Upstream::start().await);
    busy.answer_with(|_| Step::default().gated("go"));
    let app = spawn_app().await;
    let endpoint = json!([{"url": busy.base_url(), "weight": 1000}, {"url": idle.base_url(), "weight": 1000}]);
    app.configure(&idle, json!({"endpoint": endpoint, "budget": 1})).await;
    // Until the busy one has a call that stays.
    let mut held = Vec::new();
    while busy.counters().in_flight == 0 {
        let call = app.chat_in_background(json!({}));
        let before = idle.counters().requests;
        tokio::select! {
            _ = busy.wait_for(|counters| counters.in_flight == 1) => {}
            _ = idle.wait_for(|counters| counters.requests > before) => {}
        }
        held.push(call);
    }
    for _ in 0..20 {
        app.chat(json!({})).await.ok();
    }
    assert_eq!(busy.counters().requests, 1);
    busy.open_gate("go");
    for call in held {
        call.await.unwrap().ok();
    }
}

#[tokio::test]
async fn a_key_goes_to_every_member_that_the_configuration_names_and_the_usual_one_to_none_of_a_clients() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let environment = [("OPENAI_API_KEY", "sk-of-the-operator-0123")];
    let app = spawn_app_in(Arc::new(tempdir().unwrap()), &environment, |_| {}).await;
    let endpoint = json!([one.base_url(), two.base_url()]);
    for (api_key, expected) in [(json!("sk-named-0123456789"), Some("Bearer sk-named-0123456789")), (json!(null), None)]
    {
        let before = [&one, &two].map(|upstream| upstream.counters().requests);
        let fields = json!({"provider": "openai", "endpoint": endpoint, "api_key": api_key, "stop_rule": "none"});
        let configured = app.configure(&one, fields).await;
        let warns = configured["warnings"].to_string().contains("env:OPENAI_API_KEY");
        assert_eq!(warns, expected.is_none(), "{configured}");
        app.chat(json!({"budget": 16})).await.ok();
        for (upstream, before) in [&one, &two].into_iter().zip(before) {
            let seen = upstream.seen().split_off(usize::try_from(before).unwrap());
            assert!(!seen.is_empty());
            for call in seen {
                assert_eq!(call.request.header("authorization"), expected);
            }
        }
    }
}

#[tokio::test]
async fn the_list_is_shown_as_it_was_given_and_refused_by_the_place_at_fault() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let endpoint = json!([upstream.base_url(), {"url": "https://b.example/v1", "weight": 2.5}]);
    app.configure(&upstream, json!({"endpoint": endpoint})).await;
    let shown = app.get("/configure").await.ok();
    assert!(shown.to_string().contains(&endpoint.to_string()), "{shown}");
    for (endpoint, param) in [
        (json!([]), "endpoint"),
        (json!([upstream.base_url(), "http://169.254.169.254/v1"]), "endpoint[1]"),
        (json!([upstream.base_url(), "http://gpu-2:8000"]), "endpoint[1]"),
        (json!([upstream.base_url(), {"url": upstream.base_url()}]), "endpoint[1]"),
        (json!([{"url": upstream.base_url(), "weight": 0}]), "endpoint[0].weight"),
    ] {
        let refused = app.post("/configure", &crate::app::document(&upstream, json!({"endpoint": endpoint}))).await;
        assert_eq!(refused.error(400)["param"], param, "{endpoint}");
    }
}
