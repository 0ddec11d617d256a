//! Where a request goes besides its model's name: to another provider of the operator's, or to an endpoint and
//! with a key of its own.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, document, question, receive, spawn_app_in};
use crate::upstream::{Step, Upstream};

/// A daemon with this environment, configured to call `upstream`.
async fn app_with(environment: &[(&str, &str)], upstream: &Upstream, fields: Value) -> TestApp {
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let app = spawn_app_in(state_dir, environment, |_| {}).await;
    app.configure(upstream, fields).await;
    app
}

async fn chat_with(app: &TestApp, headers: &[(&str, &str)], fields: Value) -> Answer {
    let mut request = app.json_request("/v1/chat/completions", &question(fields).to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    receive(request).await
}

/// What an upstream was asked for: the model and the key.
fn asked(upstream: &Upstream) -> Vec<(String, Option<String>)> {
    let seen = upstream.seen().into_iter().map(|seen| {
        (seen.json()["model"].as_str().unwrap().to_owned(), seen.request.header("authorization").map(str::to_owned))
    });
    seen.collect()
}

#[tokio::test]
async fn a_provider_that_the_operator_has_configured_can_be_chosen_by_name() {
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    let environment = [("VLLM_BASE_URL", &*other.base_url()), ("VLLM_API_KEY", "sk-vllm")];
    let app =
        app_with(&environment, &own, json!({"api_key": "sk-own", "extra_args": {"headers": {"X-Own": "1"}}})).await;

    // Another provider's model is not the configuration's: it answers plainly unless the request says more.
    let answer = app.chat(json!({"provider": "vllm", "model": "big/model"})).await;
    assert_eq!(answer.ok()["model"], "big/model");
    assert_eq!(answer.header("x-its-algorithm"), Some("none"));
    assert_eq!(asked(&other), [("big/model".to_owned(), Some("Bearer sk-vllm".to_owned()))]);
    assert_eq!(other.seen()[0].request.header("x-own"), None);
    let scaled = app.chat(json!({"provider": "vllm", "model": "big/model", "budget": 3, "stop_rule": "none"})).await;
    assert_eq!(scaled.header("x-its-candidates"), Some("3"));
    assert_eq!((own.counters().requests, other.counters().requests), (0, 2), "its three candidates are one call");
    assert!(other.seen().iter().all(|seen| seen.json()["provider"].is_null()), "the choice is not forwarded");

    // The configuration's own provider has the configuration's own names.
    for provider in [json!("openai-compatible"), Value::Null] {
        app.chat(json!({"provider": provider, "budget": 1})).await.ok();
    }
    let unknown = app.chat(json!({"provider": "openai-compatible", "model": "big/model"})).await;
    assert_eq!(unknown.error(404)["code"], "model_not_found");
    assert_eq!(asked(&own), vec![("scripted".to_owned(), Some("Bearer sk-own".to_owned())); 2]);
}

#[tokio::test]
async fn a_provider_without_key_or_address_is_refused_with_those_that_there_are() {
    let own = Upstream::start().await;
    let app = app_with(&[("OPENROUTER_API_KEY", "k"), ("VLLM_BASE_URL", "nonsense")], &own, json!({})).await;
    // A local service needs no key, so that its default address alone does not say that there is one.
    for provider in ["groq", "ollama", "vllm", "lmstudio"] {
        let error = app.chat(json!({"provider": provider})).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!("provider"), &json!("invalid_value")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(provider) && message.contains("openai-compatible, openrouter"), "{message}");
    }
    let misspelt = app.chat(json!({"provider": "opnrouter"})).await.error(400);
    assert!(misspelt["message"].as_str().unwrap().contains("did you mean `openrouter`"), "{misspelt}");
    assert_eq!(app.chat(json!({"provider": 3})).await.error(400)["param"], "provider");
    assert_eq!(own.counters().requests, 0);
}

