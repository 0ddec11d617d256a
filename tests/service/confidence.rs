//! Token confidence over HTTP: the surest candidate wins, and what only the run wanted to know stays with it.

use serde_json::{Value, json};

use crate::app::{TestApp, document, spawn_app, spawn_app_for};
use crate::upstream::{Step, Upstream};

fn sure(text: &str, logprobs: &[f64]) -> Step {
    Step { logprobs: Some(logprobs.to_vec()), ..Step::content(text) }
}

/// An upstream whose candidates are these, in order.
async fn upstream(candidates: Vec<Step>) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |seen| candidates[seen.number as usize % candidates.len()].clone());
    upstream
}

/// A daemon that scores three candidates, asked for one after the other.
async fn app_for(upstream: &Upstream, rm_name: &str) -> TestApp {
    let fields = json!({"alg": "best-of-n", "rm_name": rm_name, "budget": 3, "n_parallel": 1});
    spawn_app_for(upstream, fields).await
}

fn unsure_sure_middling() -> Vec<Step> {
    vec![sure("I guess 41", &[-2.0]), sure("It is 42", &[-0.1]), sure("Perhaps 40", &[-1.0])]
}

fn scores(body: &Value) -> Vec<Option<f64>> {
    body["metadata"]["scores"].as_array().unwrap().iter().map(Value::as_f64).collect()
}

#[track_caller]
fn assert_scores(body: &Value, expected: &[f64]) {
    let scores = scores(body);
    assert_eq!(scores.len(), expected.len());
    for (score, expected) in scores.iter().zip(expected) {
        assert!((score.unwrap() - expected).abs() < 1e-9, "{scores:?}, not {expected:?}");
    }
}

#[tokio::test]
async fn the_surest_candidate_wins_and_nobody_sees_why_unasked() {
    let upstream = upstream(unsure_sure_middling()).await;
    let app = app_for(&upstream, "perplexity").await;
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], "It is 42");
    assert_eq!(body["choices"][0]["logprobs"], Value::Null);
    assert_scores(&body, &[1.0 / 3.0, 1.0 / 1.1, 0.5]);
    for seen in upstream.seen() {
        let sent = seen.json();
        assert_eq!((&sent["logprobs"], sent.get("top_logprobs")), (&json!(true), None));
    }
    let streamed = app.chat(json!({"stream": true})).await;
    assert!(streamed.text.contains("It is 42") && !streamed.text.contains("\"logprob\""), "{}", streamed.text);
}

#[tokio::test]
async fn each_measure_is_taken_over_what_the_upstream_tells() {
    // Alternatives of the scripted upstream are e times less probable from one to the next, beginning with the token.
    let entropy = |logprob: f64| -> f64 {
        (0..20).map(|rank| logprob - f64::from(rank)).map(|logprob| -logprob.exp() * logprob).sum()
    };
    for (rm_name, expected) in [
        ("sequence_prob", [1.0 / 7.0, 1.0 / 1.3, 0.25]),
        ("entropy", [-2.0, -0.1, -1.0].map(|logprob| 1.0 / (1.0 + entropy(logprob)))),
        ("top_k_confidence", [11.5, 9.6, 10.5]),
    ] {
        let mut candidates = unsure_sure_middling();
        candidates[2] = sure("Perhaps it's 40", &[-1.0]);
        let upstream = upstream(candidates).await;
        let app = app_for(&upstream, rm_name).await;
        let body = app.chat(json!({"return_response_only": false})).await.ok();
        assert_scores(&body, &expected);
    }
}

