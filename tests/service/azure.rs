//! Azure OpenAI: deployments in the path, a version in the query, and the key in a header of its own.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{TestApp, receive, spawn_app, spawn_app_in};
use crate::upstream::{Profile, Seen, Step, Upstream};

/// An upstream that is a resource of Azure's.
async fn resource() -> Upstream {
    Upstream::with_profile(Profile::Azure).await
}

/// A configuration that leads to `upstream` as to a resource, with `fields` put over it.
async fn configure(app: &TestApp, upstream: &Upstream, fields: Value) -> Value {
    let endpoint = format!("http://{}", upstream.address());
    let mut document = json!({
        "provider": "azure", "endpoint": endpoint, "model": "my-gpt", "api_key": "azure-key-0123456789", "budget": 1,
        "max_retries": 0
    });
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    document.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    app.post("/configure", &document).await.ok()
}

async fn last_call(app: &TestApp, upstream: &Upstream, model: &str) -> Seen {
    app.chat(json!({"model": model})).await.ok();
    upstream.seen().pop().unwrap()
}

#[tokio::test]
async fn the_model_is_the_deployment_in_the_path_and_the_key_is_no_bearer() {
    let (app, upstream) = (spawn_app().await, resource().await);
    let configured = configure(&app, &upstream, json!({"model_mapping": {"fast": "my-mini"}})).await;
    assert_eq!(configured["warnings"], json!([]));
    let call = last_call(&app, &upstream, "my-gpt").await;
    assert_eq!(call.request.target, "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21");
    assert_eq!(call.request.header("api-key"), Some("azure-key-0123456789"));
    assert_eq!(call.request.header("authorization"), None);
    let call = last_call(&app, &upstream, "fast").await;
    assert_eq!(call.request.path(), "/openai/deployments/my-mini/chat/completions");

    // A vote and a stream take the same way, and so do raw texts.
    app.chat(json!({"model": "my-gpt", "budget": 3})).await.ok();
    app.chat(json!({"model": "my-gpt", "stream": true})).await.events();
    app.post("/v1/completions", &json!({"model": "my-gpt", "prompt": "Once"})).await.ok();
    let paths: Vec<_> = upstream.seen().iter().skip(2).map(|seen| seen.request.path().to_owned()).collect();
    assert!(paths[..paths.len() - 1].iter().all(|path| path == "/openai/deployments/my-gpt/chat/completions"));
    assert_eq!(paths.last().unwrap(), "/openai/deployments/my-gpt/completions");
}

#[tokio::test]
async fn the_version_is_the_configurations_else_the_operators_else_the_newest_stable_one() {
    let upstream = resource().await;
    let named = json!({"extra_args": {"api_version": "2025-01-01-preview", "reasoning_effort": "low"}});
    for (environment, fields, version) in [
        (vec![], json!({}), "2024-10-21"),
        (vec![("OPENAI_API_VERSION", "2024-06-01")], json!({}), "2024-06-01"),
        (
            vec![("OPENAI_API_VERSION", "2024-06-01"), ("AZURE_API_VERSION", "2024-12-01-preview")],
            json!({}),
            "2024-12-01-preview",
        ),
        (vec![("AZURE_API_VERSION", "2024-12-01-preview")], named, "2025-01-01-preview"),
    ] {
        let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
        configure(&app, &upstream, fields).await;
        let call = last_call(&app, &upstream, "my-gpt").await;
        assert!(call.request.target.ends_with(&format!("?api-version={version}")), "{}", call.request.target);
        assert_eq!(call.json().get("api_version"), None, "it is no field of the body");
    }
    assert_eq!(upstream.seen().last().unwrap().json()["reasoning_effort"], "low");

    let app = spawn_app().await;
    for wrong in [json!(1), json!(""), json!("2024&x=1")] {
        let document = json!({
            "provider": "azure", "endpoint": upstream.base_url(), "model": "m", "extra_args": {"api_version": wrong}
        });
        let error = app.post("/configure", &document).await.error(400);
        assert_eq!(error["param"], "extra_args.api_version", "{error}");
    }
}

