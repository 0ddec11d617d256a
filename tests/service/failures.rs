//! Candidates that fail: some are survived, all are an error that says whose fault it was and what it cost.

use serde_json::{Value, json};

use crate::app::{Answer, spawn_app_for};
use crate::upstream::{Point, Step, Upstream};

const KEY: &str = "sk-planted-0123456789abcdef";

fn refusal(status: u16, message: &str) -> Step {
    Step::status(status, &json!({"error": {"message": message, "type": "t", "param": null, "code": null}}).to_string())
}

/// What a vote of three answers when every call gets `step`.
async fn all_fail(step: Step) -> Answer {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |_| step.clone());
    let app = spawn_app_for(&upstream, json!({"budget": 3, "api_key": KEY})).await;
    let answer = app.chat(json!({})).await;
    assert!(!answer.text.contains(KEY), "{}", answer.text);
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{}", answer.text);
    answer
}

#[tokio::test]
async fn candidates_that_fail_are_survived_and_told() {
    let upstream = Upstream::start().await;
    upstream.push(refusal(500, "the model fell over"));
    upstream.push(Step::content("\\boxed{42}"));
    upstream.push(Step::close_at(Point::Head));
    upstream.push(Step::content("So \\boxed{42}"));
    upstream.push(refusal(401, &format!("wrong key {KEY}")));
    let fields = json!({"budget": 5, "n_parallel": 1, "stop_rule": "none", "api_key": KEY});
    let app = spawn_app_for(&upstream, fields).await;
    let answer = app.chat(json!({"return_response_only": false})).await;

    assert_eq!(answer.content(), "\\boxed{42}");
    assert_eq!(answer.header("x-its-candidates"), Some("2"));
    assert_eq!(answer.header("x-should-retry"), None);
    let warning = "3 of 5 candidates failed: upstream_unavailable 2, upstream_auth 1; the answer rests on 2";
    assert_eq!(answer.header("x-its-warnings"), Some(warning));
    assert_eq!(answer.json()["metadata"]["warnings"], json!([warning]));
    let metadata = &answer.json()["metadata"];
    assert_eq!((&metadata["agreement"], &metadata["response_counts"]), (&json!(1.0), &json!({"42": 2})));
    let failures: Vec<_> = metadata["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| (failure["candidate"].clone(), failure["what"].clone(), failure["status"].clone()))
        .collect();
    assert_eq!(
        failures,
        [
            (json!(0), json!("upstream_unavailable"), json!(500)),
            (json!(2), json!("upstream_unavailable"), Value::Null),
            (json!(4), json!("upstream_auth"), json!(401)),
        ]
    );
    assert!(metadata["failures"][0]["message"].as_str().unwrap().contains("the model fell over"));
    assert_eq!(metadata["responses"][0], Value::Null);
    assert_eq!(metadata["responses"].as_array().unwrap().len(), 5);
    assert!(!answer.text.contains(KEY));
    // Only the two that answered said what they cost.
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 20);
}

#[tokio::test]
async fn an_upstream_that_fails_is_a_bad_gateway() {
    let error = all_fail(refusal(500, "the model fell over")).await.error(502);
    assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_unavailable")));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("all 3 candidates failed: ") && message.contains("fell over"), "{message}");

    let error = all_fail(Step::close_at(Point::Request)).await.error(502);
    assert_eq!(error["code"], "upstream_unavailable");
    let error = all_fail(Step::body("<html>It works!</html>")).await.error(502);
    assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_malformed")));
    let error = all_fail(refusal(404, "no such model")).await.error(502);
    assert_eq!(error["code"], "upstream_not_found");
}

#[tokio::test]
async fn a_key_that_the_upstream_refuses_is_told_without_it() {
    for status in [401, 403] {
        let error = all_fail(refusal(status, &format!("Incorrect API key provided: {KEY}"))).await.error(502);
        assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_auth")));
    }
}

#[tokio::test]
async fn an_upstreams_rate_limit_stays_one_and_tells_when_to_come_back() {
    let answer = all_fail(refusal(429, "slow down").header("retry-after", "7")).await;
    let error = answer.error(429);
    assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("rate_limit_exceeded")));
    assert_eq!(answer.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn a_request_that_the_upstream_does_not_take_is_the_clients_to_change() {
    let body =
        json!({"error": {"message": "too hot", "type": "invalid_request_error", "param": "temperature", "code": null}});
    let error = all_fail(Step::status(400, &body.to_string())).await.error(400);
    assert_eq!((&error["type"], &error["param"]), (&json!("invalid_request_error"), &json!("temperature")));
    assert!(error["message"].as_str().unwrap().contains("too hot"), "{error}");

    let body = json!({"error": {
        "message": "This model's maximum context length is 8192 tokens.", "type": "invalid_request_error",
        "param": "messages", "code": "context_length_exceeded"
    }});
    let error = all_fail(Step::status(400, &body.to_string())).await.error(400);
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().starts_with("Input exceeds maximum context length"), "{error}");
}

#[tokio::test]
async fn an_upstream_that_nobody_answers_at_is_a_bad_gateway() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    upstream.stop().await;
    let answer = app.chat(json!({})).await;
    let error = answer.error(502);
    assert_eq!(error["code"], "upstream_unavailable");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    // An outage of the provider is not the daemon's.
    assert_eq!(app.get("/ready").await.status, 200);
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_given_up() {
    let upstream = Upstream::start().await;
    upstream.push(Step::hang_at(Point::Request));
    let app = spawn_app_for(&upstream, json!({"budget": 1, "timeout_ms": 50})).await;
    let error = app.chat(json!({})).await.error(502);
    assert_eq!(error["code"], "upstream_timeout");
    upstream.wait_for(|counters| counters.closed_early == 1).await;
}

#[tokio::test]
async fn a_failure_that_may_pass_is_retried_as_often_as_configured() {
    let upstream = Upstream::start().await;
    for _ in 0..2 {
        upstream.push(refusal(503, "not now").header("retry-after-ms", "1"));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 1, "max_retries": 2})).await;
    let answer = app.chat(json!({"return_response_only": false})).await;
    assert_eq!(answer.content(), "This is a scripted answer.");
    assert_eq!(answer.json()["metadata"]["failures"], json!([]));
    assert_eq!(upstream.counters().requests, 3);
}
