//! `/configure`: what it takes, what it refuses, what it shows, and what a restart brings back.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::app::{document, receive, spawn_app, spawn_app_for, spawn_app_in};
use crate::upstream::Upstream;

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_configuration_is_set_told_and_used() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let before = app.get("/configure").await.ok();
    assert_eq!((&before["model"], &before["revision"]), (&json!("arithmetic-demo"), &json!(0)));
    let told = app.configure(&upstream, json!({"alg": "self_consistency", "budget": 2})).await;
    assert_eq!(
        told,
        json!({"status": "success", "message": "Initialized scripted with self-consistency algorithm", "revision": 1, "warnings": []})
    );
    assert_eq!(upstream.counters().connections, 0, "configuring makes no network call");

    let shown = app.get("/configure").await;
    assert_eq!((shown.header("etag"), shown.header("cache-control")), (Some("\"1\""), Some("no-store")));
    let shown = shown.ok();
    assert_eq!((&shown["budget"], &shown["endpoint"]), (&json!(2), &json!(upstream.base_url())));
    assert_eq!(shown["content_hash"].as_str().unwrap().len(), 64);
    app.chat(json!({})).await.ok();
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.requests, 2);
}

#[tokio::test]
async fn a_prefix_that_chooses_no_provider_here_is_warned_of() {
    let app = spawn_app().await;
    for (model, warns) in [("anthropic/claude-sonnet-4", true), ("Qwen/Qwen3-8B", false), ("openai/gpt-4o", false)] {
        let document = json!({"provider": "litellm", "model": model, "api_key": "sk-test"});
        let told = app.post("/configure?validate_only=true", &document).await.ok();
        let warnings = told["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), usize::from(warns), "{told}");
        assert!(warnings.iter().all(|warning| warning.as_str().unwrap().contains("`anthropic/`")), "{told}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_field_that_cannot_be_is_named_and_nothing_changes() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    for (fields, param, code, words) in [
        (json!({"buget": 3}), "buget", "unknown_field", "`budget`"),
        (json!({"apikey": "k"}), "apikey", "unknown_field", "`api_key`"),
        (json!({"zzzzzz": 1}), "zzzzzz", "unknown_field", "zzzzzz"),
        (json!({"model": null}), "model", "missing_field", "model"),
        (json!({"budget": 0}), "budget", "invalid_value", "1"),
        (json!({"budget": 1001}), "budget", "invalid_value", "1000"),
        (json!({"budget": 2.5}), "budget", "invalid_value", "budget"),
        (json!({"temperature": 3}), "temperature", "invalid_value", "2"),
        (json!({"alg": "self-consistancy"}), "alg", "invalid_value", "self-consistency"),
        (json!({"provider": "opnai"}), "provider", "invalid_value", "openai"),
        (json!({"endpoint": "gateway"}), "endpoint", "invalid_value", "endpoint"),
        (json!({"endpoint": "http://10.0.0.1/v1"}), "endpoint", "invalid_value", "http"),
        (json!({"endpoint": "http://169.254.169.254/v1"}), "endpoint", "invalid_value", "endpoint"),
        (json!({"api_key": "env:NOT_SET"}), "api_key", "invalid_value", "NOT_SET"),
        (json!({"n_parallel": 0}), "n_parallel", "invalid_value", "n_parallel"),
        (json!({"regex_patterns": ["("]}), "regex_patterns", "invalid_value", "regular expression"),
        (json!({"extra_args": {"model": "m"}}), "extra_args.model", "invalid_value", "model"),
        (
            json!({"extra_args": {"headers": {"content-length": "1"}}}),
            "extra_args.headers.content-length",
            "invalid_value",
            "content-length",
        ),
        (
            json!({"provider": "llama", "endpoint": null, "max_retries": null, "model": "no-such-model"}),
            "model",
            "invalid_value",
            "arithmetic-demo",
        ),
        (json!({"judge_criterion": "overal_quality"}), "judge_criterion", "invalid_value", "overall_quality"),
        (json!({"alg": "best-of-n"}), "rm_name", "invalid_value", "llm-judge"),
        (json!({"lookahead": 2}), "lookahead", "not_supported_yet", "lookahead"),
        (json!({"rm_name": "prm"}), "rm_name", "not_supported_yet", "rm_name"),
        (json!({"alg": "dvts"}), "alg", "not_supported_yet", "dvts"),
        (json!({"alg": "beam-search", "rm_name": "entropy"}), "alg", "invalid_value", "partial answer"),
        (json!({"alg": "particle-filtering"}), "alg", "invalid_value", "`provider` `llama`"),
        (json!({"temperature_switch": [1, "a"]}), "temperature_switch", "invalid_value", "a temperature and two texts"),
        (json!({"provider": "bedrock"}), "extra_args.aws_region_name", "missing_field", "AWS_REGION"),
        (json!({"limits": {"deadline": 5}}), "limits.deadline", "unknown_field", "deadline_ms"),
        (json!({"limits": {"max_cost_usd": 1}}), "limits.max_cost_usd", "invalid_value", "prices"),
        (json!({"prices": {"m": {"prompt": -1}}}), "prices.m.prompt", "invalid_value", "prompt"),
        (json!({"allow_request_endpoint": "yes"}), "allow_request_endpoint", "invalid_value", "true or false"),
        (json!({"extra_args": {"aws_region_name": "eu"}}), "extra_args.aws_region_name", "invalid_value", "Bedrock"),
    ] {
        let answer = app.post("/configure", &document(&upstream, fields.clone())).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text);
        let error = answer.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{fields}: {error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{fields}: {error}");
    }
    assert_eq!(app.get("/configure").await.ok(), before);
}

#[tokio::test]
async fn validating_builds_everything_and_changes_nothing() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    let other = document(&upstream, json!({"budget": 5, "model": "other"}));
    let told = app.post("/configure?validate_only=true", &other).await.ok();
    assert_eq!(
        (&told["revision"], &told["message"]),
        (&json!(1), &json!("other with self-consistency algorithm is valid; nothing was changed"))
    );
    assert_eq!(app.get("/configure").await.ok(), before);
    let wrong = document(&upstream, json!({"budget": 0}));
    assert_eq!(app.post("/configure?validate_only=true", &wrong).await.error(400)["param"], "budget");
    assert_eq!(app.post("/configure", &other).await.ok()["revision"], 2, "no number was used up");
}

#[tokio::test]
async fn a_change_made_from_an_older_revision_is_refused() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let body = document(&upstream, json!({"budget": 3})).to_string();
    let change = |if_match: &'static str| receive(app.json_request("/configure", &body).header("if-match", if_match));
    assert_eq!(change("\"1\"").await.ok()["revision"], 2);
    let error = change("\"1\"").await.error(412);
    assert_eq!((&error["type"], &error["code"]), (&json!("invalid_request_error"), &json!("revision_conflict")));
    assert_eq!(change("*").await.ok()["revision"], 3);
    assert_eq!(change("three").await.error(400)["param"], "If-Match");

    // A document that was read says itself what it was made from.
    let mut read = app.get("/configure").await.ok();
    read["budget"] = json!(7);
    assert_eq!(app.post("/configure", &read).await.ok()["revision"], 4);
    assert_eq!(app.post("/configure", &read).await.error(412)["code"], "revision_conflict");
}

