//! What Bedrock's models answer, as clients of OpenAI's API get it: whole and streamed, which come to the same.

use futures_util::StreamExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::app::{TestApp, events};
use crate::bedrock_configuration::{MODEL, app_at, ask, document};
use crate::bedrock_stub::{BedrockStub, Block, Point, Step, ToolUse};

async fn app_for(stub: &BedrockStub, fields: Value) -> TestApp {
    let app = app_at(stub).await;
    app.post("/configure", &document(fields)).await.ok();
    app
}

fn reasoning(text: &str, signature: Option<&str>) -> Block {
    Block::Reasoning { text: text.to_owned(), signature: signature.map(str::to_owned) }
}

/// Blocks of every kind.
fn everything() -> Step {
    Step {
        content: vec![
            reasoning("Let me see.", Some("c2ln")),
            Block::Redacted("c2VjcmV0".to_owned()),
            Block::Text("Two ".to_owned()),
            Block::tool_use("tooluse_a", "add", json!({"numbers": [1, 2]})),
            Block::Text("calls".to_owned()),
            Block::tool_use("tooluse_b", "now", json!({})),
        ],
        usage: Some(json!({
            "inputTokens": 11, "outputTokens": 3, "totalTokens": 26, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 7
        })),
        trace: Some(json!({"guardrail": {"actionReason": "kept out"}})),
        additional_model_response_fields: Some(
            json!({"stop_sequence": "x", "b": {"d": [1, -1, 1.5, null], "c": true}}),
        ),
        ..Step::default()
    }
}

/// The message of [`everything`].
fn everything_in_openais_shape() -> Value {
    json!({
        "role": "assistant", "content": "Two calls", "refusal": null,
        "tool_calls": [
            {"id": "tooluse_a", "type": "function", "function": {"name": "add", "arguments": "{\"numbers\":[1,2]}"}},
            {"id": "tooluse_b", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        ],
        "reasoning_content": "Let me see.",
        "thinking_blocks": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "c2VjcmV0"}
        ],
        "provider_specific_fields": {"additionalModelResponseFields": {
            "stop_sequence": "x", "b": {"d": [1, -1, 1.5, null], "c": true}
        }}
    })
}

/// The message that a client puts together from a stream's deltas, as OpenAI's own do.
fn put_together(chunks: &[Value]) -> Value {
    let mut message = Map::new();
    let append = |whole: &mut Value, piece: &Value| match (whole.as_str(), piece.as_str()) {
        (Some(known), Some(more)) => *whole = json!(format!("{known}{more}")),
        _ => *whole = piece.clone(),
    };
    for delta in chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"].as_object()) {
        for (name, value) in delta {
            if name != "tool_calls" {
                append(message.entry(name.clone()).or_insert(Value::Null), value);
                continue;
            }
            let calls = message.entry("tool_calls").or_insert(json!([])).as_array_mut().unwrap();
            for piece in value.as_array().unwrap() {
                let index = piece["index"].as_u64().unwrap() as usize;
                if index == calls.len() {
                    let mut call = piece.clone();
                    call.as_object_mut().unwrap().remove("index");
                    calls.push(call);
                } else {
                    append(&mut calls[index]["function"]["arguments"], &piece["function"]["arguments"]);
                }
            }
        }
    }
    Value::Object(message)
}

/// A message without what a stream has no need to say.
fn without_nulls(message: &Value) -> Value {
    let mut message = message.as_object().unwrap().clone();
    message.retain(|_, value| !value.is_null());
    Value::Object(message)
}

#[tokio::test]
async fn blocks_of_every_kind_come_in_openais_shape() {
    let stub = BedrockStub::start().await;
    stub.answer_with(|_| everything());
    let app = app_for(&stub, json!({})).await;
    let answer = ask(&app, json!({})).await.ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"], everything_in_openais_shape());
    assert_eq!((&choice["finish_reason"], &choice["logprobs"]), (&json!("tool_calls"), &Value::Null));
    let usage = &answer["usage"];
    assert_eq!(
        [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]].map(|count| count.as_u64()),
        [Some(23), Some(3), Some(26)]
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);
    assert!(!answer.to_string().contains("kept out"), "{answer}");
}

