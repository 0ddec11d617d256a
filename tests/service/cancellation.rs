//! What nobody will read is not paid for: calls end when the vote is decided, when the client leaves and when
//! the daemon stops, shown by the connections that the upstream sees closed.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{PATIENCE, TestApp, question, spawn_app_for, spawn_app_with};
use crate::upstream::{Point, Step, Upstream};

async fn hanging_upstream(count: usize) -> Upstream {
    let upstream = Upstream::start().await;
    for _ in 0..count {
        upstream.push(Step::hang_at(Point::Request));
    }
    upstream
}

#[tokio::test]
async fn a_decided_vote_closes_the_calls_that_are_pending() {
    let upstream = Upstream::start().await;
    // Five of nine agree: whatever the four others would say, the vote is won.
    for _ in 0..5 {
        upstream.push(Step::content("The answer is \\boxed{42}."));
    }
    for _ in 0..4 {
        upstream.push(Step::hang_at(Point::Request));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 9})).await;
    let answer = app.chat(json!({"return_response_only": false})).await;

    assert_eq!(answer.content(), "The answer is \\boxed{42}.");
    assert_eq!(answer.header("x-its-stop"), Some("decided"));
    assert_eq!(answer.header("x-its-candidates"), Some("5"));
    let stop = &answer.json()["metadata"]["stop"];
    assert_eq!((&stop["planned"], &stop["completed"], &stop["cancelled"]), (&json!(9), &json!(5), &json!(4)));
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.requests, counters.closed_early), (9, 4));
}

