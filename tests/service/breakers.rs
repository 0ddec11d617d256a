//! When an upstream is left alone, what the client is told, and that the last one is given up only when it is dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{TestApp, spawn_app, spawn_app_for};
use crate::upstream::{Step, Upstream};

/// The state of the only model's breaker at the only provider.
async fn state(app: &TestApp) -> Value {
    let readiness = app.get("/ready").await.ok();
    assert_eq!(readiness["ready"], true, "an outage of a provider does not fail it");
    readiness["providers"][0]["models"][0]["breaker"].clone()
}

#[tokio::test]
async fn a_dead_upstream_is_left_alone_and_asked_again_after_a_while() {
    let upstream = Upstream::start().await;
    for _ in 0..3 {
        upstream.push(Step::status(503, ""));
    }
    let fields = |cool_down_ms: u64| json!({"budget": 1, "breaker": {"min_calls": 3, "cool_down_ms": cool_down_ms}});
    let app = spawn_app_for(&upstream, fields(600_000)).await;
    for _ in 0..3 {
        assert_eq!(app.chat(json!({})).await.error(502)["code"], "upstream_unavailable");
    }
    assert_eq!(state(&app).await, "open");
    for is_streamed in [false, true] {
        let answer = app.chat(json!({"stream": is_streamed})).await;
        let error = answer.error(503);
        assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_unavailable")));
        assert!(error["message"].as_str().unwrap().contains("`breaker`"), "{error}");
        assert_eq!(answer.header("retry-after"), Some("600"));
        assert_eq!(answer.header("x-should-retry"), None, "nothing was asked");
    }
    assert_eq!(upstream.counters().requests, 3);

    // Its health is the upstream's and not the configuration's.
    app.configure(&upstream, json!({"budget": 1, "temperature": 0.5, "breaker": {"min_calls": 3}})).await;
    assert_eq!(state(&app).await, "open");
}

#[tokio::test]
async fn one_call_finds_out_that_it_is_well_again() {
    let upstream = Upstream::start().await;
    for _ in 0..4 {
        upstream.push(Step::status(503, ""));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 1, "breaker": {"min_calls": 3, "cool_down_ms": 1}})).await;
    for _ in 0..3 {
        app.chat(json!({})).await.error(502);
    }
    app.wait_for_providers(|providers| providers[0]["models"][0]["breaker"] == "half_open").await;
    app.chat(json!({})).await.error(502);
    app.wait_for_providers(|providers| providers[0]["models"][0]["breaker"] == "half_open").await;
    app.chat(json!({})).await.ok();
    assert_eq!(state(&app).await, "closed");
    assert_eq!(upstream.counters().requests, 5);
}

#[tokio::test]
async fn the_last_upstream_is_asked_as_long_as_it_answers_some_calls() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| if seen.number % 3 == 0 { Step::content("42") } else { Step::status(503, "") });
    let fields = json!({"budget": 1, "breaker": {"min_calls": 3, "window_ms": 600_000, "cool_down_ms": 600_000}});
    let app = spawn_app_for(&upstream, fields).await;
    for number in 0..30 {
        let answer = app.chat(json!({})).await;
        assert_eq!(answer.status, if number % 3 == 0 { 200 } else { 502 }, "{number}: {}", answer.text);
    }
    assert_eq!(state(&app).await, "open");
}

#[tokio::test]
async fn a_rate_limit_does_not_close_the_only_upstream_to_others() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(429, "").header("retry-after", "50"));
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    app.chat(json!({})).await.error(429);
    assert_eq!(state(&app).await, "open");
    app.chat(json!({})).await.ok();
}

#[tokio::test]
async fn a_member_of_a_pool_that_is_rate_limited_is_left_alone_and_nobody_waits_for_it() {
    let (limited, other) = (Upstream::start().await, Upstream::start().await);
    limited.answer_with(|_| Step::status(429, "").header("retry-after", "50"));
    let app = spawn_app().await;
    let endpoint = json!([limited.base_url(), other.base_url()]);
    app.configure(&other, json!({"endpoint": endpoint, "max_retries": 1, "budget": 1})).await;
    for _ in 0..40 {
        app.chat(json!({})).await.ok();
    }
    assert!(limited.counters().requests <= 1, "{:?}", limited.counters());
}