#[tokio::test]
async fn an_address_of_the_operators_that_is_none_is_told_when_configuring() {
    let own = Upstream::start().await;
    let app = app_with(&[("VLLM_BASE_URL", "nonsense")], &own, json!({})).await;
    let answer = app.post("/configure", &document(&own, json!({}))).await.ok();
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("vllm") && warnings.contains("VLLM_BASE_URL"), "{warnings}");
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn the_engine_in_this_process_is_a_provider_too() {
    let own = Upstream::start().await;
    let app = app_with(&[("VLLM_MODEL_PATH", "/nowhere/of-the-operator.gguf")], &own, json!({})).await;
    let local = json!({"model": "arithmetic-demo", "max_tokens": 4});
    // A GGUF file of the operator's is run here, whatever the old name for it.
    for provider in ["llama", "vllm"] {
        let mut fields = local.clone();
        fields["provider"] = json!(provider);
        app.chat(fields).await.ok();
    }
    let missing = app.chat(json!({"provider": "llama"})).await.error(404);
    assert!(missing["message"].as_str().unwrap().contains("arithmetic-demo"), "{missing}");
    assert_eq!(own.counters().requests, 0);
}

#[tokio::test]
async fn an_endpoint_or_key_of_the_requests_own_is_refused_unless_the_configuration_allows_it() {
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    let app = app_with(&[], &own, json!({})).await;
    for headers in [[("X-ITS-Endpoint", &*other.base_url())], [("x-its-api-key", "sk-mine")]] {
        let answer = chat_with(&app, &headers, json!({})).await;
        let error = answer.error(403);
        assert_eq!(error["type"], "permission_error");
        assert!(error["param"].as_str().unwrap().eq_ignore_ascii_case(headers[0].0), "{error}");
        assert!(error["message"].as_str().unwrap().contains("allow_request_endpoint"), "{error}");
    }
    assert_eq!((own.counters().requests, other.counters().requests), (0, 0));
}

#[tokio::test]
async fn nothing_that_is_configured_goes_to_an_endpoint_of_the_requests_own() {
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    let fields = json!({
        "allow_request_endpoint": true, "api_key": "sk-own", "budget": 3, "stop_rule": "none",
        "extra_args": {"headers": {"X-Own": "1"}, "session_token": "own"}
    });
    let environment = [("OPENAI_API_KEY", "sk-environment"), ("VLLM_API_KEY", "sk-environment")];
    let app = app_with(&environment, &own, fields).await;
    let endpoint = other.base_url();

    let answer = chat_with(&app, &[("X-ITS-Endpoint", &endpoint)], json!({"model": "theirs"})).await;
    assert_eq!(answer.ok()["model"], "theirs");
    assert_eq!(answer.header("x-its-candidates"), Some("3"), "the configuration is the same but for the address");
    assert_eq!(asked(&other), vec![("theirs".to_owned(), None); 3]);

    let headers = [("X-ITS-Endpoint", &*endpoint), ("X-ITS-API-Key", "sk-mine")];
    chat_with(&app, &headers, json!({"model": "theirs", "budget": 1})).await.ok();
    // A key of the request's is no reference to one of the operator's.
    for reference in ["env:OPENAI_API_KEY", "${OPENAI_API_KEY}", "file:/etc/hostname"] {
        let headers = [("X-ITS-Endpoint", &*endpoint), ("X-ITS-API-Key", reference)];
        chat_with(&app, &headers, json!({"model": "theirs", "budget": 1})).await.ok();
    }
    let keys: Vec<_> = asked(&other).into_iter().skip(3).map(|(_, key)| key.unwrap()).collect();
    let expected = ["sk-mine", "env:OPENAI_API_KEY", "${OPENAI_API_KEY}", "file:/etc/hostname"];
    assert_eq!(keys, expected.map(|key| format!("Bearer {key}")));
    for seen in other.seen() {
        assert!(seen.request.header("x-own").is_none() && seen.json()["session_token"].is_null(), "{}", seen.text());
        assert!(seen.request.headers.iter().all(|(name, _)| !name.starts_with("x-its")));
    }
    assert_eq!(own.counters().requests, 0);
}