#[tokio::test]
async fn calls_whose_turn_never_came_are_not_made_once_the_vote_is_decided() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 101, "n_parallel": 1})).await;
    let answer = app.chat(json!({"return_response_only": false})).await;
    let stop = &answer.ok()["metadata"]["stop"];
    assert_eq!((&stop["planned"], &stop["reason"]), (&json!(101), &json!("decided")));
    // 51 of 101 are a majority; one more may have begun before that was known.
    let requests = upstream.wait_for(|counters| counters.in_flight == 0).await.requests;
    assert!((51..=52).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_every_call_with_it() {
    for stream in [false, true] {
        let upstream = hanging_upstream(6).await;
        let app = spawn_app_for(&upstream, json!({"budget": 6})).await;
        let chat = app.chat_in_background(json!({"stream": stream}));
        upstream.wait_for(|counters| counters.in_flight == 6).await;
        chat.abort();
        let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
        assert_eq!((counters.requests, counters.closed_early), (6, 6), "stream: {stream}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_ends_the_call() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({"budget": 1, "stream": true})).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("one ") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(upstream.counters().in_flight, 1);
    drop(body);
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!(counters.closed_early, 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_calls_wait_for_their_turn_leaves_the_queue() {
    let upstream = hanging_upstream(8).await;
    let app = spawn_app_for(&upstream, json!({"budget": 8, "n_parallel": 2})).await;
    let chat = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    chat.abort();
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!((counters.requests, counters.closed_early), (2, 2));
    // Both permits are free again.
    assert_eq!(upstream.counters().requests, 2);
    let again = app.chat_in_background(json!({"budget": 2}));
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    again.abort();
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_nothing_of_another_with_it() {
    let upstream = hanging_upstream(3).await;
    let app = spawn_app_for(&upstream, json!({"budget": 3})).await;
    let leaving = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    for _ in 0..3 {
        upstream.push(Step::content("\\boxed{42}").gated("answer"));
    }
    let staying = app.chat_in_background(json!({"stop_rule": "none"}));
    upstream.wait_for(|counters| counters.in_flight == 6).await;
    leaving.abort();
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    upstream.open_gate("answer");
    assert_eq!(staying.await.unwrap().header("x-its-candidates"), Some("3"));
    assert_eq!(upstream.counters().closed_early, 3);
}

#[tokio::test]
async fn a_graceful_stop_lets_running_requests_finish() {
    let upstream = Upstream::start().await;
    for _ in 0..3 {
        upstream.push(Step::content("\\boxed{42}").gated("answer"));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 3})).await;
    let vote = app.chat_in_background(json!({"stop_rule": "none"}));
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    upstream.push(Step { stream_gate: Some("answer".to_owned()), ..Step::content("one two three") });
    let live = app.chat_in_background(json!({"budget": 1, "stream": true}));
    upstream.wait_for(|counters| counters.in_flight == 4).await;

    let drain = app.drain_in_background();
    refuses_connections(&app).await;
    upstream.open_gate("answer");
    let vote = vote.await.unwrap();
    assert_eq!((vote.content().as_str(), vote.header("x-its-candidates")), ("\\boxed{42}", Some("3")));
    let live = live.await.unwrap();
    assert!(live.text.contains("three") && live.text.ends_with("data: [DONE]\n\n"), "{}", live.text);
    tokio::time::timeout(PATIENCE, drain).await.expect("the drain ends").unwrap();
    assert_eq!(upstream.counters().closed_early, 0);
}

#[tokio::test]
async fn past_the_drain_time_everything_upstream_is_closed() {
    let upstream = hanging_upstream(8).await;
    let app = spawn_app_with(|settings| settings.server.shutdown_timeout_s = 1).await;
    app.configure(&upstream, json!({"budget": 4})).await;
    let plain = app.chat_in_background(json!({}));
    upstream.wait_for(|counters| counters.in_flight == 4).await;
    let streamed = app.chat_in_background(json!({"stream": true}));
    upstream.wait_for(|counters| counters.in_flight == 8).await;
    app.drain_in_background().await.unwrap();
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    assert_eq!(counters.closed_early, 8);
    for chat in [plain, streamed] {
        let answer = chat.await.unwrap();
        assert_eq!(answer.error(503)["type"], "unavailable");
        // What has been spent on it is not to be spent again by a client that repeats it unasked.
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("1"), Some("false")));
    }
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_a_stop_up() {
    let upstream = Upstream::start().await;
    // A drain that waited for idle connections would take these thirty minutes.
    let app = spawn_app_with(|settings| settings.server.shutdown_timeout_s = 1800).await;
    app.configure(&upstream, json!({})).await;
    app.chat(json!({})).await.ok();
    tokio::time::timeout(PATIENCE, app.drain_in_background()).await.expect("the drain ends").unwrap();
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_client_of_the_embedded_model_that_leaves_frees_its_sequences() {
    // With room for one candidate at a time, a sequence that is not given back stops everybody.
    let app = spawn_app_with(|settings| settings.llama.max_sequences = 1).await;
    let sum = |fields: Value| {
        let mut sum = json!({
            "model": "arithmetic-demo",
            "messages": [{"role": "user", "content": "What is 23 + 48 - 17 + 66?"}]
        });
        sum.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        sum
    };
    for budget in [1, 200] {
        let live = sum(json!({"budget": 1, "stream": true}));
        let request = app.json_request("/v1/chat/completions", &live.to_string());
        let mut body = request.send().await.unwrap().bytes_stream();
        body.next().await.unwrap().unwrap();
        drop(body);
        let vote = app.chat_in_background(sum(json!({"budget": budget, "stop_rule": "none"})));
        // Leaving before, while and after the engine takes the job up must all be the same.
        tokio::task::yield_now().await;
        vote.abort();
    }
    let answer = tokio::time::timeout(PATIENCE, app.chat(sum(json!({"budget": 3})))).await.expect("an answer");
    assert_eq!(answer.header("x-its-algorithm"), Some("self-consistency"));
    assert!(!answer.content().is_empty());
    app.assert_ready().await;
}

/// Returns when the daemon has stopped to listen.
async fn refuses_connections(app: &TestApp) {
    let closed = async {
        while tokio::net::TcpStream::connect(app.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the daemon stops listening");
}
