//! Mixture of N over HTTP: what the synthesis is shown, what it may do, and what stands in for it.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{TestApp, events, question, spawn_app, spawn_app_for};
use crate::upstream::{Call, Point, Step, Upstream};

/// Whether a request is the one that synthesises.
fn synthesises(body: &Value) -> bool {
    body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().contains("\n{\"candidate\":1,")
}

/// An upstream whose candidates answer with `candidates` in turn and whose synthesis with `synthesis`.
async fn upstream(candidates: Vec<Step>, synthesis: Step) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |seen| match synthesises(&seen.json()) {
        true => synthesis.clone(),
        false => candidates[seen.number as usize % candidates.len()].clone(),
    });
    upstream
}

async fn app_for(upstream: &Upstream) -> TestApp {
    spawn_app_for(upstream, json!({"alg": "mixture-of-n", "budget": 3, "n_parallel": 1})).await
}

fn texts() -> Vec<Step> {
    ["\\boxed{41}", "\\boxed{42} I say", "So \\boxed{42}"].map(Step::content).to_vec()
}

fn calls(arguments: &str) -> Step {
    let call = Call { id: None, name: "book".to_owned(), arguments: arguments.to_owned() };
    Step { tool_calls: vec![call], ..Step::default() }
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"type": "function", "function": {"name": "book", "parameters": parameters}}])
}

fn the_synthesis(upstream: &Upstream) -> Value {
    upstream.seen().iter().map(|seen| seen.json()).find(synthesises).expect("there was a synthesis")
}

#[tokio::test]
async fn one_call_makes_the_answer_of_all_candidates() {
    let upstream = upstream(texts(), Step::content("It is 42, all told.")).await;
    let app = app_for(&upstream).await;
    let answer = app.chat(json!({"return_response_only": false, "seed": 5, "max_tokens": 50})).await;
    assert_eq!(answer.header("x-its-agreement"), None, "no candidate won");
    let body = answer.ok();
    assert_eq!(
        body["choices"][0]["message"],
        json!({"role": "assistant", "content": "It is 42, all told.", "refusal": null})
    );
    assert_eq!(upstream.counters().requests, 4);

    let asked = the_synthesis(&upstream);
    let turns = asked["messages"].as_array().unwrap();
    assert_eq!(turns.len(), 1);
    let content = turns[0]["content"].as_str().unwrap();
    assert!(content.starts_with("What is 6 times 7?\n\n"), "{content}");
    for (number, text) in [(1, "\\\\boxed{41}"), (2, "\\\\boxed{42} I say"), (3, "So \\\\boxed{42}")] {
        assert!(content.contains(&format!("\n{{\"candidate\":{number},\"content\":\"{text}\"}}")), "{content}");
    }
    assert_eq!(asked["max_tokens"], 50);
    let seeds: std::collections::BTreeSet<_> =
        upstream.seen().iter().map(|seen| seen.json()["seed"].as_i64().unwrap()).collect();
    assert_eq!(seeds.len(), 4);

    let metadata = &body["metadata"];
    assert_eq!((&metadata["algorithm"], &metadata["selected_index"]), (&json!("mixture-of-n"), &Value::Null));
    assert_eq!(metadata["responses"].as_array().unwrap().len(), 3);
    assert_eq!(metadata["usage_by_phase"]["generate"]["calls"], 3);
    assert_eq!(metadata["usage_by_phase"]["synthesize"]["calls"], 1);
    assert_eq!(body["usage"]["prompt_tokens"], 40);
    assert_eq!(metadata["warnings"], json!([]));
    assert_eq!(answer.header("x-its-algorithm"), Some("mixture-of-n"));
}

