//! Bodies of requests that do not come as they should.

use std::time::Duration;

use serde_json::json;

use crate::app::{PATIENCE, document, question, receive, spawn_app_for, spawn_app_with};
use crate::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let app = spawn_app_with(|settings| settings.server.body_idle_timeout = Duration::from_millis(20)).await;
    let framings = ["content-length: 100\r\n\r\n{\"model\":", "transfer-encoding: chunked\r\n\r\n9\r\n{\"model\":\r\n"];
    for path in [CHAT, "/configure"] {
        for framing in framings {
            let request =
                format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{framing}");
            // The daemon closes the connection: what comes after would be taken for a request of its own.
            let response = app.raw(&request).await;
            assert!(response.starts_with("HTTP/1.1 408 "), "{path}: {response}");
            assert!(
                response.contains("\"code\":\"request_timeout\"") && response.contains("x-request-id: "),
                "{response}"
            );
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_in_pieces_is_read_to_its_end() {
    let app = spawn_app_with(|settings| settings.server.body_idle_timeout = PATIENCE).await;
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let head = "POST /configure HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    for piece in [head, "content-length: 12\r\n\r\n", "{\"mo", "del\"", ":4}", " "] {
        socket.write_all(piece.as_bytes()).await.unwrap();
        socket.flush().await.unwrap();
    }
    let mut response = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("\"param\":\"model\""), "{response}");
}

#[tokio::test]
async fn what_every_provider_refuses_costs_no_calls() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 4})).await;
    let nested = "[".repeat(5_000) + &"]".repeat(5_000);
    let half = r#""\ud800""#;
    let user = |content: &str| format!(r#"{{"role": "user", "content": {content}}}"#);
    let chat = |messages: &str, more: &str| format!(r#"{{"model": "scripted", "messages": [{messages}]{more}}}"#);
    for (path, body, param) in [
        (CHAT, chat(&user(half), ""), "messages[0]"),
        (CHAT, chat(&format!("{}, {}", user("\"?\""), user(&nested)), ""), "messages[1]"),
        (CHAT, chat(&user("\"?\""), &format!(r#", "user": {half}"#)), "user"),
        (CHAT, chat(&user("\"?\""), &format!(r#", "zzz": {{"a": {nested}}}"#)), "zzz"),
        ("/v1/completions", format!(r#"{{"model": "scripted", "prompt": {half}}}"#), "prompt"),
    ] {
        let error = app.post_text(path, &body).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("invalid_value")), "{error}");
    }
    assert_eq!(upstream.counters().requests, 0);
    // A whole pair is text.
    app.post_text(CHAT, &chat(&user(r#""\ud83d\ude00""#), "")).await.ok();
    assert!(upstream.seen()[0].text().contains(r"\ud83d\ude00"));
}

#[tokio::test]
async fn a_number_that_is_too_large_is_refused_by_name() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 4})).await;
    for name in ["budget", "seed", "temperature", "max_tokens", "top_k", "threshold"] {
        let body =
            format!(r#"{{"model": "scripted", "messages": [{{"role": "user", "content": "?"}}], "{name}": 1e999}}"#);
        let answer = receive(app.json_request(CHAT, &body).header("x-its-budget", "2")).await;
        assert_eq!(answer.error(400)["param"], name);
    }
    for written in ["1e3", "1000.0", "1000"] {
        let body = format!(r#"{{"model": "scripted", "prompt": "a", "seed": {written}, "max_tokens": {written}}}"#);
        app.post_text("/v1/completions", &body).await.ok();
        let sent = upstream.seen().last().unwrap().json();
        assert_eq!((&sent["seed"], &sent["max_tokens"]), (&json!(1000), &json!(1000)), "{written}");
    }
}

#[tokio::test]
async fn members_of_stream_options_that_nobody_knows_are_told() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}});
    let answer = app.chat(options.clone()).await;
    assert!(answer.header("x-its-warnings").unwrap().contains("`stream_options.include_obfuscation`"));
    let error = app.post("/v1/chat/completions?strict=true", &question(options.clone())).await.error(400);
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("stream_options.include_obfuscation"), &json!("unknown_field"))
    );

    let mut text = json!({"model": "scripted", "prompt": "a"});
    text.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let answer = app.post("/v1/completions", &text).await;
    assert!(answer.header("x-its-warnings").unwrap().contains("`stream_options.include_obfuscation` was forwarded"));
    text["stream_options"] = json!({"include_progress": true});
    let error = app.post("/v1/completions", &text).await.error(400);
    assert_eq!(error["param"], "stream_options.include_progress");
}

#[tokio::test]
async fn a_configuration_is_not_made_of_what_makes_no_sense() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({})).await;
    for (fields, param) in [
        (json!({"model": "a\nb"}), "model"),
        (json!({"origin": 5}), "origin"),
        (json!({"content_hash": {}}), "content_hash"),
    ] {
        let error = app.post("/configure", &document(&upstream, fields.clone())).await.error(400);
        assert_eq!(error["param"], param);
        let patch = receive(
            app.client.patch(app.url("/configure")).header("content-type", "application/json").body(fields.to_string()),
        )
        .await;
        assert_eq!(patch.error(400)["param"], param);
    }
    assert_eq!(app.get("/configure").await.ok()["revision"], 1);
}
