//! Streamed candidates: deltas as the upstream wrote them, and the completion that they add up to.

use std::time::Duration;

use futures_util::StreamExt;
use itsd::completion::{FinishReason, Logprobs, StepEvent, ToolCall};
use itsd::failure::FailureKind::*;
use serde_json::{Value, json};

use crate::app::spawn_app_for;
use crate::provider::{complete, prompt, provider, stream};
use crate::upstream::{Call, Point, Step, Upstream};

/// The body of a stream with these `choices[0]` objects, then its end.
fn events(choices: &[Value]) -> String {
    let mut body = String::new();
    for choice in choices {
        body.push_str(&format!("data: {}\n\n", json!({"choices": [choice]})));
    }
    body + "data: [DONE]\n\n"
}

fn delta(delta: Value) -> Value {
    json!({"index": 0, "delta": delta, "finish_reason": null})
}

fn end(reason: &str) -> Value {
    json!({"index": 0, "delta": {}, "finish_reason": reason})
}

#[tokio::test]
async fn a_stream_adds_up_to_the_whole_answer() {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |_| {});
    let mut prompt = prompt();
    prompt.logprobs = Some(Logprobs { top: 2 });
    for step in [
        Step::content("été 🦀 forty two"),
        Step { reasoning_content: Some("six times seven".to_owned()), ..Step::content("42") },
        Step { refusal: Some("I can not".to_owned()), ..Step::default() },
        Step {
            tool_calls: vec![
                Call {
                    id: Some("c1".to_owned()), name: "f".to_owned(), arguments: r#"{"city": "Zürich"}"#.to_owned()
                },
                Call { id: Some("c2".to_owned()), name: "g".to_owned(), arguments: "{}".to_owned() },
            ],
            ..Step::default()
        },
    ] {
        upstream.push(step.clone());
        upstream.push(step);
        let whole = provider.complete(&provider.prepare(&prompt), None, |_| ()).await.unwrap();
        let (deltas, streamed) = stream(&provider, &prompt).await;
        let streamed = streamed.unwrap();
        let json = |raw: &serde_json::value::RawValue| serde_json::from_str::<Value>(raw.get()).unwrap();
        assert_eq!(json(streamed.reply.raw()), json(whole.reply.raw()));
        assert_eq!(streamed.finish_reason, whole.finish_reason);
        assert_eq!(streamed.usage, whole.usage);
        assert_eq!(streamed.mean_logprob, whole.mean_logprob);
        if whole.reply.content().is_some() {
            assert_eq!(
                streamed.logprobs.map(|raw| json(&raw)["content"].clone()),
                whole.logprobs.map(|raw| json(&raw)["content"].clone())
            );
        }
        assert!(deltas.len() > 1, "{deltas:?}");
    }
}

#[tokio::test]
async fn deltas_are_passed_on_as_they_came() {
    let upstream = Upstream::start().await;
    let fields = [r#"{"role":"assistant", "content":""}"#, r#"{ "content":"\u00e9", "x": 1.50}"#];
    let body = format!(
        "data: {{\"choices\":[]}}\n\n: hm\n\ndata: {{\"choices\":[{{\"delta\":{}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{}}}]}}\n\ndata: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n",
        fields[0], fields[1]
    );
    upstream.push(Step::events(&body));
    let (deltas, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    assert_eq!(deltas, fields);
    assert_eq!(end.unwrap().reply.content(), Some("é"));
}

#[tokio::test]
async fn how_the_network_cuts_a_stream_does_not_matter() {
    let body = events(&[delta(json!({"content": "日本"})), delta(json!({"content": " 🦀\r\n"})), end("stop")]);
    for size in [1, 2, 3, 7] {
        for body in [body.clone(), body.replace('\n', "\r\n")] {
            let upstream = Upstream::start().await;
            upstream.push(Step { split_bytes: Some(size), ..Step::events(&body) });
            let (deltas, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
            assert_eq!(deltas.len(), 2);
            assert_eq!(end.unwrap().reply.content(), Some("日本 🦀\r\n"));
        }
    }
}

#[tokio::test]
async fn content_comes_while_the_rest_is_still_being_made() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("rest".to_owned()), ..Step::content("one two") });
    let provider = provider(&upstream, |_| {});
    let mut events = Box::pin(provider.stream(provider.prepare(&prompt()), None, |_| ()));
    for expected in [r#"{"role":"assistant","content":""}"#, r#"{"content":"one "}"#] {
        let Some(StepEvent::Delta(delta)) = events.next().await else { panic!("no delta") };
        assert_eq!(delta.fields.get(), expected);
    }
    upstream.open_gate("rest");
    let rest: Vec<StepEvent> = events.collect().await;
    assert!(matches!(rest.as_slice(), [StepEvent::Delta(_), StepEvent::Finished(_)]));
}