#[tokio::test]
async fn what_the_client_did_wrong_says_nothing_of_the_upstream() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(400, r#"{"error":{"message":"no such parameter"}}"#));
    let app = spawn_app_for(&upstream, json!({"budget": 1, "breaker": {"min_calls": 1}})).await;
    for _ in 0..5 {
        app.chat(json!({})).await.error(400);
    }
    assert_eq!(state(&app).await, "closed");
}

#[tokio::test]
async fn without_a_breaker_every_call_is_made() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(503, ""));
    let app = spawn_app_for(&upstream, json!({"budget": 1, "breaker": {"enabled": false, "min_calls": 1}})).await;
    for _ in 0..5 {
        app.chat(json!({})).await.error(502);
    }
    assert_eq!(upstream.counters().requests, 5);
}

/// An upstream that answers nothing until the switch is thrown, and then after the gate `go`.
async fn down_until(is_well: &Arc<AtomicBool>, gate: Option<&'static str>) -> Upstream {
    let upstream = Upstream::start().await;
    let is_well = Arc::clone(is_well);
    upstream.answer_with(move |_| match (is_well.load(Ordering::Relaxed), gate) {
        (true, Some(gate)) => Step::content("42").gated(gate),
        (true, None) => Step::content("42"),
        (false, _) => Step::status(503, "").header("retry-after-ms", "1"),
    });
    upstream
}

/// Waits until a probe of the only provider is due.
async fn until_due(app: &TestApp) {
    app.wait_for_providers(|providers| providers[0]["models"][0]["breaker"] == "half_open").await;
}

#[tokio::test]
async fn the_candidates_of_a_request_wait_for_the_one_that_is_the_probe() {
    let is_well = Arc::new(AtomicBool::new(false));
    let upstream = down_until(&is_well, Some("go")).await;
    let breaker = json!({"min_calls": 3, "cool_down_ms": 1500});
    let fields = json!({"max_retries": 0, "stop_rule": "none", "use_n": "never", "breaker": breaker});
    let app = spawn_app_for(&upstream, fields).await;
    let answer = app.chat(json!({"budget": 4})).await;
    assert!([502, 503].contains(&answer.status), "{}", answer.text);
    until_due(&app).await;
    is_well.store(true, Ordering::Relaxed);
    let before = upstream.counters().requests;
    let request = app.chat_in_background(json!({"budget": 8}));
    upstream.wait_for(|counters| counters.requests > before).await;
    upstream.open_gate("go");
    assert_eq!(request.await.unwrap().header("x-its-candidates"), Some("8"));
    assert_eq!(upstream.counters().requests, before + 8);
    assert_eq!(state(&app).await, "closed");
}

#[tokio::test]
async fn a_stream_that_is_being_told_shows_that_the_upstream_is_well() {
    let upstream = Upstream::start().await;
    for _ in 0..3 {
        upstream.push(Step::status(503, ""));
    }
    upstream.push(Step { stream_gate: Some("go".to_owned()), ..Step::content("forty two") });
    let breaker = json!({"min_calls": 3, "cool_down_ms": 1500});
    let app = spawn_app_for(&upstream, json!({"budget": 1, "max_retries": 0, "breaker": breaker})).await;
    for _ in 0..3 {
        app.chat(json!({})).await.error(502);
    }
    until_due(&app).await;
    let probe = app.chat_in_background(json!({"stream": true}));
    app.wait_for_providers(|providers| providers[0]["models"][0]["breaker"] == "closed").await;
    assert_eq!(upstream.counters().in_flight, 1, "the probe has not come to its end");
    app.chat(json!({})).await.ok();
    upstream.open_gate("go");
    assert_eq!(probe.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_probe_that_hangs_shuts_nobody_out() {
    let upstream = Upstream::start().await;
    for _ in 0..3 {
        upstream.push(Step::status(503, ""));
    }
    upstream.push(Step::default().gated("go"));
    let breaker = json!({"min_calls": 3, "cool_down_ms": 200});
    let app = spawn_app_for(&upstream, json!({"budget": 1, "max_retries": 0, "breaker": breaker})).await;
    for _ in 0..3 {
        app.chat(json!({})).await.error(502);
    }
    until_due(&app).await;
    let probe = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    app.chat(json!({})).await.ok();
    assert_eq!(upstream.counters().in_flight, 1);
    upstream.open_gate("go");
    probe.await.unwrap().ok();
}

#[tokio::test]
async fn what_the_model_made_of_a_request_says_nothing_of_the_upstream() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(400, r#"{"error":{"message":"no such tool","code":"tool_use_failed"}}"#));
    let app = spawn_app_for(&upstream, json!({"budget": 1, "max_retries": 0, "breaker": {"min_calls": 1}})).await;
    for _ in 0..5 {
        assert_eq!(app.chat(json!({})).await.error(502)["code"], "upstream_malformed");
    }
    assert_eq!((state(&app).await, upstream.counters().requests), (json!("closed"), 5));
}

#[tokio::test]
async fn members_behind_one_origin_fail_each_for_itself() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.request.path().starts_with("/openai/") {
        true => Step::status(503, "").header("retry-after-ms", "1"),
        false => Step::content("42"),
    });
    let broken = upstream.base_url().replace("/v1", "/openai/v1");
    let endpoint = json!([broken, upstream.base_url()]);
    let breaker = json!({"min_calls": 2, "window_ms": 600_000, "cool_down_ms": 600_000});
    let app = spawn_app().await;
    app.configure(&upstream, json!({"endpoint": endpoint, "budget": 1, "max_retries": 1, "breaker": breaker})).await;
    for _ in 0..30 {
        app.chat(json!({})).await.ok();
    }
    let seen = upstream.seen();
    let broken = seen.iter().filter(|seen| seen.request.path().starts_with("/openai/")).count();
    assert!(broken <= 2, "{broken} of {} calls went to the broken member", seen.len());
}

