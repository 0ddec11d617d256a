//! Upstreams behind TLS: the real program, told by its environment whom to trust, and a door of TLS before the scripted
//! upstream. Where the trusted certificates come from is a matter of the system, here Linux.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;

use crate::app::{Answer, PATIENCE, client, question, receive};
use crate::http2;
use crate::upstream::{Point, Step, Upstream};

/// Signs servers' certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("a test's authority")
    }

    fn named(name: &str) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    /// A server's settings with a certificate for `name`, changed by `change`.
    fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }
}

/// What a door tells of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// Secured, and the protocol agreed on.
    Opened(String),
    Closed,
}

/// Takes TLS off connections and passes them on to the first of `behind` whose protocol was agreed on. Offers the
/// protocols of all.
async fn door(mut settings: ServerConfig, behind: &[(&'static str, SocketAddr)]) -> (String, UnboundedReceiver<Event>) {
    settings.alpn_protocols = behind.iter().map(|(protocol, _)| protocol.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (events, seen) = unbounded_channel();
    let behind = behind.to_vec();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(pass_on(socket, acceptor.clone(), behind.clone(), events.clone()));
        }
    });
    (format!("https://{address}/v1"), seen)
}

async fn pass_on(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    behind: Vec<(&'static str, SocketAddr)>,
    events: UnboundedSender<Event>,
) {
    // A client that does not trust the door leaves here.
    let Ok(mut outside) = acceptor.accept(socket).await else { return };
    let agreed = String::from_utf8(outside.get_ref().1.alpn_protocol().unwrap_or_default().to_vec()).unwrap();
    let (_, address) = behind.iter().find(|(protocol, _)| *protocol == agreed).expect("the client has one of them");
    let _ = events.send(Event::Opened(agreed));
    let mut inside = TcpStream::connect(address).await.unwrap();
    let _ = copy_bidirectional(&mut outside, &mut inside).await;
    let _ = events.send(Event::Closed);
}

/// `itsd serve` with two threads for its clients; killed when it is dropped.
struct Daemon {
    address: SocketAddr,
    process: Child,
    _directory: TempDir,
}

impl Daemon {
    /// Starts one that trusts what `authority` signed, and nothing else.
    async fn trusting(authority: &Authority) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port_file, trusted) = (directory.path().join("port"), directory.path().join("trusted.pem"));
        fs::write(&trusted, authority.0.pem()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_itsd"))
            .args(["serve", "--port", "0", "--port-file"])
            .arg(&port_file)
            .arg("--state-dir")
            .arg(directory.path())
            .env_clear()
            .envs([("ITSD_MODEL", ""), ("ITSD__SERVER__WORKERS", "2")])
            .env("SSL_CERT_FILE", &trusted)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = eventually(|| fs::read_to_string(&port_file).ok()?.trim().parse().ok()).await;
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), process, _directory: directory }
    }

    /// The same with a configuration that leads to `endpoint`.
    async fn configured(authority: &Authority, endpoint: &str, fields: Value) -> Self {
        let daemon = Self::trusting(authority).await;
        let mut document = json!({
            "provider": "openai-compatible", "endpoint": endpoint, "model": "scripted", "max_retries": 0,
            "use_n": "never"
        });
        document.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
        let answer = receive(daemon.request("/configure", &document)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        daemon
    }

    fn request(&self, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let request = client().post(format!("http://{}{path}", self.address));
        request.header("content-type", "application/json").body(body.to_string())
    }

    /// A chat on a connection of its own.
    async fn chat(&self, fields: Value) -> Answer {
        receive(self.request("/v1/chat/completions", &question(fields))).await
    }

    fn terminate(&self) {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
    }

    /// How many threads serve clients. The system keeps 15 characters of a thread's name.
    fn serving_threads(&self) -> usize {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let names = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("actix-rt|system")).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks again and again until there is something to see.
async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("what is waited for comes")
}

#[tokio::test]
async fn calls_votes_and_streams_go_through() {
    let (authority, upstream) = (Authority::new(), Upstream::start().await);
    upstream.answer_with(|_| Step::content("\\boxed{42}"));
    let behind = [("http/1.1", upstream.address())];
    let (endpoint, mut events) = door(authority.server("127.0.0.1", |_| ()), &behind).await;
    let daemon = Daemon::configured(&authority, &endpoint, json!({})).await;

    assert_eq!(daemon.chat(json!({"budget": 1})).await.content(), "\\boxed{42}");
    assert_eq!(events.recv().await, Some(Event::Opened("http/1.1".to_owned())));
    let vote = daemon.chat(json!({"budget": 8, "stop_rule": "none"})).await;
    assert_eq!((vote.content(), vote.header("x-its-candidates")), ("\\boxed{42}".to_owned(), Some("8")));
    let stream = daemon.chat(json!({"budget": 1, "stream": true})).await;
    let text: String =
        stream.events().iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "\\boxed{42}");
    let counters = upstream.counters();
    assert_eq!((counters.requests, counters.closed_early), (10, 0));
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_secured_connections() {
    let (authority, upstream) = (Authority::new(), Upstream::start().await);
    for _ in 0..4 {
        upstream.push(Step::hang_at(Point::Request));
    }
    upstream.push(Step { stream_gate: Some("never".to_owned()), ..Step::content("one two three") });
    let behind = [("http/1.1", upstream.address())];
    let (endpoint, mut events) = door(authority.server("127.0.0.1", |_| ()), &behind).await;
    let daemon = Daemon::configured(&authority, &endpoint, json!({})).await;

    let vote = tokio::spawn(receive(daemon.request("/v1/chat/completions", &question(json!({"budget": 4})))));
    upstream.wait_for(|counters| counters.in_flight == 4).await;
    vote.abort();
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.closed_early, 4);
    for expected in [Event::Opened("http/1.1".to_owned()), Event::Closed] {
        for _ in 0..4 {
            assert_eq!(events.recv().await.as_ref(), Some(&expected));
        }
    }

    let request = daemon.request("/v1/chat/completions", &question(json!({"budget": 1, "stream": true})));
    let mut body = request.send().await.unwrap().bytes_stream();
    let mut text = String::new();
    while !text.contains("one ") {
        text += std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap();
    }
    drop(body);
    assert_eq!(upstream.wait_for(|counters| counters.in_flight == 0).await.closed_early, 5);
    assert_eq!(events.recv().await, Some(Event::Opened("http/1.1".to_owned())));
    assert_eq!(events.recv().await, Some(Event::Closed));
}

