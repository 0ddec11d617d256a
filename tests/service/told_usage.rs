//! What an upstream says of its usage: absurd numbers and none at all take nothing down and are not added up.

use serde_json::{Value, json};

use crate::app::spawn_app_for;
use crate::upstream::{Step, Upstream};

async fn upstream_telling(usage: Value) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |_| Step { usage: Some(usage.clone()), ..Step::content("\\boxed{42}") });
    upstream
}

fn prices() -> Value {
    json!({"scripted": {"prompt": 1, "completion": 1}})
}

#[tokio::test]
async fn counts_that_no_call_can_have_are_taken_as_unknown() {
    let upstream = upstream_telling(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX})).await;
    let app = spawn_app_for(&upstream, json!({"budget": 4, "prices": prices()})).await;
    for fields in [
        json!({"return_response_only": false}),
        json!({"return_response_only": false, "alg": "wait", "wait_rounds": 2}),
        json!({"return_response_only": false, "stop_rule": "beta", "tts_verbose": true}),
        json!({"return_response_only": false, "alg": "none", "n": 3}),
    ] {
        let answer = app.chat(fields.clone()).await.ok();
        assert_eq!(answer["usage"]["total_tokens"], 0, "{fields}");
        let metadata = &answer["metadata"];
        assert!(metadata["usage_by_phase"]["generate"]["unknown_calls"].as_u64().unwrap() > 0, "{fields}");
        assert_eq!(metadata["cost_usd"], Value::Null, "{fields}");
        let events = app.chat(json!({"stream": true, "budget": fields["budget"]})).await;
        assert!(events.text.contains("[DONE]"), "{}", events.text);
    }
}

#[tokio::test]
async fn numbers_that_a_call_might_have_are_added_up() {
    let upstream = upstream_telling(json!({"prompt_tokens": 1_u64 << 40, "completion_tokens": 1_u64 << 40})).await;
    let app = spawn_app_for(&upstream, json!({"budget": 4, "stop_rule": "none", "prices": prices()})).await;
    let answer = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(answer["usage"]["total_tokens"], 8_u64 << 40);
    assert_eq!(answer["metadata"]["cost_usd"], json!((8_u64 << 40) as f64 / 1e6));
}

#[tokio::test]
async fn a_limit_that_cannot_be_checked_is_warned_of_and_no_cost_is_told() {
    let upstream = upstream_telling(Value::Null).await;
    let app = spawn_app_for(&upstream, json!({"budget": 4, "stop_rule": "none", "prices": prices()})).await;
    let request = json!({"return_response_only": false, "limits": {"max_cost_usd": 1}});
    let answer = app.chat(request).await;
    assert_eq!(answer.header("x-its-candidates"), Some("4"));
    let metadata = answer.ok()["metadata"].clone();
    assert_eq!(metadata["warnings"], json!(["max_cost_usd could not be checked: the provider reports no usage"]));
    assert_eq!((&metadata["cost_usd"], &metadata["stop"]["reason"]), (&Value::Null, &json!("completed")));

    let unlimited = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!((&unlimited["metadata"]["cost_usd"], &unlimited["metadata"]["warnings"]), (&Value::Null, &json!([])));
}

#[tokio::test]
async fn a_run_of_which_nothing_has_a_price_has_no_cost() {
    let upstream = upstream_telling(json!({"prompt_tokens": 0, "completion_tokens": 0})).await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let answer = app.chat(json!({"return_response_only": false})).await.ok();
    assert_eq!(answer["metadata"]["cost_usd"], Value::Null);
}
