//! What single providers do in their own way, and the answer of OpenAI's shape that comes of it all the same.

use itsd::completion::{CallKind, Completion, FinishReason, ToolCall};
use itsd::failure::Failure;
use itsd::failure::FailureKind::*;
use serde_json::{Value, json};

use crate::app::{spawn_app, spawn_app_for};
use crate::provider::{complete, prompt, provider, stream};
use crate::upstream::{Profile, Step, Upstream};

/// A whole completion with this choice.
fn whole(choice: Value) -> Step {
    Step::body(&json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}).to_string())
}

/// A stream of these chunks, and its end.
fn chunks(chunks: &[Value]) -> Step {
    let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    Step::events(&format!("{body}data: [DONE]\n\n"))
}

/// A chunk with this delta.
fn delta(delta: Value) -> Value {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn end(reason: &str) -> Value {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

async fn completion_of(step: Step) -> Result<Completion, Failure> {
    let upstream = Upstream::start().await;
    upstream.push(step);
    complete(&provider(&upstream, |_| {})).await
}

async fn stream_of(step: Step) -> (Vec<Value>, Result<Completion, Failure>) {
    let upstream = Upstream::start().await;
    upstream.push(step);
    let (deltas, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    (deltas.iter().map(|delta| serde_json::from_str(delta).unwrap()).collect(), end)
}

fn message(completion: &Completion) -> Value {
    serde_json::from_str(completion.reply.raw().get()).unwrap()
}

#[tokio::test]
async fn a_router_that_waits_says_so_in_comments_and_its_answer_comes_after_them() {
    let answer = [delta(json!({"role": "assistant", "content": "42"})), end("stop")];
    let Step { body: Some(answer), .. } = chunks(&answer) else { unreachable!("it has one") };
    let waiting = ": OPENROUTER PROCESSING\n\n".repeat(3);
    for body in [format!("{waiting}{answer}"), answer.replace("data:", ": OPENROUTER PROCESSING\n\ndata:")] {
        let (deltas, end) = stream_of(Step::events(&body)).await;
        assert_eq!((deltas.len(), end.unwrap().reply.content()), (1, Some("42")));
    }
}

#[tokio::test]
async fn a_router_whose_provider_broke_off_tells_of_a_failure_wherever_it_says_so() {
    let error = json!({"code": 502, "message": "Provider returned error", "metadata": {"raw": "out of memory", "provider_name": "X"}});
    let told = "scripted answered 502: Provider returned error: out of memory";
    let said = json!({"role": "assistant", "content": "4"});
    for choice in [
        json!({"message": said, "error": error, "finish_reason": "error"}),
        json!({"message": {"role": "assistant", "content": ""}, "error": error}),
    ] {
        let failure = completion_of(whole(choice)).await.unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Unavailable, told));
    }
    let failure = completion_of(whole(json!({"message": said, "finish_reason": "error"}))).await.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (Unavailable, "scripted ended its answer with an error"));

    for last in [
        json!({"error": error, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        json!({"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": error}]}),
    ] {
        let (deltas, end) = stream_of(chunks(&[delta(said.clone()), last])).await;
        let failure = end.unwrap_err();
        assert_eq!((deltas.len(), failure.kind, failure.message.as_str()), (1, Unavailable, told));
    }
}

#[tokio::test]
async fn a_failure_of_a_routers_provider_before_the_first_word_is_retried_unseen() {
    let upstream = Upstream::start().await;
    let error = json!({"code": 502, "message": "Provider disconnected"});
    upstream
        .push(chunks(&[json!({"error": error, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]})]));
    upstream.push(Step::content("42"));
    let (_, end) = stream(&provider(&upstream, |spec| spec.calls.max_retries = 1), &prompt()).await;
    assert_eq!((end.unwrap().reply.content(), upstream.counters().requests), (Some("42"), 2));
}

