//! Streams of Bedrock that break: before the first word they are made again unseen, after it the client is told why, and
//! no bytes whatever bring the daemon down.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::bedrock_configuration::{ask, document};
use crate::bedrock_failures::{app_for, broken_off};
use crate::bedrock_stub::{BEARER_KEY, BedrockStub, Block, Failure, Point, Step};

#[tokio::test]
async fn a_stream_that_fails_before_its_first_word_is_made_again_unseen() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 1, "retry_budget": 20, "breaker": {"enabled": false}})).await;
    let unmodelled = Failure { unmodelled: true, ..Failure::saying("InternalFailure", "lost") };
    for broken in [
        Step::exception_after(0, "ThrottlingException"),
        Step::exception_after(1, "ModelStreamErrorException"),
        Step::exception_after(1, "InternalServerException"),
        Step::exception_after(1, "ServiceUnavailableException"),
        Step::exception_after(1, "ModelTimeoutException"),
        Step { exception: Some(unmodelled), exception_after: Some(1), ..Step::default() },
        Step { bad_checksum_at: Some(0), ..Step::default() },
        Step { bad_checksum_at: Some(1), ..Step::default() },
        Step { cut_at: Some(0), ..Step::default() },
        Step { cut_at: Some(1), ..Step::default() },
        Step::close_at(Point::Request),
        Step::close_at(Point::Head),
        Step::reset_at(Point::Head),
        Step::events([]),
        Step::events([("messageStart", json!({"role": "assistant"}))]),
    ] {
        let asked = stub.counters().requests;
        stub.push(broken.clone());
        stub.push(Step::text("One two"));
        let answer = ask(&app, json!({"stream": true})).await;
        let said: String =
            answer.events().iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "One two", "{broken:?}");
        assert_eq!(stub.counters().requests, asked + 2, "{broken:?}");
    }
    // A request that is refused in the middle is refused for good.
    let asked = stub.counters().requests;
    stub.push(Step {
        exception: Some(Failure::validation("messages.0: no")),
        exception_after: Some(1),
        ..Step::default()
    });
    let error = ask(&app, json!({"stream": true})).await.error(400);
    assert_eq!((&error["code"], &error["param"]), (&json!("invalid_value"), &json!("messages")));
    assert_eq!(stub.counters().requests, asked + 1);
}

#[tokio::test]
async fn a_stream_that_fails_after_it_ends_with_an_error_that_says_why() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 3, "retry_budget": 20, "breaker": {"enabled": false}})).await;
    let of_model = Failure { original_status: Some(529), ..Failure::saying("ModelStreamErrorException", "broken") };
    let unmodelled = Failure { unmodelled: true, ..Failure::saying("InternalFailure", "lost") };
    let excepted = |failure: Failure| Step { exception: Some(failure), exception_after: Some(3), ..Step::default() };
    let delta = |text: &str| ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": text}}));
    for (step, code, said) in [
        (
            excepted(of_model),
            "upstream_unavailable",
            "answered ModelStreamErrorException: broken (the model's server answered 529) [the model's server answered 529]",
        ),
        (excepted(unmodelled), "upstream_unavailable", "answered InternalFailure: lost"),
        (
            excepted(Failure::new("ThrottlingException")),
            "rate_limit_exceeded",
            "answered ThrottlingException: Too many",
        ),
        (excepted(Failure::new("ModelTimeoutException")), "upstream_timeout", "answered ModelTimeoutException"),
        (excepted(Failure::new("AccessDeniedException")), "upstream_auth", "answered AccessDeniedException"),
        (Step { bad_checksum_at: Some(3), ..Step::default() }, "upstream_malformed", "a stream that cannot be read"),
        (Step { cut_at: Some(3), ..Step::default() }, "upstream_unavailable", "broke off its stream"),
        (Step::close_at(Point::Body), "upstream_unavailable", ""),
        (
            Step::events([("messageStart", json!({"role": "assistant"})), delta("One "), delta("two")]),
            "upstream_unavailable",
            "broke off its stream before the answer was complete",
        ),
        (
            Step::events([
                delta("One "),
                delta("two"),
                ("messageStop", json!({"stopReason": "malformed_model_output"})),
            ]),
            "upstream_malformed",
            "malformed_model_output",
        ),
    ] {
        let asked = stub.counters().requests;
        let content = Step::text("One two three four").content;
        stub.push(Step { content, ..step.clone() });
        let (words, error) = broken_off(&ask(&app, json!({"stream": true})).await);
        assert!(words.starts_with("One two"), "{words} {error}");
        assert_eq!(error["code"], code, "{step:?} {error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert_eq!(stub.counters().requests, asked + 1, "what was said cannot be taken back");
    }
}

