//! What a provider cannot do: asked for in another way that the response tells of, or refused by name.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, document, spawn_app, spawn_app_for};
use crate::upstream::{Step, Upstream};

/// A daemon that calls `upstream` as a server which only lacks these.
async fn lacking(upstream: &Upstream, cells: Value) -> TestApp {
    spawn_app_for(upstream, json!({"budget": 1, "extra_args": {"capabilities": cells}})).await
}

fn warnings(answer: &Answer) -> &str {
    answer.header("x-its-warnings").unwrap_or_default()
}

fn last_body(upstream: &Upstream) -> Value {
    upstream.seen().last().expect("a call was made").json()
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

#[tokio::test]
async fn a_json_object_is_asked_of_lm_studio_as_a_schema_and_the_client_is_told() {
    let upstream = Upstream::start().await;
    upstream.push(Step::content("{}"));
    let app = spawn_app_for(&upstream, json!({"provider": "lmstudio", "budget": 1})).await;
    let format = json!({"type": "json_object"});
    let answer = app.chat(json!({"response_format": format, "return_response_only": false})).await;
    assert_eq!(answer.content(), "{}");
    let expected = json!({"type": "json_schema", "json_schema": {"name": "object", "schema": {"type": "object"}}});
    assert_eq!(last_body(&upstream)["response_format"], expected);
    assert!(warnings(&answer).contains("`response_format` was asked for in another way"), "{}", warnings(&answer));
    let told = answer.json()["metadata"]["warnings"].clone();
    assert!(told[0].as_str().unwrap().contains("lmstudio"), "{told}");
}

#[tokio::test]
async fn a_schema_is_asked_for_as_an_object_where_only_that_is_taken_and_refused_where_neither_is() {
    let upstream = Upstream::start().await;
    let app = lacking(&upstream, json!({"json_schema": false, "json_object": true})).await;
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}});
    upstream.push(Step::content("{}"));
    let answer = app.chat(json!({"response_format": format})).await;
    answer.ok();
    assert_eq!(last_body(&upstream)["response_format"], json!({"type": "json_object"}));
    assert!(warnings(&answer).contains("takes no schema"), "{}", warnings(&answer));

    let app = lacking(&upstream, json!({"json_schema": false, "json_object": false})).await;
    let before = upstream.counters().requests;
    let error = app.chat(json!({"response_format": format})).await.error(400);
    assert_eq!((&error["param"], &error["code"]), (&json!("response_format"), &json!("invalid_value")));
    assert_eq!(upstream.counters().requests, before, "a refusal costs nothing");
}

#[tokio::test]
async fn a_tool_that_cannot_be_named_is_offered_alone_and_required() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"provider": "lmstudio", "budget": 2})).await;
    let request = json!({
        "tools": [tool("add"), tool("subtract")],
        "tool_choice": {"type": "function", "function": {"name": "subtract"}}
    });
    let answer = app.chat(request.clone()).await;
    let call = &answer.ok()["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "subtract");
    for seen in upstream.seen() {
        assert_eq!(
            (&seen.json()["tools"], &seen.json()["tool_choice"]),
            (&json!([tool("subtract")]), &json!("required"))
        );
    }
    assert!(warnings(&answer).contains("`subtract` alone"), "{}", warnings(&answer));

    // Where nothing can be forced, the model may say something instead.
    let app = spawn_app_for(&upstream, json!({"provider": "ollama", "budget": 1})).await;
    upstream.push(Step::content("no"));
    let answer = app.chat(request).await;
    assert_eq!(answer.content(), "no");
    assert_eq!(last_body(&upstream)["tool_choice"], Value::Null);
    assert!(warnings(&answer).contains("may answer in words"), "{}", warnings(&answer));
}

#[tokio::test]
async fn what_a_model_does_not_take_is_left_out_and_everything_else_goes_as_it_came() {
    let upstream = Upstream::start().await;
    let cells = json!({
        "sampling": false, "top_k": false, "logit_bias": false, "seed": false, "parallel_tools": false,
        "length_limit": "max_completion_tokens", "developer_role": false, "refuses_unknown_fields": true
    });
    let app = lacking(&upstream, cells).await;
    let messages =
        r#"[{"role":"developer", "content":"caf\u00e9"},{"content":[{"type":"text","text":"1.0"}],"role":"user"}]"#;
    let body = format!(
        r#"{{"model":"scripted","messages":{messages},"temperature":0.3,"top_p":1.0,"top_k":5,"logit_bias":{{"7":1}},"seed":11,"max_tokens":9,"parallel_tool_calls":true,"top_a":0.2,"user":"u","tools":[{}]}}"#,
        tool("f")
    );
    let answer = app.post_text("/v1/chat/completions", &body).await;
    answer.ok();
    let seen = upstream.seen();
    let expected = format!(
        r#"{{"model":"scripted","messages":{},"tools":[{}],"max_completion_tokens":9,"user":"u"}}"#,
        messages.replace(r#""role":"developer""#, r#""role":"system""#),
        tool("f")
    );
    assert_eq!(seen[0].text(), expected);
    let told = warnings(&answer);
    for name in [
        "`temperature` was",
        "`top_k` was",
        "`logit_bias` was",
        "`seed` was",
        "`parallel_tool_calls` was",
        "`top_a` was",
    ] {
        assert!(told.contains(name), "{name} is missing in {told}");
    }
    assert!(!told.contains("top_p") && !told.contains("forwarded") && !told.contains("max_tokens"), "{told}");
}

#[tokio::test]
async fn a_server_that_takes_no_seed_is_sent_none_for_any_candidate() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 3, "seed": 5})).await;
    app.chat(json!({})).await.ok();
    assert!(upstream.seen().iter().all(|seen| seen.json()["seed"].is_i64()));
    app.configure(&upstream, json!({"budget": 3, "seed": 5, "extra_args": {"capabilities": {"seed": false}}})).await;
    let before = upstream.seen().len();
    let answer = app.chat(json!({"stream": true})).await;
    answer.events();
    let seen = upstream.seen();
    assert!(seen.len() > before && seen[before..].iter().all(|seen| seen.json().get("seed").is_none()));
    assert!(warnings(&answer).contains("`seed` was left out"), "{}", warnings(&answer));
}