#[tokio::test]
async fn http2_is_spoken_where_both_sides_want_it() {
    let (authority, upstream) = (Authority::new(), Upstream::start().await);
    let (sender, mut events) = unbounded_channel();
    let over_two = http2::server(0, sender).await;
    let both = [("h2", over_two), ("http/1.1", upstream.address())];
    for (wanted, offered, spoken) in
        [(true, &both[..], "h2"), (false, &both[..], "http/1.1"), (true, &both[1..], "http/1.1")]
    {
        let (endpoint, mut doors) = door(authority.server("127.0.0.1", |_| ()), offered).await;
        let daemon = Daemon::configured(&authority, &endpoint, json!({"http2": wanted})).await;
        let vote = daemon.chat(json!({"budget": 3, "stop_rule": "none"})).await;
        assert_eq!(vote.header("x-its-candidates"), Some("3"), "{}", vote.text);
        assert_eq!(doors.recv().await, Some(Event::Opened(spoken.to_owned())));
        assert_eq!(vote.content() == "over two", spoken == "h2");
    }
    let mut requests = 0;
    while let Ok(event) = events.try_recv() {
        requests += usize::from(matches!(event, http2::Event::Request(_)));
    }
    assert_eq!(requests, 3);
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_an_error_that_says_what_to_do() {
    let (authority, namesake, stranger) = (Authority::new(), Authority::new(), Authority::named("a stranger"));
    let upstream = Upstream::start().await;
    let daemon = Daemon::trusting(&authority).await;
    let cases: [(ServerConfig, &str); 5] = [
        (namesake.server("127.0.0.1", |_| ()), "SSL_CERT_FILE"),
        (stranger.server("127.0.0.1", |_| ()), "SSL_CERT_FILE"),
        (authority.server("upstream.example", |_| ()), "another name"),
        (authority.server("127.0.0.1", |its| its.not_after = rcgen::date_time_ymd(2020, 1, 1)), "has expired"),
        (
            authority.server("127.0.0.1", |its| its.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "basicConstraints=CA:FALSE",
        ),
    ];
    for (settings, expected) in cases {
        let (endpoint, _events) = door(settings, &[("http/1.1", upstream.address())]).await;
        let document = json!({
            "provider": "openai-compatible", "endpoint": endpoint, "model": "scripted", "max_retries": 0
        });
        let answer = receive(daemon.request("/configure", &document)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let answer = daemon.chat(json!({"budget": 1})).await;
        let message = answer.error(502)["message"].as_str().unwrap().to_owned();
        let origin = endpoint.trim_end_matches("/v1");
        assert!(message.contains(&format!("could not connect to {origin}: ")), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(upstream.counters().requests, 0);
}

#[tokio::test]
async fn a_vote_goes_on_when_the_thread_that_called_before_has_ended() {
    let (authority, upstream) = (Authority::new(), Upstream::start().await);
    upstream.answer_with(|_| Step::content("\\boxed{42}").gated("answer"));
    let behind = [("http/1.1", upstream.address())];
    let (endpoint, _events) = door(authority.server("127.0.0.1", |_| ()), &behind).await;
    let daemon = Daemon::configured(&authority, &endpoint, json!({})).await;
    assert_eq!(daemon.serving_threads(), 2);

    // Both threads of the daemon call the upstream at once, and keep a connection to it.
    for _ in 0..2 {
        upstream.push(Step::content("\\boxed{41}").gated("before"));
    }
    let one_call = || tokio::spawn(receive(daemon.request("/v1/chat/completions", &question(json!({"budget": 1})))));
    let before = [one_call(), one_call()];
    upstream.wait_for(|counters| counters.in_flight == 2).await;
    upstream.open_gate("before");
    for call in before {
        assert_eq!(call.await.unwrap().content(), "\\boxed{41}");
    }
    let vote = receive(daemon.request("/v1/chat/completions", &question(json!({"budget": 8, "stop_rule": "none"}))));
    let vote = tokio::spawn(vote);
    upstream.wait_for(|counters| counters.in_flight == 8).await;
    daemon.terminate();
    // The one that has no client ends at once, the other serves whoever asked for the vote.
    eventually(|| (daemon.serving_threads() == 1).then_some(())).await;
    upstream.open_gate("answer");
    let vote = vote.await.unwrap();
    assert_eq!((vote.content(), vote.header("x-its-candidates")), ("\\boxed{42}".to_owned(), Some("8")));
    assert_eq!(upstream.counters().closed_early, 0);
}