#[tokio::test]
async fn a_client_that_asks_for_less_than_the_run_gets_what_it_asked_for() {
    let upstream = upstream(unsure_sure_middling()).await;
    let app = app_for(&upstream, "entropy").await;
    for (top, sent) in [(2, 20), (20, 20)] {
        let body = app.chat(json!({"logprobs": true, "top_logprobs": top})).await.ok();
        let tokens = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
        assert_eq!(tokens.len(), body["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count());
        assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == top), "{tokens:?}");
        assert_eq!(upstream.seen().last().unwrap().json()["top_logprobs"], sent);
    }
    let body = app.chat(json!({"logprobs": true})).await.ok();
    assert_eq!(body["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
    let body = app.chat(json!({})).await.ok();
    assert_eq!(body["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn a_request_says_what_a_step_is_and_how_steps_become_one() {
    let candidates = vec![sure("a b c d", &[-1.0, -1.0, -4.0, 0.0]), sure("e f g h", &[-2.0, -2.0, -1.0, -1.0])];
    let upstream = upstream(candidates).await;
    let app = app_for(&upstream, "perplexity").await;
    for (fields, expected) in [
        (json!({}), [0.4, 0.4]),
        (json!({"tokens_per_step": 2}), [1.0 / 3.0, 0.5]),
        (json!({"step_token": "b ", "rm_agg_method": "max"}), [0.5, 0.4]),
        (json!({"tokens_per_step": 2, "rm_agg_method": "min"}), [1.0 / 3.0, 1.0 / 3.0]),
        (json!({"tokens_per_step": 2, "rm_agg_method": "product"}), [1.0 / 6.0, 1.0 / 6.0]),
        (json!({"tokens_per_step": 1, "rm_agg_method": "mean", "scoring_window": 2}), [0.6, 0.5]),
        (json!({"tokens_per_step": 1, "rm_agg_method": "model"}), [0.4, 0.4]),
    ] {
        let mut request = fields.clone();
        request["return_response_only"] = json!(false);
        request["budget"] = json!(2);
        let body = app.chat(request).await.ok();
        assert_scores(&body, &expected);
    }
}

#[tokio::test]
async fn a_candidate_without_log_probabilities_has_no_score_and_says_so() {
    let mut candidates = unsure_sure_middling();
    candidates[1].logprobs = Some(Vec::new());
    let upstream = upstream(candidates).await;
    let app = app_for(&upstream, "perplexity").await;
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], "Perhaps 40");
    assert_eq!(scores(&body)[1], None);
    let warnings = body["metadata"]["warnings"].to_string();
    assert!(warnings.contains("without log-probabilities"), "{warnings}");
}

#[tokio::test]
async fn without_any_log_probabilities_the_fallback_decides_and_never_a_score() {
    let silent = |text: &str| sure(text, &[]);
    let candidates = vec![silent("\\boxed{41}"), silent("\\boxed{42} then"), silent("so \\boxed{42}")];
    let upstream = upstream(candidates).await;
    let app = app_for(&upstream, "perplexity").await;
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], "\\boxed{42} then", "the winner of the vote");
    assert_eq!(scores(&body), [None; 3]);
    let warnings = body["metadata"]["warnings"].to_string();
    assert!(warnings.contains("log-probabilities"), "{warnings}");
    let error = app.chat(json!({"judge_fallback": "error"})).await.error(502);
    assert!(error["message"].as_str().unwrap().contains("log-probabilities"), "{error}");
}

#[tokio::test]
async fn a_vote_weighed_by_confidence_asks_for_it_and_keeps_it_to_itself() {
    let candidates =
        vec![sure("\\boxed{41}", &[-3.0]), sure("\\boxed{42}", &[-0.1]), sure("surely \\boxed{41}", &[-3.0])];
    let upstream = upstream(candidates).await;
    let fields = json!({"vote_weight": "confidence", "budget": 3, "n_parallel": 1, "stop_rule": "none"});
    let app = spawn_app_for(&upstream, fields).await;
    let body = app.chat(json!({})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], "\\boxed{42}");
    assert_eq!(body["choices"][0]["logprobs"], Value::Null);
    assert!(upstream.seen().iter().all(|seen| seen.json()["logprobs"] == true));
    let plain = app.chat(json!({"vote_weight": "none"})).await.ok();
    assert_ne!(plain["choices"][0]["message"]["content"], "\\boxed{42}");
    assert_eq!(upstream.seen().last().unwrap().json().get("logprobs"), None);
}

