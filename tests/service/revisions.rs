//! Changing the active configuration by a patch, what was active before, the way back, and where values came from.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{Answer, TestApp, document, receive, spawn_app_for, spawn_app_in, spawn_app_with};
use crate::upstream::Upstream;

async fn patch(app: &TestApp, fields: &Value) -> Answer {
    patch_as(app, "application/merge-patch+json", fields).await
}

async fn patch_as(app: &TestApp, media_type: &str, fields: &Value) -> Answer {
    let request = app.client.request(Method::PATCH, app.url("/configure"));
    receive(request.header("content-type", media_type).body(fields.to_string())).await
}

/// The key and the secret header that the last call went out with.
fn sent(upstream: &Upstream) -> (Option<String>, Option<String>) {
    let seen = upstream.seen();
    let header = |name: &str| seen.last().unwrap().request.header(name).map(str::to_owned);
    (header("authorization"), header("x-secret"))
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_keeps_the_rest_with_its_secrets() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "budget": 1, "api_key": "sk-literal-0123456789", "temperature": 0.5, "model_mapping": {"a": "x", "b": "y"},
        "extra_args": {"headers": {"X-Secret": "hdr-literal-0123456789", "X-Title": "t"}, "top_a": 1}
    });
    let app = spawn_app_for(&upstream, fields).await;
    let change = json!({
        "top_p": 0.5, "temperature": null, "model_mapping": {"a": null, "c": "z"},
        "extra_args": {"headers": {"X-Title": "u"}}
    });
    let told = patch(&app, &change).await.ok();
    assert_eq!(
        told,
        json!({"status": "success", "message": "Initialized scripted with self-consistency algorithm", "revision": 2, "warnings": []})
    );
    let shown = app.get("/configure").await;
    assert!(!shown.text.contains("literal"), "{}", shown.text);
    let shown = shown.ok();
    assert_eq!((&shown["budget"], &shown["top_p"], shown.get("temperature")), (&json!(1), &json!(0.5), None));
    assert_eq!(shown["model_mapping"], json!({"b": "y", "c": "z"}));
    assert_eq!((&shown["extra_args"]["headers"]["X-Title"], &shown["extra_args"]["top_a"]), (&json!("u"), &json!(1)));
    app.chat(json!({})).await.ok();
    let (key, header) = sent(&upstream);
    assert_eq!(key.as_deref(), Some("Bearer sk-literal-0123456789"));
    assert_eq!(header.as_deref(), Some("hdr-literal-0123456789"));

    // What GET adds to the document may come back in a patch, too.
    let mut read = shown.clone();
    read["budget"] = json!(1);
    assert_eq!(patch_as(&app, "application/json", &read).await.ok()["revision"], 3);
    assert_eq!(patch(&app, &read).await.error(412)["code"], "revision_conflict");
    app.chat(json!({})).await.ok();
    assert_eq!(sent(&upstream).0.as_deref(), Some("Bearer sk-literal-0123456789"));
    assert_eq!(patch(&app, &json!({"api_key": null})).await.ok()["revision"], 4);
    app.chat(json!({})).await.ok();
    assert_eq!(sent(&upstream).0, None);
}

#[tokio::test]
async fn a_patch_that_cannot_be_is_refused_and_changes_nothing() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    let before = app.get("/configure").await.ok();
    for (change, param, code) in [
        (json!({"budget": 0}), "budget", "invalid_value"),
        (json!({"buget": 3}), "buget", "unknown_field"),
        (json!({"model": null}), "model", "missing_field"),
        (json!({"api_key": "sha256:00000000…"}), "api_key", "invalid_value"),
        (json!({"provider": "bedrock"}), "extra_args.aws_region_name", "missing_field"),
    ] {
        let error = patch(&app, &change).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{change}: {error}");
    }
    for no_patch in [json!([1]), json!("x"), json!(null)] {
        patch(&app, &no_patch).await.error(400);
    }
    assert_eq!(patch_as(&app, "text/plain", &json!({"budget": 3})).await.error(415)["type"], "invalid_request_error");
    let request = app.client.request(Method::PATCH, app.url("/configure?validate_only=true"));
    let request = request.header("content-type", "application/json").body("{\"budget\": 3}");
    assert_eq!(receive(request).await.ok()["revision"], 1);
    assert_eq!(app.get("/configure").await.ok(), before);
}

