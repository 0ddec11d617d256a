//! A key that a request brings is looked for wherever it must not be: responses and log lines at the finest level.

use std::sync::Arc;

use serde_json::json;

use crate::app::{TestApp, spawn_app_in};
use crate::log_watch::{CANARY, watch_log};
use crate::upstream::{Step, Upstream};

/// Sends a request by hand, so that only the daemon could log it, and checks what comes back.
async fn ask(app: &TestApp, path: &str, headers: &[(&str, String)], model: &str, stream: bool) {
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": "?"}], "stream": stream, "return_response_only": false
    });
    let text = json!({"model": model, "prompt": "?", "stream": stream});
    let body = if path == "/v1/completions" { text } else { body }.to_string();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = app.raw(&request).await;
    assert!(response.starts_with("HTTP/1.1 "), "{response}");
    assert!(!response.contains(CANARY), "{response}");
}

async fn ask_in_every_way(app: &TestApp, endpoint: &str, key: &str) {
    let endpoint = ("X-ITS-Endpoint", endpoint.to_owned());
    let key = ("X-ITS-API-Key", key.to_owned());
    for path in ["/v1/chat/completions", "/v1/completions"] {
        for stream in [false, true] {
            ask(app, path, &[endpoint.clone(), key.clone()], "theirs", stream).await;
            ask(app, path, std::slice::from_ref(&key), "scripted", stream).await;
        }
        ask(app, path, std::slice::from_ref(&key), "arithmetic-demo", false).await;
    }
}

#[tokio::test]
async fn a_key_of_a_requests_own_is_in_no_response_and_no_log_line() {
    let log = watch_log();
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    let environment_key = format!("sk-{CANARY}-environment");
    let app =
        spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &[("OPENAI_API_KEY", &*environment_key)], |_| {}).await;
    let key = format!("sk-{CANARY}-mine");
    let endpoint = other.base_url();

    app.configure(&own, json!({"budget": 2, "api_key": format!("sk-{CANARY}-own")})).await;
    ask_in_every_way(&app, &endpoint, &key).await;
    assert_eq!(other.counters().requests, 0, "it was not allowed");

    let fields = json!({"budget": 2, "api_key": format!("sk-{CANARY}-own"), "allow_request_endpoint": true});
    app.configure(&own, fields).await;
    // What an upstream says of a request may hold all that it was sent.
    let echo = move |seen: &crate::upstream::Seen, status: u16| {
        let text = format!("{:?}", seen.request.header("authorization"));
        let error = json!({"error": {"message": text, "type": text, "param": text, "code": text}}).to_string();
        match seen.number % 3 {
            0 => Step::status(status, &error),
            1 => Step::status(status, &text).header("location", &text),
            _ => Step { error: Some(json!({"message": text})), ..Step::content("one two three") },
        }
    };
    for status in [200, 302, 400, 401, 404, 429, 500] {
        for upstream in [&own, &other] {
            upstream.answer_with(move |seen| echo(seen, status));
        }
        ask_in_every_way(&app, &endpoint, &key).await;
    }
    assert!(other.seen().iter().all(|seen| {
        let sent = seen.request.header("authorization").unwrap_or_default();
        !sent.contains("-own") && !sent.contains("-environment")
    }));
    // Addresses that are refused may hold a password, and a key may be one that cannot be sent.
    for wrong in
        [format!("https://me:{CANARY}@localhost"), format!("https://localhost/?key={CANARY}"), CANARY.to_owned()]
    {
        ask(&app, "/v1/chat/completions", &[("X-ITS-Endpoint", wrong)], "theirs", false).await;
    }
    ask(&app, "/v1/chat/completions", &[("X-ITS-API-Key", format!("{CANARY}\u{e9}"))], "scripted", false).await;
    drop(other);
    ask_in_every_way(&app, &endpoint, &key).await;
    drop(app);

    let log = log.borrow();
    assert!(log.lines > 100, "the log was read: {} lines", log.lines);
    assert_eq!(log.leaks, [""; 0], "the canary is in the log");
}