#[tokio::test]
async fn the_synthesis_is_live() {
    let synthesis = Step { stream_gate: Some("rest".to_owned()), ..Step::content("It is 42, all told.") };
    let upstream = upstream(texts(), synthesis).await;
    let app = app_for(&upstream).await;
    let request = question(json!({"stream": true, "return_response_only": false})).to_string();
    let mut body = app.json_request("/v1/chat/completions", &request).send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("\"It \"") {
            upstream.open_gate("rest");
        }
    }
    let (body, _) = text.split_once("data: [DONE]").unwrap();
    let events = events(body);
    let content: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, "It is 42, all told.");
    assert_eq!(events.last().unwrap()["metadata"]["responses"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn without_a_synthesis_the_winner_of_the_vote_answers_and_says_so() {
    let broken = Step::status(500, r#"{"error":{"message":"gpu on fire"}}"#);
    for (synthesis, why) in [(broken, "gpu on fire"), (Step::content(" "), "neither content nor tool calls")] {
        let upstream = upstream(texts(), synthesis).await;
        let app = app_for(&upstream).await;
        let body = app.chat(json!({"return_response_only": false})).await.ok();
        assert_eq!(body["choices"][0]["message"]["content"], "\\boxed{42} I say");
        let metadata = &body["metadata"];
        assert_eq!((&metadata["selected_index"], &metadata["vote"]), (&json!(1), &json!("answer")));
        let warning = metadata["warnings"][0].as_str().unwrap();
        assert!(warning.contains(why) && warning.ends_with("the candidate that wins the vote"), "{warning}");
    }
}

#[tokio::test]
async fn a_synthesis_that_fails_before_its_first_word_is_replaced_in_a_stream_too() {
    let upstream = upstream(texts(), Step::status(500, "{}")).await;
    let app = app_for(&upstream).await;
    let events = app.chat(json!({"stream": true})).await.events();
    let content: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, "\\boxed{42} I say");
}

#[tokio::test]
async fn a_synthesis_that_is_cut_off_replaces_no_candidate_that_is_whole() {
    let cut = || Step { finish_reason: Some("length".to_owned()), ..Step::content("It is 42, all") };
    for stream in [false, true] {
        let upstream = upstream(texts(), cut()).await;
        let answer = app_for(&upstream).await.chat(json!({"stream": stream, "return_response_only": false})).await;
        let body = if stream { answer.events().last().unwrap().clone() } else { answer.ok() };
        let warning = body["metadata"]["warnings"][0].as_str().unwrap().to_owned();
        assert!(warning.starts_with("the synthesis was cut off by the length limit"), "{warning}");
        // What a reader has begun to read cannot be taken back.
        assert_eq!(body["metadata"]["selected_index"].is_null(), stream);
        assert_eq!(body["choices"][0]["finish_reason"], if stream { "length" } else { "stop" });
    }
    // Where nobody finished, the synthesis is no worse than they are.
    let upstream = upstream(vec![cut()], cut()).await;
    let body = app_for(&upstream).await.chat(json!({"return_response_only": false})).await.ok();
    assert!(body["metadata"]["selected_index"].is_null(), "{}", body["metadata"]);
}

#[tokio::test]
async fn a_synthesis_that_refuses_is_replaced_whether_it_is_told_live_or_not() {
    for stream in [false, true] {
        let refusal = Step { refusal: Some("I would rather not say.".to_owned()), ..Step::default() };
        let upstream = upstream(texts(), refusal).await;
        let answer = app_for(&upstream).await.chat(json!({"stream": stream, "return_response_only": false})).await;
        let body = if stream { answer.events().last().unwrap().clone() } else { answer.ok() };
        assert!(answer.text.contains("I say") && !answer.text.contains("\"I would"), "{}", answer.text);
        assert_eq!(body["metadata"]["selected_index"], 1);
        assert!(body["metadata"]["warnings"][0].as_str().unwrap().contains("the model refused"));
    }
}

#[tokio::test]
async fn one_candidate_that_survives_is_the_answer_and_none_is_an_error() {
    let broken = || Step::status(500, r#"{"error":{"message":"gpu on fire"}}"#);
    let one = upstream(vec![broken(), Step::content("It is 42."), broken()], Step::content("never")).await;
    let body = app_for(&one).await.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], "It is 42.");
    assert_eq!((one.counters().requests, body["metadata"]["failures"].as_array().unwrap().len()), (3, 2));

    let none = upstream(vec![broken()], Step::content("never")).await;
    let error = app_for(&none).await.chat(json!({})).await.error(502);
    assert!(error["message"].as_str().unwrap().starts_with("all 3 candidates failed"), "{error}");
}

#[tokio::test]
async fn an_agent_gets_a_call_that_it_can_run() {
    let oslo = || calls(r#"{"city": "Oslo"}"#);
    let candidates = || vec![calls(r#"{"city": "Rome"}"#), oslo(), oslo()];
    for (synthesis, city, is_composed) in [
        (calls(r#"{"city": "Bergen"}"#), "Bergen", true),
        (calls(r#"{"town": "Bergen"}"#), "Oslo", false),
        (calls(r#"{"city": "#), "Oslo", false),
        (Step::content("I would book Oslo."), "Oslo", false),
    ] {
        for stream in [false, true] {
            let upstream = upstream(candidates(), synthesis.clone()).await;
            let app = app_for(&upstream).await;
            let request = json!({"tools": tools(), "stream": stream, "return_response_only": false});
            let answer = app.chat(request).await;
            let body = if stream { answer.events().last().unwrap().clone() } else { answer.ok() };
            assert!(answer.text.contains(city), "{}", answer.text);
            assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
            assert_eq!(body["metadata"]["selected_index"].is_null(), is_composed, "{}", body["metadata"]);
            assert_eq!(body["metadata"]["warnings"].as_array().unwrap().is_empty(), is_composed);
            let asked = the_synthesis(&upstream);
            assert_eq!((&asked["tools"], asked.get("tool_choice"), asked.get("stream")), (&tools(), None, None));
        }
    }
}

#[tokio::test]
async fn tools_stay_out_of_use_where_the_candidates_answer_in_text() {
    let upstream = upstream(texts(), Step::content("It is 42, all told.")).await;
    let app = app_for(&upstream).await;
    assert_eq!(app.chat(json!({"tools": tools()})).await.content(), "It is 42, all told.");
    assert_eq!(the_synthesis(&upstream)["tool_choice"], "none");
}

#[tokio::test]
async fn json_that_was_asked_for_is_checked_before_it_is_told() {
    let candidates = [r#"{"a": 1}"#, r#"{"a": 2}"#, r#"{"a": 2}"#].map(Step::content).to_vec();
    let upstream = upstream(candidates, Step::content("Here it is: a = 2")).await;
    let app = app_for(&upstream).await;
    let events = app.chat(json!({"response_format": {"type": "json_object"}, "stream": true})).await.events();
    let content: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, r#"{"a": 2}"#);
}

#[tokio::test]
async fn a_bound_leaves_no_time_or_tokens_for_a_synthesis() {
    let upstream = upstream(texts(), Step::hang_at(Point::Request)).await;
    let app = app_for(&upstream).await;
    for (limits, reason) in
        [(json!({"deadline_ms": 2000}), "deadline"), (json!({"max_total_tokens": 30}), "max_total_tokens")]
    {
        let answer = app.chat(json!({"limits": limits})).await;
        assert_eq!((answer.content().as_str(), answer.header("x-its-stop")), ("\\boxed{42} I say", Some(reason)));
    }
}

#[tokio::test]
async fn a_budget_of_one_is_one_plain_call() {
    let upstream = upstream(texts(), Step::content("never")).await;
    let app = app_for(&upstream).await;
    let answer = app.chat(json!({"budget": 1})).await;
    assert_eq!((answer.content().as_str(), answer.header("x-its-algorithm")), ("\\boxed{41}", Some("none")));
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_embedded_model_mixes_the_same_way_again() {
    let app = spawn_app().await;
    let request = json!({
        "model": "arithmetic-demo", "alg": "mixture-of-n", "budget": 3, "seed": 11, "temperature": 1.0, "max_tokens": 40,
        "messages": [{"role": "user", "content": "What is 2 + 3?"}], "return_response_only": false
    });
    let first = app.post("/v1/chat/completions", &request).await.ok();
    let again = app.post("/v1/chat/completions", &request).await.ok();
    assert_eq!(first["choices"][0]["message"], again["choices"][0]["message"]);
    let phases = &first["metadata"]["usage_by_phase"];
    assert_eq!(phases["generate"]["calls"], 3);
    // A model this small has no room for the candidates, or writes what is no better: either way it answers.
    assert!(first["choices"][0]["message"]["content"].is_string(), "{first}");
}
