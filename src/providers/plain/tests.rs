//! Connections over sockets, and what becomes of them.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::*;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// A server that does the same with every connection, and counts them.
struct Server {
    address: Address,
    connections: Arc<AtomicUsize>,
    /// One for each connection whose client has closed it.
    closed: mpsc::UnboundedReceiver<()>,
    /// Whether it closes its connections itself.
    closes: watch::Sender<bool>,
}

impl Server {
    /// Answers requests in this way, `most` on each connection, which it closes after that.
    async fn start(answer: impl Into<Vec<u8>>, most: usize) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = address(&format!("http://{}/v1", listener.local_addr().unwrap()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (sender, closed) = mpsc::unbounded_channel();
        let closes = watch::Sender::new(false);
        let is_over = closes.subscribe();
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let (answer, sender, mut is_over) = (Arc::clone(&answer), sender.clone(), is_over.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, answer, most, sender) => {}
                        _ = is_over.wait_for(|is_over| *is_over) => {}
                    }
                });
            }
        });
        Self { address, connections, closed, closes }
    }

    async fn has_been_closed(&mut self) {
        timeout(PATIENCE, self.closed.recv()).await.expect("the client closes its connection");
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<[u8]>, most: usize, closed: mpsc::UnboundedSender<()>) {
    for _ in 0..most {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                let _ = closed.send(());
                return;
            }
        }
        stream.write_all(&answer).await.unwrap();
    }
}

fn address(url: &str) -> Address {
    Address::new(&url.parse().unwrap()).unwrap()
}

fn client() -> Client {
    Client::new(Lookup::system(), Duration::from_secs(10))
}

async fn ask(client: &Client, server: &Server) -> Result<Response<Body>, HttpError> {
    let request = Request::new(Payload::default());
    timeout(PATIENCE, client.send(&server.address, request)).await.expect("there is an answer in time")
}

async fn read(answer: Response<Body>) -> Result<Vec<u8>, HttpError> {
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        all.extend_from_slice(frame?.data_ref().unwrap());
    }
    Ok(all)
}

async fn said(client: &Client, server: &Server) -> Vec<u8> {
    read(ask(client, server).await.unwrap()).await.unwrap()
}

fn resting(client: &Client) -> usize {
    client.0.resting.lock().lines.values().map(Vec::len).sum()
}

