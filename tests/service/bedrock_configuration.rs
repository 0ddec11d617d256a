//! AWS Bedrock as a configuration names it: its_hub's examples as they stand, regions, addresses, names of models, and
//! what of a configuration outlives the daemon. The stub checks every signature.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, receive, spawn_app_in};
use crate::bedrock_stub::{
    ACCESS_KEY_ID, BEARER_KEY, BedrockStub, Block, Control, Credentials, ModelRules, SECRET_ACCESS_KEY, Seen, Step,
};

pub const MODEL: &str = "us.anthropic.claude-3-7-sonnet-20250219-v1:0";

/// A daemon whose operator has named these variables.
pub async fn app_in(environment: &[(&str, &str)]) -> TestApp {
    spawn_app_in(Arc::new(tempfile::tempdir().unwrap()), environment, |_| {}).await
}

/// A daemon whose operator has named the stub as Bedrock's address.
pub async fn app_at(stub: &BedrockStub) -> TestApp {
    app_in(&[("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &stub.url())]).await
}

/// A configuration with the stub's keys, with `fields` put over it; null takes a field away.
pub fn document(fields: Value) -> Value {
    let mut document = json!({
        "provider": "litellm", "model": format!("bedrock/{MODEL}"), "budget": 1, "max_retries": 0,
        "extra_args": {
            "aws_access_key_id": ACCESS_KEY_ID, "aws_secret_access_key": SECRET_ACCESS_KEY,
            "aws_region_name": "us-east-1"
        }
    });
    let object = document.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    object.retain(|_, value| !value.is_null());
    document
}

pub async fn ask(app: &TestApp, fields: Value) -> Answer {
    let mut request = json!({
        "model": format!("bedrock/{MODEL}"), "messages": [{"role": "user", "content": "What is 6 times 7?"}]
    });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post("/v1/chat/completions", &request).await
}

/// The only request since the last time this was called, which the stub has let in.
#[track_caller]
pub fn one_call(stub: &BedrockStub) -> Seen {
    let mut calls = stub.requests();
    stub.control(Control { reset: true, ..Control::default() });
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0].refused, None);
    calls.remove(0)
}

/// The document that an example of its_hub's manual sends.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/seeds/its-hub").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, document) = text.split_once("-d '").unwrap();
    document.trim_end().trim_end_matches('\'').to_owned()
}

/// A stub that knows the keys of its_hub's manual.
async fn stub_of_the_manual() -> BedrockStub {
    let stub = BedrockStub::start().await;
    let credentials = Some(vec![Credentials::new("your-access-key", "your-secret-key")]);
    stub.control(Control { credentials, ..Control::default() });
    stub
}

#[tokio::test]
async fn the_vote_of_its_hubs_manual_works_as_it_stands() {
    let stub = stub_of_the_manual().await;
    let app = app_at(&stub).await;
    let told = app.post_text("/configure", &example("configure-bedrock-tool-vote.sh")).await.ok();
    assert_eq!(told["message"], format!("Initialized bedrock/{MODEL} with self-consistency algorithm"));
    assert_eq!(told["warnings"], json!([]));
    stub.answer_with(|seen| Step::text(if seen.number == 1 { "41" } else { "42" }));
    assert_eq!(ask(&app, json!({"budget": 3})).await.content(), "42");
    let calls = stub.requests();
    assert!(calls.iter().all(|call| call.refused.is_none() && call.model_id == MODEL), "{calls:?}");
    assert_eq!(calls[0].key_id.as_deref(), Some("your-access-key"));
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.lines().any(|line| line.contains("provider=\"bedrock\"")), "{metrics}");
}

#[tokio::test]
async fn the_judge_of_its_hubs_manual_works_as_it_stands() {
    let stub = stub_of_the_manual().await;
    let app = app_at(&stub).await;
    let told = app.post_text("/configure", &example("configure-bedrock-judge.sh")).await.ok();
    assert_eq!(told["message"], format!("Initialized bedrock/{MODEL} with best-of-n algorithm"));
    stub.answer_with(|seen| match seen.json()["system"].is_null() {
        true => Step::text(&format!("It is {}.", 41 + seen.number)),
        false => Step::text(r#"{"reasoning": "it is right", "selected_indices": [0]}"#),
    });
    let answer = ask(&app, json!({"budget": 3, "return_response_only": false})).await.ok();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.starts_with("It is 4"), "{said}");
    let judged: Vec<Value> = stub.requests().iter().map(Seen::json).filter(|body| !body["system"].is_null()).collect();
    let [judged] = judged.as_slice() else { panic!("there is one judgement: {judged:?}") };
    assert_eq!(judged["inferenceConfig"], json!({"maxTokens": 2048, "temperature": 0.7}));
}

