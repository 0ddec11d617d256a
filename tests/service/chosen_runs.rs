//! Runs that the words of a request choose, to their end: best-of-N by strategy and by path, rounds by the suffix of
//! the model's name.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{TestApp, question, spawn_app_for, spawn_app_with};
use crate::upstream::{Step, Upstream};

/// Asks for one candidate after the other, so that a test knows who answered what.
async fn patient(upstream: &Upstream) -> TestApp {
    spawn_app_for(upstream, json!({"n_parallel": 1, "alg": "none", "allow_any_model": true})).await
}

async fn numbered(count: usize) -> Upstream {
    let upstream = Upstream::start().await;
    for number in 1..=count {
        upstream.push(Step::content(&format!("answer {number}")));
    }
    upstream
}

#[tokio::test]
async fn offline_best_of_n_scores_eight_by_entropy() {
    let upstream = numbered(8).await;
    let app = patient(&upstream).await;
    let answer = app.chat(json!({"tts_strategy": "offline_bon", "tts_verbose": true})).await;
    let body = answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("best-of-n"));
    let seen = upstream.seen();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|call| call.json()["logprobs"] == true), "entropy is of the tokens' probabilities");
    let metadata = &body["choices"][0]["tts_metadata"];
    assert_eq!(metadata["strategy"], "offline_bon");
    for of_a_vote in ["consensus_score", "answer_distribution"] {
        assert!(metadata.get(of_a_vote).is_none(), "nobody voted: {metadata}");
    }
    let trajectories = metadata["all_trajectories"].as_array().unwrap();
    assert_eq!(trajectories.len(), 8);
    assert_eq!(trajectories.iter().filter(|trajectory| trajectory["selected"] == true).count(), 1);
    let scores: Vec<&Value> = trajectories.iter().map(|trajectory| &trajectory["score"]).collect();
    assert!(scores.iter().all(|score| score.is_f64()), "{metadata}");
    assert_eq!(scores, body["metadata"]["scores"].as_array().unwrap().iter().collect::<Vec<_>>());
    assert!(body["choices"][0]["logprobs"].is_null(), "the client did not ask for them");
}

#[tokio::test]
async fn a_path_names_the_scorer_too() {
    let upstream = numbered(3).await;
    let app = patient(&upstream).await;
    let fields = json!({"budget": 3, "rm_name": "llm-judge"});
    let answer = app.post("/v1/best-of-n/sequence_prob/chat/completions", &question(fields)).await;
    assert_eq!(answer.ok()["choices"][0]["tts_metadata"]["strategy"], "best-of-n");
    assert_eq!(upstream.counters().requests, 3, "no judge was asked");
    let error = app.post("/v1/best-of-n/chat/completions", &question(json!({}))).await.error(400);
    assert_eq!(error["param"], "rm_name", "a path brings no scorer with it: {error}");
}

#[tokio::test]
async fn a_suffix_asks_for_so_many_checks() {
    let upstream = numbered(3).await;
    let app = patient(&upstream).await;
    let answer = app.chat(json!({"model": "scripted-wait-2"})).await;
    let body = answer.ok();
    assert_eq!(answer.content(), "<test-time-compute>\nanswer 1\nanswer 2\n</test-time-compute>\n\nanswer 3");
    assert_eq!((answer.header("x-its-algorithm"), &body["model"]), (Some("wait"), &json!("scripted-wait-2")));
    assert_eq!(body["usage"]["completion_tokens"], 6);
    let seen = upstream.seen();
    assert!(seen.iter().all(|call| call.json()["model"] == "scripted"));
    assert_eq!(seen[2].json()["messages"].as_array().unwrap().len(), 5);

    let error = app.chat(json!({"model": "scripted-wait-2", "n": 2})).await.error(400);
    assert_eq!(error["param"], "n");
}

#[tokio::test]
async fn no_checks_are_one_plain_reply_and_the_body_may_ask_for_others() {
    let upstream = numbered(4).await;
    let app = patient(&upstream).await;
    assert_eq!(app.chat(json!({"model": "any-wait-0"})).await.content(), "answer 1");
    assert_eq!(upstream.seen()[0].json()["model"], "any");
    let answer = app.chat(json!({"model": "any-wait-9", "wait_rounds": 1})).await;
    assert_eq!(answer.content(), "<test-time-compute>\nanswer 2\n</test-time-compute>\n\nanswer 3");
    app.chat(json!({"model": "any-wait-9", "alg": "none"})).await.ok();
    assert_eq!(upstream.counters().requests, 4);
}

#[tokio::test]
async fn rounds_stream_their_progress_and_then_the_answer() {
    let upstream = numbered(3).await;
    let app = patient(&upstream).await;
    let options = json!({"include_progress": true});
    let fields = json!({"model": "scripted-wait-2", "stream": true, "stream_options": options});
    let chunks = app.chat(fields).await.events();
    let told: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk.get("progress")).collect();
    assert!(told.iter().all(|progress| progress["planned"] == 3), "{told:?}");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert!(text.starts_with("<test-time-compute>\nanswer 1\n") && text.ends_with("answer 3"), "{text}");
    assert!(chunks.iter().all(|chunk| chunk["model"] == "scripted-wait-2"));
}

#[tokio::test]
async fn progress_tells_when_candidates_are_judged() {
    let upstream = numbered(2).await;
    upstream.push(Step::content(r#"{"reasoning": "both do", "selected_indices": [0]}"#).gated("judged"));
    let app = spawn_app_with(|settings| settings.server.stream_keep_alive = Duration::from_millis(5)).await;
    let fields = json!({"alg": "best-of-n", "rm_name": "llm-judge", "budget": 2, "n_parallel": 1});
    app.configure(&upstream, fields).await;
    let fields = json!({"stream": true, "stream_options": {"include_progress": true}});
    let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains(r#""progress":{"completed":2,"planned":2,"phase":"judge"}"#) {
            upstream.open_gate("judged");
        }
    }
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("answer "), "{text}");
}

#[tokio::test]
async fn a_field_that_its_run_does_not_read_is_warned_of() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 2, "wait_rounds": 1, "stop_rule": "beta"})).await;
    for (path, fields, words) in [
        ("/v1/self-consistency/llm-judge/chat/completions", json!({}), "`rm_name` has no effect"),
        ("/v1/chat/completions", json!({"rm_name": "entropy", "alg": "wait"}), "`rm_name` has no effect"),
        ("/v1/chat/completions", json!({"wait_rounds": 3}), "`wait_rounds` has no effect"),
        (
            "/v1/adaptive-self-consistency/chat/completions",
            json!({"stop_rule": "none"}),
            "`stop_rule` `none` has no effect",
        ),
    ] {
        let answer = app.post(path, &question(fields.clone())).await;
        answer.ok();
        let warnings = answer.header("x-its-warnings").unwrap_or_default();
        assert!(warnings.starts_with(words) && !warnings.contains(';'), "{path} {fields}: {warnings}");
    }
    // What the configuration says is for the requests that it fits.
    for path in ["/v1/chat/completions", "/v1/beta-self-consistency/chat/completions"] {
        assert_eq!(app.post(path, &question(json!({}))).await.header("x-its-warnings"), None, "{path}");
    }
}
