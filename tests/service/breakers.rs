//! When an upstream is left alone, what the client is told, and that the last one is given up only when it is dead.

use serde_json::{Value, json};

use crate::app::{TestApp, spawn_app, spawn_app_for};
use crate::log_watch::watch_log;
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
        let message = error["message"].as_str().unwrap();
        let trouble = format!("(the last: http://{} answered 503)", upstream.address());
        assert!(message.contains("`breaker`") && message.contains(&trouble), "{error}");
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
    let log = watch_log();
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

    let address = upstream.address().to_string();
    let log = log.borrow();
    let lines: Vec<&String> = log.breakers.iter().filter(|line| line.contains(&address)).collect();
    let [opened, closed] = lines[..] else { panic!("one line for each change and not {lines:?}") };
    let failure = format!("last_failure=\"http://{address} answered 503\"");
    for part in [" WARN ", "has opened", &failure, "model=\""] {
        assert!(opened.contains(part), "{part} is not in {opened}");
    }
    assert!(closed.contains(" INFO ") && closed.contains("has closed"), "{closed}");
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