#[tokio::test]
async fn a_stream_tells_them_piece_by_piece_and_who_speaks_first() {
    let stub = BedrockStub::start().await;
    stub.answer_with(|_| everything());
    let app = app_for(&stub, json!({})).await;
    let chunks = ask(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await.events();
    let deltas: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk["choices"][0].get("delta")).collect();
    let arguments =
        |index: usize, piece: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]});
    let beginning = |index: usize, id: &str, name: &str| {
        let function = json!({"name": name, "arguments": ""});
        json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": function}]})
    };
    let expected = [
        json!({"role": "assistant", "content": null}),
        json!({"reasoning_content": "Let"}),
        json!({"reasoning_content": " me"}),
        json!({"reasoning_content": " see."}),
        json!({"content": "Two "}),
        beginning(0, "tooluse_a", "add"),
        arguments(0, "{\"number"),
        arguments(0, "s\":[1,2]}"),
        json!({"content": "calls"}),
        beginning(1, "tooluse_b", "now"),
        arguments(1, "{"),
        arguments(1, "}"),
        json!({
            "thinking_blocks": everything_in_openais_shape()["thinking_blocks"],
            "provider_specific_fields": everything_in_openais_shape()["provider_specific_fields"],
        }),
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    let ends: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(ends[ends.len() - 2..], [&json!("tool_calls"), &Value::Null], "the end, and then the usage");
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(23), &json!(3)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);
    let text = json!(chunks).to_string();
    assert!(!text.contains("kept out"), "{text}");

    let chunks = ask(&app, json!({"stream": true})).await.events();
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "it was not asked for");
}

#[tokio::test]
async fn what_is_said_arrives_while_the_model_still_speaks() {
    let stub = BedrockStub::start().await;
    stub.push(Step { stream_gate: Some("more".to_owned()), ..Step::text("One two three") });
    let app = app_for(&stub, json!({})).await;
    let request = json!({
        "model": format!("bedrock/{MODEL}"), "stream": true, "messages": [{"role": "user", "content": "Count."}]
    });
    let answer = app.json_request("/v1/chat/completions", &request.to_string()).send().await.unwrap();
    let mut body = answer.bytes_stream();
    let mut text = String::new();
    while !text.contains("One") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    assert_eq!(stub.counters().answered, 0);
    stub.open_gate("more");
    while let Some(piece) = body.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
    }
    let chunks = events(text.strip_suffix("data: [DONE]\n\n").unwrap());
    assert_eq!(put_together(&chunks), json!({"role": "assistant", "content": "One two three"}));
}

