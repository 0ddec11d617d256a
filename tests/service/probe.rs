//! `?probe=true`: the endpoint is asked what it can do, and what it says becomes part of the configuration.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::app::{Answer, TestApp, document, receive, spawn_app, spawn_app_for, spawn_app_in};
use crate::upstream::{Call, Point, Seen, Step, Upstream};

async fn probe(app: &TestApp, upstream: &Upstream, fields: Value) -> Answer {
    app.post("/configure?probe=true", &document(upstream, fields)).await
}

/// What a configuration has of one model.
fn cells_of<'a>(shown: &'a Value, model: &str) -> &'a Value {
    &shown["extra_args"]["capabilities"]["models"][model]
}

fn refusal(param: Option<&str>, message: &str) -> Step {
    let error = json!({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": null}});
    Step::status(400, &error.to_string())
}

fn call(name: &str) -> Step {
    Step { tool_calls: vec![Call { id: None, name: name.to_owned(), arguments: "{}".to_owned() }], ..Step::default() }
}

/// What OpenAI does with the questions.
fn honours_all(seen: &Seen) -> Step {
    let body = seen.json();
    if let Some(name) = body["tool_choice"]["function"]["name"].as_str() {
        return call(name);
    }
    match body["response_format"]["type"] == "json_schema" {
        true => Step::content(r#"{"ok":true}"#),
        false => Step::content("Hello"),
    }
}

#[tokio::test]
async fn what_an_endpoint_honours_is_found_in_three_calls_and_kept_over_a_restart() {
    let upstream = Upstream::start().await;
    upstream.answer_with(honours_all);
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"budget": 2})).await.ok();
    let found = json!({
        "n": true, "sampling": true, "seed": true, "logprobs": true, "max_top_logprobs": 20, "tools": true,
        "forced_tool": "named", "json_schema": true, "stream_usage": true
    });
    assert_eq!(
        told["probe"],
        json!({"calls": 3, "found": found, "differs": {}, "kept": [], "notes": []}),
        "nothing was known of it"
    );
    assert_eq!(told["warnings"], json!([]));
    assert_eq!(upstream.counters().requests, 3);
    let shown = app.get("/configure").await.ok();
    assert_eq!((cells_of(&shown, "scripted"), &shown["origin"]["extra_args"]), (&found, &json!("request")));

    // Without the wish nobody is asked again.
    let told = app.post("/configure", &shown).await.ok();
    assert_eq!(told.get("probe"), None);
    let state_dir = app.stop();
    let app = spawn_app_in(Arc::clone(&state_dir), &[], |_| {}).await;
    assert_eq!(cells_of(&app.get("/configure").await.ok(), "scripted"), &found);
    assert_eq!(upstream.counters().requests, 3);
}

#[tokio::test]
async fn a_server_that_takes_everything_and_honours_nothing_is_seen_through() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.json()["stream"] == true {
        // Its words, without the usage that was asked for.
        true => Step::events(concat!(
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: [DONE]\n\n"
        )),
        false => Step::body(
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}"#,
        ),
    });
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"provider": "vllm", "budget": 1})).await.ok();
    let found = json!({
        "n": false, "sampling": true, "seed": true, "logprobs": false, "forced_tool": "never", "json_schema": false,
        "stream_usage": false
    });
    assert_eq!(told["probe"]["found"], found);
    assert_eq!(told["probe"]["differs"]["n"], json!({"known": true, "found": false}));
    assert_eq!(told["probe"]["differs"]["forced_tool"], json!({"known": "named", "found": "never"}));
    assert_eq!(told["probe"]["differs"].as_object().unwrap().len(), 5, "{told}");
    assert!(told["warnings"][0].as_str().unwrap().contains("`n` false, where true was known"), "{told}");

    // From then on runs go by it.
    let error = app.chat(json!({"logprobs": true})).await.error(400);
    assert_eq!(error["param"], "logprobs");
    let patch = app.client.patch(app.url("/configure")).header("content-type", "application/json");
    let error = receive(patch.body(r#"{"vote_weight":"confidence"}"#)).await.error(400);
    assert_eq!(error["param"], "vote_weight");
}

#[tokio::test]
async fn a_question_that_is_refused_is_asked_again_without_what_is_refused() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| {
        let body = seen.json();
        if !body["max_tokens"].is_null() {
            let message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return refusal(Some("max_tokens"), message);
        }
        if body["top_logprobs"].as_u64() > Some(5) {
            return refusal(Some("top_logprobs"), "top_logprobs must be at most 5");
        }
        if body["n"] == 2 {
            return refusal(None, "'n' : number must be at most 1");
        }
        if body["tool_choice"].is_object() {
            let message = "Invalid tool_choice type: 'object'. Supported string values: none, auto, required";
            return Step::status(400, &json!({"error": message}).to_string());
        }
        if body["tool_choice"] == "required" {
            return call("note_one");
        }
        match body["response_format"]["type"].as_str() {
            Some("json_schema") => refusal(Some("response_format"), "This model takes no response format json_schema"),
            Some(_) => Step::content("{}"),
            None => Step::content("Hello"),
        }
    });
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"budget": 1})).await.ok();
    let expected = json!({
        "length_limit": "max_completion_tokens", "max_top_logprobs": 5, "logprobs": true, "n": false,
        "sampling": true, "seed": true, "tools": true, "forced_tool": "required", "json_schema": false,
        "json_object": true, "stream_usage": true
    });
    assert_eq!(told["probe"]["found"], expected);
    assert_eq!(told["probe"]["notes"], json!([]));
    // Four for the first question, of which each refusal taught something, then two and two.
    assert_eq!((&told["probe"]["calls"], upstream.counters().requests), (&json!(8), 8));
}

