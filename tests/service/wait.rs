//! Wait over HTTP: rounds that follow from each other, the envelope, and how rounds end the run.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, events, question, spawn_app, spawn_app_for};
use crate::upstream::{Call, Point, Step, Upstream};

const ENVELOPE: &str = "<test-time-compute>\nIt is 41.\nLet me see.\n</test-time-compute>\n\n";

async fn app_for(upstream: &Upstream, wait_rounds: usize) -> TestApp {
    spawn_app_for(upstream, json!({"alg": "wait", "wait_rounds": wait_rounds})).await
}

fn three_rounds(upstream: &Upstream) {
    for text in ["It is 41.", "Let me see.", "It is 42."] {
        upstream.push(Step::content(text));
    }
}

/// The deltas of a stream, put together.
fn streamed(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn each_reply_is_a_turn_that_is_asked_to_be_checked() {
    let upstream = Upstream::start().await;
    upstream.push(Step { reasoning_content: Some("hm".to_owned()), ..Step::content("It is 41.") });
    upstream.push(Step::content("Let me see."));
    upstream.push(Step { finish_reason: Some("length".to_owned()), ..Step::content("It is 42.") });
    let app = app_for(&upstream, 2).await;
    let answer = app.chat(json!({"return_response_only": false, "budget": 1, "seed": 7, "temperature": 0})).await;
    let body = answer.ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["content"], format!("{ENVELOPE}It is 42."));
    assert_eq!((&choice["message"]["role"], &choice["finish_reason"]), (&json!("assistant"), &json!("length")));
    assert_eq!(body["usage"]["prompt_tokens"], 30);

    let seen = upstream.seen();
    assert_eq!(seen.len(), 3);
    // Round by round the request grows at its end, and nowhere else.
    let messages: Vec<Vec<Value>> =
        seen.iter().map(|seen| seen.json()["messages"].as_array().unwrap().clone()).collect();
    assert_eq!(messages.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(messages[2][..3], messages[1]);
    let check = json!({"role": "user", "content": "wait, check your reasoning"});
    let first = json!({"role": "assistant", "content": "It is 41."});
    assert_eq!(messages[1][1..], [first, check.clone()]);
    assert_eq!(messages[2][3]["content"], "Let me see.");
    assert_eq!(messages[2][4], check);
    let seeds: Vec<_> = seen.iter().map(|seen| seen.json()["seed"].as_i64().unwrap()).collect();
    assert!(seeds[0] == 7 && seeds[1] != 7 && seeds[1] != seeds[2], "{seeds:?}");
    assert!(seen.iter().all(|seen| seen.json().get("wait_rounds").is_none()));

    let metadata = &body["metadata"];
    assert_eq!((&metadata["algorithm"], &metadata["selected_index"]), (&json!("wait"), &Value::Null));
    let replies: Vec<_> =
        metadata["responses"].as_array().unwrap().iter().map(|reply| reply["content"].clone()).collect();
    assert_eq!(replies, ["It is 41.", "Let me see.", "It is 42."]);
    assert_eq!((&metadata["stop"]["planned"], &metadata["stop"]["reason"]), (&json!(3), &json!("completed")));
    assert_eq!((answer.header("x-its-algorithm"), answer.header("x-its-candidates")), (Some("wait"), Some("3")));
}

#[tokio::test]
async fn without_a_round_to_check_the_reply_is_bare() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 0).await;
    for fields in [json!({}), json!({"stream": true})] {
        upstream.push(Step::content("It is 42."));
        let answer = app.chat(fields.clone()).await;
        match fields["stream"].is_null() {
            true => assert_eq!(answer.content(), "It is 42."),
            false => assert_eq!(streamed(&answer.events()), "It is 42."),
        }
    }
    assert_eq!(upstream.counters().requests, 2);
}

#[tokio::test]
async fn a_request_chooses_how_often_it_waits() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 4})).await;
    three_rounds(&upstream);
    let answer = app.chat(json!({"alg": "wait", "wait_rounds": 2})).await;
    assert_eq!(answer.header("x-its-agreement"), None, "nobody voted");
    assert_eq!(answer.content(), format!("{ENVELOPE}It is 42."));
    assert_eq!(app.chat(json!({"alg": "wait", "wait_rounds": 21})).await.error(400)["param"], "wait_rounds");
}

