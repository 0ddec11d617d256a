//! What of a chat request reaches Bedrock, and in which words. The stub holds every body against AWS's own description of
//! the service, and against what its models refuse.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp};
use crate::bedrock_configuration::{app_at, document};
use crate::bedrock_stub::{BedrockStub, ModelRules, Seen, Step};

const CLAUDE: &str = "us.anthropic.claude-3-7-sonnet-20250219-v1:0";
const CLAUDE_4_5: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_4_6: &str = "us.anthropic.claude-opus-4-6-v1";
const NOVA: &str = "us.amazon.nova-lite-v1:0";
const IMAGE: &str = "data:image/png;base64,iVBORw0KGgo=";

struct Bedrock {
    stub: BedrockStub,
    app: TestApp,
}

impl Bedrock {
    /// A daemon configured for `model`, with `extra` beside the credentials.
    async fn with(model: &str, extra: Value) -> Self {
        let stub = BedrockStub::start().await;
        let app = app_at(&stub).await;
        let bedrock = Self { stub, app };
        bedrock.configure(model, extra).await;
        bedrock
    }

    async fn configure(&self, model: &str, extra: Value) {
        let mut fields = document(json!({"model": format!("bedrock/{model}"), "alg": "self-consistency"}));
        fields["extra_args"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.app.post("/configure", &fields).await.ok();
    }

    async fn of(model: &str) -> Self {
        Self::with(model, json!({})).await
    }

    async fn ask(&self, model: &str, fields: Value) -> Answer {
        let mut request = json!({
            "model": format!("bedrock/{model}"), "messages": [{"role": "user", "content": "What is 6 times 7?"}],
            "return_response_only": false,
        });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.app.post("/v1/chat/completions", &request).await
    }

    /// The body that the stub has let in, and the warnings of the response.
    async fn sent(&self, model: &str, fields: Value) -> (Value, Vec<String>) {
        let before = self.stub.requests().len();
        let answer = self.ask(model, fields).await.ok();
        let seen: Vec<Seen> = self.stub.requests().split_off(before);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!(seen[0].refused, None);
        let warnings = answer["metadata"]["warnings"].as_array().cloned().unwrap_or_default();
        let warnings = warnings.into_iter().map(|warning| warning.as_str().unwrap().to_owned()).collect();
        (seen[0].json(), warnings)
    }
}

fn tool(name: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}});
    json!({"type": "function", "function": {"name": name, "description": "Does it.", "parameters": parameters}})
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "add", "arguments": "{\"b\": \"x\", \"a\": 1}"}})
}