#[tokio::test]
async fn without_a_configuration_there_is_nothing_to_patch() {
    let app = spawn_app_with(|settings| settings.models.dirs.clear()).await;
    let error = patch(&app, &json!({"budget": 3})).await.error(503);
    assert!(error["message"].as_str().unwrap().contains("POST /configure"), "{error}");
}

#[tokio::test]
async fn of_patches_made_at_the_same_time_none_is_lost() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"model_mapping": {"start": "x"}})).await;
    let changes: Vec<_> = (0..16).map(|at| json!({"model_mapping": {format!("name-{at}"): "x"}})).collect();
    let answers = futures_util::future::join_all(changes.iter().map(|change| patch(&app, change))).await;
    let mut revisions: Vec<_> = answers.iter().map(|answer| answer.ok()["revision"].as_i64().unwrap()).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=17).collect::<Vec<_>>());
    let shown = app.get("/configure").await.ok();
    assert_eq!(shown["model_mapping"].as_object().unwrap().len(), 17, "{shown}");
}

#[tokio::test]
async fn the_history_lists_what_was_active_without_its_secrets() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"api_key": "sk-literal-0123456789"})).await;
    patch(&app, &json!({"budget": 3})).await.ok();
    app.post("/configure/rollback", &json!({"revision": 1})).await.ok();
    let history = app.get("/configure/history").await;
    assert!(!history.text.contains("literal") && !history.text.contains("sealed"), "{}", history.text);
    let history = history.ok();
    assert_eq!((&history["object"], &history["has_more"]), (&json!("list"), &json!(false)));
    let entries = history["data"].as_array().unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (&entry["revision"], &entry["origin"], &entry["active"])).collect();
    assert_eq!(
        told,
        [
            (&json!(3), &json!("rollback"), &json!(true)),
            (&json!(2), &json!("patch"), &json!(false)),
            (&json!(1), &json!("request"), &json!(false)),
        ]
    );
    let shown = app.get("/configure").await.ok();
    assert_eq!(entries[0]["content_hash"], shown["content_hash"]);
    assert_eq!(entries[0]["content_hash"], entries[2]["content_hash"]);
    assert_eq!(entries[1]["document"]["api_key"], shown["api_key"]);
    assert_eq!(entries[1]["document"]["budget"], 3);
    let created = entries[0]["created_at"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z') && created.contains('T'), "{created}");

    let page = app.get("/configure/history?limit=1&before=3").await.ok();
    assert_eq!((&page["data"][0]["revision"], &page["has_more"]), (&json!(2), &json!(true)));
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/configure/history?before=1").await.ok()["data"], json!([]));
    for wrong in ["limit=0", "limit=101", "limit=-1", "limit=many", "limit="] {
        assert_eq!(app.get(&format!("/configure/history?{wrong}")).await.error(400)["param"], "limit", "{wrong}");
    }
    for wrong in ["before=-1", "before=first"] {
        assert_eq!(app.get(&format!("/configure/history?{wrong}")).await.error(400)["param"], "before", "{wrong}");
    }
    app.get("/configure/history?page=2").await.error(400);
}

#[tokio::test]
async fn a_rollback_brings_the_content_back_with_its_secrets_also_after_a_restart() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1, "api_key": "sk-first-0123456789"})).await;
    app.configure(&upstream, json!({"budget": 2, "api_key": "sk-second-0123456789"})).await;
    let state_dir = app.stop();
    let app = spawn_app_in(Arc::clone(&state_dir), &[], |_| {}).await;

    let validated = app.post("/configure/rollback?validate_only=true", &json!({"revision": 1})).await.ok();
    assert_eq!(validated["revision"], 2);
    let stale = app.json_request("/configure/rollback", "{\"revision\": 1}").header("if-match", "\"1\"");
    assert_eq!(receive(stale).await.error(412)["code"], "revision_conflict");
    let told = app.post("/configure/rollback", &json!({"revision": 1})).await.ok();
    assert_eq!(
        told,
        json!({"status": "success", "message": "Initialized scripted with self-consistency algorithm", "revision": 3, "warnings": []})
    );
    app.chat(json!({})).await.ok();
    assert_eq!(sent(&upstream).0.as_deref(), Some("Bearer sk-first-0123456789"));
    assert_eq!(app.get("/configure").await.ok()["budget"], 1);
}

