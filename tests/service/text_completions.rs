//! OpenAI's legacy text completions: the raw prompt there and back, never scaled.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::app::{Answer, PATIENCE, TestApp, events, receive, spawn_app_for};
use crate::upstream::{Point, Step, Upstream};

const PATH: &str = "/v1/completions";

async fn complete(app: &TestApp, fields: Value) -> Answer {
    let mut body = json!({"model": "scripted", "prompt": "Once upon a time"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    app.post(PATH, &body).await
}

#[tokio::test]
async fn the_raw_prompt_goes_to_the_provider_and_its_answer_comes_back_as_it_is() {
    let upstream = Upstream::start().await;
    let body = r#"{"id":"cmpl-x","object":"text_completion","created":5,"model":"upstream-name","system_fingerprint":"fp",
        "choices":[{"text":" there was","index":0,"logprobs":{"tokens":[" there"," was"],"token_logprobs":[-0.10,-2.5e-3]},
        "finish_reason":"length"}],"usage":{"prompt_tokens":4,"completion_tokens":2,"total_tokens":6}}"#;
    upstream.push(Step::body(body));
    let app = spawn_app_for(&upstream, json!({"model_mapping": {"scripted": "upstream-name"}, "budget": 8})).await;
    let answer = complete(
        &app,
        json!({"max_tokens": 2, "logprobs": 1, "echo": false, "suffix": "!", "best_of": 2, "stop": ["a", "b"]}),
    )
    .await;

    let got = answer.ok();
    let mut expected: Value = serde_json::from_str(body).unwrap();
    expected["model"] = json!("scripted");
    assert_eq!(got, expected);
    // Numbers are not rounded on their way.
    assert!(answer.text.contains("[-0.10,-2.5e-3]"), "{}", answer.text);
    assert_eq!((answer.header("x-its-algorithm"), answer.header("x-its-warnings")), (Some("none"), None));
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].request.path()), (1, PATH));
    let sent = json!({
        "model": "upstream-name", "prompt": "Once upon a time", "max_tokens": 2, "logprobs": 1, "echo": false,
        "suffix": "!", "best_of": 2, "stop": ["a", "b"]
    });
    assert_eq!(seen[0].json(), sent);
}

#[tokio::test]
async fn several_prompts_and_tokens_are_passed_on() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"extra_args": {"user": "team"}, "max_tokens": 7})).await;
    let answer = complete(&app, json!({"prompt": ["a", "b"], "n": 2})).await.ok();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 4);
    assert_eq!(answer["object"], "text_completion");
    complete(&app, json!({"prompt": [1, 2, 3], "max_tokens": 9, "user": "mine"})).await.ok();
    let seen: Vec<_> = upstream.seen().iter().map(|seen| seen.json()).collect();
    // The configuration gives what the request leaves open.
    assert_eq!((&seen[0]["max_tokens"], &seen[0]["user"]), (&json!(7), &json!("team")));
    assert_eq!((&seen[1]["max_tokens"], &seen[1]["user"]), (&json!(9), &json!("mine")));
    assert_eq!(seen[1]["prompt"], json!([1, 2, 3]));
}

#[tokio::test]
async fn a_stream_is_passed_on_chunk_by_chunk() {
    let upstream = Upstream::start().await;
    upstream.push(Step::content("there was one"));
    let app = spawn_app_for(&upstream, json!({"model_mapping": {"scripted": "upstream-name"}})).await;
    let answer = complete(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks = answer.events();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "there was one");
    assert!(chunks.iter().all(|chunk| chunk["model"] == "scripted" && chunk["object"] == "text_completion"));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[chunks.len() - 1]["usage"]["completion_tokens"], 3);
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("x-its-revision"), Some("1"));
}

