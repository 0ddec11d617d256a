//! What a failed call is called, what is retried, and what never shows in a failure.

use std::time::Duration;

use itsd::failure::FailureKind::{self, *};
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use serde_json::json;

use crate::provider::{KEY, complete, prompt, provider, spec, stream};
use crate::upstream::{Point, Step, Upstream};

async fn failure_of(step: Step) -> itsd::failure::Failure {
    let upstream = Upstream::start().await;
    upstream.push(step);
    complete(&provider(&upstream, |_| {})).await.unwrap_err()
}

#[tokio::test]
async fn statuses_and_codes_become_kinds() {
    let error = |message: &str, code: &str| {
        json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": code}}).to_string()
    };
    let cases: Vec<(u16, String, FailureKind)> = vec![
        (400, error("bad", ""), InvalidRequest),
        (413, "too large".to_owned(), InvalidRequest),
        (422, r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#.to_owned(), InvalidRequest),
        (400, error("This model's maximum context length is 8192 tokens", ""), ContextLength),
        (400, error("too long", "context_length_exceeded"), ContextLength),
        (400, json!({"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}).to_string(), ContextLength),
        (400, error("no", "content_policy_violation"), ContentPolicy),
        (400, error("no", "content_filter"), ContentPolicy),
        (401, error("no", "invalid_api_key"), Auth),
        (403, String::new(), Auth),
        (404, error("no such model", "model_not_found"), NotFound),
        (405, String::new(), NotFound),
        (402, String::new(), RateLimited),
        (413, error("Request too large for tokens per minute", "rate_limit_exceeded"), RateLimited),
        (429, String::new(), RateLimited),
        (429, error("quota", "insufficient_quota"), RateLimited),
        (408, String::new(), Unavailable),
        (409, String::new(), Unavailable),
        (500, "<html><body>oops</body></html>".to_owned(), Unavailable),
        (503, String::new(), Unavailable),
        (529, String::new(), Unavailable),
    ];
    for (status, body, kind) in cases {
        let failure = failure_of(Step::status(status, &body)).await;
        assert_eq!((failure.kind, failure.status), (kind, Some(status)), "{status} {body}");
    }
}

#[tokio::test]
async fn the_upstreams_words_are_found_in_every_usual_shape() {
    for (body, message) in [
        (r#"{"error":{"message":"a reason","code":null}}"#, "scripted answered 400: a reason"),
        (r#"{"error":"a reason"}"#, "scripted answered 400: a reason"),
        (r#"{"message":"a reason"}"#, "scripted answered 400: a reason"),
        (r#"{"detail":"a reason"}"#, "scripted answered 400: a reason"),
        (r#"{"detail":[{"msg":"one"},{"msg":"two"}]}"#, "scripted answered 400: one; two"),
        (r#"[{"error":{"code":400,"message":"a reason"}}]"#, "scripted answered 400: a reason"),
        (r#"{"error":{"why":"x"}}"#, r#"scripted answered 400: {"why":"x"}"#),
        ("a reason\n", "scripted answered 400: a reason"),
        ("<!doctype html><p>a reason", "scripted answered 400: a page of HTML instead of JSON"),
        ("", "scripted answered 400: no reason given"),
        ("[]", "scripted answered 400: no reason given"),
    ] {
        assert_eq!(failure_of(Step::status(400, body)).await.message, message, "{body}");
    }
}

#[tokio::test]
async fn the_parameter_at_fault_is_named() {
    let body = r#"{"error":{"message":"bad","type":"invalid_request_error","param":"temperature","code":null}}"#;
    assert_eq!(failure_of(Step::status(400, body)).await.param.as_deref(), Some("temperature"));
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let failure = failure_of(Step::status(400, &"é".repeat(100_000))).await;
    assert!(failure.message.chars().count() <= 1001, "{}", failure.message.len());
    assert!(failure.message.ends_with("é…"));
}

#[tokio::test]
async fn an_error_in_a_200_counts_before_its_choices() {
    let message = r#""choices":[{"message":{"content":"42"},"finish_reason":"stop"}]"#;
    for (error, kind, status) in [
        (r#"{"message":"slow down","code":429}"#, RateLimited, Some(429)),
        (r#"{"message":"no","code":"401"}"#, Auth, Some(401)),
        (r#"{"message":"too long","code":"context_length_exceeded"}"#, ContextLength, None),
        (r#"{"message":"bad","type":"invalid_request_error"}"#, InvalidRequest, None),
        (r#"{"message":"what","code":7}"#, Unavailable, None),
        (r#""plain words""#, Unavailable, None),
    ] {
        for body in [format!(r#"{{{message},"error":{error}}}"#), format!(r#"{{"error":{error}}}"#)] {
            let failure = failure_of(Step::body(&body)).await;
            assert_eq!((failure.kind, failure.status), (kind, status), "{body}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_no_completion_is_malformed() {
    for (step, words) in [
        (Step::body("<html>hello</html>").header("content-type", "text/html"), "HTML"),
        (Step::body("hello").header("content-type", "text/plain"), "text/plain"),
        (Step::body(""), "empty body"),
        (Step::body("null"), "cannot be read"),
        (Step::body("[]"), "cannot be read"),
        (Step::body("{}"), "without choices"),
        (Step::body(r#"{"choices":[]}"#), "without choices"),
        (Step::body(r#"{"choices":null}"#), "without choices"),
        (Step::body(r#"{"choices":[{"finish_reason":"stop"}]}"#), "without a message"),
        (Step::body(r#"{"choices":[{"message":"text"}]}"#), "a message that cannot be read"),
        (Step::body(r#"{"choices":[{"message":{"content":"4"#), "breaks off"),
    ] {
        let failure = failure_of(step).await;
        assert_eq!(failure.kind, Malformed, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_the_upstreams_fault_wherever_it_breaks() {
    for point in [Point::Request, Point::Head, Point::Body] {
        let failure = failure_of(Step::close_at(point)).await;
        assert_eq!(failure.kind, Unavailable, "{point:?}: {failure}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_kept() {
    let upstream = Upstream::start().await;
    upstream.push(Step { split_bytes: Some(1 << 20), ..Step::body(&"x".repeat(65 << 20)) });
    let failure = complete(&provider(&upstream, |spec| spec.calls.max_retries = 3)).await.unwrap_err();
    assert_eq!(failure.message, "scripted answered with a body of more than 64 MiB");
    assert_eq!(upstream.counters().requests, 1);
}

#[tokio::test]
async fn a_stream_without_end_is_not_kept() {
    let upstream = Upstream::start().await;
    // No event of it is large, and none ends the answer.
    let event = format!("data: {}\n\n", json!({"choices": [{"delta": {"content": "x".repeat(1 << 20)}}]}));
    upstream.push(Step { split_bytes: Some(1 << 20), ..Step::events(&event.repeat(65)) });
    let (_, end) = stream(&provider(&upstream, |spec| spec.calls.max_retries = 3), &prompt()).await;
    let failure = end.unwrap_err();
    assert_eq!((failure.kind, upstream.counters().requests), (Malformed, 1));
    assert_eq!(failure.message, "scripted answered with a stream of more than 64 MiB");
}

#[tokio::test]
async fn a_completion_of_another_shape_is_not_paid_for_again() {
    let upstream = Upstream::start().await;
    upstream.answer_with(|_| Step::body(r#"{"choices":[{"text":"42"}]}"#));
    let provider = provider(&upstream, |spec| spec.calls.max_retries = 3);
    for failure in [complete(&provider).await.unwrap_err(), stream(&provider, &prompt()).await.1.unwrap_err()] {
        assert_eq!((failure.kind, failure.message.contains("without a message")), (Malformed, true), "{failure}");
    }
    assert_eq!(upstream.counters().requests, 2);
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_what_to_check() {
    // Bound and never listening: the port refuses, and is nobody else's while the test runs.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let provider = Provider::new(spec(&format!("http://{address}/v1")), &Shared::default()).unwrap();
    let failure = complete(&provider).await.unwrap_err();
    assert_eq!(failure.kind, Unavailable);
    assert_eq!(
        failure.message,
        format!("could not connect to http://{address}: connection refused; is it running, and is `endpoint` right?")
    );
}

#[tokio::test]
async fn a_server_without_tls_behind_an_https_address_is_a_failed_connection() {
    let upstream = Upstream::start().await;
    let provider = match Provider::new(spec(&upstream.base_url().replace("http:", "https:")), &Shared::default()) {
        Ok(provider) => provider,
        // A machine without certificates says so, and cannot come further.
        Err(error) => return assert!(error.to_string().contains("ca-certificates"), "{error}"),
    };
    let failure = complete(&provider).await.unwrap_err();
    assert_eq!(failure.kind, Unavailable);
    let address = upstream.address();
    assert_eq!(
        failure.message,
        format!(
            "could not connect to https://{address}: it does not speak TLS (http:// instead of https://?); \
             is it running, and is `endpoint` right?"
        )
    );
}

#[tokio::test]
async fn what_may_pass_is_retried_until_it_does() {
    let upstream = Upstream::start().await;
    let soon = |step: Step| step.header("retry-after-ms", "1");
    for status in [408, 409, 429, 500, 502, 503, 529] {
        upstream.push(soon(Step::status(status, "")));
    }
    upstream.push(Step::content("at last"));
    let completion = complete(&provider(&upstream, |spec| spec.calls.max_retries = 7)).await.unwrap();
    assert_eq!(completion.reply.content(), Some("at last"));
    assert_eq!(upstream.counters().requests, 8);
}

#[tokio::test]
async fn a_broken_connection_and_a_body_that_breaks_off_are_retried() {
    let upstream = Upstream::start().await;
    upstream.push(Step::close_at(Point::Request));
    upstream.push(Step::close_at(Point::Body));
    upstream.push(Step::content("whole"));
    let completion = complete(&provider(&upstream, |spec| spec.calls.max_retries = 2)).await.unwrap();
    assert_eq!(completion.reply.content(), Some("whole"));
}

#[tokio::test]
async fn what_cannot_pass_is_asked_once() {
    let quota = r#"{"error":{"message":"quota","code":"insufficient_quota"}}"#;
    for (status, body) in [(400, ""), (401, ""), (402, ""), (403, ""), (404, ""), (413, ""), (422, ""), (429, quota)] {
        let upstream = Upstream::start().await;
        upstream.push(Step::status(status, body).header("retry-after-ms", "1"));
        complete(&provider(&upstream, |spec| spec.calls.max_retries = 3)).await.unwrap_err();
        assert_eq!(upstream.counters().requests, 1, "{status} {body}");
    }
}

#[tokio::test]
async fn the_last_failure_is_returned_when_the_retries_are_used_up() {
    let upstream = Upstream::start().await;
    for at in 0..3 {
        upstream.push(Step::status(503, &format!("failure {at}")).header("retry-after-ms", "1"));
    }
    let failure = complete(&provider(&upstream, |spec| spec.calls.max_retries = 2)).await.unwrap_err();
    assert_eq!(failure.message, "scripted answered 503: failure 2");
    assert_eq!(failure.retry_after, Some(Duration::from_millis(1)));
    assert_eq!(upstream.counters().requests, 3);
}

#[tokio::test]
async fn an_upstream_that_wants_to_be_left_alone_for_long_is_not_waited_for() {
    let upstream = Upstream::start().await;
    upstream.push(Step::status(429, "").header("retry-after", "3600"));
    let failure = complete(&provider(&upstream, |spec| spec.calls.max_retries = 3)).await.unwrap_err();
    assert_eq!((failure.kind, failure.retry_after), (RateLimited, Some(Duration::from_secs(3600))));
    assert_eq!(upstream.counters().requests, 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_never_sees_the_key() {
    let (upstream, elsewhere) = (Upstream::start().await, Upstream::start().await);
    for status in [301, 302, 307, 308] {
        let target = format!("{}/chat/completions", elsewhere.base_url());
        let with_token = format!("{}?session=0123#there", target.replace("http://", "http://user:word@"));
        upstream.push(Step::status(status, "").header("location", &with_token));
        let failure = complete(&provider(&upstream, |spec| spec.calls.max_retries = 3)).await.unwrap_err();
        assert_eq!((failure.kind, failure.status), (NotFound, Some(status)));
        assert!(failure.message.contains(&format!("redirect to {target}, which")), "{failure}");
    }
    upstream.push(Step::status(308, "").header("location", "/v2/chat/completions?session=0123"));
    let failure = complete(&provider(&upstream, |_| {})).await.unwrap_err();
    assert!(failure.message.contains(&format!("redirect to http://{}/v2/chat/completions, which", upstream.address())));
    upstream.push(Step::status(308, "").header("location", "data:text/plain,secret"));
    let failure = complete(&provider(&upstream, |_| {})).await.unwrap_err();
    assert!(failure.message.contains("redirect to elsewhere, which"), "{failure}");
    assert_eq!(elsewhere.counters().connections, 0);
}

#[tokio::test]
async fn no_secret_shows_in_any_failure() {
    let secret = "very-secret-header-value";
    let in_body = "an-extra-body-secret";
    let echo = format!("key {KEY} with Bearer {KEY} and {secret}, {KEY}{KEY}, {in_body}");
    let upstream = Upstream::start().await;
    let provider = provider(&upstream, |spec| {
        spec.headers = vec![("x-auth".into(), format!("Token {secret}").as_str().into())];
        spec.body.insert("plugins".to_owned(), json!([{"id": "web", "api_key": in_body}]));
    });
    let error = json!({"error": {"message": echo, "param": echo, "code": KEY}}).to_string();
    let steps = [
        Step::status(401, &error),
        Step::status(400, &echo),
        Step::status(302, "").header("location", &format!("http://a/?k={KEY}")),
        Step::body(&error),
        Step::body(&echo).header("content-type", &format!("text/{KEY}")),
        Step::body(&format!(r#"{{"choices":[{{"message":"{KEY}"}}]}}"#)),
        Step::body(&format!(r#"{{"choices":"{KEY}"}}"#)),
        Step::events(&format!("data: {error}\n\n")),
        Step::events(&format!("data: {echo}\n\n")),
    ];
    for step in steps {
        for is_streamed in [false, true] {
            upstream.push(step.clone());
            let failure = if is_streamed {
                stream(&provider, &prompt()).await.1.unwrap_err()
            } else {
                complete(&provider).await.unwrap_err()
            };
            let shown = format!("{failure} {failure:?}");
            assert!([KEY, secret, in_body].iter().all(|secret| !shown.contains(secret)), "{shown}");
        }
    }
    let shown = format!("{provider:?}");
    assert!([KEY, secret, in_body].iter().all(|secret| !shown.contains(secret)), "{shown}");
}
