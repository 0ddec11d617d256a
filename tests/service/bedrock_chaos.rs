//! A Bedrock of which every third call fails, in every way at once: each request still ends, rightly or with an error
//! that says why, and what the daemon has counted is what the stub has.
//!
//! What befalls a call follows from its number. No time is asserted but that a request ends by its deadline.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::task::JoinSet;

use crate::app::{Answer, TestApp, events, receive};
use crate::bedrock_configuration::{MODEL, app_at, document};
use crate::bedrock_stub::{BedrockStub, Failure, Point, RetryAfter, Seen, Step};
use crate::metrics::scrape_when;

/// An attempt that hangs is given up after this. On a busy machine a sound one must be done long before, so that few
/// hang.
const PATIENCE_MS: u64 = 12_000;

/// So many ask at a time.
const CLIENTS: usize = 30;

/// No request takes longer.
const DEADLINE_MS: u64 = 120_000;

const INPUT_TOKENS: u64 = 10;
const OUTPUT_TOKENS: u64 = 3;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A vote of eight, answered whole.
    Whole,
    /// A vote of eight, whose winner is streamed.
    Streamed,
    /// A single call that is passed on as it comes, so that it may break off.
    Live,
}

/// What the stub has done to the calls.
#[derive(Debug, Default)]
struct Fates {
    answered: AtomicU64,
    throttled: AtomicU64,
    /// Nobody can know what these cost.
    lost: AtomicU64,
    /// The questions of which a call has hung: of votes, and of streams.
    hung: Mutex<HashSet<(usize, bool)>>,
}

/// What becomes of a call.
fn fate(seen: &Seen, fates: &Fates) -> Step {
    const POINTS: [Point; 3] = [Point::Request, Point::Head, Point::Body];
    let mut draw = ChaCha8Rng::seed_from_u64(seen.number);
    let question = seen.json()["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    let sound =
        Step::text(&format!("After some thought, it is \\boxed{{{question}}}")).usage(INPUT_TOKENS, OUTPUT_TOKENS);
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst);
    let point = POINTS[draw.random_range(0..3)];
    let after = draw.random_range(0..6);
    // Of the questions that are asked first, so that they hang side by side.
    let number: usize = question.parse().unwrap();
    if number < CLIENTS && number % 5 == 3 && fates.hung.lock().insert((number, seen.is_stream)) {
        count(&fates.lost);
        return Step { hang_at: Some(point), ..sound };
    }
    match draw.random_range(0..100) {
        0..10 => {
            count(&fates.throttled);
            let forms = [
                None,
                Some(RetryAfter::Milliseconds(10)),
                Some(RetryAfter::Fraction(0.02)),
                Some(RetryAfter::Nonsense),
            ];
            Step { retry_after: forms[draw.random_range(0..4)], ..Step::error("ThrottlingException") }
        }
        10..15 => {
            Step::error(["InternalServerException", "ServiceUnavailableException", "ModelNotReadyException"][after % 3])
        }
        15..18 => {
            count(&fates.lost);
            Step::error(["ModelTimeoutException", "ModelErrorException"][after % 2])
        }
        18..24 => {
            count(&fates.lost);
            Step { reset_at: Some(point), ..sound }
        }
        24..30 => {
            count(&fates.lost);
            Step { close_at: Some(Point::Body), ..sound }
        }
        30..40 if seen.is_stream => {
            count(&fates.lost);
            let kinds = ["ModelStreamErrorException", "ThrottlingException", "InternalServerException"];
            Step { exception: Some(Failure::new(kinds[after % 3])), exception_after: Some(after), ..sound }
        }
        40..43 if seen.is_stream => {
            count(&fates.lost);
            Step { bad_checksum_at: Some(after), ..sound }
        }
        43..46 if seen.is_stream => {
            count(&fates.lost);
            Step { cut_at: Some(after), ..sound }
        }
        _ => {
            count(&fates.answered);
            sound
        }
    }
}

async fn ask(app: &TestApp, number: usize, way: Way) -> Answer {
    let mut body = json!({
        "model": format!("bedrock/{MODEL}"), "messages": [{"role": "user", "content": number.to_string()}],
        "limits": {"deadline_ms": DEADLINE_MS}
    });
    if way != Way::Whole {
        body["stream"] = json!(true);
    }
    if way == Way::Live {
        body["budget"] = json!(1);
    }
    let request = app.json_request("/v1/chat/completions", &body.to_string());
    receive(request.timeout(Duration::from_millis(2 * DEADLINE_MS))).await
}

