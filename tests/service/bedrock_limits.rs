//! The limits of calls to Bedrock, what they cost, and connections that break: as with every other provider.

use serde_json::{Value, json};

use crate::bedrock_configuration::{MODEL, app_at, ask, document};
use crate::bedrock_failures::broken_off;
use crate::bedrock_stub::{BedrockStub, Point, Step};

fn hanging(point: Point) -> Step {
    Step { hang_at: Some(point), ..Step::text("one two three four five six") }
}

#[tokio::test]
async fn every_wait_has_a_limit_that_is_named() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    for (limit, point, words) in [
        ("timeout_ms", Point::Request, "did not answer within 0.3 s"),
        ("timeout_ms", Point::Head, "did not answer within 0.3 s"),
        ("first_byte_timeout_ms", Point::Request, "did not begin to answer within 0.3 s"),
        ("first_byte_timeout_ms", Point::Head, "did not begin to answer within 0.3 s"),
        ("idle_timeout_ms", Point::Head, "was silent for 0.3 s"),
        ("idle_timeout_ms", Point::Body, "was silent for 0.3 s"),
    ] {
        app.post("/configure", &document(json!({ limit: 300 }))).await.ok();
        for stream in [false, true] {
            stub.push(hanging(point));
            let answer = ask(&app, json!({ "stream": stream })).await;
            // What has been said of a stream is out already.
            let error = if answer.status == 200 { broken_off(&answer).1 } else { answer.error(502) };
            assert_eq!(error["code"], "upstream_timeout", "{limit} {point:?} {stream}: {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(words) && message.contains(&format!("`{limit}`")), "{limit} {point:?}: {message}");
            stub.wait_for(|counters| counters.in_flight == 0).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_stops_for_less_than_its_limit_is_read_to_its_end() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    app.post("/configure", &document(json!({"idle_timeout_ms": 20_000}))).await.ok();
    for stream in [false, true] {
        stub.push(Step { split_bytes: Some(37), drip_ms: Some(1), ..Step::text("slow and steady") });
        let answer = ask(&app, json!({ "stream": stream })).await;
        let text = match stream {
            true => answer
                .events()
                .iter()
                .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
                .collect::<String>(),
            false => answer.content(),
        };
        assert_eq!(text, "slow and steady");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_within_the_limits() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    app.post("/configure", &document(json!({"max_retries": 2}))).await.ok();
    for point in [Point::Request, Point::Head, Point::Body] {
        stub.push(Step { reset_at: Some(point), ..Step::text("lost") });
        stub.push(Step { close_at: Some(point), ..Step::text("lost") });
        stub.push(Step::text("found"));
        assert_eq!(ask(&app, json!({})).await.content(), "found", "{point:?}");
    }
    assert_eq!(stub.counters().requests, 9);
}

#[tokio::test]
async fn what_was_read_from_a_cache_costs_its_own_price() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let price = json!({"prompt": 3.0, "cached_prompt": 0.3, "completion": 15.0});
    for name in [format!("bedrock/{MODEL}"), MODEL.to_owned()] {
        app.post("/configure", &document(json!({"prices": {name: price}}))).await.ok();
        let usage = json!({"inputTokens": 1000, "outputTokens": 100, "cacheReadInputTokens": 4000});
        stub.push(Step { usage: Some(usage), ..Step::text("42") });
        let answer = ask(&app, json!({"return_response_only": false})).await.ok();
        // 1000 × 3 + 4000 × 0.3 + 100 × 15, by the million.
        let cost = answer["metadata"]["cost_usd"].as_f64().unwrap();
        assert!((cost - 0.0057).abs() < 1e-12, "{answer}");
        assert_eq!(answer["usage"]["prompt_tokens"], 5000);
        assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 4000);
    }
    let price = json!({"prompt": 3.0, "cached_prompt": 0.3, "cache_write_prompt": 3.75, "completion": 15.0});
    app.post("/configure", &document(json!({"prices": {MODEL: price}}))).await.ok();
    let usage = json!({
        "inputTokens": 1000, "outputTokens": 100, "cacheReadInputTokens": 4000, "cacheWriteInputTokens": 2000
    });
    stub.push(Step { usage: Some(usage), ..Step::text("42") });
    let answer = ask(&app, json!({"return_response_only": false})).await.ok();
    // 1000 × 3 + 4000 × 0.3 + 2000 × 3.75 + 100 × 15, by the million.
    let cost = answer["metadata"]["cost_usd"].as_f64().unwrap();
    assert!((cost - 0.0132).abs() < 1e-12, "{answer}");
    let unpriced = document(json!({"limits": {"max_cost_usd": 1}}));
    assert_eq!(app.post("/configure", &unpriced).await.error(400)["param"], Value::from("limits.max_cost_usd"));
}

#[tokio::test]
async fn an_answer_that_nobody_can_read_is_counted_and_paid_for() {
    let stub = BedrockStub::start().await;
    let app = app_at(&stub).await;
    let price = json!({"prompt": 3.0, "completion": 15.0});
    app.post("/configure", &document(json!({"prices": {MODEL: price}, "max_retries": 1}))).await.ok();
    stub.push(Step::text("x").usage(1000, 100).stop_reason("malformed_tool_use"));
    stub.push(Step::text("42").usage(1000, 10));
    let answer = ask(&app, json!({"return_response_only": false})).await.ok();
    assert_eq!((&answer["usage"]["prompt_tokens"], &answer["usage"]["completion_tokens"]), (&json!(2000), &json!(110)));
    // 2000 × 3 + 110 × 15, by the million.
    assert!((answer["metadata"]["cost_usd"].as_f64().unwrap() - 0.00765).abs() < 1e-12, "{answer}");
    let metrics = app.get("/metrics").await.text;
    let outcomes = ["upstream_malformed", "ok"];
    for outcome in outcomes {
        let counted = format!("itsd_upstream_attempts_total{{provider=\"bedrock\",outcome=\"{outcome}\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    assert!(metrics.contains("itsd_tokens_total{phase=\"generate\",kind=\"completion\"} 110"), "{metrics}");
}