#[tokio::test]
async fn of_two_changes_made_from_one_revision_one_is_made() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({})).await;
    let changes = (0..8).map(|at| {
        let body = document(&upstream, json!({"budget": at + 1})).to_string();
        receive(app.json_request("/configure", &body).header("if-match", "\"1\""))
    });
    let mut statuses: Vec<_> =
        futures_util::future::join_all(changes).await.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412, 412, 412, 412, 412, 412]);
}

#[tokio::test]
async fn keys_are_shown_as_fingerprints_and_sent_back_keep_their_value() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "budget": 1, "api_key": "sk-literal-0123456789",
        "extra_args": {"headers": {"X-Secret": "hdr-literal-0123456789"}, "session_token": "body-literal-0123456789", "top_a": 1}
    });
    let app = spawn_app_for(&upstream, fields).await;
    let shown = app.get("/configure").await;
    assert!(!shown.text.contains("literal"), "{}", shown.text);
    let mut shown = shown.ok();
    assert_eq!(shown["extra_args"]["top_a"], 1);
    shown["budget"] = json!(2);
    assert_eq!(app.post("/configure", &shown).await.ok()["revision"], 2);
    app.chat(json!({"budget": 1})).await.ok();
    let seen = &upstream.seen()[0];
    assert_eq!(seen.request.header("authorization"), Some("Bearer sk-literal-0123456789"));
    assert_eq!(seen.request.header("x-secret"), Some("hdr-literal-0123456789"));
    assert_eq!(seen.json()["session_token"], "body-literal-0123456789");

    // The fingerprint of another key stands for nothing.
    let fingerprint = shown["api_key"].clone();
    let fields = json!({"api_key": "sk-another-0123456789"});
    app.configure(&upstream, fields).await;
    let error = app.post("/configure", &document(&upstream, json!({"api_key": fingerprint}))).await.error(400);
    assert_eq!(error["param"], "api_key");
}

