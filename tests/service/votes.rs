//! Self-consistency over HTTP: what wins, what is set aside, what is told, and how a request chooses its run.

use serde_json::{Value, json};

use crate::app::{Answer, question, receive, spawn_app_for};
use crate::upstream::{Call, Step, Upstream};

fn call(arguments: &str) -> Call {
    Call { id: None, name: "book".to_owned(), arguments: arguments.to_owned() }
}

fn calls(calls: Vec<Call>) -> Step {
    Step { tool_calls: calls, ..Step::default() }
}

fn tools() -> Value {
    json!([
        {"type": "function", "function": {"name": "book", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}}, "required": ["city"]
        }}},
        {"type": "function", "function": {"name": "search"}}
    ])
}

/// Asks for a vote of all `steps`, in the order in which the upstream is called.
async fn vote(steps: Vec<Step>, configuration: Value, mut request: Value) -> (Upstream, Answer) {
    let upstream = Upstream::start().await;
    let budget = steps.len();
    for step in steps {
        upstream.push(step);
    }
    // One call at a time makes the candidate's index the order of its step.
    let mut fields = json!({"n_parallel": 1, "stop_rule": "none", "budget": budget});
    fields.as_object_mut().unwrap().extend(configuration.as_object().unwrap().clone());
    let app = spawn_app_for(&upstream, fields).await;
    request["return_response_only"] = json!(false);
    let answer = app.chat(request).await;
    (upstream, answer)
}

#[tokio::test]
async fn answers_that_mean_the_same_vote_together() {
    let texts =
        ["I get 3.", "So it is \\boxed{\\frac{1}{2}}.", "The answer is 0.5", "\\boxed{0.50}", "The answer is 3"];
    let steps = texts.map(|text| Step {
        usage: Some(json!({
            "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}
        })),
        ..Step::content(text)
    });
    let (_, answer) = vote(steps.to_vec(), json!({}), json!({})).await;
    let body = answer.ok();
    assert_eq!(body["choices"][0]["message"]["content"], texts[1], "the first of the winning class, untouched");
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 50, "completion_tokens": 35, "total_tokens": 85,
            "prompt_tokens_details": {"cached_tokens": 20}, "completion_tokens_details": {"reasoning_tokens": 10}
        })
    );

    let metadata = &body["metadata"];
    assert_eq!(metadata["algorithm"], "self-consistency");
    assert_eq!(metadata["revision"], 1);
    assert_eq!((&metadata["selected_index"], &metadata["vote"]), (&json!(1), &json!("answer")));
    assert_eq!(metadata["response_counts"], json!({"0.5": 3, "3": 2}));
    assert_eq!(metadata["agreement"], 0.6);
    let told: Vec<_> = metadata["responses"].as_array().unwrap().iter().map(|reply| reply["content"].clone()).collect();
    assert_eq!(told, texts);
    assert_eq!(metadata["responses"], metadata["all_responses"]);
    assert_eq!(
        metadata["stop"],
        json!({"reason": "completed", "planned": 5, "started": 5, "completed": 5, "cancelled": 0, "saved_tokens_estimate": 0})
    );
    assert_eq!((&metadata["failures"], &metadata["warnings"]), (&json!([]), &json!([])));
    assert_eq!(metadata["usage_by_phase"]["generate"]["calls"], 5);
    assert!(metadata["timing_ms"]["total"].as_f64().unwrap() > 0.0);

    for (name, value) in [
        ("x-its-algorithm", "self-consistency"),
        ("x-its-revision", "1"),
        ("x-its-candidates", "5"),
        ("x-its-agreement", "0.600"),
        ("x-its-stop", "completed"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("x-its-warnings"), None);
}

#[tokio::test]
async fn without_being_asked_a_response_is_openais_and_nothing_more() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none"})).await;
    let body = app.chat(json!({})).await.ok();
    let fields: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["id", "object", "created", "model", "choices", "usage"]);
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("scripted")));
    assert!(body["created"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(
        body["choices"],
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": "\\boxed{42}", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop"
        }])
    );
    assert_eq!((&body["usage"]["prompt_tokens"], &body["usage"]["completion_tokens"]), (&json!(30), &json!(3)));
}

