//! What a client sends reaches the upstream as it was sent, and nothing that is itsd's own or the client's key.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{TestApp, receive, spawn_app_for, spawn_app_in};
use crate::upstream::{Step, Upstream};

/// Every parameter of OpenAI's chat API beside those that itsd itself acts on, with spacing, escapes and numbers
/// that a parser would change.
const FULL_REQUEST: &str = r#"{
  "messages": [ {"role":"system","content":"Be\u0020brief", "name":"ops"}, {"role":"developer","content":[{"type":"text","text":"x"}]},
    {"role":"user","name":"ann","content":[{"type":"text","text":"été 🦀 \u00e9"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"high"}}]},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"get_weather","arguments":"{\"x\": 1.0}"}}], "refusal":null},
    {"role":"tool","tool_call_id":"c1","content":"1e3"}, {"role":"assistant"} ],
  "model": "scripted",
  "tools": [{ "type":"function", "function": {"name":"get_weather","description":"d","parameters":{"type":"object","properties":{"city":{"type":"string"}}}, "strict": true} }],
  "tool_choice": {"type": "function","function":{"name":"get_weather"}},
  "response_format": {"type":"json_schema", "json_schema":{"name":"a","schema":{"maximum":100000000000000000000000}}},
  "temperature": 0.7, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "max_completion_tokens": 256, "stop": ["\n\n","END"],
  "presence_penalty": -0.5, "frequency_penalty": 1.5, "logit_bias": {"50256": -100}, "logprobs": true, "top_logprobs": 3,
  "seed": 99, "n": 1,
  "metadata": {"run": "a  b"}, "parallel_tool_calls": false, "user": "u-1", "store": true, "service_tier": "flex",
  "reasoning_effort": "low", "verbosity": "low", "modalities": ["text"], "audio": {"voice": "x"},
  "prediction": {"type":"content","content":"y"}, "web_search_options": {}, "safety_identifier": "s", "prompt_cache_key": "k",
  "prompt_cache_retention": "24h", "functions": [{"name":"f"}], "function_call": "none",
  "provider": {"order": ["a", "b"]},
  "budget": 1, "alg": "none", "tool_vote": "tool_set", "exclude_args": ["ts"], "exclude_tool_args": ["ts"],
  "regex_patterns": ["(\\d+)"], "vote_on": "auto", "stop_rule": "decided", "diversity_temperature": 0.5, "return_response_only": false
}"#;

/// The members of a JSON object with each value's text as it stands.
fn members(text: &str) -> std::collections::BTreeMap<String, String> {
    let members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(text).unwrap();
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

async fn app(upstream: &Upstream) -> TestApp {
    spawn_app_for(upstream, json!({"budget": 1, "api_key": "sk-of-the-operator"})).await
}

#[tokio::test]
async fn every_parameter_arrives_as_it_was_sent_and_none_of_ours() {
    let upstream = Upstream::start().await;
    let app = app(&upstream).await;
    let answer = app.post_text("/v1/chat/completions", FULL_REQUEST).await;
    answer.ok();
    assert_eq!(answer.header("x-its-warnings"), None);

    let mut sent = members(FULL_REQUEST);
    for ours in [
        "budget",
        "alg",
        "tool_vote",
        "exclude_args",
        "exclude_tool_args",
        "regex_patterns",
        "vote_on",
        "stop_rule",
        "diversity_temperature",
        "return_response_only",
        "n",
    ] {
        assert!(sent.remove(ours).is_some(), "{ours}");
    }
    let seen = upstream.seen();
    let mut arrived = members(seen[0].text());
    // A bias is a number, however it is written; everything else is the same byte for byte, but for spaces
    // between the elements of a list of texts.
    let (bias, stop) = (sent.remove("logit_bias").unwrap(), sent.remove("stop").unwrap());
    assert_eq!(number_of_bias(&arrived.remove("logit_bias").unwrap()), number_of_bias(&bias));
    assert_eq!(value(&arrived.remove("stop").unwrap()), value(&stop));
    assert_eq!(arrived, sent);
}

fn number_of_bias(text: &str) -> f64 {
    value(text)["50256"].as_f64().unwrap()
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn a_vote_sends_each_candidate_the_same_but_for_the_seed() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("{}"));
    let app = app(&upstream).await;
    let request = FULL_REQUEST.replace(r#""budget": 1, "alg": "none""#, r#""budget": 3, "stop_rule": "none""#);
    let request = request.replace(r#""stop_rule": "decided", "#, "");
    app.post_text("/v1/chat/completions", &request).await.ok();
    let bodies: Vec<_> = upstream.seen().iter().map(|seen| members(seen.text())).collect();
    assert_eq!(bodies.len(), 3);
    let without_seed = |at: usize| bodies[at].iter().filter(|(name, _)| *name != "seed").collect::<Vec<_>>();
    assert_eq!((without_seed(0), without_seed(0)), (without_seed(1), without_seed(2)));
    assert_eq!(bodies[0]["messages"], members(&request)["messages"]);
}

#[tokio::test]
async fn an_unknown_field_goes_upstream_with_a_warning_unless_strict() {
    let upstream = Upstream::start().await;
    let app = app(&upstream).await;
    let request = json!({
        "model": "scripted", "messages": [{"role": "user", "content": "?"}], "guided_regex": "a|b",
        "return_response_only": false
    });
    let answer = app.post("/v1/chat/completions", &request).await;
    let warning = answer.header("x-its-warnings").expect("a warning").to_owned();
    assert!(warning.contains("guided_regex"), "{warning}");
    assert_eq!(answer.ok()["metadata"]["warnings"], json!([warning]));
    assert_eq!(upstream.seen()[0].json()["guided_regex"], "a|b");

    let error = app.post("/v1/chat/completions?strict=true", &request).await.error(400);
    assert_eq!((&error["param"], &error["code"]), (&json!("guided_regex"), &json!("unknown_field")));
    let misspelt = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}], "temprature": 1});
    let error = app.post("/v1/chat/completions?strict=true", &misspelt).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("did you mean `temperature`?"), "{error}");
    app.post_text("/v1/chat/completions?strict=true", FULL_REQUEST).await.ok();
    assert_eq!(upstream.counters().requests, 2);
}

