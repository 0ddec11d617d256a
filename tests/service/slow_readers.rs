//! Clients that read slowly, or not at all: the upstream is kept waiting instead of the answer being piled up, and
//! whatever ends a request ends it although nobody reads.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::{Answer, PATIENCE, TestApp, events, question, receive, spawn_app, spawn_app_for, spawn_app_with};
use crate::hand_fed::{Client, HandFed, letters};
use crate::upstream::{Step, Upstream};

/// The text of one chunk.
const PIECE_BYTES: usize = 8 << 10;
/// Chunks of an answer that is much longer than what the daemon and the sockets around it hold.
const PIECES: usize = 4 << 10;
/// What may have left the upstream while its reader's reader reads nothing: sockets grow to some megabytes.
const MOST_UNREAD_BYTES: usize = 16 << 20;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A request for a stream, with `fields` put over it.
fn request(path: &str, fields: &Value) -> Value {
    let mut request = match path {
        CHAT => question(json!({"stream": true})),
        _ => json!({"model": "scripted", "prompt": "Say it.", "stream": true}),
    };
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

async fn configure(app: &TestApp, document: &Value) {
    app.post("/configure", document).await.ok();
}

async fn cancel(app: &TestApp, id: &str) -> Answer {
    receive(app.client.post(app.url(&format!("/v1/chat/cancel/{id}")))).await
}

#[tokio::test]
async fn a_client_that_does_not_read_keeps_the_upstream_waiting() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app().await;
        configure(&app, &upstream.document()).await;
        let mut idle = Client::ask(&app, path, "idle", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        idle.read_until("QQQ").await;

        // While another client reads all of the same, this one gets no further.
        let busy = Client::ask(&app, path, "busy", &request(path, &json!({}))).await;
        let other = upstream.call().await.flood(PIECES, PIECE_BYTES);
        let (_, chunks) = busy.read_rest().await;
        assert_eq!(letters(&chunks.concat()), PIECES * PIECE_BYTES);
        assert!(other.end().await);
        assert!(flood.sent_bytes() < MOST_UNREAD_BYTES, "{} bytes left the upstream", flood.sent_bytes());

        // Nothing is lost by it.
        let (_, chunks) = idle.read_rest().await;
        let body = chunks.concat();
        assert_eq!(letters(&body), PIECES * PIECE_BYTES);
        assert!(body.ends_with(b"data: [DONE]\n\n"));
        assert!(flood.end().await);
    }
}

#[tokio::test]
async fn a_client_that_stops_to_read_and_leaves_ends_the_call() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app().await;
        let mut document = upstream.document();
        document["n_parallel"] = json!(1);
        configure(&app, &document).await;
        let mut client = Client::ask(&app, path, "leaves", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        client.read_until("QQQ").await;
        drop(client);
        assert!(!flood.end().await, "the connection is closed in the middle");
        // Its place is free.
        let next = Client::ask(&app, path, "next", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(1, 1);
        assert_eq!(letters(&next.read_rest().await.1.concat()), 1);
        assert!(flood.end().await);
        cancel(&app, "leaves").await.error(404);
    }
}

/// Reads what a stream that was ended still holds, and returns the error that it ends with.
async fn last_error(client: Client) -> Value {
    let (_, chunks) = client.read_rest().await;
    let body = String::from_utf8(chunks.concat()).unwrap();
    assert!(!body.contains("[DONE]"), "a stream that was cut short must not look whole");
    let told = events(&body);
    assert!(told.len() < PIECES, "{} events", told.len());
    told.last().unwrap()["error"].clone()
}

#[tokio::test]
async fn a_cancel_request_ends_a_stream_that_nobody_reads() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app().await;
        configure(&app, &upstream.document()).await;
        let mut client = Client::ask(&app, path, "unread", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        client.read_until("QQQ").await;
        assert_eq!(cancel(&app, "unread").await.ok()["requests"], 1);
        assert!(!flood.end().await);
        assert_eq!(last_error(client).await["code"], "request_cancelled", "{path}");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_stream_that_nobody_reads() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app().await;
        configure(&app, &upstream.document()).await;
        let fields = json!({"limits": {"deadline_ms": 1000}});
        let mut client = Client::ask(&app, path, "late", &request(path, &fields)).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        client.read_until("QQQ").await;
        assert!(!flood.end().await);
        assert_eq!(last_error(client).await["code"], "deadline_exceeded", "{path}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_given_up_by_and_by() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app_with(|settings| settings.server.unread_timeout = Duration::from_millis(100)).await;
        configure(&app, &upstream.document()).await;
        let mut client = Client::ask(&app, path, "unread", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        client.read_until("QQQ").await;
        assert!(!flood.end().await);
        // Its connection is closed too, by those systems that can tell; then it is known no longer.
        if cfg!(target_os = "linux") {
            let closed = async { while cancel(&app, "unread").await.status != 404 {} };
            timeout(PATIENCE, closed).await.expect("an end of the connection");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_answer_that_nobody_reads_to_its_end_does_not_keep_a_drain_waiting() {
    for fields in [json!({"stream": true}), json!({})] {
        let upstream = Upstream::start().await;
        for _ in 0..2 {
            upstream.push(Step { content_bytes: Some(16 << 20), ..Step::content("Q") });
        }
        let app = spawn_app_with(|settings| {
            settings.server.unread_timeout = Duration::from_millis(100);
            settings.server.shutdown_timeout_s = 3600;
        })
        .await;
        app.configure(&upstream, json!({"budget": 2, "stop_rule": "none", "n_parallel": 1})).await;
        let mut client = Client::ask(&app, CHAT, "unread", &question(fields)).await;
        client.read_until("QQQ").await;
        timeout(PATIENCE, app.drain_in_background()).await.expect("an end of the connection").unwrap();
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_client_that_does_not_read() {
    for path in [CHAT, TEXT] {
        let upstream = HandFed::start().await;
        let app = spawn_app_with(|settings| settings.server.shutdown_timeout_s = 0).await;
        configure(&app, &upstream.document()).await;
        let mut client = Client::ask(&app, path, "unread", &request(path, &json!({}))).await;
        let flood = upstream.call().await.flood(PIECES, PIECE_BYTES);
        client.read_until("QQQ").await;
        app.drain_in_background().await.unwrap();
        assert!(!flood.end().await);
    }
}

#[tokio::test]
async fn a_winner_that_is_read_slowly_keeps_nothing_but_itself() {
    const BYTES: usize = 4 << 20;
    let upstream = Upstream::start().await;
    for _ in 0..2 {
        upstream.push(Step { content_bytes: Some(BYTES), ..Step::content("Q") });
    }
    let app = spawn_app_for(&upstream, json!({"budget": 2, "stop_rule": "none", "n_parallel": 1})).await;
    let mut client = Client::ask(&app, CHAT, "slow", &request(CHAT, &json!({}))).await;
    client.read_until("QQQ").await;
    assert_eq!((upstream.counters().requests, upstream.counters().in_flight), (2, 0));
    // The run is over: it can not be cancelled any more, and its place is free.
    cancel(&app, "slow").await.error(404);
    upstream.push(Step::content("next"));
    assert_eq!(app.chat(json!({"budget": 1})).await.content(), "next");

    let (_, chunks) = client.read_rest().await;
    let largest = chunks.iter().map(Vec::len).max().unwrap();
    assert!(largest <= 64 << 10, "no more than {largest} bytes are handed to the connection at a time");
    let body = chunks.concat();
    assert_eq!(letters(&body), BYTES);
    assert!(body.ends_with(b"data: [DONE]\n\n"));
}
