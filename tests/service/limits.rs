//! What a request may spend: the best answer so far when a limit is reached, and an honest error without one.

use serde_json::{Value, json};

use crate::app::{document, events, spawn_app, spawn_app_for};
use crate::upstream::{Point, Step, Upstream};

/// An upstream that answers the first `answered` requests and leaves the others waiting.
async fn upstream_answering(answered: u64) -> Upstream {
    let upstream = Upstream::start().await;
    upstream.answer_with(move |seen| match seen.number {
        number if number < answered => Step::content("\\boxed{42}"),
        _ => Step::hang_at(Point::Request),
    });
    upstream
}

/// One US dollar a token.
fn dear() -> Value {
    json!({"scripted": {"prompt": 1e6, "completion": 1e6}})
}

#[tokio::test]
async fn the_deadline_ends_a_run_with_the_best_answer_so_far() {
    let upstream = upstream_answering(2).await;
    let app = spawn_app_for(&upstream, json!({"budget": 5, "limits": {"deadline_ms": 2000}})).await;
    let answer = app.chat(json!({"return_response_only": false})).await;

    assert_eq!(answer.content(), "\\boxed{42}");
    assert_eq!(answer.header("x-its-stop"), Some("deadline"));
    assert_eq!(answer.header("x-its-candidates"), Some("2"));
    let stop = &answer.json()["metadata"]["stop"];
    assert_eq!((&stop["completed"], &stop["cancelled"]), (&json!(2), &json!(3)));
    // The other three are not left running.
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.closed_early, 3);
}

#[tokio::test]
async fn a_deadline_without_an_answer_is_a_504_that_is_not_to_be_repeated() {
    let upstream = upstream_answering(0).await;
    let app = spawn_app_for(&upstream, json!({"budget": 3})).await;
    for fields in [json!({}), json!({"budget": 1}), json!({"stream": true}), json!({"budget": 1, "stream": true})] {
        let mut request = fields.clone();
        request["limits"] = json!({"deadline_ms": 50});
        let answer = app.chat(request).await;
        let error = answer.error(504);
        assert_eq!(
            (&error["type"], &error["code"]),
            (&json!("timeout_error"), &json!("deadline_exceeded")),
            "{fields}"
        );
        assert!(error["message"].as_str().unwrap().contains("limits.deadline_ms"), "{error}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}

#[tokio::test]
async fn a_stream_that_has_begun_tells_of_its_deadline_in_an_event() {
    let upstream = Upstream::start().await;
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let app = spawn_app_for(&upstream, json!({"limits": {"deadline_ms": 1500}})).await;
    let answer = app.chat(json!({"budget": 1, "stream": true})).await;

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    let last = events(&answer.text).pop().unwrap();
    assert_eq!(
        (&last["error"]["code"], &last["error"]["type"]),
        (&json!("deadline_exceeded"), &json!("timeout_error"))
    );
    upstream.wait_for(|counters| counters.in_flight == 0).await;
}

#[tokio::test]
async fn tokens_are_spent_up_to_their_limit() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let fields = json!({"budget": 6, "n_parallel": 1, "stop_rule": "none", "limits": {"max_total_tokens": 1000}});
    let app = spawn_app_for(&upstream, fields).await;
    // Each answer costs 11: after the second the limit is passed.
    let answer = app.chat(json!({"limits": {"max_total_tokens": 20}})).await;
    assert_eq!(answer.header("x-its-stop"), Some("max_total_tokens"));
    assert_eq!(answer.header("x-its-candidates"), Some("2"));
    let usage = &answer.ok()["usage"];
    assert_eq!(usage["total_tokens"], 22);

    // A request spends less than the configuration allows, never more.
    let whole = app.chat(json!({"limits": {"max_total_tokens": 1_000_000}})).await;
    assert_eq!((whole.header("x-its-stop"), whole.header("x-its-candidates")), (Some("completed"), Some("6")));
    app.configure(
        &upstream,
        json!({"budget": 6, "n_parallel": 1, "stop_rule": "none", "limits": {"max_total_tokens": 20}}),
    )
    .await;
    let tight = app.chat(json!({"limits": {"max_total_tokens": 1_000_000}})).await;
    assert_eq!(tight.header("x-its-candidates"), Some("2"));
}

#[tokio::test]
async fn money_is_spent_up_to_its_limit() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app =
        spawn_app_for(&upstream, json!({"budget": 6, "n_parallel": 1, "stop_rule": "none", "prices": dear()})).await;
    // Eleven dollars an answer.
    let answer = app.chat(json!({"limits": {"max_cost_usd": 25}})).await;
    assert_eq!(answer.header("x-its-stop"), Some("max_cost_usd"));
    assert_eq!(answer.header("x-its-candidates"), Some("3"));
}

#[tokio::test]
async fn a_limit_of_cost_without_a_price_is_refused_where_it_is_set() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let unpriced = document(&upstream, json!({"limits": {"max_cost_usd": 1}}));
    let refused = app.post("/configure", &unpriced).await.error(400);
    assert_eq!((&refused["param"], &refused["code"]), (&json!("limits.max_cost_usd"), &json!("invalid_value")));
    assert!(refused["message"].as_str().unwrap().contains("`prices`"), "{refused}");

    app.configure(&upstream, json!({"prices": {"other": {"prompt": 1}}})).await;
    let refused = app.chat(json!({"limits": {"max_cost_usd": 1}})).await.error(400);
    assert_eq!(refused["param"], "limits.max_cost_usd");

    // The price may be under either name, but must be of the model that answers.
    let fields = json!({
        "model_mapping": {"scripted": "dear-model", "alias": "cheap-model"}, "prices": {"dear-model": {"prompt": 1}},
        "limits": {"max_cost_usd": 1}
    });
    app.configure(&upstream, fields).await;
    app.chat(json!({"budget": 1})).await.ok();
    assert_eq!(app.chat(json!({"model": "alias"})).await.error(400)["param"], "limits.max_cost_usd");
    assert_eq!(upstream.counters().requests, 1);
}

