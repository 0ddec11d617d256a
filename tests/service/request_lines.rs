//! One log line for each request, written when it has ended, with what it came to and never what it said.

use serde_json::{Value, json};

use crate::app::{TestApp, question, receive, spawn_app_for};
use crate::log_watch::{lines_of, watch_log};
use crate::metrics::scrape_when;
use crate::upstream::{Point, Step, Upstream};

async fn ask(app: &TestApp, id: &str, fields: Value) {
    let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    receive(request.header("x-request-id", id)).await;
}

#[track_caller]
fn holds(lines: &[String], parts: &[&str]) {
    let [line] = lines else { panic!("one line and not {lines:?}") };
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(line.contains("duration_ms=") && line.contains("path=/v1/chat/completions"), "{line}");
    for said in ["6 times 7", "boxed"] {
        assert!(!line.contains(said), "what was said is not for the log: {line}");
    }
}

#[tokio::test]
async fn an_answered_request_leaves_one_line_with_its_cost() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none"})).await;
    let told =
        ["status=200", "algorithm=\"self-consistency\"", "revision=1", "planned=3", "completed=3", "prompt_tokens=30"];
    for (id, stream) in [("line-whole", false), ("line-stream", true)] {
        ask(&app, id, json!({"stream": stream})).await;
        holds(&lines_of(&mut log, id).await, &told);
    }
    ask(&app, "line-single", json!({"budget": 1, "stream": true})).await;
    holds(
        &lines_of(&mut log, "line-single").await,
        &["status=200", "algorithm=\"none\"", "planned=1", "completion_tokens=1"],
    );
}

#[tokio::test]
async fn a_failed_request_leaves_one_line_with_its_cause() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    ask(&app, "line-refused", json!({"temperature": 9})).await;
    holds(&lines_of(&mut log, "line-refused").await, &["status=400", "temperature"]);
    upstream.answer_with(|_| Step::status(500, "{\"error\": {\"message\": \"fell over\"}}"));
    ask(&app, "line-failed", json!({})).await;
    let address = format!("address=\"http://{}\"", upstream.address());
    holds(
        &lines_of(&mut log, "line-failed").await,
        &["status=502", "upstream_unavailable: status 500", " WARN ", "attempts=2 retries=0", &address, "provider=\""],
    );
}

#[tokio::test]
async fn what_was_tried_again_is_counted() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    upstream.push(Step::status(503, "").header("retry-after-ms", "1"));
    let app = spawn_app_for(&upstream, json!({"budget": 1, "max_retries": 1})).await;
    ask(&app, "line-again", json!({})).await;
    let lines = lines_of(&mut log, "line-again").await;
    holds(&lines, &["status=200", "attempts=2 retries=1"]);
    assert!(!lines[0].contains("address="), "only a failure says where: {lines:?}");
}

#[tokio::test]
async fn a_client_that_leaves_is_told_apart() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    upstream.push(Step::hang_at(Point::Request));
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({})).to_string());
    let chat = tokio::spawn(receive(request.header("x-request-id", "line-left")));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    chat.abort();
    holds(&lines_of(&mut log, "line-left").await, &["status=499", "planned=1"]);
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_told_and_counted_as_its_error() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let broken = Step { close_at: Some(Point::Body), ..Step::content("one two three four five six seven eight") };
    upstream.push(broken);
    ask(&app, "line-broken", json!({"stream": true})).await;
    holds(&lines_of(&mut log, "line-broken").await, &[" WARN ", "status=502", "error=\"the connection to"]);
    scrape_when(&app, |scrape| scrape.requests("/v1/chat/completions", "none", 502) == 1.0).await;
}

#[tokio::test]
async fn candidates_that_fail_are_counted_beside_those_that_completed() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    upstream.push(Step::status(500, "{}"));
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none"})).await;
    ask(&app, "line-some", json!({})).await;
    holds(&lines_of(&mut log, "line-some").await, &["status=200", "planned=3", "completed=2", "failed=1"]);
}