#[tokio::test]
async fn an_answer_that_has_ended_is_one_whatever_comes_after() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    // Of two words: the start, two pieces, the block's end, the message's end, and what it cost.
    for step in [
        Step::exception_after(5, "InternalServerException"),
        Step { bad_checksum_at: Some(5), ..Step::default() },
        Step { cut_at: Some(5), ..Step::default() },
    ] {
        let content = Step::text("One two").content;
        stub.push(Step { content, ..step });
        let chunks = ask(&app, json!({"stream": true, "return_response_only": false})).await.events();
        let metadata = &chunks.iter().find(|chunk| chunk.get("metadata").is_some()).unwrap()["metadata"];
        assert_eq!(metadata["usage_by_phase"]["generate"]["unknown_calls"], 1, "{metadata}");
    }
}

/// The bytes of a stream in which every kind of event is.
async fn every_event(stub: &BedrockStub) -> Vec<u8> {
    let content = vec![
        Block::Reasoning { text: "Let me see.".to_owned(), signature: Some("c2ln".to_owned()) },
        Block::Text("One two".to_owned()),
        Block::tool_use("tooluse_a", "add", json!({"numbers": [1, 2]})),
    ];
    stub.push(Step { content, ..Step::default() });
    let body = json!({"messages": [{"role": "user", "content": [{"text": "Hello"}]}]});
    let request = crate::app::client()
        .post(format!("{}/model/amazon.nova-lite-v1%3A0/converse-stream", stub.url()))
        .header("authorization", format!("Bearer {BEARER_KEY}"))
        .header("content-type", "application/json")
        .body(body.to_string());
    request.send().await.unwrap().bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn no_bytes_bring_the_daemon_down() {
    let stub = BedrockStub::start().await;
    let sound = every_event(&stub).await;
    let app = app_for(&stub, json!({"breaker": {"enabled": false}})).await;
    let mut draw = ChaCha8Rng::seed_from_u64(20_261_120);
    let mut ends = [0, 0];
    for number in 0..300 {
        let mut bytes = sound.clone();
        match number % 4 {
            // One bit, some bytes, a piece left out, and nothing but noise.
            0 => bytes[draw.random_range(0..sound.len())] ^= 1 << draw.random_range(0..8),
            1 => {
                let at = draw.random_range(0..sound.len() - 8);
                bytes[at..at + 8].copy_from_slice(&draw.random::<[u8; 8]>());
            }
            2 => {
                let at = draw.random_range(0..sound.len() - 8);
                bytes.drain(at..at + draw.random_range(1..8));
            }
            _ => bytes = (0..draw.random_range(0..400)).map(|_| draw.random_range(0..4)).collect(),
        }
        let step = Step { bytes: Some(bytes), split_bytes: Some(100), ..Step::default() };
        stub.push(step.header("content-type", "application/vnd.amazon.eventstream"));
        let answer = ask(&app, json!({"stream": true})).await;
        if answer.status == 200 && answer.text.contains("[DONE]") {
            ends[0] += 1;
            continue;
        }
        let error = if answer.status == 200 { broken_off(&answer).1 } else { answer.error(502) };
        let code = error["code"].as_str().unwrap_or_default();
        assert!(["upstream_malformed", "upstream_unavailable"].contains(&code), "{number}: {error}");
        ends[1] += 1;
    }
    // What was spoiled behind the end of the answer is not missed.
    assert!(ends[0] < 60 && ends[1] > 200, "{ends:?}");
    app.post("/configure", &document(json!({}))).await.ok();
    ask(&app, json!({"stream": true})).await.events();
}

#[tokio::test]
async fn an_event_that_never_ends_is_given_up() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    // It says of itself that it has two gibibytes.
    let mut bytes = vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes);
    bytes.extend_from_slice(&checksum.sum().to_be_bytes());
    bytes.resize((64 << 20) + 100, 0);
    let step = Step { bytes: Some(bytes), ..Step::default() };
    stub.push(step.header("content-type", "application/vnd.amazon.eventstream"));
    let error = ask(&app, json!({"stream": true})).await.error(502);
    assert_eq!(error["code"], "upstream_malformed");
    assert!(error["message"].as_str().unwrap().contains("more than 64 MiB"), "{error}");
}
