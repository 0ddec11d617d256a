//! Streams: passed on live where one call is the answer, the winner's chunks where there was a vote.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{Answer, events, question, spawn_app_for};
use crate::upstream::{Call, Point, Step, Upstream};

/// Checks what holds for every stream: one id, one time, one model, one choice; and returns the events.
#[track_caller]
fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let chunks = answer.events();
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["created"]), (&chunks[0]["id"], &chunks[0]["created"]));
        assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!("scripted")));
        for choice in chunk["choices"].as_array().unwrap() {
            assert_eq!(choice["index"], 0);
        }
    }
    assert!(chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-"));
    chunks
}

fn delta(chunk: &Value) -> &Value {
    &chunk["choices"][0]["delta"]
}

/// The texts under `name` of all deltas, joined.
fn joined(chunks: &[Value], name: &str) -> String {
    chunks.iter().filter_map(|chunk| delta(chunk)[name].as_str()).collect()
}

fn finish_reasons(chunks: &[Value]) -> Vec<&str> {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect()
}

#[tokio::test]
async fn one_call_is_passed_on_as_it_comes() {
    let upstream = Upstream::start().await;
    upstream.push(Step { reasoning_content: Some("hm hm".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let answer = app.chat(json!({"stream": true})).await;
    let chunks = chunks(&answer);
    assert_eq!(delta(&chunks[0])["role"], "assistant");
    assert!(chunks[1..].iter().all(|chunk| delta(chunk).get("role").is_none()));
    let contents: Vec<_> = chunks.iter().filter_map(|chunk| delta(chunk)["content"].as_str()).collect();
    assert_eq!(contents.iter().filter(|text| !text.is_empty()).collect::<Vec<_>>(), [&"one ", &"two ", &"three"]);
    assert_eq!(joined(&chunks, "reasoning_content"), "hm hm");
    let last = chunks.last().unwrap();
    assert_eq!((delta(last), &last["choices"][0]["finish_reason"]), (&json!({}), &json!("stop")));
    assert_eq!(finish_reasons(&chunks), ["stop"]);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none() && chunk.get("metadata").is_none()));
    assert_eq!((answer.header("x-its-algorithm"), answer.header("x-its-revision")), (Some("none"), Some("1")));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
}

#[tokio::test]
async fn a_live_stream_does_not_wait_for_its_end() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("rest".to_owned()), ..Step::content("one two") });
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let request = app.json_request("/v1/chat/completions", &question(json!({"stream": true})).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("one ") {
            // Only a client that has read this much lets the rest be written.
            upstream.open_gate("rest");
        }
    }
    assert!(text.contains("two") && text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn tool_calls_of_one_call_come_in_pieces_with_their_index() {
    let upstream = Upstream::start().await;
    let call = |name: &str, arguments: &str| Call { id: None, name: name.to_owned(), arguments: arguments.to_owned() };
    let calls = [call("book", r#"{"city": "Oslo"}"#), call("search", "{}")];
    upstream.push(Step { tool_calls: calls.to_vec(), ..Step::default() });
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let answer = app.chat(json!({"stream": true})).await;
    let chunks = chunks(&answer);
    assert_eq!(
        put_together(&chunks),
        [("call_0", "book", r#"{"city": "Oslo"}"#), ("call_1", "search", "{}")].map(owned)
    );
    assert_eq!(finish_reasons(&chunks), ["tool_calls"]);
}

fn owned((id, name, arguments): (&str, &str, &str)) -> (String, String, String) {
    (id.to_owned(), name.to_owned(), arguments.to_owned())
}

/// Id, name and arguments of the calls in a stream, put together as a client does.
fn put_together(chunks: &[Value]) -> Vec<(String, String, String)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for piece in chunks.iter().filter_map(|chunk| delta(chunk)["tool_calls"].as_array()).flatten() {
        let index = piece["index"].as_u64().expect("every piece has an integer index") as usize;
        calls.resize(calls.len().max(index + 1), Default::default());
        let (id, name, arguments) = &mut calls[index];
        *id += piece["id"].as_str().unwrap_or_default();
        *name += piece["function"]["name"].as_str().unwrap_or_default();
        *arguments += piece["function"]["arguments"].as_str().unwrap_or_default();
    }
    calls
}

#[tokio::test]
async fn usage_comes_last_when_it_is_asked_for() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    for (budget, prompt_tokens) in [(1, 10), (3, 30)] {
        let app = spawn_app_for(&upstream, json!({"budget": budget, "stop_rule": "none"})).await;
        let answer = app.chat(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
        let chunks = chunks(&answer);
        let (last, before) = chunks.split_last().unwrap();
        assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(prompt_tokens)));
        assert!(before.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)), "{before:?}");
        assert_eq!(finish_reasons(before), ["stop"]);
    }
}

#[tokio::test]
async fn one_call_tells_its_metadata_and_log_probabilities_too() {
    let upstream = Upstream::start().await;
    upstream.push(Step::content("one two"));
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let fields = json!({"stream": true, "logprobs": true, "return_response_only": false, "guided_regex": "a"});
    let answer = app.chat(fields).await;
    let chunks = chunks(&answer);
    let (last, before) = chunks.split_last().unwrap();
    let tokens: String =
        before.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"][0]["token"].as_str()).collect();
    assert_eq!(tokens, "one two");
    let metadata = &last["metadata"];
    assert_eq!(metadata["responses"][0]["content"], "one two", "{metadata}");
    assert_eq!((&metadata["algorithm"], &metadata["selected_index"]), (&json!("none"), &json!(0)));
    assert_eq!(metadata["usage_by_phase"]["generate"]["calls"], 1);
    assert_eq!(metadata["warnings"].as_array().unwrap().len(), 1);
    assert!(answer.header("x-its-warnings").unwrap().contains("guided_regex"));
}

