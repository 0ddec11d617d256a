//! An upstream of which every third call fails, in every way at once: each request still ends, rightly or with an error
//! that says why, and what the daemon has counted is what the upstream has.
//!
//! What befalls a call follows from a seed, its body, and how often that body came before. A test that fails prints the
//! seed, and `UPSTREAM_CHAOS_SEED` sets it. No time is asserted but that a request ends by its deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::app::{Answer, TestApp, events, receive, spawn_app_for};
use crate::log_watch::{CANARY, watch_log};
use crate::metrics::scrape_when;
use crate::upstream::{Chaos, Control, Counters, Step, Upstream};

const CHAOS: Chaos =
    Chaos { seed: 20_261_120, resets: 0.10, rate_limits: 0.10, errors: 0.10, hangs: 0.05, truncated: 0.05 };

/// An attempt that hangs is given up after this. On a busy machine a sound one must be done long before.
const PATIENCE_MS: u64 = 3_000;

/// No request takes longer.
const DEADLINE_MS: u64 = 120_000;

/// How a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A vote of eight, answered whole.
    Whole,
    /// A vote of eight, whose winner is streamed.
    Streamed,
    /// A single call that is passed on as it comes. What was said cannot be taken back, so that it may break off.
    Live,
}

/// What has come of the requests.
#[derive(Debug, Default)]
struct Tally {
    answers: usize,
    errors: Vec<String>,
    /// Calls and unknown calls that the responses tell of.
    calls: u64,
    unknown_calls: u64,
}

async fn upstream() -> Arc<Upstream> {
    let upstream = Upstream::start().await;
    // Each request has a right answer of its own.
    upstream.answer_with(|seen| {
        let question = seen.json()["messages"][0]["content"].as_str().unwrap().to_owned();
        Step::content(&format!("After some thought, it is \\boxed{{{question}}}"))
    });
    let chaos = CHAOS.or_seed_of_environment();
    upstream.control(Control { chaos: Some(chaos), ..Control::default() });
    Arc::new(upstream)
}

/// The fields of a configuration that gives up what hangs.
fn fields(more: Value) -> Value {
    let mut fields = json!({
        "api_key": format!("sk-{CANARY}-chaos"), "budget": 8, "stop_rule": "none", "n_parallel": 160, "use_n": "never",
        "first_byte_timeout_ms": PATIENCE_MS, "idle_timeout_ms": PATIENCE_MS, "timeout_ms": 2 * PATIENCE_MS
    });
    fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    fields
}

/// Asks one question.
async fn ask(app: &TestApp, number: usize, way: Way) -> Answer {
    let mut body = json!({
        "model": "scripted", "messages": [{"role": "user", "content": number.to_string()}], "seed": 1000 * number,
        "limits": {"deadline_ms": DEADLINE_MS}, "return_response_only": false
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

/// Holds an answer to what it must be: right, or an error of a known kind.
fn judge(answer: &Answer, number: usize, way: Way, tally: &mut Tally) {
    const KINDS: [&str; 5] =
        ["upstream_unavailable", "upstream_timeout", "rate_limit_exceeded", "upstream_malformed", "deadline_exceeded"];
    assert!(!answer.text.contains(CANARY), "{}", answer.text);
    assert!(answer.headers.values().all(|value| !value.to_str().unwrap_or_default().contains(CANARY)));
    let right = format!("After some thought, it is \\boxed{{{number}}}");
    let error = if answer.status != 200 {
        Some(answer.error(answer.status))
    } else if way == Way::Whole {
        assert_eq!(answer.content(), right);
        let account = &answer.json()["metadata"]["usage_by_phase"]["generate"];
        tally.calls += account["calls"].as_u64().unwrap();
        tally.unknown_calls += account["unknown_calls"].as_u64().unwrap();
        None
    } else {
        let (body, _) = answer.text.split_once("data: [DONE]\n\n").unwrap_or((&answer.text, ""));
        let events = events(body);
        let said: String = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        let error = events.iter().find(|event| !event["error"].is_null()).map(|event| event["error"].clone());
        assert!(if error.is_none() { said == right } else { right.starts_with(&said) }, "{}", answer.text);
        assert!(error.is_some() || answer.text.ends_with("data: [DONE]\n\n"), "{}", answer.text);
        error
    };
    match error {
        None => tally.answers += 1,
        Some(error) => {
            let code = error["code"].as_str().unwrap_or_default();
            assert!(KINDS.contains(&code), "{error}");
            tally.errors.push(error.to_string());
        }
    }
}

/// Asks `count` questions by `clients` at a time, the way of each by its number.
async fn ask_all(app: &Arc<TestApp>, count: usize, clients: usize, way: fn(usize) -> Way) -> Tally {
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (app, next) = (Arc::clone(app), Arc::clone(&next));
        running.spawn(async move {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return answers;
                }
                answers.push((number, ask(&app, number, way(number)).await));
            }
        });
    }
    let mut tally = Tally::default();
    while let Some(answers) = running.join_next().await {
        for (number, answer) in answers.expect("no request panics") {
            judge(&answer, number, way(number), &mut tally);
        }
    }
    tally
}