/// Waits until all connections at rest have ended, as far as this side knows, and has them rest all the same, as if they
/// had ended after the last look at them.
async fn all_have_ended(client: &Client) {
    let mut lines = std::mem::take(&mut client.0.resting.lock().lines);
    timeout(PATIENCE, async {
        while lines.values_mut().flatten().any(|(line, _)| line.is_at_rest()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the server closes its connections");
    client.0.resting.lock().lines = lines;
}

#[tokio::test]
async fn one_connection_serves_one_call_after_the_other_and_two_serve_two_at_once() {
    let (client, server) = (client(), Server::start(HELLO, usize::MAX).await);
    for _ in 0..10 {
        assert_eq!(said(&client, &server).await, b"hello");
    }
    assert_eq!((server.connections.load(Ordering::Relaxed), resting(&client)), (1, 1));
    let both = [ask(&client, &server).await.unwrap(), ask(&client, &server).await.unwrap()];
    assert_eq!((server.connections.load(Ordering::Relaxed), resting(&client)), (2, 0));
    for answer in both {
        assert_eq!(read(answer).await.unwrap(), b"hello");
    }
    assert_eq!(resting(&client), 2);
}

#[tokio::test]
async fn connections_that_the_server_has_closed_are_replaced_unseen() {
    let (client, server) = (client(), Server::start(HELLO, usize::MAX).await);
    let both = [ask(&client, &server).await.unwrap(), ask(&client, &server).await.unwrap()];
    for answer in both {
        read(answer).await.unwrap();
    }
    server.closes.send_replace(true);
    all_have_ended(&client).await;
    assert_eq!(resting(&client), 2);
    server.closes.send_replace(false);
    assert_eq!(said(&client, &server).await, b"hello");
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn whoever_looks_after_connections_at_rest_drops_what_has_ended_and_what_has_rested_for_long() {
    let (client, mut server) = (client(), Server::start(HELLO, usize::MAX).await);
    said(&client, &server).await;
    client.0.resting.lock().clear(Instant::now());
    assert_eq!(resting(&client), 1);
    client.0.resting.lock().clear(Instant::now() + LONGEST_REST);
    assert_eq!(resting(&client), 0);
    server.has_been_closed().await;

    let server = Server::start(HELLO, 1).await;
    said(&client, &server).await;
    timeout(PATIENCE, async {
        while client.0.resting.lock().is_watched {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("there is nothing left to look after");
    assert_eq!(resting(&client), 0);
}

#[tokio::test]
async fn an_answer_that_is_dropped_before_its_end_closes_its_connection() {
    let answer = &b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello"[..];
    let (client, mut server) = (client(), Server::start(answer, usize::MAX).await);
    let mut answer = ask(&client, &server).await.unwrap();
    let first = std::future::poll_fn(|context| Pin::new(answer.body_mut()).poll_frame(context)).await;
    assert_eq!(first.unwrap().unwrap().data_ref().unwrap(), &b"hello"[..]);
    drop(answer);
    server.has_been_closed().await;
    assert_eq!(resting(&client), 0);
}

#[tokio::test]
async fn a_connection_that_its_answer_ends_does_not_rest() {
    let answer = &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"[..];
    let (client, mut server) = (client(), Server::start(answer, usize::MAX).await);
    assert_eq!(said(&client, &server).await, b"hello");
    assert_eq!(resting(&client), 0);
    server.has_been_closed().await;
    let to_the_end = Server::start(&b"HTTP/1.1 200 OK\r\n\r\nhello"[..], 1).await;
    assert_eq!(said(&client, &to_the_end).await, b"hello");
    assert_eq!(resting(&client), 0);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_so_is_none() {
    let client = client();
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let server = Server::start(answer, 1).await;
        let heard = match ask(&client, &server).await {
            Ok(answer) => read(answer).await,
            Err(error) => Err(error),
        };
        assert!(matches!(heard, Err(HttpError::Broken(_))), "{answer}: {heard:?}");
    }
    assert_eq!(resting(&client), 0);
}

#[tokio::test]
async fn what_comes_in_chunks_or_packed_is_read_as_it_was_meant() {
    let client = client();
    let chunked = &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"[..];
    let server = Server::start(chunked, usize::MAX).await;
    assert_eq!(said(&client, &server).await, b"hello");

    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"hello").unwrap();
    let packed = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
    let server = Server::start([head.as_bytes(), &packed].concat(), usize::MAX).await;
    assert_eq!(said(&client, &server).await, b"hello");
    assert_eq!(resting(&client), 2);
    let cut = packed.len() - 4;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {cut}\r\n\r\n");
    let server = Server::start([head.as_bytes(), &packed[..cut]].concat(), usize::MAX).await;
    let heard = read(ask(&client, &server).await.unwrap()).await;
    assert!(matches!(heard, Err(HttpError::Packed(_))), "{heard:?}");
}

#[test]
fn connections_of_a_runtime_that_has_ended_are_replaced_unseen() {
    let client = client();
    let of_its_own = |client: &Client| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::start(HELLO, usize::MAX).await;
            let lines = client.0.resting.lock().lines.drain().flat_map(|(_, lines)| lines).collect::<Vec<_>>();
            // As if this server had the address of the one before.
            client.0.resting.lock().lines.insert(Arc::clone(&server.address.place), lines);
            assert_eq!(said(client, &server).await, b"hello");
        });
    };
    of_its_own(&client);
    of_its_own(&client);
    assert!(!client.0.resting.lock().is_watched, "whoever looked after them has ended, too");
}

#[test]
fn headers_that_stand_there_stay() {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    dress(&mut headers, &address("http://[::1]:8000/v1?a=b"));
    assert_eq!(address("http://user:pw@host:8000/v1").host, "host:8000");
    assert_eq!(address("http://host:80/v1").host, "host");
    let told = |name| headers.get(name).unwrap().to_str().unwrap();
    assert_eq!((told(HOST), told(ACCEPT_ENCODING), told(USER_AGENT)), ("[::1]:8000", "identity", AGENT));
}
