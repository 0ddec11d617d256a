//! What Bedrock's errors mean to a client: their status and code, whether they are tried again, and what is not told.

use serde_json::{Value, json};

use crate::app::{Answer, TestApp, events};
use crate::bedrock_configuration::{app_at, app_in, ask, document};
use crate::bedrock_stub::{
    BedrockStub, Control, Credentials, Failure, RetryAfter, SECRET_ACCESS_KEY, Step, TEMPORARY_KEY_ID,
};
use crate::log_watch::{CANARY, watch_log};
use crate::metrics::scrape_when;

pub async fn app_for(stub: &BedrockStub, fields: Value) -> TestApp {
    let app = app_at(stub).await;
    app.post("/configure", &document(fields)).await.ok();
    app
}

/// The error that a stream has ended with, after what was said.
#[track_caller]
pub fn broken_off(answer: &Answer) -> (String, Value) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
    let told = events(&answer.text);
    let said = told.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    (said, told.last().unwrap()["error"].clone())
}

#[tokio::test]
async fn every_exception_has_a_status_and_a_code_and_is_tried_again_or_not() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 2, "retry_budget": 20, "breaker": {"enabled": false}})).await;
    for (kind, status, code, attempts) in [
        ("ThrottlingException", 429, "rate_limit_exceeded", 3),
        ("ServiceQuotaExceededException", 429, "rate_limit_exceeded", 1),
        ("ModelNotReadyException", 502, "upstream_unavailable", 3),
        ("ModelTimeoutException", 502, "upstream_timeout", 3),
        ("ModelErrorException", 502, "upstream_unavailable", 3),
        ("ModelStreamErrorException", 502, "upstream_unavailable", 3),
        ("InternalServerException", 502, "upstream_unavailable", 3),
        ("ServiceUnavailableException", 502, "upstream_unavailable", 3),
        ("ValidationException", 502, "upstream_not_found", 1),
        ("ResourceNotFoundException", 502, "upstream_not_found", 1),
        ("AccessDeniedException", 502, "upstream_auth", 1),
        ("UnrecognizedClientException", 502, "upstream_auth", 1),
        ("InvalidSignatureException", 502, "upstream_auth", 1),
        ("IncompleteSignatureException", 502, "upstream_auth", 1),
        ("ExpiredTokenException", 502, "upstream_auth", 1),
        ("SomethingNewException", 502, "upstream_unavailable", 3),
    ] {
        for stream in [false, true] {
            stub.control(Control { reset: true, ..Control::default() });
            let step = Step::error(kind).retry_after(RetryAfter::Milliseconds(1));
            stub.answer_with(move |_| step.clone());
            let error = ask(&app, json!({ "stream": stream })).await.error(status);
            assert_eq!(error["code"], code, "{kind} {error}");
            assert_eq!(stub.counters().requests, attempts, "{kind} {error}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&format!(" {kind}")), "{message}");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_in_bedrocks_words() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 2})).await;
    for (said, status, code, param) in [
        (
            "1 validation error detected: Value at 'inferenceConfig.temperature' failed to satisfy constraint",
            400,
            "invalid_value",
            json!("temperature"),
        ),
        ("The model returned the following errors: max_tokens: 9 > 4", 400, "invalid_value", json!("max_tokens")),
        ("The model returned the following errors: Nothing to say", 400, "invalid_value", Value::Null),
        ("Input is too long for requested model.", 400, "context_length_exceeded", Value::Null),
        ("Output blocked by content filtering policy", 400, "content_policy", Value::Null),
    ] {
        for stream in [false, true] {
            let asked = stub.counters().requests;
            let failure = Failure::validation(said);
            stub.push(Step { error: Some(failure), ..Step::default() });
            let error = ask(&app, json!({ "stream": stream })).await.error(status);
            assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{error}");
            assert!(error["message"].as_str().unwrap().contains(said), "{error}");
            assert_eq!(stub.counters().requests, asked + 1);
        }
    }
}

#[tokio::test]
async fn bodies_that_are_not_awss_are_read_as_far_as_they_can_be() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({})).await;
    let typed = |status: u16, body: &str| Step::status(status, body).header("x-amzn-errortype", "ThrottlingException");
    let html = |status: u16| Step::status(status, "<html>Bad Gateway</html>").header("content-type", "text/html");
    for (step, status, code, said) in [
        (html(502), 502, "upstream_unavailable", "answered 502: a page of HTML instead of JSON"),
        (html(403), 502, "upstream_auth", "a page of HTML instead of JSON"),
        (html(413), 400, "invalid_value", "a page of HTML instead of JSON"),
        (html(429), 429, "rate_limit_exceeded", "a page of HTML instead of JSON"),
        (typed(400, ""), 429, "rate_limit_exceeded", "answered 400 ThrottlingException: no reason given"),
        (typed(400, "{}"), 429, "rate_limit_exceeded", "answered 400 ThrottlingException: no reason given"),
        (Step::status(503, "no healthy upstream"), 502, "upstream_unavailable", "answered 503: no healthy upstream"),
        (
            Step::status(
                404,
                r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#,
            ),
            502,
            "upstream_not_found",
            "answered 404 UnknownOperationException",
        ),
    ] {
        for stream in [false, true] {
            stub.push(step.clone());
            let error = ask(&app, json!({ "stream": stream })).await.error(status);
            assert_eq!(error["code"], code, "{error}");
            assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        }
    }
    let elsewhere = Step::status(307, "").header("location", "https://elsewhere.example/");
    stub.push(elsewhere);
    let error = ask(&app, json!({})).await.error(502);
    assert!(error["message"].as_str().unwrap().contains("a redirect, which is not followed"), "{error}");
    // A success that is no stream of events.
    for (step, said) in [
        (html(200), "text/html instead of a stream of events"),
        (Step::status(200, "{}"), "application/json instead of a stream of events"),
    ] {
        stub.push(step);
        let error = ask(&app, json!({"stream": true})).await.error(502);
        assert_eq!(error["code"], "upstream_malformed");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named_and_nothing_is_spent() {
    let gone = BedrockStub::start().await;
    let app = app_for(&gone, json!({"max_retries": 1})).await;
    let address = gone.url();
    drop(gone);
    let error = ask(&app, json!({})).await.error(502);
    assert_eq!(error["code"], "upstream_unavailable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("could not connect to") && message.contains(&address), "{message}");
    let scrape = scrape_when(&app, |scrape| scrape.sum("itsd_upstream_attempts_total") == 2.0).await;
    let unreachable = "itsd_upstream_attempts_total{provider=\"bedrock\",outcome=\"unreachable\"}";
    assert_eq!(scrape.value(unreachable), 2.0);
    assert_eq!(scrape.sum("itsd_unknown_usage_calls_total"), 0.0);
}

#[tokio::test]
async fn a_pause_that_bedrock_asks_for_is_kept_or_passed_on() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 3, "retry_budget": 20, "breaker": {"enabled": false}})).await;
    for form in [RetryAfter::Milliseconds(20), RetryAfter::Fraction(0.02), RetryAfter::PastDate, RetryAfter::Nonsense] {
        stub.push(Step::error("ThrottlingException").retry_after(form));
        stub.push(Step::text("42"));
        let asked = stub.counters().requests;
        assert_eq!(ask(&app, json!({})).await.content(), "42");
        assert_eq!(stub.counters().requests, asked + 2);
    }
    // Nobody is kept waiting for an hour.
    for form in [RetryAfter::Seconds(3600), RetryAfter::AwsMilliseconds(3_600_000)] {
        stub.push(Step::error("ThrottlingException").retry_after(form));
        let answer = ask(&app, json!({})).await;
        assert_eq!(answer.error(429)["code"], "rate_limit_exceeded");
        assert_eq!(answer.header("retry-after"), Some("3600"), "{form:?}");
    }
}

