//! `GET /metrics`: that what it counts is what happened, and that nothing of a client's gets into it.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value, json};

use crate::app::{PATIENCE, TestApp, document, question, receive, spawn_app, spawn_app_for};
use crate::log_watch::{lines_of, watch_log};
use crate::upstream::{Point, Step, Upstream};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const CHAT: &str = "/v1/chat/completions";

/// The samples of a scrape by their name and labels as they are written.
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line} is no sample"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line} has no value")))
        });
        Self(samples.collect())
    }

    /// 0 for what has not been counted yet.
    pub fn value(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or_default()
    }

    pub fn requests(&self, path: &str, algorithm: &str, status: u16) -> f64 {
        self.value(&format!("itsd_requests_total{{path=\"{path}\",algorithm=\"{algorithm}\",status=\"{status}\"}}"))
    }

    pub fn attempts(&self, outcome: &str) -> f64 {
        let provider = "openai-compatible";
        self.value(&format!("itsd_upstream_attempts_total{{provider=\"{provider}\",outcome=\"{outcome}\"}}"))
    }

    pub fn of_provider(&self, name: &str) -> f64 {
        self.value(&format!("{name}{{provider=\"openai-compatible\"}}"))
    }

    pub fn candidates(&self, algorithm: &str, outcome: &str) -> f64 {
        self.value(&format!("itsd_candidates_total{{algorithm=\"{algorithm}\",outcome=\"{outcome}\"}}"))
    }

    pub fn tokens(&self, phase: &str, kind: &str) -> f64 {
        self.value(&format!("itsd_tokens_total{{phase=\"{phase}\",kind=\"{kind}\"}}"))
    }

    fn breakers(&self, state: &str) -> f64 {
        self.value(&format!("itsd_breaker_state{{provider=\"openai-compatible\",state=\"{state}\"}}"))
    }

    /// All samples of a family together.
    pub fn sum(&self, family: &str) -> f64 {
        let samples = self.0.iter().filter(|(name, _)| name.split('{').next() == Some(family));
        samples.map(|(_, value)| value).sum()
    }
}

async fn scrape(app: &TestApp) -> Scrape {
    let answer = app.get("/metrics").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(PROMETHEUS)));
    Scrape::read(&answer.text)
}

/// The first scrape that satisfies `condition`: a client may have its response before the daemon has counted it.
pub async fn scrape_when(app: &TestApp, condition: impl Fn(&Scrape) -> bool) -> Scrape {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let scrape = scrape(app).await;
        if condition(&scrape) {
            return scrape;
        }
        assert!(Instant::now() < deadline, "never came to what was waited for: {:?}", scrape.0);
    }
}

async fn chat(app: &TestApp, fields: Value, status: u16) {
    let answer = app.chat(fields).await;
    assert_eq!(answer.status, status, "{}", answer.text);
}

