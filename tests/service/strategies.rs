//! What chooses a run: the path, the header, the body, the `tts_*` family and the suffix of the model's name.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, question, receive, spawn_app_for};
use crate::upstream::{Step, Upstream};

const CHAT: &str = "/v1/chat/completions";

/// An upstream that answers 105, 105, 105, 106 and then 107 for good.
async fn divided() -> Upstream {
    let upstream = Upstream::start().await;
    for answer in [105, 105, 105, 106] {
        upstream.push(Step::content(&format!("It is \\boxed{{{answer}}}.")));
    }
    upstream.answer_with(|_| Step::content("It is \\boxed{107}."));
    upstream
}

/// A daemon that asks one after the other for every candidate, so that a test knows who answered what.
async fn patient(upstream: &Upstream, fields: Value) -> TestApp {
    let mut all = json!({"n_parallel": 1, "stop_rule": "none", "allow_any_model": true});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spawn_app_for(upstream, all).await
}

fn warnings(answer: &Answer) -> &str {
    answer.header("x-its-warnings").unwrap_or_default()
}

#[tokio::test]
async fn a_strategy_runs_with_the_defaults_of_its_service_and_tells_in_its_words() {
    let upstream = divided().await;
    let app = patient(&upstream, json!({"alg": "none"})).await;
    let answer = app.chat(json!({"tts_strategy": "self_consistency"})).await;
    let body = answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("self-consistency"));
    assert_eq!(warnings(&answer), "");

    let seen = upstream.seen();
    assert_eq!(seen.len(), 5);
    for call in &seen {
        let call = call.json();
        assert_eq!((&call["temperature"], &call["max_tokens"]), (&json!(0.7), &json!(4096)));
        assert!(!call.to_string().contains("tts_"), "{call}");
    }
    let mut metadata = body["choices"][0]["tts_metadata"].clone();
    let elapsed = metadata.as_object_mut().unwrap().remove("elapsed_time").unwrap();
    assert!(elapsed.as_f64().unwrap() >= 0.0, "{elapsed}");
    let trajectory = |answer: u32, selected: bool| json!({"text": format!("It is \\boxed{{{answer}}}."), "num_tokens": 3, "selected": selected});
    assert_eq!(
        metadata,
        json!({
            "strategy": "self_consistency",
            "selected_answer": "105",
            "consensus_score": 0.6,
            "answer_distribution": {"105": 0.6, "106": 0.2, "107": 0.2},
            "all_trajectories": [
                trajectory(105, true), trajectory(105, false), trajectory(105, false), trajectory(106, false),
                trajectory(107, false)
            ],
            "token_stats": {
                "input_tokens": 50, "output_tokens": 15, "total_tokens_this_sample": 65, "generation_count": 5
            }
        })
    );
    assert!(body.get("metadata").is_none(), "the full metadata must be asked for");
}

#[tokio::test]
async fn a_field_of_the_family_without_a_strategy_says_only_itself() {
    let upstream = divided().await;
    let app = patient(&upstream, json!({"budget": 2})).await;
    let answer = app.chat(json!({"num_paths": 3, "tts_verbose": true})).await;
    let body = answer.ok();
    assert_eq!(upstream.counters().requests, 3);
    let call = upstream.seen()[0].json();
    assert_eq!((call.get("temperature"), call.get("max_tokens")), (None, None));
    assert_eq!(body["choices"][0]["tts_metadata"]["strategy"], "self_consistency");
    assert_eq!(body["metadata"]["response_counts"], json!({"105": 3}));
}

#[tokio::test]
async fn a_request_without_these_words_is_answered_without_them() {
    let upstream = divided().await;
    let app = patient(&upstream, json!({"budget": 2})).await;
    for stream in [false, true] {
        let answer = app.chat(json!({"alg": "self-consistency", "stream": stream})).await;
        assert!(!answer.text.contains("tts_metadata"), "{}", answer.text);
    }
}