#[tokio::test]
async fn a_stream_comes_as_chunks_and_ends_with_its_usage() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    app.post("/configure", &document(json!({"provider": "bedrock"}))).await.ok();
    stub.push(Step { usage: Some(json!({"inputTokens": 11, "outputTokens": 3})), ..Step::text("forty-two it is") });
    let chunks = ask(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await.events();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "forty-two it is");
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "stop"), "{chunks:?}");
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 14);
    assert!(one_call(&stub).is_stream);
}

#[tokio::test]
async fn models_are_named_with_and_without_prefix_by_profile_and_by_arn() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3";
    for (provider, model, expected) in [
        ("litellm", format!("bedrock/{MODEL}"), MODEL),
        ("bedrock", format!("bedrock/{MODEL}"), MODEL),
        ("bedrock", MODEL.to_owned(), MODEL),
        ("litellm", "bedrock/converse/amazon.nova-lite-v1:0".to_owned(), "amazon.nova-lite-v1:0"),
        ("litellm", format!("bedrock/{arn}"), arn),
        ("bedrock", arn.to_owned(), arn),
    ] {
        let fields = json!({"provider": provider, "model": model, "model_mapping": {"fast": model}});
        assert_eq!(app.post("/configure", &document(fields)).await.ok()["warnings"], json!([]));
        for name in [model.as_str(), "fast"] {
            ask(&app, json!({"model": name})).await.ok();
            assert_eq!(one_call(&stub).model_id, expected, "{provider} {name}");
        }
        let listed = app.get("/v1/models").await.ok();
        let ids: Vec<&str> =
            listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert!(ids.contains(&model.as_str()) && ids.contains(&"fast"), "{ids:?}");
    }
}

#[tokio::test]
async fn the_region_is_the_configurations_else_the_arns_else_the_operators() {
    let stub = BedrockStub::start().await;
    let address = stub.url();
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("config");
    std::fs::write(&config, "[default]\nregion = eu-west-3\n[profile other]\nregion = eu-south-1\n").unwrap();
    let config = config.to_str().unwrap();
    let arn = "arn:aws:bedrock:ap-south-1:123456789012:inference-profile/eu.x.y";
    for (variables, model, named, expected) in [
        (vec![("AWS_REGION", "eu-north-1")], MODEL, Some("us-west-2"), "us-west-2"),
        (vec![("AWS_REGION", "eu-north-1")], arn, None, "ap-south-1"),
        (vec![("AWS_REGION", "eu-north-1"), ("AWS_DEFAULT_REGION", "eu-west-1")], MODEL, None, "eu-north-1"),
        (vec![("AWS_REGION_NAME", "eu-central-1"), ("AWS_REGION", "eu-north-1")], MODEL, None, "eu-central-1"),
        (vec![("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_CONFIG_FILE", config)], MODEL, None, "eu-west-1"),
        (vec![("AWS_CONFIG_FILE", config)], MODEL, None, "eu-west-3"),
        (vec![("AWS_CONFIG_FILE", config), ("AWS_PROFILE", "other")], MODEL, None, "eu-south-1"),
    ] {
        let app = app_in(&[vec![("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", address.as_str())], variables].concat()).await;
        let mut document = document(json!({"provider": "bedrock", "model": model}));
        document["extra_args"]["aws_region_name"] = json!(named);
        app.post("/configure", &document).await.ok();
        stub.control(Control { region: Some(expected.to_owned()), ..Control::default() });
        ask(&app, json!({"model": model})).await.ok();
        one_call(&stub);
    }
    let app = app_at(&stub).await;
    let told = app.post("/configure", &document(json!({"provider": "bedrock", "model": arn}))).await.ok();
    let warnings = told["warnings"].to_string();
    assert!(warnings.contains("region ap-south-1") && warnings.contains("called in us-east-1"), "{warnings}");
}

