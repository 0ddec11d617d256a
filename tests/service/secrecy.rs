//! A planted key is looked for wherever it must not be: responses, log lines at the finest level, and files.

use std::path::Path;

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, document, receive, spawn_app};
use crate::log_watch::{CANARY, watch_log};
use crate::upstream::{Step, Upstream};

/// The names of the files under `directory` that hold the canary, and how many there are in all.
fn search(directory: &Path, found: &mut Vec<String>) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += search(&path, found);
            continue;
        }
        // The database puts its journal away when its last connection has closed.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        count += 1;
        if bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    count
}

#[track_caller]
fn is_clean(answer: &Answer) {
    assert!(!answer.text.contains(CANARY), "{}", answer.text);
    for (name, value) in &answer.headers {
        assert!(!value.as_bytes().windows(CANARY.len()).any(|window| window == CANARY.as_bytes()), "{name}");
    }
}

/// Asks in every way, with a key of the client's own. By hand, so that only the daemon could log it.
async fn ask_in_every_way(app: &TestApp) {
    for stream in [false, true] {
        for budget in [1, 3] {
            let body = json!({
                "model": "scripted", "messages": [{"role": "user", "content": "?"}], "budget": budget, "stream": stream,
                "return_response_only": false
            })
            .to_string();
            let request = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer sk-client-{CANARY}\r\n\
                 x-api-key: {CANARY}-as-header\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            let response = app.raw(&request).await;
            assert!(response.starts_with("HTTP/1.1 "), "{response}");
            assert!(!response.contains(CANARY), "{response}");
        }
    }
}

async fn patch(app: &TestApp, change: &Value) -> Answer {
    let request = app.client.patch(app.url("/configure")).header("content-type", "application/json");
    receive(request.body(change.to_string())).await
}

#[tokio::test]
async fn a_key_is_in_no_response_no_log_line_and_no_file() {
    let log = watch_log();
    let upstream = Upstream::start().await;
    let (key, header, field) =
        (format!("sk-{CANARY}-as-key"), format!("{CANARY}-as-header"), format!("{CANARY}-as-field"));
    let fields = json!({
        "api_key": key, "extra_args": {"headers": {"X-Sec": header}, "session_token": field}
    });
    let app = spawn_app().await;
    is_clean(&app.post("/configure", &document(&upstream, fields.clone())).await);
    is_clean(&app.get("/configure").await);

    // What an upstream says about a request may hold what was sent: in refusals, in bodies that are nonsense,
    // in the middle of a stream.
    let echo = format!("Incorrect API key provided: {key}; header {header}; Bearer {key}");
    let error = json!({"error": {"message": echo, "type": echo, "param": echo, "code": echo}}).to_string();
    for status in [400, 401, 404, 429, 500] {
        let (error, text) = (error.clone(), echo.clone());
        upstream.answer_with(move |seen| match seen.number % 3 {
            0 => Step::status(status, &error),
            1 => Step::status(status, &text).header("location", &text),
            _ => Step::status(status, &error).header("x-echo", &text),
        });
        ask_in_every_way(&app).await;
    }
    let text = echo.clone();
    upstream.answer_with(move |_| Step::status(302, "").header("location", &format!("http://elsewhere/?{text}")));
    ask_in_every_way(&app).await;
    let text = echo.clone();
    upstream.answer_with(move |_| Step::body(&text));
    ask_in_every_way(&app).await;
    let message = echo.clone();
    upstream.answer_with(move |_| Step { error: Some(json!({"message": message})), ..Step::content("one two three") });
    ask_in_every_way(&app).await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    ask_in_every_way(&app).await;

    // Mistakes in a configuration are told without what it holds.
    for wrong in [
        json!({"api_key": {"of": key}}),
        json!({"api_key": [key]}),
        json!({"api_key": format!("{key}\n")}),
        json!({"api_key": key, "budget": "many"}),
        json!({"api_key": key, "unknown": 1}),
        json!({"extra_args": {"headers": {"X Team": header}}}),
        json!({"extra_args": {"headers": {"X-Sec": format!("{header}\r\n")}}}),
        json!({"extra_args": {"headers": header}}),
        json!({"endpoint": format!("http://user:{key}@localhost/v1")}),
        json!({"endpoint": upstream.base_url(), "api_key": format!("sha256:{key}")}),
    ] {
        is_clean(&app.post("/configure", &document(&upstream, wrong.clone())).await);
        is_clean(&patch(&app, &wrong).await);
    }
    is_clean(&patch(&app, &json!({"extra_args": {"other_token": field, "headers": {"X-Other": header}}})).await);
    is_clean(&app.get("/configure/history").await);
    is_clean(&app.post("/configure/rollback", &json!({"revision": 1})).await);
    is_clean(&app.post("/configure/rollback", &json!({"revision": key})).await);
    is_clean(&app.post("/configure/rollback", &json!({"api_key": key})).await);
    is_clean(&app.post_text("/configure", &format!("{{\"api_key\": \"{key}\"")).await);
    is_clean(&app.post_text("/configure", &format!("\"{key}\"")).await);

    upstream.stop().await;
    ask_in_every_way(&app).await;
    let mut found = Vec::new();
    assert!(search(app.state_dir.path(), &mut found) >= 2, "the database and the key are there");
    search(app.stop().path(), &mut found);
    assert_eq!(found, [""; 0], "the canary is in files of the state directory");
    let log = log.borrow();
    assert!(log.lines > 100 && log.requests.len() > 20, "the log was read: {} lines", log.lines);
    assert_eq!(log.leaks, [""; 0], "the canary is in the log");
}