/// The upstream's counters when all is over, which hold to each other.
async fn counters_of(upstream: &Upstream) -> Counters {
    let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
    let failed = [counters.resets, counters.rate_limited, counters.errors, counters.hung, counters.truncated];
    assert!(failed.iter().all(|&count| count > 0), "{counters:?}");
    counters
}

#[tokio::test]
async fn a_thousand_votes_survive_and_every_attempt_is_in_the_books() {
    let upstream = upstream().await;
    let steady = json!({"max_retries": 6, "retry_budget": 20, "breaker": {"enabled": false}});
    let app = Arc::new(spawn_app_for(&upstream, fields(steady)).await);
    let votes = ask_all(&app, 1000, 250, |number| if number % 2 == 0 { Way::Whole } else { Way::Streamed }).await;
    assert_eq!(votes.answers + votes.errors.len(), 1000);
    assert!(votes.answers > 995, "{:?}", votes.errors);
    let live = ask_all(&app, 60, 20, |_| Way::Live).await;
    assert_eq!(live.answers + live.errors.len(), 60);

    let counted = counters_of(&upstream).await;
    let all = 1060.0;
    let scrape = scrape_when(&app, |scrape| {
        scrape.sum("itsd_requests_total") - scrape.requests("/configure", "none", 200) >= all
            && scrape.of_provider("itsd_inflight") == 0.0
    })
    .await;
    // Every attempt was made, and seen; nothing was called off.
    let attempts = scrape.sum("itsd_upstream_attempts_total");
    assert_eq!(attempts, counted.requests as f64, "{counted:?}");
    assert_eq!(attempts - scrape.of_provider("itsd_upstream_retries_total"), 8060.0);
    assert_eq!(scrape.attempts("rate_limited"), counted.rate_limited as f64);
    assert_eq!(scrape.attempts("ok"), counted.told as f64);
    // What was told is booked, and the rest known to be unknown.
    let told = [counted.told_prompt_tokens, counted.told_completion_tokens].map(|tokens| tokens as f64);
    assert_eq!([scrape.tokens("generate", "prompt"), scrape.tokens("generate", "completion")], told);
    let lost = counted.resets + counted.hung + counted.truncated;
    assert_eq!(scrape.sum("itsd_unknown_usage_calls_total"), lost as f64, "{counted:?}");
    assert_eq!(votes.calls, 8 * 500, "each response tells of its own");
    assert!((1..lost).contains(&votes.unknown_calls), "{} of {lost}", votes.unknown_calls);
}

#[tokio::test]
async fn with_the_usual_limits_there_is_no_storm_of_retries() {
    let upstream = upstream().await;
    let app = Arc::new(spawn_app_for(&upstream, fields(json!({"max_retries": 3}))).await);
    let tally = ask_all(&app, 250, 40, |number| if number % 2 == 0 { Way::Whole } else { Way::Streamed }).await;
    assert_eq!(tally.answers + tally.errors.len(), 250);
    assert!(tally.answers > 125, "{:?}", tally.errors);
    let counted = counters_of(&upstream).await;
    let scrape = scrape_when(&app, |scrape| scrape.of_provider("itsd_inflight") == 0.0).await;
    let attempts = scrape.sum("itsd_upstream_attempts_total");
    assert_eq!(attempts, counted.requests as f64, "{counted:?}");
    let calls = attempts - scrape.of_provider("itsd_upstream_retries_total");
    assert!(calls > 0.0 && attempts <= 1.3 * calls, "{attempts} attempts of {calls} calls");
}

#[tokio::test]
async fn no_failure_tells_the_key() {
    let log = watch_log();
    let upstream = upstream().await;
    let app = Arc::new(spawn_app_for(&upstream, fields(json!({"budget": 3, "max_retries": 0}))).await);
    let ways = |number| [Way::Whole, Way::Streamed, Way::Live][number % 3];
    let tally = ask_all(&app, 60, 20, ways).await;
    assert!(tally.answers > 0 && !tally.errors.is_empty(), "{tally:?}");
    counters_of(&upstream).await;
    assert!(upstream.seen().iter().all(|seen| seen.key() == Some(&format!("Bearer sk-{CANARY}-chaos"))));
    let log = log.borrow();
    assert!(log.lines > 100, "the log was read");
    assert_eq!(log.leaks, [""; 0], "the key is in the log");
}