#[tokio::test]
async fn parameters_that_a_reasoning_model_refuses_are_found_one_after_the_other() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| {
        let body = seen.json();
        for name in ["temperature", "logprobs", "seed", "stream_options"] {
            if !body[name].is_null() {
                return refusal(
                    Some(name),
                    &format!("Unsupported parameter: '{name}' is not supported with this model."),
                );
            }
        }
        honours_all(seen)
    });
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"budget": 1})).await.ok();
    let found = &told["probe"]["found"];
    for column in ["sampling", "logprobs", "seed", "stream_usage"] {
        assert_eq!(found[column], false, "{column}: {told}");
    }
    assert_eq!((&found["n"], &found["json_schema"]), (&json!(true), &json!(true)), "{told}");
    assert_eq!(found.get("max_top_logprobs"), None);
}

#[tokio::test]
async fn what_is_not_learnt_is_told_and_changes_nothing() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| {
        let body = seen.json();
        if !body["tools"].is_null() {
            return Step::status(500, "template error");
        }
        match body["stream"] == true {
            // Thought until it was cut off.
            true => Step { finish_reason: Some("length".to_owned()), ..Step::content("Hmm") },
            false => Step::content("Hello"),
        }
    });
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"budget": 1})).await.ok();
    let found = &told["probe"]["found"];
    assert_eq!((found.get("tools"), found.get("forced_tool"), found.get("json_schema")), (None, None, None), "{told}");
    assert_eq!((&found["n"], &found["stream_usage"]), (&json!(true), &json!(true)));
    let notes = told["probe"]["notes"].as_array().unwrap();
    assert_eq!(notes.len(), 2, "{told}");
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("nothing was learnt of tools")), "{told}");
    assert!(notes.iter().any(|note| note.as_str().unwrap().contains("cut off")), "{told}");
    assert_eq!(told["warnings"].as_array().unwrap().len(), 2, "{told}");
}