#[tokio::test]
async fn attempts_candidates_tokens_and_dollars_are_those_that_were() {
    let upstream = Upstream::start().await;
    let fields = json!({
        "budget": 3, "stop_rule": "none", "n_parallel": 1, "max_retries": 1,
        "prices": {"scripted": {"prompt": 5e5, "completion": 1e6}}
    });
    let app = spawn_app_for(&upstream, fields).await;
    let soon = |step: Step| step.header("retry-after-ms", "1");
    for step in [
        Step::content("\\boxed{42}"),
        soon(Step::status(429, "{}")),
        Step::close_at(Point::Request),
        Step::content("\\boxed{42}"),
        Step::status(400, "{}"),
    ] {
        upstream.push(step);
    }
    chat(&app, json!({}), 200).await;
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "self-consistency", 200) == 1.0).await;
    let outcomes = ["ok", "rate_limited", "upstream_unavailable", "invalid_request", "cancelled", "unreachable"];
    assert_eq!(outcomes.map(|outcome| scrape.attempts(outcome)), [2.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(scrape.sum("itsd_upstream_attempts_total"), upstream.counters().requests as f64);
    assert_eq!(scrape.of_provider("itsd_upstream_retries_total"), 2.0);
    // Once for each attempt, and again where a rate limit came while a call waited.
    assert!(scrape.of_provider("itsd_queue_wait_seconds_count") >= 5.0);
    assert_eq!([scrape.of_provider("itsd_inflight"), scrape.of_provider("itsd_queued")], [0.0, 0.0]);
    assert_eq!(scrape.of_provider("itsd_upstream_ttft_seconds_count"), 2.0, "those that were answered");
    assert_eq!(["closed", "half_open", "open"].map(|state| scrape.breakers(state)), [1.0, 0.0, 0.0]);
    assert_eq!(scrape.candidates("self-consistency", "completed"), 2.0);
    assert_eq!(scrape.candidates("self-consistency", "invalid_request"), 1.0);
    assert_eq!(scrape.sum("itsd_candidates_total"), 3.0);
    // The upstream counts 10 prompt tokens a call, and a completion token a word.
    assert_eq!([scrape.tokens("generate", "prompt"), scrape.tokens("generate", "completion")], [20.0, 2.0]);
    assert_eq!(scrape.value("itsd_unknown_usage_calls_total{phase=\"generate\"}"), 1.0, "the one that was closed");
    assert_eq!(scrape.value("itsd_cost_usd_total{phase=\"generate\"}"), 12.0);
    assert_eq!(scrape.sum("itsd_saved_tokens_total"), 0.0);
    let of_algorithm = "{algorithm=\"self-consistency\"}";
    assert_eq!(scrape.value(&format!("itsd_overhead_seconds_count{of_algorithm}")), 1.0);
    let (overhead, duration) =
        (scrape.sum("itsd_overhead_seconds_sum"), scrape.sum("itsd_request_duration_seconds_sum"));
    assert!(overhead > 0.0 && overhead < duration, "{overhead} of {duration}");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_was_sent_nothing() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 2})).await;
    upstream.stop().await;
    chat(&app, json!({}), 502).await;
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "self-consistency", 502) == 1.0).await;
    assert_eq!((scrape.attempts("unreachable"), scrape.sum("itsd_upstream_attempts_total")), (2.0, 2.0));
    assert_eq!(scrape.candidates("self-consistency", "upstream_unavailable"), 2.0);
    assert_eq!(scrape.sum("itsd_unknown_usage_calls_total"), 0.0);
}

#[tokio::test]
async fn a_judge_spends_in_a_phase_of_its_own_and_its_failures_are_counted() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|seen| match seen.json()["model"] == "judge" {
        true => Step::content("I cannot say"),
        false => Step::content(&format!("It is {}", seen.number)),
    });
    let fields = json!({
        "alg": "best-of-n", "rm_name": "llm-judge", "judge_model": "judge", "budget": 2,
        "prices": {"judge": {"prompt": 1e5}}
    });
    let app = spawn_app_for(&upstream, fields).await;
    chat(&app, json!({}), 200).await;
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "best-of-n", 200) == 1.0).await;
    assert_eq!(scrape.value("itsd_judge_failures_total{kind=\"upstream_malformed\"}"), 1.0);
    // Three tries at 10 tokens of a tenth of a dollar each; the candidates have no price.
    assert_eq!([scrape.tokens("generate", "prompt"), scrape.tokens("judge", "prompt")], [20.0, 30.0]);
    assert_eq!(scrape.value("itsd_cost_usd_total{phase=\"judge\"}"), 3.0);
    assert_eq!(scrape.value("itsd_cost_usd_total{phase=\"generate\"}"), 0.0);
    assert_eq!(scrape.candidates("best-of-n", "completed"), 2.0);
}

#[tokio::test]
async fn what_stops_early_has_saved_tokens_and_what_is_given_up_was_cancelled() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let app = spawn_app_for(&upstream, json!({"budget": 40, "stop_rule": "beta"})).await;
    chat(&app, json!({}), 200).await;
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "self-consistency", 200) == 1.0).await;
    assert_eq!(scrape.value("itsd_saved_tokens_total"), 36.0);
    assert_eq!(scrape.candidates("self-consistency", "completed"), 4.0);
    assert_eq!(scrape.candidates("self-consistency", "not_started"), 36.0);

    upstream.answer_with(|_| Step::hang_at(Point::Request));
    let leaving = app.chat_in_background(json!({"budget": 3, "stop_rule": "none"}));
    upstream.wait_for(|counters| counters.in_flight == 3).await;
    let meanwhile = scrape_when(&app, |scrape| scrape.of_provider("itsd_inflight") == 3.0).await;
    // The chat, and the scrape itself.
    assert_eq!(meanwhile.value("itsd_requests_inflight"), 2.0);
    leaving.abort();
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "self-consistency", 499) == 1.0).await;
    assert_eq!((scrape.attempts("ok"), scrape.attempts("cancelled")), (4.0, 3.0));
    assert_eq!(scrape.candidates("self-consistency", "cancelled"), 3.0);
    assert_eq!(scrape.value("itsd_unknown_usage_calls_total{phase=\"generate\"}"), 3.0);
    assert_eq!([scrape.of_provider("itsd_inflight"), scrape.value("itsd_requests_inflight")], [0.0, 1.0]);
}