#[tokio::test]
async fn a_restart_brings_the_last_configuration_back_with_its_keys() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    app.configure(
        &upstream,
        json!({"budget": 2, "api_key": "sk-literal-0123456789", "model_mapping": {"fast": "tiny"}}),
    )
    .await;
    let before = app.get("/configure").await.ok();
    assert_eq!(before["revision"], 2);
    let state_dir = app.stop();

    let app = spawn_app_in(Arc::clone(&state_dir), &[], |_| {}).await;
    assert_eq!(app.get("/configure").await.ok(), before);
    app.assert_ready().await;
    let answer = app.chat(json!({"model": "fast", "budget": 1})).await;
    answer.ok();
    assert_eq!(answer.header("x-its-revision"), Some("2"));
    let seen = &upstream.seen()[0];
    assert_eq!(seen.request.header("authorization"), Some("Bearer sk-literal-0123456789"));
    assert_eq!(seen.json()["model"], "tiny");
    assert_eq!(app.configure(&upstream, json!({})).await["revision"], 3);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_reference_is_kept_as_one_and_read_anew_at_a_restart() {
    let upstream = Upstream::start().await;
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let app = spawn_app_in(Arc::clone(&state_dir), &[("TEAM_KEY", "sk-first-0123456789")], |_| {}).await;
    app.configure(&upstream, json!({"budget": 1, "api_key": "env:TEAM_KEY"})).await;
    assert_eq!(app.get("/configure").await.ok()["api_key"], "env:TEAM_KEY");
    drop(app.stop());

    let app = spawn_app_in(Arc::clone(&state_dir), &[("TEAM_KEY", "sk-second-0123456789")], |_| {}).await;
    app.chat(json!({})).await.ok();
    assert_eq!(upstream.seen()[0].request.header("authorization"), Some("Bearer sk-second-0123456789"));
    drop(app.stop());

    // What cannot be restored makes room for what can, and the next number is still a new one.
    let app = spawn_app_in(state_dir, &[], |_| {}).await;
    let shown: Value = app.get("/configure").await.ok();
    assert_eq!((&shown["model"], &shown["revision"]), (&json!("arithmetic-demo"), &json!(0)));
    let ready = app.get("/ready").await.ok();
    let warning = ready["warnings"][0].as_str().unwrap();
    assert!(warning.contains("revision 1") && warning.contains("TEAM_KEY"), "{ready}");
    assert_eq!(app.configure(&upstream, json!({})).await["revision"], 2);
    app.assert_ready().await;
}

#[tokio::test]
async fn the_files_configuration_is_applied_once_and_again_when_it_has_changed() {
    let upstream = Upstream::start().await;
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let start = async |model: &str| {
        let active = document(&upstream, json!({"model": model})).as_object().unwrap().clone();
        spawn_app_in(Arc::clone(&state_dir), &[], |settings| settings.active = Some(active)).await
    };
    let active = |shown: Value| (shown["revision"].as_i64().unwrap(), shown["model"].as_str().unwrap().to_owned());

    let app = start("of-the-file").await;
    assert_eq!(active(app.get("/configure").await.ok()), (1, "of-the-file".to_owned()));
    app.configure(&upstream, json!({"model": "of-a-client"})).await;
    drop(app.stop());
    let app = start("of-the-file").await;
    assert_eq!(active(app.get("/configure").await.ok()), (2, "of-a-client".to_owned()), "the file has not changed");
    drop(app.stop());
    let app = start("of-the-new-file").await;
    assert_eq!(active(app.get("/configure").await.ok()), (3, "of-the-new-file".to_owned()));
}
