//! Whatever ends a request ends its calls to Bedrock: the stub sees their connections closed, and nothing comes later.

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::app::{Answer, TestApp, events, receive, spawn_app_with};
use crate::bedrock_configuration::{MODEL, app_at, document};
use crate::bedrock_stub::{BedrockStub, Point, RetryAfter, Step};

/// What ends the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Disconnect,
    Endpoint,
    Deadline,
    Shutdown,
}

/// How far its calls are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is answered yet.
    Asked,
    /// The head is here.
    Begun,
    /// Half of the answer is.
    Answering,
}

fn point(stage: Stage) -> Point {
    match stage {
        Stage::Asked => Point::Request,
        Stage::Begun => Point::Head,
        Stage::Answering => Point::Body,
    }
}

async fn app_for(stub: &BedrockStub, cause: Cause, fields: Value) -> TestApp {
    let app = spawn_app_with(|settings| {
        // A stream begins before there is an answer, and is told of its end in an event.
        settings.server.stream_keep_alive = std::time::Duration::from_millis(5);
        if cause == Cause::Shutdown {
            settings.server.shutdown_timeout_s = 0;
        }
    })
    .await;
    let mut document = document(json!({"provider": "bedrock", "endpoint": stub.url(), "stop_rule": "none"}));
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post("/configure", &document).await.ok();
    app
}

fn question(fields: Value) -> Value {
    let mut question = json!({
        "model": format!("bedrock/{MODEL}"), "messages": [{"role": "user", "content": "What is 6 times 7?"}]
    });
    question.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    question
}

fn ask_as(app: &TestApp, id: &str, fields: Value) -> JoinHandle<Answer> {
    let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    tokio::spawn(receive(request.header("x-request-id", id)))
}

async fn cancel(app: &TestApp, id: &str) -> Answer {
    receive(app.client.post(app.url(&format!("/v1/chat/cancel/{id}")))).await
}

async fn check(cause: Cause, stage: Stage, budget: u64, stream: bool) {
    let case = format!("{cause:?}-{stage:?}-{budget}-{stream}");
    let stub = BedrockStub::start().await;
    let step = Step { content: Step::text("One two three four").content, ..Step::hang_at(point(stage)) };
    stub.answer_with(move |_| step.clone());
    let app = app_for(&stub, cause, json!({"budget": budget, "max_retries": 3, "retry_budget": 20})).await;
    let mut fields = json!({ "stream": stream });
    if cause == Cause::Deadline {
        fields["limits"] = json!({"deadline_ms": 2000});
    }
    let victim = ask_as(&app, &case, fields);
    stub.wait_for(|counters| counters.hung == budget && counters.in_flight == budget).await;
    let mut drain = None;
    match cause {
        Cause::Disconnect => victim.abort(),
        Cause::Endpoint => assert_eq!(cancel(&app, &case).await.ok()["requests"], 1),
        Cause::Deadline => {}
        Cause::Shutdown => drain = Some(app.drain_in_background()),
    }
    match (cause, victim.await) {
        (Cause::Disconnect, told) => assert!(told.unwrap_err().is_cancelled()),
        (_, told) => {
            let (status, code) = match cause {
                Cause::Endpoint => (499, json!("request_cancelled")),
                Cause::Deadline => (504, json!("deadline_exceeded")),
                Cause::Disconnect | Cause::Shutdown => (503, Value::Null),
            };
            let told = told.unwrap();
            let error = match told.status {
                200 => events(&told.text).last().unwrap()["error"].clone(),
                _ => told.error(status),
            };
            assert_eq!(error["code"], code, "{case}: {}", told.text);
        }
    }
    let counters = stub.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.requests, counters.closed_early), (budget, budget), "{case}");
    let is_live = stream && budget == 1 && stage == Stage::Answering;
    assert_eq!(counters.streams_closed_early, u64::from(is_live), "{case}");
    if let Some(drain) = drain {
        // The daemon's own end tells that no task is left.
        drain.await.unwrap();
    }
}