#[tokio::test]
async fn a_call_waits_for_the_member_that_asked_for_a_pause_when_the_other_has_fallen() {
    let (limited, falls) = (Upstream::start().await, Upstream::start().await);
    limited.push(Step::status(429, "").header("retry-after-ms", "1500"));
    limited.answer_with(|_| Step::content("42"));
    falls.answer_with(|_| Step::status(503, "").header("retry-after-ms", "1"));
    let app = spawn_app().await;
    let endpoint = json!([{"url": limited.base_url(), "weight": 1000}, {"url": falls.base_url(), "weight": 0.001}]);
    let breaker = json!({"min_calls": 1, "window_ms": 600_000, "cool_down_ms": 600_000});
    let fields = json!({"endpoint": endpoint, "budget": 1, "max_retries": 3, "breaker": breaker});
    app.configure(&limited, fields).await;
    let began = Instant::now();
    app.chat(json!({})).await.ok();
    assert_eq!((limited.counters().requests, falls.counters().requests), (2, 1));
    assert!(began.elapsed() >= Duration::from_millis(1500), "it was asked before its time");
}

#[tokio::test]
async fn an_outage_under_load_makes_no_storm_and_leaves_nothing_behind() {
    const CLIENTS: usize = 24;
    const ROUNDS: usize = 4;
    const BUDGET: usize = 4;
    let is_well = Arc::new(AtomicBool::new(true));
    let upstream = down_until(&is_well, None).await;
    let fields = json!({
        "max_retries": 3, "retry_budget": 0.2, "n_parallel": 64, "stop_rule": "none", "use_n": "never",
        "breaker": {"min_calls": 20, "cool_down_ms": 300}
    });
    let app = Arc::new(spawn_app_for(&upstream, fields).await);
    let ask_all = async |budget: usize, rounds: usize| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    for _ in 0..rounds {
                        answers.push(app.chat(json!({"budget": budget})).await);
                    }
                    answers
                })
            })
            .collect();
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.await.unwrap());
        }
        answers
    };
    for answer in ask_all(BUDGET, 1).await {
        assert_eq!(answer.header("x-its-candidates"), Some("4"));
    }
    let before = upstream.counters().requests;
    let began = Instant::now();
    is_well.store(false, Ordering::Relaxed);
    for answer in ask_all(BUDGET, ROUNDS).await {
        assert!([502, 503].contains(&answer.status), "{}", answer.text);
    }
    // Ten retries are free in any ten seconds.
    let free = 10 * (began.elapsed().as_secs() as usize / 10 + 2);
    let calls = CLIENTS * ROUNDS * BUDGET;
    let attempts = usize::try_from(upstream.counters().requests - before).unwrap();
    assert!(attempts as f64 <= 1.3 * calls as f64 + free as f64, "{attempts} attempts for {calls} calls");

    is_well.store(true, Ordering::Relaxed);
    until_due(&app).await;
    for answer in ask_all(8, 1).await {
        assert_eq!(answer.header("x-its-candidates"), Some("8"), "{}", answer.text);
    }
    assert_eq!(state(&app).await, "closed");
}