#[tokio::test]
async fn whose_fault_it_is_follows_the_code_in_the_body_where_the_status_is_a_general_one() {
    let error = |code: Value, kind: &str| json!({"error": {"code": code, "message": "m", "type": kind}}).to_string();
    for (status, body, kind, requests) in [
        // As llama.cpp's server has answered.
        (500, error(json!(400), "invalid_request_error"), InvalidRequest, 1),
        (500, error(json!(401), "authentication_error"), Auth, 1),
        (500, error(json!(500), "server_error"), Unavailable, 2),
        (400, error(json!(503), "unavailable_error"), Unavailable, 2),
        (500, error(json!(400), "exceed_context_size_error"), ContextLength, 1),
        (502, error(json!("429"), ""), RateLimited, 2),
        // A particular status is as exact.
        (429, error(json!(500), "server_error"), RateLimited, 2),
        (401, error(json!(500), "server_error"), Auth, 1),
        (500, error(json!(7), ""), Unavailable, 2),
    ] {
        let upstream = Upstream::start().await;
        for _ in 0..2 {
            upstream.push(Step::status(status, &body).header("retry-after-ms", "1"));
        }
        let failure = complete(&provider(&upstream, |spec| spec.calls.max_retries = 1)).await.unwrap_err();
        assert_eq!((failure.kind, failure.status), (kind, Some(status)), "{status} {body}");
        assert_eq!(upstream.counters().requests, requests, "{status} {body}");
    }
}

#[tokio::test]
async fn groqs_limit_of_tokens_is_waited_for_and_its_models_mistakes_are_tried_again() {
    for (status, code) in [(413, "rate_limit_exceeded"), (400, "tool_use_failed"), (400, "json_validate_failed")] {
        let upstream = Upstream::start().await;
        let error = json!({"error": {"message": "m", "type": "tokens", "code": code, "failed_generation": "<f"}});
        upstream.push(Step::status(status, &error.to_string()).header("retry-after-ms", "1"));
        upstream.push(Step::content("42"));
        let completion = complete(&provider(&upstream, |spec| spec.calls.max_retries = 1)).await.unwrap();
        assert_eq!((completion.reply.content(), upstream.counters().requests), (Some("42"), 2), "{code}");
    }
}

#[tokio::test]
async fn a_models_mistake_is_not_asked_for_again_by_the_same_seed() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(400, r#"{"error":{"message":"m","code":"tool_use_failed"}}"#));
    let provider = provider(&upstream, |spec| spec.calls.max_retries = 1);
    let failure = provider.complete(&provider.prepare(&prompt()), Some(7), |_| ()).await.unwrap_err();
    assert_eq!((failure.kind, upstream.counters().requests), (Malformed, 1));
}

#[tokio::test]
async fn what_groq_puts_beside_a_chunk_is_read() {
    let said = delta(json!({"role": "assistant", "content": "42"}));
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8, "queue_time": 0.01});
    let mut last = end("stop");
    last["x_groq"] = json!({"id": "req_1", "usage": usage});
    let (_, answer) = stream_of(chunks(&[said.clone(), last])).await;
    assert_eq!(answer.unwrap().usage.total_tokens(), 8);

    let mut broken = end("stop");
    broken["x_groq"] = json!({"id": "req_1", "error": "over capacity"});
    let (_, answer) = stream_of(chunks(&[said, broken])).await;
    assert_eq!(answer.unwrap_err().message, "scripted answered with an error: over capacity");
}

#[tokio::test]
async fn a_plain_word_for_an_error_is_one_whole_and_within_a_stream() {
    // LM Studio's, vLLM's of old, and those of a server that says it in a 200.
    let of_vllm =
        json!({"object": "error", "message": "too long", "type": "BadRequestError", "param": null, "code": 400});
    for (body, kind) in [(json!({"error": "Model unloaded"}), Unavailable), (of_vllm, InvalidRequest)] {
        let failure = completion_of(Step::body(&body.to_string())).await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        let (_, end) = stream_of(chunks(&[delta(json!({"role": "assistant", "content": ""})), body])).await;
        assert_eq!(end.unwrap_err().kind, kind);
    }
}

#[tokio::test]
async fn a_page_of_html_is_a_failure_and_never_an_answer() {
    let page = Step::body("<!DOCTYPE html><title>Just a moment</title>").header("content-type", "text/html");
    assert_eq!(completion_of(page.clone()).await.unwrap_err().kind, Malformed);
    assert_eq!(stream_of(page).await.1.unwrap_err().kind, Malformed);
    let bad_gateway = Step::status(502, "<html>502</html>");
    assert_eq!(completion_of(bad_gateway.clone()).await.unwrap_err().kind, Unavailable);
    assert_eq!(stream_of(bad_gateway).await.1.unwrap_err().kind, Unavailable);
}