#[tokio::test]
async fn a_vote_streams_its_winner_with_the_metadata_on_the_last_chunk() {
    let upstream = Upstream::start().await;
    for text in ["It is \\boxed{41}.", "It is \\boxed{42}.", "Surely \\boxed{42}."] {
        upstream.push(Step::content(text));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 3, "n_parallel": 1, "stop_rule": "none"})).await;
    let answer = app.chat(json!({"stream": true, "return_response_only": false})).await;
    let chunks = chunks(&answer);
    assert_eq!(delta(&chunks[0])["role"], "assistant");
    assert_eq!(joined(&chunks, "content"), "It is \\boxed{42}.");
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["metadata"]["response_counts"], json!({"41": 1, "42": 2}));
    assert_eq!(last["metadata"]["selected_index"], 1);
    assert!(before.iter().all(|chunk| chunk.get("metadata").is_none()));
    // The vote ended before the first byte was due, so that the headers know of it.
    assert_eq!(answer.header("x-its-algorithm"), Some("self-consistency"));
    assert_eq!((answer.header("x-its-candidates"), answer.header("x-its-agreement")), (Some("3"), Some("0.667")));
}

#[tokio::test]
async fn a_vote_streams_the_tool_calls_of_its_winner() {
    let upstream = Upstream::start().await;
    let call =
        |arguments: &str| Call { id: Some("c".to_owned()), name: "book".to_owned(), arguments: arguments.to_owned() };
    let two = vec![call(r#"{"city": "Oslo"}"#), call(r#"{"city":  "Rome"}"#)];
    upstream.answer_with(move |_| Step { tool_calls: two.clone(), ..Step::default() });
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none"})).await;
    let tools = json!([{"type": "function", "function": {"name": "book"}}]);
    let answer = app.chat(json!({"stream": true, "tools": tools})).await;
    let chunks = chunks(&answer);
    assert_eq!(
        put_together(&chunks),
        [("c", "book", r#"{"city": "Oslo"}"#), ("c", "book", r#"{"city":  "Rome"}"#)].map(owned)
    );
    assert_eq!(finish_reasons(&chunks), ["tool_calls"]);
    // As OpenAI has it: a message without a text has none, rather than an empty one.
    assert_eq!(delta(&chunks[0]), &json!({"role": "assistant", "content": null}));
    assert!(chunks[1..].iter().all(|chunk| delta(chunk).get("content").is_none()));
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step { refusal: None, ..Step::content("Well, \\boxed{42} été 🦀") });
    for budget in [1, 3] {
        let app = spawn_app_for(&upstream, json!({"budget": budget})).await;
        let whole = app.chat(json!({})).await.content();
        let answer = app.chat(json!({"stream": true})).await;
        assert_eq!(joined(&chunks(&answer), "content"), whole, "budget {budget}");
    }
}

#[tokio::test]
async fn a_failure_before_the_first_content_is_an_http_error() {
    let upstream = Upstream::start().await;
    let error = json!({"error": {"message": "wrong key", "type": "t", "param": null, "code": null}}).to_string();
    upstream.answer_with(move |_| Step::status(401, &error));
    for budget in [1, 3] {
        let app = spawn_app_for(&upstream, json!({"budget": budget})).await;
        let answer = app.chat(json!({"stream": true})).await;
        assert_eq!(answer.error(502)["code"], "upstream_auth", "budget {budget}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn a_failure_in_the_middle_is_an_error_event_and_the_end() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let text = "one two three four five six seven eight";
    upstream.push(Step { error: Some(json!({"message": "gpu on fire", "code": 500})), ..Step::content(text) });
    upstream.push(Step { close_at: Some(Point::Body), ..Step::content(text) });
    for words in ["gpu on fire", "the connection to"] {
        let answer = app.chat(json!({"stream": true})).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("[DONE]"), "a stream that broke off must not look whole: {}", answer.text);
        let events = events(&answer.text);
        let (last, before) = events.split_last().unwrap();
        assert!(joined(before, "content").starts_with("one two"), "{events:?}");
        assert_eq!(finish_reasons(before), [""; 0]);
        assert_eq!(last["error"]["type"], "upstream_error", "{last}");
        assert_eq!(last["detail"], last["error"]["message"]);
        let message = last["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_embedded_model_streams() {
    let app = crate::app::spawn_app().await;
    let sum = json!({
        "model": "arithmetic-demo", "stream": true, "budget": 1, "temperature": 0,
        "messages": [{"role": "user", "content": "What is 2 + 3?"}], "stream_options": {"include_usage": true}
    });
    let answer = app.chat(sum).await;
    let events = answer.events();
    assert_eq!(delta(&events[0])["role"], "assistant");
    assert!(!joined(&events, "content").is_empty());
    assert_eq!(finish_reasons(&events).len(), 1);
    let usage = &events.last().unwrap()["usage"];
    assert!(usage["completion_tokens"].as_u64().unwrap() > 0, "{usage}");
}
