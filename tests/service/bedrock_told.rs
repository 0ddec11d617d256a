//! What is said to whoever configures Bedrock wrongly, and what is understood without being said exactly.

use serde_json::{Value, json};

use crate::bedrock_configuration::{MODEL, app_at, app_in, ask, document, one_call};
use crate::bedrock_stub::{ACCESS_KEY_ID, BedrockStub, SECRET_ACCESS_KEY, TEMPORARY_KEY_ID};

fn with_keys(more: Value) -> Value {
    let mut document = document(json!({}));
    document["extra_args"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}

#[tokio::test]
async fn a_name_of_bedrocks_needs_no_prefix_under_litellm() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3";
    for (model, expected) in
        [(MODEL, MODEL), (arn, arn), ("bedrock_converse/amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0")]
    {
        app.post("/configure", &document(json!({"model": model}))).await.ok();
        ask(&app, json!({"model": model})).await.ok();
        assert_eq!(one_call(&stub).model_id, expected);
    }
}

#[tokio::test]
async fn settings_of_litellm_reach_no_model_and_are_told_of() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let more = json!({"drop_params": true, "num_retries": 3, "timeout": 600, "top_k": 5});
    let warnings = app.post("/configure", &with_keys(more)).await.ok()["warnings"].to_string();
    for words in ["`extra_args.drop_params`", "`max_retries`", "`timeout_ms`"] {
        assert!(warnings.contains(words), "{warnings}");
    }
    ask(&app, json!({})).await.ok();
    assert_eq!(one_call(&stub).json()["additionalModelRequestFields"], json!({"top_k": 5}));
}

#[tokio::test]
async fn names_that_can_be_no_model_are_refused_by_their_place() {
    let app = app_in(&[]).await;
    for (fields, param, words) in [
        (json!({"model": "bedrock/invoke/amazon.nova-lite-v1:0"}), "model", "write `bedrock/amazon.nova-lite-v1:0`"),
        (json!({"model": "bedrock/agent/ABC/DEF"}), "model", "agents are not called"),
        (json!({"model": "bedrock/amazon.nova lite"}), "model", "no name of a model"),
        (json!({"model_mapping": {"x": "bedrock/nova/y"}}), "model_mapping.x", "`nova/` in `model_mapping.x`"),
        (json!({"judge_model": "bedrock/mantle/x"}), "judge_model", "write `bedrock/x`"),
    ] {
        let error = app.post("/configure", &document(fields.clone())).await.error(400);
        assert_eq!(error["param"], param, "{fields}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{fields}: {error}");
    }
}

#[tokio::test]
async fn a_secret_in_the_place_of_an_id_is_refused_unseen_and_a_missing_token_is_told_of() {
    let app = app_in(&[]).await;
    let swapped = with_keys(json!({"aws_access_key_id": SECRET_ACCESS_KEY, "aws_secret_access_key": ACCESS_KEY_ID}));
    let answer = app.post("/configure", &swapped).await;
    assert!(!answer.text.contains(SECRET_ACCESS_KEY), "{}", answer.text);
    let error = answer.error(400);
    assert_eq!(error["param"], "extra_args.aws_access_key_id");
    assert!(error["message"].as_str().unwrap().contains("is it the secret"), "{error}");
    for (token, is_told) in [(Value::Null, true), (json!("token"), false)] {
        let keys = with_keys(json!({"aws_access_key_id": TEMPORARY_KEY_ID, "aws_session_token": token}));
        let warnings = app.post("/configure", &keys).await.ok()["warnings"].to_string();
        assert_eq!(warnings.contains("aws_session_token"), is_told, "{warnings}");
    }
}

#[tokio::test]
async fn a_profile_that_is_gone_is_missed_before_its_region() {
    let app = app_in(&[]).await;
    let gone = document(json!({"extra_args": {"aws_profile_name": "work"}}));
    let error = app.post("/configure", &gone).await.error(400);
    assert_eq!(error["param"], "extra_args.aws_profile_name");
    assert!(error["message"].as_str().unwrap().contains("`work`"), "{error}");
}
