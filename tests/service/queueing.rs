//! Who waits when there are more calls than may be made, and who is turned away.

use serde_json::{Value, json};

use crate::app::spawn_app_for;
use crate::upstream::{Step, Upstream};

async fn gated() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("42").gated("go"));
    upstream
}

/// Calls that wait, over all providers.
fn queued(providers: &Value) -> u64 {
    providers.as_array().unwrap().iter().map(|provider| provider["queued"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_full_queue_is_a_429_at_once_that_says_what_to_change() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 1, "max_queued": 1, "budget": 1})).await;
    let first = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    let second = app.chat_in_background(json!({}));
    app.wait_for_providers(|providers| queued(providers) == 1).await;
    for fields in [json!({}), json!({"stream": true}), json!({"budget": 3})] {
        let answer = app.chat(fields).await;
        let error = answer.error(429);
        assert_eq!((&error["type"], &error["code"]), (&json!("rate_limit_error"), &json!("overloaded")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`n_parallel`") && message.contains("`max_queued`"), "{message}");
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("1"), None));
    }
    upstream.open_gate("go");
    first.await.unwrap().ok();
    second.await.unwrap().ok();
    assert_eq!(upstream.counters().requests, 2);
    app.chat(json!({})).await.ok();
}

#[tokio::test]
async fn candidates_of_a_request_that_is_in_leave_the_queue_to_others() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 1, "max_queued": 1, "stop_rule": "none"})).await;
    let inside = app.chat_in_background(json!({"budget": 3}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    app.wait_for_providers(|providers| queued(providers) == 2).await;
    let new = app.chat_in_background(json!({"budget": 1}));
    app.wait_for_providers(|providers| queued(providers) == 3).await;
    app.chat(json!({"budget": 1})).await.error(429);
    upstream.open_gate("go");
    inside.await.unwrap().ok();
    new.await.unwrap().ok();
}

#[tokio::test]
async fn without_a_queue_a_request_is_answered_whole_or_refused() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 2, "max_queued": 0, "stop_rule": "none"})).await;
    let inside = app.chat_in_background(json!({"budget": 5}));
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    app.chat(json!({"budget": 1})).await.error(429);
    upstream.open_gate("go");
    assert_eq!(inside.await.unwrap().header("x-its-candidates"), Some("5"));
}

#[tokio::test]
async fn a_request_of_many_candidates_does_not_keep_others_waiting() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 2, "stop_rule": "none"})).await;
    let big = app.chat_in_background(json!({"budget": 64, "temperature": 1.0}));
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    app.wait_for_providers(|providers| queued(providers) == 62).await;
    let small: Vec<_> = (0..3).map(|_| app.chat_in_background(json!({"budget": 1, "temperature": 0.5}))).collect();
    app.wait_for_providers(|providers| queued(providers) == 65).await;
    upstream.open_gate("go");
    for answer in small {
        answer.await.unwrap().ok();
    }
    assert_eq!(big.await.unwrap().header("x-its-candidates"), Some("64"));

    let turns: Vec<usize> = upstream
        .seen()
        .iter()
        .enumerate()
        .filter(|(_, seen)| seen.json()["temperature"] == 0.5)
        .map(|(turn, _)| turn)
        .collect();
    assert_eq!(turns.len(), 3);
    // Two of the big one were in flight, and one more of it was next in the ring; the others may overtake on the way.
    assert!(turns.iter().all(|turn| *turn <= 8), "{turns:?}");
}

#[tokio::test]
async fn a_changed_setting_neither_resets_nor_doubles_the_calls_in_flight() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 2, "budget": 1})).await;
    let before: Vec<_> = (0..2).map(|_| app.chat_in_background(json!({}))).collect();
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    // Each of these makes another client.
    app.configure(&upstream, json!({"n_parallel": 2, "budget": 1, "timeout_ms": 50_000})).await;
    app.configure(&upstream, json!({"n_parallel": 3, "budget": 1, "timeout_ms": 40_000})).await;
    let after: Vec<_> = (0..6).map(|_| app.chat_in_background(json!({}))).collect();
    app.wait_for_providers(|providers| queued(providers) == 5).await;
    // What is only looked at has no effect.
    let wide = json!({
        "provider": "openai-compatible", "endpoint": upstream.base_url(), "model": "scripted", "n_parallel": 64
    });
    app.post("/configure?validate_only=true", &wide).await.ok();
    let providers = app.wait_for_providers(|_| true).await;
    assert_eq!((queued(&providers), &providers[0]["in_flight"]), (5, &json!(3)));
    upstream.open_gate("go");
    for answer in before.into_iter().chain(after) {
        answer.await.unwrap().ok();
    }
    assert_eq!(upstream.counters().peak_in_flight, 3);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_the_queue() {
    let upstream = gated().await;
    let app = spawn_app_for(&upstream, json!({"n_parallel": 1, "budget": 1})).await;
    let first = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    let second = app.chat_in_background(json!({}));
    app.wait_for_providers(|providers| queued(providers) == 1).await;
    second.abort();
    app.wait_for_providers(|providers| queued(providers) == 0).await;
    upstream.open_gate("go");
    first.await.unwrap().ok();
    assert_eq!(upstream.counters().requests, 1);
}

#[tokio::test]
async fn requests_with_keys_of_their_own_leave_nothing_behind() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"allow_request_endpoint": true, "budget": 1})).await;
    for number in 0..20 {
        let body = crate::app::question(json!({})).to_string();
        let request = app.json_request("/v1/chat/completions", &body);
        let request = request.header("X-ITS-API-Key", format!("sk-of-a-client-{number}"));
        crate::app::receive(request.header("X-ITS-Endpoint", upstream.base_url())).await.ok();
    }
    app.chat(json!({})).await.ok();
    let providers = app.wait_for_providers(|_| true).await;
    let models = json!([{"model": "scripted", "breaker": "closed"}]);
    let origin = format!("http://{}", upstream.address());
    let own = json!({"provider": "openai-compatible", "origin": origin, "in_flight": 0, "queued": 0, "models": models});
    assert_eq!(providers, json!([own]));
}