#[tokio::test]
async fn the_newer_address_has_the_paths_of_openai_and_no_version() {
    let upstream = resource().await;
    // The variable is for the dated versions.
    let environment = [("AZURE_API_VERSION", "2024-06-01")];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    let endpoint = format!("http://{}/openai/v1/", upstream.address());
    configure(&app, &upstream, json!({"endpoint": endpoint})).await;
    let call = last_call(&app, &upstream, "my-gpt").await;
    assert_eq!(
        (call.request.target.as_str(), &call.json()["model"]),
        ("/openai/v1/chat/completions", &json!("my-gpt"))
    );
    assert_eq!(call.request.header("api-key"), Some("azure-key-0123456789"));
}

#[tokio::test]
async fn a_token_of_entra_id_stands_in_for_the_key() {
    let upstream = resource().await;
    let environment = [("AZURE_OPENAI_API_KEY", "azure-key-0123456789"), ("TOKEN", "Bearer eyJ-entra-0123456789")];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    for api_key in [Value::Null, json!("env:AZURE_OPENAI_API_KEY")] {
        let fields = json!({"api_key": api_key, "extra_args": {"headers": {"Authorization": "env:TOKEN"}}});
        assert_eq!(configure(&app, &upstream, fields).await["warnings"], json!([]));
        let call = last_call(&app, &upstream, "my-gpt").await;
        assert_eq!(call.request.header("authorization"), Some("Bearer eyJ-entra-0123456789"));
        assert_eq!(call.request.header("api-key"), None);
    }
}

#[tokio::test]
async fn a_key_that_a_request_brings_is_sent_as_azure_takes_it_and_alone() {
    let (app, upstream) = (spawn_app().await, resource().await);
    let headers = json!({"Authorization": "Bearer eyJ-entra-0123456789", "api-key": "other-0123456789"});
    let fields = json!({"allow_request_endpoint": true, "extra_args": {"headers": headers}});
    configure(&app, &upstream, fields).await;
    let body = json!({"model": "my-gpt", "messages": [{"role": "user", "content": "?"}]}).to_string();
    receive(app.json_request("/v1/chat/completions", &body).header("x-its-api-key", "mine-0123456789")).await.ok();
    let call = upstream.seen().pop().unwrap();
    assert_eq!(call.request.header("api-key"), Some("mine-0123456789"));
    assert_eq!(call.request.header("authorization"), None);
}

#[tokio::test]
async fn address_and_key_come_from_the_usual_variables() {
    let upstream = resource().await;
    let endpoint = format!("http://{}/", upstream.address());
    for (address, key) in [("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"), ("AZURE_API_BASE", "AZURE_API_KEY")] {
        let environment = [(address, endpoint.as_str()), (key, "azure-key-0123456789")];
        let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
        configure(&app, &upstream, json!({"endpoint": null, "api_key": null})).await;
        let call = last_call(&app, &upstream, "my-gpt").await;
        assert_eq!(call.request.header("api-key"), Some("azure-key-0123456789"));
        let origin = &app.get("/configure").await.ok()["origin"];
        assert_eq!(origin["endpoint"], format!("environment {address}"), "{origin}");
        assert_eq!(origin["api_key"], format!("environment {key}"), "{origin}");

        // Under `litellm` the prefix leads there, and so does `provider` in a request to another one's configuration.
        let fields = json!({"provider": "litellm", "model": "azure/my-gpt", "endpoint": null, "api_key": null});
        configure(&app, &upstream, fields).await;
        let call = last_call(&app, &upstream, "azure/my-gpt").await;
        assert_eq!(call.request.path(), "/openai/deployments/my-gpt/chat/completions");
        let elsewhere = json!({"provider": "openai-compatible", "model": "m"});
        configure(&app, &upstream, elsewhere).await;
        app.chat(json!({"model": "my-mini", "provider": "azure", "budget": 1})).await.ok();
        let call = upstream.seen().pop().unwrap();
        assert_eq!(call.request.path(), "/openai/deployments/my-mini/chat/completions");
        assert_eq!(call.request.header("api-key"), Some("azure-key-0123456789"));
    }
}