#[tokio::test]
async fn the_address_is_the_configurations_else_the_operators() {
    let (stub, other) = (BedrockStub::start().await, BedrockStub::start().await);
    let (address, elsewhere) = (stub.url(), other.url());
    let keys = document(json!({}))["extra_args"].clone();
    let mut with_address = keys.clone();
    with_address["aws_bedrock_runtime_endpoint"] = json!(address);
    let below = format!("{address}/gateway/bedrock/");
    for (variables, fields) in [
        (vec![], json!({"endpoint": address})),
        (vec![], json!({"endpoint": below})),
        (vec![], json!({"extra_args": with_address})),
        (vec![("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", address.as_str())], json!({"endpoint": "auto"})),
        (vec![("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &address), ("AWS_ENDPOINT_URL", &elsewhere)], json!({})),
        (vec![("AWS_BEDROCK_RUNTIME_ENDPOINT", &address), ("AWS_ENDPOINT_URL", &elsewhere)], json!({})),
        (vec![("AWS_ENDPOINT_URL", &address)], json!({})),
        (vec![("AWS_ENDPOINT_URL", &elsewhere)], json!({"endpoint": address})),
    ] {
        let app = app_in(&variables).await;
        app.post("/configure", &document(fields.clone())).await.ok();
        ask(&app, json!({})).await.ok();
        one_call(&stub);
        assert_eq!(other.requests().len(), 0, "{fields}");
    }
    // Without any of them it is the region's own.
    let app = app_in(&[]).await;
    app.post("/configure", &document(json!({}))).await.ok();
    let providers = app.get("/ready").await.ok()["providers"].to_string();
    assert!(providers.contains("https://bedrock-runtime.us-east-1.amazonaws.com"), "{providers}");
}

#[tokio::test]
async fn candidates_are_calls_of_their_own_and_raw_texts_are_refused() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    app.post("/configure", &document(json!({"use_n": "always", "budget": 4}))).await.ok();
    ask(&app, json!({"alg": "self-consistency", "stop_rule": "none"})).await.ok();
    assert_eq!(stub.counters().requests, 4);
    let text = app.post("/v1/completions", &json!({"model": format!("bedrock/{MODEL}"), "prompt": "Once"})).await;
    let error = text.error(400);
    assert_eq!(error["code"], "not_supported_yet", "{error}");
    assert!(error["message"].as_str().unwrap().contains("chat completions"), "{error}");
    let scored = document(json!({"alg": "best-of-n", "rm_name": "perplexity"}));
    assert_eq!(app.post("/configure", &scored).await.error(400)["param"], "rm_name");
}

#[tokio::test]
async fn a_pool_of_addresses_takes_turns_and_a_request_may_bring_a_key_of_its_own() {
    let (one, other) = (BedrockStub::start().await, BedrockStub::start().await);
    let app = app_in(&[]).await;
    let fields = json!({"endpoint": [one.url(), other.url()], "allow_request_endpoint": true, "max_retries": 1});
    app.post("/configure", &document(fields)).await.ok();
    one.answer_with(|_| Step::error("ServiceUnavailableException"));
    for _ in 0..4 {
        ask(&app, json!({})).await.ok();
    }
    assert!(other.counters().requests >= 4);
    let body = json!({"model": format!("bedrock/{MODEL}"), "messages": [{"role": "user", "content": "Hello"}]});
    let request = app.json_request("/v1/chat/completions", &body.to_string()).header("X-ITS-API-Key", BEARER_KEY);
    receive(request).await.ok();
    let last = other.requests().pop().unwrap();
    assert_eq!(last.request.header("authorization"), Some(format!("Bearer {BEARER_KEY}").as_str()));
}

#[tokio::test]
async fn headers_are_signed_and_fields_go_to_the_model() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let mut with_more = document(json!({}));
    with_more["extra_args"]["headers"] = json!({"X-Amzn-Bedrock-Trace": "ENABLED", "X-Team": "maths"});
    with_more["extra_args"]["top_k"] = json!(5);
    app.post("/configure", &with_more).await.ok();
    ask(&app, json!({})).await.ok();
    let call = one_call(&stub);
    assert!(call.request.header("user-agent").unwrap().contains("app/itsd"), "{call:?}");
    assert_eq!(call.request.header("x-team"), Some("maths"));
    assert_eq!(call.request.header("x-amzn-bedrock-trace"), Some("ENABLED"));
    let body = call.json();
    assert_eq!(body["additionalModelRequestFields"], json!({"top_k": 5}), "{body}");
    assert!(!body.to_string().contains("aws_"), "{body}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_it_is_configured() {
    let stub = BedrockStub::start().await;
    let address = stub.url();
    let app = app_in(&[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &address)]).await;
    let region = json!({"aws_region_name": "us-east-1"});
    let with = |more: Value| {
        let mut extra = region.clone();
        extra.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "extra_args": extra })
    };
    let id = ACCESS_KEY_ID;
    for (fields, param, code, words) in [
        (json!({"extra_args": {}}), "extra_args.aws_region_name", "missing_field", "AWS_REGION"),
        (json!({"extra_args": {"aws_region_name": "x/y"}}), "extra_args.aws_region_name", "invalid_value", "us-east-1"),
        (
            json!({"extra_args": {"aws_regoin_name": "x"}}),
            "extra_args.aws_regoin_name",
            "unknown_field",
            "aws_region_name",
        ),
        (json!({"extra_args": {"aws_role_name": "r"}}), "extra_args.aws_role_name", "invalid_value", "role_arn"),
        (with(json!({})), "extra_args.aws_access_key_id", "missing_field", "no credentials"),
        (with(json!({"aws_access_key_id": id})), "extra_args.aws_secret_access_key", "missing_field", "missing"),
        (with(json!({"aws_secret_access_key": "x"})), "extra_args.aws_access_key_id", "missing_field", "missing"),
        (with(json!({"aws_session_token": "x"})), "extra_args.aws_access_key_id", "missing_field", "missing"),
        (
            with(json!({"aws_access_key_id": "env:NO_SUCH", "aws_secret_access_key": "x"})),
            "extra_args.aws_access_key_id",
            "invalid_value",
            "NO_SUCH",
        ),
        (with(json!({"aws_profile_name": "nobody"})), "extra_args.aws_profile_name", "invalid_value", "nobody"),
        (json!({"api_key": "k-0123456789"}), "api_key", "invalid_value", "aws_access_key_id"),
        (json!({"endpoint": "https://169.254.169.254"}), "endpoint", "invalid_value", "never called"),
        (json!({"endpoint": "http://bedrock.example"}), "endpoint", "invalid_value", "outbound.allow_http"),
        (json!({"model": "gpt-4o"}), "extra_args.aws_access_key_id", "invalid_value", "Bedrock"),
    ] {
        let error = app.post("/configure", &document(fields.clone())).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{fields}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{fields}: {error}");
    }
    let both =
        with(json!({"aws_bedrock_runtime_endpoint": address, "aws_access_key_id": id, "aws_secret_access_key": "x"}));
    let both = json!({"endpoint": address, "extra_args": both["extra_args"]});
    let error = app.post("/configure", &document(both)).await.error(400);
    assert_eq!(error["param"], "extra_args.aws_bedrock_runtime_endpoint");
    assert_eq!(stub.counters().requests, 0);
}