#[tokio::test]
async fn what_the_client_says_itself_stays_and_the_rest_is_filled_in() {
    let upstream = Upstream::start().await;
    upstream.answer_with(honours_all);
    let app = spawn_app().await;
    let fields = json!({
        "model_mapping": {"scripted": "upstream-name"},
        "extra_args": {"top_a": 1, "capabilities": {"n": false, "prefill": "continued", "seed": null}}
    });
    let told = probe(&app, &upstream, fields).await.ok();
    assert_eq!((&told["probe"]["found"]["n"], &told["probe"]["kept"]), (&json!(true), &json!(["n"])));
    assert!(told["warnings"][0].as_str().unwrap().contains("`n` of `extra_args.capabilities` stays"), "{told}");
    let shown = app.get("/configure").await.ok();
    let (said, found) = (&shown["extra_args"]["capabilities"], cells_of(&shown, "upstream-name"));
    assert_eq!((&said["n"], &said["prefill"], &said["seed"]), (&json!(false), &json!("continued"), &Value::Null));
    assert_eq!((found.get("n"), &found["seed"], &found["tools"]), (None, &json!(true), &json!(true)));
    assert_eq!(shown["extra_args"]["top_a"], 1);
    for seen in upstream.seen() {
        let body = seen.json();
        assert_eq!((&body["model"], &body["top_a"]), (&json!("upstream-name"), &json!(1)));
        assert_eq!(body.get("capabilities"), None);
    }

    // A patch asks anew: what an earlier probe has found does not stand in its way.
    let patch = |path: &str, body: &str| {
        let request = app.client.patch(app.url(path)).header("content-type", "application/json");
        receive(request.body(body.to_owned()))
    };
    let told = patch("/configure?probe=true", r#"{"extra_args": {"capabilities": {"tools": false}}}"#).await.ok();
    assert_eq!(told["probe"]["kept"], json!(["n", "tools"]));
    let shown = app.get("/configure").await.ok();
    let (said, found) = (&shown["extra_args"]["capabilities"], cells_of(&shown, "upstream-name"));
    assert_eq!((&said["n"], &said["tools"], &said["prefill"]), (&json!(false), &json!(false), &json!("continued")));
    assert_eq!((found.get("n"), found.get("tools"), &found["seed"]), (None, None, &json!(true)), "{found}");
    // What is said of the model itself stays too.
    let body = r#"{"extra_args": {"capabilities": {"models": {"upstream-name": {"seed": false}}}}}"#;
    assert_eq!(patch("/configure?probe=true", body).await.ok()["probe"]["kept"], json!(["n", "seed", "tools"]));
    assert_eq!(cells_of(&app.get("/configure").await.ok(), "upstream-name")["seed"], false);
}

#[tokio::test]
async fn what_is_learnt_of_one_model_is_said_of_no_other() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.json()["logprobs"].is_null() || seen.json()["model"] == "o3" {
        true => honours_all(seen),
        false => refusal(Some("logprobs"), "logprobs are not supported"),
    });
    let app = spawn_app().await;
    let fields = json!({"budget": 1, "model_mapping": {"smart": "o3"}, "allow_any_model": true});
    assert_eq!(probe(&app, &upstream, fields).await.ok()["probe"]["found"]["logprobs"], false);
    assert_eq!(app.chat(json!({"logprobs": true})).await.error(400)["param"], "logprobs");
    app.chat(json!({"model": "smart", "logprobs": true})).await.ok();
    // It is asked for as it came, and the server says no.
    let before = upstream.counters().requests;
    app.chat(json!({"model": "other", "logprobs": true})).await.error(400);
    assert_eq!(upstream.counters().requests, before + 1);
}

#[tokio::test]
async fn nobody_waits_for_an_endpoint_that_is_asked_by_somebody_else() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| honours_all(seen).gated("asked"));
    let app = Arc::new(spawn_app_for(&upstream, json!({"budget": 2})).await);
    let ask = |method: reqwest::Method, body: Value| {
        let request = app.client.request(method, app.url("/configure?probe=true"));
        let request = request.header("content-type", "application/json").body(body.to_string());
        tokio::spawn(receive(request))
    };
    let replaced = ask(reqwest::Method::POST, document(&upstream, json!({"budget": 3})));
    let patched = ask(reqwest::Method::PATCH, json!({"budget": 4}));
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    assert_eq!(app.post("/configure", &document(&upstream, json!({"budget": 5}))).await.ok()["revision"], 2);
    upstream.open_gate("asked");
    // It was made from a revision that is not active any more.
    let error = patched.await.unwrap().error(412);
    assert_eq!(error["code"], "revision_conflict");
    assert!(error["message"].as_str().unwrap().contains("while the endpoint was asked"), "{error}");
    assert_eq!(replaced.await.unwrap().ok()["probe"]["calls"], 3);
    let shown = app.get("/configure").await.ok();
    assert_eq!((&shown["budget"], &cells_of(&shown, "scripted")["n"]), (&json!(3), &json!(true)));
}

#[tokio::test]
async fn a_client_that_leaves_is_asked_for_no_further_and_changes_nothing() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::hang_at(Point::Head));
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    let body = document(&upstream, json!({"budget": 3})).to_string();
    let asking = tokio::spawn(receive(app.json_request("/configure?probe=true", &body)));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    asking.abort();
    upstream.wait_for(|counters| counters.closed_early == 1 && counters.in_flight == 0).await;
    assert_eq!((app.get("/configure").await.ok(), upstream.counters().requests), (before, 1));
}

#[tokio::test]
async fn log_probabilities_in_a_shape_of_its_own_are_seen() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.json()["logprobs"].is_null() {
        true => honours_all(seen),
        false => Step::body(
            r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"eos",
                "logprobs":{"tokens":["Hi"],"token_logprobs":[-0.5],"token_ids":[7]}}]}"#,
        ),
    });
    let app = spawn_app().await;
    let told = probe(&app, &upstream, json!({"budget": 1})).await.ok();
    let found = &told["probe"]["found"];
    assert_eq!((&found["logprobs"], &found["max_top_logprobs"]), (&json!(true), &json!(0)), "{told}");
}