#[tokio::test]
async fn a_candidate_that_is_streamed_tells_as_much_as_one_that_comes_whole() {
    let upstream = upstream(unsure_sure_middling()).await;
    let app = spawn_app_for(&upstream, json!({"budget": 3, "n_parallel": 1, "stop_rule": "none"})).await;
    let weighed = json!({
        "vote_weight": "score", "rm_name": "entropy", "wave": "prime", "return_response_only": false,
        "logprobs": true, "top_logprobs": 1
    });
    let body = app.chat(weighed).await.ok();
    assert_eq!(upstream.seen()[0].json()["stream"], true, "the first candidate is listened to for its first token");
    assert_eq!(upstream.seen()[0].json()["top_logprobs"], 20);
    assert!(scores(&body).iter().all(|score| score.is_some_and(|score| score > 0.0 && score < 1.0)), "{body}");
    let told = &body["choices"][0]["logprobs"]["content"][0]["top_logprobs"];
    assert_eq!(told.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_provider_cannot_tell_is_refused_where_it_is_configured() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    for (fields, param, words) in [
        (json!({"provider": "groq", "endpoint": "auto", "rm_name": "perplexity"}), "rm_name", "groq"),
        (json!({"provider": "together", "endpoint": "auto", "rm_name": "top_k_confidence"}), "rm_name", "together"),
        (json!({"provider": "lmstudio", "vote_weight": "confidence"}), "vote_weight", "lmstudio"),
        (
            json!({"provider": "litellm", "endpoint": "auto", "model": "groq/llama", "rm_name": "entropy"}),
            "rm_name",
            "groq",
        ),
        (
            json!({"vote_weight": "confidence", "extra_args": {"capabilities": {"logprobs": false}}}),
            "vote_weight",
            "openai-compatible",
        ),
        (json!({"rm_name": "self_certainty"}), "rm_name", "whole vocabulary"),
    ] {
        let answer = app.post("/configure", &document(&upstream, fields.clone())).await;
        let error = answer.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!("invalid_value")), "{fields}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{fields}: {error}");
    }
    // Behind an address that is not its own there may be anything.
    let elsewhere = document(&upstream, json!({"provider": "groq", "rm_name": "perplexity"}));
    app.post("/configure", &elsewhere).await.ok();
}

#[tokio::test]
async fn what_a_provider_cannot_tell_is_refused_before_anything_is_spent() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 3})).await;
    let error = app.chat(json!({"alg": "best-of-n", "rm_name": "self_certainty"})).await.error(400);
    assert_eq!(error["param"], "rm_name");
    app.configure(&upstream, json!({"budget": 3, "extra_args": {"capabilities": {"logprobs": false}}})).await;
    let error = app.chat(json!({"vote_weight": "confidence"})).await.error(400);
    assert_eq!(error["param"], "vote_weight");
    assert_eq!(upstream.counters().requests, 0);
    // One call weighs nothing.
    app.chat(json!({"vote_weight": "confidence", "budget": 1})).await.ok();
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_embedded_model_tells_how_sure_it_is() {
    let app = spawn_app().await;
    for rm_name in ["self_certainty", "entropy", "perplexity", "sequence_prob", "top_k_confidence"] {
        let request = json!({
            "model": "arithmetic-demo", "alg": "best-of-n", "rm_name": rm_name, "rm_agg_method": "model", "budget": 4,
            "seed": 5, "temperature": 2.0, "max_tokens": 40, "return_response_only": false,
            "messages": [{"role": "user", "content": "What is 23 + 48 - 17?"}]
        });
        let body = app.post("/v1/chat/completions", &request).await.ok();
        let given: Vec<f64> = scores(&body).into_iter().flatten().collect();
        assert!(
            !given.is_empty() && given.iter().all(|score| score.is_finite() && *score > 0.0),
            "{rm_name}: {given:?}"
        );
        let best = given.iter().copied().fold(0.0, f64::max);
        let selected = body["metadata"]["selected_index"].as_u64().unwrap() as usize;
        assert_eq!(scores(&body)[selected], Some(best), "{rm_name}");
        assert_eq!(body["choices"][0]["logprobs"], Value::Null);
        let again = app.post("/v1/chat/completions", &request).await.ok();
        assert_eq!(again["choices"][0]["message"], body["choices"][0]["message"], "{rm_name}");
    }
}

#[tokio::test]
async fn candidates_that_say_the_same_are_told_how_sure_they_were() {
    let upstream = upstream(vec![sure("It is 42", &[-1.0])]).await;
    let app = app_for(&upstream, "perplexity").await;
    let body = app.chat(json!({"return_response_only": false})).await.ok();
    assert_scores(&body, &[0.5; 3]);
    assert_eq!(body["metadata"]["warnings"], json!([]));
}