#[tokio::test]
async fn no_more_is_asked_for_than_a_limit_has_room_for() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 30, "stop_rule": "none"})).await;
    // Each answer costs 11: one, then four that have room in the 49 that are left, then the one that passes the limit.
    for (fields, asked) in [(json!({}), 6), (json!({"alg": "mixture-of-n"}), 6), (json!({"alg": "none", "n": 30}), 6)] {
        let before = upstream.counters().requests;
        let mut request = fields.clone();
        request["return_response_only"] = json!(false);
        request["limits"] = json!({"max_total_tokens": 60});
        let answer = app.chat(request).await;
        assert_eq!(answer.header("x-its-stop"), Some("max_total_tokens"), "{fields}");
        assert_eq!(upstream.counters().requests - before, asked, "{fields}");
        let body = answer.ok();
        let stop = &body["metadata"]["stop"];
        assert_eq!((&stop["planned"], &stop["started"]), (&json!(30), &json!(asked)), "{fields}");
        assert_eq!((&stop["completed"], &stop["cancelled"]), (&json!(asked), &json!(0)), "{fields}");
        assert_eq!(body["usage"]["total_tokens"], 11 * asked, "{fields}");
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "llama"), ignore = "needs the in-process engine")]
async fn a_limit_leaves_the_embedded_model_the_same_answer_every_time() {
    let app = spawn_app().await;
    for most in [30, 200] {
        let request = json!({
            "model": "arithmetic-demo", "messages": [{"role": "user", "content": "What is 12 + 7?"}], "seed": 11,
            "budget": 31, "stop_rule": "none", "temperature": 1, "return_response_only": false,
            "limits": {"max_total_tokens": most}
        });
        let mut told = Vec::new();
        for _ in 0..3 {
            let body = app.post("/v1/chat/completions", &request).await.ok();
            let (metadata, stop) = (&body["metadata"], &body["metadata"]["stop"]);
            assert_eq!((&stop["reason"], &stop["planned"]), (&json!("max_total_tokens"), &json!(31)));
            let count = |name: &str| stop[name].as_u64().unwrap();
            // Whatever was begun is in the bill, and what ended by itself is in the vote.
            assert_eq!(count("started"), count("completed") + count("cancelled"));
            assert_eq!(metadata["usage_by_phase"]["generate"]["calls"], stop["started"]);
            assert_eq!(metadata["usage_by_phase"]["generate"]["unknown_calls"], 0);
            assert!(count("started") < 31, "{stop}");
            let responses = metadata["responses"].as_array().unwrap();
            assert_eq!(responses.iter().filter(|response| !response.is_null()).count() as u64, count("completed"));
            told.push((body["choices"][0]["message"].clone(), metadata["responses"].clone(), stop.clone()));
        }
        if most == 30 {
            assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        }
        println!("{most}: {:?}", told.iter().map(|one| one.2.to_string()).collect::<Vec<_>>());
    }
}