#[tokio::test]
async fn a_key_alone_replaces_the_configured_one_at_the_configured_address() {
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    let fields = json!({
        "allow_request_endpoint": true, "api_key": "sk-own", "budget": 1,
        "extra_args": {"headers": {"Authorization": "Bearer sk-own-header", "X-Own": "1"}}
    });
    let environment = [("VLLM_BASE_URL", &*other.base_url()), ("VLLM_API_KEY", "sk-vllm")];
    let app = app_with(&environment, &own, fields).await;
    let mine = [("X-ITS-API-Key", "sk-mine")];
    chat_with(&app, &mine, json!({})).await.ok();
    assert_eq!(asked(&own), [("scripted".to_owned(), Some("Bearer sk-mine".to_owned()))]);
    assert_eq!(own.seen()[0].request.header("x-own"), Some("1"));
    chat_with(&app, &mine, json!({"provider": "vllm"})).await.ok();
    assert_eq!(asked(&other), [("scripted".to_owned(), Some("Bearer sk-mine".to_owned()))]);
    // The next request has the configured one again.
    app.chat(json!({})).await.ok();
    assert_eq!(asked(&own)[1].1.as_deref(), Some("Bearer sk-own-header"));
}

#[tokio::test]
async fn an_endpoint_that_must_not_be_called_is_refused() {
    let own = Upstream::start().await;
    let app = app_with(&[], &own, json!({"allow_request_endpoint": true})).await;
    for endpoint in [
        "http://169.254.169.254/latest",
        "https://metadata.google.internal",
        "http://[fd00:ec2::254]",
        "http://gpu-1:8000/v1",
        "ftp://127.0.0.1",
        "not a url",
        "https://user:hunter2@127.0.0.1",
        "https://127.0.0.1/?key=hunter2",
        "auto",
        "",
    ] {
        let answer = chat_with(&app, &[("X-ITS-Endpoint", endpoint)], json!({})).await;
        assert_eq!(answer.error(400)["param"], "X-ITS-Endpoint", "{endpoint}: {}", answer.text);
        assert!(!answer.text.contains("hunter2"), "{}", answer.text);
        assert!(!answer.text.contains("or `auto`"), "what is refused is not recommended: {}", answer.text);
    }
    let both = [("X-ITS-Endpoint", &*own.base_url())];
    assert_eq!(chat_with(&app, &both, json!({"provider": "openai"})).await.error(400)["param"], "provider");
    assert_eq!(chat_with(&app, &[("X-ITS-API-Key", " ")], json!({})).await.error(400)["param"], "X-ITS-API-Key");
    assert_eq!(own.counters().requests, 0);
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn a_model_in_this_process_takes_no_key() {
    let own = Upstream::start().await;
    let app = app_with(&[], &own, json!({"allow_request_endpoint": true})).await;
    for fields in [json!({"model": "arithmetic-demo"}), json!({"model": "arithmetic-demo", "provider": "llama"})] {
        let answer = chat_with(&app, &[("X-ITS-API-Key", "sk-mine")], fields).await;
        assert_eq!(answer.error(400)["param"], "X-ITS-API-Key");
    }
}

#[tokio::test]
async fn another_endpoint_that_fails_is_told_without_its_key() {
    let (own, other) = (Upstream::start().await, Upstream::start().await);
    other.answer_with(|_| Step::status(401, r#"{"error": {"message": "Incorrect API key: sk-mine-1234"}}"#));
    let app = app_with(&[], &own, json!({"allow_request_endpoint": true})).await;
    let headers = [("X-ITS-Endpoint", &*other.base_url()), ("X-ITS-API-Key", "sk-mine-1234")];
    let error = chat_with(&app, &headers, json!({})).await.error(502);
    assert_eq!(error["code"], "upstream_auth");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains(
            "the request's endpoint answered 401 and refused the key that the request brought (`X-ITS-API-Key`)"
        ) && !message.contains("sk-mine"),
        "{message}"
    );
}
