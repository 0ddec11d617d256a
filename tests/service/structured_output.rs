//! Answers of the in-process engine that must have a form, from a model that knows nothing of JSON.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, spawn_app};

const CHAT: &str = "/v1/chat/completions";

async fn ask(app: &TestApp, fields: Value) -> Answer {
    let mut body = json!({
        "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 23 + 48 - 17?"}],
        "seed": 3, "max_tokens": 200
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post(CHAT, &body).await
}

fn format(schema: &Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
}

/// A schema of which every text is short.
fn sum() -> Value {
    json!({
        "type": "object",
        "properties": {
            "sum": {"type": "integer", "minimum": 0, "maximum": 999},
            "sure": {"enum": ["yes", "no"]},
            "steps": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3}
        },
        "required": ["sum", "sure", "steps"],
        "additionalProperties": false
    })
}

/// The finish reason of a choice, whose text keeps the schema unless it was cut by its length.
fn check(choice: &Value, schema: &Value) -> String {
    let reason = choice["finish_reason"].as_str().unwrap().to_owned();
    let text = choice["message"]["content"].as_str().unwrap();
    match reason.as_str() {
        "stop" => {
            let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(jsonschema::validator_for(schema).unwrap().is_valid(&value), "{text} breaks {schema}");
        }
        other => assert_eq!(other, "length", "{text}"),
    }
    reason
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn an_answer_keeps_its_schema_or_is_cut_by_its_length() {
    let app = spawn_app().await;
    let nested = json!({
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/pair"}, "minItems": 1, "maxItems": 2}},
        "required": ["a"],
        "$defs": {"pair": {
            "type": "object", "properties": {"n": {"type": "integer"}, "t": {"type": "string", "maxLength": 5}},
            "required": ["n", "t"], "additionalProperties": false
        }}
    });
    for (schema, always_ends) in [(sum(), true), (nested, false), (json!({"type": "object"}), false)] {
        for temperature in [0.0, 0.8, 2.0] {
            for seed in 0..4 {
                let fields = json!({"response_format": format(&schema), "temperature": temperature, "seed": seed});
                let body = ask(&app, fields).await.ok();
                let reason = check(&body["choices"][0], &schema);
                assert!(reason == "stop" || !always_ends, "{body}");
            }
        }
    }
    let body = ask(&app, json!({"response_format": {"type": "json_object"}, "temperature": 1.5})).await.ok();
    check(&body["choices"][0], &json!({"type": "object"}));
    let short = ask(&app, json!({"response_format": format(&sum()), "max_tokens": 4})).await.ok();
    assert_eq!(check(&short["choices"][0], &sum()), "length");
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn streams_votes_and_log_probabilities_keep_the_form_too() {
    let app = spawn_app().await;
    let format = format(&sum());
    let streamed = ask(&app, json!({"response_format": format, "stream": true, "temperature": 0.8})).await;
    let events = streamed.events();
    let text: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let whole = ask(&app, json!({"response_format": format, "temperature": 0.8})).await.ok();
    assert_eq!(whole["choices"][0]["message"]["content"], text, "streamed or not, the same seed says the same");
    let reasons: Vec<&str> = events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(reasons, ["stop"]);

    let fields = json!({
        "response_format": format, "alg": "self-consistency", "budget": 8, "stop_rule": "none", "temperature": 1.2,
        "return_response_only": false, "logprobs": true, "top_logprobs": 3
    });
    let body = ask(&app, fields).await.ok();
    let choice = &body["choices"][0];
    assert_eq!(check(choice, &sum()), "stop");
    assert_eq!(body["metadata"]["all_responses"].as_array().unwrap().len(), 8, "{body}");
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let spelt: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(String::from_utf8(spelt).unwrap(), choice["message"]["content"].as_str().unwrap());
    assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 3));
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn expressions_and_grammars_are_kept_in_chats_and_in_raw_texts() {
    let app = spawn_app().await;
    let content = |body: &Value| body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    for seed in 0..4 {
        let body = ask(&app, json!({"regex": "(yes|no), [0-9]{2}!", "temperature": 1.0, "seed": seed})).await.ok();
        let text = content(&body);
        let (word, rest) = text.split_once(", ").unwrap();
        assert!(["yes", "no"].contains(&word) && rest.len() == 3 && rest.ends_with('!'), "{text}");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        let grammar = "start: \"<\" NUMBER (\",\" NUMBER){2} \">\"\nNUMBER: /[1-9][0-9]?/";
        let text = content(&ask(&app, json!({"grammar": grammar, "temperature": 1.0, "seed": seed})).await.ok());
        let numbers: Vec<u8> = text[1..text.len() - 1].split(',').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.len() == 3 && text.starts_with('<') && text.ends_with('>'), "{text}");
    }
    let request = json!({
        "model": "arithmetic-demo", "prompt": "x", "response_format": format(&sum()), "max_tokens": 200, "n": 2
    });
    let body = app.post("/v1/completions", &request).await.ok();
    for choice in body["choices"].as_array().unwrap() {
        let value: Value = serde_json::from_str(choice["text"].as_str().unwrap()).unwrap();
        assert!(jsonschema::validator_for(&sum()).unwrap().is_valid(&value), "{value}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_tool_that_must_be_called_is_called_with_arguments_that_keep_its_schema() {
    let app = spawn_app().await;
    let function = |name: &str| {
        let parameters = json!({
            "type": "object", "properties": {"unit": {"$ref": "#/$defs/unit"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["unit", "days"], "additionalProperties": false, "$defs": {"unit": {"enum": ["C", "F"]}}
        });
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let tools = json!([function("forecast"), function("history")]);
    for (choice, names) in [
        (json!("required"), vec!["forecast", "history"]),
        (json!({"type": "function", "function": {"name": "history"}}), vec!["history"]),
    ] {
        for stream in [false, true] {
            let fields = json!({"tools": tools, "tool_choice": choice, "stream": stream, "temperature": 1.0});
            let answer = ask(&app, fields).await;
            let (call, reason) = if stream {
                let events = answer.events();
                let find = |path: &str| {
                    events.iter().find_map(|event| event.pointer(path).filter(|it| !it.is_null()).cloned())
                };
                (find("/choices/0/delta/tool_calls/0").unwrap(), find("/choices/0/finish_reason").unwrap())
            } else {
                let body = answer.ok();
                let message = &body["choices"][0]["message"];
                assert_eq!(message["content"], Value::Null);
                (message["tool_calls"][0].clone(), body["choices"][0]["finish_reason"].clone())
            };
            assert_eq!(reason, "tool_calls");
            assert!(names.contains(&call["function"]["name"].as_str().unwrap()), "{call}");
            let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
            assert!(["C", "F"].contains(&arguments["unit"].as_str().unwrap()), "{arguments}");
            assert!((1..=9).contains(&arguments["days"].as_u64().unwrap()), "{arguments}");
        }
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_form_that_cannot_be_kept_is_a_400_that_names_its_field() {
    let app = spawn_app().await;
    let tool = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}}]);
    for (fields, param, word) in [
        (json!({"response_format": format(&json!({"not": {}}))}), "response_format", "not"),
        (json!({"response_format": format(&json!({"type": "text"}))}), "response_format", "text"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format", "schema"),
        (json!({"response_format": {"type": "xml"}}), "response_format", "json_schema"),
        (json!({"response_format": format(&json!({"description": "x".repeat(200_000)}))}), "response_format", "bytes"),
        (json!({"regex": "("}), "regex", "unclosed"),
        (json!({"regex": 7}), "regex", "string"),
        (json!({"grammar": "root ::= \"a\""}), "grammar", "Lark"),
        (json!({"grammar": "start: \"a\"", "regex": "a"}), "grammar", "regex"),
        (json!({"tools": tool, "tool_choice": "required"}), "tool_choice", "not"),
        (json!({"tool_choice": "required"}), "tool_choice", "tools"),
        (json!({"typical_p": 2}), "typical_p", "between"),
        (json!({"repeat_penalty": 0}), "repeat_penalty", "greater"),
    ] {
        for stream in [false, true] {
            let mut fields = fields.clone();
            fields["stream"] = stream.into();
            let answer = ask(&app, fields.clone()).await;
            let error = answer.error(400);
            assert_eq!(error["param"], param, "{error}");
            assert!(error["message"].as_str().unwrap().contains(word), "{error}");
            assert!(error["message"].as_str().unwrap().len() < 600, "{error}");
        }
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn penalties_bans_and_typical_sampling_reach_the_engine() {
    let app = spawn_app().await;
    let text = |body: &Value| body["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let greedy = json!({"temperature": 0, "max_tokens": 30, "budget": 1});
    let plain = ask(&app, greedy.clone()).await;
    assert_eq!(plain.header("x-its-warnings"), None);
    let plain = text(&plain.ok());
    for field in [
        json!({"repeat_penalty": 9.0, "repeat_last_n": -1}),
        json!({"repetition_penalty": 9.0}),
        json!({"typical_p": 0.01}),
    ] {
        let mut fields = greedy.clone();
        fields.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
        let answer = ask(&app, fields).await;
        assert_eq!(answer.header("x-its-warnings"), None, "{field}");
        let other = text(&answer.ok());
        assert!(other != plain || field.get("typical_p").is_some(), "{field}: {other}");
    }
    let banned = ask(&app, json!({"regex": "[ab]"})).await.ok();
    assert!(["a", "b"].contains(&text(&banned).as_str()));
}