#[tokio::test]
async fn streams_and_raw_texts_are_counted_like_everything_else() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1, "prices": {"scripted": {"prompt": 1e6}}})).await;
    chat(&app, json!({"stream": true}), 200).await;
    for stream in [false, true] {
        let request = json!({"model": "scripted", "prompt": "6 times 7 is", "stream": stream});
        assert_eq!(app.post("/v1/completions", &request).await.status, 200);
    }
    let scrape = scrape_when(&app, |scrape| scrape.requests("/v1/completions", "none", 200) == 2.0).await;
    assert_eq!(scrape.requests(CHAT, "none", 200), 1.0);
    assert_eq!((scrape.attempts("ok"), scrape.sum("itsd_upstream_attempts_total")), (3.0, 3.0));
    assert_eq!(scrape.of_provider("itsd_upstream_ttft_seconds_count"), 3.0);
    assert_eq!(scrape.value("itsd_overhead_seconds_count{algorithm=\"none\"}"), 3.0);
    assert_eq!(scrape.value("itsd_cost_usd_total{phase=\"generate\"}"), scrape.tokens("generate", "prompt"));
}

#[tokio::test]
async fn the_time_of_a_run_is_that_of_its_calls_and_the_rest() {
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 3, "stop_rule": "none"})).await;
    let answer = app.chat(json!({"return_response_only": false})).await.ok();
    let timing = |part: &str| answer["metadata"]["timing_ms"][part].as_f64().unwrap();
    assert!(timing("upstream") > 0.0 && timing("overhead") > 0.0, "{answer}");
    assert!((timing("upstream") + timing("overhead") - timing("total")).abs() < 1e-6, "{answer}");
}

#[tokio::test]
async fn scrapes_are_no_news_in_the_log_and_runs_tell_their_overhead_and_cost() {
    let mut log = watch_log();
    let upstream = Upstream::start().await;
    let app = spawn_app_for(&upstream, json!({"budget": 1, "prices": {"scripted": {"prompt": 5e5}}})).await;
    receive(app.client.get(app.url("/metrics")).header("x-request-id", "line-scrape")).await;
    let scraped = lines_of(&mut log, "line-scrape").await;
    assert!(scraped.len() == 1 && scraped[0].contains("DEBUG") && !scraped[0].contains("overhead_ms"), "{scraped:?}");
    let request = app.json_request(CHAT, &question(json!({})).to_string());
    receive(request.header("x-request-id", "line-priced")).await.ok();
    let asked = lines_of(&mut log, "line-priced").await;
    // Ten tokens at half a dollar.
    assert!(asked.len() == 1 && asked[0].contains(" overhead_ms=") && asked[0].contains(" cost_usd=5.0"), "{asked:?}");
}

#[tokio::test]
async fn a_breaker_that_opens_is_told() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::status(500, "{}"));
    let breaker = json!({"min_calls": 2, "failure_share": 0.5, "cool_down_ms": 600_000});
    let app = spawn_app_for(&upstream, json!({"budget": 2, "breaker": breaker})).await;
    chat(&app, json!({}), 502).await;
    let scrape = scrape_when(&app, |scrape| scrape.breakers("open") == 1.0).await;
    assert_eq!(["closed", "half_open"].map(|state| scrape.breakers(state)), [0.0, 0.0]);
    chat(&app, json!({}), 503).await;
    let scrape = scrape_when(&app, |scrape| scrape.requests(CHAT, "self-consistency", 503) == 1.0).await;
    assert_eq!(scrape.attempts("upstream_unavailable"), 2.0, "what is left alone is sent nothing");
}