#[tokio::test]
async fn thoughts_are_kept_under_the_name_that_a_server_has_for_them_and_usage_may_come_alone() {
    for name in ["reasoning", "reasoning_content"] {
        let (deltas, answer) = stream_of(chunks(&[
            delta(json!({"role": "assistant", "content": "", name: "six "})),
            delta(json!({"content": "", name: "times seven"})),
            delta(json!({"content": "42"})),
            end("stop"),
            json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}),
        ]))
        .await;
        let answer = answer.unwrap();
        let expected = json!({"role": "assistant", "content": "42", "refusal": null, name: "six times seven"});
        assert_eq!((deltas.len(), message(&answer)), (3, expected));
        assert_eq!((answer.usage.total_tokens(), answer.usage.unknown_calls), (14, 0));
    }
    // A thought that took all the room leaves an empty answer, not a failure.
    let thought =
        json!({"message": {"role": "assistant", "content": "", "reasoning": "hm"}, "finish_reason": "length"});
    let answer = completion_of(whole(thought)).await.unwrap();
    assert_eq!((answer.reply.content(), answer.finish_reason.clone()), (Some(""), FinishReason::Length));
    assert_eq!(message(&answer)["reasoning"], "hm");
}

#[tokio::test]
async fn calls_of_tools_have_index_id_and_type_however_they_were_streamed() {
    let call = |arguments: Value| json!({"function": {"name": "f", "arguments": arguments}});
    let numbered = |index: usize, mut call: Value| {
        call["index"] = json!(index);
        call
    };
    for (form, pieces) in [
        ("without index, id and type", vec![json!([call(json!("{\"x\":1}"))]), json!([call(json!("{}"))])]),
        ("both in one", vec![json!([call(json!("{\"x\":1}")), call(json!("{}"))])]),
        ("arguments as an object", vec![json!([call(json!({"x": 1})), call(json!({}))])]),
        ("from one", vec![json!([numbered(1, call(json!("{\"x\":1}")))]), json!([numbered(2, call(json!("{}")))])]),
    ] {
        let mut all: Vec<Value> = pieces.into_iter().map(|calls| delta(json!({"tool_calls": calls}))).collect();
        all.push(end("tool_calls"));
        let (deltas, answer) = stream_of(chunks(&all)).await;
        let answer = answer.unwrap();
        let calls: Vec<&Value> = deltas.iter().flat_map(|delta| delta["tool_calls"].as_array().unwrap()).collect();
        assert_eq!(calls.len(), 2, "{form}: {deltas:?}");
        for (at, call) in calls.iter().enumerate() {
            assert_eq!((&call["index"], &call["type"]), (&json!(at), &json!("function")), "{form}");
            let arguments = ["{\"x\":1}", "{}"][at];
            assert_eq!(call["function"], json!({"name": "f", "arguments": arguments}), "{form}");
            // What the client has seen is what the run goes on with.
            let id = call["id"].as_str().unwrap();
            assert!(id.starts_with("call_"), "{form}: {id}");
            assert_eq!(answer.reply.tool_calls()[at], ToolCall::function(id, "f", arguments), "{form}");
        }
        assert_ne!(calls[0]["id"], calls[1]["id"], "{form}");
        assert_eq!(message(&answer)["tool_calls"][1]["type"], "function");
    }
}