#[tokio::test]
async fn a_round_that_calls_tools_ends_the_loop_and_is_the_answer_untouched() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 5).await;
    let tools = json!([{"type": "function", "function": {"name": "book"}}]);
    for stream in [false, true] {
        upstream.push(Step::content("It is 41."));
        let call = Call { id: Some("c7".to_owned()), name: "book".to_owned(), arguments: r#"{"a":  1}"#.to_owned() };
        upstream.push(Step { tool_calls: vec![call], ..Step::content("I book it.") });
        let answer = app.chat(json!({"tools": tools, "stream": stream, "return_response_only": false})).await;
        let (message, last) = if stream {
            let events = answer.events();
            assert_eq!(streamed(&events), "I book it.");
            let call = events.iter().find_map(|event| event["choices"][0]["delta"].get("tool_calls")).unwrap().clone();
            (json!({"tool_calls": call}), events.last().unwrap().clone())
        } else {
            let body = answer.ok();
            assert_eq!(body["choices"][0]["message"]["content"], "I book it.");
            (body["choices"][0]["message"].clone(), body)
        };
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], r#"{"a":  1}"#);
        assert_eq!(message["tool_calls"][0]["id"], "c7");
        assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(last["metadata"]["selected_index"], 1);
    }
    assert_eq!(upstream.counters().requests, 4);
}

#[tokio::test]
async fn with_tools_on_offer_the_last_round_is_told_when_it_is_known() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 2).await;
    let tools = json!([{"type": "function", "function": {"name": "book"}}]);
    three_rounds(&upstream);
    let events = app.chat(json!({"tools": tools, "stream": true})).await.events();
    assert_eq!(streamed(&events), format!("{ENVELOPE}It is 42."));
    assert!(upstream.seen().iter().all(|seen| seen.json().get("stream").is_none()));
}

#[tokio::test]
async fn a_failed_round_leaves_the_answer_of_those_before_it() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 3).await;
    let broken = || Step::status(500, r#"{"error":{"message":"gpu on fire"}}"#);
    for stream in [false, true] {
        three_rounds(&upstream);
        upstream.push(broken());
        let answer = app.chat(json!({"return_response_only": false, "stream": stream})).await;
        let (content, body) = match stream {
            true => (streamed(&answer.events()), answer.events().last().unwrap().clone()),
            false => (answer.content(), answer.ok()),
        };
        assert_eq!(content, format!("{ENVELOPE}It is 42."));
        let failures = body["metadata"]["failures"].as_array().unwrap();
        assert_eq!((failures.len(), &failures[0]["candidate"], &failures[0]["status"]), (1, &json!(3), &json!(500)));
        assert!(body["metadata"]["warnings"][0].as_str().unwrap().starts_with("round 4 of 4 failed"), "{body}");
    }
    upstream.push(Step::content("It is 41."));
    upstream.push(broken());
    assert_eq!(app.chat(json!({})).await.content(), "It is 41.", "one reply stands without an envelope");
    upstream.push(broken());
    assert_eq!(app.chat(json!({})).await.error(502)["code"], "upstream_unavailable");
}

#[tokio::test]
async fn the_last_round_is_live_after_its_envelope() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 2).await;
    upstream.push(Step::content("It is 41."));
    upstream.push(Step::content("Let me see."));
    upstream.push(Step { stream_gate: Some("rest".to_owned()), ..Step::content("It is 42.") });
    let request = json!({"stream": true, "stream_options": {"include_usage": true}});
    let request = app.json_request("/v1/chat/completions", &question(request).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("\"It \"") {
            assert!(text.contains("Let me see."), "the envelope comes first: {text}");
            upstream.open_gate("rest");
        }
    }
    let (body, _) = text.split_once("data: [DONE]").unwrap();
    let events = events(body);
    assert_eq!(streamed(&events), format!("{ENVELOPE}It is 42."));
    let roles: Vec<_> = events.iter().filter(|event| event["choices"][0]["delta"]["role"] == "assistant").collect();
    assert_eq!((roles.len(), roles[0]), (1, &events[0]));
    assert_eq!(events[1]["choices"][0]["delta"], json!({"content": ENVELOPE}));
    assert_eq!(events.last().unwrap()["usage"]["prompt_tokens"], 30);
}