async fn check_all(cause: Cause) {
    let cases = [Stage::Asked, Stage::Begun, Stage::Answering].into_iter();
    let cases = cases.flat_map(|stage| [(1, false), (1, true), (4, false), (4, true)].map(|ask| (stage, ask)));
    join_all(cases.map(|(stage, (budget, stream))| check(cause, stage, budget, stream))).await;
}

#[tokio::test]
async fn a_client_that_leaves_closes_them() {
    check_all(Cause::Disconnect).await;
}

#[tokio::test]
async fn a_cancel_request_closes_them() {
    check_all(Cause::Endpoint).await;
}

#[tokio::test]
async fn a_deadline_closes_them() {
    check_all(Cause::Deadline).await;
}

#[tokio::test]
async fn a_stop_closes_them() {
    check_all(Cause::Shutdown).await;
}

#[tokio::test]
async fn a_vote_that_is_decided_closes_the_others() {
    for stream in [false, true] {
        let stub = BedrockStub::start().await;
        stub.answer_with(|seen| match seen.number {
            0..5 => Step::text("\\boxed{42}").gated("agreed"),
            _ => Step::hang_at(Point::Request),
        });
        let app = app_at(&stub).await;
        app.post("/configure", &document(json!({"budget": 9, "stop_rule": null}))).await.ok();
        let chat = ask_as(&app, "vote", json!({"stream": stream, "return_response_only": false}));
        stub.wait_for(|counters| counters.in_flight == 9 && counters.hung == 4).await;
        stub.open_gate("agreed");
        let answer = chat.await.unwrap();
        assert!(answer.text.contains("42"), "{}", answer.text);
        let counters = stub.wait_for(|counters| counters.in_flight == 0).await;
        assert_eq!((counters.requests, counters.closed_early), (9, 4), "stream: {stream}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_in_the_middle_closes_it() {
    let stub = BedrockStub::start().await;
    stub.push(Step { stream_gate: Some("never".to_owned()), ..Step::text("One two three") });
    let app = app_at(&stub).await;
    app.post("/configure", &document(json!({}))).await.ok();
    let request = app.json_request("/v1/chat/completions", &question(json!({"stream": true})).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("One") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    drop(body);
    let counters = stub.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.closed_early, counters.streams_closed_early), (1, 1));
    // Whoever asks next is served.
    let next = app.post("/v1/chat/completions", &question(json!({}))).await;
    assert_eq!(next.status, 200, "{}", next.text);
}

#[tokio::test]
async fn who_waits_for_a_turn_or_to_try_again_is_called_off_too() {
    let stub = BedrockStub::start().await;
    stub.push(Step::error("ThrottlingException").retry_after(RetryAfter::Seconds(60)));
    stub.push(Step::hang_at(Point::Request));
    let fields = json!({"n_parallel": 1, "max_retries": 3, "retry_budget": 20, "breaker": {"enabled": false}});
    let app = app_for(&stub, Cause::Endpoint, fields).await;
    let pausing = ask_as(&app, "pausing", json!({}));
    stub.wait_for(|counters| counters.throttled == 1 && counters.in_flight == 0).await;
    app.wait_for_providers(|providers| providers[0]["in_flight"] == 0).await;
    let occupant = ask_as(&app, "occupant", json!({}));
    stub.wait_for(|counters| counters.hung == 1).await;
    let queued = ask_as(&app, "queued", json!({}));
    app.somebody_queues().await;
    for (id, victim) in [("pausing", pausing), ("queued", queued), ("occupant", occupant)] {
        cancel(&app, id).await.ok();
        assert_eq!(victim.await.unwrap().error(499)["code"], "request_cancelled", "{id}");
    }
    let counters = stub.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.requests, counters.closed_early), (2, 1));
    // The only place is free.
    let next = app.post("/v1/chat/completions", &question(json!({}))).await;
    assert_eq!(next.status, 200, "{}", next.text);
}