#[tokio::test]
async fn breakers_limits_and_budgets_hold_for_bedrock_too() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"breaker": {"min_calls": 3, "cool_down_ms": 600_000}})).await;
    for _ in 0..3 {
        stub.push(Step::error("ServiceUnavailableException"));
        ask(&app, json!({})).await.error(502);
    }
    let message = ask(&app, json!({})).await.error(503)["message"].clone();
    assert!(message.as_str().unwrap().contains("`breaker`"), "{message}");
    assert_eq!(stub.counters().requests, 3);

    // What is wrong with requests is not wrong with Bedrock.
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"breaker": {"min_calls": 3, "cool_down_ms": 600_000}})).await;
    for _ in 0..6 {
        stub.push(Step { error: Some(Failure::validation("no")), ..Step::default() });
        ask(&app, json!({})).await.error(400);
    }
    ask(&app, json!({})).await.ok();

    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"n_parallel": 2, "stop_rule": "none", "budget": 8})).await;
    stub.answer_with(|_| Step::text("42").gated("both"));
    let vote = tokio::spawn(async move { ask(&app, json!({})).await });
    stub.wait_for(|counters| counters.in_flight == 2).await;
    stub.open_gate("both");
    assert_eq!(vote.await.unwrap().header("x-its-candidates"), Some("8"));
    let counters = stub.counters();
    assert_eq!((counters.requests, counters.peak_in_flight), (8, 2));

    let stub = BedrockStub::start().await;
    let fields = json!({"max_retries": 3, "retry_budget": 0.1, "breaker": {"enabled": false}, "stop_rule": "none"});
    let app = app_for(&stub, fields).await;
    stub.answer_with(|_| Step::error("InternalServerException").retry_after(RetryAfter::Milliseconds(1)));
    ask(&app, json!({"budget": 100})).await.error(502);
    // One for each of the first 32 calls, which is more than a tenth of a hundred, and ten that are free.
    let requests = stub.counters().requests;
    assert!((100..=142).contains(&requests), "{requests}");
}

