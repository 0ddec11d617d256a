//! Odd and hostile input from either side: it may fail its own request, never the daemon or anyone else's.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::{TestApp, question, spawn_app_for};
use crate::upstream::{Call, Step, Upstream};

async fn is_well(app: &TestApp) {
    assert_eq!(app.get("/ready").await.ok()["ready"], true);
    app.chat(json!({"budget": 1})).await.ok();
}

#[tokio::test]
async fn answers_that_nest_without_end_are_set_aside() {
    let deep = "[".repeat(200_000);
    let closed = format!("{deep}{}", "]".repeat(200_000));
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 5, "stop_rule": "none", "n_parallel": 1})).await;
    for text in [&deep, &closed] {
        for request in [json!({}), json!({"vote_on": "json"}), json!({"response_format": {"type": "json_object"}})] {
            for step in [text.as_str(), text.as_str(), "{\"a\": 1}", "{\"a\": 1.0}", text.as_str()] {
                upstream.push(Step::content(step));
            }
            let answer = app.chat(request.clone()).await;
            if request != json!({}) {
                assert_eq!(answer.content(), "{\"a\": 1}", "{request}");
            }
        }
        for arguments in [text, text, "{}", text, text] {
            let call = Call { id: None, name: "f".to_owned(), arguments: arguments.to_owned() };
            upstream.push(Step { tool_calls: vec![call], ..Step::default() });
        }
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
        let body = app.chat(json!({"tools": tools})).await.ok();
        assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{}");
    }
    is_well(&app).await;
}

#[tokio::test]
async fn long_prose_is_voted_on() {
    let upstream = Upstream::start().await;
    for text in ["many words again and ", "many words again or ", "other words "] {
        upstream.push(Step { content_bytes: Some(2 << 20), ..Step::content(text) });
    }
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none", "vote_on": "similarity"})).await;
    assert_eq!(app.chat(json!({})).await.content().len(), 2 << 20);
}

#[tokio::test]
async fn a_schema_is_never_fetched_and_a_wrong_one_is_told() {
    let (upstream, elsewhere) = (Upstream::start().await, Upstream::start().await);
    let app = spawn_app_for(&upstream, json!({"budget": 2, "stop_rule": "none"})).await;
    let foreign = format!("http://{}/schema.json", elsewhere.address());
    for schema in [
        json!({"$ref": foreign}),
        json!({"$schema": foreign, "type": "object"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"type": "objekt"}),
        json!({"properties": {"a": {"pattern": "("}}}),
        json!({"$ref": "#"}),
        json!({"properties": {"a": {"pattern": "^(a+)+$"}}}),
    ] {
        upstream.answer_with(|_| Step {
            tool_calls: vec![Call {
                id: None,
                name: "f".to_owned(),
                arguments: json!({"a": format!("{}!", "a".repeat(200))}).to_string(),
            }],
            ..Step::default()
        });
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
        let answer = app.chat(json!({"tools": tools, "return_response_only": false})).await;
        answer.ok();
        let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
        upstream.answer_with(|_| Step::content("{\"a\": \"b\"}"));
        app.chat(json!({"response_format": format})).await.ok();
    }
    assert_eq!(elsewhere.counters().connections, 0);
    is_well(&app).await;
}

#[tokio::test]
async fn names_and_fields_of_any_text_and_length_are_taken_or_refused_in_words() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    for (model, status, code) in [
        ("a\nb\r\nx-injected: 1", 400, "invalid_value"),
        ("\u{0}", 400, "invalid_value"),
        ("été 🦀", 404, "model_not_found"),
        ("../../etc/passwd", 404, "model_not_found"),
        (&"m".repeat(100_000), 404, "model_not_found"),
    ] {
        let answer = app.chat(json!({"model": model})).await;
        assert_eq!(answer.error(status)["code"], code);
        assert!(answer.header("x-injected").is_none());
    }
    let mut request = question(json!({}));
    request["a\r\nx-injected: 1 é"] = json!(1);
    request[&"f".repeat(100_000)] = json!(1);
    let answer = app.post("/v1/chat/completions", &request).await;
    answer.ok();
    assert!(answer.header("x-injected").is_none());
    // Clients give up on heads of more than a few kilobytes.
    assert!(answer.header("x-its-warnings").unwrap().len() < 4096);
}

#[tokio::test]
async fn a_request_with_large_pictures_reaches_every_candidate() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 4, "stop_rule": "none"})).await;
    let picture = format!("data:image/png;base64,{}", "A".repeat(5 << 20));
    let messages = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}]);
    app.chat(json!({"messages": messages})).await.ok();
    let lengths: BTreeSet<_> = upstream.seen().iter().map(|seen| seen.request.body.len()).collect();
    assert_eq!((upstream.seen().len(), lengths.len()), (4, 1));
    assert_eq!(upstream.seen()[3].json()["messages"], messages);
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_its_body_is_told_to_go_on() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let body = question(json!({})).to_string();
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    socket.read_exact(&mut go_on).await.unwrap();
    assert_eq!(std::str::from_utf8(&go_on).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[tokio::test]
async fn what_is_no_http_is_answered_or_closed_and_others_are_served() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    for garbage in [
        "\u{16}\u{3}\u{1}",
        "GET\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(app.address).await.unwrap();
        socket.write_all(garbage.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut response = Vec::new();
        let _ = socket.read_to_end(&mut response).await;
        let response = String::from_utf8_lossy(&response);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{garbage:?}: {response}");
    }
    is_well(&app).await;
}

#[tokio::test]
async fn an_answer_of_another_shape_is_a_failure_and_not_ours() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"choices": []}"#,
        r#"{"choices": [{}]}"#,
        r#"{"choices": [{"message": null, "finish_reason": "stop"}]}"#,
        r#"{"choices": [{"message": "hello", "finish_reason": "stop"}]}"#,
        "{\"choices\": [{\"message\": {\"content\": \"\u{1}\"}}]}",
    ] {
        for stream in [false, true] {
            upstream.push(Step::body(body));
            let answer = app.chat(json!({"stream": stream})).await;
            let error = answer.error(502);
            assert_eq!(error["type"], "upstream_error", "{body}: {error}");
        }
    }
    let value: Value = app.chat(json!({})).await.ok();
    assert_eq!(value["choices"][0]["message"]["content"], "This is a scripted answer.");
}