#[tokio::test]
async fn the_clients_own_headers_stay_here() {
    let upstream = Upstream::start().await;
    let app = app(&upstream).await;
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]}).to_string();
    let request = app
        .json_request("/v1/chat/completions", &body)
        .header("authorization", "Bearer sk-of-the-client")
        .header("x-api-key", "sk-of-the-client")
        .header("cookie", "session=sk-of-the-client")
        .header("x-forwarded-for", "10.1.2.3")
        .header("openai-organization", "org-of-the-client");
    receive(request).await.ok();
    let seen = upstream.seen();
    assert_eq!(seen[0].request.header("authorization"), Some("Bearer sk-of-the-operator"));
    for (name, value) in &seen[0].request.headers {
        assert!(!value.contains("of-the-client") && !value.contains("10.1.2.3"), "{name}: {value}");
    }
}

#[tokio::test]
async fn without_a_key_of_the_operators_none_is_sent() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]}).to_string();
    let request = app.json_request("/v1/chat/completions", &body).header("authorization", "Bearer sk-of-the-client");
    receive(request).await.ok();
    assert_eq!(upstream.seen()[0].request.header("authorization"), None);
}

#[tokio::test]
async fn the_model_goes_upstream_under_the_name_that_it_has_there() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "model": "Qwen/Qwen3-8B", "budget": 1, "model_mapping": {"fast": "vendor/tiny-1"}, "allow_any_model": true
    });
    let app = spawn_app_for(&upstream, fields).await;
    for (asked, sent) in [("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"), ("fast", "vendor/tiny-1"), ("other:7b", "other:7b")] {
        let body = app.chat(json!({"model": asked})).await.ok();
        assert_eq!(body["model"], asked, "the model is named as the client named it");
        assert_eq!(upstream.seen().last().unwrap().json()["model"], sent);
    }
}

#[tokio::test]
async fn what_the_configuration_adds_is_sent_where_the_request_is_silent() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "budget": 1, "temperature": 0.2, "max_tokens": 50, "stop": "END", "seed": 5,
        "extra_args": {"headers": {"X-Title": "test"}, "reasoning_effort": "high", "provider": {"order": ["a"]}}
    });
    let app = spawn_app_for(&upstream, fields).await;
    app.chat(json!({})).await.ok();
    let named = json!({
        "temperature": 0.9, "max_completion_tokens": 7, "stop": ["A", "B"], "seed": 6, "reasoning_effort": "low",
        "provider": {"order": ["b"]}
    });
    app.chat(named.clone()).await.ok();
    let seen = upstream.seen();
    let sent = seen[0].json();
    assert_eq!(seen[0].request.header("x-title"), Some("test"));
    assert_eq!((&sent["temperature"], &sent["max_tokens"], &sent["seed"]), (&json!(0.2), &json!(50), &json!(5)));
    assert_eq!((value(&sent["stop"].to_string()), &sent["reasoning_effort"]), (sent["stop"].clone(), &json!("high")));
    assert!(sent["stop"] == "END" || sent["stop"] == json!(["END"]), "{sent}");
    assert_eq!(sent["provider"], json!({"order": ["a"]}));
    let sent = seen[1].json();
    for (name, value) in named.as_object().unwrap() {
        assert_eq!(&sent[name], value, "{name}");
    }
    assert_eq!(sent.get("max_tokens"), None, "one setting is sent under one name");

    // Some models refuse the older name, so that the configuration chooses.
    app.configure(&upstream, json!({"budget": 1, "max_completion_tokens": 60})).await;
    app.chat(json!({})).await.ok();
    let sent = upstream.seen()[2].json();
    assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(60), None));
}

#[tokio::test]
async fn the_operators_key_goes_where_the_operator_said_and_nowhere_else() {
    let (own, foreign) = (Upstream::start().await, Upstream::start().await);
    let address = own.base_url();
    let environment = [("OPENAI_API_KEY", "sk-of-the-operator"), ("OPENAI_BASE_URL", address.as_str())];
    let app = spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), &environment, |_| {}).await;
    let auto = json!({"provider": "openai", "endpoint": "auto", "model": "scripted", "budget": 1});
    assert_eq!(app.post("/configure", &auto).await.ok()["warnings"], json!([]));
    app.chat(json!({})).await.ok();
    assert_eq!(own.seen()[0].request.header("authorization"), Some("Bearer sk-of-the-operator"));

    let elsewhere = app.configure(&foreign, json!({"provider": "openai", "budget": 1})).await;
    assert!(elsewhere["warnings"][0].as_str().unwrap().contains("OPENAI_API_KEY"), "{elsewhere}");
    app.chat(json!({})).await.ok();
    assert_eq!(foreign.seen()[0].request.header("authorization"), None);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let (upstream, elsewhere) = (Upstream::start().await, Upstream::start().await);
    let location = format!("{}/chat/completions", elsewhere.base_url());
    upstream.answer_with(move |_| Step::status(307, "").header("location", &location));
    let app = app(&upstream).await;
    let error = app.chat(json!({})).await.error(502);
    assert_eq!((&error["type"], elsewhere.counters().connections), (&json!("upstream_error"), 0), "{error}");
}