#[tokio::test]
async fn what_the_client_or_the_operator_names_wins_over_the_defaults_of_a_strategy() {
    let upstream = Upstream::start().await;
    let app = patient(&upstream, json!({"temperature": 0.3, "max_completion_tokens": 99})).await;
    let strategy = json!({"tts_strategy": "self_consistency", "num_paths": 2});
    let with = |more: Value| {
        let mut fields = strategy.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fields
    };
    app.chat(strategy.clone()).await.ok();
    let call = upstream.seen().last().unwrap().json();
    assert_eq!((&call["temperature"], &call["max_completion_tokens"]), (&json!(0.3), &json!(99)));
    app.chat(with(json!({"temperature": 1.1, "max_tokens": 7}))).await.ok();
    let call = upstream.seen().last().unwrap().json();
    assert_eq!((&call["temperature"], &call["max_tokens"]), (&json!(1.1), &json!(7)));
    assert_eq!(call.get("max_completion_tokens"), None);
    assert_eq!(upstream.counters().requests, 4);

    let answer = app.chat(with(json!({"budget": 3}))).await;
    assert_eq!(upstream.counters().requests, 7);
    assert!(warnings(&answer).contains("`num_paths` has no effect beside a different `budget`"), "{answer:?}");
}

#[tokio::test]
async fn fields_of_searches_are_taken_with_a_warning() {
    let upstream = Upstream::start().await;
    let app = patient(&upstream, json!({})).await;
    let fields = json!({
        "tts_strategy": "self_consistency", "num_paths": 2, "tts_num_trajectories": 8, "tts_beam_size": 4,
        "tts_candidates_per_step": 4, "tts_max_steps": 100, "tts_scorer": "entropy", "tts_score_aggregation": "min"
    });
    let answer = app.chat(fields).await;
    answer.ok();
    assert_eq!(upstream.counters().requests, 2);
    for name in ["tts_num_trajectories", "tts_beam_size", "tts_candidates_per_step", "tts_max_steps"] {
        assert!(warnings(&answer).contains(name), "{}", warnings(&answer));
    }
    for name in ["beam_width", "candidates_per_step`, only", "max_steps`, only"] {
        assert!(!warnings(&answer).contains(name), "in the words of the client: {}", warnings(&answer));
    }
}

#[tokio::test]
async fn a_strategy_streams_with_its_metadata_on_the_chunk_of_the_finish_reason() {
    let upstream = divided().await;
    let app = patient(&upstream, json!({})).await;
    let fields = json!({"tts_strategy": "self_consistency", "tts_verbose": true, "stream": true});
    let chunks = app.chat(fields).await.events();
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"][0]["tts_metadata"]["consensus_score"], 0.6);
    assert_eq!(last["metadata"]["agreement"], 0.6);
    for chunk in before {
        assert!(chunk.get("metadata").is_none() && chunk["choices"][0].get("tts_metadata").is_none(), "{chunk}");
    }
}

#[tokio::test]
async fn a_path_chooses_the_algorithm_and_wins_over_the_body() {
    let upstream = divided().await;
    let app = patient(&upstream, json!({"alg": "none", "budget": 3})).await;
    let answer = app.post("/v1/self_consistency/chat/completions", &question(json!({"alg": "none"}))).await;
    let body = answer.ok();
    assert_eq!((upstream.counters().requests, answer.header("x-its-algorithm")), (3, Some("self-consistency")));
    assert_eq!(upstream.seen()[0].json()["temperature"], 0.7);
    assert_eq!(upstream.seen()[0].json()["max_tokens"], 4096);
    assert_eq!(body["choices"][0]["tts_metadata"]["strategy"], "self_consistency");

    let fields = json!({"tts_strategy": "self_consistency"});
    let answer = app.post("/v1/none/chat/completions", &question(fields)).await;
    assert_eq!(upstream.counters().requests, 4);
    let body = answer.ok();
    assert_eq!(body["choices"][0]["tts_metadata"]["strategy"], "none");
    assert_eq!(body["choices"][0]["tts_metadata"]["selected_answer"], "106");
    assert!(body["choices"][0]["tts_metadata"].get("consensus_score").is_none(), "nobody voted");
}