#[tokio::test]
async fn failures_are_told_in_the_usual_shape_and_retried_by_the_one_loop() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"max_retries": 1})).await;
    for stream in [false, true] {
        let before = upstream.counters().requests;
        upstream.push(Step::status(500, r#"{"error": {"message": "broken"}}"#).header("retry-after-ms", "1"));
        upstream.push(Step::content("fine"));
        let answer = complete(&app, json!({"stream": stream})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(upstream.counters().requests - before, 2, "stream: {stream}");

        upstream.push(Step::status(401, r#"{"error": {"message": "wrong key"}}"#));
        let refused = complete(&app, json!({"stream": stream})).await;
        assert_eq!(refused.error(502)["code"], "upstream_auth");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        upstream.push(Step::status(400, r#"{"error": {"message": "no such thing", "param": "suffix"}}"#));
        assert_eq!(complete(&app, json!({"stream": stream})).await.error(400)["param"], "suffix");
        // An error in a success is one.
        upstream.push(Step::body(r#"{"error": {"message": "out of memory", "code": 400}}"#));
        let told = complete(&app, json!({"stream": stream})).await.error(400);
        assert!(told["message"].as_str().unwrap().contains("out of memory"), "{told}");
        for nonsense in ["<html></html>", "{}", "[]", ""] {
            upstream.push(Step::body(nonsense).header("retry-after-ms", "1"));
            upstream.push(Step::body(nonsense));
            let told = complete(&app, json!({"stream": stream})).await.error(502);
            assert_eq!(told["code"], "upstream_malformed", "{nonsense}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_fails_on_its_way_ends_with_an_error() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({})).await;
    for step in [
        Step { error: Some(json!({"message": "lost it", "code": 500})), ..Step::content("one two three four") },
        Step { close_at: Some(Point::Body), ..Step::content("one two three four") },
        Step::events("data: {\"choices\":[{\"text\":\"one\",\"index\":0,\"finish_reason\":null}]}\n\n"),
    ] {
        upstream.push(step.clone());
        let answer = complete(&app, json!({"stream": true})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let told = events(&answer.text);
        assert!(told[0]["choices"][0]["text"].as_str().unwrap().starts_with("one"), "{step:?}");
        assert_eq!(told.last().unwrap()["error"]["type"], "upstream_error", "{step:?}: {}", answer.text);
        assert!(!answer.text.contains("[DONE]"));
    }
    // The word at the end is a formality where every choice has ended.
    upstream.push(Step::events("data: {\"choices\":[{\"text\":\"one\",\"index\":0,\"finish_reason\":\"stop\"}]}\n\n"));
    assert_eq!(complete(&app, json!({"stream": true})).await.events().len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({})).await;
    upstream.push(Step::hang_at(Point::Request));
    let body = json!({"model": "scripted", "prompt": "a"});
    let waiting = tokio::spawn(receive(app.json_request(PATH, &body.to_string())));
    upstream.wait_for(|counters| counters.in_flight == 1).await;
    waiting.abort();
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.closed_early, 1);

    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two") });
    let body = json!({"model": "scripted", "prompt": "a", "stream": true});
    let mut stream = app.json_request(PATH, &body.to_string()).send().await.unwrap().bytes_stream();
    let first = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("one"));
    drop(stream);
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.closed_early, 2);
}

#[tokio::test]
async fn the_deadline_holds_for_raw_text_too() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::hang_at(Point::Request));
    let app = spawn_app_for(&upstream, json!({"limits": {"deadline_ms": 50}})).await;
    for stream in [false, true] {
        let fields = json!({"stream": stream, "limits": {"deadline_ms": 60_000}});
        assert_eq!(complete(&app, fields).await.error(504)["code"], "deadline_exceeded");
    }
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({})).await;
    for (fields, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": {"a": 1}}), "prompt"),
        (json!({"n": 0}), "n"),
        (json!({"temperature": 3}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stream_options": {}}), "stream_options"),
        (json!({"budget": 4}), "budget"),
        (json!({"alg": "self-consistency"}), "alg"),
        (json!({"endpoint": "http://x"}), "endpoint"),
        (json!({"limits": {"deadline_ms": 0}}), "limits.deadline_ms"),
        (json!({"limits": {"deadline_ms": 50, "max_total_tokens": 9}}), "limits.max_total_tokens"),
        (json!({"limits": {"max_cost_usd": 1}}), "limits.max_cost_usd"),
        (json!({"limits": {"patience": 1}}), "limits.patience"),
        (json!({"limits": 5}), "limits"),
        (json!({"messages": [{"role": "user", "content": "a"}]}), "messages"),
        (json!({"return_response_only": false}), "return_response_only"),
        (json!({"tts_strategy": "self_consistency"}), "tts_strategy"),
        (json!({"tts_verbose": true}), "tts_verbose"),
        (json!({"num_paths": 4}), "num_paths"),
    ] {
        let error = complete(&app, fields.clone()).await.error(400);
        assert_eq!(error["param"], param, "{fields}: {error}");
    }
    let unknown = complete(&app, json!({"model": "nobody"})).await.error(404);
    assert!(unknown["message"].as_str().unwrap().starts_with("Model not found: nobody"), "{unknown}");
    assert_eq!(app.get(PATH).await.error(405)["type"], "invalid_request_error");
    let strict = app.post("/v1/completions?strict=true", &json!({"model": "scripted", "prompt": "a", "zzz": 1})).await;
    assert_eq!(strict.error(400)["code"], "unknown_field");
    let misspelt = json!({"model": "scripted", "prompt": "a", "max_tokns": 1});
    let misspelt = app.post("/v1/completions?strict=true", &misspelt).await.error(400);
    assert!(misspelt["message"].as_str().unwrap().contains("did you mean `max_tokens`?"), "{misspelt}");
    assert_eq!(upstream.counters().requests, 0);

    let nothing = json!({"zzz": 1, "budget": null, "tts_strategy": null, "limits": {"max_cost_usd": null}});
    let warned = complete(&app, nothing).await;
    assert!(warned.header("x-its-warnings").unwrap().contains("`zzz` was forwarded"));
    assert_eq!(upstream.seen()[0].json()["zzz"], 1);
    assert!(["budget", "tts_strategy"].iter().all(|own| upstream.seen()[0].json().get(own).is_none()));
    let body = json!({"model": "scripted", "prompt": "a"}).to_string();
    let budget = receive(app.json_request(PATH, &body).header("x-its-budget", "4")).await;
    assert!(budget.header("x-its-warnings").unwrap().contains("never scaled"));
    assert_eq!(upstream.counters().requests, 2);
}

#[cfg(feature = "llama")]
mod local {
    use super::*;
    use crate::app::spawn_app;

    async fn ask(app: &TestApp, fields: Value) -> Answer {
        let mut body = json!({"model": "arithmetic-demo", "prompt": "7 + 5 =", "temperature": 0});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        app.post(PATH, &body).await
    }

    #[tokio::test]
    async fn the_engine_continues_a_raw_prompt_and_streams_the_same() {
        let app = spawn_app().await;
        let answer = ask(&app, json!({})).await.ok();
        assert_eq!((&answer["object"], &answer["model"]), (&json!("text_completion"), &json!("arithmetic-demo")));
        assert!(answer["id"].as_str().unwrap().starts_with("cmpl-") && answer["created"].is_u64(), "{answer}");
        let choice = &answer["choices"][0];
        assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(0), &Value::Null));
        let usage = &answer["usage"];
        let (prompt, completion) =
            (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap());
        // The length limit of the API, unless the model ends before.
        assert!(prompt > 0 && (1..=16).contains(&completion), "{usage}");
        assert_eq!(usage["total_tokens"], prompt + completion);

        let streamed = ask(&app, json!({"stream": true, "stream_options": {"include_usage": true}})).await.events();
        let text: String = streamed.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
        assert_eq!(json!(text), choice["text"]);
        let (last, rest) = streamed.split_last().unwrap();
        assert_eq!((&last["usage"], &last["choices"]), (usage, &json!([])));
        assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], choice["finish_reason"]);
        assert!(streamed.iter().all(|chunk| chunk["object"] == "text_completion" && chunk["id"] == last["id"]));
    }

    #[tokio::test]
    async fn every_prompt_has_its_own_continuations_in_order() {
        let app = spawn_app().await;
        let alone =
            [ask(&app, json!({"prompt": "1 + 1 ="})).await.ok(), ask(&app, json!({"prompt": "9 - 3 ="})).await.ok()];
        let fields = json!({"prompt": ["1 + 1 =", "9 - 3 ="], "n": 2, "best_of": 2, "echo": true});
        let choices = ask(&app, fields.clone()).await.ok()["choices"].clone();
        for (index, choice) in choices.as_array().unwrap().iter().enumerate() {
            assert_eq!(choice["index"], index);
            let prompt = fields["prompt"][index / 2].as_str().unwrap();
            let own = alone[index / 2]["choices"][0]["text"].as_str().unwrap();
            assert_eq!(choice["text"], format!("{prompt}{own}"));
        }
        assert_eq!(choices.as_array().unwrap().len(), 4);

        let mut streamed = fields.clone();
        streamed["stream"] = json!(true);
        let mut texts = vec![String::new(); 4];
        for chunk in ask(&app, streamed).await.events() {
            let choice = &chunk["choices"][0];
            texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
        }
        assert_eq!(
            json!(texts),
            choices.as_array().unwrap().iter().map(|choice| choice["text"].clone()).collect::<Value>()
        );
    }

    #[tokio::test]
    async fn an_echoed_prompt_is_told_with_its_own_log_probabilities() {
        let app = spawn_app().await;
        let fields = json!({"echo": true, "logprobs": 1, "max_tokens": 4});
        let answer = ask(&app, fields.clone()).await.ok();
        let (text, lists) = (&answer["choices"][0]["text"], &answer["choices"][0]["logprobs"]);
        let list = |name: &str| lists[name].as_array().unwrap().clone();
        let tokens: Vec<String> = serde_json::from_value(lists["tokens"].clone()).unwrap();
        assert_eq!(json!(tokens.concat()), *text, "the tokens spell the prompt and its continuation");
        assert!(text.as_str().unwrap().starts_with("7 + 5 ="));
        let continued = answer["usage"]["completion_tokens"].as_u64().unwrap() as usize;
        let echoed = tokens.len() - continued;
        for name in ["token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(list(name).len(), tokens.len(), "{name}");
        }
        let mut offset = 0;
        for (at, token) in tokens.iter().enumerate() {
            assert_eq!(list("text_offset")[at], offset);
            offset += token.chars().count();
        }
        let told = list("token_logprobs");
        assert!(told.iter().skip(1).all(|logprob| logprob.as_f64().unwrap() <= 0.0), "{told:?}");

        // What the model would have written is what it finds most probable: the same text, scored as a prompt.
        let fields = json!({"prompt": text, "echo": true, "logprobs": 1, "max_tokens": 1});
        let scored = ask(&app, fields.clone()).await.ok()["choices"][0]["logprobs"]["token_logprobs"].clone();
        for at in echoed..tokens.len() {
            let (one, other) = (told[at].as_f64().unwrap(), scored[at].as_f64().unwrap());
            assert!((one - other).abs() < 1e-3, "{one} is not {other}");
        }
        let streamed = ask(&app, json!({"prompt": text, "echo": true, "logprobs": 1, "max_tokens": 1, "stream": true}));
        let events = streamed.await.events();
        assert_eq!(events[0]["choices"][0]["text"], *text);
        let first = &events[0]["choices"][0]["logprobs"]["token_logprobs"];
        assert_eq!(first.as_array().unwrap().len(), tokens.len());
    }

    #[tokio::test]
    async fn log_probabilities_are_told_in_four_lists() {
        let app = spawn_app().await;
        let answer = ask(&app, json!({"logprobs": 2, "max_tokens": 4})).await.ok();
        let (text, lists) = (&answer["choices"][0]["text"], &answer["choices"][0]["logprobs"]);
        let tokens: Vec<_> = lists["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap()).collect();
        assert_eq!(json!(tokens.concat()), *text);
        assert_eq!(lists["token_logprobs"].as_array().unwrap().len(), tokens.len());
        assert!(
            lists["top_logprobs"].as_array().unwrap().iter().all(|top| matches!(top.as_object().unwrap().len(), 2 | 3))
        );
        for (token, top) in tokens.iter().zip(lists["top_logprobs"].as_array().unwrap()) {
            assert!(top.get(token).is_some(), "the token that was drawn is told: {top}");
        }
        let mut offset = 0;
        for (at, token) in tokens.iter().enumerate() {
            assert_eq!(lists["text_offset"][at], offset);
            offset += token.chars().count();
        }
    }

    #[tokio::test]
    async fn what_the_engine_cannot_do_is_refused_by_name() {
        let app = spawn_app().await;
        for (fields, param) in [
            (json!({"prompt": [1, 2]}), "prompt"),
            (json!({"suffix": "x"}), "suffix"),
            (json!({"best_of": 3}), "best_of"),
            (json!({"logprobs": 21}), "logprobs"),
            (json!({"prompt": vec!["x"; 101], "n": 10}), "n"),
            (json!({"guided_regex": "x"}), "guided_regex"),
        ] {
            let error = ask(&app, fields.clone()).await.error(400);
            assert_eq!(error["param"], param, "{fields}: {error}");
        }
        let long = ask(&app, json!({"prompt": "1 + ".repeat(100_000)})).await.error(400);
        assert_eq!(long["code"], "context_length_exceeded");
    }
}