#[tokio::test]
async fn a_conversation_with_everything_in_it_fits_the_service() {
    let bedrock = Bedrock::of(CLAUDE).await;
    let mark = json!({"type": "ephemeral"});
    let messages = json!([
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"}, {"type": "text", "text": ""},
            {"type": "image_url", "image_url": {"url": IMAGE}},
            {"type": "file", "file": {"filename": "a_report: 1.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        ]},
        {"role": "user", "content": [{"type": "text", "text": "Add it.", "cache_control": mark}]},
        {"role": "assistant", "content": null, "tool_calls": [call("call|1"), call("call_2")], "thinking_blocks": [
            {"type": "thinking", "thinking": "So.", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "c2VjcmV0"},
        ]},
        {"role": "tool", "tool_call_id": "call|1", "content": "{\"sum\": 3}"},
        {"role": "tool", "tool_call_id": "call_2", "is_error": true, "content": ""},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "It is "},
    ]);
    let request = json!({
        "messages": messages, "tools": [tool("add"), tool("subtract")], "tool_choice": "auto", "parallel_tool_calls": false,
        "max_tokens": 3000, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "stop": ["END"],
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "DRAFT", "trace": "enabled"},
        "requestMetadata": {"team": "a"}, "performanceConfig": {"latency": "standard"}, "service_tier": "flex",
        "additionalModelResponseFieldPaths": ["/stop_sequence"], "thinking": {"type": "disabled"},
    });
    let (body, warnings) = bedrock.sent(CLAUDE, request).await;
    let about = |word: &str| warnings.iter().filter(|warning| warning.contains(word)).count();
    assert_eq!(about("begins with the assistant"), 1, "{warnings:?}");
    assert_eq!(about("white space at the end"), 1, "{warnings:?}");
    let schema = json!({"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "number"}}});
    let spec =
        |name: &str| json!({"toolSpec": {"name": name, "description": "Does it.", "inputSchema": {"json": schema}}});
    let input = json!({"b": "x", "a": 1});
    let expected = json!({
        "messages": [
            {"role": "user", "content": [{"text": "(The assistant begins.)"}]},
            {"role": "assistant", "content": [{"text": "Hello!"}]},
            {"role": "user", "content": [
                {"text": "What is this?"},
                {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
                {"document": {"format": "pdf", "name": "a-report- 1", "source": {"bytes": "JVBERi0="}}},
                {"text": "Add it."},
                {"cachePoint": {"type": "default"}},
            ]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "So.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
                {"toolUse": {"toolUseId": "renamed_call_0", "name": "add", "input": input}},
                {"toolUse": {"toolUseId": "call_2", "name": "add", "input": input}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "renamed_call_0", "content": [{"text": "{\"sum\": 3}"}]}},
                {"toolResult": {"toolUseId": "call_2", "content": [{"text": ""}], "status": "error"}},
                {"text": "And?"},
            ]},
            {"role": "assistant", "content": [{"text": "It is"}]},
        ],
        "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default", "ttl": "1h"}}, {"text": "Be kind."}],
        "inferenceConfig": {"maxTokens": 3000, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "toolConfig": {"tools": [spec("add"), spec("subtract")]},
        "additionalModelRequestFields": {
            "thinking": {"type": "disabled"}, "top_k": 20,
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true},
        },
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "DRAFT", "trace": "enabled"},
        "requestMetadata": {"team": "a"}, "performanceConfig": {"latency": "standard"}, "serviceTier": {"type": "flex"},
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn every_choice_of_tools_is_one_that_the_service_takes() {
    let bedrock = Bedrock::of(CLAUDE).await;
    let named = json!({"type": "function", "function": {"name": "subtract"}});
    for (choice, expected) in [
        (json!("auto"), Value::Null),
        (json!("required"), json!({"any": {}})),
        (named, json!({"tool": {"name": "subtract"}})),
    ] {
        let request = json!({"tools": [tool("add"), tool("subtract")], "tool_choice": choice});
        let (body, warnings) = bedrock.sent(CLAUDE, request).await;
        assert_eq!(body["toolConfig"]["toolChoice"], expected);
        assert_eq!(warnings, [""; 0]);
    }
    let (body, _) = bedrock.sent(CLAUDE, json!({"tools": [tool("add")], "tool_choice": "none"})).await;
    assert!(body.get("toolConfig").is_none(), "{body}");
    // With calls in the conversation the service wants the tools all the same.
    let messages = json!([
        {"role": "user", "content": "Add."}, {"role": "assistant", "tool_calls": [call("1")]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
    ]);
    for (model, tools) in [(CLAUDE, json!([tool("add")])), (CLAUDE, Value::Null), (NOVA, Value::Null)] {
        bedrock.configure(model, json!({})).await;
        let request = json!({"messages": messages, "tools": tools, "tool_choice": "none"});
        let (body, warnings) = bedrock.sent(model, request).await;
        assert_eq!(body["toolConfig"]["tools"][0]["toolSpec"]["name"], "add");
        let none = &body["additionalModelRequestFields"]["tool_choice"]["type"];
        assert_eq!((none == "none", warnings.is_empty()), (model == CLAUDE, model == CLAUDE), "{warnings:?}");
    }
}

#[tokio::test]
async fn what_bedrock_has_no_words_for_is_refused_before_a_call_is_made() {
    let bedrock = Bedrock::of(CLAUDE).await;
    let content =
        |part: Value| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]});
    for (request, param, words) in [
        (
            content(json!({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}})),
            "messages[0].content[1].image_url.url",
            "Bedrock fetches none; send an image as `data:image/png;base64,…`",
        ),
        (
            content(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,###"}})),
            "messages[0].content[1].image_url.url",
            "is not base64",
        ),
        (
            content(json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}})),
            "messages[0].content[1]",
            "send a transcript",
        ),
        (json!({"messages": [{"role": "user", "content": "  "}]}), "messages[0].content", "is blank"),
        (json!({"temperature": 1.5}), "temperature", "Bedrock takes 0 to 1"),
        (json!({"response_format": {"type": "json_object"}}), "response_format", "ask for JSON in the messages"),
        (json!({"logprobs": true}), "logprobs", "tells no log-probabilities"),
        (
            json!({"messages": [
                {"role": "user", "content": "x"},
                {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "[]"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "y"},
            ]}),
            "messages[1].tool_calls[0].function.arguments",
            "JSON object",
        ),
    ] {
        let answer = bedrock.ask(CLAUDE, request).await;
        let error = answer.error(400);
        assert_eq!(error["param"], param);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(bedrock.stub.requests().len(), 0);
}