#[tokio::test]
async fn a_stream_is_not_asked_for_usage_where_it_cannot_tell_it_and_the_usage_is_unknown() {
    let upstream = Upstream::start().await;
    let app = lacking(&upstream, json!({"stream_usage": false})).await;
    let answer = app.chat(json!({"stream": true, "return_response_only": false})).await;
    let events = answer.events();
    let body = last_body(&upstream);
    assert_eq!((&body["stream"], &body["stream_options"]), (&json!(true), &Value::Null));
    let metadata = events.iter().find_map(|event| event.get("metadata")).expect("the last chunk tells of the run");
    let usage = &metadata["usage_by_phase"]["generate"];
    assert_eq!((&usage["unknown_calls"], &usage["completion_tokens"]), (&json!(1), &json!(0)), "{metadata}");
}

#[tokio::test]
async fn what_nothing_can_stand_for_is_refused_before_any_call() {
    let upstream = Upstream::start().await;
    for (cells, request, param) in [
        (json!({"logprobs": false}), json!({"logprobs": true}), "logprobs"),
        (json!({"max_stop": 1}), json!({"stop": ["a", "b"]}), "stop"),
        (json!({"tools": false}), json!({"tools": [tool("f")]}), "tools"),
    ] {
        let app = lacking(&upstream, cells).await;
        let error = app.chat(request.clone()).await.error(400);
        assert_eq!(error["param"], param, "{error}");
        // Streams are refused as any request is, with a status of their own.
        let mut streamed = request;
        streamed["stream"] = json!(true);
        assert_eq!(app.chat(streamed).await.error(400)["param"], param);
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
async fn a_reply_that_is_begun_is_not_taken_for_one_that_will_be_continued() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"provider": "vllm", "budget": 1})).await;
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "The answer"}]);
    let answer = app.chat(json!({"messages": messages})).await;
    assert!(warnings(&answer).contains("continue_final_message"), "{}", warnings(&answer));
    let answer =
        app.chat(json!({"messages": messages, "continue_final_message": true, "add_generation_prompt": false})).await;
    assert!(!warnings(&answer).contains("new turn"), "{}", warnings(&answer));
    assert_eq!(last_body(&upstream)["continue_final_message"], true);
}

#[tokio::test]
async fn the_judge_is_asked_for_what_its_own_row_has() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.json()["model"].as_str() {
        Some("judge") => Step::content(r#"{"reasoning": "", "score": 5}"#),
        _ => Step::content(&format!("{}", seen.number)),
    });
    let fields = json!({
        "alg": "best-of-n", "rm_name": "llm-judge", "judge_mode": "pointwise", "budget": 2, "judge_model": "judge",
        "judge_extra_args": {"capabilities": {"json_schema": false, "json_object": true, "sampling": false}}
    });
    let app = spawn_app_for(&upstream, fields).await;
    let answer = app.chat(json!({"temperature": 0.7})).await;
    answer.ok();
    let (judged, answered): (Vec<_>, Vec<_>) =
        upstream.seen().iter().map(|seen| seen.json()).partition(|body| body["model"] == "judge");
    assert!(judged.iter().all(|body| body["response_format"] == json!({"type": "json_object"})), "{judged:?}");
    assert!(judged.iter().all(|body| body.get("temperature").is_none()), "{judged:?}");
    assert!(answered.iter().all(|body| body["temperature"] == 0.7), "{answered:?}");
    assert!(warnings(&answer).contains("the judge: `temperature` was left out"), "{}", warnings(&answer));
}

