//! The errors of the contract: status, type, code and `param`, each in the one shape.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write;

use crate::app::{TestApp, receive, spawn_app, spawn_app_for, spawn_app_with};
use crate::upstream::Upstream;

const CHAT: &str = "/v1/chat/completions";

/// An app for requests that must be refused before anything is sent upstream.
async fn refusing() -> (Upstream, TestApp) {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    (upstream, app)
}

#[tokio::test]
async fn a_chat_request_that_cannot_be_names_the_parameter() {
    let (upstream, app) = refusing().await;
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (fields, param, code) in [
        (json!({"model": null}), "model", "missing_field"),
        (json!({"model": ""}), "model", "invalid_value"),
        (json!({"model": 4}), "model", "invalid_value"),
        (json!({"messages": null}), "messages", "missing_field"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "hello"}), "messages", "invalid_value"),
        (json!({"messages": [{"content": "no role"}]}), "messages[0].role", "missing_field"),
        (json!({"messages": [{"role": 1, "content": "?"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": [["user", "hi"]]}), "messages[0]", "invalid_value"),
        (json!({"messages": ["hi"]}), "messages[0]", "invalid_value"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "invalid_value"),
        (json!({"messages": user(Value::Null)}), "messages[0].content", "invalid_value"),
        (json!({"messages": user(json!(7))}), "messages[0].content", "invalid_value"),
        (
            json!({"messages": [{"role": "system", "content": "a"}, {"role": "user"}]}),
            "messages[1].content",
            "invalid_value",
        ),
        (json!({"temperature": 2.1}), "temperature", "invalid_value"),
        (json!({"temperature": -0.1}), "temperature", "invalid_value"),
        (json!({"temperature": "hot"}), "temperature", "invalid_value"),
        (json!({"top_p": 1.5}), "top_p", "invalid_value"),
        (json!({"min_p": -1}), "min_p", "invalid_value"),
        (json!({"presence_penalty": 3}), "presence_penalty", "invalid_value"),
        (json!({"frequency_penalty": -3}), "frequency_penalty", "invalid_value"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens", "invalid_value"),
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_tokens", "invalid_value"),
        (json!({"stop": [""]}), "stop", "invalid_value"),
        (json!({"stop": 3}), "stop", "invalid_value"),
        (json!({"seed": 1.5}), "seed", "invalid_value"),
        (json!({"logit_bias": {"7": 101}}), "logit_bias", "invalid_value"),
        (json!({"top_logprobs": 3}), "top_logprobs", "invalid_value"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "invalid_value"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function", "missing_field"),
        (json!({"tools": [{"function": {"name": "f"}}]}), "tools[0]", "invalid_value"),
        (json!({"tools": {}}), "tools", "invalid_value"),
        (json!({"tools": [["function", {"name": "f"}]]}), "tools[0]", "invalid_value"),
        (json!({"tools": [{"type": "function", "function": ["f", {}]}]}), "tools[0].function", "invalid_value"),
        (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name", "missing_field"),
        (json!({"stream": "yes"}), "stream", "invalid_value"),
        (json!({"stream": true, "stream_options": [true, true]}), "stream_options", "invalid_value"),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            "stream_options.include_usage",
            "invalid_value",
        ),
        (json!({"model": "scripted\n"}), "model", "invalid_value"),
        (json!({"logit_bias": [1]}), "logit_bias", "invalid_value"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", "invalid_value"),
        (json!({"budget": 0}), "budget", "invalid_value"),
        (json!({"budget": 1001}), "budget", "invalid_value"),
        (json!({"budget": "many"}), "budget", "invalid_value"),
        (json!({"alg": "self-consistancy"}), "alg", "invalid_value"),
        (json!({"tool_vote": "loudest"}), "tool_vote", "invalid_value"),
        (json!({"vote_on": "regex"}), "regex_patterns", "missing_field"),
        (json!({"regex_patterns": ["("]}), "regex_patterns", "invalid_value"),
        (json!({"exclude_args": ["a"], "exclude_tool_args": ["b"]}), "exclude_tool_args", "invalid_value"),
        (json!({"return_response_only": 1}), "return_response_only", "invalid_value"),
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"n": 1001}), "n", "invalid_value"),
        (json!({"n": 3, "budget": 2}), "n", "invalid_value"),
        (json!({"n": 3, "num_paths": 2}), "n", "invalid_value"),
        (json!({"n": 2, "alg": "wait"}), "n", "invalid_value"),
        (json!({"n": 2, "alg": "mixture-of-n"}), "n", "invalid_value"),
        (json!({"alg": "dvts"}), "alg", "not_supported_yet"),
        (json!({"alg": "beam-search", "rm_name": "entropy"}), "alg", "invalid_value"),
        (json!({"judge_model": "j"}), "judge_model", "invalid_value"),
        (json!({"tts_strategy": "beam_search"}), "tts_strategy", "invalid_value"),
        (json!({"tts_strategy": "online_bon"}), "tts_strategy", "not_supported_yet"),
        (json!({"beam_width": 0}), "beam_width", "invalid_value"),
        (json!({"lookahead": 2}), "lookahead", "not_supported_yet"),
        (json!({"provider": "openrouter"}), "provider", "invalid_value"),
    ] {
        let answer = app.chat(fields.clone()).await;
        assert_eq!(answer.status, 400, "{fields}: {}", answer.text);
        let error = answer.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{fields}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(answer.header("x-request-id").is_some() && answer.header("x-should-retry").is_none(), "{fields}");
    }
    assert_eq!(upstream.counters().requests, 0, "nothing was spent on a request that cannot be");
}

#[tokio::test]
async fn null_says_the_same_as_leaving_a_field_out() {
    let (_upstream, app) = refusing().await;
    let mut request = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]});
    for name in [
        "temperature",
        "n",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "stop",
        "budget",
        "alg",
        "judge_model",
        "tts_strategy",
        "logit_bias",
        "max_tokens",
        "guided_regex",
    ] {
        request[name] = Value::Null;
    }
    app.post(CHAT, &request).await.ok();
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_refused() {
    let (_upstream, app) = refusing().await;
    for body in ["", "{", "[]", "\"text\"", "{\"model\": \"m\",}", "\u{0}"] {
        for path in [CHAT, "/configure"] {
            let error = app.post_text(path, body).await.error(400);
            assert_eq!(
                (&error["type"], &error["code"]),
                (&json!("invalid_request_error"), &json!("invalid_value")),
                "{path} {body}"
            );
        }
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn an_unknown_model_is_told_with_those_there_are() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"model_mapping": {"fast": "scripted"}})).await;
    let error = app.chat(json!({"model": "gpt-9"})).await.error(404);
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("Model not found: gpt-9"), "{message}");
    for name in ["scripted", "fast", "arithmetic-demo"] {
        assert!(message.contains(name), "{message}");
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
async fn a_path_that_does_not_exist_is_a_404_and_a_wrong_method_names_the_right_ones() {
    let (_upstream, app) = refusing().await;
    for path in ["/", "/v1", "/v1/chat", "/v1/chat/completions/", "/v2/chat/completions", "/v1/audio/speech"] {
        let error = app.get(path).await.error(404);
        assert_eq!(error["type"], "invalid_request_error", "{path}");
        assert!(error["message"].as_str().unwrap().contains("/docs"), "{error}");
    }
    for (method, path) in [("POST", "/v1/embeddings"), ("POST", "/v1/rerank"), ("POST", "/rerank")] {
        let error = receive(app.client.request(method.parse().unwrap(), app.url(path))).await.error(404);
        assert_eq!(error["code"], "not_supported_yet", "{path}");
        assert!(error["message"].as_str().unwrap().contains("not in this version yet"), "{error}");
    }
    for (method, path, allow) in [
        ("GET", CHAT, "POST"),
        ("DELETE", "/configure", "GET, PATCH, POST"),
        ("PUT", "/configure", "GET, PATCH, POST"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PUT", "/v1/models", "GET"),
        ("POST", "/v1/models/a/b", "GET"),
    ] {
        let answer = receive(app.client.request(method.parse().unwrap(), app.url(path))).await;
        assert_eq!(answer.error(405)["type"], "invalid_request_error", "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_must_be_declared_as_json() {
    let (_upstream, app) = refusing().await;
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]}).to_string();
    let send = |content_type: Option<&'static str>| {
        let mut request = app.client.post(app.url(CHAT)).body(body.clone());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        receive(request)
    };
    for wrong in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp"), Some("json")]
    {
        assert_eq!(send(wrong).await.error(415)["type"], "invalid_request_error", "{wrong:?}");
    }
    for right in [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        "Application/JSON",
        "application/vnd.api+json",
    ] {
        assert_eq!(send(Some(right)).await.status, 200, "{right}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let upstream = Upstream::start().await;
    let app = spawn_app_with(|settings| settings.server.body_limit_bytes = 64 * 1024).await;
    app.configure(&upstream, json!({"budget": 1})).await;
    let body = |size: usize| {
        json!({"model": "scripted", "messages": [{"role": "user", "content": "A".repeat(size)}]}).to_string()
    };
    let gzipped = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let compressed = |text: &str| {
        let request = app.json_request(CHAT, "").header("content-encoding", "gzip").body(gzipped(text));
        receive(request)
    };
    app.post_text(CHAT, &body(60_000)).await.ok();
    compressed(&body(60_000)).await.ok();
    assert_eq!(upstream.seen()[0].text(), upstream.seen()[1].text());

    let error = app.post_text(CHAT, &body(70_000)).await.error(413);
    assert!(error["message"].as_str().unwrap().contains("server.body_limit_bytes"), "{error}");
    let bomb = body(8_000_000);
    assert!(gzipped(&bomb).len() < 64 * 1024, "what arrives is within the limit, what it holds is not");
    assert_eq!(compressed(&bomb).await.error(413)["type"], "invalid_request_error");
    assert_eq!(app.post_text("/configure", &body(70_000)).await.error(413)["type"], "invalid_request_error");
    assert_eq!(upstream.counters().requests, 2);

    // Without a length in the head, the limit is met while reading.
    let pieces = futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    let request = app.client.post(app.url(CHAT)).header("content-type", "application/json");
    receive(request.body(reqwest::Body::wrap_stream(pieces))).await.error(413);
}

#[tokio::test]
async fn a_body_that_is_not_what_its_encoding_says_is_refused() {
    let (upstream, app) = refusing().await;
    let body = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]}).to_string();
    let send = |encoding: &'static str| receive(app.json_request(CHAT, &body).header("content-encoding", encoding));
    for encoding in ["gzip", "deflate"] {
        assert_eq!(send(encoding).await.error(400)["code"], "invalid_value", "{encoding}");
    }
    for encoding in ["br", "zstd", "gzip, gzip", "rot13"] {
        let error = send(encoding).await.error(415);
        assert!(error["message"].as_str().unwrap().contains("gzip"), "{encoding}: {error}");
    }
    assert_eq!(upstream.counters().requests, 0);
    send("identity").await.ok();
}