#[tokio::test]
async fn keys_are_shown_as_fingerprints_and_outlive_the_daemon_sealed() {
    let stub = BedrockStub::start().await;
    let address = stub.url();
    let environment = [("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", address.as_str())];
    let app = app_in(&environment).await;
    app.post("/configure", &document(json!({}))).await.ok();
    let shown = app.get("/configure").await;
    assert!(!shown.text.contains(SECRET_ACCESS_KEY) && !shown.text.contains(ACCESS_KEY_ID), "{}", shown.text);
    let told = shown.ok();
    let extra = &told["extra_args"];
    assert_eq!(extra["aws_region_name"], "us-east-1", "{told}");
    for name in ["aws_access_key_id", "aws_secret_access_key"] {
        assert!(extra[name].as_str().unwrap().starts_with("sha256:"), "{told}");
    }
    // What is shown may be sent back, and a patch changes the rest alone.
    let change = app.client.patch(app.url("/configure")).header("content-type", "application/json");
    receive(change.body(json!({"budget": 2, "extra_args": {"aws_region_name": "us-east-1"}}).to_string())).await.ok();
    let app = spawn_app_in(app.stop(), &environment, |_| {}).await;
    ask(&app, json!({"budget": 1})).await.ok();
    assert_eq!(one_call(&stub).key_id.as_deref(), Some(ACCESS_KEY_ID));

    // Another region, and back again.
    let change = app.client.patch(app.url("/configure")).header("content-type", "application/json");
    receive(change.body(json!({"extra_args": {"aws_region_name": "eu-west-1"}}).to_string())).await.ok();
    stub.set_rules("*", ModelRules::default());
    ask(&app, json!({"budget": 1})).await.error(502);
    app.post("/configure/rollback", &json!({"revision": 2})).await.ok();
    ask(&app, json!({"budget": 1})).await.ok();
}

