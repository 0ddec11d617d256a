//! Stop rules, waves and weights over HTTP: what is asked of the upstream, and what never is.

use serde_json::{Value, json};

use crate::app::{TestApp, spawn_app_for};
use crate::upstream::{Step, Upstream};

/// An upstream whose answers are all the same, and the daemon before it.
async fn agreeing(fields: Value) -> (Upstream, TestApp) {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, fields).await;
    (upstream, app)
}

#[tokio::test]
async fn a_rule_that_is_content_starts_nothing_more() {
    let (upstream, app) = agreeing(json!({"budget": 40})).await;
    let mut asked = 0;
    for (fields, reason, calls) in [
        (json!({"stop_rule": "beta"}), "beta", 4),
        (json!({"stop_rule": "window", "window": 3}), "window", 3),
        (json!({"stop_rule": "threshold", "threshold": 0.5}), "threshold", 2),
        (json!({"alg": "adaptive-self-consistency"}), "threshold", 2),
        (json!({"alg": "beta-self-consistency", "confidence": 0.99}), "beta", 6),
        (json!({"stop_rule": "none", "budget": 7, "wave": 3}), "completed", 7),
    ] {
        let mut request = fields.clone();
        request["return_response_only"] = json!(false);
        let answer = app.chat(request).await;
        assert_eq!(answer.content(), "\\boxed{42}");
        assert_eq!(answer.header("x-its-stop"), Some(reason), "{fields}");
        asked += calls;
        assert_eq!(upstream.counters().requests, asked, "{fields}");
        let stop = &answer.json()["metadata"]["stop"];
        let planned = fields["budget"].as_u64().unwrap_or(40);
        assert_eq!((&stop["planned"], &stop["started"]), (&json!(planned), &json!(calls)), "{fields}");
        assert_eq!((&stop["completed"], &stop["cancelled"]), (&json!(calls), &json!(0)), "{fields}");
        // The scripted answers are of one token each.
        assert_eq!(stop["saved_tokens_estimate"], planned - calls, "{fields}");
    }
}

#[tokio::test]
async fn the_rest_waits_for_the_first_token_of_the_first() {
    let upstream = Upstream::start().await;
    upstream
        .push(Step { stream_gate: Some("second token".to_owned()), ..Step::content("so \\boxed{42}") }.gated("first"));
    for _ in 0..3 {
        upstream.push(Step::content("\\boxed{42}").gated("rest"));
    }
    let app = spawn_app_for(&upstream, json!({"budget": 4, "stop_rule": "none", "wave": "prime"})).await;
    let chat = app.chat_in_background(json!({"return_response_only": false}));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    assert_eq!(upstream.counters().requests, 1);
    upstream.open_gate("first");
    // The first is not at its end yet when the rest is asked for.
    upstream.wait_for(|counters| counters.in_flight == 4).await;
    upstream.open_gate("rest");
    upstream.open_gate("second token");
    let body = chat.await.unwrap().ok();
    assert_eq!(body["metadata"]["response_counts"], json!({"42": 4}));
    assert_eq!(body["metadata"]["usage_by_phase"]["generate"]["unknown_calls"], 0);
    let streamed: Vec<bool> = upstream.seen().iter().map(|seen| seen.json()["stream"] == true).collect();
    assert_eq!(streamed, [true, false, false, false]);
}

#[tokio::test]
async fn no_more_candidates_are_asked_for_than_the_limit_allows() {
    let (upstream, app) = agreeing(json!({"budget": 8, "stop_rule": "none", "limits": {"max_candidates": 3}})).await;
    let answer = app.chat(json!({"return_response_only": false})).await;
    assert_eq!(answer.header("x-its-stop"), Some("max_candidates"));
    assert_eq!(upstream.counters().requests, 3);
    let stop = &answer.ok()["metadata"]["stop"];
    assert_eq!((&stop["planned"], &stop["started"], &stop["completed"]), (&json!(8), &json!(3), &json!(3)));
    assert_eq!(stop["cancelled"], 0, "what never began was not cancelled");
}

/// An answer whose one token has this log-probability.
fn sure(text: &str, logprob: f64) -> Step {
    let body = json!({
        "id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
            "logprobs": {"content": [{"token": text, "logprob": logprob, "bytes": null, "top_logprobs": []}]}
        }],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}
    });
    Step::body(&body.to_string())
}

#[tokio::test]
async fn a_vote_weighed_by_confidence_asks_for_log_probabilities() {
    let upstream = Upstream::start().await;
    for step in [sure("\\boxed{1}", -3.0), sure("\\boxed{2}", -0.1), sure("\\boxed{1}", -3.0)] {
        upstream.push(step);
    }
    let fields = json!({"budget": 3, "n_parallel": 1, "vote_weight": "confidence"});
    let app = spawn_app_for(&upstream, fields).await;
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert!(upstream.seen().iter().all(|seen| seen.json()["logprobs"] == true));
    assert_eq!(body["metadata"]["selected_index"], 1);
    assert_eq!(body["metadata"]["response_counts"], json!({"2": 1, "1": 2}));
    // e^-0.1 = 0.905 of 0.905 + 2 e^-3 = 1.004.
    let share = body["metadata"]["response_weights"]["2"].as_f64().unwrap();
    assert!((share - 0.9009).abs() < 1e-4, "{share}");

    // A provider that tells none is told of, and every vote weighs the same.
    for answer in ["\\boxed{1}", "\\boxed{2}", "\\boxed{2}"] {
        let mut plain: Value = serde_json::from_str(sure(answer, 0.0).body.as_deref().unwrap()).unwrap();
        plain["choices"][0]["logprobs"] = Value::Null;
        upstream.push(Step::body(&plain.to_string()));
    }
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(body["metadata"]["selected_index"], 1);
    assert!(body["metadata"]["warnings"].to_string().contains("no vote has log-probabilities"), "{body}");
}

#[tokio::test]
async fn a_vote_weighed_by_scores_needs_to_know_whose() {
    let (upstream, app) = agreeing(json!({"budget": 3})).await;
    let error = app.chat(json!({"vote_weight": "score"})).await.error(400);
    assert_eq!(error["param"], "rm_name");
    assert_eq!(upstream.counters().requests, 0);
}