#[tokio::test]
async fn models_are_asked_for_no_more_than_they_take() {
    let bedrock = Bedrock::of(CLAUDE_4_5).await;
    bedrock.stub.set_rules(CLAUDE_4_5, ModelRules { refuses_temperature_with_top_p: true, ..ModelRules::default() });
    bedrock.stub.set_rules(CLAUDE_4_6, ModelRules { refuses_prefill: true, ..ModelRules::default() });
    let (body, warnings) = bedrock.sent(CLAUDE_4_5, json!({"temperature": 0.5, "top_p": 0.9, "seed": 4})).await;
    assert_eq!(body["inferenceConfig"], json!({"temperature": 0.5}));
    assert!(warnings.iter().any(|warning| warning.starts_with("`top_p` was left out")), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.starts_with("`seed` was left out")), "{warnings:?}");
    let prefill = json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "So"}]});
    let (body, _) = bedrock.sent(CLAUDE_4_5, prefill.clone()).await;
    assert_eq!(body["messages"][1]["content"], json!([{"text": "So"}]));
    bedrock.configure(CLAUDE_4_6, json!({})).await;
    let error = bedrock.ask(CLAUDE_4_6, prefill).await.error(400);
    assert!(error["message"].as_str().unwrap().contains("end with one of the user's"), "{error}");
    let (body, _) = bedrock.sent(CLAUDE_4_6, json!({"reasoning_effort": "high"})).await;
    assert_eq!(body["outputConfig"], json!({"effort": "high"}));
    bedrock.configure(CLAUDE_4_5, json!({})).await;
    let schema = json!({"type": "object", "properties": {"z": {"type": "string"}}, "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
    let (body, _) = bedrock.sent(CLAUDE_4_5, json!({"response_format": format})).await;
    let asked = &body["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    assert_eq!(asked, &json!({"name": "answer", "schema": schema.to_string()}));
    bedrock.configure(NOVA, json!({})).await;
    let (body, warnings) = bedrock.sent(NOVA, json!({"top_k": 5, "user": "me", "odd": 1})).await;
    assert_eq!(body["additionalModelRequestFields"], json!({"odd": 1, "inferenceConfig": {"topK": 5}}));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.starts_with("`user` was left out")), "{warnings:?}");
    assert!(warnings.contains(&"unknown field `odd` was forwarded".to_owned()), "{warnings:?}");
}

