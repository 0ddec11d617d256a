//! What is heard of a run while its answer is not known: comments that keep the connection alive, and progress
//! for those that ask for it.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{TestApp, question, spawn_app_for, spawn_app_with};
use crate::upstream::{Step, Upstream};

/// Reads a stream to its end. Whenever `seen` is asked with what has come so far, it may let more come.
async fn read(app: &TestApp, fields: Value, mut seen: impl FnMut(&str)) -> String {
    let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        seen(&text);
    }
    text
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_by_comments_that_count() {
    let upstream = Upstream::start().await;
    upstream.push(Step::content("\\boxed{1}"));
    for gate in ["second", "third"] {
        upstream.push(Step::content("\\boxed{2}").gated(gate));
    }
    let app = spawn_app_with(|settings| settings.server.stream_keep_alive = Duration::from_millis(5)).await;
    app.configure(&upstream, json!({"budget": 3, "n_parallel": 1, "stop_rule": "none"})).await;
    // Each candidate is let go only by a client that was told of the one before.
    let text = read(&app, json!({"stream": true}), |text| {
        for (comment, gate) in [(": its 1/3 candidates\n\n", "second"), (": its 2/3 candidates\n\n", "third")] {
            if text.contains(comment) {
                upstream.open_gate(gate);
            }
        }
    })
    .await;
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("boxed{2}"), "{text}");
    assert!(!text.contains("progress"), "{text}");
}

#[tokio::test]
async fn a_live_stream_that_pauses_is_kept_alive_too() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("rest".to_owned()), ..Step::content("one two") });
    let app = spawn_app_with(|settings| settings.server.stream_keep_alive = Duration::from_millis(5)).await;
    app.configure(&upstream, json!({"budget": 1})).await;
    let text = read(&app, json!({"stream": true}), |text| {
        let begun = text.find("one ");
        if begun.is_some_and(|at| text[at..].contains(": its ")) {
            upstream.open_gate("rest");
        }
    })
    .await;
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("two"), "{text}");
}

#[tokio::test]
async fn progress_is_told_as_each_candidate_ends() {
    let upstream = Upstream::start().await;
    for gate in [None, Some("1"), Some("2"), Some("3")] {
        let step = Step::content("\\boxed{42}");
        upstream.push(gate.map_or(step.clone(), |gate| step.gated(gate)));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 4, "n_parallel": 1, "stop_rule": "none"})).await;
    let fields = json!({"stream": true, "stream_options": {"include_progress": true, "include_usage": true}});
    let text = read(&app, fields, |text| {
        for completed in ["1", "2", "3"] {
            if text.contains(&format!("\"completed\":{completed},")) {
                upstream.open_gate(completed);
            }
        }
    })
    .await;
    let (body, _) = text.split_once("data: [DONE]\n\n").unwrap();
    let events = crate::app::events(body);
    let (told, rest): (Vec<&Value>, Vec<&Value>) = events.iter().partition(|event| event.get("progress").is_some());
    let expected: Vec<Value> =
        (1..=4).map(|completed| json!({"completed": completed, "planned": 4, "phase": "generate"})).collect();
    assert_eq!(told.iter().map(|event| event["progress"].clone()).collect::<Vec<_>>(), expected);
    for event in &told {
        assert_eq!((&event["choices"], &event["usage"]), (&json!([]), &Value::Null), "{event}");
        assert_eq!((&event["id"], &event["object"]), (&rest[0]["id"], &json!("chat.completion.chunk")));
    }
    assert_eq!(rest.last().unwrap()["usage"]["prompt_tokens"], 40);
}

#[tokio::test]
async fn a_single_call_has_no_progress_but_itself() {
    let upstream = Upstream::start().await;
    upstream.push(Step::content("one two"));
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let fields = json!({"stream": true, "stream_options": {"include_progress": true}});
    let text = read(&app, fields, |_| {}).await;
    assert!(text.contains("one ") && !text.contains("progress") && text.ends_with("data: [DONE]\n\n"), "{text}");
}