#[tokio::test]
async fn a_path_that_leads_nowhere_lists_what_there_is() {
    let upstream = Upstream::start().await;
    let app = patient(&upstream, json!({})).await;
    for (path, param, told) in [
        ("/v1/self-consistensy/chat/completions", "algorithm", "did you mean `self-consistency`"),
        ("/v1/v1/chat/completions", "algorithm", "`best-of-n`"),
        ("/v1/online_bon/chat/completions", "algorithm", "not supported yet"),
        ("/v1/best-of-n/entropie/chat/completions", "scorer", "did you mean `entropy`"),
        ("/v1/best-of-n/prm/chat/completions", "scorer", "not supported yet"),
        ("/v1/bestofall/entropy/chat/completions", "algorithm", "`self-consistency`"),
    ] {
        let error = app.post(path, &question(json!({}))).await.error(400);
        assert_eq!(error["param"], param, "{path}");
        assert!(error["message"].as_str().unwrap().contains(told), "{path}: {error}");
    }
    for path in ["/v1/self-consistency/chat/completions", "/v1/best-of-n/entropy/chat/completions"] {
        let answer = app.get(path).await;
        answer.error(405);
        assert_eq!(answer.header("allow"), Some("POST"), "{path}");
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
async fn paths_of_algorithms_hide_no_other_path() {
    let upstream = Upstream::start().await;
    let app =
        patient(&upstream, json!({"model": "chat/completions", "model_mapping": {"a/chat/completions": "m"}})).await;
    for id in ["chat/completions", "a/chat/completions"] {
        assert_eq!(app.get(&format!("/v1/models/{id}")).await.ok()["id"], id);
    }
    app.post("/v1/models/chat/completions", &question(json!({}))).await.error(405);
    app.post("/v1/none/a/b/chat/completions", &question(json!({}))).await.error(404);
}

#[tokio::test]
async fn the_header_wins_over_every_name_of_the_budget_in_the_body() {
    let upstream = Upstream::start().await;
    let app = patient(&upstream, json!({"budget": 5})).await;
    let fields = json!({"tts_strategy": "self_consistency", "num_paths": 4, "budget": 4});
    for path in [CHAT, "/v1/self-consistency/chat/completions"] {
        let before = upstream.counters().requests;
        let request = app.json_request(path, &question(fields.clone()).to_string()).header("x-its-budget", "2");
        receive(request).await.ok();
        assert_eq!(upstream.counters().requests - before, 2, "{path}");
    }
    for wrong in ["0", "1001", "many"] {
        let request = app.json_request(CHAT, &question(json!({})).to_string()).header("x-its-budget", wrong);
        receive(request).await.error(400);
    }
}

#[tokio::test]
async fn a_suffix_is_taken_off_the_model_unless_a_model_is_called_that() {
    let upstream = Upstream::start().await;
    let app = patient(&upstream, json!({"model": "m", "model_mapping": {"m-wait-3": "other"}})).await;
    let body = app.chat(json!({"model": "m-wait-6", "alg": "none"})).await;
    assert!(warnings(&body).contains("`-wait-6` of the model has no effect beside `alg` `none`"), "{body:?}");
    assert_eq!(body.ok()["model"], "m-wait-6");
    assert_eq!(upstream.seen().last().unwrap().json()["model"], "m");
    let request = question(json!({"model": "m-wait-6"}));
    assert_eq!(app.post("/v1/none/chat/completions", &request).await.ok()["model"], "m-wait-6");

    let body = app.chat(json!({"model": "m-wait-3", "alg": "none"})).await;
    assert_eq!((warnings(&body), body.ok()["model"].clone()), ("", json!("m-wait-3")));
    assert_eq!(upstream.seen().last().unwrap().json()["model"], "other");

    let asked = upstream.counters().requests;
    for name in ["m-wait-21", "m-wait-99999999999999999999"] {
        let error = app.chat(json!({"model": name})).await.error(400);
        assert_eq!(error["param"], "model");
        assert!(error["message"].as_str().unwrap().contains("at most 20 rounds"), "{error}");
    }
    let error = app.chat(json!({"model": "m-wait-6", "alg": "weight"})).await.error(400);
    assert_eq!(error["param"], "alg");
    assert_eq!(upstream.counters().requests, asked);
}