#[tokio::test]
async fn tool_calls_are_told_apart_however_a_server_numbers_them() {
    let call = |index: Value, id: &str, name: &str, arguments: Value| {
        let mut call = json!({"function": {"name": name, "arguments": arguments}});
        if !index.is_null() {
            call["index"] = index;
        }
        if !id.is_empty() {
            call["id"] = json!(id);
        }
        call
    };
    let none = Value::Null;
    let forms: [Vec<Value>; 5] = [
        // As OpenAI does it.
        vec![
            json!([call(json!(0), "a", "f", json!(""))]),
            json!([call(json!(0), "", "", json!("{\"x\"")), call(json!(1), "b", "g", json!("{"))]),
            json!([call(json!(1), "", "", json!("}")), call(json!(0), "", "", json!(":1}"))]),
        ],
        // Without an index, each call whole and under its id.
        vec![json!([call(none.clone(), "a", "f", json!("{\"x\":1}")), call(none.clone(), "b", "g", json!("{}"))])],
        // Without an index, in pieces.
        vec![
            json!([call(none.clone(), "a", "f", json!("{\"x\""))]),
            json!([call(none.clone(), "", "", json!(":1}"))]),
            json!([call(none.clone(), "b", "g", json!("{}"))]),
        ],
        // Every call has index 0.
        vec![json!([call(json!(0), "a", "f", json!("{\"x\":1}"))]), json!([call(json!(0), "b", "g", json!("{}"))])],
        // The id and the name come with every piece, and arguments as an object.
        vec![
            json!([call(json!(0), "a", "f", json!("{\"x\":"))]),
            json!([call(json!(0), "a", "f", json!("1}"))]),
            json!([call(json!(1), "b", "g", json!({}))]),
        ],
    ];
    for (at, form) in forms.into_iter().enumerate() {
        let mut choices: Vec<Value> = form.into_iter().map(|calls| delta(json!({"tool_calls": calls}))).collect();
        choices.push(end("tool_calls"));
        let upstream = Upstream::start().await;
        upstream.push(Step::events(&events(&choices)));
        let (_, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
        let expected = [("a", "f", "{\"x\":1}"), ("b", "g", "{}")]
            .map(|(id, name, arguments)| ToolCall::function(id, name, arguments));
        assert_eq!(end.unwrap().reply.tool_calls(), expected, "form {at}");
    }
}

#[tokio::test]
async fn fields_that_nobody_knows_are_kept_in_the_whole_message() {
    let upstream = Upstream::start().await;
    upstream.push(Step::events(&events(&[
        delta(json!({"role": "assistant", "reasoning": "h", "reasoning_content": "h", "reasoning_details": [{"text": "h"}]})),
        delta(json!({"reasoning": "m", "reasoning_content": "m", "reasoning_details": [{"text": "m"}]})),
        delta(json!({"content": "42"})),
        end("stop"),
    ])));
    let (_, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    let message: Value = serde_json::from_str(end.unwrap().reply.raw().get()).unwrap();
    assert_eq!(message["reasoning_content"], "hm");
    assert_eq!(message["reasoning_details"], json!([{"text": "h"}, {"text": "m"}]));
}

#[tokio::test]
async fn content_in_parts_is_read_as_its_text() {
    let upstream = Upstream::start().await;
    upstream.push(Step::events(&events(&[
        delta(json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]})),
        delta(json!({"content": [{"type": "text", "text": "4"}]})),
        delta(json!({"content": "2"})),
        end("stop"),
    ])));
    let (deltas, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    assert_eq!((deltas.len(), end.unwrap().reply.content()), (3, Some("42")));
}