#[tokio::test]
async fn the_configurations_fields_go_with_every_call_whole_or_streamed() {
    let extra = json!({
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "1"}, "cache_control": {"type": "ephemeral"},
        "max_tokens": 77, "anthropic_beta": ["x"],
    });
    let bedrock = Bedrock::with(CLAUDE, extra).await;
    bedrock.stub.answer_with(|_| Step::text("42"));
    bedrock.ask(CLAUDE, json!({"budget": 2, "stop_rule": "none"})).await.ok();
    let streamed = json!({"stream": true, "budget": 1, "max_tokens": 5});
    let chunks = bedrock.ask(CLAUDE, streamed).await.events();
    assert!(!chunks.is_empty());
    let seen = bedrock.stub.requests();
    let limits: Vec<Value> = seen.iter().map(|call| call.json()["inferenceConfig"]["maxTokens"].clone()).collect();
    assert_eq!(limits, [json!(77), json!(77), json!(5)]);
    for call in &seen {
        assert_eq!(call.refused, None);
        let body = call.json();
        assert_eq!(body["guardrailConfig"]["guardrailIdentifier"], "gr1");
        assert_eq!(body["additionalModelRequestFields"], json!({"anthropic_beta": ["x"]}));
        assert_eq!(body["messages"][0]["content"][1], json!({"cachePoint": {"type": "default"}}));
    }
    assert!(seen[2].is_stream);
    // Candidates share one text, byte for byte, so that they can share a cache.
    assert_eq!(seen[0].request.body, seen[1].request.body);
}

#[tokio::test]
async fn a_configuration_that_bedrock_cannot_take_is_refused_when_it_is_made() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    for (extra, place) in [
        (json!({"temperature": "hot"}), "extra_args.temperature"),
        (json!({"guardrailConfig": 4}), "guardrailConfig"),
        (json!({"cache_control": {"type": "ephemeral", "ttl": "1d"}}), "cache_control.ttl"),
    ] {
        let mut fields = document(json!({}));
        fields["extra_args"].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let error = app.post("/configure", &fields).await.error(400);
        assert!(error["message"].as_str().unwrap().contains(place), "{error}");
    }
}

#[tokio::test]
async fn what_bedrock_knows_is_no_unknown_field_and_what_it_does_not_is_told() {
    let bedrock = Bedrock::of(CLAUDE).await;
    let request = json!({
        "thinking": {"type": "disabled"}, "performanceConfig": {"latency": "standard"}, "requestMetadata": {"team": "a"},
        "guardrailConfig": {"guardrailIdentifier": "gr1", "guardrailVersion": "DRAFT"}, "anthropic_beta": ["x"],
        "cache_control": {"type": "ephemeral"}, "additionalModelRequestFields": {"custom": 1},
    });
    let (_, warnings) = bedrock.sent(CLAUDE, request).await;
    assert_eq!(warnings, [""; 0]);
    let named = json!({"messages": [{"role": "user", "name": "ann", "content": "Hi"}]});
    let (body, warnings) = bedrock.sent(CLAUDE, named).await;
    assert!(!body.to_string().contains("ann"), "{body}");
    assert!(warnings.len() == 1 && warnings[0].starts_with("`name` of messages was left out"), "{warnings:?}");
}

#[tokio::test]
async fn credentials_in_a_request_are_refused_and_no_model_is_told_them() {
    let bedrock = Bedrock::of(CLAUDE).await;
    for (name, place) in [
        ("aws_secret_access_key", "`extra_args.aws_secret_access_key`"),
        ("AWS_SESSION_TOKEN", "`extra_args.aws_session_token`"),
        ("aws_region_name", "`extra_args.aws_region_name`"),
        ("Aws_Region", "`extra_args.aws_region_name`"),
        ("aws_sts_endpoint", "`extra_args`"),
    ] {
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let mut request = json!({"model": format!("bedrock/{CLAUDE}"), name: "hush-hush"});
            match path {
                "/v1/completions" => request["prompt"] = "x".into(),
                _ => request["messages"] = json!([{"role": "user", "content": "x"}]),
            }
            let error = bedrock.app.post(path, &request).await.error(400);
            assert_eq!(error["param"], name);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("is set by POST /configure") && message.contains(place), "{message}");
            assert!(!message.contains("hush-hush"), "{message}");
        }
    }
    assert_eq!(bedrock.stub.requests().len(), 0);
}
