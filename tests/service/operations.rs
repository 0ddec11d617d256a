//! What those who watch over the daemon see: request ids, health, readiness, and the list of models.

use serde_json::json;

use crate::app::{receive, spawn_app, spawn_app_for, spawn_app_with};
use crate::upstream::{Point, Step, Upstream};

#[tokio::test]
async fn a_request_id_is_echoed_when_valid_and_made_otherwise() {
    let app = spawn_app().await;
    let id_for = async |sent: &str| {
        let request = app.client.get(app.url("/health")).header("x-request-id", sent);
        receive(request).await.header("x-request-id").unwrap().to_owned()
    };
    for valid in ["abc-123_X.y:z", "1", &"a".repeat(128)] {
        assert_eq!(id_for(valid).await, valid);
    }
    for invalid in ["", "a b", "a;b", "<script>", &"a".repeat(129)] {
        let made = id_for(invalid).await;
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{invalid}: {made}");
    }
    let ids = [app.get("/health").await, app.get("/health").await, app.get("/nowhere").await];
    let ids: std::collections::BTreeSet<_> = ids.iter().map(|answer| answer.header("x-request-id").unwrap()).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn every_kind_of_response_has_a_request_id() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    upstream.push(Step::default());
    upstream.push(Step::default());
    upstream.push(Step::close_at(Point::Request));
    for fields in
        [json!({}), json!({"stream": true}), json!({}), json!({"model": "unknown"}), json!({"temperature": 9})]
    {
        let answer = app.chat(fields.clone()).await;
        assert!(answer.header("x-request-id").is_some(), "{fields}: {answer:?}");
    }
}

#[tokio::test]
async fn health_touches_nothing_and_tells_time_and_version() {
    let app = spawn_app().await;
    let health = app.get("/health").await.ok();
    assert_eq!((&health["status"], &health["version"]), (&json!("healthy"), &json!(env!("CARGO_PKG_VERSION"))));
    let timestamp = health["timestamp"].as_str().unwrap();
    let shape: String = timestamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000+00:00");
    assert_eq!(health.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_daemon_without_a_configuration_says_so_until_it_has_one() {
    let app = spawn_app_with(|settings| settings.models.dirs.clear()).await;
    let ready = app.get("/ready").await;
    assert_eq!((ready.status, ready.header("retry-after")), (503, Some("1")));
    assert!(ready.json()["reasons"][0].as_str().unwrap().contains("POST /configure"), "{}", ready.text);
    let refusals = [app.chat(json!({})).await, app.get("/configure").await];
    for answer in refusals {
        let error = answer.error(503);
        assert_eq!((&error["type"], answer.header("retry-after")), (&json!("model_error"), Some("1")));
        assert!(error["message"].as_str().unwrap().contains("POST /configure"), "{error}");
    }
    assert_eq!(app.get("/health").await.status, 200);
    assert_eq!(app.get("/v1/models").await.ok(), json!({"object": "list", "data": []}));

    let upstream = Upstream::start().await;
    app.configure(&upstream, json!({"budget": 1})).await;
    app.assert_ready().await;
    app.chat(json!({})).await.ok();
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_models_are_exactly_the_names_that_requests_may_use() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "model": "Qwen/Qwen3-8B", "budget": 1, "model_mapping": {"team/fast:v1": "tiny", "a b": "tiny", "plain": "tiny"}
    });
    let app = spawn_app_for(&upstream, fields).await;
    let list = app.get("/v1/models").await.ok();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    let ids: Vec<_> = models.iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["Qwen/Qwen3-8B", "a b", "plain", "team/fast:v1", "arithmetic-demo"]);
    for model in models {
        let id = model["id"].as_str().unwrap();
        assert_eq!(model["object"], "model");
        assert!(model["created"].as_i64().unwrap() > 1_700_000_000);
        let owner = if id == "arithmetic-demo" { "itsd" } else { "openai-compatible" };
        assert_eq!(model["owned_by"], owner, "{id}");

        let path = format!("/v1/models/{}", id.replace(' ', "%20"));
        assert_eq!(app.get(&path).await.ok(), *model);
        let escaped = format!("/v1/models/{}", id.replace(' ', "%20").replace('/', "%2F"));
        assert_eq!(app.get(&escaped).await.ok(), *model, "{escaped}");
        let messages = json!([{"role": "user", "content": "What is 1 + 2?"}]);
        app.chat(json!({"model": id, "messages": messages})).await.ok();
    }
    let error = app.get("/v1/models/team/slow").await.error(404);
    assert!(error["message"].as_str().unwrap().starts_with("Model not found: team/slow"), "{error}");
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_local_model_beside_the_active_one_answers_plainly_unless_it_is_asked_for_more() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 8})).await;
    let sum = json!([{"role": "user", "content": "What is 12 + 7?"}]);
    for (fields, algorithm, candidates) in [
        (json!({"model": "arithmetic-demo", "messages": sum}), "none", "1"),
        (
            json!({"model": "arithmetic-demo", "messages": sum, "budget": 3, "stop_rule": "none"}),
            "self-consistency",
            "3",
        ),
    ] {
        let answer = app.chat(fields).await;
        assert!(!answer.content().is_empty());
        assert_eq!(answer.header("x-its-algorithm"), Some(algorithm));
        assert_eq!(answer.header("x-its-candidates"), Some(candidates));
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn without_any_configuration_the_model_that_ships_answers_with_a_vote() {
    let app = spawn_app().await;
    let messages = json!([{"role": "user", "content": "What is 12 + 7?"}]);
    let request = json!({"model": "arithmetic-demo", "messages": messages, "return_response_only": false});
    let answer = app.post("/v1/chat/completions", &request).await;
    let body = answer.ok();
    assert_eq!(answer.header("x-its-algorithm"), Some("self-consistency"));
    assert_eq!(body["metadata"]["stop"]["planned"], 8);
    assert!(body["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let winner = body["metadata"]["selected_index"].as_u64().unwrap() as usize;
    assert_eq!(body["metadata"]["responses"][winner], body["choices"][0]["message"]);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_seed_makes_the_embedded_model_repeat_itself() {
    let app = spawn_app().await;
    let messages = json!([{"role": "user", "content": "What is 23 + 48 - 17 + 66?"}]);
    let request = json!({
        "model": "arithmetic-demo", "messages": messages, "seed": 11, "budget": 4, "stop_rule": "none",
        "return_response_only": false
    });
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(app.post("/v1/chat/completions", &request).await.ok()["metadata"]["responses"].clone());
    }
    assert_eq!(told[0], told[1]);
}