#[tokio::test]
async fn an_error_before_any_content_is_retried_unseen() {
    let upstream = Upstream::start().await;
    let role = format!("data: {}\n\n", json!({"choices": [delta(json!({"role": "assistant", "content": ""}))]}));
    upstream.push(Step::events(&format!("{role}data: {{\"error\":{{\"code\":503,\"message\":\"busy\"}}}}\n\n")));
    upstream.push(Step { hang_at: None, close_at: Some(Point::Head), ..Step::events("") });
    upstream.push(Step::status(503, "").header("retry-after-ms", "1"));
    upstream.push(Step::content("42"));
    let (deltas, end) = stream(&provider(&upstream, |spec| spec.calls.max_retries = 3), &prompt()).await;
    assert_eq!(deltas, [r#"{"role":"assistant","content":""}"#, r#"{"content":"42"}"#]);
    assert_eq!(end.unwrap().reply.content(), Some("42"));
    assert_eq!(upstream.counters().requests, 4);
}

#[tokio::test]
async fn an_error_after_the_first_content_is_final() {
    let upstream = Upstream::start().await;
    let error = json!({"message": "the model crashed", "code": 503});
    for step in [
        Step { error: Some(error), ..Step::content("one two three") },
        Step { close_at: Some(Point::Body), ..Step::content("one two three") },
    ] {
        let before = upstream.counters().requests;
        upstream.push(step);
        let (deltas, end) = stream(&provider(&upstream, |spec| spec.calls.max_retries = 3), &prompt()).await;
        assert!(deltas.len() >= 2, "{deltas:?}");
        assert_eq!(end.unwrap_err().kind, Unavailable);
        assert_eq!(upstream.counters().requests, before + 1);
    }
}

#[tokio::test]
async fn ends_that_are_and_are_not_ends() {
    let said = format!("data: {}\n\n", json!({"choices": [delta(json!({"content": "42"}))]}));
    let stop = format!("data: {}\n\n", json!({"choices": [end("stop")]}));
    let done = "data: [DONE]\n\n";
    // Some servers send an empty reason with every chunk.
    let unended = json!({"index": 0, "delta": {"content": "42"}, "finish_reason": ""});
    let unended = format!("data: {}\n\n", json!({"choices": [unended]}));
    for (body, expected) in [
        (format!("{said}{stop}{done}"), Ok(FinishReason::Stop)),
        (format!("{said}{stop}"), Ok(FinishReason::Stop)),
        (format!("{said}{done}"), Ok(FinishReason::Stop)),
        (format!("{said}{stop}data: [DONE]"), Ok(FinishReason::Stop)),
        (format!("{unended}{done}"), Ok(FinishReason::Stop)),
        (format!("{unended}{stop}"), Ok(FinishReason::Stop)),
        (unended, Err(Unavailable)),
        (said.clone(), Err(Unavailable)),
        (String::new(), Err(Unavailable)),
        (done.to_owned(), Err(Malformed)),
        (format!("{said}data: {{\"choi"), Err(Malformed)),
        (format!("{said}data: {{}}\n\n"), Err(Malformed)),
    ] {
        let upstream = Upstream::start().await;
        upstream.push(Step::events(&body));
        let (_, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
        assert_eq!(end.map(|completion| completion.finish_reason).map_err(|failure| failure.kind), expected, "{body}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_after_the_last_word_lacks_its_usage_only() {
    let upstream = Upstream::start().await;
    let body = events(&[delta(json!({"content": "42"})), end("stop")]);
    // Half of these pieces is past the end of the answer and before the end of the body.
    let padding = ": ".repeat(body.len());
    upstream.push(Step {
        split_bytes: Some(1),
        close_at: Some(Point::Body),
        ..Step::events(&format!("{}{padding}", body.replace("data: [DONE]\n\n", "")))
    });
    let (_, end) = stream(&provider(&upstream, |_| {}), &prompt()).await;
    let completion = end.unwrap();
    assert_eq!((completion.reply.content(), completion.usage.unknown_calls), (Some("42"), 1));
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_refused_with_its_own_error_if_it_has_one() {
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |_| {});
    for (step, kind, words) in [
        (Step::body(r#"{"error":{"message":"slow down","code":429}}"#), RateLimited, "slow down"),
        (Step::body(r#"{"choices":[]}"#), Malformed, "without choices"),
        (Step::body("<p>").header("content-type", "text/html"), Malformed, "text/html instead of a stream"),
        (Step::status(404, r#"{"error":"no model"}"#), NotFound, "no model"),
    ] {
        upstream.push(step);
        let (deltas, end) = stream(&provider, &prompt()).await;
        let failure = end.unwrap_err();
        assert_eq!((deltas.len(), failure.kind), (0, kind));
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_whole_although_a_stream_was_asked_for_is_an_answer() {
    let upstream = Upstream::start().await;
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
    let choice = json!({"message": {"role": "assistant", "content": "42"}, "finish_reason": "stop"});
    let whole = Step::body(&json!({"choices": [choice], "usage": usage}).to_string());
    upstream.push(whole.clone());
    let (deltas, end) = stream(&provider(&upstream, |spec| spec.calls.max_retries = 3), &prompt()).await;
    let completion = end.unwrap();
    assert_eq!((deltas.len(), completion.reply.content()), (0, Some("42")));
    assert_eq!((completion.finish_reason, completion.usage.total_tokens()), (FinishReason::Stop, 5));
    assert_eq!(upstream.counters().requests, 1);

    // A client that reads a stream gets it in chunks all the same.
    upstream.push(whole);
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    let chunks = app.chat(json!({"stream": true})).await.events();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!((said.as_str(), upstream.counters().requests), ("42", 2));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_stream_that_stops_runs_out_of_time() {
    let upstream = Upstream::start().await;
    for step in [Step::hang_at(Point::Request), Step::hang_at(Point::Body)] {
        upstream.push(step);
        let provider = provider(&upstream, |spec| spec.calls.timeout = Duration::from_millis(200));
        assert_eq!(stream(&provider, &prompt()).await.1.unwrap_err().kind, Timeout);
    }
    assert!(complete(&provider(&upstream, |_| {})).await.is_ok());
}