#[tokio::test]
async fn a_foreign_host_name_is_refused_on_loopback() {
    let (_upstream, app) = refusing().await;
    let ask = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    for host in ["evil.example", "evil.example:8108", "10.0.0.1", "localhost.evil.example"] {
        for path in ["/configure", "/health", "/nowhere"] {
            let response = app.raw(&ask(host, path)).await;
            assert!(response.starts_with("HTTP/1.1 403 "), "{host} {path}: {response}");
            assert!(response.contains("permission_error") && response.contains("x-request-id: "), "{response}");
            assert!(!response.contains("scripted"), "{response}");
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8108", "[::1]"] {
        assert!(app.raw(&ask(host, "/health")).await.starts_with("HTTP/1.1 200 "), "{host}");
    }

    let app = spawn_app_with(|settings| settings.server.allowed_hosts = vec!["gpu.lab".to_owned()]).await;
    assert!(app.raw(&ask("gpu.lab:80", "/health")).await.starts_with("HTTP/1.1 200 "));
    assert!(app.raw(&ask("gpu.labs", "/health")).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused() {
    let (upstream, app) = refusing().await;
    let chat = json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}]});
    for (path, param, code) in [
        ("/v1/chat/completions?strict=perhaps", "strict", "invalid_value"),
        ("/v1/chat/completions?stict=true", "stict", "unknown_field"),
        ("/v1/best-of-n/chat/completions?strict=1", "strict", "invalid_value"),
        ("/v1/completions?zzz=", "zzz", "unknown_field"),
        ("/configure?validate_only=1x", "validate_only", "invalid_value"),
        ("/configure?validate_only=true&dry=1", "dry", "unknown_field"),
        ("/configure?probe=maybe", "probe", "invalid_value"),
        ("/configure/rollback?probe=true", "probe", "unknown_field"),
    ] {
        let body = match path {
            "/configure/rollback?probe=true" => &json!({"revision": 1}),
            _ => &chat,
        };
        let error = app.post(path, body).await.error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{path}: {error}");
        assert!(!error["message"].as_str().unwrap().contains("deserialize"), "{error}");
    }
    for (query, param) in [("limit=abc", "limit"), ("before=-1", "before"), ("after=1", "after")] {
        let error = app.get(&format!("/configure/history?{query}")).await.error(400);
        assert_eq!(error["param"], param, "{query}");
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn the_embedded_model_refuses_by_name_what_it_cannot_do() {
    let app = spawn_app().await;
    let ask = |fields: Value| {
        let mut request =
            json!({"model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 1 + 1?"}]});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        request
    };
    let long = json!([{"role": "user", "content": "1 + ".repeat(2_000)}]);
    for (fields, param, code) in [
        (json!({"response_format": {"type": "xml"}}), json!("response_format"), "not_supported_yet"),
        (json!({"reasoning_effort": "low"}), json!("reasoning_effort"), "not_supported_yet"),
        (json!({"messages": long}), Value::Null, "context_length_exceeded"),
    ] {
        let answer = app.post(CHAT, &ask(fields.clone())).await;
        let error = answer.error(400);
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{fields}: {error}");
        if code == "context_length_exceeded" {
            assert!(error["message"].as_str().unwrap().starts_with("Input exceeds maximum context length"), "{error}");
        }
        assert_eq!(answer.header("x-should-retry"), None, "nothing was begun");
    }
}
