//! HTTP/2 to an upstream: when it is spoken, and that a dropped call resets its stream and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use itsd::failure::FailureKind;
use itsd::providers::Shared;
use itsd::providers::openai::Provider;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::provider::{complete, spec};
use crate::upstream::Upstream;

const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"over two"},
    "finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

/// What the server saw happen.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Connection,
    Request(String),
    Reset(Reason),
}

/// A server that speaks HTTP/2 without TLS. It answers but for its first `held` requests, which it keeps.
pub async fn server(held: usize, events: UnboundedSender<Event>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = events.send(Event::Connection);
            tokio::spawn(serve(socket, held, events.clone()));
        }
    });
    address
}

async fn serve(socket: TcpStream, held: usize, events: UnboundedSender<Event>) {
    let mut connection = h2::server::handshake(socket).await.unwrap();
    let mut count = 0;
    while let Some(Ok((request, response))) = connection.accept().await {
        let _ = events.send(Event::Request(request.uri().path().to_owned()));
        count += 1;
        if count <= held {
            tokio::spawn(keep(response, events.clone()));
        } else {
            answer(response);
        }
    }
}

fn answer(mut response: SendResponse<Bytes>) {
    let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
    let mut body = response.send_response(head, false).unwrap();
    body.send_data(Bytes::from_static(ANSWER.as_bytes()), true).unwrap();
}

/// Answers nothing until the stream is reset.
async fn keep(mut response: SendResponse<Bytes>, events: UnboundedSender<Event>) {
    let reason = std::future::poll_fn(|context| response.poll_reset(context)).await.unwrap();
    let _ = events.send(Event::Reset(reason));
}

fn provider(address: SocketAddr, http2: bool) -> Arc<Provider> {
    let mut spec = spec(&format!("http://{address}/v1"));
    spec.calls.http2 = http2;
    Arc::new(Provider::new(spec, &Shared::default()).unwrap())
}

#[tokio::test]
async fn it_is_spoken_without_tls_where_it_is_asked_for_over_one_connection() {
    let (sender, mut events) = unbounded_channel();
    let provider = provider(server(0, sender).await, true);
    for _ in 0..3 {
        assert_eq!(complete(&provider).await.unwrap().reply.content(), Some("over two"));
    }
    assert_eq!(events.recv().await, Some(Event::Connection));
    for _ in 0..3 {
        assert_eq!(events.recv().await, Some(Event::Request("/v1/chat/completions".to_owned())));
    }
    assert!(events.is_empty());
}

#[tokio::test]
async fn dropping_a_call_resets_its_stream_and_leaves_the_connection_to_others() {
    let (sender, mut events) = unbounded_channel();
    let provider = provider(server(1, sender).await, true);
    let call = tokio::spawn({
        let provider = Arc::clone(&provider);
        async move { complete(&provider).await }
    });
    assert_eq!(events.recv().await, Some(Event::Connection));
    assert!(matches!(events.recv().await, Some(Event::Request(_))));
    call.abort();
    assert_eq!(events.recv().await, Some(Event::Reset(Reason::CANCEL)));
    assert_eq!(complete(&provider).await.unwrap().reply.content(), Some("over two"));
    assert!(matches!(events.recv().await, Some(Event::Request(_))), "no other connection was made");
}

#[tokio::test]
async fn a_server_that_speaks_only_http_1_is_an_upstream_that_is_not_there_under_http2() {
    let upstream = Upstream::start().await;
    let mut spec = spec(&upstream.base_url());
    spec.calls.http2 = true;
    let failure = complete(&Provider::new(spec, &Shared::default()).unwrap()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
    // It closes what it does not understand without a word.
    assert!(failure.message.ends_with("does it speak HTTP/2? If not, set `http2` to false"), "{failure}");
    assert!(complete(&provider(upstream.address(), false)).await.is_ok());
}