#[tokio::test]
async fn calls_that_all_have_the_same_index_are_numbered_for_the_client() {
    let call = |id: &str, name: &str| json!([{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": "{}"}, "extra_content": {"google": {"thought_signature": id}}}]);
    let (deltas, answer) = stream_of(chunks(&[
        delta(json!({"role": "assistant", "tool_calls": call("a", "f")})),
        delta(json!({"tool_calls": call("b", "g")})),
        // Gemini's says so where it calls tools.
        end("stop"),
    ]))
    .await;
    let indices: Vec<&Value> = deltas.iter().map(|delta| &delta["tool_calls"][0]["index"]).collect();
    assert_eq!(indices, [0, 1]);
    let answer = answer.unwrap();
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    // It wants its signatures back with the next turn.
    let message = message(&answer);
    let signatures = message["tool_calls"].as_array().unwrap().iter().map(|call| {
        assert_eq!(call["type"], "function");
        call["extra_content"]["google"]["thought_signature"].clone()
    });
    assert_eq!(signatures.collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn a_stream_that_is_in_shape_is_passed_on_byte_for_byte() {
    let pieces = [
        r#"{"role":"assistant","content":null,"tool_calls":[{"index":0, "id":"a","type":"function","function":{"name":"f","arguments":""}}]}"#,
        r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\": 1.0}"}}]}"#,
        r#"{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"},"x": 1.50}]}"#,
    ];
    let body: String =
        pieces.iter().map(|delta| format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n")).collect();
    let upstream = Upstream::start().await;
    upstream.push(Step::events(&format!("{body}data: [DONE]\n\n")));
    let (deltas, answer) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    assert_eq!(deltas, pieces);
    assert_eq!(answer.unwrap().finish_reason, FinishReason::ToolCalls);
}

#[tokio::test]
async fn a_custom_tools_call_stays_one_in_a_stream() {
    let (deltas, answer) = stream_of(chunks(&[
        delta(
            json!({"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "sh", "input": ""}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "custom": {"input": "ls "}}]})),
        delta(json!({"tool_calls": [{"index": 0, "custom": {"input": "-l"}}]})),
        end("tool_calls"),
    ]))
    .await;
    let answer = answer.unwrap();
    assert_eq!(deltas.len(), 3);
    let expected =
        ToolCall { kind: CallKind::Custom, id: "a".to_owned(), name: "sh".to_owned(), arguments: "ls -l".to_owned() };
    assert_eq!(answer.reply.tool_calls(), [expected]);
    let call = json!({"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}});
    assert_eq!(message(&answer)["tool_calls"], json!([call]));
}

#[tokio::test]
async fn a_whole_answer_has_what_its_server_left_out() {
    let calls = json!([{"function": {"name": "f", "arguments": {"x": 1}}}]);
    let answer =
        completion_of(whole(json!({"message": {"tool_calls": calls}, "finish_reason": "stop"}))).await.unwrap();
    let message = message(&answer);
    assert_eq!((&message["role"], &message["content"]), (&json!("assistant"), &Value::Null));
    assert_eq!(message["tool_calls"][0]["type"], "function");
    assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    let id = message["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!(answer.reply.tool_calls(), [ToolCall::function(id, "f", "{\"x\":1}")]);
    for (word, expected) in [("eos", FinishReason::Stop), ("max_tokens", FinishReason::Length)] {
        let answer = completion_of(whole(json!({"message": {"content": "4"}, "finish_reason": word}))).await.unwrap();
        assert_eq!(answer.finish_reason, expected);
    }
}

#[tokio::test]
async fn a_stream_with_pings_and_without_a_terminator_is_whole_when_its_model_has_ended() {
    // As text-generation-webui's server writes it, which ends in its usage.
    let ping = ": ping - 2026-01-01 00:00:00.000000+00:00\r\n\r\n";
    let mut last = end("stop");
    last["choices"][0]["delta"] = json!({"role": "assistant", "content": ""});
    last["usage"] = json!({"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5});
    let said = delta(json!({"role": "assistant", "content": "42"}));
    let (_, answer) = stream_of(Step::events(&format!("{ping}data: {said}\r\n\r\n{ping}data: {last}\r\n\r\n"))).await;
    let answer = answer.unwrap();
    assert_eq!((answer.reply.content(), answer.usage.total_tokens()), (Some("42"), 5));
    let failure = completion_of(Step::status(500, "Internal Server Error")).await.unwrap_err();
    assert_eq!((failure.kind, failure.message.ends_with("Internal Server Error")), (Unavailable, true));
}

/// A choice as Together's server writes it.
fn together(text: &str, logprob: f64) -> Value {
    json!({
        "message": {"role": "assistant", "content": text, "tool_calls": []}, "finish_reason": "eos",
        "logprobs": {"tokens": [text], "token_logprobs": [logprob], "token_ids": [7], "top_logprobs": [{text: logprob}]}
    })
}

#[tokio::test]
async fn togethers_lists_of_log_probabilities_weigh_a_vote_and_reach_the_client_as_openais() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none", "vote_on": "exact"})).await;
    // Two that doubt against one that is sure: e^-3 + e^-3 < e^-0.1.
    for (text, logprob) in [("41", -3.0), ("41", -3.0), ("42", -0.1)] {
        upstream.push(whole(together(text, logprob)));
    }
    let weighed = app.chat(json!({"vote_weight": "confidence", "logprobs": true})).await.ok();
    let choice = &weighed["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("42"), &json!("stop")));
    let token = json!({
        "token": "42", "logprob": -0.1, "bytes": [52, 50],
        "top_logprobs": [{"token": "42", "logprob": -0.1, "bytes": [52, 50]}]
    });
    // Of alternatives it asked for none.
    let told = &choice["logprobs"]["content"][0];
    assert_eq!(
        (&told["token"], &told["logprob"], &told["bytes"]),
        (&token["token"], &token["logprob"], &token["bytes"])
    );

    upstream.push(whole(together("42", -0.1)));
    let plain = app.chat(json!({"budget": 1, "logprobs": true, "top_logprobs": 1})).await.ok();
    assert_eq!(plain["choices"][0]["logprobs"], json!({"content": [token], "refusal": null}));

    // In a stream it tells a number a chunk, or lists of one.
    let of_chunk = |text: &str, logprobs: Value| {
        let mut chunk = delta(json!({"content": text}));
        chunk["choices"][0]["logprobs"] = logprobs;
        chunk
    };
    let lists = json!({"tokens": ["2"], "token_logprobs": [-0.25]});
    upstream.push(chunks(&[of_chunk("4", json!(-0.5)), of_chunk("2", lists), end("eos")]));
    let events = app.chat(json!({"budget": 1, "logprobs": true, "stream": true})).await.events();
    let told = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"][0]["logprob"].as_f64());
    assert_eq!(told.collect::<Vec<_>>(), [-0.5, -0.25]);
}

#[tokio::test]
async fn a_client_that_reads_a_stream_gets_calls_that_its_library_can_put_together() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    let call = json!([{"function": {"name": "f", "arguments": "{}"}}]);
    let stopped =
        json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}]});
    upstream.push(chunks(&[delta(json!({"role": "assistant", "content": "", "tool_calls": call})), stopped]));
    let events = app.chat(json!({"stream": true, "tools": tools})).await.events();
    let calls: Vec<&Value> =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(calls.len(), 1, "{events:?}");
    assert_eq!((&calls[0]["index"], &calls[0]["type"]), (&json!(0), &json!("function")));
    assert!(calls[0]["id"].as_str().unwrap().starts_with("call_"));
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn every_server_there_is_answers_in_the_shape_of_openais() {
    let app = spawn_app().await;
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    for (name, profile) in Profile::ALL {
        let upstream = Upstream::with_profile(profile).await;
        let provider = match name {
            "old-llama-server" => "llama-server",
            "plain" | "gemini-compatible" | "ignores-n" | "html-errors" | "error-in-200" => "openai-compatible",
            name => name,
        };
        let endpoint = upstream.base_url();
        let document = json!({
            "provider": provider, "endpoint": endpoint, "model": "scripted", "api_key": "key-0123456789", "budget": 1,
            "max_retries": 0
        });
        app.post("/configure", &document).await.ok();

        let spoken = app.chat(json!({})).await.ok();
        let choice = &spoken["choices"][0];
        assert_eq!(
            (&choice["message"]["role"], &choice["finish_reason"]),
            (&json!("assistant"), &json!("stop")),
            "{name}"
        );
        assert!(spoken["usage"]["total_tokens"].as_u64().unwrap() > 0, "{name}");

        let called = app.chat(json!({"tools": tools})).await.ok();
        let choice = &called["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&Value::Null, &json!("tool_calls")),
            "{name}"
        );
        assert_is_call(name, &choice["message"]["tool_calls"][0]);

        let events = app.chat(json!({"tools": tools, "stream": true})).await.events();
        let calls: Vec<&Value> =
            events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"].get(0)).collect();
        assert_is_call(name, calls[0]);
        assert!(calls.iter().all(|call| call["index"] == 0), "{name}: {calls:?}");
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant", "{name}");
        let reasons: Vec<&str> =
            events.iter().filter_map(|event| event["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(reasons, ["tool_calls"], "{name}");

        // An error is one, however it looks, and whatever was asked for.
        for stream in [false, true] {
            upstream.push(Step::refused(429));
            let refused = app.chat(json!({"stream": stream})).await;
            // One server says of every failure that it is its own.
            let is_told = stream && refused.status == 200 || [429, 502].contains(&refused.status);
            assert!(is_told, "{name}: {} {}", refused.status, refused.text);
            assert!(refused.text.contains("\"error\""), "{name}: {}", refused.text);
        }
    }
}

#[track_caller]
fn assert_is_call(server: &str, call: &Value) {
    assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()), "{server}: {call}");
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("f")), "{server}");
    assert!(call["function"]["arguments"].is_string(), "{server}: {call}");
}
