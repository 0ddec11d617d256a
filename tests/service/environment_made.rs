//! The configuration that one exported variable makes, as long as nobody has configured anything.

use std::sync::Arc;

use serde_json::json;

use crate::app::spawn_app_in;
use crate::upstream::Upstream;

#[tokio::test]
async fn one_exported_key_answers_for_any_model() {
    let upstream = Upstream::start().await;
    let base_url = upstream.base_url();
    for (key, address, provider, model) in [
        ("OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "openrouter", "openai/gpt-4o-mini"),
        ("OPENAI_API_KEY", "OPENAI_BASE_URL", "openai", "gpt-4o-mini"),
        ("DEEPINFRA_API_KEY", "DEEPINFRA_BASE_URL", "deepinfra", "meta-llama/Meta-Llama-3.1-8B-Instruct"),
    ] {
        let environment = [(key, "sk-canary-0123456789"), (address, base_url.as_str())];
        let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
        let shown = app.get("/configure").await;
        assert!(!shown.text.contains("canary"), "{}", shown.text);
        let shown = shown.ok();
        assert_eq!((&shown["provider"], &shown["model"]), (&json!(provider), &json!(model)));
        assert_eq!((&shown["api_key"], &shown["revision"]), (&json!(format!("env:{key}")), &json!(1)));
        assert_eq!(shown["origin"]["provider"], format!("environment {key}"));
        assert_eq!(app.get("/configure/history").await.ok()["data"][0]["origin"], "environment");
        assert_eq!(app.get("/v1/models").await.ok()["data"][0]["id"], model);
        for name in [model, "anybody/elses-model"] {
            app.chat(json!({"model": name, "budget": 1})).await.ok();
            let seen = upstream.seen();
            let call = seen.last().unwrap();
            assert_eq!(call.request.header("authorization"), Some("Bearer sk-canary-0123456789"));
            assert_eq!(call.json()["model"], name);
        }
    }
}

#[tokio::test]
async fn a_hub_id_is_the_model_of_a_vllm_server_and_wins_over_the_keys() {
    let upstream = Upstream::start().await;
    let base_url = upstream.base_url();
    let environment = [
        ("VLLM_MODEL_PATH", "Qwen/Qwen2.5-7B-Instruct"),
        ("VLLM_BASE_URL", base_url.as_str()),
        ("OPENAI_API_KEY", "sk-canary-0123456789"),
    ];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    let shown = app.get("/configure").await.ok();
    assert_eq!((&shown["provider"], &shown["model"]), (&json!("vllm"), &json!("Qwen/Qwen2.5-7B-Instruct")));
    app.chat(json!({"model": "Qwen/Qwen2.5-7B-Instruct", "budget": 1})).await.ok();
    assert_eq!(upstream.seen()[0].request.header("authorization"), None);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_gguf_file_is_loaded_in_this_process() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("My-Model.gguf");
    std::os::unix::fs::symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/models/arithmetic-demo.gguf"), &file).unwrap();
    let path = file.display().to_string();
    let environment = [("VLLM_MODEL_PATH", path.as_str())];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    let shown = app.get("/configure").await.ok();
    assert_eq!((&shown["provider"], &shown["model"]), (&json!("llama"), &json!("My-Model")));
    let sum = json!([{"role": "user", "content": "What is 12 + 7?"}]);
    for name in ["My-Model", path.as_str()] {
        app.chat(json!({"model": name, "messages": sum, "budget": 1, "max_tokens": 5})).await.ok();
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_environment_is_asked_anew_until_somebody_configures() {
    let upstream = Upstream::start().await;
    let base_url = upstream.base_url();
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let openai = [("OPENAI_API_KEY", "sk-a-0123456789"), ("OPENAI_BASE_URL", base_url.as_str())];
    let deepinfra = [("DEEPINFRA_API_KEY", "sk-b-0123456789"), ("DEEPINFRA_BASE_URL", base_url.as_str())];
    for (environment, provider, revision) in
        [(&openai, "openai", 1), (&openai, "openai", 1), (&deepinfra, "deepinfra", 2), (&openai, "openai", 3)]
    {
        let app = spawn_app_in(Arc::clone(&state_dir), environment, |_| {}).await;
        let shown = app.get("/configure").await.ok();
        assert_eq!((&shown["provider"], &shown["revision"]), (&json!(provider), &json!(revision)));
        drop(app.stop());
    }
    let app = spawn_app_in(Arc::clone(&state_dir), &[], |_| {}).await;
    let shown = app.get("/configure").await.ok();
    assert_eq!((&shown["model"], &shown["revision"]), (&json!("arithmetic-demo"), &json!(0)));
    app.assert_ready().await;
    app.configure(&upstream, json!({})).await;
    drop(app.stop());
    let app = spawn_app_in(state_dir, &openai, |_| {}).await;
    assert_eq!(app.get("/configure").await.ok()["model"], "scripted", "what somebody configured wins");
}

#[tokio::test]
async fn the_files_configuration_wins_over_the_environment() {
    let upstream = Upstream::start().await;
    let base_url = upstream.base_url();
    let environment = [("OPENAI_API_KEY", "sk-a-0123456789"), ("OPENAI_BASE_URL", base_url.as_str())];
    let active = json!({"provider": "openai", "model": "of-the-file"});
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |settings| {
        settings.active = Some(active.as_object().unwrap().clone());
    })
    .await;
    assert_eq!(app.get("/configure").await.ok()["model"], "of-the-file");
}
