//! `?probe=true` on AWS Bedrock: the model is asked what it can do, in few calls, and what it says is kept.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp};
use crate::bedrock_configuration::{MODEL, app_at, document};
use crate::bedrock_stub::{BedrockStub, ModelRules, Seen, Step};

async fn probe(app: &TestApp) -> Answer {
    app.post("/configure?probe=true", &document(json!({}))).await
}

/// What a model does that can be made to call a tool: the one that is named, else its first.
fn calls_what_it_must(seen: &Seen) -> Step {
    let body = seen.json();
    let choice = &body["toolConfig"]["toolChoice"];
    match (choice["tool"]["name"].as_str(), choice["any"].is_object()) {
        (Some(name), _) => Step::tool_use("tooluse_1", name, json!({"text": "x"})),
        (None, true) => Step::tool_use("tooluse_1", "note_one", json!({"text": "x"})),
        (None, false) => Step::text("Hello"),
    }
}

fn refusing(fields: &[&str]) -> ModelRules {
    ModelRules { refused_fields: fields.iter().map(|field| (*field).to_owned()).collect(), ..ModelRules::default() }
}

#[tokio::test]
async fn what_a_model_does_is_found_in_two_calls() {
    let stub = BedrockStub::start().await;
    stub.answer_with(calls_what_it_must);
    let app = app_at(&stub).await;
    let told = probe(&app).await.ok();
    let found = json!({"sampling": true, "tools": true, "forced_tool": "named"});
    assert_eq!((&told["probe"]["found"], &told["probe"]["calls"]), (&found, &json!(2)), "{told}");
    assert_eq!(stub.counters().requests, 2);
    let tokens = |seen: &Seen| seen.json()["inferenceConfig"]["maxTokens"].as_u64().unwrap();
    assert!(stub.requests().iter().all(|seen| tokens(seen) <= 256), "the questions are small");
    let shown = app.get("/configure").await.ok();
    assert_eq!(shown["extra_args"]["capabilities"]["models"][MODEL], found, "{shown}");
}

#[tokio::test]
async fn what_a_model_refuses_is_asked_for_in_another_way() {
    for (rules, found, calls) in [
        (
            refusing(&["temperature", "toolConfig.toolChoice.tool"]),
            json!({"sampling": false, "tools": true, "forced_tool": "required"}),
            4,
        ),
        (
            refusing(&["toolConfig.toolChoice.tool", "toolConfig.toolChoice.any"]),
            json!({"sampling": true, "forced_tool": "never"}),
            4,
        ),
        (ModelRules { refuses_tools: true, ..ModelRules::default() }, json!({"sampling": true, "tools": false}), 2),
    ] {
        let stub = BedrockStub::start().await;
        stub.answer_with(calls_what_it_must);
        stub.set_rules("*", rules);
        let told = probe(&app_at(&stub).await).await.ok();
        assert_eq!((&told["probe"]["found"], &told["probe"]["calls"]), (&found, &json!(calls)), "{told}");
    }
}

#[tokio::test]
async fn a_model_that_takes_a_choice_and_overlooks_it_is_seen_through() {
    let stub = BedrockStub::start().await;
    stub.answer_with(|seen| match seen.json()["toolConfig"].is_object() {
        true => Step::tool_use("tooluse_1", "note_one", json!({})),
        false => Step::text("Hello"),
    });
    let told = probe(&app_at(&stub).await).await.ok();
    assert_eq!(told["probe"]["found"], json!({"sampling": true, "tools": true, "forced_tool": "never"}), "{told}");
}

#[tokio::test]
async fn a_model_that_answers_nothing_changes_nothing() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let before = app.get("/configure").await.text;
    stub.set_rules("*", ModelRules { denied: true, ..ModelRules::default() });
    let error = probe(&app).await.error(400);
    assert_eq!(error["param"], "extra_args", "{error}");
    stub.set_rules("*", ModelRules::default());
    stub.push(Step::error("ResourceNotFoundException"));
    assert_eq!(probe(&app).await.error(400)["param"], Value::from("model"));
    assert_eq!(stub.counters().requests, 2, "nothing is asked again");
    assert_eq!(app.get("/configure").await.text, before);
}

#[tokio::test]
async fn a_configuration_that_thinks_is_asked_without_its_thoughts() {
    for extra in [
        json!({"reasoning_effort": "high"}),
        json!({"thinking": {"type": "enabled", "budget_tokens": 4096}, "temperature": 1, "anthropic_beta": ["x"]}),
        json!({"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 4096}}}),
        json!({"tool_choice": "none", "top_p": 0.5}),
    ] {
        let stub = BedrockStub::start().await;
        stub.answer_with(calls_what_it_must);
        let mut configuration = document(json!({"max_tokens": 8192}));
        let fields = configuration["extra_args"].as_object_mut().unwrap();
        fields.extend(extra.as_object().unwrap().clone());
        let told = app_at(&stub).await.post("/configure?probe=true", &configuration).await.ok();
        let found = json!({"sampling": true, "tools": true, "forced_tool": "named"});
        assert_eq!((&told["probe"]["found"], &told["probe"]["calls"]), (&found, &json!(2)), "{extra}: {told}");
        let asked: Vec<Value> = stub.requests().iter().map(|seen| seen.json()).collect();
        assert_eq!(asked[0]["inferenceConfig"], json!({"maxTokens": 16, "temperature": 0.5}), "{extra}");
        let additional = asked[0]["additionalModelRequestFields"].clone();
        assert!(additional.get("thinking").is_none(), "{extra}");
        assert_eq!(additional.get("anthropic_beta"), extra.get("anthropic_beta"), "what opens a door stays");
    }
}