#[tokio::test]
async fn what_a_configuration_says_of_its_models_is_shown_patched_and_taken_back() {
    let upstream = Upstream::start().await;
    let app = lacking(&upstream, json!({"seed": false, "length_limit": "max_completion_tokens"})).await;
    let shown = app.get("/configure").await.ok();
    let cells = json!({"seed": false, "length_limit": "max_completion_tokens"});
    assert_eq!(shown["extra_args"]["capabilities"], cells);
    // Sent back it is the same.
    assert_eq!(app.post("/configure", &shown).await.ok()["revision"], 2);

    let patch = json!({"extra_args": {"capabilities": {"seed": null, "tools": false}}});
    let request = app.client.patch(app.url("/configure")).header("content-type", "application/json");
    crate::app::receive(request.body(patch.to_string())).await.ok();
    let shown = app.get("/configure").await.ok();
    let cells = json!({"length_limit": "max_completion_tokens", "tools": false});
    assert_eq!(shown["extra_args"]["capabilities"], cells);
    app.chat(json!({"seed": 1})).await.ok();
    assert_eq!(last_body(&upstream)["seed"], 1, "null is back to the row");
    app.chat(json!({"tools": [tool("f")]})).await.error(400);
}

#[tokio::test]
async fn a_column_that_there_is_not_is_refused_with_the_nearest() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    for (cells, code, param, words) in [
        (json!({"jsonschema": true}), "unknown_field", "extra_args.capabilities.jsonschema", "`json_schema`"),
        (json!({"n": "yes"}), "invalid_value", "extra_args.capabilities.n", "true, false"),
        (json!({"max_top_logprobs": 99}), "invalid_value", "extra_args.capabilities.max_top_logprobs", "20"),
        (json!([]), "invalid_value", "extra_args.capabilities", "object"),
    ] {
        let fields = json!({"extra_args": {"capabilities": cells}});
        let error = app.post("/configure", &document(&upstream, fields)).await.error(400);
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &json!(param)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    let fields = json!({"judge_extra_args": {"capabilities": {"sed": true}}});
    let error = app.post("/configure", &document(&upstream, fields)).await.error(400);
    assert_eq!(error["param"], "judge_extra_args.capabilities.sed");
}

#[tokio::test]
async fn a_configuration_is_told_at_once_what_will_be_done_in_another_way() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let validate = async |fields: Value| app.post("/configure?validate_only=true", &document(&upstream, fields)).await;
    for (fields, words) in [
        (json!({"use_n": "always", "extra_args": {"capabilities": {"n": false}}}), "`use_n` is `always`"),
        (
            json!({"wave": "prime", "extra_args": {"capabilities": {"prompt_caching": false}}}),
            "`wave` `prime` only takes",
        ),
        (json!({"top_k": 5, "extra_args": {"capabilities": {"top_k": false}}}), "`top_k` was left out"),
        (json!({"seed": 5, "extra_args": {"capabilities": {"seed": false}}}), "`seed` was left out"),
        (
            json!({
                "alg": "best-of-n", "rm_name": "llm-judge", "judge_model": "j",
                "judge_extra_args": {"capabilities": {"sampling": false}}
            }),
            "the judge: `temperature` was left out",
        ),
    ] {
        let told = validate(fields.clone()).await.ok();
        let warnings = told["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{fields}: {told}");
        assert!(warnings[0].as_str().unwrap().contains(words), "{fields}: {told}");
    }
    for fields in [
        json!({"use_n": "always", "wave": "prime", "top_k": 5, "seed": 1}),
        json!({"extra_args": {"capabilities": {"n": false, "prompt_caching": false, "top_k": false, "seed": false}}}),
    ] {
        assert_eq!(validate(fields.clone()).await.ok()["warnings"], json!([]), "{fields}");
    }
    let fields = json!({"stop": ["a", "b"], "extra_args": {"capabilities": {"max_stop": 1}}});
    assert_eq!(validate(fields).await.error(400)["param"], "stop");
}

#[tokio::test]
async fn what_a_model_of_the_mapping_cannot_do_is_told_by_its_name() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let told = async |cells: Value, fields: Value| {
        let mut fields = fields;
        fields["model_mapping"] = json!({"smart": "o3", "alias": "scripted"});
        fields["extra_args"] = json!({"capabilities": {"models": {"o3": cells}}});
        let told = app.configure(&upstream, fields).await;
        told["warnings"].as_array().unwrap().iter().map(|told| told.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (cells, fields, words) in [
        (json!({"seed": false}), json!({"seed": 5}), "`seed` was left out"),
        (json!({"n": false}), json!({"use_n": "always"}), "`smart` is known to make one choice"),
        (json!({"max_stop": 0}), json!({"stop": ["a"]}), "are refused: "),
        (json!({"logprobs": false}), json!({"vote_weight": "confidence", "budget": 3}), "are refused: "),
    ] {
        let warnings = told(cells.clone(), fields).await;
        assert_eq!(warnings.len(), 1, "{cells}: {warnings:?}");
        assert!(warnings[0].starts_with("`smart`: ") && warnings[0].contains(words), "{warnings:?}");
    }
    assert_eq!(told(json!({}), json!({"seed": 5, "stop": ["a"]})).await, Vec::<String>::new());
    // As it was told.
    told(json!({"max_stop": 0}), json!({"stop": ["a"]})).await;
    assert_eq!(app.chat(json!({"model": "smart"})).await.error(400)["param"], "stop");
    app.chat(json!({"model": "alias"})).await.ok();
}
