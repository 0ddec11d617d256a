//! `n`: the n best of a run, best first, whole and streamed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::{TestApp, spawn_app_for};
use crate::upstream::{Step, Upstream};

/// Four candidates, one after the other: 7, then 42 twice, then 9.
async fn voting(fields: Value) -> (Upstream, TestApp) {
    let upstream = Upstream::start().await;
    for answer in ["seven \\boxed{7}", "first \\boxed{42}", "second \\boxed{42}", "nine \\boxed{9}"] {
        upstream.push(Step::content(answer));
    }
    let mut all = json!({"n_parallel": 1, "budget": 4});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let app = spawn_app_for(&upstream, all).await;
    (upstream, app)
}

fn contents(body: &Value) -> Vec<&str> {
    let choices = body["choices"].as_array().unwrap();
    choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_best_answers_come_first() {
    let (upstream, app) = voting(json!({})).await;
    let body = app.chat(json!({"n": 3, "return_response_only": false})).await.ok();
    assert_eq!(upstream.counters().requests, 4, "every candidate is awaited where several are wanted");
    assert_eq!(body["choices"].as_array().unwrap().len(), 3);
    assert!(contents(&body)[0].contains("42") && contents(&body)[1].contains("42"), "{body}");
    for (at, choice) in body["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(at), &json!("stop")));
    }
    let selected = body["metadata"]["selected_index"].as_u64().unwrap() as usize;
    assert_eq!(body["metadata"]["responses"][selected], body["choices"][0]["message"]);
}

#[tokio::test]
async fn an_unnamed_budget_rises_to_n() {
    for fields in [json!({"budget": 2}), json!({"alg": "none"})] {
        let (upstream, app) = voting(fields.clone()).await;
        let answer = app.chat(json!({"n": 4})).await;
        assert_eq!(answer.ok()["choices"].as_array().unwrap().len(), 4, "{fields}");
        assert_eq!(upstream.counters().requests, 4, "{fields}");
    }
}

#[tokio::test]
async fn a_named_budget_stands() {
    let (upstream, app) = voting(json!({})).await;
    for fields in [json!({"n": 3, "budget": 2}), json!({"n": 3, "num_paths": 2, "tts_strategy": "self_consistency"})] {
        let error = app.chat(fields.clone()).await.error(400);
        assert_eq!(error["param"], "n", "{fields}");
    }
    let request = crate::app::question(json!({"n": 3})).to_string();
    let request = app.json_request("/v1/chat/completions", &request).header("x-its-budget", "2");
    assert_eq!(crate::app::receive(request).await.error(400)["param"], "n");
    assert_eq!(upstream.counters().requests, 0);
    let body = app.chat(json!({"n": 2, "num_paths": 3})).await.ok();
    assert_eq!((body["choices"].as_array().unwrap().len(), upstream.counters().requests), (2, 3));
}

#[tokio::test]
async fn fewer_answers_than_were_asked_for_are_said_to_be_so() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(500, "no"));
    let app = spawn_app_for(&upstream, json!({"n_parallel": 1})).await;
    let answer = app.chat(json!({"n": 3, "budget": 3})).await;
    assert_eq!(answer.ok()["choices"].as_array().unwrap().len(), 2);
    let warning = answer.header("x-its-warnings").unwrap();
    assert!(warning.contains("2 of the 3 answers"), "{warning}");
}

#[tokio::test]
async fn a_stream_of_several_answers_keeps_them_apart_by_their_index() {
    let (_upstream, app) = voting(json!({})).await;
    let fields = json!({
        "n": 2, "stream": true, "stream_options": {"include_usage": true}, "return_response_only": false,
        "tts_verbose": true
    });
    let chunks = app.chat(fields).await.events();
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    let mut roles: BTreeMap<u64, usize> = BTreeMap::new();
    let mut finished = Vec::new();
    for chunk in &chunks {
        for choice in chunk["choices"].as_array().unwrap() {
            let index = choice["index"].as_u64().unwrap();
            assert!(!finished.contains(&index), "nothing comes after the finish reason of its answer");
            *texts.entry(index).or_default() += choice["delta"]["content"].as_str().unwrap_or_default();
            *roles.entry(index).or_default() += usize::from(choice["delta"]["role"] == "assistant");
            if choice["finish_reason"] == "stop" {
                finished.push(index);
                assert_eq!(chunk.get("metadata").is_some(), index == 0, "{chunk}");
                assert_eq!(choice.get("tts_metadata").is_some(), index == 0, "{chunk}");
            }
        }
    }
    assert_eq!(finished, [0, 1]);
    assert_eq!(roles, BTreeMap::from([(0, 1), (1, 1)]));
    assert!(texts.values().all(|text| text.contains("42")) && texts[&0] != texts[&1], "{texts:?}");
    assert_eq!(chunks.last().unwrap()["usage"]["prompt_tokens"], 40);
}