#[tokio::test]
async fn a_rollback_that_cannot_be_says_why_and_changes_nothing() {
    let upstream = Upstream::start().await;
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let app = spawn_app_in(Arc::clone(&state_dir), &[("TEAM_KEY", "sk-team-0123456789")], |_| {}).await;
    app.configure(&upstream, json!({"budget": 1, "api_key": "env:TEAM_KEY"})).await;
    app.configure(&upstream, json!({"budget": 2})).await;
    drop(app.stop());
    let app = spawn_app_in(state_dir, &[], |_| {}).await;
    let before = app.get("/configure").await.ok();

    let unknown = app.post("/configure/rollback", &json!({"revision": 9})).await.error(404);
    assert_eq!(unknown["param"], "revision");
    let message = unknown["message"].as_str().unwrap();
    assert!(message.contains('9') && message.contains("newest is 2") && message.contains("history"), "{message}");
    let gone = app.post("/configure/rollback", &json!({"revision": 1})).await.error(400);
    let message = gone["message"].as_str().unwrap();
    assert!(message.contains("revision 1") && message.contains("TEAM_KEY"), "{message}");
    for (body, param, code) in [
        (json!({}), "revision", "missing_field"),
        (json!({"revision": "1"}), "revision", "invalid_value"),
        (json!({"revision": 1.5}), "revision", "invalid_value"),
        (json!({"revision": 1, "budget": 1}), "budget", "unknown_field"),
    ] {
        let error = app.post("/configure/rollback", &body).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{body}");
    }
    assert_eq!(app.get("/configure").await.ok(), before);
}

#[tokio::test]
async fn a_revision_whose_secret_cannot_be_opened_is_shown_without_it() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"api_key": "sk-literal-0123456789"})).await;
    app.configure(&upstream, json!({})).await;
    let state_dir = app.stop();
    std::fs::write(state_dir.path().join("itsd-secret"), "another secret that is long enough").unwrap();
    let app = spawn_app_in(state_dir, &[], |_| {}).await;
    let history = app.get("/configure/history").await.ok();
    let shown = history["data"][1]["document"]["api_key"].clone();
    assert_eq!(shown, "sha256:????????…");
    // It cannot be taken for a key.
    let error = app.post("/configure", &document(&upstream, json!({"api_key": shown}))).await.error(400);
    assert_eq!(error["param"], "api_key");
    let error = app.post("/configure/rollback", &json!({"revision": 1})).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("api_key"), "{error}");
}

#[tokio::test]
async fn every_value_tells_where_it_came_from() {
    let upstream = Upstream::start().await;
    let state_dir = Arc::new(tempfile::tempdir().unwrap());
    let base_url = upstream.base_url();
    let environment = [("OPENAI_BASE_URL", base_url.as_str()), ("OPENAI_API_KEY", "sk-env-0123456789")];
    let file = json!({"provider": "openai", "model": "of-the-file", "budget": 3});
    let file = file.as_object().unwrap().clone();
    let start = async |state_dir: Arc<_>| {
        let active = file.clone();
        spawn_app_in(state_dir, &environment, |settings| {
            settings.active_origins = active.keys().map(|field| (field.clone(), "file".to_owned())).collect();
            settings.active = Some(active);
        })
        .await
    };
    let app = start(Arc::clone(&state_dir)).await;
    let origin = app.get("/configure").await.ok()["origin"].clone();
    for (field, expected) in [
        ("model", "file"),
        ("budget", "file"),
        ("endpoint", "environment OPENAI_BASE_URL"),
        ("api_key", "environment OPENAI_API_KEY"),
    ] {
        assert_eq!(origin[field], expected, "{field} of {origin}");
    }
    patch(&app, &json!({"budget": 4, "api_key": "sk-mine-0123456789", "top_p": 0.5})).await.ok();
    drop(app.stop());
    let app = start(state_dir).await;
    let shown = app.get("/configure").await.ok();
    for (field, expected) in [
        ("model", "file"),
        ("budget", "request"),
        ("top_p", "request"),
        ("api_key", "request"),
        ("endpoint", "environment OPENAI_BASE_URL"),
    ] {
        assert_eq!(shown["origin"][field], expected, "{field} of {shown}");
    }
    app.post("/configure", &shown).await.ok();
    let again = app.get("/configure").await.ok();
    assert_eq!((&again["origin"]["model"], &again["content_hash"]), (&json!("request"), &shown["content_hash"]));
}