#[tokio::test]
async fn what_leads_nowhere_is_refused_with_what_to_change() {
    // A key alone does not say where the resource is.
    let environment = [("AZURE_OPENAI_API_KEY", "azure-key-0123456789")];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    let error = app.post("/configure", &json!({"provider": "azure", "model": "m"})).await.error(400);
    assert_eq!((&error["param"], &error["code"]), (&json!("endpoint"), &json!("missing_field")));
    assert!(error["message"].as_str().unwrap().contains("AZURE_OPENAI_ENDPOINT"), "{error}");

    let pasted = "https://r.openai.azure.com/openai/deployments/m";
    let error =
        app.post("/configure", &json!({"provider": "azure", "endpoint": pasted, "model": "m"})).await.error(400);
    assert_eq!(error["param"], "endpoint");
    assert!(error["message"].as_str().unwrap().contains("https://NAME.openai.azure.com"), "{error}");

    // The operator's key is not for whatever address a document names.
    let upstream = resource().await;
    let configured = configure(&app, &upstream, json!({"api_key": null})).await;
    assert!(configured["warnings"][0].as_str().unwrap().contains("env:AZURE_OPENAI_API_KEY"), "{configured}");
    app.chat(json!({"model": "my-gpt"})).await.error(502);
    let call = upstream.seen().pop().unwrap();
    assert_eq!((call.request.header("api-key"), call.request.header("authorization")), (None, None));
    let app = spawn_app().await;
    let document = json!({"provider": "azure", "endpoint": "https://r.openai.azure.com", "model": "m"});
    let configured = app.post("/configure", &document).await.ok();
    assert!(configured["warnings"][0].as_str().unwrap().contains("no key is sent"), "{configured}");
}

#[tokio::test]
async fn what_azure_says_in_its_own_way_is_understood() {
    let (app, upstream) = (spawn_app().await, resource().await);
    configure(&app, &upstream, json!({})).await;
    let deployment =
        r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#;
    let key = r#"{"statusCode":401,"message":"Access denied due to invalid subscription key"}"#;
    let filter = r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#;
    for (status, body, told) in [
        (404, deployment, "does not exist"),
        (401, key, "Access denied due to invalid subscription key"),
        (400, filter, "The response was filtered"),
    ] {
        upstream.push(Step::status(status, body));
        let answer = app.chat(json!({"model": "my-gpt"})).await;
        assert!(answer.status >= 400 && answer.text.contains(told), "{status}: {} {}", answer.status, answer.text);
        assert!(!answer.text.contains("azure-key"), "{}", answer.text);
    }

    // What the filters have found comes in chunks without choices, and without words.
    let chunks = [
        json!({"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}}}]}),
        json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "content_filter_results": {}, "finish_reason": null, "logprobs": null}]}),
        json!({"choices": [{"index": 0, "delta": {"content": "42"}, "content_filter_results": {"hate": {"filtered": false}}, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "content_filter_offsets": {"check_offset": 0}, "content_filter_results": {"hate": {"filtered": false}}, "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "finish_reason": "stop", "content_filter_results": {}}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}}),
    ];
    let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    upstream.push(Step::events(&format!("{body}data: [DONE]\n\n")));
    let fields = json!({"model": "my-gpt", "stream": true, "stream_options": {"include_usage": true}});
    let events = app.chat(fields).await.events();
    let said: String = events.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    let reasons: Vec<_> = events.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!((said.as_str(), reasons), ("42", vec!["stop"]));
    assert_eq!(events.last().unwrap()["usage"]["total_tokens"], 6);
}