#[tokio::test]
async fn a_last_round_that_breaks_off_under_the_readers_eyes_is_an_error() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 1).await;
    upstream.push(Step::content("It is 41."));
    upstream.push(Step { close_at: Some(Point::Body), ..Step::content("one two three four five six seven eight") });
    let answer = app.chat(json!({"stream": true})).await;
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    let events = events(&answer.text);
    let (last, before) = events.split_last().unwrap();
    assert!(streamed(before).starts_with("<test-time-compute>\nIt is 41.\n</test-time-compute>\n\none two"));
    assert_eq!(last["error"]["type"], "upstream_error");
}

#[tokio::test]
async fn bounds_end_the_rounds_and_keep_the_last() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 6).await;
    // The third round brings it to 39 tokens.
    three_rounds(&upstream);
    let answer = app.chat(json!({"limits": {"max_total_tokens": 39}})).await;
    assert_eq!(
        (answer.content(), answer.header("x-its-stop")),
        (format!("{ENVELOPE}It is 42."), Some("max_total_tokens"))
    );
    three_rounds(&upstream);
    let answer = app.chat(json!({"limits": {"max_candidates": 3}})).await;
    assert_eq!(
        (answer.content(), answer.header("x-its-stop")),
        (format!("{ENVELOPE}It is 42."), Some("max_candidates"))
    );
    three_rounds(&upstream);
    upstream.push(Step::hang_at(Point::Request));
    let answer = app.chat(json!({"limits": {"deadline_ms": 2000}})).await;
    assert_eq!((answer.content(), answer.header("x-its-stop")), (format!("{ENVELOPE}It is 42."), Some("deadline")));
    assert_eq!(upstream.counters().requests, 10);
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_last_round() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 1).await;
    for stream in [false, true] {
        upstream.push(Step::content("It is 41."));
        upstream.push(Step { logprobs: Some(vec![-0.5, -1.5]), ..Step::content("Two words") });
        let answer = app.chat(json!({"logprobs": true, "top_logprobs": 1, "stream": stream})).await;
        let told: Vec<Value> = match stream {
            false => answer.ok()["choices"][0]["logprobs"]["content"].as_array().unwrap().clone(),
            true => {
                let events = answer.events();
                let tokens = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
                tokens.flatten().cloned().collect()
            }
        };
        let logprobs: Vec<_> = told.iter().map(|token| token["logprob"].as_f64().unwrap()).collect();
        assert_eq!(logprobs, [-0.5, -1.5], "stream {stream}");
        assert_eq!(told[0]["top_logprobs"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn answers_that_are_composed_have_no_second_best() {
    let upstream = Upstream::start().await;
    let app = app_for(&upstream, 1).await;
    assert_eq!(app.chat(json!({"n": 2})).await.error(400)["param"], "n");
}

async fn ask_the_shipped_model(app: &TestApp, seed: i64) -> Answer {
    let request = json!({
        "model": "arithmetic-demo", "alg": "wait", "wait_rounds": 2, "seed": seed, "temperature": 1.5, "max_tokens": 60,
        "messages": [{"role": "user", "content": "What is 23 + 48 - 17?"}], "return_response_only": false
    });
    app.post("/v1/chat/completions", &request).await
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_embedded_model_waits_the_same_way_again() {
    let app = spawn_app().await;
    let (first, again) = (ask_the_shipped_model(&app, 3).await, ask_the_shipped_model(&app, 3).await);
    let replies = first.ok()["metadata"]["responses"].clone();
    assert_eq!(replies.as_array().unwrap().len(), 3);
    let reply = |at: usize| replies[at]["content"].as_str().unwrap().to_owned();
    let expected = format!("<test-time-compute>\n{}\n{}\n</test-time-compute>\n\n{}", reply(0), reply(1), reply(2));
    assert_eq!(first.content(), expected);
    assert_eq!(again.content(), first.content());
    let stats = &first.ok()["metadata"]["usage_by_phase"]["generate"];
    assert_eq!((&stats["calls"], &stats["unknown_calls"]), (&json!(3), &json!(0)));
}