/// Holds an answer to what it must be: right (`None`), or an error of a known kind.
fn judge(answer: &Answer, number: usize, way: Way) -> Option<String> {
    const KINDS: [&str; 5] =
        ["upstream_unavailable", "upstream_timeout", "rate_limit_exceeded", "upstream_malformed", "deadline_exceeded"];
    let right = format!("After some thought, it is \\boxed{{{number}}}");
    let error = if answer.status != 200 {
        answer.error(answer.status)
    } else if way == Way::Whole {
        assert_eq!(answer.content(), right);
        return None;
    } else {
        let (body, _) = answer.text.split_once("data: [DONE]\n\n").unwrap_or((&answer.text, ""));
        let events = events(body);
        let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        let Some(error) = events.iter().find(|event| !event["error"].is_null()) else {
            assert_eq!(said, right);
            assert!(answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
            return None;
        };
        assert!(right.starts_with(&said), "{}", answer.text);
        error["error"].clone()
    };
    assert!(KINDS.contains(&error["code"].as_str().unwrap_or_default()), "{error}");
    Some(error.to_string())
}

/// Asks `count` questions; returns the errors.
async fn ask_all(app: &Arc<TestApp>, count: usize, way: fn(usize) -> Way) -> Vec<String> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..CLIENTS {
        let (app, next) = (Arc::clone(app), Arc::clone(&next));
        running.spawn(async move {
            let mut errors = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= count {
                    return errors;
                }
                errors.extend(judge(&ask(&app, number, way(number)).await, number, way(number)));
            }
        });
    }
    running.join_all().await.concat()
}

#[tokio::test]
async fn votes_and_streams_survive_and_every_attempt_is_in_the_books() {
    let stub = BedrockStub::start().await;
    let fates = Arc::new(Fates::default());
    let of_stub = Arc::clone(&fates);
    stub.answer_with(move |seen| fate(seen, &of_stub));
    let app = app_at(&stub).await;
    let fields = json!({
        "budget": 8, "stop_rule": "none", "n_parallel": 160, "max_retries": 6, "retry_budget": 20,
        "breaker": {"enabled": false},
        "first_byte_timeout_ms": PATIENCE_MS, "idle_timeout_ms": PATIENCE_MS, "timeout_ms": 2 * PATIENCE_MS
    });
    app.post("/configure", &document(fields)).await.ok();
    let app = Arc::new(app);
    let errors = ask_all(&app, 60, |number| if number % 2 == 0 { Way::Whole } else { Way::Streamed }).await;
    assert!(errors.len() < 3, "{errors:?}");
    let errors = ask_all(&app, 120, |_| Way::Live).await;
    assert!(errors.len() < 60, "{errors:?}");

    let counted = stub.wait_for(|counters| counters.in_flight == 0).await;
    let failed = [counted.resets, counted.throttled, counted.errors, counted.hung, counted.truncated];
    assert!(failed.iter().all(|&count| count > 0), "{counted:?}");
    let scrape = scrape_when(&app, |scrape| {
        scrape.sum("itsd_requests_total") - scrape.requests("/configure", "none", 200) >= 180.0
            && scrape.sum("itsd_inflight") == 0.0
    })
    .await;
    // Every attempt was made, and seen; nothing was called off.
    let attempts = scrape.sum("itsd_upstream_attempts_total");
    assert_eq!(attempts, counted.requests as f64, "{counted:?}");
    assert_eq!(attempts - scrape.sum("itsd_upstream_retries_total"), 600.0);
    assert_eq!(counted.refused, 0, "what was asked was right");
    // What was told is booked, and the rest known to be unknown.
    let [answered, lost] = [&fates.answered, &fates.lost].map(|count| count.load(Ordering::SeqCst) as f64);
    let told = [scrape.tokens("generate", "prompt"), scrape.tokens("generate", "completion")];
    assert_eq!(told, [INPUT_TOKENS as f64 * answered, OUTPUT_TOKENS as f64 * answered], "{fates:?}");
    assert_eq!(scrape.sum("itsd_unknown_usage_calls_total"), lost, "{fates:?} {counted:?}");
}
