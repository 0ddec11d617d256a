//! `POST /v1/chat/cancel/{request_id}`: a running request is ended with its calls, and its client is told.

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::app::{Answer, TestApp, events, question, receive, spawn_app_for, spawn_app_with};
use crate::upstream::{Point, Step, Upstream};

async fn hanging_upstream() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::hang_at(Point::Request));
    upstream
}

/// A chat request that runs beside the test under a request id of its own.
fn chat_as(app: &TestApp, id: &str, fields: Value) -> JoinHandle<Answer> {
    let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    tokio::spawn(receive(request.header("x-request-id", id)))
}

async fn cancel(app: &TestApp, id: &str) -> Answer {
    receive(app.client.post(app.url(&format!("/v1/chat/cancel/{id}")))).await
}

#[tokio::test]
async fn every_call_of_a_cancelled_request_is_closed_and_its_client_is_told() {
    for stream in [false, true] {
        let upstream = hanging_upstream().await;
        let app = spawn_app_for(&upstream, json!({"budget": 5})).await;
        let chat = chat_as(&app, "mine", json!({"stream": stream}));
        upstream.wait_for(|counters| counters.in_flight == 5).await;
        let answer = cancel(&app, "mine").await;
        assert_eq!(answer.ok(), json!({"status": "cancelled", "request_id": "mine", "requests": 1}));

        let answer = chat.await.unwrap();
        let error = answer.error(499);
        assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("request_cancelled")));
        assert_eq!((answer.header("x-should-retry"), answer.header("x-request-id")), (Some("false"), Some("mine")));
        let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
        assert_eq!((counters.requests, counters.closed_early), (5, 5), "stream: {stream}");
        cancel(&app, "mine").await.error(404);
    }
}

#[tokio::test]
async fn a_stream_that_has_begun_ends_with_an_error_event() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({"stream": true})).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("one ") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    // The completion's id stands in every chunk.
    let id = events(&text)[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(cancel(&app, &id).await.ok()["request_id"], id);
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.expect("the stream ends in order")).unwrap();
    }
    assert!(!text.contains("[DONE]"), "{text}");
    let events = events(&text);
    let last = events.last().unwrap();
    assert_eq!(last["error"]["code"], "request_cancelled", "{last}");
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!(counters.closed_early, 1);
    cancel(&app, &id).await.error(404);
}

#[tokio::test]
async fn a_vote_that_is_waited_for_on_an_open_stream_can_be_cancelled() {
    let upstream = hanging_upstream().await;
    let app = spawn_app_with(|settings| settings.server.stream_keep_alive = std::time::Duration::from_millis(5)).await;
    app.configure(&upstream, json!({"budget": 3})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({"stream": true})).to_string());
    let response = request.header("x-request-id", "open").send().await.unwrap();
    assert_eq!(response.status(), 200);
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    cancel(&app, "open").await.ok();
    let text = response.text().await.expect("the stream ends in order");
    let (_, event) = text.rsplit_once("data: ").unwrap();
    assert!(event.contains("request_cancelled") && text.starts_with(": its 0/3 candidates\n\n"), "{text}");
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}

#[tokio::test]
async fn requests_under_one_id_of_their_clients_are_cancelled_together_and_no_other() {
    let upstream = hanging_upstream().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let (one, two) = (chat_as(&app, "twice", json!({})), chat_as(&app, "twice", json!({"stream": true})));
    let other = chat_as(&app, "other", json!({}));
    upstream.wait_for(|counters| counters.in_flight == 6).await;
    assert_eq!(cancel(&app, "twice").await.ok()["requests"], 2);
    for chat in [one, two] {
        assert_eq!(chat.await.unwrap().error(499)["code"], "request_cancelled");
    }
    let counters = upstream.wait_for(|counters| counters.in_flight == 2).await;
    assert_eq!(counters.closed_early, 4);
    assert_eq!(cancel(&app, "other").await.ok()["requests"], 1);
    other.await.unwrap().error(499);
}

#[tokio::test]
async fn calls_that_wait_for_their_turn_are_never_made() {
    let upstream = hanging_upstream().await;
    let app = spawn_app_for(&upstream, json!({"budget": 9, "n_parallel": 1})).await;
    let chat = chat_as(&app, "queued", json!({}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    cancel(&app, "queued").await.ok();
    chat.await.unwrap().error(499);
    upstream.wait_for(|counters| counters.in_flight == 0).await;
    // The turn of the one that was cancelled is free again.
    let again = chat_as(&app, "again", json!({"budget": 1}));
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 1).await.requests, 2);
    cancel(&app, "again").await.ok();
    again.await.unwrap().error(499);
}

#[tokio::test]
async fn only_what_runs_can_be_cancelled() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({})).to_string());
    let answer = receive(request.header("x-request-id", "done")).await;
    let id = answer.ok()["id"].as_str().unwrap().to_owned();
    for id in ["done", &id, "never", "..%2F..", "%00"] {
        let error = cancel(&app, id).await.error(404);
        assert_eq!((&error["code"], &error["param"]), (&json!("request_not_found"), &json!("request_id")), "{id}");
    }
    let answer = app.get("/v1/chat/cancel/done").await;
    answer.error(405);
    assert_eq!(answer.header("allow"), Some("POST"));
    app.post("/v1/chat/cancel/", &json!({})).await.error(404);
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten() {
    let upstream = hanging_upstream().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    for stream in [false, true] {
        let chat = chat_as(&app, "left", json!({"stream": stream}));
        upstream.wait_for(|counters| counters.in_flight == 2).await;
        chat.abort();
        upstream.wait_for(|counters| counters.in_flight == 0).await;
        // Its place in the register is given up with its calls.
        let answer = cancel(&app, "left").await;
        assert_eq!(answer.status, 404, "stream {stream}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_request_for_raw_text_is_cancelled_by_its_request_id() {
    for stream in [false, true] {
        let upstream = hanging_upstream().await;
        let app = spawn_app_for(&upstream, json!({})).await;
        let body = json!({"model": "scripted", "prompt": "a", "stream": stream}).to_string();
        let request = app.json_request("/v1/completions", &body).header("x-request-id", "mine");
        let waiting = tokio::spawn(receive(request));
        upstream.wait_for(|counters| counters.in_flight == 1).await;
        assert_eq!(cancel(&app, "mine").await.ok()["requests"], 1);
        assert_eq!(waiting.await.unwrap().error(499)["code"], "request_cancelled", "stream: {stream}");
        upstream.wait_for(|counters| counters.in_flight == 0).await;
        cancel(&app, "mine").await.error(404);
    }
}

#[tokio::test]
async fn a_stream_of_raw_text_is_cancelled_by_the_id_that_its_chunks_have() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({})).await;
    let request = json!({"model": "scripted", "prompt": "a", "stream": true}).to_string();
    let mut body = app.json_request("/v1/completions", &request).send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("one ") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    let id = events(&text)[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(cancel(&app, &id).await.ok()["request_id"], id);
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
    }
    assert_eq!(events(&text).last().unwrap()["error"]["code"], "request_cancelled", "{text}");
    assert!(!text.contains("[DONE]"));
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}