#[tokio::test]
async fn tool_calls_vote_by_name_then_by_arguments_without_those_that_are_excluded() {
    let steps = vec![
        calls(vec![call(r#"{"city": "Rome", "nights": 1}"#)]),
        calls(vec![call(r#"{"city": "Oslo", "nights": 2}"#)]),
        calls(vec![Call { name: "search".to_owned(), ..call("{}") }]),
        calls(vec![call(r#"{"nights": 3, "city": "Oslo"}"#)]),
        calls(vec![Call { name: "search".to_owned(), ..call("{}") }]),
    ];
    let (_, answer) = vote(steps, json!({"exclude_args": ["nights"]}), json!({"tools": tools()})).await;
    let body = answer.ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(*function, json!({"name": "book", "arguments": r#"{"city": "Oslo", "nights": 2}"#}));
    assert_eq!(body["metadata"]["vote"], "tool_hierarchical");
    assert_eq!(body["metadata"]["selected_index"], 1);
    let counts = body["metadata"]["response_counts"].as_object().unwrap();
    assert_eq!(counts.values().filter_map(Value::as_u64).sum::<u64>(), 5, "{counts:?}");
    assert_eq!(counts.len(), 3, "{counts:?}");
}

#[tokio::test]
async fn the_arguments_that_are_not_excluded_decide() {
    let steps = || {
        vec![
            calls(vec![call(r#"{"city": "Rome", "nights": 1}"#)]),
            calls(vec![call(r#"{"city": "Oslo", "nights": 2}"#)]),
            calls(vec![call(r#"{"city": "Oslo", "nights": 2}"#)]),
            calls(vec![call(r#"{"city": "Rome", "nights": 3}"#)]),
            calls(vec![call(r#"{"city": "Rome", "nights": 4}"#)]),
        ]
    };
    for (request, city) in [
        (json!({"tools": tools()}), "Oslo"),
        (json!({"tools": tools(), "exclude_tool_args": ["nights"]}), "Rome"),
        (json!({"tools": tools(), "tool_vote": "tool_name"}), "Rome"),
    ] {
        let (upstream, answer) = vote(steps(), json!({}), request.clone()).await;
        let body = answer.ok();
        let arguments = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        assert!(arguments.contains(city), "{request}: {arguments}");
        let sent = upstream.seen()[0].json();
        assert_eq!((sent.get("tool_vote"), sent.get("exclude_tool_args")), (None, None));
    }
}

#[tokio::test]
async fn calls_that_nothing_could_run_are_set_aside() {
    let steps = vec![
        calls(vec![call(r#"{"city": 7}"#)]),
        calls(vec![call("{\"city\": ")]),
        calls(vec![Call { name: "pay".to_owned(), ..call("{}") }]),
        calls(vec![call(r#"{"city": "Oslo"}"#)]),
    ];
    let (_, answer) = vote(steps, json!({}), json!({"tools": tools()})).await;
    let metadata = &answer.ok()["metadata"];
    assert_eq!(metadata["selected_index"], 3);
    let set_aside = metadata["set_aside"].as_array().unwrap();
    let of = |candidate: usize| set_aside[candidate]["reason"].as_str().unwrap();
    assert_eq!(set_aside.iter().map(|aside| aside["candidate"].clone()).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(of(0).contains("city") || of(0).contains("string"), "{}", of(0));
    assert!(of(1).contains("JSON"), "{}", of(1));
    assert!(of(2).contains("pay"), "{}", of(2));
    assert_eq!(metadata["failures"], json!([]));
}

#[tokio::test]
async fn the_request_wins_over_the_configuration() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app =
        spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none", "temperature": 0.3, "top_p": 0.8})).await;
    for (request, algorithm, candidates) in [
        (json!({}), "self-consistency", "3"),
        (json!({"budget": null}), "self-consistency", "3"),
        (json!({"budget": 5}), "self-consistency", "5"),
        (json!({"budget": 1}), "none", "1"),
        (json!({"alg": "none"}), "none", "1"),
        (json!({"alg": "none", "budget": 5}), "none", "1"),
        (json!({"alg": "self_consistency", "budget": 2}), "self-consistency", "2"),
    ] {
        let before = upstream.counters().requests;
        let answer = app.chat(request.clone()).await;
        assert_eq!(answer.content(), "\\boxed{42}");
        assert_eq!(answer.header("x-its-algorithm"), Some(algorithm), "{request}");
        assert_eq!(answer.header("x-its-candidates"), Some(candidates), "{request}");
        assert_eq!(answer.header("x-its-agreement"), Some("1.000"), "{request}");
        assert_eq!((upstream.counters().requests - before).to_string(), candidates, "{request}");
    }
    app.chat(json!({"budget": 1, "temperature": 1.5})).await.ok();
    let sent = upstream.seen().last().unwrap().json();
    assert_eq!((&sent["temperature"], &sent["top_p"]), (&json!(1.5), &json!(0.8)));
}

#[tokio::test]
async fn the_budget_of_the_header_wins_over_that_of_the_body() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 2, "stop_rule": "none"})).await;
    let ask = async |fields: Value, header: &str| {
        let request = app.json_request("/v1/chat/completions", &question(fields).to_string());
        receive(request.header("X-ITS-Budget", header)).await
    };
    for (fields, header) in [(json!({}), "4"), (json!({"budget": 3}), "4"), (json!({"budget": 3}), " 1 ")] {
        let answer = ask(fields.clone(), header).await;
        assert_eq!(answer.header("x-its-candidates"), Some(header.trim()), "{fields}: {}", answer.text);
    }
    for wrong in ["", "many", "-1", "2.5"] {
        assert_eq!(ask(json!({}), wrong).await.error(400)["param"], "X-ITS-Budget", "{wrong}");
    }
    assert_eq!(ask(json!({}), "0").await.error(400)["param"], "budget");
}

#[tokio::test]
async fn temperature_zero_is_one_call_and_says_so() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 8})).await;
    let answer = app.chat(json!({"temperature": 0, "return_response_only": false})).await;
    let body = answer.ok();
    assert_eq!(upstream.counters().requests, 1);
    assert_eq!(answer.header("x-its-algorithm"), Some("none"));
    let warning = body["metadata"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("diversity_temperature"), "{warning}");
    assert_eq!(answer.header("x-its-warnings"), Some(warning));
    assert_eq!(upstream.seen()[0].json()["temperature"].as_f64(), Some(0.0));
    assert_eq!(body["metadata"]["responses"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_diversity_temperature_takes_the_place_of_zero() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none", "diversity_temperature": 0.6})).await;
    let answer = app.chat(json!({"temperature": 0})).await;
    assert_eq!(answer.header("x-its-candidates"), Some("3"), "{}", answer.text);
    assert!(answer.header("x-its-warnings").unwrap().contains("0.6"));
    assert!(upstream.seen().iter().all(|seen| seen.json()["temperature"] == 0.6));

    app.chat(json!({"temperature": 0, "budget": 1})).await.ok();
    assert_eq!(upstream.seen().last().unwrap().json()["temperature"].as_f64(), Some(0.0), "one call may be greedy");
}

#[tokio::test]
async fn each_candidate_of_a_seeded_request_has_a_seed_of_its_own_and_the_same_one_again() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 4, "stop_rule": "none", "n_parallel": 1})).await;
    for _ in 0..2 {
        app.chat(json!({"seed": 7})).await.ok();
    }
    app.chat(json!({})).await.ok();
    let seeds: Vec<_> = upstream.seen().iter().map(|seen| seen.json()["seed"].clone()).collect();
    assert_eq!(seeds[0], 7);
    assert_eq!(seeds[..4], seeds[4..8]);
    let different: std::collections::BTreeSet<_> = seeds[..4].iter().map(|seed| seed.as_i64().unwrap()).collect();
    assert_eq!(different.len(), 4);
    assert!(seeds[8..].iter().all(Value::is_null));
}

#[tokio::test]
async fn refusals_reasoning_and_logprobs_of_the_winner_come_back() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1})).await;
    upstream.push(Step { reasoning_content: Some("six sevens".to_owned()), ..Step::content("It is 42") });
    let body = app.chat(json!({"logprobs": true, "top_logprobs": 2})).await.ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["reasoning_content"], "six sevens");
    let logprobs = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!((logprobs.len(), logprobs[0]["top_logprobs"].as_array().unwrap().len()), (3, 2));

    upstream.push(Step { refusal: Some("I will not.".to_owned()), ..Step::default() });
    let body = app.chat(json!({})).await.ok();
    assert_eq!(body["choices"][0]["message"], json!({"role": "assistant", "content": null, "refusal": "I will not."}));

    upstream.push(Step { finish_reason: Some("length".to_owned()), ..Step::content("and so on and") });
    assert_eq!(app.chat(json!({})).await.ok()["choices"][0]["finish_reason"], "length");
}