#[tokio::test]
async fn reasons_to_stop_are_the_same_whole_and_streamed() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    for (stop_reason, told) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "something_new"),
    ] {
        stub.answer_with(move |_| Step::text("x").stop_reason(stop_reason));
        assert_eq!(ask(&app, json!({})).await.ok()["choices"][0]["finish_reason"], told);
        let chunks = ask(&app, json!({"stream": true})).await.events();
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], told);
    }
    // An answer that the model could not write is asked for again, and is one when it comes.
    app.post("/configure", &document(json!({"max_retries": 1}))).await.ok();
    for stop_reason in ["malformed_model_output", "malformed_tool_use"] {
        for stream in [false, true] {
            let cut = Step { is_silent: true, ..Step::default() };
            let asked = stub.counters().requests;
            stub.push(cut.clone().stop_reason(stop_reason));
            stub.push(Step::text("better"));
            let answer = ask(&app, json!({ "stream": stream })).await;
            assert!(answer.text.contains("better"), "{}", answer.text);
            assert_eq!(stub.counters().requests, asked + 2);
            stub.push(cut.clone().stop_reason(stop_reason));
            stub.push(cut.stop_reason(stop_reason));
            let error = ask(&app, json!({ "stream": stream })).await.error(502);
            assert_eq!(error["code"], "upstream_malformed");
            assert!(error["message"].as_str().unwrap().contains(stop_reason), "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_may_be_empty_and_a_call_may_be_cut_off() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    stub.answer_with(|_| Step { is_silent: true, ..Step::default() });
    let answer = ask(&app, json!({})).await.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "");
    let chunks = ask(&app, json!({"stream": true})).await.events();
    assert_eq!(put_together(&chunks), json!({"role": "assistant", "content": ""}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");

    let cut = ToolUse { id: None, name: "f".to_owned(), input_text: Some("{\"a\": ".to_owned()), ..ToolUse::default() };
    stub.answer_with(move |_| {
        Step { content: vec![Block::ToolUse(cut.clone())], ..Step::default() }.stop_reason("max_tokens")
    });
    let chunks = ask(&app, json!({"stream": true})).await.events();
    assert_eq!(put_together(&chunks)["tool_calls"][0]["function"], json!({"name": "f", "arguments": "{\"a\": "}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "length");

    // A tool that takes nothing may be called without a word.
    stub.answer_with(|_| {
        Step::events([
            ("messageStart", json!({"role": "assistant"})),
            (
                "contentBlockStart",
                json!({"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "now"}}}),
            ),
            ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": ""}}})),
            ("contentBlockStop", json!({"contentBlockIndex": 0})),
            ("messageStop", json!({"stopReason": "tool_use"})),
        ])
    });
    let chunks = ask(&app, json!({"stream": true})).await.events();
    assert_eq!(put_together(&chunks)["tool_calls"][0]["function"], json!({"name": "now", "arguments": "{}"}));
}

#[tokio::test]
async fn events_that_nobody_knows_yet_are_passed_over_and_blocks_may_alternate() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    let delta = |index: u64, delta: Value| ("contentBlockDelta", json!({"contentBlockIndex": index, "delta": delta}));
    let start = |index: u64, id: &str| {
        let start = json!({"toolUse": {"toolUseId": id, "name": id}});
        ("contentBlockStart", json!({"contentBlockIndex": index, "start": start}))
    };
    let told = [
        ("somethingNew", json!({"a": 1})),
        ("messageStart", json!({"role": "assistant", "new": {}})),
        delta(0, json!({"text": ""})),
        delta(0, json!({"text": "See "})),
        delta(0, json!({"somethingNew": {"text": "x"}})),
        delta(0, json!({"citation": {"title": "t", "sourceContent": [{"text": "kept out"}]}})),
        start(1, "a"),
        start(2, "b"),
        delta(2, json!({"toolUse": {"input": "{\"x\":"}})),
        delta(1, json!({"toolUse": {"input": "{}"}})),
        delta(0, json!({"text": "this."})),
        delta(2, json!({"toolUse": {"input": "1}"}})),
        delta(7, json!({"toolUse": {"input": "of nobody"}})),
        ("messageStop", json!({"stopReason": "tool_use", "additionalModelResponseFields": {"a": 1}})),
    ];
    stub.answer_with(move |_| Step::events(told.clone()));
    let chunks = ask(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await.events();
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": id, "arguments": arguments}});
    let expected = json!({
        "role": "assistant", "content": "See this.", "tool_calls": [call("a", "{}"), call("b", "{\"x\":1}")],
        "provider_specific_fields": {"additionalModelResponseFields": {"a": 1}}
    });
    assert_eq!(put_together(&chunks), expected);
    // Nobody has said what it cost.
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 0);
}

#[tokio::test]
async fn counts_that_no_call_can_have_are_left_out_and_the_answer_is_not() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    for usage in [
        json!({"inputTokens": 9_007_199_254_740_993_u64, "outputTokens": 1}),
        json!({"outputTokens": u64::MAX}),
        json!({"cacheReadInputTokens": -1}),
        json!({"inputTokens": null}),
        json!({"outputTokens": 1.5}),
    ] {
        let told = usage.clone();
        stub.answer_with(move |_| Step { usage: Some(told.clone()), ..Step::text("42") });
        for stream in [false, true] {
            let fields = json!({"stream": stream, "return_response_only": false, "budget": 1});
            let answer = ask(&app, fields).await;
            assert_eq!(answer.status, 200, "{usage}: {}", answer.text);
            assert!(answer.text.contains("42"), "{usage}: {}", answer.text);
            assert!(!answer.text.contains("9007199254740993") && !answer.text.contains("18446744"), "{}", answer.text);
        }
    }
}

/// A script of random blocks.
fn random_step(draw: &mut ChaCha8Rng) -> Step {
    let words = ["x", "größer \"als\" 7\n", " two  spaces ", "\\boxed{42}", "日本語 text", "🦀"];
    let word = |draw: &mut ChaCha8Rng| words[draw.random_range(0..words.len())].to_owned();
    let mut content = Vec::new();
    for number in 0..draw.random_range(0..6) {
        content.push(match draw.random_range(0..4) {
            0 => Block::Text((0..draw.random_range(1..4)).map(|_| word(draw)).collect()),
            1 => {
                let signature = draw.random_bool(0.5).then(|| format!("c2ln{number}="));
                Block::Reasoning { text: word(draw), signature }
            }
            2 => Block::Redacted("aGlkZGVu".to_owned()),
            _ => {
                let inputs = [json!({}), json!({"b": 1, "a": [1.5, null]}), json!({"text": word(draw)})];
                Block::tool_use(&format!("tooluse_{number}"), "f", inputs[draw.random_range(0..3)].clone())
            }
        });
    }
    let reasons = ["max_tokens", "stop_sequence", "content_filtered", "end_turn"];
    Step {
        is_silent: content.is_empty(),
        content,
        stop_reason: draw.random_bool(0.4).then(|| reasons[draw.random_range(0..reasons.len())].to_owned()),
        split_bytes: draw.random_bool(0.5).then(|| draw.random_range(1..200)),
        ..Step::default()
    }
}

#[tokio::test]
async fn an_answer_is_the_same_whole_streamed_and_as_the_winner_of_a_vote() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    let mut draw = ChaCha8Rng::seed_from_u64(20_261_120);
    for number in 0..120 {
        let step = random_step(&mut draw);
        let script = step.clone();
        stub.answer_with(move |_| script.clone());
        let whole = ask(&app, json!({})).await.ok();
        let (message, end) = (&whole["choices"][0]["message"], &whole["choices"][0]["finish_reason"]);
        let mut streams = vec![json!({"stream": true})];
        if number % 4 == 0 {
            streams.push(json!({"stream": true, "budget": 2}));
        }
        for fields in streams {
            let chunks = ask(&app, fields.clone()).await.events();
            assert_eq!(without_nulls(&put_together(&chunks)), without_nulls(message), "{fields} {step:?}");
            assert_eq!(&chunks.last().unwrap()["choices"][0]["finish_reason"], end, "{fields} {step:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_no_answer_is_told_of_and_one_without_an_end_is_given_up() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    for (step, said) in [
        (Step::status(200, ""), "an empty body"),
        (Step::status(200, "<html>").header("content-type", "text/html"), "a page of HTML"),
        (Step::status(200, "{\"output\":"), "a body that breaks off"),
        (Step::status(200, "{}"), "an answer without a message"),
        (Step { bytes: Some(vec![b' '; (64 << 20) + 1]), ..Step::default() }, "a body of more than 64 MiB"),
        (Step { bytes: Some(vec![0xff, 0xfe]), ..Step::default() }, "JSON that cannot be read"),
    ] {
        stub.push(step);
        let error = ask(&app, json!({})).await.error(502);
        assert_eq!(error["code"], "upstream_malformed");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    for (point, code) in [(Point::Head, "upstream_unavailable"), (Point::Body, "upstream_unavailable")] {
        stub.push(Step::close_at(point));
        assert_eq!(ask(&app, json!({})).await.error(502)["code"], code);
    }
}