#[tokio::test]
async fn a_judge_on_bedrock_takes_the_same_credentials_or_its_own() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let judge = "eu.amazon.nova-pro-v1:0";
    let best_of = json!({
        "alg": "best-of-n", "rm_name": "llm-judge", "judge_mode": "groupwise", "judge_model": format!("bedrock/{judge}"),
        "budget": 2, "judge_fallback": "error"
    });
    let with = |more: Value| {
        let mut fields = best_of.clone();
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document(fields)
    };
    stub.answer_with(move |seen| match seen.model_id == judge {
        true => Step {
            content: vec![Block::Text(r#"{"reasoning": "r", "selected_indices": [1]}"#.into())],
            ..Step::default()
        },
        false => Step::text(&format!("It is {}.", seen.number)),
    });
    let own = json!({
        "aws_access_key_id": "AKIAJUDGE00000000000", "aws_secret_access_key": "judges-secret-0123456789",
        "aws_region_name": "us-east-1"
    });
    let home = json!({"aws_region_name": "us-east-1"});
    for (fields, expected) in [
        (with(json!({})), ACCESS_KEY_ID),
        // What goes with calls to the judge takes no credentials away.
        (with(json!({"judge_extra_args": {"top_k": 5}})), ACCESS_KEY_ID),
        (with(json!({"judge_base_url": stub.url(), "endpoint": stub.url()})), ACCESS_KEY_ID),
        (with(json!({"judge_api_key": BEARER_KEY})), "Bearer "),
        (with(json!({"api_key": BEARER_KEY, "extra_args": home})), "Bearer "),
        (with(json!({"api_key": BEARER_KEY, "extra_args": home, "judge_extra_args": own})), "AKIAJUDGE00000000000"),
        (with(json!({"judge_extra_args": own})), "AKIAJUDGE00000000000"),
        (with(json!({"judge_base_url": stub.url(), "judge_extra_args": own})), "AKIAJUDGE00000000000"),
    ] {
        let credentials = Some(vec![
            Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY),
            Credentials::new("AKIAJUDGE00000000000", "judges-secret-0123456789"),
        ]);
        stub.control(Control { credentials, ..Control::default() });
        app.post("/configure", &fields).await.ok();
        ask(&app, json!({})).await.ok();
        let calls = stub.requests();
        let judged = calls.iter().rfind(|call| call.model_id == judge).expect("the judge was asked");
        assert_eq!(judged.refused, None, "{fields}");
        assert!(judged.key_id.as_deref().unwrap().starts_with(expected), "{fields}: {judged:?}");
    }
    // A judge of Bedrock's beside a model that is none needs a region and keys of its own.
    let elsewhere =
        json!({"model": "gpt-4o", "extra_args": null, "endpoint": "http://127.0.0.1:9", "judge_base_url": stub.url()});
    let error = app.post("/configure", &with(elsewhere.clone())).await.error(400);
    assert_eq!(error["param"], "judge_extra_args.aws_region_name", "{error}");
    let mut named = with(elsewhere);
    named["judge_extra_args"] = own;
    app.post("/configure", &named).await.ok();
    // Beside a judge in AWS, what is said of AWS is for it.
    let beside = json!({"model": "gpt-4o", "endpoint": "http://127.0.0.1:9"});
    app.post("/configure", &with(beside)).await.ok();
}