#[tokio::test]
async fn validating_tells_what_would_be_found_and_commits_nothing() {
    let upstream = Upstream::start().await;
    upstream.answer_with(honours_all);
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    let other = document(&upstream, json!({"budget": 3}));
    let told = app.post("/configure?validate_only=true&probe=true", &other).await.ok();
    assert_eq!((&told["revision"], &told["probe"]["found"]["n"]), (&json!(1), &json!(true)));
    assert_eq!(app.get("/configure").await.ok(), before);
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_asked_is_named_and_nothing_changes() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    for (step, status, param, code) in [
        (Step::status(401, r#"{"error":{"message":"bad key"}}"#), 400, "api_key", "invalid_value"),
        (Step::status(403, "{}"), 400, "api_key", "invalid_value"),
        (Step::status(404, "{}"), 400, "endpoint", "invalid_value"),
        (Step::status(404, r#"{"error":"model 'x' not found"}"#), 400, "model", "invalid_value"),
        (refusal(Some("model"), "The model `scripted` does not exist"), 400, "model", "invalid_value"),
        (Step::status(500, "oops"), 502, "endpoint", "upstream_unavailable"),
        (Step::status(429, "{}"), 502, "endpoint", "rate_limit_exceeded"),
        (Step::close_at(Point::Request), 502, "endpoint", "upstream_unavailable"),
        (Step::close_at(Point::Body), 502, "endpoint", "upstream_unavailable"),
        (Step::body("<html>"), 502, "endpoint", "upstream_malformed"),
        (Step::body(r#"{"error": {"message": "no backend", "code": 503}}"#), 502, "endpoint", "upstream_unavailable"),
    ] {
        upstream.push(step.clone());
        let error = probe(&app, &upstream, json!({"budget": 5})).await.error(status);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{step:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains("could not be asked"), "{error}");
    }
    // Whatever is asked is refused, for whatever reason.
    upstream.answer_with(|_| refusal(None, "account is suspended"));
    let error = probe(&app, &upstream, json!({})).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("account is suspended"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = probe(&app, &upstream, json!({"endpoint": nobody})).await.error(502);
    assert_eq!(error["param"], "endpoint");
    assert_eq!(app.get("/configure").await.ok(), before);
}

#[tokio::test]
async fn of_several_endpoints_the_first_is_asked() {
    let (first, second) = (Upstream::start().await, Upstream::start().await);
    first.answer_with(honours_all);
    let app = spawn_app().await;
    let fields = json!({"endpoint": [first.base_url(), second.base_url()]});
    let told = probe(&app, &first, fields).await.ok();
    assert_eq!((first.counters().requests, second.counters().requests), (3, 0));
    let note = told["probe"]["notes"][0].as_str().unwrap();
    assert!(note.contains("the first of the endpoints") && note.contains(&first.address().to_string()), "{told}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_after_the_time_of_a_call() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::hang_at(Point::Head));
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let error = probe(&app, &upstream, json!({"timeout_ms": 50})).await.error(502);
    assert_eq!((&error["param"], &error["code"]), (&json!("endpoint"), &json!("upstream_timeout")));
    upstream.wait_for(|counters| counters.closed_early == 1 && counters.in_flight == 0).await;
}

#[tokio::test]
async fn a_key_reaches_the_endpoint_and_no_answer() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(401, r#"{"error":{"message":"Incorrect API key provided: sk-literal-0123456789"}}"#));
    let app = spawn_app().await;
    let fields = json!({"api_key": "sk-literal-0123456789"});
    let answer = probe(&app, &upstream, fields.clone()).await;
    assert_eq!((answer.status, answer.text.contains("sk-literal")), (400, false), "{}", answer.text);
    upstream.answer_with(honours_all);
    let answer = probe(&app, &upstream, fields).await;
    assert_eq!((answer.status, answer.text.contains("sk-literal")), (200, false), "{}", answer.text);
    assert!(
        upstream.seen().iter().all(|seen| seen.request.header("authorization") == Some("Bearer sk-literal-0123456789"))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_document_is_told_before_anybody_is_asked() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    for (fields, param) in [
        (json!({"budget": 0}), "budget"),
        (json!({"endpoint": "http://169.254.169.254/v1"}), "endpoint"),
        (json!({"extra_args": {"capabilities": {"n": 1}}}), "extra_args.capabilities.n"),
        // What only shows when all of it is built.
        (json!({"stop": ["a", "b"], "extra_args": {"capabilities": {"max_stop": 1}}}), "stop"),
        (json!({"extra_args": {"headers": {"X": "env:NOT_THERE"}}}), "extra_args.headers.X"),
        (json!({"provider": "llama", "endpoint": null, "max_retries": null, "model": "arithmetic-demo"}), "probe"),
    ] {
        assert_eq!(probe(&app, &upstream, fields.clone()).await.error(400)["param"], param, "{fields}");
    }
    assert_eq!(upstream.counters().requests, 0);
}