#[tokio::test]
async fn counters_only_rise_when_the_configuration_changes() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    for revision in 1..=3 {
        app.configure(&upstream, json!({"budget": revision, "stop_rule": "none"})).await;
        chat(&app, json!({}), 200).await;
        let configured = |scrape: &Scrape| scrape.requests("/configure", "", 200) == f64::from(revision);
        let scrape = scrape_when(&app, configured).await;
        assert_eq!(scrape.value("itsd_config_revision"), f64::from(revision));
        // 1, then 2 and 3 more.
        assert_eq!(scrape.attempts("ok"), f64::from(revision * (revision + 1) / 2));
    }
}

#[tokio::test]
async fn nothing_that_a_client_or_an_operator_wrote_becomes_a_label() {
    let upstream = Upstream::start().await;
    let app = spawn_app().await;
    let fields = json!({
        "api_key": "canary-key", "model": "canary-model", "allow_any_model": true, "allow_request_endpoint": true,
        "extra_args": {"headers": {"x-canary": "canary-header"}}, "max_retries": 0, "budget": 1
    });
    assert_eq!(app.post("/configure", &document(&upstream, fields)).await.status, 200);
    upstream.answer_with(|seen| match seen.number % 2 {
        0 => Step::content("canary-answer"),
        _ => Step::status(400, "{\"error\": {\"message\": \"canary-message\", \"code\": \"canary-code\"}}"),
    });
    let mut asked = 0;
    for fields in [
        json!({"model": "canary-other"}),
        json!({"messages": [{"role": "user", "content": "canary-prompt"}]}),
        json!({"alg": "canary-alg"}),
        json!({"canary-field": "canary-value", "provider": "canary-provider"}),
        json!({"user": "canary-user", "budget": 3, "tts_strategy": "self_consistency"}),
    ] {
        for (header, value) in [
            ("x-request-id", "canary-id".to_owned()),
            ("x-its-endpoint", upstream.base_url()),
            ("x-its-api-key", "canary-own-key".to_owned()),
        ] {
            receive(app.json_request(CHAT, &question(fields.clone()).to_string()).header(header, value)).await;
            asked += 1;
        }
    }
    for path in ["/canary-path", "/v1/models/canary/name", "/v1/canary-algorithm/chat/completions", "/docs/canary"] {
        app.get(path).await;
        app.post(path, &question(json!({}))).await;
    }
    app.post("/v1/chat/cancel/canary-cancel", &json!({})).await;
    let of_chat = |scrape: &Scrape| {
        let samples = scrape.0.iter().filter(|(name, _)| name.starts_with("itsd_requests_total{path=\"/v1/chat/comp"));
        samples.map(|(_, count)| count).sum::<f64>() == f64::from(asked)
    };
    let scrape = scrape_when(&app, of_chat).await;
    let text = format!("{:?}", scrape.0.keys());
    assert!(!text.contains("canary"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
    for route in ["unmatched", "/v1/models/{id}", "/v1/{algorithm}/chat/completions", "/v1/chat/cancel/{request_id}"] {
        assert!(text.contains(&format!("path=\\\"{route}\\\"")), "{route} is not in {text}");
    }
    assert!(scrape.sum("itsd_upstream_attempts_total") == upstream.counters().requests as f64);
    assert!(text.contains("provider=\\\"request-endpoint\\\""), "{text}");
}

#[tokio::test]
async fn the_text_is_the_one_that_the_scraper_reads() {
    let app = spawn_app().await;
    let answer = receive(app.client.get(app.url("/metrics")).header("accept", "application/openmetrics-text")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(OPEN_METRICS)));
    assert!(answer.text.ends_with("\n# EOF\n"), "{}", answer.text);
    assert!(answer.text.contains("# TYPE itsd_tokens counter\n"), "{}", answer.text);
    let older = app.get("/metrics").await;
    assert!(
        older.text.contains("# TYPE itsd_tokens_total counter\n") && !older.text.contains("# EOF"),
        "{}",
        older.text
    );
    let head = receive(app.client.head(app.url("/metrics"))).await;
    assert_eq!((head.status, head.header("content-type"), &*head.text), (200, Some(PROMETHEUS), ""));
    for family in ["process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(Scrape::read(&older.text).value(family) > 0.0, "{family}");
    }
}
