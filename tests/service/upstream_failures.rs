//! The scripted upstream itself, over sockets of this test's own: how its answers fail, come late, and are counted.

use std::io::ErrorKind;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::PATIENCE;
use crate::upstream::{Chaos, Control, Pace, Point, RetryAfter, Step, Upstream};
use crate::upstream_profiles::{ask, ask_raw};

const PATH: &str = "/v1/chat/completions";

fn question(stream: bool) -> Value {
    json!({"model": "scripted", "messages": [{"role": "user", "content": "?"}], "stream": stream})
}

async fn begin(upstream: &Upstream, stream: bool) -> TcpStream {
    let body = question(stream).to_string();
    let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    socket
}

/// What comes until the connection ends, and whether it was reset.
async fn rest(mut socket: TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the connection ends");
    let was_reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    (bytes, was_reset)
}

#[tokio::test]
async fn an_answer_can_be_reset_or_cut_short_at_every_point() {
    for stream in [false, true] {
        for point in [Point::Request, Point::Head, Point::Body] {
            let upstream = Upstream::start().await;
            upstream.push(Step { reset_at: Some(point), ..Step::content("one two three") });
            let (_, was_reset) = rest(begin(&upstream, stream).await).await;
            assert!(was_reset, "{point:?}");
            assert_eq!(upstream.counters().resets, 1);

            upstream.push(Step { close_at: Some(point), ..Step::content("one two three") });
            let (bytes, was_reset) = rest(begin(&upstream, stream).await).await;
            assert!(!was_reset, "{point:?}");
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(text.is_empty(), point == Point::Request, "{text}");
            assert_eq!(text.contains("chatcmpl"), point == Point::Body, "{text}");
            assert!(!text.ends_with("0\r\n\r\n") && !text.contains("total_tokens"), "{text}");
            assert_eq!((upstream.counters().truncated, upstream.counters().told), (1, 0));
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_with_the_time_at_which_that_was_noticed() {
    let upstream = Upstream::start().await;
    for _ in 0..2 {
        upstream.push(Step::hang_at(Point::Request));
    }
    let (first, second) = (begin(&upstream, false).await, begin(&upstream, true).await);
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    drop(second);
    upstream.wait_for(|counters| counters.closed_early == 1).await;
    drop(first);
    let counters = upstream.wait_for(|counters| counters.closed_early == 2).await;
    assert_eq!((counters.hung, counters.in_flight, counters.answered), (2, 0, 0));
    let closed = upstream.closed_early();
    assert!(closed[0].closed_at_us <= closed[1].closed_at_us);
    assert!(closed.iter().all(|closed| closed.received_at_us <= closed.closed_at_us), "{closed:?}");
}

#[tokio::test]
async fn bytes_that_are_no_text_and_headers_that_repeat_go_out_as_they_are() {
    let upstream = Upstream::start().await;
    upstream.push(Step {
        bytes: Some(b"{\"half\": \"\xc3".to_vec()),
        more_headers: vec![("x-a".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())],
        ..Step::default()
    });
    let response = ask_raw(&upstream, PATH, "", &question(false)).await;
    assert!(response.ends_with(b"\xc3"));
    let text = String::from_utf8_lossy(&response);
    assert!(text.contains("\r\nx-a: 1\r\nx-a: 2\r\n"), "{text}");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back() {
    let upstream = Upstream::start().await;
    upstream.push(Step::refused(429).retry_after(RetryAfter::Seconds(2)));
    let answer = ask(&upstream, PATH, "", &question(false)).await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("\r\nretry-after: 2\r\n"), "{}", answer.head);
    assert_eq!(upstream.counters().rate_limited, 1);
}

#[tokio::test]
async fn prompts_are_billed_once_a_call_and_usage_is_told_where_it_was_asked_for() {
    let upstream = Upstream::start().await;
    for (more, told) in [
        (json!({"n": 3}), 1),
        (json!({"n": 3, "stream": true}), 1),
        (json!({"stream": true, "stream_options": {"include_usage": true}}), 2),
    ] {
        let mut body = question(false);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        upstream.push(Step::content("one two"));
        ask(&upstream, PATH, "", &body).await;
        assert_eq!(upstream.counters().told, told, "{more}");
    }
    let counters = upstream.wait_for(|counters| counters.answered == 3).await;
    assert_eq!((counters.requests, counters.choices), (3, 7));
    assert_eq!((counters.prompt_tokens, counters.completion_tokens), (30, 14));
    assert_eq!((counters.told_prompt_tokens, counters.told_completion_tokens), (20, 8));
}

#[tokio::test]
async fn paced_and_delayed_answers_come_whole() {
    let upstream = Upstream::start().await;
    upstream.control(Control {
        pace: Some(Pace { first_token_ms: 2, tokens_per_second: 1000.0, jitter: 0.5, seed: 1 }),
        ..Control::default()
    });
    for stream in [false, true] {
        upstream.push(Step::content("one two three").delayed(1));
        let answer = ask(&upstream, PATH, "", &question(stream)).await;
        assert!(answer.status == 200 && answer.body.contains("three"), "{}", answer.body);
    }
}

#[tokio::test]
async fn the_same_chaos_befalls_the_same_requests_in_the_same_way() {
    let run = async |seed| {
        let upstream = Upstream::start().await;
        let chaos = Chaos { seed, resets: 0.2, rate_limits: 0.2, errors: 0.2, truncated: 0.2, ..Chaos::default() };
        upstream.control(Control { chaos: Some(chaos), ..Control::default() });
        let mut lengths = Vec::new();
        for at in 0..60 {
            // Each body comes twice.
            let mut body = question(false);
            body["seed"] = json!(at % 30);
            let mut socket = TcpStream::connect(upstream.address()).await.unwrap();
            let body = body.to_string();
            let head = format!("POST {PATH} HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).await.unwrap();
            let mut first = [0; 12];
            let read = socket.read_exact(&mut first).await.map_or(0, |_| 12);
            lengths.push(String::from_utf8_lossy(&first[..read]).into_owned());
        }
        let counters = upstream.wait_for(|counters| counters.in_flight == 0).await;
        // A reset may overtake what was sent before it.
        (counters.resets, counters.rate_limited, counters.errors, counters.truncated, lengths.len())
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    assert!([first.0, first.1, first.2, first.3].iter().all(|&count| count > 4), "{first:?}");
}