#[tokio::test]
async fn a_pool_of_addresses_stands_in_for_those_that_fail_or_refuse() {
    for kind in ["InternalServerException", "AccessDeniedException", "ResourceNotFoundException"] {
        let (fails, answers) = (BedrockStub::start().await, BedrockStub::start().await);
        fails.answer_with(move |_| Step::error(kind));
        let app = app_at(&answers).await;
        let endpoint = json!([{"url": fails.url(), "weight": 1000}, answers.url()]);
        let fields = json!({
            "provider": "bedrock", "endpoint": endpoint, "max_retries": 1, "retry_budget": 20,
            "breaker": {"cool_down_ms": 600_000}
        });
        app.post("/configure", &document(fields)).await.ok();
        for stream in [false, true, false, true] {
            let answer = ask(&app, json!({ "stream": stream })).await;
            assert_eq!(answer.status, 200, "{kind}: {}", answer.text);
        }
        assert_eq!(answers.counters().requests, 4, "{kind}");
        assert!(fails.counters().requests > 0, "{kind}");
    }
}

#[tokio::test]
async fn no_error_tells_a_key_a_token_a_signature_or_an_account() {
    let log = watch_log();
    let stub = BedrockStub::start().await;
    // As long as those of sessions are, and known to nobody but the SDK.
    let token = format!("{}{CANARY}{}", "IQoJb3JpZ2luX2VjEOf//////////".repeat(4), "wEaCXVzLWVhc3QtMSJHMEUCIQ==");
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("credentials");
    let keys = format!(
        "[default]\naws_access_key_id = {TEMPORARY_KEY_ID}\naws_secret_access_key = {SECRET_ACCESS_KEY}\n\
         aws_session_token = {token}\n"
    );
    std::fs::write(&path, keys).unwrap();
    let variables = [
        ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", stub.url()),
        ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap().to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let app = app_in(&variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    app.post("/configure", &document(json!({"extra_args": {}}))).await.ok();
    let known = Credentials::new(TEMPORARY_KEY_ID, SECRET_ACCESS_KEY).with_session_token(&token);
    stub.control(Control { credentials: Some(vec![known]), ..Control::default() });
    ask(&app, json!({})).await.ok();

    let scope = format!("{TEMPORARY_KEY_ID}/20250102/us-east-1/bedrock/aws4_request");
    let quotes = [
        format!(
            "The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for \
             this request should have been\n'POST\n/model/x/converse\n\nhost:x\nx-amz-security-token:{token}\n'"
        ),
        format!(
            "'{CANARY}' not a valid key=value pair in Authorization header: 'AWS4-HMAC-SHA256 Credential={scope}, x'"
        ),
        format!("User: arn:aws:iam::123456789012:user/me with {token} of {TEMPORARY_KEY_ID} may not do that"),
        format!("the token {token} is expired"),
        format!("Signature={CANARY}{}, Credential={scope}", "0f".repeat(32)),
    ];
    let mut told = String::new();
    for kind in [
        "ThrottlingException",
        "ServiceQuotaExceededException",
        "ModelNotReadyException",
        "ModelTimeoutException",
        "ModelErrorException",
        "ModelStreamErrorException",
        "InternalServerException",
        "ServiceUnavailableException",
        "ValidationException",
        "ResourceNotFoundException",
        "AccessDeniedException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
        "ExpiredTokenException",
        "SomethingNewException",
    ] {
        for (at, quote) in quotes.iter().enumerate() {
            // What quotes the header without a word of warning is known by its name alone.
            if at == 1 && !kind.contains("Signature") {
                continue;
            }
            let failure = if at == 1 { "IncompleteSignatureException" } else { kind };
            let failure = Failure::saying(failure, quote.clone());
            for stream in [false, true] {
                stub.push(Step { error: Some(failure.clone()), ..Step::default() });
                told += &ask(&app, json!({ "stream": stream })).await.text;
            }
            for after in [1, 3] {
                let content = Step::text("One two three four").content;
                stub.push(Step {
                    exception: Some(failure.clone()),
                    exception_after: Some(after),
                    content,
                    ..Step::default()
                });
                told += &ask(&app, json!({"stream": true})).await.text;
            }
        }
    }
    // Bodies that are nobody's.
    for quote in &quotes[2..] {
        for status in [400, 403, 500] {
            stub.push(Step::status(status, quote));
            told += &ask(&app, json!({})).await.text;
        }
    }
    for secret in [CANARY, TEMPORARY_KEY_ID, SECRET_ACCESS_KEY, "123456789012"] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    assert!(told.contains("[removed]") && told.contains("does not match the signature you provided"));
    let log = log.borrow();
    assert!(log.lines > 100, "the log was read: {} lines", log.lines);
    assert_eq!(log.leaks, [""; 0], "the token is in the log");
}

#[tokio::test]
async fn who_is_not_let_in_learns_what_to_change() {
    let stub = BedrockStub::start().await;
    let app = app_for(&stub, json!({"max_retries": 3})).await;
    let named = |credentials: Credentials| Control { credentials: Some(vec![credentials]), ..Control::default() };
    let known = || Credentials::new("AKIAIOSFODNN7EXAMPLE", SECRET_ACCESS_KEY);
    for (control, said) in [
        (named(Credentials::new("AKIAOTHER", "x")), "security token included in the request is invalid"),
        (named(Credentials { expired: true, ..known() }), "security token included in the request is expired"),
        (named(Credentials { denied: true, ..known() }), "is not authorized to perform: bedrock:InvokeModel"),
        (named(Credentials::new("AKIAIOSFODNN7EXAMPLE", "other")), "does not match the signature you provided"),
        (
            Control { region: Some("eu-west-1".to_owned()), ..named(known()) },
            "Credential should be scoped to a valid region, not 'us-east-1'",
        ),
    ] {
        stub.control(control);
        let asked = stub.counters().requests;
        for stream in [false, true] {
            let error = ask(&app, json!({ "stream": stream })).await.error(502);
            assert_eq!(error["code"], "upstream_auth", "{error}");
            let message = error["message"].as_str().unwrap();
            // Who is known and may not has nothing to change about the keys.
            let remedy = if said.contains("not authorized") { "may not call this model" } else { "`extra_args`" };
            assert!(message.contains(said) && message.contains(remedy), "{message}");
        }
        assert_eq!(stub.counters().requests, asked + 2, "it is not asked twice");
    }
    let attempts = scrape_when(&app, |scrape| scrape.sum("itsd_inflight") == 0.0).await;
    assert_eq!(attempts.sum("itsd_upstream_attempts_total"), 10.0);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_put_right_by_awss() {
    for ahead_s in [3600, -3600] {
        for stream in [false, true] {
            let stub = BedrockStub::start().await;
            let app = app_for(&stub, json!({"max_retries": 1})).await;
            stub.control(Control { clock_ahead_s: Some(ahead_s), ..Control::default() });
            for attempts in [2, 3] {
                let answer = ask(&app, json!({ "stream": stream })).await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                assert_eq!(stub.counters().requests, attempts, "it is known from then on");
            }
            let app = app_for(&stub, json!({"max_retries": 0})).await;
            let error = ask(&app, json!({ "stream": stream })).await.error(502);
            assert_eq!(error["code"], "upstream_auth");
            assert!(error["message"].as_str().unwrap().contains("Signature "), "{error}");
        }
    }
}
