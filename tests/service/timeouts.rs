//! What a client is told of each limit that was reached: by which setting.

use std::time::Duration;

use itsd::failure::FailureKind;
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::{spawn_app, spawn_app_for};
use crate::hand_fed::HandFed;
use crate::provider::{complete, spec};
use crate::upstream::{Point, Step, Upstream};

/// The message of a 502 for a chat request, whole and streamed, that meets `step` under these settings.
async fn told(step: Step, fields: Value) -> Vec<String> {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |_| step.clone());
    let app = spawn_app_for(&upstream, fields).await;
    let mut messages = Vec::new();
    for is_streamed in [false, true] {
        let answer = app.chat(json!({"stream": is_streamed, "budget": 1})).await;
        let error = answer.error(502);
        assert_eq!((&error["type"], &error["code"]), (&json!("upstream_error"), &json!("upstream_timeout")));
        assert_eq!(answer.header("x-should-retry"), Some("false"), "it may have cost something");
        messages.push(error["message"].as_str().unwrap().to_owned());
    }
    // What nobody waits for any more is not left running.
    upstream.wait_for(|counters| counters.in_flight == 0).await;
    messages
}

#[tokio::test]
async fn an_attempt_ends_at_its_limit() {
    for point in [Point::Request, Point::Head] {
        for message in told(Step::hang_at(point), json!({"timeout_ms": 200})).await {
            assert_eq!(
                message, "openai-compatible did not answer within 0.2 s; `timeout_ms` sets this limit",
                "{point:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_must_begin_in_time() {
    for point in [Point::Request, Point::Head] {
        for message in told(Step::hang_at(point), json!({"first_byte_timeout_ms": 200})).await {
            assert_eq!(
                message,
                "openai-compatible did not begin to answer within 0.2 s; `first_byte_timeout_ms` sets this limit",
                "{point:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_must_go_on() {
    // The stream says who speaks, and then no word.
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
    let begun = |body: &str, kind: &str| {
        let half = format!("{body}{}", " ".repeat(body.len()));
        Step { hang_at: Some(Point::Body), ..Step::body(&half).header("content-type", kind) }
    };
    let stream = begun(&format!("data: {role}\n\n"), "text/event-stream");
    let whole = begun(r#"{"choices":"#, "application/json");
    let fields = json!({"idle_timeout_ms": 200, "first_byte_timeout_ms": 60_000});
    let expected = "openai-compatible was silent for 0.2 s within its answer; `idle_timeout_ms` sets this limit";
    assert_eq!(told(stream, fields.clone()).await[1], expected);
    assert_eq!(told(whole, fields).await, [expected, expected]);
}

/// What a client is told of an upstream that answers with comments and nothing else.
async fn told_of_comments(fields: &Value) -> String {
    let upstream = HandFed::start().await;
    let app = spawn_app().await;
    let mut document = upstream.document();
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post("/configure", &document).await.ok();
    let feeding = async {
        let mut call = upstream.call().await;
        while call.write(b": OPENROUTER PROCESSING\n\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (answer, ()) = tokio::join!(app.chat(json!({"stream": true})), feeding);
    let error = answer.error(502);
    assert_eq!(error["code"], "upstream_timeout");
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn comments_are_no_sign_that_an_answer_goes_on() {
    assert_eq!(
        told_of_comments(&json!({"idle_timeout_ms": 300})).await,
        "openai-compatible was silent for 0.3 s within its answer; `idle_timeout_ms` sets this limit"
    );
    assert_eq!(
        told_of_comments(&json!({"first_byte_timeout_ms": 300})).await,
        "openai-compatible did not begin to answer within 0.3 s; `first_byte_timeout_ms` sets this limit"
    );
}

#[tokio::test]
async fn an_answer_that_crawls_is_not_silent() {
    let upstream = Upstream::start().await;
    upstream.push(Step { split_bytes: Some(20), drip_ms: Some(1), ..Step::content("one two three four five six") });
    let app = spawn_app_for(&upstream, json!({"idle_timeout_ms": 5000, "budget": 1})).await;
    assert_eq!(app.chat(json!({})).await.content(), "one two three four five six");
}

#[tokio::test]
async fn a_stream_that_falls_silent_after_its_first_words_says_so_in_an_event() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({"idle_timeout_ms": 300, "max_retries": 3})).await;
    let answer = app.chat(json!({"budget": 1, "stream": true})).await;
    assert_eq!(answer.status, 200);
    let last = crate::app::events(&answer.text).pop().unwrap();
    assert_eq!(last["error"]["code"], "upstream_timeout", "{last}");
    assert!(last["error"]["message"].as_str().unwrap().contains("`idle_timeout_ms`"), "{last}");
    assert_eq!(upstream.counters().requests, 1, "what has been said cannot be said again");
}

#[tokio::test]
async fn a_connection_must_be_there_in_time() {
    // It takes connections and never speaks TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut spec = spec(&format!("https://{address}/v1"));
    spec.calls.connect_timeout = Duration::from_millis(200);
    let provider = match Provider::new(spec, &Shared::default()) {
        Ok(provider) => provider,
        // A machine without certificates cannot say https at all.
        Err(error) => return assert!(error.to_string().contains("ca-certificates"), "{error}"),
    };
    let failure = complete(&provider).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable);
    let expected = format!("could not connect to https://{address} within 0.2 s; `connect_timeout_ms` sets this limit");
    assert_eq!(failure.message, expected);
}
